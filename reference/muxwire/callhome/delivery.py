"""One request at the worker: its handler, and the way of its response home.

Rules of this file: the handler runs from admission on, whether or not there is a connection yet
(P0-001).  Attempts at delivery follow one another until the stream is gone; whoever waits for a
connection waits in the pool.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from muxwire.callhome.dialled import Dialled
from muxwire.callhome.fields import Fields
from muxwire.callhome.pool import Pool
from muxwire.core.callhome import WorkerStream
from muxwire.core.events import Event, HandlerCancelled, StopReceived, Writable
from muxwire.errors import CannotConnect, PoolError
from muxwire.handlers import Handler, Request, decode_headers, encode_text
from muxwire.tcp.alarm import Alarm
from muxwire.tcp.responder import ResponseResponder
from muxwire.tcp.runner import Running

logger = logging.getLogger("muxwire.worker")


class Delivery:
    """A request whose handler was admitted.

    Args:
        stream: Its response.
        fields: What its POST said.
        subject: What it asks for.
        body: The request message.
        handler: What runs.
        pool: Where connections come from.
        on_over: Called once, when handler and response are over.
    """

    def __init__(
        self,
        stream: WorkerStream,
        fields: Fields,
        subject: str,
        body: bytes,
        handler: Handler,
        pool: Pool[Dialled],
        on_over: Callable[[Delivery], None],
    ) -> None:
        self.stream = stream
        self.subject = encode_text(subject)
        self.target = fields.target
        self._loop = asyncio.get_running_loop()
        self._pool = pool
        self._on_over = on_over
        self._carrier: Dialled | None = None
        self._alarm = Alarm(self._due)
        self._delivered = False
        self._retiring = False
        responder = ResponseResponder(stream, self.touch, self._retire_carrier)
        self._request = Request(
            subject=subject,
            headers=decode_headers(fields.headers),
            timeout_ms=fields.timeout_ms,
            request_flags=0,
            request_id=fields.stream,
            responder=responder,
        )
        self._request.feed_message(body, 0)
        self._request.feed_end()
        self.running = Running(handler, self._request, responder)

    async def deliver(self) -> None:
        """Bring the response to the router, or give it up."""
        try:
            self.touch()
            await self._attempts()
        finally:
            self.stream.lost()
            self.touch()
            self._delivered = True
            self._leave()

    async def _attempts(self) -> None:
        stream = self.stream
        again = False
        while not stream.gone:
            try:
                lease = await self._pool.acquire(
                    self.target, fresh=again, timeout=stream.patience(self._loop.time())
                )
            except CannotConnect as error:
                logger.info("no connection to %s: %s", self.target, error.reason)
                stream.attempt(self._loop.time())
            except PoolError as error:
                logger.info("a response for %s was given up: %s", self.target, error)
                stream.unplaced()
                return
            else:
                if not lease.connection.usable:  # it ended on the way here (P0-010)
                    lease.discard()
                    continue
                stream.attempt(self._loop.time())
                with lease as carrier:
                    await self._be_carried(carrier)
            if not stream.gone:
                again = stream.failed(self._loop.time())
                if not again:
                    return

    async def _be_carried(self, carrier: Dialled) -> None:
        """Let a connection carry the stream until it is idle again, or over."""
        self._carrier = carrier
        try:
            await carrier.carry(self)
        finally:
            self._carrier = None
        if self._retiring:
            carrier.retire()
        self.touch()

    def handler_ended(self) -> None:
        """Take that the handler has ended."""
        self._leave()

    def _leave(self) -> None:
        if self._delivered and self.stream.over:
            self._on_over(self)

    def shut_down(self) -> None:
        """Take that the grace of a drain is over (CLS-006)."""
        self.stream.shut_down()
        self.touch()

    def _retire_carrier(self) -> None:
        self._retiring = True

    # -- what happens

    def touch(self) -> None:
        """See to it that what the stream has to say is carried out."""
        for event in self.stream.events():
            self.on_event(event)
        if self._carrier is not None:
            self._carrier.pump.push()
        self._alarm.set(self.stream.next_timeout())

    def on_event(self, event: Event) -> None:
        """Take an event of the stream."""
        match event:
            case StopReceived():
                self._request.feed_stop()
            case HandlerCancelled():
                self.running.cancel()
            case Writable():
                self._request.feed_writable()
        self._alarm.set(self.stream.next_timeout())

    def _due(self) -> None:
        self.stream.handle_timeout(self._loop.time())
        self.touch()
