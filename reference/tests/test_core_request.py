"""Every row of both state tables, driven through the public calls and the wire."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from _pytest.mark import ParameterSet
from core_harness import Wire, client, opening, request, response, rid, worker
from muxwire._generated import codec, machines
from muxwire._generated.machines import CLIENT_REQUEST, WORKER_REQUEST
from muxwire._generated.registries import END_STREAM, ErrorCode
from muxwire.core import (
    CancelReason,
    HandlerCancelled,
    MessageReceived,
    RequestReceived,
    ResponseFailed,
    StopReceived,
)
from muxwire.core.client import ClientConnection
from muxwire.core.request import look_up
from muxwire.core.worker import WorkerConnection
from muxwire.errors import Outcome, ProtocolViolation, RequestClosed

HIGH = 1 << 40


def rows(states: tuple[str, ...], inputs: tuple[str, ...]) -> list[ParameterSet]:
    return [
        pytest.param(state, input_, id=f"{name}-{label}")
        for state, name in enumerate(states)
        for input_, label in enumerate(inputs)
    ]


# -- worker ----------------------------------------------------------------------------------------


def worker_in(state: int) -> Wire[WorkerConnection]:
    """A worker with request 1 in this state; its handler runs unless the request is over."""
    wire = worker()
    match state:
        case machines.OPEN:
            wire.send(opening(1, end=False))
        case machines.HALF:
            wire.send(opening(1))
        case machines.KILLED:
            wire.send(opening(1, end=False), codec.encode_kill(rid(1), 0))
        case machines.CLOSED:
            wire.send(opening(1, end=False))
            wire.core.finish(rid(1))
            wire.pull()
    wire.seen.clear()
    return wire


def apply_worker(wire: Wire[WorkerConnection], input_: int) -> None:
    core = wire.core
    live = core._requests.get(rid(1))
    seq = live.next_seq if live else 1
    actions: dict[int, Callable[[], object]] = {
        machines.IN_OPEN: lambda: wire.send(opening(1, end=False)),
        machines.IN_OPEN_END: lambda: wire.send(opening(1)),
        machines.IN_BODY: lambda: wire.send(request(1, seq, b"x")),
        machines.IN_BODY_END: lambda: wire.send(request(1, seq, b"x", END_STREAM)),
        machines.IN_WINDOW_UPDATE: lambda: wire.send(codec.encode_window_update(rid(1), HIGH)),
        machines.IN_STOP: lambda: wire.send(codec.encode_stop(rid(1), 7)),
        machines.IN_KILL: lambda: wire.send(codec.encode_kill(rid(1), 7)),
        machines.IN_TERMINAL: lambda: core.finish(rid(1)),
        machines.IN_LOST: lambda: core.receive_eof(wire.now),
    }
    actions[input_]()
    wire.pull()


def worker_state(core: WorkerConnection) -> int:
    live = core._requests.get(rid(1))
    if live is not None:
        return live.state
    return machines.CLOSED if rid(1) in core._tombstones else machines.IDLE


@pytest.mark.parametrize(
    ("state", "input_"),
    rows(machines.WORKER_REQUEST_STATES, machines.WORKER_REQUEST_INPUTS),
)
def test_worker_row(state: int, input_: int) -> None:
    row = WORKER_REQUEST[state][input_]
    wire = worker_in(state)
    core = wire.core
    assert worker_state(core) == state
    if row.effect == machines.EFFECT_NONE:
        with pytest.raises(ProtocolViolation) as caught:
            look_up(WORKER_REQUEST, state, input_)
        assert caught.value.code == ErrorCode.INTERNAL_ERROR
        return
    glitches = core._budgets.glitch._tokens
    live = core._requests.get(rid(1))
    apply_worker(wire, input_)
    if row.effect == machines.EFFECT_VIOLATION:
        wire.assert_violation(ErrorCode(row.code), row.requirement)
        return
    charged = glitches - core._budgets.glitch._tokens
    assert charged == (1 if row.effect == machines.EFFECT_GLITCH else 0)
    match row.effect:
        case machines.EFFECT_ADMIT:
            assert wire.one(RequestReceived).request_id == rid(1)
        case machines.EFFECT_DELIVER:
            assert wire.one(MessageReceived).data == b"x"
        case machines.EFFECT_DISCARD | machines.EFFECT_GLITCH:
            assert wire.seen == []
            assert core._credit.held == 0
        case machines.EFFECT_RAISE:
            assert live is not None
            assert live.queue.limit == HIGH
        case machines.EFFECT_NOTIFY_STOP:
            assert wire.one(StopReceived).reason == 7
        case machines.EFFECT_CANCEL:
            assert wire.one(HandlerCancelled).reason is CancelReason.KILL
        case machines.EFFECT_FINISH:
            assert len([f for f in wire.stream(rid(1)) if f[1] & END_STREAM]) == 1
        case machines.EFFECT_FORGET:
            running = state in (machines.OPEN, machines.HALF)
            assert [e.reason for e in wire.events(HandlerCancelled)] == (
                [CancelReason.CONNECTION_LOST] if running else []
            )
            assert not core._requests
            return
        case machines.EFFECT_IGNORE:
            assert wire.seen == []
    assert worker_state(core) == row.state


# -- client ----------------------------------------------------------------------------------------


def client_in(state: int) -> tuple[Wire[ClientConnection], bytes]:
    """A client with one request in this state."""
    wire = client()
    core = wire.core
    request_id = core.open(b"a", now=0.0, data=b"x", end=state == machines.HALF)
    if state == machines.IDLE:
        return wire, request_id
    wire.pull()
    if state == machines.KILLING:
        core.kill(request_id)
        wire.pull()
    if state == machines.CLOSED:
        wire.send(response(request_id, 0, b"", END_STREAM))
    wire.seen.clear()
    return wire, request_id


def apply_client(wire: Wire[ClientConnection], request_id: bytes, input_: int) -> None:
    core = wire.core

    def hear(*frames: bytes) -> None:
        core.receive_data(b"".join(frames), wire.now)

    match input_:
        case machines.IN_RESPONSE:
            hear(response(request_id, 0, b"r"))
        case machines.IN_RESPONSE_END:
            hear(response(request_id, 0, b"r", END_STREAM))
        case machines.IN_CLIENT_WINDOW_UPDATE:
            hear(codec.encode_window_update(request_id, HIGH))
        case machines.IN_SEND_OPEN | machines.IN_SEND_OPEN_END:
            pass  # `open` always makes a new id; the first write of it is the input
        case machines.IN_SEND_BODY:
            core.send_message(request_id, b"more")
        case machines.IN_SEND_END:
            core.end(request_id)
        case machines.IN_SEND_STOP:
            core.stop(request_id, 5)
        case machines.IN_SEND_KILL:
            core.kill(request_id, 5)
        case machines.IN_NOT_COVERED:
            hear(codec.encode_goaway(0, 0, 1000, b""))
        case machines.IN_CLIENT_LOST:
            core.receive_eof(wire.now)
    wire.seen += core.events()


@pytest.mark.parametrize(
    ("state", "input_"),
    rows(machines.CLIENT_REQUEST_STATES, machines.CLIENT_REQUEST_INPUTS),
)
def test_client_row(state: int, input_: int) -> None:
    row = CLIENT_REQUEST[state][input_]
    wire, request_id = client_in(state)
    core = wire.core
    live = core._requests.get(request_id)
    before = len(wire.frames)
    local = input_ in (machines.IN_SEND_BODY, machines.IN_SEND_END, machines.IN_SEND_STOP)
    if state == machines.IDLE and local:
        # Before the OPEN is written these calls only queue: the input comes after SEND_OPEN.
        apply_client(wire, request_id, input_)
        wire.pull()
        kinds = [frame[0] for frame in wire.frames[before:]]
        assert kinds[0] == codec.REQUEST
        assert row.effect == machines.EFFECT_MISUSE
        return
    if row.effect == machines.EFFECT_MISUSE:
        if local:
            with pytest.raises(RequestClosed):
                apply_client(wire, request_id, input_)
        elif live is not None:
            assert live.step(input_) == machines.EFFECT_MISUSE
        return
    if state == machines.IDLE and input_ in (machines.IN_SEND_OPEN, machines.IN_SEND_OPEN_END):
        request_id = core.open(b"a", now=0.0, data=b"", end=input_ == machines.IN_SEND_OPEN_END)
        wire.pull()
        assert core._requests[request_id].state == row.state
        return
    apply_client(wire, request_id, input_)
    found = core._requests.get(request_id)
    after = found.state if found is not None else machines.CLOSED
    if row.effect == machines.EFFECT_VIOLATION:
        wire.pull()
        wire.assert_violation(ErrorCode(row.code), row.requirement)
        return
    wire.pull()
    new = wire.frames[before:]
    match row.effect:
        case machines.EFFECT_DELIVER:
            assert wire.one(MessageReceived).data == b"r"
        case machines.EFFECT_FINISH if state == machines.KILLING:
            assert wire.one(ResponseFailed).code == ErrorCode.CANCELLED
        case machines.EFFECT_FINISH:
            assert wire.one(MessageReceived).ended
        case machines.EFFECT_DISCARD | machines.EFFECT_IGNORE:
            assert not wire.events(MessageReceived)
            assert not wire.events(ResponseFailed)
            assert core._credit.held == 0
        case machines.EFFECT_RAISE:
            assert live is not None
            assert live.queue.limit == HIGH
        case machines.EFFECT_SEND:
            expected = {
                machines.IN_SEND_BODY: (codec.REQUEST, 0),
                machines.IN_SEND_END: (codec.REQUEST, END_STREAM),
                machines.IN_SEND_STOP: (codec.STOP, 0),
                machines.IN_SEND_KILL: (codec.KILL, 0),
            }
            assert [frame[:2] for frame in new] == [expected[input_]]
        case machines.EFFECT_FORGET:
            assert wire.one(ResponseFailed).outcome is Outcome.NOT_SENT
            assert new == []
        case machines.EFFECT_NOT_PROCESSED:
            assert wire.one(ResponseFailed).outcome is Outcome.NOT_PROCESSED
        case machines.EFFECT_CLASSIFY:
            sent = state != machines.IDLE
            assert wire.one(ResponseFailed).outcome is (
                Outcome.AMBIGUOUS if sent else Outcome.NOT_SENT
            )
    if input_ != machines.IN_SEND_END:  # that one takes effect when it is written
        assert after == row.state
