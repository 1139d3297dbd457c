"""A stream on a call-home connection: its terminal, DONE, and the next one (P0-008, P0-011)."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from muxwire_conformance import wire
from muxwire_conformance.cases_client._callhome import declare_routed, routed, served
from muxwire_conformance.client_mode.home import Delivery
from muxwire_conformance.client_mode.router import RouterContext

DONE_TIME = 1.0

# -- P0-008 ------------------------------------------------------------------------------------


def _success(delivery: Delivery) -> None:
    delivery.answer(b"hi")


def _bare(delivery: Delivery) -> None:
    delivery.answer()


def _trailers(delivery: Delivery) -> None:
    delivery.answer(b"hi", trailers=[("usage", "1")])


def _error(delivery: Delivery) -> None:
    delivery.send(b"hi")
    delivery.fail("APPLICATION_ERROR", b"no")


def _refusal(delivery: Delivery) -> None:
    delivery.fail("INVALID_ARGUMENT", b"no", not_processed=True)


async def _done(ctx: RouterContext, *, end: Any) -> None:
    link, delivery, call = await ctx.carried()
    end(delivery)
    await delivery.done(check="done", within=DONE_TIME)
    await call.finished(check="final")
    ctx.emit("final")
    await served(ctx, link, check="reused")


for _name, _title, _end in (
    ("success", "behind a success terminal", _success),
    ("empty-response", "behind a success terminal that is the only RESPONSE", _bare),
    ("trailers", "behind a success terminal with trailers", _trailers),
    ("error", "behind an error terminal", _error),
    ("refusal", "behind an error terminal with NOT_PROCESSED", _refusal),
):
    declare_routed(
        f"P0-008/client-done-{_name}",
        f"DONE comes {_title} within 1 s, and the connection carries the next stream.",
        partial(_done, end=_end),
        checks=["done", "final", "reused"],
        requirements=["P0-008", "P0-019"],
    )


@routed("P0-008/client-ping-behind-terminal", checks=["pong", "done"])
async def ping_behind_terminal(ctx: RouterContext) -> None:
    """PING, PONG and ignorable frames behind the terminal change nothing."""
    link, delivery, call = await ctx.carried()
    opaque = ctx.nonce()
    link.send(
        delivery.build(b"hi"),
        delivery.build(end=True),
        wire.grease(),
        wire.ping(opaque),
        wire.pong(ctx.nonce()),
    )
    await link.wait_for(lambda: any(one.payload == opaque for one in link.frames))
    held = any(one.payload == opaque for one in link.frames)
    ctx.check("pong", held, expected="PONG", actual=link.situation())
    await delivery.done(check="done")
    await call.succeeds([b"hi"])
    await served(ctx, link)


@routed("P0-008/client-many-streams", checks=["delivered", "done"])
async def many_streams(ctx: RouterContext) -> None:
    """One connection carries one stream after the other, each with its own id and DONE."""
    link = await ctx.line()
    for number in range(20):
        call, post = await ctx.posted(b"%d" % number)
        delivery = await link.carry(post)
        delivery.answer(post.body)
        await call.succeeds([b"%d" % number], check="delivered")
        await delivery.done(check="done")


@routed("P0-019/client-streams-side-by-side", checks=["delivered", "done"])
async def side_by_side(ctx: RouterContext) -> None:
    """Streams on connections of their own do not mind each other, in any order."""
    await ctx.ensure()
    calls, posts = [], []
    for number in range(24):
        calls.append(ctx.request(b"%d" % number))
    for _ in calls:
        posts.append(await ctx.post())
    ctx.rng.shuffle(posts)
    links = await asyncio.gather(*(ctx.line() for _ in posts))
    deliveries = [link.hello(post) for link, post in zip(links, posts, strict=True)]
    for post in reversed(posts):
        post.answer()
    for delivery, post in zip(deliveries, posts, strict=True):
        await delivery.accepted()
        delivery.send(post.body)
    ctx.rng.shuffle(deliveries)
    for delivery in deliveries:
        delivery.send(end=True)
    for number, call in enumerate(calls):
        await call.succeeds([b"%d" % number], check="delivered")
    for delivery in deliveries:
        await delivery.done(check="done")


@routed("P0-019/client-whole-response", checks=["messages"])
async def whole_response(ctx: RouterContext) -> None:
    """Headers, chunks of any size up to 1,048,576 octets, empty messages and trailers arrive."""
    link, delivery, call = await ctx.carried()
    large = ctx.rng.randbytes(1_048_576)
    link.send(
        delivery.build(headers=[("content-type", "text/plain")]),
        delivery.build(b"he", more=True),
        delivery.build(b"", more=True),
        delivery.build(b"llo"),
        delivery.build(b""),
        delivery.build(large, more=True),
        delivery.build(large),
        delivery.build(b"end", headers=[("usage", "2")], end=True),
    )
    await call.succeeds([b"hello", b"", large + large, b"end"], check="messages")
    await delivery.done()


@routed("P0-019/client-octet-by-octet", checks=["messages"])
async def octet_by_octet(ctx: RouterContext) -> None:
    """It does not matter how the octets of a connection arrive."""
    call, post = await ctx.posted()
    link = await ctx.dial()
    link.transport.dribble()
    link.greet()
    await link.welcomed()
    delivery = await link.carry(post)
    delivery.answer(b"one", b"two")
    await call.succeeds([b"one", b"two"], check="messages")
    await delivery.done()


# -- P0-011: STOP and KILL ---------------------------------------------------------------------


@routed("P0-011/client-stop", checks=["stop", "end"])
async def stop(ctx: RouterContext) -> None:
    """STOP goes out on the connection of the stream, which then ends as the worker says."""
    _link, delivery, call = await ctx.carried()
    ctx.driver.op("stop", ref=call.ref, reason=9)
    frame = await delivery.expect(wire.STOP, check="stop")
    if int.from_bytes(frame.payload, "big") != 9:
        _link.fail("stop", "STOP with the reason 9", frame.payload.hex(), frame, field="reason")
    delivery.answer(b"early")
    await call.succeeds([b"early"], check="end")
    await delivery.done()


@routed("P0-011/client-early-stop", checks=["behind-accept"])
async def early_stop(ctx: RouterContext) -> None:
    """STOP before the ACCEPT is held back and sent right behind it."""
    call, post = await ctx.posted()
    ctx.driver.op("stop", ref=call.ref)
    await ctx.sync()
    link = await ctx.line()
    delivery = link.hello(post)
    accept = await delivery.accepted()
    frame = await delivery.expect(wire.STOP, check="behind-accept")
    between = [one for one in link.frames[accept.index : frame.index] if one.name != "PING"]
    held = [one.index for one in between] == [accept.index]
    ctx.check("behind-accept", held, expected="STOP right behind ACCEPT", actual=between)
    delivery.answer()
    await call.succeeds([])


@routed("P0-011/client-kill", checks=["kill", "class", "done", "reused"])
async def kill(ctx: RouterContext) -> None:
    """KILL goes out on the connection, and the terminal completes the request as FAILED."""
    link, delivery, call = await ctx.carried()
    delivery.send(b"one")
    await ctx.driver_until(lambda: call.messages == [b"one"])
    ctx.driver.op("kill", ref=call.ref)
    await delivery.expect(wire.KILL, check="kill")
    delivery.fail("CANCELLED")
    await call.fails("FAILED", "CANCELLED", messages=1, check="class")
    await delivery.done(check="done")
    await served(ctx, link, check="reused")


@routed("P0-011/client-kill-is-no-success", checks=["class"], requirements=["P0-011", "STM-002"])
async def kill_is_no_success(ctx: RouterContext) -> None:
    """A success terminal behind a KILL is no success, and messages behind it are dropped."""
    _link, delivery, call = await ctx.carried()
    ctx.driver.op("kill", ref=call.ref)
    await delivery.expect(wire.KILL)
    delivery.answer(b"late")
    await call.fails("FAILED", "CANCELLED", messages=0, check="class")
    await delivery.done()


@routed("P0-011/client-killed-once", checks=["one-kill"])
async def killed_once(ctx: RouterContext) -> None:
    """STOP and KILL behind a KILL are not sent."""
    link, delivery, call = await ctx.carried()
    for name in ("kill", "kill", "stop"):
        ctx.driver.op(name, ref=call.ref)
    await ctx.sync()
    await delivery.expect(wire.KILL)
    await link.fence()
    controls = [one.name for one in delivery.frames if one.subtype in (wire.STOP, wire.KILL)]
    ctx.check("one-kill", controls == ["KILL"], expected="one KILL", actual=controls)
    delivery.fail("CANCELLED")
    await call.finished()
