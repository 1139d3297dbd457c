"""Payloads: PAY-001 to PAY-008, as a worker shows them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import partial
from typing import Any

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases._frames import (
    REFUSED,
    UNKNOWN_SUBJECT,
    declare,
    outcome,
    refused,
    some_subject,
    understood,
)
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Connection
from muxwire_conformance.verdict import NotApplicable

# -- PAY-001 -------------------------------------------------------------------------------------

_FIXED = {
    "window-update": (0, 4, 7, 9, 16),
    "stop": (0, 3, 5, 8),
    "kill": (0, 3, 5, 8),
    "ping": (0, 7, 9, 16),
    "pong": (0, 7, 9),
    "settings-ack": (1, 10),
    "settings": (1, 9, 11),
}

for _frame, _lengths in _FIXED.items():
    for _length in _lengths:
        declare(
            f"PAY-001/{_frame}-of-{_length}",
            f"A payload ({_frame}) of {_length} octets is a FRAME_SIZE_ERROR.",
            partial(refused, name=_frame, error="FRAME_SIZE_ERROR", payload=bytes(_length)),
            checks=REFUSED,
            twin=SAME,
        )


def _many_settings(count: int) -> bytes:
    """Return so many settings that nobody knows, each id once."""
    return wire.settings([(0x4000 + number, number) for number in range(count)])


@case("PAY-001/settings-of-650", checks=REFUSED, twin=SAME)
async def settings_of_650(ctx: Context) -> None:
    """SETTINGS has at most 640 octets: 65 settings are a FRAME_SIZE_ERROR, 64 are not."""
    conn = await ctx.connect()
    conn.send(wire.preface())
    conn.violate(_many_settings(65), instead_of=_many_settings(64))
    await conn.expect_connection_error("FRAME_SIZE_ERROR")


@case("PAY-001/settings-of-0", checks=["set-up", "fence"])
async def settings_of_0(ctx: Context) -> None:
    """SETTINGS without any setting is well-formed."""
    conn = await ctx.connect()
    conn.send(wire.preface(), wire.settings())
    await conn.expect("SETTINGS")
    await conn.expect("SETTINGS_ACK", check="set-up")
    conn.send(wire.settings_ack())
    await conn.fence(check="fence")


async def _bad_window_update(ctx: Context, *, length: int) -> None:
    conn = await ctx.ready()
    request_id = ctx.new_id()
    bad = wire.window_update(0, payload=bytes(length), request_id=request_id)
    conn.violate(bad, instead_of=wire.window_update(1 << 20, request_id=request_id))
    await conn.expect_connection_error("FRAME_SIZE_ERROR")


for _length in (7, 9):
    declare(
        f"PAY-001/window-update-unknown-id-of-{_length}",
        f"A WINDOW_UPDATE of {_length} octets is a FRAME_SIZE_ERROR also for an unknown id.",
        partial(_bad_window_update, length=_length),
        checks=REFUSED,
        twin=SAME,
    )


async def _bad_goaway(ctx: Context, *, payload: bytes) -> None:
    await refused(ctx, "goaway", "FRAME_SIZE_ERROR", payload=payload)


_HEAD = struct.pack(">IQI", 0, 0, 0)

for _name, _title, _payload in (
    ("goaway-of-0", "of 0 octets", b""),
    ("goaway-of-17", "of 17 octets", _HEAD + b"\0"),
    ("goaway-message-overruns", "whose message would need one octet more", _HEAD + b"\0\4bye"),
    ("goaway-message-of-65535", "whose message length is 65,535", _HEAD + b"\xff\xffbye"),
):
    declare(
        f"PAY-001/{_name}",
        f"A GOAWAY {_title} is a connection error FRAME_SIZE_ERROR.",
        partial(_bad_goaway, payload=_payload),
        checks=REFUSED,
        twin=SAME,
    )


async def _good_goaway(ctx: Context, *, payload: bytes) -> None:
    conn = await ctx.ready()
    await conn.fence()
    conn.send(wire.goaway(payload=payload))
    await conn.expect_quiet_end(check="end")


for _name, _title, _payload in (
    ("goaway-long-message", "a message of 2,000 octets", _HEAD + b"\x07\xd0" + b"x" * 2_000),
    ("goaway-octets-behind", "octets behind its message", _HEAD + b"\0\3bye" + bytes(100)),
):
    declare(
        f"PAY-001/{_name}",
        f"A GOAWAY with {_title} is taken.",
        partial(_good_goaway, payload=_payload),
        checks=["end"],
    )


# -- PAY-002 -------------------------------------------------------------------------------------


def _open_with(ctx: Context, payload: bytes, *, end: bool = True) -> bytes:
    """Build an OPEN whose payload is given, the length of the metadata block included."""
    return wire.open_request(ctx.new_id(), UNKNOWN_SUBJECT, metadata=payload, end=end)


async def _malformed(ctx: Context, *, payload: bytes) -> None:
    conn = await ctx.ready()
    good = wire.open_metadata(UNKNOWN_SUBJECT, headers=[("a", "b")]) + b"body"
    conn.violate(_open_with(ctx, payload), instead_of=_open_with(ctx, good))
    await conn.expect_connection_error("PROTOCOL_ERROR")


def _block(*parts: bytes, length: int | None = None) -> bytes:
    block = b"".join(parts)
    return (len(block) if length is None else length).to_bytes(4, "big") + block


def _fixed(*, headers: int, subject: int) -> bytes:
    return struct.pack(">IHHH", 0, 0, headers, subject)


_NAME = UNKNOWN_SUBJECT.encode()
_WHOLE = wire.open_metadata(UNKNOWN_SUBJECT, headers=[("a", "b")])
_ONE_HEADER = _fixed(headers=1, subject=len(_NAME)) + _NAME

for _name, _title, _payload in (
    ("no-payload", "without any payload", b""),
    ("three-octets", "of 3 octets, too few for meta_length", b"\0\0\0"),
    ("meta-length-0xffff", "with meta_length 0xFFFF in 4 octets of payload", b"\0\0\xff\xff"),
    ("meta-length-2-to-32", "with meta_length 2^32 - 1", b"\xff" * 4 + _WHOLE[4:]),
    (
        "meta-length-one-beyond",
        "whose meta_length is one more than there is",
        _block(_WHOLE[4:], length=len(_WHOLE) - 3),
    ),
    ("meta-length-0", "with an empty metadata block", b"\0\0\0\0body"),
    ("fields-cut-at-9", "whose block ends inside subject_length", _block(bytes(9)) + b"body"),
    (
        "block-cut-short",
        "whose block ends inside the last header, with the rest behind it",
        _block(_WHOLE[4:], length=len(_WHOLE) - 5) + b"body",
    ),
    (
        "subject-overruns",
        "whose subject_length reaches one octet into the body",
        _block(_fixed(headers=0, subject=len(_NAME) + 1), _NAME) + b"body",
    ),
    (
        "subject-length-65535",
        "whose subject_length is 65,535",
        _block(_fixed(headers=0, subject=65_535), _NAME),
    ),
    (
        "five-headers-declared",
        "with header_count 5 and one header",
        wire.open_metadata(UNKNOWN_SUBJECT, headers=[("a", "b")], header_count=5),
    ),
    (
        "one-header-declared",
        "with header_count 1 and no header, but a body",
        _block(_ONE_HEADER) + b"\1a\0\1bbody",
    ),
    (
        "header-count-65535",
        "with header_count 65,535",
        wire.open_metadata(UNKNOWN_SUBJECT, header_count=65_535),
    ),
    ("key-overruns", "whose key is cut off", _block(_ONE_HEADER, b"\5abc")),
    ("key-into-body", "whose key reaches into the body", _block(_ONE_HEADER, b"\5abc") + b"body"),
    ("value-length-missing", "without the length of a value", _block(_ONE_HEADER, b"\1a")),
    ("value-length-cut", "with half the length of a value", _block(_ONE_HEADER, b"\1a\0")),
    (
        "value-overruns",
        "whose value is one octet longer than the block",
        _block(_ONE_HEADER, b"\1a\0\4abc") + b"body",
    ),
    ("value-of-65535", "whose value declares 65,535", _block(_ONE_HEADER, b"\1a\xff\xffabc")),
):
    declare(
        f"PAY-002/{_name}",
        f"An OPEN {_title} is a connection error PROTOCOL_ERROR.",
        partial(_malformed, payload=_payload),
        checks=REFUSED,
        twin=SAME,
    )


def _metadata_of(size: int, subject: str) -> bytes:
    """Build a metadata block of exactly this size, with octets behind the last header."""
    bare = len(wire.open_metadata(subject)) - 4
    return wire.open_metadata(subject, extension=bytes(size - bare))


def _too_large(conn: Connection, size: int) -> str:
    """Say why no frame with so much metadata and one octet can be sent, "" if it can."""
    settings = conn.peer_settings
    window = min(settings["INITIAL_STREAM_WINDOW"], settings["CONNECTION_WINDOW"])
    fits = 4 + size < min(settings["MAX_FRAME_SIZE"], window - wire.HEADER_SIZE)
    return "" if fits else f"{size} octets of metadata fit into no frame or window of the target"


@case("PAY-002/above-max-metadata", checks=REFUSED, twin=SAME)
async def above_max_metadata(ctx: Context) -> None:
    """A meta_length above MAX_METADATA_SIZE is a PROTOCOL_ERROR; one equal to it is not."""
    conn = await ctx.ready()
    limit = conn.peer_settings["MAX_METADATA_SIZE"]
    if reason := _too_large(conn, limit + 1):
        raise NotApplicable(reason)
    good = _open_with(ctx, _metadata_of(limit, UNKNOWN_SUBJECT))
    conn.violate(_open_with(ctx, _metadata_of(limit + 1, UNKNOWN_SUBJECT)), instead_of=good)
    await conn.expect_connection_error("PROTOCOL_ERROR")


@case("PAY-002/of-max-metadata", checks=["answered"], features=["conformance?"])
async def of_max_metadata(ctx: Context) -> None:
    """A meta_length of exactly MAX_METADATA_SIZE is accepted."""
    conn = await ctx.ready()
    subject, limit = some_subject(ctx), conn.peer_settings["MAX_METADATA_SIZE"]
    if reason := _too_large(conn, limit):
        raise NotApplicable(reason)
    metadata, request_id = _metadata_of(limit, subject), ctx.new_id()
    conn.send(wire.open_request(request_id, subject, b"x", metadata=metadata))
    await understood(ctx, conn, conn.stream(request_id), check="answered")


@case(
    "PAY-002/no-handler",
    checks=["goaway", "end", "not-opened"],
    twin="PAY-003/sixteen-octets",
    features=["conformance"],
    exclusive=True,
)
async def no_handler(ctx: Context) -> None:
    """No handler runs for an OPEN with malformed metadata."""
    before = (await ctx.stats())["opened"]
    conn = await ctx.ready()
    metadata = wire.open_metadata("conformance.echo", headers=[("a", "b")], header_count=5)
    conn.violate(wire.open_request(ctx.new_id(), "conformance.echo", b"x", metadata=metadata))
    await conn.expect_connection_error("PROTOCOL_ERROR")
    grown = (await ctx.stats())["opened"] - before
    ctx.check("not-opened", grown == 0, expected="no request more", actual=f"{grown} more")


# -- PAY-003 -------------------------------------------------------------------------------------


async def _extended(ctx: Context, *, size: int) -> None:
    conn = await ctx.ready()
    stream = conn.open(some_subject(ctx), b"body", extension=ctx.rng.randbytes(size))
    await understood(ctx, conn, stream, check="answered")
    if not ctx.has("conformance"):
        ctx.emit("unchanged")
        return
    good = stream.messages == [b"body"]
    ctx.check("unchanged", good, expected="the message 'body'", actual=stream.messages)


for _name, _size in {"one-octet": 1, "sixteen-octets": 16, "four-thousand-octets": 4_000}.items():
    declare(
        f"PAY-003/{_name}",
        f"Octets ({_size:,}) inside meta_length after the last header are ignored.",
        partial(_extended, size=_size),
        checks=["answered", "unchanged"],
        features=["conformance?"],
    )


@case("PAY-003/like-a-header", checks=["same"], features=["conformance"])
async def like_a_header(ctx: Context) -> None:
    """What comes after the last header is no header, even if it looks like one."""
    conn = await ctx.ready()
    extension = wire.headers_block([("key", "value")])
    stream = conn.open("conformance.headers", headers=[("a", "b")], extension=extension)
    answer = await stream.json()
    good = answer["headers"] == [["a", "b"]]
    ctx.check("same", good, expected="one header", actual=answer["headers"])


# -- PAY-004 -------------------------------------------------------------------------------------


async def _unknown(ctx: Context, *, subject: str) -> None:
    conn = await ctx.ready()
    await outcome(conn, conn.open(subject, b"x"), "NOT_FOUND")


_LONGEST = "long." + "x" * 250

for _name, _subject in {
    "unknown-subject": UNKNOWN_SUBJECT,
    "unknown-one-octet": "x",
    "unknown-255-octets": _LONGEST,
    "unknown-all-characters": "-Az_.09.a-b_C",
}.items():
    declare(
        f"PAY-004/{_name}",
        "A well-formed subject that no handler has is refused with NOT_FOUND, NOT_PROCESSED.",
        partial(_unknown, subject=_subject),
        checks=["error", "fence"],
    )


async def _bad_subject(ctx: Context, *, subject: bytes) -> None:
    conn = await ctx.ready()
    stream = conn.open(subject, b"x")
    await conn.expect_stream_error(stream, "INVALID_ARGUMENT", not_processed=True)


for _name, _raw in {
    "empty": b"",
    "256-octets": b"x" * 256,
    "two-dots": b"a..b",
    "leading-dot": b".a",
    "trailing-dot": b"a.",
    "only-a-dot": b".",
    "nul": b"a\0b",
    "trailing-nul": b"a\0",
    "space": b"a b",
    "trailing-newline": b"no.such.subject\n",
    "slash": b"a/b",
    "colon": b"a:b",
    "letter-beyond-ascii": "stra\u00dfe".encode(),
    "digit-beyond-ascii": "a\u0661".encode(),
    "not-utf8": b"a\xff",
}.items():
    declare(
        f"PAY-004/{_name}",
        f"A malformed subject ({_name}) is refused with INVALID_ARGUMENT, NOT_PROCESSED.",
        partial(_bad_subject, subject=_raw),
        checks=["error", "fence"],
        twin="PAY-004/unknown-subject",
    )


# -- PAY-005 -------------------------------------------------------------------------------------

Headers = tuple[tuple[str | bytes, str | bytes], ...]

_SIXTY_FOUR: Headers = tuple((f"key-{number}", "x") for number in range(64))


async def _taken(ctx: Context, *, headers: Headers) -> None:
    conn = await ctx.ready()
    stream = conn.open(some_subject(ctx), b"x", headers=headers)
    await understood(ctx, conn, stream, check="answered")


_GOOD_HEADERS: dict[str, Headers] = {
    "usual": (("traceparent", "x"), ("request-id", "y")),
    "key-of-1": (("k", "x"),),
    "key-of-64": (("k" * 64, "x"),),
    "key-all-characters": (("-a_z.09", "x"),),
    "key-only-dots": (("...", "x"),),
    "value-empty": (("k", ""),),
    "value-utf8": (("k", "\u00fcber \U0001f680"),),
    "value-tab": (("k", "a\tb\x7f"),),
    "same-value-twice": (("a", "x"), ("b", "x")),
    "sixty-four": _SIXTY_FOUR,
}
_BAD_HEADERS: dict[str, Headers] = {
    "key-empty": (("", "x"),),
    "key-of-65": (("k" * 65, "x"),),
    "key-of-255": (("k" * 255, "x"),),
    "key-upper-case": (("Key", "x"),),
    "key-space": (("a key", "x"),),
    "key-colon": ((":path", "x"),),
    "key-nul": ((b"a\0b", "x"),),
    "key-trailing-newline": ((b"key\n", "x"),),
    "key-beyond-ascii": (("cl\u00e9", "x"),),
    "key-not-utf8": ((b"\xff", "x"),),
    "key-twice": (("a", "x"), ("b", "y"), ("a", "z")),
    "header-twice": (("a", "x"), ("a", "x")),
    "second-key-bad": (("a", "x"), ("B", "y")),
    "sixty-five": (*_SIXTY_FOUR, ("one-more", "x")),
    "value-nul": (("k", b"a\0b"),),
    "value-cr": (("k", b"a\rb"),),
    "value-lf": (("k", b"a\nb"),),
    "value-trailing-lf": (("k", b"a\n"),),
    "value-not-utf8": (("k", b"\xff"),),
    "value-cut-utf8": (("k", "\u00fc".encode()[:1]),),
    "value-surrogate": (("k", b"\xed\xa0\x80"),),
}

for _name, _headers in _GOOD_HEADERS.items():
    declare(
        f"PAY-005/{_name}",
        f"Well-formed headers ({_name}) are taken.",
        partial(_taken, headers=_headers),
        checks=["answered"],
        features=["conformance?"],
    )


async def _bad_headers(ctx: Context, *, headers: Headers) -> None:
    conn = await ctx.ready()
    stream = conn.open(some_subject(ctx), b"x", headers=headers)
    await conn.expect_stream_error(stream, "INVALID_ARGUMENT", not_processed=True)


for _name, _headers in _BAD_HEADERS.items():
    declare(
        f"PAY-005/{_name}",
        f"Malformed headers ({_name}) are refused with INVALID_ARGUMENT, NOT_PROCESSED.",
        partial(_bad_headers, headers=_headers),
        checks=["error", "fence"],
        twin="PAY-005/sixty-four" if _name == "sixty-five" else "PAY-005/usual",
        features=["conformance?"],
    )


def _needs_metadata(conn: Connection, headers: Headers) -> None:
    size = len(wire.open_metadata("conformance.echo", headers=headers)) - 4
    most = min(conn.peer_settings["MAX_METADATA_SIZE"], conn.peer_settings["MAX_FRAME_SIZE"] - 4)
    if size > most:
        raise NotApplicable(f"the target takes {most} octets of metadata, and this needs {size}")


@case("PAY-005/value-of-8192", checks=["answered"], features=["conformance?"])
async def value_of_8192(ctx: Context) -> None:
    """A value of 8,192 octets is taken where the metadata may be that large."""
    conn = await ctx.ready()
    headers: Headers = (("k", "x" * 8_192),)
    _needs_metadata(conn, headers)
    stream = conn.open(some_subject(ctx), b"x", headers=headers)
    await understood(ctx, conn, stream, check="answered")


@case(
    "PAY-005/value-of-8193",
    checks=["error", "fence"],
    twin="PAY-005/usual",  # and PAY-005/value-of-8192, which this target may not be able to take
    features=["conformance?"],
)
async def value_of_8193(ctx: Context) -> None:
    """A value of 8,193 octets is refused with INVALID_ARGUMENT, NOT_PROCESSED."""
    conn = await ctx.ready()
    headers: Headers = (("k", "x" * 8_193),)
    _needs_metadata(conn, headers)
    stream = conn.open(some_subject(ctx), b"x", headers=headers)
    await conn.expect_stream_error(stream, "INVALID_ARGUMENT", not_processed=True)


# -- PAY-006 -------------------------------------------------------------------------------------


async def _handed_over(ctx: Context, *, headers: tuple[tuple[str, str], ...]) -> None:
    conn = await ctx.ready()
    answer = await conn.open("conformance.headers", headers=headers).json(check="answered")
    seen = answer.get("headers")
    expected = [[key, value] for key, value in headers]
    ctx.check("same", seen == expected, expected=str(expected), actual=seen)


for _name, _title, _pairs in (
    ("no-headers", "No headers", ()),
    ("order", "Headers that are not in alphabetical order", (("z", "1"), ("a", "2"), ("m", "3"))),
    (
        "unknown-keys",
        "Headers that nobody knows",
        (("x-nobody-knows", "1"), ("0", "2"), ("...", "3"), ("traceparent", "4")),
    ),
    (
        "values",
        "Values with white space, other scripts and nothing at all",
        (("blank", "  a\t b "), ("empty", ""), ("other", "\u00fc \u4e2d \U0001f680"), ("q", '"\\')),
    ),
    (
        "values-untouched",
        "Values that look like something else",
        (("number", "007"), ("escape", "%41+&amp;\\n"), ("upper", "MiXeD"), ("list", "a, b,,c")),
    ),
    ("sixty-four", "64 headers", tuple((f"k{63 - n}", f"v{n}") for n in range(64))),
    ("long-value", "A value of 4,000 octets", (("long", "0123456789" * 400), ("short", "x"))),
):
    declare(
        f"PAY-006/{_name}",
        f"{_title} reach the handler unchanged and in order.",
        partial(_handed_over, headers=_pairs),
        checks=["answered", "same"],
        features=["conformance"],
    )


# -- PAY-007 -------------------------------------------------------------------------------------


async def _legal_error(ctx: Context, conn: Connection, subject: str, body: Any = b"") -> None:
    stream = conn.open(subject, body)
    frame = await stream.end(check="error")
    error = frame.error
    if error is None:
        conn.fail("error", "an error terminal", str(frame), frame)
    both = error.not_processed and error.non_retryable
    ctx.check("flags", not both, expected="not both flags", actual=error, frame=frame)
    size = len(error.message)
    fits = frame.length <= wire.MAX_ERROR_BODY and size <= wire.MAX_REASON
    actual = f"{frame.length} octets, {size} of them the message"
    ctx.check("size", fits, expected="4,096 in all, 1,024 of message", actual=actual, frame=frame)
    text = error.message.decode("utf-8", "replace")
    good = text.encode() == error.message
    ctx.check("utf8", good, expected="a message in UTF-8", actual=error.message, frame=frame)


_LEGAL = ("error", "flags", "size", "utf8")


@case("PAY-007/refusals", checks=_LEGAL)
async def refusals(ctx: Context) -> None:
    """The error body of a refusal is well-formed, and has no NON_RETRYABLE beside NOT_PROCESSED."""
    conn = await ctx.ready()
    for subject in (UNKNOWN_SUBJECT, "a..b", "x" * 255):
        await _legal_error(ctx, conn, subject)


async def _failure(ctx: Context, *, parameters: Mapping[str, object]) -> None:
    conn = await ctx.ready()
    await _legal_error(ctx, conn, "conformance.fail", parameters)


for _name, _title, _parameters in (
    ("failure", "a failure", {}),
    ("non-retryable", "a failure that is NON_RETRYABLE", {"flags": 2}),
    ("both-flags-asked-for", "a handler that asks for both flags", {"flags": 3}),
    ("panic", "an exception", {"panic": True}),
    ("message-of-1024", "a message of 1,024 octets", {"message": "x" * 1_024}),
    ("message-of-1025", "a message of 1,025 octets", {"message": "x" * 1_025}),
    ("message-of-10000", "a message of 10,000 octets", {"message": "x" * 10_000}),
    (
        "message-cut-in-a-letter",
        "a message that is too long by half a letter",
        {"message": "x" + "\u00fc" * 512},
    ),
):
    declare(
        f"PAY-007/{_name}",
        f"The error body of {_title} is well-formed: size, message, and not both flags.",
        partial(_failure, parameters=_parameters),
        checks=_LEGAL,
        features=["conformance"],
    )


@case("PAY-007/flags-as-given", checks=["flags"], features=["conformance"])
async def flags_as_given(ctx: Context) -> None:
    """A handler that asks for both flags gets NON_RETRYABLE, since it has run."""
    conn = await ctx.ready()
    frame = await conn.open("conformance.fail", {"flags": 3}).end()
    good = frame.error is not None and frame.error.flags == wire.NON_RETRYABLE
    ctx.check("flags", good, expected="NON_RETRYABLE alone", actual=frame, frame=frame)


# -- PAY-008 -------------------------------------------------------------------------------------

_UNKNOWN_CODES = {"unassigned": 0x09, "grease": 0x0A0A, "application": 0x8000_0001}


async def _unknown_goaway(ctx: Context, *, code: int) -> None:
    conn = await ctx.ready()
    conn.open("conformance.sleep", {"ms": 20_000})
    await conn.fence()
    conn.send(wire.goaway(code, message=b"an unknown code"))
    await conn.expect_quiet_end(check="end")


for _name, _code in _UNKNOWN_CODES.items():
    declare(
        f"PAY-008/goaway-{_name}",
        f"GOAWAY with the unknown code 0x{_code:X} is handled as one with INTERNAL_ERROR.",
        partial(_unknown_goaway, code=_code),
        checks=["end"],
        requirements=["PAY-008", "CLS-009"],
        features=["conformance"],
    )


async def _unknown_reason(ctx: Context, *, code: int) -> None:
    conn = await ctx.ready()
    stream = conn.open("conformance.sleep", {"ms": 20_000})
    stream.stop(code)
    stream.kill(code)
    frame = await stream.end(check="terminal")
    good = frame.error is not None and frame.error.code == wire.code("CANCELLED")
    ctx.check("killed", good, expected="an error terminal CANCELLED", actual=frame, frame=frame)
    await conn.fence(check="fence")


for _name, _code in _UNKNOWN_CODES.items():
    declare(
        f"PAY-008/reason-{_name}",
        f"STOP and KILL with the unknown reason 0x{_code:X} act like any other.",
        partial(_unknown_reason, code=_code),
        checks=["terminal", "killed", "fence"],
        requirements=["PAY-008", "CAN-001"],
        features=["conformance"],
    )
