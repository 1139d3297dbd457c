"""The four receivers of frames: what the specification and the reference call them."""

from __future__ import annotations

from dataclasses import dataclass

from muxwire._generated import codec
from muxwire_spec import callhome
from muxwire_spec.interpret import WCH, WMX, Receiver


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A receiver of one of the two protocols."""

    name: str
    protocol: str
    number: int
    """What the generated codec calls it."""

    def receiver(self, max_frame_size: int, max_metadata_size: int) -> Receiver:
        """Return the receiver as the specification sees it, with what it has announced."""
        if self.protocol == WCH:
            max_frame_size, max_metadata_size = callhome.MAX_FRAME_SIZE, callhome.MAX_METADATA_SIZE
        return Receiver(
            role=self.name,
            protocol=self.protocol,
            max_frame_size=max_frame_size,
            max_metadata_size=max_metadata_size,
        )


WORKER = Role(name="worker", protocol=WMX, number=codec.WORKER)
CLIENT = Role(name="client", protocol=WMX, number=codec.CLIENT)
WCH_WORKER = Role(name="worker", protocol=WCH, number=codec.WCH_WORKER)
WCH_ROUTER = Role(name="router", protocol=WCH, number=codec.WCH_ROUTER)
ROLES = (WORKER, CLIENT, WCH_WORKER, WCH_ROUTER)
"""In the order in which the octet of options counts them."""
