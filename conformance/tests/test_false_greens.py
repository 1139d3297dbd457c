"""Fifteen ways in which other suites were green by mistake; here each is shut.

The numbers are those of the list of known holes. Each test lets the hole happen and looks at what
the judge makes of it.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import test_mutants
from engine_fakes import FakePeer, make_case, registered
from model_worker import Server, start
from mutation_table import Trial
from muxwire_conformance.case import SAME, load_cases
from muxwire_conformance.cli import main
from muxwire_conformance.context import Context
from muxwire_conformance.preflight import Findings
from muxwire_conformance.verdict import ExitCode, Verdict, exit_code
from test_session import NEGATIVE, breaks_marker, only, passes, run
from test_zoo import SETUP, answers_all, goaway_to_all, says

QUICK = ("--timeout", "0.05", "--confirm", "0", "--max-time", "5", "--jobs", "32", "-q")


def judge_model(*words: str, flaws: tuple[str, ...] = ()) -> int:
    """Judge the model worker by the command line and return the exit code."""

    async def judge() -> int:
        server = await start(flaws=flaws)
        target = ["--target", f"127.0.0.1:{server.port}", "--confirm", "0", "-q"]
        code = await asyncio.to_thread(main, ["check", *words, *target])
        await server.close()
        return code

    return asyncio.run(judge())


def test_01_a_bare_close_is_no_error_frame() -> None:
    result = only(run(NEGATIVE, flaws=("cls-no-goaway",))[0])
    assert result.verdict is Verdict.FAIL
    assert "without GOAWAY" in result.actual


def test_02_a_dead_target_loses_neither_the_report_nor_the_culprit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("muxwire_conformance.session.LIVENESS_TIME", 0.1)
    servers: list[Server] = []

    async def kills(ctx: Context) -> None:
        await breaks_marker(ctx)
        listener = servers[0].listener
        if not ctx.twin_run and listener is not None:
            listener.close()

    killer = make_case(kills, "FRM-002/a-killer", checks=("goaway", "end"), twin=SAME)
    later = make_case(passes, "FRM-003/later")
    results, summary = run(killer, later, jobs=1, before=servers.append)
    assert results[killer.id].verdict is Verdict.FAIL
    assert results[later.id].verdict is Verdict.INCONCLUSIVE
    assert summary.selected == len(results) == 2


def test_03_nothing_selected_is_not_green(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "-k", "no-such-word"]) == ExitCode.NOTHING_RAN
    assert "nothing is selected" in capsys.readouterr().err


def test_04_an_unknown_id_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "FRM-002/requests"]) == ExitCode.USAGE
    assert "did you mean FRM-002/request" in capsys.readouterr().err


def test_05_a_report_that_cannot_be_written_is_not_green(tmp_path: Path) -> None:
    words = ("FRM-002/request", "--json", str(tmp_path / "no" / "such" / "folder.json"))
    assert judge_model(*words) == ExitCode.SUITE_ERROR


def test_06_the_exit_code_counts_nothing() -> None:
    assert exit_code([Verdict.FAIL] * 256, ran=256, strict=False) == 1


def test_07_a_failure_is_an_exit_code() -> None:
    assert judge_model("FRM-002/request") == ExitCode.CONFORMANT
    assert judge_model("FRM-002/request", flaws=("frm-accepts-marker",)) == 1


def test_08_a_skip_is_no_pass() -> None:
    one = make_case(passes, features=("callhome",))
    found = Findings(asked=True, works=True)
    results, summary = run(one, findings=found)
    assert only(results).verdict is Verdict.NOT_APPLICABLE
    assert (summary.passed, summary.ran, summary.not_applicable) == (0, 0, 1)
    verdicts = [result.verdict for result in results.values()]
    assert exit_code(verdicts, ran=summary.ran, strict=False) is ExitCode.NOTHING_RAN


def test_09_a_check_that_was_never_made_is_missed() -> None:
    async def ends_early(ctx: Context) -> None:
        await ctx.ready()
        ctx.emit("one")

    result = only(run(make_case(ends_early, checks=("one", "two")))[0])
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "not made: two" in result.reason


def test_10_who_rejects_everything_passes_no_negative_case(tmp_path: Path) -> None:
    negative = [id for id, one in load_cases().items() if one.negative and id[:3] in ("FRM", "TYP")]
    path = tmp_path / "run.json"
    with FakePeer(answers_all(goaway_to_all)) as peer:
        words = ["check", *negative, "--target", str(peer.address), "--json", str(path), *QUICK]
        assert main(words) == ExitCode.NOT_CONFORMANT
    results = json.loads(path.read_text())["results"]
    assert len(results) >= len(negative)
    assert [one["id"] for one in results if one["verdict"] == "PASS"] == []


def test_11_who_does_nothing_passes_nothing(tmp_path: Path) -> None:
    positive = [id for id, one in load_cases().items() if not one.negative and id[:3] == "MSG"]
    path = tmp_path / "run.json"
    with FakePeer(says(SETUP)) as peer:
        words = ["check", *positive, "--target", str(peer.address), "--json", str(path), *QUICK]
        assert main(words) == ExitCode.NOT_CONFORMANT
    results = json.loads(path.read_text())["results"]
    assert [one["id"] for one in results if one["verdict"] == "PASS"] == []


def test_12_what_was_never_asked_is_not_unsupported() -> None:
    one = make_case(passes, features=("conformance",))
    result = only(run(one, findings=Findings(asked=False, works=True))[0])
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "could not be asked" in result.reason


@pytest.mark.parametrize(
    ("entry", "said"),
    [("FRM-002/request", "unexpected passes 1"), ("FRM-002/forgotten", "FRM-002/forgotten")],
)
def test_13_an_expectation_that_went_stale_is_not_green(
    entry: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "known.toml"
    path.write_text(f"[[case]]\nid = '{entry}'\nreason = 'it was so once'\n")
    code = judge_model("FRM-002/request", "--baseline", str(path))
    assert code == ExitCode.NOT_CONFORMANT
    captured = capsys.readouterr()
    assert said in captured.out + captured.err


def test_14_a_bug_that_hides_every_frame_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("oops")

    async def sees_nothing(ctx: Context) -> None:
        conn = await ctx.ready()
        monkeypatch.setattr("muxwire_conformance.invariants.Watcher.frame", broken)
        await conn.try_fence(within=0.2)  # the PONG comes, and is not seen
        ctx.emit("one")

    one = make_case(sees_nothing)
    with registered(one):
        result = only(run(one)[0])
    assert result.verdict is Verdict.ERROR
    assert "ZeroDivisionError: oops" in result.traceback


def test_15_a_mutation_that_did_not_apply_proves_nothing() -> None:
    async def reached(talk: bool) -> set[str]:
        server = await start(flaws=["frm-accepts-marker"])
        if talk:
            await asyncio.to_thread(
                main,
                [
                    *("check", "FRM-002/request", "--confirm", "0", "-q"),
                    *("--target", f"127.0.0.1:{server.port}"),
                ],
            )
        await server.close()
        return server.reached

    assert asyncio.run(reached(False)) == set()
    assert asyncio.run(reached(True)) == {"frm-accepts-marker"}
    name = "frm-accepts-marker"
    trial = Trial(role="worker", flaw=name, outcomes={}, reached=False)
    with pytest.raises(AssertionError, match="no case reached the altered guard"):
        test_mutants.test_a_flaw_is_caught(({("worker", name): trial}, ""), "worker", name)
