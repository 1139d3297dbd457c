"""What is told about a finding, and how it is made small.

Rules of this file: a finding is smaller when it breaks the same invariant with fewer octets.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass

from muxwire_fuzz.harness import InvariantError, Target, invariant_of

LINES = 120
"""Lines of an input that a report shows."""
STEPS = 20_000
"""Inputs that are tried to make a finding smaller."""


@dataclass(frozen=True, slots=True)
class Broken:
    """An input that breaks an invariant."""

    data: bytes
    error: Exception

    @property
    def invariant(self) -> str:
        """What is broken."""
        return invariant_of(self.error)


def judge(target: Target, data: bytes) -> Broken | None:
    """Run one input; return what it breaks, None if everything holds."""
    try:
        target.check(data)
    except Exception as error:
        return Broken(data, error)
    return None


def report(target: Target, broken: Broken, file: str) -> str:
    """Return everything that a person needs: the input in words, the rule, and the command."""
    words = target.show(broken.data).splitlines()
    if len(words) > LINES:
        words = [*words[:LINES], f"... {len(words) - LINES} lines more"]
    if isinstance(broken.error, InvariantError):
        story = [broken.error.detail] if broken.error.detail else []
    else:
        story = "".join(traceback.format_exception(broken.error)).rstrip().splitlines()
    return "\n".join(
        [
            f"FINDING in {target.name}: {len(broken.data)} octets break an invariant",
            "",
            *("  " + line for line in words),
            "",
            f"broken: {broken.invariant}",
            *("        " + line for line in story),
            "",
            f"again:  python -m muxwire_fuzz repro --target {target.name} {file}",
            f"less:   python -m muxwire_fuzz minimise --target {target.name} {file}",
        ]
    )


def shrink(target: Target, broken: Broken, steps: int = STEPS) -> Broken:
    """Return the smallest finding that can be reached, with the same invariant broken."""
    tried: set[bytes] = set()
    progress = True
    while progress:
        progress = False
        for data in target.smaller(broken.data):
            if len(data) >= len(broken.data) or data in tried:
                continue
            if len(tried) >= steps:
                return broken
            tried.add(data)
            found = judge(target, data)
            if found is not None and found.invariant == broken.invariant:
                broken = found
                progress = True
                break
    return broken
