"""Run the selected cases against a client: a driver process for each case."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from muxwire_conformance.case import CLIENT_PREFIX, Case
from muxwire_conformance.client_mode.context import Bench, ClientContext
from muxwire_conformance.client_mode.driver import Driver
from muxwire_conformance.client_mode.router import FEATURE, RouterContext
from muxwire_conformance.paths import PATHS
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings, PreflightError
from muxwire_conformance.session import EVERY_FRAME, Options, Session
from muxwire_conformance.target import Address
from muxwire_conformance.verdict import Result, Stopped

if TYPE_CHECKING:
    from muxwire_conformance.case_context import CaseContext

CLIENT_EVERY_FRAME = CLIENT_PREFIX + EVERY_FRAME
NOWHERE = Address(host="127.0.0.1", port=0)


class ClientSession(Session):
    """One run against a client.

    Args:
        command: The command line of the driver.
        cases: What to run, in report order.
        patience: Deadlines, as preflight left them.
        findings: What preflight found out.
        options: How to run.
        on_result: Called with each result as soon as it is final.
        library: All client cases by id, for twins.
        launcher: How a driver is started.
    """

    ROLE = "client"
    EVERY_FRAME = CLIENT_EVERY_FRAME

    def __init__(
        self,
        *,
        command: str,
        cases: Sequence[Case],
        patience: Patience,
        findings: Findings,
        options: Options,
        on_result: Callable[[Result], None],
        library: dict[str, Case],
        launcher: type[Driver] = Driver,
    ) -> None:
        super().__init__(
            address=NOWHERE,
            cases=cases,
            patience=patience,
            findings=findings,
            options=options,
            on_result=on_result,
            library=library,
        )
        self.paths = dict.fromkeys(PATHS, NOWHERE)  # a driver is asked by the case
        self._command = command
        self._launcher = launcher
        self._benches: dict[str, Bench] = {}

    async def _judge(self, one: Case) -> Result:
        bench = self._benches[one.id] = Bench(self._command, self._launcher)
        try:
            return await super()._judge(one)
        finally:
            await bench.abandon()

    def _context(self, one: Case, *, twin_run: bool) -> CaseContext:
        kind = RouterContext if FEATURE in one.features else ClientContext
        return kind(
            bench=self._benches[one.id],
            patience=self.patience,
            seed=self.options.seed,
            case=one,
            features=self.findings.features,
            twin_run=twin_run,
        )

    async def _check_alive(self, _one: Case, _result: Result) -> None:
        """Do nothing: every case has a process of its own, which must end in order."""


async def preflight(
    command: str, patience: Patience, *, seed: int, launcher: type[Driver] = Driver
) -> Findings:
    """Start the driver once, make one request, and see what it declares.

    Raises:
        PreflightError: it is no driver, or its client cannot make a request.
    """
    bench = Bench(command, launcher)
    context = ClientContext(bench=bench, patience=patience, seed=seed, name="preflight")
    findings = Findings()
    started = time.monotonic()
    try:
        await context.start()
        context.features = bench.driver.features if bench.driver is not None else frozenset()
        findings.info = {"name": context.driver.name}
        findings.features = context.features
        findings.asked = True
        link = await context.accept()
        findings.connect_seconds = time.monotonic() - started
        await link.handshake()
        before = time.monotonic()
        await link.fence()
        findings.fence_seconds = time.monotonic() - before
        findings.settings = dict(link.peer_settings)
        call = context.request(b"hello")
        (await link.take()).answer(b"hello")
        await call.succeeds([b"hello"])
        findings.works = True
        await context.close()
    except Stopped as stop:
        await bench.abandon()
        raise PreflightError(f"the driver {command!r}: {stop}") from stop
    finally:
        context.abandon()
        await bench.abandon()
    return findings
