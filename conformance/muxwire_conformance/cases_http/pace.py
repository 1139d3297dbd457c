"""Heartbeats and backpressure (P1-014, P1-017)."""

from __future__ import annotations

from itertools import pairwise

from muxwire_conformance.cases_http._steps import (
    BINARY_TYPE,
    H2,
    SSE_TYPE,
    TEXT_TYPES,
    in_each_format,
    over,
    over_both,
    source_octets,
)
from muxwire_conformance.http.connection import HttpConnection
from muxwire_conformance.http.context import HttpContext, ask_stats

HEARTBEAT_MS = 200
GAP = 0.26
SLEEP_MS = 1_100
LEAST_BEATS = 3
BUFFER = 1_048_576
ITEM = 65_536
LOOKS = 12
BULK = 15.0


@over_both("P1-014/heartbeats", checks=["gaps", "beats"], timed=True)
async def heartbeats(ctx: HttpContext, version: str) -> None:
    """When nothing was sent for wmx-heartbeat-ms a heartbeat is sent."""

    async def step(conn: HttpConnection, type_: str) -> None:
        answer = conn.post(
            "conformance.sleep", {"ms": SLEEP_MS}, accept=type_, heartbeat_ms=HEARTBEAT_MS
        )
        await answer.served(within=BULK)
        assert answer.head is not None
        beats = len(answer.heartbeats)
        if beats >= LEAST_BEATS:
            ctx.emit("beats")
        elif ctx.patience.slack > SLEEP_MS / 1_000:
            ctx.late(f"a slack of {ctx.patience.slack:.1f} s")
        else:
            ctx.check("beats", False, expected=f"{LEAST_BEATS} heartbeats", actual=beats)
        times = [answer.head.at, *(event.at for event in answer.events)]
        widest = max(after - before for before, after in pairwise(times))
        bound = ctx.patience.bound(GAP)
        ctx.check(
            "gaps",
            bound is None or widest <= bound,
            expected=f"gaps of at most {GAP * 1_000:.0f} ms",
            actual=f"one of {widest * 1_000:.0f} ms",
        )

    await in_each_format(ctx, version, step)


@over_both("P1-014/not-inside-items", checks=["whole"])
async def not_inside_items(ctx: HttpContext, version: str) -> None:
    """No heartbeat stands inside an item, however short the interval and slow the reader."""
    for type_ in (BINARY_TYPE, *TEXT_TYPES):
        conn = await ctx.http(version, receive_buffer=16_384, window=16_384)
        body = {"bytes": 400_000, "messages": 2}
        answer = conn.post("conformance.source", body, accept=type_, heartbeat_ms=100)
        await answer.headed()
        conn.hold(answer)
        await conn.pause(0.22)
        conn.hold(answer, False)
        items = await answer.served(check="whole", within=BULK)
        same = items == [source_octets(400_000)] * 2
        ctx.check("whole", same, expected="2 items", actual=answer.describe())


@over_both("P1-017/bounded", checks=["buffered", "suspended"], exclusive=True)
async def bounded(ctx: HttpContext, version: str) -> None:
    """While the client does not read, at most 1 MiB is buffered, and the handler is suspended."""
    watch = await ctx.http()
    before = await ask_stats(watch)
    conn = await ctx.http(version, receive_buffer=16_384, window=65_535)
    body = {"bytes": ITEM, "messages": 1_000}
    answer = conn.post("conformance.source", body, accept=BINARY_TYPE)
    await answer.until(lambda one: bool(one.items) or one.octets > 0, "octets")
    conn.hold(answer)
    limit = before["buffered_bytes"] + BUFFER + 2 * ITEM
    for _ in range(LOOKS):
        stats = await ask_stats(watch)
        most = stats["buffered_bytes"]
        ctx.check("buffered", most <= limit, expected=f"at most {limit} octets", actual=most)
        await watch.pause(0.02)
    running = stats["active"] > before["active"]
    ctx.check("suspended", running, expected="a handler that is not through", actual=stats)
    conn.cancel(answer)


@over_both("P1-017/resumes", checks=["whole"])
async def resumes(ctx: HttpContext, version: str) -> None:
    """A client that reads again gets everything that was held back."""
    conn = await ctx.http(version, receive_buffer=16_384, window=65_535)
    body = {"bytes": ITEM, "messages": 60}
    answer = conn.post("conformance.source", body, accept=BINARY_TYPE)
    await answer.headed()
    conn.hold(answer)
    await conn.pause(0.1)
    conn.hold(answer, False)
    items = await answer.served(check="whole", within=BULK)
    same = items == [source_octets(ITEM)] * 60
    ctx.check("whole", same, expected="60 items", actual=answer.describe())


@over((H2,), "P1-017/others-go-on", checks=["other"])
async def others_go_on(ctx: HttpContext, version: str) -> None:
    """A stream that nobody reads delays no other stream of its connection."""
    conn = await ctx.http(version, window=65_535)
    body = {"bytes": ITEM, "messages": 1_000}
    held = conn.post("conformance.source", body, accept=SSE_TYPE)
    await held.headed()
    conn.hold(held)
    await held.until(lambda one: one.octets >= 40_000, "a window that is used up")
    for _ in range(5):
        items = await conn.post("conformance.echo", b"x" * 30_000).served(check="other")
        ctx.check("other", items == [b"x" * 30_000], expected="the echo", actual=len(items))
    conn.cancel(held)
