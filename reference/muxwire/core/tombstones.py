"""The ids of requests that have ended.

Rules of this file: the newest TOMBSTONES ids are remembered for as long as the connection lives,
which is longer than the 10 s that is asked for; older ones are pushed out (RID-002, RID-003).
"""

from __future__ import annotations

from collections import deque

from muxwire._generated.registries import TOMBSTONES


class Tombstones:
    """A bounded set of ids, first in first out."""

    __slots__ = ("_ids", "_order")

    def __init__(self) -> None:
        self._ids: set[bytes] = set()
        self._order: deque[bytes] = deque()

    def __contains__(self, request_id: bytes) -> bool:
        return request_id in self._ids

    def __len__(self) -> int:
        return len(self._order)

    def add(self, request_id: bytes) -> None:
        """Remember an id that is not remembered yet."""
        self._ids.add(request_id)
        self._order.append(request_id)
        if len(self._order) > TOMBSTONES:
            self._ids.discard(self._order.popleft())
