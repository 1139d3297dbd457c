"""The life of a request: STM-001, cell by cell of the worker's table, and STM-003 to STM-006.

A cell's id is state, input: ``STM-001/half-body``. CLOSED comes in two forms: ``closed`` after a
handler has run, and ``refused`` after an error terminal that no handler had a part in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import (
    LONG_MS,
    NO_SUBJECT,
    at_rest,
    check_unanswered,
    declare,
    echoing,
    error_terminal,
    kill_all,
    of_stream,
    refused,
    settles,
)
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection, Stream
from muxwire_conformance.wire import Frame

IGNORED_INPUTS = ("body", "body-end", "window-update", "stop", "kill")
WINDOW = 65_536
NEEDS = ["conformance"]


def _input(ctx: Context, kind: str, stream: Stream) -> bytes:
    """Build one input of the table for a request, with the seq that is due."""
    return {
        "open": wire.open_request(stream.id, NO_SUBJECT, end=False),
        "open-end": wire.open_request(stream.id, NO_SUBJECT),
        "body": wire.request(stream.id, max(stream.next_seq, 1), b"more"),
        "body-end": wire.request(stream.id, max(stream.next_seq, 1), end=True),
        "window-update": wire.window_update(ctx.rng.randrange(1 << 30), request_id=stream.id),
        "stop": wire.stop(stream.id),
        "kill": wire.kill(stream.id),
    }[kind]


# -- IDLE --------------------------------------------------------------------------------------


@case("STM-001/idle-open", checks=["served"], features=NEEDS)
async def idle_open(ctx: Context) -> None:
    """IDLE, OPEN without END_STREAM: the handler starts and the client may go on sending."""
    conn = await ctx.ready()
    stream = await echoing(conn)
    stream.send(b"second", end=True)
    await stream.result(check="served")


@case("STM-001/idle-open-end", checks=["served"], features=NEEDS)
async def idle_open_end(ctx: Context) -> None:
    """IDLE, OPEN with END_STREAM: the handler starts with the whole request."""
    conn = await ctx.ready()
    await conn.call("conformance.echo", b"whole", check="served")


def _declare_refusal(name: str, *, end: bool) -> None:
    async def refusal(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = conn.open(NO_SUBJECT, end=end)
        await error_terminal(stream, "NOT_FOUND", check="refused", not_processed=True)
        await conn.fence(check="works")

    title = f"IDLE, OPEN with{'' if end else 'out'} END_STREAM: a refusal is a terminal."
    declare(f"STM-001/{name}", title, refusal, checks=["refused", "works"])


_declare_refusal("idle-open-refused", end=False)
_declare_refusal("idle-open-end-refused", end=True)


def _declare_idle(kind: str) -> None:
    async def idle(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = conn.stream(ctx.new_id())
        conn.send(_input(ctx, kind, stream))
        await conn.fence(check="ignored")
        check_unanswered(ctx, conn, [stream.id], check="unanswered")
        conn.open(NO_SUBJECT, request_id=stream.id)
        await error_terminal(stream, "NOT_FOUND", check="still-idle", not_processed=True)

    title = f"IDLE, {kind.upper()}: it is ignored, and the id can still be opened."
    declare(f"STM-001/idle-{kind}", title, idle, checks=["ignored", "unanswered", "still-idle"])


for _kind in IGNORED_INPUTS:
    _declare_idle(_kind)


# -- OPEN and HALF -----------------------------------------------------------------------------


def _declare_duplicate(
    state: str, kind: str, prepare: Callable[[Connection], Awaitable[Stream]], features: list[str]
) -> None:
    async def duplicate(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = await prepare(conn)
        other = conn.stream(ctx.new_id())
        conn.violate(_input(ctx, kind, stream), instead_of=_input(ctx, kind, other))
        await conn.expect_connection_error("DUPLICATE_REQUEST")

    title = f"{state.upper()}, {kind.upper()}: it is a connection error DUPLICATE_REQUEST."
    declare(
        f"STM-001/{state}-{kind}",
        title,
        duplicate,
        checks=["goaway", "end"],
        twin=SAME,
        features=features,
        timed=state == "killed",  # its handler lives for a while and would hold up the cases alone
    )


async def _half(conn: Connection) -> Stream:
    return conn.open("conformance.sleep", {"ms": LONG_MS})


async def _killed(conn: Connection) -> Stream:
    stream = conn.open("conformance.sleep", {"ms": 1_000, "ignore_kill_ms": 1_000}, end=False)
    stream.kill()
    return stream


async def _closed(conn: Connection) -> Stream:
    stream = await echoing(conn)
    stream.kill()
    await stream.end()
    return stream


async def _refused(conn: Connection) -> Stream:
    return await refused(conn, end=False)


for _state, _prepare, _features in (
    ("open", echoing, NEEDS),
    ("half", _half, NEEDS),
    ("killed", _killed, NEEDS),
    ("closed", _closed, NEEDS),
    ("refused", _refused, []),
):
    _declare_duplicate(_state, "open", _prepare, _features)
    _declare_duplicate(_state, "open-end", _prepare, _features)


@case("STM-001/open-body", checks=["delivered"], features=NEEDS)
async def open_body(ctx: Context) -> None:
    """OPEN, BODY: it is delivered, and the request stays open."""
    conn = await ctx.ready()
    stream = await echoing(conn)
    for body in (b"second", b"third"):
        stream.send(body)
        good = await stream.message(check="delivered") == body
        ctx.check("delivered", good, expected=str(body), actual=stream.messages[-1])


@case("STM-001/open-body-end", checks=["delivered", "ended"], features=NEEDS)
async def open_body_end(ctx: Context) -> None:
    """OPEN, BODY_END: it is delivered and ends the request."""
    conn = await ctx.ready()
    stream = await echoing(conn)
    stream.send(b"last", end=True)
    messages = await stream.result(check="ended")
    good = messages == [b"first", b"last"]
    ctx.check("delivered", good, expected="['first', 'last']", actual=messages)


def _declare_state_error(kind: str) -> None:
    async def state_error(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = conn.open("conformance.sleep", {"ms": LONG_MS}, end=ctx.pick(True, False))
        chunk = _input(ctx, kind, stream)
        conn.violate(chunk, instead_of=chunk)
        await conn.expect_connection_error("STREAM_STATE_ERROR", last_ordinal=1)

    title = f"HALF, {kind.upper()}: it is a connection error STREAM_STATE_ERROR."
    checks = ["goaway", "end"]
    declare(f"STM-001/half-{kind}", title, state_error, checks=checks, twin=SAME, features=NEEDS)


_declare_state_error("body")
_declare_state_error("body-end")


def _declare_live(state: str, *, end: bool) -> None:
    """Declare what is allowed both before and after the client's END_STREAM."""

    async def window_update(ctx: Context) -> None:
        conn = await ctx.ready({"INITIAL_STREAM_WINDOW": WINDOW})
        conn.auto_credit = False
        stream = conn.open("conformance.source", {"bytes": 3 * WINDOW}, end=end)
        await conn.until(lambda: stream.received_cost > WINDOW - 64, ctx.patience.seconds)
        conn.send(wire.window_update(4 * WINDOW, request_id=stream.id))
        await stream.result(check="raised")

    async def stop(ctx: Context) -> None:
        conn = await ctx.ready()
        parameters = {"count": 3_000, "interval_ms": 10}
        stream = conn.open("conformance.generate", parameters, end=end)
        await stream.message()
        stream.stop()
        messages = await stream.result(check="ended")
        ctx.check("early", len(messages) < 3_000, expected="fewer", actual=len(messages))

    async def kill(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = conn.open("conformance.sleep", {"ms": LONG_MS}, end=end)
        stream.kill()
        await error_terminal(stream, "CANCELLED", check="cancelled")
        await conn.fence(check="works")

    upper = state.upper()
    declare(
        f"STM-001/{state}-window-update",
        f"{upper}, WINDOW_UPDATE: the limit rises and more of the response flows.",
        window_update,
        checks=["raised"],
        features=NEEDS,
    )
    declare(
        f"STM-001/{state}-stop",
        f"{upper}, STOP: the handler is told and ends early and well.",
        stop,
        checks=["ended", "early"],
        features=NEEDS,
    )
    declare(
        f"STM-001/{state}-kill",
        f"{upper}, KILL: the handler is cancelled and the request ends.",
        kill,
        checks=["cancelled", "works"],
        features=NEEDS,
    )


_declare_live("open", end=False)
_declare_live("half", end=True)


# -- KILLED ------------------------------------------------------------------------------------


def _declare_killed_state_error(kind: str) -> None:
    async def killed(ctx: Context) -> None:
        conn = await ctx.ready()
        parameters = {"ms": 1_000, "ignore_kill_ms": 1_000}
        stream = conn.open("conformance.sleep", parameters, end=False)
        chunk = _input(ctx, kind, stream)
        conn.violate(wire.kill(stream.id) + chunk, instead_of=wire.kill(stream.id))
        answer = await conn.try_fence()
        if ctx.twin_run:
            await stream.end()
        elif answer is None:
            await _check_was_closed(ctx, conn, stream)
        elif isinstance(answer, Frame) and answer.goaway is not None:
            _check_code(ctx, answer)
            await conn.expect_end(check="outcome")
        else:
            conn.fail("outcome", "GOAWAY with STREAM_STATE_ERROR, or silence")

    title = f"KILLED, {kind.upper()}: STREAM_STATE_ERROR, or silence if the terminal is written."
    declare(
        f"STM-001/killed-{kind}",
        title,
        killed,
        checks=["outcome"],
        twin=SAME,
        features=NEEDS,
        timed=True,
    )


def _check_code(ctx: Context, frame: Frame) -> None:
    code = frame.goaway.code if frame.goaway is not None else 0
    expected = "GOAWAY with STREAM_STATE_ERROR"
    if code == wire.code("STREAM_STATE_ERROR"):
        ctx.emit("outcome")
    elif wire.is_connection_code(code):
        ctx.warn("outcome", expected, frame, frame)
    else:
        ctx.check("outcome", False, expected=expected, actual=frame, frame=frame)


async def _check_was_closed(ctx: Context, conn: Connection, stream: Stream) -> None:
    """Judge silence: the worker may keep it only if the terminal was written before the PONG.

    The chunk was processed before the PING, and the PONG is written after that. A terminal that
    comes behind the PONG was therefore not written yet when the chunk arrived.
    """
    pong = next(frame for frame in reversed(conn.frames) if frame.name == "PONG")
    await stream.end()
    terminal = stream.terminal
    good = terminal is not None and terminal.index < pong.index
    expected = "STREAM_STATE_ERROR, since the terminal came only behind the PONG"
    ctx.check("outcome", good, expected=expected, actual="silence", frame=terminal)


_declare_killed_state_error("body")
_declare_killed_state_error("body-end")


def _declare_killed_ignores(kind: str) -> None:
    async def ignored(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = await _killed(conn)
        conn.send(_input(ctx, kind, stream))
        await conn.fence(check="ignored")
        await error_terminal(stream, "CANCELLED", check="cancelled")
        conn.send(_input(ctx, kind, stream))
        await conn.fence(check="ignored")

    title = f"KILLED, {kind.upper()}: it is ignored, and the terminal still comes."
    checks = ["ignored", "cancelled"]
    declare(f"STM-001/killed-{kind}", title, ignored, checks=checks, features=NEEDS, timed=True)


for _kind in ("window-update", "stop", "kill"):
    _declare_killed_ignores(_kind)


# -- CLOSED ------------------------------------------------------------------------------------


def _declare_closed(
    state: str, kind: str, prepare: Callable[[Connection], Awaitable[Stream]], features: list[str]
) -> None:
    async def closed(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = await prepare(conn)
        number = len(stream.frames)
        conn.send(_input(ctx, kind, stream))
        await conn.fence(check="ignored")
        behind = of_stream(conn, stream.id)[number:]
        expected = "nothing behind the terminal"
        ctx.check("silent", not behind, expected=expected, actual=len(behind))

    title = f"CLOSED, {kind.upper()}: it is ignored, and nothing comes for the request any more."
    declare(
        f"STM-001/{state}-{kind}", title, closed, checks=["ignored", "silent"], features=features
    )


for _kind in IGNORED_INPUTS:
    _declare_closed("closed", _kind, _closed, NEEDS)
    _declare_closed("refused", _kind, _refused, [])


# -- STM-003, STM-004 --------------------------------------------------------------------------


async def _late_chunks(ctx: Context, conn: Connection, stream: Stream) -> None:
    await stream.end(check="terminal")
    for number in range(100):
        stream.send(b"late", end=number == 99)
    await conn.fence(check="discarded")
    count = len(stream.frames)
    ctx.check("once", count == 1, expected="one RESPONSE", actual=count)


@case("STM-003/terminal-before-end", checks=["terminal", "discarded", "once"], features=NEEDS)
async def terminal_before_end(ctx: Context) -> None:
    """The terminal may come before END_STREAM, and the chunks on their way are discarded."""
    conn = await ctx.ready()
    stream = conn.open("conformance.fail", {"after": 0}, end=False)
    await _late_chunks(ctx, conn, stream)


@case("STM-003/refusal-before-end", checks=["terminal", "discarded", "once"])
async def refusal_before_end(ctx: Context) -> None:
    """A refusal does not wait for END_STREAM, and the chunks on their way are discarded."""
    conn = await ctx.ready()
    await _late_chunks(ctx, conn, conn.open(NO_SUBJECT, end=False))


@case("STM-003/response-before-end", checks=["ended"], features=NEEDS)
async def response_before_end(ctx: Context) -> None:
    """All responses and the success terminal may come before the request has ended."""
    conn = await ctx.ready()
    await conn.open("conformance.generate", {"count": 10}, end=False).result(check="ended")


@case("STM-004/ten-turns", checks=["answered", "same"], features=NEEDS)
async def ten_turns(ctx: Context) -> None:
    """Both directions run independently: each message is answered before the next is sent."""
    conn = await ctx.ready()
    stream = conn.open("conformance.echo", end=False)
    for turn in range(10):
        body = b"turn %d" % turn
        stream.send(body)
        answer = await stream.message(check="answered")
        ctx.check("same", answer == body, expected=str(body), actual=answer)


@case("STM-004/starts-on-open", checks=["started"], features=NEEDS)
async def starts_on_open(ctx: Context) -> None:
    """The worker starts the handler on the OPEN and not on END_STREAM."""
    conn = await ctx.ready()
    stream = conn.open("conformance.generate", {"count": 3_000, "interval_ms": 20}, end=False)
    await stream.message(check="started")


# -- STM-005 -----------------------------------------------------------------------------------


async def _open_and_kill(ctx: Context, subject: str, count: int, *, end: bool) -> None:
    conn = await ctx.ready()
    octets = []
    streams = []
    for _ in range(count):
        opening = conn.opening(subject, {"ms": LONG_MS}, end=end)
        streams.append(conn.stream(opening[16:32]))
        octets += [opening, wire.kill(opening[16:32])]
    conn.send(*octets)
    for stream in streams:
        await stream.end(check="terminal")
    await conn.fence()
    counts = [len(stream.frames) for stream in streams]
    ctx.check("only-one", counts == [1] * count, expected="one RESPONSE each", actual=counts)


@case("STM-005/one-segment", checks=["terminal", "only-one"], features=NEEDS)
async def one_segment(ctx: Context) -> None:
    """An OPEN and a KILL of it in one segment yield exactly one terminal."""
    await _open_and_kill(ctx, "conformance.sleep", 1, end=True)


@case("STM-005/one-segment-not-ended", checks=["terminal", "only-one"], features=NEEDS)
async def one_segment_not_ended(ctx: Context) -> None:
    """An OPEN without END_STREAM and a KILL of it in one segment yield exactly one terminal."""
    await _open_and_kill(ctx, "conformance.sleep", 1, end=False)


@case("STM-005/many-in-one-segment", checks=["terminal", "only-one"], features=NEEDS)
async def many_in_one_segment(ctx: Context) -> None:
    """Fifty OPENs, each with its KILL behind it, in one segment yield fifty terminals."""
    await _open_and_kill(ctx, "conformance.sleep", 50, end=True)


@case("STM-005/refused-and-killed", checks=["terminal", "only-one"])
async def refused_and_killed(ctx: Context) -> None:
    """A refused OPEN and a KILL of it in one segment yield exactly one terminal."""
    await _open_and_kill(ctx, NO_SUBJECT, 10, end=True)


# -- STM-006 -----------------------------------------------------------------------------------


@case("STM-006/nothing-behind-the-error", checks=["goaway", "end", "nothing"], twin=SAME)
async def nothing_behind_the_error(ctx: Context) -> None:
    """After a connection error no further frame is processed."""
    conn = await ctx.ready()
    opens = [conn.opening(NO_SUBJECT) for _ in range(3)]
    behind = b"".join(opens) + wire.ping(b"behind!!")
    conn.violate(wire.ping(marker=0xF6) + behind, instead_of=wire.ping() + behind)
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=0)
    if not ctx.twin_run:
        answers = [f for f in conn.frames if f.type == wire.RESPONSE or f.payload == b"behind!!"]
        ctx.check("nothing", not answers, expected="no answer", actual=[str(f) for f in answers])


@case(
    "STM-006/handlers-stop",
    checks=["goaway", "end", "stopped", "told"],
    twin=SAME,
    features=NEEDS,
    exclusive=True,
)
async def handlers_stop(ctx: Context) -> None:
    """After a connection error no handler of the connection keeps running for more than 1 s."""
    other = await ctx.ready()
    before = await at_rest(ctx, other)
    conn = await ctx.ready()
    streams = [conn.open("conformance.sleep", {"ms": LONG_MS}) for _ in range(20)]
    await ctx.wait_for_stats(other, lambda stats: stats["opened"] == before["opened"] + 20)
    conn.violate(wire.ping(marker=0xF6), instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=20)
    if ctx.twin_run:
        await kill_all(streams)
        return
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
