"""The answer 200, written as an ASGI response.

Rules of this file: each piece of the body is handed on within the write stall (P1-017), and the end
of the client ends the answer, also while nothing is written (P1-013).  An answer that is left early
has no last chunk (P1-012).
"""

from __future__ import annotations

import asyncio

from sse_starlette.sse import EventSourceResponse, SendTimeoutError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from muxwire._generated import http
from muxwire.http.exchange import Exchange
from muxwire.http.negotiation import SSE, Choice

STALLED = (SendTimeoutError, TimeoutError)
"""What an answer raises when the client takes nothing."""


def answer(exchange: Exchange, choice: Choice, write_stall: float, *, close: bool) -> Response:
    """Return the answer to an admitted request.

    Args:
        exchange: Where the body comes from.
        choice: The format.
        write_stall: Seconds that a piece of the body may take.
        close: The connection is not to be used again.
    """
    response: Response
    if choice.format == SSE:
        # Heartbeats are ours: they have to be exact, and none is needed while items flow (P1-014).
        response = _Events(exchange.octets(), ping=0, send_timeout=write_stall)
        del response.headers["connection"]
    else:
        response = _Streamed(exchange, choice.media_type, write_stall)
    response.status_code = http.OK.status
    response.headers.update({"cache-control": "no-store", "x-accel-buffering": "no"})
    response.headers["vary"] = "accept"
    if close:
        response.headers["connection"] = "close"
    return response


class _Events(EventSourceResponse):
    """A body of events.  A drain lets it end; the library would cut it off."""

    async def _listen_for_exit_signal_with_grace(self) -> None:
        await asyncio.Event().wait()


class _Streamed(Response):
    """A body of lines or frames, with one task beside it."""

    def __init__(self, exchange: Exchange, media_type: str, write_stall: float) -> None:
        self.status_code = http.OK.status
        self.background = None
        self.init_headers({"content-type": media_type})
        self._exchange = exchange
        self._write_stall = write_stall

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Write the body as it is made."""
        watching = asyncio.get_running_loop().create_task(self._watch(receive))
        try:
            head = {"status": self.status_code, "headers": self.raw_headers}
            await send({"type": "http.response.start", **head})
            # granian keeps the fields of all but event streams until it has a piece (P1-003).
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            async for octets in self._exchange.octets():
                async with asyncio.timeout(self._write_stall):
                    await send({"type": "http.response.body", "body": octets, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watching.cancel()

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._exchange.abort()
