"""A third party at the wire of a simulated link.

It reads every frame twice, when a core hands it out and when the other core has received it, and
checks what an outsider can check of two correct peers: sequence, credit, places, one terminal per
request, nothing after it, PING and PONG, GOAWAY.  It knows the generated decoder and nothing else
of the cores.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from muxwire._generated import codec
from muxwire._generated.registries import (
    END_STREAM,
    ERROR,
    FRAME_COST,
    META,
    NOT_PROCESSED,
    QUANTUM,
    SETTING_RULES,
    SettingId,
)

CLIENT, WORKER = 0, 1
NAMES = ("client", "worker")
HUGE = 1 << 30
_RECEIVER = (codec.WORKER, codec.CLIENT)
"""Role of the receiver of what each side sends."""


def assumed() -> dict[int, int]:
    return {number: rule.assumed for number, rule in SETTING_RULES.items()}


class Reader:
    """Octets of one direction, at one point of the link, turned into frames."""

    def __init__(self, sender: int) -> None:
        self.refused = False
        """The preface is complete and selects nothing."""
        self._preface = b""
        self._decoder = codec.FrameDecoder(_RECEIVER[sender], HUGE)

    def feed(self, data: bytes) -> list[codec.Frame]:
        missing = codec.PREFACE_SIZE - len(self._preface)
        if missing:
            self._preface += data[:missing]
            data = data[missing:]
            if len(self._preface) == codec.PREFACE_SIZE:
                preface = codec.decode_preface(self._preface)
                chosen = codec.Preface(codec.VERSION, codec.VERSION, codec.HEADER_SIZE)
                self.refused = preface != chosen
        self._decoder.feed(data)
        return list(self._decoder.frames())


@dataclass(slots=True)
class Outbound:
    """What one side has sent, and how much the other side has allowed it as far as it knows."""

    peer: dict[int, int] = field(default_factory=assumed)
    limit: int = 0
    sent: int = 0
    stream_limits: dict[bytes, int] = field(default_factory=dict)
    stream_sent: dict[bytes, int] = field(default_factory=dict)
    seqs: dict[bytes, int] = field(default_factory=dict)
    ended: set[bytes] = field(default_factory=set)
    granted: dict[bytes, int] = field(default_factory=dict)
    own: dict[int, int] = field(default_factory=assumed)
    frames: int = 0
    acknowledged: bool = False
    goaways: list[int] = field(default_factory=list)
    pings: list[tuple[float, bytes]] = field(default_factory=list)
    """PINGs received and not answered yet."""
    unanswered: int = 0
    last: float = 0.0
    """When the kernel has taken octets last."""
    obliged: bool = False
    """The peer's SETTINGS have arrived."""


class Watch:
    """Both directions of one link."""

    def __init__(self) -> None:
        self.out = (Outbound(), Outbound())
        for side in self.out:
            side.limit = side.peer[SettingId.CONNECTION_WINDOW]
        self._handed = (Reader(CLIENT), Reader(WORKER))
        self._arrived = (Reader(CLIENT), Reader(WORKER))
        self.opened: list[bytes] = []
        """Ids of the OPENs that the client has handed out, in order."""
        self.opens_received: dict[bytes, float] = {}
        """OPENs at the worker, and when they arrived."""
        self.ordinals: dict[bytes, int] = {}
        self.timeouts: dict[bytes, float] = {}
        self.bodies: dict[bytes, codec.ErrorBody | None] = {}
        """Terminals that the worker has handed out: the error body, or None for a success."""
        self.terminals: dict[bytes, codec.ErrorBody | None] = {}
        """Terminals that the client has received."""
        self.responded: set[bytes] = set()
        """Ids of which a RESPONSE has arrived at the client."""
        self.kills: set[bytes] = set()
        self.stops: set[bytes] = set()
        self.kills_received: dict[bytes, float] = {}
        self.covered: int | None = None
        """The smallest last_ordinal that has arrived at the client."""

    @property
    def refused_by_preface(self) -> bool:
        """Whether the client has received a refusal of its version."""
        return self._arrived[WORKER].refused

    # -- what a core hands out

    def handed(self, side: int, data: bytes, now: float) -> None:
        out = self.out[side]
        gap = now - out.last
        for frame in self._handed[side].feed(data):
            self._check(side, out, frame, gap)
            out.frames += 1

    def written(self, side: int, now: float) -> None:
        """Note that the kernel has taken octets."""
        self.out[side].last = now

    def _check(self, side: int, out: Outbound, frame: codec.Frame, gap: float) -> None:
        kind, _, _, request_id, payload = frame
        if not out.frames:
            assert kind == codec.SETTINGS or (side == WORKER and kind == codec.GOAWAY), "HSK-005"
        elif side == WORKER and not out.acknowledged and kind != codec.GOAWAY:
            assert kind == codec.SETTINGS_ACK, "HSK-007"
        match kind:
            case codec.REQUEST | codec.RESPONSE:
                self._check_stream(side, out, frame)
            case codec.SETTINGS:
                assert not out.frames, "HSK-006"
                pairs = codec.decode_settings(payload).settings
                out.own |= {number: value for number, value in pairs if number in SETTING_RULES}
            case codec.SETTINGS_ACK:
                assert not out.acknowledged, "HSK-007"
                assert out.obliged, "HSK-007: acknowledged before it was received"
                out.acknowledged = True
            case codec.WINDOW_UPDATE:
                self._check_grant(side, out, request_id, codec.decode_window_update(payload))
            case codec.STOP:
                assert request_id in self.opened, "FAI-001: STOP before the OPEN"
                assert request_id not in self.kills, "no STOP follows a KILL"
                assert request_id not in self.stops, "a second STOP"
                self.stops.add(request_id)
            case codec.KILL:
                assert request_id in self.opened, "FAI-001: KILL before the OPEN"
                assert request_id not in self.kills, "a second KILL"
                self.kills.add(request_id)
            case codec.GOAWAY:
                self._check_goaway(side, out, codec.decode_goaway(payload))
            case codec.PING:
                out.unanswered += 1
                idle = out.peer[SettingId.IDLE_TIMEOUT_MS] / 1000
                assert gap > 0.35 * idle, "HBT-001: a PING although something was just sent"
            case codec.PONG:
                assert out.pings, "a PONG without a PING"
                assert out.pings.pop(0)[1] == payload, "HBT-002"
            case _:
                raise AssertionError(f"unexpected {codec.KIND_NAMES[kind]}")

    def _check_stream(self, side: int, out: Outbound, frame: codec.Frame) -> None:
        _, flags, seq, request_id, payload = frame
        assert seq == out.seqs.get(request_id, 0), "FRM-010"
        out.seqs[request_id] = seq + 1
        assert request_id not in out.ended, "a frame after END_STREAM"
        assert len(payload) <= out.peer[SettingId.MAX_FRAME_SIZE], "SET-003"
        assert len(payload) <= QUANTUM, "FAI-002"
        self._charge(out, frame)
        if side == CLIENT:
            self._check_request(out, flags, seq, request_id, payload)
        else:
            self._check_response(out, flags, request_id, payload)
        if flags & END_STREAM:
            out.ended.add(request_id)

    def _charge(self, out: Outbound, frame: codec.Frame) -> None:
        _, flags, _, request_id, payload = frame
        if flags & ERROR or (flags & END_STREAM and not payload):
            return  # FLW-004
        cost = FRAME_COST + len(payload)
        sent = out.stream_sent.get(request_id, 0) + cost
        initial = out.peer[SettingId.INITIAL_STREAM_WINDOW]
        limit = max(initial, out.stream_limits.get(request_id, 0))
        assert sent <= limit, f"FLW-001: {sent} on a stream, {limit} allowed"
        out.stream_sent[request_id] = sent
        out.sent += cost
        assert out.sent <= out.limit, f"FLW-001: {out.sent} in all, {out.limit} allowed"

    def _check_request(
        self, out: Outbound, flags: int, seq: int, request_id: bytes, payload: bytes
    ) -> None:
        assert request_id not in self.kills, "a REQUEST after the KILL"
        assert request_id not in self.terminals, "STM-003: a REQUEST after the terminal"
        if seq:
            return
        assert flags & META, "TYP-003"
        assert request_id not in self.opened, "RID-001"
        assert not out.goaways, "CLS-009: an OPEN after a GOAWAY of the client"
        assert self.covered is None, "CLS-008: an OPEN after a GOAWAY of the worker"
        opening = codec.decode_open(payload, out.peer[SettingId.MAX_METADATA_SIZE])
        self.opened.append(request_id)
        if opening.timeout_ms:
            self.timeouts[request_id] = opening.timeout_ms / 1000
        live = len(self.opened) - len(self.terminals)
        assert live <= out.peer[SettingId.MAX_CONCURRENT_REQUESTS], "ADM-001"

    def _check_response(self, out: Outbound, flags: int, request_id: bytes, payload: bytes) -> None:
        assert request_id in self.opens_received, "a RESPONSE to nothing"
        assert request_id not in self.bodies, "TYP-006: a RESPONSE after the terminal"
        if request_id in self.kills_received:
            assert flags & END_STREAM, "CAN-002: data after the KILL"
        if flags & END_STREAM:
            body = codec.decode_error_body(payload) if flags & ERROR else None
            if body is not None and body.error_flags & NOT_PROCESSED:
                assert out.seqs[request_id] == 1, "ADM-003"
            self.bodies[request_id] = body
        if out.goaways and self.ordinals[request_id] > out.goaways[-1]:
            assert self.untouched(request_id), "CLS-004: an answer to what is not covered"

    def untouched(self, request_id: bytes) -> bool:
        """Whether the worker has answered with NOT_PROCESSED."""
        body = self.bodies.get(request_id)
        return body is not None and bool(body.error_flags & NOT_PROCESSED)

    def _check_grant(self, side: int, out: Outbound, request_id: bytes, limit: int) -> None:
        whole = request_id == codec.CONNECTION_ID
        setting = SettingId.CONNECTION_WINDOW if whole else SettingId.INITIAL_STREAM_WINDOW
        window = out.own[setting]
        before = out.granted.get(request_id, window)
        assert limit - before >= window / 4, "FLW-012"
        out.granted[request_id] = limit
        if not whole:
            known = self.opens_received if side == WORKER else self.opened
            assert request_id in known, "a WINDOW_UPDATE for nothing"

    def _check_goaway(self, side: int, out: Outbound, goaway: codec.Goaway) -> None:
        if side == CLIENT:
            assert goaway.last_ordinal == 0, "CLS-001"
        else:  # OPENs may have come while it waited to be written
            assert goaway.last_ordinal <= len(self.opens_received), "RID-005"
            assert not out.goaways or goaway.last_ordinal <= out.goaways[-1], "CLS-007"
            touched = [self.ordinals[key] for key in out.seqs if not self.untouched(key)]
            assert max(touched, default=0) <= goaway.last_ordinal, "CLS-007"
        out.goaways.append(goaway.last_ordinal)

    # -- what a core receives

    def arrived(self, side: int, data: bytes, now: float) -> None:
        """Note what `side` has received from the other."""
        sender = 1 - side
        out = self.out[side]
        for kind, flags, seq, request_id, payload in self._arrived[sender].feed(data):
            match kind:
                case codec.REQUEST if seq == 0:
                    self.opens_received[request_id] = now
                    self.ordinals[request_id] = len(self.opens_received)
                case codec.RESPONSE:
                    self.responded.add(request_id)
                    if flags & END_STREAM:
                        body = codec.decode_error_body(payload) if flags & ERROR else None
                        self.terminals[request_id] = body
                case codec.SETTINGS:
                    self._settle(out, codec.decode_settings(payload).settings, now)
                case codec.WINDOW_UPDATE:
                    limit = codec.decode_window_update(payload)
                    if request_id == codec.CONNECTION_ID:
                        out.limit = max(out.limit, limit)
                    else:
                        before = out.stream_limits.get(request_id, 0)
                        out.stream_limits[request_id] = max(before, limit)
                case codec.KILL:
                    self.kills_received.setdefault(request_id, now)
                case codec.GOAWAY if side == CLIENT:
                    last = codec.decode_goaway(payload).last_ordinal
                    self.covered = last if self.covered is None else min(last, self.covered)
                case codec.PING:
                    out.pings.append((now, payload))
                case codec.PONG:
                    out.unanswered -= 1

    def _settle(self, out: Outbound, pairs: list[tuple[int, int]], now: float) -> None:
        out.peer |= {number: value for number, value in pairs if number in SETTING_RULES}
        out.limit = max(out.limit, out.peer[SettingId.CONNECTION_WINDOW])
        out.obliged = True
        out.last = now

    # -- what is due

    def next_sign_of_life(self, side: int) -> float:
        """Return when `side` must have sent something at the latest (HBT-001)."""
        out = self.out[side]
        if not out.obliged:
            return float("inf")
        return out.last + out.peer[SettingId.IDLE_TIMEOUT_MS] / 2000
