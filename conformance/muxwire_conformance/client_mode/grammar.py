"""Read the lines of a driver: each must be an event of section 19.4, in an order it allows.

Rules of this file:

* The grammar is the data of ``muxwire_spec.driver``; nothing of it is written here again.
* A line that is not in the grammar is the driver's fault, not the client's: the case can show
  nothing, and is INCONCLUSIVE.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from muxwire_spec import driver

EVENTS: Mapping[str, driver.Line] = {line.name: line for line in driver.EVENTS}
FINAL = frozenset({"end", "error"})
LATE = frozenset({"unsupported", "invalid"})
"""Events that name a request and may follow its final event: they answer an operation."""


class GrammarError(ValueError):
    """What the driver wrote is not the protocol; one clear line."""


def read_event(line: bytes) -> dict[str, Any]:
    """Return the event of a line.

    Raises:
        GrammarError: it is none.
    """
    shown = line[:120].decode("utf-8", "replace").rstrip()
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GrammarError(f"a line that is no JSON: {shown!r}") from error
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise GrammarError(f"a line that is no event: {shown!r}")
    known = EVENTS.get(event["event"])
    if known is None:
        raise GrammarError(f"an unknown event: {shown!r}")
    for member in known.members:
        if member.name not in event:
            if member.optional:
                continue
            raise GrammarError(f"the event {known.name} without {member.name!r}: {shown!r}")
        if not fits(member.type, event[member.name]):
            text = f"the event {known.name}, whose {member.name!r} is no {member.type}: {shown!r}"
            raise GrammarError(text)
    return event


def fits(type_: str, value: object) -> bool:
    """Tell whether a value is of a type, in the words of ``muxwire_spec.driver``."""
    if type_.endswith(" or null"):
        return value is None or fits(type_.removesuffix(" or null"), value)
    if type_.startswith("[") and type_.endswith(", ...]"):
        inner = type_[1:].removesuffix(", ...]")
        return isinstance(value, list) and all(fits(inner, one) for one in value)
    if type_.startswith("["):
        inner_types = type_[1:-1].split(", ")
        return (
            isinstance(value, list)
            and len(value) == len(inner_types)
            and all(fits(inner, one) for inner, one in zip(inner_types, value, strict=True))
        )
    if type_ in driver.SETS:
        return value in driver.SETS[type_]
    if type_ == "any":
        return True
    if type_ == "bool":
        return isinstance(value, bool)
    if type_ in ("count", "u32", "ms"):
        number = isinstance(value, int) and not isinstance(value, bool)
        return number and 0 <= value < (2**63 if type_ == "count" else 2**32)  # type: ignore[operator]
    if type_ == "B64":
        return isinstance(value, str) and _is_base64(value)
    return isinstance(value, str)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    return True


@dataclass(slots=True)
class Order:
    """Check that events come in an order that section 19.4 allows."""

    started: bool = False
    closed: bool = False
    requested: set[str] = field(default_factory=set)
    finished: set[str] = field(default_factory=set)
    connected: set[int] = field(default_factory=set)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take the next event.

        Raises:
            GrammarError: it cannot come now.
        """
        name = event["event"]
        if self.closed:
            raise GrammarError(f"the event {name} after closed")
        if self.started == (name == "ready"):
            raise GrammarError("ready for the second time" if self.started else f"{name} first")
        self.started = True
        self.closed = name == "closed"
        ref = event.get("ref")
        if ref is not None and name not in LATE:
            if ref not in self.requested:
                raise GrammarError(f"the event {name} for {ref!r}, which was never requested")
            if ref in self.finished:
                raise GrammarError(f"the event {name} for {ref!r} after its final event")
            if name in FINAL:
                self.finished.add(ref)
        if name == "connected":
            if event["conn"] in self.connected:
                raise GrammarError(f"connected for conn {event['conn']}, which is connected")
            self.connected.add(event["conn"])
        elif name == "disconnected":
            self.connected.discard(event["conn"])
