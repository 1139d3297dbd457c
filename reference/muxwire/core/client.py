"""The client's end of a connection.

Rules of this file: a request has exactly one last event, a success or a ResponseFailed with its
class, whatever happens to its connection (REC-001).  Requests above the worker's limit wait here in
order of arrival (ADM-001); until its OPEN is written a request can be taken back without a trace
(FAI-001).  A killed request keeps its place until its terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum, auto

from muxwire._generated import codec
from muxwire._generated.machines import (
    CLIENT_REQUEST,
    EFFECT_DISCARD,
    EFFECT_FINISH,
    EFFECT_FORGET,
    EFFECT_NOT_PROCESSED,
    EFFECT_SEND,
    IDLE,
    IN_CLIENT_HANDSHAKE_GOAWAY,
    IN_CLIENT_HANDSHAKE_PREFACE_GOOD,
    IN_CLIENT_HANDSHAKE_PREFACE_REFUSING,
    IN_CLIENT_LOST,
    IN_NOT_COVERED,
    IN_RESPONSE,
    IN_SEND_END,
    IN_SEND_KILL,
    IN_SEND_OPEN,
    IN_SEND_STOP,
    KILLING,
)
from muxwire._generated.registries import (
    END_STREAM,
    ERROR,
    FRAME_COST,
    IDEMPOTENT,
    META,
    NOT_PROCESSED,
    ErrorCode,
)
from muxwire.core.closing import CloseAction
from muxwire.core.config import Config
from muxwire.core.connection import Connection
from muxwire.core.counters import Counters
from muxwire.core.events import (
    GoawayReceived,
    MessageReceived,
    ResponseFailed,
    ResponseFinished,
    ResponseHeaders,
)
from muxwire.core.ids import RequestIds
from muxwire.core.messages import response_is_silent
from muxwire.core.metadata import Header, open_metadata, opening_fits
from muxwire.core.places import Places
from muxwire.core.request import ClientRequest, look_up
from muxwire.core.sendqueue import Buffer, SendQueue
from muxwire.errors import (
    ConnectionClosed,
    InvalidArgument,
    LocalProtocolError,
    MessageTooLarge,
    Outcome,
    ProtocolViolation,
    RequestClosed,
)

KILL_AFTER = 0.75
"""Seconds from a deadline to the KILL; the worker's own answer normally comes first (REC-005)."""
GIVE_UP_AFTER = 1.0
"""Seconds from that KILL to the end of the wait for its terminal (REC-005)."""

PLAIN = frozenset({0, END_STREAM})
"""Flags of a RESPONSE that ends a message and holds nothing else: most of them."""


class _Due(IntEnum):
    """What a deadline is for."""

    TIMEOUT = auto()
    KILL = auto()
    GIVE_UP = auto()
    GOODBYE = auto()
    DRAINED = auto()


class ClientConnection(Connection[ClientRequest]):
    """A client's connection to one worker.

    Preface and SETTINGS are queued at once, and requests may follow without waiting (HSK-001).

    Args:
        config: Options; see `Config`.
        now: Monotonic seconds when the dial began.
        entropy: Returns that many random octets, for request ids.
        counters: What to count in, shared with other connections; fresh ones by default.
    """

    role = codec.CLIENT
    sends = codec.REQUEST
    receives = codec.RESPONSE
    noted = END_STREAM | META

    def __init__(
        self,
        config: Config,
        now: float,
        entropy: Callable[[int], bytes],
        counters: Counters | None = None,
    ) -> None:
        super().__init__(config, now, entropy, counters)
        self._ids = RequestIds(entropy)
        self._ordinals = 0
        self._places = Places()
        self._alarms: set[_Due] = set()  # deadlines of the connection that run
        self._unread: dict[bytes, int] = {}  # cost of finished requests that nobody took yet
        self._uncovered: set[bytes] = set()  # closed by a GOAWAY; one DRAINING may follow (RID-004)
        self._covered: int | None = None  # smallest last_ordinal received
        self._goaway_code: int | None = None  # NO_ERROR is a drain, any other the end
        self._left = False
        self._refused = False
        self._hello()

    # -- the user driver

    @property
    def accepting(self) -> bool:
        """Whether `open` is allowed: the connection lives and neither side has sent a GOAWAY."""
        return not self._closing.action and self._covered is None and not self._left

    @property
    def _ending(self) -> bool:
        """Whether the worker has ended the connection: by an error, or in place of SETTINGS."""
        return bool(self._goaway_code) or self._handshake.failed  # HSK-005

    @property
    def open_requests(self) -> int:
        """Requests that have not had their last event, waiting ones included."""
        return len(self._requests)

    @property
    def waiting_requests(self) -> int:
        """Requests that wait for a place."""
        return len(self._places.waiting)

    def open(
        self,
        subject: bytes,
        *,
        now: float,
        headers: Sequence[Header] = (),
        timeout_ms: int = 0,
        idempotent: bool = False,
        data: bytes | None = None,
        end: bool = True,
        awaiting: bool = False,
    ) -> bytes:
        """Start a request and return its id.

        Args:
            subject: What to ask for.
            now: The time.
            headers: Pairs of key and value.
            timeout_ms: Deadline, for the worker and for this side; 0 for none.
            idempotent: Running it twice does no harm.
            data: The first message, or None for none yet.
            end: No further message follows.  Without `data` the request has no message at all.
            awaiting: The same as calling `awaiting` at once.

        Raises:
            ConnectionClosed: The connection takes no requests any more.
            InvalidArgument: Subject, headers or timeout are not allowed.
            MessageTooLarge: The worker takes no message of this size.
        """
        if not self.accepting:
            raise ConnectionClosed("the connection takes no new requests")
        block = open_metadata(timeout_ms, IDEMPOTENT if idempotent else 0, subject, headers)
        early = not self._may_send(block, data)
        request = ClientRequest(
            self._ids.next(),
            self.config.settings.initial_stream_window,
            self.peer.initial_stream_window,
        )
        request.awaited = awaiting
        self._requests[request.request_id] = request
        if timeout_ms:
            request.deadline = self._timers.add(
                now + timeout_ms / 1000, _Due.TIMEOUT, request.request_id
            )
        queue = request.queue
        if early:
            request.early += _opening(block, data, end)
        elif data:
            queue.push(block, data, END_STREAM if end else 0)
        else:
            for piece in _opening(block, data, end):
                queue.push(*piece)
        queue.closed = end
        if not early:
            self._places.waiting.append(request)
            self._admit()
        return request.request_id

    def send_message(self, request_id: bytes, data: bytes, *, end: bool = False) -> bool:
        """Queue a message; False if it has to wait for a Writable event and was not taken.

        Raises:
            MessageTooLarge: The worker takes no message of this size.
            RequestClosed: The request is over, killed, or ended by you.
        """
        request = self._sending(request_id)
        if request.early:
            request.queue.wanted = len(data)
            return False
        if not self._may_send(b"", data):
            request.early.append((b"", data, END_STREAM if end else 0))
            request.queue.closed = end
            return True
        if not self._queue_message(request, data):
            return False
        if end:
            self.end(request_id)
        return True

    def end(self, request_id: bytes) -> None:
        """End the request direction.

        Raises:
            RequestClosed: The request is over, killed, or ended by you.
        """
        request = self._sending(request_id)
        if request.early:
            request.early.append((b"", b"", END_STREAM))
            request.queue.closed = True
            return
        request.queue.end()
        self._schedule(request)

    def begun(self, request_id: bytes) -> bool:
        """Whether its OPEN has been handed to the transport; True also if it is over."""
        request = self._requests.get(request_id)
        return request is None or request.state != IDLE

    def unsent(self, request_id: bytes) -> int | None:
        """Return how many of its messages are not handed over whole; None if it is over."""
        request = self._requests.get(request_id)
        if request is None:
            return None
        return sum(map(_is_message, (*request.early, *request.queue.entries)))

    def stop(self, request_id: bytes, reason: int = ErrorCode.CANCELLED) -> None:
        """Ask the worker to finish early and well.  No effect on a request that is over.

        Raises:
            InvalidArgument: The reason is not a u32.
        """
        _check_reason(reason)
        request = self._requests.get(request_id)
        if request is None or request.stop_sent:
            return
        request.stop_sent = True
        if request.state == IDLE:
            request.stop_reason = reason  # FAI-001: held back until the OPEN is written
        elif request.step(IN_SEND_STOP) == EFFECT_SEND:
            self._scheduler.control(codec.encode_stop(request_id, reason))

    def kill(self, request_id: bytes, reason: int = ErrorCode.CANCELLED) -> None:
        """Abandon a request.  Its last event comes with its terminal, and is never a success.

        A request whose OPEN is not written yet is taken back without a frame (NOT_SENT).  No effect
        on a request that is over or killed already.

        Raises:
            InvalidArgument: The reason is not a u32.
        """
        _check_reason(reason)
        request = self._requests.get(request_id)
        if request is not None:
            self._kill(request, reason)

    def goaway(self) -> None:
        """Open nothing more, let the running requests end, then close (CLS-009).

        No effect once the worker has ended the connection: it is being read to its end.
        """
        if self._closing.action or self._left or self._ending:
            return
        self._left = True
        self._announce(0, "")
        for request in self._unwritten():
            self._withdraw(request, int(ErrorCode.CANCELLED), "the client closes")

    def close(self, now: float) -> None:
        """End the connection now, whatever runs."""
        self._now = now
        self.goaway()
        if not self._closing.action:
            self._end(ErrorCode.NO_ERROR, CloseAction.CLOSE, message="closed by the client")

    # -- input

    def _on_preface(self) -> None:
        if self._handshake.selection_is_ours():
            self._handshake.step(IN_CLIENT_HANDSHAKE_PREFACE_GOOD)
        else:  # HSK-004, HSK-010
            self._handshake.step(IN_CLIENT_HANDSHAKE_PREFACE_REFUSING)
            self._refused = True
            self._scheduler.drop()
            self._end(None, CloseAction.CLOSE, "HSK-004", "the worker serves no common version")

    def _on_settled(self) -> None:
        for request in list(self._requests.values()):
            if request.early:
                self._settle(request)
        self._admit()

    def _settle(self, request: ClientRequest) -> None:
        """Send what waited for the worker's SETTINGS, or give the request up (SET-003)."""
        opening = request.state == IDLE and not request.queue.entries
        pieces, request.early = request.early, []
        try:
            for block, data, last in pieces:
                self._may_send(block, data)
                request.queue.push(block, data, last)
        except LocalProtocolError as error:
            large = isinstance(error, MessageTooLarge)
            code = ErrorCode.MESSAGE_TOO_LARGE if large else ErrorCode.INVALID_ARGUMENT
            self._give_up(request, code, str(error))
            return
        if opening:
            self._places.waiting.append(request)
        else:
            self._schedule(request)
        if request.queue.wanted >= 0:
            self._room(request.queue)

    def _on_stream_frame(self, flags: int, seq: int, request_id: bytes, payload: bytes) -> None:
        request = self._requests.get(request_id)
        if (
            request is not None
            and flags in PLAIN
            and payload
            and seq == request.next_seq
            and request.reassembly is None
            and request.state != KILLING
            and len(payload) <= self.config.settings.max_message_size
        ):
            self._on_plain(request, flags, payload)
            return
        exempt = flags & ERROR or (flags & END_STREAM and not payload)  # FLW-004
        cost = 0 if exempt else FRAME_COST + len(payload)
        input_ = IN_RESPONSE + (flags & END_STREAM)
        if request is None:
            self._credit.charge(cost)
            self._on_late_response(flags, request_id, payload, input_)
            return
        request.responded = True  # REC-002: received, valid or not
        self._credit.charge_stream(request.credit, cost)
        killed = request.state == KILLING
        effect = request.step(input_)
        request.check_seq(seq)
        if effect == EFFECT_FINISH:
            self._on_terminal(request, flags, payload, cost, killed=killed)
        elif effect == EFFECT_DISCARD:
            self._give_back(request, cost)
        else:
            self._on_response(request, flags, payload, cost)

    def _on_plain(self, request: ClientRequest, flags: int, payload: bytes) -> None:
        """Take the next whole message, in one frame: what the other path does in more steps."""
        cost = FRAME_COST + len(payload)
        request.responded = True
        self._credit.charge_stream(request.credit, cost)
        ended = request.step(IN_RESPONSE + flags) == EFFECT_FINISH
        request.next_seq += 1
        request.messages += 1
        request.awaited = False
        self._events.append(
            MessageReceived(request_id=request.request_id, data=payload, cost=cost, ended=ended)
        )
        if ended:
            self._close_request(request)

    def _on_late_response(self, flags: int, request_id: bytes, payload: bytes, input_: int) -> None:
        """Ignore one DRAINING for a request that a GOAWAY has closed; refuse all else (RID-004)."""
        if (
            request_id in self._uncovered
            and flags & ERROR
            and codec.decode_error_body(payload).code == ErrorCode.DRAINING
        ):
            self._uncovered.remove(request_id)
            return
        look_up(CLIENT_REQUEST, IDLE, input_)

    def _on_response(self, request: ClientRequest, flags: int, payload: bytes, cost: int) -> None:
        if flags & META:
            headers, payload = codec.decode_response_meta(
                payload, self.config.settings.max_metadata_size
            )
            self._events.append(ResponseHeaders(request_id=request.request_id, headers=headers))
        self._on_body(request, flags, payload, cost, ended=False)

    def _on_body(
        self, request: ClientRequest, flags: int, body: bytes, cost: int, *, ended: bool
    ) -> bool:
        """Deliver the message data of a frame; True if the last event has been made with it."""
        try:
            message = self._assemble(request, flags, body, cost, silent=response_is_silent(flags))
        except ProtocolViolation as violation:  # MSG-003
            request.reassembly = None
            if not flags & END_STREAM:
                self._give_up(request, ErrorCode.MESSAGE_TOO_LARGE, violation.detail)
                return True
            request.verdict = (int(ErrorCode.MESSAGE_TOO_LARGE), violation.detail)
            self._report_verdict(request)
            return True
        if message is None:
            return False
        request.messages += 1
        self._events.append(
            MessageReceived(
                request_id=request.request_id, data=message[0], cost=message[1], ended=ended
            )
        )
        return ended

    def _on_terminal(
        self, request: ClientRequest, flags: int, payload: bytes, cost: int, *, killed: bool
    ) -> None:
        if flags & ERROR:
            self._on_error(request, payload, killed=killed)
        elif killed:  # STM-002: never a success
            self._give_back(request, cost)
            if request.verdict is None:
                request.verdict = (int(ErrorCode.CANCELLED), "killed")
            self._report_verdict(request)
        else:
            self._on_success(request, flags, payload, cost)
        self._close_request(request)

    def _on_error(self, request: ClientRequest, payload: bytes, *, killed: bool) -> None:
        body = codec.decode_error_body(payload)
        if body.error_flags & NOT_PROCESSED and request.next_seq > 1:
            raise ProtocolViolation(
                ErrorCode.PROTOCOL_ERROR, "connection", "ADM-003", "NOT_PROCESSED after a RESPONSE"
            )
        if killed and request.verdict is not None:
            self._report_verdict(request)
            return
        untouched = body.error_flags & NOT_PROCESSED and not killed
        self._report(
            request,
            Outcome.NOT_PROCESSED if untouched else Outcome.FAILED,
            body.code,
            body.message.decode(errors="replace"),
            local=False,
            error_flags=body.error_flags,
            retry_after_ms=body.retry_after_ms,
            detail=body.detail,
        )

    def _on_success(self, request: ClientRequest, flags: int, payload: bytes, cost: int) -> None:
        trailers: list[Header] = []
        if flags & META:
            headers, payload = codec.decode_response_meta(
                payload, self.config.settings.max_metadata_size
            )
            if request.next_seq == 1:  # TYP-005: at seq 0 they are the headers
                self._events.append(ResponseHeaders(request_id=request.request_id, headers=headers))
            else:
                trailers = headers
        if not self._on_body(request, flags, payload, cost, ended=not trailers):
            self._events.append(ResponseFinished(request_id=request.request_id, trailers=trailers))

    def _on_goaway(self, payload: bytes) -> None:
        self._handshake.step(IN_CLIENT_HANDSHAKE_GOAWAY)
        goaway = codec.decode_goaway(payload)
        code, last = goaway.code, goaway.last_ordinal
        covered = last if self._covered is None else min(last, self._covered)  # CLS-007
        for request in self._requests.values():
            if request.ordinal > last and request.responded:
                raise ProtocolViolation(
                    ErrorCode.PROTOCOL_ERROR,
                    "connection",
                    "CLS-007",
                    "last_ordinal below an answered request",
                )
        self._covered = covered
        message = goaway.message.decode(errors="replace")
        self._events.append(
            GoawayReceived(code=code, last_ordinal=last, grace_ms=goaway.grace_ms, message=message)
        )
        self._goaway_code = self._goaway_code or code
        if self._ending:
            self._set_alarm(_Due.GOODBYE, self.config.linger)
        for request in list(self._requests.values()):
            if not request.ordinal or request.ordinal > covered:
                self._not_covered(request, code or int(ErrorCode.DRAINING), message)
        self._await_close()

    def _not_covered(self, request: ClientRequest, code: int, message: str) -> None:
        """Close a request that the worker promises not to touch, or that was never written."""
        outcome = Outcome.NOT_SENT
        if request.step(IN_NOT_COVERED) == EFFECT_NOT_PROCESSED:
            outcome = Outcome.NOT_PROCESSED
            self._uncovered.add(request.request_id)
        self._report(request, outcome, code, message)
        self._close_request(request)

    def _on_cancel(self, kind: int, request_id: bytes, payload: bytes) -> None:
        """Never called: the decoder refuses STOP and KILL at a client (TYP-001)."""

    def _effect_without_request(self, request_id: bytes, input_: int) -> int:  # noqa: ARG002
        return look_up(CLIENT_REQUEST, IDLE, input_).effect

    def _consumed_late(self, request_id: bytes, cost: int) -> None:
        if self._closing.action:
            return  # there is nobody left to grant credit to
        unread = self._unread.get(request_id, 0)
        if cost > unread:
            raise LocalProtocolError("more cost given back than was handed out")
        self._credit.discard(cost)
        if cost == unread:
            self._unread.pop(request_id, None)
        else:
            self._unread[request_id] = unread - cost

    # -- time

    def _on_deadline(self, action: int, request: ClientRequest) -> None:
        match action:
            case _Due.TIMEOUT:
                self._deadline_passed(request)
            case _Due.KILL:
                self._give_up(request, ErrorCode.DEADLINE_EXCEEDED, "no answer in time")
                until = self._now + GIVE_UP_AFTER
                request.deadline = self._timers.add(until, _Due.GIVE_UP, request.request_id)
            case _Due.GIVE_UP:
                outcome = Outcome.PARTIAL if request.responded else Outcome.AMBIGUOUS
                code = int(ErrorCode.DEADLINE_EXCEEDED)
                self._report(request, outcome, code, "no terminal after the KILL")

    def _on_alarm(self, action: int) -> None:
        if action == _Due.GOODBYE:
            self._end(self._goaway_code, CloseAction.CLOSE, message="GOAWAY received", by_peer=True)
        elif not self._ending:
            self._end(ErrorCode.NO_ERROR, CloseAction.CLOSE, message="drained", by_peer=True)

    def _deadline_passed(self, request: ClientRequest) -> None:
        if request.state == IDLE:
            self._withdraw(request, int(ErrorCode.DEADLINE_EXCEEDED), "not sent in time")
        else:
            request.deadline = self._timers.add(
                self._now + KILL_AFTER, _Due.KILL, request.request_id
            )

    # -- output

    def _may_send(self, block: bytes, data: bytes | None) -> bool:
        """Say whether the worker takes a block and a message; False if its SETTINGS must tell.

        Raises:
            InvalidArgument: The block is above the worker's limit (SET-003).
            MessageTooLarge: The message is.
        """
        size = len(data) if data is not None else 0
        if size <= self.peer.max_message_size and opening_fits(block, self.peer):
            return True
        if not self._handshake.settings:  # SET-005
            return False
        if size > self.peer.max_message_size:
            raise MessageTooLarge(f"the worker takes {self.peer.max_message_size} octets at most")
        raise InvalidArgument("the worker takes no metadata of this size")

    def _sending(self, request_id: bytes) -> ClientRequest:
        request = self._requests.get(request_id)
        if request is None or request.queue.closed:
            raise RequestClosed("the request is over, killed or ended")
        return request

    def _schedule(self, request: ClientRequest) -> None:
        """Give a request its turn, unless it still waits for a place (ADM-001)."""
        if request.placed:
            self._scheduler.ready(request.queue)

    def _room(self, queue: SendQueue) -> None:
        """Tell a waiting writer, unless its messages wait for the worker's SETTINGS (SET-005)."""
        if not self._requests[queue.request_id].early:
            super()._room(queue)

    def _admit(self) -> None:
        """Let requests begin that have waited for a place (ADM-001)."""
        for request in self._places.admit(self.peer.max_concurrent_requests):
            self._scheduler.ready(request.queue)

    def _kill(self, request: ClientRequest, reason: int) -> None:
        effect = request.step(IN_SEND_KILL)
        if effect == EFFECT_FORGET:
            self._forget(request, int(ErrorCode.CANCELLED), "killed before it was sent")  # STM-002
        elif effect == EFFECT_SEND:
            request.queue.discard()
            self._unblocked(request)
            request.early.clear()
            request.reassembly = None
            self._give_back_chunks(request)
            self._scheduler.control(codec.encode_kill(request.request_id, reason))

    def _give_up(self, request: ClientRequest, code: ErrorCode, message: str) -> None:
        """Abandon a request for a reason of our own, which its last event will name."""
        request.verdict = (int(code), message)
        self._kill(request, code)

    def _withdraw(self, request: ClientRequest, code: int, message: str) -> None:
        """Take back a request whose OPEN is not written (NOT_SENT, no frame)."""
        if request.step(IN_SEND_KILL) == EFFECT_FORGET:
            self._forget(request, code, message)

    def _forget(self, request: ClientRequest, code: int, message: str) -> None:
        if request.verdict is not None:
            code, message = request.verdict
        self._report(request, Outcome.NOT_SENT, code, message)
        self._close_request(request)

    def _unwritten(self) -> list[ClientRequest]:
        return [request for request in self._requests.values() if request.state == IDLE]

    def _written(self, queue: SendQueue, parts: list[Buffer]) -> None:
        """Move a request on: its OPEN or the end of its direction has been written."""
        request = self._requests[queue.request_id]
        end = queue.flags & END_STREAM
        if not queue.flags & META:
            request.step(IN_SEND_END)
            return
        self._ordinals += 1
        request.ordinal = self._ordinals
        request.step(IN_SEND_OPEN + end)
        if request.stop_reason is not None and request.step(IN_SEND_STOP) == EFFECT_SEND:
            stop = codec.encode_stop(request.request_id, request.stop_reason)
            self.counters.octets_sent[self.sends] -= self.counters.sent_control(stop)
            parts.append(stop)

    def _stuck(self, queue: SendQueue) -> None:
        """Do nothing: a client waits for credit as long as its deadline allows."""

    def _exhausted(self, queue: SendQueue) -> None:
        request = self._requests[queue.request_id]  # FRM-010
        self._give_up(request, ErrorCode.REQUEST_INTERNAL_ERROR, "sequence numbers used up")

    def _after_write(self) -> None:
        """Close once an orderly end has nothing left to wait for (CLS-009)."""
        if self._left and not self._requests and self._scheduler.idle:
            self._end(ErrorCode.NO_ERROR, CloseAction.CLOSE, message="closed by the client")

    # -- the end

    def _report(
        self,
        request: ClientRequest,
        outcome: Outcome,
        code: int | None,
        message: str,
        *,
        local: bool = True,
        error_flags: int = 0,
        retry_after_ms: int = 0,
        detail: bytes = b"",
    ) -> None:
        """Give a request its last event, unless it has had it."""
        if request.reported:
            return
        request.reported = True
        self._events.append(
            ResponseFailed(
                request_id=request.request_id,
                outcome=outcome,
                code=code,
                local=local,
                error_flags=error_flags,
                retry_after_ms=retry_after_ms,
                message=message,
                detail=detail,
                messages=request.messages,
            )
        )

    def _report_verdict(self, request: ClientRequest) -> None:
        if request.verdict is not None:
            self._report(request, Outcome.FAILED, *request.verdict)

    def _close_request(self, request: ClientRequest) -> None:
        """Forget a request; what its caller has not taken yet still holds credit."""
        del self._requests[request.request_id]
        self._count_out(request)
        self._scheduler.leave(request.queue)  # STM-003
        self._timers.cancel(request.deadline)
        credit = request.credit
        self._credit.discard(request.chunk_cost)
        unread = credit.held - request.chunk_cost
        if unread:
            self._unread[request.request_id] = unread
        self._places.leave(request)
        self._admit()
        self._await_close()

    def _await_close(self) -> None:
        """Give the worker a while to close a connection that drains and is empty (CLS-008)."""
        if not self._requests and self._goaway_code == ErrorCode.NO_ERROR:
            self._set_alarm(_Due.DRAINED, self.config.drained_wait)

    def _set_alarm(self, action: _Due, seconds: float) -> None:
        """Set a deadline of the connection, once: the peer may repeat its GOAWAY (DOS-002)."""
        if action not in self._alarms:
            self._alarms.add(action)
            self._timers.add(self._now + seconds, action, None)

    def _last_ordinal(self) -> int:
        return 0

    def _eof_code(self) -> int | None:
        return self._goaway_code

    def _lose(self, code: int | None, message: str) -> int:
        lost = 0
        for request in self._requests.values():
            sent = request.state != IDLE
            request.step(IN_CLIENT_LOST)
            lost += not request.reported
            reason = request.verdict or (code or None, message)
            self._report(request, self._classify(request, sent=sent), *reason)
        self._places = Places()
        self._unread.clear()
        return lost

    def _classify(self, request: ClientRequest, *, sent: bool) -> Outcome:
        """Decide the class of a request whose connection ended (REC-002)."""
        if not sent:
            return Outcome.NOT_SENT
        if request.responded:
            return Outcome.PARTIAL
        return Outcome.NOT_PROCESSED if self._refused else Outcome.AMBIGUOUS


def _check_reason(reason: int) -> None:
    if not 0 <= reason < 2**32:
        raise InvalidArgument("a reason is a u32")


def _opening(block: bytes, data: bytes | None, end: bool) -> list[tuple[bytes, bytes, int]]:
    """Return the pieces that open a request (MSG-002).

    An empty OPEN carries an empty message only together with the end; without it the message, and
    without a message the end, travel in a frame of their own.
    """
    last = END_STREAM if end else 0
    if data or (data is not None and end):
        return [(block, data, last)]
    if data is not None or end:
        return [(block, b"", 0), (b"", b"", last)]
    return [(block, b"", 0)]


def _is_message(piece: tuple[bytes, bytes, int]) -> bool:
    """Say whether a piece of the queue is a message, or the rest of one (MSG-002)."""
    block, data, last = piece
    return bool(data) or bool(block) == bool(last)
