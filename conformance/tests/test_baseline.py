"""Known failures: run, and excused only as they were described."""

from __future__ import annotations

import datetime
import json
import tomllib
from pathlib import Path

import pytest
from muxwire_conformance.baseline import (
    Baseline,
    BaselineError,
    BaselineReport,
    Entry,
    load_baseline,
    toml_string,
)
from muxwire_conformance.cli import main
from muxwire_conformance.verdict import Result, Verdict
from report_samples import COUNTS, HEAD, NASTY, result
from test_conformance_cli import FAST, judge, model_worker

TODAY = datetime.date(2026, 6, 1)
ID = "FRM-002/bad-marker"


def revised(verdict: Verdict, **members: object) -> Result:
    """Return a result as a baseline with one entry sees it."""
    given: dict[str, object] = {"id": ID, "reason": "not written yet", **members}
    entry = Entry(**given)  # type: ignore[arg-type]
    before = result(verdict, reason="check 'goaway' does not hold")
    after = Baseline([entry], today=TODAY).revise(before)
    assert before.verdict is verdict
    return after


@pytest.mark.parametrize(
    ("verdict", "members", "expected"),
    [
        (Verdict.FAIL, {}, Verdict.XFAIL),
        (Verdict.WARN, {}, Verdict.XFAIL),
        (Verdict.PASS, {}, Verdict.XPASS),
        (Verdict.NOT_APPLICABLE, {}, Verdict.NOT_APPLICABLE),
        (Verdict.ERROR, {}, Verdict.ERROR),
        (Verdict.INCONCLUSIVE, {}, Verdict.INCONCLUSIVE),
        (Verdict.INCONCLUSIVE, {"contains": "'goaway'"}, Verdict.XFAIL),
        (Verdict.FAIL, {"contains": "'goaway'"}, Verdict.XFAIL),
        (Verdict.FAIL, {"contains": "elsewhere"}, Verdict.FAIL),
        (Verdict.FLAKY, {}, Verdict.FLAKY),
        (Verdict.FLAKY, {"flaky": True}, Verdict.XFAIL),
        (Verdict.PASS, {"flaky": True}, Verdict.PASS),
        (Verdict.FAIL, {"flaky": True}, Verdict.XFAIL),
        (Verdict.FAIL, {"until": TODAY}, Verdict.XFAIL),
        (Verdict.FAIL, {"until": TODAY - datetime.timedelta(1)}, Verdict.FAIL),
        (Verdict.PASS, {"until": TODAY - datetime.timedelta(1)}, Verdict.XPASS),
    ],
)
def test_what_an_entry_makes_of_a_verdict(
    verdict: Verdict, members: dict[str, object], expected: Verdict
) -> None:
    assert revised(verdict, **members).verdict is expected


def test_the_reason_is_told() -> None:
    known = revised(Verdict.FAIL, url="https://issues.invalid/7").known
    assert known == "not written yet https://issues.invalid/7"
    assert "not written yet; remove the entry" in revised(Verdict.PASS).reason
    late = revised(Verdict.FAIL, until=datetime.date(2026, 5, 31))
    assert "expired on 2026-05-31" in late.reason
    assert "with 'elsewhere'" in revised(Verdict.FAIL, contains="elsewhere").reason


def test_cases_without_an_entry_are_left_alone() -> None:
    one = result(Verdict.FAIL, "FRM-003/x")
    assert Baseline([Entry(id=ID, reason="r")]).revise(one) is one


def test_an_entry_for_no_case_names_the_near_ones() -> None:
    entries = [Entry(id="FRM-002/bad-markr", reason="r"), Entry(id="FRM-003/x", reason="r")]
    (line,) = Baseline(entries).unmatched([ID, "FRM-003/x"])
    assert "FRM-002/bad-markr; did you mean FRM-002/bad-marker" in line


# -- the file ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[case]]\nid = 'a'", "entry 1: reason is missing"),
        ("[[case]]\nid = ' '\nreason = 'r'", "entry 1: id is missing"),
        ("[[case]]\nid = 'a'\nreason = 'r'\nurk = 'x'", "'urk' is unknown, did you mean 'url'"),
        ("[[case]]\nid = 'a'\nreason = 3", "reason is a text, not 3"),
        ("[[case]]\nid = 'a'\nreason = 'r'\nuntil = 'soon'", "until is a date"),
        ("[[case]]\nid = 'a'\nreason = 'r'\nuntil = 2026-01-01T00:00:00Z", "until is a date"),
        ("[[case]]\nid = 'a'\nreason = 'r'\nflaky = 'yes'", "flaky is true or false"),
        ("[[case]]\nid='a'\nreason='r'\n[[case]]\nid='a'\nreason='s'", "a is listed twice"),
        ("case = 3", r"entries are \[\[case\]\] tables"),
        ("[[cases]]\nid = 'a'", "'cases' is unknown"),
        ("id = ", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "known.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BaselineError, match=words):
        load_baseline(path)


@pytest.mark.parametrize("text", ["", NASTY, '"\\\n\t\x7f\x85\U0001f600', "'''"])
def test_any_text_can_be_written(text: str) -> None:
    read = tomllib.loads(f"a = {toml_string(text)}")["a"]
    assert read == text.replace("\ud800", "\ufffd")


def test_a_baseline_is_written_from_what_fails(tmp_path: Path) -> None:
    path = tmp_path / "known.toml"
    old = Baseline(
        [
            Entry(id="FRM-001/still", reason="why", url="u", until=TODAY),
            Entry(id="FRM-001/gone", reason="repaired"),
            Entry(id="FRM-001/not-run", reason="elsewhere"),
            Entry(id="FRM-001/shaky", reason="a race", flaky=True),
        ]
    )
    report = BaselineReport(path, old)
    report.begin(HEAD)
    for verdict, id in (
        (Verdict.XFAIL, "FRM-001/still"),
        (Verdict.XPASS, "FRM-001/gone"),
        (Verdict.PASS, "FRM-001/shaky"),
        (Verdict.FAIL, "FRM-002/new"),
        (Verdict.FLAKY, "FRM-003/flaky"),
        (Verdict.INCONCLUSIVE, "FRM-004/undecided"),
        (Verdict.WARN, "FRM-005/warned"),
        (Verdict.PASS, "FRM-006/passed"),
    ):
        report.result(result(verdict, id))
    report.finish(COUNTS)
    report.close()
    written = load_baseline(path).entries
    assert written["FRM-001/still"] == old.entries["FRM-001/still"]
    assert written["FRM-001/not-run"] == old.entries["FRM-001/not-run"]
    assert written["FRM-001/shaky"] == old.entries["FRM-001/shaky"]
    assert written["FRM-002/new"].reason.startswith("to be explained: check 'goaway'")
    assert written["FRM-003/flaky"].flaky
    assert "check 'goaway' does not hold" in written["FRM-004/undecided"].contains
    assert set(written) == {
        *("FRM-001/still", "FRM-001/not-run", "FRM-001/shaky"),
        *("FRM-002/new", "FRM-003/flaky", "FRM-004/undecided"),
    }


def test_strict_writes_warnings_too(tmp_path: Path) -> None:
    path = tmp_path / "known.toml"
    report = BaselineReport(path, strict=True)
    report.begin(HEAD)
    report.result(result(Verdict.WARN, "FRM-005/warned"))
    report.close()
    assert set(load_baseline(path).entries) == {"FRM-005/warned"}


# -- the command -------------------------------------------------------------------------------


def test_from_a_first_baseline_to_a_stale_one(tmp_path: Path) -> None:
    path, report = tmp_path / "known.toml", tmp_path / "run.json"
    flaw = "hsk-accepts-second-settings"
    with model_worker("--flaw", flaw) as address:
        command = ("check", *FAST, "--target", address)
        first = judge(*command, "--write-baseline", str(path))
        assert first.returncode == 1
        again = judge(*command, "--baseline", str(path), "-x", "--json", str(report))
        assert again.returncode == 0, again.stdout
        assert "expected failures 1" in again.stdout
        assert "known     to be explained" in again.stdout
        others = judge("check", "HSK-003", "--target", address, "--baseline", str(path))
        assert others.returncode == 0
    by_id = {entry["id"]: entry for entry in json.loads(report.read_text())["results"]}
    assert by_id["HSK-006/second-settings"]["verdict"] == "XFAIL"
    assert by_id["HSK-006/second-settings"]["known"].startswith("to be explained")
    assert len(by_id) == 5
    with model_worker() as address:
        stale = judge("check", *FAST, "--target", address, "--baseline", str(path))
        assert stale.returncode == 1
        assert "XPASS HSK-006/second-settings" in stale.stdout
        assert "unexpected passes 1" in stale.stdout


def test_an_entry_that_matches_no_case_fails_the_run(tmp_path: Path) -> None:
    path = tmp_path / "known.toml"
    path.write_text("[[case]]\nid = 'HSK-003/offers-1-to-2'\nreason = 'r'\n")
    with model_worker() as address:
        done = judge("check", *FAST, "--target", address, "--baseline", str(path))
    assert done.returncode == 1
    assert "passed 5" in done.stdout
    assert "HSK-003/offers-1-to-2; did you mean HSK-003/offers-1-to-" in done.stderr


def test_a_malformed_baseline_is_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "known.toml"
    path.write_text("[[case]]\nid = 'a'\n")
    assert main(["check", "--target", "h:1", "--baseline", str(path)]) == 2
    assert "reason is missing" in capsys.readouterr().err


def test_what_passes_unexpectedly_still_serves_as_a_twin(tmp_path: Path) -> None:
    path = tmp_path / "known.toml"
    path.write_text("[[case]]\nid = 'PAY-004/unknown-subject'\nreason = 'r'\n")
    report = tmp_path / "run.json"
    with model_worker() as address:
        judge(
            *("check", "PAY-004/unknown-subject", "PAY-004/slash"),
            *("--target", address, "--baseline", str(path), "--json", str(report)),
        )
    verdicts = {
        entry["id"]: entry["verdict"] for entry in json.loads(report.read_text())["results"]
    }
    assert verdicts == {"PAY-004/unknown-subject": "XPASS", "PAY-004/slash": "PASS"}
