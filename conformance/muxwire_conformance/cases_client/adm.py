"""Admission, as a client shows it."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases_client._steps import refused_answer
from muxwire_conformance.client_mode.context import ClientContext

MOST = 100


@case("ADM-001/client-limit", role="client", checks=["limit", "order", "killed"])
async def limit(ctx: ClientContext) -> None:
    """Requests beyond MAX_CONCURRENT_REQUESTS wait in order; killed ones count."""
    link = await ctx.ready({"MAX_CONCURRENT_REQUESTS": MOST})
    calls = [ctx.request(str(number).encode()) for number in range(MOST + 4)]
    taken = [await link.take(within=5.0) for _ in range(MOST)]
    first = [one.messages for one in taken]
    expected = [[str(number).encode()] for number in range(MOST)]
    ctx.check("order", first == expected, expected="the order of the calls", actual=first[:5])
    await ctx.sync()
    await link.fence()
    ctx.check("limit", len(link.exchanges) == MOST, expected=str(MOST), actual=len(link.exchanges))
    ctx.driver.op("kill", ref=calls[0].ref)
    await taken[0].killed()
    await link.fence()
    ctx.check(
        "killed",
        len(link.exchanges) == MOST,
        expected="no OPEN in place of a killed one",
        actual=len(link.exchanges),
    )
    taken[0].fail("CANCELLED")
    order = []
    for one in taken[1:4]:
        order.append((await link.take()).messages)
        one.answer()
    order.append((await link.take()).messages)
    expected = [[str(number).encode()] for number in range(MOST, MOST + 4)]
    ctx.check("order", order == expected, expected=str(expected), actual=order)
    for one in link.exchanges.values():
        if not one.answered:
            one.answer()
    for call in calls[1:]:
        await call.succeeds([])


refused_answer(
    "ADM-003/client-not-processed-late",
    "NOT_PROCESSED on a RESPONSE that is not the first of its id is a connection error.",
    "PROTOCOL_ERROR",
    lambda _ctx, _link, one: one.build(b"x") + one.refusal("OVERLOADED", flags=wire.NOT_PROCESSED),
    lambda _ctx, _link, one: one.build(b"x") + one.refusal("OVERLOADED"),
)
