"""One connection: what both roles share.

Rules of this file: it composes.  Octets come in and go through handshake, decoder and credit to the
role; what is due goes out through the scheduler; time goes to the heartbeat and the timers.  The
only exception that hostile input can raise is ProtocolViolation, and `_fail` is where it ends: in a
GOAWAY, a last event for everything that ran, and a close instruction (CLS-001).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

from muxwire._generated import codec
from muxwire._generated.machines import (
    EFFECT_GLITCH,
    EFFECT_RAISE,
    IN_CLIENT_WINDOW_UPDATE,
    IN_WINDOW_UPDATE,
)
from muxwire._generated.registries import (
    BATCH_SIZE,
    CONTROL_BUFFER,
    MAX_ERROR_MESSAGE,
    ErrorCode,
)
from muxwire.core.budgets import Budgets
from muxwire.core.closing import CloseAction, Closing
from muxwire.core.config import Config
from muxwire.core.counters import Counters
from muxwire.core.events import ConnectionEnded, Event, GoawaySent, HandshakeDone, Writable
from muxwire.core.flow import ReceiveCredit, SendCredit, check_limit
from muxwire.core.handshake import Handshake
from muxwire.core.heartbeat import Heartbeat
from muxwire.core.request import Request
from muxwire.core.scheduler import Hooks, Scheduler
from muxwire.core.sendqueue import Buffer, SendQueue
from muxwire.core.settings import Settings
from muxwire.core.timers import Timers
from muxwire.errors import LocalProtocolError, ProtocolViolation

R = TypeVar("R", bound=Request)

_WINDOW_UPDATE_INPUT = {codec.WORKER: IN_WINDOW_UPDATE, codec.CLIENT: IN_CLIENT_WINDOW_UPDATE}


class Connection(ABC, Generic[R]):
    """The sans-I/O connection that `WorkerConnection` and `ClientConnection` build on.

    The driver's loop, after every call of any method, is always the same::

        while data := connection.data_to_send(now):   # or until its own buffer is full
            write(data)                                # and report data_sent() as it goes out
        for event in connection.events(): ...
        carry out connection.close_action
        arm one timer for connection.next_timeout()

    Args:
        config: Options; see `Config`.
        now: Monotonic seconds: when the dial began, or when the connection was accepted.
        entropy: Returns that many random octets, for example ``os.urandom``.
        counters: What to count in, shared with other connections; fresh ones by default.
    """

    role: ClassVar[int]
    sends: ClassVar[int]
    """Kind of the frames of requests that it sends."""
    receives: ClassVar[int]
    """Kind of those that it receives."""
    reading: ClassVar[bool] = True
    """It is always read: credit holds the peer back (FLW-011)."""
    noted: ClassVar[int]
    """Frame flags that the role wants to hear about when a frame is written."""

    def __init__(
        self,
        config: Config,
        now: float,
        entropy: Callable[[int], bytes],
        counters: Counters | None = None,
    ) -> None:
        own = config.settings
        self.config = config
        self.counters = counters or Counters()
        self.peer = Settings.assumed()  # SET-005
        self._entropy = entropy
        self._now = now
        self._events: list[Event] = []
        self._requests: dict[bytes, R] = {}
        self._credit_due: list[R] = []
        first, whole = config.connect_timeout, config.handshake_timeout
        self._handshake = Handshake(
            self.role, now + whole, now + (first if self.role == codec.CLIENT else whole)
        )
        self._decoder = codec.FrameDecoder(self.role, own.max_frame_size)
        self._heartbeat = Heartbeat(own.idle_timeout_ms / 1000, now)
        self._budgets = Budgets(own.idle_timeout_ms, now)
        self._credit = ReceiveCredit(own.connection_window, own.initial_stream_window)
        self._timers = Timers()
        self._closing = Closing()
        self._starved_since: float | None = None
        self._scheduler = Scheduler(
            SendCredit(self.peer.connection_window),
            self.peer.max_frame_size,
            self.noted,
            Hooks(
                written=self._written,
                stuck=self._stuck,
                exhausted=self._exhausted,
                room=self._room,
                blocked=self._blocked,
            ),
        )

    # -- the network driver

    def receive_data(self, data: bytes, now: float) -> None:
        """Take octets from the peer.  After the connection has ended they are discarded."""
        self._heartbeat.received(now)
        if self._closing.action:
            return  # CLS-002, STM-006
        self._now = now
        try:
            if self._handshake.preface is None:
                rest = self._handshake.feed(data)
                if rest is None:
                    return
                self._on_preface()
                data = rest
            if not self._closing.action and not self._handshake.failed:
                self._decode(data)
        except ProtocolViolation as violation:
            self._fail(violation)
        if self._scheduler.control_size > CONTROL_BUFFER and not self._closing.action:
            self._abort("DOS-002", "too much control output waits to be read")

    def receive_eof(
        self, now: float, *, requirement: str = "", message: str = "closed by the peer"
    ) -> None:
        """Take the end of the peer's octets, or the loss of the connection (CLS-010).

        Args:
            now: The time.
            requirement: Id of the rule that the transport below was ended for, or "".
            message: What ended it.
        """
        self._now = now
        if self._closing.action:
            self._closing.begin(CloseAction.CLOSE, self._closing.deadline or now)
            return
        self._end(
            self._eof_code(), CloseAction.CLOSE, requirement, message, by_peer=not requirement
        )

    def abort(self, now: float) -> None:
        """End the connection at once; the driver resets it."""
        self._now = now
        if not self._closing.action:
            self._abort("", "reset by this side")

    def data_to_send(self, now: float) -> bytes:
        """Return the next batch of octets to write, or ``b""`` when there is none now.

        A batch is about 64 KiB.  Frames that were returned cannot be overtaken or purged any more,
        so a driver stops asking while its own buffer holds a batch or two.
        """
        if self._closing.action is CloseAction.ABORT:
            return b""
        self._now = now
        parts: list[Buffer] = []
        if not self._closing.action:
            self._announce_credit()
        self._scheduler.write_control(parts)
        control = self._count_control(parts) if parts else 0
        if not self._closing.action:
            self._scheduler.write_streams(parts, BATCH_SIZE)
            written = len(parts)
            self._scheduler.write_control(parts)  # what writing a frame has caused
            if len(parts) > written:
                control += self._count_control(parts[written:])
            if self._scheduler.starved != (self._starved_since is not None):
                self._count_starved(now)
            self._after_write()
        data = b"".join(parts)
        if data:
            self.counters.octets_sent[self.sends] += len(data) - control
            self._heartbeat.handed(len(data), now)
        return data

    def data_sent(self, octets: int, now: float) -> None:
        """Report that so many more octets have left the driver for the kernel.

        Without this report the core takes the peer for one that does not read (HBT-006).
        """
        self._heartbeat.written(octets, now)

    @property
    def close_action(self) -> CloseAction:
        """What the driver owes the socket now."""
        return self._closing.action

    # -- the timer driver

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` wants to be called, or None.

        The time moves later with almost every octet.  A driver leaves an armed timer alone unless
        the new time is earlier: a call that comes too early does nothing.
        """
        if self._closing.action:
            return self._closing.deadline
        nearest = self._heartbeat.next_timeout()
        if not self._handshake.complete:
            nearest = min(nearest, self._handshake.deadline)
        timer = self._timers.next()
        return nearest if timer is None else min(nearest, timer)

    def handle_timeout(self, now: float) -> None:
        """Do what is due.  Read what waits in the socket before calling this (HBT-003)."""
        self._now = now
        if self._closing.action:
            self._closing.expire(now, flushed=not self._heartbeat.unwritten)
            return
        try:
            self._handshake.check(now)
            self._heartbeat.check(now)
        except ProtocolViolation as violation:
            self._fail(violation)
            return
        if self._heartbeat.stalled(now):
            self._abort("HBT-006", "the peer does not read")
            return
        while (timer := self._timers.pop_due(now)) is not None and not self._closing.action:
            if timer.request_id is None:
                self._on_alarm(timer.action)
            elif (request := self._requests.get(timer.request_id)) is not None:
                self._on_deadline(timer.action, request)
        if not self._closing.action and self._heartbeat.ping_due(now):
            self._scheduler.control(codec.encode_ping(self._heartbeat.next_ping(now)))

    # -- the user driver

    def events(self) -> list[Event]:
        """Return what has happened since the last call, and forget it."""
        events, self._events = self._events, []
        return events

    def consumed(self, request_id: bytes, cost: int) -> None:
        """Give back the cost of a message that the application has taken, or dropped for good.

        Raises:
            LocalProtocolError: More is given back than was handed out.
        """
        request = self._requests.get(request_id)
        if request is None:
            self._consumed_late(request_id, cost)
        elif cost > request.credit.held - request.chunk_cost:
            raise LocalProtocolError("more cost given back than was handed out")
        else:
            self._give_back(request, cost)

    def awaiting(self, request_id: bytes, waiting: bool = True) -> None:
        """Say that the application waits for the next message of a request and has none queued.

        Only then may a message that is longer than the window arrive (FLW-007).  The next complete
        message ends the wait by itself.
        """
        request = self._requests.get(request_id)
        if request is None:
            return
        request.awaited = waiting
        if waiting and request.chunk_cost:
            self._give_back_chunks(request)

    @property
    def buffered_bytes(self) -> int:
        """Cost of queued output and unread input, and octets of queued control frames."""
        queued = sum(request.queue.buffered for request in self._live())
        return queued + self._credit.held + self._scheduler.control_size

    @property
    def round_trip(self) -> float | None:
        """Seconds that the newest answered PING took, or None."""
        return self._heartbeat.round_trip

    # -- who reads the counters, from whatever thread

    def _live(self) -> list[R]:
        """Return the requests; a copy in one step, since another thread may be asking."""
        return [*self._requests.values()]

    @property
    def frames_sent(self) -> int:
        """REQUESTs or RESPONSEs written of the requests that are not over."""
        return sum(request.queue.seq for request in self._live())

    @property
    def blocked_seconds(self) -> tuple[float, float]:
        """How long streams, and the connection, are blocked by their windows, up to the last event.

        What is not blocked any more is in the counters.
        """
        since = [request.blocked_since for request in self._live()]
        now, starved = self._now, self._starved_since
        streams = sum(now - begun for begun in since if begun is not None)
        return streams, 0.0 if starved is None else now - starved

    # -- what a role adds

    @abstractmethod
    def _on_preface(self) -> None:
        """Act on the peer's complete preface."""

    @abstractmethod
    def _on_settled(self) -> None:
        """Act on the peer's SETTINGS, which have just been applied."""

    @abstractmethod
    def _on_stream_frame(self, flags: int, seq: int, request_id: bytes, payload: bytes) -> None:
        """Take a REQUEST or a RESPONSE."""

    @abstractmethod
    def _on_goaway(self, payload: bytes) -> None:
        """Take a GOAWAY."""

    @abstractmethod
    def _on_cancel(self, kind: int, request_id: bytes, payload: bytes) -> None:
        """Take a STOP or a KILL."""

    @abstractmethod
    def _on_deadline(self, action: int, request: R) -> None:
        """Act on a deadline of a request."""

    @abstractmethod
    def _on_alarm(self, action: int) -> None:
        """Act on a deadline of the connection."""

    @abstractmethod
    def _effect_without_request(self, request_id: bytes, input_: int) -> int:
        """Look up an input for an id that is not live."""

    @abstractmethod
    def _consumed_late(self, request_id: bytes, cost: int) -> None:
        """Take back cost of a request that is over."""

    @abstractmethod
    def _written(self, queue: SendQueue, parts: list[Buffer]) -> None:
        """Act on a noted frame that has just been written."""

    @abstractmethod
    def _stuck(self, queue: SendQueue) -> None:
        """Act on a stream that begins to wait for credit."""

    @abstractmethod
    def _exhausted(self, queue: SendQueue) -> None:
        """Act on a stream that has no sequence numbers left (FRM-010)."""

    @abstractmethod
    def _after_write(self) -> None:
        """Act on a batch that has been written: is everything done?"""

    @abstractmethod
    def _last_ordinal(self) -> int:
        """Return the last_ordinal of a GOAWAY of ours."""

    @abstractmethod
    def _eof_code(self) -> int | None:
        """Return the code that explains an end of the peer's octets."""

    @abstractmethod
    def _lose(self, code: int | None, message: str) -> int:
        """Give every request its last event and return how many there were."""

    # -- input

    def _decode(self, data: bytes) -> None:
        decoder = self._decoder
        decoder.feed(data)
        progress = False
        frames = octets = 0
        try:
            for kind, flags, seq, request_id, payload in decoder.frames():
                progress = True
                if kind <= codec.RESPONSE:
                    frames += 1
                    octets += len(payload)
                    self._on_stream_frame(flags, seq, request_id, payload)
                else:
                    self.counters.received(kind, 1, len(payload))
                    self._on_control(kind, request_id, payload)
                    if self._closing.action or self._handshake.failed:
                        return
        finally:
            self.counters.received(self.receives, frames, octets)
        self._heartbeat.frame_state(begun=decoder.mid_frame, progress=progress, now=self._now)

    def _on_control(self, kind: int, request_id: bytes, payload: bytes) -> None:
        match kind:
            case codec.WINDOW_UPDATE:
                self._on_window_update(request_id, payload)
            case codec.PING:
                self._budgets.ping.charge(self._now)
                self._scheduler.control(codec.encode_pong(payload))  # HBT-002
            case codec.PONG:
                if not self._heartbeat.pong(payload, self._now):
                    self._glitch()
                elif self.round_trip is not None and not self._heartbeat.unanswered:
                    self.counters.round_trip(self.round_trip)
            case codec.STOP | codec.KILL:
                self._on_cancel(kind, request_id, payload)
            case codec.SETTINGS:
                self._on_settings(payload)
            case codec.SETTINGS_ACK:
                self._on_ack()
            case codec.GOAWAY:
                self.counters.goaway_received(int.from_bytes(payload[:4]))
                self._on_goaway(payload)
            case _:
                self._glitch()  # FRM-005

    def _on_settings(self, payload: bytes) -> None:
        self._handshake.take_settings()
        peer = self.peer = Settings.from_wire(codec.decode_settings(payload).settings)
        self._scheduler.use(peer.max_frame_size)
        self._scheduler.raise_connection(peer.connection_window)
        for request in self._requests.values():  # SET-005: the larger of current and announced
            if self._scheduler.raise_stream(request.queue, peer.initial_stream_window):
                self._unblocked(request)
        self._scheduler.control(codec.encode_settings_ack())  # HSK-007
        self._heartbeat.peer_tolerates(peer.idle_timeout_ms / 1000, self._now)
        self._on_settled()

    def _on_ack(self) -> None:
        self._handshake.take_ack()
        self.counters.accepted += 1
        self._heartbeat.listen(self._now)
        self._events.append(HandshakeDone(version=codec.VERSION, settings=self.peer))

    def _on_window_update(self, request_id: bytes, payload: bytes) -> None:
        limit = check_limit(codec.decode_window_update(payload))
        if request_id == codec.CONNECTION_ID:
            if not self._scheduler.raise_connection(limit):
                self._glitch()  # FLW-003
            return
        effect, request = self._step(request_id, _WINDOW_UPDATE_INPUT[self.role])
        if effect == EFFECT_RAISE and request is not None:
            if self._scheduler.raise_stream(request.queue, limit):
                self._unblocked(request)
            else:
                self._glitch()  # FLW-003
        elif effect == EFFECT_GLITCH:
            self._glitch()  # RID-003

    def _step(self, request_id: bytes, input_: int) -> tuple[int, R | None]:
        """Take an input through the table, for a request of any state."""
        request = self._requests.get(request_id)
        if request is None:
            return self._effect_without_request(request_id, input_), None
        return request.step(input_), request

    def _glitch(self) -> None:
        self.counters.glitches += 1
        self._budgets.glitch.charge(self._now)

    # -- messages and credit

    def _assemble(
        self, request: R, flags: int, body: bytes, cost: int, *, silent: bool
    ) -> tuple[bytes, int] | None:
        """Take the message data of a frame; return a message and its cost if one is complete.

        Raises:
            ProtocolViolation: MSG-003 with scope "stream".
        """
        request.chunk_cost += cost
        limit = self.config.settings.max_message_size
        message = request.assemble(flags, body, silent=silent, limit=limit)
        if message is None:
            if request.awaited or request.reassembly is None:
                self._give_back_chunks(request)  # FLW-007, or a frame without message data
            return None
        request.awaited = False
        cost, request.chunk_cost = request.chunk_cost, 0
        return message, cost

    def _give_back_chunks(self, request: R) -> None:
        cost, request.chunk_cost = request.chunk_cost, 0
        self._give_back(request, cost)

    def _give_back(self, request: R, cost: int) -> None:
        if self._credit.give_back(request.credit, cost):
            self._credit_due.append(request)

    def _announce_credit(self) -> None:
        """Queue the latest limits that deserve to be announced, and no others (FLW-012)."""
        limit = self._credit.update()
        if limit is not None:
            self._scheduler.control(codec.encode_window_update(codec.CONNECTION_ID, limit))
        for request in self._credit_due:
            if request.state in request.granting:
                limit = self._credit.update_stream(request.credit)
                self._scheduler.control(codec.encode_window_update(request.request_id, limit))
        self._credit_due.clear()

    def _schedule(self, request: R) -> None:
        """Give a request its turn."""
        self._scheduler.ready(request.queue)

    def _queue_message(self, request: R, data: bytes) -> bool:
        """Queue a message if it has room; else remember that its writer waits (FLW-010)."""
        queue = request.queue
        if not queue.has_room(len(data), self.config.send_buffer):
            queue.wanted = len(data)
            return False
        queue.push_message(data)
        self._schedule(request)
        return True

    def _room(self, queue: SendQueue) -> None:
        """Tell a waiting writer, once half of the buffer is free and its message fits."""
        most = self.config.send_buffer
        if queue.buffered <= most // 2 and queue.has_room(queue.wanted, most):
            queue.wanted = -1
            self._events.append(Writable(request_id=queue.request_id))

    # -- counters

    def _count_control(self, frames: list[Buffer]) -> int:
        """Count control frames, and the preface, that are written; return their octets."""
        return sum(map(self.counters.sent_control, frames))

    def _count_starved(self, now: float) -> None:
        """Note that the connection's window begins or ends to block."""
        if self._starved_since is None:
            self._starved_since = now
        else:
            self.counters.connection_blocked += now - self._starved_since
            self._starved_since = None

    def _blocked(self, queue: SendQueue) -> None:
        """Note that a stream's window begins to block."""
        request = self._requests[queue.request_id]
        if request.blocked_since is None:
            request.blocked_since = self._now

    def _unblocked(self, request: R) -> None:
        """Note that a stream's window has ended to block, if it did."""
        if request.blocked_since is not None:
            self.counters.stream_blocked += self._now - request.blocked_since
            request.blocked_since = None

    def _count_out(self, request: R) -> None:
        """Move what was counted with a request to the counters of all: it is over."""
        self.counters.frames_sent[self.sends] += request.queue.seq
        self._unblocked(request)

    # -- the end

    def _hello(self) -> None:
        """Queue our preface and SETTINGS, with one setting that means nothing (FRM-012)."""
        pairs = self.config.settings.to_wire(client=self.role == codec.CLIENT)
        if self.config.grease:
            digit, value = self._entropy(2)
            pairs.append(((digit & 0x0F) * 0x1010 + 0x0A0A, value))
        self._scheduler.control(codec.encode_preface(codec.VERSION, codec.VERSION))
        self._scheduler.control(codec.encode_settings(pairs))

    def _fail(self, violation: ProtocolViolation) -> None:
        """Turn a violation into the end of the connection (CLS-001)."""
        if self._handshake.preface is None:  # HSK-002, HSK-008, HSK-010: without an octet
            self._scheduler.drop()
            self._end(None, CloseAction.CLOSE, violation.requirement, violation.detail)
            return
        message = str(violation)
        if violation.requirement.startswith("PAY"):
            message = violation.requirement  # OBS-006: the detail may quote the payload
        text = message.encode()[:MAX_ERROR_MESSAGE]
        self._scheduler.control(codec.encode_goaway(violation.code, self._last_ordinal(), 0, text))
        self._end(violation.code, CloseAction.LINGER, violation.requirement, message)

    def _announce(self, grace_ms: int, message: str) -> None:
        """Queue the GOAWAY of an orderly end (CLS-003, CLS-009)."""
        code, last = ErrorCode.NO_ERROR, self._last_ordinal()
        self._scheduler.control(codec.encode_goaway(code, last, grace_ms, message.encode()))
        self._events.append(
            GoawaySent(code=code, last_ordinal=last, grace_ms=grace_ms, message=message)
        )

    def _abort(self, requirement: str, message: str) -> None:
        """End the connection by a reset, since nothing could be written any more."""
        self._scheduler.drop()
        self._end(None, CloseAction.ABORT, requirement, message)

    def _end(
        self,
        code: int | None,
        action: CloseAction,
        requirement: str = "",
        message: str = "",
        *,
        by_peer: bool = False,
    ) -> None:
        """End the connection: everything that ran gets its last event (STM-006, REC-001)."""
        self._scheduler.drop_streams()
        self._closing.begin(action, self._now + self.config.linger)
        if not self._handshake.complete:
            self.counters.failed(requirement, code, by_peer=by_peer)
        if self._starved_since is not None:
            self._count_starved(self._now)
        for request in self._requests.values():
            self._count_out(request)
        lost = self._lose(code, message)
        self._requests.clear()
        self._credit_due.clear()
        self._credit.held = 0
        self._timers = Timers()
        self._events.append(
            ConnectionEnded(
                code=None if code is None else int(code),
                by_peer=by_peer,
                requirement=requirement,
                message=message,
                handshake=self._handshake.complete,
                last_ordinal=self._last_ordinal(),
                lost=lost,
            )
        )
