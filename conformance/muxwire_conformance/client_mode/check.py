"""The command ``check-client``: start the driver, judge its client, and report."""

from __future__ import annotations

import asyncio
import time

from muxwire_conformance.check import Check, Request
from muxwire_conformance.client_mode.session import ClientSession, preflight
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings, PreflightError
from muxwire_conformance.report.head import head
from muxwire_conformance.report.outputs import Reports
from muxwire_conformance.verdict import ExitCode


def check_client(request: Request) -> ExitCode:
    """Run the command and return its exit code; the targets are command lines of drivers."""
    return asyncio.run(ClientCheck(request).main())


class ClientCheck(Check):
    """One call of ``check-client``."""

    async def _judge_one(self, target: str, reports: Reports) -> ExitCode:
        started = time.monotonic()
        request = self.request
        facts = head(target=target, role="client", seed=request.options.seed)
        patience = Patience(request.timeout)
        self.text.say(f"judging the client of {target}")
        try:
            findings = await preflight(target, patience, seed=request.options.seed)
        except PreflightError as error:
            self._complain(str(error))
            reports.begin({**facts, "trouble": str(error)})
            reports.finish(None)
            return ExitCode.UNREACHABLE
        self._introduce_client(findings)
        found = {
            "info": findings.info,
            "features": sorted(findings.features),
            "settings": findings.settings,
            "notes": findings.notes,
        }
        reports.begin({**facts, **found})
        session = ClientSession(
            command=target,
            cases=request.cases,
            patience=patience,
            findings=findings,
            options=request.options,
            on_result=reports.result,
            library=request.library,
        )
        return await self._run(session, reports, started)

    def _introduce_client(self, findings: Findings) -> None:
        if self.request.verbosity < 0:
            return
        features = ", ".join(sorted(findings.features)) or "none"
        self.text.say(f"driver {findings.info['name']}, features {features}")
        self.text.say(
            f"start to connection {findings.connect_seconds * 1_000:.0f} ms,"
            f" fence {findings.fence_seconds * 1_000:.1f} ms, seed {self.request.options.seed},"
            f" {len(self.request.cases)} cases selected"
        )
