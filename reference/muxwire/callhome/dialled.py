"""A call-home connection that the worker has dialled, as its pool keeps it.

Rules of this file: it is idle, or carries the one stream that `carry` was given.  What an idle
connection says by itself takes it out of the pool (P0-010).
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from muxwire._generated.registries import WCH_IDLE_TIMEOUT_MS
from muxwire.core.callhome import WorkerEnd, WorkerStream
from muxwire.core.closing import CloseAction
from muxwire.core.counters import Counters
from muxwire.core.events import ConnectionEnded, Event, Idle
from muxwire.errors import ConnectError
from muxwire.tcp.address import parse
from muxwire.tcp.pump import Pump

_PROBES = 3
"""Unanswered keepalive probes after which the kernel gives a connection up."""

_READS = 3
"""Turns of the loop in which what waits in a socket has been read."""


class Carried(Protocol):
    """A stream that a connection carries, and what has to hear of it."""

    stream: WorkerStream

    def on_event(self, event: Event) -> None:
        """Take an event of the stream."""


async def dial(
    target: str,
    on_lost: Callable[[Dialled], None],
    *,
    keepalive: float,
    idle_timeout_ms: int,
    counters: Counters,
) -> Dialled:
    """Connect to a router and exchange prefaces.  Whoever calls bounds the time (P0-002).

    Raises:
        OSError: there is no TCP connection.
        ConnectError: what answers is no router, or refuses.
    """
    host, port = parse(target)
    loop = asyncio.get_running_loop()
    dialled = Dialled(loop, on_lost, idle_timeout_ms, counters)
    try:
        try:
            transport, _ = await loop.create_connection(lambda: dialled.pump, host, port)
        except BaseException:
            counters.failures["dial"] += 1
            raise
        counters.opened += 1
        _set_options(transport, keepalive, idle_timeout_ms or WCH_IDLE_TIMEOUT_MS)
        await dialled.ready()
    except BaseException:
        if not dialled.core.close_action:
            dialled.abort()
        raise
    return dialled


class Dialled:
    """One connection to one router.  `dial` makes it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[Dialled], None],
        idle_timeout_ms: int,
        counters: Counters,
    ) -> None:
        self._loop = loop
        self._on_lost = on_lost
        self.core = WorkerEnd(loop.time(), idle_timeout_ms, counters)
        self.pump = Pump(self.core, self._on_event, self._gone)
        self._poll = select.poll()
        self._carried: Carried | None = None
        self._retired = False
        self._ended = ""
        self._settled: asyncio.Future[None] = loop.create_future()

    async def ready(self) -> None:
        """Return when the connection is idle for the first time.

        Raises:
            ConnectError: it will never be.
        """
        await self._settled
        if not self.core.idle:
            raise ConnectError(self._ended or "the connection ended during the prefaces")

    async def carry(self, carried: Carried) -> None:
        """Offer a stream; return when the connection is idle again, or over."""
        self._settled = self._loop.create_future()
        self._carried = carried
        self.core.hello(carried.stream, self._loop.time())
        self.pump.touch()
        try:
            await self._settled
        finally:
            self._carried = None

    def retire(self) -> None:
        """Do not use the connection again once its stream is over."""
        self._retired = True

    def give_up(self) -> None:
        """Close the connection, since its stream is not to be delivered."""
        self.core.give_up(self._loop.time())
        self.pump.touch()

    # -- what the pool asks

    @property
    def usable(self) -> bool:
        """Whether it is open, idle, and nothing unexpected has come."""
        return self.core.idle and self.core.close_action is CloseAction.NONE and not self._retired

    async def probe(self) -> bool:
        """Read what waits in the socket, and tell whether the connection may be lent (P0-010)."""
        number = self.pump.fileno()
        if number < 0:
            return False
        self._poll.register(number, select.POLLIN)
        if self._poll.poll(0):
            for _ in range(_READS):
                await asyncio.sleep(0)
        return self.usable

    def close(self) -> None:
        """Close it; nothing is under way on it."""
        self.core.retire(self._loop.time())
        self.pump.touch()

    def abort(self) -> None:
        """Close it at once."""
        self.core.abort(self._loop.time())
        self.pump.abort()
        self._settle()

    # -- what happens

    def _on_event(self, event: Event) -> None:
        match event:
            case Idle():
                self._settle()
            case ConnectionEnded():
                self._ended = event.message
                self._settle()
                self._on_lost(self)
            case _:
                if self._carried is not None:
                    self._carried.on_event(event)

    def _settle(self) -> None:
        if not self._settled.done():
            self._settled.set_result(None)

    def _gone(self) -> None:
        self._settle()


def _set_options(transport: asyncio.BaseTransport, keepalive: float, patience_ms: int) -> None:
    """Let the kernel notice a router that is gone (P0-015)."""
    sock = transport.get_extra_info("socket")
    if sock is None:  # it is gone already
        return
    seconds = max(1, round(keepalive))
    options = [
        (socket.IPPROTO_TCP, "TCP_NODELAY", 1),
        (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
        (socket.IPPROTO_TCP, "TCP_KEEPIDLE", seconds),
        (socket.IPPROTO_TCP, "TCP_KEEPINTVL", max(1, seconds // _PROBES)),
        (socket.IPPROTO_TCP, "TCP_KEEPCNT", _PROBES),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", patience_ms),
    ]
    for level, name, value in options:
        number = getattr(socket, name, None)
        if number is not None:
            with suppress(OSError, ValueError):  # uvloop has closed it: its descriptor is -1
                sock.setsockopt(level, number, value)
