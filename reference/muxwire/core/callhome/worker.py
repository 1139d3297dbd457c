"""The worker's end of a call-home connection.

Rules of this file: it dials and speaks first, then waits in the pool.  It writes a response from
the queue of its stream and never before ACCEPT (P0-003).  Between the terminal and DONE it is
nobody's (P0-008).
"""

from __future__ import annotations

from math import inf

from muxwire._generated import codec
from muxwire._generated.machines import (
    EFFECT_FREE,
    EFFECT_PASS,
    IN_WCH_WORKER_CONNECTION_ACCEPT,
    IN_WCH_WORKER_CONNECTION_CONNECT_TIMEOUT,
    IN_WCH_WORKER_CONNECTION_DONE,
    IN_WCH_WORKER_CONNECTION_EOF,
    IN_WCH_WORKER_CONNECTION_FAULT,
    IN_WCH_WORKER_CONNECTION_KILL,
    IN_WCH_WORKER_CONNECTION_LOCAL_GIVE_UP,
    IN_WCH_WORKER_CONNECTION_LOCAL_HELLO,
    IN_WCH_WORKER_CONNECTION_LOCAL_RETIRE,
    IN_WCH_WORKER_CONNECTION_PING,
    IN_WCH_WORKER_CONNECTION_PREFACE_BAD,
    IN_WCH_WORKER_CONNECTION_PREFACE_GOOD,
    IN_WCH_WORKER_CONNECTION_REJECT,
    IN_WCH_WORKER_CONNECTION_SILENT,
    IN_WCH_WORKER_CONNECTION_SKIPPED,
    IN_WCH_WORKER_CONNECTION_STALE,
    IN_WCH_WORKER_CONNECTION_STALLED,
    IN_WCH_WORKER_CONNECTION_STOP,
    IN_WCH_WORKER_CONNECTION_TERMINAL,
    IN_WCH_WORKER_CONNECTION_UNANSWERED,
    IN_WCH_WORKER_CONNECTION_UNCONFIRMED,
    WCH_WORKER_CONNECTION,
    WCH_WORKER_CONNECTION_ENDED,
    WCH_WORKER_CONNECTION_HELLO_SENT,
    WCH_WORKER_CONNECTION_IDLE,
    WCH_WORKER_CONNECTION_STREAMING,
)
from muxwire._generated.registries import (
    BATCH_SIZE,
    END_STREAM,
    WCH_ACCEPT_TIMEOUT_MS,
    WCH_DONE_PATIENCE_MS,
)
from muxwire.core.callhome.connection import CallHome, Inputs
from muxwire.core.callhome.worker_stream import UNBOUNDED, WorkerStream
from muxwire.core.counters import Counters
from muxwire.core.events import Idle
from muxwire.core.flow import SendCredit
from muxwire.core.sendqueue import EXHAUSTED, Buffer
from muxwire.errors import LocalProtocolError

FRAME = 65_536
"""Largest payload that is written, so that STOP and KILL never wait long."""

_ANSWERS = {
    codec.ACCEPT: IN_WCH_WORKER_CONNECTION_ACCEPT,
    codec.REJECT: IN_WCH_WORKER_CONNECTION_REJECT,
    codec.DONE: IN_WCH_WORKER_CONNECTION_DONE,
}


class WorkerEnd(CallHome):
    """A connection that the worker has dialled.

    Args:
        now: Monotonic seconds when the dial began.
        idle_timeout_ms: What is announced (P0-014).
        counters: Where it counts.
    """

    role = codec.WCH_WORKER
    table = WCH_WORKER_CONNECTION
    inputs = Inputs(
        preface_good=IN_WCH_WORKER_CONNECTION_PREFACE_GOOD,
        preface_bad=IN_WCH_WORKER_CONNECTION_PREFACE_BAD,
        preface_late=IN_WCH_WORKER_CONNECTION_CONNECT_TIMEOUT,
        ping=IN_WCH_WORKER_CONNECTION_PING,
        skipped=IN_WCH_WORKER_CONNECTION_SKIPPED,
        fault=IN_WCH_WORKER_CONNECTION_FAULT,
        eof=IN_WCH_WORKER_CONNECTION_EOF,
        silent=IN_WCH_WORKER_CONNECTION_SILENT,
        stalled=IN_WCH_WORKER_CONNECTION_STALLED,
    )

    def __init__(
        self, now: float, idle_timeout_ms: int = 0, counters: Counters | None = None
    ) -> None:
        super().__init__(now, idle_timeout_ms, counters)
        self.stream: WorkerStream | None = None
        self._credit = SendCredit(UNBOUNDED)
        self._send(codec.encode_wch_preface(codec.VERSION, codec.VERSION, idle_timeout_ms))

    @property
    def idle(self) -> bool:
        """Whether a stream may take the connection."""
        return self.state == WCH_WORKER_CONNECTION_IDLE

    def hello(self, stream: WorkerStream, now: float) -> None:
        """Offer a stream to the router (P0-003).

        Raises:
            LocalProtocolError: the connection is not idle.
        """
        if not self.idle:
            raise LocalProtocolError("the connection is not idle")
        self._now = now
        self._take(IN_WCH_WORKER_CONNECTION_LOCAL_HELLO)
        self.stream = stream
        stream.lent()
        self._send(codec.encode_hello(stream.request_id, stream.token))
        self._until = now + WCH_ACCEPT_TIMEOUT_MS / 1000

    def retire(self, now: float) -> None:
        """Close a connection that carries no stream."""
        self._now = now
        if self.state <= WCH_WORKER_CONNECTION_IDLE:
            self._take(IN_WCH_WORKER_CONNECTION_LOCAL_RETIRE, message="retired")

    def give_up(self, now: float) -> None:
        """Close a connection whose stream is not to be delivered any more."""
        self._now = now
        if self.state == WCH_WORKER_CONNECTION_HELLO_SENT:
            self._take(IN_WCH_WORKER_CONNECTION_LOCAL_GIVE_UP, message="the stream is given up")

    # -- input

    def _on_preface(self, preface: codec.WchPreface) -> None:
        if preface[:3] != (codec.VERSION, codec.VERSION, codec.HEADER_SIZE):  # HSK-004
            self._take(IN_WCH_WORKER_CONNECTION_PREFACE_BAD, "P0-002", "the version is refused")
            return
        self._established(preface)
        self._heartbeat.limit_stall(self._peer_idle)  # P0-013: the smaller of both

    def _on_frame(self, kind: int, flags: int, seq: int, request_id: bytes, payload: bytes) -> None:  # noqa: ARG002
        stream = self.stream
        mine = stream is not None and request_id == stream.request_id
        if kind in (codec.STOP, codec.KILL):
            stop = kind == codec.STOP
            input_ = IN_WCH_WORKER_CONNECTION_STALE
            if mine:
                input_ = IN_WCH_WORKER_CONNECTION_STOP if stop else IN_WCH_WORKER_CONNECTION_KILL
            if self._take(input_) != EFFECT_PASS or stream is None:
                return
            if stop:
                stream.stop(codec.decode_stop(payload))
            else:
                stream.kill(self._now)
            self._events += stream.events()
        elif not mine or stream is None:
            self._fault(f"{codec.KIND_NAMES[kind]} for another stream")
        else:
            effect = self._take(_ANSWERS[kind], message=f"{codec.KIND_NAMES[kind]} out of turn")
            if effect == EFFECT_FREE:
                self._free()
            elif effect == EFFECT_PASS:
                self._until = inf
                if kind == codec.ACCEPT:
                    stream.accept()
                else:
                    stream.reject()
                    self._events += stream.events()
                    self._free()

    def _free(self) -> None:
        """Be ready for the next stream (P0-009)."""
        self.stream = None
        self._until = inf
        self._events.append(Idle(first=False))

    def _on_late(self) -> None:
        if self.state == WCH_WORKER_CONNECTION_HELLO_SENT:
            self._take(IN_WCH_WORKER_CONNECTION_UNANSWERED, message="no answer to HELLO")
        elif self.state == WCH_WORKER_CONNECTION_ENDED:
            self._take(IN_WCH_WORKER_CONNECTION_UNCONFIRMED, message="no DONE")

    # -- output

    def _write(self, parts: list[Buffer]) -> None:
        stream = self.stream
        if stream is None or self.state != WCH_WORKER_CONNECTION_STREAMING:
            return
        self._write_stream(stream, parts)
        self._events += stream.events()

    def _write_stream(self, stream: WorkerStream, parts: list[Buffer]) -> None:
        queue, size = stream.queue, 0
        while queue.entries and size < BATCH_SIZE:
            taken = queue.take(parts, self._credit, FRAME)
            if taken == EXHAUSTED:
                stream.exhausted()
                continue
            size += taken
            self.counters.frames_sent[codec.RESPONSE] += 1
            self.counters.octets_sent[codec.RESPONSE] += taken
            if queue.flags & END_STREAM:
                self._take(IN_WCH_WORKER_CONNECTION_TERMINAL)
                self._until = self._now + WCH_DONE_PATIENCE_MS / 1000
                stream.written()
                return
        stream.room()

    def _lose(self) -> int:
        stream, self.stream = self.stream, None
        if stream is None or self.state == WCH_WORKER_CONNECTION_ENDED:
            return 0
        if self.state == WCH_WORKER_CONNECTION_STREAMING:
            stream.lose()
            self._events += stream.events()
        return 1
