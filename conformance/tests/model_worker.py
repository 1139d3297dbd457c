"""A small WMX/1 worker, written from the specification alone, with flaws to switch on.

It puts the conformance suite on trial: without flaws every case has to pass; each flaw breaks one
rule, and a case that cites that rule has to notice. It shares no code with the suite or with the
reference implementation. Run it as a program, or use `start` inside a test process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path

import model_tls
from model_connection import Connection
from model_flaws import FLAWS
from model_home import Home
from model_home_stream import HomeStream
from model_http_flaws import HTTP_FLAWS
from model_output import Output
from model_stream import Stream

EVERY_FLAW = FLAWS | HTTP_FLAWS


@dataclass(slots=True, kw_only=True)
class Config:
    """The suggested test configuration."""

    idle_timeout_ms: int = 3_000
    handshake_timeout_ms: int = 2_000
    max_concurrent: int = 128
    stream_window: int = 262_144
    connection_window: int = 8_388_608
    max_frame: int = 65_536
    max_metadata: int = 16_384
    max_message: int = 67_108_864
    max_connections: int = 64
    max_pending: int = 128
    drain_grace_ms: int = 3_000
    slow_consumer_ms: int = 60_000


@dataclass(eq=False)
class Server:
    """A listening worker and everything its connections share."""

    config: Config
    flaws: frozenset[str]
    port: int = 0
    active: int = 0
    peak: int = 0
    opened: int = 0
    cancelled: int = 0
    reached: set[str] = field(default_factory=set)
    pending: dict[Output, None] = field(default_factory=dict)
    connections: set[Output] = field(default_factory=set)
    everyone: set[Output] = field(default_factory=set)
    ports: dict[str, int] = field(default_factory=dict)
    handlers: set[Stream | HomeStream] = field(default_factory=set)
    all_ids: set[bytes] = field(default_factory=set)
    nonce: str = field(default_factory=lambda: os.urandom(8).hex())
    listener: asyncio.Server | model_tls.PeekingListener | None = None
    empty: asyncio.Event = field(default_factory=asyncio.Event)
    home: Home | None = None

    def flaw(self, name: str) -> bool:
        """Tell whether a mutation is on; say so once when its guard is reached."""
        if name not in self.flaws:
            return False
        if name not in self.reached:
            self.reached.add(name)
            sys.stderr.write(f"flaw reached: {name}\n")
            sys.stderr.flush()
        return True

    # Connections ------------------------------------------------------------------------------

    def connection_pending(self, conn: Output) -> None:
        """Take a new connection; the oldest pending one makes room for it (HSK-011)."""
        self.everyone.add(conn)
        self.empty.clear()
        self.pending[conn] = None
        if len(self.pending) > self.config.max_pending:
            next(iter(self.pending)).close_silently()

    def admit(self, conn: Output) -> bool:
        """Count a connection from its complete preface on; false when there are too many."""
        self.pending.pop(conn, None)
        count = len(self.connections)
        if self.pending and self.flaw("hsk-pending-count-as-connections"):
            count += len(self.pending)
        if count >= self.config.max_connections and not self.flaw("hsk-no-connection-limit"):
            return False
        self.connections.add(conn)
        return True

    def connection_closing(self, conn: Output) -> None:
        """Stop counting a connection that only lingers."""
        self.pending.pop(conn, None)
        self.connections.discard(conn)

    def connection_gone(self, conn: Output) -> None:
        """Forget a connection."""
        self.connection_closing(conn)
        self.everyone.discard(conn)
        if not self.everyone:
            self.empty.set()

    def remember_id(self, rid: bytes) -> None:
        """Keep an id for longer than its connection lives (only a flawed worker does)."""
        if "rec-ids-outlive-connection" in self.flaws:
            self.all_ids.add(rid)

    # Handlers ---------------------------------------------------------------------------------

    def full(self) -> bool:
        """Bound handlers of all connections, dead ones included."""
        return len(self.handlers) >= self.config.max_connections * self.config.max_concurrent

    def handler_started(self, stream: Stream | HomeStream) -> None:
        """Count a handler, unless it is the one that reads the counters."""
        self.handlers.add(stream)
        if stream.counted:
            self.opened += 1
            self.active += 1
            self.peak = max(self.peak, self.active)

    def handler_ended(self, stream: Stream | HomeStream) -> None:
        """Take a handler out of the count when it has really ended."""
        self.handlers.discard(stream)
        if stream.counted:
            self.active -= 1

    def stats(self) -> dict[str, int]:
        """Return the content of conformance.stats."""
        try:
            rss = int(Path("/proc/self/statm").read_text().split()[1])
            rss *= os.sysconf("SC_PAGE_SIZE")
        except OSError:
            rss = 0
        return {
            "active": self.active,
            "peak": self.peak,
            "opened": self.opened,
            "cancelled": self.cancelled,
            "connections": len(self.connections) + (self.home.connections if self.home else 0),
            "buffered_bytes": sum(conn.buffered() for conn in self.everyone)
            + (self.home.buffered() if self.home else 0),
            "rss_bytes": rss,
            "cpu_ms": int(time.process_time() * 1000),
        }

    def info(self) -> dict[str, object]:
        """Return the content of conformance.info."""
        return {
            "name": "wmx-model-worker",
            "version": "1",
            "nonce": self.nonce,
            "handshake_timeout_ms": self.config.handshake_timeout_ms,
            "max_connections": self.config.max_connections,
            "drain_grace_ms": self.config.drain_grace_ms,
            "slow_consumer_ms": self.config.slow_consumer_ms,
            "transports": list(self.ports),
            "ports": self.ports,
        }

    # Life -------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Refuse new connections, drain the others, return when all are gone (CLS-011)."""
        if self.listener is not None:
            self.listener.close()
        if self.flaw("cls-stop-signal-kills"):
            return
        for conn in list(self.pending):
            conn.close_silently()
        for conn in list(self.connections):
            conn.start_drain(self.config.drain_grace_ms)
        if self.everyone:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.empty.wait(), self.config.drain_grace_ms / 1000 + 2)

    async def close(self) -> None:
        """Stop at once: abort every connection, cancel every handler."""
        if self.home is not None:
            await self.home.close()
        if self.listener is not None:
            self.listener.close()
        for conn in list(self.everyone):
            conn.drop()
            conn.transport.abort()
        while tasks := [stream.task for stream in self.handlers if stream.task is not None]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.1)
        if self.everyone:
            await self.empty.wait()
        if self.listener is not None:
            await self.listener.wait_closed()


async def start(
    host: str = "127.0.0.1",
    port: int = 0,
    flaws: Iterable[str] = (),
    config: Config | None = None,
    tls: bool = False,
    callhome: bool = True,
) -> Server:
    """Listen on an address (port 0: the kernel chooses) and return the server.

    With TLS the certificates are those of ``model_tls``, and the kernel chooses the port.

    Raises:
        KeyError: A flaw has no such name.
        OSError: The address cannot be used.
    """
    names = frozenset(flaws)
    for name in names:
        EVERY_FLAW[name]
    server = Server(config or Config(), names)
    loop = asyncio.get_running_loop()
    context = model_tls.server_context(names) if tls else None
    if context is not None and "sec-plaintext-too" in names:
        server.listener = model_tls.PeekingListener(
            host, lambda: Connection(server), context, server.flaw
        )
    else:
        server.listener = await loop.create_server(
            lambda: Connection(server), host, port, backlog=512, ssl=context
        )
    server.port = server.ports["tcp"] = server.listener.sockets[0].getsockname()[1]
    if callhome:
        server.home = Home(server)
        await server.home.listen(host)
        server.ports["callhome"] = server.home.port
    return server


async def _serve(host: str, port: int, args: argparse.Namespace, config: Config) -> None:
    server = await start(host, port, args.flaw, config)
    loop = asyncio.get_running_loop()
    orders: asyncio.Queue[str] = asyncio.Queue()
    loop.add_signal_handler(signal.SIGTERM, orders.put_nowait, "drain")
    loop.add_signal_handler(signal.SIGINT, orders.put_nowait, "stop")
    if args.exit_with_stdin:
        loop.add_reader(sys.stdin.fileno(), _read_stdin, orders)
    shown = f"[{host}]" if ":" in host else host
    sys.stdout.write(json.dumps({"tcp": f"{shown}:{server.port}"}) + "\n")
    sys.stdout.flush()
    if await orders.get() == "drain":
        drain = asyncio.create_task(server.drain())
        again = asyncio.create_task(orders.get())
        await asyncio.wait((drain, again), return_when=asyncio.FIRST_COMPLETED)
        for task in (drain, again):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
    await server.close()


def _read_stdin(orders: asyncio.Queue[str]) -> None:
    if not os.read(sys.stdin.fileno(), 4_096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        orders.put_nowait("stop")


def main(argv: list[str] | None = None) -> int:
    """Run the worker as a program."""
    parser = argparse.ArgumentParser(description="A plain WMX/1 worker with switchable flaws.")
    parser.add_argument("--tcp", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--flaw", action="append", default=[], metavar="NAME")
    parser.add_argument("--list-flaws", action="store_true")
    parser.add_argument("--exit-with-stdin", action="store_true")
    for option in fields(Config):
        flag = "--" + option.name.replace("_", "-")
        parser.add_argument(flag, type=int, default=option.default, metavar="N")
    args = parser.parse_args(argv)
    if args.list_flaws:
        for flaw in EVERY_FLAW.values():
            sys.stdout.write(f"{flaw.name}\t{flaw.requirement}\t{flaw.what}\n")
        return 0
    for name in args.flaw:
        if name not in EVERY_FLAW:
            parser.error(f"no such flaw: {name}")
    host, _, port = args.tcp.rpartition(":")
    if not host or not port.isdigit():
        parser.error("--tcp needs HOST:PORT")
    config = Config(**{option.name: getattr(args, option.name) for option in fields(Config)})
    asyncio.run(_serve(host.strip("[]"), int(port), args, config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
