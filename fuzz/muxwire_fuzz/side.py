"""One end of a WMX/1 connection with its application, and the invariants that hold around it.

Rules of this file: it is driven as a real driver would drive a core, and it knows of the peer only
what the octets say that were delivered.  `check` may be called whenever nothing moves any more.
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
from muxwire_fuzz.reading import END, ERROR
from muxwire_fuzz.roles import CLIENT, WORKER, Role
from muxwire_fuzz.saying import Speech

IDLE = ends.SMALL["idle_timeout_ms"] / 1000
HANDSHAKE = 15.0
"""Longest that a set-up can take (HSK-008)."""
EPSILON = 1e-6
STUBBORN, IMPATIENT = 4, 2
"""Bits of the options: handlers ignore their cancellation; a slow consumer has 5 s."""
_BY_HEADER = frozenset(
    check.breach.requirement
    for check in f.CHECKS[: [check.step for check in f.CHECKS].index("credit")]
    if check.breach is not None
) - {"PAY-001", "PAY-007", "FRM-004", "HSK-005"}
"""Rules that a header alone can break; those that other things can break too are left out."""


class Side:
    """An end, its application, what it has been sent, and what it says.

    Args:
        role: Client or worker.
        options: Bits that change how it behaves.
    """

    def __init__(self, role: Role, options: int) -> None:
        self.role = role
        self.statistics = Statistics()
        self.core: Connection[Any]
        self.app: App
        if role is CLIENT:
            core = ends.client()
            self.core, self.app = core, ClientApp(core)
        else:
            changes = {"slow_consumer": 5.0} if options & IMPATIENT else {}
            served = ends.worker(self.statistics, **changes)
            self.core = served
            self.app = WorkerApp(served, stubborn=bool(options & STUBBORN))
        small = ends.SMALL
        self.peer = Direction(role.receiver(small["max_frame_size"], small["max_metadata_size"]))
        self.speech = Speech(role, self.peer)
        self.lost = False
        self.stalled = False
        self._unreported = 0
        self._fed_at = ends.START

    @property
    def alive(self) -> bool:
        """Whether the end goes on."""
        return self.core.close_action is CloseAction.NONE

    # -- what happens

    def receive(self, octets: bytes, now: float) -> None:
        """Deliver octets."""
        if not self.lost:
            for _ in self.peer.feed(octets):
                pass
            self._fed_at = now
            self.core.receive_data(octets, now)

    def lose(self, now: float, *, reset: bool = False) -> None:
        """End the connection: the peer has closed, or the driver resets."""
        self.lost = True
        if reset:
            self.core.abort(now)
        else:
            self.core.receive_eof(now)

    def stall(self, stalled: bool, now: float) -> None:
        """Let the kernel take no octets, or take those that wait."""
        self.stalled = stalled
        if not stalled:
            self.core.data_sent(self._unreported, now)
            self._unreported = 0

    def pump(self, now: float) -> bytes:
        """Deliver events and take output until neither is left; return the output."""
        said = []
        while True:
            events = self.core.events()
            for event in events:
                self.app.hear(event)
            data = b"" if self.stalled and self._unreported else self.core.data_to_send(now)
            if data:
                self.speech.feed(data)
                said.append(data)
                if self.stalled:
                    self._unreported += len(data)
                else:
                    self.core.data_sent(len(data), now)
            if not (events or data):
                return b"".join(said)

    # -- what holds

    @property
    def _refused(self) -> bool:
        """Whether the peer has sent GOAWAY in place of SETTINGS: the rest is not read (HSK-005)."""
        return bool(self.peer.frames) and self.peer.frames[0].kind == "GOAWAY"

    def check(self, now: float) -> None:
        """Check everything that holds when nothing moves."""
        if not self._refused:
            self._check_refusal()
            self._check_messages()
        held = self.core.buffered_bytes
        most = self.peer.octets + self.app.queued + 4_096 * (1 + len(self.app.talks))
        require(held <= most, "DOS-002: memory follows the octets", f"{held} are held of {most}")
        require(self.alive == (self.app.ended is None), "ConnectionEnded comes with the close")
        if self.alive and not (self.stalled or self._refused or self._doubtful):
            pings = sum(told.kind == "PING" for told in self.peer.frames)
            pongs = sum(told.kind == "PONG" for told in self.speech.said.frames)
            equal(pongs, pings, "HBT-002: every PING is answered")
        quiet = now - self._fed_at > IDLE + EPSILON
        if self.alive and quiet and now - ends.START > HANDSHAKE + EPSILON:
            broken("HBT-003: a silent peer is given up", f"nothing came since {self._fed_at}")

    @property
    def _doubtful(self) -> bool:
        """Whether the peer has broken a rule, so that much is allowed."""
        return self.peer.error is not None or self.peer.spoilt

    def _check_refusal(self) -> None:
        error, ended = self.peer.error, self.app.ended
        if error is not None and self.alive:
            broken("what the specification refuses ends the connection", str(error))
        if ended is not None and not ended.by_peer and ended.requirement in _BY_HEADER:
            found = error[2] if error else "nothing"
            equal(ended.requirement, found, "an end names the rule that is broken")

    def _check_messages(self) -> None:
        """Compare what the application heard with what the peer's frames mean."""
        whole = self.alive and not self._doubtful
        for id, talk in self.app.talks.items():
            course = self.peer.courses.get(id)
            meant = course.messages if course else []
            heard = talk.heard
            equal(heard, meant[: len(heard)], "MSG-002: the messages are those of the frames")
            if whole and talk.open and not (talk.cancelled or talk.killed or talk.timed):
                equal(len(heard), len(meant), "every message that is whole is delivered")
        if self.alive and self.role is CLIENT:
            for id in self.peer.courses:
                require(id in self.speech.said.courses, "RID-004: a RESPONSE to nothing is refused")
        require(not (self.alive and self.peer.repeated), "RID-002: an id is used once")
        if whole and self.role is WORKER and not self.stalled:
            answered = self.speech.terminals()
            for id in self.peer.courses:
                done = id in self.app.talks or id in answered
                require(done, "an OPEN begins a handler or is answered", id.hex())

    def check_left(self, now: float) -> None:
        """Check that nothing is left of a connection that was lost and has had its timers."""
        require(self.app.ended is not None, "CLS-010: a lost connection has its last event")
        require(not self.alive, "the driver is told to close")
        equal(self.core.data_to_send(now), b"", "nothing is sent after the end")
        equal(self.core.events(), [], "nothing happens after the end")
        equal(self.statistics.active, 0, "DOS-003: every place is free again")
        core = self.core
        left = core.open_requests if isinstance(core, ClientConnection) else len(core._live())
        equal(left, 0, "no request is left")
        for talk in self.app.talks.values():
            require(not talk.open, "REC-001: every request has had its last event")
            if talk.outcome == "SUCCESS":
                self._check_success(talk.request_id, talk.heard)

    def end_handlers(self) -> None:
        """Let every handler end that still runs."""
        if isinstance(self.app, WorkerApp):
            for talk in self.app.talks.values():
                self.app.fail(talk, 0x100)

    def _check_success(self, id: bytes, heard: list[bytes]) -> None:
        course = self.peer.courses.get(id)
        terminal = course.terminal if course else None
        if course is None or terminal is None:
            broken("REC-001: a success has its terminal", id.hex())
        good = terminal.flags & END and not terminal.flags & ERROR
        require(good, "an error is no success")
        equal(heard, course.messages, "a success is whole")
