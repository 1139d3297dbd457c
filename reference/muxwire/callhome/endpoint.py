"""The HTTP endpoint of a call-home worker: from a POST to a handler that runs.

Rules of this file: what is wrong with a request is decided in the order of the table of section
21.2, and a refusal says `wmx-not-processed` exactly when no handler has seen the request.  A place
is taken before the body is read and belongs to the request until it is over.
"""

from __future__ import annotations

import json
import logging
import urllib.parse
from collections.abc import Awaitable, Callable
from math import ceil
from typing import NamedTuple, Protocol

from aiohttp import web

from muxwire._generated import http
from muxwire._generated.registries import MAX_ERROR_MESSAGE, ErrorCode
from muxwire.callhome import fields
from muxwire.core.config import Config
from muxwire.core.metadata import open_metadata
from muxwire.errors import InvalidArgument
from muxwire.handlers import Handler

logger = logging.getLogger("muxwire.worker")

FIELD_LIMIT = 65_536
"""Octets that a line or a field of a request may have."""

_JSON = "application/json"
_MEDIA_TYPES = (_JSON, "application/octet-stream")


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

    def leave(self, stream: bytes) -> None:
        """Give back the place of a stream that was not admitted."""

    def admit(self, posted: Posted) -> None:
        """Run the handler and deliver its response."""


class _Refusal(Exception):  # noqa: N818 - it is an answer
    """An answer other than 202."""

    def __init__(self, answer: http.Answer, message: str, retry_after_ms: int = 0) -> None:
        super().__init__(message)
        self.answer = answer
        self.message = message
        self.retry_after_ms = retry_after_ms


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
        except _Refusal as refusal:
            response = _answer(refusal)
        except ConnectionError:  # the router is gone: nobody reads the answer
            return web.Response(status=http.BROKEN.status)
        except Exception:
            logger.exception("a POST could not be answered")
            response = _answer(_Refusal(http.BROKEN, "the worker failed"))
        if gate.crowded:
            response.force_close()
        return response

    return handle


async def _take(gate: Gate, root: str, request: web.BaseRequest) -> None:
    subject = _subject(root, request.rel_url.raw_path)
    if request.method != "POST":
        raise _Refusal(http.METHOD, "the method is POST")
    if gate.draining:
        raise _Refusal(http.DRAINING, "CLS-004")
    found = _fields(gate, subject, request)
    peer = request.transport.get_extra_info("peername") if request.transport else None
    if not gate.allows(found.host, peer[0] if peer else ""):
        raise _Refusal(http.FORBIDDEN, "P0-016")
    _check_media_type(request)
    handler = gate.handler(subject)
    answer = gate.enter(found.stream)
    if answer is http.DUPLICATE:
        raise _Refusal(answer, "P0-017")
    try:
        if handler is None:
            raise _Refusal(http.NOT_FOUND, "PAY-004")
        if answer is not None:
            raise _Refusal(answer, "ADM-002", gate.config.retry_after_ms)
        body = await _body(request, gate.config.settings.max_message_size)
        if gate.draining:
            raise _Refusal(http.DRAINING, "CLS-004")
    except BaseException:
        if answer is None:
            gate.leave(found.stream)
        raise
    gate.admit(Posted(subject, handler, found, body))


def _subject(root: str, path: str) -> str:
    """Return the one segment behind the root."""
    before, separator, segment = path.rpartition("/")
    if before != root or not separator or not segment:
        raise _Refusal(http.WRONG_PATH, "no such path")
    return urllib.parse.unquote(segment, errors="surrogateescape")


def _fields(gate: Gate, subject: str, request: web.BaseRequest) -> fields.Fields:
    try:
        found = fields.read([*request.raw_headers])
        name = subject.encode(errors="surrogateescape")
        block = open_metadata(found.timeout_ms, 0, name, found.headers)  # PAY-004, PAY-005
    except InvalidArgument as error:
        raise _Refusal(http.MALFORMED, str(error)) from None
    if len(block) > gate.config.settings.max_metadata_size:
        raise _Refusal(http.MALFORMED, "PAY-003")
    return found


def _check_media_type(request: web.BaseRequest) -> None:
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    declared = request.headers.get("content-type")
    if coding != "identity" or (
        declared is not None and declared.partition(";")[0].strip().lower() not in _MEDIA_TYPES
    ):
        raise _Refusal(http.MEDIA_TYPE, "the body is JSON or octets, and not encoded")


async def _body(request: web.BaseRequest, most: int) -> bytes:
    """Read the request message."""
    if (request.content_length or 0) > most:
        raise _Refusal(http.TOO_LARGE, "MSG-003")
    if request.headers.get("expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    body = bytearray()
    async for piece in request.content.iter_any():
        body += piece
        if len(body) > most:
            raise _Refusal(http.TOO_LARGE, "MSG-003")
    if request.content_type == _JSON:
        try:
            json.loads(body)
        except (ValueError, RecursionError):
            raise _Refusal(http.PARAMETERS, "the body is not JSON") from None
    return bytes(body)


def _answer(refusal: _Refusal) -> web.Response:
    """Return an answer with an error object."""
    answer, hint = refusal.answer, refusal.retry_after_ms
    message = refusal.message.encode(errors="replace")[:MAX_ERROR_MESSAGE]
    members = {
        "code": ErrorCode(answer.code).name,
        "num": answer.code,
        "message": message.decode(errors="ignore"),
        "not_processed": answer.not_processed,
        "retry_after_ms": hint,
    }
    headers: dict[str, str] = {}
    if answer.not_processed:
        headers[http.WMX_NOT_PROCESSED] = "1"
    if answer is http.METHOD:
        headers["allow"] = "POST"
    if answer is http.OVERLOADED:
        headers["retry-after"] = str(max(1, ceil(hint / 1000)))
    response = web.Response(
        body=json.dumps(members).encode(), status=answer.status, headers=headers, content_type=_JSON
    )
    if answer is http.DRAINING:
        response.force_close()
        response.headers["connection"] = "close"
    return response
