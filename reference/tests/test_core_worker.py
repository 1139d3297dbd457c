from __future__ import annotations

import pytest
from core_harness import (
    PREFACE,
    SUBJECT,
    Wire,
    opening,
    raw,
    request,
    rid,
    settings_frame,
    worker,
)
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ERROR, META, MORE, ErrorCode
from muxwire.core import (
    CancelReason,
    CloseAction,
    ConnectionEnded,
    GoawayReceived,
    HandlerCancelled,
    MessageReceived,
    RequestReceived,
    StopReceived,
    WorkerConnection,
    Writable,
)
from muxwire.core.statistics import Statistics
from muxwire.errors import InvalidArgument, LocalProtocolError, MessageTooLarge, RequestClosed

PING = codec.encode_ping(bytes(8))
SMALL = {"initial_stream_window": 65_536, "connection_window": 1 << 20}


def code_of(wire: Wire[WorkerConnection], number: int) -> tuple[ErrorCode, int]:
    body = wire.terminal(rid(number))
    assert body is not None
    return ErrorCode(body.code), body.error_flags


def fill(wire: Wire[WorkerConnection], number: int, size: int = 1_000) -> int:
    """Send messages until the stream's buffer is full; return how many were taken."""
    count = 0
    while wire.core.send_message(rid(number), bytes(size)):
        count += 1
        wire.pull()
    return count


# -- answers ---------------------------------------------------------------------------------------


def test_a_unary_answer_is_one_frame() -> None:
    wire = worker()
    wire.send(opening(1, b"hi"))
    event = wire.one(RequestReceived)
    assert (event.subject, event.data, event.ordinal, event.ended) == (SUBJECT, b"hi", 1, True)
    wire.core.send_message(rid(1), b"hello")
    wire.core.finish(rid(1))
    wire.pull()
    assert [f[1:] for f in wire.stream(rid(1))] == [(END_STREAM, 0, rid(1), b"hello")]
    assert wire.core.open_requests == 0


def test_headers_messages_and_trailers() -> None:
    wire = worker()
    wire.send(opening(1))
    core = wire.core
    core.send_headers(rid(1), [(b"content-type", b"text/plain")])
    core.send_message(rid(1), b"a")
    core.finish(rid(1), [(b"usage", b"1")])
    wire.pull()
    first, last = wire.stream(rid(1))
    assert first[1] == META
    assert codec.decode_response_meta(first[4], 8_192).body == b"a"
    assert (last[1], last[2]) == (META | END_STREAM, 1)
    assert codec.decode_response_meta(last[4], 8_192).headers == [(b"usage", b"1")]


def test_headers_can_go_ahead_of_the_first_message() -> None:
    wire = worker()
    wire.send(opening(1))
    wire.core.send_headers(rid(1), [])
    (frame,) = wire.pull()
    assert frame[1] == META
    with pytest.raises(RequestClosed, match="begun"):
        wire.core.send_headers(rid(1), [])


def test_trailers_alone_do_not_look_like_headers() -> None:
    wire = worker()
    wire.send(opening(1))
    wire.core.finish(rid(1), [(b"usage", b"1")])
    wire.pull()
    assert [(f[1], f[2]) for f in wire.stream(rid(1))] == [(META, 0), (META | END_STREAM, 1)]


def test_no_messages_at_all() -> None:
    wire = worker()
    wire.send(opening(1))
    wire.core.finish(rid(1))
    wire.pull()
    assert [f[1:3] + f[4:] for f in wire.stream(rid(1))] == [(END_STREAM, 0, b"")]


def test_an_error_comes_after_the_data() -> None:
    wire = worker()
    wire.send(opening(1))
    core = wire.core
    for _ in range(7):
        core.send_message(rid(1), b"x")
    core.fail(rid(1), 0x104, "busy", retry_after_ms=9, non_retryable=True, detail=b"d")
    wire.pull()
    frames = wire.stream(rid(1))
    assert [f[1] for f in frames] == [0] * 7 + [END_STREAM | ERROR]
    assert codec.decode_error_body(frames[-1][4]) == (0x104, 2, 9, b"busy", b"d")


def test_error_bodies_keep_their_limits() -> None:
    wire = worker()
    wire.send(opening(1))
    wire.core.fail(rid(1), 2**32 - 1, "\N{EURO SIGN}" * 1_000, detail=bytes(9_000))
    wire.pull()
    body = wire.terminal(rid(1))
    assert body is not None
    assert len(wire.stream(rid(1))[-1][4]) == 4_096
    assert body.message.decode() == "\N{EURO SIGN}" * 341


def test_a_handler_ends_once() -> None:
    wire = worker()
    wire.send(opening(1))
    core = wire.core
    core.finish(rid(1))
    for call in (
        lambda: core.finish(rid(1)),
        lambda: core.fail(rid(1), 0x107),
        lambda: core.send_message(rid(1), b""),
        lambda: core.send_headers(rid(1), []),
        lambda: core.finish(rid(2)),
        lambda: core.send_message(rid(2), b""),
    ):
        with pytest.raises(RequestClosed):
            call()
    wire.pull()
    assert len(wire.stream(rid(1))) == 1


def test_the_handler_starts_before_the_request_ends() -> None:
    """STM-004."""
    wire = worker()
    wire.send(opening(1, end=False))
    core = wire.core
    for turn in range(10):
        wire.send(request(1, turn + 1, b"m"))
        assert wire.events(MessageReceived)[-1].data == b"m"
        core.send_message(rid(1), b"m")
        assert wire.pull()[-1][2] == turn


def test_late_chunks_after_the_terminal_are_discarded() -> None:
    wire = worker()
    wire.send(opening(1, end=False))
    wire.core.fail(rid(1), 0x107)
    wire.pull()
    frames = wire.send(*[request(1, 1 + n, bytes(200)) for n in range(500)], PING)
    assert frames[-1][0] == codec.PONG
    assert wire.core.buffered_bytes == 0


def test_chunks_while_the_terminal_waits_are_discarded_in_sequence() -> None:
    wire = worker(peer=SMALL)
    wire.send(opening(1, end=False))
    fill(wire, 1)
    wire.core.finish(rid(1))
    wire.pull()
    before = len(wire.events(MessageReceived))
    wire.send(request(1, 1, b"x"))
    assert len(wire.events(MessageReceived)) == before
    wire.send(request(1, 3, b"x"))
    wire.assert_violation(ErrorCode.SEQUENCE_ERROR, "FRM-010")


# -- what the client announced ---------------------------------------------------------------------


def test_the_client_s_settings_are_obeyed() -> None:
    wire = worker(peer={"max_frame_size": 16_384, "initial_stream_window": 65_536})
    wire.send(opening(1))
    wire.core.send_message(rid(1), bytes(1 << 20))
    wire.pull()
    frames = wire.stream(rid(1))
    assert max(len(f[4]) for f in frames) == 16_384
    assert sum(32 + len(f[4]) for f in frames) == 65_536


def test_a_response_above_the_client_s_limit_ends_the_request() -> None:
    wire = worker(peer={"max_message_size": 1 << 20})
    wire.send(opening(1))
    wire.core.send_message(rid(1), b"first")
    with pytest.raises(MessageTooLarge):
        wire.core.send_message(rid(1), bytes((1 << 20) + 1))
    assert wire.core.send_message(rid(1), b"dropped")
    wire.core.fail(rid(1), 0x107)
    wire.pull()
    assert code_of(wire, 1) == (ErrorCode.MESSAGE_TOO_LARGE, 2)
    assert not wire.events(HandlerCancelled)


@pytest.mark.parametrize("where", ["headers", "trailers"])
def test_metadata_above_the_client_s_limit_ends_the_request(where: str) -> None:
    wire = worker(peer={"max_metadata_size": 8_192})
    wire.send(opening(1))
    core = wire.core
    pairs = [(b"k", bytes(8_000).replace(b"\0", b"x")), (b"l", b"y" * 400)]
    with pytest.raises(InvalidArgument):
        core.send_headers(rid(1), pairs) if where == "headers" else core.finish(rid(1), pairs)
    wire.pull()
    assert code_of(wire, 1) == (ErrorCode.REQUEST_INTERNAL_ERROR, 0)


def test_bad_headers_are_a_local_error() -> None:
    wire = worker()
    wire.send(opening(1))
    for pairs in ([(b"Upper", b"")], [(b"k", b""), (b"k", b"")], [(b"k", b"\n")], [(b"", b"")]):
        with pytest.raises(InvalidArgument):
            wire.core.send_headers(rid(1), pairs)
    with pytest.raises(InvalidArgument):
        wire.core.send_headers(rid(1), [(b"k" * 300, b"")])
    wire.pull()
    assert wire.stream(rid(1)) == []


# -- flow control ----------------------------------------------------------------------------------


def test_a_window_is_filled_to_the_last_unit_and_no_further() -> None:
    wire = worker(peer=SMALL)
    wire.send(opening(1))
    fill(wire, 1, 200)
    sent = sum(32 + len(f[4]) for f in wire.stream(rid(1)))
    assert 65_536 - 32 < sent <= 65_536
    wire.send(codec.encode_window_update(rid(1), 65_536 + 40_000))
    sent = sum(32 + len(f[4]) for f in wire.stream(rid(1)))
    assert 105_536 - 32 < sent <= 105_536
    assert wire.send(PING)[-1][0] == codec.PONG


def test_the_connection_window_binds_all_streams_and_control_passes() -> None:
    wire = worker(peer={"connection_window": 1 << 20, "initial_stream_window": 1 << 30})
    wire.send(opening(1), opening(2), opening(3))
    for number in (1, 2):
        wire.core.send_message(rid(number), bytes(1 << 20))
    wire.core.finish(rid(3))
    wire.pull()
    data = [f for f in wire.frames if f[0] == codec.RESPONSE]
    assert (1 << 20) - 32 < sum(32 + len(f[4]) for f in data if f[4]) <= 1 << 20
    assert wire.terminal(rid(3)) is None
    wire.send(codec.encode_kill(rid(1), 0))
    wire.core.fail(rid(1), 0x107)
    wire.pull()
    assert code_of(wire, 1)[0] == ErrorCode.CANCELLED
    wire.send(codec.encode_window_update(bytes(16), 1 << 30))
    wire.core.finish(rid(2))
    wire.pull()
    assert wire.terminal(rid(2)) is None
    assert sum(len(f[4]) for f in wire.stream(rid(2))) == 1 << 20


def test_a_window_update_that_raises_nothing_is_a_glitch() -> None:
    wire = worker(peer=SMALL)
    wire.send(opening(1))
    before = wire.core._budgets.glitch._tokens
    wire.send(codec.encode_window_update(rid(1), 65_536))
    wire.send(codec.encode_window_update(bytes(16), 5))
    assert wire.core._budgets.glitch._tokens == before - 2


def test_writers_wait_for_room_and_are_told() -> None:
    wire = worker(peer=SMALL, send_buffer=100_000)
    wire.send(opening(1))
    fill(wire, 1)
    assert wire.core.buffered_bytes <= 100_000
    assert not wire.events(Writable)
    wire.send(codec.encode_window_update(rid(1), 65_536 + 40_000))
    assert not wire.events(Writable)
    wire.send(codec.encode_window_update(rid(1), 65_536 + 60_000))
    assert wire.one(Writable).request_id == rid(1)
    assert wire.core.send_message(rid(1), bytes(1_000))


def test_an_empty_message_waits_for_room_too() -> None:
    wire = worker(peer=SMALL, send_buffer=1_000)
    wire.send(opening(1))
    core = wire.core
    assert core.send_message(rid(1), bytes(70_000))
    wire.pull()
    assert not core.send_message(rid(1), b"")
    wire.send(codec.encode_window_update(rid(1), 1 << 20))
    assert wire.one(Writable)


def test_one_message_of_any_size_is_taken() -> None:
    wire = worker(peer=SMALL)
    wire.send(opening(1))
    assert wire.core.send_message(rid(1), bytes(8 << 20))
    assert not wire.core.send_message(rid(1), b"")


def test_input_beyond_the_stream_window_is_refused() -> None:
    wire = worker(initial_stream_window=65_536)
    wire.send(opening(1, end=False))
    for seq in range(1, 65):
        wire.send(request(1, seq, bytes(1_000)))
    wire.assert_violation(ErrorCode.FLOW_CONTROL_ERROR, "FLW-002")


def test_an_open_beyond_the_stream_window_is_refused() -> None:
    wire = worker(initial_stream_window=65_536, max_frame_size=65_536)
    wire.send(opening(1, bytes(65_536 - 19 - 4)))
    wire.assert_violation(ErrorCode.FLOW_CONTROL_ERROR, "FLW-002")


def test_input_beyond_the_connection_window_is_refused_while_no_update_can_go_out() -> None:
    wire = worker(connection_window=1 << 20)
    wire.send(*[opening(n, end=False) for n in range(1, 40)])
    with_room = 0
    for number in range(1, 40):
        wire.core.receive_data(request(number, 1, bytes(60_000)), 0.0)  # nothing is pulled
        with_room += wire.core.close_action is CloseAction.NONE
    wire.pull()
    assert 16 <= with_room <= 18
    wire.assert_violation(ErrorCode.FLOW_CONTROL_ERROR, "FLW-002")


def test_consumption_raises_the_limits_in_quarters() -> None:
    wire = worker(initial_stream_window=65_536, connection_window=1 << 20)
    wire.send(opening(1, end=False))
    core = wire.core
    for seq in range(1, 2_000):
        wire.send(request(1, seq, bytes(1_000)))
        core.consumed(rid(1), wire.events(MessageReceived)[-1].cost)
        wire.pull()
    assert wire.core.close_action is CloseAction.NONE
    updates = [f for f in wire.frames if f[0] == codec.WINDOW_UPDATE]
    streams = [codec.decode_window_update(f[4]) for f in updates if f[3] == rid(1)]
    assert len(streams) <= 2_000 * 1_032 // 16_384 + 1
    assert streams == sorted(streams)
    assert any(f[3] == bytes(16) for f in updates)


def test_more_cannot_be_given_back_than_was_handed_out() -> None:
    wire = worker()
    wire.send(opening(1, b"hi", end=False))
    cost = wire.one(RequestReceived).cost
    with pytest.raises(LocalProtocolError):
        wire.core.consumed(rid(1), cost + 1)
    wire.core.consumed(rid(1), cost)
    wire.core.finish(rid(1))
    wire.pull()
    wire.core.consumed(rid(1), 12_345)  # late: the terminal returned everything
    assert wire.core.buffered_bytes == 0


def test_a_message_longer_than_the_window_passes_while_it_is_awaited() -> None:
    wire = worker(initial_stream_window=65_536)
    wire.send(opening(1, end=False))
    wire.core.awaiting(rid(1))
    for seq in range(1, 200):
        wire.send(request(1, seq, bytes(10_000), MORE))
    wire.send(request(1, 200, b""))
    assert len(wire.one(MessageReceived).data) == 1_990_000
    assert wire.core.close_action is CloseAction.NONE


def test_a_message_that_nobody_awaits_stops_at_the_window() -> None:
    wire = worker(initial_stream_window=65_536)
    wire.send(opening(1, end=False))
    for seq in range(1, 7):
        wire.send(request(1, seq, bytes(10_000), MORE))
    assert not [f for f in wire.frames if f[0] == codec.WINDOW_UPDATE]
    wire.core.awaiting(rid(1))
    wire.pull()
    (update,) = [f for f in wire.frames if f[0] == codec.WINDOW_UPDATE]
    assert codec.decode_window_update(update[4]) == 65_536 + 6 * 10_032 + len(opening(1))


def test_a_complete_message_ends_the_wait() -> None:
    wire = worker(initial_stream_window=65_536)
    wire.send(opening(1, end=False))
    wire.core.awaiting(rid(1))
    wire.send(
        request(1, 1, bytes(30_000), MORE), request(1, 2, b""), request(1, 3, bytes(30_000), MORE)
    )
    held = wire.core._requests[rid(1)].credit.held
    assert held == 32 + 30_032


def test_stalled_streams_leave_half_of_the_connection() -> None:
    wire = worker(connection_window=1 << 20, initial_stream_window=65_536)
    for number in range(1, 60):
        wire.send(opening(number, end=False), request(number, 1, bytes(60_000)))
    assert wire.core.buffered_bytes > 3 << 20
    wire.send(opening(100, b"hi"))
    assert wire.events(RequestReceived)[-1].request_id == rid(100)
    assert wire.core.close_action is CloseAction.NONE


def test_discarded_cost_is_returned() -> None:
    """FLW-008."""
    wire = worker(connection_window=1 << 20, initial_stream_window=65_536)
    for number in range(1, 100):
        wire.send(
            opening(number, end=False),
            request(number, 1, bytes(60_000), MORE),
            codec.encode_kill(rid(number), 0),
        )
        wire.core.fail(rid(number), 0x107)
        wire.pull()
        wire.send(opening(1_000 + number, bytes(60_000), subject=b"no.such"))
    assert wire.core.close_action is CloseAction.NONE
    assert wire.core.buffered_bytes == 0


def test_a_slow_consumer_is_ended() -> None:
    """FLW-013."""
    wire = worker(peer=SMALL | {"idle_timeout_ms": 600_000}, slow_consumer=5.0,
                  idle_timeout_ms=600_000)  # fmt: skip
    wire.send(opening(1))
    fill(wire, 1)
    wire.advance(3.0)
    wire.send(codec.encode_window_update(rid(1), 65_536 + 10_000))
    wire.advance(4.9)
    assert not wire.events(HandlerCancelled)
    wire.advance(0.2)
    assert wire.one(HandlerCancelled).reason is CancelReason.SLOW_CONSUMER
    assert code_of(wire, 1)[0] == ErrorCode.SLOW_CONSUMER


def test_waiting_for_the_connection_s_window_is_slow_too() -> None:
    wire = worker(peer={"connection_window": 1 << 20, "initial_stream_window": 1 << 30,
                        "idle_timeout_ms": 600_000}, slow_consumer=5.0,
                  idle_timeout_ms=600_000)  # fmt: skip
    wire.send(opening(1), opening(2))
    wire.core.send_message(rid(1), bytes(1 << 20))
    wire.core.finish(rid(1))
    wire.pull()
    wire.advance(5.0)
    assert code_of(wire, 1)[0] == ErrorCode.SLOW_CONSUMER
    assert not wire.events(HandlerCancelled)


# -- STOP and KILL ---------------------------------------------------------------------------------


def test_stop_is_passed_on_once() -> None:
    """CAN-005."""
    wire = worker()
    wire.send(opening(1), codec.encode_stop(rid(1), 7), codec.encode_stop(rid(1), 8))
    assert wire.one(StopReceived).reason == 7
    wire.core.send_message(rid(1), b"usage")
    wire.core.finish(rid(1))
    wire.pull()
    assert wire.terminal(rid(1)) is None


def test_open_and_kill_in_one_segment_give_one_terminal() -> None:
    wire = worker()
    wire.send(opening(1), codec.encode_kill(rid(1), 0))
    assert [type(e) for e in wire.seen[-2:]] == [RequestReceived, HandlerCancelled]
    wire.core.fail(rid(1), ErrorCode.CANCELLED)
    wire.pull()
    assert code_of(wire, 1) == (ErrorCode.CANCELLED, 0)


def test_after_a_kill_only_the_terminal_follows() -> None:
    wire = worker(peer=SMALL)
    wire.send(opening(1))
    fill(wire, 1)
    frames = wire.send(codec.encode_kill(rid(1), 0), PING)
    assert [f[0] for f in frames] == [codec.PONG]
    assert wire.core.send_message(rid(1), b"dropped")
    wire.core.send_headers(rid(1), [])
    wire.core.finish(rid(1))
    (frame,) = wire.pull()
    assert frame[1] == END_STREAM | ERROR
    assert code_of(wire, 1)[0] == ErrorCode.CANCELLED


def test_a_handler_that_does_not_end_gets_its_terminal_and_keeps_its_place() -> None:
    wire = worker()
    core = wire.core
    wire.send(opening(1), codec.encode_kill(rid(1), 0))
    wire.advance(0.49)
    assert wire.stream(rid(1)) == []
    wire.advance(0.02)
    assert code_of(wire, 1)[0] == ErrorCode.CANCELLED
    assert core.open_requests == 1
    assert core.statistics.active == 1
    assert core.send_message(rid(1), b"dropped")
    core.finish(rid(1))
    assert core.open_requests == 0
    assert core.statistics.active == 0
    assert core.statistics.cancelled == 1
    wire.pull()
    assert len(wire.stream(rid(1))) == 1
    with pytest.raises(RequestClosed):
        core.finish(rid(1))


def test_a_kill_behind_the_end_lets_the_ordinary_terminal_pass() -> None:
    wire = worker()
    wire.send(opening(1))
    wire.core.finish(rid(1))
    wire.core.receive_data(codec.encode_kill(rid(1), 0), 0.0)
    wire.pull()
    assert wire.terminal(rid(1)) is None


@pytest.mark.parametrize("trailers", [(), ((b"usage", b"1"),)])
def test_a_kill_with_data_still_queued_is_cancelled(
    trailers: tuple[tuple[bytes, bytes], ...],
) -> None:
    wire = worker(peer=SMALL)
    wire.send(opening(1))
    wire.core.send_message(rid(1), bytes(100_000))
    wire.core.finish(rid(1), trailers)
    wire.pull()
    wire.send(codec.encode_kill(rid(1), 0))
    assert code_of(wire, 1)[0] == ErrorCode.CANCELLED
    assert not wire.events(HandlerCancelled)


def test_kills_of_ended_requests_are_ignored() -> None:
    wire = worker()
    wire.send(opening(1))
    wire.core.finish(rid(1))
    wire.pull()
    before = wire.core._budgets.glitch._tokens
    wire.send(codec.encode_kill(rid(1), 0), codec.encode_stop(rid(1), 0))
    assert wire.core._budgets.glitch._tokens == before
    assert len(wire.stream(rid(1))) == 1


def test_rapid_reset_never_frees_a_place() -> None:
    wire = worker()
    frames = []
    for number in range(1, 3_001):
        frames += [opening(number), codec.encode_kill(rid(number), 0)]
    wire.core.receive_data(b"".join(frames), 0.0)
    assert wire.core.open_requests == 1_024
    assert wire.core.statistics.peak == 1_024
    wire.pull()
    refused = [f for f in wire.frames if f[1] & ERROR]
    assert len(refused) == 3_000 - 1_024


# -- deadlines -------------------------------------------------------------------------------------


def test_a_deadline_cancels_and_answers_at_once() -> None:
    wire = worker(peer=SMALL)
    wire.send(opening(1, timeout_ms=300))
    fill(wire, 1)
    wire.advance(0.299)
    assert not wire.events(HandlerCancelled)
    wire.advance(0.001)
    assert wire.one(HandlerCancelled).reason is CancelReason.DEADLINE
    assert code_of(wire, 1) == (ErrorCode.DEADLINE_EXCEEDED, 0)
    assert wire.core.open_requests == 1


def test_a_deadline_covers_output_that_waits() -> None:
    wire = worker(peer=SMALL)
    wire.send(opening(1, timeout_ms=300))
    wire.core.send_message(rid(1), bytes(100_000))
    wire.core.finish(rid(1))
    wire.advance(0.3)
    assert code_of(wire, 1)[0] == ErrorCode.DEADLINE_EXCEEDED
    assert not wire.events(HandlerCancelled)


def test_the_longest_deadline_is_far_away() -> None:
    wire = worker()
    wire.send(opening(1, timeout_ms=2**32 - 1))
    due = wire.core.next_timeout()
    assert due is not None
    assert due < 60
    wire.advance(10.0)
    wire.core.finish(rid(1))
    wire.pull()
    assert wire.terminal(rid(1)) is None
    assert len(wire.core._timers) == 0


# -- the end ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["eof", "violation"])
def test_every_handler_is_cancelled_when_the_connection_ends(how: str) -> None:
    statistics = Statistics()
    wire = worker(statistics=statistics)
    wire.send(*[opening(n) for n in range(1, 51)])
    if how == "eof":
        wire.core.receive_eof(0.0)
        wire.pull()
        assert wire.core.close_action is CloseAction.CLOSE
        assert wire.ended.by_peer
    else:
        wire.send(raw(0))
    assert {e.reason for e in wire.events(HandlerCancelled)} == {CancelReason.CONNECTION_LOST}
    assert len(wire.events(HandlerCancelled)) == wire.ended.lost == 50
    assert statistics.active == 50
    assert statistics.cancelled == 50
    for number in range(1, 51):
        wire.core.fail(rid(number), 0x107)
    assert statistics.active == 0


def test_drain_lets_requests_run_and_closes_behind_the_last() -> None:
    """CLS-003, CLS-004, CLS-005."""
    wire = worker()
    wire.send(opening(1, end=False))
    wire.core.drain(1_000, 0.0)
    wire.pull()
    goaway = wire.goaway
    assert goaway is not None
    assert goaway[:3] == (0, 1, 1_000)
    wire.send(opening(2))
    assert code_of(wire, 2) == (ErrorCode.DRAINING, 1)
    wire.send(request(1, 1, b"m"), PING)
    assert wire.events(MessageReceived)
    wire.core.send_message(rid(1), b"x")
    wire.core.finish(rid(1))
    assert wire.core.close_action is CloseAction.NONE
    wire.pull()
    assert wire.terminal(rid(1)) is None
    assert wire.core.close_action is CloseAction.LINGER
    assert (wire.ended.code, wire.ended.by_peer, wire.ended.last_ordinal) == (0, False, 1)
    wire.core.receive_eof(0.1)
    assert wire.core.close_action is CloseAction.CLOSE


def test_an_idle_connection_drains_at_once() -> None:
    wire = worker()
    wire.core.drain(1_000, 0.0)
    assert [f[0] for f in wire.pull()] == [codec.GOAWAY]
    assert wire.core.close_action is CloseAction.LINGER


def test_the_end_of_the_grace_ends_everything() -> None:
    wire = worker()
    wire.send(opening(1), opening(2))
    wire.core.drain(300, 0.0)
    wire.core.drain(300, 0.0)
    wire.advance(0.3)
    for number in (1, 2):
        assert code_of(wire, number) == (ErrorCode.SHUTDOWN, 0)
    assert [e.reason for e in wire.events(HandlerCancelled)] == [CancelReason.SHUTDOWN] * 2
    assert wire.core.close_action is CloseAction.LINGER
    assert len([f for f in wire.frames if f[0] == codec.GOAWAY]) == 1


def test_a_drain_without_grace_is_over_at_once() -> None:
    wire = worker()
    wire.send(opening(1))
    wire.core.drain(0, 0.0)
    wire.pull()
    assert code_of(wire, 1)[0] == ErrorCode.SHUTDOWN


def test_a_drain_that_cannot_be_flushed_is_cut_off() -> None:
    wire = worker(peer=SMALL)
    wire.send(opening(1))
    wire.core.drain(0, 0.0)
    assert wire.core.next_timeout() == pytest.approx(0.8)
    wire.core.handle_timeout(0.8)  # the driver could not take anything
    assert wire.core.close_action is CloseAction.ABORT


def test_a_drain_can_follow_a_terminal() -> None:
    wire = worker()
    wire.send(opening(1), opening(2))
    wire.core.drain(500, 0.0, after=rid(1))
    wire.core.send_message(rid(1), b"ok")
    wire.core.finish(rid(1))
    frames = wire.pull()
    assert [f[0] for f in frames] == [codec.RESPONSE, codec.GOAWAY]
    wire.core.drain(500, 0.0, after=rid(1))
    assert wire.pull() == []


def test_a_pending_connection_drains_without_an_octet() -> None:
    wire = worker(shake=False)
    wire.core.drain(1_000, 0.0)
    wire.pull()
    assert wire.octets == b""
    assert wire.core.close_action is CloseAction.CLOSE


def test_a_drain_waits_for_the_ack() -> None:
    wire = worker(shake=False)
    wire.send(PREFACE)
    wire.core.drain(1_000, 0.0)
    assert wire.pull() == []
    frames = wire.send(settings_frame())
    assert [f[0] for f in frames] == [codec.SETTINGS_ACK, codec.GOAWAY]


def test_a_client_that_leaves_is_served_to_the_end() -> None:
    wire = worker()
    wire.send(opening(1), codec.encode_goaway(0, 0, 99, b""))
    assert wire.one(GoawayReceived).code == 0
    assert wire.core.close_action is CloseAction.NONE
    wire.core.finish(rid(1))
    wire.pull()
    assert wire.core.close_action is CloseAction.LINGER
    assert wire.goaway is None
    assert wire.ended.by_peer


def test_a_client_that_reports_an_error_is_left() -> None:
    wire = worker()
    wire.send(opening(1), codec.encode_goaway(1, 0, 0, b"FRM-002"), PING)
    assert wire.core.close_action is CloseAction.LINGER
    assert wire.goaway is None
    assert wire.one(HandlerCancelled)
    assert (wire.ended.code, wire.ended.by_peer) == (1, True)


def test_queued_control_output_is_bounded() -> None:
    wire = worker(peer={"idle_timeout_ms": 600_000}, idle_timeout_ms=100)
    core = wire.core
    number = 0
    while core.close_action is CloseAction.NONE and number < 100_000:
        number += 1
        core.receive_data(opening(number, subject=b"no.such"), number / 1_900)
        assert core.buffered_bytes < (1 << 20) + 1_000
    assert core.close_action is CloseAction.ABORT
    wire.now = number / 1_900
    wire.pull()
    assert wire.one(ConnectionEnded).requirement == "DOS-002"
    assert wire.goaway is None


def test_exhausted_sequence_numbers_end_the_request() -> None:
    wire = worker()
    wire.send(opening(1))
    core = wire.core
    core._requests[rid(1)].queue.seq = 2**32 - 2
    core.send_message(rid(1), b"x")
    wire.core.data_to_send(0.0)
    wire.seen += core.events()
    assert wire.one(HandlerCancelled).reason is CancelReason.INTERNAL
    assert core.open_requests == 1
    assert not core._requests


def test_no_number_of_kills_closes_a_connection() -> None:
    """CAN-006: rapid reset costs its sender more than it costs the worker."""
    wire = worker()
    for number in range(1, 20_001):
        wire.send(opening(number), codec.encode_kill(rid(number), 0))
        wire.core.fail(rid(number), ErrorCode.CANCELLED)
    wire.pull()
    assert [frame[0] for frame in wire.send(PING)] == [codec.PONG]
    assert wire.core.statistics.peak == 1
    assert wire.core.open_requests == wire.core.buffered_bytes == 0


@pytest.mark.parametrize("moment", ["same segment", "before", "between", "after"])
@pytest.mark.parametrize("kind", ["stop", "kill"])
def test_stop_and_kill_at_any_moment(kind: str, moment: str) -> None:
    """CAN-001, CAN-002, CAN-005, STM-005: one terminal, and nothing behind it."""
    wire = worker()
    core = wire.core
    encode = codec.encode_stop if kind == "stop" else codec.encode_kill
    cancel = encode(rid(1), ErrorCode.CANCELLED)
    wire.send(opening(1), *([cancel] if moment == "same segment" else []))
    if moment == "before":
        wire.send(cancel)
    for number in range(2):
        core.send_message(rid(1), b"item %d" % number)
        wire.pull()
        if moment == "between" and not number:
            wire.send(cancel)
    if moment != "after":
        told = StopReceived if kind == "stop" else HandlerCancelled
        assert wire.one(told).request_id == rid(1)
    core.finish(rid(1))
    wire.pull()
    if moment == "after":
        wire.send(cancel, PING)
    items = [frame[4] for frame in wire.stream(rid(1)) if not frame[1] & END_STREAM]
    sent = {"same segment": 0, "before": 0, "between": 1, "after": 2}
    assert len(items) == (2 if kind == "stop" else sent[moment])
    body = wire.terminal(rid(1))
    assert (body is None) == (kind == "stop" or moment == "after")
    assert core.open_requests == core.statistics.active == core.buffered_bytes == 0
    assert core.close_action is CloseAction.NONE
