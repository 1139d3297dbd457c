"""One worker as a flight sees it, and what is posted to it.

Rules of this file: it makes an attempt of each request and hands it to a way: HTTP/1.1 or HTTP/2.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple, Protocol

from muxwire._generated.http import FORMATS, WMX_HEARTBEAT_MS, WMX_TIMEOUT_MS
from muxwire._generated.registries import HTTP_HEARTBEAT_MS, HTTP_SILENT_HEARTBEATS
from muxwire.core.metadata import open_metadata
from muxwire.core.recovery import Backoff
from muxwire.errors import InvalidArgument, RequestClosed
from muxwire.http.attempt import Attempt, Post
from muxwire.overhttp import for_the_wire
from muxwire.tcp.posting import prefix
from muxwire.tcp.stream import Sink

ROOT = "/v1/rpc/response"


class Way(Protocol):
    """Carries attempts to one worker."""

    def start(self, attempt: Attempt) -> None:
        """Post it, now or as soon as there is a connection."""

    async def close(self) -> None:
        """Give up what is left, and the connections."""


class Habits(NamedTuple):
    """What all requests of a client have in common.

    Attributes:
        format: The format that is asked for.
        heartbeat_ms: The longest silence that is asked for.
        wait: Seconds that an attempt may wait for a connection.
        min_silence: Least seconds of silence after which a response is lost (P1-021).
        limit: The largest item in octets.
    """

    format: str
    heartbeat_ms: int
    wait: float
    min_silence: float
    limit: int

    @property
    def silence(self) -> float:
        """Seconds of silence after which a response is lost."""
        return max(HTTP_SILENT_HEARTBEATS * self.heartbeat_ms / 1000, self.min_silence)


class Target:
    """One worker.

    Args:
        target: `http://host:port`, with or without a root.
        way: Makes what carries attempts to it; its argument is this object.
        habits: What all requests have in common.
        backoff: How long it rests when it cannot be reached.
        fresh_id: Returns 16 octets that were never returned before.
        on_over: Called at the end of each attempt.

    Attributes:
        target: Its HTTP address.
        url: The address in front of a subject.
        open_requests: Attempts that are not over.
        resting_until: When it may be tried again.
    """

    def __init__(
        self,
        target: str,
        way: Callable[[Target], Way],
        habits: Habits,
        backoff: Backoff,
        fresh_id: Callable[[], bytes],
        on_over: Callable[[], None],
    ) -> None:
        self.target = target
        self.url = urllib.parse.urlsplit(prefix(target, ROOT))
        self.resting_until = -inf
        self._way = way(self)
        self._habits = habits
        self._backoff = backoff
        self._fresh_id = fresh_id
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._attempts: dict[bytes, Attempt] = {}

    @property
    def open_requests(self) -> int:
        """Attempts that are not over."""
        return len(self._attempts)

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
        """Start an attempt and return its id."""
        habits = self._habits
        open_metadata(timeout_ms, 0, subject, headers)
        fields = [("accept", FORMATS[habits.format][0])]
        if timeout_ms:
            fields.append((WMX_TIMEOUT_MS, str(timeout_ms)))
        if habits.heartbeat_ms != HTTP_HEARTBEAT_MS:
            fields.append((WMX_HEARTBEAT_MS, str(habits.heartbeat_ms)))
        for name, value in for_the_wire(headers):
            if name == "accept":
                raise InvalidArgument("the header accept is set by the format (P1-001)")
            fields.append((name, value))
        path = self.url.path + urllib.parse.quote(subject.decode(), safe="")
        attempt = Attempt(
            Post(path, fields, data or b"", habits.format),
            sink,
            self._fresh_id(),
            deadline=self._loop.time() + timeout_ms / 1000 if timeout_ms else None,
            wait=habits.wait,
            silence=habits.silence,
            limit=habits.limit,
            on_over=self._over,
        )
        self._attempts[attempt.request_id] = attempt
        self._way.start(attempt)
        return attempt.request_id

    def _over(self, attempt: Attempt) -> None:
        del self._attempts[attempt.request_id]
        self._on_over()

    # -- what the way tells

    def reached(self) -> None:
        """Take that the worker has answered."""
        self._backoff.reset()

    def unreachable(self) -> None:
        """Take that there is no connection; others are asked for a while (REC-004)."""
        self.resting_until = self._loop.time() + self._backoff.next()

    # -- what a flight wants

    def send(self, request_id: bytes, data: bytes, *, end: bool) -> bool:  # noqa: ARG002
        """Refuse a further message."""
        raise RequestClosed("a request over HTTP has exactly one message")

    def end(self, request_id: bytes) -> None:
        """Do nothing: the one message was the end."""

    def stop(self, request_id: bytes, reason: int) -> None:
        """Do nothing: a flight knows that there is no STOP on this path (section 22.4)."""

    def kill(self, request_id: bytes, reason: int) -> None:  # noqa: ARG002 - it does not travel
        """Abandon the attempt."""
        if attempt := self._attempts.get(request_id):
            attempt.kill()

    def consumed(self, request_id: bytes, cost: int) -> None:
        """Go on reading if the caller had kept the worker waiting."""
        if attempt := self._attempts.get(request_id):
            attempt.consumed(cost)

    def awaiting(self, request_id: bytes, waiting: bool) -> None:
        """Do nothing: there is no credit."""

    def begun(self, request_id: bytes) -> bool:
        """Return whether an octet of the request has been handed over."""
        attempt = self._attempts.get(request_id)
        return attempt is None or attempt.begun

    def unsent(self, request_id: bytes) -> int | None:
        """Return 0: the one message is with the HTTP library."""
        return 0 if request_id in self._attempts else None

    # -- the end

    def kill_all(self) -> None:
        """Abandon all attempts."""
        for attempt in [*self._attempts.values()]:
            attempt.kill()

    async def close(self) -> None:
        """Close the connections."""
        await self._way.close()
