"""Hold a conversation of `spec/vectors` with a core: feed it, watch it, and move a fake clock.

It reads the JSON as `spec/vectors/README.md` describes it, and nothing else of the specification.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from math import inf
from typing import Any

from conversation_subjects import SUBJECTS, Task
from core_harness import HUGE, Entropy, config
from muxwire._generated import codec
from muxwire._generated.registries import (
    END_STREAM,
    ERROR,
    FRAME_COST,
    META,
    MORE,
    NON_RETRYABLE,
    NOT_PROCESSED,
    ErrorCode,
    SettingId,
)
from muxwire.core import ClientConnection, CloseAction, Connection, WorkerConnection
from muxwire.core.events import (
    CancelReason,
    Event,
    HandlerCancelled,
    MessageReceived,
    RequestFinished,
    RequestReceived,
    StopReceived,
    Writable,
)

Json = dict[str, Any]
ALWAYS_FREE = {"WINDOW_UPDATE", "PING", "EXTENSION"}
KNOWN_FLAGS = {"NOT_PROCESSED": NOT_PROCESSED, "NON_RETRYABLE": NON_RETRYABLE}
TOLERANCE = 1e-6
PATIENCE = 2.0
SETTINGS = {entry.name.lower() for entry in SettingId}


class MismatchError(AssertionError):
    """The core has not done what the vector says."""


@dataclass
class Frame:
    """A frame that the core has sent: which one it was, when, and what it says."""

    index: int
    time: float
    kind: str
    request_id: bytes
    payload: bytes
    taken: bool = False


@dataclass
class Response:
    """What has arrived of a response: messages and end not expected yet, with their frames."""

    messages: list[tuple[bytes, Frame]] = field(default_factory=list)
    end: Any = None
    last: Frame | None = None
    seq: int = 0
    cost: int = 0
    over: bool = False
    part: bytes | None = None


class Player:
    """A core under test, its handlers and its clock."""

    def __init__(self, vector: Json) -> None:
        self.vector = vector
        self.now = 0.0
        self.octets = b""
        self.frames: list[Frame] = []
        self.responses: dict[bytes, Response] = {}
        self.limits: dict[bytes, int] = {}
        self.tasks: dict[bytes, Task] = {}
        self.preface_taken = False
        self.ended_at: float | None = None
        self.free = ALWAYS_FREE | set(vector["free"])
        changes = {
            name.lower().replace("_timeout_ms", "_timeout")
            if name.islower()
            else name.lower(): value / 1000 if name.islower() else value
            for name, value in vector["config"].items()
        }
        worker = vector["role"] == "worker"
        self.core: Connection[Any] = (
            WorkerConnection(config(**changes), 0.0, Entropy(), subjects=SUBJECTS)
            if worker
            else ClientConnection(config(**changes), 0.0, Entropy())
        )
        self.window = self.core.config.settings.initial_stream_window
        self.limits[bytes(16)] = self.core.config.settings.connection_window
        self._decoder = codec.FrameDecoder(codec.CLIENT if worker else codec.WORKER, HUGE)
        self.turn()

    # -- the core

    def feed(self, octets: bytes, pieces: int) -> None:
        for at in range(0, len(octets), pieces):
            self.core.receive_data(octets[at : at + pieces], self.now)
            self.turn()

    def turn(self) -> None:
        """Carry events and output until there are none."""
        moved = True
        while moved:
            moved = False
            for event in self.core.events():
                self._on_event(event)
                moved = True
            while data := self.core.data_to_send(self.now):
                self.core.data_sent(len(data), self.now)
                self._read(data)
                moved = True
        if self.core.close_action and self.ended_at is None:
            self.ended_at = self.now

    def step_clock(self, until: float) -> bool:
        """Move to the next thing that is due; False if there is none until then."""
        due = min(
            (task.wake for task in self.tasks.values() if not task.over),
            default=inf,
        )
        timeout = self.core.next_timeout()
        due = min(due, inf if timeout is None else timeout)
        if due > until + TOLERANCE:
            self.now = max(self.now, until)
            return False
        self.now = max(self.now, due)
        for task in self.tasks.values():
            if task.wake <= self.now:
                task.go_on()
        if timeout is not None and timeout <= self.now:
            self.core.handle_timeout(self.now)
        self.turn()
        return True

    def run_until(self, until: float) -> None:
        steps = 0
        while self.step_clock(until):
            steps += 1
            if steps > 10_000:
                raise MismatchError("the clock does not move")

    def _on_event(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            assert isinstance(self.core, WorkerConnection)
            task = Task(self.core, lambda: self.now, event.request_id, event.subject)
            self.tasks[event.request_id] = task
            task.feed(event.data, event.cost, ended=event.ended)
        elif isinstance(event, MessageReceived):
            self.tasks[event.request_id].feed(event.data, event.cost, ended=event.ended)
        elif isinstance(event, RequestFinished):
            self.tasks[event.request_id].feed(None, 0, ended=True)
        elif isinstance(event, StopReceived):
            self.tasks[event.request_id].stop()
            self.tasks[event.request_id].go_on()
        elif isinstance(event, HandlerCancelled):
            lost = event.reason is CancelReason.CONNECTION_LOST
            self.tasks[event.request_id].cancel(lost=lost)
            self.tasks[event.request_id].go_on()
        elif isinstance(event, Writable):
            self.tasks[event.request_id].go_on()

    # -- its output

    def _read(self, data: bytes) -> None:
        missing = max(0, codec.PREFACE_SIZE - len(self.octets))
        self.octets += data
        self._decoder.feed(data[missing:])
        for kind, flags, seq, request_id, payload in self._decoder.frames():
            frame = Frame(
                index=len(self.frames),
                time=self.now,
                kind=codec.KIND_NAMES[kind],
                request_id=request_id,
                payload=payload,
            )
            self.frames.append(frame)
            if frame.kind == "RESPONSE":
                frame.taken = True
                self._respond(frame, flags, seq)
            elif frame.kind == "WINDOW_UPDATE":
                limit = codec.decode_window_update(payload)
                assert limit > self.limits.get(request_id, self.window), "FLW-003"
                self.limits[request_id] = limit

    def _respond(self, frame: Frame, flags: int, seq: int) -> None:
        response = self.responses.setdefault(frame.request_id, Response())
        assert not response.over, "TYP-006: a frame behind the terminal"
        assert seq == response.seq, "FRM-010"
        response.seq += 1
        body = frame.payload
        exempt = flags & ERROR or (flags & END_STREAM and not body)
        response.cost += 0 if exempt else FRAME_COST + len(body)
        response.last = frame
        response.over = bool(flags & END_STREAM)
        if flags & ERROR:
            response.end = codec.decode_error_body(body)
            return
        if flags & META:
            body = codec.decode_response_meta(body, 16_384).body
        silent = not body and response.part is None and flags & (END_STREAM | META)
        if not silent:
            message = (response.part or b"") + body
            if flags & MORE:
                response.part = message
            else:
                response.part = None
                response.messages.append((message, frame))
        if flags & END_STREAM:
            response.end = "SUCCESS"

    # -- the steps

    def play(self, pieces: int = HUGE) -> None:
        """Hold the whole conversation.

        Raises:
            MismatchError: A step does not come out as the vector says.
        """
        for number, step in enumerate(self.vector["steps"]):
            try:
                if "receive" in step:
                    self._receive(step, pieces)
                elif "expect" in step:
                    following = self.vector["steps"][number + 1 : number + 2]
                    self._expect(step, last=any("end" in one for one in following))
                else:
                    self._end(step)
            except AssertionError as error:
                shown = [f"{f.time:.3f} {f.kind} {f.payload[:24].hex()}" for f in self.frames[-8:]]
                text = "\n".join([f"step {number} {step}"[:600], str(error), *shown])
                raise MismatchError(text) from error
        if not self.core.close_action:
            self.core.receive_eof(self.now)
            self.turn()
        self.run_until(self.now + 60.0)
        assert all(task.over for task in self.tasks.values()), "a handler goes on"
        assert self.core.next_timeout() is None

    def _receive(self, step: Json, pieces: int) -> None:
        if "at" in step:
            self.run_until(step["at"] / 1000)
        self.feed(octets_of(step), pieces)

    def _deadline(self, step: Json) -> float:
        if "by" in step:
            return float(step["by"]) / 1000
        return self.now + float(step.get("within", PATIENCE * 1000)) / 1000

    def _expect(self, step: Json, *, last: bool) -> None:
        deadline = self._deadline(step)
        while (found := self._found(step["expect"])) is None and self.step_clock(deadline):
            pass
        assert found is not None, f"not there at {self.now}: {self._left()}"
        if "after" in step:
            early = [f for f in found if f.time < step["after"] / 1000 - TOLERANCE]
            assert not early, f"too early: {early}"
        if step.get("ordered"):
            indices = [frame.index for frame in found]
            assert indices == sorted(indices), "the order is another"
        for item in step["expect"]:
            self._take(item)
        left = self._left()
        if last and len(left) == 1 and is_error_goaway(left[0]):
            left = []  # it belongs to the end, which is the next step
        assert left == [], "more than what is expected"

    def _found(self, items: list[Json]) -> list[Frame] | None:
        """Return the frame that completes each item, or None if one is not there yet."""
        controls = [frame for frame in self.frames if not frame.taken]
        found = []
        for item in items:
            frame = self._find(item, controls)
            if frame is None:
                return None
            found.append(frame)
        return found

    def _find(self, item: Json, controls: list[Frame]) -> Frame | None:
        beginning = Frame(-1, self.now, "", b"", b"", taken=True)
        if "preface" in item:
            return beginning if len(self.octets) >= codec.PREFACE_SIZE else None
        if "limit" in item:
            request_id = bytes.fromhex(item["limit"]["request_id"])
            limit = self.limits.get(request_id, self.window)
            return beginning if limit >= item["limit"]["at_least"] else None
        if "frame" in item:
            wanted = item["frame"]["kind"]
            matching = [f for f in controls if f.kind == wanted]
            times = int(item.get("times", 1))
            if len(matching) < times:
                return None
            for frame in matching[:times]:
                controls.remove(frame)
            return matching[times - 1]
        return self._find_response(item["response"], beginning)

    def _find_response(self, item: Json, beginning: Frame) -> Frame | None:
        response = self.responses.get(bytes.fromhex(item["request_id"]))
        if response is None or len(response.messages) < len(item["messages"]):
            return None
        if item["end"] and response.end is None:
            return None
        if "cost" in item and not matches(response.cost, item["cost"]):
            return None
        if item["end"]:
            return response.last
        return response.messages[-1][1] if item["messages"] else beginning

    def _take(self, item: Json) -> None:
        """Mark an item that is there as seen, and compare what it says."""
        if "preface" in item:
            preface = codec.decode_preface(self.octets[: codec.PREFACE_SIZE])
            assert preface._asdict() == item["preface"]
            self.preface_taken = True
        elif "frame" in item:
            for _ in range(item.get("times", 1)):
                frame = next(
                    f for f in self.frames if not f.taken and f.kind == item["frame"]["kind"]
                )
                before = [
                    f for f in self.frames[: frame.index] if not f.taken and f.kind not in self.free
                ]
                assert frame.kind in self.free or not before, "another frame comes first"
                frame.taken = True
                fields = payload_of(frame)
                for name, value in item["frame"].get("payload", {}).items():
                    assert matches(fields[name], value), (name, fields[name], value)
        elif "response" in item:
            self._take_response(item["response"])

    def _take_response(self, item: Json) -> None:
        response = self.responses[bytes.fromhex(item["request_id"])]
        for (message, _), wanted in zip(response.messages, item["messages"], strict=False):
            assert message_matches(message, wanted), (message[:40], wanted)
        del response.messages[: len(item["messages"])]
        if item["end"]:
            assert any(end_matches(response.end, end) for end in item["end"]), response.end
            response.end = None

    def _left(self) -> list[Any]:
        """Return what has been sent, is not free and was not expected."""
        left: list[Any] = [f for f in self.frames if not f.taken and f.kind not in self.free]
        for request_id, response in self.responses.items():
            if "RESPONSE" in self.free:
                continue
            left += [(request_id.hex(), message) for message, _ in response.messages]
            left += [(request_id.hex(), response.end)] if response.end is not None else []
        if self.octets and not self.preface_taken:
            left.append("preface")
        return left

    # -- the end

    def _end(self, step: Json) -> None:
        deadline = self._deadline(step)
        while self.ended_at is None and self.step_clock(deadline):
            pass
        wanted = step["end"]
        if self.ended_at is not None and "after" in step:
            assert self.ended_at >= step["after"] / 1000 - TOLERANCE, f"ended at {self.ended_at}"
        seen = self._ending(wanted)
        assert seen & set(wanted["kinds"]), f"{seen or 'no end'}, {self._left()}"
        if self.ended_at is None:
            return
        sent = len(self.octets)
        self.feed(codec.encode_ping(bytes(8)), HUGE)
        self.core.receive_eof(self.now)
        self.turn()
        assert len(self.octets) == sent, "STM-006: something is sent behind the end"
        assert self.core.close_action >= CloseAction.CLOSE
        self.run_until(self.now + 1.0)
        assert all(task.over for task in self.tasks.values()), "STM-006, CLS-010"

    def _ending(self, wanted: Json) -> set[str]:
        """Return the kinds of section 15.4 that describe what has been seen."""
        left = self._left()
        action = self.core.close_action
        if self.ended_at is None:
            return {"CONTINUES"} if not left else set()
        seen = {"ANY"}
        if not self.octets:
            seen.add("SILENT")
        if len(self.octets) == codec.PREFACE_SIZE:
            seen.add("PREFACE")
        if not left:
            seen |= {"NO_GOAWAY"} if self.vector["role"] == "client" else set()
            seen |= {"ORDERLY"} if action is not CloseAction.ABORT else set()
        elif len(left) == 1 and isinstance(left[0], Frame) and left[0].kind == "GOAWAY":
            goaway = codec.decode_goaway(left[0].payload)
            right = ErrorCode(goaway.code).name == wanted["code"]
            if "last_ordinal" in wanted:
                assert goaway.last_ordinal == wanted["last_ordinal"], goaway
            if right and action is not CloseAction.ABORT:
                seen.add("GENERAL")
                named = goaway.message.decode().partition(":")[0]
                assert named == wanted["requirement"], f"OBS-006: {goaway.message!r}"
        return seen


def is_error_goaway(found: Any) -> bool:
    return (
        isinstance(found, Frame)
        and found.kind == "GOAWAY"
        and codec.decode_goaway(found.payload).code != ErrorCode.NO_ERROR
    )


# -- comparing -------------------------------------------------------------------------------------


def octets_of(step: Json) -> bytes:
    return b"".join(
        bytes.fromhex(part)
        if isinstance(part, str)
        else bytes.fromhex(part["repeat"]) * part["times"]
        for part in step["receive"]
    )


def payload_of(frame: Frame) -> Json:
    if frame.kind == "GOAWAY":
        return codec.decode_goaway(frame.payload)._asdict()
    if frame.kind in ("PING", "PONG"):
        return {"opaque": frame.payload.hex()}
    return {}


def matches(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return bool(wanted.get("at_least", found) <= found <= wanted.get("at_most", found))
    return bool(found == wanted)


def message_matches(message: bytes, wanted: Any) -> bool:
    if isinstance(wanted, str):
        return message == bytes.fromhex(wanted)
    if "json" in wanted:
        return bool(json.loads(message) == wanted["json"])
    return bool(len(message) == wanted["size"] and zlib.crc32(message) == wanted["crc32"])


def end_matches(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) or isinstance(found, str):
        return bool(found == wanted)
    flags = {name for name, bit in KNOWN_FLAGS.items() if found.error_flags & bit}
    return (
        ErrorCode(found.code).name == wanted["code"]
        and flags == set(wanted["error_flags"])
        and matches(found.retry_after_ms, wanted.get("retry_after_ms", {}))
    )
