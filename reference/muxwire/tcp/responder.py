"""What a handler says, for a path on which each request has a response of its own.

Rules of this file: what a handler hands over is checked here, before it reaches a core.  An answer
is given once: what comes after it is dropped, and an end that cannot be sent is logged.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from muxwire.errors import LocalProtocolError
from muxwire.handlers import check_message

logger = logging.getLogger("muxwire.worker")


class Response(Protocol):
    """The core of one response."""

    def send_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the response headers."""

    def send_message(self, data: bytes) -> bool:
        """Queue a message; False if there is no room."""

    def finish(self, trailers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """End well."""

    def fail(
        self,
        code: int,
        message: str = "",
        *,
        detail: bytes = b"",
        retry_after_ms: int = 0,
        non_retryable: bool = False,
    ) -> None:
        """End with an error."""


class ResponseResponder:
    """Answers one request through its response.

    Args:
        response: The core of the response.
        touch: Called when the core has something to say.
        retire: Called when the connection is to go once this answer is out.

    Attributes:
        cancelled: The handler has been told to stop.
    """

    __slots__ = ("_answered", "_response", "_retire", "_touch", "cancelled")

    def __init__(
        self, response: Response, touch: Callable[[], None], retire: Callable[[], None]
    ) -> None:
        self._response = response
        self._touch = touch
        self._retire = retire
        self._answered = False
        self.cancelled = False

    def send_headers(self, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the response headers."""
        self._response.send_headers(headers)
        self._touch()

    def send_message(self, data: bytes) -> bool:
        """Queue a message; False if there is no room yet."""
        check_message(data)
        if self.cancelled:
            raise asyncio.CancelledError
        taken = self._response.send_message(data)
        self._touch()
        return taken

    def finish(self, trailers: list[tuple[bytes, bytes]]) -> None:
        """End the response well."""
        self._answered = True
        try:
            self._response.finish(trailers)
        except LocalProtocolError as error:
            logger.error("the answer of a handler was not sent: %s", error)
        self._touch()

    def fail(
        self,
        code: int,
        message: str,
        *,
        detail: bytes = b"",
        retry_after_ms: int = 0,
        non_retryable: bool = False,
    ) -> None:
        """End the response with an error."""
        if self._answered:
            return
        check_message(detail)
        code, retry_after_ms = int(code), max(0, int(retry_after_ms))
        self._answered = True
        self._response.fail(
            code,
            str(message),
            detail=detail,
            retry_after_ms=retry_after_ms,
            non_retryable=non_retryable,
        )
        self._touch()

    def consumed(self, cost: int) -> None:
        """Do nothing: a request of one message has no credit."""

    def awaiting(self) -> None:
        """Do nothing: the whole request is there."""

    def drain_connection(self, grace_ms: int) -> None:  # noqa: ARG002 - nothing else runs on it
        """Let the connection go once this answer is out."""
        self._retire()
