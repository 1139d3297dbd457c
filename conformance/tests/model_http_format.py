"""How the model worker writes a response, and which format it chooses (sections 22.2 and 22.3).

An encoder turns items, heartbeats and terminals into octets. An item is a list of pieces, between
which only a flawed worker lets something else stand.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from typing import Any

import model_wire as w

FlawTest = Callable[[str], bool]

TYPES = {
    "sse": ("text/event-stream",),
    "ndjson": ("application/x-ndjson", "application/ndjson", "application/jsonl"),
    "binary": ("application/vnd.wmx-stream", "application/octet-stream"),
}
CHUNK = 65_536
RESPONSE, PING = 2, 4
END_STREAM, MORE, META, ERROR = 1, 2, 4, 8
CODES = {
    0x0C: "DUPLICATE_REQUEST",
    0x100: "CANCELLED",
    0x101: "DEADLINE_EXCEEDED",
    0x102: "NOT_FOUND",
    0x103: "INVALID_ARGUMENT",
    0x104: "OVERLOADED",
    0x105: "DRAINING",
    0x106: "MESSAGE_TOO_LARGE",
    0x107: "APPLICATION_ERROR",
    0x108: "SHUTDOWN",
    0x109: "SLOW_CONSUMER",
    0x10A: "REQUEST_INTERNAL_ERROR",
    0x10B: "UNIMPLEMENTED",
}

_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_RANGE = re.compile(rf"({_NAME})/({_NAME})")
_PARAMETER = re.compile(rf'({_NAME})[ \t]*=[ \t]*({_NAME}|"[^"]*")')
_WEIGHT = re.compile(r"(0(\.\d{0,3})?|1(\.0{0,3})?)", re.ASCII)


def choose(accept: str, flaw: FlawTest) -> tuple[str, str] | None:
    """Return format and media type for an Accept field (P1-001), None when there is none."""
    ranges: dict[str, float] = {}
    for member in _members(accept):
        taken = _member(member, flaw)
        if taken is not None and taken[1] >= ranges.get(taken[0], -1.0):
            ranges[taken[0]] = taken[1]
    if not ranges:
        ranges["*/*"] = 1.0
    found = [
        (_weight(type_, ranges, flaw), name, type_)
        for name, types in TYPES.items()
        for type_ in types
    ]
    best = max(weight for weight, _name, _type in found)
    if best <= 0 and not flaw("http-ignores-zero-weight"):
        return ("sse", TYPES["sse"][0]) if flaw("http-no-406") else None
    if flaw("http-first-range-wins"):
        wanted = list(ranges)
        found.sort(key=lambda one: wanted.index(one[2]) if one[2] in wanted else len(wanted))
        best = found[0][0]
    name, type_ = next(one[1:] for one in found if one[0] == best)
    if type_ != TYPES[name][0] and flaw("http-alias-is-not-kept"):
        type_ = TYPES[name][0]
    return name, type_


def _members(accept: str) -> list[str]:
    return [part.strip() for part in re.findall(r'(?:"[^"]*"|[^,"])+', accept)]


def _member(member: str, flaw: FlawTest) -> tuple[str, float] | None:
    if not member:
        return None
    name, *parameters = (part.strip() for part in re.findall(r'(?:"[^"]*"|[^;"])+', member))
    match = _RANGE.fullmatch(name)
    if match is None or (match[1] == "*" and match[2] != "*"):
        return None
    weight = 1.0
    for parameter in parameters:
        pair = _PARAMETER.fullmatch(parameter)
        if pair is None:
            return None
        if pair[1].lower() == "q":
            if not _WEIGHT.fullmatch(pair[2]):
                if flaw("http-bad-weight-counts"):
                    continue
                return None
            weight = float(pair[2])
    if name != name.lower() and not flaw("http-type-in-exact-case"):
        name = name.lower()
    return name, weight


def _weight(type_: str, ranges: dict[str, float], flaw: FlawTest) -> float:
    major = type_.partition("/")[0]
    matching = [one for one in (type_, f"{major}/*", "*/*") if one in ranges]
    if len(matching) > 1 and flaw("http-widest-range-wins"):
        return max(ranges[one] for one in matching)
    return ranges[matching[0]] if matching else 0.0


def error_object(error: w.CallError, *, not_processed: bool) -> dict[str, Any]:
    """Return the error object of section 21.2."""
    return {
        "code": CODES.get(error.code, "APPLICATION_ERROR"),
        "num": error.code if error.code in CODES else w.APPLICATION_ERROR,
        "message": error.text.encode()[:1_024].decode("utf-8", "ignore"),
        "not_processed": not_processed,
        "retry_after_ms": error.retry_after_ms,
    }


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def is_json(data: bytes, flaw: FlawTest) -> bool:
    """Tell whether octets are JSON text."""

    def constant(_word: str) -> None:
        if not flaw("http-accepts-nan"):
            raise ValueError

    try:
        json.loads(data.decode("utf-8"), parse_constant=constant)
    except (ValueError, RecursionError):
        return False
    return True


class Encoder:
    """Numbers items and says how many there were."""

    def __init__(self, flaw: FlawTest, rid: bytes) -> None:
        self.flaw = flaw
        self.rid = rid
        self.items = 0
        self.headers: list[tuple[str, str]] = []

    def item(self, data: bytes, declared_json: bool) -> list[bytes]:
        """Return the octets of an item."""
        as_json = declared_json or (is_json(data, self.flaw) and self.flaw("http-octets-as-json"))
        as_json = as_json and is_json(data, self.flaw) and not self.flaw("http-json-as-base64")
        seq = self.items
        if self.flaw("http-seq-from-one"):
            seq += 1
        self.items += 1
        if as_json:
            return self._json(seq, self._text(data))
        base = base64.b64encode(data)
        if (b"+" in base or b"/" in base) and self.flaw("http-url-safe-base64"):
            base = base64.urlsafe_b64encode(data)
        return self._bin(seq, data, base)

    def _text(self, data: bytes) -> bytes:
        if self.flaw("http-json-as-floats"):
            return _compact(json.loads(data, parse_int=float))
        if b"\n" in data or b"\r" in data:
            for name in ("http-sse-splits-json", "http-ndjson-splits-json"):
                if self.flaw(name):
                    return data
        return data.replace(b"\r", b" ").replace(b"\n", b" ")

    def count(self, kind: str) -> int:
        """Return the number that a terminal event gives."""
        if kind == "done" and self.flaw("http-done-counts-itself"):
            return self.items + 1
        if kind == "error" and self.items and self.flaw("http-failure-counts-none"):
            return 0
        return self.items

    def failed(self, error: w.CallError) -> dict[str, Any]:
        """Return the members of an error event."""
        flag = self.flaw("http-failure-not-processed")
        return error_object(error, not_processed=flag) | {"items": self.count("error")}

    def start(self) -> bytes:
        """Return what stands in front of the first event."""
        return b""

    def _json(self, seq: int, text: bytes) -> list[bytes]:
        raise NotImplementedError

    def _bin(self, seq: int, data: bytes, base: bytes) -> list[bytes]:
        raise NotImplementedError

    def heartbeat(self) -> bytes:
        """Return a heartbeat."""
        raise NotImplementedError

    def done(self, trailers: list[tuple[str, str]]) -> bytes:
        """Return the terminal event of a success."""
        raise NotImplementedError

    def error(self, error: w.CallError) -> bytes:
        """Return the terminal event of a failure."""
        raise NotImplementedError


class Sse(Encoder):
    """Server-sent events."""

    def start(self) -> bytes:
        """Return what stands in front of the first event."""
        return b"\xef\xbb\xbf" if self.flaw("http-sse-bom") else b""

    def _lines(self, *lines: bytes) -> bytes:
        octets = b"\n".join(lines) + b"\n\n"
        return octets.replace(b"\n", b"\r\n") if self.flaw("http-sse-crlf") else octets

    def _numbered(self, seq: int, name: bytes, data: bytes) -> list[bytes]:
        lines = [b"id: %d" % seq, b"event: " + name]
        if self.flaw("http-sse-other-order"):
            lines.reverse()
        found = data.splitlines() or [b""]
        lines += [b"data: " + line for line in found]
        if not data and self.flaw("http-sse-no-space"):
            lines[-1] = b"data:"
        return [self._lines(*lines)]

    def _json(self, seq: int, text: bytes) -> list[bytes]:
        return self._numbered(seq, b"item", text)

    def _bin(self, seq: int, data: bytes, base: bytes) -> list[bytes]:  # noqa: ARG002
        return self._numbered(seq, b"bin", base)

    def heartbeat(self) -> bytes:
        """Return a comment."""
        return b": hb\n\n"

    def done(self, trailers: list[tuple[str, str]]) -> bytes:
        """Return the terminal event of a success."""
        value = {"items": self.count("done"), "trailers": dict(trailers)}
        return self._lines(b"event: done", b"data: " + _compact(value))

    def error(self, error: w.CallError) -> bytes:
        """Return the terminal event of a failure."""
        return self._lines(b"event: error", b"data: " + _compact(self.failed(error)))


class Ndjson(Encoder):
    """One JSON object to a line."""

    def _line(self, octets: bytes) -> bytes:
        return octets + b"\n"

    def _more(self) -> bytes:
        return b',"at":1' if self.flaw("http-ndjson-more-members") else b""

    def _json(self, seq: int, text: bytes) -> list[bytes]:
        head = b'{"t":"item","seq":%d' % seq + self._more()
        return [self._line(head + b',"data":' + text + b"}")]

    def _bin(self, seq: int, data: bytes, base: bytes) -> list[bytes]:  # noqa: ARG002
        head = b'{"t":"bin","seq":%d' % seq + self._more()
        return [self._line(head + b',"b64":"' + base + b'"}')]

    def heartbeat(self) -> bytes:
        """Return a line."""
        return b'{"t":"hb"}\n'

    def _last(self, value: dict[str, Any]) -> bytes:
        return _compact(value) + (b"" if self.flaw("http-ndjson-last-lf") else b"\n")

    def done(self, trailers: list[tuple[str, str]]) -> bytes:
        """Return the terminal event of a success."""
        return self._last({"t": "done", "items": self.count("done"), "trailers": dict(trailers)})

    def error(self, error: w.CallError) -> bytes:
        """Return the terminal event of a failure."""
        return self._last({"t": "error", **self.failed(error)})


class Binary(Encoder):
    """Frames of WMX/1."""

    seq = -1

    def start(self) -> bytes:
        """Return what stands in front of the first event."""
        if self.flaw("http-binary-from-one"):
            self.seq = 0
        return w.preface(1, 1) if self.flaw("http-binary-preface") else b""

    def _frame(self, flags: int, payload: bytes) -> bytes:
        self.seq += 1
        return w.frame(RESPONSE, flags, 0, self.seq, self.rid, payload)

    def item(self, data: bytes, declared_json: bool) -> list[bytes]:  # noqa: ARG002
        """Return the frames of a message."""
        self.items += 1
        size = CHUNK
        if len(data) > CHUNK and self.flaw("http-binary-large-frames"):
            size = len(data)
        pieces = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
        frames = []
        for index, piece in enumerate(pieces):
            flags = MORE if index < len(pieces) - 1 else 0
            if self.headers:
                block, self.headers = w.response_block(self.headers), []
                if not piece:  # a frame of META alone carries no message
                    frames.append(self._frame(META, block))
                    block = b""
                frames.append(self._frame(flags | (META if block else 0), block + piece))
            else:
                frames.append(self._frame(flags, piece))
        return frames

    def heartbeat(self) -> bytes:
        """Return a PING."""
        return w.frame(PING, 0, 1, payload=bytes(8))

    def done(self, trailers: list[tuple[str, str]]) -> bytes:
        """Return the success terminal."""
        if trailers and not self.flaw("http-binary-no-trailers"):
            return self._frame(END_STREAM | META, w.response_block(trailers))
        return self._frame(END_STREAM, b"")

    def error(self, error: w.CallError) -> bytes:
        """Return the error terminal."""
        return self._frame(END_STREAM | ERROR, w.error_body(error))


ENCODERS: dict[str, type[Encoder]] = {"sse": Sse, "ndjson": Ndjson, "binary": Binary}
