"""How fast each planted bug is found; `python fuzz/tests/prove.py --write` documents it.

Each bug is put into a process of its own and looked for in plain Python, without guidance, for a
minute at most: first among the seeds, then among changed seeds alone.  Two processes run at a time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from muxwire_fuzz.plain import explore
from muxwire_fuzz.targets import load
from planted import PLANTED

PAGE = Path(__file__).parents[2] / "docs" / "fuzzing.md"
BEGIN, END = "<!-- planted bugs -->", "<!-- end of planted bugs -->"
MINUTE = 60.0
_ROW = re.compile(r"^\| (\w+) \| `([^`]+)` \|.*\| ([0-9.,]+) s \|$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Proof:
    """What it took to find a bug; `seeds` and `changed` are 0 if it was not found."""

    name: str
    invariant: str
    seeds: int
    changed: int
    seconds: float


def prove(number: int) -> Proof:
    """Plant a bug in this process for good, and look for it."""
    bug = PLANTED[number]
    bug.plant(setattr)
    target = load(bug.target)
    pool = list(target.seeds())
    seeds = explore(target, pool, seed=0, go_on=lambda runs: runs < len(pool))
    begun = time.monotonic()
    changed = explore(
        target,
        pool,
        seed=0,
        go_on=lambda _runs: time.monotonic() - begun < MINUTE,
        pool_too=False,
    )
    seconds = time.monotonic() - begun
    found = changed.broken
    return Proof(
        bug.name,
        found.invariant if found else "",
        seeds.runs if seeds.broken else 0,
        changed.runs if found else 0,
        seconds,
    )


def table(proofs: list[Proof]) -> str:
    """Return the table of the page."""
    lines = [
        "| target | planted bug | rule | what it does | the invariant that breaks | seed | changed "
        "inputs | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for bug, proof in zip(PLANTED, proofs, strict=True):
        seed = f"{proof.seeds:,}" if proof.seeds else "none"
        lines.append(
            f"| {bug.target} | `{bug.name}` | {bug.rule} | {bug.doc} | {proof.invariant} | {seed} "
            f"| {proof.changed:,} | {proof.seconds:.1f} s |"
        )
    return "\n".join(lines)


def rows(page: str) -> dict[str, tuple[str, float]]:
    """Return the bugs that a page names, with their targets and times."""
    return {name: (target, float(time)) for target, name, time in _ROW.findall(page)}


def main() -> int:
    """Find all of them; 1 if one is not found."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--write", action="store_true", help="write the table into the page")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    proofs = []
    with context.Pool(2, maxtasksperchild=1) as processes:
        for proof in processes.imap(prove, range(len(PLANTED)), chunksize=1):
            proofs.append(proof)
            words = (
                f"{proof.changed:,} inputs, {proof.seconds:.1f} s" if proof.changed else "MISSED"
            )
            print(f"{proof.name:<36} {words:<24} {proof.invariant}", flush=True)  # noqa: T201
    if arguments.write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        _, _, after = rest.partition(END)
        text = f"{before}{BEGIN}\n\n{table(proofs)}\n\n{END}{after}"
        PAGE.write_text(text, encoding="utf-8")
    missed = [proof.name for proof in proofs if not proof.changed]
    found = len(proofs) - len(missed)
    print(f"{found} of {len(proofs)} planted bugs are found within a minute")  # noqa: T201
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
