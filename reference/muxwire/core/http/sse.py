"""Reads server-sent events by the whole grammar of the WHATWG (P1-022).

Rules of this file: an event in the form that workers write is taken as a whole.  Everything else is
read line by line, and so is what the next piece of the body has to complete.  A line ends at its
CR, and an LF behind that CR belongs to it, whenever it arrives.
"""

from __future__ import annotations

import binascii
import re
from binascii import a2b_base64
from collections.abc import Iterator

from muxwire.core.http.reading import (
    Event,
    fault,
    from_base64,
    from_json,
    in_base64,
    is_json,
    longest,
    out_of_order,
    read_object,
    to_done,
    to_failed,
    too_large,
)

_MARK = b"\xef\xbb\xbf"
_LF = 10
_BIN = b"id: %d\nevent: bin\ndata: "
_ITEM = b"id: %d\nevent: item\ndata: "
_LINE_END = re.compile(rb"[\r\n]").search


class SseReader:
    """Reads the body of one response.

    Args:
        limit: The largest item in octets.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._longest = longest(limit)
        self._next = 0  # the seq of the next item
        self._line = bytearray()  # that is not complete
        self._mark: bytes | None = b""  # what has come of the byte order mark; None: it is past
        self._skip_lf = False
        self._name = b""
        self._id: bytes | None = None
        self._data: bytearray | None = None
        self._between = True  # no line of an event has been read

    def read(self, data: bytes) -> Iterator[Event]:
        """Yield what is complete with these octets; see `Reader`."""
        if self._mark is not None:
            data = self._past_mark(data)
        if self._skip_lf and data:
            self._skip_lf = False
            data = data[int(data[0] == _LF) :]
        at, size = 0, len(data)
        while at < size and not (self._between and not self._line):
            at, event = self._read_lines(data, at, size)
            if event is not None:
                yield event
        *events, rest = data[at:].split(b"\n\n")
        for text in events:
            item = self._usual(text)
            if item is not None:
                yield item
            elif text != b": hb":
                yield from self._read_all(text + b"\n\n")
        yield from self._read_all(rest)

    def _past_mark(self, data: bytes) -> bytes:
        """Return the octets behind the byte order mark, if it has come or there is none."""
        data = (self._mark or b"") + data
        if len(data) < len(_MARK) and _MARK.startswith(data):
            self._mark = data
            return b""
        self._mark = None
        return data.removeprefix(_MARK)

    def _usual(self, text: bytes) -> bytes | None:
        """Return the item of an event in the form that workers write, or None if it has another."""
        seq = self._next
        head = _BIN % seq
        length = len(head)
        if text[:length] == head:
            try:
                item = a2b_base64(text[length:], strict_mode=True)
            except binascii.Error:
                return None
            if len(text) - length != in_base64(len(item)):
                return None
        else:
            head = _ITEM % seq
            if text[: len(head)] != head:
                return None
            item = text[len(head) :]
            if b"\n" in item or b"\r" in item or not is_json(item):
                return None
        if len(item) > self._limit:
            return None
        self._next = seq + 1
        return item

    def _read_all(self, data: bytes) -> Iterator[Event]:
        """Read line by line."""
        at, size = 0, len(data)
        while at < size:
            at, event = self._read_lines(data, at, size)
            if event is not None:
                yield event

    def _read_lines(self, data: bytes, at: int, size: int) -> tuple[int, Event | None]:
        """Read to the end of an event, or of the octets."""
        while at < size:
            end = _LINE_END(data, at)
            if end is None:
                self._line += data[at:]
                self._check_size()
                return size, None
            stop = end.start()
            line = data[at:stop]
            if self._line:
                line = bytes(self._line) + line
                self._line.clear()
            at = stop + 1
            if data[stop] != _LF:  # CR
                if at == size:
                    self._skip_lf = True
                elif data[at] == _LF:
                    at += 1
            if not line:
                return at, self._dispatch()
            self._take(line)
        return at, None

    def _check_size(self) -> None:
        if len(self._line) + len(self._data or b"") > self._longest:
            raise too_large(self._limit)

    def _take(self, line: bytes) -> None:
        """Take a field, or drop a comment."""
        name, _, value = line.partition(b":")
        if value[:1] == b" ":
            value = value[1:]
        if name == b"data":
            if self._data is None:
                self._data = bytearray(value)
            else:
                self._data += b"\n" + value
            self._check_size()
        elif name == b"event":
            self._name = value
        elif name == b"id" and b"\0" not in value:
            self._id = value
        self._between = False

    def _dispatch(self) -> Event | None:
        """End an event; without data it is none, and without a name that is known it is ignored."""
        name, number, data = self._name, self._id, self._data
        self._name, self._id, self._data = b"", None, None
        self._between = True
        if data is None:
            return None
        if name in (b"bin", b"item"):
            return self._item(number, name == b"bin", bytes(data))
        if name not in (b"done", b"error"):
            return None
        try:
            members = read_object(bytes(data))
        except ValueError as error:
            raise fault(f"the data of {name.decode()} is no JSON object: {error}") from None
        return to_done(members) if name == b"done" else to_failed(members)

    def _item(self, number: bytes | None, binary: bool, text: bytes) -> bytes:
        seq = self._next
        if number != b"%d" % seq:
            found = "none" if number is None else repr(number[:24].decode("latin-1"))
            raise out_of_order(found, seq)
        self._next = seq + 1
        return (from_base64 if binary else from_json)(text, seq, self._limit)
