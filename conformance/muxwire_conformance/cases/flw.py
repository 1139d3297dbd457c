"""Flow control: FLW-001 to FLW-013."""

from __future__ import annotations

import time

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import (
    LITTLE_BUFFER,
    LONG_MS,
    NO_SUBJECT,
    OPEN_COST,
    WIDE,
    at_rest,
    connection_credit,
    declare,
    echoing,
    error_terminal,
    not_applicable_unless,
    pause,
    pieces,
    refused,
    settles,
    unmoving,
    unread_answer,
)
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection, Stream

WINDOW = 65_536
CONNECTION_WINDOW = 1_048_576
LEAST = wire.HEADER_SIZE + 1
PLENTY = 1 << 40
MOST_WINDOW = 64 * 1_048_576
SEND_BUFFER = 1_048_576
MARGIN = 65_536
"""Room for what else a target buffers while it is asked for its statistics."""
MOST_WAIT = 3.0
MOST_BLOCKED = 2.0
"""Not so long that HBT-006 ends the connection."""
NEEDS = ["conformance"]


async def _filled(ctx: Context, conn: Connection, limit: int) -> None:
    """Wait until responses have used the connection's limit up."""
    await conn.until(lambda: conn.received_cost > limit - LEAST, ctx.patience.seconds)


async def _credit(stream: Stream, cost: int, seconds: float | None) -> bool:
    """Wait for credit of the stream and of the connection; tell whether it came."""
    return await stream.connection.until(lambda: _room(stream) >= cost, seconds)


def _room(stream: Stream) -> int:
    conn = stream.connection
    return min(stream.send_limit - stream.sent_cost, conn.send_limit - conn.sent_cost)


async def _blocked(ctx: Context, conn: Connection, stream: Stream, limit: int) -> int:
    """Let a response flow until its limit stops it; return its cost."""
    await conn.until(lambda: stream.received_cost > limit - LEAST, ctx.patience.seconds)
    await conn.fence()
    await conn.fence()
    return stream.received_cost


def _check_cost(ctx: Context, cost: int, limit: int, item: int, *, check: str) -> None:
    good = limit - item < cost <= limit
    ctx.check(check, good, expected=f"a cost above {limit - item}, at most {limit}", actual=cost)


async def _narrow(ctx: Context, subject: str, parameters: dict[str, object]) -> Stream:
    """Open a long response with the smallest windows, and give no credit."""
    conn = await ctx.ready(
        {"INITIAL_STREAM_WINDOW": WINDOW, "CONNECTION_WINDOW": CONNECTION_WINDOW}
    )
    conn.auto_credit = False
    return conn.open(subject, parameters)


# -- FLW-001 -----------------------------------------------------------------------------------


@case("FLW-001/stream-limit-small-messages", checks=["filled"], features=NEEDS)
async def stream_limit_small_messages(ctx: Context) -> None:
    """Small messages fill the stream's limit, headers counted, and then nothing more comes."""
    stream = await _narrow(ctx, "conformance.generate", {"count": 100_000, "size": 200})
    cost = await _blocked(ctx, stream.connection, stream, WINDOW)
    _check_cost(ctx, cost, WINDOW, 232, check="filled")


@case("FLW-001/stream-limit-large-message", checks=["filled"], features=NEEDS)
async def stream_limit_large_message(ctx: Context) -> None:
    """A message that does not fit is split, down to the last 33 units of the stream's limit."""
    stream = await _narrow(ctx, "conformance.source", {"bytes": 10 * WINDOW})
    cost = await _blocked(ctx, stream.connection, stream, WINDOW)
    _check_cost(ctx, cost, WINDOW, LEAST, check="filled")


@case("FLW-001/connection-limit", checks=["filled"], features=NEEDS)
async def connection_limit(ctx: Context) -> None:
    """All streams together fill the connection's limit, and then nothing more comes."""
    conn = await ctx.ready(
        {"INITIAL_STREAM_WINDOW": CONNECTION_WINDOW, "CONNECTION_WINDOW": CONNECTION_WINDOW}
    )
    conn.auto_credit = False
    for _ in range(3):
        conn.open("conformance.source", {"bytes": CONNECTION_WINDOW - 4_096}, discard=True)
    await _filled(ctx, conn, CONNECTION_WINDOW)
    await conn.fence()
    _check_cost(ctx, conn.received_cost, CONNECTION_WINDOW, LEAST, check="filled")


@case("FLW-001/little-by-little", checks=["filled"], features=NEEDS)
async def little_by_little(ctx: Context) -> None:
    """Fed with the cost of one octet at a time, a response goes on each time."""
    stream = await _narrow(ctx, "conformance.source", {"bytes": 10 * WINDOW})
    conn, limit = stream.connection, WINDOW
    await _blocked(ctx, conn, stream, limit)
    for _ in range(20):
        limit += LEAST
        conn.send(wire.window_update(limit, request_id=stream.id))
        cost = await _blocked(ctx, conn, stream, limit)
        _check_cost(ctx, cost, limit, LEAST, check="filled")


# -- FLW-002 -----------------------------------------------------------------------------------


async def _fill(conn: Connection, *, more: bool = False) -> Stream:
    """Use a stalled sink's whole window, with complete messages unless ``more``."""
    parameters = {"stall": True}
    window = conn.peer_settings["INITIAL_STREAM_WINDOW"]
    not_applicable_unless(window <= MOST_WINDOW, f"a stream window of {window} is too much to fill")
    stream = conn.open("conformance.sink", parameters, end=False)
    for length in pieces(window - stream.sent_cost, 16_384):
        stream.send(bytes(length), more=more)
    return stream


@case("FLW-002/stream-limit", checks=["goaway", "end"], twin=SAME, features=NEEDS)
async def stream_limit(ctx: Context) -> None:
    """Exceeding the limit of a stream is a connection error FLOW_CONTROL_ERROR."""
    conn = await ctx.ready()
    stream = await _fill(conn)
    # More than the parameters cost, which the sink has consumed and may have credited.
    excess = wire.request(stream.id, stream.next_seq, bytes(16_384))
    conn.violate(excess, instead_of=wire.ping())
    await conn.expect_connection_error("FLOW_CONTROL_ERROR", last_ordinal=1)


@case(
    "FLW-002/connection-limit",
    checks=["goaway", "end"],
    twin=SAME,
    features=NEEDS,
    exclusive=True,
)
async def connection_limit_exceeded(ctx: Context) -> None:
    """Exceeding the connection's limit, while no update can be written, is FLOW_CONTROL_ERROR."""
    other = await ctx.ready()
    conn = await ctx.ready(WIDE, receive_buffer=LITTLE_BUFFER)
    window = conn.peer_settings["CONNECTION_WINDOW"]
    not_applicable_unless(window <= MOST_WINDOW, f"a connection window of {window} is too much")
    late = await refused(conn, end=False)
    await unread_answer(ctx, conn, other)
    before = await other.stats()
    for length in pieces(conn.send_limit - conn.sent_cost - OPEN_COST, 16_384):
        late.send(bytes(length))
    conn.violate(wire.request(late.id, late.next_seq, bytes(1_024)))
    conn.open("conformance.sleep", {"ms": LONG_MS})  # within the limit, if nothing exceeded it
    # Megabytes may still wait in the worker's kernel: before they are read no update may leave.
    await _taken_in(ctx, other, before)
    conn.transport.resume_reading()
    await conn.expect_connection_error("FLOW_CONTROL_ERROR", last_ordinal=2)
    conn.abort()


async def _taken_in(ctx: Context, other: Connection, before: dict[str, int]) -> None:
    """Wait until the last request has been opened, or an error has stopped the handlers."""
    ends = time.monotonic() + MOST_BLOCKED
    while time.monotonic() < ends:
        stats = await other.stats()
        if stats["opened"] > before["opened"] or stats["active"] < before["active"]:
            return
        await pause(other, 0.01)
    ctx.unprepared("a worker that reads on while its output is blocked (FLW-011)", stats)


@case("FLW-002/header-is-charged", checks=["goaway", "end"], twin=SAME, features=NEEDS)
async def header_is_charged(ctx: Context) -> None:
    """Empty messages cost 32 each: enough of them exceed the limit of a stream."""
    conn = await ctx.ready()
    stream = await _fill(conn)
    empty = [wire.request(stream.id, stream.next_seq + number) for number in range(64)]
    conn.violate(b"".join(empty), instead_of=wire.ping())
    await conn.expect_connection_error("FLOW_CONTROL_ERROR", last_ordinal=1)


@case("FLW-002/exempt-end-is-free", checks=["works"], features=NEEDS)
async def exempt_end_is_free(ctx: Context) -> None:
    """An empty REQUEST with END_STREAM costs nothing, also when the limit is used up."""
    conn = await ctx.ready()
    stream = await _fill(conn)
    stream.finish()
    await conn.fence(check="works")


# -- FLW-003 -----------------------------------------------------------------------------------


@case("FLW-003/absolute-limit", checks=["filled"], features=NEEDS)
async def absolute_limit(ctx: Context) -> None:
    """WINDOW_UPDATE sets an absolute limit: exactly so much more flows, step by step."""
    stream = await _narrow(ctx, "conformance.generate", {"count": 100_000, "size": 200})
    conn, limit = stream.connection, WINDOW
    await _blocked(ctx, conn, stream, limit)
    for _ in range(3):
        limit += 40_000
        conn.send(wire.window_update(limit, request_id=stream.id))
        cost = await _blocked(ctx, conn, stream, limit)
        _check_cost(ctx, cost, limit, 232, check="filled")


@case("FLW-003/absolute-connection-limit", checks=["filled"], features=NEEDS)
async def absolute_connection_limit(ctx: Context) -> None:
    """WINDOW_UPDATE with the zero id sets the limit of the connection."""
    conn = await ctx.ready(
        {"INITIAL_STREAM_WINDOW": 4_194_304, "CONNECTION_WINDOW": CONNECTION_WINDOW}
    )
    conn.auto_credit = False
    conn.open("conformance.source", {"bytes": 4_000_000}, discard=True)
    limit = CONNECTION_WINDOW
    for _ in range(3):
        await _filled(ctx, conn, limit)
        await conn.fence()
        _check_cost(ctx, conn.received_cost, limit, LEAST, check="filled")
        limit += 100_000
        conn.send(wire.window_update(limit))


@case("FLW-003/lower-value-ignored", checks=["served"], features=NEEDS)
async def lower_value_ignored(ctx: Context) -> None:
    """A lower or an equal value is ignored: the stream's limit stays as it was."""
    conn = await ctx.ready()
    stream = await echoing(conn)
    for limit in (262_144, 40, 1, 0):
        conn.send(wire.window_update(limit, request_id=stream.id))
    stream.send(bytes(10_000), end=True)
    await stream.result(check="served")


@case("FLW-003/lower-behind-higher", checks=["filled"], features=NEEDS)
async def lower_behind_higher(ctx: Context) -> None:
    """A lower value right behind a higher one takes nothing away."""
    stream = await _narrow(ctx, "conformance.generate", {"count": 100_000, "size": 200})
    conn = stream.connection
    await _blocked(ctx, conn, stream, WINDOW)
    limits = (WINDOW + 40_000, WINDOW + 300, 1)
    conn.send(*(wire.window_update(limit, request_id=stream.id) for limit in limits))
    cost = await _blocked(ctx, conn, stream, limits[0])
    _check_cost(ctx, cost, limits[0], 232, check="filled")


@case("FLW-003/lower-connection-value-ignored", checks=["served"], features=NEEDS)
async def lower_connection_value_ignored(ctx: Context) -> None:
    """A lower or an equal value with the zero id is ignored: the limit stays as it was."""
    conn = await ctx.ready()
    for limit in (67_108_864, 40, 1, 0):
        conn.send(wire.window_update(limit))
    await conn.call("conformance.echo", bytes(10_000), check="served")


def _declare_huge(name: str, title: str, target: str, value: int) -> None:
    async def huge(ctx: Context) -> None:
        conn = await ctx.ready()
        number = wire.CONNECTION_ID
        if target == "finished":
            number = (await refused(conn)).id
        elif target == "live":
            number = (await echoing(conn)).id
        elif target == "unknown":
            number = ctx.new_id()
        bad, good = (
            wire.window_update(limit, request_id=number) for limit in (value, (1 << 63) - 1)
        )
        conn.violate(bad, instead_of=good)
        await conn.expect_connection_error("FLOW_CONTROL_ERROR")

    features = NEEDS if target == "live" else []
    checks = ["goaway", "end"]
    declare(f"FLW-003/{name}", title, huge, checks=checks, twin=SAME, features=features)


for _target in ("connection", "live", "finished", "unknown"):
    for _word, _value in (("2-63", 1 << 63), ("2-64-minus-1", (1 << 64) - 1)):
        _declare_huge(
            f"limit-{_word}-{_target}",
            f"A limit of {_word.replace('-', '^', 1).replace('-minus-', ' - ')} for the"
            f" {_target} id is FLOW_CONTROL_ERROR.".replace("the connection id", "the zero id"),
            _target,
            _value,
        )


# -- FLW-004 -----------------------------------------------------------------------------------


@case("FLW-004/cancelled-without-credit", checks=["cancelled", "no-data"], features=NEEDS)
async def cancelled_without_credit(ctx: Context) -> None:
    """The error terminal of a killed request is sent although its window is full."""
    stream = await _narrow(ctx, "conformance.generate", {"count": 100_000, "size": 200})
    cost = await _blocked(ctx, stream.connection, stream, WINDOW)
    stream.kill()
    await error_terminal(stream, "CANCELLED", check="cancelled", within=1.0)
    good = stream.received_cost == cost
    ctx.check("no-data", good, expected=f"a cost of {cost}", actual=stream.received_cost)


async def _all_messages(ctx: Context, stream: Stream, number: int) -> None:
    """Prepare: the window is used up by all the messages of a handler, and nothing else."""
    conn = stream.connection
    await conn.until(lambda: len(stream.messages) == number, ctx.patience.seconds)
    if len(stream.messages) < number:
        conn.fail(None, f"{number} messages that fill the window")


@case("FLW-004/handler-error-without-credit", checks=["failed"], features=NEEDS)
async def handler_error_without_credit(ctx: Context) -> None:
    """An error that the handler returns is sent although less than a frame's cost is left."""
    number = WINDOW // (wire.HEADER_SIZE + 8)
    stream = await _narrow(ctx, "conformance.fail", {"after": number})
    await _all_messages(ctx, stream, number)
    await error_terminal(stream, "APPLICATION_ERROR", check="failed")


@case("FLW-004/success-without-credit", checks=["ended"], features=NEEDS)
async def success_without_credit(ctx: Context) -> None:
    """An empty success terminal is sent although the window is used up to the last unit."""
    number = WINDOW // 64
    stream = await _narrow(ctx, "conformance.generate", {"count": number, "size": 32})
    await _all_messages(ctx, stream, number)
    await stream.result(check="ended")


@case("FLW-004/refusal-on-a-full-connection", checks=["refused"], features=NEEDS)
async def refusal_on_a_full_connection(ctx: Context) -> None:
    """A refusal is sent although the connection's window is full."""
    conn = await ctx.ready(
        {"INITIAL_STREAM_WINDOW": CONNECTION_WINDOW, "CONNECTION_WINDOW": CONNECTION_WINDOW}
    )
    conn.auto_credit = False
    for _ in range(2):
        conn.open("conformance.source", {"bytes": CONNECTION_WINDOW}, discard=True)
    await _filled(ctx, conn, CONNECTION_WINDOW)
    stream = conn.open(NO_SUBJECT)
    await error_terminal(stream, "NOT_FOUND", check="refused", not_processed=True)


# -- FLW-005 -----------------------------------------------------------------------------------

BEHIND = WINDOW // (wire.HEADER_SIZE + 8) + 400


async def _check_waits(ctx: Context, stream: Stream) -> None:
    """Judge that no terminal comes while data is blocked; then let all of it flow."""
    await _blocked(ctx, stream.connection, stream, WINDOW)
    waits = stream.terminal is None
    ctx.check("waits", waits, expected="no terminal before the data", actual=stream.terminal)
    stream.connection.send(wire.window_update(PLENTY, request_id=stream.id))


def _declare_error_behind_data(
    name: str, title: str, error: str, parameters: dict[str, object]
) -> None:
    async def error_behind_data(ctx: Context) -> None:
        stream = await _narrow(ctx, "conformance.fail", {"after": BEHIND, **parameters})
        await _check_waits(ctx, stream)
        await error_terminal(stream, error, check="error")
        number = len(stream.messages)
        ctx.check("data", number == BEHIND, expected=f"{BEHIND} messages", actual=number)

    checks = ["waits", "error", "data"]
    declare(f"FLW-005/{name}", title, error_behind_data, checks=checks, features=NEEDS)


for _code in ("APPLICATION_ERROR", "CANCELLED", "DEADLINE_EXCEEDED", "MESSAGE_TOO_LARGE"):
    _declare_error_behind_data(
        f"handler-error-{_code.lower().replace('_', '-')}",
        f"{_code} comes after all data when it is the handler itself that returns it.",
        _code,
        {"code": wire.code(_code)},
    )
_declare_error_behind_data(
    "handler-panics",
    "The error of a handler that panics comes after all data that it produced.",
    "APPLICATION_ERROR",
    {"panic": True},
)


@case("FLW-005/success-behind-data", checks=["waits", "success", "data"], features=NEEDS)
async def success_behind_data(ctx: Context) -> None:
    """A success terminal comes after all data that the handler produced."""
    stream = await _narrow(ctx, "conformance.generate", {"count": BEHIND, "size": 8})
    await _check_waits(ctx, stream)
    messages = await stream.result(check="success")
    number = len(messages)
    ctx.check("data", number == BEHIND, expected=f"{BEHIND} messages", actual=number)


async def _check_discarded(stream: Stream, cost: int, code: str, within: float) -> None:
    await error_terminal(stream, code, check="error", within=within)
    conn = stream.connection
    conn.send(wire.window_update(PLENTY, request_id=stream.id))
    await conn.fence()
    same, got = stream.received_cost == cost, stream.received_cost
    conn.context.check("discarded", same, expected=f"no more than a cost of {cost}", actual=got)


@case("FLW-005/deadline-discards", checks=["error", "discarded"], features=NEEDS)
async def deadline_discards(ctx: Context) -> None:
    """DEADLINE_EXCEEDED discards data that waits for credit and goes at once."""
    conn = await ctx.ready({"INITIAL_STREAM_WINDOW": WINDOW})
    conn.auto_credit = False
    stream = conn.open("conformance.generate", {"count": BEHIND, "size": 8}, timeout_ms=200)
    cost = await _blocked(ctx, conn, stream, WINDOW)
    await _check_discarded(stream, cost, "DEADLINE_EXCEEDED", 1.2)


@case("FLW-005/kill-discards", checks=["error", "discarded"], features=NEEDS)
async def kill_discards(ctx: Context) -> None:
    """CANCELLED discards data that waits for credit and goes at once."""
    stream = await _narrow(ctx, "conformance.generate", {"count": BEHIND, "size": 8})
    cost = await _blocked(ctx, stream.connection, stream, WINDOW)
    stream.kill()
    await _check_discarded(stream, cost, "CANCELLED", 1.0)


@case("FLW-005/shutdown-discards", checks=["error", "discarded"], features=NEEDS)
async def shutdown_discards(ctx: Context) -> None:
    """SHUTDOWN discards data that waits for credit and goes at once."""
    stream = await _narrow(ctx, "conformance.generate", {"count": BEHIND, "size": 8})
    conn = stream.connection
    cost = await _blocked(ctx, conn, stream, WINDOW)
    await conn.call("conformance.drain", {"grace_ms": 50})
    await error_terminal(stream, "SHUTDOWN", check="error", within=1.05)
    await conn.expect_end(check=None)
    same, got = stream.received_cost == cost, stream.received_cost
    ctx.check("discarded", same, expected=f"no more than a cost of {cost}", actual=got)


# -- FLW-006 -----------------------------------------------------------------------------------


@case("FLW-006/half-a-window-is-available", checks=["stream", "connection"], features=NEEDS)
async def half_a_window_is_available(ctx: Context) -> None:
    """Within 1 s after all was consumed at least half of each initial window is available."""
    conn = await ctx.ready()
    stream = conn.open("conformance.sink", {}, end=False)
    window = conn.peer_settings["INITIAL_STREAM_WINDOW"]
    not_applicable_unless(window <= MOST_WINDOW, f"a stream window of {window} is too much to fill")
    for length in pieces(window - stream.sent_cost, 16_384):
        stream.send(bytes(length))

    def room() -> int:
        return stream.send_limit - stream.sent_cost

    await conn.until(lambda: room() >= window // 2, ctx.patience.bound(1.0))
    ctx.check("stream", room() >= window // 2, expected=f"{window // 2}", actual=room())
    half = conn.peer_settings["CONNECTION_WINDOW"] // 2
    left = conn.send_limit - conn.sent_cost
    ctx.check("connection", left >= half, expected=f"at least {half}", actual=left)


@case("FLW-006/long-upload", checks=["credit", "received"], features=NEEDS)
async def long_upload(ctx: Context) -> None:
    """An upload of more than all windows is never blocked for more than 1 s."""
    conn = await ctx.ready()
    windows = conn.peer_settings
    window = max(4 * windows["INITIAL_STREAM_WINDOW"], windows["CONNECTION_WINDOW"])
    not_applicable_unless(window <= MOST_WINDOW, f"windows of {window} are too much to fill")
    total = window + window // 4
    stream = conn.open("conformance.sink", {}, end=False)
    size = min(16_384, windows["MAX_FRAME_SIZE"])
    bound = ctx.patience.bound(1.0)
    for _ in range(total // size):
        good = await _credit(stream, size + wire.HEADER_SIZE, bound)
        ctx.check("credit", good, expected=f"credit for {size}", actual=_room(stream))
        stream.send(bytes(size))
    stream.finish()
    answer = await stream.json()
    sent = total // size * size
    good = answer.get("bytes") == sent
    ctx.check("received", good, expected=f"{sent} octets", actual=answer)


# -- FLW-007 -----------------------------------------------------------------------------------


@case("FLW-007/message-above-the-window", checks=["passed"], features=NEEDS)
async def message_above_the_window(ctx: Context) -> None:
    """A message larger than the window passes, since its chunks are credited as they come."""
    conn = await ctx.ready()
    window, most = (
        conn.peer_settings[name] for name in ("INITIAL_STREAM_WINDOW", "MAX_MESSAGE_SIZE")
    )
    size = 4 * window
    fits = size <= min(most, MOST_WINDOW)
    not_applicable_unless(fits, f"a stream window of {window}, messages of at most {most}")
    stream = conn.open("conformance.sink", {}, end=False)
    left = size
    while left:
        piece = min(left, 16_384)
        good = await _credit(stream, piece + wire.HEADER_SIZE, ctx.patience.seconds)
        ctx.check("passed", good, expected=f"credit for {piece} more", actual=_room(stream))
        left -= piece
        stream.send(bytes(piece), more=left > 0, end=left == 0)
    answer = await stream.json()
    good = answer.get("bytes") == size
    ctx.check("passed", good, expected=f"a message of {size} octets", actual=answer)


def _declare_stalled(name: str, title: str, *, more: bool) -> None:
    async def stalled(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = await _fill(conn, more=more)
        for _ in range(3):
            await conn.fence()
            await conn.call("conformance.echo", b"time passes")
        most = conn.peer_settings["INITIAL_STREAM_WINDOW"] + OPEN_COST
        limit = stream.send_limit
        ctx.check("held", limit <= most, expected=f"a limit of at most {most}", actual=limit)

    declare(f"FLW-007/{name}", title, stalled, checks=["held"], features=NEEDS)


_declare_stalled(
    "stalled-messages-are-not-credited",
    "While the application has stopped consuming, messages are not credited.",
    more=False,
)
_declare_stalled(
    "stalled-chunks-are-not-credited",
    "While the application has stopped consuming, chunks of a message are not credited.",
    more=True,
)


# -- FLW-008 -----------------------------------------------------------------------------------


async def _check_returned(ctx: Context, conn: Connection) -> None:
    """Judge that less than a quarter of the connection's window is still to be returned."""
    quarter = conn.peer_settings["CONNECTION_WINDOW"] // 4

    def room() -> int:
        return conn.send_limit - conn.sent_cost

    await conn.until(lambda: room() >= 3 * quarter, ctx.patience.seconds)
    ctx.check("returned", room() >= 3 * quarter, expected=f"{3 * quarter}", actual=room())


async def _ready_to_waste(ctx: Context) -> Connection:
    conn = await ctx.ready()
    window = conn.peer_settings["CONNECTION_WINDOW"]
    not_applicable_unless(window <= MOST_WINDOW, f"a connection window of {window} is too much")
    return conn


def _wasted(conn: Connection) -> bool:
    """Tell whether enough was sent that a leak of it would show."""
    return conn.sent_cost > conn.peer_settings["CONNECTION_WINDOW"] * 5 // 8


@case("FLW-008/killed-requests", checks=["returned"], features=NEEDS)
async def killed_requests(ctx: Context) -> None:
    """What a killed request had not read is returned to the connection's limit."""
    conn = await _ready_to_waste(ctx)
    while not _wasted(conn):
        stream = await _fill(conn)
        await conn.flushed()
        stream.kill()
        await stream.end()
    await _check_returned(ctx, conn)


@case("FLW-008/refused-opens", checks=["returned"])
async def refused_opens(ctx: Context) -> None:
    """The cost of refused OPENs is returned to the connection's limit."""
    conn = await _ready_to_waste(ctx)
    known = conn.peer_settings
    size = min(known["MAX_FRAME_SIZE"], known["INITIAL_STREAM_WINDOW"]) - OPEN_COST
    few = known["CONNECTION_WINDOW"] / size < 900  # DOS-001 tolerates 1,000 refusals at once
    not_applicable_unless(few, "more refusals would be needed than are tolerated")
    while not _wasted(conn):
        await conn.open(NO_SUBJECT, bytes(size)).end()
    await _check_returned(ctx, conn)


@case("FLW-008/late-chunks", checks=["returned"])
async def late_chunks(ctx: Context) -> None:
    """The cost of chunks that come behind a terminal is returned to the connection's limit."""
    conn = await _ready_to_waste(ctx)
    window = conn.peer_settings["INITIAL_STREAM_WINDOW"]
    few = conn.peer_settings["CONNECTION_WINDOW"] / window < 900
    not_applicable_unless(few, "more refusals would be needed than are tolerated")
    while not _wasted(conn):
        stream = await refused(conn, end=False)
        for length in pieces(min(window, 1_048_576) - stream.sent_cost, 16_384):
            stream.send(bytes(length))
        await conn.flushed()
    await _check_returned(ctx, conn)


@case("FLW-008/finished-with-unread-data", checks=["returned"], features=NEEDS)
async def finished_with_unread_data(ctx: Context) -> None:
    """What a finished handler had not read is returned to the connection's limit."""
    conn = await _ready_to_waste(ctx)
    window = min(conn.peer_settings["INITIAL_STREAM_WINDOW"], 1_048_576)
    while not _wasted(conn):
        streams: list[Stream] = []
        while not _wasted(conn) and len(streams) < 90:
            stream = conn.open("conformance.sink", {"stall": True}, end=False, timeout_ms=100)
            for length in pieces(window - stream.sent_cost, 16_384):
                stream.send(bytes(length))
            streams.append(stream)
        for stream in streams:
            await stream.end()
    await _check_returned(ctx, conn)


@case("FLW-008/unknown-ids", checks=["returned"])
async def unknown_ids(ctx: Context) -> None:
    """The cost of chunks for ids that were never opened is returned to the connection's limit."""
    conn = await _ready_to_waste(ctx)
    size = min(conn.peer_settings["MAX_FRAME_SIZE"], WINDOW - wire.HEADER_SIZE)
    number = conn.peer_settings["CONNECTION_WINDOW"] * 5 // 8 // size + 1
    not_applicable_unless(number < 100, "more glitches would be needed than are tolerated")
    for _ in range(number):
        conn.send(wire.request(ctx.new_id(), 1, bytes(size)))
    await conn.fence()
    await _check_returned(ctx, conn)


# -- FLW-009 -----------------------------------------------------------------------------------


@case("FLW-009/stalled-streams", checks=["credit", "room", "served"], features=NEEDS)
async def stalled_streams(ctx: Context) -> None:
    """Streams whose consumers stall hold at most half of the connection's window."""
    conn = await ctx.ready()
    known = conn.peer_settings
    window, share = known["CONNECTION_WINDOW"], known["INITIAL_STREAM_WINDOW"]
    number, most = window // share + 1, known["MAX_CONCURRENT_REQUESTS"]
    not_applicable_unless(
        max(window, share) <= MOST_WINDOW and number < most,
        f"{number} streams with windows of {share} are too much to fill",
    )
    for _ in range(number):
        room = await connection_credit(conn, OPEN_COST, ctx.patience.seconds)
        ctx.check("credit", room >= OPEN_COST, expected="connection credit to open", actual=room)
        stream = conn.open("conformance.sink", {"stall": True}, end=False)
        for length in pieces(share - stream.sent_cost, min(known["MAX_FRAME_SIZE"], 65_536)):
            cost = length + wire.HEADER_SIZE
            # The worker may also end the stream that has stalled longest.
            room = await connection_credit(conn, cost, ctx.patience.seconds)
            words = f"connection credit for {cost}"
            ctx.check("credit", room >= cost, expected=words, actual=room)
            stream.send(bytes(length))
    # Half may be held, and less than a quarter may be due without an update (FLW-008).
    room = await connection_credit(conn, window // 4, ctx.patience.seconds)
    words = f"{window // 4} available"
    ctx.check("room", room >= window // 4, expected=words, actual=room)
    await conn.call("conformance.echo", bytes(10_000), check="served")


# -- FLW-010 -----------------------------------------------------------------------------------


def _declare_suspended(
    name: str, title: str, subject: str, parameters: dict[str, object], most: int
) -> None:
    async def suspended(ctx: Context) -> None:
        other = await ctx.ready()
        before = await unmoving(ctx, other)
        stream = await _narrow(ctx, subject, parameters)
        await _blocked(ctx, stream.connection, stream, WINDOW)
        bound = before["buffered_bytes"] + most + MARGIN
        stats = await unmoving(ctx, other, most=bound)
        held = stats["buffered_bytes"]
        ctx.check("bounded", held <= bound, expected=f"at most {bound}", actual=held)
        known = stream.received_cost
        stream.connection.send(wire.window_update(4 * WINDOW, request_id=stream.id))
        await stream.connection.until(lambda: stream.received_cost > known, ctx.patience.seconds)
        good = stream.received_cost > known
        ctx.check("goes-on", good, expected="more data with more credit", actual=known)

    checks = ["bounded", "goes-on"]
    declare(f"FLW-010/{name}", title, suspended, checks=checks, features=NEEDS, exclusive=True)


_declare_suspended(
    "messages-of-1024",
    "A handler without credit is suspended when 1 MiB of its messages waits.",
    "conformance.generate",
    {"count": 1_000_000, "size": 1_024},
    SEND_BUFFER,
)
_declare_suspended(
    "messages-of-8",
    "What waits is counted in cost units, so tiny messages do not add up.",
    "conformance.generate",
    {"count": 1_000_000, "size": 8},
    SEND_BUFFER,
)
_declare_suspended(
    "one-long-message",
    "A message above 1 MiB is buffered alone.",
    "conformance.source",
    {"bytes": 4 * SEND_BUFFER, "messages": 16},
    4 * SEND_BUFFER,
)


# -- FLW-011 -----------------------------------------------------------------------------------


@case(
    "FLW-011/blocked-output",
    checks=["opened", "cancelled", "served"],
    features=NEEDS,
    exclusive=True,
)
async def blocked_output(ctx: Context) -> None:
    """The worker goes on reading and processing frames while it cannot write."""
    other = await ctx.ready()
    before = await at_rest(ctx, other)
    conn = await ctx.ready(WIDE, receive_buffer=LITTLE_BUFFER)
    source = await unread_answer(ctx, conn, other)
    sink = conn.open("conformance.sink", {}, end=False)
    window = min(conn.peer_settings["INITIAL_STREAM_WINDOW"], 240 * 1_024)
    lengths = pieces(window - sink.sent_cost, 16_384)
    for length in lengths:
        sink.send(bytes(length))
    sink.finish()
    sleepers = [conn.open("conformance.sleep", {"ms": LONG_MS}) for _ in range(5)]
    await settles(
        ctx,
        other,
        lambda stats: stats["opened"] >= before["opened"] + 7,
        check="opened",
        expected="7 requests opened",
    )
    for stream in sleepers:
        stream.kill()
    await settles(
        ctx,
        other,
        lambda stats: stats["cancelled"] >= before["cancelled"] + 5,
        check="cancelled",
        expected="5 handlers cancelled",
    )
    source.kill()
    conn.transport.resume_reading()
    answer = await sink.json(check="served")
    good = answer.get("bytes") == sum(lengths)
    ctx.check("served", good, expected=f"{sum(lengths)} octets", actual=answer)


@case("FLW-011/stalled-handler", checks=["served"], features=NEEDS)
async def stalled_handler(ctx: Context) -> None:
    """Frames are read and processed also while a handler takes nothing of its request."""
    conn = await ctx.ready()
    await _fill(conn)
    for _ in range(5):
        await conn.fence()
        await conn.call("conformance.echo", bytes(10_000), check="served")


# -- FLW-012 -----------------------------------------------------------------------------------


@case("FLW-012/few-updates", checks=["stream", "connection"], features=NEEDS, timed=True)
async def few_updates(ctx: Context) -> None:
    """Limits are raised in steps of at least a quarter of the window, and not per frame."""
    conn = await ctx.ready()
    stream = conn.open("conformance.sink", {}, end=False)
    for _ in range(100):
        if _room(stream) >= 4_096:
            stream.send(bytes(4_000))
        await pause(conn, 0.003)  # a fast upload would hide updates that were merged
    await conn.fence()
    for check, request_id, name, cost in (
        ("stream", stream.id, "INITIAL_STREAM_WINDOW", stream.sent_cost),
        ("connection", wire.CONNECTION_ID, "CONNECTION_WINDOW", conn.sent_cost),
    ):
        updates = [one for one in conn.frames if one.limit and one.request_id == request_id]
        most = cost // (conn.peer_settings[name] // 4) + 1
        words = f"at most {most} updates for a cost of {cost}"
        ctx.check(check, len(updates) <= most, expected=words, actual=len(updates))
    stream.finish()
    await stream.end()


# -- FLW-013 -----------------------------------------------------------------------------------


@case("FLW-013/blocked-for-long", checks=["ended", "not-early"], features=NEEDS, timed=True)
async def blocked_for_long(ctx: Context) -> None:
    """A stream that has been blocked on the client's credit for too long ends: SLOW_CONSUMER."""
    configured = ctx.info.get("slow_consumer_ms")
    wait = configured / 1_000 if isinstance(configured, int) else 60.0
    not_applicable_unless(wait <= MOST_WAIT, f"slow_consumer_ms is {wait:g} s, too long to wait")
    started = time.monotonic()
    stream = await _narrow(ctx, "conformance.generate", {"count": 100_000, "size": 200})
    frame = await error_terminal(stream, "SLOW_CONSUMER", check="ended", within=wait + 2.0)
    took = frame.at - started
    ctx.check("not-early", took >= wait, expected=f"{wait:g} s or more", actual=f"{took:.3f} s")
