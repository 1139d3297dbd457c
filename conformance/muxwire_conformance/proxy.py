"""A proxy that changes nothing and watches both sides: octets, ends and pace pass through it.

Rules of this file:

* An octet is passed on before anybody looks at it.
* A side that does not read stops the other side from being read: at most ``MOST_QUEUED`` octets
  wait in each direction.
* FIN is passed on as FIN behind what is queued, and RST as RST.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from muxwire_conformance.referee import CLIENT, WORKER
from muxwire_conformance.target import Address
from muxwire_conformance.transport import ConnectError, End, EndKind, Transport

MOST_QUEUED = 262_144
LAST_WORDS = 2.0
"""Seconds for which what is queued may still leave when the other side has reset."""


class Observer(Protocol):
    """Sees one connection."""

    def octets(self, sender: str, data: bytes, at: float) -> None:
        """Take octets that a side has sent."""

    def ended(self, sender: str, how: str, at: float) -> None:
        """Take the end of a side."""


class Proxy:
    """Listen, dial the target for each connection, and pass everything on.

    Args:
        target: Where connections go.
        observe: Makes the observer of a connection from the number and address of its client.
    """

    def __init__(self, target: Address, observe: Callable[[int, str], Observer]) -> None:
        self._target = target
        self._observe = observe
        self._count = 0
        self._listeners: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, address: Address) -> Address:
        """Listen, and return where; port 0 lets the system choose.

        Raises:
            OSError: the address cannot be used.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _name, where = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setblocking(False)
            listener.bind(where)
            listener.listen(512)
        except BaseException:
            listener.close()
            raise
        self._listeners.append(listener)
        self._spawn(self._accept(listener))
        return Address(host=address.host, port=int(listener.getsockname()[1]))

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, where = await loop.sock_accept(listener)
            except OSError:  # no descriptor left, or the client is gone already
                await asyncio.sleep(0.05)
                continue
            self._count += 1
            self._spawn(self._serve(sock, str(Address(host=where[0], port=where[1])), self._count))

    async def _serve(self, sock: socket.socket, name: str, number: int) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client = Transport(sock, record=False)
        observer = self._observe(number, name)
        try:
            worker = await Transport.connect(
                self._target.host, self._target.port, within=10.0, record=False
            )
        except ConnectError as error:
            observer.ended(WORKER, f"cannot be reached: {error}", time.monotonic())
            client.abort()
            return
        except BaseException:
            client.abort()
            raise
        try:
            to_worker = _Direction(CLIENT, client, worker, observer)
            to_client = _Direction(WORKER, worker, client, observer)
            client.resume_reading()
            await asyncio.gather(to_worker.over.wait(), to_client.over.wait())
        finally:
            client.close()
            worker.close()


class _Direction:
    """What one side sends, on its way to the other."""

    def __init__(self, sender: str, source: Transport, sink: Transport, observer: Observer) -> None:
        self.over = asyncio.Event()
        self._sender = sender
        self._source = source
        self._sink = sink
        self._observer = observer
        self._waiting: asyncio.Task[None] | None = None
        source.on_bytes = self._octets
        source.on_end = self._ended

    def _octets(self, data: bytes, at: float) -> None:
        self._sink.write(data)
        if self._sink.unwritten > MOST_QUEUED and self._waiting is None:
            self._source.pause_reading()
            self._waiting = asyncio.create_task(self._go_on())
        self._observer.octets(self._sender, data, at)

    async def _go_on(self) -> None:
        await self._sink.flushed(None)
        self._waiting = None
        self._source.resume_reading()

    def _ended(self, end: End) -> None:
        if end.kind is not EndKind.LOCAL:
            self._observer.ended(self._sender, end.describe(), end.at)
        self._waiting = asyncio.create_task(self._pass_end(end))

    async def _pass_end(self, end: End) -> None:
        if end.kind is EndKind.FIN:
            self._sink.half_close()
            await self._sink.flushed(None)
        else:
            await self._sink.flushed(LAST_WORDS)
            self._sink.abort()
        with contextlib.suppress(asyncio.CancelledError):
            self.over.set()
