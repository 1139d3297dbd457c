"""What a case can come to, and the one place where that is decided.

Rules of this file:

* A case passes only if every check it declared was emitted and held. A missing check is
  INCONCLUSIVE, never a pass.
* FAIL is a broken MUST; a broken SHOULD is WARN.
* What the judge itself got wrong is ERROR and never blamed on the target.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from muxwire_conformance.paths import path_of

if TYPE_CHECKING:
    from muxwire_conformance.transcript import Transcript
    from muxwire_conformance.wire import Frame


class Verdict(enum.Enum):
    """The outcome of one case.

    FLAKY failed, but not each time that it was run. XFAIL failed as the baseline says that it does,
    and XPASS did not.
    """

    PASS = "PASS"
    FAIL = "FAIL"
    FLAKY = "FLAKY"
    WARN = "WARN"
    XFAIL = "XFAIL"
    XPASS = "XPASS"
    NOT_APPLICABLE = "N/A"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"


RED = frozenset({Verdict.FAIL, Verdict.FLAKY, Verdict.XPASS, Verdict.INCONCLUSIVE})
"""Verdicts of the target that make a run not conformant."""


class ExitCode(enum.IntEnum):
    """What the process tells its caller."""

    CONFORMANT = 0
    NOT_CONFORMANT = 1
    USAGE = 2
    UNREACHABLE = 3
    SUITE_ERROR = 4
    NOTHING_RAN = 5
    INTERRUPTED = 130


@dataclass(slots=True, kw_only=True)
class Check:
    """One check that a case emitted."""

    name: str
    held: bool
    warning: bool = False
    expected: str = ""
    actual: str = ""


@dataclass(slots=True, kw_only=True)
class Violation:
    """A rule that a received frame broke, whatever the case was about."""

    requirement: str
    text: str
    frame: Frame | None = None
    transcript: Transcript | None = None
    field: str = ""

    def mark(self) -> None:
        """Mark the frame in its transcript."""
        if self.frame is not None and self.transcript is not None:
            self.transcript.mark(
                self.frame, field=self.field, remark=f"{self.requirement}: {self.text}"
            )


class Stopped(Exception):  # noqa: N818 - a way to end, not an error
    """Base of the ways in which a case ends before its last line."""


class CheckFailed(Stopped):
    """A declared check did not hold."""

    def __init__(self, check: str, expected: str, actual: str, frame: Frame | None = None) -> None:
        super().__init__(f"{check}: expected {expected}; got {actual}")
        self.check = check
        self.expected = expected
        self.actual = actual
        self.frame = frame


class Unprepared(Stopped):
    """The case could not reach the point where it judges."""

    def __init__(self, expected: str, actual: str = "", frame: Frame | None = None) -> None:
        super().__init__(f"expected {expected}; got {actual}" if actual else expected)
        self.expected = expected
        self.actual = actual
        self.frame = frame


class JudgeLate(Unprepared):
    """The judge itself was too late for a timed rule: the machine is busy, nothing was shown."""

    def __init__(self, actual: str) -> None:
        super().__init__("a judge that is in time", actual)


class TargetUnreachable(Unprepared):
    """A new connection could not be made during a case."""


class NotApplicable(Stopped):
    """The case does not apply to this target; the text says why."""


class SuiteError(Exception):
    """The judge or a case is wrong, not the target."""


@dataclass(slots=True, kw_only=True)
class Result:
    """What one case came to, with the evidence.

    ``watched`` names the always-on rule that a received frame broke, if nothing else was wrong.
    ``attempts`` are the verdicts of all runs of a case that failed and was run again. ``known`` is
    what the baseline says of an expected failure.
    """

    id: str
    title: str
    requirement: str
    level: str
    verdict: Verdict
    seconds: float
    checks: list[Check] = field(default_factory=list)
    reason: str = ""
    expected: str = ""
    actual: str = ""
    frame: Frame | None = None
    transcripts: list[Transcript] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    traceback: str = ""
    ran: bool = True
    watched: str = ""
    unreachable: bool = False
    late: bool = False
    rerun: str = ""
    attempts: list[Verdict] = field(default_factory=list)
    known: str = ""
    role: str = "worker"

    @property
    def area(self) -> str:
        """Return the area letters of the id, for example ``HSK``."""
        return self.id.partition("-")[0]

    @property
    def path(self) -> str:
        """Return the path that the case is about: tcp, callhome or http."""
        return path_of(self.id)


def is_must(level: str) -> bool:
    """Tell whether breaking a rule of this level is a failure."""
    return level in {"MUST", "MUST NOT", "REQUIRED", "SHALL", "SHALL NOT"}


def decide(
    *,
    declared: tuple[str, ...],
    emitted: list[Check],
    level: str,
    stopped: BaseException | None,
    own_violations: list[Violation],
) -> tuple[Verdict, str]:
    """Return the verdict of a case and a short reason ("" for a pass).

    Args:
        declared: The checks that the case promised.
        emitted: The checks that it made.
        level: The level of the requirement, from the registry.
        stopped: What ended the case early, if anything.
        own_violations: Always-on rules broken by received frames that this case cites.
    """
    broken = Verdict.FAIL if is_must(level) else Verdict.WARN
    unknown = sorted({check.name for check in emitted} - set(declared))
    if unknown:
        return Verdict.ERROR, f"the case made checks that it did not declare: {', '.join(unknown)}"
    if stopped is not None and not isinstance(stopped, Stopped):
        return Verdict.ERROR, f"{type(stopped).__name__}: {stopped}"
    if isinstance(stopped, CheckFailed):
        if stopped.check not in declared:
            return Verdict.ERROR, f"the case judged {stopped.check!r} without declaring it"
        return broken, f"check {stopped.check!r} does not hold"
    if own_violations:
        first = own_violations[0]
        return broken, f"{first.requirement}: {first.text}"
    if isinstance(stopped, NotApplicable):
        return Verdict.NOT_APPLICABLE, str(stopped)
    if stopped is not None:
        return Verdict.INCONCLUSIVE, str(stopped)
    missing = [name for name in declared if name not in {check.name for check in emitted}]
    if missing:
        return Verdict.INCONCLUSIVE, f"declared checks were not made: {', '.join(missing)}"
    warnings = [check for check in emitted if check.warning]
    if warnings:
        first_warning = warnings[0]
        return (
            Verdict.WARN,
            f"check {first_warning.name!r}: expected {first_warning.expected};"
            f" got {first_warning.actual}",
        )
    return Verdict.PASS, ""


def exit_code(verdicts: list[Verdict], *, ran: int, strict: bool) -> ExitCode:
    """Return the exit code of a run that came to its end."""
    if Verdict.ERROR in verdicts:
        return ExitCode.SUITE_ERROR
    if RED & set(verdicts):
        return ExitCode.NOT_CONFORMANT
    if ran == 0:
        return ExitCode.NOTHING_RAN
    if strict and Verdict.WARN in verdicts:
        return ExitCode.NOT_CONFORMANT
    return ExitCode.CONFORMANT
