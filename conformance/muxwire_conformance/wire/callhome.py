"""Build what only WCH/1 has: its preface, HELLO, ACCEPT, REJECT and DONE (chapter 21)."""

from __future__ import annotations

from typing import Unpack

from muxwire_conformance.wire.building import HeaderFields, Override, frame
from muxwire_conformance.wire.layout import (
    ACCEPT,
    CONTROL,
    DONE,
    HEADER_SIZE,
    HELLO,
    PREFACE,
    REJECT,
    VERSION,
    WCH_MAGIC,
    code,
)


def wch_preface(
    *,
    idle_timeout_ms: int = 0,
    ver_hi: int = VERSION,
    ver_lo: int = VERSION,
    header_size: int = HEADER_SIZE,
    flags: int = 0,
    magic: bytes = WCH_MAGIC,
) -> bytes:
    """Build the 16 octets that each side of a call-home connection begins with."""
    return PREFACE.pack(magic, ver_hi, ver_lo, header_size, flags, idle_timeout_ms)


def _control(subtype: int, request_id: bytes, payload: bytes, override: HeaderFields) -> bytes:
    legal: Override = {"type": CONTROL, "subtype": subtype, "request_id": request_id}
    legal.update(override)  # type: ignore[typeddict-item]
    return frame(payload, **legal)


def hello(request_id: bytes, token: bytes, **header: Unpack[HeaderFields]) -> bytes:
    """Build HELLO; a legal token has 16 octets."""
    return _control(HELLO, request_id, token, header)


def accept(request_id: bytes, payload: bytes = b"", **header: Unpack[HeaderFields]) -> bytes:
    """Build ACCEPT; a payload is illegal and only there to be refused."""
    return _control(ACCEPT, request_id, payload, header)


def reject(
    request_id: bytes,
    error: str | int = "NOT_FOUND",
    *,
    payload: bytes | None = None,
    **header: Unpack[HeaderFields],
) -> bytes:
    """Build REJECT."""
    body = code(error).to_bytes(4, "big") if payload is None else payload
    return _control(REJECT, request_id, body, header)


def done(request_id: bytes, payload: bytes = b"", **header: Unpack[HeaderFields]) -> bytes:
    """Build DONE; a payload is illegal and only there to be refused."""
    return _control(DONE, request_id, payload, header)
