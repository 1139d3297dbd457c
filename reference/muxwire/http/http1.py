"""Carries attempts over HTTP/1.1, by aiohttp: one connection for each, kept alive between them.

Rules of this file: redirects are not followed, the environment's proxies are not used, nothing is
decoded and nothing is sent twice.  The body is read only while the caller takes what it gets.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import SplitResult

import aiohttp
from yarl import URL

from muxwire.http.attempt import Attempt
from muxwire.http.target import Target

_LARGE = 1_048_576
"""Octets from which on the library wants to send a body in pieces."""

_SKIPPED = ("accept-encoding", "user-agent", "content-type")
"""Fields that the library would add, and that the handler would see."""


def open_session(connect_timeout: float) -> aiohttp.ClientSession:
    """Return what posts to any number of workers.

    Args:
        connect_timeout: Seconds until a TCP connection is there.
    """
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(_begins)
    trace.on_connection_reuseconn.append(_begins)
    trace.on_request_chunk_sent.append(_goes_on)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout),
        trace_configs=[trace],
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_SKIPPED,
    )


async def _begins(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    """Take that there is a connection: octets follow at once."""
    context.trace_request_ctx.begins()


async def _goes_on(
    _: aiohttp.ClientSession, context: SimpleNamespace, sent: aiohttp.TraceRequestChunkSentParams
) -> None:
    """Take that octets of the body are with the transport."""
    context.trace_request_ctx.goes_on(len(sent.chunk))


class Http1:
    """Carries attempts to one worker.

    Args:
        session: What posts.
        target: The worker.
    """

    def __init__(self, session: aiohttp.ClientSession, target: Target) -> None:
        self._session = session
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, attempt: Attempt) -> None:
        """Post it in a task of its own."""
        exchange = _Exchange(self._session, self._target, attempt)
        attempt.carrier = exchange
        self._tasks.add(exchange.task)
        exchange.task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for what was let go."""
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Exchange:
    """One POST and its answer."""

    def __init__(self, session: aiohttp.ClientSession, target: Target, attempt: Attempt) -> None:
        self._attempt = attempt
        self._target = target
        self._unsent = len(attempt.post.body)
        self._reading: asyncio.Future[None] | None = None
        self.task = asyncio.get_running_loop().create_task(self._run(session, target.url))

    def resume(self) -> None:
        """Read on, if the caller has taken enough."""
        if self._reading is not None and not self._reading.done() and not self._attempt.full:
            self._reading.set_result(None)

    def drop(self) -> None:
        """Close the connection, if the answer is not over."""
        if self.task is not asyncio.current_task():
            self.task.cancel()

    def begins(self) -> None:
        """Take that the request is going out."""
        self._attempt.posted()
        if not self._unsent:
            self._attempt.sent()

    def goes_on(self, octets: int) -> None:
        """Take that so much of the body has gone out."""
        self._unsent -= octets
        if self._unsent <= 0:
            self._attempt.sent()

    async def _run(self, session: aiohttp.ClientSession, url: SplitResult) -> None:
        attempt = self._attempt
        post = attempt.post
        where = f"{url.scheme}://{url.netloc}"
        try:
            async with session.post(
                URL(where + post.path, encoded=True),
                data=io.BytesIO(post.body) if len(post.body) > _LARGE else post.body,
                headers=post.fields,
                allow_redirects=False,
                trace_request_ctx=self,
            ) as answer:
                self._target.reached()
                attempt.answered(answer.status, answer.headers.get)
                with _ending(answer) as body:
                    try:
                        await self._read(body)
                    finally:
                        if not body.at_eof():
                            answer.close()
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            if not attempt.begun and isinstance(error, OSError):
                self._target.unreachable()
            attempt.cut(f"{where}: {str(error) or type(error).__name__}")

    async def _read(self, body: aiohttp.StreamReader) -> None:
        """Read the body, as far as it is wanted."""
        attempt = self._attempt
        while not attempt.over:
            try:
                data = await body.readany()
            except (aiohttp.ClientError, OSError):
                body.set_exception(None)  # type: ignore[arg-type]  # it hides what came before
                attempt.receive(body.read_nowait())
                raise
            if not data:
                attempt.ended()
                return
            attempt.receive(data)
            if attempt.full:
                self._reading = asyncio.get_running_loop().create_future()
                await self._reading


@contextmanager
def _ending(answer: aiohttp.ClientResponse) -> Iterator[aiohttp.StreamReader]:
    """Let a body end with its connection: the library forgets one behind a malformed chunk."""
    body = answer.content

    def closed(_: object) -> None:
        if not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("the body is malformed"))

    connection = answer.connection
    protocol = None if connection is None else connection.protocol
    if protocol is None:  # it is over already
        yield body
    elif (future := protocol.closed) is None:
        closed(None)
        yield body
    else:
        future.add_done_callback(closed)
        try:
            yield body
        finally:
            future.remove_done_callback(closed)
