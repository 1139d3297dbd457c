"""What every target is made of: its name, its property, its inputs, and how a broken rule is told.

Rules of this file: a property takes octets and returns nothing.  It raises `InvariantError` when an
invariant is broken, and any other exception of it is a finding too.  It reads no clock, draws no
random number and keeps no state, so the same input always does the same.  That is why pytest,
Hypothesis and atheris can all use it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NoReturn

Random = random.Random


class InvariantError(AssertionError):
    """An invariant is broken.

    Args:
        invariant: Its name, a few words or the id of the requirement.
        detail: What was expected and what came.
    """

    def __init__(self, invariant: str, detail: str = "") -> None:
        super().__init__(f"{invariant}: {detail}" if detail else invariant)
        self.invariant = invariant
        self.detail = detail


def broken(invariant: str, detail: str = "") -> NoReturn:
    """Report a broken invariant.

    Raises:
        InvariantError: always.
    """
    raise InvariantError(invariant, detail)


def require(held: object, invariant: str, detail: str = "") -> None:
    """Report a broken invariant unless it is held.

    Raises:
        InvariantError: it is not.
    """
    if not held:
        raise InvariantError(invariant, detail)


def equal(found: object, expected: object, invariant: str) -> None:
    """Report two things that differ although they are to be the same.

    Raises:
        InvariantError: they differ.
    """
    if found != expected:
        raise InvariantError(invariant, f"{_short(found)} is not {_short(expected)}")


def invariant_of(error: BaseException) -> str:
    """Return what an error of a property says is broken, in one line that stays the same."""
    if isinstance(error, InvariantError):
        return error.invariant
    return f"no {type(error).__name__} is raised"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 1_000 else f"{text[:500]} ... {text[-500:]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing that is fuzzed.

    Attributes:
        name: What the command line calls it.
        doc: One line about what is held against what.
        check: The property.
        seeds: Inputs to begin with; they are computed, not stored.
        mutate: Returns a changed input of at most so many octets.
        cross: Returns a mixture of two inputs.
        smaller: Yields inputs that are parts of one, the smallest first.
        tokens: Octets that mean something; they become the dictionary.
        show: Returns an input in words.
        watch: Modules whose coverage counts, as prefixes of their names.
        longest: Octets of the longest input that is tried.
    """

    name: str
    doc: str
    check: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    mutate: Callable[[bytes, int, Random], bytes]
    cross: Callable[[bytes, bytes, int, Random], bytes]
    smaller: Callable[[bytes], Iterable[bytes]]
    tokens: Callable[[], Iterable[bytes]]
    show: Callable[[bytes], str]
    watch: tuple[str, ...]
    longest: int = 4_096
