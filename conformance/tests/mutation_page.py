"""The mutation matrix as a page: docs/mutation-matrix.md, written by `mutation_table.py --write`.

The page is made from a whole run of both roles. Read back, it says for each flaw which cases kill
it, so that a test can compare it with the flaws and the cases that there are now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mutation_known import NEEDS_A_QUICK_MACHINE, SURVIVORS
from mutation_table import FLAWS
from muxwire_conformance.case import load_cases

PAGE = Path(__file__).parents[2] / "docs" / "mutation-matrix.md"
NOBODY = "nobody"
_ROW = re.compile(
    r"^\| (?P<requirement>(?:[A-Z]{3}|P\d)-\d{3}) \| `(?P<flaw>[^`]+)` \| .* \| (?P<by>.*) \|$"
)
_CASE = re.compile(r"`([^`]+)`")

HEAD = """# Mutation matrix

The suite on trial. A mutant is the model worker (`conformance/tests/model_worker.py`) or the model
client (`conformance/tests/model_client.py`) with one flaw, which breaks one requirement. It is
judged only by the cases that cite this requirement. A mutant counts as killed when one of them
fails (for a SHOULD, or where only an error code is wrong: warns) and the altered guard was reached.
A model without a flaw passes every case of its role. A survivor has its reason.

This page is generated: `python conformance/tests/mutation_table.py --write`.
`conformance/tests/test_mutants.py` repeats the run and compares.
"""


Killers = Mapping[str, Sequence[str]]
"""The cases that kill each flaw of a role."""


def render(found: Mapping[str, Killers]) -> str:
    """Return the text of the page for what was found in each role."""
    lines = [HEAD, "| role | mutants | killed | kill rate of what can be killed | survivors |"]
    lines.append("|---|---|---|---|---|")
    for role, killers in found.items():
        killed = sum(bool(killers.get(name)) for name in FLAWS[role])
        survivors, every = len(SURVIVORS[role]), len(FLAWS[role])
        rate = 100 * killed / (every - survivors)
        row = f"| {role} | {every} | {killed} | {rate:.1f} % | {survivors} |"
        lines.append(row)
    for role, killers in found.items():
        lines += ["", *_section(role, killers)]
    return "\n".join(lines) + "\n"


def _section(role: str, killers: Killers) -> list[str]:
    lines = [f"## The {role}'s mutants", ""]
    lines += ["| requirement | mutant | what it does | killed by |", "|---|---|---|---|"]
    for flaw in sorted(FLAWS[role].values(), key=lambda flaw: (flaw.requirement, flaw.name)):
        by = ", ".join(f"`{id}`" for id in sorted(killers.get(flaw.name, ()))) or NOBODY
        lines.append(f"| {flaw.requirement} | `{flaw.name}` | {flaw.what} | {by} |")
    lines += ["", f"### Survivors of the {role}", ""]
    slow = {name: why for name, why in NEEDS_A_QUICK_MACHINE[role].items() if not killers.get(name)}
    known = SURVIVORS[role] | {name: f"needs a quick machine; {why}" for name, why in slow.items()}
    lines += [f"- `{name}`: {known[name]}." for name in sorted(known)] or ["None."]
    busy = {id for ids in killers.values() for id in ids}
    library = load_cases(role)
    idle = sorted(set(library) - busy)
    lines += ["", f"### The {role}'s cases", ""]
    lines.append(f"{len(library) - len(idle)} of {len(library)} cases kill a mutant. The others:")
    lines += ["", *([f"- `{id}`" for id in idle] or ["None."])]
    return lines


@dataclass(frozen=True, slots=True)
class Row:
    """What the page says about one flaw."""

    requirement: str
    killers: tuple[str, ...]


def read(text: str) -> dict[str, dict[str, Row]]:
    """Return what a page says: for each role, the flaws by name."""
    said: dict[str, dict[str, Row]] = {}
    rows: dict[str, Row] = {}
    for line in text.splitlines():
        heading = re.fullmatch(r"## The (\w+)'s mutants", line)
        if heading is not None:
            rows = said[heading[1]] = {}
        match = _ROW.match(line)
        if match is not None:
            killers = tuple(_CASE.findall(match["by"]))
            rows[match["flaw"]] = Row(match["requirement"], killers)
    return said


def idle_cases(text: str) -> dict[str, set[str]]:
    """Return what a page says: for each role, the cases that kill no mutant."""
    said: dict[str, set[str]] = {}
    idle: set[str] = set()
    for line in text.splitlines():
        heading = re.fullmatch(r"### The (\w+)'s cases", line)
        if heading is not None:
            idle = said[heading[1]] = set()
        elif line.startswith("#"):
            idle = set()
        elif line.startswith("- `"):
            idle.update(_CASE.findall(line))
    return said
