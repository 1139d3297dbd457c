"""One connection of the judge to a worker over HTTP: what both versions share, and HTTP/1.1.

Rules of this file:

* ``ask`` sends a request and returns its ``Answer``; ``post`` is the request of section 22.1.
* The end of a connection is the end of every answer on it; whether it was clean is for HTTP to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, ClassVar

from muxwire_conformance.http import h1
from muxwire_conformance.http.answer import CLEAN, CUT, Answer
from muxwire_conformance.http.h1 import BodyEnd, H1Reader
from muxwire_conformance.http.head import Fields, Head, shown
from muxwire_conformance.transcript import Entry, Transcript
from muxwire_conformance.transport import End, EndKind, Transport
from muxwire_conformance.verdict import CheckFailed, Unprepared, Violation
from muxwire_conformance.wire import Fault, Frame

if TYPE_CHECKING:
    from muxwire_conformance.http.context import HttpContext

ROOT = "/v1/rpc/response"
JSON_TYPE, OCTETS_TYPE = "application/json", "application/octet-stream"
SSE_TYPE, NDJSON_TYPE = "text/event-stream", "application/x-ndjson"
BINARY_TYPE = "application/vnd.wmx-stream"
FORMAT_TYPES = (SSE_TYPE, NDJSON_TYPE, BINARY_TYPE)
H1, H2 = "h1", "h2"
VERSIONS = {H1: "HTTP/1.1", H2: "HTTP/2"}

Body = bytes | str | Mapping[str, object]


class HttpConnection:
    """What HTTP/1.1 and HTTP/2 share."""

    VERSION: ClassVar[str]

    def __init__(self, context: HttpContext, transport: Transport, label: str) -> None:
        self.context = context
        self.transport = transport
        self.label = f"{label}, {VERSIONS[self.VERSION]}"
        self.transcript = Transcript(label=self.label, started=transport.opened_at)
        self.frames: list[Frame] = []  # no frame of WMX/1 travels outside of a body
        self._bell = asyncio.Event()
        transport.on_bytes = self._on_bytes
        transport.on_end = self._on_end

    # -- in ----------------------------------------------------------------------------------

    def _on_bytes(self, data: bytes, at: float) -> None:
        try:
            self.read(data, at)
        except Exception as error:
            # The event loop would log this and go on, and the case would judge what it never saw.
            self.context.bug = self.context.bug or error
        self._bell.set()

    def _on_end(self, end: End) -> None:
        self.transcript_line("event", f"connection {end.describe()}", end.at)
        self.over(end)
        self._bell.set()

    def read(self, data: bytes, at: float) -> None:
        """Take octets of the worker."""
        raise NotImplementedError

    def over(self, end: End) -> None:
        """Take the end of the connection."""
        raise NotImplementedError

    def sight(self, fault: Fault) -> None:
        """Note a rule that the worker broke, whatever the case is about."""
        if len(self.context.violations) < 50:
            self.transcript_line("event", f"{fault.requirement}: {fault.text}", time.monotonic())
            self.context.violations.append(
                Violation(
                    requirement=fault.requirement, text=fault.text, transcript=self.transcript
                )
            )

    def transcript_line(self, who: str, text: str, at: float) -> None:
        """Write a line to the transcript."""
        self.transcript.add(Entry(at=at, who=who, text=text))

    # -- out ---------------------------------------------------------------------------------

    def ask(
        self,
        method: str,
        target: str,
        fields: Fields,
        body: bytes = b"",
        *,
        whole: bool = True,
        request_id: bytes | None = None,
    ) -> Answer:
        """Send a request.

        Args:
            method: The method.
            target: Path and query.
            fields: Fields beside those that the version needs; a Content-Length is added unless
                there is one.
            body: The body, or its beginning.
            whole: Whether this is all of the body; see ``more``.
            request_id: The request id that binary frames have to carry, if it is known.
        """
        raise NotImplementedError

    def more(self, answer: Answer, data: bytes, *, end: bool = False) -> None:
        """Send more of the body of a request that was begun without its whole body."""
        raise NotImplementedError

    def cancel(self, answer: Answer) -> None:
        """Cancel a request as a client does: end the stream, or the connection."""
        raise NotImplementedError

    def hold(self, answer: Answer, held: bool = True) -> None:
        """Stop reading an answer, or go on."""
        raise NotImplementedError

    def post(
        self,
        subject: str,
        body: Body = b"",
        *,
        accept: str | None = SSE_TYPE,
        content_type: str | None = None,
        fields: Iterable[tuple[str, str]] = (),
        timeout_ms: int | None = None,
        heartbeat_ms: int | None = None,
    ) -> Answer:
        """Send the request of section 22.1; a mapping is sent as JSON."""
        self.context.require_feature_of(subject)
        if content_type is None:
            content_type = OCTETS_TYPE if isinstance(body, bytes) else JSON_TYPE
        own: Fields = [("content-type", content_type)] if content_type else []
        own += [("accept", accept)] if accept is not None else []
        own += [("wmx-timeout-ms", str(timeout_ms))] if timeout_ms is not None else []
        own += [("wmx-heartbeat-ms", str(heartbeat_ms))] if heartbeat_ms is not None else []
        return self.ask("POST", f"{ROOT}/{subject}", [*own, *fields], encode(body))

    # -- waiting -----------------------------------------------------------------------------

    async def wait_for(self, reached: Callable[[], bool], within: float | None = None) -> bool:
        """Wait for something about this connection; patient, see CASES.md."""
        limit = self.context.patience.within(within)
        try:
            async with asyncio.timeout(limit):
                while not reached():
                    self._bell.clear()
                    await self._bell.wait()
        except TimeoutError:
            return reached()
        return True

    async def pause(self, seconds: float) -> None:
        """Let time pass, not more than asked for."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.transport.end is None:
                    self._bell.clear()
                    await self._bell.wait()

    async def ends(self, *, check: str | None = None, within: float | None = None) -> End | None:
        """Wait for the end of the connection, or of all that may be asked on it."""
        if not await self.wait_for(lambda: self.transport.end is not None, within):
            what = "the connection to end"
            if check is not None:
                raise CheckFailed(check, what, "it stays open")
            raise Unprepared(what, "it stays open")
        if check is not None:
            self.context.emit(check)
        return self.transport.end

    async def close(self) -> None:
        """Close the connection."""
        self.transport.close()


class H1Connection(HttpConnection):
    """HTTP/1.1: one answer after the other."""

    VERSION = H1

    def __init__(self, context: HttpContext, transport: Transport, label: str) -> None:
        super().__init__(context, transport, label)
        self._reader = H1Reader()
        self._due: deque[Answer] = deque()
        self._chunked = False

    def read(self, data: bytes, at: float) -> None:
        """Take octets of the worker."""
        for item in self._reader.feed(data, at):
            self._item(item, at)
        if self._reader.fault and self._due:
            self._due.popleft().ended(CUT, self._reader.fault, at)

    def _item(self, item: h1.Item, at: float) -> None:
        if not self._due:
            self.transcript_line("event", f"nobody asked for this: {str(item)[:80]}", at)
            return
        answer = self._due[0]
        if isinstance(item, Head):
            answer.came(item, self._reader.framing)
        elif isinstance(item, BodyEnd):
            self._due.popleft()
            answer.ended(CLEAN, "the body ends normally", at)
        else:
            answer.took(item, at)

    def over(self, end: End) -> None:
        """Take the end of the connection."""
        if end.kind is EndKind.FIN:
            for item in self._reader.eof():
                self._item(item, end.at)
        while self._due:
            where = "inside the answer" if self._due[0].head else "before an answer"
            self._due.popleft().ended(CUT, f"the connection ends {where}", end.at)

    def ask(
        self,
        method: str,
        target: str,
        fields: Fields,
        body: bytes = b"",
        *,
        whole: bool = True,
        request_id: bytes | None = None,
    ) -> Answer:
        """Send a request; without a whole body and a length it is sent in chunks."""
        own: Fields = [("host", str(self.context.address))]
        names = {name.lower() for name, _value in fields}
        self._chunked = not whole and "content-length" not in names
        if self._chunked:
            own += [("transfer-encoding", "chunked")]
        elif "content-length" not in names and (body or method == "POST"):
            own += [("content-length", str(len(body)))]
        answer = Answer(self, request_id=request_id)
        self._due.append(answer)
        self._reader.bodiless = method == "HEAD"
        self.transcript_line(
            "judge", f"{method} {target} | {shown(own + fields)}", time.monotonic()
        )
        start = h1.chunk(body) if self._chunked and body else body
        self.transport.write(h1.request(method, target, own + fields, start))
        return answer

    def more(
        self,
        answer: Answer,  # noqa: ARG002 - one at a time
        data: bytes,
        *,
        end: bool = False,
    ) -> None:
        """Send more of a body."""
        if self._chunked:
            data = (h1.chunk(data) if data else b"") + (h1.chunk(b"") if end else b"")
        self.transport.write(data)

    def cancel(self, answer: Answer) -> None:  # noqa: ARG002
        """End the connection."""
        self.transcript_line("judge", "closes the connection", time.monotonic())
        self.transport.close()

    def hold(self, answer: Answer, held: bool = True) -> None:  # noqa: ARG002
        """Stop reading, or go on."""
        if held:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


def encode(body: Body) -> bytes:
    """Turn a body into octets: text as UTF-8, a mapping as JSON."""
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()
