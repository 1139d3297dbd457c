"""Setting up a connection: HSK-002 to HSK-009 and HSK-011, as a worker shows them."""

from __future__ import annotations

import asyncio
import time

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection

HANDSHAKE_LEAST = 1.0
HANDSHAKE_MOST = 15.0

TLS_CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(189))


def handshake_timeout(ctx: Context) -> float:
    """Return the target's handshake timeout in seconds, as declared or the most allowed."""
    declared = ctx.info.get("handshake_timeout_ms")
    return declared / 1_000 if isinstance(declared, int) else HANDSHAKE_MOST


# -- HSK-002 -----------------------------------------------------------------------------------


@case("HSK-002/silent-before-magic", checks=["silence", "answer"])
async def silent_before_magic(ctx: Context) -> None:
    """The worker sends nothing before it has received 8 octets equal to the magic."""
    conn = await ctx.connect()
    conn.send(wire.MAGIC[:7])
    other = await ctx.connect()
    other.send(wire.preface(), other.settings())
    await other.expect_preface()  # the younger connection has been served
    conn.expect_silence()
    conn.send(wire.preface()[7:], conn.settings())
    await conn.expect_preface(check="answer")
    await conn.fence()


async def _expect_dropped(ctx: Context, foreign: bytes) -> None:
    conn = await ctx.connect()
    conn.violate(foreign, instead_of=wire.preface() + conn.settings())
    if ctx.twin_run:
        await conn.expect_preface()
    # Before the shortest handshake timeout, so that this is not the timeout closing.
    await conn.expect_silence_then_eof(within=0.9 * HANDSHAKE_LEAST)


@case("HSK-002/http-request", checks=["silence", "end"], twin=SAME)
async def http_request(ctx: Context) -> None:
    """An HTTP request is dropped without a byte, as soon as its first octet differs."""
    await _expect_dropped(ctx, b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")


@case("HSK-002/tls-client-hello", checks=["silence", "end"], twin=SAME)
async def tls_client_hello(ctx: Context) -> None:
    """A TLS ClientHello is dropped without a byte."""
    await _expect_dropped(ctx, TLS_CLIENT_HELLO)


@case("HSK-002/one-differing-octet", checks=["silence", "end"], twin=SAME)
async def one_differing_octet(ctx: Context) -> None:
    """One octet that differs is enough; the worker does not wait for the other seven."""
    await _expect_dropped(ctx, b"\xf6")


@case("HSK-002/last-octet-differs", checks=["silence", "end"], twin=SAME)
async def last_octet_differs(ctx: Context) -> None:
    """A magic that differs in its last octet only is no magic."""
    bad = wire.preface(magic=wire.MAGIC[:7] + b"\x0b")
    await _expect_dropped(ctx, bad)


# -- HSK-003, HSK-004 --------------------------------------------------------------------------


async def _expect_selected(ctx: Context, offer: bytes) -> None:
    conn = await ctx.connect()
    conn.send(offer, conn.settings())
    preface = await conn.expect_preface(check="preface")
    ctx.check(
        "selected",
        (preface.ver_hi, preface.ver_lo, preface.header_size) == (1, 1, 32),
        expected="ver_hi = ver_lo = 1 and header_size 32",
        actual=preface,
    )
    await conn.fence(check="goes-on")


@case("HSK-003/offers-1-to-1", checks=["preface", "selected", "goes-on"])
async def offers_1_to_1(ctx: Context) -> None:
    """The range 1..1 selects version 1."""
    await _expect_selected(ctx, wire.preface(ver_hi=1, ver_lo=1))


@case("HSK-003/offers-1-to-200", checks=["preface", "selected", "goes-on"])
async def offers_1_to_200(ctx: Context) -> None:
    """The range 1..200 selects the highest common version, which is 1."""
    await _expect_selected(ctx, wire.preface(ver_hi=200, ver_lo=1))


@case("HSK-003/offers-0-to-1", checks=["preface", "selected", "goes-on"])
async def offers_0_to_1(ctx: Context) -> None:
    """The range 0..1 selects version 1."""
    await _expect_selected(ctx, wire.preface(ver_hi=1, ver_lo=0))


@case("HSK-003/reserved-octets", checks=["preface", "selected", "goes-on"])
async def reserved_octets(ctx: Context) -> None:
    """Flags and reserved octets of the preface are ignored."""
    await _expect_selected(ctx, wire.preface(flags=0xFF, reserved=0xDEADBEEF))


async def _expect_refused(ctx: Context, offer: bytes) -> tuple[int, int]:
    conn = await ctx.connect()
    conn.violate(offer, instead_of=wire.preface() + conn.settings())
    preface = await conn.expect_preface(check=None if ctx.twin_run else "preface")
    if ctx.twin_run:
        await conn.fence()
        return 0, 0
    end = await conn.expect_end(check="end")
    ctx.check(
        "no-frame",
        end.received == wire.PREFACE_SIZE,
        expected="exactly the 16 octets of the preface",
        actual=f"{end.received} octets",
    )
    ctx.check(
        "own-header-size", preface.header_size == 32, expected="header_size 32", actual=preface
    )
    return preface.ver_lo, preface.ver_hi


@case(
    "HSK-004/offers-7-to-9",
    checks=["preface", "end", "no-frame", "own-header-size", "range"],
    twin=SAME,
)
async def offers_7_to_9(ctx: Context) -> None:
    """An offer without a common version gets the supported range and the end, and no frame."""
    low, high = await _expect_refused(ctx, wire.preface(ver_hi=9, ver_lo=7))
    if not ctx.twin_run:
        good = low <= high < 7 and low <= 1 <= high
        expected = "a range that holds version 1 and does not meet 7..9"
        ctx.check("range", good, expected=expected, actual=f"{low}..{high}")


@case("HSK-004/header-size-48", checks=["preface", "end", "no-frame", "own-header-size"], twin=SAME)
async def header_size_48(ctx: Context) -> None:
    """An offer of another header size is refused."""
    await _expect_refused(ctx, wire.preface(header_size=48))


@case(
    "HSK-004/empty-range",
    requirements=["HSK-004", "HSK-003"],
    checks=["preface", "end", "no-frame", "own-header-size"],
    twin=SAME,
)
async def empty_range(ctx: Context) -> None:
    """An offer whose ver_lo is above its ver_hi is empty and refused, also from 2 down to 1."""
    await _expect_refused(ctx, wire.preface(ver_hi=1, ver_lo=2))


# -- HSK-005 to HSK-007 ------------------------------------------------------------------------


@case("HSK-005/worker-settings-first", checks=["settings"])
async def worker_settings_first(ctx: Context) -> None:
    """The first frame of the worker is SETTINGS."""
    conn = await ctx.connect()
    conn.send(wire.preface(), conn.settings())
    await conn.until(lambda: bool(conn.frames), conn.patience.seconds)
    if not conn.frames:
        conn.fail("settings", "SETTINGS")
    first = conn.frames[0]
    ctx.check("settings", first.name == "SETTINGS", expected="SETTINGS", actual=first, frame=first)
    await conn.fence()


async def _expect_bad_first_frame(ctx: Context, frame: bytes) -> None:
    conn = await ctx.connect()
    conn.send(wire.preface())
    conn.violate(frame + conn.settings(), instead_of=conn.settings())
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=0)


@case("HSK-005/first-frame-ping", checks=["goaway", "end"], twin=SAME)
async def first_frame_ping(ctx: Context) -> None:
    """PING as the first frame is a connection error PROTOCOL_ERROR."""
    await _expect_bad_first_frame(ctx, wire.ping())


@case("HSK-005/first-frame-ack", checks=["goaway", "end"], twin=SAME)
async def first_frame_ack(ctx: Context) -> None:
    """SETTINGS_ACK as the first frame is a connection error PROTOCOL_ERROR."""
    await _expect_bad_first_frame(ctx, wire.settings_ack())


@case("HSK-005/first-frame-grease", checks=["goaway", "end"], twin=SAME)
async def first_frame_grease(ctx: Context) -> None:
    """An ignorable frame as the first frame is a connection error PROTOCOL_ERROR."""
    await _expect_bad_first_frame(ctx, wire.grease())


@case("HSK-005/first-frame-open", checks=["goaway", "end"], twin=SAME, features=["conformance"])
async def first_frame_open(ctx: Context) -> None:
    """A request before SETTINGS is a connection error PROTOCOL_ERROR, and is not counted."""
    conn = await ctx.connect()
    await _expect_bad_first_frame(ctx, conn.opening("conformance.echo", b"early"))


@case("HSK-006/second-settings", checks=["goaway", "end"], twin=SAME)
async def second_settings(ctx: Context) -> None:
    """A second SETTINGS, even an empty one, is a connection error PROTOCOL_ERROR."""
    conn = await ctx.ready()
    conn.violate(wire.settings(), instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR")


@case("HSK-006/second-settings-before-ack", checks=["goaway", "end"], twin=SAME)
async def second_settings_before_ack(ctx: Context) -> None:
    """A second SETTINGS in the same write as the first is a connection error PROTOCOL_ERROR."""
    conn = await ctx.connect()
    conn.send(wire.preface())
    first = conn.settings()
    conn.violate(first + first, instead_of=first)
    await conn.expect_connection_error("PROTOCOL_ERROR")


@case("HSK-007/one-ack", checks=["ack", "only-one"])
async def one_ack(ctx: Context) -> None:
    """The worker acknowledges the client's SETTINGS exactly once."""
    conn = await ctx.connect()
    conn.send(wire.preface(), conn.settings())
    await conn.expect("SETTINGS")
    await conn.expect("SETTINGS_ACK", check="ack")
    conn.send(wire.settings_ack())
    await conn.fence()
    acks = [frame for frame in conn.frames if frame.name == "SETTINGS_ACK"]
    ctx.check("only-one", len(acks) == 1, expected="one SETTINGS_ACK", actual=f"{len(acks)}")


@case("HSK-007/ack-before-everything", checks=["order"], features=["conformance"])
async def ack_before_everything(ctx: Context) -> None:
    """The worker sends its SETTINGS_ACK before any other frame except its SETTINGS."""
    conn = await ctx.connect()
    opening = conn.opening("conformance.echo", b"x")
    stream = conn.stream(opening[16:32])
    conn.send(wire.preface(), conn.settings(), opening, wire.ping(ctx.nonce()))
    await stream.result()
    names = [frame.name for frame in conn.frames[:2]]
    expected = "SETTINGS, SETTINGS_ACK, then the rest"
    good = names == ["SETTINGS", "SETTINGS_ACK"]
    order = ", ".join(frame.name for frame in conn.frames[:6])
    ctx.check("order", good, expected=expected, actual=order, frame=conn.frames[1])


@case("HSK-007/second-ack", checks=["goaway", "end"], twin=SAME)
async def second_ack(ctx: Context) -> None:
    """A second SETTINGS_ACK is a connection error PROTOCOL_ERROR."""
    conn = await ctx.ready()
    conn.violate(wire.settings_ack(), instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR")


@case("HSK-007/ack-with-payload", checks=["goaway", "end"], twin=SAME)
async def ack_with_payload(ctx: Context) -> None:
    """A SETTINGS_ACK with a payload is a connection error FRAME_SIZE_ERROR."""
    conn = await ctx.connect()
    conn.send(wire.preface(), conn.settings())
    await conn.expect("SETTINGS")
    conn.violate(wire.settings_ack(b"\0"), instead_of=wire.settings_ack())
    await conn.expect_connection_error("FRAME_SIZE_ERROR")


# -- HSK-008 -----------------------------------------------------------------------------------


def _judge_time(ctx: Context, conn: Connection, ended: float) -> None:
    took = ended - conn.transport.opened_at
    ctx.check(
        "not-early",
        took >= HANDSHAKE_LEAST,
        expected=f"no end before {HANDSHAKE_LEAST:.0f} s, the shortest handshake timeout",
        actual=f"{took:.2f} s",
    )


async def _expect_handshake_timeout(ctx: Context, conn: Connection) -> None:
    frame = await conn.expect_connection_error(
        "HANDSHAKE_TIMEOUT", within=handshake_timeout(ctx) + 1
    )
    if frame is not None:
        _judge_time(ctx, conn, frame.at)


@case(
    "HSK-008/seven-octets-then-silence",
    checks=["silence", "end", "not-early"],
    twin="HSK-003/offers-1-to-1",
    timed=True,
)
async def seven_octets_then_silence(ctx: Context) -> None:
    """Before a valid preface the worker closes without a byte at the handshake timeout."""
    conn = await ctx.connect()
    conn.violate(wire.MAGIC[:7])
    await conn.expect_silence_then_eof(within=handshake_timeout(ctx) + 1)
    _judge_time(ctx, conn, time.monotonic())


@case(
    "HSK-008/connect-then-silence",
    checks=["silence", "end", "not-early"],
    twin="HSK-003/offers-1-to-1",
    timed=True,
)
async def connect_then_silence(ctx: Context) -> None:
    """A connection on which nothing arrives is closed without a byte at the handshake timeout."""
    conn = await ctx.connect()
    await conn.expect_silence_then_eof(within=handshake_timeout(ctx) + 1)
    _judge_time(ctx, conn, time.monotonic())


@case(
    "HSK-008/no-settings",
    checks=["goaway", "end", "not-early"],
    twin="HSK-003/offers-1-to-1",
    timed=True,
)
async def no_settings(ctx: Context) -> None:
    """A preface without SETTINGS is a connection error HANDSHAKE_TIMEOUT."""
    conn = await ctx.connect()
    conn.violate(wire.preface())
    await _expect_handshake_timeout(ctx, conn)


@case(
    "HSK-008/no-ack",
    checks=["goaway", "end", "not-early"],
    twin="HSK-007/one-ack",
    timed=True,
)
async def no_ack(ctx: Context) -> None:
    """All but SETTINGS_ACK is a connection error HANDSHAKE_TIMEOUT, also while PINGs arrive."""
    conn = await ctx.connect()
    conn.violate(wire.preface() + conn.settings())
    await _expect_handshake_timeout(ctx, conn)


@case(
    "HSK-008/slow-octets",
    checks=["goaway", "end", "not-early"],
    twin="HSK-003/offers-1-to-1",
    timed=True,
)
async def slow_octets(ctx: Context) -> None:
    """Octets that arrive one by one do not extend the handshake timeout."""
    conn = await ctx.connect()
    conn.violate(wire.preface())
    octets = conn.settings()
    pause = handshake_timeout(ctx) / 8

    async def trickle() -> None:
        for octet in octets:
            await asyncio.sleep(pause)
            conn.send(bytes([octet]))

    task = asyncio.create_task(trickle())
    try:
        await _expect_handshake_timeout(ctx, conn)
    finally:
        task.cancel()


# -- HSK-009, HSK-011 --------------------------------------------------------------------------


@case("HSK-009/pipelined-request", checks=["served", "echoed"], features=["conformance"])
async def pipelined_request(ctx: Context) -> None:
    """A request in the same write as preface and SETTINGS is served before SETTINGS_ACK."""
    conn = await ctx.connect()
    opening = conn.opening("conformance.echo", b"early")
    stream = conn.stream(opening[16:32])
    conn.send(wire.preface(), conn.settings(), opening)
    messages = await stream.result(check="served")
    good = messages == [b"early"]
    ctx.check("echoed", good, expected="the message 'early'", actual=messages)


@case(
    "HSK-011/one-too-many",
    checks=["preface", "limit", "last-ordinal", "end", "others"],
    twin="HSK-003/offers-1-to-1",
    features=["conformance"],
    exclusive=True,
    limit=60,
)
async def one_too_many(ctx: Context) -> None:
    """At the connection limit a further connection gets GOAWAY(CONNECTION_LIMIT) and the end."""
    most = ctx.info.get("max_connections")
    if not isinstance(most, int):
        ctx.unprepared("max_connections in conformance.info", ctx.info)
    first = await ctx.ready()
    await ctx.wait_for_stats(first, lambda stats: stats["connections"] == 1)
    held = [first, *[await ctx.ready() for _ in range(most - 1)]]
    extra = await ctx.connect()
    extra.violate(wire.preface() + extra.settings())
    preface = await extra.expect_preface()
    good = (preface.ver_hi, preface.ver_lo) == (1, 1)
    ctx.check("preface", good, expected="a complete set-up of version 1", actual=preface)
    await extra.until(lambda: extra.goaway is not None, extra.patience.seconds)
    frame = extra.goaway
    if frame is None or frame.goaway is None:
        extra.fail("limit", "GOAWAY with CONNECTION_LIMIT", None, frame)
    code, last = frame.goaway.code, frame.goaway.last_ordinal
    wanted = wire.code("CONNECTION_LIMIT")
    ctx.check("limit", code == wanted, expected="CONNECTION_LIMIT", actual=frame, frame=frame)
    ctx.check("last-ordinal", last == 0, expected="last_ordinal 0", actual=frame, frame=frame)
    await extra.expect_end(check="end")
    for connection in held:
        await connection.fence(check="others")


@case("HSK-011/silent-crowd", checks=["served", "silence"], exclusive=True, limit=60)
async def silent_crowd(ctx: Context) -> None:
    """200 silent connections do not keep a proper client out."""
    crowd = [await ctx.connect() for _ in range(200)]
    conn = await ctx.connect()
    await conn.handshake(check="served")
    for silent in crowd:
        silent.expect_silence()
