"""Request ids: random UUIDs of version 4 (RID-001).

Rules of this file: entropy is handed in and used in large draughts, since asking for it costs more
than an id.  The version bits also keep an id from being all zeros or all ones.
"""

from __future__ import annotations

from collections.abc import Callable

DRAUGHT = 256
"""Ids made at once."""

_VERSION = bytes(octet & 0x0F | 0x40 for octet in range(256))
_VARIANT = bytes(octet & 0x3F | 0x80 for octet in range(256))


class RequestIds:
    """A source of fresh ids."""

    __slots__ = ("_at", "_entropy", "_pool")

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._pool = b""
        self._at = 0

    def next(self) -> bytes:
        """Return 16 octets that were never returned before."""
        at = self._at
        if at == len(self._pool):
            pool = bytearray(self._entropy(16 * DRAUGHT))
            pool[6::16] = pool[6::16].translate(_VERSION)
            pool[8::16] = pool[8::16].translate(_VARIANT)
            self._pool = bytes(pool)
            at = 0
        self._at = at + 16
        return self._pool[at : at + 16]
