"""The pool: lends connections, takes them back, and closes them.

Rules of this file: a connection is idle, borrowed or being dialled.  Nothing is lent that has
ended, and nothing comes back that was used halfway.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from muxwire.callhome.pool.breaker import Uniform
from muxwire.callhome.pool.config import PoolConfig
from muxwire.callhome.pool.dialling import Dial
from muxwire.callhome.pool.member import C, Lease, Member, borrower
from muxwire.callhome.pool.statistics import Closed
from muxwire.callhome.pool.target import Target, Waiter
from muxwire.callhome.pool.tending import Tended
from muxwire.errors import (
    AcquireTimedOut,
    CannotConnect,
    InvalidArgument,
    PoolClosed,
    PoolExhausted,
)

T = TypeVar("T")


class Pool(Tended[C]):
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
        super().__init__(dial, config or PoolConfig(), uniform)

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

    # -- the whole pool

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
