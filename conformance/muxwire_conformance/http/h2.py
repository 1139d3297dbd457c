"""HTTP/2 for the judge: frames, fields, flow control; either side (RFC 9113, prior knowledge).

Rules of this file:

* No socket: octets go in with ``feed``, and what has to be said goes out through ``write``.
* SETTINGS and PING are answered. Credit is given back as the body is read, unless it is held.
* What the peer does wrong at this level ends the connection: ``fault`` says why.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from hpack import Decoder, Encoder, HPACKError

from muxwire_conformance.http.head import Fields

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 0x1, 0x1, 0x4, 0x8, 0x20
NO_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL = 0x0, 0x2, 0x7, 0x8
ENABLE_PUSH, MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME = 2, 3, 4, 5
FIRST_WINDOW: Final = 65_535
LARGE_WINDOW: Final = 1_048_576
MOST_FRAME: Final = 16_384


@dataclass(slots=True, kw_only=True)
class HeadersCame:
    """The fields of a message, or its trailers."""

    stream: int
    fields: Fields
    end: bool


@dataclass(slots=True, kw_only=True)
class DataCame:
    """Octets of a body."""

    stream: int
    data: bytes
    end: bool


@dataclass(slots=True, kw_only=True)
class ResetCame:
    """RST_STREAM."""

    stream: int
    code: int


@dataclass(slots=True, kw_only=True)
class GoawayCame:
    """GOAWAY."""

    last_stream: int
    code: int


Event = HeadersCame | DataCame | ResetCame | GoawayCame


@dataclass(slots=True)
class _Stream:
    """Flow control of one stream."""

    send_window: int
    receive_window: int
    held: bool = False
    owed: int = 0
    waiting: bytearray = field(default_factory=bytearray)
    ends: bool = False
    ended: bool = False


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return the octets of one frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


class H2:
    """One side of one connection.

    Args:
        client: Whether this side opens the streams.
        write: Takes octets for the peer.
        window: Octets of a stream that the peer may send before they are read.
    """

    def __init__(
        self, *, client: bool, write: Callable[[bytes], None], window: int = LARGE_WINDOW
    ) -> None:
        self._write = write
        self._window = window
        self._expect_preface = not client
        self._buffer = bytearray()
        self._encoder = Encoder()
        self._decoder = Decoder()
        self._streams: dict[int, _Stream] = {}
        self._next = 1
        self._peer_window = FIRST_WINDOW
        self._send_window = FIRST_WINDOW
        self._receive_window = FIRST_WINDOW
        self._fields: tuple[int, bool, bytearray] | None = None
        self.max_streams = 1 << 30
        self.settled = False
        self.fault = ""
        settings = [(INITIAL_WINDOW, window), *([(ENABLE_PUSH, 0)] if client else [])]
        payload = b"".join(struct.pack(">HI", *pair) for pair in settings)
        more = LARGE_WINDOW * 16 - FIRST_WINDOW
        self._receive_window += more
        write(
            (PREFACE if client else b"")
            + frame(SETTINGS, 0, 0, payload)
            + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", more))
        )

    # -- out ---------------------------------------------------------------------------------

    def open(self, fields: Fields, *, end: bool) -> int:
        """Begin a request; return its stream."""
        stream, self._next = self._next, self._next + 2
        self._add(stream)
        self.headers(stream, fields, end=end)
        return stream

    def skip_stream(self) -> None:
        """Count a stream that a case opens with octets of its own."""
        self._next += 2

    def headers(self, stream: int, fields: Fields, *, end: bool = False) -> None:
        """Send fields."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        self._fields_out(stream, self.encode(fields), flags)

    def encode(self, fields: Fields) -> bytes:
        """Return fields as octets of HPACK."""
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        return bytes(self._encoder.encode(pairs, huffman=False))

    def _fields_out(self, stream: int, block: bytes, flags: int) -> None:
        pieces = [block[at : at + MOST_FRAME] for at in range(0, len(block), MOST_FRAME)] or [b""]
        out = b""
        for index, piece in enumerate(pieces):
            kind = HEADERS if index == 0 else CONTINUATION
            last = END_HEADERS if index == len(pieces) - 1 else 0
            own = flags & END_STREAM if index == 0 else 0
            out += frame(kind, last | own, stream, piece)
        self._write(out)

    def data(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send octets of a body as far as the peer's windows allow; the rest follows."""
        one = self._streams.get(stream)
        if one is None:
            return
        one.waiting += data
        one.ends = one.ends or end
        self._flush(stream, one)

    def _flush(self, stream: int, one: _Stream) -> None:
        out = bytearray()
        while one.waiting:
            size = min(len(one.waiting), one.send_window, self._send_window, MOST_FRAME)
            if size <= 0:
                break
            piece = bytes(one.waiting[:size])
            del one.waiting[:size]
            one.send_window -= size
            self._send_window -= size
            ends = one.ends and not one.waiting
            one.ended = one.ended or ends
            out += frame(DATA, END_STREAM if ends else 0, stream, piece)
        if one.ends and not one.waiting and not one.ended:
            one.ended = True
            out += frame(DATA, END_STREAM, stream)
        if out:
            self._write(bytes(out))

    def waiting(self, stream: int) -> int:
        """Return how many octets the peer's windows hold back."""
        return len(self._streams[stream].waiting) if stream in self._streams else 0

    def reset(self, stream: int, code: int = CANCEL) -> None:
        """Send RST_STREAM."""
        self._streams.pop(stream, None)
        self._write(frame(RST_STREAM, 0, stream, struct.pack(">I", code)))

    def goaway(self, last_stream: int, code: int = NO_ERROR) -> None:
        """Send GOAWAY."""
        self._write(frame(GOAWAY, 0, 0, struct.pack(">II", last_stream, code)))

    def hold(self, stream: int, held: bool = True) -> None:
        """Stop giving credit on a stream, or go on."""
        one = self._streams.get(stream)
        if one is None:
            return
        one.held = held
        if not held and one.owed:
            self._write(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", one.owed)))
            one.receive_window += one.owed
            one.owed = 0

    # -- in ----------------------------------------------------------------------------------

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take octets; yield what they say about streams."""
        self._buffer += data
        if self._expect_preface:
            if not PREFACE.startswith(self._buffer[: len(PREFACE)]):
                self.fault = "this is no preface of HTTP/2"
                return
            if len(self._buffer) < len(PREFACE):
                return
            del self._buffer[: len(PREFACE)]
            self._expect_preface = False
        while not self.fault and len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3], "big")
            kind, flags, stream = struct.unpack_from(">BBI", self._buffer, 3)
            if not self.settled and kind != SETTINGS:
                self.fault = "the first frame is no SETTINGS of HTTP/2"
                return
            if size > MOST_FRAME:
                self.fault = f"a frame of {size} octets is above SETTINGS_MAX_FRAME_SIZE"
                return
            if len(self._buffer) < 9 + size:
                return
            payload = bytes(self._buffer[9 : 9 + size])
            del self._buffer[: 9 + size]
            yield from self._frame(kind, flags, stream & 0x7FFF_FFFF, payload)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> Iterator[Event]:
        if (self._fields is not None) != (kind == CONTINUATION):
            self.fault = "a block of fields is interrupted, or goes on without a beginning"
        elif kind == DATA:
            yield from self._data(flags, stream, payload)
        elif kind in (HEADERS, CONTINUATION):
            yield from self._headers(kind, flags, stream, payload)
        elif kind == RST_STREAM and len(payload) == 4:
            self._streams.pop(stream, None)
            yield ResetCame(stream=stream, code=int.from_bytes(payload, "big"))
        elif kind == SETTINGS:
            self._settings(flags, payload)
        elif kind == PUSH_PROMISE:
            self.fault = "PUSH_PROMISE came although it is switched off"
        elif kind == PING and not flags & ACK:
            self._write(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY and len(payload) >= 8:
            last, code = struct.unpack_from(">II", payload)
            yield GoawayCame(last_stream=last & 0x7FFF_FFFF, code=code)
        elif kind == WINDOW_UPDATE and len(payload) == 4:
            self._credit(stream, int.from_bytes(payload, "big") & 0x7FFF_FFFF)

    def _unpadded(self, flags: int, payload: bytes, skip: int) -> bytes:
        pad = payload[0] + 1 if flags & PADDED and payload else 0
        if pad + skip > len(payload) + (1 if pad else 0):
            self.fault = "a frame has more padding than octets"
            return b""
        start = (1 if flags & PADDED else 0) + skip
        return payload[start : len(payload) - (pad - 1 if pad else 0)]

    def _data(self, flags: int, stream: int, payload: bytes) -> Iterator[Event]:
        size = len(payload)
        self._receive_window -= size
        one = self._streams.get(stream)
        if one is not None:
            one.receive_window -= size
        if self._receive_window < 0 or (one is not None and one.receive_window < 0):
            self.fault = f"DATA on stream {stream} exceeds the flow-control window"
            return
        if size:
            self._receive_window += size
            out = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", size))
            if one is not None and one.held:
                one.owed += size
            elif one is not None and not flags & END_STREAM:
                one.receive_window += size
                out += frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", size))
            self._write(out)
        data = self._unpadded(flags, payload, 0)
        if one is not None:
            yield DataCame(stream=stream, data=data, end=bool(flags & END_STREAM))

    def _headers(self, kind: int, flags: int, stream: int, payload: bytes) -> Iterator[Event]:
        if kind == HEADERS:
            block = self._unpadded(flags, payload, 5 if flags & PRIORITISED else 0)
            self._fields = (stream, bool(flags & END_STREAM), bytearray(block))
        elif self._fields is not None and self._fields[0] == stream:
            self._fields[2].extend(payload)
        if self._fields is None or not flags & END_HEADERS:
            return
        stream, end, whole = self._fields
        self._fields = None
        try:
            pairs = self._decoder.decode(bytes(whole), raw=True)
        except HPACKError as error:
            self.fault = f"the fields of stream {stream} are no HPACK: {error}"
            return
        if stream not in self._streams and self._next == 1 and stream % 2:
            self._add(stream)  # this side is the server
        fields = [
            (bytes(pair[0]).decode("latin-1"), bytes(pair[1]).decode("latin-1")) for pair in pairs
        ]
        yield HeadersCame(stream=stream, fields=fields, end=end)

    def _settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            return
        self.settled = True
        for at in range(0, len(payload) - 5, 6):
            name, value = struct.unpack_from(">HI", payload, at)
            if name == INITIAL_WINDOW:
                for one in self._streams.values():
                    one.send_window += value - self._peer_window
                self._peer_window = value
            elif name == MAX_STREAMS:
                self.max_streams = value
            elif name == 1:
                self._encoder.header_table_size = value
        self._write(frame(SETTINGS, ACK, 0))
        for number, one in list(self._streams.items()):
            self._flush(number, one)

    def _credit(self, stream: int, count: int) -> None:
        if stream == 0:
            self._send_window += count
            for number, one in list(self._streams.items()):
                self._flush(number, one)
        elif stream in self._streams:
            self._streams[stream].send_window += count
            self._flush(stream, self._streams[stream])

    def _add(self, stream: int) -> None:
        self._streams[stream] = _Stream(self._peer_window, self._window)
