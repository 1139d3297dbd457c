"""Every stored input is judged again, everywhere: seeds, corpora and regressions need no atheris.

The same property is tried by Hypothesis here and by atheris in `python -m muxwire_fuzz run`.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from muxwire_fuzz import store
from muxwire_fuzz.plain import another
from muxwire_fuzz.targets import NAMES, load


@pytest.mark.parametrize("name", NAMES)
def test_every_stored_input_keeps_every_invariant(name: str) -> None:
    target = load(name)
    inputs = store.inputs(target)
    assert inputs
    for where, data in inputs.items():
        try:
            target.check(data)
        except Exception as error:
            raise AssertionError(f"{name}, {where}: {error}\n{target.show(data)}") from error


@pytest.mark.parametrize("name", NAMES)
def test_hypothesis_finds_nothing_near_the_stored_inputs(name: str) -> None:
    target = load(name)
    pool = list(store.inputs(target).values())

    @given(st.integers(0, 2**32))
    @settings(max_examples=40, deadline=None, derandomize=True, database=None)
    def property_holds(seed: int) -> None:
        target.check(another(target, pool, random.Random(seed)))

    property_holds()


@pytest.mark.parametrize("name", NAMES)
def test_octets_without_any_shape_are_an_input(name: str) -> None:
    target = load(name)

    @given(st.binary(max_size=200))
    @settings(max_examples=60, deadline=None, derandomize=True, database=None)
    def property_holds(data: bytes) -> None:
        target.check(data)
        target.show(data)

    property_holds()


@pytest.mark.parametrize("folder", [store.CORPUS, store.REGRESSIONS], ids=lambda path: path.name)
def test_stored_inputs_lie_below_their_target_under_their_own_names(folder: store.Path) -> None:
    for place in folder.iterdir() if folder.is_dir() else ():
        assert place.name in NAMES
        for name, data in store.stored(place):
            assert name == store.name_of(data)
            assert len(data) <= load(place.name).longest


def test_the_corpora_stay_small() -> None:
    files = [path for path in store.CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 1_000_000
