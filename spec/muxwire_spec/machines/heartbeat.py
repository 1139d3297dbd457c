"""Liveness, a table for each direction (chapter 13).

HEARTBEAT_IN watches what the peer sends, HEARTBEAT_OUT what this side owes and whether it can be
written. Both count octets.
"""

from __future__ import annotations

from muxwire_spec.machines.build import IGNORE, NONE, breach, go, machine, stay

_SILENCE = breach("HEARTBEAT_TIMEOUT", "HBT-003")
_DRIBBLE = breach("HEARTBEAT_TIMEOUT", "FRM-013")
_OFF = go("OFF", "OVER")
_RESTART = stay("RESTART", "HBT-004")

HEARTBEAT_IN = machine(
    "HEARTBEAT_IN",
    "What the peer sends",
    ("DEAF", "DEAF_FRAME", "LISTENING", "LISTENING_FRAME", "OVER"),
    (
        ("OCTET", "an octet arrives", (IGNORE, IGNORE, _RESTART, _RESTART, IGNORE)),
        (
            "FRAME_BEGUN",
            "it is the first octet of a frame",
            (
                go("BEGIN", "DEAF_FRAME", "FRM-013"),
                NONE,
                go("BEGIN", "LISTENING_FRAME", "FRM-013"),
                NONE,
                IGNORE,
            ),
        ),
        (
            "FRAME_COMPLETE",
            "it is the last octet of a frame",
            (NONE, go("END", "DEAF"), NONE, go("END", "LISTENING"), IGNORE),
        ),
        (
            "SET_UP",
            "the frame was SETTINGS_ACK",
            (go("LISTEN", "LISTENING", "HBT-003"), NONE, NONE, NONE, IGNORE),
        ),
        (
            "SILENCE",
            "own IDLE_TIMEOUT_MS without an octet",
            (NONE, NONE, _SILENCE, _SILENCE, NONE),
        ),
        (
            "DRIBBLE",
            "own IDLE_TIMEOUT_MS since the frame began",
            (NONE, _DRIBBLE, NONE, _DRIBBLE, NONE),
        ),
        ("END", "the connection is ending", (_OFF, _OFF, _OFF, _OFF, IGNORE)),
    ),
    broken="OVER",
)

_PONG = stay("PONG", "HBT-002")
_STRAY = stay("GLITCH", "DOS-001")
_STUCK = go("ABORT", "OVER", "HBT-006")

HEARTBEAT_OUT = machine(
    "HEARTBEAT_OUT",
    "What this side sends",
    ("FREE", "FREE_PENDING", "OBLIGED", "OBLIGED_PENDING", "OVER"),
    (
        (
            "SETTINGS",
            "the peer's SETTINGS are applied",
            (
                go("RESTART", "OBLIGED", "HBT-001"),
                go("RESTART", "OBLIGED_PENDING", "HBT-001"),
                NONE,
                NONE,
                IGNORE,
            ),
        ),
        (
            "PENDING",
            "there is output to be written",
            (
                go("BEGIN", "FREE_PENDING", "HBT-006"),
                IGNORE,
                go("BEGIN", "OBLIGED_PENDING", "HBT-006"),
                IGNORE,
                IGNORE,
            ),
        ),
        (
            "OCTET",
            "an octet is written",
            (NONE, stay("RESTART", "HBT-006"), NONE, stay("RESTART", "HBT-001"), IGNORE),
        ),
        (
            "FLUSHED",
            "all output is written",
            (NONE, go("END", "FREE"), NONE, go("END", "OBLIGED"), IGNORE),
        ),
        (
            "HALF",
            "half of the peer's IDLE_TIMEOUT_MS without an octet written",
            (NONE, NONE, stay("PING", "HBT-001"), IGNORE, NONE),
        ),
        (
            "STUCK",
            "own IDLE_TIMEOUT_MS with output pending and no octet written",
            (NONE, _STUCK, NONE, _STUCK, NONE),
        ),
        ("PING", "a PING arrives", (NONE, NONE, _PONG, _PONG, IGNORE)),
        (
            "PONG",
            "a PONG arrives that answers a PING",
            (NONE, NONE, stay("IGNORE", "HBT-007"), stay("IGNORE", "HBT-007"), IGNORE),
        ),
        ("PONG_STRAY", "a PONG arrives that answers nothing", (NONE, NONE, _STRAY, _STRAY, IGNORE)),
        (
            "LOCAL_PING",
            "local: PING, fewer than 8 unanswered",
            (stay("MISUSE"), stay("MISUSE"), stay("PING"), stay("PING"), IGNORE),
        ),
        (
            "LOCAL_PING_SURPLUS",
            "local: PING, 8 unanswered",
            (
                stay("MISUSE"),
                stay("MISUSE"),
                stay("MISUSE", "HBT-007"),
                stay("MISUSE", "HBT-007"),
                IGNORE,
            ),
        ),
        ("END", "the connection is ending", (_OFF, _OFF, _OFF, _OFF, IGNORE)),
    ),
    broken="OVER",
)
