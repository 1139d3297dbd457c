"""One request at the worker: its handler, and the body of its answer.

Rules of this file: the handler runs from admission on.  The body is taken by whoever writes it,
a piece at a time, and the handler waits when it is not taken (P1-017).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from muxwire.core.events import HandlerCancelled
from muxwire.handlers import Handler, Request, decode_headers, encode_text
from muxwire.http.fields import Fields
from muxwire.http.response import Response
from muxwire.tcp.alarm import Alarm
from muxwire.tcp.responder import ResponseResponder
from muxwire.tcp.runner import Running


class Exchange:
    """A request whose handler was admitted.

    Args:
        response: What is answered.
        fields: What its POST said.
        request_id: The 16 octets that name it.
        subject: What it asks for.
        body: The request message.
        handler: What runs.
        on_over: Called once, when handler and answer are over.

    Attributes:
        response: What is answered.
        subject: What it asks for.
        aborted: The answer was ended for a client that does not take it.
        running: The handler.
    """

    def __init__(
        self,
        response: Response,
        fields: Fields,
        request_id: bytes,
        subject: str,
        body: bytes,
        handler: Handler,
        on_over: Callable[[Exchange], None],
    ) -> None:
        self.response = response
        self.subject = encode_text(subject)
        self.aborted = False
        self._loop = asyncio.get_running_loop()
        self._on_over = on_over
        self._task = asyncio.current_task()
        self._alarm = Alarm(self._due)
        self._more: asyncio.Future[None] | None = None
        self._left = False
        responder = ResponseResponder(response, self._touch, _keep)
        self._request = Request(
            subject=subject,
            headers=decode_headers(fields.headers),
            timeout_ms=fields.timeout_ms,
            request_flags=0,
            request_id=request_id,
            responder=responder,
        )
        self._request.feed_message(body, 0)
        self._request.feed_end()
        self.running = Running(handler, self._request, responder)

    # -- the answer

    async def octets(self) -> AsyncIterator[bytes]:
        """Give the body, in pieces that are to be written before the next is asked for."""
        response = self.response
        self._touch()
        while True:
            octets = response.take()
            if octets:
                yield octets
                response.written(self._loop.time())
                self._touch()
            elif response.ended:
                return
            else:
                self._more = self._loop.create_future()
                try:
                    await self._more
                finally:
                    self._more = None

    def leave(self) -> None:
        """Take that nothing more is written, whether or not all was (P1-013)."""
        self.response.lost()
        self._touch()
        self._left = True
        self._over()

    def shut_down(self) -> None:
        """Take that the grace of a drain is over (CLS-006)."""
        self.response.shut_down()
        self._touch()

    def abort(self) -> None:
        """End an answer that the client does not take."""
        if self._task is not None and not self._left:
            self.aborted = True
            self._task.cancel()

    def handler_ended(self) -> None:
        """Take that the handler has ended."""
        self._over()

    def _over(self) -> None:
        if self._left and not self.response.running:
            self._on_over(self)

    # -- what happens

    def _touch(self) -> None:
        """See to it that what the response has to say is carried out."""
        response = self.response
        for event in response.events():
            if isinstance(event, HandlerCancelled):
                self.running.cancel()
            else:
                self._request.feed_writable()
        more = self._more
        if more is not None and not more.done() and (response.buffered or response.ended):
            more.set_result(None)
        self._alarm.set(response.next_timeout())

    def _due(self) -> None:
        self.response.handle_timeout(self._loop.time())
        self._touch()


def _keep() -> None:
    """Do nothing: the connection of a draining subject is closed behind its answer."""
