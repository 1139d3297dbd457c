"""`muxwire driver`: the client, commanded by a tester over standard input and output."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import suppress

import click

from muxwire.cli import types
from muxwire.cli.loop import run
from muxwire.driving import Session
from muxwire.driving.lines import Lines

EXIT_UNHEARD = 1
EXIT_INTERRUPTED = 130

_CHUNK = 262_144


@click.command()
@click.argument("address", nargs=-1, metavar="[HOST:PORT | HOST PORT]")
def driver(address: tuple[str, ...]) -> None:
    """Let a tester command the client: wmx-driver/1 on standard input and output.

    The driver reads one JSON object a line and writes one a line, as section
    19.4 of the specification says. The address is that of the worker; the
    operation "connect" may name others.

    \b
    Exit codes: 0 closed, 1 nobody reads the output, 2 wrong usage,
    130 interrupted.

    \b
    Examples:
      muxwire driver 127.0.0.1:9000
      muxwire-conformance check-client --client-cmd 'muxwire driver {host} {port}'
      echo '{"op": "sync", "id": 1}' | muxwire driver
    """  # noqa: D301 - click wants a backspace
    try:
        sys.exit(run(_drive(_target(address))))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _target(address: tuple[str, ...]) -> str | None:
    """Return the address as one word."""
    if not address:
        return None
    if len(address) > 2:
        raise click.UsageError("give HOST:PORT, or HOST PORT")
    host, *port = address
    text = f"[{host}]:{port[0]}" if port and ":" in host else ":".join(address)
    types.address(text)
    return text


async def _drive(target: str | None) -> int:
    output = _Output()
    session = Session(target, output.write)
    # A thread, since standard input may be a pipe, a file or a terminal. It ends with the process.
    reader = _Reader(asyncio.get_running_loop(), session)
    threading.Thread(target=reader.run, daemon=True).start()
    running = asyncio.create_task(session.run())
    unheard = asyncio.create_task(output.broken.wait())
    await asyncio.wait((running, unheard), return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    unheard.cancel()
    return EXIT_UNHEARD if output.broken.is_set() else 0


class _Reader:
    """Reads standard input in a thread of its own, a piece at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, session: Session) -> None:
        self._loop = loop
        self._session = session
        self._lines = Lines()
        self._taken = threading.Event()

    def run(self) -> None:
        """Read to the end, or until the loop is closed."""
        with suppress(RuntimeError):
            while data := os.read(sys.stdin.fileno(), _CHUNK):
                self._taken.clear()
                self._loop.call_soon_threadsafe(self._take, data)
                self._taken.wait()
            self._loop.call_soon_threadsafe(self._session.end)

    def _take(self, data: bytes) -> None:
        try:
            for line in self._lines.feed(data):
                self._session.take(line)
        finally:
            self._taken.set()


class _Output:
    """Standard output, unbuffered."""

    def __init__(self) -> None:
        self.broken = asyncio.Event()

    def write(self, line: bytes) -> None:
        """Write a line, unless nobody reads any more."""
        rest = memoryview(line)
        try:
            while rest and not self.broken.is_set():
                rest = rest[os.write(sys.stdout.fileno(), rest) :]
        except OSError:
            self.broken.set()
