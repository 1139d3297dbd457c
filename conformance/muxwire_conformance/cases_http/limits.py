"""Limits of a request: body, fields, and the time for the fields (P1-018)."""

from __future__ import annotations

import time

from muxwire_conformance.cases_http._steps import H1, H2, SAME, over, over_both
from muxwire_conformance.http import h2
from muxwire_conformance.http.connection import OCTETS_TYPE, ROOT, SSE_TYPE
from muxwire_conformance.http.context import HttpContext
from muxwire_conformance.http.h2_connection import H2Connection

ECHO = f"{ROOT}/conformance.echo"
OWN = [("content-type", OCTETS_TYPE), ("accept", SSE_TYPE)]
PIECE = 262_144
FIELD_TIME = 5.0
LEAST_TIME = 4.5
DROP = 0.4


@over_both("P1-018/length-too-large", checks=["refused"], twin=SAME)
async def length_too_large(ctx: HttpContext, version: str) -> None:
    """A body that is declared above MAX_MESSAGE_SIZE is answered 413 before it has come."""
    most = await ctx.announced("MAX_MESSAGE_SIZE")
    conn = await ctx.http(version)
    length = ctx.pick(most + 1, 10)
    body = b"0123456789"
    fields = [*OWN, ("content-length", str(length))]
    answer = conn.ask("POST", ECHO, fields, body, whole=length == len(body))
    await ctx.refusal(answer, 413, "MESSAGE_TOO_LARGE")


@over((H1,), "P1-018/chunks-too-large", checks=["refused"], exclusive=True, twin=SAME)
async def chunks_too_large(ctx: HttpContext, version: str) -> None:
    """A body without a length is answered 413 once it is above MAX_MESSAGE_SIZE."""
    most = await ctx.announced("MAX_MESSAGE_SIZE")
    conn = await ctx.http(version)
    answer = conn.ask("POST", ECHO, OWN, whole=False)
    total = ctx.pick(most + PIECE, PIECE)
    piece = bytes(PIECE)
    for _ in range(total // PIECE):
        conn.more(answer, piece)
        await conn.transport.flushed(ctx.patience.seconds)
        if answer.head is not None or conn.transport.end is not None:
            break
    if ctx.twin_run:
        conn.more(answer, b"", end=True)
    await ctx.refusal(answer, 413, "MESSAGE_TOO_LARGE")


@over_both("P1-018/fields-too-large", checks=["refused"], twin=SAME)
async def fields_too_large(ctx: HttpContext, version: str) -> None:
    """Fields above 16 KiB in all are answered 431."""
    conn = await ctx.http(version)
    size = ctx.pick(5_800, 4_000)
    fields = [(f"x-{number}", "v" * size) for number in range(3)]
    answer = conn.post("conformance.echo", b"x", fields=fields)
    if ctx.twin_run:
        await answer.served()
    else:
        await answer.refused(431, "INVALID_ARGUMENT", bare=True)


async def _slowly(ctx: HttpContext, version: str) -> None:
    """Send the fields in pieces, in time: the request is served."""
    conn = await ctx.http(version)
    if isinstance(conn, H2Connection):
        await conn.wait_for(lambda: _settled(conn))
        _begin_fields(conn)
        await conn.pause(DROP)
        conn.transport.write(h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1))
        await conn.post("conformance.echo", b"x").served()
        return
    answer = conn.ask("POST", ECHO, [*OWN, ("x-empty", "")], b"x")
    await answer.served()
    conn.transport.write(_FIRST)
    await conn.pause(DROP)
    conn.transport.write(b"a: b\r\n\r\n")
    await conn.wait_for(lambda: conn.transport.received > 400)


_FIRST = f"POST {ECHO} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n".encode()


def _begin_fields(conn: H2Connection) -> None:
    """Send the beginning of a block of fields on stream 1."""
    names = {":method": "POST", ":scheme": "http", ":authority": "x", ":path": ECHO}
    block = conn.peer.encode([*names.items(), *OWN])
    conn.transport.write(h2.frame(h2.HEADERS, h2.END_STREAM, 1, block))
    conn.peer.skip_stream()


def _settled(conn: H2Connection) -> bool:
    return conn.peer.settled


@over((H1, H2), "P1-018/dribbled-fields", checks=["closed", "not-early"], timed=True, twin=_slowly)
async def dribbled_fields(ctx: HttpContext, version: str) -> None:
    """A connection whose fields are not complete 5 s after their first octet is closed."""
    conn = await ctx.http(version)
    if isinstance(conn, H2Connection):
        await conn.wait_for(lambda: _settled(conn))
        _begin_fields(conn)
        conn.transport.write(h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1, bytes(200))[:9])
        drop = b"\0"
    else:
        conn.transport.write(_FIRST)
        drop = b"x-drop: 1\r\n"
    began = time.monotonic()
    limit = ctx.patience.bound(FIELD_TIME + 1.0)
    while conn.transport.end is None and (limit is None or time.monotonic() - began < limit):
        await conn.pause(DROP)
        conn.transport.write(drop)
    end = conn.transport.end
    ctx.check("closed", end is not None, expected="the end of the connection", actual="it is open")
    took = end.at - began if end is not None else 0.0
    ctx.check("not-early", took > LEAST_TIME, expected="5 s", actual=f"{took:.1f} s")
