"""However octets are cut, the same happens: in the decoder, and in each of the four ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from muxwire_spec import callhome
from muxwire_spec import frames as f
from muxwire_spec.interpret import WCH, WMX
from muxwire_spec.vectors.build import preface

from muxwire_fuzz import ends, mutate, show, wire
from muxwire_fuzz.harness import Target, equal
from muxwire_fuzz.roles import ROLES
from muxwire_fuzz.script import read, sent, split, write
from muxwire_fuzz.targets import decoder

_PREFACES = {
    WMX: preface(ver_hi=1, ver_lo=1),
    WCH: callhome.PREFACE.build(
        {"ver_hi": 1, "ver_lo": 1, "header_size": f.HEADER_SIZE, "idle_timeout_ms": 0}
    ),
}
ONE_BY_ONE = 1_500
"""Octets up to which an input is also fed octet by octet."""


def check(data: bytes) -> None:
    """Feed the same octets whole, as the records cut them, and octet by octet."""
    script = read(data)
    role, receiver = decoder.role_of(script.options)
    octets = script.octets
    cuts = [script.pieces]
    if len(octets) <= ONE_BY_ONE:
        cuts.append([octets[at : at + 1] for at in range(len(octets))])
    behind = octets.removeprefix(octets[: f.PREFACE_SIZE]) if _has_preface(octets) else octets
    limit = receiver.max_frame_size
    whole = decoder.decode(role, limit, [behind])
    for pieces in cuts:
        shorter = _shorten(pieces, len(octets) - len(behind))
        equal(decoder.decode(role, limit, shorter), whole, "FRM-011: a decoder sees no cuts")
    heard = _hear(script.options, [octets])
    for pieces in cuts:
        equal(_hear(script.options, pieces), heard, "FRM-011: an end sees no cuts")


def _hear(options: int, pieces: list[bytes]) -> tuple[Any, ...]:
    """Return everything that an end does about octets that all arrive at one time."""
    end = ends.make(options % 4)
    for piece in pieces:
        end.receive_data(piece, ends.START)
    said = b""
    while data := end.data_to_send(ends.START):
        said += data
    return end.events(), said, end.close_action, end.next_timeout(), end.buffered_bytes


def _has_preface(octets: bytes) -> bool:
    return octets.startswith((f.MAGIC, callhome.MAGIC))


def _shorten(pieces: list[bytes], by: int) -> list[bytes]:
    """Return pieces without their first octets."""
    left = []
    for piece in pieces:
        left.append(piece[by:])
        by = max(by - len(piece), 0)
    return left


def seeds() -> Iterator[bytes]:
    """Yield what the decoder is fed, and the conversations, each frame in a record of its own."""
    for seed in decoder.seeds():
        script = read(seed)
        protocol = ROLES[script.options % 4].protocol
        magic = _PREFACES[protocol]
        pieces = [piece for piece in script.pieces if not _has_preface(piece)]
        yield sent(magic[:9], magic[9:], *pieces, options=script.options)
    for conversation in wire.conversations_of("streams"):
        number = [role.name for role in ROLES].index(conversation["role"])
        script = read(wire.script_of(conversation, number))
        if len(script.octets) <= f.CONTROL_PAYLOAD_LIMIT:
            yield write(script._replace(records=_cut(script.octets)))


def _cut(octets: bytes) -> list[Any]:
    return [record for piece in split(octets) for record in read(sent(piece)).records]


def in_words(data: bytes) -> str:
    """Return an input as text."""
    role, _ = decoder.role_of(read(data).options)
    return show.script(data, role.name, f"a {role.name} of {role.protocol}", role.protocol)


TARGET = Target(
    name="chunking",
    doc="octets cut in any way: the decoder and all four ends do the same",
    check=check,
    seeds=seeds,
    mutate=mutate.mutate,
    cross=mutate.cross,
    smaller=mutate.smaller,
    tokens=wire.tokens,
    show=in_words,
    watch=("muxwire._generated.codec", "muxwire.core"),
)
