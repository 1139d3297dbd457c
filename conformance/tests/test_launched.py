"""A target that the judge starts: on a free port, seen when it dies, and started again."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from pathlib import Path

import pytest
from engine_fakes import FakePeer, make_case, registered
from muxwire_conformance import launched, wire
from muxwire_conformance.case import SAME, load_cases
from muxwire_conformance.cli import main
from muxwire_conformance.context import Context
from muxwire_conformance.launched import Launched, read_command
from muxwire_conformance.target import StartError, TargetError
from muxwire_conformance.verdict import ExitCode
from test_session import passes

HERE = Path(__file__).parent
MODEL = f"{shlex.quote(sys.executable)} {HERE / 'model_worker.py'} --tcp {{host}}:{{port}}"
LISTENS = (
    "import socket, sys\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
    "while True: s.accept()[0].close()"
)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code, "{port}"]


@pytest.mark.parametrize(
    ("template", "text"), [("server --port 9", "does not occur"), ("server '{port}", "closing")]
)
def test_a_command_without_a_port_is_refused(
    template: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TargetError, match=text):
        read_command(template)
    assert main(["check", "--target-cmd", template]) == ExitCode.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_one_of_target_and_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--target", "h:1", "--target-cmd", "x {port}"]) == ExitCode.USAGE
    assert "not both" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["/no/such/program", "{port}"], "/no/such/program cannot be started: No such file"),
        (python("import sys; sys.exit('no such option')"), "status 1: no such option"),
        (python("import time; time.sleep(60)"), "does not listen at 127.0.0.1:"),
    ],
)
def test_a_target_that_does_not_start_is_one_line(words: list[str], text: str) -> None:
    async def run() -> None:
        await Launched(words, seconds=1.0).start()

    with pytest.raises(StartError, match=text) as caught:
        asyncio.run(run())
    assert "\n" not in str(caught.value)


def test_a_port_that_is_taken_is_never_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launched, "STOP_TIME", 0.2)
    with FakePeer(lambda _sock: None) as peer:
        monkeypatch.setattr(launched, "_free_port", lambda: peer.port)
        with pytest.raises(StartError, match="something else listens"):
            asyncio.run(Launched(python(LISTENS)).start())


def test_the_end_of_the_judge_ends_the_whole_session_of_the_target() -> None:
    code = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {LISTENS!r}, sys.argv[1]])"
    )

    async def run() -> bool:
        target = Launched(python(code))
        await target.start()
        await target.stop()
        return await target._listens()

    assert asyncio.run(run()) is False


def test_only_a_dead_target_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launched, "MOST_RESTARTS", 1)

    async def run() -> list[bool]:
        target = Launched(python(LISTENS))
        await target.start()
        try:
            first = target._process
            assert first is not None
            done = [await target.revive(), target._process is first]
            for _ in range(2):
                assert target._process is not None
                target._process.kill()
                await target._process.wait()
                assert "status -9" in target.obituary()
                done.append(await target.revive())
            return done
        finally:
            await target.stop()

    assert asyncio.run(run()) == [True, True, True, False]


async def crashes(ctx: Context) -> None:
    conn = await ctx.ready()
    conn.violate(wire.ping(marker=0xF6), instead_of=wire.ping())
    if not ctx.twin_run:
        await ctx.connect()
        asyncio.get_running_loop().call_soon(kill)
    await conn.expect_connection_error("PROTOCOL_ERROR")


def kill() -> None:
    process = RUNNING[-1]._process
    assert process is not None
    process.kill()


RUNNING: list[Launched] = []


def test_a_crash_is_charged_to_its_case_and_the_others_still_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Launched.start

    async def noting(self: Launched) -> None:
        RUNNING.append(self)
        await real(self)

    monkeypatch.setattr(Launched, "start", noting)
    load_cases()
    killer = make_case(crashes, "FRM-002/a-crash", checks=("goaway", "end"), twin=SAME)
    later = [make_case(passes, f"FRM-002/later-{n}") for n in range(3)]
    path = tmp_path / "run.json"
    words = ["check", "FRM-002/a-crash", *(one.id for one in later), "--target-cmd", MODEL]
    with registered(killer, *later):
        code = main([*words, "--jobs", "1", "--confirm", "0", "--json", str(path)])
    out = capsys.readouterr().out
    assert code == ExitCode.NOT_CONFORMANT
    results = {one["id"]: one for one in json.loads(path.read_text())["results"]}
    assert results["FRM-002/a-crash"]["verdict"] == "FAIL"
    assert "the target ended with status -9" in results["FRM-002/a-crash"]["reason"]
    assert "--target-cmd" in results["FRM-002/a-crash"]["rerun"]
    assert {results[one.id]["verdict"] for one in later} == {"PASS"}, out
