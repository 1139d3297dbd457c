"""Call-home over real sockets: a router and a worker of ours, on both loops."""

from __future__ import annotations

import asyncio
import json

import muxwire
import pytest
from callhome_harness import home, limited, serving
from io_harness import drained, until
from muxwire._generated.registries import ErrorCode
from muxwire.callhome import connect
from muxwire.errors import Outcome

pytestmark = pytest.mark.usefixtures("each_loop")


async def info(client: muxwire.callhome.Client, subject: str) -> dict[str, object]:
    return json.loads(await client.call(f"conformance.{subject}", b"{}"))


async def test_a_call_and_a_stream() -> None:
    async with home(conformance=True) as (client, _, __):
        assert await client.call("conformance.echo", b"hi") == b"hi"
        stream = client.stream("conformance.generate", b'{"count": 100, "size": 9000}')
        messages, error = await drained(stream)
        assert error is None
        assert [int.from_bytes(message[:8]) for message in messages] == [*range(100)]
        assert {len(message) for message in messages} == {9000}


async def test_all_subjects() -> None:
    async with home(conformance=True) as (client, path, _):
        assert await client.call("conformance.echo", b"") == b""
        large = bytes(3_000_000)
        assert await client.call("conformance.echo", large) == large
        assert await client.call("conformance.sleep", b'{"ms": 10}') == b"ok"
        sunk = json.loads(await client.call("conformance.sink", b"{}"))
        assert sunk["messages"] == 0
        assert len(await client.call("conformance.source", b'{"bytes": 3000000}')) == 3_000_000
        with pytest.raises(muxwire.ApplicationError) as failed:
            await client.call("conformance.fail", b'{"after": 0}')
        assert failed.value.outcome is Outcome.FAILED
        messages, error = await drained(client.stream("conformance.fail", b'{"after": 3}'))
        assert len(messages) == 3
        assert error is not None
        assert error.code == ErrorCode.APPLICATION_ERROR
        stats = await info(client, "stats")
        assert (stats["active"], stats["connections"]) == (0, 1)
        told = await info(client, "info")
        assert told["transports"] == ["tcp", "callhome"]
        assert told["ports"] == {"tcp": 0, "callhome": path.port}
        stream = client.stream("conformance.headers", b"{}", headers=[("b", "1"), ("a", "2")])
        answer = json.loads(b"".join([message async for message in stream]))
        assert answer["headers"][:2] == [["b", "1"], ["a", "2"]]
        assert [name for name, _ in answer["headers"]] == ["b", "a", "request-id"]
        assert answer["subject"] == "conformance.headers"
        assert await stream.headers() == [("content-type", "application/json")]
        assert stream.trailers == [("usage", '{"requests": 1}')]
        assert await client.call("conformance.drain", b'{"grace_ms": 0}') == b"ok"
        await until(lambda: client.connections == 0)
        assert await client.call("conformance.echo", b"again") == b"again"


async def test_a_connection_is_used_again() -> None:
    async with home(conformance=True) as (client, path, _):
        for _ in range(20):
            await client.call("conformance.echo", b"x")
        (statistics,) = path.pool.statistics().values()
        assert statistics.created == 1


async def test_without_a_pool_each_response_has_its_connection() -> None:
    async with home(conformance=True, pool=limited(enabled=False)) as (client, path, _):
        for _ in range(5):
            await client.call("conformance.echo", b"x")
        (statistics,) = path.pool.statistics().values()
        assert statistics.created == 5


async def test_stop_and_kill() -> None:
    async with home(conformance=True) as (client, _, worker):
        stream = client.stream("conformance.generate", b'{"count": 100000, "interval_ms": 5}')
        await anext(stream)
        stream.stop()
        _, error = await drained(stream)
        assert error is None
        stream = client.stream("conformance.generate", b'{"count": 100000, "interval_ms": 5}')
        await anext(stream)
        stream.kill()
        _, error = await drained(stream)
        assert error is not None
        assert (error.code, error.outcome) == (ErrorCode.CANCELLED, Outcome.FAILED)
        await until(lambda: not worker.statistics.active)
        assert client.connections == 1
        assert await client.call("conformance.echo", b"x") == b"x"


async def test_refusals_come_with_their_codes() -> None:
    async with home(conformance=True) as (client, _, __):
        with pytest.raises(muxwire.NotFound) as missing:
            await client.call("nobody.home")
        assert missing.value.outcome is Outcome.NOT_PROCESSED
        with pytest.raises(muxwire.InvalidArgument):
            client.stream("conformance.echo")


async def test_the_deadline_of_a_handler() -> None:
    async with home(conformance=True) as (client, _, __):
        with pytest.raises(muxwire.DeadlineExceeded):
            await client.call("conformance.sleep", b'{"ms": 60000}', timeout=0.2)


async def test_nobody_reads() -> None:
    async with home(conformance=True) as (client, path, _):
        stream = client.stream("conformance.generate", b'{"count": 30000, "size": 1024}')
        await anext(stream)
        await asyncio.sleep(0.3)
        assert path.buffered_bytes() <= 2 << 20
        messages, error = await drained(stream)
        assert error is None
        assert len(messages) == 29_999


async def test_ipv6() -> None:
    async with (
        serving(conformance=True, host="::1") as (path, _),
        connect(f"http://{path.addresses[0]}", listen="[::1]:0", recover=False) as client,
    ):
        assert client.home.startswith("[::1]:")
        assert await client.call("conformance.echo", b"hi") == b"hi"
