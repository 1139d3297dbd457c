"""Rules of chapter 21 that everything a router sends has to keep, one case per rule."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.cases_client._callhome import declare_routed
from muxwire_conformance.client_mode.home_watcher import ROUTER_WATCHED
from muxwire_conformance.client_mode.router import RouterContext
from muxwire_conformance.client_mode.session import CLIENT_EVERY_FRAME

LEAST_FRAMES = 8


async def _ordinary(ctx: RouterContext) -> None:
    """Have the router send every kind of frame it has; judge what it sent."""
    link, delivery, call = await ctx.carried(timeout_ms=30_000)
    ctx.driver.op("stop", ref=call.ref)
    await delivery.expect(wire.STOP)
    delivery.answer(b"x")
    await call.succeeds([b"x"])
    await delivery.done()
    killed, post = await ctx.posted()
    second = await link.carry(post)
    second.send(b"y")
    ctx.driver.op("kill", ref=killed.ref)
    await second.expect(wire.KILL)
    second.fail("CANCELLED")
    await killed.finished()
    await second.done()
    await link.hello(post).rejected("NOT_FOUND")
    await link.fence()
    if len(link.frames) < LEAST_FRAMES:
        ctx.unprepared(f"at least {LEAST_FRAMES} frames to look at", len(link.frames))
    ctx.emit("every-frame")


for _requirement in (*ROUTER_WATCHED, "P0-017"):
    declare_routed(
        f"{_requirement}/{CLIENT_EVERY_FRAME}",
        f"Everything that the router sends keeps {_requirement}.",
        _ordinary,
        checks=["every-frame"],
    )
