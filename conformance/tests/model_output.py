"""The writing half of a connection: its state, its queues, its credit and its ways to end.

The rules of this file: Control and Heartbeat go before data (FAI-001), streams take turns
(FAI-002), only the latest limit is ever written (FLW-012), and an ending connection sends FIN, then
reads and discards for a second (CLS-002).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import socket
import struct
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import model_wire as w
from model_stream import Refused, Stream

if TYPE_CHECKING:
    from model_worker import Server

BATCH = 65_536
QUEUED_LIMIT = 1_048_576
LINGER = 1.0


class Stage(enum.Enum):
    """How far the connection is."""

    PREFACE = enum.auto()
    FRAMES = enum.auto()
    LINGER = enum.auto()
    DEAD = enum.auto()


class Output(asyncio.Protocol):
    """The state of a connection, and everything that leaves it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.config = server.config
        self.flaw = server.flaw
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.serial = asyncio.Lock()
        self.stage = Stage.PREFACE
        self.gone = False
        self.peer = {ident: known[0] for ident, known in w.SETTING_RANGES.items()}
        # Reading.
        self.buffer = bytearray()
        self.head: w.Head | None = None
        self.late_fault: w.ViolationError | None = None
        self.discard_frame = False
        self.settings_seen = False
        self.ack_seen = False
        self.client_goaway = False
        self.in_message: bytes | None = None
        # Requests.
        self.streams: dict[bytes, Stream] = {}
        self.slots: set[Stream] = set()
        self.tombstones: OrderedDict[bytes, None] = OrderedDict()
        self.max_concurrent = self.config.max_concurrent
        self.ordinal = 0
        self.overloads = 0
        self.kills = 0
        # Input credit.
        window = self.config.connection_window
        self.received = 0
        self.held = 0
        self.leaked = 0
        self.limit = window
        self.credit_due = False
        self.stream_credit_due: dict[Stream, None] = {}
        # Output.
        self.sent = 0
        self.shared_seq = 0
        self.send_limit = self.peer[w.S_CONNECTION_WINDOW]
        self.controls: deque[bytes] = deque()
        self.late: deque[bytes] = deque()
        self.queued = 0
        self.ring: deque[Stream | Refused] = deque()
        self.paused = False
        self.scheduled = False
        self.turns = 0
        self.written = 0
        # Time.
        self.accepted = self.last_rx = self.last_tx = self.loop.time()
        self.frame_since: float | None = None
        self.progress = 0
        self.progress_at = self.accepted
        self.pings: deque[bytes] = deque(maxlen=64)
        self.timer: asyncio.TimerHandle | None = None
        self.linger_timer: asyncio.TimerHandle | None = None
        self.grace_timer: asyncio.TimerHandle | None = None
        # Ending.
        self.draining = False
        idle = self.config.idle_timeout_ms
        self.ping_budget = w.Bucket(100, 1.5 * max(10.0, 4_000 / idle))
        self.glitch_budget = w.Bucket(200, 100)
        self.refusal_budget = w.Bucket(2_000, 1_000)

    # Credit -----------------------------------------------------------------------------------

    def _connection_limit(self) -> int:
        window = self.config.connection_window
        held = self.held
        if held > window // 2 and not self.flaw("flw-stalled-streams-block"):
            held = window // 2  # FLW-009
        return self.received + window - held - self.leaked

    def credit(self, stream: Stream | None) -> None:
        """Queue limits that are worth a WINDOW_UPDATE (FLW-012)."""
        if self.stage is not Stage.FRAMES or self.flaw("flw-never-credits"):
            return
        share = 4
        if self.flaw("flw-update-per-frame"):
            share = 1 << 40
        window = self.config.connection_window
        if self._connection_limit() - self.limit >= max(1, window // share):
            self.credit_due = True
            self.schedule()
        if stream is None or stream.ended or stream.closed or stream.killed:
            return
        window = self.config.stream_window
        if stream.consumed + window - stream.limit >= max(1, window // share):
            self.stream_credit_due[stream] = None
            self.schedule()

    def _next_credit(self) -> bytes | None:
        if self.credit_due:  # the latest value, computed when it is written
            self.credit_due = False
            self.limit = self._connection_limit()
            return w.window_update(self.limit)
        while self.stream_credit_due:
            stream = next(iter(self.stream_credit_due))
            del self.stream_credit_due[stream]
            if not (stream.closed or stream.ended or stream.killed):
                stream.limit = stream.consumed + self.config.stream_window
                return w.window_update(stream.limit, stream.rid)
        return None

    # Writing ----------------------------------------------------------------------------------

    def put(self, octets: bytes) -> None:
        """Hand octets to the transport."""
        self.written += len(octets)
        self.last_tx = self.loop.time()
        self.transport.write(octets)

    def queue(self, octets: bytes) -> None:
        """Queue a Control or Heartbeat frame."""
        if self.stage is not Stage.FRAMES:
            return
        self.controls.append(octets)
        self._count_queued(len(octets))
        self.schedule()

    def _count_queued(self, size: int) -> None:
        self.queued += size
        if self.queued > QUEUED_LIMIT and not self.flaw("dos-unbounded-control"):
            self.reset()  # DOS-002

    def wake(self, stream: Stream) -> None:
        """Put a stream that has output into the round."""
        if not stream.in_ring and stream.has_output and self.stage is Stage.FRAMES:
            stream.in_ring = True
            self.ring.append(stream)
            self.schedule()

    def schedule(self) -> None:
        """Write soon, once for all that became ready in this turn of the loop."""
        if self.scheduled or self.paused or self.stage is not Stage.FRAMES:
            return
        self.scheduled = True
        if self.flaw("fai-delays-writes"):
            self.loop.call_later(0.04, self.pump)
        else:
            self.loop.call_soon(self.pump)

    def _next_frame(self) -> bytes | None:
        if self.controls:
            octets = self.controls.popleft()
            self.queued -= len(octets)
            return octets
        update = self._next_credit()
        if update is not None:
            return update
        while self.ring:
            entry = self.ring.popleft()
            octets_or_none = entry.next_frame()
            if isinstance(entry, Refused):
                if octets_or_none is not None:
                    self.queued -= len(octets_or_none)
            elif octets_or_none is None or not entry.has_output:
                entry.in_ring = False  # done, or blocked until a WINDOW_UPDATE wakes it
            elif self._keeps_turn(octets_or_none):
                self.ring.appendleft(entry)
            else:
                self.ring.append(entry)
            if octets_or_none is not None:
                return octets_or_none
        return self.late.popleft() if self.late else None

    def _keeps_turn(self, octets: bytes) -> bool:
        if len(octets) < 16_384 or not self.ring or not self.flaw("fai-bulk-keeps-its-turn"):
            return False
        self.turns += 1
        return self.turns % 8 != 0

    def pump(self) -> None:
        """Write up to one batch, Control and Heartbeat first, streams in turn (FAI-002)."""
        self.scheduled = False
        batch: list[bytes] = []
        size = 0
        while self.stage is Stage.FRAMES and not self.paused and size < BATCH:
            octets = self._next_frame()
            if octets is None:
                break
            batch.append(octets)
            size += len(octets)
        if self.stage is not Stage.FRAMES:
            return
        if batch:
            self.put(b"".join(batch))
            self.schedule()
            return
        over = self.draining or self.client_goaway
        idle = not (self.streams or self.ring or self.controls or self.paused)
        if over and idle and not self.flaw("cls-drain-never-closes"):
            self.half_close()  # CLS-005, CLS-009

    # Ending -----------------------------------------------------------------------------------

    def start_drain(self, grace_ms: int) -> None:
        """Announce the end: no new requests, running ones go on (CLS-003)."""
        if self.draining or self.stage is not Stage.FRAMES:
            return
        self.draining = True
        ordinal = self.ordinal - 1 if self.flaw("rid-ordinals-from-zero") else self.ordinal
        self.queue(w.goaway(w.NO_ERROR, ordinal, grace_ms, "drain"))
        if grace_ms == 0 or self.flaw("cls-drain-kills"):
            self._grace_over()
        elif not self.flaw("cls-grace-never-ends"):
            self.grace_timer = self.loop.call_later(grace_ms / 1000, self._grace_over)
        self.schedule()

    def _grace_over(self) -> None:
        flags = w.NOT_PROCESSED if self.flaw("cls-shutdown-says-not-processed") else 0
        for stream in list(self.streams.values()):
            stream.abort(w.CallError(w.SHUTDOWN, "CLS-006: the grace is over", flags))
        self.loop.call_later(0.8, self.half_close)  # flushed or not
        self.loop.call_later(0.9, self._abort_blocked)

    def _abort_blocked(self) -> None:
        if self.stage is not Stage.DEAD and self.transport.get_write_buffer_size():
            self.transport.abort()

    def half_close(self) -> None:
        """Send FIN behind what is written, then read and discard for a second (CLS-002)."""
        if self.stage in (Stage.LINGER, Stage.DEAD):
            return
        self.drop()
        with contextlib.suppress(OSError):
            if self.transport.can_write_eof():  # there is no half-close in asyncio's TLS
                self.transport.write_eof()
        self._linger(LINGER)

    def _linger(self, seconds: float) -> None:
        if self.linger_timer is None and self.stage is not Stage.DEAD:
            self.linger_timer = self.loop.call_later(seconds, self.transport.abort)

    def close_silently(self) -> None:
        """Close without an octet (HSK-002)."""
        self.drop()
        self.transport.close()

    def reset(self) -> None:
        """Abort with a TCP reset (DOS-002)."""
        self.drop()
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            linger = struct.pack("ii", 1, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()

    def drop(self) -> None:
        """Stop processing and cancel every handler; the socket is someone else's business."""
        if self.stage in (Stage.LINGER, Stage.DEAD):
            return
        self.stage = Stage.LINGER
        self.gone = True
        self.buffer.clear()
        self.ring.clear()
        self.controls.clear()
        for stream in list(self.streams.values()):
            stream.forget()
        self.streams.clear()
        self.server.connection_closing(self)

    def buffered(self) -> int:
        """Count what is held here for peer and handlers (conformance.stats)."""
        total = self.queued
        for stream in self.slots:
            total += stream.out_cost + sum(cost for _data, cost in stream.inbox)
            total += len(stream.partial or b"")
        return total
