"""The client over several connections and workers: redialling, retrying, and telling the truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import muxwire
import pytest
from io_harness import never, run, until
from muxwire import ErrorCode, HandlerError, Outcome, Request
from muxwire.tcp.address import parse

Test = Callable[[], Awaitable[None]]


def recovery(test: Test) -> Callable[[str], None]:
    """Run an asynchronous test on both loops."""

    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    def on_loop(loop: str) -> None:
        run(test(), loop)  # type: ignore[arg-type]

    on_loop.__name__ = test.__name__
    return on_loop


async def echo(request: Request) -> AsyncGenerator[bytes, None]:
    async for message in request:
        yield message


def named(name: bytes) -> Callable[[Request], Awaitable[bytes]]:
    async def who(request: Request) -> bytes:
        await request.read()
        return name

    return who


@asynccontextmanager
async def workers(*handlers: dict[str, Any]) -> AsyncGenerator[list[muxwire.Worker], None]:
    """Run some workers; they may be closed by the test."""
    running = [muxwire.Worker(each) for each in handlers]
    try:
        for worker in running:
            await worker.start()
        yield running
    finally:
        for worker in running:
            await worker.close()


async def restart(address: str, handlers: dict[str, Any]) -> muxwire.Worker:
    worker = muxwire.Worker(handlers)
    await worker.start(*parse(address))
    return worker


@recovery
async def test_a_lost_worker_is_redialled() -> None:
    async with workers({"echo": echo}) as (first,):
        address = first.addresses[0]
        async with muxwire.connect(address) as client:
            assert await client.call("echo", b"1") == b"1"
            await first.close()
            await until(lambda: not client.accepting)
            second = await restart(address, {"echo": echo})
            assert await client.call("echo", b"2") == b"2"
            await client.close()
            await second.close()


@recovery
async def test_requests_wait_for_the_first_connection_in_order() -> None:
    order: list[bytes] = []

    async def note(request: Request) -> bytes:
        order.append(await request.read() or b"")
        return b"ok"

    async with workers({"note": note}) as (first,):
        address = first.addresses[0]
        async with muxwire.connect(address, connections=1) as client:
            await first.close()
            await until(lambda: not client.accepting)
            calls = [asyncio.ensure_future(client.call("note", b"%d" % i)) for i in range(5)]
            await asyncio.sleep(0)
            second = await restart(address, {"note": note})
            await asyncio.gather(*calls)
            assert order == [b"0", b"1", b"2", b"3", b"4"]
            await client.close()
            await second.close()


@recovery
async def test_a_request_without_a_connection_was_not_sent() -> None:
    async with (
        workers({"echo": echo}) as (worker,),
        muxwire.connect(worker.addresses[0], wait=0.05) as client,
    ):
        await worker.close()
        await until(lambda: not client.accepting)
        with pytest.raises(muxwire.ConnectionLost) as caught:
            await client.call("echo", b"1", idempotent=True)
        assert caught.value.outcome is Outcome.NOT_SENT
        assert caught.value.attempts == 0
        with pytest.raises(muxwire.DeadlineExceeded) as late:
            await client.call("echo", b"1", timeout=0.01)
        assert late.value.outcome is Outcome.NOT_SENT


@recovery
async def test_an_idempotent_request_moves_to_another_worker() -> None:
    """REC-008."""
    begun = asyncio.Event()

    async def stuck(request: Request) -> bytes:
        await request.read()
        begun.set()
        await never()
        return b"never"

    async with workers({"who": stuck}, {"who": named(b"second")}) as (first, second):
        client = await muxwire.connect(first.addresses[0], second.addresses[0], connections=1)
        async with asyncio.timeout(10):
            await until(lambda: client.connections == 2)
            calls = [
                asyncio.ensure_future(client.call("who", b"", idempotent=True)) for _ in range(2)
            ]
            await begun.wait()
            await first.close()
            assert await asyncio.gather(*calls) == [b"second", b"second"]
        await client.close()


@recovery
async def test_a_request_that_may_have_run_is_not_repeated() -> None:
    started = 0
    begun = asyncio.Event()

    async def stuck(request: Request) -> bytes:
        nonlocal started
        await request.read()
        started += 1
        begun.set()
        await never()
        return b"never"

    async with workers({"do": stuck}) as (first,):
        address = first.addresses[0]
        async with muxwire.connect(address) as client:
            call = asyncio.ensure_future(client.call("do", b""))
            await begun.wait()
            for served in first._admitted:
                served.abort()
            with pytest.raises(muxwire.ConnectionLost) as caught:
                await call
            assert caught.value.outcome is Outcome.AMBIGUOUS
            assert started == 1


@recovery
async def test_a_stream_that_has_begun_is_partial() -> None:
    async def drip(request: Request) -> AsyncGenerator[bytes, None]:
        await request.read()
        yield b"one"
        yield b"two"
        await never()

    async with (
        workers({"drip": drip}) as (first,),
        muxwire.connect(first.addresses[0]) as client,
    ):
        stream = client.stream("drip", b"", idempotent=True)
        assert [await anext(stream), await anext(stream)] == [b"one", b"two"]
        for served in first._admitted:
            served.abort()
        with pytest.raises(muxwire.ConnectionLost) as caught:
            await anext(stream)
        assert caught.value.outcome is Outcome.PARTIAL
        assert caught.value.messages == 2


@recovery
async def test_a_retry_has_a_new_id_its_number_and_the_same_request_id() -> None:
    """REC-007."""
    seen: list[tuple[bytes, dict[str, str]]] = []

    async def twice(request: Request) -> bytes:
        await request.read()
        seen.append((request.request_id, dict(request.headers)))
        if len(seen) < 3:
            raise HandlerError("later", code=ErrorCode.OVERLOADED, retry_after_ms=1)
        return b"done"

    async with (
        workers({"twice": twice}) as (worker,),
        muxwire.connect(worker.addresses[0]) as client,
    ):
        assert await client.call("twice", b"", idempotent=True) == b"done"
    assert len({request_id for request_id, _ in seen}) == 3
    assert len({headers["request-id"] for _, headers in seen}) == 1
    assert [headers.get("attempt") for _, headers in seen] == [None, "2", "3"]


@recovery
async def test_three_attempts_are_all() -> None:
    tries = 0

    async def never_ready(request: Request) -> bytes:
        nonlocal tries
        await request.read()
        tries += 1
        raise HandlerError("busy", code=ErrorCode.OVERLOADED, retry_after_ms=1)

    async with (
        workers({"busy": never_ready}) as (worker,),
        muxwire.connect(worker.addresses[0]) as client,
    ):
        with pytest.raises(muxwire.Overloaded) as caught:
            await client.call("busy", b"", idempotent=True)
        assert (tries, caught.value.attempts) == (3, 3)
        with pytest.raises(muxwire.Overloaded) as once:
            await client.call("busy", b"")
        assert (tries, once.value.attempts) == (4, 1)


@recovery
async def test_a_retry_sends_every_message_again() -> None:
    heard: list[list[bytes]] = []

    async def collect(request: Request) -> bytes:
        heard.append([message async for message in request])
        if len(heard) == 1:
            raise HandlerError("again", code=ErrorCode.SHUTDOWN)
        return b"ok"

    async with (
        workers({"collect": collect}) as (worker,),
        muxwire.connect(worker.addresses[0]) as client,
    ):
        stream = client.stream("collect", idempotent=True)
        await stream.send_all([b"a", b"", b"b" * 100_000])
        assert [item async for item in stream] == [b"ok"]
    assert heard == [[b"a", b"", b"b" * 100_000]] * 2


@recovery
async def test_more_than_can_be_kept_is_not_sent_again() -> None:
    heard = 0

    async def collect(request: Request) -> bytes:
        nonlocal heard
        heard += 1
        async for _ in request:
            pass
        raise HandlerError("again", code=ErrorCode.SHUTDOWN)

    async with (
        workers({"collect": collect}) as (worker,),
        muxwire.connect(worker.addresses[0]) as client,
    ):
        stream = client.stream("collect", idempotent=True)
        await stream.send_all([bytes(300_000)] * 5)
        with pytest.raises(muxwire.WorkerShutdown):
            await anext(stream)
    assert heard == 1


@recovery
async def test_a_draining_worker_is_replaced_and_its_requests_end_well() -> None:
    release = asyncio.Event()

    async def slow(request: Request) -> bytes:
        await request.read()
        await release.wait()
        return b"slow"

    async def leave(request: Request) -> bytes:
        request.drain_connection(5_000)
        return b"ok"

    handlers = {"slow": slow, "leave": leave, "echo": echo}
    async with (
        workers(handlers) as (worker,),
        muxwire.connect(worker.addresses[0], connections=1) as client,
    ):
        running = asyncio.ensure_future(client.call("slow", b""))
        assert await client.call("leave", b"") == b"ok"
        assert await client.call("echo", b"new") == b"new"
        release.set()
        assert await running == b"slow"


@recovery
async def test_an_unknown_subject_is_asked_of_every_worker_once() -> None:
    async with (
        workers({"a": named(b"a")}, {"b": named(b"b")}) as (first, second),
        muxwire.connect(first.addresses[0], second.addresses[0], connections=1) as client,
    ):
        await until(lambda: client.connections == 2)
        assert await client.call("a", b"") == b"a"
        assert await client.call("b", b"") == b"b"
        with pytest.raises(muxwire.NotFound) as caught:
            await client.call("c", b"")
        assert caught.value.outcome is Outcome.NOT_PROCESSED
        assert caught.value.attempts == 2


@recovery
async def test_connections_are_shared_by_load() -> None:
    """REC-010."""
    release = asyncio.Event()

    async def hold(request: Request) -> bytes:
        await request.read()
        await release.wait()
        return b"ok"

    async with (
        workers({"hold": hold}) as (worker,),
        muxwire.connect(worker.addresses[0], connections=4) as client,
    ):
        await until(lambda: client.connections == 4)
        calls = [asyncio.ensure_future(client.call("hold", b"")) for _ in range(40)]
        await until(lambda: worker.statistics.active == 40)
        assert {served.core.open_requests for served in worker._admitted} == {10}
        release.set()
        await asyncio.gather(*calls)


@recovery
async def test_killing_and_sending_while_nothing_is_connected() -> None:
    async with workers({"echo": echo}) as (first,):
        address = first.addresses[0]
        async with muxwire.connect(address) as client:
            await first.close()
            await until(lambda: not client.accepting)
            killed = client.stream("echo", b"x")
            killed.kill()
            with pytest.raises(muxwire.RequestCancelled) as caught:
                await anext(killed)
            assert caught.value.outcome is Outcome.NOT_SENT
            kept = client.stream("echo")
            await kept.send(b"early")
            second = await restart(address, {"echo": echo})
            assert await anext(kept) == b"early"
            kept.end()
            assert [item async for item in kept] == []
            await client.close()
            await second.close()


@recovery
async def test_a_closed_client_says_so() -> None:
    async with workers({"echo": echo}) as (worker,):
        client = await muxwire.connect(worker.addresses[0])
        await client.close()
        with pytest.raises(muxwire.ConnectionClosed, match="closed"):
            await client.call("echo", b"")


@recovery
async def test_bad_requests_are_refused_before_they_wait() -> None:
    async with (
        workers({"echo": echo}) as (worker,),
        muxwire.connect(worker.addresses[0]) as client,
    ):
        with pytest.raises(muxwire.InvalidArgument):
            await client.call("no..subject", b"")
        with pytest.raises(muxwire.InvalidArgument):
            await client.call("echo", b"", headers=[("attempt", "7")])
        await worker.close()
        await until(lambda: not client.accepting)
        with pytest.raises(muxwire.InvalidArgument):
            await client.call("no..subject", b"")


@pytest.mark.parametrize("connections", [0, 5])
def test_the_number_of_connections_is_bounded(connections: int) -> None:
    async def main() -> None:
        with pytest.raises(muxwire.InvalidArgument):
            await muxwire.connect("127.0.0.1:1", connections=connections)

    run(main())
