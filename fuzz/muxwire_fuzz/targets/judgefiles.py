"""What the judge reads from files and from drivers: only its own errors, each in one line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, cast

from muxwire_conformance import baseline, config, lastfailed, recorded, replay
from muxwire_conformance.cli import build_parser
from muxwire_conformance.client_mode import grammar
from muxwire_conformance.referee import CLIENT, WORKER, Referee
from muxwire_conformance.report.json import FORMAT
from muxwire_conformance.target import TargetError, parse_address

from muxwire_fuzz import texts, wire
from muxwire_fuzz.harness import Target, equal, require


class _File(PurePosixPath):
    """A file that exists in memory alone."""

    octets: bytes

    def read_text(self, encoding: str) -> str:
        """Return what is in it."""
        return self.octets.decode(encoding)


def _file(name: str, octets: bytes) -> Path:
    file = _File(name)
    file.octets = octets
    return cast(Path, file)


def _told(error: Exception) -> None:
    require("\n" not in str(error), "an error of the judge is one line", repr(str(error)))


def _baseline(octets: bytes) -> None:
    try:
        found = baseline.load_baseline(_file("known.toml", octets))
    except baseline.BaselineError as error:
        _told(error)
        return
    for line in found.unmatched(["HSK-001/twice", "FRM-002/marker"]):
        require("\n" not in line, "a warning is one line", repr(line))
    for entry in found.entries.values():
        for text in (entry.id, entry.reason, entry.contains):
            again = tomllib.loads(f"text = {baseline.toml_string(text)}")["text"]
            equal(again, text, "a text is written so that it is read again")


def _config(octets: bytes) -> None:
    path = _file("conformance.toml", octets)
    try:
        config.apply(build_parser(), path, config.read(path))
        config.read(_file("pyproject.toml", octets))
    except config.ConfigError as error:
        _told(error)


def _record(octets: bytes) -> None:
    try:
        records = recorded.load(_file("report.json", octets))
    except recorded.RecordError as error:
        _told(error)
        return
    for record in records:
        try:
            replay.script(replay.prepare(record))
        except recorded.RecordError as error:
            _told(error)


def _cache(octets: bytes) -> None:
    file = _file("cache.json", octets)
    found = lastfailed.last_failed(["127.0.0.1:9000"], file, file)
    require(found is None or all(isinstance(id, str) for id in found), "ids are texts")


def _address(octets: bytes) -> None:
    text = octets.decode("latin-1")
    try:
        address = parse_address(text)
    except TargetError as error:
        _told(error)
        return
    require(1 <= address.port <= 65_535, "a port is a port")
    again = parse_address(str(address))
    equal((again.host, again.port), (address.host, address.port), "an address is read as written")


def _event(octets: bytes) -> None:
    try:
        event = grammar.read_event(octets)
    except grammar.GrammarError as error:
        _told(error)
        return
    for member in grammar.EVENTS[event["event"]].members:
        fits = member.name not in event or grammar.fits(member.type, event[member.name])
        require(fits, "an event that is taken fits the grammar", repr(event))


def _referee(octets: bytes) -> None:
    """Let the referee read octets of both sides, whole and cut: it never raises."""
    half = len(octets) // 2
    sides = ((CLIENT, octets[:half]), (WORKER, octets[half:]))
    whole = [_seen(side, [data]) for side, data in sides]
    cut = [_seen(side, [data[:7], data[7:50], data[50:]]) for side, data in sides]
    equal(cut, whole, "the referee sees no cuts")


def _seen(side: str, pieces: list[bytes]) -> list[Any]:
    referee = Referee()
    seen = [one for piece in pieces for one in referee.feed(side, piece, 0.0)]
    return [
        (one.octets, [(fault.requirement, fault.text) for fault in one.faults])
        for one in seen
        if one.item is not None
    ]


_KINDS: tuple[tuple[str, Callable[[bytes], None]], ...] = (
    ("a baseline", _baseline),
    ("a configuration", _config),
    ("a record", _record),
    ("the cache of failures", _cache),
    ("an address", _address),
    ("a line of a driver", _event),
    ("octets for the referee", _referee),
)


def check(data: bytes) -> None:
    """Read a text as one of the kinds."""
    _KINDS[(data[0] if data else 0) % len(_KINDS)][1](data[1:])


_RESULT: dict[str, object] = {
    "id": "FRM-002/marker",
    "verdict": "fail",
    "requirement": "FRM-002",
    "level": "MUST",
    "connections": [
        {
            "label": "c1",
            "started_ms": 0.0,
            "entries": [
                {"ms": 1.0, "who": "judge", "text": "x", "hex": "f7", "length": 1, "marked": True},
                {"ms": 2.0, "who": "target", "text": "y", "hex": "", "length": 0, "marked": False},
            ],
        }
    ],
}
_SEEDS: tuple[tuple[int, str], ...] = (
    (0, "[[case]]\nid = 'a'\nreason = 'in C:\\temp'\n"),
    (
        0,
        '[[case]]\nid = "a"\nreason = "known"\ncontains = "x"\nuntil = 2027-01-31\nflaky = true\n',
    ),
    (0, '[[case]]\nid = "a"\nreason = "r"\n[[case]]\nid = "b"\nurl = "u"\nreason = "s"\n'),
    (1, 'target = "127.0.0.1:9000"\nprofile = "full"\nstrict = true\njobs = 2\n'),
    (1, '[tool.muxwire.conformance]\ntarget = ["a:1", "b:2"]\nverbose = 1\n'),
    (2, json.dumps({"format": FORMAT, "target": "x", "results": [_RESULT]})),
    (
        2,
        json.dumps({"kind": "run", "target": "x"})
        + "\n"
        + json.dumps({"kind": "result", **_RESULT}),
    ),
    (
        2,
        '{"kind":"connection","connection":1}\n'
        '{"kind":"frame","connection":1,"ms":1,"hex":"","length":0}',
    ),
    (3, json.dumps({"127.0.0.1:9000": ["a", "b"]})),
    (
        3,
        json.dumps(
            {"format": FORMAT, "runs": [{"target": "127.0.0.1:9000", "results": [_RESULT]}]}
        ),
    ),
    *(
        (4, text)
        for text in ("a:1", "[::1]:9", "tls://a:1?ca=x&name=y", "http://a:8/", "tcp://a:1")
    ),
)
_WORDS = tuple(
    word.encode()
    for word in (
        *("[[case]]\n", "id = ", "reason = ", "until = ", "flaky = ", "contains = ", "url = "),
        *("target = ", "profile = ", "strict = ", "jobs = ", "[tool.muxwire.conformance]\n"),
        *('"kind":', '"run"', '"result"', '"frame"', '"results":', '"runs":', '"connections":'),
        *('"entries":', '"hex":', '"length":', '"ms":', '"who":', '"event":', '"target":'),
        *("true", "false", "null", "0", "-1", "1e999", "NaN", "Infinity", "9" * 30, "[" * 40),
        *(
            "{" * 5,
            "[",
            "]",
            "{",
            "}",
            ",",
            ":",
            '"',
            "'",
            "\n",
            "\\u0000",
            "\\ud800",
            "\x7f",
            "\\\\",
        ),
        *("2027-01-31", "2027-01-31T00:00:00", "tls://", "http://", "[::1]", "?ca=", "&", "\xe9"),
    )
)


def seeds() -> Iterator[bytes]:
    """Yield files of each kind, lines of a driver, and octets for the referee."""
    for kind, text in _SEEDS:
        yield bytes((kind,)) + text.encode()
    for line in grammar.EVENTS.values():
        event = {member.name: 0 for member in line.members}
        yield bytes((5,)) + json.dumps({"event": line.name, **event}).encode()
        event_texts = {member.name: "a" for member in line.members}
        yield bytes((5,)) + json.dumps({"event": line.name, **event_texts}).encode()
    for role in ("worker", "client"):
        for vector in wire.vectors("WMX/1", role):
            if len(vector.octets) < 200:
                yield bytes((6,)) + vector.octets * 2


def in_words(data: bytes) -> str:
    """Return an input as text."""
    kind = (data[0] if data else 0) % len(_KINDS)
    return f"{_KINDS[kind][0]}\n{data[1:2_000]!r}"


TARGET = Target(
    name="judgefiles",
    doc="what the judge reads: baselines, configurations, records, addresses, drivers, octets",
    check=check,
    seeds=seeds,
    mutate=texts.mutator((*_WORDS, *wire.tokens()[:200])),
    cross=texts.cross,
    smaller=texts.smaller,
    tokens=lambda: _WORDS,
    show=in_words,
    watch=("muxwire_conformance.baseline", "muxwire_conformance.config",
           "muxwire_conformance.recorded", "muxwire_conformance.client_mode.grammar"),
    longest=3_000,
)  # fmt: skip
