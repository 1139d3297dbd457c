"""Liveness, counted in octets and not in frames.

Rules of this file: four clocks.  Silence of the peer (HBT-003), a frame that does not end
(FRM-013), our own silence (HBT-001), and octets that the kernel does not take (HBT-006).  A PING
carries its number, so the PONG of one answers all before it and no list is kept (HBT-007).  No
clock waits for a PONG (HBT-005).
"""

from __future__ import annotations

from math import inf

from muxwire._generated.registries import ErrorCode
from muxwire.errors import ProtocolViolation

MARGIN = 1.0
"""Seconds by which a PING goes before its time; a tenth of the timeout if that is less."""


class Heartbeat:
    """The clocks of one connection.

    Attributes:
        unwritten: Octets handed to the driver that it has not reported as written.
        round_trip: Seconds between the newest answered PING and its PONG, or None.
    """

    __slots__ = ("_answered", "_frame_since", "_idle", "_interval", "_listening", "_patience",
                 "_ping_at", "_pings", "_received", "_sent", "_stalled_since", "round_trip",
                 "unwritten")  # fmt: skip

    def __init__(self, idle: float, now: float) -> None:
        self._idle = idle
        self._patience = idle
        self._interval = inf
        self._listening = False
        self._received = now
        self._sent = now
        self._frame_since = inf
        self._stalled_since = inf
        self._pings = 0
        self._answered = 0
        self._ping_at = now
        self.unwritten = 0
        self.round_trip: float | None = None

    # -- what happened

    def peer_tolerates(self, idle: float, now: float) -> None:
        """Start our own clock: the peer's SETTINGS have been applied (HBT-001)."""
        self._interval = idle / 2 - min(idle / 10, MARGIN)
        self._sent = now

    def listen(self, now: float) -> None:
        """Start the peer's clock: its SETTINGS_ACK has arrived (HBT-003)."""
        self._listening = True
        self._received = now

    def suspend(self) -> None:
        """Stop the peer's clock, since nothing is read for now; `listen` starts it (P0-014)."""
        self._listening = False
        self._frame_since = inf

    def limit_stall(self, seconds: float) -> None:
        """Wait no longer than this for a peer that does not read (P0-013)."""
        self._patience = min(self._patience, seconds)

    def received(self, now: float) -> None:
        """Note that octets arrived, whatever they are (HBT-004)."""
        self._received = now

    def frame_state(self, *, begun: bool, progress: bool, now: float) -> None:
        """Note whether a frame is incomplete, and whether others were completed before it."""
        if not begun:
            self._frame_since = inf
        elif progress or self._frame_since == inf:
            self._frame_since = now

    def handed(self, octets: int, now: float) -> None:
        """Note that octets were handed to the driver."""
        self._sent = now
        if not self.unwritten:
            self._stalled_since = now
        self.unwritten += octets

    def written(self, octets: int, now: float) -> None:
        """Note that the driver has written octets."""
        self._sent = now
        self.unwritten -= octets
        self._stalled_since = now if self.unwritten else inf

    def next_ping(self, now: float) -> bytes:
        """Return the octets of a new PING."""
        self._pings += 1
        self._ping_at = now
        return self._pings.to_bytes(8, "big")

    def pong(self, opaque: bytes, now: float) -> bool:
        """Take a PONG; False if it answers nothing."""
        number = int.from_bytes(opaque, "big")
        if not self._answered < number <= self._pings:
            return False
        self._answered = number
        if number == self._pings:
            self.round_trip = now - self._ping_at
        return True

    # -- what is due

    @property
    def unanswered(self) -> int:
        """PINGs without a PONG (HBT-007)."""
        return self._pings - self._answered

    def next_timeout(self) -> float:
        """Return the nearest of the four, or infinity."""
        nearest = min(self._frame_since + self._idle, self._stalled_since + self._patience)
        if not self.unwritten:
            nearest = min(nearest, self._sent + self._interval)
        return min(nearest, self._received + self._idle) if self._listening else nearest

    def ping_due(self, now: float) -> bool:
        """Say whether something has to be sent (HBT-001).

        While octets wait to be written a PING could only wait behind them; HBT-006 holds instead.
        """
        return not self.unwritten and now >= self._sent + self._interval

    def stalled(self, now: float) -> bool:
        """Say whether nothing could be written for too long (HBT-006)."""
        return now >= self._stalled_since + self._patience

    def check(self, now: float) -> None:
        """Refuse a silent or dribbling peer.

        Raises:
            ProtocolViolation: HBT-003 or FRM-013.
        """
        if self._listening and now >= self._received + self._idle:
            _timeout("HBT-003", "nothing received for IDLE_TIMEOUT_MS")
        if now >= self._frame_since + self._idle:
            _timeout("FRM-013", "frame not complete in IDLE_TIMEOUT_MS")


def _timeout(requirement: str, detail: str) -> None:
    raise ProtocolViolation(ErrorCode.HEARTBEAT_TIMEOUT, "connection", requirement, detail)
