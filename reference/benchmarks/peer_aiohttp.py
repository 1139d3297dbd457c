"""aiohttp as server and client: keep-alive for the echo, server-sent events for the stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web
from load import ITEM, PATIENCE, PAYLOAD, closed_loop, repeat


async def echo(request: web.Request) -> web.Response:
    """Give the body back."""
    return web.Response(body=await request.read())


async def items(request: web.Request) -> web.StreamResponse:
    """Write items as server-sent events."""
    count, paced = int(request.query["count"]), request.query["paced"] == "1"
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(count):
        await response.write(b"data: " + ITEM + b"\n\n")
        if paced:
            await asyncio.sleep(0)
    await response.write_eof()
    return response


@asynccontextmanager
async def serving() -> AsyncIterator[dict[str, Any]]:
    """Run a server without an access log."""
    application = web.Application()
    application.router.add_post("/echo", echo)
    application.router.add_get("/items", items)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=2_048).start()
        yield {"target": f"http://127.0.0.1:{runner.addresses[0][1]}"}
    finally:
        await runner.cleanup()


@asynccontextmanager
async def driving(target: str, pids: list[int]) -> AsyncIterator[dict[str, Any]]:
    """Open a session whose pool has no limit: HTTP/1.1 needs a connection per request in flight."""
    session = ClientSession(
        connector=TCPConnector(limit=0),
        timeout=ClientTimeout(total=PATIENCE),
        auto_decompress=False,
    )

    async def call() -> bytes:
        async with session.post(f"{target}/echo", data=PAYLOAD) as response:
            return await response.read()

    async def unary(in_flight: int, seconds: float, warmup: float) -> dict[str, Any]:
        return await closed_loop(
            [call],
            in_flight=in_flight,
            expected=PAYLOAD,
            seconds=seconds,
            warmup=warmup,
            pids=pids,
        )

    async def stream(count: int, paced: bool, seconds: float) -> dict[str, Any]:
        async def once() -> int:
            number, rest = 0, b""
            query = {"count": str(count), "paced": str(int(paced))}
            async with session.get(f"{target}/items", params=query) as response:
                async for chunk in response.content.iter_any():
                    events = (rest + chunk).split(b"\n\n")
                    rest = events.pop()
                    for event in events:
                        number += event.startswith(b"data: ") and event[6:] == ITEM
            return number

        return await repeat(once, expected=count, seconds=seconds, pids=pids)

    async with session:
        yield {"unary": unary, "stream": stream}
