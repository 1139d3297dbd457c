"""Which cases run: by id, requirement, area, glob, level and a -k expression."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Callable, Collection, Iterable, Sequence

from muxwire_conformance.case import Case
from muxwire_conformance.paths import PATHS

LEVELS = ("must", "should", "may")

_TOKEN = re.compile(r"\s*(?:(\()|(\))|([^\s()]+))")


class SelectionError(ValueError):
    """The selection is malformed or names something that does not exist; one clear line."""


def select(
    cases: Iterable[Case],
    *,
    patterns: Sequence[str] = (),
    areas: Sequence[str] = (),
    paths: Sequence[str] = (),
    excluded: Sequence[str] = (),
    requirements: Collection[str] | None = None,
    level: str | None = None,
    expression: str | None = None,
) -> list[Case]:
    """Return the cases that pass every filter, by id.

    Args:
        cases: All cases.
        patterns: Case ids, requirement ids, area names or globs; empty means all.
        areas: Area names, separated by commas or repeated; empty means all.
        paths: Names of paths, separated by commas or repeated; empty means all.
        excluded: Case ids, requirement ids, area names or globs of cases to leave out.
        requirements: Only cases of these requirements; None means all.
        level: ``must``, ``should`` or ``may``: this level, both polarities.
        expression: Words joined by and, or, not and parentheses; a word matches part of an id or
            title, in any case.

    Raises:
        SelectionError: an id, area or path does not exist, or the expression is malformed.
    """
    chosen = sorted(cases, key=lambda one: one.id)
    known_areas = sorted({one.area for one in chosen})
    for area in _split(areas):
        if area.upper() not in known_areas:
            raise SelectionError(f"there is no area {area!r}; areas: {', '.join(known_areas)}")
    wanted_areas = {area.upper() for area in _split(areas)}
    wanted_paths = {path.lower() for path in _split(paths)}
    for path in sorted(wanted_paths - set(PATHS)):
        raise SelectionError(f"there is no path {path!r}; paths: {', '.join(PATHS)}")
    accept = _parse(expression) if expression is not None else None
    for pattern in (*patterns, *excluded):
        _require_known(pattern, chosen)
    return [
        one
        for one in chosen
        if (not patterns or any(_matches(pattern, one) for pattern in patterns))
        and not any(_matches(pattern, one) for pattern in excluded)
        and (requirements is None or one.requirement in requirements)
        and (not wanted_areas or one.area in wanted_areas)
        and (not wanted_paths or one.path in wanted_paths)
        and (level is None or level_of(one.level) == level)
        and (accept is None or accept(f"{one.id} {one.title}".casefold()))
    ]


def _split(values: Sequence[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def level_of(level: str) -> str:
    """Return must, should or may for a level of the registry, of either polarity."""
    if level.startswith(("MUST", "SHALL", "REQUIRED")):
        return "must"
    return "should" if level.startswith(("SHOULD", "RECOMMENDED", "NOT REC")) else "may"


def _is_glob(pattern: str) -> bool:
    return any(character in pattern for character in "*?[")


def _matches(pattern: str, one: Case) -> bool:
    wanted = pattern.casefold()
    name = one.id.casefold()
    if _is_glob(pattern):
        return fnmatch.fnmatchcase(name, wanted)
    return wanted in (name, one.requirement.casefold(), one.area.casefold())


def _require_known(pattern: str, cases: Sequence[Case]) -> None:
    if _is_glob(pattern) or any(_matches(pattern, one) for one in cases):
        return
    names = {one.id.casefold(): one.id for one in cases}
    names.update({one.requirement.casefold(): one.requirement for one in cases})
    near = difflib.get_close_matches(pattern.casefold(), names, n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(names[name] for name in near)}?" if near else ""
    raise SelectionError(f"there is no case {pattern!r}{hint or '; see the command list'}")


def _parse(expression: str) -> Callable[[str], bool]:
    tokens = [
        match.group(1) or match.group(2) or match.group(3) for match in _TOKEN.finditer(expression)
    ]
    position = 0

    def peek() -> str:
        return tokens[position] if position < len(tokens) else ""

    def take() -> str:
        nonlocal position
        position += 1
        return tokens[position - 1]

    def either() -> Callable[[str], bool]:
        left = both()
        while peek() == "or":
            take()
            left = _or(left, both())
        return left

    def both() -> Callable[[str], bool]:
        left = single()
        while peek() == "and":
            take()
            left = _and(left, single())
        return left

    def single() -> Callable[[str], bool]:
        token = take() if peek() else ""
        if token == "not":
            inner = single()
            return lambda text: not inner(text)
        if token == "(":
            inner = either()
            if peek() != ")":
                raise SelectionError(f"-k {expression!r}: a parenthesis is not closed")
            take()
            return inner
        if token in ("", ")", "and", "or"):
            raise SelectionError(f"-k {expression!r}: a word is missing")
        word = token.casefold()
        return lambda text: word in text

    found = either()
    if peek():
        raise SelectionError(f"-k {expression!r}: {peek()!r} is not expected there")
    return found


def _or(left: Callable[[str], bool], right: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: left(text) or right(text)


def _and(left: Callable[[str], bool], right: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda text: left(text) and right(text)
