"""A response on its way home: the stream at the router, and at the worker (chapter 21).

At the router it begins before the POST, since a HELLO can overtake the HTTP answer, and the classes
of its outcomes are those of chapter 16. At the worker it begins when the handler is admitted. The
connection that carries it has a table of its own (`callhome_connection`).
"""

from __future__ import annotations

from muxwire_spec.machines.build import IGNORE, NONE, go, machine, stay

_VOID = "VOID"
_BIND = go("BIND", "ACCEPTED", "P0-019")
_REFUSE = stay("REFUSE", "P0-018")
_USED = stay("REFUSE", "P0-019")
_SUCCEED = go("SUCCEED", _VOID, "P0-008")
_FAILED = go("FAILED", _VOID, "P0-019")
_KILLED = go("FAILED", _VOID, "STM-002")
_PARTIAL = go("PARTIAL", _VOID, "P0-019")
_AMBIGUOUS = go("AMBIGUOUS", _VOID, "P0-019")
_DISCARD = stay("DISCARD", "STM-002")
_HOLD = stay("HOLD", "P0-011")

WCH_ROUTER_STREAM = machine(
    "WCH_ROUTER_STREAM",
    "A stream, as the router sees it",
    (
        "UNSENT",
        "POSTED",
        "REGISTERED",
        "ACCEPTED",
        "RESPONDING",
        "KILLED",
        "KILLED_RESPONDING",
        "CANCELLED",
        _VOID,
    ),
    (
        (
            "POSTED",
            "an octet of the POST has been handed to the transport",
            (
                go("COUNT", "POSTED", "REC-005"),
                NONE,
                NONE,
                NONE,
                NONE,
                NONE,
                NONE,
                NONE,
                NONE,
            ),
        ),
        (
            "ADMITTED",
            "202",
            (
                NONE,
                go("EXPECT", "REGISTERED", "P0-018"),
                IGNORE,
                stay("EXPECT", "P0-018"),
                IGNORE,
                IGNORE,
                IGNORE,
                IGNORE,
                IGNORE,
            ),
        ),
        (
            "REFUSED",
            "another answer, with wmx-not-processed",
            (
                NONE,
                go("NOT_PROCESSED", _VOID, "P0-019"),
                IGNORE,
                IGNORE,
                IGNORE,
                IGNORE,
                IGNORE,
                go("FORGET", _VOID, "P0-018"),
                IGNORE,
            ),
        ),
        (
            "UNCLEAR",
            "another answer without it, or none",
            (
                go("NOT_SENT", _VOID, "P0-019"),
                _AMBIGUOUS,
                IGNORE,
                IGNORE,
                IGNORE,
                IGNORE,
                IGNORE,
                IGNORE,
                IGNORE,
            ),
        ),
        (
            "HELLO",
            "HELLO with its token",
            (NONE, _BIND, _BIND, _BIND, _USED, _REFUSE, _USED, _REFUSE, _REFUSE),
        ),
        (
            "RESPONSE",
            "a RESPONSE that is no terminal",
            (
                NONE,
                NONE,
                NONE,
                go("DELIVER", "RESPONDING"),
                stay("DELIVER"),
                go("DISCARD", "KILLED_RESPONDING", "STM-002"),
                _DISCARD,
                NONE,
                NONE,
            ),
        ),
        (
            "SUCCESS",
            "a success terminal",
            (NONE, NONE, NONE, _SUCCEED, _SUCCEED, _KILLED, _KILLED, NONE, NONE),
        ),
        (
            "ERROR",
            "an error terminal without NOT_PROCESSED",
            (NONE, NONE, NONE, _FAILED, _FAILED, _KILLED, _KILLED, NONE, NONE),
        ),
        (
            "ERROR_NOT_PROCESSED",
            "an error terminal with NOT_PROCESSED, the first RESPONSE",
            (
                NONE,
                NONE,
                NONE,
                go("NOT_PROCESSED", _VOID, "P0-019"),
                NONE,
                _KILLED,
                NONE,
                NONE,
                NONE,
            ),
        ),
        (
            "LOST",
            "its connection ends or is closed, while the token lives",
            (
                NONE,
                NONE,
                NONE,
                go("EXPECT", "REGISTERED", "P0-019"),
                _PARTIAL,
                _AMBIGUOUS,
                _PARTIAL,
                NONE,
                NONE,
            ),
        ),
        (
            "LOST_LATE",
            "its connection ends or is closed, later",
            (NONE, NONE, NONE, _AMBIGUOUS, _PARTIAL, _AMBIGUOUS, _PARTIAL, NONE, NONE),
        ),
        (
            "EXPIRED",
            "the life of the token is over",
            (
                NONE,
                NONE,
                go("AMBIGUOUS", _VOID, "P0-018"),
                IGNORE,
                IGNORE,
                IGNORE,
                IGNORE,
                go("FORGET", _VOID, "P0-018"),
                NONE,
            ),
        ),
        (
            "LOCAL_STOP",
            "local: stop",
            (
                _HOLD,
                _HOLD,
                _HOLD,
                stay("SEND", "P0-011"),
                stay("SEND", "P0-011"),
                IGNORE,
                IGNORE,
                IGNORE,
                IGNORE,
            ),
        ),
        (
            "LOCAL_KILL",
            "local: kill, by the caller, a limit or the deadline",
            (
                go("NOT_SENT", _VOID, "P0-018"),
                go("AMBIGUOUS", "CANCELLED", "P0-018"),
                go("AMBIGUOUS", "CANCELLED", "P0-018"),
                go("KILL", "KILLED", "P0-011"),
                go("KILL", "KILLED_RESPONDING", "P0-011"),
                IGNORE,
                IGNORE,
                IGNORE,
                IGNORE,
            ),
        ),
        (
            "UNANSWERED",
            "the patience after that KILL is over",
            (NONE, NONE, NONE, NONE, NONE, _AMBIGUOUS, _PARTIAL, NONE, IGNORE),
        ),
    ),
)

_GONE = "GONE"
_CANCEL = go("CANCEL", _GONE, "P0-005")

WCH_WORKER_STREAM = machine(
    "WCH_WORKER_STREAM",
    "A stream, as the worker sees it",
    ("QUEUED", "GREETING", "GREETING_KILLED", "STREAMING", "STREAMING_KILLED", _GONE),
    (
        (
            "LENT",
            "a connection is at hand",
            (go("SEND", "GREETING", "P0-003"), NONE, NONE, NONE, NONE, NONE),
        ),
        (
            "UNPLACED",
            "10 s without a connection",
            (go("CANCEL", _GONE, "P0-015"), NONE, NONE, NONE, NONE, NONE),
        ),
        (
            "FAILED",
            "an attempt fails, and another is allowed",
            (
                stay("AGAIN", "P0-005"),
                go("AGAIN", "QUEUED", "P0-005"),
                go("FORGET", _GONE, "P0-011"),
                NONE,
                NONE,
                NONE,
            ),
        ),
        (
            "FAILED_LAST",
            "an attempt fails, and none is left",
            (_CANCEL, _CANCEL, go("FORGET", _GONE, "P0-011"), NONE, NONE, NONE),
        ),
        (
            "ACCEPT",
            "ACCEPT",
            (
                NONE,
                go("STREAM", "STREAMING", "P0-003"),
                go("STREAM", "STREAMING_KILLED", "P0-011"),
                NONE,
                NONE,
                NONE,
            ),
        ),
        (
            "REJECT",
            "REJECT",
            (
                NONE,
                go("CANCEL", _GONE, "P0-004"),
                go("FORGET", _GONE, "P0-004"),
                NONE,
                NONE,
                NONE,
            ),
        ),
        (
            "STOP",
            "STOP",
            (
                NONE,
                stay("NOTIFY_STOP", "P0-011"),
                IGNORE,
                stay("NOTIFY_STOP", "P0-011"),
                IGNORE,
                NONE,
            ),
        ),
        (
            "KILL",
            "KILL",
            (
                NONE,
                go("CANCEL", "GREETING_KILLED", "P0-011"),
                IGNORE,
                go("CANCEL", "STREAMING_KILLED", "P0-011"),
                IGNORE,
                NONE,
            ),
        ),
        (
            "DEADLINE",
            "the deadline passes, or the grace of a drain",
            (
                stay("CANCEL", "P0-007"),
                stay("CANCEL", "P0-007"),
                IGNORE,
                stay("CANCEL", "P0-007"),
                IGNORE,
                NONE,
            ),
        ),
        (
            "TERMINAL",
            "the terminal is written",
            (
                NONE,
                NONE,
                NONE,
                go("FINISH", _GONE, "P0-007"),
                go("FINISH", _GONE, "P0-007"),
                NONE,
            ),
        ),
        (
            "LOST",
            "its connection ends or is closed, behind the ACCEPT",
            (
                NONE,
                NONE,
                NONE,
                go("FORGET", _GONE, "P0-006"),
                go("FORGET", _GONE, "P0-006"),
                NONE,
            ),
        ),
    ),
)
