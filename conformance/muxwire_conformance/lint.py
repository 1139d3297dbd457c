"""``lint``: hold two foreign peers to the rules, live through a proxy or on what was recorded.

Rules of this file:

* Whatever is found is said at once, the first few times in full; the summary counts it all.
* A fault of this program ends the judging of that connection, never the connection.
* The log has a line for each connection, frame and end; it can be linted again.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO, Any

from muxwire_conformance import wire
from muxwire_conformance.explain import decode as decode_entry
from muxwire_conformance.explain import plain
from muxwire_conformance.recorded import EVENT, Piece, Record
from muxwire_conformance.referee import CLIENT, WORKER, Referee, Seen
from muxwire_conformance.rules import rule
from muxwire_conformance.transcript import NOT_KEPT, Entry
from muxwire_conformance.verdict import ExitCode
from muxwire_conformance.wire import Fault, Frame

SHOWN_IN_FULL = 3
"""Each rule is explained so often for each side; later breaches are only counted."""

MOST_LOGGED = 1_048_576
"""Octets of one frame that the log keeps."""


@dataclass(slots=True)
class Findings:
    """What was seen so far, on all connections."""

    say: Callable[[str], None]
    log: IO[str] | None = None
    verbose: bool = False
    connections: int = 0
    frames: Counter[str] = field(default_factory=Counter)
    breaches: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], str] = field(default_factory=dict)
    bug: str = ""

    def write(self, **members: Any) -> None:
        """Append a line to the log."""
        if self.log is not None:
            self.log.write(json.dumps(members) + "\n")

    def breach(self, where: str, seen: Seen, fault: Fault) -> None:
        """Count a breach, and explain it if it is one of the first."""
        key = (seen.sender, fault.requirement)
        self.breaches[key] += 1
        self.first.setdefault(key, where)
        if self.breaches[key] <= SHOWN_IN_FULL:
            self.say(plain(_explained(where, seen, fault)))

    def summary(self) -> list[str]:
        """Return the counts as lines of text."""
        frames = ", ".join(f"{self.frames[side]} from {side}s" for side in (CLIENT, WORKER))
        lines = [f"{self.connections} connections, frames: {frames}"]
        for (side, requirement), count in sorted(self.breaches.items()):
            level = rule(requirement).level
            first = self.first[side, requirement]
            lines.append(f"{side:<6}  {requirement} {level:<9} {count:>5} times, first: {first}")
        if self.bug:
            lines.append(f"error of this program, not of the peers: {self.bug}")
        lines.append(f"{sum(self.breaches.values())} violations")
        return lines

    def exit_code(self) -> ExitCode:
        """Return the exit code: 0 nothing wrong, 1 violations, 5 nothing was seen."""
        if self.bug:
            return ExitCode.SUITE_ERROR
        if self.breaches:
            return ExitCode.NOT_CONFORMANT
        return ExitCode.CONFORMANT if self.frames.total() else ExitCode.NOTHING_RAN


def _explained(where: str, seen: Seen, fault: Fault) -> list[str]:
    known = rule(fault.requirement)
    lines = [f"{where}: the {seen.sender} breaks {known.id} {known.level}: {fault.text}"]
    lines.append(f"  rule  {known.text}")
    if isinstance(seen.item, Frame):
        entry = _entry(seen.item, seen.sender, fault)
        lines.append(f"  {entry.text}")
        lines += [f"      {line}" for line in decode_entry(entry)]
    return lines


def _entry(frame: Frame, sender: str, fault: Fault) -> Entry:
    return Entry(
        at=frame.at,
        who="judge" if sender == CLIENT else "target",
        text=str(frame),
        raw=frame.raw,
        length=wire.HEADER_SIZE + frame.length,
        marked=True,
        field=fault.field,
        remark=f"{fault.requirement}: {fault.text}",
    )


class Listener:
    """Judge one connection of the proxy.

    Args:
        findings: Where what is found goes.
        number: Number of the connection, from 1.
        name: Address of the client.
    """

    def __init__(self, findings: Findings, number: int, name: str) -> None:
        self._findings = findings
        self._number = number
        self._where = f"connection {number} ({name})"
        self._started = time.monotonic()
        self._referee: Referee | None = Referee()
        findings.connections += 1
        findings.write(kind="connection", connection=number, client=name, at=time.time())

    def octets(self, sender: str, data: bytes, at: float) -> None:
        """Judge octets of one side."""
        if self._referee is None:
            return
        try:
            for seen in self._referee.feed(sender, data, at):
                self._note(seen, at)
        except Exception as error:  # the peers must not suffer from a bug of the referee
            self._referee = None
            self._findings.bug = f"{self._where}: {type(error).__name__}: {error}"

    def ended(self, sender: str, how: str, at: float) -> None:
        """Note the end of a side."""
        left = self._referee.unfinished(sender) if self._referee is not None else 0
        text = f"{sender}: {how}" + (f", {left} octets of an incomplete frame left" if left else "")
        if self._findings.verbose:
            self._findings.say(f"{self._where}: {text}")
        self._findings.write(
            kind="end", connection=self._number, ms=self._ms(at), sender=sender, text=text
        )

    def _ms(self, at: float) -> float:
        return round((at - self._started) * 1_000, 3)

    def _note(self, seen: Seen, at: float) -> None:
        findings = self._findings
        findings.frames[seen.sender] += seen.item is not None
        text = str(seen.item) if seen.item is not None else "octets that are no frame"
        if findings.verbose:
            findings.say(f"{self._where}: {seen.sender:<6} {text}")
        findings.write(
            kind="frame",
            connection=self._number,
            ms=self._ms(at),
            sender=seen.sender,
            text=text,
            hex=seen.octets[:MOST_LOGGED].hex(),
            length=len(seen.octets),
            faults=[
                {"requirement": fault.requirement, "text": fault.text, "field": fault.field}
                for fault in seen.faults
            ],
        )
        for fault in seen.faults:
            findings.breach(self._where, seen, fault)


def lint_records(records: Iterable[Record], findings: Findings) -> None:
    """Judge recorded conversations, each as far as it is whole.

    What the judge sent on purpose is its own matter: from there on its side is not judged.
    """
    for record in records:
        for conversation in record.conversations:
            findings.connections += 1
            where = f"{record.id}, {conversation.label}" if record.judge else record.id
            referee = Referee(tester=bool(record.judge))
            silent = ""
            for piece in conversation.pieces:
                if piece.sender == EVENT:
                    if NOT_KEPT in piece.text:
                        findings.say(f"{where}: the middle was not kept; judged as far as there")
                        break
                    continue
                if piece.marked and piece.sender == record.judge:
                    silent = record.judge
                if piece.sender != silent:
                    _lint_piece(referee, piece, where, findings)


def _lint_piece(referee: Referee, piece: Piece, where: str, findings: Findings) -> None:
    cut = piece.length - len(piece.octets)
    for seen in referee.feed(piece.sender, piece.octets + bytes(cut), piece.ms / 1_000):
        findings.frames[seen.sender] += seen.item is not None
        for fault in seen.faults:
            # The octets behind the cut are not known, so no payload is judged by them.
            if not (cut and fault.requirement.startswith("PAY-")):
                findings.breach(where, seen, fault)
