"""The report as JUnit XML: areas are suites, cases are testcases.

XML 1.0 forbids control characters, so every text goes through ``clean``. The elements and their
order are those of the schema that Jenkins and its kin read (``tests/data/junit.xsd``).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from muxwire_conformance.explain import explain, plain
from muxwire_conformance.report.collect import CollectedReport, Run
from muxwire_conformance.rules import rule
from muxwire_conformance.verdict import Result, Verdict

MOST_TEXT = 60_000

_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_KINDS = {
    Verdict.FAIL: "failure",
    Verdict.FLAKY: "failure",
    Verdict.XPASS: "failure",
    Verdict.INCONCLUSIVE: "error",
    Verdict.ERROR: "error",
    Verdict.NOT_APPLICABLE: "skipped",
    Verdict.XFAIL: "skipped",
}


def clean(text: str) -> str:
    """Replace what XML 1.0 cannot carry."""
    return _FORBIDDEN.sub("\ufffd", text)


class JunitReport(CollectedReport):
    """Collect results and write the file at the end."""

    def __init__(self, path: Path) -> None:
        self._several = False
        super().__init__(path)

    def render(self, runs: Sequence[Run]) -> str:
        """Return the document."""
        self._several = len(runs) > 1
        root = ET.Element("testsuites", name="muxwire-conformance")
        for run in runs:
            for area in sorted({result.area for result in run.results}):
                root.append(self._suite(run, area))
        seconds = sum(run.summary.seconds for run in runs if run.summary is not None)
        root.set("time", f"{seconds:.3f}")
        for name in ("tests", "failures", "errors", "skipped"):
            root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
        ET.indent(root)
        text = ET.tostring(root, encoding="unicode")
        return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'

    def _suite(self, run: Run, area: str) -> ET.Element:
        results = sorted(
            (result for result in run.results if result.area == area),
            key=lambda result: result.id,
        )
        name = clean(f"{run.target} {area}") if self._several else area
        suite = ET.Element("testsuite", name=name, tests=str(len(results)))
        suite.set("time", f"{sum(result.seconds for result in results):.3f}")
        suite.set("timestamp", str(run.head.get("started", "")).removesuffix("Z"))
        properties = ET.SubElement(suite, "properties")
        for key in ("target", "seed", "suite_version", "spec_version", "spec_checksum"):
            value = clean(str(run.head.get(key, "")))
            ET.SubElement(properties, "property", name=key, value=value)
        for result in results:
            suite.append(self._case(run, result))
        kinds = {"failures": "failure", "errors": "error", "skipped": "skipped"}
        for attribute, tag in kinds.items():
            suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))
        return suite

    def _case(self, run: Run, result: Result) -> ET.Element:
        known = rule(result.requirement)
        role = run.head.get("role", "worker")
        case = ET.Element("testcase", name=clean(result.id))
        case.set("classname", clean(f"muxwire_conformance.{role}.{result.path}"))
        case.set("time", f"{result.seconds:.3f}")
        properties = ET.SubElement(case, "properties")
        for name, value in (
            ("requirement", known.id),
            ("level", known.level),
            ("section", known.source),
            ("verdict", result.verdict.value),
        ):
            ET.SubElement(properties, "property", name=name, value=clean(value))
        if (tag := _KINDS.get(result.verdict)) is not None:
            found = ET.SubElement(case, tag, message=clean(result.reason))
            if tag != "skipped":
                found.set("type", known.level if tag == "failure" else result.verdict.value)
        if result.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE):
            output = ET.SubElement(case, "system-out")
            output.text = _text(run, result)
        return case


def _text(run: Run, result: Result) -> str:
    seed = int(run.head.get("seed", 0))
    text = clean(plain(explain(result, target=run.target, seed=seed, verbose=True)))
    if len(text) > MOST_TEXT:
        text = text[:MOST_TEXT] + "\n... cut; run the case again to see all"
    return text
