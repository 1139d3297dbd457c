"""One call-home connection of the model router: its preface, its frames, its clocks.

The rules of this file: silence before the magic and 5 s for the preface (P0-002), one stream at a
time (P0-012), DONE behind each terminal (P0-008), liveness by octets (P0-014). A violation closes
without a frame. What becomes of a stream is decided in `model_router`.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, cast

import model_client_wire as cw
import model_wire as w

if TYPE_CHECKING:
    from model_router import HomeStream, Router

MAGIC = bytes((0xF7, 0x57, 0x43, 0x48, 0x0D, 0x0A, 0x1A, 0x0A))
HELLO, ACCEPT, REJECT, DONE = 0x20, 0x21, 0x22, 0x23
MAX_FRAME = 1_048_576
MAX_METADATA = 65_536
MAX_CONTROL = 4_096
DEFAULT_IDLE = 60_000
PREFACE_TIME = 5.0
LAST_LOOK = 0.02  # in which the event loop polls every socket
MOST_REJECTS = 3
LENGTHS = {HELLO: 16, w.STOP: 4, w.KILL: 4, ACCEPT: 0, REJECT: 4, DONE: 0}
_PREFACE = struct.Struct(">8sBBBBI")


class LostError(Exception):
    """A violation of the worker: the connection is closed without a frame."""


class HomeConnection(asyncio.Protocol):
    """The router's end of a connection that a worker dialled."""

    def __init__(self, router: Router, number: int) -> None:
        self.router = router
        self.flaw = router.flaw
        self.loop = router.loop
        self.number = number
        self.addr = ""
        self.transport: asyncio.Transport
        self.buffer = bytearray()
        self.head: w.Head | None = None
        self.greeted = False
        self.over = False
        self.reason = ""
        self.by = "peer"
        self.stream: HomeStream | None = None
        self.seq = 0
        self.rejects = 0
        self.own_idle = router.idle_ms / 1_000
        self.peer_idle = DEFAULT_IDLE / 1_000
        self.paused = False
        self.idle: asyncio.TimerHandle | None = None
        self.beat: asyncio.TimerHandle | None = None

    # asyncio callbacks ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the preface."""
        self.transport = cast(asyncio.Transport, transport)
        host, port = transport.get_extra_info("peername")[:2]
        self.addr = f"{host}:{port}"
        self.router.connections.add(self)
        if self.flaw("p0-greets-first"):
            self._answer(1, 1)
        if not self.flaw("p0-no-preface-timeout"):
            self.idle = self.loop.call_later(PREFACE_TIME, self.end, "P0-002: no preface")

    def data_received(self, data: bytes) -> None:
        """Judge what has come."""
        if self.over:
            return
        self.buffer += data
        if self.greeted:
            if not self.flaw("p0-only-frames-count"):
                self._heard()
        elif self.idle is not None and self.flaw("p0-octets-restart-preface-timeout"):
            self.idle.cancel()
            self.idle = self.loop.call_later(PREFACE_TIME, self.end, "P0-002: no preface")
        try:
            if not self.greeted:
                self._read_preface()
            while self.greeted and not self.over and self._read_frame():
                pass
        except (LostError, w.ViolationError) as fault:
            self._violated(str(fault))

    def eof_received(self) -> bool:
        """End the connection."""
        if self.stream is not None and self.flaw("p0-eof-is-half-open"):
            return True
        self.end("end of the stream")
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        """Take the end."""
        self.end("closed", by="peer")
        self.router.connections.discard(self)
        self.router.emit_disconnected(self)
        self.router.gone()

    # Preface ----------------------------------------------------------------------------------

    def _read_preface(self) -> None:
        magic = bytes(self.buffer[:8])
        if magic != MAGIC[: len(magic)]:
            if self.flaw("p0-answers-bad-magic"):
                self._answer(1, 1)
            if not self.flaw("p0-ignores-bad-magic"):
                self.end("P0-002: no preface")
            return
        if len(self.buffer) < w.PREFACE_SIZE:
            return
        _magic, hi, lo, size, _flags, idle = _PREFACE.unpack_from(self.buffer)
        del self.buffer[: w.PREFACE_SIZE]
        bad_idle = bool(idle) and not 100 <= idle <= 600_000
        if bad_idle and not self.flaw("p0-accepts-bad-idle-timeout"):
            if self.flaw("p0-answers-bad-idle-timeout"):
                self._answer(1, 1)
            self.end("P0-002: idle timeout")
            return
        served = lo <= 1 <= hi or self.flaw("p0-accepts-any-version")
        fits = size == w.HEADER_SIZE or self.flaw("p0-ignores-header-size")
        if not served or not fits:
            if not self.flaw("p0-refuses-without-preface"):
                self._answer(1, 1)
            if not self.flaw("p0-refusal-stays-open"):
                self.end("P0-002: version or header size")
            return
        self.peer_idle = (idle or DEFAULT_IDLE) / 1_000
        selected = hi if hi > 1 and self.flaw("p0-selects-highest-offer") else 1
        if not self.flaw("p0-greets-first"):
            self._answer(selected, selected)
        self.greeted = True
        self._heard()
        self._beat_later()
        self._rest()
        self.router.client.emit("connected", conn=self.number, addr=self.addr, version=1)

    def _answer(self, hi: int, lo: int) -> None:
        idle = 50 if self.flaw("p0-announces-bad-idle-timeout") else self.router.announced
        self._write(_PREFACE.pack(MAGIC, hi, lo, w.HEADER_SIZE, 0, idle))

    # Liveness ---------------------------------------------------------------------------------

    def _heard(self) -> None:
        """Restart the idle timeout: octets have come (P0-014)."""
        if self.idle is not None:
            self.idle.cancel()
            self.idle = None
        if self.paused and not self.flaw("p0-pause-runs-the-timer"):
            return
        if self.stream is not None and self.flaw("p0-stream-suspends-idle-timeout"):
            return
        most = self.own_idle / (2 if self.flaw("p0-idle-too-short") else 1)
        if not self.flaw("p0-no-idle-timeout"):
            self.idle = self.loop.call_later(most, self._silent)

    def _silent(self) -> None:
        """Read what waits in the socket before the silence counts (HBT-003)."""
        self.idle = self.loop.call_later(LAST_LOOK, self.end, "P0-014: idle timeout")

    def _beat_later(self) -> None:
        peer = self.own_idle if self.flaw("p0-heartbeat-by-own-timeout") else self.peer_idle
        if not self.over and not self.flaw("p0-no-heartbeat"):
            self.beat = self.loop.call_later(peer / 3, self._ping)

    def _ping(self) -> None:
        if not (self.paused and self.flaw("p0-pause-stops-pings")):
            self._write(w.frame(w.HEARTBEAT, subtype=w.PING, payload=bytes(8)))
        self._beat_later()

    def pause(self, on: bool) -> None:
        """Stop reading, or read again: the caller does so too."""
        if self.over or self.paused is on:
            return
        self.paused = on
        if not self.flaw("p0-reads-while-paused"):
            if on:
                self.transport.pause_reading()
            else:
                self.transport.resume_reading()
        self._heard()

    # Frames -----------------------------------------------------------------------------------

    def _read_frame(self) -> bool:
        if self.head is None:
            if len(self.buffer) < w.HEADER_SIZE:
                if self.buffer and self.buffer[0] != w.MARKER:
                    self._require(False, "p0-accepts-marker", "FRM-002: marker")
                return False
            head = w.Head.decode(self.buffer)
            self._check(head)
            self.head = head
        head = self.head
        if len(self.buffer) < w.HEADER_SIZE + head.length:
            return False
        payload = bytes(self.buffer[w.HEADER_SIZE : w.HEADER_SIZE + head.length])
        del self.buffer[: w.HEADER_SIZE + head.length]
        self.head = None
        self._heard()
        self._handle(head, payload)
        return True

    def _require(self, good: bool, flaw: str, text: str) -> None:
        if not good and not self.flaw(flaw):
            raise LostError(text)

    def _check(self, h: w.Head) -> None:
        self._require(h.marker == w.MARKER, "p0-accepts-marker", "FRM-002: marker")
        ignorable = h.type >= 0x80 or (h.type == w.CONTROL and h.subtype >= 0x80)
        known = h.type in (w.RESPONSE, w.CONTROL, w.HEARTBEAT) or h.type >= 0x80
        self._require(known, "p0-skips-unknown-types", "FRM-004: type")
        small = h.type in (w.CONTROL, w.HEARTBEAT)
        limit = MAX_CONTROL if small else MAX_FRAME
        if h.length == limit and not small and self.flaw("p0-refuses-full-frame"):
            raise LostError("FRM-003: length")
        if h.length > limit:
            self._require(False, "p0-accepts-oversize", "FRM-003: length")
        if ignorable:
            if self.flaw("p0-refuses-ignorable"):
                raise LostError("FRM-005: ignorable")
            return
        if small:
            self._require(not h.flags & 0x0F, "p0-accepts-bad-flags", "FRM-006: flags")
            self._require(h.seq == 0, "p0-accepts-control-seq", "FRM-007: seq")
        if h.type == w.CONTROL:
            self._check_control(h)
        elif h.type == w.HEARTBEAT:
            good = h.subtype in (w.PING, w.PONG) and h.length == 8 and h.rid == w.ZERO_ID
            self._require(good, "p0-accepts-bad-ping", "PAY-001: heartbeat")
        elif h.type == w.RESPONSE:
            self._check_response(h)

    def _check_control(self, h: w.Head) -> None:
        if h.subtype in (w.STOP, w.KILL, ACCEPT, REJECT, DONE):
            self._require(False, "p0-ignores-router-frames", "TYP-001: of a router")
        elif h.subtype != HELLO:
            self._require(False, "p0-ignores-wmx-control", "FRM-004: subtype")
        else:
            good = h.length == 16 or self.flaw("p0-accepts-short-hello")
            self._require(good, "p0-accepts-short-hello", "PAY-001: HELLO")
            self._require(h.rid != w.ZERO_ID, "p0-accepts-zero-id", "FRM-008: id")
            if self.stream is not None:
                self._require(False, "p0-ignores-hello-in-stream", "P0-012: second HELLO")

    def _check_response(self, h: w.Head) -> None:
        end, more, error = h.flags & w.END_STREAM, h.flags & w.MORE, h.flags & w.ERROR
        self._require(not (end and more), "p0-accepts-end-with-more", "TYP-002")
        meta = h.flags & w.META
        self._require(
            not error or (bool(end) and not meta), "p0-accepts-error-without-end", "TYP-004"
        )
        late = meta and h.seq and not end
        self._require(not late, "p0-accepts-meta-mid-stream", "TYP-005")
        self._require(h.subtype == 0, "p0-accepts-response-subtype", "FRM-007")
        if self.stream is None:
            self._require(False, "p0-ignores-response-while-idle", "P0-012: no stream")
            return
        same = h.rid == self.stream.rid
        self._require(same, "p0-accepts-other-id", "P0-012: id")
        if h.seq > self.seq:
            self._require(False, "p0-accepts-gap", "FRM-010: seq")
        if h.seq < self.seq:
            self._require(False, "p0-accepts-repeat", "FRM-010: seq")
        self.seq = h.seq + 1

    def _handle(self, h: w.Head, payload: bytes) -> None:
        if h.type == w.HEARTBEAT and h.subtype == w.PING:
            if self.flaw("p0-no-pong") or (self.stream is None and self.flaw("p0-idle-no-pong")):
                return
            if self.flaw("p0-wrong-pong"):
                payload = payload[::-1]
            self._write(w.frame(w.HEARTBEAT, subtype=w.PONG, payload=payload))
        elif h.type == w.CONTROL and h.subtype == HELLO and self.stream is None:
            self.router.hello(self, h.rid, payload)
        elif h.type == w.RESPONSE and self.stream is not None:
            self._response(self.stream, h, payload)

    def _response(self, stream: HomeStream, h: w.Head, payload: bytes) -> None:
        end = bool(h.flags & w.END_STREAM)
        if h.flags & w.ERROR:
            if h.length > cw.MAX_ERROR_BODY and not self.flaw("p0-accepts-large-error-body"):
                raise LostError("PAY-007: error body")
            error = cw.read_error(payload, lambda _name: False)
            late = error.flags & w.NOT_PROCESSED and stream.responded
            self._require(not late, "p0-accepts-late-not-processed", "ADM-003")
            self.ended(failed=True)
            stream.failed(error)
            return
        headers: cw.Headers = []
        if h.flags & w.META:
            headers, payload = cw.read_block(payload, MAX_METADATA, lambda _name: False)
        if self.flaw("p0-done-behind-first-response") and not end and not stream.responded:
            self._write(w.control(DONE, rid=stream.rid))
        stream.response(h, headers, payload)
        if end:
            self.ended(failed=False)
            stream.succeeded(headers if h.seq else [])

    def ended(self, *, failed: bool) -> None:
        """Confirm a terminal: the connection is idle again (P0-008)."""
        stream, self.stream = self.stream, None
        self.seq = 0
        if stream is None or (self.paused and self.over):
            return
        killed = stream.killed
        rid = bytes(15) + b"\1" if self.flaw("p0-done-of-another-id") else stream.rid
        octets = w.control(DONE, rid=rid)
        if self.flaw("p0-two-dones"):
            octets += octets
        silent = (
            self.flaw("p0-no-done")
            or (failed and self.flaw("p0-no-done-behind-error"))
            or (killed and self.flaw("p0-no-done-behind-kill"))
        )
        if self.flaw("p0-late-done"):
            self.loop.call_later(25.0, self._write, octets)
        elif not silent:
            self._write(octets)
        if self.flaw("p0-closes-behind-done"):
            self.end("the stream is over")
        self._rest()

    def _rest(self) -> None:
        """Stay idle as long as the worker likes."""
        if self.flaw("p0-closes-what-is-idle"):
            self.loop.call_later(2.0, self._tire)

    def _tire(self) -> None:
        if self.stream is None:
            self.end("nothing to do")

    # Output and the end -----------------------------------------------------------------------

    def accept(self, stream: HomeStream) -> None:
        """Take a stream."""
        self.stream = stream
        self.seq = 0
        if not self.flaw("p0-accepts-silently"):
            self._write(w.control(ACCEPT, rid=stream.rid))

    def reject(self, rid: bytes, code: int) -> None:
        """Refuse a HELLO; behind the third with NOT_FOUND the connection ends (P0-018)."""
        if self.flaw("p0-rejects-by-closing"):
            self.end("P0-018: no such stream")
            return
        if not self.flaw("p0-rejects-silently"):
            self._write(w.control(REJECT, code.to_bytes(4, "big"), rid))
        if code == w.NOT_FOUND or self.flaw("p0-cancelled-counts"):
            self.rejects += 1
        most = 2 if self.flaw("p0-closes-behind-two") else MOST_REJECTS
        if self.rejects >= most and not self.flaw("p0-no-limit-of-rejects"):
            self.end("P0-018: three guesses")

    def control(self, subtype: int, reason: int) -> None:
        """Send STOP or KILL for the stream."""
        if self.stream is not None:
            self._write(w.control(subtype, cw.u32(reason), self.stream.rid))

    def _write(self, octets: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(octets)

    def _violated(self, text: str) -> None:
        if self.flaw("p0-goaway-on-violation"):
            self._write(w.goaway(w.PROTOCOL_ERROR, 0, 0, text))
        if self.flaw("p0-violation-stays-open"):
            self.buffer.clear()
            self.head = None
            return
        self.end(text)

    def end(self, text: str, by: str = "local") -> None:
        """Close; the stream of the connection is lost."""
        if self.over:
            return
        self.over = True
        self.reason = text
        self.by = by
        for timer in (self.idle, self.beat):
            if timer is not None:
                timer.cancel()
        self.transport.close()
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.lost()
