"""The router's ear: accepts the connections of workers and matches HELLOs to streams.

Rules of this file: a token is compared in constant time, also for an id that is not known (P0-018).
A connection belongs to nobody until its HELLO is accepted.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
from collections.abc import Callable
from functools import partial

from muxwire._generated.registries import ErrorCode
from muxwire.callhome.acceptor import Acceptor
from muxwire.core.callhome import RouterEnd, RouterStream
from muxwire.core.counters import Counters
from muxwire.core.events import ConnectionEnded, Event, Idle
from muxwire.tcp.pump import Pump

Observer = Callable[[int, str, Idle | ConnectionEnded], None]
"""Hears of a connection, by its number from 1 and the worker's address, that it can carry streams
and that it has ended."""

_NOBODY = bytes(16)
"""Compared with the token of a HELLO whose id is not known, so that it takes as long."""


class Listener:
    """Listens for call-home connections.

    Args:
        on_event: Takes the events of streams.
        counters: Where connections count.
        idle_timeout_ms: What is announced; 0 stands for 60,000 (P0-014).
        observer: Hears what happens to each connection.
    """

    def __init__(
        self,
        on_event: Callable[[Event], None],
        counters: Counters,
        idle_timeout_ms: int = 0,
        observer: Observer | None = None,
    ) -> None:
        self._on_event = on_event
        self._counters = counters
        self._idle_timeout_ms = idle_timeout_ms
        self._observer = observer
        self._numbers = itertools.count(1)
        self._acceptor = Acceptor(self._accept)
        self._streams: dict[bytes, RouterStream] = {}
        self._connections: set[_Accepted] = set()
        self._none_left = asyncio.Event()
        self._none_left.set()

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 takes a free port, see `address`.

        Raises:
            OSError: the address cannot be listened on.
        """
        await self._acceptor.listen(host, port)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port listened on."""
        return self._acceptor.names[0]

    @property
    def connections(self) -> int:
        """Connections that are open, idle ones included."""
        return len(self._connections)

    def buffered_bytes(self) -> int:
        """Return the octets of control frames that wait to be written."""
        return sum(one.buffered_bytes for one in [*self._connections])

    def expect(self, stream: RouterStream) -> None:
        """Accept HELLOs of a stream from now on."""
        self._streams[stream.request_id] = stream

    def forget(self, stream: RouterStream) -> None:
        """Know a stream and its token no more."""
        self._streams.pop(stream.request_id, None)

    async def close(self) -> None:
        """Close every connection and return when all are gone."""
        self._acceptor.close()
        for connection in [*self._connections]:
            connection.close()
        try:
            await self._none_left.wait()
        finally:
            for connection in [*self._connections]:
                connection.pump.abort()

    def _accept(self) -> asyncio.Protocol:
        self._counters.opened += 1
        number = next(self._numbers)
        connection = _Accepted(
            self._judge,
            partial(self._hear, number),
            self._gone,
            self._idle_timeout_ms,
            self._counters,
        )
        self._connections.add(connection)
        self._none_left.clear()
        return connection.pump

    def _gone(self, connection: _Accepted) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._none_left.set()

    def _hear(self, number: int, peer: str, event: Event) -> None:
        if not isinstance(event, Idle | ConnectionEnded):
            self._on_event(event)
        elif self._observer is not None and getattr(event, "first", True):
            self._observer(number, peer, event)

    def _judge(self, request_id: bytes, token: bytes) -> RouterStream | int:
        """Decide about a HELLO (P0-018, P0-019)."""
        stream = self._streams.get(request_id)
        right = hmac.compare_digest(token, _NOBODY if stream is None else stream.token)
        if stream is None or not right:
            return ErrorCode.NOT_FOUND
        return stream.verdict_on_hello or stream


class _Accepted:
    """One connection of a worker."""

    def __init__(
        self,
        judge: Callable[[bytes, bytes], RouterStream | int],
        on_event: Callable[[str, Event], None],
        on_gone: Callable[[_Accepted], None],
        idle_timeout_ms: int,
        counters: Counters,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._hear = on_event
        self._core = RouterEnd(judge, self._loop.time(), idle_timeout_ms, self._wake, counters)
        self.pump = Pump(self._core, self._on_event, lambda: on_gone(self))

    def close(self) -> None:
        self._core.close(self._loop.time())

    @property
    def buffered_bytes(self) -> int:
        return self._core.buffered_bytes

    def _wake(self) -> None:
        self.pump.touch()

    def _on_event(self, event: Event) -> None:
        self._hear(self.pump.peer, event)
