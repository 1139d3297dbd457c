"""A circuit breaker for the dials to one target.

Rules of this file: pure decisions over `now`.  A failed dial sets a pause with full jitter.  After
so many failures in a row the breaker is open: nobody is kept waiting, and once the pause is over
one single dial tries again.
"""

from __future__ import annotations

from collections.abc import Callable

Uniform = Callable[[float, float], float]


class Breaker:
    """Whether a target may be dialled.

    Args:
        failures: Failed dials in a row that open it.
        base: Seconds that bound the first pause; the bound doubles with each failure.
        cap: Seconds that bound every pause.
        uniform: Returns a number between its two arguments.
    """

    __slots__ = ("_base", "_cap", "_limit", "_probing", "_uniform", "failures", "retry_at")

    def __init__(self, failures: int, base: float, cap: float, uniform: Uniform) -> None:
        self._limit = failures
        self._base = base
        self._cap = cap
        self._uniform = uniform
        self._probing = False
        self.failures = 0
        self.retry_at = 0.0

    @property
    def open(self) -> bool:
        """Whether dials on demand are refused, but for one when the pause is over."""
        return self.failures >= self._limit

    def permits(self, now: float) -> bool:
        """Tell whether a borrower may cause a dial now."""
        return not self.open or (not self._probing and now >= self.retry_at)

    def resting(self, now: float) -> bool:
        """Tell whether dials that nobody waits for should be left alone."""
        return self._probing or now < self.retry_at

    def dialling(self) -> None:
        """Note that a dial begins."""
        self._probing = self.open

    def succeeded(self) -> None:
        """Note a dial that came about."""
        self._probing = False
        self.failures = 0
        self.retry_at = 0.0

    def failed(self, now: float) -> None:
        """Note a dial that failed."""
        self._probing = False
        bound = min(self._cap, self._base * 2 ** min(self.failures, 32))
        self.failures += 1
        self.retry_at = now + self._uniform(0.0, bound)
