"""Steps that several areas share. No case lives here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from muxwire_conformance import wire
from muxwire_conformance.callhome.context import CallhomeContext
from muxwire_conformance.callhome.delivery import Delivery
from muxwire_conformance.callhome.link import HomeLink
from muxwire_conformance.callhome.router import Router

NEEDS = ["conformance"]
LONG_MS = 60_000
SLEEP: Mapping[str, object] = {"ms": LONG_MS}
"""A handler that does not end by itself during a case."""
KILL_TIME = 1.0
"""Seconds within which a handler is killed."""
REST_TIME = 3.0


async def running(ctx: CallhomeContext, **options: Any) -> Delivery:
    """Return an accepted stream whose handler goes on and sends nothing."""
    delivery = await ctx.post("conformance.sleep", SLEEP, **options)
    await delivery.admitted()
    await delivery.accepted()
    return delivery


async def idle(ctx: CallhomeContext, router: Router | None = None) -> HomeLink:
    """Return a connection that has carried a stream and is idle again: the worker knows it."""
    delivery = await ctx.post("conformance.echo", b"before", router=router)
    await delivery.result()
    link = on(delivery)
    await link.fence()
    return link


def on(delivery: Delivery) -> HomeLink:
    """Return the connection of a stream."""
    return delivery._on()


async def works(ctx: CallhomeContext, check: str, **options: Any) -> HomeLink:
    """Judge that a further stream is delivered whole; return its connection."""
    delivery = await ctx.post("conformance.echo", b"afterwards", **options)
    await delivery.admitted(check=check)
    await delivery.hello(check=check)
    messages = await delivery.result(check=check)
    whole = messages == [b"afterwards"]
    ctx.check(check, whole, expected="['afterwards']", actual=messages)
    return on(delivery)


async def reused(ctx: CallhomeContext, link: HomeLink, *, check: str) -> None:
    """Judge that the next stream uses a connection that was used last."""
    used = await works(ctx, check, router=link.router)
    ctx.check(check, used is link, expected=f"HELLO on {link.label}", actual=used.label)


async def elsewhere(ctx: CallhomeContext) -> None:
    """Run a whole stream with another router: what the worker had begun has been seen by then."""
    await ctx.call("conformance.echo", b"elsewhere", router=await ctx.router())


async def at_rest(ctx: CallhomeContext) -> dict[str, int]:
    """Return statistics once no handler runs, or when some of other cases go on for long."""
    ends = time.monotonic() + REST_TIME + ctx.patience.slack
    return await ctx.settles(
        lambda stats: stats["active"] == 0 or time.monotonic() > ends,
        expected="no handler of another case",
        within=REST_TIME + 2.0,
    )


async def killed(ctx: CallhomeContext, before: Mapping[str, int], *, check: str) -> None:
    """Judge that as many handlers run as before within the time that a kill may take."""
    await ctx.settles(
        lambda stats: stats["active"] <= before["active"],
        check=check,
        expected=f"active handlers as before: {before['active']}",
        within=KILL_TIME,
    )


async def refused_link(ctx: CallhomeContext, link: HomeLink, *, check: str) -> None:
    """Judge that the worker closes a connection without a further frame; in a twin, that it works.

    A PING goes out first: its PONG would show that the violation was passed over.
    """
    if ctx.twin_run:
        await link.fence()
        return
    known = len(link.frames)
    nonce = ctx.nonce()
    if link._outgoing.between_frames:
        link.send(wire.ping(nonce), note="fence")

    def ponged() -> bool:
        return any(frame.name == "PONG" and frame.payload == nonce for frame in link.frames)

    await link.wait_for(ponged)
    more = [frame for frame in link.frames[known:] if frame.name != "PING" and not frame.extension]
    more = [frame for frame in more if frame.name != "PONG" or frame.payload == nonce]
    actual = more[0] if more else None
    if actual is not None:
        words = "the end of the connection without a frame"
        ctx.check(check, False, expected=words, actual=actual, frame=actual)
    await link.expect_end(check=check)


async def bad_then_good(
    ctx: CallhomeContext, octets: bytes | None, *, good: bytes | None = None
) -> tuple[Router, Delivery]:
    """Have a stream delivered while the first dial is answered with these octets."""
    router = await ctx.router()
    router.first_greetings.append(ctx.pick(octets, good or wire.wch_preface()))
    delivery = await ctx.post("conformance.echo", b"on the way", router=router)
    await delivery.admitted()
    return router, delivery
