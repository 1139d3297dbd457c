"""Handlers that share a task, against a responder that only remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from muxwire._generated.registries import ErrorCode
from muxwire.handlers import Handler, Request
from muxwire.tcp.runner import Runner, Running

pytestmark = pytest.mark.usefixtures("virtual_time")

MARK: ContextVar[str] = ContextVar("MARK", default="")


class Remembering:
    def __init__(self) -> None:
        self.cancelled = False
        self.ends: list[object] = []

    def send_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        raise NotImplementedError

    def send_message(self, data: bytes) -> bool:
        self.ends.append(data)
        return True

    def finish(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.ends.append(trailers)

    def fail(self, code: int, message: str, **_: Any) -> None:
        self.ends.append((code, message))

    def consumed(self, cost: int) -> None:
        raise NotImplementedError

    def awaiting(self) -> None:
        raise NotImplementedError

    def drain_connection(self, grace_ms: int) -> None:
        raise NotImplementedError


class Bench:
    """A runner and what it said."""

    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()
        self.over: list[Running] = []
        self.flushes = 0
        self.runner = Runner(self.tasks, self.over.append, self._flush)

    def _flush(self) -> None:
        self.flushes += 1

    def start(self, handler: Handler) -> Running:
        responder = Remembering()
        request = Request(
            subject="a",
            headers=(),
            timeout_ms=0,
            request_flags=0,
            request_id=bytes(16),
            responder=responder,
        )
        running = Running(handler, request, responder)
        self.runner.start(running)
        return running


def ends(running: Running) -> list[object]:
    assert isinstance(running.responder, Remembering)
    return running.responder.ends


async def idle() -> None:
    await asyncio.sleep(1)


def noting(seen: list[Any], what: Callable[[], Any]) -> Handler:
    async def handler(_: Request) -> None:
        seen.append(what())

    return handler


async def test_handlers_that_do_not_suspend_share_a_task() -> None:
    bench, seen = Bench(), list[Any]()
    started = [bench.start(noting(seen, asyncio.current_task)) for _ in range(5)]
    await idle()
    assert len(set(seen)) == 1
    assert [*map(ends, started)] == [[[]]] * 5
    assert bench.over == started
    assert (bench.flushes, bench.tasks) == (1, set())


async def test_one_that_suspends_keeps_nobody_waiting() -> None:
    bench, seen = Bench(), list[Any]()
    gate = asyncio.Event()

    async def waits(_: Request) -> None:
        seen.append(asyncio.current_task())
        await gate.wait()
        seen.append(asyncio.current_task())

    first = bench.start(waits)
    others = [bench.start(noting(seen, asyncio.current_task)) for _ in range(2)]
    await idle()
    assert len(set(seen)) == 3
    assert bench.over == others
    late = bench.start(noting(seen, asyncio.current_task))
    await idle()
    assert bench.over == [*others, late]
    gate.set()
    await idle()
    assert seen[0] is seen[-1]
    assert bench.over[-1] is first
    assert bench.tasks == set()


async def test_a_handler_may_use_a_timeout_in_its_first_step() -> None:
    bench = Bench()

    async def limited(_: Request) -> bytes:
        async with asyncio.timeout(0.5):
            await asyncio.sleep(10)
        return b"never"

    late, quick = bench.start(limited), bench.start(noting([], str))
    await idle()
    assert ends(quick) == [[]]
    assert ends(late) == [(ErrorCode.APPLICATION_ERROR, "the handler failed")]


async def test_no_handler_sees_the_context_of_another() -> None:
    bench, seen = Bench(), list[Any]()

    async def sets(_: Request) -> None:
        MARK.set("mine")
        seen.append(MARK.get())

    for handler in (sets, noting(seen, MARK.get), sets, noting(seen, MARK.get)):
        bench.start(handler)
    await idle()
    assert sorted(seen) == ["", "", "mine", "mine"]


async def test_one_that_is_cancelled_before_its_first_step_is_answered() -> None:
    """STM-005."""
    bench, seen = Bench(), list[Any]()
    first = bench.start(noting(seen, str))
    first.cancel()
    second = bench.start(noting(seen, str))
    await idle()
    assert ends(first) == [(ErrorCode.CANCELLED, "")]
    assert ends(second) == [[]]
    assert bench.over == [first, second]


async def test_one_that_waits_is_cancelled() -> None:
    bench = Bench()

    async def waits(_: Request) -> None:
        await asyncio.get_running_loop().create_future()

    running = bench.start(waits)
    await asyncio.sleep(0.1)
    running.cancel()
    await idle()
    assert ends(running) == [(ErrorCode.CANCELLED, "")]
    assert bench.over == [running]


@pytest.mark.parametrize("suspends", [False, True])
async def test_whoever_cancels_the_tasks_all_requests_are_answered(suspends: bool) -> None:
    """STM-005: a loop that ends cancels every task."""
    bench, seen = Bench(), list[Any]()

    async def waits(_: Request) -> None:
        await asyncio.get_running_loop().create_future()

    started = [bench.start(waits if suspends else noting(seen, str)) for _ in range(3)]
    if suspends:
        for _ in range(10):
            if len(bench.tasks) == 3:
                break
            await asyncio.sleep(0)
    for task in [*bench.tasks]:
        task.cancel()
    await idle()
    assert [*map(ends, started)] == [[(ErrorCode.CANCELLED, "")]] * 3
    assert (seen, len(bench.over)) == ([], 3)
    again = bench.start(noting(seen, str))
    await idle()
    assert ends(again) == [[]]


async def test_an_end_that_is_no_exception_is_answered_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench()

    class Odd(BaseException):
        pass

    async def odd(_: Request) -> None:
        raise Odd

    first, second = bench.start(odd), bench.start(noting([], str))
    (task,) = bench.tasks
    with pytest.raises(Odd):
        await task
    await idle()
    assert ends(first) == [(ErrorCode.APPLICATION_ERROR, "the handler failed")]
    assert ends(second) == [[]]
    assert "unexpected" in caplog.text
