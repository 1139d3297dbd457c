"""Metadata, tracing and error messages, as a peer sees them: OBS-001 to OBS-003 and OBS-006."""

from __future__ import annotations

from collections.abc import Callable

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._frames import some_subject, understood
from muxwire_conformance.cases._steps import NO_SUBJECT, declare, unmoving
from muxwire_conformance.context import Context

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "correct-horse-battery-staple"
HELD = 20
MOST_GROWTH = 64 << 20
NEEDS = ["conformance"]


# -- OBS-001, OBS-002 --------------------------------------------------------------------------


def _declare_passed_on(name: str, title: str, *headers: tuple[str, str]) -> None:
    async def passed_on(ctx: Context) -> None:
        conn = await ctx.ready()
        answer = await conn.open("conformance.headers", headers=headers).json(check="same")
        wanted = [list(pair) for pair in headers]
        got = answer["headers"]
        ctx.check("same", got == wanted, expected=str(wanted), actual=got)

    declare(f"OBS-001/{name}", title, passed_on, checks=["same"], features=NEEDS)


_declare_passed_on(
    "traceparent",
    "A valid traceparent reaches the handler unchanged.",
    ("traceparent", TRACE),
)
_declare_passed_on(
    "traceparent-and-tracestate",
    "A valid traceparent and tracestate reach the handler unchanged.",
    ("traceparent", TRACE),
    ("tracestate", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
)
_declare_passed_on(
    "later-version",
    "A traceparent of a later version, with more fields, reaches the handler unchanged.",
    ("traceparent", TRACE.replace("00-", "cc-", 1) + "-what-comes-later"),
)

_INVALID: dict[str, tuple[tuple[str, str], ...]] = {
    "absent": (),
    "empty": (("traceparent", ""),),
    "not-hexadecimal": (("traceparent", "zz"),),
    "version-ff": (("traceparent", "ff" + TRACE[2:]),),
    "zero-trace-id": (("traceparent", f"00-{'0' * 32}-b7ad6b7169203331-01"),),
    "zero-parent-id": (("traceparent", f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01"),),
    "capital-letters": (("traceparent", TRACE.upper()),),
    "too-long": (("traceparent", TRACE + "-01"),),
    "very-long": (("traceparent", "0" * 8_000),),
    "tracestate-alone": (("tracestate", "rojo=00f067aa0ba902b7"),),
    "bad-tracestate": (("traceparent", TRACE), ("tracestate", "==,,=" + "x" * 600)),
}


def _declare_invalid(name: str, headers: tuple[tuple[str, str], ...]) -> None:
    async def invalid(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = conn.open(some_subject(ctx), b"traced", headers=headers)
        await understood(ctx, conn, stream, check="served")

    words = name.replace("-", " ")
    title = f"Trace context that is {words} does not fail a request."
    features = ["conformance?"]
    declare(f"OBS-002/{name}", title, invalid, checks=["served"], features=features)


for _name, _headers in _INVALID.items():
    _declare_invalid(_name, _headers)


# -- OBS-003 -----------------------------------------------------------------------------------


def _declare_hint(name: str, title: str, length: str) -> None:
    async def hint(ctx: Context) -> None:
        conn = await ctx.ready()
        headers = [("content-length", length)]
        stream = conn.open("conformance.echo", b"hi", end=False, headers=headers)
        stream.send(b"there", end=True)
        messages = await stream.result(check="served")
        same = messages == [b"hi", b"there"]
        ctx.check("served", same, expected="['hi', 'there']", actual=messages)
        await conn.fence()

    declare(f"OBS-003/{name}", title, hint, checks=["served"], features=NEEDS)


for _name, _length in {
    "2-to-62": str(1 << 62),
    "2-to-64": str(1 << 64),
    "too-small": "1",
    "zero": "0",
    "negative": "-1",
    "not-a-number": "many",
    "empty": "",
}.items():
    _declare_hint(
        _name,
        f"A content-length that is wrong ({_length or 'empty'}) is a hint and changes nothing.",
        _length,
    )


@case("OBS-003/no-memory", checks=["buffered", "resident"], features=NEEDS, exclusive=True)
async def no_memory(ctx: Context) -> None:
    """No memory is reserved because of content-length."""
    watch, conn = await ctx.ready(), await ctx.ready()
    before = await unmoving(ctx, watch)
    headers = [("content-length", str(1 << 30))]
    for _ in range(HELD):
        stream = conn.open("conformance.echo", b"begin", end=False, headers=headers)
        await stream.message()
    after = await watch.stats()
    for check, name in (("buffered", "buffered_bytes"), ("resident", "rss_bytes")):
        grown = after[name] - before[name]
        good = grown < MOST_GROWTH
        ctx.check(check, good, expected=f"less than {MOST_GROWTH} more", actual=grown)


# -- OBS-006 -----------------------------------------------------------------------------------

_FAULTS: dict[str, tuple[str, Callable[[Context], bytes]]] = {
    "HSK-006": ("PROTOCOL_ERROR", lambda _ctx: wire.settings()),
    "HSK-007": ("PROTOCOL_ERROR", lambda _ctx: wire.settings_ack()),
    "FRM-002": ("PROTOCOL_ERROR", lambda _ctx: wire.ping(marker=0xF6)),
    "FRM-003": ("FRAME_SIZE_ERROR", lambda _ctx: wire.ping(length=4_097)),
    "FRM-004": ("UNSUPPORTED_FRAME", lambda _ctx: wire.grease(0x7F)),
    "FRM-006": ("PROTOCOL_ERROR", lambda _ctx: wire.ping(flags=wire.MORE)),
    "FRM-007": ("PROTOCOL_ERROR", lambda _ctx: wire.ping(seq=1)),
    "FRM-008": ("PROTOCOL_ERROR", lambda ctx: wire.ping(request_id=ctx.new_id())),
    "TYP-001": ("PROTOCOL_ERROR", lambda ctx: wire.response(ctx.new_id())),
    "PAY-001": ("FRAME_SIZE_ERROR", lambda _ctx: wire.ping(b"1234567")),
    "PAY-002": (
        "PROTOCOL_ERROR",
        lambda ctx: wire.open_request(ctx.new_id(), NO_SUBJECT, metadata=b"\0\0"),
    ),
    "FLW-003": ("FLOW_CONTROL_ERROR", lambda _ctx: wire.window_update(1 << 63)),
}
"""Faults that break exactly one rule, by that rule."""


def _declare_named(requirement: str, error: str, build: Callable[[Context], bytes]) -> None:
    async def named(ctx: Context) -> None:
        conn = await ctx.ready()
        conn.violate(build(ctx), instead_of=wire.ping())
        frame = await conn.expect_connection_error(error)
        if frame is not None and frame.goaway is not None:
            said = frame.goaway.message
            good = requirement in said
            ctx.check("named", good, expected=requirement, actual=repr(said), frame=frame)

    title = f"The message of a GOAWAY for a breach of {requirement} names {requirement}."
    name = f"OBS-006/names-{requirement.lower()}"
    declare(name, title, named, checks=["goaway", "end", "named"], twin=SAME)


for _requirement, (_error, _build) in _FAULTS.items():
    _declare_named(_requirement, _error, _build)


@case("OBS-006/malformed-metadata", checks=["goaway", "end", "discreet"], twin=SAME)
async def malformed_metadata(ctx: Context) -> None:
    """The message of a GOAWAY has no excerpt of the payload that was malformed."""
    conn = await ctx.ready()
    headers = [("authorization", SECRET)]
    good = wire.open_metadata(NO_SUBJECT, headers=headers)
    bad = wire.open_metadata(NO_SUBJECT, headers=headers, header_count=2)
    opening = (wire.open_request(ctx.new_id(), NO_SUBJECT, metadata=one) for one in (bad, good))
    conn.violate(next(opening), instead_of=next(opening))
    frame = await conn.expect_connection_error("PROTOCOL_ERROR")
    if frame is not None and frame.goaway is not None:
        said = frame.goaway.message
        ctx.check("discreet", SECRET not in said, expected="no excerpt", actual=said, frame=frame)


@case("OBS-006/refused-request", checks=["discreet"])
async def refused_request(ctx: Context) -> None:
    """The message of a refusal has no excerpt of the body or of a header's value."""
    conn = await ctx.ready()
    for subject, headers in (
        (NO_SUBJECT, [("authorization", SECRET)]),
        (NO_SUBJECT, [("authorization", f"{SECRET}\n")]),
        ("not..valid", [("authorization", SECRET)]),
    ):
        stream = conn.open(subject, SECRET, headers=headers)
        frame = await stream.end()
        said = frame.error.message + frame.error.detail if frame.error is not None else b""
        good = SECRET.encode() not in said
        ctx.check("discreet", good, expected="no excerpt", actual=frame, frame=frame)
    await conn.fence()


@case("OBS-006/malformed-parameters", checks=["discreet"], features=NEEDS)
async def malformed_parameters(ctx: Context) -> None:
    """The message about malformed parameters has no excerpt of them."""
    conn = await ctx.ready()
    for body in (SECRET, f'{{"count": "{SECRET}"}}', f'{{"{SECRET}": '):
        stream = conn.open("conformance.generate", body)
        frame = await stream.end()
        said = frame.error.message + frame.error.detail if frame.error is not None else b""
        good = SECRET.encode() not in said
        ctx.check("discreet", good, expected="no excerpt", actual=frame, frame=frame)
    await conn.fence()
