"""Read octets: the parser never raises, and writes down what is wrong with a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from muxwire_spec.registries import setting

from muxwire_conformance.wire.layout import (
    CONTROL,
    END_STREAM,
    ERROR,
    ERROR_HEAD,
    GOAWAY,
    GOAWAY_HEAD,
    HEADER,
    HEADER_SIZE,
    HEARTBEAT,
    KILL,
    MAGIC,
    MARKER,
    MAX_ERROR_BODY,
    MAX_REASON,
    META,
    MORE,
    NON_RETRYABLE,
    NOT_PROCESSED,
    OPEN_HEAD,
    PING,
    PONG,
    PREFACE,
    PREFACE_SIZE,
    REQUEST,
    RESPONSE,
    SETTING,
    SETTING_NAMES,
    SETTINGS_ACK,
    SETTINGS_SUBTYPE,
    STOP,
    WINDOW_UPDATE,
    code_name,
    describe,
    kind_name,
)

MOST_OCTETS = setting("MAX_FRAME_SIZE").maximum


@dataclass(slots=True, kw_only=True)
class Preface:
    """A preface as received; ``reserved`` is the idle timeout in one of WCH/1."""

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
    """Something that no correct peer sends, and the field that shows it, if it is one."""

    requirement: str
    text: str
    field: str = ""


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
class Opening:
    """What the metadata of an OPEN says beside its headers."""

    subject: bytes
    timeout_ms: int
    request_flags: int


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
    opening: Opening | None = None

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


class Parser:
    """Cut a received octet stream into a preface and frames. Never raises.

    After octets that make it impossible to find the next frame (a wrong magic or marker, or a
    length that no setting allows) ``lost`` says why and the rest goes to ``garbage``.
    """

    def __init__(self, *, with_preface: bool = True, magic: bytes = MAGIC) -> None:
        self._buffer = bytearray()
        self._magic = magic
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
            if head != self._magic[: len(head)]:
                requirement = "HSK-003" if self._magic == MAGIC else "P0-002"
                text = "the magic of the preface is wrong"
                self._lose(0, Fault(requirement=requirement, text=text))
                return found
            if len(self._buffer) < PREFACE_SIZE:
                return found
            _magic, high, low, size, flags, reserved = PREFACE.unpack_from(self._buffer)
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
            fields = HEADER.unpack_from(self._buffer, start)
            length = fields[5]
            if length > MOST_OCTETS:
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


def octets_of(seen: Frame) -> bytes:
    """Return all octets of a frame; ``raw`` holds only its beginning."""
    head = (seen.marker, seen.type, seen.flags, seen.subtype, seen.seq, seen.length)
    return HEADER.pack(*head, seen.request_id) + seen.payload


def setting_pairs(payload: bytes) -> list[tuple[int, int]]:
    """Return the ``(id, value)`` pairs of a SETTINGS payload; a broken last one is left out."""
    return list(SETTING.iter_unpack(payload[: len(payload) - len(payload) % SETTING.size]))


def _fault(target: Frame, requirement: str, text: str) -> None:
    target.faults.append(Fault(requirement=requirement, text=text))


def read_payload(target: Frame) -> None:
    """Fill in the typed view of a frame's payload and note what is malformed in it."""
    payload = target.payload
    if target.type == RESPONSE:
        if target.is_error:
            _read_error(target, payload)
        elif target.meta:
            _read_metadata(target, payload)
    elif target.type == REQUEST:
        if target.meta:
            _read_metadata(target, payload)
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
        elif target.subtype in (STOP, KILL) and len(payload) != 4:
            _fault(target, "PAY-001", f"{target.name} has {len(payload)} octets")
    elif target.type == HEARTBEAT and target.subtype in (PING, PONG) and len(payload) != 8:
        _fault(target, "PAY-001", f"{target.name} has {len(payload)} octets")


def _read_goaway(target: Frame, payload: bytes) -> None:
    if len(payload) < GOAWAY_HEAD.size:
        _fault(target, "PAY-001", f"GOAWAY has only {len(payload)} octets")
        return
    error, last, grace, length = GOAWAY_HEAD.unpack_from(payload)
    text = payload[GOAWAY_HEAD.size : GOAWAY_HEAD.size + length]
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
    if len(payload) < ERROR_HEAD.size:
        _fault(target, "PAY-007", f"the error body has only {len(payload)} octets")
        return
    error, flags, retry, length = ERROR_HEAD.unpack_from(payload)
    message = payload[ERROR_HEAD.size : ERROR_HEAD.size + length]
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
        detail=payload[ERROR_HEAD.size + length :],
    )


def _read_metadata(target: Frame, payload: bytes) -> None:
    """Read the block of an OPEN or of a response."""

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
    position = OPEN_HEAD.size if target.type == REQUEST else 2
    if length < position:
        bad("the metadata block is too short for its header_count")
        return
    if target.type == REQUEST:
        timeout_ms, request_flags, count, subject_length = OPEN_HEAD.unpack_from(block)
        position += subject_length
        if position > length:
            bad("the subject overruns the metadata block")
            return
        target.opening = Opening(
            subject=block[OPEN_HEAD.size : position],
            timeout_ms=timeout_ms,
            request_flags=request_flags,
        )
    else:
        count = int.from_bytes(block[:2], "big")
    target.headers = _read_headers(block, position, count, bad)


def _read_headers(
    block: bytes, position: int, count: int, bad: Callable[[str], None]
) -> list[tuple[bytes, bytes]] | None:
    headers: list[tuple[bytes, bytes]] = []
    for _ in range(count):
        if position >= len(block):
            bad(f"header_count is {count} but only {len(headers)} headers are there")
            return None
        key_end = position + 1 + block[position]
        value_at = key_end + 2
        value_end = value_at + int.from_bytes(block[key_end:value_at], "big")
        if value_at > len(block) or value_end > len(block):
            bad("a header overruns the metadata block")
            return None
        headers.append((block[position + 1 : key_end], block[value_at:value_end]))
        position = value_end
    return headers


@dataclass(slots=True)
class Assembler:
    """Put the messages of one stream direction together from its frames (section 8.2)."""

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
            if not _stands_for_a_message(piece):
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


def _stands_for_a_message(empty: Frame) -> bool:
    """Tell whether an empty frame outside a message, MORE clear, is an empty message (MSG-002)."""
    if empty.type == REQUEST and empty.meta:
        return empty.end
    # An empty terminal carries no message; the headers of a response may travel alone.
    return not empty.end and not (empty.meta and empty.seq == 0)
