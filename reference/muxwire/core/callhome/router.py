"""The router's end of a call-home connection.

Rules of this file: it is silent until the worker's preface is there (P0-002).  Whether a HELLO is
good is the judge's word; the connection counts those that are not.  DONE follows the terminal at
once (P0-008), and a caller that does not read stops the reading (P0-014).
"""

from __future__ import annotations

from collections.abc import Callable

from muxwire._generated import codec
from muxwire._generated.machines import (
    EFFECT_BIND,
    EFFECT_CONFIRM,
    EFFECT_PASS,
    IN_WCH_ROUTER_CONNECTION_EOF,
    IN_WCH_ROUTER_CONNECTION_FAULT,
    IN_WCH_ROUTER_CONNECTION_HELLO_CANCELLED,
    IN_WCH_ROUTER_CONNECTION_HELLO_KNOWN,
    IN_WCH_ROUTER_CONNECTION_HELLO_THIRD,
    IN_WCH_ROUTER_CONNECTION_HELLO_UNKNOWN,
    IN_WCH_ROUTER_CONNECTION_LOCAL_CLOSE,
    IN_WCH_ROUTER_CONNECTION_MAGIC_WRONG,
    IN_WCH_ROUTER_CONNECTION_PING,
    IN_WCH_ROUTER_CONNECTION_PREFACE_GOOD,
    IN_WCH_ROUTER_CONNECTION_PREFACE_UNSERVED,
    IN_WCH_ROUTER_CONNECTION_RESPONSE,
    IN_WCH_ROUTER_CONNECTION_SILENT,
    IN_WCH_ROUTER_CONNECTION_SKIPPED,
    IN_WCH_ROUTER_CONNECTION_STALLED,
    IN_WCH_ROUTER_CONNECTION_SUPERSEDED,
    IN_WCH_ROUTER_CONNECTION_TERMINAL,
    IN_WCH_ROUTER_CONNECTION_TIMEOUT,
    WCH_ROUTER_CONNECTION,
    WCH_ROUTER_CONNECTION_STREAMING,
)
from muxwire._generated.registries import END_STREAM, WCH_MAX_REJECTS, ErrorCode
from muxwire.core.callhome.connection import CallHome, Inputs
from muxwire.core.callhome.router_stream import Judge, RouterStream
from muxwire.core.counters import Counters
from muxwire.core.events import Idle
from muxwire.core.sendqueue import Buffer
from muxwire.errors import ProtocolViolation


class RouterEnd(CallHome):
    """A connection that a worker has dialled.

    Args:
        judge: Decides about a HELLO.
        now: Monotonic seconds when the connection was accepted.
        idle_timeout_ms: What is announced (P0-014).
        wake: Called when the driver has to look at the connection because of its stream.
        counters: Where it counts.
    """

    role = codec.WCH_ROUTER
    table = WCH_ROUTER_CONNECTION
    inputs = Inputs(
        preface_good=IN_WCH_ROUTER_CONNECTION_PREFACE_GOOD,
        preface_bad=IN_WCH_ROUTER_CONNECTION_MAGIC_WRONG,
        preface_late=IN_WCH_ROUTER_CONNECTION_TIMEOUT,
        ping=IN_WCH_ROUTER_CONNECTION_PING,
        skipped=IN_WCH_ROUTER_CONNECTION_SKIPPED,
        fault=IN_WCH_ROUTER_CONNECTION_FAULT,
        eof=IN_WCH_ROUTER_CONNECTION_EOF,
        silent=IN_WCH_ROUTER_CONNECTION_SILENT,
        stalled=IN_WCH_ROUTER_CONNECTION_STALLED,
    )

    def __init__(
        self,
        judge: Judge,
        now: float,
        idle_timeout_ms: int = 0,
        wake: Callable[[], None] = lambda: None,
        counters: Counters | None = None,
    ) -> None:
        super().__init__(now, idle_timeout_ms, counters)
        self.stream: RouterStream | None = None
        self._judge = judge
        self._wake = wake
        self._rejects = 0
        self._paused = False

    @property
    def reading(self) -> bool:
        """Whether the driver is to read."""
        return not self._paused

    def close(self, now: float) -> None:
        """Close the connection; a stream on it is lost."""
        self._now = now
        if not self._closing.action:
            self._take(IN_WCH_ROUTER_CONNECTION_LOCAL_CLOSE, message="closed by this side")
            self._wake()

    # -- what the stream commands

    def send_stop(self, request_id: bytes, reason: int) -> None:
        """Write STOP."""
        self._send(codec.encode_stop(request_id, reason))
        self._wake()

    def send_kill(self, request_id: bytes, reason: int) -> None:
        """Write KILL."""
        self._send(codec.encode_kill(request_id, reason))
        self._wake()

    def superseded(self, now: float) -> None:
        """Close: another connection has taken the stream (P0-019)."""
        self._now = now
        self.stream = None
        self._take(IN_WCH_ROUTER_CONNECTION_SUPERSEDED, message="another connection has the stream")
        self._wake()

    def unread_changed(self, now: float) -> None:
        """Look again whether to read (P0-014)."""
        full = self.stream is not None and self.stream.full
        if self._closing.action or full == self._paused:
            return
        self._paused = full
        if full:
            self._heartbeat.suspend()
        else:
            self._heartbeat.listen(now)
            begun = self._decoder.mid_frame
            self._heartbeat.frame_state(begun=begun, progress=True, now=now)
        self._wake()

    # -- input

    def _on_preface(self, preface: codec.WchPreface) -> None:
        served = preface.ver_lo <= codec.VERSION <= preface.ver_hi  # HSK-003
        reply = codec.encode_wch_preface(codec.VERSION, codec.VERSION, self.announced)
        self._send(reply)
        if served and preface.header_size == codec.HEADER_SIZE:
            self._established(preface)
        else:  # HSK-004
            self._take(
                IN_WCH_ROUTER_CONNECTION_PREFACE_UNSERVED,
                message="no common version or header size",
            )

    def receive_data(self, data: bytes, now: float) -> None:
        """Take octets from the peer."""
        super().receive_data(data, now)
        if self._paused and not self._closing.action:  # they were on their way already
            self._heartbeat.suspend()

    def _on_frame(self, kind: int, flags: int, seq: int, request_id: bytes, payload: bytes) -> None:
        if kind == codec.HELLO:
            self._on_hello(request_id, payload)
            return
        stream = self.stream
        if stream is None or request_id != stream.request_id:
            self._fault("RESPONSE for another stream")
            return
        try:
            stream.respond(flags, seq, payload, self._now)
        except ProtocolViolation as violation:
            self._take(IN_WCH_ROUTER_CONNECTION_FAULT, violation.requirement, violation.requirement)
            return
        self._events += stream.events()
        end = flags & END_STREAM
        effect = self._take(
            IN_WCH_ROUTER_CONNECTION_TERMINAL if end else IN_WCH_ROUTER_CONNECTION_RESPONSE
        )
        if effect == EFFECT_CONFIRM:
            self.stream = None
            self._send(codec.encode_done(request_id))
            self._events.append(Idle(first=False))
        if effect in (EFFECT_CONFIRM, EFFECT_PASS):
            self.unread_changed(self._now)

    def _on_hello(self, request_id: bytes, token: bytes) -> None:
        if self.state == WCH_ROUTER_CONNECTION_STREAMING:
            self._take(IN_WCH_ROUTER_CONNECTION_HELLO_UNKNOWN, message="HELLO during a stream")
            return
        verdict = self._judge(request_id, token)
        if isinstance(verdict, RouterStream):
            if self._take(IN_WCH_ROUTER_CONNECTION_HELLO_KNOWN) == EFFECT_BIND:
                self.stream = verdict
                self._send(codec.encode_accept(request_id))
                verdict.bind(self, self._now)
            return
        self._send(codec.encode_reject(request_id, verdict))
        input_ = IN_WCH_ROUTER_CONNECTION_HELLO_CANCELLED
        if verdict == ErrorCode.NOT_FOUND:
            self._rejects += 1
            third = self._rejects >= WCH_MAX_REJECTS
            input_ = IN_WCH_ROUTER_CONNECTION_HELLO_UNKNOWN
            if third:
                input_ = IN_WCH_ROUTER_CONNECTION_HELLO_THIRD
        self._take(input_, message="too many wrong tokens")

    def _on_late(self) -> None:
        """Never called: no state of a router has a time of its own."""

    # -- output and the end

    def _write(self, parts: list[Buffer]) -> None:
        """Do nothing: a router has only control frames to write."""

    def _lose(self) -> int:
        stream, self.stream = self.stream, None
        if stream is None:
            return 0
        stream.lose(self._now, "the connection ended before the response did")
        self._events += stream.events()
        return 1
