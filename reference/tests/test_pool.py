"""The connection pool, over virtual time and connections that a test commands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest
from muxwire.callhome.pool import Closed, Lease, Pool, PoolConfig
from muxwire.callhome.pool.stock import MAX_TARGETS
from muxwire.errors import (
    AcquireTimedOut,
    CannotConnect,
    InvalidArgument,
    LocalProtocolError,
    PoolClosed,
    PoolExhausted,
)

pytestmark = pytest.mark.usefixtures("virtual_time")

A, B = "10.0.0.1:1", "10.0.0.2:1"


class Wire:
    """A connection that does what the test says."""

    def __init__(self, number: int, target: str, on_lost: Callable[[Wire], None]) -> None:
        self.number = number
        self.target = target
        self.usable = True
        self.answers = True
        self.ended = ""
        self.probes = 0
        self._on_lost = on_lost

    async def probe(self) -> bool:
        self.probes += 1
        await asyncio.sleep(0.01)
        return self.answers

    def close(self) -> None:
        self.usable, self.ended = False, "closed"

    def abort(self) -> None:
        self.usable, self.ended = False, "aborted"

    def lose(self) -> None:
        self.usable = False
        self._on_lost(self)


class Network:
    """Dials, and remembers what was dialled."""

    def __init__(self, **options: object) -> None:
        self.wires: list[Wire] = []
        self.fails: Exception | None = None
        self.takes = 0.02
        self.under_way = 0
        self.most_under_way = 0
        defaults = {"min_idle": 0, "max_per_target": 3}
        config = PoolConfig(**(defaults | options))  # type: ignore[arg-type]
        self.pool: Pool[Wire] = Pool(self.dial, config, uniform=max)

    async def dial(self, target: str, on_lost: Callable[[Wire], None]) -> Wire:
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.under_way -= 1
        if self.fails is not None:
            raise self.fails
        wire = Wire(len(self.wires), target, on_lost)
        self.wires.append(wire)
        return wire

    @property
    def open(self) -> int:
        return sum(wire.usable for wire in self.wires)

    def closed(self, reason: Closed, target: str = A) -> int:
        return self.pool.statistics()[target].closed[reason]


async def passing(seconds: float) -> None:
    """Let virtual time pass."""
    await asyncio.sleep(seconds)


async def turn() -> None:
    """Let everything run that can run now."""
    for _ in range(5):
        await asyncio.sleep(0)


# -- lending and taking back


async def test_a_connection_is_dialled_once_and_then_reused() -> None:
    network = Network()
    for _ in range(20):
        with await network.pool.acquire(A) as wire:
            assert wire.number == 0
    counts = network.pool.statistics()[A]
    assert (counts.created, counts.reused, counts.active, counts.idle) == (1, 19, 0, 1)
    assert sum(counts.latencies) == 20
    assert counts.latency_sum == pytest.approx(0.02)


async def test_the_last_one_in_is_the_first_one_out() -> None:
    network = Network()
    leases = [await network.pool.acquire(A) for _ in range(3)]
    for lease in (leases[1], leases[2], leases[0]):
        lease.release()
    again = [await network.pool.acquire(A) for _ in range(3)]
    assert [lease.connection.number for lease in again] == [0, 2, 1]
    assert all(lease.reused for lease in again)


async def test_what_was_dialled_ahead_is_used_after_what_was_used_before() -> None:
    network = Network(min_idle=3, max_per_target=5)
    with await network.pool.acquire(A) as first:
        pass
    await passing(1.0)
    assert network.pool.statistics()[A].idle == 3  # two of them younger
    for _ in range(3):
        with await network.pool.acquire(A) as again:
            assert again is first


async def test_targets_are_kept_apart() -> None:
    network = Network()
    with await network.pool.acquire(A) as first:
        pass
    with await network.pool.acquire(B) as second:
        assert second is not first
        assert (first.target, second.target) == (A, B)


async def test_a_lease_ends_once() -> None:
    network = Network()
    lease = await network.pool.acquire(A)
    lease.release()
    for end in (lease.release, lease.discard):
        with pytest.raises(LocalProtocolError):
            end()
    assert network.open == 1


async def test_what_failed_halfway_does_not_come_back() -> None:
    network = Network()
    with pytest.raises(RuntimeError), await network.pool.acquire(A) as wire:
        raise RuntimeError
    assert wire.ended == "aborted"
    with await network.pool.acquire(A) as other:
        assert other is not wire
    assert network.closed(Closed.DISCARDED) == 1


async def test_one_that_died_while_it_was_borrowed_does_not_come_back() -> None:
    network = Network()
    lease = await network.pool.acquire(A)
    lease.connection.lose()
    lease.release()
    assert network.pool.size == 0
    assert network.closed(Closed.LOST) == 1


async def test_one_that_dies_while_it_is_idle_leaves_at_once() -> None:
    network = Network()
    with await network.pool.acquire(A) as wire:
        pass
    wire.lose()
    assert network.pool.size == 0
    wire.lose()  # a second word about it changes nothing
    assert network.closed(Closed.LOST) == 1


# -- probing


async def test_one_that_was_idle_for_long_is_probed_before_it_is_lent() -> None:
    network = Network(probe_after=0.5)
    with await network.pool.acquire(A) as wire:
        pass
    await passing(0.4)
    with await network.pool.acquire(A) as wire:
        assert wire.probes == 0
    await passing(0.6)
    with await network.pool.acquire(A) as same:
        assert same is wire
        assert wire.probes == 1


async def test_one_that_does_not_survive_its_probe_is_replaced() -> None:
    network = Network()
    with await network.pool.acquire(A) as wire:
        pass
    wire.answers = False
    await passing(1.0)
    with await network.pool.acquire(A) as other:
        assert other is not wire
    counts = network.pool.statistics()[A]
    assert (counts.validation_failures, counts.closed[Closed.STALE]) == (1, 1)
    assert network.open == 1


async def test_a_borrower_that_gives_up_during_the_probe_leaves_nothing_behind() -> None:
    network = Network()
    with await network.pool.acquire(A):
        pass
    await passing(1.0)
    task = asyncio.ensure_future(network.pool.acquire(A))
    await turn()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert network.pool.size == 0
    assert network.pool.statistics()[A].active == 0


# -- limits and waiting


async def test_no_target_has_more_connections_than_its_limit() -> None:
    network = Network(max_per_target=3)
    order = []

    async def job(number: int) -> None:
        with await network.pool.acquire(A):
            order.append(number)
            await passing(0.01)

    await asyncio.gather(*(job(number) for number in range(30)))
    assert order == list(range(30))
    assert len(network.wires) == 3
    assert network.pool.statistics()[A].waiting == 0


async def test_a_thousand_borrowers_share_fifty_connections_in_order() -> None:
    network = Network(max_per_target=50, max_waiting=1_000, acquire_timeout=1e5)
    order = []

    async def job(number: int) -> None:
        with await network.pool.acquire(A):
            order.append(number)
            await passing(1.0)

    await asyncio.gather(*(job(number) for number in range(1_000)))
    assert order == list(range(1_000))
    assert len(network.wires) == 50
    assert network.open == 50


async def test_a_borrower_waits_no_longer_than_it_wants() -> None:
    network = Network(max_per_target=1, acquire_timeout=10.0)
    held = await network.pool.acquire(A)
    loop = asyncio.get_running_loop()
    for wait, seconds in ((None, 10.0), (2.5, 2.5)):
        before = loop.time()
        with pytest.raises(AcquireTimedOut, match=f"within {seconds:g} s"):
            await network.pool.acquire(A, timeout=wait)
        assert loop.time() - before == pytest.approx(seconds)
    counts = network.pool.statistics()[A]
    assert (counts.timeouts, counts.waiting) == (2, 0)
    held.release()
    assert (await network.pool.acquire(A)).connection is held.connection


async def test_when_too_many_wait_more_are_refused_at_once() -> None:
    network = Network(max_per_target=1, max_waiting=2)
    held = await network.pool.acquire(A)
    waiting = [asyncio.ensure_future(network.pool.acquire(A)) for _ in range(2)]
    await turn()
    with pytest.raises(PoolExhausted):
        await network.pool.acquire(A)
    assert network.pool.statistics()[A].shed == 1
    held.release()
    (await waiting[0]).release()
    (await waiting[1]).release()


async def test_two_hundred_cancelled_borrowers_leak_nothing() -> None:
    network = Network(max_per_target=2)
    held = [await network.pool.acquire(A) for _ in range(2)]
    tasks = [asyncio.ensure_future(network.pool.acquire(A)) for _ in range(200)]
    await turn()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    counts = network.pool.statistics()[A]
    assert (counts.waiting, counts.active) == (0, 2)
    for lease in held:
        lease.release()
    assert (counts.active, counts.idle, network.open) == (0, 2, 2)


async def test_a_connection_handed_to_a_cancelled_borrower_goes_to_the_next() -> None:
    network = Network(max_per_target=1)
    held = await network.pool.acquire(A)
    first = asyncio.ensure_future(network.pool.acquire(A))
    second = asyncio.ensure_future(network.pool.acquire(A))
    await turn()
    held.release()  # the future of the first has its result, but the task has not run
    first.cancel()
    lease = await second
    assert lease.connection is held.connection
    assert first.cancelled()
    lease.release()
    assert network.pool.statistics()[A].active == 0


async def test_a_dial_outlives_the_borrower_that_caused_it() -> None:
    network = Network()
    task = asyncio.ensure_future(network.pool.acquire(A))
    await turn()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await passing(0.1)
    assert network.pool.statistics()[A].idle == 1
    lease = await network.pool.acquire(A)
    assert not lease.reused
    assert len(network.wires) == 1


async def test_the_total_limit_takes_idle_connections_from_other_targets() -> None:
    network = Network(max_per_target=2, max_total=2)
    first = await network.pool.acquire(A)
    second = await network.pool.acquire(A)
    first.release()
    waiting = asyncio.ensure_future(network.pool.acquire(B))
    await passing(0.1)
    assert waiting.done()
    assert network.closed(Closed.ROOM) == 1
    blocked = asyncio.ensure_future(network.pool.acquire(B))
    await passing(0.1)
    assert not blocked.done()
    second.release()
    await passing(0.1)
    assert blocked.done()
    assert network.pool.size == 2


async def test_who_wants_a_fresh_one_gets_one_even_at_the_limit() -> None:
    network = Network(max_per_target=1)
    with await network.pool.acquire(A) as wire:
        pass
    lease = await network.pool.acquire(A, fresh=True)
    assert lease.connection is not wire
    assert not lease.reused
    assert network.open == 1
    waiting = asyncio.ensure_future(network.pool.acquire(A, fresh=True))
    await turn()
    lease.release()
    assert (await waiting).connection is not lease.connection
    assert network.open == 1


class Stale(Exception):  # noqa: N818 - it says what happened
    """What a job raises when its connection was dead before anything was sent."""


async def test_a_job_is_run_once_more_if_its_connection_was_stale() -> None:
    network = Network()
    with await network.pool.acquire(A) as old:
        pass

    async def job(wire: Wire) -> Wire:
        if wire is old:
            raise Stale
        return wire

    assert await network.pool.use(A, job, Stale) is not old
    assert old.ended == "aborted"


async def test_a_job_on_a_new_connection_is_not_run_again() -> None:
    network = Network()
    runs = []

    async def job(wire: Wire) -> None:
        runs.append(wire)
        raise Stale

    with pytest.raises(Stale):
        await network.pool.use(A, job, Stale)
    assert len(runs) == 1


# -- dials that fail


async def test_a_failed_dial_is_told_with_its_reason() -> None:
    network = Network()
    network.fails = ConnectionRefusedError("refused")
    with pytest.raises(CannotConnect, match=f"{A}: refused") as caught:
        await network.pool.acquire(A)
    assert caught.value.target == A
    assert network.pool.size == 0


async def test_a_dial_takes_no_longer_than_allowed() -> None:
    network = Network(dial_timeout=2.0)
    network.takes = 1e6
    with pytest.raises(CannotConnect, match="within 2 s"):
        await network.pool.acquire(A)


async def test_a_target_that_fails_again_and_again_is_left_alone_but_for_one_probe() -> None:
    network = Network(breaker_failures=3, breaker_base=1.0, breaker_cap=60.0)
    network.fails = ConnectionRefusedError("refused")
    for _ in range(3):
        with pytest.raises(CannotConnect):
            await network.pool.acquire(A)
    dials = network.pool.statistics()[A].dial_failures
    with pytest.raises(CannotConnect, match="several times in a row"):
        await network.pool.acquire(A)
    assert network.pool.statistics()[A].dial_failures == dials
    await passing(4.0)  # the third pause: 1 s doubled twice, jitter at its most
    tries = await asyncio.gather(
        *(network.pool.acquire(A) for _ in range(5)), return_exceptions=True
    )
    assert all(isinstance(one, CannotConnect) for one in tries)
    assert network.pool.statistics()[A].dial_failures == dials + 1
    await passing(8.0)
    network.fails = None
    (await network.pool.acquire(A)).release()
    assert [lease.reused for lease in [await network.pool.acquire(A)]] == [True]


async def test_an_open_breaker_does_not_keep_what_works_from_being_lent() -> None:
    network = Network(breaker_failures=1, max_per_target=2)
    held = await network.pool.acquire(A)
    network.fails = ConnectionRefusedError("refused")
    with pytest.raises(CannotConnect):
        await network.pool.acquire(A)
    waiting = asyncio.ensure_future(network.pool.acquire(A))
    await turn()
    held.release()
    assert (await waiting).connection is held.connection


# -- time


async def test_a_used_target_keeps_its_least_number_of_idle_connections() -> None:
    network = Network(max_per_target=10, min_idle=5)
    with await network.pool.acquire(A):
        pass
    await passing(1.0)
    assert network.pool.statistics()[A].idle == 5
    assert network.most_under_way <= 2
    network.wires[0].lose()
    await passing(1.0)
    assert network.pool.statistics()[A].idle == 5


async def test_what_is_idle_for_too_long_is_closed_down_to_the_least_number() -> None:
    network = Network(max_per_target=8, min_idle=2, idle_timeout=300.0)
    leases = [await network.pool.acquire(A) for _ in range(8)]
    for lease in leases:
        lease.release()
    await passing(299.0)
    assert network.open == 8
    await passing(2.0)
    assert network.open == 2
    await passing(10_000.0)
    assert network.pool.statistics()[A].idle == 2


async def test_an_old_connection_is_replaced_before_it_is_closed() -> None:
    network = Network(max_per_target=3, min_idle=1, max_lifetime=100.0, idle_timeout=1e6)
    with await network.pool.acquire(A):
        pass
    await passing(89.0)
    assert network.open == 2  # the one that was used, and the one kept idle meanwhile
    fewest = 9
    for _ in range(300):
        await passing(0.01)
        fewest = min(fewest, network.open)
    assert [wire.usable for wire in network.wires] == [False, False, True]
    assert fewest == 1
    assert network.closed(Closed.LIFETIME) == 2


async def test_an_old_connection_is_not_taken_from_its_borrower() -> None:
    network = Network(max_per_target=1, min_idle=1, max_lifetime=100.0)
    lease = await network.pool.acquire(A)
    await passing(500.0)
    assert lease.connection.usable
    lease.release()
    assert lease.connection.ended == "closed"
    await passing(1.0)
    assert network.open == 1


async def test_filling_up_waits_while_the_target_cannot_be_reached() -> None:
    network = Network(max_per_target=5, min_idle=3, breaker_base=1.0, breaker_cap=10.0)
    lease = await network.pool.acquire(A)
    network.fails = ConnectionRefusedError("refused")
    lease.release()
    await passing(0.0)
    lease.connection.lose()
    await passing(100.0)
    failures = network.pool.statistics()[A].dial_failures
    assert 3 <= failures <= 40
    network.fails = None
    await passing(21.0)
    assert network.pool.statistics()[A].idle == 3


async def test_a_connection_that_never_comes_back_is_reported_with_its_borrower(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = Network(leak_after=60.0)

    async def forgetful() -> Lease[Wire]:
        return await network.pool.acquire(A)

    lease = await forgetful()
    with caplog.at_level(logging.WARNING, "muxwire.pool"):
        await passing(59.0)
        assert not caplog.records
        await passing(120.0)
    (record,) = caplog.records
    assert "forgetful" in record.getMessage()
    assert network.pool.statistics()[A].leaks == 1
    lease.release()
    assert network.open == 1


async def test_a_resting_pool_does_nothing() -> None:
    network = Network(min_idle=1, idle_timeout=1e6, max_lifetime=1e7)
    with await network.pool.acquire(A):
        pass
    await passing(2e5)  # a pool that woke up all the time would take for ever here
    assert network.open == 2


# -- the whole pool


async def test_without_pooling_every_borrower_has_a_connection_of_its_own() -> None:
    network = Network(enabled=False, max_per_target=2, min_idle=2)
    leases = [await network.pool.acquire(A) for _ in range(5)]
    assert len({lease.connection.number for lease in leases}) == 5
    for lease in leases:
        lease.release()
    await passing(1.0)
    assert network.open == 0
    assert len(network.wires) == 5
    assert network.closed(Closed.UNPOOLED) == 5


async def test_evicting_a_target_closes_what_is_idle_now_and_the_rest_later() -> None:
    network = Network()
    first, second = [await network.pool.acquire(A) for _ in range(2)]
    first.release()
    network.pool.evict(A)
    network.pool.evict(B)  # nothing is known of it
    assert not first.connection.usable
    assert second.connection.usable
    second.release()
    assert not second.connection.usable
    assert network.pool.size == 0


async def test_shrinking_closes_what_is_idle_and_refuses_what_comes_back() -> None:
    network = Network(max_per_target=4)
    leases = [await network.pool.acquire(A) for _ in range(4)]
    leases[0].release()
    network.pool.resize(max_per_target=2)
    assert network.open == 3
    leases[1].release()
    assert network.open == 2
    leases[2].release()
    assert network.open == 2
    with pytest.raises(InvalidArgument):
        network.pool.resize(max_per_target=1, min_idle=2)
    assert network.pool.config.max_per_target == 2


async def test_growing_serves_who_waits() -> None:
    network = Network(max_per_target=1)
    await network.pool.acquire(A)
    waiting = asyncio.ensure_future(network.pool.acquire(A))
    await turn()
    network.pool.resize(max_per_target=2, min_idle=1)
    assert (await waiting).connection.number == 1


async def test_draining_waits_for_what_is_borrowed_and_refuses_everybody_else() -> None:
    network = Network(max_per_target=2)
    held = [await network.pool.acquire(A) for _ in range(2)]
    held[0].release()
    refused = asyncio.ensure_future(network.pool.acquire(A, fresh=True))
    await turn()
    draining = asyncio.ensure_future(network.pool.drain(10.0))
    await turn()
    assert not held[0].connection.usable
    with pytest.raises(PoolClosed):
        await refused
    with pytest.raises(PoolClosed):
        await network.pool.acquire(A)
    assert not draining.done()
    held[1].release()
    assert await draining
    assert network.pool.size == 0
    assert network.under_way == 0


async def test_draining_aborts_what_does_not_come_back_in_time() -> None:
    network = Network()
    lease = await network.pool.acquire(A)
    assert not await network.pool.drain(5.0)
    assert lease.connection.ended == "aborted"
    lease.release()
    assert network.pool.size == 0
    with pytest.raises(InvalidArgument):
        await network.pool.drain(-1.0)


# -- options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_per_target": 0}, "max_per_target 0 is not from above 0"),
        ({"max_per_target": 2.5}, "max_per_target 2.5 is no number"),
        ({"max_per_target": True}, "max_per_target True is no number"),
        ({"min_idle": -1}, "min_idle -1 is not from 0"),
        ({"min_idle": 51}, "min_idle 51 is above max_per_target 50 .P0-015"),
        ({"idle_timeout": float("nan")}, "idle_timeout nan is not"),
        ({"enabled": 1}, "enabled 1 is neither True nor False"),
    ],
)
async def test_an_option_out_of_range_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        PoolConfig(**options)  # type: ignore[arg-type]


async def test_the_environment_sets_the_documented_options() -> None:
    assert PoolConfig.from_environment({}) == PoolConfig()
    config = PoolConfig.from_environment(
        {
            "DYN_TCP_POOL_ENABLED": "False",
            "DYN_TCP_POOL_MAX_PER_TARGET": "7",
            "DYN_TCP_POOL_MIN_IDLE": " 0 ",
            "DYN_TCP_POOL_IDLE_TIMEOUT_SECS": "1.5",
            "DYN_TCP_POOL_MAX_LIFETIME_SECS": "60",
            "DYN_TCP_POOL_KEEPALIVE_SECS": "9",
            "UNRELATED": "x",
        }
    )
    assert config == PoolConfig(
        enabled=False,
        max_per_target=7,
        min_idle=0,
        idle_timeout=1.5,
        max_lifetime=60.0,
        keepalive=9.0,
    )
    default = PoolConfig()
    assert (default.max_per_target, default.min_idle, default.keepalive) == (50, 5, 60.0)
    assert (default.idle_timeout, default.max_lifetime, default.enabled) == (300.0, 3600.0, True)


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("DYN_TCP_POOL_ENABLED", "maybe"),
        ("DYN_TCP_POOL_MAX_PER_TARGET", "many"),
        ("DYN_TCP_POOL_MAX_PER_TARGET", "0"),
        ("DYN_TCP_POOL_MIN_IDLE", "-1"),
        ("DYN_TCP_POOL_IDLE_TIMEOUT_SECS", "inf"),
        ("DYN_TCP_POOL_MAX_LIFETIME_SECS", ""),
    ],
)
async def test_a_malformed_variable_is_named_with_its_value(variable: str, text: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{variable}='{text}': .*P0-015"):
        PoolConfig.from_environment({variable: text})


# -- many targets


async def test_targets_that_nobody_uses_are_forgotten_and_their_counts_are_kept() -> None:
    network = Network(idle_timeout=1.0)
    pool = network.pool
    held = await pool.acquire(A)
    for number in range(2 * MAX_TARGETS):
        (await pool.acquire(f"10.1.0.1:{number + 1}")).release()
        await passing(2.0)  # what was idle is closed
    statistics = pool.statistics()
    assert len(statistics) <= MAX_TARGETS + 1
    assert A in statistics
    assert sum(one.created for one in statistics.values()) == 2 * MAX_TARGETS + 1
    assert sum(one.closed[Closed.IDLE] for one in statistics.values()) == 2 * MAX_TARGETS
    assert sum(sum(one.latencies) for one in statistics.values()) == 2 * MAX_TARGETS + 1
    held.release()
    assert (await pool.acquire(A)).reused


async def test_targets_in_use_are_never_forgotten() -> None:
    network = Network(max_total=2_000)
    leases = [await network.pool.acquire(f"10.1.0.1:{port}") for port in range(1, MAX_TARGETS + 9)]
    assert len(network.pool.statistics()) == len(leases)
    for lease in leases:
        lease.release()
    assert network.pool.size == len(leases)
