from __future__ import annotations

import pytest
from core_harness import (
    ACK,
    PREFACE,
    Wire,
    client,
    failure,
    response,
    settings_frame,
)
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ERROR, META, MORE, ErrorCode
from muxwire.core import (
    ClientConnection,
    CloseAction,
    GoawayReceived,
    MessageReceived,
    ResponseFailed,
    ResponseFinished,
    ResponseHeaders,
    Writable,
)
from muxwire.errors import (
    ConnectionClosed,
    InvalidArgument,
    LocalProtocolError,
    MessageTooLarge,
    Outcome,
    RequestClosed,
)

FAR = {"idle_timeout_ms": 600_000}


def start(
    wire: Wire[ClientConnection],
    data: bytes | None = b"x",
    *,
    end: bool = True,
    timeout_ms: int = 0,
) -> bytes:
    """Open a request and write its OPEN."""
    request_id = wire.core.open(b"a.b", now=wire.now, data=data, end=end, timeout_ms=timeout_ms)
    wire.pull()
    return request_id


def opens(wire: Wire[ClientConnection]) -> list[bytes]:
    return [f[3] for f in wire.frames if f[0] == codec.REQUEST and f[2] == 0]


# -- sending ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "end", "expected"),
    [
        (b"x", True, [(META | END_STREAM, b"x")]),
        (b"x", False, [(META, b"x")]),
        (b"", True, [(META | END_STREAM, b"")]),
        (b"", False, [(META, b""), (0, b"")]),
        (None, False, [(META, b"")]),
        (None, True, [(META, b""), (END_STREAM, b"")]),
    ],
)
def test_how_a_request_opens(
    data: bytes | None, end: bool, expected: list[tuple[int, bytes]]
) -> None:
    wire = client()
    request_id = start(wire, data, end=end)
    got = [
        (f[1], codec.decode_open(f[4], 8_192).body if f[1] & META else f[4])
        for f in wire.stream(request_id)
    ]
    assert got == expected


def test_what_an_open_says() -> None:
    wire = client()
    wire.core.open(
        b"a.b", now=0.0, headers=[(b"k", b"v")], timeout_ms=9, idempotent=True, data=b"d"
    )
    (frame,) = wire.pull()
    assert codec.decode_open(frame[4], 8_192) == (9, 1, b"a.b", [(b"k", b"v")], b"d")


def test_messages_and_the_end() -> None:
    wire = client()
    request_id = start(wire, None, end=False)
    core = wire.core
    core.send_message(request_id, b"a")
    wire.pull()
    core.send_message(request_id, b"", end=True)
    wire.pull()
    frames = [(f[1], f[4]) for f in wire.stream(request_id)[1:]]
    assert frames == [(0, b"a"), (0, b""), (END_STREAM, b"")]
    for call in (
        lambda: core.send_message(request_id, b"x"),
        lambda: core.end(request_id),
        lambda: core.send_message(bytes(16), b"x"),
    ):
        with pytest.raises(RequestClosed):
            call()


def test_a_long_message_is_split() -> None:
    wire = client(peer={"max_frame_size": 16_384})
    request_id = start(wire, bytes(40_000))
    frames = wire.stream(request_id)
    assert [f[1] for f in frames] == [META | MORE, MORE, END_STREAM]
    assert [len(f[4]) for f in frames[:2]] == [16_384, 16_384]


@pytest.mark.parametrize("subject", [b"", b"a..b", b"x" * 256, b"\xff"])
def test_bad_subjects_are_local_errors(subject: bytes) -> None:
    wire = client()
    with pytest.raises(InvalidArgument):
        wire.core.open(subject, now=0.0)
    with pytest.raises(InvalidArgument):
        wire.core.open(b"a", now=0.0, timeout_ms=2**32)
    with pytest.raises(InvalidArgument):
        wire.core.open(b"a", now=0.0, headers=[(b"A", b"")])
    assert wire.core.open_requests == 0


def test_the_worker_s_limits_are_local_errors() -> None:
    wire = client(peer={"max_message_size": 1 << 20, "max_metadata_size": 8_192})
    core = wire.core
    with pytest.raises(MessageTooLarge):
        core.open(b"a", now=0.0, data=bytes((1 << 20) + 1))
    with pytest.raises(InvalidArgument):
        core.open(b"a", now=0.0, headers=[(b"k", b"x" * 8_000), (b"l", b"x" * 400)])
    request_id = start(wire, end=False)
    with pytest.raises(MessageTooLarge):
        core.send_message(request_id, bytes((1 << 20) + 1))


def test_writers_wait_for_room_and_are_told() -> None:
    wire = client(send_buffer=10_000)
    request_id = start(wire, bytes(400_000), end=False)
    core = wire.core
    assert not core.send_message(request_id, b"more")
    wire.pull()
    assert not wire.events(Writable)
    wire.send(codec.encode_window_update(request_id, 1 << 20))
    assert wire.one(Writable).request_id == request_id
    assert core.send_message(request_id, b"more", end=True)


# -- before SETTINGS -------------------------------------------------------------------------------


def test_the_assumed_values_hold_until_the_settings() -> None:
    wire = client(shake=False)
    ids = [wire.core.open(b"a", now=0.0, data=bytes(100_000)) for _ in range(150)]
    wire.pull()
    data = [f for f in wire.frames if f[0] == codec.REQUEST]
    assert len(opens(wire)) <= 100
    assert max(len(f[4]) for f in data) == 16_384
    for request_id in ids:
        assert sum(32 + len(f[4]) for f in wire.stream(request_id)) <= 65_536
    total = sum(32 + len(f[4]) for f in data)
    assert (1 << 20) - 33 < total <= 1 << 20
    wire.send(PREFACE, settings_frame(), ACK)
    assert len(opens(wire)) == 150
    assert opens(wire) == ids
    assert wire.core.waiting_requests == 0
    assert all(wire.stream(i)[-1][1] & END_STREAM for i in ids)


def test_what_is_above_an_assumed_value_waits_for_the_settings() -> None:
    wire = client(shake=False)
    core = wire.core
    large = core.open(b"a", now=0.0, data=bytes((1 << 20) + 1))
    wide = core.open(b"a", now=0.0, headers=[(b"k", b"x" * 8_000), (b"l", b"x" * 400)], end=False)
    small = core.open(b"a", now=0.0, data=b"x", end=False)
    wire.pull()
    assert opens(wire) == [small]
    assert core.send_message(small, bytes((1 << 20) + 1))
    assert not core.send_message(small, b"tail")
    core.end(wide)
    wire.pull()
    assert len(wire.stream(small)) == 1
    wire.send(PREFACE, settings_frame(initial_stream_window=1 << 24), ACK)
    assert set(opens(wire)) == {large, wide, small}
    assert sum(len(f[4]) for f in wire.stream(small)[1:]) == (1 << 20) + 1
    assert wire.stream(wide)[-1][1] == END_STREAM
    assert wire.one(Writable).request_id == small
    assert core.send_message(small, b"tail", end=True)


def test_what_the_settings_do_not_allow_is_given_up() -> None:
    wire = client(shake=False)
    core = wire.core
    large = core.open(b"a", now=0.0, data=bytes((1 << 20) + 1))
    wide = core.open(b"a", now=0.0, headers=[(b"k", b"x" * 8_000), (b"l", b"x" * 400)])
    small = core.open(b"a", now=0.0, data=b"x", end=False)
    wire.pull()
    core.send_message(small, bytes((1 << 20) + 1))
    floor = {"max_message_size": 1 << 20, "max_metadata_size": 8_192}
    wire.send(PREFACE, settings_frame(**floor), ACK)
    failed = {e.request_id: e for e in wire.events(ResponseFailed)}
    assert failed[large].outcome is failed[wide].outcome is Outcome.NOT_SENT
    assert failed[large].code == ErrorCode.MESSAGE_TOO_LARGE
    assert failed[wide].code == ErrorCode.INVALID_ARGUMENT
    assert wire.frames[-1][0] == codec.KILL
    assert small not in failed
    wire.send(failure(small, 0, ErrorCode.CANCELLED))
    event = wire.events(ResponseFailed)[-1]
    assert (event.outcome, event.code) == (Outcome.FAILED, ErrorCode.MESSAGE_TOO_LARGE)


# -- places ----------------------------------------------------------------------------------------


def test_requests_wait_for_places_in_order() -> None:
    wire = client(peer={"max_concurrent_requests": 100})
    core = wire.core
    ids = [core.open(b"a", now=0.0, data=b"x") for _ in range(103)]
    wire.pull()
    assert opens(wire) == ids[:100]
    assert core.waiting_requests == 3
    for request_id in ids[:100]:
        core.kill(request_id)
    wire.pull()
    assert len(opens(wire)) == 100  # killed requests keep their places
    core.kill(ids[101])
    wire.send(failure(ids[7], 0, ErrorCode.CANCELLED))
    assert opens(wire)[100:] == [ids[100]]
    wire.send(response(ids[8], 0, b"", END_STREAM))
    assert opens(wire)[100:] == [ids[100], ids[102]]
    assert core.waiting_requests == 0


# -- receiving -------------------------------------------------------------------------------------


def test_headers_messages_trailers() -> None:
    wire = client()
    request_id = start(wire)
    head = codec.encode_response_meta([(b"a", b"1")])
    tail = codec.encode_response_meta([(b"b", b"2")])
    wire.send(
        response(request_id, 0, head + b"one", META),
        response(request_id, 1, b"two"),
        response(request_id, 2, tail, META | END_STREAM),
    )
    assert wire.one(ResponseHeaders).headers == [(b"a", b"1")]
    assert [e.data for e in wire.events(MessageReceived)] == [b"one", b"two"]
    assert wire.one(ResponseFinished).trailers == [(b"b", b"2")]
    assert wire.core.open_requests == 0


def test_a_terminal_stops_the_sending() -> None:
    wire = client()
    request_id = start(wire, bytes(1 << 20), end=False)
    before = len(wire.stream(request_id))
    wire.send(
        response(request_id, 0, b"", END_STREAM), codec.encode_window_update(request_id, 1 << 30)
    )
    assert len(wire.stream(request_id)) == before
    assert wire.core.buffered_bytes == 0


def test_what_was_not_taken_still_holds_credit_after_the_end() -> None:
    wire = client(connection_window=1 << 20)
    core = wire.core
    request_id = start(wire)
    wire.send(response(request_id, 0, bytes(1_000)), response(request_id, 1, b"", END_STREAM))
    cost = wire.one(MessageReceived).cost
    assert core.buffered_bytes == cost == 1_032
    core.consumed(request_id, 32)
    with pytest.raises(LocalProtocolError):
        core.consumed(request_id, 1_001)
    core.consumed(request_id, 1_000)
    assert core.buffered_bytes == 0
    assert not core._unread


def test_a_stalled_response_leaves_the_rest_of_the_connection() -> None:
    wire = client(connection_window=1 << 20, initial_stream_window=65_536)
    ids = [start(wire) for _ in range(60)]
    for request_id in ids:
        wire.send(response(request_id, 0, bytes(60_000)))
    other = start(wire)
    wire.send(response(other, 0, b"hi", END_STREAM))
    assert wire.events(MessageReceived)[-1].data == b"hi"


def test_a_response_longer_than_the_window_passes_while_it_is_awaited() -> None:
    wire = client(initial_stream_window=65_536)
    request_id = wire.core.open(b"a", now=0.0, data=b"x", awaiting=True)
    wire.pull()
    for seq in range(200):
        wire.send(response(request_id, seq, bytes(10_000), MORE))
    wire.send(response(request_id, 200, b"", END_STREAM))
    assert len(wire.one(MessageReceived).data) == 2_000_000


def test_an_error_says_what_the_worker_said() -> None:
    wire = client()
    request_id = start(wire)
    body = codec.encode_error_body(0x8000_0001, 0xFFF2, 50, b"\xffno", b"detail")
    wire.send(response(request_id, 0, b"m"), response(request_id, 1, body, END_STREAM | ERROR))
    event = wire.one(ResponseFailed)
    assert event.outcome is Outcome.FAILED
    assert (event.code, event.error_flags, event.retry_after_ms) == (0x8000_0001, 0xFFF2, 50)
    assert (event.message, event.detail) == ("\N{REPLACEMENT CHARACTER}no", b"detail")
    assert (event.messages, event.local) == (1, False)


def test_a_refusal_is_not_processed() -> None:
    wire = client()
    request_id = start(wire)
    wire.send(failure(request_id, 0, ErrorCode.OVERLOADED, 1))
    assert wire.one(ResponseFailed).outcome is Outcome.NOT_PROCESSED


# -- STOP and KILL ---------------------------------------------------------------------------------


def test_stop_is_sent_once_and_never_before_the_open() -> None:
    wire = client()
    core = wire.core
    request_id = core.open(b"a", now=0.0, data=b"x")
    core.open(b"a", now=0.0, data=b"y")
    core.stop(request_id, 5)
    core.stop(request_id, 6)
    kinds = [(f[0], f[3] == request_id) for f in wire.pull()]
    assert kinds == [(codec.REQUEST, True), (codec.STOP, True), (codec.REQUEST, False)]
    core.stop(request_id, 7)
    core.stop(bytes(16))
    assert wire.pull() == []


def test_a_kill_before_the_open_leaves_no_trace() -> None:
    wire = client()
    core = wire.core
    request_id = core.open(b"a", now=0.0, data=b"x")
    core.stop(request_id)
    core.kill(request_id, 7)
    assert wire.pull() == []
    event = wire.one(ResponseFailed)
    assert (event.outcome, event.code, event.local) == (
        Outcome.NOT_SENT,
        ErrorCode.CANCELLED,  # the reason is for the worker; a kill has one code, sent or not
        True,
    )
    core.kill(request_id)
    core.kill(bytes(16))


def test_a_kill_in_the_middle_of_the_request_body() -> None:
    wire = client()
    request_id = start(wire, bytes(1 << 20), end=False)
    wire.core.kill(request_id, 7)
    wire.core.kill(request_id, 8)
    wire.core.stop(request_id)
    (frame,) = wire.pull()
    assert (frame[0], codec.decode_kill(frame[4])) == (codec.KILL, 7)
    with pytest.raises(RequestClosed):
        wire.core.send_message(request_id, b"")


@pytest.mark.parametrize(
    ("flags", "payload", "code", "local"),
    [
        (END_STREAM, b"", ErrorCode.CANCELLED, True),
        (END_STREAM, b"last", ErrorCode.CANCELLED, True),
        (
            END_STREAM | ERROR,
            codec.encode_error_body(ErrorCode.SHUTDOWN, 0, 0, b""),
            ErrorCode.SHUTDOWN,
            False,
        ),
    ],
)
def test_a_killed_request_never_succeeds(
    flags: int, payload: bytes, code: ErrorCode, local: bool
) -> None:
    wire = client()
    request_id = start(wire)
    wire.send(response(request_id, 0, b"one"))
    wire.core.kill(request_id)
    wire.send(response(request_id, 1, b"two"), response(request_id, 2, payload, flags))
    assert [e.data for e in wire.events(MessageReceived)] == [b"one"]
    event = wire.one(ResponseFailed)
    assert (event.outcome, event.code, event.local) == (Outcome.FAILED, code, local)
    wire.core.consumed(request_id, wire.one(MessageReceived).cost)
    assert wire.core.buffered_bytes == 0


def test_discarded_responses_keep_their_sequence() -> None:
    wire = client()
    request_id = start(wire)
    wire.core.kill(request_id)
    wire.send(response(request_id, 1, b"x"))
    wire.assert_violation(ErrorCode.SEQUENCE_ERROR, "FRM-010")


def test_exhausted_sequence_numbers_kill_the_request() -> None:
    wire = client()
    request_id = start(wire, end=False)
    wire.core._requests[request_id].queue.seq = 2**32 - 2
    wire.core.send_message(request_id, b"x")
    wire.pull()
    assert wire.frames[-1][0] == codec.KILL


@pytest.mark.parametrize("reason", [-1, 2**32])
def test_a_reason_is_a_u32(reason: int) -> None:
    wire = client()
    request_id = start(wire)
    with pytest.raises(InvalidArgument):
        wire.core.stop(request_id, reason)
    with pytest.raises(InvalidArgument):
        wire.core.kill(request_id, reason)


# -- deadlines -------------------------------------------------------------------------------------


def test_a_deadline_kills_a_while_later_and_gives_up_at_last() -> None:
    wire = client(peer=FAR, idle_timeout_ms=600_000)
    request_id = start(wire, timeout_ms=1_000)
    wire.advance(1.49)
    assert len(wire.frames) == 3
    (kill,) = wire.advance(0.5)
    assert codec.decode_kill(kill[4]) == ErrorCode.DEADLINE_EXCEEDED
    assert not wire.events(ResponseFailed)
    wire.advance(1.0)
    event = wire.one(ResponseFailed)
    assert (event.outcome, event.code) == (Outcome.AMBIGUOUS, ErrorCode.DEADLINE_EXCEEDED)
    assert wire.core.open_requests == 1  # the place stays taken
    wire.send(failure(request_id, 0, ErrorCode.CANCELLED))
    assert len(wire.events(ResponseFailed)) == 1
    assert wire.core.open_requests == 0


def test_a_terminal_after_the_deadline_s_kill() -> None:
    wire = client(peer=FAR, idle_timeout_ms=600_000)
    request_id = start(wire, timeout_ms=1_000)
    wire.advance(2.0)
    wire.send(failure(request_id, 0, ErrorCode.CANCELLED))
    event = wire.one(ResponseFailed)
    assert (event.outcome, event.code, event.local) == (
        Outcome.FAILED,
        ErrorCode.DEADLINE_EXCEEDED,
        True,
    )
    assert len(wire.core._timers) == 0


def test_a_deadline_withdraws_what_was_not_sent() -> None:
    wire = client(peer=FAR | {"max_concurrent_requests": 100}, idle_timeout_ms=600_000)
    for _ in range(100):
        start(wire)
    late = start(wire, timeout_ms=500)
    wire.advance(0.5)
    event = wire.one(ResponseFailed)
    assert (event.request_id, event.outcome) == (late, Outcome.NOT_SENT)
    assert event.code == ErrorCode.DEADLINE_EXCEEDED


def test_an_answer_in_time_disarms_the_deadline() -> None:
    wire = client(peer=FAR, idle_timeout_ms=600_000)
    request_id = start(wire, timeout_ms=500)
    wire.send(response(request_id, 0, b"", END_STREAM))
    wire.advance(10.0)
    assert len(wire.frames) == 3


# -- classes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "outcome", "messages"),
    [
        ([], Outcome.AMBIGUOUS, 0),
        ([(b"one", 0)], Outcome.PARTIAL, 1),
        ([(codec.encode_response_meta([]), META)], Outcome.PARTIAL, 0),
        ([(b"one", 0), (b"tw", MORE)], Outcome.PARTIAL, 1),
    ],
)
@pytest.mark.parametrize("cut", [0, 31])
def test_the_class_after_a_loss(
    frames: list[tuple[bytes, int]], outcome: Outcome, messages: int, cut: int
) -> None:
    wire = client()
    request_id = start(wire)
    for seq, (payload, flags) in enumerate(frames):
        wire.send(response(request_id, seq, payload, flags))
    wire.send(response(request_id, len(frames), b"", END_STREAM)[:cut])
    wire.core.receive_eof(0.0)
    wire.pull()
    event = wire.one(ResponseFailed)
    assert (event.outcome, event.messages, event.code) == (outcome, messages, None)
    assert wire.core.close_action is CloseAction.CLOSE
    assert wire.ended.lost == 1
    assert type(wire.seen[-1]) is type(wire.ended)


def test_a_violating_response_counts_as_received() -> None:
    wire = client()
    request_id = start(wire)
    wire.send(response(request_id, 0, b"\0", META))
    assert wire.one(ResponseFailed).outcome is Outcome.PARTIAL
    other = client()
    other_id = start(other)
    other.send(response(other_id, 5))
    assert other.one(ResponseFailed).outcome is Outcome.PARTIAL


def test_an_unsent_request_is_not_sent() -> None:
    wire = client()
    wire.core.open(b"a", now=0.0, data=b"x")
    wire.core.receive_eof(0.0)
    wire.pull()
    assert wire.one(ResponseFailed).outcome is Outcome.NOT_SENT


# -- GOAWAY ----------------------------------------------------------------------------------------


def test_a_drain_closes_what_it_does_not_cover() -> None:
    wire = client(peer={"max_concurrent_requests": 100} | FAR, idle_timeout_ms=600_000)
    core = wire.core
    ids = [start(wire) for _ in range(101)]
    wire.send(codec.encode_goaway(0, 99, 5_000, b"drain"))
    assert wire.one(GoawayReceived).last_ordinal == 99
    failed = {e.request_id: e.outcome for e in wire.events(ResponseFailed)}
    assert failed == {ids[99]: Outcome.NOT_PROCESSED, ids[100]: Outcome.NOT_SENT}
    assert not core.accepting
    with pytest.raises(ConnectionClosed):
        core.open(b"a", now=0.0)
    wire.send(failure(ids[99], 0, ErrorCode.DRAINING, 1))  # ignored, once
    assert wire.core.close_action is CloseAction.NONE
    for request_id in ids[:99]:
        wire.send(response(request_id, 0, b"m", END_STREAM))
    assert len(wire.events(MessageReceived)) == 99
    wire.advance(1.99)
    assert wire.core.close_action is CloseAction.NONE
    wire.advance(0.01)
    assert wire.core.close_action is CloseAction.CLOSE
    assert wire.ended.by_peer


@pytest.mark.parametrize("second", ["draining", "data"])
def test_only_one_draining_is_forgiven(second: str) -> None:
    wire = client()
    request_id = start(wire)
    wire.send(codec.encode_goaway(0, 0, 5_000, b""))
    if second == "draining":
        wire.send(failure(request_id, 0, ErrorCode.DRAINING, 1))
        wire.send(failure(request_id, 0, ErrorCode.DRAINING, 1))
    else:
        wire.send(response(request_id, 0, b"x"))
    wire.assert_violation(ErrorCode.PROTOCOL_ERROR, "RID-004")


def test_the_smallest_last_ordinal_counts() -> None:
    wire = client()
    ids = [start(wire) for _ in range(3)]
    wire.send(codec.encode_goaway(0, 3, 5_000, b""), codec.encode_goaway(0, 1, 5_000, b""))
    assert {e.request_id for e in wire.events(ResponseFailed)} == set(ids[1:])
    wire.send(codec.encode_goaway(0, 9, 5_000, b""), response(ids[1], 0))
    wire.assert_violation(ErrorCode.PROTOCOL_ERROR, "RID-004")


def test_an_error_goaway_is_read_to_the_end() -> None:
    wire = client()
    ids = [start(wire) for _ in range(3)]
    wire.send(codec.encode_goaway(ErrorCode.INTERNAL_ERROR, 2, 0, b"oops"))
    assert wire.one(ResponseFailed).outcome is Outcome.NOT_PROCESSED
    wire.send(response(ids[0], 0, b"x", END_STREAM))
    assert wire.one(MessageReceived).ended
    wire.advance(0.99)
    assert wire.core.close_action is CloseAction.NONE
    wire.advance(0.01)
    assert wire.core.close_action is CloseAction.CLOSE
    event = wire.events(ResponseFailed)[-1]
    assert (event.request_id, event.outcome, event.code) == (
        ids[1],
        Outcome.AMBIGUOUS,
        ErrorCode.INTERNAL_ERROR,
    )
    assert (wire.ended.code, wire.ended.by_peer) == (ErrorCode.INTERNAL_ERROR, True)


def test_leaving_in_order() -> None:
    wire = client(peer={"max_concurrent_requests": 100})
    core = wire.core
    ids = [start(wire) for _ in range(101)]
    core.goaway()
    core.goaway()
    assert [f[0] for f in wire.pull()] == [codec.GOAWAY]
    assert wire.one(ResponseFailed).outcome is Outcome.NOT_SENT
    assert not core.accepting
    for request_id in ids[:100]:
        wire.send(response(request_id, 0, b"", END_STREAM))
    assert wire.core.close_action is CloseAction.CLOSE
    assert (wire.ended.code, wire.ended.by_peer, wire.ended.lost) == (0, False, 0)


def test_leaving_at_once() -> None:
    wire = client()
    start(wire)
    wire.core.close(0.0)
    wire.pull()
    assert wire.goaway is not None
    assert wire.one(ResponseFailed).outcome is Outcome.AMBIGUOUS
    assert wire.one(ResponseFailed).code is None
    assert wire.core.close_action is CloseAction.CLOSE
    wire.core.close(0.0)
    wire.core.goaway()
    assert wire.pull() == []


@pytest.mark.parametrize("code", [ErrorCode.INTERNAL_ERROR, 0x10C, 0xFFFF, 0x8000_0001])
def test_an_unknown_code_in_an_error_body_fails_its_request_only(code: int) -> None:
    """PAY-008: the code of a connection is unknown there as well."""
    wire = client()
    request_id = wire.core.open(b"a", now=0.0, data=b"")
    wire.pull()
    wire.send(failure(request_id, 0, code))
    event = wire.one(ResponseFailed)
    assert (event.outcome, event.code, event.local) == (Outcome.FAILED, code, False)
    assert wire.core.accepting


@pytest.mark.parametrize("code", [0x09, 0x77, 0x0A0A, ErrorCode.CANCELLED, 0xFFFF_FFFF])
def test_an_unknown_code_in_a_goaway_ends_the_connection_like_any_other(code: int) -> None:
    """PAY-008."""
    wire = client()
    request_id = wire.core.open(b"a", now=0.0, data=b"")
    wire.pull()
    wire.send(codec.encode_goaway(code, 1, 0, b""))
    wire.advance(1.0)
    event = wire.one(ResponseFailed)
    assert (event.request_id, event.outcome, event.code) == (request_id, Outcome.AMBIGUOUS, code)
    assert wire.core.close_action is CloseAction.CLOSE
