"""A call-home connection at both ends (chapter 21).

A connection carries one stream at a time, which has a table of its own (`callhome_stream`): "pass".
WCH/1 has no GOAWAY, so what breaks a rule is no input of its own but FAULT, and ends in a close
without a frame (P0-012).
"""

from __future__ import annotations

from muxwire_spec.machines.build import IGNORE, NONE, PASS, go, machine, stay

_CLOSED = "CLOSED"
_PONG = stay("PONG", "P0-014")
_UNUSABLE = go("CLOSE", _CLOSED, "P0-010")
_REJOIN = go("BREAK", _CLOSED, "P0-005")
_CUT = go("LOSE", _CLOSED, "P0-006")
_OFFENCE = go("LOSE", _CLOSED, "P0-012")
_LATE = go("CLOSE", _CLOSED, "P0-012")
_SILENT = go("CLOSE", _CLOSED, "P0-014")
_STALE = stay("IGNORE", "P0-011")
_STREAM_STATES = (_UNUSABLE, _REJOIN, _OFFENCE, _LATE)
"""A frame that makes no sense there, in IDLE, HELLO_SENT, STREAMING and ENDED."""

WCH_WORKER_CONNECTION = machine(
    "WCH_WORKER_CONNECTION",
    "A call-home connection, as the worker sees it",
    ("CONNECTING", "IDLE", "HELLO_SENT", "STREAMING", "ENDED", _CLOSED),
    (
        (
            "PREFACE_GOOD",
            "a complete preface that accepts",
            (go("ACCEPT", "IDLE", "P0-002"), NONE, NONE, NONE, NONE, NONE),
        ),
        (
            "PREFACE_BAD",
            "octets that are no preface of WCH/1, or a complete preface that refuses",
            (go("CLOSE", _CLOSED, "P0-002"), NONE, NONE, NONE, NONE, NONE),
        ),
        (
            "CONNECT_TIMEOUT",
            "the dial fails, or there is no complete preface after 5 s",
            (go("CLOSE", _CLOSED, "P0-002"), NONE, NONE, NONE, NONE, NONE),
        ),
        (
            "LOCAL_HELLO",
            "local: a stream takes the connection",
            (NONE, go("SEND", "HELLO_SENT", "P0-003"), NONE, NONE, NONE, NONE),
        ),
        (
            "ACCEPT",
            "ACCEPT for the stream",
            (NONE, _UNUSABLE, go("PASS", "STREAMING", "P0-003"), _OFFENCE, _LATE, NONE),
        ),
        (
            "REJECT",
            "REJECT for the stream",
            (NONE, _UNUSABLE, go("PASS", "IDLE", "P0-004"), _OFFENCE, _LATE, NONE),
        ),
        (
            "DONE",
            "DONE for the stream",
            (NONE, _UNUSABLE, _REJOIN, _OFFENCE, go("FREE", "IDLE", "P0-009"), NONE),
        ),
        (
            "STOP",
            "STOP for the stream",
            (NONE, NONE, stay("PASS", "P0-011"), stay("PASS", "P0-011"), _STALE, NONE),
        ),
        (
            "KILL",
            "KILL for the stream",
            (NONE, NONE, stay("PASS", "P0-011"), stay("PASS", "P0-011"), _STALE, NONE),
        ),
        (
            "STALE",
            "STOP or KILL for any other id",
            (NONE, _STALE, _STALE, _STALE, _STALE, NONE),
        ),
        ("PING", "PING", (NONE, _PONG, _PONG, _PONG, _PONG, NONE)),
        (
            "SKIPPED",
            "PONG, or an ignorable frame",
            (NONE, IGNORE, IGNORE, IGNORE, IGNORE, NONE),
        ),
        (
            "FAULT",
            "any other frame or id, or octets that break a rule of framing",
            (NONE, *_STREAM_STATES, NONE),
        ),
        (
            "EOF",
            "end of the stream, or reset",
            (
                go("CLOSE", _CLOSED, "P0-002"),
                _UNUSABLE,
                _REJOIN,
                _CUT,
                go("CLOSE", _CLOSED, "P0-008"),
                NONE,
            ),
        ),
        (
            "SILENT",
            "own idle timeout without an octet, or for one frame",
            (
                NONE,
                _SILENT,
                _REJOIN,
                go("LOSE", _CLOSED, "P0-014"),
                _SILENT,
                NONE,
            ),
        ),
        (
            "STALLED",
            "the router takes no octet for the smaller of both idle timeouts",
            (
                NONE,
                go("ABORT", _CLOSED, "P0-013"),
                _REJOIN,
                go("ABORT", _CLOSED, "P0-013"),
                go("ABORT", _CLOSED, "P0-013"),
                NONE,
            ),
        ),
        (
            "UNANSWERED",
            "5 s in HELLO_SENT",
            (NONE, NONE, _REJOIN, NONE, NONE, NONE),
        ),
        (
            "TERMINAL",
            "local: the terminal is written",
            (NONE, NONE, NONE, go("FINISH", "ENDED", "P0-007"), NONE, NONE),
        ),
        (
            "UNCONFIRMED",
            "5 s in ENDED",
            (NONE, NONE, NONE, NONE, go("CLOSE", _CLOSED, "P0-008"), NONE),
        ),
        (
            "LOCAL_GIVE_UP",
            "local: no attempt of the stream is left, or its handler was killed",
            (NONE, NONE, go("CLOSE", _CLOSED, "P0-005"), NONE, NONE, NONE),
        ),
        (
            "LOCAL_RETIRE",
            "local: retire it, for its age or for a drain",
            (
                go("CLOSE", _CLOSED, "P0-020"),
                go("CLOSE", _CLOSED, "P0-015"),
                NONE,
                NONE,
                NONE,
                NONE,
            ),
        ),
    ),
)

_DROP = go("DROP", _CLOSED, "P0-002")
_BROKEN = go("LOSE", _CLOSED, "P0-012")
_BROKEN_IDLE = go("CLOSE", _CLOSED, "P0-012")

WCH_ROUTER_CONNECTION = machine(
    "WCH_ROUTER_CONNECTION",
    "A call-home connection, as the router sees it",
    ("PREFACE", "IDLE", "STREAMING", _CLOSED),
    (
        (
            "MAGIC_WRONG",
            "octets that are no preface of WCH/1",
            (_DROP, NONE, NONE, NONE),
        ),
        (
            "PREFACE_GOOD",
            "a complete preface, version and header size served",
            (go("ANSWER", "IDLE", "P0-002"), NONE, NONE, NONE),
        ),
        (
            "PREFACE_UNSERVED",
            "a complete preface, version or header size not served",
            (go("REFUSE", _CLOSED, "P0-002"), NONE, NONE, NONE),
        ),
        (
            "TIMEOUT",
            "5 s without a complete preface",
            (_DROP, NONE, NONE, NONE),
        ),
        (
            "HELLO_KNOWN",
            "HELLO of a stream without a RESPONSE so far, with its token",
            (NONE, go("BIND", "STREAMING", "P0-019"), _BROKEN, NONE),
        ),
        (
            "HELLO_CANCELLED",
            "HELLO of a stream whose caller has gone, with its token",
            (NONE, stay("REFUSE", "P0-018"), _BROKEN, NONE),
        ),
        (
            "HELLO_UNKNOWN",
            "HELLO with an unknown id, or a token that is wrong, used or void",
            (NONE, stay("REFUSE", "P0-018"), _BROKEN, NONE),
        ),
        (
            "HELLO_THIRD",
            "the same for the third time on this connection",
            (NONE, go("REFUSE", _CLOSED, "P0-018"), _BROKEN, NONE),
        ),
        (
            "RESPONSE",
            "RESPONSE of the stream that does not end it",
            (NONE, NONE, PASS, NONE),
        ),
        (
            "TERMINAL",
            "the terminal of the stream",
            (NONE, NONE, go("CONFIRM", "IDLE", "P0-008"), NONE),
        ),
        ("PING", "PING", (NONE, _PONG, _PONG, NONE)),
        ("SKIPPED", "PONG, or an ignorable frame", (NONE, IGNORE, IGNORE, NONE)),
        (
            "FAULT",
            "any other frame or id, a gap in seq, or octets that break a rule of framing",
            (NONE, _BROKEN_IDLE, _BROKEN, NONE),
        ),
        (
            "EOF",
            "end of the stream, or reset",
            (
                go("CLOSE", _CLOSED, "P0-002"),
                go("CLOSE", _CLOSED, "P0-014"),
                go("LOSE", _CLOSED, "P0-019"),
                NONE,
            ),
        ),
        (
            "SILENT",
            "own idle timeout without an octet while reading, or for one frame",
            (NONE, _SILENT, go("LOSE", _CLOSED, "P0-014"), NONE),
        ),
        (
            "STALLED",
            "the worker takes no octet for the own idle timeout",
            (NONE, go("ABORT", _CLOSED, "P0-014"), go("ABORT", _CLOSED, "P0-014"), NONE),
        ),
        (
            "SUPERSEDED",
            "another connection has taken the stream",
            (NONE, NONE, go("CLOSE", _CLOSED, "P0-019"), NONE),
        ),
        (
            "LOCAL_CLOSE",
            "local: close, or no patience left with a killed stream",
            (_DROP, go("CLOSE", _CLOSED), go("LOSE", _CLOSED, "P0-019"), NONE),
        ),
    ),
)
