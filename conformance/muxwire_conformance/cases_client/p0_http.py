"""What the HTTP answer, or its absence, makes of a stream (P0-019, REC-007)."""

from __future__ import annotations

import time
from functools import partial

from muxwire_conformance import wire
from muxwire_conformance.cases_client._callhome import SOON, declare_routed, routed, served
from muxwire_conformance.client_mode.posts import Fields
from muxwire_conformance.client_mode.router import RouterContext

ANSWER_TIME = 10.0

# -- answers that refuse -------------------------------------------------------------------------


async def _refused(ctx: RouterContext, *, status: int, code: str, sure: bool) -> None:
    call, post = await ctx.posted(status=0)
    post.refuse(status, code, not_processed=sure)
    class_ = "NOT_PROCESSED" if sure else "AMBIGUOUS"
    await call.fails(class_, messages=0, attempts=1, check="class")
    final = call.final or {}
    if sure:
        await call.fails(class_, code, check="class")
    ctx.check("class", not call.messages, expected="no message", actual=final)
    await served(ctx, check="works")


for _status, _code, _sure in (
    (400, "INVALID_ARGUMENT", True),
    (403, "INVALID_ARGUMENT", True),
    (404, "NOT_FOUND", True),
    (413, "MESSAGE_TOO_LARGE", True),
    (409, "DUPLICATE_REQUEST", False),
    (500, "REQUEST_INTERNAL_ERROR", False),
    (503, "OVERLOADED", False),
):
    _word = "NOT_PROCESSED with its code" if _sure else "AMBIGUOUS without wmx-not-processed"
    declare_routed(
        f"P0-019/client-answer-{_status}",
        f"An answer {_status} {_code} makes the stream {_word}.",
        partial(_refused, status=_status, code=_code, sure=_sure),
        checks=["class", "works"],
    )


async def _foreign(ctx: RouterContext, *, status: int, fields: Fields, body: bytes) -> None:
    call, post = await ctx.posted(status=0)
    post.answer(status, fields, body)
    await call.fails("AMBIGUOUS", messages=0, check="class")
    await served(ctx, check="works")
    count = len(ctx.posts)
    ctx.check("once", count == 2, expected="no further request", actual=f"{count} requests")


_HTML = (("content-type", "text/html"),)
for _name, _title, _status, _fields, _body in (
    ("bad-gateway", "502 of a proxy", 502, _HTML, b"<html>no</html>"),
    ("gateway-timeout", "504 of a proxy", 504, (), b""),
    ("too-large-fields", "431 of a library", 431, (), b""),
    ("ok", "200", 200, _HTML, b"<html>hi</html>"),
    ("no-content", "204", 204, (), b""),
    ("redirect-307", "307", 307, (("location", "/v1/rpc/elsewhere"),), b""),
    ("redirect-302", "302", 302, (("location", "/v1/rpc/elsewhere"),), b""),
    ("redirect-303", "303", 303, (("location", "/v1/rpc/elsewhere"),), b""),
):
    declare_routed(
        f"P0-019/client-answer-{_name}",
        f"An answer {_title} proves nothing: AMBIGUOUS, and nothing is sent again.",
        partial(_foreign, status=_status, fields=_fields, body=_body),
        checks=["class", "works", "once"],
    )


# -- no answer -----------------------------------------------------------------------------------


async def _broken(ctx: RouterContext, *, octets: bytes, cut: bool, reset: bool) -> None:
    call, post = await ctx.posted(status=0)
    if octets:
        post.send(octets)
    if cut:
        await ctx.flushed(post)
        post.cut(reset=reset)
    await call.fails("AMBIGUOUS", messages=0, check="class", within=SOON)
    await served(ctx, check="works")


for _name, _title, _octets, _cut, _reset in (
    ("closed", "that is closed without an answer", b"", True, False),
    ("reset", "that is reset without an answer", b"", True, True),
    ("half-a-line", "that ends inside the status line", b"HTTP/1.1 20", True, False),
    ("half-a-head", "that ends inside the head", b"HTTP/1.1 202 Accepted\r\nx-", True, False),
    ("garbage", "on which the answer is no HTTP", b"\x00\xffno HTTP\r\n\r\n\r\n", True, False),
    ("interim-only", "that ends behind 100", b"HTTP/1.1 100 Continue\r\n\r\n", True, False),
):
    declare_routed(
        f"P0-019/client-http-{_name}",
        f"An HTTP connection {_title} makes the stream AMBIGUOUS at once.",
        partial(_broken, octets=_octets, cut=_cut, reset=_reset),
        checks=["class", "works"],
    )


@routed(
    "P0-019/client-http-no-answer",
    checks=["silence", "unfinished-head", "not-earlier", "works"],
    timed=True,
)
async def no_answer(ctx: RouterContext) -> None:
    """No answer for 10 s after the whole POST makes the stream AMBIGUOUS, and not earlier."""
    posted = time.monotonic()
    silence, _post = await ctx.posted(b"no octet", status=0)
    unfinished, post = await ctx.posted(b"half a head", status=0)
    post.send(b"HTTP/1.1 202 Accepted\r\nx: y\r\n")
    for call, check in ((silence, "silence"), (unfinished, "unfinished-head")):
        final = await call.fails(
            "AMBIGUOUS", None, messages=0, check=check, within=ANSWER_TIME + SOON
        )
        took = final["at"] - posted
        held = took >= ANSWER_TIME - 0.3
        ctx.check("not-earlier", held, expected="10 s", actual=f"{took:.2f} s, {check}")
    await served(ctx, check="works")


@routed("P0-019/client-http-half-a-refusal", checks=["bounded", "no-success"])
async def half_a_refusal(ctx: RouterContext) -> None:
    """A refusal that ends inside its body completes the stream at once, and not as a success."""
    call, post = await ctx.posted(status=0)
    post.send(b"HTTP/1.1 503 No\r\nwmx-not-processed: 1\r\ncontent-length: 90\r\n\r\n{")
    await ctx.flushed(post)
    post.cut()
    await ctx.driver_until(lambda: call.final is not None or bool(call.retries), SOON)
    held = call.final is not None or bool(call.retries)
    ctx.check("bounded", held, expected="a class", actual=call.describe())
    seen = (call.final or {"event": "retry"})["event"]
    ctx.check("no-success", seen != "end", expected="no success", actual=call.describe())


@routed("P0-019/client-http-interim", checks=["success"])
async def interim(ctx: RouterContext) -> None:
    """An interim answer is none: the 202 behind it counts."""
    call, post = await ctx.posted(status=0)
    post.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    post.answer()
    link = await ctx.line()
    delivery = await link.carry(post)
    delivery.answer(b"hi")
    await call.succeeds([b"hi"], check="success")


@routed("P0-019/client-http-closed-behind-202", checks=["success"])
async def closed_behind_202(ctx: RouterContext) -> None:
    """Behind the 202 the HTTP connection is not needed any more."""
    call, post = await ctx.posted()
    await ctx.flushed(post)
    post.cut()
    link = await ctx.line()
    delivery = await link.carry(post)
    delivery.answer(b"hi")
    await call.succeeds([b"hi"], check="success")


async def _behind_accept(ctx: RouterContext, *, answer: str) -> None:
    call, post = await ctx.posted(status=0)
    link = await ctx.line()
    delivery = await link.carry(post)
    if answer == "refusal":
        post.refuse(400, "INVALID_ARGUMENT")
    elif answer == "gateway":
        post.answer(502)
    else:
        post.cut(reset=True)
    await served(ctx)  # the router has had the time to see the answer
    delivery.answer(b"hi")
    await call.succeeds([b"hi"], check="success")
    await delivery.done()


for _answer, _title in (
    ("refusal", "a 400 with wmx-not-processed"),
    ("gateway", "a 502"),
    ("reset", "the end of the HTTP connection"),
):
    declare_routed(
        f"P0-019/client-http-{_answer}-behind-accept",
        f"Once a HELLO has been accepted {_title} decides nothing.",
        partial(_behind_accept, answer=_answer),
        checks=["success"],
    )


# -- before the first octet ----------------------------------------------------------------------


@routed("P0-019/client-http-refused-dial", checks=["class"], features=["timing"])
async def refused_dial(ctx: RouterContext) -> None:
    """A request whose POST cannot be begun is NOT_SENT."""
    await ctx.start(timing={"wait_ms": 600, "backoff_base_ms": 10})
    ctx.listener.close()
    call = ctx.request(b"x")
    await call.fails("NOT_SENT", messages=0, attempts=0, check="class", within=0.6 + SOON)


# -- further attempts ----------------------------------------------------------------------------


@routed(
    "REC-007/client-callhome-retry",
    checks=["stream", "token", "request-id", "attempt", "event", "success"],
    features=["retry"],
    requirements=["REC-007", "P0-018", "RID-001"],
)
async def retry(ctx: RouterContext) -> None:
    """A further attempt has a new stream and token, the same request-id, and its number."""
    call, first = await ctx.posted(b"same", status=0)
    first.refuse(503, "OVERLOADED")
    second = await ctx.post()
    ctx.check("stream", first.stream != second.stream, expected="a new id", actual="the same")
    ctx.check("token", first.token != second.token, expected="a new token", actual="the same")
    names = [post.header("request-id") for post in (first, second)]
    ctx.check("request-id", names[0] == names[1], expected="one request-id", actual=names)
    numbers = [post.header("attempt") for post in (first, second)]
    held = numbers == [None, "2"] and second.body == b"same"
    ctx.check("attempt", held, expected="no attempt, then 2", actual=numbers)
    second.answer()
    link = await ctx.line()
    old = link.deliver(first.stream)
    link.send(wire.hello(first.stream, first.token))
    await old.rejected("NOT_FOUND", check="token")
    delivery = await link.carry(second)
    delivery.answer(b"hi")
    end = await call.succeeds([b"hi"], check="success")
    retries = [(one["class"], one["attempt"]) for one in call.retries]
    held = retries == [("NOT_PROCESSED", 2)] and end["attempts"] == 2
    ctx.check("event", held, expected="one retry event, 2 attempts", actual=retries)


@routed("SET-003/client-callhome-headers", checks=["local", "no-post"], features=["headers"])
async def headers(ctx: RouterContext) -> None:
    """A header that HTTP or this path needs for itself completes the request locally."""
    await ctx.ensure()
    for name, value in (
        ("wch-token", "AAAAAAAAAAAAAAAAAAAAAA"),
        ("wmx-x", "1"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("host", "elsewhere"),
        ("content-length", "3"),
        ("x-key", " white space"),
        ("x-key", "white space "),
    ):
        call = ctx.request(b"x", headers=[(name, value)])
        await call.fails("NOT_SENT", "INVALID_ARGUMENT", local=True, attempts=0, check="local")
    await served(ctx)
    count = len(ctx.posts)
    ctx.check("no-post", count == 1, expected="no POST for these", actual=f"{count} POSTs")


@routed(
    "P0-017/client-post",
    checks=["subject", "body", "fields", "address"],
    features=["headers"],
)
async def post(ctx: RouterContext) -> None:
    """A POST has the subject, the message, the caller's headers, and an address that answers."""
    pairs = [("x-one", "1"), ("traceparent", f"00-{'a1' * 16}-{'b2' * 8}-01"), ("x-two", "zwei")]
    body = ctx.rng.randbytes(70_000)
    call, found = await ctx.posted(body, headers=pairs, subject="judge.a-b_c.d")
    ctx.check("subject", found.subject == "judge.a-b_c.d", expected="it", actual=found.path)
    ctx.check("body", found.body == body, expected="the message", actual=len(found.body))
    own = {name for name, _value in pairs}
    seen = [pair for pair in found.fields if pair[0] in own]
    ctx.check("fields", seen == pairs, expected=f"{pairs}", actual=seen)
    link = await ctx.dial(found.addr)
    link.greet()
    await link.welcomed(check="address")
    delivery = await link.carry(found)
    delivery.answer()
    await call.succeeds([])
