"""Messages, as a client shows it: what it puts together, and how it cuts its own."""

from __future__ import annotations

from collections.abc import Callable

from muxwire_conformance.case import case
from muxwire_conformance.cases_client._steps import declare
from muxwire_conformance.client_mode.context import ClientContext
from muxwire_conformance.client_mode.exchange import Exchange

Answer = Callable[[Exchange], None]
K = [("k", "v")]


def _answered(name: str, title: str, messages: list[bytes], answer: Answer, rule: str) -> None:
    async def run(ctx: ClientContext) -> None:
        link, one, call = await ctx.asked()
        answer(one)
        await call.succeeds(messages, check="same")
        await link.fence()

    declare(f"{rule}/client-{name}", title, run, checks=["same"])


def _frames(*frames: tuple[bytes, str]) -> Answer:
    def answer(one: Exchange) -> None:
        for data, flags in frames:
            one.send(data, end="E" in flags, more="M" in flags, headers=K if "H" in flags else None)

    return answer


for _name, _title, _messages, _send in (
    ("no-message", "A response of one empty terminal has no message.", [], [(b"", "E")]),
    ("data-in-terminal", "A terminal with data carries a message.", [b"x"], [(b"x", "E")]),
    (
        "empty-message",
        "An empty message is a frame of its own.",
        [b"", b"a", b""],
        [(b"", ""), (b"a", ""), (b"", ""), (b"", "E")],
    ),
    (
        "headers-only",
        "Headers may come alone, and carry no message.",
        [b"x"],
        [(b"", "H"), (b"x", ""), (b"", "E")],
    ),
    (
        "headers-then-empty",
        "An empty first message comes in a RESPONSE without META.",
        [b""],
        [(b"", "H"), (b"", ""), (b"", "E")],
    ),
    (
        "trailers-only",
        "An empty terminal with trailers carries no message.",
        [b"x"],
        [(b"x", ""), (b"", "EH")],
    ),
    (
        "headers-in-terminal",
        "One frame with META and END_STREAM, empty, carries no message.",
        [],
        [(b"", "EH")],
    ),
    (
        "end-closes",
        "END_STREAM closes the open message, empty or not.",
        [b"abc"],
        [(b"abc", "M"), (b"", "E")],
    ),
    (
        "end-closes-with-data",
        "The last chunk may come with END_STREAM.",
        [b"abcd"],
        [(b"abc", "M"), (b"d", "E")],
    ),
    (
        "more-of-nothing",
        "Chunks of 0 octets belong to their message.",
        [b""],
        [(b"", "M"), (b"", "M"), (b"", ""), (b"", "E")],
    ),
    (
        "headers-with-more",
        "The first chunk may follow the headers.",
        [b"ab"],
        [(b"a", "HM"), (b"b", ""), (b"", "E")],
    ),
):
    _answered(_name, _title, _messages, _frames(*_send), "MSG-002")


def _one_by_one(one: Exchange) -> None:
    body = b"any split"
    for octet in body:
        one.send(bytes([octet]), more=True)
        one.send(b"", more=True)
    one.send()
    one.send(end=True)


_answered(
    "chunks-of-one-octet",
    "Chunks of 1 and of 0 octets are accepted.",
    [b"any split"],
    _one_by_one,
    "MSG-001",
)


@case(
    "MSG-001/client-large-messages",
    role="client",
    checks=["requests", "responses"],
    features=["settings"],
)
async def large(ctx: ClientContext) -> None:
    """Messages larger than a frame and a window keep their boundaries, both ways."""
    link = await ctx.ready(client={"MAX_MESSAGE_SIZE": 8_388_608})
    sent = [ctx.rng.randbytes(size) for size in (1_500_000, 0, 70_000, 1)]
    call = ctx.request(messages=sent)
    one = await link.take()
    got = await one.complete(within=5.0)
    ctx.check("requests", got == sent, expected="the messages", actual=[len(m) for m in got])
    for message in sent:
        await one.send_message(message)
    one.send(end=True)
    await call.succeeds(sent, check="responses", within=5.0)


for _name, _options, _expected in (
    ("unary-empty", {"body": b""}, [b""]),
    ("default-is-empty", {}, [b""]),
    ("no-messages", {"messages": []}, []),
    ("empty-among-others", {"messages": [b"", b"a", b"", b"b"]}, [b"", b"a", b"", b"b"]),
    ("last-is-empty", {"messages": [b"a", b""]}, [b"a", b""]),
):

    async def _request(
        ctx: ClientContext,
        options: dict[str, object] = _options,  # type: ignore[assignment]
        expected: list[bytes] = _expected,
    ) -> None:
        link = await ctx.ready()
        call = ctx.request(**options)  # type: ignore[arg-type]
        one = await link.take()
        got = await one.complete()
        ctx.check("same", got == expected, expected=str(expected), actual=got)
        one.answer()
        await call.succeeds([])

    declare(
        f"MSG-002/client-sends-{_name}",
        f"The messages of a request are cut into frames by the table of section 8.2 ({_name}).",
        _request,
        checks=["same"],
    )


@case("MSG-002/client-hold-open", role="client", checks=["nothing-yet", "same"], features=["bidi"])
async def hold_open(ctx: ClientContext) -> None:
    """A request can be opened without a message; messages follow, and an empty frame ends it."""
    link = await ctx.ready()
    call = ctx.request(hold_open=True)
    one = await link.take()
    await link.fence()
    ctx.check(
        "nothing-yet",
        not one.messages and not one.ended,
        expected="no message",
        actual=one.messages,
    )
    ctx.driver.op("send", ref=call.ref, body_b64="")
    ctx.driver.op("send", ref=call.ref, body_b64="YQ==")
    ctx.driver.op("send", ref=call.ref, end=True)
    got = await one.complete()
    ctx.check("same", got == [b"", b"a"], expected="['', 'a']", actual=got)
    one.answer()
    await call.succeeds([])


@case(
    "MSG-003/client-message-too-large",
    role="client",
    checks=["kill", "class", "pong"],
    features=["settings"],
)
async def too_large(ctx: ClientContext) -> None:
    """A response above the client's MAX_MESSAGE_SIZE is killed at the chunk that exceeds it."""
    link = await ctx.ready(client={"MAX_MESSAGE_SIZE": 1_048_576})
    call = ctx.request(b"x", idempotent=True)
    one = await link.take()
    for _ in range(64):
        await one.send_message(bytes(0))
    await one.send_message(b"whole")
    for _ in range(66):
        if one.kill is not None:
            break
        if not await link.wait_for(lambda: one.room() >= 16_384 or one.kill is not None):
            link.fail("kill", "credit for the chunks of a message, or KILL")
        if one.kill is None:
            one.send(bytes(16_384), more=True)
    await one.killed("MESSAGE_TOO_LARGE", check="kill")
    one.fail("CANCELLED")
    await call.fails("FAILED", messages=65, attempts=1, check="class")
    await link.fence(check="pong")


@case("MSG-003/client-largest-message", role="client", checks=["same"], features=["settings"])
async def largest(ctx: ClientContext) -> None:
    """A response message of exactly the client's MAX_MESSAGE_SIZE is delivered."""
    link = await ctx.ready(client={"MAX_MESSAGE_SIZE": 1_048_576})
    body = ctx.rng.randbytes(1_048_576)
    call = ctx.request(b"x")
    one = await link.take()
    await one.send_message(body)
    one.send(end=True)
    await call.succeeds([body], check="same", within=5.0)


@case("MSG-004/client-error-inside", role="client", checks=["class"])
async def error_inside(ctx: ClientContext) -> None:
    """A message that is open when an error terminal comes is never delivered."""
    link, one, call = await ctx.asked()
    one.send(b"whole")
    one.send(b"half of", more=True)
    one.fail("APPLICATION_ERROR")
    await call.fails("FAILED", "APPLICATION_ERROR", messages=1, check="class")
    await link.fence()


@case("MSG-004/client-lost-inside", role="client", checks=["class"])
async def lost_inside(ctx: ClientContext) -> None:
    """A message that is open when the connection ends is never delivered."""
    link, one, call = await ctx.asked()
    one.send(b"whole")
    one.send(b"half of", more=True)
    await link.cut()
    await call.fails("PARTIAL", messages=1, check="class")
