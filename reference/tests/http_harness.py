"""Workers of the HTTP path that a test plays, over HTTP/1.1 and HTTP/2, and clients that call them.

A test writes a script: what happens to each POST.  The script has the same calls in both versions,
so that one table of misbehaviour does for both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol, cast

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
from muxwire._generated.http import FORMATS
from muxwire.http import Client, connect

Pairs = Sequence[tuple[str, str]]


class Posted:
    """A request as it arrived."""

    def __init__(self, path: str, fields: Pairs, body: bytes) -> None:
        self.path = path
        self.fields = [(name.lower(), value) for name, value in fields]
        self.body = body

    def __getitem__(self, name: str) -> str:
        (value,) = (value for key, value in self.fields if key == name)
        return value

    def __contains__(self, name: str) -> bool:
        return any(key == name for key, _ in self.fields)

    @property
    def format(self) -> str:
        """The format that is asked for."""
        accept = self["accept"]
        return next(name for name, types in FORMATS.items() if accept == types[0])


class Exchange(Protocol):
    """A request, and what the worker makes of it."""

    posted: Posted

    async def head(self, status: int = 200, fields: Pairs | None = None) -> None:
        """Send status and fields; without fields, those of the format that is asked for."""

    async def data(self, octets: bytes) -> None:
        """Send octets of the body."""

    async def end(self) -> None:
        """End the body cleanly."""

    def cut(self) -> None:
        """End it in another way."""

    async def gone(self) -> None:
        """Return when the client has let go."""


Script = Callable[[Any], Awaitable[None]]


def fields_of(posted: Posted) -> Pairs:
    return [("content-type", posted["accept"]), ("cache-control", "no-store")]


# -- HTTP/1.1 --------------------------------------------------------------------------------------


class Exchange1:
    """An exchange over HTTP/1.1."""

    def __init__(
        self, posted: Posted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.posted = posted
        self.reader = reader
        self.writer = writer

    async def raw(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def head(self, status: int = 200, fields: Pairs | None = None) -> None:
        found = [*(fields_of(self.posted) if fields is None else fields)]
        if not any(name == "content-length" for name, _ in found):
            found.append(("transfer-encoding", "chunked"))
        lines = [f"HTTP/1.1 {status} x", *(f"{name}: {value}" for name, value in found)]
        await self.raw("".join(line + "\r\n" for line in [*lines, ""]).encode())

    async def data(self, octets: bytes) -> None:
        if octets:
            await self.raw(b"%x\r\n%b\r\n" % (len(octets), octets))

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    def cut(self) -> None:
        self.writer.close()

    async def gone(self) -> None:
        with suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass


async def read_request(reader: asyncio.StreamReader) -> Posted | None:
    """Read a request; None: there is no further one."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, path, version = first.split(" ")
    assert (method, version) == ("POST", "HTTP/1.1")
    fields = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    posted = Posted(path, fields, b"")
    posted.body = await reader.readexactly(int(posted["content-length"]))
    return posted


# -- HTTP/2 ----------------------------------------------------------------------------------------


class Exchange2:
    """An exchange over HTTP/2."""

    def __init__(self, posted: Posted, connection: Connection2, stream: int) -> None:
        self.posted = posted
        self.connection = connection
        self.stream = stream
        self.reset = asyncio.Event()

    async def head(self, status: int = 200, fields: Pairs | None = None) -> None:
        found = fields_of(self.posted) if fields is None else fields
        self.connection.h2.send_headers(self.stream, [(":status", str(status)), *found])
        self.connection.flush()

    async def data(self, octets: bytes) -> None:
        """Send octets as far as there is credit, and wait for more."""
        h2 = self.connection.h2
        while octets:
            if self.reset.is_set():
                raise ConnectionResetError
            room = min(h2.local_flow_control_window(self.stream), h2.max_outbound_frame_size)
            if room <= 0:
                await self.connection.credit()
                continue
            h2.send_data(self.stream, octets[:room])
            self.connection.flush()
            octets = octets[room:]

    async def end(self) -> None:
        if not self.reset.is_set():
            self.connection.h2.end_stream(self.stream)
            self.connection.flush()

    def cut(self) -> None:
        self.connection.h2.reset_stream(self.stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
        self.connection.flush()

    async def gone(self) -> None:
        await self.reset.wait()


class Connection2(asyncio.Protocol):
    """A connection of HTTP/2 at the worker's end.

    Attributes:
        resets: Stream and code of every RST_STREAM that came.
        goodbye: The code of the GOAWAY that came, or None.
    """

    transport: asyncio.Transport

    def __init__(self, worker: Played) -> None:
        self.worker = worker
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.h2.local_settings = h2.settings.Settings(
            client=False, initial_values=dict(worker.settings)
        )
        self.resets: list[tuple[int, int]] = []
        self.goodbye: int | None = None
        self.exchanges: dict[int, Exchange2] = {}
        self._requests: dict[int, tuple[Pairs, bytearray]] = {}
        self._credit: list[asyncio.Future[None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.worker.connections.append(self)
        self.worker.accepted += 1
        self.h2.initiate_connection()
        if not self.worker.mute:
            self.flush()

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.RequestReceived():
                    self._requests[event.stream_id] = event.headers, bytearray()
                    if self.worker.early:
                        self._begin(event.stream_id)
                case h2.events.DataReceived() if event.stream_id in self._requests:
                    self._requests[event.stream_id][1].extend(event.data)
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                case h2.events.StreamEnded() if event.stream_id in self._requests:
                    self._begin(event.stream_id)
                case h2.events.ConnectionTerminated():
                    self.goodbye = int(event.error_code)
                case h2.events.StreamReset():
                    self.resets.append((event.stream_id, int(event.error_code)))
                    if exchange := self.exchanges.get(event.stream_id):
                        exchange.reset.set()
                    self._wake()
                case h2.events.WindowUpdated():
                    self.worker.credits.append((event.stream_id, event.delta))
                    self._wake()
        if not self.worker.mute:
            self.flush()

    def connection_lost(self, _: Exception | None) -> None:
        self.worker.connections.remove(self)
        for exchange in self.exchanges.values():
            exchange.reset.set()
        self._wake()

    def _wake(self) -> None:
        waiting, self._credit = self._credit, []
        for future in waiting:
            future.set_result(None)

    def _begin(self, stream: int) -> None:
        fields, body = self._requests.pop(stream)
        path = dict(fields)[":path"]
        exchange = Exchange2(Posted(path, fields, bytes(body)), self, stream)
        self.exchanges[stream] = exchange
        self.worker.start(exchange)

    def goaway(self, last: int, code: int = 0) -> None:
        """Send GOAWAY past `h2`, which would end the connection with it."""
        head = b"\x00\x00\x08\x07\x00" + bytes(4)
        self.transport.write(head + last.to_bytes(4, "big") + code.to_bytes(4, "big"))

    def flush(self) -> None:
        if data := self.h2.data_to_send():
            self.transport.write(data)

    async def credit(self) -> None:
        """Return when a WINDOW_UPDATE has come."""
        future = asyncio.get_running_loop().create_future()
        self._credit.append(future)
        await future


# -- both ------------------------------------------------------------------------------------------


class Played:
    """A worker that a test plays.

    Attributes:
        address: Where it listens.
        posts: The requests so far.
        connections: The open connections of HTTP/2.
        credits: Stream and size of every WINDOW_UPDATE.
    """

    def __init__(self, script: Script, settings: dict[Any, int], mute: bool, early: bool) -> None:
        self.address = ""
        self.posts: list[Posted] = []
        self.connections: list[Connection2] = []
        self.credits: list[tuple[int, int]] = []
        self.settings = settings
        self.mute = mute
        self.early = early
        self.accepted = 0
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve1(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry out the script for one request after another."""
        self.accepted += 1
        try:
            while posted := await read_request(reader):
                self.posts.append(posted)
                with suppress(ConnectionError):
                    await self._script(Exchange1(posted, reader, writer))
                if writer.is_closing():
                    break
        finally:
            writer.close()

    def start(self, exchange: Exchange2) -> None:
        """Carry out the script for a request."""
        self.posts.append(exchange.posted)
        task = asyncio.ensure_future(self._carry_out(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, exchange: Exchange2) -> None:
        with suppress(ConnectionError):
            await self._script(exchange)

    async def settle(self) -> None:
        """Wait for the scripts."""
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def playing(
    version: int,
    script: Script,
    *,
    settings: dict[Any, int] | None = None,
    mute: bool = False,
    early: bool = False,
) -> AsyncIterator[Played]:
    """Listen on a port that the kernel chooses.

    Over HTTP/2 a worker that is `mute` sends nothing, and an `early` one begins with the fields.
    """
    played = Played(script, settings or {}, mute, early)
    loop = asyncio.get_running_loop()
    server: asyncio.Server
    if version == 1:
        server = await asyncio.start_server(played.serve1, "127.0.0.1", 0)
    else:
        server = await loop.create_server(lambda: Connection2(played), "127.0.0.1", 0)
    played.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield played
        await played.settle()
    finally:
        server.close()
        for connection in [*played.connections]:
            connection.transport.abort()
        await server.wait_closed()


def over(version: int) -> dict[str, Any]:
    """Return the option of a client that makes it speak this version."""
    return {"http2": True} if version == 2 else {}


@asynccontextmanager
async def played(
    version: int,
    script: Script,
    *,
    settings: dict[Any, int] | None = None,
    early: bool = False,
    **options: Any,
) -> AsyncIterator[tuple[Client, Played]]:
    """Call a worker that the test plays."""
    options.setdefault("recover", False)
    async with (
        playing(version, script, settings=settings, early=early) as worker,
        connect(f"http://{worker.address}", **over(version), **options) as client,
    ):
        yield client, worker
