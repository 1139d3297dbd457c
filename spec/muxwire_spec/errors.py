"""Every fault that ends a connection, and how that may look to the peer (section 15.4)."""

from __future__ import annotations

from muxwire_spec.model import Ending, ErrorRule

ENDINGS: tuple[tuple[str, str], ...] = (
    (
        "GENERAL",
        "GOAWAY with the code, or with a warning another connection code that is not NO_ERROR; "
        "then the end",
    ),
    ("SILENT", "end of file or reset, no octet sent"),
    ("PREFACE", "one preface, then the end; no frame"),
    ("NO_GOAWAY", "the client ends the connection, no further frame"),
    ("CONTINUES", "silence, and the connection goes on"),
    ("ANY", "any end; normally a reset"),
    ("NO_WMX", "the end of the TLS handshake or connection, no WMX octet"),
)
"""The closed list of endings. The end is an end of file, or a reset behind what is listed."""


def _rule(requirement: str, fault: str, code: str | None, *ends: str) -> ErrorRule:
    """Return a rule; an end is a kind, or "condition: kind". Without ends it is general."""
    return ErrorRule(
        requirement=requirement,
        fault=fault,
        code=code,
        ends=tuple(_ending(end) for end in ends or ("GENERAL",)),
    )


def _ending(text: str) -> Ending:
    when, _, kind = text.rpartition(": ")
    return Ending(kind=kind, when=when)


RULES: tuple[ErrorRule, ...] = (
    _rule("HSK-002", "first octets are not the magic", None, "SILENT"),
    _rule("HSK-004", "no common version, other header size", None, "PREFACE"),
    _rule("HSK-005", "first frame is not SETTINGS", "PROTOCOL_ERROR"),
    _rule("HSK-006", "second SETTINGS", "PROTOCOL_ERROR"),
    _rule("HSK-007", "second SETTINGS_ACK", "PROTOCOL_ERROR"),
    _rule("HSK-007", "SETTINGS_ACK with a payload", "FRAME_SIZE_ERROR"),
    _rule(
        "HSK-008",
        "handshake too slow",
        "HANDSHAKE_TIMEOUT",
        "GENERAL",
        "worker, before a valid preface: SILENT",
        "client, before a valid preface: NO_GOAWAY",
    ),
    _rule("HSK-010", "refusing preface, or none", None, "NO_GOAWAY"),
    _rule(
        "HSK-011",
        "too many connections",
        "CONNECTION_LIMIT",
        "after the preface: GENERAL",
        "a pending connection that is pushed out: SILENT",
    ),
    _rule("FRM-002", "marker", "PROTOCOL_ERROR"),
    _rule("FRM-003", "length above the limit", "FRAME_SIZE_ERROR"),
    _rule("FRM-004", "unknown critical type or Control subtype", "UNSUPPORTED_FRAME"),
    _rule("FRM-004", "unknown Heartbeat subtype", "PROTOCOL_ERROR"),
    _rule("FRM-006", "flag not allowed", "PROTOCOL_ERROR"),
    _rule("FRM-007", "subtype or seq not allowed", "PROTOCOL_ERROR"),
    _rule("FRM-008", "request id not allowed", "PROTOCOL_ERROR"),
    _rule("FRM-010", "gap or repeat in seq", "SEQUENCE_ERROR"),
    _rule("FRM-013", "frame not complete in time", "HEARTBEAT_TIMEOUT"),
    _rule("TYP-001", "type or subtype against the direction", "PROTOCOL_ERROR"),
    _rule("TYP-002", "END_STREAM with MORE", "PROTOCOL_ERROR"),
    _rule("TYP-003", "META missing on an OPEN, or set behind it", "PROTOCOL_ERROR"),
    _rule("TYP-004", "ERROR without END_STREAM, or with META or MORE", "PROTOCOL_ERROR"),
    _rule("TYP-005", "META inside a response", "PROTOCOL_ERROR"),
    _rule("PAY-001", "wrong length of a fixed payload, malformed GOAWAY", "FRAME_SIZE_ERROR"),
    _rule("PAY-002", "malformed metadata", "PROTOCOL_ERROR"),
    _rule("PAY-005", "bad header in a RESPONSE", "PROTOCOL_ERROR"),
    _rule("PAY-007", "error body too large", "FRAME_SIZE_ERROR"),
    _rule("PAY-007", "malformed error body, both flags", "PROTOCOL_ERROR"),
    _rule("SET-001", "value out of range", "SETTINGS_ERROR"),
    _rule("SET-002", "repeated id", "SETTINGS_ERROR"),
    _rule("RID-002", "id used again", "DUPLICATE_REQUEST"),
    _rule("RID-004", "RESPONSE for an unknown or closed id", "PROTOCOL_ERROR"),
    _rule(
        "STM-001",
        "REQUEST after END_STREAM or KILL",
        "STREAM_STATE_ERROR",
        "GENERAL",
        "after a KILL, if the terminal may have been sent: CONTINUES",
    ),
    _rule("FLW-002", "limit exceeded", "FLOW_CONTROL_ERROR"),
    _rule("FLW-003", "limit of 2^63 or more", "FLOW_CONTROL_ERROR"),
    _rule("ADM-003", "NOT_PROCESSED after a RESPONSE", "PROTOCOL_ERROR"),
    _rule("HBT-003", "silence", "HEARTBEAT_TIMEOUT"),
    _rule("HBT-006", "the peer does not read", None, "ANY"),
    _rule("DOS-001", "budget used up", "ENHANCE_YOUR_CALM"),
    _rule("DOS-002", "too much queued output", None, "ANY"),
    _rule("CLS-007", "last_ordinal below an answered request", "PROTOCOL_ERROR"),
    _rule("CLS-009", "OPEN after the client's own GOAWAY", "PROTOCOL_ERROR"),
    _rule("SEC-001", "no TLS 1.3, wrong ALPN", None, "NO_WMX"),
    _rule("SEC-002", "no client certificate", None, "NO_WMX"),
)
