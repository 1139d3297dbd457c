"""Scripted peers on real sockets, each in a thread, for the tests of the judge's engine."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from muxwire_conformance import case as cases
from muxwire_conformance.case import Case
from muxwire_conformance.context import Context
from muxwire_conformance.patience import Patience
from muxwire_conformance.target import Address

Script = Callable[[socket.socket], object]


class FakePeer:
    """Accept connections on a free port and run a script on each, until the test ends."""

    def __init__(self, script: Script, host: str = "127.0.0.1") -> None:
        self._script = script
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind((host, 0))
        self._listener.listen(256)
        self.port: int = self._listener.getsockname()[1]
        self.address = Address(host=host, port=self.port)
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> FakePeer:
        self._acceptor.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        assert not self.errors, self.errors

    def _accept(self) -> None:
        while True:
            try:
                sock, _address = self._listener.accept()
            except OSError:
                return
            sock.settimeout(20)
            self._sockets.append(sock)
            thread = threading.Thread(target=self._run, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        try:
            self._script(sock)
        except OSError:
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            sock.close()

    def stop(self) -> None:
        """Refuse new connections and end the ones that are there."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(10)
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Read so many octets; fewer only at the end of the connection."""
    data = b""
    while len(data) < size and (more := sock.recv(size - len(data))):
        data += more
    return data


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def closed_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def make_case(function: cases.CaseFunction, id: str = "FRM-002/made-up", **changes: Any) -> Case:
    """Build a case that is not in the registry."""
    values: dict[str, Any] = {
        "id": id,
        "requirements": (id.partition("/")[0],),
        "checks": ("one",),
        "twin": None,
        "role": "worker",
        "features": (),
        "exclusive": False,
        "timed": False,
        "limit": 10.0,
        "served": False,
        "function": function,
        "title": "A case of the tests.",
    }
    return Case(**{**values, **changes})


def make_context(address: Address, timeout: float = 2.0, **values: Any) -> Context:
    """Build a context without a case."""
    return Context(address=address, patience=Patience(timeout), seed=1, name="test", **values)


@contextlib.contextmanager
def registered(*chosen: Case) -> Iterator[dict[str, Case]]:
    """Put cases into the registry for a while."""
    for one in chosen:
        cases.CASES[one.id] = one
    try:
        yield cases.CASES
    finally:
        for one in chosen:
            del cases.CASES[one.id]
