"""Both ends of a call-home connection without input and output, at times that a test chooses."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from muxwire._generated import codec
from muxwire._generated.registries import WCH_TOKEN_LIFETIME_MS, ErrorCode
from muxwire.core.callhome import CallHome, RouterEnd, RouterStream, WorkerEnd, WorkerStream
from muxwire.core.config import Config
from muxwire.core.events import Event
from muxwire.core.statistics import Statistics

ME, OTHER = b"\x11" * 16, b"\x22" * 16
TOKEN = b"\x33" * 16
PREFACE = codec.encode_wch_preface(1, 1, 0)
HELLO = codec.encode_hello(ME, TOKEN)
ACCEPT = codec.encode_accept(ME)
DONE = codec.encode_done(ME)
START = 100.0
LIFETIME = WCH_TOKEN_LIFETIME_MS / 1000


class Bench:
    """A worker's end, a router's end, and one stream at each."""

    def __init__(self, *, timeout: float | None = None, idle_timeout_ms: int = 0) -> None:
        self.now = START
        self.statistics = Statistics()
        self.worker = WorkerEnd(self.now, idle_timeout_ms)
        self.router = RouterEnd(self.judge, self.now, idle_timeout_ms)
        self.there = worker_stream(self.statistics)
        self.here = RouterStream(ME, TOKEN, None if timeout is None else self.now + timeout)
        self.sent = {True: b"", False: b""}  # by the worker, by the router
        self.said: dict[CallHome, list[Event]] = {self.worker: [], self.router: []}

    def judge(self, request_id: bytes, token: bytes) -> RouterStream | int:
        if request_id != ME or token != TOKEN:
            return ErrorCode.NOT_FOUND
        return self.here.verdict_on_hello or self.here

    def run(self) -> None:
        """Let octets flow until there are none."""
        moved = True
        while moved:
            moved = False
            for one, other in ((self.worker, self.router), (self.router, self.worker)):
                while data := pull(one, self.now):
                    self.sent[one is self.worker] += data
                    other.receive_data(data, self.now)
                    moved = True
        for end, said in self.said.items():
            said.extend(end.events())

    def post(self) -> None:
        """Let the POST be answered 202."""
        self.here.posted()
        self.here.admitted(self.now)

    def hello(self) -> None:
        """Exchange prefaces, and let the stream take the connection."""
        self.run()
        self.there.attempt(self.now)
        self.worker.hello(self.there, self.now)
        self.run()


def worker_stream(statistics: Statistics | None = None, timeout_ms: int = 0) -> WorkerStream:
    return WorkerStream(ME, TOKEN, Config(), START, timeout_ms=timeout_ms, statistics=statistics)


def pull(end: CallHome, now: float) -> bytes:
    """Take what an end writes, as a driver whose kernel takes everything."""
    data = end.data_to_send(now)
    if data:
        end.data_sent(len(data), now)
    return data


def pass_time(end: CallHome, now: float, until: float) -> float:
    """Let an end do what is due up to a time; return the time."""
    for _ in range(1_000):
        when = end.next_timeout()
        if when is None or when > until:
            return until
        now = max(now, when)
        end.handle_timeout(now)
        pull(end, now)
    raise AssertionError("the end spins")


def response(seq: int, payload: bytes = b"", flags: int = 0, request_id: bytes = ME) -> bytes:
    return codec.response_header(flags, seq, len(payload), request_id) + payload


def frames(octets: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield type, subtype and flags of each frame."""
    at = 0
    while at < len(octets):
        _, type_, flags, subtype, _, size = struct.unpack_from(">BBBBIQ", octets, at)
        yield type_, subtype, flags
        at += codec.HEADER_SIZE + size
