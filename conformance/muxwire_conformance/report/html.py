"""The report as one HTML file that needs no network: template, style, scripts and data inside.

Rules of this file:

* Data is embedded as JSON in which no ``<``, ``>`` or ``&`` occurs, so that no text of a target can
  end the element or begin another. The page shows it through text nodes only.
* A content security policy allows exactly this style and this script, and no request at all.
* The file has a bound. Octets are named field by field near the offending entry only, and when all
  transcripts together are too long, the less important ones go. The JSON report has everything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from muxwire_spec import requirements

from muxwire_conformance.report.collect import CollectedReport, Run
from muxwire_conformance.report.record import describe
from muxwire_conformance.rules import rule
from muxwire_conformance.verdict import Result, Verdict

MOST_TRANSCRIPTS = 12_000_000  # characters of JSON
WORST_FIRST = (
    Verdict.ERROR,
    Verdict.FAIL,
    Verdict.XPASS,
    Verdict.FLAKY,
    Verdict.WARN,
    Verdict.XFAIL,
    Verdict.INCONCLUSIVE,
    Verdict.NOT_APPLICABLE,
    Verdict.PASS,
)
BEFORE, AFTER = 4, 6  # entries around a marked one that are decoded
PLAIN_OCTETS = 64  # of the others
LEFT_OUT = "The transcript was left out to keep this file small; the JSON report has it."
_PART = re.compile(r"@([A-Z]+)@")


class HtmlReport(CollectedReport):
    """Collect results and write the page at the end."""

    def render(self, runs: Sequence[Run]) -> str:
        """Return the page."""
        style, script = _file("style.css"), _file("case.js") + "\n" + _file("page.js")
        counts = "; ".join(
            f"{run.target}: {run.summary.line() if run.summary else 'not judged'}" for run in runs
        )
        parts = {
            "CSP": f"default-src 'none'; style-src '{_hash(style)}';"
            f" script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'",
            "TITLE": html.escape(f"WMX/1 conformance: {', '.join(run.target for run in runs)}"),
            "COUNTS": html.escape(counts),
            "STYLE": style,
            "SCRIPT": script,
            "DATA": embed(page_data(runs)),
        }
        return _PART.sub(lambda found: parts[found[1]], _file("template.html"))


def _file(name: str) -> str:
    return (resources.files("muxwire_conformance.report.page") / name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def embed(value: Any) -> str:
    """Return JSON that can stand inside an HTML element, whatever its strings hold."""
    text = json.dumps(value, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def page_data(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what the page shows: areas, cases, rules, and the results of each run by case."""
    firsts: dict[str, Result] = {}
    for run in runs:
        for result in run.results:
            firsts.setdefault(result.id, result)
    budget = [MOST_TRANSCRIPTS]
    cited = {_named(id) for id in firsts}
    cited |= {result.requirement for run in runs for result in run.results}
    return {
        "areas": _areas({result.area for result in firsts.values()}),
        "cases": [
            {
                "id": result.id,
                "title": result.title,
                "requirement": _named(result.id),
                "level": rule(_named(result.id)).level,
            }
            for result in firsts.values()
        ],
        "rules": {
            id: {"level": rule(id).level, "text": rule(id).text, "source": rule(id).source}
            for id in sorted(cited)
        },
        "runs": [
            {
                **run.head,
                "summary": _summary(run),
                "results": dict(_results(run, budget)),
            }
            for run in runs
        ],
    }


def _named(id: str) -> str:
    """Return the requirement that a case id names."""
    return id.partition("/")[0]


def _summary(run: Run) -> dict[str, Any] | None:
    if run.summary is None:
        return None
    return {"seconds": run.summary.seconds, "interrupted": run.summary.interrupted}


def _areas(present: set[str]) -> list[dict[str, str]]:
    """Return the areas in the order of the chapters, named after them."""
    chapters = {one.area: one.file for one in requirements.load().values()}
    ordered = sorted(present, key=lambda area: (chapters.get(area, "99"), area))
    return [{"code": area, "name": _chapter(chapters.get(area, ""))} for area in ordered]


def _chapter(file: str) -> str:
    words = file.removesuffix(".md").partition("-")[2].replace("-", " ")
    return words[:1].upper() + words[1:]


def _results(run: Run, budget: list[int]) -> Iterable[tuple[str, dict[str, Any]]]:
    for result in sorted(run.results, key=lambda one: (WORST_FIRST.index(one.verdict), one.id)):
        yield result.id, _compact(describe(result, run.head), budget)


def _compact(record: Mapping[str, Any], budget: list[int]) -> dict[str, Any]:
    """Drop what the page knows from elsewhere, and shorten what occurs in thousands."""
    named = _named(record["id"])
    dropped = {"id", "title", "level", "rule", "source", "ran", "connections"}
    kept = {name: value for name, value in record.items() if name not in dropped and value != ""}
    if kept["requirement"] == named:
        del kept["requirement"]
    connections = [
        {"label": connection["label"], "entries": _entries(connection["entries"])}
        for connection in record.get("connections", ())
    ]
    if not connections:
        return kept
    budget[0] -= len(json.dumps(connections))
    return {**kept, "left_out": LEFT_OUT} if budget[0] < 0 else {**kept, "connections": connections}


def _entries(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    marks = [index for index, entry in enumerate(entries) if entry["marked"]]
    near = {place for mark in marks for place in range(mark - BEFORE, mark + AFTER + 1)}
    near = near or set(range(len(entries) - BEFORE - AFTER, len(entries)))
    return [_entry(entry, near=index in near) for index, entry in enumerate(entries)]


def _entry(entry: Mapping[str, Any], *, near: bool) -> dict[str, Any]:
    kept = {name: value for name, value in entry.items() if value not in ("", False, [])}
    if not near:
        kept["far"] = True
        kept.pop("fields", None)
        kept["hex"] = entry["hex"][: PLAIN_OCTETS * 2]
    elif "fields" in kept:
        kept["fields"] = [list(field.values()) for field in entry["fields"]]
    return kept
