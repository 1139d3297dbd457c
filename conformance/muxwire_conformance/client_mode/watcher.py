"""What the judge sees of a client beyond ``client_invariants``, because it is the worker itself.

It knows every connection of the client, when its own SETTINGS were written, and that nobody sits
in between. Where a frame may have crossed one of the judge's, the laxer state counts.
"""

from __future__ import annotations

from muxwire_conformance import wire
from muxwire_conformance.client_invariants import ClientWatcher
from muxwire_conformance.wire import Fault, Frame, Preface

CLIENT_WATCHED: tuple[str, ...] = (
    *("HSK-001", "HSK-006", "HSK-007"),
    *("FRM-002", "FRM-003", "FRM-004", "FRM-006", "FRM-007", "FRM-008", "FRM-010"),
    *("TYP-001", "TYP-002", "TYP-003", "PAY-001", "PAY-002", "PAY-005"),
    *("SET-001", "SET-002", "SET-003", "SET-005", "RID-001", "STM-002"),
    *("FLW-001", "FLW-003", "FAI-001", "FAI-002", "ADM-001"),
    *("CLS-001", "CLS-002", "CLS-009", "REC-007"),
)
"""Requirements that the watcher can see a client break."""

EARLY_OPENS = 100
MOST_TURN = 65_536


class LinkWatcher(ClientWatcher):
    """Check everything that a client sends on one connection of the judge.

    Args:
        known_ids: The request ids of all connections so far.
    """

    def __init__(self, known_ids: set[bytes]) -> None:
        super().__init__()
        self._known_ids = known_ids
        self._opens = 0
        self._error_sent = False
        self._message: dict[bytes, int] = {}

    def preface(self, seen: Preface, /) -> list[Fault]:
        """Return what is wrong with the preface: it must offer version 1."""
        if not seen.ver_lo <= 1 <= seen.ver_hi or seen.header_size != wire.HEADER_SIZE:
            return [Fault(requirement="HSK-001", text=f"{seen} does not offer version 1")]
        return []

    def frame(self, seen: Frame) -> list[Fault]:
        """Return what is wrong with a frame."""
        first = self.frames == 0
        early = not self._worker_settings
        faults = super().frame(seen)
        for one in faults:
            if early and one.requirement in ("FLW-001", "FRM-003"):
                one.requirement = "SET-005"
            elif one.requirement == "PAY-004":  # binds the worker; a client must not send it
                one.requirement = "SET-003"

        def fault(requirement: str, text: str, field: str = "") -> None:
            faults.append(Fault(requirement=requirement, text=text, field=field))

        if first and seen.settings is None:
            fault("HSK-001", f"the first frame is {seen.name}, not SETTINGS", "type")
        if self._error_sent:
            fault("CLS-002", f"{seen.name} follows an error GOAWAY", "type")
        if seen.type == wire.REQUEST:
            if seen.opening is not None:
                faults += self._opened(seen, early=early)
            faults += self._sized(seen, early=early)
        elif seen.type == wire.CONTROL and seen.subtype in (wire.STOP, wire.KILL):
            if seen.request_id not in self._requests:
                fault("FAI-001", f"{seen.name} came before the OPEN of its id", "request_id")
        elif seen.goaway is not None and seen.goaway.code:
            self._error_sent = True
            last, grace = seen.goaway.last_ordinal, seen.goaway.grace_ms
            if last or grace:
                text = f"an error GOAWAY of a client with last_ordinal {last}, grace_ms {grace}"
                fault("CLS-001", text, "last_ordinal")
        return faults

    def _opened(self, seen: Frame, *, early: bool) -> list[Fault]:
        faults = []

        def fault(requirement: str, text: str, field: str = "") -> None:
            faults.append(Fault(requirement=requirement, text=text, field=field))

        self._opens += 1
        if seen.request_id in self._known_ids:
            fault("RID-001", "the request id was used before", "request_id")
        self._known_ids.add(seen.request_id)
        if early and self._opens > EARLY_OPENS:
            fault("SET-005", f"{self._opens} OPENs before the worker's SETTINGS")
        keys = [key for key, _value in seen.headers or ()]
        if keys.count(b"request-id") != 1:
            fault("REC-007", f"an OPEN with {keys.count(b'request-id')} request-id headers")
        attempt = dict(seen.headers or ()).get(b"attempt")
        if attempt is not None and not (attempt.isdigit() and int(attempt) >= 2):
            fault("REC-007", f"the header attempt is {attempt[:20]!r}")
        return faults

    def _sized(self, seen: Frame, *, early: bool) -> list[Fault]:
        size = self._message.get(seen.request_id, 0) + len(seen.data)
        self._message[seen.request_id] = size if seen.more else 0
        faults = []
        if size > self.settings["MAX_MESSAGE_SIZE"]:
            text = f"a message of at least {size} octets"
            faults.append(Fault(requirement="SET-005" if early else "SET-003", text=text))
        if seen.length > MOST_TURN:
            text = f"a frame of {seen.length} octets in one turn"
            faults.append(Fault(requirement="FAI-002", text=text, field="payload_length"))
        return faults
