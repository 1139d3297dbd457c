"""The model worker's path http (chapter 22): both versions of HTTP on one port, flaws to switch on.

It shares counters with a `model_worker.Server`, whose `conformance.info` then names the port. It
shares no code with the suite or with the reference implementation.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import model_wire as w
from model_http_call import Call, Channel
from model_http_format import error_object
from model_http_h1 import H1
from model_http_h2 import H2, PREFACE
from model_http_request import Fields, RefusedError, Request, check_body, read_head
from model_subjects import SUBJECTS

if TYPE_CHECKING:
    from model_worker import Server

FIELD_TIME = 5.0


class HttpServer:
    """A listening port and what its connections share."""

    def __init__(self, core: Server) -> None:
        self.core = core
        self.flaw = core.flaw
        self.draining = False
        self.calls: set[Call] = set()
        self.connections: set[Connection] = set()
        self.empty = asyncio.Event()
        self.listener: asyncio.Server | None = None
        self.port = 0

    @property
    def max_message(self) -> int:
        """Return MAX_MESSAGE_SIZE."""
        return self.core.config.max_message

    def full(self) -> bool:
        """Tell whether MAX_CONCURRENT_REQUESTS are running."""
        most = self.core.config.max_concurrent
        return len(self.calls) >= most and not self.flaw("http-no-limit")

    def fields(self, request: Request) -> Fields:
        """Return the fields of a 200 (P1-002)."""
        type_ = request.type
        if request.format == "ndjson" and self.flaw("http-charset-everywhere"):
            type_ += "; charset=utf-8"
        fields = [("content-type", type_)]
        if not self.flaw("http-may-be-stored"):
            fields.append(("cache-control", "no-store"))
        if not self.flaw("http-proxy-may-buffer"):
            fields.append(("x-accel-buffering", "no"))
        if not self.flaw("http-does-not-vary"):
            fields.append(("vary", "accept"))
        if self.flaw("http-says-a-coding"):
            fields.append(("content-encoding", "identity"))
        return fields

    def admit(self, request: Request, channel: Channel) -> Call | None:
        """Run the handler of a request whose body is there, or refuse it."""
        try:
            check_body(self, request)
        except RefusedError as refused:
            self.refuse(refused, channel, request.subject)
            return None
        call = Call(self, request, channel)
        if request.body and self._objects(request, channel):
            return None
        self.calls.add(call)
        call.run()
        return call

    def _objects(self, request: Request, channel: Channel) -> bool:
        """Tell whether a flawed worker answers 400 to what a handler should judge."""
        if request.subject in ("conformance.echo", "conformance.sink"):
            return False
        try:
            json.loads(request.body)["ms" if request.subject == "conformance.sleep" else "count"]
        except (ValueError, KeyError, TypeError):
            if request.subject in (
                "conformance.sleep",
                "conformance.generate",
            ) and self.flaw("http-parameters-are-400"):
                refused = RefusedError(400, w.INVALID_ARGUMENT, "a parameter is missing")
                self.refuse(refused, channel, "")
                return True
        return False

    def refuse(self, refused: RefusedError, channel: Channel, subject: str) -> None:
        """Give an answer of the table in section 21.2."""
        if subject in SUBJECTS and self.flaw("http-refused-runs"):
            self.core.opened += 1
        if refused.status == 413 or refused.code == w.DRAINING:
            channel.close_after()
        error = w.CallError(refused.code, refused.text)
        body = json.dumps(error_object(error, not_processed=True)).encode()
        fields = [("content-type", "application/json"), ("wmx-not-processed", "1")]
        if self.flaw("http-refusal-in-text"):
            body, fields[0] = refused.text.encode(), ("content-type", "text/plain")
        if self.flaw("http-refusal-without-field"):
            del fields[1]
        fields += [*refused.fields, ("content-length", str(len(body)))]
        channel.start(refused.status, fields)
        channel.write(body)
        channel.finish()

    def head(self, method: str, target: str, fields: Fields) -> Request:
        """Decide about a request as far as its head tells.

        Raises:
            RefusedError: It gets another answer than 200.
        """
        return read_head(self, method, target, fields)

    async def close(self) -> None:
        """Stop at once."""
        if self.listener is not None:
            self.listener.close()
        for connection in list(self.connections):
            connection.transport.abort()
        tasks = [call.task for call in self.calls if call.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self.connections:
            await self.empty.wait()


class Connection(asyncio.Protocol):
    """One TCP connection: the first octets tell the version of HTTP."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.speaker: H1 | H2 | None = None
        self._first = b""
        self._timer: asyncio.TimerHandle | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a new connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=65_536)
        self.server.connections.add(self)
        self.server.empty.clear()
        self.server.core.everyone.add(self)  # type: ignore[arg-type]
        self.server.core.empty.clear()

    def data_received(self, data: bytes) -> None:
        """Take octets."""
        if self.speaker is None:
            self._first += data
            self.fields_begin()
            if PREFACE.startswith(self._first[: len(PREFACE)]) and len(self._first) < len(PREFACE):
                return
            kind = H2 if self._first.startswith(PREFACE) else H1
            self.speaker = kind(self)
            data = self._first
        self.speaker.feed(data)

    def fields_begin(self) -> None:
        """Arm the timer of P1-018."""
        if self._timer is None and not self.server.flaw("http-fields-at-leisure"):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(FIELD_TIME, self.transport.close)

    def fields_complete(self) -> None:
        """Disarm it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def eof_received(self) -> bool:
        """Take the end of the client's direction for the end of the connection."""
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        """Cancel what runs for this connection (P1-013)."""
        self.lost = True
        self.fields_complete()
        self.server.connections.discard(self)
        self.server.core.connection_gone(self)  # type: ignore[arg-type]
        if not self.server.connections:
            self.server.empty.set()
        if self.speaker is not None:
            self.speaker.gone()

    def pause_writing(self) -> None:
        """Stop writing: the kernel takes no more."""
        if self.speaker is not None:
            self.speaker.writable(False)

    def resume_writing(self) -> None:
        """Go on writing."""
        if self.speaker is not None:
            self.speaker.writable(True)

    def buffered(self) -> int:
        """Return octets that wait to be sent."""
        own = self.speaker.buffered() if self.speaker is not None else 0
        return own + self.transport.get_write_buffer_size()

    def drop(self) -> None:
        """Forget everything; the transport is aborted next."""


async def start(core: Server, host: str = "127.0.0.1", port: int = 0) -> HttpServer:
    """Listen beside a model worker, whose counters and flaws are shared."""
    server = HttpServer(core)
    loop = asyncio.get_running_loop()
    server.listener = await loop.create_server(lambda: Connection(server), host, port, backlog=512)
    server.port = core.ports["http"] = server.listener.sockets[0].getsockname()[1]
    return server
