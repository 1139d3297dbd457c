"""Takes the GOAWAY frames out of the octets of an HTTP/2 connection.

Rules of this file: the library `h2` ends a connection at the first GOAWAY and refuses what open
streams still bring; RFC 9113 section 6.8 lets them finish.  So it never sees one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

_HEADER = 9
_GOAWAY = 7
_MOST = 16_384
"""Octets of a frame that every peer may send; `h2` would gather a longer one before it says so."""


class Goaway(NamedTuple):
    """The peer opens nothing more, and has taken no stream above `last`."""

    last: int
    code: int


class Filter:
    """Tells GOAWAY from everything else, whatever the pieces are that octets arrive in."""

    def __init__(self) -> None:
        self._rest = b""  # of a header, or a GOAWAY, that is not complete
        self._left = 0  # octets of the current frame that are to come

    def feed(self, data: bytes) -> Iterator[bytes | Goaway]:
        """Yield the octets without the GOAWAY frames, and these in their places.

        Raises:
            ValueError: a frame is too long, or a GOAWAY too short; nothing may be fed after it.
        """
        if self._rest:
            data, self._rest = self._rest + data, b""
        start, at = 0, min(self._left, len(data))
        self._left -= at
        while at + _HEADER <= len(data):
            size = int.from_bytes(data[at : at + 3], "big")
            end = at + _HEADER + size
            if size > _MOST:
                raise ValueError(f"a frame has {size} octets")
            if data[at + 3] != _GOAWAY:
                self._left = max(0, end - len(data))
                at = min(end, len(data))
                continue
            if size < 8:
                raise ValueError(f"a GOAWAY has {size} octets")
            if end > len(data):
                break
            if at > start:
                yield data[start:at]
            last = int.from_bytes(data[at + 9 : at + 13], "big") & 0x7FFFFFFF
            yield Goaway(last, int.from_bytes(data[at + 13 : at + 17], "big"))
            start = at = end
        self._rest = data[at:]
        if at > start:
            yield data[start:at]
