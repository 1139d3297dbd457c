"""The client: one connection to a worker, shared by any number of callers.

Rules of this file: a request's events go to its `_Inbox`; what the user holds is a `Stream` or a
pending `call`.  A caller that gives up, or lets its stream go, kills the request, so that no worker
goes on for nobody.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterable, Generator, Iterable, Sequence
from contextlib import suppress
from math import ceil
from typing import Protocol

from muxwire._generated.registries import NON_RETRYABLE, ErrorCode
from muxwire.core.client import ClientConnection
from muxwire.core.config import Config
from muxwire.core.events import (
    ConnectionEnded,
    Event,
    HandshakeDone,
    MessageReceived,
    ResponseFailed,
    ResponseFinished,
    ResponseHeaders,
    Writable,
)
from muxwire.errors import (
    ConnectError,
    ConnectionClosed,
    ConnectionRefused,
    DialFailed,
    HandshakeTimedOut,
    InvalidArgument,
    LocalProtocolError,
    NotWorker,
    RequestFailed,
    VersionRefused,
    failure,
)
from muxwire.handlers import check_message, decode_headers, encode_headers, encode_text
from muxwire.tcp.address import explain, parse
from muxwire.tcp.pump import Pump

Headers = Iterable[tuple[str, str]]

CLOSE_WAIT = 5.0
"""Seconds that an orderly close waits for running requests."""

MAX_TIMEOUT = (2**32 - 1) / 1000
"""Longest timeout in seconds: it travels as a u32 of milliseconds."""


def connect(target: str, *, config: Config | None = None) -> Connecting:
    """Connect to the worker at `host:port`, or `[v6]:port`.

    Use the result with `async with`, or await it and close the client yourself::

        async with muxwire.connect("127.0.0.1:9000") as client:
            reply = await client.call("conformance.echo", b"hi")

    Raises (when awaited or entered):
        InvalidArgument: `target` is not an address.
        DialFailed: nothing answers there.
        NotWorker: what answers does not speak WMX.
        VersionRefused: it speaks another version.
        ConnectionRefused: it takes no more connections, or is about to stop.
        HandshakeTimedOut: it did not complete the handshake in time.
        ConnectError: the connection ended during the handshake in some other way.
    """
    return Connecting(target, config or Config())


class Connecting:
    """A connection in the making: await it, or enter it."""

    def __init__(self, target: str, config: Config) -> None:
        self._target = target
        self._config = config
        self._client: Client | None = None

    def __await__(self) -> Generator[None, None, Client]:
        return _connect(self._target, self._config).__await__()

    async def __aenter__(self) -> Client:
        self._client = await self
        return self._client

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._client is not None:
            await self._client.close(0.0 if kind else CLOSE_WAIT)


async def _connect(target: str, config: Config) -> Client:
    host, port = parse(target)
    client = Client(target, config)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(config.handshake_timeout):
            await loop.create_connection(client.protocol, host, port)
    except TimeoutError:
        raise DialFailed(f"{target}: no connection within {config.handshake_timeout:g} s") from None
    except OSError as error:
        raise DialFailed(f"{target}: {explain(error)}") from None
    try:
        await client.handshaken()
    except BaseException:
        client.abort()
        raise
    return client


class _Sink(Protocol):
    """Where the events of one request go."""

    def on_headers(self, headers: list[tuple[bytes, bytes]]) -> None: ...

    def on_message(self, data: bytes, cost: int) -> None: ...

    def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None: ...

    def on_failed(self, error: RequestFailed) -> None: ...

    def on_writable(self) -> None: ...


class Client:
    """A client of one worker over one connection.  Make it with `connect`."""

    def __init__(self, target: str, config: Config) -> None:
        self.target = target
        self._loop = asyncio.get_running_loop()
        self._core = ClientConnection(config, self._loop.time(), os.urandom)
        self._pump = Pump(self._core, self._on_event, self._on_closed)
        self._sinks: dict[bytes, _Sink] = {}
        self._usable = False
        self._decided = asyncio.Event()  # whether it is usable
        self._gone = asyncio.Event()
        self._ended: ConnectionEnded | None = None

    # -- requests

    async def call(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: Headers = (),
        timeout: float | None = None,  # noqa: ASYNC109 - it travels to the worker
        idempotent: bool = False,
    ) -> bytes:
        """Send one message and return the one message of the answer; ``b""`` if it has none.

        Args:
            subject: What to ask for.
            data: The request message.
            headers: Pairs of key and value.
            timeout: Seconds that the request may take, at the worker and here.
            idempotent: Running the request twice does no harm.

        Raises:
            RequestFailed: the request did not succeed; `outcome` says whether it may have run.
            LocalProtocolError: the request is not allowed, or the answer has several messages
                (use `stream`).
            ConnectionClosed: the connection is over, or about to be.
        """
        answer = _Answer(self)
        request_id = self._open(
            answer, subject, data, True, headers=headers, timeout=timeout, idempotent=idempotent
        )
        answer.request_id = request_id
        try:
            return await answer.future
        except asyncio.CancelledError:
            self.kill(request_id)
            raise

    def stream(
        self,
        subject: str,
        data: bytes | None = None,
        *,
        end: bool | None = None,
        headers: Headers = (),
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> Stream:
        """Start a request and return its stream: iterate over it for the messages of the answer.

        Args:
            subject: What to ask for.
            data: The first request message, or None for none yet.
            end: Whether `data` is all; by default it is if there is any.  Without it, use
                `Stream.send` and `Stream.end`.
            headers: Pairs of key and value.
            timeout: Seconds that the request may take, at the worker and here.
            idempotent: Running the request twice does no harm.

        Raises:
            LocalProtocolError: the request is not allowed.
            ConnectionClosed: the connection is over, or about to be.
        """
        inbox = _Inbox()
        whole = data is not None if end is None else end
        request_id = self._open(
            inbox, subject, data, whole, headers=headers, timeout=timeout, idempotent=idempotent
        )
        return Stream(self, request_id, inbox)

    def _open(
        self,
        sink: _Sink,
        subject: str,
        data: bytes | None,
        end: bool,
        *,
        headers: Headers,
        timeout: float | None,
        idempotent: bool,
    ) -> bytes:
        if timeout is not None and not 0 < timeout <= MAX_TIMEOUT:
            raise InvalidArgument(f"timeout {timeout} is not above 0 and up to {MAX_TIMEOUT:g}")
        if data is not None:
            check_message(data)
        if not self._core.accepting:
            raise self._over()
        request_id = self._core.open(
            encode_text(subject),
            now=self._loop.time(),
            headers=encode_headers(headers),
            timeout_ms=0 if timeout is None else ceil(timeout * 1000),
            idempotent=idempotent,
            data=data,
            end=end,
            awaiting=True,
        )
        self._sinks[request_id] = sink
        self._pump.touch()
        return request_id

    def stop(self, request_id: bytes, reason: int = ErrorCode.CANCELLED) -> None:
        """Ask the worker to end a request early and well."""
        self._core.stop(request_id, reason)
        self._pump.touch()

    def kill(self, request_id: bytes, reason: int = ErrorCode.CANCELLED) -> None:
        """Abandon a request."""
        self._core.kill(request_id, reason)
        self._pump.touch()

    # -- the connection

    @property
    def accepting(self) -> bool:
        """Whether new requests are taken: the connection lives and nobody is leaving it."""
        return self._core.accepting

    @property
    def open_requests(self) -> int:
        """Requests without an end."""
        return self._core.open_requests

    @property
    def round_trip(self) -> float | None:
        """Seconds that the newest answered PING took, or None."""
        return self._core.round_trip

    async def close(self, wait: float = CLOSE_WAIT) -> None:
        """Open nothing more, give running requests `wait` seconds, close (CLS-009)."""
        try:
            self._core.goaway()
            self._pump.touch()
            if wait > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._gone.wait()
            self._core.close(self._loop.time())
            self._pump.touch()
            await self._gone.wait()
        finally:
            if not self._gone.is_set():
                self.abort()

    async def wait_closed(self) -> None:
        """Return when the connection is over, whoever ended it."""
        await self._gone.wait()

    def abort(self) -> None:
        """Reset the connection."""
        self._pump.abort()

    def protocol(self) -> Pump:
        """Return what drives the socket; for `connect`."""
        return self._pump

    async def handshaken(self) -> None:
        """Return when the worker has completed the handshake.

        Raises:
            ConnectError: it did not.
        """
        await self._decided.wait()
        if not self._usable:
            raise self._connect_error()

    # -- for streams

    def send(self, request_id: bytes, data: bytes, *, end: bool) -> bool:
        """Queue a message; False if it has to wait for room (FLW-010)."""
        check_message(data)
        taken = self._core.send_message(request_id, data, end=end)
        self._pump.touch()
        return taken

    def end(self, request_id: bytes) -> None:
        """End the request direction."""
        self._core.end(request_id)
        self._pump.touch()

    def consumed(self, request_id: bytes, cost: int) -> None:
        """Give credit back for a message that its caller has taken."""
        self._core.consumed(request_id, cost)
        self._pump.touch()

    def awaiting(self, request_id: bytes) -> None:
        """Say that a caller waits for a message (FLW-007)."""
        self._core.awaiting(request_id)
        self._pump.touch()

    def let_go(self, request_id: bytes, inbox: _Inbox) -> None:
        """Kill a request that is not over, and give back the credit of what nobody will read."""
        if not inbox.finished:
            self.kill(request_id)
        while inbox.messages:
            _, cost = inbox.messages.popleft()
            self.consumed(request_id, cost)

    def abandon(self, request_id: bytes, inbox: _Inbox) -> None:
        """Let a request go, from whatever thread the collector runs in."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.let_go, request_id, inbox)

    # -- events

    def _on_event(self, event: Event) -> None:
        match event:
            case MessageReceived(request_id=request_id, ended=ended):
                sink = self._sinks.pop(request_id, None) if ended else self._sinks.get(request_id)
                if sink is None:
                    self._core.consumed(request_id, event.cost)
                    return
                sink.on_message(event.data, event.cost)
                if ended:
                    sink.on_end([])
            case ResponseHeaders(request_id=request_id):
                if request_id in self._sinks:
                    self._sinks[request_id].on_headers(event.headers)
            case ResponseFinished(request_id=request_id):
                if sink := self._sinks.pop(request_id, None):
                    sink.on_end(event.trailers)
            case ResponseFailed(request_id=request_id):
                if sink := self._sinks.pop(request_id, None):
                    sink.on_failed(_failure(event))
            case Writable(request_id=request_id):
                if request_id in self._sinks:
                    self._sinks[request_id].on_writable()
            case HandshakeDone():
                self._usable = True
                self._decided.set()
            case ConnectionEnded():
                self._ended = event

    def _on_closed(self) -> None:
        self._decided.set()
        self._gone.set()

    def _over(self) -> ConnectionClosed:
        """Say why the connection takes no requests."""
        if (ended := self._ended) is None:
            return ConnectionClosed("the connection is about to end and takes no new requests")
        return ConnectionClosed(
            f"the connection is over: {ended.message}",
            code=ended.code,
            code_name=_code_name(ended.code),
            by_peer=ended.by_peer,
            requirement=ended.requirement,
        )

    def _connect_error(self) -> ConnectError:
        """Say why the connection never became usable."""
        over = self._over()
        kind: type[ConnectError] = ConnectError
        reason = "the connection ended during the handshake"
        if over.requirement == "HSK-002":
            kind, reason = NotWorker, "what answers there does not speak WMX"
        elif over.requirement == "HSK-004":
            kind, reason = VersionRefused, "no common version"
        elif over.requirement == "HSK-008" or over.code == ErrorCode.HANDSHAKE_TIMEOUT:
            kind, reason = HandshakeTimedOut, "no complete handshake in time"
        elif over.code is not None:
            kind = ConnectionRefused if over.by_peer else ConnectError
            reason = self._ended.message if self._ended else reason
        return kind(
            f"{self.target}: {reason}",
            code=over.code,
            code_name=over.code_name,
            by_peer=over.by_peer,
            requirement=over.requirement,
        )


def _code_name(code: int | None) -> str | None:
    try:
        return None if code is None else ErrorCode(code).name
    except ValueError:
        return None


def _failure(event: ResponseFailed) -> RequestFailed:
    """Turn the last event of a request into the exception that its caller gets."""
    name = _code_name(event.code)
    kind = failure(event.code, name, local=event.local)
    return kind(
        outcome=event.outcome,
        code=event.code,
        code_name=name,
        local=event.local,
        request_id=event.request_id,
        messages=event.messages,
        retry_after_ms=event.retry_after_ms,
        non_retryable=bool(event.error_flags & NON_RETRYABLE),
        message=event.message,
        detail=event.detail,
    )


class _Answer:
    """Waits for the one message of a unary answer."""

    __slots__ = ("_client", "_data", "_messages", "future", "request_id")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._data = b""
        self._messages = 0
        self.request_id = b""
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def on_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        pass

    def on_message(self, data: bytes, cost: int) -> None:
        self._data = data
        self._messages += 1
        self._client.consumed(self.request_id, cost)
        if self._messages > 1:
            self._client.kill(self.request_id)
            self._settle(error=LocalProtocolError("the answer has several messages: use stream"))

    def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        del trailers
        self._settle()

    def on_failed(self, error: RequestFailed) -> None:
        self._settle(error=error)

    def on_writable(self) -> None:
        pass

    def _settle(self, error: Exception | None = None) -> None:
        if self.future.done():
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(self._data)


class _Inbox:
    """What has arrived for a stream and was not taken yet."""

    __slots__ = ("error", "finished", "headers", "messages", "readable", "trailers", "writable")

    def __init__(self) -> None:
        self.messages: deque[tuple[bytes, int]] = deque()
        self.headers: list[tuple[str, str]] | None = None
        self.trailers: list[tuple[str, str]] = []
        self.error: RequestFailed | None = None
        self.finished = False
        self.readable: asyncio.Future[None] | None = None
        self.writable: asyncio.Future[None] | None = None

    def on_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.headers = decode_headers(headers)
        _wake(self.readable)

    def on_message(self, data: bytes, cost: int) -> None:
        self.messages.append((data, cost))
        _wake(self.readable)

    def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.trailers = decode_headers(trailers)
        self._finish()

    def on_failed(self, error: RequestFailed) -> None:
        self.error = error
        self._finish()

    def on_writable(self) -> None:
        _wake(self.writable)

    def _finish(self) -> None:
        self.finished = True
        _wake(self.readable)
        _wake(self.writable)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


class Stream:
    """A request in progress: iterate for the answer, send for more of the request.

    It is an asynchronous iterator and an asynchronous context manager; leaving the context, or
    letting the stream go, kills a request that is not over.

    Attributes:
        request_id: The 16 octets that name the request on its connection.
    """

    def __init__(self, client: Client, request_id: bytes, inbox: _Inbox) -> None:
        self._client = client
        self._inbox = inbox
        self.request_id = request_id

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
            self._client.awaiting(self.request_id)
            await self._wait_readable()
        data, cost = inbox.messages.popleft()
        self._client.consumed(self.request_id, cost)
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
        while not self._client.send(self.request_id, data, end=end):
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
        self._client.end(self.request_id)

    def stop(self, reason: int = ErrorCode.CANCELLED) -> None:
        """Ask the worker to end the answer early and well; go on reading (CAN-005)."""
        self._client.stop(self.request_id, reason)

    def kill(self, reason: int = ErrorCode.CANCELLED) -> None:
        """Abandon the request; the iteration ends with RequestCancelled (CAN-001)."""
        self._client.kill(self.request_id, reason)

    async def aclose(self) -> None:
        """Kill the request if it is not over, and drop what was not read."""
        self._client.let_go(self.request_id, self._inbox)

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        inbox = self._inbox
        if inbox.messages or not inbox.finished:
            self._client.abandon(self.request_id, inbox)
