"""The choice of a format (P1-001)."""

from __future__ import annotations

from muxwire_spec.vectors.http_accept import ACCEPT

from muxwire_conformance.cases_http._steps import FORMAT_TYPES, SAME, over_both
from muxwire_conformance.http.answer import Answer
from muxwire_conformance.http.context import HttpContext
from muxwire_conformance.http.events import TYPES


def _type(answer: Answer) -> str:
    said = (answer.head.get("content-type") if answer.head is not None else None) or ""
    return said.partition(";")[0].strip().lower()


@over_both("P1-001/choices", checks=["type"])
async def choices(ctx: HttpContext, version: str) -> None:
    """Weights, specificity, aliases and unreadable members of Accept lead to the type they say."""
    conn = await ctx.http(version)
    answer = conn.post("conformance.echo", b"x", accept=None)
    await answer.served()
    default = TYPES.get(_type(answer), "")
    for accept, known_default, type_ in ACCEPT:
        if known_default != default or type_ is None:
            continue
        answer = conn.post("conformance.echo", b"x", accept=accept and accept.strip())
        await answer.headed(check="type")
        said = _type(answer)
        ctx.check("type", said == type_, expected=f"{type_} for {accept!r}", actual=said)
        await answer.whole()


@over_both("P1-001/nothing-acceptable", checks=["refused"], twin=SAME)
async def nothing_acceptable(ctx: HttpContext, version: str) -> None:
    """Where no type of the table is acceptable the answer is 406, and it lists the three types."""
    conn = await ctx.http(version)
    for accept in sorted({one for one, _default, type_ in ACCEPT if type_ is None and one}):
        good = f"{FORMAT_TYPES[1]};q=0.5"
        answer = conn.post("conformance.echo", b"x", accept=ctx.pick(accept, good))
        if ctx.twin_run:
            await answer.served()
            continue
        error = await answer.refused(406, "INVALID_ARGUMENT")
        missing = [type_ for type_ in FORMAT_TYPES if type_ not in error["message"]]
        ctx.check(
            "refused", not missing, expected=f"{missing} in the message", actual=error["message"]
        )
