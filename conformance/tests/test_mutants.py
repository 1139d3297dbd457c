"""The suite on trial: a worker that breaks one rule is caught by a case that cites this rule."""

from __future__ import annotations

import mutation_table
import pytest
from model_flaws import FLAWS
from mutation_table import Trial, citing, try_all
from muxwire_conformance.case import load_cases
from muxwire_conformance.verdict import Verdict

NO_CASE = "no case cites the requirement yet"

KNOWN_SURVIVORS: dict[str, str] = {
    "adm-no-retry-after": NO_CASE,
    "can-kill-frees-slot": NO_CASE,
    "can-terminal-waits-for-handler": NO_CASE,
    "can-punishes-kills": NO_CASE,
    "cls-stop-signal-kills": "a signal cannot be sent over a connection (CLS-011 is api)",
    "dos-no-refusal-budget": "no case floods with refused requests yet",
    "dos-unbounded-control": NO_CASE,
    "fai-bulk-keeps-its-turn": NO_CASE,
    "fai-delays-writes": NO_CASE,
    "flw-accepts-connection-overrun": "no case exceeds the connection limit yet",
    "flw-error-overtakes-data": NO_CASE,
    "flw-deadline-waits-for-data": NO_CASE,
    "flw-stalled-streams-block": NO_CASE,
    "flw-no-backpressure": NO_CASE,
    "flw-blocked-writer-stops-reader": NO_CASE,
    "flw-update-per-frame": NO_CASE,
    "hbt-demands-pong": NO_CASE,
    "hbt-no-write-timeout": NO_CASE,
    "rec-ids-outlive-connection": NO_CASE,
    "obs-checks-traceparent": NO_CASE,
    "obs-trusts-length": NO_CASE,
    "obs-goaway-without-requirement": NO_CASE,
}
"""Flaws that no case finds today, each with the reason. The list has to be exact."""

NOT_FOR_THE_MODEL = {
    "MSG-003/open-too-large": "none of its frames can carry a message above its limit",
}
"""Cases that are not applicable to the model worker."""

Trials = tuple[dict[str, Trial], str]


@pytest.fixture(scope="module")
def trials(request: pytest.FixtureRequest) -> Trials:
    """Judge every worker that a selected test of this file needs, side by side."""
    own = (item for item in request.session.items if item.path == request.path)
    needed = {item.callspec.params["name"] for item in own if hasattr(item, "callspec")}
    return try_all(name for name in ["", *FLAWS] if name in needed)


@pytest.mark.parametrize("name", FLAWS)
def test_a_flaw_is_caught(trials: Trials, name: str) -> None:
    trial = trials[0][name]
    seen = trial.describe()
    errors = [id for id, one in trial.outcomes.items() if one.verdict is Verdict.ERROR]
    assert not errors, seen
    if name in KNOWN_SURVIVORS:
        assert not trial.killers, f"{name} is caught now, so it is no survivor any more"
        cited = bool(citing(FLAWS[name]))
        stale = KNOWN_SURVIVORS[name] == NO_CASE and cited
        assert not stale, f"cases cite {FLAWS[name].requirement} now: give another reason"
        return
    assert trial.reached, f"no case reached the altered guard\n{seen}"
    assert trial.killers, f"{len(trial.outcomes)} cases cite the rule, none fails\n{seen}"


@pytest.mark.parametrize("name", [""], ids=["no-flaw"])
def test_the_model_without_a_flaw_passes_everything(trials: Trials, name: str) -> None:
    trial = trials[0][name]
    verdicts = {id: outcome.verdict for id, outcome in trial.outcomes.items()}
    assert set(verdicts) == set(load_cases())
    not_applicable = {id for id, one in verdicts.items() if one is Verdict.NOT_APPLICABLE}
    assert not_applicable == set(NOT_FOR_THE_MODEL)
    assert set(verdicts.values()) <= {Verdict.PASS, Verdict.NOT_APPLICABLE}, trial.describe()


@pytest.mark.parametrize("name", ["frm-accepts-marker"])
def test_nothing_was_said_on_standard_error(trials: Trials, name: str) -> None:
    assert trials[0][name].outcomes
    assert trials[1] == ""


def test_every_known_survivor_is_a_flaw() -> None:
    assert set(KNOWN_SURVIVORS) <= set(FLAWS)
    assert all(KNOWN_SURVIVORS.values())


def test_the_table_names_flaws_and_killers(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutation_table.main(["frm-accepts-marker", "cls-goaway-always-internal"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("CLS-001  cls-goaway-always-internal")
    assert lines[1].startswith("FRM-002  frm-accepts-marker")
    assert "FRM-002/" in lines[1]
    assert lines[2] == "2 of 2 flaws are killed"
