"""What a pool has: its targets, its connections, and how many more it may have.

Rules of this file: every connection counts in each of its states, those being dialled included.
Targets that nobody uses are forgotten when there are too many, so that whoever chooses addresses
cannot make the pool, or its metrics, grow (P0-015).
"""

from __future__ import annotations

import asyncio
from typing import Generic

from muxwire.callhome.pool.breaker import Breaker, Uniform
from muxwire.callhome.pool.config import PoolConfig
from muxwire.callhome.pool.member import C, Member
from muxwire.callhome.pool.statistics import Closed, TargetStatistics
from muxwire.callhome.pool.target import Target

MAX_TARGETS = 256
"""Targets that are told apart, beyond those that are in use."""

OTHERS = "others"
"""Stands for all targets that were forgotten."""


class Stock(Generic[C]):
    """Connections and targets, and the limits on them.

    Args:
        config: Limits and times.
        uniform: Returns a number between its two arguments, for jitter.
    """

    def __init__(self, config: PoolConfig, uniform: Uniform) -> None:
        self.config = config
        self._uniform = uniform
        self._loop = asyncio.get_running_loop()
        self._targets: dict[str, Target[C]] = {}
        self._forgotten: TargetStatistics | None = None
        self._members: dict[int, Member[C]] = {}  # by the id of the connection
        self._size = 0
        self._closing = False
        self._empty = asyncio.Event()

    @property
    def size(self) -> int:
        """Connections in all states, those included that are being dialled."""
        return self._size

    def statistics(self) -> dict[str, TargetStatistics]:
        """Return what was counted, by target; it goes on changing.

        What was counted with targets that are forgotten is under "others".
        """
        found = {name: place.statistics for name, place in self._targets.items()}
        if self._forgotten is not None:
            found[OTHERS] = self._forgotten
        return found

    def _place(self, target: str) -> Target[C]:
        place = self._targets.get(target)
        if place is None:
            if len(self._targets) >= MAX_TARGETS:
                self._forget_one()
            config = self.config
            breaker = Breaker(
                config.breaker_failures, config.breaker_base, config.breaker_cap, self._uniform
            )
            place = self._targets[target] = Target(target, breaker)
        return place

    def _forget_one(self) -> None:
        """Forget the oldest target that is not in use; its counts join those of the others."""
        unused = next((place for place in self._targets.values() if place.unused), None)
        if unused is not None:
            del self._targets[unused.name]
            if self._forgotten is None:
                self._forgotten = TargetStatistics()
            self._forgotten.add(unused.statistics)

    def _full(self, place: Target[C]) -> bool:
        """Tell whether a target has all it may have; without pooling that is any number."""
        return self.config.enabled and place.size >= self.config.max_per_target

    def _room(self, place: Target[C]) -> bool:
        return self._size < self.config.max_total and not self._full(place)

    def _make_room(self, place: Target[C]) -> bool:
        """Close the idle connection that is least likely to be missed."""
        candidates = [place] if self._full(place) else self._targets.values()
        with_idle = [one for one in candidates if one.idle]
        if not with_idle:
            return False
        oldest = min(with_idle, key=lambda one: one.idle[0].since)
        self._drop(oldest, oldest.idle[0], Closed.ROOM)
        return True

    def _drop(self, place: Target[C], member: Member[C], reason: Closed) -> None:
        place.remove(member)
        del self._members[id(member.connection)]
        place.statistics.closed[reason] += 1
        self._count(-1)
        if reason is Closed.DISCARDED:
            member.connection.abort()
        else:
            member.connection.close()

    def _count(self, change: int) -> None:
        self._size += change
        if not self._size:
            self._empty.set()
