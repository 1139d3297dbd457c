"""One POST of the judge's router, over an HTTP/1.1 connection of its own, and what was answered."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from muxwire_conformance.transcript import Transcript
from muxwire_conformance.transport import End, Transport

if TYPE_CHECKING:
    from muxwire_conformance.callhome.context import CallhomeContext

Fields = Sequence[tuple[str, str]]

JSON = "application/json"
NOT_PROCESSED = "wmx-not-processed"


@dataclass(slots=True, kw_only=True)
class Answer:
    """An HTTP answer; names of fields are in lower case."""

    status: int
    reason: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    at: float = 0.0

    def get(self, name: str) -> str | None:
        """Return the first field of this name."""
        return next((value for key, value in self.fields if key == name), None)

    @property
    def error(self) -> dict[str, Any]:
        """Return the error object of the body, {} if there is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def not_processed(self) -> bool:
        """Tell whether the answer says that nothing was processed."""
        return self.get(NOT_PROCESSED) == "1"

    def __str__(self) -> str:
        """Describe it in one line."""
        said = f" {self.error.get('code', '')}".rstrip() if self.body else ""
        note = ", not processed" if self.not_processed else ""
        return f"{self.status} {self.reason}".rstrip() + said + note


def request(method: str, target: str, fields: Fields, body: bytes) -> bytes:
    """Return the octets of a request; nothing is added to the fields."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Post:
    """A request on a connection of its own.

    Attributes:
        answer: The final answer, None until it has come whole.
        sent_at: When the request was written.
        goes_on: The worker wants the body (100).
    """

    def __init__(self, context: CallhomeContext, label: str) -> None:
        self.context = context
        self.transport: Transport | None = None
        self.transcript = Transcript(label=label, started=time.monotonic())
        self.answer: Answer | None = None
        self.trouble = ""
        self.goes_on = False
        self.sent_at = 0.0
        self._buffer = bytearray()

    def send(self, transport: Transport, octets: bytes, *, marked: bool = False) -> None:
        """Write the request on a new connection."""
        self.transport = transport
        self.transcript.started = transport.opened_at
        transport.on_bytes = self._on_bytes
        transport.on_end = self._on_end
        self.sent_at = time.monotonic()
        self.transcript.http("judge", octets, self.sent_at, marked=marked)
        transport.write(octets)

    def write(self, octets: bytes) -> None:
        """Write more of the request."""
        if self.transport is not None:
            self.transcript.http("judge", octets, time.monotonic())
            self.transport.write(octets)

    def _on_bytes(self, data: bytes, at: float) -> None:
        self.transcript.http("target", data, at)
        self._buffer += data
        self._read(at, ended=False)
        self.context.happened()

    def _on_end(self, end: End) -> None:
        self.transcript.event(f"connection {end.describe()}", end.at)
        self._read(end.at, ended=True)
        if self.answer is None and not self.trouble:
            self.trouble = f"the connection was {end.describe()}, without a whole answer"
        self.context.happened()

    def _read(self, at: float, *, ended: bool) -> None:
        while self.answer is None:
            head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
            if not found:
                return
            answer = _read_head(head)
            if answer is None:
                self.trouble = f"this is no HTTP answer: {head[:60]!r}"
                return
            if 100 <= answer.status < 200:
                self.goes_on = True
                self._buffer = bytearray(rest)
                continue
            body = _read_body(answer, rest, ended=ended)
            if body is None:
                return
            answer.body, answer.at = body, at
            self.answer = answer

    def close(self) -> None:
        """Close the connection."""
        if self.transport is not None:
            self.transport.close()


def _read_head(head: bytes) -> Answer | None:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, _space, rest = first.partition(" ")
    status, _space, reason = rest.partition(" ")
    if not version.startswith("HTTP/1.") or not status.isdecimal():
        return None
    pairs = (line.partition(":") for line in lines)
    fields = [(name.strip().lower(), value.strip()) for name, _colon, value in pairs]
    return Answer(status=int(status), reason=reason, fields=fields)


def _read_body(answer: Answer, rest: bytes, *, ended: bool) -> bytes | None:
    """Return the whole body, None while some of it is missing."""
    length = answer.get("content-length")
    if (answer.get("transfer-encoding") or "").lower() == "chunked":
        return _read_chunks(rest)
    if length is not None and length.isdecimal():
        return rest[: int(length)] if len(rest) >= int(length) else None
    if answer.status in (202, 204, 304):
        return b""
    return rest if ended else None


def _read_chunks(rest: bytes) -> bytes | None:
    body = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        try:
            count = int(size.partition(b";")[0], 16)
        except ValueError:
            return None
        if not found or len(rest) < count + 2:
            return None
        if count == 0:
            return body
        body += rest[:count]
        rest = rest[count + 2 :]
