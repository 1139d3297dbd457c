"""Metrics for Prometheus: what the counters of workers and clients say (OBS-004).

It needs `prometheus-client`, the extra `metrics`.  With a worker or a client at hand::

    from prometheus_client import REGISTRY, start_http_server
    from muxwire.metrics import Collector

    REGISTRY.register(Collector(worker, client))
    start_http_server(9100, "127.0.0.1")

Rules of this file: everything is read when somebody asks, and nothing is kept.  A reading is one
step of the loop that counts, so no counter ever goes back.  Each sample has the labels `path` and
`role`, and what a peer chooses never becomes a label.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import NamedTuple, Protocol, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector as BaseCollector

from muxwire._generated.codec import KIND_NAMES
from muxwire.core.counters import CODE_NAMES, ROUND_TRIP_BOUNDS, Counters
from muxwire.tcp.client import Client
from muxwire.tcp.worker import Worker

T = TypeVar("T")


class Aside(Protocol):
    """A worker's or a client's end of a path beside TCP, as `muxwire.callhome` has them."""

    counters: Counters

    @property
    def name(self) -> str:
        """The path."""

    @property
    def role(self) -> str:
        """What it is: worker or client."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that counts."""

    @property
    def connections_open(self) -> int:
        """Connections that are open, idle ones included."""

    def buffered_bytes(self) -> int:
        """Return the cost of what waits."""

    def open_subjects(self) -> list[bytes]:
        """Return the subject of each request that is not over."""


Source = Worker | Client | Aside

LOOP_WAIT = 1.0
"""Seconds that a reading waits for its turn in a busy loop before it is taken without."""


class _Family(NamedTuple):
    kind: type[GaugeMetricFamily | CounterMetricFamily]
    text: str
    labels: tuple[str, ...] = ()


_GAUGE, _COUNTER = GaugeMetricFamily, CounterMetricFamily

_FAMILIES = {
    "connections_open": _Family(_GAUGE, "Connections that are set up."),
    "connections_pending": _Family(_GAUGE, "Connections whose preface is not complete."),
    "connections": _Family(_COUNTER, "TCP connections accepted or made."),
    "connections_accepted": _Family(_COUNTER, "Handshakes completed."),
    "connections_refused": _Family(
        _COUNTER, "Connections refused, or closed while pending (HSK-011)."
    ),
    "handshake_failures": _Family(_COUNTER, "Handshakes that failed.", ("reason",)),
    "requests_open": _Family(_GAUGE, "Requests without an end.", ("subject",)),
    "requests": _Family(
        _COUNTER,
        "Requests that are over; those of unknown subjects have an empty one.",
        ("subject", "code"),
    ),
    "frames": _Family(_COUNTER, "Frames.", ("kind", "direction")),
    "frame_bytes": _Family(_COUNTER, "Octets of frames, headers included.", ("kind", "direction")),
    "window_blocked_seconds": _Family(
        _COUNTER, "Time that streams and connections were blocked by a window.", ("window",)
    ),
    "glitches": _Family(_COUNTER, "Harmless frames that were charged to a budget (DOS-001)."),
    "goaways": _Family(_COUNTER, "GOAWAYs.", ("code", "direction")),
    "buffered_bytes": _Family(_GAUGE, "Queued output, unread input and queued control frames."),
    "handlers_active": _Family(_GAUGE, "Handlers that run."),
    "handlers_peak": _Family(_GAUGE, "Most handlers that ran at once."),
    "handlers_opened": _Family(_COUNTER, "Handlers started."),
    "handlers_cancelled": _Family(_COUNTER, "Handlers asked to stop before their end."),
}

_COMMON = ("path", "role")
_KINDS = tuple(name.lower() for name in KIND_NAMES)

_Sample = tuple[str, tuple[str, ...], float]
"""A family, the values of its own labels, and what to add."""


class Collector(BaseCollector):
    """What a registry of prometheus-client collects of workers and clients.

    One collector takes all of a process; those of one role are added up.

    Args:
        sources: Workers and clients.
    """

    def __init__(self, *sources: Source) -> None:
        self._sources = list(sources)

    def add(self, source: Source) -> None:
        """Collect one more."""
        self._sources.append(source)

    def remove(self, source: Source) -> None:
        """Collect one less; what it has counted leaves the sums.

        Raises:
            ValueError: it is not collected.
        """
        self._sources.remove(source)

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples, so that a registry sees what would collide."""
        return Collector().collect()

    def collect(self) -> Iterator[Metric]:
        """Read everything."""
        sums: dict[str, dict[tuple[str, ...], float]] = defaultdict(lambda: defaultdict(float))
        round_trips: dict[tuple[str, str], tuple[list[int], float]] = {}
        for source in [*self._sources]:
            labels = _labels(source)
            samples, (ranges, seconds) = _in_turn(source.loop, _reader(source))
            for name, own, value in samples:
                sums[name][labels + own] += value
            others, so_far = round_trips.get(labels, ([0] * len(ranges), 0.0))
            ranges = [one + other for one, other in zip(ranges, others, strict=True)]
            round_trips[labels] = (ranges, so_far + seconds)
        for name, (kind, text, own) in _FAMILIES.items():
            family = kind(f"muxwire_{name}", text, labels=_COMMON + own)
            for values, value in sums[name].items():
                family.add_metric(values, value)
            yield family
        yield _histogram(round_trips)


def _labels(source: Source) -> tuple[str, str]:
    match source:
        case Worker():
            return "tcp", "worker"
        case Client():
            return "tcp", "client"
        case _:
            return source.name, source.role


def _histogram(readings: dict[tuple[str, str], tuple[list[int], float]]) -> Metric:
    family = HistogramMetricFamily(
        "muxwire_ping_round_trip_seconds", "Time from a PING to its PONG.", labels=_COMMON
    )
    for labels, (ranges, seconds) in readings.items():
        buckets, below = [], 0
        for bound, count in zip((*ROUND_TRIP_BOUNDS, "+Inf"), ranges, strict=True):
            below += count
            buckets.append((str(bound), below))
        family.add_metric(labels, buckets, seconds)
    return family


def _in_turn(loop: asyncio.AbstractEventLoop | None, read: Callable[[], T]) -> T:
    """Read between two steps of a loop, from whatever thread.

    A loop that is stuck is no reason to say nothing: then the reading may be a little uneven.
    """
    if loop is None or not loop.is_running() or asyncio._get_running_loop() is loop:
        return read()
    answer: Future[T] = Future()

    def step() -> None:
        if answer.set_running_or_notify_cancel():
            try:
                answer.set_result(read())
            except Exception as error:
                answer.set_exception(error)

    try:
        loop.call_soon_threadsafe(step)
        return answer.result(LOOP_WAIT)
    except (TimeoutError, RuntimeError):
        return read() if answer.cancel() or not answer.running() else answer.result()


def _reader(source: Source) -> Callable[[], tuple[list[_Sample], tuple[list[int], float]]]:
    counters = source.counters
    return lambda: (
        [*_connections(source), *_requests(source), *_traffic(source), *_handlers(source)],
        ([*counters.round_trips], counters.round_trip_sum),
    )


def _connections(source: Source) -> Iterator[_Sample]:
    counters = source.counters
    refused = counters.failures["limit"]
    if isinstance(source, Worker):
        refused += counters.failures["abandoned"]
        yield "connections_open", (), source.admitted
        yield "connections_pending", (), source.pending
    elif isinstance(source, Client):
        yield "connections_open", (), source.connections
    else:
        yield "connections_open", (), source.connections_open
    yield "connections", (), counters.opened
    yield "connections_accepted", (), counters.accepted
    yield "connections_refused", (), refused
    for reason, count in counters.failures.copy().items():
        yield "handshake_failures", (reason,), count
    yield "glitches", (), counters.glitches
    for direction, counts in (
        ("received", counters.goaways_received),
        ("sent", counters.goaways_sent),
    ):
        for code, count in counts.copy().items():
            yield "goaways", (CODE_NAMES[code], direction), count
    if isinstance(source, Worker | Client):
        yield "buffered_bytes", (), sum(core.buffered_bytes for core in source.cores())
    else:
        yield "buffered_bytes", (), source.buffered_bytes()


def _requests(source: Source) -> Iterator[_Sample]:
    counters = source.counters
    over = counters.requests.copy()
    for (subject, code), count in over.items():
        yield "requests", (_text(subject), CODE_NAMES[code]), count
        if subject:
            yield "requests_open", (_text(subject),), 0
    for subject in _running(source, counters):
        yield "requests_open", (_text(subject),), 1


def _running(source: Source, counters: Counters) -> Iterator[bytes]:
    """Return the subject of each request that is not over; b"" for one that is not known."""
    if isinstance(source, Worker):
        for core in source.cores():
            yield from core.open_subjects()
    elif _labels(source)[1] == "worker":
        yield from source.open_subjects()
    else:
        yield from map(counters.known, source.open_subjects())


def _traffic(source: Source) -> Iterator[_Sample]:
    counters = source.counters
    for kind, name in enumerate(_KINDS):
        yield "frames", (name, "received"), counters.frames_received[kind]
        yield "frames", (name, "sent"), counters.frames_sent[kind]
        yield "frame_bytes", (name, "received"), counters.octets_received[kind]
        yield "frame_bytes", (name, "sent"), counters.octets_sent[kind]
    yield "window_blocked_seconds", ("stream",), counters.stream_blocked
    yield "window_blocked_seconds", ("connection",), counters.connection_blocked
    for core in source.cores() if isinstance(source, Worker | Client) else ():
        streams, connection = core.blocked_seconds
        yield "frames", (_KINDS[core.sends], "sent"), core.frames_sent
        yield "window_blocked_seconds", ("stream",), streams
        yield "window_blocked_seconds", ("connection",), connection


def _handlers(source: Source) -> Iterator[_Sample]:
    if isinstance(source, Worker):
        statistics = source.statistics
        yield "handlers_active", (), statistics.active
        yield "handlers_peak", (), statistics.peak
        yield "handlers_opened", (), statistics.opened
        yield "handlers_cancelled", (), statistics.cancelled


def _text(subject: bytes) -> str:
    return subject.decode(errors="replace")
