"""Conversations with a clock (vectors/timed). Times are in milliseconds.

The clock starts when the worker accepts the connection, or when the client begins its dial. All
octets arrive the moment they are sent.
"""

from __future__ import annotations

import itertools
import json

from muxwire_spec.vectors.build import END, META, frame, opening
from muxwire_spec.vectors.conversation import (
    ACK,
    GREETING,
    OFFER,
    PING,
    PONG,
    SUCCESS,
    Conversation,
    Step,
    a_frame,
    a_preface,
    a_response,
    an_error,
    conversation,
    data,
    end,
    expect,
    fence,
    go_away,
    hello,
    kill,
    open_,
    orderly,
    receive,
    rid,
    setup,
    update,
)

_HANDSHAKE = {"handshake_timeout_ms": 2_000}
_IDLE = {"IDLE_TIMEOUT_MS": 3_000}


def _params(**values: int | bool) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()


def _generated(index: int) -> bytes:
    return index.to_bytes(8) + bytes((index + j) % 256 for j in range(8))


def _drip(octets: bytes, start: int, step: int, requirement: str) -> tuple[Step, ...]:
    """Return octets that arrive one at a time."""
    return tuple(
        receive(requirement, octets[i : i + 1], at=start + i * step) for i in range(len(octets))
    )


HANDSHAKE: tuple[Conversation, ...] = (
    conversation(
        "silent-connection",
        "A connection that says nothing ends without an octet",
        end("HSK-008", kinds="SILENT", after=2_000, by=4_000),
        config=_HANDSHAKE,
    ),
    conversation(
        "preface-octet-by-octet",
        "Octets that keep coming do not extend the handshake timeout",
        *_drip(OFFER[:8], 0, 240, "HSK-008"),
        end("HSK-008", kinds="SILENT", after=2_000, by=4_000),
        config=_HANDSHAKE,
    ),
    conversation(
        "no-settings",
        "A preface and nothing behind it",
        receive("HSK-003", OFFER, at=100),
        expect("HSK-003 HSK-005", a_preface(), a_frame("SETTINGS"), ordered=True, by=2_000),
        end("HSK-008", last=0, also="HSK-007", after=2_000, by=4_000),
        config=_HANDSHAKE,
    ),
    conversation(
        "no-settings-ack",
        "A client that works but does not acknowledge the worker's SETTINGS",
        receive("HSK-009", OFFER, setup(), open_(1, "echo", b"hi"), at=0),
        expect("HSK-009", *GREETING, a_response(1, b"hi", end=SUCCESS), by=1_000),
        *fence(at=1_500),
        end("HSK-008", last=1, after=2_000, by=4_000),
        config=_HANDSHAKE,
    ),
    conversation(
        "handshake-just-in-time",
        "The last octet of SETTINGS_ACK arrives before the timeout is over",
        receive("HSK-008", OFFER, setup(), ACK[:31], at=0),
        expect("HSK-008", *GREETING, ordered=True, by=1_000),
        receive("HSK-008", ACK[31:], at=1_900),
        *fence("HSK-008", at=4_100),
        config=_HANDSHAKE,
    ),
)

_TICK = update(0, 1)
"""Octets that ask for no answer: a limit that raises nothing."""

HEARTBEAT: tuple[Conversation, ...] = (
    conversation(
        "heartbeat-of-the-peers-timeout",
        "The client announces 1 s: the worker sends something every 500 ms",
        *hello(at=0, IDLE_TIMEOUT_MS=1_000),
        *(expect("HBT-001", a_frame("PING"), by=500 * n) for n in range(1, 6)),
        config=_IDLE,
    ),
    conversation(
        "heartbeat-without-pongs",
        "Octets without a PONG are enough, also for more than eight PINGs",
        *hello(at=0, IDLE_TIMEOUT_MS=1_000),
        *itertools.chain.from_iterable(
            (
                expect("HBT-001 HBT-007", a_frame("PING"), by=500 * n),
                receive("HBT-005", _TICK, at=500 * n),
            )
            for n in range(1, 13)
        ),
        *fence("HBT-005", at=6_100),
        config=_IDLE,
    ),
    conversation(
        "idle-timeout",
        "Silence after the handshake",
        *hello(at=100),
        end("HBT-003", last=0, after=3_100, by=5_100),
        config=_IDLE,
    ),
    conversation(
        "idle-timeout-with-a-running-request",
        "Requests do not suspend the idle timeout; octets do",
        *hello(at=0),
        receive("HBT-004", open_(1, "sleep", _params(ms=60_000)), at=1_000),
        receive("HBT-004", _TICK, at=3_900),
        *fence("HBT-004", at=6_800),
        end("HBT-003", also="HBT-004 CLS-001", last=1, after=9_800, by=11_800),
        config=_IDLE,
    ),
    conversation(
        "octets-of-a-frame-are-life",
        "A frame of 80 octets that takes 2.9 s, twice, and is complete in time",
        *hello(at=0),
        *(
            step
            for start in (2_000, 5_000)
            for step in (
                receive("HBT-004", open_(start, "echo", b"x" * 20)[:50], at=start),
                receive("HBT-004", open_(start, "echo", b"x" * 20)[50:], at=start + 2_900),
                expect(
                    "HBT-004 FRM-011",
                    a_response(start, b"x" * 20, end=SUCCESS),
                    by=start + 4_900,
                ),
            )
        ),
        config=_IDLE,
    ),
    conversation(
        "dribble",
        "One frame, an octet every 500 ms: it is late, although octets keep coming",
        *hello(at=0),
        *_drip(PING[:6], 500, 500, "FRM-013"),
        end("FRM-013", also="HBT-004", last=0, after=3_500, by=5_500),
        config=_IDLE,
    ),
)

DEADLINES: tuple[Conversation, ...] = (
    conversation(
        "deadline",
        "timeout_ms passes while the handler runs",
        *hello(at=0),
        receive("ADM-005", open_(1, "sleep", _params(ms=60_000), timeout_ms=500), at=100),
        expect(
            "ADM-005 ADM-003",
            a_response(1, end=an_error("DEADLINE_EXCEEDED")),
            after=600,
            by=2_600,
        ),
        *fence(at=2_700),
    ),
    conversation(
        "deadline-while-output-waits",
        "The handler has ended, its data waits for credit: the deadline still holds",
        *hello(at=0),
        receive("ADM-005", open_(1, "source", _params(bytes=70_000), timeout_ms=800), at=0),
        expect("FLW-001", a_response(1, cost={"at_least": 65_504, "at_most": 65_536}), by=500),
        expect(
            "ADM-005 FLW-004 FLW-005",
            a_response(1, end=an_error("DEADLINE_EXCEEDED")),
            after=800,
            by=2_800,
        ),
        *fence(at=2_900),
    ),
    conversation(
        "longest-deadline",
        "timeout_ms of 2^32 - 1 does not fire at once",
        *hello(at=0),
        receive("ADM-005", open_(1, "sleep", _params(ms=1_000), timeout_ms=2**32 - 1), at=0),
        expect("ADM-005", a_response(1, b"ok", end=SUCCESS), after=1_000, by=3_000),
    ),
    conversation(
        "kill-of-a-handler-that-goes-on",
        "A handler that cannot be interrupted: the terminal comes within 1 s all the same",
        *hello(at=0),
        receive("CAN-004", open_(1, "sleep", _params(ms=60_000, ignore_kill_ms=20_000)), at=0),
        receive("CAN-004", kill(1), at=500),
        expect("CAN-001 CAN-004", a_response(1, end=an_error("CANCELLED")), by=1_500),
        *fence(at=1_600),
    ),
    conversation(
        "stop-ends-a-pause",
        "STOP between two items that are 10 s apart",
        *hello(at=0),
        receive("CAN-005", open_(1, "generate", _params(count=100, interval_ms=10_000)), at=0),
        expect("STM-004", a_response(1, _generated(0)), by=1_000),
        expect("STM-004", a_response(1, _generated(1)), after=10_000, by=12_000),
        receive(
            "CAN-005",
            frame("STOP", {"reason": 0x100}, request_id=rid(1)),
            at=13_000,
        ),
        expect("CAN-005", a_response(1, end=SUCCESS), by=15_000),
    ),
)

_DRAIN = open_(2, "drain", _params(grace_ms=1_000))

DRAIN: tuple[Conversation, ...] = (
    conversation(
        "drain-grace",
        "When the grace is over the remaining request gets SHUTDOWN, then the connection ends",
        *hello(at=0),
        receive("CLS-006", open_(1, "sleep", _params(ms=60_000)), _DRAIN, at=500),
        expect(
            "CLS-003",
            a_response(2, b"ok", end=SUCCESS),
            a_frame("GOAWAY", code=0, last_ordinal=2, grace_ms=1_000),
            ordered=True,
            by=1_400,
        ),
        expect("CLS-006", a_response(1, end=an_error("SHUTDOWN")), after=1_500, by=3_400),
        orderly("CLS-006", after=1_500, by=3_400),
    ),
    conversation(
        "drain-ends-early",
        "A request that ends within the grace ends well, and the connection with it",
        *hello(at=0),
        receive("CLS-005", open_(1, "sleep", _params(ms=700)), _DRAIN, at=0),
        expect(
            "CLS-003",
            a_response(2, b"ok", end=SUCCESS),
            a_frame("GOAWAY", code=0, last_ordinal=2, grace_ms=1_000),
            by=600,
        ),
        expect("CLS-003", a_response(1, b"ok", end=SUCCESS), after=700, by=1_000),
        orderly("CLS-005", after=700, by=3_000),
    ),
    conversation(
        "client-leaves-slowly",
        "After a client's GOAWAY a running request has all the time it needs",
        *hello(at=0, IDLE_TIMEOUT_MS=600_000),
        receive(
            "CLS-009",
            open_(1, "sleep", _params(ms=40_000)),
            go_away(grace_ms=1),
            at=0,
        ),
        expect("CLS-009", a_response(1, b"ok", end=SUCCESS), after=40_000, by=42_000),
        orderly("CLS-009", after=40_000, by=42_000),
    ),
)

_CLIENT_FIRST = expect("HSK-001", a_preface(), a_frame("SETTINGS"), ordered=True, by=0)


def _client(
    name: str, doc: str, *steps: Step, config: dict[str, int] | None = None
) -> Conversation:
    return conversation(name, doc, _CLIENT_FIRST, *steps, role="client", config=config)


CLIENT: tuple[Conversation, ...] = (
    _client(
        "client-without-an-answer",
        "No preface within the connect timeout: the client closes without a frame",
        end("HSK-010", after=5_000, by=7_000),
    ),
    _client(
        "client-handshake-timeout",
        "The worker's SETTINGS_ACK never comes",
        receive("HSK-003", OFFER, setup(), at=100),
        expect("HSK-007", a_frame("SETTINGS_ACK"), by=2_000),
        end("HSK-008", kinds="GENERAL", last=0, after=5_000, by=7_000),
    ),
    _client(
        "client-heartbeat",
        "The worker announces 2 s: the client sends something every second",
        receive("HSK-003", OFFER, setup(IDLE_TIMEOUT_MS=2_000), ACK, at=0),
        expect("HSK-007", a_frame("SETTINGS_ACK"), by=500),
        *(expect("HBT-001", a_frame("PING"), by=1_000 * n) for n in range(1, 4)),
        config={"IDLE_TIMEOUT_MS": 60_000},
    ),
    _client(
        "client-closes-a-drained-connection",
        "No request is left: the client closes within 2 s",
        receive("HSK-003", OFFER, setup(), ACK, at=0),
        expect("HSK-007", a_frame("SETTINGS_ACK"), by=500),
        receive("CLS-008", go_away(grace_ms=30_000), at=1_000),
        orderly("CLS-008", by=3_500),
    ),
)

_OPEN_INCOMPLETE = frame(
    "REQUEST",
    opening(b"conformance.echo", body=b"a"),
    flags=META,
    request_id=rid(1),
)

SLOW: tuple[Conversation, ...] = (
    conversation(
        "slow-upload",
        "A request whose messages come one in 2 s",
        *hello(at=0),
        receive("HBT-004", _OPEN_INCOMPLETE, at=0),
        expect("STM-004", a_response(1, b"a"), by=1_000),
        receive("HBT-004", data(1, 1, b"b"), at=2_000),
        expect("STM-004", a_response(1, b"b"), by=3_000),
        receive("HBT-004", data(1, 2, b"c", flags=END), at=4_000),
        expect("STM-004 TYP-006", a_response(1, b"c", end=SUCCESS), by=5_000),
        receive("HBT-002", PING, at=6_900),
        expect("HBT-004", a_frame("PONG", opaque=PONG), by=7_900),
        config=_IDLE,
    ),
)

TIMED: dict[str, tuple[Conversation, ...]] = {
    "handshake": HANDSHAKE,
    "heartbeat": (*HEARTBEAT, *SLOW),
    "deadlines": DEADLINES,
    "drain": DRAIN,
    "client": CLIENT,
}
"""The conversations by file."""
