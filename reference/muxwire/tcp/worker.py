"""The worker: listens, and runs a handler for every request.

Rules of this file: one `_Served` a connection; where its handlers run is the runner's business.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from muxwire import conformance_subjects
from muxwire._generated.registries import PENDING_HANDSHAKES
from muxwire.core.config import Config
from muxwire.core.counters import Counters
from muxwire.core.events import (
    Event,
    HandlerCancelled,
    MessageReceived,
    RequestFinished,
    RequestReceived,
    StopReceived,
    Writable,
)
from muxwire.core.statistics import Statistics
from muxwire.core.worker import WorkerConnection
from muxwire.errors import InvalidArgument, LocalProtocolError
from muxwire.handlers import (
    Handler,
    Request,
    check_message,
    decode_headers,
    encode_text,
)
from muxwire.tcp.address import render
from muxwire.tcp.pump import Pump
from muxwire.tcp.runner import Runner, Running
from muxwire.tcp.tls import TlsLayer, check_context
from muxwire.version import VERSION

logger = logging.getLogger("muxwire.worker")

MAX_CONNECTIONS = 1_024


class Path(Protocol):
    """A further path over which a worker serves the same handlers, in the same process."""

    name: str

    @property
    def port(self) -> int:
        """The port listened on."""

    async def drain(self, grace: float) -> None:
        """Take no more requests, give running ones `grace` seconds, return when all is closed."""

    def connections(self) -> int:
        """Return the number of open connections that carry responses."""

    def buffered_bytes(self) -> int:
        """Return what waits in them, and for them."""


class Worker:
    """Serves handlers on any number of connections.

    Use it as an asynchronous context manager, or call `start`, then `drain` or `close`.

    Args:
        handlers: What to run, by subject.
        config: Options of each connection.
        max_connections: More are refused with CONNECTION_LIMIT (HSK-011).
        max_pending: Connections whose preface is not complete; the oldest is closed beyond it.
        conformance: Whether to offer the `conformance.*` subjects (SEC-003).

    Attributes:
        running_handlers: Handlers that run now, those included that have outlived their connection.
        paths: Further paths over which it serves; they end with it.
        posted: Requests of the paths over HTTP that are not over; they share one limit.

    Raises:
        InvalidArgument: `max_connections` or `max_pending` is below 1, or `handlers` are not
            functions by name.
    """

    def __init__(
        self,
        handlers: Mapping[str, Handler],
        *,
        config: Config | None = None,
        max_connections: int = MAX_CONNECTIONS,
        max_pending: int = PENDING_HANDSHAKES,
        conformance: bool = False,
    ) -> None:
        if max_connections < 1 or max_pending < 1:
            raise InvalidArgument("max_connections and max_pending are at least 1")
        self.config = config or Config()
        self.max_connections = max_connections
        self.statistics = Statistics(
            limit=max_connections * self.config.settings.max_concurrent_requests
        )
        offered = dict(handlers)
        if conformance:
            offered |= conformance_subjects.subjects(self)
        for subject, handler in offered.items():
            if not isinstance(subject, str) or not callable(handler):
                raise InvalidArgument(f"no function by a name: {subject!r}: {handler!r}")
        self._handlers = {encode_text(subject): handler for subject, handler in offered.items()}
        self._max_pending = max_pending
        self.counters = Counters()
        self.loop: asyncio.AbstractEventLoop | None = None  # that it listens in
        self._nonce = os.urandom(8).hex()
        self._servers: list[asyncio.Server] = []
        self._connections: set[_Served] = set()
        self._pending: dict[_Served, None] = {}  # of these, oldest first
        self._admitted: set[_Served] = set()  # of these
        self.running_handlers = 0
        self.paths: list[Path] = []
        self.posted = 0
        self.tasks: set[asyncio.Task[None]] = set()  # that run them
        self._idle = asyncio.Event()
        self._leaving = False

    # -- life

    async def start(
        self, host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None
    ) -> None:
        """Listen; port 0 takes a free port, see `addresses`.  May be called more than once.

        Args:
            host: Where to listen; loopback by default (SEC-003).
            port: Where to listen.
            tls: What `server_context` returns, for TLS; without it octets travel as they are.

        Raises:
            OSError: the address cannot be listened on.
            InvalidArgument: the TLS context is not one for a server.
        """
        if tls is not None:
            check_context(tls, server=True)
        self.loop = loop = asyncio.get_running_loop()
        self._leaving = False
        server = await loop.create_server(lambda: self._accept(tls), host, port, backlog=1_024)
        self._servers.append(server)

    @property
    def addresses(self) -> list[str]:
        """The addresses listened on, as `host:port`."""
        names = [sock.getsockname() for server in self._servers for sock in server.sockets]
        return [render(name[0], name[1]) for name in names]

    async def drain(self, grace: float | None = None) -> None:
        """Take no more connections and requests, let running ones end, return when all is closed.

        Args:
            grace: Seconds that running requests have; the configured grace by default (CLS-011).
        """
        self._leaving = True
        for server in self._servers:
            server.close()
        self._servers.clear()
        seconds = self.config.drain_grace if grace is None else grace
        others = [asyncio.ensure_future(path.drain(seconds)) for path in self.paths]
        for served in [*self._connections]:
            served.drain(round(seconds * 1000))
        linger = self.config.linger
        if not await self._closed_within(seconds + 2 * linger):
            for served in [*self._connections]:  # the core has not ended these in time
                served.abort()
            await self._closed_within(linger)
        await asyncio.gather(*others)
        if self.tasks:  # all have been told to end by now; those that refuse are left alone
            await asyncio.wait(self.tasks, timeout=linger)

    async def close(self) -> None:
        """End every request now and return when all is closed."""
        await self.drain(0.0)

    async def __aenter__(self) -> Worker:
        if not self._servers:
            await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _closed_within(self, seconds: float) -> bool:
        if self._connections:
            self._idle.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._idle.wait()
        return not self._connections

    # -- connections

    def _accept(self, tls: ssl.SSLContext | None) -> asyncio.Protocol:
        """Make what drives a new socket; its handshake is worked on when octets come (DOS-004)."""
        self.counters.opened += 1
        served = _Served(self)
        self._connections.add(served)
        self._pending[served] = None
        if self._leaving:  # accepted by the kernel before the listener was closed
            self._push_out(served)
        elif len(self._pending) > self._max_pending:  # HSK-011: the oldest goes
            self._push_out(next(iter(self._pending)))
        return served.pump if tls is None else TlsLayer(served.pump, tls)

    def _push_out(self, served: _Served) -> None:
        """Close a pending connection, without an octet."""
        del self._pending[served]
        served.drain(0)

    def admit(self, served: _Served) -> bool:
        """Decide whether a connection whose preface is complete may stay (HSK-011)."""
        self._pending.pop(served, None)
        if len(self._admitted) >= self.max_connections:
            return False
        self._admitted.add(served)
        return True

    def forget(self, served: _Served) -> None:
        """Note that a connection is gone."""
        self._connections.discard(served)
        self._pending.pop(served, None)
        self._admitted.discard(served)
        if not self._connections:
            self._idle.set()

    @property
    def subjects(self) -> Mapping[bytes, Handler]:
        """The handlers by subject, as on the wire."""
        return self._handlers

    # -- what the conformance subjects ask

    def information(self) -> dict[str, Any]:
        """Return the members of `conformance.info`."""
        port = self._servers[0].sockets[0].getsockname()[1] if self._servers else 0
        return {
            "name": "muxwire",
            "version": VERSION,
            "nonce": self._nonce,
            "handshake_timeout_ms": round(self.config.handshake_timeout * 1000),
            "max_connections": self.max_connections,
            "drain_grace_ms": round(self.config.drain_grace * 1000),
            "slow_consumer_ms": round(self.config.slow_consumer * 1000),
            "transports": ["tcp", *(path.name for path in self.paths)],
            "ports": {"tcp": port, **{path.name: path.port for path in self.paths}},
        }

    @property
    def admitted(self) -> int:
        """Connections of the TCP path that are set up."""
        return len(self._admitted)

    def connections(self) -> int:
        """Return the number of open connections, over all paths."""
        return len(self._admitted) + sum(path.connections() for path in self.paths)

    def buffered_bytes(self) -> int:
        """Return what waits in all connections: output, unread input, control frames."""
        own = sum(served.core.buffered_bytes for served in [*self._admitted])
        return own + sum(path.buffered_bytes() for path in self.paths)

    # -- what the metrics ask, from whatever thread

    @property
    def pending(self) -> int:
        """Connections whose preface is not complete."""
        return len(self._pending)

    def cores(self) -> list[WorkerConnection]:
        """Return every connection."""
        return [served.core for served in [*self._connections]]


class _Served:
    """One connection of a worker: turns events into handlers and back."""

    def __init__(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        self._worker = worker
        self._loop = loop
        self._running: dict[bytes, Running] = {}
        self.core = WorkerConnection(
            worker.config,
            loop.time(),
            os.urandom,
            subjects=worker.subjects,
            statistics=worker.statistics,
            uncounted=(conformance_subjects.STATS.encode(),),
            admit=lambda: worker.admit(self),
            counters=worker.counters,
        )
        self.pump = Pump(self.core, self._on_event, lambda: worker.forget(self))
        self._runner = Runner(worker.tasks, self._ended, self.pump.flush)

    def drain(self, grace_ms: int, *, after: bytes | None = None) -> None:
        self.core.drain(grace_ms, self._loop.time(), after=after)
        self.pump.touch()

    def abort(self) -> None:
        self.pump.abort()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._on_request(event)
            return
        running = self._running.get(getattr(event, "request_id", b""))
        if running is None:
            return
        request = running.request
        match event:
            case MessageReceived():
                request.feed_message(event.data, event.cost)
                if event.ended:
                    request.feed_end()
            case RequestFinished():
                request.feed_end()
            case StopReceived():
                request.feed_stop()
            case HandlerCancelled():
                running.cancel()
            case Writable():
                request.feed_writable()

    def _on_request(self, event: RequestReceived) -> None:
        request = Request(
            subject=event.subject.decode(),
            headers=decode_headers(event.headers),
            timeout_ms=event.timeout_ms,
            request_flags=event.request_flags,
            request_id=event.request_id,
            responder=(responder := _Responder(self, event.request_id)),
        )
        if event.data is not None:
            request.feed_message(event.data, event.cost)
        if event.ended:
            request.feed_end()
        running = Running(self._worker.subjects[event.subject], request, responder)
        self._running[event.request_id] = running
        self._worker.running_handlers += 1
        self._runner.start(running)

    def _ended(self, running: Running) -> None:
        del self._running[running.request.request_id]
        self._worker.running_handlers -= 1


class _Responder:
    """Answers one request through its connection."""

    __slots__ = ("_answered", "_core", "_pump", "_served", "cancelled", "request_id")

    def __init__(self, served: _Served, request_id: bytes) -> None:
        self._served = served
        self._core = served.core
        self._pump = served.pump
        self.request_id = request_id
        self.cancelled = False
        self._answered = False

    def send_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        self._core.send_headers(self.request_id, headers)
        self._pump.push()

    def send_message(self, data: bytes) -> bool:
        check_message(data)
        if self.cancelled:
            raise asyncio.CancelledError
        taken = self._core.send_message(self.request_id, data)
        self._pump.push()
        return taken

    def finish(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self._answered = True
        try:
            self._core.finish(self.request_id, trailers)
        except LocalProtocolError as error:
            logger.error("the answer of a handler was not sent: %s", error)
        self._pump.push()

    def fail(
        self,
        code: int,
        message: str,
        *,
        detail: bytes = b"",
        retry_after_ms: int = 0,
        non_retryable: bool = False,
    ) -> None:
        if self._answered:
            return
        check_message(detail)
        code, retry_after_ms = int(code), max(0, int(retry_after_ms))
        self._answered = True
        self._core.fail(
            self.request_id,
            code,
            str(message),
            detail=detail,
            retry_after_ms=retry_after_ms,
            non_retryable=non_retryable,
        )
        self._pump.push()

    def consumed(self, cost: int) -> None:
        self._core.consumed(self.request_id, cost)
        self._pump.touch()

    def awaiting(self) -> None:
        self._core.awaiting(self.request_id)
        self._pump.touch()

    def drain_connection(self, grace_ms: int) -> None:
        self._served.drain(grace_ms, after=self.request_id)
