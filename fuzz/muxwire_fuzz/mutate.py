"""Changing inputs that are scripts of frames, so that most of them stay nearly right.

Rules of this file: a change takes one thing (a record, a frame, a field, some octets) and drops,
doubles, swaps, splices or replaces it.  After a change of a payload the declared length is mended
three times out of four and is a lie otherwise.  Randomness is an argument.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from muxwire_spec import frames as f
from muxwire_spec import registries as r

from muxwire_fuzz import wire
from muxwire_fuzz.harness import Random
from muxwire_fuzz.script import Record, Script, Tag, joined, read, split, write

_HEADER = struct.Struct(">BBBBIQ16s")
_U64 = 2**64 - 1
_Records = list[Record]


def mutate(data: bytes, longest: int, random: Random) -> bytes:
    """Return a changed script of at most `longest` octets."""
    script = read(data)
    options, records = script.options, list(script.records)
    for _ in range(random.choice((1, 1, 1, 2, 2, 4))):
        if not records or random.random() < 0.04:
            options = random.randrange(256)
        if not records:
            records.append(_invented(random))
        else:
            random.choice(_CHANGES)(records, random)
    return write(Script(options, records))[:longest]


def cross(one: bytes, other: bytes, longest: int, random: Random) -> bytes:
    """Return the beginning of one script and the end of another."""
    left, right = read(one), read(other)
    head = left.records[: random.randint(0, len(left.records))]
    tail = right.records[random.randint(0, len(right.records)) :]
    return write(Script(left.options, head + tail))[:longest]


def smaller(data: bytes) -> Iterator[bytes]:
    """Yield scripts with less in them: fewer records, fewer frames, fewer octets."""
    options, records = read(data)
    for start, end in _spans(len(records)):
        yield write(Script(options, records[:start] + records[end:]))
    for at, (tag, body) in enumerate(records):
        pieces = split(body) if tag <= Tag.FILLED else [body]
        for start, end in _spans(len(pieces)):
            less = Record(tag, b"".join(pieces[:start] + pieces[end:]))
            yield write(Script(options, [*records[:at], less, *records[at + 1 :]]))
        for start, end in _spans(len(body)):
            less = Record(tag, body[:start] + body[end:])
            yield write(Script(options, [*records[:at], less, *records[at + 1 :]]))
    yield write(Script(options, joined(records)))


def _spans(length: int) -> Iterator[tuple[int, int]]:
    """Yield parts to leave out: halves, quarters, and so on down to single ones."""
    size = length
    while size:
        yield from ((at, at + size) for at in range(0, length, size))
        size //= 2


# -- records


def _drop(records: _Records, random: Random) -> None:
    del records[random.randrange(len(records))]


def _double(records: _Records, random: Random) -> None:
    at = random.randrange(len(records))
    records.insert(random.randint(at, len(records)), records[at])


def _swap(records: _Records, random: Random) -> None:
    one, other = random.randrange(len(records)), random.randrange(len(records))
    records[one], records[other] = records[other], records[one]


def _insert(records: _Records, random: Random) -> None:
    records.insert(random.randint(0, len(records)), _invented(random))


def _cut(records: _Records, random: Random) -> None:
    at = random.randrange(len(records))
    tag, body = records[at]
    if tag is Tag.OCTETS and len(body) > 1:
        middle = random.randrange(1, len(body))
        records[at : at + 1] = [Record(tag, body[:middle]), Record(tag, body[middle:])]


def _join(records: _Records, random: Random) -> None:
    at = random.randrange(len(records))
    records[at : at + 3] = joined(records[at : at + 3])


def _retag(records: _Records, random: Random) -> None:
    at = random.randrange(len(records))
    other = Tag.FILLED if records[at].tag is Tag.OCTETS else Tag.OCTETS
    if records[at].tag <= Tag.FILLED:
        records[at] = Record(other, records[at].body)


def _tweak(records: _Records, random: Random) -> None:
    """Change octets anywhere."""
    at = random.randrange(len(records))
    tag, body = records[at]
    records[at] = Record(tag, _noise(body, random))


# -- frames


def _change_frames(records: _Records, random: Random) -> None:
    """Drop, double, swap or splice frames, or change one."""
    places = [at for at, record in enumerate(records) if record.tag <= Tag.FILLED and record.body]
    if not places:
        return
    at = random.choice(places)
    frames = split(records[at].body)
    which = random.randrange(len(frames))
    match random.randrange(12):
        case 0:
            del frames[which]
        case 1:
            frames.insert(random.randint(0, len(frames)), frames[which])
        case 2:
            other = random.randrange(len(frames))
            frames[which], frames[other] = frames[other], frames[which]
        case 3:
            source = split(records[random.choice(places)].body)
            frames.insert(which, random.choice(source))
        case 4 | 5:
            frames.insert(random.randint(0, len(frames)), _new_frame(random))
        case 6 | 7 | 8:
            frames[which] = _change_header(frames[which], random)
        case _:
            frames[which] = _change_payload(frames[which], random)
    records[at] = Record(records[at].tag, b"".join(frames))


def _change_header(frame: bytes, random: Random) -> bytes:
    """Change one field of a header."""
    if len(frame) < f.HEADER_SIZE:
        return _noise(frame, random)
    fields = list(_HEADER.unpack_from(frame))
    which = random.choice((1, 2, 2, 3, 3, 4, 4, 5, 6, 6, 0))
    fields[which] = (
        lambda: random.choice((f.MARKER, f.MARKER, 0)),
        lambda: random.choice(wire.TYPES),
        lambda: random.choice((fields[2] ^ 1 << random.randrange(8), random.randrange(16))),
        lambda: random.choice(wire.SUBTYPES),
        lambda: random.choice((0, 1, 2, fields[4] + 1, fields[4] - 1, 2**32 - 1)) & 0xFFFFFFFF,
        lambda: random.choice((*wire.NUMBERS, fields[5] + 1, fields[5] - 1)) & _U64,
        lambda: random.choice(wire.IDS),
    )[which]()
    return _HEADER.pack(*fields) + frame[f.HEADER_SIZE :]


def _change_payload(frame: bytes, random: Random) -> bytes:
    """Change what stands behind a header; its length is mended, or becomes a lie."""
    if len(frame) < f.HEADER_SIZE:
        return _noise(frame, random)
    payload = frame[f.HEADER_SIZE :]
    header = frame[: f.HEADER_SIZE]
    kind = header[1]
    if random.random() < 0.4 and payload:
        payload = _change_number(payload, random)
    elif random.random() < 0.2:
        payload = _new_payload(kind, header[2], header[3], random)
    else:
        payload = _noise(payload, random)
    if random.random() < 0.75:
        header = header[:8] + len(payload).to_bytes(8) + header[16:]
    return header + payload


def _change_number(payload: bytes, random: Random) -> bytes:
    """Replace an integer somewhere by one that matters, or by a neighbour."""
    size = random.choice((1, 2, 4, 8))
    at = random.randrange(len(payload))
    old = int.from_bytes(payload[at : at + size])
    new = random.choice((old + 1, old - 1, random.choice(wire.NUMBERS), len(payload)))
    return payload[:at] + (new % (1 << 8 * size)).to_bytes(size) + payload[at + size :]


def _new_payload(kind: int, flags: int, subtype: int, random: Random) -> bytes:
    """Make a payload that a frame with this header could have."""
    if kind == r.FRAME_TYPES.value("CONTROL"):
        if subtype == r.CONTROL_SUBTYPES.value("SETTINGS"):
            pairs = [
                (rule.value, random.choice((rule.minimum, rule.recommended, rule.maximum)))
                for rule in random.sample(r.SETTINGS, random.randint(0, len(r.SETTINGS)))
            ]
            return b"".join(id.to_bytes(2) + value.to_bytes(8) for id, value in pairs)
        return random.choice(wire.NUMBERS).to_bytes(8)[-random.choice((4, 8)) :]
    if kind == r.FRAME_TYPES.value("HEARTBEAT"):
        return random.randbytes(8)
    size = random.choice((0, 1, 5, 64))
    if flags & r.FLAGS.value("ERROR"):
        code = random.choice(r.ERROR_CODES.entries).value
        return code.to_bytes(4) + random.choice((0, 1, 2)).to_bytes(2) + bytes(6)
    if flags & r.FLAGS.value("META"):
        block = wire.metadata(kind == r.FRAME_TYPES.value("REQUEST"), random)
        return len(block).to_bytes(4) + block + bytes(size)
    return bytes(size)


def _new_frame(random: Random) -> bytes:
    """Make a frame of a kind that exists."""
    kind = random.choice(wire.FRAMES)
    type_ = r.FRAME_TYPES.value(kind.type)
    subtype = wire.subtype(kind)
    flags = random.choice((0, 1, 2, 4, 5, 6, 9)) & kind.flags
    payload = _new_payload(type_, flags, subtype, random)
    id = bytes(16) if kind.scope == "connection" else random.choice(wire.IDS)
    seq = 0 if kind.subtype or flags & r.FLAGS.value("META") else random.randrange(4)
    return _HEADER.pack(f.MARKER, type_, flags, subtype, seq, len(payload), id) + payload


def _invented(random: Random) -> Record:
    """Make a record of any kind."""
    match random.randrange(6):
        case 0:
            return Record(Tag.WAIT, random.choice((1, 100, 1_000, 30_000, 700_000)).to_bytes(4))
        case 1 | 2:
            return Record(Tag.ACT, random.randbytes(random.choice((2, 4, 6))))
        case 3 if random.random() < 0.3:
            return Record(Tag.LINK, random.randbytes(4))
        case _:
            tag = Tag.FILLED if random.random() < 0.1 else Tag.OCTETS
            return Record(tag, _new_frame(random))


def _noise(octets: bytes, random: Random) -> bytes:
    """Change octets without regard to what they mean."""
    at = random.randint(0, len(octets))
    match random.randrange(6):
        case 0:
            return octets[:at] + random.randbytes(random.choice((1, 2, 4))) + octets[at:]
        case 1:
            return octets[:at] + octets[at + random.choice((1, 2, 4, 16)) :]
        case 2 if octets:
            at %= len(octets)
            return octets[:at] + bytes((octets[at] ^ 1 << random.randrange(8),)) + octets[at + 1 :]
        case 3:
            return octets[:at]
        case 4:
            token = random.choice(wire.tokens())
            return octets[:at] + token + octets[at:]
        case _:
            token = random.choice(wire.tokens())
            return octets[:at] + token + octets[at + len(token) :]


_CHANGES: tuple[Callable[[_Records, Random], None], ...] = (
    *(_drop, _double, _swap, _insert, _insert, _cut, _join, _retag, _tweak),
    *(_change_frames,) * 8,
)
