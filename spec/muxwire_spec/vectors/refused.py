"""Vectors that break a rule. Each is otherwise a frame that its receiver would accept.

The last group breaks two rules at once: what is reported is the one that comes first in the order
of precedence.
"""

from __future__ import annotations

from muxwire_spec import registries as r
from muxwire_spec.vectors.build import (
    END,
    ERROR,
    META,
    MORE,
    ONES,
    REQUEST_ID,
    ZERO,
    Headers,
    Vector,
    error,
    frame,
    goaway,
    header_only,
    meta,
    opening,
    settings,
    vector,
)

_FRAME_LIMIT = r.setting("MAX_FRAME_SIZE").recommended
_METADATA_LIMIT = r.setting("MAX_METADATA_SIZE").recommended
_PONG = frame("PONG", bytes(8))
_PING = frame("PING", bytes(8))

HEADER: tuple[Vector, ...] = (
    vector("marker-zero", "FRM-002", frame("PING", bytes(8), marker=0), "A marker of 0x00"),
    vector("marker-high-bit", "FRM-002", frame("PING", bytes(8), marker=0x77), "Bit 7 is clear"),
    vector("marker-text", "FRM-002", b"G", "The first octet of an HTTP request is enough"),
    vector(
        "first-request", "HSK-005", frame("REQUEST", opening(), flags=META), "A request", first=True
    ),
    vector("first-ping", "HSK-005", _PING, "A PING", to="client", first=True),
    vector("first-ack", "HSK-005", frame("SETTINGS_ACK"), "SETTINGS_ACK", to="client", first=True),
    vector("first-grease", "HSK-005", frame("PING", type=0x8A), "Grease", first=True),
    vector("first-goaway", "HSK-005", frame("GOAWAY", goaway()), "GOAWAY of a client", first=True),
    vector("type-zero", "FRM-004", frame("PING", bytes(8), type=0x00), "Type 0x00"),
    vector("type-next", "FRM-004", frame("PING", bytes(8), type=0x05), "Type 0x05"),
    vector("type-last", "FRM-004", frame("PING", type=0x7F), "Type 0x7F", to="client"),
    vector("response-to-worker", "TYP-001", frame("RESPONSE", b"hi"), "A worker gets none"),
    vector(
        "request-to-client",
        "TYP-001",
        frame("REQUEST", opening(), flags=META),
        "A client gets none",
        to="client",
    ),
    vector(
        "length-request", "FRM-003", header_only("REQUEST", _FRAME_LIMIT + 1, seq=1), "One too many"
    ),
    vector(
        "length-response",
        "FRM-003",
        header_only("RESPONSE", _FRAME_LIMIT + 1),
        "One too many",
        to="client",
    ),
    vector(
        "length-extension",
        "FRM-003",
        header_only("PING", _FRAME_LIMIT + 1, type=0x8A),
        "An ignorable type has a limit too",
    ),
    vector(
        "length-control", "FRM-003", header_only("GOAWAY", 4_097), "Control has 4,096", to="client"
    ),
    vector("length-heartbeat", "FRM-003", header_only("PING", 4_097), "Heartbeat has 4,096"),
    vector("length-huge", "FRM-003", header_only("REQUEST", 2**64 - 1, seq=1), "All 64 bits set"),
    vector(
        "flags-request-error",
        "FRM-006",
        frame("REQUEST", opening(), flags=META | ERROR),
        "ERROR on REQUEST",
    ),
    vector(
        "flags-control-end", "FRM-006", frame("SETTINGS_ACK", flags=END), "END_STREAM on Control"
    ),
    vector(
        "flags-control-more", "FRM-006", frame("KILL", {"reason": 0}, flags=MORE), "MORE on KILL"
    ),
    vector("flags-heartbeat-meta", "FRM-006", frame("PING", bytes(8), flags=META), "META on PING"),
    vector(
        "flags-extension-subtype",
        "FRM-006 FRM-005",
        frame("PING", type=0x03, subtype=0x80, flags=ERROR),
        "An ignorable Control subtype is still Control",
        to="client",
    ),
    vector("subtype-zero", "FRM-004", frame("SETTINGS_ACK", subtype=0x00), "Control 0x00"),
    vector("subtype-next", "FRM-004", frame("SETTINGS_ACK", subtype=0x07), "Control 0x07"),
    vector("subtype-reserved", "FRM-004", frame("SETTINGS_ACK", subtype=0x10), "Control 0x10"),
    vector(
        "subtype-last", "FRM-004", frame("SETTINGS_ACK", subtype=0x7F), "Control 0x7F", to="client"
    ),
    *(
        vector(
            f"subtype-{name}-to-{to}",
            "FRM-004",
            frame("SETTINGS_ACK", subtype=0x20 + index),
            f"Control {0x20 + index:#04x} belongs to WCH/1",
            to=to,
        )
        for index, name in enumerate(("hello", "accept", "reject", "done"))
        for to in ("worker", "client")
    ),
    vector("heartbeat-zero", "FRM-004", frame("PING", bytes(8), subtype=0), "Heartbeat 0x00"),
    vector("heartbeat-next", "FRM-004", frame("PING", bytes(8), subtype=3), "Heartbeat 0x03"),
    vector(
        "heartbeat-high",
        "FRM-004",
        frame("PING", bytes(8), subtype=0x80),
        "Heartbeat has no ignorable subtypes",
        to="client",
    ),
    vector("stop-to-client", "TYP-001", frame("STOP", {"reason": 0}), "STOP", to="client"),
    vector("kill-to-client", "TYP-001", frame("KILL", {"reason": 0}), "KILL", to="client"),
    vector(
        "request-subtype", "FRM-007", frame("REQUEST", b"x", seq=1, subtype=1), "REQUEST has none"
    ),
    vector(
        "response-subtype",
        "FRM-007",
        frame("RESPONSE", b"x", subtype=0x80),
        "Bit 7 excuses nothing here",
        to="client",
    ),
    vector("control-seq", "FRM-007", frame("SETTINGS_ACK", seq=1), "Control with a seq"),
    vector(
        "heartbeat-seq", "FRM-007", frame("PONG", bytes(8), seq=1), "PONG with a seq", to="client"
    ),
    vector(
        "extension-subtype-seq",
        "FRM-007 FRM-005",
        frame("PING", type=0x03, subtype=0x80, seq=1),
        "An ignorable Control subtype with a seq",
    ),
    vector(
        "settings-id",
        "FRM-008",
        frame("SETTINGS", request_id=REQUEST_ID),
        "SETTINGS of a request",
        first=True,
    ),
    vector(
        "ack-id",
        "FRM-008",
        frame("SETTINGS_ACK", request_id=REQUEST_ID),
        "SETTINGS_ACK of a request",
    ),
    vector(
        "goaway-id",
        "FRM-008",
        frame("GOAWAY", goaway(), request_id=REQUEST_ID),
        "GOAWAY of a request",
    ),
    vector(
        "ping-id", "FRM-008", frame("PING", bytes(8), request_id=REQUEST_ID), "PING of a request"
    ),
    vector(
        "pong-id-ones", "FRM-008", frame("PONG", bytes(8), request_id=ONES), "All ones", to="client"
    ),
    vector(
        "request-id-zero", "FRM-008", frame("REQUEST", b"x", seq=1, request_id=ZERO), "All zero"
    ),
    vector(
        "request-id-ones", "FRM-008", frame("REQUEST", b"x", seq=1, request_id=ONES), "All ones"
    ),
    vector(
        "response-id-zero",
        "FRM-008",
        frame("RESPONSE", b"x", request_id=ZERO),
        "All zero",
        to="client",
    ),
    vector("stop-id-zero", "FRM-008", frame("STOP", {"reason": 0}, request_id=ZERO), "All zero"),
    vector("kill-id-ones", "FRM-008", frame("KILL", {"reason": 0}, request_id=ONES), "All ones"),
    vector(
        "window-update-id-ones",
        "FRM-008",
        frame("WINDOW_UPDATE", {"limit": 1}, request_id=ONES),
        "All ones",
    ),
)

SIZES: tuple[Vector, ...] = (
    vector("window-update-7", "PAY-001", frame("WINDOW_UPDATE", bytes(7)), "WINDOW_UPDATE has 8"),
    vector("window-update-9", "PAY-001", frame("WINDOW_UPDATE", bytes(9)), "WINDOW_UPDATE has 8"),
    vector("stop-3", "PAY-001", frame("STOP", bytes(3)), "STOP has 4"),
    vector("kill-5", "PAY-001", frame("KILL", bytes(5)), "KILL has 4"),
    vector("ping-0", "PAY-001", frame("PING"), "PING has 8", to="client"),
    vector("ping-7", "PAY-001", frame("PING", bytes(7)), "PING has 8"),
    vector("pong-9", "PAY-001", frame("PONG", bytes(9)), "PONG has 8", to="client"),
    vector("ack-1", "PAY-001 HSK-007", frame("SETTINGS_ACK", b"\0"), "SETTINGS_ACK has none"),
    vector("settings-9", "PAY-001", frame("SETTINGS", bytes(9)), "No multiple of 10", first=True),
    vector(
        "settings-65",
        "PAY-001",
        frame("SETTINGS", settings(*[(0x4000 + i, i) for i in range(65)])),
        "One setting too many",
        first=True,
    ),
    vector("goaway-0", "PAY-001", frame("GOAWAY"), "GOAWAY has at least 18", to="client"),
    vector(
        "goaway-17",
        "PAY-001",
        frame("GOAWAY", goaway()[:-1]),
        "GOAWAY has at least 18",
        to="client",
    ),
    vector(
        "goaway-message-overrun",
        "PAY-001",
        frame("GOAWAY", goaway(b"drain")[:-1]),
        "The message is longer than the payload",
        to="client",
    ),
    vector(
        "error-body-4097",
        "PAY-007",
        header_only("RESPONSE", 4_097, flags=END | ERROR),
        "Told from the header alone",
        to="client",
    ),
)

FLAGS: tuple[Vector, ...] = (
    vector(
        "request-end-more", "TYP-002", frame("REQUEST", b"x", flags=END | MORE, seq=1), "On REQUEST"
    ),
    vector(
        "response-end-more",
        "TYP-002",
        frame("RESPONSE", b"x", flags=END | MORE),
        "On RESPONSE",
        to="client",
    ),
    vector("open-without-meta", "TYP-003", frame("REQUEST", b"x"), "seq 0 without META"),
    vector(
        "meta-later", "TYP-003", frame("REQUEST", opening(), flags=META, seq=1), "seq 1 with META"
    ),
    vector(
        "error-without-end",
        "TYP-004",
        frame("RESPONSE", error(), flags=ERROR),
        "ERROR without END_STREAM",
        to="client",
    ),
    vector(
        "error-with-meta",
        "TYP-004",
        frame("RESPONSE", error(), flags=END | ERROR | META),
        "ERROR with META",
        to="client",
    ),
    vector(
        "response-meta-later",
        "TYP-005",
        frame("RESPONSE", meta(), flags=META, seq=1),
        "META in the middle of a response",
        to="client",
    ),
    vector(
        "response-meta-more-later",
        "TYP-005",
        frame("RESPONSE", meta(), flags=META | MORE, seq=4),
        "META with MORE in the middle",
        to="client",
    ),
)


def _open(name: str, requirement: str, payload: bytes, doc: str) -> Vector:
    return vector(name, requirement, frame("REQUEST", payload, flags=META), doc)


def _response(name: str, requirement: str, payload: bytes, doc: str) -> Vector:
    return vector(name, requirement, frame("RESPONSE", payload, flags=META), doc, to="client")


def _long(length: int, block: bytes) -> bytes:
    return length.to_bytes(4) + block


METADATA: tuple[Vector, ...] = (
    _open("open-empty", "PAY-002", b"", "No metadata_length"),
    _open("open-length-cut", "PAY-002", bytes(3), "Half a metadata_length"),
    _open("open-length-zero", "PAY-002", bytes(4), "A metadata block without its fields"),
    _open("open-length-beyond", "PAY-002", _long(0xFFFF_FFFF, b""), "Far beyond the payload"),
    _open(
        "open-length-one-beyond",
        "PAY-002",
        _long(len(opening()) - 3, opening()[4:]),
        "One octet beyond the payload",
    ),
    _open(
        "open-metadata-too-large",
        "PAY-002",
        opening(extension=bytes(_METADATA_LIMIT + 5 - len(opening()))),
        "One octet above MAX_METADATA_SIZE",
    ),
    _open(
        "open-subject-overrun",
        "PAY-002",
        _long(12, bytes(8) + b"\0\x05sub") + b"ject",
        "The subject runs into the body",
    ),
    _open(
        "open-headers-missing",
        "PAY-002",
        _long(14, bytes(6) + b"\0\x05\0\x01a\0\0\0"),
        "Five headers announced, one is there",
    ),
    _open(
        "open-key-overrun",
        "PAY-002",
        _long(13, bytes(6) + b"\0\x01\0\x01a\x05k"),
        "The key runs out of the block",
    ),
    _open(
        "open-value-length-cut",
        "PAY-002",
        _long(14, bytes(6) + b"\0\x01\0\x01a\x01k\0"),
        "Half a value_length",
    ),
    _response("response-meta-empty", "PAY-002", b"", "No metadata_length"),
    _response("response-meta-cut", "PAY-002", _long(1, b"\0"), "Half a header_count"),
    _response("response-meta-beyond", "PAY-002", _long(3, bytes(2)), "Beyond the payload"),
    _response(
        "response-value-overrun",
        "PAY-002",
        _long(7, b"\0\x01\x01k\0\x02v") + b"v",
        "The value runs into the body",
    ),
)

SUBJECTS: tuple[Vector, ...] = tuple(
    _open(f"subject-{name}", "PAY-004", opening(subject), doc)
    for name, subject, doc in (
        ("empty", b"", "No octet"),
        ("256", b"s" * 256, "One octet too many"),
        ("empty-label", b"a..b", "Two dots"),
        ("leading-dot", b".a", "A dot in front"),
        ("trailing-dot", b"a.", "A dot at the end"),
        ("space", b"a b", "A space"),
        ("nul", b"a\0", "A NUL"),
        ("line-end", b"a\n", "A line end behind it"),
        ("not-ascii", "\u00e9".encode(), "A letter outside ASCII"),
    )
)

_HEADERS: tuple[tuple[str, Headers, str], ...] = (
    ("key-empty", [(b"", b"v")], "A key without an octet"),
    ("key-65", [(b"k" * 65, b"v")], "A key of one octet too many"),
    ("key-upper", [(b"Key", b"v")], "A key with a capital"),
    ("key-repeated", [(b"k", b"1"), (b"j", b"2"), (b"k", b"3")], "A key that occurs twice"),
    ("value-8193", [(b"k", b"v" * 8_193)], "A value of one octet too many"),
    ("value-nul", [(b"k", b"a\0")], "A value with NUL"),
    ("value-cr", [(b"k", b"a\rb")], "A value with CR"),
    ("value-lf", [(b"k", b"a\n")], "A value with LF"),
    ("value-not-utf8", [(b"k", b"\xc3(")], "A value that is not UTF-8"),
    ("value-surrogate", [(b"k", b"\xed\xa0\x80")], "A value with half a surrogate pair"),
    ("headers-65", [(b"k%d" % i, b"") for i in range(65)], "One header too many"),
)

HEADERS: tuple[Vector, ...] = (
    *(
        _open(f"open-{name}", "PAY-005", opening(headers=headers), f"{doc}: a stream error")
        for name, headers, doc in _HEADERS
    ),
    *(
        _response(f"response-{name}", "PAY-005", meta(headers), f"{doc}: a connection error")
        for name, headers, doc in _HEADERS
        if name in ("key-upper", "key-repeated", "value-cr", "headers-65")
    ),
)


def _error(name: str, payload: bytes, doc: str) -> Vector:
    octets = frame("RESPONSE", payload, flags=END | ERROR)
    return vector(name, "PAY-007", octets, doc, to="client")


ERROR_BODIES: tuple[Vector, ...] = (
    _error("error-nothing", b"", "An error without a body"),
    _error("error-cut", error()[:-1], "Half a message_length"),
    _error("error-message-overrun", error(b"busy")[:-1], "The message is longer than the payload"),
    _error("error-message-1025", error(b"m" * 1_025), "A message of one octet too many"),
    _error("error-both-flags", error(error_flags=3), "NOT_PROCESSED and NON_RETRYABLE"),
    _error("error-all-flags", error(error_flags=0xFFFF), "... with unknown flags as well"),
)


def _settings(name: str, requirement: str, *pairs: tuple[int, int], doc: str) -> Vector:
    return vector(name, requirement, frame("SETTINGS", settings(*pairs)), doc, first=True)


VALUES: tuple[Vector, ...] = (
    *(
        _settings(
            f"settings-{s.name.lower().replace('_', '-')}-{word}",
            "SET-001",
            (s.value, value),
            doc=f"{s.name} {doc}",
        )
        for s in r.SETTINGS
        for word, value, doc in (
            ("low", s.minimum - 1, "below its minimum"),
            ("high", s.maximum + 1, "above its maximum"),
        )
    ),
    _settings(
        "settings-second-bad",
        "SET-001",
        (0x0001, 65_536),
        (0x0005, 2**64 - 1),
        doc="The first setting is fine",
    ),
    _settings(
        "settings-repeated", "SET-002", (0x0001, 65_536), (0x0001, 65_536), doc="A known id twice"
    ),
    _settings(
        "settings-repeated-unknown",
        "SET-002",
        (0x1A1A, 1),
        (0x0007, 60_000),
        (0x1A1A, 2),
        doc="An unknown id twice",
    ),
    vector(
        "window-update-overflow",
        "FLW-003",
        frame("WINDOW_UPDATE", {"limit": 2**63}),
        "The lowest limit that is too high",
    ),
    vector(
        "window-update-stream-overflow",
        "FLW-003",
        frame("WINDOW_UPDATE", {"limit": 2**64 - 1}, request_id=REQUEST_ID),
        "Too high for a request",
        to="client",
    ),
)

PRECEDENCE: tuple[Vector, ...] = (
    vector(
        "marker-before-first",
        "FRM-002 HSK-005",
        frame("PING", type=0x05, marker=0x00),
        "Marker, first frame, type",
        first=True,
    ),
    vector(
        "first-before-type",
        "HSK-005 FRM-004",
        frame("PING", type=0x05),
        "First frame, type",
        first=True,
    ),
    vector(
        "type-before-length",
        "FRM-004 FRM-003",
        header_only("PING", 2**40, type=0x05),
        "Type, length",
    ),
    vector(
        "direction-before-length",
        "TYP-001 FRM-003",
        header_only("RESPONSE", 2**40),
        "Direction of a type, length",
    ),
    vector(
        "length-before-flags",
        "FRM-003 FRM-006",
        header_only("PING", 4_097, flags=END),
        "Length, flags",
    ),
    vector(
        "flags-before-subtype",
        "FRM-006 FRM-004",
        frame("SETTINGS_ACK", flags=END, subtype=0x07),
        "Flags, subtype",
    ),
    vector(
        "sender-before-seq",
        "TYP-001 FRM-007",
        frame("STOP", bytes(4), seq=1),
        "Sender of a subtype, seq",
        to="client",
    ),
    vector(
        "seq-before-id",
        "FRM-007 FRM-008",
        frame("PING", bytes(8), seq=1, request_id=REQUEST_ID),
        "seq, request id",
    ),
    vector(
        "id-before-size",
        "FRM-008 PAY-001",
        frame("PING", bytes(7), request_id=REQUEST_ID),
        "Request id, size",
    ),
    vector(
        "error-size-before-flags",
        "PAY-007 TYP-004",
        header_only("RESPONSE", 4_097, flags=ERROR),
        "Size of an error body, END_STREAM missing",
        to="client",
    ),
    vector(
        "end-more-before-meta",
        "TYP-002 TYP-003",
        frame("REQUEST", b"x", flags=END | MORE),
        "END_STREAM with MORE, META missing",
    ),
    _open(
        "malformed-before-subject",
        "PAY-002 PAY-004",
        _long(13, bytes(6) + b"\0\x01\0\x02..\x05"),
        "What is missing comes before what is wrong",
    ),
    _open(
        "subject-before-headers",
        "PAY-004 PAY-005",
        opening(b"..", headers=[(b"K", b"v")]),
        "Of content that is wrong, the first field decides",
    ),
)

REFUSED: tuple[Vector, ...] = (
    *HEADER,
    *SIZES,
    *FLAGS,
    *METADATA,
    *SUBJECTS,
    *HEADERS,
    *ERROR_BODIES,
    *VALUES,
    *PRECEDENCE,
)
