"""Bytes in and out of one TCP connection, without losing the peer's last word.

Rules of this file:

* The reader is armed before the first write and stays armed until the peer ends the connection.
* A failed write never stops reading: a peer that closes with unread input resets the connection,
  and its error frame may still wait in our receive buffer.
* Everything is recorded with a monotonic time and with the chunk boundaries as they came.
* How a connection ended is a fact with a name: FIN, RST, or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

READ_SIZE = 65_536
KEEP_OCTETS = 1_048_576  # of each direction; later chunks keep only their length
KEEP_CHUNKS = 20_000

_RESET_ERRORS = {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN}


class EndKind(enum.Enum):
    """How the peer's direction of a connection ended."""

    FIN = "FIN"
    RST = "RST"
    LOCAL = "closed by the judge"


class Direction(enum.Enum):
    """Who wrote the octets of a chunk."""

    SENT = "sent"
    RECEIVED = "received"


@dataclass(slots=True, kw_only=True)
class Chunk:
    """One write or one read, as it happened."""

    direction: Direction
    at: float
    data: bytes
    length: int


@dataclass(slots=True, kw_only=True)
class End:
    """The end of the peer's direction."""

    kind: EndKind
    at: float
    received: int

    def describe(self) -> str:
        """Say in words how the connection ended."""
        if self.kind is EndKind.LOCAL:
            return "closed by the judge"
        word = "closed (FIN)" if self.kind is EndKind.FIN else "reset (RST)"
        return (
            f"{word} {'before any byte' if self.received == 0 else f'after {self.received} bytes'}"
        )


class ConnectError(Exception):
    """No TCP connection could be made; the text is a plain sentence part."""

    def __init__(
        self,
        text: str,
        *,
        refused: bool = False,
        timed_out: bool = False,
        reset: bool = False,
        tls: bool = False,
    ) -> None:
        super().__init__(text)
        self.tls = tls
        self.refused = refused
        self.timed_out = timed_out
        self.reset = reset


@dataclass(slots=True)
class Recording:
    """Chunks of both directions, bounded in memory."""

    chunks: list[Chunk] = field(default_factory=list)
    kept: dict[Direction, int] = field(default_factory=lambda: dict.fromkeys(Direction, 0))

    def add(self, direction: Direction, data: bytes, at: float) -> None:
        """Append one chunk; beyond the budget of its direction only its length is kept."""
        if self.kept[direction] < KEEP_OCTETS:
            self.kept[direction] += len(data)
            self.chunks.append(Chunk(direction=direction, at=at, data=data, length=len(data)))
        elif len(self.chunks) < KEEP_CHUNKS:
            self.chunks.append(Chunk(direction=direction, at=at, data=b"", length=len(data)))


def _ignore_bytes(_data: bytes, _at: float) -> None:
    return None


def _ignore() -> None:
    return None


def _ignore_end(_end: End) -> None:
    return None


class Transport:
    """One non-blocking TCP socket driven by the event loop's reader and writer callbacks.

    Writes are queued and leave as soon as the kernel takes them. Nothing here raises because the
    peer went away: look at ``end`` and ``write_error``.

    Args:
        sock: A connected socket that does not block.
        record: Keep the octets of both directions.
    """

    def __init__(self, sock: socket.socket, *, record: bool = True) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._queue: deque[memoryview] = deque()
        self._queued = 0
        self._held: deque[bytes] = deque()
        self._writer_armed = False
        self._reader_armed = False
        self._paused = False
        self._closed = False
        self._half_close_wanted = False
        self._half_closed = False
        self._dribble = False
        self._flushed = asyncio.Event()
        self._flushed.set()
        self.on_bytes: Callable[[bytes, float], None] = _ignore_bytes
        self.on_end: Callable[[End], None] = _ignore_end
        self.on_half_close: Callable[[], None] = _ignore
        self._record = record
        self.recording = Recording()
        self.end: End | None = None
        self.write_error: OSError | None = None
        self.sent = 0
        self.received = 0
        self.opened_at = time.monotonic()

    # -- opening ---------------------------------------------------------------------------

    @classmethod
    async def connect(
        cls,
        host: str,
        port: int,
        *,
        within: float | None,
        receive_buffer: int | None = None,
        record: bool = True,
        on_bytes: Callable[[bytes, float], None] = _ignore_bytes,
        on_end: Callable[[End], None] = _ignore_end,
    ) -> Self:
        """Dial ``host:port`` (name, IPv4 or IPv6 address) and arm the reader.

        Args:
            host: Address or name, IPv6 without brackets.
            port: TCP port.
            within: Seconds for each address, None for no limit.
            receive_buffer: SO_RCVBUF in octets, set before the dial; small values make the peer
                feel an unread connection soon.
            record: Keep the octets of both directions.
            on_bytes: Called with every chunk received and its time.
            on_end: Called once when the peer's direction ends.

        Raises:
            ConnectError: no address could be reached.
        """
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            text = f"the name {host!r} cannot be resolved"
            raise ConnectError(text) from error
        last = ConnectError("no address")
        for family, kind, protocol, _name, address in found:
            started = time.monotonic()
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if receive_buffer is not None:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
                async with asyncio.timeout(within):
                    await loop.sock_connect(sock, address)
            except TimeoutError:
                sock.close()
                last = ConnectError("the dial timed out", timed_out=True)
                continue
            except OSError as error:
                sock.close()
                refused = error.errno == errno.ECONNREFUSED
                text = "connection refused" if refused else (error.strerror or str(error)).lower()
                reset = error.errno == errno.ECONNRESET
                last = ConnectError(text, refused=refused, reset=reset)
                continue
            except BaseException:
                sock.close()
                raise
            transport = cls(sock, record=record)
            transport.opened_at = started
            transport.on_bytes = on_bytes
            transport.on_end = on_end
            transport.resume_reading()
            return transport
        raise last

    @classmethod
    def accepted(cls, sock: socket.socket) -> Transport:
        """Take a socket that a listener accepted; reading begins with ``resume_reading``."""
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock)

    @property
    def local_port(self) -> int:
        """Return the judge's own port number, for the report."""
        if self._closed:
            return 0
        return int(self._sock.getsockname()[1])

    # -- reading ---------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Stop taking octets from the kernel, so that the peer meets a full buffer."""
        self._paused = True
        self._disarm_reader()

    def resume_reading(self) -> None:
        """Take octets again."""
        self._paused = False
        if not self._reader_armed and not self._closed and self.end is None:
            self._loop.add_reader(self._sock.fileno(), self._readable)
            self._reader_armed = True

    def _disarm_reader(self) -> None:
        if self._reader_armed:
            self._loop.remove_reader(self._sock.fileno())
            self._reader_armed = False

    def _readable(self) -> None:
        for _ in range(4):  # bounded, so that one busy connection does not starve the others
            if self._paused or self._closed or self.end is not None:
                return
            try:
                data = self._sock.recv(READ_SIZE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._ended(EndKind.RST)
                return
            if not data:
                # A failed write takes the error of a reset away and leaves only an end to read.
                self._ended(EndKind.FIN if self.write_error is None else EndKind.RST)
                return
            self._take(data)
            if len(data) < READ_SIZE:
                return

    def _take(self, data: bytes) -> None:
        """Hand on octets that have come."""
        now = time.monotonic()
        self.received += len(data)
        if self._record:
            self.recording.add(Direction.RECEIVED, data, now)
        self.on_bytes(data, now)

    def _ended(self, kind: EndKind) -> None:
        if self.end is not None:
            return
        self._disarm_reader()
        self.end = End(kind=kind, at=time.monotonic(), received=self.received)
        self.on_end(self.end)

    # -- writing ---------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue octets and hand to the kernel what it takes now."""
        if self._closed or self._half_close_wanted or self.write_error is not None or not data:
            return
        if self._held:
            self._held.append(data)
            return
        self._enqueue(self._encode(data))

    def write_apart(self, pieces: Sequence[bytes], gap: float) -> None:
        """Write pieces one after the other with a gap, so that the peer reads them apart.

        What is written meanwhile waits behind them.

        Args:
            pieces: What to write.
            gap: Seconds between two of them.
        """
        self._held.extend(pieces)
        self._flushed.clear()
        self._release(gap)

    def _release(self, gap: float) -> None:
        if not self._held or self._closed or self.write_error is not None:
            self._held.clear()
            return
        self._enqueue(self._encode(self._held.popleft()))
        if self._held:
            self._loop.call_later(gap, self._release, gap)
        else:
            self._pump()

    def _encode(self, data: bytes) -> bytes:
        """Return octets as they travel."""
        return data

    def _enqueue(self, data: bytes) -> None:
        self._queue.append(memoryview(data))
        self._queued += len(data)
        self._flushed.clear()
        self._pump()

    def dribble(self, on: bool = True) -> None:
        """Write one octet per system call from now on (with TCP_NODELAY set)."""
        self._dribble = on

    @property
    def unwritten(self) -> int:
        """Return how many octets the kernel has not taken yet."""
        return self._queued

    async def flushed(self, within: float | None) -> bool:
        """Wait until the kernel has everything; False if it could not be written in time."""
        try:
            async with asyncio.timeout(within):
                await self._flushed.wait()
        except TimeoutError:
            return False
        return self.write_error is None

    def half_close(self) -> None:
        """Send FIN after what is queued; reading goes on."""
        if not self._half_close_wanted:
            self.on_half_close()
        self._half_close_wanted = True
        self._pump()

    def _pump(self) -> None:
        budget = 64 if self._dribble else 1_000
        while self._queue and budget and not self._closed:
            budget -= 1
            head = self._queue[0]
            piece = head[:1] if self._dribble else head[:1_048_576]
            try:
                count = self._sock.send(piece)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._write_failed(error)
                return
            if self._record:
                self.recording.add(Direction.SENT, bytes(piece[:count]), time.monotonic())
            self.sent += count
            self._queued -= count
            if count == len(head):
                self._queue.popleft()
            else:
                self._queue[0] = head[count:]
        if self._queue and not self._closed:
            if not self._writer_armed:
                self._loop.add_writer(self._sock.fileno(), self._pump)
                self._writer_armed = True
            return
        self._disarm_writer()
        if self._held:
            return
        self._flushed.set()
        if self._half_close_wanted and not self._half_closed and not self._closed:
            self._half_closed = True
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def _write_failed(self, error: OSError) -> None:
        # The reader stays armed: the peer's error frame may still be waiting in our buffer.
        self.write_error = error
        self._queue.clear()
        self._queued = 0
        self._disarm_writer()
        self._flushed.set()
        if error.errno not in _RESET_ERRORS:
            self._ended(EndKind.RST)

    def _disarm_writer(self) -> None:
        if self._writer_armed:
            self._loop.remove_writer(self._sock.fileno())
            self._writer_armed = False

    # -- ending ----------------------------------------------------------------------------

    def close(self) -> None:
        """Close the socket at once; unread input may turn this into a reset."""
        if self._closed:
            return
        self._disarm_reader()
        self._disarm_writer()
        self._closed = True
        self._queue.clear()
        self._queued = 0
        self._flushed.set()
        self._sock.close()
        if self.end is None:
            self._ended(EndKind.LOCAL)

    def abort(self) -> None:
        """Reset the connection (SO_LINGER 0): the peer sees RST, not FIN."""
        if not self._closed:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()
