"""The report as Markdown, for the summary page of a CI job and for issues.

Text from the target stands in code, so that it is shown and not interpreted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from muxwire_conformance.causes import likely_cause
from muxwire_conformance.explain import rerun_command
from muxwire_conformance.report.collect import CollectedReport, Run
from muxwire_conformance.rules import rule
from muxwire_conformance.verdict import RED, Result, Verdict

MOST_RESULTS = 50  # GitHub refuses a summary of more than 1 MiB
_TOLD = RED | {Verdict.ERROR, Verdict.WARN, Verdict.XFAIL}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


def code(text: str) -> str:
    """Return any text as a span of code on one line."""
    flat = _CONTROL.sub("\ufffd", text) or " "
    longest = max((len(run) for run in re.findall("`+", flat)), default=0)
    fence = "`" * (longest + 1)
    ends = (flat[0], flat[-1])
    pad = " " if flat.strip() and ("`" in ends or " " in ends) else ""
    return f"{fence}{pad}{flat}{pad}{fence}"


class MarkdownReport(CollectedReport):
    """Collect results and write the file at the end."""

    def render(self, runs: Sequence[Run]) -> str:
        """Return the document."""
        return "\n".join(line for run in runs for line in run_lines(run)) + "\n"


class StepSummary(MarkdownReport):
    """Append to the summary of a CI step instead of replacing a file."""

    def _open(self) -> None:
        with self._path.open("a", encoding="utf-8"):
            pass

    def close(self) -> None:
        """Append the report."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(self.render(self._runs))


def run_lines(run: Run) -> list[str]:
    """Return the lines about one target."""
    lines = [f"## WMX/1 conformance of {code(run.target)}", ""]
    if run.summary is None:
        return [*lines, f"Not judged: {code(str(run.head.get('trouble', '')))}", ""]
    lines += [run.summary.line() + ("; interrupted" if run.summary.interrupted else ""), ""]
    lines += [_about(run), "", *_matrix(run), ""]
    told = sorted(
        (result for result in run.results if result.verdict in _TOLD),
        key=lambda result: (list(Verdict).index(result.verdict), result.id),
    )
    for result in told[:MOST_RESULTS]:
        lines += _result(run, result)
    if len(told) > MOST_RESULTS:
        lines += [f"{len(told) - MOST_RESULTS} more are in the other reports.", ""]
    return lines


def _about(run: Run) -> str:
    info = run.head.get("info") or {}
    who = f"{info.get('name', 'unnamed')} {info.get('version', '')}".strip()
    return (
        f"{code(who)}, judged {run.head.get('started', '')} by suite"
        f" {run.head.get('suite_version', '')}, spec {run.head.get('spec_version', '')}"
        f" ({run.head.get('spec_checksum', '')}), seed {run.head.get('seed', '')}"
    )


def _matrix(run: Run) -> list[str]:
    areas: dict[str, Counter[Verdict]] = {}
    for result in run.results:
        areas.setdefault(result.area, Counter())[result.verdict] += 1
    present = [verdict for verdict in Verdict if run.counts()[verdict]]
    rows = [["area", *(verdict.value for verdict in present)], ["---"] + ["---:"] * len(present)]
    for area, counts in sorted(areas.items()):
        rows.append([area, *(str(counts[verdict] or "") for verdict in present)])
    return [f"| {' | '.join(row)} |" for row in rows]


def _result(run: Run, result: Result) -> list[str]:
    known = rule(result.requirement)
    again = rerun_command(
        result.rerun or result.id,
        target=run.target,
        seed=int(run.head.get("seed", 0)),
        role=result.role,
    )
    facts = [
        ("rule", f"{known.id} {known.level}, {known.source}: {code(known.text)}"),
        ("reason", code(result.reason) if result.reason else ""),
        ("expected", code(result.expected) if result.expected else ""),
        ("actual", code(result.actual) if result.actual else ""),
        ("probably", likely_cause(result)),
        ("known", code(result.known) if result.known else ""),
        ("run it again", code(again)),
    ]
    lines = ["<details>", f"<summary>{result.verdict.value} {result.id}</summary>", ""]
    lines += [f"- {name}: {text}" for name, text in facts if text]
    return [*lines, "", "</details>", ""]
