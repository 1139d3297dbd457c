"""Which case is evidence for which requirement, and why some requirements have none.

Rules of this file:

* A requirement that a peer can decide (``wire``) has a case, or a disposition with its reason.
* A disposition goes when a case comes. A gap is what the cases of a requirement leave open.
* Only the role of a worker is judged so far.
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

ROLE = "worker"
BINDING = frozenset({"worker", "sender", "receiver", "endpoint"})
"""Parties whose requirements bind a worker."""


class Kind(enum.Enum):
    """Why there is no case."""

    CLIENT = "binds the client only"
    SETUP = "needs another set-up of the target"
    OUTSIDE = "cannot be decided from outside"
    CALLHOME = "path not judged yet: callhome"


@dataclass(frozen=True, slots=True)
class Disposition:
    """Why a requirement has no case for this role."""

    kind: Kind
    reason: str


def _client(reason: str) -> Disposition:
    return Disposition(Kind.CLIENT, reason)


DISPOSITIONS: Mapping[str, Disposition] = {
    "HSK-001": _client("what a client sends first is seen by a listener"),
    "HSK-010": _client("how a client takes a refusing preface is seen by a listener"),
    "RID-001": _client("a client chooses the request ids"),
    "STM-002": _client("the client's view of a request is seen by a tester that plays the worker"),
    "ADM-001": _client("a client holds back what would be surplus"),
    "CLS-008": _client("a client opens nothing more behind the GOAWAY of a tester"),
    "REC-001": _client("a caller of the client learns the class of a lost request"),
    "REC-002": _client("a caller of the client learns the class of a lost request"),
    "REC-003": _client("a client decides what it sends again"),
    "REC-004": _client("the delays between dials are seen by a listener"),
    "REC-005": _client("the delays between attempts are seen by a listener"),
    "REC-006": _client("a client keeps the budget of its retries"),
    "REC-007": _client("a client puts the headers into its attempts"),
    "REC-008": _client("a client chooses the worker of a retry"),
    "REC-010": _client("a client keeps the pool of its connections"),
    "SEC-001": Disposition(Kind.SETUP, "needs a worker with TLS on; this suite speaks plain TCP"),
    "SEC-002": Disposition(Kind.SETUP, "needs a worker that demands client certificates over TLS"),
    "P0-018": _client("the router makes the tokens and answers a HELLO"),
    "P0-019": _client("the router decides how a stream has ended"),
    **{
        f"P0-{number:03}": Disposition(Kind.CALLHOME, "the cases of this path are not there yet")
        for number in (*range(1, 18), 20)
    },
}
"""The requirements that a peer can decide and that have no case, each with the reason."""

GAPS: Mapping[str, str] = {
    "HSK-004": "the half that binds a client",
    "HSK-011": "the bound of pending connections is configured and not told, so 200 are tried",
    "FAI-004": "TCP_NODELAY by itself leaves no trace on loopback; only delays are seen",
    "FLW-005": "MESSAGE_TOO_LARGE of a request whose answer is blocked would need a huge upload",
    "FLW-012": "that only the latest limit of a stream is queued shows in the number of updates",
    "FLW-013": "tried only where slow_consumer_ms is at most 3,000",
    "CAN-004": "the limit of the whole process is tried only where it is at most 1,000 handlers",
    "ADM-004": "the half that binds a client",
    "HBT-006": "that the handlers are cancelled would need 3 s in which nothing else runs",
    "HBT-007": "that a PING was due is not known, so PINGs are counted where none is",
    "DOS-001": "the budgets between what is tolerated and what is too much are free",
    "DOS-004": "where in the worker the work of a handshake is done is not seen",
    "CLS-002": "that input is read for 1 s, and not longer, is shown only roughly",
    "CLS-007": "the half that binds a client",
    "OBS-001": "the span of the worker is not seen",
    "OBS-002": "that a new trace begins is not seen",
    "OBS-006": "secrets of the worker's own are not known to a tester",
}
"""What the cases of a requirement cannot decide, or do not try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One requirement and its evidence."""

    requirement: Requirement
    cases: tuple[str, ...]
    disposition: Disposition | None
    gap: str

    @property
    def binds(self) -> bool:
        """Tell whether the requirement binds a worker."""
        return bool(BINDING & set(self.requirement.parties))

    @property
    def state(self) -> str:
        """Say in one or two words how the requirement stands."""
        if self.cases:
            return "tested"
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
        return self.requirement.reason or "seen only by whoever runs the worker"


def trace(
    requirements: Mapping[str, Requirement] | None = None,
    cases: Iterable[Case] | None = None,
    dispositions: Mapping[str, Disposition] = DISPOSITIONS,
    gaps: Mapping[str, str] = GAPS,
) -> list[Row]:
    """Return a row for each requirement, in the order of the specification."""
    known = load_requirements() if requirements is None else requirements
    judged = load_cases().values() if cases is None else cases
    citing: dict[str, list[str]] = {}
    for one in judged:
        for id in one.requirements if one.role == ROLE else ():
            citing.setdefault(id, []).append(one.id)
    return [
        Row(
            requirement=requirement,
            # Cases that are named after the requirement come first.
            cases=tuple(
                sorted(citing.get(id, ()), key=lambda name, id=id: (not name.startswith(id), name))
            ),
            disposition=dispositions.get(id),
            gap=gaps.get(id, ""),
        )
        for id, requirement in known.items()
    ]


def faults(
    requirements: Mapping[str, Requirement] | None = None,
    cases: Iterable[Case] | None = None,
    dispositions: Mapping[str, Disposition] = DISPOSITIONS,
    gaps: Mapping[str, str] = GAPS,
) -> list[str]:
    """Return what is wrong with the traceability, one line for each fault.

    A requirement that a peer can decide has neither case nor disposition; a disposition or a gap
    is stale, or names nothing; a case cites an id that does not exist.
    """
    known = load_requirements() if requirements is None else requirements
    judged = list(load_cases().values() if cases is None else cases)
    found = []
    for one in judged:
        found += [
            f"{one.id} cites {id}, which is unknown" for id in one.requirements if id not in known
        ]
    found += [f"{id} has a disposition but is unknown" for id in dispositions if id not in known]
    found += [f"{id} has a gap but is unknown" for id in gaps if id not in known]
    for row in trace(known, judged, dispositions, gaps):
        found += _faults_of(row)
    return found


def _faults_of(row: Row) -> list[str]:
    id, disposition = row.requirement.id, row.disposition
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
        if (disposition.kind is Kind.CLIENT) == row.binds:
            found.append(f"{id} has the wrong disposition: {disposition.kind.value}")
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
    """Return the table for people: one line per requirement, and the counts."""
    lines = [
        f"{row.requirement.id}  {row.requirement.level:<10}  {len(row.cases):>3}  {row.describe()}"
        for row in rows
    ]
    lines.append(", ".join(f"{number} {state}" for state, number in counts(rows).items()))
    return "\n".join(lines) + "\n"


def as_json(rows: Sequence[Row]) -> str:
    """Return the table for programs."""
    table: list[dict[str, Any]] = [
        {
            "id": row.requirement.id,
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
    document = {"role": ROLE, "requirements": table, "summary": counts(rows)}
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
