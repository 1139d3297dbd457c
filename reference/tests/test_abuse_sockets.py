"""Hostile peers over real sockets: the memory of a worker process, and that it goes on serving.

`test_abuse` has the whole list; here are the attacks that aim at memory.  What is measured is what
the worker says of itself in `conformance.stats`: its buffers, and by how much it has grown.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from io_harness import PREFACE, Peer, Served, connect_once, crowd, opening
from muxwire._generated import codec
from muxwire.core.config import Config

MIB = 1 << 20
WIDE = codec.encode_settings([(3, 1 << 30), (4, 1 << 30), (6, 1 << 30)])
GREETING = PREFACE + WIDE + codec.encode_settings_ack()
PEERS = 20


def identity(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture(scope="module")
def victim() -> Iterator[Served]:
    """A worker with frames of up to 16 MiB."""
    with Served(
        "--conformance",
        "--max-frame-size=16MiB",
        "--initial-stream-window=32MiB",
        "--idle-timeout-ms=60000",
    ) as process:
        yield process


async def stats(served: Served) -> dict[str, Any]:
    async with connect_once(served.address) as client:
        answer: dict[str, Any] = json.loads(await client.call("conformance.stats"))
    return answer


@asynccontextmanager
async def attack(served: Served, grown: int) -> AsyncIterator[list[Peer]]:
    """Let peers that have greeted attack; check the worker's memory, and that it serves."""
    before = await stats(served)
    async with crowd(served.address, PEERS) as peers:
        for peer in peers:
            await peer.send(GREETING)
        yield peers
        after = await stats(served)
        assert after["rss_bytes"] - before["rss_bytes"] < grown
        async with connect_once(served.address) as client:
            assert await client.call("conformance.echo", b"hi") == b"hi"
    for _ in range(1_000):
        last = await stats(served)
        if (last["active"], last["buffered_bytes"], last["connections"]) == (0, 0, 1):
            return
    raise AssertionError(f"not all is given back: {last}")


async def test_huge_lengths_that_never_come(victim: Served) -> None:
    """FRM-003: 20 headers that announce 16 MiB each take no memory."""
    async with attack(victim, 8 * MIB) as peers:
        for number, peer in enumerate(peers, 1):
            header = codec.request_header(4, 0, 16 * MIB, identity(number))
            await peer.send(header + bytes(100))


async def test_peers_that_read_nothing(victim: Served) -> None:
    """FLW-010, FLW-011: each holds its buffer, and no more, of what it has asked for."""
    async with attack(victim, 64 * MIB) as peers:
        for peer in peers:
            await peer.send(
                opening(identity(1), "conformance.generate", b'{"count": 1000000, "size": 16384}')
            )

        async with connect_once(victim.address) as client:
            full: dict[str, Any] = {}
            while full.get("active", 0) < PEERS:
                full = json.loads(await client.call("conformance.stats"))
            assert full["buffered_bytes"] <= PEERS * (Config().send_buffer + 2 * 16_416)


async def test_refusals_that_nobody_reads(victim: Served) -> None:
    """DOS-001, DOS-002: a GOAWAY or a reset ends them, at a MiB of answers at the latest."""
    async with attack(victim, PEERS * 2 * MIB) as peers:
        opens = [opening(identity(number), "no.such") for number in range(1, 20_001)]
        for peer in peers:
            with suppress(ConnectionResetError, BrokenPipeError):
                await peer.send(b"".join(opens))
        for peer in peers:
            with suppress(ConnectionResetError):
                assert b"DOS-001" in await peer.rest()


async def test_rapid_reset(victim: Served) -> None:
    """CAN-003, DOS-003: ten thousand requests that are killed at once, and all is given back."""
    async with attack(victim, 16 * MIB) as peers:
        for peer in peers[:5]:
            pairs = [
                opening(identity(n), "conformance.sleep", b'{"ms": 60000}')
                + codec.encode_kill(identity(n), 0)
                for n in range(1, 2_001)
            ]
            await peer.send(b"".join(pairs))
        for peer in peers[:5]:
            await peer.read(len(PREFACE))
            terminals = 0
            while terminals < 2_000:
                terminals += (await peer.frame()).type == 2
        after = await stats(victim)
        assert after["active"] == 0
        assert after["peak"] <= 5 * 128
