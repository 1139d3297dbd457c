"""When a client dials and tries again, and what it says then: in virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ERROR, NOT_PROCESSED, ErrorCode
from muxwire.errors import Outcome, RequestFailed
from recovery_world import World, world

pytestmark = pytest.mark.usefixtures("virtual_time")

BUSY = codec.encode_error_body(ErrorCode.OVERLOADED, NOT_PROCESSED, 400, b"")


@pytest.fixture(autouse=True)
def longest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every random delay be the longest that is allowed."""
    monkeypatch.setattr(random, "uniform", max)


def opened(it: World) -> list[tuple[bytes, codec.Open]]:
    """Return request id and content of every OPEN that a worker has seen."""
    frames = [frame for line in it.lines for frame in line.see() if frame[0] == codec.REQUEST]
    return [(frame[3], codec.decode_open(frame[4], 1 << 16)) for frame in frames]


async def pause(seconds: float) -> None:
    """Let virtual time pass."""
    await asyncio.sleep(seconds)


async def test_three_attempts_with_fresh_ids_and_shrinking_deadlines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """REC-005, REC-007."""
    async with world(monkeypatch) as it:
        await it.reach()
        await it.ask(5.0)
        for _ in range(3):
            it.answer(BUSY, END_STREAM | ERROR, 0)
            await pause(0.601)
        attempts = opened(it)
        assert len({request_id for request_id, _ in attempts}) == 3
        left = [attempt.timeout_ms for _, attempt in attempts]
        assert left == pytest.approx([5_000, 4_400, 3_800], abs=2)
        headers = [dict(attempt.headers) for _, attempt in attempts]
        assert [found.get(b"attempt") for found in headers] == [None, b"2", b"3"]
        assert len({found[b"request-id"] for found in headers}) == 1
        assert it.sink.heard == ["retry", "retry", "failed"]
        error = it.sink.failed
        assert isinstance(error, RequestFailed)
        assert (error.attempts, error.outcome, error.code) == (
            3,
            Outcome.NOT_PROCESSED,
            ErrorCode.OVERLOADED,
        )


async def test_no_retry_is_announced_or_paid_for_that_comes_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """REC-005, REC-006."""
    async with world(monkeypatch) as it:
        await it.reach()
        await it.ask(0.5)
        it.answer(BUSY, END_STREAM | ERROR, 0)
        await it.turn()
        assert it.sink.heard == ["failed"]
        error = it.sink.failed
        assert isinstance(error, RequestFailed)
        assert (error.outcome, error.code, error.local) == (
            Outcome.NOT_PROCESSED,
            ErrorCode.DEADLINE_EXCEEDED,
            True,
        )
        assert sum(it.client.may_spend_retry() for _ in range(50)) == 10  # nothing was spent


async def test_a_retry_prefers_another_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """REC-008."""
    async with world(monkeypatch) as it:
        await it.reach("a:1")
        await it.ask()
        await it.reach("b:1")
        first, second = it.lines
        request_id, _ = opened(it)[0]
        first.say(codec.response_header(END_STREAM | ERROR, 0, len(BUSY), request_id) + BUSY)
        await pause(0.601)
        kinds = [[frame[0] for frame in line.see()].count(codec.REQUEST) for line in it.lines]
        assert kinds == [1, 1]
        assert second.see()[-1][0] == codec.REQUEST


async def test_a_request_that_waits_when_a_drain_begins_moves_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CLS-008, FAI-001: it was not sent, so that costs no attempt."""
    async with world(monkeypatch, idempotent=False) as it:
        await it.reach("a:1")
        it.line.hold = True
        it.line.buffer = 1 << 20  # nothing more is written
        await it.ask()
        it.line.say(codec.encode_goaway(ErrorCode.NO_ERROR, 0, 30_000, b""))
        await it.turn()
        await it.reach("b:1")
        ((_, moved),) = opened(it)
        assert b"attempt" not in dict(moved.headers)
        it.answer(b"", END_STREAM, 0)
        assert it.sink.heard[-1] == "end"


async def test_failing_dials_back_off_to_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """REC-004; that there is one dial at a time in a slot is watched by the world itself."""
    async with world(monkeypatch) as it:
        it.refusing = True
        await pause(45.0)
        expected = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0]
        assert it.gaps("a:1") == it.gaps("b:1") == expected


async def test_a_worker_that_only_shakes_hands_does_not_reset_the_delay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """REC-004."""
    async with world(monkeypatch) as it:
        it.reachable["a:1"].set()
        for expected in (0.1, 0.2, 0.4, 0.8):
            await it.turn()
            it.line.lose()
            await pause(expected + 0.001)
        assert it.gaps("a:1") == pytest.approx([0.1, 0.2, 0.4, 0.8], abs=0.002)


@pytest.mark.parametrize("proof", ["terminal", "time"])
async def test_a_healthy_connection_resets_the_delay(
    monkeypatch: pytest.MonkeyPatch, proof: str
) -> None:
    """REC-004: a terminal behind the handshake, or ten seconds."""
    async with world(monkeypatch) as it:
        it.refusing = True
        await pause(3.2)
        it.refusing = False
        it.reachable["a:1"].set()
        await pause(3.2)
        it.reachable["a:1"].clear()
        before = len(it.gaps("a:1"))
        if proof == "terminal":
            await it.ask()
            it.answer(b"", END_STREAM, 0)
        else:
            await pause(10.0)
        lost = it.client.now()
        it.line.lose()
        await pause(0.2)
        assert it.dials[-1] == (pytest.approx(lost + 0.1), "a:1")
        assert len(it.gaps("a:1")) == before + 1


async def test_a_draining_connection_is_replaced_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """REC-004, CLS-008."""
    async with world(monkeypatch) as it:
        await it.reach("a:1")
        await pause(1.0)
        now = it.client.now()
        it.line.say(codec.encode_goaway(ErrorCode.NO_ERROR, 0, 30_000, b""))
        await it.turn()
        assert it.dials[-1] == (now, "a:1")
