"""The RESPONSE frames of one request, as the judge writes them when it plays the worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from muxwire_conformance import wire
from muxwire_conformance.conversation import Conversation
from muxwire_conformance.wire import HeaderFields

Headers = Sequence[tuple[str | bytes, str | bytes]]


class Answers:
    """One response: frames with a seq that counts up, legal unless a header field says otherwise.

    Attributes:
        id: The request id.
        next_seq: The seq of the next frame.
    """

    def __init__(self, link: Conversation, request_id: bytes) -> None:
        self.link = link
        self.id = request_id
        self.next_seq = 0

    def build(
        self,
        data: bytes = b"",
        *,
        end: bool = False,
        more: bool = False,
        headers: Headers | None = None,
        **header: Unpack[HeaderFields],
    ) -> bytes:
        """Return the next RESPONSE frame without writing it; ``headers`` sets META."""
        seq = self.next_seq
        self.next_seq += 1
        if headers is not None:
            data = wire.metadata(headers) + data
            flags = wire.META | (wire.END_STREAM if end else 0) | (wire.MORE if more else 0)
            header.setdefault("flags", flags)
        return wire.response(self.id, seq, data, end=end, more=more, **header)

    def send(
        self,
        data: bytes = b"",
        *,
        end: bool = False,
        more: bool = False,
        headers: Headers | None = None,
        **header: Unpack[HeaderFields],
    ) -> bytes:
        """Write one RESPONSE frame with the next seq at once, whatever the credit; return it."""
        raw = self.build(data, end=end, more=more, headers=headers, **header)
        self.link.send(raw)
        return raw

    def refusal(
        self, error: str | int, message: bytes = b"", *, flags: int = 0, retry_after_ms: int = 0
    ) -> bytes:
        """Return an error terminal without writing it."""
        body = wire.error_body(error, message, flags=flags, retry_after_ms=retry_after_ms)
        return self.build(body, end=True, flags=wire.END_STREAM | wire.ERROR)

    def fail(
        self,
        error: str | int,
        message: bytes = b"",
        *,
        not_processed: bool = False,
        non_retryable: bool = False,
        retry_after_ms: int = 0,
    ) -> None:
        """Write an error terminal."""
        flags = wire.NOT_PROCESSED * not_processed | wire.NON_RETRYABLE * non_retryable
        self.link.send(self.refusal(error, message, flags=flags, retry_after_ms=retry_after_ms))

    def answer(self, *messages: bytes, trailers: Headers | None = None) -> None:
        """Write whole messages and the success terminal."""
        for message in messages:
            self.send(message)
        self.send(end=True, headers=trailers)
