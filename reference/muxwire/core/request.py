"""One request, as the worker or as the client sees it.

Rules of this file: the life of a request is the generated table, and `step` is the only place that
reads it and the only one that changes `state`.  Everything else here is what the table's effects
need: sequence numbers, credit, the message that is arriving, and the outbound queue.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from muxwire._generated.codec import request_header, response_header
from muxwire._generated.machines import (
    CLIENT_REQUEST,
    EFFECT_NONE,
    EFFECT_VIOLATION,
    HALF,
    IDLE,
    OPEN,
    WORKER_REQUEST,
    Row,
)
from muxwire._generated.registries import MORE, ErrorCode
from muxwire.core.counters import OK
from muxwire.core.flow import StreamCredit
from muxwire.core.messages import Reassembly, check_size
from muxwire.core.sendqueue import SendQueue
from muxwire.core.timers import Timer
from muxwire.errors import ProtocolViolation

Table = tuple[tuple[Row, ...], ...]
Header = Callable[[int, int, int, bytes], bytes]


def look_up(table: Table, state: int, input_: int) -> Row:
    """Return the row of a state and an input that came from the wire.

    Raises:
        ProtocolViolation: The row says so, or the row cannot be reached (INTERNAL_ERROR).
    """
    row = table[state][input_]
    if row.effect == EFFECT_VIOLATION:  # STM-001, STM-002
        raise ProtocolViolation(
            row.code, "connection", row.requirement, "not allowed in the state of the request"
        )
    if row.effect == EFFECT_NONE:
        raise ProtocolViolation(
            ErrorCode.INTERNAL_ERROR, "connection", "STM-001", "a row that cannot be reached"
        )
    return row


class Request:
    """What both views share.

    Attributes:
        request_id: Its 16 octets.
        ordinal: Its place among the OPENs of the connection, from 1 (RID-005).
        state: A state of the table.
        next_seq: Sequence number that the next frame must have (FRM-010).
        credit: What has been granted to the peer on this stream.
        queue: What we still have to send.
        awaited: The application waits for a message (FLW-007).
        chunk_cost: Cost of the arriving message that has not been given back.
        reassembly: The message that is arriving; each request has its own (FAI-003).
        blocked_since: When its own window began to block what it has to send, or None.
        deadline: Timer of the request's timeout or of its KILL.
    """

    __slots__ = ("awaited", "blocked_since", "chunk_cost", "credit", "deadline", "next_seq",
                 "ordinal", "queue", "reassembly", "request_id", "state")  # fmt: skip

    table: ClassVar[Table]
    granting: ClassVar[tuple[int, ...]]
    """States in which the peer may still send, so that credit is of use to it."""

    def __init__(
        self, request_id: bytes, ordinal: int, window: int, queue_limit: int, header: Header
    ) -> None:
        self.request_id = request_id
        self.ordinal = ordinal
        self.state = IDLE
        self.next_seq = 0
        self.credit = StreamCredit(window)
        self.queue = SendQueue(request_id, queue_limit, header)
        self.awaited = False
        self.chunk_cost = 0
        self.blocked_since: float | None = None
        self.reassembly: Reassembly | None = None
        self.deadline: Timer | None = None

    def step(self, input_: int) -> int:
        """Go through the table and return the effect.

        Raises:
            ProtocolViolation: The input is not allowed in this state.
        """
        row = self.table[self.state][input_]
        effect = row.effect
        if effect in (EFFECT_VIOLATION, EFFECT_NONE):
            look_up(self.table, self.state, input_)  # raises
        self.state = row.state
        return effect

    def check_seq(self, seq: int) -> None:
        """Count a frame that has arrived.

        Raises:
            ProtocolViolation: FRM-010, the number is not the next one.
        """
        if seq != self.next_seq:
            raise ProtocolViolation(
                ErrorCode.SEQUENCE_ERROR,
                "connection",
                "FRM-010",
                f"seq {seq}, expected {self.next_seq}",
            )
        self.next_seq += 1

    def assemble(self, flags: int, body: bytes, *, silent: bool, limit: int) -> bytes | None:
        """Take the message data of a frame; return the message that it completes, if any.

        Raises:
            ProtocolViolation: MSG-003 with scope "stream".
        """
        reassembly = self.reassembly
        if reassembly is None:
            if not flags & MORE:
                if not body and silent:
                    return None
                check_size(len(body), limit)
                return body
            reassembly = self.reassembly = Reassembly()
        reassembly.add(body, limit)
        if flags & MORE:
            return None
        self.reassembly = None
        return reassembly.take()


class WorkerRequest(Request):
    """A request at the worker.

    Attributes:
        subject: What it asked for; empty until it is accepted.
        code: How its terminal ends it; `counters.OK` for a success.
        running: The handler has not ended.
        counted: It counts in the statistics.
        stopped: A STOP has been passed on (CAN-005).
        cancelled: The handler has been asked to stop.
        decided: The terminal is queued; what still arrives is discarded.
        stall: Timer of a stream that waits for credit (FLW-013).
        stuck_since: When it began to wait.
    """

    __slots__ = ("cancelled", "code", "counted", "decided", "running", "stall", "stopped",
                 "stuck_since", "subject")  # fmt: skip

    table = WORKER_REQUEST
    granting = (OPEN,)

    def __init__(self, request_id: bytes, ordinal: int, window: int, queue_limit: int) -> None:
        super().__init__(request_id, ordinal, window, queue_limit, response_header)
        self.subject = b""
        self.code = OK
        self.running = True
        self.counted = True
        self.stopped = False
        self.cancelled = False
        self.decided = False
        self.stall: Timer | None = None
        self.stuck_since = 0.0


class ClientRequest(Request):
    """A request at the client.

    Attributes:
        responded: A RESPONSE frame has arrived (REC-002).
        messages: Complete messages delivered.
        stop_reason: Reason of a STOP that waits for the OPEN (FAI-001).
        stop_sent: A STOP was asked for.
        verdict: Code and text of a local decision that explains a KILL, or None.
        placed: It has one of the worker's places (ADM-001).
        reported: The caller has had its last event; only the terminal is awaited.
        early: Pieces for the queue that wait for the peer's SETTINGS (SET-005).
    """

    __slots__ = ("early", "messages", "placed", "reported", "responded", "stop_reason", "stop_sent",
                 "verdict")  # fmt: skip

    table = CLIENT_REQUEST
    granting = (OPEN, HALF)

    def __init__(self, request_id: bytes, window: int, queue_limit: int) -> None:
        super().__init__(request_id, 0, window, queue_limit, request_header)
        self.responded = False
        self.messages = 0
        self.stop_reason: int | None = None
        self.stop_sent = False
        self.verdict: tuple[int, str] | None = None
        self.placed = False
        self.reported = False
        self.early: list[tuple[bytes, bytes, int]] = []
