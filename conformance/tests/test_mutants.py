"""The suite on trial: a model that breaks one rule is caught by a case that cites this rule."""

from __future__ import annotations

import mutation_page
import mutation_table
import pytest
from mutation_known import NEEDS_A_QUICK_MACHINE, NOT_FOR_THE_MODEL, SURVIVORS
from mutation_table import FLAWS, Trial, try_all
from muxwire_conformance.case import load_cases
from muxwire_conformance.verdict import Verdict

Trials = tuple[dict[tuple[str, str], Trial], str]

MUTANTS = [(role, name) for role, flaws in FLAWS.items() for name in flaws]
PAGE = mutation_page.read(mutation_page.PAGE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def trials(request: pytest.FixtureRequest) -> Trials:
    """Judge every model that a selected test of this file needs, side by side."""
    own = [item for item in request.session.items if item.path == request.path]
    needed = [item.callspec.params for item in own if hasattr(item, "callspec")]
    found: dict[tuple[str, str], Trial] = {}
    complaints = ""
    for role, flaws in FLAWS.items():
        wanted = {one["name"] for one in needed if one.get("role") == role}
        names = [name for name in ["", *flaws] if name in wanted]
        if names:
            known = {name: row.killers for name, row in PAGE[role].items() if row.killers}
            tried, said = try_all(role, names, known)
            found |= {(role, name): trial for name, trial in tried.items()}
            complaints += said
    return found, complaints


@pytest.mark.parametrize(("role", "name"), MUTANTS)
def test_a_flaw_is_caught(trials: Trials, role: str, name: str) -> None:
    trial = trials[0][role, name]
    seen = trial.describe()
    assert Verdict.ERROR not in {one.verdict for one in trial.outcomes.values()}, seen
    if name in SURVIVORS[role]:
        assert not trial.killers, f"{name} is caught now, so it is no survivor any more"
        return
    verdicts = {one.verdict for one in trial.outcomes.values()}
    if name in NEEDS_A_QUICK_MACHINE[role] and Verdict.INCONCLUSIVE in verdicts:
        return
    assert trial.reached, f"no case reached the altered guard\n{seen}"
    assert trial.killers, f"{len(trial.outcomes)} cases cite the rule, none fails\n{seen}"
    said = PAGE[role][name].killers
    assert set(said) & set(trial.killers), f"the page names others: {said}\n{seen}"


@pytest.mark.parametrize(
    ("role", "name"), [(role, "") for role in FLAWS], ids=[f"{role}-no-flaw" for role in FLAWS]
)
def test_the_model_without_a_flaw_passes_everything(trials: Trials, role: str, name: str) -> None:
    trial = trials[0][role, name]
    verdicts = {id: outcome.verdict for id, outcome in trial.outcomes.items()}
    assert set(verdicts) == set(load_cases(role))
    not_applicable = {id for id, one in verdicts.items() if one is Verdict.NOT_APPLICABLE}
    assert not_applicable == set(NOT_FOR_THE_MODEL[role])
    assert set(verdicts.values()) <= {Verdict.PASS, Verdict.NOT_APPLICABLE}, trial.describe()


@pytest.mark.parametrize(
    ("role", "name"), [("worker", "frm-accepts-marker"), ("client", "hsk-no-ack")]
)
def test_nothing_was_said_on_standard_error(trials: Trials, role: str, name: str) -> None:
    assert trials[0][role, name].outcomes
    assert trials[1] == ""


def test_every_exception_is_a_flaw_with_a_reason() -> None:
    for known in (SURVIVORS, NEEDS_A_QUICK_MACHINE):
        for role, names in known.items():
            assert set(names) <= set(FLAWS[role])
            assert all(names.values())


def test_the_table_names_flaws_and_killers(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutation_table.main(["frm-accepts-marker", "cls-goaway-always-internal"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("CLS-001  cls-goaway-always-internal")
    assert lines[1].startswith("FRM-002  frm-accepts-marker")
    assert "FRM-002/" in lines[1]
    assert lines[2] == "2 of 2 flaws are killed"
