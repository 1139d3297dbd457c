"""The report for people: what is judged, what is wrong and why, and the counts at the end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from muxwire_conformance.explain import explain
from muxwire_conformance.report.collect import Run
from muxwire_conformance.session import Summary
from muxwire_conformance.verdict import Result, Verdict

_COLOURS = {
    Verdict.PASS: "32",
    Verdict.FAIL: "31;1",
    Verdict.FLAKY: "35;1",
    Verdict.WARN: "33",
    Verdict.XFAIL: "33",
    Verdict.XPASS: "31;1",
    Verdict.NOT_APPLICABLE: "2",
    Verdict.INCONCLUSIVE: "35",
    Verdict.ERROR: "31;1",
}
_QUIET = (Verdict.PASS, Verdict.NOT_APPLICABLE)


class TextReport:
    """Write results as they come and explanations below them.

    Args:
        out: Where the report goes.
        verbosity: -1 only the summary, 0 what did not pass, 1 every case and every frame.
        colour: Use ANSI colours.
        progress: Where a progress line goes, None for none.
    """

    def __init__(
        self,
        out: TextIO,
        *,
        verbosity: int = 0,
        colour: bool = False,
        progress: TextIO | None = None,
    ) -> None:
        self._out = out
        self._verbosity = verbosity
        self._colour = colour
        self._progress = progress
        self.broken = False
        self._same: Counter[tuple[Verdict, str]] = Counter()
        self._shown = 0
        self._runs: list[Run] = []

    def say(self, text: str) -> None:
        """Write one line."""
        self.clear_progress()
        if self.broken:
            return
        try:
            self._out.write(text + "\n")
            self._out.flush()
        except BrokenPipeError:
            # Nobody reads any more (| head): the other reports are still written.
            self.broken = True
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._out.fileno())

    def begin(self, head: Mapping[str, Any]) -> None:
        """Begin the run of one target."""
        self._runs.append(Run(head=head))

    def result(self, result: Result) -> None:
        """Write what one result deserves."""
        run = self._runs[-1]
        run.results.append(result)
        if self._verbosity < 0:
            return
        if result.verdict in _QUIET and self._verbosity < 1:
            return
        word = self._paint(result.verdict)
        reason = f"  {result.reason}" if result.reason else ""
        took = f"  ({result.seconds:.2f} s)" if self._verbosity > 0 and result.ran else ""
        if not result.ran and self._verbosity < 1:
            self._same[result.verdict, result.reason] += 1
            if self._same[result.verdict, result.reason] > 1:
                return  # one reason, one line; how many more there are is told at the end
        if result.verdict in _QUIET or not result.ran:
            self.say(f"{word:<4} {result.id}{took}{reason}")
            return
        seed = int(run.head.get("seed", 0))
        lines = explain(result, target=run.target, seed=seed, verbose=self._verbosity > 0)
        self.say("")
        self.say(f"{word} {result.id}{took}")
        for line in lines[1:]:
            self.say(line)
        self.say("")

    def finish(self, summary: Summary | None) -> None:
        """Write a line for each area and the summary, which is the last line about this target."""
        run = self._runs[-1]
        run.summary = summary
        self.clear_progress()
        if summary is None:
            return
        for (verdict, reason), count in self._same.items():
            if count > 1:
                self.say(f"{self._paint(verdict):<4} {count - 1} more cases: {reason}")
        self._same.clear()
        if self._verbosity >= 0:
            for line in area_lines(run.results):
                self.say(line)
        if summary.interrupted:
            self.say("interrupted: the report is partial")
        self.say(f"{summary.seconds:.1f} s")
        self.say(summary.line())

    def close(self) -> None:
        """Write one line for each target, if there are several."""
        if len(self._runs) < 2:
            return
        self.say("")
        width = max(len(run.target) for run in self._runs)
        for run in self._runs:
            line = "not judged" if run.summary is None else run.summary.line()
            self.say(f"{run.target:<{width}}  {line}")

    # -- progress --------------------------------------------------------------------------

    def show_progress(self, done: int, selected: int, running: Iterable[str]) -> None:
        """Replace the progress line."""
        if self._progress is None:
            return
        names = ", ".join(list(running)[:3])
        text = f"[{done}/{selected}] {names}"[:78]
        self.clear_progress()
        self._progress.write(text)
        self._progress.flush()
        self._shown = len(text)

    def clear_progress(self) -> None:
        """Remove the progress line."""
        if self._shown and self._progress is not None:
            self._progress.write("\r" + " " * self._shown + "\r")
            self._progress.flush()
            self._shown = 0

    def _paint(self, verdict: Verdict) -> str:
        word = verdict.value
        return f"\x1b[{_COLOURS[verdict]}m{word}\x1b[0m" if self._colour else word


def area_lines(results: Iterable[Result]) -> list[str]:
    """Return one line per area with its counts."""
    areas: dict[str, Counter[Verdict]] = {}
    for result in results:
        areas.setdefault(result.area, Counter())[result.verdict] += 1
    return [
        f"{area}  " + ", ".join(f"{count[verdict]} {verdict.value}" for verdict in count)
        for area, count in sorted(areas.items())
    ]


def wants_colour(stream: TextIO, environment: dict[str, str], *, forbidden: bool) -> bool:
    """Tell whether to use colours: a terminal, NO_COLOR, FORCE_COLOR, --no-color."""
    if forbidden or environment.get("NO_COLOR"):
        return False
    return bool(environment.get("FORCE_COLOR")) or stream.isatty()


def default_progress() -> TextIO | None:
    """Return the terminal for the progress line, None if nobody watches."""
    return sys.stderr if sys.stderr.isatty() and sys.stdout.isatty() else None
