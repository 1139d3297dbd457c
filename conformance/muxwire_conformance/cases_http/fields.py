"""The fields of a response, and when they come (P1-002, P1-003, P1-023, P1-024)."""

from __future__ import annotations

from muxwire_conformance.cases_http._steps import (
    FORMAT_TYPES,
    H1,
    SSE_TYPE,
    in_each_format,
    over,
    over_both,
)
from muxwire_conformance.http.connection import HttpConnection
from muxwire_conformance.http.context import HttpContext

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STATE = "vendor=1,other=2"


@over_both("P1-002/fields", checks=["type", "fields"])
async def fields(ctx: HttpContext, version: str) -> None:
    """A response has its type, no-store, no proxy buffer, vary, and neither coding nor length."""
    conn = await ctx.http(version)
    for type_ in FORMAT_TYPES:
        zipped = [("accept-encoding", "gzip, br, deflate")]
        answer = conn.post("conformance.echo", b"x" * 2_000, accept=type_, fields=zipped)
        head = await answer.headed(check="fields")  # the fields of every 200 are looked at
        said = (head.get("content-type") or "").lower().replace(" ", "")
        allowed = [type_, f"{type_};charset=utf-8"] if type_ == SSE_TYPE else [type_]
        ctx.check("type", said in allowed, expected=type_, actual=said)
        await answer.served()


@over_both("P1-003/head-before-items", checks=["head", "nothing-else"])
async def head_before_items(ctx: HttpContext, version: str) -> None:
    """Status and fields of an admitted request come within 1 s, before there is an item."""

    async def step(conn: HttpConnection, type_: str) -> None:
        answer = conn.post("conformance.sleep", {"ms": 60_000}, accept=type_)
        await answer.headed(check="head", within=1.0)
        early = answer.items or answer.end
        ctx.check("nothing-else", not early, expected="no item", actual=answer.describe())
        conn.cancel(answer)

    await in_each_format(ctx, version, step)


@over_both("P1-023/trace-headers", checks=["unchanged", "served"])
async def trace_headers(ctx: HttpContext, version: str) -> None:
    """Traceparent and tracestate reach the handler unchanged; an invalid one fails nothing."""
    conn = await ctx.http(version)
    own = [("traceparent", TRACE), ("x-first", "1"), ("tracestate", STATE), ("x-second", "2")]
    answer = await conn.post("conformance.headers", {}, fields=own).json()
    seen = [tuple(pair) for pair in answer["headers"] if tuple(pair) in own]
    ctx.check("unchanged", seen == own, expected=str(own), actual=answer["headers"])
    zeros = f"00-{'0' * 32}-{'0' * 16}-01"
    for bad in ("", "x", zeros, TRACE.upper(), f"ff{TRACE[2:]}"):
        answered = conn.post("conformance.echo", b"x", fields=[("traceparent", bad)])
        await answered.served(check="served")


@over((H1,), "P1-024/used-again", checks=["again"])
async def used_again(ctx: HttpContext, version: str) -> None:
    """A connection serves another request behind a response that ended normally."""
    conn = await ctx.http(version)
    for type_ in FORMAT_TYPES:
        answer = conn.post("conformance.generate", {"count": 3}, accept=type_)
        await answer.served(check=None if type_ == SSE_TYPE else "again")
    await conn.post("conformance.fail", {"after": 1}).fails("APPLICATION_ERROR", check="again")
    await conn.post("conformance.echo", b"x").served(check="again")
