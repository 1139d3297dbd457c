"""The command ``check``: find the target, judge it, report, and choose the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from muxwire_conformance.case import Case
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings, PreflightError, preflight
from muxwire_conformance.report.head import head
from muxwire_conformance.report.outputs import Files, ReportError, Reports
from muxwire_conformance.report.text import TextReport, default_progress, wants_colour
from muxwire_conformance.session import Options, Session, Summary
from muxwire_conformance.target import SELF, Address, Bundled, StartError, parse_address
from muxwire_conformance.verdict import ExitCode, exit_code

PROGRESS_PERIOD = 0.2


@dataclass(slots=True, kw_only=True)
class Request:
    """Everything the command line asked for."""

    target: str
    cases: Sequence[Case]
    library: dict[str, Case]
    options: Options
    wait: float = 0.0
    timeout: float = 2.0
    strict: bool = False
    files: Files = field(default_factory=Files)
    verbosity: int = 0
    no_color: bool = False
    command: list[str] | None = None
    findings: Findings = field(default_factory=Findings)


def check(request: Request) -> ExitCode:
    """Run the command and return its exit code."""
    return asyncio.run(_Run(request).main())


class _Run:
    """One run of the command."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.text = TextReport(
            sys.stdout,
            target=request.target,
            seed=request.options.seed,
            verbosity=request.verbosity,
            colour=wants_colour(sys.stdout, dict(os.environ), forbidden=request.no_color),
            progress=default_progress(),
        )
        self.reports = Reports(self.text, self._complain)
        self.interrupted = False
        self.started = time.monotonic()

    async def main(self) -> ExitCode:
        """Do everything; an interrupt at any time ends with a report and exit code 130."""
        main_task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        work = asyncio.create_task(self._guarded())

        def interrupt() -> None:
            # tox passes one Ctrl-C on as two SIGINTs: the second one finds nothing to do.
            if not self.interrupted:
                self.interrupted = True
                work.cancel()

        handled = [signal.SIGINT, signal.SIGTERM]
        with contextlib.suppress(NotImplementedError, RuntimeError):
            for number in handled:
                loop.add_signal_handler(number, interrupt)
        try:
            return await work
        except asyncio.CancelledError:
            if main_task is not None and main_task.cancelling():
                raise
            self._complain("interrupted before the first case")
            return ExitCode.INTERRUPTED

    async def _guarded(self) -> ExitCode:
        worker: Bundled | None = None
        try:
            if self.request.target == SELF:
                self.text.say("judging the bundled worker (muxwire serve --conformance)")
                worker = await Bundled.start(self.request.command)
                address = worker.address
            else:
                address = parse_address(self.request.target)
                self.text.say(f"judging tcp://{address}")
            return await self._judge(address, worker)
        except (StartError, PreflightError) as error:
            self._complain(str(error))
            return ExitCode.UNREACHABLE
        except ReportError as error:
            self._complain(str(error))
            return ExitCode.SUITE_ERROR
        finally:
            if worker is not None:
                await worker.stop()

    async def _judge(self, address: Address, worker: Bundled | None) -> ExitCode:
        request = self.request
        patience = Patience(request.timeout)
        findings = await preflight(address, patience, wait=request.wait, seed=request.options.seed)
        self._introduce(address, findings)
        self.reports.open(request.files, self._head(address, findings))
        session = Session(
            address=address,
            cases=request.cases,
            patience=patience,
            findings=findings,
            options=request.options,
            on_result=self.reports.result,
            library=request.library,
            obituary=worker.obituary if worker is not None else lambda: "",
        )
        ticker = asyncio.create_task(self._tick(session))
        run = asyncio.create_task(session.run())
        try:
            await run
        except asyncio.CancelledError:
            own_task = asyncio.current_task()
            if not self.interrupted or own_task is None:
                raise
            own_task.uncancel()
        finally:
            ticker.cancel()
            self.text.clear_progress()
            summary = session.summary(
                seconds=time.monotonic() - self.started, interrupted=self.interrupted
            )
            self.reports.finish(summary)
        return self._exit(session, summary)

    def _exit(self, session: Session, summary: Summary) -> ExitCode:
        verdicts = [result.verdict for result in session.results]
        code = exit_code(verdicts, ran=summary.ran, strict=self.request.strict)
        if self.interrupted:
            code = ExitCode.INTERRUPTED
        elif self.reports.trouble or self.text.broken:
            code = ExitCode.SUITE_ERROR
        return code

    def _head(self, address: Address, findings: Findings) -> dict[str, Any]:
        request = self.request
        return {
            **head(target=request.target, role="worker", seed=request.options.seed),
            "address": str(address),
            "info": findings.info,
            "settings": findings.settings,
            "notes": findings.notes,
        }

    # -- saying ----------------------------------------------------------------------------

    def _complain(self, text: str) -> None:
        self.text.clear_progress()
        sys.stderr.write(f"muxwire-conformance: {text}\n")

    def _introduce(self, address: Address, findings: Findings) -> None:
        info = findings.info
        if self.request.verbosity < 0:
            return
        who = f"{info.get('name', 'a worker without conformance.info')} {info.get('version', '')}"
        transports = info.get("transports")
        speaks = f", transports {', '.join(map(str, transports))}" if transports else ""
        self.text.say(f"target {address}: {who.strip()}{speaks}")
        self.text.say(
            f"connect {findings.connect_seconds * 1_000:.1f} ms,"
            f" fence {findings.fence_seconds * 1_000:.1f} ms, seed {self.request.options.seed},"
            f" {len(self.request.cases)} cases selected"
        )
        for note in findings.notes:
            self.text.say(f"note: {note}")

    async def _tick(self, session: Session) -> None:
        while True:
            self.text.show_progress(len(session.results), len(session.cases), list(session.running))
            await asyncio.sleep(PROGRESS_PERIOD)
