"""Steps that the cases of chapter 22 share, and how one is declared for both versions of HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from muxwire_conformance.case import SAME, CaseFunction, case
from muxwire_conformance.http.answer import Answer
from muxwire_conformance.http.connection import (
    BINARY_TYPE,
    FORMAT_TYPES,
    H1,
    H2,
    NDJSON_TYPE,
    SSE_TYPE,
    HttpConnection,
)
from muxwire_conformance.http.context import HttpContext

__all__ = [
    "BINARY_TYPE",
    "FORMAT_TYPES",
    "H1",
    "H2",
    "NDJSON_TYPE",
    "SAME",
    "SSE_TYPE",
    "TEXT_TYPES",
    "in_each_format",
    "over",
    "over_both",
    "source_octets",
]

TEXT_TYPES = (SSE_TYPE, NDJSON_TYPE)
HttpFunction = Callable[[HttpContext, str], Awaitable[None]]

_PATTERN = bytes((31 * k + 7) % 256 for k in range(256))


def over(
    versions: Sequence[str], id: str, *, checks: Sequence[str], **more: Any
) -> Callable[[HttpFunction], HttpFunction]:
    """Declare a case for some versions of HTTP; its id ends with the version.

    A twin of its own takes the version too.
    """
    twin = more.pop("twin", None)
    more.setdefault("features", ["conformance"])

    def register(function: HttpFunction) -> HttpFunction:
        for version in versions:
            own = _bind(twin, version) if callable(twin) else twin
            declare = case(f"{id}-{version}", checks=checks, twin=own, **more)
            declare(_bind(function, version))
        return function

    return register


def over_both(
    id: str, *, checks: Sequence[str], **more: Any
) -> Callable[[HttpFunction], HttpFunction]:
    """Declare a case for HTTP/1.1 and for HTTP/2."""
    return over((H1, H2), id, checks=checks, **more)


def _bind(function: HttpFunction, version: str) -> CaseFunction:
    async def bound(ctx: HttpContext) -> None:
        await function(ctx, version)

    bound.__doc__ = function.__doc__
    return bound


async def in_each_format(
    ctx: HttpContext,
    version: str,
    step: Callable[[HttpConnection, str], Awaitable[object]],
    types: Sequence[str] = FORMAT_TYPES,
) -> None:
    """Take a step in each format, side by side, each on a connection of its own."""
    connections = [await ctx.http(version) for _ in types]
    try:
        async with asyncio.TaskGroup() as group:
            for connection, type_ in zip(connections, types, strict=True):
                group.create_task(_one(step, connection, type_))
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _one(
    step: Callable[[HttpConnection, str], Awaitable[object]], connection: HttpConnection, type_: str
) -> None:
    await step(connection, type_)


def source_octets(size: int) -> bytes:
    """Return a message of ``conformance.source``."""
    return (_PATTERN * (size // 256 + 1))[:size]


def kinds(answer: Answer) -> list[str]:
    """Return the kinds of the events, in order."""
    return [event.kind for event in answer.events]
