"""The bundled worker passes every case, many times in a row, on a machine that is busy.

Not part of the tests, since it takes minutes: ``python conformance/tests/acceptance_load.py``.
Exit code 0 means that every run was green, without a single FLAKY or INCONCLUSIVE.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

GREEN = {"PASS", "N/A"}


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many processors busy meanwhile."""
    # They end with this program, however it ends.
    code = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
    command = [sys.executable, "-c", code]
    hogs = [subprocess.Popen(command) for _ in range(processes)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def judge(target: str, jobs: int, report: Path) -> tuple[int, list[tuple[str, str, str]]]:
    """Judge the target once; return the exit code and what was not green."""
    command = [sys.executable, "-m", "muxwire_conformance", "check", "-q"]
    command += ["--target", target, "--jobs", str(jobs), "--json", str(report)]
    code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    results = json.loads(report.read_text())["results"]
    return code, [
        (one["verdict"], one["id"], one["reason"]) for one in results if one["verdict"] not in GREEN
    ]


def main() -> int:
    """Run the acceptance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--busy", type=int, default=os.cpu_count() or 1, help="busy processes")
    parser.add_argument("--target", default="self")
    chosen = parser.parse_args()
    count: Counter[str] = Counter()
    write = sys.stdout.write
    with busy(chosen.busy), tempfile.TemporaryDirectory() as folder:
        for run in range(1, chosen.runs + 1):
            started = time.monotonic()
            code, bad = judge(chosen.target, chosen.jobs, Path(folder) / "run.json")
            count["green" if code == 0 and not bad else "red"] += 1
            write(f"run {run}: exit code {code}, {time.monotonic() - started:.1f} s\n")
            for verdict, id, reason in bad:
                write(f"  {verdict} {id}: {reason}\n")
            sys.stdout.flush()
    write(f"{count['green']} of {chosen.runs} runs are green\n")
    return 0 if count["green"] == chosen.runs else 1


if __name__ == "__main__":
    sys.exit(main())
