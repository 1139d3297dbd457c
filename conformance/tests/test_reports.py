"""Reports: valid at every moment, readable by programs, and a failure explained to people."""

from __future__ import annotations

import io
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from muxwire_conformance import wire
from muxwire_conformance.explain import MOST_ENTRIES, decode, dialogue_lines, explain, invocation
from muxwire_conformance.report.json import JsonReport
from muxwire_conformance.report.junit import JunitReport, clean
from muxwire_conformance.report.text import TextReport, wants_colour
from muxwire_conformance.session import Summary
from muxwire_conformance.transcript import (
    KEEP_FIRST,
    KEEP_LAST,
    KEEP_TOTAL,
    Entry,
    Transcript,
)
from muxwire_conformance.verdict import Verdict
from report_samples import ALL, COUNTS, HEAD, NASTY, result


def test_json_is_a_whole_document_after_every_result(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    report = JsonReport(path)
    report.begin(HEAD)
    assert json.loads(path.read_text())["results"] == []
    for count, one in enumerate(ALL, 1):
        report.result(one)
        document = json.loads(path.read_text())
        assert len(document["results"]) == count
        assert document["complete"] is False
        assert document["summary"] is None
    report.finish(COUNTS)
    report.close()
    document = json.loads(path.read_text())
    assert document["complete"] is True
    assert document["summary"]["passed"] == 2
    assert document["target"] == "127.0.0.1:1"
    failed = next(entry for entry in document["results"] if entry["verdict"] == "FAIL")
    assert failed["actual"] == NASTY
    assert "--target 127.0.0.1:1 --seed 7" in failed["rerun"]
    assert failed["replay"].endswith(f"replay REPORT.json --case {failed['id']}")
    entries = failed["connections"][0]["entries"]
    assert [entry["marked"] for entry in entries].count(True) == 1
    assert bytes.fromhex(entries[2]["hex"]) == wire.ping(marker=0xF6)


def test_json_of_an_interrupted_run_says_so(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    report = JsonReport(path)
    report.begin(HEAD)
    report.finish(Summary(selected=3, interrupted=True))
    report.close()
    document = json.loads(path.read_text())
    assert document["complete"] is False
    assert document["summary"]["interrupted"] is True


def test_junit_is_xml_that_counts_right(tmp_path: Path) -> None:
    path = tmp_path / "run.xml"
    report = JunitReport(path)
    report.begin(HEAD)
    for one in ALL:
        report.result(one)
    report.finish(COUNTS)
    report.close()
    text = path.read_text(encoding="utf-8")
    assert not any(ord(letter) < 32 and letter not in "\t\n\r" for letter in text)
    root = ET.fromstring(text)
    assert {suite.get("name"): suite.get("tests") for suite in root} == {"FRM": "9", "HSK": "1"}
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("3", "2", "2")
    cases = {case.get("name"): case for case in root.iter("testcase")}
    kinds = {
        name: {child.tag for child in case} - {"properties", "system-out"}
        for name, case in cases.items()
    }
    by_verdict = {one.verdict: kinds[one.id] for one in ALL[:-1]}
    assert by_verdict == {
        Verdict.PASS: set(),
        Verdict.FAIL: {"failure"},
        Verdict.FLAKY: {"failure"},
        Verdict.XFAIL: {"skipped"},
        Verdict.XPASS: {"failure"},
        Verdict.WARN: set(),
        Verdict.NOT_APPLICABLE: {"skipped"},
        Verdict.INCONCLUSIVE: {"error"},
        Verdict.ERROR: {"error"},
    }
    failed = cases["FRM-002/x"]
    assert "marker" in (failed.findtext("system-out") or "")
    assert failed.get("classname") == "muxwire_conformance.worker.tcp"


def test_clean_leaves_text_alone() -> None:
    text = "tab\t line\n caf\u00e9 \u4e2d \U0001f600"
    assert clean(text) == text
    assert clean("\x00\ud800\uffff") == "\ufffd" * 3


def test_an_explanation_has_everything() -> None:
    one = result(Verdict.FAIL)
    lines = explain(one, target="127.0.0.1:1", seed=7)
    text = "\n".join(lines)
    assert lines[0] == "FAIL FRM-002/bad-marker"
    assert "rule      FRM-002 MUST, 02-framing.md:" in text
    assert "expected  GOAWAY" in text
    assert "actual    control" in text
    assert "FRM-007" in text
    marked = [line for line in lines if ">>>" in line]
    assert len(marked) == 1
    assert "judge" in marked[0]
    assert any("^^ FRM-002 PROTOCOL_ERROR" in line for line in lines)
    assert lines[-1].endswith(" check FRM-002/bad-marker --target 127.0.0.1:1 --seed 7 -v")
    assert lines[-3].endswith(" replay REPORT.json --case FRM-002/bad-marker")
    assert max(len(line) for line in lines) < 140


def test_a_field_that_only_the_case_knows_to_be_wrong_is_marked() -> None:
    raw = wire.goaway("NO_ERROR", last_ordinal=5)
    entry = Entry(at=0, who="target", text="", raw=raw, length=len(raw))
    assert not [line for line in decode(entry) if "^^" in line]
    entry.field, entry.remark = "last_ordinal", "expected 4"
    lines = decode(entry)
    assert lines[[" last_ordinal " in line for line in lines].index(True) + 1].strip() == (
        "^^ expected 4"
    )
    entry.raw, entry.field = wire.goaway("NO_ERROR", last_ordinal=5, flags=1), "flags"
    marks = [line for line in decode(entry) if "^^" in line]
    assert len(marks) == 1
    assert "FRM-006" in marks[0]


@pytest.mark.parametrize("found", ["", "elsewhere", "here"])
@pytest.mark.parametrize("tox", [False, True])
def test_the_program_is_named_as_the_shell_finds_it(
    found: str, tox: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(sys.executable).parent if found == "here" else Path("/opt/other")
    script = str(folder / "muxwire-conformance") if found else None
    monkeypatch.setattr("shutil.which", lambda _name: script)
    monkeypatch.delenv("TOX_ENV_DIR", raising=False)
    if tox:
        monkeypatch.setenv("TOX_ENV_DIR", "/somewhere")
    full = (sys.executable, "-m", "muxwire_conformance")
    expected = ("muxwire-conformance",) if found == "here" and not tox else full
    assert invocation.__wrapped__() == expected


@pytest.mark.parametrize("raw", [b"", b"\xf7WM", b"\xf7" * 40, wire.ping()[:31], bytes(100)])
def test_any_octets_can_be_decoded(raw: bytes) -> None:
    entry = Entry(at=0, who="judge", text="", raw=raw, length=len(raw))
    assert bool(decode(entry)) == bool(raw)
    entry = Entry(at=0, who="target", text="", raw=raw, length=10_000_000)
    assert not any("^^" in line for line in decode(entry))


def test_long_transcripts_keep_both_ends() -> None:
    made = Transcript(label="x", started=0.0)
    for number in range(3_000):
        made.event(f"event {number}", float(number))
    entries = made.entries()
    assert len(entries) == KEEP_FIRST + 1 + KEEP_LAST
    assert (entries[0].text, entries[-1].text) == ("event 0", "event 2999")
    assert "880 entries not kept" in entries[KEEP_FIRST].text
    short, whole = dialogue_lines(made, verbose=False), dialogue_lines(made)
    assert len(short) == 1 + MOST_ENTRIES + 1
    assert "(-v shows every entry)" in short[1 + MOST_ENTRIES // 2]
    assert len(whole) == 1 + len(entries)


def test_long_transcripts_are_bounded_in_octets() -> None:
    made = Transcript(label="x", started=0.0)
    for number in range(1_500):
        made.rubbish(bytes([number % 256]) * 2_048, float(number))
    assert len(made.first) == KEEP_TOTAL // 2_048
    assert [entry.at for entry in made.last][-1] == 1_499


PINGS = b"".join(
    wire.ping(bytes([0, number // 256, number % 256] + [0] * 5)) for number in range(900)
)


def test_small_frames_that_come_together_share_an_entry() -> None:
    made = Transcript(label="x", started=0.0)
    made.sent(PINGS[: 40 * 100], 1.0)
    made.sent(wire.ping(), 2.0)
    made.sent(wire.ping(), 2.0, marked=True)
    made.sent(wire.pong(), 2.0)
    entries = made.entries()
    assert [entry.times for entry in entries] == [100, 1, 1, 1]
    assert entries[0].shown == f"{entries[1].text}, 100 times"
    assert entries[0].raw == PINGS[: 40 * 100]


def test_a_flood_is_kept_whole_on_both_sides() -> None:
    made = Transcript(label="x", started=0.0)
    made.sent(PINGS, 1.0, marked=True)
    for item in wire.Parser().feed(wire.preface() + PINGS, 1.0):
        made.received(item)
    entries = made.entries()
    assert len(entries) < 10
    for who, whole in (("judge", PINGS), ("target", wire.preface() + PINGS)):
        said = [entry for entry in entries if entry.who == who]
        assert b"".join(entry.raw for entry in said) == whole
        assert sum(entry.length for entry in said) == len(whole)
    shown = decode(entries[-1])
    assert "octets not shown" in shown[-1]
    assert len(shown) < 400


def test_a_frame_among_others_can_be_marked() -> None:
    made = Transcript(label="x", started=0.0)
    frames = list(wire.Parser().feed(wire.preface() + PINGS[:120], 1.0))
    for item in frames:
        made.received(item)
    made.mark(frames[-1], remark="wrong")
    assert [(entry.times, entry.remark) for entry in made.entries()] == [(1, ""), (3, "wrong")]


def test_the_text_ends_with_the_summary() -> None:
    for verbosity in (-1, 0, 1):
        out = io.StringIO()
        report = TextReport(out, verbosity=verbosity)
        report.begin(HEAD)
        for one in ALL:
            report.result(one)
        report.finish(COUNTS)
        report.close()
        lines = out.getvalue().splitlines()
        assert lines[-1] == COUNTS.line()
        assert ("PASS FRM-001/x" in out.getvalue()) == (verbosity == 1)
        assert ("FAIL FRM-002/x" in out.getvalue()) == (verbosity >= 0)
        assert "\x1b[31;1m" not in out.getvalue()


def test_colours() -> None:
    out = io.StringIO()
    report = TextReport(out, colour=True)
    report.begin(HEAD)
    report.result(result(Verdict.FAIL))
    assert "\x1b[31;1mFAIL\x1b[0m FRM-002" in out.getvalue()
    stream = io.StringIO()
    assert not wants_colour(stream, {}, forbidden=False)
    assert wants_colour(stream, {"FORCE_COLOR": "1"}, forbidden=False)
    assert not wants_colour(stream, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, forbidden=False)
    assert not wants_colour(stream, {"FORCE_COLOR": "1"}, forbidden=True)


def test_progress_is_removed_before_a_line() -> None:
    out, terminal = io.StringIO(), io.StringIO()
    report = TextReport(out, progress=terminal)
    report.show_progress(3, 9, ["FRM-002/bad-marker"])
    report.say("line")
    assert terminal.getvalue() == "[3/9] FRM-002/bad-marker\r" + " " * 24 + "\r"
    assert out.getvalue() == "line\n"
