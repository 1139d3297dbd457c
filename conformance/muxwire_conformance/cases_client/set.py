"""Settings, as a client shows it: what it refuses, ignores, and obeys."""

from __future__ import annotations

from typing import Any

from muxwire_spec.registries import SETTINGS

from muxwire_conformance import wire
from muxwire_conformance.case import SAME, case
from muxwire_conformance.cases_client._steps import REFUSED, answered, declare
from muxwire_conformance.client_mode.context import ClientContext
from muxwire_conformance.client_mode.link import Link

MIB = 1_048_576


async def _offer(ctx: ClientContext) -> Link:
    await ctx.start()
    link = await ctx.accept()
    await link.offered()
    return link


async def _bad_settings(ctx: ClientContext, bad: list[tuple[str | int, int]]) -> None:
    link = await _offer(ctx)
    link.send(wire.preface())
    good = wire.settings([("IDLE_TIMEOUT_MS", 60_000)])
    link.violate(wire.settings(bad), instead_of=good + wire.settings_ack())
    await link.expect_connection_error("SETTINGS_ERROR")


for _setting in SETTINGS:
    for _word, _value in (("below", _setting.minimum - 1), ("above", _setting.maximum + 1)):

        async def _run(ctx: ClientContext, name: str = _setting.name, value: int = _value) -> None:
            await _bad_settings(ctx, [(name, value)])

        declare(
            f"SET-001/client-{_setting.name.lower().replace('_', '-')}-{_word}",
            f"A {_setting.name} {_word} its range is a connection error SETTINGS_ERROR.",
            _run,
            checks=REFUSED,
            twin="SET-001/client-limits-of-the-ranges",
        )


@case("SET-001/client-limits-of-the-ranges", role="client", checks=["least", "most"])
async def limits(ctx: ClientContext) -> None:
    """The least and the greatest value of every setting are accepted."""
    for check, which in (("least", "minimum"), ("most", "maximum")):
        if check == "least":
            link = await _offer(ctx)
        else:
            link = await ctx.accept()
            await link.offered()
        values = {one.name: getattr(one, which) for one in SETTINGS}
        link.greet(values)
        await link.expect("SETTINGS_ACK", check=check)
        await answered(ctx, link)
        await link.cut()


@case("SET-002/client-repeated", role="client", checks=REFUSED, twin=SAME)
async def repeated(ctx: ClientContext) -> None:
    """A setting that occurs twice is a connection error."""
    await _bad_settings(ctx, [("IDLE_TIMEOUT_MS", 60_000), ("IDLE_TIMEOUT_MS", 60_000)])


@case("SET-002/client-repeated-unknown", role="client", checks=REFUSED, twin=SAME)
async def repeated_unknown(ctx: ClientContext) -> None:
    """An unknown setting that occurs twice is a connection error too."""
    await _bad_settings(ctx, [(0x7777, 1), (0x7777, 2)])


@case("SET-002/client-unknown-ignored", role="client", checks=["works"])
async def unknown(ctx: ClientContext) -> None:
    """Unknown settings are ignored."""
    link = await _offer(ctx)
    link.send(wire.preface(), wire.settings([(0x7777, 1), (0x0000, 0)]), wire.settings_ack())
    await link.expect("SETTINGS_ACK", check="works")
    await answered(ctx, link, check="works")


@case(
    "SET-002/client-missing-is-assumed",
    role="client",
    checks=["frames", "window"],
    requirements=["SET-002", "SET-003", "FLW-001"],
)
async def missing(ctx: ClientContext) -> None:
    """A setting that is missing has its assumed value: frames of 16,384, windows of 65,536."""
    link = await _offer(ctx)
    link.auto_credit = False
    link.send(wire.preface(), wire.settings([]), wire.settings_ack())
    await link.expect("SETTINGS_ACK")
    call = ctx.request(bytes(200_000))
    one = await link.take()
    await link.wait_for(lambda: one.received_cost > 65_536 - 33)
    await link.fence()
    longest = max(frame.length for frame in one.frames)
    ctx.check("frames", longest <= 16_384, expected="16,384 at most", actual=longest)
    held = one.received_cost <= 65_536
    ctx.check("window", held, expected="65,536 at most", actual=one.received_cost)
    link.send(wire.window_update(1 << 20, request_id=one.id))
    await one.complete()
    one.answer()
    await call.succeeds([])


@case(
    "SET-003/client-splits",
    role="client",
    checks=["whole"],
    requirements=["SET-003", "MSG-001", "FLW-001"],
)
async def splits(ctx: ClientContext) -> None:
    """A message above the worker's MAX_FRAME_SIZE and stream window is split and comes whole."""
    link = await ctx.ready({"MAX_FRAME_SIZE": 16_384, "INITIAL_STREAM_WINDOW": 65_536})
    body = ctx.rng.randbytes(300_000)
    call = ctx.request(body)
    one = await link.take()
    got = await one.complete(within=5.0)
    ctx.check("whole", got == [body], expected="the message", actual=[len(m) for m in got])
    one.answer()
    await call.succeeds([])


async def _local(ctx: ClientContext, code: str, **request: object) -> None:
    link = await ctx.ready({"MAX_METADATA_SIZE": 8_192, "MAX_MESSAGE_SIZE": MIB})
    call = ctx.request(**request)  # type: ignore[arg-type]
    await call.fails("NOT_SENT", code, local=True, attempts=0, check="local")
    await answered(ctx, link)
    ctx.check(
        "nothing-sent",
        len(link.exchanges) == 1,
        expected="one OPEN, of another request",
        actual=len(link.exchanges),
    )


for _name, _code, _request in (
    ("message-above-limit", "MESSAGE_TOO_LARGE", {"body": bytes(MIB + 1)}),
    ("bad-subject", "INVALID_ARGUMENT", {"body": b"x", "subject": "no..subject"}),
    ("empty-subject", "INVALID_ARGUMENT", {"body": b"x", "subject": ""}),
    ("bad-key", "INVALID_ARGUMENT", {"body": b"x", "headers": [("Key", "v")]}),
    ("newline-in-value", "INVALID_ARGUMENT", {"body": b"x", "headers": [("k", "a\nb")]}),
    (
        "metadata-above-limit",
        "INVALID_ARGUMENT",
        {"body": b"x", "headers": [("k", "v" * 8_000), ("l", "v" * 500)]},
    ),
):

    async def _run_local(
        ctx: ClientContext,
        code: str = _code,
        request: dict[str, object] = _request,  # type: ignore[assignment]
    ) -> None:
        await _local(ctx, code, **request)

    declare(
        f"SET-003/client-{_name}",
        f"A request that the worker would not take ({_name}) completes locally as NOT_SENT.",
        _run_local,
        checks=["local", "nothing-sent"],
        requirements=["SET-003", "REC-002"],
    )


@case("SET-003/client-waits-for-settings", role="client", checks=["waits", "whole"])
async def waits_for_settings(ctx: ClientContext) -> None:
    """A request that exceeds an assumed value only waits for the worker's SETTINGS."""
    link = await _offer(ctx)
    body = bytes(MIB + 1)
    call = ctx.request(body)
    await ctx.sync()
    await link.until(lambda: False, 0.1)
    complete = any(one.ended for one in link.exchanges.values())
    ctx.check(
        "waits",
        not complete and call.final is None,
        expected="no whole request yet",
        actual=call.describe(),
    )
    await link.welcome()
    one = await link.take()
    got = await one.complete(within=5.0)
    ctx.check("whole", got == [body], expected="the message", actual=[len(m) for m in got])
    one.answer()
    await call.succeeds([])


async def _early(ctx: ClientContext, *requests: dict[str, Any]) -> None:
    """Make requests before the worker's SETTINGS: kept within assumed values, later all served."""
    link = await _offer(ctx)
    calls = [ctx.request(**request) for request in requests]
    await ctx.sync()
    await link.until(lambda: False, 0.3)
    early = ("SET-005", "ADM-001", "FLW-001", "FRM-003", "PAY-002", "SET-003")
    broken = [seen for seen in ctx.violations if seen.requirement in early]
    actual = broken[0].text if broken else "kept"
    ctx.check("within", not broken, expected="the assumed values kept", actual=actual)
    await link.welcome({"CONNECTION_WINDOW": 1 << 30, "INITIAL_STREAM_WINDOW": 1 << 22})
    link.auto_credit = False  # the announced initial values are enough
    for _call in calls:
        one = await link.take(check="served", within=5.0)
        await one.complete(check="served", within=5.0)
        one.answer()
    for call in calls:
        await call.succeeds([], within=5.0)


for _name, _title, _requests in (
    ("opens", "at most 100 OPENs", [{"body": b"x"}] * 120),
    ("windows", "65,536 for a stream", [{"body": bytes(1_000_000)}] * 2),
    ("connection", "1 MiB for the connection", [{"body": bytes(60_000)}] * 30),
    ("metadata", "metadata of 8,192", [{"headers": [("k", "v" * 8_000), ("l", "v" * 1_000)]}]),
    ("message", "messages of 1 MiB", [{"body": bytes(MIB + 1)}]),
):

    async def _run_early(ctx: ClientContext, requests: list[dict[str, Any]] = _requests) -> None:
        await _early(ctx, *requests)

    declare(
        f"SET-005/client-early-{_name}",
        f"Before the worker's SETTINGS the client keeps to {_title}, and then uses what it says.",
        _run_early,
        checks=["within", "served"],
        features=["headers"] if _name == "metadata" else [],
    )
