"""One request of the judge and what comes of it.

Rules of this file:

* Whatever a 200 brings is held to the rules of chapter 22, in every case: fields, format, numbers,
  the terminal event, the end of the body. A breach is a sighting, as with frames (see session).
* Helpers with ``check=`` judge; without it they prepare.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from muxwire_spec.formats import BINARY, SSE

from muxwire_conformance.http.binary import BinaryReader, reader
from muxwire_conformance.http.events import (
    BIN,
    DONE,
    FAILED,
    HEARTBEAT,
    ITEM,
    TERMINALS,
    TYPES,
    Event,
    Reader,
    error_faults,
    strict_json,
)
from muxwire_conformance.http.head import Head
from muxwire_conformance.verdict import CheckFailed, Unprepared
from muxwire_conformance.wire import Fault

if TYPE_CHECKING:
    from muxwire_conformance.http.connection import HttpConnection

CLEAN, CUT = "clean", "cut"
MOST_BODY = 4_194_304  # octets of an answer that is not 200
SHOWN_EVENTS = 60


class Answer:
    """An answer as it grows.

    Attributes:
        head: Status and fields, None while they have not come.
        events: The events of a 200, in order.
        body: The octets of any other answer.
        arrivals: When octets of the body came.
        end: ``clean`` or ``cut`` once the body has ended, "" before; ``how`` says it in words.
    """

    def __init__(
        self, connection: HttpConnection, *, stream: int = 0, request_id: bytes | None = None
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.request_id = request_id
        self.head: Head | None = None
        self.events: list[Event] = []
        self.body = bytearray()
        self.octets = 0
        self.arrivals: list[float] = []
        self.end = ""
        self.how = "the answer goes on"
        self.end_at = 0.0
        self.reader: Reader | None = None
        self._told = 0

    # -- what comes in -----------------------------------------------------------------------

    def came(self, head: Head, framing: str) -> None:
        """Take the head."""
        if 100 <= head.status < 200:
            return
        self.head = head
        self.connection.transcript_line("target", str(head), head.at)
        if head.status == 200:
            self._look_at(head, framing)

    def _look_at(self, head: Head, framing: str) -> None:
        type_ = (head.get("content-type") or "").lower()
        bare = type_.removesuffix("charset=utf-8").rstrip("; ")
        if bare not in TYPES or (type_ != bare and TYPES[bare] != SSE):
            self._sight("P1-002", f"Content-Type is {type_!r}")
        for name, value in (
            ("cache-control", "no-store"),
            ("x-accel-buffering", "no"),
            ("vary", "accept"),
        ):
            if value not in head.tokens(name):
                self._sight("P1-002", f"{name} is {head.get(name)!r}, not {value!r}")
        for name in ("content-encoding", "content-length"):
            if head.get(name) is not None:
                self._sight("P1-002", f"there is a {name}")
        if framing == "close":
            self._sight("P1-012", "the end of the connection ends the body, so a cut is not seen")
        if bare in TYPES:
            self.reader = reader(TYPES[bare], self.request_id)

    def took(self, data: bytes, at: float) -> None:
        """Take octets of the body, after HTTP decoding."""
        if not data:
            return
        self.octets += len(data)
        self.arrivals.append(at)
        if self.reader is None:
            if len(self.body) < MOST_BODY:
                self.body += data
            return
        for event in self.reader.feed(data, at):
            self.events.append(event)
            if len(self.events) <= SHOWN_EVENTS:
                self.connection.transcript_line("target", str(event), at)
        self._sight_faults()

    def ended(self, end: str, how: str, at: float) -> None:
        """Take the end of the body."""
        if self.end:
            return
        self.end, self.how, self.end_at = end, how, at
        self.connection.transcript_line("event", how, at)
        if end == CLEAN and self.reader is not None:
            self.reader.finish()
            self._sight_faults()

    def _sight_faults(self) -> None:
        faults = self.reader.faults if self.reader is not None else []
        for fault in faults[self._told :]:
            self.connection.sight(fault)
        self._told = len(faults)

    def _sight(self, requirement: str, text: str) -> None:
        self.connection.sight(Fault(requirement=requirement, text=text))

    # -- what is known -----------------------------------------------------------------------

    @property
    def status(self) -> int:
        """Return the status, 0 while it has not come."""
        return self.head.status if self.head is not None else 0

    @property
    def items(self) -> list[Event]:
        """Return the items so far."""
        return [one for one in self.events if one.kind in (ITEM, BIN)]

    @property
    def heartbeats(self) -> list[Event]:
        """Return the heartbeats so far."""
        return [one for one in self.events if one.kind == HEARTBEAT]

    @property
    def terminal(self) -> Event | None:
        """Return the first terminal event."""
        return next((one for one in self.events if one.kind in TERMINALS), None)

    @property
    def binary_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the response headers, which only the binary format has."""
        return self.reader.headers if isinstance(self.reader, BinaryReader) else []

    def describe(self) -> str:
        """Say in one line what came so far."""
        if self.head is None:
            return f"no answer; {self.how}"
        if self.status != 200:
            return f"{self.status} with {bytes(self.body[:200])!r}; {self.how}"
        last = f", the last: {self.events[-1]}" if self.events else ""
        return f"200, {len(self.events)} events{last}; {self.how}"

    # -- what is expected --------------------------------------------------------------------

    async def until(
        self,
        reached: Callable[[Answer], bool],
        what: str,
        *,
        check: str | None = None,
        within: float | None = None,
    ) -> Answer:
        """Wait for something about this answer; it fails as soon as the answer has ended.

        Raises:
            CheckFailed: it did not come, and ``check`` judges it.
            Unprepared: it did not come.
        """
        await self.connection.wait_for(lambda: reached(self) or bool(self.end), within)
        if not reached(self):
            self._disappoint(check, what)
        if check is not None:
            self.connection.context.emit(check)
        return self

    def _disappoint(self, check: str | None, what: str) -> None:
        if check is not None:
            raise CheckFailed(check, what, self.describe())
        raise Unprepared(what, self.describe())

    async def headed(
        self, status: int = 200, *, check: str | None = None, within: float | None = None
    ) -> Head:
        """Wait for the status and the fields."""
        await self.until(
            lambda one: one.status == status, f"status {status}", check=check, within=within
        )
        assert self.head is not None
        return self.head

    async def whole(self, *, check: str | None = None, within: float | None = None) -> Answer:
        """Wait for the clean end of the body."""
        return await self.until(
            lambda one: one.end == CLEAN, "a body that ends normally", check=check, within=within
        )

    async def served(self, *, check: str | None = None, within: float | None = None) -> list[bytes]:
        """Wait for a whole, successful response; return its items as octets."""
        await self.until(
            lambda one: one.end == CLEAN and one.ended_with(DONE),
            "200 and a whole response that ends with done",
            check=check,
            within=within,
        )
        return [one.data for one in self.items]

    async def fails(
        self, code: str, *, check: str | None = None, within: float | None = None
    ) -> Event:
        """Wait for a response that ends with an error event of this code."""
        await self.until(
            lambda one: one.end == CLEAN and one.ended_with(FAILED, code),
            f"200 and an error event {code}",
            check=check,
            within=within,
        )
        terminal = self.terminal
        assert terminal is not None
        return terminal

    def ended_with(self, kind: str, code: str = "") -> bool:
        """Tell whether the terminal event is of this kind, and its error of this code."""
        terminal = self.terminal
        return (
            terminal is not None
            and terminal.kind == kind
            and (not code or terminal.error.get("code") == code)
        )

    async def json(self) -> dict[str, Any]:
        """Wait for done and return the one item, a JSON object."""
        await self.until(lambda one: one.ended_with(DONE), "200 and done")
        items = [one.data for one in self.items]
        value = self.items[0].json if items and not items[0] else None
        if items and items[0]:
            try:
                value = strict_json(items[0])
            except ValueError:
                value = None
        if len(items) != 1 or not isinstance(value, dict):
            raise Unprepared("one item that is a JSON object", self.describe())
        return value

    async def refused(
        self,
        status: int,
        code: str,
        *,
        fields: Collection[str] = ("wmx-not-processed",),
        check: str = "refused",
        bare: bool = False,
        within: float | None = None,
    ) -> dict[str, Any]:
        """Judge an answer of the table in section 21.2; return its error object.

        Args:
            status: The status of the row.
            code: The code of the row.
            fields: The fields of the row.
            check: The check to emit.
            bare: A library may answer by itself, without the object and the fields.
            within: Seconds, None for the usual deadline.
        """
        what = f"status {status} with the error object of {code}"
        await self.connection.wait_for(
            lambda: bool(self.end) or (bare and self.head is not None), within
        )
        context, head = self.connection.context, self.head
        came = head is not None and head.status == status and (bare or self.end == CLEAN)
        context.check(check, came, expected=what, actual=self.describe())
        assert head is not None
        if bare and head.get("wmx-not-processed") is None:
            return {}
        missing = [name for name in fields if head.get(name) is None]
        context.check(check, not missing, expected=f"the fields {fields}", actual=f"no {missing}")
        if "wmx-not-processed" in fields:
            flag = head.get("wmx-not-processed")
            context.check(check, flag == "1", expected="wmx-not-processed: 1", actual=flag)
        type_ = (head.get("content-type") or "").partition(";")[0].strip().lower()
        context.check(check, type_ == "application/json", expected="a JSON body", actual=type_)
        return self._error_object(code, check, "wmx-not-processed" in fields)

    def _error_object(self, code: str, check: str, not_processed: bool) -> dict[str, Any]:
        context = self.connection.context
        try:
            error = strict_json(bytes(self.body))
        except ValueError:
            error = None
        wrong = error_faults(error, set())
        context.check(
            check, not wrong, expected="the error object of section 21.2", actual="; ".join(wrong)
        )
        assert isinstance(error, dict)
        said = (error["code"], error["not_processed"])
        context.check(check, said == (code, not_processed), expected=code, actual=said)
        return error


def is_binary(answer: Answer) -> bool:
    """Tell whether an answer is in the binary format."""
    type_ = (answer.head.get("content-type") if answer.head else None) or ""
    return TYPES.get(type_.lower()) == BINARY
