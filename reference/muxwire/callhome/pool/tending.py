"""What a pool does by itself as time passes (P0-015).

Rules of this file: one alarm wakes it when the first thing is due, and nothing that is overdue
makes it spin.  A connection that is too old is replaced before it goes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from muxwire.callhome.pool.breaker import Uniform
from muxwire.callhome.pool.config import PoolConfig
from muxwire.callhome.pool.dialling import Dial, Dialling
from muxwire.callhome.pool.member import C, describe
from muxwire.callhome.pool.statistics import Closed
from muxwire.callhome.pool.target import Target
from muxwire.tcp.alarm import Alarm

logger = logging.getLogger("muxwire.pool")


class Tended(Dialling[C]):
    """A stock whose idle, old and lost connections are looked after.

    Args:
        dial: Connects to a target; see `Dial`.
        config: Limits and times.
        uniform: Returns a number between its two arguments, for jitter.
    """

    def __init__(self, dial: Dial[C], config: PoolConfig, uniform: Uniform) -> None:
        super().__init__(dial, config, uniform)
        self._alarm = Alarm(self._tend)

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

    def _replaced(self, place: Target[C]) -> bool:
        """Tell whether an old connection may go: others are there, or there is no room for one."""
        return place.young(self._loop.time()) >= self.config.min_idle or not self._room(place)

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
