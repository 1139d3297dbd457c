"""One timer that is moved about.

Rules of this file: it rings once for each time that it was set.  It remembers its time by itself,
since uvloop's handle of a time that has come does not know it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf


class Alarm:
    """A timer of the running loop; it is off until it is set.

    Args:
        ring: What is called when the time has come.

    Attributes:
        when: Seconds of the loop's clock; infinity while it is off.
    """

    __slots__ = ("_handle", "_loop", "_ring", "when")

    def __init__(self, ring: Callable[[], None]) -> None:
        self.when = inf
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.TimerHandle | None = None

    def set(self, when: float) -> None:
        """Ring at a time, and at no other; infinity turns it off."""
        if when == self.when:
            return
        if self._handle is not None:
            self._handle.cancel()
        self.when = when
        self._handle = self._loop.call_at(when, self._due) if when < inf else None

    def off(self) -> None:
        """Do not ring."""
        self.set(inf)

    def _due(self) -> None:
        self.when = inf
        self._handle = None
        self._ring()
