"""A client whose requests are POSTs: which worker takes one, and who waits while none can.

Rules of this file: a worker whose HTTP port cannot be reached rests for a while (REC-004).  The
others are asked; when all of them rest, requests wait in their order, for a limited time (REC-005).
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from muxwire._generated.registries import ErrorCode
from muxwire.core.metadata import open_metadata
from muxwire.errors import ConnectionClosed, InvalidArgument, LocalProtocolError
from muxwire.tcp.caller import Caller, Headers
from muxwire.tcp.flight import Flight, Route
from muxwire.tcp.stream import RequestSink


class Target(Route, Protocol):
    """One worker, as a flight sees it.

    Attributes:
        resting_until: When it may be tried again.
    """

    resting_until: float

    @property
    def open_requests(self) -> int:
        """Attempts that are not over."""


class PostingCaller(Caller):
    """A client of one or several workers that are reached by HTTP.

    A request has exactly one message, so `stream` wants it at once and `Stream.send` is an error.

    Args:
        recover: Retry requests where that is safe.
        wait: Seconds that a request may wait for a worker that can be reached.
    """

    _targets: Sequence[Target]

    def __init__(self, recover: bool, wait: float) -> None:
        super().__init__(recover)
        self._wait = wait
        self._waiting: deque[Flight] = deque()
        self._wake: asyncio.TimerHandle | None = None

    def stop_waiting(self) -> None:
        """Take no more requests, and fail those without an attempt."""
        self._closed = True
        for flight in [flight for flight in self._flights if not flight.flying]:
            self.forget(flight)
            flight.fail_with(ErrorCode.CANCELLED, "the client is closed")
        if self._wake is not None:
            self._wake.cancel()

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
            raise InvalidArgument("a request over HTTP has exactly one message")
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
        return all(target.target in workers for target in self._targets)

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
        if flight.request_id and self.now() >= flight.since + self._wait:
            self._unreachable(flight)  # it had its chance, and no attempt could begin
        elif target is not None:
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

    def _begin(self, flight: Flight, target: Target) -> None:
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

    def _pick(self, flight: Flight) -> Target | None:
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


def prefix(target: str, root: str) -> str:
    """Return the URL in front of a subject: `http://host:port/root/`.

    Args:
        target: `http://host:port`; a path behind it takes the place of `root`.
        root: The usual root.

    Raises:
        InvalidArgument: It is no such address.
    """
    parts = urllib.parse.urlsplit(target)
    try:
        valid = parts.scheme == "http" and parts.hostname and (parts.port or 80)
    except ValueError:
        valid = None
    if not valid or parts.query or parts.fragment or parts.username is not None:
        raise InvalidArgument(f"{target!r} is not http://host:port")
    return f"http://{parts.netloc}{parts.path.rstrip('/') or root}/"
