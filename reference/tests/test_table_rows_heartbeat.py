"""Every row of the two heartbeat tables, as an outsider sees it.

Each row is driven by octets and the clock.  What a timer does is seen by what ends the connection,
and when; what a side owes its peer, by what it sends.
"""

from __future__ import annotations

from collections.abc import Callable

from core_harness import ACK, PREFACE, Wire, client, settings_frame, worker
from muxwire._generated import codec
from muxwire._generated import machines as m
from muxwire._generated.registries import ErrorCode
from muxwire.core import ClientConnection, CloseAction, HandshakeDone, WorkerConnection
from table_rows import Machine

IN = Machine("HEARTBEAT_IN")
NO_CALL = "the core has no call for a PING of one's own; it sends those that HBT-001 obliges"
OUT = Machine(
    "HEARTBEAT_OUT",
    {
        (state, input_): NO_CALL
        for state in range(m.HEARTBEAT_OUT_OVER + 1)
        for input_ in (m.IN_HEARTBEAT_OUT_LOCAL_PING, m.IN_HEARTBEAT_OUT_LOCAL_PING_SURPLUS)
        if m.HEARTBEAT_OUT[state][input_].effect != m.EFFECT_NONE
    },
)
PING = codec.encode_ping(b"01234567")
SOON = 0.5
"""Seconds from entering a state to the input."""
STEP = 0.125
Fate = tuple[float, str]

# -- what comes in ---------------------------------------------------------------------------------


def listener(state: int) -> Wire[WorkerConnection]:
    """A worker that bears a second of silence, SOON after it has entered the state."""
    wire = worker(shake=False, handshake_timeout=15.0, idle_timeout_ms=1_000)
    wire.send(PREFACE, settings_frame(idle_timeout_ms=600_000))
    if state in (m.HEARTBEAT_IN_LISTENING, m.HEARTBEAT_IN_LISTENING_FRAME):
        wire.send(ACK)
    if state in (m.HEARTBEAT_IN_DEAF_FRAME, m.HEARTBEAT_IN_LISTENING_FRAME):
        wire.send(PING[:5])
    if state == m.HEARTBEAT_IN_OVER:
        wire.core.abort(wire.now)
        wire.pull()
    wire.advance(SOON)
    assert wire.core.close_action or wire.now == SOON
    return wire


def hear(wire: Wire[WorkerConnection], state: int, input_: int) -> None:
    """Apply an input."""
    mid_frame = state in (m.HEARTBEAT_IN_DEAF_FRAME, m.HEARTBEAT_IN_LISTENING_FRAME)
    inputs: dict[int, Callable[[], object]] = {
        m.IN_HEARTBEAT_IN_OCTET: lambda: wire.send(PING[5:6] if mid_frame else PING),
        m.IN_HEARTBEAT_IN_FRAME_BEGUN: lambda: wire.send(PING[:5]),
        m.IN_HEARTBEAT_IN_FRAME_COMPLETE: lambda: wire.send(PING[5:]),
        m.IN_HEARTBEAT_IN_SET_UP: lambda: wire.send(ACK),
        m.IN_HEARTBEAT_IN_SILENCE: lambda: wire.advance(1.0 - SOON),
        m.IN_HEARTBEAT_IN_DRIBBLE: lambda: dribble(wire, PING[5:]),
        m.IN_HEARTBEAT_IN_END: lambda: wire.core.abort(wire.now),
    }
    inputs[input_]()
    wire.pull()


def silence(wire: Wire[WorkerConnection]) -> Fate | None:
    """Send nothing for 3 s; return when the connection ended, and by which rule."""
    while wire.now < 3.0 and not wire.core.close_action:
        wire.advance(STEP)
    return (wire.now, wire.ended.requirement) if wire.core.close_action else None


def dribble(wire: Wire[WorkerConnection], octets: bytes) -> Fate | None:
    """Send an octet now and then; return when the connection ended, and by which rule."""
    for octet in octets:
        if wire.now > 3.0 or wire.core.close_action:
            break
        wire.send(bytes([octet]))
        wire.advance(STEP)
    return (wire.now, wire.ended.requirement) if wire.core.close_action else None


def heard(state: int, input_: int) -> int:
    """Read the effect of an input off the fates that it leads to."""
    row = IN.row(state, input_)

    def after() -> Wire[WorkerConnection]:
        wire = listener(state)
        hear(wire, state, input_)
        return wire

    wire = after()
    if row.effect == m.EFFECT_VIOLATION:
        wire.assert_violation(ErrorCode(row.code), row.requirement)
        assert wire.now == 1.0
        return row.effect
    if wire.core.close_action:
        assert wire.core.next_timeout() is None
        return m.EFFECT_OFF if state != m.HEARTBEAT_IN_OVER else m.EFFECT_IGNORE
    if input_ == m.IN_HEARTBEAT_IN_FRAME_BEGUN:
        assert dribble(wire, PING[5:]) == (SOON + 1.0, "FRM-013")
        return m.EFFECT_BEGIN
    if input_ == m.IN_HEARTBEAT_IN_FRAME_COMPLETE:
        assert dribble(listener(state), PING[5:]) == (1.0, "FRM-013")
        assert silence(wire) in (None, (SOON + 1.0, "HBT-003"))
        return m.EFFECT_END
    if input_ == m.IN_HEARTBEAT_IN_SET_UP:
        assert wire.events(HandshakeDone)
        assert silence(wire) == (SOON + 1.0, "HBT-003")
        return m.EFFECT_LISTEN
    return m.EFFECT_IGNORE if silence(wire) == silence(listener(state)) else m.EFFECT_RESTART


def in_state(wire: Wire[WorkerConnection]) -> int:
    """Find the state out by whether a PING is a frame of its own."""
    if wire.core.close_action:
        return m.HEARTBEAT_IN_OVER
    whole = codec.PONG in [frame[0] for frame in wire.send(PING)]
    if wire.events(HandshakeDone):
        return m.HEARTBEAT_IN_LISTENING if whole else m.HEARTBEAT_IN_LISTENING_FRAME
    return m.HEARTBEAT_IN_DEAF if whole else m.HEARTBEAT_IN_DEAF_FRAME


@IN.each_row()
def test_a_row_of_what_comes_in(state: int, input_: int) -> None:
    effect = heard(state, input_)
    wire = listener(state)
    hear(wire, state, input_)
    after = in_state(wire)
    IN.assert_obeyed(state, input_, effect, after)


# -- what goes out ---------------------------------------------------------------------------------

PATIENCE = 2.0
"""Seconds that our output may wait; the worker bears one second of our silence."""
ANSWER = settings_frame(idle_timeout_ms=1_000)


def speaker(state: int, input_: int) -> tuple[Wire[ClientConnection], int]:
    """A client SOON after it has entered the state, and the octets that wait for its kernel."""
    wire = client(
        shake=False, handshake_timeout=15.0, connect_timeout=15.0,
        idle_timeout_ms=round(1_000 * PATIENCE),
    )  # fmt: skip
    if state in (m.HEARTBEAT_OUT_OBLIGED, m.HEARTBEAT_OUT_OBLIGED_PENDING):
        wire.send(PREFACE, ANSWER, ACK)
        if input_ == m.IN_HEARTBEAT_OUT_PONG:
            assert wire.advance(0.45)[0][0] == codec.PING
    waiting = 0
    if state in (m.HEARTBEAT_OUT_FREE_PENDING, m.HEARTBEAT_OUT_OBLIGED_PENDING):
        waiting = more(wire)
    if state == m.HEARTBEAT_OUT_OVER:
        wire.core.abort(wire.now)
        wire.pull()
    wire.now += 0.3
    return wire, waiting


def more(wire: Wire[ClientConnection]) -> int:
    """Make output and keep it from the kernel; return its octets."""
    if not wire.core.close_action:
        wire.core.open(b"a", now=wire.now, data=b"x")
    return len(wire.core.data_to_send(wire.now))


def patience(wire: Wire[ClientConnection]) -> float | None:
    """Hear the peer and write nothing; return how long the core bears it, or None."""
    begun = wire.now
    while wire.now < begun + 2 * PATIENCE:
        wire.now += 0.1
        if wire.core._handshake.complete:
            wire.core.receive_data(PING, wire.now)
        wire.core.handle_timeout(wire.now)
        if wire.core.close_action:
            assert wire.core.close_action is CloseAction.ABORT
            wire.pull()
            assert wire.ended.requirement == "HBT-006"
            return round(wire.now - begun, 1)
        if not wire.core._heartbeat.unwritten:
            wire.pull()
    return None


def pinged(wire: Wire[ClientConnection]) -> bool:
    """Whether half of the worker's timeout makes the core send a PING."""
    return codec.PING in [frame[0] for frame in wire.advance(0.45)]


def say(wire: Wire[ClientConnection], waiting: int, input_: int) -> None:
    """Apply an input."""
    core = wire.core
    settings = PREFACE + ANSWER
    numbers = [frame[4] for frame in wire.frames if frame[0] == codec.PING]
    pong = codec.encode_pong(numbers[-1] if numbers else b"01234567")
    inputs: dict[int, Callable[[], object]] = {
        m.IN_HEARTBEAT_OUT_SETTINGS: lambda: core.receive_data(settings, wire.now),
        m.IN_HEARTBEAT_OUT_PENDING: lambda: more(wire),
        m.IN_HEARTBEAT_OUT_OCTET: lambda: core.data_sent(min(1, waiting), wire.now),
        m.IN_HEARTBEAT_OUT_FLUSHED: lambda: core.data_sent(waiting, wire.now),
        m.IN_HEARTBEAT_OUT_PING: lambda: core.receive_data(PING, wire.now),
        m.IN_HEARTBEAT_OUT_PONG: lambda: core.receive_data(pong, wire.now),
        m.IN_HEARTBEAT_OUT_PONG_STRAY: lambda: core.receive_data(
            codec.encode_pong(b"no such "), wire.now
        ),
        m.IN_HEARTBEAT_OUT_END: lambda: core.abort(wire.now),
    }
    inputs[input_]()


def said(state: int, input_: int) -> tuple[int, int]:
    """Read effect and next state of an input off what the core sends and bears."""
    wire, waiting = speaker(state, input_)
    core = wire.core
    glitches = core.counters.glitches
    if input_ == m.IN_HEARTBEAT_OUT_HALF:
        ping = pinged(wire)
        return (m.EFFECT_PING if ping else m.EFFECT_IGNORE), out_state(wire, waiting)
    if input_ == m.IN_HEARTBEAT_OUT_STUCK:
        assert patience(wire) == PATIENCE - 0.3
        return m.EFFECT_ABORT, m.HEARTBEAT_OUT_OVER
    say(wire, waiting, input_)
    if core.close_action:
        assert core.next_timeout() is None
        assert not wire.pull()
        was_over = state == m.HEARTBEAT_OUT_OVER
        return (m.EFFECT_IGNORE if was_over else m.EFFECT_OFF), m.HEARTBEAT_OUT_OVER
    left = waiting
    match input_:
        case m.IN_HEARTBEAT_OUT_SETTINGS:
            effect = m.EFFECT_RESTART
            if not waiting:
                wire.pull()  # SETTINGS_ACK
                wire.now += 0.3
                assert not wire.advance(0.05)  # counted from now on, and not from before
        case m.IN_HEARTBEAT_OUT_PENDING:
            other, _ = speaker(state, input_)
            say(other, waiting, input_)
            bears = patience(other)
            assert bears in (PATIENCE, PATIENCE - 0.3)
            effect = m.EFFECT_BEGIN if bears == PATIENCE else m.EFFECT_IGNORE
            left = wire.core._heartbeat.unwritten
        case m.IN_HEARTBEAT_OUT_OCTET:
            left -= 1
            other, _ = speaker(state, input_)
            say(other, waiting, input_)
            assert patience(other) == PATIENCE
            effect = m.EFFECT_RESTART
        case m.IN_HEARTBEAT_OUT_FLUSHED:
            left = 0
            effect = m.EFFECT_END
        case m.IN_HEARTBEAT_OUT_PING:
            answer = core.data_to_send(wire.now)
            assert codec.encode_pong(b"01234567") in answer
            left += len(answer)
            if not waiting:
                core.data_sent(left, wire.now)
                left = 0
            effect = m.EFFECT_PONG
        case m.IN_HEARTBEAT_OUT_PONG_STRAY:
            assert core.counters.glitches == glitches + 1
            effect = m.EFFECT_GLITCH
        case _:
            assert core.counters.glitches == glitches
            assert core.round_trip is not None
            effect = m.EFFECT_IGNORE
    return effect, out_state(wire, left)


def out_state(wire: Wire[ClientConnection], waiting: int) -> int:
    """Find the state out by whether a PING is owed once what waits is written."""
    if wire.core.close_action:
        return m.HEARTBEAT_OUT_OVER
    assert wire.core._heartbeat.unwritten == waiting
    if waiting:
        assert not pinged(wire)
        wire.core.data_sent(waiting, wire.now)
        wire.pull()
    obliged = pinged(wire)
    if waiting:
        return m.HEARTBEAT_OUT_OBLIGED_PENDING if obliged else m.HEARTBEAT_OUT_FREE_PENDING
    return m.HEARTBEAT_OUT_OBLIGED if obliged else m.HEARTBEAT_OUT_FREE


@OUT.each_row()
def test_a_row_of_what_goes_out(state: int, input_: int) -> None:
    OUT.assert_obeyed(state, input_, *said(state, input_))
