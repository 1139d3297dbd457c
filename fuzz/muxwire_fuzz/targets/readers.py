"""The readers of SSE, NDJSON and binary bodies against a second reading of their grammars."""

from __future__ import annotations

import json
from collections.abc import Iterator

from muxwire.core.events import ResponseFailed
from muxwire.core.http import READERS, Response
from muxwire.core.http.reading import Done, Event, Failed, Headers
from muxwire.core.metadata import Header
from muxwire.errors import ProtocolViolation
from muxwire_spec import formats
from muxwire_spec.emit import http_vectors
from muxwire_spec.interpret import WCH
from muxwire_spec.spec import load_spec

from muxwire_fuzz import grammar, mutate, show, texts, wire
from muxwire_fuzz.harness import Random, Target, equal, require
from muxwire_fuzz.script import Record, Script, Tag, read, write

FORMATS = tuple(found.name for found in formats.FORMATS)
LIMITS = (1 << 20, 24)
CLEAN, SMALL = 8, 4
"""Bits of the options: the body ends cleanly; items have at most 24 octets."""
NESTED = 200
"""Brackets up to which a body is judged: deeper ones may be refused or not."""
WORDS = (
    *(b"id: ", b"event: ", b"data: ", b"data:", b"data", b"id", b"item", b"bin", b"done", b"error"),
    *(b": hb\n\n", b"\n\n", b"\r\n", b"\r", b"\n", b"retry: 1\n", b"\xef\xbb\xbf", b"\0", b" "),
    *(b'{"t":"item","seq":', b'{"t":"bin","seq":', b'"b64":"', b'"data":', b'"t"', b'"seq"'),
    *(b'{"t":"hb"}\n', b'{"items":0,"trailers":{}}', b'"items":', b'"trailers":', b'"num":'),
    *(b'"message":"', b'"retry_after_ms":', b"0", b"1", b"2", b"-0", b"00", b"1.0", b"1e0"),
    *(b"4294967295", b"4294967296", b"9" * 21, b"null", b"true", b"NaN", b"[", b"]", b"{", b"}"),
    *(
        b",",
        b":",
        b'"',
        b"\\",
        b"\\u0041",
        b"\\ud800",
        b"\xff",
        b"\xc3\xa9",
        b"YQ==",
        b"YWI=",
        b"YWJj",
    ),
)


def check(data: bytes) -> None:
    """Read a body in pieces, and hold events and outcome against the grammar."""
    script = read(data)
    format_ = FORMATS[script.options % 3]
    cut = _pieces(script)
    body = b"".join(cut)
    limit = LIMITS[bool(script.options & SMALL)]
    clean = bool(script.options & CLEAN)
    if body.count(b"[") + body.count(b"{") > NESTED and format_ != formats.BINARY:
        return
    meant = grammar.read(format_, body, limit)
    ways = [cut, [body]]
    if len(body) <= 400:
        ways.append([body[at : at + 1] for at in range(len(body))])
    for pieces in ways:
        events, broken = _events(format_, pieces, limit)
        equal(events, meant.events, f"P1-022: the events of {format_} are those of the grammar")
        equal(bool(broken), bool(meant.broken), f"P1-022: {format_} refuses what the grammar does")
        equal(broken == "MSG-003", meant.broken == "MSG-003", "MSG-003: items have a limit")
        _check_outcome(format_, pieces, limit, clean, grammar.outcome(meant, clean=clean))


def _pieces(script: Script) -> list[bytes]:
    """Return the body in pieces; a text is never filled up."""
    if FORMATS[script.options % 3] == formats.BINARY:
        return script.pieces
    return [record.body for record in script.records if record.tag <= Tag.FILLED]


def _events(format_: str, pieces: list[bytes], limit: int) -> tuple[list[grammar.Event], str]:
    reader = READERS[format_](limit)
    events: list[grammar.Event] = []
    try:
        for piece in pieces:
            events += map(_plain, reader.read(piece))
    except ProtocolViolation as violation:
        return events, violation.requirement
    return events, ""


def _plain(event: Event) -> grammar.Event:
    match event:
        case bytes():
            return "item", event
        case Headers(headers):
            return "headers", tuple(headers)
        case Done(items, trailers):
            return "done", items, tuple(trailers)
        case Failed():
            return "error", *event[:2], event.message, *event[3:]


class _Caller:
    """Keeps what a response tells."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.class_ = ""
        self.code: int | None = None
        self.trailers: grammar.Pairs = ()

    def on_headers(self, _headers: list[Header]) -> None:
        """Take the response headers."""
        require(not self.class_, "nothing follows the last word")

    def on_message(self, data: bytes, _cost: int) -> None:
        """Take an item."""
        require(not self.class_, "nothing follows the last word")
        self.messages.append(data)

    def on_end(self, trailers: list[Header]) -> None:
        """Take the success."""
        require(not self.class_, "P1-020: a response has one outcome")
        self.class_, self.trailers = "SUCCESS", tuple(trailers)

    def on_failed(self, event: ResponseFailed) -> None:
        """Take the failure."""
        require(not self.class_, "P1-020: a response has one outcome")
        self.class_, self.code = event.outcome.name, event.code
        equal(event.messages, len(self.messages), "a failure counts the messages before it")


def _check_outcome(
    format_: str, pieces: list[bytes], limit: int, clean: bool, meant: grammar.Outcome
) -> None:
    caller = _Caller()
    response = Response(caller, caller.on_failed, bytes(16), deadline=None, silence=10.0)
    response.posted()
    response.sent(0.0)
    response.started(READERS[format_](limit), 0.0)
    for piece in pieces:
        response.receive(piece, 0.0)
    if clean:
        response.ended()
    else:
        response.cut("as told")
    found = grammar.Outcome(caller.class_, caller.code, caller.messages, caller.trailers)
    equal(found, meant, "P1-020: the outcome is that of the rule")


def seeds() -> Iterator[bytes]:
    """Yield every vector of a body, whole and in pieces."""
    for path, octets in sorted(http_vectors.emit(load_spec()).items()):
        if not path.endswith(".json"):
            continue
        for vector in json.loads(octets)["vectors"]:
            if "body" not in vector:
                continue
            body = bytes.fromhex(vector["body"])
            options = FORMATS.index(vector["format"]) + CLEAN * (vector["end"] == "clean")
            while options % 3 != FORMATS.index(vector["format"]):
                options += 16
            for size in (len(body) or 1, 7):
                pieces = [body[at : at + size] for at in range(0, min(len(body), 3_000), size)]
                yield write(Script(options, [Record(Tag.OCTETS, piece) for piece in pieces]))


def _mutate(data: bytes, longest: int, random: Random) -> bytes:
    """Change a piece of a text as text, and everything else as a script of frames."""
    script = read(data)
    if FORMATS[script.options % 3] == formats.BINARY or random.random() < 0.2:
        return mutate.mutate(data, longest, random)
    records = [record for record in script.records if record.tag <= Tag.FILLED]
    records = records or [Record(Tag.OCTETS, b"")]
    if random.random() < 0.3:
        body = b"".join(record.body for record in records)
        records = [Record(Tag.OCTETS, body)]
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(records))
        records[at] = Record(Tag.OCTETS, texts.change(records[at].body, WORDS, random))
    options = script.options ^ random.choice((0, 0, 0, CLEAN, SMALL))
    return write(Script(options, records))[:longest]


def in_words(data: bytes) -> str:
    """Return an input as text."""
    script = read(data)
    format_ = FORMATS[script.options % 3]
    end = "ends cleanly" if script.options & CLEAN else "is cut"
    limit = LIMITS[bool(script.options & SMALL)]
    options = f"{format_}, items of {limit} octets at most, the body {end}"
    if format_ == formats.BINARY:
        return show.script(data, "router", options, WCH)
    lines = [f"options {script.options:#04x}: {options}"]
    pieces = enumerate(_pieces(script))
    return "\n".join([*lines, *(f"piece {n}: {p[: show.MOST]!r}" for n, p in pieces)])


TARGET = Target(
    name="readers",
    doc="the readers of SSE, NDJSON and binary bodies against a second reading of the grammars",
    check=check,
    seeds=seeds,
    mutate=_mutate,
    cross=mutate.cross,
    smaller=mutate.smaller,
    tokens=lambda: (*WORDS, *wire.tokens()),
    show=in_words,
    watch=("muxwire.core.http",),
    longest=3_000,
)
