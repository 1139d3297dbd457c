"""Addresses as people write them: `host:port`, and `[v6]:port` for IPv6."""

from __future__ import annotations

import os

from muxwire.errors import InvalidArgument


def parse(text: str) -> tuple[str, int]:
    """Return host and port of an address.

    Raises:
        InvalidArgument: it is not `host:port`; the message says what is wrong.
    """
    bracketed = text.startswith("[")
    host, separator, port = text[1:].partition("]:") if bracketed else text.rpartition(":")
    if not separator or not host:
        raise InvalidArgument(f"{text!r} is not host:port ([host]:port for IPv6)")
    if not bracketed and ":" in host:
        raise InvalidArgument(f"{text!r}: write an IPv6 address as [{host}]:{port}")
    if not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise InvalidArgument(f"{text!r}: {port!r} is not a port (0 to 65535)")
    return host, int(port)


def render(host: str, port: int) -> str:
    """Write an address so that `parse` reads it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def explain(error: OSError) -> str:
    """Say in a few words why an address cannot be reached or listened on."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)
