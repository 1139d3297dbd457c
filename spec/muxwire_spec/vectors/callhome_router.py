"""Conversations of a router that listens for call-home connections, and a recorded exchange."""

from __future__ import annotations

from muxwire_spec.vectors.build import END, ERROR, META, MORE, error, frame, meta
from muxwire_spec.vectors.callhome_frames import preface
from muxwire_spec.vectors.callhome_steps import (
    AN_OFFER,
    a_control,
    answer,
    call,
    closes,
    code_of,
    control,
    ends,
    gives,
    local,
    outcome,
    response,
    takes,
    token,
)
from muxwire_spec.vectors.conversation import (
    SUCCESS,
    Conversation,
    Json,
    Step,
    an_error,
    conversation,
    rid,
)


def _connected(on: int = 1) -> tuple[Step, Step]:
    return takes("P0-002", preface(), on=on), gives("P0-002", AN_OFFER, on=on)


def _accepted(number: int, on: int = 1) -> tuple[Step, Step]:
    return (
        takes("P0-003 P0-018", control("HELLO", number), on=on),
        gives("P0-018", a_control("ACCEPT", number), on=on),
    )


def _success(number: int, on: int = 1, body: bytes = b"hi") -> tuple[Step, Step, Step]:
    return (
        takes("P0-007", response(number, 0, body), response(number, 1, flags=END), on=on),
        gives("P0-008", a_control("DONE", number), on=on),
        outcome("P0-019", number, SUCCESS, body),
    )


_CALLED = (call(1), answer("P0-018"), *_connected(), *_accepted(1))
_NOT_FOUND = {"code": code_of("NOT_FOUND")}


def _broken(name: str, doc: str, requirements: str, octets: bytes) -> Conversation:
    """Break a rule behind the first message: the router closes, the stream is PARTIAL."""
    return conversation(
        f"wch-router-{name}",
        doc,
        *_CALLED,
        takes(requirements, response(1, 0, b"hi"), octets),
        ends(f"P0-012 {requirements}"),
        outcome("P0-019", 1, "PARTIAL", b"hi"),
        role="router",
    )


ROUTER: tuple[Conversation, ...] = (
    conversation(
        "wch-router-two-streams",
        "Two streams one after the other on one connection",
        *_CALLED,
        *_success(1),
        call(2),
        answer("P0-018"),
        *_accepted(2),
        *_success(2),
        role="router",
    ),
    conversation(
        "wch-router-whole-response",
        "Headers, a message in chunks, an empty message, trailers",
        *_CALLED,
        takes(
            "P0-007 MSG-001 TYP-005",
            response(1, 0, meta([(b"content-type", b"text/plain")]), META),
            response(1, 1, b"he", MORE),
            response(1, 2, b"llo"),
            response(1, 3),
            response(1, 4, meta([(b"usage", b"2")]), META | END),
        ),
        gives("P0-008", a_control("DONE", 1)),
        outcome("P0-019", 1, SUCCESS, b"hello", b""),
        role="router",
    ),
    conversation(
        "wch-router-early-hello",
        "HELLO and the whole response overtake the 202",
        call(1),
        *_connected(),
        *_accepted(1),
        answer("P0-018"),
        *_success(1),
        role="router",
    ),
    conversation(
        "wch-router-error",
        "An error terminal",
        *_CALLED,
        takes("P0-007", response(1, 0, error(b"no"), END | ERROR)),
        gives("P0-008", a_control("DONE", 1)),
        outcome("P0-019", 1, "FAILED", code="APPLICATION_ERROR"),
        role="router",
    ),
    conversation(
        "wch-router-guesses",
        "Three HELLOs that are not right: the connection ends behind the third",
        call(1),
        answer("P0-018"),
        *_connected(),
        takes("P0-018", control("HELLO", 1, token=token(2))),
        gives("P0-018", a_control("REJECT", 1, **_NOT_FOUND)),
        takes("P0-018", control("HELLO", 2)),
        gives("P0-018", a_control("REJECT", 2, **_NOT_FOUND)),
        takes("P0-018", control("HELLO", 3)),
        gives("P0-018", a_control("REJECT", 3, **_NOT_FOUND)),
        ends("P0-018"),
        *_connected(on=2),
        *_accepted(1, on=2),
        *_success(1, on=2),
        role="router",
    ),
    conversation(
        "wch-router-token-used",
        "A token is void behind the terminal",
        *_CALLED,
        *_success(1),
        takes("P0-018", control("HELLO", 1)),
        gives("P0-018", a_control("REJECT", 1, **_NOT_FOUND)),
        role="router",
    ),
    conversation(
        "wch-router-superseded",
        "A second HELLO before any RESPONSE takes the stream over",
        *_CALLED,
        *_connected(on=2),
        *_accepted(1, on=2),
        ends("P0-019"),
        *_success(1, on=2),
        role="router",
    ),
    conversation(
        "wch-router-not-superseded",
        "A second HELLO behind a RESPONSE is rejected",
        *_CALLED,
        takes("P0-007", response(1, 0, b"hi")),
        *_connected(on=2),
        takes("P0-019", control("HELLO", 1), on=2),
        gives("P0-019", a_control("REJECT", 1, **_NOT_FOUND), on=2),
        takes("P0-007", response(1, 1, flags=END)),
        gives("P0-008", a_control("DONE", 1)),
        outcome("P0-019", 1, SUCCESS, b"hi"),
        role="router",
    ),
    conversation(
        "wch-router-lost-accept",
        "The connection ends before any RESPONSE; the worker dials again",
        *_CALLED,
        closes("P0-019"),
        *_connected(on=2),
        *_accepted(1, on=2),
        *_success(1, on=2),
        role="router",
    ),
    conversation(
        "wch-router-cut",
        "The connection ends behind a whole message: never a success",
        *_CALLED,
        takes("P0-019", response(1, 0, b"hi"), response(1, 1, b"and", MORE)),
        closes("P0-019"),
        outcome("P0-019", 1, "PARTIAL", b"hi"),
        role="router",
    ),
    conversation(
        "wch-router-cancelled",
        "The caller gives up before a HELLO",
        call(1),
        answer("P0-018"),
        local("P0-018", "kill", 1),
        outcome("P0-018", 1, "AMBIGUOUS", code="CANCELLED"),
        *_connected(),
        takes("P0-018", control("HELLO", 1)),
        gives("P0-018", a_control("REJECT", 1, code=code_of("CANCELLED"))),
        role="router",
    ),
    conversation(
        "wch-router-killed",
        "The caller gives up behind the ACCEPT",
        *_CALLED,
        takes("P0-007", response(1, 0, b"hi")),
        local("P0-011", "kill", 1),
        gives("P0-011", a_control("KILL", 1)),
        takes("P0-011", response(1, 1, error(code=code_of("CANCELLED")), END | ERROR)),
        gives("P0-008", a_control("DONE", 1)),
        outcome("P0-019 STM-002", 1, "FAILED", b"hi", code="CANCELLED"),
        role="router",
    ),
    conversation(
        "wch-router-stop-is-held-back",
        "STOP before the ACCEPT goes out right behind it",
        call(1),
        answer("P0-018"),
        local("P0-011", "stop", 1),
        *_connected(),
        takes("P0-018", control("HELLO", 1)),
        gives("P0-011", a_control("ACCEPT", 1), a_control("STOP", 1)),
        *_success(1),
        role="router",
    ),
    conversation(
        "wch-router-refused",
        "503 with wmx-not-processed",
        call(1),
        answer("P0-019", 503, not_processed=True, code="OVERLOADED"),
        outcome("P0-019", 1, "NOT_PROCESSED", code="OVERLOADED"),
        role="router",
    ),
    conversation(
        "wch-router-proxy",
        "502 of a proxy proves nothing",
        call(1),
        answer("P0-019", 502),
        outcome("P0-019", 1, "AMBIGUOUS"),
        role="router",
    ),
    conversation(
        "wch-router-redirected",
        "A redirect is not followed",
        call(1),
        answer("P0-019", 307, location="/elsewhere"),
        outcome("P0-019", 1, "AMBIGUOUS"),
        role="router",
    ),
    conversation(
        "wch-router-no-preface",
        "A client of another protocol gets no octet",
        takes("P0-002", b"GET / HTTP/1.1\r\n\r\n"),
        ends("P0-002"),
        role="router",
    ),
    conversation(
        "wch-router-impatient-worker",
        "An idle timeout of 99 ms",
        takes("P0-002", preface(idle_timeout_ms=99)),
        ends("P0-002"),
        role="router",
    ),
    conversation(
        "wch-router-version-refused",
        "A worker of version 2",
        takes("P0-002 HSK-004", preface(ver_hi=2, ver_lo=2)),
        gives("P0-002", AN_OFFER),
        ends("P0-002"),
        role="router",
    ),
    _broken("gap", "A gap in seq", "FRM-010", response(1, 2, b"x")),
    _broken("repeat", "A seq for the second time", "FRM-010", response(1, 0, b"x")),
    _broken("other-id", "A RESPONSE of another stream", "P0-012", response(2, 1, b"x")),
    _broken("second-hello", "HELLO in the middle of a stream", "P0-012", control("HELLO", 2)),
    _broken("done", "DONE of a worker", "TYP-001", control("DONE", 1)),
    _broken("settings", "WCH has no SETTINGS", "FRM-004", frame("SETTINGS")),
    _broken("marker", "A wrong marker", "FRM-002", frame("PING", bytes(8), marker=0x77)),
    _broken(
        "late-not-processed",
        "NOT_PROCESSED behind a message",
        "ADM-003",
        response(1, 1, error(error_flags=1), END | ERROR),
    ),
)

EXCHANGE: Json = {
    "doc": "Two streams on one connection, both directions whole: a response with headers, a "
    "message in two chunks and trailers; then one that fails behind a message",
    "worker_to_router": (
        preface()
        + control("HELLO", 1)
        + response(1, 0, meta([(b"content-type", b"text/plain")], body=b"hi"), META)
        + response(1, 1, b"he", MORE)
        + response(1, 2, b"llo")
        + response(1, 3, meta([(b"usage", b"2")]), META | END)
        + control("HELLO", 2)
        + response(2, 0, b"one")
        + response(2, 1, error(b"no"), END | ERROR)
    ).hex(),
    "router_to_worker": (
        preface(idle_timeout_ms=400)
        + control("ACCEPT", 1)
        + control("DONE", 1)
        + control("ACCEPT", 2)
        + control("DONE", 2)
    ).hex(),
    "streams": [
        {
            "request_id": rid(1).hex(),
            "token": token(1).hex(),
            "headers": [["content-type", "text/plain"]],
            "messages": [b"hi".hex(), b"hello".hex()],
            "trailers": [["usage", "2"]],
            "end": SUCCESS,
        },
        {
            "request_id": rid(2).hex(),
            "token": token(2).hex(),
            "headers": [],
            "messages": [b"one".hex()],
            "trailers": [],
            "end": an_error("APPLICATION_ERROR"),
        },
    ],
}
"""A recorded exchange: to be cut at every octet, in either direction."""
