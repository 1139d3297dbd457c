"""Scheduling: FAI-001 to FAI-004."""

from __future__ import annotations

import time
from itertools import pairwise

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases._steps import WIDE
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection, Stream
from muxwire_conformance.wire import Frame

BULK = 64 * 1_048_576
SOCKET_BUFFERS = 16 * 1_048_576
"""More than the kernels of both sides hold on their way, and far less than the transfer."""
NEEDS = ["conformance"]
WINDOW = 65_536
QUANTUM = 65_536
SMALL_MESSAGES = 100
BATCHING = 0.010
"""Well above 2 ms, since the worker's own work is in it, and well below any delay on purpose."""
ECHOES = 40


# -- FAI-001 -----------------------------------------------------------------------------------


@case("FAI-001/pong-overtakes-data", checks=["overtakes"], features=NEEDS, exclusive=True)
async def pong_overtakes_data(ctx: Context) -> None:
    """A PONG goes before queued RESPONSE frames; only what the kernel holds precedes it."""
    window = 4 * BULK
    conn = await ctx.ready(
        {"INITIAL_STREAM_WINDOW": window, "CONNECTION_WINDOW": window, "MAX_MESSAGE_SIZE": BULK}
    )
    parameters = {"bytes": BULK // 64, "messages": 64}
    stream = conn.open("conformance.source", parameters, discard=True)
    await conn.until(lambda: stream.octets > 0, ctx.patience.seconds)
    nonce, before = ctx.nonce(), stream.octets
    conn.send(wire.ping(nonce))
    await conn.expect(lambda frame: frame.name == "PONG" and frame.payload == nonce, within=10.0)
    data = stream.octets - before
    good = data < SOCKET_BUFFERS
    ctx.check("overtakes", good, expected=f"less than {SOCKET_BUFFERS} octets", actual=data)
    stream.kill()


# -- FAI-002 -----------------------------------------------------------------------------------


async def _side_by_side(conn: Connection, size: int) -> list[Frame]:
    """Have two long messages sent at once; return the frames written while both had some left."""
    openings = [conn.opening("conformance.source", {"bytes": size}) for _ in range(2)]
    streams = [conn.stream(opening[16:32], discard=True) for opening in openings]
    conn.send(*openings)
    for stream in streams:
        await stream.result(within=10.0)
    first, second = streams
    begin = max(first.frames[0].index, second.frames[0].index)
    end = min(_last_data(first), _last_data(second))
    both = [*first.frames, *second.frames]
    return sorted(
        (frame for frame in both if begin <= frame.index <= end), key=lambda frame: frame.index
    )


def _last_data(stream: Stream) -> int:
    return max(frame.index for frame in stream.frames if frame.length)


@case("FAI-002/in-turn", checks=["together", "turns"], features=NEEDS, exclusive=True)
async def in_turn(ctx: Context) -> None:
    """Two streams that both have frames to send are served in turn."""
    conn = await ctx.ready({**WIDE, "MAX_FRAME_SIZE": 16_384})
    frames = await _side_by_side(conn, 8 * 1_048_576)
    ctx.check("together", len(frames) >= 100, expected="100 frames or more", actual=len(frames))
    changes = sum(one.request_id != other.request_id for one, other in pairwise(frames))
    # The judge cannot see when a frame was ready, so a frame out of turn now and then is no fault.
    good = changes >= len(frames) * 2 // 3
    ctx.check("turns", good, expected=f"a change in most of {len(frames)} frames", actual=changes)


@case("FAI-002/short-turns", checks=["short"], features=NEEDS, exclusive=True)
async def short_turns(ctx: Context) -> None:
    """A turn is one frame of at most 65,536 octets, also where larger frames are accepted."""
    conn = await ctx.ready({**WIDE, "MAX_FRAME_SIZE": 1_048_576})
    frames = await _side_by_side(conn, 4 * 1_048_576)
    longest = max((frame.length for frame in frames), default=0)
    ctx.check("short", longest <= QUANTUM, expected=f"at most {QUANTUM} octets", actual=longest)


@case("FAI-002/small-beside-bulk", checks=["served", "beside"], features=NEEDS, exclusive=True)
async def small_beside_bulk(ctx: Context) -> None:
    """A stream of small messages gets its turns beside a bulk transfer, from its first frame on."""
    conn = await ctx.ready({**WIDE, "MAX_FRAME_SIZE": QUANTUM})
    bulk = conn.open("conformance.source", {"bytes": 1_048_576, "messages": 64}, discard=True)
    await conn.until(lambda: bulk.octets > 0, ctx.patience.seconds)
    opening = conn.opening("conformance.generate", {"count": SMALL_MESSAGES})
    small = conn.stream(opening[16:32])
    nonce = ctx.nonce()
    conn.send(opening, wire.ping(nonce))
    pong = await conn.expect(lambda frame: frame.name == "PONG" and frame.payload == nonce)
    await small.result(check="served")
    # What the kernels held when the request came is before the PONG.
    last = small.frames[-1].index
    between = [frame for frame in bulk.frames if pong.index < frame.index < last]
    most = 3 * SMALL_MESSAGES
    good = len(between) <= most
    ctx.check("beside", good, expected=f"at most {most} bulk frames", actual=len(between))
    conn.abort()


@case("FAI-002/blocked-stream", checks=["served"], features=NEEDS)
async def blocked_stream(ctx: Context) -> None:
    """Streams that are blocked by their own windows do not block another."""
    conn = await ctx.ready({"INITIAL_STREAM_WINDOW": WINDOW})
    conn.auto_credit = False
    blocked = [conn.open("conformance.source", {"bytes": 3 * WINDOW}) for _ in range(10)]
    await conn.until(
        lambda: all(stream.received_cost > WINDOW - 64 for stream in blocked), ctx.patience.seconds
    )
    for _ in range(3):
        await conn.call("conformance.source", {"bytes": WINDOW // 2}, check="served")


# -- FAI-003 -----------------------------------------------------------------------------------


@case("FAI-003/inside-a-message", checks=["answered", "whole"], features=NEEDS)
async def inside_a_message(ctx: Context) -> None:
    """Frames of other requests may come between any two chunks of a message."""
    conn = await ctx.ready()
    upload = conn.open("conformance.echo", b"begin", end=False, more=True)
    for number in range(50):
        body = b"beside %d" % number
        messages = await conn.call("conformance.echo", body, check="answered")
        ctx.check("answered", messages == [body], expected=str([body]), actual=messages)
        upload.send(b".", more=True)
    upload.send(b"end", end=True)
    messages = await upload.result(check="whole")
    whole = [b"begin" + b"." * 50 + b"end"]
    ctx.check("whole", messages == whole, expected="one message of 58 octets", actual=messages)


@case("FAI-003/two-messages-interleaved", checks=["whole"], features=NEEDS)
async def two_messages_interleaved(ctx: Context) -> None:
    """Chunks of the messages of several requests may alternate."""
    conn = await ctx.ready()
    streams = [conn.open("conformance.echo", end=False) for _ in range(8)]
    for _ in range(20):
        for number, stream in enumerate(streams):
            stream.send(b"%d" % number, more=True)
    for number, stream in enumerate(streams):
        stream.finish()
        messages = await stream.result(check="whole")
        whole = [b"%d" % number * 20]
        ctx.check("whole", messages == whole, expected=str(whole), actual=messages)


# -- FAI-004 -----------------------------------------------------------------------------------


@case("FAI-004/no-delay", checks=["prompt"], features=NEEDS, exclusive=True)
async def no_delay(ctx: Context) -> None:
    """A frame that is ready is not held back in order to batch it."""
    started = time.monotonic()
    conn = await ctx.connect()
    trip = time.monotonic() - started  # of TCP alone, for targets that are far away
    await conn.handshake()
    took = []
    for _ in range(ECHOES):
        started = time.monotonic()
        await conn.call("conformance.echo", b".")
        took.append(time.monotonic() - started - trip)
    # A delay on purpose is in all of them, a busy machine is not.
    quick = sorted(took)[ECHOES // 4]
    words = f"a quarter of the echoes within {BATCHING * 1_000:g} ms"
    ctx.check("prompt", quick <= BATCHING, expected=words, actual=f"{quick * 1_000:.1f} ms")
