"""Items: one by one, as JSON or base64, numbered (P1-004, P1-008, P1-009)."""

from __future__ import annotations

import time
from itertools import pairwise

from muxwire_conformance.cases_http._steps import (
    FORMAT_TYPES,
    SSE_TYPE,
    TEXT_TYPES,
    in_each_format,
    over_both,
)
from muxwire_conformance.http.connection import HttpConnection
from muxwire_conformance.http.context import HttpContext
from muxwire_conformance.http.events import BIN, ITEM, strict_json

INTERVAL = 0.3
PROMPT = 0.02
TRIES = 20
LATE = 1.0

JSON_ITEMS = (
    b'{"a":[1,2.50,null],"b":{"c":true}}',
    b'{\n  "a" : [ 1,\r\n 2 ],\n\t"b": "x"\r}\n',
    b'"data: \\n\\u2028\\ud83d\\ude00"',
    b"123456789012345678901234567890",
    b"0.1e-7",
    b'{"one":1,"two":9007199254740993}',
    '"\u00e9\u20ac\U0001f600 event: done"'.encode(),
    b" [ ] ",
)


@over_both("P1-004/one-by-one", checks=["gaps"], timed=True, exclusive=True)
async def one_by_one(ctx: HttpContext, version: str) -> None:
    """Items that are made one after the other arrive one after the other."""

    async def step(conn: HttpConnection, type_: str) -> None:
        body = {"count": 3, "interval_ms": int(INTERVAL * 1_000)}
        answer = conn.post("conformance.generate", body, accept=type_)
        await answer.served()
        assert answer.head is not None
        times = [answer.head.at, *(item.at for item in answer.items)]
        gaps = [after - before for before, after in pairwise(times[1:])]
        held = len(gaps) == 2 and min(gaps) > INTERVAL / 2 and times[1] - times[0] < INTERVAL / 2
        if not held and ctx.patience.slack > INTERVAL:
            ctx.late(f"a slack of {ctx.patience.slack:.1f} s")
        shown = [f"{(at - times[0]) * 1_000:.0f} ms" for at in times]
        ctx.check("gaps", held, expected="items at 0, 300 and 600 ms", actual=shown)

    await in_each_format(ctx, version, step)


@over_both("P1-004/promptly", checks=["prompt"])
async def promptly(ctx: HttpContext, version: str) -> None:
    """An item is on its way as soon as it is made, also when the next one is far away."""
    quickest = {"item": 60.0, "refusal": 60.0}
    for _ in range(TRIES):
        conn = await ctx.http(version)
        began = time.monotonic()
        await conn.post("no.such.subject").whole()
        quickest["refusal"] = min(quickest["refusal"], time.monotonic() - began)
        began = time.monotonic()
        answer = conn.post("conformance.generate", {"count": 2, "interval_ms": 60_000})
        await answer.until(lambda one: bool(one.items), "an item")
        quickest["item"] = min(quickest["item"], answer.items[0].at - began)
        conn.cancel(answer)
        await conn.close()
        if quickest["item"] - quickest["refusal"] < PROMPT / 2:
            break
    took = quickest["item"] - quickest["refusal"]
    if took >= PROMPT and ctx.patience.slack > LATE:
        ctx.late(f"a slack of {ctx.patience.slack:.1f} s")
    ctx.check("prompt", took < PROMPT, expected="less than 20 ms", actual=f"{took * 1_000:.1f} ms")


@over_both("P1-008/json-items", checks=["json", "value"])
async def json_items(ctx: HttpContext, version: str) -> None:
    """An item of a handler that declared JSON is sent as JSON, with the same value."""
    conn = await ctx.http(version)
    for type_ in TEXT_TYPES:
        for text in JSON_ITEMS:
            body = text.decode()  # a text is declared as application/json
            answer = conn.post("conformance.echo", body, accept=type_)
            await answer.served()
            kinds = [one.kind for one in answer.items]
            ctx.check("json", kinds == [ITEM], expected=f"item for {body!r}", actual=kinds)
            value = answer.items[0].json
            ctx.check("value", value == strict_json(text), expected=body, actual=value)


@over_both("P1-008/other-items", checks=["base64", "same"])
async def other_items(ctx: HttpContext, version: str) -> None:
    """Items of any other handler are sent as base64, also those that happen to be JSON."""
    conn = await ctx.http(version)
    for type_ in TEXT_TYPES:
        for octets in (bytes(range(256)), b"", b'{"a":1}', b"\xfb\xff\xfe>>>???", b"1", b"null"):
            answer = conn.post("conformance.echo", octets, accept=type_)
            items = await answer.served()
            kinds = [one.kind for one in answer.items]
            ctx.check("base64", kinds == [BIN], expected=f"bin for {octets!r}", actual=kinds)
            ctx.check("same", items == [octets], expected=f"{octets!r}", actual=items)


@over_both("P1-009/numbers", checks=["count", "items"])
async def numbers(ctx: HttpContext, version: str) -> None:
    """Items are numbered from 0 without gaps, and done gives their number."""
    conn = await ctx.http(version)
    for type_ in FORMAT_TYPES:
        for count in (0, 1, 1_000 if type_ == SSE_TYPE else 100):
            answer = conn.post("conformance.generate", {"count": count}, accept=type_)
            items = await answer.served()
            ctx.check("items", len(items) == count, expected=f"{count}", actual=len(items))
            indexes = [int.from_bytes(item[:8], "big") for item in items]
            ctx.check(
                "items", indexes == list(range(count)), expected="all in order", actual=indexes
            )
            said = answer.terminal.count if answer.terminal is not None else None
            if type_ in TEXT_TYPES:
                ctx.check("count", said == count, expected=f"items {count}", actual=said)
