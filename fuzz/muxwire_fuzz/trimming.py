"""Making a corpus small: the shortest inputs that together take every step that all of them take.

Rules of this file: a step is a pair of lines that follow one another in the tested code, seen by a
trace function, so it needs no instrumented build.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import Any

from muxwire_fuzz.harness import Target

Step = tuple[str, int, int]


def steps(target: Target, data: bytes) -> set[Step]:
    """Return the steps that an input takes through what its target watches."""
    taken: set[Step] = set()
    prefixes = target.watch
    wanted: dict[str, bool] = {}

    def local(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            name = frame.f_code.co_filename
            before = lines.get(id(frame), 0)
            taken.add((name, before, frame.f_lineno))
            lines[id(frame)] = frame.f_lineno
        elif event == "return":
            lines.pop(id(frame), None)
        return local

    def call(frame: FrameType, _event: str, _argument: Any) -> Any:
        name = frame.f_globals.get("__name__", "")
        if name not in wanted:
            wanted[name] = any(name == one or name.startswith(f"{one}.") for one in prefixes)
        return local if wanted[name] else None

    lines: dict[int, int] = {}
    before = sys.gettrace()
    sys.settrace(call)
    try:
        target.check(data)
    finally:
        sys.settrace(before)
    return taken


def trim(target: Target, kept: Iterable[bytes], offered: Mapping[str, bytes]) -> list[bytes]:
    """Return those of the offered inputs that are needed besides the kept ones."""
    seen: set[Step] = set()
    for data in kept:
        seen |= steps(target, data)
    left = {data: steps(target, data) - seen for data in set(offered.values())}
    chosen = []
    while left:
        best = max(left, key=lambda data: (len(left[data] - seen) / (64 + len(data)), data))
        if not left[best] - seen:
            left = {data: found for data, found in left.items() if found - seen}
            continue
        chosen.append(best)
        seen |= left.pop(best)
    return chosen
