"""Credit: how much a sender may send, and how much a receiver has granted.

Rules of this file: credit is an absolute position in cost units, never an increment.  A sender
keeps `sent <= limit`.  A receiver grants `limit`, and moves it on in steps of a quarter window when
cost comes back (FLW-012).  Cost is given back in one of two ways: `give_back` for what a live
stream's application took, `discard` for what nobody will read.
"""

from __future__ import annotations

from muxwire._generated.registries import MAX_LIMIT, ErrorCode
from muxwire.errors import ProtocolViolation


def check_limit(limit: int) -> int:
    """Return the limit of a WINDOW_UPDATE if it is in range.

    Raises:
        ProtocolViolation: FLW-003.
    """
    if limit > MAX_LIMIT:
        raise ProtocolViolation(
            ErrorCode.FLOW_CONTROL_ERROR, "connection", "FLW-003", "limit of 2^63 or more"
        )
    return limit


class SendCredit:
    """The sending end of one window."""

    __slots__ = ("limit", "sent")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sent = 0

    def raise_to(self, limit: int) -> bool:
        """Move the limit up; False if that changes nothing (FLW-003)."""
        if limit <= self.limit:
            return False
        self.limit = limit
        return True


class StreamCredit:
    """The receiving end of one stream's window; `ReceiveCredit` does the accounting."""

    __slots__ = ("due", "limit", "received", "returned")

    def __init__(self, window: int) -> None:
        self.limit = window
        self.received = 0
        self.returned = 0
        self.due = False  # already noted for the next update

    @property
    def held(self) -> int:
        """Cost received and not given back."""
        return self.received - self.returned


class ReceiveCredit:
    """The receiving end of the connection's window, and the accountant of its streams."""

    __slots__ = ("held", "limit", "received", "stream_window", "window")

    def __init__(self, window: int, stream_window: int) -> None:
        self.window = window
        self.stream_window = stream_window
        self.limit = window
        self.received = 0
        self.held = 0

    def charge(self, cost: int) -> None:
        """Count a frame that belongs to no live stream.

        Raises:
            ProtocolViolation: FLW-002, the connection limit is exceeded.
        """
        self.received += cost
        self.held += cost
        if self.received > self.limit:
            _exceeded("connection")

    def charge_stream(self, stream: StreamCredit, cost: int) -> None:
        """Count a frame of a live stream.

        Raises:
            ProtocolViolation: FLW-002, a limit is exceeded.
        """
        self.received += cost
        self.held += cost
        stream.received += cost
        if self.received > self.limit:
            _exceeded("connection")
        if stream.received > stream.limit:
            _exceeded("stream")

    def adopt(self, stream: StreamCredit, cost: int) -> None:
        """Count the frame that opened a stream toward it; `charge` has counted it already.

        Raises:
            ProtocolViolation: FLW-002, the frame alone exceeds the stream's window.
        """
        stream.received = cost
        if cost > stream.limit:
            _exceeded("stream")

    def discard(self, cost: int) -> None:
        """Return the cost of what nobody will read to the connection alone (FLW-008)."""
        self.held -= cost

    def give_back(self, stream: StreamCredit, cost: int) -> bool:
        """Return consumed cost to both windows; True if the stream now deserves an update."""
        self.held -= cost
        stream.returned += cost
        due = stream.returned + self.stream_window - stream.limit
        if stream.due or 4 * due < self.stream_window:  # FLW-012
            return False
        stream.due = True
        return True

    def update_stream(self, stream: StreamCredit) -> int:
        """Raise the stream's limit to what is deserved, and return it to be announced."""
        stream.due = False
        stream.limit = stream.returned + self.stream_window
        return stream.limit

    def update(self) -> int | None:
        """Raise the connection's limit if a quarter of the window is due; None if it is not.

        Unread input counts for at most half of the window (FLW-009): what stalled streams hold
        beyond that is returned early, and only their own windows bound it.
        """
        limit = self.received + self.window - min(self.held, self.window // 2)
        if 4 * (limit - self.limit) < self.window:  # FLW-012
            return None
        self.limit = limit
        return limit


def _exceeded(what: str) -> None:
    raise ProtocolViolation(
        ErrorCode.FLOW_CONTROL_ERROR, "connection", "FLW-002", f"{what} limit exceeded"
    )
