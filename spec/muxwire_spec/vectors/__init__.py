"""Test vectors: exact octets, and what the specification says that a receiver makes of them.

`GOLDEN` are permanent. The expectations of all others are computed with `interpret`, that is by
construct and by the checks in their order. State beyond "first frame or not" plays no part: what
depends on it (credit, states, sequence numbers) is the business of the conformance suite.
"""

from __future__ import annotations

from typing import Any

from muxwire_spec import callhome, hexdump
from muxwire_spec import frames as f
from muxwire_spec.interpret import Reading, payload_layout, read_frame, receiver_of
from muxwire_spec.vectors.accepted import ACCEPTED, INCOMPLETE
from muxwire_spec.vectors.build import Vector
from muxwire_spec.vectors.golden import GOLDEN, Golden
from muxwire_spec.vectors.refused import REFUSED

__all__ = ["GOLDEN", "VECTORS", "Golden", "Vector", "expectation", "is_preface"]

VECTORS: tuple[Vector, ...] = (
    *(golden.vector for golden in GOLDEN),
    *ACCEPTED,
    *INCOMPLETE,
    *REFUSED,
)


def is_preface(octets: bytes) -> bool:
    """Tell a preface from a frame, by its magic."""
    return octets.startswith((f.MAGIC, callhome.MAGIC))


def expectation(vector: Vector) -> dict[str, Any]:
    """Return what the receiver makes of a vector, in the form of the JSON vectors.

    The only member is `preface`, `frame`, `incomplete` or `error`.
    """
    if is_preface(vector.octets):
        layout = f.PREFACE if vector.octets.startswith(f.MAGIC) else callhome.PREFACE
        return {"preface": _plain(layout.parse(vector.octets))}
    receiver = receiver_of(vector.protocol, vector.receiver, first=vector.first)
    reading = read_frame(vector.octets, receiver)
    if reading.fault is not None:
        return {"error": _error(vector, reading)}
    if reading.header is None or reading.payload is None:
        return {"incomplete": {"size": None if reading.header is None else reading.size}}
    return {"frame": _frame(reading.header, reading.payload, reading)}


def _error(vector: Vector, reading: Reading) -> dict[str, Any]:
    if reading.fault is None:
        raise LookupError(vector.name)
    breach = reading.fault.breach
    lines = hexdump.annotate(
        vector.octets, receiver=vector.receiver, first=vector.first, protocol=vector.protocol
    )
    faulty = next(line for line in lines if line.fault is not None)
    return {
        "code": breach.code,
        "scope": breach.scope.value,
        "requirement": breach.requirement,
        "field": faulty.field,
        "offset": faulty.offset,
    }


def _frame(header: dict[str, Any], payload: dict[str, Any], reading: Reading) -> dict[str, Any]:
    kind = reading.kind
    return {
        "kind": "EXTENSION" if kind is None else kind.name,
        "header": _plain(header),
        "layout": None if kind is None else payload_layout(header, kind).title,
        "payload": _plain(payload),
    }


def _plain(value: Any) -> Any:
    """Turn what construct returns into what JSON can say; octets become hex digits."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if not name.startswith("_")}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value
