"""Reports for programs and for CI: JSON lines, several targets, JUnit, Markdown, badge, causes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from muxwire_conformance.causes import likely_cause
from muxwire_conformance.report.badge import BadgeReport
from muxwire_conformance.report.collect import Run
from muxwire_conformance.report.head import head
from muxwire_conformance.report.json import JsonReport, runs_of
from muxwire_conformance.report.jsonl import JsonLinesReport
from muxwire_conformance.report.junit import JunitReport
from muxwire_conformance.report.markdown import MOST_RESULTS, MarkdownReport, code, run_lines
from muxwire_conformance.report.outputs import Files, ReportError, Reports
from muxwire_conformance.session import Summary
from muxwire_conformance.verdict import Result, Verdict
from report_samples import ALL, COUNTS, HEAD, NASTY, result

SCHEMA = xmlschema.XMLSchema(Path(__file__).parent / "data" / "junit.xsd")
OTHER = {**HEAD, "target": "[::1]:2"}
UNREACHED = {**HEAD, "target": "gone:3", "trouble": "nothing listens at gone:3"}


def feed(report: Any, *heads: dict[str, Any], results: Sequence[Result] = ALL) -> None:
    """Run a report over the given targets; one with trouble is not reached."""
    for facts in heads:
        report.begin(facts)
        if "trouble" in facts:
            report.finish(None)
            continue
        for one in results:
            report.result(one)
        report.finish(COUNTS)
    report.close()


# -- JSON lines and JSON -----------------------------------------------------------------------


def test_json_lines_are_there_as_soon_as_they_are_known(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    report = JsonLinesReport(path)
    report.begin(HEAD)
    for count, one in enumerate(ALL, 1):
        report.result(one)
        lines = path.read_text().splitlines()
        assert len(lines) == count + 1
        assert json.loads(lines[-1])["id"] == one.id
    report.finish(COUNTS)
    report.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    kinds = [line["kind"] for line in lines]
    assert kinds == ["run", *["result"] * len(ALL), "summary"]
    assert (lines[0]["format"], lines[0]["target"]) == (1, HEAD["target"])
    assert lines[-1]["complete"] is True
    failed = next(line for line in lines if line.get("verdict") == "FAIL")
    assert failed["actual"] == NASTY


def test_fields_are_data_with_the_fault_at_its_field(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    feed(JsonLinesReport(path), HEAD, results=[result(Verdict.FAIL)])
    failed = json.loads(path.read_text().splitlines()[1])
    entry = failed["connections"][0]["entries"][2]
    assert entry["marked"] is True
    first = entry["fields"][0]
    assert (first["at"], first["octets"], first["name"]) == (0, 1, "marker")
    assert first["fault"].startswith("FRM-002 PROTOCOL_ERROR")
    assert sum(field["octets"] for field in entry["fields"]) == len(entry["hex"]) // 2
    assert not any("fault" in field for field in entry["fields"][1:])


def test_several_targets_are_one_document_that_is_always_whole(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    report = JsonReport(path, several=True)
    assert json.loads(path.read_text()) == {"format": 1, "runs": []}
    for count, facts in enumerate((HEAD, OTHER), 1):
        report.begin(facts)
        assert len(json.loads(path.read_text())["runs"]) == count
        for one in ALL:
            report.result(one)
            assert json.loads(path.read_text())["runs"][-1]["results"][-1]["id"] == one.id
        report.finish(COUNTS)
    report.begin(UNREACHED)
    report.finish(None)
    report.close()
    runs = runs_of(json.loads(path.read_text()))
    assert [run["target"] for run in runs] == [HEAD["target"], "[::1]:2", "gone:3"]
    assert [run["complete"] for run in runs] == [True, True, False]
    assert runs[2]["results"] == []
    assert runs[2]["trouble"] == UNREACHED["trouble"]


def test_one_target_is_the_document_itself(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    feed(JsonReport(path), HEAD)
    document = json.loads(path.read_text())
    assert runs_of(document) == [document]


@pytest.mark.parametrize(
    "document", [{}, {"format": 2, "results": []}, {"format": 1}, {"format": 1, "runs": [3]}]
)
def test_foreign_json_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no JSON report of this suite"):
        runs_of(document)


def test_the_head_names_suite_spec_and_environment() -> None:
    facts = head(target="h:1", role="worker", seed=3)
    assert facts["spec_version"] == "1"
    assert len(facts["spec_checksum"]) == 16
    assert facts["environment"]["python"].count(".") == 2
    assert facts["started"].endswith("Z")
    assert {"suite_version", "target", "role", "seed"} <= set(facts)


# -- JUnit -------------------------------------------------------------------------------------


@pytest.mark.parametrize("heads", [[HEAD], [HEAD, OTHER, UNREACHED], [UNREACHED]])
def test_junit_keeps_its_schema(tmp_path: Path, heads: list[dict[str, Any]]) -> None:
    path = tmp_path / "run.xml"
    feed(JunitReport(path), *heads)
    SCHEMA.validate(path)
    reached = sum("trouble" not in facts for facts in heads)
    assert ET.parse(path).getroot().get("tests") == str(reached * len(ALL))


@pytest.mark.parametrize(
    "change",
    [
        lambda root: root.find("testsuite").append(ET.Element("extra")),
        lambda root: root[0].find("testcase").attrib.pop("classname"),
        lambda root: root[0].set("tests", "many"),
        lambda root: root[0][1].append(ET.Element("error", message="m", type="t")),
        lambda root: root[0][1].insert(0, ET.Element("system-out")),
    ],
)
def test_the_schema_refuses_what_it_should(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "run.xml"
    feed(JunitReport(path), HEAD, results=[result(Verdict.FAIL)])
    root = ET.parse(path).getroot()
    assert SCHEMA.is_valid(root)
    change(root)
    assert not SCHEMA.is_valid(root)


# -- Markdown ----------------------------------------------------------------------------------


def test_markdown_tells_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "run.md"
    feed(MarkdownReport(path), HEAD, OTHER, UNREACHED)
    text = path.read_text()
    assert text.count("## WMX/1 conformance of") == 3
    assert "Not judged: `nothing listens at gone:3`" in text
    assert "<summary>FAIL FRM-002/x</summary>" in text
    assert "PASS FRM-001/x" not in text
    assert "| HSK | 1 |" in text
    assert "- expected: `GOAWAY`" in text
    assert "check FRM-002/x --target" in text


def test_markdown_shows_hostile_text_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "run.md"
    hostile = "</details> `x` <script>\n# title | cell"
    feed(MarkdownReport(path), HEAD, results=[result(Verdict.FAIL, actual=hostile)])
    line = next(row for row in path.read_text().splitlines() if row.startswith("- actual"))
    assert line == "- actual: ``</details> `x` <script>\ufffd# title | cell``"


@pytest.mark.parametrize(
    ("text", "span"),
    [("a", "`a`"), ("", "` `"), ("`", "`` ` ``"), ("a``b", "```a``b```"), (" a", "`  a `")],
)
def test_code_spans(text: str, span: str) -> None:
    assert code(text) == span


def test_markdown_has_an_end() -> None:
    many = [result(Verdict.FAIL, f"FRM-002/x{n}") for n in range(MOST_RESULTS + 3)]
    lines = run_lines(Run(head=HEAD, results=many, summary=COUNTS))
    assert "3 more are in the other reports." in lines
    assert sum(line == "<details>" for line in lines) == MOST_RESULTS


def test_the_step_summary_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    files = Files(step_summary=path, markdown=tmp_path / "run.md")
    reports = Reports(MarkdownReport(tmp_path / "text"), files, pytest.fail)
    feed(reports, HEAD)
    assert path.read_text() == "before\n" + (tmp_path / "run.md").read_text()


# -- badge -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verdicts", "interrupted", "message", "colour"),
    [
        ([Verdict.PASS, Verdict.NOT_APPLICABLE], False, "1 passed", "brightgreen"),
        ([Verdict.PASS, Verdict.FAIL, Verdict.FLAKY], False, "1 passed, 2 failed", "red"),
        ([Verdict.PASS, Verdict.INCONCLUSIVE], False, "1 passed, 1 failed", "red"),
        ([Verdict.PASS, Verdict.XFAIL], False, "1 passed, 1 known failures", "yellow"),
        ([Verdict.PASS], True, "1 passed, incomplete", "lightgrey"),
        ([], False, "0 passed, incomplete", "lightgrey"),
    ],
)
def test_the_badge_counts(
    tmp_path: Path, verdicts: list[Verdict], interrupted: bool, message: str, colour: str
) -> None:
    path = tmp_path / "badge.json"
    report = BadgeReport(path)
    report.begin(HEAD)
    for number, verdict in enumerate(verdicts):
        report.result(result(verdict, f"FRM-002/x{number}"))
    report.finish(Summary(selected=9, interrupted=interrupted))
    report.close()
    badge = json.loads(path.read_text())
    assert badge["schemaVersion"] == 1
    assert (badge["message"], badge["color"]) == (message, colour)


# -- all of them together ----------------------------------------------------------------------


def test_a_report_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    said: list[str] = []
    files = Files(jsonl=Path("/dev/full"), json=tmp_path / "run.json")
    reports = Reports(MarkdownReport(tmp_path / "text"), files, said.append)
    feed(reports, HEAD)
    assert len(said) == 1
    assert "cannot be written" in reports.trouble
    assert json.loads((tmp_path / "run.json").read_text())["complete"] is True


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    files = Files(json=tmp_path / "run.json", badge=tmp_path)
    with pytest.raises(ReportError, match="cannot be written"):
        Reports(MarkdownReport(tmp_path / "text"), files, pytest.fail)


# -- likely causes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "actual", "words"),
    [
        ("GOAWAY", "connection reset (RST) after 50 bytes", "CLS-002"),
        ("GOAWAY", "connection closed (FIN) after 50 bytes", "without saying why"),
        ("GOAWAY", "nothing more for 2.0 s", "did not notice"),
        ("GOAWAY PROTOCOL_ERROR", "GOAWAY 40 octets SETTINGS_ERROR", "another"),
        ("ERROR INVALID_ARGUMENT", "PONG", "not checked"),
        ("SETTINGS_ACK", "GOAWAY 40 octets SETTINGS_ERROR", "something legal"),
        ("RESPONSE", "nothing more for 2.0 s", "does not act"),
        ("a target that still serves new connections afterwards", "refused", "crashed"),
        ("", "", ""),
        ("3 messages", "2 messages", ""),
    ],
)
def test_a_likely_cause(expected: str, actual: str, words: str) -> None:
    cause = likely_cause(result(Verdict.FAIL, expected=expected, actual=actual))
    assert words in cause
    assert bool(words) == bool(cause)


def test_what_was_not_tried_has_no_cause() -> None:
    assert likely_cause(result(Verdict.INCONCLUSIVE, expected="GOAWAY", actual="PONG")) == ""
