"""One connection of the judge to a worker over HTTP/2 with prior knowledge."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from muxwire_conformance.http import h2
from muxwire_conformance.http.answer import CLEAN, CUT, Answer
from muxwire_conformance.http.connection import H2, HttpConnection
from muxwire_conformance.http.head import Fields, Head, shown
from muxwire_conformance.transport import End, Transport

if TYPE_CHECKING:
    from muxwire_conformance.http.context import HttpContext


class H2Connection(HttpConnection):
    """HTTP/2: many answers side by side."""

    VERSION = H2

    def __init__(
        self, context: HttpContext, transport: Transport, label: str, *, window: int
    ) -> None:
        super().__init__(context, transport, label)
        self.peer = h2.H2(client=True, write=transport.write, window=window)
        self.goaway: h2.GoawayCame | None = None
        self._answers: dict[int, Answer] = {}

    def read(self, data: bytes, at: float) -> None:
        """Take octets of the worker."""
        for event in self.peer.feed(data):
            if isinstance(event, h2.GoawayCame):
                self.goaway = event
                text = f"GOAWAY {event.code}, last stream {event.last_stream}"
                self.transcript_line("target", text, at)
                continue
            answer = self._answers.get(event.stream)
            if answer is not None:
                self._about(answer, event, at)
        if self.peer.fault:
            self._cut_all(f"this is no HTTP/2: {self.peer.fault}", at)

    def _about(
        self, answer: Answer, event: h2.HeadersCame | h2.DataCame | h2.ResetCame, at: float
    ) -> None:
        if isinstance(event, h2.ResetCame):
            del self._answers[event.stream]
            answer.ended(CUT, f"RST_STREAM {event.code}", at)
            return
        if isinstance(event, h2.DataCame):
            answer.took(event.data, at)
        elif answer.head is None:
            status = next((value for name, value in event.fields if name == ":status"), "")
            fields = [pair for pair in event.fields if not pair[0].startswith(":")]
            number = int(status) if status.isdigit() else 0
            answer.came(Head(status=number, fields=fields, at=at), "stream")
        if event.end:
            del self._answers[event.stream]
            answer.ended(CLEAN, "the stream ends normally", at)

    def over(self, end: End) -> None:
        """Take the end of the connection."""
        self._cut_all("the connection ends inside the stream", end.at)

    def _cut_all(self, how: str, at: float) -> None:
        for answer in self._answers.values():
            answer.ended(CUT, how, at)
        self._answers.clear()

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
        """Send a request."""
        own: Fields = [
            (":method", method),
            (":scheme", "http"),
            (":authority", str(self.context.address)),
            (":path", target),
        ]
        self.transcript_line("judge", f"{method} {target} | {shown(fields)}", time.monotonic())
        answer = Answer(self, request_id=request_id)
        answer.stream = self.peer.open(own + fields, end=whole and not body)
        self._answers[answer.stream] = answer
        if body:
            self.peer.data(answer.stream, body, end=whole)
        if self.transport.end is not None:
            self.over(self.transport.end)
        return answer

    def more(self, answer: Answer, data: bytes, *, end: bool = False) -> None:
        """Send more of a body."""
        self.peer.data(answer.stream, data, end=end)

    def cancel(self, answer: Answer) -> None:
        """Send RST_STREAM."""
        self.transcript_line("judge", "RST_STREAM CANCEL", time.monotonic())
        self._answers.pop(answer.stream, None)
        self.peer.reset(answer.stream)

    def hold(self, answer: Answer, held: bool = True) -> None:
        """Give no credit on the stream, or go on."""
        self.peer.hold(answer.stream, held)
