"""The ends of a call-home connection, alone and against each other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from muxwire_spec import callhome
from muxwire_spec.interpret import WCH
from muxwire_spec.vectors.build import END, ERROR, META, MORE, error, frame, meta

from muxwire_fuzz import ends, homerun, mutate, wire
from muxwire_fuzz.harness import Target
from muxwire_fuzz.script import Record, Script, Tag, write

_PREFACE = callhome.PREFACE.build(
    {"ver_hi": 1, "ver_lo": 1, "header_size": 32, "idle_timeout_ms": 0}
)
_WAIT = Record(Tag.WAIT, (4_000).to_bytes(4))


def _act(side: int, action: int, which: int = 0, size: int = 1) -> Record:
    return Record(Tag.ACT, bytes((side, action, which, size)))


def _frame(kind: str, payload: bytes = b"", **header: int) -> Record:
    return Record(Tag.OCTETS, frame(kind, payload, request_id=ends.ME, **header))


_HELLO = _frame("HELLO", ends.TOKEN)
_BODIES = (
    (_frame("RESPONSE", b"one"), _frame("RESPONSE", b"", seq=1, flags=END)),
    (
        _frame("RESPONSE", meta([(b"k", b"v")]), flags=META | MORE),
        _frame("RESPONSE", seq=1, flags=END),
    ),
    (_frame("RESPONSE", error(), flags=END | ERROR),),
    (_frame("RESPONSE", b"a", flags=MORE), _frame("RESPONSE", meta([]), seq=1, flags=END | META)),
)


def seeds() -> Iterator[bytes]:
    """Yield every frame vector, and runs of a stream with each thing that can happen in it."""
    for mode, role in enumerate(("worker", "router")):
        preface = Record(Tag.OCTETS, _PREFACE)
        for vector in wire.vectors(WCH, role):
            records = [preface, Record(Tag.OCTETS, vector.octets)]
            yield write(Script(mode, records))
            yield write(Script(mode, [_act(0, 0), *records]))
    preface = Record(Tag.OCTETS, _PREFACE)
    for body, action in product(_BODIES, range(9)):
        post = [_act(0, 0), _act(0, 1)]
        yield write(Script(1, [preface, *post, _HELLO, body[0], _act(0, action), *body[1:], _WAIT]))
        yield write(Script(1, [preface, *post, _act(0, action), _HELLO, *body, _HELLO]))
    for answer, action in product(("ACCEPT", "REJECT", "DONE", "STOP", "KILL"), range(9)):
        payload = bytes(4) if answer in ("REJECT", "STOP", "KILL") else b""
        hello = (
            [preface, _act(0, 0), _frame("ACCEPT")] if answer != "ACCEPT" else [preface, _act(0, 0)]
        )
        yield write(Script(0, [*hello, _frame(answer, payload), _act(0, action), _WAIT]))
        yield write(Script(0, [*hello, _act(0, 1), _act(0, action), _frame(answer, payload)]))
    for action, side in product(range(9), (0, 1)):
        begun = [_act(1, 0), _act(1, 1), _act(0, 0), _act(0, 1, 0, 8)]
        done = [_act(0, 3), _act(0, 0, 1)]
        yield write(Script(2, [*begun, _act(side, action), *done, _WAIT]))
        yield write(Script(2, [*begun[:2], _act(side, action), *begun[2:], *done]))
    for what in range(len(homerun.LINK)):
        link = Record(Tag.LINK, bytes((what, 0, 3, 1)))
        yield write(Script(2, [*begun, link, *done, _WAIT]))


TARGET = Target(
    name="callhome",
    doc="the ends of a call-home connection, alone and against each other",
    check=homerun.run,
    seeds=seeds,
    mutate=mutate.mutate,
    cross=mutate.cross,
    smaller=mutate.smaller,
    tokens=wire.tokens,
    show=homerun.in_words,
    watch=("muxwire.core.callhome", "muxwire._generated.codec"),
    longest=2_048,
)
