"""Requirement blocks of the prose, as data.

A requirement is one Markdown block quote. Its first line names it, the other lines are its text:

    > **FLW-004** MUST · receiver · wire
    > One sentence, or a few.

Nothing else in `spec/text` may be a block quote, so a damaged block is an error and never a
requirement that silently went missing. The checksum changes whenever the meaning may have
changed; re-wrapping lines does not change it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

AREAS = (
    "HSK",
    "FRM",
    "TYP",
    "PAY",
    "SET",
    "RID",
    "STM",
    "MSG",
    "FAI",
    "FLW",
    "CAN",
    "ADM",
    "HBT",
    "DOS",
    "CLS",
    "REC",
    "OBS",
    "SEC",
    "P0",
    "P1",
)
"""Prefixes of requirement ids, in the order of the chapters."""

LEVELS = (
    "MUST",
    "MUST NOT",
    "REQUIRED",
    "SHALL",
    "SHALL NOT",
    "SHOULD",
    "SHOULD NOT",
    "RECOMMENDED",
    "NOT RECOMMENDED",
    "MAY",
    "OPTIONAL",
)
"""Levels of RFC 2119 and RFC 8174 that a block may carry."""

PARTIES = ("worker", "client", "router", "sender", "receiver", "endpoint")
"""Who can be bound. `endpoint` is both sides; `sender` and `receiver` are roles of one frame.

The router is the client of the paths over HTTP, which also listens for call-home connections.
"""

OBSERVABILITIES = ("wire", "api", "none")
"""Who can tell a breach: a peer, only the user of the implementation, or no one from outside."""

CHAPTERS = "[0-9][0-9]-*.md"
"""File names of chapters; they are read in the order of these names."""

ID = r"(?:[A-Z]{3}|P[0-9])-[0-9]{3}"
"""The form of a requirement id, as a regular expression."""

_ID = re.compile(ID)
_HEAD = re.compile(r"> \*\*(?P<id>[^*]+)\*\*(?P<rest>.*)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


class RequirementError(ValueError):
    """The prose, or the data made from it, does not hold well-formed requirements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One requirement block.

    Attributes:
        id: Permanent name, such as "FLW-004".
        level: One of LEVELS.
        parties: Who is bound, each one of PARTIES.
        observability: One of OBSERVABILITIES.
        reason: Why no one can tell; empty unless observability is "none".
        text: The rule with normalised white space.
        checksum: First 16 hex digits of the SHA-256 of id, level, parties, observability, text.
        file: Name of the chapter's file, without a folder.
        line: Line of the block's first line, from 1.
    """

    id: str
    level: str
    parties: tuple[str, ...]
    observability: str
    reason: str
    text: str
    checksum: str
    file: str
    line: int

    @property
    def area(self) -> str:
        """Return the letters that name the area."""
        return self.id.partition("-")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """The lines of one block quote, and where the first of them stands."""

    line: int
    lines: tuple[str, ...]


def checksum(
    identifier: str, level: str, parties: tuple[str, ...], observability: str, text: str
) -> str:
    """Return the fingerprint of what a requirement says: 16 hex digits."""
    said = "\n".join((identifier, level, ",".join(parties), observability, text))
    return hashlib.sha256(said.encode("utf-8")).hexdigest()[:16]


def chapters(directory: Path) -> list[Path]:
    """Return the chapter files of `directory` in reading order."""
    return sorted(directory.glob(CHAPTERS))


def fenced(lines: list[str]) -> list[bool]:
    """Tell for each line whether it belongs to a fenced code block, fences included."""
    inside: list[bool] = []
    fence = ""
    for line in lines:
        match = _FENCE.match(line)
        if not fence:
            fence = match[1] if match else ""
            inside.append(bool(fence))
            continue
        inside.append(True)
        if match and match[1].startswith(fence) and not line.strip(" `~"):
            fence = ""
    return inside


def parse(directory: Path) -> list[Requirement]:
    """Read the requirement blocks of every chapter in `directory`, in order of appearance.

    Raises:
        RequirementError: a block is malformed, an id occurs twice, or there is no block at all.
            The message starts with file:line.
    """
    found = parse_texts(
        {path.name: path.read_text(encoding="utf-8") for path in chapters(directory)}
    )
    if not found:
        raise RequirementError(f"{directory}: no requirement blocks in {CHAPTERS}")
    return found


def parse_texts(texts: Mapping[str, str]) -> list[Requirement]:
    """Read the requirement blocks of chapters given by file name, in that order.

    Raises:
        RequirementError: a block is malformed, or an id occurs twice.
    """
    found: dict[str, Requirement] = {}
    for file, text in texts.items():
        for requirement in parse_text(text, file):
            earlier = found.get(requirement.id)
            if earlier is not None:
                raise RequirementError(
                    f"{file}:{requirement.line}: {requirement.id} is defined twice, "
                    f"first at {earlier.file}:{earlier.line}"
                )
            found[requirement.id] = requirement
    return list(found.values())


def parse_text(text: str, file: str) -> list[Requirement]:
    """Read the requirement blocks of one chapter; `file` is its name for messages.

    Raises:
        RequirementError: a block is malformed. Duplicates are the business of `parse`.
    """
    return [_requirement(block, file) for block in _blocks(text.splitlines())]


def to_json(requirements: list[Requirement]) -> bytes:
    """Return the file `data/requirements.json`: a list in order of appearance."""
    rows = [asdict(requirement) for requirement in requirements]
    return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def from_json(data: bytes) -> list[Requirement]:
    """Read what `to_json` wrote.

    Raises:
        RequirementError: the data is something else, or a checksum does not fit its text.
    """
    try:
        requirements = [
            Requirement(**{**row, "parties": tuple(row["parties"])}) for row in json.loads(data)
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise RequirementError(f"requirements.json: {error}") from error
    for entry in requirements:
        expected = checksum(entry.id, entry.level, entry.parties, entry.observability, entry.text)
        if entry.checksum != expected:
            raise RequirementError(f"requirements.json: the checksum of {entry.id} is wrong")
    return requirements


def load() -> dict[str, Requirement]:
    """Return all requirements by id, in order of appearance, from the installed package.

    Raises:
        RequirementError: the packaged file is missing or damaged.
    """
    return dict(_packaged())


@functools.cache
def _packaged() -> tuple[tuple[str, Requirement], ...]:
    resource = resources.files("muxwire_spec").joinpath("data/requirements.json")
    try:
        data = resource.read_bytes()
    except FileNotFoundError as error:
        raise RequirementError("data/requirements.json is missing from the package") from error
    return tuple((requirement.id, requirement) for requirement in from_json(data))


def _blocks(lines: list[str]) -> list[_Block]:
    """Collect runs of block quote lines outside code fences."""
    blocks: list[_Block] = []
    run: list[str] = []
    for number, (line, code) in enumerate(zip(lines, fenced(lines), strict=True), start=1):
        if line.startswith(">") and not code:
            run.append(line)
            continue
        if run:
            blocks.append(_Block(line=number - len(run), lines=tuple(run)))
            run = []
    if run:
        blocks.append(_Block(line=len(lines) - len(run) + 1, lines=tuple(run)))
    return blocks


def _requirement(block: _Block, file: str) -> Requirement:
    """Read one block."""
    where = f"{file}:{block.line}"
    head = _HEAD.fullmatch(block.lines[0].rstrip())
    if head is None:
        raise RequirementError(
            f"{where}: not a requirement block; its first line must look like "
            "'> **FLW-004** MUST · receiver · wire'"
        )
    identifier = head["id"]
    if not _ID.fullmatch(identifier) or identifier.partition("-")[0] not in AREAS:
        raise RequirementError(f"{where}: {identifier!r} is not a requirement id of a known area")
    parts = [part.strip() for part in head["rest"].split("·", 2)]
    if len(parts) != 3:
        raise RequirementError(
            f"{where}: {identifier} needs a level, who is bound, and observability, "
            "with a middle dot between them"
        )
    level, bound, telling = parts
    if level not in LEVELS:
        raise RequirementError(f"{where}: {identifier} has the unknown level {level!r}")
    parties = tuple(party.strip() for party in bound.split(","))
    for party in parties:
        if party not in PARTIES:
            raise RequirementError(f"{where}: {identifier} binds the unknown party {party!r}")
    observability, reason = _observability(telling, f"{where}: {identifier}")
    for offset, line in enumerate(block.lines[1:], start=1):
        if _HEAD.match(line):
            raise RequirementError(
                f"{file}:{block.line + offset}: a second requirement starts inside {identifier}; "
                "put an empty line between them"
            )
    text = " ".join(" ".join(line[1:] for line in block.lines[1:]).split())
    if not text:
        raise RequirementError(f"{where}: {identifier} has no text")
    return Requirement(
        id=identifier,
        level=level,
        parties=parties,
        observability=observability,
        reason=reason,
        text=text,
        checksum=checksum(identifier, level, parties, observability, text),
        file=file,
        line=block.line,
    )


def _observability(telling: str, where: str) -> tuple[str, str]:
    """Split 'wire', 'api' or 'none: reason'."""
    name, colon, reason = (part.strip() for part in telling.partition(":"))
    if name not in OBSERVABILITIES:
        raise RequirementError(f"{where} has the unknown observability {name!r}")
    if name == "none" and not reason:
        raise RequirementError(f"{where} says 'none' without a reason")
    if name != "none" and colon:
        raise RequirementError(f"{where} gives a reason for {name!r}; only 'none' has one")
    return name, reason
