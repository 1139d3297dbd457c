"""``diff`` and ``decode``: two targets side by side, and octets field by field."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import model_worker
import pytest
from engine_fakes import closed_port
from muxwire_conformance import wire
from muxwire_conformance.cli import main
from muxwire_conformance.verdict import ExitCode


@pytest.fixture
def diff(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Compare two model workers, each with its flaws."""

    def run(one: list[str], other: list[str], *words: str) -> tuple[int, str]:
        async def compare() -> int:
            servers = [await model_worker.start(flaws=flaws) for flaws in (one, other)]
            targets = [f"127.0.0.1:{server.port}" for server in servers]
            options = [word for target in targets for word in ("--target", target)]
            code = await asyncio.to_thread(main, ["diff", *words, *options, "--seed", "1"])
            for server in servers:
                await server.close()
            return code

        code = asyncio.run(compare())
        return code, capsys.readouterr().out

    return run


def test_equal_targets_do_not_differ(diff: Callable[..., tuple[int, str]]) -> None:
    code, out = diff([], [], "HSK-003", "FRM-002", "MSG-001", "STM-001")
    assert code == ExitCode.CONFORMANT, out
    assert out.endswith("seed 1: 0 differ\n")


def test_a_verdict_that_differs(diff: Callable[..., tuple[int, str]]) -> None:
    code, out = diff([], ["frm-accepts-marker"], "FRM-002/request", "FRM-003")
    assert code == ExitCode.NOT_CONFORMANT
    assert "FRM-002/request  A PASS  B FAIL" in out
    assert "FRM-003" not in out
    assert out.endswith("1 differ\n")


def test_an_answer_that_differs_where_both_pass(diff: Callable[..., tuple[int, str]]) -> None:
    # Another code is a warning of one case only; here the verdicts are equal.
    code, out = diff([], ["frm-pong-with-seq"], "HSK-003/offers-1-to-200")
    assert code == ExitCode.NOT_CONFORMANT
    assert "HSK-003/offers-1-to-200  A PASS  B PASS" in out
    assert "flags 0x00 seq 1" in out


@pytest.mark.parametrize("targets", [[], ["127.0.0.1:1"], ["127.0.0.1:1"] * 3])
def test_two_targets_are_needed(targets: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["diff", *(word for target in targets for word in ("--target", target))])
    assert stop.value.code == ExitCode.USAGE
    assert "give --target twice" in capsys.readouterr().err


def test_a_target_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    target = f"127.0.0.1:{closed_port()}"
    assert main(["diff", "--target", target, "--target", target]) == ExitCode.UNREACHABLE
    assert capsys.readouterr().err.count("\n") == 1


# -- decode --------------------------------------------------------------------------------------


def test_hex_and_files_are_decoded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    octets = wire.preface() + wire.settings([("MAX_FRAME_SIZE", 65_536)])
    assert main(["decode", octets.hex(" ", 4)]) == ExitCode.CONFORMANT
    out = capsys.readouterr().out
    assert "MAX_FRAME_SIZE" in out
    path = tmp_path / "dump.bin"
    path.write_bytes(octets)
    assert main(["decode", str(path)]) == ExitCode.CONFORMANT
    assert capsys.readouterr().out == out


def test_a_broken_rule_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", wire.kill(bytes(range(16))).hex()]) == ExitCode.CONFORMANT
    assert main(["decode", "--receiver", "client", wire.kill(bytes(range(16))).hex()]) == 1
    assert "^^ TYP-001 PROTOCOL_ERROR" in capsys.readouterr().out
    assert main(["decode", "rubbish"]) == ExitCode.USAGE
    assert capsys.readouterr().err.count("\n") == 1
