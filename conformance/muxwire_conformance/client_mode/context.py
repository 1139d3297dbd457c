"""What a case gets that judges a client: the driver, its calls, and the connections it makes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from muxwire_conformance import wire
from muxwire_conformance.case_context import CaseContext
from muxwire_conformance.client_mode.driver import (
    Driver,
    connect_members,
    decode,
    encode,
    names_address,
)
from muxwire_conformance.client_mode.exchange import Exchange
from muxwire_conformance.client_mode.link import Link
from muxwire_conformance.target import Address
from muxwire_conformance.transcript import Transcript
from muxwire_conformance.transport import Transport
from muxwire_conformance.verdict import CheckFailed, NotApplicable, Unprepared

if TYPE_CHECKING:
    from muxwire_conformance.case import Case
    from muxwire_conformance.patience import Patience

SUBJECT = "judge.request"
"""Subject of the requests of the cases; a client does not look at it."""

QUICK = {"backoff_base_ms": 10}
"""Timing given to a client unless the case is about it: redials come soon."""

PICK_UP = 0.2


class Listener:
    """A port on which the judge waits for the client; every connection becomes a ``Link``."""

    def __init__(self, context: ClientContext, host: str = "127.0.0.1", port: int = 0) -> None:
        self.context = context
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._sock = socket.socket(family, socket.SOCK_STREAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.setblocking(False)
        self._sock.bind((host, port))
        self._sock.listen(64)
        self.address = Address(host=host, port=self._sock.getsockname()[1])
        self.accepted_at: list[float] = []
        self.receive_buffer: int | None = None
        self.hang_up = False
        self.waiting: deque[Link] = deque()
        self._activity = asyncio.Event()
        self._open = True
        context.bench.listeners.append(self)
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            sock, _peer = self._sock.accept()
        except OSError:
            return
        self.accepted_at.append(time.monotonic())
        if self.hang_up:
            sock.close()
            self._activity.set()
            return
        if self.receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        transport = Transport.accepted(sock)
        self._admit(transport)
        transport.resume_reading()
        self._activity.set()

    def _admit(self, transport: Transport) -> None:
        """Take a new connection."""
        label = f"connection {len(self.context.connections) + 1}"
        link = Link(self.context, transport, label)
        self.context.connections.append(link)
        self.waiting.append(link)

    def adopt(self, context: ClientContext) -> None:
        """Belong to another context from now on, with the connections that wait."""
        self.context = context
        for link in self.waiting:
            link.context = context
            context.connections.append(link)

    def forget(self) -> None:
        """Close the connections that wait."""
        while self.waiting:
            self.waiting.popleft().transport.close()

    async def accept(self, seconds: float | None) -> Link | None:
        """Return the next connection, None if none comes in time."""
        await self.until(lambda: bool(self.waiting), seconds)
        return self.waiting.popleft() if self.waiting else None

    async def dials(self, count: int, seconds: float | None) -> bool:
        """Wait until so many connections were accepted in all; tell if they were."""
        return await self.until(lambda: len(self.accepted_at) >= count, seconds)

    def news(self) -> None:
        """Wake who waits: something has come."""
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
                # The judge may have been the slow one: take what is waiting before judging.
                for _ in range(3):
                    await asyncio.sleep(0)
                return ready()
        return True

    def close(self) -> None:
        """Refuse dials from now on."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._sock.fileno())
            self._sock.close()


class Bench:
    """The driver and the listeners of one case, shared by its twin and itself.

    A twin runs first in the same process, on a connection of its own: the client dials again when
    that one has ended. A case that connects otherwise than its twin gets a new process.
    """

    def __init__(self, command: str, launcher: type[Driver] = Driver) -> None:
        self.command = command
        self.launcher = launcher
        self.driver: Driver | None = None
        self.listener: Listener | None = None
        self.listeners: list[Listener] = []
        self.members: dict[str, object] = {}
        self.serial = 0

    async def close(self, *, slack: float = 0.0) -> None:
        """End the driver in order.

        Raises:
            DriverFault: it did not end so.
        """
        try:
            if self.driver is not None:
                await self.driver.close(slack=slack)
        finally:
            await self.abandon()

    async def end_driver(self) -> None:
        """End the driver at once, and forget the connections that nobody accepted."""
        driver, self.driver = self.driver, None
        if driver is not None:
            await driver.kill()
        if self.listener is not None:
            self.listener.forget()

    async def abandon(self) -> None:
        """End everything at once."""
        try:
            await self.end_driver()
        finally:
            for listener in self.listeners:
                listener.close()
            self.listener = None


class Call:
    """A request as the user of the client sees it: the events of one ``ref``."""

    def __init__(self, context: ClientContext, ref: str) -> None:
        self._context = context
        self.ref = ref

    @property
    def messages(self) -> list[bytes]:
        """Return the messages delivered so far."""
        return [decode(one["body_b64"]) for one in self._context.driver.of(self.ref, "message")]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Return the response headers, as reported."""
        seen = self._context.driver.of(self.ref, "headers")
        return [(pair[0], pair[1]) for event in seen for pair in event["headers"]]

    @property
    def retries(self) -> list[dict[str, Any]]:
        """Return the ``retry`` events."""
        return self._context.driver.of(self.ref, "retry")

    @property
    def final(self) -> dict[str, Any] | None:
        """Return the ``end`` or ``error`` event."""
        seen = self._context.driver.of(self.ref, "end", "error")
        return seen[0] if seen else None

    def describe(self) -> str:
        """Say in words how the request stands."""
        final = self.final
        if final is None:
            return f"no final event, {len(self.messages)} messages, {len(self.retries)} retries"
        shown = {name: value for name, value in final.items() if name not in ("at", "ref")}
        return " ".join(f"{name}={value}" for name, value in shown.items())

    async def finished(self, *, check: str | None = None, within: float | None = None) -> None:
        """Wait for the final event."""
        await self._context.driver_until(lambda: self.final is not None, within)
        if self.final is None:
            self._context.require(check, "a final event of the request", self.describe())

    async def succeeds(
        self,
        messages: Sequence[bytes] | None = None,
        *,
        check: str | None = None,
        within: float | None = None,
    ) -> dict[str, Any]:
        """Wait for success, with these messages if they are given; return the ``end`` event."""
        await self.finished(check=check, within=within)
        final = self.final or {}
        if final.get("event") != "end":
            self._context.require(check, "the event end", self.describe())
        if messages is not None and self.messages != list(messages):
            expected = f"{len(messages)} messages: {_shown(messages)}"
            self._context.require(check, expected, _shown(self.messages))
        if final["messages"] != len(self.messages):
            words = f"messages={len(self.messages)} in the event end"
            self._context.require(check, words, self.describe())
        if check is not None:
            self._context.emit(check)
        return final

    async def fails(
        self,
        class_: str,
        code: str | int | None = "any",
        *,
        messages: int | None = None,
        local: bool | None = None,
        attempts: int | None = None,
        check: str | None = None,
        within: float | None = None,
    ) -> dict[str, Any]:
        """Wait for the ``error`` event, with this class and what else is given; return it.

        Args:
            class_: The class.
            code: Name of the code, None for null, "any" does not look.
            messages: Complete messages delivered.
            local: What ``local`` must be.
            attempts: The number of attempts.
            check: The check to emit.
            within: Seconds, by default the usual deadline.
        """
        await self.finished(check=check, within=within)
        final = self.final or {}
        wanted: dict[str, object] = {"event": "error", "class": class_}
        if code != "any":
            wanted["code"] = _code(code)
        for name, value in (("messages", messages), ("local", local), ("attempts", attempts)):
            if value is not None:
                wanted[name] = value
        expected = " ".join(f"{name}={value}" for name, value in wanted.items())
        if any(final.get(name, "") != value for name, value in wanted.items()):
            self._context.require(check, expected, self.describe())
        if final["messages"] != len(self.messages):
            words = f"messages={len(self.messages)} in the event error"
            self._context.require(check, words, self.describe())
        if check is not None:
            self._context.emit(check)
        return final


def _code(name: str | int | None) -> int | None:
    return None if name is None else wire.code(name)


def _shown(messages: Sequence[bytes]) -> str:
    parts = [f"{len(one)} octets" if len(one) > 24 else repr(one) for one in messages[:8]]
    return "[" + ", ".join(parts) + (", ...]" if len(messages) > 8 else "]")


class ClientContext(CaseContext):
    """One run of one case (or of its twin) against a client.

    Attributes:
        connections: Every connection that the client made, in order.
        known_ids: Every request id seen so far (RID-001).
    """

    connections: list[Link]

    def __init__(
        self,
        *,
        bench: Bench,
        patience: Patience,
        seed: int,
        case: Case | None = None,
        features: Iterable[str] = (),
        twin_run: bool = False,
        name: str = "",
    ) -> None:
        super().__init__(
            patience=patience, seed=seed, case=case, features=features, twin_run=twin_run, name=name
        )
        self.connections = []
        self.known_ids: set[bytes] = set()
        self.bench = bench
        self._said: Transcript | None = None
        self._first_event = 0

    # -- the driver ------------------------------------------------------------------------

    @property
    def driver(self) -> Driver:
        """Return the running driver.

        Raises:
            Unprepared: none was started.
        """
        if self.bench.driver is None:
            raise Unprepared("a driver that was started")
        return self.bench.driver

    @property
    def listener(self) -> Listener:
        """Return the port of this case, which is opened at the first use."""
        if self.bench.listener is None:
            self.bench.listener = Listener(self)
        return self.bench.listener

    async def start(
        self,
        client: Mapping[str, int] | None = None,
        *,
        connections: int = 1,
        addrs: Sequence[str] = (),
        timing: Mapping[str, int] | None = None,
    ) -> None:
        """Start the driver and tell it to connect, or go on with the one of the twin.

        Args:
            client: The client's own settings, by name.
            connections: How many connections for each address.
            addrs: Where to, by default the listener of this case.
            timing: ``connect_timeout_ms``, ``backoff_base_ms``, ``backoff_cap_ms``, ``wait_ms``.
        """
        if timing is None and "timing" in self.features:
            timing = QUICK
        members = {
            **self._path(),
            **connect_members(
                self.features, settings=client, connections=connections, addrs=addrs, timing=timing
            ),
        }
        bench = self.bench
        one = connections == 1 and len(addrs) < 2
        if bench.driver is not None and bench.members == members and one:
            self.listener.adopt(self)
            self._said = bench.driver.transcript
            self._first_event = len(bench.driver.events)
            return
        await bench.end_driver()
        bench.members = members
        slack = self.patience.slack
        address = self.listener.address
        bench.driver = await bench.launcher.start(bench.command, address, slack=slack)
        self._said = bench.driver.transcript
        if not names_address(bench.command):
            members = {"addrs": [str(address)], **members}
        bench.driver.op("connect", **members)

    def _path(self) -> dict[str, object]:
        """Return the members of ``connect`` that choose the path."""
        return {}

    def events(self, *names: str) -> list[dict[str, Any]]:
        """Return the events of this run with one of the names."""
        seen = self.driver.events[self._first_event :]
        return [event for event in seen if event["event"] in names]

    def require(self, check: str | None, expected: str, actual: object) -> NoReturn:
        """End the case: the check does not hold, or (None) the case could not get there.

        Raises:
            CheckFailed: with a check.
            Unprepared: without.
        """
        self.object()
        if check is None:
            raise Unprepared(expected, str(actual))
        raise CheckFailed(check, expected, str(actual))

    def object(self) -> None:
        """End the case if the driver is at fault or could not do something.

        Raises:
            Unprepared: the driver is at fault.
            NotApplicable: it does not have a feature.
        """
        if self.bench.driver is not None:
            self.driver.require()
            objection = self.driver.objection()
            if objection is not None:
                raise objection

    async def driver_until(self, ready: Callable[[], bool], within: float | None = None) -> bool:
        """Wait for events of the driver, as long as the patience allows."""
        done = await self.driver.until(ready, self.patience.within(within))
        if not done:
            self.object()
        return done

    async def sync(self) -> None:
        """Wait until all operations written so far are in force."""
        self.bench.serial += 1
        serial = self.bench.serial
        self.driver.op("sync", id=serial)
        if not await self.driver_until(
            lambda: any(event["id"] == serial for event in self.driver.named("synced"))
        ):
            raise Unprepared("the event synced")

    # -- connections -----------------------------------------------------------------------

    async def accept(
        self,
        *,
        check: str | None = None,
        within: float | None = None,
        listener: Listener | None = None,
    ) -> Link:
        """Wait for the next connection of the client; nothing is sent on it."""
        if listener is None:
            listener = self.listener
        link = await listener.accept(self.patience.within(within))
        if link is None:
            self.require(check, "a connection of the client", "none")
        if check is not None:
            self.emit(check)
        return link

    async def ready(
        self,
        settings: Mapping[str, int] | None = None,
        *,
        client: Mapping[str, int] | None = None,
        timing: Mapping[str, int] | None = None,
    ) -> Link:
        """Start the client, take its connection and complete the set-up."""
        await self.start(client, timing=timing)
        return await self.next_link(settings)

    async def next_link(
        self, settings: Mapping[str, int] | None = None, *, within: float | None = None
    ) -> Link:
        """Take the next connection and complete its set-up."""
        link = await self.accept(within=within)
        await link.handshake(settings)
        return link

    def request(
        self,
        body: bytes | None = None,
        *,
        messages: Sequence[bytes] | None = None,
        headers: Sequence[tuple[str, str]] = (),
        idempotent: bool = False,
        timeout_ms: int = 0,
        hold_open: bool = False,
        paused: bool = False,
        subject: str = SUBJECT,
        ref: str = "",
    ) -> Call:
        """Tell the client to make a request; see section 19.4 for the members.

        Raises:
            NotApplicable: the driver lacks a feature that this needs.
        """
        needed = {"headers": bool(headers), "bidi": hold_open, "pause": paused}
        for feature, used in needed.items():
            if used and feature not in self.features:
                raise NotApplicable(f"the driver does not declare: {feature}")
        self.bench.serial += 1
        ref = ref or f"r{self.bench.serial}"
        members: dict[str, object] = {"ref": ref, "subject": subject}
        if messages is not None:
            members["messages_b64"] = [encode(one) for one in messages]
        elif body is not None:
            members["body_b64"] = encode(body)
        if headers:
            members["headers"] = [list(pair) for pair in headers]
        flags = {"idempotent": idempotent, "hold_open": hold_open, "paused": paused}
        members.update({name: True for name, value in flags.items() if value})
        if timeout_ms:
            members["timeout_ms"] = timeout_ms
        self.driver.op("request", **members)
        return Call(self, ref)

    async def asked(
        self,
        body: bytes = b"x",
        *,
        settings: Mapping[str, int] | None = None,
        client: Mapping[str, int] | None = None,
        **options: Any,
    ) -> tuple[Link, Exchange, Call]:
        """Set a connection up and take one request on it; nothing of it is answered."""
        link = await self.ready(settings, client=client)
        call = self.request(body, **options)
        exchange = await link.take()
        return link, exchange, call

    # -- ending ----------------------------------------------------------------------------

    async def close(self) -> None:
        """End the twin's connections, or the driver in order: it must still obey."""
        if self.twin_run:
            self._leave_waiting()
        elif self.bench.driver is not None:
            self.driver.op("close")
        for link in self.connections:
            if link.transport.end is None:
                link.transport.resume_reading()
                await link.cut()
        if self.twin_run:
            for link in self.connections:
                await link.until(lambda: False, PICK_UP)
            self._leave_waiting()
        else:
            await self.bench.close(slack=self.patience.slack)
        self.abandon()

    def _leave_waiting(self) -> None:
        """Leave the connections that nobody accepted to the case, which runs next."""
        if self.bench.listener is not None:
            waiting = self.bench.listener.waiting
            self.connections = [one for one in self.connections if one not in waiting]

    async def explain_end(self) -> Unprepared | NotApplicable | None:
        """Say whether a failure is the driver's: a process that ended shows a moment later."""
        driver = self.bench.driver
        if driver is None:
            return None
        await driver.until(lambda: driver.status is not None, PICK_UP)
        try:
            self.object()
        except (Unprepared, NotApplicable) as stop:
            return stop
        return None

    @property
    def transcripts(self) -> list[Transcript]:
        """Return what was said, for the report."""
        own = [self._said] if self._said is not None else []
        return [*own, *(link.transcript for link in self.connections)]
