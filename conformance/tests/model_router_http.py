"""The HTTP half of the model router: one POST on a connection of its own, and its one answer.

The rules of this file: section 21.2 for what a POST has; an answer is what HTTP/1.1 says one is;
none within 10 s, or the end of the connection before it is whole, is no answer (P0-019).
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from model_client_call import Phase

if TYPE_CHECKING:
    from model_router import HomeStream, Router

ANSWER_TIMEOUT = 10.0
HOP = frozenset({"connection", "te", "trailer", "transfer-encoding", "upgrade", "keep-alive"})
OWN = frozenset({"host", "content-length", "expect", "accept-encoding"})


def unsendable(headers: list[tuple[str, str]]) -> str:
    """Say which header section 21.2 keeps a router from sending, "" for none."""
    for name, value in headers:
        lower = name.lower()
        if lower.startswith(("wch-", "wmx-")) or lower in HOP | OWN:
            return f"the name {name}"
        if value != value.strip(" \t"):
            return f"the white space around {name}"
    return ""


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int
    fields: dict[str, str]
    body: bytes = b""

    @property
    def not_processed(self) -> bool:
        """Tell whether the worker says that nothing was done."""
        return self.fields.get("wmx-not-processed") == "1"

    @property
    def described(self) -> dict[str, Any]:
        """Return the error object, empty if there is none."""
        try:
            found = json.loads(self.body)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def code(self) -> int | None:
        """Return the code that it names."""
        number = self.described.get("num")
        return number if type(number) is int else None

    @property
    def retry_after_ms(self) -> int:
        """Return how long to wait, from the object or else from Retry-After."""
        number = self.described.get("retry_after_ms")
        if type(number) is int:
            return number
        text = self.fields.get("retry-after", "0")
        return int(text) * 1_000 if text.isdigit() else 0


@dataclass(slots=True)
class _Reading:
    buffer: bytearray = field(default_factory=bytearray)
    answer: Answer | None = None
    length: int | None = None


class Posting(asyncio.Protocol):
    """A connection with one POST."""

    def __init__(self, router: Router, stream: HomeStream, path: str) -> None:
        self.router = router
        self.flaw = router.flaw
        self.stream = stream
        self.path = path
        self.transport: asyncio.Transport
        self.timer: asyncio.TimerHandle | None = None
        self._reading = _Reading()
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Write the POST."""
        self.transport = cast(asyncio.Transport, transport)
        self.router.postings.add(self)
        if self.stream.call.phase is Phase.DONE:  # its deadline has passed meanwhile
            self._over = True
            self.transport.close()
            return
        self.transport.write(self._octets())
        self.stream.posted()
        if not self.flaw("p0-no-answer-timeout"):
            self.timer = self.router.loop.call_later(ANSWER_TIMEOUT, self._late)

    def _octets(self) -> bytes:
        stream, call = self.stream, self.stream.call
        token = base64.urlsafe_b64encode(stream.token).decode().rstrip("=")
        if self.flaw("p0-token-with-padding"):
            token += "=="
        fields = [
            ("host", self.stream.addr),
            ("content-type", "application/octet-stream"),
            ("content-length", str(len(call.body))),
            ("wch-addr", self.router.address),
            ("wch-stream", str(uuid.UUID(bytes=stream.rid))),
            ("wch-token", token),
        ]
        left = call.left_ms()
        if left and not self.flaw("p0-no-timeout-field"):
            fields.append(("wch-timeout-ms", str(left)))
        if self.flaw("p0-addr-of-any-interface"):
            fields[3] = ("wch-addr", self.router.address.rpartition(":")[2])
        lines = [f"POST {self.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (*fields, *call.fields())]
        return "\r\n".join([*lines, "", ""]).encode() + call.body

    # Reading ----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Read as much of the answer as is there."""
        if self._over:
            return
        reading = self._reading
        reading.buffer += data
        while reading.answer is None:
            stop = reading.buffer.find(b"\r\n\r\n")
            if not reading.buffer.startswith(b"HTTP/1."[: len(reading.buffer)]):
                self._finish(None)
                return
            if stop < 0:
                return
            answer = self._head(bytes(reading.buffer[:stop]))
            del reading.buffer[: stop + 4]
            if answer is None:
                self._finish(None)
                return
            if answer.status >= 200:
                reading.answer = answer
        length = reading.answer.fields.get("content-length")
        reading.length = int(length) if length is not None and length.isdigit() else None
        if reading.answer.status == 202:
            self._finish(reading.answer)
        elif reading.length is not None and len(reading.buffer) >= reading.length:
            reading.answer.body = bytes(reading.buffer[: reading.length])
            self._finish(reading.answer)

    def _head(self, octets: bytes) -> Answer | None:
        first, *lines = octets.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) < 2 or not words[1].isdigit() or len(words[1]) != 3:
            return None
        fields = {}
        for line in lines:
            name, _colon, value = line.partition(":")
            fields[name.lower()] = value.strip()
        return Answer(int(words[1]), fields)

    def eof_received(self) -> None:
        """Take the end: of an answer without a length, or of the hope for one."""
        reading = self._reading
        if reading.answer is not None and reading.length is None:
            reading.answer.body = bytes(reading.buffer)
            self._finish(reading.answer)
        elif not self.flaw("p0-http-eof-hangs"):
            self._finish(None)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Take the end."""
        self.router.postings.discard(self)
        self.router.gone()
        if not self.flaw("p0-http-eof-hangs"):
            self._finish(None)

    def _late(self) -> None:
        self._finish(None)

    def _finish(self, answer: Answer | None) -> None:
        if self._over:
            return
        self._over = True
        if self.timer is not None:
            self.timer.cancel()
        self.transport.close()
        location = answer.fields.get("location", "") if answer is not None else ""
        if location and self.flaw("p0-follows-redirects"):
            self.router.post(self.stream, location)
            return
        self.stream.answered(answer)
