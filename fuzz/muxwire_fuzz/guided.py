"""The process in which atheris runs a target; `python -m muxwire_fuzz.guided` is its program.

Rules of this file: nothing of the tested packages is imported before atheris can instrument it.
libFuzzer writes its progress to standard error.  A broken invariant is written down at once, and
the process ends with FOUND: a finding is never left to a signal handler.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

FOUND = 77
"""Exit status: an invariant is broken, and the report is on standard output."""
OURS = 0.8
"""Part of the changes that are those of the target; the others are libFuzzer's."""


def main(arguments: list[str]) -> None:
    """Run a target: its name, the folder for findings, then what libFuzzer is told."""
    import atheris

    name, folder, *rest = arguments
    with atheris.instrument_imports(include=["muxwire", "muxwire_conformance"]):
        from muxwire_fuzz.targets import load

        target = load(name)
    from muxwire_fuzz import store
    from muxwire_fuzz.findings import judge, report

    def one(data: bytes) -> None:
        broken = judge(target, data)
        if broken is not None:
            path = store.save(Path(folder), data)
            print(report(target, broken, str(path)), flush=True)  # noqa: T201
            os._exit(FOUND)

    def mutate(data: bytes, longest: int, seed: int) -> bytes:
        source = random.Random(seed)
        if source.random() < OURS:
            return target.mutate(data, longest, source)
        changed: bytes = atheris.Mutate(data, longest)
        return changed

    def cross(one: bytes, other: bytes, longest: int, seed: int) -> bytes:
        return target.cross(one, other, longest, random.Random(seed))

    atheris.Setup([sys.argv[0], *rest], one, custom_mutator=mutate, custom_crossover=cross)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
