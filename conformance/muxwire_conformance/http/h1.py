"""HTTP/1.1 messages: cut out of octets, and made of them.

Rules of this file:

* ``H1Reader`` takes octets in any pieces and returns what became complete: a ``Head``, octets of
  the body, ``BodyEnd``. Octets that are no HTTP/1.1 end it: ``fault`` says why.
* A body has chunks, a Content-Length, or the end of the connection; ``framing`` says which. Only
  the last chunk, all octets, or for the third kind the end itself, is a clean end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from muxwire_conformance.http.head import Fields, Head

MOST_HEAD = 262_144
CRLF = b"\r\n"

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([^\r\n]*))?")
_REQUEST = re.compile(rb"([A-Z]+) ([^ \r\n]+) HTTP/1\.1")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*?)[ \t]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[^\r\n]*)?")


class BodyEnd:
    """The clean end of a message."""


Item = Head | bytes | BodyEnd


class H1Reader:
    """Read the messages of one direction of a connection.

    Args:
        requests: Read requests instead of answers.
    """

    def __init__(self, *, requests: bool = False) -> None:
        self._requests = requests
        self._buffer = bytearray()
        self._left = 0
        self._state = "head"
        self.framing = ""
        self.fault = ""
        self.bodiless = False  # the next answer is one to HEAD

    @property
    def inside(self) -> bool:
        """Tell whether a message has begun and not ended."""
        return self._state != "head" or bool(self._buffer)

    def feed(self, data: bytes, at: float) -> Iterator[Item]:
        """Take octets; yield what became complete, in order."""
        self._buffer += data
        while not self.fault:
            item = self._step(at)
            if item is None:
                return
            if item != b"":
                yield item

    def eof(self) -> Iterator[Item]:
        """Take the end of the peer's direction; a body without a length ends with it."""
        if self._state == "close" and not self.fault:
            self._state = "head"
            yield BodyEnd()

    def _step(self, at: float) -> Item | None:
        if self._state == "head":
            return self._head(at)
        if self._state == "empty":
            return self._end()
        if self._state in ("length", "chunk", "close"):
            return self._content()
        line = self._line()
        if line is None:
            return None
        if self._state == "size":
            return self._size(line)
        if self._state == "gap":
            if line:
                self._wrong("a chunk is longer than its size says")
            self._state = "size"
            return b""
        if not line:  # the end of the trailers
            return self._end()
        if not _FIELD.fullmatch(line):
            self._wrong("a line of the trailers is no field")
        return b""

    def _end(self) -> BodyEnd:
        self._state = "head"
        return BodyEnd()

    def _wrong(self, text: str) -> None:
        self.fault = text

    def _line(self) -> bytes | None:
        end = self._buffer.find(CRLF)
        if end < 0:
            if len(self._buffer) > MOST_HEAD:
                self._wrong("a line has no end")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _head(self, at: float) -> Item | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MOST_HEAD:
                self._wrong("the fields have no end")
            elif self._buffer and not self._requests and not self._may_begin():
                self._wrong(f"this is no HTTP/1.1 answer: {bytes(self._buffer[:24])!r}")
            return None
        first, *lines = bytes(self._buffer[:end]).split(CRLF)
        del self._buffer[: end + 4]
        head = self._first(first, at)
        if head is None:
            return None
        for line in lines:
            match = _FIELD.fullmatch(line)
            if match is None:
                self._wrong(f"this line is no field: {line[:80]!r}")
                return None
            name, value = match[1].decode("ascii").lower(), match[2].decode("latin-1")
            head.fields.append((name, value))
        self._state = self._body_of(head)
        return head

    def _may_begin(self) -> bool:
        return b"HTTP/1.".startswith(bytes(self._buffer[:7])) or self._buffer.startswith(b"HTTP/1.")

    def _first(self, line: bytes, at: float) -> Head | None:
        if self._requests:
            match = _REQUEST.fullmatch(line)
            if match is not None:
                return Head(method=match[1].decode(), target=match[2].decode("latin-1"), at=at)
        else:
            match = _STATUS.fullmatch(line)
            if match is not None:
                reason = (match[2] or b"").decode("latin-1")
                return Head(status=int(match[1]), reason=reason, at=at)
        self._wrong(f"this is no first line of HTTP/1.1: {line[:80]!r}")
        return None

    def _body_of(self, head: Head) -> str:
        self.framing = ""
        if 100 <= head.status < 200:
            return "head"
        if self.bodiless or head.status in (204, 304):
            self.bodiless = False
            return "empty"
        codings = head.tokens("transfer-encoding")
        if codings:
            self.framing = "chunked"
            if codings != ["chunked"]:
                self._wrong(f"the transfer coding is {codings}, not chunked")
            return "size"
        length = head.get("content-length")
        if length is not None:
            self.framing = "length"
            if not (length.isascii() and length.isdigit()):
                self._wrong(f"Content-Length is {length!r}")
                return "head"
            self._left = int(length)
            return "length" if self._left else "empty"
        if self._requests:
            return "empty"
        self.framing = "close"
        return "close"

    def _content(self) -> Item | None:
        if not self._buffer:
            return None
        if self._state == "close":
            data = bytes(self._buffer)
            self._buffer.clear()
            return data
        data = bytes(self._buffer[: self._left])
        del self._buffer[: len(data)]
        self._left -= len(data)
        if self._left == 0:
            self._state = "gap" if self._state == "chunk" else "empty"
        return data

    def _size(self, line: bytes) -> Item | None:
        match = _CHUNK.fullmatch(line)
        if match is None:
            self._wrong(f"this is no size of a chunk: {line[:40]!r}")
            return None
        self._left = int(match[1], 16)
        self._state = "chunk" if self._left else "trailers"
        return b""


def request(method: str, target: str, fields: Fields, body: bytes = b"") -> bytes:
    """Return the octets of a request; the fields are sent as given."""
    return _message(f"{method} {target} HTTP/1.1", fields) + body


def answer(status: int, reason: str, fields: Fields, body: bytes = b"") -> bytes:
    """Return the octets of an answer; the fields are sent as given."""
    return _message(f"HTTP/1.1 {status} {reason}", fields) + body


def _message(first: str, fields: Iterable[tuple[str, str]]) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """Return one chunk; without octets it is the last one, with the end of the body."""
    return f"{len(data):x}\r\n".encode() + data + CRLF
