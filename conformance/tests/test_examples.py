"""The examples for CI and containers parse, and name only what exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from muxwire_conformance.baseline import load_baseline
from muxwire_conformance.cli import build_parser

ROOT = Path(__file__).parents[2]
ACTION = ROOT / "docs/examples/github-action/action.yml"
WORKFLOW = ROOT / "docs/examples/github-action/workflow.yml"
CONTAINER = ROOT / "docs/examples/container/Containerfile"


def options_of_check() -> set[str]:
    parser = build_parser().parse_args(["check"]).parser
    return {name for action in parser._actions for name in action.option_strings}


def load(path: Path) -> dict[Any, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def test_the_action_is_complete() -> None:
    action = load(ACTION)
    assert action["runs"]["using"] == "composite"
    steps = action["runs"]["steps"]
    assert all("shell" in step for step in steps if "run" in step)
    assert all(re.fullmatch(r"[\w./-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    used = set(re.findall(r"inputs\.(\w+)", ACTION.read_text(encoding="utf-8")))
    assert used == set(action["inputs"])


def test_no_input_of_the_action_is_part_of_a_script() -> None:
    assert [step for step in load(ACTION)["runs"]["steps"] if "${{" in step.get("run", "")] == []


def test_the_script_of_the_action_parses_and_its_options_exist() -> None:
    for step in load(ACTION)["runs"]["steps"]:
        if "run" in step:
            subprocess.run(["bash", "-n", "-c", step["run"]], check=True)
            used = set(re.findall(r"(?<=[ (])--[a-z-]+", step["run"]))
            assert used - {"--quiet"} <= options_of_check()


def test_the_workflow_gives_the_action_what_it_wants() -> None:
    (job,) = load(WORKFLOW)["jobs"].values()
    step = next(step for step in job["steps"] if "wmx-conformance" in step.get("uses", ""))
    inputs = load(ACTION)["inputs"]
    assert set(step["with"]) <= set(inputs)
    assert {name for name, one in inputs.items() if one.get("required")} <= set(step["with"])


def test_the_container_has_the_entry_point_of_the_command() -> None:
    lines = CONTAINER.read_text(encoding="utf-8").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    known = {"FROM", "COPY", "RUN", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert {step[0] for step in steps} <= known
    (entry,) = [step[1] for step in steps if step[0] == "ENTRYPOINT"]
    (command,) = yaml.safe_load(entry)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert command in project["scripts"]
    assert [step[1] for step in steps if step[0] == "USER"] == ["judge"]


@pytest.mark.parametrize("page", ["reports.md", "judge-your-server.md"])
def test_every_command_in_the_pages_is_understood(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```(?:sh|yaml)\n(.*?)```", text, re.DOTALL)
    commands = [
        line.partition("#")[0]
        for block in blocks
        for line in re.sub(r"\n\s+(?=--)", " ", block).splitlines()
        if "muxwire-conformance " in line and "pip install" not in line
    ]
    assert commands
    for command in commands:
        words = shlex.split(command)
        start = words.index("muxwire-conformance") + 1
        build_parser().parse_args(words[start:])


def test_the_baseline_in_the_page_is_one(tmp_path: Path) -> None:
    text = (ROOT / "docs/reports.md").read_text(encoding="utf-8")
    block = re.search(r"```toml\n(\[\[case\]\].*?)```", text, re.DOTALL)
    assert block is not None
    path = tmp_path / "known.toml"
    path.write_text(block[1])
    entries = load_baseline(path).entries
    assert {entry.flaky for entry in entries.values()} == {True, False}
