"""Bodies of the three formats of chapter 22, read whole and by the letter of the grammar.

Rules of this file: it uses nothing of the reference.  A body is a list of events and, perhaps, the
rule that what follows them breaks.  The id of an item is that of its own event: what the WHATWG
keeps of an earlier event does not count.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from muxwire_spec import callhome, formats
from muxwire_spec import registries as r
from muxwire_spec.interpret import WCH, Receiver

from muxwire_fuzz import jsontext
from muxwire_fuzz.reading import END, ERROR, META, MORE, read_payload, readings, told

Pairs = tuple[tuple[bytes, bytes], ...]
Event = tuple[object, ...]
"""("item", octets), ("headers", pairs), ("done", items, pairs) or ("error", items, code, ...)."""

_U32 = 2**32 - 1
_LONGEST_MESSAGE = 1_024
_LINE = re.compile(rb"\r\n|\r|\n")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_WHOLE = re.compile(r"-?[0-9]+")
_CHUNK = next(item.value for item in formats.CONSTANTS if item.name == "HTTP_CHUNK")


class BrokenError(Exception):
    """Octets are not of the format; the argument is the id of the rule."""


@dataclass(slots=True)
class Body:
    """What a body says."""

    events: list[Event] = field(default_factory=list)
    broken: str = ""


def read(format_: str, body: bytes, limit: int) -> Body:
    """Read a whole body.

    Args:
        format_: Name of the format.
        body: The octets.
        limit: The largest item.
    """
    found = Body()
    try:
        for event in _READERS[format_](body, limit):
            found.events.append(event)
    except BrokenError as error:
        found.broken = str(error)
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a response ends at its caller (P1-020)."""

    class_: str
    code: int | None
    messages: list[bytes]
    trailers: Pairs


def outcome(body: Body, *, clean: bool) -> Outcome:
    """Return the outcome of a body that ends cleanly or not."""
    items: list[bytes] = []
    trailers: Pairs | None = None
    for event in body.events:
        match event:
            case ("headers", _):
                continue
            case _ if trailers is not None:
                return Outcome("PARTIAL", None, items, ())
            case ("item", bytes(octets)):
                items.append(octets)
            case ("done" | "error", int(count), *_) if count != len(items):
                return Outcome("PARTIAL", None, items, ())
            case ("done", _, tuple(pairs)):
                trailers = pairs
            case ("error", _, int(code), *_):
                return Outcome("FAILED", code, items, ())
    if body.broken == "MSG-003":
        return Outcome("FAILED", r.ERROR_CODES.value("MESSAGE_TOO_LARGE"), items, ())
    if trailers is not None and clean and not body.broken:
        return Outcome("SUCCESS", None, items, trailers)
    lost = "AMBIGUOUS" if not items and trailers is None else "PARTIAL"
    return Outcome(lost, None, items, ())


# -- what the text formats share


def _item(content: str, kind: str, limit: int) -> Event:
    if kind == "bin":
        if not _BASE64.fullmatch(content):
            raise BrokenError("P1-022")
        octets = base64.b64decode(content)
    else:
        octets = content.encode()
    if len(octets) > limit:
        raise BrokenError("MSG-003")
    if kind == "item" and not jsontext.is_value(content):
        raise BrokenError("P1-022")
    return "item", octets


def _members(octets: bytes) -> dict[str, str]:
    """Return the members of an object, each with the text of its value."""
    try:
        pairs = jsontext.members(octets.decode())
    except ValueError:
        raise BrokenError("P1-022") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BrokenError("P1-022")
    return found


def _number(members: dict[str, str], name: str) -> int:
    text = members.get(name, "")
    if not _WHOLE.fullmatch(text) or len(text) > 20 or not 0 <= int(text) <= _U32:
        raise BrokenError("P1-022")
    return int(text)


def _terminal(kind: str, members: dict[str, str]) -> Event:
    if kind == "done":
        items = _number(members, "items")
        return "done", items, _trailers(members.get("trailers", ""))
    text = jsontext.string(members.get("message", '""'))
    if text is None:
        raise BrokenError("P1-022")
    hint = _number(members, "retry_after_ms") if "retry_after_ms" in members else 0
    items = _number(members, "items")
    return "error", items, _number(members, "num"), text[:_LONGEST_MESSAGE], hint, 0, b""


def _trailers(text: str) -> Pairs:
    try:
        pairs = {name: jsontext.string(value) for name, value in jsontext.members(text)}
        return tuple((name.encode(), (value or "").encode()) for name, value in pairs.items()
                     if value is not None or _not_a_string())  # fmt: skip
    except ValueError:
        raise BrokenError("P1-022") from None


def _not_a_string() -> bool:
    raise BrokenError("P1-022")


# -- the formats


def _sse(body: bytes, limit: int) -> Iterator[Event]:
    body = body.removeprefix(b"\xef\xbb\xbf")
    expected = 0
    fields: dict[bytes, bytes] = {}
    data: list[bytes] = []
    for line in _LINE.split(body)[:-1]:
        if line:
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                data.append(value)
            elif name != b"id" or b"\0" not in value:
                fields[name] = value
            continue
        kind = fields.get(b"event", b"").decode("latin-1")
        content, number = b"\n".join(data), fields.get(b"id")
        there = bool(data)
        fields, data = {}, []
        if not there:
            continue
        if kind in ("item", "bin"):
            if number != str(expected).encode():
                raise BrokenError("P1-009")
            expected += 1
            yield _item(_text(content, kind, limit), kind, limit)
        elif kind in ("done", "error"):
            yield _terminal(kind, _members(content))


def _text(content: bytes, kind: str, limit: int) -> str:
    if kind == "item" and len(content) > limit:
        raise BrokenError("MSG-003")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise BrokenError("P1-022") from None


def _ndjson(body: bytes, limit: int) -> Iterator[Event]:
    expected = 0
    for whole in body.split(b"\n")[:-1]:
        line = whole.removesuffix(b"\r")
        if not line:
            continue
        members = _members(line)
        kind = jsontext.string(members.get("t", ""))
        if kind is None:
            raise BrokenError("P1-022")
        if kind in ("done", "error"):
            yield _terminal(kind, members)
        elif kind in ("item", "bin"):
            if members.get("seq") != str(expected):
                raise BrokenError("P1-009")
            expected += 1
            text = members.get("data" if kind == "item" else "b64")
            content = jsontext.string(text or "") if kind == "bin" else text
            if content is None:
                raise BrokenError("P1-022")
            yield _item(content, kind, limit)


def _binary(body: bytes, limit: int) -> Iterator[Event]:
    receiver = Receiver(
        role="router",
        protocol=WCH,
        max_frame_size=_CHUNK + callhome.MAX_METADATA_SIZE,
        max_metadata_size=callhome.MAX_METADATA_SIZE,
    )
    at = expected = 0
    id = None
    part: bytes | None = None
    over = False
    for reading in readings(body, receiver):
        if over and at < len(body):
            raise BrokenError("P1-022")
        if reading.fault is not None and reading.fault.step != "payload":
            raise BrokenError(reading.fault.breach.requirement)
        if not reading.complete:
            return
        frame = told(reading, body[at + 32 : at + reading.size])
        at += reading.size
        if frame.kind in ("PING", "EXTENSION"):
            continue
        if frame.kind != "RESPONSE":
            raise BrokenError("P1-022")
        if frame.seq != expected:
            raise BrokenError("P1-009")
        if id not in (None, frame.request_id):
            raise BrokenError("P1-022")
        id, expected = frame.request_id, expected + 1
        if reading.fault is not None:
            raise BrokenError(reading.fault.breach.requirement)
        fields = reading.payload or {}
        octets, headers = frame.payload, None
        if frame.flags & ERROR:
            flat = read_payload("ERROR_BODY", octets, 0)
            if isinstance(flat, tuple):
                raise BrokenError(flat[2])
            message = flat["message"].decode(errors="replace")
            over = True
            yield (
                *("error", None, flat["code"], message, flat["retry_after_ms"]),
                *(flat["error_flags"], flat["detail"]),
            )
            continue
        if frame.flags & META:
            block = fields["metadata"]["headers"]
            headers = tuple((bytes(one["key"]), bytes(one["value"])) for one in block)
            octets = fields["body"]
            if not frame.seq:
                yield "headers", headers
        silent = part is None and not octets and frame.flags & (END | META)
        if not (silent and not frame.flags & MORE):
            part = (part or b"") + octets
            if len(part) > limit:
                raise BrokenError("MSG-003")
        if part is not None and not frame.flags & MORE:
            yield "item", part
            part = None
        if frame.flags & END:
            over = True
            yield "done", None, headers if headers and frame.seq else ()


_READERS = {formats.SSE: _sse, formats.NDJSON: _ndjson, formats.BINARY: _binary}
