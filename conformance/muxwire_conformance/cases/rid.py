"""Request identity: RID-002, RID-003 and RID-005, as a worker shows them."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import (
    LONG_MS,
    NO_SUBJECT,
    check_unanswered,
    declare,
    echoing,
    of_stream,
    refused,
)
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection

STRAYS = 50
REMEMBERED = 1_024
UNCHARGED = 12_000


# -- RID-002 -----------------------------------------------------------------------------------


async def _expect_duplicate(ctx: Context, conn: Connection, used: bytes, last: int) -> None:
    """Open a refused request under an id that is in use, or (twin) under a fresh one."""
    again, fresh = (conn.opening(NO_SUBJECT, request_id=number) for number in (used, ctx.new_id()))
    conn.violate(again, instead_of=fresh)
    await conn.expect_connection_error("DUPLICATE_REQUEST", last_ordinal=last)


@case("RID-002/refused-id", checks=["goaway", "end"], twin=SAME)
async def refused_id(ctx: Context) -> None:
    """The id of a refused request is a tombstone; an OPEN with it is DUPLICATE_REQUEST."""
    conn = await ctx.ready()
    stream = await refused(conn)
    await _expect_duplicate(ctx, conn, stream.id, 1)


@case("RID-002/twice-in-one-write", checks=["goaway", "end"], twin=SAME)
async def twice_in_one_write(ctx: Context) -> None:
    """The same OPEN twice in one write is DUPLICATE_REQUEST, whether the first is over or not."""
    conn = await ctx.ready()
    first = conn.opening(NO_SUBJECT)
    conn.violate(first + first, instead_of=first + conn.opening(NO_SUBJECT))
    await conn.expect_connection_error("DUPLICATE_REQUEST", last_ordinal=1)


@case("RID-002/live-id", checks=["goaway", "end"], twin=SAME, features=["conformance"])
async def live_id(ctx: Context) -> None:
    """An OPEN with the id of a request whose handler runs is DUPLICATE_REQUEST."""
    conn = await ctx.ready()
    stream = conn.open("conformance.sleep", {"ms": LONG_MS})
    await _expect_duplicate(ctx, conn, stream.id, 1)


@case("RID-002/live-id-not-ended", checks=["goaway", "end"], twin=SAME, features=["conformance"])
async def live_id_not_ended(ctx: Context) -> None:
    """An OPEN with the id of a request that the client has not ended is DUPLICATE_REQUEST."""
    conn = await ctx.ready()
    stream = await echoing(conn)
    await _expect_duplicate(ctx, conn, stream.id, 1)


@case("RID-002/finished-id", checks=["goaway", "end"], twin=SAME, features=["conformance"])
async def finished_id(ctx: Context) -> None:
    """The id of a request that has ended well is a tombstone too."""
    conn = await ctx.ready()
    stream = conn.open("conformance.echo", b"once")
    await stream.result()
    await _expect_duplicate(ctx, conn, stream.id, 1)


@case("RID-002/killed-id", checks=["goaway", "end"], twin=SAME, features=["conformance"])
async def killed_id(ctx: Context) -> None:
    """The id of a request that was killed is a tombstone too."""
    conn = await ctx.ready()
    stream = conn.open("conformance.sleep", {"ms": LONG_MS})
    stream.kill()
    await stream.end()
    await _expect_duplicate(ctx, conn, stream.id, 1)


@case("RID-002/1024-finished-later", checks=["goaway", "end"], twin=SAME, features=["conformance"])
async def finished_later(ctx: Context) -> None:
    """The last 1,024 finished requests of a connection are remembered."""
    conn = await ctx.ready()
    oldest = conn.open("conformance.echo", b"oldest")
    await oldest.result()
    for _ in range(0, REMEMBERED - 1, 93):
        streams = [conn.open("conformance.echo", b"later") for _ in range(93)]
        for stream in streams:
            await stream.result()
    await _expect_duplicate(ctx, conn, oldest.id, REMEMBERED)


# -- RID-003 -----------------------------------------------------------------------------------


def _frame_for(kind: str, request_id: bytes, seq: int = 1) -> bytes:
    """Build a frame that belongs to a request."""
    return {
        "chunk": wire.request(request_id, seq, b"stray"),
        "last-chunk": wire.request(request_id, seq, end=True),
        "stop": wire.stop(request_id),
        "kill": wire.kill(request_id),
        "window-update": wire.window_update(1 << 40, request_id=request_id),
    }[kind]


KINDS = ("chunk", "last-chunk", "stop", "kill", "window-update")


def _declare_stray(kind: str) -> None:
    async def stray(ctx: Context) -> None:
        conn = await ctx.ready()
        ids = [ctx.new_id() for _ in range(STRAYS)]
        conn.send(b"".join(_frame_for(kind, number) for number in ids))
        await conn.fence(check="tolerated")
        check_unanswered(ctx, conn, ids, check="unanswered")

    title = f"A {kind} for an id that was never opened is ignored; 50 of them are tolerated."
    declare(f"RID-003/stray-{kind}", title, stray, checks=["tolerated", "unanswered"])


def _declare_late(kind: str) -> None:
    async def late(ctx: Context) -> None:
        conn = await ctx.ready()
        streams = [await refused(conn, end=False) for _ in range(8)]
        room = conn.peer_settings["INITIAL_STREAM_WINDOW"] // 2
        most = room // 64 if kind == "chunk" else 1 if kind == "last-chunk" else UNCHARGED
        number = min(UNCHARGED // len(streams), most)
        for stream in streams:
            conn.send(b"".join(_frame_for(kind, stream.id, 1 + seq) for seq in range(number)))
        await conn.fence(check="uncharged")
        late_answers = [len(of_stream(conn, stream.id)) for stream in streams]
        good = late_answers == [1] * len(streams)
        ctx.check("unanswered", good, expected="one terminal each", actual=late_answers)

    title = f"A {kind} for a finished request is ignored without charge, however many come."
    checks = ["uncharged", "unanswered"]
    declare(f"RID-003/late-{kind}", title, late, checks=checks)


for _kind in KINDS:
    _declare_stray(_kind)
    _declare_late(_kind)


@case(
    "RID-003/late-chunks-of-a-deadline", checks=["uncharged", "only-one"], features=["conformance"]
)
async def late_chunks_of_a_deadline(ctx: Context) -> None:
    """Chunks that were on their way when a deadline ended the request are ignored."""
    conn = await ctx.ready()
    stream = conn.open("conformance.sink", {"stall": True}, end=False, timeout_ms=50)
    await stream.end()
    for _ in range(500):
        stream.send(b"late")
    await conn.fence(check="uncharged")
    number = len(stream.frames)
    ctx.check("only-one", number == 1, expected="one RESPONSE", actual=number)


# -- RID-005 -----------------------------------------------------------------------------------


@case("RID-005/refused-included", checks=["goaway", "end"], twin=SAME)
async def refused_included(ctx: Context) -> None:
    """Refused OPENs have ordinals too: last_ordinal of a GOAWAY counts them."""
    conn = await ctx.ready()
    for _ in range(3):
        await refused(conn)
    conn.violate(wire.ping(marker=0xF6), instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=3)


@case("RID-005/served-included", checks=["goaway", "end"], twin=SAME, features=["conformance"])
async def served_included(ctx: Context) -> None:
    """Ordinals count finished, running and refused requests alike."""
    conn = await ctx.ready()
    await conn.call("conformance.echo", b"first")
    await echoing(conn)
    await refused(conn)
    await echoing(conn)
    conn.violate(wire.ping(marker=0xF6), instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=4)


@case("RID-005/faulty-open-has-none", checks=["goaway", "end"], twin=SAME)
async def faulty_open_has_none(ctx: Context) -> None:
    """An OPEN that is itself the cause of a connection error has no ordinal."""
    conn = await ctx.ready()
    await refused(conn)
    bad, good = (wire.open_metadata(NO_SUBJECT, header_count=count) for count in (1, 0))
    opens = [wire.open_request(ctx.new_id(), NO_SUBJECT, metadata=block) for block in (bad, good)]
    conn.violate(opens[0], instead_of=opens[1])
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=1)


@case("RID-005/drain", checks=["goaway", "counted"], features=["conformance"])
async def drain(ctx: Context) -> None:
    """The GOAWAY of a drain carries the ordinal of the last OPEN that was processed."""
    conn = await ctx.ready()
    for _ in range(3):
        await refused(conn)
    await conn.call("conformance.echo", b"fourth")
    await conn.call("conformance.drain", {"grace_ms": 1_000})
    frame = await conn.expect("GOAWAY", check="goaway")
    last = frame.goaway.last_ordinal if frame.goaway else None
    ctx.check("counted", last == 5, expected="last_ordinal 5", actual=last, frame=frame)
