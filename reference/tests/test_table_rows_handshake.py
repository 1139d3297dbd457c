"""Every row of the two handshake tables, as the peer sees it.

Each row is driven from the wire, the clock or a public call.  Its effect is read off octets and
events, its next state off what the core does next.
"""

from __future__ import annotations

from collections.abc import Callable

from core_harness import ACK, PREFACE, Wire, client, opening, settings_frame, worker
from muxwire._generated import codec
from muxwire._generated import machines as m
from muxwire._generated.registries import ErrorCode
from muxwire.core import (
    ClientConnection,
    CloseAction,
    HandshakeDone,
    ResponseFailed,
    WorkerConnection,
)
from muxwire.errors import Outcome
from table_rows import Machine

WORKER = Machine("WORKER_HANDSHAKE")
CLIENT = Machine("CLIENT_HANDSHAKE")
STEPS = [PREFACE, settings_frame(), ACK]
UNSERVED = codec.MAGIC + bytes((9, 7, 32, 0, 0, 0, 0, 0))
PING = codec.encode_ping(b"01234567")
TIMEOUT = 2.0


def violated(wire: Wire[WorkerConnection] | Wire[ClientConnection], row: m.Row) -> bool:
    """Whether the core has ended the connection as a row says that is an error of the peer."""
    if row.effect == m.EFFECT_VIOLATION:
        wire.assert_violation(ErrorCode(row.code), row.requirement)
    return row.effect == m.EFFECT_VIOLATION


# -- the worker ------------------------------------------------------------------------------------


def worker_in(state: int, input_: int) -> Wire[WorkerConnection]:
    full = input_ == m.IN_WORKER_HANDSHAKE_PREFACE_SURPLUS
    wire = worker(shake=False, handshake_timeout=TIMEOUT, admit=lambda: not full)
    failed = state == m.WORKER_HANDSHAKE_FAILED
    for step in [UNSERVED] if failed else STEPS[:state]:
        wire.send(step)
    if (state, input_) == (m.WORKER_HANDSHAKE_ACK, m.IN_WORKER_HANDSHAKE_LOCAL_DRAIN):
        wire.send(opening(1))  # so that there is something to drain
    wire.seen.clear()
    return wire


def worker_input(wire: Wire[WorkerConnection], input_: int) -> list[int]:
    """Apply an input; return the kinds of the frames that answer it."""
    before = len(wire.frames)
    drain = wire.core.drain
    inputs: dict[int, Callable[[], object]] = {
        m.IN_WORKER_HANDSHAKE_MAGIC_WRONG: lambda: wire.send(b"G"),
        m.IN_WORKER_HANDSHAKE_PREFACE_GOOD: lambda: wire.send(PREFACE),
        m.IN_WORKER_HANDSHAKE_PREFACE_UNSERVED: lambda: wire.send(UNSERVED),
        m.IN_WORKER_HANDSHAKE_PREFACE_SURPLUS: lambda: wire.send(PREFACE),
        m.IN_WORKER_HANDSHAKE_PUSHED_OUT: lambda: drain(0, wire.now),
        m.IN_WORKER_HANDSHAKE_SETTINGS: lambda: wire.send(settings_frame()),
        m.IN_WORKER_HANDSHAKE_SETTINGS_ACK: lambda: wire.send(ACK),
        m.IN_WORKER_HANDSHAKE_FRAME: lambda: wire.send(PING),
        m.IN_WORKER_HANDSHAKE_TIMEOUT: lambda: wire.advance(TIMEOUT),
        m.IN_WORKER_HANDSHAKE_LOCAL_DRAIN: lambda: drain(1_000, wire.now),
    }
    inputs[input_]()
    wire.pull()
    return [frame[0] for frame in wire.frames[before:]]


def worker_effect(wire: Wire[WorkerConnection], state: int, input_: int) -> int:
    row = WORKER.row(state, input_)
    answer = worker_input(wire, input_)
    if violated(wire, row):
        return m.EFFECT_VIOLATION
    if state == m.WORKER_HANDSHAKE_FAILED:
        assert not answer
        assert not wire.seen
        return row.effect  # skip and ignore look alike
    if wire.core.close_action is CloseAction.CLOSE:
        assert wire.octets == b""
        return m.EFFECT_DROP
    if wire.events(HandshakeDone):
        assert not answer
        assert wire.core.next_timeout() is not None  # HBT-003 counts from now on
        return m.EFFECT_LISTEN
    if wire.core.close_action is CloseAction.LINGER and not answer:
        assert wire.octets == PREFACE
        assert wire.ended.requirement == row.requirement
        return m.EFFECT_REFUSE
    found = {
        (codec.SETTINGS,): m.EFFECT_GREET,
        (codec.SETTINGS_ACK,): m.EFFECT_APPLY,
        (codec.PONG,): m.EFFECT_PASS,
        (codec.GOAWAY,): m.EFFECT_PASS,
        (): m.EFFECT_POSTPONE,
    }[tuple(answer)]
    goaway = wire.goaway
    if goaway is not None and goaway.code == ErrorCode.CONNECTION_LIMIT:
        assert wire.ended.requirement == row.requirement
        return m.EFFECT_REFUSE
    return found


def worker_state(wire: Wire[WorkerConnection], *, done: bool) -> int:
    """Find the state out by what the next frames of a handshake lead to."""
    core = wire.core
    if core.close_action and (wire.goaway is None or wire.goaway.code):
        return m.WORKER_HANDSHAKE_FAILED
    if not wire.preface:
        return m.WORKER_HANDSHAKE_PREFACE
    if done or wire.events(HandshakeDone):
        return m.WORKER_HANDSHAKE_DONE
    answer = [frame[0] for frame in wire.send(settings_frame())]
    if wire.goaway is not None and wire.goaway.code:
        assert wire.ended.requirement == "HSK-006"
        return m.WORKER_HANDSHAKE_ACK
    assert answer[0] == codec.SETTINGS_ACK
    return m.WORKER_HANDSHAKE_SETTINGS


@WORKER.each_row()
def test_a_row_of_the_worker_s_handshake(state: int, input_: int) -> None:
    wire = worker_in(state, input_)
    effect = worker_effect(wire, state, input_)
    after = worker_state(wire, done=state == m.WORKER_HANDSHAKE_DONE)
    WORKER.assert_obeyed(state, input_, effect, after)


def test_a_postponed_drain_follows_the_ack() -> None:
    """HSK-007: what "postpone" promises."""
    wire = worker_in(m.WORKER_HANDSHAKE_SETTINGS, m.IN_WORKER_HANDSHAKE_LOCAL_DRAIN)
    assert worker_input(wire, m.IN_WORKER_HANDSHAKE_LOCAL_DRAIN) == []
    answer = [frame[0] for frame in wire.send(settings_frame())]
    assert answer == [codec.SETTINGS_ACK, codec.GOAWAY]


# -- the client ------------------------------------------------------------------------------------


def client_in(state: int, input_: int) -> tuple[Wire[ClientConnection], bytes]:
    """A client with a pipelined request whose OPEN is written."""
    soon = 1.0 if input_ == m.IN_CLIENT_HANDSHAKE_CONNECT_TIMEOUT else 15.0
    wire = client(shake=False, connect_timeout=soon, handshake_timeout=TIMEOUT)
    request_id = wire.core.open(b"a", now=0.0, data=b"x")
    wire.pull()
    if state == m.CLIENT_HANDSHAKE_FAILED:
        wire.send(PREFACE, codec.encode_goaway(ErrorCode.NO_ERROR, 1, 0, b""))
    else:
        for step in STEPS[:state]:
            wire.send(step)
    wire.seen.clear()
    return wire, request_id


def client_input(wire: Wire[ClientConnection], input_: int) -> list[int]:
    """Apply an input; return the kinds of the frames that answer it."""
    before = len(wire.frames)
    goaway = codec.encode_goaway(ErrorCode.NO_ERROR, 1, 0, b"")
    inputs: dict[int, Callable[[], object]] = {
        m.IN_CLIENT_HANDSHAKE_MAGIC_WRONG: lambda: wire.send(b"H"),
        m.IN_CLIENT_HANDSHAKE_PREFACE_GOOD: lambda: wire.send(PREFACE),
        m.IN_CLIENT_HANDSHAKE_PREFACE_REFUSING: lambda: wire.send(UNSERVED),
        m.IN_CLIENT_HANDSHAKE_CONNECT_TIMEOUT: lambda: wire.advance(1.0),
        m.IN_CLIENT_HANDSHAKE_SETTINGS: lambda: wire.send(settings_frame()),
        m.IN_CLIENT_HANDSHAKE_SETTINGS_ACK: lambda: wire.send(ACK),
        m.IN_CLIENT_HANDSHAKE_GOAWAY: lambda: wire.send(goaway),
        m.IN_CLIENT_HANDSHAKE_FRAME: lambda: wire.send(PING),
        m.IN_CLIENT_HANDSHAKE_TIMEOUT: lambda: wire.advance(TIMEOUT),
    }
    inputs[input_]()
    return [frame[0] for frame in wire.frames[before:]]


def client_effect(wire: Wire[ClientConnection], state: int, input_: int) -> int:
    row = CLIENT.row(state, input_)
    answer = client_input(wire, input_)
    if violated(wire, row):
        return m.EFFECT_VIOLATION
    if wire.core.close_action:
        assert wire.core.close_action is CloseAction.CLOSE
        assert not answer
        outcome = wire.one(ResponseFailed).outcome
        lost = {Outcome.AMBIGUOUS: m.EFFECT_LOSE, Outcome.NOT_PROCESSED: m.EFFECT_NOT_PROCESSED}
        return lost[outcome]
    if wire.events(HandshakeDone):
        assert not answer
        return m.EFFECT_LISTEN
    if answer == [codec.SETTINGS_ACK]:
        return m.EFFECT_APPLY
    if answer == [codec.PONG] or (input_ == m.IN_CLIENT_HANDSHAKE_GOAWAY and wire.seen):
        assert not wire.core.accepting or answer
        return m.EFFECT_PASS
    assert not answer
    assert not wire.seen
    return m.EFFECT_SKIP if state == m.CLIENT_HANDSHAKE_FAILED else m.EFFECT_ACCEPT


def client_state(wire: Wire[ClientConnection], state: int) -> int:
    """Find the state out by what the next frames of a handshake lead to."""
    if wire.core.close_action:
        return m.CLIENT_HANDSHAKE_FAILED
    if wire.events(HandshakeDone) or state == m.CLIENT_HANDSHAKE_DONE:
        return m.CLIENT_HANDSHAKE_DONE
    answer = [frame[0] for frame in wire.send(settings_frame())]
    if wire.goaway is not None:
        assert wire.ended.requirement == "HSK-006"
        return m.CLIENT_HANDSHAKE_ACK
    return m.CLIENT_HANDSHAKE_SETTINGS if answer else m.CLIENT_HANDSHAKE_FAILED


@CLIENT.each_row()
def test_a_row_of_the_client_s_handshake(state: int, input_: int) -> None:
    wire, _ = client_in(state, input_)
    effect = client_effect(wire, state, input_)
    CLIENT.assert_obeyed(state, input_, effect, client_state(wire, state))
