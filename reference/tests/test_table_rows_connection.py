"""Every row of the two tables of a connection's end, as an outsider sees it.

Each row is driven from the wire, the clock or a public call.  Its effect is read off frames, events
and the close instruction; its next state off what the core does next.
"""

from __future__ import annotations

from collections.abc import Callable

from core_harness import PREFACE, Wire, client, opening, raw, response, rid, worker
from muxwire._generated import codec
from muxwire._generated import machines as m
from muxwire._generated.registries import END_STREAM, ErrorCode
from muxwire.core import (
    CancelReason,
    ClientConnection,
    CloseAction,
    HandlerCancelled,
    RequestReceived,
    ResponseFailed,
    WorkerConnection,
)
from muxwire.errors import ConnectionClosed, Outcome
from table_rows import Machine

WORKER = Machine("WORKER_CONNECTION")
CLIENT = Machine("CLIENT_CONNECTION")
PING = codec.encode_ping(b"01234567")
FAULT = raw(0x00)
"""A frame that is a connection error in every state that reads frames."""
IDLE = 0.8
"""Seconds that output may wait, where that is the input: less than any other time here."""
ME = rid(1)


def goaway(code: int, last_ordinal: int = 0) -> bytes:
    return codec.encode_goaway(code, last_ordinal, 1_000, b"")


def block(wire: Wire[WorkerConnection] | Wire[ClientConnection]) -> None:
    """Let output wait for IDLE: the peer sends, and reads nothing (HBT-006)."""
    assert wire.core.data_to_send(wire.now), "there is no output to wait"
    for _ in range(4):
        wire.now += IDLE / 4
        wire.core.receive_data(PING, wire.now)
        wire.core.handle_timeout(wire.now)


def _idle_ms(short: bool) -> int:
    return round(IDLE * 1000) if short else 60_000


# -- the worker ------------------------------------------------------------------------------------


def worker_in(state: int, input_: int) -> Wire[WorkerConnection]:
    """A worker with a running request; without one where the handshake is what goes wrong."""
    if input_ in (m.IN_WORKER_CONNECTION_REFUSED, m.IN_WORKER_CONNECTION_DROPPED):
        return worker(shake=False)
    wire = worker(idle_timeout_ms=_idle_ms(input_ == m.IN_WORKER_CONNECTION_BLOCKED))
    wire.send(opening(1, end=False))
    graced = input_ in (m.IN_WORKER_CONNECTION_GRACE_OVER, m.IN_WORKER_CONNECTION_CUT_OFF)
    if state == m.WORKER_CONNECTION_CLOSING:
        wire.send(FAULT)
    if state == m.WORKER_CONNECTION_CLOSED:
        wire.core.receive_eof(wire.now)
        wire.pull()
    if state == m.WORKER_CONNECTION_DRAINING or (state == m.WORKER_CONNECTION_LEAVING and graced):
        wire.core.drain(1_000, wire.now)
        wire.pull()
    if state == m.WORKER_CONNECTION_LEAVING:
        wire.send(goaway(ErrorCode.NO_ERROR))
    if input_ == m.IN_WORKER_CONNECTION_CUT_OFF and state != m.WORKER_CONNECTION_CLOSING:
        wire.now += 1.0
        wire.core.handle_timeout(wire.now)  # and nothing of it can be written
        wire.core.events()
    if input_ == m.IN_WORKER_CONNECTION_BLOCKED and state != m.WORKER_CONNECTION_CLOSING:
        wire.core.send_message(ME, b"output")
    wire.seen.clear()
    return wire


def worker_input(wire: Wire[WorkerConnection], state: int, input_: int) -> None:
    core = wire.core

    def blocked() -> None:
        if state == m.WORKER_CONNECTION_CLOSING:
            core.receive_data(PING, wire.now)
        else:
            block(wire)

    inputs: dict[int, Callable[[], object]] = {
        m.IN_WORKER_CONNECTION_REQUEST: lambda: wire.send(opening(2)),
        m.IN_WORKER_CONNECTION_FRAME: lambda: wire.send(PING),
        m.IN_WORKER_CONNECTION_GOAWAY_DRAIN: lambda: wire.send(goaway(ErrorCode.NO_ERROR)),
        m.IN_WORKER_CONNECTION_GOAWAY_ERROR: lambda: wire.send(goaway(ErrorCode.INTERNAL_ERROR)),
        m.IN_WORKER_CONNECTION_FAULT: lambda: wire.send(FAULT),
        m.IN_WORKER_CONNECTION_REFUSED: lambda: wire.send(PREFACE[:8] + bytes(8)),
        m.IN_WORKER_CONNECTION_DROPPED: lambda: wire.send(b"G"),
        m.IN_WORKER_CONNECTION_BLOCKED: blocked,
        m.IN_WORKER_CONNECTION_LOCAL_DRAIN: lambda: core.drain(500, wire.now),
        m.IN_WORKER_CONNECTION_LAST_ENDED: lambda: core.finish(ME),
        m.IN_WORKER_CONNECTION_GRACE_OVER: lambda: wire.advance(0.999),
        m.IN_WORKER_CONNECTION_CUT_OFF: lambda: core.handle_timeout(wire.now + 0.8),
        m.IN_WORKER_CONNECTION_EOF: lambda: core.receive_eof(wire.now),
        m.IN_WORKER_CONNECTION_LINGERED: lambda: wire.advance(1.0),
    }
    if input_ == m.IN_WORKER_CONNECTION_GRACE_OVER and state != m.WORKER_CONNECTION_CLOSING:
        wire.now += 1.0
        core.handle_timeout(wire.now)
    else:
        inputs[input_]()
    wire.pull()


def worker_effect(wire: Wire[WorkerConnection], state: int, input_: int) -> int:
    row = WORKER.row(state, input_)
    before, octets, was = len(wire.frames), len(wire.octets), wire.core.close_action
    worker_input(wire, state, input_)
    kinds = [frame[0] for frame in wire.frames[before:]]
    reasons = {event.reason for event in wire.events(HandlerCancelled)}
    action = wire.core.close_action
    if row.effect == m.EFFECT_VIOLATION:
        wire.assert_violation(ErrorCode(row.code), row.requirement)
        return row.effect
    if was:  # CLOSING
        assert len(wire.octets) == octets
        assert not reasons
        if action is not was:
            assert action is CloseAction.CLOSE
            return m.EFFECT_CLOSE
        return m.EFFECT_SKIP if input_ <= m.IN_WORKER_CONNECTION_GOAWAY_ERROR else m.EFFECT_IGNORE
    if reasons == {CancelReason.SHUTDOWN}:
        body = wire.terminal(ME)
        assert body is not None
        assert (body.code, body.error_flags) == (ErrorCode.SHUTDOWN, 0)
        assert action in (CloseAction.NONE, CloseAction.LINGER)
        return m.EFFECT_SHUT_DOWN
    if action is CloseAction.ABORT:
        assert codec.GOAWAY not in kinds
        return m.EFFECT_ABORT
    if action is CloseAction.CLOSE:
        lost = reasons == {CancelReason.CONNECTION_LOST}
        assert lost == (input_ == m.IN_WORKER_CONNECTION_EOF)
        return m.EFFECT_LOSE if lost else m.EFFECT_CLOSE
    if action is CloseAction.LINGER:
        if codec.GOAWAY in kinds:
            assert reasons == {CancelReason.CONNECTION_LOST}
            return m.EFFECT_FAIL
        return m.EFFECT_CANCEL_ALL if reasons else m.EFFECT_HALF_CLOSE
    assert not reasons
    if codec.GOAWAY in kinds:
        return m.EFFECT_DRAIN
    if wire.events(RequestReceived) or kinds == [codec.PONG]:
        return m.EFFECT_PASS
    if input_ == m.IN_WORKER_CONNECTION_REQUEST:
        body = wire.terminal(rid(2))
        assert body is not None
        assert body.code == ErrorCode.DRAINING
        return m.EFFECT_REFUSE
    if input_ == m.IN_WORKER_CONNECTION_LOCAL_DRAIN:
        assert wire.core.next_timeout() == wire.now + 0.5  # sooner than the grace that ran already
        return m.EFFECT_SHORTEN
    return m.EFFECT_IGNORE


def worker_state(wire: Wire[WorkerConnection]) -> int:
    """Find the state out by what becomes of another OPEN."""
    action = wire.core.close_action
    if action:
        lingers = action is CloseAction.LINGER
        return m.WORKER_CONNECTION_CLOSING if lingers else m.WORKER_CONNECTION_CLOSED
    wire.seen.clear()
    wire.send(opening(77))
    if wire.events(RequestReceived):
        return m.WORKER_CONNECTION_OPEN
    if wire.core.close_action:
        assert wire.ended.requirement == "CLS-009"
        return m.WORKER_CONNECTION_LEAVING
    return m.WORKER_CONNECTION_DRAINING


@WORKER.each_row()
def test_a_row_of_the_worker_s_connection(state: int, input_: int) -> None:
    wire = worker_in(state, input_)
    effect = worker_effect(wire, state, input_)
    if effect == m.EFFECT_SHUT_DOWN:  # the half-close of an empty connection is a row of its own
        assert wire.core.close_action is CloseAction.LINGER
        after = state
    else:
        after = worker_state(wire)
    WORKER.assert_obeyed(state, input_, effect, after)


# -- the client ------------------------------------------------------------------------------------


def client_in(state: int, input_: int) -> tuple[Wire[ClientConnection], list[bytes]]:
    """A client with two requests, the first of which has been answered, and which go on."""
    if input_ == m.IN_CLIENT_CONNECTION_FAILED:
        wire = client(shake=False)
        ids = [wire.core.open(b"a", now=0.0, data=b"x")]
        wire.pull()
    else:
        wire = client(idle_timeout_ms=_idle_ms(input_ == m.IN_CLIENT_CONNECTION_BLOCKED))
        ids = [wire.core.open(b"a", now=0.0, data=b"x", end=False) for _ in range(2)]
        wire.pull()
        wire.send(response(ids[0], 0, b"answer"))
    if input_ == m.IN_CLIENT_CONNECTION_DRAINED:
        enter(wire, m.CLIENT_CONNECTION_DRAINING)
        finish(wire, ids)
        if state != m.CLIENT_CONNECTION_DRAINING:
            wire.advance(1.5)
    enter(wire, state)
    if input_ == m.IN_CLIENT_CONNECTION_BLOCKED and state != m.CLIENT_CONNECTION_CLOSING:
        wire.core.send_message(ids[0], b"output")
    wire.seen.clear()
    return wire, ids


def enter(wire: Wire[ClientConnection], state: int) -> None:
    if state == m.CLIENT_CONNECTION_DRAINING:
        wire.send(goaway(ErrorCode.NO_ERROR, 2))
    elif state == m.CLIENT_CONNECTION_LEAVING:
        wire.core.goaway()
        wire.pull()
    elif state == m.CLIENT_CONNECTION_ENDING:
        wire.send(goaway(ErrorCode.INTERNAL_ERROR, 2))
    elif state == m.CLIENT_CONNECTION_CLOSING:
        wire.send(FAULT)
    elif state == m.CLIENT_CONNECTION_CLOSED:
        wire.core.abort(wire.now)
        wire.pull()


def finish(wire: Wire[ClientConnection], ids: list[bytes]) -> None:
    """End every request that is open."""
    for request_id in ids:
        if not [event for event in wire.events(ResponseFailed) if event.request_id == request_id]:
            seq = 1 if request_id == ids[0] and len(ids) > 1 else 0
            wire.send(response(request_id, seq, b"", END_STREAM))


def client_input(wire: Wire[ClientConnection], state: int, ids: list[bytes], input_: int) -> bool:
    """Apply an input; True if a local call was refused."""
    core = wire.core

    def blocked() -> None:
        if state == m.CLIENT_CONNECTION_CLOSING:
            core.receive_data(PING, wire.now)
        else:
            block(wire)

    inputs: dict[int, Callable[[], object]] = {
        m.IN_CLIENT_CONNECTION_FRAME: lambda: wire.send(PING),
        m.IN_CLIENT_CONNECTION_GOAWAY_DRAIN: lambda: wire.send(goaway(ErrorCode.NO_ERROR, 1)),
        m.IN_CLIENT_CONNECTION_GOAWAY_ERROR: lambda: wire.send(goaway(ErrorCode.INTERNAL_ERROR, 1)),
        m.IN_CLIENT_CONNECTION_GOAWAY_BELOW: lambda: wire.send(goaway(ErrorCode.NO_ERROR, 0)),
        m.IN_CLIENT_CONNECTION_FAULT: lambda: wire.send(FAULT),
        m.IN_CLIENT_CONNECTION_FAILED: lambda: wire.send(b"H"),
        m.IN_CLIENT_CONNECTION_BLOCKED: blocked,
        m.IN_CLIENT_CONNECTION_LOCAL_OPEN: lambda: core.open(b"a", now=wire.now, data=b"more"),
        m.IN_CLIENT_CONNECTION_LOCAL_CLOSE: core.goaway,
        m.IN_CLIENT_CONNECTION_LAST_ENDED: lambda: finish(wire, ids),
        m.IN_CLIENT_CONNECTION_DRAINED: lambda: wire.advance(
            2.0 if state == m.CLIENT_CONNECTION_DRAINING else 0.5
        ),
        m.IN_CLIENT_CONNECTION_EOF: lambda: core.receive_eof(wire.now),
        m.IN_CLIENT_CONNECTION_LINGERED: lambda: wire.advance(1.0),
    }
    try:
        inputs[input_]()
    except ConnectionClosed:
        return True
    wire.pull()
    return False


def client_effect(wire: Wire[ClientConnection], ids: list[bytes], state: int, input_: int) -> int:
    row = CLIENT.row(state, input_)
    before, octets, was = len(wire.frames), len(wire.octets), wire.core.close_action
    if client_input(wire, state, ids, input_):
        assert len(wire.octets) == octets
        return m.EFFECT_ELSEWHERE
    kinds = [frame[0] for frame in wire.frames[before:]]
    failed = {event.request_id: event.outcome for event in wire.events(ResponseFailed)}
    action = wire.core.close_action
    if row.effect == m.EFFECT_VIOLATION:
        wire.assert_violation(ErrorCode(row.code), row.requirement)
        return row.effect
    if was:  # CLOSING, CLOSED
        assert len(wire.octets) == octets
        assert not failed
        if action is not was:
            assert action is CloseAction.CLOSE
            return m.EFFECT_CLOSE
        return m.EFFECT_SKIP if input_ <= m.IN_CLIENT_CONNECTION_GOAWAY_BELOW else m.EFFECT_IGNORE
    lost = dict(zip(ids, (Outcome.PARTIAL, Outcome.AMBIGUOUS), strict=False))
    if action is CloseAction.ABORT:
        assert codec.GOAWAY not in kinds
        assert failed == lost
        return m.EFFECT_ABORT
    if action is CloseAction.LINGER:
        assert codec.GOAWAY in kinds
        assert failed == lost
        return m.EFFECT_FAIL
    if action is CloseAction.CLOSE:
        if input_ == m.IN_CLIENT_CONNECTION_FAILED:
            assert failed == {ids[0]: Outcome.AMBIGUOUS}
            assert codec.GOAWAY not in kinds
            return m.EFFECT_CLOSE
        if failed:
            assert failed == lost
            return m.EFFECT_LOSE
        return m.EFFECT_CLOSE
    if input_ in (m.IN_CLIENT_CONNECTION_GOAWAY_DRAIN, m.IN_CLIENT_CONNECTION_GOAWAY_ERROR):
        assert failed == {ids[1]: Outcome.NOT_PROCESSED}
        return m.EFFECT_COVER
    assert not failed
    if codec.GOAWAY in kinds:
        return m.EFFECT_LEAVE
    if kinds in ([codec.PONG], [codec.REQUEST]):
        return m.EFFECT_PASS
    if input_ == m.IN_CLIENT_CONNECTION_LAST_ENDED and wire.core.next_timeout() == wire.now + 2.0:
        return m.EFFECT_CLOSE_SOON
    return m.EFFECT_IGNORE


def client_state(make: Callable[[], Wire[ClientConnection]], ids: list[bytes]) -> int:
    """Find the state out by whether it accepts, ends by itself, or ends with its last request."""
    wire = make()
    action = wire.core.close_action
    if action:
        lingers = action is CloseAction.LINGER
        return m.CLIENT_CONNECTION_CLOSING if lingers else m.CLIENT_CONNECTION_CLOSED
    if wire.core.accepting:
        return m.CLIENT_CONNECTION_OPEN
    wire.advance(1.0)
    if wire.core.close_action:
        return m.CLIENT_CONNECTION_ENDING
    wire = make()
    finish(wire, ids)
    closed = wire.core.close_action is CloseAction.CLOSE
    return m.CLIENT_CONNECTION_LEAVING if closed else m.CLIENT_CONNECTION_DRAINING


@CLIENT.each_row()
def test_a_row_of_the_client_s_connection(state: int, input_: int) -> None:
    wire, ids = client_in(state, input_)
    effect = client_effect(wire, ids, state, input_)

    def again() -> Wire[ClientConnection]:
        wire, ids = client_in(state, input_)
        client_input(wire, state, ids, input_)
        return wire

    CLIENT.assert_obeyed(state, input_, effect, client_state(again, ids))
