"""Cancellation by the end of the connection or of the stream (P1-013)."""

from __future__ import annotations

from collections.abc import Callable

from muxwire_conformance.cases_http._steps import H1, H2, over, over_both
from muxwire_conformance.http.answer import Answer
from muxwire_conformance.http.connection import HttpConnection
from muxwire_conformance.http.context import HttpContext, ask_stats

End = Callable[[HttpConnection, Answer], None]


def _close(conn: HttpConnection, _answer: Answer) -> None:
    conn.transport.close()


def _abort(conn: HttpConnection, _answer: Answer) -> None:
    conn.transport.abort()


def _cancel(conn: HttpConnection, answer: Answer) -> None:
    conn.cancel(answer)


async def _is_cancelled(
    ctx: HttpContext, version: str, end: End, subject: str, body: dict[str, object]
) -> HttpConnection:
    """Run a handler, end it, and see by the statistics that it has ended."""
    watch = await ctx.http()
    before = await ask_stats(watch)
    conn = await ctx.http(version)
    answer = conn.post(subject, body)
    await answer.headed()
    if subject == "conformance.generate":
        await answer.until(lambda one: len(one.items) >= 2, "two items")
    await ctx.wait_for_stats(
        watch, lambda stats: stats["active"] > before["active"], what="a handler that runs"
    )
    end(conn, answer)
    await ctx.wait_for_stats(
        watch,
        lambda stats: (
            stats["active"] <= before["active"] and stats["cancelled"] > before["cancelled"]
        ),
        what="the handler to be cancelled within 1 s",
        check="cancelled",
        within=1.0,
    )
    return conn


SILENT: tuple[str, dict[str, object]] = ("conformance.sleep", {"ms": 60_000})
BUSY: tuple[str, dict[str, object]] = (
    "conformance.generate",
    {"count": 1_000_000, "interval_ms": 5},
)


@over_both("P1-013/connection-closed", checks=["cancelled"], exclusive=True)
async def connection_closed(ctx: HttpContext, version: str) -> None:
    """A client that closes the connection cancels the handler, also while nothing is written."""
    await _is_cancelled(ctx, version, _close, *SILENT)


@over_both("P1-013/connection-reset", checks=["cancelled"], exclusive=True)
async def connection_reset(ctx: HttpContext, version: str) -> None:
    """A client that resets the connection cancels the handler, also while nothing is written."""
    await _is_cancelled(ctx, version, _abort, *SILENT)


@over_both("P1-013/while-writing", checks=["cancelled"], exclusive=True)
async def while_writing(ctx: HttpContext, version: str) -> None:
    """A client that closes the connection cancels a handler that writes."""
    await _is_cancelled(ctx, version, _close, *BUSY)


@over((H2,), "P1-013/stream-reset", checks=["cancelled", "goes-on"], exclusive=True)
async def stream_reset(ctx: HttpContext, version: str) -> None:
    """RST_STREAM cancels the handler of its stream, and the connection goes on."""
    for subject, body in (SILENT, BUSY):
        conn = await _is_cancelled(ctx, version, _cancel, subject, body)
        await conn.post("conformance.echo", b"x").served(check="goes-on")


@over((H1,), "P1-013/next-request-waits", checks=["served"])
async def next_request_waits(ctx: HttpContext, version: str) -> None:
    """A request that comes while one is answered is no end of the connection: both are served."""
    conn = await ctx.http(version)
    first = conn.post("conformance.sleep", {"ms": 100})
    second = conn.post("conformance.echo", b"x")
    await first.served(check="served")
    await second.served(check="served")
