"""One connection of the model client: callbacks, handshake, clocks and the ways to end.

The rules of this file: preface and SETTINGS leave at once (HSK-001), liveness by octets (HBT-001 to
HBT-006), a violation ends the connection with one GOAWAY and a lingering close (CLS-001, CLS-002),
and whatever the end is, every request of the connection gets its class (REC-001).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from typing import cast

import model_client_wire as cw
import model_wire as w
from model_client_call import Class, Phase, Verdict
from model_client_intake import Intake, protocol_error
from model_client_output import BATCH, LIVE, Stage
from model_client_stream import State, Stream

LINGER = 1.0
HANDSHAKE_TIMEOUT = 5.0
DRAINED_CLOSE = 1.9
HEALTHY_AFTER = 10.0
GREASE = (0x3A3A, 7)


class Connection(Intake):
    """The client's end of one connection."""

    ends_at: float | None = None
    shaken_at: float | None = None
    settings_at = 0.0
    settled = False
    timer: asyncio.TimerHandle | None = None

    # asyncio callbacks ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send preface and SETTINGS at once (HSK-001)."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=BATCH, low=0)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lowat = getattr(socket, "TCP_NOTSENT_LOWAT", None)
            if lowat is not None:  # FAI-005
                sock.setsockopt(socket.IPPROTO_TCP, lowat, 131_072)
        if not self.flaw("hsk-waits-for-preface"):
            self._greet()
        self.client.pool.connected(self)
        self._arm()

    def _greet(self) -> None:
        grease = () if self.flaw("frm-no-grease-setting") else (GREASE,)
        octets = w.settings([*self.client.announced.items(), *grease])
        if self.flaw("hsk-sends-settings-twice"):
            octets += octets
        if self.flaw("hsk-ack-before-settings"):
            octets += w.control(w.SETTINGS_ACK)
        if self.flaw("hsk-settings-behind-a-ping"):
            octets = w.frame(w.HEARTBEAT, subtype=w.PING, payload=bytes(8)) + octets
        self.put(w.preface(w.VERSION, w.VERSION) + octets)

    def data_received(self, data: bytes) -> None:
        """Judge what has come; every violation of the peer ends here."""
        if self.stage in (Stage.CLOSING, Stage.CLOSED):
            return  # CLS-002: read and discard
        now = self.loop.time()
        if not self.ack_seen and self.flaw("hsk-octets-restart-timeout"):
            self.dialled = now
        self.buffer += data
        done = 0
        try:
            if self.stage is Stage.PREFACE:
                self._read_preface()
            if self.stage in (Stage.FRAMES, Stage.ENDING):
                done = self.read_frames()
        except w.ViolationError as fault:
            if self.flaw("stm-goes-on-after-error"):
                self._go_on(fault)
            else:
                self.fail(fault)
        partial = bool(self.buffer) or self.head is not None
        if done or not partial or not self.flaw("hbt-only-whole-frames-count"):
            self.last_rx = now
        if self.stage not in (Stage.FRAMES, Stage.ENDING) or not partial:
            self.frame_since = None
        elif done or self.frame_since is None:
            self.frame_since = now  # FRM-013 runs from the first octet of the frame
        self._arm()

    def eof_received(self) -> bool:
        """End the connection: there is no half-open operation (CLS-010)."""
        if self.stage in LIVE and self.flaw("cls-eof-is-half-open"):
            return True
        self.settle("peer", "end of the stream")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Classify whatever is left (REC-001)."""
        self.settle("peer", str(exc) if exc else "closed")
        self.stage = Stage.CLOSED
        if self.timer is not None:
            self.timer.cancel()
        self.client.pool.gone(self)

    def pause_writing(self) -> None:
        """Stop handing frames to a socket that is full."""
        self.paused = True
        if self.flaw("flw-blocked-writer-stops-reader"):
            self.transport.pause_reading()
        self._arm()

    def resume_writing(self) -> None:
        """Go on writing."""
        self.paused = False
        if self.flaw("flw-blocked-writer-stops-reader"):
            self.transport.resume_reading()
        self.schedule()

    # Handshake --------------------------------------------------------------------------------

    def _read_preface(self) -> None:
        magic = bytes(self.buffer[:8])
        if magic != w.MAGIC[: len(magic)]:
            if not self.flaw("hsk-waits-after-bad-magic"):
                self.end("peer", "HSK-010: no preface")
            return
        if len(self.buffer) < w.PREFACE_SIZE:
            return
        hi, lo, size = w.read_preface(self.buffer)
        del self.buffer[: w.PREFACE_SIZE]
        good = hi == lo == w.VERSION and size == w.HEADER_SIZE
        if not good:
            good = (
                (hi == lo != w.VERSION and self.flaw("hsk-accepts-other-version"))
                or (hi != lo and lo <= w.VERSION <= hi and self.flaw("hsk-accepts-range"))
                or (hi == lo == w.VERSION and self.flaw("hsk-ignores-header-size"))
            )
        if not good:
            if self.flaw("hsk-goaway-on-refusal"):
                self.put(w.goaway(w.PROTOCOL_ERROR, 0, 0, "HSK-004: refused"))
            kind = Class.NOT_PROCESSED
            if self.flaw("hsk-refusal-is-ambiguous"):
                kind = Class.AMBIGUOUS
            self.end("peer", "HSK-010: the worker refuses", kind)
            return
        self.stage = Stage.FRAMES
        if self.flaw("hsk-waits-for-preface"):
            self._greet()
        self.schedule()

    def on_settings(self, payload: bytes) -> None:
        """Apply the worker's SETTINGS and acknowledge them (HSK-007)."""
        if self.settings_seen and not self.flaw("hsk-accepts-second-settings"):
            raise protocol_error("HSK-006", "second SETTINGS")
        values = w.read_settings(payload, self.flaw)
        self.peer = values
        if not self.flaw("set-windows-do-not-rise"):
            self.send_limit = max(self.send_limit, values[w.S_CONNECTION_WINDOW])
            for stream in self.streams.values():
                stream.send_limit = max(stream.send_limit, values[w.S_STREAM_WINDOW])
        self.settings_seen = True
        self.settings_at = self.loop.time()
        if self.flaw("hbt-pings-freely"):
            for _ in range(20):
                self._ping()
        if not self.flaw("hsk-no-ack") and not self.flaw("hsk-ack-before-settings"):
            self.queue(w.control(w.SETTINGS_ACK))
            if self.flaw("hsk-two-acks"):
                self.queue(w.control(w.SETTINGS_ACK))
        self.wake_all()
        self.client.pool.dispatch_soon()

    def on_ack(self) -> None:
        """Take the connection as set up (HBT-003)."""
        self.ack_seen = True
        self.shaken_at = self.last_rx = self.loop.time()
        self.client.emit("connected", conn=self.number, addr=self.addr, version=w.VERSION)
        if self.flaw("rec-handshake-resets-backoff"):
            self.slot.healthy(self)

    def _check_handshake(self, now: float) -> None:
        if self.stage is Stage.PREFACE:
            late = now >= self.dialled + min(self.client.connect_timeout, HANDSHAKE_TIMEOUT)
            if late and not self.flaw("hsk-no-connect-timeout"):
                kind = Class.AMBIGUOUS
                if self.flaw("hsk-silence-is-not-processed"):
                    kind = Class.NOT_PROCESSED
                self.end("local", "HSK-010: no preface in time", kind)
            return
        if self.stage is Stage.FRAMES and not self.ack_seen:
            late = now >= self.dialled + HANDSHAKE_TIMEOUT
            if late and not self.flaw("hsk-no-timeout"):
                fault = w.ViolationError(w.HANDSHAKE_TIMEOUT, "HSK-008", "handshake too slow")
                self.fail(fault)

    # Requests ---------------------------------------------------------------------------------

    def finish(self, stream: Stream, verdict: Verdict | None, trailers: cw.Headers) -> None:
        """Close a request with its terminal and tell its caller."""
        call, killing = stream.call, stream.state is State.KILLING
        unsent = stream.has_output
        current = call.stream is stream
        self.remove(stream)
        if unsent and self.flaw("stm-sends-after-terminal"):
            stream.state = State.OPEN
            self.streams[stream.rid] = stream
            self.wake(stream)
        if self.shaken_at is not None:
            self.slot.healthy(self)
        if current and call.phase is Phase.OPEN:
            if verdict is None and killing and not self.flaw("stm-killed-may-succeed"):
                code = w.CANCELLED
                verdict = Verdict(Class.FAILED, code, "STM-002: killed")
            if verdict is None:
                call.succeed(trailers)
            else:
                self.client.recovery.terminal(call, verdict)
        self.schedule()

    def on_goaway(self, payload: bytes) -> None:
        """Close what the GOAWAY does not cover, and begin to leave (CLS-007, CLS-008)."""
        code, last, grace, text = cw.read_goaway(payload, self.flaw)
        shown = {"code": code, "last_ordinal": last, "grace_ms": grace}
        self.client.emit("goaway", conn=self.number, **shown)
        if last < self.answered and not self.flaw("cls-accepts-low-ordinal"):
            raise protocol_error("CLS-007", "last_ordinal below an answered request")
        early = not self.settings_seen
        if self.last_ordinal is not None:
            low = not (last < self.last_ordinal and self.flaw("cls-first-goaway-counts"))
            last = min(last, self.last_ordinal) if low else self.last_ordinal
        self.last_ordinal = last
        self.goaway_code = code
        unknown = code > w.STREAM_STATE_ERROR
        if unknown and self.flaw("pay-unknown-goaway-is-drain"):
            code = w.NO_ERROR
        if not (early and self.flaw("hsk-early-ordinal-ignored")):
            self._cover(last, text)
        if code != w.NO_ERROR or (early and not self.flaw("hsk-early-goaway-is-drain")):
            self.stage = Stage.ENDING
            self._end_within(LINGER)
        elif self.flaw("cls-drain-kills"):
            self.end("local", "drain")
        else:
            self.slot.drains(self)
        self.schedule()

    def _cover(self, last: int, text: str) -> None:
        recovery = self.client.recovery
        for stream in list(self.streams.values()):
            if stream.state is State.IDLE:
                if self.flaw("cls-opens-after-goaway"):
                    continue
                self.withdraw(stream)
                recovery.not_sent(stream.call)
            elif stream.ordinal > last and not self.flaw("rid-goaway-closes-nothing"):
                self.remove(stream)
                self.uncovered.add(stream.rid)
                if stream.call.stream is stream:
                    kind = Class.NOT_PROCESSED
                    recovery.classify(self, stream.call, kind, self.goaway_code, text)

    # Clocks -----------------------------------------------------------------------------------

    def _arm(self) -> None:
        """Look again when the next clock may be over."""
        if self.timer is not None:
            self.timer.cancel()
        if self.stage is not Stage.CLOSED:
            self.timer = self.loop.call_at(self._next_look(), self._look)

    def _next_look(self) -> float:
        idle = self.config[w.S_IDLE_TIMEOUT] / 1000
        times = [self.last_rx + idle + 0.002, self.loop.time() + idle / 3]
        if self.ends_at is not None:
            times.append(self.ends_at)
        if self.stage is Stage.PREFACE:
            times.append(self.dialled + min(self.client.connect_timeout, HANDSHAKE_TIMEOUT))
        if not self.ack_seen:
            times.append(self.dialled + HANDSHAKE_TIMEOUT)
        if self.frame_since is not None:
            times.append(self.frame_since + idle)
        if self.settings_seen:
            times.append(max(self.last_tx, self.settings_at) + self._silence())
        if self.empty_since is not None:
            times.append(self.empty_since + DRAINED_CLOSE)
        if self.shaken_at is not None:
            times.append(self.shaken_at + HEALTHY_AFTER)
        soon = self.loop.time() + 0.002
        return min(max(soon, time) for time in times)

    def _silence(self) -> float:
        """Return how long this side may be silent, in seconds (HBT-001)."""
        timeout = self.peer[w.S_IDLE_TIMEOUT]
        if self.flaw("hbt-uses-own-timeout"):
            timeout = self.config[w.S_IDLE_TIMEOUT]
        return timeout / 1000 * 0.4

    def _look(self) -> None:
        now = self.loop.time()
        if self.ends_at is not None and now >= self.ends_at:
            self._over()
        if self.stage in LIVE:
            self._check_handshake(now)
        if self.stage is Stage.FRAMES:
            self._check_silence(now)
        if self.stage is Stage.FRAMES:
            self._check_writing(now)
        if self.stage is Stage.FRAMES and self.settings_seen:
            self._keep_alive(now)
        if self.shaken_at is not None and now >= self.shaken_at + HEALTHY_AFTER:
            self.slot.healthy(self)
        drained = self.empty_since is not None and now >= self.empty_since + DRAINED_CLOSE
        if self.stage is Stage.FRAMES and drained:
            self.end("local", "CLS-008: drained")
        self._arm()

    def _check_silence(self, now: float) -> None:
        idle = self.config[w.S_IDLE_TIMEOUT] / 1000
        slow = self.frame_since is not None and now >= self.frame_since + idle
        if slow and not self.flaw("frm-dribble-forever"):
            self.fail(w.ViolationError(w.HEARTBEAT_TIMEOUT, "FRM-013", "frame not complete"))
            return
        if self.flaw("hbt-idle-too-short"):
            idle /= 2
        if not self.ack_seen or now < self.last_rx + idle:
            return
        if self.flaw("hbt-no-idle-timeout"):
            return
        if self.streams and self.flaw("hbt-requests-suspend-timeout"):
            return
        # HBT-003: what waits in the socket is read before the timer is believed.
        self.loop.call_later(0.001, self._give_up, self.last_rx)

    def _give_up(self, seen: float) -> None:
        if self.stage is Stage.FRAMES and self.last_rx == seen:
            self.fail(w.ViolationError(w.HEARTBEAT_TIMEOUT, "HBT-003", "silence"))

    def _check_writing(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        gone = self.written - unsent
        if not unsent or gone != self.progress:
            self.progress, self.progress_at = gone, now
        idle = self.config[w.S_IDLE_TIMEOUT] / 1000
        if now >= self.progress_at + idle and not self.flaw("hbt-no-write-timeout"):
            self.abort("HBT-006: the peer does not read")

    def _keep_alive(self, now: float) -> None:
        if now < max(self.last_tx, self.settings_at) + self._silence():
            return
        if self.transport.get_write_buffer_size() or self.flaw("hbt-no-heartbeat"):
            return
        if self.flaw("hbt-fills-with-updates"):
            self.queue(w.window_update(self.limit))
            return
        if len(self.pings) >= 3 and self.flaw("hbt-demands-pong"):
            self.fail(w.ViolationError(w.HEARTBEAT_TIMEOUT, "HBT-005", "no PONG"))
            return
        self._ping()

    def _ping(self) -> None:
        opaque = os.urandom(8)
        self.pings.append(opaque)
        self.queue(w.frame(w.HEARTBEAT, subtype=w.PING, payload=opaque))

    # Ending -----------------------------------------------------------------------------------

    def check_idle(self) -> None:
        """Leave when nothing is left: at once behind the own GOAWAY, else 2 s later (CLS-008)."""
        idle = not (self.streams or self.ring or self.controls or self.paused)
        if not idle:
            self.empty_since = None
        elif self.goaway_sent and self.stage in LIVE:
            self.end("local", "closed in order")
            return
        drained = idle and self.goaway_code is not None and self.empty_since is None
        if drained and not self.flaw("cls-drained-stays-open"):
            self.empty_since = self.loop.time()
            self._arm()

    def leave(self) -> None:
        """Close in order: GOAWAY, then let the running requests finish (CLS-009)."""
        if self.goaway_sent or self.stage not in LIVE:
            return
        for stream in list(self.streams.values()):
            if stream.state is State.IDLE:
                self.withdraw(stream)
                self.client.recovery.not_sent(stream.call)
        if not self.flaw("cls-leaves-without-goaway"):
            ordinal = self.ordinal if self.flaw("cls-leaves-with-ordinal") else 0
            code = w.INTERNAL_ERROR_CONN if self.flaw("cls-leaves-with-error") else w.NO_ERROR
            self.queue(w.goaway(code, ordinal, 0, "closing"))
        self.goaway_sent = True
        if self.flaw("cls-leaving-kills"):
            self.pump()
            self.end("local", "closed")
        self.schedule()

    def fail(self, fault: w.ViolationError) -> None:
        """End on a connection error: GOAWAY, half-close, read on for 1 s (CLS-001, CLS-002)."""
        self.note_fault()
        if self.stage is Stage.PREFACE:
            self.end("local", str(fault))
            return
        self.stage = Stage.CLOSING
        if not self.flaw("cls-no-goaway"):
            self._send_goaway(fault)
        self.settle("local", str(fault), code=fault.code)
        if self.flaw("cls-stays-open"):
            return
        if self.flaw("cls-no-linger"):
            self.transport.close()
            return
        with contextlib.suppress(OSError):
            self.transport.write_eof()
        if not self.flaw("cls-lingers-for-ever"):
            self._end_within(LINGER)

    def _send_goaway(self, fault: w.ViolationError) -> None:
        code = fault.code
        if self.flaw("cls-goaway-without-code"):
            code = w.NO_ERROR
        if code != w.INTERNAL_ERROR_CONN and self.flaw("cls-goaway-always-internal"):
            code = w.INTERNAL_ERROR_CONN
        text = str(fault)
        if self.flaw("obs-goaway-without-requirement"):
            text = "you are wrong"
        ordinal = self.ordinal + 1 if self.flaw("cls-goaway-with-ordinal") else 0
        self.put(w.goaway(code, ordinal, 0, text))

    def _go_on(self, fault: w.ViolationError) -> None:
        self._send_goaway(fault)
        if self.head is not None:
            del self.buffer[: 0 if self.whole else self.head.length]
        self.head = None

    def end(self, by: str, text: str, kind: Class = Class.AMBIGUOUS) -> None:
        """Close now; what is written still leaves."""
        self.settle(by, text, kind)
        self.stage = Stage.CLOSED
        self.transport.close()
        self.loop.call_later(LINGER, self.transport.abort)

    def abort(self, text: str) -> None:
        """Reset without a GOAWAY (HBT-006, DOS-002)."""
        self.settle("local", text)
        self.stage = Stage.CLOSED
        sock = self.transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def _end_within(self, seconds: float) -> None:
        self.ends_at = self.loop.time() + seconds
        self._arm()

    def _over(self) -> None:
        self.settle("peer", "no end of the stream within 1 s")
        self.stage = Stage.CLOSED
        self.transport.abort()

    def settle(
        self, by: str, text: str, kind: Class = Class.AMBIGUOUS, code: int | None = None
    ) -> None:
        """Give every request of the connection its class, once (REC-001)."""
        if self.settled:
            return
        self.settled = True
        if self.stage in LIVE or self.stage is Stage.ENDING:
            self.stage = Stage.CLOSING
        recovery = self.client.recovery
        if code is None and by == "peer":
            code = self.goaway_code
        self.client.emit(
            "disconnected",
            conn=self.number,
            addr=self.addr,
            handshake=self.shaken_at is not None,
            by=by,
            code=code,
            reason=text,
        )
        for stream in list(self.streams.values()):
            state, call = stream.state, stream.call
            current = call.stream is stream
            self.remove(stream)
            if not current or call.phase is Phase.DONE:
                continue
            if state is State.IDLE:
                recovery.not_sent(call)
                continue
            worst = Class.PARTIAL if stream.responded else kind
            if stream.partial is not None and self.flaw("msg-delivers-incomplete"):
                call.deliver(bytes(stream.partial))
            recovery.classify(self, call, worst, self.goaway_code, text)
        self.ring.clear()
        self.slot.ended(self)
