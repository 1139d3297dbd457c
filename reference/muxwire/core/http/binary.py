"""Reads frames of WMX/1 that follow each other without a preface (P1-022).

Rules of this file: the first RESPONSE gives the request id.  Besides RESPONSE there are heartbeats
(PING, which is not answered) and ignorable frames; nothing at all stands behind the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator

from muxwire._generated import codec
from muxwire._generated.registries import (
    END_STREAM,
    ERROR,
    HTTP_CHUNK,
    META,
    MORE,
    WCH_MAX_METADATA_SIZE,
)
from muxwire.core.http.reading import Done, Event, Failed, Headers, fault, out_of_order
from muxwire.core.messages import Reassembly, check_size, response_is_silent
from muxwire.core.metadata import Header


class BinaryReader:
    """Reads the body of one response.

    Args:
        limit: The largest item in octets.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._decoder = codec.FrameDecoder(codec.WCH_ROUTER, HTTP_CHUNK + WCH_MAX_METADATA_SIZE)
        self._request_id = b""
        self._next = 0  # the seq of the next frame
        self._reassembly: Reassembly | None = None
        self._over = False

    def read(self, data: bytes) -> Iterator[Event]:
        """Yield what is complete with these octets; see `Reader`."""
        self._check_over(bool(data))
        self._decoder.feed(data)
        limit = self._limit
        for kind, flags, seq, request_id, payload in self._decoder.frames():
            self._check_over(True)
            if kind != codec.RESPONSE:
                if kind not in (codec.PING, codec.EXTENSION):
                    raise fault(f"there is a {codec.KIND_NAMES[kind]}")
                continue
            if seq != self._next:
                raise out_of_order(str(seq), self._next)
            if request_id != self._request_id:
                self._take_id(request_id)
            self._next = seq + 1
            if not flags and self._reassembly is None and len(payload) <= limit:
                yield payload
            else:
                yield from self._other(flags, not seq, payload)
        self._check_over(self._decoder.mid_frame)

    def _check_over(self, more: bool) -> None:
        if self._over and more:
            raise fault("there are octets behind the terminal")

    def _take_id(self, request_id: bytes) -> None:
        if self._request_id:
            raise fault("a RESPONSE has another request id")
        self._request_id = request_id

    def _other(self, flags: int, first: bool, payload: bytes) -> Iterator[Event]:
        if flags & ERROR:
            body = codec.decode_error_body(payload)
            self._over = True
            yield Failed(
                None,
                body.code,
                body.message.decode(errors="replace"),
                body.retry_after_ms,
                body.error_flags,
                body.detail,
            )
            return
        trailers: list[Header] = []
        if flags & META:
            meta, payload = codec.decode_response_meta(payload, WCH_MAX_METADATA_SIZE)
            if first:  # TYP-005: also with END_STREAM
                yield Headers(meta)
            else:
                trailers = meta
        message = self._assemble(flags, payload)
        if message is not None:
            yield message
        if flags & END_STREAM:
            self._over = True
            yield Done(None, trailers)

    def _assemble(self, flags: int, payload: bytes) -> bytes | None:
        reassembly = self._reassembly
        if reassembly is None:
            if not flags & MORE:
                if not payload and response_is_silent(flags):
                    return None
                check_size(len(payload), self._limit)
                return payload
            reassembly = self._reassembly = Reassembly()
        reassembly.add(payload, self._limit)
        if flags & MORE:
            return None
        self._reassembly = None
        return reassembly.take()
