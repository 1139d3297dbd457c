"""Liveness, as a client shows it."""

from __future__ import annotations

import itertools
import time

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases_client._steps import REFUSED, answered
from muxwire_conformance.client_mode.context import ClientContext
from muxwire_conformance.client_mode.link import Link

IDLE = 600
IDLE_S = IDLE / 1_000
TRIES = 3
"""So often a judge that was late tries again before it gives up."""


async def _keep_talking(ctx: ClientContext, link: Link, seconds: float, most: float) -> None:
    """Send credit often for so long; a judge that was silent for longer than ``most`` is late."""
    ends = time.monotonic() + seconds
    last = link.last_sent
    while time.monotonic() < ends and link.goaway is None:
        now = time.monotonic()
        if now - last > most:
            ctx.late(f"a pause of {now - last:.2f} s, {most:.2f} s are allowed")
        link.send(wire.window_update(link.watcher.connection_limit + 1))
        last = now
        await link.until(lambda: link.goaway is not None, most / 4)
    if link.goaway is not None and link.goaway.at - last > most:
        ctx.late(f"a pause of {link.goaway.at - last:.2f} s, {most:.2f} s are allowed")


async def _pings(link: Link, seconds: float) -> list[float]:
    """Let time pass; return when the client sent something, the start and the end included."""
    before = len(link.frames)
    started = time.monotonic()
    await link.until(lambda: False, seconds)
    return [started, *(frame.at for frame in link.frames[before:]), time.monotonic()]


@case("HBT-001/client-keeps-alive", role="client", checks=["gaps", "filler"], timed=True)
async def keeps_alive(ctx: ClientContext) -> None:
    """A client that has nothing to say sends a PING every half of the worker's timeout."""
    link = await ctx.ready({"IDLE_TIMEOUT_MS": 1_000})
    link.stop_heartbeat()
    before = len(link.frames)
    times = await _pings(link, 2.5)
    gap = max(after - first for first, after in itertools.pairwise(times))
    limit = 0.6 + ctx.patience.slack
    ctx.check("gaps", gap <= limit, expected="gaps of 600 ms at most", actual=f"{gap:.3f} s")
    others = [frame for frame in link.frames[before:] if frame.name != "PING"]
    ctx.check("filler", not others, expected="PING only", actual=others[:3])


@case("HBT-002/client-answers-pings", role="client", checks=["same", "order"])
async def answers_pings(ctx: ClientContext) -> None:
    """A PING is answered by a PONG with the same octets, in order."""
    link = await ctx.ready()
    opaque = [ctx.nonce() for _ in range(8)]
    link.send(*(wire.ping(one) for one in opaque))
    await link.wait_for(lambda: len(_pongs(link)) >= 8)
    got = _pongs(link)
    ctx.check(
        "same",
        set(got) == set(opaque),
        expected="8 PONGs with their octets",
        actual=[one.hex() for one in got],
    )
    ctx.check(
        "order", got == opaque, expected="the order of the PINGs", actual=[one.hex() for one in got]
    )


def _pongs(link: Link) -> list[bytes]:
    return [frame.payload for frame in link.frames if frame.name == "PONG"]


@case(
    "HBT-003/client-silence",
    role="client",
    checks=REFUSED,
    twin=SAME,
    timed=True,
    features=["settings"],
)
async def silence(ctx: ClientContext) -> None:
    """A worker that is silent for the client's IDLE_TIMEOUT_MS is left with HEARTBEAT_TIMEOUT."""
    link = await ctx.ready(client={"IDLE_TIMEOUT_MS": IDLE})
    if not ctx.twin_run:
        link.stay_silent()
        link.violate(b"")
        await link.expect_connection_error("HEARTBEAT_TIMEOUT", within=IDLE_S + 1.0)
        return
    await _keep_talking(ctx, link, 2.2 * IDLE_S, 0.9 * IDLE_S)
    await link.expect_connection_error("HEARTBEAT_TIMEOUT")


@case(
    "HBT-003/client-not-earlier",
    role="client",
    checks=["not-earlier"],
    timed=True,
    features=["settings"],
)
async def not_earlier(ctx: ClientContext) -> None:
    """The timeout is not raised earlier than the client's own IDLE_TIMEOUT_MS."""
    link = await ctx.ready(client={"IDLE_TIMEOUT_MS": 900})
    link.stay_silent()
    await link.wait_for(lambda: link.goaway is not None, 2.5)
    if link.goaway is None:
        ctx.unprepared("GOAWAY for the silence", link.situation())
    took = link.goaway.at - link.last_sent
    ctx.check("not-earlier", took >= 0.88, expected="900 ms", actual=f"{took * 1_000:.0f} ms")


@case(
    "HBT-003/client-not-before-ack",
    role="client",
    checks=["quiet", "works"],
    timed=True,
    features=["settings"],
)
async def not_before_ack(ctx: ClientContext) -> None:
    """Silence is counted from SETTINGS_ACK on only."""
    await ctx.start({"IDLE_TIMEOUT_MS": 300})
    link = await ctx.accept()
    await link.offered()
    link.stop_heartbeat()
    link.greet(ack=False)
    await link.until(lambda: link.goaway is not None, 0.9)
    ended = link.goaway or link.transport.end
    ctx.check("quiet", ended is None, expected="no end of the connection", actual=ended)
    link.send(wire.settings_ack())
    await answered(ctx, link, check="works")


@case(
    "HBT-004/client-octets-count",
    role="client",
    checks=["alive"],
    timed=True,
    features=["settings"],
)
async def octets_count(ctx: ClientContext) -> None:
    """Every octet restarts the timer, also in the middle of a frame."""
    link = await ctx.ready(client={"IDLE_TIMEOUT_MS": 1_000})
    link.stop_heartbeat()
    octets = wire.grease(0x8A, bytes(32))
    for _ in range(TRIES):
        before = link.last_sent
        await link.until(lambda: False, 0.6)
        silence = time.monotonic() - before
        started = time.monotonic()
        for start in range(0, 64, 8):
            link.send(octets[start : start + 8])
            due = started + 0.08 * (start // 8 + 1)
            await link.until(lambda: False, max(0.0, due - time.monotonic()))
        took = time.monotonic() - started
        if silence < 0.8 and took < 0.85:
            break
    else:
        ctx.late(f"a silence of {silence:.2f} s and a frame over {took:.2f} s")
    await link.fence(check="alive")


@case(
    "HBT-004/client-request-in-progress",
    role="client",
    checks=REFUSED,
    twin="HBT-004/client-octets-count",
    timed=True,
    features=["settings"],
    requirements=["HBT-004", "HBT-003"],
)
async def request_in_progress(ctx: ClientContext) -> None:
    """A request in progress does not suspend the timer."""
    link = await ctx.ready(client={"IDLE_TIMEOUT_MS": IDLE})
    ctx.request(b"x")
    await link.take()
    link.stay_silent()
    link.violate(b"")
    await link.expect_connection_error("HEARTBEAT_TIMEOUT", within=IDLE_S + 1.0)


@case("HBT-005/client-no-pong", role="client", checks=["alive"], timed=True)
async def no_pong(ctx: ClientContext) -> None:
    """A PONG that never comes is no error while other octets arrive."""
    link = await ctx.ready({"IDLE_TIMEOUT_MS": 600}, client={"IDLE_TIMEOUT_MS": IDLE})
    link.auto_pong = False
    link.stop_heartbeat()
    await _keep_talking(ctx, link, 4 * IDLE_S, 0.9 * IDLE_S)
    await link.fence(check="alive")


@case(
    "HBT-006/client-blocked-output",
    role="client",
    checks=["aborted"],
    exclusive=True,
    features=["settings"],
)
async def blocked_output(ctx: ClientContext) -> None:
    """A client that cannot write for its own IDLE_TIMEOUT_MS aborts the connection."""
    ctx.listener.receive_buffer = 65_536
    wide = {
        "INITIAL_STREAM_WINDOW": 1 << 30,
        "CONNECTION_WINDOW": 1 << 30,
        "MAX_MESSAGE_SIZE": 1 << 30,
    }
    idle = 1.5
    link = await ctx.ready(wide, client={"IDLE_TIMEOUT_MS": 1_500})
    call = ctx.request(bytes(12 * 1_048_576))
    await link.take(within=5.0)
    link.transport.pause_reading()
    link.stay_silent()
    started = time.monotonic()
    while time.monotonic() - started < idle + 3.0 + ctx.patience.slack:
        if link.transport.write_error is None:
            link.send(wire.ping(ctx.nonce()))
        if await ctx.driver.until(lambda: bool(ctx.events("disconnected")), idle / 3):
            break
    seen = ctx.events("disconnected")
    held = bool(seen) and seen[0]["by"] == "local"
    ctx.check("aborted", held, expected="disconnected, by local", actual=seen)
    await call.fails("AMBIGUOUS" if len(link.exchanges) else "NOT_SENT")


@case("HBT-007/client-few-pings", role="client", checks=["few"], timed=True)
async def few_pings(ctx: ClientContext) -> None:
    """A client whose PINGs are not answered sends those that HBT-001 obliges, and few more."""
    link = await ctx.ready({"IDLE_TIMEOUT_MS": 1_000})
    link.auto_pong = False
    started = time.monotonic()
    await link.until(lambda: False, 3.0)
    most = 8 + int((time.monotonic() - started) / 0.25)
    pings = sum(frame.name == "PING" for frame in link.frames)
    ctx.check("few", pings <= most, expected=f"{most} at most", actual=pings)
