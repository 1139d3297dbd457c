"""A client and a worker against each other, with an adversary on the link between them.

Rules of this file: octets travel in pieces whose size the options choose.  The adversary may hold,
cut and stop the link, which two sound ends survive without accusing each other; or it may change,
drop, double or add octets, and then each end is held to the rules that hold against anybody.
"""

from __future__ import annotations

from muxwire_fuzz import ends, show
from muxwire_fuzz.conversation import SPIN, TURNS, behaviour
from muxwire_fuzz.harness import equal, require
from muxwire_fuzz.roles import CLIENT, WORKER
from muxwire_fuzz.script import Record, Tag, octets_of, read
from muxwire_fuzz.side import Side

PIECES = (1 << 20, 9, 61, 1_400)
MOST = 1 << 22
"""Octets that a link carries before it is cut, so that every run ends."""
LINK = (
    "the link holds everything back",
    "the link lets everything through",
    "the link delivers some octets to the worker",
    "the link delivers some octets to the client",
    "the link ends",
    "the client's driver resets",
    "the worker's driver resets",
    "the client's writes stall",
    "the worker's writes stall",
    "writes go on",
    "the link changes an octet for the worker",
    "the link changes an octet for the client",
    "the link drops octets for the worker",
    "the link drops octets for the client",
    "the link doubles octets for the worker",
    "the link doubles octets for the client",
)
_TAMPERING = 10
"""Index of the first thing in `LINK` that changes what is said."""
_INNOCENT = ("", "HBT-003", "HBT-006", "FRM-013", "HSK-008", "HSK-010", "CLS-006")
"""Rules that time alone can break, on a link that changes nothing."""


class Pair:
    """One run of one input."""

    def __init__(self, options: int) -> None:
        self.now = ends.START
        self.client, self.worker = Side(CLIENT, options), Side(WORKER, options)
        self._sides = (self.client, self.worker)
        self._ways = {CLIENT: bytearray(), WORKER: bytearray()}  # what waits, by its receiver
        self._piece = PIECES[options >> 3 & 3]
        self._held = False
        self._ended = False
        self._carried = 0
        self.tampered = False

    def run(self, records: list[Record]) -> None:
        """Do everything that the records say, then end it all."""
        self._settle()
        for record in records:
            self._step(record)
            self._settle()
        self._held = False
        for side in self._sides:
            side.stall(False, self.now)
        self._settle()
        for side in self._sides:
            side.lose(self.now)
            side.pump(self.now)
        self.worker.end_handlers()
        self.worker.pump(self.now)
        self._wait(60.0)
        for side in self._sides:
            side.check_left(self.now)
        if not self.tampered:
            self._compare()

    def _step(self, record: Record) -> None:
        match record.tag:
            case Tag.OCTETS | Tag.FILLED:
                receiver = WORKER if record.tag is Tag.OCTETS else CLIENT
                self._ways[receiver] += octets_of(record)
                self.tampered = self.tampered or bool(record.body)
            case Tag.ACT:
                side = self._sides[(record.body[:1] or b"\0")[0] & 1]
                side.app.act(record.body[1:], self.now)
            case Tag.WAIT:
                self._wait(show.wait_of(record) / 1000)
            case Tag.LINK:
                self._disturb(record.body.ljust(4, b"\0"))

    def _disturb(self, body: bytes) -> None:
        what = body[0] % len(LINK)
        way = self._ways[CLIENT if what & 1 else WORKER]
        match what:
            case 0 | 1:
                self._held = what == 0
            case 2 | 3:
                self._deliver(CLIENT if what & 1 else WORKER, 1 + int.from_bytes(body[1:3]))
            case 4:
                self._ended = True
            case 5 | 6:
                self._sides[what - 5].lose(self.now, reset=True)
            case 7 | 8:
                self._sides[what - 7].stall(True, self.now)
            case 9:
                for side in self._sides:
                    side.stall(False, self.now)
            case _ if way:
                self.tampered = True
                _tamper(way, what, body)

    # -- the link

    def _settle(self) -> None:
        """Let everything move until nothing does, then check."""
        moved = True
        while moved:
            moved = False
            for side, other in (self._sides, self._sides[::-1]):
                said = side.pump(self.now)
                self._carried += len(said)
                self._ways[other.role] += said
                moved = moved or bool(said)
            if self._held:
                continue
            for role in (CLIENT, WORKER):
                while self._ways[role]:
                    self._deliver(role, self._piece)
                    moved = True
            if (self._ended or self._carried > MOST) and not moved:
                moved = self._end()
            moved = self._close() or moved
        for side in self._sides:
            side.check(self.now)
            ended = side.app.ended
            if not self.tampered and ended is not None:
                innocent = ended.requirement in _INNOCENT
                require(innocent, "sound ends accuse nobody", f"{side.role.name}: {ended}")
        self._check_progress()

    def _check_progress(self) -> None:
        """Check that nothing waits while nobody holds anything up."""
        free = not (self.tampered or self._held) and all(
            side.alive and not side.stalled and all(talk.hungry for talk in side.app.talks.values())
            for side in self._sides
        )
        if not free:
            return
        for id, ask in self.client.app.talks.items():
            job = self.worker.app.talks.get(id)
            if job is None or not ask.open or ask.killed or ask.timed or job.cancelled:
                continue
            require(job.open, "a request whose handler has ended is over", id.hex())
            for one, other in ((ask, job), (job, ask)):
                sizes = f"{len(one.said)} said, {len(other.heard)} heard"
                require(len(one.said) == len(other.heard), "FLW-012: who reads gets it all", sizes)
                require(one.waiting is None, "FLW-010: who writes to a reader can go on")

    def _deliver(self, receiver: object, size: int) -> None:
        side = self.client if receiver is CLIENT else self.worker
        way = self._ways[side.role]
        piece, way[:] = bytes(way[:size]), way[size:]
        if piece:
            side.receive(piece, self.now)

    def _end(self) -> bool:
        """End the link for those that have not heard of it."""
        open_ends = [side for side in self._sides if not side.lost]
        for side in open_ends:
            side.lose(self.now)
        return bool(open_ends)

    def _close(self) -> bool:
        """Let an end that is over close its socket, and the other hear of it."""
        for side, other in (self._sides, self._sides[::-1]):
            if not side.alive and not other.lost and not self._ways[other.role]:
                other.lose(self.now)
                return True
        return False

    def _wait(self, seconds: float) -> None:
        end = self.now + seconds
        same = 0
        for _ in range(TURNS):
            dues = [side.core.next_timeout() for side in self._sides]
            due = min((when for when in dues if when is not None), default=end + 1)
            if due > end:
                break
            same = same + 1 if due <= self.now else 0
            require(same < SPIN, "a timer that was handled is not due again", f"at {due}")
            self.now = max(self.now, due)
            for side, when in zip(self._sides, dues, strict=True):
                if when is not None and when <= self.now:
                    side.core.handle_timeout(self.now)
            self._settle()
        self.now = end

    # -- what both know

    def _compare(self) -> None:
        """Hold what one application heard against what the other said."""
        handlers = self.worker.app.talks
        for id, ask in self.client.app.talks.items():
            job = handlers.get(id)
            said = job.said if job else []
            equal(ask.heard, said[: len(ask.heard)], "REC-001: items are an exact prefix")
            if job is not None:
                equal(job.heard, ask.said[: len(job.heard)], "MSG-001: messages arrive as sent")
            if ask.outcome == "SUCCESS":
                require(job, "a success has had a handler")
                equal(ask.heard, said, "REC-001: a success is complete")
            if ask.outcome in ("NOT_SENT", "NOT_PROCESSED"):
                require(job is None, f"REC-002: {ask.outcome} has had no handler", id.hex())


def _tamper(way: bytearray, what: int, body: bytes) -> None:
    at = int.from_bytes(body[1:3]) % len(way)
    size = 1 + body[3]
    if what < _TAMPERING + 2:
        way[at] ^= body[3] or 1
    elif what < _TAMPERING + 4:
        del way[at : at + size]
    else:
        way[at:at] = way[at : at + size]


def run(data: bytes) -> None:
    """Run one input."""
    script = read(data)
    Pair(script.options).run(script.records)


def in_words(data: bytes) -> str:
    """Return an input as text."""
    options = read(data).options
    pair = Pair(options)

    def say(_number: int, record: Record) -> str:
        body = record.body.ljust(5, b"\0")
        if record.tag is Tag.ACT:
            side = pair.worker if body[0] & 1 else pair.client
            return f"the {side.role.name} {side.app.words(body[1:])}"
        return f"{LINK[body[0] % len(LINK)]} ({body[1:4].hex(' ')})"

    pieces = f"pieces of {PIECES[options >> 3 & 3]} octets"
    return show.script(data, WORKER.name, f"{pieces}{behaviour(options)}", words=say)
