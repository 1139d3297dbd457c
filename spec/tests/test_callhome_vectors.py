"""The vectors of WCH/1: permanent octets, two readings that agree, and what has no place there."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from muxwire._generated import codec
from muxwire._generated.registries import WCH_MAX_FRAME_SIZE, WCH_MAX_METADATA_SIZE, ErrorCode
from muxwire.errors import ProtocolViolation
from muxwire_spec import requirements
from muxwire_spec.callhome import FRAMES
from muxwire_spec.hexdump import annotate, annotate_stream
from muxwire_spec.interpret import read_frame, receiver_of
from muxwire_spec.vectors import VECTORS as WMX_VECTORS
from muxwire_spec.vectors import is_preface
from muxwire_spec.vectors.build import Vector, frame
from muxwire_spec.vectors.callhome_frames import GOLDEN, TOKEN, VECTORS

FILE = Path(__file__).resolve().parents[1] / "vectors" / "callhome" / "frames.json"
DATA = json.loads(FILE.read_bytes())
JSON: dict[str, dict[str, Any]] = {vector["name"]: vector for vector in DATA["vectors"]}
FRAMES_ONLY = [vector for vector in VECTORS if not is_preface(vector.octets)]
ROLES = {"worker": codec.WCH_WORKER, "router": codec.WCH_ROUTER}
each_frame = pytest.mark.parametrize("vector", FRAMES_ONLY, ids=lambda vector: vector.name)


def names(result: str) -> list[str]:
    return [name for name, vector in JSON.items() if result in vector]


def test_the_generated_encoders_give_the_permanent_octets() -> None:
    id_ = bytes.fromhex("0190b3f27c4e7a118f000123456789ab")
    assert {vector.name: vector.octets for vector in GOLDEN} == {
        "W1": codec.encode_wch_preface(1, 1, 0),
        "W2": codec.encode_hello(id_, TOKEN),
        "W3": codec.encode_accept(id_),
        "W4": codec.encode_reject(id_, ErrorCode.NOT_FOUND),
        "W5": codec.encode_done(id_),
        "W6": codec.encode_wch_preface(1, 1, 400),
    }


def test_the_file_holds_the_vectors_in_order() -> None:
    assert list(JSON) == [vector.name for vector in VECTORS]
    assert DATA["protocol"] == "WCH/1"
    assert DATA["receiver_settings"] == {
        "MAX_FRAME_SIZE": WCH_MAX_FRAME_SIZE,
        "MAX_METADATA_SIZE": WCH_MAX_METADATA_SIZE,
    }


def test_names_and_octets_are_unique() -> None:
    called = Counter(vector.name for vector in (*VECTORS, *WMX_VECTORS))
    assert [name for name, count in called.items() if count > 1] == []
    seen = Counter((vector.octets, vector.receiver) for vector in VECTORS)
    assert [octets for octets, count in seen.items() if count > 1] == []


def test_requirements_exist_and_the_broken_one_comes_first() -> None:
    known = requirements.load()
    for vector in VECTORS:
        assert set(vector.requirements) <= set(known), vector.name
    for name in names("error"):
        assert JSON[name]["error"]["requirement"] == JSON[name]["requirements"][0], name


def test_every_kind_of_frame_reaches_every_receiver() -> None:
    seen = {(JSON[name]["frame"]["kind"], JSON[name]["receiver"]) for name in names("frame")}
    for kind in FRAMES:
        for sender, receiver in (("router", "worker"), ("worker", "router")):
            assert (sender in kind.senders) == ((kind.name, receiver) in seen), kind.name


def test_every_check_of_a_header_that_holds_here_refuses_something() -> None:
    steps = set()
    for name in names("error"):
        vector = JSON[name]
        receiver = receiver_of("WCH/1", vector["receiver"])
        fault = read_frame(bytes.fromhex(vector["hex"]), receiver).fault
        assert fault is not None
        steps.add(fault.step)
    expected = {"marker", "type", "direction", "length", "flags", "subtype", "sender", "zero"}
    assert steps == {*expected, "id", "size", "end-more", "payload"}


def second_reading(vector: Vector, cuts: int) -> dict[str, Any]:
    """Read a vector with the generated codec, `cuts` octets at a time, as far as it has one."""
    decoder = codec.FrameDecoder(ROLES[vector.receiver], WCH_MAX_FRAME_SIZE)
    try:
        for start in range(0, len(vector.octets), cuts):
            decoder.feed(vector.octets[start : start + cuts])
            for kind, flags, seq, request_id, payload in decoder.frames():
                name = codec.KIND_NAMES[kind]
                if name == "RESPONSE" and flags & 4:
                    codec.decode_response_meta(payload, WCH_MAX_METADATA_SIZE)
                if name == "REJECT":
                    assert codec.decode_reject(payload).to_bytes(4) == payload
                header = {"flags": flags, "seq": seq, "request_id": request_id.hex()}
                return {"frame": (name, header, payload)}
    except ProtocolViolation as violation:
        rule = violation.requirement
        return {"error": (ErrorCode(violation.code).name, str(violation.scope), rule)}
    assert decoder.mid_frame
    return {"incomplete": None}


@each_frame
@pytest.mark.parametrize("cuts", [1, 2**20])
def test_the_codec_reads_the_same(vector: Vector, cuts: int) -> None:
    expected = JSON[vector.name]
    ((result, found),) = second_reading(vector, cuts).items()
    assert result in expected
    if result == "error":
        error = expected["error"]
        assert found == (error["code"], error["scope"], error["requirement"])
    if result == "frame":
        kind, header, payload = found
        shown = expected["frame"]["header"]
        assert kind == expected["frame"]["kind"]
        assert header == {**{name: shown[name] for name in header}, "flags": shown["flags"] & 15}
        assert payload == vector.octets[32:]


@pytest.mark.parametrize("name", names("preface"))
def test_the_codec_reads_the_same_preface(name: str) -> None:
    fields = JSON[name]["preface"]
    found = codec.decode_wch_preface(bytes.fromhex(JSON[name]["hex"]))
    listed = ("ver_hi", "ver_lo", "header_size", "idle_timeout_ms")
    assert found == tuple(fields[field] for field in listed)


@pytest.mark.parametrize(
    "octets", [b"", bytes(16), codec.encode_preface(1, 1), b"HTTP/1.1 400 Bad"]
)
def test_what_is_no_preface(octets: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="not a preface of WCH"):
        codec.decode_wch_preface(octets)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_the_dump_names_every_octet_and_the_fault(vector: Vector) -> None:
    lines = annotate(vector.octets, receiver=vector.receiver, protocol="WCH/1")
    assert b"".join(line.octets for line in lines) == vector.octets
    assert any(line.fault for line in lines) == ("error" in JSON[vector.name])


def test_a_preface_tells_the_dump_what_follows() -> None:
    octets = GOLDEN[0].octets + GOLDEN[1].octets
    preface, hello = annotate_stream(octets, receiver="client")
    assert preface[-1].field == "idle_timeout_ms"
    assert hello[-1].field == "token"
    assert not any(line.fault for line in hello)


def test_the_frames_of_each_protocol_are_unknown_in_the_other() -> None:
    for role in (codec.WORKER, codec.CLIENT):
        for octets in (codec.encode_hello(b"\1" * 16, TOKEN), codec.encode_done(b"\1" * 16)):
            decoder = codec.FrameDecoder(role, 65_536)
            decoder.feed(codec.encode_settings([]) + octets)
            with pytest.raises(ProtocolViolation) as caught:
                list(decoder.frames())
            assert caught.value.code == ErrorCode.UNSUPPORTED_FRAME
    wmx = frame("SETTINGS_ACK")
    for role in ROLES.values():
        decoder = codec.FrameDecoder(role, WCH_MAX_FRAME_SIZE)
        decoder.feed(wmx)
        with pytest.raises(ProtocolViolation) as caught:
            list(decoder.frames())
        assert caught.value.code == ErrorCode.UNSUPPORTED_FRAME
