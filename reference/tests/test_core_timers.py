from __future__ import annotations

from muxwire.core.timers import Timers


def test_deadlines_fire_in_order_and_once() -> None:
    timers: Timers[str] = Timers()
    timers.add(2.0, 1, "b")
    timers.add(1.0, 2, "a")
    timers.add(2.0, 3, "c")
    assert timers.next() == 1.0
    assert timers.pop_due(0.9) is None
    fired = []
    while (timer := timers.pop_due(5.0)) is not None:
        fired.append((timer.when, timer.action, timer.subject))
        assert not timer.active
    assert fired == [(1.0, 2, "a"), (2.0, 1, "b"), (2.0, 3, "c")]
    assert timers.next() is None


def test_a_cancelled_deadline_is_gone() -> None:
    timers: Timers[str] = Timers()
    first = timers.add(1.0, 0, "a")
    timers.add(2.0, 0, "b")
    timers.cancel(first)
    timers.cancel(first)
    timers.cancel(None)
    assert len(timers) == 1
    assert timers.next() == 2.0


def test_memory_follows_the_live_deadlines() -> None:
    timers: Timers[int] = Timers()
    for number in range(10_000):
        timers.cancel(timers.add(60.0 + number, 0, number))
    assert len(timers) == 0
    assert len(timers._heap) < 200
