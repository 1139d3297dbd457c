"""One request of the judge's router: its POST, the HELLOs that it brings, and the response.

Helpers with ``check=`` judge; without it they prepare (see ``conversation``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from muxwire_conformance import wire
from muxwire_conformance.callhome.link import HomeLink
from muxwire_conformance.callhome.post import JSON, Answer, Post
from muxwire_conformance.stream import Response
from muxwire_conformance.verdict import CheckFailed, Unprepared

if TYPE_CHECKING:
    from muxwire_conformance.callhome.context import CallhomeContext
    from muxwire_conformance.callhome.router import Router

HELLO_TIME = 5.0
"""Seconds from the 202, or from getting a connection, to the HELLO (P0-001)."""


class Delivery:
    """A stream from the POST to DONE.

    Attributes:
        id: The request id, ``wch-stream``.
        token: The octets of ``wch-token``.
        link: The connection of the last HELLO taken.
        response: The response, from ``accept`` on.
    """

    def __init__(
        self, context: CallhomeContext, router: Router, post: Post, id: bytes, token: bytes
    ) -> None:
        self.context = context
        self.router = router
        self.post = post
        self.id = id
        self.token = token
        self.link: HomeLink | None = None
        self.response: Response | None = None
        self._taken = 0

    @property
    def hellos(self) -> list[HomeLink]:
        """Return the connections on which a HELLO for this stream came, in order."""
        return [link for link, frame in self.router.heard if frame.request_id == self.id]

    def _lack(self, check: str | None, expected: str, actual: str) -> NoReturn:
        if check is None:
            raise Unprepared(expected, actual)
        raise CheckFailed(check, expected, actual)

    # -- the POST --------------------------------------------------------------------------

    async def answer(self, *, check: str | None = None, within: float | None = None) -> Answer:
        """Wait for the HTTP answer, whatever it says, and return it."""
        post = self.post
        await self.context.wait_for(lambda: bool(post.answer or post.trouble), within)
        if post.answer is None:
            self._lack(check, "an HTTP answer", post.trouble or "nothing has come")
        return post.answer

    async def admitted(self, *, check: str | None = None) -> Answer:
        """Wait for the 202."""
        answer = await self.answer(check=check)
        if answer.status != 202:
            self._lack(check, "202", str(answer))
        self._hold(check)
        return answer

    async def refused(
        self,
        status: int,
        code: str,
        *,
        check: str = "refused",
        not_processed: bool = True,
    ) -> Answer:
        """Judge that the request is refused with this status and error object; emit ``check``."""
        answer = await self.answer(check=check)
        words = "with" if not_processed else "without"
        expected = f"{status} {words} wmx-not-processed, and the error object of {code}"
        error = answer.error
        good = (
            answer.status == status
            and answer.not_processed == not_processed
            and error.get("code") == code
            and error.get("num") == wire.code(code)
            and error.get("not_processed") is not_processed
            and (answer.get("content-type") or "").partition(";")[0].strip() == JSON
        )
        self.context.check(check, good, expected=expected, actual=f"{answer}; {error}")
        return answer

    # -- the connection --------------------------------------------------------------------

    async def hello(self, *, check: str | None = None, within: float = HELLO_TIME) -> HomeLink:
        """Wait for the next HELLO of this stream and return its connection."""
        await self.context.wait_for(lambda: len(self.hellos) > self._taken, within)
        if len(self.hellos) <= self._taken:
            self._lack(check, "HELLO of the stream", self._situation())
        self.link = self.hellos[self._taken]
        self._taken += 1
        self._hold(check)
        return self.link

    def _situation(self) -> str:
        said = f"HTTP: {self.post.answer or self.post.trouble or 'no answer'}"
        dials = len(self.router.dialled)
        return f"{said}; {dials} dials, {len(self.hellos)} HELLOs of the stream"

    def accept(self, *, discard: bool = False) -> Response:
        """Write ACCEPT on the connection of the last HELLO; return the response to come."""
        link = self._on()
        self.response = link.expecting(self.id, discard=discard)
        link.send(wire.accept(self.id))
        return self.response

    async def accepted(self, *, discard: bool = False) -> Response:
        """Accept the last HELLO, or wait for the first one."""
        if self.link is None:
            await self.hello()
        return self.accept(discard=discard)

    def reject(self, code: str = "CANCELLED") -> None:
        """Write REJECT."""
        self._on().send(wire.reject(self.id, code))

    def done(self) -> None:
        """Write DONE."""
        self._on().send(wire.done(self.id))

    def kill(self, reason: str = "CANCELLED") -> None:
        """Write KILL on the connection of the stream, accepted or not."""
        self._on().send(wire.kill(self.id, reason))

    def _on(self) -> HomeLink:
        if self.link is None:
            raise Unprepared("a connection of the stream", "no HELLO was taken")
        return self.link

    async def result(self, *, check: str | None = None) -> list[bytes]:
        """Accept the stream unless it is, wait for its success, confirm it; return all messages."""
        response = self.response or await self.accepted()
        messages = await response.result(check=check)
        self.done()
        return messages

    def _hold(self, check: str | None) -> None:
        if check is not None:
            self.context.emit(check)
