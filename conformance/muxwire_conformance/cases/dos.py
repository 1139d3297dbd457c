"""Budgets against abuse, first part: DOS-001."""

from __future__ import annotations

import time
from collections.abc import Callable

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases._steps import NO_SUBJECT, declare
from muxwire_conformance.context import Context

PINGS_TOLERATED = 50
PINGS_TOO_MANY = 5_000
GLITCHES_TOLERATED = 100
GLITCHES_TOO_MANY = 20_000
GLITCH_RATE = 10_000
REFUSALS_TOLERATED = 1_000


# -- PINGs -------------------------------------------------------------------------------------


@case("DOS-001/pings-tolerated", checks=["tolerated"])
async def pings_tolerated(ctx: Context) -> None:
    """50 PINGs at once are tolerated."""
    conn = await ctx.ready()
    conn.send(b"".join(wire.ping(ctx.nonce()) for _ in range(PINGS_TOLERATED - 1)))
    await conn.fence(check="tolerated")  # the fiftieth


@case("DOS-001/ping-flood", checks=["goaway", "end"], twin="DOS-001/pings-tolerated")
async def ping_flood(ctx: Context) -> None:
    """5,000 PINGs at once are a connection error ENHANCE_YOUR_CALM."""
    conn = await ctx.ready()
    conn.violate(b"".join(wire.ping(ctx.nonce()) for _ in range(PINGS_TOO_MANY)))
    await conn.expect_connection_error("ENHANCE_YOUR_CALM", last_ordinal=0)


# -- glitches ----------------------------------------------------------------------------------


def _declare_tolerated(name: str, title: str, build: Callable[[Context], bytes]) -> None:
    async def tolerated(ctx: Context) -> None:
        conn = await ctx.ready()
        conn.send(b"".join(build(ctx) for _ in range(GLITCHES_TOLERATED)))
        await conn.fence(check="tolerated")

    declare(f"DOS-001/{name}-tolerated", title, tolerated, checks=["tolerated"])


_declare_tolerated(
    "ignorable-frames",
    "100 frames of an unknown ignorable type at once are tolerated.",
    lambda ctx: wire.grease(ctx.rng.choice((0x80, 0x8A, 0xFA, 0xFF)), b"ignored"),
)
_declare_tolerated(
    "ignorable-subtypes",
    "100 Control frames of an unknown ignorable subtype at once are tolerated.",
    lambda ctx: wire.frame(type=wire.CONTROL, subtype=ctx.rng.randrange(0x80, 0x100)),
)
_declare_tolerated(
    "unknown-ids",
    "100 frames for unknown ids at once are tolerated.",
    lambda ctx: wire.kill(ctx.new_id()),
)
_declare_tolerated(
    "useless-window-updates",
    "100 WINDOW_UPDATEs at once that raise nothing are tolerated.",
    lambda ctx: wire.window_update(ctx.rng.randrange(1_000)),
)
_declare_tolerated(
    "stray-pongs",
    "100 PONGs at once that answer nothing are tolerated.",
    lambda ctx: wire.pong(ctx.nonce()),
)


@case("DOS-001/glitch-flood", checks=["goaway", "end"], twin="DOS-001/unknown-ids-tolerated")
async def glitch_flood(ctx: Context) -> None:
    """10,000 frames for unknown ids within 1 s are a connection error ENHANCE_YOUR_CALM."""
    conn = await ctx.ready()
    kill = wire.kill(ctx.new_id())
    kills = [kill[:16] + ctx.rng.randbytes(16) + kill[32:] for _ in range(GLITCHES_TOO_MANY)]
    conn.violate(b"".join(kills))
    started = time.monotonic()
    answer = await conn.try_fence(within=2 * GLITCHES_TOO_MANY / GLITCH_RATE)
    took = time.monotonic() - started
    if answer is None and took > GLITCHES_TOO_MANY / GLITCH_RATE:
        ctx.unprepared(f"{GLITCH_RATE} frames to be processed in 1 s", f"they took {took:.1f} s")
    await conn.expect_connection_error("ENHANCE_YOUR_CALM", last_ordinal=0)


# -- refusals ----------------------------------------------------------------------------------


@case("DOS-001/refusals-tolerated", checks=["tolerated", "works"])
async def refusals_tolerated(ctx: Context) -> None:
    """1,000 requests at once for subjects that nobody handles are tolerated."""
    conn = await ctx.ready()
    opens = [conn.opening(NO_SUBJECT) for _ in range(REFUSALS_TOLERATED)]
    streams = [conn.stream(opening[16:32]) for opening in opens]
    conn.send(*opens)
    for stream in streams:
        await stream.end(check="tolerated")
    await conn.fence(check="works")
