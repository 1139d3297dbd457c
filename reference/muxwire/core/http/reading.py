"""What the three readers have in common: events, limits, and the JSON in them.

Rules of this file: an item is a plain `bytes`, since there are many.  What is not of the format
raises a violation that names the rule (P1-022); an item above the limit raises MSG-003.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from json import JSONDecoder
from typing import Any, NamedTuple, NoReturn, Protocol, TypeAlias, TypeGuard

from muxwire._generated.registries import MAX_ERROR_MESSAGE, ErrorCode
from muxwire.core.metadata import Header
from muxwire.errors import ProtocolViolation

SLACK = 4_096
"""Octets that an event may have besides its item."""

_U32 = 2**32 - 1


class Headers(NamedTuple):
    """The response headers, which only the binary format has."""

    headers: list[Header]


class Done(NamedTuple):
    """The response is whole; `items` is None in the binary format, which does not say."""

    items: int | None
    trailers: list[Header]


class Failed(NamedTuple):
    """The request has failed behind `items` items."""

    items: int | None
    code: int
    message: str
    retry_after_ms: int
    error_flags: int = 0
    detail: bytes = b""


Event: TypeAlias = bytes | Headers | Done | Failed
"""An item, or what stands around the items."""


class Reader(Protocol):
    """Reads the body of one response."""

    def read(self, data: bytes) -> Iterator[Event]:
        """Yield what is complete with these octets; exhaust it before the next call.

        Raises:
            ProtocolViolation: the octets are not of the format, or an item is too large.  The
                events before it have been yielded; the reader is of no use after it.
        """


def longest(limit: int) -> int:
    """Return how many octets of an event may wait for its end: an item in base64, and slack."""
    return 4 * (limit + 2) // 3 + SLACK


def fault(detail: str, requirement: str = "P1-022") -> ProtocolViolation:
    """Return the error of octets that are not of the format."""
    return ProtocolViolation(ErrorCode.PROTOCOL_ERROR, "stream", requirement, detail)


def too_large(limit: int) -> ProtocolViolation:
    """Return the error of an item above the limit."""
    return ProtocolViolation(
        ErrorCode.MESSAGE_TOO_LARGE, "stream", "MSG-003", f"an item has more than {limit} octets"
    )


def out_of_order(found: str, expected: int) -> ProtocolViolation:
    """Return the error of an item whose number is not the next one."""
    return fault(f"an item has the seq {found}, not {expected}", "P1-009")


def in_base64(size: int) -> int:
    """Return how long so many octets are in base64: strict decoding lets needless padding pass."""
    return (size + 2) // 3 * 4


def from_base64(text: bytes, seq: int, limit: int) -> bytes:
    """Return the octets of a `bin` item.

    Raises:
        ProtocolViolation: it is no base64, or too large.
    """
    try:
        item = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        raise fault(f"item {seq} is not base64") from None
    if len(text) != in_base64(len(item)):
        raise fault(f"item {seq} is base64 with too much padding")
    if len(item) > limit:
        raise too_large(limit)
    return item


# -- JSON ------------------------------------------------------------------------------------------


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= 20 else None


_SPACE = " \t\n\r"
_check = JSONDecoder(parse_constant=_refuse, parse_int=len, parse_float=len).raw_decode
"""Tells whether a text begins with JSON, and where that ends; numbers are not evaluated."""

_OBJECTS = JSONDecoder(parse_constant=_refuse, parse_int=_whole)
_BROKEN = (ValueError, RecursionError)


def from_json(text: bytes, seq: int, limit: int) -> bytes:
    """Return the octets of an `item` item, which are its JSON text.

    Raises:
        ProtocolViolation: it is no JSON, or too large.
    """
    if len(text) > limit:
        raise too_large(limit)
    if not is_json(text):
        raise fault(f"item {seq} is not JSON in UTF-8")
    return text


def is_json(text: bytes) -> bool:
    """Whether these octets are one JSON value in UTF-8; one nested too deeply to tell is none."""
    try:
        value = text.decode().strip(_SPACE)
        return _check(value)[1] == len(value)
    except _BROKEN:
        return False


class Member(NamedTuple):
    """A value in a JSON object, and its text."""

    value: Any
    text: str


def read_object(octets: bytes) -> dict[str, Member]:
    """Return the members of a JSON object, each with its text; none may be there twice.

    Raises:
        ValueError: It is no such object.
    """
    text = octets.decode()
    members: dict[str, Member] = {}
    at = _expect(text, _skip(text, 0), "{")
    if text[(at := _skip(text, at)) : at + 1] != "}":
        while True:
            if text[at : at + 1] != '"':
                raise ValueError("a member has no name")
            name, at = _value(text, at)
            at = _skip(text, _expect(text, _skip(text, at), ":"))
            value, end = _value(text, at)
            if name in members:
                raise ValueError(f"{name} is there twice")
            members[name] = Member(value, text[at:end])
            at = _skip(text, end)
            if text[at : at + 1] != ",":
                break
            at = _skip(text, at + 1)
    at = _skip(text, _expect(text, at, "}"))
    if at != len(text):
        raise ValueError("something follows the object")
    return members


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _OBJECTS.raw_decode(text, at)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _expect(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise ValueError(f"{mark} is missing")
    return at + 1


def to_done(members: dict[str, Member]) -> Done:
    """Return what a `done` says.

    Raises:
        ProtocolViolation: a member is missing or of another type.
    """
    items = _number(members, "done", "items")
    trailers = members["trailers"].value if "trailers" in members else None
    if not isinstance(trailers, dict):
        raise fault("done has no object trailers")
    try:
        pairs = [(name.encode(), value.encode()) for name, value in trailers.items()]
    except (AttributeError, UnicodeEncodeError):
        raise fault("a trailer is not a string") from None
    return Done(items, pairs)


def to_failed(members: dict[str, Member]) -> Failed:
    """Return what an `error` says: the error object, and the number of items.

    Raises:
        ProtocolViolation: `num` or `items` is missing, or a member is of another type.
    """
    message = members["message"].value if "message" in members else ""
    if not isinstance(message, str):
        raise fault("message of error is not a string")
    hint = _number(members, "error", "retry_after_ms") if "retry_after_ms" in members else 0
    return Failed(
        _number(members, "error", "items"),
        _number(members, "error", "num"),
        message[:MAX_ERROR_MESSAGE],
        hint,
    )


def _number(members: dict[str, Member], event: str, name: str) -> int:
    value = members[name].value if name in members else None
    if is_u32(value):
        return value
    raise fault(f"{name} of {event} is not a number from 0 to {_U32}")


def is_u32(value: Any) -> TypeGuard[int]:
    """Whether a JSON value is a whole number from 0 to 2**32 - 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _U32
