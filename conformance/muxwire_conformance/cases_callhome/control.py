"""STOP and KILL: P0-011."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.callhome.context import CallhomeContext
from muxwire_conformance.case import case
from muxwire_conformance.cases_callhome._steps import (
    KILL_TIME,
    NEEDS,
    SLEEP,
    at_rest,
    elsewhere,
    killed,
    on,
    reused,
    running,
)

ECHO = "conformance.echo"
OTHER = bytes(range(1, 17))


@case("P0-011/kill", checks=["cancelled", "used-again"], features=NEEDS)
async def kill(ctx: CallhomeContext) -> None:
    """KILL ends the stream with CANCELLED within 1 s; the connection is used again."""
    delivery = await ctx.post("conformance.generate", {"count": 1_000_000, "interval_ms": 5})
    response = await delivery.accepted()
    await response.message()
    delivery.kill()
    await response.fails("CANCELLED", check="cancelled", not_processed=False, within=KILL_TIME)
    delivery.done()
    await on(delivery).fence()
    await reused(ctx, on(delivery), check="used-again")


@case("P0-011/kill-stops-the-handler", checks=["killed"], features=NEEDS, exclusive=True)
async def kill_stops_the_handler(ctx: CallhomeContext) -> None:
    """KILL really stops the handler."""
    before = await at_rest(ctx)
    delivery = await running(ctx)
    delivery.kill()
    await killed(ctx, before, check="killed")


@case("P0-011/stop", checks=["success", "early"], features=NEEDS)
async def stop(ctx: CallhomeContext) -> None:
    """STOP ends a handler that cooperates early and well."""
    delivery = await ctx.post("conformance.generate", {"count": 100_000, "interval_ms": 20})
    response = await delivery.accepted()
    await response.message()
    response.stop()
    messages = await response.result(check="success")
    delivery.done()
    early = 1 <= len(messages) < 100
    ctx.check("early", early, expected="1 to 99 messages", actual=len(messages))


@case("P0-011/kill-before-accept", checks=["held-back", "cancelled", "used-again"], features=NEEDS)
async def kill_before_accept(ctx: CallhomeContext) -> None:
    """The terminal of a stream that is killed between HELLO and ACCEPT follows the ACCEPT."""
    delivery = await ctx.post("conformance.sleep", SLEEP)
    await delivery.admitted()
    link = await delivery.hello()
    delivery.kill()
    await elsewhere(ctx)
    await link.fence(check="held-back")
    early = [frame for frame in link.frames if frame.type == wire.RESPONSE]
    actual = early[0] if early else None
    ctx.check("held-back", not early, expected="no RESPONSE", actual=actual, frame=actual)
    response = delivery.accept()
    await response.fails("CANCELLED", check="cancelled", within=KILL_TIME)
    delivery.done()
    await link.fence()
    await reused(ctx, link, check="used-again")


@case("P0-011/kill-before-accept-is-at-once", checks=["killed"], features=NEEDS, exclusive=True)
async def kill_before_accept_is_at_once(ctx: CallhomeContext) -> None:
    """A KILL between HELLO and ACCEPT cancels the handler at once."""
    before = await at_rest(ctx)
    delivery = await ctx.post("conformance.sleep", SLEEP)
    await delivery.admitted()
    await delivery.hello()
    delivery.kill()
    await killed(ctx, before, check="killed")


@case("P0-011/behind-the-terminal", checks=["goes-on", "next"], features=NEEDS)
async def behind_the_terminal(ctx: CallhomeContext) -> None:
    """STOP and KILL behind the terminal, before and after DONE, are ignored."""
    delivery = await ctx.post(ECHO, b"x")
    response = await delivery.accepted()
    await response.result()
    link = on(delivery)
    link.send(wire.stop(delivery.id), wire.kill(delivery.id))
    await link.fence(check="goes-on")
    link.send(wire.done(delivery.id), wire.stop(delivery.id), wire.kill(delivery.id))
    await link.fence(check="goes-on")
    await reused(ctx, link, check="next")


@case("P0-011/other-ids", checks=["goes-on", "whole"], features=NEEDS)
async def other_ids(ctx: CallhomeContext) -> None:
    """STOP and KILL for another stream are ignored in every state."""
    delivery = await ctx.post("conformance.generate", {"count": 30, "interval_ms": 5})
    await delivery.admitted()
    link = await delivery.hello()
    foreign = (wire.stop(OTHER), wire.kill(OTHER))
    link.send(*foreign)
    await link.fence(check="goes-on")
    response = delivery.accept()
    await response.message()
    link.send(*foreign)
    messages = await response.result(check="whole")
    ctx.check("whole", len(messages) == 30, expected="30 messages", actual=len(messages))
    link.send(*foreign)
    await link.fence(check="goes-on")
    delivery.done()
    link.send(*foreign)
    await link.fence(check="goes-on")


@case("P0-011/late-kill-spares-the-next", checks=["next"], features=NEEDS)
async def late_kill_spares_the_next(ctx: CallhomeContext) -> None:
    """A KILL for the stream before does not touch the one that runs now on the connection."""
    streams = [await ctx.post(ECHO, b"x") for _ in range(8)]
    for delivery in streams:
        await delivery.result()
        await on(delivery).fence()
    before = {on(delivery): delivery.id for delivery in streams}
    later = await ctx.post("conformance.generate", {"count": 30, "interval_ms": 5})
    response = await later.accepted()
    await response.message()
    link = on(later)
    link.send(wire.kill(before.get(link, OTHER)))
    messages = await response.result(check="next")
    ctx.check("next", len(messages) == 30, expected="30 messages", actual=len(messages))
    later.done()
