"""The formats of a response over HTTP (chapter 22): media types, the forms of events, the choice.

`negotiate` is the rule of P1-001 as a program; the vectors of the choice are computed with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from muxwire_spec.model import Constant, EventForm, Format

SSE, NDJSON, BINARY = "sse", "ndjson", "binary"

FORMATS: tuple[Format, ...] = (
    Format(name=SSE, types=("text/event-stream",), doc="server-sent events, UTF-8"),
    Format(
        name=NDJSON,
        types=("application/x-ndjson", "application/ndjson", "application/jsonl"),
        doc="one JSON object to a line",
    ),
    Format(
        name=BINARY,
        types=("application/vnd.wmx-stream", "application/octet-stream"),
        doc="frames of WMX/1 without a preface",
    ),
)
"""In the order of preference. The first media type is the format's own; the others are aliases."""

EVENTS: tuple[EventForm, ...] = (
    EventForm(
        name="item",
        sse='"id: " seq LF "event: item" LF "data: " json LF LF',
        ndjson='{"t":"item","seq":seq,"data":json} LF',
        binary="RESPONSE frames of one message",
        doc="an item of a handler that declared `application/json`",
    ),
    EventForm(
        name="bin",
        sse='"id: " seq LF "event: bin" LF "data: " base64 LF LF',
        ndjson='{"t":"bin","seq":seq,"b64":base64} LF',
        binary="RESPONSE frames of one message",
        doc="any other item",
    ),
    EventForm(
        name="heartbeat",
        sse='": hb" LF LF',
        ndjson='{"t":"hb"} LF',
        binary="PING, which is not answered",
        doc="nothing was sent for a while",
    ),
    EventForm(
        name="done",
        sse='"event: done" LF "data: " {"items":n,"trailers":{...}} LF LF',
        ndjson='{"t":"done","items":n,"trailers":{...}} LF',
        binary="success terminal, trailers as META",
        doc="the response is whole",
    ),
    EventForm(
        name="error",
        sse='"event: error" LF "data: " {error object, "items":n} LF LF',
        ndjson='{"t":"error", error object, "items":n} LF',
        binary="error terminal",
        doc="the request has failed behind n items",
    ),
)


def _constant(name: str, value: int, unit: str, doc: str) -> Constant:
    return Constant(name=f"HTTP_{name}", value=value, unit=unit, doc=doc)


CONSTANTS: tuple[Constant, ...] = (
    _constant("PORT", 8_082, "port", "`DYN_HTTP_RESPONSE_PORT`"),
    _constant("HEARTBEAT_MS", 15_000, "ms", "`wmx-heartbeat-ms` when it is missing"),
    _constant("MIN_HEARTBEAT_MS", 100, "ms", "Least `wmx-heartbeat-ms`"),
    _constant("MAX_HEARTBEAT_MS", 60_000, "ms", "Greatest `wmx-heartbeat-ms`"),
    _constant("CHUNK", 65_536, "octets", "Binary: largest payload of a frame without metadata"),
    _constant("MAX_HEADER_SIZE", 16_384, "octets", "All fields of a request"),
    _constant("HEADER_TIMEOUT_MS", 5_000, "ms", "A request's fields, from its first octet"),
    _constant("WRITE_STALL_MS", 60_000, "ms", "The client takes no octet"),
    _constant("MIN_SILENCE_MS", 10_000, "ms", "Client: least silence after which a stream is lost"),
    _constant("SILENT_HEARTBEATS", 3, "heartbeats", "Client: the same as a number of heartbeats"),
    _constant("END_TIMEOUT_MS", 2_000, "ms", "Client: done to the end of the body"),
)

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEMBER = re.compile(
    rf"\s*({_TOKEN})/({_TOKEN})\s*((?:;\s*{_TOKEN}\s*=\s*(?:{_TOKEN}|\"[^\"]*\")\s*)*)\s*"
)
_PARAMETER = re.compile(rf";\s*({_TOKEN})\s*=\s*({_TOKEN}|\"[^\"]*\")")
_Q = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


def negotiate(accept: str | None, default: str = SSE) -> str | None:
    """Return the media type of the answer to an Accept field, or None for 406 (P1-001).

    Args:
        accept: The field; several are joined with commas. None: there is none.
        default: The name of the format that ties and wildcards prefer.
    """
    ranges = list(_ranges(accept or "")) or [("*", "*", 1.0)]
    order = sorted(FORMATS, key=lambda found: found.name != default)
    best: tuple[float, str] | None = None
    for found in order:
        quality, type_ = max(
            ((_quality(ranges, type_), type_) for type_ in found.types),
            key=lambda pair: pair[0],
        )
        if quality > 0 and (best is None or quality > best[0]):
            best = quality, type_
    return None if best is None else best[1]


def _ranges(accept: str) -> Iterator[tuple[str, str, float]]:
    for member in re.findall(r'(?:[^,"]|"[^"]*")+', accept):
        match = _MEMBER.fullmatch(member)
        if match is None or (match[1] == "*" != match[2]):
            continue
        given = {name.lower(): value for name, value in _PARAMETER.findall(match[3])}
        weight = given.get("q", "1")
        if _Q.fullmatch(weight):
            yield match[1].lower(), match[2].lower(), float(weight)


def _quality(ranges: list[tuple[str, str, float]], type_: str) -> float:
    """Return the weight of the most specific range that matches; 0 when none does."""
    major, minor = type_.split("/")
    for wanted in ((major, minor), (major, "*"), ("*", "*")):
        found = [weight for *pair, weight in ranges if tuple(pair) == wanted]
        if found:
            return max(found)
    return 0.0
