"""One connection of HTTP/2: many attempts at once, by the library `h2`, which knows no sockets.

Rules of this file: octets are written once for each turn of the loop.  A stream gives credit back
only for what its caller has taken, and the connection for all that has arrived, so that a caller
who stops holds up its own stream and no other.  A GOAWAY lets open streams finish.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from muxwire._generated.registries import HTTP_MIN_SILENCE_MS
from muxwire.core.http.response import HELD
from muxwire.http.attempt import Attempt
from muxwire.http.goaway import Filter, Goaway

STREAM_WINDOW = 2 * HELD
"""Credit of a stream: more than a caller may leave, so that one who stops is seen as paused."""

CONNECTION_WINDOW = 1 << 24
_STREAMS = 1_000
"""Streams of a connection, if the worker allows more."""

_SETTINGS = h2.settings.SettingCodes
_ANNOUNCED = {
    _SETTINGS.ENABLE_PUSH: 0,
    _SETTINGS.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
    _SETTINGS.MAX_HEADER_LIST_SIZE: 65_536,
}


class Connection(asyncio.Protocol):
    """A connection from its TCP handshake to its end.

    Args:
        authority: Host and port, as a request names them.
        on_room: Called when a stream may have come free, and when the connection is over.

    Attributes:
        ready: Done when the SETTINGS of the peer have come; an error if they never will.
        over: Done when the connection is closed.
    """

    def __init__(self, authority: str, on_room: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._authority = authority
        self._on_room = on_room
        self._filter = Filter()
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._streams: dict[int, Stream] = {}
        self._transport: asyncio.Transport | None = None
        self._debt = 0  # octets that the connection has not given back
        self._heard = self._loop.time()
        self._retired = False
        self._blocked = False  # the transport takes nothing
        self._flushing = False
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._handlers: dict[type[h2.events.Event], Callable[[Any], None]] = {
            h2.events.ResponseReceived: self._on_response,
            h2.events.DataReceived: self._on_data,
            h2.events.StreamEnded: self._on_ended,
            h2.events.StreamReset: self._on_reset,
            h2.events.WindowUpdated: self._on_credit,
            h2.events.RemoteSettingsChanged: self._on_settings,
        }

    @property
    def room(self) -> int:
        """How many streams may be opened now."""
        if self._retired or not self.ready.done():
            return 0
        most = min(_STREAMS, self._h2.remote_settings.max_concurrent_streams)
        return most - len(self._streams)

    @property
    def usable(self) -> bool:
        """Whether it takes new streams, now or later."""
        return not self._retired

    def start(self, attempt: Attempt) -> None:
        """Open a stream; there has to be room."""
        number = self._h2.get_next_available_stream_id()
        post = attempt.post
        fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", self._authority),
            (":path", post.path),
            *post.fields,
            ("content-length", str(len(post.body))),
        ]
        self._h2.send_headers(number, fields, end_stream=not post.body)
        stream = self._streams[number] = Stream(self, number, attempt)
        attempt.carrier = stream
        attempt.posted()
        self._push(stream)
        if number >= self._h2.HIGHEST_ALLOWED_STREAM_ID - 2:
            self._retired = True

    def close(self) -> None:
        """Say goodbye and close."""
        self._retired = True
        if self._transport is None or self._transport.is_closing():
            return
        self._h2.close_connection()
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._retired = True
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the preface and SETTINGS."""
        self._transport = cast(asyncio.Transport, transport)
        self._h2.local_settings = h2.settings.Settings(client=True, initial_values=_ANNOUNCED)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take octets."""
        self._heard = self._loop.time()
        try:
            for piece in self._filter.feed(data):
                if isinstance(piece, Goaway):
                    self._on_goaway(piece)
                    continue
                events = self._h2.receive_data(piece)
                self._note_ends(events)
                for event in events:
                    if handler := self._handlers.get(type(event)):
                        handler(event)
        except (h2.exceptions.ProtocolError, ValueError) as error:
            self._flush()  # h2 has a GOAWAY to send
            self._end(f"the peer breaks HTTP/2: {error}")
            self.abort()
            return
        if self._debt > CONNECTION_WINDOW // 4:
            self._h2.increment_flow_control_window(self._debt)
            self._debt = 0
        self._flush()

    def pause_writing(self) -> None:
        """Send no more of the bodies."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Go on with the bodies."""
        self._blocked = False
        self._push_all()

    def connection_lost(self, error: Exception | None) -> None:
        """End what is open."""
        self._end(str(error) if error else "the worker closed the connection")
        self.over.set_result(None)
        self._on_room()

    def _end(self, message: str) -> None:
        self._retired = True
        self._fail(message)
        for stream in [*self._streams.values()]:
            stream.ended = stream.reset = True
            stream.attempt.cut(message)
        self._streams.clear()

    def _fail(self, message: str) -> None:
        """Tell whoever waits for it that it will never be ready."""
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(message))
            self.ready.exception()  # there may be nobody who waits

    # -- what the peer says

    def _note_ends(self, events: list[h2.events.Event]) -> None:
        """Note what `h2` knows already: nothing is sent on a stream that it has closed."""
        for event in events:
            if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset) and (
                stream := self._streams.get(event.stream_id or 0)
            ):
                stream.ended = True
                stream.reset = isinstance(event, h2.events.StreamReset)

    def _on_settings(self, _: h2.events.RemoteSettingsChanged) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
        self._push_all()
        self._loop.call_soon(self._on_room)

    def _on_goaway(self, goaway: Goaway) -> None:
        self._retired = True
        name = _code(goaway.code)
        self._fail(f"GOAWAY {name}")
        for number, stream in [*self._streams.items()]:
            if number > goaway.last:
                stream.attempt.cut(f"GOAWAY {name}: the stream was not taken")
        if not self._streams:
            self.close()
        self._on_room()

    def _on_response(self, event: h2.events.ResponseReceived) -> None:
        if stream := self._streams.get(event.stream_id or 0):
            fields: dict[str, str] = {}
            for name, value in event.headers or ():
                key, text = bytes(name).decode("latin-1"), bytes(value).decode("latin-1")
                fields[key] = f"{fields[key]}, {text}" if key in fields else text
            status = fields.get(":status", "")
            if status.isascii() and status.isdecimal():
                stream.attempt.answered(int(status), fields.get)
            else:
                stream.attempt.cut(f"the status is {status[:16]!r}")

    def _on_data(self, event: h2.events.DataReceived) -> None:
        size = event.flow_controlled_length or 0
        self._debt += size
        if stream := self._streams.get(event.stream_id or 0):
            stream.unreturned += size
            stream.attempt.receive(event.data or b"")
            self.give_back(stream)

    def _on_ended(self, event: h2.events.StreamEnded) -> None:
        if stream := self._streams.get(event.stream_id or 0):
            stream.attempt.ended()

    def _on_reset(self, event: h2.events.StreamReset) -> None:
        if stream := self._streams.get(event.stream_id or 0):
            stream.attempt.cut(f"RST_STREAM {_code(int(event.error_code or 0))}")

    def _on_credit(self, event: h2.events.WindowUpdated) -> None:
        if not event.stream_id:
            self._push_all()
        elif (stream := self._streams.get(event.stream_id)) and stream.unsent:
            self._push(stream)

    # -- what streams want

    def _push_all(self) -> None:
        for stream in [*self._streams.values()]:
            if stream.unsent:
                self._push(stream)

    def _push(self, stream: Stream) -> None:
        """Send of a body what there is credit for."""
        h2_, number = self._h2, stream.number
        while stream.unsent and not self._blocked and not stream.ended:
            size = min(h2_.local_flow_control_window(number), h2_.max_outbound_frame_size)
            if size <= 0:
                break
            piece, stream.unsent = stream.unsent[:size], stream.unsent[size:]
            h2_.send_data(number, piece, end_stream=not stream.unsent)
            if len(stream.unsent) % (1 << 18) < size:
                self._flush()  # so that a transport that is full says so
        if not stream.unsent:
            stream.attempt.sent()
        self.flush_soon()

    def give_back(self, stream: Stream) -> None:
        """Give credit for what the caller has taken, half a window at a time."""
        if stream.ended:
            return
        size = stream.unreturned - min(stream.unreturned, stream.attempt.held)
        if size >= STREAM_WINDOW // 2:
            stream.unreturned -= size
            self._h2.increment_flow_control_window(size, stream.number)
            self.flush_soon()

    def leave(self, stream: Stream) -> None:
        """Let a stream go; reset it if either side is not at its end."""
        del self._streams[stream.number]
        if not stream.reset and (not stream.ended or stream.unsent):
            stream.ended = True
            self._h2.reset_stream(stream.number, h2.errors.ErrorCodes.CANCEL)
            self.flush_soon()
        if self._loop.time() - self._heard >= HTTP_MIN_SILENCE_MS / 1000:
            self._retired = True  # it may be dead
        if self._retired and not self._streams:
            self.close()
        self._on_room()

    def flush_soon(self) -> None:
        """Write at the end of this turn of the loop."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        if self._transport is not None and not self._transport.is_closing():
            data = self._h2.data_to_send()
            if data:
                self._transport.write(data)


class Stream:
    """One stream, and the attempt that it carries.

    Attributes:
        unsent: What is left of the body.
        unreturned: Octets for which no credit was given back.
        ended: Nothing more will come.
        reset: The peer has reset it.
    """

    __slots__ = ("_connection", "attempt", "ended", "number", "reset", "unreturned", "unsent")

    def __init__(self, connection: Connection, number: int, attempt: Attempt) -> None:
        self._connection = connection
        self.number = number
        self.attempt = attempt
        self.unsent = memoryview(attempt.post.body)
        self.unreturned = 0
        self.ended = False
        self.reset = False

    def resume(self) -> None:
        """Give credit back."""
        self._connection.give_back(self)

    def drop(self) -> None:
        """Let go of the stream."""
        self._connection.leave(self)


def _code(code: int) -> str:
    try:
        return h2.errors.ErrorCodes(code).name
    except ValueError:
        return f"{code:#x}"
