"""Cases: what one is, how it is declared, and the registry of all of them.

Rules of this file:

* An id is a name: requirement id, slash, a few words with hyphens. It never changes its meaning.
* A case declares every check it will make. One that ends without them all is INCONCLUSIVE.
* A negative case names its positive twin: the same conversation without the violation. If the
  twin fails on the target, the negative case proves nothing and is INCONCLUSIVE.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from muxwire_conformance.paths import path_of
from muxwire_conformance.rules import rule

CaseFunction = Callable[[Any], Awaitable[None]]
"""Takes a ``Context``, or a ``ClientContext`` where the role is client."""

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "worker": (
        "muxwire_conformance.cases",
        "muxwire_conformance.cases_callhome",
        "muxwire_conformance.cases_http",
    ),
    "client": ("muxwire_conformance.cases_client",),
}
"""Where the cases of each role are declared."""

CLIENT_PREFIX = "client-"

_ID = re.compile(r"(?:[A-Z]{3}|P[01])-[0-9]{3}/[a-z0-9]+(-[a-z0-9]+)*")
_CHECK = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class _Same:
    """The type of ``SAME``."""

    def __repr__(self) -> str:
        return "SAME"


SAME: Final = _Same()
"""Twin that is the case's own function, run with ``violate`` and ``ctx.pick`` in legal form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question to the target, with everything needed to select, run and report it."""

    id: str
    requirements: tuple[str, ...]
    checks: tuple[str, ...]
    twin: str | CaseFunction | _Same | None
    role: str
    features: tuple[str, ...]
    exclusive: bool
    timed: bool
    limit: float
    served: bool
    function: CaseFunction
    title: str

    @property
    def area(self) -> str:
        """Return the area letters, for example ``FRM``."""
        return self.id.partition("-")[0]

    @property
    def path(self) -> str:
        """Return the path that the case is about: tcp, callhome or http."""
        return path_of(self.id)

    @property
    def requirement(self) -> str:
        """Return the requirement that the id names."""
        return self.id.partition("/")[0]

    @property
    def level(self) -> str:
        """Return the level of that requirement, from the registry."""
        return rule(self.requirement).level

    @property
    def negative(self) -> bool:
        """Tell whether the case breaks a rule on purpose."""
        return self.twin is not None


CASES: dict[str, Case] = {}


def case(
    id: str,
    *,
    checks: Sequence[str],
    requirements: Sequence[str] | None = None,
    twin: str | CaseFunction | _Same | None = None,
    role: str = "worker",
    features: Sequence[str] = (),
    exclusive: bool = False,
    timed: bool = False,
    limit: float = 30.0,
    served: bool = False,
) -> Callable[[CaseFunction], CaseFunction]:
    """Register an async function as a case.

    The first sentence of the function's docstring is the case's title: say what a conformant
    target does, in the words of the specification.

    Args:
        id: ``"FRM-002/bad-marker"``: the requirement and a name.
        checks: Every check that the case will emit, see CASES.md for the names that the
            vocabulary emits by itself.
        requirements: Requirement ids that the case is evidence for; the id's own by default.
        twin: For a negative case: ``SAME``, the id of another case, or an async function.
        role: Which side is judged: ``worker``, or ``client`` for names that begin ``client-``.
        features: What the target must declare, for example ``["conformance"]`` for a case that
            opens conformance subjects. Missing features make the case N/A. A question mark
            (``"conformance?"``) means: used if it is there, see ``ctx.has``.
        exclusive: Run alone (limits, drain, memory).
        timed: Mostly waits; started first so that it runs beside the others.
        limit: Seconds after which the case is stopped and INCONCLUSIVE.
        served: For a client case: one request of the client is all it needs, see ``serve``.

    Raises:
        ValueError: the declaration is malformed or the id is taken.
    """
    if not _ID.fullmatch(id):
        raise ValueError(f"{id!r} is no case id")
    if id in CASES:
        raise ValueError(f"{id} is declared twice")
    if role not in PACKAGES:
        raise ValueError(f"{id}: {role!r} is no role")
    if role == "client" and not id.partition("/")[2].startswith(CLIENT_PREFIX):
        raise ValueError(f"{id}: a case for a client is called {CLIENT_PREFIX}...")
    if not checks:
        raise ValueError(f"{id} declares no checks")
    for name in checks:
        if not _CHECK.fullmatch(name):
            raise ValueError(f"{id}: {name!r} is no check name")
    cited = tuple(requirements) if requirements else (id.partition("/")[0],)
    if id.partition("/")[0] not in cited:
        raise ValueError(f"{id} does not cite its own requirement")

    def register(function: CaseFunction) -> CaseFunction:
        CASES[id] = Case(
            id=id,
            requirements=cited,
            checks=tuple(checks),
            twin=twin,
            role=role,
            features=tuple(features),
            exclusive=exclusive,
            timed=timed,
            limit=limit,
            served=served,
            function=function,
            title=(inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " "),
        )
        return function

    return register


def load_cases(role: str = "worker") -> dict[str, Case]:
    """Import every case for a role and return them by id.

    Raises:
        ValueError: a twin is named that does not exist or cannot stand for it.
    """
    for package in map(importlib.import_module, PACKAGES[role]):
        for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
            importlib.import_module(f"{package.__name__}.{module}")
    found = {id: one for id, one in sorted(CASES.items()) if one.role == role}
    for known in found.values():
        if isinstance(known.twin, str):
            if known.twin not in found:
                raise ValueError(f"{known.id}: its twin {known.twin} does not exist")
            if found[known.twin].twin is not None:
                raise ValueError(f"{known.id}: its twin {known.twin} is not a positive case")
            if found[known.twin].exclusive and not known.exclusive:
                raise ValueError(f"{known.id}: its twin runs alone, so it must run alone too")
    return found
