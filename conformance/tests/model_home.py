"""The call-home end of the model worker: HTTP in, and who may be called.

The rules of this file: the answers of section 21.2 in the order of its table; 202 only for what is
admitted (P0-001), only the peer's own address (P0-016), every field well formed (P0-017).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ipaddress
import json
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import model_wire as w
from model_home_pool import Target
from model_home_stream import MAX_MESSAGE, HomeStream
from model_subjects import SUBJECTS

if TYPE_CHECKING:
    from model_worker import Server

ROOT = "/v1/rpc/"
ATTEMPTS, DELIVERY_TIME = 3, 10.0
HOP = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
    *("transfer-encoding", "upgrade", "host", "content-length", "expect", "accept-encoding"),
}
NAMES = {
    w.NOT_FOUND: "NOT_FOUND",
    w.INVALID_ARGUMENT: "INVALID_ARGUMENT",
    w.OVERLOADED: "OVERLOADED",
    w.MESSAGE_TOO_LARGE: "MESSAGE_TOO_LARGE",
    w.DUPLICATE_REQUEST: "DUPLICATE_REQUEST",
}
_SUBJECT = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_ADDR = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9.]+):([0-9]{1,5})")
_NAMED = re.compile(r"(localhost):([0-9]{1,5})")


class RefusedError(Exception):
    """The answer is an error."""

    def __init__(
        self, status: int, code: int, text: str, *fields: str, not_processed: bool = True
    ) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.fields = fields
        self.not_processed = not_processed


@dataclass(slots=True, kw_only=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    fields: list[tuple[str, str]]
    peer: str
    body: bytes = b""
    too_large: bool = False
    seen: dict[str, str] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """Return a field."""
        return next((value for key, value in self.fields if key == name), None)


class Home:
    """The HTTP listener, the streams that are live, and the pools."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.flaw = server.flaw
        self.loop = asyncio.get_running_loop()
        self.live: dict[bytes, HomeStream] = {}
        self.targets: dict[tuple[str, int], Target] = {}
        self.running: set[HomeStream] = set()
        self.listener: asyncio.Server | None = None
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, host: str) -> None:
        """Listen for requests."""
        self.listener = await asyncio.start_server(self._serve, host, 0, limit=1 << 17)
        self.port = self.listener.sockets[0].getsockname()[1]

    @property
    def connections(self) -> int:
        """Count the call-home connections."""
        return sum(len(target.open) for target in self.targets.values())

    def buffered(self) -> int:
        """Count what waits to be sent."""
        held = sum(stream.size for stream in self.live.values())
        conns = [conn for target in self.targets.values() for conn in target.open]
        return held + sum(conn.transport.get_write_buffer_size() for conn in conns)

    async def close(self) -> None:
        """End everything at once."""
        if self.listener is not None:
            self.listener.close()
        for stream in list(self.live.values()):
            stream.forget()
        for target in self.targets.values():
            for task in list(target.tasks):
                task.cancel()
            for conn in list(target.open):
                conn.close()
        for task in list(self._tasks):
            task.cancel()
        waits = [*self._tasks, *(task for one in self.targets.values() for task in one.tasks)]
        if waits:
            await asyncio.wait(waits, timeout=1.0)

    # Delivery ---------------------------------------------------------------------------------

    def deliver(self, stream: HomeStream) -> None:
        """Make the first attempt."""
        if stream.target is not None and not stream.gone:
            stream.target.place(stream, fresh=False)

    def attempt_failed(self, stream: HomeStream) -> None:
        """Try again on a new connection, or give up (P0-005)."""
        if stream.gone or stream.target is None:
            return
        stream.attempts += 1
        most = ATTEMPTS + 1 if self.flaw("home-four-attempts") else ATTEMPTS
        most = 1 if self.flaw("home-one-attempt") else most
        late = stream.began is not None and self.loop.time() - stream.began > DELIVERY_TIME
        if stream.attempts >= most or late:
            stream.forget(spare=self.flaw("home-forgets-handler"))
        else:
            stream.target.place(stream, fresh=True)

    # HTTP -------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            while await self._one(reader, writer):
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return False
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, _space, rest = first.partition(" ")
        pairs = (line.partition(":") for line in lines)
        request = Request(
            method=method,
            path=rest.partition(" ")[0],
            fields=[(name.lower(), value.strip()) for name, _colon, value in pairs],
            peer=str(writer.get_extra_info("peername")[0]),
        )
        length = int(request.get("content-length") or 0)
        request.too_large = length > MAX_MESSAGE
        if not request.too_large:
            if request.get("expect"):
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.body = await reader.readexactly(length)
        try:
            stream = self._admit(request)
        except RefusedError as refused:
            self._answer(writer, refused.status, _error(refused), refused.fields)
            return not request.too_large
        self._answer(writer, 202, b"", ())
        if not self.flaw("home-hello-waits-for-output"):
            self.deliver(stream)
        return True

    def _answer(
        self, writer: asyncio.StreamWriter, status: int, body: bytes, fields: tuple[str, ...]
    ) -> None:
        lines = [f"HTTP/1.1 {status} said", f"content-length: {len(body)}", *fields]
        if body:
            lines.append("content-type: application/json")
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    def _admit(self, request: Request) -> HomeStream:
        subject = self._subject(request)
        if request.method != "POST":
            raise RefusedError(405, w.INVALID_ARGUMENT, "the method is POST", "allow: POST")
        rid, token, addr, timeout = self._fields(request, subject)
        self._check_peer(addr[0], request.peer)
        if rid in self.live and not self.flaw("home-duplicate-runs"):
            wrong = self.flaw("home-duplicate-not-processed")
            raise RefusedError(409, w.DUPLICATE_REQUEST, "it is live", not_processed=wrong)
        kind = (request.get("content-type") or "application/octet-stream").partition(";")[0]
        known = kind in ("application/json", "application/octet-stream")
        coded = (request.get("content-encoding") or "identity") != "identity"
        if (not known or coded) and not self.flaw("home-any-content-type"):
            raise RefusedError(415, w.INVALID_ARGUMENT, "no such media type")
        handler = SUBJECTS.get(subject)
        if handler is None and not self.flaw("home-admits-unknown-subjects"):
            raise RefusedError(404, w.NOT_FOUND, "no handler has the subject")
        if sum(one.running for one in self.live.values()) >= self.server.config.max_concurrent:
            later = () if self.flaw("home-overload-without-retry-after") else ("retry-after: 1",)
            raise RefusedError(503, w.OVERLOADED, "at the limit", *later)
        if request.too_large:
            raise RefusedError(413, w.MESSAGE_TOO_LARGE, "the body is too large")
        if kind == "application/json" and not _is_json(request.body):
            raise RefusedError(400, w.INVALID_ARGUMENT, "the body is no JSON")
        return self._start(request, subject, rid, token, addr, timeout)

    def _start(
        self,
        request: Request,
        subject: str,
        rid: bytes,
        token: bytes,
        addr: tuple[str, int],
        timeout: int,
    ) -> HomeStream:
        shown = [
            (name, value)
            for name, value in request.fields
            if name not in HOP
            and (not name.startswith(("wch-", "wmx-")) or self.flaw("home-shows-wch-fields"))
        ]
        handler = SUBJECTS.get(subject, SUBJECTS["conformance.echo"])
        stream = HomeStream(self, rid, token, subject, shown, timeout, request.body, handler)
        if addr not in self.targets:
            self.targets[addr] = Target(self, *addr)
        stream.target = self.targets[addr]
        self.live[rid] = stream
        stream.start()
        return stream

    def _subject(self, request: Request) -> str:
        path = request.path
        if not path.startswith(ROOT) or "/" in path[len(ROOT) :]:
            if not self.flaw("home-any-root"):
                raise RefusedError(404, w.NOT_FOUND, "no such path")
            return path.rpartition("/")[2]
        return path[len(ROOT) :]

    # Fields -----------------------------------------------------------------------------------

    def _fields(self, request: Request, subject: str) -> tuple[bytes, bytes, tuple[str, int], int]:
        for name, value in request.fields:
            if not name.startswith(("wch-", "wmx-")):
                continue
            if name in request.seen and not self.flaw("home-last-field-wins"):
                raise _bad(f"{name} occurs twice")
            request.seen[name] = value
        if not _SUBJECT.fullmatch(subject):
            raise _bad("the subject is malformed")
        addr = self._addr(request.seen.get("wch-addr", ""))
        return (
            self._stream(request.seen.get("wch-stream", "")),
            self._token(request.seen.get("wch-token")),
            addr,
            self._timeout(request.seen.get("wch-timeout-ms")),
        )

    def _addr(self, text: str) -> tuple[str, int]:
        match = _ADDR.fullmatch(text)
        if match is None and self.flaw("home-resolves-names"):
            match = _NAMED.fullmatch(text)
        if match is None or not 0 < int(match[2]) < 65_536:
            raise _bad("wch-addr")
        return match[1].strip("[]"), int(match[2])

    def _stream(self, text: str) -> bytes:
        if not _UUID.fullmatch(text):
            loose = re.fullmatch(r"[0-9A-Fa-f]{32}", text.replace("-", ""))
            if loose is None or not self.flaw("home-any-stream"):
                raise _bad("wch-stream")
        rid = uuid.UUID(text).bytes
        if rid in (w.ZERO_ID, w.ONES_ID):
            raise _bad("wch-stream")
        return rid

    def _token(self, text: str | None) -> bytes:
        if text is None and self.flaw("home-optional-token"):
            return bytes(16)
        try:
            token = base64.b64decode((text or "") + "==", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise _bad("wch-token") from None
        canonical = base64.urlsafe_b64encode(token).rstrip(b"=").decode()
        if len(text or "") != 22 or len(token) != 16:
            raise _bad("wch-token")
        if canonical != text and not self.flaw("home-loose-token"):
            raise _bad("wch-token")
        return token

    def _timeout(self, text: str | None) -> int:
        if text is None:
            return 0
        if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > 0xFFFF_FFFF:
            if self.flaw("home-any-timeout"):
                return 0
            raise _bad("wch-timeout-ms")
        return int(text)

    def _check_peer(self, host: str, peer: str) -> None:
        if host == "localhost" and "home-resolves-names" in self.server.flaws:
            return
        if ipaddress.ip_address(host) == ipaddress.ip_address(peer):
            return
        if self.flaw("home-dials-anyone"):
            return
        if self.flaw("home-refuses-after-start"):
            self.server.opened += 1
        raise RefusedError(403, w.INVALID_ARGUMENT, "wch-addr is not allowed")


def _bad(text: str) -> RefusedError:
    return RefusedError(400, w.INVALID_ARGUMENT, text)


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


def _error(refused: RefusedError) -> bytes:
    if refused.not_processed:
        refused.fields = (*refused.fields, "wmx-not-processed: 1")
    return json.dumps(
        {
            "code": NAMES[refused.code],
            "num": refused.code,
            "message": str(refused),
            "not_processed": refused.not_processed,
            "retry_after_ms": 0,
        }
    ).encode()
