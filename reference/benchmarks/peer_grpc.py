"""grpc.aio with generic handlers and plain octets, so that no code is generated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from load import ITEM, PATIENCE, PAYLOAD, closed_loop, repeat

OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.so_reuseport", 0)]


async def echo(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    """Give the message back."""
    del context
    return request


async def items(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
    """Yield items."""
    del context
    count, paced = (int(word) for word in request.split())
    for _ in range(count):
        yield ITEM
        if paced:
            await asyncio.sleep(0)


@asynccontextmanager
async def serving() -> AsyncIterator[dict[str, Any]]:
    """Run a server."""
    server = grpc.aio.server(options=OPTIONS)
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Items": grpc.unary_stream_rpc_method_handler(items),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield {"target": f"127.0.0.1:{port}"}
    finally:
        await server.stop(0)


@asynccontextmanager
async def driving(target: str, pids: list[int]) -> AsyncIterator[dict[str, Any]]:
    """Open one channel: one connection."""
    async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
        call_echo = channel.unary_unary("/bench/Echo")
        call_items = channel.unary_stream("/bench/Items")

        async def call() -> bytes:
            return await call_echo(PAYLOAD, timeout=PATIENCE)

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
            parameters = f"{count} {int(paced)}".encode()

            async def once() -> int:
                number = 0
                async for item in call_items(parameters, timeout=PATIENCE):
                    number += item == ITEM
                return number

            return await repeat(once, expected=count, seconds=seconds, pids=pids)

        await channel.channel_ready()
        yield {"unary": unary, "stream": stream}
