"""A call-home worker and a router over real sockets, and peers that a test plays."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp.web
import muxwire
from callhome_core import PREFACE
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


class FakeWorker:
    """An HTTP endpoint that answers as the test says."""

    address = ""
    last: dict[str, str]

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._answer = (status, headers, body)
        self.posts: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def handle(self, request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        await request.read()
        self.posts.put_nowait(dict(request.headers))
        status, headers, body = self._answer
        return aiohttp.web.Response(status=status, headers=headers, body=body)

    async def dial(self) -> tuple[Peer, bytes, bytes]:
        """Call home; return the connection, and id and token of the POST."""
        fields = self.last = await self.posts.get()
        peer = await Peer.dial(fields["wch-addr"])
        await peer.send(PREFACE)
        assert (await peer.read(16))[:12] == PREFACE[:12]
        stream = bytes.fromhex(fields["wch-stream"].replace("-", ""))
        return peer, stream, base64.urlsafe_b64decode(fields["wch-token"] + "==")


@asynccontextmanager
async def faking(
    status: int = 202, headers: dict[str, str] | None = None, body: bytes = b""
) -> AsyncIterator[FakeWorker]:
    """Play a worker whose HTTP endpoint answers all alike."""
    fake = FakeWorker(status, headers or {}, body)
    server = await asyncio.get_running_loop().create_server(
        aiohttp.web.Server(fake.handle, access_log=None), "127.0.0.1", 0
    )
    fake.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield fake
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def answered(
    status: int = 202, headers: dict[str, str] | None = None, body: bytes = b"", **options: Any
) -> AsyncIterator[tuple[Client, FakeWorker]]:
    """Call a worker that the test plays."""
    options.setdefault("recover", False)
    async with (
        faking(status, headers, body) as fake,
        connect(f"http://{fake.address}", **options) as client,
    ):
        yield client, fake


__all__ = ["POOL", "FakeWorker", "Peer", "answered", "faking", "home", "limited", "serving"]
