"""Conversations that were written down: by ``check`` as JSON or JSON lines, and by ``lint``.

Rules of this file:

* A file is read as a whole and checked once; afterwards everything has its type.
* An entry holds what was kept of its octets; ``length`` is how many there were.
* Who spoke is named by its side, ``client`` or ``worker``, whichever of them the judge played.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from muxwire_conformance.referee import CLIENT, WORKER
from muxwire_conformance.verdict import Result

EVENT = "event"


class RecordError(Exception):
    """The file is no record of conversations; the text is one clear line."""


@dataclass(slots=True, kw_only=True)
class Piece:
    """Octets of one side, or an event, at a time in milliseconds since the connection began."""

    ms: float
    sender: str
    text: str = ""
    octets: bytes = b""
    length: int = 0
    marked: bool = False


@dataclass(slots=True, kw_only=True)
class Conversation:
    """What was said on one connection."""

    label: str
    started_ms: float = 0.0
    pieces: list[Piece] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Record:
    """One case that did not pass, or one connection of ``lint``.

    ``judge`` is the side that the judge played, "" if it only listened.
    """

    id: str
    judge: str
    verdict: str = ""
    title: str = ""
    rule: str = ""
    expected: str = ""
    actual: str = ""
    target: str = ""
    seconds: float = 0.0
    conversations: list[Conversation] = field(default_factory=list)


def load(path: Path) -> list[Record]:
    """Read a report of ``check`` (JSON or JSON lines) or a log of ``lint --jsonl``.

    Raises:
        RecordError: the file cannot be read, or is something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path} cannot be read: {error}") from error
    try:
        return _records(text)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        text = f"{path} is no report of check and no log of lint: {type(error).__name__}: {error}"
        raise RecordError(text) from error


def of_result(result: Result) -> Record:
    """Return the record of a result that was never written down."""
    judge = WORKER if result.role == "client" else CLIENT
    other = WORKER if judge == CLIENT else CLIENT
    sides = {"judge": judge, "target": other, "event": EVENT}
    first = min((one.started for one in result.transcripts), default=0.0)
    record = Record(id=result.id, judge=judge, seconds=result.seconds)
    for transcript in result.transcripts:
        pieces = [
            Piece(
                ms=(entry.at - first) * 1_000,
                sender=sides[entry.who],
                text=entry.text,
                octets=entry.raw,
                length=entry.length,
                marked=entry.marked,
            )
            for entry in transcript.entries()
        ]
        started = (transcript.started - first) * 1_000
        conversation = Conversation(label=transcript.label, started_ms=started, pieces=pieces)
        record.conversations.append(conversation)
    return record


def find(records: Iterable[Record], id: str | None) -> Record:
    """Return the record of a case; without an id, the only one with octets of the judge.

    Raises:
        RecordError: there is none, or without an id more than one.
    """
    able = [one for one in records if one.judge and any(one.conversations)]
    if id is not None:
        able = [one for one in able if one.id == id]
    if len(able) == 1:
        return able[0]
    if not able:
        what = f"the case {id}" if id is not None else "a case that did not pass"
        raise RecordError(f"the file holds no conversation of {what}")
    names = ", ".join(sorted({one.id for one in able})[:8])
    raise RecordError(f"the file holds several cases, choose one with --case: {names}")


def _records(text: str) -> list[Record]:
    try:
        document = json.loads(text)
    except ValueError:
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        return list(_of_lines(lines))
    runs = document.get("runs", [document])
    return [_of_result(result, run) for run in runs for result in run["results"]]


def _of_lines(lines: Iterable[Mapping[str, Any]]) -> Iterator[Record]:
    run: Mapping[str, Any] = {}
    heard: dict[int, Record] = {}
    for line in lines:
        kind = line["kind"]
        if kind == "run":
            run = line
        elif kind == "result":
            yield _of_result(line, run)
        elif kind in ("connection", "frame", "end"):
            number = int(line["connection"])
            if number not in heard:
                name = f"connection {number}"
                heard[number] = Record(id=name, judge="", conversations=[Conversation(label=name)])
            if kind != "connection":
                heard[number].conversations[0].pieces.append(_of_lint(line))
        elif kind != "summary":
            raise ValueError(f"a line of kind {kind!r}")
    yield from heard.values()


def _of_lint(line: Mapping[str, Any]) -> Piece:
    octets = bytes.fromhex(line.get("hex", ""))
    return Piece(
        ms=float(line["ms"]),
        sender=str(line["sender"]) if line["kind"] == "frame" else EVENT,
        text=str(line.get("text", "")),
        octets=octets,
        length=int(line.get("length", len(octets))),
    )


def _of_result(result: Mapping[str, Any], run: Mapping[str, Any]) -> Record:
    judge = WORKER if run.get("role", "worker") == "client" else CLIENT
    other = WORKER if judge == CLIENT else CLIENT
    sides = {"judge": judge, "target": other, "event": EVENT}
    return Record(
        id=str(result["id"]),
        judge=judge,
        verdict=str(result["verdict"]),
        title=str(result.get("title", "")),
        rule=f"{result['requirement']} {result['level']}: {result.get('rule', '')}",
        expected=str(result.get("expected", "")),
        actual=str(result.get("actual", "")),
        target=str(run.get("target", "")),
        seconds=float(result.get("seconds", 0.0)),
        conversations=[
            Conversation(
                label=str(one["label"]),
                started_ms=float(one["started_ms"]),
                pieces=[
                    Piece(
                        ms=float(entry["ms"]) + float(one["started_ms"]),
                        sender=sides[entry["who"]],
                        text=str(entry["text"]),
                        octets=bytes.fromhex(entry["hex"]),
                        length=int(entry["length"]),
                        marked=bool(entry["marked"]),
                    )
                    for entry in one["entries"]
                ],
            )
            for one in result.get("connections", ())
        ],
    )
