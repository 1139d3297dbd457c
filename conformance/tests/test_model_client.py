"""The model client itself: it has to be known good before it is used to try the suite."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import model_wire as w
import pytest
from model_client import Client, Event
from model_client_flaws import FLAWS

HERE = Path(__file__).parent
TIMEOUT = 10.0
PREFACE = w.preface(1, 1)
SETUP = PREFACE + w.settings([]) + w.control(w.SETTINGS_ACK)
REFUSED = w.CallError(w.OVERLOADED, "busy", w.NOT_PROCESSED, 10)

Frame = tuple[w.Head, bytes]
Scenario = Callable[["Bench"], Awaitable[None]]


class Conn:
    """The worker's end of one connection: raw octets out, frames in."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def preface(self) -> bytes:
        async with asyncio.timeout(TIMEOUT):
            return await self.reader.readexactly(w.PREFACE_SIZE)

    async def frame(self) -> Frame:
        async with asyncio.timeout(TIMEOUT):
            head = w.Head.decode(await self.reader.readexactly(w.HEADER_SIZE))
            return head, await self.reader.readexactly(head.length)

    async def until(self, kind: int, subtype: int = 0) -> Frame:
        while True:
            head, payload = await self.frame()
            if (head.type, head.subtype) == (kind, subtype):
                return head, payload

    async def open(self) -> Frame:
        return await self.until(w.REQUEST)

    async def fence(self) -> list[Frame]:
        """Return what comes before the PONG of a fresh PING."""
        self.send(w.frame(w.HEARTBEAT, subtype=w.PING, payload=b"\7fence\7\7"))
        seen = []
        while True:
            head, payload = await self.frame()
            if (head.type, head.subtype) == (w.HEARTBEAT, w.PONG):
                return seen
            seen.append((head, payload))

    async def goaway(self) -> tuple[int, int, str]:
        _head, payload = await self.until(w.CONTROL, w.GOAWAY)
        code, last, _grace, size = struct.unpack_from(">IQIH", payload)
        return code, last, payload[18 : 18 + size].decode()

    async def ended(self) -> None:
        async with asyncio.timeout(TIMEOUT):
            try:
                while await self.reader.read(65_536):
                    pass
            except ConnectionResetError:
                pass

    def close(self) -> None:
        self.writer.close()


class Bench:
    """A listener and a client in one event loop."""

    def __init__(self, flaws: tuple[str, ...] = ()) -> None:
        self.events: list[Event] = []
        self.news = asyncio.Event()
        self.accepted: asyncio.Queue[Conn] = asyncio.Queue()
        self.client = Client(self._on_event, flaws)
        self.addr = ""
        self.writers: list[asyncio.StreamWriter] = []

    async def close(self) -> None:
        """Leave no connection behind."""
        await self.client.stop()
        for writer in self.writers:
            writer.transport.abort()
        async with asyncio.timeout(TIMEOUT):
            await asyncio.gather(
                *(writer.wait_closed() for writer in self.writers), return_exceptions=True
            )

    def _on_event(self, event: Event) -> None:
        self.events.append(json.loads(json.dumps(event)))
        self.news.set()

    def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.put_nowait(Conn(reader, writer))
        self.writers.append(writer)

    def do(self, op: str, **members: Any) -> None:
        self.client.line(json.dumps({"op": op, **members}).encode())

    def ask(self, ref: str = "a", subject: str = "x", body: bytes = b"hi", **members: Any) -> None:
        self.do("request", ref=ref, subject=subject, body_b64=b64(body), **members)

    async def event(self, kind: str, **members: Any) -> Event:
        """Wait for an event with these members."""
        async with asyncio.timeout(TIMEOUT):
            while True:
                for event in self.events:
                    if event["event"] == kind and members.items() <= event.items():
                        return event
                self.news.clear()
                await self.news.wait()

    async def conn(self) -> Conn:
        """Accept a connection."""
        async with asyncio.timeout(TIMEOUT):
            return await self.accepted.get()

    async def ready(self, setup: bytes = SETUP, **settings: int) -> Conn:
        """Connect and set a connection up."""
        self.do("connect", addrs=[self.addr], settings=settings, backoff_base_ms=1)
        return await self.again(setup)

    async def again(self, setup: bytes = SETUP) -> Conn:
        """Set the next connection up."""
        conn = await self.conn()
        assert await conn.preface() == PREFACE
        head, _payload = await conn.frame()
        assert (head.type, head.subtype) == (w.CONTROL, w.SETTINGS)
        conn.send(setup)
        return conn

    def count(self, kind: str) -> int:
        return sum(event["event"] == kind for event in self.events)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def run(scenario: Scenario, flaws: tuple[str, ...] = ()) -> Bench:
    """Play a scenario against a fresh client."""

    async def play() -> Bench:
        bench = Bench(flaws)
        server = await asyncio.start_server(bench.on_connection, "127.0.0.1", 0)
        bench.addr = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            await scenario(bench)
        finally:
            server.close()
            await bench.close()
            await server.wait_closed()
        return bench

    return asyncio.run(play())


def response(rid: bytes, data: bytes = b"", flags: int = 0, seq: int = 0) -> bytes:
    return w.frame(w.RESPONSE, flags, seq=seq, rid=rid, payload=data)


def terminal(rid: bytes, seq: int = 0, error: w.CallError | None = None) -> bytes:
    if error is None:
        return response(rid, b"", w.END_STREAM, seq)
    return response(rid, w.error_body(error), w.END_STREAM | w.ERROR, seq)


# -- ordinary life -------------------------------------------------------------------------------


def test_a_request_and_its_answer() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        bench.ask(headers=[["k", "v"]], timeout_ms=5_000, idempotent=True)
        head, payload = await conn.open()
        assert (head.flags, head.seq) == (w.META | w.END_STREAM, 0)
        block = w.read_open(payload, 8_192, lambda _name: False)
        assert (block.subject, block.body, block.request_flags) == (b"x", b"hi", 1)
        assert 4_000 < block.timeout_ms <= 5_000
        assert block.headers[0] == (b"k", b"v")
        assert [key for key, _value in block.headers] == [b"k", b"request-id"]
        trailers = w.response_block([("usage", "1")])
        conn.send(response(head.rid, w.response_block([("h", "1")]) + b"he", w.META | w.MORE))
        conn.send(response(head.rid, b"llo", 0, 1) + response(head.rid, b"", 0, 2))
        conn.send(response(head.rid, trailers, w.END_STREAM | w.META, 3))
        end = await bench.event("end", ref="a")
        assert (end["messages"], end["attempts"], end["trailers"]) == (2, 1, [["usage", "1"]])
        assert (await bench.event("headers"))["headers"] == [["h", "1"]]
        bodies = [event["body_b64"] for event in bench.events if event["event"] == "message"]
        assert bodies == [b64(b"hello"), ""]
        assert (await bench.event("sent"))["messages"] == 1

    run(scenario)


@pytest.mark.parametrize(
    ("messages", "frames"),
    [
        ([], [(w.META, b""), (w.END_STREAM, b"")]),
        ([b""], [(w.META | w.END_STREAM, b"")]),
        ([b"", b"a"], [(w.META, b""), (0, b""), (w.END_STREAM, b"a")]),
        ([b"a", b""], [(w.META, b"a"), (0, b""), (w.END_STREAM, b"")]),
        ([b"a", b"b"], [(w.META, b"a"), (w.END_STREAM, b"b")]),
    ],
)
def test_messages_become_frames(messages: list[bytes], frames: list[tuple[int, bytes]]) -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        encoded = [b64(message) for message in messages]
        bench.do("request", ref="a", subject="x", messages_b64=encoded)
        head, payload = await conn.open()
        body = w.read_open(payload, 8_192, lambda _name: False).body
        seen = [(head.flags, body)]
        while not seen[-1][0] & w.END_STREAM:
            head, payload = await conn.open()
            assert head.seq == len(seen)
            seen.append((head.flags, payload))
        assert seen == frames

    run(scenario)


def test_windows_are_kept_and_large_messages_split() -> None:
    body = bytes(200_000)

    async def scenario(bench: Bench) -> None:
        bench.do("connect", addrs=[bench.addr])
        conn = await bench.conn()
        bench.ask(body=body)
        await conn.preface()
        cost = total = 0
        while total < 60_000:
            head, payload = await conn.open()
            assert head.length <= 16_384
            cost += 32 + head.length
            if head.seq == 0:
                payload = w.read_open(payload, 8_192, lambda _name: False).body
            total += len(payload)
        assert cost <= 65_536
        conn.send(SETUP)
        assert [one for one in await conn.fence() if one[0].type == w.REQUEST] == []
        conn.send(w.window_update(1 << 20, head.rid))
        while total < len(body):
            head, payload = await conn.open()
            total += len(payload)
        assert head.flags & w.END_STREAM

    run(scenario)


def test_no_more_requests_than_the_worker_takes() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        for number in range(103):
            bench.ask(f"r{number}")
        ids = [(await conn.open())[0].rid for _ in range(100)]
        assert [one for one in await conn.fence() if one[0].type == w.REQUEST] == []
        conn.send(terminal(ids[0]) + terminal(ids[1], error=w.CallError(w.CANCELLED)))
        assert len({(await conn.open())[0].rid for _ in range(2)} - set(ids)) == 2

    run(scenario)


def test_a_paused_request_gets_no_credit_and_delivers_before_its_end() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready(INITIAL_STREAM_WINDOW=65_536)
        bench.ask(paused=True)
        head, _payload = await conn.open()
        for seq in range(3):
            conn.send(response(head.rid, bytes(16_000), 0, seq))
        seen = await conn.fence()
        assert not [one for one in seen if one[0].subtype == w.WINDOW_UPDATE and one[0].rid[0]]
        conn.send(terminal(head.rid, 3))
        await conn.fence()
        assert bench.count("message") == bench.count("end") == 0
        bench.do("resume", ref="a")
        assert (await bench.event("end"))["messages"] == bench.count("message") == 3

    run(scenario)


def test_consumed_messages_are_credited() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready(INITIAL_STREAM_WINDOW=65_536)
        bench.ask()
        head, _payload = await conn.open()
        for seq in range(2):
            conn.send(response(head.rid, bytes(16_000), 0, seq))
        update, payload = await conn.until(w.CONTROL, w.WINDOW_UPDATE)
        assert update.rid == head.rid
        assert w.read_u64(payload) in (65_536 + 16_032 * 2, 65_536 + 16_032)

    run(scenario)


# -- stopping ------------------------------------------------------------------------------------


def test_stop_waits_for_the_open_and_kill_removes_it() -> None:
    async def scenario(bench: Bench) -> None:
        bench.do("connect", addrs=[bench.addr])
        for ref in "ab":
            bench.ask(ref)
        bench.do("stop", ref="a", reason=7)
        bench.do("kill", ref="b")
        conn = await bench.conn()
        await conn.preface()
        await conn.frame()
        opened, _payload = await conn.frame()
        stop, payload = await conn.frame()
        assert (opened.type, stop.subtype, payload) == (w.REQUEST, w.STOP, b"\0\0\0\7")
        error = await bench.event("error", ref="b")
        assert (error["class"], error["attempts"]) == ("NOT_SENT", 0)
        conn.send(SETUP)
        assert [one for one in await conn.fence() if one[0].type == w.REQUEST] == []

    run(scenario)


def test_a_killed_request_waits_for_its_terminal_and_is_no_success() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        bench.ask(idempotent=True)
        head, _payload = await conn.open()
        conn.send(response(head.rid, b"one"))
        await bench.event("message")
        bench.do("kill", ref="a")
        bench.do("kill", ref="a")
        kill, payload = await conn.until(w.CONTROL, w.KILL)
        assert (kill.rid, w.read_u32(payload)) == (head.rid, w.CANCELLED)
        conn.send(response(head.rid, b"two", 0, 1))
        assert [one for one in await conn.fence() if one[0].type == w.CONTROL] == []
        assert bench.count("error") == 0
        conn.send(terminal(head.rid, 2))
        error = await bench.event("error")
        expected = {"class": "FAILED", "code": w.CANCELLED, "messages": 1, "attempts": 1}
        assert expected.items() <= error.items()

    run(scenario)


def test_a_message_that_is_too_large_is_killed() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready(MAX_MESSAGE_SIZE=1_048_576, INITIAL_STREAM_WINDOW=4_194_304)
        bench.ask()
        head, _payload = await conn.open()
        for seq in range(17):
            conn.send(response(head.rid, bytes(65_535), w.MORE, seq))
        _kill, payload = await conn.until(w.CONTROL, w.KILL)
        assert w.read_u32(payload) == w.MESSAGE_TOO_LARGE
        conn.send(terminal(head.rid, 17, w.CallError(w.CANCELLED)))
        error = await bench.event("error")
        assert (error["class"], error["code"]) == ("FAILED", w.MESSAGE_TOO_LARGE)

    run(scenario)


# -- faults --------------------------------------------------------------------------------------

BAD_META = struct.pack(">IH", 6, 1) + b"\1A\0\0"
FAULTS: dict[str, tuple[Callable[[bytes], bytes], int, str]] = {
    "marker": (lambda _rid: b"\0" + response(_rid)[1:], w.PROTOCOL_ERROR, "FRM-002"),
    "settings": (lambda _rid: w.settings([]), w.PROTOCOL_ERROR, "HSK-006"),
    "ack": (lambda _rid: w.control(w.SETTINGS_ACK), w.PROTOCOL_ERROR, "HSK-007"),
    "request": (lambda rid: w.frame(w.REQUEST, rid=rid), w.PROTOCOL_ERROR, "TYP-001"),
    "kill": (lambda rid: w.control(w.KILL, bytes(4), rid), w.PROTOCOL_ERROR, "TYP-001"),
    "type": (lambda rid: w.frame(9, rid=rid), w.UNSUPPORTED_FRAME, "FRM-004"),
    "length": (
        lambda rid: struct.pack(">BBBBIQ16s", 0xF7, 2, 0, 0, 0, 1 << 40, rid),
        w.FRAME_SIZE_ERROR,
        "FRM-003",
    ),
    "zero id": (lambda _rid: response(bytes(16)), w.PROTOCOL_ERROR, "FRM-008"),
    "end and more": (lambda rid: response(rid, b"", 3), w.PROTOCOL_ERROR, "TYP-002"),
    "error alone": (lambda rid: response(rid, bytes(12), 8), w.PROTOCOL_ERROR, "TYP-004"),
    "late META": (
        lambda rid: response(rid) + response(rid, bytes(6), w.META, 1),
        w.PROTOCOL_ERROR,
        "TYP-005",
    ),
    "ping size": (
        lambda _rid: w.frame(w.HEARTBEAT, subtype=1, payload=b"7"),
        w.FRAME_SIZE_ERROR,
        "PAY-001",
    ),
    "metadata": (lambda rid: response(rid, b"\0\0\1\0", w.META), w.PROTOCOL_ERROR, "PAY-002"),
    "header": (lambda rid: response(rid, BAD_META, w.META), w.PROTOCOL_ERROR, "PAY-005"),
    "error body": (lambda rid: response(rid, bytes(11), 9), w.PROTOCOL_ERROR, "PAY-007"),
    "large body": (lambda rid: response(rid, bytes(4_097), 9), w.FRAME_SIZE_ERROR, "PAY-007"),
    "stray": (lambda _rid: response(b"\1" * 16), w.PROTOCOL_ERROR, "RID-004"),
    "seq": (lambda rid: response(rid, b"", 0, 1), w.SEQUENCE_ERROR, "FRM-010"),
    "limit": (lambda rid: w.window_update(1 << 63, rid), w.FLOW_CONTROL_ERROR, "FLW-003"),
    "late refusal": (
        lambda rid: response(rid) + terminal(rid, 1, REFUSED),
        w.PROTOCOL_ERROR,
        "ADM-003",
    ),
    "goaway": (
        lambda rid: response(rid) + w.goaway(0, 0, 0, ""),
        w.PROTOCOL_ERROR,
        "CLS-007",
    ),
    "credit": (
        lambda rid: b"".join(response(rid, bytes(65_000), 0, seq) for seq in range(5)),
        w.FLOW_CONTROL_ERROR,
        "FLW-002",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_the_connection(name: str) -> None:
    octets, code, requirement = FAULTS[name]

    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        bench.ask(paused=name == "credit")
        head, _payload = await conn.open()
        conn.send(octets(head.rid))
        seen, last, text = await conn.goaway()
        assert (seen, last) == (code, 0)
        assert text.startswith(requirement)
        await conn.ended()
        error = await bench.event("error", ref="a")
        assert error["class"] in ("AMBIGUOUS", "PARTIAL")
        await bench.event("disconnected", by="local", code=code)

    run(scenario)


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (w.settings([(1, 100)]), w.SETTINGS_ERROR),
        (w.settings([(1, 16_384)] * 2), w.SETTINGS_ERROR),
        (w.frame(0x8A), w.PROTOCOL_ERROR),
    ],
)
def test_a_bad_first_frame(octets: bytes, code: int) -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready(PREFACE + octets)
        assert (await conn.goaway())[0] == code

    run(scenario)


@pytest.mark.parametrize("name", ["0x8A", "0x83", "grease flags", "update", "pong", "extension"])
def test_what_is_ignored(name: str) -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        bench.ask()
        head, _payload = await conn.open()
        conn.send(
            {
                "0x8A": w.frame(0x8A, 0xFF, 7, 9, w.ONES_ID, b"x"),
                "0x83": w.frame(w.CONTROL, subtype=0x83, rid=w.ONES_ID, payload=b"x"),
                "grease flags": response(head.rid, b"", w.MORE | 0x70),
                "update": w.window_update(1, b"\2" * 16),
                "pong": w.frame(w.HEARTBEAT, subtype=w.PONG, payload=bytes(8)),
                "extension": response(head.rid, b"\0\0\0\4\0\0xx", w.META),
            }[name]
        )
        seq = int(name in ("grease flags", "extension"))
        conn.send(terminal(head.rid, seq))
        await bench.event("end")

    run(scenario)


def test_a_silent_worker_is_given_up_and_pings_keep_it() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready(IDLE_TIMEOUT_MS=150)
        code, _last, text = await conn.goaway()
        assert (code, text[:7]) == (w.HEARTBEAT_TIMEOUT, "HBT-003")

    run(scenario)


def test_an_idle_client_sends_pings() -> None:
    async def scenario(bench: Bench) -> None:
        setup = PREFACE + w.settings([(w.S_IDLE_TIMEOUT, 200)]) + w.control(w.SETTINGS_ACK)
        conn = await bench.ready(setup)
        for _ in range(2):
            await conn.until(w.HEARTBEAT, w.PING)

    run(scenario)


# -- outcomes and recovery -----------------------------------------------------------------------


def test_a_refusing_preface_is_not_processed() -> None:
    async def scenario(bench: Bench) -> None:
        bench.do("connect", addrs=[bench.addr], backoff_base_ms=1)
        bench.ask()
        for attempt in range(3):
            conn = await bench.conn()
            await conn.preface()
            await conn.open()
            conn.send(w.preface(3, 2))
            await conn.ended()
            assert attempt < 2 or bench.count("retry") == 2
        error = await bench.event("error")
        assert (error["class"], error["code"], error["attempts"]) == ("NOT_PROCESSED", None, 3)

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "expected", "messages"),
    [
        (b"", "AMBIGUOUS", 0),
        (response(b"r" * 16, b"cut")[:-1], "AMBIGUOUS", 0),
        (response(b"r" * 16, b"\0\0\0\2\0\0", w.META), "PARTIAL", 0),
        (response(b"r" * 16, b"one") + response(b"r" * 16, b"t", w.MORE, 1), "PARTIAL", 1),
        (response(b"r" * 16, b"one") + terminal(b"r" * 16, 1)[:-1], "PARTIAL", 1),
    ],
)
def test_a_cut_gives_the_class_of_the_table(sent: bytes, expected: str, messages: int) -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        bench.ask()
        head, _payload = await conn.open()
        conn.send(sent.replace(b"r" * 16, head.rid))
        conn.close()
        error = await bench.event("error")
        assert (error["class"], error["messages"], error["attempts"]) == (expected, messages, 1)

    run(scenario)


def test_retries_carry_the_same_request_id_and_a_number() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        bench.ask(timeout_ms=60_000)
        seen = []
        for _ in range(3):
            head, payload = await conn.open()
            block = w.read_open(payload, 8_192, lambda _name: False)
            seen.append((head.rid, dict(block.headers)))
            conn.send(terminal(head.rid, error=REFUSED))
        error = await bench.event("error")
        assert (error["class"], error["code"], error["attempts"], error["local"]) == (
            "NOT_PROCESSED",
            w.OVERLOADED,
            3,
            False,
        )
        assert len({rid for rid, _headers in seen}) == 3
        assert len({headers[b"request-id"] for _rid, headers in seen}) == 1
        assert [headers.get(b"attempt") for _rid, headers in seen] == [None, b"2", b"3"]
        delays = [one["delay_ms"] for one in bench.events if one["event"] == "retry"]
        assert all(10 <= delay <= 15 for delay in delays)

    run(scenario)


@pytest.mark.parametrize(
    ("code", "flags", "idempotent", "again"),
    [
        (w.NOT_FOUND, w.NOT_PROCESSED, True, False),
        (w.INVALID_ARGUMENT, w.NOT_PROCESSED, True, False),
        (w.DRAINING, w.NOT_PROCESSED, False, True),
        (w.OVERLOADED, 0, True, True),
        (w.OVERLOADED, 0, False, False),
        (w.OVERLOADED, w.NON_RETRYABLE, True, False),
        (w.APPLICATION_ERROR, 0, True, False),
        (0x7777, 0, True, False),
    ],
)
def test_permission_to_retry(code: int, flags: int, idempotent: bool, again: bool) -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        bench.ask(idempotent=idempotent)
        head, _payload = await conn.open()
        conn.send(terminal(head.rid, error=w.CallError(code, "no", flags)))
        if again:
            await conn.open()
        else:
            error = await bench.event("error")
            assert (error["code"], error["attempts"]) == (code, 1)

    run(scenario)


def test_goaway_closes_what_it_does_not_cover() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        for ref in "abc":
            bench.ask(ref, hold_open=True)
        ids = [(await conn.open())[0].rid for _ in range(3)]
        conn.send(w.goaway(w.NO_ERROR, 1, 9_000, "drain"))
        conn.send(terminal(ids[1], error=w.CallError(w.DRAINING, "", w.NOT_PROCESSED)))
        other = await bench.again()
        assert [(await other.open())[0].seq for _ in range(2)] == [0, 0]
        assert [one["class"] for one in bench.events if one["event"] == "retry"] == [
            "NOT_PROCESSED"
        ] * 2
        assert [one for one in await conn.fence() if one[0].type == w.REQUEST] == []
        conn.send(terminal(ids[0]))
        await bench.event("end", ref="a")
        await conn.ended()
        assert bench.count("end") == 1

    run(scenario)


def test_goaway_in_place_of_settings() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready(b"")
        bench.ask()
        await conn.open()
        conn.send(PREFACE + w.goaway(w.CONNECTION_LIMIT, 0, 0, "full"))
        conn.close()
        retry = await bench.event("retry")
        assert (retry["class"], retry["code"]) == ("NOT_PROCESSED", w.CONNECTION_LIMIT)
        assert bench.count("connected") == 0

    run(scenario)


def test_the_deadline_without_and_with_an_attempt() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        bench.ask("a", timeout_ms=50)
        head, _payload = await conn.open()
        _kill, payload = await conn.until(w.CONTROL, w.KILL)
        assert w.read_u32(payload) == w.DEADLINE_EXCEEDED
        error = await bench.event("error", ref="a")
        assert (error["class"], error["code"]) == ("AMBIGUOUS", w.DEADLINE_EXCEEDED)
        conn.send(terminal(head.rid))
        conn.close()
        await bench.again(b"")
        bench.ask("b", subject="x", body=bytes(2_000_000), timeout_ms=50)
        error = await bench.event("error", ref="b")
        assert (error["class"], error["code"]) == ("NOT_SENT", w.DEADLINE_EXCEEDED)

    run(scenario)


@pytest.mark.parametrize(
    ("subject", "headers", "size", "code"),
    [
        ("x..y", [], 1, w.INVALID_ARGUMENT),
        ("x", [["A", ""]], 1, w.INVALID_ARGUMENT),
        ("x", [["a", "v" * 8_192]], 1, w.INVALID_ARGUMENT),
        ("x", [], 1_048_577, w.MESSAGE_TOO_LARGE),
    ],
)
def test_what_may_not_be_sent(subject: str, headers: list[Any], size: int, code: int) -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        bench.ask(subject=subject, headers=headers, body=bytes(size))
        error = await bench.event("error")
        assert (error["class"], error["code"], error["local"]) == ("NOT_SENT", code, True)
        assert [one for one in await conn.fence() if one[0].type == w.REQUEST] == []

    run(scenario)


def test_the_budget_limits_retries() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        for number in range(40):
            bench.ask(f"r{number}")
        ids = [(await conn.open())[0].rid for _ in range(40)]
        conn.send(b"".join(terminal(rid, error=REFUSED) for rid in ids))
        await bench.event("error")
        await conn.fence()
        assert bench.count("retry") == 18

    run(scenario)


def test_close_in_order() -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        bench.ask()
        head, _payload = await conn.open()
        bench.do("close")
        assert (await conn.goaway())[:2] == (w.NO_ERROR, 0)
        assert bench.count("closed") == 0
        conn.send(terminal(head.rid))
        await bench.event("closed")
        assert [one["event"] for one in bench.events][-3:] == ["end", "disconnected", "closed"]
        await conn.ended()

    run(scenario)


# -- the driver protocol -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("nonsense", "invalid"),
        ("[]", "invalid"),
        ('{"op": "request", "ref": "z", "subject": "x"}', "invalid"),
        ('{"op": "dance"}', "unsupported"),
        ('{"op": "connect", "transport": "pigeon"}', "unsupported"),
        ('{"op": "connect"}', "invalid"),
        ('{"op": "connect", "addrs": ["nowhere"]}', "invalid"),
        ('{"op": "connect", "addrs": ["h:1"], "settings": {"MAX_FRAME_SIZE": 1}}', "invalid"),
        ('{"op": "sync", "id": 7}', "synced"),
    ],
)
def test_operations_without_effect(line: str, event: str) -> None:
    async def scenario(bench: Bench) -> None:
        bench.client.line(line.encode())
        assert [one["event"] for one in bench.events] == [event]

    run(scenario)


def test_the_program_speaks_on_standard_input_and_output() -> None:
    command = [sys.executable, str(HERE / "model_client.py"), "127.0.0.1:1"]
    ops = '{"op": "sync", "id": [1]}\n{"op": "close"}\n'
    done = subprocess.run(
        command, input=ops, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["event"] for event in events] == ["ready", "synced", "closed"]
    assert events[0]["protocol"] == "wmx-driver/1"


def test_flaw_table_matches_the_guards() -> None:
    used: set[str] = set()
    paths = [*HERE.glob("model_client*.py"), *HERE.glob("model_router*.py")]
    for path in [*paths, HERE / "model_wire.py"]:
        used |= set(re.findall(r'"((?:[a-z]{3}|p0)(?:-[a-z0-9]+)+)"', path.read_text()))
    own_words_of_the_worker = {"pay-accepts-bad-subject", "pay-extension-is-body"}
    fields = {name for name in used if name.startswith(("wch-", "wmx-"))}
    assert used - own_words_of_the_worker - fields == set(FLAWS)
    for flaw in FLAWS.values():
        assert re.fullmatch(r"([A-Z]{3}|P0)-\d{3}", flaw.requirement)
        assert flaw.name.startswith(flaw.requirement.partition("-")[0].lower() + "-")
        assert flaw.what


def test_a_flaw_says_that_it_was_reached(capsys: pytest.CaptureFixture[str]) -> None:
    async def scenario(bench: Bench) -> None:
        conn = await bench.ready()
        conn.send(w.frame(w.HEARTBEAT, subtype=w.PING, payload=b"12345678"))
        _head, payload = await conn.until(w.HEARTBEAT, w.PONG)
        assert payload == b"87654321"

    bench = run(scenario, ("hbt-wrong-pong",))
    assert bench.client.reached == {"hbt-wrong-pong"}
    assert capsys.readouterr().err == "flaw reached: hbt-wrong-pong\n"
