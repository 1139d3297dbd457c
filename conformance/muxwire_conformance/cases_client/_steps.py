"""Steps that several areas of the client cases share. No case lives here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, CaseFunction, case
from muxwire_conformance.client_mode.context import Call, ClientContext
from muxwire_conformance.client_mode.exchange import Exchange
from muxwire_conformance.client_mode.link import Link

REFUSED = ("goaway", "end")
"""The checks of a case that ends in ``expect_connection_error``."""

UNCHARGED = 12_000
"""So many glitches at once end a connection (DOS-001): what is not charged may come as often."""

Octets = Callable[[ClientContext, Link, Exchange], bytes]
Raw = Callable[[ClientContext, Link], bytes]


def declare(id: str, title: str, function: CaseFunction, **declaration: Any) -> None:
    """Register one case of a family; ``title`` is its sentence."""

    async def run(ctx: ClientContext) -> None:
        await function(ctx)

    run.__doc__ = title
    run.__dict__["__wrapped__"] = getattr(function, "func", function)
    case(id, role="client", **declaration)(run)


def refused(id: str, title: str, error: str, bad: Raw, good: Raw, **declaration: Any) -> None:
    """Declare a case: on a connection that is set up, these octets are a connection error."""

    async def run(ctx: ClientContext) -> None:
        link = await ctx.ready()
        link.violate(bad(ctx, link), instead_of=good(ctx, link))
        await link.expect_connection_error(error)

    declaration.setdefault("twin", SAME)
    declare(id, title, run, checks=REFUSED, served=True, **declaration)


def refused_answer(
    id: str, title: str, error: str, bad: Octets, good: Octets, **declaration: Any
) -> None:
    """Declare a case: as an answer to an open request, these octets are a connection error."""

    async def run(ctx: ClientContext) -> None:
        link, exchange, _call = await ctx.asked()
        octets = ctx.pick(bad, good)(ctx, link, exchange)
        link.violate(octets, instead_of=octets)
        await link.expect_connection_error(error)

    declare(id, title, run, checks=REFUSED, twin=SAME, served=True, **declaration)


async def answered(ctx: ClientContext, link: Link, *, check: str | None = None) -> Call:
    """Make one request and answer it: the client still works."""
    call = ctx.request(b"works?")
    (await link.take()).answer(b"works")
    await call.succeeds([b"works"], check=check)
    return call


async def pong(ctx: ClientContext, link: Link, *, check: str) -> None:
    """Send a PING and judge that its PONG comes; a fence would only prepare."""
    opaque = ctx.nonce()
    link.send(wire.ping(opaque))

    def answered() -> bool:
        return any(frame.name == "PONG" and frame.payload == opaque for frame in link.frames)

    await link.wait_for(answered)
    ctx.check(check, answered(), expected="PONG", actual=link.situation())
