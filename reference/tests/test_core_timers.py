from __future__ import annotations

from muxwire.core.timers import Timers


def test_deadlines_fire_in_order_and_once() -> None:
    timers: Timers = Timers()
    timers.add(2.0, 1, b"b")
    timers.add(1.0, 2, b"a")
    timers.add(2.0, 3, b"c")
    assert timers.next() == 1.0
    assert timers.pop_due(0.9) is None
    fired = []
    while (timer := timers.pop_due(5.0)) is not None:
        fired.append((timer.when, timer.action, timer.request_id))
        assert not timer.active
    assert fired == [(1.0, 2, b"a"), (2.0, 1, b"b"), (2.0, 3, b"c")]
    assert timers.next() is None


def test_a_cancelled_deadline_is_gone() -> None:
    timers: Timers = Timers()
    first = timers.add(1.0, 0, b"a")
    timers.add(2.0, 0, b"b")
    timers.cancel(first)
    timers.cancel(first)
    timers.cancel(None)
    assert len(timers) == 1
    assert timers.next() == 2.0


def test_memory_follows_the_live_deadlines() -> None:
    timers: Timers = Timers()
    for number in range(10_000):
        timers.cancel(timers.add(60.0 + number, 0, b"%d" % number))
    assert len(timers) == 0
    assert len(timers._heap) < 200
