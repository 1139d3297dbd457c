"""All reports of a run together: a report that cannot be written never stops the others.

Rules of this file:

* A file that cannot be opened is known before the first case runs.
* A report that fails later is dropped and remembered in ``trouble``: the exit code tells.
* The text report ends last, so that its summary is the last line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from muxwire_conformance.report.json import JsonReport
from muxwire_conformance.report.junit import JunitReport
from muxwire_conformance.session import Summary
from muxwire_conformance.verdict import Result

Given = TypeVar("Given")


class Report(Protocol):
    """What every report can do."""

    def result(self, result: Result) -> None:
        """Take one result."""

    def finish(self, summary: Summary) -> None:
        """Write what is left."""


class ReportError(Exception):
    """A report could not be written; one clear line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Which reports to write where."""

    json: Path | None = None
    junit: Path | None = None


class Reports:
    """Every report of one run.

    Args:
        text: The report for people.
        complain: Called with one line when a report fails.
    """

    def __init__(self, text: Report, complain: Callable[[str], None]) -> None:
        self.trouble = ""
        self._reports: list[Report] = [text]
        self._complain = complain

    def open(self, files: Files, head: Mapping[str, Any]) -> None:
        """Open the files.

        Raises:
            ReportError: one of them cannot be written.
        """
        kinds = ((files.json, JsonReport), (files.junit, JunitReport))
        for path, kind in kinds:
            if path is None:
                continue
            try:
                self._reports.append(kind(path, head))
            except OSError as error:
                text = f"the report {path} cannot be written: {error.strerror}"
                raise ReportError(text) from error

    def result(self, result: Result) -> None:
        """Pass one result on."""
        for report in list(self._reports):
            self._guard(report, report.result, result)

    def finish(self, summary: Summary) -> None:
        """Finish all reports."""
        for report in reversed(self._reports):
            self._guard(report, report.finish, summary)

    def _guard(self, report: Report, action: Callable[[Given], None], value: Given) -> None:
        try:
            action(value)
        except OSError as error:
            self.trouble = f"a report cannot be written: {error}"
            self._complain(self.trouble)
            self._reports.remove(report)
