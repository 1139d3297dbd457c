"""What the event loop itself can do: the ceilings that the others are compared with.

Three servers in one process.  `echo` gives back what it gets.  `mux` reads a 32-octet header with
`struct`, and answers with a frame of the same size; there are no futures, tasks, credit or
deadlines.  Asked for a stream it writes frames in batches of 64 KiB.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from load import ITEM, PAYLOAD, Meter, repeat

HEADER = struct.Struct(">BBBBIQ16s")  # marker, type, flags, subtype, seq, length, id
MARKER, REQUEST, RESPONSE, STREAM, PACED = 0xF7, 1, 2, 3, 4
BATCH = 1_024
IDS = [index.to_bytes(16) for index in range(1, 2_049)]


class Framed(asyncio.Protocol):
    """Cuts octets into frames."""

    def __init__(self) -> None:
        self._rest = b""
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def cut(self, data: bytes) -> list[tuple[int, bytes, bytes]]:
        """Return type, id and payload of every complete frame."""
        if self._rest:
            data = self._rest + data
        frames = []
        at, size = 0, len(data)
        unpack = HEADER.unpack_from
        while size - at >= 32:
            marker, kind, _, _, _, length, request_id = unpack(data, at)
            if marker != MARKER:
                raise ValueError("not a frame")
            end = at + 32 + length
            if end > size:
                break
            frames.append((kind, request_id, data[at + 32 : end]))
            at = end
        self._rest = data[at:]
        return frames


class MuxServer(Framed):
    """Answers every frame."""

    def __init__(self) -> None:
        super().__init__()
        self._streams: set[asyncio.Task[None]] = set()

    def data_received(self, data: bytes) -> None:
        """Answer with one write."""
        pack = HEADER.pack
        parts = []
        for kind, request_id, payload in self.cut(data):
            if kind == REQUEST:
                parts.append(
                    pack(MARKER, RESPONSE, 1, 0, 0, len(payload), request_id) + payload,
                )
            elif kind == STREAM:
                self._batches(request_id, int.from_bytes(payload))
            else:
                task = asyncio.create_task(self._paced(request_id, int.from_bytes(payload)))
                self._streams.add(task)
                task.add_done_callback(self._streams.discard)
        if parts:
            self.transport.write(b"".join(parts))

    def _batches(self, request_id: bytes, count: int) -> None:
        pack = HEADER.pack
        for start in range(0, count, BATCH):
            self.transport.write(
                b"".join(
                    [
                        pack(MARKER, RESPONSE, 0, 0, seq, len(ITEM), request_id) + ITEM
                        for seq in range(start, min(start + BATCH, count))
                    ]
                )
            )

    async def _paced(self, request_id: bytes, count: int) -> None:
        for seq in range(count):
            header = HEADER.pack(MARKER, RESPONSE, 0, 0, seq, len(ITEM), request_id)
            self.transport.write(header + ITEM)
            await asyncio.sleep(0)


class EchoServer(asyncio.Protocol):
    """Gives back what it gets."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Write it back."""
        self._transport.write(data)


class MuxClient(Framed):
    """Sends a new frame for each that comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.meter: Meter | None = None
        self.done: asyncio.Future[None] | None = None
        self._going = False
        self._timed = False
        self._open = 0
        self._begun = 0
        self._wanted = 0

    def start(self, meter: Meter, in_flight: int) -> None:
        """Begin with so many frames."""
        self.meter = meter
        self._going = True
        self._timed = in_flight == 1
        self._open = in_flight
        self._begun = time.perf_counter_ns()
        pack = HEADER.pack
        size = len(PAYLOAD)
        self.transport.write(
            b"".join(
                [pack(MARKER, REQUEST, 5, 0, 0, size, rid) + PAYLOAD for rid in IDS[:in_flight]]
            )
        )

    async def stop(self) -> None:
        """Send no more, and wait for what is under way."""
        self._going = False
        self.done = asyncio.get_running_loop().create_future()
        await self.done
        self.meter = None

    async def stream(self, count: int, paced: bool) -> int:
        """Ask for a stream and return the number of its items."""
        self._wanted = count
        self.done = asyncio.get_running_loop().create_future()
        kind = PACED if paced else STREAM
        self.transport.write(HEADER.pack(MARKER, kind, 5, 0, 0, 8, IDS[0]) + count.to_bytes(8))
        await self.done
        return count - self._wanted

    def data_received(self, data: bytes) -> None:
        """Count, and answer with one write."""
        frames = self.cut(data)
        meter = self.meter
        if meter is None:
            self._wanted -= sum([payload == ITEM for _, _, payload in frames])
            if self._wanted <= 0 and self.done is not None and not self.done.done():
                self.done.set_result(None)
            return
        if self._timed and frames:
            now = time.perf_counter_ns()
            meter.latencies.append(now - self._begun)
            self._begun = now
        pack = HEADER.pack
        size = len(PAYLOAD)
        parts = []
        for _, request_id, payload in frames:
            if payload == PAYLOAD:
                meter.done += 1
            else:
                meter.failed("a wrong answer")
            parts.append(pack(MARKER, REQUEST, 5, 0, 0, size, request_id) + PAYLOAD)
        if self._going:
            self.transport.write(b"".join(parts))
            return
        self._open -= len(frames)
        if self._open <= 0 and self.done is not None and not self.done.done():
            self.done.set_result(None)


class EchoClient(asyncio.Protocol):
    """Sends octets and waits until as many are back."""

    def __init__(self) -> None:
        self._left = 0
        self._back: asyncio.Future[None] | None = None
        self._meter: Meter | None = None
        self._begun = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    async def once(self, data: bytes, times: int) -> int:
        """Send some octets so many times, and return how many came back."""
        self._left = len(data) * times
        self._back = asyncio.get_running_loop().create_future()
        for _ in range(times):
            self._transport.write(data)
        await self._back
        return len(data) * times - self._left

    def start(self, meter: Meter) -> None:
        """Keep one payload going round."""
        self._meter = meter
        self._left = len(PAYLOAD)
        self._begun = time.perf_counter_ns()
        self._transport.write(PAYLOAD)

    async def stop(self) -> None:
        """Let the last payload come back."""
        self._back = asyncio.get_running_loop().create_future()
        self._meter = None
        await self._back

    def data_received(self, data: bytes) -> None:
        """Count."""
        self._left -= len(data)
        if self._left > 0:
            return
        if self._meter is None:
            if self._back is not None and not self._back.done():
                self._back.set_result(None)
            return
        now = time.perf_counter_ns()
        self._meter.latencies.append(now - self._begun)
        self._meter.done += 1
        self._begun = now
        self._left = len(PAYLOAD)
        self._transport.write(PAYLOAD)


@asynccontextmanager
async def serving() -> AsyncIterator[dict[str, Any]]:
    """Run both servers."""
    loop = asyncio.get_running_loop()
    mux = await loop.create_server(MuxServer, "127.0.0.1", 0)
    echo = await loop.create_server(EchoServer, "127.0.0.1", 0)
    async with mux, echo:
        yield {"target": [server.sockets[0].getsockname()[1] for server in (mux, echo)]}


@asynccontextmanager
async def driving(target: list[int], pids: list[int]) -> AsyncIterator[dict[str, Any]]:
    """Connect to both."""
    loop = asyncio.get_running_loop()
    _, mux = await loop.create_connection(MuxClient, "127.0.0.1", target[0])
    _, echo = await loop.create_connection(EchoClient, "127.0.0.1", target[1])

    async def count(seconds: float, warmup: float, meter: Meter) -> dict[str, Any]:
        await asyncio.sleep(warmup)
        meter.begin()
        await asyncio.sleep(seconds)
        return meter.end()

    async def unary(in_flight: int, seconds: float, warmup: float) -> dict[str, Any]:
        meter = Meter(pids)
        mux.start(meter, in_flight)
        result = await count(seconds, warmup, meter)
        await mux.stop()
        return result

    async def bare(in_flight: int, seconds: float, warmup: float) -> dict[str, Any]:
        del in_flight  # one, always
        meter = Meter(pids)
        echo.start(meter)
        result = await count(seconds, warmup, meter)
        await echo.stop()
        return result

    async def stream(count: int, paced: bool, seconds: float) -> dict[str, Any]:
        async def once() -> int:
            return await mux.stream(count, paced)

        return await repeat(once, expected=count, seconds=seconds, pids=pids)

    async def large(size: int, in_flight: int, seconds: float) -> dict[str, Any]:
        data = bytes(size)

        async def once() -> int:
            return await echo.once(data, in_flight)

        return await repeat(once, expected=size * in_flight, seconds=seconds, pids=pids)

    yield {"unary": unary, "bare": bare, "stream": stream, "large": large}
