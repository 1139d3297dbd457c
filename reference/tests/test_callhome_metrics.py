"""The metrics of call-home: of its pool (P0-015), and what it counts as every path (OBS-004)."""

from __future__ import annotations

import asyncio

import muxwire
import pytest
from callhome_core import PREFACE
from callhome_harness import answered, home, serving
from io_harness import Peer, drained, until
from muxwire._generated import codec
from muxwire.callhome.metrics import PoolCollector
from muxwire.metrics import Collector
from prometheus_client import CollectorRegistry, generate_latest


async def test_what_prometheus_reads() -> None:
    registry = CollectorRegistry()
    async with home(conformance=True) as (client, path, _):
        registry.register(PoolCollector(path.pool_statistics))
        for _ in range(3):
            await client.call("conformance.echo", b"x")
        await until(lambda: path.pool_statistics()[client.home].idle == 1)
        text = generate_latest(registry).decode()
        label = f'{{target="{client.home}"}}'
        for line in (
            f"tcp_pool_connections_created_total{label} 1.0",
            f"tcp_pool_connections_reused_total{label} 2.0",
            f"tcp_pool_idle_connections{label} 1.0",
            f"tcp_pool_active_connections{label} 0.0",
            f"tcp_pool_validation_failures_total{label} 0.0",
            f"tcp_pool_acquisition_latency_seconds_count{label} 3.0",
            f'tcp_pool_closed_total{{reason="lost",target="{client.home}"}} 0.0',
        ):
            assert line in text


def samples(*sources: object) -> dict[str, float]:
    """Return what a collector says of call-home that is not 0, as `name{labels}`."""
    text = generate_latest(_registry(*sources)).decode()
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    found = {name.replace('path="callhome",', ""): float(value) for name, value in pairs}
    return {name: value for name, value in found.items() if value and "_created" not in name}


def _registry(*sources: object) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Collector(*sources))  # type: ignore[arg-type]
    return registry


def counted(found: dict[str, float], name: str, role: str, **labels: str) -> float:
    rest = "".join(f',{key}="{value}"' for key, value in labels.items())
    ordered = sorted(f'role="{role}"{rest}'.split(","))
    for key, value in found.items():
        base, _, inside = key.partition("{")
        if base == f"muxwire_{name}" and sorted(inside.rstrip("}").split(",")) == ordered:
            return value
    return 0.0


async def test_requests_frames_and_connections_are_counted() -> None:  # OBS-004
    async with home(conformance=True) as (client, path, worker):
        for _ in range(3):
            assert await client.call("conformance.echo", b"x" * 100) == b"x" * 100
        with pytest.raises(muxwire.NotFound):
            await client.call("nobody", b"")
        with pytest.raises(muxwire.ApplicationError):
            await client.call("conformance.fail", b"{}")
        sleeping = asyncio.create_task(client.call("conformance.sleep", b'{"ms": 60000}'))
        await until(lambda: worker.statistics.active)
        await until(lambda: path.pool_statistics()[client.home].active == 1)
        found = samples(client, path)
        for role in ("client", "worker"):
            assert counted(found, "connections_total", role) == 1
            assert counted(found, "connections_accepted_total", role) == 1
            assert counted(found, "connections_open", role) == 1
            echo = {"subject": "conformance.echo", "code": "OK"}
            assert counted(found, "requests_total", role, **echo) == 3
            unknown = {"subject": "", "code": "NOT_FOUND"}
            assert counted(found, "requests_total", role, **unknown) == 1
        failed = {"subject": "conformance.fail", "code": "APPLICATION_ERROR"}
        assert counted(found, "requests_total", "worker", **failed) == 1
        assert counted(found, "requests_open", "worker", subject="conformance.sleep") == 1
        for kind, sender, receiver, number in (
            ("response", "worker", "client", 4),
            ("hello", "worker", "client", 5),
            ("accept", "client", "worker", 5),
            ("done", "client", "worker", 4),
        ):
            await until(
                lambda kind=kind, role=receiver, number=number: (
                    counted(
                        samples(client, path), "frames_total", role, kind=kind, direction="received"
                    )
                    == number
                )
            )
            found = samples(client, path)
            for name in ("frames_total", "frame_bytes_total"):
                sent = counted(found, name, sender, kind=kind, direction="sent")
                got = counted(found, name, receiver, kind=kind, direction="received")
                assert sent == got >= number
        sleeping.cancel()
        await asyncio.gather(sleeping, return_exceptions=True)
        killed = {"subject": "conformance.sleep", "code": "CANCELLED"}
        await until(lambda: counted(samples(path), "requests_total", "worker", **killed) == 1)
        assert counted(samples(path), "requests_open", "worker", subject="conformance.sleep") == 0


async def test_a_stream_that_is_lost_is_counted_as_lost() -> None:
    async with serving(conformance=True) as (path, _):
        client = await muxwire.callhome.connect(f"http://{path.addresses[0]}", recover=False)
        stream = client.stream("conformance.generate", b'{"count": 100000, "interval_ms": 5}')
        await anext(stream)
        await client.close(0.0)
        await drained(stream)
        lost = {"subject": "conformance.generate", "code": "LOST"}
        await until(lambda: counted(samples(path), "requests_total", "worker", **lost) == 1)


async def test_handshakes_that_fail_and_frames_without_a_use() -> None:
    async with answered() as (client, _):
        async with await Peer.dial(client.home) as peer:
            await peer.send(b"GET / HTTP/1.1")
            assert await peer.rest() == b""
        failed = {"reason": "protocol"}
        name = "handshake_failures_total"
        assert counted(samples(client), name, "client", **failed) == 1
        async with await Peer.dial(client.home) as peer:
            unasked = bytes([0xF7, 4, 0, 2]) + bytes(11) + b"\x08" + bytes(16) + b"\0" * 7 + b"\1"
            await peer.send(PREFACE + unasked + codec.encode_ping(bytes(8)))
            await peer.read(16 + 40)  # the preface and the PONG
            assert counted(samples(client), "glitches_total", "client") == 1
    with pytest.raises(muxwire.ConnectError):
        await muxwire.callhome.connect("http://127.0.0.1:1", listen="192.0.2.1:0")
