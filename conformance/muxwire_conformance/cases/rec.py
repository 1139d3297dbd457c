"""Recovery, as a worker shows it: REC-009."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import LONG_MS, NO_SUBJECT, at_rest, refused
from muxwire_conformance.context import Context
from muxwire_conformance.stream import Stream

RUNNING = 20
NEEDS = ["conformance"]


async def _check_not_found(ctx: Context, stream: Stream, *, check: str) -> None:
    await stream.end(check=check)
    good = stream.error is not None and stream.error.code == wire.code("NOT_FOUND")
    ctx.check(check, good, expected="NOT_FOUND", actual=stream.terminal, frame=stream.terminal)


@case("REC-009/refused-id-is-free", checks=["taken"])
async def refused_id_is_free(ctx: Context) -> None:
    """The id of a request that ended on a lost connection is free on the next one."""
    first = await ctx.ready()
    known = (await refused(first)).id
    first.abort()
    conn = await ctx.ready()
    await _check_not_found(ctx, conn.open(NO_SUBJECT, request_id=known), check="taken")
    await conn.fence(check="taken")


@case("REC-009/finished-ids-are-free", checks=["served"], features=NEEDS)
async def finished_ids_are_free(ctx: Context) -> None:
    """The ids of requests that were served on a lost connection are free on the next one."""
    first = await ctx.ready()
    known = []
    for number in range(5):
        stream = first.open("conformance.echo", b"%d" % number)
        await stream.result()
        known.append(stream.id)
    first.abort()
    conn = await ctx.ready()
    for number, request_id in enumerate(known):
        stream = conn.open("conformance.echo", b"%d" % number, request_id=request_id)
        messages = await stream.result(check="served")
        same = messages == [b"%d" % number]
        ctx.check("served", same, expected=f"['{number}']", actual=messages)


@case("REC-009/running-ids-are-free", checks=["served"], features=NEEDS, exclusive=True)
async def running_ids_are_free(ctx: Context) -> None:
    """The ids of requests that ran when their connection was lost are free once they have ended."""
    watch = await ctx.ready()
    before = await at_rest(ctx, watch)
    first = await ctx.ready()
    lost = [first.open("conformance.sleep", {"ms": LONG_MS}) for _ in range(RUNNING)]
    running = before["active"] + RUNNING
    await ctx.wait_for_stats(watch, lambda stats: stats["active"] == running)
    first.abort()
    await ctx.wait_for_stats(watch, lambda stats: stats["active"] <= before["active"])
    conn = await ctx.ready()
    for stream in lost:
        again = conn.open("conformance.echo", b"again", request_id=stream.id)
        messages = await again.result(check="served")
        ctx.check("served", messages == [b"again"], expected="['again']", actual=messages)


@case("REC-009/ordinals-begin-at-1", checks=["goaway", "end"], twin=SAME)
async def ordinals_begin_at_1(ctx: Context) -> None:
    """The ordinals of a new connection begin at 1, whatever a lost one had counted."""
    first = await ctx.ready()
    for _ in range(5):
        await refused(first)
    first.abort()
    conn = await ctx.ready()
    await refused(conn)
    conn.violate(wire.ping(marker=0xF6), instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=1)
