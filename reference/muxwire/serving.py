"""Serving until a signal: what `muxwire.serve` and `muxwire serve` have in common."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable, Mapping

from muxwire.core.config import Config
from muxwire.handlers import Handler
from muxwire.tcp.worker import Worker

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def serve(
    handlers: Mapping[str, Handler],
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    config: Config | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Run a worker until SIGTERM or SIGINT, then drain it (CLS-011).

    For anything else, such as two addresses or a worker inside a larger program, use `Worker`.

    Args:
        handlers: Async functions (one answer) and async generators (a stream), by subject.
        host: Where to listen; loopback by default (SEC-003).
        port: Where to listen; 0 takes a free port.
        config: Options of each connection.
        tls: What `server_context` returns, for TLS; without it octets travel as they are.

    Raises:
        OSError: the address cannot be listened on.
        InvalidArgument: the TLS context is not one for a server.
    """
    worker = Worker(handlers, config=config)
    await worker.start(host, port, tls=tls)
    await serve_until_stopped(worker)


async def serve_until_stopped(
    worker: Worker, *, announce: Callable[[], None] | None = None
) -> None:
    """Wait for a stop signal and drain a worker that listens; a second signal ends it at once.

    Args:
        worker: It is closed when this returns, also if this is cancelled.
        announce: Called once, when signals are taken care of.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Semaphore(0)
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.release)
    try:
        if announce is not None:
            announce()
        await stop.acquire()
        draining = asyncio.ensure_future(worker.drain())
        again = asyncio.ensure_future(stop.acquire())
        await asyncio.wait((draining, again), return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        if not draining.done():
            await asyncio.gather(worker.close(), draining)
    except BaseException:
        await worker.close()
        raise
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
