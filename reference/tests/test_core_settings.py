from __future__ import annotations

import pytest
from muxwire._generated.registries import SETTING_RULES, ErrorCode
from muxwire.core.settings import Settings
from muxwire.errors import InvalidArgument, ProtocolViolation


def test_assumed_values_are_the_floors() -> None:
    assumed = Settings.assumed()
    assert assumed.max_frame_size == 16_384
    assert assumed.max_concurrent_requests == 100
    assert assumed.idle_timeout_ms == 60_000
    assumed.check()


def test_missing_settings_are_assumed_and_unknown_ones_ignored() -> None:
    assert Settings.from_wire([(0x0A0A, 2**64 - 1), (0x7777, 0)]) == Settings.assumed()


def test_round_trip() -> None:
    own = Settings.recommended(max_frame_size=20_000, idle_timeout_ms=100)
    assert Settings.from_wire(own.to_wire(client=False)) == own


def test_a_client_announces_no_limit_of_requests() -> None:
    assert 2 not in dict(Settings.recommended().to_wire(client=True))


@pytest.mark.parametrize("number", list(SETTING_RULES))
def test_both_ends_of_a_range_are_legal_and_nothing_beyond(number: int) -> None:
    rule = SETTING_RULES[number]
    for value in (rule.minimum, rule.maximum):
        assert getattr(Settings.from_wire([(number, value)]), rule.name.lower()) == value
    for value in (rule.minimum - 1, rule.maximum + 1):
        with pytest.raises(ProtocolViolation) as caught:
            Settings.from_wire([(number, value)])
        assert (caught.value.code, caught.value.requirement) == (
            ErrorCode.SETTINGS_ERROR,
            "SET-001",
        )
        with pytest.raises(InvalidArgument, match=rule.name):
            Settings.recommended(**{rule.name.lower(): value}).check()


@pytest.mark.parametrize("number", [0x0001, 0x1A1A])
def test_a_repeated_id_is_refused_known_or_not(number: int) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        Settings.from_wire([(number, 16_384), (number, 16_384)])
    assert caught.value.requirement == "SET-002"
