"""The report as one JSON document that is whole after every result.

Each result is written over the closing part of the document, which is then written again. A run
that is killed leaves a valid document with ``"complete": false``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from muxwire_conformance.explain import decode, rerun_command
from muxwire_conformance.rules import rule
from muxwire_conformance.session import Summary
from muxwire_conformance.transcript import Transcript
from muxwire_conformance.verdict import Result, Verdict

FORMAT = 1


class JsonReport:
    """Write the document to a file.

    Args:
        path: The file; it is replaced.
        head: Members about the run: target, seed, versions, info.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self._target = str(head.get("target", ""))
        self._seed = int(head.get("seed", 0))
        self._first = True
        self._file = path.open("w+", encoding="utf-8")
        opening = json.dumps({"format": FORMAT, **head}, indent=1)
        self._file.write(opening.removesuffix("\n}") + ',\n "results": [')
        self._tail_at = self._file.tell()
        self._write_tail(None)

    def result(self, result: Result) -> None:
        """Append one result."""
        self._file.seek(self._tail_at)
        self._file.write("\n" if self._first else ",\n")
        self._first = False
        self._file.write(json.dumps(self._describe(result)))
        self._tail_at = self._file.tell()
        self._write_tail(None)

    def finish(self, summary: Summary) -> None:
        """Write the summary and close the file."""
        self._file.seek(self._tail_at)
        self._write_tail(summary)
        self._file.close()

    def _write_tail(self, summary: Summary | None) -> None:
        counts = asdict(summary) if summary is not None else None
        complete = summary is not None and not summary.interrupted
        self._file.write(
            f'\n ],\n "summary": {json.dumps(counts)},\n "complete": {json.dumps(complete)}\n}}\n'
        )
        self._file.truncate()
        self._file.flush()

    def _describe(self, result: Result) -> dict[str, Any]:
        known = rule(result.requirement)
        entry: dict[str, Any] = {
            "id": result.id,
            "title": result.title,
            "verdict": result.verdict.value,
            "requirement": known.id,
            "level": known.level,
            "seconds": round(result.seconds, 4),
            "ran": result.ran,
            "checks": [asdict(check) for check in result.checks],
        }
        if result.verdict is Verdict.PASS:
            return entry
        entry |= {
            "rule": known.text,
            "source": known.source,
            "reason": result.reason,
            "attempts": [verdict.value for verdict in result.attempts],
            "expected": result.expected,
            "actual": result.actual,
            "violations": [
                {"requirement": seen.requirement, "text": seen.text} for seen in result.violations
            ],
            "rerun": rerun_command(result.rerun or result.id, target=self._target, seed=self._seed),
            "connections": [_transcript(one) for one in result.transcripts],
        }
        if result.traceback:
            entry["traceback"] = result.traceback
        return entry


def _transcript(transcript: Transcript) -> dict[str, Any]:
    return {
        "label": transcript.label,
        "entries": [
            {
                "ms": round((entry.at - transcript.started) * 1_000, 3),
                "who": entry.who,
                "text": entry.text,
                "hex": entry.raw.hex(),
                "length": entry.length,
                "marked": entry.marked,
                "note": entry.note,
                "fields": decode(entry),
            }
            for entry in transcript.entries()
        ],
    }
