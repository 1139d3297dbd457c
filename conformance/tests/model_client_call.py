"""One request of the caller, over all its attempts.

The rules of this file: one `request-id` for all attempts, `attempt` from the second on (REC-007);
messages are kept for a retry up to 1 MiB or one message; what is paused is held back; and exactly
one final event comes behind all others.
"""

from __future__ import annotations

import base64
import enum
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import model_client_wire as cw
from model_client_stream import State, Stream

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from model_client_recovery import Recovery

REPLAY_LIMIT = 1_048_576


class Class(enum.IntEnum):
    """The classes of section 16.1, in the order of REC-002."""

    NOT_SENT = 0
    NOT_PROCESSED = 1
    AMBIGUOUS = 2
    FAILED = 3
    PARTIAL = 4


class Phase(enum.Enum):
    """Where a request is (section 16.4)."""

    WAITING = enum.auto()
    OPEN = enum.auto()
    BACKING_OFF = enum.auto()
    DONE = enum.auto()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an attempt ended."""

    kind: Class
    code: int | None = None
    text: str = ""
    local: bool = True
    flags: int = 0
    retry_after_ms: int = 0
    delay: bool = False  # REC-005: no delay after GOAWAY, DRAINING or the loss of the connection


class Call:
    """What the caller asked for, and what has become of it."""

    def __init__(
        self,
        recovery: Recovery,
        ref: str,
        subject: str,
        headers: cw.Headers,
        *,
        idempotent: bool,
        timeout_ms: int,
        messages: list[bytes],
        ended: bool,
        paused: bool,
    ) -> None:
        self.recovery = recovery
        self.flaw = recovery.flaw
        self.emit: Callable[..., None] = recovery.client.emit
        self.ref = ref
        self.subject = subject
        self.idempotent = idempotent
        self.messages = messages
        self.ended = ended
        self.paused = paused
        self.request_id, self.headers = self._own_headers(headers)
        now = recovery.now()
        self.timeout_ms = timeout_ms
        self.deadline = now + timeout_ms / 1000 if timeout_ms else None
        self.phase = Phase.WAITING
        self.stream: Stream | None = None
        self.attempts = 0
        self.highest = Class.NOT_SENT
        self.last = Verdict(Class.NOT_SENT)
        self.addr = ""  # of the latest attempt
        self.not_found_at: set[str] = set()
        self.stop_reason: int | None = None
        self.killed: Verdict | None = None
        self.first_rid = b""
        self.replay_lost = False
        # The 10 s of REC-005, the delay of the next attempt, and the deadline with its KILL.
        self.patience: TimerHandle | None = None
        self.backoff: TimerHandle | None = None
        self.clock: TimerHandle | None = None
        # Delivery.
        self.held: list[bytes] = []
        self.delivered = 0
        self.final: Callable[[], None] | None = None

    def _own_headers(self, headers: cw.Headers) -> tuple[str, cw.Headers]:
        """Split the caller's `request-id` off, and `attempt`, which is not theirs (REC-007)."""
        given = [value for key, value in headers if key == "request-id"]
        rest = [pair for pair in headers if pair[0] != "attempt"]
        if given and self.flaw("rec-replaces-request-id"):
            rest = [pair for pair in rest if pair[0] != "request-id"]
            return str(uuid.uuid4()), [*rest, ("request-id", str(uuid.uuid4()))]
        if given:
            return given[0], rest
        request_id = str(uuid.uuid4())
        if self.flaw("rec-no-request-id"):
            return request_id, rest
        return request_id, [*rest, ("request-id", request_id)]

    # Sending ----------------------------------------------------------------------------------

    def block(self) -> bytes:
        """Build the metadata of the next OPEN; timeout_ms is what is left (REC-005)."""
        headers = self.headers
        if self.attempts and self.flaw("rec-new-request-id"):
            fresh = ("request-id", str(uuid.uuid4()))
            headers = [fresh if pair[0] == "request-id" else pair for pair in headers]
        if self.attempts and not self.flaw("rec-no-attempt-header"):
            headers = [*headers, ("attempt", str(self.attempts + 1))]
        elif not self.attempts and self.flaw("rec-attempt-from-one"):
            headers = [*headers, ("attempt", "1")]
        left = self.timeout_ms
        if self.deadline is not None and not (self.attempts and self.flaw("rec-timeout-is-stale")):
            left = max(1, math.ceil((self.deadline - self.recovery.now()) * 1000))
        return cw.open_block(left, self.idempotent, self.subject, headers)

    def begun(self, stream: Stream) -> None:
        """Count an attempt: its OPEN is handed to the transport (REC-005)."""
        self.phase = Phase.OPEN
        self.attempts += 1
        self.recovery.attempt_begun(self)
        if self.stop_reason is not None:
            stream.conn.send_stop(stream, self.stop_reason)
        ahead = len(self.messages) > stream.index and self.flaw("flw-sent-runs-ahead")
        count = len(self.messages) if ahead else stream.index
        self.emit("sent", ref=self.ref, messages=count)

    def message_sent(self, stream: Stream) -> None:
        """Tell how much has left, and forget what is too much to be sent again (REC-007)."""
        kept = sum(map(len, self.messages[: stream.index]))
        too_much = stream.index > 1 and kept > REPLAY_LIMIT
        if too_much and not self.flaw("rec-keeps-everything"):
            self.replay_lost = True
            self.messages[: stream.index] = [b""] * stream.index
        self.emit("sent", ref=self.ref, messages=stream.index)

    def add(self, message: bytes | None, *, end: bool) -> bool:
        """Append a message; false when the request direction has ended (STM-002)."""
        stream = self.stream
        over = self.phase is Phase.DONE or self.final is not None or self.killed is not None
        if (self.ended or over) and not self.flaw("stm-sends-after-end"):
            return False
        if message is not None:
            self.messages.append(message)
        self.ended = self.ended or end
        if stream is not None:
            if stream.state is State.HALF and self.flaw("stm-sends-after-end"):
                stream.state = State.OPEN
            stream.conn.wake(stream)
        return True

    # Stopping ---------------------------------------------------------------------------------

    def stop(self, reason: int) -> None:
        """Ask for an early end; before the OPEN it is held back (FAI-001)."""
        if self.phase is Phase.DONE or self.final is not None:
            return
        if self.killed is not None and not self.flaw("stm-stop-after-kill"):
            return
        if self.stop_reason is not None and not self.flaw("stm-stops-twice"):
            return
        self.stop_reason = reason
        stream = self.stream
        if stream is None:
            return
        if stream.state is State.IDLE:
            if self.flaw("fai-stop-before-open"):
                stream.conn.send_stop(stream, reason)
            return
        stream.conn.send_stop(stream, reason)

    def kill(self, verdict: Verdict, reason: int) -> None:
        """Abandon the request; the terminal decides when it is over (STM-002)."""
        if self.phase is Phase.DONE or self.final is not None:
            return
        stream = self.stream
        if self.killed is not None and not self.flaw("stm-kills-twice"):
            return
        self.killed = self.killed or verdict
        self.held.clear()
        if stream is None or stream.state is State.IDLE:
            if stream is not None:
                if self.flaw("fai-kill-before-open"):
                    stream.conn.send_kill(stream, reason)
                stream.conn.withdraw(stream)
            self.recovery.report(self, verdict)
            return
        stream.conn.send_kill(stream, reason)
        if self.flaw("stm-kill-completes-at-once"):
            self.recovery.report(self, Verdict(Class.FAILED, verdict.code, verdict.text))

    def end_locally(self, code: int, text: str) -> None:
        """End an open request for a limit: KILL, then FAILED with this code (MSG-003)."""
        self.kill(Verdict(Class.FAILED, code, text), code)

    # Delivery ---------------------------------------------------------------------------------

    def deliver(self, message: bytes) -> None:
        """Give the caller a message, or keep it while it is paused."""
        if self.phase is Phase.DONE or (
            self.killed is not None and not self.flaw("stm-delivers-after-kill")
        ):
            return
        if self.held and self.flaw("msg-merges"):
            self.held[-1] += message
        else:
            self.held.append(message)
        if not self.paused and not self.flaw("msg-merges"):
            self.flush()

    def flush(self) -> None:
        """Emit everything that is held."""
        for message in self.held:
            self.delivered += 1
            self.emit("message", ref=self.ref, body_b64=base64.b64encode(message).decode())
        self.held.clear()

    def pause(self) -> None:
        """Stop consuming."""
        self.paused = True

    def resume(self) -> None:
        """Consume what waits, and go on."""
        self.paused = False
        self.flush()
        if self.stream is not None:
            self.stream.consume()
        if self.final is not None:
            final, self.final = self.final, None
            final()

    def succeed(self, trailers: cw.Headers) -> None:
        """Report a success, behind everything that is held."""

        def final() -> None:
            self.phase = Phase.DONE
            self.flush()
            self.emit(
                "end",
                ref=self.ref,
                messages=self.delivered,
                attempts=self.attempts,
                trailers=[list(pair) for pair in trailers],
            )

        self.recovery.forget(self)
        if self.paused:
            self.final = final
        else:
            final()

    def fail(self, verdict: Verdict) -> None:
        """Report a failure: what is held first, then the class."""
        self.recovery.forget(self)
        if self.killed is None:
            self.flush()
        self.phase = Phase.DONE
        self.emit(
            "error",
            ref=self.ref,
            **{"class": verdict.kind.name},
            code=verdict.code,
            local=verdict.local,
            messages=self.delivered,
            attempts=self.attempts,
            message=verdict.text,
        )
