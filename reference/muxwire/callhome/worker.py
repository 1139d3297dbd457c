"""The worker's side of the call-home path.

Rules of this file: it adds a path to a `muxwire.Worker` and shares its handlers, its statistics and
its limits.  HTTP brings requests, the pool brings connections, a delivery brings the two together.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from muxwire import conformance_subjects
from muxwire._generated import http
from muxwire.callhome.acceptor import Acceptor
from muxwire.callhome.delivery import Delivery
from muxwire.callhome.descriptors import for_http, for_pool
from muxwire.callhome.dialled import Dialled, dial
from muxwire.callhome.endpoint import Posted, server
from muxwire.callhome.fields import Address, address
from muxwire.callhome.pool import Pool, PoolConfig, TargetStatistics
from muxwire.core.callhome import WorkerStream
from muxwire.core.callhome.connection import check_idle_timeout
from muxwire.core.counters import Counters
from muxwire.errors import InvalidArgument
from muxwire.handlers import Handler, encode_text
from muxwire.tcp.address import render
from muxwire.tcp.runner import Runner, Running
from muxwire.tcp.worker import Worker

ROOT = "/v1/rpc"
ROOT_VARIABLE = "DYN_HTTP_RPC_ROOT_PATH"

_HTTP_CLOSE = 0.05
"""Seconds that a POST which is half read may still take once the worker closes; 0 is for ever."""

_STATS = conformance_subjects.STATS


class CallHomePath:
    """Serves the handlers of a worker over HTTP, and delivers their responses by calling home.

    Use `start`; the worker's `drain` and `close` end it.  It needs the extra `callhome`.

    Args:
        worker: Whose handlers are served.
        pool: Limits and times of the connections; from the environment by default.
        allow: Addresses that may be dialled besides that of the HTTP peer (P0-016).
        root: The path in front of the subject; from the environment by default.
        idle_timeout_ms: What is announced on the connections; the worker's own by default.

    Raises:
        InvalidArgument: an address, the root or a number is not what it has to be.
    """

    name = "callhome"

    def __init__(
        self,
        worker: Worker,
        *,
        pool: PoolConfig | None = None,
        allow: Iterable[str] = (),
        root: str | None = None,
        idle_timeout_ms: int | None = None,
    ) -> None:
        own = worker.config.settings.idle_timeout_ms
        self._idle_timeout_ms = own if idle_timeout_ms is None else idle_timeout_ms
        check_idle_timeout(self._idle_timeout_ms)
        self.config = worker.config
        self.counters = Counters()
        self.draining = False
        self._worker = worker
        chosen = pool or PoolConfig.from_environment(os.environ)
        self._pool_config = replace(
            chosen,
            probe_after=0.0,  # P0-010: before every use
            max_total=min(chosen.max_total, for_pool()),
        )
        self._http_limit = for_http()
        self._allow = frozenset(address(host) for host in allow)
        self._root = _root(os.environ.get(ROOT_VARIABLE, ROOT) if root is None else root)
        self._places: set[bytes] = set()  # ids of requests that are not over
        self._deliveries: dict[Running, Delivery] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._acceptor: Acceptor | None = None
        self._dialled: set[Dialled] = set()

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen for HTTP; port 0 takes a free port, see `addresses`.

        Raises:
            OSError: the address cannot be listened on.
        """
        self.pool: Pool[Dialled] = Pool(self._dial, self._pool_config)
        self._runner = Runner(self._worker.tasks, self._ended, lambda: None)
        self._http = server(self, self._root)
        self._acceptor = Acceptor(self._http)
        await self._acceptor.listen(host, port)
        self._worker.paths.append(self)

    @property
    def addresses(self) -> list[str]:
        """The addresses listened on, as `host:port`."""
        return [] if self._acceptor is None else [render(*name) for name in self._acceptor.names]

    @property
    def port(self) -> int:
        """The port listened on."""
        names = [] if self._acceptor is None else self._acceptor.names
        return names[0][1] if names else 0

    async def drain(self, grace: float) -> None:
        """Answer DRAINING, let what runs end within `grace` seconds, close (P0-020)."""
        self.draining = True
        self.pool.resize(min_idle=0)
        self._evict()
        if not await self._over_within(grace):
            for delivery in [*self._deliveries.values()]:
                delivery.shut_down()
            await self._over_within(self.config.linger)
        if self._acceptor is not None:
            self._acceptor.close()
        self._http.pre_shutdown()  # what is idle
        await self._http.shutdown(_HTTP_CLOSE)
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.pool.drain(0.0)

    async def _over_within(self, seconds: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        return not self._tasks

    def _evict(self) -> None:
        for target in self.pool.statistics():
            self.pool.evict(target)

    # -- what the endpoint asks

    def handler(self, subject: str) -> Handler | None:
        """Return the handler of a subject."""
        return self._worker.subjects.get(encode_text(subject))

    def allows(self, host: Address, peer: str) -> bool:
        """Tell whether a host may be dialled for this HTTP peer (P0-016)."""
        try:
            return host in self._allow or host == address(peer.partition("%")[0])
        except InvalidArgument:
            return False

    @property
    def crowded(self) -> bool:
        """Whether there are so many HTTP connections that none is kept after its answer."""
        return len(self._http.connections) > self._http_limit

    def enter(self, stream: bytes) -> http.Answer | None:
        """Take a place for a stream, or say why there is none (P0-017, ADM-002)."""
        if stream in self._places:
            return http.DUPLICATE
        most = self.config.settings.max_concurrent_requests
        if self._worker.posted >= most or self._worker.statistics.full:
            return http.OVERLOADED
        self._places.add(stream)
        self._worker.posted += 1
        return None

    def refused(self, code: int) -> None:
        """Count a request that no handler has seen."""
        self.counters.request_ended(b"", code)

    def leave(self, stream: bytes) -> None:
        """Give back the place of a stream."""
        self._places.remove(stream)
        self._worker.posted -= 1

    def admit(self, posted: Posted) -> None:
        """Run the handler and deliver its response."""
        loop = asyncio.get_running_loop()
        fields = posted.fields
        stream = WorkerStream(
            fields.stream,
            fields.token,
            self.config,
            loop.time(),
            timeout_ms=fields.timeout_ms,
            statistics=None if posted.subject == _STATS else self._worker.statistics,
        )
        delivery = Delivery(
            stream, fields, posted.subject, posted.body, posted.handler, self.pool, self._over
        )
        self._deliveries[delivery.running] = delivery
        self._worker.running_handlers += 1
        self._runner.start(delivery.running)
        task = loop.create_task(delivery.deliver())
        self._tasks.add(task)
        task.add_done_callback(self._delivered)

    # -- what happens

    async def _dial(self, target: str, on_lost: Callable[[Dialled], None]) -> Dialled:
        def lost(dialled: Dialled) -> None:
            self._dialled.discard(dialled)
            on_lost(dialled)

        dialled = await dial(
            target,
            lost,
            keepalive=self._pool_config.keepalive,
            idle_timeout_ms=self._idle_timeout_ms,
            counters=self.counters,
        )
        if dialled.usable:  # else its end has been told already
            self._dialled.add(dialled)
        return dialled

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self.draining:
            self._evict()

    def _ended(self, running: Running) -> None:
        self._worker.running_handlers -= 1
        self._deliveries[running].handler_ended()

    def _over(self, delivery: Delivery) -> None:
        del self._deliveries[delivery.running]
        self.counters.request_ended(delivery.subject, delivery.stream.code)
        self.leave(delivery.stream.request_id)

    def pool_statistics(self) -> dict[str, TargetStatistics]:
        """Return what the pool has counted, by address of a router; nothing before the start."""
        return {} if self._acceptor is None else self.pool.statistics()

    # -- what the metrics ask, from whatever thread

    role = "worker"

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that it runs in."""
        return self._worker.loop

    @property
    def connections_open(self) -> int:
        """Call-home connections that are open, idle ones included."""
        return len(self._dialled)

    def open_subjects(self) -> list[bytes]:
        """Return the subject of each request that is not over."""
        return [one.subject for one in [*self._deliveries.values()]]

    # -- what the conformance subjects ask

    def connections(self) -> int:
        """Return the number of open call-home connections, idle ones included."""
        return len(self._dialled)

    def buffered_bytes(self) -> int:
        """Return the cost of output that waits, and octets of queued control frames."""
        output = sum(one.stream.queue.buffered for one in self._deliveries.values())
        return output + sum(one.core.buffered_bytes for one in self._dialled)


def _root(text: str) -> str:
    root = "/" + text.strip("/")
    if root == "/" or "//" in root or any(ord(one) <= 32 or one in "?#" for one in root):
        raise InvalidArgument(f"{ROOT_VARIABLE}: {text!r} is not a path such as {ROOT}")
    return root
