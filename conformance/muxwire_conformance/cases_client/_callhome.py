"""Steps that the cases for a router share (chapter 21). No case lives here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from muxwire_spec.callhome import CONSTANTS

from muxwire_conformance.case import CaseFunction, case
from muxwire_conformance.cases_client._steps import declare
from muxwire_conformance.client_mode.context import Call
from muxwire_conformance.client_mode.home import Delivery, HomeLink
from muxwire_conformance.client_mode.router import FEATURE, RouterContext

_MS = {one.name: one.value for one in CONSTANTS}
TOKEN_LIFE = _MS["WCH_TOKEN_LIFETIME_MS"] / 1_000
"""Seconds from the 202 in which a HELLO is accepted (P0-018)."""

LONG = 2 * TOKEN_LIFE + 30.0
"""Limit of a case that waits for the end of a token's life."""

SOON = 1.0
"""Seconds in which the caller learns of what has happened (REC-001)."""


def routed(
    id: str, *, checks: Sequence[str], features: Sequence[str] = (), **declaration: Any
) -> Callable[[CaseFunction], CaseFunction]:
    """Register a case for a router: the driver has to have the transport."""
    wanted = [FEATURE, *features]
    return case(id, role="client", checks=checks, features=wanted, **declaration)


def declare_routed(
    id: str,
    title: str,
    function: CaseFunction,
    *,
    features: Sequence[str] = (),
    **declaration: Any,
) -> None:
    """Register one case of a family; ``title`` is its sentence."""
    declare(id, title, function, features=[FEATURE, *features], **declaration)


async def served(
    ctx: RouterContext, link: HomeLink | None = None, *, check: str | None = None
) -> HomeLink:
    """Make one request and answer it, on a connection if one is given: the router still works."""
    call, post = await ctx.posted(b"works?")
    link = link or await ctx.line()
    delivery = link.hello(post)
    await delivery.accepted(check=check)
    delivery.answer(b"works")
    await call.succeeds([b"works"], check=check)
    await delivery.done()
    return link


async def redelivered(ctx: RouterContext, delivery: Delivery, call: Call, check: str) -> None:
    """Judge that a stream without a RESPONSE is carried to its end by another connection."""
    link = await ctx.line()
    post = next(one for one in ctx.posts if one.stream == delivery.id)
    again = link.hello(post)
    await again.accepted(check=check)
    again.answer(b"again")
    await call.succeeds([b"again"], check=check)
    await again.done()
