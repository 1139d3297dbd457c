"""Encode and decode the octets of WMX/1 by hand, from the specification's tables alone.

This module is on purpose a second reading of the tables: nothing here is shared with the layouts
that the conformance suite uses, so that a mistake in one of them shows as a disagreement.
Decoders raise `ViolationError` (the connection ends) and never keep state.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

MARKER = 0xF7
MAGIC = bytes((0xF7, 0x57, 0x4D, 0x58, 0x0D, 0x0A, 0x1A, 0x0A))
VERSION = 1
HEADER_SIZE = 32
PREFACE_SIZE = 16

REQUEST, RESPONSE, CONTROL, HEARTBEAT = 1, 2, 3, 4
END_STREAM, MORE, META, ERROR = 1, 2, 4, 8
SETTINGS, SETTINGS_ACK, WINDOW_UPDATE, STOP, KILL, GOAWAY = 1, 2, 3, 4, 5, 6
PING, PONG = 1, 2

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR_CONN, FLOW_CONTROL_ERROR = 0, 1, 2, 3
FRAME_SIZE_ERROR, SETTINGS_ERROR, HANDSHAKE_TIMEOUT, HEARTBEAT_TIMEOUT = 4, 5, 6, 7
ENHANCE_YOUR_CALM, CONNECTION_LIMIT, SEQUENCE_ERROR = 8, 0x0A, 0x0B
DUPLICATE_REQUEST, UNSUPPORTED_FRAME, STREAM_STATE_ERROR = 0x0C, 0x0D, 0x0E
CANCELLED, DEADLINE_EXCEEDED, NOT_FOUND, INVALID_ARGUMENT = 0x100, 0x101, 0x102, 0x103
OVERLOADED, DRAINING, MESSAGE_TOO_LARGE, APPLICATION_ERROR = 0x104, 0x105, 0x106, 0x107
SHUTDOWN, SLOW_CONSUMER, INTERNAL_ERROR, UNIMPLEMENTED = 0x108, 0x109, 0x10A, 0x10B

NOT_PROCESSED, NON_RETRYABLE = 1, 2

S_MAX_FRAME, S_MAX_CONCURRENT, S_STREAM_WINDOW, S_CONNECTION_WINDOW = 1, 2, 3, 4
S_MAX_METADATA, S_MAX_MESSAGE, S_IDLE_TIMEOUT = 5, 6, 7

# id: (assumed before SETTINGS, lowest legal, highest legal)
SETTING_RANGES: dict[int, tuple[int, int, int]] = {
    S_MAX_FRAME: (16_384, 16_384, 16_777_216),
    S_MAX_CONCURRENT: (100, 100, 1_048_576),
    S_STREAM_WINDOW: (65_536, 65_536, 1 << 40),
    S_CONNECTION_WINDOW: (1_048_576, 1_048_576, 1 << 40),
    S_MAX_METADATA: (8_192, 8_192, 65_536),
    S_MAX_MESSAGE: (1_048_576, 1_048_576, 1 << 40),
    S_IDLE_TIMEOUT: (60_000, 100, 600_000),
}
RECOMMENDED: dict[int, int] = {
    S_MAX_FRAME: 65_536,
    S_MAX_CONCURRENT: 1_024,
    S_STREAM_WINDOW: 262_144,
    S_CONNECTION_WINDOW: 67_108_864,
    S_MAX_METADATA: 16_384,
    S_MAX_MESSAGE: 67_108_864,
    S_IDLE_TIMEOUT: 60_000,
}

ZERO_ID = bytes(16)
ONES_ID = b"\xff" * 16

_PREFACE = struct.Struct(">8sBBBBI")
_HEADER = struct.Struct(">BBBBIQ16s")
_SETTING = struct.Struct(">HQ")
_OPEN_FIXED = struct.Struct(">IHH")
_ERROR_FIXED = struct.Struct(">IHIH")
_GOAWAY_FIXED = struct.Struct(">IQIH")
_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")

_SUBJECT = re.compile(rb"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_KEY = re.compile(rb"[a-z0-9._-]{1,64}")

FlawTest = Callable[[str], bool]


class ViolationError(Exception):
    """A violation by the peer that ends the connection with GOAWAY(code)."""

    def __init__(self, code: int, requirement: str, text: str) -> None:
        super().__init__(f"{requirement}: {text}")
        self.code = code
        self.requirement = requirement
        self.text = text


class CallError(Exception):
    """A failure of one request, sent as the error body of its terminal frame."""

    def __init__(self, code: int, text: str = "", flags: int = 0, retry_after_ms: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.flags = flags
        self.retry_after_ms = retry_after_ms


@dataclass(slots=True)
class Head:
    """The 32 octets in front of every payload."""

    marker: int
    type: int
    flags: int
    subtype: int
    seq: int
    length: int
    rid: bytes

    @classmethod
    def decode(cls, octets: bytes | bytearray) -> Head:
        """Read a header from the first 32 octets."""
        return cls(*_HEADER.unpack_from(octets))


@dataclass(slots=True)
class OpenBlock:
    """What the payload of an OPEN says, unchecked but well formed."""

    timeout_ms: int
    request_flags: int
    subject: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Bucket:
    """A token bucket: `take` is false when the budget is used up."""

    def __init__(self, capacity: float, per_second: float) -> None:
        self.capacity = capacity
        self.rate = per_second
        self.level = capacity
        self.when = time.monotonic()

    def take(self) -> bool:
        """Charge one unit and say whether it was covered."""
        now = time.monotonic()
        self.level = min(self.capacity, self.level + (now - self.when) * self.rate) - 1
        self.when = now
        return self.level >= 0


def preface(hi: int, lo: int) -> bytes:
    """Build the 16 octets that open a direction."""
    return _PREFACE.pack(MAGIC, hi, lo, HEADER_SIZE, 0, 0)


def read_preface(octets: bytes | bytearray) -> tuple[int, int, int]:
    """Return (ver_hi, ver_lo, header_size); flags and reserved octets are ignored."""
    _magic, hi, lo, size, _flags, _reserved = _PREFACE.unpack_from(octets)
    return hi, lo, size


def frame(
    kind: int,
    flags: int = 0,
    subtype: int = 0,
    seq: int = 0,
    rid: bytes = ZERO_ID,
    payload: bytes = b"",
) -> bytes:
    """Build one frame."""
    return _HEADER.pack(MARKER, kind, flags, subtype, seq, len(payload), rid) + payload


def control(subtype: int, payload: bytes = b"", rid: bytes = ZERO_ID) -> bytes:
    """Build a Control frame."""
    return frame(CONTROL, subtype=subtype, rid=rid, payload=payload)


def settings(pairs: Iterable[tuple[int, int]]) -> bytes:
    """Build a SETTINGS frame."""
    return control(SETTINGS, b"".join(_SETTING.pack(ident, value) for ident, value in pairs))


def window_update(limit: int, rid: bytes = ZERO_ID) -> bytes:
    """Build a WINDOW_UPDATE with an absolute limit."""
    return control(WINDOW_UPDATE, _U64.pack(limit), rid)


def goaway(code: int, last_ordinal: int, grace_ms: int, text: str) -> bytes:
    """Build a GOAWAY."""
    message = text.encode()[:1024]
    body = _GOAWAY_FIXED.pack(code, last_ordinal, grace_ms, len(message)) + message
    return control(GOAWAY, body)


def error_body(error: CallError) -> bytes:
    """Build the body of an error terminal, without detail octets."""
    message = error.text.encode()[:1024].decode(errors="ignore").encode()
    fixed = _ERROR_FIXED.pack(error.code, error.flags, error.retry_after_ms, len(message))
    return fixed + message


def response_block(headers: Iterable[tuple[str, str]]) -> bytes:
    """Build the metadata block of a RESPONSE, its length field included."""
    parts = []
    for key, value in headers:
        raw_key, raw_value = key.encode(), value.encode()
        parts.append(bytes((len(raw_key),)) + raw_key + _U16.pack(len(raw_value)) + raw_value)
    inner = _U16.pack(len(parts)) + b"".join(parts)
    return _U32.pack(len(inner)) + inner


def read_u32(payload: bytes) -> int:
    """Return the first u32 (0 when the payload is too short, which only a flawed peer allows)."""
    return int.from_bytes(payload[:4], "big")


def read_u64(payload: bytes) -> int:
    """Return the first u64 (0 when the payload is too short, which only a flawed peer allows)."""
    return int.from_bytes(payload[:8], "big")


def read_goaway(payload: bytes) -> tuple[int, int, int]:
    """Return (code, last_ordinal, grace_ms) of a GOAWAY payload.

    Raises:
        ViolationError: The message runs past the end of the payload.
    """
    code, last, grace, size = _GOAWAY_FIXED.unpack_from(payload)
    if _GOAWAY_FIXED.size + size > len(payload):
        raise ViolationError(FRAME_SIZE_ERROR, "PAY-001", "GOAWAY message runs past the payload")
    return code, last, grace


def read_settings(payload: bytes, flaw: FlawTest) -> dict[int, int]:
    """Return every known setting: as sent, or as assumed when it was not sent.

    Raises:
        ViolationError: A repeated id, or a known value outside its range.
    """
    values: dict[int, int] = {}
    for ident, value in _SETTING.iter_unpack(payload[: len(payload) // 10 * 10]):
        if ident in values and not flaw("set-accepts-duplicate"):
            raise ViolationError(SETTINGS_ERROR, "SET-002", "a setting appears twice")
        values[ident] = value
        known = SETTING_RANGES.get(ident)
        if known is None:
            if flaw("set-rejects-unknown"):
                raise ViolationError(SETTINGS_ERROR, "SET-002", "unknown setting")
            continue
        if value < known[1] and not flaw("set-accepts-below-floor"):
            raise ViolationError(SETTINGS_ERROR, "SET-001", "a setting is below its floor")
        if value > known[2] and not flaw("set-accepts-above-maximum"):
            raise ViolationError(SETTINGS_ERROR, "SET-001", "a setting is above its maximum")
    result = {}
    for ident, known in SETTING_RANGES.items():
        if ident in values:
            result[ident] = values[ident]
        elif ident != S_IDLE_TIMEOUT and flaw("set-missing-is-recommended"):
            result[ident] = RECOMMENDED[ident]
        else:
            result[ident] = known[0]
    return result


class _TruncatedError(Exception):
    """A field reaches past the end of its block."""


class _Cursor:
    def __init__(self, octets: bytes, start: int, end: int) -> None:
        self.octets = octets
        self.at = start
        self.end = end

    def take(self, count: int) -> bytes:
        if self.at + count > self.end:
            raise _TruncatedError
        piece = self.octets[self.at : self.at + count]
        self.at += count
        return piece

    def str16(self) -> bytes:
        return self.take(_U16.unpack(self.take(2))[0])

    def str8(self) -> bytes:
        return self.take(self.take(1)[0])


def read_open(payload: bytes, max_metadata: int, flaw: FlawTest) -> OpenBlock:
    """Take the payload of an OPEN apart.

    Raises:
        ViolationError: The metadata is too long, overruns, or is truncated (PAY-002).
    """
    if len(payload) < 4 and not flaw("pay-accepts-overrun"):
        raise ViolationError(PROTOCOL_ERROR, "PAY-002", "no meta_length")
    size = read_u32(payload)
    if size > max_metadata and not flaw("pay-accepts-large-metadata"):
        raise ViolationError(PROTOCOL_ERROR, "PAY-002", "meta_length above MAX_METADATA_SIZE")
    end = 4 + size
    if end > len(payload):
        if not flaw("pay-accepts-overrun"):
            raise ViolationError(PROTOCOL_ERROR, "PAY-002", "meta_length beyond the payload")
        end = len(payload)
    cursor = _Cursor(payload, 4, end)
    timeout_ms = flags = 0
    subject = b""
    headers: list[tuple[bytes, bytes]] = []
    try:
        timeout_ms, flags, count = _OPEN_FIXED.unpack(cursor.take(_OPEN_FIXED.size))
        subject = cursor.str16()
        for _ in range(count):
            key = cursor.str8()
            headers.append((key, cursor.str16()))
    except _TruncatedError:
        if not flaw("pay-accepts-overrun"):
            raise ViolationError(PROTOCOL_ERROR, "PAY-002", "metadata field is truncated") from None
    if cursor.at < end:  # PAY-003: room for extensions
        if flaw("pay-refuses-extension"):
            raise ViolationError(PROTOCOL_ERROR, "PAY-003", "octets behind the last header")
        if flaw("pay-extension-is-body"):
            end = cursor.at
    return OpenBlock(timeout_ms, flags, subject, headers, payload[end:])


def check_open(block: OpenBlock, flaw: FlawTest) -> None:
    """Check subject and headers of an OPEN.

    Raises:
        CallError: INVALID_ARGUMENT with NOT_PROCESSED (PAY-004, PAY-005).
    """

    def refuse(text: str) -> None:
        raise CallError(INVALID_ARGUMENT, text, NOT_PROCESSED)

    good = 1 <= len(block.subject) <= 255 and _SUBJECT.fullmatch(block.subject)
    if not good and not flaw("pay-accepts-bad-subject"):
        refuse("PAY-004: subject")
    if len(block.headers) > 64 and not flaw("pay-accepts-65-headers"):
        refuse("PAY-005: too many headers")
    seen: set[bytes] = set()
    for key, value in block.headers:
        if not _KEY.fullmatch(key) and not flaw("pay-accepts-bad-key"):
            refuse("PAY-005: header key")
        if key in seen and not flaw("pay-accepts-duplicate-key"):
            refuse("PAY-005: header key twice")
        seen.add(key)
        if len(value) > 8_192 and not flaw("pay-accepts-long-value"):
            refuse("PAY-005: header value too long")
        if not _is_text(value) and not flaw("pay-accepts-binary-value"):
            refuse("PAY-005: header value is not text")


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return not any(octet in value for octet in b"\0\r\n")
