"""Vectors that break no rule: every kind of frame, and the last values that are still allowed."""

from __future__ import annotations

from muxwire_spec import registries as r
from muxwire_spec.vectors.build import (
    END,
    ERROR,
    META,
    MORE,
    ONES,
    REQUEST_ID,
    Vector,
    error,
    frame,
    goaway,
    header_only,
    meta,
    opening,
    preface,
    settings,
    vector,
)

_KEY_OCTETS = b"abcdefghijklmnopqrstuvwxyz0123456789._-"
_METADATA_LIMIT = r.setting("MAX_METADATA_SIZE").recommended
_FRAME_LIMIT = r.setting("MAX_FRAME_SIZE").recommended
_FIXED = len(opening()) - 4

PREFACES: tuple[Vector, ...] = (
    vector(
        "preface-several-versions",
        "HSK-003",
        preface(ver_hi=3, ver_lo=1),
        "A client that offers the versions 1 to 3",
    ),
    vector(
        "preface-reserved-set",
        "HSK-003",
        preface(ver_hi=1, ver_lo=1, flags=b"\xff", reserved=b"\xff" * 4),
        "Flags and reserved octets are ignored on receipt",
    ),
    vector(
        "preface-refusal",
        "HSK-004",
        preface(ver_hi=3, ver_lo=2),
        "A worker that supports the versions 2 and 3 refuses",
        to="client",
    ),
    vector(
        "preface-refusal-header-size",
        "HSK-004",
        preface(ver_hi=1, ver_lo=1, header_size=48),
        "A worker whose header has 48 octets; the client refuses it",
        to="client",
    ),
)

OPENINGS: tuple[Vector, ...] = (
    vector("open-minimal", "TYP-003", frame("REQUEST", opening(), flags=META), "Nothing but META"),
    vector(
        "open-end",
        "TYP-003 MSG-002",
        frame("REQUEST", opening(), flags=META | END),
        "A unary request with one empty message",
    ),
    vector(
        "open-more",
        "TYP-003 MSG-001",
        frame("REQUEST", opening(body=b"chunk"), flags=META | MORE),
        "The first chunk of a message",
    ),
    vector(
        "open-numbers-full",
        "PAY-002",
        frame("REQUEST", opening(timeout_ms=2**32 - 1, request_flags=0xFFFF), flags=META),
        "The longest timeout; unknown request flags are ignored",
    ),
    vector(
        "open-extension",
        "PAY-003",
        frame("REQUEST", opening(extension=b"\xee" * 16, body=b"hi"), flags=META),
        "16 octets of an extension behind the last header",
    ),
    vector(
        "open-subject-255",
        "PAY-004",
        frame("REQUEST", opening(b"s" * 255), flags=META),
        "The longest subject",
    ),
    vector(
        "open-subject-labels",
        "PAY-004",
        frame("REQUEST", opening(b"A-z.0_9.-._"), flags=META),
        "Every class of octet that a subject may have",
    ),
    vector(
        "open-headers-64",
        "PAY-005",
        frame("REQUEST", opening(headers=[(b"k%d" % i, b"") for i in range(64)]), flags=META),
        "As many headers as allowed",
    ),
    vector(
        "open-key-64",
        "PAY-005 PAY-006",
        frame("REQUEST", opening(headers=[((_KEY_OCTETS * 2)[:64], b"v")]), flags=META),
        "The longest key, with every octet that a key may have",
    ),
    vector(
        "open-value-8192",
        "PAY-005",
        frame("REQUEST", opening(headers=[(b"k", b"v" * 8_192)]), flags=META),
        "The longest value",
    ),
    vector(
        "open-value-utf8",
        "PAY-005 PAY-006",
        frame(
            "REQUEST", opening(headers=[(b"k", "\u00e9\u4e16\U0001f600\t".encode())]), flags=META
        ),
        "UTF-8 of two, three and four octets, and a TAB",
    ),
    vector(
        "open-metadata-limit",
        "PAY-002 SET-004",
        frame("REQUEST", opening(extension=bytes(_METADATA_LIMIT - _FIXED)), flags=META),
        "A metadata block of exactly MAX_METADATA_SIZE",
    ),
    vector(
        "open-id-no-uuid",
        "FRM-009",
        frame("REQUEST", opening(), flags=META, request_id=bytes(15) + b"\x01"),
        "An id whose version and variant bits are no UUID's",
    ),
    vector(
        "open-high-flags",
        "FRM-006",
        frame("REQUEST", opening(), flags=META | 0xF0),
        "Flag bits 0x10 to 0x80 are ignored",
    ),
)

REQUESTS: tuple[Vector, ...] = (
    vector("request-data", "FRM-010", frame("REQUEST", b"data", seq=1), "A message of its own"),
    vector("request-empty", "MSG-002", frame("REQUEST", seq=1), "An empty message"),
    vector(
        "request-more", "MSG-001", frame("REQUEST", b"x", flags=MORE, seq=2), "A chunk of 1 octet"
    ),
    vector(
        "request-end", "MSG-002", frame("REQUEST", flags=END, seq=3), "The end without a message"
    ),
    vector(
        "request-last-seq",
        "FRM-010",
        frame("REQUEST", b"data", flags=END, seq=2**32 - 2),
        "The highest seq that a sender uses",
    ),
)

RESPONSES: tuple[Vector, ...] = (
    vector(
        "response-more",
        "MSG-001",
        frame("RESPONSE", b"chunk", flags=MORE),
        "A chunk of a message",
        to="client",
    ),
    vector(
        "response-headers",
        "TYP-005 MSG-002",
        frame("RESPONSE", meta([(b"model", b"m")]), flags=META),
        "Headers ahead of the first message",
        to="client",
    ),
    vector(
        "response-headers-more",
        "TYP-005",
        frame("RESPONSE", meta([(b"model", b"m")], body=b"chunk"), flags=META | MORE),
        "Headers with the first chunk",
        to="client",
    ),
    vector(
        "response-headers-end",
        "TYP-005",
        frame("RESPONSE", meta([(b"model", b"m")], body=b"all"), flags=META | END),
        "Headers, the only message and the end in one frame",
        to="client",
    ),
    vector(
        "response-trailers",
        "TYP-005",
        frame("RESPONSE", meta([(b"tokens", b"12")]), flags=META | END, seq=5),
        "Trailers",
        to="client",
    ),
    vector(
        "response-no-headers",
        "PAY-002",
        frame("RESPONSE", meta(), flags=META),
        "META without a header",
        to="client",
    ),
    vector(
        "response-extension",
        "PAY-003",
        frame("RESPONSE", meta([(b"a", b"b")], extension=b"\xee" * 9, body=b"hi"), flags=META),
        "Octets of an extension behind the last header",
        to="client",
    ),
    vector(
        "response-high-flags",
        "FRM-006",
        frame("RESPONSE", b"hi", flags=0xF0, seq=1),
        "Flag bits 0x10 to 0x80 are ignored",
        to="client",
    ),
)


def _error(name: str, requirements: str, payload: bytes, doc: str) -> Vector:
    octets = frame("RESPONSE", payload, flags=END | ERROR, seq=7)
    return vector(name, requirements, octets, doc, to="client")


ERRORS: tuple[Vector, ...] = (
    _error("error-empty", "PAY-007", error(), "The shortest error body"),
    _error("error-detail", "PAY-007", error(b"no", detail=b"\x00\xff"), "With opaque detail"),
    _error("error-unknown-code", "PAY-008", error(code=0x7FFF_FFFF), "A code of the future"),
    _error(
        "error-connection-code", "PAY-008", error(code=0x01), "A connection's code, unknown here"
    ),
    _error(
        "error-unknown-flags",
        "PAY-007",
        error(error_flags=0xFFFC),
        "Unknown error flags are ignored",
    ),
    _error("error-message-1024", "PAY-007", error(b"m" * 1_024), "The longest message"),
    _error("error-body-4096", "PAY-007", error(detail=b"d" * 4_084), "The longest error body"),
    _error(
        "error-message-not-utf8",
        "PAY-007",
        error(b"\xff\xfe"),
        "Shown with replacement characters",
    ),
)

_GREASE = [digit << 12 | 0x0A00 | digit << 4 | 0x0A for digit in range(16)]

SETTINGS: tuple[Vector, ...] = (
    vector(
        "settings-empty",
        "SET-002",
        frame("SETTINGS", settings()),
        "Every setting has its assumed value",
        first=True,
    ),
    vector(
        "settings-minimum",
        "SET-001",
        frame("SETTINGS", settings(*[(s.value, s.minimum) for s in r.SETTINGS])),
        "Every setting at its minimum",
        first=True,
    ),
    vector(
        "settings-maximum",
        "SET-001",
        frame("SETTINGS", settings(*[(s.value, s.maximum) for s in r.SETTINGS])),
        "Every setting at its maximum",
        first=True,
    ),
    vector(
        "settings-of-worker",
        "HSK-005",
        frame("SETTINGS", settings(*[(s.value, s.recommended) for s in r.SETTINGS])),
        "Every setting as recommended",
        to="client",
        first=True,
    ),
    vector(
        "settings-grease",
        "SET-002 FRM-012",
        frame("SETTINGS", settings(*[(id_, 2**64 - 1) for id_ in _GREASE])),
        "All sixteen grease ids; their values mean nothing",
        first=True,
    ),
    vector(
        "settings-64",
        "PAY-001",
        frame("SETTINGS", settings(*[(0x4000 + i, i) for i in range(64)])),
        "As many settings as allowed, none of them known",
        first=True,
    ),
    vector(
        "settings-high-flags",
        "FRM-006",
        frame("SETTINGS", settings(), flags=0xF0),
        "Flag bits 0x10 to 0x80 are ignored",
        first=True,
    ),
    vector("settings-ack", "HSK-007", frame("SETTINGS_ACK"), "Of a worker", to="client"),
)

CONTROL: tuple[Vector, ...] = (
    vector(
        "window-update-stream",
        "FRM-008 FLW-003",
        frame("WINDOW_UPDATE", {"limit": 524_288}, request_id=REQUEST_ID),
        "The limit of a request's response",
    ),
    vector("window-update-zero", "FLW-003", frame("WINDOW_UPDATE", {"limit": 0}), "Raises nothing"),
    vector(
        "window-update-maximum",
        "FLW-003",
        frame("WINDOW_UPDATE", {"limit": 2**63 - 1}),
        "The highest limit",
    ),
    vector(
        "window-update-of-worker",
        "FRM-008",
        frame("WINDOW_UPDATE", {"limit": 524_288}, request_id=REQUEST_ID),
        "The limit of a request's own direction",
        to="client",
    ),
    vector("stop", "FRM-008 PAY-001", frame("STOP", {"reason": 0x100}), "STOP, CANCELLED"),
    vector("stop-no-reason", "PAY-001", frame("STOP", {"reason": 0}), "STOP, NO_ERROR"),
    vector(
        "kill-unknown-reason",
        "PAY-001",
        frame("KILL", {"reason": 0xFFFF_FFFF}),
        "A reason that no registry has",
    ),
    vector(
        "goaway-error",
        "PAY-001 CLS-001",
        frame("GOAWAY", {"code": 1, "last_ordinal": 0, "grace_ms": 0, "message": b""}),
        "A client ends the connection with PROTOCOL_ERROR",
    ),
    vector(
        "goaway-first",
        "HSK-005 HSK-011",
        frame("GOAWAY", {"code": 0x0A, "last_ordinal": 0, "grace_ms": 0, "message": b"full"}),
        "A worker at its connection limit, instead of SETTINGS",
        to="client",
        first=True,
    ),
    vector(
        "goaway-unknown-code",
        "PAY-008",
        frame("GOAWAY", goaway(code=0x7FFF)),
        "Handled as INTERNAL_ERROR",
        to="client",
    ),
    vector(
        "goaway-all-ordinals",
        "PAY-001",
        frame(
            "GOAWAY",
            {"code": 0, "last_ordinal": 2**64 - 1, "grace_ms": 2**32 - 1, "message": b""},
        ),
        "The highest numbers",
        to="client",
    ),
    vector(
        "goaway-long-message",
        "PAY-001",
        frame("GOAWAY", goaway(b"m" * 2_000)),
        "Longer than a sender makes it, accepted all the same",
        to="client",
    ),
    vector(
        "goaway-trailing",
        "PAY-001",
        frame("GOAWAY", goaway(b"bye") + b"\xee" * 5),
        "Octets behind the message are ignored",
        to="client",
    ),
)

HEARTBEAT: tuple[Vector, ...] = (
    vector("ping-of-worker", "HBT-002", frame("PING", b"\xff" * 8), "PING", to="client"),
    vector("pong", "HBT-002", frame("PONG", bytes(range(1, 9))), "Answers V10", to="client"),
    vector("pong-of-client", "HBT-002", frame("PONG", b"\xff" * 8), "Answers ping-of-worker"),
)

EXTENSIONS: tuple[Vector, ...] = (
    vector(
        "extension-grease",
        "FRM-005 FRM-012",
        frame("PING", b"grease", type=0x8A, subtype=0),
        "A grease frame",
    ),
    vector(
        "extension-odd-header",
        "FRM-005",
        frame("PING", b"", type=0x80, flags=0xFF, subtype=0xFF, seq=2**32 - 1, request_id=ONES),
        "Of an ignorable type nothing but the length is checked",
    ),
    vector(
        "extension-to-client",
        "FRM-005",
        frame("PING", bytes(64), type=0xFF, request_id=REQUEST_ID),
        "The highest type",
        to="client",
    ),
    vector(
        "extension-subtype",
        "FRM-005",
        frame("PING", b"x", type=0x03, subtype=0x80, request_id=REQUEST_ID),
        "An ignorable Control subtype; its request id is free",
    ),
    vector(
        "extension-subtype-id-ones",
        "FRM-005",
        frame("PING", b"", type=0x03, subtype=0x9A, request_id=ONES, flags=0xF0),
        "Even an id of all ones",
        to="client",
    ),
)

INCOMPLETE: tuple[Vector, ...] = (
    vector("cut-marker", "FRM-011", frame("PING", bytes(8))[:1], "The first octet of a frame"),
    vector("cut-header", "FRM-011", frame("PING", bytes(8))[:31], "A header but for one octet"),
    vector("cut-payload", "FRM-011", frame("PING", bytes(8))[:-1], "A payload but for one octet"),
    vector(
        "cut-request-limit",
        "FRM-003",
        header_only("REQUEST", _FRAME_LIMIT, flags=META),
        "The header of a frame of exactly MAX_FRAME_SIZE",
    ),
    vector(
        "cut-response-limit",
        "FRM-003",
        header_only("RESPONSE", _FRAME_LIMIT, seq=1),
        "The header of a frame of exactly MAX_FRAME_SIZE",
        to="client",
    ),
    vector(
        "cut-extension-limit",
        "FRM-003",
        header_only("PING", _FRAME_LIMIT, type=0x8A),
        "An ignorable type has the limit of REQUEST",
    ),
    vector(
        "cut-control-limit",
        "FRM-003",
        header_only("PING", 4_096, type=0x03, subtype=0x9A),
        "An ignorable Control subtype has the limit of Control",
    ),
    vector(
        "cut-error-body-limit",
        "PAY-007",
        header_only("RESPONSE", 4_096, flags=END | ERROR),
        "The header of the longest error body",
        to="client",
    ),
)

ACCEPTED: tuple[Vector, ...] = (
    *PREFACES,
    *OPENINGS,
    *REQUESTS,
    *RESPONSES,
    *ERRORS,
    *SETTINGS,
    *CONTROL,
    *HEARTBEAT,
    *EXTENSIONS,
)
