"""Violations, and the frames that both roles treat alike."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from core_harness import (
    ACK,
    CONTROL_TYPE,
    HEARTBEAT_TYPE,
    ONES,
    PREFACE,
    REQUEST_TYPE,
    RESPONSE_TYPE,
    ZERO,
    Wire,
    client,
    failure,
    opening,
    raw,
    request,
    response,
    rid,
    settings_frame,
    worker,
)
from hypothesis import given
from hypothesis import strategies as st
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ERROR, META, MORE, ErrorCode
from muxwire.core import CloseAction, MessageReceived, RequestReceived, WorkerConnection

PING = codec.encode_ping(bytes(8))
ID = rid(1)
E = ErrorCode

AT_WORKER = [
    ("FRM-002", E.PROTOCOL_ERROR, [raw(HEARTBEAT_TYPE, subtype=1, payload=bytes(8), marker=0xF6)]),
    ("FRM-002", E.PROTOCOL_ERROR, [b"\xf6"]),
    ("FRM-003", E.FRAME_SIZE_ERROR, [raw(REQUEST_TYPE, flags=META, rid=ID, length=2**62)]),
    ("FRM-003", E.FRAME_SIZE_ERROR, [raw(REQUEST_TYPE, flags=META, rid=ID, length=65_537)]),
    ("FRM-003", E.FRAME_SIZE_ERROR, [raw(CONTROL_TYPE, subtype=6, length=4_097)]),
    ("FRM-003", E.FRAME_SIZE_ERROR, [raw(0x8A, length=65_537)]),
    ("FRM-004", E.UNSUPPORTED_FRAME, [raw(0x00)]),
    ("FRM-004", E.UNSUPPORTED_FRAME, [raw(0x05)]),
    ("FRM-004", E.UNSUPPORTED_FRAME, [raw(0x7F)]),
    ("FRM-004", E.UNSUPPORTED_FRAME, [raw(CONTROL_TYPE, subtype=0)]),
    ("FRM-004", E.UNSUPPORTED_FRAME, [raw(CONTROL_TYPE, subtype=0x44)]),
    ("FRM-004", E.PROTOCOL_ERROR, [raw(HEARTBEAT_TYPE, subtype=0x81, payload=bytes(8))]),
    ("FRM-006", E.PROTOCOL_ERROR, [raw(HEARTBEAT_TYPE, flags=1, subtype=1, payload=bytes(8))]),
    ("FRM-007", E.PROTOCOL_ERROR, [raw(REQUEST_TYPE, flags=META, subtype=1, rid=ID)]),
    ("FRM-007", E.PROTOCOL_ERROR, [raw(HEARTBEAT_TYPE, subtype=1, seq=1, payload=bytes(8))]),
    ("FRM-008", E.PROTOCOL_ERROR, [raw(HEARTBEAT_TYPE, subtype=1, rid=ID, payload=bytes(8))]),
    ("FRM-008", E.PROTOCOL_ERROR, [raw(REQUEST_TYPE, flags=META, rid=ZERO)]),
    ("FRM-008", E.PROTOCOL_ERROR, [raw(REQUEST_TYPE, flags=META, rid=ONES)]),
    ("FRM-008", E.PROTOCOL_ERROR, [raw(CONTROL_TYPE, subtype=4, rid=ZERO, payload=bytes(4))]),
    ("FRM-008", E.PROTOCOL_ERROR, [raw(CONTROL_TYPE, subtype=5, rid=ONES, payload=bytes(4))]),
    ("FRM-008", E.PROTOCOL_ERROR, [raw(CONTROL_TYPE, subtype=3, rid=ONES, payload=bytes(8))]),
    ("FRM-010", E.SEQUENCE_ERROR, [opening(1, end=False), request(1, 2)]),
    ("FRM-010", E.SEQUENCE_ERROR, [opening(1, end=False), request(1, 1), request(1, 1)]),
    ("TYP-001", E.PROTOCOL_ERROR, [raw(RESPONSE_TYPE, rid=ID)]),
    ("TYP-002", E.PROTOCOL_ERROR, [raw(REQUEST_TYPE, flags=META | MORE | END_STREAM, rid=ID)]),
    ("TYP-003", E.PROTOCOL_ERROR, [raw(REQUEST_TYPE, rid=ID)]),
    ("TYP-003", E.PROTOCOL_ERROR, [opening(1, end=False), request(1, 1, b"", META)]),
    ("FRM-006", E.PROTOCOL_ERROR, [raw(REQUEST_TYPE, flags=META | ERROR | END_STREAM, rid=ID)]),
    ("PAY-001", E.FRAME_SIZE_ERROR, [raw(CONTROL_TYPE, subtype=3, payload=bytes(7))]),
    ("PAY-001", E.FRAME_SIZE_ERROR, [raw(CONTROL_TYPE, subtype=4, rid=ID, payload=bytes(5))]),
    ("PAY-001", E.FRAME_SIZE_ERROR, [raw(HEARTBEAT_TYPE, subtype=1, payload=bytes(9))]),
    ("PAY-001", E.FRAME_SIZE_ERROR, [raw(HEARTBEAT_TYPE, subtype=2, payload=b"")]),
    ("PAY-001", E.FRAME_SIZE_ERROR, [raw(CONTROL_TYPE, subtype=6, payload=bytes(17))]),
    (
        "PAY-001",
        E.FRAME_SIZE_ERROR,
        [raw(CONTROL_TYPE, subtype=6, payload=bytes(16) + b"\x00\x01")],
    ),
    ("PAY-002", E.PROTOCOL_ERROR, [request(1, 0, b"\x00\x00\xff\xff", META)]),
    ("PAY-002", E.PROTOCOL_ERROR, [request(1, 0, b"\x00\x00\x00", META)]),
    (
        "PAY-002",
        E.PROTOCOL_ERROR,
        [request(1, 0, (16_385).to_bytes(4, "big") + bytes(16_385), META)],
    ),
    ("RID-002", E.DUPLICATE_REQUEST, [opening(1), opening(1)]),
    ("RID-002", E.DUPLICATE_REQUEST, [opening(1, subject=b"no"), opening(1)]),
    ("STM-001", E.STREAM_STATE_ERROR, [opening(1), request(1, 1)]),
    ("STM-001", E.STREAM_STATE_ERROR, [opening(1), request(1, 9, b"", END_STREAM)]),
    ("FLW-003", E.FLOW_CONTROL_ERROR, [codec.encode_window_update(ZERO, 2**63)]),
    ("FLW-003", E.FLOW_CONTROL_ERROR, [codec.encode_window_update(rid(9), 2**64 - 1)]),
    ("CLS-009", E.PROTOCOL_ERROR, [opening(2), codec.encode_goaway(0, 0, 0, b""), opening(1)]),
]

AT_CLIENT = [
    ("TYP-001", E.PROTOCOL_ERROR, lambda i: raw(REQUEST_TYPE, flags=META, rid=i)),
    ("TYP-001", E.PROTOCOL_ERROR, lambda i: codec.encode_stop(i, 0)),
    ("TYP-001", E.PROTOCOL_ERROR, lambda i: codec.encode_kill(i, 0)),
    ("TYP-002", E.PROTOCOL_ERROR, lambda i: response(i, 0, b"", END_STREAM | MORE)),
    ("TYP-004", E.PROTOCOL_ERROR, lambda i: response(i, 0, b"", ERROR)),
    ("TYP-004", E.PROTOCOL_ERROR, lambda i: response(i, 0, b"", ERROR | END_STREAM | META)),
    (
        "TYP-005",
        E.PROTOCOL_ERROR,
        lambda i: response(i, 0) + response(i, 1, codec.encode_response_meta([]), META),
    ),
    ("FRM-010", E.SEQUENCE_ERROR, lambda i: response(i, 1)),
    ("FRM-010", E.SEQUENCE_ERROR, lambda i: response(i, 0) + response(i, 0)),
    ("FRM-003", E.FRAME_SIZE_ERROR, lambda i: raw(RESPONSE_TYPE, rid=i, length=65_537)),
    ("PAY-002", E.PROTOCOL_ERROR, lambda i: response(i, 0, b"\x00", META)),
    (
        "PAY-005",
        E.PROTOCOL_ERROR,
        lambda i: response(i, 0, codec.encode_response_meta([(b"UP", b"")]), META),
    ),
    ("PAY-007", E.PROTOCOL_ERROR, lambda i: response(i, 0, bytes(11), ERROR | END_STREAM)),
    ("PAY-007", E.FRAME_SIZE_ERROR, lambda i: response(i, 0, bytes(4_097), ERROR | END_STREAM)),
    ("PAY-007", E.PROTOCOL_ERROR, lambda i: failure(i, 0, E.CANCELLED, 3)),
    ("RID-004", E.PROTOCOL_ERROR, lambda i: response(rid(77), 0)),  # noqa: ARG005
    ("RID-004", E.PROTOCOL_ERROR, lambda i: response(i, 0, b"", END_STREAM) + response(i, 1)),
    ("ADM-003", E.PROTOCOL_ERROR, lambda i: response(i, 0) + failure(i, 1, E.OVERLOADED, 1)),
    (
        "CLS-007",
        E.PROTOCOL_ERROR,
        lambda i: response(i, 0) + codec.encode_goaway(0, 0, 1_000, b""),
    ),
]


@pytest.mark.parametrize(("requirement", "code", "frames"), AT_WORKER)
@pytest.mark.parametrize("pieces", ["whole", "octets"])
def test_violation_at_a_worker(
    requirement: str, code: ErrorCode, frames: list[bytes], pieces: str
) -> None:
    wire = worker()
    data = b"".join(frames)
    if pieces == "octets" and len(data) < 4_096:
        for octet in data:
            wire.send(bytes([octet]))
    else:
        wire.send(*frames, PING)
    wire.assert_violation(code, requirement)
    assert codec.PONG not in [frame[0] for frame in wire.frames]
    received = len(wire.events(RequestReceived))
    goaway = wire.goaway
    assert goaway is not None
    assert goaway.last_ordinal >= received


@pytest.mark.parametrize(("requirement", "code", "build"), AT_CLIENT)
def test_violation_at_a_client(
    requirement: str, code: ErrorCode, build: Callable[[bytes], bytes]
) -> None:
    wire = client()
    request_id = wire.core.open(b"a", now=0.0, data=b"", end=False)
    wire.pull()
    wire.send(build(request_id), PING)
    wire.assert_violation(code, requirement)
    assert codec.PONG not in [frame[0] for frame in wire.frames]
    goaway = wire.goaway
    assert goaway is not None
    assert goaway.last_ordinal == 0


def test_a_goaway_quotes_no_payload() -> None:
    wire = client()
    request_id = wire.core.open(b"a", now=0.0, data=b"")
    wire.pull()
    block = codec.encode_response_meta([(b"k", b"secret\n")])
    wire.send(response(request_id, 0, block, META))
    goaway = wire.goaway
    assert goaway is not None
    assert goaway.message == b"PAY-005"
    assert wire.ended.message == "PAY-005"


def test_last_ordinal_does_not_count_the_open_that_is_the_error() -> None:
    wire = worker()
    wire.send(opening(1), opening(2, subject=b"no.such"), opening(1))
    goaway = wire.goaway
    assert goaway is not None
    assert goaway.last_ordinal == 2


@pytest.mark.parametrize(
    ("frames", "requirement"),
    [
        # Several rules are broken at once; the first in order decides.
        ([raw(HEARTBEAT_TYPE, subtype=9, length=2**40, marker=0)], "FRM-002"),
        ([raw(0x05, length=2**40)], "FRM-004"),
        ([raw(RESPONSE_TYPE, length=2**40)], "TYP-001"),
        ([raw(CONTROL_TYPE, subtype=0, length=5_000)], "FRM-003"),
        ([raw(CONTROL_TYPE, flags=1, subtype=0)], "FRM-006"),
        ([raw(CONTROL_TYPE, subtype=0, seq=1)], "FRM-004"),
        ([raw(CONTROL_TYPE, subtype=1, seq=1, rid=ID)], "FRM-007"),
        ([raw(CONTROL_TYPE, subtype=5, rid=ZERO, payload=b"")], "FRM-008"),
        ([opening(1), request(1, 9, b"x")], "STM-001"),
        ([opening(1, end=False), opening(1)[:-1]], "RID-002"),
        ([opening(1), raw(REQUEST_TYPE, rid=ID)], "TYP-003"),
        ([request(1, 0, b"", META), opening(1)], "PAY-002"),
    ],
)
def test_precedence(frames: list[bytes], requirement: str) -> None:
    wire = worker()
    if frames[-1] == opening(1)[:-1]:
        frames = [frames[0], request(1, 0, b"\x00", META)]
    wire.send(*frames)
    assert wire.ended.requirement == requirement


def test_a_second_settings_is_refused_before_it_is_read() -> None:
    wire = worker()
    wire.send(codec.encode_settings([(1, 1), (1, 1)]))
    assert wire.ended.requirement == "HSK-006"


def test_credit_comes_before_state_and_sequence() -> None:
    wire = worker(max_frame_size=1 << 18, initial_stream_window=65_536)
    wire.send(opening(1), request(1, 9, bytes(65_536)))
    assert wire.ended.requirement == "FLW-002"


def test_malformed_metadata_is_an_error_even_while_draining() -> None:
    wire = worker()
    wire.send(opening(9))
    wire.core.drain(1_000, 0.0)
    wire.send(request(1, 0, b"\x00", META))
    assert wire.ended.requirement == "PAY-002"


@pytest.mark.parametrize(
    "frame",
    [
        raw(0x8A, payload=bytes(10_000)),
        raw(0xFF, flags=0xFF, subtype=7, seq=9, rid=ONES),
        raw(CONTROL_TYPE, subtype=0x9A, rid=ID, payload=b"x"),
        raw(HEARTBEAT_TYPE, flags=0xF0, subtype=1, payload=bytes(8)),
        codec.encode_kill(rid(5), 0),
        codec.encode_stop(rid(5), 0),
        codec.encode_window_update(rid(5), 1 << 20),
        codec.encode_window_update(ZERO, 0),
        request(5, 3, b"stray"),
    ],
)
def test_what_is_ignored(frame: bytes) -> None:
    """FRM-005, RID-003, FLW-003: ignored, but counted."""
    wire = worker()
    kinds = [f[0] for f in wire.send(frame, PING)]
    assert kinds[-1] == codec.PONG
    assert wire.core.close_action is CloseAction.NONE
    assert wire.core.buffered_bytes == 0


def test_glitches_have_a_limit() -> None:
    wire = worker()
    wire.send(*[raw(0x8A)] * 100)
    assert wire.core.close_action is CloseAction.NONE
    wire.send(*[raw(0x8A)] * 10_000)
    wire.assert_violation(ErrorCode.ENHANCE_YOUR_CALM, "DOS-001")


def test_nothing_is_promised_after_the_error() -> None:
    wire = worker()
    wire.send(opening(1, b"a"), raw(0x00), opening(2, b"b"))
    assert [event.request_id for event in wire.events(RequestReceived)] == [rid(1)]
    wire.core.fail(rid(1), ErrorCode.CANCELLED)
    assert wire.stream(rid(1)) == []


# -- linger ----------------------------------------------------------------------------------------


def broken() -> Wire[WorkerConnection]:
    wire = worker()
    wire.send(raw(0x00))
    assert wire.core.close_action is CloseAction.LINGER
    return wire


def test_input_is_discarded_until_the_end_of_the_stream() -> None:
    wire = broken()
    for _ in range(10):
        wire.core.receive_data(bytes(65_536), wire.now)
    wire.core.receive_eof(wire.now)
    assert wire.core.close_action is CloseAction.CLOSE
    assert wire.ended.requirement == "FRM-004"


def test_lingering_lasts_a_second() -> None:
    wire = broken()
    assert wire.core.next_timeout() == 1.0
    wire.advance(0.99)
    assert wire.core.close_action is CloseAction.LINGER
    wire.advance(0.01)
    assert wire.core.close_action is CloseAction.CLOSE
    assert wire.core.next_timeout() is None


def test_a_goaway_that_cannot_be_written_ends_in_a_reset() -> None:
    wire = worker()
    wire.core.receive_data(raw(0x00), 0.0)
    assert wire.core.data_to_send(0.0)  # taken by the driver, never by the kernel
    wire.core.handle_timeout(1.0)
    assert wire.core.close_action is CloseAction.ABORT


def test_eof_with_a_goaway_still_queued_keeps_it() -> None:
    wire = worker()
    wire.core.receive_data(raw(0x00), 0.0)
    wire.core.receive_eof(0.0)
    assert wire.core.close_action is CloseAction.CLOSE
    wire.pull()
    assert wire.goaway is not None


# -- pieces ----------------------------------------------------------------------------------------

CONVERSATION = b"".join(
    [
        PREFACE,
        settings_frame(),
        ACK,
        opening(1, b"first", end=False, more=True),
        raw(0x8A, payload=b"grease"),
        request(1, 1, b"", MORE),
        opening(2, b"unary", headers=[(b"k", b"v")]),
        request(1, 2, b" message", 0),
        PING,
        request(1, 3, b"", END_STREAM),
    ]
)


def hear(data: bytes, cuts: list[int]) -> Wire[WorkerConnection]:
    wire = worker(shake=False)
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        if end > start:
            wire.send(data[start:end])
    return wire


WHOLE = hear(CONVERSATION, [])


def test_the_conversation_makes_sense() -> None:
    assert [e.subject for e in WHOLE.events(RequestReceived)] == [b"test.echo"] * 2
    assert [e.data for e in WHOLE.events(MessageReceived)] == [b"first message"]


def test_octet_by_octet_and_with_a_fragment_behind() -> None:
    one = hear(CONVERSATION, list(range(1, len(CONVERSATION))))
    assert one.seen == WHOLE.seen
    assert one.octets == WHOLE.octets
    trailing = hear(CONVERSATION + PING[:31], [])
    assert trailing.seen == WHOLE.seen
    assert trailing.octets == WHOLE.octets


@given(st.lists(st.integers(1, len(CONVERSATION) - 1), max_size=12))
def test_any_pieces_have_the_same_effect(cuts: list[int]) -> None:
    """FRM-011."""
    wire = hear(CONVERSATION, cuts)
    assert wire.seen == WHOLE.seen
    assert wire.octets == WHOLE.octets


@given(st.binary(max_size=300), st.booleans())
def test_garbage_never_raises(data: bytes, aligned: bool) -> None:
    for wire in (worker(), client()):
        wire.send(b"\xf7" + data if aligned else data)
        wire.advance(1.0)
        assert wire.core.close_action in (
            CloseAction.NONE,
            CloseAction.LINGER,
            CloseAction.CLOSE,
        )


FRAMES = st.builds(
    raw,
    st.sampled_from([1, 2, 3, 4, 0x8A]),
    flags=st.integers(0, 255),
    subtype=st.integers(0, 7),
    seq=st.integers(0, 3),
    rid=st.sampled_from([ZERO, rid(1), rid(2), ONES]),
    payload=st.one_of(
        st.binary(max_size=40),
        st.just(codec.encode_open(0, 0, b"test.echo", [])),
        st.just(bytes(8)),
    ),
)


@given(st.lists(FRAMES, max_size=12))
def test_near_valid_frames_never_raise(frames: list[bytes]) -> None:
    for wire in (worker(), client()):
        for frame in frames:
            wire.send(frame)
        wire.core.receive_eof(wire.now)
        wire.pull()
        assert wire.core.close_action is CloseAction.CLOSE
        assert wire.ended
