"""What a case can say and expect where the judge is the worker and the target the client.

The rules of ``conversation`` hold here too. The judge answers PINGs, gives credit back and keeps
the connection alive by itself; it answers no request by itself.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from muxwire_conformance import wire
from muxwire_conformance.client_mode.exchange import Exchange
from muxwire_conformance.client_mode.watcher import LinkWatcher
from muxwire_conformance.conversation import JUDGE_SETTINGS, Conversation
from muxwire_conformance.transport import Transport
from muxwire_conformance.wire import Frame

if TYPE_CHECKING:
    from muxwire_conformance.client_mode.context import ClientContext

WORKER_SETTINGS: Mapping[str, int] = {**JUDGE_SETTINGS, "MAX_CONCURRENT_REQUESTS": 128}
"""What the judge announces as a worker unless a case says otherwise."""


class Link(Conversation):
    """One connection that the client under test dialled.

    Attributes:
        exchanges: Every request of the connection by id, in the order of their OPENs.
    """

    PEER = "client"
    context: ClientContext
    watcher: LinkWatcher

    def __init__(self, context: ClientContext, transport: Transport, label: str) -> None:
        super().__init__(context, transport, label, LinkWatcher(context.known_ids))
        self.exchanges: dict[bytes, Exchange] = {}
        self.sent_cost = 0
        self.send_limit = self.peer_settings["CONNECTION_WINDOW"]
        self.untaken: deque[Exchange] = deque()

    # -- what comes in ---------------------------------------------------------------------

    def _dispatch(self, frame: Frame) -> None:
        if frame.type == wire.CONTROL and frame.subtype in (wire.STOP, wire.KILL):
            exchange = self.exchanges.get(frame.request_id)
            if exchange is not None:
                exchange.controls.append(frame)
                return
        super()._dispatch(frame)

    def _content(self, frame: Frame) -> bool:
        if frame.type != wire.REQUEST:
            return False
        self.received_cost += frame.cost
        exchange = self.exchanges.get(frame.request_id)
        if exchange is None:
            exchange = Exchange(self, frame, len(self.exchanges) + 1)
            self.exchanges[frame.request_id] = exchange
            self.untaken.append(exchange)
        exchange.receive(frame)
        if self.auto_credit and frame.cost and self._outgoing.between_frames:
            self._give_credit(exchange)
        return True

    def _give_credit(self, exchange: Exchange) -> None:
        if not self._settings_sent:
            return
        self._give_connection_credit()
        window = self.watcher.settings["INITIAL_STREAM_WINDOW"]
        if not exchange.ended and exchange.credit_given - exchange.received_cost < window // 2:
            exchange.credit_given = exchange.received_cost + window
            self._automatic(wire.window_update(exchange.credit_given, request_id=exchange.id))

    def _learned(self) -> None:
        self.send_limit = max(self.send_limit, self.peer_settings["CONNECTION_WINDOW"])
        window = self.peer_settings["INITIAL_STREAM_WINDOW"]
        for exchange in self.exchanges.values():
            exchange.send_limit = max(exchange.send_limit, window)

    def _credited(self, request_id: bytes, limit: int) -> None:
        if request_id == wire.CONNECTION_ID:
            self.send_limit = max(self.send_limit, limit)
        elif request_id in self.exchanges:
            exchange = self.exchanges[request_id]
            exchange.send_limit = max(exchange.send_limit, limit)

    # -- what goes out ---------------------------------------------------------------------

    def _sent_frame(
        self, kind: int, _subtype: int, flags: int, length: int, request_id: bytes
    ) -> None:
        if kind != wire.RESPONSE:
            return
        exempt = flags & wire.ERROR or (flags & wire.END_STREAM and length == 0)
        cost = 0 if exempt else wire.HEADER_SIZE + length
        self.sent_cost += cost
        exchange = self.exchanges.get(request_id)
        if exchange is not None:
            exchange.sent_cost += cost
        if flags & wire.END_STREAM:
            self.watcher.finished(request_id)
            if exchange is not None:
                exchange.answered = True

    # -- set-up ----------------------------------------------------------------------------

    def greet(self, settings: Mapping[str, int] | None = None, *, ack: bool = True) -> None:
        """Write the preface, SETTINGS and SETTINGS_ACK in one write, waiting for nothing."""
        pieces = [wire.preface(), self.settings({**WORKER_SETTINGS, **(settings or {})})]
        if ack:
            pieces.append(wire.settings_ack())
        self.send(*pieces)

    async def handshake(
        self, settings: Mapping[str, int] | None = None, *, check: str | None = None
    ) -> None:
        """Do the whole set-up, as a worker does.

        Args:
            settings: Values that replace the judge's defaults, by name.
            check: The check that judges it.
        """
        await self.offered(check=check)
        await self.welcome(settings, check=check)

    async def welcome(
        self, settings: Mapping[str, int] | None = None, *, check: str | None = None
    ) -> None:
        """Answer the client's preface and SETTINGS, and wait for its SETTINGS_ACK."""
        self.greet(settings)
        await self.expect("SETTINGS_ACK", check=check)

    async def offered(self, *, check: str | None = None, within: float | None = None) -> None:
        """Wait for the client's preface and SETTINGS."""
        await self.wait_for(lambda: self.settings_frame is not None, within)
        if self.preface is None:
            self.fail(check, "the preface of the client")
        await self.expect("SETTINGS", check=check)

    # -- requests --------------------------------------------------------------------------

    async def take(
        self,
        where: Callable[[Exchange], bool] = lambda _one: True,
        *,
        check: str | None = None,
        within: float | None = None,
    ) -> Exchange:
        """Wait for the next request that was not taken yet and return it.

        Args:
            where: Which request; the next one by default.
            check: The check that judges that it comes.
            within: Seconds, by default the usual deadline.
        """

        def found() -> Exchange | None:
            return next((one for one in self.untaken if where(one)), None)

        await self.wait_for(lambda: found() is not None, within)
        exchange = found()
        if exchange is None:
            self.fail(check, "an OPEN of the client")
        self.untaken.remove(exchange)
        self.hold(check)
        return exchange

    def opens_behind(self, frame_index: int) -> list[Exchange]:
        """Return the requests whose OPEN came behind the frame with this index."""
        return [one for one in self.exchanges.values() if one.opening.index > frame_index]

    async def pong_index(self, *before: bytes) -> int:
        """Write octets and a PING in one write; return how many frames came before its PONG.

        Frames of the client with an index from there on were sent when it knew the octets.
        """
        nonce = self.context.nonce()
        self._fences[nonce] = None
        self.send(*before, wire.ping(nonce))
        await self.wait_for(lambda: self._fences[nonce] is not None)
        if self._fences[nonce] is None:
            self.fail(None, "PONG")
        return next(
            one.index
            for one in self.frames
            if one.type == wire.HEARTBEAT and one.subtype == wire.PONG and one.payload == nonce
        )

    # -- judging ---------------------------------------------------------------------------

    async def expect_connection_error(
        self,
        error: str,
        *,
        within: float | None = None,
        last_ordinal: int | None = 0,
        also: Iterable[str] = (),
        twin_ends: bool = False,
    ) -> Frame | None:
        """Expect CE(error) of a client: its GOAWAY has last_ordinal 0 (section 0.5)."""
        frame = await super().expect_connection_error(
            error, within=within, last_ordinal=last_ordinal, also=also, twin_ends=twin_ends
        )
        if frame is not None:
            self.transport.half_close()
        return frame

    async def end_with(self, error: str | int = "NO_ERROR", *, last_ordinal: int = 0) -> None:
        """Write a GOAWAY and end the connection behind it."""
        self.send(wire.goaway(error, last_ordinal=last_ordinal))
        await self.cut()

    async def cut(self, *, reset: bool = False) -> None:
        """End the connection: with FIN behind what was written, or with a reset."""
        await self.flushed()
        if reset:
            self.abort()
            return
        self.auto_pong = self.auto_credit = False
        self.stop_heartbeat()
        self.transcript.event("the judge ends the connection (FIN)", time.monotonic())
        self.transport.half_close()
