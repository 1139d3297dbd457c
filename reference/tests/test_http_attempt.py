"""One attempt over HTTP in virtual time, with a carrier that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import muxwire
import pytest
from http_core import LIMIT
from muxwire._generated.registries import ErrorCode
from muxwire.core.http.response import HELD
from muxwire.errors import MuxwireError, Outcome, RequestFailed
from muxwire.http.attempt import Attempt, Post

pytestmark = pytest.mark.usefixtures("virtual_time")

ITEM = b"id: %d\nevent: bin\ndata: YQ==\n\n"
WAIT, SILENCE = 10.0, 45.0


class Caller:
    """Keeps what it is told, and when."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, int]] = []
        self.trailers: list[tuple[bytes, bytes]] | None = None
        self.error: MuxwireError | None = None
        self.over: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def on_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        del headers

    def on_message(self, data: bytes, cost: int) -> None:
        self.messages.append((data, cost))

    def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.trailers = trailers
        self._end()

    def on_failed(self, error: MuxwireError) -> None:
        self.error = error
        self._end()

    def on_writable(self) -> None:
        raise AssertionError

    def _end(self) -> None:
        self.over.set_result(asyncio.get_running_loop().time())

    @property
    def failure(self) -> RequestFailed:
        assert isinstance(self.error, RequestFailed)
        return self.error


class Carrier:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.resumed = 0
        self.dropped = 0

    def resume(self) -> None:
        self.resumed += 1

    def drop(self) -> None:
        self.dropped += 1


class Played:
    """An attempt, its caller and its carrier."""

    def __init__(self, *, timeout: float | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.begun = loop.time()
        self.caller = Caller()
        self.carrier = Carrier()
        self.left = 0
        self.attempt = Attempt(
            Post("/a", [], b"", "sse"),
            self.caller,
            b"me",
            deadline=None if timeout is None else loop.time() + timeout,
            wait=WAIT,
            silence=SILENCE,
            limit=LIMIT,
            on_over=self._over,
        )
        self.attempt.carrier = self.carrier

    def _over(self, attempt: Attempt) -> None:
        assert attempt is self.attempt
        assert not self.caller.over.done()  # before the last word
        self.left += 1

    def sent(self) -> Played:
        self.attempt.posted()
        self.attempt.sent()
        return self

    def answered(self, status: int = 200, **fields: str) -> Played:
        if status == 200:
            fields["content-type"] = "text/event-stream"
        self.attempt.answered(status, {k.replace("_", "-"): v for k, v in fields.items()}.get)
        return self

    async def over(self) -> float:
        """Return how long it took."""
        when = await self.caller.over - self.begun
        await asyncio.sleep(1_000)
        assert self.left == self.carrier.dropped == 1
        return when

    async def failed(self) -> tuple[float, Outcome, int | None]:
        when = await self.over()
        return when, self.caller.failure.outcome, self.caller.failure.code


async def test_who_finds_no_connection_waits_so_long() -> None:  # REC-005
    assert await Played().failed() == (WAIT, Outcome.NOT_SENT, None)


async def test_a_deadline_before_there_is_a_connection() -> None:
    played = Played(timeout=3.0)
    assert await played.failed() == (3.0, Outcome.NOT_SENT, ErrorCode.DEADLINE_EXCEEDED)


async def test_a_deadline_while_the_worker_works() -> None:  # REC-005
    played = Played(timeout=3.0).sent().answered()
    when, outcome, code = await played.failed()
    assert 3.5 <= when <= 4.0
    assert (outcome, code) == (Outcome.FAILED, ErrorCode.DEADLINE_EXCEEDED)


async def test_no_answer() -> None:  # P1-021
    assert await Played().sent().failed() == (SILENCE, Outcome.AMBIGUOUS, None)


async def test_the_silence_of_an_upload_does_not_count() -> None:
    played = Played()
    played.attempt.posted()
    await asyncio.sleep(500)
    played.attempt.sent()
    assert await played.failed() == (500 + SILENCE, Outcome.AMBIGUOUS, None)


async def test_signs_of_life() -> None:  # P1-021
    played = Played().sent().answered()
    for _ in range(20):
        await asyncio.sleep(SILENCE - 1)
        played.attempt.receive(b": hb\n\n")
    played.attempt.receive(ITEM % 0)
    when = 20 * (SILENCE - 1) + SILENCE
    assert await played.failed() == (when, Outcome.PARTIAL, None)


async def test_a_caller_that_stops_and_goes_on() -> None:  # P1-021
    played = Played().sent().answered()
    count = 0
    while not played.attempt.full:
        played.attempt.receive(ITEM % count)
        count += 1
    assert played.attempt.held >= HELD
    await asyncio.sleep(10_000)
    assert not played.caller.over.done()
    for _, cost in played.caller.messages:
        played.attempt.consumed(cost)
    assert not played.attempt.full
    assert played.carrier.resumed == count
    assert await played.failed() == (10_000 + SILENCE, Outcome.PARTIAL, None)


async def test_done_without_an_end() -> None:  # P1-020
    played = Played().sent().answered()
    played.attempt.receive(b'event: done\ndata: {"items":0,"trailers":{}}\n\n')
    await asyncio.sleep(1)
    played.attempt.receive(b": hb\n\n")  # no sign of life helps
    assert await played.failed() == (2.0, Outcome.PARTIAL, None)


async def test_done_with_an_end() -> None:
    played = Played().sent().answered()
    played.attempt.receive(b'event: done\ndata: {"items":0,"trailers":{"a":"b"}}\n\n')
    await asyncio.sleep(1.5)
    played.attempt.ended()
    assert await played.over() == 1.5
    assert played.caller.trailers == [(b"a", b"b")]


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [({"wmx_not_processed": "1"}, Outcome.NOT_PROCESSED), ({}, Outcome.AMBIGUOUS)],
)
async def test_an_error_object_that_does_not_end(fields: dict[str, str], outcome: Outcome) -> None:
    played = Played().sent().answered(503, **fields)
    for _ in range(20):
        played.attempt.receive(b" ")
        await asyncio.sleep(0.09)
    played.attempt.receive(b'{"num":260,"message":"full"}')
    assert await played.failed() == (2.0, outcome, ErrorCode.OVERLOADED)
    assert played.caller.failure.message == "full"


@pytest.mark.parametrize("how", ["kill", "cut", "end"])
async def test_nothing_is_left_behind(how: str) -> None:
    ends: dict[str, Callable[[Attempt], Any]] = {
        "kill": lambda attempt: attempt.kill(),
        "cut": lambda attempt: attempt.cut("gone"),
        "end": lambda attempt: attempt.ended(),
    }
    played = Played().sent().answered()
    ends[how](played.attempt)
    assert played.attempt.carrier is None
    for end in ends.values():
        end(played.attempt)
    played.attempt.receive(ITEM % 0)
    await played.over()
    assert isinstance(played.caller.error, muxwire.RequestFailed)
    assert not played.caller.messages
