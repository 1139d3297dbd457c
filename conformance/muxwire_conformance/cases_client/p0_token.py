"""Tokens, and which HELLO a router accepts (P0-018)."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from muxwire_conformance import wire
from muxwire_conformance.case import SAME
from muxwire_conformance.cases_client._callhome import (
    LONG,
    SOON,
    TOKEN_LIFE,
    declare_routed,
    routed,
    served,
)
from muxwire_conformance.client_mode.home import Delivery, HomeLink
from muxwire_conformance.client_mode.posts import Post
from muxwire_conformance.client_mode.router import RouterContext

TOKENS = 48


@routed("P0-018/client-fresh-tokens", checks=["distinct", "random"])
async def fresh_tokens(ctx: RouterContext) -> None:
    """Every stream has a token of its own, 16 octets of which each bit is random."""
    tokens, streams = [], []
    for _ in range(TOKENS):
        call, post = await ctx.posted(status=0)
        post.refuse(404, "NOT_FOUND")
        tokens.append(post.token)
        streams.append(post.stream)
        await call.finished()
    different = len(set(tokens)) == TOKENS == len(set(streams))
    ctx.check("distinct", different, expected="no token or id twice", actual=len(set(tokens)))
    own = [token != stream for token, stream in zip(tokens, streams, strict=True)]
    ctx.check("random", all(own), expected="tokens that are not the id", actual="the id")
    numbers = [int.from_bytes(one, "big") for one in tokens]
    fixed = (1 << 128) - 1
    for number in numbers:
        fixed &= ~(number ^ numbers[0])
    stuck = fixed.bit_count()
    ctx.check("random", stuck == 0, expected="no bit alike in all", actual=f"{stuck} bits")


# -- HELLOs that are not right -------------------------------------------------------------------

Guess = Callable[[RouterContext, Post, Post], tuple[bytes, bytes]]
"""Returns the id and the token of a wrong HELLO, of a POST and one that came before."""


def _wrong(_ctx: RouterContext, post: Post, _other: Post) -> tuple[bytes, bytes]:
    return post.stream, bytes(octet ^ 0xFF for octet in post.token)


def _first_bit(_ctx: RouterContext, post: Post, _other: Post) -> tuple[bytes, bytes]:
    return post.stream, bytes([post.token[0] ^ 0x80]) + post.token[1:]


def _last_bit(_ctx: RouterContext, post: Post, _other: Post) -> tuple[bytes, bytes]:
    return post.stream, post.token[:-1] + bytes([post.token[-1] ^ 1])


def _of_another(_ctx: RouterContext, post: Post, other: Post) -> tuple[bytes, bytes]:
    return post.stream, other.token


def _unknown_id(ctx: RouterContext, post: Post, _other: Post) -> tuple[bytes, bytes]:
    return ctx.new_id(), post.token


def _zeros(_ctx: RouterContext, post: Post, _other: Post) -> tuple[bytes, bytes]:
    return post.stream, bytes(16)


async def _guess(ctx: RouterContext, *, guess: Guess) -> None:
    _first, other = await ctx.posted(b"other")
    call, post = await ctx.posted()
    link = await ctx.line()
    id, token = ctx.pick(guess(ctx, post, other), (post.stream, post.token))
    delivery = link.deliver(id)
    octets = wire.hello(id, token)
    link.violate(octets, instead_of=octets)
    if ctx.twin_run:
        await delivery.accepted()
        delivery.answer()
        await call.succeeds([])
        return
    await delivery.rejected("NOT_FOUND", check="reject")
    right = link.hello(post)
    await right.accepted(check="idle-again")
    right.answer(b"hi")
    await call.succeeds([b"hi"])


for _name, _title, _make in (
    ("wrong-token", "a wrong token", _wrong),
    ("first-bit", "a token that differs in its first bit", _first_bit),
    ("last-bit", "a token that differs in its last bit", _last_bit),
    ("zero-token", "a token of zeros", _zeros),
    ("token-of-another", "the token of another stream", _of_another),
    ("unknown-id", "an unknown id", _unknown_id),
):
    declare_routed(
        f"P0-018/client-{_name}",
        f"A HELLO with {_title} is answered by REJECT with NOT_FOUND; the right one still works.",
        partial(_guess, guess=_make),
        checks=["reject", "idle-again"],
        twin=SAME,
    )


async def _guesses(ctx: RouterContext, link: HomeLink, count: int, check: str) -> Delivery:
    for _ in range(count):
        delivery = link.deliver(ctx.new_id())
        link.send(wire.hello(delivery.id, ctx.rng.randbytes(16)))
        await delivery.rejected("NOT_FOUND", check=check)
    return delivery


@routed("P0-018/client-two-guesses", checks=["reject", "works"])
async def two_guesses(ctx: RouterContext) -> None:
    """Behind two wrong HELLOs a connection still carries a stream."""
    link = await ctx.line()
    await _guesses(ctx, link, 2, "reject")
    await served(ctx, link, check="works")


@routed("P0-018/client-three-guesses", checks=["reject", "end"], twin="P0-018/client-two-guesses")
async def three_guesses(ctx: RouterContext) -> None:
    """The router closes a connection behind the third REJECT with NOT_FOUND."""
    call, post = await ctx.posted()
    link = await ctx.line()
    await _guesses(ctx, link, 2, "reject")
    delivery = link.deliver(ctx.new_id())
    link.violate(wire.hello(delivery.id, ctx.rng.randbytes(16)))
    await delivery.rejected("NOT_FOUND", check="reject")
    await link.expect_end()
    other = await ctx.line()  # the stream lives on
    again = await other.carry(post)
    again.answer()
    await call.succeeds([])


# -- when a token is valid -----------------------------------------------------------------------


@routed("P0-018/client-hello-before-202", checks=["accept", "success"])
async def hello_before_202(ctx: RouterContext) -> None:
    """A HELLO, and the whole response, may come before the 202."""
    call, post = await ctx.posted(status=0)
    link = await ctx.line()
    delivery = link.hello(post)
    await delivery.accepted(check="accept")
    delivery.answer(b"early")
    await call.succeeds([b"early"], check="success")
    await delivery.done()
    post.answer()
    await served(ctx, link)


@routed("P0-018/client-used-token", checks=["reject"], twin="P0-008/client-done-success")
async def used_token(ctx: RouterContext) -> None:
    """Behind its terminal a token is void."""
    call, post = await ctx.posted()
    link = await ctx.line()
    delivery = await link.carry(post)
    delivery.answer()
    await call.succeeds([])
    await delivery.done()
    again = link.deliver(post.stream)
    link.violate(wire.hello(post.stream, post.token))
    await again.rejected("NOT_FOUND", check="reject")
    await link.fence()


@routed(
    "P0-018/client-token-in-use",
    checks=["reject", "success"],
    twin="P0-019/client-superseded",
    requirements=["P0-018", "P0-019"],
)
async def token_in_use(ctx: RouterContext) -> None:
    """From the first RESPONSE on a token is void: another HELLO changes nothing."""
    call, post = await ctx.posted()
    link = await ctx.line()
    delivery = await link.carry(post)
    delivery.send(b"one")
    await ctx.driver_until(lambda: call.messages == [b"one"])
    other = await ctx.line()
    again = other.deliver(post.stream)
    other.violate(wire.hello(post.stream, post.token))
    await again.rejected("NOT_FOUND", check="reject")
    delivery.answer(b"two")
    await call.succeeds([b"one", b"two"], check="success")


@routed("P0-018/client-late-hello", checks=["accept", "success"], timed=True, limit=LONG)
async def late_hello(ctx: RouterContext) -> None:
    """A token lives for 15 s from the 202: a HELLO after 13 s is accepted."""
    call, post = await ctx.posted()
    answered = time.monotonic()
    link = await ctx.line()
    await ctx.driver_until_time(answered + TOKEN_LIFE - 2.0)
    if time.monotonic() - answered > TOKEN_LIFE - 1.0:
        ctx.late(f"a HELLO after {time.monotonic() - answered:.1f} s")
    delivery = link.hello(post)
    await delivery.accepted(check="accept")
    delivery.answer()
    await call.succeeds([], check="success")


@routed(
    "P0-018/client-void-token",
    checks=["class", "not-earlier", "reject"],
    twin="P0-018/client-hello-before-202",
    timed=True,
    limit=LONG,
    requirements=["P0-018", "P0-019"],
)
async def void_token(ctx: RouterContext) -> None:
    """Without an accepted HELLO a stream is AMBIGUOUS 15 s after the 202, and its token void."""
    call, post = await ctx.posted()
    answered = time.monotonic()
    link = await ctx.line()
    final = await call.fails("AMBIGUOUS", None, messages=0, check="class", within=TOKEN_LIFE + SOON)
    took = final["at"] - answered
    held = took >= TOKEN_LIFE - 0.2
    ctx.check("not-earlier", held, expected="15 s", actual=f"{took:.2f} s")
    delivery = link.deliver(post.stream)
    link.violate(wire.hello(post.stream, post.token))
    await delivery.rejected("NOT_FOUND", check="reject")
    await link.fence()


# -- the caller has gone -------------------------------------------------------------------------


@routed(
    "P0-018/client-cancelled",
    checks=["class", "reject"],
    requirements=["P0-018", "P0-019"],
)
async def cancelled(ctx: RouterContext) -> None:
    """A stream given up before a HELLO completes at once; its HELLO gets REJECT(CANCELLED)."""
    call, post = await ctx.posted()
    ctx.driver.op("kill", ref=call.ref)
    await call.fails("AMBIGUOUS", "CANCELLED", messages=0, local=True, check="class", within=SOON)
    link = await ctx.line()
    delivery = link.hello(post)
    await delivery.rejected("CANCELLED", check="reject")
    await link.fence()
    kills = [one.name for one in (*link.inbox, *delivery.frames) if one.name == "KILL"]
    ctx.check("reject", not kills, expected="no KILL", actual=kills)
    await served(ctx, link)


@routed("P0-018/client-cancelled-before-202", checks=["class", "reject"])
async def cancelled_before_202(ctx: RouterContext) -> None:
    """The same before the 202, which then says nothing new."""
    call, post = await ctx.posted(status=0)
    ctx.driver.op("kill", ref=call.ref)
    await call.fails("AMBIGUOUS", "CANCELLED", check="class", within=SOON)
    post.answer()
    link = await ctx.line()
    delivery = link.hello(post)
    await delivery.rejected("CANCELLED", check="reject")


@routed("P0-018/client-cancelled-does-not-count", checks=["reject", "works"])
async def cancelled_does_not_count(ctx: RouterContext) -> None:
    """REJECT with CANCELLED is nobody's fault: the connection stays, however many there were."""
    link = await ctx.line()
    for _ in range(5):
        call, post = await ctx.posted()
        ctx.driver.op("kill", ref=call.ref)
        await call.finished()
        delivery = link.hello(post)
        await delivery.rejected("CANCELLED", check="reject")
    await served(ctx, link, check="works")


@routed(
    "P0-018/client-cancelled-long-ago",
    checks=["remembered", "forgotten"],
    twin="P0-018/client-cancelled",
    timed=True,
    limit=LONG,
)
async def cancelled_long_ago(ctx: RouterContext) -> None:
    """The token of a stream that was given up is known for 15 s, and then unknown."""
    call, post = await ctx.posted()
    ctx.driver.op("kill", ref=call.ref)
    final = await call.fails("AMBIGUOUS", "CANCELLED")
    link = await ctx.line()
    await ctx.driver_until_time(final["at"] + TOKEN_LIFE - 2.0)
    if time.monotonic() - final["at"] > TOKEN_LIFE - 1.0:
        ctx.late(f"a HELLO after {time.monotonic() - final['at']:.1f} s")
    await link.hello(post).rejected("CANCELLED", check="remembered")
    await ctx.driver_until_time(final["at"] + TOKEN_LIFE + SOON + ctx.patience.slack)
    delivery = link.deliver(post.stream)
    link.violate(wire.hello(post.stream, post.token))
    await delivery.rejected("NOT_FOUND", check="forgotten")
