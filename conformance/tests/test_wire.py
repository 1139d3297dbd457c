"""The judge's wire layer against the specification's own layouts and the golden vectors."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muxwire_conformance import wire
from muxwire_conformance.transcript import split_frames
from muxwire_conformance.wire import Assembler, Frame, Parser, Preface
from muxwire_spec import callhome as wch
from muxwire_spec import frames as layouts

ID = bytes.fromhex("0190b3f27c4e7a118f000123456789ab")

GOLDEN = {
    "V1": (wire.preface(), "f7574d580d0a1a0a0101200000000000"),
    "V2": (
        wire.settings([("MAX_FRAME_SIZE", 65_536), ("IDLE_TIMEOUT_MS", 60_000), (0x1A1A, 7)]),
        "f7030001 00000000 000000000000001e" + "00" * 16 + "0001 0000000000010000"
        "0007 000000000000ea60 1a1a 0000000000000007",
    ),
    "V3": (wire.settings_ack(), "f7030002" + "00" * 28),
    "V4": (
        wire.open_request(
            ID,
            "conformance.echo",
            b"hi",
            timeout_ms=5_000,
            request_flags=1,
            headers=[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")],
        ),
        "f7010500 00000000 0000000000000065" + ID.hex() + "0000005f 00001388 0001 0001 0010"
        "636f6e666f726d616e63652e6563686f 0b 7472616365706172656e74 0037"
        "30302d30616637363531393136636434336464383434386562323131633830333139632d62376164366237313639"
        "3230333333312d3031 6869",
    ),
    "V5": (wire.response(ID, 0, b"hi"), "f7020000 00000000 0000000000000002" + ID.hex() + "6869"),
    "V6": (wire.response(ID, 1, end=True), "f7020100 00000001 0000000000000000" + ID.hex()),
    "V8": (
        wire.window_update(134_217_728),
        "f7030003" + "00" * 11 + "08" + "00" * 16 + "0000000008000000",
    ),
    "V9": (wire.kill(ID), "f7030005" + "00" * 11 + "04" + ID.hex() + "00000100"),
    "V10": (
        wire.ping(bytes(range(1, 9))),
        "f7040001" + "00" * 11 + "08" + "00" * 16 + "0102030405060708",
    ),
    "V11": (
        wire.goaway("NO_ERROR", last_ordinal=3, grace_ms=30_000, message=b"drain"),
        "f7030006" + "00" * 11 + "17" + "00" * 16 + "00000000 0000000000000003 00007530 0005"
        "647261696e",
    ),
}
V7 = bytes.fromhex(
    "f7020900 00000000 0000000000000010" + ID.hex() + "00000104 0001 000000fa 0004 62757379"
)


@pytest.mark.parametrize("name", GOLDEN)
def test_builders_make_the_golden_vectors(name: str) -> None:
    built, expected = GOLDEN[name]
    assert built.hex() == expected.replace(" ", "")


def parse_one(raw: bytes) -> Frame:
    """Parse exactly one frame."""
    found = Parser(with_preface=False).feed(raw, 0.0)
    assert len(found) == 1
    assert isinstance(found[0], Frame)
    return found[0]


def test_error_body_is_read() -> None:
    frame = parse_one(V7)
    assert frame.error is not None
    assert wire.code_name(frame.error.code) == "OVERLOADED (0x104)"
    assert frame.error.not_processed
    assert not frame.error.non_retryable
    assert (frame.error.retry_after_ms, frame.error.message) == (250, b"busy")
    assert frame.faults == []
    assert frame.cost == 0


def test_constants_and_layouts_equal_the_specification() -> None:
    assert wire.MARKER == layouts.MARKER
    assert wire.MAGIC == layouts.MAGIC
    assert (wire.HEADER_SIZE, wire.PREFACE_SIZE) == (layouts.HEADER_SIZE, layouts.PREFACE_SIZE)
    assert wire.MAX_ERROR_BODY == layouts.MAX_ERROR_BODY
    header = layouts.HEADER.parse(wire.frame(type=1, flags=5, subtype=0, seq=7, request_id=ID))
    assert (header.marker, header.seq, header.request_id) == (0xF7, 7, ID)
    opening = wire.open_metadata(
        "a.b", timeout_ms=9, request_flags=1, headers=[("k", "v"), ("l", "")], extension=b"\x01"
    )
    parsed = layouts.OPEN.parse(opening + b"body")
    assert (parsed.metadata.timeout_ms, parsed.metadata.subject) == (9, b"a.b")
    assert [(item.key, item.value) for item in parsed.metadata.headers] == [
        (b"k", b"v"),
        (b"l", b""),
    ]
    assert parsed.body == b"body"
    goaway = layouts.GOAWAY.parse(wire.goaway("DUPLICATE_REQUEST", last_ordinal=4)[32:])
    assert goaway.last_ordinal == 4
    settings = layouts.SETTINGS_PAYLOAD.parse(wire.settings([("MAX_FRAME_SIZE", 1)])[32:])
    assert [(item.id, item.value) for item in settings.settings] == [(1, 1)]


def test_every_header_field_can_be_overridden() -> None:
    raw = wire.ping(
        bytes(8), marker=0xF6, type=9, flags=0xFF, subtype=3, seq=4, length=99, request_id=ID
    )
    fields = struct.unpack_from(">BBBBIQ16s", raw)
    assert fields == (0xF6, 9, 0xFF, 3, 4, 99, ID)
    assert len(raw) == 40


STREAM = b"".join(built for built, _expected in GOLDEN.values()) + V7


def test_any_split_gives_the_same_frames() -> None:
    whole = Parser().feed(STREAM, 1.0)
    assert len(whole) == len(GOLDEN) + 1
    for size in (1, 2, 3, 7, 31, 32, 33):
        parser = Parser()
        pieces = []
        for start in range(0, len(STREAM), size):
            pieces += parser.feed(STREAM[start : start + size], 1.0)
        assert pieces == whole
        assert parser.pending == 0


@given(st.binary(max_size=300), st.booleans())
def test_the_parser_never_raises(data: bytes, framed: bool) -> None:
    parser = Parser(with_preface=not framed)
    raw = bytes([0xF7, *data]) if framed else data
    for item in parser.feed(raw, 0.0):
        assert str(item)


@given(
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 255),
    st.binary(max_size=80),
)
def test_any_payload_is_read_without_raising(
    kind: int, flags: int, subtype: int, payload: bytes
) -> None:
    frame = parse_one(wire.frame(payload, type=kind, flags=flags, subtype=subtype, request_id=ID))
    assert frame.payload == payload
    assert str(frame)


def test_lost_places_are_named() -> None:
    parser = Parser()
    assert parser.feed(b"HTTP/1.1 400 Bad Request", 0.0) == []
    assert parser.lost is not None
    parser = Parser(with_preface=False)
    assert len(parser.feed(wire.ping() + b"\x00" * 40, 0.0)) == 1
    assert parser.lost is not None
    assert parser.lost.requirement == "FRM-002"
    parser = Parser(with_preface=False)
    parser.feed(wire.ping(length=2**62), 0.0)
    assert parser.lost is not None
    parser.feed(bytes(1_000_000), 0.0)
    assert len(parser.garbage) <= 4_200


@pytest.mark.parametrize(
    ("raw", "requirement"),
    [
        (wire.ping(b"1234567"), "PAY-001"),
        (wire.settings(extra=b"1"), "PAY-001"),
        (wire.settings_ack(b"1"), "PAY-001"),
        (wire.window_update(0, payload=b"1"), "PAY-001"),
        (wire.goaway(payload=b"1"), "PAY-001"),
        (wire.goaway(payload=bytes(16) + b"\xff\xff"), "PAY-001"),
        (wire.response(ID, 0, b"\0\0\0", flags=wire.META), "PAY-002"),
        (wire.response(ID, 0, b"\0\0\0\x09\0\0", flags=wire.META), "PAY-002"),
        (wire.response(ID, 0, b"\0\0\0\x02\0\x05", flags=wire.META), "PAY-002"),
        (wire.response(ID, 0, b"\0\0\0\x04\0\x01\x05k", flags=wire.META), "PAY-002"),
        (wire.response(ID, 0, b"123", flags=9), "PAY-007"),
        (wire.response(ID, 0, struct.pack(">IHIH", 1, 3, 0, 0), flags=9), "PAY-007"),
        (wire.response(ID, 0, struct.pack(">IHIH", 1, 0, 0, 1) + b"\xff", flags=9), "PAY-007"),
        (wire.response(ID, 0, struct.pack(">IHIH", 1, 0, 0, 9), flags=9), "PAY-007"),
        (wire.response(ID, 0, bytes(5_000), flags=9), "PAY-007"),
    ],
)
def test_faults_of_payloads(raw: bytes, requirement: str) -> None:
    assert requirement in {fault.requirement for fault in parse_one(raw).faults}


def frames_of(*pieces: tuple[bytes, str]) -> list[Frame]:
    """Build RESPONSE frames; letters: m MORE, e END_STREAM, h headers in front."""
    made = []
    for seq, (data, marks) in enumerate(pieces):
        flags = (wire.MORE if "m" in marks else 0) | (wire.END_STREAM if "e" in marks else 0)
        payload = data
        if "h" in marks:
            flags |= wire.META
            payload = b"\0\0\0\x02\0\0" + data
        made.append(parse_one(wire.response(ID, seq, payload, flags=flags)))
    return made


@pytest.mark.parametrize(
    ("pieces", "messages"),
    [
        ([(b"a", ""), (b"b", "e")], [b"a", b"b"]),
        ([(b"", "e")], []),
        ([(b"", ""), (b"", "e")], [b""]),
        ([(b"", "h"), (b"a", ""), (b"", "e")], [b"a"]),
        ([(b"", "he")], []),
        ([(b"x", "h"), (b"", "eh")], [b"x"]),
        ([(b"a", "m"), (b"", "m"), (b"b", ""), (b"", "e")], [b"ab"]),
        ([(b"a", "m"), (b"", "e")], [b"a"]),
        ([(b"", "m"), (b"", ""), (b"", "e")], [b""]),
    ],
)
def test_messages_are_assembled(pieces: list[tuple[bytes, str]], messages: list[bytes]) -> None:
    assembler = Assembler()
    for piece in frames_of(*pieces):
        assembler.add(piece)
    assert assembler.messages == messages
    assert not assembler.inside


def test_an_error_terminal_drops_an_incomplete_message() -> None:
    assembler = Assembler()
    assembler.add(frames_of((b"a", "m"))[0])
    assembler.add(parse_one(V7))
    assert assembler.messages == []


def test_transcripts_cut_at_frame_boundaries() -> None:
    assert split_frames(STREAM) == [
        *[built for built, _expected in GOLDEN.values()],
        V7,
    ]
    half = wire.ping()[:20]
    assert split_frames(wire.preface() + half) == [wire.preface(), half]
    rng = random.Random(1)
    for _ in range(50):
        data = rng.randbytes(rng.randrange(100))
        assert b"".join(split_frames(data)) == data


def test_prefaces_are_read() -> None:
    (found,) = Parser().feed(wire.preface(ver_hi=3, ver_lo=2, header_size=48), 5.0)
    assert isinstance(found, Preface)
    assert (found.ver_hi, found.ver_lo, found.header_size, found.at) == (3, 2, 48, 5.0)


CALLHOME = json.loads(
    (Path(wch.__file__).parents[1] / "vectors" / "callhome" / "frames.json").read_text("utf-8")
)
TOKEN = bytes.fromhex("00112233445566778899aabbccddeeff")
WCH_GOLDEN = {
    "W1": wire.wch_preface(),
    "W2": wire.hello(ID, TOKEN),
    "W3": wire.accept(ID),
    "W4": wire.reject(ID, "NOT_FOUND"),
    "W5": wire.done(ID),
    "W6": wire.wch_preface(idle_timeout_ms=400),
}


@pytest.mark.parametrize("name", WCH_GOLDEN)
def test_golden_frames_of_call_home(name: str) -> None:
    (vector,) = [one for one in CALLHOME["vectors"] if one["name"] == name]
    assert WCH_GOLDEN[name].hex() == vector["hex"]


def test_a_preface_of_call_home_is_read_with_its_idle_timeout() -> None:
    parser = Parser(magic=wire.WCH_MAGIC)
    (preface, frame) = parser.feed(WCH_GOLDEN["W6"] + WCH_GOLDEN["W2"], 0.0)
    assert isinstance(preface, Preface)
    assert preface.reserved == 400
    assert isinstance(frame, Frame)
    assert (frame.name, frame.payload) == ("HELLO", TOKEN)
    assert len(split_frames(WCH_GOLDEN["W6"] + WCH_GOLDEN["W2"])) == 2
    other = Parser(magic=wire.WCH_MAGIC)
    assert other.feed(wire.preface(), 0.0) == []
    assert other.lost is not None
    assert other.lost.requirement == "P0-002"
