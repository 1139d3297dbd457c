"""A response over HTTP at the router: from the request to the last word.

Rules of this file: whatever happens is an input of the table HTTP_STREAM, and the table decides
what the caller is told (P1-020).  The caller hears exactly one last word.  Items go straight to
the caller, which may kill the request while it takes one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Protocol

from muxwire._generated.machines import (
    EFFECT_AMBIGUOUS,
    EFFECT_AWAIT_END,
    EFFECT_FAILED,
    EFFECT_NOT_PROCESSED,
    EFFECT_NOT_SENT,
    EFFECT_PARTIAL,
    EFFECT_SUCCEED,
    HTTP_STREAM,
    HTTP_STREAM_ENDING,
    HTTP_STREAM_HEADED,
    HTTP_STREAM_ITEMS,
    HTTP_STREAM_OVER,
    HTTP_STREAM_SENT,
    HTTP_STREAM_UNSENT,
    IN_HTTP_STREAM_CUT,
    IN_HTTP_STREAM_DONE,
    IN_HTTP_STREAM_END,
    IN_HTTP_STREAM_ERROR,
    IN_HTTP_STREAM_FAULT,
    IN_HTTP_STREAM_ITEM,
    IN_HTTP_STREAM_LOCAL_KILL,
    IN_HTTP_STREAM_MISCOUNT,
    IN_HTTP_STREAM_POSTED,
    IN_HTTP_STREAM_REFUSED,
    IN_HTTP_STREAM_SILENT,
    IN_HTTP_STREAM_STARTED,
    IN_HTTP_STREAM_SURPLUS,
    IN_HTTP_STREAM_UNCLEAR,
    IN_HTTP_STREAM_UNENDED,
)
from muxwire._generated.registries import (
    FRAME_COST,
    HTTP_END_TIMEOUT_MS,
    NOT_PROCESSED,
    ErrorCode,
)
from muxwire.core.client import KILL_AFTER
from muxwire.core.events import ResponseFailed
from muxwire.core.http.reading import Done, Event, Failed, Headers, Reader
from muxwire.core.metadata import Header
from muxwire.errors import Outcome, ProtocolViolation

HELD = 262_144
"""Cost of items that the caller has not taken from which on the body is not read."""

_CLASSES: dict[int, Outcome] = {
    EFFECT_NOT_SENT: Outcome.NOT_SENT,
    EFFECT_NOT_PROCESSED: Outcome.NOT_PROCESSED,
    EFFECT_AMBIGUOUS: Outcome.AMBIGUOUS,
    EFFECT_FAILED: Outcome.FAILED,
    EFFECT_PARTIAL: Outcome.PARTIAL,
}
_FLOWING = (HTTP_STREAM_HEADED, HTTP_STREAM_ITEMS)
_IN_BODY = (*_FLOWING, HTTP_STREAM_ENDING)


class Outlet(Protocol):
    """Takes what a response brings, except its failure."""

    def on_headers(self, headers: list[Header]) -> None:
        """Take the response headers."""

    def on_message(self, data: bytes, cost: int) -> None:
        """Take an item; `cost` is given back once it is consumed."""

    def on_end(self, trailers: list[Header]) -> None:
        """Take the success."""


class Response:
    """The response of one attempt.

    Args:
        outlet: Takes what it brings.
        on_failed: Takes its failure.
        request_id: The 16 octets that name the attempt.
        deadline: Monotonic seconds when the request has to be over, or None.
        silence: Seconds without an octet after which the response is lost (P1-021).

    Attributes:
        state: A state of the table.
        held: Cost of items that the caller has not taken.
    """

    def __init__(
        self,
        outlet: Outlet,
        on_failed: Callable[[ResponseFailed], None],
        request_id: bytes,
        *,
        deadline: float | None,
        silence: float,
    ) -> None:
        self.request_id = request_id
        self.state = HTTP_STREAM_UNSENT
        self.held = 0
        self._outlet = outlet
        self._on_failed = on_failed
        self._silence = silence
        self._deadline = inf if deadline is None else deadline
        self._heard = inf  # when an octet last came; infinity: nothing is read
        self._unended = inf
        self._reader: Reader | None = None
        self._messages = 0
        self._trailers: list[Header] = []
        self._grace = True  # for the worker's own answer at the deadline

    @property
    def over(self) -> bool:
        """Whether the caller has had the last word."""
        return self.state == HTTP_STREAM_OVER

    @property
    def begun(self) -> bool:
        """Whether an octet of the request has been handed over."""
        return self.state != HTTP_STREAM_UNSENT

    @property
    def full(self) -> bool:
        """Whether so much waits to be taken that the body is not to be read.

        Behind done it is read in any case, since its end decides (P1-020).
        """
        return self.held >= HELD and self.state in _FLOWING

    # -- the request

    def posted(self) -> None:
        """Take that an octet of the request has been handed to the transport (REC-005)."""
        self._step(IN_HTTP_STREAM_POSTED)

    def sent(self, now: float) -> None:
        """Take that the request is sent; from now on an answer is waited for (P1-021)."""
        if self.state == HTTP_STREAM_SENT:
            self._heard = now

    # -- the answer

    def started(self, reader: Reader, now: float) -> None:
        """Take 200 with the Content-Type that was asked for."""
        self._reader = reader
        self._heard = now
        self._step(IN_HTTP_STREAM_STARTED)

    def refused(self, code: int | None, message: str, retry_after_ms: int = 0) -> None:
        """Take another answer, with wmx-not-processed."""
        self._conclude(
            self._step(IN_HTTP_STREAM_REFUSED),
            code,
            message,
            local=False,
            error_flags=NOT_PROCESSED,
            retry_after_ms=retry_after_ms,
        )

    def unclear(self, message: str, code: int | None = None, retry_after_ms: int = 0) -> None:
        """Take an answer that proves nothing, or that there is none."""
        self._conclude(
            self._step(IN_HTTP_STREAM_UNCLEAR),
            code,
            message,
            local=code is None,
            retry_after_ms=retry_after_ms,
        )

    def receive(self, data: bytes, now: float) -> None:
        """Take octets of the body."""
        if self._reader is None or self.state not in _IN_BODY:
            return
        self._heard = now
        deliver = self._outlet.on_message
        try:
            for event in self._reader.read(data):
                if type(event) is not bytes:
                    self._take(event, now)
                elif self.state == HTTP_STREAM_ENDING:
                    self._surplus("an item")
                else:
                    self._step(IN_HTTP_STREAM_ITEM)
                    cost = FRAME_COST + len(event)
                    self.held += cost
                    self._messages += 1
                    deliver(event, cost)
                if self.state == HTTP_STREAM_OVER:
                    return
        except ProtocolViolation as violation:
            if violation.code == ErrorCode.MESSAGE_TOO_LARGE:
                self.kill(violation.code, violation.detail)
            else:
                self._conclude(self._step(IN_HTTP_STREAM_FAULT), None, str(violation))
        if self.full:  # nothing is read now: the silence is the caller's own
            self._heard = inf

    def ended(self) -> None:
        """Take that the body has ended cleanly."""
        if self.state not in _IN_BODY:
            return
        effect = self._step(IN_HTTP_STREAM_END)
        if effect == EFFECT_SUCCEED:
            self._settle()
            self._outlet.on_end(self._trailers)
        else:
            self._conclude(effect, None, "the body ended without a terminal event (P1-020)")

    def cut(self, message: str) -> None:
        """Take that the body or the connection has ended in any other way."""
        if self.state in _IN_BODY:
            self._conclude(self._step(IN_HTTP_STREAM_CUT), None, message)
        else:
            self.unclear(message)

    # -- the caller

    def kill(self, code: int, message: str) -> None:
        """Abandon the request, by the caller's wish, a limit or the deadline (P1-013)."""
        self._conclude(self._step(IN_HTTP_STREAM_LOCAL_KILL), code, message)

    def consumed(self, cost: int, now: float) -> None:
        """Take that the caller has taken an item."""
        self.held -= cost
        if self._heard == inf and self.state in _FLOWING and self.held < HELD:
            self._heard = now

    # -- time

    def next_timeout(self) -> float:
        """Return when `handle_timeout` wants to be called, or infinity."""
        return min(self._deadline, self._unended, self._heard + self._silence)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        if now >= self._deadline:
            self._out_of_time()
        if now >= self._unended:
            effect = self._step(IN_HTTP_STREAM_UNENDED)
            self._conclude(effect, None, "no end of the body within 2 s of done (P1-020)")
        elif now >= self._heard + self._silence and self.state != HTTP_STREAM_ENDING:
            effect = self._step(IN_HTTP_STREAM_SILENT)
            self._conclude(effect, None, f"nothing came for {self._silence:g} s (P1-021)")

    def _out_of_time(self) -> None:
        """Give up; an attempt that is under way first gets time for its own answer (REC-005)."""
        if self.begun and self._grace:
            self._grace = False
            self._deadline += KILL_AFTER
        else:
            self.kill(ErrorCode.DEADLINE_EXCEEDED, "no answer in time")

    # -- events

    def _take(self, event: Event, now: float) -> None:
        """Take what is no item."""
        match event:
            case Headers(headers):
                self._outlet.on_headers(headers)
            case _ if self.state == HTTP_STREAM_ENDING:
                self._surplus("a terminal event")
            case Done(items) | Failed(items) if items not in (None, self._messages):
                text = f"the terminal event counts {items} items, not {self._messages} (P1-009)"
                self._conclude(self._step(IN_HTTP_STREAM_MISCOUNT), None, text)
            case Done(_, trailers):
                if self._step(IN_HTTP_STREAM_DONE) == EFFECT_AWAIT_END:
                    self._trailers = trailers
                    self._heard = inf
                    self._unended = now + HTTP_END_TIMEOUT_MS / 1000
            case Failed():
                self._conclude(
                    self._step(IN_HTTP_STREAM_ERROR),
                    event.code,
                    event.message,
                    local=False,
                    error_flags=event.error_flags & ~NOT_PROCESSED,
                    retry_after_ms=event.retry_after_ms,
                    detail=event.detail,
                )

    def _surplus(self, what: str) -> None:
        effect = self._step(IN_HTTP_STREAM_SURPLUS)
        self._conclude(effect, None, f"{what} follows done (P1-010)")

    # -- the end

    def _step(self, input_: int) -> int:
        row = HTTP_STREAM[self.state][input_]
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
        """Report the class that the table has decided on."""
        outcome = _CLASSES.get(effect)
        if outcome is None:
            return
        self._settle()
        self._on_failed(
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

    def _settle(self) -> None:
        self._deadline = self._unended = self._heard = inf
        self._reader = None
