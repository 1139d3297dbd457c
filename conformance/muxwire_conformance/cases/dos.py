"""Budgets against abuse: DOS-001 to DOS-004."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases._steps import (
    LITTLE_BUFFER,
    LONG_MS,
    MOST_REQUESTS,
    NO_SUBJECT,
    at_rest,
    declare,
    error_terminal,
    full,
    keep_alive,
    not_applicable_unless,
    unmoving,
)
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection

PINGS_TOLERATED = 50
PINGS_TOO_MANY = 5_000
GLITCHES_TOLERATED = 100
GLITCHES_TOO_MANY = 20_000
GLITCH_RATE = 10_000
REFUSALS_TOLERATED = 1_000
REFUSALS_TOO_MANY = 100_000
REFUSAL_TIME = 10.0
BATCH = 4_000
WINDOW = 65_536
REFILL = 1.0
CONTROL_BUFFER = 1_048_576
LEAST_REFUSAL = wire.HEADER_SIZE + 12
"""An error terminal without a message has so many octets."""
MARGIN = 131_072
CROWD = 50
NEEDS = ["conformance"]


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


@case("DOS-001/malformed-tolerated", checks=["tolerated", "works"])
async def malformed_tolerated(ctx: Context) -> None:
    """1,000 requests at once that are refused with INVALID_ARGUMENT are tolerated."""
    conn = await ctx.ready()
    opens = [conn.opening("not..valid") for _ in range(REFUSALS_TOLERATED)]
    streams = [conn.stream(opening[16:32]) for opening in opens]
    conn.send(*opens)
    for stream in streams:
        await stream.end(check="tolerated")
    await conn.fence(check="works")


@case("DOS-001/surplus-tolerated", checks=["tolerated", "works"], features=NEEDS)
async def surplus_tolerated(ctx: Context) -> None:
    """As many surplus requests as there are places, and 1,000 more at once, are tolerated."""
    conn = await ctx.ready()
    places = len(await full(conn))
    streams = [conn.open("conformance.echo") for _ in range(places + REFUSALS_TOLERATED)]
    for stream in streams:
        await error_terminal(stream, "OVERLOADED", check="tolerated", not_processed=True)
    await conn.fence(check="works")


def _many(ctx: Context, opening: bytes, number: int) -> bytes:
    """Build many OPENs that differ in their ids only."""
    begin, rest = opening[:16], opening[32:]
    return b"".join(begin + ctx.rng.randbytes(16) + rest for _ in range(number))


@case("DOS-001/refusal-flood", checks=["goaway", "end"], twin="DOS-001/refusals-tolerated")
async def refusal_flood(ctx: Context) -> None:
    """100,000 refused requests within 10 s are a connection error ENHANCE_YOUR_CALM."""
    conn = await ctx.ready()
    opening = conn.opening(NO_SUBJECT)
    started = time.monotonic()
    for _ in range(REFUSALS_TOO_MANY // BATCH):
        conn.violate(_many(ctx, opening, BATCH))
        answer = await conn.try_fence(within=REFUSAL_TIME)
        if answer is not None:
            break
    took = time.monotonic() - started
    if conn.goaway is None and conn.transport.end is None and took > REFUSAL_TIME:
        ctx.unprepared(f"{REFUSALS_TOO_MANY} refusals in 10 s", f"they took {took:.1f} s")
    await conn.expect_connection_error("ENHANCE_YOUR_CALM")


# -- what is tolerated again and again ---------------------------------------------------------


def _declare_sustained(
    name: str, title: str, build: Callable[[Context, Connection], bytes], first: int, later: int
) -> None:
    async def sustained(ctx: Context) -> None:
        conn = await ctx.ready()
        conn.send(b"".join(build(ctx, conn) for _ in range(first)))
        await conn.fence()
        await keep_alive(conn, REFILL)
        conn.send(b"".join(build(ctx, conn) for _ in range(later)))
        await conn.fence(check="tolerated")

    declare(f"DOS-001/{name}-sustained", title, sustained, checks=["tolerated"], timed=True)


_declare_sustained(
    "pings",
    "1 s after 50 PINGs at once 10 more are tolerated.",
    lambda ctx, _conn: wire.ping(ctx.nonce()),
    49,
    9,  # and the PINGs of the fences
)
_declare_sustained(
    "glitches",
    "1 s after 100 useless frames at once 50 more are tolerated.",
    lambda ctx, _conn: wire.stop(ctx.new_id()),
    100,
    50,
)
_declare_sustained(
    "refusals",
    "1 s after 1,000 refused requests at once 500 more are tolerated.",
    lambda _ctx, conn: conn.opening(NO_SUBJECT),
    1_000,
    500,
)


# -- DOS-002 -----------------------------------------------------------------------------------


@case("DOS-002/unread-refusals", checks=["bounded"], features=NEEDS, exclusive=True)
async def unread_refusals(ctx: Context) -> None:
    """At most 1 MiB of refusals is queued for a client that reads none; then comes any end."""
    other = await ctx.ready()
    conn = await ctx.ready({"INITIAL_STREAM_WINDOW": WINDOW}, receive_buffer=LITTLE_BUFFER)
    conn.auto_credit = False
    # DRAINING is the refusal that no budget counts.
    stream = conn.open("conformance.source", {"bytes": 1_048_576, "messages": 64}, discard=True)
    await conn.until(lambda: stream.received_cost > WINDOW - 64, ctx.patience.seconds)
    await conn.call("conformance.drain", {"grace_ms": LONG_MS})
    await conn.expect("GOAWAY")
    conn.transport.pause_reading()
    conn.send(wire.window_update(1 << 30, request_id=stream.id), wire.window_update(1 << 30))
    before = await unmoving(ctx, other)
    opening = conn.opening(NO_SUBJECT)
    bound = before["buffered_bytes"] + CONTROL_BUFFER + MARGIN
    for _ in range(2 * CONTROL_BUFFER // LEAST_REFUSAL // BATCH):
        conn.send(_many(ctx, opening, BATCH))
        alive = await conn.flushed()
        stats = await other.stats()
        held = stats["buffered_bytes"]
        ctx.check("bounded", held <= bound, expected=f"at most {bound}", actual=held)
        if not alive or stats["connections"] < before["connections"]:
            break
    held = (await unmoving(ctx, other, most=bound))["buffered_bytes"]
    ctx.check("bounded", held <= bound, expected=f"at most {bound}", actual=held)
    conn.abort()


# -- DOS-003 -----------------------------------------------------------------------------------


@case("DOS-003/rapid-reset", checks=["one-terminal", "peak"], features=NEEDS, exclusive=True)
async def rapid_reset(ctx: Context) -> None:
    """However fast requests are opened and killed, no more handlers live than there are places."""
    other = await ctx.ready()
    await at_rest(ctx, other)
    await other.stats(reset_peak=True)
    conn = await ctx.ready()
    limit = conn.peer_settings["MAX_CONCURRENT_REQUESTS"]
    not_applicable_unless(limit <= MOST_REQUESTS, f"{limit} requests are too many to open")
    streams, octets = [], []
    for _ in range(limit + REFUSALS_TOLERATED // 2):
        opening = conn.opening("conformance.sleep", {"ms": LONG_MS})
        streams.append(conn.stream(opening[16:32]))
        octets += [opening, wire.kill(opening[16:32])]
    conn.send(*octets)
    for stream in streams:
        await stream.end(check="one-terminal")
    peak = (await other.stats())["peak"]
    ctx.check("peak", peak <= limit, expected=f"at most {limit} handlers", actual=peak)


@case("DOS-003/nothing-frees-a-place", checks=["refused"], features=NEEDS)
async def nothing_frees_a_place(ctx: Context) -> None:
    """No frame but the terminal frees the place of a request."""
    conn = await ctx.ready()
    streams = await full(conn)
    for stream in streams[:20]:
        useless = wire.window_update(0, request_id=stream.id)
        end = wire.request(stream.id, 1, b"data", more=True)
        conn.send(useless, wire.stop(stream.id), wire.stop(stream.id), end)
    for _ in range(3):
        surplus = conn.open("conformance.echo", b"no place")
        await error_terminal(surplus, "OVERLOADED", check="refused", not_processed=True)


# -- DOS-004 -----------------------------------------------------------------------------------


@case("DOS-004/partial-handshakes", checks=["served", "idle"], features=NEEDS, exclusive=True)
async def partial_handshakes(ctx: Context) -> None:
    """Partial handshakes keep neither the processor busy nor another client waiting."""
    other = await ctx.ready()
    await at_rest(ctx, other)
    for _ in range(CROWD):
        partial = await ctx.connect()
        partial.send(wire.preface()[:5])
    conn = await ctx.connect()
    await conn.handshake(check="served")
    started, before = time.monotonic(), await other.stats()
    await asyncio.sleep(0.25)
    after, took = await other.stats(), time.monotonic() - started
    share = (after["cpu_ms"] - before["cpu_ms"]) / (1_000 * took)
    ctx.check("idle", share < 0.2, expected="below 20 percent", actual=f"{share:.0%}")
