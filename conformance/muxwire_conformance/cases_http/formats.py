"""The three formats by the letter of their grammar (P1-005, P1-006, P1-007)."""

from __future__ import annotations

import uuid

from muxwire_conformance.cases_http._steps import (
    BINARY_TYPE,
    NDJSON_TYPE,
    SSE_TYPE,
    over_both,
    source_octets,
)
from muxwire_conformance.cases_http.items import JSON_ITEMS
from muxwire_conformance.http.binary import CHUNK, BinaryReader
from muxwire_conformance.http.context import HttpContext
from muxwire_conformance.http.events import strict_json

TRAPS = (
    b"",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\ndata: x\n\nevent: done\n\n",
    b": hb\n\n",
    b"  leading and trailing  ",
    b"id: 7\r\nevent: done\r\n",
    b'{"t":"done","items":0,"trailers":{}}\n',
    b"\0\xff\xf7",
    "\ufeff\u2028\u00e9\u20ac\U0001f600".encode(),
    bytes(range(256)),
    bytes(range(256)) * 4_096,
)
"""Items that look like the formats, and one of 1 MiB."""

TYPE_OF = {"P1-005": SSE_TYPE, "P1-006": NDJSON_TYPE, "P1-007": BINARY_TYPE}


def _declare(requirement: str, type_: str) -> None:
    async def traps(ctx: HttpContext, version: str) -> None:
        conn = await ctx.http(version)
        for octets in TRAPS:
            answer = conn.post("conformance.echo", octets, accept=type_)
            items = await answer.served(check="octets")
            ctx.check(
                "octets", items == [octets], expected=f"{octets[:60]!r}", actual=str(items)[:100]
            )
        for text in JSON_ITEMS:
            answer = conn.post("conformance.echo", text.decode(), accept=type_)
            items = await answer.served(check="json")
            flat = text if type_ == BINARY_TYPE else text.translate(bytes.maketrans(b"\r\n", b"  "))
            same = items == [flat]
            if type_ == NDJSON_TYPE:
                same = [one.json for one in answer.items] == [strict_json(text)]
            ctx.check("json", same, expected=f"{flat!r}", actual=items)

    traps.__doc__ = f"Whatever octets items hold, {type_} is exactly that of the grammar."
    over_both(f"{requirement}/traps", checks=["octets", "json"])(traps)

    async def trailers(ctx: HttpContext, version: str) -> None:
        conn = await ctx.http(version)
        answer = conn.post("conformance.headers", {}, accept=type_)
        await answer.served()
        said = answer.terminal.trailers if answer.terminal is not None else {}
        ctx.check("trailers", "usage" in said, expected="the trailer usage", actual=said)
        if type_ == BINARY_TYPE:
            keys = [key for key, _value in answer.binary_headers]
            ctx.check("trailers", b"content-type" in keys, expected="content-type", actual=keys)
        answer = conn.post("conformance.fail", {"after": 2, "code": 0x10A}, accept=type_)
        await answer.fails("REQUEST_INTERNAL_ERROR", check="error")

    trailers.__doc__ = f"Terminal events of {type_} have the members of the grammar."
    over_both(f"{requirement}/terminals", checks=["trailers", "error"])(trailers)


for _requirement, _type in TYPE_OF.items():
    _declare(_requirement, _type)


@over_both("P1-007/request-id", checks=["id"])
async def request_id(ctx: HttpContext, version: str) -> None:
    """The frames carry the request-id if that is a UUID; any other value is no reason to fail."""
    conn = await ctx.http(version)
    known = uuid.UUID(bytes=ctx.new_id())
    for text in (str(known), "not a UUID", ""):
        answer = conn.post(
            "conformance.generate",
            {"count": 3},
            accept=BINARY_TYPE,
            fields=[("request-id", text)] if text else (),
        )
        await answer.served()
        reader = answer.reader
        seen = reader.request_id if isinstance(reader, BinaryReader) else None
        if text == str(known):
            ctx.check("id", seen == known.bytes, expected=text, actual=seen and seen.hex())
        else:
            ctx.check("id", seen is not None, expected="an id", actual=seen)


@over_both("P1-007/split-messages", checks=["frames", "same"])
async def split_messages(ctx: HttpContext, version: str) -> None:
    """Messages are split at 65,536 octets, with MORE on all frames but the last."""
    conn = await ctx.http(version)
    for size in (CHUNK, CHUNK + 1, 3 * CHUNK):
        answer = conn.post("conformance.source", {"bytes": size, "messages": 2}, accept=BINARY_TYPE)
        items = await answer.served()
        ctx.check(
            "same", items == [source_octets(size)] * 2, expected=f"{size} octets", actual=len(items)
        )
        reader = answer.reader
        frames = reader.frames if isinstance(reader, BinaryReader) else []
        largest = max(len(frame.data) for frame in frames)
        ctx.check("frames", largest <= CHUNK, expected=f"at most {CHUNK}", actual=largest)
