"""Frozen requirement sets: which rules a version of the specification has, and how strict each is.

A newer suite may know more rules. ``--spec 1`` runs only the cases of the rules that the frozen set
of version 1 has, so that a new suite says nothing new about an old version. A rule that differs
between the set and the registry has to be listed in the file under ``changed``, with the reason.

``python -m muxwire_conformance.frozen`` prints the set of the present registry. Until a version is
released, its file is that output.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from muxwire_spec.spec import load_spec

from muxwire_conformance.rules import rules

_PREFIX, _SUFFIX = "requirements-", ".toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenSet:
    """The rules of one version: levels by id, and reasons of listed differences by id."""

    version: str
    levels: Mapping[str, str]
    changed: Mapping[str, str]

    def differences(self, registry: Mapping[str, str]) -> list[str]:
        """Return one line for each rule that differs from a registry and is not listed, by id."""
        lines = []
        for id in sorted({*self.levels, *registry} - set(self.changed)):
            frozen, present = self.levels.get(id), registry.get(id)
            if frozen != present:
                lines.append(f"{id}: frozen {frozen or 'absent'}, now {present or 'absent'}")
        for id in sorted(self.changed):
            if self.levels.get(id) == registry.get(id):
                lines.append(f"{id}: is listed as changed, but does not differ")
        return lines


def versions() -> list[str]:
    """Return the versions that have a frozen set."""
    names = [file.name for file in resources.files("muxwire_conformance.data").iterdir()]
    return sorted(
        name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        for name in names
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX)
    )


def load_frozen(version: str) -> FrozenSet:
    """Return the frozen set of a version, one of ``versions()``."""
    file = resources.files("muxwire_conformance.data") / f"{_PREFIX}{version}{_SUFFIX}"
    document = tomllib.loads(file.read_text("utf-8"))
    return FrozenSet(
        version=str(document["spec"]),
        levels=document["requirements"],
        changed=document.get("changed", {}),
    )


def present() -> str:
    """Return the text of the file that freezes the present registry."""
    lines = [
        "# The rules of a version: id and level. A rule that is new later belongs to the next one.",
        "# Where the registry comes to differ, list the id under [changed] with the reason.",
        "",
        f'spec = "{load_spec().version}"',
        "",
        "[requirements]",
    ]
    lines += [f'{id} = "{one.level}"' for id, one in sorted(rules().items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(present())
