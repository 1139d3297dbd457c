"""The pool, seen from its other end: P0-008, P0-009, P0-010, P0-015."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from muxwire_conformance import wire
from muxwire_conformance.callhome.context import CallhomeContext
from muxwire_conformance.callhome.delivery import HELLO_TIME, Delivery
from muxwire_conformance.callhome.link import HomeLink
from muxwire_conformance.callhome.router import Router
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import declare
from muxwire_conformance.cases_callhome._steps import (
    NEEDS,
    at_rest,
    idle,
    on,
    refused_link,
    reused,
    works,
)

ECHO = "conformance.echo"
DONE_TIME = 1.0
DONE_PATIENCE = 5.0
MOST_CONNECTIONS = 50
IN_SEQUENCE = 20
CROWD = 100
ACCEPT_TIME, WAITING_TIME = 4.0, 9.0
"""A HELLO waits 5 s for its ACCEPT, and a stream 10 s for its connection."""
OTHER = bytes(range(1, 17))


# -- P0-008 ------------------------------------------------------------------------------------


@case("P0-008/waits-for-done", checks=["nothing", "other-connection", "goes-on"], features=NEEDS)
async def waits_for_done(ctx: CallhomeContext) -> None:
    """Before DONE the connection carries nothing more and no other stream."""
    first = await ctx.post(ECHO, b"first")
    response = await first.accepted()
    await response.result()
    link = on(first)
    known = len(link.frames)
    second = await ctx.post(ECHO, b"second")
    await second.admitted()
    other = await second.hello(check="other-connection")
    ctx.check("other-connection", other is not link, expected="another one", actual=other.label)
    await second.result()
    await link.fence(check="goes-on")
    more = [frame for frame in link.frames[known:] if frame.name not in ("PING", "PONG")]
    more = [frame for frame in more if not frame.extension]
    actual = more[0] if more else None
    ctx.check("nothing", not more, expected="no frame", actual=actual, frame=actual)
    first.done()
    await link.fence(check="goes-on")


@case("P0-008/late-done", checks=["goes-on", "used-again"], features=NEEDS, timed=True)
async def late_done(ctx: CallhomeContext) -> None:
    """A DONE that takes its whole second frees the connection like any other."""
    delivery = await ctx.post(ECHO, b"x")
    response = await delivery.accepted()
    await response.result()
    link = on(delivery)
    await link.until(lambda: False, DONE_TIME)
    delivery.done()
    await link.fence(check="goes-on")
    await reused(ctx, link, check="used-again")


@case("P0-008/no-done", checks=["in-time", "end"], features=NEEDS, timed=True)
async def no_done(ctx: CallhomeContext) -> None:
    """A worker that gets no DONE for 5 s closes, and not before."""
    delivery = await ctx.post(ECHO, b"x")
    response = await delivery.accepted()
    await response.result()
    link = on(delivery)
    ended = response.frames[-1].at
    end = await link.expect_end(within=DONE_PATIENCE)
    took = end.at - ended
    good = took > DONE_PATIENCE - 0.5 - ctx.patience.slack
    ctx.check("in-time", good, expected="the end after 5 s", actual=f"{took:.2f} s")


# -- P0-009 ------------------------------------------------------------------------------------


@case("P0-009/in-sequence", checks=["whole", "few-connections"], features=NEEDS)
async def in_sequence(ctx: CallhomeContext) -> None:
    """Streams one after the other use one connection, or two."""
    used: list[HomeLink] = []
    for number in range(IN_SEQUENCE):
        body = f"number {number}".encode()
        delivery = await ctx.post(ECHO, body)
        await delivery.admitted()
        messages = await delivery.result(check="whole")
        ctx.check("whole", messages == [body], expected=f"[{body!r}]", actual=messages)
        link = on(delivery)
        used += [link] if link not in used else []
        await link.fence()  # DONE has been read
    labels = [link.label for link in used]
    ctx.check("few-connections", len(used) <= 2, expected="at most 2", actual=labels)


@case("P0-009/after-an-error", checks=["used-again"], features=NEEDS)
async def after_an_error(ctx: CallhomeContext) -> None:
    """DONE behind an error terminal frees the connection too."""
    delivery = await ctx.post("conformance.fail", {})
    response = await delivery.accepted()
    await response.fails("APPLICATION_ERROR")
    delivery.done()
    await on(delivery).fence()
    await reused(ctx, on(delivery), check="used-again")


# -- P0-010 ------------------------------------------------------------------------------------

_NOISE: dict[str, tuple[str, bytes]] = {
    "garbage": ("octets that are no frame", b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n"),
    "response": ("a RESPONSE", wire.response(OTHER, 0, b"x")),
    "accept": ("an ACCEPT", wire.accept(OTHER)),
    "reject": ("a REJECT", wire.reject(OTHER)),
    "done": ("a DONE", wire.done(OTHER)),
    "settings": ("SETTINGS", wire.settings()),
    "preface": ("a second preface", wire.wch_preface() * 2),
    "ping-of-7": ("a PING of 7 octets", wire.ping(bytes(7))),
}


def _declare_noise(name: str, words: str, octets: bytes) -> None:
    async def noise(ctx: CallhomeContext) -> None:
        link = await idle(ctx)
        link.violate(octets, instead_of=wire.ping(ctx.nonce()))
        await refused_link(ctx, link, check="closes")
        if ctx.twin_run:
            await reused(ctx, link, check="works")
            return
        await works(ctx, "works")

    title = f"An idle connection on which {words} comes is closed; no stream notices."
    checks = ["closes", "works"]
    declare(f"P0-010/{name}", title, noise, checks=checks, features=NEEDS, twin=SAME)


for _name, (_words, _octets) in _NOISE.items():
    _declare_noise(_name, _words, _octets)


def _fin(link: HomeLink) -> None:
    link.transport.half_close()


def _reset(link: HomeLink) -> None:
    link.abort()


def _declare_gone(name: str, words: str, lose: Callable[[HomeLink], None]) -> None:
    async def gone(ctx: CallhomeContext) -> None:
        link = await idle(ctx)
        if ctx.pick(True, False):
            lose(link)
            await link.expect_end(check="closes")
        for _ in range(3):
            used = await works(ctx, "works")
            if not ctx.twin_run:
                fresh = used is not link
                ctx.check("works", fresh, expected="another connection", actual=used.label)

    title = f"An idle connection that the router {words} is not used again."
    checks = ["closes", "works"]
    declare(f"P0-010/{name}", title, gone, checks=checks, features=NEEDS, twin=SAME)


_declare_gone("end-of-file", "ends", _fin)
_declare_gone("reset", "resets", _reset)


@case("P0-010/closed-while-a-request-comes", checks=["works"], features=NEEDS)
async def closed_while_a_request_comes(ctx: CallhomeContext) -> None:
    """A connection that is closed just when a request comes costs no stream."""
    for number in range(5):
        link = await idle(ctx)
        delivery = await ctx.post(ECHO, b"in between")
        if number % 2:
            link.abort()
        else:
            link.transport.half_close()
        await delivery.admitted(check="works")
        hello = await delivery.hello(check="works")
        while hello.transport.end is not None or hello is link:
            hello = await delivery.hello(check="works")
        messages = await delivery.result(check="works")
        ctx.check("works", messages == [b"in between"], expected="whole", actual=messages)


@case("P0-010/legal-frames", checks=["stays", "used-again"], features=NEEDS)
async def legal_frames(ctx: CallhomeContext) -> None:
    """PING, PONG, STOP, KILL and ignorable frames leave an idle connection in the pool."""
    link = await idle(ctx)
    link.send(
        wire.pong(ctx.nonce()),
        wire.stop(OTHER),
        wire.kill(OTHER),
        wire.grease(0x8B, b"ignored"),
        wire.frame(b"ignored", type=3, subtype=0x8C),
    )
    await link.fence(check="stays")
    await reused(ctx, link, check="used-again")


# -- P0-015 ------------------------------------------------------------------------------------


@case(
    "P0-015/at-most-50",
    checks=["bounded", "all-complete", "in-order"],
    features=NEEDS,
    exclusive=True,
)
async def at_most_50(ctx: CallhomeContext) -> None:
    """For one address there are at most 50 connections; further streams wait in their order."""
    await at_rest(ctx)
    router = await ctx.router()
    streams = []
    for _ in range(CROWD):
        delivery = await ctx.post(ECHO, b"one of many", router=router)
        await delivery.admitted()
        streams.append(delivery)
    turns = {delivery.id: number for number, delivery in enumerate(streams)}
    most = await _heard(ctx, router, MOST_CONNECTIONS)  # fewer, if it is configured so
    for number in range(CROWD):
        count = await _heard(ctx, router, number + 1)
        _require_time(ctx, router, streams[number:], number)
        ctx.check("all-complete", count > number, expected="another HELLO", actual=count)
        delivery = streams[turns[router.heard[number][1].request_id]]
        messages = await delivery.result(check="all-complete")
        good = messages == [b"one of many"]
        ctx.check("all-complete", good, expected="whole", actual=messages)
        # One DONE lets one stream go: the next in order.
        if most + number < CROWD:
            await _heard(ctx, router, most + number + 1)
    peak = router.peak
    ctx.check("bounded", peak <= MOST_CONNECTIONS, expected="at most 50", actual=peak)
    waited = [turns[frame.request_id] for _link, frame in router.heard][most:]
    ctx.check("in-order", waited == sorted(waited), expected="order of arrival", actual=waited)


def _require_time(
    ctx: CallhomeContext, router: Router, rest: Sequence[Delivery], number: int
) -> None:
    """End the case if the judge was so slow that a worker may have given a stream up."""
    now = time.monotonic()
    asked = any(now - delivery.post.sent_at > WAITING_TIME for delivery in rest)
    heard = any(now - frame.at > ACCEPT_TIME for _link, frame in router.heard[number:])
    if asked or heard:
        ctx.late("streams have waited too long for their turn")


async def _heard(ctx: CallhomeContext, router: Router, number: int) -> int:
    """Wait for so many HELLOs; return how many there are."""
    await ctx.wait_for(lambda: len(router.heard) >= number, HELLO_TIME)
    return len(router.heard)


@case("P0-015/last-used-first", checks=["last"], features=NEEDS)
async def last_used_first(ctx: CallhomeContext) -> None:
    """Of idle connections that have carried streams the one used last is used first."""
    # A worker may have dialled ahead what nobody has used yet: that is no older one.
    router = await ctx.router()
    streams = [await ctx.post(ECHO, b"x", router=router) for _ in range(8)]
    for delivery in streams:
        await delivery.accepted()
    for delivery in streams:
        await delivery.result()
        await on(delivery).fence()  # DONE has been read, in this order
    last = on(streams[-1])
    for _ in range(3):
        used = await works(ctx, "last", router=router)
        good = used is last or len(used.hellos) == 1
        ctx.check("last", good, expected=last.label, actual=used.label)
        await used.fence()
        last = used
