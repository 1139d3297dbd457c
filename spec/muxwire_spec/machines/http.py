"""A request over HTTP at the router, from its first octet to the end of the body (chapter 22)."""

from __future__ import annotations

from muxwire_spec.machines.build import IGNORE, NONE, go, machine, stay

_OVER = "OVER"
_AMBIGUOUS = go("AMBIGUOUS", _OVER, "P1-020")
_PARTIAL = go("PARTIAL", _OVER, "P1-020")
_FAILED = go("FAILED", _OVER, "P1-011")
_KILLED = go("FAILED", _OVER, "P1-013")
_LOST = (_AMBIGUOUS, _PARTIAL, _PARTIAL)
"""In HEADED, ITEMS and ENDING: nothing that is read from here on can make a success of it."""

HTTP_STREAM = machine(
    "HTTP_STREAM",
    "A request over HTTP, as the router sees it",
    ("UNSENT", "SENT", "HEADED", "ITEMS", "ENDING", _OVER),
    (
        (
            "POSTED",
            "an octet of the request has been handed to the transport",
            (go("COUNT", "SENT", "REC-005"), NONE, NONE, NONE, NONE, NONE),
        ),
        (
            "STARTED",
            "200 with a Content-Type that was asked for",
            (NONE, go("IGNORE", "HEADED", "P1-003"), NONE, NONE, NONE, NONE),
        ),
        (
            "REFUSED",
            "another answer, with wmx-not-processed",
            (NONE, go("NOT_PROCESSED", _OVER, "P1-015"), NONE, NONE, NONE, NONE),
        ),
        (
            "UNCLEAR",
            "another answer without it, or none",
            (
                go("NOT_SENT", _OVER, "P1-020"),
                _AMBIGUOUS,
                NONE,
                NONE,
                NONE,
                IGNORE,
            ),
        ),
        (
            "ITEM",
            "an item with the expected seq",
            (
                NONE,
                NONE,
                go("DELIVER", "ITEMS", "P1-009"),
                stay("DELIVER", "P1-009"),
                NONE,
                NONE,
            ),
        ),
        (
            "DONE",
            "done, with the right number of items",
            (
                NONE,
                NONE,
                go("AWAIT_END", "ENDING", "P1-020"),
                go("AWAIT_END", "ENDING", "P1-020"),
                NONE,
                NONE,
            ),
        ),
        (
            "ERROR",
            "error, with the right number of items",
            (NONE, NONE, _FAILED, _FAILED, NONE, NONE),
        ),
        (
            "MISCOUNT",
            "done or error with another number of items",
            (NONE, NONE, _PARTIAL, _PARTIAL, NONE, NONE),
        ),
        (
            "SURPLUS",
            "an item or a terminal event behind done",
            (NONE, NONE, NONE, NONE, _PARTIAL, NONE),
        ),
        (
            "FAULT",
            "octets that are not of the format, or a gap in seq",
            (NONE, NONE, *_LOST, NONE),
        ),
        (
            "END",
            "the body ends cleanly",
            (NONE, NONE, _AMBIGUOUS, _PARTIAL, go("SUCCEED", _OVER, "P1-010"), IGNORE),
        ),
        (
            "CUT",
            "the body or the connection ends in any other way",
            (NONE, NONE, *_LOST, IGNORE),
        ),
        (
            "SILENT",
            "no octet for too long while reading",
            (
                NONE,
                go("AMBIGUOUS", _OVER, "P1-021"),
                go("AMBIGUOUS", _OVER, "P1-021"),
                go("PARTIAL", _OVER, "P1-021"),
                NONE,
                NONE,
            ),
        ),
        (
            "UNENDED",
            "2 s in ENDING",
            (NONE, NONE, NONE, NONE, _PARTIAL, NONE),
        ),
        (
            "LOCAL_KILL",
            "local: kill, by the caller, a limit or the deadline",
            (
                go("NOT_SENT", _OVER, "P1-013"),
                _KILLED,
                _KILLED,
                _KILLED,
                _KILLED,
                IGNORE,
            ),
        ),
    ),
)
