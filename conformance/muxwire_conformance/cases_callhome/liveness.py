"""Backpressure and liveness: P0-013, P0-014; and the drain of a connection: P0-020."""

from __future__ import annotations

import time
from itertools import pairwise

from muxwire_conformance import wire
from muxwire_conformance.callhome.context import CallhomeContext
from muxwire_conformance.callhome.link import HomeLink
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import declare, not_applicable_unless
from muxwire_conformance.cases_callhome._steps import (
    NEEDS,
    at_rest,
    idle,
    on,
    running,
    works,
)
from muxwire_conformance.transport import Direction

LITTLE_BUFFER = 65_536
MOST_BUFFERED = 2_097_152
BULK = {"bytes": 1_048_576, "messages": 16}
WATCHED = 1.6
MOST_IDLE = 10.0
UNREAD = 3.0


# -- P0-013 ------------------------------------------------------------------------------------


@case("P0-013/bounded-buffer", checks=["bounded"], features=NEEDS, exclusive=True)
async def bounded_buffer(ctx: CallhomeContext) -> None:
    """When the router does not read, at most 1 MiB or one message of the output is buffered."""
    await at_rest(ctx)
    router = await ctx.router()
    router.receive_buffer = LITTLE_BUFFER
    delivery = await ctx.post("conformance.generate", {"count": 200_000, "size": 1_024})
    await delivery.hello()
    link = on(delivery)
    delivery.accept(discard=True)
    link.transport.pause_reading()
    seen: list[int] = []
    while len(set(seen[-3:])) > 1 or len(seen) < 3:  # until it stands still
        seen.append((await ctx.stats())["buffered_bytes"])
        if seen[-1] > MOST_BUFFERED or len(seen) > 200:
            break
        await ctx.until(lambda: False, 0.03)
    good = seen[-1] <= MOST_BUFFERED
    ctx.check("bounded", good, expected=f"at most {MOST_BUFFERED} octets", actual=seen[-1])


@case("P0-013/goes-on", checks=["whole"], features=NEEDS)
async def goes_on(ctx: CallhomeContext) -> None:
    """A response that waited for its reader comes whole."""
    router = await ctx.router()
    router.receive_buffer = LITTLE_BUFFER
    delivery = await ctx.post("conformance.source", {"bytes": 1_000_000, "messages": 8})
    await delivery.hello()
    link = on(delivery)
    response = delivery.accept(discard=True)
    link.transport.pause_reading()
    await link.until(lambda: False, 0.2)
    link.transport.resume_reading()
    await response.end(check="whole")
    octets = response.octets
    ctx.check("whole", octets == 8_000_000, expected="8,000,000 octets", actual=octets)


@case("P0-013/never-read", checks=["aborted"], features=NEEDS, twin=SAME, timed=True)
async def never_read(ctx: CallhomeContext) -> None:
    """A router that takes no octet for its own idle timeout loses the connection."""
    router = await ctx.router()
    router.receive_buffer = LITTLE_BUFFER
    router.greeting = wire.wch_preface(idle_timeout_ms=1_000)
    delivery = await ctx.post("conformance.source", BULK)
    await delivery.hello()
    link = on(delivery)
    response = delivery.accept(discard=True)
    link.transport.pause_reading()
    # The silence may be longer on a slow machine; the legal pause of the twin may not.
    await link.until(lambda: False, ctx.pick(ctx.patience.within(UNREAD), 0.1))
    link.transport.resume_reading()
    await link.wait_for(lambda: response.terminal is not None)
    if ctx.twin_run:
        await response.end()
        return
    terminal = response.terminal
    words = "the end of the connection, and no terminal"
    ctx.check("aborted", terminal is None, expected=words, actual=terminal, frame=terminal)
    await link.expect_end(check="aborted")


# -- P0-014 ------------------------------------------------------------------------------------


def _declare_regular(name: str, words: str, *, streaming: bool) -> None:
    async def regular(ctx: CallhomeContext) -> None:
        router = await ctx.router()
        router.greeting = wire.wch_preface(idle_timeout_ms=1_000)
        link = on(await running(ctx)) if streaming else await idle(ctx)
        link.stop_heartbeat()
        started, late = time.monotonic(), 0.0
        step = min(link.peer_settings["IDLE_TIMEOUT_MS"] / 3_000, WATCHED)
        while (before := time.monotonic()) - started < WATCHED:
            link.send(wire.pong(ctx.nonce()))  # the judge keeps alive without asking for an answer
            await link.until(lambda: False, step)
            late = max(late, time.monotonic() - before - step)
        if link.transport.end is not None:
            link.fail("regular", "a connection that stays")
        chunks = link.transport.recording.chunks
        seen = [chunk.at for chunk in chunks if chunk.direction is Direction.RECEIVED]
        times = [started, *(at for at in seen if at > started), time.monotonic()]
        gap = max(after - earlier for earlier, after in pairwise(times))
        bound = ctx.patience.bound(0.6 + late)
        good = bound is None or gap <= bound
        said = f"nothing for {gap:.2f} s"
        ctx.check("regular", good, expected="something every 0.5 s", actual=said)

    title = f"On {words} the worker sends something at least every half of the router's timeout."
    declare(f"P0-014/{name}", title, regular, checks=["regular"], features=NEEDS, timed=True)


_declare_regular("idle-connection", "an idle connection", streaming=False)
_declare_regular("handler-at-work", "a connection whose handler works", streaming=True)


@case("P0-014/pong", checks=["idle", "greeting", "streaming", "ended"], features=NEEDS)
async def pong(ctx: CallhomeContext) -> None:
    """A PING is answered in every state."""
    delivery = await ctx.post("conformance.generate", {"count": 20, "interval_ms": 5})
    await delivery.admitted()
    link = await delivery.hello()
    await _ponged(ctx, link, "greeting")
    response = delivery.accept()
    await response.message()
    await _ponged(ctx, link, "streaming")
    await response.result()
    await _ponged(ctx, link, "ended")
    delivery.done()
    await _ponged(ctx, link, "idle")


async def _ponged(ctx: CallhomeContext, link: HomeLink, check: str) -> None:
    nonce = ctx.nonce()
    link.send(wire.ping(nonce))
    words = "PONG with the same octets within 1 s"
    await link.expect(
        lambda frame: frame.name == "PONG" and frame.payload == nonce,
        check=check,
        within=1.0,
        expected=words,
    )


def _declare_silence(name: str, words: str, *, streaming: bool) -> None:
    async def silence(ctx: CallhomeContext) -> None:
        link = on(await running(ctx)) if streaming else await idle(ctx)
        timeout = link.peer_settings["IDLE_TIMEOUT_MS"] / 1_000
        not_applicable_unless(timeout <= MOST_IDLE, f"the timeout of {timeout:g} s is too long")
        if ctx.pick(True, False):
            link.stay_silent()
        began = link.last_sent
        most = timeout if ctx.twin_run else ctx.patience.within(timeout + 1.0)
        await link.until(lambda: False, most)
        end = link.transport.end
        if ctx.twin_run:
            await link.fence()
            return
        took = end.at - began if end is not None else None
        good = took is not None and took > timeout * 0.8 - ctx.patience.slack
        words = f"the end {timeout:g} s after the last octet"
        ctx.check("in-time", good, expected=words, actual=took or "no end")
        await works(ctx, "works")

    title = f"On {words} a router that is silent for the worker's own idle timeout is given up."
    declare(
        f"P0-014/{name}",
        title,
        silence,
        checks=["in-time", "works"],
        features=NEEDS,
        twin=SAME,
        timed=True,
    )


_declare_silence("silence-while-idle", "an idle connection", streaming=False)
_declare_silence("silence-while-streaming", "a connection with a stream", streaming=True)


# -- P0-020 ------------------------------------------------------------------------------------


@case("P0-020/drained-connection", checks=["served", "end", "next"], features=NEEDS)
async def drained_connection(ctx: CallhomeContext) -> None:
    """A connection that drains lets its stream end, is closed behind DONE, and not used again."""
    delivery = await ctx.post("conformance.drain", {"grace_ms": 1_000})
    await delivery.admitted()
    messages = await delivery.result(check="served")
    ctx.check("served", messages == [b"ok"], expected="['ok']", actual=messages)
    link = on(delivery)
    await link.expect_end()
    used = await works(ctx, "next")
    ctx.check("next", used is not link, expected="another connection", actual=used.label)
