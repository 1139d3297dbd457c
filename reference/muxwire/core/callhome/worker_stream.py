"""A response on its way home, at the worker: from admission to the last word.

Rules of this file: the stream outlives its connections, since an attempt at delivery may fail.  Its
output waits in one queue and is written by whoever carries it.  A handler that has been told to
stop still ends with one `finish` or `fail`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from muxwire._generated import codec
from muxwire._generated.machines import (
    EFFECT_AGAIN,
    EFFECT_CANCEL,
    EFFECT_FORGET,
    EFFECT_NOTIFY_STOP,
    IN_WCH_WORKER_STREAM_ACCEPT,
    IN_WCH_WORKER_STREAM_DEADLINE,
    IN_WCH_WORKER_STREAM_FAILED,
    IN_WCH_WORKER_STREAM_FAILED_LAST,
    IN_WCH_WORKER_STREAM_KILL,
    IN_WCH_WORKER_STREAM_LENT,
    IN_WCH_WORKER_STREAM_LOST,
    IN_WCH_WORKER_STREAM_REJECT,
    IN_WCH_WORKER_STREAM_STOP,
    IN_WCH_WORKER_STREAM_TERMINAL,
    IN_WCH_WORKER_STREAM_UNPLACED,
    WCH_WORKER_STREAM,
    WCH_WORKER_STREAM_GONE,
    WCH_WORKER_STREAM_GREETING_KILLED,
    WCH_WORKER_STREAM_QUEUED,
    WCH_WORKER_STREAM_STREAMING,
    WCH_WORKER_STREAM_STREAMING_KILLED,
)
from muxwire._generated.registries import (
    END_STREAM,
    ERROR,
    NON_RETRYABLE,
    WCH_ACQUIRE_TIMEOUT_MS,
    WCH_DELIVERY_TIMEOUT_MS,
    WCH_MAX_ATTEMPTS,
    WCH_MAX_MESSAGE_SIZE,
    WCH_MAX_METADATA_SIZE,
    ErrorCode,
)
from muxwire.core.config import Config
from muxwire.core.counters import LOST, OK
from muxwire.core.events import CancelReason, HandlerCancelled, StopReceived, Writable
from muxwire.core.metadata import Header, response_metadata
from muxwire.core.sendqueue import SendQueue
from muxwire.core.statistics import Statistics
from muxwire.core.worker import error_body
from muxwire.errors import InvalidArgument, MessageTooLarge, RequestClosed

UNBOUNDED = 1 << 62
"""Credit where there is none (section 21.1)."""

_LENGTH_FIELD = 4
_KILLED = (WCH_WORKER_STREAM_GREETING_KILLED, WCH_WORKER_STREAM_STREAMING_KILLED)

StreamEvent = StopReceived | HandlerCancelled | Writable


class WorkerStream:
    """The response of one request.

    Args:
        request_id: The 16 octets of wch-stream.
        token: The 16 octets of wch-token.
        config: Sizes and times.
        now: Monotonic seconds of the admission.
        timeout_ms: What the router gave the request; 0: no limit (ADM-005).
        statistics: Where it counts while its handler runs; None for a subject that is not counted.

    Attributes:
        state: A state of the table.
        queue: What is to be written.
        running: The handler has not ended.
        code: How its terminal ends it, `counters.OK` for a success, `counters.LOST` without one.
    """

    def __init__(
        self,
        request_id: bytes,
        token: bytes,
        config: Config,
        now: float,
        *,
        timeout_ms: int = 0,
        statistics: Statistics | None = None,
    ) -> None:
        self.request_id = request_id
        self.token = token
        self.state = WCH_WORKER_STREAM_QUEUED
        self.queue = SendQueue(request_id, UNBOUNDED, codec.response_header)
        self.running = True
        self.code: int = LOST
        self._config = config
        self._statistics = statistics
        self._events: list[StreamEvent] = []
        self._deadline = now + timeout_ms / 1000 if timeout_ms else inf
        self._kill_at = inf
        self._attempts = 0
        self._attempts_until = inf
        self._stopped = False
        self._cancelled = False
        self._decided = False  # the terminal is queued
        if statistics is not None:
            statistics.start()

    @property
    def over(self) -> bool:
        """Whether nothing is left to do, the handler included."""
        return self.state == WCH_WORKER_STREAM_GONE and not self.running

    @property
    def gone(self) -> bool:
        """Whether nothing is left to deliver."""
        return self.state == WCH_WORKER_STREAM_GONE

    @property
    def queued(self) -> bool:
        """Whether it waits for a connection."""
        return self.state == WCH_WORKER_STREAM_QUEUED

    def events(self) -> list[StreamEvent]:
        """Return what the handler is to hear since the last call, and forget it."""
        events, self._events = self._events, []
        return events

    # -- what the handler says

    def send_headers(self, headers: Sequence[Header]) -> None:
        """Queue the response headers.

        Raises:
            InvalidArgument: They break PAY-005, or are too large; in the second case the stream
                ends with REQUEST_INTERNAL_ERROR (SET-003).
            RequestClosed: The handler has ended, or a response has begun.
        """
        if not self._sending():
            return
        if self.queue.seq or self.queue.entries:
            raise RequestClosed("the response has begun")
        self.queue.push(self._block(headers), b"")

    def send_message(self, data: bytes) -> bool:
        """Queue a message; False if it has to wait for a Writable event and was not taken (P0-013).

        Raises:
            MessageTooLarge: It is above WCH_MAX_MESSAGE_SIZE; the stream is ended.
            RequestClosed: The handler has ended.
        """
        if not self._sending():
            return True
        if len(data) > WCH_MAX_MESSAGE_SIZE:  # SET-003
            self._terminate(ErrorCode.MESSAGE_TOO_LARGE, "SET-003", NON_RETRYABLE)
            self._cancelled = True
            raise MessageTooLarge(f"a message has {WCH_MAX_MESSAGE_SIZE} octets at most")
        if not self.queue.has_room(len(data), self._config.send_buffer):
            self.queue.wanted = len(data)
            return False
        self.queue.push_message(data)
        return True

    def finish(self, trailers: Sequence[Header] = ()) -> None:
        """Say that the handler has ended well.

        Raises:
            InvalidArgument: The trailers cannot be sent; the stream ends with
                REQUEST_INTERNAL_ERROR.
            RequestClosed: The handler has ended before.
        """
        if not self._handler_ended():
            return
        if trailers:
            try:
                block = self._block(trailers)
            except InvalidArgument:
                self._terminate(ErrorCode.REQUEST_INTERNAL_ERROR, "SET-003")
                raise
            if not self.queue.seq and not self.queue.entries:  # TYP-005
                self.queue.push(response_metadata(()), b"")
            self.queue.push(block, b"", END_STREAM)
            self.queue.closed = True
        else:
            self.queue.end()
        self.code = OK
        self._decided = True

    def fail(
        self,
        code: int,
        message: str = "",
        *,
        detail: bytes = b"",
        retry_after_ms: int = 0,
        non_retryable: bool = False,
    ) -> None:
        """Say that the handler has ended with an error: it follows the handler's data.

        Raises:
            RequestClosed: The handler has ended before.
        """
        flags = NON_RETRYABLE if non_retryable else 0
        body = error_body(code, flags, retry_after_ms, message, detail)
        if not self._handler_ended():
            return
        self.queue.push(b"", body, END_STREAM | ERROR)
        self.queue.closed = True
        self.code = code
        self._decided = True

    # -- what happens to its attempts at delivery

    def attempt(self, now: float) -> None:
        """Begin an attempt: a dial that is made for it, or a HELLO (P0-005)."""
        if not self._attempts:
            self._attempts_until = now + WCH_DELIVERY_TIMEOUT_MS / 1000
        self._attempts += 1

    def patience(self, now: float) -> float:
        """Return the seconds that it may wait for a connection (P0-001, P0-005)."""
        first = WCH_ACQUIRE_TIMEOUT_MS / 1000
        return first if not self._attempts else max(0.0, min(first, self._attempts_until - now))

    def lent(self) -> None:
        """Take that a connection offers the stream."""
        self._step(IN_WCH_WORKER_STREAM_LENT)

    def failed(self, now: float) -> bool:
        """Take that the attempt has failed; tell whether another one is due (P0-005)."""
        last = self._attempts >= WCH_MAX_ATTEMPTS or now >= self._attempts_until
        input_ = IN_WCH_WORKER_STREAM_FAILED_LAST if last else IN_WCH_WORKER_STREAM_FAILED
        effect = self._step(input_)
        self._drop(effect)
        return effect == EFFECT_AGAIN

    def unplaced(self) -> None:
        """Take that no connection came in time (P0-015)."""
        self._drop(self._step(IN_WCH_WORKER_STREAM_UNPLACED))

    def lost(self) -> None:
        """Give the stream up, wherever it is: its worker ends."""
        while not self.gone:
            queued = self.state == WCH_WORKER_STREAM_QUEUED
            greeting = self.state < WCH_WORKER_STREAM_STREAMING
            if queued:
                self.unplaced()
            elif greeting:
                self._drop(self._step(IN_WCH_WORKER_STREAM_FAILED_LAST))
            else:
                self.lose()

    # -- what its connection tells

    def accept(self) -> None:
        """Take ACCEPT: what is queued may be written."""
        self._step(IN_WCH_WORKER_STREAM_ACCEPT)

    def reject(self) -> None:
        """Take REJECT (P0-004)."""
        self._drop(self._step(IN_WCH_WORKER_STREAM_REJECT))

    def stop(self, reason: int) -> None:
        """Take STOP."""
        if self._step(IN_WCH_WORKER_STREAM_STOP) == EFFECT_NOTIFY_STOP and not self._stopped:
            self._stopped = True
            if self.running and not self._cancelled:
                self._events.append(StopReceived(request_id=self.request_id, reason=reason))

    def kill(self, now: float) -> None:
        """Take KILL; before ACCEPT the terminal waits for it (CAN-001, P0-011)."""
        if self._step(IN_WCH_WORKER_STREAM_KILL) != EFFECT_CANCEL:
            return
        if self.queue.ends_next:
            return  # the ordinary terminal, all data is out
        if self._decided:
            self._terminate(ErrorCode.CANCELLED, "CAN-001")
            return
        self.queue.discard()  # CAN-002
        self._deadline = inf
        self._kill_at = now + self._config.kill_deadline
        self._cancel(CancelReason.KILL)

    def written(self) -> None:
        """Take that the terminal is written, the only end that a stream has (P0-007)."""
        self._step(IN_WCH_WORKER_STREAM_TERMINAL)
        self._deadline = self._kill_at = inf

    def lose(self) -> None:
        """Take that the connection has ended behind ACCEPT (P0-006)."""
        self._drop(self._step(IN_WCH_WORKER_STREAM_LOST))

    def room(self) -> None:
        """Tell a waiting writer, once half of the buffer is free and its message fits."""
        queue, most = self.queue, self._config.send_buffer
        if queue.wanted < 0:
            return
        if queue.buffered <= most // 2 and queue.has_room(queue.wanted, most):
            queue.wanted = -1
            self._events.append(Writable(request_id=self.request_id))

    def exhausted(self) -> None:
        """Take that no sequence number is left (FRM-010)."""
        self._cancel(CancelReason.INTERNAL)
        self._terminate(ErrorCode.REQUEST_INTERNAL_ERROR, "FRM-010")

    # -- time

    def next_timeout(self) -> float:
        """Return when `handle_timeout` wants to be called, or infinity."""
        return min(self._deadline, self._kill_at)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        if now >= self._kill_at:
            self._kill_at = inf
            if not self._decided:
                self._terminate(ErrorCode.CANCELLED, "CAN-001")
        if now >= self._deadline:
            self._deadline = inf
            self._end_early(CancelReason.DEADLINE, ErrorCode.DEADLINE_EXCEEDED, "ADM-005")

    def shut_down(self) -> None:
        """Take that the grace of a drain is over (CLS-006)."""
        self._end_early(CancelReason.SHUTDOWN, ErrorCode.SHUTDOWN, "CLS-006")

    def _end_early(self, reason: CancelReason, code: ErrorCode, requirement: str) -> None:
        if self.gone or self._step(IN_WCH_WORKER_STREAM_DEADLINE) != EFFECT_CANCEL:
            return
        if not self.queue.ends_next:
            self._cancel(reason)
            self._terminate(code, requirement)

    # -- inside

    def _step(self, input_: int) -> int:
        row = WCH_WORKER_STREAM[self.state][input_]
        self.state = row.state
        return row.effect

    def _drop(self, effect: int) -> None:
        """Give up what is left of a stream that will not be delivered."""
        if effect not in (EFFECT_CANCEL, EFFECT_FORGET):
            return
        self.queue.discard()
        self.code = LOST
        self._decided = True
        self._deadline = self._kill_at = inf
        self._cancel(CancelReason.CONNECTION_LOST)

    def _sending(self) -> bool:
        """Tell whether the handler may send; False if what it sends is dropped."""
        if not self.running:
            raise RequestClosed("the handler has ended")
        return not self.queue.closed

    def _handler_ended(self) -> bool:
        """Note the end of the handler; tell whether its terminal is still to be decided."""
        if not self.running:
            raise RequestClosed("the handler has ended before")
        self.running = False
        if self._statistics is not None:
            self._statistics.end()
        if self.state in _KILLED and not self._decided:
            self._terminate(ErrorCode.CANCELLED, "CAN-001")
        return not self._decided

    def _block(self, headers: Sequence[Header]) -> bytes:
        block = response_metadata(headers)
        if len(block) - _LENGTH_FIELD > WCH_MAX_METADATA_SIZE:  # SET-003
            self._terminate(ErrorCode.REQUEST_INTERNAL_ERROR, "SET-003")
            self._cancelled = True
            raise InvalidArgument(f"metadata has {WCH_MAX_METADATA_SIZE} octets at most")
        return block

    def _cancel(self, reason: CancelReason) -> None:
        """Ask the handler to stop, once, if it runs (CAN-003)."""
        if self.running and not self._cancelled:
            self._cancelled = True
            if self._statistics is not None:
                self._statistics.cancelled += 1
            self._events.append(HandlerCancelled(request_id=self.request_id, reason=reason))

    def _terminate(self, code: ErrorCode, requirement: str, flags: int = 0) -> None:
        """Queue a terminal of the transport in place of what is not written yet."""
        self._decided = True
        self.code = code
        self.queue.discard()
        body = codec.encode_error_body(code, flags, 0, requirement.encode())
        self.queue.push(b"", body, END_STREAM | ERROR)
