"""A call-home connection: what both ends share.

Rules of this file: the preface comes before everything, liveness runs from then on, and every
input goes through the table of the end.  A row that leads to the last state ends the connection;
its effect says how.  Nobody is told why: WCH/1 closes without a frame (P0-012).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import inf
from typing import ClassVar

from muxwire._generated import codec
from muxwire._generated.machines import EFFECT_ABORT, EFFECT_REFUSE, Row
from muxwire._generated.registries import (
    CONTROL_BUFFER,
    LINGER_MS,
    SETTING_RULES,
    WCH_IDLE_TIMEOUT_MS,
    WCH_MAX_FRAME_SIZE,
    WCH_PREFACE_TIMEOUT_MS,
    SettingId,
)
from muxwire.core.budgets import Budgets
from muxwire.core.closing import CloseAction, Closing
from muxwire.core.counters import Counters
from muxwire.core.events import ConnectionEnded, Event, Idle
from muxwire.core.heartbeat import Heartbeat
from muxwire.core.sendqueue import Buffer
from muxwire.errors import InvalidArgument, ProtocolViolation

_LINGER = LINGER_MS / 1000
_IDLE_RULE = SETTING_RULES[SettingId.IDLE_TIMEOUT_MS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Inputs that both tables have, under the numbers of one of them."""

    preface_good: int
    preface_bad: int
    preface_late: int
    ping: int
    skipped: int
    fault: int
    eof: int
    silent: int
    stalled: int


class CallHome(ABC):
    """The sans-I/O connection that `WorkerEnd` and `RouterEnd` build on.

    It is driven as a `muxwire.core.connection.Connection` is.

    Args:
        now: Monotonic seconds: when the dial began, or when the connection was accepted.
        idle_timeout_ms: What this side announces; 0 stands for 60,000 (P0-014).
        counters: Where it counts (OBS-004).

    Raises:
        InvalidArgument: P0-002, an idle timeout outside 100 to 600,000.
    """

    role: ClassVar[int]
    table: ClassVar[tuple[tuple[Row, ...], ...]]
    inputs: ClassVar[Inputs]

    def __init__(
        self, now: float, idle_timeout_ms: int = 0, counters: Counters | None = None
    ) -> None:
        check_idle_timeout(idle_timeout_ms)
        self.counters = counters or Counters()
        self.announced = idle_timeout_ms
        self.state = 0
        idle_ms = idle_timeout_ms or WCH_IDLE_TIMEOUT_MS
        self._now = now
        self._events: list[Event] = []
        self._closing = Closing()
        self._octets: bytes | None = b""  # of the peer's preface, until it is complete
        self._peer_idle = inf
        self._preface_until = now + WCH_PREFACE_TIMEOUT_MS / 1000
        self._until = inf  # end of the wait that the state is
        self._decoder = codec.FrameDecoder(self.role, WCH_MAX_FRAME_SIZE)
        self._heartbeat = Heartbeat(idle_ms / 1000, now)
        self._budgets = Budgets(idle_ms, now)
        self._control: list[Buffer] = []
        self._control_size = 0

    # -- the network driver

    def receive_data(self, data: bytes, now: float) -> None:
        """Take octets from the peer.  After the connection has ended they are discarded."""
        self._heartbeat.received(now)
        if self._closing.action:
            return
        self._now = now
        try:
            if self._octets is not None:
                data = self._feed_preface(self._octets, data)
            if self._octets is None and not self._closing.action:
                self._decode(data)
        except ProtocolViolation as violation:
            self._take(self.inputs.fault, violation.requirement, _without_payload(violation))
        if self._control_size > CONTROL_BUFFER and not self._closing.action:  # DOS-002
            self._take(self.inputs.stalled, "DOS-002", "too much control output waits to be read")

    def receive_eof(self, now: float, *, requirement: str = "", message: str = "") -> None:
        """Take the end of the peer's octets, or the loss of the connection."""
        self._now = now
        if self._closing.action:
            self._closing.begin(CloseAction.CLOSE, self._closing.deadline or now)
        else:
            self._take(
                self.inputs.eof, requirement, message or "closed by the peer", by_peer=not message
            )

    def abort(self, now: float) -> None:
        """End the connection at once; the driver resets it."""
        self._now = now
        if not self._closing.action:
            self._take(self.inputs.eof, "", "reset by this side")
        self._closing.begin(CloseAction.ABORT, now)

    def data_to_send(self, now: float) -> bytes:
        """Return the next batch of octets to write, or ``b""`` when there is none now."""
        if self._closing.action is CloseAction.ABORT:
            return b""
        self._now = now
        parts, self._control = self._control, []
        self._control_size = 0
        for frame in parts:
            self.counters.sent_control(frame)
        if not self._closing.action:
            self._write(parts)
        data = b"".join(parts)
        if data:
            self._heartbeat.handed(len(data), now)
        return data

    def data_sent(self, octets: int, now: float) -> None:
        """Report that so many more octets have left the driver for the kernel (P0-013)."""
        self._heartbeat.written(octets, now)

    @property
    def close_action(self) -> CloseAction:
        """What the driver owes the socket now."""
        return self._closing.action

    @property
    def reading(self) -> bool:
        """Whether the driver is to read."""
        return True

    # -- the timer driver

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` wants to be called, or None."""
        if self._closing.action:
            return self._closing.deadline
        if self._octets is not None:
            return self._preface_until
        return min(self._heartbeat.next_timeout(), self._until)

    def handle_timeout(self, now: float) -> None:
        """Do what is due.  Read what waits in the socket before calling this."""
        self._now = now
        if self._closing.action:
            self._closing.expire(now, flushed=not self._heartbeat.unwritten)
        elif self._octets is not None:
            if now >= self._preface_until:
                self._take(self.inputs.preface_late, "P0-002", "no complete preface in time")
        else:
            self._check_liveness(now)

    def _check_liveness(self, now: float) -> None:
        try:
            self._heartbeat.check(now)
        except ProtocolViolation as violation:
            self._take(self.inputs.silent, violation.requirement, violation.detail)
            return
        if self._heartbeat.stalled(now):
            self._take(self.inputs.stalled, "P0-013", "the peer does not read")
        elif now >= self._until:
            self._until = inf
            self._on_late()
        elif self._heartbeat.ping_due(now):
            self._send(codec.encode_ping(self._heartbeat.next_ping(now)))

    # -- the user driver

    def events(self) -> list[Event]:
        """Return what has happened since the last call, and forget it."""
        events, self._events = self._events, []
        return events

    @property
    def buffered_bytes(self) -> int:
        """Octets of queued control frames."""
        return self._control_size

    # -- what an end adds

    @abstractmethod
    def _on_preface(self, preface: codec.WchPreface) -> None:
        """Act on the peer's complete preface."""

    @abstractmethod
    def _on_frame(self, kind: int, flags: int, seq: int, request_id: bytes, payload: bytes) -> None:
        """Take a frame of a stream."""

    @abstractmethod
    def _on_late(self) -> None:
        """Act on the end of the wait that the state is."""

    @abstractmethod
    def _write(self, parts: list[Buffer]) -> None:
        """Write what the stream has to say."""

    @abstractmethod
    def _lose(self) -> int:
        """Give up the stream, since the connection has ended; return how many there were."""

    # -- input

    def _feed_preface(self, octets: bytes, data: bytes) -> bytes:
        """Take octets of the preface and return what is behind it (P0-002)."""
        missing = codec.PREFACE_SIZE - len(octets)
        octets += data[:missing]
        known = min(len(octets), len(codec.WCH_MAGIC))
        if octets[:known] != codec.WCH_MAGIC[:known]:
            self._take(self.inputs.preface_bad, "P0-002", "not a preface of this protocol")
            return b""
        self._octets = octets
        if len(octets) < codec.PREFACE_SIZE:
            return b""
        preface = codec.decode_wch_preface(octets)
        idle = preface.idle_timeout_ms
        if idle and not _IDLE_RULE.minimum <= idle <= _IDLE_RULE.maximum:
            self._take(self.inputs.preface_bad, "P0-002", "an idle timeout out of range")
            return b""
        self._on_preface(preface)
        return data[missing:]

    def _established(self, preface: codec.WchPreface) -> None:
        """Begin to live with the peer (P0-014)."""
        self._octets = None
        self.counters.accepted += 1
        self._take(self.inputs.preface_good)
        idle = (preface.idle_timeout_ms or WCH_IDLE_TIMEOUT_MS) / 1000
        self._heartbeat.peer_tolerates(idle, self._now)
        self._heartbeat.listen(self._now)
        self._peer_idle = idle
        self._events.append(Idle(first=True))

    def _decode(self, data: bytes) -> None:
        decoder = self._decoder
        decoder.feed(data)
        progress = False
        for kind, flags, seq, request_id, payload in decoder.frames():
            progress = True
            self.counters.received(kind, 1, len(payload))
            match kind:
                case codec.PING:
                    self._budgets.ping.charge(self._now)
                    self._take(self.inputs.ping)
                    self._send(codec.encode_pong(payload))
                case codec.PONG:
                    self._take(self.inputs.skipped)
                    self._on_pong(payload)
                case codec.EXTENSION:
                    self._take(self.inputs.skipped)
                    self._glitch()
                case _:
                    self._on_frame(kind, flags, seq, request_id, payload)
            if self._closing.action:
                return
        self._heartbeat.frame_state(begun=decoder.mid_frame, progress=progress, now=self._now)

    def _on_pong(self, payload: bytes) -> None:
        heartbeat = self._heartbeat
        if not heartbeat.pong(payload, self._now):
            self._glitch()
        elif heartbeat.round_trip is not None and not heartbeat.unanswered:
            self.counters.round_trip(heartbeat.round_trip)

    def _glitch(self) -> None:
        self.counters.glitches += 1
        self._budgets.glitch.charge(self._now)

    def _fault(self, message: str) -> None:
        """End the connection: a frame has no place here (P0-012)."""
        self._take(self.inputs.fault, "P0-012", message)

    # -- output and the end

    def _send(self, frame: bytes) -> None:
        self._control.append(frame)
        self._control_size += len(frame)

    def _take(
        self, input_: int, requirement: str = "", message: str = "", *, by_peer: bool = False
    ) -> int:
        """Go through the table, end the connection if it leads there, and return the effect."""
        row = self.table[self.state][input_]
        closed = len(self.table) - 1
        if row.state == closed != self.state:
            self._end(row, requirement or row.requirement, message, by_peer=by_peer)
        self.state = row.state
        return row.effect

    def _end(self, row: Row, requirement: str, message: str, *, by_peer: bool) -> None:
        action = CloseAction.CLOSE
        if row.effect == EFFECT_ABORT:
            action = CloseAction.ABORT
        elif row.effect == EFFECT_REFUSE:  # what says so is to arrive
            action = CloseAction.LINGER
        if action is not CloseAction.LINGER:
            self._control.clear()
            self._control_size = 0
        self._closing.begin(action, self._now + _LINGER)
        if self._octets is not None:
            self.counters.failed(requirement, None, by_peer=by_peer)
        self._events.append(
            ConnectionEnded(
                code=None,
                by_peer=by_peer,
                requirement=requirement,
                message=message,
                handshake=self._octets is None,
                last_ordinal=0,
                lost=self._lose(),
            )
        )


def check_idle_timeout(milliseconds: int) -> None:
    """Refuse an idle timeout that a peer would refuse.

    Raises:
        InvalidArgument: P0-002, it is neither 0 nor from 100 to 600,000.
    """
    low, high = _IDLE_RULE.minimum, _IDLE_RULE.maximum
    if milliseconds and not low <= milliseconds <= high:
        raise InvalidArgument(
            f"idle_timeout_ms {milliseconds} is neither 0 nor from {low} to {high} (P0-002)"
        )


def _without_payload(violation: ProtocolViolation) -> str:
    """Return what may be told of a violation (OBS-006)."""
    return violation.requirement if violation.requirement.startswith("PAY") else violation.detail
