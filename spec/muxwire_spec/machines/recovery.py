"""A request at the client, over all its attempts (chapter 16).

An attempt runs from WAITING to RULING, where it has a class; what the class permits is not in this
table but in `muxwire_spec.recovery`. Frames and ends are those of the present attempt.
"""

from __future__ import annotations

from muxwire_spec.machines.build import IGNORE, NONE, breach, go, machine, stay

_NOT_PROCESSED_LATE = breach("PROTOCOL_ERROR", "ADM-003")
_BELOW = breach("PROTOCOL_ERROR", "CLS-007")
_MOVE = stay("NOT_SENT", "REC-002")
_REPORT = go("REPORT", "DONE", "REC-005")
_LATE = (NONE, IGNORE, IGNORE)
"""In RULING, BACKING_OFF and DONE: the connection of a former attempt is no matter any more."""
_OVER = (NONE, NONE, IGNORE)
"""The same for a frame, which can still come when the wait for a terminal was given up."""

RECOVERY = machine(
    "RECOVERY",
    "A request over all its attempts, at the client",
    (
        "WAITING",
        "SENT",
        "RESPONDING",
        "KILLED",
        "KILLED_RESPONDING",
        "RULING",
        "BACKING_OFF",
        "DONE",
    ),
    (
        (
            "OPENED",
            "its OPEN has been handed over completely",
            (go("COUNT", "SENT", "REC-005"), NONE, NONE, NONE, NONE, NONE, NONE, NONE),
        ),
        (
            "RESPONSE",
            "a RESPONSE that is no terminal",
            (
                NONE,
                go("DELIVER", "RESPONDING"),
                stay("DELIVER"),
                go("DISCARD", "KILLED_RESPONDING", "STM-002"),
                stay("DISCARD", "STM-002"),
                *_OVER,
            ),
        ),
        (
            "SUCCESS",
            "a success terminal",
            (
                NONE,
                go("SUCCEED", "DONE"),
                go("SUCCEED", "DONE"),
                go("FAILED", "DONE", "STM-002"),
                go("FAILED", "DONE", "STM-002"),
                *_OVER,
            ),
        ),
        (
            "ERROR",
            "an error terminal without NOT_PROCESSED",
            (
                NONE,
                go("FAILED", "RULING", "REC-002"),
                go("FAILED", "RULING", "REC-002"),
                go("FAILED", "DONE", "STM-002"),
                go("FAILED", "DONE", "STM-002"),
                *_OVER,
            ),
        ),
        (
            "ERROR_NOT_PROCESSED",
            "an error terminal with NOT_PROCESSED",
            (
                NONE,
                go("NOT_PROCESSED", "RULING", "REC-002"),
                _NOT_PROCESSED_LATE,
                go("FAILED", "DONE", "STM-002"),
                _NOT_PROCESSED_LATE,
                *_OVER,
            ),
        ),
        (
            "NOT_COVERED",
            "GOAWAY with last_ordinal below its ordinal",
            (
                _MOVE,
                go("NOT_PROCESSED", "RULING", "REC-002"),
                _BELOW,
                go("NOT_PROCESSED", "DONE", "REC-002"),
                _BELOW,
                *_LATE,
            ),
        ),
        (
            "COVERED",
            "any other GOAWAY",
            (_MOVE, IGNORE, IGNORE, IGNORE, IGNORE, *_LATE),
        ),
        (
            "REFUSED",
            "a refusing preface",
            (
                _MOVE,
                go("NOT_PROCESSED", "RULING", "HSK-010"),
                NONE,
                go("NOT_PROCESSED", "DONE", "HSK-010"),
                NONE,
                *_LATE,
            ),
        ),
        (
            "LOST",
            "the connection ends",
            (
                _MOVE,
                go("AMBIGUOUS", "RULING", "REC-002"),
                go("PARTIAL", "RULING", "REC-002"),
                go("AMBIGUOUS", "DONE", "REC-002"),
                go("PARTIAL", "DONE", "REC-002"),
                *_LATE,
            ),
        ),
        (
            "LOCAL_KILL",
            "local: kill, by the caller or a limit",
            (
                go("REPORT", "DONE", "FAI-001"),
                go("KILL", "KILLED"),
                go("KILL", "KILLED_RESPONDING"),
                IGNORE,
                IGNORE,
                NONE,
                go("REPORT", "DONE", "STM-002"),
                IGNORE,
            ),
        ),
        (
            "DEADLINE",
            "the deadline passes",
            (_REPORT, IGNORE, IGNORE, IGNORE, IGNORE, NONE, _REPORT, IGNORE),
        ),
        (
            "OVERDUE",
            "0.5 s to 1 s after the deadline",
            (
                NONE,
                go("KILL", "KILLED", "REC-005"),
                go("KILL", "KILLED_RESPONDING", "REC-005"),
                IGNORE,
                IGNORE,
                NONE,
                NONE,
                IGNORE,
            ),
        ),
        (
            "UNANSWERED",
            "1 s after that KILL",
            (
                NONE,
                NONE,
                NONE,
                go("AMBIGUOUS", "DONE", "REC-005"),
                go("PARTIAL", "DONE", "REC-005"),
                NONE,
                NONE,
                IGNORE,
            ),
        ),
        (
            "UNPLACED",
            "10 s without a chance to begin an attempt",
            (_REPORT, NONE, NONE, NONE, NONE, NONE, NONE, IGNORE),
        ),
        (
            "RETRY",
            "class, attempts, deadline and budget allow a retry",
            (
                NONE,
                NONE,
                NONE,
                NONE,
                NONE,
                go("BACK_OFF", "BACKING_OFF", "REC-005"),
                NONE,
                NONE,
            ),
        ),
        (
            "NO_RETRY",
            "class, attempts or deadline forbid a retry",
            (NONE, NONE, NONE, NONE, NONE, go("REPORT", "DONE", "REC-002"), NONE, NONE),
        ),
        (
            "NO_BUDGET",
            "the budget forbids a retry",
            (NONE, NONE, NONE, NONE, NONE, go("REPORT", "DONE", "REC-006"), NONE, NONE),
        ),
        (
            "DELAY_OVER",
            "the delay is over",
            (NONE, NONE, NONE, NONE, NONE, NONE, go("AGAIN", "WAITING", "REC-007"), NONE),
        ),
    ),
)
