"""What the metrics say after traffic that is known (OBS-004)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncGenerator

import muxwire
import pytest
from io_harness import (
    LIMIT,
    Peer,
    Served,
    connect_once,
    connected,
    drained,
    lines,
    never,
    until,
)
from muxwire import Request, metrics
from muxwire._generated import codec
from muxwire.handlers import Handler
from muxwire.metrics import Collector
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

each = pytest.mark.usefixtures("each_loop")


async def echo(request: Request) -> AsyncGenerator[bytes, None]:
    async for message in request:
        yield message


async def forever(_: Request) -> None:
    await never()


async def fail(_: Request) -> None:
    raise muxwire.HandlerError("no", code=0x9000_0001)


async def pair(_: Request) -> AsyncGenerator[bytes, None]:
    yield bytes(60_000)
    yield bytes(60_000)


HANDLERS: dict[str, Handler] = {"echo": echo, "forever": forever, "fail": fail, "pair": pair}


class Reading:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        self.samples = [
            sample
            for family in text_string_to_metric_families(text)
            if family.name.startswith("muxwire_")
            for sample in family.samples
        ]

    @classmethod
    def of(cls, *sources: metrics.Source) -> Reading:
        registry = CollectorRegistry()
        registry.register(Collector(*sources))
        return cls(generate_latest(registry).decode())

    def __call__(self, name: str, role: str = "worker", **labels: str) -> float:
        """Return the sum of the samples that have these labels."""
        wanted = {**labels, "role": role}.items()
        found = [
            sample.value
            for sample in self.samples
            if sample.name == f"muxwire_{name}" and wanted <= sample.labels.items()
        ]
        return sum(found)

    def values(self, name: str, label: str, role: str = "worker") -> dict[str, float]:
        """Return the values by one label."""
        return {
            sample.labels[label]: sample.value
            for sample in self.samples
            if sample.name == f"muxwire_{name}" and sample.labels["role"] == role
        }


@each
async def test_values_after_known_traffic() -> None:
    async with connected(HANDLERS) as (client, worker):
        for _ in range(3):
            await client.call("echo", b"hi")
        with pytest.raises(muxwire.ApplicationError):
            await client.call("fail", b"")
        with pytest.raises(muxwire.NotFound):
            await client.call("made.up", b"")
        stream = client.stream("forever", b"")
        await until(lambda: worker.running_handlers)
        read = Reading.of(worker, client)

        assert {sample.labels["path"] for sample in read.samples} == {"tcp"}
        for role in ("worker", "client"):
            assert read("connections_open", role) == 1
            assert read("connections_total", role) == 1
            assert read("connections_accepted_total", role) == 1
            assert read("connections_refused_total", role) == 0
            assert read("handshake_failures_total", role) == 0
            assert read("glitches_total", role) == 0
            assert read("goaways_total", role) == 0
            assert read("requests_total", role, subject="echo", code="OK") == 3
            assert read("requests_total", role, subject="fail", code="APPLICATION") == 1
            assert read("requests_total", role, subject="", code="NOT_FOUND") == 1
            assert read("requests_total", role) == 5
            assert read("requests_open", role) == 1
        assert read("requests_open", subject="forever") == 1
        assert read("requests_open", "client", subject="") == 1  # no answer yet: not known
        assert read("requests_open", subject="echo") == 0
        assert read("connections_pending") == 0
        assert read("handlers_active") == 1
        assert read("handlers_peak") == 1
        assert read("handlers_opened_total") == 5
        assert read("handlers_cancelled_total") == 0

        stream.kill()
        _, error = await drained(stream)
        assert isinstance(error, muxwire.RequestCancelled)
        await until(lambda: not worker.running_handlers)
        read = Reading.of(worker, client)
        assert read("requests_total", subject="forever", code="CANCELLED") == 1
        assert read("handlers_cancelled_total") == 1
        assert read("requests_open", "worker") == read("requests_open", "client") == 0


@each
async def test_frames_and_octets_agree_on_both_sides() -> None:
    async with connected(HANDLERS) as (client, worker):
        for size in (0, 1, 100_000, 1_000_000):
            assert len(await client.call("echo", bytes(size))) == size
        stream = client.stream("echo", b"1", end=False)
        assert await anext(stream) == b"1"
        await until(lambda: not client.buffered_bytes and not worker.buffered_bytes())
        read = Reading.of(worker, client)
        for name in ("frames_total", "frame_bytes_total"):
            for one, other in (("worker", "client"), ("client", "worker")):
                for kind in map(str.lower, codec.KIND_NAMES):
                    sent = read(name, one, kind=kind, direction="sent")
                    assert sent == read(name, other, kind=kind, direction="received"), kind
        assert read("frames_total", kind="request", direction="received") >= 5 + 16
        octets = read("frame_bytes_total", kind="response", direction="sent")
        frames = read("frames_total", kind="response", direction="sent")
        assert octets == 32 * frames + 1 + 1 + 100_000 + 1_000_000
        assert read("frames_total", kind="window_update", direction="sent") > 0
        stream.end()
        assert await drained(stream) == ([], None)


@each
async def test_ends_of_connections() -> None:
    async with muxwire.Worker(HANDLERS, max_connections=1) as worker:
        address = worker.addresses[0]
        async with connect_once(address) as client:
            with pytest.raises(muxwire.ConnectionRefused):
                await connect_once(address)
            async with await Peer.dial(address) as stranger:
                await stranger.send(b"GET / HTTP/1.1\r\n\r\n")
                assert await stranger.rest() == b""
            read = Reading.of(worker, client)
            assert read("connections_open") == 1
            assert read("connections_total") == 3
            assert read("connections_accepted_total") == 1
            assert read("connections_refused_total") == 1
            assert read("handshake_failures_total", reason="limit") == 1
            assert read("handshake_failures_total", reason="not_wmx") == 1
            assert read("handshake_failures_total") == 2
            assert read("goaways_total", code="CONNECTION_LIMIT", direction="sent") == 1
        await until(lambda: not worker.connections())
        read = Reading.of(worker, client)
        assert read("goaways_total", code="NO_ERROR", direction="received") == 1
        assert read("goaways_total", "client", code="NO_ERROR", direction="sent") == 1
        assert read("connections_open", "worker") == read("connections_open", "client") == 0
        async with await Peer.dial(address) as peer:
            await peer.greet(bytes(32))
            await peer.frames((3, 6))
        read = Reading.of(worker)
        assert read("goaways_total", code="PROTOCOL_ERROR", direction="sent") == 1


@each
async def test_a_client_that_finds_nobody_says_so() -> None:
    async with muxwire.Worker({}) as worker:
        address = worker.addresses[0]
        client = await muxwire.connect(address, connections=1)
    await until(lambda: client.counters.failures["dial"])
    read = Reading.of(client)
    assert read("handshake_failures_total", "client", reason="dial") >= 1
    assert read("connections_open", "client") == 0
    assert read("connections_pending", "client") == 0
    await client.close()


@each
async def test_windows_and_buffers() -> None:
    small = muxwire.Config(settings=muxwire.Settings.recommended(initial_stream_window=65_536))
    async with connected(HANDLERS, config=small) as (client, worker):
        stream = client.stream("pair", b"")
        await until(lambda: Reading.of(worker)("buffered_bytes") > 50_000)
        await until(lambda: Reading.of(client)("buffered_bytes", "client") > 60_000)
        before = worker.cores()[0].blocked_seconds[0]
        messages, error = await drained(stream)
        assert (list(map(len, messages)), error) == ([60_000, 60_000], None)
        read = Reading.of(worker, client)
        assert read("window_blocked_seconds_total", window="stream") > before >= 0
        assert read("window_blocked_seconds_total", window="connection") == 0
        assert worker.cores()[0].blocked_seconds == (0, 0)


@each
async def test_a_ping_has_a_round_trip() -> None:
    quick = muxwire.Config(settings=muxwire.Settings.recommended(idle_timeout_ms=1_000))
    async with connected(HANDLERS, config=quick) as (client, worker):
        await until(lambda: sum(worker.counters.round_trips))
        read = Reading.of(worker, client)
        assert read("ping_round_trip_seconds_count") == 1
        assert read("ping_round_trip_seconds_bucket", le="+Inf") == 1
        assert 0 <= read("ping_round_trip_seconds_sum") < 1  # uvloop counts milliseconds
        assert read("ping_round_trip_seconds_count", "client") == 0
        assert read("frames_total", kind="ping", direction="sent") == 1
        assert read("frames_total", kind="pong", direction="received") == 1


# -- labels ----------------------------------------------------------------------------------------


@each
async def test_what_peers_choose_adds_no_series() -> None:
    async with connected(HANDLERS) as (client, worker):
        await client.call("echo", b"hi")
        with pytest.raises(muxwire.NotFound):
            await client.call("made.up", b"")
        before = len(Reading.of(worker, client).samples)
        for number in range(30):
            with pytest.raises(muxwire.NotFound):
                await client.call(f"made.up.{number}", b"")
        assert len(Reading.of(worker, client).samples) == before
        # goodbye with numbers of its own
        for code in range(0x3000, 0x3010):
            async with await Peer.dial(worker.addresses[0]) as peer:
                await peer.greet(codec.encode_goaway(code, 0, 0, b""))
                await peer.rest()
        read = Reading.of(worker, client)
        assert read.values("goaways_total", "code")["OTHER"] == 16
        assert len(read.samples) == before + 1


async def test_subjects_that_are_served_are_labels_whatever_they_are_called() -> None:
    names = ["OTHER", "a.b-c_d", "x" * 255]
    async with connected(dict.fromkeys(names, echo)) as (client, worker):
        for name in names:
            await client.call(name, b"")
        read = Reading.of(worker, client)
        assert set(read.values("requests_total", "subject")) == set(names)
        assert set(read.values("requests_total", "subject", "client")) == set(names)


async def test_names_are_as_prometheus_wants_them() -> None:
    async with connected(HANDLERS) as (client, worker):
        families = list(Collector(worker, client).collect())
        for family in families:
            assert family.name.startswith("muxwire_")
            assert family.documentation.endswith(".")
            for sample in family.samples:
                if family.type == "counter":
                    assert sample.name == family.name + "_total"
                assert list(sample.labels)[:2] == ["path", "role"]
        assert [family.name for family in Collector().describe()] == [f.name for f in families]
        registry = CollectorRegistry()
        registry.register(Collector(worker))
        with pytest.raises(ValueError, match="Duplicated"):
            registry.register(Collector(client))


async def test_sources_of_one_role_are_added_up_and_can_leave() -> None:
    async with connected(HANDLERS) as (one, first), connected(HANDLERS) as (two, second):
        await one.call("echo", b"")
        await two.call("echo", b"")
        await two.call("echo", b"")
        collector = Collector(first)
        collector.add(second)
        registry = CollectorRegistry()
        registry.register(collector)
        read = Reading(generate_latest(registry).decode())
        assert read("requests_total", subject="echo", code="OK") == 3
        assert read("connections_open") == 2
        collector.remove(second)
        read = Reading(generate_latest(registry).decode())
        assert read("requests_total", subject="echo", code="OK") == 1


# -- threads ---------------------------------------------------------------------------------------


@each
async def test_another_thread_reads_between_two_steps_of_the_loop() -> None:
    registry = CollectorRegistry()
    async with connected(HANDLERS) as (client, worker):
        registry.register(Collector(worker, client))
        seen: list[float] = []
        stop = threading.Event()

        def scrape() -> None:
            while not stop.is_set():
                read = Reading(generate_latest(registry).decode())
                sent = read("frames_total", kind="response", direction="sent")
                received = read("frame_bytes_total", kind="request", direction="received")
                seen.append(sent + received)

        scraping = asyncio.ensure_future(asyncio.to_thread(scrape))
        while len(seen) < 15 and not scraping.done():
            await asyncio.gather(*(client.call("echo", b"hi") for _ in range(20)))
        stop.set()
        await scraping
        assert seen == sorted(seen)  # no counter goes back


async def test_a_loop_that_is_stuck_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "LOOP_WAIT", 0.05)
    async with connected(HANDLERS) as (client, worker):
        await client.call("echo", b"hi")
        found: list[Reading] = []
        thread = threading.Thread(target=lambda: found.append(Reading.of(worker, client)))
        thread.start()
        thread.join(LIMIT)  # blocks the loop
        assert found[0]("requests_total", subject="echo", code="OK") == 1


def test_a_worker_whose_loop_is_gone_can_still_be_read() -> None:
    worker = muxwire.Worker(HANDLERS)
    assert Reading.of(worker)("connections_total") == 0

    async def serve() -> None:
        async with worker, connect_once(worker.addresses[0]) as client:
            await client.call("echo", b"hi")

    asyncio.run(serve())
    assert Reading.of(worker)("requests_total", subject="echo") == 1


# -- muxwire serve ---------------------------------------------------------------------------------


def scrape(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=LIMIT) as answer:
        assert answer.status == 200
        text: str = answer.read().decode()
        return text


def test_serve_answers_prometheus() -> None:
    with Served("--conformance", "--metrics", "127.0.0.1:0") as served:
        address = served.said["metrics"]
        before = Reading(scrape(address))
        assert before("connections_open") == 0

        async def talk() -> None:
            async with connect_once(served.address) as client:
                for _ in range(4):
                    assert await client.call("conformance.echo", b"hi") == b"hi"
                text = await asyncio.to_thread(scrape, address)
                read = Reading(text)
                assert read("connections_open") == 1
                assert read("requests_total", subject="conformance.echo", code="OK") == 4
                assert "process_resident_memory_bytes" in text
                assert "python_info" in text

        asyncio.run(talk())


def command(*arguments: str, program: str = "") -> subprocess.CompletedProcess[str]:
    start = [sys.executable, "-c", program] if program else [sys.executable, "-m", "muxwire"]
    return subprocess.run(
        [*start, *arguments], capture_output=True, text=True, timeout=LIMIT, check=False
    )


def test_without_the_extra_serve_says_so_in_one_line() -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from muxwire.cli import main\n"
        "main()\n"
    )
    ran = command("serve", "--tcp", "127.0.0.1:0", "--metrics", "127.0.0.1:0", program=program)
    assert ran.returncode == 2
    assert ran.stdout == ""
    (line,) = [line for line in ran.stderr.splitlines() if "NOT_FOUND" not in line]
    assert line == "Error: --metrics needs prometheus-client: pip install 'muxwire[metrics]'"


def test_an_address_that_is_taken_is_one_clear_line() -> None:
    with Served("--conformance", "--metrics", "127.0.0.1:0") as served:
        ran = command("serve", "--conformance", "--metrics", served.said["metrics"])
        assert ran.returncode == 1
        assert "cannot listen on" in ran.stderr
        assert "Traceback" not in ran.stderr


def test_the_text_names_both_addresses() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "muxwire", "serve", "--conformance", "--tcp", "127.0.0.1:0",
         "--metrics", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        listening, line = lines(process, 2)
        assert listening.startswith("listening on 127.0.0.1:")
        assert line.startswith("metrics on http://127.0.0.1:")
        scrape(line.split("/")[2])
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT)
