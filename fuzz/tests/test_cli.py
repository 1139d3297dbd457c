"""The command line, as somebody types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from muxwire_fuzz import cli, engine, findings, store
from muxwire_fuzz.harness import InvariantError, Target, broken
from muxwire_fuzz.script import sent
from muxwire_fuzz.targets import NAMES, load

PING = bytes.fromhex("f7040001") + bytes(11) + b"\x08" + bytes(24)


def fuzz(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> Target:
    """The decoder target with an invariant that every PING breaks."""
    target = load("decoder")

    def check(data: bytes) -> None:
        if PING in data:
            broken("no PING is ever seen", "there is one")

    changed = object.__new__(Target)
    for name in Target.__slots__:
        object.__setattr__(changed, name, getattr(target, name))
    object.__setattr__(changed, "check", check)
    monkeypatch.setattr("muxwire_fuzz.targets.load", lambda _name: changed)
    return changed


def test_the_list_names_every_target() -> None:
    status, output = fuzz("list")
    assert status == 0
    for name in NAMES:
        assert f"\n{name}" in f"\n{output}"


@pytest.mark.parametrize("command", ["", "list", "run", "repro", "minimise", "coverage"])
def test_help_is_there(command: str) -> None:
    status, output = fuzz(*command.split(), "--help")
    assert status == 0
    assert "Usage:" in output
    if not command:
        assert "Examples:" in output
        assert "Exit status: 0" in output


def test_a_plain_run_says_what_it_did(tmp_path: Path) -> None:
    status, output = fuzz("run", "decoder", "--plain", "--time", "1", "--work", str(tmp_path))
    assert status == 0, output
    assert output.startswith("decoder ")
    assert output.endswith(", no finding\n")


def test_a_finding_can_be_repeated_and_made_smaller(strict: Target, tmp_path: Path) -> None:
    status, output = fuzz("run", "decoder", "--plain", "--time", "30", "--work", str(tmp_path))
    assert status == cli.FINDING, output
    assert "FINDING in decoder" in output
    assert "broken: no PING is ever seen" in output
    assert "0x01 PING" in output
    (file,) = (tmp_path / "findings" / "decoder").iterdir()
    assert f"repro --target decoder {file}" in output
    status, output = fuzz("repro", str(file))
    assert status == cli.FINDING
    assert "broken: no PING is ever seen" in output
    status, output = fuzz("minimise", str(file))
    assert status == cli.FINDING
    small = min((tmp_path / "findings" / "decoder").iterdir(), key=lambda path: path.stat().st_size)
    assert len(small.read_bytes()) == len(sent(PING))
    assert str(small) in output
    assert findings.judge(strict, small.read_bytes()) is not None


def test_an_input_that_breaks_nothing(tmp_path: Path) -> None:
    file = store.save(tmp_path / "decoder", sent(PING))
    status, output = fuzz("repro", str(file))
    assert status == 0
    assert output.endswith("decoder: every invariant holds\n")
    assert fuzz("minimise", str(file))[0] == 2


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["run", "nothing"], "there is no target nothing"),
        (["run", "--time", "0"], "--time"),
        (["repro", "nowhere"], "does not exist"),
        (["repro", __file__], "there is no target 'tests'"),
        (["minimise", "nowhere"], "neither a file nor a target"),
    ],
)
def test_wrong_usage(arguments: list[str], word: str) -> None:
    status, output = fuzz(*arguments)
    assert status == 2
    assert word in output


def test_the_corpus_of_a_target_is_made_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CORPUS", tmp_path / "corpus")
    useless = store.save(tmp_path / "corpus" / "decoder", sent(PING))
    status, output = fuzz("minimise", "decoder", "--work", str(tmp_path))
    assert status == 0, output
    assert "1 inputs, 0 kept" in output
    assert not useless.exists()


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_arguments: object) -> engine.Progress:
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "plain", interrupted)
    assert fuzz("run", "decoder", "--plain")[0] == cli.INTERRUPTED


def test_a_guided_run_that_fails_is_told_from_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(*_arguments: object) -> engine.Progress:
        raise engine.EngineError("the guided run of decoder ended with 1:\nno words")

    monkeypatch.setattr(engine, "plain", failed)
    status, output = fuzz("run", "decoder", "--plain")
    assert status == cli.FAILED
    assert "error: the guided run" in output


def test_progress_is_read_from_what_libfuzzer_writes() -> None:
    progress = engine.Progress("decoder", guided=True)
    assert not progress.take(b"INFO: Seed: 1\n")
    assert progress.take(b"#315\tINITED cov: 256 ft: 900 corp: 90/9Kb exec/s: 0 rss: 90Mb\n")
    assert progress.take(b"#8570\tDONE   cov: 260 ft: 999 corp: 99/9Kb exec/s: 857 rss: 99Mb\n")
    assert (progress.runs, progress.edges, progress.new_edges) == (8_570, 260, 4)


def test_an_exception_that_is_no_finding_is_one_too() -> None:
    target = load("decoder")
    found = findings.Broken(sent(PING), ValueError("oops"))
    text = findings.report(target, found, "file")
    assert "broken: no ValueError is raised" in text
    assert "ValueError: oops" in text
    assert isinstance(InvariantError("a"), AssertionError)


def test_the_program_starts_without_atheris() -> None:
    program = "import sys; sys.modules['atheris'] = None; from muxwire_fuzz.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program, "list"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("decoder")
