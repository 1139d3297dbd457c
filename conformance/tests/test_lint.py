"""``lint``: the proxy changes nothing and sees everything, and a log says the same as the wire."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import model_worker
import pytest
from engine_fakes import FakePeer, read_exactly, reset
from muxwire_conformance import lint as lint_module
from muxwire_conformance import wire
from muxwire_conformance.case import load_cases
from muxwire_conformance.cli import main
from muxwire_conformance.lint import Findings, Listener
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import preflight
from muxwire_conformance.proxy import MOST_QUEUED, Proxy
from muxwire_conformance.session import Options, Session
from muxwire_conformance.target import Address
from muxwire_conformance.transport import EndKind, Transport
from muxwire_conformance.verdict import ExitCode, Verdict

ANY = Address(host="127.0.0.1", port=0)
ID = bytes(range(16))
SETUP = wire.preface() + wire.settings() + wire.settings_ack()


def quiet() -> Findings:
    return Findings(lambda _text: None)


def through(findings: Findings, target: Address) -> Proxy:
    return Proxy(target, lambda number, name: Listener(findings, number, name))


def test_cases_pass_through_the_proxy_as_without_it() -> None:
    library = load_cases()
    chosen = [
        one
        for id, one in library.items()
        if id.startswith(("FRM-002", "FRM-003", "CLS-002", "HSK-002", "MSG-003", "STM-005"))
    ]

    async def judge() -> tuple[dict[str, Verdict], Findings]:
        server = await model_worker.start()
        findings = quiet()
        proxy = through(findings, Address(host="127.0.0.1", port=server.port))
        address = await proxy.listen(ANY)
        patience = Patience()
        session = Session(
            address=address,
            cases=chosen,
            patience=patience,
            findings=await preflight(address, patience, wait=0, seed=1),
            options=Options(seed=1),
            on_result=lambda _result: None,
            library=library,
        )
        await session.run()
        await proxy.close()
        await server.close()
        return {result.id: result.verdict for result in session.results}, findings

    verdicts, findings = asyncio.run(judge())
    assert set(verdicts.values()) <= {Verdict.PASS, Verdict.NOT_APPLICABLE}, verdicts
    assert list(verdicts.values()).count(Verdict.PASS) > 30
    assert findings.connections > len(chosen)
    assert {side for side, _requirement in findings.breaches} == {"client"}
    assert ("client", "FRM-002") in findings.breaches
    assert findings.exit_code() is ExitCode.NOT_CONFORMANT


def test_a_side_that_does_not_read_stops_the_other() -> None:
    async def main() -> tuple[int, int]:
        with FakePeer(lambda sock: gate.wait(20) and sock.recv(1)) as peer:
            proxy = through(quiet(), peer.address)
            address = await proxy.listen(ANY)
            client = await Transport.connect("127.0.0.1", address.port, within=5)
            client.write(bytes(64 * 1024 * 1024))
            left = -1
            while client.unwritten != left:
                left = client.unwritten
                await asyncio.sleep(0.2)
            queued = max((one.unwritten for one in transports), default=0)
            gate.set()
            client.abort()
            await proxy.close()
            return left, queued

    gate = threading.Event()
    transports: list[Transport] = []
    real = Transport.__init__

    def noting(self: Transport, sock: socket.socket, *, record: bool = True) -> None:
        real(self, sock, record=record)
        if not record:
            transports.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transport, "__init__", noting)
        left, queued = asyncio.run(main())
    assert left > 32 * 1024 * 1024
    assert queued <= MOST_QUEUED + 4 * 65_536


@pytest.mark.parametrize("kind", [EndKind.FIN, EndKind.RST])
def test_an_end_is_passed_on_as_it_is(kind: EndKind) -> None:
    def script(sock: socket.socket) -> None:
        read_exactly(sock, 4)
        sock.sendall(b"last words")
        if kind is EndKind.RST:
            read_exactly(sock, 4)
            reset(sock)

    answer = b"more" if kind is EndKind.RST else b""

    async def main() -> tuple[EndKind, bytes]:
        with FakePeer(script) as peer:
            proxy = through(quiet(), peer.address)
            address = await proxy.listen(ANY)
            heard, over = bytearray(), asyncio.Event()
            client = await Transport.connect(
                "127.0.0.1",
                address.port,
                within=5,
                on_bytes=lambda data, _at: (heard.extend(data), client.write(answer))[0],
                on_end=lambda _end: over.set(),
            )
            client.write(b"ping")
            await asyncio.wait_for(over.wait(), 10)
            assert client.end is not None
            end = client.end.kind
            client.close()
            await proxy.close()
            return end, bytes(heard)

    assert asyncio.run(main()) == (kind, b"last words")


def test_a_target_that_is_not_there_resets_the_client() -> None:
    async def main() -> EndKind:
        findings = Findings(said.append, verbose=True)
        proxy = through(findings, Address(host="127.0.0.1", port=1))
        address = await proxy.listen(ANY)
        client = await Transport.connect("127.0.0.1", address.port, within=5)
        client.on_end = lambda _end: over.set()
        await asyncio.wait_for(over.wait(), 10)
        assert client.end is not None
        kind = client.end.kind
        client.close()
        await proxy.close()
        return kind

    said: list[str] = []
    over = asyncio.Event()
    assert asyncio.run(main()) is EndKind.RST
    assert any("cannot be reached: connection refused" in line for line in said)


def test_a_bug_of_the_referee_does_not_touch_the_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(lint_module.Referee, "feed", broken)
    findings = quiet()
    Listener(findings, 1, "x").octets("client", b"abc", 0.0)
    assert "ZeroDivisionError" in findings.bug
    assert findings.exit_code() is ExitCode.SUITE_ERROR


# -- the command ---------------------------------------------------------------------------------


def wrong_worker(sock: socket.socket) -> None:
    sock.sendall(SETUP)
    read_exactly(sock, len(SETUP) + wire.HEADER_SIZE + 8)
    sock.sendall(wire.response(ID, 7, b"x") + wire.pong(seq=1))
    read_exactly(sock, 1)


@pytest.fixture
def log(tmp_path: Path) -> tuple[Path, str, int]:
    """Run the command between a wrong client and a wrong worker, and end it with Ctrl-C."""
    path = tmp_path / "talk.jsonl"
    with FakePeer(wrong_worker) as peer:
        command = [sys.executable, "-m", "muxwire_conformance", "lint", "--listen", "127.0.0.1:0"]
        command += ["--target", str(peer.address), "--jsonl", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            port = int(first.split()[2].rstrip(",").rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                read_exactly(client, len(SETUP))
                client.sendall(SETUP + wire.ping(flags=0x40))
                read_exactly(client, 2 * wire.HEADER_SIZE + 9)
                client.sendall(b"x")
                assert read_exactly(client, 1) == b""
                process.send_signal(signal.SIGINT)
                out = process.stdout.read()
            code = process.wait(10)
    return path, out, code


def test_the_command_reports_both_sides_and_its_log_says_the_same(
    log: tuple[Path, str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    path, out, code = log
    assert code == ExitCode.NOT_CONFORMANT
    assert "the worker breaks RID-004 MUST" in out
    assert "the client breaks FRM-007 MUST" in out
    assert "the worker breaks FRM-007 MUST: the seq of PONG is 1, not 0" in out
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[0]["kind"] == "connection"
    summary = out[out.index("1 connections") :]
    assert main(["lint", str(path)]) == ExitCode.NOT_CONFORMANT
    again = capsys.readouterr().out
    counted = [line.rpartition("first")[0] for line in summary.splitlines()[1:]]
    assert [line for line in counted if line] == [
        line.rpartition("first")[0]
        for line in again[again.index("1 connections") :].splitlines()[1:]
        if "first" in line
    ]


def test_the_transcripts_of_a_report_are_linted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def judge() -> None:
        server = await model_worker.start(flaws=["frm-pong-with-seq"])
        await asyncio.to_thread(
            main,
            ["check", "--target", f"127.0.0.1:{server.port}", "FRM-007", "--json", str(path)],
        )
        await server.close()

    path = tmp_path / "run.json"
    asyncio.run(judge())
    capsys.readouterr()
    assert main(["lint", str(path)]) == ExitCode.NOT_CONFORMANT
    out = capsys.readouterr().out
    assert "the worker breaks FRM-007" in out
    assert "client" not in out[out.index(" connections, ") :].partition("\n")[2]


@pytest.mark.parametrize(
    "arguments",
    [[], ["--listen", "127.0.0.1:0"], ["--target", "127.0.0.1:1"], ["x.json", "--target", "h:1"]],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["lint", *arguments])
    assert stop.value.code == ExitCode.USAGE
    assert "give files, or both" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "odd"}\n{"kind": "odd"}', "\xff"])
def test_a_file_that_is_no_record(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x"
    path.write_bytes(text.encode("latin-1"))
    code = main(["lint", str(path)])
    assert code in (ExitCode.USAGE, ExitCode.NOTHING_RAN)
    assert text == "" or capsys.readouterr().err.count("\n") == 1


def test_a_worker_with_tls_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    target = "tls://127.0.0.1:1"
    assert main(["lint", "--listen", "127.0.0.1:0", "--target", target]) == ExitCode.USAGE
    assert capsys.readouterr().err == (
        "muxwire-conformance: tls://127.0.0.1:1: the proxy cannot read TLS;"
        " it needs a worker without\n"
    )


def test_a_place_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with FakePeer(lambda _sock: None) as peer:
        code = main(["lint", "--listen", str(peer.address), "--target", "127.0.0.1:1"])
    assert code == ExitCode.UNREACHABLE
    assert "in use" in capsys.readouterr().err
