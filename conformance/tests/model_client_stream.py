"""One attempt of a request on one connection: what leaves, and what comes back.

The rules of this file: an OPEN with seq 0 and META, then one frame per turn (FAI-002), each within
both windows (FLW-001) and with the messages whole (MSG-001, MSG-002); input is charged when it
comes and returned when the caller has it (FLW-006, FLW-007), or at once when nobody wants it
(FLW-008).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import model_wire as w

if TYPE_CHECKING:
    from model_client_call import Call
    from model_client_output import Output

TURN = 65_536


class State(enum.Enum):
    """The client's view of a request (section 7.3)."""

    IDLE = enum.auto()
    OPEN = enum.auto()
    HALF = enum.auto()
    KILLING = enum.auto()
    CLOSED = enum.auto()


class Stream:
    """A request id, its two directions and their credit."""

    def __init__(self, conn: Output, call: Call) -> None:
        self.conn = conn
        self.call = call
        self.flaw = conn.flaw
        self.rid = conn.client.new_request_id(call)
        self.state = State.IDLE
        self.ordinal = 0
        self.in_ring = False
        self.has_place = True
        # Output.
        self.sent = 0
        self.send_limit = conn.peer[w.S_STREAM_WINDOW]
        self.out_seq = 0
        self.index = 0
        self.at = 0
        self.stopped = False
        # Input.
        self.received = 0
        self.consumed = 0
        self.unread = 0
        self.limit = conn.config[w.S_STREAM_WINDOW]
        self.in_seq = 0
        self.responded = False
        self.partial: bytearray | None = None
        self.complete = 0

    # Output -----------------------------------------------------------------------------------

    @property
    def has_output(self) -> bool:
        """Tell whether anything waits, sendable or not."""
        if self.state is State.OPEN:
            return self.index < len(self.call.messages) or self.call.ended
        return self.state is State.IDLE

    def next_frame(self) -> bytes | None:
        """Return the next frame the windows let out, or None."""
        if self.state is State.IDLE:
            return self._open_frame()
        if self.state is State.OPEN:
            return self._data_frame()
        return None

    def _room(self) -> int:
        """Return how much payload both windows let out in one frame; -1: not even a header."""
        conn = self.conn
        room = self.send_limit - self.sent
        if conn.send_limit - conn.sent < room and not self.flaw("flw-ignores-connection-window"):
            room = conn.send_limit - conn.sent
        if 0 <= room < TURN and self.flaw("flw-one-frame-over"):
            room += 4_096
        room -= self._head_cost()
        return max(room, -1)

    def _head_cost(self) -> int:
        return 0 if self.flaw("flw-no-header-cost") else w.HEADER_SIZE

    def _largest(self) -> int:
        largest = min(self.conn.peer[w.S_MAX_FRAME], TURN)
        if self.flaw("set-ignores-frame-size"):
            largest = 2 * TURN
        if not self.conn.settings_seen and self.flaw("set-large-frames-early"):
            largest = TURN
        return largest

    def _frame(self, flags: int, payload: bytes) -> bytes:
        cost = 0 if flags & w.END_STREAM and not payload else self._head_cost() + len(payload)
        self.sent += cost
        self.conn.sent += cost
        seq = self.out_seq
        self.out_seq += 1
        if self.flaw("frm-seq-per-connection"):
            seq = self.conn.shared_seq
            self.conn.shared_seq += 1
        if seq and self.flaw("frm-seq-skips"):
            seq += 1
        if seq and self.flaw("frm-seq-little-endian"):
            seq = int.from_bytes(seq.to_bytes(4, "little"), "big")
        if flags & w.MORE and self.flaw("msg-sends-no-more"):
            flags &= ~w.MORE
        if seq and self.flaw("typ-meta-on-every-request"):
            flags |= w.META
        if not seq and self.flaw("typ-open-without-meta"):
            flags &= ~w.META
        if self.flaw("frm-sends-reserved-flag"):
            flags |= 0x10
        if flags & w.END_STREAM:
            self.state = State.HALF
        subtype = 1 if self.flaw("frm-sends-request-subtype") else 0
        return w.frame(w.REQUEST, flags, subtype, seq, self.rid, payload)

    def _open_frame(self) -> bytes | None:
        call = self.call
        prefix = call.block()
        first = call.messages[0] if call.messages else b""
        alone = call.ended and len(call.messages) == 1
        room = self._room() - len(prefix)
        if room < (1 if first else 0):
            return None
        if len(first) > room and self.flaw("flw-waits-for-whole-message"):
            return None
        if not self.conn.usable:
            return None
        take = min(len(first), max(0, self._largest() - len(prefix)), room)
        flags = w.META
        carried = bool(first) or (bool(call.messages) and alone)
        if not first and call.messages and self.flaw("msg-empty-rides-in-open"):
            carried = True  # by section 8.2 this OPEN carries no message
        self.state = State.OPEN
        if take < len(first):
            flags |= w.MORE
            self.at = take
        elif carried:
            self.index = 1
            if alone:
                flags |= w.END_STREAM
        octets = self._frame(flags, prefix + first[:take])
        self.conn.opened(self)
        call.begun(self)
        return octets

    def _data_frame(self) -> bytes | None:
        call = self.call
        if self.index >= len(call.messages):
            if not call.ended:
                return None
            if self._room() < 0 and self.flaw("flw-end-waits-for-window"):
                return None
            return self._frame(w.END_STREAM, b"")
        message = call.messages[self.index]
        if len(message) > self.conn.peer[w.S_MAX_MESSAGE] and not self.flaw(
            "set-ignores-message-size"
        ):
            if self.conn.settings_seen:
                call.end_locally(w.MESSAGE_TOO_LARGE, "SET-003: message above MAX_MESSAGE_SIZE")
            return None
        left = len(message) - self.at
        room = self._room()
        if room < (1 if left else 0):
            return None
        if left > room and self.flaw("flw-waits-for-whole-message"):
            return None
        take = min(left, self._largest(), room)
        body = message[self.at : self.at + take]
        self.at += take
        flags = 0
        if take < left:
            flags = w.MORE
        else:
            self.index += 1
            self.at = 0
            last = call.ended and self.index == len(call.messages)
            if last and (message or self.flaw("msg-empty-rides-on-end")):
                flags = w.END_STREAM
        octets = self._frame(flags, body)
        if not flags & w.MORE:
            call.message_sent(self)
        return octets

    # Input ------------------------------------------------------------------------------------

    def accept(self, flags: int, seq: int, data: bytes, cost: int) -> None:
        """Take the message data of one RESPONSE frame that is no error (section 8)."""
        if self.state is State.KILLING and not self.flaw("stm-delivers-after-kill"):
            if self.flaw("flw-leaks-killed-credit"):
                self.conn.leaked += cost
            self.conn.credit(None)
            return
        self.unread += cost
        self.conn.held += cost
        if self._carries_message(flags, seq, data):
            self._chunk(data, more=bool(flags & w.MORE))
        if not self.call.paused or self.flaw("flw-credits-paused"):
            self.consume()

    def _carries_message(self, flags: int, seq: int, data: bytes) -> bool:
        if data or flags & w.MORE or self.partial is not None:
            return True
        if flags & w.END_STREAM:
            return self.flaw("msg-bare-end-is-message")
        if seq == 0 and flags & w.META:
            return self.flaw("msg-bare-headers-are-message")
        return not self.flaw("msg-drops-empty")

    def _chunk(self, data: bytes, *, more: bool) -> None:
        if more and self.flaw("msg-ignores-more"):
            more = False
        if more and not data and self.flaw("msg-empty-chunk-ends-message"):
            more = False
        if self.partial is None:
            self.partial = bytearray()
        self.partial += data
        if len(self.partial) > self.conn.config[w.S_MAX_MESSAGE]:
            if self.flaw("msg-too-large-closes"):
                raise w.ViolationError(w.PROTOCOL_ERROR, "MSG-003", "message too large")
            if not self.flaw("msg-no-size-limit"):
                self.partial = None
                self.discard()
                self.call.end_locally(w.MESSAGE_TOO_LARGE, "MSG-003: message too large")
                return
        if more:
            return
        message, self.partial = bytes(self.partial), None
        self.complete += 1
        self.call.deliver(message)

    def consume(self) -> None:
        """Return the cost of everything that came: the caller has it."""
        if self.partial is not None and self.flaw("flw-no-chunk-credit"):
            return
        self.consumed += self.unread
        self.discard()

    def discard(self) -> None:
        """Return the cost of what nobody will read to the connection (FLW-008)."""
        cost, self.unread = self.unread, 0
        self.conn.held -= cost
        self.conn.credit(self)
