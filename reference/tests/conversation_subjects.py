"""The conformance subjects that the vectors need, as generators over a fake clock.

A subject yields what it wants (`Read`, `Send`, `Pause`) and is driven by `Task`. Nothing here is
fast or complete; the real subjects are in `muxwire.conformance_subjects`.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from math import inf
from typing import Any

from muxwire._generated.registries import NON_RETRYABLE, ErrorCode
from muxwire.core import WorkerConnection
from muxwire.errors import MessageTooLarge


class Read:
    """Wait for a message; None at the end."""


@dataclass
class Send:
    data: bytes


@dataclass
class Pause:
    seconds: float
    stoppable: bool = False


class Fail(Exception):  # noqa: N818 - what the handler does, as in the real ones
    def __init__(self, code: int, *, non_retryable: bool = False) -> None:
        super().__init__(code)
        self.code = code
        self.non_retryable = non_retryable


Want = Read | Send | Pause
Handler = Generator[Want, Any, None]


def echo(task: Task) -> Handler:
    del task
    while (message := (yield Read())) is not None:
        yield Send(message)


def generate(task: Task) -> Handler:
    values = parameters((yield Read()))
    interval = values.get("interval_ms", 0) / 1000
    for index in range(values["count"]):
        if task.stopped and not values.get("ignore_stop"):
            return
        tail = bytes((index + j) % 256 for j in range(values.get("size", 16) - 8))
        yield Send(index.to_bytes(8) + tail)
        if interval:
            yield Pause(interval, stoppable=not values.get("ignore_stop"))


def sleep(task: Task) -> Handler:
    values = parameters((yield Read()))
    task.patience = values.get("ignore_kill_ms", 0) / 1000
    yield Pause(values["ms"] / 1000)
    yield Send(b"ok")


def fail(task: Task) -> Handler:
    del task
    values = parameters((yield Read()))
    for index in range(values.get("after", 0)):
        yield Send(index.to_bytes(8))
    raise Fail(
        values.get("code", ErrorCode.APPLICATION_ERROR),
        non_retryable=bool(values.get("flags", 0) & NON_RETRYABLE),
    )


def sink(task: Task) -> Handler:
    del task
    if parameters((yield Read())).get("stall"):
        yield Pause(inf)
    messages = octets = crc = 0
    while (data := (yield Read())) is not None:
        messages += 1
        octets += len(data)
        crc = zlib.crc32(data, crc)
    yield Send(json.dumps({"messages": messages, "bytes": octets, "crc32": crc}).encode())


def source(task: Task) -> Handler:
    del task
    values = parameters((yield Read()))
    data = bytes((31 * k + 7) % 256 for k in range(256)) * (values["bytes"] // 256 + 1)
    for _ in range(values.get("messages", 1)):
        yield Send(data[: values["bytes"]])


def drain(task: Task) -> Handler:
    grace = parameters((yield Read()))["grace_ms"]
    yield Send(b"ok")
    task.core.drain(grace, task.clock(), after=task.request_id)


def parameters(message: bytes | None) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(message or b"{}")
    return values


SUBJECTS: dict[bytes, Callable[[Task], Handler]] = {
    f"conformance.{handler.__name__}".encode(): handler
    for handler in (echo, generate, sleep, fail, sink, source, drain)
}


class Task:
    """One running handler.

    Attributes:
        stopped: A STOP has come.
        patience: Seconds for which the handler refuses to be cancelled.
        wake: When it wants to go on, or infinity.
        over: It has ended.
    """

    def __init__(
        self,
        core: WorkerConnection,
        clock: Callable[[], float],
        request_id: bytes,
        subject: bytes,
    ) -> None:
        self.core = core
        self.clock = clock
        self.request_id = request_id
        self.stopped = False
        self.patience = 0.0
        self.wake = inf
        self.over = False
        self._inbox: deque[tuple[bytes, int]] = deque()
        self._ended = False
        self._lost = False
        self._cancelled = False
        self._want: Want | None = None
        self._handler = SUBJECTS[subject](self)
        self._began = False

    def feed(self, data: bytes | None, cost: int, *, ended: bool) -> None:
        if data is not None:
            self._inbox.append((data, cost))
        self._ended = ended
        self.go_on()

    def stop(self) -> None:
        self.stopped = True
        if isinstance(self._want, Pause) and self._want.stoppable:
            self.wake = self.clock()

    def cancel(self, *, lost: bool) -> None:
        self._cancelled = True
        self._lost = lost
        self.wake = min(self.wake, self.clock() + self.patience)

    def go_on(self) -> None:
        """Run the handler as far as it gets."""
        while not self.over:
            if self._cancelled:
                if self.clock() >= self.wake:
                    self._end(Fail(ErrorCode.CANCELLED))
                return
            if isinstance(self._want, Pause):
                if self.clock() < self.wake:
                    return
                self._step(None)
            elif isinstance(self._want, Send):
                try:
                    if not self.core.send_message(self.request_id, self._want.data):
                        return
                except MessageTooLarge:  # the core has ended the request
                    self._end(None)
                    return
                self._step(None)
            elif isinstance(self._want, Read) and not self._inbox:
                if not self._ended:
                    self.core.awaiting(self.request_id)
                    return
                self._step(None)
            elif isinstance(self._want, Read):
                data, cost = self._inbox.popleft()
                self.core.consumed(self.request_id, cost)
                self._step(data)
            else:
                self._step(None)

    def _step(self, value: bytes | None) -> None:
        self.wake = inf
        try:
            self._want = self._handler.send(value if self._began else None)
        except StopIteration:
            self._end(None)
        except Fail as error:
            self._end(error)
        else:
            self._began = True
            if isinstance(self._want, Pause):
                self.wake = self.clock() + self._want.seconds

    def _end(self, error: Fail | None) -> None:
        self.over = True
        self.wake = inf
        self._handler.close()
        if self._lost:
            return
        if error is None:
            self.core.finish(self.request_id)
        else:
            self.core.fail(self.request_id, error.code, non_retryable=error.non_retryable)
