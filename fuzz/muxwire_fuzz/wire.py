"""Values of the specification that a mutator should know, and seeds made from its vectors.

Rules of this file: everything is computed from `muxwire_spec`, so a new kind of frame, a new code
or a new vector is fuzzed without a line of work here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

from muxwire_spec import callhome, profiles
from muxwire_spec import frames as f
from muxwire_spec import registries as r
from muxwire_spec.emit import conversations
from muxwire_spec.model import FrameKind
from muxwire_spec.spec import load_spec
from muxwire_spec.vectors import VECTORS
from muxwire_spec.vectors.build import REQUEST_ID, Vector
from muxwire_spec.vectors.callhome_frames import VECTORS as CALLHOME_VECTORS
from muxwire_spec.vectors.conversation import rid

from muxwire_fuzz.harness import Random
from muxwire_fuzz.script import Record, Script, Tag, write

FRAMES = (*f.FRAMES, *callhome.FRAMES)
TYPES = (*(entry.value for entry in r.FRAME_TYPES.entries), 0, 0x05, 0x7F, 0x80, 0xFF)
SUBTYPES = (
    *(entry.value for entry in r.CONTROL_SUBTYPES.entries),
    *(entry.value for entry in r.HEARTBEAT_SUBTYPES.entries),
    *(0, 0x10, 0x7F, 0x80, 0xFF),
)
IDS = (bytes(16), b"\xff" * 16, REQUEST_ID, *(rid(number) for number in (1, 2, 3)))
_EDGES = sorted(
    {0, 1, 4, 8, 10, 16, 0x7F, 0xFF, 0xFFFF, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1}
    | {rule.minimum for rule in r.SETTINGS}
    | {rule.maximum for rule in r.SETTINGS}
    | {constant.value for constant in profiles.STANDARD}
    | {f.CONTROL_PAYLOAD_LIMIT, 10 * f.MAX_SETTINGS, callhome.MAX_FRAME_SIZE}
)
NUMBERS = tuple(
    sorted({max(edge + step, 0) for edge in _EDGES for step in (-1, 0, 1) if edge + step < 2**64})
)
"""Each limit of the specification, one less and one more."""


@cache
def tokens() -> tuple[bytes, ...]:
    """Return octets that mean something on the wire: the dictionary."""
    spec = load_spec()
    found = {spec.magic, callhome.MAGIC, bytes((f.MARKER,)), *IDS}
    found |= {bytes((f.MARKER, type_)) for type_ in TYPES}
    found |= {bytes((f.MARKER, 3, 0, subtype)) for subtype in SUBTYPES}
    found |= {number.to_bytes(8) for number in NUMBERS}
    found |= {entry.value.to_bytes(4) for entry in r.ERROR_CODES.entries}
    found |= {rule.value.to_bytes(2) for rule in r.SETTINGS}
    found |= {b"conformance.echo", b"a.b", b"a..b", "\u00e9".encode(), b"\r", b"\n", b"\0"}
    return tuple(sorted(found))


def vectors(protocol: str, receiver: str) -> Iterator[Vector]:
    """Yield the frame vectors that one receiver gets."""
    for vector in (*VECTORS, *CALLHOME_VECTORS):
        if (vector.protocol, vector.receiver) == (protocol, receiver):
            yield vector


@cache
def conversations_of(folder: str) -> tuple[dict[str, Any], ...]:
    """Return the conversations of one folder of `spec/vectors`."""
    files = conversations.emit(load_spec())
    return tuple(
        vector
        for path, octets in sorted(files.items())
        if path.endswith(".json") and f"/{folder}/" in path
        for vector in json.loads(octets).get("vectors", ())
    )


def script_of(conversation: dict[str, Any], options: int) -> bytes:
    """Return a conversation as an input: what the endpoint receives, and when."""
    records = []
    now = 0
    for step in conversation["steps"]:
        if "receive" not in step:
            continue
        if step.get("at", now) > now:
            records.append(Record(Tag.WAIT, (step["at"] - now).to_bytes(4)))
            now = step["at"]
        for part in step["receive"]:
            if isinstance(part, str):
                records.append(Record(Tag.OCTETS, bytes.fromhex(part)))
            else:
                octets = bytes.fromhex(part["repeat"])
                times = min(part["times"], 4_096 // max(len(octets), 1))
                records.append(Record(Tag.OCTETS, octets * times))
    return write(Script(options, records))


def subtype(kind: FrameKind) -> int:
    """Return the subtype octet of a kind of frame, 0 if it has none."""
    if kind.subtype is None:
        return 0
    registry = r.CONTROL_SUBTYPES if kind.type == "CONTROL" else r.HEARTBEAT_SUBTYPES
    return registry.value(kind.name)


_TEXTS = (b"", b"a", b"a.b", b"a..b", b"conformance.echo", b"x" * 64, b"K", b"\xff", b"\r\n", b"\0")


def metadata(request: bool, random: Random) -> bytes:
    """Return the metadata block of an OPEN or of a response, right or nearly right."""
    headers = [
        (random.choice(_TEXTS), random.choice(_TEXTS)) for _ in range(random.choice((0, 0, 1, 2)))
    ]
    lie = random.random() < 0.1
    block = b"".join(
        len(key).to_bytes(1) + key + len(value).to_bytes(2) + value for key, value in headers
    )
    count = (len(headers) + lie).to_bytes(2)
    if not request:
        return count + block
    subject = random.choice((*_TEXTS, b"echo", b"echo"))
    timeout = random.choice((0, 0, 1, 1_000, 2**32 - 1))
    head = timeout.to_bytes(4) + random.choice((0, 1, 2)).to_bytes(2)
    return head + count + len(subject).to_bytes(2) + subject + block
