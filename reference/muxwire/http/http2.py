"""Carries attempts over HTTP/2: a few connections to a worker, many attempts on each.

Rules of this file: a connection is dialled when those that are there have no room.  Whoever finds
none waits in order; how long, is the attempt's business.
"""

from __future__ import annotations

import asyncio
from collections import deque

from muxwire.http.attempt import Attempt
from muxwire.http.http2connection import Connection
from muxwire.http.target import Target
from muxwire.tcp.address import explain

CONNECTIONS = 4
"""Connections to one worker at most."""

_CLOSE_WAIT = 1.0
"""Seconds for the last octets of a connection."""


class Http2:
    """Carries attempts to one worker.

    Args:
        connect_timeout: Seconds until a connection has the worker's SETTINGS.
        target: The worker.
    """

    def __init__(self, connect_timeout: float, target: Target) -> None:
        self._connect_timeout = connect_timeout
        self._target = target
        self._connections: list[Connection] = []
        self._waiting: deque[_Waiting] = deque()
        self._dialling: asyncio.Task[None] | None = None

    def start(self, attempt: Attempt) -> None:
        """Open a stream, now or when there is room."""
        connection = self._roomy()
        if connection is not None and not self._waiting:
            connection.start(attempt)
            return
        waiting = _Waiting(self, attempt)
        attempt.carrier = waiting
        self._waiting.append(waiting)
        self._dial()

    def give_up(self, waiting: _Waiting) -> None:
        """Let an attempt wait no more."""
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    async def close(self) -> None:
        """Close the connections."""
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait((self._dialling,))
        closing = [connection.over for connection in self._connections]
        for connection in [*self._connections]:
            connection.close()
        if closing:
            await asyncio.wait(closing, timeout=_CLOSE_WAIT)
        for connection in [*self._connections]:
            connection.abort()
        await asyncio.gather(*closing)

    # -- the connections

    def _roomy(self) -> Connection | None:
        """Return the connection with the most room."""
        best = max(self._connections, key=lambda one: one.room, default=None)
        return best if best is not None and best.room > 0 else None

    def _serve(self) -> None:
        """Start who waits, as far as there is room."""
        self._connections = [one for one in self._connections if not one.over.done()]
        while self._waiting and (connection := self._roomy()):
            attempt = self._waiting.popleft().attempt
            attempt.carrier = None
            connection.start(attempt)
        if self._waiting:
            self._dial()

    def _dial(self) -> None:
        usable = sum(connection.usable for connection in self._connections)
        if self._dialling is None and usable < CONNECTIONS:
            self._dialling = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        """Make one more connection, and start who waits for it."""
        url = self._target.url
        connection = Connection(url.netloc, self._serve)
        try:
            async with asyncio.timeout(self._connect_timeout):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, url.hostname or "", url.port or 80
                )
                self._connections.append(connection)
                await connection.ready
        except OSError as error:  # TimeoutError is one
            connection.abort()
            self._dialling = None
            self._fail(f"{self._target.target}: {explain(error) or 'no HTTP/2 in time'}")
        except asyncio.CancelledError:
            connection.abort()
            raise
        else:
            self._dialling = None
            self._target.reached()
            self._serve()

    def _fail(self, message: str) -> None:
        """Fail who waits, unless there is another connection to wait for."""
        if any(connection.usable for connection in self._connections):
            return
        self._target.unreachable()
        waiting, self._waiting = self._waiting, deque()
        for one in waiting:
            one.attempt.carrier = None
            one.attempt.cut(message)


class _Waiting:
    """An attempt that waits for room."""

    def __init__(self, way: Http2, attempt: Attempt) -> None:
        self._way = way
        self.attempt = attempt

    def resume(self) -> None:
        """Do nothing: nothing has come."""

    def drop(self) -> None:
        """Wait no more."""
        self._way.give_up(self)
