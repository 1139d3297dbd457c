"""What the driver is to do with its socket, as one value.

Rules of this file: the action only ever moves forward, NONE, LINGER, CLOSE, ABORT.  Every state but
NONE and ABORT has a deadline, so that no peer can hold a closing connection open (CLS-002).
"""

from __future__ import annotations

import enum


class CloseAction(enum.IntEnum):
    """What the driver owes the socket now."""

    NONE = 0
    """Carry on."""
    LINGER = 1
    """Write what `data_to_send` gives, then shut down writing; keep reading and feeding input."""
    CLOSE = 2
    """Write what `data_to_send` gives, then close."""
    ABORT = 3
    """Drop everything and reset the connection."""


class Closing:
    """The close instruction and the time until which its present step may last."""

    __slots__ = ("action", "deadline")

    def __init__(self) -> None:
        self.action = CloseAction.NONE
        self.deadline: float | None = None

    def begin(self, action: CloseAction, deadline: float) -> None:
        """Move forward to `action`; a step back or a repetition changes nothing."""
        if action > self.action:
            self.action = action
            self.deadline = None if action is CloseAction.ABORT else deadline

    def expire(self, now: float, *, flushed: bool) -> None:
        """End the present step if its time is over: in order if all is written, else by reset."""
        if self.deadline is not None and now >= self.deadline:
            if self.action is CloseAction.LINGER and flushed:
                self.action = CloseAction.CLOSE
            else:
                self.action = CloseAction.ABORT
            self.deadline = None
