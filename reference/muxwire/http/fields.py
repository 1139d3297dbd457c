"""The fields of a POST of this path: from HTTP to values.

Rules of this file: it knows the table of section 21.2 and no HTTP library.  A field `wmx-` that is
malformed or there twice is one error, which names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from muxwire._generated.http import REQUEST_ID, WMX_HEARTBEAT_MS, WMX_TIMEOUT_MS
from muxwire._generated.registries import (
    HTTP_HEARTBEAT_MS,
    HTTP_MAX_HEARTBEAT_MS,
    HTTP_MIN_HEARTBEAT_MS,
)
from muxwire.core.metadata import Header
from muxwire.errors import InvalidArgument
from muxwire.overhttp import for_the_handler

_UUID = re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DECIMAL = re.compile(rb"[0-9]{1,10}")
_U32 = 2**32 - 1
_NOT_IDS = (bytes(16), b"\xff" * 16)
_COOKIE = b"cookie"
_RESUME = b"last-event-id"


class Fields(NamedTuple):
    """What a POST says about its response, and the headers for the handler.

    Attributes:
        timeout_ms: 0: no limit.
        heartbeat_ms: Longest silence in the response.
        request_id: The 16 octets of request-id if that is a UUID.
        accept: The field Accept, None if there is none.
        content_type: The field Content-Type, None if there is none.
        content_encoding: The field Content-Encoding, None if there is none.
        content_length: The size that is announced, 0 if none is.
        resumes: There is a last-event-id.
        headers: What the handler sees.
    """

    timeout_ms: int
    heartbeat_ms: int
    request_id: bytes | None
    accept: str | None
    content_type: str | None
    content_encoding: str | None
    content_length: int
    resumes: bool
    headers: list[Header]


def size(raw: Iterable[Header]) -> int:
    """Return the octets of all fields, as HTTP/1.1 writes them (P1-018)."""
    return sum(len(name) + len(value) + 4 for name, value in raw)


def read(raw: Iterable[Header]) -> Fields:
    """Read the fields of a POST, in their order.

    Raises:
        InvalidArgument: A field `wmx-` is malformed or there twice.
    """
    headers = _with_one_cookie([(name.lower(), value) for name, value in raw])
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    ids = values.get(REQUEST_ID.encode(), [])
    length = _joined(values, b"content-length") or ""
    return Fields(
        _number(values, WMX_TIMEOUT_MS, 0, 0, _U32),
        _number(
            values,
            WMX_HEARTBEAT_MS,
            HTTP_HEARTBEAT_MS,
            HTTP_MIN_HEARTBEAT_MS,
            HTTP_MAX_HEARTBEAT_MS,
        ),
        _uuid(ids[0]) if ids else None,
        _joined(values, b"accept"),
        _joined(values, b"content-type"),
        _joined(values, b"content-encoding"),
        int(length) if length.isdecimal() and len(length) < 20 else 0,
        _RESUME in values,
        for_the_handler(headers),
    )


def _with_one_cookie(headers: list[Header]) -> list[Header]:
    """Join what HTTP/2 may have split (RFC 9113 section 8.2.3)."""
    crumbs = [value for name, value in headers if name == _COOKIE]
    if len(crumbs) < 2:
        return headers
    others = [header for header in headers if header[0] != _COOKIE]
    return [*others, (_COOKIE, b"; ".join(crumbs))]


def _joined(values: dict[bytes, list[bytes]], name: bytes) -> str | None:
    found = values.get(name)
    return None if found is None else b", ".join(found).decode("latin-1")


def _number(
    values: dict[bytes, list[bytes]], name: str, default: int, least: int, most: int
) -> int:
    found = values.get(name.encode())
    if found is None:
        return default
    if len(found) > 1:
        raise InvalidArgument(f"{name} occurs twice (P1-015)")
    if not _DECIMAL.fullmatch(found[0]) or not least <= int(found[0]) <= most:
        raise InvalidArgument(f"{name} is not a number from {least} to {most} (P1-015)")
    return int(found[0])


def _uuid(value: bytes) -> bytes | None:
    if not _UUID.fullmatch(value):
        return None
    octets = bytes.fromhex(value.decode().replace("-", ""))
    return None if octets in _NOT_IDS else octets
