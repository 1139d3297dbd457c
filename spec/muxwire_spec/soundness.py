"""Checks on the data itself: what a table has to be before anybody may rely on it.

Machines are total, connected and say nothing outside their lists. The machines that give classes
and the table of classes agree. Every connection error that any part of the specification names is
in the table of errors with the same code. `python -m muxwire_spec check` runs all of it.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from muxwire_spec import model as ir
from muxwire_spec.recovery import GATHERED, classify

_NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
_CONNECTION_ERROR = re.compile(r"connection\s+error\s+([A-Z_]+)")
_ENDS_ANOTHER = frozenset({"HEADER", "PREFACE", "WCH_PREFACE", "DATA"})
"""Layouts that are never cut short: a receiver waits for the rest of them."""


def problems(spec: ir.Spec, texts: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the data, one line each.

    Args:
        spec: The specification.
        texts: Text of each requirement, by id.
    """
    found = [problem for machine in spec.machines for problem in machine_problems(spec, machine)]
    found += _namespace(spec)
    found += _effects(spec)
    found += _recovery(spec)
    found += _errors(spec, texts)
    found += _ids(spec, texts)
    return found


# --- machines ---------------------------------------------------------------------------------


def machine_problems(spec: ir.Spec, machine: ir.Machine) -> Iterator[str]:
    """Yield what is wrong with one machine; each line names the machine and the cell."""
    inputs = [name for name, _ in machine.inputs]
    for name, count in Counter((*machine.states, *inputs)).items():
        if machine.states.count(name) > 1 or inputs.count(name) > 1:
            yield f"{machine.name}: {name} is listed {count} times"
        if not _NAME.fullmatch(name):
            yield f"{machine.name}: {name} is no name"
    yield from _totality(machine, inputs)
    effects = {name for name, _ in spec.effects}
    codes = spec.registry("ERROR_CODES")
    for row in machine.rows:
        where = f"{machine.name}[{row.state}, {row.input}]"
        if row.next not in machine.states:
            yield f"{where}: there is no state {row.next}"
        if row.effect not in effects:
            yield f"{where}: {row.effect} is not in the list of effects"
        if (row.breach is not None) != (row.effect == "VIOLATION"):
            yield f"{where}: a violation has an error, and nothing else has"
        if row.effect == "NONE" and (row.next != row.state or row.requirement):
            yield f"{where}: what cannot happen leads nowhere and has no rule"
        if row.breach is not None and row.requirement != row.breach.requirement:
            yield f"{where}: {row.requirement} is not the rule of its error"
        if row.breach is not None and row.breach.scope is not ir.Scope.CONNECTION:
            yield f"{where}: a violation ends the connection"
        if row.breach is not None and not _is_connection_code(codes, row.breach.code):
            yield f"{where}: {row.breach.code} is no code of a connection"
    yield from _reachability(machine)


def _is_connection_code(codes: ir.Registry, name: str) -> bool:
    return any(entry.name == name and 0 < entry.value < 0x100 for entry in codes.entries)


def _totality(machine: ir.Machine, inputs: list[str]) -> Iterator[str]:
    cells = Counter((row.state, row.input) for row in machine.rows)
    for cell in itertools.product(machine.states, inputs):
        if cells[cell] != 1:
            yield f"{machine.name}[{cell[0]}, {cell[1]}]: {cells[cell]} rows"
        del cells[cell]
    for state, input_ in cells:
        yield f"{machine.name}[{state}, {input_}]: no such cell"


def _reachability(machine: ir.Machine) -> Iterator[str]:
    reached = {machine.states[0]}
    while more := {row.next for row in machine.rows if row.state in reached} - reached:
        reached |= more
    for state in machine.states:
        if state not in reached:
            yield f"{machine.name}[{state}]: cannot be reached from {machine.states[0]}"
    for name, _ in machine.inputs:
        if all(row.effect == "NONE" for row in machine.rows if row.input == name):
            yield f"{machine.name}[*, {name}]: the input never happens"


def _namespace(spec: ir.Spec) -> Iterator[str]:
    """Yield names that would have two values in the namespace that all machines share."""
    values: dict[str, tuple[int, str]] = {}
    for machine in spec.machines:
        names = [
            *((f"{machine.prefix}{name}", i) for i, name in enumerate(machine.states)),
            *((f"IN_{machine.prefix}{name}", i) for i, (name, _) in enumerate(machine.inputs)),
            (machine.name, -1),
        ]
        for name, value in names:
            other, owner = values.setdefault(name, (value, machine.name))
            if other != value:
                yield f"{machine.name}: {name} has another value in {owner}"


def _effects(spec: ir.Spec) -> Iterator[str]:
    used = {row.effect for machine in spec.machines for row in machine.rows}
    for name, doc in spec.effects:
        if name not in used:
            yield f"effects: {name} is not used"
        if not doc:
            yield f"effects: {name} is not described"


# --- recovery ---------------------------------------------------------------------------------


def _recovery(spec: ir.Spec) -> Iterator[str]:
    """Walk the machines that give classes with the facts that an attempt gathers, and compare."""
    names = {found.name for found in spec.classes}
    facts = {name for name, _ in spec.facts}
    codes = spec.registry("ERROR_CODES")
    for found in spec.classes:
        for fact in itertools.chain(*found.when):
            if fact.removeprefix("!") not in facts:
                yield f"classes: {found.name}: {fact} is no fact"
        for code in (*found.retry.only, *found.retry.never, *found.retry.elsewhere):
            if all(entry.name != code for entry in codes.entries):
                yield f"classes: {found.name}: {code} is no code"
    if sorted(found.rank for found in spec.classes) != list(range(len(spec.classes))):
        yield "classes: the ranks are no order"
    for machine in spec.machines:
        if machine.name in GATHERED:
            yield from dict.fromkeys(_classes(machine, names))


def _classes(machine: ir.Machine, names: set[str]) -> Iterator[str]:
    rows: dict[str, list[ir.Row]] = {state: [] for state in machine.states}
    for row in machine.rows:
        rows[row.state].append(row)
    start = (machine.states[0], frozenset[str]())
    open_ = [start]
    seen = {start}
    given = set()
    while open_:
        state, facts = open_.pop()
        for row in rows[state]:
            if row.effect == "NONE":
                continue
            now = facts
            if row.effect == "COUNT":
                now = frozenset()
            if row.breach is None and row.effect != "IGNORE":
                now |= frozenset(GATHERED[machine.name].get(row.input, ()))
            if row.effect in names:
                given.add(row.effect)
                if row.effect != (expected := classify(now)):
                    where = f"{machine.name}[{row.state}, {row.input}]"
                    yield f"{where}: gives {row.effect}, the table of classes gives {expected}"
            if row.next in ("WAITING", "DONE", "VOID", "OVER"):
                now = frozenset()
            if (step := (row.next, now)) not in seen:
                seen.add(step)
                open_.append(step)
    for name in sorted(names - given):
        yield f"{machine.name}: no cell gives {name}"


# --- errors -----------------------------------------------------------------------------------


def breaches(spec: ir.Spec) -> Iterator[tuple[str, ir.Breach]]:
    """Yield every connection error in checks, layouts and machines, and where it stands."""
    for check in spec.checks:
        if check.breach is not None:
            yield f"check {check.step}", check.breach
    for layout in spec.layouts:
        if layout.name not in _ENDS_ANOTHER:
            yield from _of_layout(layout, layout.name)
    for machine in spec.machines:
        for row in machine.rows:
            if row.breach is not None:
                yield f"{machine.name}[{row.state}, {row.input}]", row.breach


def _of_layout(layout: ir.Layout, path: str) -> Iterator[tuple[str, ir.Breach]]:
    yield path, layout.malformed
    for field in layout.fields:
        match field.node:
            case ir.Nested(body=body):
                yield from _of_layout(body, f"{path}.{field.name}")
            case ir.Listed(item=item, breach=breach):
                yield from _of_layout(item, f"{path}.{field.name}")
                if breach is not None:
                    yield f"{path}.{field.name}", breach
            case ir.Text(breach=breach) | ir.FlagSet(breach=breach):
                if breach is not None:
                    yield f"{path}.{field.name}", breach
            case _:
                pass


def _errors(spec: ir.Spec, texts: Mapping[str, str]) -> Iterator[str]:
    known = {(rule.requirement, rule.code) for rule in spec.errors}
    named: set[tuple[str, str | None]] = set()
    for where, breach in breaches(spec):
        if breach.scope is ir.Scope.CONNECTION:
            named.add((breach.requirement, breach.code))
            if (breach.requirement, breach.code) not in known:
                yield f"{where}: {breach.code} ({breach.requirement}) is not in the error table"
    for id_, text in texts.items():
        for code in _CONNECTION_ERROR.findall(text):
            named.add((id_, code))
            if (id_, code) not in known:
                yield f"{id_}: connection error {code} is not in the error table"
    kinds = {name for name, _ in spec.endings}
    codes = spec.registry("ERROR_CODES")
    for rule in spec.errors:
        where = f"error table, {rule.requirement} {rule.fault}"
        if rule.code is not None and not _is_connection_code(codes, rule.code):
            yield f"{where}: {rule.code} is no code of a connection"
        if (
            rule.code not in (None, "CONNECTION_LIMIT")
            and (rule.requirement, rule.code) not in named
        ):
            yield f"{where}: nothing else says {rule.code}"
        if (rule.code is None) == any(end.kind == "GENERAL" for end in rule.ends):
            yield f"{where}: a GOAWAY needs a code, and a code a GOAWAY"
        yield from (f"{where}: {e.kind} is no ending" for e in rule.ends if e.kind not in kinds)
    for kind in sorted(kinds - {end.kind for rule in spec.errors for end in rule.ends}):
        yield f"endings: {kind} is not used"


# --- ids --------------------------------------------------------------------------------------


def _ids(spec: ir.Spec, texts: Mapping[str, str]) -> Iterator[str]:
    for where, id_ in _cited(spec):
        if id_ not in texts:
            yield f"{where}: {id_} does not exist"


def _cited(spec: ir.Spec) -> Iterable[tuple[str, str]]:
    for where, breach in breaches(spec):
        yield where, breach.requirement
    for machine in spec.machines:
        for row in machine.rows:
            if row.requirement:
                yield f"{machine.name}[{row.state}, {row.input}]", row.requirement
    for rule in spec.errors:
        yield f"error table, {rule.fault}", rule.requirement
