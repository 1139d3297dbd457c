"""The generated decoder against construct: the same frames, fields and refusals, and back again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from muxwire._generated import codec
from muxwire._generated.registries import ErrorCode
from muxwire.core.flow import check_limit
from muxwire.core.settings import Settings
from muxwire.errors import ProtocolViolation
from muxwire_spec import callhome
from muxwire_spec import frames as f
from muxwire_spec.interpret import Receiver

from muxwire_fuzz import mutate, reading, show, wire
from muxwire_fuzz.harness import Target, equal, require
from muxwire_fuzz.reading import Told, layout_of, readings
from muxwire_fuzz.roles import ROLES, Role
from muxwire_fuzz.script import read, sent

SIZES = ((16_384, 8_192), (65_536, 16_384), (1 << 20, 65_536), (65_536, 64))
"""MAX_FRAME_SIZE and MAX_METADATA_SIZE of the receiver."""
FIRST = bytes.fromhex("f7030001") + bytes(28)
"""An empty SETTINGS, which lets other frames follow (HSK-005)."""

_DECODERS: dict[str, tuple[Callable[..., Any], bool]] = {
    "OPEN": (codec.decode_open, True),
    "RESPONSE_META": (codec.decode_response_meta, True),
    "ERROR_BODY": (codec.decode_error_body, False),
    "SETTINGS_PAYLOAD": (codec.decode_settings, False),
    "WINDOW_UPDATE": (codec.decode_window_update, False),
    "STOP": (codec.decode_stop, False),
    "KILL": (codec.decode_kill, False),
    "GOAWAY": (codec.decode_goaway, False),
    "REJECT": (codec.decode_reject, False),
}
_NUMBERS = {"STOP": "reason", "KILL": "reason", "WINDOW_UPDATE": "limit", "REJECT": "code"}
"""The field of a payload that is decoded to a bare number."""


def role_of(options: int) -> tuple[Role, Receiver]:
    """Return the receiver that an octet of options asks for."""
    role = ROLES[options % 4]
    return role, role.receiver(*SIZES[options >> 2 & 3])


def check(data: bytes) -> None:
    """Hold the decoder against the specification."""
    script = read(data)
    role, receiver = role_of(script.options)
    octets = script.octets
    if octets.startswith((f.MAGIC, callhome.MAGIC)):
        _check_preface(octets[: f.PREFACE_SIZE])
        octets = octets[f.PREFACE_SIZE :]
    expected = reading.read_stream(octets, receiver)
    frames, error = decode(role, receiver.max_frame_size, [octets])
    equal(frames, expected.frames, "the decoder finds the frames that the specification finds")
    equal(error, expected.error, "the decoder refuses what the specification refuses")
    at = 0
    for found in readings(octets, receiver):
        layout = layout_of(found)
        if found.complete and layout and (not found.fault or found.fault.step == "payload"):
            payload = octets[at + f.HEADER_SIZE : at + found.size]
            _check_payload(layout, payload, receiver.max_metadata_size)
            _check_content(layout, payload, reading.error_of(found.fault) if found.fault else None)
        at += found.size


def decode(
    role: Role, max_frame_size: int, pieces: list[bytes]
) -> tuple[list[Told], reading.Error | None]:
    """Return what the generated decoder makes of octets that arrive in pieces."""
    decoder = codec.FrameDecoder(role.number, max_frame_size)
    frames: list[Told] = []
    fed = taken = 0
    try:
        for piece in pieces:
            decoder.feed(piece)
            fed += len(piece)
            for kind, flags, seq, request_id, payload in decoder.frames():
                frames.append(Told(codec.KIND_NAMES[kind], flags, seq, request_id, payload))
                taken += codec.HEADER_SIZE + len(payload)
            held = decoder.buffered
            require(held <= fed - taken, "DOS-002: memory follows the octets", f"{held} are held")
            equal(decoder.mid_frame, fed > taken, "FRM-013: a frame has begun and is not complete")
    except ProtocolViolation as violation:
        return frames, error_of(violation)
    return frames, None


def error_of(violation: ProtocolViolation) -> reading.Error:
    """Return what a violation says, in the words of the specification."""
    return ErrorCode(violation.code).name, str(violation.scope), violation.requirement


def _check_preface(octets: bytes) -> None:
    wmx = octets.startswith(f.MAGIC)
    layout = f.PREFACE if wmx else callhome.PREFACE
    decode_it: Callable[[bytes], Any] = codec.decode_preface if wmx else codec.decode_wch_preface
    if len(octets) < f.PREFACE_SIZE:
        try:
            decode_it(octets)
        except ProtocolViolation as violation:
            equal(violation.requirement, "HSK-002" if wmx else "P0-002", "a short preface")
            return
        require(False, "HSK-002: a preface has 16 octets")
    found = decode_it(octets)
    fields = layout.parse(octets)
    for name, value in found._asdict().items():
        equal(value, fields[name], f"the preface's {name}")
    again = codec.encode_preface(found[0], found[1]) if wmx else None
    if again is not None:
        equal(decode_it(again)[:2], found[:2], "a preface is read as it is written")


def _check_payload(layout: str, octets: bytes, limit: int) -> None:
    if layout not in _DECODERS:
        return
    expected = reading.read_payload(layout, octets, limit)
    found = _decoded(layout, octets, limit)
    equal(found, expected, f"{layout}: the same fields, or the same refusal")
    if isinstance(found, dict):
        _check_round_trip(layout, found, limit)


def _decoded(layout: str, octets: bytes, limit: int) -> dict[str, Any] | reading.Error:
    decode_it, limited = _DECODERS[layout]
    try:
        value = decode_it(octets, limit) if limited else decode_it(octets)
    except ProtocolViolation as violation:
        return error_of(violation)
    if isinstance(value, int):
        return {_NUMBERS[layout]: value}
    return dict(value._asdict())


def _check_round_trip(layout: str, fields: dict[str, Any], limit: int) -> None:
    """Write what was read, and read it again: nothing may change."""
    id = b"\1" * 16
    match layout:
        case "OPEN" | "RESPONSE_META":
            body = fields.pop("body")
            encode = codec.encode_open if layout == "OPEN" else codec.encode_response_meta
            octets = encode(**fields) + body
            fields["body"] = body
        case "ERROR_BODY":
            octets = codec.encode_error_body(**fields)
        case "SETTINGS_PAYLOAD":
            octets = codec.encode_settings(fields["settings"])[codec.HEADER_SIZE :]
        case "GOAWAY":
            octets = codec.encode_goaway(**fields)[codec.HEADER_SIZE :]
        case _:
            octets = getattr(codec, f"encode_{layout.lower()}")(id, *fields.values())
            octets = octets[codec.HEADER_SIZE :]
    equal(_decoded(layout, octets, limit), fields, f"{layout}: what is written is read again")


def _check_content(layout: str, payload: bytes, error: reading.Error | None) -> None:
    """Check the values that are wrong whatever the state: limits and settings."""
    if layout not in ("SETTINGS_PAYLOAD", "WINDOW_UPDATE") or (error and error[2] == "PAY-001"):
        return
    found: reading.Error | None = None
    try:
        if layout == "WINDOW_UPDATE":
            check_limit(codec.decode_window_update(payload))
        else:
            Settings.from_wire(codec.decode_settings(payload).settings)
    except ProtocolViolation as violation:
        found = error_of(violation)
    equal(found, error, f"{layout}: the same values are refused")


def seeds() -> Iterator[bytes]:
    """Yield every frame vector, at the place in a connection where it belongs."""
    for number, role in enumerate(ROLES):
        for vector in wire.vectors(role.protocol, role.name):
            before = FIRST if number < 2 and not vector.first else b""
            if vector.octets.startswith((f.MAGIC, callhome.MAGIC)):
                yield sent(vector.octets, options=number | 4)
            else:
                yield sent(before, vector.octets, options=number | 4)


def in_words(data: bytes) -> str:
    """Return an input as text."""
    role, receiver = role_of(read(data).options)
    sizes = f"MAX_FRAME_SIZE {receiver.max_frame_size}, MAX_METADATA_SIZE"
    options = f"a {role.name} of {role.protocol}, {sizes} {receiver.max_metadata_size}"
    return show.script(data, role.name, options, role.protocol)


TARGET = Target(
    name="decoder",
    doc="the generated decoder against construct: frames, fields, refusals, and back",
    check=check,
    seeds=seeds,
    mutate=mutate.mutate,
    cross=mutate.cross,
    smaller=mutate.smaller,
    tokens=wire.tokens,
    show=in_words,
    watch=("muxwire._generated.codec",),
)
