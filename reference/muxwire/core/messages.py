"""From frames to messages.

Rules of this file: a frame with MORE clear ends the message it belongs to.  Which empty frames
carry a message is the table of chapter 8, brought down to one bit per frame: `silent`, "empty and
outside a message, it carries none".  Small chunks are gathered, so memory follows the octets and
not the number of chunks (MSG-001, DOS-002).
"""

from __future__ import annotations

from muxwire._generated.registries import END_STREAM, META, ErrorCode
from muxwire.errors import ProtocolViolation

SMALL = 1_024
GATHERED = 65_536


def open_is_silent(flags: int) -> bool:
    """An empty OPEN carries an empty message only if it ends the request (MSG-002)."""
    return not flags & END_STREAM


def request_is_silent(flags: int) -> bool:
    """A later empty REQUEST carries an empty message unless it ends the request (MSG-002)."""
    return bool(flags & END_STREAM)


def response_is_silent(flags: int) -> bool:
    """An empty RESPONSE with headers, trailers or the end carries no message (MSG-002)."""
    return bool(flags & (END_STREAM | META))


class Reassembly:
    """The message that is arriving on one stream direction; no part of it is delivered (MSG-004).

    It grows with the octets received, whatever a content-length announces (OBS-003).
    """

    __slots__ = ("_chunks", "_size")

    def __init__(self) -> None:
        self._chunks: list[bytes | bytearray] = []
        self._size = 0

    def add(self, chunk: bytes, limit: int) -> None:
        """Take a chunk.

        Raises:
            ProtocolViolation: MSG-003 with scope "stream"; what was gathered is freed.
        """
        try:
            self._size = check_size(self._size + len(chunk), limit)
        except ProtocolViolation:
            self._chunks.clear()
            raise
        if len(chunk) >= SMALL:
            self._chunks.append(chunk)
        elif chunk:
            last = self._chunks[-1] if self._chunks else None
            if not isinstance(last, bytearray) or len(last) >= GATHERED:
                last = bytearray()
                self._chunks.append(last)
            last += chunk

    def take(self) -> bytes:
        """Return the message."""
        return b"".join(self._chunks)


def check_size(size: int, limit: int) -> int:
    """Return a message size that MAX_MESSAGE_SIZE allows.

    Raises:
        ProtocolViolation: MSG-003 with scope "stream".
    """
    if size > limit:
        raise ProtocolViolation(
            ErrorCode.MESSAGE_TOO_LARGE, "stream", "MSG-003", "message above MAX_MESSAGE_SIZE"
        )
    return size
