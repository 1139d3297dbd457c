"""The wire: preface, frame header, payload layouts, kinds of frame, and the order of checks.

This is the file to read first. Everything that moves on a connection is described here once, in
the dialect of `vocabulary`; the codec, the diagrams, the tables and the vectors come from it.
"""

from __future__ import annotations

from muxwire_spec import registries as r
from muxwire_spec.model import Breach, Check, FrameKind, Scope, Trailing
from muxwire_spec.vocabulary import (
    Coded,
    Const,
    ConstOctets,
    Counted,
    FlagSet,
    Layout,
    Listed,
    Nested,
    Octets,
    Reserved,
    Rest,
    Text,
    field,
    u8,
    u16,
    u32,
    u64,
)

VERSION = 1
MARKER = 0xF7
MAGIC = bytes.fromhex("f7574d580d0a1a0a")
PREFACE_SIZE = 16
HEADER_SIZE = 32

CONTROL_PAYLOAD_LIMIT = 4_096
MAX_SETTINGS = 64
MAX_HEADERS = 64
MAX_ERROR_MESSAGE = 1_024
MAX_ERROR_BODY = 4_096

SUBJECT = r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*"
HEADER_KEY = r"[a-z0-9._-]+"
HEADER_VALUE = r"[^\x00\r\n]*"


def _connection(code: str, requirement: str) -> Breach:
    return Breach(code=code, scope=Scope.CONNECTION, requirement=requirement)


def _stream(code: str, requirement: str) -> Breach:
    return Breach(code=code, scope=Scope.STREAM, requirement=requirement)


PREFACE = Layout(
    "PREFACE",
    "The first octets of each side of a connection",
    field("magic", ConstOctets(MAGIC), "Says that this is WMX"),
    field("ver_hi", u8, "Client: highest version offered. Worker: version selected"),
    field("ver_lo", u8, "Client: lowest version offered. Worker: equal to ver_hi on success"),
    field("header_size", u8, "Octets of a frame header: 32"),
    field("flags", Reserved(1), "Zero; ignored on receipt"),
    field("reserved", Reserved(4), "Zero; ignored on receipt"),
    malformed=_connection("PROTOCOL_ERROR", "HSK-002"),
    trailing=Trailing.REFUSE,
)

HEADER = Layout(
    "HEADER",
    "The 32 octets in front of every payload",
    field(
        "marker", Const(u8, MARKER, _connection("PROTOCOL_ERROR", "FRM-002")), "0xF7, never text"
    ),
    field("type", Coded(u8, r.FRAME_TYPES), "Frame type"),
    field("flags", FlagSet(u8, r.FLAGS), "Flags; bits 0x10 to 0x80 are ignored"),
    field("subtype", u8, "CONTROL and HEARTBEAT: which one. Else zero"),
    field("seq", u32, "Counts the frames of a request and direction from 0. CONTROL: zero"),
    field("payload_length", u64, "Octets that follow this header"),
    field("request_id", Octets(16), "UUID of the request; all zero: the connection"),
    malformed=_connection("PROTOCOL_ERROR", "FRM-001"),
    trailing=Trailing.REFUSE,
)


def _headers(breach: Breach, malformed: Breach) -> Listed:
    item = Layout(
        "HEADER_FIELD",
        "One header",
        field(
            "key",
            Text(u8, minimum=1, maximum=64, pattern=HEADER_KEY, breach=breach),
            "Lower case name, unique in its block",
        ),
        field(
            "value",
            Text(u16, maximum=8_192, pattern=HEADER_VALUE, utf8=True, breach=breach),
            "UTF-8 without NUL, CR and LF",
        ),
        malformed=malformed,
        trailing=None,
    )
    return Listed(item, count="header_count", maximum=MAX_HEADERS, unique="key", breach=breach)


_METADATA = _connection("PROTOCOL_ERROR", "PAY-002")

OPEN = Layout(
    "OPEN",
    "Payload of REQUEST with seq 0",
    field(
        "metadata",
        Nested(
            u32,
            Layout(
                "OPEN_METADATA",
                "What a request says about itself",
                field("timeout_ms", u32, "Time the request may take, from receipt; 0: no limit"),
                field("request_flags", FlagSet(u16, r.REQUEST_FLAGS), "Flags of the request"),
                field("header_count", Counted(u16, "headers"), "Number of headers"),
                field(
                    "subject",
                    Text(
                        u16,
                        minimum=1,
                        maximum=255,
                        pattern=SUBJECT,
                        breach=_stream("INVALID_ARGUMENT", "PAY-004"),
                    ),
                    "Selects the handler",
                ),
                field(
                    "headers",
                    _headers(_stream("INVALID_ARGUMENT", "PAY-005"), _METADATA),
                    "In the order given",
                ),
                malformed=_METADATA,
                trailing=Trailing.IGNORE,
            ),
            limit="MAX_METADATA_SIZE",
        ),
        "Length-prefixed; octets behind the last header are an extension and ignored",
    ),
    field("body", Rest(), "First chunk of the first request message"),
    malformed=_METADATA,
    trailing=Trailing.REFUSE,
)

RESPONSE_META = Layout(
    "RESPONSE_META",
    "Payload of RESPONSE with META",
    field(
        "metadata",
        Nested(
            u32,
            Layout(
                "RESPONSE_METADATA",
                "Headers or trailers of a response",
                field("header_count", Counted(u16, "headers"), "Number of headers"),
                field(
                    "headers",
                    _headers(_connection("PROTOCOL_ERROR", "PAY-005"), _METADATA),
                    "In the order given",
                ),
                malformed=_METADATA,
                trailing=Trailing.IGNORE,
            ),
            limit="MAX_METADATA_SIZE",
        ),
        "Length-prefixed; octets behind the last header are an extension and ignored",
    ),
    field("body", Rest(), "Message data"),
    malformed=_METADATA,
    trailing=Trailing.REFUSE,
)

ERROR_BODY = Layout(
    "ERROR_BODY",
    "Payload of RESPONSE with ERROR",
    field("code", Coded(u32, r.ERROR_CODES), "Why the request failed"),
    field(
        "error_flags",
        FlagSet(
            u16,
            r.ERROR_FLAGS,
            exclusive=("NOT_PROCESSED", "NON_RETRYABLE"),
            breach=_connection("PROTOCOL_ERROR", "PAY-007"),
        ),
        "Flags of the error",
    ),
    field("retry_after_ms", u32, "Time to wait before another attempt; 0: not said"),
    field(
        "message",
        Text(
            u16,
            maximum=MAX_ERROR_MESSAGE,
            breach=_connection("PROTOCOL_ERROR", "PAY-007"),
        ),
        "For people; UTF-8",
    ),
    field("detail", Rest(), "For programs; opaque"),
    malformed=_connection("PROTOCOL_ERROR", "PAY-007"),
    trailing=Trailing.REFUSE,
)

DATA = Layout(
    "DATA",
    "Payload of REQUEST with seq above 0 and of RESPONSE without META and ERROR",
    field("data", Rest(), "A chunk of a message"),
    malformed=_connection("PROTOCOL_ERROR", "FRM-001"),
    trailing=Trailing.REFUSE,
)

_SIZE = _connection("FRAME_SIZE_ERROR", "PAY-001")

SETTINGS_PAYLOAD = Layout(
    "SETTINGS_PAYLOAD",
    "Payload of SETTINGS",
    field(
        "settings",
        Listed(
            Layout(
                "SETTING",
                "One setting",
                field("id", u16, "Setting id"),
                field("value", u64, "Its value"),
                malformed=_SIZE,
                trailing=None,
            )
        ),
        "At most 64, each id once",
    ),
    malformed=_SIZE,
    trailing=Trailing.REFUSE,
)

SETTINGS_ACK_PAYLOAD = Layout(
    "SETTINGS_ACK_PAYLOAD",
    "Payload of SETTINGS_ACK: nothing",
    malformed=_SIZE,
    trailing=Trailing.REFUSE,
)

WINDOW_UPDATE = Layout(
    "WINDOW_UPDATE",
    "Payload of WINDOW_UPDATE",
    field("limit", u64, "Absolute limit, cost units since the start"),
    malformed=_SIZE,
    trailing=Trailing.REFUSE,
)

STOP = Layout(
    "STOP",
    "Payload of STOP",
    field("reason", Coded(u32, r.ERROR_CODES), "Why"),
    malformed=_SIZE,
    trailing=Trailing.REFUSE,
)

KILL = Layout(
    "KILL",
    "Payload of KILL",
    field("reason", Coded(u32, r.ERROR_CODES), "Why"),
    malformed=_SIZE,
    trailing=Trailing.REFUSE,
)

GOAWAY = Layout(
    "GOAWAY",
    "Payload of GOAWAY",
    field("code", Coded(u32, r.ERROR_CODES), "NO_ERROR: a drain. Else: the connection is ending"),
    field("last_ordinal", u64, "Ordinal of the last request that was or may be processed"),
    field("grace_ms", u32, "How long running requests may go on"),
    field("message", Text(u16, maximum=MAX_ERROR_MESSAGE), "For people; UTF-8"),
    malformed=_SIZE,
    trailing=Trailing.IGNORE,
)

PING = Layout(
    "PING",
    "Payload of PING",
    field("opaque", Octets(8), "Any octets"),
    malformed=_SIZE,
    trailing=Trailing.REFUSE,
)

PONG = Layout(
    "PONG",
    "Payload of PONG",
    field("opaque", Octets(8), "The octets of the PING"),
    malformed=_SIZE,
    trailing=Trailing.REFUSE,
)

LAYOUTS = (
    PREFACE,
    HEADER,
    OPEN,
    RESPONSE_META,
    ERROR_BODY,
    DATA,
    SETTINGS_PAYLOAD,
    SETTINGS_ACK_PAYLOAD,
    WINDOW_UPDATE,
    STOP,
    KILL,
    GOAWAY,
    PING,
    PONG,
)

_END, _MORE, _META, _ERROR = (r.FLAGS.value(n) for n in ("END_STREAM", "MORE", "META", "ERROR"))
_BOTH = ("client", "worker")


def _control(
    name: str,
    scope: str,
    senders: tuple[str, ...],
    payload: Layout,
    doc: str,
    *,
    length: int | None,
    multiple: int = 1,
    limit: int = CONTROL_PAYLOAD_LIMIT,
    type_: str = "CONTROL",
) -> FrameKind:
    return FrameKind(
        name=name,
        type=type_,
        subtype=name,
        flags=0,
        scope=scope,
        senders=senders,
        limit=limit,
        length=length,
        multiple=multiple,
        payloads=(("", payload.title),),
        doc=doc,
    )


FRAMES: tuple[FrameKind, ...] = (
    FrameKind(
        name="REQUEST",
        type="REQUEST",
        subtype=None,
        flags=_END | _MORE | _META,
        scope="request",
        senders=("client",),
        limit="MAX_FRAME_SIZE",
        length=None,
        multiple=1,
        payloads=(("META", "OPEN"), ("", "DATA")),
        doc="Opens a request (seq 0) or carries more of it",
    ),
    FrameKind(
        name="RESPONSE",
        type="RESPONSE",
        subtype=None,
        flags=_END | _MORE | _META | _ERROR,
        scope="request",
        senders=("worker",),
        limit="MAX_FRAME_SIZE",
        length=None,
        multiple=1,
        payloads=(("ERROR", "ERROR_BODY"), ("META", "RESPONSE_META"), ("", "DATA")),
        doc="Carries a response; with END_STREAM it ends the request",
    ),
    _control(
        "SETTINGS",
        "connection",
        _BOTH,
        SETTINGS_PAYLOAD,
        "Announces the sender's limits",
        length=None,
        multiple=10,
        limit=10 * MAX_SETTINGS,
    ),
    _control(
        "SETTINGS_ACK",
        "connection",
        _BOTH,
        SETTINGS_ACK_PAYLOAD,
        "Ends the sender's set-up",
        length=0,
    ),
    _control("WINDOW_UPDATE", "either", _BOTH, WINDOW_UPDATE, "Raises a credit limit", length=8),
    _control("STOP", "request", ("client",), STOP, "Asks for an early, good end", length=4),
    _control("KILL", "request", ("client",), KILL, "Abandons a request", length=4),
    _control("GOAWAY", "connection", _BOTH, GOAWAY, "Ends the connection", length=None),
    _control("PING", "connection", _BOTH, PING, "Asks for a PONG", length=8, type_="HEARTBEAT"),
    _control("PONG", "connection", _BOTH, PONG, "Answers a PING", length=8, type_="HEARTBEAT"),
)

IGNORABLE = 0x80
"""This bit of a type or Control subtype says that a receiver that does not know it skips it."""

FLAG_MASK = 0x0F
"""Flag bits that have or may get a meaning in this version; the others are ignored."""


def _check(step: str, code: str, requirement: str, doc: str) -> Check:
    return Check(step=step, breach=_connection(code, requirement), doc=doc)


CHECKS: tuple[Check, ...] = (
    _check("marker", "PROTOCOL_ERROR", "FRM-002", "The first octet is 0xF7"),
    _check("first", "PROTOCOL_ERROR", "HSK-005", "The first frame is SETTINGS (or a GOAWAY)"),
    _check("type", "UNSUPPORTED_FRAME", "FRM-004", "The type is known or has bit 7 set"),
    _check("direction", "PROTOCOL_ERROR", "TYP-001", "The sender may send this type"),
    _check("length", "FRAME_SIZE_ERROR", "FRM-003", "payload_length is within the type's limit"),
    _check("flags", "PROTOCOL_ERROR", "FRM-006", "Each flag of 0x01 to 0x08 is allowed"),
    _check("subtype", "UNSUPPORTED_FRAME", "FRM-004", "The Control subtype is known or has bit 7"),
    _check("heartbeat", "PROTOCOL_ERROR", "FRM-004", "The Heartbeat subtype is known"),
    _check("sender", "PROTOCOL_ERROR", "TYP-001", "The sender may send this subtype"),
    _check("zero", "PROTOCOL_ERROR", "FRM-007", "subtype and seq are zero where unused"),
    _check("id", "PROTOCOL_ERROR", "FRM-008", "The id fits the scope of the frame"),
    _check("size", "FRAME_SIZE_ERROR", "PAY-001", "A payload of fixed size has that size"),
    _check("error-size", "FRAME_SIZE_ERROR", "PAY-007", "An error body has at most 4,096 octets"),
    _check("end-more", "PROTOCOL_ERROR", "TYP-002", "END_STREAM and MORE exclude each other"),
    _check("open-meta", "PROTOCOL_ERROR", "TYP-003", "META is set on REQUEST seq 0 only"),
    _check("error-alone", "PROTOCOL_ERROR", "TYP-004", "ERROR comes with END_STREAM only"),
    _check("response-meta", "PROTOCOL_ERROR", "TYP-005", "RESPONSE META is at seq 0 or the end"),
    _check("credit", "FLOW_CONTROL_ERROR", "FLW-002", "The frame is within its credit limits"),
    Check(step="state", breach=None, doc="The frame is allowed in the state of its request"),
    _check("sequence", "SEQUENCE_ERROR", "FRM-010", "seq is the next of its id and direction"),
    Check(step="payload", breach=None, doc="The payload fits its layout"),
)
