"""A fuzzing loop in plain Python: it needs nothing, and the same seed gives the same run.

Rules of this file: it is not guided by coverage.  Inputs are drawn from a pool, changed a few times
or crossed, and judged.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from muxwire_fuzz.findings import Broken, judge
from muxwire_fuzz.harness import Random, Target


@dataclass(frozen=True, slots=True)
class Explored:
    """What a loop has done."""

    runs: int
    broken: Broken | None


def another(target: Target, inputs: Sequence[bytes], random: Random) -> bytes:
    """Return an input that is made from others."""
    data = random.choice(inputs)
    if random.random() < 0.15:
        data = target.cross(data, random.choice(inputs), target.longest, random)
    for _ in range(random.choice((1, 1, 2, 4))):
        data = target.mutate(data, target.longest, random)
    return data


def explore(
    target: Target,
    pool: Collection[bytes],
    *,
    seed: int,
    go_on: Callable[[int], bool],
    pool_too: bool = True,
) -> Explored:
    """Judge the pool, then change inputs until something breaks.

    Args:
        target: What is tried.
        pool: Inputs to begin with.
        seed: Seed of everything random.
        go_on: Is asked with the number of inputs judged so far before each one.
        pool_too: Whether the inputs of the pool themselves are judged.
    """
    source = random.Random(seed)
    inputs = list(pool)
    first = len(inputs) if pool_too else 0
    runs = 0
    while go_on(runs):
        data = inputs[runs] if runs < first else another(target, inputs, source)
        runs += 1
        broken = judge(target, data)
        if broken is not None:
            return Explored(runs, broken)
    return Explored(runs, None)
