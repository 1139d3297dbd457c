"""What an input of a wire target is: one octet of options and a list of records.

Rules of this file: any octets are an input and any input has one meaning, so a fuzzer can change
what it likes.  A record is a tag, a length of two octets and a body; the last may be cut short.
Octets that a peer sends are the body of a record of their own, so that the places where they are
cut are part of the input too.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from muxwire_spec import callhome
from muxwire_spec import frames as f

HEADER = 3
"""Octets in front of the body of a record."""
LONGEST = 0xFFFF
"""Largest body."""
FILL = 1 << 18
"""Most octets that a record of kind FILLED can add."""


class Tag(enum.IntEnum):
    """What a record does. A tag of an input counts modulo the number of them."""

    OCTETS = 0
    """The peer sends these octets."""
    FILLED = 1
    """The same, followed by zeros up to the declared end of the last frame."""
    ACT = 2
    """The application does something."""
    WAIT = 3
    """Time passes: the body is a number of milliseconds."""
    LINK = 4
    """Something happens to the connection: a cut, an end, a stall."""


class Record(NamedTuple):
    """One thing that happens."""

    tag: Tag
    body: bytes


class Script(NamedTuple):
    """An input that has been read."""

    options: int
    records: list[Record]

    @property
    def octets(self) -> bytes:
        """Everything that the peer sends, in one piece."""
        return b"".join(self.pieces)

    @property
    def pieces(self) -> list[bytes]:
        """What the peer sends, in the pieces that the records make."""
        return [octets_of(record) for record in self.records if record.tag <= Tag.FILLED]


def read(data: bytes) -> Script:
    """Return the script that any octets are."""
    records = []
    at = 1
    while at + HEADER <= len(data):
        end = at + HEADER + int.from_bytes(data[at + 1 : at + HEADER])
        records.append(Record(Tag(data[at] % len(Tag)), data[at + HEADER : end]))
        at = end
    return Script(data[0] if data else 0, records)


def write(script: Script) -> bytes:
    """Return the octets of a script; a body that is too long becomes several records."""
    parts = [bytes((script.options & 0xFF,))]
    for tag, body in script.records:
        for at in range(0, max(len(body), 1), LONGEST):
            piece = body[at : at + LONGEST]
            parts += [bytes((tag,)), len(piece).to_bytes(2), piece]
    return b"".join(parts)


def sent(*pieces: bytes, options: int = 0) -> bytes:
    """Return an input in which the peer sends these pieces and nothing else happens."""
    return write(Script(options, [Record(Tag.OCTETS, piece) for piece in pieces]))


def octets_of(record: Record) -> bytes:
    """Return what the peer sends with a record."""
    if record.tag is not Tag.FILLED:
        return record.body
    frames = split(record.body)
    missing = declared(frames[-1]) - len(frames[-1]) if frames else 0
    return record.body + bytes(min(max(missing, 0), FILL))


def split(octets: bytes) -> list[bytes]:
    """Cut octets into prefaces and frames, by the lengths that they declare themselves.

    Octets that begin neither are one piece up to the end, and so is an incomplete frame.
    """
    found = []
    at = 0
    while at < len(octets):
        end = at + declared(octets[at:])
        found.append(octets[at:end])
        at = end
    return found


def declared(octets: bytes) -> int:
    """Return how long the preface or frame at the start of some octets says that it is."""
    if octets.startswith((f.MAGIC, callhome.MAGIC)):
        return f.PREFACE_SIZE
    if len(octets) < f.HEADER_SIZE or octets[0] != f.MARKER:
        return max(len(octets), 1)
    return f.HEADER_SIZE + int.from_bytes(octets[8:16])


def joined(records: Iterable[Record]) -> list[Record]:
    """Join neighbours that are octets: a script as it would be without its cuts."""
    result: list[Record] = []
    for record in records:
        if result and record.tag == result[-1].tag == Tag.OCTETS:
            result[-1] = Record(Tag.OCTETS, result[-1].body + record.body)
        else:
            result.append(record)
    return result
