"""Framing: FRM-001 to FRM-013, and the order of precedence when a frame breaks several rules."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable
from functools import partial

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._frames import (
    CONTROL_FRAMES,
    REFUSED,
    UNKNOWN_SUBJECT,
    declare,
    outcome,
    refused,
    some_subject,
    understood,
)
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection
from muxwire_conformance.stream import Stream
from muxwire_conformance.verdict import NotApplicable
from muxwire_conformance.wire import Frame

# -- FRM-001: the golden vectors -----------------------------------------------------------------

GOLDEN_ID = bytes.fromhex("0190b3f2 7c4e7a11 8f000123 456789ab")
PREFACE = bytes.fromhex("f7574d58 0d0a1a0a 01012000 00000000")
SETTINGS = bytes.fromhex(
    "f7030001 00000000 00000000 0000001e 00000000 00000000 00000000 00000000"
    "00010000 00000001 00000007 00000000 0000ea60 1a1a0000 00000000 0007"
)
SETTINGS_ACK = bytes.fromhex(
    "f7030002 00000000 00000000 00000000 00000000 00000000 00000000 00000000"
)
OPEN = bytes.fromhex(
    "f7010500 00000000 00000000 00000065 0190b3f2 7c4e7a11 8f000123 456789ab"
    "0000005f 00001388 00010001 0010636f 6e666f72 6d616e63 652e6563 686f0b74"
    "72616365 70617265 6e740037 30302d30 61663736 35313931 36636434 33646438"
    "34343865 62323131 63383033 3139632d 62376164 36623731 36393230 33333331"
    "2d303168 69"
)
RESPONSE = bytes.fromhex(
    "f7020000 00000000 00000000 00000002 0190b3f2 7c4e7a11 8f000123 456789ab 6869"
)
TERMINAL = bytes.fromhex("f7020100 00000001 00000000 00000000 0190b3f2 7c4e7a11 8f000123 456789ab")
ERROR = bytes.fromhex(
    "f7020900 00000000 00000000 00000010 0190b3f2 7c4e7a11 8f000123 456789ab"
    "00000104 00010000 00fa0004 62757379"
)
WINDOW_UPDATE = bytes.fromhex(
    "f7030003 00000000 00000000 00000008 00000000 00000000 00000000 00000000 00000000 08000000"
)
KILL = bytes.fromhex(
    "f7030005 00000000 00000000 00000004 0190b3f2 7c4e7a11 8f000123 456789ab 00000100"
)
PING = bytes.fromhex(
    "f7040001 00000000 00000000 00000008 00000000 00000000 00000000 00000000 01020304 05060708"
)
GOAWAY = bytes.fromhex(
    "f7030006 00000000 00000000 00000017 00000000 00000000 00000000 00000000"
    "00000000 00000000 00000003 00007530 00056472 61696e"
)


def _error_body(frame: Frame) -> bytes:
    body = frame.error
    if body is None:
        return frame.payload
    head = (body.code, body.flags, body.retry_after_ms, len(body.message))
    return struct.pack(">IHIH", *head) + body.message + body.detail


def _encoded(frame: Frame) -> bytes:
    """Encode again what a frame says, with everything that has only one legal value."""
    if frame.settings is not None:
        return wire.settings(frame.settings)
    if frame.name == "SETTINGS_ACK":
        return wire.settings_ack()
    if frame.limit is not None:
        return wire.window_update(frame.limit, request_id=frame.request_id)
    if frame.goaway is not None:
        said = frame.goaway
        return wire.goaway(
            said.code,
            last_ordinal=said.last_ordinal,
            grace_ms=said.grace_ms,
            message=said.message.encode(),
        )
    if frame.type == wire.HEARTBEAT:
        return wire.frame(frame.payload, type=frame.type, subtype=frame.subtype)
    payload = _error_body(frame) if frame.is_error else frame.payload
    return wire.response(frame.request_id, frame.seq, payload, flags=frame.flags & 0x0F)


def _check_octets(ctx: Context, frame: Frame, expected: bytes, check: str = "octets") -> None:
    good = frame.raw == expected
    ctx.check(check, good, expected=expected.hex(" ", 4), actual=frame.raw.hex(" ", 4), frame=frame)


async def _golden_setup(ctx: Context) -> Connection:
    conn = await ctx.connect()
    conn.send(PREFACE, SETTINGS)
    await conn.expect_preface()
    await conn.expect("SETTINGS")
    await conn.expect("SETTINGS_ACK")
    conn.send(SETTINGS_ACK)
    return conn


@case("FRM-001/golden-preface", checks=["preface", "octets"])
async def golden_preface(ctx: Context) -> None:
    """The vector of the client's preface is accepted, and answered in the same layout."""
    conn = await ctx.connect()
    conn.send(PREFACE)
    preface = await conn.expect_preface(check="preface")
    good = preface.raw[:11] == PREFACE[:11]  # the last five octets are ignored on receipt
    ctx.check("octets", good, expected=PREFACE.hex(" ", 4), actual=preface.raw.hex(" ", 4))
    conn.send(conn.settings())
    await conn.fence()


@case("FRM-001/golden-settings", checks=["settings", "ack", "fence"])
async def golden_settings(ctx: Context) -> None:
    """The vector of SETTINGS is accepted and acknowledged."""
    conn = await ctx.connect()
    conn.send(PREFACE, SETTINGS)
    await conn.expect("SETTINGS", check="settings")
    await conn.expect("SETTINGS_ACK", check="ack")
    await conn.fence(check="fence")


@case("FRM-001/golden-settings-ack", checks=["fence"])
async def golden_settings_ack(ctx: Context) -> None:
    """The vector of SETTINGS_ACK is accepted and completes the set-up."""
    conn = await _golden_setup(ctx)
    await conn.fence(check="fence")


@case("FRM-001/golden-open", checks=["served", "echoed"], features=["conformance"])
async def golden_open(ctx: Context) -> None:
    """The vector of an OPEN to conformance.echo is served."""
    conn = await _golden_setup(ctx)
    stream = conn.stream(GOLDEN_ID)
    conn.send(OPEN)
    messages = await stream.result(check="served")
    ctx.check("echoed", messages == [b"hi"], expected="the message 'hi'", actual=messages)


@case("FRM-001/golden-response", checks=["message", "octets"], features=["conformance"])
async def golden_response(ctx: Context) -> None:
    """The answer to the OPEN of the vectors is that of the vectors, or another legal framing.

    A worker may join the message and the terminal, split them, or send headers; whatever it
    chose, all other octets of its frames are given.
    """
    conn = await _golden_setup(ctx)
    stream = conn.stream(GOLDEN_ID)
    conn.send(OPEN)
    messages = await stream.result()
    ctx.check("message", messages == [b"hi"], expected="the message 'hi'", actual=messages)
    if b"".join(frame.raw for frame in stream.frames) == RESPONSE + TERMINAL:
        ctx.emit("octets")
        return
    for seq, frame in enumerate(stream.frames):
        expected = wire.response(GOLDEN_ID, seq, frame.payload, flags=frame.flags & 0x0F)
        _check_octets(ctx, frame, expected)


@case("FRM-001/golden-error", checks=["octets"], features=["conformance"])
async def golden_error(ctx: Context) -> None:
    """An error terminal OVERLOADED with the message 'busy' has the octets of the vector.

    The flags differ, since the handler has run; retry_after_ms and detail are the worker's own.
    """
    conn = await ctx.ready()
    parameters = {"code": wire.code("OVERLOADED"), "message": "busy"}
    stream = conn.open("conformance.fail", parameters, request_id=GOLDEN_ID)
    frame = await stream.end()
    body = frame.error
    if body is None:
        ctx.unprepared("an error terminal", frame)
    payload = struct.pack(">IHIH", 0x104, 0, body.retry_after_ms, 4) + b"busy" + body.detail
    expected = ERROR[:8] + len(payload).to_bytes(8, "big") + GOLDEN_ID + payload
    _check_octets(ctx, frame, expected)


@case("FRM-001/golden-window-update", checks=["blocked", "served"], features=["conformance"])
async def golden_window_update(ctx: Context) -> None:
    """The vector of WINDOW_UPDATE raises the limit of the connection to 134,217,728."""
    settings = {"CONNECTION_WINDOW": 1_048_576, "INITIAL_STREAM_WINDOW": 4_194_304}
    conn = await ctx.ready(settings)
    conn.auto_credit = False
    stream = conn.open("conformance.source", {"bytes": 65_536, "messages": 24}, discard=True)
    await conn.until(lambda: conn.received_cost > 500_000, ctx.patience.seconds)
    await conn.fence()
    blocked = stream.terminal is None and conn.received_cost <= 1_048_576
    ctx.check("blocked", blocked, expected="no terminal yet", actual=f"{stream.octets} octets")
    conn.send(WINDOW_UPDATE)
    await stream.result(check="served")


@case("FRM-001/golden-kill", checks=["terminal", "killed"], features=["conformance"])
async def golden_kill(ctx: Context) -> None:
    """The vector of KILL ends the request that it names."""
    conn = await ctx.ready()
    stream = conn.open("conformance.sleep", {"ms": 20_000}, request_id=GOLDEN_ID)
    conn.send(KILL)
    frame = await stream.end(check="terminal")
    good = frame.error is not None and frame.error.code == wire.code("CANCELLED")
    ctx.check("killed", good, expected="an error terminal CANCELLED", actual=frame, frame=frame)


@case("FRM-001/golden-ping", checks=["pong", "octets"])
async def golden_ping(ctx: Context) -> None:
    """The vector of PING is answered by a PONG that differs in the subtype only."""
    conn = await ctx.ready()
    conn.send(PING)
    frame = await conn.expect(lambda seen: _is_pong(seen, PING[32:]), check="pong", expected="PONG")
    _check_octets(ctx, frame, PING[:3] + b"\x02" + PING[4:])


@case("FRM-001/golden-goaway-received", checks=["end"])
async def golden_goaway_received(ctx: Context) -> None:
    """The vector of GOAWAY is accepted from a client: the worker ends without an error."""
    conn = await ctx.ready()
    await conn.fence()
    conn.send(GOAWAY)
    await conn.expect_quiet_end(check="end")


@case("FRM-001/golden-goaway-sent", checks=["octets"], features=["conformance"])
async def golden_goaway_sent(ctx: Context) -> None:
    """A drain after three OPENs, with a grace of 30 s, is announced as in the vector.

    The message is the worker's own.
    """
    conn = await ctx.ready()
    await conn.call("conformance.echo", b"one")
    await conn.call("conformance.echo", b"two")
    await conn.call("conformance.drain", {"grace_ms": 30_000})
    frame = await conn.expect("GOAWAY")
    message = frame.payload[18:]
    payload = GOAWAY[32:48] + len(message).to_bytes(2, "big") + message
    expected = GOAWAY[:8] + len(payload).to_bytes(8, "big") + GOAWAY[16:32] + payload
    _check_octets(ctx, frame, expected)


@case("FRM-001/golden-control-octets", checks=["pong"])
async def golden_control_octets(ctx: Context) -> None:
    """WINDOW_UPDATE, KILL and PING of the vectors are accepted without any request."""
    conn = await ctx.ready()
    conn.send(WINDOW_UPDATE, KILL, PING)
    await conn.expect(lambda seen: _is_pong(seen, PING[32:]), check="pong", expected="PONG")


@case("FRM-001/frames-encode-again", checks=["octets"], features=["conformance?"])
async def frames_encode_again(ctx: Context) -> None:
    """What a received frame says, encoded again, gives the same octets."""
    conn = await ctx.ready()
    await conn.fence()
    await conn.open(UNKNOWN_SUBJECT).end()
    if ctx.has("conformance"):
        await conn.call("conformance.echo", bytes(range(256)))
        await conn.call("conformance.generate", {"count": 5})
        await conn.open("conformance.fail", {"after": 2, "message": "on purpose"}).end()
    for frame in conn.frames:
        if not frame.extension and len(frame.raw) == wire.HEADER_SIZE + frame.length:
            _check_octets(ctx, frame, _encoded(frame))


@case("FRM-001/integers-are-big-endian", checks=["same"], features=["conformance"])
async def integers_are_big_endian(ctx: Context) -> None:
    """The integers of an OPEN reach the handler with their values."""
    conn = await ctx.ready()
    stream = conn.open(
        "conformance.headers", timeout_ms=0x01020304, request_flags=0x0001, headers=[("a", "b")]
    )
    answer = await stream.json()
    seen = [answer.get(name) for name in ("subject", "timeout_ms", "request_flags", "headers")]
    expected = ["conformance.headers", 0x01020304, 1, [["a", "b"]]]
    ctx.check("same", seen == expected, expected=str(expected), actual=seen)


def _is_pong(frame: Frame, opaque: bytes) -> bool:
    return frame.name == "PONG" and frame.payload == opaque


# -- FRM-002 -------------------------------------------------------------------------------------


async def _bad_marker(ctx: Context, *, marker: int) -> None:
    conn = await ctx.ready()
    conn.violate(wire.ping(marker=marker), instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR")


for _marker in (0x00, 0x77, 0xF6, 0xFF):
    declare(
        f"FRM-002/marker-{_marker:02x}",
        f"A PING with the marker 0x{_marker:02X} is a connection error PROTOCOL_ERROR.",
        partial(_bad_marker, marker=_marker),
        checks=REFUSED,
        twin=SAME,
    )


@case("FRM-002/header-alone", checks=REFUSED, twin=SAME)
async def marker_header_alone(ctx: Context) -> None:
    """A wrong marker is refused without reading the payload, which never comes here."""
    conn = await ctx.ready()
    conn.violate(wire.ping(marker=0xF6)[: wire.HEADER_SIZE], instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR")


@case("FRM-002/request", checks=REFUSED, twin=SAME)
async def marker_of_request(ctx: Context) -> None:
    """An OPEN with another marker than 0xF7 is a connection error PROTOCOL_ERROR."""
    conn = await ctx.ready()
    marker = ctx.pick(0x01, wire.MARKER)
    conn.send(wire.open_request(ctx.new_id(), UNKNOWN_SUBJECT, marker=marker))
    await conn.expect_connection_error("PROTOCOL_ERROR")


@case("FRM-002/ignorable-type", checks=REFUSED, twin=SAME)
async def marker_of_ignorable(ctx: Context) -> None:
    """A frame of an ignorable type with a wrong marker is not ignored."""
    conn = await ctx.ready()
    conn.violate(wire.grease(marker=0xF6), instead_of=wire.grease())
    await conn.expect_connection_error("PROTOCOL_ERROR")


@case("FRM-002/lost-place", checks=REFUSED, twin=SAME)
async def lost_place(ctx: Context) -> None:
    """A frame that is one octet longer than it says makes the next octet a wrong marker."""
    conn = await ctx.ready()
    bad = wire.grease(payload=bytes(9), length=8) + wire.ping()
    conn.violate(bad, instead_of=wire.grease(payload=bytes(9)) + wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR")


# -- FRM-003 -------------------------------------------------------------------------------------

_HUGE = {
    "2-to-32": 2**32,
    "2-to-32-and-8": 2**32 + 8,
    "2-to-62": 2**62,
    "2-to-63": 2**63,
    "2-to-64-less-1": 2**64 - 1,
}


def _some_frame(ctx: Context, kind: str, **header: int) -> bytes:
    """Build one frame of the kind, legal but for the header fields given."""
    fields: wire.HeaderFields = header  # type: ignore[assignment]
    if kind == "open":
        return wire.open_request(ctx.new_id(), UNKNOWN_SUBJECT, **fields)
    if kind == "chunk":
        return wire.request(ctx.new_id(), 1, b"x", **fields)
    if kind == "ignorable":
        return wire.grease(payload=b"12345678", **fields)
    if kind == "extension":
        legal: wire.Override = {"type": wire.CONTROL, "subtype": 0x9A}
        legal.update(fields)  # type: ignore[typeddict-item]
        return wire.frame(b"12345678", **legal)
    if kind == "window-update":
        return wire.window_update(1 << 27, **fields)
    if kind == "kill":
        return wire.kill(ctx.new_id(), **fields)
    return wire.ping(**fields)


async def _too_long(ctx: Context, *, kind: str, length: int | None) -> None:
    conn = await ctx.ready()
    declared = conn.peer_settings["MAX_FRAME_SIZE"] + 1 if length is None else length
    bad = _some_frame(ctx, kind, length=declared)[: wire.HEADER_SIZE]
    conn.violate(bad, instead_of=_some_frame(ctx, kind))
    await conn.expect_connection_error("FRAME_SIZE_ERROR")


def _declare_too_long(kind: str, name: str, length: int | None) -> None:
    size = "MAX_FRAME_SIZE + 1" if length is None else f"{length:,}"
    declare(
        f"FRM-003/{kind}-{name}",
        f"A header ({kind}) that declares {size} octets is refused from the header alone.",
        partial(_too_long, kind=kind, length=length),
        checks=REFUSED,
        twin=SAME,
    )


for _kind in ("open", "chunk", "ignorable"):
    _declare_too_long(_kind, "max-plus-1", None)
for _kind in ("open", "ignorable", "extension", "ping"):
    for _name, _length in _HUGE.items():
        _declare_too_long(_kind, _name, _length)
for _kind in ("extension", "window-update", "kill", "ping"):
    _declare_too_long(_kind, "4097", 4_097)


@case("FRM-003/goaway-4097", checks=REFUSED, twin=SAME)
async def goaway_4097(ctx: Context) -> None:
    """A GOAWAY of 4,097 octets is a connection error FRAME_SIZE_ERROR; one of 4,096 is not."""
    conn = await ctx.ready()
    conn.violate(wire.goaway(message=bytes(4_079)), instead_of=wire.goaway(message=bytes(4_078)))
    await conn.expect_connection_error("FRAME_SIZE_ERROR", twin_ends=True)


@case("FRM-003/control-of-4096", checks=["fence"])
async def control_of_4096(ctx: Context) -> None:
    """A Control frame of exactly 4,096 octets is within the limit."""
    conn = await ctx.ready()
    conn.send(wire.frame(bytes(4_096), type=wire.CONTROL, subtype=0x9A))
    await conn.fence(check="fence")


@case("FRM-003/ignorable-of-max", checks=["fence"])
async def ignorable_of_max(ctx: Context) -> None:
    """A frame of an ignorable type of exactly MAX_FRAME_SIZE is within the limit."""
    conn = await ctx.ready()
    conn.send(wire.grease(payload=bytes(conn.peer_settings["MAX_FRAME_SIZE"])))
    await conn.fence(check="fence")


@case(
    "FRM-003/refused-memory",
    checks=["goaway", "end", "memory"],
    twin="FRM-005/type-8a",
    features=["conformance"],
    exclusive=True,
)
async def refused_memory(ctx: Context) -> None:
    """No buffer of the declared size is reserved: 100 headers of 2^62 octets need no memory."""

    async def one() -> None:
        conn = await ctx.ready()
        conn.violate(wire.grease(length=2**62))
        await conn.expect_connection_error("FRAME_SIZE_ERROR")
        conn.transport.close()

    for turn in range(10):
        await asyncio.gather(*(one() for _ in range(10)))
        if turn == 0:
            before = (await ctx.stats())["rss_bytes"]
    grown = (await ctx.stats())["rss_bytes"] - before
    ctx.check("memory", grown < 16 << 20, expected="growth below 16 MiB", actual=f"{grown} octets")


@case(
    "FRM-003/declared-memory",
    checks=["buffered", "memory"],
    features=["conformance"],
    exclusive=True,
)
async def declared_memory(ctx: Context) -> None:
    """Buffers grow with the octets received and not with the length declared."""
    most = ctx.info.get("max_connections")
    if not isinstance(most, int):
        ctx.unprepared("max_connections in conformance.info", ctx.info)
    watch = await ctx.ready()
    resident = []
    for _ in range(3):
        before = await ctx.wait_for_stats(watch, lambda stats: stats["connections"] == 1)
        held = [await _half_a_frame(ctx) for _ in range(min(100, most - 2))]
        now = await watch.stats()
        grown = now["buffered_bytes"] - before["buffered_bytes"]
        ctx.check("buffered", grown < 1 << 20, expected="below 1 MiB more", actual=f"{grown}")
        resident.append(now["rss_bytes"])
        for conn in held:
            conn.abort()
    grown = resident[-1] - resident[0]
    ctx.check("memory", grown < 40 << 20, expected="growth below 40 MiB", actual=f"{grown} octets")


async def _half_a_frame(ctx: Context) -> Connection:
    conn = await ctx.ready()
    nonce = ctx.nonce()
    conn.send(wire.ping(nonce), wire.grease(length=conn.peer_settings["MAX_FRAME_SIZE"]))
    await conn.expect(lambda seen: _is_pong(seen, nonce), expected="PONG")
    return conn


# -- FRM-004 -------------------------------------------------------------------------------------


async def _unknown_type(ctx: Context, *, kind: int) -> None:
    conn = await ctx.ready()
    conn.violate(wire.grease(kind), instead_of=wire.grease(kind | 0x80))
    await conn.expect_connection_error("UNSUPPORTED_FRAME")


async def _unknown_control(ctx: Context, *, subtype: int) -> None:
    conn = await ctx.ready()
    bad = wire.frame(type=wire.CONTROL, subtype=subtype)
    conn.violate(bad, instead_of=wire.frame(type=wire.CONTROL, subtype=subtype | 0x80))
    await conn.expect_connection_error("UNSUPPORTED_FRAME")


async def _unknown_heartbeat(ctx: Context, *, subtype: int) -> None:
    conn = await ctx.ready()
    conn.violate(wire.ping(subtype=subtype), instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR")


for _kind_number in (0x00, 0x05, 0x7F):
    declare(
        f"FRM-004/type-{_kind_number:02x}",
        f"The unknown critical type 0x{_kind_number:02X} is refused with UNSUPPORTED_FRAME.",
        partial(_unknown_type, kind=_kind_number),
        checks=REFUSED,
        twin=SAME,
    )
for _subtype in (0x00, 0x07, 0x10, 0x11, 0x44, 0x7F):
    declare(
        f"FRM-004/control-{_subtype:02x}",
        f"The unknown Control subtype 0x{_subtype:02X} is refused with UNSUPPORTED_FRAME.",
        partial(_unknown_control, subtype=_subtype),
        checks=REFUSED,
        twin=SAME,
    )
for _subtype in (0x00, 0x03, 0x81, 0x8A, 0xFF):
    declare(
        f"FRM-004/heartbeat-{_subtype:02x}",
        f"The unknown Heartbeat subtype 0x{_subtype:02X} is refused with PROTOCOL_ERROR.",
        partial(_unknown_heartbeat, subtype=_subtype),
        checks=REFUSED,
        twin=SAME,
    )


# -- FRM-005 -------------------------------------------------------------------------------------


async def _ignored(ctx: Context, *, frame: bytes) -> None:
    conn = await ctx.ready()
    conn.send(frame)
    await conn.fence(check="fence")
    good = conn.goaway is None and all(seen.type != wire.RESPONSE for seen in conn.frames)
    ctx.check("nothing-else", good, expected="no reaction", actual=conn.situation())


def _declare_ignored(name: str, title: str, frame: bytes) -> None:
    function = partial(_ignored, frame=frame)
    declare(f"FRM-005/{name}", title, function, checks=["fence", "nothing-else"])


for _kind_number in (0x80, 0x84, 0x8A, 0xFA, 0xFF):
    _declare_ignored(
        f"type-{_kind_number:02x}",
        f"A frame of the unknown type 0x{_kind_number:02X} is ignored.",
        wire.grease(_kind_number, b"ignore me"),
    )
for _subtype in (0x80, 0x81, 0x9A, 0xFF):
    _declare_ignored(
        f"control-{_subtype:02x}",
        f"The unknown Control subtype 0x{_subtype:02X} is ignored.",
        wire.frame(b"ignore me", type=wire.CONTROL, subtype=_subtype),
    )
_declare_ignored(
    "payload-of-10000",
    "A payload of 10,000 octets of an ignorable frame is skipped.",
    wire.grease(payload=bytes(10_000)),
)
_declare_ignored(
    "payload-like-frames",
    "What is skipped is not looked at, even if it looks like faulty frames.",
    wire.grease(payload=wire.ping(marker=0) + wire.frame(type=0x05) + wire.goaway("NO_ERROR")),
)
_declare_ignored(
    "unchecked-fields",
    "Of an ignorable type nothing is checked but the length.",
    wire.frame(
        b"x", type=0x8A, flags=0xFF, subtype=0xFF, seq=0xFFFFFFFF, request_id=wire.INVALID_ID
    ),
)
_declare_ignored(
    "control-reserved-flags",
    "The ignored flag bits are ignored on an ignorable Control subtype too.",
    wire.frame(type=wire.CONTROL, subtype=0x9A, flags=0xF0),
)
_declare_ignored(
    "control-any-id",
    "The request id of an ignorable Control subtype is free: one that nobody opened.",
    wire.frame(type=wire.CONTROL, subtype=0x9A, request_id=GOLDEN_ID),
)
_declare_ignored(
    "control-ones-id",
    "The request id of an ignorable Control subtype is free: all ones.",
    wire.frame(type=wire.CONTROL, subtype=0x9A, request_id=wire.INVALID_ID),
)


@case("FRM-005/within-a-message", checks=["served", "echoed"], features=["conformance"])
async def within_a_message(ctx: Context) -> None:
    """Ignorable frames between the chunks of a message change nothing, even with its id."""
    conn = await ctx.ready()
    stream = conn.open("conformance.echo", b"one, ", end=False, more=True)
    conn.send(wire.grease(0x9A, b"between", seq=1, request_id=stream.id))
    stream.send(b"two, ", more=True)
    conn.send(wire.frame(b"between", type=wire.CONTROL, subtype=0x9A, request_id=stream.id))
    stream.send(b"three", end=True)
    messages = await stream.result(check="served")
    good = messages == [b"one, two, three"]
    ctx.check("echoed", good, expected="one message of three chunks", actual=messages)


async def _bad_extension(ctx: Context, error: str, **header: int) -> None:
    conn = await ctx.ready()
    bad = _some_frame(ctx, "extension", **header)
    conn.violate(bad, instead_of=_some_frame(ctx, "extension"))
    await conn.expect_connection_error(error)


for _flag in (wire.END_STREAM, wire.MORE, wire.META, wire.ERROR):
    declare(
        f"FRM-005/control-flag-{_flag:02x}",
        f"The flags of an ignorable Control subtype are checked: 0x{_flag:02X} is refused.",
        partial(_bad_extension, error="PROTOCOL_ERROR", flags=_flag),
        checks=REFUSED,
        twin=SAME,
        requirements=["FRM-005", "FRM-006"],
    )
declare(
    "FRM-005/control-seq-1",
    "The seq of an ignorable Control subtype is checked: 1 is refused.",
    partial(_bad_extension, error="PROTOCOL_ERROR", seq=1),
    checks=REFUSED,
    twin=SAME,
    requirements=["FRM-005", "FRM-007"],
)


# -- FRM-006 -------------------------------------------------------------------------------------


async def _ignored_bits(ctx: Context, *, bits: int) -> None:
    conn = await ctx.ready()
    nonce = ctx.nonce()
    conn.send(wire.ping(nonce, flags=bits))
    await conn.expect(lambda seen: _is_pong(seen, nonce), check="pong", expected="PONG")


for _bits in (0x10, 0x20, 0x40, 0x80, 0xF0):
    declare(
        f"FRM-006/ping-bits-{_bits:02x}",
        f"A PING with the flag bits 0x{_bits:02X} is answered as without them.",
        partial(_ignored_bits, bits=_bits),
        checks=["pong"],
    )


@case("FRM-006/setup-bits-f0", checks=["set-up", "fence"])
async def setup_bits(ctx: Context) -> None:
    """SETTINGS and SETTINGS_ACK with all ignored flag bits are taken as without them."""
    conn = await ctx.connect()
    conn.send(wire.preface(), conn.settings(flags=0xF0))
    await conn.expect("SETTINGS")
    await conn.expect("SETTINGS_ACK", check="set-up")
    conn.send(wire.settings_ack(flags=0xF0))
    await conn.fence(check="fence")


@case("FRM-006/request-bits-f0", checks=["answered"], features=["conformance?"])
async def request_bits(ctx: Context) -> None:
    """A request whose frames have all ignored flag bits is taken as without them."""
    conn = await ctx.ready()
    bits = wire.META | wire.END_STREAM | 0xF0
    await understood(ctx, conn, conn.open(some_subject(ctx), b"x", flags=bits), check="answered")


@case("FRM-006/kill-bits-f0", checks=["terminal", "killed"], features=["conformance"])
async def kill_bits(ctx: Context) -> None:
    """A KILL with all ignored flag bits kills."""
    conn = await ctx.ready()
    stream = conn.open("conformance.sleep", {"ms": 20_000})
    conn.send(wire.kill(stream.id, flags=0xF0))
    frame = await stream.end(check="terminal")
    good = frame.error is not None and frame.error.code == wire.code("CANCELLED")
    ctx.check("killed", good, expected="an error terminal CANCELLED", actual=frame, frame=frame)


for _flag in (wire.END_STREAM, wire.MORE, wire.META, wire.ERROR):
    declare(
        f"FRM-006/ping-flag-{_flag:02x}",
        f"A PING with the flag 0x{_flag:02X} is a connection error PROTOCOL_ERROR.",
        partial(refused, name="ping", error="PROTOCOL_ERROR", flags=_flag),
        checks=REFUSED,
        twin=SAME,
    )
for _control, _flag in {
    "settings": wire.META,
    "settings-ack": wire.END_STREAM,
    "window-update": wire.MORE,
    "stop": wire.END_STREAM,
    "kill": wire.ERROR,
    "goaway": wire.END_STREAM,
    "pong": wire.META,
}.items():
    declare(
        f"FRM-006/{_control}-flag-{_flag:02x}",
        f"The flag 0x{_flag:02X} is not allowed on this frame ({_control}): PROTOCOL_ERROR.",
        partial(refused, name=_control, error="PROTOCOL_ERROR", flags=_flag),
        checks=REFUSED,
        twin=SAME,
    )


@case("FRM-006/request-error-flag", checks=REFUSED, twin=SAME, requirements=["FRM-006", "TYP-004"])
async def request_error_flag(ctx: Context) -> None:
    """ERROR is not a flag of REQUEST: a PROTOCOL_ERROR even for an id that is not known."""
    conn = await ctx.ready()
    conn.send(wire.request(ctx.new_id(), 1, b"x", flags=ctx.pick(wire.ERROR, 0)))
    await conn.expect_connection_error("PROTOCOL_ERROR")


# -- FRM-007 -------------------------------------------------------------------------------------


@case("FRM-007/sent-as-zero", checks=["flags", "subtype", "seq"], features=["conformance?"])
async def sent_as_zero(ctx: Context) -> None:
    """What has no meaning is sent as 0 in frames of the four known types."""
    conn = await ctx.ready()
    await conn.fence()
    await conn.open(some_subject(ctx), b"x").end()
    await conn.open(UNKNOWN_SUBJECT).end()
    known = [frame for frame in conn.frames if 0x01 <= frame.type <= 0x04]
    streams, others = (wire.REQUEST, wire.RESPONSE), (wire.CONTROL, wire.HEARTBEAT)
    for name, wrong in (
        ("flags", [frame for frame in known if frame.flags & 0xF0]),
        ("subtype", [frame for frame in known if frame.type in streams and frame.subtype]),
        ("seq", [frame for frame in known if frame.type in others and frame.seq]),
    ):
        first = wrong[0] if wrong else None
        ctx.check(name, not wrong, expected=f"{name} sent as 0", actual=first, frame=first)


for _control in CONTROL_FRAMES:
    declare(
        f"FRM-007/{_control}-seq-1",
        f"A seq of 1 on this frame ({_control}) is a connection error PROTOCOL_ERROR.",
        partial(refused, name=_control, error="PROTOCOL_ERROR", seq=1),
        checks=REFUSED,
        twin=SAME,
    )
declare(
    "FRM-007/ping-seq-high",
    "A PING whose seq is 0x80000000 is a connection error PROTOCOL_ERROR.",
    partial(refused, name="ping", error="PROTOCOL_ERROR", seq=0x80000000),
    checks=REFUSED,
    twin=SAME,
)


async def _request_subtype(ctx: Context, *, kind: str, subtype: int) -> None:
    conn = await ctx.ready()
    conn.violate(_some_frame(ctx, kind, subtype=subtype), instead_of=_some_frame(ctx, kind))
    await conn.expect_connection_error("PROTOCOL_ERROR")


for _kind in ("open", "chunk"):
    for _subtype in (0x01, 0x9A):
        declare(
            f"FRM-007/{_kind}-subtype-{_subtype:02x}",
            f"A REQUEST ({_kind}) with subtype 0x{_subtype:02X} is refused with PROTOCOL_ERROR.",
            partial(_request_subtype, kind=_kind, subtype=_subtype),
            checks=REFUSED,
            twin=SAME,
        )


# -- FRM-008 -------------------------------------------------------------------------------------

_IDS = {
    "zero-id": wire.CONNECTION_ID,
    "ones-id": wire.INVALID_ID,
    "first-octet-id": b"\x80" + bytes(15),
    "last-octet-id": bytes(15) + b"\x01",
    "uuid-id": GOLDEN_ID,
}
_BAD_IDS = {
    "settings": ("uuid-id",),
    "settings-ack": ("uuid-id",),
    "goaway": ("uuid-id",),
    "ping": ("uuid-id", "ones-id", "first-octet-id", "last-octet-id"),
    "pong": ("uuid-id",),
    "stop": ("zero-id", "ones-id"),
    "kill": ("zero-id", "ones-id"),
    "window-update": ("ones-id",),
}

for _control, _names in _BAD_IDS.items():
    for _name in _names:
        declare(
            f"FRM-008/{_control}-{_name}",
            f"This request id ({_name}) is not allowed on this frame ({_control}): PROTOCOL_ERROR.",
            partial(refused, name=_control, error="PROTOCOL_ERROR", request_id=_IDS[_name]),
            checks=REFUSED,
            twin=SAME,
        )


@case("FRM-008/open-zero-id", checks=REFUSED, twin=SAME)
async def open_zero_id(ctx: Context) -> None:
    """An OPEN with the all-zero id is a connection error PROTOCOL_ERROR."""
    conn = await ctx.ready()
    conn.send(wire.open_request(ctx.pick(wire.CONNECTION_ID, ctx.new_id()), UNKNOWN_SUBJECT))
    await conn.expect_connection_error("PROTOCOL_ERROR")


@case("FRM-008/open-ones-id", checks=REFUSED, twin=SAME)
async def open_ones_id(ctx: Context) -> None:
    """An OPEN with the all-ones id is a connection error PROTOCOL_ERROR."""
    conn = await ctx.ready()
    conn.send(wire.open_request(ctx.pick(wire.INVALID_ID, ctx.new_id()), UNKNOWN_SUBJECT))
    await conn.expect_connection_error("PROTOCOL_ERROR")


@case("FRM-008/chunk-zero-id", checks=REFUSED, twin=SAME)
async def chunk_zero_id(ctx: Context) -> None:
    """A REQUEST behind the OPEN with the all-zero id is a connection error PROTOCOL_ERROR."""
    conn = await ctx.ready()
    conn.send(wire.request(ctx.pick(wire.CONNECTION_ID, ctx.new_id()), 1, b"x"))
    await conn.expect_connection_error("PROTOCOL_ERROR")


@case("FRM-008/chunk-ones-id", checks=REFUSED, twin=SAME)
async def chunk_ones_id(ctx: Context) -> None:
    """A REQUEST behind the OPEN with the all-ones id is a connection error PROTOCOL_ERROR."""
    conn = await ctx.ready()
    conn.send(wire.request(ctx.pick(wire.INVALID_ID, ctx.new_id()), 1, b"x"))
    await conn.expect_connection_error("PROTOCOL_ERROR")


@case("FRM-008/window-update-ids", checks=["fence"], features=["conformance?"])
async def window_update_ids(ctx: Context) -> None:
    """WINDOW_UPDATE carries the all-zero id or that of a request."""
    conn = await ctx.ready()
    stream = conn.open(some_subject(ctx), end=False)
    conn.send(wire.window_update(1 << 27), wire.window_update(1 << 20, request_id=stream.id))
    await conn.fence(check="fence")


# -- FRM-009 -------------------------------------------------------------------------------------


async def _any_id(ctx: Context, *, request_id: bytes) -> None:
    conn = await ctx.ready()
    stream = conn.open(some_subject(ctx), b"x", request_id=request_id)
    await understood(ctx, conn, stream, check="answered")


for _name, _id in {
    "almost-zero": bytes(15) + b"\x01",
    "almost-ones": b"\xff" * 15 + b"\xfe",
    "version-1": bytes.fromhex("6ba7b8109dad11d180b400c04fd430c8"),
    "version-15": bytes.fromhex("0190b3f27c4efa118f000123456789ab"),
    "other-variant": bytes.fromhex("0190b3f27c4e7a11cf000123456789ab"),
    "text": b"not-even-a-uuid!",
}.items():
    declare(
        f"FRM-009/{_name}",
        f"A request with the id {_id.hex()} is taken like any other.",
        partial(_any_id, request_id=_id),
        checks=["answered"],
        features=["conformance?"],
    )


# -- FRM-010 -------------------------------------------------------------------------------------


async def _wrong_seq(ctx: Context, *, before: int, seq: int, end: bool = False) -> None:
    conn = await ctx.ready()
    stream = conn.open("conformance.echo", end=False)
    for _ in range(before):
        stream.send(b"x")
    bad = wire.request(stream.id, seq, b"x", end=end)
    conn.violate(bad, instead_of=wire.request(stream.id, before + 1, b"x", end=end))
    await conn.expect_connection_error("SEQUENCE_ERROR")


for _name, _sent, _seq, _title in (
    ("skips-one", 0, 2, "seq 0, then 2"),
    ("skips-many", 3, 300, "seq 0 to 3, then 300"),
    ("skips-to-last", 0, 0xFFFFFFFF, "seq 0, then 4,294,967,295"),
    ("repeats", 1, 1, "seq 0, 1 and 1 again"),
    ("steps-back", 3, 1, "seq 0 to 3, then 1"),
    ("low-octets-fit", 0, 0x00010001, "seq 0, then 65,537"),
):
    declare(
        f"FRM-010/{_name}",
        f"A gap or a repeat on a live stream is a SEQUENCE_ERROR: {_title}.",
        partial(_wrong_seq, before=_sent, seq=_seq),
        checks=REFUSED,
        twin=SAME,
        features=["conformance"],
    )
declare(
    "FRM-010/skips-one-at-end",
    "A gap in front of the frame with END_STREAM is a SEQUENCE_ERROR.",
    partial(_wrong_seq, before=1, seq=3, end=True),
    checks=REFUSED,
    twin=SAME,
    features=["conformance"],
)


@case("FRM-010/three-hundred-chunks", checks=["served", "echoed"], features=["conformance"])
async def three_hundred_chunks(ctx: Context) -> None:
    """The seq of REQUEST frames counts on beyond 255."""
    conn = await ctx.ready()
    stream = conn.open("conformance.echo", end=False)
    for _ in range(299):
        stream.send(b"x", more=True)
    stream.send(b"x", end=True)
    messages = await stream.result(check="served")
    good = messages == [b"x" * 300]
    ctx.check("echoed", good, expected="one message of 300 octets", actual=len(messages))


@case("FRM-010/each-id-counts", checks=["served", "echoed"], features=["conformance"])
async def each_id_counts(ctx: Context) -> None:
    """The seq counts for each id and for each direction by itself."""
    conn = await ctx.ready()
    streams = [conn.open("conformance.echo", end=False) for _ in range(3)]
    for turn in range(6):
        for stream in streams[turn % 3 :]:
            stream.send(b"x")
    for stream in streams:
        stream.finish()
    seen = [len(await stream.result(check="served")) for stream in streams]
    ctx.check("echoed", seen == [2, 4, 6], expected="2, 4 and 6 messages", actual=seen)


@case("FRM-010/responses-count", checks=["counted"], features=["conformance"])
async def responses_count(ctx: Context) -> None:
    """The seq of RESPONSE frames is 0, 1, 2 and so on for each of two requests at once."""
    conn = await ctx.ready()
    parameters = {"count": 300, "size": 8}
    streams = [conn.open("conformance.generate", parameters) for _ in range(2)]
    for stream in streams:
        await stream.result()
        seen = [frame.seq for frame in stream.frames]
        good = seen == list(range(len(seen)))
        wrong = next((i for i, seq in enumerate(seen) if seq != i), 0)
        actual = f"seq {seen[wrong]} in place {wrong}"
        ctx.check("counted", good, expected=f"0 to {len(seen) - 1}", actual=actual)


# -- FRM-011 -------------------------------------------------------------------------------------

_ECHOED = [b"", b"a", bytes(range(256)) * 2, b"end"]


def _conversation(ctx: Context, conn: Connection) -> tuple[Stream, bytes]:
    """Return all octets of an echo conversation but the SETTINGS_ACK."""
    request_id = ctx.new_id()
    pieces = [
        wire.preface(),
        conn.settings(),
        conn.opening("conformance.echo", end=False, request_id=request_id),
        wire.request(request_id, 1, b""),
        wire.request(request_id, 2, b"a"),
        wire.request(request_id, 3, _ECHOED[2][:100], more=True),
        wire.request(request_id, 4, _ECHOED[2][100:]),
        wire.request(request_id, 5, b"end", end=True),
    ]
    return conn.stream(request_id), b"".join(pieces)


async def _converse(ctx: Context, *, dribble: bool) -> None:
    conn = await ctx.connect()
    conn.transport.dribble(dribble)
    stream, octets = _conversation(ctx, conn)
    conn.send(octets)
    await conn.expect("SETTINGS")
    await conn.expect("SETTINGS_ACK")
    conn.send(wire.settings_ack())
    messages = await stream.result(check="served")
    ctx.check("echoed", messages == _ECHOED, expected="the four messages", actual=messages)


declare(
    "FRM-011/echo-octet-by-octet",
    "A whole echo conversation may arrive one octet at a time.",
    partial(_converse, dribble=True),
    checks=["served", "echoed"],
    features=["conformance"],
)
declare(
    "FRM-011/echo-in-one-write",
    "A whole echo conversation may arrive in one piece.",
    partial(_converse, dribble=False),
    checks=["served", "echoed"],
    features=["conformance"],
)


async def _setup_and_refusal(ctx: Context, *, dribble: bool) -> None:
    conn = await ctx.connect()
    conn.transport.dribble(dribble)
    opening = conn.opening(UNKNOWN_SUBJECT, b"body")
    stream = conn.stream(opening[16:32])
    nonce = ctx.nonce()
    conn.send(wire.preface(), conn.settings(), opening, wire.ping(nonce))
    await conn.expect("SETTINGS")
    await conn.expect("SETTINGS_ACK")
    conn.send(wire.settings_ack())
    await stream.end(check="answered")
    await conn.expect(lambda seen: _is_pong(seen, nonce), check="pong", expected="PONG")


for _name, _dribble in (("octet-by-octet", True), ("in-one-write", False)):
    declare(
        f"FRM-011/set-up-{_name}",
        f"Set-up, a request and a PING {_name.replace('-', ' ')} have the usual effect.",
        partial(_setup_and_refusal, dribble=_dribble),
        checks=["answered", "pong"],
    )


async def _in_two_pieces(ctx: Context, conn: Connection, frame: bytes, cut: int) -> None:
    """Send a frame in two pieces that arrive apart: another connection is served in between."""
    other = await ctx.ready()
    conn.send(frame[:cut])
    await conn.flushed()
    await other.fence()
    conn.send(frame[cut:])


async def _split_ping(ctx: Context, *, cut: int) -> None:
    conn = await ctx.ready()
    nonce = ctx.nonce()
    await _in_two_pieces(ctx, conn, wire.ping(nonce), cut)
    await conn.expect(lambda seen: _is_pong(seen, nonce), check="pong", expected="PONG")


async def _split_open(ctx: Context, *, cut: int) -> None:
    conn = await ctx.ready()
    opening = conn.opening(some_subject(ctx), b"body")
    stream = conn.stream(opening[16:32])
    await _in_two_pieces(ctx, conn, opening, cut % len(opening))
    await understood(ctx, conn, stream, check="answered")


for _cut in (1, 2, 8, 15, 16, 31, 32, 33, 39):
    declare(
        f"FRM-011/ping-split-at-{_cut}",
        f"A PING that arrives in two pieces, {_cut} octets first, is answered.",
        partial(_split_ping, cut=_cut),
        checks=["pong"],
    )
for _name, _cut in {"31": 31, "32": 32, "34": 34, "36": 36, "46": 46, "last": -1}.items():
    declare(
        f"FRM-011/open-split-at-{_name}",
        "An OPEN that arrives in two pieces is answered.",
        partial(_split_open, cut=_cut),
        checks=["answered"],
        features=["conformance?"],
    )


@case("FRM-011/header-behind-frame", checks=["pong", "second"])
async def header_behind_frame(ctx: Context) -> None:
    """A frame and the begin of the next one in one piece: the first is not held back."""
    conn = await ctx.ready()
    first, second = ctx.nonce(), ctx.nonce()
    rest = wire.ping(second)
    conn.send(wire.ping(first), rest[:20])
    await conn.expect(lambda seen: _is_pong(seen, first), check="pong", expected="the first PONG")
    conn.send(rest[20:])
    await conn.expect(lambda seen: _is_pong(seen, second), check="second", expected="the other")


# -- FRM-012 -------------------------------------------------------------------------------------


@case("FRM-012/grease-setting", checks=["grease"])
async def grease_setting(ctx: Context) -> None:
    """The SETTINGS of the worker include a grease setting, an id of the form 0xNANA."""
    conn = await ctx.ready()
    frame = conn.settings_frame
    if frame is None or frame.settings is None:
        ctx.unprepared("SETTINGS")
    ids = [number for number, _value in frame.settings]
    good = any(number & 0x0F0F == 0x0A0A and number >> 12 == number >> 4 & 0xF for number in ids)
    shown = ", ".join(f"0x{number:04X}" for number in ids)
    ctx.check("grease", good, expected="an id 0xNANA", actual=shown, frame=frame)


@case("FRM-012/grease-frames", checks=["types", "few"], features=["conformance"])
async def grease_frames(ctx: Context) -> None:
    """Grease frames have a type of 0x8A to 0xFA with low digit A and are one in 100 at most."""
    conn = await ctx.ready()
    await conn.call("conformance.generate", {"count": 400, "size": 8})
    types = [frame.type for frame in conn.frames if frame.type >= 0x80]
    good = all(kind & 0x0F == 0x0A for kind in types)
    ctx.check("types", good, expected="0x8A, 0x9A, ... 0xFA", actual=[hex(kind) for kind in types])
    most = 1 + len(conn.frames) // 100
    ctx.check("few", len(types) <= most, expected=f"at most {most}", actual=len(types))


# -- FRM-013 -------------------------------------------------------------------------------------

_LONGEST_IDLE = 60.0


async def _trickle(conn: Connection, octets: bytes, pause: float) -> None:
    for octet in octets:
        await asyncio.sleep(pause)
        conn.send(bytes([octet]))


def _idle(conn: Connection) -> float:
    """Return the target's own idle timeout in seconds, if it can be waited for."""
    idle = conn.peer_settings["IDLE_TIMEOUT_MS"] / 1_000
    if idle > _LONGEST_IDLE:
        raise NotApplicable(f"the target has an idle timeout of {idle:g} s, too long to wait for")
    return idle


async def _never_complete(ctx: Context, *, first: int) -> None:
    conn = await ctx.ready()
    idle = _idle(conn)
    frame = wire.grease(payload=bytes(4_000))
    started = time.monotonic()
    conn.violate(frame[:first])
    task = asyncio.create_task(_trickle(conn, frame[first:], idle / 10))
    try:
        # 0.5: a connection error is seen within 2 s of its cause, here the end of the idle time.
        goaway = await conn.expect_connection_error("HEARTBEAT_TIMEOUT", within=idle + 2)
    finally:
        task.cancel()
    if goaway is not None:
        took = goaway.at - started
        good = took >= idle - 0.02
        ctx.check("not-early", good, expected=f"not before {idle:g} s", actual=f"{took:.2f} s")


for _name, _first in (("header", 1), ("payload", wire.HEADER_SIZE + 100)):
    declare(
        f"FRM-013/dribbled-{_name}",
        f"A frame whose {_name} dribbles for more than the idle timeout is a HEARTBEAT_TIMEOUT.",
        partial(_never_complete, first=_first),
        checks=["goaway", "end", "not-early"],
        twin="FRM-013/slow-frame-at-once",
        timed=True,
        limit=150,
    )


@case("FRM-013/slow-frame-at-once", checks=["fence"])
async def slow_frame_at_once(ctx: Context) -> None:
    """The frame that the cases of this rule dribble is a legal one."""
    conn = await ctx.ready()
    conn.send(wire.grease(payload=bytes(4_000)))
    await conn.fence(check="fence")


@case("FRM-013/slow-but-complete", checks=["pong"], timed=True, limit=150)
async def slow_but_complete(ctx: Context) -> None:
    """A frame that is complete within the idle timeout is taken, however slowly it came."""
    conn = await ctx.ready()
    nonce = ctx.nonce()
    frame = wire.ping(nonce)
    begin, span = time.monotonic(), 0.5 * _idle(conn)
    for at in range(0, len(frame), 5):
        # By the clock: the pauses of a judge that is late would add up to more than the timeout.
        await asyncio.sleep(begin + span * at / len(frame) - time.monotonic())
        conn.send(frame[at : at + 5])
    await conn.expect(lambda seen: _is_pong(seen, nonce), check="pong", expected="PONG")


# -- precedence (section 2.5): header checks -----------------------------------------------------
#
# Each frame below breaks two rules or more. The id of a case names the rule that has to win.


async def _after_setup(ctx: Context, *, bad: bytes, good: bytes, error: str) -> None:
    conn = await ctx.ready()
    conn.violate(bad, instead_of=good)
    await conn.expect_connection_error(error)


async def _as_first_frame(ctx: Context, *, bad: bytes) -> None:
    conn = await ctx.connect()
    conn.send(wire.preface())
    conn.violate(bad, instead_of=conn.settings())
    await conn.expect_connection_error("PROTOCOL_ERROR")


async def _own_limit(
    ctx: Context, *, build: Callable[[int], bytes], good: bytes, error: str
) -> None:
    conn = await ctx.ready()
    conn.violate(build(conn.peer_settings["MAX_FRAME_SIZE"] + 1), instead_of=good)
    await conn.expect_connection_error(error)


def _declare_order(
    case_id: str,
    title: str,
    function: Callable[[Context], Awaitable[None]],
    features: tuple[str, ...] = (),
) -> None:
    declare(case_id, title, function, checks=REFUSED, twin=SAME, features=features)


_LONG = 2**62
_EXTENSION = wire.frame(type=wire.CONTROL, subtype=0x9A)

for _case, _title, _bad, _good, _error in (
    (
        "FRM-002/before-type",
        "The marker is checked before the type.",
        wire.frame(marker=0xF6, type=0x05),
        wire.grease(),
        "PROTOCOL_ERROR",
    ),
    (
        "FRM-002/before-length",
        "The marker is checked before the length.",
        wire.ping(marker=0xF6, length=_LONG),
        wire.ping(),
        "PROTOCOL_ERROR",
    ),
    (
        "FRM-004/type-before-length",
        "An unknown critical type is refused as such, whatever its length.",
        wire.frame(type=0x7F, length=_LONG),
        wire.grease(0xFF),
        "UNSUPPORTED_FRAME",
    ),
    (
        "FRM-004/type-before-all",
        "An unknown critical type is refused as such, whatever the other fields hold.",
        wire.frame(
            type=0x05, flags=0xFF, subtype=0xFF, seq=9, length=_LONG, request_id=wire.INVALID_ID
        ),
        wire.grease(0x85),
        "UNSUPPORTED_FRAME",
    ),
    (
        "TYP-001/before-length",
        "A RESPONSE at a worker is refused as such, whatever its length.",
        wire.response(GOLDEN_ID, 1, length=_LONG),
        wire.request(GOLDEN_ID, 1),
        "PROTOCOL_ERROR",
    ),
    (
        "FRM-003/before-flags",
        "The length is checked before the flags.",
        wire.ping(flags=wire.END_STREAM, length=5_000),
        wire.ping(),
        "FRAME_SIZE_ERROR",
    ),
    (
        "FRM-003/before-control-subtype",
        "The length of a Control frame is checked before its subtype.",
        wire.frame(type=wire.CONTROL, subtype=0x00, length=5_000),
        _EXTENSION,
        "FRAME_SIZE_ERROR",
    ),
    (
        "FRM-003/before-heartbeat-subtype",
        "The length of a Heartbeat frame is checked before its subtype.",
        wire.ping(subtype=0x03, length=5_000),
        wire.ping(),
        "FRAME_SIZE_ERROR",
    ),
    (
        "FRM-003/before-seq",
        "The length is checked before the seq.",
        wire.ping(seq=1, length=5_000),
        wire.ping(),
        "FRAME_SIZE_ERROR",
    ),
    (
        "FRM-003/before-id",
        "The length is checked before the request id.",
        wire.ping(request_id=GOLDEN_ID, length=5_000),
        wire.ping(),
        "FRAME_SIZE_ERROR",
    ),
    (
        "FRM-006/before-subtype",
        "The flags of a Control frame are checked before its subtype.",
        wire.frame(type=wire.CONTROL, subtype=0x44, flags=wire.END_STREAM),
        _EXTENSION,
        "PROTOCOL_ERROR",
    ),
    (
        "FRM-006/before-fixed-length",
        "The flags are checked before the fixed length of a payload.",
        wire.ping(bytes(7), flags=wire.MORE),
        wire.ping(),
        "PROTOCOL_ERROR",
    ),
    (
        "FRM-004/subtype-before-seq",
        "The subtype of a Control frame is checked before its seq.",
        wire.frame(type=wire.CONTROL, subtype=0x44, seq=1),
        _EXTENSION,
        "UNSUPPORTED_FRAME",
    ),
    (
        "FRM-004/heartbeat-before-fixed-length",
        "The subtype of a Heartbeat frame is checked before its length of 8.",
        wire.ping(bytes(7), subtype=0x03),
        wire.ping(),
        "PROTOCOL_ERROR",
    ),
    (
        "FRM-007/before-fixed-length",
        "The seq of a Heartbeat frame is checked before its length of 8.",
        wire.ping(bytes(7), seq=1),
        wire.ping(),
        "PROTOCOL_ERROR",
    ),
    (
        "FRM-008/before-fixed-length",
        "The request id is checked before the fixed length of a payload.",
        wire.ping(bytes(7), request_id=GOLDEN_ID),
        wire.ping(),
        "PROTOCOL_ERROR",
    ),
    (
        "FRM-008/kill-before-fixed-length",
        "The request id of a KILL is checked before its length of 4.",
        wire.kill(wire.CONNECTION_ID, payload=bytes(3)),
        wire.kill(GOLDEN_ID),
        "PROTOCOL_ERROR",
    ),
    (
        "PAY-001/before-limit-range",
        "The length of a WINDOW_UPDATE is checked before its value.",
        wire.window_update(0, payload=b"\xff" * 9),
        wire.window_update(1 << 27),
        "FRAME_SIZE_ERROR",
    ),
    (
        "PAY-001/before-second-settings",
        "The length of a SETTINGS is checked before it counts as the second.",
        wire.settings(extra=bytes(9)),
        wire.ping(),
        "FRAME_SIZE_ERROR",
    ),
    (
        "PAY-001/before-second-ack",
        "The length of a SETTINGS_ACK is checked before it counts as the second.",
        wire.settings_ack(b"\0"),
        wire.ping(),
        "FRAME_SIZE_ERROR",
    ),
    (
        "PAY-001/before-unknown-id",
        "The length of a KILL is checked before its id is looked up.",
        wire.kill(GOLDEN_ID, payload=bytes(5)),
        wire.kill(GOLDEN_ID),
        "FRAME_SIZE_ERROR",
    ),
    (
        "HSK-006/before-values",
        "A second SETTINGS is refused as such, whatever its values.",
        wire.settings([("MAX_FRAME_SIZE", 1)]),
        wire.ping(),
        "PROTOCOL_ERROR",
    ),
    (
        "TYP-002/before-unknown-id",
        "END_STREAM with MORE is refused before the id is looked up.",
        wire.request(GOLDEN_ID, 1, b"x", end=True, more=True),
        wire.request(GOLDEN_ID, 1, b"x", end=True),
        "PROTOCOL_ERROR",
    ),
    (
        "TYP-003/before-unknown-id",
        "META behind the OPEN is refused before the id is looked up.",
        wire.request(GOLDEN_ID, 1, b"x", flags=wire.META),
        wire.request(GOLDEN_ID, 1, b"x"),
        "PROTOCOL_ERROR",
    ),
):
    _declare_order(_case, _title, partial(_after_setup, bad=_bad, good=_good, error=_error))

for _name, _bad in {
    "type": wire.frame(type=0x05),
    "length": wire.ping(length=_LONG),
    "fixed-length": wire.ping(bytes(7)),
    "control-subtype": wire.frame(type=wire.CONTROL, subtype=0x44),
}.items():
    _declare_order(
        f"HSK-005/before-{_name}",
        f"A first frame that is not SETTINGS is refused as such, whatever its {_name}.",
        partial(_as_first_frame, bad=_bad),
    )

_declare_order(
    "FRM-003/before-request-id",
    "The length of a REQUEST is checked before its request id.",
    partial(
        _own_limit,
        build=lambda length: wire.request(wire.CONNECTION_ID, 1, length=length),
        good=wire.request(GOLDEN_ID, 1),
        error="FRAME_SIZE_ERROR",
    ),
)
_declare_order(
    "FRM-003/before-meta",
    "The length of a REQUEST is checked before the rules about META.",
    partial(
        _own_limit,
        build=lambda length: wire.request(GOLDEN_ID, 0, length=length),
        good=wire.open_request(GOLDEN_ID, UNKNOWN_SUBJECT),
        error="FRAME_SIZE_ERROR",
    ),
)


@case("PAY-001/before-setting-values", checks=REFUSED, twin=SAME)
async def length_before_values(ctx: Context) -> None:
    """The length of SETTINGS is checked before its values."""
    conn = await ctx.connect()
    conn.send(wire.preface())
    bad = wire.settings([("MAX_FRAME_SIZE", 1)], extra=b"\0")
    conn.violate(bad, instead_of=conn.settings())
    await conn.expect_connection_error("FRAME_SIZE_ERROR")


# -- precedence: rules that tie fields together, credit, state, sequence, payload ----------------


def _broken_open(request_id: bytes, subject: str = UNKNOWN_SUBJECT) -> bytes:
    """Build an OPEN with one header that declares five."""
    metadata = wire.open_metadata(subject, headers=[("a", "b")], header_count=5)
    return wire.open_request(request_id, subject, metadata=metadata)


@case("RID-002/before-metadata", checks=REFUSED, twin=SAME)
async def duplicate_before_metadata(ctx: Context) -> None:
    """A repeated OPEN is a DUPLICATE_REQUEST before its metadata is looked at."""
    conn = await ctx.ready()
    stream = conn.open(UNKNOWN_SUBJECT)
    await stream.end()
    good = wire.open_request(ctx.new_id(), UNKNOWN_SUBJECT)
    conn.violate(_broken_open(stream.id), instead_of=good)
    await conn.expect_connection_error("DUPLICATE_REQUEST")


async def _on_open_echo(ctx: Context, *, error: str, seq: int, flags: int) -> None:
    conn = await ctx.ready()
    stream = conn.open("conformance.echo", end=False)
    bad = wire.request(stream.id, seq, b"x", flags=flags)
    conn.violate(bad, instead_of=wire.request(stream.id, 1, b"x"))
    await conn.expect_connection_error(error)


_declare_order(
    "TYP-003/before-duplicate",
    "A REQUEST with seq 0 and without META is refused as such on a live id.",
    partial(_on_open_echo, error="PROTOCOL_ERROR", seq=0, flags=0),
    features=("conformance",),
)
_declare_order(
    "TYP-003/before-sequence",
    "META behind the OPEN is refused as such, even with a gap in seq.",
    partial(_on_open_echo, error="PROTOCOL_ERROR", seq=5, flags=wire.META),
    features=("conformance",),
)
_declare_order(
    "TYP-002/before-sequence",
    "END_STREAM with MORE is refused as such, even with a gap in seq.",
    partial(_on_open_echo, error="PROTOCOL_ERROR", seq=5, flags=wire.END_STREAM | wire.MORE),
    features=("conformance",),
)


async def _on_ended_sink(ctx: Context, *, error: str, seq: int, flags: int) -> None:
    conn = await ctx.ready()
    stream = conn.open("conformance.sink", {"stall": True}, end=True)
    conn.violate(wire.request(stream.id, seq, b"x", flags=flags), instead_of=wire.ping())
    await conn.expect_connection_error(error)


_declare_order(
    "STM-001/before-sequence",
    "A REQUEST behind END_STREAM is a STREAM_STATE_ERROR, even with a gap in seq.",
    partial(_on_ended_sink, error="STREAM_STATE_ERROR", seq=5, flags=0),
    features=("conformance",),
)
_declare_order(
    "TYP-002/before-state",
    "END_STREAM with MORE is refused as such, even behind END_STREAM.",
    partial(_on_ended_sink, error="PROTOCOL_ERROR", seq=1, flags=wire.END_STREAM | wire.MORE),
    features=("conformance",),
)
_declare_order(
    "TYP-003/before-state",
    "META behind the OPEN is refused as such, even behind END_STREAM.",
    partial(_on_ended_sink, error="PROTOCOL_ERROR", seq=1, flags=wire.META),
    features=("conformance",),
)


_LARGEST_WINDOW = 1 << 24


async def _without_credit(conn: Connection) -> Stream:
    """Use up the credit of a stream whose handler consumes nothing."""
    stream = conn.open("conformance.sink", {"stall": True}, end=False)
    await conn.fence()
    largest = conn.peer_settings["MAX_FRAME_SIZE"]
    while (room := stream.send_limit - stream.sent_cost - wire.HEADER_SIZE) > 0:
        stream.send(bytes(min(room, largest)))
        await conn.flushed()
    return stream


async def _over_credit(ctx: Context, *, error: str, skip: int, flags: int, ended: bool) -> None:
    conn = await ctx.ready()
    if conn.peer_settings["INITIAL_STREAM_WINDOW"] > _LARGEST_WINDOW:
        raise NotApplicable("the target's stream window is too large to be filled here")
    stream = await _without_credit(conn)
    if ended:
        stream.finish()
    await conn.fence()
    body = bytes(conn.peer_settings["MAX_FRAME_SIZE"])
    bad = wire.request(stream.id, stream.next_seq + skip, body, flags=flags)
    conn.violate(bad, instead_of=wire.ping())
    await conn.expect_connection_error(error)


_declare_order(
    "TYP-003/before-credit",
    "META behind the OPEN is refused as such, even without credit.",
    partial(_over_credit, error="PROTOCOL_ERROR", skip=0, flags=wire.META, ended=False),
    features=("conformance",),
)
_declare_order(
    "FLW-002/before-sequence",
    "An exceeded limit is a FLOW_CONTROL_ERROR, even with a gap in seq.",
    partial(_over_credit, error="FLOW_CONTROL_ERROR", skip=3, flags=0, ended=False),
    features=("conformance",),
)
_declare_order(
    "FLW-002/before-state",
    "An exceeded limit is a FLOW_CONTROL_ERROR, even behind END_STREAM.",
    partial(_over_credit, error="FLOW_CONTROL_ERROR", skip=0, flags=0, ended=True),
    features=("conformance",),
)


# -- precedence: refusals ------------------------------------------------------------------------


async def _draining(ctx: Context) -> Connection:
    """Return a connection that drains and still has a request."""
    conn = await ctx.ready()
    conn.open("conformance.sleep", {"ms": 20_000})
    await conn.call("conformance.drain", {"grace_ms": 20_000})
    await conn.expect("GOAWAY")
    return conn


@case("PAY-002/while-draining", checks=REFUSED, twin=SAME, features=["conformance"])
async def metadata_while_draining(ctx: Context) -> None:
    """Malformed metadata is a connection error also on a connection that is draining."""
    conn = await _draining(ctx)
    good = wire.open_request(ctx.new_id(), UNKNOWN_SUBJECT)
    conn.violate(_broken_open(ctx.new_id()), instead_of=good)
    await conn.expect_connection_error("PROTOCOL_ERROR")


@case("CLS-004/before-invalid-argument", checks=["error", "fence"], features=["conformance"])
async def draining_before_invalid_argument(ctx: Context) -> None:
    """An OPEN with a malformed subject on a draining connection is refused with DRAINING."""
    conn = await _draining(ctx)
    await outcome(conn, conn.open("a..b"), "DRAINING")


@case("CLS-004/before-not-found", checks=["error", "fence"], features=["conformance"])
async def draining_before_not_found(ctx: Context) -> None:
    """An OPEN with an unknown subject on a draining connection is refused with DRAINING."""
    conn = await _draining(ctx)
    await outcome(conn, conn.open(UNKNOWN_SUBJECT), "DRAINING")


@case("PAY-005/before-not-found", checks=["error", "fence"])
async def invalid_argument_before_not_found(ctx: Context) -> None:
    """A malformed header key with an unknown subject is refused with INVALID_ARGUMENT."""
    conn = await ctx.ready()
    stream = conn.open(UNKNOWN_SUBJECT, headers=[("Upper", "x")])
    await outcome(conn, stream, "INVALID_ARGUMENT")


async def _full(ctx: Context) -> Connection:
    """Return a connection that has as many requests as it may have."""
    conn = await ctx.ready()
    limit = conn.peer_settings["MAX_CONCURRENT_REQUESTS"]
    if limit > 2_048:
        raise NotApplicable(f"the target accepts {limit} requests at once, too many to be filled")
    for _ in range(limit):
        conn.open("conformance.sleep", {"ms": 20_000})
    frame = await conn.open("conformance.echo", b"surplus").end()
    if frame.error is None or frame.error.code != wire.code("OVERLOADED"):
        ctx.unprepared("OVERLOADED for a surplus request", frame)
    return conn


@case("PAY-004/not-found-before-overloaded", checks=["error", "fence"], features=["conformance"])
async def not_found_before_overloaded(ctx: Context) -> None:
    """A surplus OPEN with an unknown subject is refused with NOT_FOUND."""
    conn = await _full(ctx)
    await outcome(conn, conn.open(UNKNOWN_SUBJECT), "NOT_FOUND")


@case("PAY-004/invalid-before-overloaded", checks=["error", "fence"], features=["conformance"])
async def invalid_argument_before_overloaded(ctx: Context) -> None:
    """A surplus OPEN with a malformed subject is refused with INVALID_ARGUMENT."""
    conn = await _full(ctx)
    await outcome(conn, conn.open("a..b"), "INVALID_ARGUMENT")
