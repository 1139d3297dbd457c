"""One connection between the judge and the target, whichever role the judge plays on it.

Rules of this file:

* Helpers with ``check=`` judge: they emit that check or fail the case. Without ``check=`` they
  prepare: what does not come makes the case INCONCLUSIVE. The ``expect_*`` helpers for errors
  emit checks with fixed names (see CASES.md).
* Frames that a peer may send at any time (WINDOW_UPDATE, PING, ignorable frames) are skipped
  where another one is expected; a PING is answered; credit is given back. All three can be off.
* ``fence`` proves without sleeping that everything before it was processed.
* In the run of a twin (``SAME``) ``violate`` sends the legal form and the error expectations
  turn into "all is well".
* What one role has and the other has not is in ``dialogue`` (the judge is the client) and in
  ``client_mode.link`` (the judge is the worker).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar, NoReturn, Protocol, Unpack

from muxwire_spec.interpret import WMX
from muxwire_spec.registries import SETTINGS

from muxwire_conformance import wire
from muxwire_conformance.outgoing import Outgoing
from muxwire_conformance.transcript import HALF_CLOSES, RESETS, Transcript
from muxwire_conformance.transport import End, EndKind, Transport
from muxwire_conformance.verdict import CheckFailed, Unprepared, Violation
from muxwire_conformance.wire import Fault, Frame, Override, Preface

if TYPE_CHECKING:
    from muxwire_conformance.case_context import CaseContext
    from muxwire_conformance.full_profile import Delivery
    from muxwire_conformance.patience import Patience

JUDGE_SETTINGS: Mapping[str, int] = {
    "MAX_FRAME_SIZE": 65_536,
    "INITIAL_STREAM_WINDOW": 262_144,
    "CONNECTION_WINDOW": 67_108_864,
    "MAX_METADATA_SIZE": 16_384,
    "MAX_MESSAGE_SIZE": 67_108_864,
    "IDLE_TIMEOUT_MS": 60_000,
}
"""What the judge announces unless a case says otherwise; a grease setting is always added."""

PIECE_GAP = 0.001
"""Seconds between pieces that the target should read apart."""


class FrameWatcher(Protocol):
    """Checks every frame of the target, and is told what the judge did."""

    settings: dict[str, int]
    connection_limit: int

    def announced(self, pairs: list[tuple[int, int]]) -> None:
        """Note the judge's SETTINGS."""

    def credited(self, request_id: bytes, limit: int) -> None:
        """Note credit that the judge gave."""

    def preface(self, seen: Preface, /) -> list[Fault]:
        """Return what is wrong with a preface."""
        ...

    def frame(self, seen: Frame) -> list[Fault]:
        """Return what is wrong with a frame."""
        ...


class Conversation:
    """One TCP connection; a subclass says what the judge's role adds."""

    PEER: ClassVar[str]
    """The role of the target: worker, client, or router."""
    PROTOCOL: ClassVar[str] = WMX
    MAGIC: ClassVar[bytes] = wire.MAGIC
    NO_FAREWELL: ClassVar[str] = ", without GOAWAY"
    """What is missing where a connection ends without the frame that says why."""

    def __init__(
        self, context: CaseContext, transport: Transport, label: str, watcher: FrameWatcher
    ) -> None:
        self.context = context
        self.transport = transport
        self.label = label
        self.patience: Patience = context.patience
        self.transcript = Transcript(
            label=label, started=transport.opened_at, peer=self.PEER, protocol=self.PROTOCOL
        )
        self.watcher = watcher
        self.auto_pong = True
        self.auto_credit = True
        self.auto_heartbeat = True
        self.preface: Preface | None = None
        self.peer_settings = {known.name: known.assumed for known in SETTINGS}
        self.settings_frame: Frame | None = None
        self.goaway: Frame | None = None
        self._goaway_before: Frame | None = None
        self.frames: list[Frame] = []
        self.inbox: deque[Frame] = deque()
        self.received_cost = 0
        self._credit_given = self.watcher.connection_limit
        self._outgoing = Outgoing(self._note_sent)
        self._parser = wire.Parser(magic=self.MAGIC)
        self._activity = asyncio.Event()
        self._fences: dict[bytes, float | None] = {}
        self.last_sent = time.monotonic()
        self._settings_sent = False
        self._beat: asyncio.TimerHandle | None = None
        self._waiting_since = time.monotonic()
        self._delivered = False
        self.set_up = False
        transport.on_bytes = self._on_bytes
        transport.on_end = self._on_end
        transport.on_half_close = lambda: self.transcript.event(HALF_CLOSES, time.monotonic())

    # -- what a role adds --------------------------------------------------------------------

    def _content(self, frame: Frame) -> bool:
        """Take a REQUEST or RESPONSE; tell whether a stream has it."""
        raise NotImplementedError

    def _credited(self, request_id: bytes, limit: int) -> None:
        """Take credit that the target gave."""
        raise NotImplementedError

    def _learned(self) -> None:
        """Take the settings of the target, which ``peer_settings`` has by now."""
        raise NotImplementedError

    def _greeted(self, preface: Preface) -> None:
        """Take the preface of the target."""

    def _sent_frame(
        self, kind: int, subtype: int, flags: int, length: int, request_id: bytes
    ) -> None:
        """Note a frame that the judge wrote and that is neither SETTINGS nor WINDOW_UPDATE."""
        raise NotImplementedError

    def _referee_own(self, data: bytes, now: float, *, on_purpose: bool) -> None:
        """Hold the judge's own octets to the rules, unless they break one on purpose."""

    # -- what comes in ---------------------------------------------------------------------

    def _on_bytes(self, data: bytes, at: float) -> None:
        try:
            self._read(data, at)
        except Exception as error:
            # The event loop would log this and go on, and the case would judge what it did not see.
            self.context.bug = self.context.bug or error
        self._activity.set()

    def _read(self, data: bytes, at: float) -> None:
        for item in self._parser.feed(data, at):
            self.transcript.received(item)
            if isinstance(item, Preface):
                self.preface = item
                for fault in self.watcher.preface(item):
                    self._violated(fault, None)
                self._greeted(item)
                continue
            for fault in self.watcher.frame(item):
                self._violated(fault, item)
            self.frames.append(item)
            self._dispatch(item)
        if self._parser.lost is not None and not self._parser.garbage:
            self._parser.garbage += b" "
        if self._parser.lost is not None:
            self._lost()

    def _lost(self) -> None:
        fault = self._parser.lost
        if fault is not None and not any(v.text == fault.text for v in self.context.violations):
            now = time.monotonic()
            self.transcript.rubbish(bytes(self._parser.garbage), now)
            self.transcript.event(f"the judge lost its place: {fault.text}", now)
            self._violated(fault, None)

    def _violated(self, fault: Fault, frame: Frame | None) -> None:
        if len(self.context.violations) < 50:
            self.context.violations.append(
                Violation(
                    requirement=fault.requirement,
                    text=fault.text,
                    frame=frame,
                    transcript=self.transcript,
                    field=fault.field,
                )
            )

    def _on_end(self, end: End) -> None:
        text = f"connection {end.describe()}"
        if self._parser.pending:
            text += f", {self._parser.pending} octets of an incomplete frame left"
        self.transcript.event(text, end.at)
        self.stop_heartbeat()
        self._activity.set()

    def _dispatch(self, frame: Frame) -> None:
        if frame.type == wire.HEARTBEAT and frame.subtype == wire.PING:
            # A mirror sends the judge's own PING back: its PONG would come back as an answer.
            mirrored = frame.payload in self._fences
            ready = self._settings_sent and self._outgoing.between_frames
            if self.auto_pong and ready and not mirrored:
                self._automatic(wire.pong(frame.payload))
        elif frame.type == wire.HEARTBEAT and frame.payload in self._fences:
            self._fences[frame.payload] = frame.at
            return
        elif frame.type in (wire.REQUEST, wire.RESPONSE):
            if self._content(frame):
                return
        elif frame.goaway is not None:
            if not self._ended_by_goaway():
                self.goaway = frame
        elif frame.limit is not None:
            self._credited(frame.request_id, frame.limit)
        elif frame.settings is not None and self.settings_frame is None:
            self._learn(frame)
        self.inbox.append(frame)

    def _learn(self, frame: Frame) -> None:
        self.settings_frame = frame
        for number, value in frame.settings or ():
            name = wire.SETTING_NAMES.get(number)
            if name is not None:
                self.peer_settings[name] = value
        self._learned()
        self._beat_later()

    def _give_connection_credit(self) -> None:
        window = self.watcher.settings["CONNECTION_WINDOW"]
        if self._credit_given - self.received_cost < window // 2:
            self._credit_given = self.received_cost + window
            self._automatic(wire.window_update(self._credit_given))

    # -- what goes out ---------------------------------------------------------------------

    def send(self, *pieces: bytes, note: str = "") -> None:
        """Write octets as they are, all pieces in one write; legal or not."""
        self._write(b"".join(pieces), note=note)

    def violate(self, bad: bytes, *, instead_of: bytes = b"") -> None:
        """Write the octets that break the rule, marked so in the report.

        In the run of a twin the octets of ``instead_of`` are written instead.

        Raises:
            SuiteError: the case has no twin.
        """
        self.context.require_twin()
        self._goaway_before = self.goaway
        if self.context.twin_run:
            self._write(instead_of, apart=True)
        else:
            self._write(bad, marked=True, apart=True)

    def _automatic(self, data: bytes) -> None:
        self._write(data, note="automatic")

    def _write(
        self, data: bytes, *, marked: bool = False, note: str = "", apart: bool = False
    ) -> None:
        if not data:
            return
        delivery = self.context.delivery
        faulty = apart or (self.context.violating and not note)
        if delivery is not None and faulty and not self._delivered:
            self._delivered = True
            self._deliver(delivery, data, marked=marked)
            return
        now = time.monotonic()
        self.last_sent = now
        self.transcript.sent(data, now, marked=marked, note=note)
        self._referee_own(data, now, on_purpose=marked)
        self._outgoing.feed(data)
        self.transport.write(data)

    def _deliver(self, delivery: Delivery, data: bytes, *, marked: bool) -> None:
        """Write faulty octets in pieces, or behind a legal frame."""
        legal = b""
        if delivery.kind == "coalesced" and self.set_up and self._outgoing.between_frames:
            legal = wire.ping(self.context.nonce())
        now = time.monotonic()
        self.last_sent = now
        self.transcript.sent(legal, now, note="in the same write")
        self.transcript.sent(data, now, marked=marked, note=delivery.kind)
        self._referee_own(legal + data, now, on_purpose=marked)
        self._outgoing.feed(legal + data)
        self.transport.write_apart(delivery.pieces(data, legal), PIECE_GAP)

    def _note_sent(
        self, kind: int, subtype: int, flags: int, length: int, request_id: bytes, body: bytes
    ) -> None:
        if kind == wire.CONTROL and subtype == wire.SETTINGS_SUBTYPE:
            pairs = wire.setting_pairs(body)
            self.watcher.announced(pairs)
            self._credit_given = max(self._credit_given, self.watcher.connection_limit)
            self._settings_sent = True
            self._beat_later()
        elif kind == wire.CONTROL and subtype == wire.WINDOW_UPDATE and len(body) == 8:
            self.watcher.credited(request_id, int.from_bytes(body, "big"))
        else:
            self.set_up = self.set_up or (kind == wire.CONTROL and subtype == wire.SETTINGS_ACK)
            self._sent_frame(kind, subtype, flags, length, request_id)

    @property
    def between_frames(self) -> bool:
        """Tell whether the judge has written whole frames only, so that another may follow."""
        return self._outgoing.between_frames

    async def flushed(self) -> bool:
        """Wait until the kernel took everything; False if it cannot be written."""
        return await self.transport.flushed(self.patience.seconds)

    def stay_silent(self) -> None:
        """Send nothing by itself from now on: no PONG, no credit, no heartbeat."""
        self.auto_pong = self.auto_credit = False
        self.stop_heartbeat()

    def _beat_later(self) -> None:
        # HBT-001: the judge is a correct client too and keeps quiet connections alive.
        self._cancel_beat()
        if self._talking() and self.auto_heartbeat and self.transport.end is None:
            interval = max(0.03, self.peer_settings["IDLE_TIMEOUT_MS"] / 3_000)
            self._beat = asyncio.get_running_loop().call_later(interval / 2, self._heartbeat)

    def _talking(self) -> bool:
        """Tell whether both sides have announced what they tolerate."""
        return self._settings_sent and self.settings_frame is not None

    def _heartbeat(self) -> None:
        interval = max(0.03, self.peer_settings["IDLE_TIMEOUT_MS"] / 3_000)
        quiet = time.monotonic() - self.last_sent
        if self._outgoing.between_frames and quiet >= interval / 2 and self.goaway is None:
            nonce = self.context.nonce()
            self._fences[nonce] = None
            self._automatic(wire.ping(nonce))
        self._beat_later()

    def stop_heartbeat(self) -> None:
        """Send no PING by itself from now on."""
        self.auto_heartbeat = False
        self._cancel_beat()

    def _cancel_beat(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None

    def settings(
        self, settings: Mapping[str, int] | None = None, **header: Unpack[Override]
    ) -> bytes:
        """Build the judge's SETTINGS: the defaults, the case's values over them, and grease."""
        values = {**JUDGE_SETTINGS, **(settings or {})}
        pairs: list[tuple[str | int, int]] = list(values.items())
        pairs.insert(self.context.rng.randrange(len(pairs) + 1), self.context.grease_setting())
        return wire.settings(pairs, **header)

    # -- judging ---------------------------------------------------------------------------

    def hold(self, check: str | None) -> None:
        """Emit a check that held; nothing for None."""
        if check is not None:
            self.context.emit(check)

    def fail(
        self,
        check: str | None,
        expected: str,
        actual: str | None = None,
        frame: Frame | None = None,
        *,
        field: str = "",
    ) -> NoReturn:
        """End the case: the check does not hold, or (None) the case could not get there.

        Args:
            check: The check, or None.
            expected: What was expected.
            actual: What came instead; by default where the conversation stands.
            frame: The frame that shows it, which the report marks.
            field: The field of that frame, named as in the decoded transcript.

        Raises:
            CheckFailed: with a check.
            Unprepared: without.
        """
        text = self.situation() if actual is None else actual
        if frame is not None:
            self.transcript.mark(frame, field=field, remark=f"expected {expected}")
        if check is None:
            raise Unprepared(expected, text, frame)
        raise CheckFailed(check, expected, text, frame)

    def situation(self) -> str:
        """Say in words where the conversation stands when nothing more comes."""
        end = self.transport.end
        if self.goaway is not None:
            text = str(self.goaway)
            return f"{text}, then the connection was {end.describe()}" if end else text
        if end is not None:
            text = f"the connection was {end.describe()}{self.NO_FAREWELL}"
            if end.kind is EndKind.RST:
                text += (
                    " (reset before an error frame could be read; a peer that closes with unread"
                    " input causes this, a lingering close avoids it)"
                )
            return text
        waited = time.monotonic() - self._waiting_since
        if self._parser.lost is not None:
            return f"octets that are no frame: {self._parser.lost.text}"
        text = f"nothing more for {waited:.1f} s"
        if self._parser.pending:
            text += f" but {self._parser.pending} octets of an incomplete frame"
        return text

    # -- expecting -------------------------------------------------------------------------

    async def wait_for(self, ready: Callable[[], bool], within: float | None = None) -> bool:
        """Wait for what has to come, as long as the patience allows; tell if it came.

        If the judge turns out meanwhile to be slow itself, it becomes more patient and waits on.
        """
        started = time.monotonic()
        slack, seconds = self.patience.slack, self.patience.within(within)
        while not await self.until(ready, seconds):
            self._waiting_since = started
            before, slack = slack, self.patience.slack
            if self.transport.end is not None or slack <= before:
                return False
            seconds = slack - before
        return True

    async def until(self, ready: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until ``ready()``, the end of the connection or the deadline; tell if ready."""
        loop = asyncio.get_running_loop()
        self._waiting_since = time.monotonic()
        deadline = None if seconds is None else loop.time() + seconds
        while not ready():
            if self.transport.end is not None:
                return False
            self._activity.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._activity.wait()
            except TimeoutError:
                # The judge may have been the slow one: read what is waiting before judging.
                for _ in range(3):
                    await asyncio.sleep(0)
                return ready()
        return True

    async def expect(
        self,
        what: str | Callable[[Frame], bool],
        *,
        check: str | None = None,
        within: float | None = None,
        expected: str = "",
    ) -> Frame:
        """Wait for the next connection-level frame that counts, and return it if it is the one.

        Frames that a worker may send at any time are skipped; any other frame than the wanted
        one fails. Responses of streams do not appear here.

        Args:
            what: A frame name such as ``"SETTINGS"``, or a predicate.
            check: The check to emit.
            within: Seconds, by default the usual deadline.
            expected: What to call it in the report.
        """
        words = expected or (what if isinstance(what, str) else "a certain frame")

        def wanted(frame: Frame) -> bool:
            return frame.name == what if isinstance(what, str) else what(frame)

        while True:
            if not self.inbox:
                await self.wait_for(lambda: bool(self.inbox), within)
            if not self.inbox:
                self.fail(check, words)
            frame = self.inbox.popleft()
            if wanted(frame):
                self.hold(check)
                return frame
            if not _may_interleave(frame):
                self.fail(check, words, str(frame), frame)

    async def fence(self, *, check: str | None = None, within: float | None = None) -> None:
        """Send a PING and wait for its PONG: all that was sent before has been processed."""
        answer = await self.try_fence(within=within)
        if answer is not None:
            frame = answer if isinstance(answer, Frame) else None
            self.fail(check, "PONG, the connection in working order", None, frame)
        self.hold(check)

    async def try_fence(self, *, within: float | None = None) -> Frame | End | None:
        """Send a PING; return None for its PONG, else the GOAWAY or the end that came instead.

        A target that does neither ends the case as INCONCLUSIVE.
        """
        nonce = self.context.nonce()
        self._fences[nonce] = None
        started = time.monotonic()
        self._write(wire.ping(nonce), note="fence")

        def ready() -> bool:
            return self._fences[nonce] is not None or self._ended_by_goaway()

        await self.wait_for(ready, within)
        if self._fences[nonce] is not None:
            self.patience.record(time.monotonic() - started)
            return None
        if self._ended_by_goaway():
            return self.goaway
        if self.transport.end is not None:
            return self.transport.end
        if within is None and self.goaway is not None:
            return self.goaway
        return self.fail(None, "PONG or GOAWAY")

    def _ended_by_goaway(self) -> bool:
        if self.goaway is None or self.goaway.goaway is None:
            return False
        return self.goaway.goaway.code != 0

    async def expect_connection_error(
        self,
        error: str,
        *,
        within: float | None = None,
        last_ordinal: int | None = None,
        also: Iterable[str] = (),
        twin_ends: bool = False,
    ) -> Frame | None:
        """Expect CE(error): GOAWAY with this code, then the end of the connection.

        Emits ``goaway`` and ``end``. The exact code passes; another connection error code passes
        with a warning; a close without GOAWAY fails, and so does the PONG to a PING sent now,
        which proves that the violation was passed over. A GOAWAY that came before the violation
        was written, as on a connection that drains, does not count. In the run of a twin a fence
        must succeed.

        Args:
            error: Name of the error code.
            within: Seconds until the GOAWAY for rules with a time of their own; no PING is sent
                then. By default the usual deadline.
            last_ordinal: What the GOAWAY must say, if the case knows.
            also: Names of further codes that are as good.
            twin_ends: The legal form ends the connection too: in the run of a twin a quiet end
                must follow instead of a fence.
        """
        self.context.require_twin()
        if self.context.twin_run:
            await (self.expect_quiet_end() if twin_ends else self.fence())
            return None
        nonce = None
        if within is None and self._outgoing.between_frames:
            # Frames are processed in order: a PONG would prove that the violation went unpunished.
            nonce = self.context.nonce()
            self._fences[nonce] = None
            self._write(wire.ping(nonce), note="fence")

        def decided() -> bool:
            return self._ended_by_goaway() or (nonce is not None and bool(self._fences[nonce]))

        await self.wait_for(decided, within)
        expected = f"GOAWAY with {wire.code_name(wire.code(error))}"
        frame = self.goaway if self.goaway is not self._goaway_before else None
        if frame is None or frame.goaway is None:
            answered = nonce is not None and self._fences[nonce] is not None
            goes_on = "PONG to a later PING: the connection goes on" if answered else None
            self.fail("goaway", expected, goes_on, frame)
        got = frame.goaway.code
        if got not in {wire.code(error), *(wire.code(name) for name in also)}:
            if not wire.is_connection_code(got):
                self.fail("goaway", expected, str(frame), frame, field="code")
            self.context.warn("goaway", expected, str(frame), frame, field="code")
        elif last_ordinal is not None and frame.goaway.last_ordinal != last_ordinal:
            words = f"{expected} and last_ordinal {last_ordinal}"
            self.fail("goaway", words, str(frame), frame, field="last_ordinal")
        else:
            self.hold("goaway")
        await self.expect_end()
        return frame

    async def expect_end(self, *, check: str | None = "end", within: float | None = None) -> End:
        """Wait for the end of the connection, FIN or RST, and emit ``end``."""
        await self.wait_for(lambda: False, within)
        if self.transport.end is None:
            self.fail(check, "the end of the connection")
        self.hold(check)
        return self.transport.end

    async def expect_quiet_end(self, *, check: str | None = None) -> End:
        """Expect the end that a client's GOAWAY brings: a half-close, and no GOAWAY back."""
        await self.wait_for(lambda: self.goaway is not None)
        if self.goaway is not None:
            words = "the end of the connection without a GOAWAY"
            self.fail(check, words, str(self.goaway), self.goaway)
        return await self.expect_end(check=check)

    # -- ending ----------------------------------------------------------------------------

    async def close(self, grace: float = 0.25) -> None:
        """End politely: FIN, a short wait for the target's FIN, close."""
        self.stop_heartbeat()
        if self.transport.end is None:
            self.transport.resume_reading()
            self.auto_pong = self.auto_credit = False
            self.transport.half_close()
            await self.until(lambda: False, grace)
        self.transport.close()

    def abort(self) -> None:
        """Reset the connection."""
        self.stop_heartbeat()
        self.transcript.event(RESETS, time.monotonic())
        self.transport.abort()


def _may_interleave(frame: Frame) -> bool:
    """Tell whether a worker may send this frame at any time after the set-up."""
    if frame.type == wire.HEARTBEAT or frame.extension:
        return True
    return frame.type == wire.CONTROL and frame.subtype == wire.WINDOW_UPDATE
