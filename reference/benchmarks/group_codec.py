"""Codec: the generated one against construct, in this process and without a network."""

from __future__ import annotations

import time
from collections.abc import Callable

from results import Group, paired
from session import Session

GENERATED, CONSTRUCT = "generated codec", "construct"
FRAMES = 2_000
FEWER = 100
"""Frames that construct gets in the time of a few thousand."""
DATA = bytes(range(64))
SUBJECT = b"conformance.echo"


def measure(session: Session) -> Group:
    """Measure the group."""
    group = Group("codec", "Codec: one frame with 64 octets of data, us/frame")
    group.columns = {
        "decode": "decode RESPONSE",
        "encode": "encode RESPONSE",
        "decode open": "decode OPEN",
        "encode open": "encode OPEN",
    }
    group.rows = [GENERATED, CONSTRUCT]
    try:
        work = {GENERATED: _generated(), CONSTRUCT: _construct()}
    except ModuleNotFoundError as error:
        reason = f"not measured: {error.name} is not installed"
        group.reasons = {GENERATED: reason, CONSTRUCT: reason}
        return group
    for _ in session.runs(group):
        for column in group.columns:
            for row, (number, functions) in work.items():
                best = min(_seconds(functions[column], number) for _ in range(3))
                group.add(row, column, 1e6 * best / number)
    for column, heading in group.columns.items():
        values = paired(group.get(CONSTRUCT, column), group.get(GENERATED, column))
        if values:
            middle = sorted(values)[len(values) // 2]
            group.notes.append(
                f"{heading}: {middle:.0f} times as fast as construct "
                f"({min(values):.0f}..{max(values):.0f})"
            )
    return group


Work = tuple[int, dict[str, Callable[[int], object]]]


def _seconds(work: Callable[[int], object], number: int) -> float:
    begun = time.perf_counter()
    work(number)
    return time.perf_counter() - begun


def _generated() -> Work:
    from muxwire._generated import codec

    request_id = bytes(15) + b"\1"
    header = codec.response_header
    block = codec.encode_open(30_000, 0, SUBJECT, [])
    settings = codec.encode_settings([])
    frames = b"".join([header(0, seq, len(DATA), request_id) + DATA for seq in range(FRAMES)])
    payload = block + DATA

    def decode(number: int) -> None:
        decoder = codec.FrameDecoder(codec.CLIENT, 65_536)
        decoder.feed(settings)
        list(decoder.frames())
        decoder.feed(frames)
        found = sum([len(data) for _, _, _, _, data in decoder.frames()])
        if found != number * len(DATA):
            raise ValueError("a wrong result")

    def encode(number: int) -> None:
        parts = []
        for seq in range(number):
            parts.append(header(0, seq, len(DATA), request_id))
            parts.append(DATA)
        if b"".join(parts) != frames:
            raise ValueError("a wrong result")

    def decode_open(number: int) -> None:
        for _ in range(number):
            if codec.decode_open(payload, 16_384).body != DATA:
                raise ValueError("a wrong result")

    def encode_open(number: int) -> None:
        for _ in range(number):
            codec.encode_open(30_000, 0, SUBJECT, []) + DATA

    return FRAMES, {
        "decode": decode,
        "encode": encode,
        "decode open": decode_open,
        "encode open": encode_open,
    }


def _construct() -> Work:
    from muxwire._generated import codec
    from muxwire_spec import frames as spec

    request_id = bytes(15) + b"\1"
    octets = b"".join(
        [codec.response_header(0, seq, len(DATA), request_id) + DATA for seq in range(FEWER)]
    )
    block = codec.encode_open(30_000, 0, SUBJECT, []) + DATA
    size = 32 + len(DATA)

    def decode(number: int) -> None:
        for index in range(number):
            at = index * size
            header = spec.HEADER.parse(octets[at : at + 32])
            end = at + 32 + header.payload_length
            if spec.DATA.parse(octets[at + 32 : end]).data != DATA:
                raise ValueError("a wrong result")

    def encode(number: int) -> None:
        header = spec.HEADER.parse(octets[:32])
        parts = []
        for seq in range(number):
            header.seq = seq
            parts.append(spec.HEADER.build(header) + spec.DATA.build({"data": DATA}))
        if b"".join(parts) != octets:
            raise ValueError("a wrong result")

    opened = spec.OPEN.parse(block, max_metadata_size=16_384)

    def decode_open(number: int) -> None:
        for _ in range(number):
            if spec.OPEN.parse(block, max_metadata_size=16_384).body != DATA:
                raise ValueError("a wrong result")

    def encode_open(number: int) -> None:
        for _ in range(number):
            if spec.OPEN.build(opened, max_metadata_size=16_384) != block:
                raise ValueError("a wrong result")

    return FEWER, {
        "decode": decode,
        "encode": encode,
        "decode open": decode_open,
        "encode open": encode_open,
    }
