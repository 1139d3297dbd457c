"""nats-py: request and reply through a nats-server on loopback, a third process."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
from load import PATIENCE, PAYLOAD, closed_loop, die_with_parent
from nats.aio.msg import Msg

STARTING = 10.0
SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


def _binary() -> str | None:
    return shutil.which("nats-server", path=SEARCHED)


def missing() -> str | None:
    """Say what is not installed, if anything."""
    return None if _binary() else "nats-server is not installed"


def _address(folder: str) -> str | None:
    """Return the address in the file that the server writes when it listens."""
    for file in Path(folder).glob("*.ports"):
        try:
            return str(json.loads(file.read_text())["nats"][0])
        except (ValueError, LookupError):
            continue
    return None


async def _listening(folder: str) -> str:
    async with asyncio.timeout(STARTING):
        while (address := _address(folder)) is None:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.05)
    return address


@asynccontextmanager
async def serving() -> AsyncIterator[dict[str, Any]]:
    """Run a nats-server, and answer the echo in this process."""
    with tempfile.TemporaryDirectory() as folder:
        server = await asyncio.create_subprocess_exec(
            str(_binary()),
            *("-a", "127.0.0.1", "-p", "-1", "--ports_file_dir", folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        try:
            target = await _listening(folder)
            client = await nats.connect(target)

            async def echo(message: Msg) -> None:
                await message.respond(message.data)

            await client.subscribe("echo", cb=echo)
            await client.flush()
            yield {"target": target, "pids": [os.getpid(), server.pid]}
            await client.close()
        finally:
            server.kill()
            await server.wait()


@asynccontextmanager
async def driving(target: str, pids: list[int]) -> AsyncIterator[dict[str, Any]]:
    """Connect to the nats-server."""
    client = await nats.connect(target)

    async def call() -> bytes:
        return (await client.request("echo", PAYLOAD, timeout=PATIENCE)).data

    async def unary(in_flight: int, seconds: float, warmup: float) -> dict[str, Any]:
        return await closed_loop(
            [call],
            in_flight=in_flight,
            expected=PAYLOAD,
            seconds=seconds,
            warmup=warmup,
            pids=pids,
        )

    try:
        yield {"unary": unary}
    finally:
        await client.close()
