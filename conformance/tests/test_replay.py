"""A recorded failure is said again: the mutant does the same, the right worker does not."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import model_worker
import pytest
from engine_fakes import FakePeer, closed_port
from muxwire_conformance import reproducer, wire
from muxwire_conformance.cli import main
from muxwire_conformance.recorded import Record, RecordError, find, load
from muxwire_conformance.replay import prepare
from muxwire_conformance.verdict import ExitCode

FLAWS = {
    "dos-no-glitch-budget": "DOS-001/glitch-flood",
    "dos-no-ping-budget": "DOS-001/ping-flood",
    "frm-accepts-marker": "FRM-002/request",
    "frm-seq-from-one": "FRM-010/every-frame",
    "hsk-answers-bad-magic": "HSK-002/last-octet-differs",
    "hsk-sends-settings-twice": "HSK-006/every-frame",
    "hbt-wrong-pong": "HBT-002/one-ping",
    "msg-ignores-more": "MSG-001/random-splits",
    "pay-error-text-not-utf8": "PAY-007/refusals",
    "typ-two-terminals": "TYP-006/every-frame",
    "typ-data-after-terminal": "TYP-006/every-frame",
}


def with_worker(flaw: str, work: Callable[[str], Awaitable[Any]]) -> Any:
    """Run work against a model worker with a flaw, or without one."""

    async def run() -> Any:
        server = await model_worker.start(flaws=[flaw] if flaw else [])
        try:
            return await work(f"127.0.0.1:{server.port}")
        finally:
            await server.close()

    return asyncio.run(run())


async def command(*arguments: str) -> int:
    return await asyncio.to_thread(main, list(arguments))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Judge some mutants and keep the reports."""
    folder = tmp_path_factory.mktemp("reports")
    paths = {}
    for flaw, case in FLAWS.items():
        path = folder / f"{flaw}.json"

        async def judge(target: str, case: str = case, path: Path = path) -> int:
            common = ("--seed", "1", "--confirm", "0", "-q", "--timeout", "1")
            return await command("check", case, "--target", target, *common, "--json", str(path))

        with contextlib.redirect_stdout(io.StringIO()):
            assert with_worker(flaw, judge) == ExitCode.NOT_CONFORMANT
        paths[flaw] = path
    return paths


@pytest.mark.parametrize("flaw", FLAWS)
def test_the_mutant_does_it_again_and_the_model_does_not(
    flaw: str, reports: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def replay(target: str) -> Awaitable[int]:
        return command("replay", str(reports[flaw]), "--case", FLAWS[flaw], "--target", target)

    assert with_worker(flaw, replay) == 1
    assert "does the same again" in capsys.readouterr().out
    assert with_worker("", replay) == 0
    assert "differs " in capsys.readouterr().out


@pytest.mark.parametrize("flaw", ["frm-accepts-marker", "msg-ignores-more"])
def test_an_exported_script_needs_the_standard_library_only(
    flaw: str, reports: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / "repro.py"
    where = ["--case", FLAWS[flaw], "-o", str(path)]
    assert main(["export", str(reports[flaw]), *where]) == ExitCode.CONFORMANT

    async def run(target: str) -> tuple[int | None, str]:
        # -I -S: neither this checkout nor any installed package can be imported.
        words = ("-I", "-S", "-W", "error", str(path), target)
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        out, _none = await process.communicate()
        return process.returncode, out.decode()

    code, out = with_worker(flaw, run)
    assert code == 1, out
    assert FLAWS[flaw] in out
    code, out = with_worker("", run)
    assert code == 0, out
    nobody = subprocess.run(
        [sys.executable, "-I", str(path), f"127.0.0.1:{closed_port()}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert nobody.returncode == 3
    assert nobody.stderr.count("\n") == 1
    wrong = subprocess.run(
        [sys.executable, "-I", str(path), "nowhere"], capture_output=True, check=False
    )
    assert wrong.returncode == 2


def test_a_case_has_to_be_chosen_and_known(
    reports: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    both = [json.loads(path.read_text())["results"] for path in reports.values()]
    path = tmp_path / "both.json"
    path.write_text(json.dumps({"role": "worker", "results": [one for run in both for one in run]}))
    assert main(["replay", str(path)]) == ExitCode.USAGE
    assert "choose one with --case: " in capsys.readouterr().err
    assert main(["export", str(path), "--case", "FRM-001/nothing"]) == ExitCode.USAGE
    assert "no conversation of the case FRM-001/nothing" in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "missing.json")]) == ExitCode.USAGE
    assert "cannot be read" in capsys.readouterr().err


def test_what_cannot_be_said_again_is_refused(reports: dict[str, Path]) -> None:
    record = find(load(reports["frm-accepts-marker"]), None)
    record.judge = "worker"
    with pytest.raises(RecordError, match="the judge was the worker"):
        prepare(record)
    record.judge = "client"
    record.conversations[0].pieces[3].sender = "event"
    record.conversations[0].pieces[3].text = "... 7 entries not kept ..."
    with pytest.raises(RecordError, match="the middle of connection 1 was not kept"):
        prepare(record)
    with pytest.raises(RecordError, match="said nothing"):
        prepare(Record(id="X", judge="client"))


def test_a_target_with_tls_is_refused(
    reports: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flaw, case = next(iter(FLAWS.items()))
    arguments = ["replay", str(reports[flaw]), "--target", "tls://h:1"]
    assert main(arguments) == ExitCode.USAGE
    assert f"no TLS; run the case again: check {case} --target tls://h:1" in capsys.readouterr().err


def test_the_copied_constants_are_those_of_the_specification() -> None:
    assert (reproducer.MAGIC, reproducer.HEADER.format) == (wire.MAGIC, wire.layout.HEADER.format)
    for number, name in reproducer.CONTROLS.items():
        assert wire.kind_name(wire.CONTROL, number) == name
    for number, name in reproducer.HEARTBEATS.items():
        assert wire.kind_name(wire.HEARTBEAT, number) == name
    for name in ("PREFACE_SIZE", "MARKER", "END_STREAM", "MORE", "META", "ERROR"):
        assert getattr(reproducer, name) == getattr(wire, name)


def test_what_was_not_kept_goes_on_like_the_last_octet() -> None:
    step = {"do": "say", "hex": "0102", "more": 3}
    assert reproducer._octets(step) == b"\1\2\2\2\2"


# -- outcomes ------------------------------------------------------------------------------------

ID = bytes(range(16))
SENT = wire.preface() + wire.settings() + wire.open_request(ID, "conformance.echo") + wire.ping()
BEGIN = wire.preface() + wire.settings() + wire.settings_ack()


def outcome(*frames: bytes) -> dict[str, Any]:
    heard = reproducer.Heard(reproducer.Said(SENT), exact=True, patient=False)
    for at in range(0, len(octets := BEGIN + b"".join(frames)), 7):
        heard.feed(octets[at : at + 7])
    return heard.outcome()


SAME = {
    "frames of a message": (
        [wire.response(ID, 0, b"ab", end=True)],
        [wire.response(ID, 0, b"a", more=True), wire.response(ID, 1, b"b", end=True)],
    ),
    "credit, PING and extensions": (
        [wire.pong()],
        [wire.window_update(9), wire.ping(b"12345678"), wire.grease(payload=b"x"), wire.pong()],
    ),
}
DIFFERENT = {
    "a code": ([wire.goaway("PROTOCOL_ERROR")], [wire.goaway("INTERNAL_ERROR")]),
    "an answer to no PING": ([wire.pong()], [wire.pong(b"12345678")]),
    "a seq": ([wire.response(ID, 0, b"a")], [wire.response(ID, 1, b"a")]),
    "flags": ([wire.pong()], [wire.pong(flags=1)]),
    "an id": ([wire.pong()], [wire.pong(request_id=ID)]),
    "the boundary of messages": (
        [wire.response(ID, 0, b"a"), wire.response(ID, 1, b"b", end=True)],
        [wire.response(ID, 0, b"ab"), wire.response(ID, 1, b"", end=True)],
    ),
    "content": ([wire.response(ID, 0, b"a", end=True)], [wire.response(ID, 0, b"b", end=True)]),
    "an unknown request": ([], [wire.response(bytes(16), 0, b"a")]),
    "rubbish": ([], [b"rubbish"]),
    "a terminal": ([], [wire.response(ID, 0, end=True)]),
    "the size of a frame": (
        [wire.response(ID, 0, bytes(16_384))],
        [wire.response(ID, 0, bytes(16_385))],
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_what_makes_no_difference(name: str) -> None:
    was, now = SAME[name]
    assert reproducer.differences({"c": outcome(*was)}, {"c": outcome(*now)}) == []


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_makes_a_difference(name: str) -> None:
    was, now = DIFFERENT[name]
    assert reproducer.differences({"c": outcome(*was)}, {"c": outcome(*now)})


def test_a_reset_and_a_half_close_are_said_again() -> None:
    seen: list[str] = []

    def script(sock: Any) -> None:
        try:
            while sock.recv(4_096):
                pass
            seen.append("FIN")
        except ConnectionResetError:
            seen.append("RST")

    steps = [
        {"do": do, "on": label, "ms": 0, "after": 0, "hex": "ff", "more": 0}
        for label, last in (("a", "reset"), ("b", "half-close"))
        for do in ("open", "say", last)
    ]
    empty = reproducer.Heard(reproducer.Said(b""), exact=True, patient=False).outcome()
    record = {"steps": steps, "seconds": 0.0, "came": {"a": empty, "b": empty}}
    with FakePeer(script) as peer:
        came = reproducer.Replay(record, "127.0.0.1", peer.port).run()
    assert sorted(seen) == ["FIN", "RST"]
    assert came["b"]["ended"]
