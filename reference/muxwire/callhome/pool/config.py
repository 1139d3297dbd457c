"""Options of a pool, and the environment variables that set them (P0-015).

Rules of this file: a `PoolConfig` is valid once it exists.  Times are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from muxwire.errors import InvalidArgument

_LONGEST = 86_400.0 * 365

_TRUE = frozenset(("1", "true", "yes", "on"))
_FALSE = frozenset(("0", "false", "no", "off"))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolConfig:
    """How a pool behaves.

    Attributes:
        enabled: False gives every borrower a connection of its own, which is closed when returned.
        max_per_target: Connections to one target, those being dialled included.
        max_total: Connections to all targets together.
        min_idle: Idle connections that a target keeps once it was used.
        idle_timeout: Seconds after which an idle connection above `min_idle` is closed.
        max_lifetime: Seconds after which a connection is replaced, less up to a tenth at random.
        keepalive: Seconds of silence before the kernel probes the peer; for whoever dials.
        acquire_timeout: Seconds that a borrower waits.
        max_waiting: Borrowers that may wait for one target; more are refused at once.
        dial_timeout: Seconds that a dial may take.
        probe_after: Seconds of idleness after which a connection is probed before it is lent.
        breaker_failures: Failed dials in a row after which a target is not dialled on demand.
        breaker_base: Bound of the first pause between such dials; it doubles.
        breaker_cap: Highest bound of that pause.
        leak_after: Seconds after which a borrowed connection is reported as leaked.

    Raises:
        InvalidArgument: a value is out of its range.
    """

    enabled: bool = True
    max_per_target: int = 50
    max_total: int = 1_024
    min_idle: int = 5
    idle_timeout: float = 300.0
    max_lifetime: float = 3_600.0
    keepalive: float = 60.0
    acquire_timeout: float = 10.0
    max_waiting: int = 4_096
    dial_timeout: float = 5.0
    probe_after: float = 0.5
    breaker_failures: int = 5
    breaker_base: float = 0.1
    breaker_cap: float = 10.0
    leak_after: float = 600.0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check(field.name, getattr(self, field.name), type(field.default))
        if self.min_idle > self.max_per_target:
            raise InvalidArgument(
                f"min_idle {self.min_idle} is above max_per_target {self.max_per_target} (P0-015)"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> PoolConfig:
        """Read the `DYN_TCP_POOL_*` variables; what is not set keeps its default.

        Args:
            environment: For example `os.environ`.

        Raises:
            InvalidArgument: a value is malformed or out of its range; the text names the variable.
        """
        chosen: dict[str, Any] = {}
        for variable, (name, read) in VARIABLES.items():
            text = environment.get(variable)
            if text is None:
                continue
            try:
                value = read(text.strip())
                _check(name, value, type(value))
            except (ValueError, InvalidArgument) as error:
                raise InvalidArgument(f"{variable}={text!r}: {error} (P0-015)") from None
            chosen[name] = value
        return cls(**chosen)


_ZERO_ALLOWED = frozenset(("min_idle", "max_waiting", "probe_after"))


def _check(name: str, value: object, kind: type) -> None:
    if kind is bool:
        if not isinstance(value, bool):
            raise InvalidArgument(f"{name} {value!r} is neither True nor False")
        return
    lowest = "0" if name in _ZERO_ALLOWED else "above 0"
    if isinstance(value, bool) or not isinstance(value, int if kind is int else (int, float)):
        raise InvalidArgument(f"{name} {value!r} is no number")
    enough = value >= 0 if name in _ZERO_ALLOWED else value > 0
    if not enough or value > _LONGEST:
        raise InvalidArgument(f"{name} {value:g} is not from {lowest} to {_LONGEST:g}")


def _truth(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError("neither true nor false")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise ValueError("not a whole number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("not a number of seconds") from None
    if not math.isfinite(value):
        raise ValueError("not a number of seconds")
    return value


VARIABLES: Final[Mapping[str, tuple[str, Callable[[str], Any]]]] = {
    "DYN_TCP_POOL_ENABLED": ("enabled", _truth),
    "DYN_TCP_POOL_MAX_PER_TARGET": ("max_per_target", _count),
    "DYN_TCP_POOL_MIN_IDLE": ("min_idle", _count),
    "DYN_TCP_POOL_IDLE_TIMEOUT_SECS": ("idle_timeout", _seconds),
    "DYN_TCP_POOL_MAX_LIFETIME_SECS": ("max_lifetime", _seconds),
    "DYN_TCP_POOL_KEEPALIVE_SECS": ("keepalive", _seconds),
}
"""Field and reader of each environment variable."""
