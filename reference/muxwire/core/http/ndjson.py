"""Reads newline-delimited JSON (P1-022).

Rules of this file: a line ends with LF, and one without is none.  A line in the form that workers
write is taken as a whole; every other one is read as a JSON object, with its members in any order.
What an item's octets are is its text in the line, not a value that is written anew.
"""

from __future__ import annotations

import binascii
from binascii import a2b_base64
from collections.abc import Iterator

from muxwire.core.http.reading import (
    Event,
    Member,
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

_BIN = b'{"t":"bin","seq":%d,"b64":"'
_ITEM = b'{"t":"item","seq":%d,"data":'
_SPACE = b" \t\r"


class NdjsonReader:
    """Reads the body of one response.

    Args:
        limit: The largest item in octets.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._longest = longest(limit)
        self._next = 0  # the seq of the next item
        self._line = bytearray()  # that is not complete

    def read(self, data: bytes) -> Iterator[Event]:
        """Yield what is complete with these octets; see `Reader`."""
        *lines, rest = data.split(b"\n")
        if lines and self._line:
            self._line += lines[0]
            lines[0] = bytes(self._line)
            self._line.clear()
        for line in lines:
            item = self._usual(line)
            event = item if item is not None else self._read_line(line)
            if event is not None:
                yield event
        self._line += rest
        if len(self._line) > self._longest:
            raise too_large(self._limit)

    def _usual(self, line: bytes) -> bytes | None:
        """Return the item of a line in the form that workers write, or None if it has another."""
        seq = self._next
        head = _BIN % seq
        length = len(head)
        if line[:length] == head:
            try:
                item = a2b_base64(line[length:-2], strict_mode=True)
            except binascii.Error:
                return None
            if line[-2:] != b'"}' or len(line) != length + in_base64(len(item)) + 2:
                return None
        else:
            head = _ITEM % seq
            if line[: len(head)] != head or line[-1:] != b"}":
                return None
            item = line[len(head) : -1].strip(_SPACE)
            if not is_json(item):  # its members stand in another order, or it is none
                return None
        if len(item) > self._limit:
            return None
        self._next = seq + 1
        return item

    def _read_line(self, line: bytes) -> Event | None:
        """Return the event of a line, or None if it has none."""
        line = line.removesuffix(b"\r")
        if not line:
            return None
        try:
            members = read_object(line)
        except ValueError as error:
            raise fault(f"a line is no JSON object: {error}") from None
        kind = members["t"].value if "t" in members else None
        match kind:
            case "bin" | "item":
                return self._item(members, kind)
            case "done":
                return to_done(members)
            case "error":
                return to_failed(members)
            case str():  # a heartbeat, or of another version
                return None
        raise fault("a line has no string t")

    def _item(self, members: dict[str, Member], kind: str) -> bytes:
        seq = self._next
        number = members["seq"].text if "seq" in members else "none"
        if number != str(seq):
            raise out_of_order(number[:24], seq)
        self._next = seq + 1
        member = members.get("b64" if kind == "bin" else "data")
        if member is None:
            raise fault(f"item {seq} has no content")
        if kind == "item":
            return from_json(member.text.encode(), seq, self._limit)
        if not isinstance(member.value, str):
            raise fault(f"b64 of item {seq} is not a string")
        return from_base64(member.value.encode(errors="replace"), seq, self._limit)
