"""Types of command-line values: addresses, sizes, headers.

Rules of this file: a type is a function from the text to the value, and says in one sentence what
is wrong with the text.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from muxwire.errors import InvalidArgument
from muxwire.tcp.address import parse

file = click.Path(exists=True, dir_okay=False, path_type=Path)
"""A file that is to be read."""

_UNITS = {"": 1, "k": 1_024, "m": 1_048_576, "g": 1_073_741_824}


def address(text: str) -> tuple[str, int]:
    """Return host and port of `host:port`, or `[v6]:port`.

    Raises:
        click.BadParameter: it is neither.
    """
    try:
        return parse(text)
    except InvalidArgument as error:
        raise click.BadParameter(str(error)) from None


def size(text: str) -> int:
    """Return a number of octets, also written as `64KiB`, `8MiB` or `1GiB`.

    Raises:
        click.BadParameter: it is no such number.
    """
    match = re.fullmatch(r"([0-9]+)\s*([kmg]?)(?:i?b)?", text, re.IGNORECASE)
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size, such as 65536, 64KiB or 8MiB")
    return int(match[1]) * _UNITS[match[2].lower()]


def header(text: str) -> tuple[str, str]:
    """Return key and value of `key=value`.

    Raises:
        click.BadParameter: there is no `=`.
    """
    key, separator, value = text.partition("=")
    if not separator:
        raise click.BadParameter(f"{text!r} is not key=value")
    return key, value
