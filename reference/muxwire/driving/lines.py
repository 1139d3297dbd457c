"""The lines of wmx-driver/1: operations in, events out.

Rules of this file: `OPERATIONS` is the grammar of the specification, member by member.  A check
takes the value of a member and returns what the driver works with; what it refuses is said in one
phrase that follows the member's name.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from muxwire._generated.registries import HTTP_MAX_HEARTBEAT_MS, HTTP_MIN_HEARTBEAT_MS
from muxwire.core.settings import Settings
from muxwire.errors import InvalidArgument
from muxwire.tcp.address import parse

PROTOCOL = "wmx-driver/1"
MAX_LINE = 128 * 1024 * 1024
"""Longest line, octets."""

_U32 = 2**32 - 1


class BadLine(Exception):  # noqa: N818 - it is the line that is bad
    """A line is no operation.

    Attributes:
        op: The operation that it may have meant.
        ref: The request that it names.
    """

    def __init__(self, message: str, op: str | None = None, ref: str | None = None) -> None:
        super().__init__(message)
        self.op = op
        self.ref = ref


# -- members ---------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("is no string")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")
    return value


def _integer(least: int, most: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"is no integer from {least} to {most}")
        return value

    return check


def _octets(value: object) -> bytes:
    try:
        return base64.b64decode(_text(value), validate=True)
    except (binascii.Error, UnicodeEncodeError, ValueError):
        raise ValueError("is no base64") from None


def _list(check: Callable[[object], Any]) -> Callable[[object], list[Any]]:
    def check_all(value: object) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError("is no list")
        return [check(item) for item in value]

    return check_all


def _pair(value: object) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError("holds what is no pair")
    return _text(value[0]), _text(value[1])


def _address(value: object) -> str:
    try:
        parse(_text(value))
    except InvalidArgument as error:
        raise ValueError(f"holds what is no address: {error}") from None
    return _text(value)


def _one_of(*names: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in names:
            raise ValueError(f"is none of {', '.join(names)}")
        return _text(value)

    return check


def _settings(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        raise ValueError("is no object")
    known = {name.upper() for name in Settings.__dataclass_fields__}
    check = _integer(0, 2**64)
    changes = {name.lower(): check(value[name]) for name in sorted(known & value.keys())}
    try:
        Settings.recommended(**changes).check()
    except InvalidArgument as error:
        raise ValueError(f"are not allowed: {error}") from None
    return changes


def _any(value: object) -> object:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise ValueError("holds a number that JSON cannot say") from None
    return value


_NEEDED = object()
_MS = _integer(0, _U32)
_PAIRS = _list(_pair)
_REF = {"ref": (_text, _NEEDED)}

OPERATIONS: Mapping[str, Mapping[str, tuple[Callable[[object], Any], object]]] = {
    "connect": {
        "addrs": (_list(_address), None),
        "transport": (_text, "tcp"),
        "listen": (_address, "127.0.0.1:0"),
        "format": (_one_of("sse", "ndjson", "binary"), "sse"),
        "http2": (_flag, False),
        "connections": (_integer(1, 4), 1),
        "settings": (_settings, None),
        "connect_timeout_ms": (_MS, 5_000),
        "backoff_base_ms": (_MS, 100),
        "backoff_cap_ms": (_MS, 10_000),
        "wait_ms": (_MS, 10_000),
        "heartbeat_ms": (_integer(HTTP_MIN_HEARTBEAT_MS, HTTP_MAX_HEARTBEAT_MS), 15_000),
        "min_silence_ms": (_MS, 10_000),
    },
    "request": {
        **_REF,
        "subject": (_text, _NEEDED),
        "body_b64": (_octets, None),
        "messages_b64": (_list(_octets), None),
        "headers": (_PAIRS, None),
        "idempotent": (_flag, False),
        "timeout_ms": (_MS, 0),
        "hold_open": (_flag, False),
        "paused": (_flag, False),
    },
    "send": {**_REF, "body_b64": (_octets, None), "end": (_flag, False)},
    "stop": {**_REF, "reason": (_integer(0, _U32), 256)},
    "kill": {**_REF, "reason": (_integer(0, _U32), 256)},
    "pause": _REF,
    "resume": _REF,
    "sync": {"id": (_any, _NEEDED)},
    "close": {},
}
"""Per operation, each member with its check and the value that stands for its absence."""


# -- lines -----------------------------------------------------------------------------------------


def read(line: bytes) -> tuple[str, dict[str, Any]]:
    """Return the name of an operation and all its members.

    Raises:
        BadLine: it is none.
    """
    try:
        found = json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise BadLine(f"the line is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadLine("the line is no object")
    op, ref = found.get("op"), found.get("ref")
    ref = ref if isinstance(ref, str) else None
    if not isinstance(op, str):
        raise BadLine("op is missing, or no string", None, ref)
    if op not in OPERATIONS:
        raise BadLine("there is no such operation", op, ref)
    members = {}
    for name, (check, default) in OPERATIONS[op].items():
        if name in found:
            try:
                members[name] = check(found[name])
            except ValueError as error:
                raise BadLine(f"{name} {error}", op, ref) from None
        elif default is _NEEDED:
            raise BadLine(f"{name} is missing", op, ref)
        else:
            members[name] = default
    if "body_b64" in found and members.get("messages_b64") is not None:
        raise BadLine("body_b64 and messages_b64 exclude each other", op, ref)
    return op, members


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def write(event: str, members: Mapping[str, object]) -> bytes:
    """Return an event as a line."""
    return json.dumps({"event": event, **members}).encode() + b"\n"


class Lines:
    """Cuts what is read into lines.  One that is too long becomes None."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """Yield each line that is complete now."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._keep(part)
            yield self._take()
        self._keep(rest)

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            self._parts.clear()
        else:
            self._parts.append(part)

    def _take(self) -> bytes | None:
        line = None if self._size > self._limit else b"".join(self._parts)
        self._parts, self._size = [], 0
        return line


def encode(data: bytes) -> str:
    """Return octets in base64."""
    return base64.b64encode(data).decode()
