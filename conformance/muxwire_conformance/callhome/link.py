"""One call-home connection: the worker dialled, and the judge is the router.

The rules of ``conversation`` hold here too. The judge answers the preface and PINGs by itself and
keeps the connection alive; ACCEPT, REJECT and DONE are for the case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from muxwire_spec.interpret import WCH

from muxwire_conformance import wire
from muxwire_conformance.callhome.watcher import HomeWatcher
from muxwire_conformance.conversation import Conversation
from muxwire_conformance.stream import Response
from muxwire_conformance.transport import End, Transport
from muxwire_conformance.wire import Fault, Frame

if TYPE_CHECKING:
    from muxwire_conformance.callhome.context import CallhomeContext
    from muxwire_conformance.callhome.router import Router

ASSUMED_IDLE_MS = 60_000


class HomeLink(Conversation):
    """One connection that the worker under test dialled.

    Attributes:
        router: Whose port it came to.
        greeting: What the preface of the worker is answered with, None for nothing.
        hellos: Every HELLO of the connection, in order.
    """

    PEER = "worker"
    PROTOCOL = WCH
    MAGIC = wire.WCH_MAGIC
    context: CallhomeContext
    watcher: HomeWatcher

    def __init__(
        self, context: CallhomeContext, transport: Transport, label: str, router: Router
    ) -> None:
        self.router = router
        self.hellos: list[Frame] = []
        self.responses: dict[bytes, Response] = {}
        self.greeted = False
        self.greeting = router.greeting
        super().__init__(context, transport, label, HomeWatcher())
        self.auto_credit = False

    # -- what comes in ---------------------------------------------------------------------

    def _on_bytes(self, data: bytes, at: float) -> None:
        super()._on_bytes(data, at)
        if self.preface is not None and not self.greeted and self.greeting is not None:
            self.greet(self.greeting)
        self.context.happened()

    def _on_end(self, end: End) -> None:
        super()._on_end(end)
        self.context.happened()

    def _dispatch(self, frame: Frame) -> None:
        if frame.type == wire.CONTROL and frame.subtype == wire.HELLO:
            self.hellos.append(frame)
            self.router.hello(self, frame)
            return
        super()._dispatch(frame)

    def _content(self, frame: Frame) -> bool:
        response = self.responses.get(frame.request_id)
        if response is not None:
            response.receive(frame)
        return response is not None

    def _credited(self, request_id: bytes, limit: int) -> None:
        """Take no credit: the watcher has noted a frame that is unknown here."""

    def _learned(self) -> None:
        """Take no settings: the watcher has noted a frame that is unknown here."""

    def _talking(self) -> bool:
        return self.greeted and self.preface is not None

    # -- what goes out ---------------------------------------------------------------------

    def greet(self, octets: bytes) -> None:
        """Write the router's preface, or what stands in its place."""
        self.greeted = self._settings_sent = True
        if self.preface is not None:
            self.peer_settings["IDLE_TIMEOUT_MS"] = self.preface.reserved or ASSUMED_IDLE_MS
        self.send(octets)
        self._beat_later()

    def _sent_frame(
        self, kind: int, subtype: int, _flags: int, _length: int, request_id: bytes
    ) -> None:
        if kind == wire.CONTROL and subtype in (wire.ACCEPT, wire.REJECT, wire.DONE):
            self.watcher.answered(subtype, request_id)

    def expecting(self, request_id: bytes, *, discard: bool = False) -> Response:
        """Return the response of a stream, which its RESPONSE frames go to."""
        response = self.responses[request_id] = Response(self, request_id, discard=discard)
        return response

    def note(self, fault: Fault, frame: Frame) -> None:
        """Note a broken rule that only the router can see."""
        self._violated(fault, frame)
