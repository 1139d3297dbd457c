"""One request over HTTP as its handler sees it, and its response until it is written.

The rules of this file: the response waits for ACCEPT (P0-003), ends with one terminal (P0-007), and
suspends the handler beyond 256 KiB (P0-013).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import model_wire as w

if TYPE_CHECKING:
    from model_home import Home
    from model_home_connection import HomeConnection
    from model_home_pool import Target
    from model_subjects import Handler

MAX_FRAME = 1_048_576
MAX_MESSAGE = 67_108_864
SEND_BUFFER = 262_144
KILL_PATIENCE = 0.5


class HomeStream:
    """The state of one admitted request, and the call object of its handler."""

    def __init__(
        self,
        home: Home,
        rid: bytes,
        token: bytes,
        subject: str,
        headers: list[tuple[str, str]],
        timeout_ms: int,
        body: bytes,
        handler: Handler,
    ) -> None:
        self.home = home
        self.server = home.server
        self.flaw = home.flaw
        self.rid = rid
        self.token = token
        self.subject = subject
        self.headers = headers
        self.timeout_ms = timeout_ms
        self.request_flags = 0
        self.handler = handler
        self.counted = subject != "conformance.stats"
        self.stop = asyncio.Event()
        self.drain_after: int | None = None
        self.response_headers: list[tuple[str, str]] = []
        self.trailers: list[tuple[str, str]] = []
        self._body: bytes | None = body
        # Output.
        self.outbox: deque[bytes] = deque()
        self.size = 0
        self.seq = 0
        self.message_size = 0
        self.room: asyncio.Future[None] | None = None
        self.terminal = False
        self.failed = False
        # Delivery.
        self.target: Target | None = None
        self.conn: HomeConnection | None = None
        self.attempts = 0
        self.began: float | None = None
        self.waits: asyncio.TimerHandle | None = None
        self.asked = False
        # Life.
        self.task: asyncio.Task[None] | None = None
        self.running = False
        self.cancel_asked = False
        self.killed = False
        self.gone = False
        self.timer: asyncio.TimerHandle | None = None

    # Life -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run the handler and arm its deadline."""
        self.running = True
        self.server.handler_started(self)
        loop = self.home.loop
        self.task = loop.create_task(self._run())
        self.task.add_done_callback(self._ended)
        if self.timeout_ms and not self.flaw("home-no-deadline"):
            self.timer = loop.call_later(self.timeout_ms / 1_000, self._deadline)

    async def _run(self) -> None:
        await self.handler(self)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.running = False
        self.server.handler_ended(self)
        error = None if task.cancelled() else task.exception()
        if self.gone or self.terminal:
            return
        if self.killed or task.cancelled():
            self._terminal(w.CallError(w.CANCELLED, "killed"))
        elif isinstance(error, w.CallError):
            self._terminal(error)
        elif error is not None:
            self._terminal(w.CallError(w.APPLICATION_ERROR, "the handler failed"))
        else:
            self._terminal(None)

    def cancel_handler(self) -> None:
        """Ask the handler to end."""
        if self.running and not self.cancel_asked and self.task is not None:
            self.cancel_asked = True
            self.server.cancelled += self.counted
            self.task.cancel()

    def _deadline(self) -> None:
        self.abort(w.CallError(w.DEADLINE_EXCEEDED, "the deadline has passed"))

    def abort(self, error: w.CallError) -> None:
        """End the stream by a decision of the transport."""
        if self.gone or (self.terminal and not self.outbox):
            return
        self._discard()
        self._terminal(error)
        self.cancel_handler()

    def kill(self) -> None:
        """Carry out KILL."""
        if self.killed or self.gone or self.flaw("home-ignores-kill"):
            return
        self.killed = True
        self._discard()
        self.terminal = False
        self.cancel_handler()
        if self.running:
            self.home.loop.call_later(KILL_PATIENCE, self._kill_over)
        else:
            self._kill_over()

    def _kill_over(self) -> None:
        if not self.gone and not self.terminal:
            self._terminal(w.CallError(w.CANCELLED, "killed"))

    def forget(self, *, spare: bool = False) -> None:
        """Give the stream up; nothing more is sent for it.

        Args:
            spare: Let the handler run on, which only a flawed worker does.
        """
        if self.gone:
            return
        self.finish()
        if not spare:
            self.cancel_handler()

    def finish(self) -> None:
        """Drop what is known of the stream: it has been delivered, or never will be."""
        self.gone = True
        self._discard()
        self.home.live.pop(self.rid, None)
        for timer in (self.timer, self.waits):
            if timer is not None:
                timer.cancel()

    # What the handler does --------------------------------------------------------------------

    async def recv(self) -> bytes | None:
        """Return the one message, then nothing."""
        body, self._body = self._body, None
        return body

    async def send(self, data: bytes, *, more: bool = False) -> None:
        """Queue a message, or with `more` a piece of one; wait while too much is unsent.

        Raises:
            CallError: The message is too long.
        """
        if self.gone or self.killed or self.terminal:
            return
        self.message_size += len(data)
        if self.message_size > MAX_MESSAGE:
            raise w.CallError(w.MESSAGE_TOO_LARGE, "too long", w.NON_RETRYABLE)
        if not more:
            self.message_size = 0
        at = 0
        while True:
            prefix = self._prefix()
            piece = data[at : at + MAX_FRAME - len(prefix)]
            at += len(piece)
            flags = (w.META if prefix else 0) | (w.MORE if more or at < len(data) else 0)
            self._push(flags, prefix + piece)
            if at >= len(data):
                break
        while self.size > SEND_BUFFER and not self.flaw("home-no-backpressure"):
            self.room = self.home.loop.create_future()
            await self.room
        if self.size > SEND_BUFFER:
            await asyncio.sleep(0)

    def _prefix(self) -> bytes:
        headers, self.response_headers = self.response_headers, []
        return w.response_block(headers) if headers else b""

    def _push(self, flags: int, payload: bytes) -> None:
        if self.conn is None and self.flaw("home-loses-early-output"):
            return
        octets = w.frame(w.RESPONSE, flags, 0, self.seq, self.rid, payload)
        self.seq += 1
        self.outbox.append(octets)
        self.size += len(octets)
        self._moved()

    def _terminal(self, error: w.CallError | None) -> None:
        self.terminal, self.failed = True, error is not None
        if error is not None:
            self._push(w.END_STREAM | w.ERROR, w.error_body(error))
        elif self.trailers:
            self._push(w.END_STREAM | w.META, w.response_block(self.trailers))
        else:
            self._push(w.END_STREAM, b"")

    def _moved(self) -> None:
        if self.asked is False and self.flaw("home-hello-waits-for-output"):
            self.asked = True
            self.home.deliver(self)
        if self.conn is not None:
            self.conn.pump()

    # What the connection does -----------------------------------------------------------------

    def take(self) -> bytes | None:
        """Return the next frame to write, None if there is none yet."""
        if not self.outbox:
            return None
        octets = self.outbox.popleft()
        self.size -= len(octets)
        if self.size <= SEND_BUFFER and self.room is not None and not self.room.done():
            self.room.set_result(None)
        return octets

    def _discard(self) -> None:
        """Forget what is unsent; seq goes on behind what was sent."""
        self.seq -= len(self.outbox)
        self.outbox.clear()
        self.size = 0
        if self.room is not None and not self.room.done():
            self.room.set_result(None)
