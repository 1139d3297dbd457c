"""The command line: what it prints, and how it exits."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from muxwire_spec import generated
from muxwire_spec.__main__ import main

ACK = "f703000200000000" + "00" * 24
BAD = "f703000200000001" + "00" * 24
Output = pytest.CaptureFixture[str]


class Stdin:
    def __init__(self, octets: bytes) -> None:
        self.buffer = io.BytesIO(octets)


class TestHexdump:
    @pytest.mark.parametrize(
        "source", [ACK, ACK.upper(), " ".join(ACK[i : i + 2] for i in range(0, 64, 2))]
    )
    def test_hex(self, source: str, capsys: Output) -> None:
        assert main(["hexdump", source]) == 0
        assert "0x02 SETTINGS_ACK" in capsys.readouterr().out

    def test_a_fault_gives_1(self, capsys: Output) -> None:
        assert main(["hexdump", BAD]) == 1
        assert "^^ FRM-007 PROTOCOL_ERROR" in capsys.readouterr().out

    def test_call_home(self, capsys: Output) -> None:
        hello = "f703002000000000" + "00" * 7 + "10" + "01" * 16 + "02" * 16
        assert main(["hexdump", "--receiver", "router", hello]) == 0
        assert main(["hexdump", "--callhome", hello]) == 1
        assert "TYP-001" in capsys.readouterr().out
        assert main(["hexdump", hello]) == 1
        assert "FRM-004 UNSUPPORTED_FRAME" in capsys.readouterr().out
        with pytest.raises(SystemExit):
            main(["hexdump", "--callhome", "--receiver", "client", hello])

    def test_the_receiver_decides(self, capsys: Output) -> None:
        request = "f701" + ACK[4:]
        assert main(["hexdump", "--receiver", "client", request]) == 1
        assert "^^ TYP-001" in capsys.readouterr().out

    def test_a_fault_in_the_second_frame(self, capsys: Output) -> None:
        assert main(["hexdump", ACK + BAD]) == 1
        assert capsys.readouterr().out.count("0x02 SETTINGS_ACK") == 2

    @pytest.mark.parametrize("octets", [bytes.fromhex(ACK), f"{ACK}\n".encode()])
    def test_a_file(self, octets: bytes, tmp_path: Path, capsys: Output) -> None:
        (tmp_path / "capture").write_bytes(octets)
        assert main(["hexdump", str(tmp_path / "capture")]) == 0
        assert "SETTINGS_ACK" in capsys.readouterr().out

    @pytest.mark.parametrize("octets", [bytes.fromhex(BAD), f"{BAD}\n".encode()])
    def test_standard_input(
        self, octets: bytes, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        monkeypatch.setattr(sys, "stdin", Stdin(octets))
        assert main(["hexdump", "-"]) == 1
        assert "FRM-007" in capsys.readouterr().out

    def test_empty_standard_input(self, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
        monkeypatch.setattr(sys, "stdin", Stdin(b""))
        assert main(["hexdump", "-"]) == 2
        assert capsys.readouterr().err == "hexdump: there are no octets\n"

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("no such file", "'no such file' is neither hex digits nor a file"),
            ("f70", "'f70' is neither hex digits nor a file"),
            ("", "neither hex digits nor a file"),
            ("f" * 10_001, "... is neither hex digits nor a file"),
            ("\0", "is neither hex digits nor a file"),
        ],
    )
    def test_bad_input_is_one_line_and_2(self, source: str, message: str, capsys: Output) -> None:
        assert main(["hexdump", source]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("hexdump: ")
        assert message.removeprefix("...") in err
        assert err.count("\n") == 1
        assert len(err) < 200

    def test_a_folder(self, tmp_path: Path, capsys: Output) -> None:
        assert main(["hexdump", str(tmp_path)]) == 2
        assert "directory" in capsys.readouterr().err

    def test_an_empty_file(self, tmp_path: Path, capsys: Output) -> None:
        (tmp_path / "empty").touch()
        assert main(["hexdump", str(tmp_path / "empty")]) == 2
        assert "no octets" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["hexdump"], ["check", "more"]])
def test_wrong_usage_is_2(arguments: list[str], capsys: Output) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage: python -m muxwire_spec" in capsys.readouterr().err


class TestFiles:
    def test_check_of_the_tree(self, capsys: Output) -> None:
        assert main(["check"]) == 0
        count = len(generated.expected())
        assert capsys.readouterr().out == f"{count} generated files match the specification\n"

    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        for folder in ("spec/text", *generated.OWNED):
            shutil.copytree(generated.ROOT / folder, tmp_path / folder)
        monkeypatch.setattr(generated, "ROOT", tmp_path)
        for function in (generated.check, generated.write, generated.expected):
            monkeypatch.setattr(function, "__defaults__", (tmp_path,))
        return tmp_path

    def test_drift_and_repair(self, root: Path, capsys: Output) -> None:
        (root / "spec/vectors/README.md").unlink()
        assert main(["check"]) == 1
        assert capsys.readouterr().out == (
            "spec/vectors/README.md: missing\n"
            "1 problem; `python -m muxwire_spec emit` writes the generated files\n"
        )
        assert main(["emit"]) == 0
        assert capsys.readouterr().out == "spec/vectors/README.md\n1 file changed\n"
        assert main(["check"]) == 0

    def test_a_problem_of_the_prose(self, root: Path, capsys: Output) -> None:
        chapter = root / "spec/text/20-vectors.md"
        chapter.write_text("<!-- generated: table nothing -->\n<!-- /generated -->\n", "utf-8")
        line = "spec/text/20-vectors.md:1: unknown generated region 'table nothing'\n"
        assert main(["check"]) == 1
        assert capsys.readouterr().out.startswith(line)
        assert main(["emit"]) == 1
        assert capsys.readouterr().out == f"{line}nothing was written\n"

    @pytest.mark.parametrize("command", ["check", "emit"])
    def test_without_a_checkout(
        self, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
    ) -> None:
        monkeypatch.setattr(generated, "ROOT", tmp_path)
        assert main([command]) == 2
        assert capsys.readouterr().err == f"{command}: {tmp_path} is no checkout of muxwire\n"


def test_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "muxwire_spec", "hexdump", "-"],
        input=bytes.fromhex(BAD),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert b"FRM-007" in done.stdout
    assert done.stderr == b""
