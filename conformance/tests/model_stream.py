"""One request of the model worker: what came in, what waits to go out, and its terminal.

The rules of this file: a stream answers with exactly one terminal (TYP-006); input is returned as
credit when the handler takes it (FLW-006, FLW-007); output beyond 256 KiB suspends the handler
(FLW-010); a decision of the transport discards what is unsent (FLW-005).
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import model_wire as w

if TYPE_CHECKING:
    from model_intake import Intake
    from model_subjects import Handler

SEND_BUFFER = 262_144
TURN = 65_536
KILL_PATIENCE = 0.5


@dataclass(slots=True)
class Piece:
    """A run of octets of one response message, perhaps sent in part."""

    data: bytes
    more: bool
    prefix: bytes
    at: int = 0


@dataclass(slots=True)
class Terminal:
    """How the request ends: an error, or success with or without trailers."""

    error: w.CallError | None = None
    trailers: bytes = b""


class Refused:
    """A refusal that waits for its turn among the streams."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    def next_frame(self) -> bytes | None:
        """Return the one frame, then nothing."""
        octets, self.octets = self.octets, b""
        return octets or None


class Stream:
    """The state of one accepted request, and the call object its handler sees."""

    def __init__(self, conn: Intake, rid: bytes, block: w.OpenBlock, handler: Handler) -> None:
        self.conn = conn
        self.server = conn.server
        self.flaw = conn.flaw
        self.rid = rid
        self.handler = handler
        self.subject = block.subject.decode()
        self.headers = [(k.decode(errors="replace"), v.decode(errors="replace"))
                        for k, v in block.headers]  # fmt: skip
        self.timeout_ms = block.timeout_ms
        self.request_flags = block.request_flags
        self.counted = self.subject != "conformance.stats"
        self.stop = asyncio.Event()
        self.drain_after: int | None = None
        # Input.
        self.ended = False
        self.reading = True
        self.next_seq = 1
        self.received = 0
        self.consumed = 0
        self.unread = 0
        self.limit = conn.config.stream_window
        self.inbox: deque[tuple[bytes, int]] = deque()
        self.partial: bytearray | None = None
        self.partial_cost = 0
        self.waiter: asyncio.Future[None] | None = None
        # Output.
        self.response_headers: list[tuple[str, str]] = []
        self.trailers: list[tuple[str, str]] = []
        self.out_seq = 0
        self.sent = 0
        self.send_limit = conn.peer[w.S_STREAM_WINDOW]
        self.outbox: deque[Piece] = deque()
        self.out_cost = 0
        self.message_size = 0
        self.room: asyncio.Future[None] | None = None
        self.terminal: Terminal | None = None
        self.blocked_since: float | None = None
        self.in_ring = False
        # Life.
        self.task: asyncio.Task[None] | None = None
        self.started = False
        self.running = False
        self.cancel_asked = False
        self.killed = False
        self.closed = False
        self.timer: asyncio.TimerHandle | None = None
        self.kill_timer: asyncio.TimerHandle | None = None

    # Life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the handler: on OPEN, not on END_STREAM (STM-004)."""
        if self.running or self.task is not None:
            return
        self.running = True
        self.server.handler_started(self)
        self.task = self.conn.loop.create_task(self._run())
        self.task.add_done_callback(self._handler_ended)

    def start_deadline(self) -> None:
        """Arm ADM-005."""
        if self.timeout_ms and not self.flaw("adm-no-deadline"):
            after = self.timeout_ms / 1000
            if self.flaw("adm-deadline-too-early"):
                after /= 2
            self.timer = self.conn.loop.call_later(after, self._deadline)

    async def _run(self) -> None:
        self.started = True
        try:
            if self.flaw("set-serves-one-at-a-time"):
                async with self.conn.serial:
                    await self.handler(self)
            else:
                await self.handler(self)
        except w.CallError:
            if self.flaw("flw-error-overtakes-data"):
                self.discard_output()
            raise

    def _handler_ended(self, task: asyncio.Task[None]) -> None:
        self.running = False
        self.server.handler_ended(self)
        error = None if task.cancelled() else task.exception()
        self.discard_input()
        if self.closed or self.conn.gone:
            self.conn.release(self)
            return
        if task.cancelled() and not self.started and self.flaw("stm-loses-early-kill"):
            return
        if self.killed:
            if self.terminal is None:
                self.set_terminal(w.CallError(w.CANCELLED, "killed"))
        elif self.terminal is None:
            self._end_with(error if not task.cancelled() else w.CallError(w.CANCELLED))

    def _end_with(self, error: BaseException | None) -> None:
        if isinstance(error, w.CallError):
            self.set_terminal(error)
        elif error is not None:
            self.set_terminal(w.CallError(w.APPLICATION_ERROR, "the handler failed"))
        else:
            if self.flaw("msg-extra-empty-response"):
                self._push(b"", more=False)
            self.set_terminal(None)

    def set_terminal(self, error: w.CallError | None) -> None:
        """Decide the one terminal; it is sent behind whatever is in the outbox."""
        trailers = w.response_block(self.trailers) if self.trailers and error is None else b""
        self.terminal = Terminal(error, trailers)
        self.conn.wake(self)

    def cancel_handler(self) -> None:
        """Ask a running handler to end; count it once (CAN-003)."""
        if not self.running or self.cancel_asked or self.task is None:
            return
        self.cancel_asked = True
        if self.counted:
            self.server.cancelled += 1
        if self.flaw("can-handler-survives"):
            return
        self.task.cancel()

    def abort(self, error: w.CallError) -> None:
        """End the request by a decision of the transport: nothing unsent is kept (FLW-005)."""
        if self.closed or self.killed:
            return
        if self.terminal is not None and not self.outbox and not self.terminal.trailers:
            return  # the end is decided and needs no credit
        if not self.flaw("flw-deadline-waits-for-data"):
            self.discard_output()
        self.discard_input()
        self.cancel_handler()
        self.set_terminal(error)

    def _deadline(self) -> None:
        self.abort(w.CallError(w.DEADLINE_EXCEEDED, "ADM-005: timeout_ms is over"))

    def kill(self) -> None:
        """Carry out KILL (CAN-001 to CAN-004)."""
        if self.killed:
            return
        self.killed = True
        if self.terminal is not None and not self.outbox and not self.terminal.trailers:
            return  # the handler had finished and all its data is written
        if self.flaw("can-data-after-kill"):
            self.conn.loop.call_later(0.3, self._kill_now)
            return
        self._kill_now()

    def _kill_now(self) -> None:
        if self.closed:
            return
        if self.flaw("flw-leaks-killed-credit"):
            self.conn.leaked += self.unread
        self.discard_output()
        self.discard_input()
        self.terminal = None
        self.cancel_handler()
        if not self.running:
            self._kill_over()
        elif not self.flaw("can-terminal-waits-for-handler"):
            self.kill_timer = self.conn.loop.call_later(KILL_PATIENCE, self._kill_over)

    def _kill_over(self) -> None:
        if self.closed or self.terminal is not None or self.flaw("can-kill-without-terminal"):
            return
        if not self.started and self.flaw("stm-loses-early-kill"):
            return
        self.set_terminal(w.CallError(w.CANCELLED, "killed"))

    def forget(self) -> None:
        """Drop everything: the connection is over (CLS-010)."""
        self.discard_output()
        self.inbox.clear()
        self.partial = None
        self.reading = False
        self.stop_timers()
        if not self.flaw("stm-handlers-survive-connection"):
            self.cancel_handler()

    def stop_timers(self) -> None:
        """Disarm the deadline and the patience with a killed handler."""
        for timer in (self.timer, self.kill_timer):
            if timer is not None:
                timer.cancel()
        self.timer = self.kill_timer = None

    # Input ------------------------------------------------------------------------------------

    def accept(self, flags: int, seq: int, data: bytes, cost: int) -> None:
        """Take the data of one REQUEST frame; section 8 says which message it belongs to."""
        end, more = bool(flags & w.END_STREAM), bool(flags & w.MORE)
        if end:
            self.ended = True
        if not self.reading:
            self._wake_reader()
            return  # counted on the connection, held nowhere: returned with the next limit
        self.unread += cost
        self.conn.held += cost
        if self._carries_message(end, more, seq, data):
            self._chunk(data, more, cost)
        else:
            self.consume(cost)
        self._wake_reader()
        if end and self.task is None:
            self.start()

    def _carries_message(self, end: bool, more: bool, seq: int, data: bytes) -> bool:
        if data or more or self.partial is not None:
            return True
        if end and seq > 0:
            return self.flaw("msg-bare-end-is-message")
        if not end and seq == 0:
            return self.flaw("msg-bare-open-is-message")
        return end or not self.flaw("msg-drops-empty")

    def _chunk(self, data: bytes, more: bool, cost: int) -> None:
        if more and self.flaw("msg-ignores-more"):
            more = False
        if more and not data and self.flaw("msg-empty-chunk-ends-message"):
            more = False
        if self.partial is None:
            self.partial = bytearray()
        self.partial += data
        self.partial_cost += cost
        if len(self.partial) > self.conn.config.max_message:  # MSG-003
            if self.flaw("msg-too-large-closes"):
                raise w.ViolationError(w.PROTOCOL_ERROR, "MSG-003", "message too large")
            if not self.flaw("msg-no-size-limit"):
                self.abort(w.CallError(w.MESSAGE_TOO_LARGE, "MSG-003: message too large"))
                return
        if not more:
            message, spent = bytes(self.partial), self.partial_cost
            self.partial, self.partial_cost = None, 0
            if self.inbox and self.flaw("msg-merges"):
                before, charged = self.inbox.pop()
                message, spent = before + message, charged + spent
            self.inbox.append((message, spent))
        elif self.waiter is not None and not self.inbox:
            self._credit_partial()
        if more and self.flaw("msg-delivers-incomplete"):
            self.conn.loop.call_later(0.001, self._deliver_incomplete)

    def _deliver_incomplete(self) -> None:
        if self.partial is not None:
            self.inbox.append((bytes(self.partial), self.partial_cost))
            self.partial, self.partial_cost = None, 0
            self._wake_reader()

    def _credit_partial(self) -> None:
        # FLW-007: chunks are returned early only while the handler waits for this very message.
        if self.partial_cost and not self.flaw("flw-no-chunk-credit"):
            cost, self.partial_cost = self.partial_cost, 0
            self.consume(cost)

    def _wake_reader(self) -> None:
        ready = self.inbox or self.ended
        if ready and self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def consume(self, cost: int) -> None:
        """Return the cost of input that nobody holds any more."""
        self.unread -= cost
        self.consumed += cost
        self.conn.held -= cost
        self.conn.credit(self)

    def discard_input(self) -> None:
        """Stop reading and return all unread credit (FLW-008)."""
        self.reading = False
        self.inbox.clear()
        self.partial, self.partial_cost = None, 0
        if self.unread:
            self.consume(self.unread)

    async def recv(self) -> bytes | None:
        """Return the next complete request message, or None behind the last one."""
        while not self.inbox:
            if self.ended:
                return None
            self._credit_partial()
            self.waiter = self.conn.loop.create_future()
            try:
                await self.waiter
            finally:
                self.waiter = None
        message, cost = self.inbox.popleft()
        if self.reading:
            self.consume(cost)
        return message

    # Output -----------------------------------------------------------------------------------

    async def send(self, data: bytes, *, more: bool = False) -> None:
        """Queue a message (or with `more` a piece of one); wait while too much is unsent.

        Raises:
            CallError: The message outgrows what the client accepts (SET-003).
        """
        if self.closed or self.terminal is not None or self.conn.gone:
            return
        if self.killed and not self.flaw("can-data-after-kill"):
            return
        self.message_size += len(data)
        if self.message_size > self.conn.peer[w.S_MAX_MESSAGE] and not self.flaw(
            "set-ignores-message-size"
        ):
            self.discard_output()  # a decision of the transport: at once (FLW-005)
            text = "SET-003: response message above the client's MAX_MESSAGE_SIZE"
            raise w.CallError(w.MESSAGE_TOO_LARGE, text, w.NON_RETRYABLE)
        if not more:
            self.message_size = 0
        self._push(data, more=more)
        while self.out_cost > SEND_BUFFER:
            if self.out_cost < 256 * SEND_BUFFER and self.flaw("flw-no-backpressure"):
                await asyncio.sleep(0)
                return
            self.room = self.conn.loop.create_future()
            await self.room

    def _push(self, data: bytes, *, more: bool) -> None:
        prefix = b""
        if self.response_headers:
            prefix = w.response_block(self.response_headers)
            self.response_headers = []
        self.outbox.append(Piece(data, more, prefix))
        self.out_cost += w.HEADER_SIZE + len(data)
        self.conn.wake(self)

    def discard_output(self) -> None:
        """Forget what is unsent."""
        self.outbox.clear()
        self.out_cost = 0

    @property
    def has_output(self) -> bool:
        """Tell whether anything waits, sendable or not."""
        return bool(self.outbox) or (self.terminal is not None and not self.closed)

    def next_frame(self) -> bytes | None:
        """Return the next frame the windows let out, or None."""
        octets = None
        if self.outbox:
            octets = self._data_frame()
        elif self.terminal is not None and not self.closed:
            octets = self._terminal_frame(self.terminal)
        if octets is not None:
            self.blocked_since = None
        elif self.has_output and self.blocked_since is None:
            self.blocked_since = self.conn.loop.time()
        return octets

    def _window(self) -> int:
        """Return how much payload the smaller of both windows lets out in one frame."""
        conn = self.conn
        room = self.send_limit - self.sent
        if conn.send_limit - conn.sent < room and not self.flaw("flw-ignores-connection-window"):
            room = conn.send_limit - conn.sent
        if room > 0 and self.flaw("flw-one-frame-over"):
            room += 16_384
        if room < self._head_cost():
            return -1
        return room - self._head_cost()

    def _head_cost(self) -> int:
        return 0 if self.flaw("flw-no-header-cost") else w.HEADER_SIZE

    def _charge(self, size: int) -> None:
        cost = self._head_cost() + size
        self.sent += cost
        self.conn.sent += cost

    def _take_seq(self) -> int:
        if self.flaw("frm-seq-per-connection"):
            self.conn.shared_seq += 1
            return self.conn.shared_seq - 1
        seq = self.out_seq
        self.out_seq += 1
        if self.flaw("frm-seq-from-one"):
            seq += 1
        if seq and self.flaw("frm-seq-little-endian"):
            seq = int.from_bytes(seq.to_bytes(4, "little"), "big")
        return seq

    def _frame(self, flags: int, payload: bytes) -> bytes:
        subtype = 1 if self.flaw("frm-sends-response-subtype") else 0
        if self.flaw("frm-sends-reserved-flag"):
            flags |= 0x10
        seq = self._take_seq()
        return w.frame(w.RESPONSE, flags, subtype, seq, self.rid, payload)

    def _data_frame(self) -> bytes | None:
        piece = self.outbox[0]
        left = len(piece.data) - piece.at
        window = self._window() - len(piece.prefix)
        if window < (1 if left else 0):
            return None
        largest = min(self.conn.peer[w.S_MAX_FRAME], TURN) - len(piece.prefix)
        if left > largest and self.flaw("set-ignores-frame-size"):
            largest = 2 * TURN
        take = min(left, largest, window)
        body = piece.data[piece.at : piece.at + take]
        piece.at += take
        done = piece.at == len(piece.data)
        flags = w.META if piece.prefix else 0
        if not done or piece.more:
            flags |= w.MORE
        if flags & w.MORE and self.flaw("msg-sends-no-more"):
            flags &= ~w.MORE
        payload = piece.prefix + body
        piece.prefix = b""
        self.out_cost -= take
        if done:
            self.out_cost -= w.HEADER_SIZE
            self.outbox.popleft()
        self._charge(len(payload))
        octets = self._frame(flags, payload)
        if self.room is not None and not self.room.done() and self.out_cost <= SEND_BUFFER:
            self.room.set_result(None)
        return octets

    def _terminal_frame(self, terminal: Terminal) -> bytes | None:
        if not self.ended and self.flaw("stm-terminal-waits-for-end"):
            return None
        if terminal.error is not None:
            if self._window() < 0 and self.flaw("flw-terminal-waits-for-window"):
                return None
            octets = self._error_frame(terminal.error)
        elif terminal.trailers:  # charged like any other frame
            if self._window() < len(terminal.trailers):
                return None
            self._charge(len(terminal.trailers))
            if self.flaw("typ-meta-mid-stream"):
                octets = self._frame(w.META, terminal.trailers) + self._frame(w.END_STREAM, b"")
            else:
                octets = self._frame(w.END_STREAM | w.META, terminal.trailers)
        elif self.flaw("typ-no-success-terminal"):
            octets = b""
        else:
            octets = self._frame(w.END_STREAM, b"")
        if self.flaw("typ-two-terminals"):
            octets += self._frame(w.END_STREAM, b"")
        if self.flaw("typ-data-after-terminal"):
            octets += self._frame(0, b"late")
        self.closed = True
        self.conn.stream_closed(self)
        return octets or None

    def _error_frame(self, error: w.CallError) -> bytes:
        body = self.conn.error_body(error)
        if self.flaw("typ-error-without-end"):
            return self._frame(w.ERROR, body) + self._frame(w.END_STREAM, b"")
        return self._frame(w.ERROR | w.END_STREAM, body)
