"""Say the octets of a recorded conversation again, and tell whether the same thing happens.

This file needs the Python standard library only: ``export`` writes it, with the octets behind it,
into one script that runs anywhere.

Rules of this file:

* What was recorded is said in the recorded order and at the recorded pace. What the target had said
  before a piece is waited for, but not for ever.
* What came back is compared by its outcome: kinds, codes and faults of frames, for each connection
  and request, and whether the connection ended. Where messages were cut into frames, opaque octets,
  credit and other frames that may come at any time make no difference.
"""

from __future__ import annotations

import selectors
import socket
import struct
import sys
import time
import zlib
from typing import Any

HEADER = struct.Struct(">BBBBIQ16s")
PREFACE_SIZE = 16
MAGIC = bytes.fromhex("f7574d580d0a1a0a")
MARKER = 0xF7
REQUEST, RESPONSE, CONTROL, HEARTBEAT = 1, 2, 3, 4
CONTROLS = {1: "SETTINGS", 2: "SETTINGS_ACK", 3: "WINDOW_UPDATE", 6: "GOAWAY"}
HEARTBEATS = {1: "PING", 2: "PONG"}
END_STREAM, MORE, META, ERROR = 1, 2, 4, 8
SETTLE = 0.3
PATIENCE = 3.0

Data = dict[str, Any]
"""A record: id, rule, expected, actual, target, seconds, steps and came, or a part of one."""


class UnreachableError(Exception):
    """No connection could be made."""


class Said:
    """What the judge's side says on a connection, as far as the answers are measured by it."""

    def __init__(self, octets: bytes) -> None:
        self.ids: list[bytes] = []
        self.varying: set[bytes] = set()
        self.pings: set[bytes] = set()
        self.most = 16_384
        at = PREFACE_SIZE
        while at + HEADER.size <= len(octets):
            _marker, kind, flags, subtype, _seq, length, request_id = HEADER.unpack_from(octets, at)
            body = octets[at + HEADER.size : at + HEADER.size + min(length, 512)]
            if kind == REQUEST and flags & META and request_id not in self.ids:
                self.ids.append(request_id)
                if any(name in body for name in (b".stats", b".info", b".sink")):
                    self.varying.add(request_id)
            elif kind == CONTROL and subtype == 1:
                self.most = max(self.most, dict(_pairs(body)).get(1, 0))
            elif kind == HEARTBEAT and subtype == 1:
                self.pings.add(body)
            at += HEADER.size + length


class Answer:
    """What came for one request."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.due = 0
        self.messages = 0
        self.octets = 0
        self.crc = 0
        self.inside = False

    def data(self, flags: int, payload: bytes) -> None:
        """Count the content of a frame that is no error; the boundaries of messages count too."""
        alone = not payload and not flags & MORE and not self.inside
        if alone and flags & (END_STREAM | META):
            return  # it carries no message (MSG-002)
        self.inside = bool(flags & MORE)
        self.octets += len(payload)
        self.crc = zlib.crc32(payload if self.inside else payload + b"|", self.crc)
        self.messages += not self.inside

    def outcome(self, exact: bool, varying: bool) -> list[str]:
        """Return the tokens, with the content of an answer that is complete."""
        if not self.tokens[-1].startswith("end"):
            return self.tokens
        # The last data may come with the terminal or before it.
        tokens = [text for text in self.tokens if text != "data"]
        if varying:
            return tokens
        content = f", checksum {self.crc:08x}" if exact else ""
        return [*tokens, f"{self.messages} messages, {self.octets} octets{content}"]


class Heard:
    """What one side said on one connection, reduced to its outcome.

    Not exact means that some octets are not known, only their number. Not patient means that nobody
    waited to see whether the end that an error GOAWAY announces came.
    """

    def __init__(self, said: Said, *, exact: bool, patient: bool) -> None:
        self.said = said
        self.exact = exact
        self.patient = patient
        self.counted = 0
        self.preface: list[int] = []
        self.connection: list[str] = []
        self.answers: dict[bytes, Answer] = {}
        self.ended = False
        self._buffer = b""
        self._lost = False

    def feed(self, data: bytes) -> None:
        """Take octets; those that are no frame end the reading."""
        if self._lost:
            return
        self._buffer += data
        if not self.preface:
            if not MAGIC.startswith(self._buffer[: len(MAGIC)]):
                self.connection.append("octets that are no preface")
                self._lost = True
            if self._lost or len(self._buffer) < PREFACE_SIZE:
                return
            self.preface = list(self._buffer[len(MAGIC) : PREFACE_SIZE])
            self._buffer = self._buffer[PREFACE_SIZE:]
        while self._buffer:
            if self._buffer[0] != MARKER:
                self.connection.append("octets that are no frame")
                self._lost = True
                return
            if len(self._buffer) < HEADER.size:
                return
            head = HEADER.unpack_from(self._buffer)
            size = HEADER.size + head[5]
            if len(self._buffer) < size:
                return
            self._frame(head, self._buffer[HEADER.size : size])
            self._buffer = self._buffer[size:]

    def outcome(self) -> Data:
        """Return what can be compared."""
        requests = {}
        for id, answer in self.answers.items():
            known = id in self.said.ids
            name = f"request {self.said.ids.index(id) + 1}" if known else "an unknown request"
            requests[name] = answer.outcome(self.exact, id in self.said.varying)
        # Who stopped listening at an error GOAWAY, or at rubbish, did not see the end that follows.
        said_so = self._lost or any(
            text.startswith("GOAWAY") and not text.startswith("GOAWAY 0x0 ")
            for text in self.connection
        )
        return {
            "preface": self.preface,
            "connection": self.connection,
            "requests": requests,
            "ended": self.ended or (said_so and not self.patient),
            "exact": self.exact,
            "patient": self.patient,
        }

    def _frame(self, head: tuple[Any, ...], payload: bytes) -> None:
        _marker, kind, flags, subtype, seq, length, request_id = head
        if kind == RESPONSE:
            self.counted += 1
            self._response(flags, subtype, seq, payload, request_id)
            return
        names = {CONTROL: CONTROLS, HEARTBEAT: HEARTBEATS}.get(kind, {})
        name = names.get(subtype, f"type {kind:#04x} subtype {subtype:#04x}")
        text = name
        if flags or seq:
            text += f" flags {flags:#04x} seq {seq}"
        if any(request_id) and name != "WINDOW_UPDATE":
            text += " with a request id"
        if name == "GOAWAY":
            text += f" {int.from_bytes(payload[:4], 'big'):#x}"
            text += f" after request {int.from_bytes(payload[4:12], 'big')}"
            text += _malformed(payload, 18, 16)
        elif name == "SETTINGS":
            text += f" {_settings(payload)}"
        elif name in ("WINDOW_UPDATE", "PING", "PONG") and length != 8:
            text += f" {length} octets"
        elif name == "PONG" and payload not in self.said.pings:
            text += " that answers no PING"
        # Credit, PINGs behind the set-up and extensions may come at any time.
        if kind >= 0x80 or text == "WINDOW_UPDATE" or (text == "PING" and self.counted):
            return
        self.counted += 1
        self.connection.append(text)

    def _response(
        self, flags: int, subtype: int, seq: int, payload: bytes, request_id: bytes
    ) -> None:
        answer = self.answers.setdefault(request_id, Answer())
        text = "data"
        if flags & ERROR:
            text = f"error {int.from_bytes(payload[:4], 'big'):#x} flags {payload[4:6].hex()}"
            text += _malformed(payload, 12, 10)
        elif flags & END_STREAM:
            text = "end"
        elif flags & META:
            text = "headers"
        if flags & META and self.exact and request_id not in self.said.varying:
            text += f" metadata {zlib.crc32(_metadata(payload)):08x}"
        odd = flags & ~(END_STREAM | MORE | META | ERROR)
        both = flags & END_STREAM and flags & MORE
        alone = flags & ERROR and flags & (END_STREAM | META | MORE) != END_STREAM
        if odd or subtype or both or alone:
            text += f" flags {flags:#04x} subtype {subtype}"
        if seq != answer.due:
            text += f" seq {seq} where {answer.due} is due"
        if len(payload) > self.said.most:
            text += f" {len(payload)} octets, above MAX_FRAME_SIZE"
        answer.due = seq + 1
        if not flags & ERROR:
            answer.data(flags, payload[4 + len(_metadata(payload)) :] if flags & META else payload)
        if text != "data" or answer.tokens[-1:] != ["data"]:
            answer.tokens.append(text)


def _metadata(payload: bytes) -> bytes:
    return payload[4 : 4 + int.from_bytes(payload[:4], "big")]


def _malformed(payload: bytes, fixed: int, at: int) -> str:
    """Say so if a body with a message does not hold together: length at ``at``, text behind."""
    if len(payload) < fixed:
        return " cut short"
    length = int.from_bytes(payload[at : at + 2], "big")
    message = payload[fixed : fixed + length]
    try:
        message.decode()
    except UnicodeDecodeError:
        return " with a message that is not UTF-8"
    wrong = len(message) < length or length > 1_024 or len(payload) > 4_096
    return " with lengths that do not fit" if wrong else ""


def _pairs(payload: bytes) -> list[tuple[int, int]]:
    whole = len(payload) - len(payload) % 10
    return [struct.unpack_from(">HQ", payload, at) for at in range(0, whole, 10)]


def _settings(payload: bytes) -> str:
    """Name the settings in order, grease as what it is, and what is left over."""
    names = [
        "grease" if number & 0x0F0F == 0x0A0A else f"{number}={value}"
        for number, value in _pairs(payload)
    ]
    left = len(payload) % 10
    return " ".join(sorted(names)) + (f" and {left} octets" if left else "")


def differences(was: Data, came: Data) -> list[str]:
    """Return in words what is not the same, nothing if all is."""
    found = []
    for label, before in was.items():
        now = came[label]
        for what in ("preface", "connection", "ended"):
            if before[what] != now[what]:
                found.append(f"{label}: {what}: was {before[what]}, is {now[what]}")
        for name in sorted({*before["requests"], *now["requests"]}):
            old, new = before["requests"].get(name, []), now["requests"].get(name, [])
            if old != new:
                found.append(f"{label}: {name}: was {old}, is {new}")
    return found


class Replay:
    """One run of a record against a target."""

    def __init__(self, record: Data, host: str, port: int) -> None:
        self._record = record
        self._target = (host, port)
        self._selector = selectors.DefaultSelector()
        self._sockets: dict[str, socket.socket] = {}
        self._left: dict[str, bytes] = {}
        self.heard: dict[str, Heard] = {}

    def run(self) -> Data:
        """Say everything and return the outcome of each connection.

        Raises:
            UnreachableError: a connection could not be made.
        """
        for label, sent in self._spoken().items():
            was = self._record["came"][label]
            self.heard[label] = Heard(Said(sent), exact=was["exact"], patient=was["patient"])
        started = time.monotonic()
        try:
            for step in self._record["steps"]:
                self._wait(step, started)
                self._act(step)
            ends = started + self._record["seconds"] + SETTLE
            while (left := ends - time.monotonic()) > 0 and not self._all_as_recorded():
                self._pump(min(left, 0.05))
        finally:
            self._selector.close()
            for sock in self._sockets.values():
                sock.close()
        return {label: heard.outcome() for label, heard in self.heard.items()}

    def _spoken(self) -> dict[str, bytes]:
        spoken: dict[str, bytes] = {}
        for step in self._record["steps"]:
            said = _octets(step) if step["do"] == "say" else b""
            spoken[step["on"]] = spoken.get(step["on"], b"") + said
        return spoken

    def _wait(self, step: Data, started: float) -> None:
        due = started + step["ms"] / 1000
        latest = due + PATIENCE
        while True:
            now = time.monotonic()
            heard = self.heard[step["on"]]
            ready = heard.counted >= step["after"] or heard.ended
            if (now >= due and ready) or now >= latest:
                return
            self._pump(min(0.02, max(0.001, (due if ready else latest) - now)))

    def _act(self, step: Data) -> None:
        label = step["on"]
        if step["do"] == "open":
            try:
                sock = socket.create_connection(self._target, 10)
            except OSError as error:
                raise UnreachableError(str(error)) from error
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            self._sockets[label], self._left[label] = sock, b""
            self._selector.register(sock, selectors.EVENT_READ, label)
        elif step["do"] == "say":
            self._left[label] += _octets(step)
            self._pump(0)
        else:
            self._flush(label)
            sock = self._sockets[label]
            try:
                if step["do"] == "reset":
                    linger = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self._end(label)
                    sock.close()
                else:
                    sock.shutdown(socket.SHUT_WR)
            except OSError:
                return

    def _flush(self, label: str) -> None:
        ends = time.monotonic() + PATIENCE
        while self._left[label] and time.monotonic() < ends:
            self._pump(0.01)

    def _pump(self, seconds: float) -> None:
        """Write what waits and read what has come."""
        for label, octets in self._left.items():
            if octets:
                try:
                    sent = self._sockets[label].send(octets[:1_048_576])
                    self._left[label] = octets[sent:]
                except BlockingIOError:
                    pass
                except OSError:
                    self._left[label] = b""  # what the target said before is still to be read
        if not self._selector.get_map():
            time.sleep(seconds)
            return
        for key, _events in self._selector.select(seconds):
            try:
                data = self._sockets[key.data].recv(262_144)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if data:
                self.heard[key.data].feed(data)
            else:
                self._end(key.data)

    def _end(self, label: str) -> None:
        sock = self._sockets[label]
        if sock in self._selector.get_map():
            self._selector.unregister(sock)
            self.heard[label].ended = True

    def _all_as_recorded(self) -> bool:
        """Tell whether nothing more can come: all has ended as it did before."""
        return all(
            heard.ended and self._record["came"][label]["ended"]
            for label, heard in self.heard.items()
        )


def _octets(step: Data) -> bytes:
    octets, more = bytes.fromhex(step["hex"]), int(step["more"])
    return octets + octets[-1:] * more  # what was not kept is taken to go on like this


def main(record: Data, arguments: list[str]) -> int:
    """Replay a record against HOST:PORT; return 1 if the same happens again, 0 if not."""
    write = sys.stdout.write
    where = arguments[0] if arguments else record["target"]
    host, colon, port = where.rpartition(":")
    if not colon or not port.isdigit():
        sys.stderr.write(f"usage: {sys.argv[0]} HOST:PORT\n")
        return 2
    write(f"case      {record['id']}\nrule      {record['rule']}\n")
    write(f"expected  {record['expected']}\nrecorded  {record['actual']}\n")
    try:
        came = Replay(record, host.strip("[]"), int(port)).run()
    except UnreachableError as error:
        sys.stderr.write(f"{where} cannot be reached: {error}\n")
        return 3
    found = differences(record["came"], came)
    for line in found:
        write(f"differs   {line}\n")
    if found:
        write(f"{where} does something else now\n")
        return 0
    write(f"{where} does the same again\n")
    return 1
