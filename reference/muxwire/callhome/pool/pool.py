"""The pool: lends connections, dials them, replaces them, and closes them.

Rules of this file: a connection is idle, borrowed or being dialled, and counts against the limits
in each of these states.  A dial belongs to the pool and not to the borrower that caused it, so a
borrower that gives up costs nobody anything.  Nothing is lent that has ended, and nothing comes
back that was used halfway.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Generic, TypeVar

from muxwire.callhome.pool.breaker import Breaker, Uniform
from muxwire.callhome.pool.config import PoolConfig
from muxwire.callhome.pool.member import C, Lease, Member, borrower, describe
from muxwire.callhome.pool.statistics import Closed, TargetStatistics
from muxwire.callhome.pool.target import Target, Waiter
from muxwire.errors import (
    AcquireTimedOut,
    CannotConnect,
    InvalidArgument,
    MuxwireError,
    PoolClosed,
    PoolExhausted,
)
from muxwire.tcp.alarm import Alarm

logger = logging.getLogger("muxwire.pool")

T = TypeVar("T")
Dial = Callable[[str, Callable[[C], None]], Awaitable[C]]
"""Connects to a target.  The second argument is to be called when the connection ends by itself,
or when something unexpected comes while it is idle."""

FILLING = 2
"""Dials to one target under way at once that no borrower waits for."""

LIFETIME_JITTER = 0.1
"""Greatest share of the lifetime that is taken off at random (P0-015)."""


class Pool(Generic[C]):
    """Connections to any number of targets.

    Args:
        dial: Connects to a target; see `Dial`.
        config: Limits and times.
        uniform: Returns a number between its two arguments, for jitter.

    Make it inside a running event loop.
    """

    def __init__(
        self,
        dial: Dial[C],
        config: PoolConfig | None = None,
        *,
        uniform: Uniform = random.uniform,
    ) -> None:
        self.config = config or PoolConfig()
        self._dial = dial
        self._uniform = uniform
        self._loop = asyncio.get_running_loop()
        self._targets: dict[str, Target[C]] = {}
        self._members: dict[int, Member[C]] = {}  # by the id of the connection
        self._dials: set[asyncio.Task[None]] = set()
        self._size = 0
        self._alarm = Alarm(self._tend)
        self._closing = False
        self._empty = asyncio.Event()

    # -- borrowing

    async def acquire(
        self,
        target: str,
        *,
        fresh: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - it also bounds waiting in the queue
    ) -> Lease[C]:
        """Borrow a connection: an idle one, or a new one, or the next that comes free.

        Args:
            target: Where to.
            fresh: Only one that nobody has used, for a retry after a stale one.
            timeout: Seconds to wait; `acquire_timeout` by default.

        Raises:
            PoolClosed: the pool is being drained, or is closed.
            PoolExhausted: too many wait already.
            AcquireTimedOut: none came free in time.
            CannotConnect: the target cannot be reached.
        """
        if self._closing:
            raise PoolClosed("the pool lends nothing any more")
        place = self._place(target)
        started = self._loop.time()
        stack = borrower(2)
        while not (fresh or place.waiters) and (member := place.take_idle()) is not None:
            rested = started - member.since
            place.lend(member, started, stack)
            if rested <= self.config.probe_after:
                return self._leased(place, member, started, started)
            if await self._survives(place, member):
                return self._leased(place, member, started, self._loop.time())
        member = await self._wait(place, Waiter(self._loop.create_future(), fresh, stack), timeout)
        return self._leased(place, member, started, self._loop.time())

    async def use(
        self, target: str, job: Callable[[C], Awaitable[T]], *stale: type[Exception]
    ) -> T:
        """Borrow a connection, run a job on it, and give it back.

        A job that raises one of `stale` on a connection that was used before is run once more, on
        a new one: raise that only while the peer cannot have acted.

        Raises:
            Exception: whatever the job raises, or `acquire`.
        """
        lease = await self.acquire(target)
        try:
            with lease as connection:
                return await job(connection)
        except stale:
            if not lease.reused:
                raise
        with await self.acquire(target, fresh=True) as connection:
            return await job(connection)

    async def _survives(self, place: Target[C], member: Member[C]) -> bool:
        """Probe a connection that was taken out to be lent; one that fails is gone."""
        try:
            alive = member.connection.usable and await member.connection.probe()
        except BaseException:
            self._close(place, member, Closed.STALE)
            raise
        if alive and member.connection.usable and not member.doomed:
            return True
        place.statistics.validation_failures += 1
        self._close(place, member, Closed.STALE)
        return False

    def _leased(self, place: Target[C], member: Member[C], started: float, now: float) -> Lease[C]:
        place.statistics.acquired(now - started)
        reused, member.borrowed = member.borrowed, True
        self._arm(now + self.config.leak_after)
        return Lease(member, self._returned, reused)

    async def _wait(
        self,
        place: Target[C],
        waiter: Waiter[C],
        timeout: float | None,  # noqa: ASYNC109
    ) -> Member[C]:
        """Wait for a connection; what is handed to a borrower that gives up goes to the next."""
        if not place.breaker.permits(self._loop.time()) and not (place.size - place.dialling):
            raise CannotConnect(place.name, "it could not be reached several times in a row")
        if len(place.waiters) >= self.config.max_waiting and not self._room(place):
            place.statistics.shed += 1
            raise PoolExhausted(f"{place.name}: {len(place.waiters)} wait for a connection already")
        place.waiters.append(waiter)
        place.count_waiting()
        wait = self.config.acquire_timeout if timeout is None else timeout
        alarm = self._loop.call_later(wait, self._give_up, place, waiter, wait)
        try:
            self._dial_for_waiters(place)
            return await waiter.future
        except asyncio.CancelledError:
            future = waiter.future
            if future.done() and not future.cancelled() and future.exception() is None:
                self._returned(future.result(), None)  # it was handed over just before
            raise
        finally:
            alarm.cancel()
            with suppress(ValueError):
                place.waiters.remove(waiter)
            place.count_waiting()

    def _give_up(self, place: Target[C], waiter: Waiter[C], wait: float) -> None:
        if not waiter.future.done():
            place.statistics.timeouts += 1
            waiter.future.set_exception(
                AcquireTimedOut(f"{place.name}: no connection came free within {wait:g} s")
            )

    # -- what comes back

    def _returned(self, member: Member[C], reason: Closed | None) -> None:
        """Take a connection back, or close it."""
        place = self._targets[member.target]
        now = self._loop.time()
        if reason is None:
            reason = self._objection(place, member, now)
        if reason is not None:
            self._close(place, member, reason)
        else:
            place.remove(member)
            self._offer(place, member, now)

    def _objection(self, place: Target[C], member: Member[C], now: float) -> Closed | None:
        """Say why a connection that comes back clean is not kept."""
        if self._closing:
            return Closed.DRAINED
        if not self.config.enabled:
            return Closed.UNPOOLED
        if not member.connection.usable:
            return Closed.LOST
        if member.doomed or place.size > self.config.max_per_target:
            return Closed.EVICTED
        if member.expires <= now and self._replaced(place):
            return Closed.LIFETIME
        return None

    def _offer(self, place: Target[C], member: Member[C], now: float) -> None:
        """Hand a free connection to the first borrower that waits, or let it rest."""
        waiter = place.next_waiter(used=member.borrowed) if place.waiters else None
        if waiter is not None:
            place.lend(member, now, waiter.stack)
            waiter.future.set_result(member)
            return
        place.rest(member, now)
        self._arm(min(now + self.config.idle_timeout, member.expires))
        self._serve(place)  # who waits wants a fresh one, or waits at another target

    def _close(self, place: Target[C], member: Member[C], reason: Closed) -> None:
        """Take a connection out and close it; its place goes to whoever needs one."""
        self._drop(place, member, reason)
        self._serve(place)
        self._fill(place)

    def _drop(self, place: Target[C], member: Member[C], reason: Closed) -> None:
        place.remove(member)
        del self._members[id(member.connection)]
        place.statistics.closed[reason] += 1
        self._count(-1)
        if reason is Closed.DISCARDED:
            member.connection.abort()
        else:
            member.connection.close()

    def _lost(self, connection: C) -> None:
        """Take that a connection has ended by itself, or is not to be trusted any more."""
        member = self._members.get(id(connection))
        if member is None:
            return
        if member.lent:
            member.doomed = True  # its borrower notices
        else:
            self._close(self._targets[member.target], member, Closed.LOST)

    def _count(self, change: int) -> None:
        self._size += change
        if not self._size:
            self._empty.set()

    # -- dialling

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
        young = self._young(place)
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

    # -- time

    def _arm(self, when: float) -> None:
        """See to it that the pool looks after itself at `when` or before."""
        if when < self._alarm.when:
            self._alarm.set(when)

    def _tend(self) -> None:
        """Do what is due: close what is idle for too long or too old, fill up, report leaks."""
        now = self._loop.time()
        for place in [*self._targets.values()]:
            while len(place.idle) > self.config.min_idle and self._idle_until(place) <= now:
                self._close(place, place.idle[0], Closed.IDLE)
            self._retire(place)
            self._fill(place)
            self._report_leaks(place, now)
        due = min(self._dues(), default=None)
        if due is not None:
            self._arm(max(due, now + self._tick))

    @property
    def _tick(self) -> float:
        """Shortest time between two rounds, so that nothing overdue makes the pool spin."""
        return min(0.05, self.config.idle_timeout / 4)

    def _idle_until(self, place: Target[C]) -> float:
        return place.idle[0].since + self.config.idle_timeout

    def _dues(self) -> Iterator[float]:
        for place in self._targets.values():
            if len(place.idle) > self.config.min_idle:
                yield self._idle_until(place)
            for member in place.idle:
                yield max(member.expires, place.breaker.retry_at)
            unreported = next((member for member in place.lent if member.stack), None)
            if unreported is not None:
                yield unreported.since + self.config.leak_after
            if len(place.idle) < self.config.min_idle and place.breaker.failures:
                yield place.breaker.retry_at

    def _young(self, place: Target[C]) -> int:
        now = self._loop.time()
        return sum(member.expires > now for member in place.idle)

    def _replaced(self, place: Target[C]) -> bool:
        """Tell whether an old connection may go: others are there, or there is no room for one."""
        return self._young(place) >= self.config.min_idle or not self._room(place)

    def _retire(self, place: Target[C]) -> None:
        """Close old idle connections whose replacements are there."""
        now = self._loop.time()
        for member in [member for member in place.idle if member.expires <= now]:
            if self._replaced(place):
                self._close(place, member, Closed.LIFETIME)

    def _report_leaks(self, place: Target[C], now: float) -> None:
        for member in place.lent:
            if now - member.since < self.config.leak_after:
                return
            if member.stack:
                place.statistics.leaks += 1
                logger.warning(
                    "a connection to %s has been borrowed for %.0f s, by\n%s",
                    place.name,
                    now - member.since,
                    describe(member.stack),
                )
                member.stack = ()

    # -- the whole pool

    def _place(self, target: str) -> Target[C]:
        place = self._targets.get(target)
        if place is None:
            config = self.config
            breaker = Breaker(
                config.breaker_failures, config.breaker_base, config.breaker_cap, self._uniform
            )
            place = self._targets[target] = Target(target, breaker)
        return place

    def statistics(self) -> dict[str, TargetStatistics]:
        """Return what was counted, by target; it goes on changing."""
        return {name: place.statistics for name, place in self._targets.items()}

    @property
    def size(self) -> int:
        """Connections in all states, those included that are being dialled."""
        return self._size

    def evict(self, target: str) -> None:
        """Close the idle connections to a target, and the borrowed ones when they come back."""
        place = self._targets.get(target)
        if place is None:
            return
        for member in place.lent:
            member.doomed = True
        for member in [*place.idle]:
            self._drop(place, member, Closed.EVICTED)
        self._serve(place)

    def resize(
        self,
        *,
        max_per_target: int | None = None,
        max_total: int | None = None,
        min_idle: int | None = None,
    ) -> None:
        """Change limits; what is above them goes as soon as it is idle.

        Raises:
            InvalidArgument: a limit is out of its range; nothing has changed.
        """
        old = self.config
        self.config = replace(
            old,
            max_per_target=old.max_per_target if max_per_target is None else max_per_target,
            max_total=old.max_total if max_total is None else max_total,
            min_idle=old.min_idle if min_idle is None else min_idle,
        )
        for place in [*self._targets.values()]:
            while place.idle and (
                place.size > self.config.max_per_target or self._size > self.config.max_total
            ):
                self._drop(place, place.idle[0], Closed.EVICTED)
            self._serve(place)
            self._fill(place)

    async def drain(self, deadline: float) -> bool:
        """Lend nothing more, close what is idle, and wait for what is borrowed.

        Args:
            deadline: Seconds after which borrowed connections are aborted.

        Returns:
            Whether everything came back in time.
        """
        if deadline < 0:
            raise InvalidArgument(f"deadline {deadline:g} is below 0")
        self._closing = True
        self._alarm.off()
        for place in self._targets.values():
            while (waiter := place.next_waiter(used=False)) is not None:
                waiter.future.set_exception(PoolClosed("the pool is being drained"))
            for member in [*place.idle]:
                self._drop(place, member, Closed.DRAINED)
        for task in self._dials:
            task.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        if not self._size:
            return True
        self._empty.clear()
        try:
            async with asyncio.timeout(deadline):
                await self._empty.wait()
        except TimeoutError:
            for place in self._targets.values():
                for member in place.lent:
                    member.connection.abort()
            return False
        return True
