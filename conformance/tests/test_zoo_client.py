"""Drivers that wrap no client, or one that does nothing right, against the whole judge.

Whatever the program is: the run ends in bounded time with the right exit code and without a
traceback, names the fault, and calls nothing that a client has to do a pass.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from muxwire_conformance.case import load_cases
from muxwire_conformance.cli import main
from muxwire_conformance.client_mode import driver as driver_module
from muxwire_conformance.verdict import ExitCode
from zoo_drivers import IMPOSTORS

MOST_TIME = 2.0
SAMPLE = 4  # one case in so many, of every area
BOUND = 120.0
PROGRAM = Path(__file__).parent / "zoo_drivers.py"


@dataclass(frozen=True, slots=True)
class Run:
    """What a whole run of the judge left behind."""

    code: int
    out: str
    err: str
    report: dict[str, Any]

    def ids(self, verdict: str) -> list[str]:
        return [one["id"] for one in self.report["results"] if one["verdict"] == verdict]

    @property
    def reasons(self) -> str:
        return "\n".join(one.get("reason", "") for one in self.report["results"])


@pytest.fixture
def judge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Run]:
    """Run cases against an impostor in this process, impatiently."""
    monkeypatch.setattr(driver_module, "READY_TIME", 1.5)
    monkeypatch.setattr(driver_module, "EXIT_TIME", 0.5)
    path = tmp_path / "run.json"

    def run(name: str, *arguments: str, sound_at_first: bool = False) -> Run:
        memory = [str(tmp_path / "memory")] if sound_at_first else []
        command = shlex.join([sys.executable, str(PROGRAM), name, *memory, "{host}:{port}"])
        started = time.monotonic()
        code = main(
            [
                *("check-client", "--client-cmd", command, "--seed", "1", "--timeout", "0.05"),
                *("--jobs", "8", "--max-time", str(MOST_TIME), "--json", str(path), *arguments),
            ]
        )
        seconds = time.monotonic() - started
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        assert seconds < BOUND
        report = json.loads(path.read_text())
        assert report["complete"] is (code != ExitCode.UNREACHABLE)
        return Run(code=code, out=said.out, err=said.err, report=report)

    return run


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("mute", "no ready event"),
        ("hangs", "no ready event"),
        ("exits", "an exit with status 3 before closed"),
        ("babbles", "no JSON"),
        ("binary", "no JSON"),
        ("crashes-on-the-first-operation", "an exit with status 7 before closed"),
        ("makes-up-requests", "never requested"),
        ("does-nothing", "a connection"),
        ("ends-everything", "a connection"),
        ("connects-and-closes", "preface"),
        ("speaks-http", "preface"),
        ("random-octets", "preface"),
        ("preface-and-silence", "SETTINGS"),
    ],
)
def test_what_is_no_driver_is_not_judged(name: str, fault: str, judge: Callable[..., Run]) -> None:
    run = judge(name)
    assert run.code == ExitCode.UNREACHABLE, run.out + run.err
    assert run.report["results"] == []
    assert fault in run.err


@pytest.mark.parametrize("name", IMPOSTORS)
def test_an_impostor_passes_nothing(name: str, judge: Callable[..., Run]) -> None:
    library = load_cases("client")
    positive = [id for id, one in library.items() if not one.negative][::SAMPLE]
    run = judge(name, *positive, sound_at_first=True)
    assert run.code == ExitCode.NOT_CONFORMANT, run.out + run.err
    assert run.err == ""
    assert [id for id in run.ids("PASS") if library[id].level.startswith("MUST")] == []
    assert run.ids("ERROR") == []
    assert run.report["summary"]["selected"] >= len(positive)


def test_a_client_that_says_yes_to_everything_passes_no_negative_case(
    judge: Callable[..., Run],
) -> None:
    library = load_cases("client")
    negative = [id for id, one in library.items() if one.negative][::SAMPLE]
    run = judge("ends-everything", *negative, sound_at_first=True)
    assert run.code == ExitCode.NOT_CONFORMANT
    assert run.ids("PASS") == run.ids("ERROR") == []


def test_a_driver_that_dies_on_the_way_is_at_fault_and_not_its_client(
    judge: Callable[..., Run],
) -> None:
    run = judge("crashes-on-the-first-operation", "FRM-002", sound_at_first=True)
    assert run.code == ExitCode.NOT_CONFORMANT
    assert run.ids("FAIL") == run.ids("PASS") == []
    assert "an exit with status 7 before closed" in run.reasons
