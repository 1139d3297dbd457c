"""What the judge checks in everything that a router sends on a call-home connection.

The judge is the worker and knows what it wrote itself, so only what is certain is a fault: a frame
that the specification's own reader refuses, or one that no state of the router allows.
"""

from __future__ import annotations

from muxwire_spec.interpret import WCH, read_frame, receiver_of

from muxwire_conformance import wire
from muxwire_conformance.wire import Fault, Frame, Preface

ROUTER_WATCHED: tuple[str, ...] = ("P0-002", "P0-008", "P0-011", "P0-018")
"""Requirements of chapter 21 that the watcher can see a router break."""

_RECEIVER = receiver_of(WCH, "worker")
_ANSWERS = (wire.code("NOT_FOUND"), wire.code("CANCELLED"))


class HomeWatcher:
    """Check everything that a router sends on one connection."""

    def __init__(self) -> None:
        self.settings: dict[str, int] = {}
        self.connection_limit = 0
        self._asked: set[bytes] = set()
        self._accepted: set[bytes] = set()
        self._ended: set[bytes] = set()

    # -- what the judge did ----------------------------------------------------------------

    def announced(self, pairs: list[tuple[int, int]]) -> None:
        """Take SETTINGS, which WCH/1 does not have: nothing follows from them."""

    def credited(self, request_id: bytes, limit: int) -> None:
        """Take credit, which WCH/1 does not have: nothing follows from it."""

    def wrote(self, kind: int, subtype: int, flags: int, request_id: bytes) -> None:
        """Note a frame of the judge."""
        if kind == wire.CONTROL and subtype == wire.HELLO:
            self._asked.add(request_id)
        elif kind == wire.RESPONSE and flags & wire.END_STREAM:
            self._ended.add(request_id)

    # -- what the router did ---------------------------------------------------------------

    def preface(self, seen: Preface, /) -> list[Fault]:
        """Return what is wrong with a preface: it selects version 1, or refuses with its range."""
        text = ""
        if seen.header_size != wire.HEADER_SIZE or not seen.ver_lo <= 1 <= seen.ver_hi:
            text = f"{seen} is neither an acceptance of version 1 nor a refusal"
        elif seen.reserved and not 100 <= seen.reserved <= 600_000:
            text = f"an idle timeout of {seen.reserved} ms"
        return [Fault(requirement="P0-002", text=text)] if text else []

    def frame(self, seen: Frame) -> list[Fault]:
        """Return what is wrong with a frame."""
        found = read_frame(wire.octets_of(seen), _RECEIVER).fault
        if found is not None:
            text = f"{seen.name}: {found.text}"
            return [Fault(requirement=found.breach.requirement, text=text, field=found.field)]
        if seen.type != wire.CONTROL or seen.extension:
            return []
        fault = self._control(seen)
        return [] if fault is None else [fault]

    def _control(self, seen: Frame) -> Fault | None:
        id = seen.request_id
        if seen.subtype in (wire.ACCEPT, wire.REJECT):
            if id not in self._asked:
                text = f"{seen.name} answers no HELLO"
                return Fault(requirement="P0-018", text=text, field="request_id")
            self._asked.discard(id)
            code = int.from_bytes(seen.payload, "big")
            if seen.subtype == wire.ACCEPT:
                self._accepted.add(id)
            elif code not in _ANSWERS:
                text = f"REJECT with {wire.code_name(code)}"
                return Fault(requirement="P0-018", text=text, field="code")
        elif seen.subtype == wire.DONE:
            if id not in self._ended or id not in self._accepted:
                text = "DONE for a stream without a terminal, or for the second time"
                return Fault(requirement="P0-008", text=text, field="request_id")
            self._ended.discard(id)
        elif id not in self._accepted:
            text = f"{seen.name} for a stream that was not accepted here"
            return Fault(requirement="P0-011", text=text, field="request_id")
        return None
