"""Emit `muxwire/_generated/machines.py`: the state tables, indexed [state][input]."""

from __future__ import annotations

from muxwire_spec.emit.source import constants, module
from muxwire_spec.model import Machine, Row, Spec

PATH = "reference/muxwire/_generated/machines.py"

_ROW = '''
class Row(NamedTuple):
    """What an input does in a state.

    `code` belongs to EFFECT_VIOLATION; `requirement` is the rule behind the effect, or "".
    """

    state: int
    effect: int
    code: int = 0
    requirement: str = ""
'''


def emit(spec: Spec) -> dict[str, bytes]:
    """Return the module of state tables."""
    effects = [(f"EFFECT_{name}", str(index)) for index, (name, _) in enumerate(spec.effects)]
    blocks = [
        "from typing import NamedTuple",
        constants(_states(spec)),
        constants(effects),
        *(
            constants(
                [
                    (f"IN_{machine.prefix}{name}", str(i))
                    for i, (name, _) in enumerate(machine.inputs)
                ]
            )
            for machine in spec.machines
        ),
        _ROW,
        *(_table(spec, machine) for machine in spec.machines),
        _names(spec),
    ]
    docstring = "State machines of WMX/1 and WCH/1 as tables: rows by state, then input."
    return {PATH: module(docstring, *blocks)}


def _states(spec: Spec) -> list[tuple[str, str]]:
    numbers: dict[str, int] = {}
    for machine in spec.machines:
        for index, state in enumerate(machine.states):
            name = f"{machine.prefix}{state}"
            if numbers.setdefault(name, index) != index:
                raise ValueError(f"state {name} has two numbers")
    return [(state, str(index)) for state, index in numbers.items()]


def _table(spec: Spec, machine: Machine) -> str:
    rows = {(row.state, row.input): row for row in machine.rows}
    lines = [f"{machine.name}: tuple[tuple[Row, ...], ...] = ("]
    for state in machine.states:
        lines.append(f"    (  # {state}")
        for name, _ in machine.inputs:
            lines.append(f"        {_row(spec, machine, rows[state, name])},  # {name}")
        lines.append("    ),")
    lines.append(")")
    return "\n".join(lines)


def _row(spec: Spec, machine: Machine, row: Row) -> str:
    code = 0 if row.breach is None else spec.registry("ERROR_CODES").value(row.breach.code)
    rest = f', {code:#04x}, "{row.requirement}"' if code else ""
    if row.requirement and not code:
        rest = f', 0, "{row.requirement}"'
    return f"Row({machine.prefix}{row.next}, EFFECT_{row.effect}{rest})"


def _names(spec: Spec) -> str:
    lines = []
    for machine in spec.machines:
        for label, names in (
            ("STATES", machine.states),
            ("INPUTS", tuple(name for name, _ in machine.inputs)),
        ):
            lines.append(f"{machine.name}_{label} = (")
            lines += [f'    "{name}",' for name in names]
            lines.append(")")
    lines.append("EFFECTS = (")
    lines += [f'    "{name}",' for name, _ in spec.effects]
    lines.append(")")
    return "\n".join(lines)
