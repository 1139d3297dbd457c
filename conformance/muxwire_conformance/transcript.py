"""What was said on one connection, frame by frame, bounded in memory.

Rules of this file: small frames that look the same and come together are one entry with the octets
of all, so that a flood is kept whole and can be said again. Of what is too long even so, the middle
is dropped.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from muxwire_spec.interpret import WMX

from muxwire_conformance import wire

HTTP_1 = "HTTP/1.1"
"""The protocol of an entry whose octets are shown as lines of text."""

KEEP_FIRST = 2_000
KEEP_TOTAL = 1_048_576
"""Octets of a connection, after which no more of the first entries are kept."""
KEEP_LAST = 120
MOST_PIECES = 256
"""Frames of one write that are told apart."""
KEEP_OCTETS = 2_048
KEEP_SHARED = 16_384
"""Octets of an entry that no further frame joins."""
SMALL = 128
"""Octets of a frame that may share an entry with others."""
TOGETHER = 0.01
"""Seconds within which they come for that."""

HALF_CLOSES = "the judge ends its direction (FIN)"
RESETS = "the judge resets the connection"
NOT_KEPT = "entries not kept"


@dataclass(slots=True, kw_only=True)
class Entry:
    """One frame, preface, run of raw octets or event.

    ``who`` is ``judge``, ``target`` or ``event``. ``raw`` holds at most the first 2,048 octets;
    ``length`` is the real length. ``marked`` is set on what broke the rule; ``field`` and
    ``remark`` say where in it and how, if the octets alone do not show it. ``receiver`` is the role
    of the side that the octets were written for. ``times`` counts the frames that share the entry.
    """

    at: float
    who: str
    text: str
    raw: bytes = b""
    length: int = 0
    marked: bool = False
    note: str = ""
    field: str = ""
    remark: str = ""
    receiver: str = ""
    protocol: str = WMX
    times: int = 1

    @property
    def shown(self) -> str:
        """Return the text, with how many such frames there were."""
        return self.text if self.times == 1 else f"{self.text}, {self.times:,} times"

    def joins(self, other: Entry) -> bool:
        """Tell whether this frame may share the entry right before it."""
        return (
            0 < self.length <= SMALL
            and len(other.raw) < KEEP_SHARED
            and (self.who, self.text, self.note) == (other.who, other.text, other.note)
            and not (self.marked or other.marked)
            and self.at - other.at < TOGETHER
        )

    def shows(self, raw: bytes, at: float) -> bool:
        """Tell whether it is, or holds, a frame of the target that came then."""
        since = at - self.at if self.times > 1 else 0.0
        held = raw in self.raw if self.times > 1 else (raw, at) == (self.raw, self.at)
        return self.who == "target" and held and 0 <= since < TOGETHER


@dataclass(slots=True, kw_only=True)
class Transcript:
    """The entries of one connection, oldest first; the middle of a long one is dropped.

    ``peer`` is the role of the target, and ``protocol`` what is spoken: WMX/1 or WCH/1.
    """

    label: str
    started: float
    peer: str = "worker"
    protocol: str = WMX
    first: list[Entry] = field(default_factory=list)
    last: deque[Entry] = field(default_factory=lambda: deque(maxlen=KEEP_LAST))
    count: int = 0
    _kept: int = 0
    _latest: Entry | None = None

    def add(self, entry: Entry) -> Entry:
        """Append an entry and return it, or the one before it if that holds it now."""
        latest = self._latest
        room = self._kept < KEEP_TOTAL
        self._kept += len(entry.raw)
        if latest is not None and room and entry.joins(latest):
            latest.raw += entry.raw
            latest.length += entry.length
            latest.times += 1
            return latest
        self._latest = entry
        self.count += 1
        if len(self.first) < KEEP_FIRST and room and not self.last:
            self.first.append(entry)
        else:
            self.last.append(entry)
        return entry

    def sent(self, data: bytes, at: float, *, marked: bool = False, note: str = "") -> None:
        """Record octets that the judge wrote, cut into frames as far as they are frames."""
        pieces = split_frames(data)
        for index, piece in enumerate(pieces):
            flood = index == MOST_PIECES and self._kept + len(piece) < KEEP_TOTAL
            self.add(
                Entry(
                    at=at,
                    who="judge",
                    text=wire.describe_raw(piece[:KEEP_OCTETS], len(piece)),
                    raw=bytes(piece if flood else piece[:KEEP_OCTETS]),
                    length=len(piece),
                    marked=marked and index == 0,
                    note=note if index == 0 else "",
                    receiver=self.peer,
                    protocol=self.protocol,
                )
            )

    def received(self, item: wire.Preface | wire.Frame) -> None:
        """Record what the target sent."""
        length = len(item.raw) if isinstance(item, wire.Preface) else wire.HEADER_SIZE + item.length
        self.add(
            Entry(
                at=item.at,
                who="target",
                text=str(item),
                raw=item.raw[:KEEP_OCTETS],
                length=length,
                receiver=self._other,
                protocol=self.protocol,
            )
        )

    @property
    def _other(self) -> str:
        """Return the role that the judge plays."""
        if self.peer != "worker":
            return "worker"
        return "client" if self.protocol == WMX else "router"

    def http(self, who: str, data: bytes, at: float, *, marked: bool = False) -> None:
        """Record octets of an HTTP connection, named by their first line."""
        line = data.partition(b"\r\n")[0][:200].decode("latin-1")
        shown = line if line.isprintable() else f"{len(data)} octets"
        raw = data[:KEEP_OCTETS]
        self.add(
            Entry(
                at=at,
                who=who,
                text=f"{shown} ({len(data)} octets)",
                raw=raw,
                length=len(data),
                marked=marked,
                protocol=HTTP_1,
            )
        )

    def rubbish(self, data: bytes, at: float) -> None:
        """Record octets of the target that are no frame."""
        text = wire.describe_raw(data[:KEEP_OCTETS], len(data))
        entry = Entry(at=at, who="target", text=text, raw=data[:KEEP_OCTETS], length=len(data))
        self.add(entry)

    def event(self, text: str, at: float) -> None:
        """Record something that is not octets, such as the end of a direction."""
        self.add(Entry(at=at, who="event", text=text))

    def entries(self) -> list[Entry]:
        """Return what was kept, with a line for what was not."""
        dropped = self.count - len(self.first) - len(self.last)
        middle = []
        if dropped:
            at = self.last[0].at
            middle.append(Entry(at=at, who="event", text=f"... {dropped} {NOT_KEPT} ..."))
        return [*self.first, *middle, *self.last]

    def mark(self, item: wire.Frame | wire.Preface, *, field: str = "", remark: str = "") -> None:
        """Mark the entry of a received frame as the one that broke the rule."""
        raw = item.raw[:KEEP_OCTETS]
        for entry in reversed(self.entries()):
            if entry.shows(raw, item.at):
                entry.marked = True
                entry.field, entry.remark = field or entry.field, remark or entry.remark
                return


def split_frames(data: bytes) -> list[bytes]:
    """Cut octets at the frame boundaries that their own length fields declare.

    What is left after many of them is one piece.
    """
    pieces: list[bytes] = []
    start = 0
    while start < len(data) and len(pieces) < MOST_PIECES:
        left = len(data) - start
        if data[start : start + 8] in (wire.MAGIC, wire.WCH_MAGIC) and left >= wire.PREFACE_SIZE:
            size = wire.PREFACE_SIZE
        elif wire.looks_like_frame(data[start : start + wire.HEADER_SIZE], left):
            size = wire.HEADER_SIZE + int.from_bytes(data[start + 8 : start + 16], "big")
        else:
            size = left
        pieces.append(data[start : start + min(size, left)])
        start += min(size, left)
    if start < len(data):
        pieces.append(data[start:])
    return pieces
