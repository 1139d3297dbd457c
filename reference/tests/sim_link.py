"""A client and a worker joined by a network in virtual time, with applications at both ends.

`Pipe` is one direction of a TCP connection: a bounded kernel buffer, a delay, a reader that takes
the octets in pieces of any size.  `Station` drives one core over two pipes, in the way of the real
pump.  `SimLink` moves time from one thing that happens to the next.  `Caller` and `Server` are the
applications; they remember what was asked and what came, and check what only they can know.
Nothing here sleeps and nothing is random: the same calls always give the same run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from math import inf
from typing import Any

from core_harness import Entropy
from muxwire._generated.registries import NOT_PROCESSED, ErrorCode
from muxwire.core import (
    ClientConnection,
    CloseAction,
    Config,
    Connection,
    ConnectionEnded,
    Event,
    GoawayReceived,
    GoawaySent,
    HandlerCancelled,
    HandshakeDone,
    MessageReceived,
    RequestFinished,
    RequestReceived,
    ResponseFailed,
    ResponseFinished,
    ResponseHeaders,
    StopReceived,
    WorkerConnection,
    Writable,
)
from muxwire.core.client import GIVE_UP_AFTER, KILL_AFTER
from muxwire.core.statistics import Statistics
from muxwire.errors import InvalidArgument, MessageTooLarge, Outcome, RequestClosed
from sim_watch import CLIENT, NAMES, WORKER, Watch

SUBJECT = b"sim.any"
Headers = list[tuple[bytes, bytes]]
EPSILON = 1e-6
SPIN = 50
"""Timers of one side at one moment after which it counts as spinning."""


# -- the network -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Path:
    """What one direction of the network is like.

    Attributes:
        latency: Seconds from the sender's kernel to the receiver's.
        capacity: Octets that both kernels together hold.
        chops: Sizes of the reads, over and over.
        high: Octets in the driver's own buffer from which on it asks its core for no more.
        lazy: The driver hears of what was written only when everything is, like the real one.
    """

    latency: float = 0.0
    capacity: int = 1 << 20
    chops: tuple[int, ...] = (1 << 20,)
    high: int = 1 << 17
    lazy: bool = False


class Pipe:
    """One direction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.used = 0
        self.stalled_until = 0.0
        self.left = 1 << 62
        """Octets that are still let through; behind them the reader meets the end."""
        self._chops = cycle(path.chops)
        self._parts: deque[tuple[float, bytes]] = deque()
        self._last = 0.0
        self._end: float | None = None
        self._reset: float | None = None
        self._deaf = False

    def use(self, path: Path) -> None:
        """Change the network."""
        self.path = path
        self._chops = cycle(path.chops)

    @property
    def room(self) -> int:
        return max(0, self.path.capacity - self.used)

    def write(self, data: bytes, now: float) -> bool:
        """Take octets into the kernel; False if the reader is gone."""
        if self._deaf:
            return False
        self._last = max(self._last, now + self.path.latency)
        self._parts.append((self._last, data))
        self.used += len(data)
        return True

    def end(self, now: float) -> None:
        """Half-close: an end of file behind everything."""
        if self._end is None:
            self._end = max(self._last, now + self.path.latency)

    def reset(self, now: float) -> None:
        """Reset: what was not read is lost."""
        if self._reset is None:
            self._reset = now + self.path.latency

    def deafen(self) -> bool:
        """Close the reading end; True if something was left unread."""
        unread = bool(self._parts)
        self._deaf = True
        self._parts.clear()
        self.used = 0
        return unread

    def due(self) -> float:
        """Return when there is something to read, an end included; infinity if never."""
        if self._deaf:
            return inf
        times = [inf if self.left else 0.0]
        if self._parts:
            times.append(self._parts[0][0])
        elif self._end is not None:
            times.append(self._end)
        if self._reset is not None:
            times.append(self._reset)
        return max(min(times), self.stalled_until)

    def over(self, now: float) -> bool:
        """Whether nothing will ever be read again."""
        if self._deaf or now < self.stalled_until:
            return False
        if not self.left or (self._reset is not None and now >= self._reset):
            return True
        return self._end is not None and now >= self._end and not self._parts

    def read(self, now: float) -> bytes:
        """Return the next piece, or ``b""``."""
        if (
            self._deaf
            or now < self.stalled_until
            or (self._reset is not None and now >= self._reset)
        ):
            return b""
        parts = self._parts
        if not parts or parts[0][0] > now:
            return b""
        size = min(next(self._chops), self.left)
        pieces = []
        while size and parts and parts[0][0] <= now:
            ready, data = parts.popleft()
            if len(data) > size:
                parts.appendleft((ready, data[size:]))
                data = data[:size]
            size -= len(data)
            pieces.append(data)
        piece = b"".join(pieces)
        self.used -= len(piece)
        self.left -= len(piece)
        return piece


class Station:
    """The driver of one core, in the way of `muxwire.tcp.pump`."""

    def __init__(
        self,
        side: int,
        core: Connection[Any],
        out: Pipe,
        into: Pipe,
        watch: Watch,
        hear: Callable[[Event], None],
    ) -> None:
        self.side = side
        self.core = core
        self.out = out
        self.into = into
        self.hear = hear
        self.gone = False
        self.frozen_until = 0.0
        self.frozen = False
        self.corked = False
        self.free_since = 0.0
        """Since when neither the network nor a pause has kept the core from writing."""
        self._watch = watch
        self._outbox = bytearray()
        self._paused = False
        self._shut = False
        self._closing = False
        self._eof_seen = False
        self._handed = 0
        self._reported = 0
        self._armed = inf
        self._fired = 0
        self._fired_at = -1.0

    @property
    def free(self) -> bool:
        return not (self._outbox or self._paused or self.corked or self.gone)

    @property
    def busy(self) -> bool:
        """Whether octets of this side are under way, or could be."""
        waits = not self.gone and not self.core._scheduler.idle
        return bool(self._outbox or self.out.used or waits)

    def due(self) -> float:
        """Return when this side has something to do."""
        if self.gone:
            return inf
        reading = inf if self._eof_seen else self.into.due()
        waiting = self.frozen_until if self.frozen else inf
        return max(min(self._armed, reading, waiting), self.frozen_until)

    def work(self, now: float) -> bool:
        """Do what is due; False if there was nothing."""
        if self.gone or now < self.frozen_until:
            return False
        busy = self._read(now)
        if self.frozen:
            self.frozen = False
            self.turn(now)
        if not self.gone and self._armed <= now:
            self._expired(now)
            busy = True
        return self._flush(now) or busy

    def turn(self, now: float) -> None:
        """Deliver events and write output until neither is left, then close or wait."""
        if self.gone:
            return
        self._deliver()
        if self.corked or now < self.frozen_until:
            return
        while self._write(now):
            self._deliver()
        self._carry_out(now)
        if not self.gone:
            when = self.core.next_timeout()
            if when is not None and when < self._armed:
                self._armed = when

    def die(self, now: float) -> None:
        """End as a process that crashes: the kernel closes its socket with an end of file."""
        self._outbox.clear()
        self._close(now)

    def reset(self, now: float) -> None:
        """End with a reset."""
        self.out.reset(now)
        self._close(now)

    def _read(self, now: float) -> bool:
        busy = False
        while not self.gone and (data := self.into.read(now)):
            self._watch.arrived(self.side, data, now)
            self.core.receive_data(data, now)
            self.turn(now)
            busy = True
        if not self.gone and not self._eof_seen and self.into.over(now):
            self._eof_seen = True
            self.core.receive_eof(now)
            self.turn(now)
            busy = True
        return busy

    def _expired(self, now: float) -> None:
        self._fired = self._fired + 1 if now == self._fired_at else 0
        self._fired_at = now
        assert self._fired < SPIN, f"the {NAMES[self.side]} spins at {now}"
        self._armed = inf
        when = self.core.next_timeout()
        if when is not None and when <= now:
            self._report(now)
            self.core.handle_timeout(now)
        self.turn(now)

    def _write(self, now: float) -> bool:
        if self.gone or self._shut or self._closing:
            return False
        wrote = False
        while True:
            self._paused = len(self._outbox) >= self.out.path.high
            if self._paused or not (data := self.core.data_to_send(now)):
                break
            self._watch.handed(self.side, data, now)
            self._outbox += data
            self._handed += len(data)
            self._pass_on(now)
            wrote = True
        self._report(now)
        return wrote

    def _pass_on(self, now: float) -> bool:
        """Move octets from the driver into the kernel."""
        size = min(len(self._outbox), self.out.room)
        if size:
            data = bytes(self._outbox[:size])
            del self._outbox[:size]
            self._watch.written(self.side, now)
            if not self.out.write(data, now):  # the peer's kernel answers with a reset
                self.into.reset(now)
        if not self._outbox and (self._shut or self._closing):
            self.out.end(now)
            if self._closing:
                self._close(now)
        return bool(size)

    def _flush(self, now: float) -> bool:
        if self.gone or not self._outbox or not self._pass_on(now):
            return False
        if not (self._outbox and self.out.path.lazy):
            self._report(now)
            self.turn(now)
        return True

    def _report(self, now: float) -> None:
        sent = self._handed - len(self._outbox)
        if sent > self._reported:
            self.core.data_sent(sent - self._reported, now)
            self._reported = sent

    def _carry_out(self, now: float) -> None:
        action = self.core.close_action
        if action is CloseAction.ABORT:
            self.reset(now)
        elif action is CloseAction.NONE or self._paused or self._closing:
            return
        elif action is CloseAction.CLOSE:
            self._closing = True
            self._pass_on(now)
        elif not self._shut:
            self._shut = True
            self._pass_on(now)

    def _close(self, now: float) -> None:
        """Close the socket; unread input makes the kernel send a reset."""
        self.gone = True
        if self.into.deafen():
            self.out.reset(now)
        self.out.end(now)
        self.core.receive_eof(now)
        self._deliver()

    def _deliver(self) -> None:
        while events := self.core.events():
            for event in events:
                self.hear(event)


# -- the applications ------------------------------------------------------------------------------


@dataclass(slots=True)
class Ask:
    """One request, as its caller knows it."""

    request_id: bytes
    opened_at: float
    timeout: float
    headers: Headers
    said: list[bytes] = field(default_factory=list)
    waiting: bytes | None = None
    ended: bool = False
    stopped: bool = False
    killed: bool = False
    hungry: bool = True
    debts: list[int] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    answer_headers: Headers | None = None
    trailers: Headers | None = None
    outcome: str = ""
    failure: ResponseFailed | None = None

    @property
    def open(self) -> bool:
        return not self.outcome


@dataclass(slots=True)
class Job:
    """One request, as its handler knows it."""

    request_id: bytes
    headers: Headers
    plan: bytes
    heard: list[bytes] = field(default_factory=list)
    debts: list[int] = field(default_factory=list)
    ended: bool = False
    hungry: bool = True
    stubborn: bool = False
    stopped: bool = False
    cancelled: bool = False
    said: list[bytes] = field(default_factory=list)
    waiting: bytes | None = None
    answer_headers: Headers | None = None
    trailers: Headers = field(default_factory=list)
    code: int | None = None
    """None: running.  0: finished well.  Else: failed with it."""
    finishing: bool = False
    """Finish as soon as the waiting message is gone."""


class Caller:
    """The application at the client."""

    def __init__(self, core: ClientConnection, watch: Watch) -> None:
        self.core = core
        self.asks: dict[bytes, Ask] = {}
        self.ended: ConnectionEnded | None = None
        self.ready = False
        self._watch = watch

    def ask(
        self,
        now: float,
        *,
        subject: bytes = SUBJECT,
        data: bytes | None = None,
        end: bool = True,
        plan: bytes = b"manual",
        headers: Headers | None = None,
        timeout_ms: int = 0,
        idempotent: bool = False,
        hungry: bool = True,
    ) -> Ask:
        sent = [(b"plan", plan), *(headers or [])]
        request_id = self.core.open(
            subject,
            now=now,
            headers=sent,
            timeout_ms=timeout_ms,
            idempotent=idempotent,
            data=data,
            end=end,
            awaiting=hungry,
        )
        ask = Ask(request_id, now, timeout_ms / 1000, sent, hungry=hungry, ended=end)
        if data is not None:
            ask.said.append(data)
        assert request_id not in self.asks
        self.asks[request_id] = ask
        return ask

    def say(self, ask: Ask, data: bytes, *, end: bool = False) -> None:
        """Send a message, now or when there is room."""
        if ask.ended or not ask.open or ask.waiting is not None:
            return
        try:
            if self.core.send_message(ask.request_id, data):
                ask.said.append(data)
                if end:
                    self.end(ask)
            else:
                ask.waiting = data
        except RequestClosed:
            assert ask.killed or ask.timeout, "a live request takes no messages"
        except MessageTooLarge:
            assert len(data) > self.core.peer.max_message_size

    def end(self, ask: Ask) -> None:
        if ask.ended or not ask.open or ask.waiting is not None:
            return
        try:
            self.core.end(ask.request_id)
            ask.ended = True
        except RequestClosed:
            assert ask.killed or ask.timeout

    def stop(self, ask: Ask) -> None:
        ask.stopped = True
        self.core.stop(ask.request_id, 7)

    def kill(self, ask: Ask) -> None:
        ask.killed = ask.killed or ask.open
        self.core.kill(ask.request_id)

    def feed(self, ask: Ask, hungry: bool) -> None:
        """Begin or stop to take messages."""
        ask.hungry = hungry
        self.core.awaiting(ask.request_id, waiting=hungry)
        if hungry:
            while ask.debts:
                self.core.consumed(ask.request_id, ask.debts.pop(0))

    def take(self, ask: Ask) -> None:
        """Take one message although not hungry."""
        if ask.debts:
            self.core.consumed(ask.request_id, ask.debts.pop(0))

    def hear(self, event: Event) -> None:
        assert self.ended is None, f"{event} after the last event"
        match event:
            case HandshakeDone():
                assert not self.ready
                self.ready = True
            case GoawayReceived() | GoawaySent():
                pass
            case ConnectionEnded():
                self.ended = event
                assert all(not ask.open for ask in self.asks.values()), "REC-001"
                assert event.handshake == self.ready
            case _:
                self._hear(self.asks[event.request_id], event)

    def _hear(self, ask: Ask, event: Event) -> None:
        assert ask.open, f"{event} after the outcome {ask.outcome}"
        match event:
            case ResponseHeaders(headers=headers):
                assert ask.answer_headers is None
                assert not ask.heard
                ask.answer_headers = headers
            case MessageReceived(data=data, cost=cost, ended=ended):
                ask.heard.append(data)
                ask.debts.append(cost)
                if ask.hungry:
                    self.feed(ask, hungry=True)
                if ended:
                    self._succeed(ask, [])
            case ResponseFinished(trailers=trailers):
                self._succeed(ask, trailers)
            case ResponseFailed():
                assert event.messages == len(ask.heard)
                ask.outcome = event.outcome.name
                ask.failure = event
                self._justify(ask, event)
            case Writable():
                assert ask.waiting is not None, "Writable for nobody"
                data, ask.waiting = ask.waiting, None
                self.say(ask, data)
                assert ask.waiting is None, "Writable, and then no room"
            case _:
                raise AssertionError(f"a client does not get {event}")

    def _succeed(self, ask: Ask, trailers: Headers) -> None:
        assert not ask.killed, "STM-002: a killed request succeeds"
        assert self._watch.terminals[ask.request_id] is None, "a success without its terminal"
        ask.outcome = "SUCCESS"
        ask.trailers = trailers

    def _justify(self, ask: Ask, event: ResponseFailed) -> None:
        """Check the class of a failure against what has crossed the wire (REC-002)."""
        watch, key = self._watch, ask.request_id
        opened, answered, over = (
            key in watch.opened, key in watch.responded, key in watch.terminals
        )  # fmt: skip
        body = watch.terminals.get(key)
        assert (event.outcome is Outcome.NOT_SENT) == (not opened)
        if not event.local:
            assert body is not None
            assert (event.code, event.error_flags, event.detail) == (
                body.code, body.error_flags, body.detail
            )  # fmt: skip
        match event.outcome:
            case Outcome.FAILED:
                assert over, "an outcome before the terminal"
            case Outcome.NOT_PROCESSED if body is not None:
                assert body.error_flags & NOT_PROCESSED
            case Outcome.NOT_PROCESSED if not watch.refused_by_preface:
                assert watch.covered is not None
                assert watch.opened.index(key) + 1 > watch.covered
            case Outcome.PARTIAL:
                assert answered
                assert not over
            case Outcome.AMBIGUOUS:
                assert not answered


PATIENCE = KILL_AFTER + GIVE_UP_AFTER
"""Seconds behind its deadline when a request has an outcome, whatever the worker does."""


class Server:
    """The application at the worker: a small state machine for each handler.

    A handler's plan says what it does by itself.  ``manual``: nothing.  ``echo``: every message
    goes back, and it finishes with the request.  ``once``: one message, then the end.  ``refuse``:
    an error at once.  ``stubborn``: nothing, and it ignores its cancellation until it is let go.
    ``careless``: it calls its cancellation a success.  ``stalled``: it takes no messages.
    """

    def __init__(self, core: WorkerConnection) -> None:
        self.core = core
        self.jobs: dict[bytes, Job] = {}
        self.running: dict[bytes, Job] = {}
        self.ended: ConnectionEnded | None = None
        self.peak = 0

    def say(self, job: Job, data: bytes) -> bool:
        """Send a message, now or when there is room; False if one waits already."""
        if job.code is not None:
            return True
        if job.waiting is not None:
            return False
        try:
            taken = self.core.send_message(job.request_id, data)
        except MessageTooLarge:
            job.cancelled = True
            self.fail(job, ErrorCode.MESSAGE_TOO_LARGE)
            return True
        if taken:
            job.said.append(data)
        else:
            job.waiting = data
        return True

    def head(self, job: Job, headers: Headers) -> None:
        if job.code is not None or job.said or job.answer_headers is not None or job.waiting:
            return
        try:
            self.core.send_headers(job.request_id, headers)
            job.answer_headers = headers
        except InvalidArgument:
            job.cancelled = True

    def finish(self, job: Job, trailers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """End well, behind the message that waits for room if there is one."""
        if job.code is not None:
            return
        job.trailers = list(trailers)
        if job.waiting is not None and not job.cancelled:
            job.finishing = True
            return
        self._end(job, 0)
        try:
            self.core.finish(job.request_id, trailers)
        except InvalidArgument:
            job.code = int(ErrorCode.REQUEST_INTERNAL_ERROR)

    def fail(self, job: Job, code: int) -> None:
        if job.code is None:
            self._end(job, int(code))
            self.core.fail(job.request_id, code, "as planned", detail=b"detail")

    def _end(self, job: Job, code: int) -> None:
        job.code = code
        job.waiting = None
        del self.running[job.request_id]

    def feed(self, job: Job, hungry: bool) -> None:
        """Begin or stop to take messages."""
        job.hungry = hungry
        if job.code is None:
            self.core.awaiting(job.request_id, waiting=hungry)
        if hungry:
            while job.debts:
                self.core.consumed(job.request_id, job.debts.pop(0))

    def take(self, job: Job) -> None:
        """Take one message although not hungry."""
        if job.debts:
            self.core.consumed(job.request_id, job.debts.pop(0))

    def let_go(self, job: Job) -> None:
        """Let a stubborn handler heed its cancellation."""
        job.stubborn = False
        if job.cancelled:
            self.fail(job, ErrorCode.CANCELLED)

    def hear(self, event: Event) -> None:
        assert self.ended is None, f"{event} after the last event"
        match event:
            case HandshakeDone() | GoawayReceived() | GoawaySent():
                pass
            case ConnectionEnded():
                self.ended = event
                assert all(job.cancelled for job in self.running.values()), "CLS-010"
            case RequestReceived():
                self._start(event)
            case _:
                self._hear(self.jobs[event.request_id], event)

    def _start(self, event: RequestReceived) -> None:
        assert event.request_id not in self.jobs
        job = Job(event.request_id, event.headers, dict(event.headers)[b"plan"])
        job.stubborn = job.plan == b"stubborn"
        job.hungry = job.plan != b"stalled"
        self.jobs[event.request_id] = self.running[event.request_id] = job
        self.peak = max(self.peak, len(self.running))
        limit = self.core.config.settings.max_concurrent_requests
        assert len(self.running) <= limit, "DOS-003"
        if job.hungry:
            self.core.awaiting(event.request_id)
        if event.data is not None:
            self._take(job, event.data, event.cost)
        if job.plan == b"once":
            self.say(job, b"one answer")
            self.finish(job)
        elif job.plan == b"refuse":
            self.fail(job, ErrorCode.APPLICATION_ERROR)
        if event.ended:
            self._over(job)

    def _hear(self, job: Job, event: Event) -> None:
        match event:
            case MessageReceived(data=data, cost=cost, ended=ended):
                assert not job.ended
                self._take(job, data, cost)
                if ended:
                    self._over(job)
            case RequestFinished():
                self._over(job)
            case StopReceived(reason=reason):
                assert reason == 7
                assert not job.stopped
                job.stopped = True
            case HandlerCancelled():
                assert not job.cancelled, "a handler is cancelled twice"
                job.cancelled = True
                if job.plan == b"careless":
                    self.finish(job)
                elif not job.stubborn:  # it may have ended while this event was on its way
                    self.fail(job, ErrorCode.CANCELLED)
            case Writable():
                self._writable(job)
            case _:
                raise AssertionError(f"a worker does not get {event}")

    def _take(self, job: Job, data: bytes, cost: int) -> None:
        job.heard.append(data)
        job.debts.append(cost)
        if job.plan == b"echo" and not self.say(job, data):
            job.plan = b"manual"  # it lost count
        if job.hungry:
            self.feed(job, hungry=True)

    def _over(self, job: Job) -> None:
        assert not job.ended
        job.ended = True
        if job.plan == b"echo":
            self.finish(job)

    def _writable(self, job: Job) -> None:
        if job.code is not None:
            return
        assert job.waiting is not None, "Writable for nobody"
        data, job.waiting = job.waiting, None
        self.say(job, data)
        assert job.waiting is None, "Writable, and then no room"
        if job.finishing:
            self.finish(job, job.trailers)


# -- the link --------------------------------------------------------------------------------------


class SimLink:
    """A client and a worker with their applications, joined.

    Args:
        client: Options of the client's core.
        worker: Options of the worker's core.
        up: The network from the client to the worker.
        down: The network from the worker to the client.
        watch: Who looks at the wire.
        server: The application at the worker.
    """

    def __init__(
        self,
        *,
        client: Config | None = None,
        worker: Config | None = None,
        up: Path | None = None,
        down: Path | None = None,
        watch: Watch | None = None,
        server: type[Server] = Server,
    ) -> None:
        self.now = 0.0
        self.watch = watch or Watch()
        self.statistics = Statistics()
        self.up = Pipe(up or Path())
        self.down = Pipe(down or Path())
        self.client = ClientConnection(client or Config(), 0.0, Entropy())
        self.worker = WorkerConnection(
            worker or Config(),
            0.0,
            Entropy(),
            subjects={SUBJECT},
            statistics=self.statistics,
        )
        self.caller = Caller(self.client, self.watch)
        self.server = server(self.worker)
        self.ends = (
            Station(CLIENT, self.client, self.up, self.down, self.watch, self.caller.hear),
            Station(WORKER, self.worker, self.down, self.up, self.watch, self.server.hear),
        )
        self.on_pause: Callable[[float], None] = lambda _: None
        """Called with the time to which the clock is about to move, when all is quiet."""
        self.touch()

    def touch(self) -> None:
        """Let both drivers act on what their applications have done."""
        for station in self.ends:
            station.turn(self.now)
        self._work()

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass."""
        end = self.now + seconds
        for station in self.ends:
            station.corked = False
        self.touch()
        while (due := min(station.due() for station in self.ends)) <= end:
            self._move(max(due, self.now))
            self._work()
        self._move(end)

    def _move(self, to: float) -> None:
        for station in self.ends:
            if not station.free or to < station.frozen_until:
                station.free_since = to
        if to > self.now:
            self.on_pause(to)
        self.now = to

    def _work(self) -> None:
        while [station for station in self.ends if station.work(self.now)]:
            pass

    # -- disturbances

    def stall(self, side: int, seconds: float) -> None:
        """Let nothing of what `side` sends arrive for a while."""
        pipe = self.ends[side].out
        pipe.stalled_until = max(pipe.stalled_until, self.now + seconds)

    def freeze(self, side: int, seconds: float) -> None:
        """Let a process do nothing at all for a while."""
        station = self.ends[side]
        station.frozen = True
        station.frozen_until = max(station.frozen_until, self.now + seconds)

    def cut(self) -> None:
        """Reset the connection in the middle of the network."""
        for pipe in (self.up, self.down):
            pipe.reset(self.now)

    def crash(self, side: int) -> None:
        """Let a process end without a word."""
        self.ends[side].die(self.now)

    def settle(self, step: float, most: float) -> None:
        """Let time pass until nothing is under way, but no longer than `most` seconds."""
        end = self.now + most
        while self.now < end:
            self.run(step)
            if not any(station.busy for station in self.ends):
                return

    # -- what is to hold

    def over(self) -> bool:
        """Whether both sides have closed their sockets."""
        return all(station.gone for station in self.ends)

    def check_signs_of_life(self, to: float) -> None:
        """Check that nobody stays silent until `to` who must not (HBT-001)."""
        for side, station in enumerate(self.ends):
            if station.free and to >= station.frozen_until and not station.core.close_action:
                latest = max(self.watch.next_sign_of_life(side), station.frozen_until)
                assert to <= latest + EPSILON, f"HBT-001: the {NAMES[side]} is silent at {to}"

    def check_promptness(self) -> None:
        """Check what each side owes within a time, as far as nobody holds it up."""
        watch, now = self.watch, self.now
        for side, station in enumerate(self.ends):
            if station.free and now >= station.frozen_until and not station.core.close_action:
                assert not watch.out[side].pings, "HBT-002: a PING is not answered"
        station = self.ends[WORKER]
        if self.worker.close_action or not station.free or now < station.frozen_until:
            return
        for request_id, since in watch.kills_received.items():
            if request_id in watch.opens_received and request_id not in watch.bodies:
                assert now <= max(since, station.free_since) + 1.0 + EPSILON, "CAN-001"
        for request_id, timeout in watch.timeouts.items():
            at = watch.opens_received.get(request_id)
            if at is not None and request_id not in watch.bodies:
                assert now <= max(at + timeout, station.free_since) + EPSILON, "ADM-005"

    def check_deadlines(self, slack: float) -> None:
        """Check that no deadline has passed without an outcome (REC-005)."""
        for ask in self.caller.asks.values():
            if ask.open and ask.timeout:
                late = self.now - (ask.opened_at + ask.timeout + PATIENCE)
                assert late <= slack + EPSILON, "REC-005: no outcome although the deadline is over"

    def check_content(self) -> None:
        """Check that what arrived is what was sent: a prefix, and all of it for a success."""
        for ask in self.caller.asks.values():
            job = self.server.jobs.get(ask.request_id)
            if job is None:
                assert not ask.heard
                assert ask.outcome != "SUCCESS"
            else:
                _check_pair(ask, job)
                late = job.cancelled and ask.request_id in self.watch.kills_received
                assert not late or self.watch.bodies.get(ask.request_id, True), "CAN-001"
        for core, debtors in (
            (self.client, self.caller.asks),
            (self.worker, self.server.jobs),
        ):
            window = core.config.settings.initial_stream_window
            assert all(sum(debtor.debts) <= window for debtor in debtors.values()), "FLW-007"

    def check_rest(self) -> None:
        """Check that nothing is left in either core; every request has had its outcome."""
        client, worker = self.client, self.worker
        assert all(not ask.open for ask in self.caller.asks.values())
        assert client.open_requests == worker.open_requests == 0
        assert client.waiting_requests == 0
        assert client._places.taken == 0
        assert len(client._timers) == len(worker._timers) == 0
        assert not client._unread
        assert not client._credit_due
        assert not worker._credit_due
        assert not worker._orphans
        assert self.statistics.active == 0
        for core in (client, worker):
            assert not core._scheduler._ring
            assert not core._scheduler._starved
            assert core._credit.held == 0
            if not core.close_action:  # else the last words may have found no reader
                assert core._decoder.buffered == 0
                assert core.buffered_bytes == 0

    def check_credit(self) -> None:
        """Check that no credit is lost: everything has arrived and has been consumed (FLW-006)."""
        for source, target in ((self.client, self.worker), (self.worker, self.client)):
            sent: Any = source._scheduler.credit
            assert (sent.limit, sent.sent) == (target._credit.limit, target._credit.received)
            assert target._credit.held == 0
            assert 2 * (sent.limit - sent.sent) >= target.config.settings.connection_window
            window = target.config.settings.initial_stream_window
            for request_id, request in source._requests.items():
                mirror = target._requests.get(request_id)
                if mirror is None or mirror.state not in mirror.granting:
                    continue
                sent = request.queue
                assert (sent.limit, sent.sent) == (mirror.credit.limit, mirror.credit.received)
                assert mirror.credit.held == 0
                assert 2 * (sent.limit - sent.sent) >= window

    def check_stalled(self) -> None:
        """Check that stalled consumers leave the connection open to others (FLW-009)."""
        for source, target in ((self.client, self.worker), (self.worker, self.client)):
            if target._handshake.complete and not target.close_action:
                window = target.config.settings.connection_window
                sent = source._scheduler.credit
                assert 4 * (sent.limit - sent.sent) >= window or source._scheduler._ring

    def check_flow(self) -> None:
        """Check that nobody waits who has credit (FLW-001), and nothing counts as a glitch."""
        for side, station in enumerate(self.ends):
            core: Connection[Any] = station.core
            glitch = core._budgets.glitch
            assert glitch._tokens == glitch._burst, f"the {NAMES[1 - side]} caused a glitch"
            assert all(queue.request_id in core._requests for queue in core._scheduler._starved)
            if core.close_action or not station.free or self.now < station.frozen_until:
                continue
            shared = core._scheduler.credit.limit - core._scheduler.credit.sent
            for request in core._requests.values():
                queue = request.queue
                if not queue.entries or not getattr(request, "placed", True):
                    continue
                block, data, _ = queue.entries[0]
                least = 32 + len(block) + min(1, len(data))
                own = queue.limit - queue.sent
                assert min(shared, own) < least, f"FLW-001: a sender waits with {own}, {shared}"


def _check_pair(ask: Ask, job: Job) -> None:
    assert job.headers == ask.headers
    assert job.heard == ask.said[: len(job.heard)]
    if job.ended:
        assert ask.ended
        assert job.heard == ask.said
    assert ask.heard == job.said[: len(ask.heard)]
    if ask.answer_headers is not None:  # trailers alone make an empty block of headers
        assert ask.answer_headers == (job.answer_headers or [])
    if ask.outcome == "SUCCESS":
        assert job.code == 0
        assert ask.heard == job.said
        assert (ask.answer_headers or []) == (job.answer_headers or [])
        assert ask.trailers == job.trailers
    failure = ask.failure
    if failure is None:
        return
    assert failure.outcome not in (Outcome.NOT_SENT, Outcome.NOT_PROCESSED), "ADM-003"
    if failure.outcome is Outcome.FAILED and failure.detail == b"detail":  # the handler's own
        assert failure.code == job.code
        if not ask.killed:
            assert ask.heard == job.said, "FLW-005"


def changed(path: Path, **changes: Any) -> Path:
    return replace(path, **changes)


def all_of(asks: Iterable[Ask]) -> list[str]:
    return [ask.outcome for ask in asks]
