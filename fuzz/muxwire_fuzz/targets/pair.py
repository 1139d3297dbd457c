"""A client and a worker against each other, with an adversary on the link."""

from __future__ import annotations

from collections.abc import Iterator

from muxwire_fuzz import mutate, pair, wire
from muxwire_fuzz.harness import Target
from muxwire_fuzz.script import Record, Script, Tag, write

_ASK = Record(Tag.ACT, bytes((0, 3, 0, 1, 33)))
_UNARY = Record(Tag.ACT, bytes((0, 3, 0, 3, 96)))
_LONG = Record(Tag.ACT, bytes((0, 3, 0, 8, 35)))
_WAIT = Record(Tag.WAIT, (4_000).to_bytes(4))


def seeds() -> Iterator[bytes]:
    """Yield requests of each kind, each with every action and with every disturbance."""
    acts = [Record(Tag.ACT, bytes((0, action, 0, 8, 2))) for action in range(9)]
    acts += [Record(Tag.ACT, bytes((1, action, 0, 8, 0))) for action in range(7)]
    acts += [Record(Tag.LINK, bytes((what, 0, 40, 9))) for what in range(len(pair.LINK))]
    done = Record(Tag.ACT, bytes((1, 3, 0, 0, 0)))
    for options, ask in ((0, _ASK), (8, _UNARY), (26, _LONG), (4, _ASK)):
        for act in acts:
            yield write(Script(options, [ask, act, done, _WAIT]))
            yield write(Script(options, [act, ask, ask, done]))


TARGET = Target(
    name="pair",
    doc="a client and a worker against each other, with an adversary on the link",
    check=pair.run,
    seeds=seeds,
    mutate=mutate.mutate,
    cross=mutate.cross,
    smaller=mutate.smaller,
    tokens=wire.tokens,
    show=pair.in_words,
    watch=("muxwire.core", "muxwire._generated.codec"),
    longest=1_024,
)
