"""Which case is evidence for which requirement, and why some requirements have none.

Rules of this file:

* A requirement that a peer can decide (``wire``) has a case for each role that it binds, or a
  disposition with its reason.
* A disposition goes when a case comes. A gap is what the cases of a requirement leave open.
* Each role is a question of its own: a rule that binds workers and clients needs both.
"""

from __future__ import annotations

import argparse
import enum
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from muxwire_spec.requirements import Requirement
from muxwire_spec.requirements import load as load_requirements

from muxwire_conformance.case import Case, load_cases

_BOTH = frozenset({"sender", "receiver", "endpoint"})
BINDING: Mapping[str, frozenset[str]] = {
    "worker": _BOTH | {"worker"},
    "client": _BOTH | {"client", "router"},  # the router is the client of call-home
}
"""Parties whose requirements bind each role."""


class Kind(enum.Enum):
    """Why there is no case."""

    OUTSIDE = "cannot be decided from outside"
    HTTP = "path not judged yet: http"


@dataclass(frozen=True, slots=True)
class Disposition:
    """Why a requirement has no case for this role."""

    kind: Kind
    reason: str


_HTTP = Disposition(Kind.HTTP, "the cases of this path are not there yet")

DISPOSITIONS: Mapping[str, Mapping[str, Disposition]] = {
    "worker": {},
    "client": {
        "FRM-009": Disposition(
            Kind.OUTSIDE, "a client chooses the request ids, and a worker only repeats them"
        ),
        "DOS-002": Disposition(
            Kind.OUTSIDE, "the budget for PINGs ends such a connection first; no memory is told"
        ),
        **{f"P1-{number:03}": _HTTP for number in (9, 13, 20, 21, 22)},
    },
}
"""The requirements that a peer can decide and that have no case for a role, with the reason."""

GAPS: Mapping[str, Mapping[str, str]] = {
    "worker": {
        "HSK-011": "the bound of pending connections is configured and not told, so 200 are tried",
        "FAI-004": "TCP_NODELAY by itself leaves no trace on loopback; only delays are seen",
        "FLW-005": "MESSAGE_TOO_LARGE while the answer is blocked would need a huge upload",
        "FLW-012": "that only the latest limit is queued shows in the number of updates",
        "FLW-013": "tried only where slow_consumer_ms is at most 3,000",
        "CAN-004": "the limit of the process is tried only where it is at most 1,000 handlers",
        "HBT-006": "that the handlers are cancelled would need 3 s in which nothing else runs",
        "HBT-007": "that a PING was due is not known, so PINGs are counted where none is",
        "DOS-001": "the budgets between what is tolerated and what is too much are free",
        "DOS-004": "where in the worker the work of a handshake is done is not seen",
        "CLS-002": "that input is read for 1 s, and not longer, is shown only roughly",
        "OBS-001": "the span of the worker is not seen",
        "OBS-002": "that a new trace begins is not seen",
        "OBS-006": "secrets of the worker's own are not known to a tester",
        "P0-001": "that a stream is given up after 10 s without a connection is not waited for",
        "P0-005": "the bound of 10 s: attempts that are lost at once never reach it",
        "P0-013": "that the handler is killed with the abort is not looked at",
        "P0-014": "one frame that takes longer than the idle timeout is not tried on this path",
        "P0-015": "idle time, lifetime, keepalive and the switch are configured and not told",
        "P0-020": "the worker as a whole drains on a signal; only the drain of one connection is"
        " tried",
        "P1-012": "that a worker dies is not seen, only that its body would then have no end",
        "P1-014": "the interval that holds without wmx-heartbeat-ms is too long to wait for",
        "P1-015": "DRAINING needs a worker that was told to stop, and 500 one that fails",
        "P1-017": "that a stalled response is aborted takes 60 s, which are not waited for",
        "P1-023": "the span of the worker is not seen",
    },
    "client": {
        "HSK-008": "a driver has no option for the handshake timeout, so its default is waited for",
        "FRM-010": "the end of the sequence numbers is 128 GiB away",
        "FLW-002": "the connection limit: a client returns that credit while the burst arrives",
        "FLW-010": "what a client buffers is not seen; only that sent does not run ahead",
        "FAI-004": "TCP_NODELAY by itself leaves no trace on loopback; only delays are seen",
        "HBT-007": "that a PING was due is not known, so the total is bounded",
        "DOS-001": "the budgets between what is tolerated and what is too much are free",
        "CLS-002": "that input is read for 1 s, and not longer, is shown only roughly",
        "REC-006": "the budget of 10 s is not tried, only that of 1 s",
        "OBS-006": "secrets of the client's own are not known to a tester",
        "P0-012": "messages above 67,108,864 octets and the budgets of DOS-001 are not tried here",
        "P0-014": "that a router aborts a worker that does not read is not tried",
        "P0-018": "how long a comparison of tokens takes is not measured",
    },
}
"""What the cases of a requirement cannot decide, or do not try, for each role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One requirement, one role, and the evidence."""

    requirement: Requirement
    role: str
    cases: tuple[str, ...]
    disposition: Disposition | None
    gap: str

    @property
    def binds(self) -> bool:
        """Tell whether the requirement binds the role."""
        return bool(BINDING[self.role] & set(self.requirement.parties))

    @property
    def state(self) -> str:
        """Say in one or two words how the requirement stands."""
        if self.cases:
            return "tested"
        if not self.binds:
            return "does not bind"
        if self.requirement.observability != "wire":
            return f"not wire ({self.requirement.observability})"
        return "no case" if self.disposition is not None else "MISSING"

    def describe(self) -> str:
        """Say what the evidence is, or why there is none."""
        if self.cases:
            more = f" and {len(self.cases) - 1} more" if len(self.cases) > 1 else ""
            gap = f"; open: {self.gap}" if self.gap else ""
            return f"{self.cases[0]}{more}{gap}"
        if self.disposition is not None:
            return f"{self.disposition.kind.value}: {self.disposition.reason}"
        if not self.binds:
            return f"does not bind a {self.role}"
        return self.requirement.reason or f"seen only by whoever runs the {self.role}"


def every_case() -> list[Case]:
    """Return the cases for both roles."""
    return [one for role in BINDING for one in load_cases(role).values()]


def trace(
    requirements: Mapping[str, Requirement] | None = None,
    cases: Iterable[Case] | None = None,
    dispositions: Mapping[str, Mapping[str, Disposition]] = DISPOSITIONS,
    gaps: Mapping[str, Mapping[str, str]] = GAPS,
) -> list[Row]:
    """Return a row for each requirement and role, in the order of the specification."""
    known = load_requirements() if requirements is None else requirements
    judged = every_case() if cases is None else cases
    citing: dict[tuple[str, str], list[str]] = {}
    for one in judged:
        for id in one.requirements:
            citing.setdefault((one.role, id), []).append(one.id)
    return [
        Row(
            requirement=requirement,
            role=role,
            # Cases that are named after the requirement come first.
            cases=tuple(
                sorted(
                    citing.get((role, id), ()),
                    key=lambda name, id=id: (not name.startswith(id), name),
                )
            ),
            disposition=dispositions.get(role, {}).get(id),
            gap=gaps.get(role, {}).get(id, ""),
        )
        for id, requirement in known.items()
        for role in BINDING
    ]


def faults(
    requirements: Mapping[str, Requirement] | None = None,
    cases: Iterable[Case] | None = None,
    dispositions: Mapping[str, Mapping[str, Disposition]] = DISPOSITIONS,
    gaps: Mapping[str, Mapping[str, str]] = GAPS,
) -> list[str]:
    """Return what is wrong with the traceability, one line for each fault.

    A requirement that a peer can decide has, for a role that it binds, neither case nor
    disposition; a disposition or a gap is stale, or names nothing; a case cites an id that does
    not exist.
    """
    known = load_requirements() if requirements is None else requirements
    judged = every_case() if cases is None else list(cases)
    found = []
    for one in judged:
        found += [
            f"{one.id} cites {id}, which is unknown" for id in one.requirements if id not in known
        ]
    for word, table in (("disposition", dispositions), ("gap", gaps)):
        found += [
            f"{id} has a {word} ({role}) but is unknown"
            for role, entries in table.items()
            for id in entries
            if id not in known
        ]
    for row in trace(known, judged, dispositions, gaps):
        found += _faults_of(row)
    return found


def _faults_of(row: Row) -> list[str]:
    id, disposition = f"{row.requirement.id} ({row.role})", row.disposition
    found = []
    if row.state == "MISSING":
        found.append(f"{id} {row.requirement.level} has neither a case nor a disposition")
    if disposition is not None:
        if row.cases:
            found.append(f"{id} has a disposition, but {row.cases[0]} cites it")
        if row.requirement.observability != "wire":
            found.append(f"{id} has a disposition, but no peer can decide it anyway")
        if not disposition.reason:
            found.append(f"{id} has a disposition without a reason")
        if not row.binds:
            found.append(f"{id} has a disposition, but does not bind this role")
    if row.gap and not row.cases:
        found.append(f"{id} has a gap, but no case")
    return found


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """Return how many requirements are in each state, in order of appearance."""
    number: dict[str, int] = {}
    for row in rows:
        number[row.state] = number.get(row.state, 0) + 1
    return number


def as_text(rows: Sequence[Row]) -> str:
    """Return the table for people: one line per requirement and role, and the counts."""
    lines = [
        f"{row.requirement.id}  {row.role:<6}  {row.requirement.level:<10}  {len(row.cases):>3}"
        f"  {row.describe()}"
        for row in rows
    ]
    for role in BINDING:
        numbers = counts(row for row in rows if row.role == role)
        said = ", ".join(f"{number} {state}" for state, number in numbers.items())
        lines.append(f"{role}: {said}")
    return "\n".join(lines) + "\n"


def as_json(rows: Sequence[Row]) -> str:
    """Return the table for programs."""
    table: list[dict[str, Any]] = [
        {
            "id": row.requirement.id,
            "role": row.role,
            "level": row.requirement.level,
            "parties": list(row.requirement.parties),
            "observability": row.requirement.observability,
            "state": row.state,
            "cases": list(row.cases),
            "disposition": row.disposition.kind.name.lower() if row.disposition else None,
            "reason": row.disposition.reason if row.disposition else row.requirement.reason or None,
            "gap": row.gap or None,
        }
        for row in rows
    ]
    summary = {role: counts(row for row in rows if row.role == role) for role in BINDING}
    document = {"roles": list(BINDING), "requirements": table, "summary": summary}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and the faults; return 1 if there are any."""
    parser = argparse.ArgumentParser(
        prog="muxwire-conformance trace",
        description="Show which cases are evidence for which requirement of the specification.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(argv)
    rows, wrong = trace(), faults()
    sys.stdout.write(as_json(rows) if chosen.json else as_text(rows))
    sys.stderr.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
