"""Flow control, as a client shows it: what it sends within credit, and the credit it gives."""

from __future__ import annotations

import itertools
import time

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases_client._steps import REFUSED, answered, refused
from muxwire_conformance.client_mode.context import ClientContext
from muxwire_conformance.client_mode.driver import encode
from muxwire_conformance.client_mode.exchange import Exchange
from muxwire_conformance.client_mode.link import Link

WINDOW = 65_536
SMALL = {"INITIAL_STREAM_WINDOW": WINDOW, "CONNECTION_WINDOW": 1_048_576}
TOO_LITTLE = 33
"""Fewer units of credit than this need not be used (FLW-001)."""


async def _fill(link: Link, one: Exchange, *, size: int = 16_384, most: int = 1 << 30) -> None:
    """Write messages until the credit of the request is used up."""
    while (room := min(one.room(), size, most)) > 0:
        one.send(bytes(room))
        most -= room
        if not most:
            return
    await link.flushed()


def _limits(link: Link, request_id: bytes) -> list[int]:
    """Return the limits that the client gave for an id, in order."""
    return [
        frame.limit
        for frame in link.frames
        if frame.limit is not None and frame.request_id == request_id
    ]


@case("FLW-001/client-uses-its-credit", role="client", checks=["stream", "more", "connection"])
async def uses_its_credit(ctx: ClientContext) -> None:
    """A client that has data sends up to its limits, and never beyond."""
    link = await ctx.ready({**SMALL, "MAX_MESSAGE_SIZE": 1 << 22})
    link.auto_credit = False
    call = ctx.request(bytes(2_000_000))
    one = await link.take(check="stream")
    for check, limit in (("stream", WINDOW), ("more", 300_001), ("connection", 1_048_576)):
        if limit != WINDOW:
            link.send(wire.window_update(limit if check == "more" else 1 << 21, request_id=one.id))
        due = limit - TOO_LITTLE
        await link.wait_for(lambda: one.received_cost > due)  # noqa: B023
        await link.fence()
        held = due < one.received_cost <= limit
        ctx.check(check, held, expected=f"from {due + 1} to {limit}", actual=one.received_cost)
    link.send(wire.window_update(1 << 30))
    await one.complete()
    one.answer()
    await call.succeeds([])


@case(
    "FLW-002/client-stream-limit", role="client", checks=REFUSED, twin=SAME, features=["settings"]
)
async def stream_limit(ctx: ClientContext) -> None:
    """A RESPONSE that exceeds the stream's limit is a connection error."""
    link = await ctx.ready(client=SMALL)
    ctx.request(b"x", paused=ctx.has("pause"))
    one = await link.take()
    left = WINDOW - 3 * (16_384 + wire.HEADER_SIZE) - wire.HEADER_SIZE
    for size in (16_384, 16_384, 16_384):
        one.send(bytes(size))
    bad = one.build(bytes(ctx.pick(left + 1, left)), more=False)
    link.violate(bad, instead_of=bad)
    await link.expect_connection_error("FLOW_CONTROL_ERROR")


@case(
    "FLW-002/client-connection-limit",
    role="client",
    checks=REFUSED,
    twin=SAME,
    features=["settings"],
)
async def connection_limit(ctx: ClientContext) -> None:
    """A RESPONSE that exceeds the connection's limit is a connection error.

    The client would raise the limit if it could write, so its output is blocked first.
    """
    ctx.listener.receive_buffer = 65_536
    wide = dict.fromkeys((*SMALL, "MAX_MESSAGE_SIZE"), 1 << 30)
    client = {"INITIAL_STREAM_WINDOW": 262_144, "CONNECTION_WINDOW": 1_048_576}
    link = await ctx.ready(wide, client=client)
    for _ in range(5):
        ctx.request(b"x")
    ones = [await link.take() for _ in range(5)]
    ctx.request(bytes(24 * 1_048_576))
    await link.take(within=5.0)
    link.transport.pause_reading()
    await link.until(lambda: False, ctx.patience.bound(0.3))
    for one in ones[:4]:
        for _ in range(5):
            one.send(bytes(50_000))
    last = ones[4].build(bytes(ctx.pick(48_000, 47_000)))
    link.violate(last, instead_of=last)
    await link.until(lambda: False, 0.3)
    link.transport.resume_reading()
    await link.expect_connection_error("FLOW_CONTROL_ERROR", within=5.0)


for _name, _limit in (("2-63", 1 << 63), ("2-64-1", (1 << 64) - 1)):
    refused(
        f"FLW-003/client-limit-{_name}",
        "A limit of 2^63 or more is a connection error.",
        "FLOW_CONTROL_ERROR",
        lambda _ctx, _link, limit=_limit: wire.window_update(limit),  # type: ignore[misc]
        lambda _ctx, _link: wire.window_update((1 << 63) - 1),
    )
refused(
    "FLW-003/client-limit-for-unknown-id",
    "A limit of 2^63 or more is a connection error, whatever the id.",
    "FLOW_CONTROL_ERROR",
    lambda ctx, _link: wire.window_update(1 << 63, request_id=ctx.new_id()),
    lambda ctx, _link: wire.window_update((1 << 63) - 1, request_id=ctx.new_id()),
)


@case("FLW-003/client-lower-limit", role="client", checks=["kept", "raised"])
async def lower_limit(ctx: ClientContext) -> None:
    """A WINDOW_UPDATE that raises nothing is ignored; a limit never falls."""
    link = await ctx.ready({"INITIAL_STREAM_WINDOW": WINDOW})
    link.auto_credit = False
    call = ctx.request(hold_open=True)
    one = await link.take()
    link.send(wire.window_update(1, request_id=one.id), wire.window_update(0))
    await link.fence()
    ctx.driver.op("send", ref=call.ref, body_b64="A" * 80_000)
    await link.wait_for(lambda: one.octets >= 60_000)
    ctx.check("kept", one.octets == 60_000, expected="60,000 octets", actual=one.octets)
    link.send(wire.window_update(1 << 20, request_id=one.id))
    ctx.driver.op("send", ref=call.ref, body_b64="A" * 80_000, end=True)
    got = await one.complete()
    ctx.check("raised", len(got) == 2, expected="2 messages", actual=len(got))
    one.answer()
    await call.succeeds([])


@case("FLW-003/client-absolute", role="client", checks=["absolute"])
async def absolute(ctx: ClientContext) -> None:
    """A WINDOW_UPDATE sets the limit; it does not add to it."""
    link = await ctx.ready({"INITIAL_STREAM_WINDOW": WINDOW})
    link.auto_credit = False
    call = ctx.request(bytes(300_000))
    one = await link.take()
    link.send(*(wire.window_update(WINDOW + 4_464, request_id=one.id) for _ in range(3)))
    await link.wait_for(lambda: one.received_cost > WINDOW + 4_464 - TOO_LITTLE)
    await link.fence()
    await link.until(lambda: one.received_cost > WINDOW + 4_464, 0.2)
    cost = one.received_cost
    held = WINDOW < cost <= WINDOW + 4_464
    ctx.check("absolute", held, expected=f"at most {WINDOW + 4_464}", actual=cost)
    link.send(wire.window_update(1 << 20, request_id=one.id))
    await one.complete()
    one.answer()
    await call.succeeds([])


@case(
    "FLW-004/client-takes-exempt-frames",
    role="client",
    checks=["error", "end"],
    features=["settings", "pause"],
)
async def takes_exempt_frames(ctx: ClientContext) -> None:
    """Exempt terminals are no violation where the window is used up."""
    link = await ctx.ready(client=SMALL)
    for check in ("error", "end"):
        call = ctx.request(b"x", paused=True)
        one = await link.take()
        await _fill(link, one)
        if check == "error":
            one.fail("APPLICATION_ERROR", b"m" * 1_000)
            await call.fails("FAILED", "APPLICATION_ERROR", local=False, check=check)
        else:
            one.send(end=True)
            await link.fence(check=check)
            ctx.driver.op("resume", ref=call.ref)
            await call.succeeds(check=check)


@case("FLW-004/client-end-without-credit", role="client", checks=["end"], features=["bidi"])
async def end_without_credit(ctx: ClientContext) -> None:
    """An empty frame with END_STREAM needs no credit."""
    link = await ctx.ready({"INITIAL_STREAM_WINDOW": WINDOW})
    link.auto_credit = False
    call = ctx.request(hold_open=True)
    one = await link.take()
    # Frames may be cut anywhere, so the rest of the window is filled until too little is left.
    while (left := WINDOW - one.received_cost) > 2_000:
        before = one.octets
        size = max(1, left - 1_500 if left < 16_000 else 8_000)
        ctx.driver.op("send", ref=call.ref, body_b64=encode(bytes(size)))
        await link.wait_for(lambda: one.octets >= before + size)  # noqa: B023
    while WINDOW - one.received_cost > wire.HEADER_SIZE:
        before, size = one.octets, min(WINDOW - one.received_cost - wire.HEADER_SIZE, 1_000)
        ctx.driver.op("send", ref=call.ref, body_b64=encode(bytes(size)))
        if not await link.wait_for(lambda: one.octets >= before + size):  # noqa: B023
            ctx.unprepared("a stream window that is used up", one.received_cost)
    ctx.driver.op("send", ref=call.ref, end=True)
    await one.complete(check="end")
    one.answer()
    await call.succeeds([])


@case(
    "FLW-006/client-gives-credit",
    role="client",
    checks=["served"],
    features=["settings"],
    requirements=["FLW-006", "FLW-007", "MSG-001"],
)
async def gives_credit(ctx: ClientContext) -> None:
    """While the caller consumes, the client raises its limits so that the worker goes on."""
    link = await ctx.ready(client={**SMALL, "MAX_MESSAGE_SIZE": 4_194_304})
    call = ctx.request(b"x")
    one = await link.take()
    for _ in range(60):
        await one.send_message(bytes(40_000), check="served")
    await one.send_message(bytes(3_000_000), check="served")
    one.send(end=True)
    await call.succeeds(check="served", within=5.0)


@case(
    "FLW-006/client-half-is-free",
    role="client",
    checks=["stream", "connection"],
    timed=True,
    features=["settings"],
)
async def half_is_free(ctx: ClientContext) -> None:
    """1 s after everything was consumed at least half of the initial windows is available."""
    link = await ctx.ready(client=SMALL)
    call = ctx.request(b"x")
    one = await link.take()
    for _ in range(24):
        await one.send_message(bytes(40_000), check="stream")
    await ctx.driver_until(lambda: len(call.messages) == 24)
    await link.until(
        lambda: (
            one.send_limit - one.sent_cost >= WINDOW // 2
            and link.send_limit - link.sent_cost >= 524_288
        ),
        ctx.patience.bound(1.0),
    )
    left = one.send_limit - one.sent_cost
    ctx.check("stream", left >= WINDOW // 2, expected=f"{WINDOW // 2}", actual=left)
    left = link.send_limit - link.sent_cost
    ctx.check("connection", left >= 524_288, expected="524,288", actual=left)
    one.answer()
    await call.succeeds()


@case(
    "FLW-007/client-paused",
    role="client",
    checks=["no-credit", "held", "resumed"],
    features=["pause", "settings"],
)
async def paused(ctx: ClientContext) -> None:
    """While the caller has stopped consuming, nothing is credited on that stream."""
    link = await ctx.ready(client=SMALL)
    call = ctx.request(b"x", paused=True)
    one = await link.take()
    one.send(bytes(1_000))
    one.send(bytes(16_384), more=True)
    await _fill(link, one)
    await link.fence()
    await link.until(lambda: False, 0.2)
    given = _limits(link, one.id)
    ctx.check("no-credit", not given, expected="no WINDOW_UPDATE", actual=given)
    ctx.check("held", not call.messages, expected="no message event", actual=len(call.messages))
    ctx.driver.op("resume", ref=call.ref)
    await one.send_message(bytes(WINDOW), check="resumed")
    one.send(end=True)
    await call.succeeds(check="resumed")


@case("FLW-008/client-discarded", role="client", checks=["returned"], features=["settings"])
async def discarded(ctx: ClientContext) -> None:
    """The cost of what a killed request still gets is returned to the connection limit."""
    link = await ctx.ready(client=SMALL)
    for _ in range(40):
        call = ctx.request(b"x")
        one = await link.take()
        ctx.driver.op("kill", ref=call.ref)
        await one.killed()
        for _ in range(3):
            if not await link.wait_for(lambda: link.send_limit - link.sent_cost >= 20_032):
                ctx.require("returned", "credit for 2 MiB of discarded frames", link.sent_cost)
            one.send(bytes(20_000))
        one.fail("CANCELLED")
        await call.finished()
    ctx.emit("returned")
    await answered(ctx, link)


@case(
    "FLW-009/client-stalled-consumers",
    role="client",
    checks=["goes-on"],
    features=["pause", "settings"],
)
async def stalled_consumers(ctx: ClientContext) -> None:
    """Requests that nobody consumes hold at most half of the client's connection window."""
    client = {"INITIAL_STREAM_WINDOW": 262_144, "CONNECTION_WINDOW": 1_048_576}
    link = await ctx.ready(client=client)
    stalled = []
    for _ in range(6):
        ctx.request(b"x", paused=True)
        one = await link.take()
        stalled.append(one)
        for _ in range(13):
            if one.kill is None and min(one.room(), 1 << 20) >= 19_000:
                one.send(bytes(19_000))
        await link.fence()
    call = ctx.request(b"y")
    one = await link.take()
    for _ in range(50):
        if not await link.wait_for(lambda: one.room() >= 20_000):
            ctx.require("goes-on", "credit for another request", one.room())
        one.send(bytes(20_000))
    one.send(end=True)
    await call.succeeds(check="goes-on", within=5.0)
    for one in stalled:
        one.answer()


@case("FLW-010/client-sent-within-credit", role="client", checks=["not-ahead"], features=["sent"])
async def sent_within_credit(ctx: ClientContext) -> None:
    """The event ``sent`` does not run ahead of the windows."""
    link = await ctx.ready({"INITIAL_STREAM_WINDOW": 131_072})
    link.auto_credit = False
    call = ctx.request(messages=[bytes(60_000)] * 20)
    one = await link.take()
    await link.wait_for(lambda: one.received_cost > 131_072 - TOO_LITTLE)
    await ctx.sync()
    told = max((event["messages"] for event in ctx.driver.of(call.ref, "sent")), default=0)
    ctx.check("not-ahead", told <= 2, expected="2 messages at most", actual=told)
    link.auto_credit = True
    link.send(wire.window_update(1 << 30, request_id=one.id))
    await one.complete()
    one.answer()
    await call.succeeds([])


@case("FLW-011/client-reads-while-blocked", role="client", exclusive=True, checks=["delivered"])
async def reads_while_blocked(ctx: ClientContext) -> None:
    """A client whose output is blocked keeps reading and processing frames."""
    ctx.listener.receive_buffer = 65_536
    wide = {
        "INITIAL_STREAM_WINDOW": 1 << 30,
        "CONNECTION_WINDOW": 1 << 30,
        "MAX_MESSAGE_SIZE": 1 << 30,
    }
    link = await ctx.ready(wide)
    other = ctx.request(b"x")
    one = await link.take()
    bulk = ctx.request(bytes(10 * 1_048_576))
    two = await link.take(within=5.0)
    link.transport.pause_reading()
    await link.until(lambda: False, 0.2)
    one.answer(b"meanwhile")
    await other.succeeds([b"meanwhile"], check="delivered")
    link.transport.resume_reading()
    await two.complete(within=10.0)
    two.answer()
    await bulk.succeeds([])


@case("FLW-012/client-steps", role="client", checks=["steps"], timed=True, features=["settings"])
async def steps(ctx: ClientContext) -> None:
    """Limits are raised in steps of at least a quarter of the window, and not for every frame."""
    link = await ctx.ready(client=SMALL)
    call = ctx.request(b"x")
    one = await link.take()
    started = time.monotonic()
    for _ in range(150):
        await one.send_message(bytes(1_000))
        await link.until(lambda: False, 0.003)
    given = [WINDOW, *_limits(link, one.id)]
    small = [after - before for before, after in itertools.pairwise(given)]
    few = [step for step in small if step < WINDOW // 4]
    ctx.check(
        "steps",
        not few,
        expected=f"steps of {WINDOW // 4} or more",
        actual=f"{few[:5]} in {time.monotonic() - started:.1f} s",
    )
    one.answer()
    await call.succeeds()
