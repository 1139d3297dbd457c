"""A link: one connection to one worker, shared by any number of requests.

Rules of this file: the events of a request go to its sink.  It retries nothing and replaces
nothing; `pool` does.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress

from muxwire._generated.registries import NON_RETRYABLE, ErrorCode
from muxwire.core.client import ClientConnection
from muxwire.core.config import Config
from muxwire.core.counters import Counters
from muxwire.core.events import (
    ConnectionEnded,
    Event,
    GoawayReceived,
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
    NotWorker,
    RequestFailed,
    TlsFailed,
    VersionRefused,
    failure,
)
from muxwire.tcp.address import explain, parse
from muxwire.tcp.pump import Pump
from muxwire.tcp.stream import Sink
from muxwire.tcp.tls import TlsLayer

Milestone = HandshakeDone | GoawayReceived | ConnectionEnded
"""What happens to a connection as such; the last one ends it, or is that of a dial that failed."""


def _ignore(_: Milestone) -> None:
    """Be the observer of those who want none."""


async def dial(link: Link, tls: ssl.SSLContext | None = None) -> None:
    """Connect a link to its worker; `Link.handshaken` waits for the rest.

    Raises:
        DialFailed: there is no TCP connection.
        TlsFailed: the name cannot be verified.
    """
    target, config, counters = link.target, link.core.config, link.core.counters
    host, port = parse(target)
    limit = min(config.connect_timeout, config.handshake_timeout)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limit):
            await loop.create_connection(lambda: link.protocol(tls, host), host, port)
    except TimeoutError:
        counters.failures["dial"] += 1
        reason = f"no connection within {limit:g} s"
        link.observe(_dial_failed(reason, by_peer=False))
        raise DialFailed(f"{target}: {reason}") from None
    except OSError as error:
        counters.failures["dial"] += 1
        link.observe(_dial_failed(explain(error), by_peer=True))
        raise DialFailed(f"{target}: {explain(error)}") from None
    except ValueError as error:  # of a name that TLS cannot verify
        counters.failures["tls"] += 1
        link.observe(_dial_failed(str(error), by_peer=False))
        raise TlsFailed(f"{target}: {error}") from None
    except asyncio.CancelledError:
        link.abort()
        raise
    counters.opened += 1


class Link:
    """One connection to a worker.  `dial` connects it.

    Args:
        target: `host:port`, or `[v6]:port`.
        config: Options of the connection.
        on_change: Called when the link stops accepting requests, and when it is gone.
        on_terminal: Called at each terminal that arrives after the handshake.
        counters: What to count in.
        early: Requests are accepted before the handshake is complete.
        observe: Called with what happens to the connection.
        on_written: Called whenever frames have been handed to the transport.

    Raises:
        InvalidArgument: `target` is not an address.
    """

    def __init__(
        self,
        target: str,
        config: Config,
        on_change: Callable[[Link], None],
        on_terminal: Callable[[], None],
        counters: Counters,
        *,
        early: bool = False,
        observe: Callable[[Milestone], None] = _ignore,
        on_written: Callable[[], None] | None = None,
    ) -> None:
        parse(target)
        self.target = target
        self.early = early
        self.observe = observe
        self._loop = asyncio.get_running_loop()
        self._core = ClientConnection(config, self._loop.time(), os.urandom, counters)
        self._pump = Pump(self._core, self._on_event, self._on_closed, on_written)
        self._on_change = on_change
        self._on_terminal = on_terminal
        self._sinks: dict[bytes, Sink] = {}
        self._usable = False
        self._draining = False
        self._decided = asyncio.Event()  # whether it is usable
        self._gone = asyncio.Event()
        self._ended: ConnectionEnded | None = None

    # -- requests

    def open(
        self,
        sink: Sink,
        subject: bytes,
        data: bytes | None,
        *,
        end: bool,
        headers: Sequence[tuple[bytes, bytes]],
        timeout_ms: int,
        idempotent: bool,
        awaiting: bool,
    ) -> bytes:
        """Start a request and return its id.

        Raises:
            ConnectionClosed: the connection takes no more requests.
            LocalProtocolError: the request is not allowed.
        """
        if not self._core.accepting:
            raise self.over()
        request_id = self._core.open(
            subject,
            now=self._loop.time(),
            headers=headers,
            timeout_ms=timeout_ms,
            idempotent=idempotent,
            data=data,
            end=end,
            awaiting=awaiting,
        )
        self._sinks[request_id] = sink
        self._pump.push()
        return request_id

    def send(self, request_id: bytes, data: bytes, *, end: bool) -> bool:
        """Queue a message; False if it has to wait for room (FLW-010)."""
        taken = self._core.send_message(request_id, data, end=end)
        self._pump.push()
        return taken

    def end(self, request_id: bytes) -> None:
        """End the request direction."""
        self._core.end(request_id)
        self._pump.touch()

    def stop(self, request_id: bytes, reason: int) -> None:
        """Ask the worker to end a request early and well."""
        self._core.stop(request_id, reason)
        self._pump.touch()

    def kill(self, request_id: bytes, reason: int) -> None:
        """Abandon a request."""
        self._core.kill(request_id, reason)
        self._pump.touch()

    def consumed(self, request_id: bytes, cost: int) -> None:
        """Give credit back for a message that its caller has taken."""
        if self._ended is None:
            self._core.consumed(request_id, cost)
            self._pump.touch()

    def awaiting(self, request_id: bytes, waiting: bool) -> None:
        """Say whether a caller waits for a message (FLW-007)."""
        self._core.awaiting(request_id, waiting)
        self._pump.touch()

    def begun(self, request_id: bytes) -> bool:
        """Whether the OPEN of a request has been handed over."""
        return self._core.begun(request_id)

    def unsent(self, request_id: bytes) -> int | None:
        """Return how many messages of a request are not handed over; None if it is over."""
        return self._core.unsent(request_id)

    # -- the connection

    @property
    def accepting(self) -> bool:
        """Whether new requests are taken: it is set up, lives, and nobody is leaving it."""
        return (self._usable or self.early) and self._core.accepting

    @property
    def usable(self) -> bool:
        """Whether the handshake was completed."""
        return self._usable

    @property
    def draining(self) -> bool:
        """Whether the worker asks for a replacement: it drains, and is healthy otherwise."""
        return self._draining

    @property
    def open_requests(self) -> int:
        """Requests without an end."""
        return self._core.open_requests

    @property
    def buffered_bytes(self) -> int:
        """Cost of queued requests and unread answers, and octets of queued control frames."""
        return self._core.buffered_bytes

    @property
    def round_trip(self) -> float | None:
        """Seconds that the newest answered PING took, or None."""
        return self._core.round_trip

    @property
    def core(self) -> ClientConnection:
        """The connection itself, for its counters."""
        return self._core

    @property
    def gone(self) -> bool:
        """Whether the socket is gone."""
        return self._gone.is_set()

    async def close(self, wait: float | None) -> None:
        """Open nothing more, give running requests `wait` seconds or all they need (CLS-009)."""
        try:
            self._core.goaway()
            self._pump.touch()
            if wait is None or wait > 0:
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
        self._core.abort(self._loop.time())
        self._pump.abort()

    def protocol(self, tls: ssl.SSLContext | None, host: str) -> asyncio.Protocol:
        """Return what drives the socket; for `dial`."""
        return self._pump if tls is None else TlsLayer(self._pump, tls, host)

    async def handshaken(self) -> None:
        """Return when the worker has completed the handshake; give the link up if it does not.

        Raises:
            ConnectError: it did not.
        """
        try:
            await self._decided.wait()
            if not self._usable:
                raise self._connect_error()
        except BaseException:
            if not self.early:  # else it is its user's to close
                self.abort()
            raise

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
                    self._terminal()
                    sink.on_end([])
            case ResponseHeaders(request_id=request_id):
                if request_id in self._sinks:
                    self._sinks[request_id].on_headers(event.headers)
            case ResponseFinished(request_id=request_id):
                self._terminal()
                if sink := self._sinks.pop(request_id, None):
                    sink.on_end(event.trailers)
            case ResponseFailed(request_id=request_id):
                if not event.local:
                    self._terminal()
                if sink := self._sinks.pop(request_id, None):
                    sink.on_failed(request_failed(event))
            case Writable(request_id=request_id):
                if request_id in self._sinks:
                    self._sinks[request_id].on_writable()
            case HandshakeDone():
                self._usable = True
                self._decided.set()
                self.observe(event)
            case GoawayReceived():
                self._draining = event.code == ErrorCode.NO_ERROR
                self.observe(event)
                self._on_change(self)
            case ConnectionEnded():
                self._ended = event
                self.observe(event)
                self._on_change(self)

    def _terminal(self) -> None:
        if self._usable:  # REC-004: a terminal proves nothing before that
            self._on_terminal()

    def _on_closed(self) -> None:
        self._decided.set()
        self._gone.set()
        self._on_change(self)

    def over(self) -> ConnectionClosed:
        """Say why the connection takes no requests."""
        if (ended := self._ended) is None:
            return ConnectionClosed("the connection is about to end and takes no new requests")
        return ConnectionClosed(
            f"the connection is over: {ended.message}",
            code=ended.code,
            code_name=code_name(ended.code),
            by_peer=ended.by_peer,
            requirement=ended.requirement,
        )

    def _connect_error(self) -> ConnectError:
        """Say why the connection never became usable."""
        over = self.over()
        kind: type[ConnectError] = ConnectError
        reason = "the connection ended during the handshake"
        if over.requirement == "HSK-002":
            kind, reason = NotWorker, "what answers there does not speak WMX"
        elif over.requirement == "SEC-001":
            kind, reason = TlsFailed, self._ended.message if self._ended else reason
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


def _dial_failed(reason: str, *, by_peer: bool) -> ConnectionEnded:
    """Return the end of a connection that never was."""
    return ConnectionEnded(
        code=None,
        by_peer=by_peer,
        requirement="",
        message=reason,
        handshake=False,
        last_ordinal=0,
        lost=0,
    )


def code_name(code: int | None) -> str | None:
    """Return the registry name of a code, or None."""
    try:
        return None if code is None else ErrorCode(code).name
    except ValueError:
        return None


def request_failed(event: ResponseFailed) -> RequestFailed:
    """Turn the last event of a request into the exception that its caller gets."""
    name = code_name(event.code)
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
