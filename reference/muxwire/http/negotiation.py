"""Which format an answer has: the choice of P1-001, from the table of formats.

Rules of this file: a member of Accept that cannot be parsed does not exist.  The weight of a media
type is that of the most specific range that matches it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from muxwire._generated.http import FORMATS
from muxwire.errors import InvalidArgument

SSE, NDJSON, BINARY = FORMATS
DEFAULT = SSE

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_RANGE = re.compile(rf"\s*({_TOKEN})/({_TOKEN})\s*")
_PARAMETER = re.compile(rf';\s*({_TOKEN})\s*=\s*({_TOKEN}|"[^"]*")\s*')
_MEMBER = re.compile(r'(?:[^,"]|"[^"]*")+')
_WEIGHT = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
_ANY = ("*", "*")


class Choice(NamedTuple):
    """A format, and the media type by which it is answered."""

    format: str
    media_type: str


def check_format(name: str) -> str:
    """Return the name of a format.

    Raises:
        InvalidArgument: There is none of that name.
    """
    if name not in FORMATS:
        raise InvalidArgument(f"{name!r} is not a format: one of {', '.join(FORMATS)} (P1-001)")
    return name


def negotiate(accept: str | None, default: str = DEFAULT) -> Choice | None:
    """Return the format and media type of an answer, or None for 406.

    Args:
        accept: The field Accept; several are joined with commas.  None: there is none.
        default: The format that is preferred to others of the same weight.
    """
    ranges = list(_ranges(accept or "")) or [(_ANY, 1.0)]
    best, chosen = 0.0, None
    for name in sorted(FORMATS, key=lambda name: name != default):  # stable: the table's order
        for media_type in FORMATS[name]:
            weight = _weight(ranges, media_type)
            if weight > best:
                best, chosen = weight, Choice(name, media_type)
    return chosen


def _ranges(accept: str) -> Iterator[tuple[tuple[str, str], float]]:
    for member in _MEMBER.findall(accept):
        found = _RANGE.match(member)
        if found is None or (found[1] == "*" != found[2]):
            continue
        weight, position = "1", found.end()
        while position < len(member):
            parameter = _PARAMETER.match(member, position)
            if parameter is None:
                break
            if parameter[1].lower() == "q":
                weight = parameter[2]
            position = parameter.end()
        if position == len(member) and _WEIGHT.fullmatch(weight):
            yield (found[1].lower(), found[2].lower()), float(weight)


def _weight(ranges: list[tuple[tuple[str, str], float]], media_type: str) -> float:
    major, _, minor = media_type.partition("/")
    for wanted in ((major, minor), (major, "*"), _ANY):
        weights = [weight for found, weight in ranges if found == wanted]
        if weights:
            return max(weights)
    return 0.0
