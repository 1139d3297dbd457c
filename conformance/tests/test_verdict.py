"""The decisions that must never be too kind."""

from __future__ import annotations

import pytest
from muxwire_conformance.verdict import (
    Check,
    CheckFailed,
    ExitCode,
    NotApplicable,
    Stopped,
    SuiteError,
    TargetUnreachable,
    Unprepared,
    Verdict,
    Violation,
    decide,
    exit_code,
)


def held(*names: str) -> list[Check]:
    return [Check(name=name, held=True) for name in names]


def judge(
    emitted: list[Check],
    stopped: BaseException | None = None,
    *,
    level: str = "MUST",
    own: list[Violation] | None = None,
    declared: tuple[str, ...] = ("one", "two"),
) -> Verdict:
    verdict, reason = decide(
        declared=declared,
        emitted=emitted,
        level=level,
        stopped=stopped,
        own_violations=own or [],
    )
    assert bool(reason) == (verdict is not Verdict.PASS)
    return verdict


def test_all_declared_checks_pass() -> None:
    assert judge(held("one", "two", "two")) is Verdict.PASS


@pytest.mark.parametrize("emitted", [[], held("one"), held("two", "two")])
def test_a_missing_check_is_inconclusive(emitted: list[Check]) -> None:
    assert judge(emitted) is Verdict.INCONCLUSIVE


def test_an_undeclared_check_is_an_error_of_the_suite() -> None:
    assert judge(held("one", "two", "three")) is Verdict.ERROR
    assert judge(held("one"), CheckFailed("three", "x", "y")) is Verdict.ERROR


@pytest.mark.parametrize(
    ("level", "verdict"),
    [
        ("MUST", Verdict.FAIL),
        ("MUST NOT", Verdict.FAIL),
        ("SHOULD", Verdict.WARN),
        ("MAY", Verdict.WARN),
    ],
)
def test_a_broken_check_fails_by_level(level: str, verdict: Verdict) -> None:
    assert judge(held("one"), CheckFailed("two", "x", "y"), level=level) is verdict


@pytest.mark.parametrize(
    ("stopped", "verdict"),
    [
        (Unprepared("a handshake"), Verdict.INCONCLUSIVE),
        (TargetUnreachable("a connection", "refused"), Verdict.INCONCLUSIVE),
        (NotApplicable("no such feature"), Verdict.NOT_APPLICABLE),
        (SuiteError("wrong case"), Verdict.ERROR),
        (ZeroDivisionError("oops"), Verdict.ERROR),
        (TimeoutError("oops"), Verdict.ERROR),
        (Stopped("?"), Verdict.INCONCLUSIVE),
    ],
)
def test_other_ends_are_never_a_pass(stopped: BaseException, verdict: Verdict) -> None:
    assert judge(held("one", "two"), stopped) is verdict


def test_a_warning_is_kept() -> None:
    warning = Check(name="two", held=True, warning=True, expected="x", actual="y")
    assert judge([*held("one"), warning]) is Verdict.WARN


def test_a_frame_that_breaks_the_rule_of_the_case_fails_it() -> None:
    own = [Violation(requirement="FRM-007", text="flag bits")]
    assert judge(held("one", "two"), own=own) is Verdict.FAIL
    assert judge(held("one"), Unprepared("x"), own=own) is Verdict.FAIL


P, F, W, N, INC, E = (
    Verdict.PASS,
    Verdict.FAIL,
    Verdict.WARN,
    Verdict.NOT_APPLICABLE,
    Verdict.INCONCLUSIVE,
    Verdict.ERROR,
)


@pytest.mark.parametrize(
    ("verdicts", "ran", "strict", "code"),
    [
        ([P, P], 2, False, ExitCode.CONFORMANT),
        ([P, N], 1, True, ExitCode.CONFORMANT),
        ([P, W], 2, False, ExitCode.CONFORMANT),
        ([P, W], 2, True, ExitCode.NOT_CONFORMANT),
        ([P, F], 2, False, ExitCode.NOT_CONFORMANT),
        ([P, INC], 2, False, ExitCode.NOT_CONFORMANT),
        ([INC], 0, False, ExitCode.NOT_CONFORMANT),
        ([P, Verdict.FLAKY], 2, False, ExitCode.NOT_CONFORMANT),
        ([P, Verdict.XFAIL], 2, True, ExitCode.CONFORMANT),
        ([P, Verdict.XPASS], 2, False, ExitCode.NOT_CONFORMANT),
        ([F, E], 2, False, ExitCode.SUITE_ERROR),
        ([N, N], 0, False, ExitCode.NOTHING_RAN),
        ([], 0, False, ExitCode.NOTHING_RAN),
        ([F] * 256, 256, False, ExitCode.NOT_CONFORMANT),
    ],
)
def test_exit_codes(verdicts: list[Verdict], ran: int, strict: bool, code: ExitCode) -> None:
    assert exit_code(verdicts, ran=ran, strict=strict) is code
