"""The request and its answer: P0-001, P0-016, P0-017."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from muxwire_conformance.callhome.context import (
    POLL,
    ROOT,
    CallhomeContext,
    stream_text,
    token_text,
)
from muxwire_conformance.callhome.post import Answer
from muxwire_conformance.callhome.router import Router
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import declare, not_applicable_unless
from muxwire_conformance.cases_callhome._steps import (
    NEEDS,
    SLEEP,
    at_rest,
    elsewhere,
    on,
    running,
    works,
)
from muxwire_conformance.verdict import Unprepared

ECHO = "conformance.echo"
MOST_POSTS = 1_100
IN_TIME = 8.0
"""A stream that nobody accepts lives for 10 s."""
BIG = 67_108_864
CONTINUE_TIME = 1.0
FOREIGN = "127.0.0.2"


async def _refused(
    ctx: CallhomeContext, status: int, code: str, *, subject: str = ECHO, **bad: Any
) -> None:
    """Post a request with one fault: it is refused, and nobody dials."""
    router = await ctx.router()
    if ctx.pick(False, True):
        await ctx.call(ECHO, b"{}", router=router, content_type="application/json")
        return
    options = {"content_type": "application/json", **bad}
    delivery = await ctx.post(subject, b"{}", router=router, marked=True, **options)
    answer = await delivery.refused(status, code)
    if status == 405:
        allowed = answer.get("allow")
        ctx.check("refused", allowed == "POST", expected="allow: POST", actual=allowed)
    await elsewhere(ctx)
    ctx.check("no-dial", not router.dialled, expected="no dial", actual=len(router.dialled))


def _declare_refusal(id: str, title: str, status: int, code: str, **bad: Any) -> None:
    async def refusal(ctx: CallhomeContext) -> None:
        await _refused(ctx, status, code, **bad)

    checks = ["refused", "no-dial"]
    declare(id, title, refusal, checks=checks, features=NEEDS, twin=SAME)


# -- P0-001 ------------------------------------------------------------------------------------


@case("P0-001/calls-home", checks=["admitted", "hello", "whole"], features=NEEDS)
async def calls_home(ctx: CallhomeContext) -> None:
    """A request that is admitted is answered 202, and its HELLO follows within 5 s."""
    delivery = await ctx.post(ECHO, b"hello")
    await delivery.admitted(check="admitted")
    await delivery.hello(check="hello")
    messages = await delivery.result()
    ctx.check("whole", messages == [b"hello"], expected="['hello']", actual=messages)


@case("P0-001/says-hello-while-the-handler-works", checks=["hello"], features=NEEDS)
async def hello_while_working(ctx: CallhomeContext) -> None:
    """HELLO does not wait for the first message of the handler."""
    delivery = await ctx.post("conformance.sleep", SLEEP)
    await delivery.admitted()
    await delivery.hello(check="hello")


@case("P0-001/headers-of-the-handler", checks=["headers", "subject", "timeout"], features=NEEDS)
async def headers_of_the_handler(ctx: CallhomeContext) -> None:
    """The handler sees the fields of the request without those of HTTP and of this path."""
    own = [("x-first", "1"), ("X-Second", "two words"), ("request-id", "a-b-c")]
    delivery = await ctx.post(
        "conformance.headers", {}, headers=own, timeout_ms=30_000, more=[("wmx-else", "1")]
    )
    await delivery.admitted()
    answer = await (await delivery.accepted()).json()
    delivery.done()
    pairs = [tuple(pair) for pair in answer["headers"]]
    expected = [(name.lower(), value) for name, value in own]
    wanted = [pair for pair in pairs if pair in expected]
    alien = [name for name, _value in pairs if name.startswith(("wch-", "wmx-"))]
    hop = [name for name, _value in pairs if name in ("host", "content-length", "connection")]
    good = wanted == expected and not alien and not hop
    ctx.check("headers", good, expected=f"{expected} in order, and none of HTTP", actual=pairs)
    subject, timeout = answer["subject"], answer["timeout_ms"]
    ctx.check("subject", subject == "conformance.headers", expected="its name", actual=subject)
    ctx.check("timeout", timeout == 30_000, expected="30000", actual=timeout)


_declare_refusal(
    "P0-001/unknown-subject",
    "A request for a subject without a handler is answered 404 and not admitted.",
    404,
    "NOT_FOUND",
    subject="no.such.subject",
)
_declare_refusal(
    "P0-001/unknown-path",
    "A request outside the root is answered 404.",
    404,
    "NOT_FOUND",
    target=f"{ROOT}/more/{ECHO}",
)
_declare_refusal(
    "P0-001/other-method",
    "A request with another method than POST is answered 405 with Allow.",
    405,
    "INVALID_ARGUMENT",
    method="PUT",
)
_declare_refusal(
    "P0-001/malformed-subject",
    "A request with a malformed subject is answered 400.",
    400,
    "INVALID_ARGUMENT",
    target=f"{ROOT}/a..b",
)
_declare_refusal(
    "P0-001/other-content-type",
    "A body of another media type is answered 415.",
    415,
    "INVALID_ARGUMENT",
    content_type="text/plain",
)
_declare_refusal(
    "P0-001/content-encoding",
    "A body with a Content-Encoding is answered 415.",
    415,
    "INVALID_ARGUMENT",
    headers=[("content-encoding", "compress")],
)


@case("P0-001/no-json", checks=["refused", "no-dial"], features=NEEDS, twin=SAME)
async def no_json(ctx: CallhomeContext) -> None:
    """A body that is declared as JSON and is none is answered 400."""
    router = await ctx.router()
    body = ctx.pick(b'{"half":', b'{"whole": 1}')
    delivery = await ctx.post(
        ECHO, body, router=router, content_type="application/json", marked=True
    )
    if ctx.twin_run:
        await delivery.result()
        return
    await delivery.refused(400, "INVALID_ARGUMENT")
    await elsewhere(ctx)
    ctx.check("no-dial", not router.dialled, expected="no dial", actual=len(router.dialled))


@case(
    "P0-001/body-too-large",
    checks=["refused"],
    features=NEEDS,
    twin="P0-001/calls-home",
    exclusive=True,
)
async def body_too_large(ctx: CallhomeContext) -> None:
    """A body above MAX_MESSAGE_SIZE is answered 413."""
    ctx.require_twin()
    expect = [("expect", "100-continue")]
    delivery = await ctx.post(ECHO, headers=expect, length=BIG + 1, marked=True)
    post = delivery.post
    await ctx.until(lambda: post.goes_on or post.answer is not None, CONTINUE_TIME)
    if post.answer is None:
        post.write(bytes(BIG + 1))
    answer = await delivery.answer(check="refused", within=5.0)
    # A library may answer by itself, without the object.
    good = answer.status == 413
    ctx.check("refused", good, expected="413", actual=answer)


@case(
    "P0-001/overloaded",
    checks=["refused", "retry-after", "served", "again"],
    features=NEEDS,
    exclusive=True,
)
async def overloaded(ctx: CallhomeContext) -> None:
    """Beyond its limit the worker answers 503; what was answered 202 is served all the same."""
    await at_rest(ctx)
    router = await ctx.router()
    started = time.monotonic()
    first = await ctx.post("conformance.sleep", SLEEP, router=router)
    answer = await first.admitted()
    response = await first.accepted()
    count = 0
    while answer.status == 202 and (count := count + 1) < MOST_POSTS:
        delivery = await ctx.post("conformance.sleep", SLEEP, router=router)
        answer = await delivery.answer()
        if time.monotonic() - started > IN_TIME:
            ctx.late("the first streams may have been given up")
    not_applicable_unless(answer.status != 202, f"{MOST_POSTS} requests are all admitted")
    await delivery.refused(503, "OVERLOADED")
    seconds = answer.get("retry-after") or ""
    good = seconds.isdecimal() and int(seconds) >= 1
    ctx.check("retry-after", good, expected="whole seconds from 1", actual=seconds)
    first.kill()
    await response.fails("CANCELLED", check="served", within=1.0)
    first.done()
    later = await _admitted_at_last(ctx, router)
    ctx.check("again", later.status == 202, expected="202", actual=later)


async def _admitted_at_last(ctx: CallhomeContext, router: Router) -> Answer:
    """Post until the place of a handler that has just ended is free."""
    ends = time.monotonic() + 1.0 + ctx.patience.slack
    while True:
        delivery = await ctx.post(ECHO, b"a place", router=router)
        answer = await delivery.answer()
        if answer.status == 202 or time.monotonic() > ends:
            return answer
        await asyncio.sleep(POLL)


# -- P0-016 ------------------------------------------------------------------------------------


@case("P0-016/foreign-address", checks=["refused", "no-dial"], features=NEEDS, twin=SAME)
async def foreign_address(ctx: CallhomeContext) -> None:
    """An address that is neither the peer's nor allowed is answered 403 and not dialled."""
    try:
        foreign = await ctx.router(FOREIGN)
    except Unprepared:  # an address of documentation, at which nobody listens
        foreign = await ctx.router()
        foreign.addr = "192.0.2.1:9"
    home = await ctx.router()
    not_applicable_unless(not home.addr.startswith(FOREIGN), f"the judge itself is at {FOREIGN}")
    delivery = await ctx.post(ECHO, b"x", router=ctx.pick(foreign, home), marked=True)
    if ctx.twin_run:
        await delivery.result()
        return
    await delivery.refused(403, "INVALID_ARGUMENT")
    await elsewhere(ctx)
    ctx.check("no-dial", not foreign.dialled, expected="no dial", actual=len(foreign.dialled))


@case("P0-016/host-name", checks=["refused", "no-dial"], features=NEEDS, twin=SAME)
async def host_name(ctx: CallhomeContext) -> None:
    """A host name is not resolved: the request is refused, also where it names the peer."""
    router = await ctx.router()
    port = router.addr.rpartition(":")[2]
    addr = ctx.pick(f"localhost:{port}", router.addr)
    delivery = await ctx.post(ECHO, b"x", router=router, fields={"wch-addr": addr}, marked=True)
    if ctx.twin_run:
        await delivery.result()
        return
    answer = await delivery.answer()
    status = answer.status if answer.status in (400, 403) else 403
    await delivery.refused(status, "INVALID_ARGUMENT")
    await elsewhere(ctx)
    ctx.check("no-dial", not router.dialled, expected="no dial", actual=len(router.dialled))


@case(
    "P0-016/no-handler",
    checks=["refused", "no-handler"],
    features=NEEDS,
    twin="P0-001/calls-home",
    exclusive=True,
)
async def foreign_runs_nothing(ctx: CallhomeContext) -> None:
    """A request whose address is not allowed runs no handler."""
    await _runs_nothing(ctx, 403, {"wch-addr": "192.0.2.1:9"})


async def _runs_nothing(ctx: CallhomeContext, status: int, fields: dict[str, str | None]) -> None:
    ctx.require_twin()
    before = await at_rest(ctx)
    delivery = await ctx.post("conformance.sleep", SLEEP, fields=fields, marked=True)
    await delivery.refused(status, "INVALID_ARGUMENT")
    after = await ctx.stats()
    opened = after["opened"] - before["opened"]
    ctx.check("no-handler", opened == 0, expected="no handler was started", actual=opened)


# -- P0-017 ------------------------------------------------------------------------------------

_TOKEN = token_text(bytes(range(16)))
_STREAM = stream_text(bytes(range(1, 17)))
_MALFORMED: dict[str, tuple[str, str | None]] = {
    "no-addr": ("wch-addr", None),
    "no-stream": ("wch-stream", None),
    "no-token": ("wch-token", None),
    "addr-without-port": ("wch-addr", "127.0.0.1"),
    "addr-with-port-0": ("wch-addr", "127.0.0.1:0"),
    "addr-with-port-65536": ("wch-addr", "127.0.0.1:65536"),
    "addr-without-host": ("wch-addr", ":9000"),
    "addr-without-brackets": ("wch-addr", "::1:9000"),
    "addr-with-scheme": ("wch-addr", "tcp://127.0.0.1:9000"),
    "stream-too-short": ("wch-stream", "1234"),
    "stream-without-hyphens": ("wch-stream", _STREAM.replace("-", "")),
    "stream-no-hex": ("wch-stream", _STREAM[:-1] + "g"),
    "stream-all-zeros": ("wch-stream", stream_text(bytes(16))),
    "stream-all-ones": ("wch-stream", stream_text(b"\xff" * 16)),
    "token-of-21": ("wch-token", _TOKEN[:-1]),
    "token-of-23": ("wch-token", _TOKEN + "A"),
    "token-with-padding": ("wch-token", _TOKEN + "=="),
    "token-of-other-alphabet": ("wch-token", "+" + _TOKEN[1:]),
    "token-with-unused-bits": ("wch-token", _TOKEN[:-1] + "x"),
    "timeout-is-a-word": ("wch-timeout-ms", "soon"),
    "timeout-is-negative": ("wch-timeout-ms", "-1"),
    "timeout-is-a-fraction": ("wch-timeout-ms", "1.5"),
    "timeout-above-32-bits": ("wch-timeout-ms", "4294967296"),
}

for _name, (_field, _value) in _MALFORMED.items():
    _declare_refusal(
        f"P0-017/{_name}",
        f"A request with {_field} {'missing' if _value is None else 'malformed'} is answered 400.",
        400,
        "INVALID_ARGUMENT",
        fields={_field: _value},
    )

for _field, _value in {
    "wch-addr": "127.0.0.1:9",
    "wch-stream": _STREAM,
    "wch-token": _TOKEN,
    "wch-timeout-ms": "5000",
}.items():
    _declare_refusal(
        f"P0-017/{_field.removeprefix('wch-')}-twice",
        f"A request with {_field} twice is answered 400.",
        400,
        "INVALID_ARGUMENT",
        fields={_field: _value} if _field == "wch-timeout-ms" else {},
        more=[(_field, _value)],
    )


@case(
    "P0-017/runs-nothing",
    checks=["refused", "no-handler"],
    features=NEEDS,
    twin="P0-001/calls-home",
    exclusive=True,
)
async def malformed_runs_nothing(ctx: CallhomeContext) -> None:
    """A request with a malformed token runs no handler."""
    await _runs_nothing(ctx, 400, {"wch-token": _TOKEN[:-1]})


@case("P0-017/largest-timeout", checks=["whole"], features=NEEDS)
async def largest_timeout(ctx: CallhomeContext) -> None:
    """The largest timeout and an upper-case name of a field are well formed."""
    whole = await ctx.call(
        ECHO, b"x", check="whole", timeout_ms=0xFFFF_FFFF, more=[("X-Else", "1")]
    )
    ctx.check("whole", whole == [b"x"], expected="['x']", actual=whole)


@case("P0-017/live-stream", checks=["duplicate", "first-goes-on"], features=NEEDS, twin=SAME)
async def live_stream(ctx: CallhomeContext) -> None:
    """A request whose stream is live is answered 409, without wmx-not-processed."""
    first = await running(ctx)
    again = await ctx.post("conformance.sleep", SLEEP, delivery=ctx.pick(first, None), marked=True)
    if ctx.twin_run:
        await again.admitted()
        return
    await again.refused(409, "DUPLICATE_REQUEST", check="duplicate", not_processed=False)
    await on(first).fence(check="first-goes-on")
    first.kill()
    response = first.response
    if response is not None:
        await response.fails("CANCELLED", check="first-goes-on", within=1.0)


@case("P0-017/stream-before-hello", checks=["duplicate", "whole"], features=NEEDS, twin=SAME)
async def stream_before_hello(ctx: CallhomeContext) -> None:
    """A stream is live from its 202 on, also before it is accepted."""
    first = await ctx.post(ECHO, b"first")
    await first.admitted()
    await first.hello()
    again = await ctx.post(ECHO, b"second", delivery=ctx.pick(first, None), marked=True)
    if ctx.twin_run:
        await again.result()
        return
    await again.refused(409, "DUPLICATE_REQUEST", check="duplicate", not_processed=False)
    messages = await first.result(check="whole")
    ctx.check("whole", messages == [b"first"], expected="['first']", actual=messages)


@case("P0-017/refusal-harms-nobody", checks=["works"], features=NEEDS)
async def refusal_harms_nobody(ctx: CallhomeContext) -> None:
    """After a refused request the next one with the same router is served."""
    delivery = await ctx.post("no.such.subject", b"x")
    await delivery.answer()
    await works(ctx, "works")
