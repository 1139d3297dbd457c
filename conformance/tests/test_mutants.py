"""The suite on trial: a worker that breaks one rule is caught by a case that cites this rule."""

from __future__ import annotations

import mutation_table
import pytest
from model_flaws import FLAWS
from mutation_table import Trial, try_all
from muxwire_conformance.case import load_cases
from muxwire_conformance.verdict import Verdict

KNOWN_SURVIVORS: dict[str, str] = {
    "cls-stop-signal-kills": "a signal cannot be sent over a connection: CLS-011 is api, not wire",
}
"""Flaws that no case finds today, each with the reason. The list has to be exact."""

NEEDS_A_QUICK_MACHINE = {
    "dos-no-refusal-budget": "the flood is 100,000 refusals in 10 s, by judge and worker together",
}
"""Flaws that leave their case INCONCLUSIVE, which is no pass either, where time is short."""

NOT_FOR_THE_MODEL = {
    "CAN-004/handlers-that-outlive-connections": "it may have too many handlers to start them all",
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
    assert Verdict.ERROR not in {one.verdict for one in trial.outcomes.values()}, seen
    if name in KNOWN_SURVIVORS:
        assert not trial.killers, f"{name} is caught now, so it is no survivor any more"
        return
    verdicts = {one.verdict for one in trial.outcomes.values()}
    if name in NEEDS_A_QUICK_MACHINE and Verdict.INCONCLUSIVE in verdicts:
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


def test_every_exception_is_a_flaw_with_a_reason() -> None:
    for names in (KNOWN_SURVIVORS, NEEDS_A_QUICK_MACHINE):
        assert set(names) <= set(FLAWS)
        assert all(names.values())


def test_the_table_names_flaws_and_killers(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutation_table.main(["frm-accepts-marker", "cls-goaway-always-internal"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("CLS-001  cls-goaway-always-internal")
    assert lines[1].startswith("FRM-002  frm-accepts-marker")
    assert "FRM-002/" in lines[1]
    assert lines[2] == "2 of 2 flaws are killed"
