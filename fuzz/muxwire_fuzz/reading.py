"""What the specification says about a whole stream of octets: the oracle of the wire targets.

Rules of this file: it uses `muxwire_spec` alone, which shares no code with the generated codec.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from muxwire_spec import callhome, profiles
from muxwire_spec import frames as f
from muxwire_spec import registries as r
from muxwire_spec.interpret import Fault, Reading, Receiver, payload_layout, read_frame
from muxwire_spec.vocabulary import Broken, Layout

END, MORE, META, ERROR = (r.FLAGS.value(name) for name in ("END_STREAM", "MORE", "META", "ERROR"))
LAYOUTS: dict[str, Layout] = {layout.title: layout for layout in (*f.LAYOUTS, *callhome.LAYOUTS)}
FRAME_COST = next(item.value for item in profiles.STANDARD if item.name == "FRAME_COST")
SHORT = 256
"""Octets up to which what was read is remembered."""
Error = tuple[str, str, str]
"""Code, scope and requirement."""


class Told(NamedTuple):
    """A frame as a decoder has to tell it."""

    kind: str
    flags: int
    seq: int
    request_id: bytes
    payload: bytes


@dataclass(slots=True)
class Whole:
    """A stream that has been read: its frames, and the header that ends it."""

    frames: list[Told]
    error: Error | None
    left: int
    """Octets behind the last frame."""


def read_stream(data: bytes, receiver: Receiver) -> Whole:
    """Read a stream behind its preface, as far as headers decide."""
    found: list[Told] = []
    at = 0
    for reading in readings(data, receiver):
        fault = reading.fault
        if fault is not None and fault.step != "payload":
            return Whole(found, error_of(fault), len(data) - at)
        if not reading.complete or reading.header is None:
            break
        found.append(told(reading, data[at + f.HEADER_SIZE : at + reading.size]))
        at += reading.size
    return Whole(found, None, len(data) - at)


def readings(data: bytes, receiver: Receiver) -> Iterator[Reading]:
    """Yield what the specification says about each frame, up to one that is faulty or not whole."""
    at = 0
    first = receiver.role in ("worker", "client") and receiver.protocol == "WMX/1"
    while at < len(data):
        end = at + f.HEADER_SIZE + int.from_bytes(data[at + 8 : at + 16])
        reading = read_one(data[at:end], receiver, first=first and not at)
        yield reading
        if not reading.complete or (reading.fault is not None and reading.fault.step != "payload"):
            return
        at += reading.size


def told(reading: Reading, payload: bytes) -> Told:
    """Return a complete frame with the flags that this version knows."""
    header: dict[str, Any] = reading.header or {}
    name = reading.kind.name if reading.kind else "EXTENSION"
    return Told(
        name, header["flags"] & f.FLAG_MASK, header["seq"], bytes(header["request_id"]), payload
    )


def error_of(fault: Fault) -> Error:
    """Return what a fault leads to."""
    breach = fault.breach
    return breach.code, breach.scope.value, breach.requirement


def layout_of(reading: Reading) -> str | None:
    """Return the name of the layout of a frame's payload, None for an extension."""
    if reading.kind is None or reading.header is None:
        return None
    return payload_layout(reading.header, reading.kind).title


def read_payload(layout: str, octets: bytes, metadata_limit: int) -> dict[str, Any] | Error:
    """Return the fields of a payload, laid out flat, or what is wrong with it."""
    try:
        value = LAYOUTS[layout].read(octets, MAX_METADATA_SIZE=metadata_limit)
    except Broken as broken:
        return broken.breach.code, broken.breach.scope.value, broken.breach.requirement
    return _flat(value)


def cost_of(flags: int, payload: bytes) -> int:
    """Return the cost of a REQUEST or RESPONSE (section 10.1)."""
    exempt = flags & ERROR or (flags & END and not payload)
    return 0 if exempt else FRAME_COST + len(payload)


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if name.startswith("_") or name == "header_count":
            continue
        if isinstance(item, dict):
            flat |= _flat(item)
        elif isinstance(item, list):
            flat[name] = [tuple(_flat(entry).values()) for entry in item]
        else:
            flat[name] = item
    return flat


def read_one(octets: bytes, receiver: Receiver, *, first: bool) -> Reading:
    """Read the frame at the start of some octets; short ones are read once and remembered."""
    if receiver.first != first:
        receiver = replace(receiver, first=first)
    return _remembered(octets, receiver) if len(octets) <= SHORT else read_frame(octets, receiver)


_remembered = lru_cache(maxsize=20_000)(read_frame)
