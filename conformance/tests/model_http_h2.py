"""HTTP/2 of the model worker, over the library h2: many requests side by side."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from model_http_request import MOST_FIELDS, Fields, RefusedError, Request, too_large

if TYPE_CHECKING:
    from model_http import Connection
    from model_http_call import Call

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class H2:
    """One connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.server = connection.server
        self.transport = connection.transport
        config = h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.streams: dict[int, Stream] = {}
        self.closing = False
        self._stopped = False
        self._scan = _Scan()
        self.send()

    def feed(self, data: bytes) -> None:
        """Take octets."""
        begun = self._scan.feed(data)
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError:
            self.send()
            self.transport.close()
            return
        for event in events:
            self._event(event)
        if begun:
            self.connection.fields_begin()
        else:
            self.connection.fields_complete()
        for stream in list(self.streams.values()):
            stream.flush()
        self.send()

    def _event(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.RequestReceived):
            stream = Stream(self, event.stream_id)
            self.streams[event.stream_id] = stream
            stream.head(list(event.headers))  # type: ignore[arg-type]
        elif isinstance(event, h2.events.DataReceived):
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id in self.streams:
                self.streams[event.stream_id].data(event.data)
        elif isinstance(event, h2.events.StreamEnded):
            if event.stream_id in self.streams:
                self.streams[event.stream_id].ended()
        elif isinstance(event, h2.events.StreamReset):
            stream_ = self.streams.pop(event.stream_id, None)
            if stream_ is not None:
                stream_.gone(reset=True)

    def send(self) -> None:
        """Hand what h2 has to say to the transport."""
        data = self.h2.data_to_send()
        if data and not self.connection.lost:
            self.transport.write(data)

    def gone(self) -> None:
        """Take the end of the connection."""
        for stream in list(self.streams.values()):
            stream.gone(reset=False)
        self.streams.clear()

    def writable(self, ready: bool) -> None:
        """Take what the transport says about its buffer."""
        self._stopped = not ready
        if ready:
            for stream in list(self.streams.values()):
                stream.flush()
            self.send()

    @property
    def stopped(self) -> bool:
        """Tell whether the kernel takes no more."""
        return self._stopped

    def over(self, stream: Stream) -> None:
        """Forget a stream that has ended; close the connection if that was asked for."""
        self.streams.pop(stream.number, None)
        if self.closing and not self.connection.lost:
            self.h2.close_connection()
            self.send()
            self.transport.close()

    def buffered(self) -> int:
        """Return octets that the client's windows hold back."""
        return sum(len(stream.waiting) for stream in self.streams.values())


class Stream:
    """One request; it is its own channel."""

    def __init__(self, connection: H2, number: int) -> None:
        self.connection = connection
        self.server = connection.server
        self.number = number
        self.lost = False
        self.waiting = bytearray()
        self._finishing = False
        self._done = False
        self._request: Request | None = None
        self._body = bytearray()
        self._call: Call | None = None
        self._room = asyncio.Event()

    def head(self, fields: Fields) -> None:
        """Take the fields of the request."""
        pseudo = {name: value for name, value in fields if name.startswith(":")}
        rest = [pair for pair in fields if not pair[0].startswith(":")]
        large = sum(len(name) + len(value) for name, value in fields) > MOST_FIELDS
        if large and not self.server.flaw("http-any-fields"):
            self.start(431, [("content-length", "0")])
            self.finish()
            return
        try:
            self._request = self.server.head(pseudo[":method"], pseudo[":path"], rest)
        except RefusedError as refused:
            self._refuse(refused, pseudo[":path"].rpartition("/")[2])

    def _refuse(self, refused: RefusedError, subject: str) -> None:
        self._request = None
        self.server.refuse(refused, self, subject)

    def data(self, data: bytes) -> None:
        """Take octets of the body."""
        if self._request is None:
            return
        self._body += data
        if len(self._body) > self.server.max_message:
            try:
                too_large(self.server)
            except RefusedError as refused:
                self._refuse(refused, "")

    def ended(self) -> None:
        """Take the end of the request."""
        request, self._request = self._request, None
        if request is not None:
            request.body = bytes(self._body)
            self._call = self.server.admit(request, self)

    def gone(self, *, reset: bool) -> None:
        """Take the end of the stream."""
        self.lost = True
        self.waiting.clear()
        self._room.set()
        if self._call is None:
            return
        for name in (
            "http-sees-end-when-writing",
            "http-ignores-reset" if reset else "http-ignores-disconnect",
        ):
            if self.server.flaw(name):
                return
        self._call.cancel()

    # Out --------------------------------------------------------------------------------------

    def start(self, status: int, fields: Fields) -> None:
        """Send status and fields."""
        if self.lost or self.connection.connection.lost:
            return
        own = [pair for pair in fields if pair[0] != "connection"]
        self.connection.h2.send_headers(self.number, [(":status", str(status)), *own])
        self.connection.send()

    def write(self, data: bytes) -> None:
        """Send octets of the body."""
        if self.lost:
            if self._call is not None and not self.server.flaw("http-ignores-reset"):
                self._call.cancel()
            return
        self.waiting += data
        self.flush()
        self.connection.send()

    def flush(self) -> None:
        """Send what the windows allow."""
        if self.lost or self.connection.connection.lost:
            return
        peer = self.connection.h2
        while self.waiting and not self.connection.stopped:
            size = min(
                len(self.waiting),
                peer.local_flow_control_window(self.number),
                peer.max_outbound_frame_size,
            )
            if size <= 0:
                break
            peer.send_data(self.number, bytes(self.waiting[:size]))
            del self.waiting[:size]
            self.connection.send()
        self._room.set()
        if self._finishing and not self.waiting and not self._done:
            self._done = True
            peer.end_stream(self.number)
            self.connection.send()
            self.connection.over(self)

    async def room(self, limit: int) -> None:
        """Wait until at most so many octets wait."""
        while len(self.waiting) > limit and not self.lost:
            self._room.clear()
            await self._room.wait()

    def finish(self) -> None:
        """End the stream when everything is sent."""
        self._finishing = True
        self.flush()

    def abort(self) -> None:
        """Reset the stream."""
        if not self.lost and not self.connection.connection.lost:
            self.connection.h2.reset_stream(self.number, h2.errors.ErrorCodes.INTERNAL_ERROR)
            self.connection.send()
            self.connection.over(self)

    def close_after(self) -> None:
        """Close the connection behind this response."""
        self.connection.closing = True


class _Scan:
    """Tells whether the fields of a request have begun and are not complete (P1-018)."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._preface = True
        self._open = False

    def feed(self, data: bytes) -> bool:
        """Take octets; tell whether fields are open behind them."""
        self._buffer += data
        if self._preface:
            del self._buffer[: len(PREFACE)]
            self._preface = False
        while len(self._buffer) >= 9:
            size = int.from_bytes(self._buffer[:3], "big")
            kind, flags = struct.unpack_from(">BB", self._buffer, 3)
            if len(self._buffer) < 9 + size:
                return self._open or kind in (1, 9)
            if kind in (1, 9):
                self._open = not flags & 4
            del self._buffer[: 9 + size]
        return self._open
