"""A small WMX/1 client, written from the specification alone, with flaws to switch on.

It puts the client cases of the suite on trial: without flaws every case has to pass; each flaw
breaks one rule, and a case that cites that rule has to notice. It shares no code with the suite or
with the reference implementation. As a program it speaks the driver protocol of section 19.4 on
standard input and output; inside a test process a `Client` takes the lines and gives the events.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import model_client_wire as cw
import model_wire as w
from model_client_call import Call, Class, Verdict
from model_client_flaws import FLAWS
from model_client_pool import Pool, split_address
from model_client_recovery import Recovery
from model_router import HomeCall, Router
from model_router_http import unsendable

PROTOCOL = "wmx-driver/1"
TRANSPORTS = ("tcp", "callhome")
FEATURES = (
    "retry",
    "connections",
    "settings",
    "timing",
    "sent",
    "headers",
    "pipelining",
    "pause",
    "bidi",
    "close",
)
SETTING_NAMES = {
    "MAX_FRAME_SIZE": w.S_MAX_FRAME,
    "MAX_CONCURRENT_REQUESTS": w.S_MAX_CONCURRENT,
    "INITIAL_STREAM_WINDOW": w.S_STREAM_WINDOW,
    "CONNECTION_WINDOW": w.S_CONNECTION_WINDOW,
    "MAX_METADATA_SIZE": w.S_MAX_METADATA,
    "MAX_MESSAGE_SIZE": w.S_MAX_MESSAGE,
    "IDLE_TIMEOUT_MS": w.S_IDLE_TIMEOUT,
}
STDIN_PATIENCE = 1.5  # seconds from the end of standard input to the exit

Event = dict[str, Any]


class InvalidError(Exception):
    """An operation that the grammar of section 19.4 does not allow here."""


class Client:
    """A client under test: its connections, its requests, and the driver protocol."""

    def __init__(
        self,
        on_event: Callable[[Event], None],
        flaws: Iterable[str] = (),
        addrs: Iterable[str] = (),
    ) -> None:
        self._on_event = on_event
        self.flaws = frozenset(flaws)
        for name in self.flaws:
            FLAWS[name]
        self.reached: set[str] = set()
        self.loop = asyncio.get_running_loop()
        self.addrs = list(addrs)
        self.settings = dict(w.RECOMMENDED)
        self.announced = dict(w.RECOMMENDED)
        self.connect_timeout = 5.0
        self.backoff_base = 0.1
        self.backoff_cap = 10.0
        self.wait = 10.0
        self.opened = False
        self.closing = False
        self.closed = self.loop.create_future()
        self.dials = 0
        self.used_ids: set[bytes] = set()
        self.recovery = Recovery(self)
        self.pool: Pool | Router = Pool(self)

    def flaw(self, name: str) -> bool:
        """Tell whether a mutation is on; say so once when its guard is reached."""
        if name not in self.flaws:
            return False
        if name not in self.reached:
            self.reached.add(name)
            sys.stderr.write(f"flaw reached: {name}\n")
            sys.stderr.flush()
        return True

    def emit(self, event: str, **members: object) -> None:
        """Write one event."""
        if not self.closed.done():
            self._on_event({"event": event, **members})

    def greet(self) -> None:
        """Write the first event."""
        self.emit(
            "ready",
            driver="wmx-model-client/1",
            protocol=PROTOCOL,
            transports=list(TRANSPORTS),
            features=list(FEATURES),
        )

    def next_connection(self) -> int:
        """Number a dial."""
        self.dials += 1
        return self.dials

    def new_request_id(self, call: Call) -> bytes:
        """Make a fresh id for an attempt (RID-001)."""
        rid = uuid.uuid4().bytes
        if call.attempts and self.flaw("rid-same-for-every-attempt"):
            rid = call.first_rid
        if self.used_ids and self.flaw("rid-same-for-every-request"):
            rid = next(iter(self.used_ids))
        call.first_rid = call.first_rid or rid
        self.used_ids.add(rid)
        return rid

    # Operations -------------------------------------------------------------------------------

    def line(self, text: bytes) -> None:
        """Carry out one line of the driver protocol."""
        name: str | None = None
        try:
            try:
                op = json.loads(text)
            except ValueError as error:
                raise InvalidError(f"no JSON: {error}") from None
            if not isinstance(op, dict) or not isinstance(op.get("op"), str):
                raise InvalidError("no object with an op")
            name = op["op"]
            self._carry_out(name, op)
        except InvalidError as error:
            self.emit("invalid", op=name, message=str(error))

    def _carry_out(self, name: str, op: Event) -> None:
        if name == "sync":
            if "id" not in op:
                raise InvalidError("no id")
            self.pool.pump()
            self.emit("synced", id=op["id"])
        elif name == "close":
            self.close()
        elif name == "connect":
            self._connect(op)
        elif name not in ("request", "send", "stop", "kill", "pause", "resume"):
            self.emit("unsupported", op=name)
        elif not self.opened:
            raise InvalidError("connect comes first")
        elif name == "request":
            self._request(op)
        else:
            self._with_call(name, op)

    def _connect(self, op: Event) -> None:
        if self.opened or self.closing:
            raise InvalidError("connect comes once")
        transport = _get(op, "transport", str, "tcp")
        if transport not in TRANSPORTS:
            self.emit("unsupported", op="connect", feature=transport)
            return
        addrs = _get(op, "addrs", list, self.addrs)
        each = _count(op, "connections", 1)
        settings = _get(op, "settings", dict, {})
        try:
            for addr in addrs:
                split_address(addr)
        except (ValueError, AttributeError) as error:
            raise InvalidError(str(error)) from None
        if not addrs or not 1 <= each <= 4:
            raise InvalidError("addrs or connections")
        chosen = {SETTING_NAMES.get(name, 0): value for name, value in settings.items()}
        for ident, value in chosen.items():
            known = w.SETTING_RANGES.get(ident)
            if known is None or type(value) is not int or not known[1] <= value <= known[2]:
                raise InvalidError("settings")
        times = [
            _count(op, name, default) / 1000
            for name, default in (
                ("connect_timeout_ms", 5_000),
                ("backoff_base_ms", 100),
                ("backoff_cap_ms", 10_000),
                ("wait_ms", 10_000),
            )
        ]
        self.connect_timeout, self.backoff_base, self.backoff_cap, self.wait = times
        self.settings.update(chosen)
        self.announced.update(chosen)
        if self.flaw("set-announces-below-floor"):
            self.announced[w.S_MAX_METADATA] = 4_096
        self.opened = True
        if transport == "callhome":
            self.pool = Router(self, chosen.get(w.S_IDLE_TIMEOUT))
            self.pool.open(addrs, _get(op, "listen", str, "127.0.0.1:0"))
        else:
            self.pool.open(addrs, each)

    def _request(self, op: Event) -> None:
        ref = _get(op, "ref", str)
        if self.closing or ref in self.recovery.calls:
            raise InvalidError("closing, or the ref was used")
        hold_open = _get(op, "hold_open", bool, False)
        if "messages_b64" in op:
            messages = [_decode(one) for one in _get(op, "messages_b64", list)]
        elif "body_b64" in op:
            messages = [_decode(op["body_b64"])]
        else:
            messages = [] if hold_open else [b""]
        pairs = _get(op, "headers", list, [])
        if not all(
            isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair)
            for pair in pairs
        ):
            raise InvalidError("headers")
        home = isinstance(self.pool, Router)
        if home and (hold_open or len(messages) != 1):
            self.emit("unsupported", op="request", ref=ref, feature="bidi")
            return
        call = (HomeCall if home else Call)(
            self.recovery,
            ref,
            _get(op, "subject", str),
            [(key, value) for key, value in pairs],
            idempotent=_get(op, "idempotent", bool, False),
            timeout_ms=_count(op, "timeout_ms", 0),
            messages=messages,
            ended=not hold_open,
            paused=_get(op, "paused", bool, False),
        )
        self.recovery.calls[ref] = call
        try:
            cw.check_request(call.subject, call.headers, self.flaw)
        except cw.LocalError as error:
            self.recovery.report(call, Verdict(Class.NOT_SENT, error.code, error.text))
            return
        fault = unsendable(call.headers) if home else ""
        if fault and not self.flaw("set-sends-any-header"):
            self.recovery.report(call, Verdict(Class.NOT_SENT, w.INVALID_ARGUMENT, fault))
            return
        self.recovery.submit(call)

    def _with_call(self, name: str, op: Event) -> None:
        call = self.recovery.calls.get(_get(op, "ref", str))
        if call is None:
            raise InvalidError("no such ref")
        if name == "send":
            message = _decode(op["body_b64"]) if "body_b64" in op else None
            if not call.add(message, end=_get(op, "end", bool, False)):
                raise InvalidError("the request direction has ended")
        elif name == "stop":
            call.stop(_count(op, "reason", w.CANCELLED))
        elif name == "kill":
            reason = _count(op, "reason", w.CANCELLED)
            call.kill(Verdict(Class.NOT_SENT, w.CANCELLED, "killed by the caller"), reason)
        elif name == "pause":
            call.pause()
        else:
            call.resume()

    # The end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """Take nothing new, let what runs finish, then write `closed`."""
        if self.closing:
            return
        self.closing = True
        self.recovery.withdraw_all()
        self.pool.leave()
        self.check_closed()

    def check_closed(self) -> None:
        """Write the last event when the last connection is gone."""
        if self.closing and not self.pool.busy():
            self.give_up()

    async def stop(self) -> None:
        """End at once, whatever runs, and leave no connection behind."""
        self.closing = True
        self.give_up()
        await self.pool.abort()

    def give_up(self) -> None:
        """Wait for nothing any more."""
        if not self.closed.done():
            self.emit("closed")
            self.closed.set_result(None)


def _get(op: Event, name: str, kind: type, default: object = None) -> Any:
    value = op.get(name, default)
    if type(value) is not kind:
        raise InvalidError(f"{name} is no {kind.__name__}")
    return value


def _count(op: Event, name: str, default: int) -> int:
    value: int = _get(op, name, int, default)
    if not 0 <= value < 1 << 32:
        raise InvalidError(f"{name} is out of range")
    return value


def _decode(text: object) -> bytes:
    try:
        return base64.b64decode(str(text), validate=isinstance(text, str))
    except binascii.Error as error:
        raise InvalidError(f"no base64: {error}") from None


async def _drive(flaws: list[str], addrs: list[str]) -> None:
    def write(event: Event) -> None:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()

    client = Client(write, flaws, addrs)
    loop = asyncio.get_running_loop()
    pending = bytearray()

    def read() -> None:
        data = os.read(sys.stdin.fileno(), 1 << 20)
        if not data:
            loop.remove_reader(sys.stdin.fileno())
            client.close()
            loop.call_later(STDIN_PATIENCE, client.give_up)
            return
        start = len(pending)
        pending.extend(data)
        while (at := pending.find(b"\n", start)) >= 0:
            text = bytes(pending[:at])
            del pending[: at + 1]
            start = 0
            client.line(text)

    client.greet()
    os.set_blocking(sys.stdin.fileno(), False)
    loop.add_reader(sys.stdin.fileno(), read)
    try:
        await client.closed
    finally:
        await client.stop()


def main(argv: list[str] | None = None) -> int:
    """Run the client as a driver program."""
    parser = argparse.ArgumentParser(description="A plain WMX/1 client with switchable flaws.")
    parser.add_argument("addrs", nargs="*", metavar="HOST:PORT")
    parser.add_argument("--flaw", action="append", default=[], metavar="NAME")
    parser.add_argument("--list-flaws", action="store_true")
    args = parser.parse_args(argv)
    if args.list_flaws:
        for flaw in FLAWS.values():
            sys.stdout.write(f"{flaw.name}\t{flaw.requirement}\t{flaw.what}\n")
        return 0
    for name in args.flaw:
        if name not in FLAWS:
            parser.error(f"no such flaw: {name}")
    asyncio.run(_drive(args.flaw, args.addrs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
