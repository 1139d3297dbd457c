"""Dials: for whoever waits, and for what is to be kept idle.

Rules of this file: a dial belongs to the pool and not to the borrower that caused it, so a borrower
that gives up costs nobody anything.  What leaves the pool makes room, and room is used at once.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from muxwire.callhome.pool.breaker import Uniform
from muxwire.callhome.pool.config import PoolConfig
from muxwire.callhome.pool.member import C, Member
from muxwire.callhome.pool.statistics import Closed
from muxwire.callhome.pool.stock import Stock
from muxwire.callhome.pool.target import Target
from muxwire.errors import CannotConnect, MuxwireError

logger = logging.getLogger("muxwire.pool")

Dial = Callable[[str, Callable[[C], None]], Awaitable[C]]
"""Connects to a target.  The second argument is to be called when the connection ends by itself,
or when something unexpected comes while it is idle."""

FILLING = 2
"""Dials to one target under way at once that no borrower waits for."""

LIFETIME_JITTER = 0.1
"""Greatest share of the lifetime that is taken off at random (P0-015)."""


class Dialling(Stock[C], ABC):
    """A stock that is filled by dialling.

    Args:
        dial: Connects to a target; see `Dial`.
        config: Limits and times.
        uniform: Returns a number between its two arguments, for jitter.
    """

    def __init__(self, dial: Dial[C], config: PoolConfig, uniform: Uniform) -> None:
        super().__init__(config, uniform)
        self._dial = dial
        self._dials: set[asyncio.Task[None]] = set()

    @abstractmethod
    def _offer(self, place: Target[C], member: Member[C], now: float) -> None:
        """Hand a free connection to the first borrower that waits, or let it rest."""

    @abstractmethod
    def _retire(self, place: Target[C]) -> None:
        """Close old idle connections whose replacements are there."""

    @abstractmethod
    def _arm(self, when: float) -> None:
        """See to it that the pool looks after itself at `when` or before."""

    # -- what leaves

    def _close(self, place: Target[C], member: Member[C], reason: Closed) -> None:
        """Take a connection out and close it; its place goes to whoever needs one."""
        self._drop(place, member, reason)
        self._serve(place)
        self._fill(place)

    def _lost(self, connection: C) -> None:
        """Take that a connection has ended by itself, or is not to be trusted any more."""
        member = self._members.get(id(connection))
        if member is None:
            return
        if member.lent:
            member.doomed = True  # its borrower notices
        else:
            self._close(self._targets[member.target], member, Closed.LOST)

    # -- what is to come

    def _serve(self, place: Target[C]) -> None:
        """Dial for who waits: here, or anywhere if the pool as a whole was full."""
        if place.waiters:
            self._dial_for_waiters(place)
        if self._size >= self.config.max_total - 1:
            for other in self._targets.values():
                if other.waiters:
                    self._dial_for_waiters(other)

    def _dial_for_waiters(self, place: Target[C]) -> None:
        """Dial for everybody who waits and for whom no dial is under way."""
        while not self._closing and place.dialling < len(place.waiters):
            if not place.breaker.permits(self._loop.time()):
                return
            if not (self._room(place) or self._make_room(place)):
                return
            self._begin_dial(place)

    def _fill(self, place: Target[C]) -> None:
        """Keep as many young idle connections as wanted (P0-015)."""
        now = self._loop.time()
        if self._closing or not self.config.enabled:
            return
        young = place.young(now)
        while young + place.dialling < self.config.min_idle and place.dialling < FILLING:
            if place.breaker.resting(now) or not self._room(place):
                return
            self._begin_dial(place)

    def _begin_dial(self, place: Target[C]) -> None:
        place.dialling += 1
        place.breaker.dialling()
        self._count(+1)
        task = self._loop.create_task(self._connect(place))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    # -- one dial

    async def _connect(self, place: Target[C]) -> None:
        """Dial once, and give what comes of it to whoever is first."""
        try:
            async with asyncio.timeout(self.config.dial_timeout):
                connection = await self._dial(place.name, self._lost)
        except (OSError, MuxwireError) as error:  # TimeoutError is an OSError
            self._dialled(place)
            self._dial_failed(place, error)
            return
        except BaseException as error:
            self._dialled(place)
            if isinstance(error, Exception):
                logger.exception("dialling %s failed in an unexpected way", place.name)
                self._dial_failed(place, error)
                return
            raise
        place.dialling -= 1
        place.breaker.succeeded()
        place.statistics.created += 1
        now = self._loop.time()
        lifetime = self.config.max_lifetime
        expires = now + lifetime - self._uniform(0.0, LIFETIME_JITTER * lifetime)
        member = Member(connection, place.name, expires)
        self._members[id(connection)] = member
        if self._closing or not connection.usable:
            self._close(place, member, Closed.DRAINED if self._closing else Closed.LOST)
            return
        self._offer(place, member, now)
        self._retire(place)
        self._fill(place)

    def _dialled(self, place: Target[C]) -> None:
        place.dialling -= 1
        self._count(-1)

    def _dial_failed(self, place: Target[C], error: Exception) -> None:
        """Tell the first borrower, or, when the breaker opens, everybody."""
        now = self._loop.time()
        place.statistics.dial_failures += 1
        place.breaker.failed(now)
        reason = str(error) or type(error).__name__
        if isinstance(error, TimeoutError):
            reason = f"no connection within {self.config.dial_timeout:g} s"
        while (waiter := place.next_waiter(used=False)) is not None:
            waiter.future.set_exception(CannotConnect(place.name, reason))
            if not place.breaker.open:
                break
        self._arm(place.breaker.retry_at)
        self._dial_for_waiters(place)
