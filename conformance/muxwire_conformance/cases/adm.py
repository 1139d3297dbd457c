"""Admission and deadlines, first part: ADM-002 and ADM-005."""

from __future__ import annotations

import time

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases._steps import (
    LONG_MS,
    at_rest,
    error_terminal,
    not_applicable_unless,
)
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection, Stream

WINDOW = 65_536
MOST_REQUESTS = 4_096
SURPLUS = 5
NEEDS = ["conformance"]


async def _full(conn: Connection) -> list[Stream]:
    """Open as many requests as the worker accepts; each waits for its next message."""
    limit = conn.peer_settings["MAX_CONCURRENT_REQUESTS"]
    not_applicable_unless(limit <= MOST_REQUESTS, f"{limit} requests are too many to open")
    streams = [conn.open("conformance.echo", b"accepted", end=False) for _ in range(limit)]
    for stream in streams:
        await stream.message()
    return streams


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
    streams = await _full(conn)
    for stream in [conn.open("conformance.echo", b"too many") for _ in range(SURPLUS)]:
        await error_terminal(stream, "OVERLOADED", check="refused", not_processed=True)
    stats = dict(await other.open("conformance.stats", {}).json())
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
    await _full(conn)
    stream = conn.open("conformance.echo", b"too many", end=False)
    stream.send(b"and more", end=True)
    await error_terminal(stream, "OVERLOADED", check="refused", not_processed=True)
    await conn.fence(check="works")


@case("ADM-002/place-is-free-again", checks=["refused", "accepted"], features=NEEDS)
async def place_is_free_again(ctx: Context) -> None:
    """The terminal of one request frees the place for another."""
    conn = await ctx.ready()
    streams = await _full(conn)
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
