"""A request and its handler, with a transport that only remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from muxwire._generated.registries import ErrorCode
from muxwire.errors import (
    HandlerError,
    InvalidArgument,
    LocalProtocolError,
    RequestClosed,
)
from muxwire.handlers import (
    Handler,
    Request,
    check_message,
    decode_headers,
    encode_headers,
    run,
)


class Recorder:
    """A transport that takes `room` messages and then no more."""

    def __init__(self, room: int = 1_000) -> None:
        self.room = room
        self.calls: list[tuple[Any, ...]] = []

    def send_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.calls.append(("headers", headers))

    def send_message(self, data: bytes) -> bool:
        check_message(data)
        if not self.room:
            return False
        self.room -= 1
        self.calls.append(("message", data))
        return True

    def finish(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.calls.append(("finish", trailers))

    def fail(self, code: int, message: str, **options: Any) -> None:
        self.calls.append(("fail", code, message, options))

    def consumed(self, cost: int) -> None:
        self.calls.append(("consumed", cost))

    def awaiting(self) -> None:
        self.calls.append(("awaiting",))

    def drain_connection(self, grace_ms: int) -> None:
        self.calls.append(("drain", grace_ms))


def request(responder: Recorder, **changes: Any) -> Request:
    values = {
        "subject": "test",
        "headers": [("k", "v")],
        "timeout_ms": 0,
        "request_flags": 0,
        "request_id": bytes(16),
        "responder": responder,
    }
    return Request(**{**values, **changes})


async def calls(handler: Handler, responder: Recorder | None = None) -> list[tuple[Any, ...]]:
    responder = responder or Recorder()
    await run(handler, request(responder), responder)
    return responder.calls


# -- reading ---------------------------------------------------------------------------------------


async def test_messages_are_read_in_order_and_given_back_one_by_one() -> None:
    responder = Recorder()
    made = request(responder)
    made.feed_message(b"a", 33)
    made.feed_message(b"", 32)
    made.feed_end()
    assert await made.read() == b"a"
    assert responder.calls == [("consumed", 33)]
    assert await made.read() == b""
    assert await made.read() is None
    assert await made.read() is None
    assert responder.calls == [("consumed", 33), ("consumed", 32)]


async def test_a_reader_waits_and_says_so() -> None:
    responder = Recorder()
    made = request(responder)
    reader = asyncio.ensure_future(made.read())
    await asyncio.sleep(0)
    assert responder.calls == [("awaiting",)]
    made.feed_message(b"a", 33)
    made.feed_message(b"b", 33)  # before the reader has run
    assert await reader == b"a"
    assert await made.read() == b"b"


async def test_a_reader_that_was_cancelled_loses_no_message() -> None:
    made = request(Recorder())
    reader = asyncio.ensure_future(made.read())
    await asyncio.sleep(0)
    made.feed_message(b"a", 33)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await made.read() == b"a"
    reader = asyncio.ensure_future(made.read())
    await asyncio.sleep(0)
    made.feed_end()
    assert await reader is None


async def test_one_task_reads_at_a_time() -> None:
    made = request(Recorder())
    reader = asyncio.ensure_future(made.read())
    await asyncio.sleep(0)
    with pytest.raises(LocalProtocolError, match="two tasks"):
        await made.read()
    made.feed_message(b"a", 33)
    assert await reader == b"a"


async def test_a_request_is_an_iterator_of_its_messages() -> None:
    made = request(Recorder())
    made.feed_message(b"a", 33)
    made.feed_message(b"b", 33)
    made.feed_end()
    assert [message async for message in made] == [b"a", b"b"]


async def test_a_stop_is_seen_by_who_waits_and_by_who_looks() -> None:
    made = request(Recorder())
    assert not made.stopped
    waiting = asyncio.ensure_future(made.wait_stopped())
    await asyncio.sleep(0)
    made.feed_stop()
    await waiting
    assert made.stopped
    late = request(Recorder())
    late.feed_stop()
    assert late.stopped
    await late.wait_stopped()


async def test_a_request_tells_what_the_client_said() -> None:
    responder = Recorder()
    made = request(responder, request_flags=0x8001, timeout_ms=7)
    assert (made.idempotent, made.request_flags, made.timeout_ms) == (True, 0x8001, 7)
    assert not request(responder, request_flags=0x8000).idempotent
    made.drain_connection(5)
    assert responder.calls == [("drain", 5)]


async def test_headers_are_sent_once() -> None:
    responder = Recorder()
    made = request(responder)
    with pytest.raises(InvalidArgument):
        made.send_headers([("k", "\ud800")])
    made.send_headers([("k", "\u00e4")])
    with pytest.raises(RequestClosed):
        made.send_headers([])
    assert responder.calls == [("headers", [(b"k", b"\xc3\xa4")])]


def test_headers_survive_both_ways() -> None:
    pairs = [("a", ""), ("b", "\u00e4\U0001f600")]
    assert decode_headers(encode_headers(pairs)) == pairs


@pytest.mark.parametrize("data", ["text", bytearray(b"x"), memoryview(b"x"), None, 5])
def test_a_message_is_bytes(data: object) -> None:
    with pytest.raises(TypeError, match="bytes"):
        check_message(data)


# -- running ---------------------------------------------------------------------------------------


async def test_a_function_gives_one_answer_or_none() -> None:
    async def one(made: Request) -> bytes:
        made.trailers = [("usage", "1")]
        return b"one"

    async def none(_: Request) -> None:
        return

    assert await calls(one) == [("message", b"one"), ("finish", [(b"usage", b"1")])]
    assert await calls(none) == [("finish", [])]


async def test_a_generator_gives_a_stream() -> None:
    async def several(_: Request) -> AsyncGenerator[bytes, None]:
        yield b"a"
        yield b""

    assert await calls(several) == [("message", b"a"), ("message", b""), ("finish", [])]


async def test_a_generator_is_held_where_there_is_no_room() -> None:
    reached = 0

    async def several(_: Request) -> AsyncGenerator[bytes, None]:
        nonlocal reached
        for number in range(4):
            reached = number
            yield b"%d" % number

    responder = Recorder(room=2)
    made = request(responder)
    running = asyncio.ensure_future(run(several, made, responder))
    await asyncio.sleep(0)
    assert reached == 2
    made.feed_writable()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert reached == 2  # there was no room after all
    responder.room = 9
    made.feed_writable()
    made.feed_writable()
    await running
    assert responder.calls[-2:] == [("message", b"3"), ("finish", [])]


@pytest.mark.parametrize("place", ["own wait", "no room"])
async def test_a_cancelled_generator_is_closed_and_answered(place: str) -> None:
    closed = False

    async def several(_: Request) -> AsyncGenerator[bytes, None]:
        nonlocal closed
        try:
            if place == "own wait":
                await asyncio.Event().wait()
            yield b"a"
        finally:
            await asyncio.sleep(0)
            closed = True

    responder = Recorder(room=0)
    running = asyncio.ensure_future(run(several, request(responder), responder))
    await asyncio.sleep(0)
    running.cancel()
    await running
    assert closed
    assert responder.calls == [("fail", ErrorCode.CANCELLED, "", {})]


async def test_a_generator_is_closed_when_its_message_is_wrong() -> None:
    closed = False

    async def wrong(_: Request) -> AsyncGenerator[Any, None]:
        nonlocal closed
        try:
            yield "text"
        finally:
            closed = True

    assert await calls(wrong) == [
        ("fail", ErrorCode.APPLICATION_ERROR, "the handler failed", {}),
    ]
    assert closed


async def test_a_handler_error_becomes_the_terminal() -> None:
    async def refuse(_: Request) -> AsyncGenerator[bytes, None]:
        yield b"a"
        raise HandlerError("no", code=9, detail=b"d", retry_after_ms=5, non_retryable=True)

    options = {"detail": b"d", "retry_after_ms": 5, "non_retryable": True}
    assert await calls(refuse) == [("message", b"a"), ("fail", 9, "no", options)]


async def test_any_other_error_is_logged_and_hidden(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: Request) -> bytes:
        raise KeyError("secret")

    (call,) = await calls(broken)
    assert call == ("fail", ErrorCode.APPLICATION_ERROR, "the handler failed", {})
    assert "secret" in caplog.text
    assert "test" in caplog.records[0].getMessage()


@pytest.mark.parametrize("handler", [lambda _: b"x", lambda _: None, lambda: None])
async def test_what_is_no_handler_fails_its_request(handler: Any) -> None:
    (call,) = await calls(handler)
    assert call[:2] == ("fail", ErrorCode.APPLICATION_ERROR)
