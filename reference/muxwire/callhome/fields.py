"""The fields of a call-home POST: from HTTP headers to values, and back.

Rules of this file: it knows the table of section 21.2 and no HTTP library.  A field that is
malformed, missing or there twice is one error, which names it (P0-017).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from muxwire._generated.http import (
    ATTEMPT,
    REQUEST_ID,
    TRACEPARENT,
    WCH_ADDR,
    WCH_STREAM,
    WCH_TIMEOUT_MS,
    WCH_TOKEN,
)
from muxwire.core.metadata import Header
from muxwire.errors import InvalidArgument
from muxwire.overhttp import for_the_handler, for_the_wire
from muxwire.tcp.address import render

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")
_ADDRESS = re.compile(r"\[([0-9a-fA-F:.]+)\]:([0-9]{1,5})|([0-9.]+):([0-9]{1,5})")
_DECIMAL = re.compile(r"[0-9]{1,10}")
_U32 = 2**32 - 1
_ONCE = (WCH_ADDR, WCH_STREAM, WCH_TOKEN, WCH_TIMEOUT_MS, REQUEST_ID, ATTEMPT, TRACEPARENT)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Fields(NamedTuple):
    """What a POST says about its stream, and the headers for the handler."""

    host: Address
    target: str
    stream: bytes
    token: bytes
    timeout_ms: int
    headers: list[Header]


def read(raw: Sequence[Header]) -> Fields:
    """Read the headers of a POST, in their order.

    Raises:
        InvalidArgument: P0-017, with the name of the field.
    """
    headers = [(name.lower(), value) for name, value in raw]
    values: dict[str, str] = {}
    for name, value in headers:
        text = name.decode("latin-1")
        if text not in _ONCE:
            continue
        if text in values:
            raise InvalidArgument(f"{text} occurs twice (P0-017)")
        values[text] = value.decode("latin-1")
    host, port = _address(_needed(values, WCH_ADDR))
    attempt = values.get(ATTEMPT, "2")
    if not _DECIMAL.fullmatch(attempt) or int(attempt) < 2:
        raise InvalidArgument(f"{ATTEMPT} is not a number from 2 (P0-017)")
    return Fields(
        host,
        render(str(host), port),
        _stream(_needed(values, WCH_STREAM)),
        _token(_needed(values, WCH_TOKEN)),
        _timeout(values.get(WCH_TIMEOUT_MS, "0")),
        for_the_handler(headers),
    )


def write(
    target: str, stream: bytes, token: bytes, timeout_ms: int, headers: Iterable[Header]
) -> list[tuple[str, str]]:
    """Return the headers of a POST.

    Raises:
        InvalidArgument: A header has a name that HTTP or this path uses itself, or a value that
            HTTP would change (section 21.2).
    """
    digits = stream.hex()
    uuid = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    fields = [
        (WCH_ADDR, target),
        (WCH_STREAM, uuid),
        (WCH_TOKEN, base64.urlsafe_b64encode(token).decode().rstrip("=")),
    ]
    if timeout_ms:
        fields.append((WCH_TIMEOUT_MS, str(timeout_ms)))
    return fields + for_the_wire(headers)


def address(text: str) -> Address:
    """Return an address as it is compared: an IPv4 address that IPv6 wraps is that address.

    Raises:
        InvalidArgument: it is none.
    """
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidArgument(f"{text!r} is not an IP address (P0-016)") from None
    mapped = getattr(found, "ipv4_mapped", None)
    return mapped or found


def _needed(values: dict[str, str], name: str) -> str:
    if name not in values:
        raise InvalidArgument(f"{name} is missing (P0-017)")
    return values[name]


def _address(text: str) -> tuple[Address, int]:
    match = _ADDRESS.fullmatch(text)
    if match is None or not 1 <= int(match[2] or match[4]) <= 65_535:
        raise InvalidArgument(f"{WCH_ADDR} is not address:port (P0-017)")
    found = address(match[1] or match[3])
    if bool(match[1]) and ":" not in match[1]:
        raise InvalidArgument(f"{WCH_ADDR} has an IPv4 address in brackets (P0-017)")
    return found, int(match[2] or match[4])


def _stream(text: str) -> bytes:
    if not _UUID.fullmatch(text):
        raise InvalidArgument(f"{WCH_STREAM} is not a UUID (P0-017)")
    octets = bytes.fromhex(text.replace("-", ""))
    if octets in (bytes(16), b"\xff" * 16):
        raise InvalidArgument(f"{WCH_STREAM} is all zeros or all ones (P0-017)")
    return octets


def _token(text: str) -> bytes:
    if not _TOKEN.fullmatch(text):
        raise InvalidArgument(f"{WCH_TOKEN} is not 22 characters of base64url (P0-017)")
    try:
        return base64.urlsafe_b64decode(text + "==")
    except binascii.Error:
        raise InvalidArgument(f"{WCH_TOKEN} is not base64url (P0-017)") from None


def _timeout(text: str) -> int:
    if not _DECIMAL.fullmatch(text) or int(text) > _U32:
        raise InvalidArgument(f"{WCH_TIMEOUT_MS} is not a number up to {_U32} (P0-017)")
    return int(text)
