"""The full profile: every decoder case once more, with its octets cut, joined and dribbled.

Rules of this file:

* A receiver must not care how octets arrive. So the faulty octets of each case are sent again: cut
  in two at every boundary, in one write behind a legal frame, and octet by octet.
* A variant is a case of its own, named after the case with a plus sign. All its cuts are one
  result; it passes if the case holds for each of them.
* Long octets are cut at each of the first and last boundaries: what lies between is payload.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from muxwire_conformance.case import SAME, Case, CaseFunction
from muxwire_conformance.context import Context

AREAS = frozenset({"FRM", "TYP", "PAY", "SET"})
"""The areas whose cases are about decoding."""

FIRST_CUTS, LAST_CUTS = 64, 8
MOST_DRIBBLED = 96
LIMIT = 60.0


@dataclass(slots=True)
class Delivery:
    """How the octets of a violation are written.

    Attributes:
        kind: split, coalesced or dribbled.
        at: Where to cut, if split.
        longest: How many octets the violation had.
    """

    kind: str
    at: int = 1
    longest: int = 0

    def pieces(self, data: bytes, legal: bytes) -> list[bytes]:
        """Return what to write one after the other.

        Args:
            data: The octets.
            legal: A legal frame that may come right before them, b"" where none may.
        """
        self.longest = len(data)
        if self.kind == "coalesced":
            return [legal + data]
        if self.kind == "split":
            return [piece for piece in (data[: self.at], data[self.at :]) if piece]
        single = [data[n : n + 1] for n in range(min(len(data), MOST_DRIBBLED))]
        return [*single, data[MOST_DRIBBLED:]] if len(data) > MOST_DRIBBLED else single


def variants(cases: Iterable[Case]) -> Iterator[Case]:
    """Return the variants of the cases that have any."""
    for one in cases:
        if (
            one.role == "worker"
            and one.negative
            and one.area in AREAS
            and not one.exclusive
            and not one.timed
        ):
            for kind in ("split", "coalesced", "dribbled"):
                yield replace(
                    one,
                    id=f"{one.id}+{kind}",
                    title=f"{one.title} ({kind})",
                    twin=SAME,
                    limit=LIMIT,
                    function=_function(one, kind),
                )


def _function(one: Case, kind: str) -> CaseFunction:
    async def run(ctx: Context) -> None:
        delivery = ctx.delivery = Delivery(kind)
        if ctx.twin_run:
            delivery.at = 16
            if one.twin is SAME:
                await one.function(ctx)
            return
        await one.function(ctx)
        if kind == "split":
            for at in _cuts(delivery.longest):
                delivery.at = at
                await ctx.close()
                ctx.connections.clear()
                await one.function(ctx)

    return run


def _cuts(length: int) -> Iterator[int]:
    """Return the boundaries behind the first one."""
    yield from range(2, min(length, FIRST_CUTS + 1))
    yield from range(max(FIRST_CUTS + 1, length - LAST_CUTS), length)
