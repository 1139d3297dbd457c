"""The ten conformance.* subjects of the model worker (section 19.1).

A handler is a coroutine over a `Stream`: `recv`, `send`, `stop`, headers and trailers. Parameters
are one JSON object in the first request message; an empty message, or none, is an empty object.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import model_wire as w

if TYPE_CHECKING:
    from model_stream import Stream

Handler = Callable[["Stream"], Awaitable[None]]

_INDEX = struct.Struct(">Q")
_RAMP = bytes(range(256))
_SOURCE = bytes((31 * k + 7) % 256 for k in range(256)) * 256
U32_MAX = 0xFFFFFFFF
BIG = 1 << 53


def _bad(text: str) -> w.CallError:
    return w.CallError(w.INVALID_ARGUMENT, text)


class Params:
    """The parameter object of one call."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def number(self, name: str, default: int | None, low: int = 0, high: int = BIG) -> int:
        """Return an integer field.

        Raises:
            CallError: It is missing without a default, no integer, or out of range.
        """
        value = self.values.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise _bad(f"parameter {name}")
        return value

    def boolean(self, name: str) -> bool:
        """Return a boolean field, false when absent.

        Raises:
            CallError: It is no boolean.
        """
        value = self.values.get(name, False)
        if not isinstance(value, bool):
            raise _bad(f"parameter {name}")
        return value


async def read_params(call: Stream) -> Params:
    """Read the first message as parameters.

    Raises:
        CallError: It is no JSON object.
    """
    message = await call.recv()
    if not message:
        return Params({})
    try:
        values = json.loads(message)
    except ValueError:
        raise _bad("parameters are not JSON") from None
    if not isinstance(values, dict):
        raise _bad("parameters are not an object")
    return Params(values)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


async def echo(call: Stream) -> None:
    """Send every message back."""
    while True:
        message = await call.recv()
        if message is None:
            return
        await call.send(message)


async def generate(call: Stream) -> None:
    """Send `count` numbered items."""
    params = await read_params(call)
    count = params.number("count", None)
    tail = params.number("size", 16, low=8, high=1 << 30) - 8
    interval = params.number("interval_ms", 0) / 1000
    deaf = params.boolean("ignore_stop")
    ramp = _RAMP * (tail // 256 + 2)
    for index in range(count):
        if index and interval:
            if deaf:
                await asyncio.sleep(interval)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(call.stop.wait(), interval)
        if call.stop.is_set() and not deaf:
            return
        start = index % 256
        await call.send(_INDEX.pack(index) + ramp[start : start + tail])


async def sleep(call: Stream) -> None:
    """Answer `ok` after a while; perhaps refuse to be cancelled."""
    params = await read_params(call)
    seconds = params.number("ms", None) / 1000
    stubborn = params.number("ignore_kill_ms", 0) / 1000
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        await asyncio.sleep(max(0.0, min(stubborn, until - loop.time())))
        raise
    await call.send(b"ok")


async def fail(call: Stream) -> None:
    """Send some messages, then fail as asked."""
    params = await read_params(call)
    code = params.number("code", w.APPLICATION_ERROR, high=U32_MAX)
    after = params.number("after", 0)
    flags = params.number("flags", 0, high=0xFFFF)
    text = params.values.get("message", "failed as asked")
    if not isinstance(text, str):
        raise _bad("parameter message")
    for index in range(after):
        await call.send(_INDEX.pack(index))
    if params.boolean("panic"):
        raise RuntimeError("asked to panic; this text stays inside")
    raise w.CallError(code, text, flags & w.NON_RETRYABLE)


async def sink(call: Stream) -> None:
    """Count and sum up what comes."""
    params = await read_params(call)
    speed = params.number("bps", 0)
    if params.boolean("stall"):
        await asyncio.get_running_loop().create_future()
    messages = octets = crc = 0
    while (data := await call.recv()) is not None:
        messages += 1
        octets += len(data)
        crc = zlib.crc32(data, crc)
        if speed:
            await asyncio.sleep(len(data) / speed)
    await call.send(_json({"messages": messages, "bytes": octets, "crc32": crc}))


async def source(call: Stream) -> None:
    """Send messages of a fixed pattern, in pieces."""
    params = await read_params(call)
    size = params.number("bytes", None)
    for _ in range(params.number("messages", 1)):
        left = size
        while left > len(_SOURCE):
            await call.send(_SOURCE, more=True)
            left -= len(_SOURCE)
        await call.send(_SOURCE[:left])


async def headers(call: Stream) -> None:
    """Show what the OPEN said, with response headers and trailers."""
    await read_params(call)
    call.response_headers = [("content-type", "application/json")]
    call.trailers = [("usage", '{"messages":1}')]
    seen = {
        "headers": [list(pair) for pair in call.headers],
        "subject": call.subject,
        "timeout_ms": call.timeout_ms,
        "request_flags": call.request_flags,
    }
    await call.send(_json(seen))


async def stats(call: Stream) -> None:
    """Report the counters of the process."""
    params = await read_params(call)
    reset = params.boolean("reset_peak")
    await call.send(_json(call.server.stats()))
    if reset:
        call.server.peak = call.server.active


async def info(call: Stream) -> None:
    """Say what this worker is."""
    await read_params(call)
    await call.send(_json(call.server.info()))


async def drain(call: Stream) -> None:
    """Answer, then drain this connection."""
    grace = (await read_params(call)).number("grace_ms", None, high=U32_MAX)
    await call.send(b"ok")
    call.drain_after = grace


SUBJECTS: dict[str, Handler] = {
    f"conformance.{handler.__name__}": handler
    for handler in (echo, generate, sleep, fail, sink, source, headers, stats, info, drain)
}
