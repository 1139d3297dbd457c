"""The vectors: permanent octets, expectations that hold in two readings, and a good spread."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from muxwire._generated import codec
from muxwire._generated.registries import MAX_LIMIT, ErrorCode
from muxwire.core.settings import Settings
from muxwire.errors import ProtocolViolation
from muxwire_spec import requirements
from muxwire_spec.emit.vectors import WITH_IGNORED_OCTETS
from muxwire_spec.frames import CHECKS, FRAMES
from muxwire_spec.interpret import Receiver, read_frame
from muxwire_spec.registries import SETTINGS
from muxwire_spec.vectors import GOLDEN, VECTORS, Golden, Vector, expectation, is_preface
from muxwire_spec.vectors.build import frame

FILE = Path(__file__).resolve().parents[1] / "vectors" / "frames.json"
DATA = json.loads(FILE.read_bytes())
JSON: dict[str, dict[str, Any]] = {vector["name"]: vector for vector in DATA["vectors"]}
RESULTS = ("preface", "frame", "incomplete", "error")
SETTINGS_FRAME = bytes.fromhex("f7030001") + bytes(28)


def names(result: str) -> list[str]:
    return [name for name, vector in JSON.items() if result in vector]


class TestGolden:
    def test_there_are_eleven(self) -> None:
        assert [golden.vector.name for golden in GOLDEN] == [f"V{n}" for n in range(1, 12)]

    @pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.vector.name)
    def test_the_fields_give_the_octets(self, golden: Golden) -> None:
        assert golden.build() == golden.vector.octets

    @pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.vector.name)
    def test_the_octets_give_the_fields(self, golden: Golden) -> None:
        result = expectation(golden.vector)
        found = result["preface"] if is_preface(golden.vector.octets) else result["frame"]
        fields = found.get("payload", found)
        assert contains(fields, golden.fields)

    def test_the_generated_encoders_give_the_octets(self) -> None:
        octets = {golden.vector.name: golden.vector.octets for golden in GOLDEN}
        id_ = bytes.fromhex("0190b3f27c4e7a118f000123456789ab")
        trace = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        opening = codec.encode_open(5_000, 1, b"conformance.echo", [trace]) + b"hi"
        error = codec.encode_error_body(ErrorCode.OVERLOADED, 1, 250, b"busy")
        assert octets == {
            "V1": codec.encode_preface(1, 1),
            "V2": codec.encode_settings([(1, 65_536), (7, 60_000), (0x1A1A, 7)]),
            "V3": codec.encode_settings_ack(),
            "V4": codec.request_header(0x05, 0, len(opening), id_) + opening,
            "V5": codec.response_header(0, 0, 2, id_) + b"hi",
            "V6": codec.response_header(0x01, 1, 0, id_),
            "V7": codec.response_header(0x09, 0, len(error), id_) + error,
            "V8": codec.encode_window_update(bytes(16), 134_217_728),
            "V9": codec.encode_kill(id_, ErrorCode.CANCELLED),
            "V10": codec.encode_ping(bytes(range(1, 9))),
            "V11": codec.encode_goaway(0, 3, 30_000, b"drain"),
        }


def contains(found: Any, expected: Any) -> bool:
    """Tell whether JSON has at least the expected fields; octets there are hex digits."""
    if isinstance(expected, dict):
        return all(contains(found[name], value) for name, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(contains, found, expected))
    return bool(found == (expected.hex() if isinstance(expected, bytes) else expected))


class TestFile:
    def test_it_holds_the_vectors_in_order(self) -> None:
        assert list(JSON) == [vector.name for vector in VECTORS]

    def test_names_are_unique(self) -> None:
        assert [name for name, count in Counter(v.name for v in VECTORS).items() if count > 1] == []

    def test_octets_are_unique_for_a_receiver(self) -> None:
        seen = Counter((v.octets, v.receiver, v.first) for v in VECTORS)
        assert [v.name for v in VECTORS if seen[v.octets, v.receiver, v.first] > 1] == []

    def test_shape(self) -> None:
        assert list(DATA) == ["protocol", "receiver_settings", "vectors"]
        for vector in JSON.values():
            *common, result = vector
            assert common == ["name", "doc", "requirements", "receiver", "first", "hex"]
            assert result in RESULTS
            assert vector["doc"]
            assert vector["receiver"] in ("worker", "client")

    def test_requirements_exist(self) -> None:
        known = requirements.load()
        for vector in VECTORS:
            assert vector.requirements
            assert set(vector.requirements) <= set(known), vector.name

    def test_the_settings_of_the_receiver_are_those_of_the_readings(self) -> None:
        receiver = Receiver()
        assert DATA["receiver_settings"] == {
            "MAX_FRAME_SIZE": receiver.max_frame_size,
            "MAX_METADATA_SIZE": receiver.max_metadata_size,
        }


class TestSpread:
    def test_there_are_many(self) -> None:
        assert len(names("frame")) >= 60
        assert len(names("error")) >= 60
        assert len(names("incomplete")) >= 5

    def test_every_kind_of_frame_reaches_every_receiver(self) -> None:
        seen = {(JSON[n]["frame"]["kind"], JSON[n]["receiver"]) for n in names("frame")}
        for kind in FRAMES:
            for sender, receiver in (("client", "worker"), ("worker", "client")):
                assert (sender in kind.senders) == ((kind.name, receiver) in seen), kind.name
        assert {("EXTENSION", "worker"), ("EXTENSION", "client")} <= seen

    def test_every_check_of_a_header_refuses_something(self) -> None:
        steps = set()
        for name in names("error"):
            fault = reading(name).fault
            assert fault is not None
            steps.add(fault.step)
        stateful = {"credit", "state", "sequence"}
        assert steps == {check.step for check in CHECKS} - stateful

    def test_every_payload_requirement_has_a_vector(self) -> None:
        cited = {id_ for vector in VECTORS for id_ in vector.requirements}
        assert {f"PAY-{n:03}" for n in range(1, 9)} <= cited

    def test_both_edges_of_every_setting(self) -> None:
        refused = [JSON[n] for n in names("error") if JSON[n]["error"]["requirement"] == "SET-001"]
        values = {(int(v["hex"][64:68], 16), int(v["hex"][68:84], 16)) for v in refused}
        for rule in SETTINGS:
            assert {(rule.value, rule.minimum - 1), (rule.value, rule.maximum + 1)} <= values

    def test_a_refused_vector_is_about_the_rule_it_breaks(self) -> None:
        for name in names("error"):
            assert JSON[name]["error"]["requirement"] == JSON[name]["requirements"][0], name


def reading(name: str) -> Any:
    vector = JSON[name]
    receiver = Receiver(role=vector["receiver"], first=vector["first"])
    return read_frame(bytes.fromhex(vector["hex"]), receiver)


OFFSETS = {
    "marker-text": ("marker", 0),
    "first-grease": ("type", 1),
    "flags-control-end": ("flags", 2),
    "subtype-next": ("subtype", 3),
    "control-seq": ("seq", 4),
    "length-huge": ("payload_length", 8),
    "ping-id": ("request_id", 16),
    "ping-7": ("payload_length", 8),
    "open-length-one-beyond": ("metadata_length", 32),
    "open-length-zero": ("metadata.timeout_ms", 36),
    "subject-empty": ("metadata.subject", 46),
    "open-key-empty": ("metadata.headers[0].key_length", 47),
    "open-key-upper": ("metadata.headers[0].key", 48),
    "open-key-repeated": ("metadata.headers[2].key", 58),
    "response-value-cr": ("metadata.headers[0].value", 42),
    "error-both-flags": ("error_flags", 36),
    "error-message-overrun": ("message", 44),
    "goaway-17": ("message_length", 48),
    "settings-second-bad": ("settings[1].value", 44),
    "settings-repeated": ("settings[1].id", 42),
    "window-update-overflow": ("limit", 32),
}


@pytest.mark.parametrize("name", OFFSETS)
def test_where_the_fault_is(name: str) -> None:
    """Counted by hand from the layouts."""
    error = JSON[name]["error"]
    assert (error["field"], error["offset"]) == OFFSETS[name]


# --- the second reading: the generated codec --------------------------------------------------

DECODERS: dict[str, Any] = {
    "OPEN": lambda octets: codec.decode_open(
        octets, DATA["receiver_settings"]["MAX_METADATA_SIZE"]
    ),
    "RESPONSE_META": lambda octets: codec.decode_response_meta(
        octets, DATA["receiver_settings"]["MAX_METADATA_SIZE"]
    ),
    "ERROR_BODY": codec.decode_error_body,
    "SETTINGS_PAYLOAD": codec.decode_settings,
    "WINDOW_UPDATE": codec.decode_window_update,
    "STOP": codec.decode_stop,
    "KILL": codec.decode_kill,
    "GOAWAY": codec.decode_goaway,
}
SELECTED = {"REQUEST": ((4, "OPEN"),), "RESPONSE": ((8, "ERROR_BODY"), (4, "RESPONSE_META"))}


def second_reading(vector: Vector, cuts: int, behind: bytes = b"") -> dict[str, Any]:
    """Read a vector with the generated codec, `cuts` octets at a time, in the form of JSON."""
    role = codec.WORKER if vector.receiver == "worker" else codec.CLIENT
    decoder = codec.FrameDecoder(role, DATA["receiver_settings"]["MAX_FRAME_SIZE"])
    if not vector.first:
        decoder.feed(SETTINGS_FRAME)
        assert len(list(decoder.frames())) == 1
    octets = vector.octets + behind
    try:
        for start in range(0, len(octets), cuts):
            decoder.feed(octets[start : start + cuts])
            for kind, flags, seq, request_id, payload in decoder.frames():
                frame = {
                    "kind": codec.KIND_NAMES[kind],
                    "flags": flags,
                    "seq": seq,
                    "request_id": request_id.hex(),
                    "payload": payload_fields(codec.KIND_NAMES[kind], flags, payload),
                }
                return {"frame": frame}
    except ProtocolViolation as violation:
        error = {
            "code": ErrorCode(violation.code).name,
            "scope": str(violation.scope),
            "requirement": violation.requirement,
        }
        return {"error": error}
    assert decoder.mid_frame
    return {"incomplete": {}}


def payload_fields(kind: str, flags: int, payload: bytes) -> Any:
    layout = next((name for flag, name in SELECTED.get(kind, ()) if flags & flag), kind)
    layout = "SETTINGS_PAYLOAD" if layout == "SETTINGS" else layout
    decode = DECODERS.get(layout)
    if decode is None:
        return [] if kind == "SETTINGS_ACK" else payload
    fields = decode(payload)
    if layout == "SETTINGS_PAYLOAD":
        Settings.from_wire(fields.settings)
    if layout == "WINDOW_UPDATE" and fields > MAX_LIMIT:
        raise ProtocolViolation(ErrorCode.FLOW_CONTROL_ERROR, "connection", "FLW-003", "too high")
    return fields if isinstance(fields, int) else list(fields)


def same_fields(expected: dict[str, Any], found: Any) -> bool:
    """Compare JSON fields, laid out flat, with what a generated decoder returns."""
    return list(leaves(expected)) == list(leaves(found))


def leaves(value: Any) -> Any:
    if isinstance(value, dict):
        for name, item in value.items():
            if name != "header_count":
                yield from leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value.hex() if isinstance(value, bytes) else value


FRAMES_ONLY = [vector for vector in VECTORS if not is_preface(vector.octets)]


@pytest.mark.parametrize("vector", FRAMES_ONLY, ids=lambda vector: vector.name)
def test_the_codec_reads_the_same(vector: Vector) -> None:
    agree(vector, second_reading(vector, max(1, len(vector.octets))))


@pytest.mark.parametrize("vector", FRAMES_ONLY, ids=lambda vector: vector.name)
def test_the_codec_reads_the_same_octet_by_octet(vector: Vector) -> None:
    agree(vector, second_reading(vector, 1 if len(vector.octets) < 5_000 else 7))


@pytest.mark.parametrize(
    "vector",
    [v for v in FRAMES_ONLY if "incomplete" not in JSON[v.name] and len(v.octets) >= 32],
    ids=lambda vector: vector.name,
)
def test_the_codec_reads_the_same_with_a_frame_behind(vector: Vector) -> None:
    agree(vector, second_reading(vector, 2**20, behind=frame("PING", bytes(8))))


def agree(vector: Vector, found: dict[str, Any]) -> None:
    expected = JSON[vector.name]
    (result,) = found
    assert result in expected
    if result == "error":
        assert expected["error"] == found["error"] | {
            name: expected["error"][name] for name in ("field", "offset")
        }
    elif result == "frame":
        header = expected["frame"]["header"]
        assert found["frame"]["kind"] == expected["frame"]["kind"]
        assert found["frame"]["flags"] == header["flags"] & 0x0F
        assert found["frame"]["seq"] == header["seq"]
        assert found["frame"]["request_id"] == header["request_id"]
        assert same_fields(expected["frame"]["payload"], found["frame"]["payload"])


@pytest.mark.parametrize("name", names("preface"))
def test_the_codec_reads_the_same_preface(name: str) -> None:
    fields = JSON[name]["preface"]
    found = codec.decode_preface(bytes.fromhex(JSON[name]["hex"]))
    assert found == (fields["ver_hi"], fields["ver_lo"], fields["header_size"])


@pytest.mark.parametrize("name", [n for n in names("frame") if n not in WITH_IGNORED_OCTETS])
def test_the_fields_of_accepted_frames_give_their_octets(name: str) -> None:
    found = JSON[name]["frame"]
    header = {k: v for k, v in found["header"].items() if k not in ("payload_length", "flags")}
    header["request_id"] = bytes.fromhex(header["request_id"])
    payload = octets_of(found["payload"])
    kind = found["kind"]
    if kind == "EXTENSION":
        kind, payload = "PING", payload["data"]
    built = frame(kind, payload, flags=found["header"]["flags"], **header)
    assert built.hex() == JSON[name]["hex"]


def octets_of(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: octets_of(item) for name, item in value.items()}
    if isinstance(value, list):
        return [octets_of(item) for item in value]
    return bytes.fromhex(value) if isinstance(value, str) else value
