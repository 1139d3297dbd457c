"""What a client may try again, when, and how often.

Rules of this file: pure decisions.  The class of a failed attempt is the connection's word
(`Outcome`); this module only reads the table of section 16.1.  Randomness is handed in as
`uniform(low, high)`, time as `now` in seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from muxwire._generated.registries import (
    BACKOFF_BASE_MS,
    BACKOFF_CAP_MS,
    MAX_ATTEMPTS,
    ErrorCode,
)
from muxwire.errors import Outcome

Uniform = Callable[[float, float], float]

_HOPELESS = frozenset(
    (ErrorCode.INVALID_ARGUMENT, ErrorCode.MESSAGE_TOO_LARGE, ErrorCode.UNIMPLEMENTED)
)
"""Refusals that every worker repeats."""

_PASSING = frozenset((ErrorCode.OVERLOADED, ErrorCode.SHUTDOWN, ErrorCode.REQUEST_INTERNAL_ERROR))
"""Failures that another attempt of an idempotent request may get past."""

_TAKEN_BACK = frozenset(
    (
        ErrorCode.CANCELLED,
        ErrorCode.DEADLINE_EXCEEDED,
        ErrorCode.INVALID_ARGUMENT,
        ErrorCode.MESSAGE_TOO_LARGE,
        ErrorCode.REQUEST_INTERNAL_ERROR,
    )
)
"""Why a client itself ends a request that was not sent (SET-003, FAI-001, REC-005)."""

_BUDGET_SHARE = 0.2
_BUDGET_WINDOW = 10.0
_BUDGET_FLOOR = 100
_BURST_WINDOW = 1.0
_BURST_FLOOR = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """How one attempt ended.

    Attributes:
        outcome: Its class.
        code: Error code, or None.
        local: No terminal error frame gave the code.
        non_retryable: The worker says that another attempt cannot succeed.
        retry_after_ms: The worker's hint, or 0.
        messages: Complete response messages that were delivered.
        seen_not_found: This worker has answered NOT_FOUND to the same request before.
    """

    outcome: Outcome
    code: int | None = None
    local: bool = True
    non_retryable: bool = False
    retry_after_ms: int = 0
    messages: int = 0
    seen_not_found: bool = False


def may_retry(failure: Failure, *, idempotent: bool) -> bool:
    """Read the column "automatic retry" of the table of classes (REC-002, REC-003)."""
    match failure.outcome:
        case Outcome.NOT_SENT:
            return failure.code not in _TAKEN_BACK
        case Outcome.NOT_PROCESSED:
            if failure.code == ErrorCode.NOT_FOUND:
                return not failure.seen_not_found
            return failure.code not in _HOPELESS
        case Outcome.AMBIGUOUS:
            return idempotent
        case Outcome.FAILED:
            return (
                idempotent
                and not failure.local
                and not failure.messages
                and not failure.non_retryable
                and failure.code in _PASSING
            )
        case _:
            return False


def retry_delay(failure: Failure, attempt: int, uniform: Uniform) -> float:
    """Return the seconds before attempt number `attempt`, 2 or more (REC-005)."""
    if failure.retry_after_ms:
        hint = failure.retry_after_ms / 1000
        return uniform(hint, 1.5 * hint)
    if failure.local or failure.code == ErrorCode.DRAINING:
        return 0.0
    return uniform(0.0, BACKOFF_BASE_MS / 1000 * 2 ** (attempt - 2))


class Attempts:
    """The attempts of one request (REC-005).

    Attributes:
        begun: Attempts whose OPEN was handed to the transport.
        outcome: The highest class so far, which is what the caller is told (REC-002).
    """

    __slots__ = ("begun", "outcome")

    def __init__(self) -> None:
        self.begun = 0
        self.outcome = Outcome.NOT_SENT

    def note(self, failure: Failure) -> None:
        """Count an attempt that failed; a NOT_SENT one was none."""
        if failure.outcome is not Outcome.NOT_SENT:
            self.begun += 1
        self.outcome = max(self.outcome, failure.outcome)

    @property
    def left(self) -> bool:
        """Whether another attempt may begin."""
        return self.begun < MAX_ATTEMPTS


class Backoff:
    """Delays between the dials of one slot: exponential with full jitter (REC-004)."""

    __slots__ = ("_base", "_cap", "_failures", "_uniform")

    def __init__(
        self,
        uniform: Uniform,
        base: float = BACKOFF_BASE_MS / 1000,
        cap: float = BACKOFF_CAP_MS / 1000,
    ) -> None:
        self._uniform = uniform
        self._base = base
        self._cap = cap
        self._failures = 0

    def next(self) -> float:
        """Return the seconds to wait before the next dial, and count that dial."""
        bound = min(self._cap, self._base * 2 ** min(self._failures, 32))
        self._failures += 1
        return self._uniform(0.0, bound)

    def reset(self) -> None:
        """Note a connection that proved itself: a handshake, then a terminal or 10 seconds."""
        self._failures = 0


class RetryBudget:
    """How many retries all requests of a client may cost together (REC-006).

    First attempts are counted by the second, so that memory does not grow with their number.
    """

    __slots__ = ("_firsts", "_retries", "_total")

    def __init__(self) -> None:
        self._firsts: deque[list[int]] = deque()  # [second, first attempts]
        self._total = 0
        self._retries: deque[float] = deque()

    def first(self, now: float) -> None:
        """Count a first attempt."""
        second = int(now)
        if self._firsts and self._firsts[-1][0] == second:
            self._firsts[-1][1] += 1
        else:
            self._forget(second)
            self._firsts.append([second, 1])
        self._total += 1

    def spend(self, now: float) -> bool:
        """Take one retry out of the budget; False when there is none."""
        self._forget(int(now))
        retries = self._retries
        while retries and retries[0] <= now - _BUDGET_WINDOW:
            retries.popleft()
        share = _BUDGET_SHARE * self._total
        recent = sum(1 for at in retries if at > now - _BURST_WINDOW)
        if len(retries) + 1 > share + _BUDGET_FLOOR or recent + 1 > share + _BURST_FLOOR:
            return False
        retries.append(now)
        return True

    def _forget(self, second: int) -> None:
        while self._firsts and self._firsts[0][0] <= second - _BUDGET_WINDOW:
            self._total -= self._firsts.popleft()[1]
