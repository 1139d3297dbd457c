"""Call-home: a router and a worker, with the pool or without it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import muxwire
from load import PATIENCE, PAYLOAD, closed_loop
from muxwire.callhome import CallHomePath, Client, connect
from muxwire.callhome.pool import Pool, PoolConfig, TargetStatistics

PLACES = 1_024
"""Requests that the worker takes at a time."""


async def echo(request: muxwire.Request) -> bytes | None:
    """Give the message back."""
    return await request.read()


def held() -> dict[str, int]:
    """Return how many descriptors and tasks this process has."""
    files = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return {"files": files, "tasks": len(asyncio.all_tasks())}


def counted(pool: Pool[Any]) -> dict[str, int]:
    """Return what the pool has counted."""
    (one,) = pool.statistics().values() or (TargetStatistics(),)
    return {"created": one.created, "reused": one.reused, "idle": one.idle, "active": one.active}


@asynccontextmanager
async def serving(pool: bool = True) -> AsyncIterator[dict[str, Any]]:
    """Run a worker."""

    async def books(request: muxwire.Request) -> bytes:
        await request.read()
        return json.dumps({**counted(path.pool), **held()}).encode()

    config = muxwire.Config(settings=muxwire.Settings.recommended(max_concurrent_requests=PLACES))
    worker = muxwire.Worker({"echo": echo, "books": books}, config=config)
    path = CallHomePath(worker, pool=PoolConfig(enabled=pool))
    await path.start("127.0.0.1")
    try:
        yield {"target": f"http://{path.addresses[0]}"}
    finally:
        await worker.close()


class Driver:
    """A router, and what can be measured over it."""

    def __init__(self, client: Client, pids: list[int]) -> None:
        self._client = client
        self._pids = pids
        self._call = partial(client.call, "echo", PAYLOAD, timeout=PATIENCE)

    async def unary(self, in_flight: int, seconds: float, warmup: float) -> dict[str, Any]:
        """Echo 64 octets, and tell what became of connections while counting."""
        before = await self._books()
        total = 0

        async def call() -> bytes:
            nonlocal total
            total += 1
            return await self._call()

        answer = await closed_loop(
            [call],
            in_flight=in_flight,
            expected=PAYLOAD,
            seconds=seconds,
            warmup=warmup,
            pids=self._pids,
            timed=True,
        )
        after = await self._books()
        created = after["created"] - before["created"]
        reused = after["reused"] - before["reused"]
        return {
            **answer,
            "created": 1_000 * created / total,
            "reuse": 100 * reused / (total + 1),  # this question's own connection is one more
        }

    async def soak(self, requests: int, in_flight: int) -> dict[str, Any]:
        """Send so many requests and tell what both processes hold afterwards."""
        left = requests
        errors = 0

        async def keep_busy() -> None:
            nonlocal left, errors
            while left > 0:
                left -= 1
                try:
                    errors += await self._call() != PAYLOAD
                except muxwire.MuxwireError:
                    errors += 1

        await asyncio.gather(*(keep_busy() for _ in range(in_flight)))
        worker = await self._books()
        return {"errors": errors, "example": "", "worker": worker, "router": held()}

    async def _books(self) -> dict[str, int]:
        books: dict[str, int] = json.loads(await self._client.call("books", timeout=PATIENCE))
        return books


class _Nothing:
    """A connection that is always there."""

    usable = True

    async def probe(self) -> bool:
        return True

    def close(self) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""


async def acquire(seconds: float) -> dict[str, Any]:
    """Borrow and give back the one connection of a pool that nobody else uses."""

    async def dial(_: str, __: Any) -> _Nothing:
        return _Nothing()

    pool = Pool(dial, PoolConfig(min_idle=0))
    (await pool.acquire("target")).release()
    done = 0
    begun = time.perf_counter()
    end = begun + seconds
    while (now := time.perf_counter()) < end:
        for _ in range(1_000):
            (await pool.acquire("target")).release()
        done += 1_000
    await pool.drain(0.0)
    return {"us": 1e6 * (now - begun) / done}


@asynccontextmanager
async def driving(target: str, pids: list[int]) -> AsyncIterator[dict[str, Any]]:
    """Connect, and offer what can be measured."""
    async with connect(target, recover=False) as client:
        driver = Driver(client, pids)
        yield {"unary": driver.unary, "soak": driver.soak, "acquire": acquire}
