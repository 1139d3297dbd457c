"""Budgets against abuse, as a client shows it: those for PINGs and for glitches bind it."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases_client._steps import REFUSED, answered
from muxwire_conformance.client_mode.context import ClientContext

TOLERATED = {"ping": 50, "glitch": 100}
TOO_MANY = {"ping": 1_200, "glitch": 12_000}


def _build(kind: str) -> bytes:
    return wire.ping(b"12345678") if kind == "ping" else wire.grease()


for _kind in TOLERATED:

    def _declare(kind: str) -> None:
        async def flood(ctx: ClientContext) -> None:
            link = await ctx.ready()
            few, many = TOLERATED[kind] - 5, TOO_MANY[kind]
            link.violate(_build(kind) * many, instead_of=_build(kind) * few)
            await link.expect_connection_error(
                "ENHANCE_YOUR_CALM", within=None if ctx.twin_run else 4.0
            )

        flood.__doc__ = f"{TOO_MANY[kind]} frames of the kind {kind} at once end the connection."
        case(f"DOS-001/client-{kind}-flood", role="client", checks=REFUSED, twin=SAME)(flood)

        async def tolerated(ctx: ClientContext) -> None:
            link = await ctx.ready()
            call = ctx.request(b"x")
            one = await link.take()
            link.send(_build(kind) * (TOLERATED[kind] - 2))
            await link.fence(check="alive")
            one.answer()
            await call.succeeds([])
            await answered(ctx, link)

        tolerated.__doc__ = f"{TOLERATED[kind]} frames of the kind {kind} at once are tolerated."
        case(f"DOS-001/client-{kind}-tolerated", role="client", checks=["alive"])(tolerated)

    _declare(_kind)
