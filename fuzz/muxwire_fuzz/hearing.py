"""What is known of one direction of a connection from its octets alone, by the specification.

Rules of this file: it never looks into a core.  `Direction` reads octets with construct, keeps what
later frames are held against (settings, limits, sequence numbers, messages, terminals), and says
when the octets are no frames any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from muxwire_spec import frames as f
from muxwire_spec import registries as r
from muxwire_spec.interpret import WMX, Reading, Receiver

from muxwire_fuzz.reading import (
    END,
    ERROR,
    META,
    MORE,
    Error,
    Told,
    cost_of,
    error_of,
    read_one,
    told,
)

CONNECTION = bytes(16)
_ASSUMED = {rule.name: rule.assumed for rule in r.SETTINGS}
_NAMES = {rule.value: rule.name for rule in r.SETTINGS}


@dataclass(slots=True)
class Course:
    """One request in one direction."""

    seqs: list[int] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    part: bytes | None = None
    """The message that is arriving."""
    cost: int = 0
    terminal: Told | None = None
    """The frame with END_STREAM."""
    order: bool = True
    """Its frames came in sequence."""

    def take(self, frame: Told, body: bytes) -> None:
        """Take a frame (section 8.2)."""
        self.order = self.order and frame.seq == len(self.seqs) and self.terminal is None
        if not self.order:
            return
        self.seqs.append(frame.seq)
        self.cost += cost_of(frame.flags, frame.payload)
        if frame.flags & END:
            self.terminal = frame
        if frame.flags & ERROR:
            self.part = None
        elif frame.flags & MORE:
            self.part = (self.part or b"") + body
        elif body or self.part is not None or not _silent(frame):
            self.messages.append((self.part or b"") + body)
            self.part = None


def _silent(frame: Told) -> bool:
    """Whether an empty frame outside a message carries none (MSG-002)."""
    end = bool(frame.flags & END)
    if frame.kind == "RESPONSE":
        return end or bool(frame.flags & META)
    return end if frame.seq else not end


class Direction:
    """Octets of one side.

    Args:
        receiver: Who reads them, and what it has announced.
    """

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.preface: bytes | None = None
        self.frames: list[Told] = []
        self.courses: dict[bytes, Course] = {}
        self.settings = dict(_ASSUMED)
        self.limits: dict[bytes, int] = {}
        self.cost = 0
        self.error: Error | None = None
        """What the header says that is wrong: nothing behind it is read."""
        self.spoilt = False
        """A payload is wrong, or something that depends on what came before."""
        self.repeated = False
        """A second OPEN has the id of a first."""
        self.octets = 0
        self._buffer = b""
        self._wanted = 0
        """Octets that have to be there before another look says more."""

    @property
    def pending(self) -> int:
        """Octets of a frame that is not whole."""
        return len(self._buffer)

    def feed(self, octets: bytes) -> Iterator[Told]:
        """Take octets; yield the frames that are whole now."""
        self.octets += len(octets)
        self._buffer += octets
        if len(self._buffer) < self._wanted:
            return
        self._wanted = 0
        if self.preface is None:
            if len(self._buffer) < f.PREFACE_SIZE:
                return
            self.preface, self._buffer = (
                self._buffer[: f.PREFACE_SIZE],
                self._buffer[f.PREFACE_SIZE :],
            )
        while self._buffer and self.error is None:
            size = f.HEADER_SIZE + int.from_bytes(self._buffer[8:16])
            first = not self.frames and self.receiver.protocol == WMX
            reading = read_one(self._buffer[:size], self.receiver, first=first)
            if reading.fault is not None and reading.fault.step != "payload":
                self.error = error_of(reading.fault)
            if self.error is not None or not reading.complete:
                self._wanted = size if reading.header else f.HEADER_SIZE
                return
            frame = told(reading, self._buffer[f.HEADER_SIZE : size])
            self._buffer = self._buffer[size:]
            self._take(frame, reading)
            yield frame

    def _take(self, frame: Told, reading: Reading) -> None:
        self.frames.append(frame)
        self.spoilt = self.spoilt or reading.fault is not None
        fields = reading.payload
        if frame.kind in ("REQUEST", "RESPONSE"):
            body = frame.payload
            if fields is not None and "metadata" in fields:
                body = fields["body"]
            self.cost += cost_of(frame.flags, frame.payload)
            known = frame.request_id in self.courses
            if frame.kind == "REQUEST" and bool(frame.seq) != known:
                self.repeated = self.repeated or known
                return  # RID-002, RID-003
            course = self.courses.setdefault(frame.request_id, Course())
            course.take(frame, body)
            self.spoilt = self.spoilt or not course.order
        elif frame.kind == "SETTINGS" and fields is not None:
            for pair in fields["settings"]:
                if pair["id"] in _NAMES:
                    self.settings[_NAMES[pair["id"]]] = pair["value"]
        elif frame.kind == "WINDOW_UPDATE" and fields is not None:
            before = self.limits.get(frame.request_id, 0)
            self.limits[frame.request_id] = max(before, fields["limit"])

    def limit(self, request_id: bytes = CONNECTION) -> int:
        """Return how much of the other side's cost this side has allowed so far."""
        whole = request_id == CONNECTION
        name = "CONNECTION_WINDOW" if whole else "INITIAL_STREAM_WINDOW"
        return max(self.settings[name], self.limits.get(request_id, 0))
