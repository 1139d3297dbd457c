"""Where the judge listens for workers that dial back, and what it tells them.

Rules of this file:

* Without options the judge listens at its own address on the way to the target.
* No stream has the id of an earlier one: what a case left behind may be live when it runs again.
* A port is the first of as many as the run needs; each listener takes the next one. Without it the
  kernel chooses, and no port is used twice in a run: a worker remembers the addresses that it had.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

from muxwire_conformance.target import Address, TargetError

MOST_PORTS = 1_000
"""So many ports are taken in turn behind the first one."""

_PLACE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9.]+)(:(?P<port>[0-9]{1,5}))?")


@dataclass(slots=True)
class Callback:
    """Where to listen and what to advertise; port 0 of ``bind`` lets the kernel choose."""

    bind: Address | None = None
    advertise: Address | None = None
    used: set[int] = field(default_factory=set)
    streams: set[bytes] = field(default_factory=set)
    _turn: Iterator[int] = field(default_factory=itertools.count)

    def places(self, target: Address) -> Iterator[tuple[Address, Address]]:
        """Return where to try to listen and what to say then, one after the other."""
        host = self.bind.host if self.bind else _default_host(target, self.advertise)
        first = self.bind.port if self.bind else 0
        said = self.advertise or Address(host=host, port=0)
        first = first or said.port
        for _ in range(MOST_PORTS):
            if not first:
                yield Address(host=host, port=0), Address(host=said.host, port=0)
                continue
            offset = next(self._turn) % MOST_PORTS
            told = (said.port or first) + offset
            yield Address(host=host, port=first + offset), Address(host=said.host, port=told)


def _default_host(target: Address, advertise: Address | None) -> str:
    if advertise is not None:
        return "::" if ":" in advertise.host else "0.0.0.0"
    return own_host(target)


def own_host(target: Address) -> str:
    """Return the address of this machine on the way to a target; nothing is sent.

    Raises:
        OSError: there is no way.
    """
    found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_DGRAM)
    family, kind, protocol, _name, place = found[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])


def parse_place(text: str) -> Address:
    """Read an IP address, IPv6 in brackets, with or without a port.

    Raises:
        TargetError: it is none; host names are not resolved by a worker (P0-016).
    """
    match = _PLACE.fullmatch(text.strip())
    host = match["host"].strip("[]") if match else ""
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise TargetError(f"callback {text!r}: use ADDRESS or ADDRESS:PORT") from error
    port = int(match["port"] or 0) if match else 0
    if port > 65_535 - MOST_PORTS:
        raise TargetError(
            f"callback {text!r}: {MOST_PORTS:,} ports are used from there on, so the first is at"
            f" most {65_535 - MOST_PORTS}"
        )
    return Address(host=host, port=port)
