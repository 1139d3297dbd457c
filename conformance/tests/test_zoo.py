"""Peers that are no worker, or only pretend to be one, against the whole judge.

Whatever listens there: the run ends in bounded time with the right exit code and without a
traceback, and nothing that a worker has to do is called a pass.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from engine_fakes import FakePeer, Script, read_exactly, reset
from muxwire_conformance import preflight as preflight_module
from muxwire_conformance import session as session_module
from muxwire_conformance import wire
from muxwire_conformance.case import load_cases
from muxwire_conformance.cli import main
from muxwire_conformance.verdict import ExitCode

MOST_TIME = 3.0
BOUND = 120.0
HERE = Path(__file__).parent
SETUP = wire.preface() + wire.settings() + wire.settings_ack()


@dataclass(frozen=True, slots=True)
class Run:
    """What a whole run of the judge left behind."""

    code: int
    out: str
    err: str
    seconds: float
    report: dict[str, Any]

    def ids(self, verdict: str) -> list[str]:
        return [one["id"] for one in self.report["results"] if one["verdict"] == verdict]


@pytest.fixture
def judge(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Run]:
    """Run all cases in this process, impatiently."""
    monkeypatch.setattr(preflight_module, "PROBE_TIME", 0.3)
    monkeypatch.setattr(session_module, "LIVENESS_TIME", 0.5)
    path, junit = tmp_path / "run.json", tmp_path / "run.xml"

    def run(target: object, *arguments: str) -> Run:
        started = time.monotonic()
        code = main(
            [
                *("check", "--target", str(target), "--seed", "1", "--timeout", "0.05"),
                *("--jobs", "64", "--max-time", str(MOST_TIME)),
                *("--json", str(path), "--junit", str(junit), *arguments),
            ]
        )
        seconds = time.monotonic() - started
        said = capsys.readouterr()
        assert "Traceback" not in said.out + said.err
        assert seconds < BOUND
        report = json.loads(path.read_text())
        assert report["complete"] is (code != ExitCode.UNREACHABLE)
        assert report.get("trouble", "") in said.err
        assert ET.parse(junit).getroot().get("tests") == str(len(report["results"]))
        return Run(code=code, out=said.out, err=said.err, seconds=seconds, report=report)

    return run


# -- not a worker at all -------------------------------------------------------------------------


def says(data: bytes) -> Script:
    """Send some octets to everybody, and wait for the end."""

    def script(sock: socket.socket) -> None:
        sock.sendall(data)
        swallow(sock)

    return script


def swallow(sock: socket.socket) -> None:
    while sock.recv(65_536):
        pass


def http_server(sock: socket.socket) -> None:
    request = b""
    while b"\r\n\r\n" not in request:
        more = sock.recv(4_096)
        if not more:
            return
        request += more
    sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def tls_server(sock: socket.socket) -> None:
    first = sock.recv(4_096)
    if first:
        hello = (
            b"\x16\x03\x03\x00\x02\x02\x28" if first[:1] == b"\x16" else b"\x15\x03\x03\0\2\2\x0a"
        )
        sock.sendall(hello)


def drip(sock: socket.socket) -> None:
    for octet in wire.preface()[:5]:
        sock.sendall(bytes([octet]))
        threading.Event().wait(0.05)
    swallow(sock)


NOT_A_WORKER: dict[str, tuple[Script, str]] = {
    "closes at once": (lambda sock: sock.close(), "without a byte"),
    "black hole": (swallow, "answers nothing to a WMX preface"),
    "reset": (reset, "resets the connection"),
    "HTTP server": (http_server, "an HTTP server listens"),
    "TLS server": (tls_server, "looks like TLS"),
    "random octets": (says(random.Random(7).randbytes(50_000)), "something else than"),
    "zeros": (says(bytes(1_000_000)), "something else than"),
    "SSH": (says(b"SSH-2.0-OpenSSH_9.9\r\n"), "it says 'SSH-2.0-OpenSSH_9.9"),
    "dribbles a preface and stops": (drip, "something else than"),
}


@pytest.mark.parametrize("name", NOT_A_WORKER)
def test_what_is_no_worker_is_refused_in_one_sentence(name: str, judge: Callable[..., Run]) -> None:
    script, text = NOT_A_WORKER[name]
    with FakePeer(script) as peer:
        run = judge(peer.address)
    assert run.code == ExitCode.UNREACHABLE
    assert run.err.startswith("muxwire-conformance: ")
    assert run.err.count("\n") == 1
    assert text in run.err
    assert run.report["results"] == []


# -- pretending to be one ------------------------------------------------------------------------


def echoes_octets(sock: socket.socket) -> None:
    while data := sock.recv(65_536):
        sock.sendall(data)


def answers_all(reply: Callable[[bytes, bytes], bytes]) -> Script:
    """Complete the set-up, then answer each frame with what ``reply`` makes of it."""

    def script(sock: socket.socket) -> None:
        sock.sendall(SETUP)
        read_exactly(sock, wire.PREFACE_SIZE)
        while len(head := read_exactly(sock, wire.HEADER_SIZE)) == wire.HEADER_SIZE:
            payload = read_exactly(sock, min(1 << 20, int.from_bytes(head[8:16], "big")))
            if answer := reply(head, payload):
                sock.sendall(answer)

    return script


def goaway_to_all(head: bytes, _payload: bytes) -> bytes:
    refuses = head[1] == wire.REQUEST or head[3] not in (wire.SETTINGS_SUBTYPE, wire.SETTINGS_ACK)
    return wire.goaway("ENHANCE_YOUR_CALM") if refuses else b""


def success_to_all(head: bytes, payload: bytes) -> bytes:
    if head[1] == wire.REQUEST and head[2] & wire.META:
        return wire.response(head[16:32], 0, b"{}", end=True)
    return wire.pong(payload) if head[1] == wire.HEARTBEAT and head[3] == wire.PING else b""


def wrong_ids(head: bytes, payload: bytes) -> bytes:
    if head[1] == wire.REQUEST:
        return wire.response(bytes(15) + b"\1", 0, b"{}", end=True)
    return wire.pong(payload[::-1]) if head[1] == wire.HEARTBEAT else b""


def endless_frame(sock: socket.socket) -> None:
    sock.sendall(SETUP + wire.response(bytes(15) + b"\1", length=1 << 24))
    with contextlib.suppress(OSError):
        for _ in range(64):
            sock.sendall(bytes(1 << 18))
    swallow(sock)


def dribbles(sock: socket.socket) -> None:
    sock.sendall(wire.preface())
    for octet in SETUP[wire.PREFACE_SIZE :]:
        sock.sendall(bytes([octet]))
        threading.Event().wait(0.05)


def resets_after_the_set_up(sock: socket.socket) -> None:
    read_exactly(sock, wire.PREFACE_SIZE)
    sock.sendall(SETUP)
    sock.recv(65_536)
    sock.recv(65_536)  # the judge has the set-up, and answers it
    reset(sock)


def goaway_at_once(sock: socket.socket) -> None:
    read_exactly(sock, wire.PREFACE_SIZE)
    sock.sendall(wire.preface() + wire.settings() + wire.goaway("INTERNAL_ERROR"))


PRETENDERS: dict[str, Script] = {
    "preface only": says(wire.preface()),
    "set-up only": says(SETUP),
    "set-up and reset": resets_after_the_set_up,
    "echoes octets": echoes_octets,
    "GOAWAY at once": goaway_at_once,
    "GOAWAY to all": answers_all(goaway_to_all),
    "wrong ids and PONGs": answers_all(wrong_ids),
    "huge length": says(SETUP + wire.pong(length=1 << 60)),
    "endless frame": endless_frame,
    "random behind the set-up": says(SETUP + random.Random(8).randbytes(100_000)),
    "2,000 PINGs": says(SETUP + wire.ping() * 2_000),
    "dribbler": dribbles,
}
"""None of these ever does what a worker does, so nothing may pass."""


@pytest.mark.parametrize("name", PRETENDERS)
def test_a_peer_that_does_nothing_right_passes_nothing(
    name: str, judge: Callable[..., Run]
) -> None:
    positive = [id for id, one in load_cases().items() if not one.negative]
    with FakePeer(PRETENDERS[name]) as peer:
        run = judge(peer.address, *positive)
    assert run.code == ExitCode.NOT_CONFORMANT, run.out + run.err
    assert run.err == ""
    musts = [id for id in run.ids("PASS") if load_cases()[id].level.startswith("MUST")]
    assert musts == []
    assert run.ids("ERROR") == []
    assert run.report["summary"]["selected"] >= len(positive)
    assert run.out.splitlines()[-1].startswith(f"selected {run.report['summary']['selected']} / ")


def test_a_peer_that_says_yes_to_everything_passes_no_negative_case(
    judge: Callable[..., Run],
) -> None:
    negative = [id for id, one in load_cases().items() if one.negative]
    with FakePeer(answers_all(success_to_all)) as peer:
        run = judge(peer.address, *negative)
    assert run.code == ExitCode.NOT_CONFORMANT
    assert run.ids("ERROR") == []
    assert run.ids("FAIL")
    # Behind a KILL silence is right when the terminal may have been sent, and it was.
    assert [id for id in run.ids("PASS") if not id.startswith("STM-001/killed-")] == []


# -- dying ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def mortal_worker(report: Path, results: int) -> Iterator[str]:
    """Run the model worker as a process that is killed when so many cases have passed."""
    over = threading.Event()
    command = [sys.executable, str(HERE / "model_worker.py"), "--exit-with-stdin"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None

        def watch() -> None:
            while not over.wait(0.01):
                text = report.read_text() if report.exists() else ""
                if '"results"' in text and text.count('"PASS"') >= results:
                    process.kill()
                    return

        thread = threading.Thread(target=watch)
        try:
            address = json.loads(process.stdout.readline())["tcp"]
            thread.start()
            yield address
        finally:
            over.set()
            thread.join(10)
            process.kill()


@pytest.mark.parametrize("results", [0, 50])
def test_a_worker_that_dies_on_the_way_ends_the_run(
    results: int, judge: Callable[..., Run], tmp_path: Path
) -> None:
    with mortal_worker(tmp_path / "run.json", results) as address:
        run = judge(address, "--max-time", "60", "--path", "tcp")
    assert run.code == ExitCode.NOT_CONFORMANT
    summary = run.report["summary"]
    selected = sum(one.path == "tcp" for one in load_cases().values())
    assert summary["selected"] == selected
    assert summary["inconclusive"] > selected / 2
    assert summary["passed"] >= results
    reasons = [one.get("reason", "") for one in run.report["results"]]
    assert any("the target died during" in reason for reason in reasons), set(reasons)
