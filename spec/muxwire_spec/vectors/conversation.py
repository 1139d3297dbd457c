"""Conversations: what an endpoint receives step by step, and what it has to do about it.

A conversation is data. What the endpoint receives is octets, since a peer may say anything. What
it sends is described as far as the specification fixes it and no further: messages and not the
frames that carry them, terminals with their code and flags, control frames by the fields that
matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from muxwire_spec import errors
from muxwire_spec import registries as r
from muxwire_spec.vectors.build import END, META, frame, opening, preface, settings

Json = dict[str, Any]
Part = bytes | tuple[bytes, int]
"""Octets, or octets and how often they are repeated."""

ORDERLY = "ORDERLY"
"""An ending that is no error: the stream ends behind what was expected, without an error GOAWAY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step: `body` has the member that says what happens, in the form of the JSON."""

    requirements: tuple[str, ...]
    doc: str
    body: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A conversation of the endpoint `role`, which is under test, with a tester.

    `config` has what the endpoint announces or is configured with, where that matters; `free` the
    kinds of frames that it may send at any time besides those that always are free.
    """

    name: str
    doc: str
    role: str
    steps: tuple[Step, ...]
    config: Mapping[str, int] = field(default_factory=dict)
    free: tuple[str, ...] = ()

    @property
    def requirements(self) -> tuple[str, ...]:
        """The ids of all steps."""
        ids = [id_ for step in self.steps for id_ in step.requirements]
        return tuple(dict.fromkeys(ids))


def conversation(
    name: str,
    doc: str,
    *steps: Step,
    role: str = "worker",
    free: str = "",
    config: Mapping[str, int] | None = None,
) -> Conversation:
    """Return a conversation; `free` are kinds of frames with spaces between them."""
    return Conversation(
        name=name,
        doc=doc,
        role=role,
        steps=steps,
        config=config or {},
        free=tuple(free.split()),
    )


# --- steps ------------------------------------------------------------------------------------


def _step(requirements: str, doc: str, body: Json, **times: int | None) -> Step:
    given = {name: value for name, value in times.items() if value is not None}
    return Step(requirements=tuple(requirements.split()), doc=doc, body={**given, **body})


def receive(requirements: str, *parts: Part, doc: str = "", at: int | None = None) -> Step:
    """Let the endpoint receive octets in one segment."""
    joined: list[Any] = []
    for part in parts:
        if isinstance(part, tuple):
            joined.append({"repeat": part[0].hex(), "times": part[1]})
        elif joined and isinstance(joined[-1], str):
            joined[-1] += part.hex()
        else:
            joined.append(part.hex())
    return _step(requirements, doc, {"receive": joined}, at=at)


def expect(
    requirements: str,
    *items: Json,
    doc: str = "",
    ordered: bool = False,
    after: int | None = None,
    by: int | None = None,
    within: int | None = None,
) -> Step:
    """Say what the endpoint has to send, and nothing else but what is free."""
    body: Json = {"expect": list(items)}
    if ordered:
        body["ordered"] = True
    return _step(requirements, doc, body, after=after, by=by, within=within)


def end(
    requirement: str,
    code: str | None = None,
    *,
    kinds: str = "",
    also: str = "",
    last: int | None = None,
    doc: str = "",
    after: int | None = None,
    by: int | None = None,
    within: int | None = None,
) -> Step:
    """Say how the connection has to end.

    Args:
        requirement: The broken rule, of the error table.
        code: Its code, where the rule has several.
        kinds: The acceptable ends; those without a condition by default.
        also: More requirements that this shows.
        last: The last_ordinal of the GOAWAY.
        doc: What it shows.
        after: Not before this time.
        by: At this time at the latest.
        within: So long after the step before at the latest.

    Raises:
        LookupError: the error table has no such rule, or several.
    """
    rules = [
        rule
        for rule in errors.RULES
        if rule.requirement == requirement and code in (None, rule.code)
    ]
    if len({rule.code for rule in rules}) != 1:
        raise LookupError(f"{requirement} {code}: {len(rules)} rules")
    allowed = {ending.kind: ending.when for rule in rules for ending in rule.ends}
    chosen = kinds.split() or [kind for kind, when in allowed.items() if not when]
    if not chosen or not set(chosen) <= set(allowed):
        raise LookupError(f"{requirement}: {chosen} are not its ends")
    body: Json = {"kinds": chosen, "requirement": requirement, "code": rules[0].code}
    if last is not None:
        body["last_ordinal"] = last
    return _step(f"{requirement} {also}", doc, {"end": body}, after=after, by=by, within=within)


def orderly(
    requirements: str,
    *,
    doc: str = "",
    after: int | None = None,
    by: int | None = None,
    within: int | None = None,
) -> Step:
    """Say that the endpoint ends the connection without an error."""
    body: Json = {"kinds": [ORDERLY], "requirement": None, "code": None}
    return _step(requirements, doc, {"end": body}, after=after, by=by, within=within)


# --- what is expected -------------------------------------------------------------------------


def a_preface(**fields: int) -> Json:
    """Expect a preface, version 1 unless told otherwise."""
    return {"preface": {"ver_hi": 1, "ver_lo": 1, "header_size": 32, **fields}}


def a_frame(kind: str, times: int = 1, **payload: Any) -> Json:
    """Expect a control frame with at least these fields in its payload."""
    item: Json = {"kind": kind}
    if payload:
        item["payload"] = {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in payload.items()
        }
    return {"frame": item} if times == 1 else {"frame": item, "times": times}


def a_response(
    number: int, *messages: bytes | Json, end: Json | str | Iterable[Json | str] = (), **more: Any
) -> Json:
    """Expect more of a response: complete messages, and how it ends (nothing: not yet)."""
    ends = [end] if isinstance(end, str | dict) else list(end)
    shown = [message.hex() if isinstance(message, bytes) else message for message in messages]
    body = {"request_id": rid(number).hex(), "messages": shown, "end": ends, **more}
    return {"response": body}


def an_error(code: str, *flags: str, **more: Any) -> Json:
    """An error terminal with exactly these of the known flags."""
    r.ERROR_CODES.value(code)
    return {"code": code, "error_flags": list(flags), **more}


def a_limit(number: int, at_least: int) -> Json:
    """Expect that the credit limit of a request (0: of the connection) reaches a value."""
    id_ = rid(number) if number else bytes(16)
    return {"limit": {"request_id": id_.hex(), "at_least": at_least}}


SUCCESS = "SUCCESS"
PONG = bytes(range(0xA0, 0xA8))


# --- octets -----------------------------------------------------------------------------------


def rid(number: int) -> bytes:
    """Return the id of the request with this number."""
    return bytes.fromhex(f"{number:08x}000040008000{number:012x}")


def setup(**values: int) -> bytes:
    """Return a SETTINGS frame with settings by name and a grease setting (FRM-012)."""
    pairs = [(r.setting(name).value, value) for name, value in values.items()]
    return frame("SETTINGS", settings(*pairs, (0x2A2A, 9)))


def open_(
    number: int,
    subject: str,
    body: bytes = b"",
    *,
    flags: int = END,
    headers: Iterable[tuple[bytes, bytes]] = (),
    timeout_ms: int = 0,
) -> bytes:
    """Return an OPEN of a conformance subject, or of any subject that has a dot."""
    name = subject if "." in subject else f"conformance.{subject}"
    payload = opening(name.encode(), headers, body=body, timeout_ms=timeout_ms)
    return frame("REQUEST", payload, flags=META | flags, request_id=rid(number))


def data(number: int, seq: int, body: bytes = b"", flags: int = 0) -> bytes:
    """Return a REQUEST that continues a request."""
    return frame("REQUEST", body, flags=flags, seq=seq, request_id=rid(number))


def filler(number: int, seq: int, size: int, flags: int = 0) -> tuple[Part, Part]:
    """Return a REQUEST with so many zero octets, in two parts."""
    header = frame("REQUEST", payload_length=size, flags=flags, seq=seq, request_id=rid(number))
    return header, (b"\0", size)


def kill(number: int) -> bytes:
    """Return a KILL."""
    return frame("KILL", {"reason": r.ERROR_CODES.value("CANCELLED")}, request_id=rid(number))


def stop(number: int) -> bytes:
    """Return a STOP."""
    return frame("STOP", {"reason": r.ERROR_CODES.value("CANCELLED")}, request_id=rid(number))


def update(number: int, limit: int) -> bytes:
    """Return a WINDOW_UPDATE of a request, or of the connection (0)."""
    id_ = rid(number) if number else bytes(16)
    return frame("WINDOW_UPDATE", {"limit": limit}, request_id=id_)


def go_away(code: str = "NO_ERROR", last: int = 0, grace_ms: int = 0) -> bytes:
    """Return a GOAWAY."""
    fields = {"last_ordinal": last, "grace_ms": grace_ms, "message": b""}
    return frame("GOAWAY", {"code": r.ERROR_CODES.value(code), **fields})


OFFER = preface(ver_hi=1, ver_lo=1)
ACK = frame("SETTINGS_ACK")
PING = frame("PING", PONG)

GREETING = (a_preface(), a_frame("SETTINGS"), a_frame("SETTINGS_ACK"))


def hello(at: int | None = None, **values: int) -> tuple[Step, Step]:
    """Return a whole handshake of a client, in one segment."""
    by = None if at is None else at + 2_000
    return (
        receive("HSK-001 HSK-009", OFFER, setup(**values), ACK, at=at),
        expect("HSK-003 HSK-005 HSK-007", *GREETING, ordered=True, by=by),
    )


def fence(requirements: str = "HBT-002", doc: str = "", at: int | None = None) -> tuple[Step, Step]:
    """Return a PING and its PONG: everything before has been processed, the connection lives."""
    by = None if at is None else at + 1_000
    return (
        receive("HBT-002", PING, at=at),
        expect(requirements, a_frame("PONG", opaque=PONG), doc=doc, by=by),
    )
