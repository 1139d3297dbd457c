"""The words that the tables are written in: a cell, and a matrix of cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from muxwire_spec.model import Breach, Machine, Row, Scope

Cell: TypeAlias = tuple[str, str, str] | Breach
"""Effect, next state ("": the same) and requirement ("": none), or the error that it is."""


def breach(code: str, requirement: str) -> Breach:
    """Return a connection error."""
    return Breach(code=code, scope=Scope.CONNECTION, requirement=requirement)


def go(effect: str, state: str, requirement: str = "") -> Cell:
    """Do this and move on."""
    return effect, state, requirement


def stay(effect: str, requirement: str = "") -> Cell:
    """Do this and stay."""
    return effect, "", requirement


NONE = stay("NONE")
IGNORE = stay("IGNORE")
PASS = stay("PASS")


def machine(
    name: str,
    title: str,
    states: Sequence[str],
    inputs: Iterable[tuple[str, str, Sequence[Cell]]],
    *,
    prefix: str | None = None,
    broken: str = "",
) -> Machine:
    """Return a machine whose cells stand as they are printed: inputs down, states across.

    Args:
        name: Its name.
        title: What it describes.
        states: Its states, the first one first.
        inputs: Each input with its description and its cell for every state.
        prefix: Of names in the shared namespace; made from the name by default.
        broken: The state behind a connection error; "" stays.
    """
    lines = tuple(inputs)
    rows = [
        _row(state, input_, cell, broken)
        for input_, _, cells in lines
        for state, cell in zip(states, cells, strict=True)
    ]
    rows.sort(key=lambda row: states.index(row.state))
    return Machine(
        name=name,
        title=title,
        prefix=f"{name}_" if prefix is None else prefix,
        states=tuple(states),
        inputs=tuple((input_, doc) for input_, doc, _ in lines),
        rows=tuple(rows),
    )


def _row(state: str, input_: str, cell: Cell, broken: str) -> Row:
    if isinstance(cell, Breach):
        return Row(
            state=state,
            input=input_,
            next=broken or state,
            effect="VIOLATION",
            breach=cell,
            requirement=cell.requirement,
        )
    effect, target, requirement = cell
    return Row(
        state=state,
        input=input_,
        next=target or state,
        effect=effect,
        breach=None,
        requirement=requirement,
    )
