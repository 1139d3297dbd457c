"""What a caller holds of a request: a stream, or the pending answer of a call.

Rules of this file: it knows nothing of connections.  An `Exchange` carries out what the caller
wants; the sinks take what arrives.  A caller that gives up, or lets its stream go, kills the
request, so that no worker goes on for nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import Protocol

from muxwire._generated.registries import ErrorCode
from muxwire.core.recovery import Failure
from muxwire.errors import LocalProtocolError, MuxwireError
from muxwire.handlers import decode_headers


class Sink(Protocol):
    """Where the events of one attempt go; exactly one of `on_end` and `on_failed`, as the last."""

    def on_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Take the response headers."""

    def on_message(self, data: bytes, cost: int) -> None:
        """Take a response message; `cost` is owed to the worker until it is consumed."""

    def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """Take the success of the request."""

    def on_failed(self, error: MuxwireError) -> None:
        """Take the failure of the request."""

    def on_writable(self) -> None:
        """Take that there is room for request messages again."""


class RequestSink(Sink, Protocol):
    """Where the events of one request go, over all its attempts."""

    def on_retry(self, ended: Failure, attempt: int, delay: float) -> None:
        """Take that an attempt has ended, and that another one follows after so many seconds."""


class Exchange(Protocol):
    """One request on its way, as its caller commands it."""

    @property
    def request_id(self) -> bytes:
        """The 16 octets that name the current attempt; empty while there is none."""

    @property
    def sent(self) -> int:
        """Messages of the current attempt that were handed to the transport whole."""

    def send(self, data: bytes, *, end: bool) -> bool:
        """Queue a message; False if it has to wait for room (FLW-010)."""

    def end(self) -> None:
        """End the request direction."""

    def stop(self, reason: int) -> None:
        """Ask the worker to finish early and well."""

    def kill(self, reason: int) -> None:
        """Abandon the request."""

    def consumed(self, cost: int) -> None:
        """Give credit back for a message that the caller has taken."""

    def awaiting(self, waiting: bool = True) -> None:
        """Learn whether the caller waits for a message (FLW-007)."""

    def abandon(self, inbox: Inbox) -> None:
        """Let the request go, from whatever thread the collector runs in."""


class Answer:
    """Waits for the one message of a unary answer."""

    __slots__ = ("_data", "_messages", "exchange", "future")

    exchange: Exchange

    def __init__(self) -> None:
        self._data = b""
        self._messages = 0
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Ignore them."""

    def on_message(self, data: bytes, cost: int) -> None:
        """Keep the message; a second one is more than a call can return."""
        self._data = data
        self._messages += 1
        self.exchange.consumed(cost)
        if self._messages > 1:
            self._settle(LocalProtocolError("the answer has several messages: use stream"))
            self.exchange.kill(ErrorCode.CANCELLED)

    def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """Return the message."""
        del trailers
        self._settle(None)

    def on_failed(self, error: MuxwireError) -> None:
        """Raise the error."""
        self._settle(error)

    def on_writable(self) -> None:
        """Ignore it."""

    def on_retry(self, ended: Failure, attempt: int, delay: float) -> None:
        """Ignore it."""

    def _settle(self, error: Exception | None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self._data)


class Inbox:
    """What has arrived for a stream and was not taken yet."""

    __slots__ = ("error", "finished", "headers", "messages", "readable", "trailers", "writable")

    def __init__(self) -> None:
        self.messages: deque[tuple[bytes, int]] = deque()
        self.headers: list[tuple[str, str]] | None = None
        self.trailers: list[tuple[str, str]] = []
        self.error: MuxwireError | None = None
        self.finished = False
        self.readable: asyncio.Future[None] | None = None
        self.writable: asyncio.Future[None] | None = None

    def on_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Keep the headers."""
        self.headers = decode_headers(headers)
        _wake(self.readable)

    def on_message(self, data: bytes, cost: int) -> None:
        """Keep the message."""
        self.messages.append((data, cost))
        _wake(self.readable)

    def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """Keep the trailers; nothing follows."""
        self.trailers = decode_headers(trailers)
        self._finish()

    def on_failed(self, error: MuxwireError) -> None:
        """Keep the error; nothing follows."""
        self.error = error
        self._finish()

    def on_writable(self) -> None:
        """Let the writer go on."""
        _wake(self.writable)

    def on_retry(self, ended: Failure, attempt: int, delay: float) -> None:
        """Ignore it."""

    def _finish(self) -> None:
        self.finished = True
        _wake(self.readable)
        _wake(self.writable)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def let_go(exchange: Exchange, inbox: Inbox) -> None:
    """Kill a request that is not over, and give back the credit of what nobody will read."""
    if not inbox.finished:
        exchange.kill(ErrorCode.CANCELLED)
    while inbox.messages:
        _, cost = inbox.messages.popleft()
        exchange.consumed(cost)


class Stream:
    """A request in progress: iterate for the answer, send for more of the request.

    It is an asynchronous iterator and an asynchronous context manager; leaving the context, or
    letting the stream go, kills a request that is not over.
    """

    def __init__(self, exchange: Exchange, inbox: Inbox) -> None:
        self._exchange = exchange
        self._inbox = inbox

    @property
    def request_id(self) -> bytes:
        """The 16 octets that name the current attempt; empty while it waits for a connection."""
        return self._exchange.request_id

    # -- the answer

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> bytes:
        inbox = self._inbox
        while not inbox.messages:
            if inbox.error is not None:
                raise inbox.error
            if inbox.finished:
                raise StopAsyncIteration
            self._exchange.awaiting()
            try:
                await self._wait_readable()
            except asyncio.CancelledError:
                self._exchange.awaiting(False)
                raise
        data, cost = inbox.messages.popleft()
        self._exchange.consumed(cost)
        return data

    async def headers(self) -> list[tuple[str, str]]:
        """Return the response headers; they are there with the first message, or before it.

        Raises:
            RequestFailed: the request failed before a response began.
        """
        inbox = self._inbox
        while inbox.headers is None and not inbox.messages and not inbox.finished:
            await self._wait_readable()
        if inbox.error is not None and inbox.headers is None:
            raise inbox.error
        return inbox.headers or []

    async def _wait_readable(self) -> None:
        inbox = self._inbox
        if inbox.readable is not None:
            raise LocalProtocolError("two tasks read one stream")
        inbox.readable = asyncio.get_running_loop().create_future()
        try:
            await inbox.readable
        finally:
            inbox.readable = None

    @property
    def trailers(self) -> Sequence[tuple[str, str]]:
        """The trailers, once the stream has ended well."""
        return self._inbox.trailers

    @property
    def finished(self) -> bool:
        """Whether the request is over; messages may still wait to be read."""
        return self._inbox.finished

    # -- the request

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """Send a request message; waits while the stream's buffer is full (FLW-010).

        Raises:
            MessageTooLarge: the worker takes no message of this size.
            RequestClosed: the request is over, killed or ended.
            LocalProtocolError: another task is sending on this stream.
        """
        inbox = self._inbox
        if inbox.writable is not None:
            raise LocalProtocolError("two tasks send on one stream")
        while not self._exchange.send(data, end=end):
            inbox.writable = asyncio.get_running_loop().create_future()
            try:
                await inbox.writable
            finally:
                inbox.writable = None

    async def send_all(self, messages: AsyncIterable[bytes] | Iterable[bytes]) -> None:
        """Send messages and end the request direction.

        Raises:
            MessageTooLarge: the worker takes no message of such a size.
            RequestClosed: the request is over, killed or ended.
        """
        if isinstance(messages, AsyncIterable):
            async for message in messages:
                await self.send(message)
        else:
            for message in messages:
                await self.send(message)
        self.end()

    def end(self) -> None:
        """End the request direction.

        Raises:
            RequestClosed: the request is over, killed or ended.
        """
        self._exchange.end()

    def stop(self, reason: int = ErrorCode.CANCELLED) -> None:
        """Ask the worker to end the answer early and well; go on reading (CAN-005)."""
        self._exchange.stop(reason)

    def kill(self, reason: int = ErrorCode.CANCELLED) -> None:
        """Abandon the request; the iteration ends with RequestCancelled (CAN-001)."""
        self._exchange.kill(reason)

    async def aclose(self) -> None:
        """Kill the request if it is not over, and drop what was not read."""
        let_go(self._exchange, self._inbox)

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        inbox = self._inbox
        if inbox.messages or not inbox.finished:
            self._exchange.abandon(inbox)
