"""Scheduling, as a client shows it: control first, requests in turn, nothing held back."""

from __future__ import annotations

import time

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases_client._steps import answered
from muxwire_conformance.client_mode.context import ClientContext

WIDE = {"INITIAL_STREAM_WINDOW": 1 << 30, "CONNECTION_WINDOW": 1 << 30, "MAX_MESSAGE_SIZE": 1 << 30}
BULK = 24 * 1_048_576


@case(
    "FAI-001/client-pong-before-bulk",
    role="client",
    checks=["overtakes"],
    requirements=["FAI-001", "HBT-002"],
)
async def pong_before_bulk(ctx: ClientContext) -> None:
    """A PONG and a KILL overtake the requests that wait to be sent."""
    ctx.listener.receive_buffer = 65_536
    link = await ctx.ready(WIDE)
    call = ctx.request(bytes(BULK))
    one = await link.take(within=5.0)
    index = await link.pong_index()
    await one.complete(within=10.0)
    behind = sum(frame.length for frame in one.frames if frame.index > index)
    ctx.check("overtakes", behind > 0, expected="request data behind the PONG", actual=behind)
    one.answer()
    await call.succeeds([])


@case("FAI-002/client-turns", role="client", checks=["turn"])
async def turns(ctx: ClientContext) -> None:
    """A small request does not wait for a large one that was begun before it."""
    ctx.listener.receive_buffer = 65_536
    link = await ctx.ready(WIDE)
    bulk = ctx.request(bytes(BULK))
    one = await link.take(within=5.0)
    small = ctx.request(b"small")
    two = await link.take(within=5.0)
    await one.complete(within=10.0)
    behind = sum(frame.length for frame in one.frames if frame.index > two.opening.index)
    ctx.check("turn", behind > 0, expected="the rest of the large request behind it", actual=behind)
    one.answer()
    two.answer()
    await bulk.succeeds([])
    await small.succeeds([])


@case("FAI-002/client-blocked-stream", role="client", checks=["not-blocked"])
async def blocked_stream(ctx: ClientContext) -> None:
    """A request that is blocked by its own window does not block another."""
    link = await ctx.ready({"INITIAL_STREAM_WINDOW": 65_536})
    link.auto_credit = False
    blocked = ctx.request(bytes(200_000))
    one = await link.take()
    await answered(ctx, link, check="not-blocked")
    link.send(wire.window_update(1 << 20, request_id=one.id))
    await one.complete()
    one.answer()
    await blocked.succeeds([])


@case("FAI-003/client-interleaved", role="client", checks=["first", "second"])
async def interleaved(ctx: ClientContext) -> None:
    """Frames of different responses may interleave in the middle of messages."""
    link = await ctx.ready()
    calls = [ctx.request(b"x") for _ in range(2)]
    one, two = [await link.take() for _ in range(2)]
    for number in range(4):
        one.send(b"a%d" % number, more=True)
        two.send(b"b%d" % number, more=number < 3)
    one.send(b"!")
    two.send(end=True)
    one.send(end=True)
    await calls[0].succeeds([b"a0a1a2a3!"], check="first")
    await calls[1].succeeds([b"b0b1b2b3"], check="second")


@case(
    "FAI-004/client-no-batching-delay",
    role="client",
    checks=["prompt"],
    timed=True,
    features=["bidi"],
)
async def no_batching_delay(ctx: ClientContext) -> None:
    """A frame that is ready is not held back."""
    link = await ctx.ready()
    call = ctx.request(hold_open=True)
    one = await link.take()
    times = []
    for index in range(15):
        started = time.monotonic()
        ctx.driver.op("send", ref=call.ref, body_b64="eA==")
        await link.wait_for(lambda: len(one.messages) > index)  # noqa: B023
        times.append(time.monotonic() - started)
    ctx.driver.op("send", ref=call.ref, end=True)
    await one.complete()
    one.answer()
    await call.succeeds([])
    best = min(times)
    ctx.check(
        "prompt",
        best < 0.03,
        expected="the best of 15 below 30 ms",
        actual=f"{best * 1_000:.1f} ms",
    )
