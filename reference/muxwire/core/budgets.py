"""Token buckets against frames that are harmless one by one (DOS-001).

Rules of this file: a bucket holds four times what must be tolerated, which is well below what must
be acted upon, so no clock difference turns a correct peer into an attacker.  STOP and KILL have
no budget: a place stays taken until its handler ends, which is bound enough (CAN-006, DOS-003).
"""

from __future__ import annotations

from muxwire._generated.registries import (
    GLITCH_BURST,
    GLITCH_RATE,
    PING_BURST,
    PING_RATE,
    PING_RATE_MS,
    REFUSAL_BURST,
    REFUSAL_RATE,
    ErrorCode,
)
from muxwire.errors import ProtocolViolation

SLACK = 4


class Bucket:
    """One budget: `burst` at once, `rate` per second."""

    __slots__ = ("_burst", "_name", "_rate", "_since", "_tokens")

    def __init__(self, name: str, burst: float, rate: float, now: float) -> None:
        self._name = name
        self._burst = self._tokens = SLACK * burst
        self._rate = SLACK * rate
        self._since = now

    def charge(self, now: float) -> None:
        """Take one token.

        Raises:
            ProtocolViolation: DOS-001, the bucket is empty.
        """
        tokens = min(self._burst, self._tokens + (now - self._since) * self._rate) - 1
        self._since = now
        if tokens < 0:
            raise ProtocolViolation(
                ErrorCode.ENHANCE_YOUR_CALM, "connection", "DOS-001", f"{self._name} budget used up"
            )
        self._tokens = tokens


class Budgets:
    """The budgets of one connection; `refusal` is the worker's."""

    __slots__ = ("glitch", "ping", "refusal")

    def __init__(self, idle_timeout_ms: int, now: float) -> None:
        pings = max(PING_RATE, PING_RATE_MS / idle_timeout_ms)
        self.ping = Bucket("ping", PING_BURST, pings, now)
        self.glitch = Bucket("glitch", GLITCH_BURST, GLITCH_RATE, now)
        self.refusal = Bucket("refusal", REFUSAL_BURST, REFUSAL_RATE, now)
