"""Call-home at its limits: who waits, what is unreachable, what grows old, who gives up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import muxwire
import pytest
from callhome_core import ACCEPT, DONE, HELLO, ME, TOKEN, response
from callhome_harness import answered, home, limited
from io_harness import drained, until
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ErrorCode
from muxwire.callhome import CallHomePath, connect
from muxwire.callhome.delivery import Delivery
from muxwire.callhome.fields import Fields
from muxwire.callhome.pool import Closed, Pool, PoolConfig, TargetStatistics
from muxwire.core.callhome import WorkerStream
from muxwire.core.config import Config
from muxwire.errors import Outcome
from muxwire.tcp.runner import Runner, Running
from test_callhome_peers import routed, terminal


def books(path: CallHomePath) -> TargetStatistics:
    (statistics,) = path.pool.statistics().values()
    return statistics


# -- the queue for connections, in virtual time ----------------------------------------------------


class Busy:
    """A connection whose stream never ends."""

    usable = True

    def __init__(self) -> None:
        self.pump = self
        self.ended = False

    async def carry(self, _: object) -> None:
        await asyncio.get_running_loop().create_future()

    async def probe(self) -> bool:
        return True

    def push(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        self.ended = True

    abort = close


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize(("timeout_ms", "waits"), [(0, 10.0), (3_000, 10.0)])
async def test_a_stream_waits_ten_seconds_for_a_connection(timeout_ms: int, waits: float) -> None:
    """P0-001: then its handler is killed; a deadline kills the handler, not the stream."""
    loop = asyncio.get_running_loop()
    killed: list[float] = []
    tasks: set[asyncio.Task[None]] = set()
    deliveries: dict[Running, Delivery] = {}
    runner = Runner(tasks, lambda running: deliveries[running].handler_ended(), lambda: None)

    async def endless(_: muxwire.Request) -> None:
        try:
            await loop.create_future()
        finally:
            killed.append(loop.time())

    async def dial(_: str, __: object) -> Any:
        return Busy()

    pool: Pool[Any] = Pool(dial, PoolConfig(min_idle=0, max_per_target=1))
    over: list[Delivery] = []

    def deliver(me: bytes) -> asyncio.Task[None]:
        stream = WorkerStream(me, TOKEN, Config(), loop.time(), timeout_ms=timeout_ms)
        fields = Fields(ip_address("10.0.0.1"), "10.0.0.1:1", me, TOKEN, timeout_ms, [])
        one = Delivery(stream, fields, "a", b"", endless, pool, over.append)
        deliveries[one.running] = one
        runner.start(one.running)
        return loop.create_task(one.deliver())

    first = deliver(b"\x01" * 16)
    await asyncio.sleep(1)
    begun = loop.time()
    await deliver(b"\x02" * 16)
    assert loop.time() - begun == pytest.approx(waits)
    await asyncio.sleep(0.1)
    assert [one.stream.request_id for one in over] == [b"\x02" * 16]
    assert max(killed) - begun <= waits
    statistics = pool.statistics()["10.0.0.1:1"]
    assert (statistics.timeouts, statistics.waiting, statistics.active) == (1, 0, 1)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.sleep(0.1)
    assert len(over) == 2
    assert not tasks


# -- who gives up ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_loop")
async def test_two_hundred_cancelled_calls_leak_nothing() -> None:  # P0-015, P0-018
    going = asyncio.Event()

    async def hold(_: muxwire.Request) -> bytes:
        await going.wait()
        return b"held"

    async def quick(_: muxwire.Request) -> bytes:
        return b"quick"

    handlers = {"hold": hold, "quick": quick}
    async with home(handlers, pool=limited(max_per_target=2)) as (client, path, worker):
        held = [asyncio.create_task(client.call("hold")) for _ in range(2)]
        await until(lambda: path.pool.statistics() and books(path).active == 2)
        calls = [asyncio.create_task(client.call("quick")) for _ in range(200)]
        await until(lambda: books(path).waiting == 200)
        for call in calls:
            call.cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(end) for end in ends} == {asyncio.CancelledError}
        assert client.open_requests == 2
        going.set()
        assert await asyncio.gather(*held) == [b"held", b"held"]
        await until(lambda: not worker.posted and not worker.running_handlers)
        assert (books(path).waiting, books(path).active) == (0, 0)
        assert (books(path).created, client.connections, client.open_requests) == (2, 2, 0)
        assert await client.call("quick") == b"quick"


@pytest.mark.usefixtures("each_loop")
async def test_kill_before_accept() -> None:  # P0-011
    async with routed() as (http, _, worker):
        await http.post("conformance.sleep", b'{"ms": 60000}')
        async with await http.accept() as peer:
            await peer.send(codec.encode_kill(ME, 256))
            await until(lambda: worker.statistics.cancelled == 1)
            await until(lambda: not worker.statistics.active)
            await peer.send(ACCEPT)
            assert (await terminal(peer)).error_code == ErrorCode.CANCELLED
            await peer.send(DONE)
            await http.post(body=b"next")
            assert await peer.read(48) == HELLO
            await peer.send(ACCEPT)
            assert (await peer.frame()).payload == b"next"
            await peer.send(DONE)


# -- what is unreachable ---------------------------------------------------------------------------


@contextmanager
def blackhole() -> Iterator[str]:
    """Yield an address whose SYNs the kernel drops: nobody accepts, and its queue is full."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        name = server.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(name)
            yield f"127.0.0.1:{name[1]}"
        finally:
            for filler in fillers:
                filler.close()


@pytest.mark.usefixtures("each_loop")
async def test_a_worker_in_a_blackhole() -> None:
    config = muxwire.Config(connect_timeout=0.1)
    with blackhole() as address:
        async with connect(f"http://{address}", config=config, recover=False) as client:
            with pytest.raises(muxwire.RequestFailed) as failed:
                await client.call("a", b"")
            assert failed.value.outcome is Outcome.NOT_SENT
            assert not client.open_requests


@pytest.mark.usefixtures("each_loop")
async def test_a_router_in_a_blackhole() -> None:  # P0-002, P0-005
    async with routed(pool=limited(dial_timeout=0.1)) as (http, path, worker):
        with blackhole() as address:
            await http.post("conformance.sleep", b'{"ms": 60000}', wch_addr=address)
            await until(lambda: worker.statistics.cancelled == 1)
            await until(lambda: not worker.posted and not worker.running_handlers)
            assert (books(path).dial_failures, books(path).created) == (3, 0)
            assert path.pool.size == 0
        await http.post(body=b"next")
        async with await http.accept() as peer:
            await peer.send(ACCEPT)
            assert (await peer.frame()).payload == b"next"
            await peer.send(DONE)


# -- what grows old --------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_loop")
async def test_some_idle_connections_are_kept_ready() -> None:  # P0-015
    async with home(conformance=True, pool=limited(min_idle=3)) as (client, path, _):
        await client.call("conformance.echo", b"x")
        await until(lambda: books(path).idle >= 3)
        kept = path.pool.size
        await until(lambda: client.connections == kept)
        calls = [client.call("conformance.sleep", b'{"ms": 20}') for _ in range(3)]
        assert await asyncio.gather(*calls) == [b"ok"] * 3
        await until(lambda: books(path).active == 0)
        assert books(path).created == kept


@pytest.mark.usefixtures("each_loop")
async def test_old_connections_are_replaced_under_load() -> None:  # P0-015
    pool = limited(min_idle=2, max_lifetime=0.2)
    async with home(conformance=True, pool=pool) as (client, path, _):
        while not path.pool.statistics() or books(path).closed[Closed.LIFETIME] < 4:
            assert await client.call("conformance.echo", b"x") == b"x"
        assert books(path).closed[Closed.LOST] == 0
        await until(lambda: client.connections == path.connections() == path.pool.size)


@pytest.mark.usefixtures("each_loop")
async def test_what_is_idle_for_too_long_is_closed() -> None:  # P0-015
    async with home(conformance=True, pool=limited(idle_timeout=0.1)) as (client, path, _):
        await asyncio.gather(*(client.call("conformance.echo", b"x") for _ in range(5)))
        await until(lambda: not client.connections and not path.connections())
        assert books(path).closed[Closed.IDLE] == books(path).created
        assert await client.call("conformance.echo", b"again") == b"again"


# -- what a worker must not do ---------------------------------------------------------------------


@pytest.mark.parametrize("responded", [False, True])
async def test_a_second_hello_on_a_connection(responded: bool) -> None:  # P0-012
    async with answered() as (client, fake):
        stream = client.stream("a", b"", timeout=0.5)
        peer, me, token = await fake.dial()
        await peer.send(codec.encode_hello(me, token))
        assert await peer.read(32) == codec.encode_accept(me)
        if responded:
            await peer.send(response(0, b"one", request_id=me))
        await peer.send(codec.encode_hello(me, token))
        assert await peer.rest() == b""
        _, error = await drained(stream)
        assert error is not None
        assert error.outcome is (Outcome.PARTIAL if responded else Outcome.AMBIGUOUS)
        peer.close()


async def test_a_hello_on_another_connection_supersedes() -> None:  # P0-019
    async with answered() as (client, fake):
        calling = asyncio.create_task(client.call("a", b""))
        first, me, token = await fake.dial()
        await first.send(codec.encode_hello(me, token))
        assert await first.read(32) == codec.encode_accept(me)
        async with await type(first).dial(client.home) as second:
            await second.send(codec.encode_wch_preface(1, 1, 0) + codec.encode_hello(me, token))
            assert (await second.read(48))[16:] == codec.encode_accept(me)
            assert await first.rest() == b""
            await second.send(response(0, b"late", END_STREAM, me))
            assert await calling == b"late"
            assert await second.read(32) == codec.encode_done(me)
        first.close()


async def test_a_worker_that_answers_202_and_dies() -> None:  # P0-019
    async with answered() as (client, fake):
        stream = client.stream("a", b"", timeout=1.0)
        peer, me, token = await fake.dial()
        await peer.send(codec.encode_hello(me, token))
        assert await peer.read(32) == codec.encode_accept(me)
        peer.reset()
        _, error = await drained(stream)
        assert error is not None
        assert (error.outcome, error.code) == (Outcome.AMBIGUOUS, ErrorCode.DEADLINE_EXCEEDED)


async def test_a_connection_that_says_nothing_is_no_stream() -> None:  # P0-002
    async with home(conformance=True) as (client, path, _):
        host, port = client.home.split(":")
        with socket.create_connection((host, int(port))):
            assert await client.call("conformance.echo", b"x") == b"x"
            await until(lambda: client.connections == 2)
        await until(lambda: client.connections == path.connections() == 1)


async def test_a_client_that_remembers_a_token_closes_at_once() -> None:  # P0-018
    async with answered() as (client, fake):
        stream = client.stream("a", b"")
        await fake.posts.get()
        stream.kill()
        await drained(stream)
        closing = asyncio.create_task(client.close(1e6))
        async with asyncio.timeout(4):
            await closing
