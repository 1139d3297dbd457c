"""What a case gets that judges a router: POSTs come in, and the judge dials back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from muxwire_conformance.client_mode.context import Call, ClientContext, Listener
from muxwire_conformance.client_mode.home import Delivery, HomeLink
from muxwire_conformance.client_mode.posts import HttpLink, Post
from muxwire_conformance.target import Address, TargetError, parse_address
from muxwire_conformance.transcript import Transcript
from muxwire_conformance.transport import ConnectError, Transport
from muxwire_conformance.verdict import TargetUnreachable

FEATURE = "callhome"
"""What a case declares that needs a driver with this transport."""

LISTEN = "127.0.0.1:0"


class PostListener(Listener):
    """The HTTP port of the judge; every POST of the router waits here for the case."""

    context: RouterContext

    def __init__(self, context: RouterContext) -> None:
        self.links: list[HttpLink] = []
        self.posts: deque[Post] = deque()
        super().__init__(context)

    def _admit(self, transport: Transport) -> None:
        link = HttpLink(self.context, transport, f"http connection {len(self.links) + 1}")
        self.links.append(link)
        self.context.http.append(link)

    def arrived(self, post: Post) -> None:
        """Take a whole POST."""
        self.posts.append(post)
        self.news()

    def adopt(self, context: ClientContext) -> None:
        """Belong to another context from now on, with the HTTP connections that are there."""
        super().adopt(context)
        self.posts.clear()
        for link in self.links:
            link.context = self.context
            self.context.http.append(link)

    def forget(self) -> None:
        """End the connections: the router is gone."""
        for link in self.links:
            link.transport.close()
        self.links.clear()
        self.posts.clear()

    async def take(self, seconds: float | None) -> Post | None:
        """Return the next POST, None if none comes in time."""
        await self.until(lambda: bool(self.posts), seconds)
        return self.posts.popleft() if self.posts else None

    def close(self) -> None:
        """Refuse dials and end every connection."""
        super().close()
        self.forget()


class RouterContext(ClientContext):
    """One run of one case (or of its twin) against a router.

    Attributes:
        connections: Every call-home connection that the judge dialled, in order.
        http: Every HTTP connection of the router, those of the twin's run included.
    """

    connections: list[HomeLink]  # type: ignore[assignment]
    _running = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.http: list[HttpLink] = []

    @property
    def listener(self) -> PostListener:
        """Return the HTTP port of this case, which is opened at the first use."""
        listener = self.bench.listener
        if not isinstance(listener, PostListener):
            listener = self.bench.listener = PostListener(self)
        return listener

    def _path(self) -> dict[str, object]:
        return {"transport": FEATURE, "listen": LISTEN}

    # -- starting --------------------------------------------------------------------------

    async def start(
        self,
        client: Mapping[str, int] | None = None,
        *,
        connections: int = 1,
        addrs: Sequence[str] = (),
        timing: Mapping[str, int] | None = None,
    ) -> None:
        """Start the driver and wait for its ``listening``, or go on with the one of the twin.

        A case that needs nothing special does not call this: the first POST or dial does.
        """
        self._running = True
        await super().start(client, connections=connections, addrs=addrs, timing=timing)
        await self.driver_until(lambda: bool(self.driver.named("listening")))
        if not self.driver.named("listening"):
            self.unprepared("the event listening")

    async def ensure(self) -> None:
        """Start the driver if this run has not done so."""
        if not self._running:
            await self.start()

    @property
    def home(self) -> Address:
        """Return where the router listens."""
        try:
            return parse_address(self.driver.named("listening")[0]["addr"])
        except TargetError as error:
            self.unprepared("an address in the event listening", error)

    async def driver_until_time(self, at: float) -> None:
        """Let time pass until the monotonic clock says ``at``; a driver at fault ends it."""
        await self.driver.until(lambda: False, max(0.0, at - time.monotonic()))
        self.object()

    # -- HTTP ------------------------------------------------------------------------------

    async def post(self, *, check: str | None = None, within: float | None = None) -> Post:
        """Wait for the next POST of the router; nothing is answered."""
        found = await self.listener.take(self.patience.within(within))
        if found is None:
            self.require(check, "a POST of the router", "none")
        if check is not None:
            self.emit(check)
        return found

    @property
    def posts(self) -> list[Post]:
        """Return every POST that has come, taken or not, in the order of their connections."""
        return [post for link in self.http for post in link.posts]

    async def posted(
        self, body: bytes = b"x", *, status: int = 202, **options: Any
    ) -> tuple[Call, Post]:
        """Make one request and answer its POST, by default with 202; 0 answers nothing."""
        await self.ensure()
        call = self.request(body, **options)
        found = await self.post()
        if status:
            found.answer(status)
        return call, found

    async def flushed(self, post: Post) -> None:
        """Wait until the kernel has what was answered to a POST."""
        await post.link.transport.flushed(self.patience.seconds)

    # -- connections -----------------------------------------------------------------------

    async def dial(
        self, home: Address | None = None, *, receive_buffer: int | None = None
    ) -> HomeLink:
        """Make a connection to the router; nothing is sent on it.

        Args:
            home: Where it listens, by default what the driver said.
            receive_buffer: SO_RCVBUF in octets.

        Raises:
            TargetUnreachable: it could not be made.
        """
        await self.ensure()
        home = home or self.home
        try:
            transport = await Transport.connect(
                home.host, home.port, within=self.patience.seconds, receive_buffer=receive_buffer
            )
        except ConnectError as error:
            raise TargetUnreachable(f"a connection to the router at {home}", str(error)) from error
        link = HomeLink(self, transport, f"connection {len(self.connections) + 1}")
        self.connections.append(link)
        return link

    async def line(self, *, idle_timeout_ms: int = 0) -> HomeLink:
        """Make a connection and exchange the prefaces: it is idle then."""
        link = await self.dial()
        link.greet(idle_timeout_ms=idle_timeout_ms)
        await link.welcomed()
        return link

    async def carried(
        self, body: bytes = b"x", *, idle_timeout_ms: int = 0, **options: Any
    ) -> tuple[HomeLink, Delivery, Call]:
        """Make one request and get it as far as ACCEPT; nothing of it is answered."""
        call, found = await self.posted(body, **options)
        link = await self.line(idle_timeout_ms=idle_timeout_ms)
        return link, await link.carry(found), call

    # -- ending ----------------------------------------------------------------------------

    def _leave_waiting(self) -> None:
        """Leave nothing: the judge itself dialled every connection."""

    @property
    def transcripts(self) -> list[Transcript]:
        """Return what was said, for the report."""
        own = [self._said] if self._said is not None else []
        http = [link.transcript for link in self.http]
        return [*own, *http, *(link.transcript for link in self.connections)]
