"""The driver protocol wmx-driver/1 of section 19.4: its operations, its events, their members.

The type of a member is text: a name of `TYPES` or of `SETS`, "[X, ...]" for a list of X, "[X, X]"
for a pair of X, "X or null", or "{?NAME: X, ...}" for an object whose names are those of `NAMES`.
The grammar in the prose and the JSON Schema are both made from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from muxwire_spec.registries import SETTINGS

PROTOCOL = "wmx-driver/1"

_U32 = 2**32 - 1

TYPES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "string": ("", {"type": "string"}),
    "bool": ("", {"type": "boolean"}),
    "any": ("", {}),
    "1..4": ("", {"type": "integer", "minimum": 1, "maximum": 4}),
    "count": ("an integer from 0", {"type": "integer", "minimum": 0}),
    "u32": ("an integer from 0 to 2^32 - 1", {"type": "integer", "minimum": 0, "maximum": _U32}),
    "ms": ("a u32, in milliseconds", {"type": "integer", "minimum": 0, "maximum": _U32}),
    "REF": ("a string that is unique in the whole run", {"type": "string"}),
    "B64": (
        "base64 of RFC 4648 section 4, with padding",
        {"type": "string", "pattern": "^[A-Za-z0-9+/]*={0,2}$"},
    ),
    "ADDR": (
        '"HOST:PORT" or "[V6]:PORT"',
        {"type": "string", "pattern": r"^([^\[\]:]+|\[[^\[\]]+\]):[0-9]{1,5}$"},
    ),
}
"""Simple types: what the grammar's legend says, if they need it, and their schema."""


@dataclass(frozen=True, slots=True)
class Feature:
    """What not every client has: the operations, members and events that it takes.

    `transports` are those on which there is such a thing.
    """

    covers: str
    transports: tuple[str, ...]


_ALL = ("tcp", "callhome", "http")
_TCP = ("tcp",)
_HTTP = ("http",)

FEATURES: Mapping[str, Feature] = {
    "retry": Feature(
        "`retry` events; the client tries again by itself where section 16 allows it", _ALL
    ),
    "connections": Feature("several `addrs`; on tcp also `connections` above 1", _ALL),
    "settings": Feature("`settings`", ("tcp", "callhome")),
    "timing": Feature(
        "`connect_timeout_ms`, `backoff_base_ms`, `backoff_cap_ms`, `wait_ms`; on http also "
        "`heartbeat_ms`, `min_silence_ms`",
        _ALL,
    ),
    "sent": Feature("`sent` events", _TCP),
    "headers": Feature(
        "`headers` of a request, `headers` events, and `trailers` that are not always empty", _ALL
    ),
    "pipelining": Feature("the client opens requests before SETTINGS_ACK has arrived", _TCP),
    "pause": Feature("`pause`, `resume`, and `paused`", _ALL),
    "bidi": Feature("`hold_open` and `send`", _TCP),
    "close": Feature("`close` lets running requests finish; on tcp it sends a GOAWAY", _ALL),
    "sse": Feature('`format` "sse"', _HTTP),
    "ndjson": Feature('`format` "ndjson"', _HTTP),
    "binary": Feature('`format` "binary"', _HTTP),
    "http2": Feature("`http2`", _HTTP),
}
"""Features by their names."""

SETS: Mapping[str, tuple[str, ...]] = {
    "CLASS": ("NOT_SENT", "NOT_PROCESSED", "AMBIGUOUS", "PARTIAL", "FAILED"),
    "TRANSPORT": _ALL,
    "FORMAT": ("sse", "ndjson", "binary"),
    "PARTY": ("peer", "local"),
    "FEATURE": tuple(FEATURES),
    "PROTOCOL": (PROTOCOL,),
}
"""Strings of which a member holds one."""

NAMES = tuple(
    setting.name
    for setting in SETTINGS
    if setting.name != "MAX_CONCURRENT_REQUESTS"  # it has no meaning from a client
)
"""The settings that a tester may give to a client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of a line.

    `default` is what its absence means, "" if that needs words. `excludes` is another member that
    is then absent.
    """

    name: str
    type: str
    optional: bool = False
    default: str = ""
    excludes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One kind of line; its first member, called as `key` says, holds its name."""

    key: str
    name: str
    members: tuple[Member, ...]


def _need(name: str, type_: str) -> Member:
    return Member(name=name, type=type_)


def _may(name: str, type_: str, default: str = "", excludes: str = "") -> Member:
    return Member(name=name, type=type_, optional=True, default=default, excludes=excludes)


def _op(name: str, *members: Member) -> Line:
    return Line(key="op", name=name, members=members)


def _event(name: str, *members: Member) -> Line:
    return Line(key="event", name=name, members=members)


_REF = _need("ref", "REF")
_PAIRS = "[[string, string], ...]"

OPERATIONS = (
    _op(
        "connect",
        _may("addrs", "[ADDR, ...]"),
        _may("transport", "TRANSPORT", '"tcp"'),
        _may("listen", "ADDR", '"127.0.0.1:0"'),
        _may("format", "FORMAT", '"sse"'),
        _may("http2", "bool", "false"),
        _may("connections", "1..4", "1"),
        _may("settings", "{?NAME: count, ...}"),
        _may("connect_timeout_ms", "ms", "5000"),
        _may("backoff_base_ms", "ms", "100"),
        _may("backoff_cap_ms", "ms", "10000"),
        _may("wait_ms", "ms", "10000"),
        _may("heartbeat_ms", "ms", "15000"),
        _may("min_silence_ms", "ms", "10000"),
    ),
    _op(
        "request",
        _REF,
        _need("subject", "string"),
        _may("body_b64", "B64", excludes="messages_b64"),
        _may("messages_b64", "[B64, ...]", excludes="body_b64"),
        _may("headers", _PAIRS),
        _may("idempotent", "bool", "false"),
        _may("timeout_ms", "ms", "0"),
        _may("hold_open", "bool", "false"),
        _may("paused", "bool", "false"),
    ),
    _op("send", _REF, _may("body_b64", "B64"), _may("end", "bool", "false")),
    _op("stop", _REF, _may("reason", "u32", "256")),
    _op("kill", _REF, _may("reason", "u32", "256")),
    _op("pause", _REF),
    _op("resume", _REF),
    _op("sync", _need("id", "any")),
    _op("close"),
)
"""What a driver reads."""

EVENTS = (
    _event(
        "ready",
        _need("driver", "string"),
        _need("protocol", "PROTOCOL"),
        _need("transports", "[TRANSPORT, ...]"),
        _need("features", "[FEATURE, ...]"),
    ),
    _event("listening", _need("addr", "ADDR")),
    _event(
        "connected",
        _need("conn", "count"),
        _need("addr", "string"),
        _need("version", "count"),
    ),
    _event(
        "disconnected",
        _need("conn", "count"),
        _need("addr", "string"),
        _need("handshake", "bool"),
        _need("by", "PARTY"),
        _need("code", "u32 or null"),
        _need("reason", "string"),
    ),
    _event(
        "goaway",
        _need("conn", "count"),
        _need("code", "u32"),
        _need("last_ordinal", "count"),
        _need("grace_ms", "ms"),
    ),
    _event("headers", _REF, _need("headers", _PAIRS)),
    _event("message", _REF, _need("body_b64", "B64")),
    _event("sent", _REF, _need("messages", "count")),
    _event(
        "retry",
        _REF,
        _need("class", "CLASS"),
        _need("code", "u32 or null"),
        _need("attempt", "count"),
        _need("delay_ms", "ms"),
    ),
    _event(
        "end",
        _REF,
        _need("messages", "count"),
        _need("attempts", "count"),
        _need("trailers", _PAIRS),
    ),
    _event(
        "error",
        _REF,
        _need("class", "CLASS"),
        _need("code", "u32 or null"),
        _need("local", "bool"),
        _need("messages", "count"),
        _need("attempts", "count"),
        _may("message", "string"),
    ),
    _event("synced", _need("id", "any")),
    _event("unsupported", _need("op", "string"), _may("ref", "REF"), _may("feature", "string")),
    _event(
        "invalid", _need("op", "string or null"), _may("ref", "REF"), _need("message", "string")
    ),
    _event("closed"),
)
"""What a driver writes."""
