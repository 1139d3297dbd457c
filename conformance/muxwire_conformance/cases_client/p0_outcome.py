"""What becomes of a stream, whatever the worker does on its connection (P0-019)."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from muxwire_conformance import wire
from muxwire_conformance.cases_client._callhome import (
    LONG,
    SOON,
    TOKEN_LIFE,
    declare_routed,
    redelivered,
    routed,
    served,
)
from muxwire_conformance.client_mode.context import Call
from muxwire_conformance.client_mode.home import Delivery
from muxwire_conformance.client_mode.router import RouterContext

# -- the connection ends behind a RESPONSE -------------------------------------------------------

Said = Callable[[Delivery], bytes]


def _headers(one: Delivery) -> bytes:
    return one.build(headers=[("k", "v")])


def _message(one: Delivery) -> bytes:
    return one.build(b"whole")


def _half_message(one: Delivery) -> bytes:
    return one.build(b"whole") + one.build(b"half of", more=True)


def _half_frame(one: Delivery) -> bytes:
    return one.build(b"whole") + one.build(b"half of a frame")[:40]


def _most_of_the_terminal(one: Delivery) -> bytes:
    return one.build(b"whole") + one.build(end=True)[:-1]


def _most_of_an_error(one: Delivery) -> bytes:
    return one.build(b"whole") + one.refusal("APPLICATION_ERROR", b"text")[:-1]


async def _partial(ctx: RouterContext, *, said: Said, messages: int, reset: bool) -> None:
    link, delivery, call = await ctx.carried(idempotent=True)
    link.send(said(delivery))
    if messages:
        await ctx.driver_until(lambda: len(call.messages) >= messages)
    await link.cut(reset=reset)
    await call.fails("PARTIAL", None, messages=messages, check="class", within=SOON)
    await served(ctx, check="works")


for _name, _title, _said, _messages, _reset in (
    ("headers", "behind a RESPONSE with headers only", _headers, 0, False),
    ("message", "behind a whole message", _message, 1, False),
    ("reset", "behind a whole message, with a reset", _message, 1, True),
    ("half-message", "inside a message", _half_message, 1, False),
    ("half-frame", "inside a frame", _half_frame, 1, False),
    ("terminal", "one octet before the end of the terminal", _most_of_the_terminal, 1, False),
    ("error", "one octet before the end of an error terminal", _most_of_an_error, 1, False),
):
    declare_routed(
        f"P0-019/client-ends-{_name}",
        f"A connection that ends {_title} makes the stream PARTIAL at once: never a success.",
        partial(_partial, said=_said, messages=_messages, reset=_reset),
        checks=["class", "works"],
    )


# -- the connection ends before a RESPONSE -------------------------------------------------------


async def _dialled_again(ctx: RouterContext, *, cut: bool, reset: bool) -> None:
    link, delivery, call = await ctx.carried()
    if cut:
        link.send(delivery.build(b"never whole")[:35])
    await link.cut(reset=reset)
    await link.wait_for(lambda: False)
    await redelivered(ctx, delivery, call, "again")


for _name, _title, _cut, _reset in (
    ("lost-accept", "behind the ACCEPT", False, False),
    ("lost-accept-reset", "behind the ACCEPT, with a reset", False, True),
    ("lost-first-frame", "inside the first RESPONSE", True, False),
):
    declare_routed(
        f"P0-019/client-{_name}",
        f"When the connection ends {_title}, the stream waits for another HELLO, and gets it all.",
        partial(_dialled_again, cut=_cut, reset=_reset),
        checks=["again"],
    )


@routed(
    "P0-019/client-given-up",
    checks=["never-dials", "silent", "not-dialled-again", "not-earlier", "works"],
    timed=True,
    limit=LONG,
)
async def given_up(ctx: RouterContext) -> None:
    """A worker that never comes as far as a RESPONSE leaves AMBIGUOUS 15 s after its 202."""
    answered = time.monotonic()
    never, post = await ctx.posted(b"never dials")
    post.cut(reset=True)  # it died
    silent, _post = await ctx.posted(b"dials and stays silent")
    quiet = await ctx.line()
    lost, post = await ctx.posted(b"dies behind the ACCEPT")
    link = await ctx.line()
    delivery = await link.carry(post)
    link.send(delivery.build(b"never whole")[:35])
    await link.cut()
    for call, check in ((never, "never-dials"), (silent, "silent"), (lost, "not-dialled-again")):
        final = await call.fails(
            "AMBIGUOUS", None, messages=0, check=check, within=TOKEN_LIFE + SOON
        )
        took = final["at"] - answered
        held = took >= TOKEN_LIFE - 0.2
        ctx.check("not-earlier", held, expected="15 s", actual=f"{took:.2f} s, {check}")
    await served(ctx, quiet, check="works")


@routed("P0-019/client-slow-handler", checks=["waits", "class"], timed=True, limit=LONG)
async def slow_handler(ctx: RouterContext) -> None:
    """An accepted stream waits for its first RESPONSE for ever; a loss is AMBIGUOUS then."""
    link, _delivery, call = await ctx.carried()
    await link.until(lambda: False, TOKEN_LIFE + 1.0)
    held = call.final is None and link.transport.end is None
    ctx.check("waits", held, expected="a stream that waits", actual=call.describe())
    await link.cut()
    await call.fails("AMBIGUOUS", None, messages=0, check="class", within=SOON)


# -- every octet ---------------------------------------------------------------------------------


@routed(
    "P0-019/client-cut-at-every-octet",
    checks=["no-success", "class", "messages", "success"],
    timed=True,
    limit=LONG,
)
async def cut_at_every_octet(ctx: RouterContext) -> None:
    """A response that is cut at any octet is never a success and never hangs."""
    calls: list[Call] = []
    size = stop = 0
    while stop <= size:
        link, delivery, call = await ctx.carried()
        pieces = [delivery.build(b"one"), delivery.build(b"two"), delivery.build(end=True)]
        first, second, size = len(pieces[0]), len(pieces[1]), sum(map(len, pieces))
        link.send(b"".join(pieces)[:stop])
        await link.cut()
        calls.append(call)
        stop += 1
    for stop, call in enumerate(calls):
        await call.finished(check="no-success", within=TOKEN_LIFE + SOON)
        final = call.final or {}
        if stop == size:
            await call.succeeds([b"one", b"two"], check="success")
            continue
        wrong = final["event"] == "end"
        ctx.check("no-success", not wrong, expected="no success", actual=call.describe())
        class_ = "AMBIGUOUS" if stop < first else "PARTIAL"
        complete = [b"one", b"two"][: (stop >= first) + (stop >= first + second)]
        words = f"{class_}, cut behind octet {stop}"
        ctx.check("class", final["class"] == class_, expected=words, actual=call.describe())
        held = call.messages == complete
        ctx.check("messages", held, expected=f"{complete}, cut behind {stop}", actual=call.messages)


# -- superseding ---------------------------------------------------------------------------------


@routed("P0-019/client-superseded", checks=["accept", "old-ends", "success"])
async def superseded(ctx: RouterContext) -> None:
    """A HELLO for a stream without a RESPONSE takes it over; the old connection is closed."""
    call, post = await ctx.posted()
    link = await ctx.line()
    await link.carry(post)
    other = await ctx.line()
    again = other.hello(post)
    await again.accepted(check="accept")
    await link.wait_for(lambda: False)
    if link.transport.end is None:
        link.fail("old-ends", "the end of the connection that was superseded")
    link.hold("old-ends")
    again.answer(b"new")
    await call.succeeds([b"new"], check="success")
    await again.done()


@routed("P0-019/client-superseded-is-not-read", checks=["success"])
async def superseded_is_not_read(ctx: RouterContext) -> None:
    """What a superseded connection sends afterwards is not part of the response."""
    call, post = await ctx.posted()
    link = await ctx.line()
    old = await link.carry(post)
    other = await ctx.line()
    again = other.hello(post)
    await again.accepted()
    old.send(b"old")
    await link.wait_for(lambda: False)
    again.answer(b"new")
    await call.succeeds([b"new"], check="success")


@routed("P0-019/client-superseded-twice", checks=["accept", "success"])
async def superseded_twice(ctx: RouterContext) -> None:
    """All three attempts at delivery of a worker may get as far as ACCEPT."""
    call, post = await ctx.posted()
    for _ in range(3):
        link = await ctx.line()
        delivery = link.hello(post)
        await delivery.accepted(check="accept")
    delivery.answer(b"third")
    await call.succeeds([b"third"], check="success")
    await delivery.done()


# -- error terminals -----------------------------------------------------------------------------


async def _terminal(
    ctx: RouterContext, *, code: str | int, class_: str, first: bool, flag: bool
) -> None:
    _link, delivery, call = await ctx.carried()
    if not first:
        delivery.send(b"one")
    delivery.fail(code, b"because", not_processed=flag)
    messages = int(not first)
    await call.fails(class_, code, messages=messages, local=False, check="class")
    await delivery.done()


for _name, _title, _code, _class, _first, _flag in (
    ("refused-by-terminal", "with NOT_PROCESSED", "INVALID_ARGUMENT", "NOT_PROCESSED", True, True),
    ("failed-at-once", "without NOT_PROCESSED", "APPLICATION_ERROR", "FAILED", True, False),
    ("failed-later", "behind a message", "APPLICATION_ERROR", "FAILED", False, False),
    ("deadline-of-the-worker", "for its deadline", "DEADLINE_EXCEEDED", "FAILED", False, False),
    ("unknown-code", "with an unknown code", 0x7777, "FAILED", True, False),
):
    declare_routed(
        f"P0-019/client-{_name}",
        f"An error terminal {_title} makes the stream {_class}.",
        partial(_terminal, code=_code, class_=_class, first=_first, flag=_flag),
        checks=["class"],
    )


# -- giving up behind the ACCEPT -----------------------------------------------------------------


async def _without_terminal(ctx: RouterContext, *, responded: bool) -> None:
    link, delivery, call = await ctx.carried()
    if responded:
        delivery.send(b"one")
        await ctx.driver_until(lambda: bool(call.messages))
    asked = time.monotonic()
    ctx.driver.op("kill", ref=call.ref)
    await delivery.expect(wire.KILL)
    class_ = "PARTIAL" if responded else "AMBIGUOUS"
    messages = int(responded)
    final = await call.fails(class_, messages=messages, check="class", within=5.0 + SOON)
    took = final["at"] - asked
    ctx.check("not-earlier", took >= 4.8, expected="5 s", actual=f"{took:.2f} s")
    await link.wait_for(lambda: False, SOON)
    if link.transport.end is None:
        link.fail("end", "the end of the connection")
    link.hold("end")


for _responded in (False, True):
    declare_routed(
        f"P0-019/client-killed-{'partial' if _responded else 'ambiguous'}",
        "5 s after a KILL without a terminal the router closes the connection, and gives up.",
        partial(_without_terminal, responded=_responded),
        checks=["class", "not-earlier", "end"],
        timed=True,
    )


@routed("P0-019/client-killed-and-lost", checks=["class"])
async def killed_and_lost(ctx: RouterContext) -> None:
    """When the connection ends behind a KILL, no other HELLO is waited for."""
    link, delivery, call = await ctx.carried()
    ctx.driver.op("kill", ref=call.ref)
    await delivery.expect(wire.KILL)
    await link.cut()
    await call.fails("AMBIGUOUS", messages=0, check="class", within=SOON)


DEADLINE = 1.0


@routed(
    "P0-019/client-deadline",
    checks=["kill", "class", "end"],
    timed=True,
    requirements=["P0-019", "REC-005"],
)
async def deadline(ctx: RouterContext) -> None:
    """0.5 to 1 s behind the deadline comes KILL; 1 s later the router closes and gives up."""
    started = time.monotonic()
    link, delivery, call = await ctx.carried(timeout_ms=int(DEADLINE * 1_000))
    await delivery.expect(wire.KILL, within=DEADLINE + 1.0)
    frame = delivery.seen(wire.KILL)
    took = frame.at - started if frame is not None else 0.0
    code = int.from_bytes(frame.payload, "big") if frame is not None else 0
    held = took >= DEADLINE + 0.4 and code == wire.code("DEADLINE_EXCEEDED")
    ctx.check("kill", held, expected="KILL(DEADLINE_EXCEEDED)", actual=f"{code} at {took:.2f} s")
    await call.fails("AMBIGUOUS", "DEADLINE_EXCEEDED", check="class", within=1.0 + SOON)
    await link.wait_for(lambda: False, SOON)
    if link.transport.end is None:
        link.fail("end", "the end of the connection")
    link.hold("end")


@routed(
    "P0-019/client-deadline-before-hello",
    checks=["timeout", "class", "not-earlier", "reject"],
    timed=True,
    requirements=["P0-019", "P0-018", "REC-005"],
)
async def deadline_before_hello(ctx: RouterContext) -> None:
    """A deadline that passes before a HELLO completes the stream within 1 s."""
    await ctx.ensure()
    started = time.monotonic()
    call, post = await ctx.posted(timeout_ms=int(DEADLINE * 1_000))
    held = 1 <= post.timeout_ms <= DEADLINE * 1_000 + 1  # rounded up
    ctx.check("timeout", held, expected="1 to 1,000 in wch-timeout-ms", actual=post.timeout_ms)
    final = await call.fails(
        "AMBIGUOUS", "DEADLINE_EXCEEDED", messages=0, check="class", within=DEADLINE + 1.0
    )
    took = final["at"] - started
    ctx.check("not-earlier", took >= DEADLINE - 0.05, expected="1 s", actual=f"{took:.2f} s")
    link = await ctx.line()
    await link.hello(post).rejected("CANCELLED", check="reject")
