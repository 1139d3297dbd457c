"""Who writes the next frame.

Rules of this file: control frames first (FAI-001), then the streams that can send, one frame each
in turn (FAI-002).  A stream without credit of its own leaves the ring until its limit is raised;
when the connection has none, charged frames wait together and exempt ones go on (FLW-004).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from muxwire._generated.registries import QUANTUM
from muxwire.core.flow import SendCredit
from muxwire.core.sendqueue import EXHAUSTED, STARVED, Buffer, SendQueue


class Hooks(NamedTuple):
    """What the scheduler tells its connection while it writes."""

    written: Callable[[SendQueue, list[Buffer]], None]
    """A frame with one of the noted flags has just been written; more may be appended to it."""
    stuck: Callable[[SendQueue], None]
    """The stream begins to wait for credit, its own or the connection's."""
    exhausted: Callable[[SendQueue], None]
    """The stream's sequence numbers are used up."""
    room: Callable[[SendQueue], None]
    """A stream whose writer waits has sent something."""
    blocked: Callable[[SendQueue], None] = lambda _: None
    """The stream's own credit is used up."""


class Scheduler:
    """The output of a connection.

    Attributes:
        credit: What the peer grants to all streams together.
        max_payload: Largest payload of a frame: the peer's limit or the quantum.
        control_size: Octets of queued control frames and refusals (DOS-002).
    """

    __slots__ = ("_control", "_hooks", "_noted", "_ring", "_starved", "control_size", "credit",
                 "max_payload")  # fmt: skip

    def __init__(self, credit: SendCredit, max_frame_size: int, noted: int, hooks: Hooks) -> None:
        self.credit = credit
        self.max_payload = min(max_frame_size, QUANTUM)
        self.control_size = 0
        self._noted = noted
        self._hooks = hooks
        self._control: list[Buffer] = []
        self._ring: deque[SendQueue] = deque()
        self._starved: dict[SendQueue, None] = {}  # in order

    @property
    def idle(self) -> bool:
        """Whether nothing could be written now, whatever the batch size."""
        return not self._control and not self._ring

    @property
    def starved(self) -> bool:
        """Whether a stream waits for the connection's credit."""
        return bool(self._starved)

    def use(self, max_frame_size: int) -> None:
        """Cut frames to the peer's announced size from now on."""
        self.max_payload = min(max_frame_size, QUANTUM)

    def control(self, frame: bytes) -> None:
        """Queue a control frame."""
        self._control.append(frame)
        self.control_size += len(frame)

    def ready(self, queue: SendQueue) -> None:
        """Give a queue its turn; a queue that has one, or waits for credit, keeps its place."""
        if not queue.scheduled and not queue.blocked:
            queue.scheduled = True
            self._ring.append(queue)

    def refuse(self, queue: SendQueue) -> None:
        """Give the terminal of a refused request its turn; it counts as control output."""
        queue.refusal = True
        self.control_size += queue.buffered
        self.ready(queue)

    def at_once(self, queue: SendQueue) -> None:
        """Give a queue the next turn: its data was dropped for an exempt terminal (FLW-005)."""
        self._starved.pop(queue, None)
        queue.blocked = False
        queue.scheduled = True
        self._ring.appendleft(queue)  # an older place in the ring finds it empty and is skipped

    def leave(self, queue: SendQueue) -> None:
        """Drop what a queue holds for good, and the queue if it waits for credit (DOS-002)."""
        queue.discard()
        self._starved.pop(queue, None)

    def raise_stream(self, queue: SendQueue, limit: int) -> bool:
        """Raise a stream's limit; False if that changes nothing (FLW-003)."""
        if not queue.raise_to(limit):
            return False
        if queue.blocked:
            queue.blocked = False
            self.ready(queue)
        return True

    def raise_connection(self, limit: int) -> bool:
        """Raise the connection's limit; False if that changes nothing (FLW-003)."""
        if not self.credit.raise_to(limit):
            return False
        self._ring.extend(self._starved)
        self._starved.clear()
        return True

    def drop_streams(self) -> None:
        """Forget every stream; control frames stay."""
        self._ring.clear()
        self._starved.clear()
        self.control_size = sum(map(len, self._control))  # refusals are gone

    def drop(self) -> None:
        """Forget everything."""
        self.drop_streams()
        self._control.clear()
        self.control_size = 0

    def write_control(self, parts: list[Buffer]) -> None:
        """Move the control frames to `parts`."""
        if self._control:
            self.control_size -= sum(map(len, self._control))
            parts += self._control
            self._control.clear()

    def write_streams(self, parts: list[Buffer], batch: int) -> None:
        """Write stream frames to `parts` until the batch is full or nothing can be sent."""
        ring = self._ring
        hooks = self._hooks
        noted = self._noted
        while ring and batch > 0:
            queue = ring.popleft()
            if not queue.entries:
                queue.scheduled = False
                continue
            taken = queue.take(parts, self.credit, self.max_payload)
            if taken > 0:
                batch -= taken
                if queue.entries:
                    ring.append(queue)
                else:
                    queue.scheduled = False
                if queue.refusal:
                    self.control_size -= taken
                elif queue.flags & noted:
                    hooks.written(queue, parts)
                if queue.wanted >= 0:
                    hooks.room(queue)
            elif taken == EXHAUSTED:
                queue.scheduled = False
                hooks.exhausted(queue)
            else:
                if taken == STARVED:
                    self._starved[queue] = None
                else:
                    queue.scheduled = False
                    queue.blocked = True
                    hooks.blocked(queue)
                if not queue.stuck:
                    queue.stuck = True
                    hooks.stuck(queue)
