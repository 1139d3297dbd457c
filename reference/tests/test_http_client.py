"""The client of the HTTP path against workers that misbehave: each has the outcome of the table.

Every script runs over HTTP/1.1 and over HTTP/2.  The last part is about one version only.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import muxwire
import pytest
from http_core import vectors
from http_harness import Exchange, Exchange1, over, played, playing
from io_harness import drained, until
from muxwire._generated.registries import ErrorCode
from muxwire.core.http.response import HELD
from muxwire.errors import InvalidArgument, LocalProtocolError, Outcome
from muxwire.http import Client, connect

pytestmark = pytest.mark.usefixtures("each_loop")
VERSIONS = pytest.mark.parametrize("version", [1, 2])
ALL = vectors("whole", "broken", "odd")


def item(seq: int, text: str = "YQ==") -> bytes:
    return f"id: {seq}\nevent: bin\ndata: {text}\n\n".encode()


def done(items: int) -> bytes:
    return b'event: done\ndata: {"items":%d,"trailers":{}}\n\n' % items


WHOLE = item(0) + item(1) + done(2)


async def whole(exchange: Exchange) -> None:
    await exchange.head()
    await exchange.data(WHOLE)
    await exchange.end()


async def attempt(
    client: Client, subject: str = "a", data: bytes = b"", **options: Any
) -> tuple[list[bytes], muxwire.RequestFailed | None]:
    return await drained(client.stream(subject, data, **options))


# -- what a whole response is ----------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("name", ALL)
async def test_a_vector(version: int, name: str) -> None:
    vector = ALL[name]
    body = bytes.fromhex(vector["body"])

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for at in range(0, len(body), 50):
            await exchange.data(body[at : at + 50])
        if vector["end"] == "clean":
            await exchange.end()
        else:
            exchange.cut()

    async with played(version, script, format=vector["format"]) as (client, _):
        stream = client.stream("a", b"")
        messages, error = await drained(stream)
        assert [message.hex() for message in messages] == vector["messages"]
        if error is None:
            assert vector["class"] == "SUCCESS"
            assert dict(stream.trailers) == vector["trailers"]
        else:
            assert error.outcome.name == vector["class"]
            assert error.code_name == vector["code"]
            assert error.messages == len(messages)


@VERSIONS
async def test_what_a_request_says(version: int) -> None:
    async def script(exchange: Exchange) -> None:
        await whole(exchange)

    headers = [("content-type", "application/json"), ("x", "1"), ("request-id", "me")]
    async with played(version, script, heartbeat_ms=200) as (client, worker):
        await attempt(client, "a.b-c", b'{"a":1}', headers=headers, timeout=60)
    (posted,) = worker.posts
    assert posted.path == "/v1/rpc/response/a.b-c"
    assert posted.body == b'{"a":1}'
    assert posted["accept"] == "text/event-stream"
    assert posted["content-type"] == "application/json"
    assert posted["wmx-heartbeat-ms"] == "200"
    assert 59_000 < int(posted["wmx-timeout-ms"]) <= 60_000
    assert posted["request-id"] == "me"
    assert posted["x"] == "1"
    assert not {"user-agent", "accept-encoding", "attempt"} & {name for name, _ in posted.fields}


@VERSIONS
@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
async def test_a_body_of_any_size(version: int, size: int) -> None:
    async def script(exchange: Exchange) -> None:
        await whole(exchange)

    async with played(version, script) as (client, worker):
        body = bytes(range(256)) * (size // 256) + bytes(size % 256)
        assert await attempt(client, "a", body) == ([b"a", b"a"], None)
    assert worker.posts[0].body == body
    assert "wmx-timeout-ms" not in worker.posts[0]
    assert "wmx-heartbeat-ms" not in worker.posts[0]


# -- answers that are none -------------------------------------------------------------------------

FULL = {"code": "OVERLOADED", "num": ErrorCode.OVERLOADED, "message": "full", "retry_after_ms": 7}
JSON = ("content-type", "application/json")
UNTOUCHED = ("wmx-not-processed", "1")
SSE = ("content-type", "text/event-stream")

ANSWERS: dict[str, tuple[int, list[tuple[str, str]], bytes, Outcome, int | None, int]] = {
    "refused": (503, [JSON, UNTOUCHED], json.dumps(FULL).encode(), Outcome.NOT_PROCESSED, 0x104, 7),
    "unsaid": (503, [JSON], json.dumps(FULL).encode(), Outcome.AMBIGUOUS, 0x104, 7),
    "hint": (503, [UNTOUCHED, ("retry-after", "3")], b"", Outcome.NOT_PROCESSED, None, 3_000),
    "odd flag": (503, [("wmx-not-processed", "yes")], b"", Outcome.AMBIGUOUS, None, 0),
    "proxy": (502, [("content-type", "text/html")], b"<h1>Bad</h1>", Outcome.AMBIGUOUS, None, 0),
    "redirect": (307, [("location", "/v1/rpc/response/b")], b"", Outcome.AMBIGUOUS, None, 0),
    "authentication": (401, [("www-authenticate", "Basic")], b"", Outcome.AMBIGUOUS, None, 0),
    "admitted": (202, [], b"", Outcome.AMBIGUOUS, None, 0),
    "no content": (204, [("content-length", "0")], b"", Outcome.AMBIGUOUS, None, 0),
    "endless": (500, [UNTOUCHED], b"x" * 300_000, Outcome.NOT_PROCESSED, None, 0),
    "html": (200, [("content-type", "text/html")], WHOLE, Outcome.AMBIGUOUS, None, 0),
    "another format": (
        200,
        [("content-type", "application/x-ndjson"), UNTOUCHED],
        WHOLE,
        Outcome.AMBIGUOUS,
        None,
        0,
    ),
    "no type": (200, [], WHOLE, Outcome.AMBIGUOUS, None, 0),
    "encoded": (200, [SSE, ("content-encoding", "gzip")], WHOLE, Outcome.AMBIGUOUS, None, 0),
}


@VERSIONS
@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_that_is_no_response(version: int, name: str) -> None:  # P1-020
    status, fields, body, outcome, code, hint = ANSWERS[name]

    async def script(exchange: Exchange) -> None:
        await exchange.head(status, fields)
        if status != 204:
            await exchange.data(body)
            await exchange.end()

    async with played(version, script) as (client, worker):
        messages, error = await attempt(client)
        assert messages == []
        assert error is not None
        assert (error.outcome, error.code, error.retry_after_ms) == (outcome, code, hint), error
        assert len(worker.posts) == 1


@VERSIONS
@pytest.mark.parametrize("type_", ["text/event-stream; charset=utf-8", "TEXT/Event-Stream"])
async def test_a_content_type_in_another_form(version: int, type_: str) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(200, [("content-type", type_), ("content-encoding", "identity")])
        await exchange.data(WHOLE)
        await exchange.end()

    async with played(version, script) as (client, _):
        assert await attempt(client) == ([b"a", b"a"], None)


@VERSIONS
async def test_an_error_object_that_is_cut_off(version: int) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(503, [JSON, UNTOUCHED])
        await exchange.data(b'{"num":260,')
        exchange.cut()

    async with played(version, script) as (client, _):
        _, error = await attempt(client)
        assert error is not None
        assert (error.outcome, error.code, error.message) == (
            Outcome.NOT_PROCESSED,
            None,
            "HTTP 503",
        )


# -- endings ---------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        (b"", Outcome.AMBIGUOUS),
        (b": hb\n\n", Outcome.AMBIGUOUS),
        (item(0)[:-1], Outcome.AMBIGUOUS),
        (item(0), Outcome.PARTIAL),
        (item(0) + done(1)[:-1], Outcome.PARTIAL),
        (item(0) + done(1), Outcome.PARTIAL),
        (done(0), Outcome.PARTIAL),
    ],
    ids=["nothing", "heartbeat", "half an item", "an item", "half done", "done", "done alone"],
)
async def test_a_body_that_is_cut_off(version: int, body: bytes, outcome: Outcome) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.data(body)
        exchange.cut()

    async with played(version, script) as (client, _):
        messages, error = await attempt(client)
        assert error is not None
        assert (error.outcome, error.code, error.local) == (outcome, None, True)
        assert (
            error.messages
            == len(messages)
            == body.count(b"\n\n")
            - body.count(b"event: done")
            - (body.count(b": hb"))
            + (body == item(0) + done(1)[:-1])
        )


@VERSIONS
async def test_no_answer_at_all(version: int) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.cut()

    async with played(version, script) as (client, _):
        messages, error = await attempt(client)
        assert error is not None
        assert (messages, error.outcome, error.code) == ([], Outcome.AMBIGUOUS, None)


@VERSIONS
async def test_done_and_no_end(version: int) -> None:  # P1-020
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.data(WHOLE)
        await exchange.gone()

    async with played(version, script) as (client, _):
        messages, error = await attempt(client)
        assert error is not None
        assert (len(messages), error.outcome) == (2, Outcome.PARTIAL)
        assert "2 s" in error.message


@VERSIONS
async def test_an_error_event_is_final_at_once(version: int) -> None:  # P1-020
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.data(item(0) + b'event: error\ndata: {"num":264,"items":1}\n\n')
        await exchange.gone()

    async with played(version, script) as (client, _):
        messages, error = await attempt(client)
        assert error is not None
        assert (messages, error.outcome, error.code, error.local) == (
            [b"a"],
            Outcome.FAILED,
            ErrorCode.SHUTDOWN,
            False,
        )


@VERSIONS
async def test_a_worker_that_says_nothing(version: int) -> None:  # P1-021
    async def script(exchange: Exchange) -> None:
        await exchange.gone()

    async with playing(version, script) as worker:
        config = muxwire.Config()
        client = Client(
            (f"http://{worker.address}",),
            config,
            recover=False,
            **over(version),
            heartbeat_ms=100,
            min_silence=0.2,
        )
        _, error = await attempt(client)
        await client.close()
        assert error is not None
        assert (error.outcome, error.message) == (
            Outcome.AMBIGUOUS,
            "nothing came for 0.3 s (P1-021)",
        )


# -- the caller ------------------------------------------------------------------------------------


@VERSIONS
async def test_kill_ends_the_exchange(version: int) -> None:  # P1-013
    gone = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.data(item(0))
        await exchange.gone()
        gone.set()

    async with played(version, script) as (client, _):
        stream = client.stream("a", b"")
        assert await anext(stream) == b"a"
        stream.kill()
        messages, error = await drained(stream)
        assert error is not None
        assert (messages, error.outcome, error.code, error.local) == (
            [],
            Outcome.FAILED,
            ErrorCode.CANCELLED,
            True,
        )
        await gone.wait()
        assert client.open_requests == 0


@VERSIONS
async def test_kill_before_anything_was_sent(version: int) -> None:  # P1-013
    async def script(exchange: Exchange) -> None:
        await whole(exchange)

    async with played(version, script) as (client, worker):
        stream = client.stream("a", b"")
        stream.kill()
        _, error = await drained(stream)
        assert error is not None
        assert (error.outcome, error.code) == (Outcome.NOT_SENT, ErrorCode.CANCELLED)
        assert await attempt(client) == ([b"a", b"a"], None)
        assert len(worker.posts) == 1


@VERSIONS
async def test_a_cancelled_call_ends_the_exchange(version: int) -> None:
    there, gone = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        there.set()
        await exchange.gone()
        gone.set()

    async with played(version, script) as (client, _):
        call = asyncio.ensure_future(client.call("a"))
        await there.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await gone.wait()


@VERSIONS
async def test_a_call_wants_one_message(version: int) -> None:
    async with played(version, whole) as (client, _):
        with pytest.raises(LocalProtocolError, match="several messages"):
            await client.call("a")


@VERSIONS
async def test_a_deadline(version: int) -> None:  # REC-005
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.gone()

    async with played(version, script) as (client, _):
        _, error = await attempt(client, timeout=0.05)
        assert error is not None
        assert error.code == ErrorCode.DEADLINE_EXCEEDED
        assert error.local


@VERSIONS
async def test_a_caller_that_does_not_take_what_comes(version: int) -> None:
    size, count = 10_000, 1_000
    sent = 0

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.head()
        text = "AAAA" * (size // 3)
        for seq in range(count):
            await exchange.data(item(seq, text))
            sent += 1
        await exchange.data(done(count))
        await exchange.end()

    async with played(version, script) as (client, _):
        stream = client.stream("a", b"")
        inbox = stream._inbox
        await until(lambda: sum(cost for _, cost in inbox.messages) >= HELD)
        for _ in range(500):
            await asyncio.sleep(0)
        taken = 0
        async for message in stream:
            held = sum(cost for _, cost in inbox.messages)
            assert held <= 2 * HELD
            taken += len(message)
        assert taken == count * (size // 3) * 3
        assert sent == count


@VERSIONS
async def test_a_reader_that_stops_delays_nobody(version: int) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        if exchange.posted.body:
            for seq in range(100_000):
                await exchange.data(item(seq, "AAAA" * 1_000))
        await exchange.data(item(0) + done(1))
        await exchange.end()

    async with played(version, script) as (client, _):
        stalled = [client.stream("a", b"much") for _ in range(3)]
        await until(lambda: all(len(one._inbox.messages) > 50 for one in stalled))
        for _ in range(10):
            assert await client.call("a") == b"a"
        for one in stalled:
            one.kill()


@VERSIONS
async def test_there_is_no_stop(version: int) -> None:  # 22.4
    async with played(version, whole) as (client, _):
        stream = client.stream("a", b"")
        with pytest.raises(LocalProtocolError, match="kill"):
            stream.stop()
        assert await drained(stream) == ([b"a", b"a"], None)


@VERSIONS
async def test_what_is_not_allowed(version: int) -> None:
    async with played(version, whole) as (client, worker):
        for headers in (
            [("accept", "text/html")],
            [("host", "a")],
            [("wmx-timeout-ms", "1")],
            [("connection", "close")],
            [("x", " a")],
        ):
            with pytest.raises(InvalidArgument):
                client.stream("a", b"", headers=headers)
        with pytest.raises(InvalidArgument, match="one message"):
            client.stream("a")
        with pytest.raises(InvalidArgument):
            client.stream("a b", b"")
        assert not worker.posts


@pytest.mark.parametrize(
    ("targets", "options"),
    [
        ((), {}),
        (("127.0.0.1:1",), {}),
        (("https://127.0.0.1:1",), {}),
        (("http://a:b",), {}),
        (("http://127.0.0.1:1?x",), {}),
        (("http://127.0.0.1:1",), {"format": "xml"}),
        (("http://127.0.0.1:1",), {"heartbeat_ms": 99}),
        (("http://127.0.0.1:1",), {"heartbeat_ms": 60_001}),
    ],
)
async def test_a_client_that_cannot_be_made(
    targets: tuple[str, ...], options: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgument):
        await connect(*targets, **options)


# -- recovery --------------------------------------------------------------------------------------


@VERSIONS
async def test_a_refusal_is_tried_again(version: int) -> None:  # REC-003, REC-007
    async def script(exchange: Exchange) -> None:
        if "attempt" not in exchange.posted:
            await exchange.head(503, [JSON, UNTOUCHED])
            await exchange.data(b'{"num":261}')
            await exchange.end()
        else:
            await whole(exchange)

    async with played(version, script, recover=True) as (client, worker):
        assert await attempt(client, "a", b"x") == ([b"a", b"a"], None)
    first, second = worker.posts
    assert second["attempt"] == "2"
    assert second["request-id"] == first["request-id"]
    assert second.body == b"x"


@VERSIONS
@pytest.mark.parametrize("idempotent", [True, False])
async def test_what_may_have_run_is_tried_again_if_that_does_no_harm(
    version: int, idempotent: bool
) -> None:  # REC-003
    async def script(exchange: Exchange) -> None:
        if "attempt" in exchange.posted:
            await whole(exchange)
        else:
            exchange.cut()

    async with played(version, script, recover=True) as (client, worker):
        messages, error = await attempt(client, idempotent=idempotent)
        assert len(messages) == (2 if idempotent else 0)
        assert (error is None) == idempotent
        assert len(worker.posts) == 1 + idempotent


@VERSIONS
async def test_nothing_is_tried_again_behind_an_item(version: int) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.data(item(0))
        exchange.cut()

    async with played(version, script, recover=True) as (client, worker):
        messages, error = await attempt(client, idempotent=True)
        assert error is not None
        assert (messages, error.outcome, len(worker.posts)) == ([b"a"], Outcome.PARTIAL, 1)


@VERSIONS
async def test_another_worker_is_asked(version: int) -> None:  # REC-004
    async with playing(version, whole) as nobody:
        dead = nobody.address
    async with playing(version, whole) as worker:
        targets = (f"http://{dead}", f"http://{worker.address}")
        async with connect(*targets, **over(version)) as client:
            for _ in range(4):
                assert await attempt(client) == ([b"a", b"a"], None)
    assert len(worker.posts) == 4


@VERSIONS
@pytest.mark.parametrize("recover", [True, False])
async def test_nobody_is_there(version: int, recover: bool) -> None:
    async with playing(version, whole) as nobody:
        dead = nobody.address
    async with connect(f"http://{dead}", recover=recover, wait=0.2, **over(version)) as client:
        _, error = await attempt(client)
        assert error is not None
        assert (error.outcome, error.code, error.attempts) == (Outcome.NOT_SENT, None, 0)


# -- the end ---------------------------------------------------------------------------------------


@VERSIONS
async def test_close_waits_for_what_runs(version: int) -> None:
    there, go = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        there.set()
        await go.wait()
        await whole(exchange)

    async with played(version, script) as (client, _):
        stream = client.stream("a", b"")
        await there.wait()
        closing = asyncio.ensure_future(client.close(None))
        await asyncio.sleep(0)
        with pytest.raises(muxwire.ConnectionClosed):
            client.stream("a", b"")
        go.set()
        await closing
        assert await drained(stream) == ([b"a", b"a"], None)


@VERSIONS
async def test_close_kills_what_runs_too_long(version: int) -> None:
    there = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        there.set()
        await exchange.gone()

    async with played(version, script) as (client, _):
        stream = client.stream("a", b"")
        await there.wait()
        await client.close(0.01)
        _, error = await drained(stream)
        assert error is not None
        assert (error.outcome, error.code) == (Outcome.FAILED, ErrorCode.CANCELLED)


# -- HTTP/1.1 alone --------------------------------------------------------------------------------


async def test_a_connection_is_used_again() -> None:  # P1-024
    async with played(1, whole) as (client, worker):
        for _ in range(3):
            assert await attempt(client) == ([b"a", b"a"], None)
    assert worker.accepted == 1


INFORMATIONAL = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"


async def test_informational_answers_are_passed_over() -> None:
    async def script(exchange: Exchange1) -> None:
        await exchange.raw(INFORMATIONAL)
        await whole(exchange)

    async with played(1, script) as (client, _):
        assert await attempt(client) == ([b"a", b"a"], None)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
LENGTH = HEAD + b"content-length: %d\r\n\r\n"

RAW = {
    "a bad chunk": (CHUNKED + b"5\r\nid: 0\r\nzz\r\n", Outcome.AMBIGUOUS),
    "a short body": (LENGTH % 1_000 + WHOLE, Outcome.PARTIAL),
    "half a field": (HEAD + b"trans", Outcome.AMBIGUOUS),
    "no HTTP": (b"\xf7WMX\r\n\x1a\n" + bytes(8), Outcome.AMBIGUOUS),
    "a huge field": (HEAD + b"x: " + b"y" * 100_000 + b"\r\n\r\n", Outcome.AMBIGUOUS),
    "switching": (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", Outcome.AMBIGUOUS),
    "two lengths": (HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\n", Outcome.AMBIGUOUS),
}


@pytest.mark.parametrize("name", RAW)
async def test_octets_that_are_no_answer(name: str) -> None:
    octets, outcome = RAW[name]

    async def script(exchange: Exchange1) -> None:
        await exchange.raw(octets)
        exchange.cut()

    async with played(1, script) as (client, _):
        _, error = await attempt(client)
        assert error is not None
        assert (error.outcome, error.code) == (outcome, None)
        assert "\n" not in str(error)


async def test_a_bad_chunk_behind_an_item() -> None:
    taken = asyncio.Event()

    async def script(exchange: Exchange1) -> None:
        await exchange.head()
        await exchange.data(item(0))
        await taken.wait()
        await exchange.raw(b"zz\r\n")
        await exchange.gone()

    async with played(1, script) as (client, _):
        stream = client.stream("a", b"")
        assert await anext(stream) == b"a"
        taken.set()
        _, error = await drained(stream)
        assert error is not None
        assert error.outcome is Outcome.PARTIAL


async def test_a_body_with_a_length() -> None:
    async def script(exchange: Exchange1) -> None:
        await exchange.raw(LENGTH % len(WHOLE) + WHOLE)

    async with played(1, script) as (client, _):
        assert await attempt(client) == ([b"a", b"a"], None)


async def test_a_recorded_answer_cut_at_every_octet() -> None:
    pieces = [item(0), item(1), done(2)]
    parts = [CHUNKED, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), b"0\r\n\r\n"]
    recorded = b"".join(parts)
    sizes = iter(range(len(recorded) + 1))
    ends = [len(CHUNKED + parts[1]) - 2, len(CHUNKED + parts[1] + parts[2]) - 2]

    async def script(exchange: Exchange1) -> None:
        await exchange.raw(recorded[: next(sizes)])
        exchange.cut()

    async with played(1, script) as (client, _):
        for size in range(len(recorded)):
            messages, error = await attempt(client)
            assert error is not None
            assert error.messages == len(messages) == sum(size >= end for end in ends)
            assert error.outcome == (Outcome.PARTIAL if messages else Outcome.AMBIGUOUS)
        assert await attempt(client) == ([b"a", b"a"], None)
