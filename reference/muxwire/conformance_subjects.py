"""The ten `conformance.*` subjects: handlers that let a judge see what a worker does.

Rules of this file: parameters are a JSON object in the first message; whatever is wrong with them
is INVALID_ARGUMENT.  They are off unless a worker is told to offer them (SEC-003).
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
import zlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Protocol

from muxwire._generated.registries import NON_RETRYABLE, ErrorCode
from muxwire.core.statistics import Statistics
from muxwire.errors import HandlerError
from muxwire.handlers import Handler, Request

PREFIX = "conformance."
STATS = PREFIX + "stats"
ECHO = PREFIX + "echo"
DRAIN = PREFIX + "drain"
_U32 = 2**32 - 1


class Host(Protocol):
    """What the subjects need to know of, and do to, the worker that offers them."""

    statistics: Statistics

    def information(self) -> dict[str, Any]:
        """Return the members of `conformance.info`."""

    def connections(self) -> int:
        """Return the number of open connections."""

    def buffered_bytes(self) -> int:
        """Return queued output, unread input and queued control output of all connections."""


def subjects(host: Host) -> dict[str, Handler]:
    """Return the conformance subjects of a worker."""
    handlers: dict[str, Handler] = {
        "echo": echo,
        "generate": generate,
        "sleep": sleep,
        "fail": fail,
        "sink": sink,
        "source": source,
        "headers": headers,
        "stats": _stats(host),
        "info": _info(host),
        "drain": drain,
    }
    return {PREFIX + name: handler for name, handler in handlers.items()}


# -- parameters ------------------------------------------------------------------------------------


def _invalid(text: str) -> HandlerError:
    return HandlerError(text, code=ErrorCode.INVALID_ARGUMENT)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


class _Parameters:
    """The JSON object of a first message, read with types and ranges."""

    def __init__(self, message: bytes | None) -> None:
        try:
            value = json.loads(message.decode(), parse_constant=_refuse) if message else {}
        except (ValueError, RecursionError):
            raise _invalid("the parameters are not JSON") from None
        if not isinstance(value, dict):
            raise _invalid("the parameters are not a JSON object")
        self._values: dict[str, Any] = value

    def integer(
        self, name: str, default: int | None = None, *, low: int = 0, high: int = _U32
    ) -> int:
        value = self._values.get(name, default)
        if value is None:
            raise _invalid(f"{name} is missing")
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _invalid(f"{name} is not an integer from {low} to {high}")
        return value

    def flag(self, name: str) -> bool:
        value = self._values.get(name, False)
        if not isinstance(value, bool):
            raise _invalid(f"{name} is not true or false")
        return value

    def text(self, name: str, default: str) -> str:
        value = self._values.get(name, default)
        if not isinstance(value, str):
            raise _invalid(f"{name} is not a string")
        return value


async def _parameters(request: Request) -> _Parameters:
    return _Parameters(await request.read())


# -- the subjects ----------------------------------------------------------------------------------


async def echo(request: Request) -> AsyncGenerator[bytes, None]:
    """Give each message back."""
    async for message in request:
        yield message


async def generate(request: Request) -> AsyncGenerator[bytes, None]:
    """Produce `count` numbered messages; STOP ends them early and well."""
    parameters = await _parameters(request)
    count = parameters.integer("count", high=2**63)
    size = parameters.integer("size", 16, low=8, high=2**24)
    interval = parameters.integer("interval_ms", 0) / 1000
    ignore_stop = parameters.flag("ignore_stop")
    ramp = bytes(range(256)) * (size // 256 + 2)
    for index in range(count):
        if request.stopped and not ignore_stop:
            return
        start = index % 256
        yield index.to_bytes(8) + ramp[start : start + size - 8]
        if interval and index + 1 < count:
            await _pause(request, interval, stoppable=not ignore_stop)
        elif index % 64 == 63:
            await asyncio.sleep(0)


async def _pause(request: Request, seconds: float, *, stoppable: bool) -> None:
    if not stoppable:
        await asyncio.sleep(seconds)
        return
    try:
        async with asyncio.timeout(seconds):
            await request.wait_stopped()
    except TimeoutError:
        pass


async def sleep(request: Request) -> bytes:
    """Answer after `ms`; refuse to be cancelled for `ignore_kill_ms`."""
    parameters = await _parameters(request)
    loop = asyncio.get_running_loop()
    end = loop.time() + parameters.integer("ms") / 1000
    patience = parameters.integer("ignore_kill_ms", 0) / 1000
    try:
        await asyncio.sleep(end - loop.time())
    except asyncio.CancelledError:
        # CAN-004: the handler that cannot be interrupted.
        end = min(end, loop.time() + patience)
        while (left := end - loop.time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                continue
        raise
    return b"ok"


async def fail(request: Request) -> AsyncGenerator[bytes, None]:
    """Produce `after` messages, then the error asked for."""
    parameters = await _parameters(request)
    code = parameters.integer("code", ErrorCode.APPLICATION_ERROR)
    after = parameters.integer("after", 0)
    flags = parameters.integer("flags", 0, high=0xFFFF)
    message = parameters.text("message", "failed on request")
    panic = parameters.flag("panic")
    for index in range(after):
        yield index.to_bytes(8)
    if panic:
        raise RuntimeError("conformance.fail was asked to panic")
    raise HandlerError(message, code=code, non_retryable=bool(flags & NON_RETRYABLE))


async def sink(request: Request) -> bytes:
    """Consume data messages and answer with their number, size and checksum."""
    parameters = await _parameters(request)
    stall = parameters.flag("stall")
    rate = parameters.integer("bps", 0, high=2**53)
    if stall:
        await asyncio.Event().wait()
    messages = octets = crc = 0
    async for data in request:
        messages += 1
        octets += len(data)
        crc = zlib.crc32(data, crc)
        if rate:
            await asyncio.sleep(len(data) / rate)
    return _json({"messages": messages, "bytes": octets, "crc32": crc})


async def source(request: Request) -> AsyncGenerator[bytes, None]:
    """Produce large messages of known octets."""
    parameters = await _parameters(request)
    size = parameters.integer("bytes", high=2**30)
    messages = parameters.integer("messages", 1)
    period = bytes((31 * k + 7) % 256 for k in range(256))
    data = (period * (size // 256 + 1))[:size]
    for _ in range(messages):
        yield data


async def headers(request: Request) -> bytes:
    """Tell what the request said about itself; send headers and trailers."""
    await request.read()
    request.send_headers([("content-type", "application/json")])
    request.trailers = [("usage", '{"requests": 1}')]
    return _json(
        {
            "headers": [list(pair) for pair in request.headers],
            "subject": request.subject,
            "timeout_ms": request.timeout_ms,
            "request_flags": request.request_flags,
        }
    )


def _stats(host: Host) -> Handler:
    async def stats(request: Request) -> bytes:
        parameters = await _parameters(request)
        reset_peak = parameters.flag("reset_peak")
        statistics = host.statistics
        usage = resource.getrusage(resource.RUSAGE_SELF)
        answer = {
            "active": statistics.active,
            "peak": statistics.peak,
            "opened": statistics.opened,
            "cancelled": statistics.cancelled,
            "connections": host.connections(),
            "buffered_bytes": host.buffered_bytes(),
            "rss_bytes": _resident(usage),
            "cpu_ms": round(1000 * time.process_time()),
        }
        if reset_peak:
            statistics.reset_peak()
        return _json(answer)

    return stats


def _resident(usage: resource.struct_rusage) -> int:
    """Return resident memory: now on Linux, the highest so far elsewhere."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _info(host: Host) -> Handler:
    async def info(request: Request) -> bytes:
        await request.read()
        return _json(host.information())

    return info


async def drain(request: Request) -> bytes:
    """Drain the connection behind the answer."""
    grace_ms = (await _parameters(request)).integer("grace_ms")
    request.drain_connection(grace_ms)
    return b"ok"


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()
