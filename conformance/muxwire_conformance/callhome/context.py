"""What a case of the call-home path gets: routers, POSTs, and questions to the target."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from muxwire_conformance.callhome.delivery import Delivery
from muxwire_conformance.callhome.post import Fields, Post, request
from muxwire_conformance.callhome.router import Router
from muxwire_conformance.context import Context
from muxwire_conformance.dialogue import STATS, Body
from muxwire_conformance.stream import Answer
from muxwire_conformance.transcript import Transcript
from muxwire_conformance.transport import ConnectError, Transport
from muxwire_conformance.verdict import TargetUnreachable, Unprepared

ROOT = "/v1/rpc"
POLL = 0.02


def stream_text(id: bytes) -> str:
    """Return a request id as ``wch-stream`` has it."""
    return str(uuid.UUID(bytes=id))


def token_text(token: bytes) -> str:
    """Return a token as ``wch-token`` has it."""
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


class CallhomeContext(Context):
    """One run of one case (or of its twin) against one worker, over the call-home path.

    Attributes:
        routers: Every listener of the run, in order.
        posts: Every POST of the run, in order.
    """

    connections: list[Any]

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.routers: list[Router] = []
        self.posts: list[Post] = []
        self._monitor: Router | None = None
        self._activity = asyncio.Event()

    # -- waiting ---------------------------------------------------------------------------

    def happened(self) -> None:
        """Wake whoever waits for something of this run."""
        self._activity.set()

    async def until(self, ready: Callable[[], bool], seconds: float | None) -> bool:
        """Wait until ``ready()`` or the deadline; tell if ready."""
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        while not ready():
            self._activity.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._activity.wait()
            except TimeoutError:
                # The judge may have been the slow one: read what is waiting before judging.
                for _ in range(3):
                    await asyncio.sleep(0)
                return ready()
        return True

    async def wait_for(self, ready: Callable[[], bool], within: float | None = None) -> bool:
        """Wait for what has to come, as long as the patience allows; tell if it came."""
        slack, seconds = self.patience.slack, self.patience.within(within)
        while not await self.until(ready, seconds):
            before, slack = slack, self.patience.slack
            if slack <= before:
                return False
            seconds = slack - before
        return True

    # -- saying ----------------------------------------------------------------------------

    async def router(self, host: str = "") -> Router:
        """Listen at a new port; the first one is where ``post`` points by default.

        Args:
            host: An address other than that of the run, for which the same is advertised.
        """
        made = self._listen(host)
        self.routers.append(made)
        return made

    def _listen(self, host: str = "") -> Router:
        used = self.callback.used
        trouble: Unprepared | None = None
        try:
            places = self.callback.places(self.address)
            for bind, told in places:
                here = bind if not host else type(bind)(host=host, port=bind.port)
                said = told if not host else type(told)(host=host, port=told.port)
                try:
                    made = Router(self, here.host, here.port, said)
                except Unprepared as error:
                    trouble = error
                    if not bind.port:
                        break
                    continue
                if bind.port or made.port not in used:
                    used.add(made.port)
                    return made
                made.close()
        except OSError as error:
            raise Unprepared("an address of the judge for workers", str(error)) from error
        raise trouble or Unprepared("a port for workers", "none is left")

    async def post(
        self,
        subject: str,
        body: Body = b"",
        *,
        router: Router | None = None,
        timeout_ms: int | None = None,
        headers: Fields = (),
        fields: Mapping[str, str | None] | None = None,
        more: Fields = (),
        method: str = "POST",
        target: str | None = None,
        content_type: str = "application/octet-stream",
        length: int | None = None,
        delivery: Delivery | None = None,
        token: bytes | None = None,
        marked: bool = False,
    ) -> Delivery:
        """Write a request and return its delivery; nothing is waited for.

        Args:
            subject: Subject; ``conformance.*`` needs ``features=["conformance"]`` on the case.
            body: The message; a mapping is sent as JSON.
            router: Where the response is to come, by default the first router.
            timeout_ms: ``wch-timeout-ms``, None to leave it out.
            headers: Further fields, in front of those of the path.
            fields: Values that replace those of fields of this path, None to leave one out.
            more: Further fields, behind those of the path.
            method: The method.
            target: The path of the URL, by default the root and the subject.
            content_type: The media type of the body, "" to leave it out.
            length: What ``content-length`` says, if not the real length.
            delivery: Say the same stream and token as an earlier request.
            token: The token, by default a random one.
            marked: Mark the request as the one that breaks a rule.
        """
        self.require_feature_of(subject)
        if router is None:
            router = self.routers[0] if self.routers else await self.router()
        octets = self.encode(body)
        id = delivery.id if delivery is not None else self._new_stream()
        if token is None:
            token = delivery.token if delivery is not None else self.rng.randbytes(16)
        own: dict[str, str | None] = {
            "host": str(self.address),
            "content-type": content_type or None,
            "content-length": str(len(octets) if length is None else length),
            "wch-addr": router.addr,
            "wch-stream": stream_text(id),
            "wch-token": token_text(token),
            "wch-timeout-ms": None if timeout_ms is None else str(timeout_ms),
        } | dict(fields or {})
        said = [(name, value) for name, value in own.items() if value is not None]
        post = Post(self, f"POST {len(self.posts) + 1}")
        self.posts.append(post)
        made = Delivery(self, router, post, id, token)
        router.deliveries.setdefault(id, made)
        raw = request(method, target or f"{ROOT}/{subject}", [*headers, *said, *more], octets)
        post.send(await self._dial(), raw, marked=marked and not self.twin_run)
        return made

    def _new_stream(self) -> bytes:
        """Return an id that no earlier stream of the run had."""
        while (id := self.new_id()) in self.callback.streams:
            pass
        self.callback.streams.add(id)
        return id

    async def _dial(self) -> Transport:
        try:
            return await Transport.connect(
                self.address.host, self.address.port, within=self.patience.seconds
            )
        except ConnectError as error:
            raise TargetUnreachable("a new HTTP connection", str(error)) from error

    async def call(
        self, subject: str, body: Body = b"", *, check: str | None = None, **options: Any
    ) -> list[bytes]:
        """Run one request to its success, with DONE, and return its messages."""
        delivery = await self.post(subject, body, **options)
        await delivery.admitted(check=check)
        return await delivery.result(check=check)

    # -- asking ----------------------------------------------------------------------------

    async def ask(self, subject: str, body: Body = b"") -> Answer:
        """Run a request on a router apart and return its one message as a JSON object."""
        if self._monitor is None:
            self._monitor = self._listen()
        delivery = await self.post(subject, body, router=self._monitor)
        await delivery.admitted()
        response = await delivery.accepted()
        answer = await response.json()
        delivery.done()
        return answer

    async def stats(self, **parameters: object) -> dict[str, int]:
        """Return ``conformance.stats``; the pools of the case's own routers are not used."""
        answer = await self.ask("conformance.stats", parameters)
        if not all(isinstance(answer[name], int | float) for name in STATS):
            self.unprepared(f"numbers for {', '.join(STATS)}", dict(answer))
        return dict(answer)

    async def settles(
        self,
        ready: Callable[[dict[str, int]], bool],
        *,
        expected: str,
        check: str | None = None,
        within: float | None = None,
    ) -> dict[str, int]:
        """Ask for statistics until they are as expected or time is over; return the last ones."""
        deadline = self.patience.within(within)
        started = time.monotonic()
        while True:
            stats = await self.stats()
            late = deadline is not None and time.monotonic() - started > deadline
            if ready(stats) or late:
                break
            await asyncio.sleep(POLL)
        if check is not None:
            self.check(check, ready(stats), expected=expected, actual=stats)
        elif not ready(stats):
            self.unprepared(expected, stats)
        return stats

    @property
    def reached(self) -> bool:
        """Tell whether a worker has called home."""
        return any(router.dialled for router in self.routers)

    # -- ending ----------------------------------------------------------------------------

    @property
    def transcripts(self) -> list[Transcript]:
        """Return the POSTs and the connections of workers that said anything."""
        links = [link for link in self.connections if link.frames or link.transcript.count > 2]
        spoken: Sequence[Post] = self.posts
        return [*(post.transcript for post in spoken), *(link.transcript for link in links)]

    async def close(self) -> None:
        """Close everything, politely."""
        self._close_ports()
        await super().close()

    def abandon(self) -> None:
        """Close everything at once."""
        self._close_ports()
        super().abandon()

    def _close_ports(self) -> None:
        for router in (*self.routers, *([self._monitor] if self._monitor else [])):
            router.close()
        for post in self.posts:
            post.close()


async def ask_over_callhome(context: CallhomeContext) -> dict[str, Any]:
    """Ask ``conformance.info`` and say plainly where the way back is closed."""
    delivery = await context.post("conformance.info")
    answer = await delivery.admitted()
    router = delivery.router
    await context.wait_for(lambda: bool(router.dialled), 5.0)
    if not router.dialled:
        raise Unprepared(
            f"the worker to call home at {router.addr}",
            f"{answer.status}, then nobody dialled; see --callback-advertise",
        )
    value = await (await delivery.accepted()).json()
    delivery.done()
    return dict(value)
