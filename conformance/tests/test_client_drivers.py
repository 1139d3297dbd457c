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
BASELINE = "docs/examples/driver-node/baseline.toml"
LIMIT = 300


@pytest.mark.parametrize("name", ["muxwire", "node"])
def test_everything_that_applies_passes(name: str, tmp_path: Path) -> None:
    command, baseline = f"{sys.executable} -m muxwire driver {{host}} {{port}}", []
    if name == "node":
        node = shutil.which("node")
        if node is None:
            message = "node is missing; the example driver in Node was not judged"
            pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
        command, baseline = f"{node} {NODE}", ["--baseline", BASELINE]
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "muxwire_conformance", "check-client"),
            *("--client-cmd", command, "--json", str(report), "--no-color"),
            *baseline,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(report.read_text(encoding="utf-8"))["summary"]["passed"] > 100
