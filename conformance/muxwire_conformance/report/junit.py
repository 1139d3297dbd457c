"""The report as JUnit XML: areas are suites, cases are testcases.

XML 1.0 forbids control characters, so every text goes through ``clean``.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from muxwire_conformance.explain import explain, plain
from muxwire_conformance.rules import rule
from muxwire_conformance.session import Summary
from muxwire_conformance.verdict import Result, Verdict

CLASS_NAME = "muxwire_conformance.worker.tcp"
MOST_TEXT = 60_000

_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """Replace what XML 1.0 cannot carry."""
    return _FORBIDDEN.sub("\ufffd", text)


class JunitReport:
    """Collect results and write the file at the end.

    Args:
        path: The file; it is replaced at the end.
        head: Members about the run: target, seed, versions.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self._path = path
        self._head = head
        self._results: list[Result] = []
        with path.open("w", encoding="utf-8"):
            pass  # fail now, not after the run

    def result(self, result: Result) -> None:
        """Keep one result."""
        self._results.append(result)

    def finish(self, summary: Summary) -> None:
        """Write the file."""
        root = ET.Element("testsuites", name="muxwire-conformance")
        for area in sorted({result.area for result in self._results}):
            root.append(self._suite(area))
        root.set("time", f"{summary.seconds:.3f}")
        for name in ("tests", "failures", "errors", "skipped"):
            root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
        ET.indent(root)
        ET.ElementTree(root).write(self._path, encoding="utf-8", xml_declaration=True)

    def _suite(self, area: str) -> ET.Element:
        results = sorted(
            (result for result in self._results if result.area == area),
            key=lambda result: result.id,
        )
        suite = ET.Element("testsuite", name=area, tests=str(len(results)))
        suite.set("time", f"{sum(result.seconds for result in results):.3f}")
        properties = ET.SubElement(suite, "properties")
        for name in ("target", "seed", "suite_version", "spec_checksum"):
            value = clean(str(self._head.get(name, "")))
            ET.SubElement(properties, "property", name=name, value=value)
        for result in results:
            suite.append(self._case(result))
        kinds = {"failures": "failure", "errors": "error", "skipped": "skipped"}
        for attribute, tag in kinds.items():
            suite.set(attribute, str(len(suite.findall(f"testcase/{tag}"))))
        return suite

    def _case(self, result: Result) -> ET.Element:
        known = rule(result.requirement)
        case = ET.Element("testcase", name=clean(result.id), classname=CLASS_NAME)
        case.set("time", f"{result.seconds:.3f}")
        properties = ET.SubElement(case, "properties")
        for name, value in (
            ("requirement", known.id),
            ("level", known.level),
            ("section", known.source),
        ):
            ET.SubElement(properties, "property", name=name, value=clean(value))
        message = clean(result.reason)
        if result.verdict in (Verdict.FAIL, Verdict.FLAKY, Verdict.XPASS):
            ET.SubElement(case, "failure", message=message, type=known.level)
        elif result.verdict in (Verdict.INCONCLUSIVE, Verdict.ERROR):
            ET.SubElement(case, "error", message=message, type=result.verdict.value)
        elif result.verdict in (Verdict.NOT_APPLICABLE, Verdict.XFAIL):
            ET.SubElement(case, "skipped", message=message)
        if result.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE):
            output = ET.SubElement(case, "system-out")
            output.text = self._text(result)
        return case

    def _text(self, result: Result) -> str:
        target, seed = str(self._head.get("target", "")), int(self._head.get("seed", 0))
        text = clean(plain(explain(result, target=target, seed=seed, verbose=True)))
        if len(text) > MOST_TEXT:
            text = text[:MOST_TEXT] + "\n... cut; run the case again to see all"
        return text
