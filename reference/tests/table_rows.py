"""Row coverage: which cells of the generated machines a test has seen the core obey.

Rules of this file: all cells of a machine are accounted for.  A cell is met by a test that has
driven it, or the table says that it cannot happen, or it is named with the reason why this core
leaves no way to it.  The terminal summary of pytest prints the count for every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from muxwire._generated import machines

Row = tuple[int, int]
"""A state and an input."""


@dataclass(frozen=True)
class Machine:
    """One generated table, by its name, and the cells that nothing can bring about."""

    name: str
    impossible: Mapping[Row, str] = field(default_factory=dict)
    met: set[Row] = field(default_factory=set)

    def __post_init__(self) -> None:
        MACHINES[self.name] = self

    @property
    def table(self) -> tuple[tuple[machines.Row, ...], ...]:
        return self._get("")

    @property
    def states(self) -> tuple[str, ...]:
        return self._get("_STATES")

    @property
    def inputs(self) -> tuple[str, ...]:
        return self._get("_INPUTS")

    def _get(self, suffix: str) -> Any:
        return getattr(machines, self.name + suffix)

    @property
    def rows(self) -> list[Row]:
        """All cells."""
        return [(state, i) for state, cells in enumerate(self.table) for i in range(len(cells))]

    @property
    def possible(self) -> list[Row]:
        """The cells that a test has to drive."""
        return [row for row in self.rows if not self.ruled_out(row) and row not in self.impossible]

    def ruled_out(self, row: Row) -> bool:
        """Whether the table itself says that this cannot happen."""
        return self.table[row[0]][row[1]].effect == machines.EFFECT_NONE

    def named(self, row: Row) -> str:
        return f"{self.states[row[0]]}-{self.inputs[row[1]]}"

    def each_row(self) -> pytest.MarkDecorator:
        """Parametrize a test with `state` and `input_`."""
        params = [pytest.param(*row, id=self.named(row)) for row in self.possible]
        return pytest.mark.parametrize(("state", "input_"), params)

    def row(self, state: int, input_: int) -> machines.Row:
        return self.table[state][input_]

    def assert_obeyed(self, state: int, input_: int, effect: int, after: int) -> None:
        """Compare what was seen with the table, and count the row as met."""
        row = self.row(state, input_)
        assert machines.EFFECTS[effect] == machines.EFFECTS[row.effect]
        assert self.states[after] == self.states[row.state]
        self.met.add((state, input_))


MACHINES: dict[str, Machine] = {}


def summary() -> list[str]:
    """Return a line for each machine that a test of this run has driven."""
    lines = []
    for machine in MACHINES.values():
        if machine.met:
            rows = machine.rows
            never = sum(map(machine.ruled_out, rows))
            lines.append(
                f"{machine.name:18} {len(machine.met):3} of {len(machine.possible):3} rows met; of"
                f" {len(rows)}, {never} cannot happen and {len(machine.impossible)} have no way in"
            )
            missed = [machine.named(row) for row in machine.possible if row not in machine.met]
            if missed:
                lines.append(f"  not met: {', '.join(missed)}")
    return lines
