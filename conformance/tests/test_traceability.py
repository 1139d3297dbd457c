"""Every requirement that a peer can decide has a case, or a reason why it has none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from engine_fakes import make_case
from muxwire_conformance import traceability
from muxwire_conformance.case import Case, load_cases
from muxwire_conformance.context import Context
from muxwire_conformance.traceability import (
    BINDING,
    DISPOSITIONS,
    Disposition,
    Kind,
    Row,
    faults,
    trace,
)
from muxwire_spec.requirements import load


async def nothing(_ctx: Context) -> None:
    pass


MARKER = make_case(nothing, "FRM-002/bad-marker", title="A wrong marker is an error.")
CLIENT = Disposition(Kind.CLIENT, "a client does it")
ONLY = {id: load()[id] for id in ("FRM-002", "REC-003", "FAI-005", "OBS-004")}


def wrong(
    *cases: Case,
    gaps: dict[str, str] | None = None,
    excused: dict[str, Disposition] | None = None,
) -> list[str]:
    """Return the faults of a small specification."""
    given = {"REC-003": CLIENT, **(excused or {})}
    return faults(ONLY, cases, given, gaps or {})


# -- the real thing ----------------------------------------------------------------------------


def test_the_suite_has_no_fault() -> None:
    assert faults() == []


def test_everything_that_binds_a_worker_is_tested_or_explained() -> None:
    open_rows = [
        row.requirement.id
        for row in trace()
        if row.binds
        and row.requirement.observability == "wire"
        and not row.cases
        and row.disposition is None
    ]
    assert open_rows == []


def test_little_that_binds_a_worker_is_without_a_case() -> None:
    excused = {
        id
        for id, disposition in DISPOSITIONS.items()
        if BINDING & set(load()[id].parties) and disposition.kind is not Kind.CALLHOME
    }
    assert excused == {"SEC-001", "SEC-002"}


def test_cases_cite_only_what_can_be_seen() -> None:
    known = load()
    cited = {id for one in load_cases().values() for id in one.requirements}
    assert [id for id in sorted(cited) if known[id].observability == "none"] == []


# -- what counts as a fault --------------------------------------------------------------------


def test_a_small_specification_without_a_fault() -> None:
    assert wrong(MARKER) == []


def test_a_requirement_without_a_case_is_a_fault() -> None:
    assert wrong() == ["FRM-002 MUST has neither a case nor a disposition"]


def test_a_client_requirement_without_a_disposition_is_a_fault() -> None:
    expected = ["REC-003 MUST NOT has neither a case nor a disposition"]
    assert faults(ONLY, [MARKER], {}, {}) == expected


def test_a_case_for_the_other_role_is_no_evidence() -> None:
    assert wrong(replace(MARKER, role="client")) == wrong()


def test_a_stale_disposition_is_a_fault() -> None:
    setup = Disposition(Kind.SETUP, "needs something")
    expected = ["FRM-002 has a disposition, but FRM-002/bad-marker cites it"]
    assert wrong(MARKER, excused={"FRM-002": setup}) == expected


def test_a_disposition_needs_a_reason() -> None:
    empty = Disposition(Kind.OUTSIDE, "")
    assert wrong(excused={"FRM-002": empty}) == ["FRM-002 has a disposition without a reason"]


@pytest.mark.parametrize(
    ("id", "kind"), [("FRM-002", Kind.CLIENT), ("REC-003", Kind.SETUP), ("REC-003", Kind.OUTSIDE)]
)
def test_the_kind_of_a_disposition_must_fit(id: str, kind: Kind) -> None:
    cases = [] if id == "FRM-002" else [MARKER]
    expected = [f"{id} has the wrong disposition: {kind.value}"]
    assert wrong(*cases, excused={id: Disposition(kind, "some reason")}) == expected


def test_a_disposition_for_what_no_peer_sees_is_a_fault() -> None:
    outside = Disposition(Kind.OUTSIDE, "some reason")
    expected = ["FAI-005 has a disposition, but no peer can decide it anyway"]
    assert wrong(MARKER, excused={"FAI-005": outside}) == expected


def test_unknown_ids_are_faults() -> None:
    lost = replace(MARKER, requirements=("FRM-002", "FRM-999"))
    assert wrong(lost, gaps={"FRM-997": "?"}, excused={"FRM-998": CLIENT}) == [
        "FRM-002/bad-marker cites FRM-999, which is unknown",
        "FRM-998 has a disposition but is unknown",
        "FRM-997 has a gap but is unknown",
    ]


def test_a_gap_needs_a_case() -> None:
    assert wrong(MARKER, gaps={"REC-003": "half of it"}) == ["REC-003 has a gap, but no case"]


# -- the tables --------------------------------------------------------------------------------


def rows() -> list[Row]:
    other = make_case(nothing, "HSK-005/marker", title="Another case.")
    cases = [replace(other, requirements=("HSK-005", "FRM-002")), MARKER]
    return trace(ONLY, cases, {"REC-003": CLIENT}, {"FRM-002": "nearly all"})


def test_the_text_has_a_line_per_requirement_and_the_counts() -> None:
    assert traceability.as_text(rows()).splitlines() == [
        "FRM-002  MUST          2  FRM-002/bad-marker and 1 more; open: nearly all",
        "REC-003  MUST NOT      0  binds the client only: a client does it",
        f"FAI-005  SHOULD        0  {load()['FAI-005'].reason}",
        "OBS-004  SHOULD        0  seen only by whoever runs the worker",
        "1 tested, 1 no case, 1 not wire (none), 1 not wire (api)",
    ]


def test_the_json_says_the_same() -> None:
    document = json.loads(traceability.as_json(rows()))
    assert document["role"] == "worker"
    assert document["summary"]["tested"] == 1
    first, second = document["requirements"][:2]
    assert first["cases"] == ["FRM-002/bad-marker", "HSK-005/marker"]
    assert (first["state"], first["gap"]) == ("tested", "nearly all")
    assert (second["disposition"], second["reason"]) == ("client", "a client does it")


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
