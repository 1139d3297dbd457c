"""The reading half of a client connection: every frame is judged here.

The rules of this file: a header is judged alone, before its payload is read (FRM-003), in the order
of section 2.5: marker, first frame, type, length, flags, subtype and seq, id, fixed length,
META/seq/END/MORE/ERROR, credit, state, sequence. The payload comes last.
"""

from __future__ import annotations

import model_client_wire as cw
import model_wire as w
from model_client_call import Class, Verdict
from model_client_output import LIVE, Output, Stage
from model_client_stream import State, Stream

CONTROL_LIMIT = 4_096
FIXED_LENGTHS = {w.SETTINGS_ACK: 0, w.WINDOW_UPDATE: 8, w.STOP: 4, w.KILL: 4}


def protocol_error(requirement: str, text: str) -> w.ViolationError:
    """Build the commonest violation."""
    return w.ViolationError(w.PROTOCOL_ERROR, requirement, text)


class Intake(Output):
    """A connection that understands what comes in."""

    def on_settings(self, payload: bytes) -> None:
        """Take the worker's SETTINGS."""
        raise NotImplementedError

    def on_ack(self) -> None:
        """Take note that the handshake is complete."""
        raise NotImplementedError

    def on_goaway(self, payload: bytes) -> None:
        """Take a GOAWAY."""
        raise NotImplementedError

    def finish(self, stream: Stream, verdict: Verdict | None, trailers: cw.Headers) -> None:
        """Take note of a terminal."""
        raise NotImplementedError

    # Frames: the header alone -----------------------------------------------------------------

    def read_frames(self) -> int:
        """Judge every frame that is complete; return how many."""
        done = 0
        while self.stage in (Stage.FRAMES, Stage.ENDING):
            if self.head is None:
                if len(self.buffer) < w.HEADER_SIZE:
                    if self.buffer and self.flaw("frm-loses-split-header"):
                        self.buffer.clear()
                    break
                self.head = w.Head.decode(self.buffer)
                self.whole = False
                del self.buffer[: w.HEADER_SIZE]
                self._check_header(self.head)
            head = self.head
            if len(self.buffer) < head.length:
                if self.buffer and self.flaw("frm-loses-split-payload"):
                    self.buffer.clear()
                break
            payload = bytes(self.buffer[: head.length])
            del self.buffer[: head.length]
            done += 1
            self.whole = True
            if self.late_fault is not None:
                raise self.late_fault
            self._handle(head, payload)
            self.head = None
            if self.buffer and self.flaw("frm-one-frame-per-read"):
                break
        return done

    def _check_header(self, h: w.Head) -> None:
        if h.marker != w.MARKER and not self.flaw("frm-accepts-marker"):
            raise protocol_error("FRM-002", "bad marker")
        first = h.type == w.CONTROL and h.subtype in (w.SETTINGS, w.GOAWAY)
        if h.subtype == w.GOAWAY and first and not self.settings_seen:
            first = not self.flaw("hsk-refuses-goaway-first")
        if not self.settings_seen and not first and not self.flaw("hsk-any-first-frame"):
            raise protocol_error("HSK-005", "the first frame is not SETTINGS")
        self._check_type(h)
        self._check_length(h)
        if h.type not in (w.RESPONSE, w.CONTROL, w.HEARTBEAT):
            if h.type >= 0x80 and h.flags & 0x0F and self.flaw("frm-checks-ignorable-type"):
                raise protocol_error("FRM-005", "flags of an unknown type")
            return
        self._check_flags(h)
        self._check_subtype(h)
        self._check_id(h)
        self._check_fixed_length(h)
        if h.type == w.RESPONSE:
            self._check_response(h)
            self._check_credit(h)
            self._check_state(h)

    def _check_type(self, h: w.Head) -> None:
        if h.type == w.REQUEST:
            if not self.flaw("typ-accepts-request"):
                raise protocol_error("TYP-001", "REQUEST from a worker")
        elif not w.REQUEST <= h.type <= w.HEARTBEAT and h.type < 0x80:
            if not self.flaw("frm-ignores-unknown-type"):
                raise w.ViolationError(w.UNSUPPORTED_FRAME, "FRM-004", "unknown critical type")
        elif h.type >= 0x80 and self.flaw("frm-refuses-ignorable-type"):
            raise w.ViolationError(w.UNSUPPORTED_FRAME, "FRM-005", "unknown type")

    def _check_length(self, h: w.Head) -> None:
        small = h.type in (w.CONTROL, w.HEARTBEAT)
        own = self.config[w.S_MAX_FRAME]
        limit = CONTROL_LIMIT if small else own
        if h.length == limit and not small and self.flaw("frm-refuses-full-frame"):
            limit -= 1
        if h.length <= limit:
            return
        if h.length >= 1 << 32 and self.flaw("frm-length-is-32-bit"):
            h.length &= 0xFFFFFFFF
            return
        if small and h.length <= own and self.flaw("frm-large-control"):
            return
        if not small and h.length <= 1 << 24 and self.flaw("frm-accepts-oversize"):
            return
        fault = w.ViolationError(w.FRAME_SIZE_ERROR, "FRM-003", "payload_length above the limit")
        if not self.flaw("frm-waits-for-payload"):
            raise fault
        self.late_fault = fault

    def _check_flags(self, h: w.Head) -> None:
        if h.flags & 0xF0 and self.flaw("frm-refuses-reserved-flags"):
            raise protocol_error("FRM-006", "reserved flag")
        if h.type != w.RESPONSE and h.flags & 0x0F:
            extension = h.type == w.CONTROL and h.subtype >= 0x80
            if extension and self.flaw("frm-ignorable-control-unchecked"):
                return
            if not self.flaw("frm-accepts-bad-flags"):
                raise protocol_error("FRM-006", "flag not allowed for this type")

    def _check_subtype(self, h: w.Head) -> None:
        if h.type == w.RESPONSE:
            if h.subtype and not self.flaw("frm-accepts-response-subtype"):
                raise protocol_error("FRM-007", "subtype on RESPONSE")
            return
        if h.type == w.HEARTBEAT:
            if h.subtype not in (w.PING, w.PONG) and not self.flaw("frm-ignores-heartbeat-subtype"):
                raise protocol_error("FRM-004", "unknown Heartbeat subtype")
            if h.seq and not self.flaw("frm-accepts-heartbeat-seq"):
                raise protocol_error("FRM-007", "seq on Heartbeat")
            return
        if h.subtype in (w.STOP, w.KILL) and not self.flaw("typ-accepts-stop-and-kill"):
            raise protocol_error("TYP-001", "STOP or KILL from a worker")
        if not w.SETTINGS <= h.subtype <= w.GOAWAY and h.subtype < 0x80:
            if not self.flaw("frm-ignores-unknown-control"):
                raise w.ViolationError(w.UNSUPPORTED_FRAME, "FRM-004", "unknown Control subtype")
        elif h.subtype >= 0x80 and self.flaw("frm-refuses-ignorable-control"):
            raise w.ViolationError(w.UNSUPPORTED_FRAME, "FRM-005", "unknown Control subtype")
        if h.seq and h.subtype >= 0x80 and self.flaw("frm-ignorable-control-unchecked"):
            return
        if h.seq and not self.flaw("frm-accepts-control-seq"):
            raise protocol_error("FRM-007", "seq on Control")

    def _check_id(self, h: w.Head) -> None:
        zero, ones = h.rid == w.ZERO_ID, h.rid == w.ONES_ID
        if h.type == w.CONTROL and h.subtype >= 0x80:
            if not zero and self.flaw("frm-checks-id-of-ignorable-control"):
                raise protocol_error("FRM-005", "request id on an unknown Control subtype")
            return
        if h.type == w.CONTROL and h.subtype in (w.STOP, w.KILL):
            return  # only a flawed client comes here
        if h.type == w.CONTROL and h.subtype == w.WINDOW_UPDATE:
            bad = ones
        elif h.type == w.RESPONSE:
            bad = zero or ones
        else:
            bad = not zero
            if bad and self.flaw("frm-accepts-id-on-connection-frame"):
                return
        if bad and zero and self.flaw("frm-accepts-zero-id"):
            return
        if bad and ones and self.flaw("frm-accepts-ones-id"):
            return
        if bad:
            raise protocol_error("FRM-008", "request_id does not fit the frame")

    def _check_fixed_length(self, h: w.Head) -> None:
        if h.type == w.RESPONSE:
            large = h.flags & w.ERROR and h.length > cw.MAX_ERROR_BODY
            if large and not self.flaw("pay-accepts-large-error-body"):
                raise w.ViolationError(w.FRAME_SIZE_ERROR, "PAY-007", "error body too large")
            return
        if h.type == w.HEARTBEAT:
            good = h.length == 8
        elif h.subtype == w.SETTINGS:
            good = h.length % 10 == 0 and h.length <= 640
        elif h.subtype == w.GOAWAY:
            good = h.length >= cw.GOAWAY_FIXED
        else:
            good = h.length == FIXED_LENGTHS.get(h.subtype, h.length)
        if good:
            return
        ack = h.type == w.CONTROL and h.subtype == w.SETTINGS_ACK
        if not self.flaw("hsk-accepts-ack-payload" if ack else "pay-accepts-bad-length"):
            rule = "HSK-007" if ack else "PAY-001"
            raise w.ViolationError(w.FRAME_SIZE_ERROR, rule, "wrong payload length")

    def _check_response(self, h: w.Head) -> None:
        end, more = h.flags & w.END_STREAM, h.flags & w.MORE
        meta, error = h.flags & w.META, h.flags & w.ERROR
        if end and more and not self.flaw("typ-accepts-end-with-more"):
            raise protocol_error("TYP-002", "END_STREAM with MORE")
        if error and not end and not self.flaw("typ-accepts-error-without-end"):
            raise protocol_error("TYP-004", "ERROR without END_STREAM")
        if error and (meta or more) and not self.flaw("typ-accepts-error-with-meta"):
            raise protocol_error("TYP-004", "ERROR with META or MORE")
        if meta and h.seq and not end and not self.flaw("typ-accepts-meta-mid-stream"):
            raise protocol_error("TYP-005", "META inside a response")
        if self.in_message not in (None, h.rid) and self.flaw("fai-refuses-interleaving"):
            raise protocol_error("FAI-003", "a frame of another request in a message")
        self.in_message = h.rid if more else None

    def _cost(self, h: w.Head) -> int:
        exempt = bool(h.flags & w.ERROR) or (h.flags & w.END_STREAM and h.length == 0)
        if exempt and not self.flaw("flw-charges-exempt-frames"):
            return 0
        return w.HEADER_SIZE + h.length

    def _check_credit(self, h: w.Head) -> None:
        cost = self._cost(h)
        over = self.received + cost > self.limit
        if over and not self.flaw("flw-accepts-connection-overrun"):
            raise w.ViolationError(w.FLOW_CONTROL_ERROR, "FLW-002", "connection limit exceeded")
        self.received += cost
        stream = self.streams.get(h.rid)
        if stream is None:
            return
        over = stream.received + cost > stream.limit
        if over and not self.flaw("flw-accepts-stream-overrun"):
            raise w.ViolationError(w.FLOW_CONTROL_ERROR, "FLW-002", "stream limit exceeded")
        stream.received += cost

    def _check_state(self, h: w.Head) -> None:
        stream = self.streams.get(h.rid)
        if stream is None or stream.state is State.IDLE:
            terminal = w.ERROR | w.END_STREAM
            if h.rid in self.uncovered and h.flags & terminal == terminal:
                return  # its payload has to say DRAINING (RID-004)
            closed = h.rid in self.client.used_ids
            if not self.flaw(
                "rid-ignores-late-response" if closed else "rid-ignores-stray-response"
            ):
                raise protocol_error("RID-004", "RESPONSE for an id that is not open")
            return
        if stream.state is State.OPEN and self.flaw("stm-refuses-early-response"):
            raise protocol_error("STM-003", "RESPONSE before the request has ended")
        gap = h.seq != stream.in_seq
        if gap and h.seq < stream.in_seq and self.flaw("frm-accepts-seq-repeat"):
            gap = False
        if gap and not self.flaw("frm-accepts-seq-gap"):
            raise w.ViolationError(w.SEQUENCE_ERROR, "FRM-010", "seq gap or repeat")
        stream.in_seq = h.seq + 1

    def glitch(self) -> None:
        """Charge the budget for useless frames (DOS-001)."""
        if self.glitch_budget.level < 150 and self.flaw("dos-strict-glitches"):
            raise w.ViolationError(w.ENHANCE_YOUR_CALM, "DOS-001", "too many useless frames")
        if not self.glitch_budget.take() and not self.flaw("dos-no-glitch-budget"):
            raise w.ViolationError(w.ENHANCE_YOUR_CALM, "DOS-001", "too many useless frames")

    # Frames: with their payload ---------------------------------------------------------------

    def _handle(self, h: w.Head, payload: bytes) -> None:
        first = h.type == w.CONTROL and h.subtype in (w.SETTINGS, w.SETTINGS_ACK)
        if not self.ack_seen and not first and self.flaw("hsk-refuses-frames-before-ack"):
            raise protocol_error("HSK-007", "a frame before SETTINGS_ACK")
        if h.type >= 0x80 or (h.type == w.CONTROL and h.subtype >= 0x80):
            self.glitch()  # FRM-005
        elif h.type == w.RESPONSE:
            self._on_response(h, payload)
            self.credit(None)
        elif h.type == w.HEARTBEAT:
            self._on_heartbeat(h, payload)
        elif h.type == w.CONTROL:
            self._on_control(h, payload)

    def _on_response(self, h: w.Head, payload: bytes) -> None:
        stream = self.streams.get(h.rid)
        if stream is None or stream.state is State.IDLE:
            self._on_late_response(h, payload)
            return
        error: cw.ErrorBody | None = None
        headers: cw.Headers = []
        body = payload
        if h.flags & w.ERROR:
            error = cw.read_error(payload, self.flaw)
            body = b""
            late = error.flags & w.NOT_PROCESSED and stream.responded
            if late and not self.flaw("adm-accepts-late-not-processed"):
                raise protocol_error("ADM-003", "NOT_PROCESSED behind another RESPONSE")
        elif h.flags & w.META:
            headers, body = cw.read_block(payload, self.config[w.S_MAX_METADATA], self.flaw)
        draining = error is not None and error.code == w.DRAINING
        if not draining or self.flaw("cls-draining-counts-as-answer"):
            self.answered = max(self.answered, stream.ordinal)
        stream.responded = True
        end = bool(h.flags & w.END_STREAM)
        leading = h.seq == 0 and not (end and self.flaw("typ-last-block-is-trailers"))
        if h.flags & w.META and leading and stream.state is not State.KILLING:
            shown = [list(pair) for pair in headers]
            self.client.emit("headers", ref=stream.call.ref, headers=shown)
        if error is None:
            stream.accept(h.flags, h.seq, body, self._cost(h))
        elif stream.partial is not None and self.flaw("msg-delivers-incomplete"):
            stream.call.deliver(bytes(stream.partial))
        if error is not None:
            self.finish(stream, self._verdict(error), [])
        elif end and stream.state is not State.CLOSED:
            self.finish(stream, None, [] if leading else headers)

    def _verdict(self, error: cw.ErrorBody) -> Verdict:
        refused = error.flags & w.NOT_PROCESSED
        code = error.code
        known = w.CANCELLED <= code <= w.UNIMPLEMENTED
        if not known and self.flaw("pay-unknown-code-closes"):
            raise protocol_error("PAY-008", "unknown error code")
        if not known and self.flaw("pay-shows-mapped-code"):
            code = w.APPLICATION_ERROR
        return Verdict(
            Class.NOT_PROCESSED if refused else Class.FAILED,
            code,
            error.text,
            local=False,
            flags=error.flags,
            retry_after_ms=error.retry_after_ms,
            delay=code != w.DRAINING,
        )

    def _on_late_response(self, h: w.Head, payload: bytes) -> None:
        if h.rid not in self.uncovered or not h.flags & w.ERROR:
            return  # only a flawed client comes here
        error = cw.read_error(payload, self.flaw)
        if error.code != w.DRAINING or self.flaw("rid-refuses-late-draining"):
            raise protocol_error("RID-004", "RESPONSE for a request that a GOAWAY has closed")
        if not self.flaw("rid-ignores-draining-for-ever"):
            self.uncovered.discard(h.rid)

    def _on_heartbeat(self, h: w.Head, payload: bytes) -> None:
        if h.subtype == w.PONG:
            if payload not in self.pings:
                self.glitch()
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
        if self.goaway_code is not None and self.flaw("cls-drain-stops-pongs"):
            return
        if self.flaw("hbt-wrong-pong"):
            payload = payload[::-1]
        seq = 1 if self.flaw("frm-pong-with-seq") else 0
        rid = b"\1" * 16 if self.flaw("frm-pong-with-id") else w.ZERO_ID
        pong = w.frame(w.HEARTBEAT, subtype=w.PONG, seq=seq, rid=rid, payload=payload)
        if self.flaw("hbt-late-pong"):
            self.loop.call_later(3, self.queue, pong)
        elif self.flaw("fai-pong-behind-data"):
            self.late.append(pong)
            self.schedule()
        else:
            self.queue(pong)

    def _on_control(self, h: w.Head, payload: bytes) -> None:
        if h.subtype == w.SETTINGS:
            self.on_settings(payload)
        elif h.subtype == w.SETTINGS_ACK:
            if self.ack_seen and not self.flaw("hsk-accepts-second-ack"):
                raise protocol_error("HSK-007", "second SETTINGS_ACK")
            if not self.ack_seen:
                self.on_ack()
        elif h.subtype == w.WINDOW_UPDATE:
            self._on_window_update(h.rid, w.read_u64(payload))
        elif h.subtype == w.GOAWAY:
            self.on_goaway(payload)

    def _on_window_update(self, rid: bytes, limit: int) -> None:
        if limit >= 1 << 63 and not self.flaw("flw-accepts-huge-limit"):
            raise w.ViolationError(w.FLOW_CONTROL_ERROR, "FLW-003", "limit of 2^63 or more")
        if self.goaway_code is not None and self.flaw("cls-drain-ignores-window-updates"):
            return
        stream = self.streams.get(rid)
        if rid == w.ZERO_ID:
            self.send_limit = self._raised(self.send_limit, limit)
            self.wake_all()
        elif stream is None:
            if self.flaw("rid-stray-window-update-closes"):
                raise protocol_error("RID-004", "WINDOW_UPDATE for an unknown id")
            if self.flaw("flw-charges-ignored-updates"):
                self.glitch()
        elif stream.state is State.OPEN:
            stream.send_limit = self._raised(stream.send_limit, limit)
            self.wake(stream)
        elif stream.state is State.HALF:
            if self.flaw("stm-window-update-on-half-closes"):
                raise protocol_error("STM-002", "WINDOW_UPDATE behind END_STREAM")
            if self.flaw("flw-charges-ignored-updates"):
                self.glitch()

    def _raised(self, old: int, new: int) -> int:
        if self.flaw("flw-limit-is-increment"):
            return old + new
        if new <= old:
            if self.flaw("flw-limit-shrinks"):
                return new
            self.glitch()
            return old
        return new

    def note_fault(self) -> None:
        """Count a RESPONSE that is itself the fault as received, when it is there whole (16.1)."""
        head = self.head
        if head is None or head.type != w.RESPONSE or self.stage not in LIVE:
            return
        stream = self.streams.get(head.rid)
        if stream is not None and stream.state is not State.IDLE:
            here = self.whole or len(self.buffer) >= head.length
            stream.responded = stream.responded or here
