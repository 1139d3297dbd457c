"""The generated codec and construct's reading of the specification agree on every field."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import pytest
from frame_strategies import extension_frames, near_frames, valid_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from muxwire._generated import codec
from muxwire._generated.registries import ErrorCode
from muxwire.errors import ProtocolViolation
from muxwire_spec import callhome
from muxwire_spec import frames as f
from muxwire_spec.interpret import WCH, WMX, Receiver, read_frame, receiver_of
from muxwire_spec.vocabulary import Broken

ROLES = {
    "worker": codec.WORKER,
    "client": codec.CLIENT,
    "wch-worker": codec.WCH_WORKER,
    "wch-router": codec.WCH_ROUTER,
}
SENDER = {"worker": "client", "client": "worker", "wch-worker": "router", "wch-router": "worker"}
MAX_FRAME = {WMX: 65_536, WCH: callhome.MAX_FRAME_SIZE}
Error = tuple[str, str, str]
Outcome = tuple[list[tuple[Any, ...]], Error | None]

roles = st.sampled_from(tuple(ROLES))


def protocol_of(role: str) -> str:
    return WCH if role.startswith("wch-") else WMX


def receiver_for(role: str, *, first: bool = False) -> Receiver:
    return receiver_of(protocol_of(role), role.removeprefix("wch-"), first=first)


def oracle(data: bytes, role: str) -> Outcome:
    """Read a stream with construct: the frames, then the error that ends them."""
    found = []
    at = 0
    while True:
        reading = read_frame(data[at:], receiver_for(role, first=not found))
        fault = reading.fault
        if fault is not None and fault.step != "payload":
            breach = fault.breach
            return found, (breach.code, breach.scope.value, breach.requirement)
        if not reading.complete or reading.header is None:
            return found, None
        name = reading.kind.name if reading.kind else "EXTENSION"
        octets = data[at + 32 : at + reading.size]
        h = reading.header
        found.append((name, h["flags"] & 15, h["seq"], h["request_id"], octets))
        at += reading.size


def generated(data: bytes, role: str, cuts: list[int]) -> Outcome:
    """Read a stream with the generated decoder, cut where told."""
    decoder = codec.FrameDecoder(ROLES[role], MAX_FRAME[protocol_of(role)])
    found = []
    edges = [0, *sorted(cuts), len(data)]
    try:
        for start, end in itertools.pairwise(edges):
            decoder.feed(data[start:end])
            for kind, *rest in decoder.frames():
                found.append((codec.KIND_NAMES[kind], *rest))
    except ProtocolViolation as violation:
        return found, error_of(violation)
    return found, None


def error_of(violation: ProtocolViolation) -> Error:
    return ErrorCode(violation.code).name, str(violation.scope), violation.requirement


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, bytes]:
    role = draw(roles)
    sender, protocol = SENDER[role], protocol_of(role)
    good = valid_frames(sender, protocol) | extension_frames()
    frames = draw(st.lists(good, max_size=4))
    if protocol == WMX and draw(st.booleans()):
        frames.insert(0, bytes.fromhex("f7030001") + bytes(28))
    tail = draw(st.just(b"") | near_frames(sender, protocol) | st.binary(max_size=80))
    return role, b"".join(frames) + tail


@given(streams(), st.data())
@settings(max_examples=400)
def test_frames_agree_for_every_kind_of_stream_and_any_cut(
    stream: tuple[str, bytes], data: st.DataObject
) -> None:
    role, octets = stream
    cuts = data.draw(st.lists(st.integers(0, len(octets)), max_size=8))
    assert generated(octets, role, cuts) == oracle(octets, role)


@given(streams())
@settings(max_examples=60)
def test_frames_agree_octet_by_octet(stream: tuple[str, bytes]) -> None:
    role, octets = stream
    assert generated(octets, role, list(range(len(octets)))) == oracle(octets, role)


DECODERS: dict[str, tuple[Any, bool]] = {
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
NUMBERS = {"STOP": "reason", "KILL": "reason", "WINDOW_UPDATE": "limit", "REJECT": "code"}
"""The field of a payload that is decoded to a bare number."""
LAYOUTS = {layout.title: layout for layout in (*f.LAYOUTS, *callhome.LAYOUTS)}


def construct_payload(name: str, octets: bytes, limit: int) -> Any:
    try:
        value = LAYOUTS[name].read(octets, MAX_METADATA_SIZE=limit)
    except Broken as broken:
        return (broken.breach.code, broken.breach.scope.value, broken.breach.requirement)
    return flatten(value)


def flatten(value: Any) -> dict[str, Any]:
    """Lay construct's nested containers out flat, as the generated tuples are."""
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if name.startswith("_") or name == "header_count":
            continue
        if isinstance(item, dict):
            flat |= flatten(item)
        elif isinstance(item, list):
            flat[name] = [tuple(flatten(entry).values()) for entry in item]
        else:
            flat[name] = item
    return flat


def generated_payload(name: str, octets: bytes, limit: int) -> Any:
    decode, limited = DECODERS[name]
    try:
        value = decode(octets, limit) if limited else decode(octets)
    except ProtocolViolation as violation:
        return error_of(violation)
    if isinstance(value, int):
        return {NUMBERS[name]: value}
    return value._asdict()


@st.composite
def payloads(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw the payload of a valid or nearly valid frame, sometimes with octets left over."""
    role = draw(roles)
    sender, protocol = SENDER[role], protocol_of(role)
    frame = draw(valid_frames(sender, protocol) | near_frames(sender, protocol))
    name = draw(st.sampled_from(tuple(DECODERS)))
    reading = read_frame(frame, receiver_for(role))
    if reading.kind is not None and reading.header is not None:
        wanted = [
            layout
            for flag, layout in reading.kind.payloads
            if not flag or reading.header["flags"] & {"META": 4, "ERROR": 8}[flag]
        ]
        name = wanted[0] if wanted[0] in DECODERS else name
    return name, frame[32:] + draw(st.sampled_from((b"", b"", b"\0", b"trailing")))


@given(payloads(), st.sampled_from((0, 16, 8192)))
@settings(max_examples=600)
def test_payloads_agree(payload: tuple[str, bytes], limit: int) -> None:
    name, octets = payload
    expected = construct_payload(name, octets, limit)
    assert generated_payload(name, octets, limit) == expected


@given(st.sampled_from(tuple(DECODERS)), st.binary(max_size=60))
@settings(max_examples=300)
def test_payloads_of_garbage_agree(name: str, octets: bytes) -> None:
    assert generated_payload(name, octets, 8192) == construct_payload(name, octets, 8192)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("size", range(14))
def test_trailing_and_missing_octets_agree(name: str, size: int) -> None:
    octets = bytes(size)
    assert generated_payload(name, octets, 8192) == construct_payload(name, octets, 8192)


@given(payloads())
@settings(max_examples=300)
def test_what_is_accepted_encodes_to_the_same_octets(payload: tuple[str, bytes]) -> None:
    name, octets = payload
    value = generated_payload(name, octets, 8192)
    if isinstance(value, tuple) or name not in ("OPEN", "RESPONSE_META", "ERROR_BODY"):
        return
    body = value.pop("body", b"")
    encode = getattr(codec, f"encode_{name.lower()}")
    rebuilt = LAYOUTS[name].read(encode(**value) + body)
    assert flatten(rebuilt) == value | ({"body": body} if name != "ERROR_BODY" else {})


def test_a_declared_length_allocates_nothing() -> None:
    decoder = codec.FrameDecoder(codec.WORKER, 2**24)
    decoder.feed(bytes.fromhex("f7030001") + bytes(28))
    assert len(list(decoder.frames())) == 1
    decoder.feed(codec.request_header(0, 1, 2**24, b"\1" * 16))
    assert list(decoder.frames()) == []
    assert decoder.buffered == 0
    assert decoder.mid_frame


CALL_HOME = (0x20, 0x21, 0x22, 0x23)
SUBTYPES = {3: (0, 1, 2, 3, 4, 5, 6, 7, 0x10, *CALL_HOME, 0x80, 0x9A), 4: (0, 1, 2, 3, 0x81)}
LENGTHS = (0, 3, 4, 8, 10, 16, 640, 650, 4096, 4097, 65_536, 65_537, 2**20, 2**20 + 1, 2**63)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("type_", [0, 1, 2, 3, 4, 5, 0x7F, 0x80, 0x8A, 0xFF])
def test_every_header_agrees(role: str, type_: int) -> None:
    """Every combination of subtype, flags, seq, id and length that any check looks at."""
    settings_frame = b""
    if protocol_of(role) == WMX:
        settings_frame = bytes.fromhex("f7030001") + bytes(28)
    ids = (bytes(16), b"\xff" * 16, b"\1" * 16)
    for subtype, flags, seq, request_id, length in itertools.product(
        SUBTYPES.get(type_, (0, 1)), range(16), (0, 1), ids, LENGTHS
    ):
        header = struct.pack(">BBBBIQ16s", 0xF7, type_, flags, subtype, seq, length, request_id)
        reading = read_frame(header, receiver_for(role))
        expected = None
        if reading.fault is not None and reading.fault.step != "payload":
            breach = reading.fault.breach
            expected = (breach.code, breach.scope.value, breach.requirement)
        assert generated(settings_frame + header, role, [])[1] == expected, header.hex()


def metadata(subject: bytes = b"a", headers: list[tuple[bytes, bytes]] | None = None) -> bytes:
    items = [{"key": key, "value": value} for key, value in headers or []]
    fields = {"timeout_ms": 0, "request_flags": 0, "subject": subject, "headers": items}
    built: bytes = f.OPEN.build({"metadata": fields, "body": b""})
    return built


def error_body(message: bytes, flags: int = 0) -> bytes:
    built: bytes = f.ERROR_BODY.build(
        {"code": 1, "error_flags": flags, "retry_after_ms": 0, "message": message, "detail": b""}
    )
    return built


EDGES: dict[str, tuple[str, bytes, Any]] = {
    "empty subject": ("OPEN", metadata(b""), "PAY-004"),
    "longest subject": ("OPEN", metadata(b"a" * 255), None),
    "subject too long": ("OPEN", metadata(b"a" * 256), "PAY-004"),
    "subject with an empty label": ("OPEN", metadata(b"a..b"), "PAY-004"),
    "subject with NUL": ("OPEN", metadata(b"a\0"), "PAY-004"),
    "subject with a line end": ("OPEN", metadata(b"a\n"), "PAY-004"),
    "empty key": ("OPEN", metadata(headers=[(b"", b"")]), "PAY-005"),
    "longest key": ("OPEN", metadata(headers=[(b"k" * 64, b"")]), None),
    "key too long": ("OPEN", metadata(headers=[(b"k" * 65, b"")]), "PAY-005"),
    "upper case key": ("OPEN", metadata(headers=[(b"K", b"")]), "PAY-005"),
    "longest value": ("OPEN", metadata(headers=[(b"k", b"v" * 8192)]), None),
    "value too long": ("OPEN", metadata(headers=[(b"k", b"v" * 8193)]), "PAY-005"),
    "value with CR": ("OPEN", metadata(headers=[(b"k", b"\r")]), "PAY-005"),
    "value not UTF-8": ("OPEN", metadata(headers=[(b"k", b"\xff")]), "PAY-005"),
    "value in UTF-8": ("OPEN", metadata(headers=[(b"k", "é".encode())]), None),
    "repeated key": ("OPEN", metadata(headers=[(b"k", b"1"), (b"k", b"2")]), "PAY-005"),
    "most headers": ("OPEN", metadata(headers=[(b"%d" % i, b"") for i in range(64)]), None),
    "too many headers": (
        "OPEN",
        metadata(headers=[(b"%d" % i, b"") for i in range(65)]),
        "PAY-005",
    ),
    "bad subject, and cut short": ("OPEN", metadata(b"..")[:-1], "PAY-002"),
    "longest error message": ("ERROR_BODY", error_body(b"m" * 1024), None),
    "error message too long": ("ERROR_BODY", error_body(b"m" * 1025), "PAY-007"),
    "both error flags": ("ERROR_BODY", error_body(b"", 3), "PAY-007"),
    "unknown error flags": ("ERROR_BODY", error_body(b"", 0xFFFC), None),
    "long GOAWAY message": (
        "GOAWAY",
        f.GOAWAY.build({"code": 0, "last_ordinal": 0, "grace_ms": 0, "message": b"m" * 2000}),
        None,
    ),
}


@pytest.mark.parametrize("edge", EDGES)
def test_the_edges_of_the_payloads(edge: str) -> None:
    name, octets, requirement = EDGES[edge]
    value = generated_payload(name, octets, 65_536)
    assert value == construct_payload(name, octets, 65_536)
    assert (value[2] if isinstance(value, tuple) else None) == requirement


@pytest.mark.parametrize(("limit", "refused"), [(12, False), (11, True)])
def test_the_metadata_limit_is_inclusive(limit: int, refused: bool) -> None:
    octets = metadata(b"ab")
    value = generated_payload("OPEN", octets, limit)
    assert isinstance(value, tuple) is refused
    assert value == construct_payload("OPEN", octets, limit)
