"""The state machines: total, closed, connected, and the same in the generated tables."""

from __future__ import annotations

import itertools
from types import ModuleType

import pytest
from muxwire._generated import machines as generated
from muxwire._generated.registries import ErrorCode
from muxwire_spec import requirements
from muxwire_spec.machines import CLIENT_REQUEST, EFFECTS, MACHINES, WORKER_REQUEST
from muxwire_spec.model import Machine, Row
from muxwire_spec.registries import ERROR_CODES

each = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
GENERATED: ModuleType = generated


def row(machine: Machine, state: str, input_: str) -> Row:
    (found,) = [r for r in machine.rows if (r.state, r.input) == (state, input_)]
    return found


@each
def test_every_state_has_one_row_for_every_input(machine: Machine) -> None:
    cells = [(row.state, row.input) for row in machine.rows]
    inputs = [name for name, _ in machine.inputs]
    assert sorted(cells) == sorted(itertools.product(machine.states, inputs))


@each
def test_every_target_exists(machine: Machine) -> None:
    assert {row.next for row in machine.rows} <= set(machine.states)


@each
def test_every_state_is_reached_from_the_first(machine: Machine) -> None:
    reached = {machine.states[0]}
    while more := {row.next for row in machine.rows if row.state in reached} - reached:
        reached |= more
    assert reached == set(machine.states)


@each
def test_a_closed_request_stays_closed(machine: Machine) -> None:
    assert {row.next for row in machine.rows if row.state == "CLOSED"} == {"CLOSED"}


@each
def test_effects_are_those_of_the_list(machine: Machine) -> None:
    assert {row.effect for row in machine.rows} <= {name for name, _ in EFFECTS}


def test_every_effect_of_the_list_is_used_and_described() -> None:
    used = {row.effect for machine in MACHINES for row in machine.rows}
    assert used == {name for name, _ in EFFECTS}
    assert all(doc for _, doc in EFFECTS)


@each
def test_violations_and_only_they_have_an_error(machine: Machine) -> None:
    for found in machine.rows:
        assert (found.breach is not None) == (found.effect == "VIOLATION")
        if found.breach is not None:
            assert found.next == found.state
            assert ERROR_CODES.value(found.breach.code) <= 0xFF
            assert found.breach.requirement in requirements.load()


@each
def test_inputs_have_names_of_their_own(machine: Machine) -> None:
    names = [name for name, _ in machine.inputs]
    assert len(set(names)) == len(names)
    assert len({doc for _, doc in machine.inputs}) == len(names)


@each
def test_the_generated_table_says_the_same(machine: Machine) -> None:
    assert getattr(GENERATED, f"{machine.name}_STATES") == machine.states
    inputs = tuple(name for name, _ in machine.inputs)
    assert getattr(GENERATED, f"{machine.name}_INPUTS") == inputs
    table = getattr(GENERATED, machine.name)
    for (s, state), (i, input_) in itertools.product(enumerate(machine.states), enumerate(inputs)):
        expected = row(machine, state, input_)
        found = table[s][i]
        assert machine.states[found.state] == expected.next
        assert GENERATED.EFFECTS[found.effect] == expected.effect
        if expected.breach is None:
            assert (found.code, found.requirement) == (0, "")
        else:
            assert ErrorCode(found.code).name == expected.breach.code
            assert found.requirement == expected.breach.requirement
    assert len(table) == len(machine.states)
    assert {len(line) for line in table} == {len(inputs)}


@each
def test_the_generated_names_are_indices(machine: Machine) -> None:
    for index, state in enumerate(machine.states):
        assert getattr(GENERATED, state) == index
    for index, (name, _) in enumerate(machine.inputs):
        assert getattr(GENERATED, f"IN_{name}") == index


def test_a_worker_frees_a_place_only_with_the_terminal_or_the_connection() -> None:
    """No frame of a client leads to CLOSED (section 3.4)."""
    ends = {row.input for row in WORKER_REQUEST.rows if row.next == "CLOSED" != row.state}
    assert ends == {"TERMINAL", "LOST"}


def test_what_was_never_sent_is_classified_and_not_not_processed() -> None:
    """It moves to another connection as NOT_SENT (section 7.3)."""
    assert row(CLIENT_REQUEST, "IDLE", "NOT_COVERED").effect == "CLASSIFY"
    assert row(CLIENT_REQUEST, "IDLE", "CLIENT_LOST").effect == "CLASSIFY"
