"""How far the peer has got with its preface, SETTINGS and SETTINGS_ACK.

Rules of this file: octets up to the end of the preface come here, everything later goes to the
frame decoder.  The magic is compared as it arrives, so wrong octets are refused at the first
difference (HSK-002).  A refusal is not an error of the peer; it is an answer.  Only SETTINGS are
waited for: requests behind them are served before the peer's SETTINGS_ACK (HSK-009).
"""

from __future__ import annotations

from typing import NamedTuple

from muxwire._generated import machines as m
from muxwire._generated.codec import (
    CLIENT,
    HEADER_SIZE,
    MAGIC,
    PREFACE_SIZE,
    VERSION,
    WORKER,
    Preface,
    decode_preface,
)
from muxwire._generated.registries import ErrorCode
from muxwire.errors import ProtocolViolation


class _Side(NamedTuple):
    """The table of one side, and its inputs that both sides have."""

    table: tuple[tuple[m.Row, ...], ...]
    magic_wrong: int
    settings: int
    ack: int
    timeout: int


_SIDES = {
    WORKER: _Side(
        m.WORKER_HANDSHAKE,
        m.IN_WORKER_HANDSHAKE_MAGIC_WRONG,
        m.IN_WORKER_HANDSHAKE_SETTINGS,
        m.IN_WORKER_HANDSHAKE_SETTINGS_ACK,
        m.IN_WORKER_HANDSHAKE_TIMEOUT,
    ),
    CLIENT: _Side(
        m.CLIENT_HANDSHAKE,
        m.IN_CLIENT_HANDSHAKE_MAGIC_WRONG,
        m.IN_CLIENT_HANDSHAKE_SETTINGS,
        m.IN_CLIENT_HANDSHAKE_SETTINGS_ACK,
        m.IN_CLIENT_HANDSHAKE_TIMEOUT,
    ),
}
_ACK, _DONE, _FAILED = m.WORKER_HANDSHAKE_ACK, m.WORKER_HANDSHAKE_DONE, m.WORKER_HANDSHAKE_FAILED
"""States that have the same number on both sides."""


class Handshake:
    """The peer's side of the handshake.

    Args:
        role: WORKER or CLIENT: whose peer this is about.
        deadline: When all of it must be there (HSK-008).
        preface_deadline: When the preface must be there (HSK-010).

    Attributes:
        state: A state of the table.
        preface: The peer's preface, once complete.
        deadline: The nearer of the two deadlines that still counts.
    """

    __slots__ = ("_octets", "_side", "_whole", "deadline", "preface", "state")

    def __init__(self, role: int, deadline: float, preface_deadline: float) -> None:
        self._side = _SIDES[role]
        self._octets = b""
        self._whole = deadline
        self.state = 0
        self.preface: Preface | None = None
        self.deadline = min(preface_deadline, deadline)

    @property
    def settings(self) -> bool:
        """Whether the peer's SETTINGS are applied."""
        return self.state in (_ACK, _DONE)

    @property
    def complete(self) -> bool:
        """Whether the connection is set up."""
        return self.state == _DONE

    @property
    def failed(self) -> bool:
        """Whether it never will be; what still arrives is discarded (HSK-005)."""
        return self.state == _FAILED

    def step(self, input_: int) -> int:
        """Go through the table and return the effect.

        Raises:
            ProtocolViolation: The input is not allowed in this state.
        """
        row = self._side.table[self.state][input_]
        if row.effect == m.EFFECT_VIOLATION:
            raise ProtocolViolation(
                row.code, "connection", row.requirement, "not allowed in the state of the handshake"
            )
        self.state = row.state
        return row.effect

    def feed(self, data: bytes) -> bytes | None:
        """Take octets of the preface; return what follows it, or None while it is incomplete.

        Raises:
            ProtocolViolation: HSK-002, the octets are not the magic.
        """
        octets = self._octets + data[: PREFACE_SIZE - len(self._octets)]
        known = min(len(octets), len(MAGIC))
        if octets[:known] != MAGIC[:known]:
            self.step(self._side.magic_wrong)
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
        self.step(self._side.settings)

    def take_ack(self) -> None:
        """Note the peer's SETTINGS_ACK.

        Raises:
            ProtocolViolation: HSK-007, there was one already.
        """
        self.step(self._side.ack)

    def check(self, now: float) -> None:
        """Refuse a handshake that takes too long.

        Raises:
            ProtocolViolation: HSK-008.
        """
        if not self.complete and now >= self.deadline:
            self.step(self._side.timeout)
            raise ProtocolViolation(
                ErrorCode.HANDSHAKE_TIMEOUT, "connection", "HSK-008", "no preface in time"
            )
