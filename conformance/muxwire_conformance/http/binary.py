"""The binary format of a response, read by the letter of section 22.3.

Rules of this file are those of ``events``; the frames are cut and typed by ``wire``.
"""

from __future__ import annotations

from muxwire_spec.formats import BINARY, SSE
from muxwire_spec.registries import ERROR_CODES

from muxwire_conformance import wire
from muxwire_conformance.http.events import (
    BIN,
    DONE,
    FAILED,
    HEARTBEAT,
    MOST_KEPT,
    Event,
    NdjsonReader,
    Reader,
    SseReader,
)
from muxwire_conformance.wire import Fault

CHUNK = 65_536
_NAMES = {entry.value: entry.name for entry in ERROR_CODES.entries}


def reader(format_: str, request_id: bytes | None = None) -> Reader:
    """Return a reader for a format; ``request_id`` is that of binary frames if it is known."""
    if format_ == BINARY:
        return BinaryReader(request_id)
    return SseReader() if format_ == SSE else NdjsonReader()


class BinaryReader:
    """Frames of WMX/1 without a preface (P1-007)."""

    def __init__(self, request_id: bytes | None = None) -> None:
        self.faults: list[Fault] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.request_id = request_id
        self.frames: list[wire.Frame] = []
        self._parser = wire.Parser(with_preface=False)
        self._seq = 0
        self._count = 0
        self._message: bytearray | None = None
        self._over = False

    def _fault(self, text: str, requirement: str = "P1-007") -> None:
        if len(self.faults) < MOST_KEPT:
            self.faults.append(Fault(requirement=requirement, text=text))

    def feed(self, data: bytes, at: float) -> list[Event]:
        """Take octets of a body and return the events that became complete."""
        found: list[Event] = []
        for frame in self._parser.feed(data, at):
            if isinstance(frame, wire.Frame):
                self.frames.append(frame)
                for fault in frame.faults:
                    self._fault(fault.text)
                if self._over:
                    self._fault(f"{frame.name} stands behind the terminal", "P1-010")
                found += self._frame(frame)
        if self._parser.lost is not None:
            self._fault(self._parser.lost.text)
        return found

    def finish(self) -> None:
        """Take the clean end of the body."""
        if self._parser.pending:
            self._fault("the body ends inside a frame")
        if not self._over:
            self._fault("the body ends normally without a terminal event", "P1-010")

    def _frame(self, frame: wire.Frame) -> list[Event]:
        if frame.type == wire.HEARTBEAT and frame.subtype == wire.PING:
            if self._message is not None:
                self._fault("a heartbeat stands inside an item", "P1-014")
            zero = frame.request_id == wire.CONNECTION_ID
            if frame.flags or frame.seq or frame.length != 8 or not zero:
                self._fault("a PING has flags, a seq, an id, or other than 8 octets")
            return [Event(kind=HEARTBEAT, at=frame.at)]
        if frame.type != wire.RESPONSE:
            self._fault(f"{frame.name} is neither RESPONSE nor PING")
            return []
        self._header(frame)
        if frame.is_error:
            self._over = True
            error = frame.error
            event = Event(kind=FAILED, at=frame.at)
            if error is not None:
                if error.not_processed:
                    self._fault("an error says NOT_PROCESSED behind the 200", "P1-011")
                event.error = {
                    "code": _NAMES.get(error.code, ""),
                    "num": error.code,
                    "message": error.message.decode("utf-8", "replace"),
                    "not_processed": error.not_processed,
                    "retry_after_ms": error.retry_after_ms,
                }
            return [event]
        return self._content(frame)

    def _header(self, frame: wire.Frame) -> None:
        if self.request_id is None:
            self.request_id = frame.request_id
        if frame.request_id != self.request_id:
            self._fault(f"the request id is {frame.request_id.hex()}, not {self.request_id.hex()}")
        if frame.request_id in (wire.CONNECTION_ID, wire.INVALID_ID):
            self._fault("the request id is all zeros or all ones")
        if frame.seq != self._seq:
            self._fault(f"seq is {frame.seq} where {self._seq} is due")
        self._seq = frame.seq + 1
        if frame.flags & 0xF0 or frame.subtype:
            self._fault("reserved flags or a subtype are set")
        if frame.end and frame.more:
            self._fault("END_STREAM and MORE are both set")
        if frame.is_error and (not frame.end or frame.meta):
            self._fault("ERROR needs END_STREAM and excludes META")
        if frame.meta and frame.seq and not frame.end:
            self._fault("META stands behind seq 0 without END_STREAM")
        if not frame.is_error and len(frame.data) > CHUNK:
            self._fault(f"a frame has {len(frame.data)} octets of a message, above 65,536")

    def _content(self, frame: wire.Frame) -> list[Event]:
        found = []
        if frame.headers is not None and frame.seq == 0 and not frame.end:
            self.headers = list(frame.headers)
        only_headers = frame.meta and not frame.data and not frame.more and not frame.end
        bare_end = frame.end and not frame.data and self._message is None
        if not only_headers and not bare_end:
            if self._message is None:
                self._message = bytearray()
            self._message += frame.data
            if not frame.more:
                data = bytes(self._message)
                self._message = None
                found.append(Event(kind=BIN, at=frame.at, seq=self._count, data=data))
                self._count += 1
        if frame.end:
            self._over = True
            pairs = frame.headers or [] if frame.meta else []
            trailers = {
                key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
                for key, value in pairs
            }
            found.append(Event(kind=DONE, at=frame.at, trailers=trailers))
        return found
