"""What listens there instead of a worker: one plain sentence each, in bounded time."""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
import time
from collections.abc import Iterator

import model_worker
import pytest
from engine_fakes import FakePeer, Script, closed_port, read_exactly, reset
from muxwire_conformance import preflight as module
from muxwire_conformance import wire
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings, PreflightError, preflight
from muxwire_conformance.target import Address


@pytest.fixture(autouse=True)
def short_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE_TIME", 0.3)


def look(address: Address, *, wait: float = 0.0, timeout: float = 1.0) -> Findings:
    return asyncio.run(preflight(address, Patience(timeout), wait=wait, seed=1))


def refused(address: Address) -> str:
    started = time.monotonic()
    with pytest.raises(PreflightError) as error:
        look(address)
    assert time.monotonic() - started < 8
    text = str(error.value)
    assert "\n" not in text
    assert str(address.port) in text
    return text


@pytest.fixture
def http_address() -> Iterator[Address]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Address(host="127.0.0.1", port=server.server_address[1])
        server.shutdown()
        thread.join()


def test_a_closed_port() -> None:
    text = refused(Address(host="127.0.0.1", port=closed_port()))
    assert "nothing listens at" in text


def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(PreflightError, match="cannot be resolved"):
        look(Address(host="no.such.name.invalid", port=80))


def test_a_real_http_server(http_address: Address) -> None:
    assert "an HTTP server listens at" in refused(http_address)


def speaks(first: bytes) -> Script:
    return lambda sock: sock.sendall(first)


def answers(answer: bytes, *, to: bytes) -> Script:
    """Answer only if the request begins so; otherwise say nothing until the peer is gone."""

    def script(sock: socket.socket) -> None:
        if sock.recv(65_536).startswith(to):
            sock.sendall(answer)
        while sock.recv(65_536):
            pass

    return script


def silent(sock: socket.socket) -> None:
    while sock.recv(65_536):
        pass


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (speaks(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "an HTTP server"),
        (answers(b"HTTP/1.1 200 OK\r\n\r\n", to=b"GET "), "an HTTP server"),
        (speaks(bytes.fromhex("15030300020228")), "looks like TLS"),
        (answers(bytes.fromhex("16030300020228"), to=b"\x16\x03"), "looks like TLS"),
        (speaks(b"SSH-2.0-OpenSSH_9\r\n"), "it says 'SSH-2.0-OpenSSH_9"),
        (speaks(b"\x00\x1b[31m\xff"), "something else than a WMX worker"),
        (silent, "answers nothing to a WMX preface"),
        (lambda sock: sock.recv(100), "without a byte"),
        (reset, "resets the connection without a byte"),
        (speaks(wire.preface(ver_hi=3, ver_lo=2)), "not version 1; it offers 2..3"),
        (
            speaks(wire.preface() + wire.goaway("CONNECTION_LIMIT")),
            "is at its connection limit",
        ),
        (lambda sock: sock.sendall(read_exactly(sock, 8)[:3]), "something else"),
    ],
)
def test_something_else(script: Script, text: str) -> None:
    with FakePeer(script) as peer:
        assert text in refused(peer.address)


def test_waiting_for_the_worker_to_come_up() -> None:
    port = closed_port()

    async def main() -> Findings:
        async def later() -> model_worker.Server:
            await asyncio.sleep(0.2)
            return await model_worker.start(port=port)

        coming = asyncio.create_task(later())
        address = Address(host="127.0.0.1", port=port)
        found = await preflight(address, Patience(), wait=10, seed=1)
        await (await coming).close()
        return found

    found = asyncio.run(main())
    assert found.works
    assert found.info["name"]
    assert found.features == {"conformance", "tcp", "callhome"}
    assert set(found.paths) == {"tcp", "callhome"}
    assert found.closed == {}
    assert found.fence_seconds > 0
    assert found.settings["IDLE_TIMEOUT_MS"] == 3_000


def test_waiting_has_an_end() -> None:
    started = time.monotonic()
    with pytest.raises(PreflightError, match=r"after waiting 0\.3 s"):
        look(Address(host="127.0.0.1", port=closed_port()), wait=0.3)
    assert time.monotonic() - started < 5


def test_a_worker_with_a_broken_set_up_is_judged_nevertheless() -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(wire.preface())
        silent(sock)

    with FakePeer(script) as peer:
        found = look(peer.address, timeout=0.2)
    assert not found.works
    assert not found.asked
    assert "the set-up does not complete" in found.notes[0]


def refusing(code: str) -> Script:
    """Act as a worker that answers every request with an error and every PING."""

    def script(sock: socket.socket) -> None:
        sock.sendall(wire.preface() + wire.settings() + wire.settings_ack())
        buffer = b""
        position = wire.PREFACE_SIZE
        while more := sock.recv(65_536):
            buffer += more
            while len(buffer) >= position + wire.HEADER_SIZE:
                length = int.from_bytes(buffer[position + 8 : position + 16], "big")
                if len(buffer) < position + wire.HEADER_SIZE + length:
                    break
                frame = buffer[position : position + wire.HEADER_SIZE + length]
                position += len(frame)
                if frame[1] == wire.REQUEST:
                    body = wire.code(code).to_bytes(4, "big") + b"\0\1" + bytes(6)
                    sock.sendall(wire.response(frame[16:32], 0, body, flags=9))
                elif frame[1] == wire.HEARTBEAT:
                    sock.sendall(wire.pong(frame[32:]))

    return script


def test_a_worker_without_conformance_subjects_is_asked_and_said() -> None:
    with FakePeer(refusing("NOT_FOUND")) as peer:
        found = look(peer.address)
    assert found.works
    assert found.asked
    assert found.info == {}
    assert found.features == frozenset()
    assert "no conformance subjects" in found.notes[0]


def test_a_wrong_answer_to_info_does_not_hide_the_subjects() -> None:
    with FakePeer(refusing("OVERLOADED")) as peer:
        found = look(peer.address)
    assert found.works
    assert found.asked
    assert found.info == {}
    assert found.features == {"conformance"}
    assert "answers, but wrongly" in found.notes[0]
