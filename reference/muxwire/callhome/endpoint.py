"""The HTTP endpoint of a call-home worker: from a POST to a handler that runs.

Rules of this file: what is wrong with a request is decided in the order of the table of section
21.2, and a refusal says `wmx-not-processed` exactly when no handler has seen the request.  A place
is taken before the body is read and belongs to the request until it is over.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from aiohttp import web

from muxwire import overhttp
from muxwire._generated import http
from muxwire.callhome import fields
from muxwire.core.config import Config
from muxwire.core.metadata import open_metadata
from muxwire.errors import InvalidArgument
from muxwire.handlers import Handler
from muxwire.overhttp import Refusal

logger = logging.getLogger("muxwire.worker")

FIELD_LIMIT = 65_536
"""Octets that a line or a field of a request may have."""


class Posted(NamedTuple):
    """A request that is to be admitted."""

    subject: str
    handler: Handler
    fields: fields.Fields
    body: bytes


class Gate(Protocol):
    """What the endpoint asks of the worker behind it."""

    config: Config
    draining: bool

    @property
    def crowded(self) -> bool:
        """Whether HTTP connections are to be closed behind their answers."""

    def handler(self, subject: str) -> Handler | None:
        """Return the handler of a subject."""

    def allows(self, host: fields.Address, peer: str) -> bool:
        """Tell whether a host may be dialled for this HTTP peer (P0-016)."""

    def enter(self, stream: bytes) -> http.Answer | None:
        """Take a place for a stream, or say why there is none."""

    def refused(self, code: int) -> None:
        """Count a request that no handler has seen."""

    def leave(self, stream: bytes) -> None:
        """Give back the place of a stream that was not admitted."""

    def admit(self, posted: Posted) -> None:
        """Run the handler and deliver its response."""


def server(gate: Gate, root: str) -> web.Server:
    """Return what makes a protocol for each HTTP connection.

    Args:
        gate: The worker behind it.
        root: The path in front of the subject.
    """
    return web.Server(
        _handle(gate, root),
        access_log=None,
        max_line_size=FIELD_LIMIT,
        max_field_size=FIELD_LIMIT,
    )


def _handle(gate: Gate, root: str) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        try:
            await _take(gate, root, request)
            response = web.Response(status=http.ADMITTED.status)
        except Refusal as refusal:
            gate.refused(refusal.answer.code)
            response = _answer(refusal)
        except ConnectionError:  # the router is gone: nobody reads the answer
            return web.Response(status=http.BROKEN.status)
        except Exception:
            logger.exception("a POST could not be answered")
            response = _answer(Refusal(http.BROKEN, "the worker failed"))
        if gate.crowded:
            response.force_close()
        return response

    return handle


async def _take(gate: Gate, root: str, request: web.BaseRequest) -> None:
    subject = overhttp.subject(root, request.rel_url.raw_path)
    if request.method != "POST":
        raise Refusal(http.METHOD, "the method is POST")
    if gate.draining:
        raise Refusal(http.DRAINING, "CLS-004")
    found = _fields(gate, subject, request)
    peer = request.transport.get_extra_info("peername") if request.transport else None
    if not gate.allows(found.host, peer[0] if peer else ""):
        raise Refusal(http.FORBIDDEN, "P0-016")
    media_type = overhttp.check_media_type(
        request.headers.get("content-type"), request.headers.get("content-encoding")
    )
    handler = gate.handler(subject)
    answer = gate.enter(found.stream)
    if answer is http.DUPLICATE:
        raise Refusal(answer, "P0-017")
    try:
        if handler is None:
            raise Refusal(http.NOT_FOUND, "PAY-004")
        if answer is not None:
            raise Refusal(answer, "ADM-002", gate.config.retry_after_ms)
        body = await _body(request, gate.config.settings.max_message_size)
        overhttp.check_body(media_type, body)
        if gate.draining:
            raise Refusal(http.DRAINING, "CLS-004")
    except BaseException:
        if answer is None:
            gate.leave(found.stream)
        raise
    gate.admit(Posted(subject, handler, found, body))


def _fields(gate: Gate, subject: str, request: web.BaseRequest) -> fields.Fields:
    try:
        found = fields.read([*request.raw_headers])
        name = subject.encode(errors="surrogateescape")
        block = open_metadata(found.timeout_ms, 0, name, found.headers)  # PAY-004, PAY-005
    except InvalidArgument as error:
        raise Refusal(http.MALFORMED, str(error)) from None
    if len(block) > gate.config.settings.max_metadata_size:
        raise Refusal(http.MALFORMED, "PAY-003")
    return found


async def _body(request: web.BaseRequest, most: int) -> bytes:
    """Read the request message."""
    if (request.content_length or 0) > most:
        raise Refusal(http.TOO_LARGE, "MSG-003")
    if request.headers.get("expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > most:
            raise Refusal(http.TOO_LARGE, "MSG-003")
    return bytes(body)


def _answer(refusal: Refusal) -> web.Response:
    """Return an answer with an error object."""
    response = web.Response(
        body=refusal.body(), status=refusal.answer.status, headers=refusal.fields()
    )
    if refusal.answer is http.DRAINING:
        response.force_close()
    return response
