"""The pytest plugin, as an implementer uses it: in a folder and a process of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from engine_fakes import closed_port
from test_conformance_cli import model_worker

FLAW = "hsk-accepts-second-settings"
BROKEN = "HSK-006/second-settings"
STRICT = "[pytest]\naddopts = --strict-markers --strict-config\nfilterwarnings = error\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text(STRICT)
    return tmp_path


def run(folder: Path, *arguments: str, installed: bool = False) -> subprocess.CompletedProcess[str]:
    """Run pytest with our plugin alone, which is faster; or as installed, with all there are."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    plugin = [] if installed else ["-p", "muxwire_conformance.pytest_plugin"]
    if not installed:
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=environment,
    )
    assert "INTERNALERROR" not in done.stdout + done.stderr
    return done


def test_each_case_is_a_test(folder: Path) -> None:
    with model_worker() as address:
        options = ("--wmx-target", address, "-k", "HSK-003 or CAN-004", "-v")
        done = run(folder, *options, installed=True)
    assert done.returncode == 0, done.stdout
    assert "wmx::HSK-003/offers-1-to-1 PASSED" in done.stdout
    assert re.search(r"[5-9] passed", done.stdout)


def test_a_failure_is_explained_with_its_transcript(folder: Path) -> None:
    with model_worker("--flaw", FLAW) as address:
        done = run(folder, "--wmx-target", address, "-k", BROKEN)
    assert done.returncode == 1
    assert f"FAILED wmx::{BROKEN}" in done.stdout
    assert "rule      HSK-006" in done.stdout
    assert "wmx transcript" in done.stdout
    assert ">>>" in done.stdout
    assert "Traceback" not in done.stdout
    assert "pytest_cases.py" not in done.stdout


def test_a_known_failure_is_an_xfail_and_a_stale_one_fails(folder: Path) -> None:
    known = folder / "known.toml"
    known.write_text(f"[[case]]\nid = '{BROKEN}'\nreason = 'ticket 7'\n")
    options = ("--wmx-baseline", str(known), "-k", BROKEN + " and not before", "-rx")
    with model_worker("--flaw", FLAW) as address:
        done = run(folder, "--wmx-target", address, *options)
    assert done.returncode == 0
    assert "1 xfailed" in done.stdout
    assert "ticket 7" in done.stdout
    with model_worker() as address:
        done = run(folder, "--wmx-target", address, *options)
    assert done.returncode == 1
    assert "remove the entry" in done.stdout


def test_marks_choose_by_level_and_area(folder: Path) -> None:
    listing = ("--wmx-target", "h:1", "--collect-only", "-q", "-m")
    done = run(folder, *listing, "wmx_should and wmx_flw")
    ids = [line for line in done.stdout.splitlines() if line.startswith("wmx::")]
    assert ids
    assert all(line.startswith("wmx::FLW-") for line in ids)
    assert re.search(rf"{len(ids)}/\d+ tests collected", done.stdout)
    everything = run(folder, *listing, "wmx_flw")
    assert everything.stdout.count("wmx::FLW-") > len(ids)


def test_own_fixture_and_own_test(folder: Path) -> None:
    with model_worker("--flaw", FLAW) as address:
        (folder / "test_mine.py").write_text(
            "import pytest\n\n"
            "@pytest.fixture(scope='session')\n"
            f"def wmx_target():\n    yield {address!r}\n\n"
            "def test_wmx(wmx_case):\n    wmx_case.check()\n"
        )
        done = run(folder, "-k", f"HSK-003 or ({BROKEN} and not before)", "-v")
    assert done.returncode == 1
    assert "test_mine.py::test_wmx[HSK-003/offers-1-to-1] PASSED" in done.stdout
    assert f"test_mine.py::test_wmx[{BROKEN}] FAILED" in done.stdout
    assert "wmx transcript" in done.stdout
    assert "1 failed, 4 passed" in done.stdout


def test_without_a_target_the_test_says_what_is_missing(folder: Path) -> None:
    (folder / "test_mine.py").write_text("def test_wmx(wmx_case):\n    wmx_case.check()\n")
    done = run(folder, "-k", "HSK-003/offers-1-to-1")
    assert "define a session fixture wmx_target" in done.stdout


def test_no_worker_there_is_one_sentence(folder: Path) -> None:
    target = f"127.0.0.1:{closed_port()}"
    done = run(folder, "--wmx-target", target, "-k", "HSK-003")
    assert done.returncode == 1
    assert f"nothing listens at {target}" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--wmx-target", "nowhere"], "the port is missing"),
        (["--wmx-target", "h:1", "--wmx-baseline", "none.toml"], "cannot be read"),
        (["--wmx-target", "h:1", "--wmx-baseline", "known.toml"], "does not exist: HSK-003/of"),
    ],
)
def test_wrong_usage(folder: Path, options: list[str], words: str) -> None:
    (folder / "known.toml").write_text("[[case]]\nid = 'HSK-003/of'\nreason = 'r'\n")
    done = run(folder, *options)
    assert done.returncode == 4
    assert words in done.stderr


_LOOK = """
import sys

def test_nothing_of_the_suite_is_loaded():
    loaded = {name for name in sys.modules if name.startswith("muxwire")}
    assert loaded == {"muxwire_conformance", "muxwire_conformance.pytest_plugin"}
    assert "construct" not in sys.modules
"""


def test_a_run_that_does_not_ask_is_left_alone(folder: Path) -> None:
    (folder / "test_look.py").write_text(_LOOK)
    done = run(folder, "-q", installed=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 passed")
    markers = run(folder, "--markers", installed=True)
    assert "wmx" not in markers.stdout
