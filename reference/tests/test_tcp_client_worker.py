"""A client and a worker, over real sockets, in asyncio's loop and in uvloop's."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

import muxwire
import pytest
from io_harness import (
    connect_once,
    connected,
    drained,
    never,
    small,
    until,
)
from muxwire import Outcome, Request
from muxwire.tcp.address import parse
from muxwire.tcp.pump import Pump

pytestmark = pytest.mark.usefixtures("each_loop")

MIB = 1 << 20


async def echo(request: Request) -> AsyncGenerator[bytes, None]:
    async for message in request:
        yield message


async def count(request: Request) -> AsyncGenerator[bytes, None]:
    for number in range(int(await request.read() or b"0")):
        yield b"%d" % number


async def forever(request: Request) -> bytes:
    await never()
    return request.request_id


async def nothing(request: Request) -> None:
    await request.read()


async def length(request: Request) -> bytes:
    total = 0
    async for message in request:
        total += len(message)
    return b"%d" % total


class Gate:
    """A handler that tells how far it got, and can be held there."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.release = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.closed = asyncio.Event()

    async def answer(self, _: Request) -> bytes:
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b"done"

    async def stream(self, request: Request) -> AsyncGenerator[bytes, None]:
        try:
            yield b"first"
            yield await self.answer(request)
        finally:
            self.closed.set()


# -- requests --------------------------------------------------------------------------------------


async def test_a_call_has_one_answer() -> None:
    async with connected({"echo": echo}) as (client, _):
        assert await client.call("echo", b"hi") == b"hi"
        assert await client.call("echo", b"") == b""
        assert client.open_requests == 0


async def test_an_answer_without_a_message_is_empty() -> None:
    async with connected({"nothing": nothing}) as (client, _):
        assert await client.call("nothing", b"hi") == b""
        assert [item async for item in client.stream("nothing", b"hi")] == []


async def test_a_stream_has_its_messages_in_order() -> None:
    async with connected({"count": count}) as (client, _):
        items = [item async for item in client.stream("count", b"2000")]
        assert items == [b"%d" % number for number in range(2000)]


async def test_empty_messages_are_messages() -> None:
    sent = [b"", b"a", b"", b"", b"b", b""]
    async with connected({"echo": echo}) as (client, _):
        stream = client.stream("echo")
        await stream.send_all(sent)
        assert [item async for item in stream] == sent


async def test_a_request_may_have_no_message() -> None:
    seen: list[bytes | None] = []

    async def look(request: Request) -> None:
        seen.append(await request.read())
        seen.append(await request.read())

    async with connected({"look": look}) as (client, _):
        assert [item async for item in client.stream("look", None, end=True)] == []
        assert await client.call("look", b"") == b""
        assert seen == [None, None, b"", None]


async def test_both_directions_run_at_once() -> None:
    async with connected({"echo": echo}) as (client, _):
        stream = client.stream("echo", b"0", end=False)
        for number in range(1, 200):
            assert await anext(stream) == b"%d" % (number - 1)
            await stream.send(b"%d" % number)
        stream.end()
        assert [item async for item in stream] == [b"199"]
        assert stream.finished


async def test_messages_can_come_from_an_asynchronous_iterator() -> None:
    async def source() -> AsyncGenerator[bytes, None]:
        for number in range(5):
            await asyncio.sleep(0)
            yield b"%d" % number

    async with connected({"length": length}) as (client, _):
        stream = client.stream("length")
        await stream.send_all(source())
        assert [item async for item in stream] == [b"5"]


@pytest.mark.parametrize("windows", ["recommended", "smallest"])
async def test_messages_of_8_mib_pass_in_both_directions(windows: str) -> None:
    config = small() if windows == "smallest" else muxwire.Config()
    data = bytes(range(256)) * 4 * 8 * 1024
    async with connected({"echo": echo}, config=config) as (client, worker):
        assert len(data) == 8 * MIB
        assert await client.call("echo", data) == data
        stream = client.stream("echo")
        sender = asyncio.ensure_future(stream.send_all([data, data]))
        assert [item == data async for item in stream] == [True, True]
        await sender
        await until(lambda: worker.buffered_bytes() == 0)


async def test_headers_and_trailers_travel() -> None:
    async def about(request: Request) -> AsyncGenerator[bytes, None]:
        request.send_headers([("content-type", "text/plain"), ("x", "\u00e4")])
        request.trailers = [("usage", "3")]
        yield repr(list(request.headers)).encode()
        yield b"%d %d" % (request.timeout_ms, request.idempotent)

    async with connected({"about": about}) as (client, _):
        stream = client.stream(
            "about", b"", headers=[("k", "v"), ("request-id", "7")], timeout=1.5, idempotent=True
        )
        assert await stream.headers() == [("content-type", "text/plain"), ("x", "\u00e4")]
        received, about_it = [item async for item in stream]
        assert received == b"[('k', 'v'), ('request-id', '7')]"
        assert about_it in (b"1500 1", b"1499 1")
        assert stream.trailers == [("usage", "3")]
        assert await stream.headers() == [("content-type", "text/plain"), ("x", "\u00e4")]


async def test_headers_can_be_read_before_any_message() -> None:
    gate = Gate()

    async def early(request: Request) -> bytes:
        request.send_headers([("a", "1")])
        return await gate.answer(request)

    async with connected({"early": early}) as (client, _):
        stream = client.stream("early", b"")
        assert await stream.headers() == [("a", "1")]
        gate.release.set()
        assert [item async for item in stream] == [b"done"]


async def test_headers_of_a_failed_request_are_its_error() -> None:
    async with connected() as (client, _):
        with pytest.raises(muxwire.NotFound):
            await client.stream("none", b"").headers()


async def test_a_handler_may_send_headers_once_and_before_messages() -> None:
    async def twice(request: Request) -> AsyncGenerator[bytes, None]:
        with pytest.raises(muxwire.InvalidArgument):
            request.send_headers([("", "no key")])
        request.send_headers([("a", "1")])
        with pytest.raises(muxwire.RequestClosed):
            request.send_headers([("b", "2")])
        yield b"ok"

    async def late(request: Request) -> AsyncGenerator[bytes, None]:
        yield b"first"
        with pytest.raises(muxwire.RequestClosed):
            request.send_headers([("a", "1")])

    async with connected({"twice": twice, "late": late}) as (client, _):
        assert await client.call("twice") == b"ok"
        assert await client.call("late") == b"first"


# -- errors ----------------------------------------------------------------------------------------


async def test_a_subject_that_nobody_serves_is_not_processed() -> None:
    async with connected() as (client, worker):
        with pytest.raises(muxwire.NotFound) as caught:
            await client.call("none", b"")
        assert caught.value.outcome is Outcome.NOT_PROCESSED
        assert caught.value.not_processed
        assert not caught.value.local
        assert worker.statistics.opened == 0


async def test_what_a_handler_breaks_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: Request) -> AsyncGenerator[bytes, None]:
        yield b"a"
        raise RuntimeError("the secret")

    async with connected({"broken": broken, "echo": echo}) as (client, _):
        stream = client.stream("broken", b"")
        assert await anext(stream) == b"a"
        with pytest.raises(muxwire.ApplicationError) as caught:
            await anext(stream)
        error = caught.value
        assert (error.code_name, error.outcome, error.messages) == (
            "APPLICATION_ERROR",
            Outcome.FAILED,
            1,
        )
        assert "secret" not in str(error)
        assert "the secret" in caplog.text
        assert await client.call("echo", b"hi") == b"hi"


async def test_a_handler_chooses_its_error() -> None:
    async def refuse(_: Request) -> AsyncGenerator[bytes, None]:
        yield b"a"
        yield b"b"
        raise muxwire.HandlerError(
            "out of memory",
            code=muxwire.ErrorCode.OVERLOADED,
            detail=b"\x00\x01",
            retry_after_ms=70,
            non_retryable=True,
        )

    async with connected({"refuse": refuse}) as (client, _):
        items, error = await drained(client.stream("refuse", b""))
        assert items == [b"a", b"b"]
        assert isinstance(error, muxwire.Overloaded)
        assert (error.message, error.detail) == ("out of memory", b"\x00\x01")
        assert (error.retry_after_ms, error.non_retryable) == (70, True)
        assert (error.outcome, error.messages) == (Outcome.FAILED, 2)


@pytest.mark.parametrize(
    "error",
    [
        muxwire.HandlerError(code=-1, retry_after_ms=-1),
        muxwire.HandlerError("\ud800" * 3000, detail=bytes(10_000), retry_after_ms=1 << 40),
        muxwire.HandlerError(code="ten"),  # type: ignore[arg-type]
        muxwire.HandlerError(detail="text"),  # type: ignore[arg-type]
        muxwire.HandlerError(b"text"),  # type: ignore[arg-type]
    ],
)
async def test_a_handler_error_that_makes_no_sense_still_ends_the_request(
    error: muxwire.HandlerError,
) -> None:
    async def refuse(_: Request) -> None:
        raise error

    async with connected({"refuse": refuse, "echo": echo}) as (client, _):
        with pytest.raises(muxwire.ApplicationError):
            await client.call("refuse")
        assert await client.call("echo", b"hi") == b"hi"


async def not_bytes(_: Request) -> str:
    return "text"


async def yields_text(_: Request) -> AsyncGenerator[str, None]:
    yield "text"


def not_async(_: Request) -> bytes:
    return b"text"


async def bad_trailers(request: Request) -> bytes:
    request.trailers = [("a", "\ud800")]
    return b"ok"


async def raises_at_once(_: Request) -> bytes:
    raise ValueError


@pytest.mark.parametrize(
    "handler", [not_bytes, yields_text, not_async, bad_trailers, raises_at_once]
)
async def test_a_handler_that_is_wrong_fails_its_request_only(handler: muxwire.Handler) -> None:
    async with connected({"wrong": handler, "echo": echo}) as (client, _):
        stream = client.stream("echo", b"1", end=False)
        assert await anext(stream) == b"1"
        with pytest.raises(muxwire.ApplicationError):
            await client.call("wrong")
        await stream.send(b"2", end=True)
        assert await anext(stream) == b"2"


@pytest.mark.parametrize("size", [40_000, 300_000])
async def test_trailers_above_the_limit_fail_the_request(size: int) -> None:
    async def heavy(request: Request) -> bytes:
        request.trailers = [(f"k{n}", "v" * 8_000) for n in range(size // 8_000)]
        return b"ok"

    async with connected({"heavy": heavy, "echo": echo}) as (client, _):
        with pytest.raises(muxwire.WorkerError):
            await client.call("heavy")
        assert await client.call("echo", b"hi") == b"hi"


async def test_a_message_above_the_clients_limit_fails_the_request() -> None:
    async def heavy(_: Request) -> bytes:
        return bytes(MIB + 1)

    config = small(max_message_size=MIB)
    async with connected({"heavy": heavy, "echo": echo}, config=config) as (client, worker):
        with pytest.raises(muxwire.RequestTooLarge) as caught:
            await client.call("heavy")
        assert caught.value.non_retryable
        await until(lambda: worker.statistics.active == 0)
        assert await client.call("echo", b"hi") == b"hi"


async def test_what_the_client_may_not_send_is_refused_at_once() -> None:
    config = small(max_message_size=MIB)
    async with connected({"echo": echo}, config=config) as (client, worker):
        for timeout in (0, -1, float("nan"), float("inf"), 5e6):
            with pytest.raises(muxwire.InvalidArgument):
                await client.call("echo", timeout=timeout)
        with pytest.raises(muxwire.InvalidArgument):
            await client.call("\ud800")
        with pytest.raises(muxwire.InvalidArgument):
            await client.call("echo", headers=[("k", "\ud800")])
        with pytest.raises(muxwire.InvalidArgument):
            client.stream("")
        with pytest.raises(TypeError):
            await client.call("echo", "text")  # type: ignore[arg-type]
        stream = client.stream("echo")
        with pytest.raises(TypeError):
            await stream.send("text")  # type: ignore[arg-type]
        with pytest.raises(muxwire.MessageTooLarge):
            await stream.send(bytes(worker.config.settings.max_message_size + 1))
        await stream.send(b"hi", end=True)
        with pytest.raises(muxwire.RequestClosed):
            await stream.send(b"more")
        with pytest.raises(muxwire.RequestClosed):
            stream.end()
        assert [item async for item in stream] == [b"hi"]
        assert worker.statistics.opened == 1


async def test_a_call_with_several_answers_is_told_so() -> None:
    gate = Gate()

    async def several(request: Request) -> AsyncGenerator[bytes, None]:
        async with aclosing(gate.stream(request)) as messages:
            yield b"zeroth"
            async for message in messages:
                yield message

    async with connected({"several": several}) as (client, _):
        with pytest.raises(muxwire.LocalProtocolError, match="use stream"):
            await client.call("several")
        await gate.closed.wait()
        await until(lambda: client.open_requests == 0)


async def test_one_task_at_a_time_reads_a_stream_and_sends_on_it() -> None:
    async with connected({"forever": forever}, config=small()) as (client, _):
        stream = client.stream("forever")
        reader = asyncio.ensure_future(anext(stream))
        sender = asyncio.ensure_future(stream.send_all([bytes(65_536)] * 20))
        await until(lambda: stream._inbox.writable and stream._inbox.readable)
        with pytest.raises(muxwire.LocalProtocolError, match="two tasks"):
            await anext(stream)
        with pytest.raises(muxwire.LocalProtocolError, match="two tasks"):
            await stream.send(b"")
        stream.kill()
        with pytest.raises(muxwire.RequestCancelled):
            await reader
        with pytest.raises(muxwire.RequestClosed):
            await sender


# -- backpressure ----------------------------------------------------------------------------------


async def test_a_handler_is_suspended_while_its_client_does_not_read() -> None:
    produced = 0

    async def source(_: Request) -> AsyncGenerator[bytes, None]:
        nonlocal produced
        while produced < 200:
            produced += 1
            yield bytes(65_536)

    async with connected({"source": source, "echo": echo}, config=small()) as (client, worker):
        stream = client.stream("source", b"")
        await until(lambda: worker.buffered_bytes() > 130_000)
        for _ in range(20):
            assert await client.call("echo", b"hi") == b"hi"
        held = produced
        assert held * 65_536 < 600_000
        assert worker.buffered_bytes() < MIB
        for _ in range(20):
            assert await client.call("echo", b"hi") == b"hi"
        assert produced == held
        assert sum([1 async for _ in stream]) == 200


async def test_a_sender_is_suspended_while_the_handler_does_not_read() -> None:
    gate = Gate()

    async def late(request: Request) -> bytes:
        await gate.release.wait()
        return await length(request)

    sent = 0
    async with connected({"late": late, "echo": echo}) as (client, worker):
        stream = client.stream("late")

        async def send() -> None:
            nonlocal sent
            for _ in range(200):
                await stream.send(bytes(65_536))
                sent += 1
            stream.end()

        sender = asyncio.ensure_future(send())
        await until(lambda: worker.buffered_bytes() > 200_000)
        for _ in range(20):
            assert await client.call("echo", b"hi") == b"hi"
        held = sent
        assert held * 65_536 < MIB
        assert worker.buffered_bytes() <= 262_144
        gate.release.set()
        assert [item async for item in stream] == [b"%d" % (200 * 65_536)]
        await sender


async def test_a_large_message_that_nobody_waits_for_stays_at_its_sender() -> None:
    gate = Gate()

    async def late(request: Request) -> bytes:
        await gate.release.wait()
        return await length(request)

    async with connected({"late": late, "echo": echo}) as (client, worker):
        stream = client.stream("late")
        await stream.send(bytes(8 * MIB), end=True)
        await until(lambda: worker.buffered_bytes() > 200_000)
        for _ in range(20):
            assert await client.call("echo", b"hi") == b"hi"
        assert worker.buffered_bytes() <= 262_144
        gate.release.set()
        assert [item async for item in stream] == [b"%d" % (8 * MIB)]


async def test_a_slow_stream_does_not_block_others() -> None:
    async def source(_: Request) -> AsyncGenerator[bytes, None]:
        for _ in range(100):
            yield bytes(65_536)

    async with connected({"source": source, "echo": echo}, config=small()) as (client, _):
        slow = [client.stream("source", b"") for _ in range(20)]
        for _ in range(10):
            assert len(await client.call("echo", bytes(100_000))) == 100_000
        fast = client.stream("source", b"")
        assert sum([1 async for _ in fast]) == 100
        for stream in slow:
            await stream.aclose()


async def finished(stream: muxwire.Stream) -> None:
    await until(lambda: stream.finished)


async def test_credit_of_what_nobody_reads_comes_back() -> None:
    async def burst(_: Request) -> AsyncGenerator[bytes, None]:
        for _ in range(50):
            yield bytes(1_000)

    async with connected({"burst": burst}, config=small()) as (client, _):
        for turn in range(40):
            stream = client.stream("burst", b"")
            assert await anext(stream) == bytes(1_000)
            await finished(stream)
            if turn % 2:
                await stream.aclose()
            del stream
        await until(lambda: client.buffered_bytes == 0)


# -- giving up -------------------------------------------------------------------------------------


async def test_a_deadline_ends_the_request_here_and_there() -> None:
    gate = Gate()
    async with connected({"gate": gate.answer}) as (client, _):
        with pytest.raises(muxwire.DeadlineExceeded) as caught:
            await client.call("gate", timeout=0.02)
        assert not caught.value.local
        await gate.cancelled.wait()


async def test_stop_ends_a_stream_early_and_well() -> None:
    async def ticks(request: Request) -> AsyncGenerator[bytes, None]:
        yield b"tick"
        await request.wait_stopped()
        assert request.stopped
        request.trailers = [("usage", "1")]
        yield b"last"

    async with connected({"ticks": ticks}) as (client, worker):
        stream = client.stream("ticks", b"")
        assert await anext(stream) == b"tick"
        stream.stop()
        stream.stop()
        assert [item async for item in stream] == [b"last"]
        assert stream.trailers == [("usage", "1")]
        assert worker.statistics.cancelled == 0


async def test_a_request_killed_before_it_is_written_is_never_sent() -> None:
    async with connected({"echo": echo}) as (client, worker):
        stream = client.stream("echo", b"hi")
        stream.kill()
        with pytest.raises(muxwire.RequestCancelled) as caught:
            await anext(stream)
        assert caught.value.outcome is Outcome.NOT_SENT
        assert await client.call("echo", b"hi") == b"hi"
        assert worker.statistics.opened == 1


async def test_a_kill_stops_the_handler_and_the_stream() -> None:
    """CAN-003."""
    gate = Gate()
    async with connected({"gate": gate.stream}) as (client, worker):
        stream = client.stream("gate", b"")
        assert await anext(stream) == b"first"
        stream.kill()
        stream.kill()
        with pytest.raises(muxwire.RequestCancelled) as caught:
            await anext(stream)
        assert caught.value.outcome is Outcome.FAILED
        await gate.cancelled.wait()
        await gate.closed.wait()
        assert worker.statistics.active == 0
        with pytest.raises(muxwire.RequestClosed):
            await stream.send(b"")


async def test_a_generator_that_waits_for_room_is_closed_by_a_kill() -> None:
    closed = asyncio.Event()

    async def source(_: Request) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield bytes(65_536)
        finally:
            await asyncio.sleep(0)
            closed.set()

    async with connected({"source": source}) as (client, worker):
        stream = client.stream("source", b"")
        await until(lambda: worker.buffered_bytes() > 130_000)
        await stream.aclose()
        await closed.wait()
        await until(lambda: worker.buffered_bytes() == 0)
        assert worker.statistics.active == 0


async def test_a_kill_after_the_end_changes_nothing() -> None:
    async with connected({"count": count}) as (client, _):
        stream = client.stream("count", b"3")
        await until(lambda: stream.finished)
        stream.kill()
        stream.stop()
        assert [item async for item in stream] == [b"0", b"1", b"2"]


async def test_a_cancelled_call_kills_its_request() -> None:
    gate = Gate()
    async with connected({"gate": gate.answer, "echo": echo}) as (client, _):
        call = asyncio.ensure_future(client.call("gate"))
        await gate.started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await gate.cancelled.wait()
        await until(lambda: client.open_requests == 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await client.call("gate")
        assert await client.call("echo", b"hi") == b"hi"


async def test_a_stream_is_killed_where_its_context_ends() -> None:
    gate = Gate()
    async with connected({"gate": gate.stream}) as (client, _):
        async with client.stream("gate", b"") as stream:
            assert await anext(stream) == b"first"
        await gate.closed.wait()
        with pytest.raises(muxwire.RequestCancelled):
            await anext(stream)


async def test_a_stream_is_killed_when_it_is_let_go() -> None:
    gate = Gate()
    async with connected({"gate": gate.stream}) as (client, _):
        async for item in client.stream("gate", b""):
            assert item == b"first"
            break
        await gate.closed.wait()
        await until(lambda: client.open_requests == 0)


async def test_a_stream_may_be_collected_in_another_thread() -> None:
    gate = Gate()
    async with connected({"gate": gate.stream}) as (client, _):
        streams = [client.stream("gate", b"")]
        await gate.started.wait()
        await asyncio.to_thread(streams.clear)
        await gate.closed.wait()
        await until(lambda: client.open_requests == 0)


async def test_a_handler_that_catches_its_cancellation_is_not_heard() -> None:
    gate = Gate()

    async def stubborn(_: Request) -> bytes:
        gate.started.set()
        try:
            await never()
        except asyncio.CancelledError:
            await gate.release.wait()
        gate.closed.set()
        return b"too late"

    async with connected({"stubborn": stubborn, "echo": echo}) as (client, worker):
        stream = client.stream("stubborn", b"")
        await gate.started.wait()
        stream.kill()
        with pytest.raises(muxwire.RequestCancelled):  # CAN-001: in spite of the handler
            await anext(stream)
        assert worker.statistics.active == 1  # CAN-004
        gate.release.set()
        await gate.closed.wait()
        await until(lambda: worker.statistics.active == 0)
        assert await client.call("echo", b"hi") == b"hi"


async def test_a_generator_that_catches_its_cancellation_is_closed() -> None:
    gate = Gate()

    async def stubborn(_: Request) -> AsyncGenerator[bytes, None]:
        gate.started.set()
        try:
            await never()
        except asyncio.CancelledError:
            try:
                while True:  # would never come back to the loop if it were not closed
                    yield b"more"
            finally:
                gate.closed.set()

    async with connected({"stubborn": stubborn, "echo": echo}) as (client, _):
        stream = client.stream("stubborn", b"")
        await gate.started.wait()
        stream.kill()
        await gate.closed.wait()
        assert await client.call("echo", b"hi") == b"hi"


async def test_a_thousand_requests_share_a_connection_of_a_hundred() -> None:
    running = most = 0
    full = asyncio.Event()

    async def busy(request: Request) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 100:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        running -= 1
        return await request.read() or b""

    config = muxwire.Config(settings=muxwire.Settings.recommended(max_concurrent_requests=100))
    async with (
        muxwire.Worker({"busy": busy}, config=config) as worker,
        connect_once(worker.addresses[0]) as client,
    ):
        calls = [client.call("busy", b"%d" % number) for number in range(1_000)]
        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(1_000)]
        assert most == 100
        assert worker.statistics.opened == 1_000


async def test_a_waiting_request_can_be_cancelled() -> None:
    gate = Gate()
    config = muxwire.Config(settings=muxwire.Settings.recommended(max_concurrent_requests=100))
    async with (
        muxwire.Worker({"gate": gate.answer}, config=config) as worker,
        connect_once(worker.addresses[0]) as client,
    ):
        calls = [asyncio.ensure_future(client.call("gate")) for _ in range(101)]
        await until(lambda: worker.statistics.active == 100)
        calls[-1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await calls[-1]
        assert client.open_requests == 100
        gate.release.set()
        assert await asyncio.gather(*calls[:-1]) == [b"done"] * 100
        assert worker.statistics.opened == 100


# -- the end ---------------------------------------------------------------------------------------


async def test_closing_a_client_waits_for_what_runs() -> None:
    gate = Gate()
    async with muxwire.Worker({"gate": gate.answer}) as worker:
        client = await connect_once(worker.addresses[0])
        call = asyncio.ensure_future(client.call("gate"))
        await gate.started.wait()
        closing = asyncio.ensure_future(client.close())
        await until(lambda: not client.accepting)
        with pytest.raises(muxwire.ConnectionClosed, match="the client is closed"):
            await client.call("gate")
        assert not closing.done()
        gate.release.set()
        assert await call == b"done"
        await closing
        await client.wait_closed()


async def test_closing_a_client_at_once_ends_what_runs() -> None:
    gate = Gate()
    async with muxwire.Worker({"gate": gate.stream}) as worker:
        client = await connect_once(worker.addresses[0])
        streams = [client.stream("gate", b"") for _ in range(2)]
        await anext(streams[0])
        await client.close(0)
        for stream in streams:
            _, error = await drained(stream)
            assert isinstance(error, muxwire.ConnectionLost)
        await gate.cancelled.wait()
        await client.close()


async def test_leaving_a_connection_by_an_exception_ends_it_at_once() -> None:
    gate = Gate()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the context is what is tested
        async with connected({"gate": gate.answer}) as (client, _):
            call = asyncio.ensure_future(client.call("gate"))
            await gate.started.wait()
            raise ZeroDivisionError
    with pytest.raises(muxwire.ConnectionLost) as caught:
        await call
    assert caught.value.outcome is Outcome.AMBIGUOUS
    await gate.cancelled.wait()


async def test_a_cancelled_close_leaves_nothing_open() -> None:
    gate = Gate()
    async with muxwire.Worker({"gate": gate.answer}) as worker:
        client = await connect_once(worker.addresses[0])
        call = asyncio.ensure_future(client.call("gate"))
        await gate.started.wait()
        closing = asyncio.ensure_future(client.close())
        await until(lambda: not client.accepting)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await client.wait_closed()
        with pytest.raises(muxwire.ConnectionLost):
            await call


async def test_a_client_and_a_worker_may_close_twice_and_at_once() -> None:
    async with connected({"echo": echo}) as (client, worker):
        await asyncio.gather(client.close(), client.close(0), worker.close(), worker.drain(0.01))
        with pytest.raises(muxwire.ConnectionClosed, match="closed"):
            await client.call("echo")


async def test_a_drain_lets_running_requests_end_and_refuses_new_ones() -> None:
    gate = Gate()
    async with connected({"gate": gate.answer}) as (client, worker):
        address = worker.addresses[0]
        call = asyncio.ensure_future(client.call("gate"))
        await gate.started.wait()
        draining = asyncio.ensure_future(worker.drain())
        await until(lambda: not client.accepting)
        with pytest.raises(muxwire.ConnectionClosed):
            await client.call("gate")
        with pytest.raises(muxwire.DialFailed):
            await connect_once(address)
        gate.release.set()
        assert await call == b"done"
        await draining
        await client.wait_closed()


async def test_a_worker_that_closes_ends_its_requests_with_shutdown() -> None:
    gate = Gate()
    async with connected({"gate": gate.stream}) as (client, worker):
        stream = client.stream("gate", b"")
        await anext(stream)
        await worker.close()
        with pytest.raises(muxwire.WorkerShutdown) as caught:
            await anext(stream)
        assert (caught.value.outcome, caught.value.messages) == (Outcome.FAILED, 1)
        assert gate.closed.is_set()
        assert worker.connections() == 0


async def test_a_handler_may_clean_up_while_its_worker_closes() -> None:
    gate = Gate()
    cleaned = False

    async def careful(_: Request) -> None:
        nonlocal cleaned
        gate.started.set()
        try:
            await never()
        finally:
            for _ in range(50):
                await asyncio.sleep(0.001)
            cleaned = True

    async with connected({"careful": careful}) as (client, worker):
        call = asyncio.ensure_future(client.call("careful"))
        await gate.started.wait()
        await worker.close()
        assert cleaned
        with pytest.raises(muxwire.WorkerShutdown):
            await call


async def test_a_handler_that_refuses_to_end_does_not_hold_a_closing_worker() -> None:
    gate = Gate()

    async def stubborn(_: Request) -> None:
        gate.started.set()
        while not gate.release.is_set():
            try:
                await gate.release.wait()
            except asyncio.CancelledError:
                continue

    config = muxwire.Config(linger=0.05)
    async with connected({"stubborn": stubborn}, config=config) as (client, _):
        pass
    async with (
        muxwire.Worker({"stubborn": stubborn}, config=config) as worker,
        connect_once(worker.addresses[0]) as client,
    ):
        call = asyncio.ensure_future(client.call("stubborn"))
        await gate.started.wait()
        await worker.close()
        assert worker.running_handlers == 1
        with pytest.raises(muxwire.WorkerShutdown):
            await call
        gate.release.set()
        await until(lambda: not worker.running_handlers)


async def test_a_worker_may_drain_one_connection() -> None:
    async def leave(request: Request) -> bytes:
        request.drain_connection(1_000)
        return b"ok"

    async with (
        connected({"leave": leave, "echo": echo}) as (client, worker),
        connect_once(worker.addresses[0]) as other,
    ):
        assert await client.call("leave") == b"ok"
        await client.wait_closed()
        assert await other.call("echo", b"hi") == b"hi"


# -- listening -------------------------------------------------------------------------------------


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
async def test_ipv6_works_on_both_sides() -> None:
    worker = muxwire.Worker({"echo": echo})
    try:
        await worker.start("::1", 0)
    except OSError:
        pytest.skip("no IPv6 loopback")
    async with worker:
        assert worker.addresses[0].startswith("[::1]:")
        async with connect_once(worker.addresses[0]) as client:
            assert await client.call("echo", b"hi") == b"hi"


async def test_a_worker_may_listen_at_several_addresses() -> None:
    worker = muxwire.Worker({"echo": echo})
    await worker.start()
    await worker.start()
    async with worker:
        assert len(set(worker.addresses)) == 2
        for address in worker.addresses:
            async with connect_once(address) as client:
                assert await client.call("echo", b"hi") == b"hi"
    assert worker.addresses == []


async def test_a_worker_may_start_again() -> None:
    worker = muxwire.Worker({"echo": echo})
    for _ in range(2):
        async with worker, connect_once(worker.addresses[0]) as client:
            assert await client.call("echo", b"hi") == b"hi"


async def test_an_address_in_use_is_an_os_error() -> None:
    async with muxwire.Worker({}) as worker:
        port = int(worker.addresses[0].rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            await muxwire.Worker({}).start("127.0.0.1", port)


async def test_the_connection_limit_refuses_and_spares_the_others() -> None:
    async with muxwire.Worker({"echo": echo}, max_connections=1) as worker:
        async with connect_once(worker.addresses[0]) as client:
            with pytest.raises(muxwire.ConnectionRefused) as caught:
                await connect_once(worker.addresses[0])
            assert caught.value.code_name == "CONNECTION_LIMIT"
            assert caught.value.by_peer
            assert await client.call("echo", b"hi") == b"hi"
        await until(lambda: worker.connections() == 0)
        async with connect_once(worker.addresses[0]) as client:
            assert await client.call("echo", b"hi") == b"hi"


@pytest.mark.parametrize(
    ("handlers", "options"),
    [
        ({"a": 1}, {}),
        ({1: echo}, {}),
        ({"\ud800": echo}, {}),
        ({}, {"max_connections": 0}),
        ({}, {"max_pending": 0}),
    ],
)
async def test_a_worker_that_makes_no_sense_is_refused(handlers: object, options: object) -> None:
    with pytest.raises(muxwire.InvalidArgument):
        muxwire.Worker(handlers, **options)  # type: ignore[arg-type]


async def test_ends_of_connections_are_logged_once_on_each_side(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "muxwire.connection")
    gate = Gate()
    async with connected({"gate": gate.answer}) as (client, _):
        call = asyncio.ensure_future(client.call("gate"))
        await gate.started.wait()
        client.abort()
        await client.wait_closed()
        with pytest.raises(muxwire.ConnectionLost):
            await call
        await gate.cancelled.wait()
    ends = [record.getMessage() for record in caplog.records]
    assert len(ends) == 2
    for line in ends:
        assert "peer=127.0.0.1:" in line
        assert "requests_lost=1" in line


# -- without a connection --------------------------------------------------------------------------


async def test_a_sender_goes_on_when_there_is_a_connection_again() -> None:
    first = muxwire.Worker({})
    await first.start()
    (address,) = first.addresses
    async with muxwire.connect(address, connections=1) as client:
        await first.close()
        await until(lambda: not client.accepting)
        stream = client.stream("length")
        await stream.send(bytes(MIB))  # as much as is kept (FLW-010)
        sender = asyncio.ensure_future(stream.send(b"x", end=True))
        await until(lambda: stream._inbox.writable)
        second = muxwire.Worker({"length": length})
        await second.start(*parse(address))
        async with second:
            assert [item async for item in stream] == [b"%d" % (MIB + 1)]
            await sender
            await client.close()


async def test_a_request_that_is_given_up_waits_for_no_connection() -> None:
    async with muxwire.Worker({}) as worker:
        client = await muxwire.connect(worker.addresses[0], connections=1)
        await worker.close()
        await until(lambda: not client.accepting)
        call = asyncio.ensure_future(client.call("any"))
        stream = client.stream("any", b"")
        await until(lambda: client.open_requests == 2)
        call.cancel()
        stream.kill()
        with pytest.raises(asyncio.CancelledError):
            await call
        with pytest.raises(muxwire.RequestCancelled):
            await anext(stream)
        assert client.open_requests == 0
        await client.close()


# -- the sockets and the defaults ------------------------------------------------------------------


async def test_small_frames_do_not_wait_in_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAI-004, FAI-005: on both sides."""
    transports: list[asyncio.Transport] = []
    take = Pump.connection_made

    def noted(pump: Pump, transport: asyncio.Transport) -> None:
        transports.append(transport)
        take(pump, transport)

    monkeypatch.setattr(Pump, "connection_made", noted)
    async with connected({"echo": echo}) as (client, _):
        assert await client.call("echo", b"hi") == b"hi"
        assert len(transports) == 2
        for transport in transports:
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            if sys.platform == "linux":
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 131_072


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "context",
    [
        [("traceparent", PARENT), ("tracestate", "a=1,b@c=2"), ("baggage", "k=v;p")],
        [("tracestate", "state without a parent")],
        [("traceparent", "ff-" + PARENT[3:])],
        [("traceparent", "00-" + "0" * 32 + PARENT[35:])],
        [("traceparent", "\N{SNOWMAN}" * 100), ("tracestate", "")],
        [],
    ],
)
async def test_trace_context_reaches_the_handler_as_it_was_sent(
    context: list[tuple[str, str]],
) -> None:
    """OBS-001, OBS-002: valid, invalid or absent, it is the handler's and fails nothing."""
    seen: list[list[tuple[str, str]]] = []

    async def note(request: Request) -> bytes:
        seen.append([pair for pair in request.headers if pair[0] != "request-id"])
        return b"ok"

    async with connected({"note": note}) as (client, _):
        assert await client.call("note", headers=context) == b"ok"
    assert seen == [context]


async def test_a_worker_is_private_and_has_no_conformance_subjects_by_default() -> None:
    """SEC-003."""
    async with connected({"echo": echo}) as (client, worker):
        assert {parse(address)[0] for address in worker.addresses} == {"127.0.0.1"}
        for subject in ("echo", "stats", "info", "drain"):
            with pytest.raises(muxwire.NotFound):
                await client.call(f"conformance.{subject}")


async def test_handlers_that_outlive_their_connections_count_for_the_process() -> None:
    """CAN-004: connecting, starting what does not stop, and leaving gets a client no further."""
    release = asyncio.Event()

    async def stubborn(_: Request) -> bytes:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return b"done"

    config = small(max_concurrent_requests=100)
    async with muxwire.Worker({"stubborn": stubborn}, config=config, max_connections=2) as worker:
        assert worker.statistics.limit == 200
        for running in (100, 200):
            async with connect_once(worker.addresses[0]) as client:
                calls = [
                    asyncio.ensure_future(client.call("stubborn", timeout=60)) for _ in range(100)
                ]
                await until(lambda running=running: worker.statistics.active == running)
                client.abort()
                await asyncio.gather(*calls, return_exceptions=True)
        async with connect_once(worker.addresses[0]) as client:
            with pytest.raises(muxwire.Overloaded) as caught:
                await client.call("stubborn")
            assert caught.value.outcome is Outcome.NOT_PROCESSED
            assert caught.value.retry_after_ms > 0
            assert worker.statistics.peak == 200
            release.set()
            await until(lambda: worker.statistics.active == 0)
            assert await client.call("stubborn") == b"done"
