"""A timer that is moved about, on both loops."""

from __future__ import annotations

import asyncio
from math import inf

import pytest
from muxwire.tcp.alarm import Alarm

pytestmark = pytest.mark.usefixtures("each_loop")


async def test_it_rings_once_at_the_last_time_set() -> None:
    loop = asyncio.get_running_loop()
    rung = asyncio.Queue[float]()
    alarm = Alarm(lambda: rung.put_nowait(loop.time()))
    begun = loop.time()
    for seconds in (1e-3, 1e6, 0.02):
        alarm.set(begun + seconds)
        alarm.set(begun + seconds)
    assert await rung.get() - begun >= 0.015
    assert alarm.when == inf
    alarm.set(loop.time() + 1e-3)
    await rung.get()
    assert rung.empty()


async def test_a_time_that_has_come_can_be_moved_too() -> None:
    loop = asyncio.get_running_loop()
    rung = asyncio.Queue[int]()
    alarm = Alarm(lambda: rung.put_nowait(1))
    alarm.set(loop.time() - 1)  # uvloop has no timer for it
    alarm.set(loop.time() - 2)
    alarm.set(loop.time())
    await rung.get()
    alarm.set(loop.time() - 1)
    alarm.off()
    await asyncio.sleep(0.01)
    assert rung.empty()
