"""One call-home connection of the model worker: the table of section 21.8, by hand.

The rules of this file: a violation closes without a frame (P0-012); before ACCEPT it is a failed
attempt (P0-005), behind it the stream is lost (P0-006); only DONE and REJECT free it (P0-008).
"""

from __future__ import annotations

import asyncio
import enum
import socket
import struct
from typing import TYPE_CHECKING, cast

import model_wire as w
from model_home_stream import HomeStream

if TYPE_CHECKING:
    from model_home_pool import Target

MAGIC = bytes((0xF7, 0x57, 0x43, 0x48, 0x0D, 0x0A, 0x1A, 0x0A))
HELLO, ACCEPT, REJECT, DONE = 0x20, 0x21, 0x22, 0x23
PREFACE = struct.Struct(">8sBBBBI")
LENGTHS = {w.STOP: 4, w.KILL: 4, ACCEPT: 0, REJECT: 4, DONE: 0}
PREFACE_TIME, ACCEPT_TIME, DONE_TIME = 5.0, 5.0, 5.0
ASSUMED_IDLE = 60_000
MAX_FRAME, MAX_CONTROL = 1_048_576, 4_096
BATCH = 65_536
TICK = 0.02


class State(enum.Enum):
    """The states of section 21.8."""

    CONNECTING = enum.auto()
    IDLE = enum.auto()
    HELLO_SENT = enum.auto()
    STREAMING = enum.auto()
    ENDED = enum.auto()
    CLOSED = enum.auto()


class BrokenError(Exception):
    """What the router sent ends the connection."""


class HomeConnection(asyncio.Protocol):
    """The worker's end of one call-home connection."""

    def __init__(self, target: Target, stream: HomeStream) -> None:
        self.target = target
        self.home = target.home
        self.flaw = target.home.flaw
        self.loop = target.home.loop
        self.stream: HomeStream | None = stream
        self.state = State.CONNECTING
        self.transport: asyncio.Transport
        self.buffer = bytearray()
        self.since = self.last_rx = self.last_tx = self.loop.time()
        self.peer_idle = ASSUMED_IDLE / 1_000
        self.own_idle = target.home.server.config.idle_timeout_ms / 1_000
        self.paused = False
        self.retire = False
        self.written = self.gone_out = 0
        self.moved_at = self.since
        self.timer: asyncio.TimerHandle | None = None

    # asyncio callbacks ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak first (P0-002)."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=BATCH, low=0)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.put(PREFACE.pack(MAGIC, 1, 1, 32, 0, int(self.own_idle * 1_000)))
        if self.stream is not None and self.flaw("home-hello-before-preface"):
            self.put(w.control(HELLO, self.stream.token, self.stream.rid))
        self._tick()

    def data_received(self, data: bytes) -> None:
        """Read frame after frame; the first one that breaks a rule ends it."""
        if self.state is State.CLOSED:
            return
        self.last_rx = self.loop.time()
        self.buffer += data
        try:
            if self.state is State.CONNECTING and not self._read_preface():
                return
            while self.state is not State.CLOSED and self._read_frame():
                pass
        except BrokenError:
            if self.state is State.IDLE and self.flaw("home-idle-ignores-everything"):
                self.buffer.clear()
                return
            if self.state is not State.CONNECTING and self.flaw("home-violation-says-goaway"):
                self.put(w.goaway(w.PROTOCOL_ERROR, 0, 0, "P0-012"))
            self.close(violated=True)

    def eof_received(self) -> bool:
        """Take the end of the router's direction for the end."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Do what the state says of an end."""
        if self.state is not State.CLOSED:
            self.close()

    def pause_writing(self) -> None:
        """Stop handing frames to a socket that is full."""
        self.paused = True

    def resume_writing(self) -> None:
        """Go on writing."""
        self.paused = False
        self.pump()

    # Reading ----------------------------------------------------------------------------------

    def _read_preface(self) -> bool:
        head = bytes(self.buffer[:8])
        if head != MAGIC[: len(head)] and not self.flaw("home-accepts-any-magic"):
            raise BrokenError
        if len(self.buffer) < PREFACE.size:
            return False
        _magic, high, low, size, _flags, idle = PREFACE.unpack_from(self.buffer)
        del self.buffer[: PREFACE.size]
        if (high, low, size) != (1, 1, 32) and not self.flaw("home-accepts-other-versions"):
            raise BrokenError
        if idle and not 100 <= idle <= 600_000 and not self.flaw("home-accepts-any-idle-timeout"):
            raise BrokenError
        self.peer_idle = (idle or ASSUMED_IDLE) / 1_000
        self.state = State.IDLE
        stream = self.stream
        if stream is None or stream.gone:
            self.stream = None
            self.target.freed(self)
        elif "home-hello-before-preface" in self.home.server.flaws:
            self.state = State.HELLO_SENT
        else:
            self.hello(stream)
        return True

    def _read_frame(self) -> bool:
        if not self.buffer:
            return False
        if self.buffer[0] != w.MARKER:
            raise BrokenError
        if len(self.buffer) < w.HEADER_SIZE:
            return False
        head = w.Head.decode(self.buffer)
        known = self._check(head)
        if len(self.buffer) < w.HEADER_SIZE + head.length:
            return False
        payload = bytes(self.buffer[w.HEADER_SIZE : w.HEADER_SIZE + head.length])
        del self.buffer[: w.HEADER_SIZE + head.length]
        if known:
            self._handle(head, payload)
        return True

    def _check(self, h: w.Head) -> bool:
        """Judge a header alone; tell whether the frame is to be handled."""
        ignorable = h.type >= 0x80 or (h.type == w.CONTROL and h.subtype >= 0x80)
        if h.length > (MAX_CONTROL if h.type in (w.CONTROL, w.HEARTBEAT) else MAX_FRAME):
            raise BrokenError
        if ignorable:
            return False
        control = h.type == w.CONTROL and h.subtype in LENGTHS
        beat = h.type == w.HEARTBEAT and h.subtype in (w.PING, w.PONG)
        if not control and not beat:
            if self.state is not State.IDLE and self.flaw("home-ignores-unknown-frames"):
                return False
            raise BrokenError
        if h.flags & 0x0F or h.seq:
            raise BrokenError
        if beat and (h.rid != w.ZERO_ID or h.length != 8):
            raise BrokenError
        if control and (h.rid in (w.ZERO_ID, w.ONES_ID) or h.length != LENGTHS[h.subtype]):
            raise BrokenError
        return True

    def _handle(self, h: w.Head, payload: bytes) -> None:
        if h.type == w.HEARTBEAT:
            if h.subtype == w.PING and not self.flaw("home-no-pong"):
                self.put(w.frame(w.HEARTBEAT, 0, w.PONG, payload=payload))
            return
        own = self.stream is not None and h.rid == self.stream.rid
        if h.subtype in (w.STOP, w.KILL):
            self._stop_or_kill(h.subtype, own)
            return
        if h.subtype == ACCEPT and self.state is State.HELLO_SENT:
            if not own and not self.flaw("home-accepts-any-id"):
                raise BrokenError
            self._accepted()
        elif h.subtype == ACCEPT and self.state is State.STREAMING and own:
            if not self.flaw("home-ignores-second-accept"):
                raise BrokenError
        elif h.subtype == REJECT and own and self.state is State.HELLO_SENT:
            self._rejected()
        elif h.subtype == DONE and own and self.state is State.ENDED:
            self._free()
        else:
            raise BrokenError

    def _stop_or_kill(self, subtype: int, own: bool) -> None:
        stream = self.stream
        if self.state is State.IDLE and self.flaw("home-idle-is-strict"):
            raise BrokenError
        if self.state is State.ENDED and subtype == w.KILL and self.flaw("home-late-kill-closes"):
            raise BrokenError
        running = self.state in (State.HELLO_SENT, State.STREAMING)
        if stream is None or not running:
            return
        if not own and not (subtype == w.KILL and self.flaw("home-any-kill-counts")):
            return
        if subtype == w.STOP:
            if not self.flaw("home-ignores-stop"):
                stream.stop.set()
        elif self.state is State.STREAMING or not self.flaw("home-loses-early-kill"):
            stream.kill()
            self.pump()

    # One stream -------------------------------------------------------------------------------

    def hello(self, stream: HomeStream) -> None:
        """Offer the response of a stream (P0-003)."""
        self.stream = stream
        stream.began = stream.began or self.loop.time()
        self._enter(State.HELLO_SENT)
        token = stream.token[::-1] if self.flaw("home-wrong-token") else stream.token
        self.put(w.control(HELLO, token, stream.rid))
        if self.flaw("home-response-before-accept"):
            self._accepted()

    def _enter(self, state: State) -> None:
        self.state, self.since = state, self.loop.time()

    def _accepted(self) -> None:
        self._enter(State.STREAMING)
        if self.stream is not None:
            self.stream.conn = self
        self.pump()

    def _rejected(self) -> None:
        stream = self.stream
        if self.flaw("home-reject-closes"):
            self._enter(State.CLOSED)
            self._over()
        if stream is not None and self.flaw("home-reject-is-retried"):
            self.stream = None
            self.home.attempt_failed(stream)
        elif stream is not None:
            stream.forget(spare=self.flaw("home-reject-spares-handler"))
        if self.state is not State.CLOSED:
            self._free()

    def _free(self) -> None:
        self.stream = None
        self._enter(State.IDLE)
        if self.flaw("home-never-reuses"):
            self.retire = True
        if self.retire and not self.flaw("home-uses-drained-connection"):
            self.close()
        else:
            self.target.freed(self)

    def pump(self) -> None:
        """Write what the stream has, as long as the socket takes it."""
        stream = self.stream
        while self.state is State.STREAMING and not self.paused and stream is not None:
            octets = stream.take()
            if octets is None:
                return
            if octets[2] & w.END_STREAM and stream.failed and self.flaw("home-error-is-close"):
                self._enter(State.CLOSED)
                self._over()
                stream.finish()
                return
            self.put(octets)
            if octets[2] & w.END_STREAM:
                self._finish(stream)

    def _finish(self, stream: HomeStream) -> None:
        self.retire = self.retire or stream.drain_after is not None
        stream.finish()
        self._enter(State.ENDED)
        if self.flaw("home-closes-behind-terminal"):
            self._enter(State.CLOSED)
            self._over()
        elif self.flaw("home-reuses-before-done"):
            self._enter(State.IDLE)
            self.target.freed(self)

    # Time -------------------------------------------------------------------------------------

    def put(self, octets: bytes) -> None:
        """Hand octets to the transport."""
        self.last_tx = self.loop.time()
        self.written += len(octets)
        self.transport.write(octets)

    def _tick(self) -> None:
        if self.state is State.CLOSED:
            return
        now = self.loop.time()
        waited = now - self.since
        if self.state is State.CONNECTING:
            if waited > PREFACE_TIME and not self.flaw("home-waits-for-preface"):
                self.close()
                return
        else:
            self._beat(now)
            late = now - self.last_rx > self.own_idle and not self.flaw("home-no-idle-timeout")
            if late:
                self.close()
            elif self.state is State.HELLO_SENT and waited > ACCEPT_TIME:
                if not self.flaw("home-waits-for-accept"):
                    self.close()
            elif self.state is State.ENDED and waited > DONE_TIME:
                if not self.flaw("home-waits-for-done"):
                    self.close()
            else:
                self._check_stall(now)
        self.timer = self.loop.call_later(TICK, self._tick)

    def _beat(self, now: float) -> None:
        if now - self.last_tx >= self.peer_idle / 2 - 2 * TICK and not self.paused:
            if not self.flaw("home-no-heartbeat"):
                self.put(w.frame(w.HEARTBEAT, 0, w.PING, payload=bytes(8)))
            else:
                self.last_tx = now

    def _check_stall(self, now: float) -> None:
        waiting = self.transport.get_write_buffer_size()
        out = self.written - waiting
        if out > self.gone_out or not waiting:
            self.gone_out, self.moved_at = out, now
        elif now - self.moved_at > min(self.own_idle, self.peer_idle):
            self._stalled()

    def _stalled(self) -> None:
        if not self.flaw("home-no-write-timeout"):
            self.transport.abort()
            self.close()

    # The end ----------------------------------------------------------------------------------

    def close(self, *, violated: bool = False) -> None:
        """End the connection, and say what becomes of its stream."""
        state, stream = self.state, self.stream
        self._enter(State.CLOSED)
        self.stream = None
        self._over()
        if stream is None or stream.gone:
            return
        if state in (State.CONNECTING, State.HELLO_SENT):
            if state is State.CONNECTING and self.flaw("home-refusal-is-final"):
                stream.forget()
                return
            self.home.attempt_failed(stream)
        elif state is State.STREAMING:
            if self.flaw("home-retries-after-accept"):
                stream.conn = None
                self.home.attempt_failed(stream)
            elif violated:
                stream.forget(spare=self.flaw("home-violation-spares-handler"))
            else:
                stream.forget(spare=self.flaw("home-loss-spares-handler"))

    def _over(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.transport.close()
        self.target.lost(self)
