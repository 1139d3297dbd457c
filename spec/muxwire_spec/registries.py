"""Assigned numbers: frame types, flags, subtypes, error codes, settings.

A value is never reused and never changes its meaning. Adding one is an extension; a receiver
that does not know it follows the rule of its registry (FRM-004, FRM-005, SET-002, PAY-008).
"""

from __future__ import annotations

from muxwire_spec.model import Entry, Registry, Setting


def _registry(name: str, title: str, bits: int, *entries: tuple[int, str, str]) -> Registry:
    return Registry(
        name=name,
        title=title,
        bits=bits,
        entries=tuple(Entry(value=value, name=entry, doc=doc) for value, entry, doc in entries),
    )


FRAME_TYPES = _registry(
    "FRAME_TYPES",
    "Frame types",
    8,
    (0x01, "REQUEST", "Part of a request, from the client"),
    (0x02, "RESPONSE", "Part of a response, from the worker"),
    (0x03, "CONTROL", "Connection or request control; the subtype says which"),
    (0x04, "HEARTBEAT", "Liveness; the subtype says which"),
)

FLAGS = _registry(
    "FLAGS",
    "Flags",
    8,
    (0x01, "END_STREAM", "Last frame of this direction"),
    (0x02, "MORE", "The message continues in this stream's next frame"),
    (0x04, "META", "The payload begins with a metadata block"),
    (0x08, "ERROR", "The payload is an error body: the failure that ends the request"),
)

CONTROL_SUBTYPES = _registry(
    "CONTROL_SUBTYPES",
    "Control subtypes",
    8,
    (0x01, "SETTINGS", "The sender's limits; first frame of each side, sent once"),
    (0x02, "SETTINGS_ACK", "The peer's SETTINGS have been applied"),
    (0x03, "WINDOW_UPDATE", "A new absolute credit limit for a stream or the connection"),
    (0x04, "STOP", "Asks the handler to finish early and well"),
    (0x05, "KILL", "Abandons the request"),
    (0x06, "GOAWAY", "The connection ends: a drain, or an error"),
    (0x20, "HELLO", "WCH/1: this connection is to carry the response of that stream"),
    (0x21, "ACCEPT", "WCH/1: the response may begin"),
    (0x22, "REJECT", "WCH/1: the response is not wanted here"),
    (0x23, "DONE", "WCH/1: the response has been read; the connection is free"),
)

HEARTBEAT_SUBTYPES = _registry(
    "HEARTBEAT_SUBTYPES",
    "Heartbeat subtypes",
    8,
    (0x01, "PING", "Asks for a PONG with the same octets"),
    (0x02, "PONG", "Answers a PING"),
)

REQUEST_FLAGS = _registry(
    "REQUEST_FLAGS",
    "Request flags",
    16,
    (0x0001, "IDEMPOTENT", "Running the request twice does no harm"),
)

ERROR_FLAGS = _registry(
    "ERROR_FLAGS",
    "Error flags",
    16,
    (0x0001, "NOT_PROCESSED", "No part of the request reached a handler or had an effect"),
    (0x0002, "NON_RETRYABLE", "Another attempt cannot succeed"),
)

ERROR_CODES = _registry(
    "ERROR_CODES",
    "Error codes",
    32,
    (0x00, "NO_ERROR", "No error: a drain, or an orderly end"),
    (0x01, "PROTOCOL_ERROR", "The peer broke a rule that has no code of its own"),
    (0x02, "INTERNAL_ERROR", "The sender failed"),
    (0x03, "FLOW_CONTROL_ERROR", "A credit limit was exceeded"),
    (0x04, "FRAME_SIZE_ERROR", "A payload has a length that its frame does not allow"),
    (0x05, "SETTINGS_ERROR", "A setting is out of range or repeated"),
    (0x06, "HANDSHAKE_TIMEOUT", "The set-up was not complete in time"),
    (0x07, "HEARTBEAT_TIMEOUT", "Nothing was received for the idle timeout"),
    (0x08, "ENHANCE_YOUR_CALM", "A budget against abuse is used up"),
    (0x0A, "CONNECTION_LIMIT", "The worker holds as many connections as it allows"),
    (0x0B, "SEQUENCE_ERROR", "A sequence number is missing or repeated"),
    (0x0C, "DUPLICATE_REQUEST", "A request id was used before"),
    (0x0D, "UNSUPPORTED_FRAME", "A critical frame type or subtype is not known"),
    (0x0E, "STREAM_STATE_ERROR", "A frame is not allowed in the state of its request"),
    (0x100, "CANCELLED", "The client abandoned the request"),
    (0x101, "DEADLINE_EXCEEDED", "timeout_ms passed before the request ended"),
    (0x102, "NOT_FOUND", "No handler has this subject"),
    (0x103, "INVALID_ARGUMENT", "Subject, headers or parameters are malformed"),
    (0x104, "OVERLOADED", "The worker runs as many requests as it allows"),
    (0x105, "DRAINING", "The connection takes no new requests"),
    (0x106, "MESSAGE_TOO_LARGE", "A message exceeds the receiver's MAX_MESSAGE_SIZE"),
    (0x107, "APPLICATION_ERROR", "The handler failed"),
    (0x108, "SHUTDOWN", "The worker stopped before the request ended"),
    (0x109, "SLOW_CONSUMER", "The client gave no credit for too long"),
    (0x10A, "REQUEST_INTERNAL_ERROR", "The worker failed while it ran the request"),
    (0x10B, "UNIMPLEMENTED", "The subject exists but not this operation"),
)

LAST_CONNECTION_CODE = 0xFF
"""Codes up to here end connections (GOAWAY); codes above it end requests."""

SETTINGS: tuple[Setting, ...] = (
    Setting(
        value=0x0001,
        name="MAX_FRAME_SIZE",
        minimum=16_384,
        assumed=16_384,
        recommended=65_536,
        maximum=16_777_216,
        doc="Largest REQUEST or RESPONSE payload accepted, octets",
    ),
    Setting(
        value=0x0002,
        name="MAX_CONCURRENT_REQUESTS",
        minimum=100,
        assumed=100,
        recommended=1_024,
        maximum=1_048_576,
        doc="Requests without a terminal that the worker accepts; no meaning from a client",
    ),
    Setting(
        value=0x0003,
        name="INITIAL_STREAM_WINDOW",
        minimum=65_536,
        assumed=65_536,
        recommended=262_144,
        maximum=2**40,
        doc="Initial credit limit of each stream, cost units",
    ),
    Setting(
        value=0x0004,
        name="CONNECTION_WINDOW",
        minimum=1_048_576,
        assumed=1_048_576,
        recommended=67_108_864,
        maximum=2**40,
        doc="Initial credit limit of the connection, cost units",
    ),
    Setting(
        value=0x0005,
        name="MAX_METADATA_SIZE",
        minimum=8_192,
        assumed=8_192,
        recommended=16_384,
        maximum=65_536,
        doc="Largest metadata_length accepted, octets",
    ),
    Setting(
        value=0x0006,
        name="MAX_MESSAGE_SIZE",
        minimum=1_048_576,
        assumed=1_048_576,
        recommended=67_108_864,
        maximum=2**40,
        doc="Largest reassembled message accepted, octets",
    ),
    Setting(
        value=0x0007,
        name="IDLE_TIMEOUT_MS",
        minimum=100,
        assumed=60_000,
        recommended=60_000,
        maximum=600_000,
        doc="The sender closes the connection after so long without an octet, milliseconds",
    ),
)

REGISTRIES = (
    FRAME_TYPES,
    FLAGS,
    CONTROL_SUBTYPES,
    HEARTBEAT_SUBTYPES,
    REQUEST_FLAGS,
    ERROR_FLAGS,
    ERROR_CODES,
)


def setting(name: str) -> Setting:
    """Return the setting called `name`.

    Raises:
        KeyError: there is none.
    """
    for candidate in SETTINGS:
        if candidate.name == name:
            return candidate
    raise KeyError(name)
