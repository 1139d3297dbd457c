"""One admitted request of the model worker on the path http: its handler and its response.

The rules of this file: the head goes out before any item (P1-003), every item by itself (P1-004),
heartbeats between them (P1-014), one terminal event at the end (P1-010). The loss of the client
cancels the handler (P1-013).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Protocol

import model_wire as w
from model_http_format import ENCODERS
from model_subjects import SUBJECTS

if TYPE_CHECKING:
    from model_http import HttpServer
    from model_http_request import Request

GATHER = 0.05
STALL = 60.0


class Channel(Protocol):
    """Where a response goes; each version of HTTP has one."""

    lost: bool

    def start(self, status: int, fields: list[tuple[str, str]]) -> None:
        """Send status and fields."""

    def write(self, data: bytes) -> None:
        """Send octets of the body."""

    async def room(self, limit: int) -> None:
        """Wait until at most so many octets wait to be read by the client."""

    def finish(self) -> None:
        """End the body cleanly."""

    def abort(self) -> None:
        """End the body so that everybody sees that it is not whole."""

    def close_after(self) -> None:
        """Close the connection behind this response."""


class Call:
    """What the handler of a `conformance.*` subject sees, see `model_subjects`."""

    def __init__(self, http: HttpServer, request: Request, channel: Channel) -> None:
        self.http = http
        self.server = http.core
        self.flaw = http.flaw
        self.channel = channel
        self.request = request
        self.subject = request.subject
        self.headers = request.headers
        self.timeout_ms = request.timeout_ms
        self.request_flags = 0
        self.response_headers: list[tuple[str, str]] = []
        self.trailers: list[tuple[str, str]] = []
        self.stop = asyncio.Event()
        self.drain_after: int | None = None
        self.counted = self.subject != "conformance.stats"
        self.encoder = ENCODERS[request.format](self.flaw, request.rid)
        self.task: asyncio.Task[None] | None = None
        self._left: bytes | None = request.body
        self._message = bytearray()
        self._started = False
        self._sent_at = 0.0
        self._held = b""
        self._gathered = bytearray()
        self._inside = False
        self._cancelled = False
        if self.subject == "conformance.echo":
            self.response_headers = [("content-type", request.content_type)]

    # What a handler uses ----------------------------------------------------------------------

    async def recv(self) -> bytes | None:
        """Return the one message, then None."""
        message, self._left = self._left, None
        return message

    async def send(self, data: bytes, *, more: bool = False) -> None:
        """Send an item, or a part of one."""
        self._message += data
        if more:
            return
        item, self._message = bytes(self._message), bytearray()
        declared = dict(self.response_headers).get("content-type", "")
        self.encoder.headers = [] if self._started_items() else list(self.response_headers)
        pieces = self.encoder.item(item, declared == "application/json")
        if len(pieces) > 1 and self.flaw("http-heartbeat-inside"):
            pieces.insert(1, self.encoder.heartbeat())
        await self._out(b"".join(pieces))

    def _started_items(self) -> bool:
        return self.encoder.items > 0

    # What goes out ----------------------------------------------------------------------------

    async def _out(self, octets: bytes) -> None:
        self._start()
        if self.flaw("http-last-item-late"):
            octets, self._held = self._held, octets
        if self.flaw("http-gathers-items"):
            if not self._gathered:
                asyncio.get_running_loop().call_later(GATHER, self._flush)
            self._gathered += octets
            return
        self._write(octets)
        limit = 262_144
        if self.flaw("http-buffers-all"):
            return
        if self.flaw("http-buffers-4-mib"):
            limit = 4_194_304
        async with asyncio.timeout(STALL):
            await self.channel.room(limit)

    def _write(self, octets: bytes) -> None:
        self._sent_at = asyncio.get_running_loop().time()
        self.channel.write(octets)

    def _flush(self) -> None:
        octets, self._gathered = bytes(self._gathered) + self._held, bytearray()
        self._held = b""
        if octets:
            self._write(octets)

    def _start(self) -> None:
        if self._started:
            return
        self._started = True
        self.channel.start(200, self.http.fields(self.request))
        self._sent_at = asyncio.get_running_loop().time()
        if start := self.encoder.start():
            self._write(start)

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        every = self.request.heartbeat_ms / 1_000
        count = 0
        while True:
            wait = self._sent_at + every - loop.time()
            if every < 1.0 and self.flaw("http-slow-heartbeat"):
                wait = self._sent_at + 3 * every - loop.time()
            if wait > 0:
                await asyncio.sleep(wait)
                continue
            if self.flaw("http-no-heartbeat") or (count and self.flaw("http-one-heartbeat")):
                return
            count += 1
            if not self._message and self._started:
                self._write(self.encoder.heartbeat())
            self._sent_at = loop.time()

    # Its life ---------------------------------------------------------------------------------

    def run(self) -> None:
        """Start the handler."""
        self.server.handler_started(self)
        self.task = asyncio.get_running_loop().create_task(self._run())

    def cancel(self) -> None:
        """Tell the handler to end: its client is gone (P1-013)."""
        self.channel.lost = True
        if self.task is not None and not self.task.done() and not self._cancelled:
            self._cancelled = True
            self.server.cancelled += self.counted
            self.task.cancel()

    async def _run(self) -> None:
        beat = asyncio.get_running_loop().create_task(self._beat())
        try:
            if not (self.flaw("http-head-with-item") or self.flaw("http-failure-is-status")):
                self._start()
            failure = await self._handle()
        finally:
            beat.cancel()
            self.server.handler_ended(self)
            self.http.calls.discard(self)
        if not self.channel.lost:
            self._end(failure)

    async def _handle(self) -> w.CallError | None:
        handler = asyncio.ensure_future(SUBJECTS[self.subject](self))  # type: ignore[arg-type]
        seconds = self.timeout_ms / 1_000 or None
        if seconds is not None and self.flaw("http-no-deadline"):
            seconds = None
        try:
            done, _ = await asyncio.wait((handler,), timeout=seconds)
            if not done:
                return await self._late(handler)
            await handler
        except w.CallError as error:
            return error
        except asyncio.CancelledError:
            handler.cancel()
            await asyncio.wait((handler,))
            raise
        except TimeoutError:
            self.channel.abort()
            self.channel.lost = True
        except Exception as error:
            text = repr(error) if self.flaw("http-panic-tells") else "the handler failed"
            return w.CallError(w.APPLICATION_ERROR, text)
        return None

    async def _late(self, handler: asyncio.Future[None]) -> w.CallError:
        if self.flaw("http-deadline-lets-run"):
            self._end(w.CallError(w.DEADLINE_EXCEEDED, "the deadline has passed"))
            self.channel.lost = True
            await handler
        handler.cancel()
        self.server.cancelled += self.counted
        with contextlib.suppress(asyncio.CancelledError):
            await handler
        code = w.DEADLINE_EXCEEDED
        if self.flaw("http-deadline-is-cancelled"):
            code = w.CANCELLED
        return w.CallError(code, "the deadline has passed")

    def _end(self, failure: w.CallError | None) -> None:
        if (
            failure is not None
            and not self._started_items()
            and self.flaw("http-failure-is-status")
        ):
            self.channel.start(500, [("content-length", "0")])
            self.channel.finish()
            return
        self._start()
        self._flush()
        if self.drain_after is not None or self.flaw("http-closes"):
            self.channel.close_after()
        if failure is None or self.flaw("http-failure-has-done"):
            self._write(self.encoder.done(self.trailers))
            if self.flaw("http-two-terminals"):
                self._write(self.encoder.done(self.trailers))
        elif failure.code == w.DEADLINE_EXCEEDED and self.flaw("http-deadline-cuts"):
            self.channel.abort()
            return
        elif not self.flaw("http-failure-without-terminal"):
            self._write(self.encoder.error(failure))
        if not self.flaw("http-never-ends"):
            self.channel.finish()
