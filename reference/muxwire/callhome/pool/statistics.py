"""What a pool counts for each target.

Rules of this file: numbers only.  The metrics read them when somebody asks.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from dataclasses import dataclass, field

LATENCY_BOUNDS = (1e-5, 1e-4, 1e-3, 5e-3, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Upper bounds, in seconds, of the ranges in which times of acquisition are counted."""


class Closed(enum.Enum):
    """Why a connection left the pool."""

    IDLE = "idle"
    """It was idle for too long."""
    LIFETIME = "lifetime"
    """It was too old."""
    LOST = "lost"
    """Its end, a reset or octets that nobody expected came while it was idle."""
    STALE = "stale"
    """It did not survive the probe before it was to be lent."""
    DISCARDED = "discarded"
    """Its borrower did not want it back."""
    EVICTED = "evicted"
    """Somebody evicted its target, or shrank the pool."""
    ROOM = "room"
    """It made room for a connection that somebody waits for."""
    DRAINED = "drained"
    """The pool was drained."""
    UNPOOLED = "unpooled"
    """The pool is off, so that nothing is kept."""


@dataclass(slots=True, kw_only=True)
class TargetStatistics:
    """What happened with one target.

    Attributes:
        created: Connections dialled.
        reused: Borrowings of a connection that somebody had borrowed before.
        active: Connections that are borrowed now.
        idle: Connections that wait.
        waiting: Borrowers that wait now.
        dial_failures: Dials that failed.
        validation_failures: Connections that did not survive their probe.
        shed: Borrowers refused at once, because too many waited.
        timeouts: Borrowers that waited in vain.
        leaks: Borrowings reported as leaked.
        closed: Connections that left, by reason.
        latencies: Acquisitions in each range of `LATENCY_BOUNDS`, and above.
        latency_sum: Seconds that they took together.
    """

    created: int = 0
    reused: int = 0
    active: int = 0
    idle: int = 0
    waiting: int = 0
    dial_failures: int = 0
    validation_failures: int = 0
    shed: int = 0
    timeouts: int = 0
    leaks: int = 0
    closed: dict[Closed, int] = field(default_factory=lambda: dict.fromkeys(Closed, 0))
    latencies: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))
    latency_sum: float = 0.0

    def acquired(self, seconds: float) -> None:
        """Count an acquisition."""
        self.latencies[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        self.latency_sum += seconds

    def add(self, other: TargetStatistics) -> None:
        """Add what was counted with another target, which is not in use any more."""
        for name in _TOTALS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, count in other.closed.items():
            self.closed[reason] += count
        self.latencies = [
            one + more for one, more in zip(self.latencies, other.latencies, strict=True)
        ]


_TOTALS = (
    "created",
    "reused",
    "dial_failures",
    "validation_failures",
    "shed",
    "timeouts",
    "leaks",
    "latency_sum",
)
"""What only grows."""
