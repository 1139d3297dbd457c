"""The transports that the driver offers, and how each makes its client (section 19.4).

Rules of this file: a transport is an entry of `TRANSPORTS`, and what it lacks is not in its
features.  One whose library is not installed is not offered.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from muxwire.core.config import Config
from muxwire.core.events import Idle
from muxwire.core.settings import Settings
from muxwire.tcp.caller import Caller
from muxwire.tcp.client import Client
from muxwire.tcp.link import Milestone


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The members of `connect`, with `addrs` filled in."""

    addrs: tuple[str, ...]
    transport: str
    listen: str
    format: str
    http2: bool
    connections: int
    settings: Mapping[str, int]
    connect_timeout_ms: int
    backoff_base_ms: int
    backoff_cap_ms: int
    wait_ms: int
    heartbeat_ms: int
    min_silence_ms: int

    @property
    def config(self) -> Config:
        """The options of each connection."""
        return Config(
            settings=Settings.recommended(**self.settings),
            connect_timeout=self.connect_timeout_ms / 1000,
            handshake_timeout=max(1.0, self.connect_timeout_ms / 1000),
        )

    @property
    def backoff(self) -> tuple[float, float]:
        """Base and cap of the delays between dials, seconds."""
        return self.backoff_base_ms / 1000, self.backoff_cap_ms / 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ears:
    """Who hears what a client has to tell beside the events of its requests."""

    on_listening: Callable[[str], None]
    on_connection: Callable[[int, str, Milestone | Idle], None]
    on_written: Callable[[], None]


Start = Callable[[Wish, Ears], Awaitable[Caller]]
"""Makes a client that takes requests.

Raises:
    InvalidArgument: what is wished is not allowed.
    ConnectError: it cannot be had.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transport:
    """A path, the features of the driver on it, and the modules that it needs."""

    start: Start
    features: tuple[str, ...]
    needs: tuple[str, ...] = ()


async def _tcp(wish: Wish, ears: Ears) -> Caller:
    client = Client(
        wish.addrs,
        wish.config,
        wish.connections,
        recover=True,
        wait=wish.wait_ms / 1000,
        pipeline=True,
        backoff=wish.backoff,
        observer=ears.on_connection,
        on_written=ears.on_written,
    )
    client.dial()
    return client


async def _callhome(wish: Wish, ears: Ears) -> Caller:
    from muxwire.callhome.client import Client as Router  # it needs aiohttp

    router = Router(
        tuple(f"http://{address}" for address in wish.addrs),
        wish.config,
        recover=True,
        wait=wish.wait_ms / 1000,
        idle_timeout_ms=wish.settings.get("idle_timeout_ms", 0),
        backoff=wish.backoff,
        observer=ears.on_connection,
    )
    await router.start(wish.listen)
    ears.on_listening(router.home)
    return router


async def _http(wish: Wish, ears: Ears) -> Caller:  # noqa: ARG001 - it has nothing to tell
    from muxwire.http.client import Client as HttpClient  # it needs aiohttp and h2

    return HttpClient(
        tuple(f"http://{address}" for address in wish.addrs),
        Config(connect_timeout=wish.connect_timeout_ms / 1000),
        recover=True,
        wait=wish.wait_ms / 1000,
        format=wish.format,
        http2=wish.http2,
        heartbeat_ms=wish.heartbeat_ms,
        min_silence=wish.min_silence_ms / 1000,
        backoff=wish.backoff,
    )


_EVERYWHERE = ("retry", "connections", "timing", "headers", "pause", "close")

TRANSPORTS: Mapping[str, Transport] = {
    "tcp": Transport(start=_tcp, features=(*_EVERYWHERE, "settings", "sent", "pipelining", "bidi")),
    "callhome": Transport(start=_callhome, features=(*_EVERYWHERE, "settings"), needs=("aiohttp",)),
    "http": Transport(
        start=_http,
        features=(*_EVERYWHERE, "sse", "ndjson", "binary", "http2"),
        needs=("aiohttp", "h2"),
    ),
}
"""Every transport that this client has."""


def offered() -> Mapping[str, Transport]:
    """Return the transports that can be used as things are installed."""
    return {name: it for name, it in TRANSPORTS.items() if all(map(find_spec, it.needs))}
