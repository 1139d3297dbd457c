"""One end of a WMX/1 connection, client or worker, fed frames, actions and time."""

from __future__ import annotations

from collections.abc import Iterator

from muxwire_spec.vectors.build import preface
from muxwire_spec.vectors.conversation import data, go_away, kill, open_, setup, stop, update

from muxwire_fuzz import conversation, mutate, wire
from muxwire_fuzz.harness import Target
from muxwire_fuzz.roles import CLIENT
from muxwire_fuzz.script import Record, Script, Tag, write

_ASK = Record(Tag.ACT, bytes((3, 0, 1, 1 | 32)))
_UNARY = Record(Tag.ACT, bytes((3, 0, 1, 1 | 32 | 64)))
_HELLO = Record(
    Tag.OCTETS, preface(ver_hi=1, ver_lo=1) + setup() + bytes.fromhex("f7030002") + bytes(28)
)


def seeds() -> Iterator[bytes]:
    """Yield the conversations of the specification, and a few in which the application acts."""
    for folder in ("streams", "timed"):
        for found in wire.conversations_of(folder):
            yield wire.script_of(found, int(found["role"] == CLIENT.name))
    yield from _answers()
    yield from _handlers()


def _answers() -> Iterator[bytes]:
    """Yield a client that asks, and answers of every kind."""
    from muxwire_spec.vectors.build import END, ERROR, META, MORE, error, frame, meta
    from muxwire_spec.vectors.conversation import rid

    def answer(seq: int, flags: int, payload: bytes) -> Record:
        return Record(
            Tag.OCTETS, frame("RESPONSE", payload, flags=flags, seq=seq, request_id=rid(1))
        )

    bodies = (
        (answer(0, 0, b"one"), answer(1, END, b"")),
        (answer(0, META | MORE, meta([(b"k", b"v")], body=b"o")), answer(1, END, b"ne")),
        (answer(0, END, b"one"),),
        (answer(0, END | ERROR, error()),),
        (answer(0, 0, b"one"), answer(1, END | META, meta([(b"t", b"v")]))),
    )
    acts = [Record(Tag.ACT, bytes((action, 0, 1, 0))) for action in range(9)]
    for body in bodies:
        for ask in (_ASK, _UNARY):
            yield write(Script(1, [_HELLO, ask, *body]))
            for act in acts:
                yield write(Script(1, [_HELLO, ask, body[0], act, *body[1:]]))
                yield write(Script(1, [ask, act, _HELLO, *body]))


def _handlers() -> Iterator[bytes]:
    """Yield a worker whose handlers do what they can do."""
    opened = Record(Tag.OCTETS, open_(1, "a.b", b"body", flags=0))
    acts = [
        Record(Tag.ACT, bytes((action, 0, size, more)))
        for action in range(7)
        for size, more in ((1, 0), (8, 1))
    ]
    more = Record(Tag.OCTETS, data(1, 1, b"more"))
    credit = Record(Tag.OCTETS, update(0, 1 << 30) + update(1, 1 << 30))
    wait = Record(Tag.WAIT, (6_000).to_bytes(4))
    words = [more, *(Record(Tag.OCTETS, frame) for frame in (kill(1), stop(1), go_away()))]
    for options in (0, 2, 4):
        for act in acts:
            yield write(Script(options, [_HELLO, opened, act, more, act, wait, credit, acts[6]]))
            for word in words:
                yield write(Script(options, [_HELLO, opened, word, act, wait, credit, word]))


TARGET = Target(
    name="connection",
    doc="one end of a WMX/1 connection, client or worker, fed frames, actions and time",
    check=conversation.run,
    seeds=seeds,
    mutate=mutate.mutate,
    cross=mutate.cross,
    smaller=mutate.smaller,
    tokens=wire.tokens,
    show=conversation.in_words,
    watch=("muxwire.core", "muxwire._generated.codec"),
)
