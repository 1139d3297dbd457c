"""The report as JSON lines, written while the judge runs: a run that is killed has its report.

A line has a ``kind``: ``run`` opens the run of one target, ``result`` is one case, ``summary`` ends
the run. Every line is flushed as soon as it is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from muxwire_conformance.report.json import FORMAT
from muxwire_conformance.report.record import describe
from muxwire_conformance.session import Summary
from muxwire_conformance.verdict import Result


class JsonLinesReport:
    """Write one line per event to a file.

    Args:
        path: The file; it is replaced.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)
        self._head: Mapping[str, Any] = {}

    def begin(self, head: Mapping[str, Any]) -> None:
        """Write what is known before the first case."""
        self._head = head
        self._line("run", {"format": FORMAT, **head})

    def result(self, result: Result) -> None:
        """Write one result."""
        self._line("result", describe(result, self._head))

    def finish(self, summary: Summary | None) -> None:
        """Write the counts of a run."""
        complete = summary is not None and not summary.interrupted
        counts = asdict(summary) if summary is not None else {}
        self._line("summary", {**counts, "complete": complete})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _line(self, kind: str, members: Mapping[str, Any]) -> None:
        # json escapes line separators and lone surrogates, so a line is a line.
        self._file.write(json.dumps({"kind": kind, **members}) + "\n")
        self._file.flush()
