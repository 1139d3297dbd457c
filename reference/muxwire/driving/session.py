"""A session with a tester: operations are carried out in order on one client.

Rules of this file: an operation that is refused has no effect.  `closed` is the last line.  When
the tester's words end, so do the connections, soon.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

from muxwire._generated import codec
from muxwire.core.events import ConnectionEnded, GoawayReceived, HandshakeDone, Idle
from muxwire.driving.lines import PROTOCOL, BadLine, read, write
from muxwire.driving.request import DrivenRequest
from muxwire.driving.transports import Ears, Transport, Wish, offered
from muxwire.errors import ConnectError, InvalidArgument
from muxwire.tcp.caller import Caller
from muxwire.tcp.link import Milestone
from muxwire.version import VERSION

HURRY = 0.5
"""Seconds that requests may still run after the end of the input."""


class Session:
    """What is between a tester and a client.

    Args:
        target: The address of the command line, or None.
        output: Takes each line.
    """

    def __init__(self, target: str | None, output: Callable[[bytes], None]) -> None:
        self._target = target
        self._output = output
        self._offered = offered()
        self._features: tuple[str, ...] = ()  # of the transport in use
        self._client: Caller | None = None
        self._starting: asyncio.Task[None] | None = None
        self._later: deque[Callable[[], None]] = deque()
        self._refs: set[str] = set()
        self._open: dict[str, DrivenRequest] = {}
        self._closing = asyncio.Event()
        self._input_over = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closed = False
        self._say(
            "ready",
            driver=f"muxwire {VERSION}",
            protocol=PROTOCOL,
            transports=[*self._offered],
            features=[*dict.fromkeys(chain(*(path.features for path in self._offered.values())))],
        )

    async def run(self) -> None:
        """Return when `closed` has been said."""
        await self._closing.wait()
        if self._client is not None:
            await self._close(self._client)
        self._say("closed")
        self._closed = True

    def take(self, line: bytes | None) -> None:
        """Carry out a line; None is one that is too long."""
        self._in_turn(partial(self._carry_out, line))

    def end(self) -> None:
        """Note the end of the input."""
        self._in_turn(self._end)

    def _in_turn(self, action: Callable[[], None]) -> None:
        """Do what the tester wants once `connect` is in force."""
        if self._starting is None:
            action()
        else:
            self._later.append(action)

    def _carry_out(self, line: bytes | None) -> None:
        try:
            if line is None:
                raise BadLine("the line is too long")
            op, members = read(line)
            getattr(self, f"_op_{op}")(**members)
        except BadLine as bad:
            ref = {} if bad.ref is None else {"ref": bad.ref}
            self._say("invalid", op=bad.op, **ref, message=str(bad))

    def _end(self) -> None:
        self._input_over.set()
        self._closing.set()

    @property
    def open_requests(self) -> int:
        """Requests that have not had their final event."""
        return len(self._open)

    # -- operations

    def _op_connect(
        self,
        *,
        addrs: list[str] | None,
        transport: str,
        settings: dict[str, int] | None,
        **how: Any,
    ) -> None:
        path = self._offered.get(transport)
        if path is None:
            self._say("unsupported", op="connect", feature=transport)
            return
        if self._client is not None or self._closing.is_set():
            raise BadLine("connect comes once, and before close", "connect")
        if addrs is None:
            addrs = [self._target] if self._target else []
        wish = Wish(addrs=tuple(addrs), transport=transport, settings=settings or {}, **how)
        self._features = path.features
        self._starting = asyncio.create_task(self._start(path, wish))

    async def _start(self, path: Transport, wish: Wish) -> None:
        """Make the client; operations wait until that is done."""
        ears = Ears(
            on_listening=self._on_listening,
            on_connection=self._on_connection,
            on_written=self._on_written,
        )
        try:
            self._client = await path.start(wish, ears)
        except (InvalidArgument, ConnectError) as error:
            self._say("invalid", op="connect", message=str(error))
        self._starting = None
        while self._later and self._starting is None:
            self._later.popleft()()

    def _op_request(
        self,
        *,
        ref: str,
        subject: str,
        body_b64: bytes | None,
        messages_b64: list[bytes] | None,
        headers: list[tuple[str, str]] | None,
        idempotent: bool,
        timeout_ms: int,
        hold_open: bool,
        paused: bool,
    ) -> None:
        if self._client is None or self._closing.is_set():
            raise BadLine("a request comes after connect and before close", "request", ref)
        if ref in self._refs:
            raise BadLine("the ref was used before", "request", ref)
        messages = messages_b64
        if messages is None:
            messages = [body_b64 or b""] if body_b64 is not None or not hold_open else []
        if "bidi" not in self._features and (hold_open or len(messages) != 1):
            self._say("unsupported", op="request", ref=ref, feature="bidi")
            return
        request = DrivenRequest(
            ref,
            paused=paused,
            ended=not hold_open,
            messages=messages[1:],
            say=self._say,
            on_over=self._on_over,
        )
        self._refs.add(ref)
        self._open[ref] = request
        self._idle.clear()
        try:
            exchange = self._client.open(
                request,
                subject,
                messages[0] if messages else None,
                end=not hold_open and len(messages) <= 1,
                headers=headers or (),
                timeout=timeout_ms / 1000 or None,
                idempotent=idempotent,
                awaiting=not paused,
            )
        except InvalidArgument as error:
            request.refuse(str(error))
        else:
            request.start(exchange)

    def _op_send(self, *, ref: str, body_b64: bytes | None, end: bool) -> None:
        request = self._find("send", ref)
        if request is None:
            return
        if request.ended:
            raise BadLine("the request was ended", "send", ref)
        request.send(body_b64, end=end)

    def _op_stop(self, *, ref: str, reason: int) -> None:
        request = self._find("stop", ref)
        if request is None:
            return
        if self._client is not None and not self._client.can_stop:
            self._say("unsupported", op="stop", ref=ref)
        else:
            request.stop(reason)

    def _op_kill(self, *, ref: str, reason: int) -> None:
        if request := self._find("kill", ref):
            request.kill(reason)

    def _op_pause(self, *, ref: str) -> None:
        if request := self._find("pause", ref):
            request.pause()

    def _op_resume(self, *, ref: str) -> None:
        if request := self._find("resume", ref):
            request.resume()

    def _op_sync(self, *, id: object) -> None:
        self._say("synced", id=id)

    def _op_close(self) -> None:
        self._closing.set()

    def _find(self, op: str, ref: str) -> DrivenRequest | None:
        """Return an open request, or None if it has finished.

        Raises:
            BadLine: there never was one.
        """
        if ref not in self._refs:
            raise BadLine("there is no such request", op, ref)
        return self._open.get(ref)

    # -- what happens

    def _on_listening(self, address: str) -> None:
        self._say("listening", addr=address)

    def _on_connection(self, conn: int, target: str, milestone: Milestone | Idle) -> None:
        match milestone:
            case Idle():
                self._say("connected", conn=conn, addr=target, version=codec.VERSION)
            case HandshakeDone(version=version):
                self._say("connected", conn=conn, addr=target, version=version)
            case GoawayReceived(code=code, last_ordinal=last, grace_ms=grace):
                self._say("goaway", conn=conn, code=code, last_ordinal=last, grace_ms=grace)
            case ConnectionEnded():
                self._say(
                    "disconnected",
                    conn=conn,
                    addr=target,
                    handshake=milestone.handshake,
                    by="peer" if milestone.by_peer else "local",
                    code=milestone.code,
                    reason=milestone.message,
                )

    def _on_written(self) -> None:
        for request in self._open.values():
            request.written()

    def _on_over(self, request: DrivenRequest) -> None:
        del self._open[request.ref]
        if not self._open:
            self._idle.set()

    # -- the end

    async def _close(self, client: Caller) -> None:
        """Leave orderly, or soon if the input is over."""
        leaving = asyncio.create_task(self._leave(client))
        hurry = asyncio.create_task(self._input_over.wait())
        await asyncio.wait((leaving, hurry), return_when=asyncio.FIRST_COMPLETED)
        if not leaving.done():
            await client.close(HURRY)
            for request in list(self._open.values()):
                request.resume()
        hurry.cancel()
        await leaving

    async def _leave(self, client: Caller) -> None:
        await client.close(None)
        await self._idle.wait()

    def _say(self, event: str, **members: Any) -> None:
        if not self._closed:
            self._output(write(event, members))
