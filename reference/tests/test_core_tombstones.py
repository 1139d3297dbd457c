from __future__ import annotations

from muxwire._generated.registries import TOMBSTONES
from muxwire.core.tombstones import Tombstones


def test_the_newest_are_remembered() -> None:
    stones = Tombstones()
    for number in range(TOMBSTONES + 5):
        stones.add(number.to_bytes(16, "big"))
    assert len(stones) == TOMBSTONES
    assert (4).to_bytes(16, "big") not in stones
    assert (5).to_bytes(16, "big") in stones
