"""The places that a worker gives to a client's requests, and the queue for them (ADM-001).

Rules of this file: a place is taken when a request is handed to the scheduler and free again when
its terminal has arrived, killed or not.  Requests wait in order of arrival.
"""

from __future__ import annotations

from collections import deque

from muxwire.core.request import ClientRequest


class Places:
    """Who has a place, and who waits.

    Attributes:
        taken: Places that are not free.
        waiting: Requests without a place, the oldest first.
    """

    __slots__ = ("taken", "waiting")

    def __init__(self) -> None:
        self.taken = 0
        self.waiting: deque[ClientRequest] = deque()

    def admit(self, limit: int) -> list[ClientRequest]:
        """Give free places to the requests that have waited longest, and return those."""
        admitted = []
        while self.waiting and self.taken < limit:
            request = self.waiting.popleft()
            request.placed = True
            self.taken += 1
            admitted.append(request)
        return admitted

    def leave(self, request: ClientRequest) -> None:
        """Free the place of a request that is over, or take it out of the queue."""
        if request.placed:
            self.taken -= 1
        elif request in self.waiting:
            self.waiting.remove(request)
