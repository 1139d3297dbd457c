"""Encode and decode what only a client sends and receives, from the specification's tables alone.

The octets that both sides share are in `model_wire`. Decoders raise `ViolationError` (the
connection ends) and keep no state; what a caller asks for and the protocol forbids is a
`LocalError`, which never leaves the client (SET-003).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import model_wire as w

IDEMPOTENT = 1
MAX_ERROR_BODY = 4_096
MAX_ERROR_MESSAGE = 1_024
GOAWAY_FIXED = 18

Headers = list[tuple[str, str]]

_SUBJECT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_KEY = re.compile(rb"[a-z0-9._-]{1,64}")
_ERROR = struct.Struct(">IHIH")


class LocalError(Exception):
    """A request that the client itself has to end, with the code that it reports."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error terminal says."""

    code: int
    flags: int
    retry_after_ms: int
    text: str


def u32(value: int) -> bytes:
    """Build the payload of STOP and KILL."""
    return value.to_bytes(4, "big")


def open_block(timeout_ms: int, idempotent: bool, subject: str, headers: Headers) -> bytes:
    """Build the metadata of an OPEN, its length field included."""
    name = subject.encode()
    parts = [struct.pack(">IHHH", timeout_ms, int(idempotent), len(headers), len(name)), name]
    for key, value in headers:
        raw_key, raw_value = key.encode(), value.encode()
        parts += [bytes((len(raw_key),)), raw_key, struct.pack(">H", len(raw_value)), raw_value]
    inner = b"".join(parts)
    return struct.pack(">I", len(inner)) + inner


def check_request(subject: str, headers: Headers, flaw: w.FlawTest) -> None:
    """Check what a caller wants to send (SET-003).

    Raises:
        LocalError: Chapter 4 forbids the subject (PAY-004) or a header (PAY-005).
    """
    good = len(subject) <= 255 and _SUBJECT.fullmatch(subject)
    if not good and not flaw("set-sends-bad-subject"):
        raise LocalError(w.INVALID_ARGUMENT, "PAY-004: subject")
    try:
        raw = [(key.encode(), value.encode()) for key, value in headers]
    except UnicodeEncodeError:
        raise LocalError(w.INVALID_ARGUMENT, "PAY-005: header is not UTF-8") from None
    fault = header_fault(raw, lambda _name: False)
    unsendable = any(len(key) > 255 or len(value) > 65_535 for key, value in raw)
    if fault and (unsendable or not flaw("set-sends-bad-headers")):
        raise LocalError(w.INVALID_ARGUMENT, f"PAY-005: {fault}")


def header_fault(headers: Iterable[tuple[bytes, bytes]], flaw: w.FlawTest) -> str:
    """Say what PAY-005 has against a list of headers, "" for nothing."""
    seen: set[bytes] = set()
    count = 0
    for key, value in headers:
        count += 1
        if not _KEY.fullmatch(key) and not flaw("pay-accepts-bad-key"):
            return "header key"
        if key in seen and not flaw("pay-accepts-duplicate-key"):
            return "header key twice"
        seen.add(key)
        if len(value) > 8_192 and not flaw("pay-accepts-long-value"):
            return "header value too long"
        if not _is_text(value) and not flaw("pay-accepts-binary-value"):
            return "header value is not text"
    if count > 64 and not flaw("pay-accepts-65-headers"):
        return "too many headers"
    return ""


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return not any(octet in value for octet in b"\0\r\n")


def read_block(payload: bytes, limit: int, flaw: w.FlawTest) -> tuple[Headers, bytes]:
    """Take the payload of a RESPONSE with META apart: its headers, and what is left.

    Raises:
        ViolationError: The block is malformed (PAY-002) or has a bad header (PAY-005).
    """

    def broken(text: str) -> w.ViolationError:
        return w.ViolationError(w.PROTOCOL_ERROR, "PAY-002", text)

    if len(payload) < 4 and not flaw("pay-accepts-overrun"):
        raise broken("no metadata_length")
    size = w.read_u32(payload)
    if size > limit and not flaw("pay-accepts-large-metadata"):
        raise broken("metadata_length above MAX_METADATA_SIZE")
    end = 4 + size
    if end > len(payload):
        if not flaw("pay-accepts-overrun"):
            raise broken("metadata_length beyond the payload")
        end = len(payload)
    at = 4
    headers: list[tuple[bytes, bytes]] = []

    def take(count: int) -> bytes:
        nonlocal at
        if at + count > end:
            raise IndexError
        at += count
        return payload[at - count : at]

    try:
        for _ in range(int.from_bytes(take(2), "big")):
            key = take(take(1)[0])
            headers.append((key, take(int.from_bytes(take(2), "big"))))
    except IndexError:
        if not flaw("pay-accepts-overrun"):
            raise broken("a metadata field is truncated") from None
        at = end
    if at < end:  # PAY-003
        if flaw("pay-refuses-extension"):
            raise w.ViolationError(w.PROTOCOL_ERROR, "PAY-003", "octets behind the last header")
        if flaw("pay-extension-is-data"):
            end = at
    fault = header_fault(headers, flaw)
    if fault:
        raise w.ViolationError(w.PROTOCOL_ERROR, "PAY-005", fault)
    shown = [
        (key.decode(errors="replace"), value.decode(errors="replace")) for key, value in headers
    ]
    return shown, payload[end:]


def read_error(payload: bytes, flaw: w.FlawTest) -> ErrorBody:
    """Take the payload of an error terminal apart.

    Raises:
        ViolationError: It is truncated, its message too long, or both flags are set (PAY-007).
    """

    def broken(text: str) -> w.ViolationError:
        return w.ViolationError(w.PROTOCOL_ERROR, "PAY-007", text)

    if len(payload) < _ERROR.size:
        if not flaw("pay-accepts-truncated-error"):
            raise broken("truncated error body")
        payload += bytes(_ERROR.size - len(payload))
    code, flags, retry_after_ms, size = _ERROR.unpack_from(payload)
    raw = payload[_ERROR.size : _ERROR.size + size]
    if len(raw) < size and not flaw("pay-accepts-truncated-error"):
        raise broken("truncated error message")
    if size > MAX_ERROR_MESSAGE and not flaw("pay-accepts-long-error-text"):
        raise broken("error message above 1,024 octets")
    both = w.NOT_PROCESSED | w.NON_RETRYABLE
    if flags & both == both and not flaw("pay-accepts-both-error-flags"):
        raise broken("NOT_PROCESSED with NON_RETRYABLE")
    if flags & ~both and flaw("pay-refuses-unknown-error-flags"):
        raise broken("unknown error flag")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        if flaw("pay-refuses-error-text-not-utf8"):
            raise broken("error message is not UTF-8") from None
        text = raw.decode(errors="replace")
    return ErrorBody(code, flags, retry_after_ms, text)


def read_goaway(payload: bytes, flaw: w.FlawTest) -> tuple[int, int, int, str]:
    """Return code, last_ordinal, grace_ms and message of a GOAWAY; octets behind it are ignored.

    Raises:
        ViolationError: It is too short, or its message runs past the payload (PAY-001).
    """
    if len(payload) < GOAWAY_FIXED:
        payload += bytes(GOAWAY_FIXED - len(payload))  # only a flawed client comes here
    code, last, grace, size = struct.unpack_from(">IQIH", payload)
    left = len(payload) - GOAWAY_FIXED - size
    if left < 0 and not flaw("pay-accepts-goaway-overrun"):
        raise w.ViolationError(w.FRAME_SIZE_ERROR, "PAY-001", "GOAWAY message overruns its payload")
    if left > 0 and flaw("pay-refuses-goaway-extension"):
        raise w.ViolationError(w.FRAME_SIZE_ERROR, "PAY-001", "octets behind the GOAWAY message")
    text = payload[GOAWAY_FIXED : GOAWAY_FIXED + size].decode(errors="replace")
    return code, last, grace, text
