"""Tools for the tests of the I/O layer: loops, raw peers, and `muxwire serve` as a process.

Nothing here sleeps: what is waited for is a condition or an event, and every wait has a limit.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import muxwire
import uvloop
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ERROR
from muxwire.core.settings import Settings
from muxwire.handlers import Handler
from muxwire.tcp.client import Connecting

LIMIT = 20.0
"""Seconds after which a test that waits has failed."""


class _NoWait(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """A selector that moves the clock on in place of waiting."""

    loop: VirtualLoop
    spins = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        found: list[Any] = super().select(0)
        self.spins += 1
        if not found and timeout != 0:
            assert timeout is not None, "nothing will ever happen"
            self.loop.now += timeout
            self.spins = 0
        if self.spins > 10_000:
            self.spins = 0
            raise AssertionError("the loop spins")
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time is a number; hours pass at once."""

    def __init__(self) -> None:
        self.now = 1_000.0
        selector = _NoWait()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
    "virtual": VirtualLoop,
}


def run(main: Coroutine[Any, Any, None], loop: str = "asyncio") -> None:
    """Run a test; tasks left behind and exceptions that nobody took are failures."""
    faults: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: faults.append(context))
        runner.run(_limited(main, 1e6 if loop == "virtual" else LIMIT))
    gc.collect()
    assert not faults, faults


async def _limited(main: Coroutine[Any, Any, None], limit: float) -> None:
    async with asyncio.timeout(limit):
        await main
    for _ in range(3):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left


async def until(condition: Callable[[], object]) -> None:
    """Return when a condition holds."""
    async with asyncio.timeout(LIMIT / 2):
        while not condition():  # noqa: ASYNC110 - most conditions have no event
            await asyncio.sleep(0.001)


async def drained(stream: muxwire.Stream) -> tuple[list[bytes], muxwire.RequestFailed | None]:
    """Read a stream to its end; return its messages, and its error if it failed."""
    messages: list[bytes] = []
    try:
        async for message in stream:
            messages.append(message)  # a comprehension would lose what came before the error
    except muxwire.RequestFailed as error:
        return messages, error
    return messages, None


async def never() -> None:
    """Wait until cancelled."""
    await asyncio.Event().wait()


def connect_once(address: str, config: muxwire.Config | None = None) -> Connecting:
    """Connect with one connection that nothing replaces, and requests with one attempt."""
    return muxwire.connect(address, config=config, connections=1, recover=False)


@asynccontextmanager
async def connected(
    handlers: Mapping[str, Handler] | None = None,
    *,
    config: muxwire.Config | None = None,
    **options: Any,
) -> AsyncIterator[tuple[muxwire.Client, muxwire.Worker]]:
    """Serve handlers, and connect to them; `config` is the client's."""
    async with (
        muxwire.Worker(handlers or {}, **options) as worker,
        connect_once(worker.addresses[0], config) as client,
    ):
        yield client, worker


def small(**changes: int) -> muxwire.Config:
    """Return options with the smallest windows."""
    values = {"initial_stream_window": 65_536, "connection_window": 1_048_576, **changes}
    return muxwire.Config(settings=Settings.recommended(**values))


# -- raw peers -------------------------------------------------------------------------------------

PREFACE = codec.encode_preface(1, 1)
SETTINGS = codec.encode_settings([])
HELLO = PREFACE + SETTINGS + codec.encode_settings_ack()
"""What either side may say at once."""


class Frame(NamedTuple):
    """A frame as it was read."""

    type: int
    flags: int
    subtype: int
    seq: int
    request_id: bytes
    payload: bytes

    @property
    def error_code(self) -> int:
        """The code of an error terminal."""
        assert self.flags & ERROR
        return codec.decode_error_body(self.payload).code


GOAWAY = (3, 6)
REQUEST, RESPONSE = (1, 0), (2, 0)


def opening(request_id: bytes, subject: str, body: bytes = b"", *, end: bool = True) -> bytes:
    """Return an OPEN."""
    payload = codec.encode_open(0, 0, subject.encode(), []) + body
    return codec.request_header(4 | end, 0, len(payload), request_id) + payload


def response(request_id: bytes, seq: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """Return a RESPONSE."""
    return codec.response_header(flags, seq, len(payload), request_id) + payload


class Peer:
    """One end of a connection, octet by octet."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._octets = b""

    @classmethod
    async def dial(cls, address: str) -> Peer:
        """Connect to a worker."""
        host, port = muxwire.tcp.address.parse(address)
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        peer = cls(sock)
        await peer._loop.sock_connect(sock, (host, port))
        return peer

    @property
    def name(self) -> str:
        """Our address."""
        return muxwire.tcp.address.render(*self._sock.getsockname()[:2])

    async def greet(self, data: bytes) -> None:
        """Send a whole handshake and more octets; read the worker's preface."""
        await self.send(HELLO + data)
        assert await self.read(16) == PREFACE

    async def send(self, data: bytes) -> None:
        """Send octets."""
        await self._loop.sock_sendall(self._sock, data)

    async def read(self, size: int) -> bytes:
        """Read so many octets."""
        while len(self._octets) < size:
            data = await self._loop.sock_recv(self._sock, 1 << 20)
            if not data:
                raise EOFError(self._octets)
            self._octets += data
        data, self._octets = self._octets[:size], self._octets[size:]
        return data

    async def frame(self) -> Frame:
        """Read a frame."""
        header = await self.read(32)
        marker, type_, flags, subtype, seq, size, request_id = struct.unpack(">BBBBIQ16s", header)
        assert marker == 0xF7
        return Frame(type_, flags, subtype, seq, request_id, await self.read(size))

    async def frames(self, kind: tuple[int, int], last: int = 0) -> list[Frame]:
        """Read on to the first frame of a type and subtype that has flags; return its like."""
        found: list[Frame] = []
        while True:
            frame = await self.frame()
            if (frame.type, frame.subtype) == kind:
                found.append(frame)
                if frame.flags & last == last:
                    return found

    async def terminal(self, request_id: bytes) -> Frame:
        """Read on to the terminal of a request."""
        while True:
            frame = await self.frame()
            if frame.request_id == request_id and frame.flags & END_STREAM:
                return frame

    async def some(self) -> bytes:
        """Read what there is, at least an octet."""
        data = self._octets or await self._loop.sock_recv(self._sock, 1 << 20)
        self._octets = b""
        if not data:
            raise EOFError
        return data

    async def rest(self) -> bytes:
        """Read to the end."""
        while data := await self._loop.sock_recv(self._sock, 1 << 20):
            self._octets += data
        return self._octets

    def half_close(self) -> None:
        """End our direction."""
        self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Reset the connection."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()

    async def __aenter__(self) -> Peer:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


@asynccontextmanager
async def crowd(address: str, size: int) -> AsyncIterator[list[Peer]]:
    """Connect so many peers, in order; what is left in the list in the end is closed."""
    peers: list[Peer] = []
    try:
        for _ in range(size):
            peers.append(await Peer.dial(address))
        yield peers
    finally:
        for peer in peers:
            peer.close()


class Listener:
    """A socket that listens and does nothing by itself."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._sock.setblocking(False)
        self.address = f"127.0.0.1:{self._sock.getsockname()[1]}"

    async def accept(self) -> Peer:
        """Return the next connection."""
        sock, _ = await asyncio.get_running_loop().sock_accept(self._sock)
        return Peer(sock)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()


@asynccontextmanager
async def impostor(
    hello: bytes = HELLO, config: muxwire.Config | None = None
) -> AsyncIterator[tuple[muxwire.Client, Peer]]:
    """Connect a client to a worker that is played by the test, which has read the handshake."""
    with Listener() as listener:
        connecting = asyncio.ensure_future(_dial(listener.address, config))
        async with await listener.accept() as peer:
            await peer.send(hello)
            client = await connecting
            await peer.read(16)
            await peer.frames((3, 2))
            try:
                yield client, peer
            finally:
                client.abort()
                await client.wait_closed()


async def _dial(address: str, config: muxwire.Config | None) -> muxwire.Client:
    return await connect_once(address, config)


def eventually(condition: Callable[[], object]) -> None:
    """Return when a condition holds; for tests of processes."""
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- muxwire serve ---------------------------------------------------------------------------------


class Served:
    """A `muxwire serve` process on a port that the kernel chose.

    Attributes:
        address: Where it listens.
        said: Its first line.
        process: The process.
    """

    def __init__(self, *options: str, cwd: str | None = None) -> None:
        command = [sys.executable, "-m", "muxwire", "serve", "--json", "--tcp", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
            env={**os.environ, "PYTHONWARNINGS": "error"},
        )
        self.address = ""
        self.said: dict[str, str] = {}

    def __enter__(self) -> Served:
        assert self.process.stdout is not None
        try:
            self.said = json.loads(first_line(self.process))
            self.address = self.said["tcp"]
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and self.process.returncode is None:
                assert self.stop() == ("", "", 0)
        finally:
            self.kill()

    def stop(self) -> tuple[str, str, int]:
        """Send SIGTERM; return what it wrote since its first line, and its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> tuple[str, str, int]:
        """Wait for its end; return what it wrote since its first line, and its exit code."""
        out, err = self.process.communicate(timeout=LIMIT)
        return out, err, self.process.returncode

    def kill(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
        if self.process.stdout and not self.process.stdout.closed:
            self.process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    """Return the first line of a process's standard output."""
    return lines(process, 1)[0]


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    """Return the next lines of a process's standard output, however they arrive."""
    assert process.stdout is not None
    limit = threading.Timer(LIMIT, process.kill)
    limit.start()
    try:
        found = [process.stdout.readline() for _ in range(count)]
    finally:
        limit.cancel()
        limit.join()
    assert found[-1].endswith("\n"), f"no line in time behind {found}"
    return found
