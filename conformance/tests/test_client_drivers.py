"""The whole client mode against two real clients: the bundled one and the example in Node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NODE = "docs/examples/driver-node/driver.mjs {host} {port}"
LIMIT = 300
JOBS = "4"  # two processors start the drivers of so many cases in time


@pytest.mark.parametrize("name", ["muxwire", "node"])
def test_everything_that_applies_passes(name: str, tmp_path: Path) -> None:
    command = f"{sys.executable} -m muxwire driver {{host}} {{port}}"
    if name == "node":
        node = shutil.which("node")
        if node is None:
            message = "node is missing; the example driver in Node was not judged"
            pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
        command = f"{node} {NODE}"
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "muxwire_conformance", "check-client"),
            *("--client-cmd", command, "--jobs", JOBS, "--json", str(report), "--no-color"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    document = json.loads(report.read_text(encoding="utf-8"))
    verdicts = {one["id"]: one["verdict"] for one in document["results"]}
    # A case that fails once and holds whenever it is alone was the busy machine's doing.
    unexpected = set(verdicts.values()) - {"PASS", "N/A", "FLAKY"}
    assert not unexpected, done.stdout + done.stderr
    assert list(verdicts.values()).count("FLAKY") <= 3, done.stdout
    assert document["summary"]["passed"] > 100
