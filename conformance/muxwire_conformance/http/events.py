"""The formats of a response that are text, read by the letter of their grammar (section 22.3).

Rules of this file:

* A reader takes octets in any pieces and returns the events that became complete. What a worker
  must not send is a ``Fault`` that names its requirement; nothing raises.
* These readers are for what a worker sends. They accept nothing that the grammar does not have.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, NoReturn, Protocol

from muxwire_spec.formats import FORMATS
from muxwire_spec.http import ERROR
from muxwire_spec.registries import ERROR_CODES

from muxwire_conformance.wire import Fault

MOST_KEPT = 16

ITEM, BIN, HEARTBEAT, DONE, FAILED = "item", "bin", "heartbeat", "done", "error"
TERMINALS = (DONE, FAILED)

TYPES = {type_: known.name for known in FORMATS for type_ in known.types}
"""The format of each media type."""

_ERROR_MEMBERS = {member.name for member in ERROR}


@dataclass(slots=True, kw_only=True)
class Event:
    """One event of a response.

    ``data`` is an item as octets, ``json`` its value where it came as JSON. ``count`` is the
    number of items that a terminal event gives (None in the binary format). ``at`` is when it was
    complete.
    """

    kind: str
    at: float
    seq: int = 0
    data: bytes = b""
    json: Any = None
    count: int | None = None
    trailers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Describe it in one line."""
        if self.kind in (ITEM, BIN):
            return f"{self.kind} {self.seq}, {len(self.data)} octets: {self.data[:40]!r}"
        if self.kind == DONE:
            return f"done, items {self.count}, trailers {self.trailers}"
        if self.kind == FAILED:
            return f"error {self.error.get('code')}, items {self.count}"
        return self.kind


class Reader(Protocol):
    """Reads one format."""

    faults: list[Fault]

    def feed(self, data: bytes, at: float) -> list[Event]:
        """Take octets of a body and return the events that became complete."""
        ...

    def finish(self) -> None:
        """Take the clean end of the body."""
        ...


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


def strict_json(text: str | bytes) -> Any:
    """Return a JSON value; numbers keep their exact value.

    Raises:
        ValueError: it is not JSON.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    return json.loads(text, parse_constant=_refuse, parse_float=Decimal, parse_int=Decimal)


def error_faults(error: Any, members: set[str]) -> list[str]:
    """Return what is wrong with an error object that has these members beside its own."""
    if not isinstance(error, dict):
        return ["the error is no object"]
    wrong = []
    expected = _ERROR_MEMBERS | members
    if set(error) != expected:
        wrong.append(f"the members are {sorted(error)}, not {sorted(expected)}")
        return wrong
    kinds: dict[str, Any] = {"string": str, "number": Decimal, "boolean": bool}
    for member in ERROR:
        if not isinstance(error[member.name], kinds[member.type]):
            wrong.append(f"{member.name} is no {member.type}")
    if wrong:
        return wrong
    if len(error["message"].encode("utf-8", "surrogatepass")) > 1_024:
        wrong.append("message has more than 1,024 octets")
    known = {entry.name: entry.value for entry in ERROR_CODES.entries}
    if known.get(error["code"]) != error["num"]:
        wrong.append(f"code {error['code']!r} and num {error['num']} are not one code")
    if error["retry_after_ms"] < 0:
        wrong.append("retry_after_ms is negative")
    return wrong


class _Lines:
    """What SSE and NDJSON share: numbers, counts, and the place of the terminal event."""

    REQUIREMENT = ""
    END = b""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._buffer = bytearray()
        self._searched = 0
        self._seq = 0
        self._over = False

    def _fault(self, text: str, requirement: str = "") -> None:
        if len(self.faults) < MOST_KEPT:
            self.faults.append(Fault(requirement=requirement or self.REQUIREMENT, text=text))

    def feed(self, data: bytes, at: float) -> list[Event]:
        """Take octets of a body and return the events that became complete."""
        self._buffer += data
        found = []
        while (piece := self._piece()) is not None:
            event = self._event(piece, at)
            if event is not None:
                self._place(event)
                found.append(event)
        return found

    def finish(self) -> None:
        """Take the clean end of the body."""
        if self._buffer:
            self._fault(f"the body ends inside an event: {bytes(self._buffer[-40:])!r}")
        if not self._over:
            self._fault("the body ends normally without a terminal event", "P1-010")

    def _piece(self) -> bytes | None:
        end = self._buffer.find(self.END, max(0, self._searched - len(self.END) + 1))
        if end < 0:
            self._searched = len(self._buffer)
            return None
        piece = bytes(self._buffer[:end])
        del self._buffer[: end + len(self.END)]
        self._searched = 0
        return piece

    def _event(self, piece: bytes, at: float) -> Event | None:
        raise NotImplementedError

    def _place(self, event: Event) -> None:
        if self._over:
            self._fault(f"{event.kind} stands behind the terminal event", "P1-010")
        if event.kind in (ITEM, BIN):
            if event.seq != self._seq:
                self._fault(f"seq is {event.seq} where {self._seq} is due", "P1-009")
            self._seq = event.seq + 1
        elif event.kind in TERMINALS:
            self._over = True
            if event.count != self._seq:
                rule = "P1-009" if event.kind == DONE else "P1-011"
                text = f"{event.kind} says {event.count} items; there were {self._seq}"
                self._fault(text, rule)

    def _base64(self, text: str) -> bytes:
        try:
            data = base64.b64decode(text.encode("ascii"), validate=True)
        except (ValueError, binascii.Error):
            self._fault(f"this is no base64: {text[:60]!r}")
            return b""
        if base64.b64encode(data).decode() != text:
            self._fault(f"this base64 is not canonical: {text[-60:]!r}")
        return data

    def _terminal(self, kind: str, value: Any, at: float, own: set[str]) -> Event:
        event = Event(kind=kind, at=at)
        if kind == FAILED:
            for text in error_faults(value, {"items"} | own):
                self._fault(f"error: {text}", "P1-011")
            event.error = value if isinstance(value, dict) else {}
            if event.error.get("not_processed") is not False:
                self._fault("error: not_processed is not false", "P1-011")
        else:
            if not isinstance(value, dict) or set(value) != {"items", "trailers"} | own:
                self._fault(f"done has other members than the grammar: {str(value)[:80]}")
                value = value if isinstance(value, dict) else {}
            trailers = value.get("trailers")
            if not isinstance(trailers, dict) or not all(
                isinstance(text, str) for text in trailers.values()
            ):
                self._fault("trailers is no object of strings")
                trailers = {}
            event.trailers = trailers
        count = value.get("items") if isinstance(value, dict) else None
        event.count = int(count) if isinstance(count, Decimal) and count == int(count) else None
        return event


class SseReader(_Lines):
    """Server-sent events as a worker has to write them, octet by octet (P1-005)."""

    REQUIREMENT = "P1-005"
    END = b"\n\n"
    _ITEM = re.compile(r"id: (0|[1-9][0-9]*)\nevent: (item|bin)\ndata: ([^\r\n]*)")
    _TERMINAL = re.compile(r"event: (done|error)\ndata: ([^\r\n]*)")

    def _event(self, piece: bytes, at: float) -> Event | None:
        try:
            text = piece.decode("utf-8")
        except UnicodeDecodeError:
            self._fault(f"an event is not UTF-8: {piece[:60]!r}")
            return None
        if text == ": hb":
            return Event(kind=HEARTBEAT, at=at)
        if (match := self._ITEM.fullmatch(text)) is not None:
            event = Event(kind=match[2], at=at, seq=int(match[1]))
            if event.kind == BIN:
                event.data = self._base64(match[3])
            else:
                event.data = match[3].encode()
                event.json = self._json(match[3])
            return event
        if (match := self._TERMINAL.fullmatch(text)) is not None:
            return self._terminal(match[1], self._json(match[2]), at, set())
        self._fault(f"this event is not in the grammar: {text[:100]!r}")
        return None

    def _json(self, text: str) -> Any:
        try:
            return strict_json(text)
        except ValueError:
            self._fault(f"this data is no JSON: {text[:60]!r}")
            return None


class NdjsonReader(_Lines):
    """One JSON object to a line (P1-006)."""

    REQUIREMENT = "P1-006"
    END = b"\n"
    _MEMBERS: ClassVar = {ITEM: {"t", "seq", "data"}, BIN: {"t", "seq", "b64"}, "hb": {"t"}}

    def _event(self, piece: bytes, at: float) -> Event | None:
        try:
            value = strict_json(piece)
        except ValueError:
            self._fault(f"this line is no JSON: {piece[:60]!r}")
            return None
        kind = value.get("t") if isinstance(value, dict) else None
        if kind in TERMINALS:
            return self._terminal(kind, value, at, {"t"})
        if not isinstance(kind, str) or set(value) != self._MEMBERS.get(kind):
            self._fault(f"this line is not in the grammar: {piece[:100]!r}")
            return None
        if kind == "hb":
            return Event(kind=HEARTBEAT, at=at)
        event = Event(kind=kind, at=at)
        seq = value["seq"]
        if isinstance(seq, Decimal) and seq == int(seq) and seq >= 0:
            event.seq = int(seq)
        else:
            self._fault(f"seq is {seq!r}")
        if kind == ITEM:
            event.json = value["data"]
        elif isinstance(value["b64"], str):
            event.data = self._base64(value["b64"])
        else:
            self._fault("b64 is no string")
        return event
