"""One request of a tester: what it wants done, and what it is told.

Rules of this file: it is the sink of its request, so events come in the order in which things
happen.  A paused request holds its messages, and its success, back; a failure brings them out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from muxwire._generated.registries import ErrorCode
from muxwire.core.recovery import Failure
from muxwire.driving.lines import encode
from muxwire.errors import MessageTooLarge, MuxwireError, Outcome, RequestClosed, RequestFailed
from muxwire.handlers import decode_headers
from muxwire.tcp.stream import Exchange

Say = Callable[..., None]


class DrivenRequest:
    """A request from its operation to its final event.

    Args:
        ref: Its name.
        paused: It begins without consuming.
        ended: The tester sends nothing more than `messages`.
        messages: What is sent behind the first message.
        say: Writes an event.
        on_over: Called after the final event.
    """

    def __init__(
        self,
        ref: str,
        *,
        paused: bool,
        ended: bool,
        messages: list[bytes],
        say: Say,
        on_over: Callable[[DrivenRequest], None],
    ) -> None:
        self.ref = ref
        self.ended = ended
        self._say = say
        self._on_over = on_over
        self._exchange: Exchange | None = None
        self._outgoing = deque(messages)
        self._end_due = ended and bool(messages)
        self._paused = paused
        self._killed = False
        self._held: list[tuple[bytes, int]] = []
        self._trailers: list[tuple[str, str]] | None = None  # of a success that is held back
        self._messages = 0
        self._attempt = 1
        self._sent = 0

    def start(self, exchange: Exchange) -> None:
        """Take what carries out what the tester wants."""
        self._exchange = exchange
        self._pour()

    def refuse(self, reason: str) -> None:
        """End a request that may not be sent at all (SET-003)."""
        self._attempt = 0
        self._fail(Outcome.NOT_SENT, ErrorCode.INVALID_ARGUMENT, local=True, message=reason)

    # -- what the tester wants

    def send(self, data: bytes | None, *, end: bool) -> None:
        """Send a message if there is one, and the end of the request direction."""
        if data is not None:
            self._outgoing.append(data)
        self.ended = self._end_due = end
        self._pour()

    def stop(self, reason: int) -> None:
        """Ask for an early end."""
        self._carrier.stop(reason)

    def kill(self, reason: int) -> None:
        """Abandon the request; nothing that has arrived is told any more."""
        self._killed = True
        self._outgoing.clear()
        for _, cost in self._held:
            self._carrier.consumed(cost)
        self._held.clear()
        if self._trailers is None:
            self._carrier.kill(reason)
        else:  # its success was not told yet and never will be (STM-002)
            self._fail(Outcome.FAILED, ErrorCode.CANCELLED, local=True, message="killed")

    def pause(self) -> None:
        """Consume nothing more."""
        self._paused = True
        self._carrier.awaiting(False)

    def resume(self) -> None:
        """Consume again."""
        self._paused = False
        self._release()
        if self._trailers is None:
            self._carrier.awaiting()
        else:
            self._succeed(self._trailers)

    def written(self) -> None:
        """Tell how many messages have left, if there are more than before."""
        if self._exchange is not None and (sent := self._exchange.sent) > self._sent:
            self._sent = sent
            self._say("sent", ref=self.ref, messages=sent)

    # -- what happens

    def on_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Tell the response headers."""
        if not self._killed:
            self._say("headers", ref=self.ref, headers=decode_headers(headers))

    def on_message(self, data: bytes, cost: int) -> None:
        """Tell a message, or hold it back."""
        if self._killed:
            self._carrier.consumed(cost)
        elif self._paused:
            self._held.append((data, cost))
        else:
            self._deliver(data, cost)
            self._carrier.awaiting()

    def on_end(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """Tell the success, or hold it back."""
        if self._paused:
            self._trailers = decode_headers(trailers)
        else:
            self._succeed(decode_headers(trailers))

    def on_failed(self, error: MuxwireError) -> None:
        """Tell the failure, after what was held back."""
        self._release()
        if isinstance(error, RequestFailed):
            self._attempt = error.attempts
            self._fail(error.outcome, error.code, local=error.local, message=error.message)
        else:
            self._attempt = 0
            self._fail(Outcome.NOT_SENT, None, local=True, message=str(error))

    def on_writable(self) -> None:
        """Go on sending."""
        self._pour()

    def on_retry(self, ended: Failure, attempt: int, delay: float) -> None:
        """Tell that an attempt has ended and another one follows; NOT_SENT was none (REC-005)."""
        self._attempt, self._sent = attempt, 0
        if ended.outcome is not Outcome.NOT_SENT:
            self._say(
                "retry",
                ref=self.ref,
                **{"class": ended.outcome.name},
                code=ended.code,
                attempt=attempt,
                delay_ms=round(delay * 1000),
            )

    # -- how

    @property
    def _carrier(self) -> Exchange:
        if self._exchange is None:
            raise RuntimeError("the request has not started")
        return self._exchange

    def _pour(self) -> None:
        """Send until there is no room; what is left waits for `on_writable`."""
        exchange = self._exchange
        if exchange is None:
            return
        try:
            while self._outgoing:
                last = self._end_due and len(self._outgoing) == 1
                if not exchange.send(self._outgoing[0], end=last):
                    return
                self._outgoing.popleft()
                self._end_due = self._end_due and not last
            if self._end_due:
                self._end_due = False
                exchange.end()
        except RequestClosed:  # it is over; its final event is on the way
            self._outgoing.clear()
        except MessageTooLarge:
            self.kill(ErrorCode.MESSAGE_TOO_LARGE)

    def _deliver(self, data: bytes, cost: int) -> None:
        self._messages += 1
        self._say("message", ref=self.ref, body_b64=encode(data))
        self._carrier.consumed(cost)

    def _release(self) -> None:
        held, self._held = self._held, []
        for data, cost in held:
            self._deliver(data, cost)

    def _succeed(self, trailers: list[tuple[str, str]]) -> None:
        self._say(
            "end",
            ref=self.ref,
            messages=self._messages,
            attempts=self._attempt,
            trailers=trailers,
        )
        self._on_over(self)

    def _fail(self, outcome: Outcome, code: int | None, *, local: bool, message: str) -> None:
        self._say(
            "error",
            ref=self.ref,
            **{"class": outcome.name},
            code=code,
            local=local,
            messages=self._messages,
            attempts=self._attempt,
            message=message,
        )
        self._on_over(self)
