"""Types and flags, as a client shows it."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases_client._steps import refused_answer
from muxwire_conformance.client_mode.context import ClientContext

for _name, _build in (
    ("request", lambda _ctx, _link, one: wire.request(one.id, 1, b"x")),
    ("open", lambda ctx, _link, _one: wire.open_request(ctx.new_id(), "a.b")),
    ("stop", lambda _ctx, _link, one: wire.stop(one.id)),
    ("kill", lambda _ctx, _link, one: wire.kill(one.id)),
):
    refused_answer(
        f"TYP-001/client-{_name}",
        f"A client that receives {_name.upper()} raises a connection error.",
        "PROTOCOL_ERROR",
        _build,
        lambda _ctx, _link, one: one.build(b"x"),
    )

for _name, _title, _flags in (
    ("TYP-002/client-end-with-more", "END_STREAM together with MORE is an error.", 0x03),
    ("TYP-004/client-error-without-end", "ERROR without END_STREAM is an error.", 0x08),
    ("TYP-004/client-error-with-meta", "ERROR together with META is an error.", 0x0D),
    ("TYP-004/client-error-with-more", "ERROR together with MORE is an error.", 0x0A),
):
    refused_answer(
        _name,
        _title,
        "PROTOCOL_ERROR",
        lambda _ctx, _link, one, flags=_flags: one.build(  # type: ignore[misc]
            wire.error_body("APPLICATION_ERROR"), flags=flags
        ),
        lambda _ctx, _link, one: one.build(
            wire.error_body("APPLICATION_ERROR"), flags=wire.END_STREAM | wire.ERROR
        ),
    )

refused_answer(
    "TYP-005/client-meta-inside",
    "META on a RESPONSE that is neither the first nor the last is a connection error.",
    "PROTOCOL_ERROR",
    lambda _ctx, _link, one: one.build(b"x") + one.build(b"y", headers=[("k", "v")]),
    lambda _ctx, _link, one: one.build(b"x") + one.build(b"y", end=True, headers=[("k", "v")]),
)


@case(
    "TYP-005/client-headers-and-trailers",
    role="client",
    checks=["served", "headers", "trailers"],
    features=["headers"],
)
async def headers_and_trailers(ctx: ClientContext) -> None:
    """META at seq 0 holds the headers, META with END_STREAM the trailers."""
    link, one, call = await ctx.asked()
    one.send(b"x", headers=[("a", "1"), ("b.c", "2")])
    one.send(end=True, headers=[("usage", "3")])
    final = await call.succeeds([b"x"], check="served")
    expected = [("a", "1"), ("b.c", "2")]
    ctx.check("headers", call.headers == expected, expected=str(expected), actual=call.headers)
    held = final["trailers"] == [["usage", "3"]]
    ctx.check("trailers", held, expected="usage=3", actual=final["trailers"])
    await link.fence()


@case(
    "TYP-005/client-only-frame-has-headers",
    role="client",
    checks=["served", "headers"],
    features=["headers"],
)
async def only_frame(ctx: ClientContext) -> None:
    """At seq 0 the block holds the headers even with END_STREAM; there are no trailers then."""
    link, one, call = await ctx.asked()
    one.send(b"x", end=True, headers=[("a", "1")])
    final = await call.succeeds([b"x"], check="served")
    held = call.headers == [("a", "1")] and final["trailers"] == []
    actual = f"{call.headers}, trailers {final['trailers']}"
    ctx.check("headers", held, expected="headers a=1, no trailers", actual=actual)
    await link.fence()
