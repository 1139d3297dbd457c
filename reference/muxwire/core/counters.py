"""What the connections of a worker or of a client count (OBS-004).

Rules of this file: one object is shared by all connections of a process.  Counting is an addition
per frame or rarer, and nothing here is computed before somebody asks.  No number and no name that
the peer chooses becomes a key, so the object cannot grow without bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from muxwire._generated import codec
from muxwire._generated.registries import ControlSubtype, ErrorCode, FrameType, HeartbeatSubtype

ROUND_TRIP_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds in seconds of the ranges that round trips are counted in; one more lies above."""

MAX_SUBJECTS = 256
"""Subjects that a client tells apart; a worker tells apart those that it serves."""

OK = -1
LOST = -2
APPLICATION = -3
OTHER = -4
"""Ends of a request, beside the codes of the registry."""

CODE_NAMES: Mapping[int, str] = {
    **{int(code): code.name for code in ErrorCode},
    OK: "OK",
    LOST: "LOST",
    APPLICATION: "APPLICATION",
    OTHER: "OTHER",
}

_FIRST_APPLICATION = 0x8000_0000

FAILURES: Mapping[str, str] = {
    "HSK-002": "not_wmx",
    "HSK-004": "version",
    "HSK-008": "timeout",
    "HSK-011": "limit",
    "SEC-001": "tls",
    "SEC-002": "tls",
}
"""Why a handshake failed, by the requirement it was ended for; the others are `protocol`."""

REASONS = (*dict.fromkeys(FAILURES.values()), "protocol", "closed_by_peer", "abandoned", "dial")

_KINDS = {
    FrameType.CONTROL << 8 | ControlSubtype.SETTINGS: codec.SETTINGS,
    FrameType.CONTROL << 8 | ControlSubtype.SETTINGS_ACK: codec.SETTINGS_ACK,
    FrameType.CONTROL << 8 | ControlSubtype.WINDOW_UPDATE: codec.WINDOW_UPDATE,
    FrameType.CONTROL << 8 | ControlSubtype.STOP: codec.STOP,
    FrameType.CONTROL << 8 | ControlSubtype.KILL: codec.KILL,
    FrameType.CONTROL << 8 | ControlSubtype.GOAWAY: codec.GOAWAY,
    FrameType.CONTROL << 8 | ControlSubtype.HELLO: codec.HELLO,
    FrameType.CONTROL << 8 | ControlSubtype.ACCEPT: codec.ACCEPT,
    FrameType.CONTROL << 8 | ControlSubtype.REJECT: codec.REJECT,
    FrameType.CONTROL << 8 | ControlSubtype.DONE: codec.DONE,
    FrameType.HEARTBEAT << 8 | HeartbeatSubtype.PING: codec.PING,
    FrameType.HEARTBEAT << 8 | HeartbeatSubtype.PONG: codec.PONG,
}


class Counters:
    """Counters of a worker or of a client.

    Attributes:
        opened: TCP connections accepted or made.
        accepted: Handshakes completed.
        failures: Handshakes that failed, by reason.
        frames_received: By kind; so are the three that follow.
        octets_received: Headers and payloads.
        frames_sent: Those of requests that are over; `Connection.frames_sent` has the rest.
        octets_sent: Headers and payloads.
        requests: Requests that are over, by subject and code.  The empty subject, which no request
            can have, stands for all that are not known.
        glitches: Harmless frames that were charged (DOS-001).
        goaways_received: By code.
        goaways_sent: By code.
        round_trips: Answered PINGs in each range.
        round_trip_sum: Seconds that they took together.
        stream_blocked: Seconds that streams were blocked by their own windows; those that are still
            blocked are in `Connection.blocked_seconds`.
        connection_blocked: Seconds that connections were blocked by theirs.
    """

    __slots__ = ("_subjects", "accepted", "connection_blocked", "failures", "frames_received",
                 "frames_sent", "glitches", "goaways_received", "goaways_sent", "octets_received",
                 "octets_sent", "opened", "requests", "round_trip_sum", "round_trips",
                 "stream_blocked")  # fmt: skip

    def __init__(self) -> None:
        kinds = len(codec.KIND_NAMES)
        self.opened = 0
        self.accepted = 0
        self.failures = dict.fromkeys(REASONS, 0)
        self.frames_received = [0] * kinds
        self.octets_received = [0] * kinds
        self.frames_sent = [0] * kinds
        self.octets_sent = [0] * kinds
        self.requests: dict[tuple[bytes, int], int] = {}
        self.glitches = 0
        self.goaways_received: dict[int, int] = {}
        self.goaways_sent: dict[int, int] = {}
        self.round_trips = [0] * (len(ROUND_TRIP_BOUNDS) + 1)
        self.round_trip_sum = 0.0
        self.stream_blocked = 0.0
        self.connection_blocked = 0.0
        self._subjects: set[bytes] = set()

    # -- connections

    def failed(self, requirement: str, code: int | None, *, by_peer: bool) -> None:
        """Count a handshake that ended before it was complete."""
        if requirement:
            reason = FAILURES.get(requirement, "protocol")
        elif code == ErrorCode.CONNECTION_LIMIT:
            reason = "limit"
        else:
            reason = "closed_by_peer" if by_peer else "abandoned"
        self.failures[reason] += 1

    # -- frames

    def received(self, kind: int, frames: int, payloads: int) -> None:
        """Count frames of a kind and the octets of their payloads."""
        self.frames_received[kind] += frames
        self.octets_received[kind] += payloads + frames * codec.HEADER_SIZE

    def goaway_received(self, code: int) -> None:
        """Count a GOAWAY of the peer."""
        _add(self.goaways_received, _bounded(code))

    def sent_control(self, frame: bytes | memoryview) -> int:
        """Count a frame that the connection itself has written; return its octets."""
        size = len(frame)
        kind = _KINDS.get(frame[1] << 8 | frame[3])
        if kind is not None:  # the preface is not a frame
            self.frames_sent[kind] += 1
            self.octets_sent[kind] += size
            if kind == codec.GOAWAY:
                at = codec.HEADER_SIZE
                _add(self.goaways_sent, _bounded(int.from_bytes(frame[at : at + 4])))
        return size

    def round_trip(self, seconds: float) -> None:
        """Count an answered PING."""
        self.round_trips[bisect_left(ROUND_TRIP_BOUNDS, seconds)] += 1
        self.round_trip_sum += seconds

    # -- requests

    def request_ended(self, subject: bytes, code: int) -> None:
        """Count a request that is over; the subject is one that is served, or empty."""
        try:
            self.requests[subject, code] += 1
        except KeyError:
            key = (subject, code if code in CODE_NAMES else _bounded(code))
            self.requests[key] = self.requests.get(key, 0) + 1

    def learn(self, subject: bytes) -> None:
        """Tell a subject apart from now on: a worker has shown that it serves it."""
        if len(self._subjects) < MAX_SUBJECTS:
            self._subjects.add(subject)

    def known(self, subject: bytes) -> bytes:
        """Return the subject if it is told apart, else the empty one."""
        return subject if subject in self._subjects else b""


def _bounded(code: int) -> int:
    """Return a code of the registry, or the number that stands for all others."""
    if code >= 0 and code in CODE_NAMES:
        return code
    return APPLICATION if code >= _FIRST_APPLICATION else OTHER


def _add(counts: dict[int, int], key: int) -> None:
    counts[key] = counts.get(key, 0) + 1
