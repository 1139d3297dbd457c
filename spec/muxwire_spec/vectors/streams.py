"""Conversations without a clock: set-up, requests, endings, credit (vectors/streams)."""

from __future__ import annotations

import json
import zlib

from muxwire_spec.vectors.build import END, ERROR, META, MORE, frame, header_only, opening, preface
from muxwire_spec.vectors.conversation import (
    ACK,
    GREETING,
    OFFER,
    PING,
    PONG,
    SUCCESS,
    Conversation,
    Json,
    Part,
    Step,
    a_frame,
    a_limit,
    a_preface,
    a_response,
    an_error,
    conversation,
    data,
    end,
    expect,
    fence,
    filler,
    go_away,
    hello,
    kill,
    open_,
    orderly,
    receive,
    rid,
    setup,
    stop,
    update,
)
from muxwire_spec.vectors.golden import GOLDEN

_V = {golden.vector.name: golden.vector.octets for golden in GOLDEN}
_CANCELLED = an_error("CANCELLED")
_LONG = b'{"ms":60000}'
_SLOW = b'{"count":1000000,"interval_ms":60000}'


def _generated(index: int, size: int = 16) -> bytes:
    return index.to_bytes(8) + bytes((index + j) % 256 for j in range(size - 8))


def _source(size: int) -> Json:
    octets = bytes((31 * k + 7) % 256 for k in range(size))
    return {"size": size, "crc32": zlib.crc32(octets)}


def _params(**values: int | bool | str) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()


def _refused(code: str, **more: object) -> Json:
    return an_error(code, "NOT_PROCESSED", **more)


HANDSHAKE: tuple[Conversation, ...] = (
    conversation(
        "pipelined",
        "Preface, SETTINGS, a request and SETTINGS_ACK in one segment",
        receive("HSK-001 HSK-009", OFFER, setup(), open_(1, "echo", b"hi"), ACK),
        expect("HSK-003 HSK-005 HSK-007", *GREETING, a_response(1, b"hi", end=SUCCESS)),
        *fence(),
    ),
    conversation(
        "step-by-step",
        "A client that waits after each step",
        receive("HSK-001", OFFER),
        expect("HSK-002 HSK-003 HSK-005", a_preface(), a_frame("SETTINGS"), ordered=True),
        receive("HSK-005", setup()),
        expect("HSK-007", a_frame("SETTINGS_ACK")),
        receive("HSK-007", ACK),
        *fence(),
    ),
    conversation(
        "served-before-ack",
        "A request is answered before the client's SETTINGS_ACK",
        receive("HSK-009", OFFER, setup(), open_(1, "echo", b"early")),
        expect("HSK-009", *GREETING, a_response(1, b"early", end=SUCCESS)),
        receive("HSK-007", ACK),
        *fence(),
    ),
    conversation(
        "silent-before-the-magic",
        "Seven octets of the magic get no answer, the eighth and the rest do",
        receive("HSK-002", OFFER[:7]),
        expect("HSK-002", doc="nothing"),
        receive("HSK-003", OFFER[7:], setup(), ACK),
        expect("HSK-003 HSK-005 HSK-007", *GREETING, ordered=True),
    ),
    conversation(
        "several-versions",
        "Of the versions 1 to 3 the worker selects 1",
        receive("HSK-003", preface(ver_hi=3, ver_lo=1), setup(), ACK),
        expect("HSK-003", *GREETING, ordered=True),
    ),
    conversation(
        "reserved-octets-of-the-preface",
        "Flags and reserved octets of the preface are ignored",
        receive("HSK-003", preface(ver_hi=1, ver_lo=1, flags=b"\xff", reserved=b"\xff" * 4)),
        expect("HSK-003 HSK-005", a_preface(), a_frame("SETTINGS"), ordered=True),
    ),
    conversation(
        "settings-without-a-pair",
        "An empty SETTINGS is whole; assumed values hold",
        receive("SET-002", OFFER, frame("SETTINGS"), ACK),
        expect("SET-002 HSK-007", *GREETING, ordered=True),
        receive("SET-002", open_(1, "echo", b"hi")),
        expect("SET-002", a_response(1, b"hi", end=SUCCESS)),
    ),
    conversation(
        "version-refused",
        "Versions 2 to 3: one preface is the answer, what was pipelined is not",
        receive("HSK-004", preface(ver_hi=3, ver_lo=2), setup(), open_(1, "echo", b"hi"), ACK),
        expect("HSK-004", a_preface()),
        end("HSK-004"),
    ),
    conversation(
        "header-size-refused",
        "A header of 48 octets",
        receive("HSK-004", preface(ver_hi=1, ver_lo=1, header_size=48), setup()),
        expect("HSK-004", a_preface()),
        end("HSK-004"),
    ),
    conversation(
        "empty-range-refused",
        "ver_lo above ver_hi",
        receive("HSK-003", preface(ver_hi=1, ver_lo=2), setup()),
        expect("HSK-003 HSK-004", a_preface()),
        end("HSK-004"),
    ),
    conversation(
        "another-protocol",
        "An HTTP request is not answered with an octet",
        receive("HSK-002", b"GET / HTTP/1.1\r\n\r\n"),
        end("HSK-002"),
    ),
    conversation(
        "magic-wrong-at-the-end",
        "The last octet of the magic differs",
        receive("HSK-002", OFFER[:7], b"\x0d"),
        end("HSK-002"),
    ),
    conversation(
        "first-frame-ping",
        "PING before SETTINGS; the error goes before SETTINGS_ACK, which cannot be sent",
        receive("HSK-005", OFFER, PING, setup(), ACK),
        expect("HSK-005", a_preface(), a_frame("SETTINGS"), ordered=True),
        end("HSK-005", also="HSK-007", last=0),
    ),
    conversation(
        "first-frame-goaway",
        "GOAWAY is no first frame of a client",
        receive("HSK-005", OFFER, go_away()),
        expect("HSK-005", a_preface(), a_frame("SETTINGS"), ordered=True),
        end("HSK-005", last=0),
    ),
    conversation(
        "second-settings",
        "SETTINGS twice",
        *hello(),
        receive("HSK-006", setup()),
        end("HSK-006", last=0),
    ),
    conversation(
        "second-settings-ack",
        "SETTINGS_ACK twice",
        *hello(),
        receive("HSK-007", ACK),
        end("HSK-007", "PROTOCOL_ERROR", last=0),
    ),
    conversation(
        "setting-out-of-range",
        "IDLE_TIMEOUT_MS of 99",
        receive("SET-001", OFFER, setup(IDLE_TIMEOUT_MS=99), ACK),
        expect("HSK-005", a_preface(), a_frame("SETTINGS"), ordered=True),
        end("SET-001", last=0),
    ),
    conversation(
        "setting-twice",
        "An unknown setting occurs twice",
        receive(
            "SET-002",
            OFFER,
            frame("SETTINGS", bytes.fromhex("2a2a0000000000000001") * 2),
        ),
        expect("HSK-005", a_preface(), a_frame("SETTINGS"), ordered=True),
        end("SET-002", last=0),
    ),
)

REQUESTS: tuple[Conversation, ...] = (
    conversation(
        "unary",
        "One message there, one back",
        *hello(),
        receive("TYP-003 MSG-001", open_(1, "echo", b"hi")),
        expect("TYP-006 MSG-001", a_response(1, b"hi", end=SUCCESS)),
        *fence(),
    ),
    conversation(
        "unary-empty-message",
        "An empty OPEN with END_STREAM carries one empty message",
        *hello(),
        receive("MSG-002", open_(1, "echo")),
        expect("MSG-002", a_response(1, b"", end=SUCCESS)),
        *fence(),
    ),
    conversation(
        "no-message",
        "An empty OPEN and an empty end carry no message",
        *hello(),
        receive("MSG-002", open_(1, "echo", flags=0), data(1, 1, flags=END)),
        expect("MSG-002", a_response(1, end=SUCCESS)),
        *fence(),
    ),
    conversation(
        "empty-messages",
        "Empty messages between others, of the request and of the response",
        *hello(),
        receive(
            "MSG-002",
            open_(1, "echo", flags=0),
            data(1, 1),
            data(1, 2, b"a"),
            data(1, 3),
            data(1, 4),
            data(1, 5, flags=END),
        ),
        expect("MSG-002", a_response(1, b"", b"a", b"", b"", end=SUCCESS)),
        *fence(),
    ),
    conversation(
        "split-message",
        "Chunks of 2, 0, 1 and 3 octets are one message; the end closes it",
        *hello(),
        receive(
            "MSG-001",
            open_(1, "echo", b"ab", flags=MORE),
            data(1, 1, flags=MORE),
            data(1, 2, b"c", flags=MORE),
            data(1, 3, b"def"),
        ),
        expect("MSG-001 MSG-004", a_response(1, b"abcdef")),
        receive("MSG-002", data(1, 4, b"gh", flags=MORE), data(1, 5, flags=END)),
        expect("MSG-002", a_response(1, b"gh", end=SUCCESS)),
        *fence(),
    ),
    conversation(
        "an-incomplete-message-is-not-delivered",
        "Before its last chunk a message does not exist",
        *hello(),
        receive("MSG-004", open_(1, "echo", b"half", flags=MORE), PING),
        expect("MSG-004", a_frame("PONG", opaque=PONG)),
        receive("MSG-001", data(1, 1, b" and half", flags=END)),
        expect("MSG-001", a_response(1, b"half and half", end=SUCCESS)),
    ),
    conversation(
        "streaming",
        "Three messages for one",
        *hello(),
        receive("STM-004", open_(1, "generate", _params(count=3))),
        expect(
            "MSG-001 TYP-006",
            a_response(1, _generated(0), _generated(1), _generated(2), end=SUCCESS),
        ),
        *fence(),
    ),
    conversation(
        "no-response-message",
        "A response without a message",
        *hello(),
        receive("MSG-002", open_(1, "generate", _params(count=0))),
        expect("MSG-002", a_response(1, end=SUCCESS)),
    ),
    conversation(
        "bidirectional",
        "Each message is answered before the next is sent",
        *hello(),
        receive("STM-004", open_(1, "echo", b"one", flags=0)),
        expect("STM-004 STM-003", a_response(1, b"one")),
        receive("STM-004", data(1, 1, b"two")),
        expect("STM-003", a_response(1, b"two")),
        receive("STM-004", data(1, 2, b"three", flags=END)),
        expect("STM-003 TYP-006", a_response(1, b"three", end=SUCCESS)),
        *fence(),
    ),
    conversation(
        "interleaved",
        "Two messages on two streams, chunk by chunk",
        *hello(),
        receive(
            "FAI-003",
            open_(1, "echo", b"a", flags=MORE),
            open_(2, "echo", b"x", flags=MORE),
            data(1, 1, b"b", flags=MORE),
            data(2, 1, b"y", flags=END),
            data(1, 2, b"c", flags=END),
        ),
        expect("FAI-003", a_response(1, b"abc", end=SUCCESS), a_response(2, b"xy", end=SUCCESS)),
        *fence(),
    ),
    conversation(
        "answered-before-the-end",
        "The terminal comes before END_STREAM; what follows is discarded",
        *hello(),
        receive("STM-003", open_(1, "generate", _params(count=1), flags=0)),
        expect("STM-003", a_response(1, _generated(0), end=SUCCESS)),
        receive("RID-003 STM-003", data(1, 1, b"late"), data(1, 2, flags=END)),
        *fence("RID-003 STM-003", "silence"),
    ),
    conversation(
        "handler-error",
        "Two messages, then the handler's error",
        *hello(),
        receive("FLW-005", open_(1, "fail", _params(code=0x107, after=2, flags=2))),
        expect(
            "FLW-005 ADM-003",
            a_response(
                1,
                bytes(8),
                (1).to_bytes(8),
                end=an_error("APPLICATION_ERROR", "NON_RETRYABLE"),
            ),
        ),
        *fence(),
    ),
    conversation(
        "ignorable",
        "Grease, high flag bits, and octets behind the last header have no effect",
        *hello(),
        receive(
            "FRM-005",
            frame("PING", b"grease", type=0x9A, flags=0xFF, subtype=7, seq=9, request_id=rid(9)),
            frame("PING", b"", type=0x03, subtype=0x90, request_id=rid(9)),
        ),
        receive(
            "FRM-006 PAY-003",
            frame(
                "REQUEST",
                opening(b"conformance.echo", extension=b"\xee" * 5, body=b"hi"),
                flags=META | END | 0xF0,
                request_id=rid(1),
            ),
        ),
        expect("FRM-005 FRM-006 PAY-003", a_response(1, b"hi", end=SUCCESS)),
        *fence(),
    ),
)

CANCELLATION: tuple[Conversation, ...] = (
    conversation(
        "stop-between-items",
        "STOP after the first of many items ends the response well",
        *hello(),
        receive("STM-004", open_(1, "generate", _SLOW)),
        expect("STM-004", a_response(1, _generated(0))),
        receive("CAN-005", stop(1)),
        expect("CAN-005", a_response(1, end=SUCCESS)),
        *fence(),
    ),
    conversation(
        "stop-twice-and-late",
        "A second STOP, and one behind the terminal, change nothing",
        *hello(),
        receive("STM-004", open_(1, "generate", _SLOW)),
        expect("STM-004", a_response(1, _generated(0))),
        receive("CAN-005 RID-003", stop(1), stop(1)),
        expect("CAN-005 TYP-006", a_response(1, end=SUCCESS)),
        receive("RID-003", stop(1)),
        *fence("RID-003", "silence"),
    ),
    conversation(
        "kill-in-the-segment-of-its-open",
        "An OPEN and its KILL in one segment yield one terminal",
        *hello(),
        receive("STM-005", open_(1, "sleep", _LONG), kill(1)),
        expect("STM-005 CAN-001", a_response(1, end=_CANCELLED)),
        *fence("TYP-006", "no second terminal"),
    ),
    conversation(
        "kill-of-an-answer-that-is-ready",
        "OPEN and KILL in one segment when the answer takes no time: either end, and one",
        *hello(),
        receive("STM-005", open_(1, "generate", _params(count=0)), kill(1)),
        expect("STM-005 CAN-001", a_response(1, end=(SUCCESS, _CANCELLED))),
        *fence("TYP-006", "no second terminal"),
    ),
    conversation(
        "kill-between-items",
        "KILL after the first item",
        *hello(),
        receive("STM-004", open_(1, "generate", _SLOW)),
        expect("STM-004", a_response(1, _generated(0))),
        receive("CAN-001", kill(1)),
        expect("CAN-001 CAN-002", a_response(1, end=_CANCELLED)),
        *fence("CAN-002", "nothing but the terminal"),
    ),
    conversation(
        "kill-before-the-end-of-the-request",
        "KILL of a request whose message is incomplete",
        *hello(),
        receive("MSG-004", open_(1, "echo", b"half", flags=MORE)),
        receive("CAN-001", kill(1)),
        expect("CAN-001 MSG-004", a_response(1, end=_CANCELLED)),
        *fence(),
    ),
    conversation(
        "kill-after-the-terminal",
        "STOP, KILL and WINDOW_UPDATE for a finished request are ignored",
        *hello(),
        receive("TYP-006", open_(1, "echo", b"hi")),
        expect("TYP-006", a_response(1, b"hi", end=SUCCESS)),
        receive("RID-003", kill(1), stop(1), update(1, 200_000), kill(1)),
        *fence("RID-003", "silence"),
    ),
    conversation(
        "kill-of-nothing",
        "Frames for ids that were never opened are ignored",
        *hello(),
        receive("RID-003", kill(7), stop(7), update(7, 1), data(7, 1, b"x"), data(7, 5, flags=END)),
        *fence("RID-003", "silence"),
        receive("RID-003", open_(7, "echo", b"hi")),
        expect("RID-003", a_response(7, b"hi", end=SUCCESS), doc="the id is still free"),
    ),
    conversation(
        "stop-then-kill",
        "KILL after a STOP that is ignored",
        *hello(),
        receive(
            "CAN-005",
            open_(1, "generate", _params(count=10, interval_ms=60_000, ignore_stop=True)),
            stop(1),
        ),
        expect("CAN-005", a_response(1, _generated(0))),
        receive("CAN-001", kill(1)),
        expect("CAN-001", a_response(1, end=_CANCELLED)),
    ),
    conversation(
        "kill-of-one-among-others",
        "The other requests of the connection go on",
        *hello(),
        receive("CAN-001", open_(1, "sleep", _LONG), open_(2, "echo", b"a", flags=0), kill(1)),
        expect("CAN-001", a_response(1, end=_CANCELLED), a_response(2, b"a")),
        receive("CAN-001", data(2, 1, b"b", flags=END)),
        expect("CAN-006", a_response(2, b"b", end=SUCCESS)),
    ),
    conversation(
        "request-after-kill",
        "A REQUEST behind a KILL is an error, or silence when the terminal is out",
        *hello(),
        receive("CAN-001", open_(1, "sleep", _LONG, flags=0), kill(1), data(1, 1, b"late")),
        end("STM-001", kinds="GENERAL CONTINUES", last=1, doc="the terminal may be seen"),
        free="RESPONSE",
    ),
)

_OPEN_ECHO = open_(1, "echo", flags=0)
_FULL = tuple(open_(number, "sleep", _LONG) for number in range(1, 101))

REFUSALS: tuple[Conversation, ...] = (
    conversation(
        "not-found",
        "A subject that no handler has",
        *hello(),
        receive("PAY-004", open_(1, "test.nobody", b"hi")),
        expect("PAY-004 ADM-003", a_response(1, end=_refused("NOT_FOUND"))),
        *fence(),
    ),
    conversation(
        "malformed-subject",
        "A subject with an empty label",
        *hello(),
        receive("PAY-004", open_(1, "a..b", b"hi")),
        expect("PAY-004 ADM-003", a_response(1, end=_refused("INVALID_ARGUMENT"))),
        *fence(),
    ),
    conversation(
        "malformed-header",
        "An upper case key; the subject is unknown as well, and comes later",
        *hello(),
        receive("PAY-005", open_(1, "test.nobody", headers=[(b"Key", b"v")])),
        expect("PAY-005", a_response(1, end=_refused("INVALID_ARGUMENT"))),
        *fence(),
    ),
    conversation(
        "overloaded",
        "The request above MAX_CONCURRENT_REQUESTS; an unknown subject comes before that",
        *hello(),
        receive("SET-004", *_FULL),
        receive("ADM-002", open_(101, "echo", b"hi"), open_(102, "test.nobody")),
        expect(
            "ADM-002 ADM-004",
            a_response(101, end=_refused("OVERLOADED", retry_after_ms={"at_least": 1})),
            a_response(102, end=_refused("NOT_FOUND")),
        ),
        receive("CAN-001", kill(50)),
        expect("CAN-001", a_response(50, end=_CANCELLED)),
        receive("ADM-002", open_(103, "echo", b"hi")),
        expect("ADM-002", a_response(103, b"hi", end=SUCCESS)),
        config={"MAX_CONCURRENT_REQUESTS": 100},
    ),
    conversation(
        "draining-comes-first",
        "On a draining connection everything is DRAINING, unless its metadata is malformed",
        *hello(),
        receive("CLS-004", open_(1, "sleep", _LONG), open_(2, "drain", _params(grace_ms=50_000))),
        expect(
            "CLS-003",
            a_response(2, b"ok", end=SUCCESS),
            a_frame("GOAWAY", code=0, last_ordinal=2, grace_ms=50_000),
            ordered=True,
        ),
        receive("CLS-004", open_(3, "a..b"), open_(4, "test.nobody"), open_(5, "echo", b"hi")),
        expect(
            "CLS-004",
            a_response(3, end=_refused("DRAINING")),
            a_response(4, end=_refused("DRAINING")),
            a_response(5, end=_refused("DRAINING")),
        ),
        receive("PAY-002", frame("REQUEST", b"\0\0", flags=META | END, request_id=rid(6))),
        end("PAY-002", also="RID-005", last=2),
    ),
    conversation(
        "stop-and-kill-of-a-refused-request",
        "A refused request is a tombstone",
        *hello(),
        receive("RID-003", open_(1, "test.nobody", flags=0), stop(1), kill(1), data(1, 1, b"x")),
        expect("PAY-004 TYP-006", a_response(1, end=_refused("NOT_FOUND"))),
        *fence("RID-003", "silence"),
    ),
    conversation(
        "message-too-large",
        "The chunk that exceeds MAX_MESSAGE_SIZE ends the request; credit lets it come so far",
        *hello(),
        receive("FLW-007", _OPEN_ECHO),
        *(
            step
            for index in range(8)
            for step in (
                receive(
                    "FLW-007 MSG-001",
                    *filler(1, 2 * index + 1, 65_504, MORE),
                    *filler(1, 2 * index + 2, 65_504, MORE),
                ),
                expect(
                    "FLW-006 FLW-007",
                    a_limit(1, len(_OPEN_ECHO) + 131_072 * (index + 2)),
                    within=1_000,
                ),
            )
        ),
        receive("MSG-003", *filler(1, 17, 513, MORE)),
        expect("MSG-003 ADM-003", a_response(1, end=an_error("MESSAGE_TOO_LARGE"))),
        *fence(),
        config={"MAX_MESSAGE_SIZE": 1_048_576},
    ),
)

IDENTITY: tuple[Conversation, ...] = (
    conversation(
        "id-of-a-live-request",
        "An id is used again while its request runs",
        *hello(),
        receive("RID-002", open_(1, "sleep", _LONG), open_(1, "echo", b"hi")),
        end("RID-002", also="RID-005", last=1),
    ),
    conversation(
        "id-of-a-finished-request",
        "An id is used again behind its terminal",
        *hello(),
        receive("RID-002", open_(1, "echo", b"hi")),
        expect("TYP-006", a_response(1, b"hi", end=SUCCESS)),
        receive("RID-002", open_(1, "echo", b"hi")),
        end("RID-002", also="RID-005", last=1),
    ),
    conversation(
        "id-of-a-refused-request",
        "A refused request leaves a tombstone too; its OPEN has an ordinal",
        *hello(),
        receive("RID-002", open_(1, "test.nobody")),
        expect("PAY-004", a_response(1, end=_refused("NOT_FOUND"))),
        receive("RID-002", open_(1, "echo", b"hi")),
        end("RID-002", also="RID-005", last=1),
    ),
    conversation(
        "id-before-metadata",
        "A repeated OPEN with malformed metadata is a repeated OPEN",
        *hello(),
        receive("RID-002", open_(1, "sleep", _LONG)),
        receive("RID-002", frame("REQUEST", b"\0", flags=META, request_id=rid(1))),
        end("RID-002", last=1),
    ),
    conversation(
        "ordinals",
        "Refused requests are counted; the OPEN that is the error is not",
        *hello(),
        receive("RID-005", open_(1, "echo", b"a"), open_(2, "test.nobody"), open_(3, "a..b")),
        expect(
            "RID-005",
            a_response(1, b"a", end=SUCCESS),
            a_response(2, end=_refused("NOT_FOUND")),
            a_response(3, end=_refused("INVALID_ARGUMENT")),
        ),
        receive("PAY-002", frame("REQUEST", b"\0" * 4, flags=META, request_id=rid(4))),
        end("PAY-002", also="RID-005", last=3),
    ),
    conversation(
        "no-uuid",
        "An id is any 16 octets but all zero and all ones",
        *hello(),
        receive(
            "FRM-009",
            frame(
                "REQUEST",
                opening(b"conformance.drain", body=_params(grace_ms=0)),
                flags=META | END,
                request_id=b"\xff" * 15 + b"\xfe",
            ),
        ),
        expect(
            "FRM-009",
            {
                "response": {
                    "request_id": "ff" * 15 + "fe",
                    "messages": [b"ok".hex()],
                    "end": [SUCCESS],
                }
            },
            a_frame("GOAWAY", code=0, last_ordinal=1, grace_ms=0),
        ),
        orderly("CLS-005 CLS-006"),
    ),
)

DRAIN: tuple[Conversation, ...] = (
    conversation(
        "drain-of-an-empty-connection",
        "GOAWAY follows the terminal, then the worker half-closes",
        *hello(),
        receive("CLS-005", open_(1, "drain", _params(grace_ms=50_000))),
        expect(
            "CLS-005 RID-005",
            a_response(1, b"ok", end=SUCCESS),
            a_frame("GOAWAY", code=0, last_ordinal=1, grace_ms=50_000),
            ordered=True,
        ),
        orderly("CLS-005"),
    ),
    conversation(
        "drain-with-a-running-request",
        "A running request goes on, a late OPEN is refused, then the connection ends",
        *hello(),
        receive(
            "CLS-003",
            open_(1, "echo", b"one", flags=0),
            open_(2, "drain", _params(grace_ms=50_000)),
        ),
        expect(
            "CLS-003",
            a_response(1, b"one"),
            a_response(2, b"ok", end=SUCCESS),
            a_frame("GOAWAY", code=0, last_ordinal=2),
        ),
        receive("CLS-003 CLS-004", data(1, 1, b"two"), open_(3, "echo", b"late"), PING),
        expect(
            "CLS-003 CLS-004",
            a_response(1, b"two"),
            a_response(3, end=_refused("DRAINING")),
            a_frame("PONG", opaque=PONG),
        ),
        receive("CLS-003", data(1, 2, flags=END)),
        expect("CLS-003 TYP-006", a_response(1, end=SUCCESS)),
        orderly("CLS-005"),
    ),
    conversation(
        "drain-and-kill",
        "KILL works during a drain",
        *hello(),
        receive("CLS-003", open_(1, "sleep", _LONG), open_(2, "drain", _params(grace_ms=50_000))),
        expect("CLS-003", a_response(2, b"ok", end=SUCCESS), a_frame("GOAWAY", code=0)),
        receive("CLS-003", kill(1)),
        expect("CLS-003 CAN-001", a_response(1, end=_CANCELLED)),
        orderly("CLS-005"),
    ),
    conversation(
        "drain-without-grace",
        "A grace of 0 ends the others with SHUTDOWN",
        *hello(),
        receive("CLS-006", open_(1, "sleep", _LONG), open_(2, "drain", _params(grace_ms=0))),
        expect(
            "CLS-006 ADM-003",
            a_response(2, b"ok", end=SUCCESS),
            a_frame("GOAWAY", code=0, last_ordinal=2, grace_ms=0),
            a_response(1, end=an_error("SHUTDOWN")),
        ),
        orderly("CLS-006"),
    ),
    conversation(
        "client-leaves",
        "On a client's GOAWAY what runs is finished; no GOAWAY is the answer",
        *hello(),
        receive("CLS-009", open_(1, "echo", b"one", flags=0), go_away()),
        expect("CLS-009", a_response(1, b"one")),
        receive("CLS-009", data(1, 1, b"two", flags=END)),
        expect("CLS-009", a_response(1, b"two", end=SUCCESS)),
        orderly("CLS-009"),
    ),
    conversation(
        "client-leaves-an-empty-connection",
        "Nothing runs: the worker half-closes at once",
        *hello(),
        receive("CLS-009", go_away(grace_ms=60_000)),
        orderly("CLS-009"),
    ),
    conversation(
        "client-leaves-with-an-error",
        "Handlers are cancelled and the worker half-closes without a GOAWAY",
        *hello(),
        receive("CLS-009", open_(1, "sleep", _LONG), go_away("INTERNAL_ERROR")),
        orderly("CLS-009"),
    ),
    conversation(
        "open-after-the-clients-goaway",
        "A client that has left opens another request",
        *hello(),
        receive("CLS-009", open_(1, "sleep", _LONG), go_away(), open_(2, "echo", b"hi")),
        end("CLS-009", also="RID-005", last=1),
    ),
)


def _fault(name: str, doc: str, rule: str, *parts: Part, code: str | None = None) -> Conversation:
    """Return a conversation with a running request, a fault, and a good OPEN right behind it."""
    return conversation(
        name,
        doc,
        *hello(),
        receive("CLS-001", open_(1, "sleep", _LONG)),
        receive(rule, *parts, open_(2, "echo", b"hi"), doc="the OPEN behind it has no effect"),
        end(rule, code, also="CLS-001 CLS-002 STM-006", last=1),
    )


def _request(payload: bytes = b"", *, flags: int = 0, seq: int = 0) -> bytes:
    """Return a REQUEST of a request that was never opened."""
    return frame("REQUEST", payload, flags=flags, seq=seq, request_id=rid(5))


ERRORS: tuple[Conversation, ...] = (
    _fault("marker", "The marker is 0x00", "FRM-002", frame("PING", bytes(8), marker=0)),
    _fault("length", "A REQUEST above MAX_FRAME_SIZE", "FRM-003", header_only("REQUEST", 65_537)),
    _fault(
        "unknown-type",
        "Type 0x05",
        "FRM-004",
        frame("PING", bytes(8), type=5),
        code="UNSUPPORTED_FRAME",
    ),
    _fault(
        "unknown-heartbeat",
        "Heartbeat subtype 0x80",
        "FRM-004",
        frame("PING", bytes(8), subtype=0x80),
        code="PROTOCOL_ERROR",
    ),
    _fault("flag", "END_STREAM on PING", "FRM-006", frame("PING", bytes(8), flags=END)),
    _fault("seq-of-control", "A KILL with a seq", "FRM-007", frame("KILL", bytes(4), seq=1)),
    _fault(
        "id", "PING with the id of a request", "FRM-008", frame("PING", bytes(8), request_id=rid(1))
    ),
    conversation(
        "seq-gap",
        "seq 2 behind seq 0",
        *hello(),
        receive("FRM-010", open_(1, "echo", flags=0), data(1, 2, b"x")),
        end("FRM-010", also="CLS-001", last=1),
    ),
    conversation(
        "seq-repeat",
        "seq 1 twice",
        *hello(),
        receive("FRM-010", open_(1, "echo", flags=0), data(1, 1, b"x"), data(1, 1, b"x")),
        end("FRM-010", also="CLS-001", last=1),
        free="RESPONSE",
    ),
    conversation(
        "request-after-the-end",
        "A REQUEST behind END_STREAM; its wrong seq comes later in the order of checks",
        *hello(),
        receive("STM-001", open_(1, "sleep", _LONG), data(1, 9, b"x")),
        end("STM-001", also="CLS-001", last=1),
    ),
    _fault("response", "A RESPONSE", "TYP-001", _V["V5"]),
    _fault(
        "end-and-more",
        "END_STREAM with MORE",
        "TYP-002",
        _request(flags=END | MORE, seq=1),
    ),
    _fault("meta-missing", "seq 0 without META", "TYP-003", _request(b"x")),
    _fault("error-on-request", "ERROR", "FRM-006", _request(flags=ERROR | META)),
    _fault(
        "metadata",
        "A metadata_length beyond the payload",
        "PAY-002",
        _request(bytes.fromhex("000000ff"), flags=META),
    ),
    _fault("ping-of-7", "A PING of 7 octets", "PAY-001", frame("PING", bytes(7))),
    _fault("limit-of-2-63", "A limit of 2^63", "FLW-003", update(0, 2**63)),
    _fault("limit-of-2-63-for-nothing", "The same, unknown id", "FLW-003", update(99, 2**63)),
    _fault("settings-again", "A second SETTINGS", "HSK-006", setup()),
)

_OPEN_SINK = open_(1, "sink", _params(stall=True), flags=0)
_SINK_COST = len(_OPEN_SINK)


def _fill(window: int, start: int) -> tuple[Part, ...]:
    """Return complete messages that bring the cost of request 1 from `start` to `window`."""
    parts: list[Part] = []
    seq = 1
    left = window - start
    while left:
        size = min(left - 32, 65_504)
        if 0 < left - 32 - size < 32:
            size -= 32
        parts += filler(1, seq, size)
        seq += 1
        left -= 32 + size
    return tuple(parts)


CREDIT: tuple[Conversation, ...] = (
    conversation(
        "blocked-by-the-stream",
        "A message above the window stops at the window, and goes on when it is raised",
        *hello(),
        receive("FLW-001", open_(1, "source", _params(bytes=70_000))),
        expect("FLW-001", a_response(1, cost={"at_least": 65_504, "at_most": 65_536})),
        receive("FLW-003", update(1, 65_536), update(1, 1)),
        *fence("FLW-003", "an equal and a lower limit change nothing"),
        receive("FLW-003", update(1, 100_000)),
        expect("FLW-001 FLW-003", a_response(1, _source(70_000), end=SUCCESS)),
        *fence(),
    ),
    conversation(
        "blocked-streams-do-not-block-others",
        "A stream without credit, and another that has some",
        *hello(),
        receive("FAI-002", open_(1, "source", _params(bytes=70_000)), open_(2, "echo", b"hi")),
        expect(
            "FAI-002",
            a_response(1, cost={"at_least": 65_504, "at_most": 65_536}),
            a_response(2, b"hi", end=SUCCESS),
        ),
        *fence(),
    ),
    conversation(
        "exempt-error-terminal",
        "KILL of a response that waits for credit: the terminal needs none",
        *hello(),
        receive("FLW-001", open_(1, "source", _params(bytes=200_000))),
        expect("FLW-001", a_response(1, cost={"at_least": 65_504, "at_most": 65_536})),
        receive("CAN-001", kill(1)),
        expect("FLW-004 FLW-005 CAN-001", a_response(1, end=_CANCELLED)),
        *fence(),
    ),
    conversation(
        "no-success-behind-discarded-data",
        "The handler has ended, its data waits; a KILL discards it and gives CANCELLED",
        *hello(),
        receive("CAN-001", open_(1, "source", _params(bytes=66_000))),
        expect("FLW-001", a_response(1, cost={"at_least": 65_504, "at_most": 65_536})),
        receive("CAN-001", kill(1)),
        expect("CAN-001", a_response(1, end=_CANCELLED)),
    ),
    conversation(
        "announced-window",
        "The window of the client's SETTINGS holds for responses",
        *hello(INITIAL_STREAM_WINDOW=100_000),
        receive("SET-003", open_(1, "source", _params(bytes=90_000))),
        expect("SET-003", a_response(1, _source(90_000), end=SUCCESS)),
    ),
    conversation(
        "blocked-by-the-connection",
        "Streams have credit and the connection has not",
        *hello(INITIAL_STREAM_WINDOW=4_194_304, MAX_MESSAGE_SIZE=4_194_304),
        receive("FLW-001", open_(1, "source", _params(bytes=2_000_000))),
        expect("FLW-001", a_response(1, cost={"at_least": 1_048_544, "at_most": 1_048_576})),
        receive("FLW-004", open_(2, "test.nobody")),
        expect("FLW-004", a_response(2, end=_refused("NOT_FOUND"))),
        receive("FLW-003", update(0, 4_194_304)),
        expect("FLW-003", a_response(1, _source(2_000_000), end=SUCCESS)),
    ),
    conversation(
        "response-above-max-message-size",
        "A response message above the client's MAX_MESSAGE_SIZE",
        *hello(),
        receive("SET-003", open_(1, "source", _params(bytes=1_048_577))),
        expect("SET-003", a_response(1, end=an_error("MESSAGE_TOO_LARGE", "NON_RETRYABLE"))),
        *fence(),
    ),
    conversation(
        "window-used-up-exactly",
        "The last unit of the stream's window may be used; behind it is an error",
        *hello(),
        receive("FLW-002", _OPEN_SINK, *_fill(262_144, _SINK_COST)),
        *fence("FLW-002", "within the window"),
        receive("FLW-002", *filler(1, 99, _SINK_COST)),
        end("FLW-002", last=1, doc="credit comes before the seq, which is wrong as well"),
        config={"INITIAL_STREAM_WINDOW": 262_144},
    ),
    conversation(
        "credit-of-what-is-consumed",
        "A handler that reads keeps the window open",
        *hello(),
        receive("FLW-006", open_(1, "sink", b"{}", flags=0), *filler(1, 1, 65_504)),
        receive("FLW-006", *filler(1, 2, 65_504), *filler(1, 3, 65_504)),
        expect("FLW-006", a_limit(1, 3 * 65_536 + 131_072), within=1_000),
        receive("FLW-006", data(1, 4, flags=END)),
        expect(
            "MSG-002",
            a_response(
                1,
                {
                    "json": {
                        "messages": 3,
                        "bytes": 3 * 65_504,
                        "crc32": zlib.crc32(bytes(3 * 65_504)),
                    }
                },
                end=SUCCESS,
            ),
        ),
    ),
)

_GLITCH = kill(7)

ABUSE: tuple[Conversation, ...] = (
    conversation(
        "pings-within-the-budget",
        "50 PINGs at once are answered",
        *hello(),
        receive("DOS-001", (PING, 50)),
        expect("DOS-001 HBT-002", a_frame("PONG", times=50, opaque=PONG)),
        *fence(),
    ),
    conversation(
        "pings-above-the-budget",
        "1,000 PINGs at once are too many",
        *hello(),
        receive("DOS-001", (PING, 1_000)),
        end("DOS-001", last=0),
        free="PONG",
    ),
    conversation(
        "glitches-within-the-budget",
        "100 frames for nothing are ignored",
        *hello(),
        receive("DOS-001", (_GLITCH, 100)),
        *fence("DOS-001 RID-003", "silence"),
    ),
    conversation(
        "glitches-above-the-budget",
        "10,000 are too many",
        *hello(),
        receive("DOS-001", (_GLITCH, 10_000)),
        end("DOS-001", last=0),
    ),
    conversation(
        "kills-are-free",
        "50 requests, each opened and killed: no connection ends for that",
        *hello(),
        receive(
            "CAN-006",
            *(part for n in range(1, 51) for part in (open_(n, "sleep", _LONG), kill(n))),
        ),
        expect("CAN-006 STM-005", *(a_response(n, end=_CANCELLED) for n in range(1, 51))),
        *fence("CAN-006"),
    ),
)


def _golden_id(*messages: bytes, end: Json | str) -> Json:
    body = a_response(1, *messages, end=end)["response"]
    return {"response": {**body, "request_id": _V["V4"][16:32].hex()}}


GOLDEN_WORKER: tuple[Conversation, ...] = (
    conversation(
        "golden-worker",
        "The permanent vectors that a worker receives, in one conversation",
        receive("HSK-001", _V["V1"], _V["V2"]),
        expect("HSK-003 HSK-005 HSK-007", *GREETING, ordered=True),
        receive("HSK-007", _V["V3"], _V["V10"]),
        expect("HBT-002", a_frame("PONG", opaque=bytes(range(1, 9)))),
        receive("TYP-003", _V["V4"]),
        expect("TYP-006 MSG-001", _golden_id(b"hi", end=SUCCESS), doc="V5 and V6, or joined"),
        receive("FLW-003 RID-003", _V["V8"], _V["V9"], _V["V10"]),
        expect("RID-003 HBT-002", a_frame("PONG", opaque=bytes(range(1, 9)))),
        receive("CLS-009", _V["V11"], doc="a client's last_ordinal and grace are ignored"),
        orderly("CLS-009"),
    ),
    conversation(
        "golden-worker-error",
        "V7 at a worker",
        receive("HSK-001", _V["V1"], _V["V2"], _V["V3"], _V["V7"]),
        expect("HSK-003 HSK-005 HSK-007", *GREETING, ordered=True),
        end("TYP-001", last=0),
    ),
)

_GREETED = (a_preface(), a_frame("SETTINGS"))


def _client(name: str, doc: str, *steps: Step) -> Conversation:
    """Return a conversation of a client that opens no request."""
    first = expect("HSK-001", *_GREETED, ordered=True, doc="without waiting for an octet")
    return conversation(name, doc, first, *steps, role="client")


_ACCEPTED = (
    receive("HSK-003", OFFER, setup(), ACK),
    expect("HSK-007", a_frame("SETTINGS_ACK")),
)

CLIENT: tuple[Conversation, ...] = (
    _client(
        "golden-client",
        "The permanent vectors that a client without requests may receive",
        receive("HSK-003", _V["V1"], _V["V2"], _V["V3"]),
        expect("HSK-007", a_frame("SETTINGS_ACK")),
        receive("HBT-002", _V["V10"], _V["V8"]),
        expect("HBT-002", a_frame("PONG", opaque=bytes(range(1, 9)))),
        receive("CLS-008", _V["V11"]),
        orderly("CLS-008", within=4_000),
    ),
    _client(
        "client-response-unknown",
        "V5, a RESPONSE for an id that the client does not know",
        *_ACCEPTED,
        receive("RID-004", _V["V5"]),
        end("RID-004", also="CLS-001", last=0),
    ),
    _client(
        "client-limit-unknown",
        "A WINDOW_UPDATE for an id that the client does not know is ignored",
        *_ACCEPTED,
        receive("RID-004", update(9, 1)),
        *fence("RID-004"),
    ),
    _client(
        "client-refused-version",
        "A refusing preface",
        receive("HSK-004", preface(ver_hi=3, ver_lo=2)),
        end("HSK-010", also="HSK-004"),
    ),
    _client(
        "client-refused-header-size",
        "The preface of an acceptance, but for its header size",
        receive("HSK-004", preface(ver_hi=1, ver_lo=1, header_size=48)),
        end("HSK-010", also="HSK-004"),
    ),
    _client(
        "client-another-protocol",
        "The answer of an HTTP server",
        receive("HSK-010", b"HTTP/1.1 400 Bad Request\r\n"),
        end("HSK-010"),
    ),
    _client(
        "client-first-frame",
        "PING before the worker's SETTINGS",
        receive("HSK-005", OFFER, PING),
        end("HSK-005", last=0),
    ),
    _client(
        "client-frames-before-ack",
        "A client accepts other frames before SETTINGS_ACK",
        receive("HSK-007", OFFER, setup(), PING),
        expect("HSK-007", a_frame("SETTINGS_ACK"), a_frame("PONG", opaque=PONG)),
        receive("HSK-007", ACK),
        *fence(),
    ),
    _client(
        "client-goaway-in-place-of-settings",
        "A worker at its limit",
        receive("HSK-011", OFFER, go_away("CONNECTION_LIMIT")),
        orderly("HSK-005"),
    ),
    _client(
        "client-drain-in-place-of-settings",
        "A worker that does not say why",
        receive("HSK-005", OFFER, go_away()),
        orderly("HSK-005"),
    ),
    _client(
        "client-error-goaway",
        "The worker gives up; the client reads on for 1 s at most, then closes",
        *_ACCEPTED,
        receive("CLS-001", go_away("INTERNAL_ERROR")),
        orderly("CLS-002"),
    ),
    _client(
        "client-gets-stop",
        "STOP at a client",
        *_ACCEPTED,
        receive("TYP-001", stop(1)),
        end("TYP-001", last=0),
    ),
)

STREAMS: dict[str, tuple[Conversation, ...]] = {
    "golden": GOLDEN_WORKER,
    "handshake": HANDSHAKE,
    "requests": REQUESTS,
    "cancellation": CANCELLATION,
    "refusals": REFUSALS,
    "identity": IDENTITY,
    "drain": DRAIN,
    "errors": ERRORS,
    "credit": CREDIT,
    "abuse": ABUSE,
    "client": CLIENT,
}
"""The conversations by file."""
