"""What a client offers its users, whatever path its requests take.

Rules of this file: it makes a flight of every request and hands it to the path.  What a path does
with it is the path's business; whether it is tried again is the flight's.
"""

from __future__ import annotations

import asyncio
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from muxwire._generated.registries import ErrorCode
from muxwire.core.counters import Counters
from muxwire.core.ids import RequestIds
from muxwire.core.recovery import RetryBudget
from muxwire.errors import ConnectionClosed, InvalidArgument
from muxwire.handlers import check_message, encode_headers, encode_text
from muxwire.tcp.flight import Flight
from muxwire.tcp.stream import Answer, Exchange, Inbox, RequestSink, Stream

Headers = Iterable[tuple[str, str]]

CLOSE_WAIT = 5.0
"""Seconds that an orderly close waits for running requests."""

MAX_TIMEOUT = (2**32 - 1) / 1000
"""Longest timeout in seconds: it travels as a u32 of milliseconds."""


class Caller(ABC):
    """The requests of a client, and what their flights ask of it.

    Args:
        recover: Whether anything is tried again.

    Attributes:
        can_stop: Whether the path has a STOP.
        counters: What is counted.
        uniform: Returns a number between its two arguments.
        fresh_id: Returns 16 octets that were never returned before.
    """

    can_stop = True

    def __init__(self, recover: bool) -> None:
        self.recover = recover
        self.counters = Counters()
        self.uniform = random.uniform
        self.fresh_id = RequestIds(os.urandom).next
        self._loop = asyncio.get_running_loop()
        self._flights: set[Flight] = set()  # that are not over
        self._budget = RetryBudget()
        self._closed = False

    # -- requests

    async def call(
        self,
        subject: str,
        data: bytes = b"",
        *,
        headers: Headers = (),
        timeout: float | None = None,  # noqa: ASYNC109 - it travels to the worker
        idempotent: bool = False,
    ) -> bytes:
        """Send one message and return the one message of the answer; ``b""`` if it has none.

        Args:
            subject: What to ask for.
            data: The request message.
            headers: Pairs of key and value.
            timeout: Seconds that the request may take, over all attempts.
            idempotent: Running the request twice does no harm.

        Raises:
            RequestFailed: the request did not succeed; `outcome` says whether it may have run.
            LocalProtocolError: the request is not allowed, or the answer has several messages
                (use `stream`).
            ConnectionClosed: the client is closed, or its connection is over and not redialled.
        """
        answer = Answer()
        flight = answer.exchange = self._flight(
            answer, subject, data, True, headers, timeout, idempotent, awaiting=True
        )
        self._launch(flight)
        try:
            return await answer.future
        except asyncio.CancelledError:
            flight.kill(ErrorCode.CANCELLED)
            raise

    def stream(
        self,
        subject: str,
        data: bytes | None = None,
        *,
        end: bool | None = None,
        headers: Headers = (),
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> Stream:
        """Start a request and return its stream: iterate over it for the messages of the answer.

        Args:
            subject: What to ask for.
            data: The first request message, or None for none yet.
            end: Whether `data` is all; by default it is if there is any.  Without it, use
                `Stream.send` and `Stream.end`.
            headers: Pairs of key and value.
            timeout: Seconds that the request may take, over all attempts.
            idempotent: Running the request twice does no harm.

        Raises:
            LocalProtocolError: the request is not allowed.
            ConnectionClosed: the client is closed, or its connection is over and not redialled.
        """
        inbox = Inbox()
        whole = data is not None if end is None else end
        flight = self._flight(
            inbox, subject, data, whole, headers, timeout, idempotent, awaiting=False
        )
        self._launch(flight)
        return Stream(flight, inbox)

    def open(
        self,
        sink: RequestSink,
        subject: str,
        data: bytes | None,
        *,
        end: bool,
        headers: Headers = (),
        timeout: float | None = None,
        idempotent: bool = False,
        awaiting: bool = True,
    ) -> Exchange:
        """Start a request whose events go to a sink: what `call` and `stream` are made of.

        The sink gives back the cost of each message once it has taken it.  What only the worker's
        limits forbid is told to the sink, possibly before this returns.

        Args:
            sink: Takes the events.
            subject: What to ask for.
            data: The first request message, or None for none yet.
            end: Whether `data` is all.
            headers: Pairs of key and value.
            timeout: Seconds that the request may take, over all attempts.
            idempotent: Running the request twice does no harm.
            awaiting: The sink waits for a message; see `Exchange.awaiting`.

        Raises:
            InvalidArgument: subject, headers or timeout are not allowed.
            ConnectionClosed: the client is closed, or its connection is over and not redialled.
        """
        flight = self._flight(
            sink, subject, data, end, headers, timeout, idempotent, awaiting=awaiting
        )
        self._await_link(flight)
        return flight

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
        if timeout is not None and not 0 < timeout <= MAX_TIMEOUT:
            raise InvalidArgument(f"timeout {timeout} is not above 0 and up to {MAX_TIMEOUT:g}")
        if data is not None:
            check_message(data)
        flight = Flight(
            self,
            sink,
            encode_text(subject),
            data,
            end=end,
            headers=encode_headers(headers),
            deadline=None if timeout is None else self.now() + timeout,
            idempotent=idempotent,
            awaiting=awaiting,
        )
        if self._closed:
            raise self._over()
        self._budget.first(self.now())
        return flight

    # -- what a path adds

    @abstractmethod
    async def close(self, wait: float | None = CLOSE_WAIT) -> None:
        """Open nothing more, give running requests `wait` seconds, close.

        None waits as long as they take.
        """

    @abstractmethod
    def _launch(self, flight: Flight) -> None:
        """Let a flight begin at once, or as soon as it can.

        Raises:
            LocalProtocolError: the request is not allowed.
            ConnectionClosed: it never can.
        """

    @abstractmethod
    def _await_link(self, flight: Flight) -> None:
        """Let a flight begin as soon as it can; what only the worker forbids is told to its sink.

        Raises:
            InvalidArgument: the request is not allowed.
            ConnectionClosed: it never can.
        """

    @abstractmethod
    def _over(self) -> ConnectionClosed:
        """Say why no requests are taken."""

    @abstractmethod
    def queue(self, flight: Flight, delay: float) -> None:
        """Give a flight its attempt after `delay` seconds, as soon as that is possible."""

    @abstractmethod
    def forget(self, flight: Flight) -> None:
        """Let a flight wait no more."""

    @abstractmethod
    def knows_no_other(self, workers: frozenset[str]) -> bool:
        """Whether these are all the workers there are."""

    # -- what the metrics ask, from whatever thread

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it runs in."""
        return self._loop

    def open_subjects(self) -> list[bytes]:
        """Return the subject of each request that is not over."""
        return [flight.subject for flight in [*self._flights]]

    # -- what flights ask

    def landed(self, flight: Flight, code: int, served: bool) -> None:
        """Count a request that is over (OBS-004)."""
        self._flights.discard(flight)
        if served:
            self.counters.learn(flight.subject)
        self.counters.request_ended(self.counters.known(flight.subject), code)

    def now(self) -> float:
        """Return the time, in seconds of the loop's clock."""
        return self._loop.time()

    def call_soon(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Run a callback in the loop's thread, from whatever thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(callback, *arguments)

    @property
    def recovering(self) -> bool:
        """Whether anything is tried again."""
        return self.recover and not self._closed

    def may_spend_retry(self) -> bool:
        """Take a retry out of the budget; False if it is used up (REC-006)."""
        return self._budget.spend(self.now())

    def in_time(self, flight: Flight, delay: float) -> bool:
        """Whether an attempt after `delay` seconds begins before the deadline (REC-005)."""
        return flight.deadline is None or self.now() + delay < flight.deadline
