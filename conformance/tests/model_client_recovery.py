"""What becomes of a request whose attempt is over: its class, and whether there is another attempt.

The rules of this file: the classes and the permissions of section 16.1 (REC-002, REC-003), three
attempts within one deadline and the delays between them (REC-005), the retry budget (REC-006).
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

import model_wire as w
from model_client_call import Call, Class, Phase, Verdict
from model_client_stream import State

if TYPE_CHECKING:
    from model_client import Client
    from model_client_output import Output

MAX_ATTEMPTS = 3
RETRY_BASE = 0.1
KILL_AFTER_DEADLINE = 0.75
GIVE_UP_AFTER_KILL = 1.0
RETRY_AFTER_FAILED = {w.OVERLOADED, w.SHUTDOWN, w.INTERNAL_ERROR}
NEVER_AFTER_REFUSAL = {w.INVALID_ARGUMENT, w.MESSAGE_TOO_LARGE, w.UNIMPLEMENTED}


class Budget:
    """The budget of REC-006. Retries count at the time for which they are planned."""

    def __init__(self) -> None:
        self.first: deque[float] = deque()
        self.retries: deque[float] = deque()

    def began(self, now: float) -> None:
        """Count a first attempt."""
        self.first.append(now)

    def allows(self, now: float, at: float) -> bool:
        """Take a retry at a time to come out of the budget, if it has room."""
        while self.first and self.first[0] <= now - 10:
            self.first.popleft()
        while self.retries and self.retries[0] <= now - 11:
            self.retries.popleft()
        share = 0.2 * len(self.first)
        in_ten = sum(abs(one - at) < 10 for one in self.retries)
        in_one = sum(abs(one - at) < 1 for one in self.retries)
        if in_ten + 1 > share + 100 or in_one + 1 > share + 10:
            return False
        self.retries.append(at)
        return True


class Recovery:
    """The requests that have no open attempt, and the decisions about all."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.flaw = client.flaw
        self.now = client.loop.time
        self.loop = client.loop
        self.calls: dict[str, Call] = {}
        self.waiting: deque[Call] = deque()
        self.budget = Budget()

    # Waiting ----------------------------------------------------------------------------------

    def submit(self, call: Call) -> None:
        """Take a new request."""
        self.calls[call.ref] = call
        if call.deadline is not None and not self.flaw("rec-no-deadline"):
            call.clock = self.loop.call_at(call.deadline, self._deadline, call)
        self.wait(call)

    def wait(self, call: Call) -> None:
        """Put a request into the queue; it may wait 10 s for a chance (REC-005)."""
        call.phase = Phase.WAITING
        call.stream = None
        call.backoff = None
        if call.patience is None and not self.flaw("rec-waits-for-ever"):
            call.patience = self.loop.call_later(self.client.wait, self._gave_up, call)
        if self.flaw("adm-last-comes-first"):
            self.waiting.appendleft(call)
        else:
            self.waiting.append(call)
        self.client.pool.dispatch_soon()

    def not_sent(self, call: Call) -> None:
        """Take a request back whose OPEN was never written: it goes elsewhere, uncounted."""
        if call.phase is Phase.DONE:
            return
        if self.flaw("rec-not-sent-is-an-attempt"):
            call.attempts += 1
        if self.client.closing or self.flaw("rec-not-sent-is-final"):
            self.report(call, Verdict(Class.NOT_SENT))
            return
        self.wait(call)

    def _gave_up(self, call: Call) -> None:
        call.patience = None
        if call.stream is not None:
            call.stream.conn.withdraw(call.stream)
        self.report(call, Verdict(Class.NOT_SENT, call.last.code, "REC-005: no chance to begin"))

    def attempt_begun(self, call: Call) -> None:
        """Stop the patience, count a first attempt for the budget."""
        if call.patience is not None:
            call.patience.cancel()
            call.patience = None
        if call.attempts == 1:
            self.budget.began(self.now())

    # Deadline ---------------------------------------------------------------------------------

    def _deadline(self, call: Call) -> None:
        late = Verdict(Class.NOT_SENT, w.DEADLINE_EXCEEDED, "REC-005: the deadline has passed")
        if call.phase is not Phase.OPEN:
            if call.stream is not None:
                call.stream.conn.withdraw(call.stream)
            self.report(call, late)
            return
        after = KILL_AFTER_DEADLINE
        if self.flaw("rec-kills-at-the-deadline"):
            after = 0
        if not self.flaw("rec-no-kill-at-deadline"):
            call.clock = self.loop.call_later(after, self._kill_late, call)

    def _kill_late(self, call: Call) -> None:
        if call.killed is None:
            call.kill(Verdict(Class.FAILED), w.DEADLINE_EXCEEDED)
            if not self.flaw("rec-no-end-after-late-kill"):
                call.clock = self.loop.call_later(GIVE_UP_AFTER_KILL, self._abandon, call)

    def _abandon(self, call: Call) -> None:
        if call.stream is not None and call.phase is Phase.OPEN:
            kind = Class.PARTIAL if call.stream.responded else Class.AMBIGUOUS
            self.report(call, Verdict(kind, w.DEADLINE_EXCEEDED, "REC-005: no terminal came"))

    # Ruling -----------------------------------------------------------------------------------

    def terminal(self, call: Call, verdict: Verdict) -> None:
        """Take the end of an attempt by an error terminal or, after a KILL, any terminal."""
        if call.killed is not None:
            if call.killed.kind is Class.FAILED and call.killed.code is not None:
                verdict = call.killed  # MSG-003: the client's own decision names the code
            kind = Class.FAILED
            if verdict.flags & w.NOT_PROCESSED and self.flaw("stm-killed-is-not-processed"):
                kind = Class.NOT_PROCESSED
            verdict = Verdict(kind, verdict.code, verdict.text, local=verdict.local)
        self.rule(call, verdict)

    def lost(self, call: Call, kind: Class, code: int | None, text: str) -> None:
        """Take the end of an attempt by GOAWAY, a refusing preface or the end of a connection."""
        if kind is Class.AMBIGUOUS and self.flaw("rec-loss-is-not-processed"):
            kind = Class.NOT_PROCESSED
        if kind is Class.PARTIAL and self.flaw("rec-partial-is-ambiguous"):
            kind = Class.AMBIGUOUS
        if kind is Class.PARTIAL and self.flaw("rec-partial-is-success"):
            call.succeed([])
            return
        if self.flaw("rec-loss-hangs"):
            return
        self.rule(call, Verdict(kind, code, text))

    def rule(self, call: Call, verdict: Verdict) -> None:
        """Decide between another attempt and a report."""
        if call.phase is Phase.DONE:
            return
        if verdict.code == w.NOT_FOUND:
            call.not_found_at.add(call.addr)
        received = call.stream.complete if call.stream is not None else 0
        call.highest = max(call.highest, verdict.kind)
        call.last = verdict
        call.stream = None
        delay = self._delay(call, verdict)
        if not self._may_retry(call, verdict, received):
            self.report(call, verdict)
            return
        at = self.now() + delay
        if call.deadline is not None and at >= call.deadline:
            self.report(call, verdict)
            return
        if not self.flaw("rec-no-budget") and not self.budget.allows(self.now(), at):
            self.report(call, verdict)
            return
        call.phase = Phase.BACKING_OFF
        self.client.emit(
            "retry",
            ref=call.ref,
            **{"class": verdict.kind.name},
            code=verdict.code,
            attempt=call.attempts + 1,
            delay_ms=int(delay * 1000),
        )
        if delay:
            call.backoff = self.loop.call_later(delay, self.wait, call)
        else:
            self.wait(call)

    def _delay(self, call: Call, verdict: Verdict) -> float:
        after = verdict.retry_after_ms / 1000
        if after and not self.flaw("adm-ignores-retry-after"):
            if self.flaw("rec-retry-after-without-jitter"):
                return after
            if self.flaw("rec-retry-after-is-the-most"):
                return random.uniform(0, after)
            return random.uniform(after, 1.5 * after)
        if not verdict.delay:
            return 0.5 if self.flaw("rec-delay-after-loss") else 0
        if self.flaw("rec-no-retry-delay"):
            return 0
        if self.flaw("rec-long-retry-delay"):
            return 0.6
        return random.uniform(0, RETRY_BASE * 2 ** (call.attempts - 1))

    def _may_retry(self, call: Call, verdict: Verdict, received: int) -> bool:
        if self.client.closing:
            return False
        if call.killed is not None:
            return self.flaw("stm-killed-is-retried")
        most = 10 if self.flaw("rec-ten-attempts") else MAX_ATTEMPTS
        if self.flaw("rec-two-attempts"):
            most = 2
        if call.attempts >= most:
            return False
        if call.replay_lost and not self.flaw("rec-retries-what-it-dropped"):
            return False
        if call.deadline is not None and self.now() >= call.deadline:
            return False
        return self._class_allows(call, verdict, received)

    def _class_allows(self, call: Call, verdict: Verdict, received: int) -> bool:
        if verdict.kind is Class.NOT_PROCESSED:
            if verdict.code in NEVER_AFTER_REFUSAL:
                return self.flaw("rec-retries-invalid-argument")
            if verdict.code == w.NOT_FOUND:
                others = self.client.pool.addresses() - call.not_found_at
                return bool(others) or self.flaw("rec-retries-not-found")
            return not self.flaw("rec-refusal-is-final")
        if verdict.kind is Class.FAILED:
            if verdict.flags & w.NON_RETRYABLE and not self.flaw("rec-ignores-non-retryable"):
                return False
            if received and not self.flaw("rec-retries-after-messages"):
                return False
            if not call.idempotent and not self.flaw("rec-retries-failed"):
                return False
            if verdict.code in RETRY_AFTER_FAILED:
                return not self.flaw("rec-failed-is-final")
            return self.flaw("rec-retries-any-code")
        if verdict.kind is Class.PARTIAL:
            return self.flaw("rec-retries-partial")
        if call.idempotent:
            return not self.flaw("rec-ambiguous-is-final")
        return self.flaw("rec-retries-ambiguous")

    def report(self, call: Call, verdict: Verdict) -> None:
        """Complete with the highest class of all attempts, code and message of the last."""
        if call.phase is Phase.DONE:
            return
        kind = max(call.highest, verdict.kind)
        if kind is not verdict.kind and self.flaw("rec-reports-last-class"):
            kind = verdict.kind
        call.fail(Verdict(kind, verdict.code, verdict.text, local=verdict.local))

    def forget(self, call: Call) -> None:
        """Take a request that is over out of every queue and off every clock."""
        for timer in (call.patience, call.backoff, call.clock):
            if timer is not None:
                timer.cancel()
        call.patience = call.backoff = call.clock = None
        if call in self.waiting:
            self.waiting.remove(call)
        call.stream = None

    # The end ----------------------------------------------------------------------------------

    def withdraw_all(self) -> None:
        """End every request without an open attempt: the client is closing."""
        for call in list(self.calls.values()):
            if call.phase in (Phase.WAITING, Phase.BACKING_OFF) and call.final is None:
                idle = call.stream is not None and call.stream.state is State.IDLE
                if idle and call.stream is not None:
                    call.stream.conn.withdraw(call.stream)
                self.report(call, Verdict(Class.NOT_SENT, call.last.code, "the client closes"))

    def classify(self, conn: Output, call: Call, kind: Class, code: int | None, text: str) -> None:
        """Tell what an end that is no terminal means for one request of a connection."""
        call.addr = conn.addr
        self.lost(call, kind, code, text)
