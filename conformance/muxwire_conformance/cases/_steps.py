"""Steps that several areas share. No case lives here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from muxwire_conformance import wire
from muxwire_conformance.case import CaseFunction, case
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection, Stream
from muxwire_conformance.verdict import NotApplicable
from muxwire_conformance.wire import Frame

NO_SUBJECT = "no.such.subject"
"""Well-formed, and no worker has a handler for it: refused with NOT_FOUND (PAY-004)."""

OPEN_COST = 128
"""More than any OPEN of these cases costs beside its message."""

LONG_MS = 60_000
"""A handler asked to run this long does not end by itself during a case."""

WIDE = {"INITIAL_STREAM_WINDOW": 1 << 30, "CONNECTION_WINDOW": 1 << 30}
"""Windows that no answer of these cases uses up."""

MOST_REQUESTS = 4_096
"""More concurrent requests than this are not opened."""

LITTLE_BUFFER = 65_536
AT_REST = 3


def declare(id: str, title: str, function: CaseFunction, **declaration: Any) -> None:
    """Register one case of a family; ``title`` is its sentence."""
    function.__doc__ = title
    case(id, **declaration)(function)


async def refused(conn: Connection, *, end: bool = True) -> Stream:
    """Open a request that no handler takes and wait for its terminal: it is a tombstone then."""
    stream = conn.open(NO_SUBJECT, end=end)
    await stream.end()
    return stream


async def echoing(conn: Connection) -> Stream:
    """Open an echo, send one message and have it back: its handler runs and waits for more."""
    stream = conn.open("conformance.echo", b"first", end=False)
    await stream.message()
    return stream


async def kill_all(streams: Iterable[Stream]) -> None:
    """Kill requests and wait for their terminals."""
    killed = list(streams)
    for stream in killed:
        stream.kill()
    for stream in killed:
        await stream.end()


async def error_terminal(
    stream: Stream,
    code: str,
    *,
    check: str,
    not_processed: bool | None = False,
    within: float | None = None,
) -> Frame:
    """Judge that a request ends with an error: an outcome, after nothing was violated."""
    return await stream.connection.expect_outcome(
        stream, code, check=check, not_processed=not_processed, within=within
    )


async def at_rest(ctx: Context, conn: Connection) -> dict[str, Any]:
    """Return statistics once no handler runs, or when some of other cases go on for long."""
    started = time.monotonic()
    while True:
        stats = await conn.stats()
        if stats["active"] == 0 or time.monotonic() - started > 1.5 + ctx.patience.slack:
            return stats
        await asyncio.sleep(0.02)


async def settles(
    ctx: Context,
    conn: Connection,
    ready: Callable[[dict[str, Any]], bool],
    *,
    check: str,
    expected: str,
    within: float = 2.0,
) -> dict[str, Any]:
    """Judge that the target's statistics become as expected in time; return the last ones."""
    deadline = ctx.patience.bound(within)
    started = time.monotonic()
    while True:
        stats = await conn.stats()
        late = deadline is not None and time.monotonic() - started > deadline
        if ready(stats) or late:
            ctx.check(check, ready(stats), expected=expected, actual=stats)
            return stats
        await asyncio.sleep(0.02)


def of_stream(conn: Connection, request_id: bytes) -> list[Frame]:
    """Return every RESPONSE frame received with an id, known or not."""
    responses = (frame for frame in conn.frames if frame.type == wire.RESPONSE)
    return [frame for frame in responses if frame.request_id == request_id]


def check_unanswered(ctx: Context, conn: Connection, ids: Iterable[bytes], *, check: str) -> None:
    """Judge that no RESPONSE has come for any of these ids."""
    wanted = set(ids)
    answers = [
        frame for frame in conn.frames if frame.type == wire.RESPONSE and frame.request_id in wanted
    ]
    first = answers[0] if answers else None
    ctx.check(check, first is None, expected="no RESPONSE", actual=first, frame=first)


def not_applicable_unless(applies: bool, reason: str) -> None:
    """End the case as not applicable to this target.

    Raises:
        NotApplicable: it does not apply.
    """
    if not applies:
        raise NotApplicable(reason)


def pieces(total: int, most: int) -> list[int]:
    """Split the cost ``total`` into payload lengths of at most ``most``, as few as possible.

    Each piece costs its length and a header. A rest below the cost of one octet stays unused.
    """
    lengths = []
    while total > wire.HEADER_SIZE:
        lengths.append(min(most, total - wire.HEADER_SIZE))
        total -= wire.HEADER_SIZE + lengths[-1]
    return lengths


async def pause(conn: Connection, seconds: float) -> None:
    """Let time pass while the connection is read; for rules about time only."""
    await conn.until(lambda: False, seconds)


async def keep_alive(conn: Connection, seconds: float) -> None:
    """Let time pass, and send only credit that raises a limit, so that no budget is charged.

    It comes so often that the connection sends no PING of its own accord.
    """
    ends = time.monotonic() + seconds
    step = conn.peer_settings["IDLE_TIMEOUT_MS"] / 8_000
    while (left := ends - time.monotonic()) > 0:
        await pause(conn, min(step, left))
        conn.send(wire.window_update(conn.watcher.connection_limit + 1))


async def unmoving(ctx: Context, conn: Connection, *, most: int | None = None) -> dict[str, int]:
    """Return statistics once what the target buffers does not change, or is above ``most``."""
    seen: list[int] = []
    started = time.monotonic()
    while True:
        stats = await conn.stats()
        seen = [*seen[1 - AT_REST :], stats["buffered_bytes"]]
        at_rest = len(seen) == AT_REST and len(set(seen)) == 1
        if at_rest or (most is not None and seen[-1] > most):
            return stats
        if time.monotonic() - started > ctx.patience.timeout + ctx.patience.slack + 1.0:
            ctx.unprepared("buffered_bytes that come to rest", seen)
        await asyncio.sleep(0.02)


async def unread_answer(ctx: Context, conn: Connection, other: Connection) -> Stream:
    """Block the target's output: ask for far more than the kernels hold, and do not read it.

    The connection needs ``WIDE`` windows; the other one serves for statistics meanwhile.
    """
    parameters = {"bytes": 1_048_576, "messages": 64}
    stream = conn.open("conformance.source", parameters, discard=True)
    conn.transport.pause_reading()
    await unmoving(ctx, other)
    return stream


async def full(conn: Connection) -> list[Stream]:
    """Open as many requests as the worker accepts; each waits for its next message."""
    limit = conn.peer_settings["MAX_CONCURRENT_REQUESTS"]
    not_applicable_unless(limit <= MOST_REQUESTS, f"{limit} requests are too many to open")
    streams = [conn.open("conformance.echo", b"accepted", end=False) for _ in range(limit)]
    for stream in streams:
        await stream.message()
    return streams


async def connection_credit(conn: Connection, cost: int, seconds: float | None) -> int:
    """Wait until the connection's limit has room for a cost; return the room there is."""
    await conn.until(lambda: conn.send_limit - conn.sent_cost >= cost, seconds)
    return conn.send_limit - conn.sent_cost
