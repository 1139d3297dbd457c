"""One end of a WMX/1 connection, fed by a script, with everything that is to hold around it.

Rules of this file: after each record the end is driven until nothing moves, as a driver would, and
the invariants are checked.  In the end the connection is lost, the handlers end, and nothing may
be left over.
"""

from __future__ import annotations

from typing import Any

from muxwire.core import ClientConnection, CloseAction, Connection
from muxwire.core.statistics import Statistics
from muxwire_spec import frames as f

from muxwire_fuzz import ends
from muxwire_fuzz.apps import App, ClientApp, WorkerApp
from muxwire_fuzz.harness import broken, equal, require
from muxwire_fuzz.hearing import Direction
from muxwire_fuzz.reading import END
from muxwire_fuzz.roles import CLIENT, WORKER
from muxwire_fuzz.saying import Speech
from muxwire_fuzz.script import Record, Tag, octets_of, read
from muxwire_fuzz.show import wait_of

SPIN = 40
"""Timers at one moment after which an end counts as spinning."""
TURNS = 400
"""Timers in one record after which the rest of its time passes unseen."""
IDLE = ends.SMALL["idle_timeout_ms"] / 1000
HANDSHAKE = 15.0
"""Longest that a set-up can take (HSK-008)."""
EPSILON = 1e-6
_BY_HEADER = frozenset(
    check.breach.requirement
    for check in f.CHECKS[: [check.step for check in f.CHECKS].index("credit")]
    if check.breach is not None
) - {"PAY-001", "PAY-007", "FRM-004", "HSK-005"}
"""Rules that a header alone can break; those that other things can break too are left out."""
LINK = ("the peer closes", "the driver resets", "writes stall", "writes go on")


class Conversation:
    """One run of one input."""

    def __init__(self, options: int) -> None:
        self.now = ends.START
        self.role = CLIENT if options & 1 else WORKER
        self.statistics = Statistics()
        self.core: Connection[Any]
        self.app: App
        if self.role is CLIENT:
            core = ends.client()
            self.core, self.app = core, ClientApp(core)
        else:
            changes = {"slow_consumer": 5.0} if options & 2 else {}
            served = ends.worker(self.statistics, **changes)
            self.core, self.app = served, WorkerApp(served, stubborn=bool(options & 4))
        small = ends.SMALL
        self.peer = Direction(
            self.role.receiver(small["max_frame_size"], small["max_metadata_size"])
        )
        self.speech = Speech(self.role, self.peer)
        self.stalled = False
        self._unreported = 0
        self._fed_at = self.now
        self._lost = False

    def run(self, records: list[Record]) -> None:
        """Do everything that the records say, then end it all."""
        self._pump()
        for record in records:
            self._step(record)
            self._pump()
            self._check()
        self._finish()

    # -- what happens

    def _step(self, record: Record) -> None:
        match record.tag:
            case Tag.OCTETS | Tag.FILLED:
                octets = octets_of(record)
                if not self._lost:
                    for _ in self.peer.feed(octets):
                        pass
                    self._fed_at = self.now
                    self.core.receive_data(octets, self.now)
            case Tag.ACT:
                self.app.act(record.body, self.now)
            case Tag.WAIT:
                self._wait(wait_of(record) / 1000)
            case Tag.LINK:
                self._link(record.body[:1] or b"\0")

    def _link(self, body: bytes) -> None:
        match body[0] % len(LINK):
            case 0:
                self._lost = True
                self.core.receive_eof(self.now)
            case 1:
                self._lost = True
                self.core.abort(self.now)
            case 2:
                self.stalled = True
            case _:
                self.stalled = False
                self.core.data_sent(self._unreported, self.now)
                self._unreported = 0

    def _wait(self, seconds: float) -> None:
        end = self.now + seconds
        same = 0
        for _ in range(TURNS):
            due = self.core.next_timeout()
            if due is None or due > end:
                break
            same = same + 1 if due <= self.now else 0
            require(same < SPIN, "a timer that was handled is not due again", f"at {due}")
            self.now = max(self.now, due)
            self.core.handle_timeout(self.now)
            self._pump()
            self._check_silence()
        self.now = end

    def _pump(self) -> None:
        while True:
            for event in (events := self.core.events()):
                self.app.hear(event)
            moved = False
            while not self.stalled and (data := self.core.data_to_send(self.now)):
                self.speech.feed(data)
                self.core.data_sent(len(data), self.now)
                moved = True
            if not (events or moved):
                return

    # -- what holds

    @property
    def _alive(self) -> bool:
        return self.core.close_action is CloseAction.NONE

    @property
    def _refused(self) -> bool:
        """Whether the peer has sent GOAWAY in place of SETTINGS: the rest is not read (HSK-005)."""
        return bool(self.peer.frames) and self.peer.frames[0].kind == "GOAWAY"

    def _check(self) -> None:
        if not self._refused:
            self._check_refusal()
            self._check_messages()
        held = self.core.buffered_bytes
        most = self.peer.octets + self.app.queued + 4_096 * (1 + len(self.app.talks))
        require(held <= most, "DOS-002: memory follows the octets", f"{held} are held of {most}")
        require(self._alive == (self.app.ended is None), "ConnectionEnded comes with the close")
        if self._alive and not self.stalled:
            pings = sum(told.kind == "PING" for told in self.peer.frames)
            pongs = sum(told.kind == "PONG" for told in self.speech.said.frames)
            if self.peer.error is None and not self.peer.spoilt and not self._refused:
                equal(pongs, pings, "HBT-002: every PING is answered")

    def _check_refusal(self) -> None:
        error, ended = self.peer.error, self.app.ended
        if error is not None and self._alive:
            broken("what the specification refuses ends the connection", str(error))
        if ended is not None and not ended.by_peer and ended.requirement in _BY_HEADER:
            found = error[2] if error else "nothing"
            equal(ended.requirement, found, "an end names the rule that is broken")

    def _check_messages(self) -> None:
        """Compare what the application heard with what the peer's frames mean."""
        whole = self._alive and self.peer.error is None and not self.peer.spoilt
        for id, talk in self.app.talks.items():
            course = self.peer.courses.get(id)
            meant = course.messages if course else []
            equal(
                talk.heard,
                meant[: len(talk.heard)],
                "MSG-002: the messages are those of the frames",
            )
            if whole and talk.open and not (talk.cancelled or talk.killed or talk.timed):
                equal(len(talk.heard), len(meant), "every message that is whole is delivered")
        if self._alive and self.role is CLIENT:
            for id in self.peer.courses:
                require(id in self.speech.said.courses, "RID-004: a RESPONSE to nothing is refused")
        require(not (self._alive and self.peer.repeated), "RID-002: an id is used once")
        if whole and self.role is WORKER and not self.stalled:
            answered = self.speech.terminals()
            for id in self.peer.courses:
                require(
                    id in self.app.talks or id in answered,
                    "an OPEN begins a handler or is answered",
                    id.hex(),
                )

    def _check_silence(self) -> None:
        quiet = self.now - max(self._fed_at, ends.START) > IDLE + EPSILON
        if self._alive and quiet and self.now - ends.START > HANDSHAKE + EPSILON:
            broken("HBT-003: a silent peer is given up", f"nothing came since {self._fed_at}")

    def _finish(self) -> None:
        """Lose the connection, end the handlers, let the last timers run: nothing is left."""
        self.core.receive_eof(self.now)
        self.stalled = False
        self._pump()
        require(self.app.ended is not None, "CLS-010: a lost connection has its last event")
        for talk in self.app.talks.values():
            if isinstance(self.app, WorkerApp):
                self.app.fail(talk, 0x100)
            require(not talk.open, "REC-001: every request has had its last event")
        self._pump()
        self._wait(60.0)
        require(not self._alive, "the driver is told to close")
        equal(self.core.data_to_send(self.now), b"", "nothing is sent after the end")
        equal(self.core.events(), [], "nothing happens after the end")
        require(self.core.next_timeout() is None or self.core.close_action, "no timer is left")
        equal(self.statistics.active, 0, "DOS-003: every place is free again")
        core = self.core
        left = core.open_requests if isinstance(core, ClientConnection) else len(core._live())
        equal(left, 0, "no request is left")
        success = [talk for talk in self.app.talks.values() if talk.outcome == "SUCCESS"]
        for talk in success:
            self._check_success(talk.request_id, talk.heard)

    def _check_success(self, id: bytes, heard: list[bytes]) -> None:
        course = self.peer.courses.get(id)
        terminal = course.terminal if course else None
        if course is None or terminal is None:
            broken("REC-001: a success has its terminal", id.hex())
        require(terminal.flags & END and not terminal.flags & 8, "an error is no success")
        equal(heard, course.messages, "a success is whole")


def run(data: bytes) -> None:
    """Run one input."""
    script = read(data)
    Conversation(script.options).run(script.records)


def words(options: int) -> str:
    """Say what an octet of options means."""
    if options & 1:
        return "a client"
    patience = "a slow consumer has 5 s" if options & 2 else "a slow consumer has 60 s"
    stubborn = "handlers ignore their cancellation" if options & 4 else "handlers obey"
    return f"a worker; {patience}; {stubborn}"


def record_words(options: int) -> Any:
    """Return what says a record in words."""
    app: App = Conversation(options).app

    def say(_number: int, record: Record) -> str:
        if record.tag is Tag.ACT:
            return app.words(record.body)
        return LINK[(record.body[:1] or b"\0")[0] % len(LINK)]

    return say
