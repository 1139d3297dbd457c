"""A call-home connection run by a script: one end alone, or both with an adversary between them.

Rules of this file: as in `conversation` and `pair`.
"""

from __future__ import annotations

import re

from muxwire_fuzz import ends, show
from muxwire_fuzz.conversation import SPIN, TURNS
from muxwire_fuzz.harness import equal, require
from muxwire_fuzz.home import HomeRouter, HomeSide, HomeWorker
from muxwire_fuzz.script import Record, Tag, octets_of, read

MODES = ("a worker alone", "a router alone", "a worker and a router")
LINK = (
    "the link ends",
    "the worker's driver resets",
    "the router's driver resets",
    "the link holds everything back",
    "the link lets everything through",
    "the link changes an octet for the worker",
    "the link changes an octet for the router",
)
_ACCUSED = re.compile("P0-012|FRM-0(?!13)|TYP|PAY|DOS|ADM")
"""Rules that a sound peer never breaks."""


class HomeRun:
    """One run of one input."""

    def __init__(self, options: int) -> None:
        self.now = ends.START
        self.worker, self.router = HomeWorker(), HomeRouter()
        self.mode = options % len(MODES)
        self.sides: tuple[HomeSide, ...] = (
            (self.worker,),
            (self.router,),
            (self.worker, self.router),
        )[self.mode]
        self._ways = {side.role: b"" for side in self.sides}
        self._held = False
        self.tampered = False

    def run(self, records: list[Record]) -> None:
        """Do everything that the records say, then end it all."""
        self._settle()
        for record in records:
            self._step(record)
            self._settle()
        self._held = False
        self._settle()
        for side in self.sides:
            side.lose()
            side.pump()
        self._wait(60.0)
        for side in self.sides:
            side.finish()
            require(not side.alive, "the driver is told to close")
            equal(side.core.data_to_send(self.now), b"", "nothing is sent after the end")
        if self.mode == 2 and not self.tampered:
            self._compare()

    def _step(self, record: Record) -> None:
        body = record.body.ljust(4, b"\0")
        side = self.sides[body[0] % len(self.sides)]
        match record.tag:
            case Tag.OCTETS | Tag.FILLED:
                at = 0 if record.tag is Tag.OCTETS else -1
                receiver = self.sides[at]
                self._ways[receiver.role] += octets_of(record)
                self.tampered = True
            case Tag.ACT:
                side.act(record.body[1:])
            case Tag.WAIT:
                self._wait(show.wait_of(record) / 1000)
            case Tag.LINK:
                self._disturb(body)

    def _disturb(self, body: bytes) -> None:
        what = body[0] % len(LINK)
        match what:
            case 0:
                for side in self.sides:
                    side.lose()
            case 1 | 2:
                self.sides[-1 if what == 2 else 0].lose(reset=True)
            case 3 | 4:
                self._held = what == 3
            case _:
                role = self.sides[-1 if what == 6 else 0].role
                way = bytearray(self._ways[role])
                if way:
                    way[int.from_bytes(body[1:3]) % len(way)] ^= body[3] or 1
                    self._ways[role] = bytes(way)
                    self.tampered = True

    def _settle(self) -> None:
        moved = True
        while moved:
            moved = False
            for number, side in enumerate(self.sides):
                side.now = self.now
                said = side.pump()
                moved = moved or bool(said)
                if self.mode == 2:
                    self._ways[self.sides[1 - number].role] += said
            for side in self.sides:
                way = self._ways[side.role]
                if way and not self._held:
                    self._ways[side.role] = b""
                    side.receive(way)
                    moved = True
            if self.mode == 2 and not moved:
                moved = self._close()
        for side in self.sides:
            side.check()
            if self.mode == 2 and not self.tampered and side.ended is not None:
                accused = _ACCUSED.match(side.ended.requirement)
                require(not accused, "sound ends accuse nobody", f"{side.role.name}: {side.ended}")

    def _close(self) -> bool:
        for side, other in (self.sides, self.sides[::-1]):
            if not side.alive and not other.lost and not self._ways[other.role]:
                other.lose()
                return True
        return False

    def _wait(self, seconds: float) -> None:
        end = self.now + seconds
        same = 0
        for _ in range(TURNS):
            dues = [
                due
                for side in self.sides
                for due in (side.core.next_timeout(), *side.dues())
                if due is not None
            ]
            due = min(dues, default=end + 1)
            if due > end:
                break
            same = same + 1 if due <= self.now else 0
            require(same < SPIN, "a timer that was handled is not due again", f"at {due}")
            self.now = max(self.now, due)
            for side in self.sides:
                side.now = self.now
                side.expire()
                when = side.core.next_timeout()
                if when is not None and when <= self.now:
                    side.core.handle_timeout(self.now)
            self._settle()
        self.now = end

    def _compare(self) -> None:
        """Hold what the caller heard against what the handler said."""
        for id, caller in self.router.talks.items():
            handler = self.worker.talks.get(id)
            said = handler.said if handler else []
            equal(caller.heard, said[: len(caller.heard)], "P0-019: items are an exact prefix")
            if caller.outcome == "SUCCESS":
                equal(caller.heard, said, "P0-019: a success is complete")


def run(data: bytes) -> None:
    """Run one input."""
    script = read(data)
    HomeRun(script.options).run(script.records)


def in_words(data: bytes) -> str:
    """Return an input as text."""
    options = read(data).options
    found = HomeRun(options)

    def say(_number: int, record: Record) -> str:
        body = record.body.ljust(4, b"\0")
        if record.tag is Tag.ACT:
            side = found.sides[body[0] % len(found.sides)]
            return f"the {side.role.name} {side.words(record.body[1:])}"
        return f"{LINK[body[0] % len(LINK)]} ({body[1:4].hex(' ')})"

    receiver = found.sides[0].role
    return show.script(data, receiver.name, MODES[found.mode], receiver.protocol, say)
