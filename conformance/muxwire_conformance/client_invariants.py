"""Rules that every frame of a client must keep, whatever the conversation is about.

Rules of this file:

* What one frame shows is decided by the specification's own reader, ``muxwire_spec.interpret``.
  What needs memory is decided here.
* Only what is certain is a fault, also for somebody between the two: what the worker has sent may
  not have reached the client yet, so it counts in the client's favour at once.
* A tester may send what the receiver has to take: what it ignores (reserved flag bits, frames of
  requests that it does not know), and what it refuses without ending the connection.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from muxwire_spec.interpret import Receiver, read_frame
from muxwire_spec.model import Scope
from muxwire_spec.registries import SETTINGS

from muxwire_conformance import wire
from muxwire_conformance.wire import Fault, Frame

MOST_REQUESTS = 16_384
"""Requests of a connection that are remembered; what is older and over is forgotten."""


class Note(Protocol):
    """Takes a fault: requirement, text and perhaps the field that shows it."""

    def __call__(self, requirement: str, text: str, field: str = "") -> None:
        """Write it down."""


@dataclass(slots=True)
class _Request:
    """What is known of one request from the side that sends it."""

    limit: int
    next_seq: int = 0
    cost: int = 0
    ended: bool = False
    stopped: bool = False
    killed: bool = False


class ClientWatcher:
    """Check everything that a client sends on one connection.

    Args:
        tester: The client is a tester, which may do what a correct client has no reason for.
    """

    def __init__(self, *, tester: bool = False) -> None:
        self._tester = tester
        self.settings = {known.name: known.assumed for known in SETTINGS}
        self.connection_limit = self.settings["CONNECTION_WINDOW"]
        self._connection_cost = 0
        self._requests: dict[bytes, _Request] = {}
        self._live: set[bytes] = set()
        self._forgot = False
        self.frames = 0
        self._settings_seen = 0
        self._acks_seen = 0
        self._worker_settings = False
        self._goaway = False
        self._last_ordinal: int | None = None

    # -- what the worker did ---------------------------------------------------------------

    def announced(self, pairs: list[tuple[int, int]]) -> None:
        """Note the worker's SETTINGS."""
        self._worker_settings = True
        for number, value in pairs:
            name = wire.SETTING_NAMES.get(number)
            if name is not None:
                self.settings[name] = value
        self.connection_limit = max(self.connection_limit, self.settings["CONNECTION_WINDOW"])
        for request in self._requests.values():
            request.limit = max(request.limit, self.settings["INITIAL_STREAM_WINDOW"])

    def credited(self, request_id: bytes, limit: int) -> None:
        """Note credit that the worker gave."""
        if request_id == wire.CONNECTION_ID:
            self.connection_limit = max(self.connection_limit, limit)
        elif request_id in self._requests:
            request = self._requests[request_id]
            request.limit = max(request.limit, limit)

    def finished(self, request_id: bytes) -> None:
        """Note the terminal of a request."""
        self._live.discard(request_id)

    # -- what the client did ---------------------------------------------------------------

    def frame(self, seen: Frame) -> list[Fault]:
        """Return what is wrong with a frame of the client."""
        reading = read_frame(
            wire.octets_of(seen),
            Receiver(
                role="worker",
                first=self.frames == 0,
                max_frame_size=self.settings["MAX_FRAME_SIZE"],
                max_metadata_size=self.settings["MAX_METADATA_SIZE"],
            ),
        )
        faults = []

        def fault(requirement: str, text: str, field: str = "") -> None:
            faults.append(Fault(requirement=requirement, text=text, field=field))

        self.frames += 1
        if reading.fault is not None:
            found = reading.fault
            if self._tester and found.breach.scope is Scope.STREAM:
                self._remember(seen.request_id, _Request(limit=0, ended=True))
                return faults
            fault(found.breach.requirement, f"{seen.name}: {found.text}", found.field)
            return faults
        if seen.type >= 0x80:
            return faults
        if seen.flags & 0xF0 and not self._tester:
            fault("FRM-007", f"flag bits 0x{seen.flags & 0xF0:02X} are not 0", "flags")
        if seen.type == wire.REQUEST:
            self._request(seen, fault)
        elif seen.type == wire.CONTROL:
            self._control(seen, fault)
        return faults

    def _request(self, seen: Frame, fault: Note) -> None:
        request = self._requests.get(seen.request_id)
        if seen.seq == 0:
            if request is not None:
                fault("RID-001", "the request id was used before", "request_id")
                return
            if self._goaway:
                fault("CLS-009", "an OPEN follows the client's own GOAWAY", "request_id")
            request = _Request(limit=self.settings["INITIAL_STREAM_WINDOW"])
            self._remember(seen.request_id, request)
            most = self.settings["MAX_CONCURRENT_REQUESTS"]
            if len(self._live) > most and not self._tester:
                fault("ADM-001", f"{len(self._live)} requests are live, the limit is {most}")
        elif request is None:
            if not self._forgot:
                self._misuse(fault, "a REQUEST for an id that was never opened")
            return
        elif request.ended or request.killed:
            word = "END_STREAM" if request.ended else "KILL"
            self._misuse(fault, f"a REQUEST follows the {word} of its request")
        elif seen.seq != request.next_seq:
            fault("FRM-010", f"seq is {seen.seq} where {request.next_seq} is due", "seq")
        request.next_seq = (seen.seq + 1) & 0xFFFFFFFF
        request.ended = request.ended or seen.end
        self._charge(seen, request, fault)

    def _misuse(self, fault: Note, text: str) -> None:
        if not self._tester:
            fault("STM-002", text, "request_id")

    def _remember(self, request_id: bytes, request: _Request) -> None:
        self._requests[request_id] = request
        self._live.add(request_id)
        if len(self._requests) > MOST_REQUESTS:
            over = next((id for id in self._requests if id not in self._live), None)
            if over is not None:
                del self._requests[over]
                self._forgot = True

    def _charge(self, seen: Frame, request: _Request, fault: Note) -> None:
        request.cost += seen.cost
        self._connection_cost += seen.cost
        live = seen.request_id in self._live  # the worker drops what comes behind the terminal
        if seen.cost and live and request.cost > request.limit:
            text = f"the stream cost {request.cost} is above {request.limit}"
            fault("FLW-001", text, "payload_length")
        if seen.cost and self._connection_cost > self.connection_limit:
            text = f"the connection cost {self._connection_cost} is above {self.connection_limit}"
            fault("FLW-001", text, "payload_length")

    def _control(self, seen: Frame, fault: Note) -> None:
        if seen.subtype == wire.SETTINGS_SUBTYPE:
            self._settings_seen += 1
            if self._settings_seen > 1:
                fault("HSK-006", "SETTINGS was sent a second time", "subtype")
        elif seen.subtype == wire.SETTINGS_ACK:
            self._acks_seen += 1
            if self._acks_seen > 1:
                fault("HSK-007", "SETTINGS_ACK was sent a second time", "subtype")
            elif not self._worker_settings:
                fault("HSK-007", "SETTINGS_ACK came before the worker's SETTINGS", "subtype")
        elif seen.subtype in (wire.STOP, wire.KILL):
            self._cancel(seen, fault)
        elif seen.goaway is not None:
            self._goaway = True
            last = seen.goaway.last_ordinal
            if self._last_ordinal is not None and last > self._last_ordinal:
                text = f"last_ordinal rises from {self._last_ordinal} to {last}"
                fault("CLS-007", text, "last_ordinal")
            self._last_ordinal = last

    def _cancel(self, seen: Frame, fault: Note) -> None:
        request = self._requests.get(seen.request_id)
        if request is None:
            if not self._forgot:
                self._misuse(fault, f"a {seen.name} for an id that was never opened")
            return
        if request.killed or (request.stopped and seen.subtype == wire.STOP):
            self._misuse(fault, f"a further {seen.name} of the same request")
        request.stopped = request.stopped or seen.subtype == wire.STOP
        request.killed = request.killed or seen.subtype == wire.KILL
