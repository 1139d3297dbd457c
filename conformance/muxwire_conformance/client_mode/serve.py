"""The command ``serve``: a worker whose answers are the cases, for clients that no driver can wrap.

Rules of this file:

* The subject of a request is the id of a case with a dot in it: ``FRM-002.client-marker-f6``.
  With ``.twin`` behind it the same conversation is held without the violation, and comes first.
* Only cases marked ``served`` are offered: the judge breaks one rule behind a request, and the
  connection shows what the client makes of it. All others need a driver, because they tell the
  client to do something (kill, pause, settings) or ask what its caller was told.
* The subject ``serve.list`` is answered with the subjects, in the order in which to request them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from muxwire_conformance.case import Case
from muxwire_conformance.case_context import CaseContext
from muxwire_conformance.check import Check, Request
from muxwire_conformance.client_mode.context import Bench, ClientContext, Listener
from muxwire_conformance.client_mode.exchange import Exchange
from muxwire_conformance.client_mode.link import Link
from muxwire_conformance.client_mode.session import CLIENT_EVERY_FRAME, NOWHERE
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings
from muxwire_conformance.report.head import head
from muxwire_conformance.report.outputs import Reports
from muxwire_conformance.session import Options, Session
from muxwire_conformance.target import Address
from muxwire_conformance.verdict import ExitCode, Result, Stopped, Verdict, exit_code

LIST = "serve.list"
TWIN = ".twin"


def subject_of(one: Case) -> str:
    """Return the subject that stands for a case."""
    return one.id.replace("/", ".")


def serve(request: Request, address: Address, *, once: bool) -> ExitCode:
    """Run the command and return its exit code.

    Args:
        request: What to judge and to report; its target is what the report calls the client.
        address: Where to listen; port 0 lets the kernel choose.
        once: End when every selected case has a verdict, not only at an interrupt.
    """
    return asyncio.run(ServeCheck(request, address, once=once).main())


class ServeContext(ClientContext):
    """One run of a case on the connection where the client asked for it."""

    def __init__(self, link: Link, exchange: Exchange, **common: Any) -> None:
        super().__init__(bench=Bench(""), **common)
        self._link = link
        self._exchange = exchange
        self.connections = [link]
        link.context = self

    async def ready(self, *_ignored: Any, **_also: Any) -> Link:
        """Return the connection of the request."""
        return self._link

    async def asked(self, *_ignored: Any, **_also: Any) -> tuple[Link, Exchange, Any]:
        """Return the connection and the request."""
        return self._link, self._exchange, None

    async def close(self) -> None:
        """Answer the request of a twin; end the connection otherwise."""
        if self.twin_run and self._link.transport.end is None:
            if not self._exchange.answered:
                self._exchange.answer(b"served")
        else:
            await super().close()


class ServeSession(Session):
    """One run of the scenario server; it runs until every case has a verdict, or for ever."""

    ROLE = "client"
    EVERY_FRAME = CLIENT_EVERY_FRAME

    def __init__(
        self,
        *,
        address: Address,
        once: bool,
        cases: Sequence[Case],
        patience: Patience,
        options: Options,
        on_result: Callable[[Result], None],
        library: dict[str, Case],
    ) -> None:
        super().__init__(
            address=NOWHERE,
            cases=cases,
            patience=patience,
            findings=Findings(asked=True),
            options=options,
            on_result=on_result,
            library=library,
        )
        self._once = once
        self._here = ClientContext(bench=Bench(""), patience=patience, seed=0, name="serve")
        self.listener = Listener(self._here, address.host, address.port)
        self._by_subject = {subject_of(one): one for one in cases}
        self._places: dict[str, tuple[Link, Exchange]] = {}
        self._twins: dict[str, Result] = {}
        self._done = asyncio.Event()

    async def _run_all(self) -> None:
        talks: set[asyncio.Task[None]] = set()
        finished = asyncio.create_task(self._done.wait())
        try:
            while not finished.done():
                accepting = asyncio.create_task(self.listener.accept(None))
                await asyncio.wait({accepting, finished}, return_when=asyncio.FIRST_COMPLETED)
                link = accepting.result() if accepting.done() else None
                accepting.cancel()
                if link is not None:
                    task = asyncio.create_task(self._talk(link))
                    talks.add(task)
                    task.add_done_callback(talks.discard)
        finally:
            for task in talks:
                task.cancel()
            await asyncio.gather(*talks, return_exceptions=True)
            self.listener.close()
            self._here.abandon()
            for one in self._unfinished():
                subject = subject_of(one)
                self._report(one, self._not_run(one, f"nobody requested {subject}"))

    async def _talk(self, link: Link) -> None:
        try:
            await link.handshake()
            while link.transport.end is None:
                await self._serve(link, await link.take(within=86_400))
        except Stopped:
            link.transport.close()

    async def _serve(self, link: Link, exchange: Exchange) -> None:
        subject = exchange.subject
        if subject == LIST:
            names = [
                name for one in self.cases for name in (subject_of(one) + TWIN, subject_of(one))
            ]
            exchange.answer(*(name.encode() for name in names))
            return
        one = self._by_subject.get(subject.removesuffix(TWIN))
        if one is None:
            exchange.fail("NOT_FOUND", b"see " + LIST.encode(), not_processed=True)
            return
        self._places[one.id] = (link, exchange)
        if subject.endswith(TWIN):
            self._twins[one.id] = await self._execute(one, one.function, twin_run=True)
            return
        result = await self._verdict(one, exchange)
        if one.id not in {known.id for known in self.results}:
            self._report(one, result)
        if self._once and not self._unfinished():
            self._done.set()

    async def _verdict(self, one: Case, exchange: Exchange) -> Result:
        twin = self._twins.get(one.id)
        if twin is None:
            exchange.fail("INVALID_ARGUMENT", b"request the twin first", not_processed=True)
            return self._not_run(one, f"{subject_of(one)}{TWIN} was not requested before it")
        if twin.verdict not in (Verdict.PASS, Verdict.WARN):
            exchange.fail("INVALID_ARGUMENT", b"the twin did not work", not_processed=True)
            return self._without_twin(one, twin)
        return await self._execute(one, one.function, twin_run=False)

    def _context(self, one: Case, *, twin_run: bool) -> CaseContext:
        link, exchange = self._places[one.id]
        return ServeContext(
            link,
            exchange,
            patience=self.patience,
            seed=self.options.seed,
            case=one,
            twin_run=twin_run,
        )


class ServeCheck(Check):
    """One call of ``serve``."""

    def __init__(self, request: Request, address: Address, *, once: bool) -> None:
        super().__init__(request)
        self._address = address
        self._once = once

    async def _judge_one(self, target: str, reports: Reports) -> ExitCode:
        started = time.monotonic()
        request = self.request
        facts: Mapping[str, Any] = head(target=target, role="client", seed=request.options.seed)
        try:
            session = ServeSession(
                address=self._address,
                once=self._once,
                cases=request.cases,
                patience=Patience(request.timeout),
                options=request.options,
                on_result=reports.result,
                library=request.library,
            )
        except OSError as error:
            trouble = f"{self._address} cannot be listened at: {error.strerror}"
            self._complain(trouble)
            reports.begin({**facts, "trouble": trouble})
            reports.finish(None)
            return ExitCode.UNREACHABLE
        self.text.say(f"listening at {session.listener.address}; request {LIST}, then what it says")
        reports.begin(facts)
        code = await self._run(session, reports, started)
        if code is not ExitCode.INTERRUPTED:
            return code
        # An interrupt is how this command ends: what was requested has its verdict.
        verdicts = [result.verdict for result in session.results]
        ran = sum(result.ran for result in session.results)
        return exit_code(verdicts, ran=ran, strict=request.strict)
