"""The model worker itself: it has to be known good before it is used to try the suite."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import model_wire as w
import model_worker
import pytest
from model_flaws import FLAWS
from model_http_flaws import HTTP_FLAWS

HERE = Path(__file__).parent
TIMEOUT = 10.0
LAUNCH = Callable[..., "Worker"]

ID_V4 = "01 90 b3 f2 7c 4e 7a 11 8f 00 01 23 45 67 89 ab"
ZEROS = "00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00"
GOLDEN = {
    name: bytes.fromhex(text)
    for name, text in {
        "V1": "f7 57 4d 58 0d 0a 1a 0a 01 01 20 00 00 00 00 00",
        "V2": "f7 03 00 01 00 00 00 00 00 00 00 00 00 00 00 1e" + ZEROS + "00 01 00 00 00 00"
        "00 01 00 00 00 07 00 00 00 00 00 00 ea 60 1a 1a 00 00 00 00 00 00 00 07",
        "V3": "f7 03 00 02 00 00 00 00 00 00 00 00 00 00 00 00" + ZEROS,
        "V4": "f7 01 05 00 00 00 00 00 00 00 00 00 00 00 00 65" + ID_V4 + "00 00 00 5f 00 00"
        "13 88 00 01 00 01 00 10 63 6f 6e 66 6f 72 6d 61 6e 63 65 2e 65 63 68 6f 0b 74"
        "72 61 63 65 70 61 72 65 6e 74 00 37 30 30 2d 30 61 66 37 36 35 31 39 31 36 63 64 34 33"
        "64 64 38 34 34 38 65 62 32 31 31 63 38 30 33 31 39 63 2d 62 37 61 64 36 62 37 31 36 39"
        "32 30 33 33 33 31 2d 30 31 68 69",
        "V5": "f7 02 00 00 00 00 00 00 00 00 00 00 00 00 00 02" + ID_V4 + "68 69",
        "V6": "f7 02 01 00 00 00 00 01 00 00 00 00 00 00 00 00" + ID_V4,
        "V7": "f7 02 09 00 00 00 00 00 00 00 00 00 00 00 00 10" + ID_V4 + "00 00 01 04 00 01"
        "00 00 00 fa 00 04 62 75 73 79",
        "V8": "f7 03 00 03 00 00 00 00 00 00 00 00 00 00 00 08" + ZEROS + "00 00 00 00 08 00 00 00",
        "V9": "f7 03 00 05 00 00 00 00 00 00 00 00 00 00 00 04" + ID_V4 + "00 00 01 00",
        "V10": "f7 04 00 01 00 00 00 00 00 00 00 00 00 00 00 08"
        + ZEROS
        + "01 02 03 04 05 06 07 08",
        "V11": "f7 03 00 06 00 00 00 00 00 00 00 00 00 00 00 17" + ZEROS + "00 00 00 00 00 00 00 00"
        "00 00 00 03 00 00 75 30 00 05 64 72 61 69 6e",
    }.items()
}


class Worker:
    """A worker in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, str(HERE / "model_worker.py"), "--exit-with-stdin", *arguments]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        assert self.process.stdout is not None
        host, port = json.loads(self.process.stdout.readline())["tcp"].rsplit(":", 1)
        self.address = (host, int(port))
        self.log = ""

    def stop(self) -> None:
        if self.process.poll() is None:
            _out, self.log = self.process.communicate(timeout=TIMEOUT)  # closes stdin
        assert self.process.returncode == 0, self.log


@pytest.fixture
def launch() -> Iterator[LAUNCH]:
    workers: list[Worker] = []

    def start(*arguments: str) -> Worker:
        workers.append(Worker(*arguments))
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Worker]:
    worker = Worker("--idle-timeout-ms", "60000")
    yield worker
    worker.stop()
    assert "Traceback" not in worker.log


class Client:
    """A raw client: sends octets, returns frames."""

    def __init__(self, worker: Worker, *, shake: bool = True, **settings: int) -> None:
        self.sock = socket.create_connection(worker.address, timeout=TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.seen: list[tuple[w.Head, bytes]] = []
        if shake:
            names = {"frame": 1, "stream": 3, "connection": 4, "message": 6, "idle": 7}
            pairs = [(names[name], value) for name, value in settings.items()]
            self.send(GOLDEN["V1"] + w.settings(pairs) + GOLDEN["V3"])
            self.shake()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, octets: bytes) -> None:
        self.sock.sendall(octets)

    def octets(self, count: int) -> bytes:
        while len(self.buffer) < count:
            piece = self.sock.recv(1 << 20)
            if not piece:
                raise EOFError
            self.buffer += piece
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def at_eof(self) -> bool:
        try:
            return self.buffer == b"" and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def frame(self) -> tuple[w.Head, bytes]:
        head = w.Head.decode(self.octets(w.HEADER_SIZE))
        assert head.marker == w.MARKER
        payload = self.octets(head.length)
        self.seen.append((head, payload))
        return head, payload

    def shake(self) -> None:
        assert self.octets(16) == GOLDEN["V1"]
        (first, _), (second, _) = self.frame(), self.frame()
        assert (first.type, first.subtype) == (w.CONTROL, w.SETTINGS)
        assert (second.type, second.subtype) == (w.CONTROL, w.SETTINGS_ACK)

    def until(self, kind: int, subtype: int = 0) -> bytes:
        while True:
            head, payload = self.frame()
            if (head.type, head.subtype) == (kind, subtype):
                return payload

    def goaway(self) -> int:
        return int.from_bytes(self.until(w.CONTROL, w.GOAWAY)[:4], "big")

    def ping(self) -> None:
        nonce = os.urandom(8)
        self.send(w.frame(w.HEARTBEAT, subtype=w.PING, payload=nonce))
        while self.until(w.HEARTBEAT, w.PONG) != nonce:
            pass

    def open(self, subject: str, body: object = b"", **more: Any) -> bytes:
        rid = os.urandom(16)
        self.send(open_frame(rid, subject, body, **more))
        return rid

    def collect(self, rid: bytes) -> tuple[list[bytes], w.Head, bytes]:
        messages: list[bytes] = []
        current, seq = b"", 0
        while True:
            head, payload = self.frame()
            if head.type != w.RESPONSE or head.rid != rid:
                continue
            assert head.seq == seq
            seq += 1
            if head.flags & w.END_STREAM:
                return messages, head, payload
            if head.flags & w.META:
                payload = payload[4 + w.read_u32(payload) :]
            current += payload
            if not head.flags & w.MORE:
                messages.append(current)
                current = b""

    def call(self, subject: str, body: object = b"", **more: Any) -> list[bytes]:
        messages, head, payload = self.collect(self.open(subject, body, **more))
        assert not head.flags & w.ERROR, payload
        return messages

    def error(self, rid: bytes) -> tuple[int, int, int]:
        _messages, head, payload = self.collect(rid)
        assert head.flags == w.ERROR | w.END_STREAM
        code, flags, retry = struct.unpack_from(">IHI", payload)
        return code, flags, retry

    def stats(self) -> dict[str, int]:
        return dict(json.loads(self.call("conformance.stats")[0]))


def open_frame(
    rid: bytes,
    subject: str,
    body: object = b"",
    *,
    headers: tuple[tuple[str, str], ...] = (),
    end: bool = True,
    timeout_ms: int = 0,
    extension: bytes = b"",
) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    raw = subject.encode()
    block = struct.pack(">IHHH", timeout_ms, 0, len(headers), len(raw)) + raw
    for key, value in headers:
        block += bytes((len(key),)) + key.encode() + struct.pack(">H", len(value)) + value.encode()
    block += extension
    flags = w.META | (w.END_STREAM if end else 0)
    return w.frame(w.REQUEST, flags, rid=rid, payload=struct.pack(">I", len(block)) + block + data)


def chunk(rid: bytes, seq: int, data: bytes = b"", flags: int = 0) -> bytes:
    return w.frame(w.REQUEST, flags, seq=seq, rid=rid, payload=data)


def kill(rid: bytes) -> bytes:
    return w.control(w.KILL, struct.pack(">I", w.CANCELLED), rid)


# Golden vectors -------------------------------------------------------------------------------


def test_codec_builds_the_golden_vectors() -> None:
    rid = bytes.fromhex(ID_V4)
    traceparent = GOLDEN["V4"][-57:-2].decode()
    opened = open_frame(
        rid, "conformance.echo", b"hi", headers=(("traceparent", traceparent),), timeout_ms=5000
    )
    built = {
        "V1": w.preface(1, 1),
        "V2": w.settings([(1, 65536), (7, 60000), (0x1A1A, 7)]),
        "V3": w.control(w.SETTINGS_ACK),
        "V4": opened[:44] + b"\0\0\x13\x88\0\1" + opened[50:],
        "V5": w.frame(w.RESPONSE, rid=rid, payload=b"hi"),
        "V6": w.frame(w.RESPONSE, w.END_STREAM, seq=1, rid=rid),
        "V7": w.frame(w.RESPONSE, 9, rid=rid, payload=w.error_body(
            w.CallError(w.OVERLOADED, "busy", w.NOT_PROCESSED, 250))),
        "V8": w.window_update(134217728),
        "V9": kill(rid),
        "V10": w.frame(w.HEARTBEAT, subtype=w.PING, payload=bytes(range(1, 9))),
        "V11": w.goaway(w.NO_ERROR, 3, 30000, "drain"),
    }  # fmt: skip
    lengths = [16, 62, 32, 133, 34, 32, 48, 40, 36, 40, 55]
    assert [len(octets) for octets in GOLDEN.values()] == lengths
    for name, octets in GOLDEN.items():
        if name == "V4":
            block = w.read_open(octets[32:], 8_192, lambda _: False)
            assert (block.timeout_ms, block.request_flags, block.body) == (5000, 1, b"hi")
            assert block.headers == [(b"traceparent", traceparent.encode())]
            assert octets[:36] == opened[:36]
        else:
            assert octets == built[name], name


@pytest.mark.parametrize("step", [1, 7, 4096])
def test_worker_accepts_and_produces_the_golden_vectors(shared: Worker, step: int) -> None:
    with Client(shared, shake=False) as client:
        order = ("V1", "V2", "V3", "V8", "V4", "V10")
        octets = b"".join(GOLDEN[name] for name in order)
        for start in range(0, len(octets), step):
            client.send(octets[start : start + step])
        client.shake()
        pong = GOLDEN["V10"][:3] + b"\x02" + GOLDEN["V10"][4:]
        got = []
        for _ in range(3):
            head = client.octets(w.HEADER_SIZE)
            got.append(head + client.octets(w.Head.decode(head).length))
        got.remove(pong)
        assert got == [GOLDEN["V5"], GOLDEN["V6"]]
        client.send(GOLDEN["V9"])  # a KILL behind the terminal
        client.ping()
        client.send(GOLDEN["V11"])  # the client ends in order
        assert client.at_eof()


# Handshake ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offer", "accepted"),
    [((1, 1, 32), True), ((200, 1, 32), True), ((9, 7, 32), False), ((1, 1, 48), False),
     ((0, 1, 32), False)],
)  # fmt: skip
def test_version_range(shared: Worker, offer: tuple[int, int, int], accepted: bool) -> None:
    with Client(shared, shake=False) as client:
        client.send(w.MAGIC + bytes(offer) + bytes(5))
        assert client.octets(16) == GOLDEN["V1"]
        if accepted:
            assert client.frame()[0].subtype == w.SETTINGS
        else:
            assert client.at_eof()


def test_wrong_magic_gets_no_octet(shared: Worker) -> None:
    with Client(shared, shake=False) as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.at_eof()


def test_handshake_timeout(launch: LAUNCH) -> None:
    worker = launch("--handshake-timeout-ms", "300")
    with Client(worker, shake=False) as silent, Client(worker, shake=False) as half:
        silent.send(GOLDEN["V1"][:7])
        half.send(GOLDEN["V1"] + GOLDEN["V2"])
        assert silent.at_eof()
        assert half.octets(16) == GOLDEN["V1"]
        assert half.goaway() == w.HANDSHAKE_TIMEOUT
        assert half.at_eof()


def test_connection_limit(launch: LAUNCH) -> None:
    worker = launch("--max-connections", "2", "--max-pending", "3")
    silent = [Client(worker, shake=False) for _ in range(5)]
    with Client(worker) as first, Client(worker) as second, Client(worker, shake=False) as third:
        third.send(GOLDEN["V1"] + GOLDEN["V2"])
        third.octets(16)
        assert third.goaway() == w.CONNECTION_LIMIT
        first.ping()
        second.ping()
    for client in silent:
        client.sock.close()


# Violations -----------------------------------------------------------------------------------

RID = bytes(range(16))
OPEN = open_frame(RID, "conformance.echo")
NO_META = OPEN[:2] + b"\x01" + OPEN[3:]
VIOLATIONS = {
    "marker": (b"\xf6" + GOLDEN["V10"][1:], w.PROTOCOL_ERROR),
    "length": (w.frame(w.REQUEST, 5, rid=RID)[:8] + b"\x40" + bytes(7) + RID, w.FRAME_SIZE_ERROR),
    "type": (w.frame(5), w.UNSUPPORTED_FRAME),
    "control": (w.control(0x44), w.UNSUPPORTED_FRAME),
    "heartbeat": (w.frame(w.HEARTBEAT, subtype=3, payload=bytes(8)), w.PROTOCOL_ERROR),
    "flags": (w.frame(w.HEARTBEAT, 1, 1, payload=bytes(8)), w.PROTOCOL_ERROR),
    "heartbeat seq": (w.frame(w.HEARTBEAT, 0, 1, 1, payload=bytes(8)), w.PROTOCOL_ERROR),
    "id": (w.frame(w.HEARTBEAT, 0, 1, rid=RID, payload=bytes(8)), w.PROTOCOL_ERROR),
    "response": (w.frame(w.RESPONSE, rid=RID), w.PROTOCOL_ERROR),
    "settings": (w.settings([]), w.PROTOCOL_ERROR),
    "ack": (w.control(w.SETTINGS_ACK), w.PROTOCOL_ERROR),
    "ping size": (w.frame(w.HEARTBEAT, 0, 1, payload=bytes(7)), w.FRAME_SIZE_ERROR),
    "window": (w.window_update(1 << 63), w.FLOW_CONTROL_ERROR),
    "goaway": (w.control(w.GOAWAY, bytes(17)), w.FRAME_SIZE_ERROR),
    "no meta": (NO_META, w.PROTOCOL_ERROR),
    "metadata": (w.frame(w.REQUEST, 5, rid=RID, payload=b"\0\0\xff\xff"), w.PROTOCOL_ERROR),
    "seq": (open_frame(RID, "conformance.sink", end=False) + chunk(RID, 2), w.SEQUENCE_ERROR),
    "twice": (2 * open_frame(RID, "conformance.echo"), w.DUPLICATE_REQUEST),
    "half": (
        open_frame(RID, "conformance.sleep", {"ms": 9000}) + chunk(RID, 1),
        w.STREAM_STATE_ERROR,
    ),
    "stray glitches": (1000 * kill(RID), w.ENHANCE_YOUR_CALM),
    "pings": (1000 * GOLDEN["V10"], w.ENHANCE_YOUR_CALM),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_violation_ends_the_connection(shared: Worker, name: str) -> None:
    octets, code = VIOLATIONS[name]
    with Client(shared) as client:
        client.send(octets)
        assert client.goaway() == code
        assert client.at_eof()


def test_goaway_survives_input_behind_the_violation(shared: Worker) -> None:
    with Client(shared) as client:
        client.open("no.such")
        client.send(b"\0" * 32 + bytes(4 << 20))
        payload = client.until(w.CONTROL, w.GOAWAY)
        assert struct.unpack_from(">IQ", payload) == (w.PROTOCOL_ERROR, 1)
        assert client.at_eof()


def test_ignorable_frames_are_skipped(shared: Worker) -> None:
    with Client(shared) as client:
        client.send(w.frame(0x8A, 0xFF, 9, 9, RID, bytes(10_000)) + w.control(0x9A, b"x", RID))
        client.send(w.frame(w.HEARTBEAT, 0xF0, w.PING, payload=b"12345678"))
        assert client.until(w.HEARTBEAT, w.PONG) == b"12345678"


# Subjects -------------------------------------------------------------------------------------


def test_echo_keeps_messages(shared: Worker) -> None:
    with Client(shared, message=64 << 20, stream=16 << 20, connection=32 << 20) as client:
        rid = client.open("conformance.echo", end=False)
        client.send(chunk(rid, 1) + chunk(rid, 2, b"a", w.MORE) + chunk(rid, 3, b"", w.MORE))
        client.send(chunk(rid, 4, b"b") + chunk(rid, 5) + chunk(rid, 6, b"", w.END_STREAM))
        assert client.collect(rid)[0] == [b"", b"ab", b""]
        assert client.call("conformance.echo") == [b""]
        rid = client.open("conformance.echo", end=False)
        client.send(chunk(rid, 1, b"x", w.MORE) + chunk(rid, 2, b"", w.END_STREAM))
        assert client.collect(rid)[0] == [b"x"]


def test_message_larger_than_the_window(shared: Worker) -> None:
    data = os.urandom(3 << 20)
    with Client(shared, message=64 << 20, stream=16 << 20, connection=32 << 20) as client:
        rid = client.open("conformance.echo", end=False)
        limits = {rid: 262_144, w.ZERO_ID: 8 << 20}
        sent, seq, pos = 32 + 26 + 4, 1, 0
        while pos < len(data):
            piece = data[pos : pos + 65_536]
            cost = 32 + len(piece)
            while min(limits.values()) < sent + cost:
                head, payload = client.frame()
                if head.subtype == w.WINDOW_UPDATE:
                    limits[head.rid] = int.from_bytes(payload, "big")
            pos += len(piece)
            sent += cost
            client.send(chunk(rid, seq, piece, w.MORE if pos < len(data) else w.END_STREAM))
            seq += 1
        assert client.collect(rid)[0] == [data]


def test_subjects(shared: Worker) -> None:
    with Client(shared, stream=1 << 20, connection=8 << 20) as client:
        items = client.call("conformance.generate", {"count": 300, "size": 20})
        assert items[299] == struct.pack(">Q", 299) + bytes((299 + j) % 256 for j in range(12))
        assert len(items) == 300
        assert client.call("conformance.generate", {"count": 0}) == []
        assert client.call("conformance.sleep", {"ms": 1}) == [b"ok"]
        source = client.call("conformance.source", {"bytes": 70_000, "messages": 2})
        assert source == [bytes((31 * k + 7) % 256 for k in range(70_000))] * 2
        rid = client.open("conformance.sink", {}, end=False)
        client.send(chunk(rid, 1, b"abc") + chunk(rid, 2, b"defg", w.END_STREAM))
        expected = {"messages": 2, "bytes": 7, "crc32": zlib.crc32(b"abcdefg")}
        assert json.loads(client.collect(rid)[0][0]) == expected
        pairs = (("b", "2"), ("a", "1"))
        rid = client.open("conformance.headers", {}, headers=pairs, extension=b"more")
        (answer,), head, payload = client.collect(rid)
        assert json.loads(answer)["headers"] == [["b", "2"], ["a", "1"]]
        assert head.flags == w.META | w.END_STREAM
        assert b"usage" in payload
        assert json.loads(client.call("conformance.info")[0])["transports"] == ["tcp", "callhome"]
        rid = client.open("conformance.fail", {"after": 7, "flags": 3, "code": 0x80000001})
        assert len(client.seen) > 0
        messages, _head, payload = client.collect(rid)
        assert [len(message) for message in messages] == [8] * 7
        assert struct.unpack_from(">IH", payload) == (0x80000001, w.NON_RETRYABLE)
        panic = client.error(client.open("conformance.fail", {"panic": True}))
        assert panic[0] == w.APPLICATION_ERROR
        assert client.error(client.open("conformance.sleep", {}))[:2] == (w.INVALID_ARGUMENT, 0)
        assert client.stats()["active"] == 0


@pytest.mark.parametrize(
    ("subject", "headers", "code"),
    [("no.such", (), w.NOT_FOUND), ("a..b", (), w.INVALID_ARGUMENT),
     ("conformance.echo", (("A", ""),), w.INVALID_ARGUMENT),
     ("conformance.echo", (("a", ""), ("a", "")), w.INVALID_ARGUMENT)],
)  # fmt: skip
def test_refusals(
    shared: Worker, subject: str, headers: tuple[tuple[str, str], ...], code: int
) -> None:
    with Client(shared) as client:
        opened = client.stats()["opened"]
        rid = client.open(subject, headers=headers)
        assert client.error(rid)[:2] == (code, w.NOT_PROCESSED)
        assert client.stats()["opened"] == opened


# Flow control, KILL, limits -------------------------------------------------------------------


def test_window_is_filled_and_never_exceeded(shared: Worker) -> None:
    with Client(shared) as client:
        rid = client.open("conformance.generate", {"count": 10**6, "size": 200})

        def cost() -> int:
            client.ping()
            frames = [head for head, _ in client.seen if head.type == w.RESPONSE]
            return sum(32 + head.length for head in frames)

        until(lambda: cost() == 65_536)
        client.send(w.window_update(65_536 + 40_000, rid))
        until(lambda: cost() == 105_536)
        client.seen.clear()
        client.send(kill(rid))
        assert [head.flags for head in frames_until_terminal(client)] == [w.ERROR | w.END_STREAM]


def frames_until_terminal(client: Client) -> list[w.Head]:
    while not (client.seen and client.seen[-1][0].flags & w.END_STREAM):
        client.frame()
    return [head for head, _ in client.seen if head.type == w.RESPONSE]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end


def test_exceeding_the_stream_window(shared: Worker) -> None:
    with Client(shared) as client:
        rid = client.open("conformance.sink", {"stall": True}, end=False)
        for seq in range(1, 6):
            client.send(chunk(rid, seq, bytes(60_000)))
        assert client.goaway() == w.FLOW_CONTROL_ERROR


def test_kill(shared: Worker) -> None:
    with Client(shared) as client:
        before = client.stats()["cancelled"]
        rid = os.urandom(16)
        client.send(open_frame(rid, "conformance.sleep", {"ms": 60_000}) + kill(rid))
        assert client.error(rid)[0] == w.CANCELLED
        rid = client.open("conformance.sleep", {"ms": 60_000})
        client.ping()
        client.send(kill(rid))
        assert client.error(rid)[0] == w.CANCELLED
        rid = client.open("conformance.sleep", {"ms": 60_000}, timeout_ms=50)
        assert client.error(rid)[0] == w.DEADLINE_EXCEEDED
        rid = client.open("conformance.generate", {"count": 10**6, "interval_ms": 5})
        client.send(w.control(w.STOP, bytes(4), rid))
        assert not client.collect(rid)[1].flags & w.ERROR
        stats = client.stats()
        assert (stats["active"], stats["cancelled"]) == (0, before + 3)


def test_stubborn_handler_keeps_its_slot(launch: LAUNCH) -> None:
    worker = launch("--max-concurrent", "100")
    with Client(worker) as client:
        body = {"ms": 1_500, "ignore_kill_ms": 1_500}
        rids = [client.open("conformance.sleep", body) for _ in range(100)]
        client.ping()  # a handler that never began could not refuse to end
        client.send(b"".join(kill(rid) for rid in rids))
        terminals = 0
        while terminals < 100:
            head, _payload = client.frame()
            terminals += head.type == w.RESPONSE
        code, flags, retry = client.error(client.open("conformance.echo"))
        assert (code, flags) == (w.OVERLOADED, w.NOT_PROCESSED)
        assert retry > 0

        with Client(worker) as watcher:
            assert watcher.stats()["active"] == 100
            until(lambda: watcher.stats()["active"] == 0)
            assert watcher.stats()["peak"] == 100
        assert client.call("conformance.echo", b"x") == [b"x"]


def test_lost_connection_cancels(shared: Worker) -> None:
    with Client(shared) as watcher:
        before = watcher.stats()["cancelled"]
        with Client(shared) as client:
            for _ in range(20):
                client.open("conformance.sleep", {"ms": 60_000})
            client.ping()
            assert watcher.stats()["active"] == 20
        until(lambda: watcher.stats()["active"] == 0)
        assert watcher.stats()["cancelled"] == before + 20


def test_drain(shared: Worker) -> None:
    with Client(shared) as client:
        running = client.open("conformance.generate", {"count": 20, "interval_ms": 5})
        client.open("conformance.drain", {"grace_ms": 5_000})
        payload = client.until(w.CONTROL, w.GOAWAY)
        assert struct.unpack_from(">IQI", payload) == (w.NO_ERROR, 2, 5_000)
        late = client.open("conformance.echo")
        while not any(head.rid == running and head.flags & 1 for head, _ in client.seen):
            client.frame()
        terminal = [payload for head, payload in client.seen if head.rid == late]
        assert [w.read_u32(payload) for payload in terminal] == [w.DRAINING]
        assert client.at_eof()
    with Client(shared) as client:
        sleeping = client.open("conformance.sleep", {"ms": 60_000})
        client.call("conformance.drain", {"grace_ms": 100})
        assert client.error(sleeping)[:2] == (w.SHUTDOWN, 0)
        assert client.at_eof()


def test_heartbeat_and_idle_timeout(launch: LAUNCH) -> None:
    worker = launch("--idle-timeout-ms", "600")
    with Client(worker, idle=400) as client:
        start = time.monotonic()
        assert client.goaway() == w.HEARTBEAT_TIMEOUT
        assert time.monotonic() - start >= 0.55
        pings = [head for head, _ in client.seen if head.type == w.HEARTBEAT]
        assert len(pings) >= 2


def test_sigterm_drains(launch: LAUNCH) -> None:
    worker = launch()
    with Client(worker) as client:
        rid = client.open("conformance.sleep", {"ms": 300})
        client.ping()
        worker.process.terminate()
        assert client.goaway() == w.NO_ERROR
        assert client.collect(rid)[0] == [b"ok"]
        assert client.at_eof()
    _out, worker.log = worker.process.communicate(timeout=TIMEOUT)


# Flaws ----------------------------------------------------------------------------------------


def test_flaw_table_matches_the_guards() -> None:
    used: list[str] = []
    for path in HERE.glob("model_*.py"):
        if path.name.startswith(("model_client", "model_router", "model_http")):
            continue
        used += re.findall(r'flaw\(\s*"([a-z0-9-]+)"', path.read_text())
    assert set(used) == set(FLAWS)
    for flaw in FLAWS.values():
        assert re.fullmatch(r"(?:[A-Z]{3}|P0)-\d{3}", flaw.requirement)
        area = flaw.requirement.partition("-")[0]
        assert flaw.name.startswith("home-" if area == "P0" else f"{area.lower()}-")
        assert flaw.what


def test_flaw_table_of_http_matches_the_guards() -> None:
    used: list[str] = []
    for path in HERE.glob("model_http*.py"):
        used += re.findall(r'"(http-[a-z0-9-]+)"', path.read_text())
    assert set(used) == set(HTTP_FLAWS)


def test_flaw_is_visible(launch: LAUNCH) -> None:
    worker = launch("--flaw", "frm-accepts-marker")
    with Client(worker) as client:
        client.send(b"\xf6" + GOLDEN["V10"][1:])
        assert client.until(w.HEARTBEAT, w.PONG) == GOLDEN["V10"][-8:]
    worker.stop()
    assert worker.log == "flaw reached: frm-accepts-marker\n"


def test_flaw_is_silent_until_reached(launch: LAUNCH) -> None:
    worker = launch("--flaw", "typ-two-terminals")
    with Client(worker) as client:
        client.ping()
    worker.stop()
    assert worker.log == ""


def test_unknown_flaw_is_refused() -> None:
    command = [sys.executable, str(HERE / "model_worker.py"), "--flaw", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert done.returncode == 2
    assert "no such flaw: nonsense" in done.stderr


def test_start_in_process(capsys: pytest.CaptureFixture[str]) -> None:
    async def conversation() -> bytes:
        server = await model_worker.start("127.0.0.1", 0, ["hbt-wrong-pong"])
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        body = {"ms": 60_000, "ignore_kill_ms": 60_000}
        opened = open_frame(RID, "conformance.sleep", body)
        writer.write(GOLDEN["V1"] + GOLDEN["V2"] + GOLDEN["V3"] + opened + GOLDEN["V10"])
        octets = b""
        while b"\x08\x07\x06\x05\x04\x03\x02\x01" not in octets:
            octets += await reader.read(4096)
        assert server.reached == {"hbt-wrong-pong"}
        await server.close()
        assert not server.handlers
        writer.close()
        return octets

    assert asyncio.run(conversation())[:16] == GOLDEN["V1"]
    assert "flaw reached: hbt-wrong-pong" in capsys.readouterr().err
