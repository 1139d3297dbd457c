"""Liveness of call-home connections, and a caller who does not read (P0-014)."""

from __future__ import annotations

import time

from muxwire_conformance import wire
from muxwire_conformance.case import SAME
from muxwire_conformance.cases_client._callhome import SOON, routed, served
from muxwire_conformance.client_mode.home import HomeLink
from muxwire_conformance.client_mode.router import RouterContext

IDLE = 1_000
IDLE_S = IDLE / 1_000
BEATS = 4
BULK = 24 * 1_048_576
"""More than the kernel buffers of a connection hold."""


@routed("P0-014/client-answers-pings", checks=["same", "in-stream"])
async def answers_pings(ctx: RouterContext) -> None:
    """A PING is answered by a PONG with the same octets, idle or not."""
    link = await ctx.line()
    for check in ("same", "in-stream"):
        delivery = None
        if check == "in-stream":
            call, post = await ctx.posted()
            delivery = await link.carry(post)
        before = len(link.frames)
        opaque = [ctx.nonce() for _ in range(8)]
        link.send(*(wire.ping(one) for one in opaque))
        await link.wait_for(lambda start=before: len(_pongs(link, start)) >= 8)  # type: ignore[misc]
        got = _pongs(link, before)
        held = got == opaque
        ctx.check(check, held, expected="8 PONGs in order", actual=[one.hex() for one in got])
        if delivery is not None:
            delivery.answer()
            await call.succeeds([])


def _pongs(link: HomeLink, start: int) -> list[bytes]:
    return [frame.payload for frame in link.frames[start:] if frame.name == "PONG"]


async def _beats(ctx: RouterContext, link: HomeLink, check: str) -> None:
    """Judge that the router, which has nothing to say, sends a PING every 600 ms at most."""
    before = len(link.frames)

    def pings() -> int:
        return sum(frame.name == "PING" for frame in link.frames[before:])

    await link.wait_for(lambda: pings() >= BEATS, BEATS * 0.6)
    held = pings() >= BEATS
    ctx.check(check, held, expected=f"{BEATS} PINGs in {BEATS * 0.6:.1f} s", actual=pings())


@routed("P0-014/client-keeps-alive", checks=["idle", "in-stream"], timed=True)
async def keeps_alive(ctx: RouterContext) -> None:
    """A router that has nothing to say sends a PING every half of the worker's idle timeout."""
    link = await ctx.line(idle_timeout_ms=1_000)
    link.stop_heartbeat()
    await _beats(ctx, link, "idle")
    _call, post = await ctx.posted()
    await link.carry(post)
    await _beats(ctx, link, "in-stream")


@routed("P0-014/client-announces", checks=["announced"], features=["settings"])
async def announces(ctx: RouterContext) -> None:
    """The preface of the router announces its own idle timeout."""
    await ctx.start({"IDLE_TIMEOUT_MS": 30_000})
    link = await ctx.line()
    seen = await link.welcomed()
    held = seen.reserved == 30_000
    ctx.check("announced", held, expected="30,000 ms", actual=f"{seen.reserved} ms")


async def _keep_talking(ctx: RouterContext, link: HomeLink, seconds: float) -> None:
    """Send frames often for so long; a judge that was silent for too long is late."""
    most = 0.9 * IDLE_S
    ends = time.monotonic() + seconds
    last = link.last_sent
    while time.monotonic() < ends and link.transport.end is None:
        now = time.monotonic()
        if now - last > most:
            ctx.late(f"a pause of {now - last:.2f} s, {most:.2f} s are allowed")
        link.send(wire.grease())
        last = now
        await link.until(lambda: False, most / 4)
    end = link.transport.end
    if end is not None and end.at - last > most:
        ctx.late(f"a pause of {end.at - last:.2f} s, {most:.2f} s are allowed")


@routed("P0-014/client-silence", checks=["end"], twin=SAME, timed=True, features=["settings"])
async def silence(ctx: RouterContext) -> None:
    """The router closes an idle connection that is silent for its own idle timeout."""
    await ctx.start({"IDLE_TIMEOUT_MS": IDLE})
    link = await ctx.line()
    if ctx.twin_run:
        await _keep_talking(ctx, link, 2.2 * IDLE_S)
        await link.expect_close()
        return
    link.stay_silent()
    link.violate(b"")
    await link.expect_close(within=IDLE_S + SOON)


@routed(
    "P0-014/client-silence-in-stream",
    checks=["end", "class"],
    twin="P0-014/client-silence-before-response",
    timed=True,
    features=["settings"],
    requirements=["P0-014", "P0-019"],
)
async def silence_in_stream(ctx: RouterContext) -> None:
    """A stream in progress does not suspend the timer, and is lost with its connection."""
    await ctx.start({"IDLE_TIMEOUT_MS": IDLE})
    link, delivery, call = await ctx.carried()
    delivery.send(b"one")
    link.stay_silent()
    link.violate(b"")
    await link.expect_close(within=IDLE_S + SOON)
    await call.fails("PARTIAL", None, messages=1, check="class", within=SOON)


@routed(
    "P0-014/client-silence-before-response",
    checks=["end", "again"],
    timed=True,
    features=["settings"],
    requirements=["P0-014", "P0-019"],
)
async def silence_before_response(ctx: RouterContext) -> None:
    """Before a RESPONSE the stream survives that: another HELLO is accepted."""
    await ctx.start({"IDLE_TIMEOUT_MS": IDLE})
    call, post = await ctx.posted()
    link = await ctx.line()
    await link.carry(post)
    link.stay_silent()
    await link.wait_for(lambda: False, IDLE_S + SOON)
    if link.transport.end is None:
        link.fail("end", "the end of the connection")
    link.hold("end")
    other = await ctx.line()
    delivery = other.hello(post)
    await delivery.accepted(check="again")
    delivery.answer()
    await call.succeeds([], check="again")


@routed("P0-014/client-not-earlier", checks=["not-earlier"], timed=True, features=["settings"])
async def not_earlier(ctx: RouterContext) -> None:
    """The timeout is not raised earlier than the router's own idle timeout."""
    await ctx.start({"IDLE_TIMEOUT_MS": 900})
    link = await ctx.line()
    link.stay_silent()
    said = link.last_sent
    await link.wait_for(lambda: False, 2.5)
    end = link.transport.end
    if end is None:
        ctx.unprepared("the end of the connection for the silence", link.situation())
    took = end.at - said
    ctx.check("not-earlier", took >= 0.88, expected="900 ms", actual=f"{took * 1_000:.0f} ms")


@routed("P0-014/client-octets-count", checks=["alive"], timed=True, features=["settings"])
async def octets_count(ctx: RouterContext) -> None:
    """Every octet restarts the timer, also in the middle of a frame."""
    await ctx.start({"IDLE_TIMEOUT_MS": 1_000})
    link = await ctx.line()
    link.stop_heartbeat()
    started = time.monotonic()
    await link.until(lambda: False, 0.6)
    if time.monotonic() - started > 0.8:
        ctx.late("a silence of more than 0.6 s")
    octets = wire.grease(0x8A, bytes(32))
    started = time.monotonic()
    for start in range(0, 64, 8):
        link.send(octets[start : start + 8])
        await link.until(lambda: False, 0.08)
    took = time.monotonic() - started
    if took > 0.85:
        ctx.late(f"a frame over {took:.2f} s, not 0.65 s")
    await link.fence(check="alive")


@routed("P0-014/client-idle-for-liveness-only", checks=["alive"], timed=True, features=["settings"])
async def idle_for_liveness_only(ctx: RouterContext) -> None:
    """A router never closes a connection for being idle, as long as the worker shows life."""
    await ctx.start({"IDLE_TIMEOUT_MS": IDLE})
    link = await ctx.line()
    await _keep_talking(ctx, link, 3.0)
    end = link.transport.end
    ctx.check("alive", end is None, expected="a connection", actual=link.situation())
    await served(ctx, link, check="alive")


# -- a caller who does not read ------------------------------------------------------------------


@routed(
    "P0-014/client-paused",
    checks=["backpressure", "pings", "alive", "messages"],
    exclusive=True,
    features=["pause", "settings"],
)
async def paused(ctx: RouterContext) -> None:
    """While the caller does not read the router does not either, sends PINGs, and waits."""
    await ctx.start({"IDLE_TIMEOUT_MS": IDLE})
    call, post = await ctx.posted(paused=True)
    link = await ctx.line(idle_timeout_ms=1_000)
    delivery = await link.carry(post)
    link.stop_heartbeat()
    link.auto_pong = False
    piece = bytes(65_536)
    octets = b"".join(delivery.build(piece) for _ in range(BULK // len(piece)))
    link.send(octets, delivery.build(end=True))
    await _beats(ctx, link, "pings")
    left, before = link.transport.unwritten, -1
    while left not in (0, before):
        await link.until(lambda: False, 0.4)
        left, before = link.transport.unwritten, left
    ctx.check("backpressure", left > 0, expected="octets that nobody reads", actual=left)
    held = link.transport.end is None and call.final is None
    ctx.check("alive", held, expected="a connection that waits", actual=link.situation())
    ctx.driver.op("resume", ref=call.ref)
    await call.finished(check="messages", within=20.0)
    count = len(call.messages)
    held = count == BULK // len(piece) and call.final is not None and call.final["event"] == "end"
    ctx.check("messages", held, expected=f"{BULK // len(piece)} messages", actual=call.describe())
    await delivery.done()
