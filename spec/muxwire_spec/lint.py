"""Checks on the prose that need no knowledge of the protocol.

Key words of RFC 2119 bind, so they stand only in requirement blocks. An id that is mentioned
exists. A region to be filled by the emitter is closed. Whether the names of regions are known
is the emitter's business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from muxwire_spec.requirements import AREAS, ID, RequirementError, chapters, fenced, parse

_KEY_WORD = re.compile(
    r"\b(MUST|SHALL|SHOULD|REQUIRED|RECOMMENDED|MAY|OPTIONAL)\b",
)
_ANY_ID = re.compile(rf"(?<![A-Za-z0-9-]){ID}(?![0-9A-Za-z])")
_OWN_ID = re.compile(rf"(?<![A-Za-z0-9-])(?:{'|'.join(AREAS)})-[0-9]{{3}}(?![0-9A-Za-z])")
_NOT_OURS = frozenset({"SHA-256", "SHA-384", "SHA-512"})
_CODE_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_LONG_DASHES = {"\u2013": "en dash", "\u2014": "em dash", "\u2015": "horizontal bar"}
_OPEN_REGION = re.compile(r"<!--\s*generated:\s*(?P<name>.*?)\s*-->")
_CLOSE_REGION = re.compile(r"<!--\s*/generated\s*-->")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with the prose."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        """Return the problem the way compilers print theirs."""
        return f"{self.file}:{self.line}: {self.text}"


def lint(directory: Path) -> list[Problem]:
    """Return what is wrong with the chapters in `directory`, in reading order.

    Blocks that cannot be parsed are reported as a single problem, since without them it is not
    known which ids exist.
    """
    problems: list[Problem] = []
    known: frozenset[str] | None
    try:
        known = frozenset(requirement.id for requirement in parse(directory))
    except RequirementError as error:
        known = None
        problems.append(_from_error(error))
    for path in chapters(directory):
        lines = path.read_text(encoding="utf-8").splitlines()
        problems += _Chapter(path.name, lines, known).problems()
    return problems


def ids_cited(paths: Iterable[Path]) -> dict[str, list[tuple[str, int]]]:
    """Return where each requirement id is cited: id -> [(file, line)], sorted by id.

    Folders are searched for Python files; a file is read whatever its name. Only ids of our
    areas count, so names such as SHA-256 do not.
    """
    found: dict[str, list[tuple[str, int]]] = {}
    for path in _sources(paths):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for identifier in dict.fromkeys(_OWN_ID.findall(line)):
                found.setdefault(identifier, []).append((str(path), number))
    return dict(sorted(found.items()))


def _sources(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.rglob("*.py"))
        else:
            yield path


def _from_error(error: RequirementError) -> Problem:
    """Turn 'file:line: text' back into its parts."""
    file, _, rest = str(error).partition(":")
    line, _, text = rest.partition(":")
    if line.isdigit():
        return Problem(file=file, line=int(line), text=text.strip())
    return Problem(file=file, line=0, text=rest.strip())


class _Chapter:
    """The checks of one file."""

    def __init__(self, file: str, lines: list[str], known: frozenset[str] | None) -> None:
        self._file = file
        self._lines = lines
        self._known = known

    def problems(self) -> list[Problem]:
        """Return the problems of this file by line."""
        found = [*self._words(), *self._regions()]
        return sorted(found, key=lambda problem: problem.line)

    def _problem(self, line: int, text: str) -> Problem:
        return Problem(file=self._file, line=line, text=text)

    def _words(self) -> Iterator[Problem]:
        code = fenced(self._lines)
        for number, (line, is_code) in enumerate(zip(self._lines, code, strict=True), start=1):
            for character, name in _LONG_DASHES.items():
                if character in line:
                    yield self._problem(number, f"{name} (U+{ord(character):04X})")
            if is_code:
                continue
            plain = _CODE_SPAN.sub("", line)
            if not line.startswith(">"):
                for word in _KEY_WORD.findall(plain):
                    yield self._problem(number, f"{word} in capitals outside a requirement block")
            yield from self._unknown_ids(number, plain)

    def _unknown_ids(self, number: int, plain: str) -> Iterator[Problem]:
        if self._known is None:
            return
        for identifier in _ANY_ID.findall(plain):
            if identifier not in self._known and identifier not in _NOT_OURS:
                yield self._problem(number, f"{identifier} does not exist")

    def _regions(self) -> Iterator[Problem]:
        name, opened = "", 0
        code = fenced(self._lines)
        for number, (line, is_code) in enumerate(zip(self._lines, code, strict=True), start=1):
            if is_code and not opened:
                continue
            start = _OPEN_REGION.search(line)
            if start and opened:
                yield self._problem(opened, f"generated region {name!r} is not closed")
            if start:
                name, opened = start["name"], number
            if _CLOSE_REGION.search(line):
                if not opened:
                    yield self._problem(number, "end of a generated region without a beginning")
                opened = 0
        if opened:
            yield self._problem(opened, f"generated region {name!r} is not closed")
