"""The command ``check``: find the target, judge it, report, and choose the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from muxwire_conformance.callback import Callback
from muxwire_conformance.case import Case
from muxwire_conformance.launched import Launched
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings, PreflightError, preflight
from muxwire_conformance.report.head import head
from muxwire_conformance.report.outputs import Files, ReportError, Reports
from muxwire_conformance.report.text import TextReport, default_progress, wants_colour
from muxwire_conformance.session import Options, Session
from muxwire_conformance.target import (
    SELF,
    START_TIMEOUT,
    Address,
    Bundled,
    StartError,
    parse_address,
)
from muxwire_conformance.verdict import ExitCode, exit_code

PROGRESS_PERIOD = 0.2

WORST_FIRST = (
    ExitCode.INTERRUPTED,
    ExitCode.SUITE_ERROR,
    ExitCode.UNREACHABLE,
    ExitCode.NOT_CONFORMANT,
    ExitCode.NOTHING_RAN,
    ExitCode.CONFORMANT,
)


@dataclass(slots=True, kw_only=True)
class Request:
    """Everything the command line asked for."""

    targets: Sequence[str]
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
    launch: Sequence[str] = ()  # the command of --target-cmd
    callback: Callback = field(default_factory=Callback)
    unmatched: Sequence[str] = ()  # what is wrong with the baseline, one line each


def check(request: Request) -> ExitCode:
    """Judge every target in turn and return the worst exit code."""
    return asyncio.run(Check(request).main())


class Check:
    """One call of the command."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.text = TextReport(
            sys.stdout,
            verbosity=request.verbosity,
            colour=wants_colour(sys.stdout, dict(os.environ), forbidden=request.no_color),
            progress=default_progress(),
        )
        self.interrupted = False

    async def main(self) -> ExitCode:
        """Do everything; an interrupt at any time ends with a report and exit code 130."""
        main_task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        work = asyncio.create_task(self._judge_all())

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

    async def _judge_all(self) -> ExitCode:
        targets = self.request.targets
        try:
            reports = Reports(
                self.text, self.request.files, self._complain, several=len(targets) > 1
            )
        except ReportError as error:
            self._complain(str(error))
            return ExitCode.SUITE_ERROR
        codes = [ExitCode.NOT_CONFORMANT] if self.request.unmatched else []
        try:
            for target in targets:
                codes.append(await self._judge_one(target, reports))
                if self.interrupted:
                    break
        finally:
            reports.close()
            for line in self.request.unmatched:
                self._complain(line)
        if reports.trouble or self.text.broken:
            codes.append(ExitCode.SUITE_ERROR)
        return min(codes, key=WORST_FIRST.index)

    async def _judge_one(self, target: str, reports: Reports) -> ExitCode:
        started = time.monotonic()
        request = self.request
        facts = head(target=target, role="worker", seed=request.options.seed)
        worker: Bundled | Launched | None = None
        try:
            if request.launch:
                worker = Launched(request.launch, seconds=request.wait or START_TIMEOUT)
                await worker.start()
                address = worker.address
                self.text.say(f"judging {target} (started at {address})")
            elif target == SELF:
                self.text.say("judging the bundled worker (muxwire serve --conformance)")
                worker = await Bundled.start(request.command)
                address = worker.address
            else:
                address = parse_address(target)
                self.text.say(f"judging {address.url}")
            patience = Patience(request.timeout)
            findings = await preflight(
                address,
                patience,
                wait=request.wait,
                seed=request.options.seed,
                callback=replace(request.callback),
            )
            self._introduce(address, findings)
            reports.begin({**facts, **_found(address, findings)})
            session = Session(
                address=address,
                cases=request.cases,
                patience=patience,
                findings=findings,
                options=request.options,
                on_result=reports.result,
                library=request.library,
                obituary=worker.obituary if worker is not None else lambda: "",
                revive=worker.revive if isinstance(worker, Launched) else None,
            )
            return await self._run(session, reports, started)
        except (StartError, PreflightError) as error:
            self._complain(str(error))
            reports.begin({**facts, "trouble": str(error)})
            reports.finish(None)
            return ExitCode.UNREACHABLE
        finally:
            if worker is not None:
                await worker.stop()

    async def _run(self, session: Session, reports: Reports, started: float) -> ExitCode:
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
            summary = session.summary(
                seconds=time.monotonic() - started, interrupted=self.interrupted
            )
            reports.finish(summary)
        if self.interrupted:
            return ExitCode.INTERRUPTED
        verdicts = [result.verdict for result in session.results]
        return exit_code(verdicts, ran=summary.ran, strict=self.request.strict)

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


def _found(address: Address, findings: Findings) -> dict[str, Any]:
    """Return what a report says of a target that was reached."""
    return {
        "address": str(address),
        "paths": {path: str(place) for path, place in findings.paths.items()},
        "info": findings.info,
        "features": sorted(findings.features),
        "settings": findings.settings,
        "notes": findings.notes,
    }
