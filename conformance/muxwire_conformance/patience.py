"""How long the judge waits before it says that something did not happen.

Rules of this file:

* A deadline is for absence only; success returns at once, so patience costs nothing when the
  target conforms.
* The base (2 s, or --timeout) grows with what a PING fence takes on this machine now, so a loaded
  machine changes no verdict.
* --timeout 0 means: wait for ever, somebody sits in a debugger.
"""

from __future__ import annotations

import time
from collections import deque

DEFAULT_TIMEOUT = 2.0
FENCE_FACTOR = 20.0
MOST_SLACK = 20.0
MEMORY = 10.0


class Patience:
    """Deadlines, scaled by the fence times and event loop delays measured lately."""

    def __init__(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.timeout = timeout
        self._recent: deque[tuple[float, float]] = deque(maxlen=64)
        self.first_fence: float | None = None

    def record(self, seconds: float) -> None:
        """Note the duration of a fence or a delay of the judge's own loop."""
        if self.first_fence is None:
            self.first_fence = seconds
        self._recent.append((time.monotonic(), seconds))

    @property
    def slack(self) -> float:
        """Return seconds to add to any bound that the specification gives."""
        since = time.monotonic() - MEMORY
        recent = [seconds for at, seconds in self._recent if at >= since]
        worst = max([*recent, self.first_fence or 0.0])
        return min(MOST_SLACK, FENCE_FACTOR * worst)

    @property
    def seconds(self) -> float | None:
        """Return the usual deadline, None for no deadline."""
        return self.bound(self.timeout) if self.timeout else None

    def bound(self, seconds: float) -> float | None:
        """Return a bound of the specification with the slack of this machine added."""
        return seconds + self.slack if self.timeout else None

    def within(self, seconds: float | None) -> float | None:
        """Return the deadline for ``within=``: the given bound, or the usual one for None."""
        return self.seconds if seconds is None else self.bound(seconds)
