"""Rules that every received frame has to keep, one case per rule.

Each case holds an ordinary conversation that makes a worker send every kind of frame it has, and
then looks at all of them. The runner adds what the other cases of the run saw.
"""

from __future__ import annotations

from muxwire_conformance.case import CaseFunction, case
from muxwire_conformance.context import Context
from muxwire_conformance.invariants import WATCHED
from muxwire_conformance.rules import rule

LEAST_FRAMES = 4


async def ordinary_conversation(ctx: Context) -> int:
    """Talk to the target about everything; return how many frames it sent."""
    conn = await ctx.ready({"MAX_FRAME_SIZE": 16_384})
    await conn.fence()
    await conn.open("no.such.subject").end()
    if ctx.has("conformance"):
        await conn.open("conformance.headers", {}, headers=[("traceparent", "x")]).end()
        await conn.open("conformance.fail", {"after": 3, "message": "on purpose"}).end()
        await conn.open("conformance.generate", {"count": 20, "size": 64}).end()
        await conn.open("conformance.source", {"bytes": 100_000}).end()
        echo = conn.open("conformance.echo", end=False)
        for message in (b"", b"one", b"x" * 40_000):
            await echo.send_message(message)
        echo.finish()
        await echo.end()
        await conn.open("conformance.drain", {"grace_ms": 1_000}).end()
        await conn.until(lambda: conn.goaway is not None, ctx.patience.seconds)
        await conn.expect_end(check=None)
    return len(conn.frames)


def _declare(requirement: str) -> None:
    async def every_frame(ctx: Context) -> None:
        seen = await ordinary_conversation(ctx)
        if seen < LEAST_FRAMES:
            ctx.unprepared(f"at least {LEAST_FRAMES} frames to look at", f"{seen}")
        ctx.emit("every-frame")

    every_frame.__doc__ = f"Every frame received keeps {requirement}."
    function: CaseFunction = every_frame
    case(
        f"{requirement}/every-frame",
        checks=["every-frame"],
        features=["conformance?"],
    )(function)


for _requirement in WATCHED:
    if rule(_requirement).known:
        _declare(_requirement)
