"""One WMX/1 connection of the model worker: callbacks, handshake, clocks and violations.

The rules of this file: silence before the magic (HSK-002), one SETTINGS and one SETTINGS_ACK each
(HSK-006, HSK-007), liveness by octets (HBT-003, HBT-004), and a violation ends the connection with
one GOAWAY and a lingering close (CLS-001, CLS-002).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from typing import cast

import model_tls
import model_wire as w
from model_intake import Intake
from model_output import BATCH, LINGER, Stage


class Connection(Intake):
    """The worker's end of one connection."""

    # asyncio callbacks ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Prepare the socket; stay silent (HSK-002)."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=BATCH, low=0)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            lowat = getattr(socket, "TCP_NOTSENT_LOWAT", None)
            if lowat is not None:  # FAI-005
                sock.setsockopt(socket.IPPROTO_TCP, lowat, 131_072)
        self.server.connection_pending(self)
        session = transport.get_extra_info("ssl_object")
        if session is not None and not model_tls.admitted(session, self.flaw):
            self.close_silently()  # SEC-001
            return
        if self.flaw("hsk-greets-first"):
            self.put(w.preface(w.VERSION, w.VERSION))
        self.tick()

    def data_received(self, data: bytes) -> None:
        """Judge what has come; every violation of the peer ends here."""
        if self.stage in (Stage.LINGER, Stage.DEAD):
            return  # CLS-002: read and discard
        now = self.loop.time()
        if not self.ack_seen and self.flaw("hsk-octets-restart-timeout"):
            self.accepted = now
        self.buffer += data
        done = 0
        try:
            if self.stage is Stage.PREFACE:
                self._read_preface()
            if self.stage is Stage.FRAMES:
                done = self.read_frames()
        except w.ViolationError as fault:
            if self.stage is Stage.FRAMES and self.flaw("stm-goes-on-after-error"):
                self._go_on(fault)
            else:
                self.fail(fault)
            return
        partial = bool(self.buffer) or self.head is not None
        if done or not partial or not self.flaw("hbt-only-whole-frames-count"):
            self.last_rx = now
        if self.stage is not Stage.FRAMES or not partial:
            self.frame_since = None
        elif done or self.frame_since is None:
            self.frame_since = now  # FRM-013 runs from the first octet of the frame

    def eof_received(self) -> bool:
        """End the connection: there is no half-open operation (CLS-010)."""
        if self.stage is Stage.FRAMES and self.flaw("cls-eof-is-half-open"):
            return True
        self.drop()
        self._linger(LINGER)
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Cancel what runs and forget everything (CLS-010, REC-009)."""
        self.drop()
        self.stage = Stage.DEAD
        for timer in (self.timer, self.linger_timer, self.grace_timer):
            if timer is not None:
                timer.cancel()
        self.server.connection_gone(self)

    def pause_writing(self) -> None:
        """Stop handing frames to a socket that is full."""
        self.paused = True
        if self.flaw("flw-blocked-writer-stops-reader"):
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on writing."""
        self.paused = False
        if self.flaw("flw-blocked-writer-stops-reader"):
            self.transport.resume_reading()
        self.schedule()

    # Handshake --------------------------------------------------------------------------------

    def _read_preface(self) -> None:
        if bytes(self.buffer[:8]) != w.MAGIC[: len(self.buffer)]:
            if self.flaw("hsk-answers-bad-magic"):
                self.put(w.goaway(w.PROTOCOL_ERROR, 0, 0, "HSK-002: bad magic"))
            if not self.flaw("hsk-ignores-bad-magic"):
                self.close_silently()
            return
        if len(self.buffer) < w.PREFACE_SIZE:
            return
        hi, lo, size = w.read_preface(self.buffer)
        del self.buffer[: w.PREFACE_SIZE]
        fits = lo <= w.VERSION <= hi
        if hi != w.VERSION and fits and self.flaw("hsk-only-exact-version"):
            fits = False
        if not fits and self.flaw("hsk-accepts-any-version"):
            fits = True
        if size != w.HEADER_SIZE and not self.flaw("hsk-ignores-header-size"):
            fits = False
        if not fits:
            self._refuse_preface()
            return
        selected = w.VERSION
        if hi > w.VERSION and self.flaw("hsk-selects-highest-offer"):
            selected = hi
        self.put(w.preface(selected, selected))
        self.stage = Stage.FRAMES
        if not self.server.admit(self):  # HSK-011
            if not self.flaw("hsk-limit-closes-silently"):
                self.put(w.goaway(w.CONNECTION_LIMIT, 0, 0, "HSK-011: too many connections"))
            self.half_close()
            return
        if self.flaw("hsk-ping-before-settings"):
            self.put(w.frame(w.HEARTBEAT, subtype=w.PING, payload=bytes(8)))
        self.put(w.settings(self._own_settings()))

    def _refuse_preface(self) -> None:
        if self.flaw("hsk-mismatch-without-preface"):
            self.close_silently()
            return
        self.put(w.preface(w.VERSION, w.VERSION))
        if self.flaw("hsk-mismatch-with-settings"):
            self.put(w.settings(self._own_settings()))
        self.half_close()

    def _own_settings(self) -> list[tuple[int, int]]:
        c = self.config
        max_frame = 8_192 if self.flaw("set-announces-below-floor") else c.max_frame
        pairs = [
            (w.S_MAX_FRAME, max_frame),
            (w.S_MAX_CONCURRENT, c.max_concurrent),
            (w.S_STREAM_WINDOW, c.stream_window),
            (w.S_CONNECTION_WINDOW, c.connection_window),
            (w.S_MAX_METADATA, c.max_metadata),
            (w.S_MAX_MESSAGE, c.max_message),
            (w.S_IDLE_TIMEOUT, c.idle_timeout_ms),
        ]
        if not self.flaw("frm-no-grease-setting"):
            pairs.append((0x2A2A, int.from_bytes(os.urandom(4), "big")))
        return pairs

    def on_settings(self, payload: bytes) -> None:
        """Apply SETTINGS and acknowledge them."""
        if self.settings_seen:
            if not self.flaw("hsk-accepts-second-settings"):
                raise w.ViolationError(w.PROTOCOL_ERROR, "HSK-006", "second SETTINGS")
            return
        self.peer = w.read_settings(payload, self.flaw)
        self.settings_seen = True
        self.send_limit = self.peer[w.S_CONNECTION_WINDOW]
        if self.peer[w.S_MAX_CONCURRENT] < self.max_concurrent and self.flaw(
            "set-obeys-client-concurrency"
        ):
            self.max_concurrent = self.peer[w.S_MAX_CONCURRENT]
        ack = w.control(w.SETTINGS_ACK)
        if self.flaw("hsk-late-ack"):
            self.loop.call_later(0.3, self.queue, ack)
        elif not self.flaw("hsk-no-ack"):
            self.queue(ack)
        if self.flaw("hsk-two-acks"):
            self.queue(ack)
        if self.flaw("hsk-sends-settings-twice"):
            self.queue(w.settings(self._own_settings()))
        if self.flaw("hbt-pings-freely"):
            for _ in range(20):
                self._ping()
        self.tick()

    # Time -------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look at every clock of the connection, then look again later."""
        if self.timer is not None:
            self.timer.cancel()
        if self.stage not in (Stage.PREFACE, Stage.FRAMES):
            return
        if self.stage is Stage.PREFACE and self.buffer and self.flaw("dos-partial-preface-spins"):
            ends = time.process_time() + 0.003
            while time.process_time() < ends:
                pass
        period = min(self.config.idle_timeout_ms, self.config.handshake_timeout_ms)
        if self.settings_seen:
            period = min(period, self.peer[w.S_IDLE_TIMEOUT])
        self.timer = self.loop.call_later(min(100, max(2, period / 16)) / 1000, self.tick)
        try:
            self._check_clocks(self.loop.time())
        except w.ViolationError as fault:
            self.fail(fault)

    def _check_clocks(self, now: float) -> None:
        idle = self.config.idle_timeout_ms / 1000
        shaken = self.ack_seen or (self.settings_seen and self.flaw("hsk-needs-no-ack"))
        late = now - self.accepted >= self.config.handshake_timeout_ms / 1000
        if not shaken and late and not self.flaw("hsk-no-timeout"):
            if self.stage is Stage.PREFACE:
                if not self.flaw("hsk-ignores-bad-magic"):
                    self.close_silently()
                return
            raise w.ViolationError(w.HANDSHAKE_TIMEOUT, "HSK-008", "the handshake took too long")
        if self.stage is not Stage.FRAMES:
            return
        limit = idle
        if self.flaw("hbt-idle-too-short"):
            limit = idle / 2
        silent = self.ack_seen and now - self.last_rx >= limit
        if silent and self.streams and self.flaw("hbt-requests-suspend-timeout"):
            silent = False
        if silent and not self.flaw("hbt-no-idle-timeout"):
            raise w.ViolationError(w.HEARTBEAT_TIMEOUT, "HBT-003", "no octet came in time")
        slow = self.frame_since is not None and now - self.frame_since >= idle
        if slow and not self.flaw("frm-dribble-forever"):
            raise w.ViolationError(w.HEARTBEAT_TIMEOUT, "FRM-013", "a frame took too long")
        if len(self.pings) > 2 and self.flaw("hbt-demands-pong"):
            raise w.ViolationError(w.HEARTBEAT_TIMEOUT, "HBT-005", "no PONG came")
        pending = self.transport.get_write_buffer_size()
        if pending == 0 or self.written - pending > self.progress:
            self.progress = self.written - pending
            self.progress_at = now
            if pending:
                self.last_tx = now
        elif now - self.progress_at >= idle and not self.flaw("hbt-no-write-timeout"):
            self.reset()  # HBT-006
            return
        self._heartbeat(now)
        for stream in list(self.streams.values()):
            since = stream.blocked_since
            slow = since is not None and now - since >= self.config.slow_consumer_ms / 1000
            if slow and not self.flaw("flw-waits-for-slow-consumers"):
                stream.abort(w.CallError(w.SLOW_CONSUMER, "FLW-013: no credit for too long"))

    def _heartbeat(self, now: float) -> None:
        every = self.peer[w.S_IDLE_TIMEOUT]
        if self.flaw("hbt-uses-own-timeout"):
            every = self.config.idle_timeout_ms
        due = self.settings_seen and not self.paused and now - self.last_tx >= every * 3 / 8_000
        if due and not self.flaw("hbt-no-heartbeat"):
            self._ping()

    def _ping(self) -> None:
        opaque = os.urandom(8)
        self.pings.append(opaque)
        self.queue(w.frame(w.HEARTBEAT, subtype=w.PING, payload=opaque))

    # Violations --------------------------------------------------------------------------------

    def fail(self, fault: w.ViolationError) -> None:
        """End the connection because the peer broke a rule (CLS-001, CLS-002)."""
        if self.stage is Stage.PREFACE:
            self.close_silently()
            return
        if self.stage is not Stage.FRAMES:
            return
        while self.controls:
            self.put(self.controls.popleft())
        code = w.NO_ERROR if self.flaw("cls-goaway-without-code") else fault.code
        if self.flaw("cls-goaway-always-internal"):
            code = w.INTERNAL_ERROR_CONN
        ordinal = self.ordinal
        if self.flaw("rid-ordinals-from-zero"):
            ordinal = max(0, ordinal - 1)
        if self.flaw("cls-ordinal-counts-bad-open"):
            ordinal += 1
        if self.draining and self.flaw("cls-later-ordinal-rises"):
            ordinal += 1
        text = fault.text if self.flaw("obs-goaway-without-requirement") else str(fault)
        if not self.flaw("cls-no-goaway"):
            self.put(w.goaway(code, ordinal, 0, text))
        if self.flaw("cls-no-linger"):
            self.drop()
            self.transport.close()
            return
        if self.flaw("cls-stays-open"):
            self.drop()
            return
        self.half_close()

    def _go_on(self, fault: w.ViolationError) -> None:
        # Only a flawed worker comes here: it reports the fault, skips the frame and goes on.
        self.queue(w.goaway(fault.code, self.ordinal, 0, str(fault)))
        if self.head is not None:
            self.head.type = 0xFF
        if self.buffer:
            self.loop.call_soon(self.data_received, b"")
