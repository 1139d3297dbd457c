"""How far the peer has got with its preface, SETTINGS and SETTINGS_ACK.

Rules of this file: octets up to the end of the preface come here, everything later goes to the
frame decoder.  The magic is compared as it arrives, so wrong octets are refused at the first
difference (HSK-002).  A refusal is not an error of the peer; it is an answer.  Only SETTINGS are
waited for: requests behind them are served before the peer's SETTINGS_ACK (HSK-009).
"""

from __future__ import annotations

from muxwire._generated.codec import (
    HEADER_SIZE,
    MAGIC,
    PREFACE_SIZE,
    VERSION,
    Preface,
    decode_preface,
)
from muxwire._generated.registries import ErrorCode
from muxwire.errors import ProtocolViolation


class Handshake:
    """The peer's side of the handshake.

    Attributes:
        preface: The peer's preface, once complete.
        settings: Its SETTINGS have arrived.
        acknowledged: Its SETTINGS_ACK has arrived.
        deadline: When all of it must be there (HSK-008), or first the preface (HSK-010).
    """

    __slots__ = ("_octets", "_whole", "acknowledged", "deadline", "preface", "settings")

    def __init__(self, deadline: float, preface_deadline: float) -> None:
        self._octets = b""
        self._whole = deadline
        self.preface: Preface | None = None
        self.settings = False
        self.acknowledged = False
        self.deadline = min(preface_deadline, deadline)

    @property
    def complete(self) -> bool:
        """Whether the connection is set up."""
        return self.settings and self.acknowledged

    def feed(self, data: bytes) -> bytes | None:
        """Take octets of the preface; return what follows it, or None while it is incomplete.

        Raises:
            ProtocolViolation: HSK-002, the octets are not the magic.
        """
        octets = self._octets + data[: PREFACE_SIZE - len(self._octets)]
        known = min(len(octets), len(MAGIC))
        if octets[:known] != MAGIC[:known]:
            raise ProtocolViolation(
                ErrorCode.PROTOCOL_ERROR, "connection", "HSK-002", "not a preface of this protocol"
            )
        rest = data[len(octets) - len(self._octets) :]
        self._octets = octets
        if len(octets) < PREFACE_SIZE:
            return None
        self.preface = decode_preface(octets)
        self.deadline = self._whole
        return rest

    def offered_is_served(self) -> bool:
        """Worker: whether the client's offer contains our version and header size (HSK-003)."""
        preface = self.preface
        return (
            preface is not None
            and preface.ver_lo <= VERSION <= preface.ver_hi
            and preface.header_size == HEADER_SIZE
        )

    def selection_is_ours(self) -> bool:
        """Client: whether the worker's preface selects what we offered (HSK-004)."""
        return self.preface == Preface(VERSION, VERSION, HEADER_SIZE)

    def take_settings(self) -> None:
        """Note the peer's SETTINGS.

        Raises:
            ProtocolViolation: HSK-006, there were some already.
        """
        if self.settings:
            raise ProtocolViolation(
                ErrorCode.PROTOCOL_ERROR, "connection", "HSK-006", "second SETTINGS"
            )
        self.settings = True

    def take_ack(self) -> None:
        """Note the peer's SETTINGS_ACK.

        Raises:
            ProtocolViolation: HSK-007, there was one already.
        """
        if self.acknowledged:
            raise ProtocolViolation(
                ErrorCode.PROTOCOL_ERROR, "connection", "HSK-007", "second SETTINGS_ACK"
            )
        self.acknowledged = True

    def check(self, now: float) -> None:
        """Refuse a handshake that takes too long.

        Raises:
            ProtocolViolation: HSK-008.
        """
        if not self.complete and now >= self.deadline:
            raise ProtocolViolation(
                ErrorCode.HANDSHAKE_TIMEOUT, "connection", "HSK-008", "handshake not complete"
            )
