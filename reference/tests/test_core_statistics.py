from __future__ import annotations

from muxwire.core.statistics import Statistics


def test_counters() -> None:
    statistics = Statistics(limit=2)
    statistics.start()
    assert not statistics.full
    statistics.start()
    assert statistics.full
    statistics.end()
    assert (statistics.active, statistics.peak, statistics.opened) == (1, 2, 2)
    statistics.reset_peak()
    assert statistics.peak == 1
    assert not Statistics(active=1 << 30).full
