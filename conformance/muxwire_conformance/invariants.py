"""Rules that every received frame must keep, whatever a case is about.

One ``Watcher`` per connection sees everything the target sends on it. It only writes down what it
saw; the runner turns sightings into the verdict of ``<requirement>/every-frame``.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from muxwire_spec import frames as layouts
from muxwire_spec.model import FrameKind
from muxwire_spec.registries import (
    CONTROL_SUBTYPES,
    FRAME_TYPES,
    HEARTBEAT_SUBTYPES,
    SETTINGS,
    setting,
)

from muxwire_conformance import wire
from muxwire_conformance.client_invariants import MOST_REQUESTS, Note
from muxwire_conformance.wire import Fault, Frame, Preface

WATCHED: tuple[str, ...] = (
    "HSK-005",
    "HSK-006",
    "HSK-007",
    "FRM-002",
    "FRM-004",
    "FRM-006",
    "FRM-007",
    "FRM-008",
    "FRM-010",
    "TYP-001",
    "TYP-002",
    "TYP-004",
    "TYP-005",
    "TYP-006",
    "PAY-001",
    "PAY-002",
    "PAY-005",
    "PAY-007",
    "SET-001",
    "SET-002",
    "SET-003",
    "RID-004",
    "FLW-001",
    "CLS-007",
)
"""Requirements that the watcher can see broken."""

_KEY = re.compile(rb"[a-z0-9._-]{1,64}")


Kinds = Mapping[tuple[int, int | None], FrameKind]
"""Frame kinds by type and subtype."""


def lower_kinds(frames: Iterable[FrameKind]) -> Kinds:
    """Return the frame kinds of a protocol by their numbers."""
    kinds: dict[tuple[int, int | None], FrameKind] = {}
    for kind in frames:
        number = FRAME_TYPES.value(kind.type)
        subtype = None
        if kind.subtype is not None:
            registry = CONTROL_SUBTYPES if kind.type == "CONTROL" else HEARTBEAT_SUBTYPES
            subtype = registry.value(kind.subtype)
        kinds[number, subtype] = kind
    return kinds


KINDS = lower_kinds(layouts.FRAMES)


@dataclass(slots=True)
class _Direction:
    """What is known of the RESPONSE direction of one request."""

    next_seq: int = 0
    ended: bool = False
    cost: int = 0
    limit: int = 0


class Watcher:
    """Check everything received on one connection.

    The connection tells it what the judge sent that matters: its settings, its credit and the ids
    that it opened.
    """

    KINDS: ClassVar[Kinds] = KINDS

    def __init__(self) -> None:
        self.settings = {known.name: known.assumed for known in SETTINGS}
        self.connection_limit = setting("CONNECTION_WINDOW").assumed
        self._connection_cost = 0
        self._directions: dict[bytes, _Direction] = {}
        self._over: deque[bytes] = deque()  # what ended, the oldest first
        self._forgot = False
        self._frames = 0
        self._settings_seen = 0
        self._acks_seen = 0
        self._last_ordinal: int | None = None

    # -- what the judge did ----------------------------------------------------------------

    def opened(self, request_id: bytes) -> None:
        """Note an id on which the judge sent a REQUEST."""
        if request_id not in self._directions:
            limit = self.settings["INITIAL_STREAM_WINDOW"]
            self._directions[request_id] = _Direction(limit=limit)
            if len(self._directions) > MOST_REQUESTS:
                self._forget()

    def _forget(self) -> None:
        if self._over:
            del self._directions[self._over.popleft()]
            self._forgot = True

    def announced(self, pairs: list[tuple[int, int]]) -> None:
        """Note the judge's SETTINGS; values below a floor do not lower what is allowed."""
        for number, value in pairs:
            name = wire.SETTING_NAMES.get(number)
            if name is not None:
                self.settings[name] = max(value, setting(name).minimum)
        window = self.settings["INITIAL_STREAM_WINDOW"]
        for direction in self._directions.values():
            direction.limit = max(direction.limit, window)
        self.connection_limit = max(self.connection_limit, self.settings["CONNECTION_WINDOW"])

    def credited(self, request_id: bytes, limit: int) -> None:
        """Note credit that the judge gave."""
        if request_id == wire.CONNECTION_ID:
            self.connection_limit = max(self.connection_limit, limit)
        elif request_id in self._directions:
            direction = self._directions[request_id]
            direction.limit = max(direction.limit, limit)

    # -- what the target did ---------------------------------------------------------------

    def preface(self, _seen: Preface) -> list[Fault]:
        """Check a preface; what it must contain depends on the offer, so cases judge it."""
        return []

    def frame(self, seen: Frame) -> list[Fault]:
        """Return what is wrong with a frame, faults of its payload included."""
        faults = list(seen.faults)

        def fault(requirement: str, text: str, field: str = "") -> None:
            faults.append(Fault(requirement=requirement, text=text, field=field))

        self._order(seen, fault)
        self._frames += 1
        if seen.type >= 0x80:
            return faults
        kind = self.KINDS.get((seen.type, None)) or self.KINDS.get((seen.type, seen.subtype))
        if kind is None:
            if not seen.extension:
                fault("FRM-004", f"a worker must not send {seen.name}")
            return faults
        self._header(seen, kind, fault)
        if seen.type == wire.RESPONSE:
            self._response(seen, fault)
        if seen.settings is not None:
            self._values(seen.settings, fault)
        if seen.goaway is not None:
            last = seen.goaway.last_ordinal
            if self._last_ordinal is not None and last > self._last_ordinal:
                text = f"last_ordinal rises from {self._last_ordinal} to {last}"
                fault("CLS-007", text, "last_ordinal")
            self._last_ordinal = last
        return faults

    def _order(self, seen: Frame, fault: Note) -> None:
        is_settings = seen.type == wire.CONTROL and seen.subtype == wire.SETTINGS_SUBTYPE
        is_goaway = seen.type == wire.CONTROL and seen.subtype == wire.GOAWAY
        is_ack = seen.type == wire.CONTROL and seen.subtype == wire.SETTINGS_ACK
        if self._frames == 0 and not is_settings and not is_goaway:
            fault("HSK-005", f"the first frame is {seen.name}, not SETTINGS", "type")
        if is_settings:
            self._settings_seen += 1
            if self._settings_seen > 1:
                fault("HSK-006", "SETTINGS was sent a second time", "subtype")
        elif is_ack:
            self._acks_seen += 1
            if self._acks_seen > 1:
                fault("HSK-007", "SETTINGS_ACK was sent a second time", "subtype")
        elif self._acks_seen == 0 and self._frames > 0 and not is_goaway:
            fault("HSK-007", f"{seen.name} came before SETTINGS_ACK", "type")

    def _header(self, seen: Frame, kind: FrameKind, fault: Note) -> None:
        if "worker" not in kind.senders:
            fault("TYP-001", f"a worker must not send {seen.name}")
        if seen.flags & 0xF0:
            fault("FRM-007", f"flag bits 0x{seen.flags & 0xF0:02X} are not 0")
        wrong = seen.flags & layouts.FLAG_MASK & ~kind.flags
        if wrong:
            fault("FRM-006", f"flag 0x{wrong:02X} is not allowed on {seen.name}")
        if seen.type in (wire.REQUEST, wire.RESPONSE) and seen.subtype:
            fault("FRM-007", f"the subtype of {seen.name} is 0x{seen.subtype:02X}, not 0")
        if seen.type in (wire.CONTROL, wire.HEARTBEAT) and seen.seq:
            fault("FRM-007", f"the seq of {seen.name} is {seen.seq}, not 0")
        zero, ones = seen.request_id == wire.CONNECTION_ID, seen.request_id == wire.INVALID_ID
        if kind.scope == "connection" and not zero:
            fault("FRM-008", f"{seen.name} carries a request id")
        if (kind.scope == "request" and zero) or (kind.scope != "connection" and ones):
            fault("FRM-008", f"{seen.name} carries the all-{'zero' if zero else 'ones'} id")
        if seen.type in (wire.REQUEST, wire.RESPONSE):
            if seen.length > self.settings["MAX_FRAME_SIZE"]:
                text = f"{seen.name} has {seen.length} octets, above MAX_FRAME_SIZE"
                fault("SET-003", text, "payload_length")
        elif seen.length > wire.MAX_CONTROL:
            fault("PAY-001", f"{seen.name} has {seen.length} octets")

    def _response(self, seen: Frame, fault: Note) -> None:
        if seen.end and seen.more:
            fault("TYP-002", "END_STREAM and MORE are both set")
        if seen.is_error and (not seen.end or seen.meta or seen.more):
            fault("TYP-004", "ERROR needs END_STREAM and excludes META and MORE")
        if seen.meta and seen.seq != 0 and not seen.end:
            fault("TYP-005", f"META is set at seq {seen.seq} without END_STREAM", "flags")
        if seen.headers is not None:
            keys = [key for key, _value in seen.headers]
            bad = [key for key in keys if not _KEY.fullmatch(key)]
            if bad:
                fault("PAY-005", f"the header key {bad[0]!r} is malformed")
            if len(set(keys)) < len(keys):
                fault("PAY-005", "a header key is repeated")
        direction = self._directions.get(seen.request_id)
        if direction is None and self._forgot:
            return
        if direction is None:
            fault("RID-004", "the client never opened this request id", "request_id")
            self.opened(seen.request_id)
            direction = self._directions[seen.request_id]
        if direction.ended:
            fault("TYP-006", "a frame follows the terminal of its request", "request_id")
        elif seen.seq != direction.next_seq:
            fault("FRM-010", f"seq is {seen.seq} where {direction.next_seq} is due", "seq")
        direction.next_seq = (seen.seq + 1) & 0xFFFFFFFF
        if seen.end and not direction.ended:
            direction.ended = True
            self._over.append(seen.request_id)
        direction.cost += seen.cost
        self._connection_cost += seen.cost
        if seen.cost and direction.cost > direction.limit:
            text = f"the stream cost {direction.cost} is above {direction.limit}"
            fault("FLW-001", text, "payload_length")
        if seen.cost and self._connection_cost > self.connection_limit:
            text = f"the connection cost {self._connection_cost} is above {self.connection_limit}"
            fault("FLW-001", text, "payload_length")

    def _values(self, pairs: list[tuple[int, int]], fault: Note) -> None:
        seen: set[int] = set()
        for number, value in pairs:
            if number in seen:
                fault("SET-002", f"setting 0x{number:04X} is repeated")
            seen.add(number)
            name = wire.SETTING_NAMES.get(number)
            if name is None:
                continue
            known = setting(name)
            if not known.minimum <= value <= known.maximum:
                text = f"{name} is {value}, outside {known.minimum}..{known.maximum}"
                fault("SET-001", text)
