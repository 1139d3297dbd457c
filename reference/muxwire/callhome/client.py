"""The client of the call-home path: POSTs requests and listens for their responses.

Rules of this file: a journey is one attempt, from the POST to the last word.  Which worker takes
it, and whether another attempt follows, is decided as on the TCP path.  A worker whose HTTP port
cannot be reached rests for a while (REC-004).
"""

from __future__ import annotations

import asyncio
import os
import urllib.parse
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from math import inf

from muxwire._generated.registries import WCH_MAX_MESSAGE_SIZE, ErrorCode
from muxwire.callhome.fields import address, write
from muxwire.callhome.listener import Listener
from muxwire.callhome.post import open_session, post
from muxwire.core.callhome import RouterStream
from muxwire.core.callhome.connection import check_idle_timeout
from muxwire.core.config import Config
from muxwire.core.events import (
    Event,
    MessageReceived,
    ResponseFailed,
    ResponseFinished,
    ResponseHeaders,
)
from muxwire.core.metadata import open_metadata
from muxwire.core.recovery import Backoff
from muxwire.errors import (
    ConnectError,
    ConnectionClosed,
    InvalidArgument,
    LocalProtocolError,
    MessageTooLarge,
    RequestClosed,
)
from muxwire.tcp.address import explain, parse, render
from muxwire.tcp.caller import Caller, Headers
from muxwire.tcp.client import CLOSE_WAIT
from muxwire.tcp.flight import Flight
from muxwire.tcp.link import request_failed
from muxwire.tcp.stream import RequestSink, Sink

ROOT = "/v1/rpc"


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


class Client(Caller):
    """A client of one or several workers.  Make it with `connect`.

    A request has exactly one message, so `stream` wants it at once and `Stream.send` is an error.

    Args:
        targets: As for `connect`, like the next four.
        config: Times.
        recover: Retry.
        wait: Seconds that a request may wait.
        idle_timeout_ms: What is announced.

    Raises:
        InvalidArgument: a target is none, or a number is out of range.
    """

    def __init__(
        self,
        targets: tuple[str, ...],
        config: Config,
        recover: bool = True,
        wait: float = 10.0,
        idle_timeout_ms: int = 0,
    ) -> None:
        if not targets:
            raise InvalidArgument("connect wants at least one target")
        check_idle_timeout(idle_timeout_ms)
        super().__init__(recover)
        self.home = ""
        self.journeys: dict[bytes, Journey] = {}
        self._wait = wait
        self._targets = [_Target(self, target) for target in targets]
        self._names = frozenset(target.target for target in self._targets)
        self._waiting: deque[Flight] = deque()
        self._wake: asyncio.TimerHandle | None = None
        self.listener = Listener(self._on_event, idle_timeout_ms)
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
        self._closed = True
        for flight in [flight for flight in self._flights if not flight.flying]:
            self.forget(flight)
            flight.fail_with(ErrorCode.CANCELLED, "the client is closed")
        if self._wake is not None:
            self._wake.cancel()
        try:
            if wait is None or wait > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        while running := [one.over for one in self.journeys.values()]:
                            await asyncio.wait(running)
        finally:
            for journey in [*self.journeys.values()]:
                journey.kill(ErrorCode.CANCELLED)
            await self.listener.close()
            for journey in [*self.journeys.values()]:
                journey.give_up()
            await asyncio.gather(*(target.close() for target in self._targets))
            await self.session.close()

    # -- the connections

    @property
    def connections(self) -> int:
        """Call-home connections that are open, idle ones included."""
        return self.listener.connections

    @property
    def open_requests(self) -> int:
        """Requests without an end, waiting ones included."""
        return len(self._flights)

    # -- flights

    def _flight(
        self,
        sink: RequestSink,
        subject: str,
        data: bytes | None,
        end: bool,
        headers: Headers,
        timeout: float | None,
        idempotent: bool,
        *,
        awaiting: bool,
    ) -> Flight:
        if data is None or not end:
            raise InvalidArgument("a request over call-home has exactly one message (P0-001)")
        return super()._flight(
            sink, subject, data, end, headers, timeout, idempotent, awaiting=awaiting
        )

    def _launch(self, flight: Flight) -> None:
        target = self._pick(flight)
        if target is None:
            self._await_link(flight)
        else:
            flight.begin(target)
            self._flights.add(flight)

    def _await_link(self, flight: Flight) -> None:
        open_metadata(0, 0, flight.subject, flight.headers)
        self._flights.add(flight)
        self.queue(flight, 0.0)

    def _over(self) -> ConnectionClosed:
        return ConnectionClosed("the client is closed")

    def knows_no_other(self, workers: frozenset[str]) -> bool:
        """Whether these are all the workers there are."""
        return self._names <= workers

    def queue(self, flight: Flight, delay: float) -> None:
        """Give a flight its attempt after `delay` seconds, as soon as a worker can be reached."""
        if not self.in_time(flight, delay):
            flight.fail_with(ErrorCode.DEADLINE_EXCEEDED, "the deadline comes first")
        elif delay > 0:
            flight.set_timer(self._loop.call_later(delay, self._depart, flight))
        else:
            self._depart(flight)

    def forget(self, flight: Flight) -> None:
        """Let a flight wait no more."""
        with suppress(ValueError):
            self._waiting.remove(flight)

    def _depart(self, flight: Flight) -> None:
        target = self._pick(flight)
        if target is not None:
            self._begin(flight, target)
        elif self._closed or not self.recover:
            flight.fail_with(None, "no worker is left")
        else:
            self._waiting.append(flight)
            limit = flight.since + self._wait
            if flight.deadline is not None and flight.deadline < limit:
                flight.set_timer(self._loop.call_at(flight.deadline, self._too_late, flight))
            else:
                flight.set_timer(self._loop.call_at(limit, self._unreachable, flight))
            self._wake_at(min(one.resting_until for one in self._targets))

    def _wake_at(self, when: float) -> None:
        if self._wake is None:
            self._wake = self._loop.call_at(when, self._serve)

    def _serve(self) -> None:
        """Give those who wait another try: a worker has rested."""
        self._wake = None
        waiting, self._waiting = [*self._waiting], deque()
        for flight in waiting:
            flight.cancel_timer()
            self._depart(flight)

    def _begin(self, flight: Flight, target: _Target) -> None:
        try:
            flight.begin(target)
        except LocalProtocolError as error:
            flight.refuse(error)

    def _too_late(self, flight: Flight) -> None:
        self.forget(flight)
        flight.fail_with(ErrorCode.DEADLINE_EXCEEDED, "the deadline passed before an attempt")

    def _unreachable(self, flight: Flight) -> None:
        self.forget(flight)
        flight.fail_with(None, f"no worker could be reached for {self._wait:g} s")

    def _pick(self, flight: Flight) -> _Target | None:
        """Return the worker with the fewest open requests, another one if possible (REC-008)."""
        now = self.now()
        alone = self.knows_no_other(flight.not_found)
        usable = [
            target
            for target in self._targets
            if (now >= target.resting_until or not self.recover)
            and (alone or target.target not in flight.not_found)
        ]
        return min(
            usable,
            key=lambda target: (target.target in flight.avoided, target.open_requests),
            default=None,
        )

    def _on_event(self, event: Event) -> None:
        journey = self.journeys.get(getattr(event, "request_id", b""))
        if journey is not None:
            journey.on_event(event)
            journey.arm()


class _Target:
    """One worker, as a flight sees it.

    Attributes:
        target: Its HTTP address.
        open_requests: Attempts that are not over.
        resting_until: When it may be tried again.
    """

    def __init__(self, client: Client, target: str) -> None:
        self.target = target
        self.open_requests = 0
        self.resting_until = -inf
        self._client = client
        self._prefix = _prefix(target)
        self._backoff = Backoff(client.uniform)
        self._posts: set[asyncio.Task[None]] = set()

    def open(
        self,
        sink: Sink,
        subject: bytes,
        data: bytes | None,
        *,
        end: bool,  # noqa: ARG002 - the client has seen to it
        headers: Sequence[tuple[bytes, bytes]],
        timeout_ms: int,
        idempotent: bool,  # noqa: ARG002 - it concerns the router only
        awaiting: bool,  # noqa: ARG002 - there is no credit
    ) -> bytes:
        """Start an attempt and return its id.

        Raises:
            InvalidArgument: subject or headers are not allowed.
            MessageTooLarge: no worker takes a message of this size.
        """
        client = self._client
        body = data or b""
        open_metadata(timeout_ms, 0, subject, headers)
        if len(body) > WCH_MAX_MESSAGE_SIZE:
            raise MessageTooLarge(f"a message has {WCH_MAX_MESSAGE_SIZE} octets at most")
        stream_id, token = client.fresh_id(), os.urandom(16)  # P0-018
        fields = write(client.home, stream_id, token, timeout_ms, headers)
        deadline = client.now() + timeout_ms / 1000 if timeout_ms else None
        stream = RouterStream(stream_id, token, deadline)
        journey = Journey(client, self, stream, sink)
        client.journeys[stream_id] = journey
        client.listener.expect(stream)
        self.open_requests += 1
        url = self._prefix + urllib.parse.quote(subject.decode(), safe="")
        task = asyncio.get_running_loop().create_task(self._post(url, fields, body, journey))
        self._posts.add(task)
        task.add_done_callback(self._posts.discard)
        journey.post = task
        journey.arm()
        return stream_id

    async def _post(
        self, url: str, fields: list[tuple[str, str]], body: bytes, journey: Journey
    ) -> None:
        client = self._client
        try:
            answered = await post(client.session, url, fields, body, journey.stream, client.now)
        except asyncio.CancelledError:
            journey.stream.unclear("the POST was given up")
            raise
        finally:
            journey.settle()
        if answered:
            self._backoff.reset()
        elif journey.unsent:
            self.resting_until = client.now() + self._backoff.next()

    def send(self, request_id: bytes, data: bytes, *, end: bool) -> bool:  # noqa: ARG002
        """Refuse a further message."""
        raise RequestClosed("a request over call-home has exactly one message (P0-001)")

    def end(self, request_id: bytes) -> None:
        """Do nothing: the one message was the end."""

    def stop(self, request_id: bytes, reason: int) -> None:
        """Ask the worker to end the attempt early and well."""
        if journey := self._client.journeys.get(request_id):
            journey.stop(reason)

    def kill(self, request_id: bytes, reason: int) -> None:
        """Abandon the attempt."""
        if journey := self._client.journeys.get(request_id):
            journey.kill(reason)

    def consumed(self, request_id: bytes, cost: int) -> None:
        """Go on reading if the caller had kept the worker waiting (P0-014)."""
        if journey := self._client.journeys.get(request_id):
            journey.consumed(cost)

    def awaiting(self, request_id: bytes, waiting: bool) -> None:
        """Do nothing: there is no credit."""

    def begun(self, request_id: bytes) -> bool:
        """Return whether an octet of the POST has been handed over."""
        journey = self._client.journeys.get(request_id)
        return journey is None or journey.stream.begun

    def unsent(self, request_id: bytes) -> int | None:
        """Return 0: the one message is with the HTTP library."""
        return 0 if request_id in self._client.journeys else None

    async def close(self) -> None:
        """Give up the POSTs that nobody waits for."""
        for task in [*self._posts]:
            task.cancel()
        await asyncio.gather(*self._posts, return_exceptions=True)


class Journey:
    """One attempt: a POST, and the response that comes home.

    Attributes:
        stream: The response.
        over: Done when the caller has had its last event.
        unsent: It ended before an octet was handed over.
    """

    def __init__(self, client: Client, target: _Target, stream: RouterStream, sink: Sink) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._target = target
        self._sink = sink
        self._timer: asyncio.TimerHandle | None = None
        self.stream = stream
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.post: asyncio.Task[None] | None = None
        self.unsent = False

    def settle(self) -> None:
        """Carry out what the stream has to say."""
        for event in self.stream.events():
            self.on_event(event)
        if self.unsent and self.post is not None and self.post is not asyncio.current_task():
            self.post.cancel()  # nothing is to leave any more
        self.arm()

    def on_event(self, event: Event) -> None:
        """Give an event to the caller."""
        match event:
            case MessageReceived():
                self._sink.on_message(event.data, event.cost)
                if event.ended:
                    self._end()
                    self._sink.on_end([])
            case ResponseHeaders():
                self._sink.on_headers(event.headers)
            case ResponseFinished():
                self._end()
                self._sink.on_end(event.trailers)
            case ResponseFailed():
                self.unsent = not event.outcome
                self._end()
                self._sink.on_failed(request_failed(event))

    def stop(self, reason: int) -> None:
        """Ask the worker to end early and well."""
        self.stream.stop(reason)
        self.settle()

    def kill(self, reason: int) -> None:
        """Abandon the attempt."""
        self.stream.kill(reason, self._loop.time())
        self.settle()

    def consumed(self, cost: int) -> None:
        """Take that the caller has taken a message."""
        self.stream.consumed(cost, self._loop.time())

    def give_up(self) -> None:
        """Forget the token, which was only remembered: the listener is closed."""
        if self._timer is not None:
            self._timer.cancel()
        self._forget()

    def arm(self) -> None:
        """Arm the one timer of the stream, or forget a stream that is over."""
        if self.stream.forgotten and self.over.done():
            self._forget()
            return
        when = self.stream.next_timeout()
        if self._timer is not None:
            if self._timer.when() == when:
                return
            self._timer.cancel()
            self._timer = None
        if when < inf:
            self._timer = self._loop.call_at(when, self._due)

    def _due(self) -> None:
        self._timer = None
        self.stream.handle_timeout(self._loop.time())
        self.settle()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
            self._target.open_requests -= 1

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._client.listener.forget(self.stream)
        self._client.journeys.pop(self.stream.request_id, None)


def _prefix(target: str) -> str:
    """Return the address in front of a subject.

    Raises:
        InvalidArgument: it is not `http://host:port`, with or without a path.
    """
    parts = urllib.parse.urlsplit(target)
    try:
        valid = parts.scheme == "http" and parts.hostname and (parts.port or 80)
    except ValueError:
        valid = None
    if not valid or parts.query or parts.fragment or parts.username is not None:
        raise InvalidArgument(f"{target!r} is not http://host:port")
    root = parts.path.rstrip("/") or ROOT
    return f"http://{parts.netloc}{root}/"


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
