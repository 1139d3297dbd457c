"""One result as plain data: what JSON, JSONL, HTML and ``compare`` are made of.

A case that passed has no transcript; everything else carries its evidence, so that a report can be
read without the judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from muxwire_conformance.causes import likely_cause
from muxwire_conformance.explain import annotated, replay_command, rerun_command
from muxwire_conformance.rules import rule
from muxwire_conformance.transcript import Entry, Transcript
from muxwire_conformance.verdict import Result, Verdict


def describe(result: Result, head: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result as members of JSON types.

    Args:
        result: The result.
        head: Members about its run; the target and the seed are used.
    """
    known = rule(result.requirement)
    entry: dict[str, Any] = {
        "id": result.id,
        "title": result.title,
        "path": result.path,
        "verdict": result.verdict.value,
        "requirement": known.id,
        "level": known.level,
        "seconds": round(result.seconds, 4),
        "ran": result.ran,
        "checks": [asdict(check) for check in result.checks],
    }
    if result.verdict is Verdict.PASS:
        return entry
    first = min((one.started for one in result.transcripts), default=0.0)
    target, seed = str(head.get("target", "")), int(head.get("seed", 0))
    entry |= {
        "rule": known.text,
        "source": known.source,
        "reason": result.reason,
        "attempts": [verdict.value for verdict in result.attempts],
        "expected": result.expected,
        "actual": result.actual,
        "cause": likely_cause(result),
        "known": result.known,
        "violations": [
            {"requirement": seen.requirement, "text": seen.text} for seen in result.violations
        ],
        "rerun": rerun_command(
            result.rerun or result.id, target=target, seed=seed, role=result.role
        ),
        "replay": replay_command(result),
        "connections": [_transcript(one, first) for one in result.transcripts],
    }
    if result.traceback:
        entry["traceback"] = result.traceback
    return entry


def _transcript(transcript: Transcript, first: float) -> dict[str, Any]:
    return {
        "label": transcript.label,
        "started_ms": round((transcript.started - first) * 1_000, 3),
        "entries": [_entry(entry, transcript.started) for entry in transcript.entries()],
    }


def _entry(entry: Entry, started: float) -> dict[str, Any]:
    return {
        "ms": round((entry.at - started) * 1_000, 3),
        "who": entry.who,
        "text": entry.shown,
        "hex": entry.raw.hex(),
        "length": entry.length,
        "marked": entry.marked,
        "note": entry.note,
        "fields": [
            {
                "at": line.offset,
                "octets": len(line.octets),
                "name": line.field,
                "value": line.value,
                **({"fault": fault} if fault else {}),
            }
            for line, fault in annotated(entry)
        ],
    }
