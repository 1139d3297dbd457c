"""Setting a connection up: what the peer has sent so far (chapter 1).

This runs beside the table of the connection (`machines.connection`), from the first octet on. What
the handshake is through with goes on there: "pass".
"""

from __future__ import annotations

from muxwire_spec.machines.build import NONE, PASS, breach, go, machine, stay

_STATES = ("PREFACE", "SETTINGS", "ACK", "DONE", "FAILED")
_SKIP = stay("SKIP")
_NOT_FIRST = breach("PROTOCOL_ERROR", "HSK-005")
_SECOND_SETTINGS = breach("PROTOCOL_ERROR", "HSK-006")
_SECOND_ACK = breach("PROTOCOL_ERROR", "HSK-007")
_TOO_SLOW = breach("HANDSHAKE_TIMEOUT", "HSK-008")
_APPLY = go("APPLY", "ACK", "HSK-007")
_LISTEN = go("LISTEN", "DONE", "HBT-003")

WORKER_HANDSHAKE = machine(
    "WORKER_HANDSHAKE",
    "The handshake, as the worker sees it",
    _STATES,
    (
        (
            "MAGIC_WRONG",
            "an octet that differs from the magic",
            (go("DROP", "FAILED", "HSK-002"), NONE, NONE, NONE, NONE),
        ),
        (
            "PREFACE_GOOD",
            "a complete preface, version and header size served",
            (go("GREET", "SETTINGS", "HSK-003"), NONE, NONE, NONE, NONE),
        ),
        (
            "PREFACE_UNSERVED",
            "a complete preface, version or header size not served",
            (go("REFUSE", "FAILED", "HSK-004"), NONE, NONE, NONE, NONE),
        ),
        (
            "PREFACE_SURPLUS",
            "a complete, good preface at the connection limit",
            (go("REFUSE", "FAILED", "HSK-011"), NONE, NONE, NONE, NONE),
        ),
        (
            "PUSHED_OUT",
            "it is the oldest of too many pending connections",
            (go("DROP", "FAILED", "HSK-011"), NONE, NONE, NONE, NONE),
        ),
        ("SETTINGS", "SETTINGS", (NONE, _APPLY, _SECOND_SETTINGS, _SECOND_SETTINGS, _SKIP)),
        ("SETTINGS_ACK", "SETTINGS_ACK", (NONE, _NOT_FIRST, _LISTEN, _SECOND_ACK, _SKIP)),
        (
            "FRAME",
            "any other frame",
            (NONE, _NOT_FIRST, stay("PASS", "HSK-009"), PASS, _SKIP),
        ),
        (
            "TIMEOUT",
            "the handshake timeout is over",
            (go("DROP", "FAILED", "HSK-008"), _TOO_SLOW, _TOO_SLOW, NONE, NONE),
        ),
        (
            "LOCAL_DRAIN",
            "local: drain",
            (
                go("DROP", "FAILED", "CLS-011"),
                stay("POSTPONE", "HSK-007"),
                PASS,
                PASS,
                stay("IGNORE"),
            ),
        ),
    ),
    broken="FAILED",
)

CLIENT_HANDSHAKE = machine(
    "CLIENT_HANDSHAKE",
    "The handshake, as the client sees it",
    _STATES,
    (
        (
            "MAGIC_WRONG",
            "an octet that differs from the magic",
            (go("LOSE", "FAILED", "HSK-010"), NONE, NONE, NONE, NONE),
        ),
        (
            "PREFACE_GOOD",
            "a complete preface that accepts",
            (go("ACCEPT", "SETTINGS", "HSK-004"), NONE, NONE, NONE, NONE),
        ),
        (
            "PREFACE_REFUSING",
            "a complete preface that refuses",
            (go("NOT_PROCESSED", "FAILED", "HSK-010"), NONE, NONE, NONE, NONE),
        ),
        (
            "CONNECT_TIMEOUT",
            "the connect timeout is over",
            (go("LOSE", "FAILED", "HSK-010"), NONE, NONE, NONE, NONE),
        ),
        ("SETTINGS", "SETTINGS", (NONE, _APPLY, _SECOND_SETTINGS, _SECOND_SETTINGS, _SKIP)),
        ("SETTINGS_ACK", "SETTINGS_ACK", (NONE, _NOT_FIRST, _LISTEN, _SECOND_ACK, _SKIP)),
        (
            "GOAWAY",
            "GOAWAY",
            (NONE, go("PASS", "FAILED", "HSK-005"), stay("PASS", "HSK-007"), PASS, _SKIP),
        ),
        (
            "FRAME",
            "any other frame",
            (NONE, _NOT_FIRST, stay("PASS", "HSK-007"), PASS, _SKIP),
        ),
        (
            "TIMEOUT",
            "the handshake timeout is over",
            (go("LOSE", "FAILED", "HSK-008"), _TOO_SLOW, _TOO_SLOW, NONE, NONE),
        ),
    ),
    broken="FAILED",
)
