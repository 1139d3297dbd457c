"""A response on its way: what its handler says, and the octets of the body.

Rules of this file: no clock and no loop.  What is queued is written, since its items are counted:
an end follows them, whoever decides on it (P1-011).  There is exactly one end (P1-010).  Octets
that are being written count as buffered until they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf

from muxwire._generated.registries import BATCH_SIZE, NON_RETRYABLE, ErrorCode
from muxwire.core.config import Config
from muxwire.core.counters import LOST, OK
from muxwire.core.events import CancelReason, HandlerCancelled, Writable
from muxwire.core.metadata import Header, response_metadata
from muxwire.core.statistics import Statistics
from muxwire.errors import InvalidArgument, RequestClosed
from muxwire.http.writers import Exhausted, Failure, Writer

_LENGTH_FIELD = 4
_EVENT_COST = 64
_U32 = 2**32 - 1


class Response:
    """The response of one request whose handler was admitted.

    Args:
        writer: Writes the events of the chosen format.
        config: Sizes.
        now: Monotonic seconds of the admission.
        request_id: What events are told with.
        timeout_ms: What the client gave the request; 0: no limit (P1-016).
        heartbeat_ms: Longest silence (P1-014).
        statistics: Where it counts while its handler runs; None for a subject that is not counted.

    Attributes:
        running: The handler has not ended.
        ended: The end is queued, or nobody wants it.
        buffered: Octets that are not written.
        code: How it ends, `counters.OK` for a success, `counters.LOST` if nobody reads the end.
    """

    def __init__(
        self,
        writer: Writer,
        config: Config,
        now: float,
        *,
        request_id: bytes,
        timeout_ms: int = 0,
        heartbeat_ms: int,
        statistics: Statistics | None = None,
    ) -> None:
        self.running = True
        self.ended = False
        self.buffered = 0
        self.code: int = LOST
        self._writer = writer
        self._most = config.send_buffer
        self._max_metadata = config.settings.max_metadata_size
        self._request_id = request_id
        self._statistics = statistics
        self._queue: deque[bytes | memoryview] = deque()
        self._writing = 0
        self._events: list[HandlerCancelled | Writable] = []
        self._wanted = -1
        self._cancelled = False
        self._deadline = now + timeout_ms / 1000 if timeout_ms else inf
        self._heartbeat = heartbeat_ms / 1000
        self._heartbeat_at = now + self._heartbeat
        self._written_at = now
        if statistics is not None:
            statistics.start()

    def events(self) -> list[HandlerCancelled | Writable]:
        """Return what the handler is to hear since the last call, and forget it."""
        events, self._events = self._events, []
        return events

    # -- what the handler says

    def send_headers(self, headers: Sequence[Header]) -> None:
        """Take the response headers.

        Raises:
            InvalidArgument: They break PAY-005 or are too large; in the second case the response
                ends with REQUEST_INTERNAL_ERROR (SET-003).
            RequestClosed: The handler has ended, or a response has begun.
        """
        if not self.running:
            raise RequestClosed("the handler has ended")
        if self._writer.items:
            raise RequestClosed("the response has begun")
        self._check(headers)
        if not self.ended:
            self._push(self._writer.headers(headers))

    def send_message(self, data: bytes) -> bool:
        """Queue an item; False if it has to wait for a Writable event and was not taken (P1-017).

        Raises:
            RequestClosed: The handler has ended.
        """
        if not self.running:
            raise RequestClosed("the handler has ended")
        if self.ended:
            return True
        if not self._has_room(len(data)):
            self._wanted = len(data)
            return False
        try:
            self._push(self._writer.item(data))
        except Exhausted:
            self._end_early(CancelReason.INTERNAL, ErrorCode.REQUEST_INTERNAL_ERROR, "FRM-010")
        return True

    def finish(self, trailers: Sequence[Header] = ()) -> None:
        """Say that the handler has ended well.

        Raises:
            InvalidArgument: The trailers cannot be sent; the response ends with
                REQUEST_INTERNAL_ERROR.
            RequestClosed: The handler has ended before.
        """
        self._handler_ended()
        if not self.ended:
            try:
                self._check(trailers)
            except InvalidArgument:
                self._fail(Failure(ErrorCode.REQUEST_INTERNAL_ERROR, "SET-003"))
                raise
            self._end(OK, self._writer.done(trailers))

    def fail(
        self,
        code: int,
        message: str = "",
        *,
        detail: bytes = b"",
        retry_after_ms: int = 0,
        non_retryable: bool = False,
    ) -> None:
        """Say that the handler has ended with an error.

        Raises:
            RequestClosed: The handler has ended before.
        """
        self._handler_ended()
        self._fail(
            Failure(
                code & _U32,
                message,
                detail=detail,
                retry_after_ms=min(max(retry_after_ms, 0), _U32),
                flags=NON_RETRYABLE if non_retryable else 0,
            )
        )

    # -- what is written

    def take(self) -> bytes:
        """Return the next octets to write, none if there are none; `written` is due behind them."""
        queue = self._queue
        parts: list[bytes | memoryview] = []
        size = 0
        while queue and size < BATCH_SIZE:
            part = queue.popleft()
            room = BATCH_SIZE - size
            if len(part) > room:
                rest = memoryview(part)
                queue.appendleft(rest[room:])
                part = rest[:room]
            parts.append(part)
            size += len(part)
        self._writing = size
        return b"".join(parts)

    def written(self, now: float) -> None:
        """Take that the octets of `take` are written."""
        self.buffered -= self._writing
        self._writing = 0
        self._written_at = now
        wanted = self._wanted
        if wanted >= 0 and self.buffered <= self._most // 2 and self._has_room(wanted):
            self._wanted = -1
            self._events.append(Writable(request_id=self._request_id))

    def lost(self) -> None:
        """Take that nobody reads what is left: the client has gone, or takes nothing (P1-013)."""
        self._cancel(CancelReason.CONNECTION_LOST)
        if self.buffered:
            self.code = LOST
        self._queue.clear()
        self.buffered = self._writing = 0
        self._over()

    def shut_down(self) -> None:
        """Take that the grace of a drain is over (CLS-006)."""
        self._end_early(CancelReason.SHUTDOWN, ErrorCode.SHUTDOWN, "CLS-006")

    # -- time

    def next_timeout(self) -> float:
        """Return when `handle_timeout` wants to be called, or infinity."""
        return min(self._deadline, self._heartbeat_at)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        if now >= self._deadline:
            self._end_early(CancelReason.DEADLINE, ErrorCode.DEADLINE_EXCEEDED, "P1-016")
        if now >= self._heartbeat_at:
            due = self._written_at + self._heartbeat
            if self.buffered:
                due = now + self._heartbeat
            elif now >= due:
                self._push(self._writer.heartbeat)
                due = now + self._heartbeat
            self._heartbeat_at = due

    # -- inside

    def _has_room(self, size: int) -> bool:
        """Say whether an item may be queued; base64 makes a third more of it."""
        return not self.buffered or self.buffered + size * 4 // 3 + _EVENT_COST <= self._most

    def _push(self, octets: bytes) -> None:
        if octets:
            self._queue.append(octets)
            self.buffered += len(octets)

    def _check(self, headers: Sequence[Header]) -> None:
        if not headers:
            return
        if len(response_metadata(headers)) - _LENGTH_FIELD > self._max_metadata:
            self._end_early(CancelReason.INTERNAL, ErrorCode.REQUEST_INTERNAL_ERROR, "SET-003")
            raise InvalidArgument(f"metadata has {self._max_metadata} octets at most")

    def _handler_ended(self) -> None:
        if not self.running:
            raise RequestClosed("the handler has ended before")
        self.running = False
        if self._statistics is not None:
            self._statistics.end()

    def _end(self, code: int, octets: bytes) -> None:
        self.code = code
        self._push(octets)
        self._over()

    def _over(self) -> None:
        self.ended = True
        self._wanted = -1
        self._deadline = self._heartbeat_at = inf

    def _fail(self, failure: Failure) -> None:
        if not self.ended:
            self._end(failure.code, self._writer.failed(failure))

    def _end_early(self, reason: CancelReason, code: ErrorCode, requirement: str) -> None:
        if not self.ended:
            self._cancel(reason)
            self._fail(Failure(code, requirement))

    def _cancel(self, reason: CancelReason) -> None:
        """Ask the handler to stop, once, if it runs (CAN-003)."""
        if self.running and not self._cancelled:
            self._cancelled = True
            if self._statistics is not None:
                self._statistics.cancelled += 1
            self._events.append(HandlerCancelled(request_id=self._request_id, reason=reason))
