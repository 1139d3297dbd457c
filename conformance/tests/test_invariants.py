"""The always-on rules: each one is seen when it is broken, and not when it is kept."""

from __future__ import annotations

import struct

import pytest
from muxwire_conformance import wire
from muxwire_conformance.invariants import WATCHED, Watcher
from muxwire_conformance.rules import rule
from muxwire_conformance.wire import Frame, Parser

ID = bytes(range(16))
SETUP = wire.settings([("MAX_FRAME_SIZE", 65_536)]) + wire.settings_ack()
ERROR = struct.pack(">IHIH", 0x102, 1, 0, 0)


def seen(*frames: bytes, setup: bytes = SETUP, opened: bool = True) -> set[str]:
    """Return the requirements that these frames break."""
    watcher = Watcher()
    if opened:
        watcher.opened(ID)
    broken: set[str] = set()
    for item in Parser(with_preface=False).feed(setup + b"".join(frames), 0.0):
        assert isinstance(item, Frame)
        broken |= {fault.requirement for fault in watcher.frame(item)}
    return broken


def meta(*headers: tuple[str, str]) -> bytes:
    block = len(headers).to_bytes(2, "big") + wire.headers_block(headers)
    return len(block).to_bytes(4, "big") + block


def test_an_ordinary_conversation_is_clean() -> None:
    assert not seen(
        wire.pong(),
        wire.response(ID, 0, meta(("content-type", "x")) + b"a", flags=wire.META),
        wire.response(ID, 1, b"b", more=True),
        wire.grease(flags=0xFF, seq=9),
        wire.grease(type=wire.CONTROL, subtype=0x9A),
        wire.response(ID, 2, b"c"),
        wire.window_update(10**7),
        wire.response(ID, 3, meta(("usage", "1")), flags=wire.META | wire.END_STREAM),
        wire.goaway(last_ordinal=1, grace_ms=5),
        wire.goaway("INTERNAL_ERROR", last_ordinal=1),
    )


CASES = {
    "HSK-005": ([wire.ping()], {"setup": b""}),
    "HSK-006": ([wire.settings()], {}),
    "HSK-007": ([wire.settings_ack()], {}),
    "FRM-004": ([wire.frame(type=0x05)], {}),
    "FRM-006": ([wire.ping(flags=1)], {}),
    "FRM-007": ([wire.pong(seq=1)], {}),
    "FRM-008": ([wire.pong(request_id=ID)], {}),
    "FRM-010": ([wire.response(ID, 1, b"a")], {}),
    "TYP-001": ([wire.kill(ID)], {}),
    "TYP-002": ([wire.response(ID, 0, b"a", more=True, end=True)], {}),
    "TYP-004": ([wire.response(ID, 0, ERROR, flags=wire.ERROR)], {}),
    "TYP-005": (
        [wire.response(ID, 0, b"a"), wire.response(ID, 1, meta(), flags=wire.META)],
        {},
    ),
    "TYP-006": ([wire.response(ID, 0, end=True), wire.response(ID, 1, b"late")], {}),
    "PAY-001": ([wire.ping(b"1")], {}),
    "PAY-002": ([wire.response(ID, 0, b"1", flags=wire.META)], {}),
    "PAY-005": ([wire.response(ID, 0, meta(("Upper", "x")), flags=wire.META)], {}),
    "PAY-007": ([wire.response(ID, 0, b"1", flags=wire.ERROR | wire.END_STREAM)], {}),
    "SET-001": ([], {"setup": wire.settings([("MAX_FRAME_SIZE", 100)])}),
    "SET-002": ([], {"setup": wire.settings([(9, 1), (9, 1)])}),
    "SET-003": ([wire.response(ID, 0, bytes(16_385))], {}),
    "RID-004": ([wire.response(bytes(15) + b"\x09", 0, b"a")], {}),
    "FLW-001": ([wire.response(ID, seq, bytes(16_000)) for seq in range(5)], {}),
    "CLS-007": ([wire.goaway(last_ordinal=1), wire.goaway(last_ordinal=2)], {}),
}


@pytest.mark.parametrize("requirement", CASES)
def test_a_breach_is_seen(requirement: str) -> None:
    frames, options = CASES[requirement]
    assert seen(*frames, **options) == {requirement}  # type: ignore[arg-type]


def test_every_watched_rule_has_a_test_and_exists() -> None:
    assert set(WATCHED) == {*CASES, "FRM-002"}  # FRM-002 is seen by the parser
    assert all(rule(requirement).known for requirement in WATCHED)


def test_settings_and_credit_of_the_judge_are_respected() -> None:
    watcher = Watcher()
    watcher.opened(ID)
    watcher.announced([(wire.SETTING_IDS["MAX_FRAME_SIZE"], 65_536)])
    watcher.credited(ID, 200_000)
    parser = Parser(with_preface=False)
    frames = [wire.response(ID, seq, bytes(60_000)) for seq in range(4)]
    broken = []
    for item in parser.feed(SETUP + b"".join(frames), 0.0):
        assert isinstance(item, Frame)
        broken.append([fault.requirement for fault in watcher.frame(item)])
    assert broken == [[], [], [], [], [], ["FLW-001"]]


def test_a_fault_names_the_field_that_shows_it() -> None:
    watcher = Watcher()
    watcher.opened(ID)
    late = wire.response(ID, 1, b"a")
    *_setup, frame = Parser(with_preface=False).feed(SETUP + late, 0.0)
    assert isinstance(frame, Frame)
    assert [(one.requirement, one.field) for one in watcher.frame(frame) if one.field == "seq"] == [
        ("FRM-010", "seq")
    ]
