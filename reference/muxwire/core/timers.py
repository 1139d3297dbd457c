"""All deadlines of a connection's requests, and the nearest one.

Rules of this file: a deadline is one heap entry and no timer of the event loop.  It names its
request by id, so a cancelled entry keeps nothing alive; when most of the heap is cancelled it is
rebuilt, so memory follows the live deadlines.
"""

from __future__ import annotations

import heapq


class Timer:
    """One deadline: what is due, for which request or for None of them."""

    __slots__ = ("action", "active", "request_id", "when")

    def __init__(self, when: float, action: int, request_id: bytes | None) -> None:
        self.when = when
        self.action = action
        self.request_id = request_id
        self.active = True


class Timers:
    """A heap of deadlines."""

    __slots__ = ("_cancelled", "_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._serial = 0
        self._cancelled = 0

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def add(self, when: float, action: int, request_id: bytes | None) -> Timer:
        """Set a deadline."""
        timer = Timer(when, action, request_id)
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, timer))
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Take a deadline back; one that has fired, or None, is ignored."""
        if timer is None or not timer.active:
            return
        timer.active = False
        self._cancelled += 1
        if self._cancelled > 64 and 2 * self._cancelled > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].active]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def next(self) -> float | None:
        """Return the nearest deadline."""
        heap = self._heap
        while heap and not heap[0][2].active:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def pop_due(self, now: float) -> Timer | None:
        """Remove and return the oldest deadline that has come, or None."""
        when = self.next()
        if when is None or when > now:
            return None
        timer = heapq.heappop(self._heap)[2]
        timer.active = False
        return timer
