"""The paths of the protocol, and which of them a case is about.

A path is named as in ``transports`` and ``ports`` of ``conformance.info``. The area of a case tells
its path: areas that are not listed here belong to WMX/1 over TCP.
"""

from __future__ import annotations

TCP, CALLHOME, HTTP = "tcp", "callhome", "http"
PATHS = (TCP, CALLHOME, HTTP)

_AREAS = {"P0": CALLHOME, "P1": HTTP}


def path_of(id: str) -> str:
    """Return the path of a case, a requirement or an area, by its name."""
    return _AREAS.get(id.partition("-")[0], TCP)
