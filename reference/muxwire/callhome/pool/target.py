"""The connections to one target, and who waits for one.

Rules of this file: it keeps the books and performs no I/O.  Idle connections are lent last in,
first out, so that a surplus can grow old; borrowers are served first in, first out, and one that
has given up is passed over.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic

from muxwire.callhome.pool.breaker import Breaker
from muxwire.callhome.pool.member import C, Member, Stack
from muxwire.callhome.pool.statistics import TargetStatistics


class Waiter(Generic[C]):
    """A borrower that waits.

    Attributes:
        future: Gets the connection, or the error.
        fresh: It wants a connection that nobody has used.
        stack: Where it was borrowed.
    """

    __slots__ = ("fresh", "future", "stack")

    def __init__(self, future: asyncio.Future[Member[C]], fresh: bool, stack: Stack) -> None:
        self.future = future
        self.fresh = fresh
        self.stack = stack


class Target(Generic[C]):
    """One target of a pool.

    Attributes:
        name: Its address.
        breaker: Whether it may be dialled.
        idle: Connections that wait, the longest idle first.
        lent: Connections that are borrowed, the longest borrowed first.
        waiters: Borrowers that wait, in order.
        dialling: Dials under way.
        statistics: What was counted.
    """

    __slots__ = ("breaker", "dialling", "idle", "lent", "name", "statistics", "waiters")

    def __init__(self, name: str, breaker: Breaker) -> None:
        self.name = name
        self.breaker = breaker
        self.idle: list[Member[C]] = []
        self.lent: dict[Member[C], None] = {}
        self.waiters: deque[Waiter[C]] = deque()
        self.dialling = 0
        self.statistics = TargetStatistics()

    @property
    def size(self) -> int:
        """Connections, those included that are being dialled."""
        return len(self.idle) + len(self.lent) + self.dialling

    @property
    def unused(self) -> bool:
        """Whether there is nothing to keep but the counts."""
        return not (self.idle or self.lent or self.waiters or self.dialling)

    def young(self, now: float) -> int:
        """Return how many idle connections are not too old."""
        return sum(member.expires > now for member in self.idle)

    def lend(self, member: Member[C], now: float, stack: Stack) -> None:
        """Put a connection among the borrowed."""
        statistics = self.statistics
        if member.borrowed:
            statistics.reused += 1
        member.stack = stack
        member.since = now
        member.lent = True
        self.lent[member] = None
        statistics.active = len(self.lent)

    def rest(self, member: Member[C], now: float) -> None:
        """Put a connection among the idle."""
        member.since = now
        member.stack = ()
        self.idle.append(member)
        self.statistics.idle = len(self.idle)

    def take_idle(self) -> Member[C] | None:
        """Take the connection that was used last out of the idle ones, else the youngest.

        What was dialled ahead is younger, and nobody has used it (P0-009, P0-015).
        """
        if not self.idle:
            return None
        last = len(self.idle) - 1
        used = (at for at in range(last, -1, -1) if self.idle[at].borrowed)
        member = self.idle.pop(next(used, last))
        self.statistics.idle = len(self.idle)
        return member

    def remove(self, member: Member[C]) -> None:
        """Take a connection out, wherever it is."""
        if member.lent:
            member.lent = False
            del self.lent[member]
            self.statistics.active = len(self.lent)
        elif member in self.idle:
            self.idle.remove(member)
            self.statistics.idle = len(self.idle)

    def next_waiter(self, *, used: bool) -> Waiter[C] | None:
        """Take out the first borrower that still waits and would take such a connection."""
        waiters = self.waiters
        while waiters and waiters[0].future.done():
            waiters.popleft()
        for waiter in waiters:
            if not waiter.future.done() and not (used and waiter.fresh):
                waiters.remove(waiter)
                self.count_waiting()
                return waiter
        self.count_waiting()
        return None

    def count_waiting(self) -> None:
        """Bring the count of the borrowers that wait up to date."""
        self.statistics.waiting = len(self.waiters)
