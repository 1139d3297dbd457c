"""Handlers: what a worker runs for a request, whatever transport brought it.

Rules of this file: a handler is an async function (one answer, or none) or an async generator
(a stream).  It sees a `Request` and nothing of the connection.  `run` gives every request exactly
one end, however its handler ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Protocol, TypeAlias

from muxwire._generated.registries import IDEMPOTENT, ErrorCode
from muxwire.errors import HandlerError, InvalidArgument, LocalProtocolError, RequestClosed

logger = logging.getLogger("muxwire.worker")

Handler: TypeAlias = Callable[["Request"], Awaitable[bytes | None] | AsyncGenerator[bytes, None]]
"""An async function that returns the one answer (None: no message), or an async generator."""

Headers: TypeAlias = Sequence[tuple[str, str]]


class Responder(Protocol):
    """What a transport does for one request; `run` and `Request` call it."""

    def send_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the response headers, before any message."""

    def send_message(self, data: bytes) -> bool:
        """Queue a message; False means no room: try again after `Request.feed_writable`.

        Raises:
            TypeError: it is not `bytes`.
            asyncio.CancelledError: the handler has been cancelled, and goes on all the same.
        """

    def finish(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """End the request with success."""

    def fail(
        self,
        code: int,
        message: str,
        *,
        detail: bytes = b"",
        retry_after_ms: int = 0,
        non_retryable: bool = False,
    ) -> None:
        """End the request with an error, behind the data sent so far."""

    def consumed(self, cost: int) -> None:
        """Give back the credit of what the handler has taken."""

    def awaiting(self) -> None:
        """Learn that the handler waits for a message (FLW-007)."""

    def drain_connection(self, grace_ms: int) -> None:
        """Drain the connection once this request's terminal is out."""


class Request:
    """One request, as its handler sees it.

    Read messages with `read` or `async for`; answer by returning or yielding octets.

    Attributes:
        subject: The name that selected the handler.
        headers: Pairs of key and value, in the order sent.
        timeout_ms: Time that the client gave the request; 0: no limit.
        request_flags: Flags of the request, unknown ones included.
        request_id: The 16 octets that name the request on its connection.
        trailers: Pairs that a handler may set; they go with the success terminal.
    """

    __slots__ = (
        "_ended",
        "_headers_sent",
        "_messages",
        "_readable",
        "_responder",
        "_stopped",
        "_writable",
        "headers",
        "request_flags",
        "request_id",
        "subject",
        "timeout_ms",
        "trailers",
    )

    def __init__(
        self,
        *,
        subject: str,
        headers: Headers,
        timeout_ms: int,
        request_flags: int,
        request_id: bytes,
        responder: Responder,
    ) -> None:
        self.subject = subject
        self.headers = headers
        self.timeout_ms = timeout_ms
        self.request_flags = request_flags
        self.request_id = request_id
        self.trailers: Headers = ()
        self._responder = responder
        self._messages: deque[tuple[bytes, int]] | None = None  # a deque is large
        self._ended = False
        self._headers_sent = False
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._stopped: asyncio.Event | None = None

    @property
    def idempotent(self) -> bool:
        """Whether the client says that running the request twice does no harm."""
        return bool(self.request_flags & IDEMPOTENT)

    async def read(self) -> bytes | None:
        """Return the next request message, or None when the client has ended its direction.

        Raises:
            LocalProtocolError: another task waits for it already.
        """
        while not self._messages:
            if self._ended:
                return None
            if self._readable is not None:
                raise LocalProtocolError("two tasks read one request")
            self._readable = asyncio.get_running_loop().create_future()
            self._responder.awaiting()
            try:
                await self._readable
            finally:
                self._readable = None
        data, cost = self._messages.popleft()
        if not self._messages:
            self._messages = None
        self._responder.consumed(cost)
        return data

    def __aiter__(self) -> Request:
        return self

    async def __anext__(self) -> bytes:
        data = await self.read()
        if data is None:
            raise StopAsyncIteration
        return data

    def send_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        """Send the response headers now, ahead of the first message.

        Raises:
            RequestClosed: the response has already begun.
            InvalidArgument: a key or a value is outside what PAY-005 allows.
        """
        if self._headers_sent:
            raise RequestClosed("the response has already begun")
        self._responder.send_headers(encode_headers(headers))
        self._headers_sent = True

    @property
    def stopped(self) -> bool:
        """Whether the client has asked for an early, good end (CAN-005)."""
        return self._stopped is not None and self._stopped.is_set()

    async def wait_stopped(self) -> None:
        """Return when the client asks for an early, good end."""
        if self._stopped is None:
            self._stopped = asyncio.Event()
        await self._stopped.wait()

    def drain_connection(self, grace_ms: int) -> None:
        """Drain the connection that brought this request, once its terminal is out (CLS-003).

        The other requests of the connection may go on for `grace_ms`; new ones are refused.
        """
        self._responder.drain_connection(grace_ms)

    # What the transport tells.

    def feed_message(self, data: bytes, cost: int) -> None:
        """Take a message that has arrived; `cost` is owed to the sender until it is read."""
        if self._messages is None:
            self._messages = deque()
        self._messages.append((data, cost))
        _wake(self._readable)

    def feed_end(self) -> None:
        """Take the end of the request direction."""
        self._ended = True
        _wake(self._readable)

    def feed_stop(self) -> None:
        """Take a STOP."""
        if self._stopped is None:
            self._stopped = asyncio.Event()
        self._stopped.set()

    def feed_writable(self) -> None:
        """Take that the transport accepts messages again."""
        _wake(self._writable)

    async def wait_writable(self) -> None:
        """Return when the transport accepts messages again (FLW-010)."""
        self._writable = asyncio.get_running_loop().create_future()
        try:
            await self._writable
        finally:
            self._writable = None


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def encode_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Turn headers of text into headers of octets.

    Raises:
        InvalidArgument: a key or a value cannot be written in UTF-8 (PAY-005).
    """
    return [(encode_text(key), encode_text(value)) for key, value in headers]


def encode_text(text: str) -> bytes:
    """Turn a subject, a key or a value into octets.

    Raises:
        InvalidArgument: it cannot be written in UTF-8.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidArgument(f"{text!r} cannot be written in UTF-8") from None


def check_message(data: object) -> None:
    """Refuse what is not octets, before it reaches the connection that many requests share.

    Raises:
        TypeError: it is not `bytes`.
    """
    if not isinstance(data, bytes):
        raise TypeError(f"a message is bytes, not {type(data).__name__}")


def decode_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Turn headers of octets into headers of text; the decoder has proven them UTF-8 (PAY-005).

    All are passed on as they came, in their order (PAY-006).  That holds for trace context as well,
    valid or not: whoever makes spans is the handler (OBS-001, OBS-002).
    """
    return [(key.decode(), value.decode()) for key, value in headers]


async def run(handler: Handler, request: Request, responder: Responder) -> None:
    """Run a handler to its end and give its request exactly one terminal (TYP-006).

    Cancelling this coroutine cancels the handler; the terminal then says CANCELLED unless the
    transport has already said something else.
    """
    try:
        answer = handler(request)
        if isinstance(answer, AsyncGenerator):
            async with aclosing(answer) as messages:
                async for message in messages:
                    while not responder.send_message(message):
                        await request.wait_writable()
        else:
            reply = await answer
            while reply is not None and not responder.send_message(reply):
                await request.wait_writable()
        responder.finish(encode_headers(request.trailers))
    except asyncio.CancelledError:
        responder.fail(ErrorCode.CANCELLED, "")
    except HandlerError as error:
        responder.fail(
            error.code,
            error.message,
            detail=error.detail,
            retry_after_ms=error.retry_after_ms,
            non_retryable=error.non_retryable,
        )
    except Exception:
        # OBS-006: what went wrong inside stays inside.
        logger.exception("the handler of %s failed", request.subject)
        responder.fail(ErrorCode.APPLICATION_ERROR, "the handler failed")
