"""One attempt of a request: its way out as a POST, and the response that comes home.

Rules of this file: a target is one worker, as a flight sees it, and makes a journey of each
attempt.  A journey lives as long as its token means something.
"""

from __future__ import annotations

import asyncio
import os
import urllib.parse
from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING

from muxwire._generated.registries import WCH_MAX_MESSAGE_SIZE
from muxwire.callhome.fields import write
from muxwire.callhome.post import post
from muxwire.core.callhome import RouterStream
from muxwire.core.events import (
    Event,
    MessageReceived,
    ResponseFailed,
    ResponseFinished,
    ResponseHeaders,
)
from muxwire.core.metadata import open_metadata
from muxwire.core.recovery import Backoff
from muxwire.errors import MessageTooLarge, RequestClosed
from muxwire.tcp.alarm import Alarm
from muxwire.tcp.link import request_failed
from muxwire.tcp.posting import prefix
from muxwire.tcp.stream import Sink

if TYPE_CHECKING:
    from muxwire.callhome.client import Client

ROOT = "/v1/rpc"


class Target:
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
        self._prefix = prefix(target, ROOT)
        self._backoff = Backoff(client.uniform, *client.backoff)
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

    def __init__(self, client: Client, target: Target, stream: RouterStream, sink: Sink) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._target = target
        self._sink = sink
        self._alarm = Alarm(self._due)
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
        self._forget()

    def arm(self) -> None:
        """Arm the one timer of the stream, or forget a stream that is over."""
        if self.stream.forgotten and self.over.done():
            self._forget()
        else:
            self._alarm.set(self.stream.next_timeout())

    def _due(self) -> None:
        self.stream.handle_timeout(self._loop.time())
        self.settle()

    def _end(self) -> None:
        if not self.over.done():
            self.over.set_result(None)
            self._target.open_requests -= 1

    def _forget(self) -> None:
        self._alarm.off()
        self._client.listener.forget(self.stream)
        self._client.journeys.pop(self.stream.request_id, None)
