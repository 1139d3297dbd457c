"""Frame types and flags: TYP-001 to TYP-006, as a worker shows them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._frames import REFUSED, UNKNOWN_SUBJECT, declare
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection
from muxwire_conformance.stream import Stream

# -- TYP-001 -------------------------------------------------------------------------------------


async def _response(ctx: Context, *, seq: int, flags: int) -> None:
    conn = await ctx.ready()
    # The legal form is a late chunk, which differs in its type and, at seq 0, in META.
    stray = wire.request(ctx.new_id(), 1, b"x")
    conn.violate(wire.response(ctx.new_id(), seq, b"x", flags=flags), instead_of=stray)
    await conn.expect_connection_error("PROTOCOL_ERROR")


for _name, _seq, _flags in (
    ("response", 0, 0),
    ("response-later", 1, 0),
    ("terminal", 0, wire.END_STREAM),
    ("error-terminal", 0, wire.END_STREAM | wire.ERROR),
):
    declare(
        f"TYP-001/{_name}",
        "A worker that receives RESPONSE raises a connection error PROTOCOL_ERROR.",
        partial(_response, seq=_seq, flags=_flags),
        checks=REFUSED,
        twin=SAME,
    )


@case("TYP-001/response-on-live-id", checks=REFUSED, twin=SAME, features=["conformance"])
async def response_on_live_id(ctx: Context) -> None:
    """A RESPONSE from the client is a PROTOCOL_ERROR also with the id of its own request."""
    conn = await ctx.ready()
    stream = conn.open("conformance.echo", end=False)
    conn.violate(wire.response(stream.id, 1, b"x"), instead_of=wire.request(stream.id, 1, b"x"))
    await conn.expect_connection_error("PROTOCOL_ERROR")


# -- TYP-002 -------------------------------------------------------------------------------------


@case("TYP-002/open", checks=REFUSED, twin=SAME)
async def open_with_end_and_more(ctx: Context) -> None:
    """An OPEN with END_STREAM and MORE is a connection error PROTOCOL_ERROR."""
    conn = await ctx.ready()
    more = ctx.pick(True, False)
    conn.send(wire.open_request(ctx.new_id(), UNKNOWN_SUBJECT, b"x", end=True, more=more))
    await conn.expect_connection_error("PROTOCOL_ERROR")


async def _end_and_more(ctx: Context, *, body: bytes) -> None:
    conn = await ctx.ready()
    stream = conn.open("conformance.echo", end=False)
    bad = wire.request(stream.id, 1, body, end=True, more=True)
    conn.violate(bad, instead_of=wire.request(stream.id, 1, body, end=True))
    await conn.expect_connection_error("PROTOCOL_ERROR")


for _name, _body in (("chunk", b"x"), ("empty-chunk", b"")):
    declare(
        f"TYP-002/{_name}",
        "A REQUEST behind the OPEN with END_STREAM and MORE is a PROTOCOL_ERROR.",
        partial(_end_and_more, body=_body),
        checks=REFUSED,
        twin=SAME,
        features=["conformance"],
    )


# -- TYP-003 -------------------------------------------------------------------------------------


async def _open_without_meta(ctx: Context, *, end: int, subject: str) -> None:
    conn = await ctx.ready()
    flags = end | ctx.pick(0, wire.META)
    conn.send(wire.open_request(ctx.new_id(), subject, b"x", flags=flags))
    await conn.expect_connection_error("PROTOCOL_ERROR")


for _name, _end in (("open-without-meta", wire.END_STREAM), ("first-chunk-without-meta", 0)):
    declare(
        f"TYP-003/{_name}",
        "A REQUEST with seq 0 and without META is a connection error PROTOCOL_ERROR.",
        partial(_open_without_meta, end=_end, subject=UNKNOWN_SUBJECT),
        checks=REFUSED,
        twin=SAME,
    )


@case("TYP-003/empty-frame-without-meta", checks=REFUSED, twin=SAME)
async def empty_frame_without_meta(ctx: Context) -> None:
    """An empty REQUEST with seq 0 opens nothing: a connection error PROTOCOL_ERROR."""
    conn = await ctx.ready()
    good = wire.open_request(ctx.new_id(), UNKNOWN_SUBJECT)
    conn.violate(wire.request(ctx.new_id(), 0, end=True), instead_of=good)
    await conn.expect_connection_error("PROTOCOL_ERROR")


async def _late_meta(ctx: Context, *, flags: int) -> None:
    conn = await ctx.ready()
    stream = conn.open("conformance.echo", end=False)
    payload = wire.open_metadata("conformance.echo")  # well-formed, so that only META is wrong
    bad = wire.request(stream.id, 1, payload, flags=wire.META | flags)
    conn.violate(bad, instead_of=wire.request(stream.id, 1, payload, flags=flags))
    await conn.expect_connection_error("PROTOCOL_ERROR")


for _name, _flags in (
    ("late-meta", 0),
    ("late-meta-with-more", wire.MORE),
    ("late-meta-at-end", wire.END_STREAM),
):
    declare(
        f"TYP-003/{_name}",
        "META on a REQUEST with seq above 0 is a connection error PROTOCOL_ERROR.",
        partial(_late_meta, flags=_flags),
        checks=REFUSED,
        twin=SAME,
        features=["conformance"],
    )


# -- TYP-004 -------------------------------------------------------------------------------------


@case("TYP-004/open-with-error", checks=REFUSED, twin=SAME)
async def open_with_error(ctx: Context) -> None:
    """ERROR on an OPEN, even with END_STREAM, is a connection error PROTOCOL_ERROR."""
    conn = await ctx.ready()
    flags = wire.META | wire.END_STREAM | ctx.pick(wire.ERROR, 0)
    conn.send(wire.open_request(ctx.new_id(), UNKNOWN_SUBJECT, flags=flags))
    await conn.expect_connection_error("PROTOCOL_ERROR")


async def _error_on_chunk(ctx: Context, *, flags: int) -> None:
    conn = await ctx.ready()
    stream = conn.open("conformance.echo", end=False)
    body = wire.code("CANCELLED").to_bytes(4, "big") + bytes(8)  # a well-formed error body
    bad = wire.request(stream.id, 1, body, flags=wire.ERROR | flags)
    conn.violate(bad, instead_of=wire.request(stream.id, 1, body, flags=flags))
    await conn.expect_connection_error("PROTOCOL_ERROR")


for _name, _flags in (("error-at-end", wire.END_STREAM), ("error-alone", 0)):
    declare(
        f"TYP-004/{_name}",
        "A client cannot end its direction with an error: ERROR on REQUEST is a PROTOCOL_ERROR.",
        partial(_error_on_chunk, flags=_flags),
        checks=REFUSED,
        twin=SAME,
        features=["conformance"],
    )


def _check_error_flags(ctx: Context, stream: Stream) -> None:
    for frame in stream.frames:
        if frame.is_error:
            good = frame.flags & 0x0F == wire.ERROR | wire.END_STREAM
            words = "ERROR with END_STREAM and nothing else"
            ctx.check("flags", good, expected=words, actual=frame, frame=frame)


@case("TYP-004/refusal-flags", checks=["flags"])
async def refusal_flags(ctx: Context) -> None:
    """A refusal has ERROR together with END_STREAM, and neither META nor MORE."""
    conn = await ctx.ready()
    stream = conn.open(UNKNOWN_SUBJECT)
    await stream.end()
    _check_error_flags(ctx, stream)


@case("TYP-004/failure-flags", checks=["flags"], features=["conformance"])
async def failure_flags(ctx: Context) -> None:
    """Every error terminal has ERROR together with END_STREAM, and neither META nor MORE."""
    conn = await ctx.ready()
    for parameters in ({}, {"after": 3}, {"panic": True}, {"code": 0x104, "message": "busy"}):
        stream = conn.open("conformance.fail", parameters)
        await stream.end()
        _check_error_flags(ctx, stream)


# -- TYP-005 -------------------------------------------------------------------------------------


@case("TYP-005/headers-and-trailers", checks=["headers", "trailers"], features=["conformance"])
async def headers_and_trailers(ctx: Context) -> None:
    """Headers come with META at seq 0, trailers with META and END_STREAM, and no other META."""
    conn = await ctx.ready()
    stream = conn.open("conformance.headers", {})
    await stream.result()
    metas = [(frame.seq, frame.end) for frame in stream.frames if frame.meta]
    shown = f"META at {metas}"
    first = stream.headers is not None and metas[0] == (0, False)
    ctx.check("headers", first, expected="META at seq 0", actual=shown)
    last = stream.trailers is not None and metas[1:] == [(len(stream.frames) - 1, True)]
    ctx.check("trailers", last, expected="one other META, with END_STREAM", actual=shown)


@case("TYP-005/meta-of-long-responses", checks=["meta"], features=["conformance"])
async def meta_of_long_responses(ctx: Context) -> None:
    """Within a response of many frames no frame but the first and the last has META."""
    conn = await ctx.ready({"MAX_FRAME_SIZE": 16_384})
    for subject, parameters in (
        ("conformance.generate", {"count": 50}),
        ("conformance.source", {"bytes": 100_000, "messages": 2}),
    ):
        stream = conn.open(subject, parameters)
        await stream.result()
        wrong = [frame for frame in stream.frames if frame.meta and frame.seq and not frame.end]
        actual = wrong[0] if wrong else ""
        ctx.check("meta", not wrong, expected="no META in the middle", actual=actual)


# -- TYP-006 -------------------------------------------------------------------------------------


# A target without conformance subjects refuses them, and that ends in one terminal as well.


async def _expect_one_terminal(ctx: Context, conn: Connection, stream: Stream) -> None:
    terminal = await stream.end(check="terminal")
    await conn.fence()
    last = stream.frames[-1]
    good = last is terminal
    words = "nothing behind the terminal of the request"
    ctx.check("only-one", good, expected=words, actual=last, frame=last)
    # What comes later still is seen by the rule that watches every frame until the end.


_ONE_TERMINAL = ("terminal", "only-one")


async def _one_terminal(
    ctx: Context,
    *,
    subject: str | bytes,
    body: Mapping[str, object] | bytes = b"",
    timeout_ms: int = 0,
    headers: tuple[tuple[str, str], ...] = (),
) -> None:
    conn = await ctx.ready()
    stream = conn.open(subject, body, timeout_ms=timeout_ms, headers=headers)
    await _expect_one_terminal(ctx, conn, stream)


for _name, _title, _arguments in (
    ("unknown-subject", "an unknown subject", {"subject": UNKNOWN_SUBJECT}),
    ("malformed-subject", "a malformed subject", {"subject": "a..b"}),
    (
        "malformed-header",
        "a malformed header",
        {"subject": UNKNOWN_SUBJECT, "headers": (("Upper", "x"),)},
    ),
    ("one-message", "one message", {"subject": "conformance.echo", "body": b"x"}),
    ("no-message", "no message", {"subject": "conformance.generate", "body": {"count": 0}}),
    ("many-messages", "messages", {"subject": "conformance.generate", "body": {"count": 90}}),
    ("failure", "a failure", {"subject": "conformance.fail", "body": {}}),
    ("late-failure", "a late failure", {"subject": "conformance.fail", "body": {"after": 3}}),
    ("panic", "an exception", {"subject": "conformance.fail", "body": {"panic": True}}),
    ("bad-parameters", "bad parameters", {"subject": "conformance.generate", "body": b"{"}),
    ("trailers", "trailers", {"subject": "conformance.headers", "body": {}}),
    (
        "deadline",
        "a deadline",
        {"subject": "conformance.sleep", "body": {"ms": 20_000}, "timeout_ms": 50},
    ),
):
    declare(
        f"TYP-006/{_name}",
        f"A request that ends with {_title} gets exactly one terminal, and nothing behind it.",
        partial(_one_terminal, **_arguments),
        checks=_ONE_TERMINAL,
        features=["conformance?"],
    )


@case("TYP-006/killed", checks=_ONE_TERMINAL, features=["conformance?"])
async def killed(ctx: Context) -> None:
    """A killed request gets exactly one terminal, whether it has begun to answer or not."""
    conn = await ctx.ready()
    for subject, parameters in (
        ("conformance.sleep", {"ms": 20_000}),
        ("conformance.generate", {"count": 20_000, "interval_ms": 1}),
    ):
        stream = conn.open(subject, parameters)
        await conn.fence()
        stream.kill()
        await _expect_one_terminal(ctx, conn, stream)


@case("TYP-006/killed-twice", checks=_ONE_TERMINAL, features=["conformance?"])
async def killed_at_the_end(ctx: Context) -> None:
    """A KILL that meets the end of its request does not cause a second terminal."""
    conn = await ctx.ready()
    for _ in range(8):
        opening = conn.opening("conformance.echo", b"x")
        stream = conn.stream(opening[16:32])
        conn.send(opening, wire.kill(stream.id))
        await _expect_one_terminal(ctx, conn, stream)
        conn.send(wire.kill(stream.id))
        await _expect_one_terminal(ctx, conn, stream)


@case("TYP-006/stopped", checks=_ONE_TERMINAL, features=["conformance?"])
async def stopped(ctx: Context) -> None:
    """A stopped request gets exactly one terminal."""
    conn = await ctx.ready()
    stream = conn.open("conformance.generate", {"count": 20_000, "interval_ms": 1})
    await conn.fence()
    stream.stop()
    await _expect_one_terminal(ctx, conn, stream)


@case("TYP-006/fifty-at-once", checks=_ONE_TERMINAL, features=["conformance?"])
async def fifty_at_once(ctx: Context) -> None:
    """Fifty requests at once get exactly one terminal each."""
    conn = await ctx.ready()
    streams = [conn.open("conformance.generate", {"count": count}) for count in range(50)]
    for stream in streams:
        await _expect_one_terminal(ctx, conn, stream)
