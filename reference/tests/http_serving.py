"""The HTTP path under two servers, and peers that read what is on the wire.

`Http1` reads chunks as they come and tells a clean end from a cut; `Http2` drives the library `h2`.
Nothing here sleeps, and every wait has a limit.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import h2.config
import h2.connection
import h2.events
import muxwire
import uvicorn
from io_harness import LIMIT
from muxwire.handlers import Handler
from muxwire.http import HttpPath

ROOT = "/v1/rpc/response"
TYPES = {
    "sse": "text/event-stream",
    "ndjson": "application/x-ndjson",
    "binary": "application/vnd.wmx-stream",
}
CUT = "cut"
GOAWAY = 7


class Served:
    """A path that is served somewhere."""

    def __init__(self, path: HttpPath, worker: muxwire.Worker, port: int) -> None:
        self.path = path
        self.worker = worker
        self.port = port

    @property
    def idle(self) -> bool:
        """Whether no handler runs and no place is taken."""
        worker = self.worker
        return not (worker.statistics.active or worker.running_handlers or worker.posted)

    async def peer(self) -> Http1:
        """Connect over HTTP/1.1."""
        return Http1(*await asyncio.open_connection("127.0.0.1", self.port))


@asynccontextmanager
async def served(
    handlers: Mapping[str, Handler] | None = None,
    server: str = "granian",
    *,
    root: str | None = None,
    default_format: str | None = None,
    write_stall: float = 60.0,
    **options: Any,
) -> AsyncIterator[Served]:
    """Serve handlers over HTTP alone."""
    options.setdefault("conformance", True)
    worker = muxwire.Worker(handlers or {}, **options)
    path = HttpPath(worker, root=root, default_format=default_format, write_stall=write_stall)
    if server == "granian":
        await path.start()
        try:
            yield Served(path, worker, path.port)
        finally:
            await worker.close()
    else:
        async with by_uvicorn(path.app) as port:
            yield Served(path, worker, port)


@asynccontextmanager
async def by_uvicorn(app: Any) -> AsyncIterator[int]:
    """Serve an ASGI application by uvicorn in this loop."""
    config = uvicorn.Config(app, port=0, log_level="error", lifespan="on", ws="none")
    config.timeout_graceful_shutdown = 5
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    serving = asyncio.ensure_future(server._serve(sockets=[listener]))
    try:
        async with asyncio.timeout(LIMIT):
            while not server.started:  # noqa: ASYNC110 - uvicorn has no event
                await asyncio.sleep(0.001)
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
        listener.close()


class Answer:
    """A status line and fields."""

    def __init__(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.status = status
        self.headers = headers

    def __getitem__(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key == name]
        return ", ".join(found) if found else None


class Http1:
    """One connection of HTTP/1.1, read octet by octet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def __aenter__(self) -> Http1:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close without a word."""
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    async def send(
        self,
        subject: str,
        body: bytes = b"",
        *,
        method: str = "POST",
        path: str | None = None,
        headers: Mapping[str, str] | list[tuple[str, str]] = {},  # noqa: B006 - only read
        length: int | None = None,
    ) -> None:
        """Send a request."""
        target = f"{ROOT}/{subject}" if path is None else path
        pairs = [*headers.items()] if isinstance(headers, Mapping) else headers
        lines = [f"{method} {target} HTTP/1.1", "host: h"]
        lines += [f"{name}: {value}" for name, value in pairs]
        lines.append(f"content-length: {len(body) if length is None else length}")
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        self.writer.write(head + body)
        await self.writer.drain()

    async def answer(self) -> Answer:
        """Read the status and the fields."""
        async with asyncio.timeout(LIMIT / 2):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        pairs = [
            (name.lower(), value.strip()) for name, _, value in (x.partition(":") for x in lines)
        ]
        return Answer(int(first.split()[1]), pairs)

    async def chunk(self) -> bytes | None:
        """Read a chunk: b"" for the last one, None when the body is cut."""
        try:
            async with asyncio.timeout(LIMIT / 2):
                size = int(await self.reader.readuntil(b"\r\n"), 16)
                return (await self.reader.readexactly(size + 2))[:-2]
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def until(self, part: bytes, body: bytes = b"") -> bytes:
        """Read chunks until a part has come."""
        while part not in body:
            chunk = await self.chunk()
            assert chunk, (part, body)
            body += chunk
        return body

    async def rest(self, body: bytes = b"") -> tuple[bytes, str]:
        """Read to the end of the body; say how it ended."""
        octets = bytearray(body)
        while chunk := await self.chunk():
            octets += chunk
        return bytes(octets), CUT if chunk is None else "clean"

    async def sized(self, answer: Answer) -> bytes:
        """Read a body whose size is known."""
        async with asyncio.timeout(LIMIT / 2):
            return await self.reader.readexactly(int(answer["content-length"] or 0))

    async def refused(self) -> tuple[int, dict[str, Any], Answer]:
        """Read an answer with an error object."""
        answer = await self.answer()
        assert answer["content-type"] == "application/json"
        return answer.status, json.loads(await self.sized(answer)), answer

    async def eof(self) -> bool:
        """Tell whether the connection ends without a further octet."""
        async with asyncio.timeout(LIMIT / 2):
            try:
                return not await self.reader.read(1)
            except ConnectionError:
                return True

    async def call(self, subject: str, body: bytes = b"", **options: Any) -> tuple[Answer, bytes]:
        """Send a request and read the whole of a good answer."""
        await self.send(subject, body, **options)
        answer = await self.answer()
        assert answer.status == 200, await self.reader.read(2_000)
        octets, end = await self.rest()
        assert end == "clean"
        return answer, octets


class Http2:
    """One connection of HTTP/2 with prior knowledge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._events: defaultdict[int, deque[h2.events.Event]] = defaultdict(deque)
        self._wake = asyncio.Event()
        self._reading = asyncio.ensure_future(self._read())
        self.held: set[int] = set()  # streams that get no credit back
        self.over = False
        self.goaway = False

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator[Http2]:
        """Connect, and close in the end."""
        peer = cls(*await asyncio.open_connection("127.0.0.1", port))
        peer._h2.initiate_connection()
        peer._h2.increment_flow_control_window(2**24)
        await peer._flush()
        try:
            yield peer
        finally:
            peer._reading.cancel()
            await asyncio.gather(peer._reading, return_exceptions=True)
            peer._writer.close()
            with suppress(OSError):
                await peer._writer.wait_closed()

    async def post(
        self, subject: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> int:
        """Send a request; return its stream."""
        stream = self._h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":scheme", "http"), (":authority", "h")]
        fields += [(":path", f"{ROOT}/{subject}"), *(headers or {}).items()]
        self._h2.send_headers(stream, fields, end_stream=not body)
        if body:
            self._h2.send_data(stream, body, end_stream=True)
        await self._flush()
        return stream

    async def reset(self, stream: int) -> None:
        """Cancel a stream."""
        self._h2.reset_stream(stream, 8)
        await self._flush()

    async def event(self, stream: int) -> h2.events.Event:
        """Return the next event of a stream."""
        async with asyncio.timeout(LIMIT / 2):
            while not self._events[stream]:
                assert not self.over, "the connection has ended"
                self._wake.clear()
                await self._wake.wait()
        return self._events[stream].popleft()

    async def answer(self, stream: int) -> Answer:
        """Return status and fields."""
        event = await self.event(stream)
        assert isinstance(event, h2.events.ResponseReceived), event
        pairs = [(name.decode(), value.decode()) for name, value in event.headers]
        return Answer(int(dict(pairs)[":status"]), pairs)

    async def until(self, stream: int, part: bytes, body: bytes = b"") -> bytes:
        """Read until a part has come."""
        while part not in body:
            event = await self.event(stream)
            assert isinstance(event, h2.events.DataReceived), event
            body += event.data
        return body

    async def rest(self, stream: int, body: bytes = b"") -> tuple[bytes, str]:
        """Read to the end of a stream; say how it ended."""
        octets = bytearray(body)
        while isinstance(event := await self.event(stream), h2.events.DataReceived):
            octets += event.data
        assert isinstance(event, h2.events.StreamEnded | h2.events.StreamReset), event
        return bytes(octets), CUT if isinstance(event, h2.events.StreamReset) else "clean"

    async def give_credit(self, stream: int) -> None:
        """Let a stream go on that was held."""
        self.held.discard(stream)
        self._h2.increment_flow_control_window(2**24, stream)
        await self._flush()

    async def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())
        await self._writer.drain()

    async def _read(self) -> None:
        with suppress(ConnectionError):
            pending = b""
            while octets := await self._reader.read(65_536):
                pending = self._take(pending + octets)
                await self._flush()
        self.over = True
        self._wake.set()

    def _take(self, octets: bytes) -> bytes:
        """Take whole frames, and return the rest; h2 takes no DATA behind a GOAWAY."""
        start = 0
        while len(octets) - start >= 9:
            end = start + 9 + int.from_bytes(octets[start : start + 3])
            if end > len(octets):
                break
            if octets[start + 3] == GOAWAY:
                self.goaway = True
            else:
                for event in self._h2.receive_data(octets[start:end]):
                    self._on(event)
            start = end
        return octets[start:]

    def _on(self, event: h2.events.Event) -> None:
        stream = getattr(event, "stream_id", 0)
        taken = (
            h2.events.ResponseReceived,
            h2.events.DataReceived,
            h2.events.StreamEnded,
            h2.events.StreamReset,
        )
        if isinstance(event, taken):
            if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                if stream in self.held:
                    self._h2.increment_flow_control_window(event.flow_controlled_length)
                else:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, stream)
            self._events[stream].append(event)
        self._wake.set()
