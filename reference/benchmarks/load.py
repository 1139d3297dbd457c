"""What the child processes share: the load, and what it costs.

Rules of this file: the load is a closed loop, the same for every system with an `await`: so many
tasks, each of which sends its next request when it has the answer to the last.  Counting begins
after a warm-up, and every answer is compared with what was sent.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

PAYLOAD = bytes(range(64))
ITEM = b"0123456789abcdefghijklmnopqrstuv"
PATIENCE = 30.0
"""Seconds that any single request may take."""
SETTLING = 8.0
"""Seconds that a load may take to get going, beyond its warm-up."""

Call = Callable[[], Awaitable[object]]

_PR_SET_PDEATHSIG = 1
_SPARE_FILES = 8_192


def die_with_parent() -> None:
    """Ask the kernel to end this process with its parent; only Linux can."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    except (AttributeError, OSError):
        return


def raise_file_limit() -> int:
    """Allow as many open files as this process may have, and return their number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _SPARE_FILES if hard == resource.RLIM_INFINITY else min(hard, _SPARE_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def own_pids() -> list[int]:
    """Return this process, as a list."""
    return [os.getpid()]


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time of all threads of some processes; 0 where /proc does not tell."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except (OSError, IndexError, ValueError):
                continue
    return total / 1e9


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024


class Meter:
    """Counts what was done between `begin` and `end`.

    Attributes:
        done: Units of work, counted by the load.
        errors: Requests that failed or had a wrong answer.
        example: The first error.
        latencies: Nanoseconds of single requests.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self.done = 0
        self.errors = 0
        self.example = ""
        self.latencies: list[int] = []
        self._pids = [*pids, *own_pids()]
        self._start = self._time = self._cpu = 0.0

    def failed(self, error: object) -> None:
        """Count an error."""
        self.errors += 1
        self.example = self.example or " ".join(str(error).split())[:120]

    def begin(self) -> None:
        """Start counting."""
        self.latencies.clear()
        self._start = self.done
        self._cpu = cpu_seconds(self._pids)
        self._time = time.perf_counter()

    def end(self) -> dict[str, Any]:
        """Return what was counted."""
        seconds = time.perf_counter() - self._time
        cpu = cpu_seconds(self._pids) - self._cpu
        done = self.done - self._start
        latencies = sorted(self.latencies)
        return {
            "done": done,
            "seconds": seconds,
            "rate": done / seconds,
            "cpu_us": 1e6 * cpu / done if done else None,
            "errors": self.errors,
            "example": self.example,
            "p50_us": statistics.median(latencies) / 1e3 if latencies else None,
            "p99_us": latencies[len(latencies) * 99 // 100] / 1e3 if latencies else None,
        }


async def _everyone_served(meter: Meter, tasks: int) -> None:
    """Wait until there were as many answers as there are tasks, so that the wave has broken up."""
    end = time.perf_counter() + SETTLING
    while meter.done + meter.errors < tasks and time.perf_counter() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def closed_loop(
    calls: Sequence[Call],
    *,
    in_flight: int,
    expected: object,
    seconds: float,
    warmup: float,
    pids: Sequence[int],
    timed: bool = False,
) -> dict[str, Any]:
    """Keep `in_flight` requests of every call running and count what comes back.

    Args:
        calls: What to send; one for each connection.
        in_flight: Requests at a time, for each call.
        expected: What every answer equals.
        seconds: How long to count.
        warmup: How long to wait before, at the least.
        pids: The server's processes.
        timed: Take the time of each request; with a single one that is done anyway.
    """
    meter = Meter(pids)
    going = True
    timed = timed or (in_flight == 1 and len(calls) == 1)
    clock = time.perf_counter_ns

    async def keep_busy(call: Call) -> None:
        while going:
            begun = clock() if timed else 0
            try:
                answer = await call()
            except Exception as error:
                meter.failed(f"{type(error).__name__}: {error}")
                if meter.errors > 1_000:
                    return
                continue
            if answer == expected:
                meter.done += 1
            else:
                meter.failed("a wrong answer")
            if timed:
                meter.latencies.append(clock() - begun)

    tasks = [asyncio.create_task(keep_busy(call)) for call in calls for _ in range(in_flight)]
    await asyncio.sleep(warmup)
    await _everyone_served(meter, len(tasks))
    meter.begin()
    await asyncio.sleep(seconds)
    result = meter.end()
    going = False
    _, late = await asyncio.wait(tasks, timeout=PATIENCE)
    for task in late:
        task.cancel()
        meter.failed("no answer in time")
    return {**result, "errors": meter.errors, "example": meter.example}


async def repeat(
    once: Callable[[], Awaitable[int]], *, expected: int, seconds: float, pids: Sequence[int]
) -> dict[str, Any]:
    """Do something that yields `expected` units again and again, once before the counting."""
    meter = Meter(pids)
    await once()
    meter.begin()
    end = time.perf_counter() + seconds
    while True:
        units = await once()
        meter.done += units
        if units != expected:
            meter.failed(f"{units} instead of {expected}")
        if time.perf_counter() >= end:
            return meter.end()
