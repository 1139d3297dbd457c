"""A fuzzing loop in plain Python: it needs nothing, and the same seed gives the same run.

Rules of this file: it is not guided by coverage.  Inputs are drawn from a pool, changed a few times
or crossed, and judged.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass

from muxwire_fuzz.findings import Broken, judge
from muxwire_fuzz.harness import Random, Target


@dataclass(frozen=True, slots=True)
class Explored:
    """What a loop has done."""

    runs: int
    broken: Broken | None


def another(target: Target, pool: Collection[bytes], random: Random) -> bytes:
    """Return an input that is made from those of a pool."""
    inputs = list(pool)
    data = random.choice(inputs)
    if random.random() < 0.15:
        data = target.cross(data, random.choice(inputs), target.longest, random)
    for _ in range(random.choice((1, 1, 2, 4))):
        data = target.mutate(data, target.longest, random)
    return data


def explore(
    target: Target, pool: Collection[bytes], *, seed: int, go_on: Callable[[int], bool]
) -> Explored:
    """Judge the pool, then change inputs until something breaks.

    Args:
        target: What is tried.
        pool: Inputs to begin with.
        seed: Seed of everything random.
        go_on: Is asked with the number of inputs judged so far before each one.
    """
    source = random.Random(seed)
    waiting = list(pool)
    runs = 0
    while go_on(runs):
        data = waiting[runs] if runs < len(waiting) else another(target, waiting, source)
        runs += 1
        broken = judge(target, data)
        if broken is not None:
            return Explored(runs, broken)
    return Explored(runs, None)
