"""The reading half of a connection: every frame is judged here.

The rules of this file: a header is judged alone, before its payload is read (FRM-003), in the order
of the precedence list: marker, first frame, type, length, flags, subtype and seq, id, fixed length,
META/seq/END, credit, state, sequence. The payload comes last, and refusals of an OPEN behind it.
"""

from __future__ import annotations

import os

import model_wire as w
from model_output import Output, Stage
from model_stream import Refused, Stream
from model_subjects import SUBJECTS

TOMBSTONES = 1_024
CONTROL_LIMIT = 4_096


class Intake(Output):
    """A connection that understands what comes in."""

    def on_settings(self, payload: bytes) -> None:
        """Take the client's SETTINGS."""
        raise NotImplementedError

    # Frames: the header alone -----------------------------------------------------------------

    def read_frames(self) -> int:
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
            if h.seq and not self.flaw("frm-accepts-heartbeat-seq"):
                raise w.ViolationError(w.PROTOCOL_ERROR, "FRM-007", "seq on Heartbeat")
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
            if self.flaw("flw-discarded-cost-is-lost"):
                self.leaked += self._cost(h)
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
            self.on_settings(payload)
        elif h.subtype == w.SETTINGS_ACK:
            if self.ack_seen and not self.flaw("hsk-accepts-second-ack"):
                raise w.ViolationError(w.PROTOCOL_ERROR, "HSK-007", "second SETTINGS_ACK")
            self.ack_seen = True
        elif h.subtype == w.WINDOW_UPDATE:
            self._on_window_update(h.rid, w.read_u64(payload))
        elif h.subtype in (w.STOP, w.KILL):
            known = w.CANCELLED <= w.read_u32(payload) <= w.UNIMPLEMENTED
            if known or not self.flaw("pay-unknown-reason-is-ignored"):
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
            if self.flaw("dos-stop-frees-place"):
                self.slots.discard(stream)
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
        if code > w.STREAM_STATE_ERROR and self.flaw("pay-unknown-goaway-is-drain"):
            code = w.NO_ERROR
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
        if not self.ack_seen and self.flaw("set-serves-only-50-early"):
            limit = 50
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
        if self.flaw("obs-drops-traceparent"):
            block.headers = [pair for pair in block.headers if pair[0] != b"traceparent"]
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
        octets = w.frame(w.RESPONSE, flags, rid=rid, payload=self.error_body(error))
        self.ring.append(Refused(octets))
        self._count_queued(len(octets))
        self.schedule()

    def error_body(self, error: w.CallError) -> bytes:
        """Build the body of an error terminal (PAY-007)."""
        body = w.error_body(error)
        if self.flaw("pay-error-body-too-long"):
            body += bytes(5_000)
        if error.text and self.flaw("pay-error-text-not-utf8"):
            body = body[:12] + b"\xff" + body[13:]
        return body

    def bury(self, rid: bytes) -> None:
        """Remember a finished id (section 6)."""
        if self.flaw("rid-forgets-tombstones"):
            return
        self.tombstones[rid] = None
        room = TOMBSTONES
        if len(self.tombstones) > 50 and self.flaw("rid-remembers-only-50"):
            room = 50
        if len(self.tombstones) > room:
            self.tombstones.popitem(last=False)

    def stream_closed(self, stream: Stream) -> None:
        """Take note that a terminal is written."""
        self.streams.pop(stream.rid, None)
        self.bury(stream.rid)
        if self.flaw("rid-answers-what-nobody-asked"):
            self.queue(w.frame(w.RESPONSE, w.END_STREAM, rid=os.urandom(16)))
        stream.stop_timers()
        stream.discard_input()
        if not stream.running or self.flaw("can-kill-frees-slot"):
            self.release(stream)
        if stream.drain_after is not None:
            self.loop.call_soon(self.start_drain, stream.drain_after)

    def release(self, stream: Stream) -> None:
        """Free the slot: terminal written and handler ended (CAN-004)."""
        self.slots.discard(stream)
