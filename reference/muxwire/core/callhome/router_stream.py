"""A response on its way home, at the router: from the POST to the last word.

Rules of this file: it begins before the POST, since a HELLO can overtake the HTTP answer (P0-018).
Only a success terminal completes it as a success, and every other end has a class (P0-019).  The
caller hears exactly one last event.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

from muxwire._generated import codec
from muxwire._generated.machines import (
    EFFECT_AMBIGUOUS,
    EFFECT_BIND,
    EFFECT_DELIVER,
    EFFECT_EXPECT,
    EFFECT_FAILED,
    EFFECT_HOLD,
    EFFECT_KILL,
    EFFECT_NOT_PROCESSED,
    EFFECT_NOT_SENT,
    EFFECT_PARTIAL,
    EFFECT_SEND,
    EFFECT_SUCCEED,
    IN_WCH_ROUTER_STREAM_ADMITTED,
    IN_WCH_ROUTER_STREAM_ERROR,
    IN_WCH_ROUTER_STREAM_ERROR_NOT_PROCESSED,
    IN_WCH_ROUTER_STREAM_EXPIRED,
    IN_WCH_ROUTER_STREAM_HELLO,
    IN_WCH_ROUTER_STREAM_LOCAL_KILL,
    IN_WCH_ROUTER_STREAM_LOCAL_STOP,
    IN_WCH_ROUTER_STREAM_LOST,
    IN_WCH_ROUTER_STREAM_LOST_LATE,
    IN_WCH_ROUTER_STREAM_POSTED,
    IN_WCH_ROUTER_STREAM_REFUSED,
    IN_WCH_ROUTER_STREAM_RESPONSE,
    IN_WCH_ROUTER_STREAM_SUCCESS,
    IN_WCH_ROUTER_STREAM_UNANSWERED,
    IN_WCH_ROUTER_STREAM_UNCLEAR,
    WCH_ROUTER_STREAM,
    WCH_ROUTER_STREAM_ACCEPTED,
    WCH_ROUTER_STREAM_CANCELLED,
    WCH_ROUTER_STREAM_KILLED,
    WCH_ROUTER_STREAM_KILLED_RESPONDING,
    WCH_ROUTER_STREAM_RESPONDING,
    WCH_ROUTER_STREAM_UNSENT,
    WCH_ROUTER_STREAM_VOID,
)
from muxwire._generated.registries import (
    END_STREAM,
    ERROR,
    FRAME_COST,
    META,
    NOT_PROCESSED,
    WCH_KILL_PATIENCE_MS,
    WCH_MAX_MESSAGE_SIZE,
    WCH_MAX_METADATA_SIZE,
    WCH_TOKEN_LIFETIME_MS,
    ErrorCode,
)
from muxwire.core.client import GIVE_UP_AFTER, KILL_AFTER
from muxwire.core.events import (
    MessageReceived,
    ResponseFailed,
    ResponseFinished,
    ResponseHeaders,
)
from muxwire.core.messages import Reassembly, check_size, response_is_silent
from muxwire.core.metadata import Header
from muxwire.errors import Outcome, ProtocolViolation

HELD = 262_144
"""Cost of unread messages from which on the connection is not read (P0-014)."""

_MORE = 2
_LIFETIME = WCH_TOKEN_LIFETIME_MS / 1000
_ACCEPTED = (WCH_ROUTER_STREAM_ACCEPTED, WCH_ROUTER_STREAM_RESPONDING)
_KILLED = (WCH_ROUTER_STREAM_KILLED, WCH_ROUTER_STREAM_KILLED_RESPONDING)
_CLASSES: dict[int, Outcome] = {
    EFFECT_NOT_SENT: Outcome.NOT_SENT,
    EFFECT_NOT_PROCESSED: Outcome.NOT_PROCESSED,
    EFFECT_AMBIGUOUS: Outcome.AMBIGUOUS,
    EFFECT_FAILED: Outcome.FAILED,
    EFFECT_PARTIAL: Outcome.PARTIAL,
}

StreamEvent = ResponseHeaders | MessageReceived | ResponseFinished | ResponseFailed


class Carrier(Protocol):
    """The connection that carries a stream, as the stream commands it."""

    def send_stop(self, request_id: bytes, reason: int) -> None:
        """Write STOP."""

    def send_kill(self, request_id: bytes, reason: int) -> None:
        """Write KILL."""

    def superseded(self, now: float) -> None:
        """Close: another connection has taken the stream."""

    def close(self, now: float) -> None:
        """Close: the stream is given up."""

    def unread_changed(self, now: float) -> None:
        """Look again whether to read."""


class RouterStream:
    """The response of one request.

    Args:
        request_id: The 16 octets of wch-stream.
        token: The 16 octets of wch-token, from a CSPRNG and for this stream alone (P0-018).
        deadline: Monotonic seconds when the request has to be over, or None.

    Attributes:
        state: A state of the table.
        held: Cost of messages that the caller has not taken.
    """

    def __init__(self, request_id: bytes, token: bytes, deadline: float | None = None) -> None:
        self.request_id = request_id
        self.token = token
        self.state = WCH_ROUTER_STREAM_UNSENT
        self.held = 0
        self._deadline = inf if deadline is None else deadline
        self._kill_at = inf
        self._patience = inf
        self._token_until = inf
        self._admitted = False
        self._expired = False
        self._stop_reason: int | None = None
        self._verdict: tuple[int, str] | None = None  # of a local decision
        self._carrier: Carrier | None = None
        self._next_seq = 0
        self._messages = 0
        self._reassembly: Reassembly | None = None
        self._reported = False
        self._events: list[StreamEvent] = []

    @property
    def over(self) -> bool:
        """Whether the caller has had its last event."""
        return self._reported

    @property
    def begun(self) -> bool:
        """Whether an octet of the POST has been handed over."""
        return self.state != WCH_ROUTER_STREAM_UNSENT

    @property
    def forgotten(self) -> bool:
        """Whether even its token means nothing any more."""
        return self.state == WCH_ROUTER_STREAM_VOID

    @property
    def full(self) -> bool:
        """Whether so much waits to be taken that its connection is not to be read (P0-014)."""
        return self.state in _ACCEPTED and self.held >= HELD

    def events(self) -> list[StreamEvent]:
        """Return what has happened since the last call, and forget it."""
        events, self._events = self._events, []
        return events

    # -- the HTTP side

    def posted(self) -> None:
        """Take that an octet of the POST was handed to the transport (REC-005)."""
        self._step(IN_WCH_ROUTER_STREAM_POSTED)

    def admitted(self, now: float) -> None:
        """Take 202."""
        if not self._admitted:
            self._admitted = True
            self._step(IN_WCH_ROUTER_STREAM_ADMITTED)
            if self.state not in (WCH_ROUTER_STREAM_CANCELLED, WCH_ROUTER_STREAM_VOID):
                self._token_until = now + _LIFETIME

    def refused(self, code: int | None, message: str, retry_after_ms: int = 0) -> None:
        """Take another answer, with wmx-not-processed."""
        self._conclude(
            self._step(IN_WCH_ROUTER_STREAM_REFUSED),
            code,
            message,
            local=False,
            error_flags=NOT_PROCESSED,
            retry_after_ms=retry_after_ms,
        )

    def unclear(self, message: str, code: int | None = None, retry_after_ms: int = 0) -> None:
        """Take an answer that proves nothing, or that there is none."""
        self._conclude(
            self._step(IN_WCH_ROUTER_STREAM_UNCLEAR),
            code,
            message,
            local=code is None,
            retry_after_ms=retry_after_ms,
        )

    # -- the connections

    @property
    def verdict_on_hello(self) -> int:
        """What a HELLO with the right token gets: 0 for ACCEPT, or the code of REJECT (P0-018)."""
        if WCH_ROUTER_STREAM[self.state][IN_WCH_ROUTER_STREAM_HELLO].effect == EFFECT_BIND:
            return 0
        given_up = self.state == WCH_ROUTER_STREAM_CANCELLED
        return ErrorCode.CANCELLED if given_up else ErrorCode.NOT_FOUND

    def bind(self, carrier: Carrier, now: float) -> None:
        """Take an accepted HELLO; an earlier connection is closed (P0-019)."""
        self._step(IN_WCH_ROUTER_STREAM_HELLO)
        before, self._carrier = self._carrier, carrier
        if before is not None:
            before.superseded(now)
        if self._stop_reason is not None:
            carrier.send_stop(self.request_id, self._stop_reason)

    def respond(self, flags: int, seq: int, payload: bytes, now: float) -> None:
        """Take a RESPONSE.

        Raises:
            ProtocolViolation: it breaks a rule; it counts as a RESPONSE all the same (REC-002).
        """
        try:
            self._check_seq(seq)
            if flags & ERROR:
                self._on_error(payload)
            elif flags & END_STREAM:
                self._on_success(flags, payload)
            else:
                self._on_part(flags, payload, now)
        except ProtocolViolation:
            self._step(IN_WCH_ROUTER_STREAM_RESPONSE)
            raise

    def lose(self, now: float, message: str) -> None:
        """Take that its connection has ended."""
        self._carrier = None
        if self._token_until == inf and not self.forgotten:  # there was no 202 yet
            self._token_until = now + _LIFETIME
        late = self._expired or now >= self._token_until
        effect = self._step(IN_WCH_ROUTER_STREAM_LOST_LATE if late else IN_WCH_ROUTER_STREAM_LOST)
        if effect != EFFECT_EXPECT:
            self._conclude(effect, None, message)

    # -- the caller

    def stop(self, reason: int) -> None:
        """Ask the worker to finish early and well."""
        effect = self._step(IN_WCH_ROUTER_STREAM_LOCAL_STOP)
        if effect in (EFFECT_HOLD, EFFECT_SEND):
            self._stop_reason = reason
        if effect == EFFECT_SEND and self._carrier is not None:
            self._carrier.send_stop(self.request_id, reason)

    def kill(self, reason: int, now: float) -> None:
        """Abandon the request."""
        self._kill(reason, now, WCH_KILL_PATIENCE_MS / 1000, None)

    def consumed(self, cost: int, now: float) -> None:
        """Take that the caller has taken a message."""
        self.held -= cost
        if self._carrier is not None:
            self._carrier.unread_changed(now)

    # -- time

    def next_timeout(self) -> float:
        """Return when `handle_timeout` wants to be called, or infinity."""
        return min(self._deadline, self._kill_at, self._patience, self._token_until)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        if now >= self._token_until and not self.forgotten:
            self._token_until = inf
            self._expire()
        if now >= self._deadline:
            self._deadline = inf
            if self.state in _ACCEPTED:  # the worker's own answer normally comes first (REC-005)
                self._kill_at = now + KILL_AFTER
            else:
                self._out_of_time(now)
        if now >= self._kill_at:
            self._kill_at = inf
            self._out_of_time(now)
        if now >= self._patience:
            self._patience = inf
            carrier, self._carrier = self._carrier, None
            self._conclude(
                self._step(IN_WCH_ROUTER_STREAM_UNANSWERED), None, "no terminal after the KILL"
            )
            if carrier is not None:
                carrier.close(now)

    def _expire(self) -> None:
        self._expired = True
        effect = self._step(IN_WCH_ROUTER_STREAM_EXPIRED)
        self._conclude(effect, None, "the worker did not call home in time")

    def _out_of_time(self, now: float) -> None:
        code = int(ErrorCode.DEADLINE_EXCEEDED)
        self._kill(code, now, GIVE_UP_AFTER, (code, "no answer in time"))

    def _kill(
        self, reason: int, now: float, patience: float, verdict: tuple[int, str] | None
    ) -> None:
        if self.state == WCH_ROUTER_STREAM_VOID:
            return
        if verdict is not None:
            self._verdict = verdict
        effect = self._step(IN_WCH_ROUTER_STREAM_LOCAL_KILL)
        if effect == EFFECT_KILL:
            self._deadline = self._kill_at = inf
            self._patience = now + patience
            self._reassembly = None
            if self._carrier is not None:
                self._carrier.send_kill(self.request_id, reason)
                self._carrier.unread_changed(now)
        elif effect in _CLASSES:
            self._token_until = now + _LIFETIME
            self._conclude(effect, int(ErrorCode.CANCELLED), "given up before it was answered")

    # -- responses

    def _check_seq(self, seq: int) -> None:
        if seq != self._next_seq:
            raise ProtocolViolation(
                ErrorCode.SEQUENCE_ERROR, "connection", "P0-012", f"seq {seq}, not {self._next_seq}"
            )
        self._next_seq += 1

    def _on_part(self, flags: int, payload: bytes, now: float) -> None:
        headers: list[Header] | None = None
        if flags & META:
            headers, payload = codec.decode_response_meta(payload, WCH_MAX_METADATA_SIZE)
        if self._step(IN_WCH_ROUTER_STREAM_RESPONSE) != EFFECT_DELIVER:
            return
        if headers is not None:
            self._events.append(ResponseHeaders(request_id=self.request_id, headers=headers))
        try:
            message = self._assemble(flags, payload)
        except ProtocolViolation as violation:  # MSG-003
            code = int(ErrorCode.MESSAGE_TOO_LARGE)
            self._kill(code, now, WCH_KILL_PATIENCE_MS / 1000, (code, violation.detail))
            return
        if message is not None:
            self._deliver(message, ended=False)

    def _on_success(self, flags: int, payload: bytes) -> None:
        headers: list[Header] | None = None
        if flags & META:
            headers, payload = codec.decode_response_meta(payload, WCH_MAX_METADATA_SIZE)
        effect = self._step(IN_WCH_ROUTER_STREAM_SUCCESS)
        if effect != EFFECT_SUCCEED:  # STM-002: killed, so never a success
            self._conclude(effect, int(ErrorCode.CANCELLED), "killed")
            return
        trailers: list[Header] = []
        if headers is not None and self._next_seq == 1:  # TYP-005: at seq 0 they are the headers
            self._events.append(ResponseHeaders(request_id=self.request_id, headers=headers))
        elif headers is not None:
            trailers = headers
        try:
            message = self._assemble(flags, payload)
        except ProtocolViolation as violation:  # MSG-003
            self._report(Outcome.FAILED, int(ErrorCode.MESSAGE_TOO_LARGE), violation.detail)
            return
        if message is not None:
            self._deliver(message, ended=not trailers)
        if message is None or trailers:
            self._events.append(ResponseFinished(request_id=self.request_id, trailers=trailers))
        self._settle()

    def _on_error(self, payload: bytes) -> None:
        body = codec.decode_error_body(payload)
        untouched = body.error_flags & NOT_PROCESSED
        if untouched and self._next_seq > 1:
            raise ProtocolViolation(
                ErrorCode.PROTOCOL_ERROR, "connection", "ADM-003", "NOT_PROCESSED after a RESPONSE"
            )
        input_ = (
            IN_WCH_ROUTER_STREAM_ERROR_NOT_PROCESSED if untouched else (IN_WCH_ROUTER_STREAM_ERROR)
        )
        self._conclude(
            self._step(input_),
            body.code,
            body.message.decode(errors="replace"),
            local=False,
            error_flags=body.error_flags,
            retry_after_ms=body.retry_after_ms,
            detail=body.detail,
        )

    def _assemble(self, flags: int, body: bytes) -> bytes | None:
        reassembly = self._reassembly
        if reassembly is None:
            if not flags & _MORE:
                if not body and response_is_silent(flags):
                    return None
                check_size(len(body), WCH_MAX_MESSAGE_SIZE)
                return body
            reassembly = self._reassembly = Reassembly()
        reassembly.add(body, WCH_MAX_MESSAGE_SIZE)
        if flags & _MORE:
            return None
        self._reassembly = None
        return reassembly.take()

    def _deliver(self, data: bytes, *, ended: bool) -> None:
        cost = FRAME_COST + len(data)
        self.held += cost
        self._messages += 1
        self._events.append(
            MessageReceived(request_id=self.request_id, data=data, cost=cost, ended=ended)
        )

    # -- the end

    def _step(self, input_: int) -> int:
        row = WCH_ROUTER_STREAM[self.state][input_]
        self.state = row.state
        return row.effect

    def _conclude(
        self,
        effect: int,
        code: int | None,
        message: str,
        *,
        local: bool = True,
        error_flags: int = 0,
        retry_after_ms: int = 0,
        detail: bytes = b"",
    ) -> None:
        """Report the class that the table has decided on; a local decision explains it."""
        outcome = _CLASSES.get(effect)
        if outcome is None:
            return
        if self._verdict is not None:
            code, message = self._verdict
            local, error_flags, retry_after_ms, detail = True, 0, 0, b""
        self._report(
            outcome,
            code,
            message,
            local=local,
            error_flags=error_flags,
            retry_after_ms=retry_after_ms,
            detail=detail,
        )

    def _report(
        self,
        outcome: Outcome,
        code: int | None,
        message: str,
        *,
        local: bool = True,
        error_flags: int = 0,
        retry_after_ms: int = 0,
        detail: bytes = b"",
    ) -> None:
        self._events.append(
            ResponseFailed(
                request_id=self.request_id,
                outcome=outcome,
                code=code,
                local=local,
                error_flags=error_flags,
                retry_after_ms=retry_after_ms,
                message=message,
                detail=detail,
                messages=self._messages,
            )
        )
        self._settle()

    def _settle(self) -> None:
        """Note that the caller has had its last event; only a remembered token still has a time."""
        self._reported = True
        self._deadline = self._kill_at = self._patience = inf
        self._reassembly = None
        if self.state == WCH_ROUTER_STREAM_VOID:
            self._token_until = inf
            self._carrier = None


Judge = Callable[[bytes, bytes], "RouterStream | int"]
"""Decides about a HELLO by id and token: the stream to accept, or the code of REJECT."""
