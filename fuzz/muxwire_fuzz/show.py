"""An input in words: what a person reads when something was found."""

from __future__ import annotations

from collections.abc import Callable

from muxwire_spec.hexdump import annotate_stream, render
from muxwire_spec.interpret import WMX

from muxwire_fuzz.script import Record, Tag, octets_of, read

MOST = 2_000
"""Octets of one record that are shown."""
Words = Callable[[int, Record], str]


def script(
    data: bytes,
    receiver: str,
    options: str,
    protocol: str = WMX,
    words: Words | None = None,
) -> str:
    """Return a script as text.

    Args:
        data: The input.
        receiver: Whose rules decide which field is marked.
        options: What the octet of options says, in words.
        protocol: "WMX/1" or "WCH/1".
        words: Says what a record means that is no octets.
    """
    found = read(data)
    lines = [f"options {found.options:#04x}: {options}"]
    for number, record in enumerate(found.records):
        lines.append(f"record {number}, {record.tag.name}: {_title(number, record, words)}")
        if record.tag <= Tag.FILLED:
            octets = octets_of(record)[:MOST]
            for block in annotate_stream(octets, receiver=receiver, protocol=protocol):
                lines += ["  " + line for line in render(block).splitlines()]
    return "\n".join(lines)


def _title(number: int, record: Record, words: Words | None) -> str:
    if record.tag <= Tag.FILLED:
        return f"{len(octets_of(record))} octets"
    if record.tag is Tag.WAIT:
        return f"{wait_of(record)} ms"
    return words(number, record) if words else record.body.hex(" ")


def wait_of(record: Record) -> int:
    """Return how many milliseconds a record waits."""
    return int.from_bytes(record.body[:4]) % 1_000_000
