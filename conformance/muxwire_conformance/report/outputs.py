"""All reports of a call together: a report that cannot be written never stops the others.

Rules of this file:

* A file that cannot be opened is known before anything is judged.
* A report that fails later is dropped and remembered in ``trouble``: the exit code tells.
* The text report comes last, so that its summary is the last line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from muxwire_conformance.report.badge import BadgeReport
from muxwire_conformance.report.html import HtmlReport
from muxwire_conformance.report.json import JsonReport
from muxwire_conformance.report.jsonl import JsonLinesReport
from muxwire_conformance.report.junit import JunitReport
from muxwire_conformance.report.markdown import MarkdownReport, StepSummary
from muxwire_conformance.session import Summary
from muxwire_conformance.verdict import Result

Given = TypeVar("Given")


class Report(Protocol):
    """What every report can do."""

    def begin(self, head: Mapping[str, Any]) -> None:
        """Begin the run of one target."""

    def result(self, result: Result) -> None:
        """Take one result."""

    def finish(self, summary: Summary | None) -> None:
        """End the run; None means that the target was not reached."""

    def close(self) -> None:
        """Write what is left."""


class ReportError(Exception):
    """A report could not be written; one clear line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Which reports to write where."""

    json: Path | None = None
    jsonl: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None
    step_summary: Path | None = None
    html: Path | None = None
    badge: Path | None = None
    others: Sequence[tuple[Callable[[Path], Report], Path]] = ()


class Reports:
    """Every report of one call, about one target or several.

    Args:
        text: The report for people.
        files: The others.
        complain: Called with one line when a report fails.
        several: There are several targets.

    Raises:
        ReportError: a file cannot be written.
    """

    def __init__(
        self,
        text: Report,
        files: Files,
        complain: Callable[[str], None],
        *,
        several: bool = False,
    ) -> None:
        self.trouble = ""
        self._complain = complain
        self._reports: list[Report] = []
        kinds: dict[str, Callable[[Path], Report]] = {
            "json": partial(JsonReport, several=several),
            "jsonl": JsonLinesReport,
            "junit": JunitReport,
            "markdown": MarkdownReport,
            "step_summary": StepSummary,
            "html": HtmlReport,
            "badge": BadgeReport,
        }
        for name, kind in kinds.items():
            path: Path | None = getattr(files, name)
            if path is not None:
                self._reports.append(self._open(kind, path))
        self._reports += [self._open(kind, path) for kind, path in files.others]
        self._reports.append(text)

    def _open(self, kind: Callable[[Path], Report], path: Path) -> Report:
        try:
            return kind(path)
        except OSError as error:
            self.close()
            raise ReportError(f"the report {path} cannot be written: {error.strerror}") from error

    def begin(self, head: Mapping[str, Any]) -> None:
        """Begin the run of one target."""
        for report in list(self._reports):
            self._guard(report, report.begin, head)

    def result(self, result: Result) -> None:
        """Pass one result on."""
        for report in list(self._reports):
            self._guard(report, report.result, result)

    def finish(self, summary: Summary | None) -> None:
        """End the run of one target."""
        for report in list(self._reports):
            self._guard(report, report.finish, summary)

    def close(self) -> None:
        """Write what is left."""
        for report in list(self._reports):
            self._guard(report, lambda _: report.close(), None)  # noqa: B023 - called at once

    def _guard(self, report: Report, action: Callable[[Given], None], value: Given) -> None:
        try:
            action(value)
        except OSError as error:
            self.trouble = f"a report cannot be written: {error}"
            self._complain(self.trouble)
            self._reports.remove(report)
            with contextlib.suppress(OSError):
                report.close()
