"""Tools for the tests of the core: a fake clock, a hand on the wire, and a link of two cores.

`Wire` holds one core and plays its peer octet by octet; it can say anything.  `Link` joins a client
and a worker.  Nothing here sleeps; time is a number.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Generic, TypeVar

from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ERROR, META, MORE, ErrorCode
from muxwire.core import (
    ClientConnection,
    CloseAction,
    Config,
    Connection,
    Settings,
    WorkerConnection,
)
from muxwire.core.events import ConnectionEnded, Event

REQUEST_TYPE, RESPONSE_TYPE, CONTROL_TYPE, HEARTBEAT_TYPE = 1, 2, 3, 4
ZERO = bytes(16)
ONES = b"\xff" * 16
SUBJECT = b"test.echo"
HUGE = 1 << 24

E = TypeVar("E")
C = TypeVar("C", bound=Connection[Any])


def raw(
    type_: int,
    *,
    flags: int = 0,
    subtype: int = 0,
    seq: int = 0,
    rid: bytes = ZERO,
    payload: bytes = b"",
    length: int | None = None,
    marker: int = 0xF7,
) -> bytes:
    """Build any frame, right or wrong."""
    size = len(payload) if length is None else length
    return struct.pack(">BBBBIQ16s", marker, type_, flags, subtype, seq, size, rid) + payload


def rid(number: int) -> bytes:
    return number.to_bytes(16, "big")


def request(number: int, seq: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return raw(REQUEST_TYPE, flags=flags, seq=seq, rid=rid(number), payload=payload)


def response(request_id: bytes, seq: int, payload: bytes = b"", flags: int = 0) -> bytes:
    return raw(RESPONSE_TYPE, flags=flags, seq=seq, rid=request_id, payload=payload)


def opening(
    number: int,
    body: bytes = b"",
    *,
    end: bool = True,
    more: bool = False,
    subject: bytes = SUBJECT,
    headers: Iterable[tuple[bytes, bytes]] = (),
    timeout_ms: int = 0,
) -> bytes:
    block = codec.encode_open(timeout_ms, 0, subject, list(headers))
    flags = META | (END_STREAM if end else 0) | (MORE if more else 0)
    return request(number, 0, block + body, flags)


def failure(request_id: bytes, seq: int, code: int, flags: int = 0) -> bytes:
    body = codec.encode_error_body(code, flags, 0, b"")
    return response(request_id, seq, body, END_STREAM | ERROR)


def settings_frame(**changes: int) -> bytes:
    return codec.encode_settings(Settings.recommended(**changes).to_wire(client=False))


PREFACE = codec.encode_preface(codec.VERSION, codec.VERSION)
ACK = codec.encode_settings_ack()


class Entropy:
    """Octets that never repeat and are the same in every run."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, octets: int) -> bytes:
        words = []
        for _ in range(octets // 8 + 1):
            self.count += 1
            words.append((self.count * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big"))
        return b"".join(words)[:octets]


def config(**changes: Any) -> Config:
    """A Config from Config fields and setting names in lower case."""
    names = Settings.__dataclass_fields__
    chosen = {name: changes.pop(name) for name in list(changes) if name in names}
    return replace(Config(settings=Settings.recommended(**chosen)), **changes)


class Wire(Generic[C]):
    """One core and a hand on the other end of its wire."""

    def __init__(self, core: C) -> None:
        self.core = core
        self.now = 0.0
        self.octets = b""
        self.frames: list[codec.Frame] = []
        self.seen: list[Event] = []
        self.preface: bytes = b""
        other = codec.CLIENT if core.role == codec.WORKER else codec.WORKER
        self._decoder = codec.FrameDecoder(other, HUGE)
        self.pull()

    def send(self, *frames: bytes) -> list[codec.Frame]:
        """Feed frames as one read and return what the core says to it."""
        self.core.receive_data(b"".join(frames), self.now)
        return self.pull()

    def pull(self, most: int | None = None) -> list[codec.Frame]:
        """Read what the core wants to send, at most so many batches of it."""
        new = b""
        batches = 0
        while (most is None or batches < most) and (data := self.core.data_to_send(self.now)):
            self.core.data_sent(len(data), self.now)
            new += data
            batches += 1
        self.octets += new
        missing = 16 - len(self.preface)
        self.preface += new[:missing]
        self._decoder.feed(new[missing:])
        frames = list(self._decoder.frames())
        self.frames += frames
        self.seen += self.core.events()
        return frames

    def advance(self, seconds: float) -> list[codec.Frame]:
        """Let time pass, firing every timer on its way."""
        end = self.now + seconds
        frames: list[codec.Frame] = []
        while True:
            due = self.core.next_timeout()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.core.handle_timeout(self.now)
            frames += self.pull()
        self.now = end
        return frames

    def events(self, kind: type[E]) -> list[E]:
        return [event for event in self.seen if isinstance(event, kind)]

    def one(self, kind: type[E]) -> E:
        (event,) = self.events(kind)
        return event

    @property
    def goaway(self) -> codec.Goaway | None:
        found = [frame for frame in self.frames if frame[0] == codec.GOAWAY]
        return codec.decode_goaway(found[-1][4]) if found else None

    @property
    def ended(self) -> ConnectionEnded:
        return self.one(ConnectionEnded)

    def terminal(self, request_id: bytes) -> codec.ErrorBody | None:
        """Return the error body of the terminal of a request, or None for a success."""
        (last,) = [
            frame
            for frame in self.frames
            if frame[0] == codec.RESPONSE and frame[3] == request_id and frame[1] & END_STREAM
        ]
        return codec.decode_error_body(last[4]) if last[1] & ERROR else None

    def stream(self, request_id: bytes) -> list[codec.Frame]:
        return [f for f in self.frames if f[0] in (codec.REQUEST, codec.RESPONSE)
                and f[3] == request_id]  # fmt: skip

    def assert_violation(self, code: ErrorCode, requirement: str) -> None:
        """Check that the core has ended the connection for this reason, and in order."""
        goaway = self.goaway
        assert goaway is not None, self.seen
        assert (ErrorCode(goaway.code).name, goaway.message.decode().split(":")[0]) == (
            code.name,
            requirement,
        )
        assert self.ended.requirement == requirement
        assert self.ended.code == code
        assert not self.ended.by_peer
        assert self.core.close_action is CloseAction.LINGER
        seen = len(self.frames)
        assert self.send(opening(99, b"late")) == []
        assert len(self.frames) == seen


def worker(
    *, shake: bool = True, peer: dict[str, int] | None = None, **changes: Any
) -> Wire[WorkerConnection]:
    """A worker core with its handshake done."""
    extra = {
        name: changes.pop(name)
        for name in ("admit", "statistics", "uncounted", "subjects")
        if name in changes
    }
    extra.setdefault("subjects", {SUBJECT})
    wire = Wire(WorkerConnection(config(**changes), 0.0, Entropy(), **extra))
    if shake:
        wire.send(PREFACE, settings_frame(**(peer or {})), ACK)
    return wire


def client(
    *, shake: bool = True, peer: dict[str, int] | None = None, **changes: Any
) -> Wire[ClientConnection]:
    """A client core with its handshake done."""
    wire = Wire(ClientConnection(config(**changes), 0.0, Entropy()))
    if shake:
        wire.send(PREFACE, settings_frame(**(peer or {})), ACK)
    return wire


class Link:
    """A client and a worker, joined."""

    def __init__(
        self,
        *,
        client: Config | None = None,
        worker: Config | None = None,
        subjects: Iterable[bytes] = (SUBJECT,),
        chop: Callable[[bytes], Iterable[bytes]] = lambda data: [data],
    ) -> None:
        self.now = 0.0
        self.chop = chop
        self.client = ClientConnection(client or Config(), 0.0, Entropy())
        self.worker = WorkerConnection(
            worker or Config(), 0.0, Entropy(), subjects=frozenset(subjects)
        )
        self.at_client: list[Event] = []
        self.at_worker: list[Event] = []
        self.run()

    def run(self) -> None:
        """Carry octets to and fro until both sides are silent."""
        moved = True
        while moved:
            moved = self.carry(self.client, self.worker) | self.carry(self.worker, self.client)
            self.at_client += self.client.events()
            self.at_worker += self.worker.events()

    def carry(self, source: Connection[Any], target: Connection[Any]) -> bool:
        moved = False
        while data := source.data_to_send(self.now):
            source.data_sent(len(data), self.now)
            for piece in self.chop(data):
                target.receive_data(piece, self.now)
            moved = True
        return moved

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            dues = [side.next_timeout() for side in (self.client, self.worker)]
            due = min((d for d in dues if d is not None), default=None)
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            for side in (self.client, self.worker):
                side.handle_timeout(self.now)
            self.run()
        self.now = end

    def client_events(self, kind: type[E]) -> list[E]:
        return [event for event in self.at_client if isinstance(event, kind)]

    def worker_events(self, kind: type[E]) -> list[E]:
        return [event for event in self.at_worker if isinstance(event, kind)]
