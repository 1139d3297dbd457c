"""One attempt at a worker: a POST, and the body of its answer.

Rules of this file: it knows no HTTP library.  A carrier tells it what happens to the request and
what arrives; it tells the caller, and the carrier when to read on and when to let go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple, Protocol

from muxwire._generated.http import FORMATS, OK, WMX_NOT_PROCESSED
from muxwire._generated.registries import HTTP_END_TIMEOUT_MS, ErrorCode
from muxwire.core.events import ResponseFailed
from muxwire.core.http import READERS, Response
from muxwire.core.metadata import Header
from muxwire.overhttp import LARGEST_ERROR, read_error
from muxwire.tcp.link import request_failed
from muxwire.tcp.stream import Sink

Fields = Sequence[tuple[str, str]]


class Carrier(Protocol):
    """What carries the octets of an attempt."""

    def resume(self) -> None:
        """Give credit, or read on: the caller has taken an item."""

    def drop(self) -> None:
        """Let go: nobody waits for the answer, or it is over."""


class Post(NamedTuple):
    """What is posted."""

    path: str
    fields: Fields
    body: bytes
    format: str


class Attempt:
    """One attempt of a request.

    Args:
        post: What is posted.
        sink: Takes what comes back.
        request_id: The 16 octets that name the attempt.
        deadline: When the request has to be over, or None.
        wait: Seconds that it may wait for a connection (REC-005).
        silence: Seconds without an octet after which the response is lost (P1-021).
        limit: The largest item in octets.
        on_over: Called once, before the last word.

    Attributes:
        post: What is posted.
        carrier: What carries it, once something does.
        request_id: The 16 octets that name it.
    """

    on_message: Callable[[bytes, int], None]

    def __init__(
        self,
        post: Post,
        sink: Sink,
        request_id: bytes,
        *,
        deadline: float | None,
        wait: float,
        silence: float,
        limit: int,
        on_over: Callable[[Attempt], None],
    ) -> None:
        self.post = post
        self.carrier: Carrier | None = None
        self.request_id = request_id
        self.on_message = sink.on_message
        self._sink = sink
        self._limit = limit
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._begin_by = self._loop.time() + wait
        self._timer: asyncio.TimerHandle | None = None
        self._refusal: _Refusal | None = None
        self._left = False
        self._response = Response(
            self, self._on_failed, request_id, deadline=deadline, silence=silence
        )
        self._arm()

    @property
    def over(self) -> bool:
        """Whether the caller has had the last word."""
        return self._response.over

    @property
    def begun(self) -> bool:
        """Whether an octet of the request has been handed over."""
        return self._response.begun

    @property
    def full(self) -> bool:
        """Whether nothing is to be read until `resume`."""
        return self._response.full

    @property
    def held(self) -> int:
        """Cost of the items that the caller has not taken."""
        return self._response.held

    # -- what the carrier tells

    def posted(self) -> None:
        """Take that octets of the request are handed to the transport."""
        self._response.posted()

    def sent(self) -> None:
        """Take that the whole request has been handed to the transport."""
        self._response.sent(self._loop.time())
        self._arm()

    def answered(self, status: int, field: Callable[[str], str | None]) -> None:
        """Take status and fields of the answer; `field` returns one by its name."""
        if status != OK.status:
            processed = field(WMX_NOT_PROCESSED) != "1"
            until = self._loop.time() + HTTP_END_TIMEOUT_MS / 1000
            self._refusal = _Refusal(status, processed, field("retry-after"), until)
        elif wrong := self._unexpected(field):
            self._response.unclear(f"HTTP 200 with {wrong} (P1-020)")
        else:
            reader = READERS[self.post.format](self._limit)
            self._response.started(reader, self._loop.time())
        self._settle()

    def _unexpected(self, field: Callable[[str], str | None]) -> str:
        """Say what is wrong with the fields of a 200."""
        declared = field("content-type") or ""
        if declared.partition(";")[0].strip().lower() != FORMATS[self.post.format][0]:
            return f"the Content-Type {declared[:64]!r}"
        coding = (field("content-encoding") or "identity").strip().lower()
        return "" if coding == "identity" else f"the Content-Encoding {coding[:64]!r}"

    def receive(self, data: bytes) -> None:
        """Take octets of the answer's body."""
        if self._refusal is None:
            self._response.receive(data, self._loop.time())
        elif self._refusal.add(data):
            self._refuse(self._refusal)
        self._settle()

    def ended(self) -> None:
        """Take that the body has ended cleanly."""
        if self._refusal is None:
            self._response.ended()
        else:
            self._refuse(self._refusal)
        self._settle()

    def cut(self, message: str) -> None:
        """Take that the exchange has ended in any other way, or could not begin."""
        if self._refusal is None:
            self._response.cut(message)
        else:
            self._refuse(self._refusal)
        self._settle()

    def _refuse(self, refusal: _Refusal) -> None:
        """Report an answer that is no success; its status counts, whatever its body is."""
        said = read_error(refusal.status, bytes(refusal.body), refusal.retry_after)
        if refusal.processed:
            self._response.unclear(said.message, said.code, said.retry_after_ms)
        else:
            self._response.refused(said.code, said.message, said.retry_after_ms)

    # -- what the caller wants

    def kill(self) -> None:
        """Abandon the request (P1-013)."""
        self._response.kill(ErrorCode.CANCELLED, "killed")
        self._settle()

    def consumed(self, cost: int) -> None:
        """Take that the caller has taken an item."""
        was_full = self._response.full
        self._response.consumed(cost, self._loop.time())
        if self.carrier is not None:
            self.carrier.resume()
        if was_full:
            self._arm()

    # -- what the response tells

    def on_headers(self, headers: list[Header]) -> None:
        """Pass the response headers on."""
        self._sink.on_headers(headers)

    def on_end(self, trailers: list[Header]) -> None:
        """Pass the success on."""
        self._leave()
        self._sink.on_end(trailers)

    def _on_failed(self, event: ResponseFailed) -> None:
        self._leave()
        self._sink.on_failed(request_failed(event))

    # -- how

    def _leave(self) -> None:
        self._left = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._on_over(self)

    def _settle(self) -> None:
        """Let the carrier go when all is over, else see to the time."""
        if self._left:
            carrier, self.carrier = self.carrier, None
            if carrier is not None:
                carrier.drop()
        else:
            self._arm()

    def _arm(self) -> None:
        """Arm the one timer; one that is early is left, and looks again when it is due."""
        when = self._next_timeout()
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
            self._timer = None
        if when < inf and not self._left:
            self._timer = self._loop.call_at(when, self._due)

    def _next_timeout(self) -> float:
        when = self._response.next_timeout()
        if not self._response.begun:
            return min(when, self._begin_by)
        return when if self._refusal is None else min(when, self._refusal.until)

    def _due(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._refusal is not None and now >= self._refusal.until:
            self._refuse(self._refusal)
        elif now >= self._begin_by and not self._response.begun:
            self._response.unclear("no connection came free in time (REC-005)")
        else:
            self._response.handle_timeout(now)
        self._settle()


class _Refusal:
    """An answer that is no success, while its error object arrives."""

    def __init__(self, status: int, processed: bool, retry_after: str | None, until: float) -> None:
        self.status = status
        self.processed = processed
        self.retry_after = retry_after
        self.until = until
        self.body = bytearray()

    def add(self, data: bytes) -> bool:
        """Take octets; tell whether they are enough."""
        self.body += data[: LARGEST_ERROR - len(self.body)]
        return len(self.body) >= LARGEST_ERROR
