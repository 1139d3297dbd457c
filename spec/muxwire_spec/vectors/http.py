"""Vectors of a response over HTTP: whole bodies, broken ones, and odd ones.

The outcomes are written down by hand. The tests read every body with a reader of their own and
follow the table HTTP_STREAM.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

from muxwire_spec import registries as r
from muxwire_spec.formats import BINARY, NDJSON, SSE
from muxwire_spec.vectors.build import END, ERROR, META, MORE, REQUEST_ID, error, frame, meta

Json = dict[str, Any]
Item = tuple[bytes, bool]
"""An item, and whether its handler declared it as JSON and it is JSON."""


# --- events -----------------------------------------------------------------------------------


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _flat(text: bytes) -> bytes:
    return text.replace(b"\r", b" ").replace(b"\n", b" ")


def _failure(code: str, items: int, message: str = "no") -> Json:
    number = r.ERROR_CODES.value(code)
    shown = {"code": code, "num": number, "message": message}
    return {**shown, "not_processed": False, "retry_after_ms": 0, "items": items}


def _sse(event: str, data: bytes, seq: int | None = None) -> bytes:
    head = b"" if seq is None else f"id: {seq}\n".encode()
    return head + f"event: {event}\ndata: ".encode() + data + b"\n\n"


def _sse_item(seq: int, item: Item) -> bytes:
    octets, is_json = item
    if is_json:
        return _sse("item", _flat(octets), seq)
    return _sse("bin", base64.b64encode(octets), seq)


def _sse_done(items: int, trailers: Json | None = None) -> bytes:
    return _sse("done", _json({"items": items, "trailers": trailers or {}}))


def _line(**members: Any) -> bytes:
    return _json(members) + b"\n"


def _ndjson_item(seq: int, item: Item) -> bytes:
    octets, is_json = item
    if is_json:
        head = _json({"t": "item", "seq": seq})[:-1]
        return head + b',"data":' + _flat(octets) + b"}\n"
    return _line(t="bin", seq=seq, b64=base64.b64encode(octets).decode())


def _ndjson_done(items: int, trailers: Json | None = None) -> bytes:
    return _line(t="done", items=items, trailers=trailers or {})


def _response(seq: int, body: bytes = b"", flags: int = 0, id_: bytes = REQUEST_ID) -> bytes:
    return frame("RESPONSE", body, flags=flags, seq=seq, request_id=id_)


_HEARTBEAT = {SSE: b": hb\n\n", NDJSON: b'{"t":"hb"}\n', BINARY: frame("PING", bytes(8))}


def _body(format_: str, items: Sequence[Item], trailers: Json | None, code: str | None) -> bytes:
    """Return a whole body with a heartbeat in front; `code` makes it an error."""
    count = len(items)
    if format_ == SSE:
        parts = [_sse_item(seq, item) for seq, item in enumerate(items)]
        last = _sse("error", _json(_failure(code, count))) if code else _sse_done(count, trailers)
    elif format_ == NDJSON:
        parts = [_ndjson_item(seq, item) for seq, item in enumerate(items)]
        last = _line(t="error", **_failure(code, count)) if code else _ndjson_done(count, trailers)
    else:
        parts = [_response(seq, octets) for seq, (octets, _) in enumerate(items)]
        pairs = [(name.encode(), value.encode()) for name, value in (trailers or {}).items()]
        if pairs and not parts:  # TYP-005: at seq 0 the block would hold headers
            parts = [_response(0, meta([]), META)]
        last = _response(len(parts), meta(pairs) if pairs else b"", (META if pairs else 0) | END)
        if code:
            number = r.ERROR_CODES.value(code)
            last = _response(count, error(b"no", code=number), END | ERROR)
    return b"".join((_HEARTBEAT[format_], *parts, last))


# --- vectors ----------------------------------------------------------------------------------


def _vector(
    name: str,
    doc: str,
    requirements: str,
    format_: str,
    body: bytes,
    class_: str,
    messages: Iterable[bytes],
    *,
    end: str = "clean",
    code: str | None = None,
    trailers: Json | None = None,
) -> Json:
    return {
        "name": name,
        "doc": doc,
        "requirements": requirements.split(),
        "format": format_,
        "request_id": REQUEST_ID.hex() if format_ == BINARY else None,
        "body": body.hex(),
        "end": end,
        "class": class_,
        "code": code,
        "messages": [message.hex() for message in messages],
        "trailers": trailers or {},
    }


_LISTS: tuple[tuple[str, str, tuple[bytes, ...], bool], ...] = (
    ("none", "No item", (), False),
    ("text", "Two short items", (b"hi", b"there"), False),
    ("empty", "Empty items", (b"", b"", b"x"), False),
    ("octets", "All 256 octets", (bytes(range(256)),), False),
    (
        "traps",
        "Items that look like the format",
        (b"\n\ndata: x\n\n", b"id: 7\r\nevent: done\r\n", b": hb", b"  two", b"\0", b"\xf7"),
        False,
    ),
    ("utf8", "Characters of one to four octets", ("a\u00e9\u20ac\U0001f600".encode(),), False),
    (
        "json",
        "JSON values",
        (b'{"a":[1,2.50,null]}', b'"data: \\n"', b"[]", '"\u20ac\U0001f600"'.encode()),
        True,
    ),
)


def _whole(format_: str) -> Iterable[Json]:
    trailers = {"usage": "2"}
    for name, doc, octets, is_json in _LISTS:
        body = _body(format_, [(one, is_json) for one in octets], trailers, None)
        rules = f"P1-008 P1-009 P1-010 {_RULE[format_]}"
        yield _vector(
            f"{format_}-{name}", doc, rules, format_, body, "SUCCESS", octets, trailers=trailers
        )
    for name, octets in (("failed", ()), ("failed-late", (b"one", b"two"))):
        body = _body(format_, [(one, False) for one in octets], None, _APPLICATION)
        doc = f"An error behind {len(octets)} items"
        rules = f"P1-011 {_RULE[format_]}"
        yield _vector(
            f"{format_}-{name}", doc, rules, format_, body, "FAILED", octets, code=_APPLICATION
        )


_RULE = {SSE: "P1-005", NDJSON: "P1-006", BINARY: "P1-007"}
_APPLICATION = "APPLICATION_ERROR"

WHOLE: tuple[Json, ...] = tuple(
    vector for format_ in (SSE, NDJSON, BINARY) for vector in _whole(format_)
)
"""The same items in each format, as a worker writes them and a router reads them."""

_A, _B = (b"a", False), (b"b", False)
_ONE = {SSE: _sse_item(0, _A), NDJSON: _ndjson_item(0, _A), BINARY: _response(0, b"a")}
_TWO = {SSE: _sse_item(1, _B), NDJSON: _ndjson_item(1, _B), BINARY: _response(1, b"b")}
_DONE = {SSE: _sse_done(1), NDJSON: _ndjson_done(1), BINARY: _response(1, flags=END)}
_GAP = {SSE: _sse_item(2, _B), NDJSON: _ndjson_item(2, _B), BINARY: _response(2, b"b")}
_HALF = {SSE: _TWO[SSE][:-1], NDJSON: _TWO[NDJSON][:-1], BINARY: _TWO[BINARY][:-1]}


def _broken(format_: str) -> Iterable[Json]:
    one, two, done = _ONE[format_], _TWO[format_], _DONE[format_]
    cases = (
        ("nothing", "Nothing at all", b"", "clean", "AMBIGUOUS", ()),
        ("heartbeat", "A heartbeat and no more", _HEARTBEAT[format_], "clean", "AMBIGUOUS", ()),
        ("cut-first", "Cut in the first item", one[:-1], "cut", "AMBIGUOUS", ()),
        ("no-terminal", "No terminal event", one + two, "clean", "PARTIAL", (b"a", b"b")),
        ("half-item", "Cut in the second item", one + _HALF[format_], "clean", "PARTIAL", (b"a",)),
        ("unclean", "done, but no clean end", one + done, "cut", "PARTIAL", (b"a",)),
        ("half-done", "Cut in done", one + done[:-1], "clean", "PARTIAL", (b"a",)),
        ("gap", "A gap in seq", one + _GAP[format_] + done, "clean", "PARTIAL", (b"a",)),
        ("repeat", "A seq for the second time", one + one + done, "clean", "PARTIAL", (b"a",)),
        ("late-item", "An item behind done", one + done + two, "clean", "PARTIAL", (b"a",)),
        ("late-done", "done for the second time", one + done * 2, "clean", "PARTIAL", (b"a",)),
    )
    for name, doc, body, end, class_, messages in cases:
        yield _vector(
            f"{format_}-broken-{name}", doc, "P1-020", format_, body, class_, messages, end=end
        )


_FEW = _sse_done(2)
_MANY = _sse("error", _json(_failure("SHUTDOWN", 0)))
_RAW = b"event: bin\ndata: YQ==\nid: 0\n\n"

BROKEN: tuple[Json, ...] = (
    *(vector for format_ in (SSE, NDJSON, BINARY) for vector in _broken(format_)),
    *(
        _vector(f"{format_}-broken-{name}", doc, f"{rules} P1-020", format_, body, "PARTIAL", seen)
        for format_, name, doc, rules, body, seen in (
            (SSE, "count", "done says 2 of 1", "P1-009", _ONE[SSE] + _FEW, (b"a",)),
            (SSE, "error-count", "error says 0 of 1", "P1-009", _ONE[SSE] + _MANY, (b"a",)),
            (SSE, "count-of-none", "done says 2 of 0", "P1-009", _FEW, ()),
            (
                SSE,
                "bad-id",
                "An id that is no number",
                "P1-022",
                _ONE[SSE] + _TWO[SSE].replace(b"id: 1", b"id: one"),
                (b"a",),
            ),
            (
                SSE,
                "no-id",
                "An item without an id of its own",
                "P1-022",
                _ONE[SSE] + _sse("bin", b"Yg==") + _FEW,
                (b"a",),
            ),
            (
                SSE,
                "bad-base64",
                "No base64",
                "P1-022",
                _ONE[SSE] + _sse("bin", b"Y!==", 1) + _FEW,
                (b"a",),
            ),
            (
                SSE,
                "bad-utf8",
                "An item that is not UTF-8",
                "P1-022",
                _ONE[SSE] + _sse("item", b'"\xff"', 1) + _FEW,
                (b"a",),
            ),
            (
                NDJSON,
                "count",
                "done says 2 of 1",
                "P1-009",
                _ONE[NDJSON] + _ndjson_done(2),
                (b"a",),
            ),
            (
                NDJSON,
                "no-json",
                "A line that is no JSON",
                "P1-022",
                _ONE[NDJSON] + b"{oops\n" + _DONE[NDJSON],
                (b"a",),
            ),
            (
                NDJSON,
                "no-object",
                "A line that is no object",
                "P1-022",
                _ONE[NDJSON] + b"[1]\n" + _DONE[NDJSON],
                (b"a",),
            ),
            (
                NDJSON,
                "no-seq",
                "An item without seq",
                "P1-022",
                _ONE[NDJSON] + _line(t="bin", b64="Yg=="),
                (b"a",),
            ),
            (
                BINARY,
                "other-id",
                "A frame of another request",
                "P1-022",
                _ONE[BINARY] + _response(1, b"b", id_=b"\1" * 16),
                (b"a",),
            ),
            (
                BINARY,
                "control",
                "A Control frame",
                "P1-022",
                _ONE[BINARY] + frame("KILL", {"reason": 0}),
                (b"a",),
            ),
            (
                BINARY,
                "behind",
                "An octet behind the terminal",
                "P1-022",
                _ONE[BINARY] + _DONE[BINARY] + b"\0",
                (b"a",),
            ),
        )
    ),
    _vector(
        "binary-broken-open-message",
        "The first message never ends",
        "P1-020",
        BINARY,
        _response(0, b"a", MORE),
        "AMBIGUOUS",
        (),
    ),
)
"""Bodies that a router must not take for a success."""


def _dialect(name: str, doc: str, format_: str, body: bytes) -> Json:
    return _vector(f"{format_}-{name}", doc, "P1-022", format_, body, "SUCCESS", (b"a",))


_PLAIN = _ONE[SSE] + _DONE[SSE]
_LINES = _ONE[NDJSON] + _DONE[NDJSON]

ODD: tuple[Json, ...] = (
    _dialect("crlf", "Lines end in CRLF", SSE, _PLAIN.replace(b"\n", b"\r\n")),
    _dialect("cr", "Lines end in CR", SSE, _PLAIN.replace(b"\n", b"\r")),
    _dialect("bom", "A byte order mark", SSE, b"\xef\xbb\xbf" + _PLAIN),
    _dialect("no-space", "No space behind colons", SSE, _PLAIN.replace(b": ", b":")),
    _dialect("order", "id behind data", SSE, _RAW + _DONE[SSE]),
    _dialect(
        "comments", "Comments everywhere", SSE, b":\n: x\n\n" + _ONE[SSE] + b":y\n" + _DONE[SSE]
    ),
    _dialect("fields", "Unknown fields and retry", SSE, b"retry: 1\nx: y\nz\n" + _PLAIN),
    _dialect(
        "unknown", "Unknown and nameless events", SSE, _sse("new", b"?") + b"data: ?\n\n" + _PLAIN
    ),
    _dialect(
        "lines",
        "Data in several lines",
        SSE,
        _ONE[SSE] + b'event: done\ndata: {"items":1,\ndata: "trailers":{}}\n\n',
    ),
    _dialect("trailing", "An event without its empty line", SSE, _PLAIN + b"event: x\ndata: y"),
    _dialect("crlf", "Lines end in CRLF", NDJSON, _LINES.replace(b"\n", b"\r\n")),
    _dialect("blank", "Empty lines", NDJSON, b"\n\r\n" + _LINES + b"\n"),
    _dialect("unknown", "An unknown t", NDJSON, _line(t="new", x=1) + _LINES),
    _dialect("trailing", "A line without LF", NDJSON, _LINES + b'{"t":"it'),
    _dialect(
        "extension",
        "Ignorable frames and heartbeats",
        BINARY,
        frame("PING", b"?", type=0x8A) + _ONE[BINARY] + frame("PING", bytes(8)) + _DONE[BINARY],
    ),
    _dialect(
        "split",
        "A message in pieces, one empty",
        BINARY,
        _response(0, b"", MORE) + _response(1, b"a", MORE) + _response(2, flags=END),
    ),
)
"""What a router has to read although no worker of this specification writes it."""
