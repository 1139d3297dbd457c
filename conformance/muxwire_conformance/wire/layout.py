"""Numbers, layouts and names: what building and reading have in common."""

from __future__ import annotations

import struct

from muxwire_spec.registries import (
    CONTROL_SUBTYPES,
    ERROR_CODES,
    ERROR_FLAGS,
    FLAGS,
    FRAME_TYPES,
    HEARTBEAT_SUBTYPES,
    LAST_CONNECTION_CODE,
    SETTINGS,
)

MARKER = 0xF7
MAGIC = bytes.fromhex("f7574d580d0a1a0a")
WCH_MAGIC = bytes.fromhex("f75743480d0a1a0a")
PREFACE_SIZE = 16
HEADER_SIZE = 32
VERSION = 1
CONNECTION_ID = bytes(16)
INVALID_ID = b"\xff" * 16

REQUEST = FRAME_TYPES.value("REQUEST")
RESPONSE = FRAME_TYPES.value("RESPONSE")
CONTROL = FRAME_TYPES.value("CONTROL")
HEARTBEAT = FRAME_TYPES.value("HEARTBEAT")

SETTINGS_SUBTYPE = CONTROL_SUBTYPES.value("SETTINGS")
SETTINGS_ACK = CONTROL_SUBTYPES.value("SETTINGS_ACK")
WINDOW_UPDATE = CONTROL_SUBTYPES.value("WINDOW_UPDATE")
STOP = CONTROL_SUBTYPES.value("STOP")
KILL = CONTROL_SUBTYPES.value("KILL")
GOAWAY = CONTROL_SUBTYPES.value("GOAWAY")
HELLO = CONTROL_SUBTYPES.value("HELLO")
ACCEPT = CONTROL_SUBTYPES.value("ACCEPT")
REJECT = CONTROL_SUBTYPES.value("REJECT")
DONE = CONTROL_SUBTYPES.value("DONE")
PING = HEARTBEAT_SUBTYPES.value("PING")
PONG = HEARTBEAT_SUBTYPES.value("PONG")

END_STREAM = FLAGS.value("END_STREAM")
MORE = FLAGS.value("MORE")
META = FLAGS.value("META")
ERROR = FLAGS.value("ERROR")

NOT_PROCESSED = ERROR_FLAGS.value("NOT_PROCESSED")
NON_RETRYABLE = ERROR_FLAGS.value("NON_RETRYABLE")

MAX_CONTROL = 4_096
MAX_ERROR_BODY = 4_096
MAX_REASON = 1_024

SETTING_IDS = {setting.name: setting.value for setting in SETTINGS}
SETTING_NAMES = {setting.value: setting.name for setting in SETTINGS}

HEADER = struct.Struct(">BBBBIQ16s")
PREFACE = struct.Struct(">8sBBBBI")
SETTING = struct.Struct(">HQ")
OPEN_HEAD = struct.Struct(">IHHH")
ERROR_HEAD = struct.Struct(">IHIH")
GOAWAY_HEAD = struct.Struct(">IQIH")


def code(name: str | int) -> int:
    """Return the value of an error code name; numbers pass through.

    Raises:
        KeyError: no error code has that name.
    """
    return name if isinstance(name, int) else ERROR_CODES.value(name)


def code_name(value: int) -> str:
    """Return the name of an error code with its number, for people."""
    name = ERROR_CODES.name_of(value)
    return f"{name} (0x{value:X})" if name else f"unknown code 0x{value:X}"


def is_connection_code(value: int) -> bool:
    """Tell whether a code may stand in the GOAWAY of a connection error."""
    return 0 < value <= LAST_CONNECTION_CODE and ERROR_CODES.name_of(value) is not None


def setting_id(name: str | int) -> int:
    """Return the id of a setting name; numbers (grease, unknown ids) pass through."""
    return name if isinstance(name, int) else SETTING_IDS[name]


def kind_name(kind: int, subtype: int) -> str:
    """Name a frame by its type and subtype, for example ``PING`` or ``type 0x8A``."""
    if kind == CONTROL:
        return CONTROL_SUBTYPES.name_of(subtype) or f"CONTROL subtype 0x{subtype:02X}"
    if kind == HEARTBEAT:
        return HEARTBEAT_SUBTYPES.name_of(subtype) or f"HEARTBEAT subtype 0x{subtype:02X}"
    return FRAME_TYPES.name_of(kind) or f"type 0x{kind:02X}"


def describe(kind: int, subtype: int, flags: int, seq: int, length: int, request_id: bytes) -> str:
    """Describe a frame header in one line."""
    names = [entry.name for entry in FLAGS.entries if flags & entry.value]
    if flags & 0xF0:
        names.append(f"0x{flags & 0xF0:02X}")
    text = kind_name(kind, subtype)
    if names:
        text += "[" + " ".join(names) + "]"
    if kind in (REQUEST, RESPONSE) or seq:
        text += f" seq={seq}"
    if request_id != CONNECTION_ID:
        text += f" id={request_id.hex()[:8]}.."
    return f"{text} {length} octets"


def looks_like_frame(raw: bytes, total: int) -> bool:
    """Tell whether octets are best shown as a frame, a wrong marker apart.

    Args:
        raw: The octets, or the first of them.
        total: How many there are.
    """
    if len(raw) < HEADER_SIZE:
        return False
    if raw[0] == MARKER:
        return True
    length = int.from_bytes(raw[8:16], "big")
    return raw[1] in (REQUEST, RESPONSE, CONTROL, HEARTBEAT) and HEADER_SIZE + length <= total


def describe_raw(raw: bytes, length: int | None = None) -> str:
    """Describe octets that the judge wrote: a preface, frames, or just octets."""
    total = len(raw) if length is None else length
    if raw[:8] in (MAGIC, WCH_MAGIC) and len(raw) >= PREFACE_SIZE:
        _magic, high, low, size, _flags, last = PREFACE.unpack_from(raw)
        text = f"preface, versions {low}..{high}, header size {size}"
        return text if raw[:8] == MAGIC else f"{text}, idle timeout {last} ms"
    if looks_like_frame(raw, total):
        marker, kind, flags, subtype, seq, declared, request_id = HEADER.unpack_from(raw)
        text = describe(kind, subtype, flags, seq, declared, request_id)
        if marker != MARKER:
            text += f", marker 0x{marker:02X}"
        if declared != total - HEADER_SIZE:
            text += f" ({total - HEADER_SIZE} of them sent)"
        return text
    return f"{total} octets that are no frame"
