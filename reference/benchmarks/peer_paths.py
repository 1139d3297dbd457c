"""One worker that serves all three paths, and clients of each."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import muxwire
import muxwire.callhome
import muxwire.http
from load import ITEM, PATIENCE, PAYLOAD, closed_loop, repeat, resident
from muxwire.callhome.pool import PoolConfig
from muxwire.tcp.caller import Caller
from peer_muxwire import echo, hang, items, memory

PLACES = 1_024
"""Requests that the worker takes at a time."""

STALLED = (100, 600)
"""Streams that are open while memory is measured."""


@asynccontextmanager
async def serving(pool: int | None = None) -> AsyncIterator[dict[str, Any]]:
    """Run a worker; `pool` is its limit of call-home connections, if not the usual one."""
    config = muxwire.Config(settings=muxwire.Settings.recommended(max_concurrent_requests=PLACES))
    handlers: dict[str, muxwire.Handler] = {
        "echo": echo,
        "items": items,
        "hang": hang,
        "memory": memory,
    }
    async with muxwire.Worker(handlers, config=config) as worker:
        limits = PoolConfig() if pool is None else PoolConfig(max_per_target=pool, max_total=pool)
        home = muxwire.callhome.CallHomePath(worker, pool=limits)
        await home.start("127.0.0.1")
        http = muxwire.http.HttpPath(worker)
        await http.start("127.0.0.1")
        yield {
            "target": {
                "tcp": worker.addresses[0],
                "callhome": f"http://{home.addresses[0]}",
                "http": f"http://{http.addresses[0]}",
            }
        }


class Driver:
    """A client, and what can be measured over it."""

    def __init__(self, client: Caller, pids: list[int]) -> None:
        self._client = client
        self._pids = pids

    async def unary(self, in_flight: int, seconds: float, warmup: float) -> dict[str, Any]:
        """Echo 64 octets."""
        return await closed_loop(
            [partial(self._client.call, "echo", PAYLOAD, timeout=PATIENCE)],
            in_flight=in_flight,
            expected=PAYLOAD,
            seconds=seconds,
            warmup=warmup,
            pids=self._pids,
            timed=True,
        )

    async def short(self, count: int, seconds: float, warmup: float) -> dict[str, Any]:
        """Read short streams, one behind the other."""
        return await closed_loop(
            [partial(self._read, count)],
            in_flight=1,
            expected=count,
            seconds=seconds,
            warmup=warmup,
            pids=self._pids,
            timed=True,
        )

    async def stream(self, streams: int, count: int, seconds: float) -> dict[str, Any]:
        """Read so many streams of so many items at a time."""

        async def once() -> int:
            return sum(await asyncio.gather(*(self._read(count) for _ in range(streams))))

        return await repeat(once, expected=streams * count, seconds=seconds, pids=self._pids)

    async def _read(self, count: int) -> int:
        body = json.dumps({"count": count, "paced": False}).encode()
        number = 0
        async with self._client.stream("items", body, timeout=PATIENCE) as stream:
            async for item in stream:
                number += item == ITEM
        return number

    async def stalled(self) -> dict[str, Any]:
        """Open streams that bring nothing, and tell what one more takes on either side."""
        sizes = []
        streams: list[muxwire.Stream] = []
        for number in STALLED:
            streams += [self._client.stream("hang", b"") for _ in range(number - len(streams))]
            for _ in range(3):  # behind them on the way
                await self._client.call("echo", PAYLOAD, timeout=PATIENCE)
            sizes.append(await self._memory())
        for stream in streams:
            stream.kill()
        few, many = sizes
        added = STALLED[1] - STALLED[0]
        return {side: (many[side] - few[side]) / added for side in few} | {"errors": 0}

    async def _memory(self) -> dict[str, int]:
        worker = int(await self._client.call("memory", timeout=PATIENCE))
        gc.collect()
        return {"worker": worker, "client": resident()}


def _connecting(path: str, target: dict[str, str], options: dict[str, Any]) -> Any:
    if path == "tcp":
        return muxwire.connect(target["tcp"], connections=1, recover=False)
    if path == "callhome":
        return muxwire.callhome.connect(target["callhome"], recover=False)
    return muxwire.http.connect(target["http"], recover=False, **options)


@asynccontextmanager
async def driving(
    target: dict[str, str], pids: list[int], path: str, **options: Any
) -> AsyncIterator[dict[str, Any]]:
    """Connect, and offer what can be measured."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_connecting(path, target, options))
        driver = Driver(client, pids)
        yield {
            "unary": driver.unary,
            "short": driver.short,
            "stream": driver.stream,
            "stalled": driver.stalled,
        }
