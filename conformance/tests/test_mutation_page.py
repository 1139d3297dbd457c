"""The committed mutation matrix names the flaws and the cases that there are now."""

from __future__ import annotations

import mutation_page
import pytest
from mutation_known import NEEDS_A_QUICK_MACHINE, SURVIVORS
from mutation_table import FLAWS
from muxwire_conformance.case import load_cases
from muxwire_conformance.rules import rule

PAGE = mutation_page.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("side", FLAWS)
def test_the_page_names_exactly_the_flaws_and_the_cases(side: str) -> None:
    rows = mutation_page.read(PAGE)[side]
    assert {name: row.requirement for name, row in rows.items()} == {
        flaw.name: flaw.requirement for flaw in FLAWS[side].values()
    }
    alive = {name for name, row in rows.items() if not row.killers}
    assert alive - set(NEEDS_A_QUICK_MACHINE[side]) == set(SURVIVORS[side])
    named = {id for row in rows.values() for id in row.killers}
    library = load_cases(side)
    for id in named & set(library):
        cited = set(library[id].requirements)
        assert all(row.requirement in cited for row in rows.values() if id in row.killers)
    # An invariant kills under a name that no case needs to have.
    assert {id for id in named - set(library) if not id.endswith("every-frame")} == set()
    idle = mutation_page.idle_cases(PAGE)[side]
    assert idle | (named & set(library)) == set(library), "write the page anew"
    assert not idle & named


@pytest.mark.parametrize("side", FLAWS)
def test_every_wire_rule_of_a_role_that_has_a_case_has_a_mutant(side: str) -> None:
    broken = {flaw.requirement for flaw in FLAWS[side].values()}
    judged = {one for case in load_cases(side).values() for one in case.requirements[:1]}
    for requirement in sorted(judged - broken):
        assert requirement in WITHOUT_A_MUTANT[side], rule(requirement).text
    assert not set(WITHOUT_A_MUTANT[side]) & broken


WITHOUT_A_MUTANT: dict[str, dict[str, str]] = {"worker": {}, "client": {}}
"""Rules that a case tries first and foremost, and no flaw breaks, each with the reason."""
