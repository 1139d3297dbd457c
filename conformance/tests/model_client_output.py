"""The writing half of a client connection: its state, its queues and its credit.

The rules of this file: Control and Heartbeat go before data (FAI-001), streams take turns
(FAI-002), only the latest limit is ever written (FLW-012), and before the worker's SETTINGS nothing
exceeds the assumed values (SET-005).
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from typing import TYPE_CHECKING

import model_client_wire as cw
import model_wire as w
from model_client_call import Call
from model_client_stream import State, Stream

if TYPE_CHECKING:
    from model_client import Client
    from model_client_pool import Slot

BATCH = 65_536
QUEUED_LIMIT = 1_048_576
EARLY_OPENS = 100


class Stage(enum.Enum):
    """How far the connection is; the last three as in section 15.5."""

    PREFACE = enum.auto()
    FRAMES = enum.auto()
    ENDING = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


LIVE = (Stage.PREFACE, Stage.FRAMES)


class Output(asyncio.Protocol):
    """The state of a connection, and everything that leaves it."""

    def __init__(self, client: Client, slot: Slot, number: int, dialled: float) -> None:
        self.client = client
        self.config = client.settings
        self.flaw = client.flaw
        self.loop = client.loop
        self.slot = slot
        self.addr = slot.addr
        self.number = number
        self.transport: asyncio.Transport
        self.stage = Stage.PREFACE
        self.peer = {ident: known[0] for ident, known in w.SETTING_RANGES.items()}
        if self.flaw("set-recommended-early"):
            self.peer.update(w.RECOMMENDED)
        # Reading.
        self.buffer = bytearray()
        self.head: w.Head | None = None
        self.whole = False
        self.late_fault: w.ViolationError | None = None
        self.settings_seen = False
        self.ack_seen = False
        self.in_message: bytes | None = None
        # Requests.
        self.streams: dict[bytes, Stream] = {}
        self.places = 0
        self.ordinal = 0
        self.answered = 0
        self.uncovered: set[bytes] = set()
        # Input credit.
        self.received = 0
        self.held = 0
        self.leaked = 0
        self.limit = self.config[w.S_CONNECTION_WINDOW]
        self.credit_due = False
        self.stream_credit_due: dict[Stream, None] = {}
        # Output.
        self.sent = 0
        self.shared_seq = 0
        self.send_limit = self.peer[w.S_CONNECTION_WINDOW]
        self.controls: deque[bytes] = deque()
        self.late: deque[bytes] = deque()
        self.queued = 0
        self.ring: deque[Stream] = deque()
        self.paused = False
        self.scheduled = False
        self.turns = 0
        self.written = 0
        # Time.
        self.dialled = dialled
        self.last_rx = self.last_tx = self.progress_at = self.loop.time()
        self.frame_since: float | None = None
        self.progress = 0
        self.pings: deque[bytes] = deque(maxlen=64)
        # Ending.
        self.goaway_sent = False
        self.goaway_code: int | None = None
        self.last_ordinal: int | None = None
        self.empty_since: float | None = None
        idle = self.config[w.S_IDLE_TIMEOUT]
        self.ping_budget = w.Bucket(100, 1.5 * max(10.0, 4_000 / idle))
        self.glitch_budget = w.Bucket(200, 100)

    # Requests ---------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Tell whether new requests may be opened here (CLS-008, CLS-009)."""
        if self.stage not in LIVE or self.goaway_sent:
            return False
        return self.goaway_code is None or self.flaw("cls-opens-after-goaway")

    @property
    def has_room(self) -> bool:
        """Tell whether one more request fits below the limits (ADM-001, SET-005)."""
        if self.flaw("adm-no-limit"):
            return True
        if self.flaw("rec-one-request-per-connection"):
            return self.places < 1
        if not self.settings_seen and self.ordinal + self._unwritten() >= EARLY_OPENS:
            return self.flaw("set-opens-too-many-early")
        return self.places < self.peer[w.S_MAX_CONCURRENT]

    def _unwritten(self) -> int:
        return sum(stream.state is State.IDLE for stream in self.streams.values())

    def suits(self, call: Call) -> bool:
        """Tell whether a request may be sent here at all; before SETTINGS it may have to wait.

        Raises:
            LocalError: The worker's settings forbid it (SET-003).
        """
        block = len(call.block())
        metadata = min(self.peer[w.S_MAX_METADATA], self.peer[w.S_MAX_FRAME] - 4)
        reason: cw.LocalError | None = None
        too_large = block - 4 > metadata or block + w.HEADER_SIZE > self.peer[w.S_STREAM_WINDOW]
        if too_large and not self.flaw("set-ignores-metadata-size"):
            reason = cw.LocalError(w.INVALID_ARGUMENT, "SET-003: metadata above the worker's limit")
        largest = max(map(len, call.messages), default=0)
        if largest > self.peer[w.S_MAX_MESSAGE] and not self.flaw("set-ignores-message-size"):
            reason = cw.LocalError(w.MESSAGE_TOO_LARGE, "SET-003: message above MAX_MESSAGE_SIZE")
        if reason is None:
            return True
        if self.settings_seen or self.flaw("set-refuses-what-may-wait"):
            raise reason
        return self.flaw("set-large-metadata-early")

    def attach(self, call: Call) -> None:
        """Give a request a place; its OPEN is written when the windows let it out."""
        stream = Stream(self, call)
        call.stream = stream
        call.addr = self.addr
        self.streams[stream.rid] = stream
        self.places += 1
        self.empty_since = None
        self.wake(stream)

    def opened(self, stream: Stream) -> None:
        """Give an OPEN its ordinal (RID-005)."""
        self.ordinal += 1
        stream.ordinal = self.ordinal
        if self.flaw("rid-ordinals-from-zero"):
            stream.ordinal -= 1

    def withdraw(self, stream: Stream) -> None:
        """Take a request out whose OPEN is not written (FAI-001)."""
        self.remove(stream)
        if stream in self.ring:
            self.ring.remove(stream)

    def remove(self, stream: Stream) -> None:
        """Forget a request that is over here."""
        self.streams.pop(stream.rid, None)
        stream.state = State.CLOSED
        stream.discard()
        self._free_place(stream)

    def _free_place(self, stream: Stream) -> None:
        if stream.has_place:
            stream.has_place = False
            self.places -= 1
            self.client.pool.dispatch_soon()
            self.schedule()

    def send_stop(self, stream: Stream, reason: int) -> None:
        """Send STOP, once."""
        if stream.stopped and not self.flaw("stm-stops-twice"):
            return
        stream.stopped = True
        self.queue(w.control(w.STOP, cw.u32(reason), stream.rid))

    def send_kill(self, stream: Stream, reason: int) -> None:
        """Send KILL; from now on everything but the terminal is discarded."""
        if stream.state is not State.IDLE and not self.flaw("stm-sends-after-kill"):
            stream.state = State.KILLING
        stream.partial = None
        if not self.flaw("flw-leaks-killed-credit"):
            stream.discard()
        elif stream.unread:
            self.leaked += stream.unread
        if self.flaw("stm-kill-is-silent"):
            return
        if self.flaw("adm-kill-frees-place"):
            self._free_place(stream)
        self.queue(w.control(w.KILL, cw.u32(reason), stream.rid))

    # Credit -----------------------------------------------------------------------------------

    def _connection_limit(self) -> int:
        window = self.config[w.S_CONNECTION_WINDOW]
        held = self.held
        if held > window // 2 and not self.flaw("flw-stalled-streams-block"):
            held = window // 2  # FLW-009
        return self.received + window - held - self.leaked

    def credit(self, stream: Stream | None) -> None:
        """Queue limits that are worth a WINDOW_UPDATE (FLW-012)."""
        if self.stage not in LIVE or self.flaw("flw-never-credits"):
            return
        share = 4
        if self.flaw("flw-update-per-frame"):
            share = 1 << 40
        window = self.config[w.S_CONNECTION_WINDOW]
        if self._connection_limit() - self.limit >= max(1, window // share):
            self.credit_due = True
            self.schedule()
        if stream is None or stream.state not in (State.OPEN, State.HALF):
            return
        window = self.config[w.S_STREAM_WINDOW]
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
            if stream.state in (State.OPEN, State.HALF):
                stream.limit = stream.consumed + self.config[w.S_STREAM_WINDOW]
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
        if self.stage not in LIVE and self.stage is not Stage.ENDING:
            return
        self.controls.append(octets)
        self.queued += len(octets)
        if self.queued > QUEUED_LIMIT and not self.flaw("dos-unbounded-control"):
            self.abort("DOS-002: too much queued output")
            return
        self.schedule()

    def abort(self, text: str) -> None:
        """End the connection with a reset."""
        raise NotImplementedError

    def check_idle(self) -> None:
        """Look whether the connection has nothing left to do."""
        raise NotImplementedError

    def wake(self, stream: Stream) -> None:
        """Put a stream that has output into the round."""
        if not stream.in_ring and stream.has_output:
            stream.in_ring = True
            self.ring.append(stream)
            self.schedule()

    def wake_all(self) -> None:
        """Try every stream again: a limit that they share has changed."""
        for stream in self.streams.values():
            self.wake(stream)

    def schedule(self) -> None:
        """Write soon, once for all that became ready in this turn of the loop."""
        if self.scheduled or self.paused or self.stage in (Stage.CLOSING, Stage.CLOSED):
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
        if self.stage is Stage.PREFACE and self.flaw("hsk-waits-for-preface"):
            return None
        while self.ring:
            stream = self.ring.popleft()
            frame = stream.next_frame()
            if frame is None or not stream.has_output:
                stream.in_ring = False  # done, or blocked until something wakes it
            elif len(frame) > 4_096 and self._keeps_turn():
                self.ring.appendleft(stream)
            else:
                self.ring.append(stream)
            if frame is not None:
                return frame
        return self.late.popleft() if self.late else None

    def _keeps_turn(self) -> bool:
        if not self.ring or not self.flaw("fai-bulk-keeps-its-turn"):
            return False
        self.turns += 1
        return self.turns % 16 != 0

    def pump(self) -> None:
        """Write up to one batch, Control and Heartbeat first, streams in turn (FAI-002)."""
        self.scheduled = False
        batch: list[bytes] = []
        size = 0
        alive = (*LIVE, Stage.ENDING)
        while self.stage in alive and not self.paused and size < BATCH:
            octets = self._next_frame()
            if octets is None:
                break
            batch.append(octets)
            size += len(octets)
        if self.stage not in alive:
            return
        if batch:
            self.put(b"".join(batch))
            self.schedule()
            return
        self.check_idle()
