"""Figures, ratios and tables.

Rules of this file: a figure is a list with one value for each run, None where it failed.  A ratio
is made from the two values of the same run, never from values of different runs; what is shown is
the median of these ratios, with the smallest and the largest.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Values = list[float | None]

NO_FIGURE = "-"


def known(values: Sequence[float | None]) -> list[float]:
    """Return the values that there are."""
    return [value for value in values if value is not None]


def paired(
    above: Sequence[float | None],
    below: Sequence[float | None],
    combine: Callable[[float, float], float] = lambda a, b: a / b,
) -> list[float]:
    """Combine the values of the same runs; a quotient unless `combine` says otherwise."""
    pairs = zip(above, below, strict=False)
    return [combine(a, b) for a, b in pairs if a is not None and b]


def short(value: float) -> str:
    """Write a number with three digits or so."""
    size = abs(value)
    if size >= 999_500:
        return f"{value / 1e6:.2f} M"
    if size >= 99_950:
        return f"{value / 1e3:.0f} k"
    if size >= 9_995:
        return f"{value / 1e3:.1f} k"
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 or not size else f"{value:.3f}"


def spread(values: Sequence[float | None], write: Callable[[float], str] = short) -> str:
    """Write the median and, of several values, the smallest and the largest."""
    there = known(values)
    if not there:
        return NO_FIGURE
    middle = write(statistics.median(there))
    if len(there) == 1:
        return middle
    return f"{middle} ({write(min(there))}..{write(max(there))})"


@dataclass(slots=True, kw_only=True)
class Target:
    """A ratio or a size, and what it is to reach.

    Attributes:
        label: What is measured.
        values: One for each run.
        least: The least that is asked for.
        moonshot: What would be splendid.
        unit: Written behind the numbers.
        falling: Smaller is better.
        missing: Why there is no value, if there is none.
    """

    label: str
    values: list[float]
    least: float
    moonshot: float
    unit: str = "x"
    falling: bool = False
    missing: str = ""

    def reaches(self, goal: float) -> bool:
        """Say whether the median is as good as a goal."""
        middle = statistics.median(self.values)
        return middle <= goal if self.falling else middle >= goal

    @property
    def verdict(self) -> str:
        """How far it got."""
        if not self.values:
            return "not measured"
        if self.reaches(self.moonshot):
            return "moonshot"
        return "reached" if self.reaches(self.least) else "below"

    def cells(self) -> list[str]:
        """Return the row of a table."""
        sign = "<=" if self.falling else ">="
        unit = f" {self.unit}" if self.unit else ""
        shown = spread(self.values) if self.values else self.missing or NO_FIGURE
        return [
            self.label,
            f"{shown}{unit}" if self.values else shown,
            f"{sign} {self.least:,g}{unit}",
            f"{sign} {self.moonshot:,g}{unit}",
            self.verdict,
        ]


@dataclass(slots=True, kw_only=True)
class Floor:
    """Something that has to hold; the exit code depends on it."""

    label: str
    holds: bool
    found: str


@dataclass(slots=True)
class Group:
    """What one group has measured.

    Attributes:
        name: Its name on the command line.
        title: The heading.
        corner: What the first column names.
        columns: Keys and headings of the columns, in order.
        rows: The row labels, in order.
        figures: Values by row and column.
        reasons: Why a row was not measured.
        targets: What is compared with the targets.
        floors: What has to hold.
        notes: Lines below the table.
        raw: Everything that the children answered.
    """

    name: str
    title: str
    corner: str = "system"
    columns: dict[str, str] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)
    figures: dict[tuple[str, str], Values] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    targets: list[Target] = field(default_factory=list)
    floors: list[Floor] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raw: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: str, column: str, value: float | None) -> None:
        """Note a figure of one run."""
        if row not in self.rows:
            self.rows.append(row)
        self.figures.setdefault((row, column), []).append(value)

    def get(self, row: str, column: str) -> Values:
        """Return the values of all runs."""
        return self.figures.get((row, column), [])

    def why_not(self, *rows: str) -> str:
        """Say why a ratio of these rows is missing."""
        for row in rows:
            if row in self.reasons:
                return self.reasons[row]
        return ""

    def text(self) -> str:
        """Return the tables."""
        parts = [self.title, "=" * len(self.title)]
        if self.columns:
            table = [[self.corner, *self.columns.values()]]
            for row in self.rows:
                cells = [spread(self.get(row, column)) for column in self.columns]
                if row in self.reasons and not any(cell != NO_FIGURE for cell in cells):
                    cells = [self.reasons[row]]
                table.append([row, *cells])
            parts += ["", *grid(table)]
        if self.targets:
            heading = ["figure", "median (min..max)", "at least", "moonshot", ""]
            parts += ["", *grid([heading, *(target.cells() for target in self.targets)])]
        if self.floors:
            parts.append("")
            for floor in self.floors:
                parts.append(f"{'ok  ' if floor.holds else 'FAIL'}  {floor.label}: {floor.found}")
        if self.notes:
            parts += ["", *self.notes]
        return "\n".join(parts) + "\n"

    def as_json(self) -> dict[str, Any]:
        """Return everything, for `--json`."""
        return {
            "title": self.title,
            "figures": [
                {"row": row, "column": column, "values": values}
                for (row, column), values in self.figures.items()
            ],
            "not_measured": self.reasons,
            "targets": [
                {
                    "label": target.label,
                    "values": target.values,
                    "at_least": target.least,
                    "moonshot": target.moonshot,
                    "unit": target.unit,
                    "smaller_is_better": target.falling,
                    "verdict": target.verdict,
                }
                for target in self.targets
            ],
            "floors": [
                {"label": floor.label, "holds": floor.holds, "found": floor.found}
                for floor in self.floors
            ],
            "raw": self.raw,
        }


def grid(table: Sequence[Sequence[str]]) -> list[str]:
    """Align the cells of a table; a single cell behind the first may run on to the end."""
    broad = [row for row in table if len(row) > 2]
    widths = [max(len(row[index]) for row in broad) for index in range(len(table[0]))]
    widths[0] = max(len(row[0]) for row in table)
    lines = []
    for number, row in enumerate(table):
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        if len(row) == 2:
            cells = [row[0].ljust(widths[0]), row[1]]
        lines.append("  ".join(cells).rstrip())
        if number == 0:
            lines.append("  ".join("-" * width for width in widths))
    return lines
