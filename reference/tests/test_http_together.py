"""Both ends of the HTTP path together: the client over each server, version and format."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import muxwire
import pytest
from http_serving import Served, served
from io_harness import drained, until
from muxwire._generated.registries import ErrorCode
from muxwire.errors import HandlerError, Outcome
from muxwire.handlers import Request
from muxwire.http import Client, connect

WAYS = pytest.mark.parametrize("way", ["granian/1.1", "granian/2", "uvicorn/1.1"])
FORMATS = pytest.mark.parametrize("format_", ["sse", "ndjson", "binary"])


@asynccontextmanager
async def both(
    way: str, handlers: Any = None, *, format_: str = "sse", **options: Any
) -> AsyncIterator[tuple[Client, Served]]:
    """Serve, and call."""
    server, _, version = way.partition("/")
    async with served(handlers, server, **options) as there:
        target = f"http://127.0.0.1:{there.port}"
        async with connect(target, format=format_, http2=version == "2", recover=False) as client:
            yield client, there


@WAYS
@FORMATS
@pytest.mark.parametrize(
    "data", [b"", b"hi", bytes(range(256)), b"\r\ndata: x\n\n", bytes(300_000)], ids=len
)
async def test_octets_come_back_as_they_were(way: str, format_: str, data: bytes) -> None:
    async with both(way, format_=format_) as (client, _):
        for _ in range(2):
            assert await client.call("conformance.echo", data) == data


@WAYS
@FORMATS
async def test_json_comes_back_as_json(way: str, format_: str) -> None:
    text = b'{"a": [1, 2.50, "\xe2\x82\xac\\n"]}'
    async with both(way, format_=format_) as (client, _):
        headers = [("content-type", "application/json")]
        assert await client.call("conformance.echo", text, headers=headers) == text


@WAYS
@FORMATS
async def test_items_headers_and_trailers(way: str, format_: str) -> None:
    async def handler(request: Request) -> AsyncIterator[bytes]:
        request.send_headers([("k", "v")])
        for number in range(500):
            yield b"%d" % number
        request.trailers = [("usage", "500")]

    async with both(way, {"a": handler}, format_=format_) as (client, _):
        stream = client.stream("a", b"")
        assert await drained(stream) == ([b"%d" % number for number in range(500)], None)
        assert list(stream.trailers) == [("usage", "500")]
        assert await stream.headers() == ([("k", "v")] if format_ == "binary" else [])


@WAYS
@FORMATS
async def test_a_handler_that_fails(way: str, format_: str) -> None:
    async def handler(_: Request) -> AsyncIterator[bytes]:
        yield b"one"
        raise HandlerError("no", code=0x10005, retry_after_ms=9)

    async with both(way, {"a": handler}, format_=format_) as (client, _):
        messages, error = await drained(client.stream("a", b""))
        assert error is not None
        assert (messages, error.outcome, error.code, error.local, error.retry_after_ms) == (
            [b"one"],
            Outcome.FAILED,
            0x10005,
            False,
            9,
        )
        assert error.message == "no"


@WAYS
async def test_a_request_that_is_refused(way: str) -> None:
    async with both(way) as (client, there):
        with pytest.raises(muxwire.NotFound) as caught:
            await client.call("nobody")
        assert caught.value.outcome is Outcome.NOT_PROCESSED
        with pytest.raises(muxwire.RequestRejected) as other:
            await client.call("conformance.echo", headers=[("last-event-id", "1")])
        assert other.value.outcome is Outcome.NOT_PROCESSED
        await until(lambda: there.idle)
        assert there.worker.statistics.opened == 0


@WAYS
async def test_a_kill_cancels_the_handler(way: str) -> None:  # P1-013
    async with both(way) as (client, there):
        stream = client.stream("conformance.sleep", b'{"ms": 60000}')
        await until(lambda: there.worker.running_handlers)
        stream.kill()
        _, error = await drained(stream)
        assert error is not None
        assert (error.outcome, error.code) == (Outcome.FAILED, ErrorCode.CANCELLED)
        await until(lambda: there.idle)
        assert await client.call("conformance.echo", b"hi") == b"hi"


@WAYS
async def test_the_workers_own_answer_to_a_deadline_comes_first(way: str) -> None:  # P1-016
    async with both(way) as (client, there):
        stream = client.stream("conformance.sleep", b'{"ms": 60000}', timeout=0.1)
        _, error = await drained(stream)
        assert error is not None
        assert (error.outcome, error.code) == (Outcome.FAILED, ErrorCode.DEADLINE_EXCEEDED)
        await until(lambda: there.idle)


@WAYS
async def test_many_at_a_time(way: str) -> None:
    async with both(way) as (client, there):
        body = json.dumps({"count": 20}).encode()
        streams = [client.stream("conformance.generate", body) for _ in range(60)]
        for messages, error in await asyncio.gather(*map(drained, streams)):
            assert (len(messages), error) == (20, None)
        await until(lambda: there.idle)


@WAYS
async def test_a_caller_that_reads_late_gets_everything(way: str) -> None:  # P1-017
    made = 0

    async def handler(_: Request) -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(400):
            made += 1
            yield bytes(50_000)

    async with both(way, {"a": handler}) as (client, there):
        stream = client.stream("a", b"")
        assert await anext(stream) == bytes(50_000)
        for _ in range(2_000):
            await asyncio.sleep(0)
        assert made < 400
        messages, error = await drained(stream)
        assert (len(messages), error) == (399, None)
        await until(lambda: there.idle)


@pytest.mark.parametrize("way", ["granian/1.1", "granian/2"])
async def test_a_drain_lets_streams_finish(way: str) -> None:
    go = asyncio.Event()

    async def handler(_: Request) -> AsyncIterator[bytes]:
        yield b"one"
        await go.wait()
        yield b"two"

    async with both(way, {"a": handler}) as (client, there):
        stream = client.stream("a", b"")
        assert await anext(stream) == b"one"
        draining = asyncio.ensure_future(there.worker.drain())
        await until(lambda: there.path.draining)
        go.set()
        assert await drained(stream) == ([b"two"], None)
        await draining
