"""Metadata blocks that we send.

Rules of this file: the grammar of subjects and headers has one definition, the generated decoder.
A block is encoded, read back as its receiver will read it, and refused here if it would be there.
"""

from __future__ import annotations

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


def open_metadata(
    timeout_ms: int, request_flags: int, subject: bytes, headers: Sequence[Header]
) -> bytes:
    """Encode the metadata of an OPEN.

    Raises:
        InvalidArgument: The worker would refuse it (PAY-004, PAY-005).
    """
    if not headers:
        return _plain_open(timeout_ms, request_flags, subject)
    return _open(timeout_ms, request_flags, subject, headers)


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


def _open(timeout_ms: int, request_flags: int, subject: bytes, headers: Sequence[Header]) -> bytes:
    try:
        block = encode_open(timeout_ms, request_flags, subject, headers)
        decode_open(block, _LARGEST)
    except (struct.error, ProtocolViolation) as error:
        raise InvalidArgument(f"request: {error}") from None
    return block


@lru_cache(maxsize=256)
def _plain_open(timeout_ms: int, request_flags: int, subject: bytes) -> bytes:
    return _open(timeout_ms, request_flags, subject, ())
