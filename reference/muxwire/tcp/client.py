"""The client: requests to one or several workers over shared connections that are kept alive.

Rules of this file: a slot holds one link to one worker and redials it with backoff (REC-004).  A
request goes to the link with the fewest open requests (REC-010); one that finds none waits in
order.  Retries are the flight's business.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial

from muxwire._generated.registries import BACKOFF_BASE_MS, BACKOFF_CAP_MS, ErrorCode
from muxwire.core.client import ClientConnection
from muxwire.core.config import Config
from muxwire.core.metadata import open_metadata
from muxwire.core.recovery import Backoff
from muxwire.errors import (
    ConnectError,
    ConnectionClosed,
    InvalidArgument,
    LocalProtocolError,
)
from muxwire.tcp.address import parse
from muxwire.tcp.caller import CLOSE_WAIT, Caller
from muxwire.tcp.flight import Flight
from muxwire.tcp.link import Link, Milestone, dial
from muxwire.tcp.tls import check_context

Observer = Callable[[int, str, Milestone], None]
"""Hears what happens to connections: the number of the dial from 1, its target, and what."""

MAX_CONNECTIONS = 4
"""Connections to one worker (REC-010)."""

_PROVEN_AFTER = 10.0
"""Seconds after which a connection without a terminal counts as healthy (REC-004)."""


def connect(
    *targets: str,
    config: Config | None = None,
    connections: int = 2,
    recover: bool = True,
    wait: float = 10.0,
    tls: ssl.SSLContext | None = None,
) -> Connecting:
    """Connect to the workers at `host:port`, or `[v6]:port`.

    Use the result with `async with`, or await it and close the client yourself::

        async with muxwire.connect("127.0.0.1:9000") as client:
            reply = await client.call("conformance.echo", b"hi")

    Args:
        targets: Addresses of workers that serve the same subjects.
        config: Options of each connection.
        connections: Connections to each worker, 1 to 4.
        recover: Redial lost connections, and retry requests where that is safe. False gives each
            connection and each request one attempt.
        wait: Seconds that a request may wait for a chance to begin (REC-005).
        tls: What `client_context` returns, for TLS; without it octets travel as they are.

    Raises (when awaited or entered):
        InvalidArgument: a target is not an address, or a number is out of range.
        DialFailed: nothing answers there.
        TlsFailed: there is no TLS, or one side does not trust the other.
        NotWorker: what answers does not speak WMX.
        VersionRefused: it speaks another version.
        ConnectionRefused: it takes no more connections, or is about to stop.
        HandshakeTimedOut: it did not complete the handshake in time.
        ConnectError: the connection ended during the handshake in some other way.
    """
    return Connecting(lambda: Client(targets, config or Config(), connections, recover, wait, tls))


class Connecting:
    """A client in the making: await it, or enter it."""

    def __init__(self, make: Callable[[], Client]) -> None:
        self._make = make
        self._client: Client | None = None

    def __await__(self) -> Generator[None, None, Client]:
        return self._make().start().__await__()

    async def __aenter__(self) -> Client:
        self._client = await self
        return self._client

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._client is not None:
            await self._client.close(0.0 if kind else CLOSE_WAIT)


class Client(Caller):
    """A client of one or several workers.  Make it with `connect`, or make it and `dial`.

    Args:
        targets: As for `connect`, like the next five.
        config: Options of each connection.
        connections: Connections to each worker.
        recover: Redial, and retry.
        wait: Seconds that a request may wait for a chance to begin.
        tls: Context for TLS.
        pipeline: Send requests before the handshake is complete.  That saves a round trip; if the
            handshake then fails, they are AMBIGUOUS (HSK-010).
        backoff: Base and cap of the delays between dials, seconds.  Other values than these are
            for tests (REC-004).
        observer: Hears what happens to each connection.
        on_written: Called whenever frames have been handed to a transport.

    Raises:
        InvalidArgument: a target is not an address, or a number is out of range.
    """

    def __init__(
        self,
        targets: tuple[str, ...],
        config: Config,
        connections: int,
        recover: bool,
        wait: float,
        tls: ssl.SSLContext | None = None,
        *,
        pipeline: bool = False,
        backoff: tuple[float, float] = (BACKOFF_BASE_MS / 1000, BACKOFF_CAP_MS / 1000),
        observer: Observer | None = None,
        on_written: Callable[[], None] | None = None,
    ) -> None:
        if not targets:
            raise InvalidArgument("connect wants at least one target")
        if not 1 <= connections <= MAX_CONNECTIONS:
            raise InvalidArgument(f"connections {connections} is not from 1 to {MAX_CONNECTIONS}")
        for target in targets:
            parse(target)
        if tls is not None:
            check_context(tls, server=False)
        self.config = config
        self.tls = tls
        super().__init__(recover)
        self.pipeline = pipeline
        self.backoff = backoff
        self.on_written = on_written
        self._wait = wait
        self._observer = observer
        self._dials = itertools.count(1)
        self._slots = [_Slot(self, target) for target in targets for _ in range(connections)]
        self._targets = frozenset(targets)
        self._waiting: deque[Flight] = deque()
        self._leaving: set[Link] = set()
        self._changed = asyncio.Event()
        self._patrol: asyncio.TimerHandle | None = None

    async def start(self) -> Client:
        """Dial every slot; return when the first connection is usable.

        Raises:
            ConnectError: no connection came about; it is the first one's error.
        """
        self.dial()
        try:
            while not any(slot.link is not None and slot.link.usable for slot in self._slots):
                if all(slot.error is not None for slot in self._slots):
                    raise self._slots[0].error or ConnectError("no connection")
                self._changed.clear()
                await self._changed.wait()
        except BaseException:
            await self.close(0.0)
            raise
        return self

    def dial(self) -> None:
        """Begin to dial every slot.  Requests wait until there is a connection."""
        for slot in self._slots:
            slot.start()

    # -- requests

    def _launch(self, flight: Flight) -> None:
        link = self._pick(flight)
        if link is None:
            self._await_link(flight)
        else:
            flight.begin(link)
            self._add(flight)

    def _await_link(self, flight: Flight) -> None:
        """Let a flight begin as soon as there is a link for it."""
        if not (self.recover or self._dialling or self.connections):
            raise self._over()
        open_metadata(0, 0, flight.subject, flight.headers)
        self._add(flight)
        self.queue(flight, 0.0)

    def _add(self, flight: Flight) -> None:
        self._flights.add(flight)
        if self._patrol is None:
            self._patrol = self._loop.call_later(min(1.0, self._wait / 8), self._look_around)

    def _look_around(self) -> None:
        """End requests that wait too long on their connection, for a place or credit (REC-005)."""
        self._patrol = None
        since = self.now() - self._wait
        for flight in [flight for flight in self._flights if flight.flying]:
            if flight.since <= since and not flight.begun:
                flight.withdraw(f"no chance to begin for {self._wait:g} s")
        if self._flights:
            self._patrol = self._loop.call_later(min(1.0, self._wait / 8), self._look_around)

    # -- the connections

    @property
    def accepting(self) -> bool:
        """Whether a request would be sent at once."""
        return not self._closed and self.connections > 0

    @property
    def connections(self) -> int:
        """Connections that take requests."""
        return sum(slot.link is not None and slot.link.accepting for slot in self._slots)

    @property
    def open_requests(self) -> int:
        """Requests without an end, waiting ones included."""
        return sum(link.open_requests for link in self._links()) + len(self._waiting)

    @property
    def buffered_bytes(self) -> int:
        """Cost of queued requests and unread answers, and octets of queued control frames."""
        return sum(link.buffered_bytes for link in self._links())

    @property
    def round_trip(self) -> float | None:
        """Seconds that the newest answered PING took, the shortest of all connections, or None."""
        times = [link.round_trip for link in self._links()]
        return min((time for time in times if time is not None), default=None)

    async def close(self, wait: float | None = CLOSE_WAIT) -> None:
        """Open nothing more, give running requests `wait` seconds, close (CLS-009).

        None waits as long as they take.  A second call with fewer seconds cuts the first short.
        """
        self._closed = True
        for flight in [flight for flight in self._flights if not flight.flying]:
            self.forget(flight)
            flight.fail_with(ErrorCode.CANCELLED, "the client is closed")
        if self._patrol is not None:
            self._patrol.cancel()
        for slot in self._slots:
            slot.stop()
        await asyncio.gather(*(link.close(wait) for link in self._links()))

    def abort(self) -> None:
        """Reset every connection; without `recover` that is the end of the client."""
        for link in self._links():
            link.abort()

    async def wait_closed(self) -> None:
        """Return when no connection is left and none is being dialled."""
        while self._dialling or self._leaving or any(slot.link for slot in self._slots):
            self._changed.clear()
            await self._changed.wait()

    def _links(self) -> list[Link]:
        """Return every connection that is not gone, those that are being left included."""
        return [*(slot.link for slot in self._slots if slot.link is not None), *self._leaving]

    @property
    def _dialling(self) -> bool:
        return any(slot.dialling for slot in self._slots)

    def _over(self) -> ConnectionClosed:
        if self._closed:
            return ConnectionClosed("the client is closed")
        last = next((slot.last for slot in self._slots if slot.last is not None), None)
        return ConnectionClosed("no connection is left") if last is None else last.over()

    # -- what the metrics ask, from whatever thread

    def cores(self) -> list[ClientConnection]:
        """Return every connection that has been set up and is not gone."""
        links = [slot.link for slot in self._slots]
        return [link.core for link in [*links, *self._leaving] if link is not None]

    # -- what flights ask

    def knows_no_other(self, workers: frozenset[str]) -> bool:
        """Whether these are all the workers there are."""
        return self._targets <= workers

    def queue(self, flight: Flight, delay: float) -> None:
        """Give a flight its attempt after `delay` seconds, as soon as there is a link."""
        if not self.in_time(flight, delay):
            flight.fail_with(ErrorCode.DEADLINE_EXCEEDED, "the deadline comes first")
        elif delay > 0:
            flight.set_timer(self._loop.call_later(delay, self._depart, flight))
        else:
            self._depart(flight)

    def forget(self, flight: Flight) -> None:
        """Let a flight wait no more."""
        with suppress(ValueError):  # it waits for its delay, and not for a link
            self._waiting.remove(flight)

    def _depart(self, flight: Flight) -> None:
        link = self._pick(flight)
        if link is not None:
            self._begin(flight, link)
            return
        if self._closed or not (self.recover or self._dialling):
            flight.fail_with(None, "no connection is left")
            return
        self._waiting.append(flight)
        limit = flight.since + self._wait
        if flight.deadline is not None and flight.deadline < limit:
            flight.set_timer(self._loop.call_at(flight.deadline, self._too_late, flight))
        else:
            flight.set_timer(self._loop.call_at(limit, self._no_link, flight))

    def _begin(self, flight: Flight, link: Link) -> None:
        try:
            flight.begin(link)
        except LocalProtocolError as error:
            flight.refuse(error)

    def _too_late(self, flight: Flight) -> None:
        self.forget(flight)
        flight.fail_with(ErrorCode.DEADLINE_EXCEEDED, "the deadline passed before an attempt")

    def _no_link(self, flight: Flight) -> None:
        self.forget(flight)
        errors = [str(slot.error) for slot in self._slots if slot.error is not None]
        reason = f": {errors[0]}" if errors else ""
        flight.fail_with(None, f"no connection for {self._wait:g} s{reason}")

    def _pick(self, flight: Flight) -> Link | None:
        """Return the link with the fewest open requests, another worker's if possible (REC-008)."""
        best: Link | None = None
        least: tuple[bool, bool, int] = (True, True, 0)
        for slot in self._slots:
            link = slot.link
            if link is None or not link.accepting:
                continue
            load = (link.target in flight.avoided, not link.usable, link.open_requests)
            if link.target in flight.not_found and not self.knows_no_other(flight.not_found):
                continue
            if best is None or load < least:
                best, least = link, load
        return best

    # -- what slots tell

    async def needs_replacement(self, link: Link) -> bool:
        """Whether a link that drains is replaced at its own address; wait until that is clear.

        It is not while another worker can do the work (CLS-008).  False once the link is gone.
        """
        while self._has_other_than(link.target):
            if link.gone:
                return False
            self._changed.clear()
            await self._changed.wait()
        return True

    def _has_other_than(self, target: str) -> bool:
        """Whether another worker takes requests."""
        links = [slot.link for slot in self._slots if slot.link is not None]
        return any(link.usable and link.target != target for link in links)

    def next_dial(self) -> int:
        """Number a dial."""
        return next(self._dials)

    def observe(self, dial: int, target: str, milestone: Milestone) -> None:
        """Pass on what happens to a connection."""
        if self._observer is not None:
            self._observer(dial, target, milestone)

    def link_up(self) -> None:
        """Give the new link to those who wait."""
        self._changed.set()
        for flight in list(self._waiting):
            if (link := self._pick(flight)) is not None:
                self._waiting.remove(flight)
                self._begin(flight, link)

    def link_down(self, link: Link) -> None:
        """Remember a link that takes nothing more until it is gone."""
        if link.gone:
            self._leaving.discard(link)
        else:
            self._leaving.add(link)
        self._changed.set()

    def slot_changed(self) -> None:
        """Wake whoever waits for a change."""
        self._changed.set()


class _Slot:
    """One place for a link to one worker.

    Attributes:
        link: The link that takes requests, or None.
        error: Why the last dial failed; None after one that did not.
        last: The link before it, or None.
        dialling: A dial is in progress or due.
    """

    def __init__(self, client: Client, target: str) -> None:
        self._client = client
        self._target = target
        self._backoff = Backoff(client.uniform, *client.backoff)
        self._task: asyncio.Task[None] | None = None
        self._left = asyncio.Event()
        self.link: Link | None = None
        self.error: ConnectError | None = None
        self.last: Link | None = None
        self.dialling = True

    def start(self) -> None:
        """Begin to dial."""
        self._task = asyncio.create_task(self._keep())

    def stop(self) -> None:
        """Dial no more; the link is the client's to close."""
        if self._task is not None:
            self._task.cancel()
        self.dialling = False

    async def _keep(self) -> None:
        """Hold one link, and replace it when it ends or drains (REC-004, CLS-008)."""
        delay = 0.0
        while True:
            await asyncio.sleep(delay)
            link = self._new_link()
            try:
                await dial(link, self._client.tls)
                if link.early:
                    self._offer(link)
                await link.handshaken()
            except ConnectError as error:
                self.error = error
                self.dialling = self._client.recover
                self._client.slot_changed()
                if not self._client.recover:
                    return
                delay = self._backoff.next()
                continue
            self.error = None
            delay = await self._hold(link)
            if not self._client.recover:
                return

    async def _hold(self, link: Link) -> float:
        """Offer a link until it takes no more requests; return the seconds until the next dial."""
        proven = asyncio.get_running_loop().call_later(_PROVEN_AFTER, self._backoff.reset)
        self._offer(link)
        try:
            if link.accepting:
                await self._left.wait()
        finally:
            proven.cancel()
        if not link.draining:
            return self._backoff.next()
        at_once = await self._client.needs_replacement(link)  # CLS-008
        return 0.0 if at_once else self._backoff.next()

    def _new_link(self) -> Link:
        client = self._client
        return Link(
            self._target,
            client.config,
            self._on_change,
            self._backoff.reset,
            client.counters,
            early=client.pipeline,
            observe=partial(client.observe, client.next_dial(), self._target),
            on_written=client.on_written,
        )

    def _offer(self, link: Link) -> None:
        self.link, self.dialling = link, False
        self._left.clear()
        self._client.link_up()

    def _on_change(self, link: Link) -> None:
        """Give up a link that takes no more requests."""
        if link.accepting:
            return
        if self.link is link:
            self.link, self.last = None, link
            self.dialling = self._client.recover
            self._left.set()
        if link.usable or link.early:
            self._client.link_down(link)
