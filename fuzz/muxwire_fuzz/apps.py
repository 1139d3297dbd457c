"""Applications at the two ends of a WMX/1 connection, which do what an input tells them.

Rules of this file: they use the public interface of a core as a driver does, remember what they
said and heard, and check what only they can know: the order of the events of each request, and that
each has exactly one last event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from muxwire.core import (
    ClientConnection,
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
from muxwire.errors import (
    ConnectionClosed,
    InvalidArgument,
    MessageTooLarge,
    Outcome,
    RequestClosed,
)

from muxwire_fuzz.harness import broken, require

BODY = bytes(range(251)) * 280
SIZES = (0, 1, 31, 1_000, 16_352, 16_384, 65_504, 65_536, 70_000)
HEADERS: tuple[tuple[tuple[bytes, bytes], ...], ...] = (
    (),
    ((b"k", b"v"),),
    ((b"a", b"x" * 8_000), (b"b", b"y" * 8_000)),
    ((b"K", b""),),
)
ECHOES = (b"echo", b"conformance.echo")
ADMITTED = (b"echo", b"a", b"a.b", b"conformance.echo", b"conformance.source")


@dataclass(slots=True)
class Talk:
    """One request, as an application at one end knows it."""

    request_id: bytes
    heard: list[bytes] = field(default_factory=list)
    said: list[bytes] = field(default_factory=list)
    debts: list[int] = field(default_factory=list)
    waiting: bytes | None = None
    hungry: bool = True
    heard_end: bool = False
    said_end: bool = False
    stopped: bool = False
    cancelled: bool = False
    killed: bool = False
    timed: bool = False
    outcome: str = ""
    """At a client: the class. At a worker: "ended" once the handler has ended."""
    code: int | None = None
    subject: bytes = b""
    messages: int = 0

    @property
    def open(self) -> bool:
        """Whether it is not over for this application."""
        return not self.outcome


def _ending(talk: Talk) -> bool:
    """Whether the core may have ended a request already although its last event is to come."""
    return talk.killed or talk.cancelled or talk.timed


class App:
    """What both applications share.

    Attributes:
        talks: The requests by id, in order.
        queued: Octets that were given to the core to be sent.
        ended: The last event, once it has come.
    """

    core: Any

    def __init__(self) -> None:
        self.talks: dict[bytes, Talk] = {}
        self.queued = 0
        self.ended: ConnectionEnded | None = None
        self.ready = False
        self._now = 0.0

    def act(self, body: bytes, now: float) -> None:
        """Do what a record says: an action, which request, and a size."""
        action, which, size, more = body[:4].ljust(4, b"\0")
        actions = self.actions()
        self._now = now
        open_talks = [talk for talk in self.talks.values() if talk.open]
        talk = open_talks[which % len(open_talks)] if open_talks else None
        actions[action % len(actions)][1](talk, size, more)

    def words(self, body: bytes) -> str:
        """Say what a record asks for."""
        action, which, size, more = body[:4].ljust(4, b"\0")
        actions = self.actions()
        name = actions[action % len(actions)][0]
        return (
            f"{name}, request {which} of the open ones, {SIZES[size % len(SIZES)]} octets, {more}"
        )

    def actions(self) -> list[tuple[str, Callable[[Talk | None, int, int], None]]]:
        """Return what it can do."""
        return [
            ("takes a message", self._take),
            ("is hungry or not", self._appetite),
            ("sends a message", self._say),
        ]

    def hear(self, event: Event) -> None:
        """Take an event."""
        require(self.ended is None, "ConnectionEnded is the last event", f"{event} follows")
        match event:
            case HandshakeDone():
                require(not self.ready, "HandshakeDone comes once")
                self.ready = True
            case GoawayReceived() | GoawaySent():
                pass
            case ConnectionEnded():
                self.ended = event
                self._over()
            case _:
                self._hear(event)

    def _talk(self, request_id: bytes) -> Talk:
        if request_id not in self.talks:
            broken("events concern requests that have begun", request_id.hex())
        return self.talks[request_id]

    def _message(self, event: MessageReceived) -> Talk:
        talk = self._talk(event.request_id)
        require(not talk.heard_end, "no message follows the end", talk.request_id.hex())
        talk.heard.append(event.data)
        self._owe(talk, event.cost)
        return talk

    def _owe(self, talk: Talk, cost: int) -> None:
        require(cost >= 0, "a cost is not negative")
        if talk.hungry:
            self.core.consumed(talk.request_id, cost)
            self.core.awaiting(talk.request_id)
        else:
            talk.debts.append(cost)

    def _take(self, talk: Talk | None, _size: int, _more: int) -> None:
        if talk is not None and talk.debts:
            self.core.consumed(talk.request_id, talk.debts.pop(0))

    def _appetite(self, talk: Talk | None, _size: int, _more: int) -> None:
        if talk is None:
            return
        talk.hungry = not talk.hungry
        self.core.awaiting(talk.request_id, talk.hungry)
        while talk.hungry and talk.debts:
            self.core.consumed(talk.request_id, talk.debts.pop(0))

    def _say(self, talk: Talk | None, size: int, _more: int) -> None:
        if talk is not None and talk.waiting is None and not talk.said_end:
            self._send(talk, BODY[: SIZES[size % len(SIZES)]])

    def _send(self, talk: Talk, data: bytes) -> None:
        taken = False
        try:
            taken = self.core.send_message(talk.request_id, data)
        except MessageTooLarge:
            talk.cancelled = True
            return
        except RequestClosed:
            require(_ending(talk), "a request that is open takes messages")
            return
        if taken:
            talk.said.append(data)
            self.queued += len(data)
        else:
            talk.waiting = data

    def _writable(self, event: Writable) -> None:
        talk = self._talk(event.request_id)
        if talk.waiting is None:
            require(talk.outcome or talk.cancelled or talk.killed, "Writable comes who waits")
            return
        data, talk.waiting = talk.waiting, None
        if talk.open:
            self._send(talk, data)
            require(talk.waiting is None, "FLW-010: there is room after Writable")

    def _over(self) -> None:
        """Check that everything that ran has had its last event."""

    def _hear(self, event: Event) -> None:
        """Take an event of a request."""


class WorkerApp(App):
    """Handlers of a worker: `echo` sends each message back, all others do what they are told.

    Args:
        core: The end.
        stubborn: Handlers that are cancelled go on until they are told to end.
    """

    core: WorkerConnection

    def __init__(self, core: WorkerConnection, *, stubborn: bool) -> None:
        super().__init__()
        self.core = core
        self._stubborn = stubborn

    def actions(self) -> list[tuple[str, Callable[[Talk | None, int, int], None]]]:
        """Return what it can do."""
        return [
            *super().actions(),
            ("ends well", lambda talk, _, more: self.finish(talk, more)),
            ("fails", lambda talk, _, more: self.fail(talk, more)),
            ("sends headers", self._headers),
            ("drains", self._drain),
        ]

    def _headers(self, talk: Talk | None, _size: int, more: int) -> None:
        if talk is None or talk.said or talk.waiting is not None:
            return
        try:
            self.core.send_headers(talk.request_id, HEADERS[more % len(HEADERS)])
            self.queued += 32 + sum(len(k) + len(v) + 3 for k, v in HEADERS[more % len(HEADERS)])
        except InvalidArgument:
            require(more % len(HEADERS) >= 2, "good headers are taken")
            talk.cancelled = more % len(HEADERS) == 2  # too large: SET-003 ends the request
        except RequestClosed:
            pass

    def _drain(self, talk: Talk | None, size: int, more: int) -> None:
        after = talk.request_id if talk is not None and more & 1 else None
        self.core.drain(SIZES[size % len(SIZES)], self._now, after=after)

    def finish(self, talk: Talk | None, more: int = 0) -> None:
        """End a handler well."""
        if talk is None or not talk.open:
            return
        talk.outcome = "ended"
        try:
            self.core.finish(talk.request_id, HEADERS[more % len(HEADERS)])
        except InvalidArgument:
            require(more % len(HEADERS) >= 2, "good trailers are taken")
            talk.cancelled = True
        self.queued += 64

    def fail(self, talk: Talk | None, code: int) -> None:
        """End a handler with an error."""
        if talk is not None and talk.open:
            talk.outcome = "ended"
            self.core.fail(talk.request_id, code, "as told", detail=b"d" * 5_000)
            self.queued += 4_096

    def _over(self) -> None:
        for talk in self.talks.values():
            require(
                talk.cancelled or not talk.open,
                "CLS-010: a handler is cancelled when its connection ends",
                talk.request_id.hex(),
            )

    def _hear(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._begin(event)
            case MessageReceived():
                talk = self._message(event)
                talk.heard_end = event.ended
                self._echo(talk)
            case RequestFinished():
                talk = self._talk(event.request_id)
                require(not talk.heard_end, "a request ends once")
                talk.heard_end = True
                self._echo(talk)
            case StopReceived():
                talk = self._talk(event.request_id)
                require(not talk.stopped, "CAN-005: a handler hears STOP once")
                talk.stopped = True
            case HandlerCancelled():
                talk = self._talk(event.request_id)
                require(not talk.cancelled, "CAN-003: a handler is cancelled once")
                talk.cancelled = True
                if not self._stubborn:
                    self.fail(talk, 0x100)
            case Writable():
                self._writable(event)
            case _:
                broken("a worker hears only what concerns workers", repr(event))

    def _begin(self, event: RequestReceived) -> None:
        require(event.request_id not in self.talks, "RID-002: an id is used once")
        require(event.subject in ADMITTED, "only subjects that are served are admitted")
        require(event.ordinal > len(self.talks), "RID-005: ordinals count up")
        talk = Talk(event.request_id, subject=event.subject)
        self.talks[event.request_id] = talk
        if event.data is not None:
            talk.heard.append(event.data)
            self._owe(talk, event.cost)
        else:
            self.core.awaiting(talk.request_id)
        talk.heard_end = event.ended
        self._echo(talk)

    def _echo(self, talk: Talk) -> None:
        if talk.subject not in ECHOES or not talk.open or talk.cancelled:
            return
        while talk.messages < len(talk.heard) and talk.waiting is None and not talk.cancelled:
            self._send(talk, talk.heard[talk.messages])
            talk.messages += 1
        if talk.heard_end and talk.waiting is None:
            self.finish(talk)


class ClientApp(App):
    """The caller at a client."""

    core: ClientConnection

    def __init__(self, core: ClientConnection) -> None:
        super().__init__()
        self.core = core
        self.left = False

    def actions(self) -> list[tuple[str, Callable[[Talk | None, int, int], None]]]:
        """Return what it can do."""
        return [
            *super().actions(),
            ("asks", self._ask),
            ("asks", self._ask),
            ("ends its request", self._end),
            ("says STOP", self._stop),
            ("kills", self._kill),
            ("leaves", self._leave),
        ]

    def _ask(self, _talk: Talk | None, size: int, more: int) -> None:
        subject = ADMITTED[more % len(ADMITTED)]
        data = BODY[: SIZES[size % len(SIZES)]] if more & 32 else None
        timeout = (0, 0, 1, 2_000)[more >> 3 & 3]
        end = bool(more & 64)
        try:
            request_id = self.core.open(
                subject,
                now=self._now,
                headers=HEADERS[more >> 6],
                timeout_ms=timeout,
                idempotent=bool(more & 1),
                data=data,
                end=end,
                awaiting=True,
            )
        except ConnectionClosed:
            require(not self.core.accepting, "an open connection takes requests")
            return
        except (InvalidArgument, MessageTooLarge):
            require(more >> 6 >= 2, "good requests are taken")
            return
        require(request_id not in self.talks, "RID-001: an id is used once")
        talk = Talk(request_id, subject=subject, said_end=end, timed=bool(timeout))
        self.talks[request_id] = talk
        self.queued += 64 + len(data or b"") + sum(len(v) for _, v in HEADERS[more >> 6])
        if data is not None or end:
            talk.said += [data] if data is not None else []

    def _end(self, talk: Talk | None, _size: int, _more: int) -> None:
        if talk is None or talk.said_end or talk.waiting is not None:
            return
        try:
            self.core.end(talk.request_id)
        except RequestClosed:
            require(_ending(talk), "a request that is open can be ended")
        talk.said_end = True

    def _stop(self, talk: Talk | None, _size: int, more: int) -> None:
        if talk is not None:
            self.core.stop(talk.request_id, more)

    def _kill(self, talk: Talk | None, _size: int, more: int) -> None:
        if talk is not None:
            talk.killed = True
            self.core.kill(talk.request_id, more)

    def _leave(self, _talk: Talk | None, _size: int, more: int) -> None:
        self.left = True
        if more & 1:
            self.core.close(self._now)
        else:
            self.core.goaway()

    def _over(self) -> None:
        for talk in self.talks.values():
            require(
                not talk.open, "REC-001: a request has its last event before the connection's",
                talk.request_id.hex(),
            )  # fmt: skip

    def _hear(self, event: Event) -> None:
        match event:
            case ResponseHeaders():
                talk = self._talk(event.request_id)
                require(talk.open and not talk.heard, "headers come before the first message")
            case MessageReceived():
                talk = self._talk(event.request_id)
                require(talk.open, "no event follows the last one of a request")
                self._message(event)
                if event.ended:
                    self._succeed(talk)
            case ResponseFinished():
                talk = self._talk(event.request_id)
                require(talk.open, "REC-001: a request has one last event")
                self._succeed(talk)
            case ResponseFailed():
                talk = self._talk(event.request_id)
                require(talk.open, "REC-001: a request has one last event")
                require(
                    event.messages == len(talk.heard), "a failure counts the messages before it"
                )
                talk.outcome = Outcome(event.outcome).name
                talk.code = event.code
            case Writable():
                self._writable(event)
            case _:
                broken("a client hears only what concerns clients", repr(event))

    def _succeed(self, talk: Talk) -> None:
        require(not talk.killed, "STM-002: a killed request never succeeds")
        talk.outcome = "SUCCESS"
        talk.heard_end = True
