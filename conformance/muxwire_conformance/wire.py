"""The judge's own peer at the level of octets: it can say anything and is surprised by nothing.

Rules of this file:

* Building: every builder makes a legal frame; any header field can be overridden by keyword
  (``marker type flags subtype seq length request_id``), also to values that break the protocol.
* Reading: the parser never raises and never stops before the length field makes it lose its
  place. What is wrong with a frame is written down in ``faults``, with the requirement id.
* Layouts are lowered here by hand from ``muxwire_spec`` for speed; ``tests/test_wire.py`` proves
  them equal to the specification. The generated codec of the implementation is never used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

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

_HEADER = struct.Struct(">BBBBIQ16s")
_PREFACE = struct.Struct(">8sBBBBI")
_SETTING = struct.Struct(">HQ")
_ERROR_HEAD = struct.Struct(">IHIH")
_GOAWAY_HEAD = struct.Struct(">IQIH")


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


# -- building ------------------------------------------------------------------------------


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
        _HEADER.pack(
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
    return _PREFACE.pack(magic, ver_hi, ver_lo, header_size, flags, reserved)


def settings(
    pairs: Iterable[tuple[str | int, int]] = (), *, extra: bytes = b"", **header: Unpack[Override]
) -> bytes:
    """Build SETTINGS from ``(name or id, value)`` pairs, in that order, repeats included."""
    payload = b"".join(_SETTING.pack(setting_id(name), value) for name, value in pairs) + extra
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
        body = _GOAWAY_HEAD.pack(code(error), last_ordinal, grace_ms, len(message)) + message
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


def setting_pairs(payload: bytes) -> list[tuple[int, int]]:
    """Return the ``(id, value)`` pairs of a SETTINGS payload; a broken last one is left out."""
    return list(_SETTING.iter_unpack(payload[: len(payload) - len(payload) % _SETTING.size]))


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
        struct.pack(
            ">IHHH",
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
    """Build a RESPONSE frame; from a client this is always illegal (TYP-001)."""
    flags = (END_STREAM if end else 0) | (MORE if more else 0)
    legal: Override = {"type": RESPONSE, "flags": flags, "seq": seq, "request_id": request_id}
    return _built(body, legal, header)


# -- reading -------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Preface:
    """A preface as received."""

    ver_hi: int
    ver_lo: int
    header_size: int
    flags: int
    reserved: int
    at: float
    raw: bytes

    def __str__(self) -> str:
        """Describe it in one line."""
        return f"preface, versions {self.ver_lo}..{self.ver_hi}, header size {self.header_size}"


@dataclass(slots=True, kw_only=True)
class Fault:
    """Something that no correct worker sends."""

    requirement: str
    text: str


@dataclass(slots=True, kw_only=True)
class ErrorBody:
    """The payload of a RESPONSE with ERROR."""

    code: int
    flags: int
    retry_after_ms: int
    message: bytes
    detail: bytes

    @property
    def not_processed(self) -> bool:
        """Tell whether NOT_PROCESSED is set."""
        return bool(self.flags & NOT_PROCESSED)

    @property
    def non_retryable(self) -> bool:
        """Tell whether NON_RETRYABLE is set."""
        return bool(self.flags & NON_RETRYABLE)

    def __str__(self) -> str:
        """Describe it in one line."""
        text = code_name(self.code)
        if self.not_processed:
            text += " NOT_PROCESSED"
        if self.non_retryable:
            text += " NON_RETRYABLE"
        if self.message:
            text += f" {self.message.decode('utf-8', 'replace')!r}"
        return text


@dataclass(slots=True, kw_only=True)
class Goaway:
    """The payload of a GOAWAY."""

    code: int
    last_ordinal: int
    grace_ms: int
    message: str


@dataclass(slots=True, kw_only=True)
class Frame:
    """One frame as received, typed as far as its octets allow.

    ``index`` counts the frames of the connection from 0, so two frames can be put in order;
    ``at`` is when its last octet came. ``data`` is the payload behind any metadata.
    """

    index: int
    at: float
    marker: int
    type: int
    flags: int
    subtype: int
    seq: int
    length: int
    request_id: bytes
    payload: bytes
    raw: bytes
    faults: list[Fault] = field(default_factory=list)
    data: bytes = b""
    headers: list[tuple[bytes, bytes]] | None = None
    error: ErrorBody | None = None
    goaway: Goaway | None = None
    settings: list[tuple[int, int]] | None = None
    limit: int | None = None

    @property
    def name(self) -> str:
        """Name the frame, for example ``RESPONSE`` or ``GOAWAY``."""
        return kind_name(self.type, self.subtype)

    @property
    def end(self) -> bool:
        """Tell whether END_STREAM is set."""
        return bool(self.flags & END_STREAM)

    @property
    def more(self) -> bool:
        """Tell whether MORE is set."""
        return bool(self.flags & MORE)

    @property
    def meta(self) -> bool:
        """Tell whether META is set."""
        return bool(self.flags & META)

    @property
    def is_error(self) -> bool:
        """Tell whether ERROR is set."""
        return bool(self.flags & ERROR)

    @property
    def extension(self) -> bool:
        """Tell whether this is a frame that a receiver ignores (bit 7 of type or subtype)."""
        return self.type >= 0x80 or (self.type == CONTROL and self.subtype >= 0x80)

    @property
    def cost(self) -> int:
        """Return what the frame costs in credit (0 for exempt frames)."""
        if self.type not in (REQUEST, RESPONSE):
            return 0
        if (self.end and self.length == 0) or (self.type == RESPONSE and self.is_error):
            return 0
        return HEADER_SIZE + self.length

    def __str__(self) -> str:
        """Describe the frame in one line."""
        return (
            describe(self.type, self.subtype, self.flags, self.seq, self.length, self.request_id)
            + self._payload_note()
        )

    def _payload_note(self) -> str:
        if self.goaway is not None:
            note = f" {code_name(self.goaway.code)} last_ordinal={self.goaway.last_ordinal}"
            if self.goaway.grace_ms:
                note += f" grace_ms={self.goaway.grace_ms}"
            return note + (f" {self.goaway.message!r}" if self.goaway.message else "")
        if self.error is not None:
            return f" {self.error}"
        if self.settings is not None:
            known = (
                f"{SETTING_NAMES.get(number, f'0x{number:04X}')}={value}"
                for number, value in self.settings
            )
            return " " + " ".join(known)
        if self.limit is not None:
            return f" limit={self.limit}"
        return ""


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
    if raw[:8] == MAGIC and len(raw) >= PREFACE_SIZE:
        _magic, high, low, size, _flags, _reserved = _PREFACE.unpack_from(raw)
        return f"preface, versions {low}..{high}, header size {size}"
    if looks_like_frame(raw, total):
        marker, kind, flags, subtype, seq, declared, request_id = _HEADER.unpack_from(raw)
        text = describe(kind, subtype, flags, seq, declared, request_id)
        if marker != MARKER:
            text += f", marker 0x{marker:02X}"
        if declared != total - HEADER_SIZE:
            text += f" ({total - HEADER_SIZE} of them sent)"
        return text
    return f"{total} octets that are no frame"


class Parser:
    """Cut a received octet stream into a preface and frames. Never raises.

    After octets that make it impossible to find the next frame (a wrong magic or marker, or a
    length far beyond every limit) ``lost`` says why and the rest goes to ``garbage``.
    """

    SANE_LENGTH = 1 << 28

    def __init__(self, *, with_preface: bool = True) -> None:
        self._buffer = bytearray()
        self._want_preface = with_preface
        self._count = 0
        self.lost: Fault | None = None
        self.garbage = bytearray()

    @property
    def pending(self) -> int:
        """Return how many octets wait for the rest of their frame."""
        return len(self._buffer)

    @property
    def pending_octets(self) -> bytes:
        """Return the incomplete octets (at most 256 of them), for the report."""
        return bytes(self._buffer[:256])

    def feed(self, data: bytes, at: float) -> list[Preface | Frame]:
        """Take octets; return what became complete, in order."""
        found: list[Preface | Frame] = []
        if self.lost is not None:
            self.garbage += data[: max(0, 4_096 - len(self.garbage))]
            return found
        self._buffer += data
        start = 0
        if self._want_preface:
            head = bytes(self._buffer[:8])
            if head != MAGIC[: len(head)]:
                self._lose(
                    0, Fault(requirement="HSK-003", text="the magic of the preface is wrong")
                )
                return found
            if len(self._buffer) < PREFACE_SIZE:
                return found
            _magic, high, low, size, flags, reserved = _PREFACE.unpack_from(self._buffer)
            found.append(
                Preface(
                    ver_hi=high,
                    ver_lo=low,
                    header_size=size,
                    flags=flags,
                    reserved=reserved,
                    at=at,
                    raw=bytes(self._buffer[:PREFACE_SIZE]),
                )
            )
            self._want_preface = False
            start = PREFACE_SIZE
        while self.lost is None and start < len(self._buffer):
            if self._buffer[start] != MARKER:
                text = f"the marker is 0x{self._buffer[start]:02X}, not 0xF7"
                self._lose(start, Fault(requirement="FRM-002", text=text))
                return found
            if len(self._buffer) - start < HEADER_SIZE:
                break
            fields = _HEADER.unpack_from(self._buffer, start)
            length = fields[5]
            if length > self.SANE_LENGTH:
                text = f"payload_length {length} is beyond every limit"
                self._lose(start, Fault(requirement="FRM-001", text=text))
                return found
            stop_at = start + HEADER_SIZE + length
            if len(self._buffer) < stop_at:
                break
            found.append(self._frame(fields, bytes(self._buffer[start:stop_at]), at))
            start = stop_at
        del self._buffer[:start]
        return found

    def _lose(self, start: int, fault: Fault) -> None:
        self.lost = fault
        self.garbage += self._buffer[start : start + 4_096]
        self._buffer.clear()

    def _frame(
        self, fields: tuple[int, int, int, int, int, int, bytes], raw: bytes, at: float
    ) -> Frame:
        marker, kind, flags, subtype, seq, length, request_id = fields
        payload = raw[HEADER_SIZE:]
        made = Frame(
            index=self._count,
            at=at,
            marker=marker,
            type=kind,
            flags=flags,
            subtype=subtype,
            seq=seq,
            length=length,
            request_id=request_id,
            payload=payload,
            raw=raw if len(raw) <= 2_048 else raw[:2_048],
            data=payload,
        )
        self._count += 1
        read_payload(made)
        return made


def _fault(target: Frame, requirement: str, text: str) -> None:
    target.faults.append(Fault(requirement=requirement, text=text))


def read_payload(target: Frame) -> None:
    """Fill in the typed view of a frame's payload and note what is malformed in it."""
    payload = target.payload
    if target.type == RESPONSE:
        if target.is_error:
            _read_error(target, payload)
        elif target.meta:
            _read_response_meta(target, payload)
    elif target.type == CONTROL:
        if target.subtype == SETTINGS_SUBTYPE:
            if len(payload) % 10 or len(payload) > 640:
                _fault(target, "PAY-001", f"SETTINGS has {len(payload)} octets")
            target.settings = setting_pairs(payload)
        elif target.subtype == SETTINGS_ACK:
            if payload:
                _fault(target, "PAY-001", f"SETTINGS_ACK has {len(payload)} octets of payload")
        elif target.subtype == WINDOW_UPDATE:
            if len(payload) != 8:
                _fault(target, "PAY-001", f"WINDOW_UPDATE has {len(payload)} octets")
            else:
                target.limit = int.from_bytes(payload, "big")
        elif target.subtype == GOAWAY:
            _read_goaway(target, payload)
    elif target.type == HEARTBEAT and target.subtype in (PING, PONG) and len(payload) != 8:
        _fault(target, "PAY-001", f"{target.name} has {len(payload)} octets")


def _read_goaway(target: Frame, payload: bytes) -> None:
    if len(payload) < _GOAWAY_HEAD.size:
        _fault(target, "PAY-001", f"GOAWAY has only {len(payload)} octets")
        return
    error, last, grace, length = _GOAWAY_HEAD.unpack_from(payload)
    text = payload[_GOAWAY_HEAD.size : _GOAWAY_HEAD.size + length]
    if len(text) < length:
        _fault(target, "PAY-001", "the message of GOAWAY is longer than its payload")
    if length > MAX_REASON:
        _fault(target, "PAY-001", f"the message of GOAWAY has {length} octets")
    target.goaway = Goaway(
        code=error, last_ordinal=last, grace_ms=grace, message=text.decode("utf-8", "replace")
    )


def _read_error(target: Frame, payload: bytes) -> None:
    target.data = b""
    if len(payload) > MAX_ERROR_BODY:
        _fault(target, "PAY-007", f"the error body has {len(payload)} octets")
    if len(payload) < _ERROR_HEAD.size:
        _fault(target, "PAY-007", f"the error body has only {len(payload)} octets")
        return
    error, flags, retry, length = _ERROR_HEAD.unpack_from(payload)
    message = payload[_ERROR_HEAD.size : _ERROR_HEAD.size + length]
    if len(message) < length:
        _fault(target, "PAY-007", "the message of the error body is longer than the body")
    if length > MAX_REASON:
        _fault(target, "PAY-007", f"the message of the error body has {length} octets")
    try:
        message.decode("utf-8")
    except UnicodeDecodeError:
        _fault(target, "PAY-007", "the message of the error body is not UTF-8")
    if flags & NOT_PROCESSED and flags & NON_RETRYABLE:
        _fault(target, "PAY-007", "NOT_PROCESSED and NON_RETRYABLE are both set")
    target.error = ErrorBody(
        code=error,
        flags=flags,
        retry_after_ms=retry,
        message=message,
        detail=payload[_ERROR_HEAD.size + length :],
    )


def _read_response_meta(target: Frame, payload: bytes) -> None:
    def bad(text: str) -> None:
        _fault(target, "PAY-002", text)

    if len(payload) < 4:
        bad("META is set but there is no meta_length")
        return
    length = int.from_bytes(payload[:4], "big")
    block = payload[4 : 4 + length]
    target.data = payload[4 + length :]
    if len(block) < length:
        bad(f"meta_length {length} is beyond the payload")
        return
    if length < 2:
        bad("the metadata block is too short for its header_count")
        return
    count = int.from_bytes(block[:2], "big")
    position = 2
    headers: list[tuple[bytes, bytes]] = []
    for _ in range(count):
        if position >= length:
            bad(f"header_count is {count} but only {len(headers)} headers are there")
            return
        key_end = position + 1 + block[position]
        value_at = key_end + 2
        value_end = value_at + int.from_bytes(block[key_end:value_at], "big")
        if value_at > length or value_end > length:
            bad("a header overruns the metadata block")
            return
        headers.append((block[position + 1 : key_end], block[value_at:value_end]))
        position = value_end
    target.headers = headers


@dataclass(slots=True)
class Assembler:
    """Put the messages of one RESPONSE direction together from its frames."""

    messages: list[bytes] = field(default_factory=list)
    _open: bytearray | None = None

    @property
    def inside(self) -> bool:
        """Tell whether a message is begun and not complete."""
        return self._open is not None

    def add(self, piece: Frame) -> None:
        """Take the next frame; an error terminal drops an incomplete message (MSG-004)."""
        if piece.is_error:
            self._open = None
            return
        if self._open is None and not piece.data and not piece.more:
            # An empty success terminal carries no message; headers may travel alone (MSG-002).
            if piece.end or (piece.meta and piece.seq == 0):
                return
            self.messages.append(b"")
            return
        if self._open is None and not piece.more:
            self.messages.append(piece.data)
            return
        if self._open is None:
            self._open = bytearray()
        self._open += piece.data
        if not piece.more:
            self.messages.append(bytes(self._open))
            self._open = None
