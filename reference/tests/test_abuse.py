"""Hostile peers: each attack that is known from the field costs its sender more than its victim.

Every test shows the same three things: the handlers stay within their limit, memory stays bounded,
and the connection either ends with the right code or lives on and serves.  Time is a number; the
attacks that aim at memory come once more over sockets, in `test_abuse_sockets`.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from core_harness import (
    ACK,
    PREFACE,
    REQUEST_TYPE,
    Wire,
    client,
    opening,
    raw,
    request,
    response,
    rid,
    settings_frame,
    worker,
)
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, MORE, ErrorCode
from muxwire.core import CloseAction, HandlerCancelled, MessageReceived, WorkerConnection

PING = codec.encode_ping(b"01234567")
LIMIT = 100
"""MAX_CONCURRENT_REQUESTS, the least that is allowed."""
PATIENT = {"idle_timeout_ms": 600_000}
MIB = 1 << 20


@contextmanager
def memory(most: int) -> Iterator[None]:
    """Fail if what is done inside takes more memory at any time than so many octets."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def forget(wire: Wire[WorkerConnection]) -> None:
    """Drop what the harness has written down, which is not the core's memory."""
    wire.frames.clear()
    wire.seen.clear()
    wire.octets = b""


def serves(wire: Wire[WorkerConnection], number: int = 1 << 40) -> bool:
    """Whether the connection lives and a further request is answered well."""
    wire.send(opening(number))
    wire.core.finish(rid(number))
    wire.pull()
    return wire.terminal(rid(number)) is None and wire.core.close_action is CloseAction.NONE


def idle(wire: Wire[WorkerConnection]) -> bool:
    """Whether nothing is left of all requests."""
    core = wire.core
    return core.open_requests == core.buffered_bytes == core.statistics.active == 0


# -- rapid reset: open, kill, open, kill -----------------------------------------------------------


def test_rapid_reset_with_handlers_that_end() -> None:
    """CAN-006, DOS-003: it costs no place, no memory and no connection."""
    wire = worker(max_concurrent_requests=LIMIT)

    def attack(begin: int) -> None:
        for number in range(begin, begin + 2_000):
            wire.send(opening(number), codec.encode_kill(rid(number), 0))
            wire.core.fail(rid(number), ErrorCode.CANCELLED)
            wire.pull()
            forget(wire)

    attack(1)  # the tombstones are full now
    with memory(64_000):
        attack(10_000)
    assert wire.core.statistics.peak == 1
    assert idle(wire)
    assert serves(wire)


def test_rapid_reset_with_handlers_that_do_not_end() -> None:
    """CAN-004: a place is free when its handler has ended, and not before."""
    wire = worker(max_concurrent_requests=LIMIT, peer=PATIENT, **PATIENT)
    for number in range(1, 1_001):
        wire.send(opening(number), codec.encode_kill(rid(number), 0))
    wire.advance(1.0)
    terminals = [wire.terminal(rid(number)) for number in range(1, 1_001)]
    codes = [body.code for body in terminals if body is not None]
    assert codes == [ErrorCode.CANCELLED] * LIMIT + [ErrorCode.OVERLOADED] * 900
    assert wire.core.statistics.active == wire.core.statistics.peak == LIMIT
    for number in range(1, LIMIT + 1):
        wire.core.fail(rid(number), ErrorCode.CANCELLED)
    assert idle(wire)
    assert serves(wire)


def test_a_client_that_opens_beyond_the_limit_for_ever_is_sent_away() -> None:
    """DOS-001: refusals are free only while they may be an accident."""
    wire = worker(max_concurrent_requests=LIMIT)
    wire.send(*[opening(number) for number in range(1, LIMIT + 1)])
    number = 1_000
    while wire.core.close_action is CloseAction.NONE:
        number += 1
        assert number < 100_000
        wire.send(opening(number))
        wire.frames = wire.frames[-3:]
    wire.assert_violation(ErrorCode.ENHANCE_YOUR_CALM, "DOS-001")
    assert wire.core.statistics.peak == LIMIT


# -- made you reset: let the worker be the one that ends the request -------------------------------


def too_large(wire: Wire[WorkerConnection], number: int) -> None:
    wire.core.awaiting(rid(number))
    for seq in range(1, 20):
        wire.send(request(number, seq, bytes(60_000), MORE))


def too_late(wire: Wire[WorkerConnection], number: int) -> None:
    del number
    wire.advance(0.001)


@pytest.mark.parametrize(
    ("provoke", "code"),
    [(too_large, ErrorCode.MESSAGE_TOO_LARGE), (too_late, ErrorCode.DEADLINE_EXCEEDED)],
)
def test_made_you_reset(
    provoke: Callable[[Wire[WorkerConnection], int], None], code: ErrorCode
) -> None:
    """DOS-003: a request that the worker ends keeps its place until its handler has ended."""
    wire = worker(
        max_concurrent_requests=LIMIT, max_message_size=MIB, max_frame_size=MIB, peer=PATIENT
    )
    for number in range(1, LIMIT + 1):
        wire.send(opening(number, end=False, timeout_ms=1 if provoke is too_late else 0))
        provoke(wire, number)
        body = wire.terminal(rid(number))
        assert body is not None
        assert body.code == code
    assert len(wire.events(HandlerCancelled)) == LIMIT
    wire.send(opening(5_000))
    refusal = wire.terminal(rid(5_000))
    assert refusal is not None
    assert refusal.code == ErrorCode.OVERLOADED
    assert wire.core.statistics.active == wire.core.statistics.peak == LIMIT
    assert wire.core.buffered_bytes == 0
    for number in range(1, LIMIT + 1):
        wire.core.fail(rid(number), ErrorCode.CANCELLED)
    assert idle(wire)
    assert serves(wire)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (request(1, 1, b"", END_STREAM), ErrorCode.STREAM_STATE_ERROR),
        (opening(1), ErrorCode.DUPLICATE_REQUEST),
        (codec.encode_window_update(rid(1), 2**63), ErrorCode.FLOW_CONTROL_ERROR),
        (request(1, 1, b"", END_STREAM | MORE), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_a_fault_on_a_stream_never_ends_the_stream_alone(frame: bytes, code: ErrorCode) -> None:
    """CLS-001: a client that breaks a rule loses the connection, and cannot try the next stream."""
    wire = worker()
    wire.send(opening(1), frame, opening(2))
    assert wire.goaway is not None
    assert wire.goaway.code == code
    assert wire.stream(rid(1)) == []
    assert len(wire.events(HandlerCancelled)) == 1
    assert wire.core.statistics.opened == 1


# -- floods ----------------------------------------------------------------------------------------


def test_ping_flood() -> None:
    """DOS-001, and DOS-002 where the answers are not read."""
    wire = worker()
    with memory(2 * MIB):
        for _ in range(1_000):
            wire.core.receive_data(PING, 0.0)
            assert wire.core.buffered_bytes < MIB
    wire.pull()
    wire.assert_violation(ErrorCode.ENHANCE_YOUR_CALM, "DOS-001")


def test_pings_at_the_rate_that_is_tolerated() -> None:
    """DOS-001: for an hour, ten in a second; nothing is punished and nothing grows."""
    wire = worker()
    for _ in range(100):
        wire.send(*[PING] * 50)
        wire.frames.clear()
        wire.now += 5.0
    assert serves(wire)


def test_settings_flood() -> None:
    """HSK-006: there is no second one; PAY-001: and the first has an end."""
    wire = worker()
    wire.send(*[settings_frame()] * 1_000)
    wire.assert_violation(ErrorCode.PROTOCOL_ERROR, "HSK-006")
    wire = worker()
    wire.send(*[ACK] * 1_000)
    wire.assert_violation(ErrorCode.PROTOCOL_ERROR, "HSK-007")
    wire = worker(shake=False)
    wire.send(PREFACE, codec.encode_settings([(0x1000 + n, n) for n in range(65)]))
    wire.assert_violation(ErrorCode.FRAME_SIZE_ERROR, "PAY-001")
    wire = worker(shake=False)
    wire.send(PREFACE, codec.encode_settings([(0x1000 + n, n) for n in range(64)]), ACK)
    assert serves(wire)


@pytest.mark.parametrize(
    "frame",
    [
        raw(0x8A),
        codec.encode_pong(bytes(8)),
        codec.encode_kill(rid(9), 0),
        codec.encode_stop(rid(9), 0),
        request(9, 1),
        codec.encode_window_update(bytes(16), 0),
    ],
)
def test_a_flood_of_frames_without_effect(frame: bytes) -> None:
    """DOS-001: such frames are glitches, and 10,000 in a second are too many."""
    wire = worker()
    wire.send(*[frame] * 100)
    assert wire.core.close_action is CloseAction.NONE
    for _ in range(100):
        wire.core.receive_data(frame * 100, 1.0)
    wire.pull()
    wire.assert_violation(ErrorCode.ENHANCE_YOUR_CALM, "DOS-001")


# -- empty frames: much work for few octets --------------------------------------------------------


def test_empty_chunks_of_a_message_that_nobody_awaits() -> None:
    """FLW-002: each costs its header, so that the window bounds their number."""
    wire = worker(initial_stream_window=65_536)
    wire.send(opening(1, end=False, more=True))
    chunks = 0
    while wire.core.close_action is CloseAction.NONE:
        chunks += 1
        wire.send(request(1, chunks, b"", MORE))
    assert chunks <= 65_536 // 32
    wire.assert_violation(ErrorCode.FLOW_CONTROL_ERROR, "FLW-002")


def test_empty_chunks_of_a_message_that_is_awaited() -> None:
    """MSG-001: any number is legal, and memory follows the octets and not the chunks."""
    wire = worker()
    wire.send(opening(1, end=False, more=True))
    wire.core.awaiting(rid(1))
    with memory(64_000):
        for seq in range(1, 20_001):
            wire.send(request(1, seq, b"", MORE))
            forget(wire)
    assert wire.core.buffered_bytes < 100
    wire.send(request(1, 20_001, b"end", END_STREAM))
    assert wire.one(MessageReceived).data == b"end"


def test_empty_messages_that_nobody_reads() -> None:
    """FLW-002: an empty message costs as much as its header."""
    wire = worker(initial_stream_window=65_536)
    wire.send(opening(1, end=False))
    for seq in range(1, 3_000):
        wire.send(request(1, seq))
    assert len(wire.events(MessageReceived)) <= 65_536 // 32
    wire.assert_violation(ErrorCode.FLOW_CONTROL_ERROR, "FLW-002")


def test_empty_responses_at_a_client() -> None:
    """FLW-002, DOS-002: a hostile worker is bounded in the same way."""
    wire = client(initial_stream_window=65_536)
    request_id = wire.core.open(b"a", now=0.0, data=b"")
    wire.pull()
    for seq in range(3_000):
        wire.send(response(request_id, seq))
    assert len(wire.events(MessageReceived)) <= 65_536 // 32
    wire.assert_violation(ErrorCode.FLOW_CONTROL_ERROR, "FLW-002")


# -- dribble: hold a connection with as few octets as possible -------------------------------------


def test_dribble() -> None:
    """HSK-008, FRM-013: neither a handshake nor a frame lasts longer than its time."""
    wire = worker(shake=False, handshake_timeout=2.0)
    for octet in PREFACE[:15]:
        if wire.core.close_action:
            break
        wire.send(bytes([octet]))
        wire.advance(0.2)
    assert (wire.octets, wire.core.close_action) == (b"", CloseAction.CLOSE)

    wire = worker(idle_timeout_ms=1_000, peer=PATIENT)
    sent = 0
    for octet in opening(1, bytes(60_000), end=False):
        if wire.core.close_action:
            break
        wire.send(bytes([octet]))
        wire.advance(0.05)
        sent += 1
    assert sent <= 21
    wire.assert_violation(ErrorCode.HEARTBEAT_TIMEOUT, "FRM-013")
    assert wire.core.statistics.opened == 0


# -- slow reading ----------------------------------------------------------------------------------


def test_a_client_that_grants_no_credit() -> None:
    """FLW-010, FLW-013: output is bounded, the handler is suspended, and in time it is ended."""
    wire = worker(peer={"initial_stream_window": 65_536} | PATIENT, slow_consumer=5.0, **PATIENT)
    core = wire.core
    for number in range(1, 51):
        wire.send(opening(number))
        for _ in range(2):  # until the buffer is full, and again when the window is
            while core.send_message(rid(number), bytes(1_000)):
                pass
            wire.pull()
        forget(wire)
    assert core.buffered_bytes <= 50 * (core.config.send_buffer + 1_032)
    wire.advance(5.0)
    assert len(wire.events(HandlerCancelled)) == 50
    assert core.buffered_bytes == 0
    assert core.close_action is CloseAction.NONE


def test_a_client_that_grants_credit_and_reads_nothing() -> None:
    """HBT-006: a peer that keeps sending does not keep the connection while it reads nothing."""
    wire = worker(idle_timeout_ms=1_000, peer=PATIENT | {"initial_stream_window": 1 << 30})
    core = wire.core
    wire.send(opening(1))
    core.send_message(rid(1), bytes(8 * MIB))
    assert core.data_to_send(0.0)  # the kernel takes nothing of it
    while core.close_action is CloseAction.NONE:
        wire.now += 0.3
        assert wire.now < 2.0
        core.receive_data(PING + codec.encode_window_update(rid(1), 1 << 40), wire.now)
        core.handle_timeout(wire.now)
    wire.pull()
    assert core.close_action is CloseAction.ABORT
    assert wire.ended.requirement == "HBT-006"
    assert core.buffered_bytes == 0


# -- window games ----------------------------------------------------------------------------------


def test_windows_that_open_by_one_unit() -> None:
    """FLW-001, DOS-002: each update is worth a frame at most, and never an endless one."""
    wire = worker(peer={"initial_stream_window": 65_536} | PATIENT, **PATIENT)
    wire.send(opening(1))
    wire.core.send_message(rid(1), bytes(200_000))
    wire.pull()
    before = len(wire.frames)
    limit = 65_536
    for _ in range(10_000):
        limit += 1
        wire.send(codec.encode_window_update(rid(1), limit))
    new = [frame for frame in wire.frames[before:] if frame[0] == codec.RESPONSE]
    assert len(new) <= 10_000 // 33
    assert sum(32 + len(frame[4]) for frame in wire.stream(rid(1))) <= limit
    assert wire.core.close_action is CloseAction.NONE


@pytest.mark.parametrize("of", [bytes(16), rid(1)])
def test_windows_that_do_not_open(of: bytes) -> None:
    """FLW-003, DOS-001: an update that raises nothing is a glitch."""
    wire = worker()
    wire.send(opening(1))
    wire.send(*[codec.encode_window_update(of, 5)] * 10_000)
    wire.assert_violation(ErrorCode.ENHANCE_YOUR_CALM, "DOS-001")


def test_windows_as_wide_as_they_get() -> None:
    """FLW-010: the client's window is no promise of the worker's memory."""
    wire = worker(peer={"initial_stream_window": (1 << 31) - 1})
    wire.send(opening(1), codec.encode_window_update(rid(1), 2**63 - 1))
    core = wire.core
    taken = 0
    while core.send_message(rid(1), bytes(10_000)):  # nothing is read
        taken += 1
    assert taken <= core.config.send_buffer // 10_000 + 1
    assert core.buffered_bytes <= core.config.send_buffer + 10_032


def test_stalled_streams_hold_no_more_than_their_windows() -> None:
    """FLW-009: and others are served all the same."""
    wire = worker(
        max_concurrent_requests=LIMIT + 1, connection_window=MIB, initial_stream_window=65_536
    )
    for number in range(1, LIMIT + 1):
        wire.send(opening(number, end=False), request(number, 1, bytes(60_000)))
    assert wire.core.buffered_bytes <= LIMIT * 65_536
    assert serves(wire)


# -- huge declared lengths -------------------------------------------------------------------------


@pytest.mark.parametrize("length", [MIB + 1, 1 << 32, 2**64 - 1])
def test_a_length_above_the_limit_is_refused_from_the_header(length: int) -> None:
    """FRM-003."""
    wire = worker(max_frame_size=MIB)
    with memory(64_000):
        wire.send(raw(REQUEST_TYPE, flags=4, rid=rid(1), length=length))
    wire.assert_violation(ErrorCode.FRAME_SIZE_ERROR, "FRM-003")


def test_a_length_below_the_limit_reserves_nothing() -> None:
    """FRM-003: buffers grow with what arrives."""
    wire = worker(max_frame_size=1 << 24, initial_stream_window=1 << 26)
    with memory(64_000):
        wire.send(raw(REQUEST_TYPE, flags=4, rid=rid(1), length=1 << 24))
        wire.send(bytes(1_000))
    assert wire.core.close_action is CloseAction.NONE


def test_lengths_inside_a_payload_reserve_nothing() -> None:
    """PAY-002, PAY-001."""
    wire = worker()
    with memory(64_000):
        wire.send(request(1, 0, b"\xff\xff\xff\xff", 4))
    wire.assert_violation(ErrorCode.PROTOCOL_ERROR, "PAY-002")
    wire = worker()
    with memory(64_000):
        wire.send(raw(3, subtype=6, payload=bytes(16) + b"\xff\xff"))
    wire.assert_violation(ErrorCode.FRAME_SIZE_ERROR, "PAY-001")
