"""The server behind the HTTP path: granian, embedded in the loop of the worker.

Rules of this file: listening sockets are ours, one server to each address, so that port 0 and a
taken port behave as on the other paths.  HTTP/1.1 and HTTP/2 share the port.  Nothing outside this
file knows granian.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Iterator
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings, HTTP2Settings
from granian.log import LogLevels
from granian.server.embed import Server as Granian
from starlette.types import ASGIApp, Receive, Scope, Send

from muxwire._generated.registries import HTTP_HEADER_TIMEOUT_MS
from muxwire.http.connections import Newcomers, connected, shut

BACKLOG = 1_024
WRITE_BUFFER = 65_536
"""Octets of one answer that wait in the server, behind those that wait in the worker."""

FIELD_BUFFER = 65_536
"""Octets of fields that are read at all; more than P1-018 allows, so that 431 says why."""

_MOST = 65_536
_INHERITED = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),  # P1-004
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),  # whoever has gone without a word is noticed
)
"""Options of a listening socket that its connections have too."""

_QUIET = {"incremental": True, "handlers": {}, "loggers": {"_granian": {}}}
"""Logging as it is set up already; granian's own would replace it."""


class _Listening(Granian):
    """A server for a socket that listens already."""

    def __init__(self, app: ASGIApp, sock: socket.socket, requests: int) -> None:
        super().__init__(
            app,
            interface=Interfaces.ASGINL,
            http=HTTPModes.auto,
            websockets=False,
            backlog=BACKLOG,
            backpressure=most_connections(),
            http1_settings=HTTP1Settings(
                header_read_timeout=HTTP_HEADER_TIMEOUT_MS, max_buffer_size=FIELD_BUFFER
            ),
            http2_settings=HTTP2Settings(
                max_concurrent_streams=requests,
                max_headers_size=FIELD_BUFFER,
                max_send_buffer_size=WRITE_BUFFER,
            ),
            log_level=LogLevels.error,
            log_dictconfig=_QUIET,
        )
        self._listener = sock

    def _init_shared_socket(self) -> None:
        untyped: Any = (self, SocketHolder)
        server, holder = untyped
        server._shd = holder(self._listener.detach(), False, BACKLOG)


def most_connections() -> int:
    """Return how many connections are accepted: half of the files that the process may open.

    What granian calls backpressure counts connections, idle ones too; more wait in the kernel.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(4, min(soft // 2, _MOST))


class Server:
    """Serves an ASGI application on any number of addresses.

    Args:
        app: What is served.
        requests: How many requests are handed on at once, at least.

    Attributes:
        names: Host and port of each address.
    """

    def __init__(self, app: ASGIApp, requests: int) -> None:
        self._app = app
        self._requests = requests
        self._serving: list[tuple[_Listening, asyncio.Task[None]]] = []
        self._newcomers: Newcomers | None = None
        self._ports: set[int] = set()
        self.names: list[tuple[str, int]] = []

    async def listen(self, host: str, port: int) -> None:
        """Listen on every address that a host has; port 0 takes a free one.

        Raises:
            OSError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sockets = [*_bound((family, address) for family, _, _, _, address in dict.fromkeys(found))]
        for sock in sockets:
            self.names.append(sock.getsockname()[:2])
            self._ports.add(self.names[-1][1])
            granian = _Listening(self._serve, sock, self._requests)
            self._serving.append((granian, loop.create_task(granian.serve())))
        self._newcomers = Newcomers(self._ports)

    async def close(self, patience: float) -> None:
        """Listen no more, let connections end for so many seconds, then end them."""
        if self._newcomers is not None:
            self._newcomers.close()
        for granian, _ in self._serving:
            untyped: Any = granian
            untyped.stop()
        tasks = [task for _, task in self._serving]
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=patience)
            if left:  # clients that keep an idle connection
                shut((sock for _, _, sock in connected(self._ports)), socket.SHUT_RDWR)
                await asyncio.wait(left, timeout=patience)
        self._serving.clear()
        self.names.clear()

    def hang_up(self, peer: tuple[str, int]) -> None:
        """End the connection of a client."""
        shut((sock for _, who, sock in connected(self._ports) if who == peer), socket.SHUT_RD)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._newcomers is not None:
            host, port = scope["client"]
            self._newcomers.meet((host, int(port)))
        await self._app(scope, receive, send)


def _bound(addresses: Iterator[tuple[int, tuple[object, ...]]]) -> Iterator[socket.socket]:
    """Bind all or none."""
    sockets: list[socket.socket] = []
    try:
        for family, address in addresses:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for level, option, value in _INHERITED:
                sock.setsockopt(level, option, value)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    yield from sockets
