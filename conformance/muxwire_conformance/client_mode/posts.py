"""The HTTP side of the judge as a call-home worker: it takes POSTs and answers as a case says.

Rules of this file:

* HTTP/1.1 only and read by hand: what is read is what the router wrote, and an answer can be any
  octets.
* A connection is kept open behind an answer. An idle one that the judge closed could swallow the
  router's next POST, so only a case closes one.
* What every POST has to have (section 21.2) is checked here.
"""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from muxwire_conformance import wire
from muxwire_conformance.target import Address, TargetError, parse_address
from muxwire_conformance.transcript import Entry, Transcript
from muxwire_conformance.transport import End, Transport
from muxwire_conformance.verdict import Violation
from muxwire_conformance.wire import Fault

if TYPE_CHECKING:
    from muxwire_conformance.client_mode.router import RouterContext

ROOT = "/v1/rpc/"
MOST_HEAD = 262_144
ONCE: Final = ("wch-addr", "wch-stream", "wch-token", "request-id")
_ADDR = re.compile(r"([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9a-fA-F:.]+\]):[1-9][0-9]{0,4}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{21}[AQgw]")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MS = re.compile(r"[0-9]{1,10}")

Fields = Sequence[tuple[str, str]]


@dataclass(slots=True)
class _Head:
    """The request line and the fields of a request, and how long its body is."""

    method: str
    path: str
    fields: list[tuple[str, str]]
    length: int = 0
    chunked: bool = False
    body: bytearray = field(default_factory=bytearray)


class Post:
    """One request of the router."""

    def __init__(self, link: HttpLink, head: _Head, at: float) -> None:
        self.link = link
        self.method = head.method
        self.path = head.path
        self.fields = head.fields
        self.body = bytes(head.body)
        self.at = at

    def __str__(self) -> str:
        """Show it in one line, as in the transcript."""
        fields = " ".join(f"{name}={value}" for name, value in self.fields)
        return f"{self.method} {self.path} {fields} and {len(self.body)} octets"

    # -- what came -------------------------------------------------------------------------

    def all_of(self, name: str) -> list[str]:
        """Return every value of a field."""
        return [value for known, value in self.fields if known == name]

    def header(self, name: str) -> str | None:
        """Return the value of a field, None if it is not there."""
        return next(iter(self.all_of(name)), None)

    @property
    def subject(self) -> str:
        """Return the subject that the path names."""
        return self.path.removeprefix(ROOT)

    @property
    def stream(self) -> bytes:
        """Return the request id; zeros if there is none."""
        text = self.header("wch-stream") or ""
        return uuid.UUID(text).bytes if _UUID.fullmatch(text) else bytes(16)

    @property
    def token(self) -> bytes:
        """Return the octets of the token; zeros if it is malformed."""
        text = self.header("wch-token") or ""
        return base64.urlsafe_b64decode(text + "==") if _TOKEN.fullmatch(text) else bytes(16)

    @property
    def addr(self) -> Address | None:
        """Return where the router wants to be dialled, None if that cannot be told."""
        try:
            return parse_address(self.header("wch-addr") or "")
        except TargetError:
            return None

    @property
    def timeout_ms(self) -> int:
        """Return the deadline of the request, 0 for none."""
        text = self.header("wch-timeout-ms") or ""
        return int(text) if _MS.fullmatch(text) else 0

    def faults(self) -> list[Fault]:
        """Return what no router sends."""
        found = []

        def fault(requirement: str, text: str) -> None:
            found.append(Fault(requirement=requirement, text=text))

        if self.method != "POST" or not self.path.startswith(ROOT):
            fault("P0-017", f"{self.method} {self.path[:80]!r} is no POST to {ROOT}")
        for name in ONCE:
            if len(self.all_of(name)) != 1:
                requirement = "REC-007" if name == "request-id" else "P0-017"
                fault(requirement, f"the field {name} is there {len(self.all_of(name))} times")
        if not _ADDR.fullmatch(self.header("wch-addr") or ""):
            fault("P0-017", f"wch-addr is {self.header('wch-addr')!r}")
        if self.stream in (bytes(16), b"\xff" * 16):
            fault("P0-017", f"wch-stream is {self.header('wch-stream')!r}")
        if not _TOKEN.fullmatch(self.header("wch-token") or ""):
            fault("P0-018", f"wch-token is {self.header('wch-token')!r}")
        timeout = self.all_of("wch-timeout-ms")
        if timeout and not (len(timeout) == 1 and _MS.fullmatch(timeout[0])):
            fault("P0-017", f"wch-timeout-ms is {timeout!r}")
        attempt = self.all_of("attempt")
        if attempt and not (len(attempt) == 1 and attempt[0].isdigit() and int(attempt[0]) >= 2):
            fault("REC-007", f"the field attempt is {attempt!r}")
        return found

    # -- answering -------------------------------------------------------------------------

    def answer(self, status: int = 202, fields: Fields = (), body: bytes = b"") -> None:
        """Write an answer; by default the 202 of a worker that has admitted the handler."""
        lines = [f"HTTP/1.1 {status} {_phrase(status)}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in fields]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def refuse(
        self,
        status: int,
        code: str,
        *,
        not_processed: bool = True,
        retry_after_ms: int = 0,
        fields: Fields = (),
    ) -> None:
        """Write an answer with an error object, as a worker refuses a request."""
        described = {
            "code": code,
            "num": wire.code(code),
            "message": "refused by the judge",
            "not_processed": not_processed,
            "retry_after_ms": retry_after_ms,
        }
        sure = [("wmx-not-processed", "1")] if not_processed else []
        kind = [("content-type", "application/json"), *sure, *fields]
        self.answer(status, kind, json.dumps(described).encode())

    def send(self, raw: bytes) -> None:
        """Write any octets on the connection that the request came on."""
        self.link.send(raw)

    def cut(self, *, reset: bool = False) -> None:
        """End the connection that the request came on: with FIN, or with a reset."""
        self.link.cut(reset=reset)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"


class HttpLink:
    """One HTTP connection of the router.

    Attributes:
        posts: The requests that have come whole.
    """

    def __init__(self, context: RouterContext, transport: Transport, label: str) -> None:
        self.context = context
        self.transport = transport
        self.transcript = Transcript(label=label, started=transport.opened_at, peer="router")
        self.posts: list[Post] = []
        self._buffer = bytearray()
        self._head: _Head | None = None
        self._lost = False
        transport.on_bytes = self._on_bytes
        transport.on_end = self._on_end

    def _on_bytes(self, data: bytes, at: float) -> None:
        try:
            self._buffer += data
            while not self._lost and self._read(at):
                pass
        except Exception as error:
            self.context.bug = self.context.bug or error

    def _on_end(self, end: End) -> None:
        self.transcript.event(f"connection {end.describe()}", end.at)
        self.context.listener.news()

    def _read(self, at: float) -> bool:
        """Read the next head or body; tell if there was a whole one."""
        if self._head is None:
            stop = self._buffer.find(b"\r\n\r\n")
            if stop < 0:
                if len(self._buffer) > MOST_HEAD:
                    self._lose("a head without end", at)
                return False
            text = self._buffer[:stop].decode("latin-1")
            del self._buffer[: stop + 4]
            self._head = self._parse(text, at)
            return self._head is not None
        head = self._head
        if head.chunked:
            return self._read_chunk(head, at)
        if len(self._buffer) < head.length:
            return False
        head.body += self._buffer[: head.length]
        del self._buffer[: head.length]
        self._complete(head, at)
        return True

    def _parse(self, text: str, at: float) -> _Head | None:
        first, *lines = text.split("\r\n")
        words = first.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            self._lose(f"the request line {first[:80]!r}", at)
            return None
        head = _Head(words[0], words[1], [])
        for line in lines:
            name, colon, value = line.partition(":")
            if not colon or name != name.strip():
                self._lose(f"the field {line[:80]!r}", at)
                return None
            head.fields.append((name.lower(), value.strip(" \t")))
        said = dict(head.fields)
        head.chunked = said.get("transfer-encoding", "").lower() == "chunked"
        length = said.get("content-length", "0")
        if not length.isdigit():
            self._lose(f"content-length {length[:20]!r}", at)
            return None
        head.length = int(length)
        if said.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return head

    def _read_chunk(self, head: _Head, at: float) -> bool:
        stop = self._buffer.find(b"\r\n")
        if stop < 0:
            return False
        size = int(self._buffer[:stop].split(b";")[0] or b"0", 16)
        whole = stop + 2 + size + 2
        if len(self._buffer) < whole:
            return False
        head.body += self._buffer[stop + 2 : stop + 2 + size]
        del self._buffer[:whole]
        if size == 0:
            self._complete(head, at)
        return True

    def _complete(self, head: _Head, at: float) -> None:
        self._head = None
        post = Post(self, head, at)
        self.posts.append(post)
        self.transcript.add(Entry(at=at, who="target", text=str(post)))
        for fault in post.faults():
            self._violated(fault)
        if post.stream in self.context.known_ids:
            self._violated(Fault(requirement="RID-001", text="wch-stream was used before"))
        self.context.known_ids.add(post.stream)
        self.context.listener.arrived(post)

    def _lose(self, text: str, at: float) -> None:
        self._lost = True
        self.transcript.event(f"the judge lost its place: {text}", at)
        self._violated(Fault(requirement="P0-017", text=f"{text} is no HTTP/1.1"))

    def _violated(self, fault: Fault) -> None:
        violation = Violation(
            requirement=fault.requirement, text=fault.text, transcript=self.transcript
        )
        if len(self.context.violations) < 50:
            self.context.violations.append(violation)

    def send(self, raw: bytes) -> None:
        """Write any octets."""
        shown = raw.split(b"\r\n\r\n")[0][:400].decode("latin-1").replace("\r\n", " | ")
        self.transcript.add(Entry(at=time.monotonic(), who="judge", text=shown))
        self.transport.write(raw)

    def cut(self, *, reset: bool = False) -> None:
        """End the connection: with FIN behind what was written, or with a reset."""
        word = "reset" if reset else "FIN"
        self.transcript.event(f"the judge ends the connection ({word})", time.monotonic())
        if reset:
            self.transport.abort()
        else:
            self.transport.half_close()
