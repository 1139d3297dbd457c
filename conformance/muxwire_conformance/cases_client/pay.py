"""Payloads, as a client shows it: fixed lengths, response metadata, error bodies, codes."""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases_client._steps import declare, refused, refused_answer
from muxwire_conformance.client_mode.context import ClientContext

UP = "FRM-011/client-one-write"
HEADERS = "TYP-005/client-headers-and-trailers"
ERROR = wire.END_STREAM | wire.ERROR

for _name, _octets in (
    ("window-update-7", wire.window_update(0, payload=bytes(7))),
    ("window-update-9", wire.window_update(0, payload=bytes(7) + b"\x01\x00")),
    ("ping-7", wire.ping(bytes(7))),
    ("ping-9", wire.ping(bytes(9))),
    ("pong-0", wire.pong(b"")),
    ("goaway-17", wire.goaway(payload=bytes(17))),
    ("goaway-message-beyond", wire.goaway(payload=bytes(16) + b"\x00\x05abcd")),
):
    refused(
        f"PAY-001/client-{_name}",
        f"A payload of the wrong size ({_name}) is a connection error.",
        "FRAME_SIZE_ERROR",
        lambda _ctx, _link, octets=_octets: octets,  # type: ignore[misc]
        lambda _ctx, _link: wire.ping(),
        twin=UP,
    )


@case("PAY-001/client-settings-11", role="client", checks=["goaway", "end"], twin=UP)
async def settings_11(ctx: ClientContext) -> None:
    """SETTINGS whose payload is no multiple of 10 is a connection error."""
    await ctx.start()
    link = await ctx.accept()
    await link.offered()
    link.send(wire.preface())
    link.violate(wire.settings([("IDLE_TIMEOUT_MS", 60_000)], extra=b"\x00"))
    await link.expect_connection_error("FRAME_SIZE_ERROR")


# -- metadata ------------------------------------------------------------------------------------


def _meta(name: str, title: str, rule: str, payload: bytes) -> None:
    refused_answer(
        f"{rule}/client-{name}",
        title,
        "PROTOCOL_ERROR",
        lambda _ctx, _link, one: one.build(payload, flags=wire.META),
        lambda _ctx, _link, one: one.build(wire.metadata([("k", "v")]), flags=wire.META),
    )


def _block(block: bytes) -> bytes:
    return len(block).to_bytes(4, "big") + block


for _name, _payload in (
    ("no-metadata-length", b"\x00\x00"),
    ("length-beyond-payload", b"\x00\x00\x00\x09\x00\x00"),
    ("header-overruns", _block(b"\x00\x01\x01k\x00\x09v") + b"xxxxxxxxx"),
    ("count-too-high", _block(b"\x00\x02\x01k\x00\x01v")),
    ("block-of-one-octet", _block(b"\x00")),
):
    _meta(_name, f"Malformed response metadata ({_name}) is an error.", "PAY-002", _payload)

for _name, _headers in (
    ("upper-case-key", [("K", "v")]),
    ("empty-key", [("", "v")]),
    ("repeated-key", [("k", "v"), ("k", "w")]),
    ("key-of-65", [("k" * 65, "v")]),
    ("nul-in-value", [("k", "a\x00b")]),
    ("newline-in-value", [("k", "a\nb")]),
    ("value-not-utf-8", [("k", b"\xff")]),
    ("65-headers", [(f"k{number}", "") for number in range(65)]),
):
    _meta(
        _name,
        f"A bad header in a response ({_name}) is a connection error.",
        "PAY-005",
        wire.metadata(_headers),
    )


@case(
    "PAY-002/client-metadata-above-limit",
    role="client",
    checks=["goaway", "end"],
    twin=HEADERS,
    features=["settings", "headers"],
)
async def metadata_above_limit(ctx: ClientContext) -> None:
    """A metadata block above the client's MAX_METADATA_SIZE is a connection error."""
    link, one, _call = await ctx.asked(client={"MAX_METADATA_SIZE": 8_192})
    block = wire.metadata([("k", "v" * 8_000), ("l", "v" * 190)])
    link.violate(one.build(block, flags=wire.META))
    await link.expect_connection_error("PROTOCOL_ERROR")


@case(
    "PAY-003/client-extension-ignored",
    role="client",
    checks=["served", "headers"],
    features=["headers"],
)
async def extension(ctx: ClientContext) -> None:
    """Octets behind the last header of a response are ignored."""
    link, one, call = await ctx.asked()
    block = wire.metadata([("k", "v")])[4:] + b"extension"
    one.send(_block(block) + b"x", flags=wire.META)
    one.send(end=True)
    await call.succeeds([b"x"], check="served")
    ctx.check("headers", call.headers == [("k", "v")], expected="k=v", actual=call.headers)
    await link.fence()


@case(
    "PAY-005/client-largest-headers",
    role="client",
    checks=["served", "headers"],
    features=["headers"],
)
async def largest(ctx: ClientContext) -> None:
    """64 headers, a key of 64 octets and an empty value are accepted."""
    link, one, call = await ctx.asked()
    headers = [(f"k{number}".ljust(64, "x"), "é" if number else "") for number in range(64)]
    one.send(b"x", headers=headers)
    one.send(end=True)
    await call.succeeds([b"x"], check="served")
    ctx.check("headers", call.headers == headers, expected="64 headers", actual=len(call.headers))
    await link.fence()


# -- error bodies --------------------------------------------------------------------------------


def _error(name: str, title: str, error: str, payload: bytes) -> None:
    refused_answer(
        f"PAY-007/client-{name}",
        title,
        error,
        lambda _ctx, _link, one: one.build(payload, flags=ERROR),
        lambda _ctx, _link, one: one.build(
            wire.error_body("APPLICATION_ERROR", b"m" * 1_024, detail=b"d" * 3_060), flags=ERROR
        ),
    )


_error(
    "body-4097",
    "An error body above 4,096 octets is a connection error.",
    "FRAME_SIZE_ERROR",
    wire.error_body("APPLICATION_ERROR", detail=bytes(4_085)),
)
_error(
    "truncated",
    "A truncated error body is a connection error.",
    "PROTOCOL_ERROR",
    wire.error_body("APPLICATION_ERROR")[:11],
)
_error(
    "message-beyond",
    "An error message beyond the body is a connection error.",
    "PROTOCOL_ERROR",
    wire.error_body("APPLICATION_ERROR", b"abc", message_length=4),
)
_error(
    "message-1025",
    "An error message above 1,024 octets is a connection error.",
    "PROTOCOL_ERROR",
    wire.error_body("APPLICATION_ERROR", b"m" * 1_025),
)
_error(
    "both-flags",
    "NOT_PROCESSED and NON_RETRYABLE together are a connection error.",
    "PROTOCOL_ERROR",
    wire.error_body("OVERLOADED", flags=3),
)


@case("PAY-007/client-message-not-utf-8", role="client", checks=["failed", "pong"])
async def not_utf8(ctx: ClientContext) -> None:
    """An error message that is not UTF-8 is no violation; unknown error flags are ignored."""
    link, one, call = await ctx.asked()
    body = wire.error_body("APPLICATION_ERROR", b"a\xffb", flags=0xFFFC)
    one.send(body, end=True, flags=ERROR)
    await call.fails("FAILED", "APPLICATION_ERROR", local=False, check="failed")
    await link.fence(check="pong")


async def _code_of_error(ctx: ClientContext, code: int) -> None:
    link, one, call = await ctx.asked()
    one.fail(code, b"as received")
    await call.fails("FAILED", code, messages=0, local=False, check="failed")
    await link.fence(check="pong")


for _code in (0x105, 0x0DEAD, 0x02, 0xFFFFFFFF):

    async def _run(ctx: ClientContext, code: int = _code) -> None:
        await _code_of_error(ctx, code)

    declare(
        f"PAY-008/client-error-code-{_code:x}",
        f"The caller sees the code 0x{_code:X} as received, and the connection goes on.",
        _run,
        checks=["failed", "pong"],
    )


@case("PAY-008/client-goaway-unknown-code", role="client", checks=["code", "again"])
async def goaway_unknown(ctx: ClientContext) -> None:
    """A GOAWAY with an unknown code is handled as an error, and reported as received."""
    link, _one, call = await ctx.asked()
    link.send(wire.goaway(0xBEEF, last_ordinal=1, grace_ms=30_000))
    await call.fails("AMBIGUOUS", 0xBEEF, local=True, check="code", within=1.5)
    second = await ctx.next_link()
    ctx.request(b"x")
    (await second.take(check="again")).answer()


@case("PAY-001/client-goaway-extension", role="client", checks=["works"])
async def goaway_extension(ctx: ClientContext) -> None:
    """Octets behind the message of a GOAWAY are ignored; a message may be long."""
    link, one, call = await ctx.asked()
    body = wire.goaway(last_ordinal=1, grace_ms=30_000, message=b"m" * 2_000)[wire.HEADER_SIZE :]
    link.send(wire.goaway(payload=body + b"extension"))
    await link.fence(check="works")
    one.answer(b"y")
    await call.succeeds([b"y"], check="works")


@case(
    "PAY-005/client-value-of-8193",
    role="client",
    checks=["goaway", "end"],
    twin=SAME,
    features=["settings"],
)
async def value_of_8193(ctx: ClientContext) -> None:
    """A header value has at most 8,192 octets, also where the block may be longer."""
    link, one, _call = await ctx.asked(client={"MAX_METADATA_SIZE": 16_384})
    raw = one.build(headers=[("k", "v" * ctx.pick(8_193, 8_192))])
    link.violate(raw, instead_of=raw)
    await link.expect_connection_error("PROTOCOL_ERROR")
