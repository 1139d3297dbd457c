"""The pump against a transport and a clock that the test owns."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest
from fake_transport import FakeTransport
from io_harness import HELLO, PREFACE, VirtualLoop
from muxwire._generated import codec
from muxwire.core.client import ClientConnection
from muxwire.core.config import Config
from muxwire.core.connection import Connection
from muxwire.core.events import ConnectionEnded, Event, RequestReceived
from muxwire.core.settings import Settings
from muxwire.core.worker import WorkerConnection
from muxwire.tcp.pump import UNSENT_LIMIT, Pump

pytestmark = pytest.mark.usefixtures("virtual_time")


async def turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def virtual(seconds: float) -> None:
    """Let virtual time pass."""
    await asyncio.sleep(seconds)


class Driven:
    """A pump with a core and a fake transport."""

    def __init__(
        self, core: Connection[Any], on_event: Callable[[Event], None] | None = None
    ) -> None:
        self.core = core
        self.events: list[Event] = []
        self.closed = 0
        self.transport = FakeTransport()
        self.pump = Pump(core, on_event or self.events.append, self._on_closed)
        self.transport.protocol = self.pump
        self.pump.connection_made(self.transport)

    def _on_closed(self) -> None:
        self.closed += 1

    def lose(self) -> None:
        self.transport.lose()


entropy = random.Random(1).randbytes


def client(**options: Any) -> Driven:
    now = asyncio.get_running_loop().time()
    return Driven(ClientConnection(Config(**options), now, entropy))


def worker(on_event: Callable[[Event], None] | None = None, **options: Any) -> Driven:
    now = asyncio.get_running_loop().time()
    core = WorkerConnection(Config(**options), now, entropy, subjects=[b"any"])
    return Driven(core, on_event)


def opening(number: int) -> bytes:
    payload = codec.encode_open(0, 0, b"any", [])
    return codec.request_header(5, 0, len(payload), number.to_bytes(16, "big")) + payload


WIDE = PREFACE + codec.encode_settings([(3, 1 << 30), (4, 1 << 30)]) + codec.encode_settings_ack()


# -- writing ---------------------------------------------------------------------------------------


async def test_the_handshake_is_one_write() -> None:
    driven = client()
    assert len(driven.transport.writes) == 1
    assert driven.transport.writes[0].startswith(PREFACE)
    assert driven.transport.high == 0
    driven.lose()


async def test_many_calls_of_one_turn_leave_in_one_write() -> None:
    driven = client()
    driven.pump.data_received(HELLO)
    driven.transport.writes.clear()
    core = driven.core
    assert isinstance(core, ClientConnection)
    for _ in range(50):
        core.open(b"any", now=0, data=b"hi")
        driven.pump.touch()
    assert driven.transport.writes == []
    await turns()
    (written,) = driven.transport.writes
    assert written.count(b"any") == 50
    driven.lose()


async def test_answers_to_one_segment_leave_in_one_write() -> None:
    driven = worker()
    driven.pump.data_received(HELLO + codec.encode_ping(b"12345678") * 20)
    (written,) = driven.transport.writes
    assert written.startswith(PREFACE)
    assert written.count(b"12345678") == 20
    driven.lose()


async def test_what_an_event_causes_leaves_in_the_same_turn() -> None:
    """FAI-004."""

    def answer(event: Event) -> None:
        if isinstance(event, RequestReceived):
            assert isinstance(driven.core, WorkerConnection)
            driven.core.finish(event.request_id)
            driven.pump.touch()

    driven = worker(answer)
    driven.pump.data_received(HELLO + opening(1) + opening(2))
    (written,) = driven.transport.writes
    assert written.count(codec.response_header(1, 0, 0, (1).to_bytes(16, "big"))) == 1
    assert written.count(codec.response_header(1, 0, 0, (2).to_bytes(16, "big"))) == 1
    driven.lose()


async def test_a_full_transport_pauses_the_core_and_not_the_reading() -> None:
    driven = client()
    driven.pump.data_received(WIDE)
    driven.transport.hold = True
    core = driven.core
    assert isinstance(core, ClientConnection)
    core.open(b"any", now=0, data=bytes(1 << 20))
    driven.pump.touch()
    await turns()
    before = len(driven.transport.writes)
    assert UNSENT_LIMIT <= driven.transport.buffer < 2 * UNSENT_LIMIT
    driven.pump.data_received(codec.encode_ping(b"12345678"))  # FLW-011
    await turns()
    assert len(driven.transport.writes) == before
    driven.transport.release()
    await turns()
    assert b"12345678" in driven.transport.writes[before][:40]  # FAI-001: ahead of the data
    while driven.transport.buffer:
        driven.transport.release()
        await turns()
    assert sum(map(len, driven.transport.writes)) > 1 << 20
    driven.lose()


async def test_octets_are_reported_as_the_kernel_takes_them() -> None:
    driven = client()
    driven.pump.data_received(WIDE)
    heartbeat = driven.core._heartbeat
    assert heartbeat.unwritten == 0
    driven.transport.hold = True
    assert isinstance(driven.core, ClientConnection)
    driven.core.open(b"any", now=0, data=bytes(1 << 20))
    driven.pump.touch()
    await turns()
    assert heartbeat.unwritten == driven.transport.buffer
    driven.transport.release(100_000)
    driven.pump._report(asyncio.get_running_loop().time())
    assert heartbeat.unwritten == driven.transport.buffer
    while driven.transport.buffer:
        driven.transport.release()
        await turns()
    driven.pump._report(asyncio.get_running_loop().time())
    assert heartbeat.unwritten == 0
    driven.lose()


async def test_what_the_kernel_took_last_is_reported_at_once() -> None:
    """HBT-001 counts from the last octet, however late the turn comes that writes on."""
    driven = client()
    driven.pump.data_received(WIDE)
    driven.transport.hold = True
    assert isinstance(driven.core, ClientConnection)
    driven.core.open(b"any", now=0, data=b"hi")
    driven.pump.touch()
    await turns()
    assert driven.core._heartbeat.unwritten == driven.transport.buffer > 0
    driven.transport.release()
    assert driven.core._heartbeat.unwritten == 0
    driven.lose()


# -- closing ---------------------------------------------------------------------------------------


async def test_an_error_is_written_then_half_closed_then_closed() -> None:
    driven = worker()
    driven.pump.data_received(HELLO + bytes(32))
    assert b"FRM-002" in driven.transport.writes[-1]
    assert driven.transport.calls == ["write_eof"]
    driven.pump.data_received(b"more that nobody wants")
    assert driven.transport.calls == ["write_eof"]
    driven.pump.eof_received()
    assert driven.transport.calls == ["write_eof", "close"]
    driven.lose()
    assert isinstance(driven.events[-1], ConnectionEnded)
    assert driven.closed == 1


async def test_a_peer_that_does_not_end_is_closed_after_the_linger() -> None:
    loop = asyncio.get_running_loop()
    driven = worker()
    driven.pump.data_received(HELLO + bytes(32))
    start = loop.time()
    while "close" not in driven.transport.calls:
        driven.pump.data_received(b"dribble")
        await virtual(0.1)
    assert 0.9 <= loop.time() - start <= 1.2
    assert driven.transport.calls == ["write_eof", "close"]
    driven.lose()


async def test_a_half_close_waits_for_the_goaway() -> None:
    driven = worker()
    driven.pump.data_received(HELLO)
    driven.transport.hold = True
    driven.transport.write(bytes(UNSENT_LIMIT))
    driven.pump.data_received(bytes(32))
    await turns()
    assert driven.transport.calls == []
    driven.transport.hold = False
    driven.transport.release()
    await turns()
    assert b"FRM-002" in driven.transport.writes[-1]
    assert driven.transport.calls == ["write_eof"]
    driven.lose()


@pytest.mark.parametrize("closing", [False, True])
async def test_a_peer_that_reads_nothing_is_reset_after_the_linger(closing: bool) -> None:
    driven = client()
    driven.pump.data_received(WIDE)
    driven.transport.hold = True
    assert isinstance(driven.core, ClientConnection)
    driven.core.open(b"any", now=0, data=bytes(1 << 20))
    driven.pump.touch()
    await turns()
    if closing:
        driven.core.close(asyncio.get_running_loop().time())
        driven.pump.touch()
    else:
        driven.pump.data_received(bytes(32))
    await virtual(0.9)
    assert driven.transport.calls == []
    await virtual(0.2)
    assert driven.transport.was_reset
    driven.lose()


async def test_the_end_of_the_peer_closes_after_what_is_written() -> None:
    driven = worker()
    driven.pump.data_received(HELLO)
    assert driven.pump.eof_received() is True
    assert driven.transport.calls == ["close"]
    driven.lose()
    driven.lose()


async def test_a_half_close_of_a_dead_socket_is_no_fault() -> None:
    driven = worker()
    driven.pump.data_received(HELLO)

    def dead() -> None:
        raise OSError(107, "Transport endpoint is not connected")

    driven.transport.write_eof = dead  # type: ignore[method-assign]
    driven.pump.data_received(bytes(32))
    assert driven.transport.calls == []
    driven.lose()
    assert driven.closed == 1


async def test_a_lost_connection_is_reported_once_and_has_no_timer() -> None:
    driven = worker()
    driven.pump.data_received(HELLO)
    driven.lose()
    assert driven.closed == 1
    assert isinstance(driven.events[-1], ConnectionEnded)
    driven.pump.touch()
    driven.pump.abort()
    await virtual(1_000)
    assert driven.transport.calls == []
    assert [type(event) for event in driven.events].count(ConnectionEnded) == 1


async def test_an_end_before_the_beginning_closes_at_once() -> None:
    loop = asyncio.get_running_loop()
    core = WorkerConnection(Config(), loop.time(), entropy, subjects=[])
    transport = FakeTransport()
    pump = Pump(core, lambda _: None, lambda: None)
    core.drain(0, loop.time())
    pump.touch()
    await turns()
    pump.connection_made(transport)
    assert transport.calls == ["close"]
    assert transport.writes == []
    pump.connection_lost(None)


# -- faults of ours --------------------------------------------------------------------------------


async def test_an_event_that_cannot_be_handled_resets_and_loses_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seen: list[Event] = []

    def handle(event: Event) -> None:
        seen.append(event)
        if isinstance(event, RequestReceived):
            raise ZeroDivisionError

    driven = worker(handle)
    driven.pump.data_received(HELLO + opening(1) + opening(2))
    assert len([event for event in seen if isinstance(event, RequestReceived)]) == 2
    assert driven.transport.was_reset
    driven.lose()
    assert isinstance(seen[-1], ConnectionEnded)
    assert driven.closed == 1

    assert caplog.text.count("internal fault") == 2


@pytest.mark.parametrize("method", ["data_to_send", "next_timeout", "handle_timeout"])
async def test_a_core_that_fails_resets_the_connection(
    method: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = worker()
    driven.pump.data_received(HELLO)

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(driven.core, method, fail)
        driven.pump.touch()
        await virtual(120)
    assert driven.transport.was_reset
    driven.lose()
    assert driven.closed == 1

    assert "internal fault" in caplog.text


# -- time ------------------------------------------------------------------------------------------


async def test_a_silent_handshake_ends_in_its_time_and_without_an_octet() -> None:
    driven = worker()
    await virtual(4.9)
    assert driven.transport.calls == []
    await virtual(0.2)
    assert driven.transport.calls == ["close"]
    assert driven.transport.writes == []
    driven.lose()


async def test_pings_go_out_in_time_while_nothing_else_does() -> None:
    driven = worker()
    idle = codec.encode_settings([(7, 1_000)])
    driven.pump.data_received(PREFACE + idle + codec.encode_settings_ack())
    driven.transport.writes.clear()
    for _ in range(20):
        await virtual(0.5)
        assert driven.transport.writes[-1][:4] == codec.encode_ping(bytes(8))[:4]
    assert 20 <= len(driven.transport.writes) <= 40
    driven.lose()


async def test_a_silent_peer_is_told_so() -> None:
    driven = worker(settings=Settings.recommended(idle_timeout_ms=1_000))
    driven.pump.data_received(HELLO)
    ping = codec.encode_ping(bytes(8))
    for octets in (ping[:1], ping[1:]):  # HBT-004: any octet is a sign of life
        await virtual(0.9)
        driven.pump.data_received(octets)
    await virtual(0.9)
    assert driven.transport.calls == []
    await virtual(0.2)
    assert b"HBT-003" in driven.transport.writes[-1]
    assert driven.transport.calls == ["write_eof"]
    driven.lose()


async def test_what_waits_in_the_socket_is_read_before_the_timer_acts() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    settings = Settings.recommended(idle_timeout_ms=1_000)
    driven = worker(settings=settings)
    driven.pump.data_received(HELLO)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        loop.add_reader(ours, lambda: driven.pump.data_received(ours.recv(100)))
        theirs.send(codec.encode_ping(bytes(8)))
        loop.now += 5  # this process was busy
        await turns()
        assert driven.transport.calls == []
        await virtual(0.9)
        assert driven.transport.calls == []
        await virtual(0.2)
        assert driven.transport.calls == ["write_eof"]
        loop.remove_reader(ours)
    driven.lose()


async def test_a_peer_that_reads_nothing_is_reset_in_its_time() -> None:
    settings = Settings.recommended(idle_timeout_ms=3_000)
    driven = client(settings=settings)
    driven.pump.data_received(WIDE)
    driven.transport.hold = True
    assert isinstance(driven.core, ClientConnection)
    driven.core.open(b"any", now=0, data=bytes(1 << 20))
    driven.pump.touch()
    await turns()
    for _ in range(4):
        await virtual(0.7)
        driven.pump.data_received(codec.encode_ping(bytes(8)))
        assert driven.transport.calls == []
    await virtual(0.7)
    assert driven.transport.was_reset
    driven.lose()


async def test_a_paused_pump_does_not_spin_or_pile_up_pings() -> None:
    loop = asyncio.get_running_loop()
    driven = client()
    idle = codec.encode_settings([(3, 1 << 30), (4, 1 << 30), (7, 100)])
    driven.pump.data_received(PREFACE + idle + codec.encode_settings_ack())
    driven.transport.hold = True
    assert isinstance(driven.core, ClientConnection)
    driven.core.open(b"any", now=0, data=bytes(1 << 20))
    driven.pump.touch()
    await turns()
    start = loop.time()
    for _ in range(200):
        await asyncio.sleep(0)
    calls = 0
    expired = driven.pump._expired

    def count() -> None:
        nonlocal calls
        calls += 1
        expired()

    driven.pump._expired = count  # type: ignore[method-assign]
    await virtual(1.0)
    assert loop.time() > start + 0.99
    assert calls <= 50
    assert driven.core._scheduler.control_size <= 50 * 40
    driven.lose()


async def test_a_timer_is_not_rearmed_for_every_octet() -> None:
    driven = worker()
    driven.pump.data_received(HELLO)
    timer = driven.pump._timer
    for _ in range(100):
        driven.pump.data_received(codec.encode_ping(bytes(8)))
    assert driven.pump._timer is timer
    driven.lose()


async def test_pings_go_out_in_time_after_octets_that_had_to_wait() -> None:
    driven = client()
    idle = codec.encode_settings([(3, 1 << 30), (4, 1 << 30), (7, 1_000)])
    driven.pump.data_received(PREFACE + idle + codec.encode_settings_ack())
    driven.transport.hold = True
    assert isinstance(driven.core, ClientConnection)
    driven.core.open(b"any", now=0, data=bytes(1_000))
    driven.pump.touch()
    await turns()
    driven.transport.hold = False
    driven.transport.release()
    await turns()
    driven.transport.writes.clear()
    await virtual(0.5)
    assert driven.transport.writes[-1][:4] == codec.encode_ping(bytes(8))[:4]
    driven.lose()
