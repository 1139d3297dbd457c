"""Admission and deadlines: ADM-002 to ADM-005."""

from __future__ import annotations

import time
from typing import Any

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases._steps import (
    LONG_MS,
    at_rest,
    declare,
    error_terminal,
    full,
)
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection, Stream

WINDOW = 65_536
SURPLUS = 5
NEEDS = ["conformance"]


@case(
    "ADM-002/surplus",
    requirements=["ADM-002", "ADM-003"],
    checks=["refused", "no-handler", "others"],
    features=NEEDS,
    exclusive=True,
)
async def surplus(ctx: Context) -> None:
    """A surplus OPEN is refused with OVERLOADED and NOT_PROCESSED; the others are unaffected."""
    other = await ctx.ready()
    before = await at_rest(ctx, other)
    conn = await ctx.ready()
    streams = await full(conn)
    for stream in [conn.open("conformance.echo", b"too many") for _ in range(SURPLUS)]:
        await error_terminal(stream, "OVERLOADED", check="refused", not_processed=True)
    stats = await other.stats()
    started = stats["opened"] - before["opened"]
    expected = f"{len(streams)} handlers started"
    ctx.check("no-handler", started == len(streams), expected=expected, actual=started)
    for stream in streams:
        stream.send(b"unaffected", end=True)
        await stream.result(check="others")


@case("ADM-002/refused-not-ended", checks=["refused", "works"], features=NEEDS)
async def refused_not_ended(ctx: Context) -> None:
    """A surplus OPEN without END_STREAM is refused the same way, and its chunks do no harm."""
    conn = await ctx.ready()
    await full(conn)
    stream = conn.open("conformance.echo", b"too many", end=False)
    stream.send(b"and more", end=True)
    await error_terminal(stream, "OVERLOADED", check="refused", not_processed=True)
    await conn.fence(check="works")


@case("ADM-002/place-is-free-again", checks=["refused", "accepted"], features=NEEDS)
async def place_is_free_again(ctx: Context) -> None:
    """The terminal of one request frees the place for another."""
    conn = await ctx.ready()
    streams = await full(conn)
    stream = conn.open("conformance.echo", b"too many")
    await error_terminal(stream, "OVERLOADED", check="refused", not_processed=True)
    for stream in streams[:SURPLUS]:
        stream.finish()
        await stream.result()
        await conn.call("conformance.echo", b"in its place", check="accepted")


@case("ADM-002/not-without-reason", checks=["taken"], features=["conformance?"])
async def not_without_reason(ctx: Context) -> None:
    """A request that is not surplus is not refused with OVERLOADED."""
    conn = await ctx.ready()
    stream = conn.open("conformance.echo")  # where there is none the answer is NOT_FOUND
    await stream.end()
    overloaded = stream.error is not None and stream.error.code == wire.code("OVERLOADED")
    expected = "another terminal than OVERLOADED"
    ctx.check("taken", not overloaded, expected=expected, actual=stream.error)


# -- ADM-003 -----------------------------------------------------------------------------------


@case("ADM-003/refused-untouched", checks=["refused", "no-handler"], features=NEEDS, exclusive=True)
async def refused_untouched(ctx: Context) -> None:
    """A request that is refused with NOT_PROCESSED has reached no handler."""
    conn = await ctx.ready()
    before = await at_rest(ctx, conn)
    for subject, code in (("no.such.subject", "NOT_FOUND"), ("a..b", "INVALID_ARGUMENT")):
        for end in (True, False):
            stream = conn.open(subject, b"untouched", end=end)
            await error_terminal(stream, code, check="refused", not_processed=True)
    after = await conn.stats()
    started = after["opened"] - before["opened"]
    ctx.check("no-handler", started == 0, expected="no handler started", actual=started)


def _declare_processed(
    name: str, title: str, subject: str, body: dict[str, object] | bytes, code: str, **how: Any
) -> None:
    async def processed(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = conn.open(subject, body, timeout_ms=how.get("timeout_ms", 0))
        if how:
            await stream.message()  # so it has reached its handler
        if how.get("kill"):
            stream.kill()
        await error_terminal(stream, code, check="processed", not_processed=False)

    declare(f"ADM-003/{name}", title, processed, checks=["processed"], features=NEEDS)


_declare_processed(
    "handler-failed",
    "NOT_PROCESSED is clear when the handler itself failed.",
    "conformance.fail",
    {"code": 260},
    "OVERLOADED",
)
_declare_processed(
    "handler-asks-for-it",
    "A handler that has run cannot set NOT_PROCESSED.",
    "conformance.fail",
    {"flags": 1},
    "APPLICATION_ERROR",
)
_declare_processed(
    "handler-asks-for-both",
    "A handler that asks for both error flags gets NON_RETRYABLE only.",
    "conformance.fail",
    {"flags": 3},
    "APPLICATION_ERROR",
)
_declare_processed(
    "handler-panics",
    "NOT_PROCESSED is clear when the handler raised an exception.",
    "conformance.fail",
    {"panic": True},
    "APPLICATION_ERROR",
)
_declare_processed(
    "handler-refuses-parameters",
    "NOT_PROCESSED is clear when the handler found its parameters malformed.",
    "conformance.generate",
    b"no JSON",
    "INVALID_ARGUMENT",
)
_declare_processed(
    "deadline",
    "NOT_PROCESSED is clear when a handler was stopped by the deadline.",
    "conformance.generate",
    {"count": 100_000, "interval_ms": 20},
    "DEADLINE_EXCEEDED",
    timeout_ms=100,
)
_declare_processed(
    "killed",
    "NOT_PROCESSED is clear when a running handler was killed.",
    "conformance.generate",
    {"count": 100_000, "interval_ms": 20},
    "CANCELLED",
    kill=True,
)


# -- ADM-004 -----------------------------------------------------------------------------------


@case("ADM-004/retry-after", checks=["overloaded", "retry-after"], features=NEEDS)
async def retry_after(ctx: Context) -> None:
    """OVERLOADED carries a retry_after_ms above 0."""
    conn = await ctx.ready()
    await full(conn)
    stream = conn.open("conformance.echo", b"too many")
    frame = await error_terminal(stream, "OVERLOADED", check="overloaded", not_processed=True)
    wait = frame.error.retry_after_ms if frame.error is not None else 0
    ctx.check("retry-after", wait > 0, expected="above 0 ms", actual=wait, frame=frame)


# -- ADM-005 -----------------------------------------------------------------------------------


async def _expect_deadline(
    ctx: Context, conn: Connection, subject: str, parameters: dict[str, object]
) -> Stream:
    """Open a request with a deadline of 200 ms that it cannot keep."""
    started = time.monotonic()
    stream = conn.open(subject, parameters, timeout_ms=200)
    frame = await error_terminal(stream, "DEADLINE_EXCEEDED", check="exceeded", within=1.2)
    took = frame.at - started
    ctx.check("not-early", took >= 0.19, expected="0.2 s or more", actual=f"{took:.3f} s")
    return stream


@case("ADM-005/running-handler", checks=["exceeded", "not-early", "works"], features=NEEDS)
async def running_handler(ctx: Context) -> None:
    """A request without a terminal after timeout_ms ends with DEADLINE_EXCEEDED."""
    conn = await ctx.ready()
    await _expect_deadline(ctx, conn, "conformance.sleep", {"ms": LONG_MS})
    await conn.fence(check="works")


@case("ADM-005/output-without-credit", checks=["exceeded", "not-early"], features=NEEDS)
async def output_without_credit(ctx: Context) -> None:
    """The deadline covers output that waits for credit as well, and discards it."""
    conn = await ctx.ready({"INITIAL_STREAM_WINDOW": WINDOW})
    conn.auto_credit = False
    await _expect_deadline(ctx, conn, "conformance.source", {"bytes": WINDOW + 1_000})


@case("ADM-005/deadline-not-reached", checks=["in-time"], features=NEEDS)
async def deadline_not_reached(ctx: Context) -> None:
    """A request that ends before its deadline is not touched by it."""
    conn = await ctx.ready()
    stream = conn.open("conformance.sleep", {"ms": 100}, timeout_ms=30_000)
    await stream.result(check="in-time")
    await conn.fence()


@case("ADM-005/longest-deadline", checks=["in-time"], features=NEEDS)
async def longest_deadline(ctx: Context) -> None:
    """Deadlines of 2^31 ms and more do not fire at once."""
    conn = await ctx.ready()
    for timeout in (0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF):
        stream = conn.open("conformance.sleep", {"ms": 30}, timeout_ms=timeout)
        await stream.result(check="in-time")
