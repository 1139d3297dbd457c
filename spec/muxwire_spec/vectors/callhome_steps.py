"""The steps of call-home conversations: what a tester does, and what it expects.

The tester plays the other side, HTTP included. Connections are numbered in the order of the dials.
A router under test takes the stream ids and tokens from the conversation instead of drawing them.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from muxwire_spec import registries as r
from muxwire_spec.vectors.build import frame
from muxwire_spec.vectors.conversation import Json, Step, a_frame, expect, receive, rid

PING = frame("PING", bytes(8))


def token(number: int) -> bytes:
    """Return the token of the stream with this number."""
    return bytes(range(number, number + 16))


def step(requirements: str, body: Json) -> Step:
    """Return a step with the member that says what happens."""
    return Step(requirements=tuple(requirements.split()), doc="", body=body)


def on_connection(connection: int, step: Step) -> Step:
    """Return the step as one of a connection."""
    return replace(step, body={"connection": connection, **step.body})


def takes(requirements: str, *octets: bytes, on: int = 1) -> Step:
    """Let the endpoint receive octets on a connection."""
    return on_connection(on, receive(requirements, *octets))


def gives(requirements: str, *items: Json, on: int = 1) -> Step:
    """Say what the endpoint has to send on a connection; several things in their order."""
    return on_connection(on, expect(requirements, *items, ordered=len(items) > 1))


def ends(requirements: str, on: int = 1) -> Step:
    """Say that the endpoint closes a connection without a further frame."""
    return on_connection(on, step(requirements, {"end": {"kinds": ["NO_FRAME"]}}))


def closes(requirements: str, on: int = 1) -> Step:
    """Let the tester close a connection."""
    return on_connection(on, step(requirements, {"close": True}))


def fields_of(number: int) -> dict[str, str]:
    """Return the HTTP fields that name a stream and its token."""
    text = base64.urlsafe_b64encode(token(number)).decode().rstrip("=")
    return {"wch-stream": str(uuid.UUID(bytes=rid(number))), "wch-token": text}


def post(
    requirements: str,
    number: int,
    subject: str = "echo",
    body: bytes = b"hi",
    *,
    status: int = 202,
    changed: Mapping[str, str | None] | None = None,
) -> Step:
    """Let the tester post; `changed` replaces fields, and leaves out those that are None."""
    sent = {"wch-addr": "{addr}", **fields_of(number), **(changed or {})}
    post = {
        "subject": subject if "." in subject else f"conformance.{subject}",
        "fields": {name: value for name, value in sent.items() if value is not None},
        "body": body.hex(),
    }
    return step(requirements, {"post": post, "status": status})


def control(kind: str, number: int, **payload: Any) -> bytes:
    """Return a Control frame of a stream; a HELLO has its token unless told otherwise."""
    if kind == "HELLO":
        payload.setdefault("token", token(number))
    fields = payload or b""
    return frame(kind, fields, request_id=rid(number))


def a_control(kind: str, number: int, **payload: Any) -> Json:
    """Expect a Control frame of a stream."""
    found = a_frame(kind, **payload)
    found["frame"]["request_id"] = rid(number).hex()
    return found


def a_hello(number: int) -> Json:
    """Expect the HELLO of a stream."""
    return a_control("HELLO", number, token=token(number))


def code_of(name: str) -> int:
    """Return the number of an error code."""
    return r.ERROR_CODES.value(name)


def response(number: int, seq: int, body: bytes = b"", flags: int = 0) -> bytes:
    """Return a RESPONSE."""
    return frame("RESPONSE", body, flags=flags, seq=seq, request_id=rid(number))


AN_OFFER: Json = {"preface": {"ver_hi": 1, "ver_lo": 1, "header_size": 32}}


def call(number: int) -> Step:
    """Let a caller make a request: the router posts it, with this stream and token."""
    call = {"subject": "conformance.echo", "body": b"hi".hex(), "fields": fields_of(number)}
    return step("P0-018", {"call": call})


def answer(requirements: str, status: int = 202, **more: Any) -> Step:
    """Let the tester answer the last POST."""
    return step(requirements, {"answer": {"status": status, **more}})


def local(requirements: str, action: str, number: int) -> Step:
    """Let a caller do "stop" or "kill" with its request."""
    return step(requirements, {"local": action, "stream": rid(number).hex()})


def outcome(
    requirements: str, number: int, class_: str, *messages: bytes, code: str | None = None
) -> Step:
    """Say how a request ends at its caller."""
    body = {
        "stream": rid(number).hex(),
        "class": class_,
        "code": code,
        "messages": [message.hex() for message in messages],
    }
    return step(requirements, {"outcome": body})
