"""muxwire itself: the worker and the client as users get them, with the whole protocol."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import muxwire
from load import ITEM, PATIENCE, PAYLOAD, closed_loop, repeat, resident

DIALS = 64
"""Dials at a time; a worker holds 128 connections whose handshake is not complete."""


async def echo(request: muxwire.Request) -> bytes | None:
    """Give the message back."""
    return await request.read()


async def items(request: muxwire.Request) -> AsyncGenerator[bytes, None]:
    """Yield items as fast as they go, or one in each turn of the loop."""
    parameters = json.loads(await request.read() or b"{}")
    paced = parameters["paced"]
    for _ in range(parameters["count"]):
        yield ITEM
        if paced:
            await asyncio.sleep(0)


async def endless(request: muxwire.Request) -> AsyncGenerator[bytes, None]:
    """Yield items that are all different until the client gives no more credit."""
    size = json.loads(await request.read() or b"{}")["size"]
    index = 0
    while True:
        yield index.to_bytes(size)
        index += 1


async def hang(request: muxwire.Request) -> None:
    """Never answer."""
    await request.read()
    await asyncio.get_running_loop().create_future()


async def memory(request: muxwire.Request) -> bytes:
    """Tell the resident memory, after a collection."""
    await request.read()
    gc.collect()
    return str(resident()).encode()


def _config(settings: dict[str, int]) -> muxwire.Config:
    return muxwire.Config(settings=muxwire.Settings.recommended(**settings))


@asynccontextmanager
async def serving(
    settings: dict[str, int] | None = None, max_connections: int = 1_024
) -> AsyncIterator[dict[str, Any]]:
    """Run a worker."""
    handlers: dict[str, muxwire.Handler] = {
        "echo": echo,
        "items": items,
        "endless": endless,
        "hang": hang,
        "memory": memory,
    }
    worker = muxwire.Worker(
        handlers,
        config=_config(settings or {}),
        max_connections=max_connections,
        conformance=True,
    )
    async with worker:
        yield {"target": worker.addresses[0]}


class Driver:
    """Connections to one worker, and what can be measured over them."""

    def __init__(
        self, target: str, pids: list[int], settings: dict[str, int], stack: AsyncExitStack
    ) -> None:
        self._target = target
        self._pids = pids
        self._config = _config(settings)
        self._stack = stack
        self._clients: list[muxwire.Client] = []
        self._streams: list[muxwire.Stream] = []

    async def dial(self, count: int) -> dict[str, Any]:
        """Open connections, a few at a time."""
        gate = asyncio.Semaphore(DIALS)

        async def one() -> None:
            async with gate:
                connecting = muxwire.connect(self._target, config=self._config, connections=1)
                client = await connecting
                self._stack.push_async_callback(client.close, 0.0)
                self._clients.append(client)

        await asyncio.gather(*(one() for _ in range(count)))
        return {"connections": len(self._clients)}

    async def unary(
        self, in_flight: int, seconds: float, warmup: float, connections: int = 1
    ) -> dict[str, Any]:
        """Echo 64 octets."""
        calls = [
            partial(client.call, "echo", PAYLOAD, timeout=PATIENCE)
            for client in self._clients[:connections]
        ]
        return await closed_loop(
            calls,
            in_flight=in_flight,
            expected=PAYLOAD,
            seconds=seconds,
            warmup=warmup,
            pids=self._pids,
        )

    async def stream(self, count: int, paced: bool, seconds: float) -> dict[str, Any]:
        """Read whole streams of small items, one after the other."""
        client = self._clients[0]
        parameters = json.dumps({"count": count, "paced": paced}).encode()

        async def once() -> int:
            number = 0
            async for item in client.stream("items", parameters, timeout=PATIENCE):
                number += item == ITEM
            return number

        return await repeat(once, expected=count, seconds=seconds, pids=self._pids)

    async def large(self, size: int, in_flight: int, seconds: float) -> dict[str, Any]:
        """Echo large messages."""
        client = self._clients[0]
        data = bytes(size)

        async def call() -> int:
            return len(await client.call("echo", data, timeout=PATIENCE))

        async def once() -> int:
            return sum(await asyncio.gather(*(call() for _ in range(in_flight))))

        return await repeat(once, expected=size * in_flight, seconds=seconds, pids=self._pids)

    async def open(self, subject: str, count: int, size: int = 0) -> dict[str, Any]:
        """Start requests that do not end, and read nothing of them."""
        body = json.dumps({"size": size}).encode()
        clients = self._clients[1:]  # the first one is for questions
        for index in range(count):
            client = clients[index % len(clients)]
            self._streams.append(client.stream(subject, body))
            if index % 256 == 255:
                await asyncio.sleep(0)
        return {"open": len(self._streams)}

    async def settle(self, limit: float) -> dict[str, Any]:
        """Wait until the worker buffers no more than before, and return what it says of itself."""
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        before, quiet = "", 0
        while quiet < 3 and loop.time() < end:
            stats = json.loads(await self._clients[0].call("conformance.stats"))
            now = f"{stats['buffered_bytes']} {stats['active']}"
            quiet = quiet + 1 if now == before else 0
            before = now
            await asyncio.sleep(0.1)
        gc.collect()
        stats["rss_bytes"] = int(await self._clients[0].call("memory"))
        stats["client_rss_bytes"] = resident()
        return {"stats": stats}

    async def hold(self, seconds: float) -> dict[str, Any]:
        """Send nothing for a while, then use every connection once."""
        await asyncio.sleep(seconds)
        answered = sum(client.round_trip is not None for client in self._clients)
        accepting = sum(client.accepting for client in self._clients)
        answers = await asyncio.gather(
            *(client.call("echo", PAYLOAD, timeout=PATIENCE) for client in self._clients),
            return_exceptions=True,
        )
        errors = [answer for answer in answers if answer != PAYLOAD]
        return {
            "held": len(answers) - len(errors),
            "accepting": accepting,
            "pinged": answered,
            "example": str(errors[0]) if errors else "",
        }


@asynccontextmanager
async def driving(
    target: str,
    pids: list[int],
    connections: int = 1,
    settings: dict[str, int] | None = None,
) -> AsyncIterator[dict[str, Any]]:
    """Connect, and offer what can be measured."""
    async with AsyncExitStack() as stack:
        driver = Driver(target, pids, settings or {}, stack)
        await driver.dial(connections)
        yield {
            "dial": driver.dial,
            "unary": driver.unary,
            "stream": driver.stream,
            "large": driver.large,
            "open": driver.open,
            "settle": driver.settle,
            "hold": driver.hold,
        }
