"""The requirement registry as the judge sees it: text, level and place of every rule."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from muxwire_spec import requirements


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the specification."""

    id: str
    level: str
    text: str
    source: str
    known: bool = True


@functools.cache
def rules() -> dict[str, Rule]:
    """Return every rule of the specification by id."""
    return {
        found.id: Rule(
            id=found.id,
            level=found.level,
            text=found.text,
            source=f"{found.file}:{found.line}",
        )
        for found in requirements.load().values()
    }


def rule(requirement: str) -> Rule:
    """Return the rule with this id; an unknown id gives a MUST that says it is unknown."""
    found = rules().get(requirement)
    if found is not None:
        return found
    text = "(this requirement is not in the specification)"
    return Rule(id=requirement, level="MUST", text=text, source="", known=False)
