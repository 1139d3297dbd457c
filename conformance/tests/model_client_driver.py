"""The model client as a driver inside the judge's own process: a start costs nothing.

The judge sees the same operations and events as from a program. The rule of this file: lines go in
and out through the event loop and never call the judge, so that nothing runs in another order than
between two processes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from typing import cast

from model_client import STDIN_PATIENCE, Client, Event
from muxwire_conformance.client_mode.driver import MOST_LINE, Driver

KILLED = -9


class Process:
    """What the judge uses of `asyncio.subprocess.Process`, around a client in this process."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.pid = 0
        self.returncode: int | None = None
        self.stdin = self
        self.stdout = asyncio.StreamReader(limit=MOST_LINE)
        self.stderr = asyncio.StreamReader()
        self.stderr.feed_eof()
        self._pending = bytearray()
        self._over = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self.client.closed
        await self.client.stop()
        if self.returncode is None:
            self.returncode = 0
        self.stdout.feed_eof()

    def write(self, data: bytes) -> None:
        """Take what the judge writes to standard input."""
        *lines, rest = (bytes(self._pending) + data).split(b"\n")
        self._pending[:] = rest
        for line in lines:
            self.client.loop.call_soon(self.client.line, line)

    def close(self) -> None:
        """End the standard input."""
        self.client.loop.call_soon(self.client.close)
        self.client.loop.call_later(STDIN_PATIENCE, self.client.give_up)

    def kill(self) -> None:
        """End at once."""
        self.returncode = KILLED
        self.client.give_up()

    async def wait(self) -> int:
        """Wait for the end, and return the exit status."""
        await self._over
        return cast(int, self.returncode)


def launcher(flaws: Iterable[str], reached: set[str]) -> type[Driver]:
    """Return a driver whose client has these flaws and says in `reached` which took effect."""
    chosen = tuple(flaws)

    class ModelDriver(Driver):
        """A driver without a process."""

        @staticmethod
        async def _spawn(words: Sequence[str]) -> asyncio.subprocess.Process:
            def write(event: Event) -> None:
                process.stdout.feed_data(json.dumps(event).encode() + b"\n")

            client = Client(write, chosen, words[1:])
            client.reached = reached
            process = Process(client)
            client.greet()
            return cast(asyncio.subprocess.Process, process)

        def _end_process(self) -> None:
            cast(Process, self.process).kill()

    return ModelDriver
