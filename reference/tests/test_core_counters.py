"""Counters of the core, against what really went over the wire, on a fake clock (OBS-004)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from core_harness import (
    ACK,
    PREFACE,
    SUBJECT,
    Link,
    client,
    config,
    failure,
    opening,
    raw,
    rid,
    settings_frame,
    worker,
)
from muxwire._generated import codec
from muxwire._generated.registries import ErrorCode
from muxwire.core import ClientConnection, Connection, WorkerConnection
from muxwire.core.counters import (
    APPLICATION,
    LOST,
    MAX_SUBJECTS,
    OK,
    OTHER,
    ROUND_TRIP_BOUNDS,
    Counters,
)
from muxwire.core.events import MessageReceived, RequestReceived, StopReceived
from muxwire.core.statistics import Statistics


def sent(core: Connection[Any]) -> tuple[list[int], list[int]]:
    """Return frames and octets sent by kind, with those of running requests."""
    frames = list(core.counters.frames_sent)
    frames[core.sends] += core.frames_sent
    return frames, core.counters.octets_sent


def received(core: Connection[Any]) -> tuple[list[int], list[int]]:
    return core.counters.frames_received, core.counters.octets_received


class Metered(Link):
    """A link that counts the octets that it carries."""

    def __init__(self, **options: Any) -> None:
        self.octets: Counter[int] = Counter()
        super().__init__(**options)

    def carry(self, source: Connection[Any], target: Connection[Any]) -> bool:
        moved = False
        while data := source.data_to_send(self.now):
            source.data_sent(len(data), self.now)
            self.octets[source.role] += len(data)
            for piece in self.chop(data):
                target.receive_data(piece, self.now)
            moved = True
        return moved

    def assert_counted(self) -> None:
        for source, target in ((self.client, self.worker), (self.worker, self.client)):
            assert sent(source) == received(target)
            assert sum(source.counters.octets_sent) == self.octets[source.role] - len(PREFACE)
            assert all(octets >= 32 * frames for frames, octets in zip(*sent(source), strict=True))


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_each_frame_is_counted_once_on_either_side(size: int) -> None:
    small = config(initial_stream_window=65_536, connection_window=1_048_576)
    link = Metered(
        client=small,
        worker=small,
        chop=lambda data: [data[at : at + size] for at in range(0, len(data), size)],
    )
    link.assert_counted()
    core, other = link.client, link.worker

    unary = core.open(SUBJECT, now=link.now, data=b"hi")
    link.run()
    (one,) = link.worker_events(RequestReceived)
    other.consumed(unary, one.cost)
    other.send_headers(unary, [(b"a", b"b")])
    other.send_message(unary, b"answer")
    other.finish(unary, [(b"c", b"d")])
    link.run()
    link.assert_counted()

    stream = core.open(SUBJECT, now=link.now, data=b"first", end=False)
    core.send_message(stream, bytes(50_000), end=True)
    link.run()
    link.assert_counted()
    for event in link.worker_events(MessageReceived):
        other.consumed(stream, event.cost)
    other.fail(stream, ErrorCode.APPLICATION_ERROR, "no")
    core.open(b"unknown", now=link.now)
    link.run()
    link.assert_counted()

    stopped = core.open(SUBJECT, now=link.now)
    core.stop(stopped)  # it goes in one batch with the OPEN
    link.run()
    assert link.worker_events(StopReceived)
    core.kill(stopped)
    link.advance(60.0)
    link.assert_counted()

    last = core.open(SUBJECT, now=link.now, data=b"")
    link.run()
    other.drain(10_000, link.now)
    link.run()
    core.goaway()
    link.run()
    link.assert_counted()
    other.finish(last)
    link.run()
    link.assert_counted()
    assert core.counters.frames_sent[codec.REQUEST] == 1 + 2 + 2 + 2 + 1
    assert core.counters.frames_sent[codec.STOP] == 1
    assert core.counters.frames_sent[codec.KILL] == 1
    assert core.counters.frames_received[codec.PONG] >= 1
    assert other.counters.goaways_sent == {0: 1} == core.counters.goaways_received
    assert core.counters.goaways_sent == {0: 1} == other.counters.goaways_received
    assert other.counters.requests == {
        (SUBJECT, OK): 2,
        (SUBJECT, int(ErrorCode.APPLICATION_ERROR)): 1,
        (SUBJECT, int(ErrorCode.CANCELLED)): 1,
        (b"", int(ErrorCode.NOT_FOUND)): 1,
    }


def test_a_lost_connection_keeps_what_was_counted() -> None:
    wire = worker()
    wire.send(opening(1))
    wire.core.send_message(rid(1), b"one")
    wire.core.send_message(rid(1), b"two")
    wire.pull()
    assert (wire.core.frames_sent, wire.core.open_subjects()) == (2, [SUBJECT])
    wire.core.receive_eof(wire.now)
    assert (wire.core.frames_sent, wire.core.open_subjects()) == (0, [])
    assert wire.core.counters.frames_sent[codec.RESPONSE] == 2
    assert wire.core.counters.requests == {(SUBJECT, LOST): 1}


def test_frames_before_a_violation_are_counted() -> None:
    wire = worker()
    wire.send(opening(1), opening(2), raw(9))
    assert wire.core.counters.frames_received[codec.REQUEST] == 2
    assert wire.core.counters.goaways_sent == {int(ErrorCode.UNSUPPORTED_FRAME): 1}


# -- windows ---------------------------------------------------------------------------------------


def test_the_time_that_a_stream_is_blocked_by_its_window() -> None:
    wire = worker(peer={"initial_stream_window": 65_536})
    for number in (1, 2):
        wire.send(opening(number))
        wire.core.send_message(rid(number), bytes(100_000))
    wire.pull()
    wire.advance(2.0)
    wire.send(codec.encode_ping(bytes(8)))
    assert wire.core.blocked_seconds == (4.0, 0.0)  # both, and the connection is not
    wire.send(codec.encode_window_update(rid(1), 1 << 20))
    assert wire.core.counters.stream_blocked == 2.0
    assert wire.core.blocked_seconds == (2.0, 0.0)
    wire.advance(1.0)
    wire.send(codec.encode_window_update(rid(1), 1 << 21))  # of no use: it was not blocked
    assert wire.core.counters.stream_blocked == 2.0
    wire.send(codec.encode_kill(rid(2), 0x100))
    wire.core.fail(rid(2), 0x100)
    wire.pull()
    assert wire.core.counters.stream_blocked == 5.0
    assert wire.core.blocked_seconds == (0.0, 0.0)


def test_the_time_that_the_connection_is_blocked_by_its_window() -> None:
    wire = worker(peer={"initial_stream_window": 1 << 23, "connection_window": 1 << 20})
    for number in (1, 2):
        wire.send(opening(number))
        wire.core.send_message(rid(number), bytes(1 << 20))
    wire.pull()
    wire.advance(3.0)
    wire.send(codec.encode_ping(bytes(8)))
    assert wire.core.blocked_seconds == (0.0, 3.0)
    wire.send(codec.encode_window_update(bytes(16), 1 << 24))
    assert wire.core.counters.connection_blocked == 3.0
    assert wire.core.blocked_seconds == (0.0, 0.0)
    assert wire.core.counters.stream_blocked == 0.0


@pytest.mark.parametrize("how", ["eof", "violation"])
def test_the_end_of_the_connection_ends_the_blocking(how: str) -> None:
    wire = worker(peer={"initial_stream_window": 65_536, "connection_window": 1 << 20})
    for number in range(1, 40):
        wire.send(opening(number))
        wire.core.send_message(rid(number), bytes(70_000))
    wire.pull()
    wire.advance(1.0)
    if how == "eof":
        wire.core.receive_eof(wire.now)
    else:
        wire.send(raw(9))
    assert wire.core.counters.connection_blocked == 1.0
    assert wire.core.counters.stream_blocked == (1 << 20) // 65_536
    assert wire.core.blocked_seconds == (0.0, 0.0)


def test_a_client_that_kills_is_not_blocked_any_more() -> None:
    wire = client(peer={"initial_stream_window": 65_536})
    request_id = wire.core.open(SUBJECT, now=0.0, data=bytes(100_000))
    wire.pull()
    wire.advance(1.0)
    wire.core.receive_data(codec.encode_ping(bytes(8)), wire.now)
    wire.core.kill(request_id)
    wire.pull()
    wire.advance(1.0)
    wire.send(failure(request_id, 0, ErrorCode.CANCELLED))
    assert wire.core.counters.stream_blocked == 1.0


# -- single events ---------------------------------------------------------------------------------


def test_round_trips_fall_into_ranges() -> None:
    wire = worker(peer={"idle_timeout_ms": 1_000})
    expected = [0] * (len(ROUND_TRIP_BOUNDS) + 1)
    total = 0.0
    for delay in (0.0625, 0.125, 0.25, 0.375):
        while not (pings := [f for f in wire.advance(0.0625) if f[0] == codec.PING]):
            pass
        sent_at = wire.now
        wire.now += delay
        wire.send(codec.encode_pong(pings[-1][4]))
        total += wire.core.round_trip or 0.0
        assert wire.core.round_trip == pytest.approx(wire.now - sent_at, abs=0.0625)
    counters = wire.core.counters
    assert sum(counters.round_trips) == 4
    assert counters.round_trip_sum == pytest.approx(total)
    assert len(counters.round_trips) == len(expected)
    counters.round_trip(0.001)  # a bound belongs to the range below it
    counters.round_trip(60.0)
    assert counters.round_trips[1] == 1
    assert counters.round_trips[-1] == 1


def test_glitches_are_counted() -> None:
    wire = worker()
    wire.send(codec.encode_pong(bytes(8)), codec.encode_window_update(bytes(16), 1))
    assert wire.core.counters.glitches == 2


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (b"GET / HT", "not_wmx"),
        (codec.encode_preface(9, 9), "version"),
        (PREFACE + ACK, "protocol"),
        (PREFACE + settings_frame(), "timeout"),
        (b"", "timeout"),
    ],
)
def test_failed_handshakes_are_counted_by_reason(octets: bytes, reason: str) -> None:
    wire = worker(shake=False)
    if octets:
        wire.send(octets)
    wire.advance(60.0)
    assert {name: n for name, n in wire.core.counters.failures.items() if n} == {reason: 1}
    assert wire.core.counters.accepted == 0


def test_ends_before_the_handshake_are_counted_too() -> None:
    full = worker(shake=False, admit=lambda: False)
    full.send(PREFACE)
    gone = worker(shake=False)
    gone.core.receive_eof(0.0)
    pushed = worker(shake=False)
    pushed.core.drain(0, 0.0)
    no_tls = worker(shake=False)
    no_tls.core.receive_eof(0.0, requirement="SEC-001", message="TLS: no")
    refused = client(shake=False)
    refused.send(PREFACE, codec.encode_goaway(ErrorCode.CONNECTION_LIMIT, 0, 0, b""))
    refused.core.receive_eof(0.0)
    for wire, reason in (
        (full, "limit"),
        (gone, "closed_by_peer"),
        (pushed, "abandoned"),
        (no_tls, "tls"),
        (refused, "limit"),
    ):
        assert {name: n for name, n in wire.core.counters.failures.items() if n} == {reason: 1}
    no_tls.pull()
    assert (no_tls.ended.requirement, no_tls.ended.by_peer) == ("SEC-001", False)


def test_a_connection_that_was_set_up_is_no_failure() -> None:
    wire = worker()
    wire.core.receive_eof(0.0)
    assert wire.core.counters.accepted == 1
    assert not any(wire.core.counters.failures.values())


# -- bounds ----------------------------------------------------------------------------------------


def test_no_code_of_the_peer_becomes_a_key() -> None:
    counters = Counters()
    for code in range(0x2000, 0x2400):
        core = ClientConnection(config(), 0.0, bytes, counters)
        core.receive_data(PREFACE + codec.encode_goaway(code, 0, 0, b""), 0.0)
        counters.request_ended(b"", code)
        counters.request_ended(b"", 0x8000_0000 + code)
    assert counters.goaways_received == {OTHER: 0x400}
    assert counters.requests == {(b"", OTHER): 0x400, (b"", APPLICATION): 0x400}


def test_no_unknown_subject_becomes_a_key() -> None:
    wire = worker(statistics=Statistics(limit=1))
    wire.send(opening(1), opening(2))  # the second: OVERLOADED
    for number in range(3, 40):
        wire.send(opening(number, subject=b"made.up.%d" % number))
    assert wire.core.counters.requests == {
        (SUBJECT, int(ErrorCode.OVERLOADED)): 1,
        (b"", int(ErrorCode.NOT_FOUND)): 37,
    }


def test_codes_of_handlers_are_bounded() -> None:
    wire = worker()
    for number in range(1, 50):
        wire.send(opening(number))
        wire.core.fail(rid(number), 0x9000_0000 + number)
        wire.pull()
    assert wire.core.counters.requests == {(SUBJECT, APPLICATION): 49}


def test_a_client_tells_so_many_subjects_apart_and_no_more() -> None:
    counters = Counters()
    assert counters.known(b"a") == b""
    for number in range(2 * MAX_SUBJECTS):
        counters.learn(b"%d" % number)
    assert counters.known(b"0") == b"0"
    assert counters.known(b"%d" % (MAX_SUBJECTS - 1)) != b""
    assert counters.known(b"%d" % MAX_SUBJECTS) == b""


def test_connections_may_share_their_counters() -> None:
    counters = Counters()
    for _ in range(3):
        core = WorkerConnection(config(), 0.0, bytes, subjects={SUBJECT}, counters=counters)
        core.receive_data(PREFACE + settings_frame() + ACK + opening(1), 0.0)
        core.finish(rid(1))
        core.data_to_send(0.0)
    assert counters.accepted == 3
    assert counters.requests == {(SUBJECT, OK): 3}
    assert counters.frames_sent[codec.RESPONSE] == 3


def test_a_success_that_was_decided_can_still_become_an_error() -> None:
    wire = worker(peer={"initial_stream_window": 65_536})
    wire.send(opening(1, timeout_ms=1_000))
    wire.core.send_message(rid(1), bytes(100_000))
    wire.core.finish(rid(1))
    wire.advance(2.0)
    assert wire.core.counters.requests == {(SUBJECT, int(ErrorCode.DEADLINE_EXCEEDED)): 1}
