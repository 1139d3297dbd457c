"""The protocol without input and output: octets and the time go in, octets and events come out.

Nothing here opens a socket, reads a clock or makes a random number.  A driver owns those; it feeds
a `ClientConnection` or a `WorkerConnection` and carries out what they ask for.
"""

from __future__ import annotations

from muxwire.core.client import ClientConnection
from muxwire.core.closing import CloseAction
from muxwire.core.config import Config
from muxwire.core.connection import Connection
from muxwire.core.events import (
    CancelReason,
    ConnectionEnded,
    Event,
    GoawayReceived,
    GoawaySent,
    HandlerCancelled,
    HandshakeDone,
    MessageReceived,
    RequestFinished,
    RequestReceived,
    ResponseFailed,
    ResponseFinished,
    ResponseHeaders,
    StopReceived,
    Writable,
)
from muxwire.core.settings import Settings
from muxwire.core.worker import WorkerConnection

__all__ = [
    "CancelReason",
    "ClientConnection",
    "CloseAction",
    "Config",
    "Connection",
    "ConnectionEnded",
    "Event",
    "GoawayReceived",
    "GoawaySent",
    "HandlerCancelled",
    "HandshakeDone",
    "MessageReceived",
    "RequestFinished",
    "RequestReceived",
    "ResponseFailed",
    "ResponseFinished",
    "ResponseHeaders",
    "Settings",
    "StopReceived",
    "WorkerConnection",
    "Writable",
]
