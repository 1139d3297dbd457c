"""One request as the judge sees it: what it sent, what came back, and how to wait for more."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Unpack

from muxwire_conformance import wire
from muxwire_conformance.verdict import Unprepared
from muxwire_conformance.wire import Assembler, ErrorBody, Frame, HeaderFields

if TYPE_CHECKING:
    from muxwire_conformance.conversation import Conversation
    from muxwire_conformance.dialogue import Connection


class Answer(dict[str, Any]):
    """The JSON object that a conformance subject answered; the target may have left things out."""

    def __missing__(self, name: str) -> Any:
        """End the case as INCONCLUSIVE.

        Raises:
            Unprepared: always.
        """
        raise Unprepared(f"{name!r} in the answer of the target", str(dict(self)))


class Response:
    """What comes back for a request id on a connection.

    Helpers with ``check=`` judge: they emit that check, or fail the case. Without ``check=`` they
    prepare: if what they wait for does not come, the case is INCONCLUSIVE.
    """

    def __init__(
        self, connection: Conversation, request_id: bytes, *, discard: bool = False
    ) -> None:
        self.connection = connection
        self.id = request_id
        self.received_cost = 0
        self.frames: list[Frame] = []
        self.headers: list[tuple[bytes, bytes]] | None = None
        self.trailers: list[tuple[bytes, bytes]] | None = None
        self.terminal: Frame | None = None
        self.octets = 0
        self._discard = discard
        self._assembler = Assembler()
        self._taken = 0

    def __str__(self) -> str:
        """Name the request by the start of its id."""
        return f"request {self.id.hex()[:8]}.."

    def stop(self, reason: str | int = "CANCELLED") -> None:
        """Write STOP."""
        self.connection.send(wire.stop(self.id, reason))

    def kill(self, reason: str | int = "CANCELLED") -> None:
        """Write KILL."""
        self.connection.send(wire.kill(self.id, reason))

    def receive(self, frame: Frame) -> None:
        """Take a RESPONSE frame; called by the connection."""
        self.octets += len(frame.data)
        self.received_cost += frame.cost
        if frame.headers is not None:
            if frame.seq == 0:
                self.headers = frame.headers
            else:
                self.trailers = frame.headers
        if self._discard:
            frame.payload = frame.data = b""
        else:
            self._assembler.add(frame)
        self.frames.append(frame)
        if frame.end and self.terminal is None:
            self.terminal = frame

    @property
    def messages(self) -> list[bytes]:
        """Return the complete messages received so far."""
        return self._assembler.messages

    @property
    def error(self) -> ErrorBody | None:
        """Return the error body of the terminal, if it is an error."""
        return self.terminal.error if self.terminal is not None else None

    async def _until(self, ready: Callable[[], bool], within: float | None) -> bool:
        return await self.connection.wait_for(ready, within)

    async def message(self, *, check: str | None = None, within: float | None = None) -> bytes:
        """Wait for the next complete message and return it."""

        def ready() -> bool:
            return len(self.messages) > self._taken or self.terminal is not None

        await self._until(ready, within)
        if len(self.messages) > self._taken:
            self._taken += 1
            self.connection.hold(check)
            return self.messages[self._taken - 1]
        return self.connection.fail(check, "a message", self._state(), self.terminal)

    async def end(self, *, check: str | None = None, within: float | None = None) -> Frame:
        """Wait for the terminal, whatever it says, and return it."""
        await self._until(lambda: self.terminal is not None, within)
        if self.terminal is None:
            return self.connection.fail(check, "the terminal of the request", self._state())
        self.connection.hold(check)
        return self.terminal

    async def result(self, *, check: str | None = None, within: float | None = None) -> list[bytes]:
        """Wait for a success terminal and return all messages."""
        messages = await self._success(check, within)
        self.connection.hold(check)
        return messages

    async def _success(self, check: str | None, within: float | None) -> list[bytes]:
        await self._until(lambda: self.terminal is not None, within)
        if self.terminal is None or self.terminal.is_error:
            self.connection.fail(check, "a success terminal", self._state(), self.terminal)
        return self.messages

    async def json(self, *, check: str | None = None, within: float | None = None) -> Answer:
        """Wait for success with exactly one message and return it as a JSON object."""
        messages = await self._success(check, within)
        try:
            value = json.loads(messages[0]) if len(messages) == 1 else None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            got = f"{len(messages)} messages" + (f", {messages[0][:80]!r}" if messages else "")
            self.connection.fail(check, "one message with a JSON object", got, self.terminal)
        self.connection.hold(check)
        return Answer(value)

    async def fails(
        self,
        error: str,
        *,
        check: str | None = None,
        not_processed: bool | None = None,
        within: float | None = None,
    ) -> Frame:
        """Wait for an error terminal with this code and return it.

        Args:
            error: Name of the error code.
            check: The check to emit.
            not_processed: What the NOT_PROCESSED flag must be; None does not look.
            within: Seconds until the terminal, by default the usual deadline.
        """
        expected = f"an error terminal with {wire.code_name(wire.code(error))}"
        if not_processed is not None:
            expected += " and NOT_PROCESSED" if not_processed else " without NOT_PROCESSED"
        await self._until(lambda: self.terminal is not None, within)
        frame, connection = self.terminal, self.connection
        if frame is None:
            connection.fail(check, expected)
        body = frame.error
        if body is None:
            connection.fail(check, expected, str(frame), frame, field="flags")
        if body.code != wire.code(error):
            connection.fail(check, expected, str(frame), frame, field="code")
        if not_processed not in (None, body.not_processed):
            connection.fail(check, expected, str(frame), frame, field="error_flags")
        connection.hold(check)
        return frame

    def _state(self) -> str:
        if self.terminal is not None:
            kind = f"error {self.error}" if self.terminal.is_error else "success"
            return f"a terminal ({kind}) after {len(self.messages)} messages"
        return (
            f"{len(self.frames)} RESPONSE frames with {len(self.messages)} messages,"
            f" then {self.connection.situation()}"
        )


class Stream(Response):
    """A request id on a WMX/1 connection, of which the judge sends the request."""

    connection: Connection

    def __init__(self, connection: Connection, request_id: bytes, *, discard: bool = False) -> None:
        super().__init__(connection, request_id, discard=discard)
        self.next_seq = 0
        self.sent_cost = 0
        self.send_limit = connection.peer_settings["INITIAL_STREAM_WINDOW"]
        self.credit_given = connection.watcher.settings["INITIAL_STREAM_WINDOW"]

    def send(
        self,
        data: bytes = b"",
        *,
        end: bool = False,
        more: bool = False,
        **header: Unpack[HeaderFields],
    ) -> bytes:
        """Write one REQUEST frame with the next seq at once, whatever the credit; return it."""
        seq = self.next_seq
        self.next_seq += 1
        raw = wire.request(self.id, seq, data, end=end, more=more, **header)
        self.connection.send(raw)
        return raw

    async def send_message(self, data: bytes, *, end: bool = False) -> None:
        """Write one message of any size as a correct client does: in pieces, within all credit.

        Returns early when the request or the connection has ended.
        """
        left = memoryview(data)
        while True:
            room = self._room()
            if room < min(1, len(left)) or (room < 0 and not end):
                if not await self.connection.until(
                    lambda: self._room() >= 1 or self.terminal is not None,
                    self.connection.patience.seconds,
                ):
                    self.connection.fail(None, "credit to send more of a message")
                if self.terminal is not None:
                    return
                continue
            piece, left = left[:room], left[room:]
            self.send(bytes(piece), more=bool(left), end=end and not left)
            if not left:
                return
            await self.connection.flushed()

    def _room(self) -> int:
        connection = self.connection
        credit = min(self.send_limit - self.sent_cost, connection.send_limit - connection.sent_cost)
        return min(connection.peer_settings["MAX_FRAME_SIZE"], credit - wire.HEADER_SIZE)

    def finish(self) -> None:
        """Write an empty REQUEST with END_STREAM."""
        self.send(end=True)
