"""A call-home worker and a router over real sockets, and peers that a test plays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import muxwire
from io_harness import Peer
from muxwire.callhome import CallHomePath, Client, connect
from muxwire.callhome.pool import PoolConfig
from muxwire.handlers import Handler

POOL = PoolConfig(min_idle=0)


@asynccontextmanager
async def serving(
    handlers: Mapping[str, Handler] | None = None,
    *,
    pool: PoolConfig = POOL,
    allow: Iterable[str] = (),
    idle_timeout_ms: int | None = None,
    host: str = "127.0.0.1",
    **options: Any,
) -> AsyncIterator[tuple[CallHomePath, muxwire.Worker]]:
    """Serve handlers over call-home alone."""
    worker = muxwire.Worker(handlers or {}, **options)
    path = CallHomePath(worker, pool=pool, allow=allow, idle_timeout_ms=idle_timeout_ms)
    await path.start(host)
    try:
        yield path, worker
    finally:
        await worker.close()


@asynccontextmanager
async def home(
    handlers: Mapping[str, Handler] | None = None,
    *,
    recover: bool = False,
    pool: PoolConfig = POOL,
    **options: Any,
) -> AsyncIterator[tuple[Client, CallHomePath, muxwire.Worker]]:
    """Serve handlers, and call them."""
    async with (
        serving(handlers, pool=pool, **options) as (path, worker),
        connect(f"http://{path.addresses[0]}", recover=recover) as client,
    ):
        yield client, path, worker


def limited(**changes: Any) -> PoolConfig:
    """Return pool options."""
    return replace(POOL, **changes)


__all__ = ["POOL", "Peer", "home", "limited", "serving"]
