"""One WMX/1 connection of the model worker: from the preface to the last octet.

The rules of this file: octets are judged in the order of the precedence list (marker, first frame,
type, length, flags, subtype and seq, id, fixed length, META/seq/END, credit, state, sequence,
payload); Control and Heartbeat go before data (FAI-001); a violation ends the connection with one
GOAWAY and a lingering close (CLS-001, CLS-002).
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import socket
import struct
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, cast

import model_wire as w
from model_stream import Refused, Stream
from model_subjects import SUBJECTS

if TYPE_CHECKING:
    from model_worker import Server

TOMBSTONES = 1_024
BATCH = 65_536
CONTROL_LIMIT = 4_096
QUEUED_LIMIT = 1_048_576
LINGER = 1.0
NEVER = 86_400.0


class Stage(enum.Enum):
    """How far the connection is."""

    PREFACE = enum.auto()
    FRAMES = enum.auto()
    LINGER = enum.auto()
    DEAD = enum.auto()


class Connection(asyncio.Protocol):
    """The worker's end of one connection."""

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
                done = self._read_frames()
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

    def _on_settings(self, payload: bytes) -> None:
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
        self.tick()

    # Frames: the header alone -----------------------------------------------------------------

    def _read_frames(self) -> int:
        done = 0
        while self.stage is Stage.FRAMES:
            if self.head is None:
                if len(self.buffer) < w.HEADER_SIZE:
                    if self.buffer and self.flaw("frm-loses-split-header"):
                        self.buffer.clear()
                    break
                self.head = w.Head.decode(self.buffer)
                del self.buffer[: w.HEADER_SIZE]
                self._check_header(self.head)
            head = self.head
            if len(self.buffer) < head.length:
                if self.buffer and self.flaw("frm-loses-split-payload"):
                    self.buffer.clear()
                break
            payload = bytes(self.buffer[: head.length])
            del self.buffer[: head.length]
            self.head = None
            done += 1
            if self.late_fault is not None:
                raise self.late_fault
            self._handle(head, payload)
            if self.buffer and self.flaw("frm-one-frame-per-read"):
                break
        return done

    def _check_header(self, h: w.Head) -> None:
        if h.marker != w.MARKER and not self.flaw("frm-accepts-marker"):
            raise w.ViolationError(w.PROTOCOL_ERROR, "FRM-002", "bad marker")
        first = h.type == w.CONTROL and h.subtype == w.SETTINGS
        if not self.settings_seen and not first and not self.flaw("hsk-any-first-frame"):
            raise w.ViolationError(w.PROTOCOL_ERROR, "HSK-005", "the first frame is not SETTINGS")
        if h.type == w.RESPONSE:
            if not self.flaw("typ-accepts-response"):
                raise w.ViolationError(w.PROTOCOL_ERROR, "TYP-001", "RESPONSE from a client")
        elif not w.REQUEST <= h.type <= w.HEARTBEAT and h.type < 0x80:
            if not self.flaw("frm-ignores-unknown-type"):
                raise w.ViolationError(w.UNSUPPORTED_FRAME, "FRM-004", "unknown critical type")
        elif h.type >= 0x80 and self.flaw("frm-refuses-ignorable-type"):
            raise w.ViolationError(w.UNSUPPORTED_FRAME, "FRM-005", "unknown type")
        self._check_length(h)
        if h.type not in (w.REQUEST, w.CONTROL, w.HEARTBEAT):
            return
        self._check_flags(h)
        self._check_subtype(h)
        self._check_id(h)
        self._check_fixed_length(h)
        if h.type == w.REQUEST:
            self._check_request(h)

    def _check_length(self, h: w.Head) -> None:
        small = h.type in (w.CONTROL, w.HEARTBEAT)
        limit = CONTROL_LIMIT if small else self.config.max_frame
        if h.length == limit and not small and self.flaw("set-refuses-full-frame"):
            limit -= 1
        if h.length <= limit:
            return
        if h.length >= 1 << 32 and self.flaw("frm-length-is-32-bit"):
            h.length &= 0xFFFFFFFF
            return
        if small and h.length <= self.config.max_frame and self.flaw("frm-large-control"):
            return
        if not small and h.length <= 1 << 24 and self.flaw("frm-accepts-oversize"):
            return
        fault = w.ViolationError(w.FRAME_SIZE_ERROR, "FRM-003", "payload_length above the limit")
        if not self.flaw("frm-waits-for-payload"):
            raise fault
        self.late_fault = fault

    def _check_flags(self, h: w.Head) -> None:
        if h.flags & 0xF0 and self.flaw("frm-refuses-reserved-flags"):
            raise w.ViolationError(w.PROTOCOL_ERROR, "FRM-006", "reserved flag")
        if h.type == w.REQUEST:
            if h.flags & w.ERROR and not self.flaw("typ-accepts-request-error"):
                raise w.ViolationError(w.PROTOCOL_ERROR, "TYP-004", "ERROR on REQUEST")
        elif h.flags & 0x0F and not self.flaw("frm-accepts-bad-flags"):
            raise w.ViolationError(w.PROTOCOL_ERROR, "FRM-006", "flag not allowed for this type")

    def _check_subtype(self, h: w.Head) -> None:
        if h.type == w.REQUEST:
            if h.subtype and not self.flaw("frm-accepts-request-subtype"):
                raise w.ViolationError(w.PROTOCOL_ERROR, "FRM-007", "subtype on REQUEST")
            return
        if h.type == w.HEARTBEAT:
            if h.subtype not in (w.PING, w.PONG) and not self.flaw("frm-ignores-heartbeat-subtype"):
                raise w.ViolationError(w.PROTOCOL_ERROR, "FRM-004", "unknown Heartbeat subtype")
            return
        if not w.SETTINGS <= h.subtype <= w.GOAWAY and h.subtype < 0x80:
            if not self.flaw("frm-ignores-unknown-control"):
                raise w.ViolationError(w.UNSUPPORTED_FRAME, "FRM-004", "unknown Control subtype")
        elif h.subtype >= 0x80 and self.flaw("frm-refuses-ignorable-control"):
            raise w.ViolationError(w.UNSUPPORTED_FRAME, "FRM-005", "unknown Control subtype")
        if h.seq and not self.flaw("frm-accepts-control-seq"):
            raise w.ViolationError(w.PROTOCOL_ERROR, "FRM-007", "seq on Control")

    def _check_id(self, h: w.Head) -> None:
        zero, ones = h.rid == w.ZERO_ID, h.rid == w.ONES_ID
        if h.type == w.CONTROL and h.subtype >= 0x80:
            return  # free for extensions
        if h.type == w.CONTROL and h.subtype == w.WINDOW_UPDATE:
            bad = ones
        elif h.type == w.REQUEST or h.subtype in (w.STOP, w.KILL):
            bad = zero or ones
            version = h.rid[6] >> 4
            if not bad and version not in (4, 7) and self.flaw("frm-checks-uuid-version"):
                bad = True
        else:
            bad = not zero
            if bad and self.flaw("frm-accepts-id-on-connection-frame"):
                return
        if bad and zero and self.flaw("frm-accepts-zero-id"):
            return
        if bad and ones and self.flaw("frm-accepts-ones-id"):
            return
        if bad:
            raise w.ViolationError(w.PROTOCOL_ERROR, "FRM-008", "request_id does not fit the frame")

    def _check_fixed_length(self, h: w.Head) -> None:
        good = True
        if h.type == w.HEARTBEAT:
            good = h.length == 8
        elif h.type == w.CONTROL:
            if h.subtype == w.SETTINGS:
                good = h.length % 10 == 0 and h.length <= 640
            elif h.subtype == w.SETTINGS_ACK:
                good = h.length == 0
            elif h.subtype == w.WINDOW_UPDATE:
                good = h.length == 8
            elif h.subtype in (w.STOP, w.KILL):
                good = h.length == 4
            elif h.subtype == w.GOAWAY and h.length < 18:
                raise w.ViolationError(w.FRAME_SIZE_ERROR, "PAY-001", "GOAWAY too short")
        if not good and not self.flaw("pay-accepts-bad-length"):
            raise w.ViolationError(w.FRAME_SIZE_ERROR, "PAY-001", "wrong payload length")

    def _check_request(self, h: w.Head) -> None:
        end, more, meta = h.flags & w.END_STREAM, h.flags & w.MORE, h.flags & w.META
        if end and more and not self.flaw("typ-accepts-end-with-more"):
            raise w.ViolationError(w.PROTOCOL_ERROR, "TYP-002", "END_STREAM with MORE")
        if h.seq == 0 and not meta and not self.flaw("typ-accepts-open-without-meta"):
            raise w.ViolationError(w.PROTOCOL_ERROR, "TYP-003", "OPEN without META")
        if h.seq and meta and not self.flaw("typ-accepts-late-meta"):
            raise w.ViolationError(w.PROTOCOL_ERROR, "TYP-003", "META after seq 0")
        if self.in_message not in (None, h.rid) and self.flaw("fai-refuses-interleaving"):
            raise w.ViolationError(
                w.PROTOCOL_ERROR, "FAI-003", "frame of another request in a message"
            )
        self.in_message = h.rid if more else None
        stream = self.streams.get(h.rid)
        self._check_credit(h, stream)
        self._check_state(h, stream)

    @staticmethod
    def _cost(h: w.Head) -> int:
        exempt = h.flags & w.END_STREAM and h.length == 0
        return 0 if exempt else w.HEADER_SIZE + h.length

    def _check_credit(self, h: w.Head, stream: Stream | None) -> None:
        cost = self._cost(h)
        over = self.received + cost > self.limit
        if over and not self.flaw("flw-accepts-connection-overrun"):
            raise w.ViolationError(w.FLOW_CONTROL_ERROR, "FLW-002", "connection limit exceeded")
        if stream is not None:
            over = stream.received + cost > stream.limit
        else:
            over = h.seq == 0 and cost > self.config.stream_window
        if over and not self.flaw("flw-accepts-stream-overrun"):
            raise w.ViolationError(w.FLOW_CONTROL_ERROR, "FLW-002", "stream limit exceeded")
        self.received += cost
        if stream is not None:
            stream.received += cost

    def _check_state(self, h: w.Head, stream: Stream | None) -> None:
        self.discard_frame = False
        dead = h.rid in self.tombstones or (
            h.rid in self.server.all_ids and self.flaw("rec-ids-outlive-connection")
        )
        if h.seq == 0:
            if self.client_goaway and not self.flaw("cls-accepts-open-after-client-goaway"):
                raise w.ViolationError(
                    w.PROTOCOL_ERROR, "CLS-009", "OPEN after the client's GOAWAY"
                )
            if stream is not None and not self.flaw("rid-accepts-live-duplicate"):
                raise w.ViolationError(w.DUPLICATE_REQUEST, "RID-002", "id is live")
            if dead and not self.flaw("rid-accepts-finished-duplicate"):
                raise w.ViolationError(w.DUPLICATE_REQUEST, "RID-002", "id was used")
            return
        if stream is None:
            self.discard_frame = True
            if dead and self.flaw("rid-late-chunk-closes"):
                raise w.ViolationError(w.STREAM_STATE_ERROR, "RID-003", "frame behind the terminal")
            if not dead or self.flaw("rid-late-chunk-is-glitch"):
                self._stray("REQUEST for an unknown id")
            return
        if stream.killed and not self.flaw("stm-accepts-chunk-after-kill"):
            raise w.ViolationError(w.STREAM_STATE_ERROR, "STM-001", "REQUEST after KILL")
        if stream.ended and not self.flaw("stm-accepts-chunk-after-end"):
            raise w.ViolationError(w.STREAM_STATE_ERROR, "STM-001", "REQUEST after END_STREAM")
        if h.seq != stream.next_seq and not self.flaw("frm-accepts-seq-gap"):
            raise w.ViolationError(w.SEQUENCE_ERROR, "FRM-010", "seq gap or repeat")
        stream.next_seq = h.seq + 1

    def _stray(self, text: str) -> None:
        if self.flaw("rid-stray-closes"):
            raise w.ViolationError(w.STREAM_STATE_ERROR, "RID-003", text)
        self._glitch()

    def _glitch(self) -> None:
        if self.glitch_budget.level < 150 and self.flaw("dos-strict-glitches"):
            raise w.ViolationError(w.ENHANCE_YOUR_CALM, "DOS-001", "too many useless frames")
        if not self.glitch_budget.take() and not self.flaw("dos-no-glitch-budget"):
            raise w.ViolationError(w.ENHANCE_YOUR_CALM, "DOS-001", "too many useless frames")

    # Frames: with their payload ---------------------------------------------------------------

    def _handle(self, h: w.Head, payload: bytes) -> None:
        if h.type >= 0x80 or (h.type == w.CONTROL and h.subtype >= 0x80):
            self._glitch()  # FRM-005
        elif h.type == w.REQUEST:
            if self.flaw("stm-closes-on-every-request"):
                raise w.ViolationError(w.PROTOCOL_ERROR, "STM-001", "no")
            self._on_request(h, payload)
            self.credit(None)
        elif h.type == w.HEARTBEAT:
            self._on_heartbeat(h, payload)
        elif h.type == w.CONTROL:
            self._on_control(h, payload)

    def _on_heartbeat(self, h: w.Head, payload: bytes) -> None:
        if h.subtype == w.PONG:
            if payload not in self.pings:
                self._glitch()
                return
            while self.pings.popleft() != payload:  # it answers the earlier ones too
                pass
            return
        if h.subtype != w.PING:
            return
        if self.ping_budget.level < 80 and self.flaw("dos-strict-pings"):
            raise w.ViolationError(w.ENHANCE_YOUR_CALM, "DOS-001", "too many PINGs")
        if not self.ping_budget.take() and not self.flaw("dos-no-ping-budget"):
            raise w.ViolationError(w.ENHANCE_YOUR_CALM, "DOS-001", "too many PINGs")
        if self.flaw("hbt-no-pong"):
            return
        if self.flaw("hbt-wrong-pong"):
            payload = payload[::-1]
        seq = 1 if self.flaw("frm-pong-with-seq") else 0
        pong = w.frame(w.HEARTBEAT, subtype=w.PONG, seq=seq, payload=payload)
        if self.flaw("fai-pong-behind-data"):
            self.late.append(pong)
            self.schedule()
        else:
            self.queue(pong)

    def _on_control(self, h: w.Head, payload: bytes) -> None:
        if h.subtype == w.SETTINGS:
            self._on_settings(payload)
        elif h.subtype == w.SETTINGS_ACK:
            if self.ack_seen and not self.flaw("hsk-accepts-second-ack"):
                raise w.ViolationError(w.PROTOCOL_ERROR, "HSK-007", "second SETTINGS_ACK")
            self.ack_seen = True
        elif h.subtype == w.WINDOW_UPDATE:
            self._on_window_update(h.rid, w.read_u64(payload))
        elif h.subtype in (w.STOP, w.KILL):
            self._on_stop_or_kill(h)
        elif h.subtype == w.GOAWAY:
            code, _last, _grace = w.read_goaway(payload)
            self._on_goaway(code)

    def _on_window_update(self, rid: bytes, limit: int) -> None:
        if limit >= 1 << 63 and not self.flaw("flw-accepts-huge-limit"):
            raise w.ViolationError(w.FLOW_CONTROL_ERROR, "FLW-003", "limit of 2^63 or more")
        if self.draining and self.flaw("cls-drain-ignores-window-updates"):
            return
        stream = self.streams.get(rid)
        if rid != w.ZERO_ID and stream is None:
            if rid not in self.tombstones:
                self._stray("WINDOW_UPDATE for an unknown id")
            return
        if stream is not None and stream.ended and self.flaw("stm-window-update-on-half-closes"):
            raise w.ViolationError(w.STREAM_STATE_ERROR, "STM-001", "WINDOW_UPDATE on HALF")
        if stream is not None and stream.killed:
            return
        current = self.send_limit if stream is None else stream.send_limit
        if self.flaw("flw-limit-is-increment"):
            limit += current
        if limit <= current:
            self._glitch()
            if not self.flaw("flw-limit-shrinks"):
                return
        if stream is None:
            self.send_limit = limit
            for waiting in self.streams.values():
                self.wake(waiting)
        else:
            stream.send_limit = limit
            self.wake(stream)

    def _on_stop_or_kill(self, h: w.Head) -> None:
        stream = self.streams.get(h.rid)
        if stream is None:
            if h.rid not in self.tombstones:
                self._stray("STOP or KILL for an unknown id")
            return
        if h.subtype == w.STOP:
            if stream.ended and self.flaw("stm-stop-on-half-closes"):
                raise w.ViolationError(w.STREAM_STATE_ERROR, "STM-001", "STOP on HALF")
            if stream.killed or self.flaw("can-ignores-stop"):
                return
            if self.flaw("can-stop-is-kill"):
                stream.kill()
                return
            stream.stop.set()
            return
        if stream.killed and self.flaw("stm-second-kill-closes"):
            raise w.ViolationError(w.STREAM_STATE_ERROR, "STM-001", "second KILL")
        self.kills += 1
        if self.kills > 200 and self.flaw("can-punishes-kills"):
            raise w.ViolationError(w.ENHANCE_YOUR_CALM, "CAN-006", "too many KILLs")
        if not self.flaw("can-ignores-kill"):
            stream.kill()

    def _on_goaway(self, code: int) -> None:
        self.client_goaway = True
        if code != w.NO_ERROR or self.flaw("cls-client-goaway-closes"):
            self.half_close()  # the client says it is ending now: no GOAWAY back
        else:
            self.schedule()

    def _on_request(self, h: w.Head, payload: bytes) -> None:
        if h.seq == 0:
            try:
                block = w.read_open(payload, self.config.max_metadata, self.flaw)
            except w.ViolationError:
                if not self.flaw("pay-overrun-is-refusal"):
                    raise
                self.refuse(h.rid, w.CallError(w.INVALID_ARGUMENT, "metadata", w.NOT_PROCESSED))
                return
            self._on_open(h, block)
            return
        stream = self.streams.get(h.rid)
        if stream is not None and not self.discard_frame:
            stream.accept(h.flags, h.seq, payload, self._cost(h))

    # Requests ---------------------------------------------------------------------------------

    def _on_open(self, h: w.Head, block: w.OpenBlock) -> None:
        if not self.draining or self.flaw("cls-counts-opens-after-goaway"):
            self.ordinal += 1  # RID-005
        if not self.ack_seen and self.flaw("hsk-rejects-pipelined"):
            raise w.ViolationError(w.PROTOCOL_ERROR, "HSK-009", "OPEN before SETTINGS_ACK")
        try:
            self._admit(block)
        except w.CallError as error:
            if error.code == w.NOT_FOUND and self.flaw("pay-unknown-subject-closes"):
                raise w.ViolationError(w.PROTOCOL_ERROR, "PAY-004", "unknown subject") from None
            if error.code == w.OVERLOADED and self.flaw("adm-overload-closes"):
                raise w.ViolationError(
                    w.ENHANCE_YOUR_CALM, "ADM-002", "too many requests"
                ) from None
            if self.flaw("rid-refused-has-no-ordinal"):
                self.ordinal -= 1
            self.refuse(h.rid, error)
            return
        self.overloads = 0
        self._prepare_headers(block)
        stream = Stream(self, h.rid, block, SUBJECTS[block.subject.decode()])
        self.streams[h.rid] = stream
        self.slots.add(stream)
        self.server.remember_id(h.rid)
        stream.received = self._cost(h)
        if h.flags & w.END_STREAM or not self.flaw("stm-handler-waits-for-end"):
            stream.start()
        stream.start_deadline()
        stream.accept(h.flags, 0, block.body, stream.received)

    def _admit(self, block: w.OpenBlock) -> None:
        """Apply the refusals in their order.

        Raises:
            CallError: The refusal.
        """

        def refuse(code: int, text: str, retry: int = 0) -> None:
            raise w.CallError(code, text, w.NOT_PROCESSED, retry)

        if self.draining and not self.flaw("cls-open-after-goaway-runs"):
            refuse(w.DRAINING, "CLS-004: this connection drains")
        w.check_open(block, self.flaw)
        if block.subject.decode(errors="replace") not in SUBJECTS:
            refuse(w.NOT_FOUND, "PAY-004: unknown subject")
        for key, value in block.headers:
            if key == b"traceparent" and len(value) != 55 and self.flaw("obs-checks-traceparent"):
                refuse(w.INVALID_ARGUMENT, "OBS-002: traceparent")
            if key == b"content-length" and len(value) > 12 and self.flaw("obs-trusts-length"):
                refuse(w.MESSAGE_TOO_LARGE, "OBS-003: content-length")
        limit = self.max_concurrent
        if len(self.slots) >= 64 and self.flaw("set-serves-only-64"):
            limit = 64
        if self.flaw("adm-rejects-everything"):
            limit = 0
        busy = len(self.slots) >= limit or self.server.full()
        if busy and not self.flaw("adm-no-limit"):
            if self.flaw("adm-refused-runs"):
                self.server.opened += 1
            retry = 0 if self.flaw("adm-no-retry-after") else 250
            refuse(w.OVERLOADED, "ADM-002: too many requests", retry)
        if len(block.body) > self.config.max_message:
            refuse(w.MESSAGE_TOO_LARGE, "MSG-003: message too large")

    def _prepare_headers(self, block: w.OpenBlock) -> None:
        if len(block.headers) > 1 and self.flaw("pay-sorts-headers"):
            block.headers.sort()
        if self.flaw("pay-drops-unknown-keys"):
            known = (b"traceparent", b"tracestate", b"request-id", b"attempt", b"content-type")
            block.headers = [pair for pair in block.headers if pair[0] in known]
        if self.flaw("pay-strips-values"):
            block.headers = [(key, value.strip()) for key, value in block.headers]

    def refuse(self, rid: bytes, error: w.CallError) -> None:
        """Answer an OPEN without running anything; its id is a tombstone at once."""
        if error.flags & w.NOT_PROCESSED and self.flaw("pay-refusal-without-flag"):
            error.flags = 0
        if error.flags & w.NOT_PROCESSED and self.flaw("pay-refusal-with-both-flags"):
            error.flags |= w.NON_RETRYABLE
        self.bury(rid)
        charged = error.code in (w.NOT_FOUND, w.INVALID_ARGUMENT)
        if error.code == w.OVERLOADED:
            self.overloads += 1
            charged = self.overloads > self.max_concurrent
        if charged and not self.refusal_budget.take() and not self.flaw("dos-no-refusal-budget"):
            raise w.ViolationError(w.ENHANCE_YOUR_CALM, "DOS-001", "too many refused requests")
        flags = w.ERROR | w.END_STREAM
        octets = w.frame(w.RESPONSE, flags, rid=rid, payload=w.error_body(error))
        self.ring.append(Refused(octets))
        self._count_queued(len(octets))
        self.schedule()

    def bury(self, rid: bytes) -> None:
        """Remember a finished id (section 6)."""
        if self.flaw("rid-forgets-tombstones"):
            return
        self.tombstones[rid] = None
        if len(self.tombstones) > TOMBSTONES:
            self.tombstones.popitem(last=False)

    def stream_closed(self, stream: Stream) -> None:
        """Take note that a terminal is written."""
        self.streams.pop(stream.rid, None)
        self.bury(stream.rid)
        stream.stop_timers()
        stream.discard_input()
        if not stream.running or self.flaw("can-kill-frees-slot"):
            self.release(stream)
        if stream.drain_after is not None:
            self.loop.call_soon(self.start_drain, stream.drain_after)

    def release(self, stream: Stream) -> None:
        """Free the slot: terminal written and handler ended (CAN-004)."""
        self.slots.discard(stream)

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
            elif self.ring and self.flaw("fai-no-round-robin"):
                self.ring.appendleft(entry)
            else:
                self.ring.append(entry)
            if octets_or_none is not None:
                return octets_or_none
        return self.late.popleft() if self.late else None

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

    # Time -------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look at every clock of the connection, then look again later."""
        if self.timer is not None:
            self.timer.cancel()
        if self.stage not in (Stage.PREFACE, Stage.FRAMES):
            return
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
            self.transport.abort()  # HBT-006
            return
        self._heartbeat(now)
        for stream in list(self.streams.values()):
            since = stream.blocked_since
            if since is not None and now - since >= self.config.slow_consumer_ms / 1000:
                stream.abort(w.CallError(w.SLOW_CONSUMER, "FLW-013: no credit for too long"))

    def _heartbeat(self, now: float) -> None:
        every = self.peer[w.S_IDLE_TIMEOUT]
        if self.flaw("hbt-uses-own-timeout"):
            every = self.config.idle_timeout_ms
        due = self.settings_seen and not self.paused and now - self.last_tx >= every * 3 / 8_000
        if due and not self.flaw("hbt-no-heartbeat"):
            opaque = os.urandom(8)
            self.pings.append(opaque)
            self.queue(w.frame(w.HEARTBEAT, subtype=w.PING, payload=opaque))

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
        if not self.flaw("cls-no-goaway"):
            self.put(w.goaway(code, ordinal, 0, str(fault)))
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

    def half_close(self) -> None:
        """Send FIN behind what is written, then read and discard for a second (CLS-002)."""
        if self.stage in (Stage.LINGER, Stage.DEAD):
            return
        self.drop()
        with contextlib.suppress(OSError):
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
