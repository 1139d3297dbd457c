"""Every requirement is cited where it is kept, and where it is shown.

Rules of this file: it is about what the reference speaks, chapters 1 to 21 of the specification.
Code cites what it keeps, a test what it shows.  The machines are left out, since they cite each
rule behind a cell.  A requirement that has no place in code or tests stands in `NOWHERE` with the
reason, and only as long as that is true.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = {
    item["id"]: item
    for item in json.loads((ROOT / "spec/muxwire_spec/data/requirements.json").read_text())
    if item["file"] < "22"
}
_LEFT_OUT = {Path(__file__).name, "machines.py", "registries.py"}
_ID = re.compile(r"\b[A-Z][A-Z0-9][A-Z]?-[0-9]{3}\b")

PLACES = {
    "code": ROOT / "reference/muxwire",
    "tests": ROOT / "reference/tests",
}

NOWHERE: dict[tuple[str, str], str] = {}
"""What is cited in no file of a place, by place and id, and why."""


def cited(place: str) -> set[str]:
    """Return the ids that the files of a place cite."""
    files = (path for path in PLACES[place].rglob("*.py") if path.name not in _LEFT_OUT)
    return {found for path in files for found in _ID.findall(path.read_text("utf-8"))}


def test_every_rule_has_a_party_that_the_reference_plays() -> None:
    parties = {party for item in REQUIREMENTS.values() for party in item["parties"]}
    assert parties == {"worker", "client", "router", "endpoint", "sender", "receiver"}


@pytest.mark.parametrize("place", list(PLACES))
def test_every_requirement_is_cited(place: str) -> None:
    missing = set(REQUIREMENTS) - cited(place)
    excused = {name for where, name in NOWHERE if where == place}
    assert sorted(missing - excused) == []
    assert sorted(excused - missing) == [], "no exceptions any more"


@pytest.mark.parametrize("place", list(PLACES))
def test_no_citation_is_of_a_rule_that_there_is_not(place: str) -> None:
    areas = {name.partition("-")[0] for name in REQUIREMENTS}
    unknown = {name for name in cited(place) if name.partition("-")[0] in areas} - set(REQUIREMENTS)
    assert sorted(unknown) == []
