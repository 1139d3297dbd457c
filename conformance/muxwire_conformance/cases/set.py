"""Settings: SET-001 to SET-005, as a worker shows them."""

from __future__ import annotations

from muxwire_spec.model import Setting
from muxwire_spec.registries import SETTINGS

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import (
    NO_SUBJECT,
    OPEN_COST,
    declare,
    echoing,
    error_terminal,
    not_applicable_unless,
    pieces,
)
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection

MOST_REQUESTS = 2_048
MOST_MESSAGE = 64 * 1_048_576
TOP_BIT = 1 << 63
UNASSIGNED_IDS = (0x0000, 0x0008, 0x0100, 0x7FFF, 0xFFFF)


# -- SET-001 -----------------------------------------------------------------------------------


def _declare_refused(name: str, title: str, known: Setting, bad: int, good: int) -> None:
    async def refused_value(ctx: Context) -> None:
        conn = await ctx.connect()
        conn.send(wire.preface())
        legal = conn.settings({known.name: good})
        conn.violate(conn.settings({known.name: bad}), instead_of=legal)
        await conn.expect_connection_error("SETTINGS_ERROR", last_ordinal=0)

    declare(f"SET-001/{name}", title, refused_value, checks=["goaway", "end"], twin=SAME)


for _known in SETTINGS:
    _name = _known.name.lower().replace("_", "-")
    _most, _least = _known.maximum, _known.minimum
    _end = "is a connection error SETTINGS_ERROR."
    _title = f"{_known.name} one below its minimum {_end}"
    _declare_refused(f"{_name}-below-minimum", _title, _known, _least - 1, _least)
    _title = f"{_known.name} one above its maximum {_end}"
    _declare_refused(f"{_name}-above-maximum", _title, _known, _most + 1, _most)
    _title = f"{_known.name} of 0 means 0, not 'no limit', and {_end}"
    _declare_refused(f"{_name}-zero", _title, _known, 0, _least)
    _title = f"{_known.name} with the top bit set is a large number and {_end}"
    _declare_refused(f"{_name}-top-bit", _title, _known, TOP_BIT | _least, _least)


# -- SET-002 -----------------------------------------------------------------------------------


async def _bare(
    ctx: Context, pairs: list[tuple[str | int, int]], *, check: str | None = None
) -> Connection:
    """Set a connection up with exactly these settings."""
    conn = await ctx.connect()
    conn.send(wire.preface(), wire.settings(pairs))
    await conn.expect_preface()
    await conn.expect("SETTINGS")
    await conn.expect("SETTINGS_ACK", check=check)
    conn.send(wire.settings_ack())
    return conn


@case("SET-002/unknown-ids", checks=["set-up", "works"])
async def unknown_ids(ctx: Context) -> None:
    """Unknown setting ids, grease and unassigned ones, are ignored whatever their value."""
    unknown = [0x0A0A | nibble * 0x1010 for nibble in range(16)] + list(UNASSIGNED_IDS)
    pairs: list[tuple[str | int, int]] = [(number, ctx.rng.getrandbits(64)) for number in unknown]
    conn = await _bare(ctx, pairs, check="set-up")
    await conn.fence(check="works")


def _declare_repeated(name: str, title: str, first: str | int, second: tuple[int, int]) -> None:
    async def repeated(ctx: Context) -> None:
        conn = await ctx.connect()
        conn.send(wire.preface())
        pairs: list[tuple[str | int, int]] = [(first, second[0]), ("MAX_METADATA_SIZE", 8_192)]
        bad = wire.settings([*pairs, (first, second[1])])
        conn.violate(bad, instead_of=wire.settings([*pairs, (0x3A3A, second[1])]))
        await conn.expect_connection_error("SETTINGS_ERROR", last_ordinal=0)

    declare(f"SET-002/{name}", title, repeated, checks=["goaway", "end"], twin=SAME)


_declare_repeated(
    "repeated-known",
    "A known setting that occurs twice is a connection error SETTINGS_ERROR.",
    "MAX_FRAME_SIZE",
    (16_384, 65_536),
)
_declare_repeated(
    "repeated-with-same-value",
    "A setting that occurs twice with the same value is a connection error SETTINGS_ERROR.",
    "IDLE_TIMEOUT_MS",
    (60_000, 60_000),
)
_declare_repeated(
    "repeated-unknown",
    "An unknown setting id that occurs twice is a connection error SETTINGS_ERROR.",
    0x5A5A,
    (1, 2),
)


@case("SET-002/no-settings-at-all", checks=["works"])
async def no_settings_at_all(ctx: Context) -> None:
    """An empty SETTINGS leaves every setting at its assumed value."""
    conn = await _bare(ctx, [])
    await conn.fence(check="works")


@case("SET-002/missing-frame-size", checks=["whole", "assumed"], features=["conformance"])
async def missing_frame_size(ctx: Context) -> None:
    """A client that does not announce MAX_FRAME_SIZE gets frames of at most 16,384 octets."""
    conn = await _bare(ctx, [("INITIAL_STREAM_WINDOW", 1_048_576)])
    stream = conn.open("conformance.source", {"bytes": 200_000})
    messages = await stream.result()
    ctx.check("whole", len(messages[0]) == 200_000, expected="200000", actual=len(messages[0]))
    largest = max(stream.frames, key=lambda frame: frame.length)
    good = largest.length <= 16_384
    ctx.check("assumed", good, expected="at most 16384", actual=largest.length, frame=largest)


@case("SET-002/missing-stream-window", checks=["assumed"], features=["conformance"])
async def missing_stream_window(ctx: Context) -> None:
    """A client that does not announce INITIAL_STREAM_WINDOW gets at most 65,536 per stream."""
    conn = await _bare(ctx, [("MAX_FRAME_SIZE", 65_536)])
    conn.auto_credit = False
    stream = conn.open("conformance.source", {"bytes": 200_000})
    await conn.until(lambda: stream.received_cost >= 65_536 - 33, ctx.patience.seconds)
    await conn.fence()
    cost = stream.received_cost
    good = 65_536 - 33 <= cost <= 65_536
    ctx.check("assumed", good, expected="a cost of 65,536 less at most 33", actual=cost)


@case("SET-002/missing-connection-window", checks=["assumed"], features=["conformance"])
async def missing_connection_window(ctx: Context) -> None:
    """A client that does not announce CONNECTION_WINDOW gets at most 1,048,576 in all."""
    conn = await _bare(ctx, [("INITIAL_STREAM_WINDOW", 4_194_304), ("MAX_MESSAGE_SIZE", 4_194_304)])
    conn.auto_credit = False
    conn.open("conformance.source", {"bytes": 2_000_000}, discard=True)
    await conn.until(lambda: conn.received_cost >= 1_048_576 - 33, ctx.patience.seconds)
    await conn.fence()
    cost = conn.received_cost
    good = 1_048_576 - 33 <= cost <= 1_048_576
    ctx.check("assumed", good, expected="a cost of 1,048,576 less at most 33", actual=cost)


@case("SET-002/missing-message-size", checks=["fits", "too-large"], features=["conformance"])
async def missing_message_size(ctx: Context) -> None:
    """A client that does not announce MAX_MESSAGE_SIZE gets messages of at most 1 MiB."""
    conn = await _bare(ctx, [("MAX_FRAME_SIZE", 65_536)])
    fits = conn.open("conformance.source", {"bytes": 1_048_576}, discard=True)
    await fits.result(check="fits")
    above = conn.open("conformance.source", {"bytes": 1_048_577}, discard=True)
    await error_terminal(above, "MESSAGE_TOO_LARGE", check="too-large")


@case("SET-002/client-concurrency-ignored", checks=["served"], features=["conformance"])
async def client_concurrency_ignored(ctx: Context) -> None:
    """MAX_CONCURRENT_REQUESTS from a client limits nothing."""
    conn = await ctx.ready({"MAX_CONCURRENT_REQUESTS": 100})
    number = min(conn.peer_settings["MAX_CONCURRENT_REQUESTS"], 110)
    not_applicable_unless(number > 100, "the worker itself announces only 100")
    streams = [conn.open("conformance.echo", end=False) for _ in range(number)]
    for stream in streams:
        stream.send(b"x")
        await stream.message(check="served")


# -- SET-003 -----------------------------------------------------------------------------------


@case("SET-003/frame-size", checks=["whole", "obeyed"], features=["conformance"])
async def frame_size(ctx: Context) -> None:
    """The worker sends no frame above the client's MAX_FRAME_SIZE."""
    conn = await ctx.ready({"MAX_FRAME_SIZE": 20_000})
    stream = conn.open("conformance.source", {"bytes": 1_048_576})
    messages = await stream.result()
    sizes = [len(message) for message in messages]
    ctx.check("whole", sizes == [1_048_576], expected="[1048576]", actual=sizes)
    largest = max(stream.frames, key=lambda frame: frame.length)
    good = largest.length <= 20_000
    ctx.check("obeyed", good, expected="at most 20000", actual=largest.length, frame=largest)


@case(
    "SET-003/message-size", checks=["error", "fence", "flag"], twin=SAME, features=["conformance"]
)
async def message_size(ctx: Context) -> None:
    """A response message above MAX_MESSAGE_SIZE is MESSAGE_TOO_LARGE with NON_RETRYABLE."""
    conn = await ctx.ready({"MAX_MESSAGE_SIZE": 1_048_576})
    size = ctx.pick(1_048_577, 1_048_576)
    stream = conn.open("conformance.source", {"bytes": size}, discard=True)
    frame = await conn.expect_stream_error(stream, "MESSAGE_TOO_LARGE", not_processed=False)
    if frame is not None and frame.error is not None:
        good = frame.error.non_retryable
        ctx.check("flag", good, expected="NON_RETRYABLE", actual=frame.error, frame=frame)


@case("SET-003/message-size-is-per-message", checks=["served"], features=["conformance"])
async def message_size_is_per_message(ctx: Context) -> None:
    """MAX_MESSAGE_SIZE limits each message and not their sum."""
    conn = await ctx.ready({"MAX_MESSAGE_SIZE": 1_048_576})
    parameters = {"bytes": 700_000, "messages": 3}
    await conn.open("conformance.source", parameters, discard=True).result(check="served")


# -- SET-004 -----------------------------------------------------------------------------------


async def _serve_at_once(ctx: Context, number: int) -> None:
    conn = await ctx.ready()
    number = min(conn.peer_settings["MAX_CONCURRENT_REQUESTS"], MOST_REQUESTS, number)
    streams = [conn.open("conformance.echo", end=False) for _ in range(number)]
    for stream in reversed(streams):  # the last one answers while all the others are open
        stream.send(b"turn")
        await stream.message(check="served")
    await conn.fence()
    ended = [stream for stream in streams if stream.terminal is not None]
    good = not ended
    ctx.check("at-once", good, expected=f"{number} open requests", actual=f"{len(ended)} ended")


@case("SET-004/hundred-at-once", checks=["served", "at-once"], features=["conformance"])
async def hundred_at_once(ctx: Context) -> None:
    """The worker serves 100 requests of a connection at the same time."""
    await _serve_at_once(ctx, 100)


@case("SET-004/announced-number-at-once", checks=["served", "at-once"], features=["conformance"])
async def announced_number_at_once(ctx: Context) -> None:
    """The worker accepts as many open requests as its MAX_CONCURRENT_REQUESTS says."""
    await _serve_at_once(ctx, MOST_REQUESTS)


def _fits_window(conn: Connection, payload: int) -> None:
    window = conn.peer_settings["INITIAL_STREAM_WINDOW"]
    fits = payload + wire.HEADER_SIZE + OPEN_COST <= window
    not_applicable_unless(fits, f"a stream window of {window} cannot carry a frame of {payload}")


@case("SET-004/full-frame", checks=["served", "whole"], features=["conformance"])
async def full_frame(ctx: Context) -> None:
    """A REQUEST with a payload of exactly MAX_FRAME_SIZE octets is accepted."""
    conn = await ctx.ready()
    size = conn.peer_settings["MAX_FRAME_SIZE"]
    _fits_window(conn, size)
    most = conn.peer_settings["MAX_MESSAGE_SIZE"]
    not_applicable_unless(size <= most, f"messages have at most {most} octets")
    stream = await echoing(conn)
    stream.send(bytes(size), end=True)
    messages = await stream.result(check="served")
    sizes = [len(message) for message in messages]
    ctx.check("whole", sizes == [5, size], expected=f"[5, {size}]", actual=sizes)


@case("SET-004/full-open", checks=["refused", "works"])
async def full_open(ctx: Context) -> None:
    """An OPEN with a payload of exactly MAX_FRAME_SIZE octets is accepted as a frame."""
    conn = await ctx.ready()
    size = conn.peer_settings["MAX_FRAME_SIZE"]
    _fits_window(conn, size - OPEN_COST)
    body = size - len(wire.open_metadata(NO_SUBJECT))
    stream = conn.open(NO_SUBJECT, bytes(body))
    await error_terminal(stream, "NOT_FOUND", check="refused", not_processed=True)
    await conn.fence(check="works")


@case("SET-004/full-metadata", checks=["refused", "works"])
async def full_metadata(ctx: Context) -> None:
    """A metadata block as large as the announced limits allow is accepted."""
    conn = await ctx.ready()
    known = conn.peer_settings
    size = min(known["MAX_METADATA_SIZE"], known["MAX_FRAME_SIZE"] - 4)
    _fits_window(conn, size + 4 - OPEN_COST)
    headers = [(f"filler-{number}", "x" * 8_000) for number in range(size // 8_100)]
    used = len(wire.open_metadata(NO_SUBJECT, headers=[*headers, ("rest", "")])) - 4
    stream = conn.open(NO_SUBJECT, headers=[*headers, ("rest", "x" * (size - used))])
    await error_terminal(stream, "NOT_FOUND", check="refused", not_processed=True)
    await conn.fence(check="works")


@case("SET-004/full-message", checks=["served", "whole"], features=["conformance"], exclusive=True)
async def full_message(ctx: Context) -> None:
    """A message of exactly MAX_MESSAGE_SIZE octets is accepted."""
    conn = await ctx.ready()
    size = conn.peer_settings["MAX_MESSAGE_SIZE"]
    not_applicable_unless(size <= MOST_MESSAGE, f"MAX_MESSAGE_SIZE is {size}, too much to try")
    stream = conn.open("conformance.sink", {}, end=False)
    await stream.send_message(bytes(size), end=True)
    answer = await stream.json(check="served")
    good = (answer.get("messages"), answer.get("bytes")) == (1, size)
    ctx.check("whole", good, expected=f"1 message of {size} octets", actual=answer)


# -- SET-005 -----------------------------------------------------------------------------------

EARLY_REQUESTS = 100
EARLY_WINDOW = 65_536
EARLY_TOTAL = 1_048_576


@case(
    "SET-005/assumed-values-at-once",
    requirements=["SET-005", "SET-004", "HSK-009"],
    checks=["served", "whole"],
    features=["conformance"],
)
async def assumed_values_at_once(ctx: Context) -> None:
    """Before any answer a client may use all that it may assume: 100 requests, 65,536, 1 MiB."""
    conn = await ctx.connect()
    conn.send(wire.preface(), conn.settings())
    largest = conn.open("conformance.sink", {}, end=False)
    sizes = pieces(EARLY_WINDOW - largest.sent_cost, 16_384)
    for size in sizes:
        largest.send(bytes(size))
    each = (EARLY_TOTAL - largest.sent_cost) // (EARLY_REQUESTS - 1) - OPEN_COST
    body = bytes(each)
    streams = [conn.open("conformance.echo", body) for _ in range(EARLY_REQUESTS - 1)]
    for stream in streams:
        messages = await stream.result(check="served")
        whole = messages == [body]
        ctx.check("whole", whole, expected=f"{each} octets", actual=[len(one) for one in messages])
    largest.finish()
    answer = await largest.json(check="served")
    ctx.check("whole", answer["bytes"] == sum(sizes), expected=f"{sum(sizes)}", actual=answer)


@case(
    "SET-005/early-stream-gets-the-announced",
    checks=["goaway", "end"],
    twin=SAME,
    features=["conformance"],
)
async def early_stream_gets_the_announced(ctx: Context) -> None:
    """A stream opened early has the announced initial limit from SETTINGS on, and no more."""
    conn = await ctx.connect()
    conn.send(wire.preface(), conn.settings())
    stream = conn.open("conformance.sink", {"stall": True}, end=False)
    await conn.expect("SETTINGS")
    conn.send(wire.settings_ack())
    await conn.expect("SETTINGS_ACK")
    window = conn.peer_settings["INITIAL_STREAM_WINDOW"]
    not_applicable_unless(window <= MOST_MESSAGE, f"a stream window of {window} is too much")
    for length in pieces(window - stream.sent_cost, 16_384):
        stream.send(bytes(length))
    await conn.fence()
    conn.violate(wire.request(stream.id, stream.next_seq, bytes(16_384)), instead_of=wire.ping())
    await conn.expect_connection_error("FLOW_CONTROL_ERROR", last_ordinal=1)
