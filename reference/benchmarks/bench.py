"""Measure muxwire against its ceilings and its peers: `bench.py [GROUP...] [--quick]`.

Clients and servers are processes of their own, on loopback.  What counts are the ratios within one
run; docs/performance.md says what each figure means.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from results import Group
from session import Session

GROUPS = ("unary", "stream", "large", "memory", "connections", "codec", "callhome", "paths")
RUNS, QUICK_RUNS = 5, 2
LIMIT, QUICK_LIMIT = 330.0, 50.0
"""Seconds for the usual number of runs; after it no run is begun."""


def installed(package: str) -> str:
    """Return the version of a package, or that it is missing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def machine() -> dict[str, str]:
    """Describe what the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "machine": f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        **{name: installed(name) for name in ("uvloop", "aiohttp", "grpcio", "nats-py")},
    }


def _load() -> str:
    path = Path("/proc/loadavg")
    return path.read_text().split()[0] if path.exists() else "unknown"


def _stop(number: int, _: Any) -> None:
    """Leave through the contexts that stop the children."""
    raise SystemExit(128 + number)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.py", description="Measure muxwire.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="in less than a minute, roughly")
    parser.add_argument("--runs", type=int, help=f"runs ({RUNS}; {QUICK_RUNS} with --quick)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    arguments = parser.parse_args(words)
    for name in arguments.groups:
        if name not in GROUPS:
            parser.error(f"there is no group {name!r}; there are {', '.join(GROUPS)}")
    if arguments.runs is not None and arguments.runs < 1:
        parser.error("--runs is at least 1")
    return arguments


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmark and return the exit code: 1 if a floor does not hold."""
    arguments = _arguments(words)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    usual = QUICK_RUNS if arguments.quick else RUNS
    runs = arguments.runs or usual
    limit = (QUICK_LIMIT if arguments.quick else LIMIT) * max(1.0, runs / usual)
    session = Session(runs, arguments.quick, limit)
    about = machine()
    about["load average before"] = _load()
    begun = time.monotonic()
    done: list[Group] = []
    for name in GROUPS:
        if arguments.groups and name not in arguments.groups:
            continue
        group: Group = importlib.import_module(f"group_{name}").measure(session)
        done.append(group)
        sys.stdout.write(group.text() + "\n")
        sys.stdout.flush()
    about["load average after"] = _load()
    about["runs"] = str(runs)
    about["seconds"] = f"{time.monotonic() - begun:.0f}"
    sys.stdout.write("; ".join(f"{key}: {value}" for key, value in about.items()) + "\n")
    if arguments.json:
        report = {"about": about, "groups": {group.name: group.as_json() for group in done}}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    failed = [floor for group in done for floor in group.floors if not floor.holds]
    for floor in failed:
        session.say(f"a floor does not hold: {floor.label}: {floor.found}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
