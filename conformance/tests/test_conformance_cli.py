"""The command as people run it: every exit code, and nobody ever sees a traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from engine_fakes import FakePeer, closed_port
from muxwire_conformance import case as module
from muxwire_conformance.case import case, load_cases
from muxwire_conformance.cli import main
from muxwire_conformance.context import Context
from muxwire_conformance.rules import rule
from muxwire_conformance.target import default_command

MODEL = Path(__file__).parent / "model_worker.py"
COMMAND = [sys.executable, "-m", "muxwire_conformance"]
FAST = ["HSK-003", "HSK-006/second-settings"]


@contextmanager
def model_worker(*arguments: str) -> Iterator[str]:
    """Run the model worker as a process and yield its address."""
    with subprocess.Popen(
        [sys.executable, str(MODEL), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["tcp"]
        finally:
            process.kill()


def judge(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.splitlines()[-1]


def test_a_conformant_worker_exits_0_with_all_reports(tmp_path: Path) -> None:
    files = [tmp_path / "run.json", tmp_path / "run.xml"]
    with model_worker() as address:
        done = judge(
            *("check", *FAST, "--target", address, "--strict", "--seed", "5"),
            *("--json", str(files[0]), "--junit", str(files[1])),
        )
    assert done.returncode == 0, done.stdout
    first = done.stdout.splitlines()[0]
    assert first == f"judging tcp://{address}"
    assert "seed 5" in done.stdout
    assert last_line(done) == (
        "selected 5 / ran 5 / passed 5 / failed 0 / warnings 0 / not applicable 0 / inconclusive 0"
    )
    document = json.loads(files[0].read_text())
    assert document["complete"] is True
    assert document["address"] == address
    assert len(ET.parse(files[1]).getroot().findall(".//testcase")) == 5


def test_a_wrong_worker_exits_1_and_is_explained() -> None:
    with model_worker("--flaw", "hsk-accepts-second-settings") as address:
        done = judge("check", *FAST, "--target", address)
        lines = done.stdout.splitlines()
        command = lines[lines.index("  run it again") + 1]
        pasted = subprocess.run(
            command, shell=True, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert "FAIL HSK-006/second-settings" in done.stdout
    assert ">>>" in done.stdout
    assert f"check HSK-006/second-settings --target {address} --seed" in command
    assert pasted.returncode == 1
    assert "FAIL HSK-006/second-settings" in pasted.stdout
    assert pasted.stdout.splitlines()[-1].startswith("selected 1 / ran 1 / passed 0 / failed 1 /")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["check", "HSK-003/offers-1-to-2"], "or HSK-003/offers-1-to-1 or"),
        (["check", "--target", "host"], "the port is missing"),
        (["check", "--target", "https://h:1"], "the scheme 'https' is not supported"),
        (["check", "--callback-advertise", "my.host:1"], "use ADDRESS or ADDRESS:PORT"),
        (["check", "--callback-bind", "127.0.0.1:65000"], "the first is at most 64535"),
        (["check", "--path", "udp"], "there is no path 'udp'"),
        (["check", "--area", "ABC"], "there is no area 'ABC'"),
        (["check", "-k", "a and"], "a word is missing"),
        (["check", "--timeout", "soon"], "is not a number of seconds"),
        (["check", "--jobs", "0"], "is not a number from 1"),
        (["check", "--no-such-option"], "unrecognized arguments"),
        (["show", "HSK-999"], "there is no case 'HSK-999'"),
        ([], "COMMAND"),
    ],
)
def test_wrong_usage_exits_2(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(arguments)
    except SystemExit as exit_:
        code = int(str(exit_.code))
    assert code == 2
    assert text in capsys.readouterr().err


def test_no_worker_there_exits_3(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    target = f"127.0.0.1:{closed_port()}"
    done = judge("check", "HSK-003", "--target", target, "--json", str(path))
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    document = json.loads(path.read_text())
    assert document["trouble"] in done.stderr
    assert document["complete"] is False
    with FakePeer(lambda sock: sock.sendall(b"HTTP/1.0 400 no\r\n\r\n")) as peer:
        done = judge("check", "HSK-003", "--target", str(peer.address))
    assert done.returncode == 3
    assert "an HTTP server listens at" in done.stderr


def test_a_report_that_cannot_be_written_exits_4(tmp_path: Path) -> None:
    with model_worker() as address:
        done = judge("check", "HSK-003", "--target", address, "--json", str(tmp_path))
        assert done.returncode == 4
        assert "cannot be written" in done.stderr
        if Path("/dev/full").exists():
            done = judge("check", "HSK-003", "--target", address, "--junit", "/dev/full")
            assert done.returncode == 4
            assert "passed 4" in done.stdout


def test_several_targets_are_judged_in_turn_and_the_worst_counts(tmp_path: Path) -> None:
    path, summary = tmp_path / "run.json", tmp_path / "summary.md"
    with (
        model_worker() as good,
        model_worker("--flaw", "hsk-accepts-second-settings") as bad,
    ):
        done = judge(
            *("check", *FAST, "--target", good, "--target", bad, "--json", str(path)),
            env={"GITHUB_STEP_SUMMARY": str(summary)},
        )
    assert done.returncode == 1
    runs = json.loads(path.read_text())["runs"]
    assert [run["target"] for run in runs] == [good, bad]
    assert [run["summary"]["failed"] for run in runs] == [0, 1]
    assert done.stdout.splitlines()[-2:] == [
        f"{good:<{len(bad)}}  selected 5 / ran 5 / passed 5 / failed 0 / warnings 0"
        " / not applicable 0 / inconclusive 0",
        f"{bad:<{len(good)}}  selected 5 / ran 5 / passed 4 / failed 1 / warnings 0"
        " / not applicable 0 / inconclusive 0",
    ]
    assert summary.read_text().count("## WMX/1 conformance of") == 2


def test_a_target_that_is_not_there_is_worse_than_one_that_is_wrong() -> None:
    gone = f"127.0.0.1:{closed_port()}"
    with model_worker("--flaw", "hsk-accepts-second-settings") as bad:
        done = judge("check", *FAST, "--target", gone, "--target", bad)
    assert done.returncode == 3
    assert "failed 1" in last_line(done)


def test_a_killed_run_has_its_report(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with (
        model_worker("--handshake-timeout-ms", "15000") as address,
        subprocess.Popen(
            [*COMMAND, "check", "HSK-003", "HSK-008", "--target", address, "--jsonl", str(path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process,
    ):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if path.exists() and path.read_text().count('"verdict"') >= 4:
                break
            time.sleep(0.02)
        process.kill()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["run", *["result"] * 4]


def test_nothing_selected_exits_5() -> None:
    for arguments in (["check", "-k", "no-such-word"], ["check", "XYZ-*"], ["list", "XYZ-*"]):
        assert judge(*arguments).returncode == 5


@pytest.mark.parametrize("signals", [1, 2])
def test_an_interrupt_exits_130_with_a_partial_report(tmp_path: Path, signals: int) -> None:
    path = tmp_path / "run.json"
    with (
        model_worker("--handshake-timeout-ms", "15000") as address,
        subprocess.Popen(
            [*COMMAND, "check", "HSK-003", "HSK-008", "--target", address, "--json", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if path.exists() and path.read_text().count('"verdict"') >= 4:
                break
            time.sleep(0.02)
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert out.splitlines()[-1].startswith("selected 9 / ran 4 / passed 4")
    document = json.loads(path.read_text())
    assert document["complete"] is False
    assert len(document["results"]) == 4


def test_the_bundled_worker_is_started_and_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, str(MODEL)]
    monkeypatch.setattr("muxwire_conformance.target.default_command", lambda: command)
    assert main(["check", "HSK-003/offers-1-to-1"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "the bundled worker" in out[0]
    assert out[-1].startswith("selected 1 / ran 1 / passed 1")


_JUDGE_ITS_OWN_MODEL = """
import sys
from muxwire_conformance import target
from muxwire_conformance.cli import main

target.default_command = lambda: [sys.executable, sys.argv[1], "--exit-with-stdin"]
main(["check", "HSK-008"])
"""


def test_a_judge_that_is_killed_leaves_no_worker_behind() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _JUDGE_ITS_OWN_MODEL, str(MODEL)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        host, port = process.stdout.readline().split(": ")[0].split()[1].rsplit(":", 1)
        process.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, int(port)), 5).close()
        except OSError:
            return
        time.sleep(0.02)
    pytest.fail("the worker still listens")


def test_the_bundled_worker_ends_with_its_standard_input() -> None:
    assert default_command()[-1] == "--exit-with-stdin"


def test_the_target_may_come_from_the_environment() -> None:
    with model_worker() as address:
        done = judge("check", "HSK-003/offers-1-to-1", "-q", env={"MUXWIRE_TARGET": address})
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 3


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    with model_worker() as address:
        command = f"{sys.executable} -m muxwire_conformance check HSK-003 -v --target {address}"
        done = subprocess.run(
            f"{command} | head -1",
            shell=True,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.stdout.startswith("judging")
    assert done.stderr == ""


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--area", "HSK", "--level", "must"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == f"{len(lines) - 1} cases"
    assert all(line.startswith("HSK-") for line in lines[:-1])
    assert main(["check", "--list", "HSK-003"]) == 0
    assert "HSK-003/offers-1-to-200" in capsys.readouterr().out
    assert main(["show", "HSK-007/ack-with-payload"]) == 0
    out = capsys.readouterr().out
    assert "rule    HSK-007 MUST (01-setup.md:" in out
    assert "checks  goaway, end" in out
    assert main(["show", "hsk-001"]) == 0
    assert "HSK-001/client-speaks-first" in capsys.readouterr().out
    assert main(["show", "SEC-003"]) == 0
    assert "no case cites it" in capsys.readouterr().out
    assert main(["list", "--role", "client", "HSK-001/client-speaks-first"]) == 0
    assert capsys.readouterr().out.endswith("1 cases\n")


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["check", "--help"]):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        out = capsys.readouterr().out
        assert "examples:" in out
        assert "exit codes:" in out


def test_every_case_is_well_made() -> None:
    cases = load_cases()
    assert cases
    for one in cases.values():
        assert one.title, one.id
        assert one.title.endswith("."), one.id
        for requirement in one.requirements:
            assert rule(requirement).known, f"{one.id} cites {requirement}"


def test_malformed_declarations_are_refused() -> None:
    async def body(_ctx: Context) -> None:
        """Do nothing."""

    good = {"checks": ["a"]}
    for id, options in {
        "HSK-3/x": good,
        "HSK-003/Upper": good,
        "HSK-003/two--hyphens": good,
        "HSK-003/no-checks": {"checks": []},
        "HSK-003/bad-check": {"checks": ["A b"]},
        "HSK-003/not-cited": {"checks": ["a"], "requirements": ["HSK-004"]},
        "HSK-003/offers-1-to-1": good,
    }.items():
        load_cases()
        with pytest.raises(ValueError, match="HSK"):
            case(id, **options)(body)  # type: ignore[arg-type]
    twinned = {"HSK-003/x1": "HSK-003/gone", "HSK-003/x2": "HSK-002/http-request"}
    for id, twin in twinned.items():
        case(id, checks=["a"], twin=twin)(body)
        with pytest.raises(ValueError, match="its twin"):
            load_cases()
        del module.CASES[id]
