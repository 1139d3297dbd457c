"""Run the program that wraps the client under test: operations out, events in.

Rules of this file:

* One process for each case, in a session of its own: ``kill`` ends it with all its children.
* What the driver does wrong (a line outside the grammar, an exit before ``closed``, silence) is
  written down once, in ``fault``, and makes the case INCONCLUSIVE, never FAIL.
* Waiting has an end always.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shlex
import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from muxwire_spec.driver import PROTOCOL

from muxwire_conformance.client_mode.grammar import GrammarError, Order, read_event
from muxwire_conformance.target import Address
from muxwire_conformance.transcript import Entry, Transcript
from muxwire_conformance.verdict import NotApplicable, Unprepared

READY_TIME = 5.0
EXIT_TIME = 2.0
MOST_LINE = 128 * 1024 * 1024
SHOWN = 160


class DriverFault(Unprepared):
    """The driver, not the client, is at fault: nothing was shown."""


def split_command(command: str, address: Address) -> list[str]:
    """Split a command line and put the address in.

    Raises:
        ValueError: it cannot be split, or is empty.
    """
    words = shlex.split(command)
    if not words:
        raise ValueError("the command is empty")
    host = f"[{address.host}]" if ":" in address.host else address.host
    return [word.replace("{host}", host).replace("{port}", str(address.port)) for word in words]


def names_address(command: str) -> bool:
    """Tell whether the command line gives the driver the address of the judge."""
    return "{host}" in command or "{port}" in command


class Driver:
    """One running driver.

    Attributes:
        features: What it declared in ``ready``, its transports included.
        name: What it calls itself there.
        events: Every event so far, in order, each with ``at`` (monotonic seconds).
        fault: What it did wrong, "" for nothing.
        transcript: Operations and events, for the report.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.features: frozenset[str] = frozenset()
        self.name = ""
        self.events: list[dict[str, Any]] = []
        self.fault = ""
        self.status: int | None = None
        self.transcript = Transcript(label="driver", started=time.monotonic(), peer="client")
        self._order = Order()
        self._errors: deque[str] = deque(maxlen=20)
        self._activity = asyncio.Event()
        self._closing = False
        self._tasks = [
            asyncio.create_task(self._read_events()),
            asyncio.create_task(self._read_errors()),
        ]

    @classmethod
    async def start(cls, command: str, address: Address, *, slack: float = 0.0) -> Driver:
        """Start the program and wait for ``ready``.

        Args:
            command: The command line; ``{host}`` and ``{port}`` are replaced.
            address: Where the judge listens.
            slack: Seconds to add to the time of ``ready``, for a slow machine.

        Raises:
            DriverFault: it did not start, or did not say ``ready`` in 5 s.
        """
        try:
            process = await cls._spawn(split_command(command, address))
        except (OSError, ValueError) as error:
            raise DriverFault("a driver that starts", str(error)) from error
        driver = cls(process)
        try:
            await driver.until(lambda: bool(driver.events), READY_TIME + slack)
            if not driver.events:
                driver._blame(f"no ready event within {READY_TIME:g} s")
            driver.require()
        except BaseException:
            await driver.kill()
            raise
        ready = driver.events[0]
        driver.features = frozenset([*ready["features"], *ready["transports"]])
        driver.name = ready["driver"]
        return driver

    @staticmethod
    async def _spawn(words: Sequence[str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=MOST_LINE,
        )

    # -- in --------------------------------------------------------------------------------

    async def _read_events(self) -> None:
        output = self.process.stdout
        try:
            while output is not None and not self.fault and (line := await output.readline()):
                self._take(line)
        except (ValueError, asyncio.IncompleteReadError):
            self._blame("a line longer than 128 MiB")
        while output is not None and await output.read(65_536):
            pass
        self.status = await self.process.wait()
        if self.status != 0 or not self._order.closed:
            said = "" if self._order.closed else " before closed"
            self._blame(f"an exit with status {self.status}{said}")
        self._activity.set()

    def _take(self, line: bytes) -> None:
        now = time.monotonic()
        text = line[:SHOWN].decode("utf-8", "replace").rstrip()
        self.transcript.add(Entry(at=now, who="target", text=text))
        try:
            event = read_event(line)
            self._order.take(event)
        except GrammarError as error:
            self._blame(str(error))
        else:
            event["at"] = now
            self.events.append(event)
        self._activity.set()

    async def _read_errors(self) -> None:
        stream = self.process.stderr
        with contextlib.suppress(ValueError):
            while stream is not None and (line := await stream.readline()):
                self._errors.append(line.decode("utf-8", "replace").rstrip())

    def _blame(self, text: str) -> None:
        if not self.fault:
            self.fault = text
            self.transcript.event(f"the driver is at fault: {text}", time.monotonic())
        self._activity.set()

    @property
    def complaint(self) -> str:
        """Return the fault with the last lines of standard error."""
        tail = " / ".join(list(self._errors)[-5:])
        return f"{self.fault}; standard error: {tail}" if tail else self.fault

    def require(self) -> None:
        """End the case if the driver is at fault.

        Raises:
            DriverFault: it is.
        """
        if self.fault:
            raise DriverFault(f"a driver that keeps {PROTOCOL}", self.complaint)

    # -- out -------------------------------------------------------------------------------

    def op(self, name: str, **members: object) -> None:
        """Write one operation."""
        line = json.dumps({"op": name, **members}, separators=(",", ":"))
        self.transcript.add(Entry(at=time.monotonic(), who="judge", text=line[:SHOWN]))
        if name == "request":
            self._order.requested.add(str(members["ref"]))
        pipe = self.process.stdin
        if pipe is not None and not self._closing:
            with contextlib.suppress(OSError, RuntimeError):
                pipe.write(line.encode() + b"\n")

    # -- waiting ---------------------------------------------------------------------------

    async def until(self, ready: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until ``ready()``, a fault, the exit, or the deadline; tell if ready."""
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        while not ready():
            if self.fault or self.status is not None:
                return False
            self._activity.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._activity.wait()
            except TimeoutError:
                for _ in range(3):
                    await asyncio.sleep(0)
                return ready()
        return True

    def of(self, ref: str, *names: str) -> list[dict[str, Any]]:
        """Return the events of a request, all or those with one of the names."""
        return [
            event
            for event in self.events
            if event.get("ref") == ref and (not names or event["event"] in names)
        ]

    def named(self, *names: str) -> list[dict[str, Any]]:
        """Return the events with one of the names."""
        return [event for event in self.events if event["event"] in names]

    def objection(self) -> Unprepared | NotApplicable | None:
        """Return why an operation had no effect, if one had none."""
        for event in self.named("unsupported"):
            feature = event.get("feature", "")
            if feature and feature not in self.features:
                return NotApplicable(f"the driver does not declare: {feature}")
            return DriverFault(f"the operation {event['op']}", f"unsupported ({feature or '?'})")
        for event in self.named("invalid"):
            return DriverFault("an operation that the driver takes", f"invalid: {event['message']}")
        return None

    # -- ending ----------------------------------------------------------------------------

    async def close(self, *, slack: float = 0.0) -> None:
        """End the standard input, which means ``close``: ``closed`` and exit status 0 follow.

        Raises:
            DriverFault: it did not end so.
        """
        if not self._closing:
            self._closing = True
            if self.process.stdin is not None:
                with contextlib.suppress(OSError, RuntimeError):
                    self.process.stdin.close()
        await self.until(lambda: self.status is not None, EXIT_TIME + slack)
        if self.status is None:
            self._blame(f"no exit within {EXIT_TIME:g} s of close")
        await self.kill()
        self.require()

    async def kill(self) -> None:
        """End the process and its children at once, and wait for it."""
        self._closing = True
        if self.process.returncode is None:
            self._end_process()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.process.wait()
        transport = getattr(self.process, "_transport", None)
        if transport is not None:
            transport.close()

    def _end_process(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


def encode(data: bytes) -> str:
    """Return octets in base64."""
    return base64.b64encode(data).decode()


def decode(text: str) -> bytes:
    """Return the octets of base64."""
    return base64.b64decode(text)


def connect_members(
    features: frozenset[str],
    *,
    settings: Mapping[str, int] | None = None,
    connections: int = 1,
    addrs: Sequence[str] = (),
    timing: Mapping[str, int] | None = None,
) -> dict[str, object]:
    """Return the members of ``connect`` that the driver takes.

    Raises:
        NotApplicable: the case needs one that it does not take.
    """
    members: dict[str, object] = {}
    for name, value, feature in (
        ("settings", dict(settings or {}), "settings"),
        ("connections", connections if connections > 1 else 0, "connections"),
        ("addrs", list(addrs), "connections" if len(addrs) > 1 else ""),
    ):
        if not value:
            continue
        if feature and feature not in features:
            raise NotApplicable(f"the driver does not declare: {feature}")
        members[name] = value
    if timing and "timing" not in features:
        raise NotApplicable("the driver does not declare: timing")
    return {**members, **(timing or {})}
