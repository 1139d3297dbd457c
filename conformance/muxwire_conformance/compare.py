"""Compare two JSON reports: what got worse, what got better, what is new or gone.

Rules of this file:

* A case is bad if its verdict makes a run not conformant. Worse means: bad now and not before.
* A case that is gone is worse only if it had passed: a test that is no longer made shows nothing.
* Runs are compared by target; two reports about one target each are compared whatever its address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from muxwire_conformance.verdict import RED, Verdict

_BAD = {verdict.value for verdict in RED | {Verdict.ERROR}}
_TRIED = {verdict.value for verdict in Verdict} - {Verdict.NOT_APPLICABLE.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One case that differs."""

    id: str
    before: str
    after: str
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Comparison:
    """What differs between two runs against one target.

    Attributes:
        target: The target, as the newer report calls it.
        notes: What makes the two hard to compare: another suite, another specification.
        worse: Newly failing cases, and cases that passed and are not tried any more.
        fixed: Cases that failed and do not fail now.
        new: Cases that only the newer report has.
        gone: Cases that only the older report has.
        other: Other changes of a verdict.
    """

    target: str
    notes: list[str] = field(default_factory=list)
    worse: list[Change] = field(default_factory=list)
    fixed: list[Change] = field(default_factory=list)
    new: list[Change] = field(default_factory=list)
    gone: list[Change] = field(default_factory=list)
    other: list[Change] = field(default_factory=list)


def compare_reports(
    old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]
) -> list[Comparison]:
    """Compare the runs of two reports.

    Raises:
        ValueError: no run of one has its target in the other.
    """
    if len(old) == len(new) == 1:
        return [compare_runs(old[0], new[0])]
    before = {run.get("target"): run for run in old}
    pairs = [(before[run.get("target")], run) for run in new if run.get("target") in before]
    if not pairs:
        raise ValueError("the two reports have no target in common")
    return [compare_runs(one, other) for one, other in pairs]


def compare_runs(old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    """Compare two runs."""
    found = Comparison(target=str(new.get("target", "")), notes=_notes(old, new))
    before = {result["id"]: result for result in old["results"]}
    after = {result["id"]: result for result in new["results"]}
    for id in sorted({*before, *after}):
        one, other = before.get(id), after.get(id)
        was = one["verdict"] if one is not None else ""
        now = other["verdict"] if other is not None else ""
        reason = str(other.get("reason", "")) if other is not None else ""
        if was != now:
            _kind(found, was, now).append(Change(id=id, before=was, after=now, reason=reason))
    return found


def _kind(found: Comparison, was: str, now: str) -> list[Change]:
    if now in _BAD and was not in _BAD:
        return found.worse
    if not was:
        return found.new
    if not now:
        return found.worse if was == Verdict.PASS.value else found.gone
    if was in _BAD and now not in _BAD:
        return found.fixed if now in _TRIED else found.other
    if was == Verdict.PASS.value:
        return found.worse
    return found.other


def _notes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    names = ("suite_version", "spec_version", "spec_checksum", "role")
    notes = [
        f"{name} differs: {old.get(name)}, now {new.get(name)}"
        for name in names
        if old.get(name) != new.get(name)
    ]
    for which, run in (("older", old), ("newer", new)):
        if run.get("complete") is not True:
            notes.append(f"the {which} run is not complete")
    return notes
