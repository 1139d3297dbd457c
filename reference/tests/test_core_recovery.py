"""Recovery: the table of classes, delays, attempts, backoff and budget."""

from __future__ import annotations

import pytest
from muxwire._generated.registries import ErrorCode
from muxwire.core.recovery import (
    Attempts,
    Backoff,
    Failure,
    RetryBudget,
    may_retry,
    retry_delay,
)
from muxwire.errors import Outcome


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def highest(low: float, high: float) -> float:
    del low
    return high


def remote(outcome: Outcome, code: int, **more: int) -> Failure:
    return Failure(outcome=outcome, code=code, local=False, **more)  # type: ignore[arg-type]


CLASSES = [
    (Failure(outcome=Outcome.NOT_SENT), True, True),
    (Failure(outcome=Outcome.NOT_SENT, code=ErrorCode.DRAINING), True, True),
    (Failure(outcome=Outcome.NOT_SENT, code=ErrorCode.CONNECTION_LIMIT), True, True),
    (Failure(outcome=Outcome.NOT_SENT, code=ErrorCode.INVALID_ARGUMENT), False, False),
    (Failure(outcome=Outcome.NOT_SENT, code=ErrorCode.CANCELLED), False, False),
    (Failure(outcome=Outcome.NOT_SENT, code=ErrorCode.DEADLINE_EXCEEDED), False, False),
    (Failure(outcome=Outcome.NOT_PROCESSED), True, True),
    (remote(Outcome.NOT_PROCESSED, ErrorCode.OVERLOADED), True, True),
    (remote(Outcome.NOT_PROCESSED, ErrorCode.DRAINING), True, True),
    (remote(Outcome.NOT_PROCESSED, ErrorCode.NOT_FOUND), True, True),
    (remote(Outcome.NOT_PROCESSED, ErrorCode.NOT_FOUND, seen_not_found=True), False, False),
    (remote(Outcome.NOT_PROCESSED, ErrorCode.INVALID_ARGUMENT), False, False),
    (remote(Outcome.NOT_PROCESSED, ErrorCode.MESSAGE_TOO_LARGE), False, False),
    (remote(Outcome.NOT_PROCESSED, ErrorCode.UNIMPLEMENTED), False, False),
    (Failure(outcome=Outcome.AMBIGUOUS), False, True),
    (Failure(outcome=Outcome.PARTIAL), False, False),
    (remote(Outcome.FAILED, ErrorCode.OVERLOADED), False, True),
    (remote(Outcome.FAILED, ErrorCode.SHUTDOWN), False, True),
    (remote(Outcome.FAILED, ErrorCode.REQUEST_INTERNAL_ERROR), False, True),
    (remote(Outcome.FAILED, ErrorCode.INTERNAL_ERROR), False, False),
    (remote(Outcome.FAILED, ErrorCode.APPLICATION_ERROR), False, False),
    (remote(Outcome.FAILED, ErrorCode.OVERLOADED, messages=1), False, False),
    (remote(Outcome.FAILED, ErrorCode.OVERLOADED, non_retryable=True), False, False),
    (Failure(outcome=Outcome.FAILED, code=ErrorCode.CANCELLED), False, False),
]


@pytest.mark.parametrize(("failure", "plain", "idempotent"), CLASSES)
def test_the_table_of_classes(failure: Failure, plain: bool, idempotent: bool) -> None:
    """REC-002, REC-003."""
    assert may_retry(failure, idempotent=False) is plain
    assert may_retry(failure, idempotent=True) is idempotent


def test_a_hint_of_the_worker_rules_the_delay() -> None:
    failure = remote(Outcome.NOT_PROCESSED, ErrorCode.OVERLOADED, retry_after_ms=200)
    assert retry_delay(failure, 2, highest) == pytest.approx(0.3)
    assert retry_delay(failure, 3, lambda low, _: low) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "failure",
    [
        Failure(outcome=Outcome.AMBIGUOUS),
        Failure(outcome=Outcome.NOT_PROCESSED),
        remote(Outcome.NOT_PROCESSED, ErrorCode.DRAINING),
    ],
)
def test_no_delay_after_the_loss_of_a_connection_or_a_drain(failure: Failure) -> None:
    assert retry_delay(failure, 2, highest) == 0.0


@pytest.mark.parametrize(("attempt", "bound"), [(2, 0.1), (3, 0.2)])
def test_the_delay_doubles_with_each_attempt(attempt: int, bound: float) -> None:
    failure = remote(Outcome.FAILED, ErrorCode.SHUTDOWN)
    assert retry_delay(failure, attempt, highest) == pytest.approx(bound)


def test_three_attempts_and_the_highest_class() -> None:
    attempts = Attempts()
    attempts.note(Failure(outcome=Outcome.NOT_SENT))
    assert attempts.begun == 0
    attempts.note(Failure(outcome=Outcome.AMBIGUOUS))
    attempts.note(Failure(outcome=Outcome.NOT_PROCESSED))
    assert attempts.left
    attempts.note(Failure(outcome=Outcome.NOT_PROCESSED))
    assert not attempts.left
    assert attempts.outcome is Outcome.AMBIGUOUS


def test_backoff_doubles_to_its_cap_and_resets() -> None:
    """REC-004."""
    backoff = Backoff(highest)
    bounds = [backoff.next() for _ in range(9)]
    assert bounds == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0])
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)
    assert Backoff(middle).next() == pytest.approx(0.05)


def test_backoff_never_overflows() -> None:
    backoff = Backoff(highest)
    assert [backoff.next() for _ in range(5_000)][-1] == 10.0


def test_ten_retries_a_second_and_a_fifth_of_the_requests() -> None:
    """REC-006."""
    budget = RetryBudget()
    assert sum(budget.spend(0.0) for _ in range(50)) == 10
    assert budget.spend(0.5) is False
    assert budget.spend(1.0) is True

    busy = RetryBudget()
    for _ in range(1_000):
        busy.first(0.0)
    assert sum(busy.spend(0.0) for _ in range(1_000)) == 210


def test_a_hundred_retries_in_ten_seconds() -> None:
    budget = RetryBudget()
    spent = sum(budget.spend(second * 1.0) for second in range(10) for _ in range(20))
    assert spent == 100
    assert budget.spend(9.99) is False
    assert budget.spend(10.0) is True
