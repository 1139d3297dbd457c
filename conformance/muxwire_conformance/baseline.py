"""Known failures: a TOML file of cases that fail today, each with the reason.

Rules of this file:

* What is listed is still run, and has to fail still: one that passes is XPASS, and red.
* An entry excuses a failure only as it was described: with ``contains``, the message has to have
  that text; a case that could not be decided is excused only by an entry that has it.
* An entry whose ``until`` is over excuses nothing. ``flaky = true`` also excuses passing.
* An entry for a case that does not exist fails the run: it would excuse nothing, unnoticed.
"""

from __future__ import annotations

import datetime
import difflib
import tomllib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from muxwire_conformance.report.collect import CollectedReport, Run
from muxwire_conformance.verdict import RED, Result, Verdict

_HEADER = """\
# Known failures of an implementation of WMX/1, for muxwire-conformance --baseline.
# id and reason are required; contains, url, flaky and until = YYYY-MM-DD are optional.
"""
_EXCUSABLE = (Verdict.FAIL, Verdict.WARN, Verdict.FLAKY, Verdict.INCONCLUSIVE)


class BaselineError(ValueError):
    """The file is malformed; one clear line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One known failure."""

    id: str
    reason: str
    contains: str = ""
    url: str = ""
    flaky: bool = False
    until: datetime.date | None = None


class Baseline:
    """The entries of one file, by case id.

    Args:
        entries: The entries.
        today: The date that ``until`` is compared with.
    """

    def __init__(self, entries: Iterable[Entry], *, today: datetime.date | None = None) -> None:
        self.entries = {entry.id: entry for entry in entries}
        self._today = today or datetime.datetime.now(tz=datetime.UTC).date()

    def revise(self, result: Result) -> Result:
        """Return the result as the baseline sees it; the given one is left as it is."""
        entry = self.entries.get(result.id)
        if entry is None:
            return result
        if result.verdict is Verdict.PASS and not entry.flaky:
            reason = f"the baseline says that it fails: {entry.reason}; remove the entry"
            return replace(result, verdict=Verdict.XPASS, reason=reason)
        if result.verdict not in _EXCUSABLE:
            return result
        objection = self._objection(entry, result)
        if objection:
            return replace(result, reason=f"{result.reason} ({objection})")
        known = f"{entry.reason} {entry.url}".strip()
        return replace(result, verdict=Verdict.XFAIL, known=known)

    def _objection(self, entry: Entry, result: Result) -> str:
        """Return why the entry does not excuse this result, "" if it does."""
        if entry.until is not None and entry.until < self._today:
            return f"its entry in the baseline expired on {entry.until}"
        message = "\n".join((result.reason, result.expected, result.actual))
        if entry.contains and entry.contains not in message:
            return f"the baseline expects another message, with {entry.contains!r}"
        if result.verdict is Verdict.INCONCLUSIVE and not entry.contains:
            return "the baseline excuses a failure, not a case that is undecided"
        if result.verdict is Verdict.FLAKY and not entry.flaky:
            return "the baseline says that it always fails"
        return ""

    def unmatched(self, known: Collection[str]) -> list[str]:
        """Return one line for each entry whose case does not exist."""
        lines = []
        for id in sorted(set(self.entries) - set(known)):
            near = difflib.get_close_matches(id, known, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            lines.append(f"the baseline names a case that does not exist: {id}{hint}")
        return lines


def load_baseline(path: Path) -> Baseline:
    """Read a file.

    Raises:
        BaselineError: it cannot be read or is malformed.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BaselineError(f"the baseline {path} cannot be read: {error}") from error
    unknown = sorted(set(document) - {"case"})
    if unknown:
        raise BaselineError(f"{path}: {unknown[0]!r} is unknown; entries are [[case]] tables")
    tables = document.get("case", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise BaselineError(f"{path}: entries are [[case]] tables")
    entries = [_entry(table, f"{path}, entry {number}") for number, table in enumerate(tables, 1)]
    ids = [entry.id for entry in entries]
    twice = next((id for id in ids if ids.count(id) > 1), None)
    if twice is not None:
        raise BaselineError(f"{path}: {twice} is listed twice")
    return Baseline(entries)


_TYPES: dict[str, tuple[type, str]] = {
    "id": (str, "a text"),
    "reason": (str, "a text"),
    "contains": (str, "a text"),
    "url": (str, "a text"),
    "flaky": (bool, "true or false"),
    "until": (datetime.date, "a date such as 2027-01-31"),
}


def _entry(table: dict[str, Any], where: str) -> Entry:
    for name, value in table.items():
        if name not in _TYPES:
            near = difflib.get_close_matches(name, _TYPES, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise BaselineError(f"{where}: {name!r} is unknown{hint}")
        wanted, words = _TYPES[name]
        if not isinstance(value, wanted) or isinstance(value, datetime.datetime):
            raise BaselineError(f"{where}: {name} is {words}, not {value!r}")
    for name in ("id", "reason"):
        if not str(table.get(name, "")).strip():
            raise BaselineError(f"{where}: {name} is missing")
    return Entry(**table)


class BaselineReport(CollectedReport):
    """Write a baseline from the present failures; entries that still hold keep their words.

    Args:
        path: The file; it is replaced at the end only.
        old: The baseline of this run: entries of cases that did not run are kept.
        strict: Whether warnings are failures.
    """

    def __init__(self, path: Path, old: Baseline | None = None, *, strict: bool = False) -> None:
        self._old = old or Baseline(())
        self._bad = RED | {Verdict.XFAIL} | ({Verdict.WARN} if strict else set())
        super().__init__(path)

    def _open(self) -> None:
        with self._path.open("a", encoding="utf-8"):
            pass  # fail now, not after the run

    def render(self, runs: Sequence[Run]) -> str:
        """Return the file."""
        results = [result for run in runs for result in run.results]
        ran = {result.id for result in results}
        entries = {id: entry for id, entry in self._old.entries.items() if id not in ran}
        for result in results:
            if result.verdict in self._bad - {Verdict.XPASS}:
                entries[result.id] = self._entry(result)
            elif result.id in self._old.entries and result.verdict is not Verdict.XPASS:
                entries.setdefault(result.id, self._old.entries[result.id])
        return _HEADER + "".join(_table(entry) for _, entry in sorted(entries.items()))

    def _entry(self, result: Result) -> Entry:
        if result.verdict is Verdict.XFAIL:
            return self._old.entries[result.id]
        return Entry(
            id=result.id,
            reason=f"to be explained: {result.reason or result.actual}",
            contains=result.reason if result.verdict is Verdict.INCONCLUSIVE else "",
            flaky=result.verdict is Verdict.FLAKY,
        )


def _table(entry: Entry) -> str:
    lines = ["", "[[case]]"]
    for member in fields(entry):
        value = getattr(entry, member.name)
        if isinstance(value, str) and value:
            lines.append(f"{member.name} = {toml_string(value)}")
        elif isinstance(value, datetime.date):
            lines.append(f"{member.name} = {value.isoformat()}")
        elif value is True:
            lines.append(f"{member.name} = true")
    return "\n".join(lines) + "\n"


def toml_string(text: str) -> str:
    """Return any text as a basic string of TOML."""
    out = []
    for letter in text:
        number = ord(letter)
        if letter in '"\\':
            out.append("\\" + letter)
        elif number < 0x20 or number == 0x7F:
            out.append(f"\\u{number:04x}")
        else:
            out.append("\ufffd" if 0xD800 <= number <= 0xDFFF else letter)
    return '"' + "".join(out) + '"'
