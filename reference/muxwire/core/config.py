"""What the user may choose about a connection, and the defaults.

Rules of this file: all times are seconds, all sizes octets or cost units.  Values are checked when
the object is built, so that the rest of the core trusts them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from muxwire._generated.registries import (
    DRAIN_GRACE_MS,
    DRAINED_CLOSE_MS,
    HANDSHAKE_TIMEOUT_MS,
    KILL_DEADLINE_MS,
    LINGER_MS,
    SEND_BUFFER,
    SLOW_CONSUMER_MS,
)
from muxwire.core.settings import Settings
from muxwire.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of one connection.

    Attributes:
        settings: What this side announces, and so accepts.
        handshake_timeout: Until the peer's SETTINGS_ACK, from the dial or the accept (HSK-008).
        connect_timeout: At a client, until the worker's preface, from the dial (HSK-010).
        linger: How long input is discarded after an error GOAWAY or a drain (CLS-002).
        kill_deadline: A handler that has not ended so long after a KILL gets its terminal anyway
            (CAN-001 allows one second in all).
        slow_consumer: A stream blocked so long on the client's credit is ended (FLW-013).
        drain_grace: Default grace of a drain (CLS-011).
        drained_wait: How long a client waits for the worker to close a drained connection.
        send_buffer: Cost that may wait in one stream's queue before `send_message` returns False;
            a single message may be longer (FLW-010).
        retry_after_ms: The hint that goes with OVERLOADED (ADM-004).
        grease: Whether to announce a setting without meaning (FRM-012).

    Raises:
        InvalidArgument: A value is outside what the specification allows.
    """

    settings: Settings = field(default_factory=Settings.recommended)
    handshake_timeout: float = HANDSHAKE_TIMEOUT_MS / 1000
    connect_timeout: float = HANDSHAKE_TIMEOUT_MS / 1000
    linger: float = LINGER_MS / 1000
    kill_deadline: float = KILL_DEADLINE_MS / 2000
    slow_consumer: float = SLOW_CONSUMER_MS / 1000
    drain_grace: float = DRAIN_GRACE_MS / 1000
    drained_wait: float = DRAINED_CLOSE_MS / 1000
    send_buffer: int = SEND_BUFFER // 4
    retry_after_ms: int = 250
    grease: bool = True

    def __post_init__(self) -> None:
        self.settings.check()
        if not 1.0 <= self.handshake_timeout <= 15.0:
            raise InvalidArgument("handshake_timeout is outside 1 to 15 seconds")
        if not 0.0 < self.connect_timeout <= 15.0:
            raise InvalidArgument("connect_timeout is outside 0 to 15 seconds")
        if not 0.0 < self.linger <= LINGER_MS / 1000:
            raise InvalidArgument("linger is outside 0 to 1 second")
        if not 0.0 < self.kill_deadline < KILL_DEADLINE_MS / 1000:
            raise InvalidArgument("kill_deadline is outside 0 to 1 second")
        if not 1 <= self.send_buffer <= SEND_BUFFER:
            raise InvalidArgument(f"send_buffer is outside 1 to {SEND_BUFFER}")
        if self.slow_consumer <= 0.0 or self.drain_grace < 0.0 or self.drained_wait < 0.0:
            raise InvalidArgument("slow_consumer, drain_grace or drained_wait is negative")
        if not 1 <= self.retry_after_ms < 2**32:
            raise InvalidArgument("retry_after_ms is outside 1 to 2**32 - 1")
