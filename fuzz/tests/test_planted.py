"""Each planted bug is found: among the stored inputs, or among the first that are made from them.

This is the quick form of `prove.py`, whose table stands in docs/fuzzing.md: the seed is fixed and
inputs are counted, so it takes the same course everywhere.
"""

from __future__ import annotations

import prove
import pytest
from muxwire_fuzz import store
from muxwire_fuzz.plain import explore
from muxwire_fuzz.targets import NAMES, load
from planted import PLANTED, Planted

CHANGED = 1_500
"""Changed inputs after which a bug counts as missed."""


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.name)
def test_a_planted_bug_is_found(bug: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    target = load(bug.target)
    pool = list(store.inputs(target).values())
    bug.plant(monkeypatch.setattr)
    explored = explore(target, pool, seed=0, go_on=lambda runs: runs < len(pool) + CHANGED)
    assert explored.broken is not None, f"{explored.runs} inputs show nothing"
    print(f"{bug.name}: {explored.runs} of {len(pool)}")  # noqa: T201


def test_every_target_has_planted_bugs() -> None:
    assert {bug.target for bug in PLANTED} == set(NAMES)
    assert len({bug.name for bug in PLANTED}) == len(PLANTED)


def test_the_page_says_how_fast_each_is_found() -> None:
    rows = prove.rows(prove.PAGE.read_text(encoding="utf-8"))
    assert {name: target for name, (target, _) in rows.items()} == {
        bug.name: bug.target for bug in PLANTED
    }, "write the table anew: python fuzz/tests/prove.py --write"
    assert max(seconds for _, seconds in rows.values()) < prove.MINUTE
