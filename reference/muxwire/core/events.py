"""What a connection tells its driver, in the order in which it happened.

Rules of this file: events are plain data, complete when built, and hold no reference into the core.
One frame makes one event wherever possible: a request whose OPEN carries its only message is one
RequestReceived, and `ended` on a message replaces the event for the end of its direction.
Whoever gets `cost` owes it: give it back once with `consumed(request_id, cost)`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from muxwire.core.settings import Settings
from muxwire.errors import Outcome

Headers = list[tuple[bytes, bytes]]


class CancelReason(enum.Enum):
    """Why a handler is to stop."""

    KILL = "kill"
    """The client abandoned the request (CAN-001)."""
    DEADLINE = "deadline"
    """The request's timeout is over (ADM-005)."""
    MESSAGE_TOO_LARGE = "message too large"
    """A request message exceeded MAX_MESSAGE_SIZE (MSG-003)."""
    SLOW_CONSUMER = "slow consumer"
    """The client gave no credit for too long (FLW-013)."""
    SHUTDOWN = "shutdown"
    """The grace of a drain is over (CLS-006)."""
    INTERNAL = "internal"
    """The stream used up its sequence numbers."""
    CONNECTION_LOST = "connection lost"
    """The connection ended (CLS-001, CLS-010)."""


@dataclass(slots=True, kw_only=True)
class HandshakeDone:
    """The peer's SETTINGS and SETTINGS_ACK have arrived."""

    version: int
    settings: Settings


# -- worker ----------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class RequestReceived:
    """Start the handler of a request.  Answer with exactly one `finish` or `fail`.

    `data` is the first message if the OPEN held a whole one, else None.  `ended` says that the
    request direction is over and no RequestFinished follows.
    """

    request_id: bytes
    ordinal: int
    subject: bytes
    headers: Headers
    timeout_ms: int
    idempotent: bool
    request_flags: int
    data: bytes | None
    cost: int
    ended: bool


@dataclass(slots=True, kw_only=True)
class RequestFinished:
    """The request direction ended without a further message."""

    request_id: bytes


@dataclass(slots=True, kw_only=True)
class StopReceived:
    """The client asks the handler to finish early and well (CAN-005).  Comes at most once."""

    request_id: bytes
    reason: int


@dataclass(slots=True, kw_only=True)
class HandlerCancelled:
    """Cancel the handler.  Still answer with one `finish` or `fail` when it has really ended.

    The terminal is the core's business from here on; what the handler still sends is dropped.
    After CONNECTION_LOST no answer is needed.
    """

    request_id: bytes
    reason: CancelReason


# -- client ----------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class ResponseHeaders:
    """The response headers, before the first message."""

    request_id: bytes
    headers: Headers


@dataclass(slots=True, kw_only=True)
class ResponseFinished:
    """The request succeeded; all its messages have been delivered."""

    request_id: bytes
    trailers: Headers


@dataclass(slots=True, kw_only=True)
class ResponseFailed:
    """The request did not succeed.  It is the last event of its id.

    `code` is None if no code is known; `local` is False only if a terminal error frame gave it.
    `messages` counts the complete messages delivered before.
    """

    request_id: bytes
    outcome: Outcome
    code: int | None
    local: bool
    error_flags: int
    retry_after_ms: int
    message: str
    detail: bytes
    messages: int


# -- both ------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class MessageReceived:
    """One complete message.

    `ended` says that the direction ended with it: no RequestFinished or ResponseFinished follows,
    and on the client the request has succeeded, without trailers.
    """

    request_id: bytes
    data: bytes
    cost: int
    ended: bool


@dataclass(slots=True, kw_only=True)
class Writable:
    """A stream whose `send_message` returned False may try again."""

    request_id: bytes


@dataclass(slots=True, kw_only=True)
class GoawayReceived:
    """The peer ends the connection, at once or after what runs."""

    code: int
    last_ordinal: int
    grace_ms: int
    message: str


@dataclass(slots=True, kw_only=True)
class GoawaySent:
    """This side ends the connection in order; the GOAWAY of an error is part of ConnectionEnded."""

    code: int
    last_ordinal: int
    grace_ms: int
    message: str


@dataclass(slots=True, kw_only=True)
class ConnectionEnded:
    """The last event of a connection.  Every request has had its last event before it.

    `code` is that of the GOAWAY sent (by_peer False) or received (by_peer True), or None.
    `requirement` is the id of the broken rule, or "".  `handshake` says whether HandshakeDone came.
    """

    code: int | None
    by_peer: bool
    requirement: str
    message: str
    handshake: bool
    last_ordinal: int
    lost: int


# -- call-home -------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Idle:
    """The connection can carry a stream: its prefaces are exchanged, or the last stream is over."""

    first: bool


Event = (
    HandshakeDone
    | RequestReceived
    | RequestFinished
    | StopReceived
    | HandlerCancelled
    | ResponseHeaders
    | ResponseFinished
    | ResponseFailed
    | MessageReceived
    | Writable
    | GoawayReceived
    | GoawaySent
    | ConnectionEnded
    | Idle
)
