"""Reports that are made at the end, from everything that was collected."""

from __future__ import annotations

import abc
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muxwire_conformance.session import Summary
from muxwire_conformance.verdict import Result, Verdict


@dataclass(slots=True, kw_only=True)
class Run:
    """One target and what came of it; without a summary it was not reached."""

    head: Mapping[str, Any]
    results: list[Result] = field(default_factory=list)
    summary: Summary | None = None

    @property
    def target(self) -> str:
        """Return the target as the user wrote it."""
        return str(self.head.get("target", ""))

    def counts(self) -> Counter[Verdict]:
        """Return how many results have which verdict."""
        return Counter(result.verdict for result in self.results)


class Collector:
    """Collect runs."""

    def __init__(self) -> None:
        self._runs: list[Run] = []

    def begin(self, head: Mapping[str, Any]) -> None:
        """Begin a run."""
        self._runs.append(Run(head=head))

    def result(self, result: Result) -> None:
        """Keep one result."""
        self._runs[-1].results.append(result)

    def finish(self, summary: Summary | None) -> None:
        """End a run."""
        self._runs[-1].summary = summary


class CollectedReport(Collector, abc.ABC):
    """Collect runs and write one file at the end.

    Args:
        path: The file; it is replaced now, so that one that cannot be written is known at once.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._open()

    def _open(self) -> None:
        self._path.write_text("", encoding="utf-8")

    def close(self) -> None:
        """Write the file."""
        self._path.write_text(self.render(self._runs), encoding="utf-8")

    @abc.abstractmethod
    def render(self, runs: Sequence[Run]) -> str:
        """Return the text of the file."""
