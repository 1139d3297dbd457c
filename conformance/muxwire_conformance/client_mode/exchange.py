"""One request as the judge sees it when it plays the worker: what came, and how to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from muxwire_conformance import wire
from muxwire_conformance.client_mode.answers import Answers
from muxwire_conformance.wire import Assembler, Frame

if TYPE_CHECKING:
    from muxwire_conformance.client_mode.link import Link


class Exchange(Answers):
    """A request that the client opened on a connection.

    Helpers with ``check=`` judge; without it they prepare (see ``conversation``).

    Attributes:
        ordinal: Its place among the OPENs of the connection, from 1.
        opening: The OPEN frame.
        frames: Its REQUEST frames.
        controls: The STOP and KILL frames for it.
        octets: How much message data came, also of messages that are not complete.
    """

    def __init__(self, link: Link, opening: Frame, ordinal: int) -> None:
        super().__init__(link, opening.request_id)
        self.link: Link = link
        self.opening = opening
        self.ordinal = ordinal
        self.frames: list[Frame] = []
        self.controls: list[Frame] = []
        self.octets = 0
        self.received_cost = 0
        self.credit_given = link.watcher.settings["INITIAL_STREAM_WINDOW"]
        self.sent_cost = 0
        self.send_limit = link.peer_settings["INITIAL_STREAM_WINDOW"]
        self.answered = False
        self._assembler = Assembler()

    def __str__(self) -> str:
        """Name the request by its subject and the start of its id."""
        return f"request {self.id.hex()[:8]}.. ({self.subject})"

    # -- what came -------------------------------------------------------------------------

    def receive(self, frame: Frame) -> None:
        """Take a REQUEST frame; called by the link."""
        self.frames.append(frame)
        self.octets += len(frame.data)
        self.received_cost += frame.cost
        self._assembler.add(frame)

    @property
    def subject(self) -> str:
        """Return the subject."""
        head = self.opening.opening
        return head.subject.decode("latin-1") if head is not None else ""

    @property
    def timeout_ms(self) -> int:
        """Return the deadline that the OPEN carries."""
        return self.opening.opening.timeout_ms if self.opening.opening is not None else 0

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of the OPEN, in order."""
        return self.opening.headers or []

    def header(self, key: str) -> str | None:
        """Return the value of a header, None if it is not there."""
        for name, value in self.headers:
            if name == key.encode():
                return value.decode("utf-8", "replace")
        return None

    @property
    def messages(self) -> list[bytes]:
        """Return the complete messages received so far."""
        return self._assembler.messages

    @property
    def ended(self) -> bool:
        """Tell whether END_STREAM has come."""
        return bool(self.frames) and self.frames[-1].end

    @property
    def kill(self) -> Frame | None:
        """Return the KILL, if one came."""
        return next((one for one in self.controls if one.subtype == wire.KILL), None)

    @property
    def stop(self) -> Frame | None:
        """Return the STOP, if one came."""
        return next((one for one in self.controls if one.subtype == wire.STOP), None)

    async def complete(
        self, *, check: str | None = None, within: float | None = None
    ) -> list[bytes]:
        """Wait for END_STREAM and return the messages."""
        await self.link.wait_for(lambda: self.ended, within)
        if not self.ended:
            self.link.fail(check, f"END_STREAM of {self}")
        self.link.hold(check)
        return self.messages

    async def killed(
        self,
        reason: str | int | None = None,
        *,
        check: str | None = None,
        within: float | None = None,
    ) -> Frame:
        """Wait for the KILL of this request and return it; ``reason`` is what it must say."""
        await self.link.wait_for(lambda: self.kill is not None, within)
        frame = self.kill
        expected = f"KILL of {self}"
        if frame is None:
            self.link.fail(check, expected)
        if reason is not None and int.from_bytes(frame.payload, "big") != wire.code(reason):
            words = f"{expected} with {wire.code_name(wire.code(reason))}"
            self.link.fail(check, words, frame.payload.hex(), frame, field="reason")
        self.link.hold(check)
        return frame

    # -- answering within credit ------------------------------------------------------------

    async def send_message(
        self, data: bytes, *, end: bool = False, check: str | None = None
    ) -> None:
        """Write one message of any size within all credit, as a correct worker does.

        Args:
            data: The message.
            end: Set END_STREAM on its last frame.
            check: The check that fails if the client does not give enough credit.
        """
        left = memoryview(data)
        while True:
            room = self.room()
            if room < min(1, len(left)):
                if not await self.link.wait_for(lambda: self.room() >= 1):
                    self.link.fail(check, "credit to send more of a message")
                continue
            piece, left = left[:room], left[room:]
            self.send(bytes(piece), more=bool(left), end=end and not left)
            if not left:
                return
            await self.link.flushed()

    def room(self) -> int:
        """Return how many octets of payload fit into the next frame by all limits."""
        link = self.link
        credit = min(self.send_limit - self.sent_cost, link.send_limit - link.sent_cost)
        return min(link.peer_settings["MAX_FRAME_SIZE"], credit - wire.HEADER_SIZE)
