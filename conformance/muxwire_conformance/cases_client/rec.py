"""Recovery: what the caller learns of a lost request, when the client dials and tries again."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases_client._steps import answered, declare
from muxwire_conformance.client_mode.context import Call, ClientContext, Listener
from muxwire_conformance.client_mode.exchange import Exchange
from muxwire_conformance.client_mode.link import Link

HAPPENS_WITHIN = 1.0
RETRYABLE = ("OVERLOADED", "SHUTDOWN", "REQUEST_INTERNAL_ERROR")
FINAL_REFUSALS = ("INVALID_ARGUMENT", "MESSAGE_TOO_LARGE", "UNIMPLEMENTED", "NOT_FOUND")


async def quiet(ctx: ClientContext, link: Link, *, check: str, call: Call) -> None:
    """Judge that the client does not send a request again: another one comes first."""
    other = ctx.request(b"fence")
    one = await link.take()
    again = [opened for opened in link.exchanges.values() if opened is not one]
    one.answer()
    await other.succeeds([])
    await link.fence()
    again += [opened for opened in link.exchanges.values() if opened not in (one, *again)]
    retried = [event for event in call.retries if event["class"] != "NOT_SENT"]
    held = not again and not retried
    actual = f"{len(again)} further OPENs, {len(retried)} retry events"
    ctx.check(check, held, expected="no further attempt", actual=actual)


# -- REC-001, REC-002: where the connection is cut -----------------------------------------------

Cut = Callable[[Link, Exchange], Awaitable[None]]


async def _nothing(_link: Link, _one: Exchange) -> None:
    return


async def _inside_first(link: Link, one: Exchange) -> None:
    link.send(one.build(b"first message")[:40])


async def _headers_only(_link: Link, one: Exchange) -> None:
    one.send(headers=[("k", "v")])


async def _two_messages(_link: Link, one: Exchange) -> None:
    one.send(b"1")
    one.send(b"2")


async def _between_frames(link: Link, one: Exchange) -> None:
    await _two_messages(link, one)
    one.send(b"half", more=True)


async def _inside_a_frame(link: Link, one: Exchange) -> None:
    await _two_messages(link, one)
    link.send(one.build(b"a third message")[:-1])


async def _inside_the_terminal(link: Link, one: Exchange) -> None:
    await _two_messages(link, one)
    link.send(one.build(end=True)[:31])


async def _goaway_covering(link: Link, _one: Exchange) -> None:
    link.send(wire.goaway("INTERNAL_ERROR", last_ordinal=1))


async def _goaway_covering_partial(link: Link, one: Exchange) -> None:
    one.send(b"1")
    link.send(wire.goaway("INTERNAL_ERROR", last_ordinal=1))


_CUTS: tuple[tuple[str, str, int, Cut], ...] = (
    ("after-open", "AMBIGUOUS", 0, _nothing),
    ("inside-first-response", "AMBIGUOUS", 0, _inside_first),
    ("after-headers", "PARTIAL", 0, _headers_only),
    ("after-message-2", "PARTIAL", 2, _two_messages),
    ("between-frames-of-3", "PARTIAL", 2, _between_frames),
    ("inside-a-frame-of-3", "PARTIAL", 2, _inside_a_frame),
    ("31-of-32-of-terminal", "PARTIAL", 2, _inside_the_terminal),
    ("error-goaway", "AMBIGUOUS", 0, _goaway_covering),
    ("error-goaway-partial", "PARTIAL", 1, _goaway_covering_partial),
)

for _name, _class, _count, _before in _CUTS:
    for _reset in (False, True):
        if _reset and "goaway" in _name:
            continue

        async def _cut_case(
            ctx: ClientContext,
            class_: str = _class,
            count: int = _count,
            before: Cut = _before,
            reset: bool = _reset,
        ) -> None:
            link, one, call = await ctx.asked()
            await before(link, one)
            if reset:  # it may destroy what the client has not read
                if link.between_frames:
                    await link.fence()
                await link.flushed()
                await ctx.driver_until(lambda: len(call.messages) >= count)
            await link.cut(reset=reset)
            cut_at = time.monotonic()
            await call.fails(class_, messages=count, local=True, check="class")
            took = (call.final or {})["at"] - cut_at
            limit = ctx.patience.bound(HAPPENS_WITHIN) or 60.0
            ctx.check("soon", took <= limit, expected="within 1 s", actual=f"{took:.1f} s")
            await quiet(ctx, await ctx.next_link(), check="no-retry", call=call)

        declare(
            f"REC-002/client-{'reset' if _reset else 'end'}-{_name}",
            f"A connection that ends ({_name}) gives {_class} with {_count} messages, no retry.",
            _cut_case,
            checks=["class", "soon", "no-retry"],
            requirements=["REC-002", "REC-001", "REC-003", "CLS-010"],
        )


@case(
    "REC-002/client-behind-the-terminal",
    role="client",
    checks=["success"],
    requirements=["REC-002", "REC-001"],
)
async def behind_the_terminal(ctx: ClientContext) -> None:
    """A connection that ends behind the terminal leaves the success."""
    link, one, call = await ctx.asked()
    one.answer(b"1", b"2")
    await link.cut()
    await call.succeeds([b"1", b"2"], check="success")


@case("REC-002/client-inside-large-open", role="client", checks=["class"])
async def inside_large_open(ctx: ClientContext) -> None:
    """A large request that was handed over whole is AMBIGUOUS when the connection ends."""
    link = await ctx.ready({"INITIAL_STREAM_WINDOW": 1 << 22})
    call = ctx.request(bytes(900_000))
    one = await link.take()
    await one.complete(within=5.0)
    await link.cut()
    await call.fails("AMBIGUOUS", messages=0, attempts=1, check="class")


@case(
    "REC-002/client-goaway-below",
    role="client",
    checks=["class", "retry"],
    features=["retry"],
    requirements=["REC-002", "REC-005", "REC-007"],
)
async def goaway_below(ctx: ClientContext) -> None:
    """A GOAWAY whose last_ordinal is below the ordinal gives NOT_PROCESSED and a retry."""
    link, one, call = await ctx.asked(b"body")
    await link.end_with("INTERNAL_ERROR", last_ordinal=0)
    second = await ctx.next_link()
    again = await second.take(check="retry")
    await ctx.driver_until(lambda: bool(call.retries))
    ctx.check(
        "class",
        [event["class"] for event in call.retries] == ["NOT_PROCESSED"],
        expected="retry with NOT_PROCESSED",
        actual=call.retries,
    )
    ctx.check(
        "retry", again.messages == one.messages, expected="the same messages", actual=again.messages
    )
    again.answer(b"y")
    await call.succeeds([b"y"])


@case(
    "REC-002/client-refused-preface",
    role="client",
    checks=["class"],
    features=["pipelining"],
    requirements=["REC-002", "HSK-010"],
)
async def refused_preface(ctx: ClientContext) -> None:
    """A refusing preface gives NOT_PROCESSED to a pipelined request, and it is tried again."""
    await ctx.start()
    call = ctx.request(b"x")
    link = await ctx.accept()
    await link.offered()
    one = await link.take()
    await one.complete()
    link.send(wire.preface(ver_hi=3, ver_lo=2))
    await link.cut()
    second = await ctx.next_link()
    again = await second.take(check="class")
    ctx.check(
        "class",
        again.id != one.id and again.header("attempt") == "2",
        expected="a second attempt",
        actual=again.headers,
    )
    again.answer(b"y")
    await call.succeeds([b"y"])


for _name, _prefix in (("without-preface", b""), ("after-preface", wire.preface())):

    async def _pipelined(ctx: ClientContext, prefix: bytes = _prefix) -> None:
        await ctx.start()
        call = ctx.request(b"x")
        link = await ctx.accept()
        await link.offered()
        one = await link.take()
        await one.complete()
        link.send(prefix)
        await link.cut()
        await call.fails("AMBIGUOUS", None, messages=0, attempts=1, check="class")

    declare(
        f"REC-002/client-pipelined-{_name}",
        f"A handshake cut {_name.replace('-', ' ')} leaves a pipelined request AMBIGUOUS.",
        _pipelined,
        checks=["class"],
        features=["pipelining"],
        requirements=["REC-002", "HSK-010", "REC-001"],
    )


@case(
    "REC-002/client-dial-fails",
    role="client",
    checks=["class"],
    features=["timing"],
    timed=True,
    requirements=["REC-002", "REC-005"],
)
async def dial_fails(ctx: ClientContext) -> None:
    """A request for which no connection can be made is NOT_SENT once it has waited its time."""
    closed = Listener(ctx)
    closed.close()
    await ctx.start(addrs=[str(closed.address)], timing={"wait_ms": 400, "backoff_base_ms": 20})
    call = ctx.request(b"x")
    await call.fails("NOT_SENT", None, attempts=0, local=True, check="class", within=3.0)


@case(
    "REC-002/client-waiting-for-a-place",
    role="client",
    checks=["moved"],
    requirements=["REC-002", "ADM-001", "REC-005"],
)
async def waiting(ctx: ClientContext) -> None:
    """A request that waits for a place is NOT_SENT: it moves on, and no attempt is counted."""
    link = await ctx.ready({"MAX_CONCURRENT_REQUESTS": 100})
    calls = [ctx.request(b"x") for _ in range(101)]
    for _ in range(100):
        await link.take(within=5.0)
    await link.cut()
    second = await ctx.next_link()
    one = await second.take()
    one.answer(b"y")
    final = await calls[-1].succeeds([b"y"])
    held = final["attempts"] == 1 and one.header("attempt") is None
    ctx.check("moved", held, expected="attempts=1, no attempt header", actual=one.headers)
    for call in calls[:-1]:
        await call.fails("AMBIGUOUS")


@case(
    "REC-002/client-waiting-for-credit",
    role="client",
    checks=["moved"],
    requirements=["REC-002", "REC-005"],
)
async def waiting_for_credit(ctx: ClientContext) -> None:
    """A request whose OPEN waits for credit is NOT_SENT: it moves on, and is no attempt."""
    link = await ctx.ready(
        {
            "CONNECTION_WINDOW": 1_048_576,
            "INITIAL_STREAM_WINDOW": 1 << 22,
            "MAX_MESSAGE_SIZE": 1 << 22,
        }
    )
    link.auto_credit = False
    bulk = ctx.request(bytes(2_000_000))
    one = await link.take()
    await link.wait_for(lambda: one.received_cost > 1_048_576 - 33)
    await link.fence()
    call = ctx.request(b"blocked")
    await ctx.sync()
    await link.cut()
    again = await (await ctx.next_link()).take(check="moved")
    again.answer(b"y")
    final = await call.succeeds([b"y"], check="moved")
    held = final["attempts"] == 1 and again.header("attempt") is None
    ctx.check("moved", held, expected="attempts=1, no attempt header", actual=again.headers)
    await bulk.finished()


# -- permission to retry ---------------------------------------------------------------------------


async def _retried(
    ctx: ClientContext, call: Call, link: Link, *, check: str = "retry", within: float | None = None
) -> Exchange:
    again = await link.take(check=check, within=within)
    again.answer(b"second")
    final = await call.succeeds([b"second"])
    ctx.check(check, final["attempts"] == 2, expected="attempts=2", actual=call.describe())
    return again


@case(
    "REC-002/client-ambiguous-idempotent",
    role="client",
    checks=["retry"],
    features=["retry"],
    requirements=["REC-002", "REC-007"],
)
async def ambiguous_idempotent(ctx: ClientContext) -> None:
    """An AMBIGUOUS request with IDEMPOTENT is tried again, with a new id, same request-id."""
    link = await ctx.ready()
    call = ctx.request(b"body", idempotent=True)
    one = await link.take()
    await link.cut()
    again = await _retried(ctx, call, await ctx.next_link())
    held = again.id != one.id and again.header("request-id") == one.header("request-id")
    ctx.check("retry", held, expected="a new id, the same request-id", actual=again.headers)
    ctx.check("retry", again.header("attempt") == "2", expected="attempt: 2", actual=again.headers)
    ctx.check(
        "retry", again.messages == one.messages, expected="the same messages", actual=again.messages
    )


@case(
    "REC-003/client-partial-idempotent",
    role="client",
    checks=["class", "no-retry"],
    requirements=["REC-003", "REC-002"],
)
async def partial_idempotent(ctx: ClientContext) -> None:
    """A PARTIAL request is never tried again, IDEMPOTENT or not."""
    link = await ctx.ready()
    call = ctx.request(b"x", idempotent=True)
    one = await link.take()
    one.send(headers=[("k", "v")])
    await link.cut()
    await call.fails("PARTIAL", messages=0, attempts=1, check="class")
    await quiet(ctx, await ctx.next_link(), check="no-retry", call=call)


for _code in RETRYABLE:

    async def _failed_retry(ctx: ClientContext, code: str = _code) -> None:
        link = await ctx.ready()
        call = ctx.request(b"x", idempotent=True)
        (await link.take()).fail(code)
        await _retried(ctx, call, link)

    declare(
        f"REC-002/client-failed-{_code.lower().replace('_', '-')}",
        f"FAILED with {_code} is tried again if the request is idempotent.",
        _failed_retry,
        checks=["retry"],
        features=["retry"],
    )

for _name, _idempotent, _code, _options, _messages in (
    ("not-idempotent", False, "OVERLOADED", {}, 0),
    ("other-code", True, "APPLICATION_ERROR", {}, 0),
    ("deadline", True, "DEADLINE_EXCEEDED", {}, 0),
    ("connection-internal-error", True, "INTERNAL_ERROR", {}, 0),
    ("non-retryable", True, "OVERLOADED", {"non_retryable": True}, 0),
    ("after-a-message", True, "OVERLOADED", {}, 1),
):

    async def _failed_final(
        ctx: ClientContext,
        idempotent: bool = _idempotent,
        code: str = _code,
        options: dict[str, bool] = _options,
        messages: int = _messages,
    ) -> None:
        link = await ctx.ready()
        call = ctx.request(b"x", idempotent=idempotent)
        one = await link.take()
        for _ in range(messages):
            one.send(b"m")
        one.fail(code, **options)  # type: ignore[arg-type]
        await call.fails("FAILED", code, messages=messages, attempts=1, local=False, check="class")

    declare(
        f"REC-002/client-failed-{_name}",
        f"FAILED is not tried again: {_name.replace('-', ' ')}.",
        _failed_final,
        checks=["class"],
    )

for _code in FINAL_REFUSALS:

    async def _refused_final(ctx: ClientContext, code: str = _code) -> None:
        link = await ctx.ready()
        call = ctx.request(b"x", idempotent=True)
        for _ in range(2):
            (await link.take()).fail(code, not_processed=True)
            if code != "NOT_FOUND" or call.final is not None:
                break
            # The only worker there is has answered so already.
            await ctx.driver_until(lambda: call.final is not None or len(link.exchanges) > 1, 0.5)
            if call.final is not None:
                break
        await call.fails("NOT_PROCESSED", code, attempts=1, check="class")

    declare(
        f"REC-002/client-refused-{_code.lower().replace('_', '-')}",
        f"NOT_PROCESSED with {_code} is not tried again on the worker that said so.",
        _refused_final,
        checks=["class"],
    )

for _code in ("OVERLOADED", "DRAINING", "APPLICATION_ERROR"):

    async def _refused_retry(ctx: ClientContext, code: str = _code) -> None:
        link, one, call = await ctx.asked()
        one.fail(code, not_processed=True)
        await _retried(ctx, call, link)

    declare(
        f"REC-002/client-refused-{_code.lower().replace('_', '-')}",
        f"NOT_PROCESSED with {_code} is tried again, idempotent or not.",
        _refused_retry,
        checks=["retry"],
        features=["retry"],
    )


@case("REC-002/client-highest-class", role="client", checks=["class"], features=["retry"])
async def highest_class(ctx: ClientContext) -> None:
    """The class reported is the highest of the attempts, with the code of the last one."""
    link = await ctx.ready()
    call = ctx.request(b"x", idempotent=True)
    await link.take()
    await link.cut()
    second = await ctx.next_link()
    for _ in range(2):
        (await second.take()).fail("OVERLOADED", not_processed=True)
    await call.fails("AMBIGUOUS", "OVERLOADED", attempts=3, check="class")


# -- REC-004: reconnecting -------------------------------------------------------------------------


BASE_MS = 20
BASE = BASE_MS / 1_000
QUICK_DIALS = {"backoff_base_ms": BASE_MS, "backoff_cap_ms": 10_000}


async def healthy(ctx: ClientContext, listeners: list[Listener]) -> list[Link]:
    """Take a connection on each port, set it up, and have a terminal on it: n is 0 then."""
    links = [await ctx.accept(listener=listener, within=5.0) for listener in listeners]
    for link in links:
        await link.handshake()
    await ctx.driver_until(lambda: len(ctx.events("connected")) >= len(links))
    calls = [ctx.request(b"x") for _ in links]
    ones = [await link.take() for link in links]
    for one in ones:
        one.answer()
    for call in calls:
        await call.succeeds([])
    return links


@case(
    "REC-004/client-backoff",
    role="client",
    checks=["bounds", "sum", "spread"],
    exclusive=True,
    features=["timing", "connections"],
)
async def backoff(ctx: ClientContext) -> None:
    """After a healthy connection the delays are uniform below 20 ms x 2^n, n counting from 0."""
    dials = 7
    listeners = [Listener(ctx) for _ in range(4)]
    await ctx.start(addrs=[str(one.address) for one in listeners], timing=QUICK_DIALS)
    links = await healthy(ctx, listeners)
    cut_at = []
    for link, listener in zip(links, listeners, strict=True):
        listener.hang_up = True
        cut_at.append(time.monotonic())
        await link.cut()
    slack = 0.1 + ctx.patience.slack
    most = BASE * (2**dials - 1)
    ratios: list[float] = []
    total = 0.0
    for listener, cut in zip(listeners, cut_at, strict=True):
        came = await listener.dials(1 + dials, most + dials * slack)
        expected = f"{dials} redials within {most:.1f} s"
        ctx.check("bounds", came, expected=expected, actual=len(listener.accepted_at) - 1)
        listener.close()
        at = [cut, *listener.accepted_at[1 : 1 + dials]]
        for n, (before, after) in enumerate(itertools.pairwise(at)):
            gap, bound = after - before, BASE * 2**n
            expected = f"at most {bound:.2f} s before redial {n + 1}"
            ctx.check("bounds", gap <= bound + slack, expected=expected, actual=f"{gap:.2f} s")
            total += gap
            if n >= 3:
                ratios.append(gap / bound)
    most *= len(listeners)
    expected = f"a sum from {0.2 * most:.2f} s to {0.8 * most:.2f} s"
    upper = 0.8 * most + len(listeners) * dials * 0.01 + slack
    held = 0.2 * most <= total <= upper
    ctx.check("sum", held, expected=expected, actual=f"{total:.2f} s")
    spread = max(ratios) - min(ratios)
    expected = "delays that differ by chance"
    ctx.check("spread", spread > 0.2, expected=expected, actual=f"a spread of {spread:.2f}")


@case(
    "REC-004/client-handshake-is-no-reset",
    role="client",
    checks=["grows"],
    timed=True,
    features=["timing", "connections"],
)
async def handshake_is_no_reset(ctx: ClientContext) -> None:
    """A handshake alone does not reset the backoff: the delays grow on."""
    dials = 6
    listeners = [Listener(ctx) for _ in range(4)]
    await ctx.start(addrs=[str(one.address) for one in listeners], timing=QUICK_DIALS)

    async def delays(listener: Listener) -> float:
        total = 0.0
        for number in range(dials + 1):
            asked = time.monotonic()
            link = await ctx.accept(listener=listener, within=BASE * 2 ** (number + 1) + 2.0)
            if number:
                total += time.monotonic() - asked
            await link.handshake()
            await link.cut()
        return total

    total = sum(await asyncio.gather(*(delays(listener) for listener in listeners)))
    for listener in listeners:
        listener.close()
    least = 0.2 * len(listeners) * BASE * (2**dials - 1)
    ctx.check("grows", total >= least, expected=f"{least:.1f} s or more", actual=f"{total:.1f} s")


@case(
    "REC-004/client-terminal-resets",
    role="client",
    checks=["reset"],
    timed=True,
    features=["timing"],
)
async def terminal_resets(ctx: ClientContext) -> None:
    """A completed handshake followed by one terminal resets the backoff."""
    listener = ctx.listener
    listener.hang_up = True
    await ctx.start(timing=QUICK_DIALS)
    if not await listener.dials(7, 8.0):
        ctx.unprepared("7 dials", len(listener.accepted_at))
    listener.hang_up = False
    (link,) = await healthy(ctx, [listener])
    cut_at = time.monotonic()
    await link.cut()
    await ctx.accept(check="reset", within=5.0)
    took = time.monotonic() - cut_at
    limit = BASE + 0.15 + ctx.patience.slack
    ctx.check("reset", took <= limit, expected=f"{BASE_MS} ms at most", actual=f"{took:.2f} s")


@case(
    "REC-004/client-one-at-a-time", role="client", checks=["one"], timed=True, features=["timing"]
)
async def one_at_a_time(ctx: ClientContext) -> None:
    """At most one connection attempt is in progress for a worker address and pool slot."""
    await ctx.start(timing={**QUICK_DIALS, "connect_timeout_ms": 3_000})
    link = await ctx.accept()
    await link.until(lambda: False, 0.3)
    first = len(ctx.listener.accepted_at)
    await link.cut()
    await ctx.listener.dials(2, 5.0)
    await asyncio.sleep(0.4)
    then = len(ctx.listener.accepted_at)
    ctx.check(
        "one",
        (first, then) == (1, 2),
        expected="one dial, then one more",
        actual=f"{first}, and {then} in all",
    )


@case(
    "REC-004/client-drained-at-once",
    role="client",
    checks=["at-once"],
    features=["timing"],
    requirements=["REC-004", "CLS-008"],
)
async def drained_at_once(ctx: ClientContext) -> None:
    """The replacement for a healthy connection that drains is dialled at once, whenever."""
    await ctx.start(timing={"backoff_base_ms": 3_000, "backoff_cap_ms": 10_000})
    link = await ctx.accept(within=5.0)
    await link.handshake()
    for _ in range(4):  # a delay by chance can be short, but not four times
        await answered(ctx, link)
        link.send(wire.goaway(last_ordinal=len(link.exchanges), grace_ms=30_000))
        await link.fence()
        work = ctx.request(b"work")
        following = await ctx.accept(check="at-once", within=0.5)
        await following.handshake()
        (await following.take()).answer()
        await work.succeeds([])
        link = following


# -- REC-005: attempts and deadlines ---------------------------------------------------------------


@case(
    "REC-005/client-three-attempts",
    role="client",
    checks=["attempts"],
    features=["retry"],
    requirements=["REC-005", "REC-007"],
)
async def three_attempts(ctx: ClientContext) -> None:
    """A request has at most 3 attempts; the header attempt numbers them from 2."""
    link, one, call = await ctx.asked()
    headers = []
    for number in range(3):
        if number:
            one = await link.take(check="attempts")
        headers.append(one.header("attempt"))
        one.fail("OVERLOADED", not_processed=True)
    await call.fails("NOT_PROCESSED", "OVERLOADED", attempts=3, check="attempts")
    await answered(ctx, link)
    held = len(link.exchanges) == 4 and headers == [None, "2", "3"]
    ctx.check("attempts", held, expected="3 attempts: None, 2, 3", actual=headers)


@case(
    "REC-005/client-retry-after",
    role="client",
    checks=["not-early", "not-late"],
    timed=True,
    requirements=["REC-005", "ADM-004"],
    features=["retry"],
)
async def retry_after(ctx: ClientContext) -> None:
    """After retry_after_ms = r the next attempt comes between r and 1.5 r."""
    link = await ctx.ready()
    (delays,) = await _delays(ctx, link, 5, retry_after_ms=400, rounds=1)
    least, most = min(delays), max(delays)
    ctx.check("not-early", least >= 0.398, expected="400 ms at least", actual=f"{least:.3f} s")
    limit = 0.6 + 0.1 + ctx.patience.slack
    ctx.check("not-late", most <= limit, expected="600 ms at most", actual=f"{most:.3f} s")


async def _delays(
    ctx: ClientContext, link: Link, count: int, *, retry_after_ms: int, rounds: int
) -> list[list[float]]:
    """Refuse requests so often; return the delays before each further attempt, by attempt.

    The budget of REC-006 allows 11 retries of 5 requests in 1 s, and 12 of 10.
    """
    calls = [ctx.request(b"x") for _ in range(count)]
    due = [await link.take() for _ in calls]
    found = []
    for _ in range(rounds):
        at: dict[str | None, float] = {}
        for one in due:
            one.fail("OVERLOADED", not_processed=True, retry_after_ms=retry_after_ms)
            at[one.header("request-id")] = link.last_sent
        due = [await link.take(within=2.0) for _ in calls]
        found.append([one.opening.at - at[one.header("request-id")] for one in due])
    for one in due:
        one.answer()
    for call in calls:
        await call.succeeds([])
    return found


@case(
    "REC-005/client-retry-delay",
    role="client",
    checks=["bounds", "by-chance"],
    timed=True,
    features=["retry"],
)
async def retry_delay(ctx: ClientContext) -> None:
    """Without retry_after_ms the delay before attempt k is uniform below 100 ms x 2^(k-2)."""
    link = await ctx.ready()
    first = await _delays(ctx, link, 5, retry_after_ms=0, rounds=2)
    await link.until(lambda: False, 1.0)  # the budget: 10 delays that are alike are no chance
    second = await _delays(ctx, link, 5, retry_after_ms=0, rounds=2)
    slack = 0.1 + ctx.patience.slack
    for number, delays in enumerate(one + more for one, more in zip(first, second, strict=True)):
        most = 0.1 * 2**number
        expected = f"{most:.1f} s at most before attempt {number + 2}"
        ctx.check(
            "bounds", max(delays) <= most + slack, expected=expected, actual=f"{max(delays):.2f} s"
        )
        spread = max(delays) - min(delays)
        ctx.check(
            "by-chance",
            spread > 0.2 * most,
            expected="delays that differ by chance",
            actual=f"a spread of {spread * 1_000:.0f} ms",
        )


@case(
    "REC-005/client-retry-after-jitter",
    role="client",
    checks=["by-chance"],
    timed=True,
    requirements=["REC-005", "ADM-004"],
    features=["retry"],
)
async def retry_after_jitter(ctx: ClientContext) -> None:
    """A client adds jitter of up to 50 percent to retry_after_ms."""
    link = await ctx.ready()
    (delays,) = await _delays(ctx, link, 10, retry_after_ms=400, rounds=1)
    spread = max(delays) - min(delays)
    ctx.check(
        "by-chance",
        spread > 0.04,
        expected="delays that differ by chance",
        actual=f"a spread of {spread * 1_000:.0f} ms",
    )


@case(
    "REC-005/client-no-delay",
    role="client",
    checks=["draining", "loss"],
    timed=True,
    features=["retry", "timing"],
)
async def no_delay(ctx: ClientContext) -> None:
    """There is no delay before an attempt after DRAINING, GOAWAY or the loss of the connection."""
    link = await ctx.ready()
    call = ctx.request(b"x", idempotent=True)
    limit = 0.25 + ctx.patience.slack
    (await link.take()).fail("DRAINING", not_processed=True)
    asked = time.monotonic()
    again = await link.take(check="draining")
    took = again.opening.at - asked
    ctx.check("draining", took < limit, expected="at once", actual=f"{took:.2f} s")
    await link.cut()
    second = await ctx.next_link()
    asked = time.monotonic()
    third = await second.take(check="loss")
    took = third.opening.at - asked
    ctx.check("loss", took < limit, expected="at once", actual=f"{took:.2f} s")
    third.answer()
    await call.succeeds([])


@case(
    "REC-005/client-deadline-anew", role="client", checks=["anew"], timed=True, features=["retry"]
)
async def deadline_anew(ctx: ClientContext) -> None:
    """timeout_ms is computed anew for each attempt from what is left of the deadline."""
    link = await ctx.ready()
    call = ctx.request(b"x", timeout_ms=5_000)
    one = await link.take()
    one.fail("OVERLOADED", not_processed=True, retry_after_ms=500)
    again = await link.take(within=2.0)
    held = one.timeout_ms <= 5_000 and 0 < again.timeout_ms <= one.timeout_ms - 480
    actual = f"{one.timeout_ms} ms, then {again.timeout_ms} ms"
    ctx.check("anew", held, expected="at least 480 ms less", actual=actual)
    again.answer()
    await call.succeeds([])


@case(
    "REC-005/client-deadline-before-retry",
    role="client",
    checks=["class", "at-once"],
    requirements=["REC-005"],
    features=["retry"],
)
async def deadline_before_retry(ctx: ClientContext) -> None:
    """When the deadline would pass before the next attempt, the request completes at once."""
    link = await ctx.ready()
    call = ctx.request(b"x", timeout_ms=2_500)
    (await link.take()).fail("OVERLOADED", not_processed=True, retry_after_ms=60_000)
    at = time.monotonic()
    await call.fails("NOT_PROCESSED", attempts=1, check="class", within=1.5)
    took = (call.final or {})["at"] - at
    limit = 1.0 + ctx.patience.slack
    ctx.check("at-once", took < limit, expected="at once", actual=f"{took:.2f} s")


@case("REC-005/client-deadline-kill", role="client", checks=["kill", "when", "class"], timed=True)
async def deadline_kill(ctx: ClientContext) -> None:
    """An open attempt is killed with DEADLINE_EXCEEDED 0.5 s to 1 s after the deadline."""
    link = await ctx.ready()
    asked = time.monotonic()
    call = ctx.request(b"x", timeout_ms=400)
    one = await link.take()
    kill = await one.killed("DEADLINE_EXCEEDED", check="kill", within=1.6)
    least, most = kill.at - one.opening.at - 0.4, kill.at - asked - 0.4
    held = most >= 0.49 and least <= 1.0 + 0.1 + ctx.patience.slack
    actual = f"{least:.2f} s to {most:.2f} s"
    ctx.check("when", held, expected="0.5 s to 1 s behind the deadline", actual=actual)
    one.fail("DEADLINE_EXCEEDED")
    await call.fails("FAILED", "DEADLINE_EXCEEDED", check="class")


@case("REC-005/client-deadline-no-terminal", role="client", checks=["class"], timed=True)
async def deadline_no_terminal(ctx: ClientContext) -> None:
    """1 s after that KILL the request completes without a terminal."""
    link = await ctx.ready()
    call = ctx.request(b"x", timeout_ms=300)
    one = await link.take()
    await one.killed("DEADLINE_EXCEEDED", within=1.5)
    await call.fails("AMBIGUOUS", "DEADLINE_EXCEEDED", local=True, check="class", within=1.5)


@case("REC-005/client-deadline-waiting", role="client", checks=["class"], timed=True)
async def deadline_waiting(ctx: ClientContext) -> None:
    """A request without an open attempt completes at its deadline, decided locally."""
    link = await ctx.ready({"MAX_CONCURRENT_REQUESTS": 100})
    for _ in range(100):
        ctx.request(b"x")
    for _ in range(100):
        await link.take(within=5.0)
    call = ctx.request(b"late", timeout_ms=300)
    await call.fails(
        "NOT_SENT", "DEADLINE_EXCEEDED", local=True, attempts=0, check="class", within=1.3
    )


@case(
    "REC-005/client-waits-so-long",
    role="client",
    checks=["class", "when"],
    timed=True,
    features=["timing"],
)
async def waits_so_long(ctx: ClientContext) -> None:
    """A request that cannot begin an attempt for wait_ms completes with NOT_SENT."""
    link = await ctx.ready(
        {"MAX_CONCURRENT_REQUESTS": 100}, timing={"wait_ms": 500, "connect_timeout_ms": 10_000}
    )
    for _ in range(100):
        ctx.request(b"x")
    for _ in range(100):
        await link.take(within=5.0)
    asked = time.monotonic()
    call = ctx.request(b"late")
    await call.fails("NOT_SENT", None, local=True, attempts=0, check="class", within=2.0)
    took = (call.final or {})["at"] - asked
    ctx.check("when", took >= 0.45, expected="500 ms", actual=f"{took:.2f} s")


# -- REC-006 to REC-010 ----------------------------------------------------------------------------


@case("REC-006/client-budget", role="client", checks=["budget"], features=["retry"], exclusive=True)
async def budget(ctx: ClientContext) -> None:
    """In 1 s a client retries at most 10 + 0.2 times its first attempts."""
    link = await ctx.ready({"MAX_CONCURRENT_REQUESTS": 1_000})
    calls = [ctx.request(b"x") for _ in range(200)]
    started = time.monotonic()
    handled = 0
    while any(call.final is None for call in calls) and time.monotonic() - started < 20.0:
        for one in list(link.exchanges.values())[handled:]:
            one.fail("OVERLOADED", not_processed=True)
            handled += 1
        await link.until(lambda: len(link.exchanges) > handled, 0.05)  # noqa: B023
    openings = list(link.exchanges.values())
    retries = sorted(one.opening.at for one in openings if one.header("attempt") is not None)
    most = max((sum(at <= other < at + 1.0 for other in retries) for at in retries), default=0)
    ctx.check("budget", most <= 10 + 0.2 * 200, expected="50 retries at most in 1 s", actual=most)


@case("REC-007/client-request-id", role="client", checks=["one", "own"])
async def request_id(ctx: ClientContext) -> None:
    """Every OPEN has one request-id: the caller's, or a new random UUID in text form."""
    link = await ctx.ready()
    calls = [ctx.request(b"x") for _ in range(2)]
    seen = []
    for _ in calls:
        one = await link.take()
        seen.append(one.header("request-id") or "")
        one.answer()
    uuids = all(len(text) == 36 and text.count("-") == 4 for text in seen)
    held = uuids and seen[0] != seen[1]
    ctx.check("one", held, expected="two different UUIDs", actual=seen)
    if ctx.has("headers"):
        ctx.request(b"x", headers=[("request-id", "my-own"), ("b", "2"), ("a", "1")])
        one = await link.take()
        one.answer()
        kept = [pair for pair in one.headers if pair[0] != b"attempt"]
        wanted = {(b"request-id", b"my-own"), (b"b", b"2"), (b"a", b"1")}
        ctx.check(
            "own",
            set(kept) == wanted and len(kept) == 3,
            expected="the caller's headers",
            actual=one.headers,
        )
    else:
        ctx.emit("own")


@case("REC-007/client-too-much-to-hold", role="client", checks=["class"], features=["bidi"])
async def too_much_to_hold(ctx: ClientContext) -> None:
    """A request of which the client does not hold every message any more is not tried again."""
    link = await ctx.ready({"INITIAL_STREAM_WINDOW": 1 << 23})
    call = ctx.request(bytes(700_000), idempotent=True, hold_open=True)
    one = await link.take()
    for index in range(4):
        ctx.driver.op("send", ref=call.ref, body_b64="A" * 800_000)
        await link.wait_for(lambda: len(one.messages) > index + 1, 5.0)  # noqa: B023
    await link.cut()
    await call.fails("AMBIGUOUS", attempts=1, check="class")


@case(
    "REC-008/client-prefers-another",
    role="client",
    checks=["another"],
    features=["connections", "retry"],
)
async def prefers_another(ctx: ClientContext) -> None:
    """A retry prefers another worker than the one that refused."""
    other = Listener(ctx)
    addresses = {0: ctx.listener, 1: other}
    await ctx.start(addrs=[str(one.address) for one in addresses.values()])
    links = [await ctx.accept(listener=one) for one in addresses.values()]
    for link in links:
        await link.handshake()
    await ctx.driver_until(lambda: len(ctx.events("connected")) == 2)
    wrong = 0
    for _ in range(6):
        call = ctx.request(b"x")
        await links[0].until(lambda: any(link.exchanges for link in links), 0.0)
        first = await _first(links)
        one = await first.take()
        one.fail("OVERLOADED", not_processed=True)
        second = await _first(links)
        wrong += second is first
        (await second.take()).answer()
        await call.succeeds([])
    other.close()
    ctx.check(
        "another",
        wrong == 0,
        expected="every retry at the other worker",
        actual=f"{wrong} of 6 at the same one",
    )


async def _first(links: list[Link]) -> Link:
    """Wait until one of the connections has a request that was not taken; return it."""
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        for link in links:
            if link.untaken:
                return link
        await asyncio.sleep(0.005)
    return links[0]


@case("REC-010/client-shares", role="client", checks=["even", "shared"], features=["connections"])
async def shares(ctx: ClientContext) -> None:
    """Connections are shared among callers, and the one with the fewest requests is chosen."""
    await ctx.start(connections=2)
    links = [await ctx.accept(check="shared") for _ in range(2)]
    for link in links:
        await link.handshake()
    await ctx.driver_until(lambda: len(ctx.events("connected")) == 2)
    calls = [ctx.request(b"x") for _ in range(10)]
    await ctx.sync()
    for link in links:
        await link.wait_for(lambda: len(link.exchanges) >= 5)  # noqa: B023
        await link.fence()
    counts = [len(link.exchanges) for link in links]
    ctx.check("shared", sum(counts) == 10, expected="10 requests at once", actual=counts)
    ctx.check("even", counts == [5, 5], expected="5 and 5", actual=counts)
    for link in links:
        for one in link.exchanges.values():
            one.answer()
    for call in calls:
        await call.succeeds([])
