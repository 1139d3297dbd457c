"""`tox -e conformance --target HOST:PORT`, typed as people type it.

tox runs in its own process with its own work directory. Nothing is installed: the judge is a
stand-in that prints its arguments, and a refusal comes before any environment is made.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REFUSED = 254  # how tox ends when it prints one line instead of a traceback

STAND_IN = """
import sys
print("judged with", sys.argv[1:])
sys.exit(3)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with the real tox files and a stand-in for the judge."""
    for name in ("tox.ini", "toxfile.py"):
        shutil.copy(ROOT / name, tmp_path)
    package = tmp_path / "muxwire_conformance"
    package.mkdir()
    (package / "__main__.py").write_text(STAND_IN)
    return tmp_path


def tox(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # The tests themselves run under tox, whose variables must not reach the tox under test.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOX")}
    return subprocess.run(
        [sys.executable, "-m", "tox", *arguments],
        cwd=project,
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def judge_command(project: Path, *arguments: str, **variables: str) -> str:
    """What tox would run, after all replacements."""
    shown = tox(project, "config", "-e", "conformance", "-k", "commands", *arguments, **variables)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return shown.stdout.partition("commands = ")[2].strip()


@pytest.mark.parametrize(
    ("arguments", "target"),
    [
        ([], "self"),
        (["--target", "127.0.0.1:9000"], "127.0.0.1:9000"),
        (["--target=worker.example:9000"], "worker.example:9000"),
        (["--target", "[::1]:9000"], "'[::1]:9000'"),
        (["--target", "tcp://127.0.0.1:9000"], "tcp://127.0.0.1:9000"),
    ],
)
def test_the_target_reaches_the_judge(project: Path, arguments: list[str], target: str) -> None:
    expected = f"python -m muxwire_conformance check --target {target}"
    assert judge_command(project, *arguments) == expected


def test_the_target_can_come_from_the_environment(project: Path) -> None:
    command = judge_command(project, TOX_TARGET="127.0.0.1:5")
    assert command == "python -m muxwire_conformance check --target 127.0.0.1:5"


def test_the_exit_code_and_the_words_behind_the_dashes_pass_through(project: Path) -> None:
    command = ("-e", "conformance", "--target", "[::1]:9000", "--", "FRM-002", "--strict")
    ran = tox(project, "--skip-pkg-install", *command, VIRTUALENV_NO_PERIODIC_UPDATE="1")
    assert "judged with ['check', '--target', '[::1]:9000', 'FRM-002', '--strict']" in ran.stdout
    assert ran.returncode == 3, ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "line"),
    [
        (["--target", "h:1"], {}, "needs `-e conformance`"),
        (["-e", "tests", "--target", "h:1"], {}, "needs `-e conformance`"),
        (["p", "-e", "tests", "--target", "h:1"], {}, "needs `-e conformance`"),
        (["-e", "tests"], {"TOX_TARGET": "h:1"}, "TOX_TARGET"),
        (["-e", "conformance", "--target", ""], {}, "wants HOST:PORT, not ''"),
        (["-e", "conformance", "--target", "h:1 --strict"], {}, "wants HOST:PORT"),
        (["-e", "conformance", "--target", "{posargs}"], {}, "wants HOST:PORT"),
    ],
)
def test_a_bad_use_is_refused_with_one_line(
    project: Path, arguments: list[str], variables: dict[str, str], line: str
) -> None:
    refused = tox(project, *arguments, **variables)
    said = (refused.stdout + refused.stderr).strip()
    assert refused.returncode == REFUSED
    assert line in said
    assert len(said.splitlines()) == 1
    assert not (project / ".tox" / "tests").exists()
