"""A target that the judge starts itself, and starts again when it has crashed.

Rules of this file:

* The port is one on which nothing listens, proven by a dial that is refused just before the start:
  what answers there later is what was started.
* The program gets no shell and a session of its own; when the judge ends, its whole session ends.
* A start has an end: the program listens in time, or it is stopped and its last words are told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import socket
import time
from collections import deque
from collections.abc import Sequence

from muxwire_conformance.target import START_TIMEOUT, Address, StartError, TargetError
from muxwire_conformance.transport import ConnectError, Transport

HOST = "127.0.0.1"
MOST_RESTARTS = 20
POLL = 0.05
STOP_TIME = 3.0


def read_command(template: str) -> list[str]:
    """Split a command; ``{port}`` has to occur in it, ``{host}`` may.

    Raises:
        TargetError: it cannot be split, or names no port.
    """
    try:
        words = shlex.split(template)
    except ValueError as error:
        raise TargetError(f"--target-cmd {template!r}: {error}") from error
    if not any("{port}" in word for word in words):
        raise TargetError(f"--target-cmd {template!r}: {{port}} does not occur in it")
    return words


class Launched:
    """The target as a child process of the judge.

    Args:
        words: The command, as ``read_command`` returns it.
        seconds: How long a start may take.
    """

    def __init__(self, words: Sequence[str], *, seconds: float = START_TIMEOUT) -> None:
        self._words = list(words)
        self._seconds = seconds
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._restarts = 0
        self._lock = asyncio.Lock()
        self.output: deque[str] = deque(maxlen=40)
        self.address = Address(host=HOST, port=_free_port())

    async def start(self) -> None:
        """Start the program and wait until it listens.

        Raises:
            StartError: it cannot be started, ends at once, or does not listen in time.
        """
        await self._prove_free()
        place = {"{host}": self.address.host, "{port}": str(self.address.port)}
        words = self._words
        for mark, text in place.items():
            words = [word.replace(mark, text) for word in words]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise StartError(f"{words[0]} cannot be started: {error.strerror}") from error
        self._reader = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout(self._seconds):
                while not await self._listens():
                    if self.obituary():
                        raise StartError(self.obituary())
                    await asyncio.sleep(POLL)
        except BaseException as error:
            await self.stop()
            if isinstance(error, TimeoutError):
                text = f"{words[0]} does not listen at {self.address} after {self._seconds:g} s"
                raise StartError(text) from error
            raise

    async def revive(self) -> bool:
        """Start the program again if it has ended; tell whether it runs now."""
        async with self._lock:
            if self._process is not None and self._process.returncode is None:
                return True
            if self._restarts >= MOST_RESTARTS:
                return False
            self._restarts += 1
            await self.stop()
            try:
                await self.start()
            except StartError:
                return False
            return True

    def obituary(self) -> str:
        """Say how the process ended, "" while it runs."""
        if self._process is None or self._process.returncode is None:
            return ""
        text = f"the target ended with status {self._process.returncode}"
        return f"{text}: {self.output[-1]}" if self.output else text

    async def stop(self) -> None:
        """End the process and what it has started: SIGTERM, then SIGKILL."""
        process = self._process
        if process is not None:
            _signal(process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_TIME)
            except TimeoutError:
                _signal(process.pid, signal.SIGKILL)
                await process.wait()
            _signal(process.pid, signal.SIGKILL)
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        stream = self._process.stdout if self._process is not None else None
        while stream is not None:
            try:
                line = await stream.readline()
            except ValueError:  # a line longer than the limit: what is left of it is read next
                continue
            if not line:
                return
            self.output.append(line.decode("utf-8", "replace").rstrip())

    async def _prove_free(self) -> None:
        ends = time.monotonic() + STOP_TIME  # what has just ended may still be going
        while await self._listens():
            if time.monotonic() > ends:
                raise StartError(f"something else listens at {self.address}")
            await asyncio.sleep(POLL)

    async def _listens(self) -> bool:
        try:
            transport = await Transport.connect(HOST, self.address.port, within=1.0)
        except ConnectError as error:
            return not error.refused
        transport.close()
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _signal(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
