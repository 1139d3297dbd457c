"""Build octets: every builder makes a legal frame of which any header field can be overridden."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict, Unpack

from muxwire_conformance.wire.layout import (
    CONNECTION_ID,
    CONTROL,
    END_STREAM,
    ERROR_HEAD,
    GOAWAY,
    GOAWAY_HEAD,
    HEADER,
    HEADER_SIZE,
    HEARTBEAT,
    KILL,
    MAGIC,
    MARKER,
    META,
    MORE,
    OPEN_HEAD,
    PING,
    PONG,
    PREFACE,
    REQUEST,
    RESPONSE,
    SETTING,
    SETTINGS_ACK,
    SETTINGS_SUBTYPE,
    STOP,
    VERSION,
    WINDOW_UPDATE,
    code,
    setting_id,
)


class HeaderFields(TypedDict, total=False):
    """Header fields that a builder's caller may override, legal or not.

    ``length`` is the declared payload length; the payload itself stays as built.
    """

    marker: int
    type: int
    flags: int
    subtype: int
    seq: int
    length: int


class Override(HeaderFields, total=False):
    """Header fields and the request id, for builders that have no id of their own."""

    request_id: bytes


def frame(payload: bytes = b"", **header: Unpack[Override]) -> bytes:
    """Build any frame; fields that are not given are 0, the marker and length are right."""
    return (
        HEADER.pack(
            header.get("marker", MARKER),
            header.get("type", 0),
            header.get("flags", 0),
            header.get("subtype", 0),
            header.get("seq", 0),
            header.get("length", len(payload)),
            header.get("request_id", CONNECTION_ID),
        )
        + payload
    )


def _built(payload: bytes, legal: Override, override: HeaderFields) -> bytes:
    legal.update(override)  # type: ignore[typeddict-item]
    return frame(payload, **legal)


def preface(
    *,
    ver_hi: int = VERSION,
    ver_lo: int = VERSION,
    header_size: int = HEADER_SIZE,
    flags: int = 0,
    reserved: int = 0,
    magic: bytes = MAGIC,
) -> bytes:
    """Build the 16 octets that open a connection."""
    return PREFACE.pack(magic, ver_hi, ver_lo, header_size, flags, reserved)


def settings(
    pairs: Iterable[tuple[str | int, int]] = (), *, extra: bytes = b"", **header: Unpack[Override]
) -> bytes:
    """Build SETTINGS from ``(name or id, value)`` pairs, in that order, repeats included."""
    payload = b"".join(SETTING.pack(setting_id(name), value) for name, value in pairs) + extra
    return _built(payload, {"type": CONTROL, "subtype": SETTINGS_SUBTYPE}, header)


def settings_ack(payload: bytes = b"", **header: Unpack[Override]) -> bytes:
    """Build SETTINGS_ACK; a payload is illegal and only there to be refused."""
    return _built(payload, {"type": CONTROL, "subtype": SETTINGS_ACK}, header)


def window_update(limit: int, *, payload: bytes | None = None, **header: Unpack[Override]) -> bytes:
    """Build WINDOW_UPDATE with an absolute limit, for the connection unless an id is given."""
    body = limit.to_bytes(8, "big") if payload is None else payload
    return _built(body, {"type": CONTROL, "subtype": WINDOW_UPDATE}, header)


def stop(
    request_id: bytes,
    reason: str | int = "CANCELLED",
    *,
    payload: bytes | None = None,
    **header: Unpack[HeaderFields],
) -> bytes:
    """Build STOP."""
    body = code(reason).to_bytes(4, "big") if payload is None else payload
    return _built(body, {"type": CONTROL, "subtype": STOP, "request_id": request_id}, header)


def kill(
    request_id: bytes,
    reason: str | int = "CANCELLED",
    *,
    payload: bytes | None = None,
    **header: Unpack[HeaderFields],
) -> bytes:
    """Build KILL."""
    body = code(reason).to_bytes(4, "big") if payload is None else payload
    return _built(body, {"type": CONTROL, "subtype": KILL, "request_id": request_id}, header)


def goaway(
    error: str | int = "NO_ERROR",
    *,
    last_ordinal: int = 0,
    grace_ms: int = 0,
    message: bytes = b"",
    payload: bytes | None = None,
    **header: Unpack[Override],
) -> bytes:
    """Build GOAWAY."""
    body = payload
    if body is None:
        body = GOAWAY_HEAD.pack(code(error), last_ordinal, grace_ms, len(message)) + message
    return _built(body, {"type": CONTROL, "subtype": GOAWAY}, header)


def ping(opaque: bytes = bytes(8), **header: Unpack[Override]) -> bytes:
    """Build PING; the octets are normally 8."""
    return _built(opaque, {"type": HEARTBEAT, "subtype": PING}, header)


def pong(opaque: bytes = bytes(8), **header: Unpack[Override]) -> bytes:
    """Build PONG."""
    return _built(opaque, {"type": HEARTBEAT, "subtype": PONG}, header)


def grease(kind: int = 0x8A, payload: bytes = b"", **header: Unpack[Override]) -> bytes:
    """Build an ignorable extension frame (FRM-012)."""
    return _built(payload, {"type": kind}, header)


def headers_block(headers: Iterable[tuple[str | bytes, str | bytes]]) -> bytes:
    """Build ``str8 key, str16 value`` for each header, without their count."""
    parts = []
    for key, value in headers:
        raw_key = key.encode() if isinstance(key, str) else key
        raw_value = value.encode() if isinstance(value, str) else value
        parts.append(bytes([len(raw_key)]) + raw_key)
        parts.append(len(raw_value).to_bytes(2, "big") + raw_value)
    return b"".join(parts)


def open_metadata(
    subject: str | bytes,
    *,
    timeout_ms: int = 0,
    request_flags: int = 0,
    headers: Sequence[tuple[str | bytes, str | bytes]] = (),
    header_count: int | None = None,
    subject_length: int | None = None,
    extension: bytes = b"",
    meta_length: int | None = None,
) -> bytes:
    """Build an OPEN's metadata block, its length field included.

    Args:
        subject: Subject, as text or as raw octets.
        timeout_ms: Deadline of the request, 0 for none.
        request_flags: u16 of request flags.
        headers: Pairs of key and value.
        header_count: The count to declare, if not the real one.
        subject_length: The subject length to declare, if not the real one.
        extension: Octets behind the last header, inside the block.
        meta_length: The length to declare, if not the real one.
    """
    raw = subject.encode() if isinstance(subject, str) else subject
    count = len(headers) if header_count is None else header_count
    block = (
        OPEN_HEAD.pack(
            timeout_ms,
            request_flags,
            count,
            len(raw) if subject_length is None else subject_length,
        )
        + raw
        + headers_block(headers)
        + extension
    )
    return (len(block) if meta_length is None else meta_length).to_bytes(4, "big") + block


def open_request(
    request_id: bytes,
    subject: str | bytes,
    body: bytes = b"",
    *,
    end: bool = True,
    more: bool = False,
    timeout_ms: int = 0,
    request_flags: int = 0,
    headers: Sequence[tuple[str | bytes, str | bytes]] = (),
    extension: bytes = b"",
    metadata: bytes | None = None,
    **header: Unpack[HeaderFields],
) -> bytes:
    """Build the OPEN (REQUEST with seq 0); ``metadata`` replaces the whole block if given."""
    if metadata is None:
        metadata = open_metadata(
            subject,
            timeout_ms=timeout_ms,
            request_flags=request_flags,
            headers=headers,
            extension=extension,
        )
    flags = META | (END_STREAM if end else 0) | (MORE if more else 0)
    legal: Override = {"type": REQUEST, "flags": flags, "request_id": request_id}
    return _built(metadata + body, legal, header)


def request(
    request_id: bytes,
    seq: int,
    body: bytes = b"",
    /,
    *,
    end: bool = False,
    more: bool = False,
    **header: Unpack[HeaderFields],
) -> bytes:
    """Build a REQUEST frame behind the OPEN (seq 1, 2, ...)."""
    flags = (END_STREAM if end else 0) | (MORE if more else 0)
    legal: Override = {"type": REQUEST, "flags": flags, "seq": seq, "request_id": request_id}
    return _built(body, legal, header)


def response(
    request_id: bytes,
    seq: int = 0,
    body: bytes = b"",
    /,
    *,
    end: bool = False,
    more: bool = False,
    **header: Unpack[HeaderFields],
) -> bytes:
    """Build a RESPONSE frame without metadata; from a client this is illegal (TYP-001)."""
    flags = (END_STREAM if end else 0) | (MORE if more else 0)
    legal: Override = {"type": RESPONSE, "flags": flags, "seq": seq, "request_id": request_id}
    return _built(body, legal, header)


def metadata(headers: Sequence[tuple[str | bytes, str | bytes]] = ()) -> bytes:
    """Build the metadata block of a response, its length field included."""
    block = len(headers).to_bytes(2, "big") + headers_block(headers)
    return len(block).to_bytes(4, "big") + block


def error_body(
    error: str | int,
    message: bytes = b"",
    *,
    flags: int = 0,
    retry_after_ms: int = 0,
    detail: bytes = b"",
    message_length: int | None = None,
) -> bytes:
    """Build an error body; ``message_length`` is what to declare, if not the real length."""
    declared = len(message) if message_length is None else message_length
    return ERROR_HEAD.pack(code(error), flags, retry_after_ms, declared) + message + detail
