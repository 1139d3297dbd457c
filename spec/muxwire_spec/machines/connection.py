"""How a connection ends (chapter 15).

The tables begin at the first octet, beside those of the handshake. OPEN means that no GOAWAY has
been sent or received.
"""

from __future__ import annotations

from muxwire_spec.machines.build import IGNORE, NONE, PASS, breach, go, machine, stay

_SKIP = stay("SKIP", "CLS-002")
_AS_BEFORE = stay("PASS", "CLS-003")
_FAIL = go("FAIL", "CLOSING", "CLS-001")
_ABORT = go("ABORT", "CLOSED", "HBT-006")
_LOST = go("LOSE", "CLOSED", "CLS-010")
_LINGERED = go("CLOSE", "CLOSED", "CLS-002")
_LATE_OPEN = breach("PROTOCOL_ERROR", "CLS-009")
_BELOW = breach("PROTOCOL_ERROR", "CLS-007")
_FAILED = go("CLOSE", "CLOSED", "HSK-010")
_OVERLONG = go("ABORT", "CLOSED", "CLS-006")
_CANCEL_ALL = go("CANCEL_ALL", "CLOSING", "CLS-009")
_ENDING = go("COVER", "ENDING", "CLS-007")
_SMALLEST = stay("COVER", "CLS-007")
_ELSEWHERE = stay("ELSEWHERE", "CLS-008")

WORKER_CONNECTION = machine(
    "WORKER_CONNECTION",
    "A connection, as the worker sees it",
    ("OPEN", "DRAINING", "LEAVING", "CLOSING", "CLOSED"),
    (
        (
            "REQUEST",
            "OPEN",
            (PASS, stay("REFUSE", "CLS-004"), _LATE_OPEN, stay("SKIP", "CLS-004"), NONE),
        ),
        ("FRAME", "any other frame but GOAWAY", (PASS, _AS_BEFORE, _AS_BEFORE, _SKIP, NONE)),
        (
            "GOAWAY_DRAIN",
            "GOAWAY with NO_ERROR",
            (
                go("IGNORE", "LEAVING", "CLS-009"),
                go("IGNORE", "LEAVING", "CLS-009"),
                IGNORE,
                _SKIP,
                NONE,
            ),
        ),
        (
            "GOAWAY_ERROR",
            "GOAWAY with another code",
            (_CANCEL_ALL, _CANCEL_ALL, _CANCEL_ALL, _SKIP, NONE),
        ),
        ("FAULT", "a connection error by any other rule", (_FAIL, _FAIL, _FAIL, NONE, NONE)),
        (
            "REFUSED",
            "the handshake has refused the connection",
            (go("HALF_CLOSE", "CLOSING", "CLS-002"), NONE, NONE, NONE, NONE),
        ),
        (
            "DROPPED",
            "the handshake has failed without an octet",
            (go("CLOSE", "CLOSED"), NONE, NONE, NONE, NONE),
        ),
        (
            "BLOCKED",
            "HBT-006 or DOS-002: the peer does not read",
            (_ABORT, _ABORT, _ABORT, IGNORE, NONE),
        ),
        (
            "LOCAL_DRAIN",
            "local: drain",
            (
                go("DRAIN", "DRAINING", "CLS-011"),
                stay("SHORTEN"),
                stay("DRAIN", "CLS-011"),
                IGNORE,
                IGNORE,
            ),
        ),
        (
            "LAST_ENDED",
            "no request is left",
            (
                IGNORE,
                go("HALF_CLOSE", "CLOSING", "CLS-005"),
                go("HALF_CLOSE", "CLOSING", "CLS-009"),
                NONE,
                NONE,
            ),
        ),
        (
            "GRACE_OVER",
            "the grace is over",
            (NONE, stay("SHUT_DOWN", "CLS-006"), stay("SHUT_DOWN", "CLS-006"), IGNORE, NONE),
        ),
        (
            "CUT_OFF",
            "at most 1 s after that",
            (NONE, _OVERLONG, _OVERLONG, IGNORE, NONE),
        ),
        ("EOF", "end of the stream, or reset", (_LOST, _LOST, _LOST, _LINGERED, NONE)),
        ("LINGERED", "1 s in this state", (NONE, NONE, NONE, _LINGERED, NONE)),
    ),
    broken="CLOSING",
)

CLIENT_CONNECTION = machine(
    "CLIENT_CONNECTION",
    "A connection, as the client sees it",
    ("OPEN", "DRAINING", "LEAVING", "ENDING", "CLOSING", "CLOSED"),
    (
        (
            "FRAME",
            "any frame but GOAWAY",
            (PASS, _AS_BEFORE, _AS_BEFORE, PASS, _SKIP, NONE),
        ),
        (
            "GOAWAY_DRAIN",
            "GOAWAY with NO_ERROR, behind SETTINGS",
            (go("COVER", "DRAINING", "CLS-008"), _SMALLEST, _SMALLEST, _SMALLEST, _SKIP, NONE),
        ),
        (
            "GOAWAY_ERROR",
            "GOAWAY with another code, or in place of SETTINGS",
            (_ENDING, _ENDING, _ENDING, _SMALLEST, _SKIP, NONE),
        ),
        (
            "GOAWAY_BELOW",
            "GOAWAY with last_ordinal below an answered request",
            (_BELOW, _BELOW, _BELOW, _BELOW, _SKIP, NONE),
        ),
        ("FAULT", "a connection error by any other rule", (_FAIL, _FAIL, _FAIL, _FAIL, NONE, NONE)),
        (
            "FAILED",
            "the handshake has failed before the preface",
            (_FAILED, NONE, _FAILED, NONE, NONE, NONE),
        ),
        (
            "BLOCKED",
            "HBT-006 or DOS-002: the peer does not read",
            (_ABORT, _ABORT, _ABORT, _ABORT, IGNORE, NONE),
        ),
        (
            "LOCAL_OPEN",
            "local: open a request",
            (
                PASS,
                _ELSEWHERE,
                stay("ELSEWHERE", "CLS-009"),
                _ELSEWHERE,
                stay("ELSEWHERE"),
                stay("ELSEWHERE"),
            ),
        ),
        (
            "LOCAL_CLOSE",
            "local: close in order",
            (
                go("LEAVE", "LEAVING", "CLS-009"),
                go("LEAVE", "LEAVING", "CLS-009"),
                IGNORE,
                IGNORE,
                IGNORE,
                IGNORE,
            ),
        ),
        (
            "LAST_ENDED",
            "no request is left",
            (
                IGNORE,
                stay("CLOSE_SOON", "CLS-008"),
                go("CLOSE", "CLOSED", "CLS-009"),
                IGNORE,
                NONE,
                NONE,
            ),
        ),
        (
            "DRAINED",
            "2 s after that",
            (NONE, go("CLOSE", "CLOSED", "CLS-008"), NONE, IGNORE, IGNORE, NONE),
        ),
        (
            "EOF",
            "end of the stream, or reset",
            (*(go("LOSE", "CLOSED", "REC-001"),) * 4, _LINGERED, NONE),
        ),
        (
            "LINGERED",
            "1 s in this state",
            (NONE, NONE, NONE, go("LOSE", "CLOSED", "REC-001"), _LINGERED, NONE),
        ),
    ),
    broken="CLOSING",
)
