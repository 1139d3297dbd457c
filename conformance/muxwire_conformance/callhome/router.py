"""A port at which the judge waits for workers that call home."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

from muxwire_conformance import wire
from muxwire_conformance.callhome.link import HomeLink
from muxwire_conformance.target import Address
from muxwire_conformance.transport import Transport
from muxwire_conformance.verdict import Unprepared
from muxwire_conformance.wire import Fault, Frame

if TYPE_CHECKING:
    from muxwire_conformance.callhome.context import CallhomeContext
    from muxwire_conformance.callhome.delivery import Delivery

BACKLOG = 256


class Router:
    """One listener with an address of its own, hence one pool of the worker.

    Attributes:
        addr: What ``wch-addr`` says.
        greeting: The preface that each connection is answered with, None to answer nothing.
        first_greetings: What the first connections are answered with instead, one each.
        hang_up: Close each connection at once.
        links: Every connection, in the order of the dials.
        dialled: When each dial came, those that were hung up on included.
        peak: The most connections that were open at once.
        heard: Every HELLO, in the order of its arrival.
    """

    def __init__(self, context: CallhomeContext, host: str, port: int, advertised: Address) -> None:
        self.context = context
        self.greeting: bytes | None = wire.wch_preface()
        self.first_greetings: deque[bytes | None] = deque()
        self.hang_up = False
        self.peak = 0
        self.receive_buffer: int | None = None
        self.links: list[HomeLink] = []
        self.dialled: list[float] = []
        self.heard: list[tuple[HomeLink, Frame]] = []
        self.deliveries: dict[bytes, Delivery] = {}
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._sock.setblocking(False)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sock.bind((host, port))
            self._sock.listen(BACKLOG)
        except OSError as error:
            self._sock.close()
            place = Address(host=host, port=port)
            raise Unprepared(f"to listen at {place} for workers", error.strerror or "") from error
        bound = int(self._sock.getsockname()[1])
        self.port = bound
        self.addr = str(Address(host=advertised.host, port=advertised.port or bound))
        self._open = True
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        while True:
            try:
                sock, _peer = self._sock.accept()
            except OSError:
                return
            self.dialled.append(time.monotonic())
            if self.hang_up:
                sock.close()
            else:
                self._take(sock)
            self.context.happened()

    def _take(self, sock: socket.socket) -> None:
        if self.receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        transport = Transport.accepted(sock)
        label = f"call-home connection {len(self.links) + 1} at {self.addr}"
        link = HomeLink(self.context, transport, label, self)
        if self.first_greetings:
            link.greeting = self.first_greetings.popleft()
        self.links.append(link)
        self.peak = max(self.peak, len(self.open_links))
        self.context.connections.append(link)
        transport.resume_reading()

    def hello(self, link: HomeLink, frame: Frame) -> None:
        """Take a HELLO; one with an id or a token that nobody said breaks P0-003."""
        self.heard.append((link, frame))
        known = self.deliveries.get(frame.request_id)
        if known is None or frame.payload != known.token:
            field = "request_id" if known is None else "token"
            link.note(Fault(requirement="P0-003", text=f"HELLO has a wrong {field}"), frame)

    @property
    def open_links(self) -> list[HomeLink]:
        """Return the connections that have not ended."""
        return [link for link in self.links if link.transport.end is None]

    def close(self) -> None:
        """Listen no more."""
        if self._open:
            self._open = False
            with contextlib.suppress(ValueError):
                asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()
