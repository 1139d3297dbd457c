"""The report as one JSON document that is whole after every result.

Each result is written over the closing part of the document, which is then written again. A run
that is killed leaves a valid document with ``"complete": false``.

With one target the document is the run. With several it has the members ``format`` and ``runs``, a
list of such runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from muxwire_conformance.report.record import describe
from muxwire_conformance.session import Summary
from muxwire_conformance.verdict import Result

FORMAT = 1


class JsonReport:
    """Write the document to a file.

    Args:
        path: The file; it is replaced.
        several: There are several targets.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, *, several: bool = False) -> None:
        self._several = several
        self._head: Mapping[str, Any] = {}
        self._runs = 0
        self._first = True
        self._file = path.open("w", encoding="utf-8")
        self._end = "\n" + ("]}\n" if several else "")
        if several:
            self._file.write(f'{{"format": {FORMAT}, "runs": [\n')
        self._at = self._file.tell()
        self._write_tail(self._end if several else "{}\n")

    def begin(self, head: Mapping[str, Any]) -> None:
        """Begin the run of one target."""
        self._head = head
        self._first = True
        opening = json.dumps({"format": FORMAT, **head}, indent=1)
        self._append((",\n" if self._runs else "") + opening.removesuffix("\n}"))
        self._append(',\n "results": [')
        self._runs += 1
        self._write_tail(self._closing(None))

    def result(self, result: Result) -> None:
        """Append one result."""
        separator = "\n" if self._first else ",\n"
        self._first = False
        self._append(separator + json.dumps(describe(result, self._head)))
        self._write_tail(self._closing(None))

    def finish(self, summary: Summary | None) -> None:
        """Write the counts of a run."""
        closing = self._closing(summary).removesuffix(self._end)
        self._append(closing)
        self._write_tail(self._end)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, text: str) -> None:
        self._file.seek(self._at)
        self._file.write(text)
        self._at = self._file.tell()

    def _write_tail(self, text: str) -> None:
        self._file.seek(self._at)
        self._file.write(text)
        self._file.truncate()
        self._file.flush()

    def _closing(self, summary: Summary | None) -> str:
        counts = asdict(summary) if summary is not None else None
        complete = summary is not None and not summary.interrupted
        members = f'\n ],\n "summary": {json.dumps(counts)},\n "complete": {json.dumps(complete)}'
        return members + "\n}" + self._end


def runs_of(document: object) -> list[dict[str, Any]]:
    """Return the runs of a document, be it about one target or several.

    Raises:
        ValueError: it is no report of this suite; one clear line.
    """
    members = document if isinstance(document, dict) else {}
    runs = members.get("runs", [members])
    known = isinstance(runs, list) and all(
        isinstance(run, dict) and isinstance(run.get("results"), list) for run in runs
    )
    if members.get("format") != FORMAT or not known:
        raise ValueError(f"this is no JSON report of this suite (format {FORMAT})")
    return list(runs)
