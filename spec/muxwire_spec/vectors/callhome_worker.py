"""Conversations of a worker that is called over HTTP and dials home."""

from __future__ import annotations

from muxwire_spec.vectors.build import frame
from muxwire_spec.vectors.callhome_frames import preface
from muxwire_spec.vectors.callhome_steps import (
    AN_OFFER,
    PING,
    a_hello,
    closes,
    code_of,
    control,
    ends,
    gives,
    post,
    response,
    takes,
)
from muxwire_spec.vectors.conversation import (
    SUCCESS,
    Conversation,
    Step,
    a_frame,
    a_response,
    an_error,
    conversation,
    rid,
)

_SLOW = b'{"count":1000000,"interval_ms":60000}'
_CANCELLED = an_error("CANCELLED")


def _dialled(number: int, on: int = 1) -> tuple[Step, Step, Step]:
    """A connection comes up, and the HELLO of a stream comes over it."""
    return (
        gives("P0-002", AN_OFFER, on=on),
        takes("P0-002", preface(), on=on),
        gives("P0-001 P0-003", a_hello(number), on=on),
    )


def _delivered(number: int, on: int = 1) -> tuple[Step, Step, Step]:
    """The stream of an echo is accepted, delivered and confirmed."""
    return (
        takes("P0-003", control("ACCEPT", number), on=on),
        gives("P0-003 P0-007", a_response(number, b"hi", end=SUCCESS), on=on),
        takes("P0-008", control("DONE", number), on=on),
    )


_STREAMING = (
    post("P0-001", 1, "generate", _SLOW),
    *_dialled(1),
    takes("P0-003", control("ACCEPT", 1)),
    gives("P0-003", a_response(1, {"size": 16})),
)
"""A worker in the middle of a long stream."""


def _offence(name: str, doc: str, requirements: str, octets: bytes) -> Conversation:
    """Break a rule in STREAMING: the worker closes, and does not dial again for the stream."""
    return conversation(
        f"wch-streaming-{name}",
        doc,
        *_STREAMING,
        takes(requirements, octets),
        ends(f"P0-012 {requirements}"),
        post("P0-006", 2),
        *_dialled(2, on=2),
        *_delivered(2, on=2),
    )


def _idle(name: str, doc: str, requirements: str, octets: bytes) -> Conversation:
    """Send what has no place on an idle connection: the next stream comes on another one."""
    return conversation(
        f"wch-idle-{name}",
        doc,
        post("P0-001", 1),
        *_dialled(1),
        *_delivered(1),
        takes(requirements, octets),
        ends("P0-010"),
        post("P0-010", 2),
        *_dialled(2, on=2),
        *_delivered(2, on=2),
    )


def _malformed(
    name: str, doc: str, field: str, value: str | None, status: int = 400
) -> Conversation:
    """Post with a bad field: nothing is dialled, and the next request is served."""
    rule = "P0-016" if status == 403 else "P0-017"
    return conversation(
        f"wch-post-{name}",
        doc,
        post(rule, 1, status=status, changed={field: value}),
        post("P0-001", 2),
        *_dialled(2),
        *_delivered(2),
    )


WORKER: tuple[Conversation, ...] = (
    conversation(
        "wch-two-streams",
        "Two streams one after the other on one connection",
        post("P0-001", 1),
        *_dialled(1),
        *_delivered(1),
        post("P0-009", 2),
        gives("P0-009", a_hello(2)),
        *_delivered(2),
        takes("P0-014", PING),
        gives("P0-014", a_frame("PONG", opaque=bytes(8))),
    ),
    conversation(
        "wch-nothing-before-accept",
        "Other frames have an answer before ACCEPT, the response has to wait",
        post("P0-001", 1),
        *_dialled(1),
        takes("P0-003", PING),
        gives("P0-003", a_frame("PONG", opaque=bytes(8))),
        *_delivered(1),
    ),
    conversation(
        "wch-failed-handler",
        "An error of the handler is a terminal like any other",
        post("P0-001", 1, "fail", b'{"code":263,"after":1}'),
        *_dialled(1),
        takes("P0-003", control("ACCEPT", 1)),
        gives(
            "P0-007",
            a_response(1, bytes(8), end=an_error("APPLICATION_ERROR")),
        ),
        takes("P0-008", control("DONE", 1)),
        post("P0-009", 2),
        gives("P0-009", a_hello(2)),
        *_delivered(2),
    ),
    conversation(
        "wch-rejected",
        "A rejected stream leaves the connection idle",
        post("P0-001", 1, "sleep", b'{"ms":60000}'),
        *_dialled(1),
        takes("P0-004", control("REJECT", 1, code=code_of("CANCELLED"))),
        post("P0-004", 2),
        gives("P0-004 P0-009", a_hello(2)),
        *_delivered(2),
    ),
    conversation(
        "wch-lost-before-accept",
        "The connection ends between HELLO and ACCEPT, twice: the third attempt is accepted",
        post("P0-001", 1),
        *_dialled(1),
        closes("P0-005"),
        *_dialled(1, on=2),
        closes("P0-005", on=2),
        *_dialled(1, on=3),
        *_delivered(1, on=3),
    ),
    conversation(
        "wch-not-a-router",
        "An HTTP server answers at the address: the worker dials again",
        post("P0-001", 1),
        gives("P0-002", AN_OFFER),
        takes("P0-002", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        ends("P0-002"),
        *_dialled(1, on=2),
        *_delivered(1, on=2),
    ),
    conversation(
        "wch-version-refused",
        "The router has version 2 only",
        post("P0-001", 1),
        gives("P0-002", AN_OFFER),
        takes("P0-002 HSK-004", preface(ver_hi=2, ver_lo=2)),
        ends("P0-002"),
        *_dialled(1, on=2),
        *_delivered(1, on=2),
    ),
    conversation(
        "wch-accept-for-another",
        "ACCEPT with another id is a failed attempt",
        post("P0-001", 1),
        *_dialled(1),
        takes("P0-012", control("ACCEPT", 9)),
        ends("P0-012 P0-005"),
        *_dialled(1, on=2),
        *_delivered(1, on=2),
    ),
    conversation(
        "wch-not-reused-before-done",
        "The second stream comes on another connection while DONE is missing",
        post("P0-001", 1),
        *_dialled(1),
        takes("P0-003", control("ACCEPT", 1)),
        gives("P0-007", a_response(1, b"hi", end=SUCCESS)),
        post("P0-008", 2),
        *_dialled(2, on=2),
        *_delivered(2, on=2),
        takes("P0-008", control("DONE", 1)),
    ),
    conversation(
        "wch-killed",
        "KILL in the middle of a stream; the connection is used again",
        *_STREAMING,
        takes("P0-011", control("KILL", 1, reason=code_of("CANCELLED"))),
        gives("P0-011 CAN-001", a_response(1, end=_CANCELLED)),
        takes("P0-008", control("DONE", 1)),
        post("P0-009", 2),
        gives("P0-009", a_hello(2)),
        *_delivered(2),
    ),
    conversation(
        "wch-killed-before-accept",
        "KILL between HELLO and ACCEPT: the terminal goes out after ACCEPT",
        post("P0-001", 1, "sleep", b'{"ms":60000}'),
        *_dialled(1),
        takes("P0-011", control("KILL", 1, reason=code_of("CANCELLED")), PING),
        gives("P0-011", a_frame("PONG", opaque=bytes(8))),
        takes("P0-011", control("ACCEPT", 1)),
        gives("P0-011", a_response(1, end=_CANCELLED)),
        takes("P0-008", control("DONE", 1)),
    ),
    conversation(
        "wch-stopped",
        "STOP ends a generation early and well",
        *_STREAMING,
        takes("P0-011 CAN-005", control("STOP", 1, reason=code_of("CANCELLED"))),
        gives("P0-011 CAN-005", a_response(1, end=SUCCESS)),
        takes("P0-008", control("DONE", 1)),
    ),
    conversation(
        "wch-stale-kill",
        "KILL and STOP for a stream that is over have no effect, idle or not",
        post("P0-001", 1),
        *_dialled(1),
        *_delivered(1),
        takes(
            "P0-011",
            control("KILL", 1, reason=code_of("CANCELLED")),
            control("STOP", 7, reason=code_of("CANCELLED")),
        ),
        post("P0-011", 2),
        gives("P0-011", a_hello(2)),
        takes("P0-011", control("KILL", 1, reason=code_of("CANCELLED"))),
        *_delivered(2),
    ),
    _offence("accept", "ACCEPT for the second time", "P0-012", control("ACCEPT", 1)),
    _offence("done", "DONE before the terminal", "P0-012", control("DONE", 1)),
    _offence(
        "reject", "REJECT after ACCEPT", "P0-012", control("REJECT", 1, code=code_of("NOT_FOUND"))
    ),
    _offence("hello", "HELLO to a worker", "TYP-001", control("HELLO", 1)),
    _offence("settings", "WCH has no SETTINGS", "FRM-004", frame("SETTINGS")),
    _offence("marker", "A wrong marker", "FRM-002", frame("PING", bytes(8), marker=0x77)),
    _offence("long-done", "DONE with a payload", "PAY-001", frame("DONE", b"!", request_id=rid(1))),
    _idle("garbage", "Text on an idle connection", "P0-010", b"GET / HTTP/1.1\r\n\r\n"),
    _idle("done", "DONE for the second time", "P0-010", control("DONE", 1)),
    _idle("response", "A RESPONSE to a worker", "P0-010", response(1, 0, b"x")),
    _malformed("no-address", "wch-addr is missing", "wch-addr", None),
    _malformed("no-port", "An address without a port", "wch-addr", "127.0.0.1"),
    _malformed("no-stream", "wch-stream is missing", "wch-stream", None),
    _malformed("bad-stream", "wch-stream is no UUID", "wch-stream", "1234"),
    _malformed("no-token", "wch-token is missing", "wch-token", None),
    _malformed("short-token", "A token of 21 characters", "wch-token", "A" * 21),
    _malformed("loose-token", "A token with unused bits set", "wch-token", "A" * 21 + "B"),
    _malformed("bad-timeout", "A timeout that is no number", "wch-timeout-ms", "soon"),
    _malformed("address", "An address of another host", "wch-addr", "192.0.2.1:9", status=403),
)
