"""Metrics of call-home pools for Prometheus (P0-015).

It needs `prometheus-client`, the extra `metrics`::

    REGISTRY.register(PoolCollector(path.pool.statistics))

Rules of this file: everything is read when somebody asks.  The label `target` is the address of a
router; the pool tells so many of them apart and counts the rest as "others".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from muxwire.callhome.pool import LATENCY_BOUNDS, TargetStatistics

_LABELS = ("target",)

_FAMILIES: tuple[tuple[type[CounterMetricFamily | GaugeMetricFamily], str, str, str], ...] = (
    (CounterMetricFamily, "connections_created", "created", "Connections dialled."),
    (CounterMetricFamily, "connections_reused", "reused", "Borrowings of a used connection."),
    (GaugeMetricFamily, "active_connections", "active", "Connections that are borrowed."),
    (GaugeMetricFamily, "idle_connections", "idle", "Connections that wait."),
    (GaugeMetricFamily, "waiting", "waiting", "Borrowers that wait."),
    (CounterMetricFamily, "dial_failures", "dial_failures", "Dials that failed."),
    (
        CounterMetricFamily,
        "validation_failures",
        "validation_failures",
        "Connections that did not survive their probe.",
    ),
    (CounterMetricFamily, "shed", "shed", "Borrowers refused, because too many waited."),
    (CounterMetricFamily, "timeouts", "timeouts", "Borrowers that waited in vain."),
    (CounterMetricFamily, "leaks", "leaks", "Borrowings reported as leaked."),
)
"""Kind, name behind `tcp_pool_`, attribute of `TargetStatistics` and text of each family."""


class PoolCollector(Collector):
    """What a registry of prometheus-client collects of one pool.

    Args:
        statistics: Returns what was counted by target, for example `Pool.statistics`.
    """

    def __init__(self, statistics: Callable[[], dict[str, TargetStatistics]]) -> None:
        self._statistics = statistics

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples."""
        return PoolCollector(dict).collect()

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        targets = [*self._statistics().items()]
        for kind, name, attribute, text in _FAMILIES:
            family = kind(f"tcp_pool_{name}", text, labels=_LABELS)
            for target, statistics in targets:
                family.add_metric((target,), getattr(statistics, attribute))
            yield family
        closed = CounterMetricFamily(
            "tcp_pool_closed", "Connections that left.", labels=(*_LABELS, "reason")
        )
        for target, statistics in targets:
            for reason, count in statistics.closed.items():
                closed.add_metric((target, reason.value), count)
        yield closed
        yield _latency(targets)


def _latency(targets: list[tuple[str, TargetStatistics]]) -> Metric:
    family = HistogramMetricFamily(
        "tcp_pool_acquisition_latency_seconds", "Time to borrow a connection.", labels=_LABELS
    )
    for target, statistics in targets:
        buckets, below = [], 0
        for bound, count in zip((*LATENCY_BOUNDS, "+Inf"), statistics.latencies, strict=True):
            below += count
            buckets.append((str(bound), below))
        family.add_metric((target,), buckets, statistics.latency_sum)
    return family
