"""One end of a WMX/1 connection, fed by a script.

Rules of this file: after each record the end is driven until nothing moves, and the invariants are
checked.  In the end the connection is lost, the handlers end, and nothing may be left over.
"""

from __future__ import annotations

from muxwire_fuzz import ends, show
from muxwire_fuzz.harness import require
from muxwire_fuzz.roles import CLIENT, WORKER
from muxwire_fuzz.script import Record, Tag, octets_of, read
from muxwire_fuzz.side import IMPATIENT, STUBBORN, Side

SPIN = 40
"""Timers at one moment after which an end counts as spinning."""
TURNS = 400
"""Timers in one record after which the rest of its time passes unseen."""
LINK = ("the peer closes", "the driver resets", "writes stall", "writes go on")


class Conversation:
    """One run of one input."""

    def __init__(self, options: int) -> None:
        self.now = ends.START
        self.side = Side(CLIENT if options & 1 else WORKER, options)

    def run(self, records: list[Record]) -> None:
        """Do everything that the records say, then end it all."""
        self.side.pump(self.now)
        for record in records:
            self._step(record)
            self.side.pump(self.now)
            self.side.check(self.now)
        self.side.stall(False, self.now)
        self.side.lose(self.now)
        self.side.pump(self.now)
        self.side.end_handlers()
        self.side.pump(self.now)
        self._wait(60.0)
        self.side.check_left(self.now)

    def _step(self, record: Record) -> None:
        match record.tag:
            case Tag.OCTETS | Tag.FILLED:
                self.side.receive(octets_of(record), self.now)
            case Tag.ACT:
                self.side.app.act(record.body, self.now)
            case Tag.WAIT:
                self._wait(show.wait_of(record) / 1000)
            case Tag.LINK:
                match (record.body[:1] or b"\0")[0] % len(LINK):
                    case (0 | 1) as how:
                        self.side.lose(self.now, reset=bool(how))
                    case how:
                        self.side.stall(how == 2, self.now)

    def _wait(self, seconds: float) -> None:
        end = self.now + seconds
        same = 0
        for _ in range(TURNS):
            due = self.side.core.next_timeout()
            if due is None or due > end:
                break
            same = same + 1 if due <= self.now else 0
            require(same < SPIN, "a timer that was handled is not due again", f"at {due}")
            self.now = max(self.now, due)
            self.side.core.handle_timeout(self.now)
            self.side.pump(self.now)
        self.now = end


def run(data: bytes) -> None:
    """Run one input."""
    script = read(data)
    Conversation(script.options).run(script.records)


def in_words(data: bytes) -> str:
    """Return an input as text."""
    options = read(data).options
    conversation = Conversation(options)

    def say(_number: int, record: Record) -> str:
        if record.tag is Tag.ACT:
            return conversation.side.app.words(record.body)
        return LINK[(record.body[:1] or b"\0")[0] % len(LINK)]

    name = conversation.side.role.name
    return show.script(data, name, f"a {name}{behaviour(options)}", words=say)


def behaviour(options: int) -> str:
    """Say what the options change, for a worker."""
    patience = "; a slow consumer has 5 s" if options & IMPATIENT else ""
    return patience + ("; handlers ignore their cancellation" if options & STUBBORN else "")
