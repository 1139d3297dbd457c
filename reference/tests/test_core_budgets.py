from __future__ import annotations

import pytest
from muxwire._generated.registries import ErrorCode
from muxwire.core.budgets import Budgets
from muxwire.errors import ProtocolViolation

TOLERATED = {"ping": (50, 10), "glitch": (100, 50), "refusal": (1_000, 500)}
ACT = {"ping": (1_000, 1.0), "glitch": (10_000, 1.0), "refusal": (100_000, 10.0)}


@pytest.mark.parametrize("name", list(TOLERATED))
def test_what_is_tolerated_is_never_punished(name: str) -> None:
    bucket = getattr(Budgets(60_000, 0.0), name)
    burst, rate = TOLERATED[name]
    for _ in range(burst):
        bucket.charge(0.0)
    for number in range(20 * rate):
        bucket.charge(number / rate)


@pytest.mark.parametrize("name", list(ACT))
def test_what_must_be_acted_upon_is(name: str) -> None:
    bucket = getattr(Budgets(60_000, 0.0), name)
    count, seconds = ACT[name]

    def flood() -> None:
        for number in range(count):
            bucket.charge(number * seconds / count)

    with pytest.raises(ProtocolViolation, match="DOS-001") as caught:
        flood()
    assert caught.value.code == ErrorCode.ENHANCE_YOUR_CALM


def test_a_short_idle_timeout_allows_the_pings_it_obliges() -> None:
    bucket = Budgets(100, 0.0).ping
    for number in range(10_000):
        bucket.charge(number / 40)
