"""Metadata blocks that we send.

Rules of this file: the grammar of subjects and headers has one definition, the generated decoder.
A block is encoded, read back as its receiver will read it, and refused here if it would be there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from functools import lru_cache

from muxwire._generated.codec import (
    decode_open,
    decode_response_meta,
    encode_open,
    encode_response_meta,
)
from muxwire._generated.registries import FRAME_COST
from muxwire.core.settings import Settings
from muxwire.errors import InvalidArgument, ProtocolViolation

Header = tuple[bytes, bytes]

_LARGEST = 2**32 - 1
_LENGTH_FIELD = 4
_U32 = struct.Struct(">I")
_ID_SIZE = 36
_IS_ID = re.compile(rb"[0-9a-f-]+").fullmatch


def open_metadata(
    timeout_ms: int, request_flags: int, subject: bytes, headers: Sequence[Header]
) -> bytes:
    """Encode the metadata of an OPEN.

    Raises:
        InvalidArgument: The worker would refuse it (PAY-004, PAY-005).
    """
    try:
        head, tail = _pieces(request_flags, subject, tuple(headers[:-1]), headers[-1:])
        timeout = _U32.pack(timeout_ms)
    except (struct.error, ProtocolViolation) as error:
        raise InvalidArgument(f"request: {error}") from None
    return b"".join((head, timeout, tail))


def response_metadata(headers: Sequence[Header]) -> bytes:
    """Encode response headers or trailers.

    Raises:
        InvalidArgument: The client would refuse them (PAY-005).
    """
    try:
        block = encode_response_meta(headers)
        decode_response_meta(block, _LARGEST)
    except (struct.error, ProtocolViolation) as error:
        raise InvalidArgument(f"headers: {error}") from None
    return block


def opening_fits(block: bytes, peer: Settings) -> bool:
    """Say whether a block can open a stream direction at all (SET-003)."""
    return _fits(block, peer) and FRAME_COST + len(block) <= peer.initial_stream_window


def trailers_fit(block: bytes, peer: Settings) -> bool:
    """Say whether a block can be sent with half of the window, which is sure to come (FLW-006)."""
    return _fits(block, peer) and FRAME_COST + len(block) <= peer.initial_stream_window // 2


def _fits(block: bytes, peer: Settings) -> bool:
    size = len(block) - _LENGTH_FIELD
    return size <= min(peer.max_metadata_size, peer.max_frame_size - _LENGTH_FIELD)


def _pieces(
    request_flags: int, subject: bytes, headers: tuple[Header, ...], last: Sequence[Header]
) -> tuple[bytes, bytes]:
    """Return what stands before and behind the timeout.

    The request id, which is new in every request, comes last, so that the rest can be remembered.
    """
    for key, value in last:
        if len(value) == _ID_SIZE and _IS_ID(value):
            head, tail = _remembered(request_flags, subject, headers, key)
            return head, tail + value
    return _encode(request_flags, subject, (*headers, *last))


@lru_cache(maxsize=256)
def _remembered(
    request_flags: int, subject: bytes, headers: tuple[Header, ...], key: bytes
) -> tuple[bytes, bytes]:
    head, tail = _encode(request_flags, subject, (*headers, (key, b"0" * _ID_SIZE)))
    return head, tail[:-_ID_SIZE]


def _encode(request_flags: int, subject: bytes, headers: Sequence[Header]) -> tuple[bytes, bytes]:
    block = encode_open(0, request_flags, subject, headers)
    decode_open(block, _LARGEST)
    return block[:_LENGTH_FIELD], block[_LENGTH_FIELD + _U32.size :]
