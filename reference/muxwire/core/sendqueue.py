"""What one stream still has to send, and the next frame of it.

Rules of this file: a queue holds whole messages and cuts frames from them only when the scheduler
asks, so a message of any size costs no copy and a discard costs nothing.  An entry is
[metadata, data, flags of its last frame].  END_STREAM rides on the last data whenever it can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from muxwire._generated.registries import (
    END_STREAM,
    ERROR,
    FRAME_COST,
    MAX_SEQ,
    META,
    MORE,
)
from muxwire.core.flow import SendCredit

Buffer = bytes | memoryview

BLOCKED: Final = 0
"""The stream's own window is used up."""
STARVED: Final = -1
"""The connection's window is used up."""
EXHAUSTED: Final = -2
"""The stream has used its last sequence number but one (FRM-010)."""


class SendQueue(SendCredit):
    """The outbound direction of one request; it is its own send credit.

    Attributes:
        refusal: It holds the terminal of a request that was never accepted.
        entries: Metadata, data and last flags of each queued piece.
        buffered: Cost of what is queued (FLW-010).
        closed: The end of the direction is queued or sent.
        blocked: The stream waits for its own window.
        scheduled: The scheduler holds the queue.
        stuck: The last attempt to write a frame found no credit.
        wanted: Size of the message whose writer waits for room, or -1.
        flags: Flags of the frame that `take` has just written.
    """

    __slots__ = (
        "_header",
        "_offset",
        "blocked",
        "buffered",
        "closed",
        "entries",
        "flags",
        "refusal",
        "request_id",
        "scheduled",
        "seq",
        "stuck",
        "wanted",
    )

    def __init__(
        self,
        request_id: bytes,
        limit: int,
        header: Callable[[int, int, int, bytes], bytes],
    ) -> None:
        self.limit = limit
        self.sent = 0
        self.refusal = False
        self.request_id = request_id
        self.entries: list[tuple[bytes, bytes, int]] = []
        self.seq = 0
        self.buffered = 0
        self.closed = False
        self.blocked = False
        self.scheduled = False
        self.stuck = False
        self.wanted = -1
        self.flags = 0
        self._header = header
        self._offset = 0

    def push(self, metadata: bytes, data: bytes, last: int = 0) -> None:
        """Queue a piece: metadata for its first frame, data, and flags for its last frame."""
        self.entries.append((metadata, data, last))
        self.buffered += FRAME_COST + len(metadata) + len(data)

    def push_message(self, data: bytes) -> None:
        """Queue a message, behind waiting headers in the same frame if there are any (MSG-002)."""
        entries = self.entries
        if entries and data:
            metadata, before, last = entries[-1]
            if metadata and not before and not last and not self._offset:
                entries[-1] = (metadata, data, 0)
                self.buffered += len(data)
                return
        self.push(b"", data)

    def end(self) -> None:
        """Queue the end of the direction, on the last data if some is still queued."""
        self.closed = True
        entries = self.entries
        if entries:
            metadata, data, _ = entries[-1]
            if data:
                entries[-1] = (metadata, data, END_STREAM)
                return
        self.push(b"", b"", END_STREAM)

    def discard(self) -> None:
        """Drop everything that is queued and take nothing more."""
        self.entries.clear()
        self.buffered = 0
        self.closed = True
        self.wanted = -1
        self._offset = 0

    @property
    def ends_next(self) -> bool:
        """Whether only an exempt terminal is left to write."""
        if len(self.entries) != 1:
            return False
        metadata, data, last = self.entries[0]
        return bool(last & ERROR or (last and not metadata and not data))

    def has_room(self, size: int, most: int) -> bool:
        """Say whether a message of this size may be queued now (FLW-010).

        One message of any size may wait; several only while they cost no more than `most`.
        """
        return not self.buffered or self.buffered + FRAME_COST + size <= most

    def take(self, parts: list[Buffer], connection: SendCredit, max_payload: int) -> int:
        """Write the next frame to `parts` and return its octets, or BLOCKED, STARVED, EXHAUSTED.

        The caller makes sure that something is queued.
        """
        metadata, data, last = self.entries[0]
        offset = self._offset
        before = len(metadata)
        left = size = len(data) - offset
        if not (last & ERROR or (last and not left and not before)):  # FLW-004: exempt frames
            fixed = FRAME_COST + before
            # FLW-001: down to the last octet that fits; a block goes as soon as it fits alone
            least = fixed if before or not left else fixed + 1
            own = self.limit - self.sent
            if own < least:
                return BLOCKED
            shared = connection.limit - connection.sent
            if shared < least:
                return STARVED
            if self.seq >= MAX_SEQ:
                return EXHAUSTED
            room = max_payload - before
            if room < 0:  # a block is never split
                room = 0
            if own - fixed < room:
                room = own - fixed
            if shared - fixed < room:
                room = shared - fixed
            if size > room:
                size = room
            self.sent += fixed + size
            connection.sent += fixed + size
        flags = META if before else 0
        if size == left:
            flags |= last
            del self.entries[0]
            self._offset = 0
            self.buffered -= FRAME_COST + before + size
        else:
            flags |= MORE
            if before:
                self.entries[0] = (b"", data, last)
            self._offset = offset + size
            self.buffered -= before + size
        parts.append(self._header(flags, self.seq, before + size, self.request_id))
        if before:
            parts.append(metadata)
        if size == len(data):
            parts.append(data)
        else:
            parts.append(memoryview(data)[offset : offset + size])
        self.seq += 1
        self.flags = flags
        self.stuck = False
        return FRAME_COST + before + size
