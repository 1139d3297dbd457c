"""STOP and KILL: CAN-001 to CAN-006."""

from __future__ import annotations

import time

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases._steps import (
    LONG_MS,
    MOST_REQUESTS,
    at_rest,
    error_terminal,
    kill_all,
    not_applicable_unless,
    pause,
    settles,
)
from muxwire_conformance.context import Context

WINDOW = 65_536
STUBBORN_MS = 2_500
MANY_KILLS = 1_000
AT_ONCE = 50
MOST_HANDLERS = 1_000
NEEDS = ["conformance"]


# -- CAN-001 -----------------------------------------------------------------------------------


@case("CAN-001/running-handler", checks=["cancelled", "works"], features=NEEDS)
async def running_handler(ctx: Context) -> None:
    """Within 1 s after a KILL the terminal comes; it is CANCELLED."""
    conn = await ctx.ready()
    stream = conn.open("conformance.sleep", {"ms": LONG_MS})
    await conn.fence()
    stream.kill()
    await error_terminal(stream, "CANCELLED", check="cancelled", within=1.0)
    await conn.fence(check="works")


@case("CAN-001/any-reason", checks=["cancelled"], features=NEEDS)
async def any_reason(ctx: Context) -> None:
    """The answer is CANCELLED whatever reason the KILL carries, unknown ones included."""
    conn = await ctx.ready()
    for reason in (0, wire.code("DEADLINE_EXCEEDED"), 0x4A4A, 0xFFFF_FFFF):
        stream = conn.open("conformance.sleep", {"ms": LONG_MS})
        stream.kill(reason)
        await error_terminal(stream, "CANCELLED", check="cancelled", within=1.0)


@case("CAN-001/discarded-data", checks=["cancelled"], features=NEEDS)
async def discarded_data(ctx: Context) -> None:
    """A KILL that discards data is never answered with success, even if the handler had ended."""
    conn = await ctx.ready({"INITIAL_STREAM_WINDOW": WINDOW})
    conn.auto_credit = False
    stream = conn.open("conformance.source", {"bytes": WINDOW + 1_000})
    await conn.until(lambda: stream.received_cost > WINDOW - 64, ctx.patience.seconds)
    await conn.fence()
    stream.kill()
    await error_terminal(stream, "CANCELLED", check="cancelled", within=1.0)


@case("CAN-001/kill-races-the-end", checks=["one-terminal", "whole", "works"], features=NEEDS)
async def kill_races_the_end(ctx: Context) -> None:
    """Requests that are killed while they end are whole and successful, or CANCELLED."""
    conn = await ctx.ready()
    streams = []
    for _ in range(200):
        stream = conn.open("conformance.echo", b"race")
        if ctx.rng.random() < 0.5:
            await conn.until(lambda: False, ctx.rng.uniform(0, 0.001))
        stream.kill()
        streams.append(stream)
        if len(streams) % 50 == 0:
            await stream.end()
    for stream in streams:
        await stream.end(check="one-terminal")
        if stream.error is None:
            whole = stream.messages == [b"race"]
            ctx.check("whole", whole, expected="['race']", actual=stream.messages)
        else:
            code = stream.error.code
            good = code == wire.code("CANCELLED")
            ctx.check("whole", good, expected="CANCELLED", actual=stream.error)
    await conn.fence(check="works")


# -- CAN-002 -----------------------------------------------------------------------------------


@case("CAN-002/nothing-but-the-terminal", checks=["terminal", "no-data"], features=NEEDS)
async def nothing_but_the_terminal(ctx: Context) -> None:
    """No data frame follows the PONG that answers a PING sent after the KILL."""
    conn = await ctx.ready()
    stream = conn.open("conformance.generate", {"count": 1_000_000, "interval_ms": 1})
    for _ in range(5):
        await stream.message()
    nonce = ctx.nonce()
    conn.send(wire.kill(stream.id), wire.ping(nonce))
    pong = await conn.expect(lambda frame: frame.name == "PONG" and frame.payload == nonce)
    await stream.end(check="terminal")
    await conn.call("conformance.echo", b"in the meantime")
    late = [frame for frame in stream.frames if frame.index > pong.index and not frame.end]
    actual = late[0] if late else None
    ctx.check("no-data", not late, expected="only the terminal", actual=actual, frame=actual)


@case("CAN-002/full-speed", checks=["terminal", "no-data"], features=NEEDS)
async def full_speed(ctx: Context) -> None:
    """Also of a response at full speed nothing but the terminal follows that PONG."""
    conn = await ctx.ready()
    stream = conn.open("conformance.source", {"bytes": 65_536, "messages": 1_000}, discard=True)
    await conn.until(lambda: stream.octets > 500_000, ctx.patience.seconds)
    nonce = ctx.nonce()
    conn.send(wire.kill(stream.id), wire.ping(nonce))
    pong = await conn.expect(lambda frame: frame.name == "PONG" and frame.payload == nonce)
    await stream.end(check="terminal")
    late = [frame for frame in stream.frames if frame.index > pong.index and not frame.end]
    actual = late[0] if late else None
    ctx.check("no-data", not late, expected="only the terminal", actual=actual, frame=actual)


# -- CAN-003 -----------------------------------------------------------------------------------


@case("CAN-003/handlers-are-stopped", checks=["released", "told"], features=NEEDS, exclusive=True)
async def handlers_are_stopped(ctx: Context) -> None:
    """The handlers of killed requests really stop, and their cancellation is counted."""
    conn = await ctx.ready()
    before = await at_rest(ctx, conn)
    streams = [conn.open("conformance.sleep", {"ms": LONG_MS}) for _ in range(90)]
    await ctx.wait_for_stats(conn, lambda stats: stats["opened"] == before["opened"] + 90)
    await kill_all(streams)
    after = await settles(
        ctx,
        conn,
        lambda stats: stats["active"] <= before["active"],
        check="released",
        expected=f"active handlers as before: {before['active']}",
    )
    told = after["cancelled"] - before["cancelled"]
    ctx.check("told", told == 90, expected="90 cancelled handlers", actual=told)


@case("CAN-003/deadline-stops-too", checks=["released"], features=NEEDS, exclusive=True)
async def deadline_stops_too(ctx: Context) -> None:
    """The handler of a request whose deadline has passed really stops."""
    conn = await ctx.ready()
    before = await at_rest(ctx, conn)
    stream = conn.open("conformance.sleep", {"ms": LONG_MS}, timeout_ms=50)
    await stream.end()
    await settles(
        ctx,
        conn,
        lambda stats: stats["active"] <= before["active"],
        check="released",
        expected=f"active handlers as before: {before['active']}",
    )


# -- CAN-004 -----------------------------------------------------------------------------------

STUBBORN = {"ms": STUBBORN_MS, "ignore_kill_ms": STUBBORN_MS}
"""A handler that nothing interrupts."""


@case(
    "CAN-004/place-is-kept",
    requirements=["CAN-004", "ADM-002"],
    checks=["cancelled", "refused", "accepted"],
    features=NEEDS,
    timed=True,
)
async def place_is_kept(ctx: Context) -> None:
    """Handlers that cannot be interrupted keep their places until they have ended."""
    conn = await ctx.ready()
    limit = conn.peer_settings["MAX_CONCURRENT_REQUESTS"]
    not_applicable_unless(limit <= MOST_REQUESTS, f"{limit} requests are too many to open")
    streams = [conn.open("conformance.sleep", STUBBORN) for _ in range(limit)]
    started = time.monotonic()
    await conn.fence()
    for stream in streams:
        stream.kill()
    for stream in streams:
        await error_terminal(stream, "CANCELLED", check="cancelled", within=1.0)
    surplus = conn.open("conformance.echo", b"no place")
    await surplus.end()
    if time.monotonic() - started > STUBBORN_MS / 1_000:
        ctx.late("the handlers may have ended")
    await error_terminal(surplus, "OVERLOADED", check="refused", not_processed=True)
    ends = started + STUBBORN_MS / 1_000
    await pause(conn, ends - time.monotonic())
    while (stream := conn.open("conformance.echo", b"a place")) and (await stream.end()).is_error:
        if time.monotonic() > ends + 1.0 + ctx.patience.slack:
            break
        await pause(conn, 0.05)
    await stream.result(check="accepted")


@case(
    "CAN-004/handlers-that-outlive-connections",
    checks=["overloaded"],
    features=NEEDS,
    exclusive=True,
)
async def handlers_that_outlive_connections(ctx: Context) -> None:
    """Handlers that outlive their connections count toward a limit of the whole process."""
    conn = await ctx.ready()
    limit, most = conn.peer_settings["MAX_CONCURRENT_REQUESTS"], ctx.info.get("max_connections")
    total = limit * most if isinstance(most, int) else MOST_HANDLERS + 1
    not_applicable_unless(total <= MOST_HANDLERS, f"{total} handlers are too many to start")
    for _ in range(total // limit):
        lost = await ctx.ready()
        for _ in range(limit):
            lost.open("conformance.sleep", STUBBORN)
        await lost.fence()
        lost.abort()
        await ctx.wait_for_stats(conn, lambda stats: stats["connections"] == 1)
    stream = conn.open("conformance.sleep", STUBBORN)
    await error_terminal(stream, "OVERLOADED", check="overloaded", not_processed=True)
    await pause(conn, STUBBORN_MS / 1_000)


# -- CAN-005 -----------------------------------------------------------------------------------


@case("CAN-005/ends-early-and-well", checks=["success", "early"], features=NEEDS)
async def ends_early_and_well(ctx: Context) -> None:
    """A handler that cooperates ends its stream normally after STOP."""
    conn = await ctx.ready()
    stream = conn.open("conformance.generate", {"count": 100_000, "interval_ms": 20})
    for _ in range(3):
        await stream.message()
    stream.stop()
    messages = await stream.result(check="success")
    ctx.check("early", 3 <= len(messages) < 100, expected="3 to 99", actual=len(messages))


@case("CAN-005/handler-decides", checks=["goes-on", "cancelled"], features=NEEDS)
async def handler_decides(ctx: Context) -> None:
    """STOP is a request: a handler that ignores it goes on until it is killed."""
    conn = await ctx.ready()
    parameters = {"count": 100_000, "interval_ms": 10, "ignore_stop": True}
    stream = conn.open("conformance.generate", parameters)
    await stream.message()
    stream.stop()
    await conn.fence()
    known = len(stream.messages)
    await conn.until(lambda: len(stream.messages) > known + 5, ctx.patience.seconds)
    number = len(stream.messages)
    good = number > known + 5 and stream.terminal is None
    ctx.check("goes-on", good, expected=f"more than {known + 5} messages", actual=number)
    stream.kill()
    await error_terminal(stream, "CANCELLED", check="cancelled", within=1.0)


@case("CAN-005/second-stop", checks=["success"], features=NEEDS)
async def second_stop(ctx: Context) -> None:
    """A STOP that follows another one does no harm."""
    conn = await ctx.ready()
    stream = conn.open("conformance.generate", {"count": 100_000, "interval_ms": 20})
    await stream.message()
    conn.send(wire.stop(stream.id), wire.stop(stream.id))
    await stream.result(check="success")


# -- CAN-006 -----------------------------------------------------------------------------------


@case("CAN-006/many-kills", checks=["one-terminal", "works"], features=NEEDS)
async def many_kills(ctx: Context) -> None:
    """A connection is not closed for killing 1,000 requests one after the other."""
    conn = await ctx.ready()
    for _ in range(MANY_KILLS // AT_ONCE):
        streams = [conn.open("conformance.sleep", {"ms": LONG_MS}) for _ in range(AT_ONCE)]
        for stream in streams:
            stream.kill()
        for stream in streams:
            await stream.end(check="one-terminal")
    await conn.fence(check="works")
