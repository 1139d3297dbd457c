"""TLS for the model worker: certificates made on the spot, and a listener with switchable flaws.

The worker demands TLS 1.3, the ALPN token and a client certificate (SEC-001, SEC-002).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import trustme

ALPN = "wmx/1"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Paths of PEM files; certificate and key are in one file."""

    ca: str
    worker: str
    client: str

    def target(self, port: int) -> str:
        """Return the target of a worker on loopback as the judge's command line takes it."""
        return f"tls://127.0.0.1:{port}?ca={self.ca}&cert={self.client}"


@functools.cache
def certificates() -> Certificates:
    """Make an authority and what it has signed, once for each process."""
    folder = Path(tempfile.mkdtemp(prefix="wmx-model-"))
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for name, host in (("worker", "127.0.0.1"), ("client", "client.invalid")):
        issued = authority.issue_cert(host)
        issued.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.pem"))
    names = ("ca", "worker", "client")
    return Certificates(*(str(folder / f"{name}.pem") for name in names))


def server_context(flaws: frozenset[str]) -> ssl.SSLContext:
    """Return the context of a worker that demands everything but for its flaws."""
    files = certificates()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.worker)
    context.load_verify_locations(files.ca)
    old = "sec-accepts-tls-1-2" in flaws
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if old else ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols([ALPN])
    if "sec-asks-for-no-certificate" in flaws:
        context.verify_mode = ssl.CERT_NONE
    elif "sec-certificate-is-optional" in flaws:
        context.verify_mode = ssl.CERT_OPTIONAL
    else:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def admitted(session: ssl.SSLObject, flaw: Callable[[str], bool]) -> bool:
    """Tell whether a session is good enough; a flaw that lets it in is reached here."""
    if session.version() != "TLSv1.3":
        flaw("sec-accepts-tls-1-2")
    if not session.getpeercert():
        flaw("sec-certificate-is-optional")
        flaw("sec-asks-for-no-certificate")
    return session.selected_alpn_protocol() == ALPN or flaw("sec-any-alpn")


class PeekingListener:
    """Accept plain connections beside TLS ones: what the flaw sec-plaintext-too does."""

    def __init__(
        self,
        host: str,
        factory: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext,
        flaw: Callable[[str], bool],
    ) -> None:
        self._sock = socket.create_server((host, 0), backlog=512)
        self._sock.setblocking(False)
        self._factory, self._context, self._flaw = factory, context, flaw
        self.sockets = (self._sock,)
        self._tasks = {asyncio.create_task(self._accept())}

    def close(self) -> None:
        """Stop listening."""
        for task in self._tasks:
            task.cancel()
        self._sock.close()

    async def wait_closed(self) -> None:
        """Wait until nothing is left."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _where = await loop.sock_accept(self._sock)
            task = asyncio.create_task(self._serve(sock))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(sock.fileno(), readable.set)
        await readable.wait()
        loop.remove_reader(sock.fileno())
        first = sock.recv(1, socket.MSG_PEEK)
        plain = first != b"\x16" and self._flaw("sec-plaintext-too")
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            context = None if plain else self._context
            await loop.connect_accepted_socket(self._factory, sock, ssl=context)
