"""Messages: MSG-001 to MSG-004, as a worker shows them."""

from __future__ import annotations

from collections.abc import Sequence

from muxwire_conformance import wire
from muxwire_conformance.case import case
from muxwire_conformance.cases._steps import (
    OPEN_COST,
    declare,
    echoing,
    error_terminal,
    not_applicable_unless,
    settles,
)
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import Stream

LARGE = 8 * 1_048_576
MOST_MESSAGE = 64 * 1_048_576

Chunk = tuple[bytes, str]
"""The data of a REQUEST and its flags: any of "end" and "more"."""


def _brief(messages: Sequence[bytes]) -> str:
    shown = [repr(one) if len(one) <= 12 else f"<{len(one)} octets>" for one in messages[:20]]
    return f"[{', '.join(shown)}{', ...' if len(messages) > 20 else ''}]"


def _check_list(ctx: Context, messages: Sequence[bytes], expected: Sequence[bytes]) -> None:
    good = list(messages) == list(expected)
    ctx.check("same-list", good, expected=_brief(expected), actual=_brief(messages))


# -- MSG-001 -----------------------------------------------------------------------------------


def _declare_size(name: str, title: str, size: int | None, plus: int = 0) -> None:
    async def echoed_size(ctx: Context) -> None:
        conn = await ctx.ready()
        count = conn.peer_settings["MAX_FRAME_SIZE"] + plus if size is None else size
        most = conn.peer_settings["MAX_MESSAGE_SIZE"]
        not_applicable_unless(count <= most, f"MAX_MESSAGE_SIZE is {most}")
        message = ctx.rng.randbytes(count)
        stream = conn.open("conformance.echo", end=False)
        await stream.send_message(message)
        await stream.send_message(b"next", end=True)
        _check_list(ctx, await stream.result(within=10.0), [message, b"next"])

    checks = ["same-list"]
    declare(f"MSG-001/size-{name}", title, echoed_size, checks=checks, features=["conformance"])


_declare_size("0", "An empty message keeps its boundaries in both directions.", 0)
_declare_size("1", "A message of 1 octet keeps its boundaries in both directions.", 1)
_declare_size("100", "A message of 100 octets keeps its boundaries in both directions.", 100)
_declare_size("max-frame", "A message of MAX_FRAME_SIZE octets comes back whole.", None)
_declare_size("max-frame-plus-1", "One octet above MAX_FRAME_SIZE is split with MORE.", None, 1)
_declare_size("8-mib", "A message of 8 MiB, far above all windows, comes back whole.", LARGE)


async def _send_chunks(stream: Stream, chunks: Sequence[Chunk]) -> None:
    for data, flags in chunks:
        stream.send(data, end="end" in flags, more="more" in flags)


def _declare_split(name: str, title: str, chunks: Sequence[Chunk], expected: list[bytes]) -> None:
    async def split(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = conn.open("conformance.echo", end=False)
        await _send_chunks(stream, chunks)
        _check_list(ctx, await stream.result(), expected)

    checks = ["same-list"]
    declare(f"MSG-001/{name}", title, split, checks=checks, features=["conformance"])


_LETTERS = [bytes([97 + index % 26]) for index in range(1_000)]
_declare_split(
    "chunks-of-one-octet",
    "A receiver accepts chunks of 1 octet.",
    [*((letter, "more") for letter in _LETTERS[:-1]), (_LETTERS[-1], "end")],
    [b"".join(_LETTERS)],
)
_declare_split(
    "empty-chunks-between",
    "A receiver accepts chunks of 0 octets anywhere in a message.",
    [(piece, "more") for letter in _LETTERS[:200] for piece in (b"", letter, b"")]
    + [(b".", "end")],
    [b"".join(_LETTERS[:200]) + b"."],
)
_declare_split(
    "empty-first-chunk",
    "A message may begin with a chunk of 0 octets.",
    [(b"", "more"), (b"abc", ""), (b"", "end")],
    [b"abc"],
)
_declare_split(
    "empty-last-chunk",
    "A message may end with a chunk of 0 octets.",
    [(b"abc", "more"), (b"", ""), (b"def", "end")],
    [b"abc", b"def"],
)
_declare_split(
    "back-to-back",
    "Messages in one write stay apart.",
    [(b"a", ""), (b"b", ""), (b"cd", "more"), (b"ef", ""), (b"a", ""), (b"a", "end")],
    [b"a", b"b", b"cdef", b"a", b"a"],
)


@case("MSG-001/one-write", checks=["same-list"], features=["conformance"])
async def one_write(ctx: Context) -> None:
    """Messages that arrive with their OPEN in one segment stay apart."""
    conn = await ctx.ready()
    opening = conn.opening("conformance.echo", b"first", end=False)
    stream = conn.stream(opening[16:32])
    bodies = [b"%d" % number for number in range(1, 51)]
    rest = [wire.request(stream.id, seq, body) for seq, body in enumerate(bodies, 1)]
    conn.send(opening, *rest, wire.request(stream.id, 51, end=True))
    _check_list(ctx, await stream.result(), [b"first", *bodies])


@case("MSG-001/message-begun-in-open", checks=["same-list"], features=["conformance"])
async def message_begun_in_open(ctx: Context) -> None:
    """The OPEN carries the first chunk of the first message."""
    conn = await ctx.ready()
    stream = conn.open("conformance.echo", b"first ", end=False, more=True)
    stream.send(b"message")
    stream.send(b"second", end=True)
    _check_list(ctx, await stream.result(), [b"first message", b"second"])


@case("MSG-001/random-splits", checks=["same-list"], features=["conformance"])
async def random_splits(ctx: Context) -> None:
    """Boundaries of frames do not matter: any split of the same messages gives the same list."""
    conn = await ctx.ready()
    sizes = [ctx.rng.choice((0, 1, 2, 33, 700, 5_000)) for _ in range(12)]
    messages = [ctx.rng.randbytes(size) for size in sizes]
    stream = conn.open("conformance.echo", end=False)
    for message in messages:
        cuts = sorted(ctx.rng.randint(0, len(message)) for _ in range(ctx.rng.randrange(6)))
        for start, stop in zip([0, *cuts], [*cuts, None], strict=True):
            stream.send(message[start:stop], more=stop is not None)
    stream.finish()
    _check_list(ctx, await stream.result(), messages)


@case("MSG-001/long-responses", checks=["same-list"], features=["conformance"])
async def long_responses(ctx: Context) -> None:
    """Response messages longer than the client's MAX_FRAME_SIZE are split with MORE."""
    conn = await ctx.ready({"MAX_FRAME_SIZE": 16_384})
    parameters = {"bytes": 50_000, "messages": 3}
    messages = await conn.open("conformance.source", parameters).result()
    expected = bytes((31 * index + 7) % 256 for index in range(50_000))
    _check_list(ctx, messages, [expected] * 3)


# -- MSG-002 -----------------------------------------------------------------------------------


def _declare_empty(name: str, title: str, chunks: Sequence[Chunk], expected: list[bytes]) -> None:
    """Declare a row of the table of section 8.2; the first chunk is the OPEN's own."""

    async def empty(ctx: Context) -> None:
        conn = await ctx.ready()
        (data, flags), *rest = chunks
        stream = conn.open("conformance.echo", data, end="end" in flags, more="more" in flags)
        await _send_chunks(stream, rest)
        _check_list(ctx, await stream.result(), expected)

    checks = ["same-list"]
    declare(f"MSG-002/{name}", title, empty, checks=checks, features=["conformance"])


_declare_empty(
    "empty-open-with-end",
    "An empty OPEN with END_STREAM carries one empty message.",
    [(b"", "end")],
    [b""],
)
_declare_empty(
    "no-message",
    "An empty OPEN and an empty END_STREAM carry no message, and neither does the terminal.",
    [(b"", ""), (b"", "end")],
    [],
)
_declare_empty(
    "empty-open",
    "An empty OPEN without END_STREAM and MORE carries no message.",
    [(b"", ""), (b"a", "end")],
    [b"a"],
)
_declare_empty(
    "empty-end",
    "An empty REQUEST with END_STREAM outside a message carries no message.",
    [(b"a", ""), (b"", "end")],
    [b"a"],
)
_declare_empty(
    "empty-messages",
    "An empty frame with MORE clear, outside a message, is an empty message.",
    [(b"", ""), (b"", ""), (b"a", ""), (b"", ""), (b"", ""), (b"", "end")],
    [b"", b"a", b"", b""],
)
_declare_empty(
    "only-an-empty-message",
    "An empty frame behind an empty OPEN is one empty message.",
    [(b"", ""), (b"", ""), (b"", "end")],
    [b""],
)
_declare_empty(
    "end-inside-a-message",
    "An empty END_STREAM inside a message is the end of that message.",
    [(b"a", "more"), (b"", "end")],
    [b"a"],
)
_declare_empty(
    "empty-open-with-more",
    "An empty OPEN with MORE is an empty chunk of a message.",
    [(b"", "more"), (b"a", "end")],
    [b"a"],
)
_declare_empty(
    "message-of-empty-chunks",
    "A message of empty chunks only is one empty message.",
    [(b"", "more"), (b"", "more"), (b"", ""), (b"b", "end")],
    [b"", b"b"],
)
_declare_empty(
    "empty-chunks-then-end",
    "An empty OPEN with MORE that END_STREAM closes is one empty message.",
    [(b"", "more"), (b"", "end")],
    [b""],
)


@case("MSG-002/response-without-message", checks=["none"], features=["conformance?"])
async def response_without_message(ctx: Context) -> None:
    """A response may have no message: its empty terminal, seq 0, carries none."""
    conn = await ctx.ready()
    stream = conn.open("conformance.generate", {"count": 0})
    await stream.end()
    unknown = stream.error is not None and stream.error.code == wire.code("NOT_FOUND")
    not_applicable_unless(not unknown, "the target has no conformance.generate")
    messages = await stream.result()
    ctx.check("none", messages == [], expected="no message", actual=_brief(messages))


# -- MSG-003 -----------------------------------------------------------------------------------


@case(
    "MSG-003/one-octet-too-large",
    checks=["error", "fence", "freed"],
    twin="SET-004/full-message",
    features=["conformance"],
    exclusive=True,
)
async def one_octet_too_large(ctx: Context) -> None:
    """A message of MAX_MESSAGE_SIZE and one octet is refused, and its buffer is freed at once."""
    conn = await ctx.ready()
    size = conn.peer_settings["MAX_MESSAGE_SIZE"]
    not_applicable_unless(size <= MOST_MESSAGE, f"MAX_MESSAGE_SIZE is {size}, too much to try")
    stream = conn.open("conformance.sink", {}, end=False)
    await stream.send_message(bytes(size + 1), end=True)
    await conn.expect_stream_error(stream, "MESSAGE_TOO_LARGE", not_processed=False, within=10.0)
    expected = "buffered_bytes below 1 MiB"
    small = 1_048_576
    await settles(
        ctx, conn, lambda stats: stats["buffered_bytes"] < small, check="freed", expected=expected
    )


@case("MSG-003/sum-of-messages", checks=["served"], features=["conformance"], exclusive=True)
async def sum_of_messages(ctx: Context) -> None:
    """MAX_MESSAGE_SIZE limits each message and not their sum."""
    conn = await ctx.ready()
    size = conn.peer_settings["MAX_MESSAGE_SIZE"]
    not_applicable_unless(size <= MOST_MESSAGE, f"MAX_MESSAGE_SIZE is {size}, too much to try")
    stream = conn.open("conformance.sink", {}, end=False)
    await stream.send_message(bytes(size))
    await stream.send_message(bytes(size), end=True)
    await stream.result(check="served", within=10.0)


@case(
    "MSG-003/open-too-large",
    checks=["error", "fence"],
    twin="SET-004/full-open",
    features=["conformance"],
)
async def open_too_large(ctx: Context) -> None:
    """An OPEN whose own body exceeds MAX_MESSAGE_SIZE is refused with NOT_PROCESSED."""
    conn = await ctx.ready()
    size = conn.peer_settings["MAX_MESSAGE_SIZE"] + 1
    most = min(
        conn.peer_settings["MAX_FRAME_SIZE"],
        conn.peer_settings["INITIAL_STREAM_WINDOW"] - wire.HEADER_SIZE,
    )
    not_applicable_unless(size + OPEN_COST <= most, "no frame can carry more than a whole message")
    stream = conn.open("conformance.echo", bytes(size))
    await conn.expect_stream_error(stream, "MESSAGE_TOO_LARGE", not_processed=True)


# -- MSG-004 -----------------------------------------------------------------------------------


@case("MSG-004/incomplete-waits", checks=["same-list"], features=["conformance"])
async def incomplete_waits(ctx: Context) -> None:
    """A message without its last chunk is not delivered, however long it waits."""
    conn = await ctx.ready()
    stream = await echoing(conn)
    stream.send(b"incom", more=True)
    await conn.fence()
    await conn.call("conformance.echo", b"another request in the meantime")
    await conn.fence()
    stream.send(b"plete", end=True)
    _check_list(ctx, await stream.result(), [b"first", b"incomplete"])


@case("MSG-004/killed-inside-a-message", checks=["cancelled", "nothing"], features=["conformance"])
async def killed_inside_a_message(ctx: Context) -> None:
    """A message that a KILL leaves incomplete is not delivered."""
    conn = await ctx.ready()
    stream = await echoing(conn)
    stream.send(b"incomplete", more=True)
    stream.kill()
    await error_terminal(stream, "CANCELLED", check="cancelled")
    good = stream.messages == [b"first"]
    ctx.check("nothing", good, expected="['first']", actual=_brief(stream.messages))
