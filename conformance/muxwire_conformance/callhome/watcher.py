"""Rules of chapter 21 that every octet of a worker on a call-home connection must keep.

The always-on rules of ``invariants`` hold here as far as the chapter says; there is no SETTINGS and
no credit, and every limit is a number.
"""

from __future__ import annotations

from typing import ClassVar

from muxwire_spec import callhome

from muxwire_conformance import wire
from muxwire_conformance.client_invariants import Note
from muxwire_conformance.invariants import Kinds, Watcher, lower_kinds
from muxwire_conformance.wire import Fault, Frame, Preface

_ENDLESS = 1 << 62
LEAST_IDLE, MOST_IDLE = 100, 600_000


class HomeWatcher(Watcher):
    """Check everything that a worker sends on one call-home connection."""

    KINDS: ClassVar[Kinds] = lower_kinds(callhome.FRAMES)

    def __init__(self) -> None:
        super().__init__()
        self.settings |= {
            "MAX_FRAME_SIZE": callhome.MAX_FRAME_SIZE,
            "INITIAL_STREAM_WINDOW": _ENDLESS,
        }
        self.connection_limit = _ENDLESS
        self.stream: bytes | None = None
        self.accepted = False
        self.over = False

    # -- what the judge did ----------------------------------------------------------------

    def answered(self, subtype: int, request_id: bytes) -> None:
        """Note ACCEPT, REJECT or DONE of the judge."""
        if request_id != self.stream:
            return
        if subtype == wire.ACCEPT:
            self.accepted = True
            self.opened(request_id)
        else:
            self.stream = None

    # -- what the worker did ---------------------------------------------------------------

    def preface(self, seen: Preface) -> list[Fault]:
        """Check the offer: the roles of chapter 1 are exchanged."""
        faults = []
        if seen.ver_lo > seen.ver_hi or not seen.ver_lo <= wire.VERSION <= seen.ver_hi:
            faults.append(f"versions {seen.ver_lo}..{seen.ver_hi} are offered")
        if seen.header_size != wire.HEADER_SIZE:
            faults.append(f"a header of {seen.header_size} octets is offered")
        if seen.reserved and not LEAST_IDLE <= seen.reserved <= MOST_IDLE:
            faults.append(f"idle_timeout_ms is {seen.reserved}")
        if seen.flags:
            faults.append(f"the flags of the preface are 0x{seen.flags:02X}")
        return [Fault(requirement="P0-002", text=text) for text in faults]

    def _order(self, seen: Frame, fault: Note) -> None:
        if seen.type == wire.CONTROL and seen.subtype == wire.HELLO:
            if self.stream is not None:
                fault("P0-008", "HELLO came before the stream before it was done", "subtype")
            self.stream, self.accepted, self.over = seen.request_id, False, False
        elif seen.type == wire.RESPONSE:
            if self.stream is None or seen.request_id != self.stream:
                fault("P0-003", "RESPONSE came for a stream that said no HELLO", "request_id")
                self.opened(seen.request_id)
            elif not self.accepted:
                fault("P0-003", "RESPONSE came before ACCEPT", "type")
                self.opened(seen.request_id)
            elif self.over:
                fault("P0-008", "RESPONSE came behind the terminal", "type")
            self.over = self.over or seen.end
