"""What a case can say and expect on a call-home connection: the judge is the worker that dialled.

The rules of ``conversation`` hold here too. The judge answers PINGs and keeps the connection alive
by itself; it greets, asks and answers only as the case says.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, Unpack

from muxwire_spec.callhome import IDLE_TIMEOUT_MS
from muxwire_spec.interpret import WCH

from muxwire_conformance import wire
from muxwire_conformance.client_mode.answers import Answers
from muxwire_conformance.client_mode.home_watcher import HomeWatcher
from muxwire_conformance.conversation import Conversation
from muxwire_conformance.transport import Transport
from muxwire_conformance.wire import Fault, Frame, HeaderFields, Preface

if TYPE_CHECKING:
    from muxwire_conformance.client_mode.posts import Post
    from muxwire_conformance.client_mode.router import RouterContext


class Delivery(Answers):
    """A stream on a connection: its HELLO, what the router said to it, and the response.

    Helpers with ``check=`` judge; without it they prepare (see ``conversation``).

    Attributes:
        frames: What the router sent for it: ACCEPT, REJECT, STOP, KILL, DONE.
    """

    link: HomeLink

    def __init__(self, link: HomeLink, request_id: bytes) -> None:
        super().__init__(link, request_id)
        self.frames: list[Frame] = []

    def __str__(self) -> str:
        """Name the stream by the start of its id."""
        return f"stream {self.id.hex()[:8]}.."

    def seen(self, subtype: int) -> Frame | None:
        """Return the first frame of a kind that came, None for none."""
        return next((one for one in self.frames if one.subtype == subtype), None)

    async def expect(
        self, subtype: int, *, check: str | None = None, within: float | None = None
    ) -> Frame:
        """Wait for a frame of a kind for this stream and return it."""
        answers = (wire.ACCEPT, wire.REJECT)

        def ready() -> bool:
            wanted = answers if subtype in answers else (subtype,)
            return any(self.seen(one) is not None for one in wanted)

        await self.link.wait_for(ready, within)
        frame = self.seen(subtype)
        if frame is None:
            other = next((self.seen(one) for one in answers if self.seen(one)), None)
            instead = str(other) if other is not None and subtype in answers else None
            name = wire.kind_name(wire.CONTROL, subtype)
            self.link.fail(check, f"{name} for {self}", instead, other)
        self.link.hold(check)
        return frame

    async def accepted(self, *, check: str | None = None, within: float | None = None) -> Frame:
        """Wait for ACCEPT."""
        return await self.expect(wire.ACCEPT, check=check, within=within)

    async def rejected(self, code: str, *, check: str | None = None) -> Frame:
        """Wait for REJECT with a code."""
        frame = await self.expect(wire.REJECT, check=None if check is None else check)
        got = int.from_bytes(frame.payload, "big")
        if got != wire.code(code):
            expected = f"REJECT with {wire.code_name(wire.code(code))}"
            actual = f"REJECT with {wire.code_name(got)}"
            self.link.fail(check, expected, actual, frame, field="code")
        return frame

    async def done(self, *, check: str | None = None, within: float | None = None) -> Frame:
        """Wait for DONE."""
        return await self.expect(wire.DONE, check=check, within=within)


class HomeLink(Conversation):
    """One connection that the judge dialled to the router."""

    PEER: ClassVar[str] = "router"
    PROTOCOL = WCH
    MAGIC = wire.WCH_MAGIC
    NO_FAREWELL = ""
    context: RouterContext
    watcher: HomeWatcher

    def __init__(self, context: RouterContext, transport: Transport, label: str) -> None:
        super().__init__(context, transport, label, HomeWatcher())
        self.deliveries: dict[bytes, Delivery] = {}
        self._first = bytearray()
        self._before = 0

    # -- what comes in ---------------------------------------------------------------------

    def _read(self, data: bytes, at: float) -> None:
        if bytes(self._first) != wire.WCH_MAGIC:
            text = f"{len(data)} octets before 8 octets of the magic were written"
            self._violated(Fault(requirement="P0-002", text=text), None)
        super()._read(data, at)

    def _greeted(self, preface: Preface) -> None:
        self.peer_settings["IDLE_TIMEOUT_MS"] = preface.reserved or IDLE_TIMEOUT_MS
        self.set_up = True
        self._beat_later()

    def _dispatch(self, frame: Frame) -> None:
        delivery = self.deliveries.get(frame.request_id)
        if frame.type == wire.CONTROL and delivery is not None:
            delivery.frames.append(frame)
        else:
            super()._dispatch(frame)

    def _content(self, _frame: Frame) -> bool:
        return False

    def _credited(self, request_id: bytes, limit: int) -> None:
        """Take nothing: WCH/1 has no credit."""

    def _learned(self) -> None:
        """Take nothing: WCH/1 has no SETTINGS."""

    # -- what goes out ---------------------------------------------------------------------

    def _write(
        self, data: bytes, *, marked: bool = False, note: str = "", apart: bool = False
    ) -> None:
        self._first += data[: 8 - len(self._first)]
        super()._write(data, marked=marked, note=note, apart=apart)

    def _sent_frame(
        self, kind: int, subtype: int, flags: int, _length: int, request_id: bytes
    ) -> None:
        self.watcher.wrote(kind, subtype, flags, request_id)

    def _talking(self) -> bool:
        return self._settings_sent and self.preface is not None

    # -- set-up ----------------------------------------------------------------------------

    def greet(self, *, idle_timeout_ms: int = 0) -> None:
        """Write the preface of a worker; 0 stands for 60,000 ms."""
        self._settings_sent = True
        self.send(wire.wch_preface(idle_timeout_ms=idle_timeout_ms))

    async def welcomed(self, *, check: str | None = None, within: float | None = None) -> Preface:
        """Wait for the router's preface and return it; it must accept."""
        await self.wait_for(lambda: self.preface is not None, within)
        seen = self.preface
        if seen is None:
            self.fail(check, "the preface of the router")
        if (seen.ver_hi, seen.ver_lo, seen.header_size) != (1, 1, wire.HEADER_SIZE):
            self.fail(check, "a preface that selects version 1", str(seen))
        self.hold(check)
        return seen

    # -- streams ---------------------------------------------------------------------------

    def deliver(self, request_id: bytes) -> Delivery:
        """Follow a stream here from now on, without a word."""
        delivery = Delivery(self, request_id)
        self.deliveries[request_id] = delivery
        return delivery

    def hello(
        self, post: Post, token: bytes | None = None, **header: Unpack[HeaderFields]
    ) -> Delivery:
        """Write the HELLO of a request; ``token`` is what to show, if not the right one."""
        delivery = self.deliver(post.stream)
        self.send(wire.hello(post.stream, post.token if token is None else token, **header))
        return delivery

    async def carry(self, post: Post) -> Delivery:
        """Write the HELLO of a request and wait for ACCEPT."""
        delivery = self.hello(post)
        await delivery.accepted()
        return delivery

    # -- judging ---------------------------------------------------------------------------

    def violate(self, bad: bytes, *, instead_of: bytes = b"") -> None:
        """Write the octets that break the rule, or in the run of a twin those of ``instead_of``."""
        self._before = len(self.frames)
        super().violate(bad, instead_of=instead_of)

    async def expect_close(self, *, within: float | None = None, check: str = "end") -> None:
        """Expect that the router closes without a frame because of what was written last.

        Emits ``end``. The PONG to a PING sent now fails: the violation was passed over. In the run
        of a twin a fence must succeed.

        Args:
            within: Seconds until the end for rules with a time of their own; no PING is sent then.
            check: The check to emit.
        """
        self.context.require_twin()
        if self.context.twin_run:
            await self.fence()
            return
        nonce = b""
        if within is None and self._outgoing.between_frames:
            nonce = self.context.nonce()
            self._fences[nonce] = None
            self._write(wire.ping(nonce), note="fence")
        await self.wait_for(lambda: bool(nonce) and self._fences[nonce] is not None, within)
        if self.transport.end is None:
            passed = nonce and self._fences[nonce] is not None
            goes_on = "PONG to a later PING: the connection goes on" if passed else None
            self.fail(check, "the end of the connection", goes_on)
        said = [one for one in self.frames[self._before :] if one.name != "PING"]
        if said:
            self.fail(check, "the end of the connection without a frame", str(said[0]), said[0])
        self.hold(check)

    # -- ending ----------------------------------------------------------------------------

    async def cut(self, *, reset: bool = False) -> None:
        """End the connection: with FIN behind what was written, or with a reset."""
        await self.flushed()
        if reset:
            self.abort()
            return
        self.auto_pong = False
        self.stop_heartbeat()
        self.transcript.event("the judge ends the connection (FIN)", time.monotonic())
        self.transport.half_close()
