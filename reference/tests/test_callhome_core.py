"""The two ends of a call-home connection against each other, and against octets of a test."""

from __future__ import annotations

import pytest
from callhome_core import (
    ACCEPT,
    DONE,
    HELLO,
    LIFETIME,
    ME,
    OTHER,
    PREFACE,
    START,
    TOKEN,
    Bench,
    pass_time,
    pull,
    response,
    worker_stream,
)
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ERROR, META, ErrorCode
from muxwire.core.callhome import RouterEnd, RouterStream, WorkerEnd
from muxwire.core.closing import CloseAction
from muxwire.core.events import (
    CancelReason,
    ConnectionEnded,
    HandlerCancelled,
    MessageReceived,
    ResponseFailed,
    Writable,
)
from muxwire.core.worker import U32
from muxwire.errors import InvalidArgument, LocalProtocolError, MessageTooLarge, Outcome


def router(stream: RouterStream) -> RouterEnd:
    end = RouterEnd(lambda *_: stream.verdict_on_hello or stream, START)
    end.receive_data(PREFACE, START)
    pull(end, START)
    return end


def accepted() -> tuple[RouterEnd, RouterStream]:
    stream = RouterStream(ME, TOKEN)
    stream.posted()
    end = router(stream)
    end.receive_data(HELLO, START)
    assert pull(end, START) == ACCEPT
    end.events()
    return end, stream


# -- prefaces --------------------------------------------------------------------------------------


def test_a_router_is_silent_until_the_preface_is_there() -> None:  # P0-002
    end = RouterEnd(lambda *_: 0, START)
    for octet in PREFACE[:-1]:
        end.receive_data(bytes([octet]), START)
        assert not pull(end, START)
    end.receive_data(PREFACE[-1:], START)
    assert pull(end, START) == PREFACE


@pytest.mark.parametrize("idle_ms", [1, 99, 600_001, U32])
def test_an_idle_timeout_out_of_range_is_no_preface(idle_ms: int) -> None:  # P0-002
    end = RouterEnd(lambda *_: 0, START)
    end.receive_data(codec.encode_wch_preface(1, 1, idle_ms), START)
    assert not pull(end, START)
    assert end.close_action is CloseAction.CLOSE
    with pytest.raises(InvalidArgument, match=str(idle_ms)):
        WorkerEnd(START, idle_ms)


@pytest.mark.parametrize("reply", [(2, 1), (0, 0), (2, 2)])
def test_a_worker_takes_its_own_version_only(reply: tuple[int, int]) -> None:  # P0-002
    end = WorkerEnd(START)
    end.receive_data(codec.encode_wch_preface(*reply, 0), START)
    assert not end.idle
    assert end.close_action is CloseAction.CLOSE


def test_a_worker_says_nothing_before_it_is_accepted() -> None:  # P0-003
    end = WorkerEnd(START)
    assert pull(end, START) == PREFACE
    with pytest.raises(LocalProtocolError):
        end.hello(worker_stream(), START)
    end.receive_data(PREFACE, START)
    stream = worker_stream()
    stream.send_message(b"early")
    end.hello(stream, START)
    assert pull(end, START) == HELLO
    end.receive_data(ACCEPT, START)
    assert pull(end, START) == response(0, b"early")


# -- one stream ------------------------------------------------------------------------------------


def test_a_response_comes_home_and_the_connection_is_free() -> None:  # P0-007, P0-008, P0-009
    bench = Bench()
    bench.post()
    bench.hello()
    assert bench.statistics.active == 1
    bench.there.send_message(b"one")
    bench.there.finish()
    bench.run()
    messages = [one for one in bench.said[bench.router] if isinstance(one, MessageReceived)]
    assert [(one.data, one.ended) for one in messages] == [(b"one", True)]
    assert bench.statistics.active == 0
    assert bench.worker.idle
    assert bench.sent[False].endswith(DONE)


def test_a_worker_without_done_closes_after_five_seconds() -> None:  # P0-008
    end = WorkerEnd(START)
    stream = worker_stream()
    end.receive_data(PREFACE, START)
    end.hello(stream, START)
    end.receive_data(ACCEPT, START)
    stream.finish()
    pull(end, START)
    assert not end.idle
    pass_time(end, START, START + 4.9)
    assert not end.close_action
    pass_time(end, START + 4.9, START + 5.0)
    assert end.close_action


def test_a_kill_between_hello_and_accept() -> None:  # P0-011
    bench = Bench()
    stream = worker_stream()
    end = bench.worker
    end.receive_data(PREFACE, START)
    end.hello(stream, START)
    end.receive_data(codec.encode_kill(ME, 1), START)
    pull(end, START)
    told = [one for one in end.events() if isinstance(one, HandlerCancelled)]
    assert [one.reason for one in told] == [CancelReason.KILL]
    stream.handle_timeout(START + 0.5)
    assert not pull(end, START + 0.5)
    end.receive_data(ACCEPT, START + 0.6)
    terminal = pull(end, START + 0.6)
    assert codec.decode_error_body(terminal[32:]).code == ErrorCode.CANCELLED


def test_a_stale_kill_disturbs_nobody() -> None:  # P0-011
    bench = Bench()
    bench.post()
    bench.hello()
    bench.worker.receive_data(codec.encode_kill(OTHER, 1) + codec.encode_stop(OTHER, 1), START)
    bench.there.finish()
    bench.run()
    bench.worker.receive_data(codec.encode_kill(ME, 1), START)
    assert bench.worker.idle
    assert not bench.there.events()


def test_a_stop_that_was_held_follows_accept() -> None:  # P0-011
    stream = RouterStream(ME, TOKEN)
    stream.posted()
    stream.stop(7)
    end = router(stream)
    end.receive_data(HELLO, START)
    assert pull(end, START) == ACCEPT + codec.encode_stop(ME, 7)


def test_three_wrong_tokens_and_no_more() -> None:  # P0-018
    end = RouterEnd(lambda *_: ErrorCode.NOT_FOUND, START)
    end.receive_data(PREFACE + 5 * HELLO, START)
    assert pull(end, START) == PREFACE + 3 * codec.encode_reject(ME, ErrorCode.NOT_FOUND)
    assert end.close_action is CloseAction.LINGER


def test_rejects_of_cancelled_streams_do_not_count() -> None:  # P0-018
    stream = RouterStream(ME, TOKEN)
    stream.posted()
    stream.kill(0, START)
    end = router(stream)
    end.receive_data(5 * HELLO, START)
    assert pull(end, START) == 5 * codec.encode_reject(ME, ErrorCode.CANCELLED)
    assert not end.close_action


def test_a_second_hello_supersedes_and_late_octets_are_nobodys() -> None:  # P0-019
    first, stream = accepted()
    second = router(stream)
    second.receive_data(HELLO, START)
    assert pull(second, START) == ACCEPT
    assert first.close_action is CloseAction.CLOSE
    first.receive_data(response(0, b"late", END_STREAM), START)
    second.receive_data(response(0, b"true", END_STREAM), START)
    told = first.events() + second.events() + stream.events()
    assert [one.data for one in told if isinstance(one, MessageReceived)] == [b"true"]
    third = router(stream)
    third.receive_data(HELLO, START)
    assert pull(third, START) == codec.encode_reject(ME, ErrorCode.NOT_FOUND)


@pytest.mark.parametrize(
    "octets",
    [
        response(1, b"gap"),
        response(0, b"other", request_id=OTHER),
        response(0, b"\x00", META),
        response(0, bytes(3), END_STREAM | ERROR),
        HELLO,
        ACCEPT,
        codec.encode_goaway(0, 0, 0, b""),
        codec.encode_window_update(ME, 1),
        codec.encode_settings([]),
        codec.response_header(0, 0, 1_048_577, ME),
        b"\xf6",
    ],
)
def test_what_breaks_a_rule_ends_the_connection_without_a_frame(octets: bytes) -> None:  # P0-012
    end, stream = accepted()
    end.receive_data(octets, START)
    assert end.close_action is CloseAction.CLOSE
    assert not pull(end, START)
    stream.handle_timeout(START + LIFETIME)
    told = end.events() + stream.events()
    (failed,) = (one for one in told if isinstance(one, ResponseFailed))
    responded = octets[1:2] == b"\x02" and octets[16:32] == ME and len(octets) > 32  # REC-002
    assert failed.outcome is (Outcome.PARTIAL if responded else Outcome.AMBIGUOUS)


def test_a_killed_stream_never_succeeds() -> None:
    end, stream = accepted()
    stream.kill(ErrorCode.CANCELLED, START)
    assert pull(end, START) == codec.encode_kill(ME, ErrorCode.CANCELLED)
    end.receive_data(response(0, b"all", END_STREAM), START)
    (failed,) = (one for one in end.events() if isinstance(one, ResponseFailed))
    assert failed.outcome is Outcome.FAILED
    assert pull(end, START) == DONE


def test_a_deadline_gives_the_worker_the_first_word() -> None:  # REC-005
    stream = RouterStream(ME, TOKEN, START + 1)
    stream.posted()
    stream.admitted(START)
    end = router(stream)
    end.receive_data(HELLO, START)
    pull(end, START)
    stream.handle_timeout(START + 1)
    assert not pull(end, START + 1)
    stream.handle_timeout(START + 1.75)
    assert pull(end, START + 1.75) == codec.encode_kill(ME, ErrorCode.DEADLINE_EXCEEDED)
    stream.handle_timeout(START + 2.75)
    told = end.events() + stream.events()
    (failed,) = (one for one in told if isinstance(one, ResponseFailed))
    assert (failed.outcome, failed.code) == (Outcome.AMBIGUOUS, ErrorCode.DEADLINE_EXCEEDED)
    assert end.close_action is CloseAction.CLOSE


# -- liveness and backpressure ---------------------------------------------------------------------


def test_both_ends_live_on_pings() -> None:  # P0-014
    bench = Bench(idle_timeout_ms=400)
    bench.run()
    for _ in range(200):
        bench.now += 0.05
        for end in (bench.worker, bench.router):
            end.handle_timeout(bench.now)
        bench.run()
    assert bench.worker.idle
    assert not bench.router.close_action
    assert pass_time(bench.worker, bench.now, bench.now + 1)
    assert bench.worker.close_action


def test_a_caller_that_does_not_read_stops_the_reading_and_its_clock() -> None:  # P0-014
    end, stream = accepted()
    for seq in range(5):
        end.receive_data(response(seq, bytes(65_536)), START)
    assert not end.reading
    pass_time(end, START, START + 500)
    assert not end.close_action
    told = [one for one in end.events() if isinstance(one, MessageReceived)]
    for one in told:
        stream.consumed(one.cost, START + 500)
    assert end.reading
    pass_time(end, START + 500, START + 559)
    assert not end.close_action
    pass_time(end, START + 559, START + 561)
    assert end.close_action


def test_a_writer_waits_for_room() -> None:  # P0-013
    bench = Bench()
    stream = bench.there
    taken = 0
    while stream.send_message(bytes(65_536)):
        taken += 1
    assert taken * 65_536 <= 1 << 20
    bench.post()
    bench.hello()
    told = [one for one in bench.said[bench.worker] if isinstance(one, Writable)]
    assert len(told) == 1
    assert stream.send_message(bytes(65_536))


def test_a_message_that_is_too_long_ends_the_stream() -> None:
    stream = worker_stream()
    with pytest.raises(MessageTooLarge):
        stream.send_message(bytes((64 << 20) + 1))
    (entry,) = stream.queue.entries
    assert codec.decode_error_body(entry[1]).code == ErrorCode.MESSAGE_TOO_LARGE


def test_too_many_pings_end_the_connection() -> None:
    end, _ = accepted()
    end.receive_data(1_000 * codec.encode_ping(bytes(8)), START)
    (ended,) = (one for one in end.events() if isinstance(one, ConnectionEnded))
    assert ended.requirement == "DOS-001"


# -- attempts at delivery --------------------------------------------------------------------------


def test_three_attempts_in_ten_seconds() -> None:  # P0-005
    stream = worker_stream()
    for _ in range(2):
        stream.attempt(START)
        assert stream.failed(START)
    stream.attempt(START)
    assert not stream.failed(START)
    assert stream.gone
    stream = worker_stream()
    stream.attempt(START)
    assert stream.patience(START + 4) == 6
    assert not stream.failed(START + 10)
    assert [type(one) for one in stream.events()] == [HandlerCancelled]
