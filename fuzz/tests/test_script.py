"""Inputs, mutators and the dictionary: what they make can be read, and differs from what it was."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muxwire_fuzz import mutate, script, wire
from muxwire_fuzz.engine import dictionary_of
from muxwire_fuzz.script import Record, Script, Tag
from muxwire_fuzz.targets import NAMES, load
from muxwire_spec.vectors.build import frame, header_only, preface

PING = frame("PING", bytes(8))
OFFER = preface(ver_hi=1, ver_lo=1)
records = st.builds(Record, st.sampled_from(Tag), st.binary(max_size=40))
scripts = st.builds(Script, st.integers(0, 255), st.lists(records, max_size=5))


@given(scripts)
def test_a_script_is_read_as_it_was_written(one: Script) -> None:
    assert script.read(script.write(one)) == one


@given(st.binary(max_size=60))
def test_any_octets_are_a_script(data: bytes) -> None:
    found = script.read(data)
    assert script.read(script.write(found)) == found


def test_a_long_body_becomes_several_records() -> None:
    data = script.sent(bytes(70_000))
    assert [len(record.body) for record in script.read(data).records] == [65_535, 4_465]
    assert script.read(data).octets == bytes(70_000)


def test_a_filled_record_ends_where_its_frame_says() -> None:
    header = header_only("REQUEST", 1_000)
    assert script.octets_of(Record(Tag.FILLED, PING + header)) == PING + header + bytes(1_000)
    lying = header_only("REQUEST", 2**63)
    assert len(script.octets_of(Record(Tag.FILLED, lying))) == 32 + script.FILL


@pytest.mark.parametrize(
    ("octets", "pieces"),
    [
        (b"", []),
        (OFFER + PING + PING, [OFFER, PING, PING]),
        (PING[:20], [PING[:20]]),
        (PING + b"rubbish", [PING, b"rubbish"]),
        (header_only("REQUEST", 100) + b"abc", [header_only("REQUEST", 100) + b"abc"]),
    ],
)
def test_octets_are_cut_into_frames(octets: bytes, pieces: list[bytes]) -> None:
    assert script.split(octets) == pieces


@pytest.mark.parametrize("name", NAMES)
def test_a_mutation_has_its_limit_and_its_seed(name: str) -> None:
    target = load(name)
    data = sorted(target.seeds(), key=len)[-20]
    made = [target.mutate(data, 5_000, random.Random(seed)) for seed in range(200)]
    again = [target.mutate(data, 5_000, random.Random(seed)) for seed in range(200)]
    assert made == again
    assert len(set(made)) > 60
    assert max(len(target.mutate(data, 50, random.Random(seed))) for seed in range(50)) <= 50
    assert len(target.cross(data, data, 200, random.Random(1))) <= 200


@pytest.mark.parametrize("name", NAMES)
def test_what_is_smaller_is_a_part(name: str) -> None:
    target = load(name)
    data = min(target.seeds(), key=lambda seed: (len(seed) < 40, len(seed)))
    parts = list(target.smaller(data))
    assert parts
    assert all(len(part) <= len(data) for part in parts)
    assert min(map(len, parts)) < len(data) / 2


def test_most_changed_streams_are_nearly_right() -> None:
    whole = script.sent(OFFER + PING * 3)
    changed = [mutate.mutate(whole, 4_096, random.Random(seed)) for seed in range(300)]
    pieces = [script.split(script.read(data).octets) for data in changed]
    assert sum(PING in found for found in pieces) > 200
    lengths = {len(found) for found in pieces}
    assert {2, 3, 4, 5} <= lengths


def test_the_dictionary_knows_the_specification() -> None:
    text = dictionary_of(wire.tokens())
    assert '"\\xf7\\x57\\x4d\\x58\\x0d\\x0a\\x1a\\x0a"\n' in text
    assert '"\\xf7\\x03\\x00\\x06"\n' in text
    assert (2**63 - 1).to_bytes(8) in wire.tokens()
