"""The connections of the model worker to one router: a stack of idle ones and a queue of streams.

The rules of this file: at most 50 (P0-015), the one used last first, streams in order of arrival,
and a stream that has waited 10 s is given up (P0-001).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from model_home_connection import PREFACE_TIME, HomeConnection, State
from model_home_stream import HomeStream

if TYPE_CHECKING:
    from model_home import Home

MOST = 50
ACQUIRE_TIME = 10.0


class Target:
    """One address of a router."""

    def __init__(self, home: Home, host: str, port: int) -> None:
        self.home = home
        self.host = host
        self.port = port
        self.idle: list[HomeConnection] = []
        self.open: set[HomeConnection] = set()
        self.dialling = 0
        self.waiting: deque[HomeStream] = deque()
        self.tasks: set[asyncio.Task[None]] = set()

    def place(self, stream: HomeStream, *, fresh: bool) -> None:
        """Give a stream a connection, or let it wait."""
        if self.idle and not fresh:
            oldest = self.home.flaw("home-oldest-first") and len(self.idle) > 1
            self.idle.pop(0 if oldest else -1).hello(stream)
        elif self._room():
            self._dial(stream)
        else:
            self.waiting.append(stream)
            loop = self.home.loop
            stream.waits = stream.waits or loop.call_later(ACQUIRE_TIME, stream.forget)

    def _room(self) -> bool:
        if len(self.open) + self.dialling < MOST:
            return True
        return self.home.flaw("home-no-limit")

    def _dial(self, stream: HomeStream) -> None:
        self.dialling += 1
        task = self.home.loop.create_task(self._connect(stream))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _connect(self, stream: HomeStream) -> None:
        made = HomeConnection(self, stream)
        try:
            async with asyncio.timeout(PREFACE_TIME):
                await self.home.loop.create_connection(lambda: made, self.host, self.port)
        except (OSError, TimeoutError):
            self.dialling -= 1
            self.home.attempt_failed(stream)
            return
        self.dialling -= 1
        if made.state is not State.CLOSED:
            self.open.add(made)

    def freed(self, conn: HomeConnection) -> None:
        """Hand a free connection to the next stream, or keep it."""
        while self.waiting:
            late = self.home.flaw("home-waiters-in-reverse")
            stream = self.waiting.pop() if late else self.waiting.popleft()
            if not stream.gone:
                if stream.waits is not None:
                    stream.waits.cancel()
                conn.hello(stream)
                return
        self.idle.append(conn)

    def lost(self, conn: HomeConnection) -> None:
        """Forget a connection; a stream that waits may dial now."""
        self.open.discard(conn)
        if conn in self.idle:
            self.idle.remove(conn)
        while self.waiting and self._room():
            stream = self.waiting.popleft()
            if not stream.gone:
                self._dial(stream)
