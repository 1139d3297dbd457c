"""The targets, each in a module that is a few lines around one property.

Rules of this package: a module of a target is loaded by name and not before it is needed, since a
guided run has to instrument what it imports.
"""

from __future__ import annotations

from importlib import import_module

from muxwire_fuzz.harness import Target

NAMES = (
    "decoder",
    "chunking",
    "connection",
    "pair",
    "callhome",
    "readers",
    "negotiation",
    "judgefiles",
)
"""All targets that need no network, in the order of the layers that they look at."""


def load(name: str) -> Target:
    """Return a target.

    Raises:
        LookupError: there is none of this name.
    """
    if name not in NAMES:
        raise LookupError(f"there is no target {name!r}; the targets are {', '.join(NAMES)}")
    target: Target = import_module(f"{__name__}.{name}").TARGET
    return target
