"""One POST of a router, and what its answer proves.

Rules of this file: whatever happens is told to the stream as one of three things: 202, refused and
not processed, or unclear (P0-019).  Redirects are not followed, and the environment's proxies are
not used.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
from yarl import URL

from muxwire._generated import http
from muxwire._generated.registries import WCH_ANSWER_TIMEOUT_MS
from muxwire.callhome.descriptors import for_http
from muxwire.core.callhome import RouterStream
from muxwire.overhttp import LARGEST_ERROR, read_error

_LARGE = 1_048_576
"""Octets from which on the library wants to send a body in pieces."""

_SKIPPED = ("accept", "accept-encoding", "user-agent", "content-type")
"""Headers that the library would add, and that the handler would see."""


def open_session(connect_timeout: float) -> aiohttp.ClientSession:
    """Return what POSTs to any number of workers; connections are kept alive.

    Args:
        connect_timeout: Seconds until a TCP connection is there.
    """
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(_begins)
    trace.on_connection_reuseconn.append(_begins)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=for_http()),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=connect_timeout, sock_read=WCH_ANSWER_TIMEOUT_MS / 1000
        ),
        trace_configs=[trace],
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        skip_auto_headers=_SKIPPED,
    )


async def _begins(_: aiohttp.ClientSession, context: SimpleNamespace, __: Any) -> None:
    """Take that there is a connection: octets follow at once."""
    context.trace_request_ctx.posted()


async def post(
    session: aiohttp.ClientSession,
    url: str,
    headers: list[tuple[str, str]],
    body: bytes,
    stream: RouterStream,
    now: Callable[[], float],
) -> bool:
    """POST a request and tell its stream what came of it; return whether there was an answer."""
    try:
        async with session.post(
            URL(url, encoded=True),
            data=io.BytesIO(body) if len(body) > _LARGE else body,
            headers=headers,
            allow_redirects=False,
            trace_request_ctx=stream,
        ) as answer:
            if answer.status == http.ADMITTED.status:
                stream.admitted(now())
                return True
            failure = read_error(
                answer.status,
                await answer.content.read(LARGEST_ERROR),
                answer.headers.get("retry-after"),
            )
            if answer.headers.get(http.WMX_NOT_PROCESSED) == "1":
                stream.refused(*failure)
            else:
                stream.unclear(failure.message, failure.code, failure.retry_after_ms)
            return True
    except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
        stream.unclear(f"{url}: {str(error) or type(error).__name__}")
        return False
