"""The annotated dump: every octet named once, values as construct reads them, the fault marked."""

from __future__ import annotations

from typing import Any

import pytest
from frame_strategies import extension_frames, near_frames, valid_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from muxwire_spec import frames as f
from muxwire_spec.hexdump import Line, annotate, annotate_stream, render
from muxwire_spec.interpret import Receiver, read_frame
from muxwire_spec.vectors import VECTORS, Vector, expectation

ROLES = ("worker", "client")
SENDER = {"worker": "client", "client": "worker"}
GOLDEN = {vector.name: vector for vector in VECTORS}
PREFACE = GOLDEN["V1"].octets


@st.composite
def inputs(draw: st.DrawFn) -> tuple[bytes, str]:
    """Draw valid frames, near misses and garbage; cut short, whole, or with octets behind."""
    role = draw(st.sampled_from(ROLES))
    sender = draw(st.sampled_from((SENDER[role], role)))
    good = valid_frames(sender) | near_frames(sender) | extension_frames()
    garbage = st.binary(max_size=100)
    octets = draw(good | garbage | garbage.map(lambda tail: b"\xf7" + tail) | st.just(PREFACE))
    cut = draw(st.just(len(octets)) | st.integers(0, len(octets)))
    return octets[:cut] + draw(st.just(b"") | garbage), role


@given(inputs(), st.booleans())
@settings(max_examples=200)
def test_every_octet_has_one_name(given_: tuple[bytes, str], first: bool) -> None:
    octets, role = given_
    lines = annotate(octets, receiver=role, first=first)
    assert b"".join(line.octets for line in lines) == octets
    at = 0
    for line in lines:
        assert line.offset == at
        assert line.field
        at += len(line.octets)
    assert render(lines)


@given(inputs(), st.booleans())
@settings(max_examples=150)
def test_the_fault_is_the_one_of_the_specification(given_: tuple[bytes, str], first: bool) -> None:
    octets, role = given_
    lines = annotate(octets, receiver=role, first=first)
    faults = [line.fault for line in lines if line.fault is not None]
    if octets.startswith(f.MAGIC):
        assert faults == []
        return
    fault = read_frame(octets, Receiver(role=role, first=first)).fault
    assert len(faults) == (fault is not None)
    if fault is not None:
        assert faults[0].code == fault.breach.code
        assert faults[0].requirement == fault.breach.requirement
        assert faults[0].text == fault.text


@given(
    st.sampled_from(ROLES).flatmap(
        lambda role: st.tuples(valid_frames(SENDER[role]), st.just(role))
    )
)
@settings(max_examples=100)
def test_values_are_those_that_construct_reads(frame: tuple[bytes, str]) -> None:
    octets, role = frame
    reading = read_frame(octets, Receiver(role=role))
    assert reading.header is not None
    if reading.payload is None:
        return
    expected = dict(paths(reading.header, "")) | dict(paths(reading.payload, ""))
    lines = {line.field: line for line in annotate(octets, receiver=role)}
    lengths = {name for name in lines if name.endswith("_length")} - {"payload_length"}
    for name in lengths:
        of = lines.get(name.removesuffix("_length"))
        if of is not None:
            assert int.from_bytes(lines[name].octets) == len(of.octets)
    assert set(lines) - lengths - {"metadata.(extension)", "(not read)"} <= set(expected)
    for name, value in expected.items():
        if name in lines:
            found = lines[name].octets
            assert (found if isinstance(value, bytes) else int.from_bytes(found)) == value
        else:
            assert value == b"", name


def paths(value: Any, path: str) -> Any:
    """Yield the leaves of what construct returns with their names in a dump."""
    for name, item in value.items():
        if name.startswith("_"):
            continue
        if isinstance(item, dict):
            yield from paths(item, f"{path}{name}.")
        elif isinstance(item, list):
            for index, entry in enumerate(item):
                yield from paths(entry, f"{path}{name}[{index}].")
        else:
            yield f"{path}{name}", item


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.name)
def test_vectors_are_marked_where_they_are_faulty(vector: Vector) -> None:
    lines = annotate(vector.octets, receiver=vector.receiver, first=vector.first)
    marked = [line for line in lines if line.fault is not None]
    result = expectation(vector)
    if "error" not in result:
        assert marked == []
        return
    (line,) = marked
    assert line.fault is not None
    assert line.fault.requirement == vector.requirements[0]
    assert (line.field, line.offset) == (result["error"]["field"], result["error"]["offset"])


def fields(lines: list[Line]) -> list[tuple[str, str]]:
    return [(line.field, line.value) for line in lines]


class TestMeanings:
    def test_open(self) -> None:
        assert fields(annotate(GOLDEN["V4"].octets)) == [
            ("marker", "0xf7"),
            ("type", "0x01 REQUEST"),
            ("flags", "0x05 END_STREAM | META"),
            ("subtype", "0x00"),
            ("seq", "0"),
            ("payload_length", "101"),
            ("request_id", "0190b3f2-7c4e-7a11-8f00-0123456789ab"),
            ("metadata_length", "95"),
            ("metadata.timeout_ms", "5,000"),
            ("metadata.request_flags", "0x01 IDEMPOTENT"),
            ("metadata.header_count", "1"),
            ("metadata.subject_length", "16"),
            ("metadata.subject", '"conformance.echo"'),
            ("metadata.headers[0].key_length", "11"),
            ("metadata.headers[0].key", '"traceparent"'),
            ("metadata.headers[0].value_length", "55"),
            (
                "metadata.headers[0].value",
                '"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"',
            ),
            ("body", "2 octets |hi|"),
        ]

    def test_settings(self) -> None:
        assert fields(annotate(GOLDEN["V2"].octets))[6:] == [
            ("request_id", "the connection"),
            ("settings[0].id", "0x0001 MAX_FRAME_SIZE"),
            ("settings[0].value", "65,536"),
            ("settings[1].id", "0x0007 IDLE_TIMEOUT_MS"),
            ("settings[1].value", "60,000"),
            ("settings[2].id", "0x1a1a (unknown, ignored)"),
            ("settings[2].value", "7"),
        ]

    def test_error_body(self) -> None:
        assert fields(annotate(GOLDEN["V7"].octets, receiver="client"))[7:] == [
            ("code", "0x104 OVERLOADED"),
            ("error_flags", "0x01 NOT_PROCESSED"),
            ("retry_after_ms", "250"),
            ("message_length", "4"),
            ("message", '"busy"'),
        ]

    @pytest.mark.parametrize(
        ("name", "field", "value"),
        [
            ("V3", "subtype", "0x02 SETTINGS_ACK"),
            ("pong", "subtype", "0x02 PONG"),
            ("open-high-flags", "flags", "0xf4 META | 0xf0 (ignored)"),
            ("error-unknown-code", "code", "0x7fffffff (unassigned)"),
            ("extension-odd-header", "type", "0x80 (unassigned)"),
            ("open-extension", "metadata.(extension)", "16 octets |................|"),
            ("goaway-trailing", "(not read)", "5 octets |.....|"),
            ("cut-payload", "(missing)", "1 octet has not arrived"),
            ("cut-header", "request_id", "15 of 16 octets are there"),
        ],
    )
    def test_others(self, name: str, field: str, value: str) -> None:
        vector = GOLDEN[name]
        lines = annotate(vector.octets, receiver=vector.receiver, first=vector.first)
        assert (field, value) in fields(lines)

    def test_preface(self) -> None:
        assert [line.field for line in annotate(PREFACE)] == [
            field.name for field in f.PREFACE.subcons
        ]

    def test_octets_behind_a_preface(self) -> None:
        *_, last = annotate(PREFACE + b"more")
        assert (last.offset, last.octets, last.field) == (16, b"more", "(behind)")


class TestRendering:
    def test_a_fault_stands_below_its_field(self) -> None:
        text = render(annotate(GOLDEN["control-seq"].octets))
        assert text.splitlines()[4:6] == [
            "     4  00 00 00 01              seq                          1",
            "        ^^ FRM-007 PROTOCOL_ERROR: 1 is not 0",
        ]

    def test_long_fields_go_on_and_are_cut(self) -> None:
        text = render(annotate(GOLDEN["open-value-8192"].octets))
        assert "        ... 8128 octets more" in text
        assert len(text.splitlines()) < 40

    def test_no_line_ends_in_a_blank(self) -> None:
        for vector in VECTORS:
            for line in render(annotate(vector.octets, receiver=vector.receiver)).splitlines():
                assert line == line.rstrip()


class TestStreams:
    def test_frames_follow_each_other_with_offsets_of_the_stream(self) -> None:
        octets = PREFACE + GOLDEN["V2"].octets + GOLDEN["V3"].octets
        found = list(annotate_stream(octets))
        assert [lines[0].offset for lines in found] == [0, 16, 78]
        assert b"".join(line.octets for lines in found for line in lines) == octets

    def test_lost_octets_are_one_line(self) -> None:
        (one, two) = annotate_stream(GOLDEN["V3"].octets + b"garbage")
        assert [line.octets for line in two] == [b"garbage"]
        assert len(one) == 7

    def test_only_the_frame_behind_a_preface_is_the_first(self) -> None:
        ping = GOLDEN["V10"].octets
        found = list(annotate_stream(PREFACE + ping + ping))
        faults = [[line.fault.requirement for line in lines if line.fault] for lines in found]
        assert faults == [[], ["HSK-005"], []]

    def test_nothing(self) -> None:
        assert list(annotate_stream(b"")) == []

    @given(inputs())
    @settings(max_examples=50)
    def test_every_octet_of_a_stream_has_one_name(self, given_: tuple[bytes, str]) -> None:
        octets, role = given_
        found = list(annotate_stream(octets * 2, receiver=role))
        assert b"".join(line.octets for lines in found for line in lines) == octets * 2
