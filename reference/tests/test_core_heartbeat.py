from __future__ import annotations

import pytest
from core_harness import ACK, HEARTBEAT_TYPE, PREFACE, client, opening, raw, settings_frame, worker
from muxwire._generated import codec
from muxwire._generated.registries import ErrorCode
from muxwire.core import CancelReason, CloseAction, HandlerCancelled
from muxwire.core.heartbeat import Heartbeat

FAR = {"idle_timeout_ms": 600_000}


def pings(frames: list[codec.Frame]) -> list[bytes]:
    return [frame[4] for frame in frames if frame[0] == codec.PING]


@pytest.mark.parametrize("idle", [100, 400, 3_000, 60_000])
def test_something_is_sent_every_half_of_the_peer_s_timeout(idle: int) -> None:
    wire = worker(idle_timeout_ms=600_000, peer={"idle_timeout_ms": idle})
    last = wire.now
    for _ in range(20):
        due = wire.core.next_timeout()
        assert due is not None
        assert due - last <= idle / 2_000
        wire.now = last = due
        wire.core.handle_timeout(due)
        assert len(pings(wire.pull())) == 1


def test_a_busy_side_sends_no_ping() -> None:
    wire = worker(idle_timeout_ms=600_000, peer={"idle_timeout_ms": 1_000})
    wire.send(opening(1))
    for _ in range(50):
        wire.core.send_message((1).to_bytes(16, "big"), b"t")
        wire.pull()
        assert pings(wire.advance(0.3)) == []


def test_pings_go_on_without_pongs() -> None:
    """HBT-005; more than 8 are allowed when silence would be the alternative (HBT-007)."""
    wire = client(idle_timeout_ms=600_000, peer={"idle_timeout_ms": 400})
    assert len(pings(wire.advance(5.0))) >= 20
    assert wire.core.close_action is CloseAction.NONE


def test_a_ping_is_answered_with_its_octets() -> None:
    wire = worker()
    frames = wire.send(codec.encode_ping(b"01234567"), codec.encode_ping(b"abcdefgh"))
    assert [(f[0], f[4]) for f in frames] == [
        (codec.PONG, b"01234567"),
        (codec.PONG, b"abcdefgh"),
    ]


def test_silence_ends_the_connection_and_not_before() -> None:
    wire = worker(idle_timeout_ms=3_000, peer=FAR)
    wire.send(opening(1))
    wire.advance(2.999)
    assert wire.core.close_action is CloseAction.NONE
    wire.advance(0.001)
    assert wire.one(HandlerCancelled).reason is CancelReason.CONNECTION_LOST
    wire.assert_violation(ErrorCode.HEARTBEAT_TIMEOUT, "HBT-003")


def test_silence_counts_from_the_ack() -> None:
    wire = worker(shake=False, idle_timeout_ms=500, handshake_timeout=5.0)
    wire.send(PREFACE, settings_frame(**FAR))
    wire.advance(4.0)
    assert wire.core.close_action is CloseAction.NONE
    wire.send(ACK)
    wire.advance(0.499)
    assert wire.core.close_action is CloseAction.NONE
    wire.advance(0.001)
    assert wire.ended.requirement == "HBT-003"


def test_any_octet_counts_the_middle_of_a_frame_included() -> None:
    wire = worker(idle_timeout_ms=1_000, peer=FAR)
    wire.advance(0.65)
    wire.send(opening(1, b"x" * 100)[:50])
    wire.advance(0.65)
    wire.send(opening(1, b"x" * 100)[50:])
    wire.advance(0.65)
    assert wire.core.close_action is CloseAction.NONE


def test_a_frame_has_to_end() -> None:
    wire = worker(idle_timeout_ms=1_000, peer=FAR)
    frame = opening(1, b"x" * 100)
    for octet in frame[:10]:
        wire.send(bytes([octet]))
        wire.advance(0.0999)
    assert wire.core.close_action is CloseAction.NONE
    wire.advance(0.01)
    wire.assert_violation(ErrorCode.HEARTBEAT_TIMEOUT, "FRM-013")


def test_a_complete_frame_restarts_the_clock_of_the_next() -> None:
    wire = worker(idle_timeout_ms=1_000, peer=FAR)
    ping = codec.encode_ping(bytes(8))
    wire.send(ping[:4])
    for _ in range(5):
        wire.advance(0.6)
        wire.send(ping[4:] + ping[:4])
    assert wire.core.close_action is CloseAction.NONE


def test_a_peer_that_does_not_read_is_reset() -> None:
    wire = worker(idle_timeout_ms=1_000, peer=FAR)
    wire.send(opening(1))
    wire.core.send_message((1).to_bytes(16, "big"), bytes(1000))
    assert wire.core.data_to_send(wire.now)  # and the kernel takes nothing of it
    for _ in range(3):
        wire.now += 0.33
        wire.core.receive_data(codec.encode_ping(bytes(8)), wire.now)
        wire.core.handle_timeout(wire.now)
        assert wire.core.close_action is CloseAction.NONE
    wire.now += 0.33
    wire.core.receive_data(codec.encode_ping(bytes(8)), wire.now)
    wire.core.handle_timeout(wire.now)
    wire.pull()
    assert wire.core.close_action is CloseAction.ABORT
    assert wire.ended.requirement == "HBT-006"
    assert wire.goaway is None
    assert wire.core.next_timeout() is None


def test_a_slow_reader_is_not_a_stalled_one() -> None:
    wire = worker(idle_timeout_ms=1_000, peer=FAR)
    wire.send(opening(1))
    wire.core.send_message((1).to_bytes(16, "big"), bytes(1000))
    left = len(wire.core.data_to_send(wire.now))
    while left > 100:
        wire.now += 0.9
        wire.core.receive_data(codec.encode_ping(bytes(8)), wire.now)
        wire.core.data_sent(100, wire.now)
        left -= 100
        wire.core.handle_timeout(wire.now)
        assert wire.core.close_action is CloseAction.NONE


def test_a_pong_answers_its_ping_and_every_earlier_one() -> None:
    heart = Heartbeat(60.0, 0.0)
    first, second, third = (heart.next_ping(float(n)) for n in range(3))
    assert heart.unanswered == 3
    assert heart.pong(second, 5.0)
    assert heart.unanswered == 1
    assert not heart.pong(first, 5.0)
    assert not heart.pong(b"\xff" * 8, 5.0)
    assert heart.pong(third, 5.0)
    assert heart.round_trip == 3.0


def test_a_pong_that_answers_nothing_is_a_glitch() -> None:
    wire = worker()
    wire.send(*[codec.encode_pong(bytes(8))] * 100)
    assert wire.core.close_action is CloseAction.NONE
    wire.send(*[codec.encode_pong(bytes(8))] * 10_000)
    wire.assert_violation(ErrorCode.ENHANCE_YOUR_CALM, "DOS-001")


def test_a_flood_of_pings_is_refused() -> None:
    wire = worker()
    wire.send(*[codec.encode_ping(bytes(8))] * 50)
    assert wire.core.close_action is CloseAction.NONE
    wire.send(*[codec.encode_ping(bytes(8))] * 5_000)
    wire.assert_violation(ErrorCode.ENHANCE_YOUR_CALM, "DOS-001")


def test_unknown_heartbeat_subtypes_are_refused() -> None:
    wire = client()
    wire.send(raw(HEARTBEAT_TYPE, subtype=3, payload=bytes(8)))
    wire.assert_violation(ErrorCode.PROTOCOL_ERROR, "FRM-004")


def test_the_round_trip_is_known() -> None:
    wire = worker(idle_timeout_ms=600_000, peer={"idle_timeout_ms": 1_000})
    (opaque,) = pings(wire.advance(0.45))
    wire.send(codec.encode_pong(opaque))
    assert wire.core.round_trip == pytest.approx(0.05)


def test_no_ping_is_due_while_octets_wait_to_be_written() -> None:
    """A driver that cannot write is not asked for one PING after the other."""
    heartbeat = Heartbeat(60.0, 0.0)
    heartbeat.peer_tolerates(1.0, 0.0)
    heartbeat.handed(100, 0.0)
    assert not heartbeat.ping_due(5.0)
    assert heartbeat.next_timeout() == 60.0  # HBT-006
    heartbeat.written(100, 5.0)
    assert heartbeat.next_timeout() < 5.5
    assert heartbeat.ping_due(5.5)
