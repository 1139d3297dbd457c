"""The end of a response (P1-010, P1-011, P1-012, P1-016)."""

from __future__ import annotations

import time

from muxwire_conformance.cases_http._steps import (
    FORMAT_TYPES,
    H1,
    H2,
    TEXT_TYPES,
    in_each_format,
    over,
    over_both,
)
from muxwire_conformance.http.answer import CLEAN
from muxwire_conformance.http.connection import HttpConnection
from muxwire_conformance.http.context import HttpContext, ask_stats
from muxwire_conformance.http.events import TERMINALS

LARGEST_MS = 2**32 - 1


@over_both("P1-010/one-end", checks=["one", "end"])
async def one_end(ctx: HttpContext, version: str) -> None:
    """There is one terminal event, and behind it the body ends normally and at once."""

    async def step(conn: HttpConnection, type_: str) -> None:
        for subject, body, timeout_ms in (
            ("conformance.generate", {"count": 3}, None),
            ("conformance.fail", {"after": 1}, None),
            ("conformance.fail", {"panic": True}, None),
            ("conformance.sleep", {"ms": 60_000}, 100),
        ):
            answer = conn.post(subject, body, accept=type_, timeout_ms=timeout_ms)
            await answer.until(lambda one: one.terminal is not None, "a terminal event")
            await answer.until(lambda one: one.end == CLEAN, "the end of the body", check="end")
            terminals = [event for event in answer.events if event.kind in TERMINALS]
            ctx.check(
                "one",
                len(terminals) == 1 and answer.events[-1] is terminals[0],
                expected="one terminal event, the last one",
                actual=answer.describe(),
            )

    await in_each_format(ctx, version, step)


@over((H1,), "P1-010/whole-before-drain", checks=["whole", "over"])
async def whole_before_drain(ctx: HttpContext, version: str) -> None:
    """The response of conformance.drain ends normally, and then its connection ends."""
    conn = await ctx.http(version)
    answer = conn.post("conformance.drain", {"grace_ms": 1_000})
    items = await answer.served(check="whole")
    ctx.check("whole", items == [b"ok"], expected="ok", actual=items)
    await conn.ends(check="over")


@over_both("P1-011/behind-items", checks=["error", "items"])
async def behind_items(ctx: HttpContext, version: str) -> None:
    """A failure behind the 200 is an error event that gives the number of items before it."""
    conn = await ctx.http(version)
    for type_ in FORMAT_TYPES:
        for after, code in ((0, "APPLICATION_ERROR"), (7, "UNIMPLEMENTED"), (1, "OVERLOADED")):
            number = {"APPLICATION_ERROR": 0x107, "UNIMPLEMENTED": 0x10B, "OVERLOADED": 0x104}[code]
            body = {"after": after, "code": number, "message": "on purpose"}
            answer = conn.post("conformance.fail", body, accept=type_)
            event = await answer.fails(code, check="error")
            items = [int.from_bytes(item.data, "big") for item in answer.items]
            ctx.check("items", items == list(range(after)), expected=f"{after} items", actual=items)
            if type_ in TEXT_TYPES:
                ctx.check("items", event.count == after, expected=f"{after}", actual=event.count)
            said = event.error.get("message")
            ctx.check("error", said == "on purpose", expected="the message", actual=said)


@over_both("P1-011/panic", checks=["error", "discreet"])
async def panic(ctx: HttpContext, version: str) -> None:
    """A handler that panics ends in an error event too, which reveals nothing of the inside."""
    conn = await ctx.http(version)
    for type_ in FORMAT_TYPES:
        answer = conn.post("conformance.fail", {"after": 2, "panic": True}, accept=type_)
        event = await answer.fails("APPLICATION_ERROR", check="error")
        said = str(event.error.get("message"))
        loose = [word for word in ("Traceback", "Error(", "Exception") if word in said]
        ctx.check("discreet", not loose, expected="nothing of the inside", actual=said)


@over((H1,), "P1-012/end-is-seen", checks=["chunks"])
async def end_is_seen(ctx: HttpContext, version: str) -> None:
    """A body has a last chunk to miss, so that a worker which dies leaves no clean end."""
    for fields in ([], [("connection", "close")]):
        conn = await ctx.http(version)
        answer = conn.post("conformance.generate", {"count": 2}, fields=fields)
        head = await answer.headed()
        said = head.tokens("transfer-encoding")
        ctx.check("chunks", said == ["chunked"], expected="chunked", actual=said)
        await answer.served()


@over((H2,), "P1-012/reset-is-alone", checks=["others"])
async def reset_is_alone(ctx: HttpContext, version: str) -> None:
    """The end of one stream is not that of the others: they end with their own terminal."""
    conn = await ctx.http(version)
    other = conn.post("conformance.generate", {"count": 5, "interval_ms": 20})
    first = conn.post("conformance.sleep", {"ms": 60_000})
    await first.headed()
    conn.cancel(first)
    items = await other.served(check="others")
    ctx.check("others", len(items) == 5, expected="5 items", actual=len(items))


@over_both("P1-016/deadline", checks=["error", "not-early"])
async def deadline(ctx: HttpContext, version: str) -> None:
    """When wmx-timeout-ms has passed the response ends with DEADLINE_EXCEEDED."""

    async def step(conn: HttpConnection, type_: str) -> None:
        for subject, body in (
            ("conformance.sleep", {"ms": 60_000}),
            ("conformance.generate", {"count": 10_000, "interval_ms": 20}),
        ):
            began = time.monotonic()
            answer = conn.post(subject, body, accept=type_, timeout_ms=250)
            event = await answer.fails("DEADLINE_EXCEEDED", check="error")
            took = event.at - began
            ctx.check("not-early", took >= 0.245, expected="250 ms", actual=f"{took:.3f} s")

    await in_each_format(ctx, version, step)


@over_both("P1-016/no-deadline", checks=["served"])
async def no_deadline(ctx: HttpContext, version: str) -> None:
    """Without a deadline, with 0, and with a distant one a request takes the time it needs."""
    conn = await ctx.http(version)
    for timeout_ms in (None, 0, LARGEST_MS):
        answer = conn.post("conformance.sleep", {"ms": 60}, timeout_ms=timeout_ms)
        items = await answer.served(check="served")
        ctx.check("served", items == [b"ok"], expected="ok", actual=items)


@over_both("P1-016/handler-ends", checks=["ended"], exclusive=True)
async def handler_ends(ctx: HttpContext, version: str) -> None:
    """At the deadline the handler is cancelled."""
    watch = await ctx.http()
    before = await ask_stats(watch)
    conn = await ctx.http(version)
    answer = conn.post("conformance.sleep", {"ms": 60_000}, timeout_ms=100)
    await answer.fails("DEADLINE_EXCEEDED")
    await ctx.wait_for_stats(
        watch,
        lambda stats: (
            stats["active"] <= before["active"] and stats["cancelled"] > before["cancelled"]
        ),
        what="the handler to be cancelled within 1 s",
        check="ended",
        within=1.0,
    )
