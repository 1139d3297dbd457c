"""The connections of the client: slots, dials and who gets which.

The rules of this file: one dial at a time per slot, after a delay with full jitter that doubles
until a connection proves healthy (REC-004), waiting requests in order of arrival (ADM-001), each to
the connection with the fewest requests (REC-010) and not to the worker that failed it (REC-008).
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import model_client_wire as cw
from model_client_call import Call, Class, Verdict
from model_client_connection import Connection
from model_client_output import LIVE

if TYPE_CHECKING:
    from model_client import Client


def split_address(text: str) -> tuple[str, int]:
    """Split HOST:PORT or [V6]:PORT.

    Raises:
        ValueError: It is neither.
    """
    host, _colon, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"no HOST:PORT: {text!r}")
    return host.strip("[]"), int(port)


class Slot:
    """One place of the pool: at most one dial and one connection that takes requests."""

    def __init__(self, client: Client, addr: str) -> None:
        self.client = client
        self.flaw = client.flaw
        self.addr = addr
        self.host, self.port = split_address(addr)
        self.failures = 0  # n of REC-004
        self.conn: Connection | None = None
        self.proven: set[Connection] = set()
        self.timer: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    def dial_later(self, *, at_once: bool = False) -> None:
        """Plan the next connection attempt."""
        if self.client.closing or self.timer is not None or self.task is not None:
            return
        most = min(self.client.backoff_cap, self.client.backoff_base * 2.0**self.failures)
        if self.failures and self.flaw("rec-backoff-does-not-grow"):
            most = self.client.backoff_base
        if self.flaw("rec-backoff-without-cap"):
            most = self.client.backoff_base * 4.0**self.failures
        delay = 0.0 if at_once else random.uniform(0, most)
        if not at_once and self.flaw("rec-backoff-without-jitter"):
            delay = most
        if self.flaw("rec-no-backoff"):
            delay = 0.0
        self.timer = self.client.loop.call_later(delay, self._dial_now)

    def _dial_now(self) -> None:
        self.timer = None
        for _ in range(2 if self.flaw("rec-dials-twice") else 1):
            self.task = self.client.loop.create_task(self._dial())
            self.client.pool.dials.add(self.task)
            self.task.add_done_callback(self.client.pool.dials.discard)

    async def _dial(self) -> None:
        client = self.client
        number = client.next_connection()
        started = client.loop.time()
        text = ""
        try:
            async with asyncio.timeout(client.connect_timeout):
                await client.loop.create_connection(
                    lambda: Connection(client, self, number, started), self.host, self.port
                )
        except TimeoutError:
            text = "HSK-010: no connection in time"
        except OSError as error:
            text = str(error)
        self.task = None
        if text:
            client.emit(
                "disconnected",
                conn=number,
                addr=self.addr,
                handshake=False,
                by="peer",
                code=None,
                reason=text,
            )
            self.failures += 1
            self.dial_later()
        client.check_closed()

    def healthy(self, conn: Connection) -> None:
        """Reset the backoff: a handshake and a terminal, or 10 s (REC-004)."""
        if conn not in self.proven:
            self.proven.add(conn)
            if not self.flaw("rec-backoff-never-resets"):
                self.failures = 0

    def drains(self, conn: Connection) -> None:
        """Replace a connection that takes no more requests (CLS-008)."""
        if self.conn is not conn or self.flaw("cls-no-replacement"):
            return
        self.conn = None
        others = [one for one in self.client.pool.usable() if one.addr != self.addr]
        if others and not self.flaw("cls-redials-the-draining"):
            self.conn = conn  # other workers take over; this slot redials when it has ended
            return
        was_healthy = conn.shaken_at is not None and self.failures == 0
        if conn not in self.proven:
            self.failures += 1
            self.proven.add(conn)
        self.dial_later(at_once=was_healthy and not self.flaw("rec-drain-waits"))

    def ended(self, conn: Connection) -> None:
        """Take note that a connection is over, and dial again if it was the one of this slot."""
        if conn not in self.proven:
            self.failures += 1
        self.proven.discard(conn)
        if self.conn is conn:
            self.conn = None
            self.dial_later()


class Pool:
    """All slots, and the requests that wait for one."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.flaw = client.flaw
        self.slots: list[Slot] = []
        self.connections: set[Connection] = set()
        self.planned = False
        self.dials: set[asyncio.Task[None]] = set()
        self.empty = asyncio.Event()

    def open(self, addrs: list[str], each: int) -> None:
        """Dial every address, all at once."""
        if each > 1 and self.flaw("rec-opens-one-connection"):
            each = 1
        self.slots = [Slot(self.client, addr) for addr in addrs for _ in range(each)]
        for slot in self.slots:
            slot.dial_later(at_once=True)

    def addresses(self) -> set[str]:
        """Return the addresses of all workers."""
        return {slot.addr for slot in self.slots}

    def connected(self, conn: Connection) -> None:
        """Take a new connection in; requests may leave at once."""
        conn.slot.conn = conn
        self.connections.add(conn)
        self.empty.clear()
        if self.client.closing:
            conn.leave()
        self.dispatch_soon()

    def gone(self, conn: Connection) -> None:
        """Forget a connection."""
        self.connections.discard(conn)
        if not self.connections:
            self.empty.set()
        self.client.check_closed()

    def usable(self) -> list[Connection]:
        """Return the connections that take new requests."""
        return [conn for conn in self.connections if conn.usable]

    def dispatch_soon(self) -> None:
        """Hand waiting requests out in the next turn of the loop."""
        if not self.planned:
            self.planned = True
            self.client.loop.call_soon(self.dispatch)

    def dispatch(self) -> None:
        """Give every waiting request a connection with room, in order of arrival (ADM-001)."""
        self.planned = False
        waiting = self.client.recovery.waiting
        usable = self.usable()
        for call in list(waiting):
            if not any(conn.has_room for conn in usable):
                return
            try:
                conn = self._choose(call, usable)
            except cw.LocalError as error:
                local = Verdict(Class.NOT_SENT, error.code, error.text)
                self.client.recovery.report(call, local)
                continue
            if conn is not None:
                waiting.remove(call)
                conn.attach(call)

    def _choose(self, call: Call, usable: list[Connection]) -> Connection | None:
        fit = [conn for conn in usable if conn.has_room and conn.suits(call)]
        if not self.flaw("rec-retries-not-found"):
            fit = [conn for conn in fit if conn.addr not in call.not_found_at]
        if not fit:
            return None
        if self.flaw("rec-crowds-one-connection"):
            return min(fit, key=lambda conn: conn.number)
        sign = 1
        if call.attempts and self.flaw("rec-prefers-the-failed-worker"):
            sign = -1

        def rank(conn: Connection) -> tuple[int, int, int]:
            again = bool(call.attempts) and conn.addr == call.addr
            return sign * int(again), conn.places, conn.number

        return min(fit, key=rank)

    def leave(self) -> None:
        """Close every connection in order, and dial no more."""
        for slot in self.slots:
            if slot.timer is not None:
                slot.timer.cancel()
                slot.timer = None
        for conn in list(self.connections):
            conn.leave()

    def busy(self) -> bool:
        """Tell whether a connection is there or on its way."""
        return bool(self.connections) or any(slot.task for slot in self.slots)

    def pump(self) -> None:
        """Write what is ready now."""
        self.dispatch()
        for conn in list(self.connections):
            if conn.stage in LIVE:
                conn.pump()

    async def abort(self) -> None:
        """End everything at once, and wait until it has ended."""
        tasks = set(self.dials)
        for slot in self.slots:
            if slot.timer is not None:
                slot.timer.cancel()
        for task in tasks:
            task.cancel()
        for conn in list(self.connections):
            conn.abort("the client stops")
        if tasks:
            await asyncio.wait(tasks)
        if self.connections:
            await self.empty.wait()
