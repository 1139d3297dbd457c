"""How a connection ends, as a client shows it."""

from __future__ import annotations

import asyncio
import time

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases_client._steps import REFUSED, answered, declare, pong
from muxwire_conformance.client_mode.context import ClientContext, Listener
from muxwire_conformance.transport import EndKind

GRACE = 30_000


@case(
    "CLS-001/client-goaway",
    role="client",
    checks=["goaway", "end", "fields", "classified"],
    twin=SAME,
    requirements=["CLS-001", "REC-001"],
)
async def goaway(ctx: ClientContext) -> None:
    """On a connection error the client sends GOAWAY with last_ordinal and grace_ms 0."""
    link, _one, call = await ctx.asked()
    link.violate(wire.ping(flags=1), instead_of=wire.ping())
    frame = await link.expect_connection_error("PROTOCOL_ERROR")
    if frame is None or frame.goaway is None:
        return
    held = (frame.goaway.last_ordinal, frame.goaway.grace_ms) == (0, 0)
    ctx.check("fields", held, expected="last_ordinal 0, grace_ms 0", actual=frame, frame=frame)
    await call.fails("AMBIGUOUS", local=True, check="classified")


@case("CLS-002/client-lingers", role="client", checks=["goaway", "end", "fin"], twin=SAME)
async def lingers(ctx: ClientContext) -> None:
    """Behind an error GOAWAY the client half-closes and reads on, so that no reset destroys it."""
    link = await ctx.ready()
    more = wire.grease(0x8A, bytes(16_000)) * 64
    link.violate(wire.ping(flags=1) + more, instead_of=wire.ping())
    await link.expect_connection_error("PROTOCOL_ERROR")
    end = link.transport.end
    if end is not None and not ctx.twin_run:
        ctx.check("fin", end.kind is EndKind.FIN, expected="FIN", actual=end.describe())


@case(
    "CLS-002/client-closes-after-1-s",
    role="client",
    checks=["goaway", "end", "closed"],
    twin="FRM-011/client-one-write",
    timed=True,
)
async def closes_after_1_s(ctx: ClientContext) -> None:
    """Behind its GOAWAY the client reads and discards for up to 1 s, and then closes."""
    link = await ctx.ready()
    link.stay_silent()
    link.violate(wire.ping(flags=1))
    await link.wait_for(lambda: link.goaway is not None)
    said = time.monotonic()
    ctx.check("goaway", link.goaway is not None, expected="GOAWAY", actual=link.situation())
    await link.expect_end()
    limit = 1.0 + 1.0 + ctx.patience.slack
    while link.transport.write_error is None and time.monotonic() - said < limit:
        link.send(wire.grease(0x8A, bytes(100)))
        await asyncio.sleep(0.05)
    took = time.monotonic() - said
    held = link.transport.write_error is not None
    ctx.check("closed", held, expected="a socket closed within 1 s", actual=f"open {took:.1f} s")


@case(
    "CLS-003/client-drain-goes-on",
    role="client",
    checks=["credit", "chunks", "controls", "pong", "end"],
    features=["bidi"],
)
async def drain_goes_on(ctx: ClientContext) -> None:
    """During a drain running requests, their chunks, credit, STOP, KILL and PING work as before."""
    link = await ctx.ready({"INITIAL_STREAM_WINDOW": 65_536})
    call = ctx.request(b"first", hold_open=True)
    one = await link.take()
    other = ctx.request(b"other")
    two = await link.take()
    nonce = ctx.nonce()
    link.send(wire.goaway(last_ordinal=2, grace_ms=GRACE), wire.ping(nonce))
    answered_ping = await link.wait_for(
        lambda: any(frame.name == "PONG" and frame.payload == nonce for frame in link.frames)
    )
    ctx.check("pong", answered_ping, expected="PONG", actual=link.situation())
    ctx.driver.op("send", ref=call.ref, body_b64="A" * 400_000, end=True)
    got = await one.complete(check="credit", within=5.0)
    ctx.check("credit", len(got) == 2, expected="both messages", actual=len(got))
    one.send(b"a", more=True)
    one.send(b"b")
    await ctx.driver_until(lambda: bool(call.messages))
    ctx.check("chunks", call.messages == [b"ab"], expected="ab", actual=call.messages)
    ctx.driver.op("stop", ref=call.ref)
    ctx.driver.op("kill", ref=other.ref)
    await two.killed(check="controls")
    await link.wait_for(lambda: one.stop is not None)
    ctx.check("controls", one.stop is not None, expected="STOP", actual=one.controls)
    await pong(ctx, link, check="pong")
    two.fail("CANCELLED")
    one.answer(b"c")
    await call.succeeds([b"ab", b"c"], check="end")
    await other.fails("FAILED", "CANCELLED")


@case(
    "CLS-007/client-last-ordinal-falls",
    role="client",
    checks=["closed", "kept"],
    features=["retry"],
)
async def falls(ctx: ClientContext) -> None:
    """A later GOAWAY may lower last_ordinal: the requests above it are not processed."""
    link = await ctx.ready()
    calls = [ctx.request(b"x") for _ in range(3)]
    ones = [await link.take() for _ in calls]
    link.send(wire.goaway(last_ordinal=3, grace_ms=GRACE))
    await link.fence()
    link.send(wire.goaway(last_ordinal=1, grace_ms=GRACE))
    second = await ctx.next_link()
    for _ in range(2):
        (await second.take(check="closed")).answer(b"moved")
    ones[0].answer(b"kept")
    await calls[0].succeeds([b"kept"], check="kept")
    for call in calls[1:]:
        await call.succeeds([b"moved"])


@case(
    "CLS-007/client-last-ordinal-rises",
    role="client",
    checks=REFUSED,
    twin="CLS-007/client-last-ordinal-falls",
)
async def rises(ctx: ClientContext) -> None:
    """A GOAWAY whose last_ordinal rises revives nothing: the smallest counts."""
    link = await ctx.ready()
    for _ in range(3):
        ctx.request(b"x")
    ones = [await link.take() for _ in range(3)]
    link.send(wire.goaway(last_ordinal=1, grace_ms=GRACE))
    link.send(wire.goaway(last_ordinal=3, grace_ms=GRACE))
    await link.fence()
    link.violate(ones[1].build(b"x"))
    await link.expect_connection_error("PROTOCOL_ERROR")


@case("CLS-007/client-below-an-answered-request", role="client", checks=REFUSED, twin=SAME)
async def below_answered(ctx: ClientContext) -> None:
    """A GOAWAY that does not cover a request which has a RESPONSE is a connection error."""
    link, one, _call = await ctx.asked()
    one.send(b"x")
    bad = wire.goaway(last_ordinal=0, grace_ms=GRACE)
    link.violate(bad, instead_of=wire.goaway(last_ordinal=1, grace_ms=GRACE))
    await link.expect_connection_error("PROTOCOL_ERROR")


@case(
    "CLS-008/client-opens-nothing-more",
    role="client",
    checks=["nothing", "replacement"],
    requirements=["CLS-008", "CLS-003"],
)
async def opens_nothing_more(ctx: ClientContext) -> None:
    """Behind a GOAWAY the client opens nothing more there, and dials a replacement for its work."""
    link = await ctx.ready()
    running = ctx.request(b"x")
    one = await link.take()
    calls = [ctx.request(b"y") for _ in range(5)]
    index = await link.pong_index(wire.goaway(last_ordinal=1_000, grace_ms=GRACE))
    calls += [ctx.request(b"z") for _ in range(5)]
    second = await ctx.next_link(within=1.0)
    await second.take(check="replacement")
    await link.fence()
    late = link.opens_behind(index)
    ctx.check("nothing", not late, expected="no OPEN behind the PONG", actual=len(late))
    one.answer()
    await running.succeeds([])
    for each in (link, second):
        await each.until(lambda: len(link.exchanges) + len(second.exchanges) >= 11, 2.0)
        for exchange in each.exchanges.values():
            if not exchange.answered:
                exchange.answer()
    for call in calls:
        await call.succeeds([])


@case(
    "CLS-007/client-draining-is-no-answer",
    role="client",
    checks=["pong", "kept", "moved"],
    requirements=["CLS-007", "RID-004"],
    features=["retry"],
)
async def draining_is_no_answer(ctx: ClientContext) -> None:
    """A DRAINING terminal is no answer: a GOAWAY may have a last_ordinal below its request."""
    link = await ctx.ready()
    calls = [ctx.request(b"x") for _ in range(2)]
    ones = [await link.take() for _ in calls]
    refusal = ones[1].refusal("DRAINING", flags=wire.NOT_PROCESSED)
    link.send(refusal, wire.goaway(last_ordinal=1, grace_ms=GRACE))
    await link.fence(check="pong")
    ones[0].answer(b"kept")
    await calls[0].succeeds([b"kept"], check="kept")
    (await (await ctx.next_link()).take()).answer(b"moved")
    await calls[1].succeeds([b"moved"], check="moved")


@case(
    "CLS-008/client-elsewhere",
    role="client",
    checks=["elsewhere", "not-there"],
    features=["connections"],
)
async def elsewhere(ctx: ClientContext) -> None:
    """The work goes elsewhere if the client knows another worker; not back."""
    other = Listener(ctx)
    await ctx.start(addrs=[str(ctx.listener.address), str(other.address)])
    link = await ctx.accept()
    second = await ctx.accept(listener=other)
    for each in (link, second):
        await each.handshake()
    await ctx.driver_until(lambda: len(ctx.events("connected")) == 2)
    calls = [ctx.request(b"x") for _ in range(2)]
    running = [await each.take() for each in (link, second)]
    dials = len(ctx.listener.accepted_at)
    await link.pong_index(wire.goaway(last_ordinal=1, grace_ms=GRACE))
    calls += [ctx.request(b"y") for _ in range(2)]
    for _ in range(2):
        (await second.take(check="elsewhere")).answer()
    await link.until(lambda: False, 0.3)
    late = len(ctx.listener.accepted_at) - dials
    ctx.check("not-there", not late, expected="no dial at the draining worker", actual=late)
    for one in running:
        one.answer()
    for call in calls:
        await call.succeeds([])
    other.close()


@case("CLS-008/client-closes-a-drained-connection", role="client", checks=["closed"], timed=True)
async def closes_drained(ctx: ClientContext) -> None:
    """A client closes a draining connection 2 s after its last request ended."""
    link, one, call = await ctx.asked()
    link.send(wire.goaway(last_ordinal=1, grace_ms=GRACE))
    await link.fence()
    one.answer()
    await call.succeeds([])
    await link.expect_end(check="closed", within=2.5)


@case(
    "CLS-008/client-error-goaway",
    role="client",
    checks=["delivered", "closed"],
    requirements=["CLS-008", "CLS-002"],
)
async def error_goaway(ctx: ClientContext) -> None:
    """Behind an error GOAWAY the client reads on: a terminal that comes still counts."""
    link, one, call = await ctx.asked()
    link.send(wire.goaway("INTERNAL_ERROR", last_ordinal=1), one.build(b"y", end=True))
    await call.succeeds([b"y"], check="delivered")
    await link.cut()
    await link.expect_end(check="closed", within=1.5)


@case(
    "CLS-008/client-error-goaway-without-end",
    role="client",
    checks=["class", "when"],
    timed=True,
    requirements=["CLS-002", "CLS-008", "REC-001"],
)
async def error_goaway_without_end(ctx: ClientContext) -> None:
    """A client that got an error GOAWAY reads on for 1 s at most, then closes and classifies."""
    link, _one, call = await ctx.asked()
    said = time.monotonic()
    link.send(wire.goaway("INTERNAL_ERROR", last_ordinal=1))
    await call.fails("AMBIGUOUS", "INTERNAL_ERROR", local=True, check="class", within=1.5)
    took = (call.final or {})["at"] - said
    limit = 1.0 + 0.3 + ctx.patience.slack
    ctx.check("when", took <= limit, expected="within 1 s", actual=f"{took:.2f} s")


@case("CLS-009/client-close", role="client", checks=["goaway", "waits", "end"], features=["close"])
async def close(ctx: ClientContext) -> None:
    """A client that closes in order sends GOAWAY(NO_ERROR, 0, 0), lets requests run, and closes."""
    link, one, call = await ctx.asked()
    ctx.driver.op("close")
    await link.wait_for(lambda: link.goaway is not None)
    body = link.goaway.goaway if link.goaway is not None else None
    if body is None:
        ctx.warn("goaway", "GOAWAY with NO_ERROR", link.situation())
    else:
        held = (body.code, body.last_ordinal, body.grace_ms) == (0, 0, 0)
        ctx.check("goaway", held, expected="NO_ERROR, 0, 0", actual=link.goaway)
    await link.until(lambda: False, 0.1)
    alive = link.transport.end is None
    ctx.check(
        "waits",
        alive and call.final is None,
        expected="the request still runs",
        actual=call.describe(),
    )
    one.answer(b"y")
    await call.succeeds([b"y"])
    await link.expect_end(check="end")


@case(
    "CLS-009/client-close-withdraws",
    role="client",
    checks=["withdrawn", "nothing"],
    requirements=["CLS-009", "FAI-001"],
)
async def close_withdraws(ctx: ClientContext) -> None:
    """The client's own GOAWAY turns requests that are not yet written into NOT_SENT."""
    link = await ctx.ready({"MAX_CONCURRENT_REQUESTS": 100})
    calls = [ctx.request(b"x") for _ in range(102)]
    ones = [await link.take(within=5.0) for _ in range(100)]
    ctx.driver.op("close")
    for call in calls[100:]:
        await call.fails("NOT_SENT", attempts=0, local=True, check="withdrawn")
    for one in ones:
        one.answer()
    for call in calls[:100]:
        await call.succeeds([])
    held = len(link.exchanges) == 100
    ctx.check("nothing", held, expected="100 OPENs", actual=len(link.exchanges))


for _name, _reset in (("eof", False), ("reset", True)):

    async def _lost(ctx: ClientContext, reset: bool = _reset) -> None:
        link, _one, call = await ctx.asked()
        await link.cut(reset=reset)
        if not reset:
            await link.expect_end(check="closed", within=1.0)
        else:
            await ctx.driver_until(lambda: bool(ctx.events("disconnected")), 1.0)
            ctx.check(
                "closed",
                bool(ctx.events("disconnected")),
                expected="disconnected",
                actual="nothing",
            )
        await call.fails("AMBIGUOUS", check="classified", within=1.0)
        await answered(ctx, await ctx.next_link())

    declare(
        f"CLS-010/client-{_name}",
        "An end of the stream or a reset ends the connection at once: nothing half-open is kept.",
        _lost,
        checks=["closed", "classified"],
        requirements=["CLS-010", "REC-001"],
    )


@case(
    "OBS-006/client-goaway-names-the-rule",
    role="client",
    checks=["named"],
    twin="FRM-011/client-one-write",
)
async def names_the_rule(ctx: ClientContext) -> None:
    """The message of an error GOAWAY names the requirement that was violated."""
    link = await ctx.ready()
    link.violate(wire.ping(marker=0xF6))
    await link.wait_for(lambda: link.goaway is not None)
    body = link.goaway.goaway if link.goaway is not None else None
    if body is None:
        ctx.unprepared("GOAWAY", link.situation())
    ctx.check(
        "named", "FRM-002" in body.message, expected="FRM-002 in the message", actual=body.message
    )
