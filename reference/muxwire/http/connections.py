"""The open connections of a server that has no list of them, taken from those of the process.

Rules of this file: a connection is known by the inode of its socket, which no later one shares
while it lives.  A new connection has to bring a request in time, whatever it dribbles (P1-018).
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from muxwire._generated.registries import HTTP_HEADER_TIMEOUT_MS

Peer = tuple[str, int]

_OPEN_FILES = Path("/dev/fd")
_INTERVAL = 0.25
"""Seconds between two looks."""


def connected(
    ports: Container[int], inodes: Mapping[int, int] | None = None
) -> Iterator[tuple[int, Peer, socket.socket]]:
    """Give inode, peer and socket of each connection; the socket is to be used at once.

    Args:
        ports: Our own ports.
        inodes: Numbers of the open files to look at, by inode; all by default.
    """
    for inode, number in (_sockets() if inodes is None else inodes).items():
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as sock:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                local, remote = sock.getsockname(), sock.getpeername()
                if local[1] in ports:
                    yield inode, (remote[0], remote[1]), sock


def _sockets() -> dict[int, int]:
    """Return the numbers of the sockets of the process, by inode."""
    found = {}
    for entry in _OPEN_FILES.iterdir():
        with suppress(OSError):  # it is the folder itself, or closed by now
            status = os.fstat(int(entry.name))
            if stat.S_ISSOCK(status.st_mode):
                found[status.st_ino] = int(entry.name)
    return found


def shut(sockets: Iterable[socket.socket], how: int) -> None:
    """Shut connections down."""
    for sock in sockets:
        with suppress(OSError):  # it has ended by itself
            sock.shutdown(how)


class Newcomers:
    """Closes connections that bring no request.

    Args:
        ports: Our own ports.
        patience: Seconds until the first request.
    """

    def __init__(
        self, ports: Container[int], patience: float = HTTP_HEADER_TIMEOUT_MS / 1000
    ) -> None:
        self._ports = ports
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._welcome: set[int] = set()  # inodes of connections that need no look
        self._since: dict[int, float] = {}
        self._met: set[Peer] = set()
        self._timer = self._loop.call_later(_INTERVAL, self._look)

    def meet(self, peer: Peer) -> None:
        """Take that a peer has brought a request."""
        self._met.add(peer)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _look(self) -> None:
        self._timer = self._loop.call_later(_INTERVAL, self._look)
        now = self._loop.time()
        sockets = _sockets()
        self._welcome &= sockets.keys()
        fresh = {inode: sockets[inode] for inode in sockets.keys() - self._welcome}
        self._welcome |= fresh.keys()
        since: dict[int, float] = {}
        for inode, peer, sock in connected(self._ports, fresh):
            if peer in self._met:
                continue
            since[inode] = self._since.get(inode, now)
            if now - since[inode] >= self._patience:
                shut((sock,), socket.SHUT_RDWR)
        self._welcome -= since.keys()
        self._met.clear()
        self._since = since
