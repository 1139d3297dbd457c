"""How a connection ends: CLS-001 to CLS-007, CLS-009 and CLS-010, as a worker shows them."""

from __future__ import annotations

import time

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import (
    LITTLE_BUFFER,
    LONG_MS,
    NO_SUBJECT,
    WIDE,
    at_rest,
    check_unanswered,
    declare,
    echoing,
    error_terminal,
    refused,
    settles,
    unread_answer,
)
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection
from muxwire_conformance.transport import EndKind
from muxwire_conformance.wire import Frame

WINDOW = 65_536
FLOOD = 1_048_576
GRACE_MS = 10_000
NEEDS = ["conformance"]
BAD_FRAME = wire.ping(marker=0xF6)


async def _drain(conn: Connection, grace_ms: int = GRACE_MS) -> Frame:
    """Have the worker drain this connection and wait for its GOAWAY."""
    await conn.call("conformance.drain", {"grace_ms": grace_ms})
    return await conn.expect("GOAWAY")


# -- CLS-001, CLS-002 --------------------------------------------------------------------------


def _declare_last_ordinal(opens: int) -> None:
    async def last_ordinal(ctx: Context) -> None:
        conn = await ctx.ready()
        for _ in range(opens):
            await refused(conn)
        conn.violate(BAD_FRAME, instead_of=wire.ping())
        await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=opens)

    title = (
        f"After {opens} OPENs a connection error is GOAWAY with last_ordinal {opens}, then an end."
    )
    checks = ["goaway", "end"]
    declare(f"CLS-001/behind-{opens}-opens", title, last_ordinal, checks=checks, twin=SAME)


for _opens in (0, 1, 5):
    _declare_last_ordinal(_opens)


@case("CLS-001/faulty-open", checks=["goaway", "end"], twin=SAME)
async def faulty_open(ctx: Context) -> None:
    """The OPEN that causes the error is not counted by last_ordinal."""
    conn = await ctx.ready()
    stream = await refused(conn)
    again = conn.opening(NO_SUBJECT, request_id=stream.id)
    conn.violate(again, instead_of=conn.opening(NO_SUBJECT))
    await conn.expect_connection_error("DUPLICATE_REQUEST", last_ordinal=1)


@case("CLS-001/running-requests", checks=["goaway", "end"], twin=SAME, features=NEEDS)
async def running_requests(ctx: Context) -> None:
    """A connection error ends the connection at once, whatever is running on it."""
    conn = await ctx.ready()
    for _ in range(3):
        conn.open("conformance.sleep", {"ms": LONG_MS})
    conn.open("conformance.generate", {"count": 100_000, "interval_ms": 5})
    conn.violate(BAD_FRAME, instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=4)


@case("CLS-002/flood-behind-the-fault", checks=["goaway", "end"], twin=SAME)
async def flood_behind_the_fault(ctx: Context) -> None:
    """The GOAWAY is not lost when much more input follows the faulty frame."""
    conn = await ctx.ready()
    conn.violate(BAD_FRAME + bytes(FLOOD), instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=0)


@case("CLS-002/input-after-the-half-close", checks=["goaway", "end", "read"], twin=SAME)
async def input_after_the_half_close(ctx: Context) -> None:
    """After its half-close the worker reads and discards what still comes."""
    conn = await ctx.ready()
    conn.violate(BAD_FRAME, instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=0)
    if ctx.twin_run:
        return
    end = conn.transport.end
    reset = end is None or end.kind is EndKind.RST
    for _ in range(8):
        conn.send(bytes(FLOOD // 8))
        reset = reset or not await conn.transport.flushed(0.5)
    if reset and conn.goaway is not None and time.monotonic() - conn.goaway.at > 0.8:
        ctx.late("the worker had to read on for 1 s only")
    ctx.check("read", not reset, expected="the worker to read on for 1 s", actual="a reset")


@case(
    "CLS-002/blocked-output",
    checks=["goaway", "end"],
    twin=SAME,
    features=NEEDS,
    exclusive=True,
)
async def blocked_output(ctx: Context) -> None:
    """The GOAWAY gets through also when output was blocked and much input follows the fault."""
    other = await ctx.ready()
    conn = await ctx.ready(WIDE, receive_buffer=LITTLE_BUFFER)
    await unread_answer(ctx, conn, other)
    conn.violate(BAD_FRAME + bytes(FLOOD), instead_of=wire.ping())
    await conn.flushed()
    await other.fence()
    conn.transport.resume_reading()
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=1)
    conn.abort()


# -- CLS-003 -----------------------------------------------------------------------------------


@case("CLS-003/running-response", checks=["ended", "all"], features=NEEDS)
async def running_response(ctx: Context) -> None:
    """A response that runs when a drain begins goes on to its success terminal."""
    conn = await ctx.ready()
    stream = conn.open("conformance.generate", {"count": 20, "interval_ms": 10})
    await stream.message()
    await _drain(conn)
    messages = await stream.result(check="ended")
    ctx.check("all", len(messages) == 20, expected="20 messages", actual=len(messages))


@case("CLS-003/running-request", checks=["answered", "ended"], features=NEEDS)
async def running_request(ctx: Context) -> None:
    """The chunks of a request that runs when a drain begins are taken as before."""
    conn = await ctx.ready()
    stream = await echoing(conn)
    await _drain(conn)
    for turn in range(3):
        stream.send(b"turn %d" % turn)
        await stream.message(check="answered")
    stream.send(b"la", more=True)
    stream.send(b"st", end=True)
    messages = await stream.result(check="ended")
    good = messages[-1] == b"last"
    ctx.check("answered", good, expected="last", actual=messages[-1])


@case("CLS-003/credit", checks=["ended"], features=NEEDS)
async def credit(ctx: Context) -> None:
    """WINDOW_UPDATE works during a drain: a blocked response goes on."""
    conn = await ctx.ready({"INITIAL_STREAM_WINDOW": WINDOW})
    conn.auto_credit = False
    stream = conn.open("conformance.source", {"bytes": 3 * WINDOW})
    await conn.until(lambda: stream.received_cost > WINDOW - 64, ctx.patience.seconds)
    await _drain(conn)
    conn.send(wire.window_update(4 * WINDOW, request_id=stream.id))
    await stream.result(check="ended")


@case("CLS-003/stop-kill-and-ping", checks=["stopped", "killed", "works"], features=NEEDS)
async def stop_kill_and_ping(ctx: Context) -> None:
    """STOP, KILL and PING work during a drain."""
    conn = await ctx.ready()
    parameters = {"count": 100_000, "interval_ms": 20}
    stopped, killed, kept = (conn.open("conformance.generate", parameters) for _ in range(3))
    for stream in (stopped, killed, kept):
        await stream.message()
    await _drain(conn)
    stopped.stop()
    await stopped.result(check="stopped")
    killed.kill()
    await error_terminal(killed, "CANCELLED", check="killed")
    await conn.fence(check="works")
    await kept.message()


# -- CLS-004 -----------------------------------------------------------------------------------


@case("CLS-004/refused", checks=["draining", "others"], features=NEEDS)
async def open_is_refused(ctx: Context) -> None:
    """An OPEN behind a drain GOAWAY is DRAINING with NOT_PROCESSED, and the rest goes on."""
    conn = await ctx.ready()
    running = await echoing(conn)
    await _drain(conn)
    for end in (True, False):
        stream = conn.open("conformance.echo", b"late", end=end)
        await error_terminal(stream, "DRAINING", check="draining", not_processed=True)
    running.send(b"goes on", end=True)
    await running.result(check="others")


@case("CLS-004/no-handler", checks=["draining", "none"], features=NEEDS, exclusive=True)
async def no_handler(ctx: Context) -> None:
    """No handler runs for an OPEN behind a drain GOAWAY."""
    other = await ctx.ready()
    conn = await ctx.ready()
    await echoing(conn)
    await _drain(conn)
    before = await ctx.wait_for_stats(other, lambda _stats: True)
    for _ in range(5):
        stream = conn.open("conformance.echo", b"late")
        await error_terminal(stream, "DRAINING", check="draining", not_processed=True)
    after = await other.stats()
    started = after["opened"] - before["opened"]
    ctx.check("none", started == 0, expected="no handler started", actual=started)


@case("CLS-004/not-counted", checks=["goaway", "end"], twin=SAME, features=NEEDS)
async def not_counted(ctx: Context) -> None:
    """OPENs behind a drain GOAWAY have no ordinal: a later GOAWAY has the same last_ordinal."""
    conn = await ctx.ready()
    await echoing(conn)
    first = await _drain(conn)
    for _ in range(3):
        await refused(conn)
    conn.violate(BAD_FRAME, instead_of=wire.ping())
    await _expect_second_goaway(ctx, conn, first)


async def _expect_second_goaway(ctx: Context, conn: Connection, first: Frame) -> None:
    """Expect a connection error on a connection that drains: another GOAWAY, then the end."""
    if ctx.twin_run:
        await conn.fence()
        return
    await conn.expect_end()
    last = [frame for frame in conn.frames if frame.goaway is not None][-1]
    if last.goaway is None or first.goaway is None:
        conn.fail(None, "two GOAWAYs")
    wanted = first.goaway.last_ordinal
    words = f"GOAWAY with PROTOCOL_ERROR and last_ordinal {wanted}"
    good = last is not first and last.goaway.last_ordinal == wanted
    ctx.check("goaway", good, expected=words, actual=last, frame=last)
    if last.goaway.code != wire.code("PROTOCOL_ERROR"):
        ctx.warn("goaway", words, last, last)


# -- CLS-005, CLS-006 --------------------------------------------------------------------------


@case("CLS-005/nothing-left", checks=["half-close"], features=NEEDS)
async def nothing_left(ctx: Context) -> None:
    """A draining connection without a request is half-closed, long before its grace is over."""
    conn = await ctx.ready()
    await _drain(conn, 60_000)
    await conn.expect_end(check="half-close")


@case("CLS-005/after-the-last-request", checks=["open", "whole", "half-close"], features=NEEDS)
async def after_the_last_request(ctx: Context) -> None:
    """The half-close comes after the last request has ended and all of it was flushed."""
    conn = await ctx.ready()
    stream = await echoing(conn)
    await _drain(conn, 60_000)
    await conn.fence(check="open")
    body = bytes(100_000)
    await stream.send_message(body, end=True)
    messages = await stream.result(check="whole")
    ctx.check("whole", messages[-1] == body, expected="100000 octets", actual=len(messages[-1]))
    await conn.expect_end(check="half-close")


async def _expect_shutdown(ctx: Context, grace_ms: int) -> None:
    conn = await ctx.ready()
    streams = [conn.open("conformance.sleep", {"ms": LONG_MS}) for _ in range(3)]
    asked = time.monotonic()  # not the GOAWAY's arrival: a judge that is late reads it late
    await _drain(conn, grace_ms)
    grace = grace_ms / 1_000
    for stream in streams:
        frame = await error_terminal(stream, "SHUTDOWN", check="shutdown", within=grace + 1.0)
        waited = frame.at - asked
        ctx.check("not-early", waited >= grace - 0.01, expected=f"{grace:g} s", actual=waited)
    await conn.expect_end(check="end", within=1.0)


@case("CLS-006/grace-is-over", checks=["shutdown", "not-early", "end"], features=NEEDS)
async def grace_is_over(ctx: Context) -> None:
    """When the grace is over what remains gets SHUTDOWN, and the connection ends within 1 s."""
    await _expect_shutdown(ctx, 300)


@case("CLS-006/no-grace", checks=["shutdown", "not-early", "end"], features=NEEDS)
async def no_grace(ctx: Context) -> None:
    """A drain with grace_ms 0 is over at once."""
    await _expect_shutdown(ctx, 0)


@case("CLS-006/unread-output", checks=["shutdown", "end"], features=NEEDS)
async def unread_output(ctx: Context) -> None:
    """A response without credit does not hold up the end of a drain."""
    conn = await ctx.ready({"INITIAL_STREAM_WINDOW": WINDOW})
    conn.auto_credit = False
    stream = conn.open("conformance.source", {"bytes": 3 * WINDOW})
    await conn.until(lambda: stream.received_cost > WINDOW - 64, ctx.patience.seconds)
    await _drain(conn, 100)
    await error_terminal(stream, "SHUTDOWN", check="shutdown")
    await conn.expect_end(check="end", within=1.0)


# -- CLS-007 -----------------------------------------------------------------------------------


@case(
    "CLS-007/error-while-draining",
    checks=["goaway", "end"],
    twin=SAME,
    features=NEEDS,
)
async def error_while_draining(ctx: Context) -> None:
    """The GOAWAY of an error on a draining connection does not raise last_ordinal."""
    conn = await ctx.ready()
    await refused(conn)
    await echoing(conn)
    first = await _drain(conn)
    for _ in range(3):
        await refused(conn)
    last = first.goaway.last_ordinal if first.goaway is not None else 0
    if last != 3:
        conn.fail(None, "last_ordinal 3 behind three requests", str(first), first)
    conn.violate(BAD_FRAME, instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=last)


# -- CLS-009 -----------------------------------------------------------------------------------


async def _check_end_without_goaway(ctx: Context, conn: Connection) -> None:
    await conn.expect_end(check="half-close")
    back = conn.goaway
    ctx.check("no-goaway", back is None, expected="no GOAWAY back", actual=back, frame=back)


@case("CLS-009/nothing-runs", checks=["half-close", "no-goaway"])
async def nothing_runs(ctx: Context) -> None:
    """On a client's GOAWAY with NO_ERROR an idle worker half-closes without a GOAWAY back."""
    conn = await ctx.ready()
    await conn.fence()
    conn.send(wire.goaway())
    await _check_end_without_goaway(ctx, conn)


def _declare_finishes(name: str, title: str, grace_ms: int) -> None:
    async def finishes(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = conn.open("conformance.generate", {"count": 15, "interval_ms": 10})
        upload = await echoing(conn)
        conn.send(wire.goaway(grace_ms=grace_ms))
        messages = await stream.result(check="finished")
        number = len(messages)
        ctx.check("finished", number == 15, expected="15 messages", actual=number)
        upload.send(b"last", end=True)
        await upload.result(check="finished")
        await _check_end_without_goaway(ctx, conn)

    checks = ["finished", "half-close", "no-goaway"]
    declare(f"CLS-009/{name}", title, finishes, checks=checks, features=NEEDS)


_declare_finishes(
    "running-requests-finish",
    "On a client's GOAWAY with NO_ERROR the worker finishes what runs, then half-closes.",
    0,
)
_declare_finishes("grace-is-ignored", "The grace_ms of a client's GOAWAY is ignored.", 1)


def _declare_error_goaway(name: str, title: str, code: str | int, *also: str) -> None:
    async def error_goaway(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = conn.open("conformance.sleep", {"ms": LONG_MS})
        await conn.fence()
        conn.send(wire.goaway(code))
        await _check_end_without_goaway(ctx, conn)
        success = stream.terminal is not None and not stream.terminal.is_error
        ctx.check("no-success", not success, expected="no success", actual=stream.terminal)

    declare(
        f"CLS-009/{name}",
        title,
        error_goaway,
        requirements=["CLS-009", *also],
        checks=["half-close", "no-goaway", "no-success"],
        features=NEEDS,
    )


_declare_error_goaway(
    "error-cancels",
    "On a client's GOAWAY with an error code the worker cancels all and half-closes.",
    "INTERNAL_ERROR",
)
_declare_error_goaway(
    "unknown-code-cancels",
    "An unknown code in a client's GOAWAY is handled as INTERNAL_ERROR.",
    0x4A4A,
    "PAY-008",
)


@case("CLS-009/open-behind-own-goaway", checks=["end", "unanswered", "code"], twin=SAME)
async def open_behind_own_goaway(ctx: Context) -> None:
    """An OPEN behind the client's own GOAWAY is never served, and the connection ends."""
    conn = await ctx.ready()
    behind = conn.opening(NO_SUBJECT)
    conn.violate(wire.goaway() + behind, instead_of=behind)
    if ctx.twin_run:
        await conn.fence()
        return
    await conn.expect_end(check="end")
    check_unanswered(ctx, conn, [behind[16:32]], check="unanswered")
    # The worker may have half-closed on the GOAWAY; only if not can it still send its own.
    frame = conn.goaway
    code = frame.goaway.code if frame is not None and frame.goaway is not None else None
    good = code in (None, wire.code("PROTOCOL_ERROR"))
    ctx.check("code", good, expected="PROTOCOL_ERROR", actual=frame, frame=frame)


@case("CLS-009/open-while-finishing", checks=["goaway", "end"], twin=SAME, features=NEEDS)
async def open_while_finishing(ctx: Context) -> None:
    """An OPEN behind the client's own GOAWAY is a connection error PROTOCOL_ERROR."""
    conn = await ctx.ready()
    await echoing(conn)
    behind = conn.opening("conformance.echo", b"late")
    conn.violate(wire.goaway() + behind, instead_of=behind)
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=1)


# -- CLS-010 -----------------------------------------------------------------------------------


def _declare_loss(name: str, title: str, *, reset: bool) -> None:
    async def loss(ctx: Context) -> None:
        other = await ctx.ready()
        before = await at_rest(ctx, other)
        conn = await ctx.ready()
        for index in range(20):
            conn.open("conformance.sleep", {"ms": LONG_MS}, end=index % 2 == 0)
        await ctx.wait_for_stats(other, lambda stats: stats["opened"] == before["opened"] + 20)
        if reset:
            conn.abort()
        else:
            conn.stay_silent()
            conn.transport.half_close()
        after = await settles(
            ctx,
            other,
            lambda stats: stats["active"] <= before["active"],
            check="stopped",
            expected=f"active handlers as before: {before['active']}",
            within=1.0,
        )
        told = after["cancelled"] - before["cancelled"]
        ctx.check("told", told >= 20, expected="20 cancelled handlers", actual=told)

    declare(
        f"CLS-010/{name}",
        title,
        loss,
        requirements=["CLS-010", "STM-001"],
        checks=["stopped", "told"],
        features=NEEDS,
        exclusive=True,
    )


_declare_loss("reset", "A reset from the client cancels every handler within 1 s.", reset=True)
_declare_loss("end-of-file", "An end of file cancels every handler within 1 s.", reset=False)


@case("CLS-010/idle-connection", checks=["end"])
async def idle_connection(ctx: Context) -> None:
    """An end of file from the client ends the connection; it does not stay half-open."""
    conn = await ctx.ready()
    await conn.fence()
    conn.stay_silent()
    conn.transport.half_close()
    await conn.expect_end(check="end")


@case("CLS-010/inside-a-frame", checks=["end"])
async def inside_a_frame(ctx: Context) -> None:
    """An end of file inside a frame ends the connection as well."""
    conn = await ctx.ready()
    await conn.fence()
    conn.stay_silent()
    conn.send(wire.ping()[:20])
    conn.transport.half_close()
    await conn.expect_end(check="end")


@case("CLS-010/requests-do-not-finish", checks=["end"], features=NEEDS)
async def requests_do_not_finish(ctx: Context) -> None:
    """Behind an end of file no request runs on: the connection ends without its result."""
    conn = await ctx.ready()
    conn.open("conformance.sleep", {"ms": LONG_MS})
    await conn.fence()
    conn.stay_silent()
    conn.transport.half_close()
    await conn.expect_end(check="end")
