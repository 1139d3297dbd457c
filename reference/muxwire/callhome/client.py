"""The client of the call-home path: POSTs requests and listens for their responses.

Rules of this file: which worker takes a request, and whether another attempt follows, is decided
elsewhere.  A response is known by the id of its stream, whatever connection brings it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import suppress

from muxwire._generated.registries import BACKOFF_BASE_MS, BACKOFF_CAP_MS, ErrorCode
from muxwire.callhome.fields import address
from muxwire.callhome.journey import Journey, Target
from muxwire.callhome.listener import Listener, Observer
from muxwire.callhome.post import open_session
from muxwire.core.callhome.connection import check_idle_timeout
from muxwire.core.config import Config
from muxwire.core.events import Event
from muxwire.errors import (
    ConnectError,
    InvalidArgument,
)
from muxwire.tcp.address import explain, parse, render
from muxwire.tcp.caller import CLOSE_WAIT
from muxwire.tcp.posting import PostingCaller


def connect(
    *targets: str,
    listen: str = "127.0.0.1:0",
    advertise: str | None = None,
    config: Config | None = None,
    recover: bool = True,
    wait: float = 10.0,
    idle_timeout_ms: int = 0,
) -> Connecting:
    """Listen for responses, and send requests to the workers at `http://host:port`.

    Use the result with `async with`, or await it and close the client yourself::

        async with muxwire.callhome.connect("http://127.0.0.1:8080") as client:
            reply = await client.call("conformance.echo", b"hi")

    Args:
        targets: HTTP addresses of workers that serve the same subjects; a path is the root.
        listen: Where workers call home; port 0 takes a free port.
        advertise: The address that workers are told; by default the one listened on.  A port that
            is missing or 0 is the one listened on.
        config: `connect_timeout` bounds a connection for HTTP; the rest does not concern this path.
        recover: Retry requests where that is safe.
        wait: Seconds that a request may wait for a worker that can be reached (REC-005).
        idle_timeout_ms: What is announced to workers; 0 stands for 60,000 (P0-014).

    Raises (when awaited or entered):
        InvalidArgument: a target or an address is none, or a number is out of range.
        ConnectError: `listen` cannot be listened on.
    """
    return Connecting(
        lambda: Client(targets, config or Config(), recover, wait, idle_timeout_ms),
        listen,
        advertise,
    )


class Connecting:
    """A client in the making: await it, or enter it."""

    def __init__(self, make: Callable[[], Client], listen: str, advertise: str | None) -> None:
        self._make = make
        self._listen = listen
        self._advertise = advertise
        self._client: Client | None = None

    def __await__(self) -> Generator[None, None, Client]:
        return self._make().start(self._listen, self._advertise).__await__()

    async def __aenter__(self) -> Client:
        self._client = await self
        return self._client

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._client is not None:
            await self._client.close(0.0 if kind else CLOSE_WAIT)


class Client(PostingCaller):
    """A client of one or several workers.  Make it with `connect`.

    Args:
        targets: As for `connect`, like the next four.
        config: Times.
        recover: Retry.
        wait: Seconds that a request may wait.
        idle_timeout_ms: What is announced.
        backoff: Base and cap of the rest of a worker that cannot be reached, seconds.  Other
            values than these are for tests (REC-004).
        observer: Hears what happens to each connection of a worker.

    Raises:
        InvalidArgument: a target is none, or a number is out of range.
    """

    _targets: list[Target]

    def __init__(
        self,
        targets: tuple[str, ...],
        config: Config,
        recover: bool = True,
        wait: float = 10.0,
        idle_timeout_ms: int = 0,
        *,
        backoff: tuple[float, float] = (BACKOFF_BASE_MS / 1000, BACKOFF_CAP_MS / 1000),
        observer: Observer | None = None,
    ) -> None:
        if not targets:
            raise InvalidArgument("connect wants at least one target")
        check_idle_timeout(idle_timeout_ms)
        super().__init__(recover, wait)
        self.home = ""
        self.journeys: dict[bytes, Journey] = {}
        self.backoff = backoff
        self._targets = [Target(self, target) for target in targets]
        self.listener = Listener(self._on_event, self.counters, idle_timeout_ms, observer)
        self.session = open_session(config.connect_timeout)

    async def start(self, listen: str, advertise: str | None = None) -> Client:
        """Listen for responses.

        Raises:
            InvalidArgument: an address is none, or says nothing to workers.
            ConnectError: the address cannot be listened on.
        """
        try:
            try:
                await self.listener.start(*parse(listen))
            except OSError as error:
                raise ConnectError(f"cannot listen on {listen}: {explain(error)}") from None
            self.home = _advertised(self.listener.address, advertise)
        except BaseException:
            await self.close(0.0)
            raise
        return self

    async def close(self, wait: float | None = CLOSE_WAIT) -> None:
        """Open nothing more, give running requests `wait` seconds, close.

        None waits as long as they take.
        """
        self.stop_waiting()
        try:
            if wait is None or wait > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        while running := self._unanswered():
                            await asyncio.wait(running)
        finally:
            for journey in [*self.journeys.values()]:
                journey.kill(ErrorCode.CANCELLED)
            await self.listener.close()
            for journey in [*self.journeys.values()]:
                journey.give_up()
            await asyncio.gather(*(target.close() for target in self._targets))
            await self.session.close()

    def _unanswered(self) -> list[asyncio.Future[None]]:
        """Return the journeys whose callers wait; what is only remembered keeps nobody."""
        return [one.over for one in self.journeys.values() if not one.over.done()]

    # -- what the metrics ask

    role = "client"
    name = "callhome"

    @property
    def connections_open(self) -> int:
        """Call-home connections that are open, idle ones included."""
        return self.listener.connections

    def buffered_bytes(self) -> int:
        """Return the cost of messages that nobody has taken, and octets of control frames."""
        unread = sum(journey.stream.held for journey in [*self.journeys.values()])
        return unread + self.listener.buffered_bytes()

    # -- the connections

    @property
    def connections(self) -> int:
        """Call-home connections that are open, idle ones included."""
        return self.listener.connections

    def _on_event(self, event: Event) -> None:
        journey = self.journeys.get(getattr(event, "request_id", b""))
        if journey is not None:
            journey.on_event(event)
            journey.arm()


def _advertised(listening: tuple[str, int], advertise: str | None) -> str:
    """Return what workers are told to dial.

    Raises:
        InvalidArgument: it is no IP address and port, or stands for all addresses.
    """
    host, port = listening
    if advertise is not None:
        try:
            host = str(address(advertise.removeprefix("[").removesuffix("]")))
        except InvalidArgument:
            host, given = parse(advertise)
            port = given or port
    found = address(host)
    if found.is_unspecified:
        raise InvalidArgument(f"workers cannot dial {found}: say with advertise= what they can")
    return render(str(found), port)
