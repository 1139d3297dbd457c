"""The seven settings of one side.

Rules of this file: a setting is sent once and never changes.  Until the peer's have arrived, its
assumed values hold (SET-005), and no legal value is below them except the idle timeout.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NoReturn

from muxwire._generated.registries import SETTING_RULES, ErrorCode, SettingId
from muxwire.errors import InvalidArgument, ProtocolViolation


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one side accepts.  Field names are the registry names in lower case.

    The least value of MAX_CONCURRENT_REQUESTS is what makes a worker serve 100 at once (SET-004).
    """

    max_frame_size: int
    max_concurrent_requests: int
    initial_stream_window: int
    connection_window: int
    max_metadata_size: int
    max_message_size: int
    idle_timeout_ms: int

    @classmethod
    def assumed(cls) -> Settings:
        """Return what holds before the peer's SETTINGS, and for every setting it leaves out."""
        return cls(**{rule.name.lower(): rule.assumed for rule in SETTING_RULES.values()})

    @classmethod
    def recommended(cls, **changes: int) -> Settings:
        """Return the recommended values, with `changes` by field name."""
        values = {rule.name.lower(): rule.recommended for rule in SETTING_RULES.values()}
        return cls(**{**values, **changes})

    @classmethod
    def from_wire(cls, pairs: Iterable[tuple[int, int]]) -> Settings:
        """Build the peer's settings from a SETTINGS payload.

        Raises:
            ProtocolViolation: A value is out of range or an id comes twice.
        """
        values = {rule.name.lower(): rule.assumed for rule in SETTING_RULES.values()}
        seen: set[int] = set()
        for number, value in pairs:
            if number in seen:
                _refuse("SET-002", f"setting {number:#06x} is repeated")
            seen.add(number)
            rule = SETTING_RULES.get(number)
            if rule is None:
                continue  # SET-002: unknown ids are ignored
            if not rule.minimum <= value <= rule.maximum:
                _refuse("SET-001", f"{rule.name} is out of range")
            values[rule.name.lower()] = value
        return cls(**values)

    def to_wire(self, *, client: bool) -> list[tuple[int, int]]:
        """Return the pairs of a SETTINGS payload; a client has no limit of requests to announce."""
        return [
            (number, getattr(self, rule.name.lower()))
            for number, rule in SETTING_RULES.items()
            if not (client and number == SettingId.MAX_CONCURRENT_REQUESTS)
        ]

    def check(self) -> None:
        """Refuse values that the peer would refuse.

        Raises:
            InvalidArgument: A value is out of range.
        """
        rules = {rule.name.lower(): rule for rule in SETTING_RULES.values()}
        for item in fields(self):
            rule = rules[item.name]
            if not rule.minimum <= getattr(self, item.name) <= rule.maximum:
                raise InvalidArgument(f"{rule.name} is outside {rule.minimum} to {rule.maximum}")


def _refuse(requirement: str, detail: str) -> NoReturn:
    raise ProtocolViolation(ErrorCode.SETTINGS_ERROR, "connection", requirement, detail)
