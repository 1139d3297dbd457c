"""The three grammars of a response, written: from items and an end to octets (section 22.3).

Rules of this file: a writer is told what happens in the order in which it happens and returns the
octets of it at once.  It counts the items.  The binary format takes its frames from the queue that
the other paths use, without credit.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ERROR, HTTP_CHUNK, MAX_SEQ
from muxwire.core.flow import SendCredit
from muxwire.core.http.reading import is_json
from muxwire.core.metadata import Header, response_metadata
from muxwire.core.sendqueue import EXHAUSTED, Buffer, SendQueue
from muxwire.core.worker import error_body
from muxwire.http.negotiation import BINARY, NDJSON, SSE
from muxwire.overhttp import JSON, error_object

_UNBOUNDED = 1 << 62
"""Credit where there is none."""

_BREAKS = bytes.maketrans(b"\r\n", b"  ")


class Failure(Exception):  # noqa: N818 - it is what an error event says
    """How a request has failed."""

    def __init__(
        self,
        code: int,
        message: str = "",
        *,
        detail: bytes = b"",
        retry_after_ms: int = 0,
        flags: int = 0,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.detail = detail
        self.retry_after_ms = retry_after_ms
        self.flags = flags


class Writer(Protocol):
    """What all formats have in common.

    Attributes:
        items: Number of items so far.
        heartbeat: The octets of a heartbeat.
    """

    items: int
    heartbeat: ClassVar[bytes]

    def headers(self, headers: Sequence[Header]) -> bytes:
        """Take the response headers: they say what the handler declares its items to be."""

    def item(self, data: bytes) -> bytes:
        """Return an item.

        Raises:
            Exhausted: the format has no number for it.
        """

    def done(self, trailers: Sequence[Header]) -> bytes:
        """Return the end of a whole response."""

    def failed(self, failure: Failure) -> bytes:
        """Return the end of a response that has failed."""


class Exhausted(Exception):  # noqa: N818 - nothing is wrong
    """No sequence number is left (FRM-010)."""


def writer(format_: str, request_id: bytes) -> Writer:
    """Return the writer of a format.

    Args:
        format_: Its name in the table.
        request_id: The id of its frames, if it is binary.
    """
    return BinaryWriter(request_id) if format_ == BINARY else _TEXT[format_]()


class _TextWriter:
    """SSE and NDJSON: an item is a JSON value, or base64 (P1-008)."""

    __slots__ = ("_declared", "items")

    heartbeat: ClassVar[bytes]
    _json: ClassVar[bytes]
    _bin: ClassVar[bytes]

    def __init__(self) -> None:
        self.items = 0
        self._declared = False

    def headers(self, headers: Sequence[Header]) -> bytes:
        for name, value in headers:
            if name == b"content-type":
                media_type = value.partition(b";")[0].strip().lower()
                self._declared = media_type == JSON.encode()
        return b""

    def item(self, data: bytes) -> bytes:
        number = self.items
        self.items = number + 1
        if self._declared and is_json(data):
            return self._json % (number, data.translate(_BREAKS))
        return self._bin % (number, b64encode(data))

    def done(self, trailers: Sequence[Header]) -> bytes:
        texts = {name.decode(): value.decode() for name, value in trailers}
        return self._end("done", {"items": self.items, "trailers": texts})

    def failed(self, failure: Failure) -> bytes:
        members = error_object(failure.code, failure.message, failure.retry_after_ms)
        return self._end("error", {**members, "items": self.items})

    def _end(self, event: str, members: dict[str, Any]) -> bytes:
        raise NotImplementedError


class SseWriter(_TextWriter):
    """Server-sent events (P1-005)."""

    __slots__ = ()

    heartbeat: ClassVar[bytes] = b": hb\n\n"
    _json = b"id: %d\nevent: item\ndata: %b\n\n"
    _bin = b"id: %d\nevent: bin\ndata: %b\n\n"

    def _end(self, event: str, members: dict[str, Any]) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (event.encode(), _text(members))


class NdjsonWriter(_TextWriter):
    """One JSON object to a line (P1-006)."""

    __slots__ = ()

    heartbeat: ClassVar[bytes] = b'{"t":"hb"}\n'
    _json = b'{"t":"item","seq":%d,"data":%b}\n'
    _bin = b'{"t":"bin","seq":%d,"b64":"%b"}\n'

    def _end(self, event: str, members: dict[str, Any]) -> bytes:
        return _text({"t": event, **members}) + b"\n"


class BinaryWriter:
    """Frames of WMX/1 (P1-007)."""

    __slots__ = ("_credit", "_queue", "items")

    heartbeat: ClassVar[bytes] = codec.encode_ping(bytes(8))

    def __init__(self, request_id: bytes) -> None:
        self.items = 0
        self._queue = SendQueue(request_id, _UNBOUNDED, codec.response_header)
        self._credit = SendCredit(_UNBOUNDED)

    def headers(self, headers: Sequence[Header]) -> bytes:
        """Return the response headers."""
        self._queue.push(response_metadata(headers), b"")
        return self._frames()

    def item(self, data: bytes) -> bytes:
        """Return an item."""
        queue = self._queue
        if len(data) <= HTTP_CHUNK and queue.seq < MAX_SEQ:
            octets = codec.response_header(0, queue.seq, len(data), queue.request_id) + data
            queue.seq += 1
        else:
            queue.push(b"", data)
            octets = self._frames()
        self.items += 1
        return octets

    def done(self, trailers: Sequence[Header]) -> bytes:
        """Return the end of a whole response."""
        queue = self._queue
        if trailers:
            if not queue.seq:  # TYP-005: at seq 0 the block would hold headers
                queue.push(response_metadata(()), b"")
            queue.push(response_metadata(trailers), b"", END_STREAM)
        else:
            queue.push(b"", b"", END_STREAM)
        return self._frames()

    def failed(self, failure: Failure) -> bytes:
        """Return the end of a response that has failed."""
        body = error_body(
            failure.code, failure.flags, failure.retry_after_ms, failure.message, failure.detail
        )
        self._queue.push(b"", body, END_STREAM | ERROR)
        return self._frames()

    def _frames(self) -> bytes:
        parts: list[Buffer] = []
        queue = self._queue
        while queue.entries:
            if queue.take(parts, self._credit, HTTP_CHUNK) == EXHAUSTED:
                queue.discard()
                raise Exhausted
        return b"".join(parts)


_TEXT: dict[str, type[SseWriter | NdjsonWriter]] = {SSE: SseWriter, NDJSON: NdjsonWriter}


def _text(members: dict[str, Any]) -> bytes:
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode()
