"""A flight: one request over all its attempts.

Rules of this file: towards the caller it is one exchange, towards each link it is a sink.  What
may be tried again, and when, is `core.recovery`'s word; a flight only carries it out.  It keeps the
messages that were sent while they fit the limit, since a new attempt sends them all (REC-007).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import ceil
from typing import TYPE_CHECKING, Final, Protocol

from muxwire._generated.registries import SEND_BUFFER, ErrorCode
from muxwire.core.counters import LOST, OK, OTHER
from muxwire.core.recovery import Attempts, Failure, may_retry, retry_delay
from muxwire.errors import (
    InvalidArgument,
    LocalProtocolError,
    MessageTooLarge,
    MuxwireError,
    Outcome,
    RequestClosed,
    RequestFailed,
    failure,
)
from muxwire.handlers import check_message
from muxwire.tcp.link import code_name
from muxwire.tcp.stream import Inbox, RequestSink, Sink, let_go

if TYPE_CHECKING:
    from muxwire.tcp.caller import Caller

REQUEST_ID = b"request-id"
ATTEMPT = b"attempt"

_NONE_YET: Final = Attempts()
"""What every request begins with; it is replaced by its own at the first failure."""


class Route(Protocol):
    """What carries attempts to one worker."""

    target: str

    def open(
        self,
        sink: Sink,
        subject: bytes,
        data: bytes | None,
        *,
        end: bool,
        headers: Sequence[tuple[bytes, bytes]],
        timeout_ms: int,
        idempotent: bool,
        awaiting: bool,
    ) -> bytes:
        """Start an attempt and return its id."""

    def send(self, request_id: bytes, data: bytes, *, end: bool) -> bool:
        """Queue a message; False if it has to wait for room."""

    def end(self, request_id: bytes) -> None:
        """End the request direction."""

    def stop(self, request_id: bytes, reason: int) -> None:
        """Ask the worker to end the attempt early and well."""

    def kill(self, request_id: bytes, reason: int) -> None:
        """Abandon the attempt."""

    def consumed(self, request_id: bytes, cost: int) -> None:
        """Give credit back for a message that its caller has taken."""

    def awaiting(self, request_id: bytes, waiting: bool) -> None:
        """Say whether a caller waits for a message."""

    def begun(self, request_id: bytes) -> bool:
        """Return whether an octet of the attempt has been handed over."""

    def unsent(self, request_id: bytes) -> int | None:
        """Return how many messages are not handed over; None if the attempt is over."""


class Flight:
    """One request of a client.

    Attributes:
        subject: What it asks for.
        headers: What goes with every attempt.
        deadline: When it has to be over, or None.
        done: Its caller has had the last word.
        since: When it began to wait for its next attempt.
        request_id: The id of the current attempt, or of the last; empty before the first.
        avoided: Workers that failed or drained under it (REC-008).
        not_found: Workers that do not know its subject.
    """

    __slots__ = (
        "_attempts",
        "_awaiting",
        "_client",
        "_delivered",
        "_end_sent",
        "_ended",
        "_flying",
        "_given",
        "_idempotent",
        "_kept",
        "_link",
        "_messages",
        "_poured",
        "_sink",
        "_stop_reason",
        "_timer",
        "avoided",
        "deadline",
        "done",
        "headers",
        "not_found",
        "request_id",
        "since",
        "subject",
    )

    def __init__(
        self,
        client: Caller,
        sink: RequestSink,
        subject: bytes,
        data: bytes | None,
        *,
        end: bool,
        headers: Sequence[tuple[bytes, bytes]],
        deadline: float | None,
        idempotent: bool,
        awaiting: bool,
    ) -> None:
        self._client = client
        self._sink = sink
        self.subject = subject
        self.headers = _with_request_id(headers, client.fresh_id)
        self._messages: list[bytes] = [] if data is None else [data]
        self._kept = 0 if data is None else len(data)
        self._ended = end
        self._idempotent = idempotent
        self._awaiting = awaiting
        self._attempts = _NONE_YET
        self._link: Route | None = None  # of the current attempt, or of the last
        self._flying = False
        self._poured = 0  # of the messages that are kept
        self._given = 0  # of all messages, in this attempt
        self._end_sent = False
        self._delivered = 0
        self._stop_reason: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.deadline = deadline
        self.since = client.now()
        self.done = False
        self.avoided: frozenset[str] = frozenset()
        self.not_found: frozenset[str] = frozenset()
        self.request_id = b""

    # -- attempts

    @property
    def sent(self) -> int:
        """Messages of the current attempt that were handed to the transport whole."""
        if self._link is None or not self._flying:
            return 0
        unsent = self._link.unsent(self.request_id)
        return 0 if unsent is None else self._given - unsent

    @property
    def begun(self) -> bool:
        """Whether the OPEN of the current attempt has been handed to the transport."""
        return self._link is not None and self._link.begun(self.request_id)

    def begin(self, link: Route) -> None:
        """Make an attempt on a link that accepts requests.

        Raises:
            ConnectionClosed: the link takes no requests after all.
            LocalProtocolError: the request is not allowed.
        """
        self.cancel_timer()
        first = self._messages[0] if self._messages else None
        whole = self._ended and len(self._messages) <= 1
        headers = self.headers
        if self._attempts.begun:
            headers = [(ATTEMPT, str(self._attempts.begun + 1).encode()), *headers]
        self.request_id = link.open(
            self,
            self.subject,
            first,
            end=whole,
            headers=headers,
            timeout_ms=self._timeout_ms(),
            idempotent=self._idempotent,
            awaiting=self._awaiting,
        )
        self._link = link
        self._flying = True
        self._poured = self._given = 0 if first is None else 1
        self._end_sent = whole
        if self._stop_reason is not None:
            link.stop(self.request_id, self._stop_reason)
        if self._pour():
            self._sink.on_writable()  # its caller may wait since there was no link, or another

    def _timeout_ms(self) -> int:
        if self.deadline is None:
            return 0
        return max(1, ceil((self.deadline - self._client.now()) * 1000))

    def _pour(self) -> bool:
        """Hand messages to the link until it has no room; tell whether all are with it."""
        if self._link is None or not self._flying:
            return False
        while self._poured < len(self._messages):
            last = self._ended and self._poured + 1 == len(self._messages)
            if not self._link.send(self.request_id, self._messages[self._poured], end=last):
                return False
            self._poured += 1
            self._given += 1
            self._end_sent = last
        if self._ended and not self._end_sent:
            self._end_sent = True
            self._link.end(self.request_id)
        self._forget_sent()
        return True

    def _forget_sent(self) -> None:
        """Stop keeping messages for another attempt once they are too many (REC-007)."""
        if self._kept > SEND_BUFFER and len(self._messages) > 1:
            self._kept = -1
        if self._kept < 0:
            self._messages.clear()
            self._poured = 0

    # -- what the link tells

    def on_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Pass the headers on."""
        self._sink.on_headers(headers)

    def on_message(self, data: bytes, cost: int) -> None:
        """Pass a message on; from now on nothing is tried again."""
        self._delivered += 1
        self._sink.on_message(data, cost)

    def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """Pass the success on."""
        self._finish()
        self._client.landed(self, OK, served=True)
        self._sink.on_end(trailers)

    def on_writable(self) -> None:
        """Go on sending; let the caller go on when all it gave is with the link."""
        try:
            room = self._pour()
        except MessageTooLarge as error:
            self.refuse(error)
            return
        except LocalProtocolError:
            return  # it is over; its last event is on the way
        if room:
            self._sink.on_writable()

    def on_failed(self, error: MuxwireError) -> None:
        """Try again if that is allowed, else report the highest class of all attempts."""
        if self.done:
            return
        if not isinstance(error, RequestFailed) or self._link is None:
            self.fail(error)
            return
        worker = self._link.target
        self._flying = False
        ended = Failure(
            outcome=error.outcome,
            code=error.code,
            local=error.local,
            non_retryable=error.non_retryable,
            retry_after_ms=error.retry_after_ms,
            messages=error.messages,
            seen_not_found=self._client.knows_no_other(self.not_found | {worker}),
        )
        if error.code == ErrorCode.NOT_FOUND:
            self.not_found |= {worker}
        self.avoided |= {worker}
        if self._attempts is _NONE_YET:
            self._attempts = Attempts()
        self._attempts.note(ended)
        if not self._may_go_on(ended):
            self.fail(error)
            return
        attempt = self._attempts.begun + 1
        delay = retry_delay(ended, attempt, self._client.uniform)
        if not self._client.in_time(self, delay):
            self.fail_with(ErrorCode.DEADLINE_EXCEEDED, "the deadline comes first")
            return
        if ended.outcome is not Outcome.NOT_SENT:
            if not self._client.may_spend_retry():
                self.fail(error)
                return
            self.since = self._client.now() + delay
        self._sink.on_retry(ended, attempt, delay)
        self._client.queue(self, delay)

    def _may_go_on(self, ended: Failure) -> bool:
        """Decide by class, number of attempts and messages (REC-002, REC-005, REC-007)."""
        if not self._client.recovering or self._kept < 0:
            return False
        if self._delivered or not self._attempts.left:
            return False
        return may_retry(ended, idempotent=self._idempotent)

    def fail(self, error: MuxwireError) -> None:
        """Report the failure of the request, with the highest class of its attempts."""
        if self.done:
            return
        self._finish()
        self._client.landed(self, *_end_of(error))
        if isinstance(error, RequestFailed):
            error = _restate(error, max(error.outcome, self._attempts.outcome), self._attempts)
        self._sink.on_failed(error)

    def fail_with(self, code: ErrorCode | None, message: str) -> None:
        """Report a local decision."""
        name = code_name(code)
        self.fail(
            failure(code, name, local=True)(
                outcome=self._attempts.outcome,
                code=code,
                code_name=name,
                local=True,
                request_id=self.request_id,
                message=message,
            )
        )

    def refuse(self, error: LocalProtocolError) -> None:
        """Report that the request may not be sent at all (SET-003)."""
        large = isinstance(error, MessageTooLarge)
        code = ErrorCode.MESSAGE_TOO_LARGE if large else ErrorCode.INVALID_ARGUMENT
        if self._link is not None and self._flying:
            self._link.kill(self.request_id, code)
        self.fail_with(code, str(error))

    def withdraw(self, message: str) -> None:
        """End a request whose OPEN still waits on its link."""
        if self._link is not None:
            self._link.kill(self.request_id, ErrorCode.CANCELLED)
        self.fail_with(None, message)

    def _finish(self) -> None:
        self.done = True
        self._flying = False
        self.cancel_timer()

    @property
    def flying(self) -> bool:
        """Whether an attempt is open."""
        return self._flying

    # -- timers of a flight that is not in the air

    def set_timer(self, timer: asyncio.TimerHandle) -> None:
        """Take the timer that ends its wait."""
        self.cancel_timer()
        self._timer = timer

    def cancel_timer(self) -> None:
        """Drop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # -- what the caller wants

    def send(self, data: bytes, *, end: bool) -> bool:
        """Queue a message; False if it has to wait for room (FLW-010).

        Raises:
            RequestClosed: the request is over or ended.
            MessageTooLarge: the worker takes no message of this size.
        """
        check_message(data)
        if self.done or self._ended:
            raise RequestClosed("the request is over or ended")
        if self._link is None or not self._flying:
            if self._messages and self._kept + len(data) > SEND_BUFFER:
                return False
            self._keep(data, end)
            return True
        if not self._pour() or not self._link.send(self.request_id, data, end=end):
            return False
        self._keep(data, end)
        self._given += 1
        self._poured = len(self._messages)
        self._end_sent = end
        self._forget_sent()
        return True

    def _keep(self, data: bytes, end: bool) -> None:
        self._ended = end
        if self._kept >= 0:
            self._messages.append(data)
            self._kept += len(data)

    def end(self) -> None:
        """End the request direction.

        Raises:
            RequestClosed: the request is over or ended.
        """
        if self.done or self._ended:
            raise RequestClosed("the request is over or ended")
        self._ended = True
        self._pour()

    def stop(self, reason: int) -> None:
        """Ask the worker to finish early and well.

        Raises:
            LocalProtocolError: there is no STOP on this path.
        """
        if not self._client.can_stop:
            raise LocalProtocolError("this path has no stop: kill the request (section 22.4)")
        self._stop_reason = reason
        if self._link is not None and self._flying:
            self._link.stop(self.request_id, reason)

    def kill(self, reason: int) -> None:
        """Abandon the request."""
        self._kept = -1  # no further attempt
        if self._link is not None and self._flying:
            self._link.kill(self.request_id, reason)
        elif not self.done:
            self._client.forget(self)
            self.fail_with(ErrorCode.CANCELLED, "killed before it was sent")

    def consumed(self, cost: int) -> None:
        """Give credit back for a message that the caller has taken."""
        if self._link is not None:
            self._link.consumed(self.request_id, cost)

    def awaiting(self, waiting: bool = True) -> None:
        """Learn whether the caller waits for a message."""
        self._awaiting = waiting
        if self._link is not None and self._flying:
            self._link.awaiting(self.request_id, waiting)

    def abandon(self, inbox: Inbox) -> None:
        """Let the request go, from whatever thread the collector runs in."""
        self._client.call_soon(let_go, self, inbox)


def _with_request_id(
    headers: Sequence[tuple[bytes, bytes]], fresh_id: Callable[[], bytes]
) -> list[tuple[bytes, bytes]]:
    """Return the headers with exactly one request-id, the caller's or a fresh one (REC-007).

    Raises:
        InvalidArgument: the caller set `attempt`, which is the client's.
    """
    if headers:
        keys = [key for key, _ in headers]
        if ATTEMPT in keys:
            raise InvalidArgument("the header attempt is set by the client")
        if REQUEST_ID in keys:
            return list(headers)
    return [*headers, (REQUEST_ID, uuid_text(fresh_id()))]


def uuid_text(octets: bytes) -> bytes:
    """Return a UUID as text; `uuid` takes five times as long."""
    digits = octets.hex()
    text = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    return text.encode()


def _end_of(error: MuxwireError) -> tuple[int, bool]:
    """Return the code to count, and whether the worker has shown that it serves the subject."""
    if not isinstance(error, RequestFailed):
        return OTHER, False
    answered = not error.local and error.outcome is Outcome.FAILED
    served = answered and error.code not in (ErrorCode.NOT_FOUND, ErrorCode.INVALID_ARGUMENT)
    return LOST if error.code is None else error.code, served


def _restate(error: RequestFailed, outcome: Outcome, attempts: Attempts) -> RequestFailed:
    """Return the error with the class that the caller is told."""
    return type(error)(
        outcome=outcome,
        code=error.code,
        code_name=error.code_name,
        local=error.local,
        request_id=error.request_id,
        messages=error.messages,
        retry_after_ms=error.retry_after_ms,
        non_retryable=error.non_retryable,
        message=error.message,
        detail=error.detail,
        attempts=max(attempts.begun, 1 if error.outcome > Outcome.NOT_SENT else 0),
    )
