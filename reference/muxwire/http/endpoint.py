"""The ASGI endpoint of the HTTP path: from a POST to a handler that runs, and its answer.

Rules of this file: what is wrong with a request is decided in the order of the table of section
21.2.  A place is taken before the body is read and belongs to the request until it is over.  An
answer that cannot be brought to its end is left without one (P1-012).
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import NamedTuple, Protocol
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from muxwire import overhttp
from muxwire._generated import http
from muxwire._generated.registries import HTTP_MAX_HEADER_SIZE, ErrorCode
from muxwire.conformance_subjects import DRAIN
from muxwire.core.config import Config
from muxwire.core.metadata import open_metadata
from muxwire.errors import InvalidArgument
from muxwire.handlers import Handler
from muxwire.http import fields
from muxwire.http.answer import STALLED, answer
from muxwire.http.exchange import Exchange
from muxwire.http.negotiation import Choice, negotiate
from muxwire.overhttp import Refusal

logger = logging.getLogger("muxwire.worker")

_FIELDS_TOO_LARGE = http.Answer(431, ErrorCode.INVALID_ARGUMENT, True)


class Posted(NamedTuple):
    """A request that is to be admitted."""

    subject: str
    handler: Handler
    fields: fields.Fields
    media_type: str
    choice: Choice
    request_id: bytes
    body: bytes


class Gate(Protocol):
    """What the endpoint asks of the worker behind it."""

    config: Config
    root: str
    default_format: str
    write_stall: float
    draining: bool

    def handler(self, subject: str) -> Handler | None:
        """Return the handler of a subject."""

    def enter(self) -> bool:
        """Take a place; False if there is none."""

    def leave(self) -> None:
        """Give back the place of a request that was not admitted."""

    def refused(self, code: int) -> None:
        """Count a request that no handler has seen."""

    def closes(self, subject: str) -> bool:
        """Tell whether the connection is to be closed behind the answer."""

    def hang_up(self, peer: tuple[str, int]) -> None:
        """End the connection of a client behind its answer."""

    def admit(self, posted: Posted) -> Exchange:
        """Run the handler."""


class Endpoint:
    """An ASGI application that serves one worker.

    Args:
        gate: The worker behind it.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        try:
            posted = await self._take(Request(scope, receive))
        except Refusal as refusal:
            await self._refuse(refusal)(scope, receive, send)
        except ClientDisconnect:
            pass
        except Exception:
            logger.exception("a POST could not be answered")
            await self._refuse(Refusal(http.BROKEN, "the worker failed"))(scope, receive, send)
        else:
            await self._respond(posted, scope, receive, send)

    def _refuse(self, refusal: Refusal) -> Response:
        """Return an answer with an error object."""
        self._gate.refused(refusal.answer.code)
        return Response(refusal.body(), refusal.answer.status, refusal.fields())

    async def _respond(self, posted: Posted, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = self._gate.admit(posted)
        close = self._gate.closes(posted.subject)
        response = answer(exchange, posted.choice, self._gate.write_stall, close=close)
        try:
            await response(scope, receive, send)
        except STALLED:
            logger.warning("a client took nothing for %g s (P1-017)", self._gate.write_stall)
        except asyncio.CancelledError:
            if not exchange.aborted:
                raise
        finally:
            exchange.leave()
        if posted.subject == DRAIN and scope["http_version"] == "2":
            host, port = scope["client"]
            self._gate.hang_up((host, int(port)))

    async def _take(self, request: Request) -> Posted:
        """Judge a request.

        Raises:
            Refusal: It is not admitted.
            ClientDisconnect: There is nobody to answer.
        """
        gate = self._gate
        scope = request.scope
        subject = overhttp.subject(gate.root, _path(scope))
        if scope["method"] != "POST":
            raise Refusal(http.METHOD, "the method is POST")
        if gate.draining:
            raise Refusal(http.DRAINING, "CLS-004")
        found = self._fields(subject, scope)
        if found.resumes:
            raise Refusal(http.RESUMED, "P1-019: a response cannot be resumed")
        choice = negotiate(found.accept, gate.default_format)
        if choice is None:
            own = ", ".join(types[0] for types in http.FORMATS.values())
            raise Refusal(http.NOT_ACCEPTABLE, f"the formats are {own}")
        media_type = overhttp.check_media_type(found.content_type, found.content_encoding)
        handler = gate.handler(subject)
        if handler is None:
            raise Refusal(http.NOT_FOUND, "PAY-004")
        if not gate.enter():
            raise Refusal(http.OVERLOADED, "ADM-002", gate.config.retry_after_ms)
        try:
            most = gate.config.settings.max_message_size
            body = await _body(request, found, most, gate.write_stall)
            overhttp.check_body(media_type, body)
            if gate.draining:
                raise Refusal(http.DRAINING, "CLS-004")
        except BaseException:
            gate.leave()
            raise
        request_id = found.request_id or os.urandom(16)
        return Posted(subject, handler, found, media_type, choice, request_id, body)

    def _fields(self, subject: str, scope: Scope) -> fields.Fields:
        raw = scope["headers"]
        if fields.size(raw) > HTTP_MAX_HEADER_SIZE:
            raise Refusal(_FIELDS_TOO_LARGE, "P1-018")
        try:
            found = fields.read(raw)
            name = subject.encode(errors="surrogateescape")
            block = open_metadata(found.timeout_ms, 0, name, found.headers)  # PAY-004, PAY-005
        except InvalidArgument as error:
            raise Refusal(http.MALFORMED, str(error)) from None
        if len(block) > self._gate.config.settings.max_metadata_size:
            raise Refusal(http.MALFORMED, "PAY-003")
        return found


def _path(scope: Scope) -> str:
    """Return the path behind that of the mount, with its escapes as they came."""
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else raw.decode("latin-1")
    return path.partition("?")[0].removeprefix(quote(scope.get("root_path", "")))


async def _body(request: Request, found: fields.Fields, most: int, patience: float) -> bytes:
    """Read the request message; a client that sends nothing for too long keeps no place."""
    if found.content_length > most:
        raise Refusal(http.TOO_LARGE, "MSG-003")
    body = bytearray()
    pieces = request.stream()
    try:
        while True:
            async with asyncio.timeout(patience):
                body += await anext(pieces)
            if len(body) > most:
                raise Refusal(http.TOO_LARGE, "MSG-003")
    except TimeoutError:
        raise Refusal(http.MALFORMED, f"no octet of the body came for {patience:g} s") from None
    except StopAsyncIteration:
        return bytes(body)
