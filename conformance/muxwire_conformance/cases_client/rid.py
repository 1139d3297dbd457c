"""Request ids, as a client shows it."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases_client._steps import UNCHARGED, answered, refused_answer
from muxwire_conformance.client_mode.context import ClientContext


@case("RID-001/client-fresh-ids", role="client", checks=["fresh"], features=["retry"])
async def fresh_ids(ctx: ClientContext) -> None:
    """Every attempt has a new random id, on one connection and on the next."""
    link = await ctx.ready()
    seen: list[bytes] = []
    for _ in range(20):
        await answered(ctx, link)
    call = ctx.request(b"again", idempotent=True)
    await link.take()
    await link.cut()
    second = await ctx.next_link()
    one = await second.take()
    seen += [*link.exchanges, *second.exchanges]
    ctx.check("fresh", len(set(seen)) == 22, expected="22 different ids", actual=len(set(seen)))
    one.answer(b"y")
    await call.succeeds([b"y"])


refused_answer(
    "RID-004/client-unknown-id",
    "A RESPONSE whose id the client does not know is a connection error.",
    "PROTOCOL_ERROR",
    lambda ctx, _link, _one: wire.response(ctx.new_id(), 0, b"x"),
    lambda _ctx, _link, one: one.build(b"x"),
)
refused_answer(
    "RID-004/client-behind-the-terminal",
    "A RESPONSE behind the terminal of its request is a connection error.",
    "PROTOCOL_ERROR",
    lambda _ctx, _link, one: one.build(b"x", end=True) + one.build(b"y"),
    lambda _ctx, _link, one: one.build(b"x") + one.build(b"y", end=True),
)
refused_answer(
    "RID-004/client-second-terminal",
    "A second terminal is a connection error.",
    "PROTOCOL_ERROR",
    lambda _ctx, _link, one: one.build(end=True) + one.build(end=True),
    lambda _ctx, _link, one: one.build(end=True),
)


@case(
    "RID-004/client-credit-for-unknown-id",
    role="client",
    checks=["pong", "works"],
    requirements=["RID-004", "FLW-003"],
)
async def credit_for_unknown(ctx: ClientContext) -> None:
    """A WINDOW_UPDATE for an id that the client does not know is ignored, and not charged."""
    link = await ctx.ready()
    link.send(*(wire.window_update(1, request_id=ctx.new_id()) for _ in range(UNCHARGED)))
    await link.fence(check="pong")
    await answered(ctx, link, check="works")


@case(
    "RID-004/client-one-draining",
    role="client",
    checks=["class", "pong"],
    requirements=["RID-004", "STM-002"],
    features=["retry"],
)
async def one_draining(ctx: ClientContext) -> None:
    """One DRAINING terminal for a request that a GOAWAY did not cover is ignored."""
    link, one, call = await ctx.asked()
    first = one
    other = ctx.request(b"second")
    second = await link.take()
    link.send(wire.goaway(last_ordinal=1, grace_ms=30_000))
    second.fail("DRAINING", not_processed=True)
    await link.fence(check="pong")
    first.answer(b"y")
    await call.succeeds([b"y"])
    elsewhere = await ctx.next_link()
    (await elsewhere.take()).answer(b"z")
    await other.succeeds([b"z"], check="class")


@case(
    "RID-004/client-two-draining",
    role="client",
    checks=["goaway", "end"],
    twin="RID-004/client-one-draining",
    features=["retry"],
)
async def two_draining(ctx: ClientContext) -> None:
    """A second DRAINING terminal for that request is a connection error."""
    link, _one, _call = await ctx.asked()
    ctx.request(b"second")
    second = await link.take()
    link.send(wire.goaway(last_ordinal=1, grace_ms=30_000))
    second.fail("DRAINING", not_processed=True)
    await link.fence()
    bad = second.refusal("DRAINING", flags=wire.NOT_PROCESSED)
    link.violate(bad)
    await link.expect_connection_error("PROTOCOL_ERROR")


@case(
    "RID-005/client-refused-ones-count",
    role="client",
    checks=["covered", "moved"],
    features=["retry"],
)
async def refused_ones_count(ctx: ClientContext) -> None:
    """Ordinals count every OPEN in order, refused ones included."""
    link = await ctx.ready()
    refused = ctx.request(b"1")
    (await link.take()).fail("UNIMPLEMENTED", not_processed=True)
    await refused.fails("NOT_PROCESSED")
    calls = [ctx.request(b"2"), ctx.request(b"3")]
    ones = [await link.take() for _ in calls]
    link.send(wire.goaway(last_ordinal=2, grace_ms=30_000))
    (await (await ctx.next_link()).take(check="moved")).answer(b"3")
    ones[0].answer(b"2")
    await calls[0].succeeds([b"2"], check="covered")
    await calls[1].succeeds([b"3"], check="moved")
