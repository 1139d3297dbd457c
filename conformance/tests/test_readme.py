"""The commands that README.md promises are the ones that CI runs."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_ci_runs_the_first_commands_of_the_readme() -> None:
    (block,) = re.findall(r"```sh\n(# 1\..*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    commands = [line for line in block.splitlines() if line and not line.startswith("#")]
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    assert len(commands) == 2
    for command in commands:
        assert f"{command} || status=$?" in ci
