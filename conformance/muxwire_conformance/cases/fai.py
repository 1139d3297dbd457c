"""Scheduling, first part: FAI-001 and FAI-003."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.context import Context

BULK = 64 * 1_048_576
SOCKET_BUFFERS = 16 * 1_048_576
"""More than the kernels of both sides hold on their way, and far less than the transfer."""
NEEDS = ["conformance"]


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
