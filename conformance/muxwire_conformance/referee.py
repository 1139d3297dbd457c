"""The rules that both peers of one connection must keep, on octets that somebody else reads too.

Rules of this file:

* ``Referee`` takes the octets of both directions in the order in which they were seen, and returns
  what is wrong. It never raises because of octets, and it keeps no payload longer than its frame.
* After octets that are no frame a direction is lost: it is not judged any further.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from muxwire_conformance import wire
from muxwire_conformance.client_invariants import ClientWatcher
from muxwire_conformance.invariants import Watcher
from muxwire_conformance.wire import Fault, Frame, Parser, Preface

CLIENT, WORKER = "client", "worker"


@dataclass(slots=True, kw_only=True)
class Seen:
    """One preface or frame, who sent it, and what is wrong with it.

    Without an item these are the first octets that are no frame.
    """

    sender: str
    item: Preface | Frame | None
    faults: list[Fault]
    octets: bytes


class Referee:
    """Judge one connection between a client and a worker."""

    def __init__(self, *, tester: bool = False) -> None:
        self.client = ClientWatcher(tester=tester)
        self.worker = Watcher()
        self._parsers = {CLIENT: Parser(), WORKER: Parser()}

    def feed(self, sender: str, data: bytes, at: float) -> Iterator[Seen]:
        """Take octets of one side; yield what became complete."""
        parser = self._parsers[sender]
        was_lost = parser.lost is not None
        for item in parser.feed(data, at):
            faults = [] if isinstance(item, Preface) else self._frame(sender, item)
            octets = item.raw if isinstance(item, Preface) else wire.octets_of(item)
            yield Seen(sender=sender, item=item, faults=faults, octets=octets)
        if parser.lost is not None and not was_lost:
            octets = bytes(parser.garbage)
            yield Seen(sender=sender, item=None, faults=[parser.lost], octets=octets)

    def unfinished(self, sender: str) -> int:
        """Return how many octets of an incomplete frame a side has left."""
        return self._parsers[sender].pending

    def _frame(self, sender: str, frame: Frame) -> list[Fault]:
        if sender == CLIENT:
            self._tell_worker_watcher(frame)
            return self.client.frame(frame)
        faults = self.worker.frame(frame)
        self._tell_client_watcher(frame)
        return faults

    def _tell_worker_watcher(self, frame: Frame) -> None:
        if frame.type == wire.REQUEST:
            self.worker.opened(frame.request_id)
        elif frame.settings is not None:
            self.worker.announced(frame.settings)
        elif frame.limit is not None:
            self.worker.credited(frame.request_id, frame.limit)

    def _tell_client_watcher(self, frame: Frame) -> None:
        if frame.settings is not None:
            self.client.announced(frame.settings)
        elif frame.limit is not None:
            self.client.credited(frame.request_id, frame.limit)
        elif frame.type == wire.RESPONSE and frame.end:
            self.client.finished(frame.request_id)
