"""The metrics of the pool (P0-015)."""

from __future__ import annotations

from callhome_harness import home
from io_harness import until
from muxwire.callhome.metrics import PoolCollector
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
