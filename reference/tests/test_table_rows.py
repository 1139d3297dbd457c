"""Every row of the two request tables, as an outsider sees it.

Each row is driven from the wire or through the public calls.  Its effect is read off events,
frames, counters and errors, and its next state off what the core does next; no private name is
used.  The last test sees to it that every machine has such tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from core_harness import Wire, client, opening, request, response, rid, worker
from muxwire._generated import codec
from muxwire._generated import machines as m
from muxwire._generated.registries import END_STREAM, ERROR, META, ErrorCode
from muxwire.core import (
    CancelReason,
    ClientConnection,
    HandlerCancelled,
    MessageReceived,
    RequestReceived,
    ResponseFailed,
    ResponseFinished,
    StopReceived,
    WorkerConnection,
)
from muxwire.core.events import Event, HandshakeDone
from muxwire.errors import Outcome, RequestClosed
from table_rows import Machine, Row

HIGH = 1 << 40
WINDOW = 65_536
ME = rid(1)


# -- the worker ------------------------------------------------------------------------------------

WORKER = Machine("WORKER_REQUEST")


def worker_in(state: int) -> Wire[WorkerConnection]:
    """A worker whose request 1 is in this state.  It has more output than its window."""
    wire = worker(peer={"initial_stream_window": WINDOW})
    if state == m.IDLE:
        wire.seen.clear()
        return wire
    wire.send(opening(1, end=state == m.HALF))
    wire.core.send_message(ME, bytes(2 * WINDOW))
    wire.pull()
    if state in (m.KILLED, m.CLOSED):
        wire.send(codec.encode_kill(ME, 0))
    if state == m.CLOSED:
        wire.core.fail(ME, 0x107)
        wire.pull()
    wire.seen.clear()
    return wire


def next_seq(state: int) -> int:
    return 0 if state == m.IDLE else 1


def worker_input(wire: Wire[WorkerConnection], state: int, input_: int) -> None:
    seq = max(1, next_seq(state))
    inputs: dict[int, Callable[[], object]] = {
        m.IN_OPEN: lambda: wire.send(opening(1, end=False)),
        m.IN_OPEN_END: lambda: wire.send(opening(1)),
        m.IN_BODY: lambda: wire.send(request(1, seq, b"x")),
        m.IN_BODY_END: lambda: wire.send(request(1, seq, b"x", END_STREAM)),
        m.IN_WINDOW_UPDATE: lambda: wire.send(codec.encode_window_update(ME, HIGH)),
        m.IN_STOP: lambda: wire.send(codec.encode_stop(ME, 7)),
        m.IN_KILL: lambda: wire.send(codec.encode_kill(ME, 7)),
        m.IN_TERMINAL: lambda: wire.core.fail(ME, 0x107),
        m.IN_LOST: lambda: wire.core.receive_eof(wire.now),
    }
    if input_ == m.IN_TERMINAL and state != m.KILLED:  # what waits for credit goes first
        wire.send(codec.encode_window_update(ME, HIGH))
    inputs[input_]()
    wire.pull()


def worker_effect(wire: Wire[WorkerConnection], before: int, frames: int, glitches: int) -> int:
    """Read the effect off what has happened since `frames` frames and `glitches` glitches."""
    core = wire.core
    new = wire.frames[frames:]
    kinds = [type(event) for event in wire.seen]
    if core.counters.glitches > glitches:
        assert not new
        assert not kinds
        return m.EFFECT_GLITCH
    if wire.goaway is not None:
        return m.EFFECT_VIOLATION
    if core.close_action:
        reasons = [e.reason for e in wire.events(HandlerCancelled)]
        assert reasons == ([] if before == m.CLOSED or before == m.KILLED else
                           [CancelReason.CONNECTION_LOST])  # fmt: skip
        assert not new
        assert core.buffered_bytes == 0
        return m.EFFECT_FORGET
    if RequestReceived in kinds:
        return m.EFFECT_ADMIT
    if MessageReceived in kinds:
        return m.EFFECT_DELIVER
    if StopReceived in kinds:
        return m.EFFECT_NOTIFY_STOP
    if HandlerCancelled in kinds:
        return m.EFFECT_CANCEL
    if any(kind == codec.RESPONSE and flags & END_STREAM for kind, flags, *_ in new):
        return m.EFFECT_FINISH
    if any(kind == codec.RESPONSE for kind, *_ in new):
        return m.EFFECT_RAISE
    assert not kinds
    assert not new
    return m.EFFECT_IGNORE


def worker_state(make: Callable[[], Wire[WorkerConnection]], last: int) -> int:
    """Find the state out by what a chunk of the body, and the end of the handler, lead to."""
    wire = make()
    if wire.core.close_action:
        return m.CLOSED
    glitches, held = wire.core.counters.glitches, len(wire.events(MessageReceived))
    wire.send(request(1, last, b"y"))
    if wire.core.counters.glitches > glitches:
        return m.IDLE
    if len(wire.events(MessageReceived)) > held:
        return m.OPEN
    if wire.goaway is None:
        return m.CLOSED
    assert wire.goaway.code == ErrorCode.STREAM_STATE_ERROR
    wire = make()
    wire.send(codec.encode_window_update(ME, HIGH))
    wire.core.finish(ME)
    wire.pull()
    body = wire.terminal(ME)
    return m.HALF if body is None else m.KILLED


def check_worker_row(state: int, input_: int) -> None:
    row = WORKER.row(state, input_)
    wire = worker_in(state)
    frames, glitches = len(wire.frames), wire.core.counters.glitches
    worker_input(wire, state, input_)
    effect = worker_effect(wire, state, frames, glitches)
    if row.effect == m.EFFECT_VIOLATION:
        wire.assert_violation(ErrorCode(row.code), row.requirement)
        WORKER.assert_obeyed(state, input_, effect, row.state)
        return
    if row.effect == m.EFFECT_DISCARD:
        assert wire.core.buffered_bytes == 0
        effect = {m.EFFECT_IGNORE: m.EFFECT_DISCARD}.get(effect, effect)

    def again() -> Wire[WorkerConnection]:
        wire = worker_in(state)
        worker_input(wire, state, input_)
        return wire

    counted = input_ in (m.IN_OPEN, m.IN_OPEN_END) or (
        state == m.OPEN and input_ in (m.IN_BODY, m.IN_BODY_END)
    )
    last = max(1, next_seq(state) + (counted if state != m.IDLE else 1))
    found = worker_state(again, last)
    WORKER.assert_obeyed(state, input_, effect, found)


@WORKER.each_row()
def test_a_row_of_the_worker(state: int, input_: int) -> None:
    check_worker_row(state, input_)


# -- the client ------------------------------------------------------------------------------------

ONCE = "every open makes a new id, so no request is opened twice"
BEHIND = "the OPEN is first in the queue, so nothing of the request is written before it"
CLIENT_IMPOSSIBLE: dict[Row, str] = {
    **{
        (state, input_): ONCE
        for state in (m.OPEN, m.HALF, m.KILLING, m.CLOSED)
        for input_ in (m.IN_SEND_OPEN, m.IN_SEND_OPEN_END)
    },
    (m.IDLE, m.IN_SEND_BODY): BEHIND,
    (m.IDLE, m.IN_SEND_END): BEHIND,
    (m.IDLE, m.IN_SEND_STOP): "a STOP is held back until the OPEN is written (FAI-001)",
}
CLIENT = Machine("CLIENT_REQUEST", CLIENT_IMPOSSIBLE)
OPENS = (m.IN_SEND_OPEN, m.IN_SEND_OPEN_END)
LOCAL = (m.IN_SEND_BODY, m.IN_SEND_END, m.IN_SEND_STOP, m.IN_SEND_KILL)


def client_in(state: int, input_: int) -> tuple[Wire[ClientConnection], bytes]:
    """A client whose request is in this state.  It has more output than its window where it may."""
    wire = client(peer={"initial_stream_window": WINDOW})
    core = wire.core
    ends = state == m.HALF or input_ == m.IN_SEND_OPEN_END
    blocked = state == m.OPEN and input_ == m.IN_CLIENT_WINDOW_UPDATE
    data = bytes(2 * WINDOW) if blocked else b"x"
    request_id = core.open(b"test.echo", now=0.0, data=data, end=ends)
    if state == m.IDLE:
        return wire, request_id
    wire.pull()
    if state == m.KILLING:
        core.kill(request_id)
        wire.pull()
    if state == m.CLOSED:
        wire.send(response(request_id, 0, b"", END_STREAM))
    wire.seen.clear()
    return wire, request_id


def client_input(wire: Wire[ClientConnection], request_id: bytes, input_: int) -> bool:
    """Apply an input; True if it was refused as misuse."""
    core = wire.core

    def take(frame: bytes) -> None:  # and write nothing, which would move a request out of IDLE
        core.receive_data(frame, wire.now)

    inputs: dict[int, Callable[[], object]] = {
        m.IN_RESPONSE: lambda: take(response(request_id, 0, b"x")),
        m.IN_RESPONSE_END: lambda: take(response(request_id, 0, b"x", END_STREAM)),
        m.IN_CLIENT_WINDOW_UPDATE: lambda: take(codec.encode_window_update(request_id, HIGH)),
        m.IN_SEND_OPEN: lambda: None,
        m.IN_SEND_OPEN_END: lambda: None,
        m.IN_SEND_BODY: lambda: core.send_message(request_id, b"y"),
        m.IN_SEND_END: lambda: core.end(request_id),
        m.IN_SEND_STOP: lambda: core.stop(request_id),
        m.IN_SEND_KILL: lambda: core.kill(request_id),
        m.IN_NOT_COVERED: lambda: take(codec.encode_goaway(0, 0, 1_000, b"")),
        m.IN_CLIENT_LOST: lambda: core.receive_eof(wire.now),
    }
    try:
        inputs[input_]()
    except RequestClosed:
        return True
    return False


def client_effect(wire: Wire[ClientConnection], frames: int, state: int, input_: int) -> int:
    """Read the effect off what has happened since `frames` frames."""
    new = [frame[0] for frame in wire.frames[frames:] if frame[0] != codec.WINDOW_UPDATE]
    outcomes = [event.outcome for event in wire.events(ResponseFailed)]
    events: list[Event] = [
        e for e in wire.seen if isinstance(e, ResponseFailed | ResponseFinished | MessageReceived)
    ]
    if wire.goaway is not None:
        return m.EFFECT_VIOLATION
    if input_ in (m.IN_CLIENT_LOST, m.IN_NOT_COVERED) and outcomes:
        assert not new
        sent = state != m.IDLE
        if input_ == m.IN_NOT_COVERED and sent:
            assert outcomes == [Outcome.NOT_PROCESSED]
            return m.EFFECT_NOT_PROCESSED
        assert outcomes == [Outcome.AMBIGUOUS if sent else Outcome.NOT_SENT]
        return m.EFFECT_CLASSIFY
    if input_ == m.IN_SEND_KILL and outcomes:
        assert not new
        assert outcomes == [Outcome.NOT_SENT]
        return m.EFFECT_FORGET
    if new:
        sends = input_ in LOCAL or input_ in OPENS
        return m.EFFECT_SEND if sends else m.EFFECT_RAISE
    if input_ == m.IN_RESPONSE_END and events:
        return m.EFFECT_FINISH
    if events:
        assert isinstance(events[0], MessageReceived)
        assert not events[0].ended
        return m.EFFECT_DELIVER
    return m.EFFECT_IGNORE


def client_state(wire: Wire[ClientConnection], request_id: bytes) -> int:
    """Find the state out by what can still be said, and by what a kill leads to."""
    core = wire.core
    if any(isinstance(e, ResponseFailed | ResponseFinished) for e in wire.seen):
        return m.CLOSED
    if core.close_action or not core.open_requests:
        return m.CLOSED
    if not wire.stream(request_id):
        core.kill(request_id)
        assert not wire.pull()
        assert wire.one(ResponseFailed).outcome is Outcome.NOT_SENT
        return m.IDLE
    try:
        core.end(request_id)
        may_send = True
    except RequestClosed:
        may_send = False
    core.kill(request_id)
    killed = [frame[0] for frame in wire.pull()].count(codec.KILL)
    if may_send:
        assert killed == 1
        return m.OPEN
    return m.HALF if killed else m.KILLING


def check_client_row(state: int, input_: int) -> None:
    row = CLIENT.row(state, input_)
    wire, request_id = client_in(state, input_)
    frames = len(wire.frames)
    misused = client_input(wire, request_id, input_)
    if state != m.IDLE or input_ in OPENS:
        wire.pull()
    else:
        wire.seen += wire.core.events()
        if wire.core.close_action:
            wire.pull()
    if misused:
        effect = m.EFFECT_MISUSE
        assert len(wire.frames) == frames
    else:
        effect = client_effect(wire, frames, state, input_)
    if row.effect == m.EFFECT_VIOLATION:
        wire.assert_violation(ErrorCode(row.code), row.requirement)
        CLIENT.assert_obeyed(state, input_, effect, row.state)
        return
    if row.effect == m.EFFECT_DISCARD:
        assert wire.core.buffered_bytes == 0
        effect = {m.EFFECT_IGNORE: m.EFFECT_DISCARD}.get(effect, effect)
    if effect == m.EFFECT_SEND:
        _check_sent(wire, request_id, frames, input_)
    if (state, input_) == (m.KILLING, m.IN_RESPONSE_END):  # STM-002
        assert wire.one(ResponseFailed).outcome is Outcome.FAILED
    found = client_state(wire, request_id)
    CLIENT.assert_obeyed(state, input_, effect, found)


def _check_sent(wire: Wire[ClientConnection], request_id: bytes, frames: int, input_: int) -> None:
    expected = {
        m.IN_SEND_OPEN: (codec.REQUEST, META),
        m.IN_SEND_OPEN_END: (codec.REQUEST, META | END_STREAM),
        m.IN_SEND_BODY: (codec.REQUEST, 0),
        m.IN_SEND_END: (codec.REQUEST, END_STREAM),
        m.IN_SEND_STOP: (codec.STOP, 0),
        m.IN_SEND_KILL: (codec.KILL, 0),
    }
    sent = [(kind, flags) for kind, flags, _, key, _ in wire.frames[frames:] if key == request_id]
    assert sent == [expected[input_]]


@CLIENT.each_row()
def test_a_row_of_the_client(state: int, input_: int) -> None:
    check_client_row(state, input_)


def test_an_id_that_the_client_never_had() -> None:
    """The rows of IDLE hold for ids out of nowhere as well."""
    for frame in (response(rid(9), 0, b"x"), response(rid(9), 0, b"", END_STREAM | ERROR)):
        wire = client()
        wire.send(frame)
        wire.assert_violation(ErrorCode.PROTOCOL_ERROR, "RID-004")
    wire = client()
    assert wire.send(codec.encode_window_update(rid(9), HIGH)) == []
    assert [type(event) for event in wire.seen] == [HandshakeDone]


# -- the coverage ----------------------------------------------------------------------------------


def test_every_machine_has_tests_of_its_rows() -> None:
    here = Path(__file__).parent
    driven = {
        found
        for path in here.glob("test_table_rows*.py")
        for found in re.findall(r'Machine\(\s*"([A-Z_]+)"', path.read_text("utf-8"))
    }
    tables = {name.removesuffix("_STATES") for name in vars(m) if name.endswith("_STATES")}
    assert driven == {name for name in tables if not name.startswith("WCH_")}
    assert len(driven) == 10


@pytest.mark.parametrize("machine", [WORKER, CLIENT], ids=lambda machine: machine.name)
def test_only_misuse_has_no_way_in(machine: Machine) -> None:
    for state, input_ in machine.impossible:
        assert machine.row(state, input_).effect in (m.EFFECT_NONE, m.EFFECT_MISUSE)
