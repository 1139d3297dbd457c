"""The client of the HTTP path: POSTs requests and reads their responses as they are streamed.

Rules of this file: which worker takes a request, and whether another attempt follows, is decided
elsewhere; here is how a client is made and closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial

import aiohttp

from muxwire._generated.registries import (
    BACKOFF_BASE_MS,
    BACKOFF_CAP_MS,
    HTTP_HEARTBEAT_MS,
    HTTP_MAX_HEARTBEAT_MS,
    HTTP_MIN_HEARTBEAT_MS,
    HTTP_MIN_SILENCE_MS,
)
from muxwire.core.config import Config
from muxwire.core.recovery import Backoff
from muxwire.errors import InvalidArgument
from muxwire.http.http1 import Http1, open_session
from muxwire.http.negotiation import SSE, check_format
from muxwire.http.target import ROOT, Habits, Target, Way
from muxwire.tcp.caller import CLOSE_WAIT
from muxwire.tcp.posting import PostingCaller, prefix


def connect(
    *targets: str,
    format: str = SSE,
    http2: bool = False,
    config: Config | None = None,
    recover: bool = True,
    wait: float = 10.0,
    heartbeat_ms: int = HTTP_HEARTBEAT_MS,
) -> Connecting:
    """Send requests to the workers at `http://host:port`.

    Use the result with `async with`, or await it and close the client yourself::

        async with muxwire.http.connect("http://127.0.0.1:8082") as client:
            reply = await client.call("conformance.echo", b"hi")

    Args:
        targets: HTTP addresses of workers that serve the same subjects; a path is the root.
        format: "sse", "ndjson" or "binary"; response headers travel in the last one only.
        http2: Speak HTTP/2 with prior knowledge, many requests on a connection.
        config: `connect_timeout` bounds a connection, and `max_message_size` of its settings an
            item; the rest does not concern this path.
        recover: Retry requests where that is safe.
        wait: Seconds that a request may wait for a worker that can be reached (REC-005).
        heartbeat_ms: How often a worker that has nothing to say gives a sign of life.

    Raises (when awaited or entered):
        InvalidArgument: a target is none, or another argument is out of range.
    """
    return Connecting(
        lambda: Client(
            targets,
            config or Config(),
            recover,
            wait,
            format=format,
            http2=http2,
            heartbeat_ms=heartbeat_ms,
        )
    )


class Connecting:
    """A client in the making: await it, or enter it."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._client: Client | None = None

    def __await__(self) -> Generator[None, None, Client]:
        yield from ()
        return self._make()

    async def __aenter__(self) -> Client:
        self._client = self._make()
        return self._client

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._client is not None:
            await self._client.close(0.0 if kind else CLOSE_WAIT)


class Client(PostingCaller):
    """A client of one or several workers.  Make it with `connect`.

    There is no STOP on this path: `Stream.stop` is an error, `Stream.kill` ends a request.

    Args:
        targets: As for `connect`, like all that follow but the last two.
        config: Times and sizes.
        recover: Retry.
        wait: Seconds that a request may wait.
        format: The format that is asked for.
        http2: Speak HTTP/2.
        heartbeat_ms: The longest silence that is asked for.
        min_silence: Least seconds of silence after which a response is lost (P1-021).
        backoff: Base and cap of the rest of a worker that cannot be reached, seconds.  Other
            values than these two have by default are for tests (REC-004).

    Raises:
        InvalidArgument: an argument is out of range.
    """

    can_stop = False
    _targets: list[Target]

    def __init__(
        self,
        targets: tuple[str, ...],
        config: Config,
        recover: bool = True,
        wait: float = 10.0,
        *,
        format: str = SSE,
        http2: bool = False,
        heartbeat_ms: int = HTTP_HEARTBEAT_MS,
        min_silence: float = HTTP_MIN_SILENCE_MS / 1000,
        backoff: tuple[float, float] = (BACKOFF_BASE_MS / 1000, BACKOFF_CAP_MS / 1000),
    ) -> None:
        if not targets:
            raise InvalidArgument("connect wants at least one target")
        if not HTTP_MIN_HEARTBEAT_MS <= heartbeat_ms <= HTTP_MAX_HEARTBEAT_MS:
            raise InvalidArgument(
                f"heartbeat_ms is outside {HTTP_MIN_HEARTBEAT_MS} to {HTTP_MAX_HEARTBEAT_MS}"
            )
        for target in targets:
            prefix(target, ROOT)
        super().__init__(recover, wait)
        habits = Habits(
            check_format(format), heartbeat_ms, wait, min_silence, config.settings.max_message_size
        )
        self._one_over: asyncio.Future[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        way = self._over_http2(config) if http2 else self._over_http1(config)
        self._targets = [
            Target(
                target,
                way,
                habits,
                Backoff(self.uniform, *backoff),
                self.fresh_id,
                self._on_over,
            )
            for target in targets
        ]

    def _over_http2(self, config: Config) -> Callable[[Target], Way]:
        from muxwire.http.http2 import Http2  # it needs h2

        return partial(Http2, config.connect_timeout)

    def _over_http1(self, config: Config) -> Callable[[Target], Way]:
        self._session = open_session(config.connect_timeout)
        return partial(Http1, self._session)

    async def close(self, wait: float | None = CLOSE_WAIT) -> None:
        """Open nothing more, give running requests `wait` seconds, close.

        None waits as long as they take.
        """
        self.stop_waiting()
        try:
            if wait is None or wait > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        while any(target.open_requests for target in self._targets):
                            self._one_over = self._loop.create_future()
                            await self._one_over
        finally:
            for target in self._targets:
                target.kill_all()
            await asyncio.gather(*(target.close() for target in self._targets))
            if self._session is not None:
                await self._session.close()

    def _on_over(self) -> None:
        if self._one_over is not None and not self._one_over.done():
            self._one_over.set_result(None)
