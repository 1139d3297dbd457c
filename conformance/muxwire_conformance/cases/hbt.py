"""Liveness: HBT-001 to HBT-007."""

from __future__ import annotations

import time
from itertools import pairwise

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases._steps import (
    LITTLE_BUFFER,
    LONG_MS,
    WIDE,
    declare,
    keep_alive,
    not_applicable_unless,
    pause,
)
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection
from muxwire_conformance.transport import Direction

WATCHED = 2.4
MOST_IDLE = 10.0
PINGS = 8
NEEDS = ["conformance"]


def _idle(conn: Connection) -> float:
    """Return the worker's own idle timeout in seconds, if it is short enough to try."""
    idle = conn.peer_settings["IDLE_TIMEOUT_MS"] / 1_000
    not_applicable_unless(idle <= MOST_IDLE, f"IDLE_TIMEOUT_MS is {idle:g} s, too long to wait")
    return idle


# -- HBT-001 -----------------------------------------------------------------------------------


def _declare_regular(name: str, title: str, *, requests: int) -> None:
    async def regular(ctx: Context) -> None:
        conn = await ctx.ready({"IDLE_TIMEOUT_MS": 1_000})
        for _ in range(requests):
            conn.open("conformance.sleep", {"ms": LONG_MS})
        await conn.fence()
        conn.stay_silent()
        conn.auto_pong = True
        number, started, late = len(conn.frames), time.monotonic(), 0.0
        step = min(conn.peer_settings["IDLE_TIMEOUT_MS"] / 3_000, WATCHED)
        limit = conn.watcher.connection_limit
        while (before := time.monotonic()) - started < WATCHED:
            # The judge keeps alive with credit, since a PING of its own would be answered.
            limit += 1
            conn.send(wire.window_update(limit))
            await pause(conn, step)
            late = max(late, time.monotonic() - before - step)
        if conn.goaway is not None:
            ctx.unprepared("a connection that is left alone", conn.goaway)
        chunks = conn.transport.recording.chunks
        seen = [chunk.at for chunk in chunks if chunk.direction is Direction.RECEIVED]
        times = [started, *(at for at in seen if at > started), time.monotonic()]
        gap = max(later - earlier for earlier, later in pairwise(times))
        bound = ctx.patience.bound(0.6 + late)
        good = bound is None or gap <= bound
        ctx.check("regular", good, expected="something every 0.5 s", actual=f"nothing for {gap} s")
        others = [frame for frame in conn.frames[number:] if frame.name not in ("PING", "PONG")]
        others = [frame for frame in others if not frame.extension]
        actual = others[0] if others else None
        ctx.check("pings", not others, expected="only PING", actual=actual, frame=actual)

    features = NEEDS if requests else []
    checks = ["regular", "pings"]
    declare(f"HBT-001/{name}", title, regular, checks=checks, features=features, timed=True)


_declare_regular(
    "idle-connection",
    "On an idle connection the worker sends a PING at least every half of the client's timeout.",
    requests=0,
)
_declare_regular(
    "handlers-at-work",
    "While handlers run and nothing else is to be sent the worker sends PINGs just the same.",
    requests=10,
)


# -- HBT-002 -----------------------------------------------------------------------------------


def _declare_pong(name: str, title: str, count: int) -> None:
    async def pong(ctx: Context) -> None:
        conn = await ctx.ready()
        nonces = [ctx.nonce() for _ in range(count)]
        conn.send(b"".join(wire.ping(nonce) for nonce in nonces))

        def answered() -> list[bytes]:
            return [frame.payload for frame in conn.frames if frame.name == "PONG"]

        await conn.until(lambda: len(answered()) >= count, ctx.patience.bound(1.0))
        same = sorted(answered()) == sorted(nonces)
        words = "the same octets in PONGs within 1 s"
        ctx.check("same-octets", same, expected=words, actual=[one.hex() for one in answered()])

    declare(f"HBT-002/{name}", title, pong, checks=["same-octets"])


_declare_pong("one-ping", "A PING is answered within 1 s by a PONG with the same octets.", 1)
_declare_pong("eight-pings", "Each of 8 PINGs in one write is answered with its own octets.", 8)


@case("HBT-002/before-settings-ack", checks=["answered"])
async def before_settings_ack(ctx: Context) -> None:
    """A PING right behind the client's SETTINGS is answered like any other."""
    conn = await ctx.connect()
    nonce = ctx.nonce()
    conn.send(wire.preface(), conn.settings(), wire.ping(nonce))
    await conn.expect("SETTINGS")
    await conn.expect("SETTINGS_ACK")
    expected = "PONG with the same octets"
    await conn.expect(
        lambda frame: frame.name == "PONG" and frame.payload == nonce,
        check="answered",
        expected=expected,
    )


async def _expect_pong(ctx: Context, conn: Connection, *, check: str) -> None:
    nonce = ctx.nonce()
    conn.send(wire.ping(nonce))
    await conn.expect(
        lambda frame: frame.name == "PONG" and frame.payload == nonce,
        check=check,
        within=1.0,
        expected="PONG with the same octets",
    )


@case("HBT-002/beside-a-response", checks=["answered"], features=NEEDS)
async def beside_a_response(ctx: Context) -> None:
    """A PING is answered within 1 s while responses keep the connection busy."""
    conn = await ctx.ready()
    stream = conn.open("conformance.source", {"bytes": 65_536, "messages": 500}, discard=True)
    await conn.until(lambda: stream.octets > 0, ctx.patience.seconds)
    for _ in range(8):
        await _expect_pong(ctx, conn, check="answered")
    stream.kill()


# -- HBT-003, HBT-004 --------------------------------------------------------------------------


@case("HBT-004/octets-of-one-frame", checks=["alive"], timed=True)
async def octets_of_one_frame(ctx: Context) -> None:
    """Every octet restarts the idle timer, also those in the middle of a frame."""
    conn = await ctx.ready()
    idle = _idle(conn)
    nonce = ctx.nonce()
    octets = wire.ping(nonce)
    await conn.fence()
    conn.stay_silent()
    begin = time.monotonic() + 0.65 * idle
    pieces = [octets[start : start + 4] for start in range(0, len(octets), 4)]
    for number, piece in enumerate(pieces):
        due = begin + 0.65 * idle * number / len(pieces)
        await pause(conn, max(0.0, due - time.monotonic()))
        if time.monotonic() - due > 0.2 * idle:
            ctx.late(f"{time.monotonic() - due:.1f} s late")
        conn.send(piece)
    await conn.expect(
        lambda frame: frame.name == "PONG" and frame.payload == nonce,
        check="alive",
        expected="PONG on a connection that is alive",
    )


async def _expect_timeout(ctx: Context, conn: Connection) -> None:
    idle = _idle(conn)
    started = time.monotonic()
    await conn.fence()  # its PING is the last that the worker hears
    conn.stay_silent()
    frame = await conn.expect_connection_error("HEARTBEAT_TIMEOUT", within=idle + 2.0)
    if frame is not None:
        took = frame.at - started
        good = took >= idle - 0.01
        ctx.check("not-early", good, expected=f"{idle:g} s or more", actual=f"{took:.3f} s")


@case(
    "HBT-003/silence",
    checks=["goaway", "end", "not-early"],
    twin="HBT-002/one-ping",
    timed=True,
)
async def silence(ctx: Context) -> None:
    """A peer that is silent for the whole idle timeout gets HEARTBEAT_TIMEOUT, and not earlier."""
    conn = await ctx.ready()
    await _expect_timeout(ctx, conn)


@case(
    "HBT-004/request-in-progress",
    checks=["goaway", "end", "not-early"],
    twin="HBT-002/one-ping",
    features=NEEDS,
    timed=True,
)
async def request_in_progress(ctx: Context) -> None:
    """A request in progress does not suspend the rule: a silent peer is given up all the same."""
    conn = await ctx.ready()
    conn.open("conformance.sleep", {"ms": LONG_MS})
    await _expect_timeout(ctx, conn)


# -- HBT-005, HBT-007 --------------------------------------------------------------------------


@case(
    "HBT-005/no-pongs",
    requirements=["HBT-005", "HBT-007", "HBT-001"],
    checks=["alive", "regular"],
    timed=True,
)
async def no_pongs(ctx: Context) -> None:
    """PONGs that never come are no error while other octets arrive, and the PINGs due go on."""
    conn = await ctx.ready({"IDLE_TIMEOUT_MS": 500})
    idle = _idle(conn)
    await conn.fence()
    conn.stay_silent()
    started, late = time.monotonic(), 0.0
    watched = max(1.2 * idle, 2.6)  # enough for more than 8 PINGs, one in 250 ms
    while (before := time.monotonic()) - started < watched:
        await keep_alive(conn, 0.2)
        late = max(late, time.monotonic() - before - 0.2)
    times = [started, *(one.at for one in conn.frames if one.at > started), time.monotonic()]
    await conn.fence(check="alive")
    gap = max(later - earlier for earlier, later in pairwise(times))
    bound = ctx.patience.bound(0.35 + late)
    good = bound is None or gap <= bound
    ctx.check("regular", good, expected="something every 0.25 s", actual=f"nothing for {gap} s")


@case("HBT-007/few-pings", checks=["few"], features=["conformance?"])
async def few_pings(ctx: Context) -> None:
    """No more than 8 PINGs wait for their PONGs where HBT-001 does not ask for more."""
    conn = await ctx.ready({"IDLE_TIMEOUT_MS": 60_000})
    conn.auto_pong = False
    for _ in range(30):
        await conn.fence()
        if ctx.has("conformance"):
            await conn.call("conformance.echo", bytes(10_000))
    pings = sum(frame.name == "PING" for frame in conn.frames)
    ctx.check("few", pings <= PINGS, expected=f"at most {PINGS} PINGs", actual=pings)


# -- HBT-006 -----------------------------------------------------------------------------------


@case("HBT-006/unread-output", checks=["aborted", "not-early"], features=NEEDS, timed=True)
async def unread_output(ctx: Context) -> None:
    """A connection that takes no octet of pending output for the idle timeout is aborted."""
    conn = await ctx.ready(WIDE, receive_buffer=LITTLE_BUFFER)
    idle = _idle(conn)
    conn.open("conformance.source", {"bytes": 1_048_576, "messages": 64}, discard=True)
    conn.transport.pause_reading()
    conn.stay_silent()
    started = time.monotonic()
    ends = started + idle + 2.0 + ctx.patience.slack
    while conn.transport.write_error is None and time.monotonic() < ends:
        # The client itself is alive, so that it is this rule that ends the connection.
        conn.send(wire.ping(ctx.nonce()))
        await pause(conn, min(0.2, idle / 3))
    took = time.monotonic() - started
    aborted = conn.transport.write_error is not None
    ctx.check("aborted", aborted, expected="a reset", actual=f"nothing in {took:.1f} s")
    ctx.check("not-early", took >= idle, expected=f"{idle:g} s or more", actual=f"{took:.2f} s")


@case("HBT-006/read-late", checks=["whole"], features=NEEDS, timed=True)
async def read_late(ctx: Context) -> None:
    """A client that reads on before the idle timeout is over loses nothing."""
    conn = await ctx.ready(WIDE, receive_buffer=LITTLE_BUFFER)
    idle = _idle(conn)
    messages = 16
    parameters = {"bytes": 1_048_576, "messages": messages}
    stream = conn.open("conformance.source", parameters, discard=True)
    conn.transport.pause_reading()
    await keep_alive(conn, 0.4 * idle)
    conn.transport.resume_reading()
    await stream.result(within=10.0)
    whole = stream.octets == messages * 1_048_576
    ctx.check("whole", whole, expected=f"{messages} MiB", actual=stream.octets)
