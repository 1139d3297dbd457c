"""A failure that does not come again is FLAKY: red, counted apart, and never a pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from engine_fakes import make_case
from muxwire_conformance import session as session_module
from muxwire_conformance.case import Case
from muxwire_conformance.confirm import settle
from muxwire_conformance.context import Context
from muxwire_conformance.verdict import Result, Verdict
from test_session import passes, run


def result(verdict: Verdict) -> Result:
    return Result(
        id="FRM-002/x",
        title="",
        requirement="FRM-002",
        level="MUST",
        verdict=verdict,
        seconds=0,
        reason="why",
    )


@pytest.mark.parametrize(
    ("again", "alone", "verdict", "reason"),
    [
        ("FAIL FAIL", False, Verdict.FAIL, "why (failed again 2 of 2 times alone)"),
        ("", False, Verdict.FAIL, "why"),
        ("INCONCLUSIVE N/A", False, Verdict.FAIL, "why"),
        ("FAIL PASS", False, Verdict.FLAKY, "failed 2 of 3 times: why"),
        ("PASS WARN", True, Verdict.FLAKY, "failed 1 of 3 times: why"),
        (
            "PASS PASS",
            False,
            Verdict.FLAKY,
            "FAIL-UNDER-LOAD, held 2 of 2 times alone; failed 1 of 3 times: why",
        ),
        ("PASS ERROR", False, Verdict.ERROR, "why"),
    ],
)
def test_what_a_failure_is_worth(again: str, alone: bool, verdict: Verdict, reason: str) -> None:
    runs = [result(Verdict(word)) for word in again.split()]
    settled = settle(result(Verdict.FAIL), runs, alone=alone)
    assert (settled.verdict, settled.reason) == (verdict, reason)
    assert settled.attempts == [Verdict.FAIL, *(one.verdict for one in runs)]


def fails(times: Sequence[bool], id: str = "FRM-002/sometimes") -> Case:
    """Build a case that fails on those of its runs for which ``times`` says so."""
    left = list(times)

    async def body(ctx: Context) -> None:
        ctx.check("one", not left.pop(0), expected="a", actual="b")

    return make_case(body, id)


@pytest.mark.parametrize("jobs", [1, 8])
@pytest.mark.parametrize(
    ("times", "verdict"),
    [([True, True, True], Verdict.FAIL), ([True, False, False], Verdict.FLAKY)],
)
def test_a_failure_is_run_again(jobs: int, times: list[bool], verdict: Verdict) -> None:
    results, summary = run(fails(times), make_case(passes, "FRM-001/p"), jobs=jobs, confirm=2)
    assert results["FRM-002/sometimes"].verdict is verdict
    assert results["FRM-001/p"].attempts == []
    assert (summary.failed, summary.flaky) == ((1, 0) if verdict is Verdict.FAIL else (0, 1))
    under_load = "FAIL-UNDER-LOAD" in results["FRM-002/sometimes"].reason
    assert under_load == (verdict is Verdict.FLAKY and jobs > 1)


def test_it_is_run_again_alone() -> None:
    inside: set[str] = set()
    seen: list[set[str]] = []

    def crowded(name: str) -> Case:
        async def body(ctx: Context) -> None:
            inside.add(name)
            await asyncio.sleep(0.01)
            seen.append(set(inside))
            inside.discard(name)
            ctx.check("one", False, expected="a", actual="b")

        return make_case(body, f"FRM-002/{name}")

    run(crowded("a"), crowded("b"), confirm=2)
    assert len(seen[0] | seen[1]) == 2
    assert [len(others) for others in seen[2:]] == [1] * 4


def test_confirming_takes_no_longer_than_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "LEAST_TIME", 0.0)
    runs = []

    def slow(name: str) -> Case:
        async def body(ctx: Context) -> None:
            runs.append(name)
            await asyncio.sleep(0.05)
            ctx.check("one", False, expected="a", actual="b")

        return make_case(body, f"FRM-002/{name}")

    started = time.monotonic()
    results, _summary = run(*(slow(f"n{n}") for n in range(8)), confirm=50)
    assert {one.verdict for one in results.values()} == {Verdict.FAIL}
    assert len(runs) < 100, time.monotonic() - started


def test_a_run_that_is_over_reports_failures_without_confirmation() -> None:
    async def fails_then_hangs(ctx: Context) -> None:
        if hung:
            await asyncio.Event().wait()
        hung.append(True)
        ctx.check("one", False, expected="a", actual="b")

    hung: list[bool] = []
    results, summary = run(make_case(fails_then_hangs), confirm=2, max_time=0.5)
    assert [one.verdict for one in results.values()] == [Verdict.FAIL]
    assert summary.inconclusive == 0


@pytest.mark.parametrize(("delay", "runs"), [(0.0, 1), (1.0, 2)])
def test_a_case_that_came_to_nothing_is_run_again_if_the_judge_was_starved(
    delay: float, runs: int
) -> None:
    tried = []

    async def starves(ctx: Context) -> None:
        tried.append(ctx.twin_run)
        if len(tried) == 1:
            ctx.patience.record(delay)
            ctx.unprepared("a machine with time")
        ctx.emit("one")

    results, _summary = run(make_case(starves), confirm=2)
    assert len(tried) == runs
    expected = Verdict.PASS if runs == 2 else Verdict.INCONCLUSIVE
    assert [one.verdict for one in results.values()] == [expected]
