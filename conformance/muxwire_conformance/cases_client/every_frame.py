"""Rules that every frame of a client has to keep, one case per rule.

Each case holds an ordinary conversation in which a client sends every kind of frame it has. The
runner adds what the other cases of the run saw.
"""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.cases_client._steps import declare
from muxwire_conformance.client_mode.context import ClientContext
from muxwire_conformance.client_mode.session import CLIENT_EVERY_FRAME
from muxwire_conformance.client_mode.watcher import CLIENT_WATCHED

LEAST_FRAMES = 8


async def _ordinary(ctx: ClientContext) -> None:
    """Have the client do everything; judge what it sent."""
    link = await ctx.ready({"MAX_FRAME_SIZE": 16_384})
    large = ctx.request(messages=[b"", b"one", bytes(100_000)], timeout_ms=30_000)
    one = await link.take()
    await one.complete()
    one.answer(b"x", trailers=[("k", "v")])
    await large.succeeds([b"x"])
    killed = ctx.request(b"y", idempotent=True)
    two = await link.take()
    ctx.driver.op("stop", ref=killed.ref)
    ctx.driver.op("kill", ref=killed.ref)
    await two.killed()
    two.fail("CANCELLED")
    await killed.finished()
    link.send(wire.ping(b"12345678"))
    await link.fence()
    ctx.driver.op("close")
    await link.wait_for(lambda: link.goaway is not None or link.transport.end is not None)
    if len(link.frames) < LEAST_FRAMES:
        ctx.unprepared(f"at least {LEAST_FRAMES} frames to look at", len(link.frames))
    ctx.emit("every-frame")


for _requirement in CLIENT_WATCHED:
    declare(
        f"{_requirement}/{CLIENT_EVERY_FRAME}",
        f"Every frame that the client sends keeps {_requirement}.",
        _ordinary,
        checks=["every-frame"],
    )
