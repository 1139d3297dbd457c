"""The HTTP path from the 200 to the end of the body: items, heartbeats, failures, the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import muxwire
import pytest
from http_serving import CUT, TYPES, Answer, Http1, Http2, Served, served
from io_harness import never, until
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ERROR
from muxwire.core.settings import Settings
from muxwire.errors import HandlerError
from muxwire.handlers import Request

SERVERS = pytest.mark.parametrize("server", ["granian", "uvicorn"])
ANYWHERE = pytest.mark.parametrize("way", ["granian/1.1", "uvicorn/1.1", "granian/2"])
FORMATS = pytest.mark.parametrize("format_", TYPES)
HEARTBEATS = {"sse": b": hb\n\n", "ndjson": b'{"t":"hb"}\n', "binary": codec.encode_ping(bytes(8))}


ITEMS = 200
"""Of 100,000 octets: more than kernel and server take."""


class Asked:
    """One request, over HTTP/1.1 or HTTP/2."""

    def __init__(self, peer: Http1 | Http2, stream: int) -> None:
        self._peer = peer
        self._stream = stream

    async def answer(self) -> Answer:
        if isinstance(self._peer, Http1):
            return await self._peer.answer()
        return await self._peer.answer(self._stream)

    async def until(self, part: bytes, body: bytes = b"") -> bytes:
        if isinstance(self._peer, Http1):
            return await self._peer.until(part, body)
        return await self._peer.until(self._stream, part, body)

    async def rest(self, body: bytes = b"") -> tuple[bytes, str]:
        if isinstance(self._peer, Http1):
            return await self._peer.rest(body)
        return await self._peer.rest(self._stream, body)

    async def leave(self) -> None:
        """Cancel: end the connection, or the stream."""
        if isinstance(self._peer, Http1):
            await self._peer.close()
        else:
            await self._peer.reset(self._stream)


@asynccontextmanager
async def asking(
    way: str,
    handlers: Any,
    subject: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Asked, Served]]:
    """Serve, and send one request."""
    server, _, version = way.partition("/")
    async with served(handlers, server, **options) as on:
        if version == "1.1":
            async with await on.peer() as peer:
                await peer.send(subject, body, headers=headers or {})
                yield Asked(peer, 0), on
        else:
            async with Http2.to(on.port) as two:
                yield Asked(two, await two.post(subject, body, headers)), on


def stepping() -> tuple[Callable[[Request], AsyncIterator[bytes]], asyncio.Semaphore]:
    """Return a handler that makes an item for each release, and a fourth release ends it."""
    steps = asyncio.Semaphore(0)

    async def handler(request: Request) -> AsyncIterator[bytes]:
        request.send_headers([("content-type", "application/json")])
        for number in range(3):
            await steps.acquire()
            yield b"[%d]" % number
        await steps.acquire()

    return handler, steps


@ANYWHERE
@FORMATS
async def test_what_is_made_comes_at_once(way: str, format_: str) -> None:  # P1-003, P1-004
    handler, steps = stepping()
    headers = {"accept": TYPES[format_], "accept-encoding": "gzip, br"}
    async with asking(way, {"step": handler}, "step", b"", headers) as (asked, on):
        answer = await asked.answer()  # before any item
        assert answer.status == 200
        media_type = TYPES[format_] + ("; charset=utf-8" if format_ == "sse" else "")
        assert answer["content-type"] == media_type
        assert answer["cache-control"] == "no-store"
        assert answer["x-accel-buffering"] == "no"
        assert answer["vary"] == "accept"
        assert answer["content-length"] is answer["content-encoding"] is None
        body = b""
        for number in range(3):
            steps.release()
            body = await asked.until(b"[%d]" % number, body)
            assert b"done" not in body
        steps.release()
        body, end = await asked.rest(body)
        assert end == "clean"
        assert body.count(b"[2]") == 1
        await until(lambda: on.idle)


@SERVERS
async def test_a_connection_is_used_again(server: str) -> None:  # P1-024
    async with served(server=server) as on, await on.peer() as peer:
        for _ in range(3):
            _, body = await peer.call("conformance.echo", b"hi")
            assert body.endswith(b'event: done\ndata: {"items":1,"trailers":{}}\n\n')
        await peer.send("nobody")
        assert (await peer.refused())[0] == 404
        await peer.call("conformance.echo", b"hi")


@ANYWHERE
async def test_echo_declares_the_type_of_the_request(way: str) -> None:  # P1-008
    body = b'{"a":\n1}'
    json_ = {"content-type": "application/json"}
    async with asking(way, {}, "conformance.echo", body, json_) as (asked, _):
        await asked.answer()
        assert (await asked.rest())[0].startswith(b'id: 0\nevent: item\ndata: {"a": 1}\n\n')
    async with asking(way, {}, "conformance.echo", body) as (asked, _):
        await asked.answer()
        assert (await asked.rest())[0].startswith(b"id: 0\nevent: bin\ndata: eyJhIjoKMX0=\n\n")


async def test_the_binary_format_carries_headers_trailers_and_the_request_id() -> None:  # P1-007
    accept = {"accept": TYPES["binary"], "request-id": "01020304-0506-0708-090a-0b0c0d0e0f10"}
    async with served() as on, await on.peer() as peer:
        _, body = await peer.call("conformance.headers", headers=accept)
    meta = codec.encode_response_meta([(b"content-type", b"application/json")])
    me = bytes(range(1, 17))
    assert body.startswith(codec.response_header(4, 0, len(meta), me) + meta)
    usage = codec.encode_response_meta([(b"usage", b'{"requests": 1}')])
    assert body.endswith(codec.response_header(5, 2, len(usage), me) + usage)


async def test_a_request_id_that_is_no_uuid_is_passed_on_and_not_used() -> None:
    accept = {"accept": TYPES["binary"], "request-id": "mine"}
    async with served() as on, await on.peer() as peer:
        _, body = await peer.call("conformance.headers", headers=accept)
        assert b'["request-id", "mine"]' in body
        one = body[16:32]
        _, body = await peer.call("conformance.headers", headers=accept)
        assert body[16:32] != one


@SERVERS
async def test_the_handler_sees_what_is_for_it(server: str) -> None:  # P1-023
    trace = "not a trace context"
    headers = {
        "traceparent": trace,
        "wmx-timeout-ms": "5000",
        "wch-addr": "1.2.3.4:5",
        "Accept": "application/x-ndjson",
        "connection": "keep-alive, x-hop",
        "x-hop": "1",
        "attempt": "2",
    }
    async with served(server=server) as on, await on.peer() as peer:
        _, body = await peer.call("conformance.headers", headers=headers)
    seen = json.loads(body.splitlines()[0])["data"]
    assert seen["subject"] == "conformance.headers"
    assert seen["timeout_ms"] == 5_000
    assert seen["request_flags"] == 0
    assert seen["headers"] == [
        ["traceparent", trace],
        ["accept", "application/x-ndjson"],
        ["attempt", "2"],
    ]


@ANYWHERE
@FORMATS
async def test_a_failure_behind_items_is_an_event(way: str, format_: str) -> None:  # P1-011
    async def fail(_: Request) -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"
        raise HandlerError("no more", code=muxwire.ErrorCode.OVERLOADED, retry_after_ms=9)

    async with asking(way, {"fail": fail}, "fail", b"", {"accept": TYPES[format_]}) as (asked, on):
        assert (await asked.answer()).status == 200
        body, end = await asked.rest()
        assert end == "clean"
        if format_ == "binary":
            frame = body[-codec.HEADER_SIZE - len("no more") - 12 :]
            assert frame[2] == END_STREAM | ERROR
            assert body.endswith(b"no more")
        else:
            last = body.splitlines()[-2 if format_ == "sse" else -1]
            error = json.loads(last.removeprefix(b"data: "))
            assert (error["code"], error["message"]) == ("OVERLOADED", "no more")
            assert (error["items"], error["retry_after_ms"]) == (2, 9)
        await until(lambda: on.idle)


async def test_a_handler_that_raises_says_nothing_of_the_inside() -> None:  # OBS-006
    async with served() as on, await on.peer() as peer:
        _, body = await peer.call("conformance.fail", b'{"panic":true,"after":1}')
        assert b'"APPLICATION_ERROR"' in body
        assert b"panic" not in body


async def test_trailers_that_cannot_be_sent_end_the_response_with_an_error() -> None:
    async def bad(request: Request) -> bytes:
        request.trailers = [("a b", "x")]
        return b"x"

    async with served({"bad": bad}) as on, await on.peer() as peer:
        _, body = await peer.call("bad")
        assert b'"REQUEST_INTERNAL_ERROR"' in body
        await until(lambda: on.idle)


@ANYWHERE
@FORMATS
async def test_silence_is_broken_by_heartbeats(way: str, format_: str) -> None:  # P1-014
    handler, steps = stepping()
    headers = {"accept": TYPES[format_], "wmx-heartbeat-ms": "100"}
    heartbeat = HEARTBEATS[format_]
    async with asking(way, {"step": handler}, "step", b"", headers) as (asked, on):
        await asked.answer()
        body = await asked.until(heartbeat * 3)
        steps.release()
        body = await asked.until(b"[0]", body)
        body = await asked.until(heartbeat * 2, body[body.index(b"[0]") :])
        for _ in range(3):
            steps.release()
        body, end = await asked.rest(body)
        assert end == "clean"
        assert b"[2]" in body
        await until(lambda: on.idle)


@ANYWHERE
async def test_a_deadline_ends_the_response_and_the_handler(way: str) -> None:  # P1-016
    ended = asyncio.Event()

    async def stubborn(_: Request) -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await never()
        finally:
            ended.set()

    headers = {"wmx-timeout-ms": "50", "accept": TYPES["ndjson"]}
    async with asking(way, {"it": stubborn}, "it", b"", headers) as (asked, on):
        await asked.answer()
        body, end = await asked.rest()
        assert end == "clean"
        last = json.loads(body.splitlines()[-1])
        assert last["code"] == "DEADLINE_EXCEEDED"
        assert last["items"] == body.count(b'"bin"')
        await ended.wait()
        await until(lambda: on.idle)
        assert on.worker.statistics.cancelled == 1


@ANYWHERE
@FORMATS
async def test_a_client_that_leaves_cancels_its_handler(way: str, format_: str) -> None:  # P1-013
    ended = asyncio.Event()

    async def silent(_: Request) -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await never()
        finally:
            ended.set()

    async with asking(way, {"it": silent}, "it", b"", {"accept": TYPES[format_]}) as (asked, on):
        await asked.answer()
        await asked.until({"binary": b"one"}.get(format_, b"b25l"))
        await asked.leave()
        await ended.wait()
        await until(lambda: on.idle)
        assert on.worker.statistics.cancelled == 1


@ANYWHERE
async def test_a_handler_that_writes_without_a_pause_notices_too(way: str) -> None:  # P1-013
    ended = asyncio.Event()

    async def endless(_: Request) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(10_000)
        finally:
            ended.set()

    async with asking(way, {"it": endless}, "it") as (asked, on):
        await asked.answer()
        await asked.until(b"id: 2\n")
        await asked.leave()
        await ended.wait()
        await until(lambda: on.idle)


@ANYWHERE
async def test_a_client_that_leaves_before_the_200_is_read(way: str) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def silent(_: Request) -> bytes:
        started.set()
        try:
            await never()
        finally:
            ended.set()
        return b""

    async with asking(way, {"it": silent}, "it") as (asked, on):
        await started.wait()
        await asked.leave()
        await ended.wait()
        await until(lambda: on.idle)


@ANYWHERE
@FORMATS
async def test_a_reader_that_stops_holds_back_its_handler_alone(
    way: str, format_: str
) -> None:  # P1-017
    made = 0
    size = 100_000

    async def source(_: Request) -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(ITEMS):
            made += 1
            yield bytes(size)

    server, _, version = way.partition("/")
    async with served({"source": source}, server) as on:
        if version == "2":
            async with Http2.to(on.port) as two:
                stream = two._h2.get_next_available_stream_id()
                two.held.add(stream)
                assert await two.post("source", headers={"accept": TYPES[format_]}) == stream
                await held_back(on, lambda: made)
                other = await two.post("conformance.echo", b"hi")
                await two.answer(other)
                assert (await two.rest(other))[1] == "clean"  # nobody else waits
                stopped = made
                await two.give_credit(stream)
                await two.answer(stream)
                body, end = await two.rest(stream)
        else:
            async with await on.peer() as peer, await on.peer() as another:
                transport: Any = peer.writer.transport
                transport.pause_reading()
                await peer.send("source", headers={"accept": TYPES[format_]})
                await held_back(on, lambda: made)
                await another.call("conformance.echo", b"hi")
                stopped = made
                transport.resume_reading()
                await peer.answer()
                body, end = await peer.rest()
        assert end == "clean"
        assert stopped < made == ITEMS
        assert len(body) > ITEMS * size
        await until(lambda: on.idle)


async def held_back(on: Served, made: Callable[[], int]) -> None:
    """Return when a handler is suspended: what it has made stays the same while others run."""
    waited = last = 0
    while waited < 20:
        async with await on.peer() as peer:
            await peer.call("conformance.echo", b"hi")
        waited = waited + 1 if made() == last and made() else 0
        last = made()
        assert on.path.buffered_bytes() <= 1_048_576
    assert on.path.buffered_bytes()
    assert made() < ITEMS


@ANYWHERE
async def test_a_large_item_goes_alone_and_whole(way: str) -> None:
    async with asking(way, {}, "conformance.source", b'{"bytes":5000000}') as (asked, on):
        await asked.answer()
        body, end = await asked.rest()
        assert end == "clean"
        assert len(body) > 5_000_000 * 4 // 3
        await until(lambda: on.idle)


@pytest.mark.parametrize("way", ["granian/1.1", "uvicorn/1.1", "granian/2"])
@FORMATS
async def test_a_client_that_takes_nothing_is_given_up(way: str, format_: str) -> None:  # P1-012
    ended = asyncio.Event()

    async def endless(_: Request) -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(100_000)
        finally:
            ended.set()

    server, _, version = way.partition("/")
    headers = {"accept": TYPES[format_]}
    async with served({"it": endless}, server, write_stall=0.2) as on:
        if version == "2":
            async with Http2.to(on.port) as two:
                stream = two._h2.get_next_available_stream_id()
                two.held.add(stream)
                await two.post("it", headers=headers)
                await ended.wait()
                await until(lambda: on.idle)
                await two.give_credit(stream)  # HTTP/2 says nothing on a stream that is blocked
                await two.answer(stream)
                assert (await two.rest(stream))[1] == CUT
        else:
            async with await on.peer() as peer:
                transport: Any = peer.writer.transport
                transport.pause_reading()
                await peer.send("it", headers=headers)
                await ended.wait()
                transport.resume_reading()
                await peer.answer()
                assert (await peer.rest())[1] == CUT
        await until(lambda: on.idle)


async def test_conformance_drain_closes_the_connection() -> None:
    async with served() as on, await on.peer() as peer:
        answer, body = await peer.call("conformance.drain", b'{"grace_ms":10}')
        assert answer["connection"] == "close"
        assert b"event: done" in body
        assert await peer.eof()
        async with Http2.to(on.port) as two:
            stream = await two.post("conformance.drain", b'{"grace_ms":10}')
            await two.answer(stream)
            assert (await two.rest(stream))[1] == "clean"
            await until(lambda: two.over)


@ANYWHERE
@FORMATS
async def test_a_drain_lets_open_streams_end(way: str, format_: str) -> None:
    handler, steps = stepping()
    headers = {"accept": TYPES[format_]}
    async with asking(way, {"step": handler}, "step", b"", headers) as (asked, on):
        await asked.answer()
        draining = asyncio.ensure_future(on.worker.drain(20.0))
        await until(lambda: on.path.draining)
        async with await on.peer() as late:
            await late.send("conformance.echo", b"hi")
            status, error, answer = await late.refused()
            assert (status, error["code"]) == (503, "DRAINING")
            assert answer["connection"] == "close"
            assert answer["wmx-not-processed"] == "1"
            assert await late.eof()
        for _ in range(4):
            steps.release()
        body, end = await asked.rest()
        assert end == "clean"
        assert b"[2]" in body
        await draining
        assert on.idle


@ANYWHERE
@FORMATS
async def test_when_the_grace_is_over_the_rest_ends_with_shutdown(way: str, format_: str) -> None:
    async def silent(_: Request) -> AsyncIterator[bytes]:
        yield b"one"
        await never()

    async with asking(way, {"it": silent}, "it", b"", {"accept": TYPES[format_]}) as (asked, on):
        await asked.answer()
        await asked.until({"binary": b"one"}.get(format_, b"b25l"))
        await asyncio.gather(on.worker.drain(0.0), ended_with(asked, b"CLS-006"))
        assert on.idle


async def ended_with(asked: Asked, message: bytes) -> None:
    body, end = await asked.rest()
    assert end == "clean"
    assert message in body


@ANYWHERE
async def test_a_drain_does_not_wait_for_who_takes_nothing(way: str) -> None:
    async def endless(_: Request) -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    config = muxwire.Config(linger=0.1)
    server, _, version = way.partition("/")
    async with served({"it": endless}, server, config=config) as on:
        if version == "2":
            async with Http2.to(on.port) as two:
                two.held.add(1)
                await two.post("it")
                await until(lambda: on.path.buffered_bytes() > 50_000)
                await on.worker.drain(0.0)
                await until(lambda: on.idle)
        else:
            async with await on.peer() as peer:
                transport: Any = peer.writer.transport
                transport.pause_reading()
                await peer.send("it")
                await until(lambda: on.path.buffered_bytes() > 50_000)
                await on.worker.drain(0.0)
                await until(lambda: on.idle)


async def test_a_thousand_streams_at_once() -> None:
    together = 1_000
    running = 0
    all_run = asyncio.Event()

    async def one(_: Request) -> AsyncIterator[bytes]:
        nonlocal running
        running += 1
        if running == together:
            all_run.set()
        await all_run.wait()
        for _ in range(5):
            yield b"item"

    config = muxwire.Config(settings=Settings.recommended(max_concurrent_requests=together))

    async def ten(port: int) -> None:
        async with Http2.to(port) as two:
            streams = [await two.post("one", b"x") for _ in range(100)]
            for stream in streams:
                assert (await two.answer(stream)).status == 200
                body, end = await two.rest(stream)
                assert end == "clean"
                assert body.endswith(b'{"items":5,"trailers":{}}\n\n')

    async with served({"one": one}, config=config) as on:
        await asyncio.gather(*(ten(on.port) for _ in range(together // 100)))
        await until(lambda: on.idle)
        assert on.worker.statistics.peak == together
