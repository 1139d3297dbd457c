"""How many handlers run, on all connections that share the object.

Rules of this file: a handler counts from its RequestReceived until it has really ended, whether or
not its terminal has been written and its connection still lives (CAN-004).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Statistics:
    """Counters of a worker process.

    Attributes:
        limit: Most handlers that may run at once, all connections together, or None (CAN-004).
        active: Handlers that run now.
        peak: Most that ran at once since the start or the last `reset_peak`.
        opened: Handlers ever started.
        cancelled: Handlers ever asked to stop before their end.
    """

    limit: int | None = None
    active: int = 0
    peak: int = 0
    opened: int = 0
    cancelled: int = 0

    @property
    def full(self) -> bool:
        """Whether no further handler may start."""
        return self.limit is not None and self.active >= self.limit

    def start(self) -> None:
        """Count a handler that starts."""
        self.opened += 1
        self.active += 1
        if self.active > self.peak:
            self.peak = self.active

    def end(self) -> None:
        """Count a handler that has ended."""
        self.active -= 1

    def reset_peak(self) -> None:
        """Begin a new peak from what runs now."""
        self.peak = self.active
