"""One stream: P0-003 to P0-007."""

from __future__ import annotations

from collections.abc import Callable

from muxwire_conformance import wire
from muxwire_conformance.callhome.context import CallhomeContext
from muxwire_conformance.callhome.link import HomeLink
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._steps import declare
from muxwire_conformance.cases_callhome._steps import (
    KILL_TIME,
    NEEDS,
    SLEEP,
    at_rest,
    elsewhere,
    killed,
    on,
    reused,
    running,
    works,
)

ECHO = "conformance.echo"
ATTEMPTS = 3
ACCEPT_TIME = 5.0
DELIVERY_TIME = 10.0


# -- P0-003 ------------------------------------------------------------------------------------


@case("P0-003/id-and-token", checks=["token", "whole"], features=NEEDS)
async def id_and_token(ctx: CallhomeContext) -> None:
    """HELLO carries the id of wch-stream and the octets of wch-token."""
    for token in (bytes(16), b"\xff" * 16, ctx.rng.randbytes(16)):
        delivery = await ctx.post(ECHO, b"x", token=token)
        await delivery.admitted()
        link = await delivery.hello()
        found = link.hellos[-1].payload
        ctx.check("token", found == token, expected=token.hex(), actual=found.hex())
        await delivery.result(check="whole")


@case("P0-003/nothing-before-accept", checks=["nothing", "whole"], features=NEEDS)
async def nothing_before_accept(ctx: CallhomeContext) -> None:
    """No RESPONSE comes before ACCEPT; then the response comes whole, seq from 0."""
    delivery = await ctx.post("conformance.generate", {"count": 50, "size": 16})
    await delivery.admitted()
    link = await delivery.hello()
    await elsewhere(ctx)  # the handler has had the time of a whole stream
    await link.fence()
    early = [frame for frame in link.frames if frame.type == wire.RESPONSE]
    actual = early[0] if early else None
    ctx.check("nothing", not early, expected="no RESPONSE", actual=actual, frame=actual)
    messages = await delivery.result(check="whole")
    ctx.check("whole", len(messages) == 50, expected="50 messages", actual=len(messages))


@case("P0-003/large-before-accept", checks=["nothing", "whole"], features=NEEDS)
async def large_before_accept(ctx: CallhomeContext) -> None:
    """A response larger than what is buffered waits for ACCEPT too."""
    delivery = await ctx.post("conformance.source", {"bytes": 300_000, "messages": 10})
    await delivery.admitted()
    link = await delivery.hello()
    await elsewhere(ctx)
    await link.fence()
    early = [frame for frame in link.frames if frame.type == wire.RESPONSE]
    actual = early[0] if early else None
    ctx.check("nothing", not early, expected="no RESPONSE", actual=actual, frame=actual)
    messages = await delivery.result(check="whole")
    sizes = [len(message) for message in messages]
    ctx.check("whole", sizes == [300_000] * 10, expected="10 x 300,000", actual=sizes)


# -- P0-004 ------------------------------------------------------------------------------------


def _declare_reject(code: str) -> None:
    async def reject(ctx: CallhomeContext) -> None:
        delivery = await ctx.post(ECHO, b"unwanted")
        await delivery.admitted()
        link = await delivery.hello()
        delivery.reject(code)
        await link.fence(check="goes-on")
        await reused(ctx, link, check="next")
        sent = [frame for frame in link.frames if frame.request_id == delivery.id]
        answers = [frame for frame in sent if frame.type == wire.RESPONSE]
        actual = answers[0] if answers else None
        ctx.check("nothing", not answers, expected="no RESPONSE", actual=actual, frame=actual)
        again = len(delivery.hellos)
        ctx.check("nothing", again == 1, expected="one HELLO", actual=again)

    title = f"After REJECT with {code} nothing comes for the stream, and the connection is idle."
    name = code.lower().replace("_", "-")
    checks = ["goes-on", "next", "nothing"]
    declare(
        f"P0-004/{name}",
        title,
        reject,
        checks=checks,
        features=NEEDS,
        requirements=["P0-004", "P0-009"],
    )


_declare_reject("CANCELLED")
_declare_reject("NOT_FOUND")


@case("P0-004/handler-is-killed", checks=["killed"], features=NEEDS, exclusive=True)
async def reject_kills(ctx: CallhomeContext) -> None:
    """REJECT kills the handler within 1 s."""
    before = await at_rest(ctx)
    delivery = await ctx.post("conformance.sleep", SLEEP)
    await delivery.admitted()
    await delivery.hello()
    delivery.reject()
    await killed(ctx, before, check="killed")


# -- P0-005 ------------------------------------------------------------------------------------


def _close(link: HomeLink) -> None:
    link.transport.close()


def _reset(link: HomeLink) -> None:
    link.abort()


def _half_close(link: HomeLink) -> None:
    link.transport.half_close()


def _garbage(link: HomeLink) -> None:
    link.send(b"no frame at all, and long enough to be a header")


def _done(link: HomeLink) -> None:
    link.send(wire.done(link.hellos[-1].request_id))


def _declare_lost(name: str, words: str, lose: Callable[[HomeLink], None]) -> None:
    async def lost(ctx: CallhomeContext) -> None:
        delivery = await ctx.post(ECHO, b"insists")
        await delivery.admitted()
        used = []
        for _ in range(ctx.pick(ATTEMPTS - 1, 0)):
            link = await delivery.hello(check="again")
            lose(link)
            used.append(link)
        link = await delivery.hello(check=None if ctx.twin_run else "again")
        messages = await delivery.result()
        if ctx.twin_run:
            return
        fresh = link not in used and len(set(used)) == len(used)
        ctx.check("again", fresh, expected="another connection each time", actual=link.label)
        whole = messages == [b"insists"]
        ctx.check("whole", whole, expected="['insists']", actual=messages)
        for link in used:
            if link.transport.end is None:
                await link.expect_end(check="again")

    title = f"When {words} between HELLO and ACCEPT, twice, the third attempt delivers it whole."
    declare(f"P0-005/{name}", title, lost, checks=["again", "whole"], features=NEEDS, twin=SAME)


_declare_lost("closed", "the connection is closed", _close)
_declare_lost("reset", "the connection is reset", _reset)
_declare_lost("half-closed", "the router ends its direction", _half_close)
_declare_lost("garbage", "octets come that are no frame", _garbage)
_declare_lost("done", "DONE comes", _done)


@case("P0-005/no-answer", checks=["again", "closes", "whole"], features=NEEDS, timed=True)
async def no_answer(ctx: CallhomeContext) -> None:
    """A HELLO without an answer for 5 s is said again on another connection."""
    delivery = await ctx.post(ECHO, b"insists")
    await delivery.admitted()
    first = await delivery.hello()
    second = await delivery.hello(check="again", within=ACCEPT_TIME + 1.0)
    early = second.hellos[-1].at - first.hellos[-1].at
    good = second is not first and early > ACCEPT_TIME - 0.5 - ctx.patience.slack
    ctx.check("again", good, expected="another connection, after 5 s", actual=f"{early:.2f} s")
    await first.expect_end(check="closes")
    messages = await delivery.result()
    ctx.check("whole", messages == [b"insists"], expected="['insists']", actual=messages)


@case(
    "P0-005/gives-up",
    checks=["three", "killed"],
    features=NEEDS,
    twin="P0-001/calls-home",
    exclusive=True,
)
async def gives_up(ctx: CallhomeContext) -> None:
    """After three attempts that failed the handler is killed, and no HELLO follows."""
    ctx.require_twin()
    before = await at_rest(ctx)
    delivery = await ctx.post("conformance.sleep", SLEEP)
    await delivery.admitted()
    for _ in range(ATTEMPTS):
        link = await delivery.hello(check="three")
        link.abort()
    await killed(ctx, before, check="killed")
    await elsewhere(ctx)
    count = len(delivery.hellos)
    ctx.check("three", count == ATTEMPTS, expected="3 HELLOs", actual=count)


@case(
    "P0-005/nobody-listens",
    checks=["killed", "bounded"],
    features=NEEDS,
    twin="P0-001/calls-home",
    exclusive=True,
)
async def nobody_listens(ctx: CallhomeContext) -> None:
    """A dial that fails is an attempt: where nobody listens the handler is killed."""
    ctx.require_twin()
    before = await at_rest(ctx)
    router = await ctx.router()
    router.hang_up = True
    delivery = await ctx.post("conformance.sleep", SLEEP, router=router)
    await delivery.admitted()
    await ctx.settles(
        lambda stats: stats["active"] <= before["active"],
        check="killed",
        expected=f"active handlers as before: {before['active']}",
        within=DELIVERY_TIME + KILL_TIME,
    )
    later = await ctx.stats()
    opened = later["opened"] - before["opened"]
    ctx.check("bounded", opened == 1, expected="one handler, started once", actual=opened)


# -- P0-006 ------------------------------------------------------------------------------------


def _declare_loss(name: str, words: str, lose: Callable[[HomeLink], None]) -> None:
    async def loss(ctx: CallhomeContext) -> None:
        ctx.require_twin()
        before = await at_rest(ctx)
        delivery = await running(ctx)
        lose(on(delivery))
        await killed(ctx, before, check="killed")
        await works(ctx, "no-redial")
        again = len(delivery.hellos)
        ctx.check("no-redial", again == 1, expected="no further HELLO", actual=again - 1)

    declare(
        f"P0-006/{name}",
        f"When {words} behind ACCEPT the handler is killed and the stream is not tried again.",
        loss,
        checks=["killed", "no-redial"],
        features=NEEDS,
        twin="P0-001/calls-home",
        exclusive=True,
    )


_declare_loss("closed", "the connection is closed", _close)
_declare_loss("reset", "the connection is reset", _reset)
_declare_loss("half-closed", "the router ends its direction", _half_close)


@case("P0-006/cut-in-the-middle", checks=["no-redial"], features=NEEDS, twin="P0-001/calls-home")
async def cut_in_the_middle(ctx: CallhomeContext) -> None:
    """A response that is cut is not begun again."""
    ctx.require_twin()
    delivery = await ctx.post("conformance.generate", {"count": 100_000, "interval_ms": 1})
    await delivery.admitted()
    response = await delivery.accepted()
    await response.message()
    on(delivery).abort()
    await works(ctx, "no-redial")
    again = len(delivery.hellos)
    ctx.check("no-redial", again == 1, expected="no further HELLO", actual=again - 1)


@case(
    "P0-006/end-behind-the-terminal",
    checks=["no-consequence"],
    features=NEEDS,
    twin="P0-001/calls-home",
)
async def end_behind_the_terminal(ctx: CallhomeContext) -> None:
    """An end between the terminal and DONE has no consequence: the stream has been delivered."""
    ctx.require_twin()
    delivery = await ctx.post(ECHO, b"x")
    await delivery.admitted()
    response = await delivery.accepted()
    await response.result()
    on(delivery).abort()
    await works(ctx, "no-consequence")
    again = len(delivery.hellos)
    ctx.check("no-consequence", again == 1, expected="no further HELLO", actual=again - 1)


# -- P0-007 ------------------------------------------------------------------------------------


@case("P0-007/error-of-the-handler", checks=["error", "messages", "goes-on"], features=NEEDS)
async def error_of_the_handler(ctx: CallhomeContext) -> None:
    """An error of the handler is a terminal behind its messages, and the connection goes on."""
    delivery = await ctx.post("conformance.fail", {"after": 3, "message": "on purpose"})
    await delivery.admitted()
    response = await delivery.accepted()
    await response.fails("APPLICATION_ERROR", check="error", not_processed=False)
    number = len(response.messages)
    ctx.check("messages", number == 3, expected="3 messages", actual=number)
    delivery.done()
    await on(delivery).fence(check="goes-on")


@case("P0-007/uncaught-exception", checks=["error"], features=NEEDS)
async def uncaught_exception(ctx: CallhomeContext) -> None:
    """A handler that raises ends its stream with APPLICATION_ERROR, not with a close."""
    delivery = await ctx.post("conformance.fail", {"panic": True})
    await delivery.admitted()
    response = await delivery.accepted()
    await response.fails("APPLICATION_ERROR", check="error", not_processed=False)
    delivery.done()


@case("P0-007/deadline", checks=["error"], features=NEEDS)
async def deadline(ctx: CallhomeContext) -> None:
    """A stream whose deadline passes ends with DEADLINE_EXCEEDED."""
    delivery = await ctx.post("conformance.sleep", SLEEP, timeout_ms=100)
    await delivery.admitted()
    response = await delivery.accepted()
    await response.fails("DEADLINE_EXCEEDED", check="error", not_processed=False, within=1.1)
    delivery.done()


@case("P0-007/deadline-before-accept", checks=["held-back", "error"], features=NEEDS)
async def deadline_before_accept(ctx: CallhomeContext) -> None:
    """The terminal of a deadline that passes before ACCEPT waits for it like any other."""
    delivery = await ctx.post("conformance.sleep", SLEEP, timeout_ms=50)
    await delivery.admitted()
    link = await delivery.hello()
    await link.until(lambda: False, 0.2)  # the deadline has passed
    await link.fence()
    early = [frame for frame in link.frames if frame.type == wire.RESPONSE]
    actual = early[0] if early else None
    ctx.check("held-back", not early, expected="no RESPONSE", actual=actual, frame=actual)
    response = delivery.accept()
    await response.fails("DEADLINE_EXCEEDED", check="error", not_processed=False)
    delivery.done()


@case("P0-007/whole-response", checks=["messages", "headers", "trailers"], features=NEEDS)
async def whole_response(ctx: CallhomeContext) -> None:
    """Headers, messages and trailers come as on the other paths."""
    delivery = await ctx.post("conformance.headers", {})
    await delivery.admitted()
    response = await delivery.accepted()
    await response.json(check="messages")
    headers = response.headers or []
    keys = [key for key, _value in headers]
    ctx.check("headers", b"content-type" in keys, expected="content-type", actual=headers)
    trailers = response.trailers or []
    keys = [key for key, _value in trailers]
    ctx.check("trailers", b"usage" in keys, expected="usage", actual=trailers)
    delivery.done()


@case("P0-007/empty-message", checks=["one-message"], features=NEEDS)
async def empty_message(ctx: CallhomeContext) -> None:
    """A request with an empty body has one empty message, and so has its echo."""
    messages = await ctx.call(ECHO, b"")
    ctx.check("one-message", messages == [b""], expected="['']", actual=messages)


@case("P0-007/large-message", checks=["whole"], features=NEEDS)
async def large_message(ctx: CallhomeContext) -> None:
    """A message longer than a frame comes in chunks."""
    body = ctx.rng.randbytes(2_500_000)
    messages = await ctx.call(ECHO, body, check="whole")
    same = messages == [body]
    sizes = [len(message) for message in messages]
    ctx.check("whole", same, expected="the 2,500,000 octets of the body", actual=sizes)
