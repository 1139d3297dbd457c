"""Frames that the state of a call-home connection does not list (P0-012), as a router sees them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from muxwire_conformance import wire
from muxwire_conformance.case import SAME
from muxwire_conformance.cases_client._callhome import (
    SOON,
    declare_routed,
    redelivered,
    routed,
    served,
)
from muxwire_conformance.client_mode.home import Delivery, HomeLink
from muxwire_conformance.client_mode.router import RouterContext

MOST_FRAME = 1_048_576
MOST_METADATA = 65_536

Octets = Callable[[RouterContext, Delivery], bytes]


def _next(one: Delivery, data: bytes = b"x", **header: int) -> bytes:
    """Build a RESPONSE with the next seq; a header field is what breaks a rule."""
    return wire.response(one.id, one.next_seq, data, **header)  # type: ignore[arg-type]


def _legal(_ctx: RouterContext, one: Delivery) -> bytes:
    return _next(one)


def _ping(ctx: RouterContext, _one: Delivery) -> bytes:
    return wire.ping(ctx.nonce())


def _error(one: Delivery, body: bytes, flags: int = wire.END_STREAM | wire.ERROR) -> bytes:
    return wire.response(one.id, one.next_seq, body, flags=flags)


# -- behind a RESPONSE ---------------------------------------------------------------------------


async def _lost(ctx: RouterContext, *, bad: Octets, good: Octets) -> None:
    link, delivery, call = await ctx.carried()
    delivery.send(b"one")
    await ctx.driver_until(lambda: call.messages == [b"one"])
    link.violate(bad(ctx, delivery), instead_of=good(ctx, delivery))
    await link.expect_close()
    if ctx.twin_run:
        return
    await call.fails("PARTIAL", None, messages=1, check="class", within=SOON)
    await served(ctx, check="works")


def _settings(_ctx: RouterContext, _one: Delivery) -> bytes:
    return wire.settings([])


def _window_update(_ctx: RouterContext, one: Delivery) -> bytes:
    return wire.window_update(1 << 20, request_id=one.id)


def _goaway(_ctx: RouterContext, _one: Delivery) -> bytes:
    return wire.goaway()


_STREAMING: tuple[tuple[str, str, str, Octets, Octets], ...] = (
    ("gap", "A gap in seq", "FRM-010", lambda _c, o: _next(o, seq=o.next_seq + 1), _legal),
    ("repeat", "A seq for the second time", "FRM-010", lambda _c, o: _next(o, seq=0), _legal),
    (
        "other-id",
        "A RESPONSE with another id",
        "P0-012",
        lambda c, o: _next(o, request_id=c.new_id()),  # type: ignore[arg-type]
        _legal,
    ),
    (
        "hello-in-stream",
        "HELLO in the middle of a stream",
        "P0-012",
        lambda c, _o: wire.hello(c.new_id(), bytes(16)),
        _ping,
    ),
    (
        "own-hello-in-stream",
        "HELLO of the stream itself on its connection",
        "P0-012",
        lambda c, o: wire.hello(o.id, next(p.token for p in c.posts if p.stream == o.id)),
        _ping,
    ),
    ("accept", "ACCEPT from a worker", "TYP-001", lambda _c, o: wire.accept(o.id), _ping),
    ("reject", "REJECT from a worker", "TYP-001", lambda _c, o: wire.reject(o.id), _ping),
    ("done", "DONE from a worker", "TYP-001", lambda _c, o: wire.done(o.id), _ping),
    ("stop", "STOP from a worker", "TYP-001", lambda _c, o: wire.stop(o.id), _ping),
    ("kill", "KILL from a worker", "TYP-001", lambda _c, o: wire.kill(o.id), _ping),
    (
        "request",
        "REQUEST",
        "TYP-001",
        lambda _c, o: wire.open_request(o.id, "a.b"),
        _ping,
    ),
    ("settings", "SETTINGS", "FRM-004", _settings, _ping),
    ("window-update", "WINDOW_UPDATE", "FRM-004", _window_update, _ping),
    ("goaway", "GOAWAY", "FRM-004", _goaway, _ping),
    ("marker", "A wrong marker", "FRM-002", lambda c, _o: wire.ping(c.nonce(), marker=0x77), _ping),
    ("type", "An unknown type", "FRM-004", lambda _c, _o: wire.frame(type=0x7F), _ping),
    (
        "subtype",
        "An unknown Control subtype",
        "FRM-004",
        lambda _c, _o: wire.frame(type=wire.CONTROL, subtype=0x7F),
        _ping,
    ),
    ("ping-flags", "Flags on PING", "FRM-006", lambda c, _o: wire.ping(c.nonce(), flags=1), _ping),
    ("ping-seq", "A seq on PING", "FRM-007", lambda c, _o: wire.ping(c.nonce(), seq=1), _ping),
    ("ping-size", "A PING of 7 octets", "PAY-001", lambda _c, _o: wire.ping(bytes(7)), _ping),
    (
        "response-subtype",
        "A subtype on RESPONSE",
        "FRM-007",
        lambda _c, o: _next(o, subtype=1),
        _legal,
    ),
    ("end-and-more", "END_STREAM with MORE", "TYP-002", lambda _c, o: _next(o, flags=3), _legal),
    (
        "error-alone",
        "ERROR without END_STREAM",
        "TYP-004",
        lambda _c, o: _error(o, wire.error_body("APPLICATION_ERROR"), wire.ERROR),
        _legal,
    ),
    (
        "late-meta",
        "META inside a response",
        "TYP-005",
        lambda _c, o: _next(o, wire.metadata(), flags=wire.META),
        _legal,
    ),
    (
        "metadata",
        "Metadata that overruns its frame",
        "PAY-002",
        lambda _c, o: _next(o, b"\0\0\1\0", flags=wire.META | wire.END_STREAM),
        _legal,
    ),
    (
        "error-body",
        "An error body that is cut short",
        "PAY-007",
        lambda _c, o: _error(o, wire.error_body("APPLICATION_ERROR")[:11]),
        _legal,
    ),
    (
        "large-error-body",
        "An error body of 4,097 octets",
        "PAY-007",
        lambda _c, o: _error(o, wire.error_body("APPLICATION_ERROR", detail=bytes(4_085))),
        _legal,
    ),
    (
        "late-not-processed",
        "NOT_PROCESSED behind a message",
        "ADM-003",
        lambda _c, o: _error(o, wire.error_body("OVERLOADED", flags=wire.NOT_PROCESSED)),
        _legal,
    ),
    (
        "length",
        "A RESPONSE of 1,048,577 octets",
        "FRM-003",
        lambda _c, o: _next(o, length=MOST_FRAME + 1),
        _legal,
    ),
    (
        "huge-length",
        "A payload_length of 2^40",
        "FRM-003",
        lambda _c, o: _next(o, length=1 << 40),
        _legal,
    ),
    (
        "control-length",
        "A HELLO of 4,097 octets",
        "FRM-003",
        lambda _c, o: wire.hello(o.id, bytes(4_097)),
        _ping,
    ),
)
for _name, _title, _rule, _bad, _good in _STREAMING:
    declare_routed(
        f"P0-012/client-{_name}",
        f"{_title} in a stream ends the connection without a frame; the stream is PARTIAL.",
        partial(_lost, bad=_bad, good=_good),
        checks=["end", "class", "works"],
        twin=SAME,
        requirements=["P0-012"] if _rule == "P0-012" else ["P0-012", _rule],
    )


# -- before a RESPONSE ---------------------------------------------------------------------------


@routed("P0-012/client-before-response", checks=["end", "again"], twin=SAME)
async def before_response(ctx: RouterContext) -> None:
    """A violation before the first RESPONSE loses the connection; another HELLO is accepted."""
    link, delivery, call = await ctx.carried()
    link.violate(wire.ping(bytes(7)), instead_of=wire.ping(bytes(8)))
    await link.expect_close()
    if not ctx.twin_run:
        await redelivered(ctx, delivery, call, "again")


# -- on an idle connection -----------------------------------------------------------------------

Raw = Callable[[RouterContext], bytes]


async def _idle(ctx: RouterContext, *, bad: Raw) -> None:
    call, post = await ctx.posted()
    link = await ctx.line()
    link.violate(bad(ctx), instead_of=wire.ping(ctx.nonce()))
    await link.expect_close()
    if not ctx.twin_run:
        other = await ctx.line()
        delivery = await other.carry(post)
        delivery.answer()
        await call.succeeds([], check="no-stream-notices")


for _name, _title, _raw in (
    ("garbage", "Octets that are no frame", lambda _ctx: b"garbage, garbage, garbage, garbage!!"),
    ("response", "A RESPONSE", lambda ctx: wire.response(ctx.new_id(), 0, b"x")),
    ("done", "DONE", lambda ctx: wire.done(ctx.new_id())),
    ("settings", "SETTINGS", lambda _ctx: wire.settings([])),
    ("second-preface", "A second preface", lambda _ctx: wire.wch_preface() * 2),
    ("short-hello", "A HELLO of 15 octets", lambda ctx: wire.hello(ctx.new_id(), bytes(15))),
    ("long-hello", "A HELLO of 17 octets", lambda ctx: wire.hello(ctx.new_id(), bytes(17))),
    ("zero-id", "A HELLO without an id", lambda _ctx: wire.hello(bytes(16), bytes(16))),
):
    declare_routed(
        f"P0-012/client-idle-{_name}",
        f"{_title} on an idle connection ends it without a frame, and no stream notices.",
        partial(_idle, bad=_raw),
        checks=["end", "no-stream-notices"],
        twin=SAME,
    )


# -- what may come at any time -------------------------------------------------------------------


def _harmless(ctx: RouterContext, link: HomeLink) -> None:
    link.send(
        wire.grease(0x8A, bytes(100)),
        wire.grease(0xFF),
        wire.frame(b"extension", type=wire.CONTROL, subtype=0x8A),
        wire.pong(ctx.nonce()),
        wire.ping(ctx.nonce()),
    )


@routed("P0-012/client-ignorable-frames", checks=["idle", "messages"])
async def ignorable_frames(ctx: RouterContext) -> None:
    """PING, PONG and ignorable frames are taken in every state."""
    call, post = await ctx.posted()
    link = await ctx.line()
    _harmless(ctx, link)
    await link.fence(check="idle")
    delivery = await link.carry(post)
    _harmless(ctx, link)
    delivery.send(b"one", more=True)
    _harmless(ctx, link)
    delivery.send(b"two", flags=0xF0)  # reserved flags are ignored
    delivery.send(end=True)
    await call.succeeds([b"onetwo"], check="messages")
    await delivery.done()
    _harmless(ctx, link)
    await served(ctx, link)


@routed("P0-012/client-limits", checks=["full-frame", "metadata"])
async def limits(ctx: RouterContext) -> None:
    """Frames of 1,048,576 octets and metadata of 65,536 are taken."""
    link, delivery, call = await ctx.carried()
    key = [(f"k{number}", "v" * 8_100) for number in range(8)]
    rest = MOST_METADATA - (len(wire.metadata([*key, ("last", "")])) - 4)
    pairs = [*key, ("last", "v" * rest)]
    size = len(wire.metadata(pairs)) - 4
    if size != MOST_METADATA:
        ctx.unprepared("metadata of 65,536 octets", size)
    delivery.send(headers=pairs)
    delivery.send(bytes(MOST_FRAME))
    delivery.send(end=True)
    await call.succeeds([bytes(MOST_FRAME)], check="full-frame")
    if "headers" in ctx.features:
        held = call.headers == pairs
        ctx.check("metadata", held, expected="the headers", actual=len(call.headers))
    ctx.emit("metadata")
    await link.fence()
