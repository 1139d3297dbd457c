"""The runner: twins, liveness, death of the target, deadlines, and what is never called a pass."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import model_worker
import pytest
from engine_fakes import make_case
from muxwire_conformance import wire
from muxwire_conformance.case import SAME, Case
from muxwire_conformance.context import Context
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings, preflight
from muxwire_conformance.session import Options, Session, Summary
from muxwire_conformance.target import Address
from muxwire_conformance.verdict import NotApplicable, Result, Verdict

BAD_FRAME = wire.ping(marker=0xF6)


@contextlib.asynccontextmanager
async def worker(*flaws: str, **config: int) -> AsyncIterator[model_worker.Server]:
    server = await model_worker.start(flaws=flaws, config=model_worker.Config(**config))
    try:
        yield server
    finally:
        await server.close()


def run(
    *cases: Case,
    flaws: tuple[str, ...] = (),
    before: Callable[[model_worker.Server], None] = lambda _server: None,
    findings: Findings | None = None,
    **options: Any,
) -> tuple[dict[str, Result], Summary]:
    """Run cases against the model worker and return results by id, and the counts."""

    async def main() -> tuple[dict[str, Result], Summary]:
        async with worker(*flaws) as server:
            before(server)
            address = Address(host="127.0.0.1", port=server.port)
            patience = Patience(1.0)
            found = findings or await preflight(address, patience, wait=0, seed=1)
            session = Session(
                address=address,
                cases=cases,
                patience=patience,
                findings=found,
                options=Options(seed=1, **options),
                on_result=lambda _result: None,
                library={one.id: one for one in cases},
            )
            await session.run()
            summary = session.summary(seconds=0, interrupted=False)
            return {result.id: result for result in session.results}, summary

    return asyncio.run(main())


async def passes(ctx: Context) -> None:
    conn = await ctx.ready()
    await conn.fence(check="one")


async def breaks_marker(ctx: Context) -> None:
    conn = await ctx.ready()
    conn.violate(BAD_FRAME, instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR")


NEGATIVE = make_case(breaks_marker, "FRM-002/bad", checks=("goaway", "end"), twin=SAME)


def only(results: dict[str, Result]) -> Result:
    assert len(results) == 1, results
    return next(iter(results.values()))


def test_a_pass_and_the_counts() -> None:
    results, summary = run(make_case(passes), NEGATIVE)
    assert [result.verdict for result in results.values()] == [Verdict.PASS] * 2
    assert summary.line() == (
        "selected 2 / ran 2 / passed 2 / failed 0 / warnings 0 / not applicable 0 / inconclusive 0"
    )


def test_a_case_that_ends_without_its_checks_is_inconclusive() -> None:
    async def forgets(ctx: Context) -> None:
        await ctx.ready()

    result = only(run(make_case(forgets))[0])
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "not made: one" in result.reason


def test_a_bug_in_a_case_is_an_error_with_its_traceback() -> None:
    async def buggy(_ctx: Context) -> None:
        raise ZeroDivisionError("oops")

    result = only(run(make_case(buggy))[0])
    assert result.verdict is Verdict.ERROR
    assert "ZeroDivisionError: oops" in result.traceback


def test_negative_vocabulary_without_a_twin_is_an_error() -> None:
    result = only(run(make_case(breaks_marker, checks=("goaway", "end")))[0])
    assert result.verdict is Verdict.ERROR
    assert "names no twin" in result.reason


def test_a_conformance_subject_needs_its_feature() -> None:
    async def careless(ctx: Context) -> None:
        conn = await ctx.ready()
        await conn.call("conformance.echo", b"x", check="one")

    assert only(run(make_case(careless))[0]).verdict is Verdict.ERROR
    declared = make_case(careless, features=("conformance",))
    assert only(run(declared)[0]).verdict is Verdict.PASS
    silent = only(run(declared, findings=Findings(asked=True, works=True))[0])
    assert silent.verdict is Verdict.NOT_APPLICABLE
    unknown = only(run(declared, findings=Findings(works=True))[0])
    assert unknown.verdict is Verdict.INCONCLUSIVE
    answers = Findings(asked=True, works=True, features=frozenset({"conformance"}))
    assert only(run(declared, findings=answers)[0]).verdict is Verdict.PASS


def test_a_path_is_judged_where_the_target_serves_it() -> None:
    over_tcp, over_http = make_case(passes), make_case(passes, "P1-001/any")
    answered, _summary = run(over_tcp, over_http)
    assert answered[over_tcp.id].verdict is Verdict.PASS
    assert answered[over_http.id].verdict is Verdict.NOT_APPLICABLE
    assert answered[over_http.id].path == "http"
    unknown = only(run(over_http, findings=Findings(works=True))[0])
    assert unknown.verdict is Verdict.INCONCLUSIVE
    shut = Findings(asked=True, works=True, closed={"http": "nobody answers"})
    closed = only(run(over_http, findings=shut)[0])
    assert closed.verdict is Verdict.INCONCLUSIVE
    assert "nobody answers" in closed.reason


@pytest.mark.parametrize("answer", [{"active": 0}, {"active": "many"}, {}])
def test_statistics_that_lack_numbers_are_no_bug_of_the_suite(answer: dict[str, Any]) -> None:
    async def reads(ctx: Context) -> None:
        await ctx.stats()
        ctx.emit("one")

    def before(server: model_worker.Server) -> None:
        server.stats = lambda: answer  # type: ignore[method-assign]

    one = make_case(reads, features=("conformance",))
    result = only(run(one, before=before)[0])
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "'active'" in result.reason or "'peak'" in result.reason or "numbers" in result.reason


def test_the_wrong_code_is_a_warning_and_a_bare_close_a_failure() -> None:
    async def expects_another(ctx: Context) -> None:
        conn = await ctx.ready()
        conn.violate(BAD_FRAME, instead_of=wire.ping())
        await conn.expect_connection_error("FRAME_SIZE_ERROR")

    one = make_case(expects_another, "FRM-002/other", checks=("goaway", "end"), twin=SAME)
    result = only(run(one)[0])
    assert result.verdict is Verdict.WARN
    assert "PROTOCOL_ERROR" in result.actual

    async def closes(ctx: Context) -> None:
        conn = await ctx.connect()
        conn.violate(b"GET /", instead_of=wire.preface() + conn.settings())
        await conn.expect_connection_error("PROTOCOL_ERROR")

    one = make_case(closes, "HSK-002/closes", checks=("goaway", "end"), twin=SAME)
    result = only(run(one)[0])
    assert result.verdict is Verdict.FAIL
    assert "without GOAWAY" in result.actual


def test_a_violation_that_goes_unpunished_fails_without_waiting() -> None:
    result = only(run(NEGATIVE, flaws=("frm-accepts-marker",))[0])
    assert result.verdict is Verdict.FAIL
    assert "the connection goes on" in result.actual
    assert result.seconds < 0.9
    marked = [entry for entry in result.transcripts[0].entries() if entry.marked]
    assert [entry.raw[0] for entry in marked] == [0xF6]


def test_a_negative_case_without_a_working_twin_proves_nothing() -> None:
    async def ends_in_both_forms(ctx: Context) -> None:
        conn = await ctx.ready()
        conn.violate(BAD_FRAME, instead_of=wire.goaway("INTERNAL_ERROR"))
        await conn.expect_connection_error("PROTOCOL_ERROR")

    one = make_case(ends_in_both_forms, checks=("goaway", "end"), twin=SAME)
    result = only(run(one)[0])
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "twin" in result.reason
    assert result.transcripts


@pytest.mark.parametrize("by_name", [False, True])
def test_a_twin_that_is_not_applicable_makes_the_case_so(by_name: bool) -> None:
    async def too_large(ctx: Context) -> None:
        if ctx.twin_run or by_name:
            raise NotApplicable("the window is too large")
        await breaks_marker(ctx)

    positive = make_case(too_large, "FRM-001/positive")
    twin = positive.id if by_name else SAME
    one = make_case(too_large, "FRM-002/negative", checks=("goaway", "end"), twin=twin)
    result = run(positive, one)[0][one.id]
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert result.reason == "the window is too large"
    assert not result.ran


@pytest.mark.parametrize("flaw", ["frm-pong-with-seq", "hbt-no-pong"])
@pytest.mark.parametrize("requirement", ["FRM-007", "FRM-008"])
def test_a_twin_that_fails_by_the_watched_rule_of_the_case(flaw: str, requirement: str) -> None:
    one = make_case(breaks_marker, f"{requirement}/bad", checks=("goaway", "end"), twin=SAME)
    result = run(one, flaws=(flaw,))[0][one.id]
    if (flaw, requirement) == ("frm-pong-with-seq", "FRM-007"):
        assert result.verdict is Verdict.FAIL
        assert "the seq of PONG is 1" in result.actual
        assert any(entry.marked for entry in result.transcripts[0].entries())
    elif flaw == "frm-pong-with-seq":
        assert result.verdict is Verdict.PASS
    else:
        assert result.verdict is Verdict.INCONCLUSIVE


def test_a_bug_in_the_reading_of_the_judge_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("oops")

    async def sees_nothing(ctx: Context) -> None:
        monkeypatch.setattr("muxwire_conformance.invariants.Watcher.frame", broken)
        conn = await ctx.connect()
        conn.send(wire.preface(), conn.settings())
        await conn.expect_preface()
        await conn.until(lambda: ctx.bug is not None, 5)
        monkeypatch.undo()
        ctx.check("one", not conn.frames, expected="no frame", actual=conn.frames)

    result = only(run(make_case(sees_nothing))[0])
    assert result.verdict is Verdict.ERROR
    assert "ZeroDivisionError: oops" in result.traceback


@pytest.mark.parametrize("jobs", [1, 8])
def test_a_twin_by_name_runs_once_and_counts(jobs: int) -> None:
    runs: list[str] = []

    async def positive(ctx: Context) -> None:
        runs.append("positive")
        await passes(ctx)

    async def failing(ctx: Context) -> None:
        ctx.check("one", False, expected="a", actual="b")

    good = make_case(positive, "FRM-001/good")
    bad = make_case(failing, "FRM-001/bad")
    negatives = [
        make_case(breaks_marker, f"FRM-002/n{n}", checks=("goaway", "end"), twin="FRM-001/good")
        for n in range(3)
    ]
    doubtful = make_case(
        breaks_marker, "FRM-002/doubtful", checks=("goaway", "end"), twin="FRM-001/bad"
    )
    results, _summary = run(*negatives, doubtful, good, bad, jobs=jobs)
    assert runs == ["positive"]
    assert [results[one.id].verdict for one in negatives] == [Verdict.PASS] * 3
    assert results["FRM-002/doubtful"].verdict is Verdict.INCONCLUSIVE
    assert results["FRM-001/bad"].verdict is Verdict.FAIL


def test_a_case_has_a_limit() -> None:
    async def hangs(_ctx: Context) -> None:
        await asyncio.Event().wait()

    result = only(run(make_case(hangs, limit=0.1))[0])
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "within 0.1 s" in result.reason


def test_the_run_has_a_limit_and_names_what_did_not_run() -> None:
    async def hangs(_ctx: Context) -> None:
        await asyncio.Event().wait()

    hanging = make_case(hangs, "FRM-001/hangs")
    waiting = make_case(passes, "FRM-003/waits")
    results, summary = run(hanging, waiting, jobs=1, max_time=0.2)
    assert {result.verdict for result in results.values()} == {Verdict.INCONCLUSIVE}
    assert (summary.ran, summary.inconclusive) == (0, 2)


def test_stop_at_first_failure() -> None:
    async def failing(ctx: Context) -> None:
        ctx.check("one", False, expected="a", actual="b")

    cases = [make_case(failing, f"FRM-002/f{n}") for n in range(4)]
    results, summary = run(*cases, jobs=1, stop_at_first=True)
    assert len(results) == 1
    assert summary.selected == 4


def test_timed_first_and_exclusive_alone() -> None:
    log: list[str] = []
    inside = 0

    def noting(name: str, *, alone: bool = False) -> Case:
        async def body(ctx: Context) -> None:
            nonlocal inside
            inside += 1
            log.append(name)
            await asyncio.sleep(0.01)
            ctx.check("one", not alone or inside == 1, expected="alone", actual=inside)
            inside -= 1

        return make_case(body, f"FRM-002/{name}", exclusive=alone, timed=name == "timed")

    cases = [noting("a-alone", alone=True), noting("b"), noting("c"), noting("timed")]
    results, _summary = run(*cases)
    assert {result.verdict for result in results.values()} == {Verdict.PASS}
    assert log == ["timed", "b", "c", "a-alone"]


def test_a_target_that_dies_is_named_and_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("muxwire_conformance.session.LIVENESS_TIME", 0.1)
    servers: list[model_worker.Server] = []

    async def kills(ctx: Context) -> None:
        await breaks_marker(ctx)
        if not ctx.twin_run:
            listener = servers[0].listener
            assert listener is not None
            listener.close()

    killer = make_case(kills, "FRM-002/killer", checks=("goaway", "end"), twin=SAME)
    first = make_case(passes, "FRM-001/first")
    later = [make_case(passes, f"FRM-003/l{n}") for n in range(3)]
    results, summary = run(first, killer, *later, jobs=1, before=servers.append)
    assert results["FRM-001/first"].verdict is Verdict.PASS
    assert results["FRM-002/killer"].verdict is Verdict.FAIL
    for one in later:
        assert results[one.id].verdict is Verdict.INCONCLUSIVE
        assert "died during FRM-002/killer" in results[one.id].reason
    assert (summary.ran, summary.inconclusive) == (2, 3)


def test_a_restarted_target_is_noticed() -> None:
    async def main() -> Result:
        async with worker() as server:
            address = Address(host="127.0.0.1", port=server.port)
            found = await preflight(address, Patience(), wait=0, seed=1)
            found.info["nonce"] = "of the process before"
            session = Session(
                address=address,
                cases=[NEGATIVE],
                patience=Patience(),
                findings=found,
                options=Options(seed=1),
                on_result=lambda _result: None,
                library={},
            )
            await session.run()
            return session.results[0]

    result = asyncio.run(main())
    assert result.verdict is Verdict.FAIL
    assert "restarted" in result.reason


def test_a_frame_that_breaks_an_always_on_rule_becomes_its_own_result() -> None:
    unrelated = make_case(passes, "SET-001/unrelated")
    results, summary = run(unrelated, flaws=("frm-pong-with-seq",))
    assert results["SET-001/unrelated"].verdict is Verdict.PASS
    seen = results["FRM-007/every-frame"]
    assert seen.verdict is Verdict.FAIL
    assert seen.rerun == "SET-001/unrelated"
    assert "PONG" in seen.actual
    assert summary.failed == 1

    citing = make_case(passes, "FRM-007/citing")
    results, _summary = run(citing, flaws=("frm-pong-with-seq",))
    assert results["FRM-007/citing"].verdict is Verdict.FAIL
    assert list(results) == ["FRM-007/citing"]


def test_the_seed_decides_every_random_choice() -> None:
    drawn: list[bytes] = []

    async def draws(ctx: Context) -> None:
        drawn.append(ctx.new_id() + ctx.nonce())
        ctx.emit("one")

    run(make_case(draws))
    run(make_case(draws))
    run(make_case(draws, "FRM-002/other"))
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(("late_runs", "verdict"), [(1, Verdict.PASS), (9, Verdict.INCONCLUSIVE)])
def test_a_case_is_run_once_more_if_the_judge_was_late(late_runs: int, verdict: Verdict) -> None:
    runs = 0

    async def timed(ctx: Context) -> None:
        nonlocal runs
        runs += 1
        if runs <= late_runs:
            ctx.late("0.7 s late")
        await passes(ctx)

    results, summary = run(make_case(timed))
    assert [result.verdict for result in results.values()] == [verdict]
    assert (runs, summary.ran) == (2, 1)


def test_a_twin_is_run_once_more_if_the_judge_was_late_in_it() -> None:
    runs = 0

    async def unpunctual(ctx: Context) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            ctx.late("0.7 s late")
        await passes(ctx)

    twin = make_case(unpunctual, "SET-001/twin")
    negative = make_case(passes, "SET-001/negative", twin=twin.id)
    results, _ = run(negative, twin)
    assert {result.verdict for result in results.values()} == {Verdict.PASS}
    assert runs == 2


def test_the_last_line_counts_every_verdict_and_shows_rare_ones_only_when_there() -> None:
    session = Session(
        address=Address(host="127.0.0.1", port=1),
        cases=[],
        patience=Patience(),
        findings=Findings(),
        options=Options(),
        on_result=lambda _result: None,
        library={},
    )
    assert "flaky" not in session.summary(seconds=0, interrupted=False).line()
    session.results = [
        Result(id="X", title="", requirement="FRM-001", level="MUST", verdict=verdict, seconds=0)
        for verdict in Verdict
    ]
    line = session.summary(seconds=0, interrupted=False).line()
    assert line.startswith("selected 1 / ran 8 / passed 1 / failed 1 / warnings 1")
    assert line.endswith("flaky 1 / expected failures 1 / unexpected passes 1 / suite errors 1")
