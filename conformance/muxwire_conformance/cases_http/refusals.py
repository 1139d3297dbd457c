"""Requests that are not admitted: status, error object, fields, and no handler (P1-015, P1-019)."""

from __future__ import annotations

from dataclasses import dataclass, field

from muxwire_conformance.cases_http._steps import SAME, over_both
from muxwire_conformance.http.answer import Answer
from muxwire_conformance.http.connection import JSON_TYPE, OCTETS_TYPE, ROOT, SSE_TYPE
from muxwire_conformance.http.connection import HttpConnection as Http
from muxwire_conformance.http.context import HttpContext, ask_stats
from muxwire_conformance.http.h2_connection import H2Connection
from muxwire_conformance.http.head import Fields

NOT_PROCESSED = "wmx-not-processed"
ECHO = f"{ROOT}/conformance.echo"
MOST_STREAMS = 50


@dataclass(frozen=True, kw_only=True)
class Row:
    """A request that differs from one that is served in what is given here."""

    name: str
    title: str
    status: int
    code: str
    id: str = "P1-015"
    method: str = "POST"
    target: str = ECHO
    fields: Fields = field(default_factory=list)
    instead: Fields = field(default_factory=list)
    body: bytes = b"1"
    type_: str = OCTETS_TYPE
    accept: str = SSE_TYPE
    has: tuple[str, ...] = (NOT_PROCESSED,)


def _malformed(name: str, field_: str, bad: str, good: str) -> Row:
    return Row(
        name=name,
        title=f"A malformed {field_} is answered 400.",
        status=400,
        code="INVALID_ARGUMENT",
        fields=[(field_, bad)],
        instead=[(field_, good)],
    )


ROWS = (
    Row(
        name="other-root",
        title="A path that does not begin with the root is answered 404.",
        status=404,
        code="NOT_FOUND",
        target="/elsewhere/conformance.echo",
    ),
    Row(
        name="deeper-path",
        title="A path with more than one segment behind the root is answered 404.",
        status=404,
        code="NOT_FOUND",
        target=f"{ROOT}/more/conformance.echo",
    ),
    *(
        Row(
            name=f"method-{method.lower()}",
            title=f"{method} is answered 405 with allow, so that nothing runs twice.",
            status=405,
            code="INVALID_ARGUMENT",
            method=method,
            has=(NOT_PROCESSED, "allow"),
        )
        for method in ("GET", "PUT", "DELETE", "OPTIONS")
    ),
    _malformed("timeout-word", "wmx-timeout-ms", "soon", "60000"),
    _malformed("timeout-negative", "wmx-timeout-ms", "-1", "0"),
    _malformed("timeout-fraction", "wmx-timeout-ms", "1e3", "1000"),
    _malformed("timeout-too-large", "wmx-timeout-ms", "4294967296", "4294967295"),
    _malformed("heartbeat-word", "wmx-heartbeat-ms", "often", "200"),
    _malformed("heartbeat-short", "wmx-heartbeat-ms", "99", "100"),
    _malformed("heartbeat-long", "wmx-heartbeat-ms", "60001", "60000"),
    Row(
        name="header-key",
        title="A header whose name PAY-005 does not allow is answered 400.",
        status=400,
        code="INVALID_ARGUMENT",
        fields=[("x!y", "1")],
        instead=[("x-y", "1")],
    ),
    _malformed("header-value", "x-long", "v" * 8_193, "v" * 8_192),
    Row(
        name="header-count",
        title="A request with more than 64 headers for the handler is answered 400.",
        status=400,
        code="INVALID_ARGUMENT",
        fields=[(f"x-{number}", "1") for number in range(65)],
        instead=[(f"x-{number}", "1") for number in range(60)],
    ),
    Row(
        name="subject",
        title="A malformed subject is answered 400.",
        status=400,
        code="INVALID_ARGUMENT",
        target=f"{ROOT}/conformance..echo",
    ),
    Row(
        name="last-event-id",
        title="A request with last-event-id is answered 400: there is no way to resume.",
        id="P1-019",
        status=400,
        code="INVALID_ARGUMENT",
        fields=[("last-event-id", "7")],
    ),
    Row(
        name="content-type",
        title="A Content-Type that is not served is answered 415.",
        status=415,
        code="INVALID_ARGUMENT",
        type_="text/plain",
    ),
    Row(
        name="content-encoding",
        title="A Content-Encoding other than identity is answered 415.",
        status=415,
        code="INVALID_ARGUMENT",
        fields=[("content-encoding", "gzip")],
        instead=[("content-encoding", "identity")],
    ),
    Row(
        name="unknown-subject",
        title="A subject that no handler has is answered 404.",
        status=404,
        code="NOT_FOUND",
        target=f"{ROOT}/no.such.subject",
    ),
    Row(
        name="no-json",
        title="A body that is declared as JSON and is none is answered 400.",
        status=400,
        code="INVALID_ARGUMENT",
        type_=JSON_TYPE,
        body=b'{"a":',
    ),
    Row(
        name="nan",
        title="NaN is no JSON and is answered 400.",
        status=400,
        code="INVALID_ARGUMENT",
        type_=JSON_TYPE,
        body=b"[NaN]",
    ),
)


def _ask(conn: Http, row: Row, *, twin: bool = False) -> Answer:
    """Send the request of a row, or the one that is served."""
    if twin:
        own = [("content-type", row.type_ if row.type_ == JSON_TYPE else OCTETS_TYPE)]
        return conn.ask("POST", ECHO, [*own, ("accept", SSE_TYPE), *row.instead], b"1")
    own = [("content-type", row.type_), ("accept", row.accept)]
    return conn.ask(row.method, row.target, [*own, *row.fields], row.body)


def _declare(row: Row) -> None:
    async def refused(ctx: HttpContext, version: str) -> None:
        conn = await ctx.http(version)
        answer = _ask(conn, row, twin=ctx.pick(False, True))
        await ctx.refusal(answer, row.status, row.code, fields=row.has)

    refused.__doc__ = row.title
    over_both(f"{row.id}/{row.name}", checks=["refused"], twin=SAME)(refused)


for _row in ROWS:
    _declare(_row)


@over_both("P1-015/no-handler-runs", checks=["none"], requirements=["P1-015", "P1-019"],
           exclusive=True)  # fmt: skip
async def no_handler_runs(ctx: HttpContext, version: str) -> None:
    """No handler has run for a request that is not admitted."""
    watch = await ctx.http()
    before = await ask_stats(watch)
    for row in ROWS:
        conn = await ctx.http(version)
        answer = _ask(conn, row)
        await answer.until(lambda one: one.head is not None, "an answer")
        if answer.status == 200:
            await answer.whole()
        await conn.close()
    after = await ask_stats(watch)
    ran = after["opened"] - before["opened"]
    ctx.check("none", ran == 0, expected="no handler", actual=f"{ran} handlers were started")


@over_both("P1-015/first-of-several", checks=["first"])
async def first_of_several(ctx: HttpContext, version: str) -> None:
    """Of several answers that apply, the first of the table is given."""
    for method, target, fields, status in (
        ("GET", f"/x{ECHO}", [("accept", "text/html")], 404),
        ("GET", ECHO, [("wmx-timeout-ms", "x")], 405),
        ("POST", ECHO, [("wmx-timeout-ms", "x"), ("accept", "text/html")], 400),
        ("POST", ECHO, [("last-event-id", "1"), ("accept", "text/html")], 400),
        ("POST", f"{ROOT}/no.such", [("accept", "text/html"), ("content-type", "a/b")], 406),
        ("POST", f"{ROOT}/no.such", [("content-type", "text/plain")], 415),
        ("POST", f"{ROOT}/no.such", [("content-type", JSON_TYPE)], 404),
    ):
        conn = await ctx.http(version)
        answer = conn.ask(method, target, fields, b"{")
        await answer.until(lambda one: one.head is not None, "an answer")
        said = answer.status
        ctx.check("first", said == status, expected=f"{status} for {fields}", actual=said)


@over_both("P1-015/bodies-that-are-served", checks=["served"])
async def bodies_that_are_served(ctx: HttpContext, version: str) -> None:
    """Both types are served, in any case and with parameters; a missing one means octets."""
    conn = await ctx.http(version)
    for type_ in (None, OCTETS_TYPE, JSON_TYPE, "Application/JSON", f"{JSON_TYPE}; charset=utf-8"):
        own: Fields = [("content-type", type_)] if type_ else []
        answer = conn.ask("POST", ECHO, [*own, ("accept", SSE_TYPE)], b"[1]")
        await answer.served(check="served")


@over_both("P1-015/parameters-are-events", checks=["event"])
async def parameters_are_events(ctx: HttpContext, version: str) -> None:
    """What a handler finds wrong is an error event behind the 200."""
    conn = await ctx.http(version)
    for subject, body in (
        ("conformance.generate", {}),
        ("conformance.sleep", {"ms": "long"}),
        ("conformance.generate", {"count": -1}),
    ):
        answer = conn.post(subject, body)
        await answer.fails("INVALID_ARGUMENT", check="event")
        ctx.check("event", not answer.items, expected="no item", actual=answer.describe())


@over_both("P1-015/overloaded", checks=["refused", "again"], exclusive=True, twin=None)
async def overloaded(ctx: HttpContext, version: str) -> None:
    """With MAX_CONCURRENT_REQUESTS running the answer is 503 OVERLOADED and says when to retry."""
    most = await ctx.announced("MAX_CONCURRENT_REQUESTS")
    first = await ctx.http(version)
    answers = []
    conns: list[Http] = []
    for index in range(most):
        if index % MOST_STREAMS == 0:
            conns.append(await ctx.http("h2"))
            await conns[-1].wait_for(lambda: _settled(conns[-1]))
        answers.append(conns[-1].post("conformance.sleep", {"ms": 60_000}))
    for answer in answers:
        await answer.headed()
    surplus = first.post("conformance.echo", b"x")
    fields = (NOT_PROCESSED, "retry-after")
    await surplus.refused(503, "OVERLOADED", fields=fields)
    after = surplus.head.get("retry-after") if surplus.head is not None else None
    whole = after is not None and after.isdigit() and int(after) >= 1
    ctx.check("refused", whole, expected="whole seconds, at least 1", actual=after)
    for conn, answer in ((answer.connection, answer) for answer in answers):
        conn.cancel(answer)
    await _served_again(ctx, version)


def _settled(conn: Http) -> bool:
    return isinstance(conn, H2Connection) and conn.peer.settled


async def _served_again(ctx: HttpContext, version: str) -> None:
    """Ask until the cancelled handlers have ended."""
    conn = await ctx.http(version)
    for _ in range(100):
        answer = conn.post("conformance.echo", b"x")
        await answer.whole()
        if answer.status == 200:
            break
        await conn.pause(0.02)
    ctx.check("again", answer.status == 200, expected="200", actual=answer.describe())
