"""The preface of WCH/1: P0-002."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.callhome.context import CallhomeContext
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import declare
from muxwire_conformance.cases_callhome._steps import NEEDS, bad_then_good, elsewhere

PREFACE_TIME = 5.0


@case("P0-002/worker-speaks-first", checks=["preface", "nothing-else"], features=NEEDS)
async def worker_speaks_first(ctx: CallhomeContext) -> None:
    """The worker sends its preface by itself, and no frame before the router's."""
    router = await ctx.router()
    router.greeting = None
    delivery = await ctx.post("conformance.echo", b"x", router=router)
    await delivery.admitted()
    await ctx.wait_for(lambda: any(link.preface for link in router.links), PREFACE_TIME)
    link = next((link for link in router.links if link.preface is not None), None)
    found = link.preface if link is not None else None
    ctx.check("preface", found is not None, expected="the preface of the worker", actual=found)
    await elsewhere(ctx)
    frames = [frame for link in router.links for frame in link.frames]
    ctx.check("nothing-else", not frames, expected="no frame", actual=frames[:1])


@case("P0-002/preface-in-pieces", checks=["whole"], features=NEEDS)
async def preface_in_pieces(ctx: CallhomeContext) -> None:
    """A router's preface may come octet by octet."""
    router = await ctx.router()
    router.greeting = None
    delivery = await ctx.post("conformance.echo", b"x", router=router)
    await delivery.admitted()
    await ctx.wait_for(lambda: any(link.preface for link in router.links), PREFACE_TIME)
    for link in router.links:
        link.transport.dribble()
        link.greet(wire.wch_preface(idle_timeout_ms=30_000))
    router.greeting = wire.wch_preface()
    messages = await delivery.result(check="whole")
    ctx.check("whole", messages == [b"x"], expected="['x']", actual=messages)


_WRONG_MAGIC = wire.wch_preface(magic=wire.WCH_MAGIC[:7] + b"\r")
_LONG = wire.wch_preface(idle_timeout_ms=600_001)
_REFUSED = {
    "http-answer": ("an HTTP server answers", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "preface-of-wmx": ("the magic is that of WMX/1", wire.preface()),
    "version-2": ("only version 2 is served", wire.wch_preface(ver_hi=2, ver_lo=2)),
    "version-range": ("the versions are a range", wire.wch_preface(ver_hi=2, ver_lo=1)),
    "version-0": ("the version is 0", wire.wch_preface(ver_hi=0, ver_lo=0)),
    "header-size-48": ("the header has 48 octets", wire.wch_preface(header_size=48)),
    "idle-timeout-99": ("idle_timeout_ms is 99", wire.wch_preface(idle_timeout_ms=99)),
    "idle-timeout-600001": (
        "idle_timeout_ms is 600,001",
        wire.wch_preface(idle_timeout_ms=600_001),
    ),
    "last-octet-of-magic": (
        "the magic is wrong",
        wire.wch_preface(magic=wire.WCH_MAGIC[:7] + b"\r"),
    ),
}


def _declare_refused(name: str, words: str, octets: bytes) -> None:
    async def refused(ctx: CallhomeContext) -> None:
        router, delivery = await bad_then_good(ctx, octets)
        check = None if ctx.twin_run else "redials"
        await delivery.hello(check=check)
        messages = await delivery.result(check=check)
        if ctx.twin_run:
            return
        first = router.links[0]
        first.transcript.event("this dial got the faulty preface", first.transport.opened_at)
        await first.expect_end(check="closes")
        frames = first.frames
        ctx.check("closes", not frames, expected="no frame", actual=frames[:1])
        whole = messages == [b"on the way"]
        ctx.check("redials", whole, expected="['on the way']", actual=messages)

    title = f"Where {words}, the worker closes without a frame and dials again."
    checks = ["redials", "closes"]
    declare(f"P0-002/{name}", title, refused, checks=checks, features=NEEDS, twin=SAME)


for _name, (_words, _octets) in _REFUSED.items():
    _declare_refused(_name, _words, _octets)


@case("P0-002/idle-timeout-limits", checks=["whole"], features=NEEDS)
async def idle_timeout_limits(ctx: CallhomeContext) -> None:
    """Idle timeouts of 0, 100 and 600,000 are well formed."""
    for idle_ms in (0, 100, 600_000):
        router = await ctx.router()
        router.greeting = wire.wch_preface(idle_timeout_ms=idle_ms)
        await ctx.call("conformance.echo", b"x", router=router, check="whole")


@case("P0-002/hang-up", checks=["redials"], features=NEEDS, twin=SAME)
async def hang_up(ctx: CallhomeContext) -> None:
    """A router that closes behind the worker's preface is dialled again."""
    router = await ctx.router()
    router.first_greetings.append(ctx.pick(None, wire.wch_preface()))
    delivery = await ctx.post("conformance.echo", b"x", router=router)
    if not ctx.twin_run:
        await ctx.wait_for(lambda: bool(router.links and router.links[0].preface), PREFACE_TIME)
        if not router.links:
            ctx.unprepared("a dial of the worker", "none came")
        router.links[0].abort()
    check = None if ctx.twin_run else "redials"
    await delivery.hello(check=check)
    messages = await delivery.result(check=check)
    if not ctx.twin_run:
        ctx.check("redials", messages == [b"x"], expected="['x']", actual=messages)


@case("P0-002/silent-router", checks=["closes", "redials"], features=NEEDS, twin=SAME, timed=True)
async def silent_router(ctx: CallhomeContext) -> None:
    """A router that sends no preface is given up 5 s after the dial, and dialled again."""
    router, delivery = await bad_then_good(ctx, None)
    if ctx.twin_run:
        await delivery.result()
        return
    await delivery.hello(check="redials", within=2 * PREFACE_TIME)
    messages = await delivery.result(check="redials")
    ctx.check("redials", messages == [b"on the way"], expected="whole", actual=messages)
    first = router.links[0]
    await first.expect_end(check="closes", within=PREFACE_TIME)
    frames = first.frames
    ctx.check("closes", not frames, expected="no frame", actual=frames[:1])
