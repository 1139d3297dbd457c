"""Every requirement that a peer can decide has a case, or a reason why it has none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from engine_fakes import make_case
from muxwire_conformance import traceability
from muxwire_conformance.case import Case
from muxwire_conformance.context import Context
from muxwire_conformance.traceability import (
    DISPOSITIONS,
    Disposition,
    Kind,
    Row,
    every_case,
    faults,
    trace,
)
from muxwire_spec.requirements import load


async def nothing(_ctx: Context) -> None:
    pass


MARKER = make_case(nothing, "FRM-002/bad-marker", title="A wrong marker is an error.")
CLIENT_MARKER = replace(MARKER, id="FRM-002/client-bad-marker", role="client")
ONLY = {id: load()[id] for id in ("FRM-002", "REC-003", "FAI-005", "OBS-004")}
LATER = {"client": {"REC-003": Disposition(Kind.OUTSIDE, "a client does it")}}
Excuses = dict[str, dict[str, Disposition]]


def wrong(
    *cases: Case, gaps: dict[str, dict[str, str]] | None = None, excused: Excuses | None = None
) -> list[str]:
    """Return the faults of a small specification."""
    return faults(ONLY, cases, LATER if excused is None else excused, gaps or {})


# -- the real thing ----------------------------------------------------------------------------


def test_the_suite_has_no_fault() -> None:
    assert faults() == []


@pytest.mark.parametrize("role", ["worker", "client"])
def test_everything_that_binds_a_role_is_tested_or_explained(role: str) -> None:
    open_rows = [
        row.requirement.id
        for row in trace()
        if row.role == role
        and row.binds
        and row.requirement.observability == "wire"
        and not row.cases
        and row.disposition is None
    ]
    assert open_rows == []


def test_little_is_without_a_case() -> None:
    excused = {
        role: {id for id, one in table.items() if one.kind is not Kind.HTTP}
        for role, table in DISPOSITIONS.items()
    }
    assert excused == {
        "worker": set(),
        "client": {"FRM-009", "DOS-002"},
    }


@pytest.mark.parametrize("role", ["worker", "client"])
def test_without_the_cases_of_a_must_the_suite_has_a_fault(role: str) -> None:
    for row in trace():
        must = row.requirement.level in ("MUST", "MUST NOT") and row.binds and row.role == role
        if not must or not row.cases:
            continue
        left = [one for one in every_case() if one.id not in row.cases]
        words = f"{row.requirement.id} ({role}) {row.requirement.level} has neither a case"
        assert any(line.startswith(words) for line in faults(cases=left)), row.requirement.id


def test_cases_cite_only_what_can_be_seen() -> None:
    known = load()
    cited = {id for one in every_case() for id in one.requirements}
    assert [id for id in sorted(cited) if known[id].observability == "none"] == []


# -- what counts as a fault --------------------------------------------------------------------


def test_a_small_specification_without_a_fault() -> None:
    assert wrong(MARKER, CLIENT_MARKER) == []


def test_a_requirement_without_a_case_is_a_fault_of_each_role() -> None:
    text = "MUST has neither a case nor a disposition"
    assert wrong() == [f"FRM-002 (worker) {text}", f"FRM-002 (client) {text}"]


@pytest.mark.parametrize("given", [MARKER, CLIENT_MARKER])
def test_a_case_for_the_other_role_is_no_evidence(given: Case) -> None:
    other = "client" if given.role == "worker" else "worker"
    assert wrong(given) == [f"FRM-002 ({other}) MUST has neither a case nor a disposition"]


def test_a_client_requirement_needs_a_client_case() -> None:
    expected = ["REC-003 (client) MUST NOT has neither a case nor a disposition"]
    assert wrong(MARKER, CLIENT_MARKER, excused={}) == expected


def test_a_stale_disposition_is_a_fault() -> None:
    setup = {"worker": {"FRM-002": Disposition(Kind.OUTSIDE, "needs something")}, **LATER}
    expected = ["FRM-002 (worker) has a disposition, but FRM-002/bad-marker cites it"]
    assert wrong(MARKER, CLIENT_MARKER, excused=setup) == expected


def test_a_disposition_needs_a_reason() -> None:
    empty = {"worker": {"FRM-002": Disposition(Kind.OUTSIDE, "")}, **LATER}
    expected = ["FRM-002 (worker) has a disposition without a reason"]
    assert wrong(CLIENT_MARKER, excused=empty) == expected


def test_a_disposition_for_a_role_that_is_not_bound_is_a_fault() -> None:
    outside = Disposition(Kind.OUTSIDE, "some reason")
    expected = ["REC-003 (worker) has a disposition, but does not bind this role"]
    excused = {"worker": {"REC-003": outside}, **LATER}
    assert wrong(MARKER, CLIENT_MARKER, excused=excused) == expected


def test_a_disposition_for_what_no_peer_sees_is_a_fault() -> None:
    outside = {"worker": {"FAI-005": Disposition(Kind.OUTSIDE, "some reason")}, **LATER}
    expected = ["FAI-005 (worker) has a disposition, but no peer can decide it anyway"]
    assert wrong(MARKER, CLIENT_MARKER, excused=outside) == expected


def test_unknown_ids_are_faults() -> None:
    lost = replace(MARKER, requirements=("FRM-002", "FRM-999"))
    excused: Excuses = {
        "worker": {"FRM-998": Disposition(Kind.OUTSIDE, "?")},
        **LATER,
    }
    assert wrong(lost, CLIENT_MARKER, gaps={"client": {"FRM-997": "?"}}, excused=excused) == [
        "FRM-002/bad-marker cites FRM-999, which is unknown",
        "FRM-998 has a disposition (worker) but is unknown",
        "FRM-997 has a gap (client) but is unknown",
    ]


def test_a_gap_needs_a_case() -> None:
    gaps = {"client": {"REC-003": "half of it"}}
    expected = ["REC-003 (client) has a gap, but no case"]
    assert wrong(MARKER, CLIENT_MARKER, gaps=gaps) == expected


# -- the tables --------------------------------------------------------------------------------


def rows() -> list[Row]:
    other = make_case(nothing, "HSK-005/marker", title="Another case.")
    cases = [replace(other, requirements=("HSK-005", "FRM-002")), MARKER, CLIENT_MARKER]
    return trace(ONLY, cases, LATER, {"worker": {"FRM-002": "nearly all"}})


def test_the_text_has_a_line_per_requirement_and_role_and_the_counts() -> None:
    reason = load()["FAI-005"].reason
    assert traceability.as_text(rows()).splitlines() == [
        "FRM-002  worker  MUST          2  FRM-002/bad-marker and 1 more; open: nearly all",
        "FRM-002  client  MUST          1  FRM-002/client-bad-marker",
        "REC-003  worker  MUST NOT      0  does not bind a worker",
        "REC-003  client  MUST NOT      0  cannot be decided from outside: a client does it",
        f"FAI-005  worker  SHOULD        0  {reason}",
        f"FAI-005  client  SHOULD        0  {reason}",
        "OBS-004  worker  SHOULD        0  seen only by whoever runs the worker",
        "OBS-004  client  SHOULD        0  seen only by whoever runs the client",
        "worker: 1 tested, 1 does not bind, 1 not wire (none), 1 not wire (api)",
        "client: 1 tested, 1 no case, 1 not wire (none), 1 not wire (api)",
    ]


def test_the_json_says_the_same() -> None:
    document = json.loads(traceability.as_json(rows()))
    assert document["roles"] == ["worker", "client"]
    assert document["summary"]["worker"]["tested"] == 1
    first, second, _third, fourth = document["requirements"][:4]
    assert first["cases"] == ["FRM-002/bad-marker", "HSK-005/marker"]
    assert (first["role"], first["state"], first["gap"]) == ("worker", "tested", "nearly all")
    assert (second["role"], second["cases"]) == ("client", ["FRM-002/client-bad-marker"])
    assert (fourth["disposition"], fourth["reason"]) == ("outside", "a client does it")


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_the_command_prints_the_table(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert traceability.main(arguments) == 0
    printed = capsys.readouterr()
    assert "FRM-002/" in printed.out
    assert printed.err == ""


def test_the_command_fails_with_faults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traceability, "faults", lambda: ["FRM-002 is lost"])
    assert traceability.main([]) == 1
    assert capsys.readouterr().err == "FRM-002 is lost\n"
