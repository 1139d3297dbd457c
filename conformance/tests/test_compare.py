"""Two reports compared: what got worse decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from muxwire_conformance.cli import main
from muxwire_conformance.compare import compare_reports, compare_runs


def run(target: str = "h:1", **verdicts: str) -> dict[str, Any]:
    """Return a run; an underscore stands for a slash in the id."""
    results = [
        {"id": name.replace("_", "/"), "verdict": verdict.replace("_", "/"), "reason": "because"}
        for name, verdict in verdicts.items()
    ]
    head = {"format": 1, "target": target, "suite_version": "1", "spec_checksum": "c"}
    return {**head, "results": results, "complete": True}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ("PASS", "FAIL", "worse"),
        ("PASS", "FLAKY", "worse"),
        ("PASS", "INCONCLUSIVE", "worse"),
        ("PASS", "WARN", "worse"),
        ("PASS", "N/A", "worse"),
        ("PASS", "XFAIL", "worse"),
        ("PASS", "", "worse"),
        ("WARN", "FAIL", "worse"),
        ("XFAIL", "XPASS", "worse"),
        ("", "FAIL", "worse"),
        ("", "PASS", "new"),
        ("FAIL", "PASS", "fixed"),
        ("FAIL", "WARN", "fixed"),
        ("ERROR", "XFAIL", "fixed"),
        ("FAIL", "N/A", "other"),
        ("FAIL", "", "gone"),
        ("N/A", "", "gone"),
        ("FAIL", "INCONCLUSIVE", "other"),
        ("N/A", "PASS", "other"),
        ("PASS", "PASS", ""),
    ],
)
def test_kinds_of_changes(before: str, after: str, kind: str) -> None:
    old = run(**({"A_x": before} if before else {}))
    new = run(**({"A_x": after} if after else {}))
    found = compare_runs(old, new)
    kinds = {name for name in ("worse", "fixed", "new", "gone", "other") if getattr(found, name)}
    assert kinds == ({kind} if kind else set())


def test_what_makes_reports_hard_to_compare_is_said() -> None:
    old = {**run(), "spec_checksum": "d", "complete": False}
    notes = compare_runs(old, run()).notes
    assert notes == ["spec_checksum differs: d, now c", "the older run is not complete"]
    assert compare_runs(run(), run()).notes == []


def test_targets_are_paired() -> None:
    both = [run("a:1", A_x="PASS"), run("b:1", A_x="PASS")]
    (one,) = compare_reports(both, [run("b:1", A_x="FAIL")])
    assert (one.target, len(one.worse)) == ("b:1", 1)
    (moved,) = compare_reports([run("a:1")], [run("z:9")])
    assert moved.target == "z:9"
    with pytest.raises(ValueError, match="no target in common"):
        compare_reports(both, [run("c:1")])


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    old.write_text(json.dumps(run(A_x="PASS", A_y="FAIL")))
    new.write_text(json.dumps({"format": 1, "runs": [run(A_x="FAIL", A_y="PASS", A_z="PASS")]}))
    assert main(["compare", str(old), str(new)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "h:1",
        "worse  A/x  PASS -> FAIL  because",
        "fixed  A/y  FAIL -> PASS",
        "new    A/z  absent -> PASS",
        "worse 1 / fixed 1 / new 1 / gone 0 / other 0",
    ]
    assert main(["compare", "--json", str(old), str(new)]) == 1
    assert json.loads(capsys.readouterr().out)[0]["worse"][0]["id"] == "A/x"
    assert main(["compare", str(old), str(old)]) == 0


@pytest.mark.parametrize("text", ["{", "[]", "{}", None])
def test_what_is_no_report_exits_2(
    tmp_path: Path, text: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    if text is not None:
        path.write_text(text)
    assert main(["compare", str(path), str(path)]) == 2
    assert str(path) in capsys.readouterr().err
