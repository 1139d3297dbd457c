"""Types of command-line values: addresses, sizes, headers."""

from __future__ import annotations

import re
from typing import Any

import click

from muxwire.errors import InvalidArgument
from muxwire.tcp.address import parse

_UNITS = {"": 1, "k": 1_024, "m": 1_048_576, "g": 1_073_741_824}


class Address(click.ParamType[tuple[str, int]]):
    """`host:port`, or `[v6]:port`."""

    name = "HOST:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        """Return host and port."""
        if isinstance(value, tuple):
            return value
        try:
            return parse(str(value))
        except InvalidArgument as error:
            self.fail(str(error), param, ctx)


class Size(click.ParamType[int]):
    """A number of octets, also as `64KiB`, `8MiB` or `1GiB`."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of octets."""
        match = re.fullmatch(r"(\d+)\s*([kmg]?)(?:i?b)?", str(value), re.IGNORECASE)
        if match is None:
            self.fail(f"{value!r} is not a size, such as 65536, 64KiB or 8MiB", param, ctx)
        return int(match[1]) * _UNITS[match[2].lower()]


class Header(click.ParamType[tuple[str, str]]):
    """`key: value` or `key=value`."""

    name = "KEY=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return key and value."""
        if isinstance(value, tuple):
            return value
        key, separator, rest = str(value).partition("=")
        if not separator:
            self.fail(f"{value!r} is not key=value", param, ctx)
        return key, rest
