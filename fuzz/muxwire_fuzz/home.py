"""The two ends of a call-home connection with their streams, and what is to hold around them.

Rules of this file: a side knows of its peer only the octets that were delivered.  A router that
does not read gets no octets: they wait, as in a kernel.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable

from muxwire._generated.registries import ErrorCode
from muxwire.core import (
    CloseAction,
    ConnectionEnded,
    Event,
    HandlerCancelled,
    MessageReceived,
    ResponseFailed,
    ResponseFinished,
    ResponseHeaders,
    StopReceived,
    Writable,
)
from muxwire.core.callhome import CallHome, RouterStream, WorkerStream
from muxwire.core.events import Idle
from muxwire.core.statistics import Statistics
from muxwire.errors import InvalidArgument, MessageTooLarge, RequestClosed
from muxwire_spec import callhome
from muxwire_spec.vectors.conversation import rid

from muxwire_fuzz import ends
from muxwire_fuzz.apps import BODY, HEADERS, SIZES, Talk
from muxwire_fuzz.harness import broken, equal, require
from muxwire_fuzz.hearing import Direction
from muxwire_fuzz.reading import END, Told
from muxwire_fuzz.roles import WCH_ROUTER, WCH_WORKER, Role

IDS = (ends.ME, rid(1), rid(2), rid(3))
IDLE = ends.IDLE_MS / 1000
EPSILON = 1e-6
_LIMIT = callhome.MAX_FRAME_SIZE, callhome.MAX_METADATA_SIZE
_HELD = 2 << 20
"""Cost that may wait at a router: what stops the reading, and one largest frame (P0-014)."""


class HomeSide:
    """What both sides share.

    Args:
        role: Worker or router.
        core: The end.
    """

    def __init__(self, role: Role, core: CallHome) -> None:
        other = WCH_ROUTER if role is WCH_WORKER else WCH_WORKER
        self.role = role
        self.core = core
        self.peer = Direction(role.receiver(*_LIMIT))
        self.said = Direction(other.receiver(*_LIMIT))
        self.talks: dict[bytes, Talk] = {}
        self.ended: ConnectionEnded | None = None
        self.lost = False
        self.queued = 0
        self.now = ends.START
        self._idles = 0
        self._fed_at = ends.START
        self._waiting = b""

    @property
    def alive(self) -> bool:
        """Whether the end goes on."""
        return self.core.close_action is CloseAction.NONE

    @abstractmethod
    def actions(self) -> list[tuple[str, Callable[[int, int], None]]]:
        """Return what its application can do, each with a number and a size."""

    @abstractmethod
    def dues(self) -> list[float]:
        """Return when its streams want to be called."""

    @abstractmethod
    def expire(self) -> None:
        """Let its streams do what is due."""

    @abstractmethod
    def finish(self) -> None:
        """Let its application end everything, and check that nothing is left."""

    def act(self, body: bytes) -> None:
        """Do what a record says."""
        action, which, size = body[:3].ljust(3, b"\0")
        actions = self.actions()
        actions[action % len(actions)][1](which, size)

    def words(self, body: bytes) -> str:
        """Say what a record asks for."""
        action, which, size = body[:3].ljust(3, b"\0")
        actions = self.actions()
        name = actions[action % len(actions)][0]
        return f"{name}, stream {which % len(IDS)}, {SIZES[size % len(SIZES)]} octets"

    # -- what happens

    def receive(self, octets: bytes) -> None:
        """Deliver octets, or let them wait while the end does not read."""
        self._waiting += octets
        while self._waiting and self.core.reading and not self.lost:
            piece, self._waiting = self._waiting, b""
            for _ in self.peer.feed(piece):
                pass
            self._fed_at = self.now
            self.core.receive_data(piece, self.now)

    def lose(self, *, reset: bool = False) -> None:
        """End the connection."""
        self.lost = True
        if reset:
            self.core.abort(self.now)
        else:
            self.core.receive_eof(self.now)

    def pump(self) -> bytes:
        """Deliver events and take output until neither is left; return the output."""
        out = []
        while True:
            self.receive(b"")
            events = [*self.core.events(), *self._stream_events()]
            for event in events:
                self._hear(event)
            data = self.core.data_to_send(self.now)
            if data:
                self._say(data)
                out.append(data)
                self.core.data_sent(len(data), self.now)
            if not (events or data):
                return b"".join(out)

    def _stream_events(self) -> list[Event]:
        return []

    def _say(self, data: bytes) -> None:
        for frame in self.said.feed(data):
            self._said(frame)
        require(self.said.error is None, "what is sent is a frame of WCH/1", f"{self.said.error}")
        require(not self.said.spoilt, "what is sent has a good payload", data[:100].hex())
        require(not self.said.pending, "whole frames are handed over")

    def _said(self, frame: Told) -> None:
        """Check a frame that this side sends."""
        if frame.kind == "PONG":
            pings = [told.payload for told in self.peer.frames if told.kind == "PING"]
            pongs = sum(told.kind == "PONG" for told in self.said.frames)
            require(pongs <= len(pings), "HBT-002: a PONG answers a PING")
            equal(frame.payload, pings[pongs - 1], "HBT-002: a PONG has the PING's octets")

    def _hear(self, event: Event) -> None:
        require(self.ended is None or not isinstance(event, Idle), "nothing is idle after the end")
        match event:
            case ConnectionEnded():
                require(self.ended is None, "ConnectionEnded comes once")
                self.ended = event
            case Idle(first=first):
                require(first == (self._idles == 0), "the first Idle says so")
                self._idles += 1
            case _:
                self._hear_stream(event)

    @abstractmethod
    def _hear_stream(self, event: Event) -> None:
        """Take an event of a stream."""

    def check(self) -> None:
        """Check everything that holds when nothing moves."""
        error, preface = self.peer.error, self.peer.preface
        if error is not None:
            require(
                not self.alive, "what the specification refuses ends the connection", str(error)
            )
        if preface is not None and not preface.startswith(callhome.MAGIC):
            require(not self.alive, "P0-002: octets that are no preface end the connection")
        require(self.alive == (self.ended is None), "ConnectionEnded comes with the close")
        held = self.core.buffered_bytes
        require(
            held <= self.peer.octets + 1_024 * (1 + len(self.talks)), "DOS-002: memory", f"{held}"
        )
        if self.alive and self.core.reading:
            quiet = self.now - self._fed_at
            require(quiet <= IDLE + EPSILON, "HBT-003: a silent peer is given up", f"{quiet} s")
            if self.peer.preface is not None and error is None and not self.peer.spoilt:
                pings = sum(told.kind == "PING" for told in self.peer.frames)
                pongs = sum(told.kind == "PONG" for told in self.said.frames)
                equal(pongs, pings, "HBT-002: every PING is answered")


class HomeWorker(HomeSide):
    """A worker's end, and handlers whose responses go home on it."""

    def __init__(self) -> None:
        self.end = ends.home_worker()
        super().__init__(WCH_WORKER, self.end)
        self.statistics = Statistics()
        self.streams: dict[bytes, WorkerStream] = {}
        self._busy: bytes | None = None
        """The stream between its HELLO and its DONE or REJECT, as the wire shows it."""

    def actions(self) -> list[tuple[str, Callable[[int, int], None]]]:
        """Return what a worker can do."""
        return [
            ("begins a stream and says HELLO", self._hello),
            ("sends a message", self._send),
            ("sends headers", self._headers),
            ("ends well", self._end_well),
            ("fails", self._fail),
            ("retires the connection", lambda *_: self.end.retire(self.now)),
            ("gives the stream up", lambda *_: self.end.give_up(self.now)),
            ("shuts down", lambda which, _: self._stream(which).shut_down()),
            ("loses the stream", self._drop),
        ]

    def _stream(self, which: int) -> WorkerStream:
        id = IDS[which % len(IDS)]
        if id not in self.streams:
            self.streams[id] = WorkerStream(
                id,
                ends.TOKEN,
                ends.config(send_buffer=100_000),
                self.now,
                timeout_ms=(0, 3_000)[which >> 2 & 1],
                statistics=self.statistics,
            )
            self.talks[id] = Talk(id)
        return self.streams[id]

    def _hello(self, which: int, _size: int) -> None:
        stream = self._stream(which)
        if self.end.idle and stream.queued and self.alive:
            stream.attempt(self.now)
            self.end.hello(stream, self.now)

    def _send(self, which: int, size: int) -> None:
        stream = self._stream(which)
        talk = self.talks[stream.request_id]
        if not talk.open or talk.waiting is not None:
            return
        data = BODY[: SIZES[size % len(SIZES)]]
        try:
            if stream.send_message(data):
                talk.said.append(data)
            else:
                talk.waiting = data
        except MessageTooLarge:
            broken("a message within the limit is taken")

    def _headers(self, which: int, size: int) -> None:
        stream = self._stream(which)
        if self.talks[stream.request_id].open:
            with contextlib.suppress(InvalidArgument, RequestClosed):
                stream.send_headers(HEADERS[size % len(HEADERS)])

    def _end_well(self, which: int, size: int) -> None:
        stream = self._stream(which)
        talk = self.talks[stream.request_id]
        if talk.open:
            talk.outcome = "ended"
            try:
                stream.finish(HEADERS[size % 2])
            except InvalidArgument:
                broken("good trailers are taken")

    def _fail(self, which: int, size: int) -> None:
        stream = self._stream(which)
        talk = self.talks[stream.request_id]
        if talk.open:
            talk.outcome = "ended"
            stream.fail(size, "as told", detail=b"d" * 5_000)

    def _drop(self, which: int, _size: int) -> None:
        stream = self._stream(which)
        if self.end.stream is not stream:
            stream.lost()

    def dues(self) -> list[float]:
        """Return when its streams want to be called."""
        return [stream.next_timeout() for stream in self.streams.values()]

    def expire(self) -> None:
        """Let its streams do what is due."""
        for stream in self.streams.values():
            if self.now >= stream.next_timeout():
                stream.handle_timeout(self.now)

    def _stream_events(self) -> list[Event]:
        return [event for stream in self.streams.values() for event in stream.events()]

    def _hear_stream(self, event: Event) -> None:
        match event:
            case HandlerCancelled(request_id=id):
                require(not self.talks[id].cancelled, "CAN-003: a handler is cancelled once")
                self.talks[id].cancelled = True
                if self.talks[id].open:
                    self.talks[id].outcome = "ended"
                    self.streams[id].fail(ErrorCode.CANCELLED)
            case StopReceived(request_id=id):
                require(not self.talks[id].stopped, "CAN-005: a handler hears STOP once")
                self.talks[id].stopped = True
            case Writable(request_id=id):
                self._writable(self.talks[id])
            case _:
                broken("a worker hears only what concerns workers", repr(event))

    def _writable(self, talk: Talk) -> None:
        if talk.waiting is None or not talk.open:
            return
        data, talk.waiting = talk.waiting, None
        require(self.streams[talk.request_id].send_message(data), "FLW-010: room after Writable")
        talk.said.append(data)

    def _said(self, frame: Told) -> None:
        super()._said(frame)
        answers = [told for told in self.peer.frames if told.kind in ("ACCEPT", "REJECT", "DONE")]
        match frame.kind:
            case "HELLO":
                over = {told.request_id for told in answers if told.kind != "ACCEPT"}
                require(
                    self._busy is None or self._busy in over,
                    "P0-008: one stream at a time", frame.request_id.hex(),
                )  # fmt: skip
                self._busy = frame.request_id
            case "RESPONSE":
                id = frame.request_id
                require(id == self._busy, "P0-003: a RESPONSE is of the stream of the HELLO")
                accepted = [told.request_id for told in answers if told.kind == "ACCEPT"]
                require(id in accepted, "P0-003: no RESPONSE before ACCEPT")
                require(self.said.courses[id].order, "FRM-010: frames are in sequence to the end")
            case "PING" | "PONG":
                pass
            case _:
                broken("a worker sends only what it may", frame.kind)

    def finish(self) -> None:
        """End all handlers: nothing is left, and each accepted stream has had its end."""
        for id, stream in self.streams.items():
            stream.lost()
            self._hear_all()
            if self.talks[id].open:
                broken("P0-006: a handler is told when its stream is lost", id.hex())
            require(stream.over, "P0-007: a stream that is lost and has ended is over")
        equal(self.statistics.active, 0, "DOS-003: every place is free again")

    def _hear_all(self) -> None:
        for event in self._stream_events():
            self._hear_stream(event)


class HomeRouter(HomeSide):
    """A router's end, and callers whose streams may come home on it."""

    def __init__(self) -> None:
        self.streams: dict[bytes, RouterStream] = {}
        self.end = ends.router(self._judge)
        self._answered: set[bytes] = set()
        super().__init__(WCH_ROUTER, self.end)
        for number, id in enumerate(IDS[:3]):
            deadline = self.now + 20.0 if number else None
            self.streams[id] = RouterStream(id, ends.TOKEN, deadline)
            self.talks[id] = Talk(id)

    def _judge(self, request_id: bytes, token: bytes) -> RouterStream | int:
        stream = self.streams.get(request_id)
        if stream is None or token != ends.TOKEN or stream.forgotten:
            return ErrorCode.NOT_FOUND
        return stream.verdict_on_hello or stream

    def actions(self) -> list[tuple[str, Callable[[int, int], None]]]:
        """Return what a router can do."""
        return [
            ("posts", lambda which, _: self._stream(which).posted()),
            ("gets 202", self._admit),
            ("is refused", self._refuse),
            ("gets no clear answer", self._unclear),
            ("says STOP", lambda which, size: self._stream(which).stop(size)),
            ("kills", self._kill),
            ("takes messages", self._take),
            ("is hungry or not", self._appetite),
            ("closes the connection", lambda *_: self.end.close(self.now)),
        ]

    def _stream(self, which: int) -> RouterStream:
        return self.streams[IDS[which % 3]]

    def _admit(self, which: int, _size: int) -> None:
        stream = self._stream(which)
        if self._first_answer(stream):
            stream.admitted(self.now)

    def _refuse(self, which: int, size: int) -> None:
        stream = self._stream(which)
        if self._first_answer(stream):
            stream.refused(size, "as told")

    def _unclear(self, which: int, _size: int) -> None:
        stream = self._stream(which)
        if self._first_answer(stream):
            stream.unclear("as told")

    def _first_answer(self, stream: RouterStream) -> bool:
        """Whether the POST of a stream can be answered now: it is under way."""
        fits = stream.begun and stream.request_id not in self._answered
        self._answered.add(stream.request_id)
        return fits

    def _kill(self, which: int, size: int) -> None:
        stream = self._stream(which)
        if not stream.over:
            self.talks[stream.request_id].killed = True
            stream.kill(size, self.now)

    def _appetite(self, which: int, size: int) -> None:
        talk = self.talks[IDS[which % 3]]
        talk.hungry = not talk.hungry
        self._take(which, size)

    def _take(self, which: int, _size: int) -> None:
        talk = self.talks[IDS[which % 3]]
        while talk.debts:
            self.streams[talk.request_id].consumed(talk.debts.pop(0), self.now)

    def dues(self) -> list[float]:
        """Return when its streams want to be called."""
        return [stream.next_timeout() for stream in self.streams.values()]

    def expire(self) -> None:
        """Let its streams do what is due."""
        for stream in self.streams.values():
            if self.now >= stream.next_timeout():
                stream.handle_timeout(self.now)

    def _stream_events(self) -> list[Event]:
        return [event for stream in self.streams.values() for event in stream.events()]

    def _hear_stream(self, event: Event) -> None:
        match event:
            case ResponseHeaders(request_id=id):
                require(self.talks[id].open, "no event follows the last one of a stream")
            case MessageReceived(request_id=id):
                talk = self.talks[id]
                require(talk.open, "no event follows the last one of a stream")
                talk.heard.append(event.data)
                talk.debts.append(event.cost)
                if event.ended:
                    self._succeed(talk)
                if talk.hungry:
                    self._take(IDS.index(id), 0)
            case ResponseFinished(request_id=id):
                self._succeed(self.talks[id])
            case ResponseFailed(request_id=id):
                talk = self.talks[id]
                require(talk.open, "P0-019: a stream has one last event")
                equal(event.messages, len(talk.heard), "a failure counts the messages before it")
                talk.outcome = event.outcome.name
            case _:
                broken("a router hears only what concerns routers", repr(event))

    def _succeed(self, talk: Talk) -> None:
        require(talk.open, "P0-019: a stream has one last event")
        require(not talk.killed, "STM-002: a killed request never succeeds")
        talk.outcome = "SUCCESS"

    def _said(self, frame: Told) -> None:
        super()._said(frame)
        preface = self.peer.preface or b""
        require(preface.startswith(callhome.MAGIC), "P0-002: the worker speaks first")
        hellos = [told.request_id for told in self.peer.frames if told.kind == "HELLO"]
        answers = [told for told in self.said.frames if told.kind in ("ACCEPT", "REJECT")]
        match frame.kind:
            case "ACCEPT" | "REJECT":
                require(len(answers) <= len(hellos), "P0-018: an answer answers a HELLO")
                equal(frame.request_id, hellos[len(answers) - 1], "P0-018: it has the HELLO's id")
            case "DONE":
                course = self.peer.courses.get(frame.request_id)
                require(course and course.terminal, "P0-008: DONE follows the terminal")
            case "STOP" | "KILL":
                accepted = [told.request_id for told in answers if told.kind == "ACCEPT"]
                require(
                    frame.request_id in accepted, f"P0-011: {frame.kind} is for an accepted stream"
                )
            case "PING" | "PONG":
                pass
            case _:
                broken("a router sends only what it may", frame.kind)

    def check(self) -> None:
        """Check everything that holds when nothing moves."""
        super().check()
        held = sum(stream.held for stream in self.streams.values())
        require(held <= _HELD, "P0-014: who does not read is not fed", f"{held}")
        accepted = [told.request_id for told in self.said.frames if told.kind == "ACCEPT"]
        done = [told.request_id for told in self.said.frames if told.kind == "DONE"]
        for id, course in self.peer.courses.items():
            if self.alive:
                require(id in accepted, "P0-012: a RESPONSE of no stream ends the connection")
                require(course.order, "P0-012: a seq that is not the next ends the connection")
                if course.terminal is not None:
                    require(id in done, "P0-008: DONE follows the terminal at once")
            if id in self.talks:
                heard = self.talks[id].heard
                meant = course.messages[: len(heard)]
                equal(heard, meant, "MSG-002: the messages are those of the frames")

    def finish(self) -> None:
        """Give everything up: each stream has had one outcome, and a success is whole."""
        for number, (id, stream) in enumerate(self.streams.items()):
            talk = self.talks[id]
            self._take(number, 0)
            if not stream.over:
                self._kill(number, 0)
            for event in self._stream_events():
                self._hear_stream(event)
            require(not talk.open, "P0-019: every stream has an outcome", f"stream {number}")
            if talk.outcome == "SUCCESS":
                course = self.peer.courses[id]
                terminal = course.terminal
                require(terminal and terminal.flags & END, "P0-019: a success has its terminal")
                equal(talk.heard, course.messages, "P0-019: a success is whole")
