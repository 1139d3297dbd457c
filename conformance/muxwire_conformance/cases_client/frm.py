"""Framing, as a client shows it: what it refuses, what it ignores, what it sends."""

from __future__ import annotations

from typing import Unpack

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases_client._steps import REFUSED, answered, pong, refused, refused_answer
from muxwire_conformance.client_mode.context import ClientContext
from muxwire_conformance.wire import Override

SETTINGS_UP = "FRM-011/client-one-write"
SOME_ID = bytes(range(1, 17))


def _frame(name: str, **header: Unpack[Override]) -> bytes:
    """Build a legal frame that a worker may send at any time, but for what is given."""
    builders = {
        "window-update": lambda: wire.window_update(1 << 28, **header),
        "ping": lambda: wire.ping(b"12345678", **header),
        "pong": lambda: wire.pong(b"12345678", **header),
        "goaway": lambda: wire.goaway(last_ordinal=9, grace_ms=60_000, **header),
    }
    return builders[name]()


# -- FRM-002 to FRM-005 --------------------------------------------------------------------------

refused(
    "FRM-002/client-marker-f6",
    "A frame with another marker than 0xF7 is a connection error.",
    "PROTOCOL_ERROR",
    lambda _ctx, _link: wire.ping(marker=0xF6),
    lambda _ctx, _link: wire.ping(),
)
refused_answer(
    "FRM-002/client-marker-of-a-response",
    "The marker of a RESPONSE is checked before anything else of it.",
    "PROTOCOL_ERROR",
    lambda _ctx, _link, one: one.build(b"x", marker=0),
    lambda _ctx, _link, one: one.build(b"x"),
)


@case("FRM-003/client-response-above-limit", role="client", checks=REFUSED, twin=SAME)
async def response_above_limit(ctx: ClientContext) -> None:
    """A RESPONSE longer than the client's MAX_FRAME_SIZE is refused by its header alone."""
    link, one, _call = await ctx.asked()
    most = link.peer_settings["MAX_FRAME_SIZE"]
    bad = one.build(length=most + 1) if not ctx.twin_run else b""
    link.violate(bad, instead_of=b"" if not ctx.twin_run else one.build(b"x"))
    if ctx.twin_run:
        await link.expect_connection_error("FRAME_SIZE_ERROR")
    else:
        await link.expect_connection_error("FRAME_SIZE_ERROR", within=2.0)


@case(
    "FRM-003/client-response-of-the-limit", role="client", checks=["served"], features=["settings"]
)
async def response_of_the_limit(ctx: ClientContext) -> None:
    """A RESPONSE of exactly the client's MAX_FRAME_SIZE is accepted."""
    link, one, call = await ctx.asked(client={"MAX_FRAME_SIZE": 16_384})
    one.send(bytes(16_384))
    one.send(end=True)
    await call.succeeds([bytes(16_384)], check="served")
    await link.fence()


@case("FRM-003/client-length-of-64-bits", role="client", checks=REFUSED, twin=SAME)
async def length_of_64_bits(ctx: ClientContext) -> None:
    """payload_length has 64 bits: its upper half counts."""
    link = await ctx.ready()
    link.violate(wire.ping(length=(1 << 32) + 8), instead_of=wire.ping())
    await link.expect_connection_error("FRAME_SIZE_ERROR", within=None if ctx.twin_run else 2.0)


for _name, _kind, _subtype in (
    ("ping", wire.HEARTBEAT, wire.PING),
    ("goaway", wire.CONTROL, wire.GOAWAY),
    ("ignorable-subtype", wire.CONTROL, 0x9A),
):

    def _declare_long(name: str, kind: int, subtype: int) -> None:
        async def run(ctx: ClientContext) -> None:
            link = await ctx.ready()
            head = wire.frame(type=kind, subtype=subtype, length=4_097)
            link.violate(head, instead_of=wire.ping())
            await link.expect_connection_error(
                "FRAME_SIZE_ERROR", within=None if ctx.twin_run else 2.0
            )

        run.__doc__ = f"A {name} of more than 4,096 octets is refused by its header alone."
        case(
            f"FRM-003/client-{name}-4097",
            role="client",
            checks=REFUSED,
            twin=SETTINGS_UP if name != "ping" else SAME,
        )(run)

    _declare_long(_name, _kind, _subtype)

for _kind in (0x00, 0x05, 0x7F):
    refused(
        f"FRM-004/client-type-{_kind:02x}",
        f"The unknown critical type 0x{_kind:02X} is a connection error.",
        "UNSUPPORTED_FRAME",
        lambda _ctx, _link, kind=_kind: wire.frame(type=kind),  # type: ignore[misc]
        lambda _ctx, _link: wire.grease(),
        twin=SETTINGS_UP,
    )
for _subtype in (0x00, 0x07, 0x10):
    refused(
        f"FRM-004/client-control-subtype-{_subtype:02x}",
        f"The unknown critical Control subtype 0x{_subtype:02X} is a connection error.",
        "UNSUPPORTED_FRAME",
        lambda _ctx, _link, subtype=_subtype: wire.frame(  # type: ignore[misc]
            type=wire.CONTROL, subtype=subtype
        ),
        lambda _ctx, _link: wire.ping(),
        twin=SETTINGS_UP,
    )
for _subtype in (0x03, 0x81):
    refused(
        f"FRM-004/client-heartbeat-subtype-{_subtype:02x}",
        f"The unknown Heartbeat subtype 0x{_subtype:02X} is an error, whatever its bit 7.",
        "PROTOCOL_ERROR",
        lambda _ctx, _link, subtype=_subtype: wire.ping(subtype=subtype),  # type: ignore[misc]
        lambda _ctx, _link: wire.ping(),
        twin=SETTINGS_UP,
    )


@case("FRM-005/client-ignores", role="client", checks=["pong", "works"])
async def ignores(ctx: ClientContext) -> None:
    """Types and Control subtypes with bit 7 are skipped, whatever else they carry."""
    link = await ctx.ready()
    call = ctx.request(b"x")
    one = await link.take()
    link.send(
        wire.grease(0x8A, b"payload", flags=0xFF, subtype=0xFF, seq=7, request_id=SOME_ID),
        wire.grease(0xFA, bytes(16_384), request_id=one.id),
        wire.frame(bytes(4_096), type=wire.CONTROL, subtype=0x9A, request_id=SOME_ID),
    )
    await link.fence(check="pong")
    one.answer(b"y")
    await call.succeeds([b"y"], check="works")


refused(
    "FRM-005/client-ignorable-subtype-with-seq",
    "Of an ignorable Control subtype the seq is checked as for any Control frame.",
    "PROTOCOL_ERROR",
    lambda _ctx, _link: wire.frame(type=wire.CONTROL, subtype=0x9A, seq=1),
    lambda _ctx, _link: wire.frame(type=wire.CONTROL, subtype=0x9A),
)

# -- FRM-006 to FRM-008 --------------------------------------------------------------------------


@case("FRM-006/client-reserved-flags", role="client", checks=["pong", "works"])
async def reserved_flags(ctx: ClientContext) -> None:
    """Flag bits 0x10 to 0x80 are ignored on every frame."""
    link = await ctx.ready()
    link.send(wire.ping(flags=0xF0), wire.window_update(1 << 28, flags=0xF0))
    await link.fence(check="pong")
    call = ctx.request(b"x")
    one = await link.take()
    one.send(b"y", flags=0xF0)
    one.send(end=True, flags=wire.END_STREAM | 0xF0)
    await call.succeeds([b"y"], check="works")


for _name in ("window-update", "ping", "pong", "goaway"):
    for _flag in (wire.END_STREAM, wire.ERROR):
        refused(
            f"FRM-006/client-{_name}-flag-{_flag:02x}",
            f"The flag 0x{_flag:02X} on a {_name} is a connection error.",
            "PROTOCOL_ERROR",
            lambda _ctx, _link, name=_name, flag=_flag: _frame(name, flags=flag),  # type: ignore[misc]
            lambda _ctx, _link, name=_name: _frame(name),  # type: ignore[misc]
            twin=SETTINGS_UP,
        )
    refused(
        f"FRM-007/client-{_name}-seq-1",
        f"A seq other than 0 on a {_name} is a connection error.",
        "PROTOCOL_ERROR",
        lambda _ctx, _link, name=_name: _frame(name, seq=1),  # type: ignore[misc]
        lambda _ctx, _link, name=_name: _frame(name),  # type: ignore[misc]
        twin=SETTINGS_UP,
    )
    refused(
        f"FRM-008/client-{_name}-all-ones",
        f"The all-ones id on a {_name} is a connection error.",
        "PROTOCOL_ERROR",
        lambda _ctx, _link, name=_name: _frame(name, request_id=wire.INVALID_ID),  # type: ignore[misc]
        lambda _ctx, _link, name=_name: _frame(name),  # type: ignore[misc]
        twin=SETTINGS_UP,
    )

for _name in ("ping", "goaway"):
    refused(
        f"FRM-008/client-{_name}-with-id",
        f"A request id on a {_name} is a connection error.",
        "PROTOCOL_ERROR",
        lambda _ctx, _link, name=_name: _frame(name, request_id=SOME_ID),  # type: ignore[misc]
        lambda _ctx, _link, name=_name: _frame(name),  # type: ignore[misc]
        twin=SETTINGS_UP,
    )
for _name, _id in (("all-zero", wire.CONNECTION_ID), ("all-ones", wire.INVALID_ID)):
    refused(
        f"FRM-008/client-response-{_name}",
        f"The {_name} id on a RESPONSE is a connection error.",
        "PROTOCOL_ERROR",
        lambda _ctx, _link, id=_id: wire.response(id, 0, b"x"),  # type: ignore[misc]
        lambda _ctx, _link: wire.ping(),
        twin=SETTINGS_UP,
    )
refused_answer(
    "FRM-007/client-response-subtype-1",
    "A subtype other than 0 on a RESPONSE is a connection error.",
    "PROTOCOL_ERROR",
    lambda _ctx, _link, one: one.build(b"x", subtype=1),
    lambda _ctx, _link, one: one.build(b"x"),
)

# -- FRM-010, FRM-011, FRM-012, FRM-013 ----------------------------------------------------------

refused_answer(
    "FRM-010/client-first-seq-1",
    "The first RESPONSE of a request has seq 0.",
    "SEQUENCE_ERROR",
    lambda _ctx, _link, one: one.build(b"x", seq=1),
    lambda _ctx, _link, one: one.build(b"x", seq=0),
)
refused_answer(
    "FRM-010/client-gap",
    "A gap in the seq of RESPONSE frames is a connection error.",
    "SEQUENCE_ERROR",
    lambda _ctx, _link, one: one.build(b"x") + one.build(b"y", seq=2),
    lambda _ctx, _link, one: one.build(b"x") + one.build(b"y", seq=1),
)
refused_answer(
    "FRM-010/client-repeat",
    "A repeated seq is a connection error.",
    "SEQUENCE_ERROR",
    lambda _ctx, _link, one: one.build(b"x") + one.build(b"y", seq=0),
    lambda _ctx, _link, one: one.build(b"x") + one.build(b"y", seq=1),
)


@case(
    "FRM-010/client-counts",
    role="client",
    checks=["served"],
    requirements=["FRM-010", "FRM-001", "TYP-003", "FRM-007", "FRM-008"],
)
async def counts(ctx: ClientContext) -> None:
    """The REQUEST frames of each request count 0, 1, 2; META is on the first only."""
    link = await ctx.ready()
    sent = [b"a" * 20_000, b"", b"c" * 70_000]
    calls = [ctx.request(messages=sent) for _ in range(2)]
    for _call in calls:
        one = await link.take()
        got = await one.complete()
        ctx.check("served", got == sent, expected="the messages", actual=[len(m) for m in got])
        one.answer()
    for call in calls:
        await call.succeeds([])


@case("FRM-011/client-one-write", role="client", checks=["works"])
async def one_write(ctx: ClientContext) -> None:
    """Preface, SETTINGS, SETTINGS_ACK, PING and more in one write have the same effect."""
    await ctx.start()
    link = await ctx.accept()
    await link.offered()
    pieces = [wire.preface(), link.settings(), wire.settings_ack(), wire.grease(), wire.ping()]
    link.send(*pieces)
    await link.expect("SETTINGS_ACK", check="works")
    await pong(ctx, link, check="works")
    await answered(ctx, link, check="works")


@case("FRM-011/client-octet-by-octet", role="client", checks=["works"])
async def octet_by_octet(ctx: ClientContext) -> None:
    """Octets that come one by one have the same effect."""
    await ctx.start()
    link = await ctx.accept()
    await link.offered()
    link.transport.dribble()
    await link.welcome(check="works")
    call = ctx.request(b"x")
    one = await link.take()
    one.send(b"first", headers=[("k", "v")])
    one.answer(b"second", trailers=[("t", "w")])
    await call.succeeds([b"first", b"second"], check="works")


@case("FRM-011/client-split-in-time", role="client", checks=["works"])
async def split_in_time(ctx: ClientContext) -> None:
    """A frame that comes in pieces, each read by itself, is one frame."""
    link, one, call = await ctx.asked()
    body = ctx.rng.randbytes(300)
    raw = one.build(body, end=True)
    for piece in (raw[:1], raw[1:20], raw[20:32], raw[32:100], raw[100:331], raw[331:]):
        link.send(piece)
        await link.until(lambda: False, 0.03)
    await call.succeeds([body], check="works")
    await link.fence(check="works")


@case("FRM-012/client-grease-setting", role="client", checks=["grease"])
async def grease_setting(ctx: ClientContext) -> None:
    """The SETTINGS of the client include a setting of the form 0xNANA."""
    link = await ctx.ready()
    pairs = (link.settings_frame.settings or []) if link.settings_frame is not None else []
    held = any(
        number & 0x0F0F == 0x0A0A and number >> 12 == number >> 4 & 0xF for number, _value in pairs
    )
    ctx.check("grease", held, expected="a setting 0xNANA", actual=[hex(n) for n, _v in pairs])


@case(
    "FRM-013/client-slow-frame",
    role="client",
    checks=[*REFUSED, "in-time"],
    twin=SAME,
    timed=True,
    features=["settings"],
)
async def slow_frame(ctx: ClientContext) -> None:
    """A frame that is not complete within the client's IDLE_TIMEOUT_MS is a connection error."""
    link = await ctx.ready(client={"IDLE_TIMEOUT_MS": 600})
    link.stay_silent()
    octets = wire.grease(0x8A, bytes(400))
    if ctx.twin_run:
        link.violate(b"", instead_of=octets)
        await link.expect_connection_error("HEARTBEAT_TIMEOUT")
        return
    link.violate(octets[:1])
    for start in range(1, len(octets) - 1, 8):
        link.send(octets[start : start + 8])
        if await link.until(lambda: link.goaway is not None, 0.05):
            break
    expected = "GOAWAY while the octets of the frame still come"
    ctx.check("in-time", link.goaway is not None, expected=expected, actual=link.situation())
    await link.expect_connection_error("HEARTBEAT_TIMEOUT", within=0.3)
