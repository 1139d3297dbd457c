"""The entry of a child process: `peer.py serve|drive SYSTEM OPTIONS`.

A server says where it listens; a driver connects to it and then does what it is asked, one command
a line.  Both end with their stdin, and on Linux also with their parent.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from load import die_with_parent, own_pids, raise_file_limit

Commands = dict[str, Callable[..., Awaitable[dict[str, Any]]]]

SYSTEMS = {
    "muxwire": "peer_muxwire",
    "callhome": "peer_callhome",
    "paths": "peer_paths",
    "raw": "peer_raw",
    "aiohttp": "peer_aiohttp",
    "grpc": "peer_grpc",
    "nats": "peer_nats",
}


def say(**answer: Any) -> None:
    """Send one line to the parent."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def stdin_reader() -> asyncio.StreamReader:
    """Return stdin as a stream of the loop, so that the connections live on between commands."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def serve(serving: Callable[..., Any], options: dict[str, Any]) -> None:
    """Serve until stdin ends."""
    reader = await stdin_reader()
    context: AbstractAsyncContextManager[dict[str, Any]] = serving(**options)
    async with context as ready:
        gc.freeze()  # what was imported is no part of any measurement
        say(**{"pids": own_pids(), **ready})
        await reader.read()


async def drive(driving: Callable[..., Any], options: dict[str, Any]) -> None:
    """Carry out commands until stdin ends."""
    reader = await stdin_reader()
    context: AbstractAsyncContextManager[Commands] = driving(**options)
    async with context as commands:
        gc.freeze()
        say(pids=own_pids())
        while line := await reader.readline():
            request = json.loads(line)
            try:
                answer = await commands[request.pop("do")](**request)
            except Exception as error:
                say(error=f"{type(error).__name__}: {error}")
            else:
                say(**answer)


def main() -> None:
    """Run one child."""
    role, system, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    die_with_parent()
    raise_file_limit()
    try:
        module = importlib.import_module(SYSTEMS[system])
    except ModuleNotFoundError as error:
        say(unavailable=f"{error.name} is not installed")
        return
    reason = getattr(module, "missing", lambda: None)()
    if reason:
        say(unavailable=reason)
        return
    try:
        import uvloop

        factory: Callable[[], asyncio.AbstractEventLoop] | None = uvloop.new_event_loop
    except ModuleNotFoundError:
        factory = None
    work = serve(module.serving, options) if role == "serve" else drive(module.driving, options)
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(work)


if __name__ == "__main__":
    main()
