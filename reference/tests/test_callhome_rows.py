"""Every row of the four call-home tables that can be met is met (chapter 21.8).

A row is driven by public calls and by octets.  The next state is read off `state`; the effect of a
connection off what it writes and how it closes, that of a stream off its events and its queue.
"""

from __future__ import annotations

from collections.abc import Callable

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
    frames,
    pull,
    response,
    worker_stream,
)
from muxwire._generated import codec
from muxwire._generated import machines as m
from muxwire._generated.registries import END_STREAM, ERROR, NOT_PROCESSED, ErrorCode
from muxwire.core.callhome import CallHome, RouterEnd, RouterStream, WorkerEnd, WorkerStream
from muxwire.core.closing import CloseAction
from muxwire.core.events import ConnectionEnded, HandlerCancelled, ResponseFailed, StopReceived
from muxwire.errors import Outcome

LATER = START + 1_000
GONE = codec.encode_error_body(ErrorCode.OVERLOADED, NOT_PROCESSED, 0, b"")
WRONG = codec.encode_error_body(ErrorCode.APPLICATION_ERROR, 0, 0, b"")


def met(table: tuple[tuple[m.Row, ...], ...]) -> list[tuple[int, int]]:
    return [
        (state, input_)
        for state, rows in enumerate(table)
        for input_, row in enumerate(rows)
        if row.effect != m.EFFECT_NONE
    ]


def closes(effect: int) -> CloseAction:
    if effect == m.EFFECT_ABORT:
        return CloseAction.ABORT
    return CloseAction.LINGER if effect == m.EFFECT_REFUSE else CloseAction.CLOSE


def check_connection(end: CallHome, row: m.Row, before: bytes = b"") -> None:
    """Hold the state, the way of closing and the octets of a connection to its row."""
    assert end.state == row.state
    last = len(end.table) - 1
    assert end.close_action is (closes(row.effect) if row.state == last else CloseAction.NONE)
    ended = [event for event in end.events() if isinstance(event, ConnectionEnded)]
    assert len(ended) == (row.state == last)
    kinds = [(type_, subtype) for type_, subtype, _ in frames(before + pull(end, LATER))]
    if row.effect == m.EFFECT_PONG:
        assert kinds == [(4, 2)]
    elif row.effect in (m.EFFECT_CLOSE, m.EFFECT_LOSE, m.EFFECT_BREAK, m.EFFECT_ABORT):
        assert not kinds  # P0-012: without a frame


# -- the worker's connection -----------------------------------------------------------------------


def worker_in(state: int) -> WorkerEnd:
    end = WorkerEnd(START)
    pull(end, START)
    if state > m.WCH_WORKER_CONNECTION_CONNECTING:
        end.receive_data(PREFACE, START)
    if state > m.WCH_WORKER_CONNECTION_IDLE:
        stream = worker_stream()
        stream.attempt(START)
        end.hello(stream, START)
    if state > m.WCH_WORKER_CONNECTION_HELLO_SENT:
        end.receive_data(ACCEPT, START)
    if state > m.WCH_WORKER_CONNECTION_STREAMING:
        assert end.stream
        end.stream.finish()
    pull(end, START)
    end.events()
    assert end.state == state
    return end


def octets(data: bytes) -> Callable[[CallHome], None]:
    return lambda end: end.receive_data(data, START)


def elapse(end: CallHome) -> None:
    """Let the shortest of its times pass."""
    when = end.next_timeout()
    assert when is not None
    end.handle_timeout(when)


def wait(end: CallHome, seconds: float) -> None:
    """Let time pass; the peer is heard, and takes what is written."""
    for step in range(1, round(seconds) + 1):
        end.receive_data(codec.encode_ping(bytes(8)), START + step)
        pull(end, START + step)
        end.handle_timeout(START + step)


def terminal(end: CallHome) -> None:
    assert isinstance(end, WorkerEnd)
    assert end.stream
    end.stream.finish()
    pull(end, START)


def hello_of_a_stream(end: CallHome) -> None:
    assert isinstance(end, WorkerEnd)
    end.hello(worker_stream(), START)


WORKER_ACTIONS: dict[int, Callable[[WorkerEnd], None]] = {
    m.IN_WCH_WORKER_CONNECTION_PREFACE_GOOD: octets(PREFACE),
    m.IN_WCH_WORKER_CONNECTION_PREFACE_BAD: octets(b"HTTP/1.1"),
    m.IN_WCH_WORKER_CONNECTION_CONNECT_TIMEOUT: elapse,
    m.IN_WCH_WORKER_CONNECTION_LOCAL_HELLO: hello_of_a_stream,
    m.IN_WCH_WORKER_CONNECTION_ACCEPT: octets(ACCEPT),
    m.IN_WCH_WORKER_CONNECTION_REJECT: octets(codec.encode_reject(ME, ErrorCode.NOT_FOUND)),
    m.IN_WCH_WORKER_CONNECTION_DONE: octets(DONE),
    m.IN_WCH_WORKER_CONNECTION_STOP: octets(codec.encode_stop(ME, 1)),
    m.IN_WCH_WORKER_CONNECTION_KILL: octets(codec.encode_kill(ME, 1)),
    m.IN_WCH_WORKER_CONNECTION_STALE: octets(codec.encode_kill(OTHER, 1)),
    m.IN_WCH_WORKER_CONNECTION_PING: octets(codec.encode_ping(bytes(8))),
    m.IN_WCH_WORKER_CONNECTION_SKIPPED: octets(codec.encode_pong(bytes(8))),
    m.IN_WCH_WORKER_CONNECTION_FAULT: octets(codec.encode_accept(OTHER)),
    m.IN_WCH_WORKER_CONNECTION_EOF: lambda end: end.receive_eof(START),
    m.IN_WCH_WORKER_CONNECTION_SILENT: lambda end: end.handle_timeout(START + 60),
    m.IN_WCH_WORKER_CONNECTION_UNANSWERED: lambda end: wait(end, 5.0),
    m.IN_WCH_WORKER_CONNECTION_UNCONFIRMED: lambda end: wait(end, 5.0),
    m.IN_WCH_WORKER_CONNECTION_TERMINAL: terminal,
    m.IN_WCH_WORKER_CONNECTION_LOCAL_GIVE_UP: lambda end: end.give_up(START),
    m.IN_WCH_WORKER_CONNECTION_LOCAL_RETIRE: lambda end: end.retire(START),
}


@pytest.mark.parametrize(
    ("state", "input_"),
    [row for row in met(m.WCH_WORKER_CONNECTION) if row[1] in WORKER_ACTIONS],
)
def test_the_workers_connection(state: int, input_: int) -> None:
    end = worker_in(state)
    WORKER_ACTIONS[input_](end)
    check_connection(end, m.WCH_WORKER_CONNECTION[state][input_])


STALLED = m.IN_WCH_WORKER_CONNECTION_STALLED


@pytest.mark.parametrize("state", [s for s, i in met(m.WCH_WORKER_CONNECTION) if i == STALLED])
def test_a_router_that_takes_no_octet(state: int) -> None:  # P0-013
    idle_ms = 2_000
    end = WorkerEnd(START)
    pull(end, START)
    end.receive_data(codec.encode_wch_preface(1, 1, idle_ms), START)
    if state > m.WCH_WORKER_CONNECTION_IDLE:
        end.hello(worker_stream(), START)
    if state > m.WCH_WORKER_CONNECTION_HELLO_SENT:
        end.receive_data(ACCEPT, START)
    pull(end, START)
    if state > m.WCH_WORKER_CONNECTION_STREAMING:
        assert end.stream
        end.stream.finish()
        pull(end, START)
    end.receive_data(codec.encode_ping(bytes(8)), START)
    assert end.data_to_send(START)  # the PONG, which nobody takes
    end.handle_timeout(START + 1.9)
    assert end.state == state
    end.handle_timeout(START + 2.0)
    check_connection(end, m.WCH_WORKER_CONNECTION[state][STALLED])


# -- the router's connection -----------------------------------------------------------------------


class Registry:
    """Judges as a listener does."""

    def __init__(self) -> None:
        self.streams: dict[bytes, RouterStream] = {}

    def judge(self, request_id: bytes, token: bytes) -> RouterStream | int:
        stream = self.streams.get(request_id)
        if stream is None or stream.token != token:
            return ErrorCode.NOT_FOUND
        return stream.verdict_on_hello or stream


def posted(request_id: bytes = ME) -> RouterStream:
    stream = RouterStream(request_id, TOKEN)
    stream.posted()
    return stream


def router_in(state: int) -> RouterEnd:
    registry = Registry()
    registry.streams = {ME: posted(), OTHER: posted(OTHER)}
    registry.streams[OTHER].kill(0, START)
    end = RouterEnd(registry.judge, START)
    if state > m.WCH_ROUTER_CONNECTION_PREFACE:
        end.receive_data(PREFACE, START)
    if state > m.WCH_ROUTER_CONNECTION_IDLE:
        end.receive_data(HELLO, START)
    pull(end, START)
    end.events()
    assert end.state == state
    return end


def two_wrong_tokens(end: RouterEnd) -> None:
    if end.state == m.WCH_ROUTER_CONNECTION_IDLE:
        end.receive_data(2 * codec.encode_hello(ME, bytes(16)), START)
        assert [kind[:2] for kind in frames(pull(end, START))] == [(3, 0x22)] * 2
    end.receive_data(codec.encode_hello(ME, bytes(16)), START)


def supersede(end: RouterEnd) -> None:
    other = RouterEnd(lambda *_: end.stream or 0, START)
    other.receive_data(PREFACE + HELLO, START)
    assert other.state == m.WCH_ROUTER_CONNECTION_STREAMING


def router_stalls(end: RouterEnd) -> None:
    end.receive_data(codec.encode_ping(bytes(8)), START)
    assert end.data_to_send(START)
    end.receive_data(codec.encode_pong(bytes(8)), START + 59)
    end.handle_timeout(START + 60)


ROUTER_ACTIONS: dict[int, Callable[[RouterEnd], None]] = {
    m.IN_WCH_ROUTER_CONNECTION_MAGIC_WRONG: octets(b"GET / HTTP/1.1\r\n"),
    m.IN_WCH_ROUTER_CONNECTION_PREFACE_GOOD: octets(PREFACE),
    m.IN_WCH_ROUTER_CONNECTION_PREFACE_UNSERVED: octets(codec.encode_wch_preface(9, 7, 0)),
    m.IN_WCH_ROUTER_CONNECTION_TIMEOUT: elapse,
    m.IN_WCH_ROUTER_CONNECTION_HELLO_KNOWN: octets(HELLO),
    m.IN_WCH_ROUTER_CONNECTION_HELLO_CANCELLED: octets(codec.encode_hello(OTHER, TOKEN)),
    m.IN_WCH_ROUTER_CONNECTION_HELLO_UNKNOWN: octets(codec.encode_hello(ME, bytes(16))),
    m.IN_WCH_ROUTER_CONNECTION_HELLO_THIRD: two_wrong_tokens,
    m.IN_WCH_ROUTER_CONNECTION_RESPONSE: octets(response(0, b"a")),
    m.IN_WCH_ROUTER_CONNECTION_TERMINAL: octets(response(0, b"a", END_STREAM)),
    m.IN_WCH_ROUTER_CONNECTION_PING: octets(codec.encode_ping(bytes(8))),
    m.IN_WCH_ROUTER_CONNECTION_SKIPPED: octets(codec.encode_pong(bytes(8))),
    m.IN_WCH_ROUTER_CONNECTION_FAULT: octets(response(7, b"a")),
    m.IN_WCH_ROUTER_CONNECTION_EOF: lambda end: end.receive_eof(START),
    m.IN_WCH_ROUTER_CONNECTION_SILENT: lambda end: end.handle_timeout(START + 60),
    m.IN_WCH_ROUTER_CONNECTION_STALLED: router_stalls,
    m.IN_WCH_ROUTER_CONNECTION_SUPERSEDED: supersede,
    m.IN_WCH_ROUTER_CONNECTION_LOCAL_CLOSE: lambda end: end.close(START),
}


@pytest.mark.parametrize(("state", "input_"), met(m.WCH_ROUTER_CONNECTION))
def test_the_routers_connection(state: int, input_: int) -> None:
    end = router_in(state)
    ROUTER_ACTIONS[input_](end)
    row = m.WCH_ROUTER_CONNECTION[state][input_]
    written = pull(end, START)
    if row.effect == m.EFFECT_ANSWER:
        assert written == PREFACE
    elif row.effect == m.EFFECT_REFUSE and not state:
        assert written[:12] == PREFACE[:12]
    elif row.effect == m.EFFECT_REFUSE:  # P0-018
        assert [kind[:2] for kind in frames(written)] == [(3, 0x22)]
        cancelled = input_ == m.IN_WCH_ROUTER_CONNECTION_HELLO_CANCELLED
        expected = ErrorCode.CANCELLED if cancelled else ErrorCode.NOT_FOUND
        assert codec.decode_reject(written[-4:]) == expected
    elif row.effect == m.EFFECT_BIND:
        assert written == ACCEPT
    elif row.effect == m.EFFECT_CONFIRM:
        assert written == DONE  # P0-008
    elif row.effect != m.EFFECT_PONG:
        assert not written
    check_connection(end, row, written if row.effect == m.EFFECT_PONG else b"")


# -- the worker's stream ---------------------------------------------------------------------------


def there(state: int) -> WorkerStream:
    stream = worker_stream(timeout_ms=50_000)
    stream.attempt(START)
    if state:
        stream.lent()
    if state in (m.WCH_WORKER_STREAM_GREETING_KILLED, m.WCH_WORKER_STREAM_STREAMING_KILLED):
        stream.kill(START)
    if state >= m.WCH_WORKER_STREAM_STREAMING:
        stream.accept()
    stream.events()
    assert stream.state == state
    return stream


def third_attempt(stream: WorkerStream) -> None:
    stream.attempt(START)
    stream.attempt(START)
    assert not stream.failed(START)


THERE_ACTIONS: dict[int, Callable[[WorkerStream], object]] = {
    m.IN_WCH_WORKER_STREAM_LENT: lambda stream: stream.lent(),
    m.IN_WCH_WORKER_STREAM_UNPLACED: lambda stream: stream.unplaced(),
    m.IN_WCH_WORKER_STREAM_FAILED: lambda stream: stream.failed(START),
    m.IN_WCH_WORKER_STREAM_FAILED_LAST: third_attempt,
    m.IN_WCH_WORKER_STREAM_ACCEPT: lambda stream: stream.accept(),
    m.IN_WCH_WORKER_STREAM_REJECT: lambda stream: stream.reject(),
    m.IN_WCH_WORKER_STREAM_STOP: lambda stream: stream.stop(1),
    m.IN_WCH_WORKER_STREAM_KILL: lambda stream: stream.kill(START),
    m.IN_WCH_WORKER_STREAM_DEADLINE: lambda stream: stream.shut_down(),
    m.IN_WCH_WORKER_STREAM_TERMINAL: lambda stream: stream.written(),
    m.IN_WCH_WORKER_STREAM_LOST: lambda stream: stream.lose(),
}


@pytest.mark.parametrize(("state", "input_"), met(m.WCH_WORKER_STREAM))
def test_the_workers_stream(state: int, input_: int) -> None:
    stream = there(state)
    THERE_ACTIONS[input_](stream)
    row = m.WCH_WORKER_STREAM[state][input_]
    assert stream.state == row.state
    events = stream.events()
    was_cancelled = state in (
        m.WCH_WORKER_STREAM_GREETING_KILLED,
        m.WCH_WORKER_STREAM_STREAMING_KILLED,
    )
    if row.effect in (m.EFFECT_CANCEL, m.EFFECT_FORGET) and not was_cancelled:
        assert [type(event) for event in events] == [HandlerCancelled]
    elif row.effect == m.EFFECT_NOTIFY_STOP:
        assert [type(event) for event in events] == [StopReceived]
    else:
        assert not events


# -- the router's stream ---------------------------------------------------------------------------


class Wire:
    """Notes what a stream commands its connection."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def send_stop(self, *_: object) -> None:
        self.done.append("stop")

    def send_kill(self, *_: object) -> None:
        self.done.append("kill")

    def superseded(self, *_: object) -> None:
        self.done.append("superseded")

    def close(self, *_: object) -> None:
        self.done.append("close")

    def unread_changed(self, *_: object) -> None:
        pass


def here(state: int) -> tuple[RouterStream, Wire]:
    stream, wire = RouterStream(ME, TOKEN), Wire()
    if state == m.WCH_ROUTER_STREAM_VOID:
        stream.kill(0, START)
    elif state:
        stream.posted()
    if state == m.WCH_ROUTER_STREAM_REGISTERED:
        stream.admitted(START)
    if state == m.WCH_ROUTER_STREAM_CANCELLED:
        stream.kill(0, START)
    if m.WCH_ROUTER_STREAM_ACCEPTED <= state <= m.WCH_ROUTER_STREAM_KILLED_RESPONDING:
        stream.bind(wire, START)
    if state in (m.WCH_ROUTER_STREAM_RESPONDING, m.WCH_ROUTER_STREAM_KILLED_RESPONDING):
        stream.respond(0, 0, b"first", START)
    if state in (m.WCH_ROUTER_STREAM_KILLED, m.WCH_ROUTER_STREAM_KILLED_RESPONDING):
        stream.kill(0, START)
    stream.events()
    wire.done.clear()
    assert stream.state == state
    return stream, wire


def respond(flags: int, payload: bytes) -> Callable[[RouterStream], None]:
    def act(stream: RouterStream) -> None:
        responding = stream.state in (
            m.WCH_ROUTER_STREAM_RESPONDING,
            m.WCH_ROUTER_STREAM_KILLED_RESPONDING,
        )
        stream.respond(flags, int(responding), payload, START)

    return act


def lose_late(stream: RouterStream) -> None:
    stream.admitted(START)
    stream.handle_timeout(START + LIFETIME)
    stream.lose(START + LIFETIME, "lost")


def expire(stream: RouterStream) -> None:
    if stream.state in (m.WCH_ROUTER_STREAM_CANCELLED, m.WCH_ROUTER_STREAM_REGISTERED):
        stream.handle_timeout(START + LIFETIME)
    else:
        stream.admitted(START + 3 - LIFETIME)
        stream.handle_timeout(START + 3)


def hello(stream: RouterStream) -> None:
    if not stream.verdict_on_hello:
        stream.bind(Wire(), START)


HERE_ACTIONS: dict[int, Callable[[RouterStream], object]] = {
    m.IN_WCH_ROUTER_STREAM_POSTED: lambda stream: stream.posted(),
    m.IN_WCH_ROUTER_STREAM_ADMITTED: lambda stream: stream.admitted(START),
    m.IN_WCH_ROUTER_STREAM_REFUSED: lambda stream: stream.refused(ErrorCode.OVERLOADED, ""),
    m.IN_WCH_ROUTER_STREAM_UNCLEAR: lambda stream: stream.unclear("502"),
    m.IN_WCH_ROUTER_STREAM_HELLO: hello,
    m.IN_WCH_ROUTER_STREAM_RESPONSE: respond(0, b"a"),
    m.IN_WCH_ROUTER_STREAM_SUCCESS: respond(END_STREAM, b"a"),
    m.IN_WCH_ROUTER_STREAM_ERROR: respond(END_STREAM | ERROR, WRONG),
    m.IN_WCH_ROUTER_STREAM_ERROR_NOT_PROCESSED: respond(END_STREAM | ERROR, GONE),
    m.IN_WCH_ROUTER_STREAM_LOST: lambda stream: stream.lose(START, "lost"),
    m.IN_WCH_ROUTER_STREAM_LOST_LATE: lose_late,
    m.IN_WCH_ROUTER_STREAM_EXPIRED: expire,
    m.IN_WCH_ROUTER_STREAM_LOCAL_STOP: lambda stream: stream.stop(1),
    m.IN_WCH_ROUTER_STREAM_LOCAL_KILL: lambda stream: stream.kill(1, START),
}
CLASSES = {
    m.EFFECT_NOT_SENT: Outcome.NOT_SENT,
    m.EFFECT_NOT_PROCESSED: Outcome.NOT_PROCESSED,
    m.EFFECT_AMBIGUOUS: Outcome.AMBIGUOUS,
    m.EFFECT_FAILED: Outcome.FAILED,
    m.EFFECT_PARTIAL: Outcome.PARTIAL,
}
UNANSWERED = m.IN_WCH_ROUTER_STREAM_UNANSWERED


@pytest.mark.parametrize(
    ("state", "input_"), [row for row in met(m.WCH_ROUTER_STREAM) if row[1] in HERE_ACTIONS]
)
def test_the_routers_stream(state: int, input_: int) -> None:  # P0-019
    stream, wire = here(state)
    HERE_ACTIONS[input_](stream)
    check_here(stream, wire, m.WCH_ROUTER_STREAM[state][input_], state)


@pytest.mark.parametrize(
    "state", [m.WCH_ROUTER_STREAM_KILLED, m.WCH_ROUTER_STREAM_KILLED_RESPONDING]
)
def test_the_patience_with_a_killed_stream(state: int) -> None:
    stream, wire = here(state)
    stream.handle_timeout(START + 4.9)
    assert stream.state == state
    stream.handle_timeout(START + 5)
    check_here(stream, wire, m.WCH_ROUTER_STREAM[state][UNANSWERED], state)
    assert wire.done == ["close"]


def check_here(stream: RouterStream, wire: Wire, row: m.Row, state: int) -> None:
    assert stream.state == row.state
    events = stream.events()
    failed = [event for event in events if isinstance(event, ResponseFailed)]
    assert [event.outcome for event in failed] == [
        CLASSES[row.effect] for _ in [row] if row.effect in CLASSES
    ]
    if row.effect == m.EFFECT_SUCCEED:
        assert events
        assert events[-1].ended  # type: ignore[union-attr]
    elif row.effect in (m.EFFECT_DISCARD, m.EFFECT_IGNORE, m.EFFECT_HOLD, m.EFFECT_REFUSE):
        assert not events
    if row.effect == m.EFFECT_SEND:
        assert wire.done == ["stop"]
    elif row.effect == m.EFFECT_KILL:
        assert wire.done == ["kill"]
    elif row.effect == m.EFFECT_BIND and state == m.WCH_ROUTER_STREAM_ACCEPTED:
        assert wire.done == ["superseded"]


def test_every_row_has_an_action() -> None:
    assert {row[1] for row in met(m.WCH_WORKER_CONNECTION)} == {*WORKER_ACTIONS, STALLED}
    assert {row[1] for row in met(m.WCH_ROUTER_CONNECTION)} == {*ROUTER_ACTIONS}
    assert {row[1] for row in met(m.WCH_WORKER_STREAM)} == {*THERE_ACTIONS}
    assert {row[1] for row in met(m.WCH_ROUTER_STREAM)} == {*HERE_ACTIONS, UNANSWERED}
