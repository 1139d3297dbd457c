"""What an end of a WMX/1 connection sends, held against the rules that an outsider can check.

Rules of this file: it knows what the peer has said (a `Direction`) and what the end says, nothing
of the core.  Limits count as soon as the peer has said them, so it never accuses too early.
"""

from __future__ import annotations

from muxwire_spec import registries as r

from muxwire_fuzz.harness import equal, require
from muxwire_fuzz.hearing import CONNECTION, Direction
from muxwire_fuzz.reading import END, ERROR, Told, cost_of
from muxwire_fuzz.roles import CLIENT, WORKER, Role

_NOT_PROCESSED = r.ERROR_FLAGS.value("NOT_PROCESSED")
_HUGE = 1 << 40


class Speech:
    """The output of one end.

    Args:
        role: The end's own role.
        peer: What the end has been sent.
    """

    def __init__(self, role: Role, peer: Direction) -> None:
        other = CLIENT if role is WORKER else WORKER
        self.said = Direction(other.receiver(_HUGE, _HUGE))
        self._worker = role is WORKER
        self._peer = peer
        self._costs: dict[bytes, int] = {}
        self._pongs = 0
        self._acknowledged = False
        self._goaways: list[int] = []
        self._killed: set[bytes] = set()

    def feed(self, octets: bytes) -> None:
        """Take what the end writes.

        Raises:
            InvariantError: it breaks a rule.
        """
        for frame in self.said.feed(octets):
            self._frame(frame)
        require(
            self.said.error is None,
            "what is sent is a frame of the specification",
            f"{self.said.error}: {octets[:64].hex()}",
        )
        require(not self.said.spoilt, "what is sent has a good payload", octets[:200].hex())
        require(not self.said.pending, "whole frames are handed over")

    def _frame(self, frame: Told) -> None:
        match frame.kind:
            case "REQUEST" | "RESPONSE":
                self._stream(frame)
            case "SETTINGS":
                require(len(self.said.frames) == 1, "HSK-006: SETTINGS are sent once")
            case "SETTINGS_ACK":
                require(not self._acknowledged, "HSK-007: SETTINGS_ACK is sent once")
                self._acknowledged = True
                heard = [told.kind for told in self._peer.frames]
                require("SETTINGS" in heard, "HSK-007: SETTINGS_ACK answers SETTINGS")
            case "PONG":
                pings = [told.payload for told in self._peer.frames if told.kind == "PING"]
                require(self._pongs < len(pings), "HBT-002: a PONG answers a PING")
                equal(frame.payload, pings[self._pongs], "HBT-002: a PONG has the PING's octets")
                self._pongs += 1
            case "GOAWAY":
                self._goaway(frame)
            case "WINDOW_UPDATE":
                known = self._peer.courses if self._worker else self.said.courses
                connection = frame.request_id == CONNECTION
                require(connection or frame.request_id in known, "credit is for what has begun")
            case "STOP" | "KILL":
                require(frame.request_id in self.said.courses, "FAI-001: nothing precedes the OPEN")
                require(frame.request_id not in self._killed, f"no {frame.kind} follows a KILL")
                if frame.kind == "KILL":
                    self._killed.add(frame.request_id)
            case "PING":
                pass
            case _:
                require(False, "no frame is sent that means nothing", frame.kind)

    def _stream(self, frame: Told) -> None:
        id, peer = frame.request_id, self._peer
        course = self.said.courses[id]
        require(course.order, "FRM-010: frames are in sequence, and none follows the end")
        require(
            len(frame.payload) <= peer.settings["MAX_FRAME_SIZE"],
            "SET-003: no frame is larger than the peer takes",
        )
        cost = cost_of(frame.flags, frame.payload)
        self._costs[id] = self._costs.get(id, 0) + cost
        if cost:
            require(self._costs[id] <= peer.limit(id), "FLW-001: within the credit of the stream")
            require(self.said.cost <= peer.limit(), "FLW-001: within the connection's credit")
        if self._worker:
            require(id in peer.courses, "a RESPONSE answers a REQUEST")
            if frame.flags & ERROR and int.from_bytes(frame.payload[4:6]) & _NOT_PROCESSED:
                require(frame.seq == 0, "ADM-003: NOT_PROCESSED comes before any RESPONSE")
            return
        require(id not in self._killed, "no REQUEST follows the KILL")
        if frame.seq == 0:
            require(not self._goaways, "CLS-009: no OPEN follows the GOAWAY")
            live = sum(
                1
                for other in self.said.courses
                if other not in peer.courses or peer.courses[other].terminal is None
            )
            most = peer.settings["MAX_CONCURRENT_REQUESTS"]
            require(live <= most, "ADM-001: no more requests than the worker takes")

    def _goaway(self, frame: Told) -> None:
        last = int.from_bytes(frame.payload[4:12])
        if not self._worker:
            equal(last, 0, "CLS-001: the last_ordinal of a client is 0")
        require(
            last <= len(self._peer.courses),
            "RID-005: last_ordinal counts OPENs", f"{last} of {len(self._peer.courses)}",
        )  # fmt: skip
        require(not self._goaways or last <= self._goaways[-1], "CLS-007: last_ordinal never rises")
        self._goaways.append(last)

    def terminals(self) -> set[bytes]:
        """Return the ids whose direction this end has ended."""
        return {id for id, course in self.said.courses.items() if course.terminal is not None}


def ended_well(frame: Told) -> bool:
    """Whether a terminal is a success."""
    return bool(frame.flags & END) and not frame.flags & ERROR
