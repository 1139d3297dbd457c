"""The client's view of a request: each cell of its table that a worker can reach."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases_client._steps import UNCHARGED, answered
from muxwire_conformance.client_mode.context import Call, ClientContext
from muxwire_conformance.client_mode.exchange import Exchange
from muxwire_conformance.client_mode.link import Link


async def _held(ctx: ClientContext) -> tuple[Link, Exchange, Call]:
    """Open a request that the client has not ended (state OPEN)."""
    link = await ctx.ready()
    call = ctx.request(b"x", hold_open=True)
    return link, await link.take(), call


async def _killing(ctx: ClientContext) -> tuple[Link, Exchange, Call]:
    """Open a request and have the client kill it (state KILLING)."""
    link, one, call = await ctx.asked()
    ctx.driver.op("kill", ref=call.ref)
    await one.killed("CANCELLED")
    return link, one, call


@case(
    "STM-002/client-open-response", role="client", checks=["delivered", "sent"], features=["bidi"]
)
async def open_response(ctx: ClientContext) -> None:
    """OPEN: responses are delivered while the client may still send."""
    link, one, call = await _held(ctx)
    one.send(b"early")
    await ctx.driver_until(lambda: bool(call.messages))
    ctx.check(
        "delivered", call.messages == [b"early"], expected="the message", actual=call.describe()
    )
    ctx.driver.op("send", ref=call.ref, body_b64="eQ==", end=True)
    messages = await one.complete(check="sent")
    ctx.check("sent", messages == [b"x", b"y"], expected="x, y", actual=messages)
    one.answer(b"late")
    await call.succeeds([b"early", b"late"])
    await link.fence()


@case(
    "STM-002/client-open-terminal",
    role="client",
    checks=["end", "silent"],
    requirements=["STM-002", "STM-003"],
    features=["bidi"],
)
async def open_terminal(ctx: ClientContext) -> None:
    """OPEN: the terminal ends the request; what the caller sends later is not written."""
    link, one, call = await _held(ctx)
    one.answer(b"y")
    await call.succeeds([b"y"], check="end")
    frames = len(one.frames)
    for op in ("send", "stop", "kill"):
        ctx.driver.op(
            op, ref=call.ref, **({"body_b64": "eQ==", "end": True} if op == "send" else {})
        )
    await ctx.sync()
    await link.fence()
    late = [*one.frames[frames:], *one.controls]
    ctx.check("silent", not late, expected="nothing more for the request", actual=late)


@case("STM-002/client-open-window-update", role="client", checks=["raised"])
async def open_window_update(ctx: ClientContext) -> None:
    """OPEN: a WINDOW_UPDATE for the request raises its limit."""
    link = await ctx.ready({"INITIAL_STREAM_WINDOW": 65_536})
    link.auto_credit = False
    call = ctx.request(bytes(100_000))
    one = await link.take()
    await link.wait_for(lambda: one.octets > 30_000)
    await link.fence()
    before = one.ended
    link.send(wire.window_update(200_000, request_id=one.id))
    got = await one.complete(check="raised")
    held = not before and len(got[0]) == 100_000
    ctx.check("raised", held, expected="the rest, behind the credit only", actual=len(got[0]))
    one.answer()
    await call.succeeds([])


@case(
    "STM-002/client-half-window-update",
    role="client",
    checks=["pong", "end"],
    requirements=["STM-002", "FLW-003"],
)
async def half_window_update(ctx: ClientContext) -> None:
    """HALF: a WINDOW_UPDATE for the request is ignored, whatever it says, and not charged."""
    link, one, call = await ctx.asked()
    await one.complete()
    link.send(*(wire.window_update(1, request_id=one.id) for _ in range(UNCHARGED)))
    await link.fence(check="pong")
    one.answer()
    await call.succeeds([], check="end")


@case("STM-002/client-stop", role="client", checks=["stop", "reason", "end"])
async def stop(ctx: ClientContext) -> None:
    """A STOP is written once, with its reason; the request goes on to its terminal."""
    link, one, call = await ctx.asked()
    ctx.driver.op("stop", ref=call.ref, reason=0x107)
    ctx.driver.op("stop", ref=call.ref, reason=0x107)
    await ctx.sync()
    await link.wait_for(lambda: one.stop is not None)
    await link.fence()
    ctx.check("stop", len(one.controls) == 1, expected="one STOP", actual=one.controls)
    reason = int.from_bytes(one.controls[0].payload, "big")
    ctx.check("reason", reason == 0x107, expected="0x107", actual=hex(reason))
    one.answer(b"usage")
    await call.succeeds([b"usage"], check="end")


@case("STM-002/client-stop-then-kill", role="client", checks=["order", "class"])
async def stop_then_kill(ctx: ClientContext) -> None:
    """A KILL may follow a STOP; no second KILL and no STOP follows a KILL."""
    link, one, call = await ctx.asked()
    for op in ("stop", "kill", "kill", "stop"):
        ctx.driver.op(op, ref=call.ref)
    await ctx.sync()
    await link.wait_for(lambda: one.kill is not None)
    await link.fence()
    names = [control.name for control in one.controls]
    ctx.check("order", names == ["STOP", "KILL"], expected="STOP, KILL", actual=names)
    one.fail("CANCELLED")
    await call.fails("FAILED", "CANCELLED", check="class")


@case("STM-002/client-no-stop-behind-kill", role="client", checks=["only-kill"])
async def no_stop_behind_kill(ctx: ClientContext) -> None:
    """No STOP follows a KILL."""
    link, one, call = await ctx.asked()
    for op in ("kill", "stop"):
        ctx.driver.op(op, ref=call.ref)
    await ctx.sync()
    await one.killed()
    await link.fence()
    names = [control.name for control in one.controls]
    ctx.check("only-kill", names == ["KILL"], expected="KILL", actual=names)
    one.fail("CANCELLED")
    await call.finished()


@case("STM-002/client-half-sends-no-more", role="client", checks=["nothing"], features=["bidi"])
async def half_sends_no_more(ctx: ClientContext) -> None:
    """HALF: a local send behind END_STREAM is refused and writes nothing."""
    link = await ctx.ready()
    call = ctx.request(b"x", hold_open=True)
    one = await link.take()
    ctx.driver.op("send", ref=call.ref, end=True)
    await one.complete()
    frames = len(one.frames)
    ctx.driver.op("send", ref=call.ref, body_b64="eQ==")
    ctx.driver.op("send", ref=call.ref, end=True)
    await ctx.sync()
    await link.fence()
    late = one.frames[frames:]
    ctx.check("nothing", not late, expected="no REQUEST behind END_STREAM", actual=late)
    one.answer()
    await call.succeeds([])


@case("STM-002/client-killing-discards", role="client", checks=["waits", "class", "nothing"])
async def killing_discards(ctx: ClientContext) -> None:
    """KILLING: everything but the terminal is discarded; the result comes with the terminal."""
    link, one, call = await _killing(ctx)
    await ctx.sync()
    known = len(call.messages)
    for index in range(5):
        one.send(b"late", more=index == 1)
    await link.fence()
    ctx.check("waits", call.final is None, expected="no final event yet", actual=call.describe())
    one.fail("CANCELLED")
    await call.fails("FAILED", "CANCELLED", local=False, check="class")
    late = call.messages[known:]
    ctx.check("nothing", not late, expected="no message behind the KILL", actual=late)


@case("STM-002/client-killing-success", role="client", checks=["class"])
async def killing_success(ctx: ClientContext) -> None:
    """KILLING: a success terminal gives FAILED with CANCELLED, never a success."""
    link, one, call = await _killing(ctx)
    one.answer(b"whole")
    await call.fails("FAILED", "CANCELLED", messages=0, check="class")
    await link.fence()


@case(
    "STM-002/client-killing-other-error",
    role="client",
    checks=["class"],
    requirements=["STM-002", "REC-002"],
)
async def killing_other_error(ctx: ClientContext) -> None:
    """KILLING: an error terminal gives FAILED with its code, and no retry, whatever its flags."""
    link = await ctx.ready()
    call = ctx.request(b"x", idempotent=True)
    one = await link.take()
    ctx.driver.op("kill", ref=call.ref)
    await one.killed()
    one.fail("OVERLOADED", not_processed=True)
    await call.fails("FAILED", "OVERLOADED", attempts=1, check="class")
    await link.fence()


@case(
    "STM-002/client-killing-connection-lost",
    role="client",
    checks=["class"],
    requirements=["STM-002", "REC-001"],
)
async def killing_lost(ctx: ClientContext) -> None:
    """KILLING: the end of the connection gives AMBIGUOUS, and a killed request is not retried."""
    link = await ctx.ready()
    call = ctx.request(b"x", idempotent=True)
    one = await link.take()
    ctx.driver.op("kill", ref=call.ref)
    await one.killed()
    await link.cut()
    await call.fails("AMBIGUOUS", attempts=1, messages=0, check="class")


@case("STM-002/client-killing-goaway", role="client", checks=["class"])
async def killing_goaway(ctx: ClientContext) -> None:
    """KILLING: a GOAWAY that does not cover the request gives NOT_PROCESSED, and no retry."""
    link, _one, call = await _killing(ctx)
    link.send(wire.goaway(last_ordinal=0, grace_ms=30_000))
    await call.fails("NOT_PROCESSED", attempts=1, check="class")


@case(
    "STM-002/client-goaway-not-covering",
    role="client",
    checks=["moved", "attempt"],
    requirements=["STM-002", "REC-002", "CLS-008"],
    features=["retry"],
)
async def goaway_not_covering(ctx: ClientContext) -> None:
    """HALF: a GOAWAY below the ordinal closes the request as not processed: it is tried again."""
    link, _one, call = await ctx.asked()
    link.send(wire.goaway(last_ordinal=0, grace_ms=30_000))
    second = await ctx.next_link()
    again = await second.take(check="moved")
    ctx.check(
        "attempt", again.header("attempt") == "2", expected="attempt: 2", actual=again.headers
    )
    again.answer(b"y")
    await call.succeeds([b"y"])


@case(
    "STM-002/client-kill-before-open",
    role="client",
    checks=["class", "no-frame"],
    requirements=["STM-002", "FAI-001"],
)
async def kill_before_open(ctx: ClientContext) -> None:
    """IDLE: a KILL of a request whose OPEN is not written removes it; no frame is written."""
    link = await ctx.ready({"MAX_CONCURRENT_REQUESTS": 100})
    calls = [ctx.request(b"x") for _ in range(101)]
    taken = [await link.take(within=5.0) for _ in range(100)]
    ctx.driver.op("kill", ref=calls[-1].ref)
    await calls[-1].fails("NOT_SENT", "CANCELLED", local=True, attempts=0, check="class")
    for one in taken:
        one.answer()
    await link.fence()
    for call in calls[:-1]:
        await call.succeeds([])
    controls = [frame for frame in link.frames if frame.name in ("STOP", "KILL")]
    held = len(link.exchanges) == 100 and not controls
    actual = f"{len(link.exchanges)} OPENs, {controls}"
    ctx.check("no-frame", held, expected="100 OPENs and no KILL", actual=actual)


def _behind(one: Exchange, index: int) -> int:
    return sum(frame.index > index for frame in one.frames)


@case("STM-003/client-stops-sending", role="client", checks=["stops", "end"])
async def stops_sending(ctx: ClientContext) -> None:
    """After the terminal the client stops sending for that id within one frame."""
    link = await ctx.ready({"INITIAL_STREAM_WINDOW": 65_536})
    link.auto_credit = False
    call = ctx.request(bytes(1_000_000))
    one = await link.take()
    await link.fence()
    index = await link.pong_index(one.build(b"enough", end=True))
    link.send(wire.window_update(1 << 28, request_id=one.id), wire.window_update(1 << 28))
    await link.fence()
    await link.until(lambda: _behind(one, index) > 1, 0.3)
    late = _behind(one, index)
    ctx.check("stops", late <= 1, expected="at most one frame behind the PONG", actual=late)
    await call.succeeds([b"enough"], check="end")
    await answered(ctx, link)


@case(
    "STM-006/client-nothing-behind-an-error",
    role="client",
    checks=["goaway", "end", "nothing"],
    twin=SAME,
    requirements=["STM-006", "CLS-001"],
)
async def nothing_behind(ctx: ClientContext) -> None:
    """No frame behind the one that broke a rule has an effect."""
    link, one, call = await ctx.asked()
    rest = one.build(b"late", end=True)
    link.violate(wire.ping(flags=1) + rest, instead_of=wire.ping() + rest)
    if ctx.twin_run:
        await call.succeeds([b"late"])
    await link.expect_connection_error("PROTOCOL_ERROR")
    if ctx.twin_run:
        return
    await call.finished()
    held = not call.messages and (call.final or {}).get("event") == "error"
    ctx.check("nothing", held, expected="an error and no message", actual=call.describe())
