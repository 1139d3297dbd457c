"""What a case can say and expect where the judge is the client and the target the worker.

The rules of ``conversation`` hold here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Unpack

from muxwire_conformance import wire
from muxwire_conformance.client_invariants import ClientWatcher
from muxwire_conformance.conversation import JUDGE_SETTINGS, Conversation
from muxwire_conformance.invariants import Watcher
from muxwire_conformance.stream import Stream
from muxwire_conformance.transport import Transport
from muxwire_conformance.verdict import SuiteError
from muxwire_conformance.wire import Fault, Frame, HeaderFields, Preface

if TYPE_CHECKING:
    from muxwire_conformance.context import Context

OWN_FRAMES = 1_000
"""So many frames of the judge's own are held to the rules on each connection."""

STATS = (
    *("active", "peak", "opened", "cancelled", "connections"),
    *("buffered_bytes", "rss_bytes", "cpu_ms"),
)
"""What ``conformance.stats`` has to tell."""

Body = bytes | str | Mapping[str, object]


class Connection(Conversation):
    """One TCP connection on which the judge is the client and the target the worker."""

    PEER = "worker"
    context: Context
    watcher: Watcher

    def __init__(self, context: Context, transport: Transport, label: str) -> None:
        self.own = ClientWatcher(tester=True)
        self._own_parser: wire.Parser | None = wire.Parser()
        super().__init__(context, transport, label, Watcher())
        self.streams: dict[bytes, Stream] = {}
        self.sent_cost = 0
        self.send_limit = self.peer_settings["CONNECTION_WINDOW"]
        self.opens_sent = 0

    # -- what comes in ---------------------------------------------------------------------

    def _content(self, frame: Frame) -> bool:
        if frame.type != wire.RESPONSE:
            return False
        if frame.end:
            self.own.finished(frame.request_id)
        self.received_cost += frame.cost
        stream = self.streams.get(frame.request_id)
        if stream is not None:
            stream.receive(frame)
        if self.auto_credit and frame.cost:
            self._give_credit(stream)
        return stream is not None

    def _learned(self) -> None:
        if self.settings_frame is not None:
            self.own.announced(self.settings_frame.settings or [])
        self.send_limit = max(self.send_limit, self.peer_settings["CONNECTION_WINDOW"])
        for stream in self.streams.values():
            stream.send_limit = max(stream.send_limit, self.peer_settings["INITIAL_STREAM_WINDOW"])

    def _credited(self, request_id: bytes, limit: int) -> None:
        self.own.credited(request_id, limit)
        if request_id == wire.CONNECTION_ID:
            self.send_limit = max(self.send_limit, limit)
        elif request_id in self.streams:
            stream = self.streams[request_id]
            stream.send_limit = max(stream.send_limit, limit)

    def _give_credit(self, stream: Stream | None) -> None:
        if not self._outgoing.between_frames:
            return
        self._give_connection_credit()
        if stream is not None and stream.terminal is None:
            window = self.watcher.settings["INITIAL_STREAM_WINDOW"]
            if stream.credit_given - stream.received_cost < window // 2:
                stream.credit_given = stream.received_cost + window
                self._automatic(wire.window_update(stream.credit_given, request_id=stream.id))

    # -- what goes out ---------------------------------------------------------------------

    def _sent_frame(
        self, kind: int, _subtype: int, flags: int, length: int, request_id: bytes
    ) -> None:
        if kind != wire.REQUEST:
            return
        exempt = flags & wire.END_STREAM and length == 0
        cost = 0 if exempt else wire.HEADER_SIZE + length
        self.sent_cost += cost
        if flags & wire.META:
            self.opens_sent += 1
        self.watcher.opened(request_id)
        if request_id in self.streams:
            self.streams[request_id].sent_cost += cost

    def _referee_own(self, data: bytes, now: float, *, on_purpose: bool) -> None:
        """Hold the judge to the rules until it breaks one on purpose, or floods the target."""
        flood = self.own.frames > OWN_FRAMES
        if on_purpose or flood or self.context.violating or self._own_parser is None:
            self._own_parser = None
            return
        for item in self._own_parser.feed(data, now):
            faults = [] if isinstance(item, Preface) else self.own.frame(item)
            for fault in faults:
                self._own_fault(fault)
        if self._own_parser is not None and self._own_parser.lost is not None:
            self._own_fault(self._own_parser.lost)

    def _own_fault(self, fault: Fault) -> None:
        text = f"the judge itself broke {fault.requirement} without saying so: {fault.text}"
        self.context.bug = self.context.bug or SuiteError(text)
        self._own_parser = None

    # -- set-up ----------------------------------------------------------------------------

    async def handshake(
        self, settings: Mapping[str, int] | None = None, *, check: str | None = None
    ) -> None:
        """Do the whole set-up: prefaces, SETTINGS and SETTINGS_ACK both ways.

        Args:
            settings: Values that replace the judge's defaults, by name.
            check: The check that judges it.
        """
        self.send(wire.preface(), self.settings(settings))
        await self.expect_preface(check=check)
        await self.expect("SETTINGS", check=check)
        await self.expect("SETTINGS_ACK", check=check)
        self.send(wire.settings_ack())

    # -- requests --------------------------------------------------------------------------

    def stream(self, request_id: bytes, *, discard: bool = False) -> Stream:
        """Return the stream object of an id, also of one that raw octets (will) open."""
        if request_id not in self.streams:
            self.streams[request_id] = Stream(self, request_id, discard=discard)
        return self.streams[request_id]

    def open(
        self,
        subject: str | bytes,
        body: Body = b"",
        *,
        end: bool = True,
        more: bool = False,
        timeout_ms: int = 0,
        request_flags: int = 0,
        headers: Iterable[tuple[str | bytes, str | bytes]] = (),
        extension: bytes = b"",
        request_id: bytes | None = None,
        discard: bool = False,
        **header: Unpack[HeaderFields],
    ) -> Stream:
        """Write an OPEN and return its stream.

        Args:
            subject: Subject; ``conformance.*`` needs ``features=["conformance"]`` on the case.
            body: First message; a mapping is sent as JSON.
            end: Set END_STREAM.
            more: Set MORE.
            timeout_ms: Deadline, 0 for none.
            request_flags: u16 of request flags.
            headers: Pairs of key and value.
            extension: Octets behind the last header in the metadata block.
            request_id: The id; a fresh random UUID by default.
            discard: Count the response's octets but do not keep them (bulk transfers).
            **header: Header fields to override.
        """
        raw = self.opening(
            subject,
            body,
            end=end,
            more=more,
            timeout_ms=timeout_ms,
            request_flags=request_flags,
            headers=headers,
            extension=extension,
            request_id=request_id,
            **header,
        )
        stream = self.stream(raw[16:32], discard=discard)
        stream.next_seq = 1
        self.send(raw)
        return stream

    def opening(
        self,
        subject: str | bytes,
        body: Body = b"",
        *,
        end: bool = True,
        more: bool = False,
        timeout_ms: int = 0,
        request_flags: int = 0,
        headers: Iterable[tuple[str | bytes, str | bytes]] = (),
        extension: bytes = b"",
        request_id: bytes | None = None,
        **header: Unpack[HeaderFields],
    ) -> bytes:
        """Build an OPEN as ``open`` does and return its octets instead of writing them."""
        self.context.require_feature_of(subject)
        return wire.open_request(
            request_id or self.context.new_id(),
            subject,
            self.context.encode(body),
            end=end,
            more=more,
            timeout_ms=timeout_ms,
            request_flags=request_flags,
            headers=list(headers),
            extension=extension,
            **header,
        )

    async def call(
        self, subject: str, body: Body = b"", *, check: str | None = None
    ) -> list[bytes]:
        """Run one request to its success terminal and return its messages."""
        return await self.open(subject, body).result(check=check)

    async def stats(self, **parameters: object) -> dict[str, int]:
        """Return ``conformance.stats``, asked on this connection."""
        answer = await self.open("conformance.stats", parameters).json()
        if not all(isinstance(answer[name], int | float) for name in STATS):
            self.fail(None, f"numbers for {', '.join(STATS)}", str(answer))
        return dict(answer)

    # -- expecting -------------------------------------------------------------------------

    async def expect_preface(
        self, *, check: str | None = None, within: float | None = None
    ) -> Preface:
        """Wait for the target's preface."""
        await self.wait_for(lambda: self.preface is not None, within)
        if self.preface is None:
            self.fail(check, "the preface of the worker")
        self.hold(check)
        return self.preface

    async def expect_outcome(
        self,
        stream: Stream,
        error: str,
        *,
        check: str = "error",
        not_processed: bool | None = None,
        within: float | None = None,
    ) -> Frame:
        """Expect that a request ends with this error although no rule was broken; no twin needed.

        Emits one check. That the connection goes on is for a ``fence`` afterwards.

        Args:
            stream: The request.
            error: Name of the error code.
            check: The check to emit.
            not_processed: What the NOT_PROCESSED flag must be; None does not look.
            within: Seconds until the terminal, by default the usual deadline.
        """
        return await stream.fails(error, check=check, not_processed=not_processed, within=within)

    async def expect_stream_error(
        self,
        stream: Stream,
        error: str,
        *,
        not_processed: bool | None = None,
        within: float | None = None,
    ) -> Frame | None:
        """Expect SE(error): an error terminal with this code, and a connection that still works.

        Emits ``error`` and ``fence``. In the run of a twin the request must succeed instead.

        Args:
            stream: The request.
            error: Name of the error code.
            not_processed: What the NOT_PROCESSED flag must be; None does not look.
            within: Seconds until the terminal, by default the usual deadline.
        """
        self.context.require_twin()
        if self.context.twin_run:
            await stream.result(within=within)
            return None
        frame = await self.expect_outcome(stream, error, not_processed=not_processed, within=within)
        await self.fence(check="fence")
        return frame

    async def expect_silence_then_eof(self, *, within: float | None = None) -> None:
        """Expect that the target closes without having sent a single byte.

        Emits ``silence`` and ``end``. In the run of a twin nothing is judged.
        """
        if self.context.twin_run:
            return
        await self.wait_for(lambda: self.transport.received > 0, within)
        self.expect_silence()
        await self.expect_end(within=within)

    def expect_silence(self, *, check: str | None = "silence") -> None:
        """Judge that not a single byte has come so far, and emit ``silence``."""
        if self.transport.received:
            seen = self.frames[0] if self.frames else None
            got = str(self.preface or seen or bytes(self._parser.garbage[:32]))
            self.fail(check, "no byte from the worker", f"{self.transport.received} bytes: {got}")
        self.hold(check)


__all__ = ["JUDGE_SETTINGS", "Body", "Connection", "Stream"]
