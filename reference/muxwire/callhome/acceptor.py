"""Accepting connections, as many as there are and no more than the process can have.

Rules of this file: all that wait in a listening socket are accepted in one turn of the loop.  A
loop that takes one in each turn, as uvloop does, is overrun by a burst.  Where file descriptors run
out, connections wait in the kernel and are accepted later.  Once it is closed it makes no protocol,
and a protocol that gets no transport hears that it has lost it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

logger = logging.getLogger("muxwire.connection")

BACKLOG = 1_024
AT_ONCE = 256
"""Connections accepted from one socket in one turn."""

PAUSE = 0.1
"""Seconds without accepting after the process has run out of something."""

_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """Listening sockets, and what is done with each connection.

    Args:
        make: Returns a protocol for a new connection.
    """

    def __init__(self, make: Callable[[], asyncio.BaseProtocol]) -> None:
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def listen(self, host: str, port: int) -> None:
        """Listen on every address that a host has; port 0 takes a free one.

        Raises:
            OSError: the address cannot be listened on.
        """
        found = await self._loop.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                self._sockets.append(self._bind(family, address))
        except BaseException:
            self.close()
            raise
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def _bind(self, family: int, address: tuple[object, ...]) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
        except BaseException:
            sock.close()
            raise
        return sock

    @property
    def names(self) -> list[tuple[str, int]]:
        """The host and port of each socket."""
        return [sock.getsockname()[:2] for sock in self._sockets]

    def close(self) -> None:
        """Accept nothing more; what has a protocol goes on."""
        self._closed = True
        for timer in self._paused.values():
            timer.cancel()
        self._paused.clear()
        for sock in self._sockets:
            self._loop.remove_reader(sock)
            sock.close()
        self._sockets.clear()

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _SHORT:
                    raise
                logger.warning("no connection can be accepted for now: %s", error.strerror)
                self._loop.remove_reader(sock)
                self._paused[sock] = self._loop.call_later(PAUSE, self._resume, sock)
                return
            connection.setblocking(False)
            task = self._loop.create_task(self._connect(connection))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _resume(self, sock: socket.socket) -> None:
        del self._paused[sock]
        self._loop.add_reader(sock, self._accept, sock)

    async def _connect(self, connection: socket.socket) -> None:
        if self._closed:
            connection.close()
            return
        protocol = self._make()
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
        except OSError as error:  # it is gone already
            connection.close()
            protocol.connection_lost(error)
