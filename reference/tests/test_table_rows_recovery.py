"""Every row of the recovery table: one request of a client over all its attempts.

The client is whole, in virtual time.  Effects are read off what the caller hears and what the
workers see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from muxwire._generated import codec
from muxwire._generated import machines as m
from muxwire._generated.registries import END_STREAM, ERROR, META, NOT_PROCESSED, ErrorCode
from muxwire.errors import Outcome
from recovery_world import World, world
from table_rows import Machine

pytestmark = pytest.mark.usefixtures("virtual_time")

RECOVERY = Machine(
    "RECOVERY",
    {
        (m.RECOVERY_BACKING_OFF, m.IN_RECOVERY_DEADLINE): (
            "a delay that the deadline would cut short is not begun (REC-005)"
        )
    },
)
REFUSAL = codec.MAGIC + bytes((9, 7, 32, 0, 0, 0, 0, 0))
TIMEOUT = 5.0
HINT = 0.5
"""Seconds that a worker asks to wait for at least."""


HEADERS = codec.encode_response_meta([(b"k", b"v")])
BUSY = codec.encode_error_body(ErrorCode.OVERLOADED, 0, round(HINT * 1000), b"")
UNTOUCHED = codec.encode_error_body(ErrorCode.OVERLOADED, NOT_PROCESSED, round(HINT * 1000), b"")
KILLED = (m.RECOVERY_KILLED, m.RECOVERY_KILLED_RESPONDING)
RESPONDING = (m.RECOVERY_RESPONDING, m.RECOVERY_KILLED_RESPONDING)
TIMED = (m.IN_RECOVERY_DEADLINE, m.IN_RECOVERY_OVERDUE, m.IN_RECOVERY_UNANSWERED)
RULED = (m.IN_RECOVERY_RETRY, m.IN_RECOVERY_NO_RETRY, m.IN_RECOVERY_NO_BUDGET)


async def enter(it: World, state: int, input_: int) -> None:
    """Bring the request into a state in which the input can come."""
    timeout = TIMEOUT if input_ in TIMED else None
    if state == m.RECOVERY_WAITING:
        if input_ in (m.IN_RECOVERY_OPENED, m.IN_RECOVERY_UNPLACED, *TIMED):
            await it.ask(timeout)
            return
        await it.reach()
        it.line.hold = True  # the kernel takes nothing, and what is written fills it
        it.line.buffer = 1 << 20
        await it.ask()
        assert codec.REQUEST not in it.kinds()
        return
    await it.reach()
    if state == m.RECOVERY_RULING and input_ == m.IN_RECOVERY_NO_BUDGET:
        while it.client.may_spend_retry():
            pass
    await it.ask(timeout)
    assert it.kinds() == [codec.REQUEST]
    if state in RESPONDING:
        it.answer(HEADERS, META, 0)
    if state in KILLED:
        if input_ == m.IN_RECOVERY_UNANSWERED:
            await asyncio.sleep(TIMEOUT + 0.75)
        else:
            it.request.kill(ErrorCode.CANCELLED)
        await it.turn()
        assert it.kinds() == [codec.REQUEST, codec.KILL]
    if state == m.RECOVERY_BACKING_OFF:
        it.answer(UNTOUCHED, END_STREAM | ERROR, 0)
        assert it.sink.heard == ["retry"]
    if state == m.RECOVERY_DONE:
        it.answer(b"", END_STREAM, 0)
        assert it.sink.heard == ["end"]
    it.sink.heard.clear()


async def apply(it: World, state: int, input_: int) -> None:
    """Bring an input about."""
    seq = 1 if state in RESPONDING else 0
    last = END_STREAM | ERROR

    def goaway(code: int, last_ordinal: int) -> None:
        it.line.say(codec.encode_goaway(code, last_ordinal, 30_000, b""))

    inputs: dict[int, Callable[[], object]] = {
        m.IN_RECOVERY_RESPONSE: lambda: it.answer(b"data", 0, seq),
        m.IN_RECOVERY_SUCCESS: lambda: it.answer(b"", END_STREAM, seq),
        m.IN_RECOVERY_ERROR: lambda: it.answer(BUSY, last, seq),
        m.IN_RECOVERY_ERROR_NOT_PROCESSED: lambda: it.answer(UNTOUCHED, last, seq),
        m.IN_RECOVERY_NOT_COVERED: lambda: goaway(ErrorCode.NO_ERROR, 0),
        m.IN_RECOVERY_COVERED: lambda: goaway(ErrorCode.NO_ERROR, 1),
        m.IN_RECOVERY_REFUSED: lambda: it.line.say(REFUSAL),
        m.IN_RECOVERY_LOST: it.line.lose if it.lines else lambda: None,
        m.IN_RECOVERY_LOCAL_KILL: lambda: it.request.kill(ErrorCode.CANCELLED),
    }
    waits = {
        m.IN_RECOVERY_DEADLINE: TIMEOUT + 0.01,
        m.IN_RECOVERY_OVERDUE: TIMEOUT + 0.8,
        m.IN_RECOVERY_UNANSWERED: 1.01,
        m.IN_RECOVERY_UNPLACED: 10.01,
        m.IN_RECOVERY_DELAY_OVER: 1.5 * HINT,
    }
    if input_ == m.IN_RECOVERY_OPENED:
        await it.reach("b:1")
    elif input_ in waits:
        await asyncio.sleep(waits[input_])
    else:
        inputs[input_]()
    await it.turn()


async def rule(it: World, input_: int) -> tuple[int, int]:
    """End an attempt, so that a rule about retries has to decide."""
    if input_ == m.IN_RECOVERY_NO_RETRY:  # the class is AMBIGUOUS, and it is not idempotent
        it.line.lose()
    else:
        it.answer(BUSY, END_STREAM | ERROR, 0)
    await it.turn()
    if it.sink.heard == ["retry"]:
        await asyncio.sleep(HINT - 0.01)
        assert it.kinds() == [codec.REQUEST]
        return m.EFFECT_BACK_OFF, m.RECOVERY_BACKING_OFF
    assert it.sink.heard == ["failed"]
    return m.EFFECT_REPORT, m.RECOVERY_DONE


def effect_of(it: World, state: int, input_: int, before: int) -> int:
    """Read the effect off what the caller has heard and the workers have seen."""
    heard = it.sink.heard
    new = it.kinds()[before:]
    classes = {
        Outcome.NOT_SENT: m.EFFECT_NOT_SENT,
        Outcome.NOT_PROCESSED: m.EFFECT_NOT_PROCESSED,
        Outcome.AMBIGUOUS: m.EFFECT_AMBIGUOUS,
        Outcome.FAILED: m.EFFECT_FAILED,
        Outcome.PARTIAL: m.EFFECT_PARTIAL,
    }
    if heard:
        (what,) = heard
        if what == "end":
            return m.EFFECT_SUCCEED
        if what == "message":
            return m.EFFECT_DELIVER
        if what == "failed" and state in (m.RECOVERY_WAITING, m.RECOVERY_BACKING_OFF):
            return m.EFFECT_REPORT
        outcome = it.sink.outcome
        assert outcome is not None
        return classes[outcome]
    if new:
        (kind,) = new
        return m.EFFECT_KILL if kind == codec.KILL else m.EFFECT_COUNT
    if input_ == m.IN_RECOVERY_RESPONSE and state in KILLED:
        return m.EFFECT_DISCARD
    return m.EFFECT_IGNORE


async def state_of(it: World, state: int, input_: int) -> int:
    """Find the state out by what was heard, and by what a loss of the connection leads to."""
    heard = it.sink.heard
    if "failed" in heard and state in (m.RECOVERY_SENT, m.RECOVERY_RESPONDING):
        assert it.sink.outcome is Outcome.PARTIAL  # the class that no ruling can retry
        return m.RECOVERY_RULING
    if state == m.RECOVERY_DONE or "failed" in heard or "end" in heard:
        return m.RECOVERY_DONE
    if "retry" in heard:
        return m.RECOVERY_WAITING if state == m.RECOVERY_WAITING else m.RECOVERY_RULING
    if state == m.RECOVERY_BACKING_OFF:
        return state
    killed = codec.KILL in it.kinds()
    late = input_ in TIMED  # no attempt begins behind the deadline
    heard.clear()
    it.line.lose()
    await it.turn()
    outcome = it.sink.outcome
    assert heard == ["failed" if killed or late or outcome is Outcome.PARTIAL else "retry"]
    if outcome is Outcome.PARTIAL:
        return m.RECOVERY_KILLED_RESPONDING if killed else m.RECOVERY_RESPONDING
    assert outcome is Outcome.AMBIGUOUS
    return m.RECOVERY_KILLED if killed else m.RECOVERY_SENT


@RECOVERY.each_row()
async def test_a_row_of_recovery(monkeypatch: pytest.MonkeyPatch, state: int, input_: int) -> None:
    row = RECOVERY.row(state, input_)
    early = input_ == m.IN_RECOVERY_REFUSED and state not in (
        m.RECOVERY_BACKING_OFF,
        m.RECOVERY_DONE,
    )
    idempotent = input_ != m.IN_RECOVERY_NO_RETRY
    async with world(monkeypatch, pipeline=early, idempotent=idempotent) as it:
        if state == m.RECOVERY_RULING:
            await enter(it, state, input_)
            RECOVERY.assert_obeyed(state, input_, *await rule(it, input_))
            return
        await enter(it, state, input_)
        before = len(it.kinds())
        if input_ == m.IN_RECOVERY_DELAY_OVER:
            await waits_again(it)
            RECOVERY.assert_obeyed(state, input_, m.EFFECT_AGAIN, m.RECOVERY_WAITING)
            return
        line = it.line if it.lines else None
        await apply(it, state, input_)
        if row.effect == m.EFFECT_VIOLATION:
            assert line is not None
            goaways = [frame[4] for frame in line.see() if frame[0] == codec.GOAWAY]
            goaway = codec.decode_goaway(goaways[0])
            assert (goaway.code, goaway.message.decode()[:7]) == (row.code, row.requirement)
            assert it.sink.outcome is Outcome.PARTIAL
            RECOVERY.assert_obeyed(state, input_, m.EFFECT_VIOLATION, row.state)
            return
        effect = effect_of(it, state, input_, before)
        RECOVERY.assert_obeyed(state, input_, effect, await state_of(it, state, input_))


async def waits_again(it: World) -> None:
    """Let the delay pass while no worker takes requests, and then let one take them (REC-007)."""
    it.line.say(codec.encode_goaway(ErrorCode.NO_ERROR, 1, 30_000, b""))
    await asyncio.sleep(1.5 * HINT)
    assert it.kinds() == [codec.REQUEST]
    await it.reach("b:1")
    first, second = (
        frame for line in it.lines for frame in line.see() if frame[0] == codec.REQUEST
    )
    assert first[3] != second[3]
    assert (b"attempt", b"2") in codec.decode_open(second[4], 1 << 16).headers
