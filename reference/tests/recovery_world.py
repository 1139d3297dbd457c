"""A whole client in virtual time, whose workers and network the test plays.

Only the sockets are not there: a dial takes until the test lets a worker be reached, and what the
client writes is read off its transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
from fake_transport import FakeTransport
from muxwire._generated import codec
from muxwire.core.config import Config
from muxwire.core.recovery import Failure
from muxwire.errors import DialFailed, MuxwireError, Outcome, RequestFailed
from muxwire.tcp import client as tcp_client
from muxwire.tcp.client import Client
from muxwire.tcp.link import Link
from muxwire.tcp.stream import Exchange

HELLO = codec.encode_preface(1, 1) + codec.encode_settings([]) + codec.encode_settings_ack()


class Sink:
    """A caller's end: writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.failed: MuxwireError | None = None
        self.ruled: Failure | None = None

    def on_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        del headers
        self.heard.append("headers")

    def on_message(self, data: bytes, cost: int) -> None:
        del data, cost
        self.heard.append("message")

    def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        del trailers
        self.heard.append("end")

    def on_failed(self, error: MuxwireError) -> None:
        self.heard.append("failed")
        self.failed = error

    def on_writable(self) -> None:
        """Do nothing: all is sent at once."""

    def on_retry(self, ended: Failure, attempt: int, delay: float) -> None:
        del attempt, delay
        self.heard.append("retry")
        self.ruled = ended

    @property
    def outcome(self) -> Outcome | None:
        """Class of the attempt that has ended, or of the request."""
        if isinstance(self.failed, RequestFailed):
            return self.failed.outcome
        return None if self.ruled is None else self.ruled.outcome


class Line(FakeTransport):
    """A connection to the client, from the worker's end."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self.protocol = link.protocol(None, "")
        self.decoder = codec.FrameDecoder(codec.WORKER, 1 << 24)
        self.octets = b""
        self.read = 16  # the preface
        self.frames: list[codec.Frame] = []
        self.protocol.connection_made(self)

    def say(self, octets: bytes) -> None:
        """Send octets to the client."""
        assert self.protocol is not None
        self.protocol.data_received(octets)

    def see(self) -> list[codec.Frame]:
        """Return every frame that the client has written."""
        octets = b"".join(self.writes)
        if len(octets) > self.read:
            self.decoder.feed(octets[self.read :])
            self.read = len(octets)
            self.frames += self.decoder.frames()
        return self.frames


class World:
    """A client of two workers, and one request."""

    def __init__(self, *, pipeline: bool = False, idempotent: bool = True) -> None:
        self.reachable: dict[str, asyncio.Event] = {"a:1": asyncio.Event(), "b:1": asyncio.Event()}
        self.lines: list[Line] = []
        self.greets = not pipeline
        self.sink = Sink()
        self.client = Client(
            tuple(self.reachable), Config(), 1, True, 10.0, None, pipeline=pipeline
        )
        self.client.dial()
        self.idempotent = idempotent
        self.exchange: Exchange | None = None
        self.refusing = False
        self.dials: list[tuple[float, str]] = []
        self.under_way: list[str] = []

    async def dial(self, link: Link, tls: object) -> None:
        """Stand in for a dial: it takes until the worker is reachable."""
        del tls
        self.dials.append((self.client.now(), link.target))
        self.under_way.append(link.target)
        assert len(set(self.under_way)) == len(self.under_way), "two dials of one slot"  # REC-004
        try:
            if self.refusing:
                raise DialFailed("refused")
            await self.reachable[link.target].wait()
        finally:
            self.under_way.remove(link.target)
        self.lines.append(Line(link))
        if self.greets:
            self.lines[-1].say(HELLO)

    def gaps(self, target: str) -> list[float]:
        """Return the seconds between the dials of a worker."""
        times = [at for at, dialled in self.dials if dialled == target]
        return [round(after - before, 3) for before, after in pairwise(times)]

    async def turn(self) -> None:
        for _ in range(12):
            await asyncio.sleep(0)

    async def reach(self, target: str = "a:1") -> None:
        """Let a worker be dialled, once."""
        self.reachable[target].set()
        await self.turn()
        self.reachable[target].clear()

    async def ask(self, seconds: float | None = None) -> None:
        self.exchange = self.client.open(
            self.sink, "any", b"x", end=True, timeout=seconds, idempotent=self.idempotent
        )
        await self.turn()

    @property
    def request(self) -> Exchange:
        assert self.exchange is not None
        return self.exchange

    @property
    def line(self) -> Line:
        return self.lines[-1]

    def kinds(self) -> list[int]:
        """Kinds of the frames that any worker has seen of any attempt."""
        shown = (codec.REQUEST, codec.KILL)
        return [frame[0] for line in self.lines for frame in line.see() if frame[0] in shown]

    def answer(self, payload: bytes, flags: int, seq: int) -> None:
        request_id = self.request.request_id or bytes(15) + b"\x01"
        frame = codec.response_header(flags, seq, len(payload), request_id) + payload
        self.line.say(frame)


@asynccontextmanager
async def world(
    monkeypatch: pytest.MonkeyPatch, *, pipeline: bool = False, idempotent: bool = True
) -> AsyncIterator[World]:
    it = World(pipeline=pipeline, idempotent=idempotent)
    monkeypatch.setattr(tcp_client, "dial", it.dial)
    try:
        yield it
    finally:
        await it.client.close(0.0)
        for line in it.lines:
            line.lose()
        await it.turn()
