"""The pump: moves octets, time and events between one socket and one connection core.

Rules of this file: it is the only code that touches a transport.  It decides nothing; the core says
what to write, when to wake it and how to close.  Output of one turn of the loop leaves in few
writes of 64 KiB (FAI-006): at its end, or as soon as FLUSH calls have queued some, so that the peer
starts early (FAI-004).  Reading never waits for writing (FLW-011).  A fault of ours resets the
connection; it never leaves one behind that does nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, cast

from muxwire._generated.registries import BATCH_SIZE
from muxwire.core.closing import CloseAction
from muxwire.core.events import ConnectionEnded, Event, GoawayReceived, GoawaySent
from muxwire.tcp.address import render

logger = logging.getLogger("muxwire.connection")

UNSENT_LIMIT = 2 * BATCH_SIZE
"""Octets that may wait outside the core, where nothing can overtake them any more (FAI-005)."""

FLUSH = 32
"""Calls that queue output, after which it is written at once."""

_LOGGED = (GoawayReceived, GoawaySent, ConnectionEnded)


class Core(Protocol):
    """What a pump asks of the core that it drives; see `muxwire.core.connection.Connection`."""

    def receive_data(self, data: bytes, now: float) -> None:
        """Take octets from the peer."""

    def receive_eof(self, now: float, *, requirement: str = "", message: str = "") -> None:
        """Take the end of the peer's octets, or the loss of the connection."""

    def data_to_send(self, now: float) -> bytes:
        """Return the next batch of octets to write."""

    def data_sent(self, octets: int, now: float) -> None:
        """Take that so many more octets have left for the kernel."""

    def events(self) -> list[Event]:
        """Return what has happened since the last call."""

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` wants to be called."""

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""

    @property
    def close_action(self) -> CloseAction:
        """What is owed to the socket now."""

    @property
    def reading(self) -> bool:
        """Whether to read."""


class Pump(asyncio.Protocol):
    """Drives one core over one transport.

    Call `touch`, or `push`, after every call into the core.

    Args:
        core: The connection.
        on_event: Takes each event, in order.
        on_closed: Called once, when the socket is gone.
        on_written: Called whenever frames have been handed to the transport.
    """

    def __init__(
        self,
        core: Core,
        on_event: Callable[[Event], None],
        on_closed: Callable[[], None],
        on_written: Callable[[], None] | None = None,
    ) -> None:
        self._core = core
        self._on_event = on_event
        self._on_closed = on_closed
        self._on_written = on_written
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._peer: Any = None
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._scheduled = False
        self._pushed = 0  # since the last write
        self._paused = False
        self._reading = True
        self._eof_written = False
        self._handed = 0
        self._reported = 0

    # -- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)
        self._peer = transport.get_extra_info("peername")
        self._transport.set_write_buffer_limits(high=0)  # so that we hear when nothing waits
        _limit_unsent(self._transport)
        self._turn()

    def data_received(self, data: bytes) -> None:
        """Feed the core."""
        self._core.receive_data(data, self._loop.time())
        self._turn()

    def eof_received(self) -> bool:
        """Tell the core, and keep the transport: the core says when to close."""
        self._core.receive_eof(self._loop.time())
        self._turn()
        return True

    def pause_writing(self) -> None:
        """Do nothing: the size of the transport's buffer says when to stop."""

    def resume_writing(self) -> None:
        """Tell the core that the kernel has taken everything, and ask it for more.

        The core is told now and not in the turn that follows: that may be late, and HBT-001 counts
        from the last octet.
        """
        self._report(self._loop.time())
        self.touch()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the core and whoever waits for the end."""
        del error
        self._disarm()
        self._transport = None
        try:
            self._core.receive_eof(self._loop.time())
            self._deliver()
        finally:
            self._on_closed()

    def tls_failed(self, requirement: str, reason: str) -> None:
        """Tell the core that the TLS around it failed; the core bounds how long the rest takes."""
        now = self._loop.time()
        self._core.receive_eof(now, requirement=requirement, message=f"TLS: {reason}")
        self._turn()

    # -- what the users of the core call

    def touch(self) -> None:
        """See to it that what the core has to say is carried out in this turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def push(self) -> None:
        """Do what `touch` does, for a call that has queued output; write if enough has gathered."""
        self.touch()
        self._pushed += 1
        if self._pushed >= FLUSH:
            self._early()

    def _early(self) -> None:
        try:
            self._write()
        except Exception:
            self._fault()

    def flush(self) -> None:
        """Do at once what `touch` asks for."""
        if self._scheduled:
            self._turn()

    @property
    def peer(self) -> str:
        """The peer's address, "" before there is one."""
        return render(*self._peer[:2]) if self._peer else ""

    def fileno(self) -> int:
        """Return the number of the socket, or -1 if it is gone."""
        if self._transport is None:
            return -1
        return int(self._transport.get_extra_info("socket").fileno())

    def abort(self) -> None:
        """Reset the connection, whatever the core thinks."""
        if self._transport is not None:
            _reset(self._transport)

    # -- one turn

    def _turn(self) -> None:
        """Deliver events and write output until neither is left, then close or wait."""
        self._scheduled = True
        try:
            self._deliver()
            while self._write():
                self._deliver()
            self._carry_out()
            self._arm()
        except Exception:
            self._fault()
        finally:
            self._scheduled = False

    def _deliver(self) -> None:
        """Deliver every event, whatever becomes of the others: a lost one hangs a caller."""
        while events := self._core.events():
            for event in events:
                try:
                    if isinstance(event, _LOGGED):
                        self._log(event)
                    self._on_event(event)
                except Exception:
                    self._fault()

    def _fault(self) -> None:
        logger.exception("an internal fault; the connection is reset")
        self.abort()

    def _log(self, event: GoawayReceived | GoawaySent | ConnectionEnded) -> None:
        """Log a GOAWAY, and the end of the connection with that of an error (OBS-005)."""
        if not logger.isEnabledFor(logging.INFO):
            return
        fields: dict[str, Any] = {
            "event": "GOAWAY sent" if isinstance(event, GoawaySent) else "GOAWAY received",
            "peer": self.peer,
            "code": event.code,
        }
        if isinstance(event, ConnectionEnded):
            fields |= {
                "event": "connection ended",
                "by_peer": event.by_peer,
                "requirement": event.requirement,
                "last_ordinal": event.last_ordinal,
                "requests_lost": event.lost,
            }
        else:
            fields |= {"last_ordinal": event.last_ordinal, "grace_ms": event.grace_ms}
        fields["message"] = event.message
        logger.info("%s", _text(fields), extra={"fields": fields})

    def _write(self) -> bool:
        """Write what the core gives; tell whether there may be events because of it."""
        self._pushed = 0
        transport = self._transport
        if transport is None or self._eof_written or transport.is_closing():
            return False
        wrote = False
        now = self._loop.time()
        while True:
            self._paused = transport.get_write_buffer_size() >= UNSENT_LIMIT
            if self._paused or not (data := self._core.data_to_send(now)):
                break
            transport.write(data)
            self._handed += len(data)
            wrote = True
        self._report(now)
        if wrote and self._on_written is not None:
            self._on_written()
        return wrote

    def _report(self, now: float) -> None:
        """Tell the core how much the kernel has taken (HBT-006)."""
        if self._transport is None or self._reported == self._handed:
            return
        sent = self._handed - self._transport.get_write_buffer_size()
        if sent > self._reported:
            self._core.data_sent(sent - self._reported, now)
            self._reported = sent

    def _carry_out(self) -> None:
        transport = self._transport
        if transport is None:
            return
        if self._reading is not self._core.reading and not transport.is_closing():
            self._reading = self._core.reading
            if self._reading:
                transport.resume_reading()
            else:
                transport.pause_reading()
        action = self._core.close_action
        if action is CloseAction.ABORT:
            _reset(transport)
        elif action is CloseAction.NONE or self._paused or transport.is_closing():
            return  # what the core has written goes first; the core's deadline bounds the wait
        elif action is CloseAction.CLOSE:
            transport.close()
        elif not self._eof_written:
            self._eof_written = True
            with suppress(OSError):  # the peer was faster, and has reset the connection
                transport.write_eof()

    def _arm(self) -> None:
        """Arm the one timer; one that is early enough already is left alone."""
        when = self._core.next_timeout()
        if when is None or self._transport is None:
            return
        if self._timer is not None:
            if self._timer_at <= when:
                return
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._loop.call_at(when, self._due)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        """Let what waits in the socket be read first (HBT-003), then act."""
        self._timer = None
        when = self._core.next_timeout()
        if when is not None and when <= self._loop.time():
            self._timer = self._loop.call_soon(self._expired)
        else:
            self._arm()

    def _expired(self) -> None:
        self._timer = None
        now = self._loop.time()
        try:
            self._report(now)
            self._core.handle_timeout(now)
        except Exception:
            self._fault()
        self._turn()


def _text(fields: dict[str, Any]) -> str:
    """Write the members of a log line for people; the code as the registry has it."""
    code = fields["code"]
    shown = {**fields, "code": code if code is None else f"{code:#x}"}
    shown["message"] = repr(shown["message"])  # it may be the peer's
    event = shown.pop("event")
    return f"{event}: " + " ".join(f"{name}={value}" for name, value in shown.items())


def _limit_unsent(transport: asyncio.Transport) -> None:
    """Keep the kernel from taking much more than it can send now (FAI-005)."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    sock = transport.get_extra_info("socket")
    if option is not None and sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, UNSENT_LIMIT)


def _reset(transport: asyncio.Transport) -> None:
    """Close with a TCP reset."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError, ValueError):  # uvloop has closed it: its descriptor is -1
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
