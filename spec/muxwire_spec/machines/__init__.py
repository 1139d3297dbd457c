"""The state machines, as total tables: every state has a row for every input.

A row reads "in this state, on this input: do this, go there". `none` marks what cannot happen;
an implementation that meets it has a fault of its own. `muxwire_spec.soundness` checks that the
tables are total and connected.
"""

from __future__ import annotations

from muxwire_spec.machines.callhome_connection import (
    WCH_ROUTER_CONNECTION,
    WCH_WORKER_CONNECTION,
)
from muxwire_spec.machines.callhome_stream import WCH_ROUTER_STREAM, WCH_WORKER_STREAM
from muxwire_spec.machines.connection import CLIENT_CONNECTION, WORKER_CONNECTION
from muxwire_spec.machines.effects import EFFECTS
from muxwire_spec.machines.handshake import CLIENT_HANDSHAKE, WORKER_HANDSHAKE
from muxwire_spec.machines.heartbeat import HEARTBEAT_IN, HEARTBEAT_OUT
from muxwire_spec.machines.http import HTTP_STREAM
from muxwire_spec.machines.recovery import RECOVERY
from muxwire_spec.machines.request import CLIENT_REQUEST, WORKER_REQUEST

__all__ = [
    "CLIENT_CONNECTION",
    "CLIENT_HANDSHAKE",
    "CLIENT_REQUEST",
    "EFFECTS",
    "HEARTBEAT_IN",
    "HEARTBEAT_OUT",
    "HTTP_STREAM",
    "MACHINES",
    "RECOVERY",
    "WCH_ROUTER_CONNECTION",
    "WCH_ROUTER_STREAM",
    "WCH_WORKER_CONNECTION",
    "WCH_WORKER_STREAM",
    "WORKER_CONNECTION",
    "WORKER_HANDSHAKE",
    "WORKER_REQUEST",
]

MACHINES = (
    WORKER_REQUEST,
    CLIENT_REQUEST,
    WORKER_HANDSHAKE,
    CLIENT_HANDSHAKE,
    WORKER_CONNECTION,
    CLIENT_CONNECTION,
    HEARTBEAT_IN,
    HEARTBEAT_OUT,
    RECOVERY,
    WCH_WORKER_CONNECTION,
    WCH_ROUTER_CONNECTION,
    WCH_WORKER_STREAM,
    WCH_ROUTER_STREAM,
    HTTP_STREAM,
)
