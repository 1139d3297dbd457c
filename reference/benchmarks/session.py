"""One run of the benchmark: its options, its time, its progress, its children."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from children import Child, ChildError, UnavailableError
from results import Group

GRACE = 15.0
"""Seconds beyond its own length that a measurement may take."""


class Session:
    """What all groups share.

    Args:
        runs: How often everything is measured.
        quick: Shorter windows and smaller numbers.
        limit: Seconds that the whole benchmark may take.
    """

    def __init__(self, runs: int, quick: bool, limit: float) -> None:
        self.count = runs
        self.quick = quick
        self.window = 0.2 if quick else 0.5
        self.warmup = 0.05 if quick else 0.15
        self._end = time.monotonic() + limit

    @property
    def left(self) -> float:
        """Seconds left."""
        return self._end - time.monotonic()

    def say(self, text: str) -> None:
        """Tell the progress."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def runs(self, group: Group) -> Iterator[int]:
        """Count the runs, and stop early when the time is used up."""
        for run in range(self.count):
            if self.left <= 0:
                group.notes.append(f"Stopped after {run} of {self.count} runs: out of time.")
                return
            self.say(f"{group.name}: run {run + 1} of {self.count}")
            yield run

    def ask(
        self, group: Group, row: str, child: Child, command: str, length: float, /, **options: Any
    ) -> dict[str, Any] | None:
        """Let a driver measure; None, and a note, if it fails.

        Args:
            group: Where to keep the answer.
            row: Whose figure it is.
            child: The driver.
            command: What to do.
            length: Seconds that it should take.
            options: What the command needs to know.
        """
        try:
            answer = child.ask(command, length + GRACE, **options)
        except ChildError as error:
            self.say(f"{group.name}: {row}: {error}")
            group.reasons[row] = f"failed: {error}"
            return None
        group.raw.append({"row": row, "command": command, "options": options, **answer})
        if answer.get("errors"):
            group.notes.append(f"{row}: {answer['errors']} errors, first: {answer['example']}")
        return answer


def start(
    stack: ExitStack,
    system: str,
    *,
    serve: dict[str, Any] | None = None,
    drive: dict[str, Any] | None = None,
) -> tuple[Child, Child]:
    """Start a server and the driver that is connected to it.

    Raises:
        UnavailableError: it cannot be measured here.
        ChildError: a process did not start.
    """
    server = stack.enter_context(Child("serve", system, serve))
    options = {"target": server.ready["target"], "pids": server.pids, **(drive or {})}
    return server, stack.enter_context(Child("drive", system, options))


def start_all(
    stack: ExitStack, session: Session, group: Group, systems: dict[str, str]
) -> dict[str, Child]:
    """Start every system that can be had; return the drivers by row, and note the reasons.

    Args:
        stack: What stops them.
        session: Tells the progress.
        group: Where the reasons go.
        systems: Rows and the systems behind them; equal systems share their processes.
    """
    drivers: dict[str, Child] = {}
    started: dict[str, Child] = {}
    for row, system in systems.items():
        group.rows.append(row)
        if system not in started:
            session.say(f"{group.name}: starting {system}")
            try:
                started[system] = start(stack, system)[1]
            except UnavailableError as reason:
                group.reasons[row] = f"not measured: {reason}"
                continue
            except ChildError as error:
                group.reasons[row] = f"not measured: {error}"
                continue
        drivers[row] = started[system]
    return drivers


def rotated(rows: Sequence[str], run: int) -> list[str]:
    """Return the rows in another order for each run, so that nobody is always the first."""
    turn = run % len(rows)
    return [*rows[turn:], *rows[:turn]]
