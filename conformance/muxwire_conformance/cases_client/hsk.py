"""Setting up a connection, as a client shows it: HSK-001, HSK-004 to HSK-008 and HSK-010."""

from __future__ import annotations

import time

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases_client._steps import REFUSED, answered, declare
from muxwire_conformance.client_mode.context import ClientContext
from muxwire_conformance.client_mode.link import Link

CONNECT_MS = 1_000


async def _offer(ctx: ClientContext, **members: object) -> Link:
    await ctx.start(**members)  # type: ignore[arg-type]
    link = await ctx.accept()
    await link.offered()
    return link


@case("HSK-001/client-speaks-first", role="client", checks=["speaks", "works"])
async def speaks_first(ctx: ClientContext) -> None:
    """The client sends its preface and SETTINGS without waiting for an octet of the worker."""
    await ctx.start()
    link = await ctx.accept()
    await link.offered(check="speaks")
    await link.welcome()
    await answered(ctx, link, check="works")


@case(
    "HSK-004/client-accepts-version-1",
    role="client",
    checks=["connected", "works"],
    requirements=["HSK-004", "HSK-001"],
)
async def accepts(ctx: ClientContext) -> None:
    """A preface with version 1 and header size 32 is an acceptance; flags are ignored."""
    link = await _offer(ctx)
    link.send(wire.preface(flags=0xFF, reserved=0xFFFFFFFF), link.settings(), wire.settings_ack())
    await link.expect("SETTINGS_ACK")
    await answered(ctx, link, check="works")
    ctx.check(
        "connected",
        [event["version"] for event in ctx.events("connected")] == [1],
        expected="one event connected with version 1",
        actual=ctx.events("connected"),
    )


async def _refusal(ctx: ClientContext, *, ver_hi: int, ver_lo: int, header_size: int) -> None:
    """Answer with a preface that refuses; in the run of the twin with one that accepts."""
    link = await _offer(ctx)
    before = len(link.frames)
    bad = wire.preface(ver_hi=ver_hi, ver_lo=ver_lo, header_size=header_size)
    good = wire.preface() + link.settings() + wire.settings_ack()
    link.violate(bad, instead_of=good)
    if ctx.twin_run:
        await link.expect("SETTINGS_ACK")
        await answered(ctx, link)
        return
    await link.expect_end()
    late = link.frames[before:]
    ctx.check("quiet", not late, expected="no frame behind a refusal", actual=late)


for _name, _title, _values in (
    (
        "versions-2-to-3",
        "A preface with versions 2 to 3 is a refusal: the client closes.",
        (3, 2, 32),
    ),
    (
        "range-1-to-2",
        "ver_lo and ver_hi that differ are a refusal, even around version 1.",
        (2, 1, 32),
    ),
    ("version-2", "A version that was not offered is a refusal.", (2, 2, 32)),
    ("version-0", "Version 0 is a refusal.", (0, 0, 32)),
    ("header-size-48", "Another header size than the client's own is a refusal.", (1, 1, 48)),
):

    def _declare(values: tuple[int, int, int], name: str, title: str) -> None:
        async def run(ctx: ClientContext) -> None:
            await _refusal(ctx, ver_hi=values[0], ver_lo=values[1], header_size=values[2])

        run.__doc__ = title
        case(
            f"HSK-004/client-{name}",
            role="client",
            checks=["end", "quiet"],
            twin=SAME,
            requirements=["HSK-004", "HSK-010"],
        )(run)

    _declare(_values, _name, _title)


@case("HSK-005/client-ping-first", role="client", checks=REFUSED, twin=SAME)
async def ping_first(ctx: ClientContext) -> None:
    """Another first frame of the worker than SETTINGS is a connection error."""
    link = await _offer(ctx)
    link.send(wire.preface())
    link.violate(wire.ping(), instead_of=link.settings() + wire.settings_ack())
    await link.expect_connection_error("PROTOCOL_ERROR")


@case("HSK-005/client-grease-first", role="client", checks=REFUSED, twin=SAME)
async def grease_first(ctx: ClientContext) -> None:
    """An ignorable frame is no first frame either."""
    link = await _offer(ctx)
    link.send(wire.preface())
    link.violate(wire.grease(), instead_of=link.settings() + wire.settings_ack())
    await link.expect_connection_error("PROTOCOL_ERROR")


@case("HSK-005/client-ack-first", role="client", checks=REFUSED, twin=SAME)
async def ack_first(ctx: ClientContext) -> None:
    """SETTINGS_ACK before SETTINGS is a connection error."""
    link = await _offer(ctx)
    link.send(wire.preface())
    bad = wire.settings_ack() + link.settings()
    link.violate(bad, instead_of=link.settings() + wire.settings_ack())
    await link.expect_connection_error("PROTOCOL_ERROR")


@case(
    "HSK-005/client-goaway-first",
    role="client",
    checks=["no-goaway", "ended", "not-connected", "again"],
)
async def goaway_first(ctx: ClientContext) -> None:
    """GOAWAY in place of SETTINGS is a failed attempt: the client ends it and dials again."""
    link = await _offer(ctx)
    link.send(wire.preface(), wire.goaway("CONNECTION_LIMIT"))
    await link.cut()
    await link.expect_end(check="ended", within=2.0)
    answer = link.goaway
    ctx.check("no-goaway", answer is None, expected="no GOAWAY back", actual=answer, frame=answer)
    second = await ctx.next_link()
    await answered(ctx, second, check="again")
    seen = ctx.events("connected")
    ctx.check("not-connected", len(seen) == 1, expected="connected once", actual=seen)


@case("HSK-005/client-drain-first", role="client", checks=["ended"])
async def drain_first(ctx: ClientContext) -> None:
    """The client ends the connection behind such a GOAWAY within 1 s, whatever the code."""
    link = await _offer(ctx)
    link.send(wire.preface(), wire.goaway(grace_ms=30_000))
    await link.expect_end(check="ended", within=1.3)


for _name, _last in (("not-covering", 0), ("covering", 1)):

    async def _ordinal(ctx: ClientContext, last: int = _last) -> None:
        await ctx.start()
        call = ctx.request(b"x")
        link = await ctx.accept()
        await link.offered()
        await (await link.take()).complete()
        link.send(wire.preface(), wire.goaway("CONNECTION_LIMIT", last_ordinal=last))
        await link.cut()
        if last:
            await call.fails("AMBIGUOUS", "CONNECTION_LIMIT", attempts=1, check="class")
            return
        (await (await ctx.next_link()).take(check="class")).answer(b"y")
        await call.succeeds([b"y"], check="class")

    declare(
        f"HSK-005/client-goaway-first-{_name}",
        f"The last_ordinal of such a GOAWAY is honoured ({_name} a pipelined request).",
        _ordinal,
        checks=["class"],
        features=["pipelining", "retry"],
        requirements=["HSK-005", "REC-002"],
    )


@case("HSK-006/client-second-settings", role="client", checks=REFUSED, twin=SAME)
async def second_settings(ctx: ClientContext) -> None:
    """A second SETTINGS of the worker is a connection error."""
    link = await ctx.ready()
    link.violate(link.settings(), instead_of=wire.ping())
    await link.expect_connection_error("PROTOCOL_ERROR")


@case("HSK-007/client-second-ack", role="client", checks=REFUSED, twin=SAME)
async def second_ack(ctx: ClientContext) -> None:
    """A second SETTINGS_ACK of the worker is a connection error."""
    link = await ctx.ready()
    link.violate(wire.settings_ack(), instead_of=wire.ping())
    await link.expect_connection_error("PROTOCOL_ERROR")


@case("HSK-007/client-ack-with-payload", role="client", checks=REFUSED, twin=SAME)
async def ack_with_payload(ctx: ClientContext) -> None:
    """A SETTINGS_ACK with a payload is a connection error FRAME_SIZE_ERROR."""
    link = await _offer(ctx)
    link.greet(ack=False)
    link.violate(wire.settings_ack(b"x"), instead_of=wire.settings_ack())
    await link.expect_connection_error("FRAME_SIZE_ERROR")


@case("HSK-007/client-acks-settings", role="client", checks=["ack"])
async def acks(ctx: ClientContext) -> None:
    """The client answers SETTINGS with SETTINGS_ACK, also before the worker's own comes."""
    link = await _offer(ctx)
    link.greet(ack=False)
    await link.expect("SETTINGS_ACK", check="ack")
    link.send(wire.settings_ack())
    await link.fence()


@case("HSK-007/client-frames-before-ack", role="client", checks=["pong", "works"])
async def frames_before_ack(ctx: ClientContext) -> None:
    """The client accepts other frames between the worker's SETTINGS and SETTINGS_ACK."""
    link = await _offer(ctx)
    link.greet(ack=False)
    await link.fence(check="pong")
    link.send(wire.settings_ack())
    await answered(ctx, link, check="works")


async def _slow(ctx: ClientContext, octets: bytes) -> tuple[Link, float]:
    await ctx.start(timing={"connect_timeout_ms": CONNECT_MS, "backoff_base_ms": 10})
    started = time.monotonic()
    link = await ctx.accept()
    link.send(octets)
    return link, started


def _in_time(ctx: ClientContext, link: Link, started: float) -> None:
    end = link.transport.end
    took = end.at - started if end is not None else -1.0
    ctx.check(
        "not-early",
        took >= CONNECT_MS / 1_000 * 0.8,
        expected=f"no end before {CONNECT_MS} ms",
        actual=f"{took * 1_000:.0f} ms",
    )


for _name, _sent in (("silent", b""), ("half-a-preface", wire.preface()[:9])):

    def _declare_silent(name: str, sent: bytes) -> None:
        async def run(ctx: ClientContext) -> None:
            link, started = await _slow(ctx, sent)
            call = ctx.request(b"x")
            await link.expect_end(within=CONNECT_MS / 1_000 + 1.0)
            _in_time(ctx, link, started)
            if link.exchanges:
                await call.fails("AMBIGUOUS", None, attempts=1, check="class")
                await answered(ctx, await ctx.next_link(), check="again")
            else:
                ctx.emit("class")
                (await (await ctx.next_link()).take(check="again")).answer()

        run.__doc__ = f"A worker that is {name} is left at the connect timeout, and dialled again."
        case(
            f"HSK-010/client-{name}",
            role="client",
            checks=["end", "not-early", "class", "again"],
            requirements=["HSK-010", "HSK-008", "REC-002"],
            features=["timing"],
            timed=True,
        )(run)

    _declare_silent(_name, _sent)


@case(
    "HSK-010/client-not-wmx",
    role="client",
    checks=["end", "class"],
    twin="HSK-001/client-speaks-first",
    features=["timing"],
)
async def not_wmx(ctx: ClientContext) -> None:
    """Octets that differ from the magic count at once as no preface."""
    await ctx.start(timing={"backoff_base_ms": 10, "wait_ms": 400})
    call = ctx.request(b"x")
    link = await ctx.accept()
    await link.wait_for(lambda: link.settings_frame is not None)
    ctx.listener.hang_up = True
    link.violate(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await link.expect_end(within=2.0)
    await call.finished(within=5.0)
    seen = (call.final or {}).get("class")
    sent = bool(link.exchanges)
    expected = "AMBIGUOUS" if sent else "NOT_SENT, for a request that was not sent"
    held = seen == "AMBIGUOUS" or (not sent and seen == "NOT_SENT")
    ctx.check("class", held, expected=expected, actual=call.describe())


@case("HSK-008/client-no-settings", role="client", checks=REFUSED, timed=True, twin=SAME)
async def no_settings(ctx: ClientContext) -> None:
    """Without SETTINGS of the worker the handshake timeout ends the connection."""
    link = await _offer(ctx)
    link.violate(wire.preface(), instead_of=wire.preface() + link.settings() + wire.settings_ack())
    await link.expect_connection_error("HANDSHAKE_TIMEOUT", within=None if ctx.twin_run else 15.5)


@case("HSK-008/client-no-ack", role="client", checks=REFUSED, timed=True, twin=SAME)
async def no_ack(ctx: ClientContext) -> None:
    """Without SETTINGS_ACK of the worker the handshake timeout ends the connection."""
    link = await _offer(ctx)
    link.greet(ack=False)
    link.violate(b"", instead_of=wire.settings_ack())
    await link.expect_connection_error("HANDSHAKE_TIMEOUT", within=None if ctx.twin_run else 15.5)


@case("HSK-008/client-octets-come-slowly", role="client", checks=REFUSED, timed=True, twin=SAME)
async def octets_come_slowly(ctx: ClientContext) -> None:
    """Octets that come slowly do not prolong the handshake timeout."""
    link = await _offer(ctx)
    link.send(wire.preface())
    octets = link.settings()
    if ctx.twin_run:
        link.violate(b"", instead_of=octets + wire.settings_ack())
        await link.expect_connection_error("HANDSHAKE_TIMEOUT")
        return
    link.violate(octets[:1])
    for start in range(1, len(octets) - 1):
        link.send(octets[start : start + 1])
        if await link.until(lambda: link.goaway is not None, 0.25):
            break
    await link.expect_connection_error("HANDSHAKE_TIMEOUT", within=0.5)
