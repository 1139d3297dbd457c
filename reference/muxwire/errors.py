"""Every exception that muxwire raises, in one tree.

Rules of this file: it imports nothing of muxwire, so that every layer may import it.  Each class
says whose fault it is and what the caller can do next.  Codes are plain ints here; their names
come from the registry and are handed in by whoever raises::

    MuxwireError
    +-- LocalProtocolError        you misused the library; nothing went to the wire
    |   +-- InvalidArgument         a subject, header, setting or option outside its range
    |   +-- MessageTooLarge         a message above what the peer announced
    |   `-- RequestClosed           a call on a request that is over or ended by you
    +-- RemoteProtocolError       the peer broke a rule of the specification
    |   `-- ProtocolViolation       with code, scope, requirement id and detail
    +-- ConnectionClosed          the connection is over; what ended it is in its attributes
    |   `-- ConnectError            it never became usable
    |       +-- DialFailed            no TCP connection
    |       +-- TlsFailed             no TLS connection: no trust, no TLS there, or no ALPN token
    |       +-- HandshakeTimedOut     the peer did not complete the handshake in time
    |       +-- NotWorker             the other end does not speak the protocol
    |       +-- VersionRefused        no common version
    |       `-- ConnectionRefused     the worker is at its limit or is draining
    +-- PoolError                 no connection could be borrowed from a pool
    |   +-- PoolClosed              the pool is being drained, or is closed
    |   +-- PoolExhausted           too many wait already
    |   +-- AcquireTimedOut         none came free in time
    |   `-- CannotConnect           the target cannot be reached
    +-- HandlerError              raise it in a handler to end the request with an error of yours
    `-- RequestFailed             one request did not succeed; see its `outcome`
        +-- RequestCancelled        CANCELLED
        +-- DeadlineExceeded        DEADLINE_EXCEEDED
        +-- NotFound                NOT_FOUND
        +-- RequestRejected         INVALID_ARGUMENT
        +-- Overloaded              OVERLOADED
        +-- Draining                DRAINING
        +-- RequestTooLarge         MESSAGE_TOO_LARGE
        +-- ApplicationError        APPLICATION_ERROR, and every code of the application's range
        +-- WorkerShutdown          SHUTDOWN
        +-- SlowConsumer            SLOW_CONSUMER
        +-- WorkerError             REQUEST_INTERNAL_ERROR
        +-- Unimplemented           UNIMPLEMENTED
        `-- ConnectionLost          no code of its own: the connection ended before the request did
"""

# ruff: noqa: N818 - the names say what happened, as the specification words it

from __future__ import annotations

import enum
from typing import Final

__all__ = [
    "AcquireTimedOut",
    "ApplicationError",
    "CannotConnect",
    "ConnectError",
    "ConnectionClosed",
    "ConnectionLost",
    "ConnectionRefused",
    "DeadlineExceeded",
    "DialFailed",
    "Draining",
    "HandlerError",
    "HandshakeTimedOut",
    "InvalidArgument",
    "LocalProtocolError",
    "MessageTooLarge",
    "MuxwireError",
    "NotFound",
    "NotWorker",
    "Outcome",
    "Overloaded",
    "PoolClosed",
    "PoolError",
    "PoolExhausted",
    "ProtocolViolation",
    "RemoteProtocolError",
    "RequestCancelled",
    "RequestClosed",
    "RequestFailed",
    "RequestRejected",
    "RequestTooLarge",
    "SlowConsumer",
    "TlsFailed",
    "Unimplemented",
    "VersionRefused",
    "WorkerError",
    "WorkerShutdown",
    "failure",
]


class Outcome(enum.IntEnum):
    """How far a failed request got (REC-002).  The order is the order of certainty of effects."""

    NOT_SENT = 0
    """Its OPEN was never handed to the transport.  A retry is always safe."""
    NOT_PROCESSED = 1
    """The worker guarantees that no handler saw it.  A retry is always safe."""
    AMBIGUOUS = 2
    """It was sent and nothing came back.  Only an idempotent request may be retried."""
    FAILED = 3
    """The worker answered with an error, or the client gave up on it by itself."""
    PARTIAL = 4
    """Responses had begun when the connection ended.  Never retried by the transport."""


class MuxwireError(Exception):
    """Root of the tree.  Catch it to catch everything that muxwire raises on purpose."""


# -- your fault ------------------------------------------------------------------------------------


class LocalProtocolError(MuxwireError):
    """A local call was not allowed.  Nothing was sent because of it."""


class InvalidArgument(LocalProtocolError):
    """A subject, header, setting or option is outside what the specification allows."""


class MessageTooLarge(LocalProtocolError):
    """A message is longer than the peer's MAX_MESSAGE_SIZE."""


class RequestClosed(LocalProtocolError):
    """The request is over, or its sending direction has already been ended."""


# -- the peer's fault ------------------------------------------------------------------------------


class RemoteProtocolError(MuxwireError):
    """The peer broke a rule of the specification."""


class ProtocolViolation(RemoteProtocolError):
    """One broken rule, as the decoder or the core found it.

    Attributes:
        code: The error code of the registry that goes into the GOAWAY or the error body.
        scope: ``"connection"`` or ``"stream"``.
        requirement: The id of the broken rule, such as ``"FRM-002"``.
        detail: One phrase for people.  It never quotes payload octets.
    """

    def __init__(self, code: int, scope: str, requirement: str, detail: str) -> None:
        super().__init__(code, scope, requirement, detail)
        self.code: Final = int(code)
        self.scope: Final = scope
        self.requirement: Final = requirement
        self.detail: Final = detail

    def __str__(self) -> str:
        return f"{self.requirement}: {self.detail}"


# -- connections -----------------------------------------------------------------------------------


class ConnectionClosed(MuxwireError):
    """The connection is over.

    Attributes:
        code: Code of the GOAWAY that was sent or received, or None if there was none.
        code_name: Its registry name, or None.
        by_peer: True if the peer ended the connection.
        requirement: Id of the rule whose breach ended it, or "".
    """

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        code_name: str | None = None,
        by_peer: bool = False,
        requirement: str = "",
    ) -> None:
        super().__init__(message)
        self.code: Final = code
        self.code_name: Final = code_name
        self.by_peer: Final = by_peer
        self.requirement: Final = requirement


class ConnectError(ConnectionClosed):
    """The connection never became usable."""


class DialFailed(ConnectError):
    """No TCP connection could be made."""


class TlsFailed(ConnectError):
    """No TLS connection could be made: one side does not trust the other, or has no TLS (SEC-001).

    A worker that wants a client certificate tells so after the client's part of the handshake; if
    that word is lost, what is left is a plain ConnectError.
    """


class HandshakeTimedOut(ConnectError):
    """The peer did not complete the handshake in time (HSK-008, HSK-010)."""


class NotWorker(ConnectError):
    """The other end does not speak the protocol: its first octets were not the preface."""


class VersionRefused(ConnectError):
    """No version is common to both ends (HSK-004, HSK-010)."""


class ConnectionRefused(ConnectError):
    """The worker refused the connection with a GOAWAY in place of its SETTINGS (HSK-011)."""


# -- pools -----------------------------------------------------------------------------------------


class PoolError(MuxwireError):
    """No connection could be borrowed (P0-015)."""


class PoolClosed(PoolError):
    """The pool is being drained, or is closed."""


class PoolExhausted(PoolError):
    """Too many wait for a connection already; nothing was tried."""


class AcquireTimedOut(PoolError):
    """No connection came free in time."""


class CannotConnect(PoolError):
    """The target cannot be reached; another instance may be.

    Attributes:
        target: Its address.
        reason: What the last dial came to.
    """

    def __init__(self, target: str, reason: str) -> None:
        super().__init__(f"{target}: {reason}")
        self.target: Final = target
        self.reason: Final = reason


# -- requests --------------------------------------------------------------------------------------


class HandlerError(MuxwireError):
    """Raise it in a handler to end the request with this error after the data sent so far.

    Attributes:
        code: Error code for the client; 0x107 is APPLICATION_ERROR.
        message: Short text for people.  It travels to the client, so it holds no secrets.
        detail: Opaque octets for the client's program.
        retry_after_ms: A hint when to try again, or 0.
        non_retryable: True if a retry cannot help.
    """

    def __init__(
        self,
        message: str = "",
        *,
        code: int = 0x107,
        detail: bytes = b"",
        retry_after_ms: int = 0,
        non_retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message: Final = message
        self.code: Final = code
        self.detail: Final = detail
        self.retry_after_ms: Final = retry_after_ms
        self.non_retryable: Final = non_retryable


class RequestFailed(MuxwireError):
    """One request did not succeed.

    Attributes:
        outcome: How far it got, and so whether a retry is safe.
        code: Error code as received, or the code of a local decision, or None.
        code_name: Registry name of the code, or None.
        local: False only if a terminal error frame of the worker gave the code.
        request_id: The 16 octets of the attempt that failed.
        messages: Number of complete response messages that were delivered before.
        retry_after_ms: The worker's hint when to try again, or 0.
        non_retryable: True if the worker says that a retry cannot help.
        message: The worker's short text, or the local reason.
        detail: The worker's opaque octets.
        attempts: Attempts that were begun.
    """

    def __init__(
        self,
        *,
        outcome: Outcome,
        code: int | None = None,
        code_name: str | None = None,
        local: bool = True,
        request_id: bytes = b"",
        messages: int = 0,
        retry_after_ms: int = 0,
        non_retryable: bool = False,
        message: str = "",
        detail: bytes = b"",
        attempts: int = 1,
    ) -> None:
        super().__init__(message)
        self.outcome: Final = outcome
        self.code: Final = code
        self.code_name: Final = code_name
        self.local: Final = local
        self.request_id: Final = request_id
        self.messages: Final = messages
        self.retry_after_ms: Final = retry_after_ms
        self.non_retryable: Final = non_retryable
        self.message: Final = message
        self.detail: Final = detail
        self.attempts: Final = attempts

    @property
    def not_processed(self) -> bool:
        """True if no handler saw the request, so that another attempt is safe."""
        return self.outcome <= Outcome.NOT_PROCESSED

    def __str__(self) -> str:
        text = self.code_name or (f"code {self.code:#x}" if self.code is not None else "no answer")
        text += f" ({self.outcome.name}"
        if self.messages:
            text += f", {self.messages} messages received"
        text += ")"
        return f"{text}: {self.message}" if self.message else text


class RequestCancelled(RequestFailed):
    """CANCELLED: the request was killed."""


class DeadlineExceeded(RequestFailed):
    """DEADLINE_EXCEEDED: the time given to the request is over."""


class NotFound(RequestFailed):
    """NOT_FOUND: the worker has no such subject."""


class RequestRejected(RequestFailed):
    """INVALID_ARGUMENT: the subject, a header or the parameters were refused."""


class Overloaded(RequestFailed):
    """OVERLOADED: the worker is at its limit; see `retry_after_ms`."""


class Draining(RequestFailed):
    """DRAINING: the worker takes no new requests on this connection."""


class RequestTooLarge(RequestFailed):
    """MESSAGE_TOO_LARGE: a message of the request or of the response is above a limit."""


class ApplicationError(RequestFailed):
    """APPLICATION_ERROR, or a code of the application: the handler failed."""


class WorkerShutdown(RequestFailed):
    """SHUTDOWN: the worker stopped before the request ended."""


class SlowConsumer(RequestFailed):
    """SLOW_CONSUMER: the client did not read its responses for too long."""


class WorkerError(RequestFailed):
    """REQUEST_INTERNAL_ERROR: the worker failed by itself."""


class Unimplemented(RequestFailed):
    """UNIMPLEMENTED: the worker knows the subject and cannot serve it."""


class ConnectionLost(RequestFailed):
    """The connection ended before the request did.  `outcome` says what that means."""


_BY_NAME: Final[dict[str, type[RequestFailed]]] = {
    "CANCELLED": RequestCancelled,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "NOT_FOUND": NotFound,
    "INVALID_ARGUMENT": RequestRejected,
    "OVERLOADED": Overloaded,
    "DRAINING": Draining,
    "MESSAGE_TOO_LARGE": RequestTooLarge,
    "SHUTDOWN": WorkerShutdown,
    "SLOW_CONSUMER": SlowConsumer,
    "REQUEST_INTERNAL_ERROR": WorkerError,
    "UNIMPLEMENTED": Unimplemented,
}


def failure(code: int | None, code_name: str | None, *, local: bool = False) -> type[RequestFailed]:
    """Return the class for a code: its own, ConnectionLost for None, else ApplicationError.

    Args:
        code: The code of the failure.
        code_name: Its registry name.
        local: The code was not in an error terminal.  The code of a connection is then the reason
            why the request was lost; in an error terminal it would be unknown (PAY-008).
    """
    if code is None:
        return ConnectionLost
    return _BY_NAME.get(code_name or "", ConnectionLost if local else ApplicationError)
