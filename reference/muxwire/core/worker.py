"""The worker's end of a connection.

Rules of this file: a place belongs to a request until its terminal is written *and* its handler has
ended (CAN-004, DOS-003).  The driver says that a handler has ended with `finish` or `fail`, exactly
once for every RequestReceived, whatever happened in between.  A terminal is queued in two ways:
behind the data by the handler's end, or at once, without the data, by the transport (FLW-005).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from enum import IntEnum, auto

from muxwire._generated import codec
from muxwire._generated.machines import (
    CLOSED,
    EFFECT_ADMIT,
    EFFECT_CANCEL,
    EFFECT_DELIVER,
    EFFECT_DROP,
    EFFECT_GLITCH,
    EFFECT_NOTIFY_STOP,
    EFFECT_POSTPONE,
    IDLE,
    IN_BODY,
    IN_KILL,
    IN_LOST,
    IN_OPEN,
    IN_STOP,
    IN_TERMINAL,
    IN_WORKER_HANDSHAKE_LOCAL_DRAIN,
    IN_WORKER_HANDSHAKE_PREFACE_GOOD,
    IN_WORKER_HANDSHAKE_PREFACE_SURPLUS,
    IN_WORKER_HANDSHAKE_PREFACE_UNSERVED,
    KILLED,
    WORKER_REQUEST,
)
from muxwire._generated.registries import (
    END_STREAM,
    ERROR,
    FRAME_COST,
    IDEMPOTENT,
    MAX_ERROR_BODY,
    MAX_ERROR_MESSAGE,
    NON_RETRYABLE,
    ErrorCode,
)
from muxwire.core.admission import Admission, Refusal
from muxwire.core.closing import CloseAction
from muxwire.core.config import Config
from muxwire.core.connection import Connection
from muxwire.core.counters import LOST, Counters
from muxwire.core.events import (
    CancelReason,
    GoawayReceived,
    HandlerCancelled,
    MessageReceived,
    RequestFinished,
    RequestReceived,
    StopReceived,
)
from muxwire.core.messages import open_is_silent, request_is_silent
from muxwire.core.metadata import Header, opening_fits, response_metadata, trailers_fit
from muxwire.core.request import WorkerRequest, look_up
from muxwire.core.sendqueue import Buffer, SendQueue
from muxwire.core.statistics import Statistics
from muxwire.core.tombstones import Tombstones
from muxwire.errors import InvalidArgument, MessageTooLarge, ProtocolViolation, RequestClosed

U32 = 2**32 - 1
_ERROR_FIXED = len(codec.encode_error_body(0, 0, 0, b""))
_CUTOFF = 0.8
"""Part of `linger` after which a drain that cannot be flushed is cut off (CLS-006)."""


class _Due(IntEnum):
    """What a deadline is for."""

    TIMEOUT = auto()
    KILL = auto()
    STALL = auto()
    GRACE = auto()
    CUTOFF = auto()


class WorkerConnection(Connection[WorkerRequest]):
    """A worker's connection to one client.

    Args:
        config: Options; see `Config`.
        now: Monotonic seconds when the connection was accepted.
        entropy: Returns that many random octets.
        subjects: What can be asked for; membership is all that is used.
        statistics: Counters to share with other connections; fresh ones by default.
        uncounted: Subjects that the statistics leave out.
        admit: Called once, when the client's preface is complete; False refuses the connection with
            CONNECTION_LIMIT (HSK-011).
        counters: What to count in, shared with other connections; fresh ones by default.
    """

    role = codec.WORKER
    sends = codec.RESPONSE
    receives = codec.REQUEST
    noted = END_STREAM

    def __init__(
        self,
        config: Config,
        now: float,
        entropy: Callable[[int], bytes],
        *,
        subjects: Container[bytes],
        statistics: Statistics | None = None,
        uncounted: Container[bytes] = (),
        admit: Callable[[], bool] | None = None,
        counters: Counters | None = None,
    ) -> None:
        super().__init__(config, now, entropy, counters)
        self.statistics = statistics or Statistics()
        self._uncounted = uncounted
        self._admit = admit
        self._admission = Admission(config, subjects, self.statistics, self._budgets.refusal)
        self._tombstones = Tombstones()
        self._orphans: dict[bytes, WorkerRequest] = {}  # terminal written, handler still running
        self._ordinals = 0
        self._draining = False
        self._drain_after: tuple[bytes | None, int] | None = None
        self._client_code: int | None = None  # of the client's GOAWAY

    # -- the handlers' driver

    def send_headers(self, request_id: bytes, headers: Sequence[Header]) -> None:
        """Queue the response headers; they travel with the first message if that comes in time.

        Raises:
            InvalidArgument: They break PAY-005, or the client takes no block of this size; in the
                second case the request is ended with REQUEST_INTERNAL_ERROR (SET-003).
            RequestClosed: The handler has ended, or a response has begun.
        """
        request = self._sending(request_id)
        if request is None:
            return
        if request.queue.seq or request.queue.entries:
            raise RequestClosed("the response has begun")
        block = response_metadata(headers)
        self._check_block(request, opening_fits(block, self.peer))
        request.queue.push(block, b"")
        self._scheduler.ready(request.queue)

    def send_message(self, request_id: bytes, data: bytes) -> bool:
        """Queue a message; False if it has to wait for a Writable event and was not taken.

        Once the request has been cancelled, messages are dropped and the answer is True.

        Raises:
            MessageTooLarge: The client takes no message of this size; the request is ended.
            RequestClosed: The handler has ended.
        """
        request = self._sending(request_id)
        if request is None:
            return True
        if len(data) > self.peer.max_message_size:  # SET-003
            self._terminate(request, ErrorCode.MESSAGE_TOO_LARGE, "SET-003", NON_RETRYABLE)
            request.cancelled = True
            raise MessageTooLarge(f"the client takes {self.peer.max_message_size} octets at most")
        return self._queue_message(request, data)

    def finish(self, request_id: bytes, trailers: Sequence[Header] = ()) -> None:
        """Say that the handler has ended well: a success terminal follows its data.

        Raises:
            InvalidArgument: The trailers cannot be sent; the request is ended with
                REQUEST_INTERNAL_ERROR.
            RequestClosed: The handler has ended before.
        """
        request = self._handler_ended(request_id)
        if request is None:
            return
        queue = request.queue
        if trailers:
            try:
                block = response_metadata(trailers)
                self._check_block(request, trailers_fit(block, self.peer))
            except InvalidArgument:
                self._terminate(request, ErrorCode.REQUEST_INTERNAL_ERROR, "SET-003")
                raise
            if not queue.seq and not queue.entries:  # TYP-005: at seq 0 they would be headers
                queue.push(response_metadata(()), b"")
            queue.push(block, b"", END_STREAM)
            queue.closed = True
        else:
            queue.end()
        request.decided = True
        self._scheduler.ready(queue)

    def fail(
        self,
        request_id: bytes,
        code: int,
        message: str = "",
        *,
        detail: bytes = b"",
        retry_after_ms: int = 0,
        non_retryable: bool = False,
    ) -> None:
        """Say that the handler has ended with an error: it follows the handler's data (FLW-005).

        Message and detail are cut to what an error body holds.

        Raises:
            RequestClosed: The handler has ended before.
        """
        flags = NON_RETRYABLE if non_retryable else 0  # ADM-003: a handler ran
        body = error_body(code, flags, retry_after_ms, message, detail)
        request = self._handler_ended(request_id)
        if request is None:
            return
        request.code = code & U32
        request.queue.push(b"", body, END_STREAM | ERROR)
        request.queue.closed = True
        request.decided = True
        self._scheduler.ready(request.queue)

    # -- the server's driver

    def drain(self, grace_ms: int, now: float, *, after: bytes | None = None) -> None:
        """Take no new requests, let the running ones go on for `grace_ms`, then close (CLS-003).

        Args:
            grace_ms: 0 ends everything at once.
            now: The time.
            after: Begin only when the terminal of this request has been written.
        """
        self._now = now
        grace_ms = min(max(grace_ms, 0), U32)
        if self._closing.action:
            return
        effect = self._handshake.step(IN_WORKER_HANDSHAKE_LOCAL_DRAIN)
        if effect == EFFECT_DROP:  # CLS-011: pending, closed without an octet
            self._end(None, CloseAction.CLOSE, message="closed while pending")
        elif effect == EFFECT_POSTPONE:  # HSK-007: SETTINGS_ACK goes before GOAWAY
            self._drain_after = (None, grace_ms)
        elif after is not None and after in self._requests:
            self._drain_after = (after, grace_ms)
        else:
            self._begin_drain(grace_ms)

    @property
    def draining(self) -> bool:
        """Whether new requests are refused."""
        return self._draining

    @property
    def open_requests(self) -> int:
        """Places taken: requests without a terminal, and handlers that have outlived theirs."""
        return len(self._requests) + len(self._orphans)

    def open_subjects(self) -> list[bytes]:
        """Return the subject of each request that is not over; any thread may ask."""
        return [request.subject for request in self._live()]

    # -- input

    def _on_preface(self) -> None:
        if not self._handshake.offered_is_served():  # HSK-004
            self._handshake.step(IN_WORKER_HANDSHAKE_PREFACE_UNSERVED)
            self._scheduler.control(codec.encode_preface(codec.VERSION, codec.VERSION))
            self._end(None, CloseAction.LINGER, "HSK-004", "no common version or header size")
        elif self._admit is not None and not self._admit():  # HSK-011
            self._handshake.step(IN_WORKER_HANDSHAKE_PREFACE_SURPLUS)
            message = "HSK-011: too many connections"
            self._scheduler.control(codec.encode_preface(codec.VERSION, codec.VERSION))
            self._scheduler.control(
                codec.encode_goaway(ErrorCode.CONNECTION_LIMIT, 0, 0, message.encode())
            )
            self._end(ErrorCode.CONNECTION_LIMIT, CloseAction.LINGER, "HSK-011", message)
        else:
            self._handshake.step(IN_WORKER_HANDSHAKE_PREFACE_GOOD)
            self._hello()

    def _on_settled(self) -> None:
        if self._drain_after is not None:
            self._begin_drain(self._drain_after[1])

    def _on_stream_frame(self, flags: int, seq: int, request_id: bytes, payload: bytes) -> None:
        end = flags & END_STREAM
        cost = FRAME_COST + len(payload) if payload or not end else 0
        input_ = (IN_BODY if seq else IN_OPEN) | end
        request = self._requests.get(request_id)
        if request is None:
            self._credit.charge(cost)
            state = CLOSED if request_id in self._tombstones else IDLE
            row = look_up(WORKER_REQUEST, state, input_)
            if row.effect == EFFECT_ADMIT:
                self._on_open(flags, request_id, payload, cost, row.state)
                return
            self._credit.discard(cost)  # FLW-008
            if row.effect == EFFECT_GLITCH:
                self._glitch()  # RID-003
            return
        self._credit.charge_stream(request.credit, cost)
        effect = request.step(input_)
        request.check_seq(seq)
        if effect == EFFECT_DELIVER and not request.decided:
            self._on_body(request, flags, payload, cost)
        else:
            request.chunk_cost += cost  # the terminal returns it (FLW-008)

    def _on_open(
        self, flags: int, request_id: bytes, payload: bytes, cost: int, state: int
    ) -> None:
        if self._client_code is not None:
            raise ProtocolViolation(
                ErrorCode.PROTOCOL_ERROR, "connection", "CLS-009", "OPEN after the client's GOAWAY"
            )
        request = WorkerRequest(
            request_id,
            self._ordinals + 1,
            self.config.settings.initial_stream_window,
            self.peer.initial_stream_window,
        )
        self._credit.adopt(request.credit, cost)
        verdict = self._admission.judge(
            payload, self.open_requests, self._now, draining=self._draining
        )
        if not self._draining:  # RID-005, CLS-004
            self._ordinals += 1
        if isinstance(verdict, Refusal):
            self._refuse(request_id, verdict, cost)
            return
        request.state = state
        request.next_seq = 1
        request.subject = verdict.subject
        request.counted = verdict.subject not in self._uncounted
        if request.counted:
            self.statistics.start()
        self._requests[request_id] = request
        if verdict.timeout_ms:  # ADM-005
            request.deadline = self._timers.add(
                self._now + verdict.timeout_ms / 1000, _Due.TIMEOUT, request_id
            )
        message = self._assemble(request, flags, verdict.body, cost, silent=open_is_silent(flags))
        data, owed = message or (None, 0)
        self._events.append(  # STM-004: now, and not when the request has ended
            RequestReceived(
                request_id=request_id,
                ordinal=request.ordinal,
                subject=verdict.subject,
                headers=verdict.headers,
                timeout_ms=verdict.timeout_ms,
                idempotent=bool(verdict.request_flags & IDEMPOTENT),
                request_flags=verdict.request_flags,
                data=data,
                cost=owed,
                ended=bool(flags & END_STREAM),
            )
        )

    def _refuse(self, request_id: bytes, refusal: Refusal, cost: int) -> None:
        """Answer an OPEN without a handler; its id becomes a tombstone at once (RID-002)."""
        self._credit.discard(cost)
        self._tombstones.add(request_id)
        queue = SendQueue(request_id, 0, codec.response_header)
        queue.push(b"", refusal.body(), END_STREAM | ERROR)
        self.counters.request_ended(refusal.subject, refusal.code)
        self.counters.frames_sent[codec.RESPONSE] += 1
        self._scheduler.refuse(queue)

    def _on_body(self, request: WorkerRequest, flags: int, payload: bytes, cost: int) -> None:
        end = bool(flags & END_STREAM)
        try:
            message = self._assemble(request, flags, payload, cost, silent=request_is_silent(flags))
        except ProtocolViolation as violation:  # MSG-003
            self._cancel(request, CancelReason.MESSAGE_TOO_LARGE)
            self._terminate(request, ErrorCode.MESSAGE_TOO_LARGE, violation.requirement)
            return
        if message is not None:
            self._events.append(
                MessageReceived(
                    request_id=request.request_id, data=message[0], cost=message[1], ended=end
                )
            )
        elif end:
            self._events.append(RequestFinished(request_id=request.request_id))

    def _on_cancel(self, kind: int, request_id: bytes, payload: bytes) -> None:
        stop = kind == codec.STOP
        reason = codec.decode_stop(payload) if stop else codec.decode_kill(payload)
        effect, request = self._step(request_id, IN_STOP if stop else IN_KILL)
        if effect == EFFECT_GLITCH:
            self._glitch()  # RID-003
        elif request is None:
            return
        elif effect == EFFECT_NOTIFY_STOP:
            if request.running and not request.cancelled and not request.stopped:
                request.stopped = True
                self._events.append(StopReceived(request_id=request_id, reason=reason))
        elif effect == EFFECT_CANCEL:
            self._on_kill(request)

    def _on_kill(self, request: WorkerRequest) -> None:
        request.reassembly = None
        if request.queue.ends_next:
            return  # CAN-001: the ordinary terminal, all data is out
        if request.decided:
            self._terminate(request, ErrorCode.CANCELLED, "CAN-001")
            return
        request.queue.discard()  # CAN-002
        self._timers.cancel(request.deadline)
        request.deadline = self._timers.add(
            self._now + self.config.kill_deadline, _Due.KILL, request.request_id
        )
        self._cancel(request, CancelReason.KILL)

    def _on_goaway(self, payload: bytes) -> None:
        goaway = codec.decode_goaway(payload)
        self._client_code = goaway.code
        self._events.append(
            GoawayReceived(
                code=goaway.code,
                last_ordinal=goaway.last_ordinal,
                grace_ms=goaway.grace_ms,
                message=goaway.message.decode(errors="replace"),
            )
        )
        if goaway.code != ErrorCode.NO_ERROR:  # CLS-009
            self._end(goaway.code, CloseAction.LINGER, message="GOAWAY received", by_peer=True)

    def _effect_without_request(self, request_id: bytes, input_: int) -> int:
        state = CLOSED if request_id in self._tombstones else IDLE
        return look_up(WORKER_REQUEST, state, input_).effect

    def _consumed_late(self, request_id: bytes, cost: int) -> None:
        """Ignore it: the terminal has returned everything that was held (FLW-008)."""

    # -- time

    def _on_deadline(self, action: int, request: WorkerRequest) -> None:
        if request.queue.ends_next:
            return  # the terminal is on its way
        match action:
            case _Due.TIMEOUT:
                self._cancel(request, CancelReason.DEADLINE)
                self._terminate(request, ErrorCode.DEADLINE_EXCEEDED, "ADM-005")
            case _Due.KILL:
                self._terminate(request, ErrorCode.CANCELLED, "CAN-001")
            case _Due.STALL:
                self._stalled(request)

    def _on_alarm(self, action: int) -> None:
        if action == _Due.GRACE:
            self._grace_over()
        else:
            self._abort("CLS-006", "the drain could not be flushed")

    def _begin_drain(self, grace_ms: int) -> None:
        self._drain_after = None
        if not self._draining:
            self._draining = True
            self._announce(grace_ms, "drain")
        if grace_ms:
            self._timers.add(self._now + grace_ms / 1000, _Due.GRACE, None)
        else:
            self._grace_over()

    def _grace_over(self) -> None:
        for request in self._requests.values():
            if not request.queue.ends_next:
                self._cancel(request, CancelReason.SHUTDOWN)
                self._terminate(request, ErrorCode.SHUTDOWN, "CLS-006")
        self._timers.add(self._now + _CUTOFF * self.config.linger, _Due.CUTOFF, None)

    # -- output

    def _sending(self, request_id: bytes) -> WorkerRequest | None:
        """Return a request that may send; None if what it sends is to be dropped."""
        request = self._requests.get(request_id)
        if request is None:
            if request_id in self._orphans:
                return None
            raise RequestClosed("no such request, or its handler has ended")
        if not request.running:
            raise RequestClosed("the handler has ended")
        return None if request.queue.closed else request

    def _handler_ended(self, request_id: bytes) -> WorkerRequest | None:
        """Note the end of a handler; return the request if its terminal is still to be decided."""
        request = self._orphans.pop(request_id, None) or self._requests.get(request_id)
        if request is None or not request.running:
            raise RequestClosed("no such request, or its handler has ended before")
        request.running = False
        if request.counted:
            self.statistics.end()
        if request.state == KILLED and not request.decided:
            self._terminate(request, ErrorCode.CANCELLED, "CAN-001")
        return None if request.decided or request.state == CLOSED else request

    def _check_block(self, request: WorkerRequest, fits: bool) -> None:
        if not fits:  # SET-003
            self._terminate(request, ErrorCode.REQUEST_INTERNAL_ERROR, "SET-003")
            request.cancelled = True
            raise InvalidArgument("the client takes no metadata of this size")

    def _cancel(self, request: WorkerRequest, reason: CancelReason) -> None:
        """Ask the handler to stop, once, if it runs (CAN-003)."""
        if request.running and not request.cancelled:
            request.cancelled = True
            if request.counted:
                self.statistics.cancelled += 1
            self._events.append(HandlerCancelled(request_id=request.request_id, reason=reason))

    def _terminate(
        self, request: WorkerRequest, code: ErrorCode, requirement: str, flags: int = 0
    ) -> None:
        """Queue a terminal of the transport: it goes at once and unsent data never (FLW-005)."""
        request.decided = True
        request.code = code
        request.reassembly = None
        request.queue.discard()
        body = codec.encode_error_body(code, flags, 0, requirement.encode())
        request.queue.push(b"", body, END_STREAM | ERROR)
        self._scheduler.at_once(request.queue)

    def _written(self, queue: SendQueue, parts: list[Buffer]) -> None:  # noqa: ARG002
        """Close a request: its terminal has been written."""
        request = self._requests.pop(queue.request_id)
        self._count_out(request)
        self.counters.request_ended(request.subject, request.code)
        request.step(IN_TERMINAL)
        self._tombstones.add(request.request_id)
        self._credit.discard(request.credit.held)  # FLW-008
        self._timers.cancel(request.deadline)
        self._timers.cancel(request.stall)
        if request.running:  # CAN-004: the place stays taken
            self._orphans[request.request_id] = request
        if self._drain_after is not None and self._drain_after[0] == request.request_id:
            self._begin_drain(self._drain_after[1])

    def _stuck(self, queue: SendQueue) -> None:
        """Begin the patience with a slow consumer; a timer that runs already is kept (FLW-013)."""
        request = self._requests[queue.request_id]
        request.stuck_since = self._now
        if request.stall is None or not request.stall.active:
            over = self._now + self.config.slow_consumer
            request.stall = self._timers.add(over, _Due.STALL, queue.request_id)

    def _stalled(self, request: WorkerRequest) -> None:
        """End a request that waited for credit all the time; look again later if it did not."""
        if not request.queue.stuck:
            return
        over = request.stuck_since + self.config.slow_consumer
        if self._now < over:
            request.stall = self._timers.add(over, _Due.STALL, request.request_id)
            return
        self._cancel(request, CancelReason.SLOW_CONSUMER)
        self._terminate(request, ErrorCode.SLOW_CONSUMER, "FLW-013")

    def _exhausted(self, queue: SendQueue) -> None:
        request = self._requests[queue.request_id]
        self._cancel(request, CancelReason.INTERNAL)
        self._terminate(request, ErrorCode.REQUEST_INTERNAL_ERROR, "FRM-010")

    def _after_write(self) -> None:
        """Half-close once a drained or abandoned connection has nothing left (CLS-005, CLS-009)."""
        if (
            (self._draining or self._client_code is not None)
            and not self._requests
            and self._scheduler.idle
        ):
            self._end(
                ErrorCode.NO_ERROR,
                CloseAction.LINGER,
                message="drained",
                by_peer=not self._draining,
            )

    # -- the end

    def _last_ordinal(self) -> int:
        return self._ordinals

    def _eof_code(self) -> int | None:
        return self._client_code

    def _lose(self, code: int | None, message: str) -> int:  # noqa: ARG002
        lost = len(self._requests)
        for request in self._requests.values():
            request.step(IN_LOST)
            self.counters.request_ended(request.subject, LOST)
            self._cancel(request, CancelReason.CONNECTION_LOST)
            if request.running:  # REC-009: until it ends, and then nothing is left of it
                self._orphans[request.request_id] = request
        return lost


def error_body(code: int, flags: int, retry_after_ms: int, message: str, detail: bytes) -> bytes:
    """Encode an error body, cut to its limits at a character boundary (PAY-007)."""
    text = message.encode(errors="replace")[:MAX_ERROR_MESSAGE]
    text = text.decode(errors="ignore").encode()
    room = MAX_ERROR_BODY - _ERROR_FIXED - len(text)
    return codec.encode_error_body(
        code & U32, flags, min(max(retry_after_ms, 0), U32), text, detail[:room]
    )
