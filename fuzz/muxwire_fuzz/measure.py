"""How much of the tested code the fuzzers reach: lines and branches, measured by coverage.py.

Rules of this file: what is measured is a replay of seeds, corpus and regressions, and of changed
inputs with a fixed seed, so two measurements of one commit are the same.  It has to run before
anything of the tested packages has been imported.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from muxwire_fuzz.findings import judge
from muxwire_fuzz.plain import explore


class MeasureError(Exception):
    """Nothing can be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Module:
    """One module: lines and branches that there are, and those that were reached."""

    name: str
    all: int
    reached: int
    missing: str

    @property
    def percent(self) -> float:
        """What was reached, in percent."""
        return 100.0 * self.reached / self.all if self.all else 100.0


def measure(names: Sequence[str], runs: int, tell: Callable[[str], None]) -> list[Module]:
    """Return the coverage of everything that the targets watch.

    Args:
        names: The targets.
        runs: Changed inputs for each target, besides those that are stored.
        tell: Is called with the name of each target before it runs.

    Raises:
        MeasureError: coverage.py is missing, the code is loaded already, or an invariant is broken.
    """
    try:
        import coverage
    except ImportError:
        raise MeasureError("coverage.py is missing: pip install 'muxwire[fuzz]'") from None
    if "muxwire" in sys.modules:
        raise MeasureError("the tested packages are loaded already")
    meter = coverage.Coverage(
        branch=True,
        data_file=None,
        source_pkgs=["muxwire", "muxwire_conformance"],
        config_file=False,
    )
    meter.start()
    try:
        watched = [prefix for name in names for prefix in _replay(name, runs, tell)]
    finally:
        meter.stop()
    return _modules(meter, watched)


def _replay(name: str, runs: int, tell: Callable[[str], None]) -> Sequence[str]:
    from muxwire_fuzz import store
    from muxwire_fuzz.targets import load

    target = load(name)
    pool = store.inputs(target).values()
    tell(name)
    for data in pool:
        broken = judge(target, data)
        if broken is not None:
            raise MeasureError(f"{name}: {broken.invariant}")
    explored = explore(target, pool, seed=1, go_on=lambda done: done < len(pool) + runs)
    if explored.broken is not None:
        raise MeasureError(f"{name}: {explored.broken.invariant}")
    return target.watch


def _modules(meter: object, watched: Sequence[str]) -> list[Module]:
    """Read the report of coverage.py."""
    import json
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        meter.json_report(outfile=str(path), show_contexts=False)  # type: ignore[attr-defined]
        files = json.loads(path.read_text())["files"]
    found = []
    for file, entry in sorted(files.items()):
        name = _module(file)
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in watched):
            totals = entry["summary"]
            every = totals["num_statements"] + totals["num_branches"]
            reached = totals["covered_lines"] + totals["covered_branches"]
            lines = ", ".join(map(str, entry["missing_lines"]))
            arcs = ", ".join(f"{a}->{b}" for a, b in entry["missing_branches"])
            missing = "; ".join(part for part in (lines, arcs) if part)
            found.append(Module(name, every, reached, missing))
    return found


def _module(file: str) -> str:
    parts = file.removesuffix(".py").replace("\\", "/").split("/")
    start = max(at for at, part in enumerate(parts) if part in ("muxwire", "muxwire_conformance"))
    name = ".".join(parts[start:])
    return name.removesuffix(".__init__")


def render(modules: Sequence[Module], *, missing: bool) -> str:
    """Return a table, with the lines and branches that are not reached if that is wanted."""
    out = io.StringIO()
    width = max(len(module.name) for module in modules)
    for module in modules:
        counts = f"{module.reached:>5} of {module.all:<5} {module.percent:6.1f} %"
        line = f"{module.name:<{width}}  {counts}"
        out.write(f"{line}  {module.missing if missing else ''}".rstrip() + "\n")
    total = total_of(modules)
    out.write(f"{'all':<{width}}  {total.reached:>5} of {total.all:<5} {total.percent:6.1f} %\n")
    return out.getvalue()


def total_of(modules: Sequence[Module]) -> Module:
    """Return the sum of modules."""
    return Module("all", sum(m.all for m in modules), sum(m.reached for m in modules), "")
