"""The worker's side of the HTTP path.

Rules of this file: it adds a path to a `muxwire.Worker` and shares its handlers, its statistics and
its limits.  `app` is the path as an ASGI application; `start` serves it, and nothing else does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette

from muxwire import conformance_subjects
from muxwire._generated.registries import HTTP_PORT, HTTP_WRITE_STALL_MS
from muxwire.core.counters import Counters
from muxwire.errors import InvalidArgument
from muxwire.handlers import Handler, encode_text
from muxwire.http import negotiation, writers
from muxwire.http.endpoint import Endpoint, Posted
from muxwire.http.exchange import Exchange
from muxwire.http.response import Response
from muxwire.http.server import Server
from muxwire.tcp.address import render
from muxwire.tcp.runner import Runner, Running
from muxwire.tcp.worker import Worker

ROOT = "/v1/rpc/response"
ROOT_VARIABLE = "DYN_HTTP_RESPONSE_ROOT_PATH"
PORT_VARIABLE = "DYN_HTTP_RESPONSE_PORT"
_HANG_UP = 0.1
FORMAT_VARIABLE = "DYN_HTTP_RESPONSE_STREAM_FORMAT"


class HttpPath:
    """Serves the handlers of a worker over HTTP, with the response as the body of the answer.

    Use `start`, or give `app` to a server for ASGI; the worker's `drain` and `close` end it.  It
    needs the extra `http`.

    Args:
        worker: Whose handlers are served.
        root: The path in front of the subject; from the environment by default.
        default_format: The format for who has no preference: `sse`, `ndjson` or `binary`; from the
            environment by default.
        write_stall: Seconds without an octet written after which an answer is aborted (P1-017), and
            without one read after which a request is refused.

    Attributes:
        app: The path as an ASGI application; mount it where you like.

    Raises:
        InvalidArgument: the root, the format or the time is not what it has to be.
    """

    name = "http"

    def __init__(
        self,
        worker: Worker,
        *,
        root: str | None = None,
        default_format: str | None = None,
        write_stall: float = HTTP_WRITE_STALL_MS / 1000,
    ) -> None:
        if write_stall <= 0.0:
            raise InvalidArgument("write_stall is not above 0 (P1-017)")
        self.config = worker.config
        self.counters = Counters()
        self.root = _root(os.environ.get(ROOT_VARIABLE, ROOT) if root is None else root)
        self.default_format = negotiation.check_format(
            os.environ.get(FORMAT_VARIABLE) or negotiation.DEFAULT
            if default_format is None
            else default_format
        )
        self.write_stall = write_stall
        self.draining = False
        self._worker = worker
        self._runner: Runner | None = None
        self._exchanges: dict[Running, Exchange] = {}
        self._empty = asyncio.Event()
        self._server: Server | None = None
        self.app = Starlette(lifespan=self._lifespan)
        self.app.router.default = Endpoint(self)
        worker.paths.append(self)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen for HTTP/1.1 and HTTP/2; port 0 takes a free port, see `addresses`.

        Raises:
            OSError: the address cannot be listened on.
        """
        self._server = Server(self.app, self.config.settings.max_concurrent_requests)
        await self._server.listen(host, port)

    @property
    def addresses(self) -> list[str]:
        """The addresses listened on, as `host:port`."""
        return [] if self._server is None else [render(*name) for name in self._server.names]

    @property
    def port(self) -> int:
        """The port listened on; 0 if another server does it."""
        names = [] if self._server is None else self._server.names
        return names[0][1] if names else 0

    async def drain(self, grace: float) -> None:
        """Answer DRAINING, let what runs end within `grace` seconds, close."""
        self.draining = True
        if not await self._over_within(grace):
            for exchange in [*self._exchanges.values()]:
                exchange.shut_down()
            if not await self._over_within(self.config.linger):
                for exchange in [*self._exchanges.values()]:
                    exchange.abort()
        if self._server is not None:
            await self._server.close(self.config.linger)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """End the worker with the server that serves the application."""
        try:
            yield
        finally:
            await self._worker.drain()

    async def _over_within(self, seconds: float) -> bool:
        if self._exchanges:
            self._empty.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._empty.wait()
        return not self._exchanges

    # -- what the endpoint asks

    def handler(self, subject: str) -> Handler | None:
        """Return the handler of a subject."""
        return self._worker.subjects.get(encode_text(subject))

    def enter(self) -> bool:
        """Take a place; False if there is none (ADM-002)."""
        worker = self._worker
        most = self.config.settings.max_concurrent_requests
        if worker.posted >= most or worker.statistics.full:
            return False
        worker.posted += 1
        return True

    def leave(self) -> None:
        """Give back a place."""
        self._worker.posted -= 1

    def refused(self, code: int) -> None:
        """Count a request that no handler has seen."""
        self.counters.request_ended(b"", code)

    def closes(self, subject: str) -> bool:
        """Tell whether the connection is to be closed behind the answer."""
        return self.draining or subject == conformance_subjects.DRAIN

    def hang_up(self, peer: tuple[str, int]) -> None:
        """End the connection of a client that asked for a drain; its answer has time to go out.

        HTTP/1.1 says it in a field, and ASGI has no word for HTTP/2.
        """
        if self._server is not None:
            asyncio.get_running_loop().call_later(_HANG_UP, self._server.hang_up, peer)

    def admit(self, posted: Posted) -> Exchange:
        """Run the handler."""
        if self._runner is None:
            self._runner = Runner(self._worker.tasks, self._ended, lambda: None)
        stats = posted.subject == conformance_subjects.STATS
        response = Response(
            writers.writer(posted.choice.format, posted.request_id),
            self.config,
            asyncio.get_running_loop().time(),
            request_id=posted.request_id,
            timeout_ms=posted.fields.timeout_ms,
            heartbeat_ms=posted.fields.heartbeat_ms,
            statistics=None if stats else self._worker.statistics,
        )
        if posted.subject == conformance_subjects.ECHO:  # section 22.7
            response.send_headers([(b"content-type", posted.media_type.encode())])
        exchange = Exchange(
            response,
            posted.fields,
            posted.request_id,
            posted.subject,
            posted.body,
            posted.handler,
            self._over,
        )
        self._exchanges[exchange.running] = exchange
        self._worker.running_handlers += 1
        self._runner.start(exchange.running)
        return exchange

    # -- what happens

    def _ended(self, running: Running) -> None:
        self._worker.running_handlers -= 1
        self._exchanges[running].handler_ended()

    def _over(self, exchange: Exchange) -> None:
        del self._exchanges[exchange.running]
        self.counters.request_ended(exchange.subject, exchange.response.code)
        self.leave()
        if not self._exchanges:
            self._empty.set()

    # -- what the metrics ask, from whatever thread

    role = "worker"

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that it runs in."""
        return self._worker.loop

    @property
    def connections_open(self) -> int:
        """Answers that are being written."""
        return len(self._exchanges)

    def open_subjects(self) -> list[bytes]:
        """Return the subject of each request that is not over."""
        return [one.subject for one in [*self._exchanges.values()]]

    # -- what the conformance subjects ask

    def connections(self) -> int:
        """Return the number of answers that are being written."""
        return len(self._exchanges)

    def buffered_bytes(self) -> int:
        """Return the octets that are produced and not handed to the server."""
        return sum(one.response.buffered for one in self._exchanges.values())


def default_port(environ: Mapping[str, str]) -> int:
    """Return the port to listen on when none is given.

    Raises:
        InvalidArgument: the variable of the environment is no port.
    """
    text = environ.get(PORT_VARIABLE) or str(HTTP_PORT)
    if not text.isascii() or not text.isdecimal() or int(text) > 65_535:
        raise InvalidArgument(f"{PORT_VARIABLE}: {text!r} is not a port")
    return int(text)


def _root(text: str) -> str:
    """Return a root with a slash in front and none behind; nothing for "/", below a mount."""
    root = "/" + text.strip("/") if text.strip("/") else ""
    if "//" in root or any(ord(one) <= 32 or one in "?#%" for one in root):
        raise InvalidArgument(f"{ROOT_VARIABLE}: {text!r} is not a path such as {ROOT}")
    return root
