"""Changing inputs that are text: lines, words that mean something, and single octets.

Rules of this file: it knows no format.  What the words are is an argument.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from muxwire_fuzz.harness import Random

_NUMBER = re.compile(rb"[0-9]+(?:\.[0-9]+)?")
_NUMBERS = (
    *(b"0", b"-1", b"-0", b"1", b"00", b"0.0", b"1e0", b"1e999", b"-1e999", b"Infinity", b"NaN"),
    *(b"255", b"256", b"65535", b"65536", b"4294967295", b"4294967296", b"9" * 21, b"9" * 400),
)


def change(text: bytes, words: Sequence[bytes], random: Random) -> bytes:
    """Return a text with one thing changed."""
    match random.randrange(10):
        case 0 | 1:
            return _change_lines(text, random)
        case 2 | 3 | 4:
            at = random.randint(0, len(text))
            return text[:at] + random.choice(words) + text[at:]
        case 5 | 6:
            return _replace_word(text, words, random)
        case 7 if random.random() < 0.5:
            return _replace_number(text, random)
        case 7:
            at, size = random.randint(0, len(text)), random.choice((1, 1, 2, 8, 64))
            return text[:at] + text[at + size :]
        case 8:
            at, size = random.randint(0, len(text)), random.choice((1, 2, 8, 64))
            return text[:at] + text[at : at + size] * 2 + text[at + size :]
        case _:
            at = random.randint(0, len(text))
            return text[:at] + random.randbytes(1) + text[at + random.randrange(2) :]


def _change_lines(text: bytes, random: Random) -> bytes:
    lines = text.splitlines(keepends=True)
    if not lines:
        return text
    at, other = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            lines[at] = lines[at].rstrip(b"\r\n") + random.choice((b"\n", b"\r\n", b"\r", b""))
    return b"".join(lines)


def _replace_number(text: bytes, random: Random) -> bytes:
    """Put a number that matters in the place of one that is there."""
    places = list(_NUMBER.finditer(text))
    if not places:
        return text
    found = random.choice(places)
    return text[: found.start()] + random.choice(_NUMBERS) + text[found.end() :]


def _replace_word(text: bytes, words: Sequence[bytes], random: Random) -> bytes:
    """Put one word in the place of another that is there."""
    there = [word for word in words if word and word in text]
    if not there:
        return text
    old = random.choice(there)
    places = [at for at in range(len(text)) if text.startswith(old, at)]
    at = random.choice(places)
    return text[:at] + random.choice(words) + text[at + len(old) :]


def mutator(words: Sequence[bytes]) -> Callable[[bytes, int, Random], bytes]:
    """Return what changes inputs that are text and nothing else."""

    def mutate(data: bytes, longest: int, random: Random) -> bytes:
        for _ in range(random.choice((1, 1, 2, 4))):
            data = change(data, words, random)
        return data[:longest]

    return mutate


def cross(one: bytes, other: bytes, longest: int, random: Random) -> bytes:
    """Return the beginning of one text and the end of another."""
    head = one[: random.randint(0, len(one))]
    return (head + other[random.randint(0, len(other)) :])[:longest]


def smaller(text: bytes) -> Iterator[bytes]:
    """Yield texts with less in them."""
    size = len(text)
    while size:
        yield from (text[:at] + text[at + size :] for at in range(0, len(text), size))
        size //= 2
