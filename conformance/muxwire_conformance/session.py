"""Run the selected cases against one target.

Rules of this file:

* Timed cases mostly wait, so they have as many slots of their own as the others have; with one
  job they go first. Exclusive cases come last and alone.
* A negative case runs its twin first; without a working twin it proves nothing.
* After a negative case, and after every case that did not pass, a new connection shows whether
  the target is alive and still the same process.
* A case of a path that the target never declared is N/A; of one that it declares and does not
  serve, INCONCLUSIVE.
* When the target is gone, what is left is INCONCLUSIVE and says during which case it went.
* A case for which the judge itself was too late is run once more, alone at the end.
* A case that came to nothing while the judge itself was starved is run once more, alone.
* A failure is confirmed by running the case again, alone; see ``confirm``.
* Everything has an end: each case, and the whole run.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from muxwire_conformance import wire
from muxwire_conformance.case import Case, CaseFunction
from muxwire_conformance.case_context import CaseContext
from muxwire_conformance.confirm import LEAST_TIME, settle
from muxwire_conformance.path_judges import PATH_JUDGES
from muxwire_conformance.paths import TCP
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings
from muxwire_conformance.rules import rule
from muxwire_conformance.target import Address
from muxwire_conformance.verdict import (
    RED,
    CheckFailed,
    JudgeLate,
    NotApplicable,
    Result,
    Stopped,
    TargetUnreachable,
    Unprepared,
    Verdict,
    Violation,
    decide,
    is_must,
)

EVERY_FRAME = "every-frame"
_SAY_SO = (Verdict.FAIL, Verdict.XFAIL)
LIVENESS_TIME = 5.0
STARVED = 2.0
"""With so many seconds of slack the machine is too busy to believe that a case could not run."""


@dataclass(slots=True, kw_only=True)
class Options:
    """How to run."""

    jobs: int = 8
    seed: int = 0
    stop_at_first: bool = False
    max_time: float = 600.0
    keep: bool = False  # the transcripts of cases that pass, too
    confirm: int = 0  # times; 0 takes each failure at its word
    revise: Callable[[Result], Result] = lambda result: result  # how a baseline sees a result


@dataclass(slots=True, kw_only=True)
class Summary:
    """The counts of a run."""

    selected: int
    ran: int = 0
    passed: int = 0
    failed: int = 0
    flaky: int = 0
    expected_failures: int = 0
    unexpected_passes: int = 0
    warnings: int = 0
    not_applicable: int = 0
    inconclusive: int = 0
    errors: int = 0
    seconds: float = 0.0
    interrupted: bool = False

    def line(self) -> str:
        """Return the last line of a report."""
        text = (
            f"selected {self.selected} / ran {self.ran} / passed {self.passed}"
            f" / failed {self.failed} / warnings {self.warnings}"
            f" / not applicable {self.not_applicable} / inconclusive {self.inconclusive}"
        )
        rare = {
            "flaky": self.flaky,
            "expected failures": self.expected_failures,
            "unexpected passes": self.unexpected_passes,
            "suite errors": self.errors,
        }
        return text + "".join(f" / {name} {count}" for name, count in rare.items() if count)


@dataclass(slots=True)
class _Sightings:
    """A requirement that received frames broke somewhere."""

    first: Violation
    where: list[str] = field(default_factory=list)


class Session:
    """One run.

    Args:
        address: The target.
        cases: What to run, in report order.
        patience: Deadlines, as preflight left them.
        findings: What preflight found out.
        options: How to run.
        on_result: Called with each result as soon as it is final.
        obituary: Says how the target's process ended, "" while it runs or is not ours.
        revive: Starts a target that has ended again; tells whether it runs.
        library: All cases by id, for twins.
    """

    ROLE = "worker"
    EVERY_FRAME = EVERY_FRAME
    """How the case is called that says whether every frame received kept a rule."""

    def __init__(
        self,
        *,
        address: Address,
        cases: Sequence[Case],
        patience: Patience,
        findings: Findings,
        options: Options,
        on_result: Callable[[Result], None],
        library: dict[str, Case],
        obituary: Callable[[], str] = lambda: "",
        revive: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self.address = address
        self.cases = list(cases)
        self.patience = patience
        self.findings = findings
        self.info = findings.info
        self.paths = findings.paths or {TCP: address}
        self.options = options
        self.results: list[Result] = []
        self.running: dict[str, float] = {}
        self.gone = ""
        self._on_result = on_result
        self._obituary = obituary
        self._revive = revive
        self._library = library
        self._outcomes: dict[str, asyncio.Future[Result]] = {}
        self._again: list[Case] = []
        self._doubtful: list[tuple[Case, Result]] = []
        self._began = time.monotonic()
        self._spent_confirming = 0.0
        self._sightings: dict[str, _Sightings] = {}
        self._held_back: dict[str, Result] = {}
        self._stopping = False
        self._restarted_at = 0.0
        self._serial = 0

    # -- the run ---------------------------------------------------------------------------

    async def run(self) -> None:
        """Run everything; results arrive through ``on_result`` and in ``results``.

        Cancel the task that runs this to interrupt: what is finished stays reported.
        """
        lag = asyncio.create_task(self._watch_own_loop())
        self._began = time.monotonic()
        try:
            async with asyncio.timeout(self.options.max_time or None):
                await self._run_all()
        except TimeoutError:
            self._report_doubtful()
            reason = f"the run was over after {self.options.max_time:g} s"
            for one in self._unfinished():
                self._report(one, self._not_run(one, reason))
        finally:
            lag.cancel()
            self._report_doubtful()
            self._report_every_frame()

    async def _run_all(self) -> None:
        jobs = max(1, self.options.jobs)
        timed = iter([one for one in self.cases if one.timed and not one.exclusive])
        others = iter([one for one in self.cases if not one.timed and not one.exclusive])
        if jobs == 1:
            await self._work(itertools.chain(timed, others), alone=True)
        else:
            await _gather([self._work(queue) for queue in (timed, others) for _ in range(jobs)])
        while self._doubtful:
            one, first = self._doubtful[0]
            result = await self._confirm(one, first, alone=False)
            del self._doubtful[0]
            self._report(one, result)
        await self._work(iter([one for one in self.cases if one.exclusive]), alone=True)
        await self._work(iter(self._again), alone=True, again=True)

    async def _work(
        self, queue: Iterable[Case], *, alone: bool = False, again: bool = False
    ) -> None:
        for one in queue:
            if self._stopping:
                return
            result = await self._outcome(one)
            if result.late and not again:
                # Alone at the end, a judge that was late may be in time.
                for id in (one.id, one.twin):
                    if isinstance(id, str) and self._was_late(id):
                        del self._outcomes[id]
                self._again.append(one)
                continue
            if result.verdict is Verdict.FAIL and self.options.confirm and not alone:
                self._doubtful.append((one, result))
                expected = self.options.revise(result).verdict is Verdict.XFAIL
                self._stopping = self._stopping or (self.options.stop_at_first and not expected)
                continue
            starved = self.patience.slack > STARVED and not alone
            if result.verdict is Verdict.INCONCLUSIVE and starved and self.options.confirm:
                self._doubtful.append((one, result))
                continue
            if result.verdict is Verdict.FAIL and self.options.confirm:
                result = await self._confirm(one, result, alone=True)
            self._report(one, result)

    def _was_late(self, id: str) -> bool:
        known = self._outcomes.get(id)
        return known is not None and known.done() and known.result().late

    async def _confirm(self, one: Case, first: Result, *, alone: bool) -> Result:
        """Run a case that failed again, as often as was asked for and time allows."""
        if first.verdict is Verdict.INCONCLUSIVE:
            return await self._once_more(one, first)
        again: list[Result] = []
        while len(again) < self.options.confirm and self._may_confirm() and not self.gone:
            started = time.monotonic()
            again.append(await self._judge(one))
            self._spent_confirming += time.monotonic() - started
        return settle(first, again, alone=alone)

    async def _once_more(self, one: Case, first: Result) -> Result:
        """Run a case alone that did not get to its point while the judge was starved."""
        if self.gone or not self._may_confirm():
            return first
        twin = self._outcomes.get(one.twin) if isinstance(one.twin, str) else None
        if isinstance(one.twin, str) and twin is not None and twin.done():
            del self._outcomes[one.twin]
        started = time.monotonic()
        result = await self._judge(one)
        self._spent_confirming += time.monotonic() - started
        return result

    def _may_confirm(self) -> bool:
        judging = time.monotonic() - self._began - self._spent_confirming
        return self._spent_confirming < max(LEAST_TIME, judging)

    def _report_doubtful(self) -> None:
        """Report failures that there was no time to confirm."""
        for one, result in self._doubtful:
            self._report(one, result)
        self._doubtful.clear()

    def _report(self, one: Case, result: Result) -> None:
        if one.id.endswith("/" + self.EVERY_FRAME):
            self._held_back[one.id] = result
            return
        self._publish(result)

    def _publish(self, result: Result) -> None:
        # A copy: whoever has this case for a twin wants to know what it really came to.
        result = self.options.revise(result)
        self.results.append(result)
        self._on_result(result)
        if self.options.stop_at_first and result.verdict in RED | {Verdict.ERROR}:
            self._stopping = True

    def _unfinished(self) -> list[Case]:
        done = {result.id for result in self.results} | set(self._held_back)
        return [one for one in self.cases if one.id not in done]

    async def _watch_own_loop(self) -> None:
        # A judge that was late itself must be patient: its delays count like slow fences.
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.1)
            late = time.monotonic() - before - 0.1
            if late > 0.02:
                self.patience.record(late / 4)

    # -- one case --------------------------------------------------------------------------

    async def _outcome(self, one: Case) -> Result:
        known = self._outcomes.get(one.id)
        if known is not None:
            return await asyncio.shield(known)
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._outcomes[one.id] = future
        try:
            result = await self._judge(one)
        except Exception as error:
            result = self._not_run(one, f"{type(error).__name__}: {error}", Verdict.ERROR)
            result.traceback = traceback.format_exc()
        except BaseException:
            future.cancel()
            raise
        future.set_result(result)
        return result

    def _not_run(self, one: Case, reason: str, verdict: Verdict = Verdict.INCONCLUSIVE) -> Result:
        return Result(
            id=one.id,
            title=one.title,
            requirement=one.requirement,
            level=one.level,
            verdict=verdict,
            seconds=0.0,
            reason=reason,
            ran=False,
            role=one.role,
        )

    def _without_path(self, one: Case) -> Result | None:
        """Say what a case comes to whose path cannot be judged; None if it can."""
        if one.path in self.paths:
            return None
        if one.path in self.findings.closed:
            reason = f"the path {one.path}: {self.findings.closed[one.path]}"
            return self._not_run(one, reason)
        if not self.findings.asked:
            reason = f"the target could not be asked whether it serves the path {one.path}"
            return self._not_run(one, reason)
        reason = f"the target does not declare the path {one.path}"
        return self._not_run(one, reason, Verdict.NOT_APPLICABLE)

    async def _judge(self, one: Case) -> Result:
        if self.gone:
            return self._not_run(one, self.gone)
        if (result := self._without_path(one)) is not None:
            return result
        needed = [name for name in one.features if not name.endswith("?")]
        missing = [name for name in needed if name not in self.findings.features]
        if missing and not self.findings.asked:
            reason = f"the target could not be asked whether it has: {', '.join(missing)}"
            return self._not_run(one, reason)
        if missing:
            reason = f"the target does not declare: {', '.join(missing)}"
            return self._not_run(one, reason, Verdict.NOT_APPLICABLE)
        self.running[one.id] = time.monotonic()
        try:
            objection = await self._try_twin(one)
            if objection is not None:
                result = self._without_twin(one, objection)
            else:
                result = await self._execute(one, one.function, twin_run=False)
            if one.negative or result.verdict not in (Verdict.PASS, Verdict.NOT_APPLICABLE):
                await self._check_alive(one, result)
            return result
        finally:
            self.running.pop(one.id, None)

    async def _try_twin(self, one: Case) -> Result | None:
        """Run the twin; return its result if the negative case proves nothing."""
        if one.twin is None:
            return None
        if isinstance(one.twin, str):
            result = await self._outcome(self._library[one.twin])
            name = one.twin
        else:
            function = one.twin if callable(one.twin) else one.function
            result = await self._execute(one, function, twin_run=True)
            name = "the same conversation without the violation"
        if result.verdict in (Verdict.PASS, Verdict.WARN):
            return None
        objection = copy.copy(result)
        if result.verdict is not Verdict.NOT_APPLICABLE:
            objection.reason = f"its positive twin ({name}) does not work: {result.reason}"
        return objection

    def _without_twin(self, one: Case, twin: Result) -> Result:
        """Say what a negative case comes to when its twin did not work."""
        verdict = Verdict.INCONCLUSIVE
        if twin.verdict is Verdict.NOT_APPLICABLE:
            verdict = Verdict.NOT_APPLICABLE
        elif twin.verdict is Verdict.FAIL and twin.watched in one.requirements:
            verdict = Verdict.FAIL  # the twin worked, but its frames broke a rule of this case
        elif twin.verdict is Verdict.ERROR:
            verdict = Verdict.ERROR
        result = self._not_run(one, twin.reason, verdict)
        result.expected, result.actual, result.frame = twin.expected, twin.actual, twin.frame
        result.transcripts, result.traceback = twin.transcripts, twin.traceback
        if verdict is Verdict.FAIL:
            result.requirement, result.watched = twin.watched, twin.watched
        result.ran = verdict is not Verdict.NOT_APPLICABLE
        result.late = twin.late
        return result

    def _context(self, one: Case, *, twin_run: bool) -> CaseContext:
        context: CaseContext = PATH_JUDGES[one.path].context(
            address=self.paths[one.path],
            patience=self.patience,
            seed=self.options.seed,
            case=one,
            info=self.info,
            features=self.findings.features,
            twin_run=twin_run,
            callback=self.findings.callback,
        )
        return context

    async def _execute(self, one: Case, function: CaseFunction, *, twin_run: bool) -> Result:
        context = self._context(one, twin_run=twin_run)
        started = time.monotonic()
        stopped: BaseException | None = None
        trace = ""
        try:
            async with asyncio.timeout(self.patience.bound(one.limit)) as limit:
                await function(context)
            await context.close()
        except Stopped as stop:
            stopped = stop
            context.abandon()
        except asyncio.CancelledError:
            context.abandon()
            raise
        except Exception as error:
            context.abandon()
            if isinstance(error, TimeoutError) and limit.expired():
                stopped = Unprepared(f"the case to end within {one.limit:g} s", "it did not")
            else:
                stopped = error
                trace = traceback.format_exc()
        if isinstance(stopped, CheckFailed):
            stopped = await context.explain_end() or stopped
        if context.bug is not None:
            stopped = context.bug
            trace = "".join(traceback.format_exception(context.bug))
        own = [seen for seen in context.violations if seen.requirement in one.requirements]
        self._note_sightings(one, context.violations)
        emitted = [check for check in context.checks if not (twin_run and check.held)]
        declared = () if twin_run else one.checks
        if twin_run and isinstance(stopped, CheckFailed):
            stopped = Unprepared(stopped.expected, stopped.actual, stopped.frame)
        verdict, reason = decide(
            declared=declared,
            emitted=emitted,
            level=one.level,
            stopped=stopped,
            own_violations=own,
        )
        result = Result(
            id=one.id,
            title=one.title,
            requirement=one.requirement,
            level=one.level,
            verdict=verdict,
            seconds=time.monotonic() - started,
            checks=emitted,
            reason=reason,
            traceback=trace,
            violations=context.violations,
            role=one.role,
        )
        if own and stopped is None:
            result.watched = own[0].requirement
        self._describe(result, stopped, own, context)
        result.unreachable = isinstance(stopped, TargetUnreachable)
        return result

    def _describe(
        self,
        result: Result,
        stopped: BaseException | None,
        own: list[Violation],
        context: CaseContext,
    ) -> None:
        if isinstance(stopped, CheckFailed | Unprepared):
            result.expected, result.actual = stopped.expected, stopped.actual
            result.late = isinstance(stopped, JudgeLate)
            result.frame = stopped.frame
        elif own and not isinstance(stopped, NotApplicable):
            result.requirement = own[0].requirement
            result.expected = f"frames that keep {own[0].requirement}"
            result.actual = own[0].text
            result.frame = own[0].frame
            own[0].mark()
        else:
            warning = next((check for check in result.checks if check.warning), None)
            if warning is not None:
                result.expected, result.actual = warning.expected, warning.actual
        if result.verdict is not Verdict.PASS or self.options.keep:
            result.transcripts = context.transcripts

    # -- is it still there -----------------------------------------------------------------

    async def _check_alive(self, one: Case, result: Result) -> None:
        trouble, restarted = await self._trouble()
        if not trouble or self.gone:
            if self.gone and result.verdict in (Verdict.FAIL, Verdict.WARN):
                result.verdict = Verdict.INCONCLUSIVE
                result.reason = f"{self.gone} ({result.reason})"
            elif self._restarted_at >= self.running[one.id] and result.verdict is Verdict.FAIL:
                result.verdict = Verdict.INCONCLUSIVE
                result.reason = f"the target was restarted while it ran ({result.reason})"
            return
        beside = sorted(set(self.running) - {one.id})
        while_running = f"{one.id}"
        if beside:
            shown = ", ".join(beside[:4]) + (" and more" if len(beside) > 4 else "")
            while_running += f" (or during one of those beside it: {shown})"
        if restarted:
            self._restarted_at = time.monotonic()
        elif self._revive is not None and self._obituary() and await self._revive():
            self._restarted_at = time.monotonic()
            self.info = {name: self.info[name] for name in self.info if name != "nonce"}
        else:
            self.gone = f"the target died during {while_running}: {trouble}"
        if one.negative or not beside:
            result.verdict = Verdict.FAIL if is_must(one.level) else Verdict.WARN
            result.expected = "a target that still serves new connections afterwards"
            result.actual = trouble
        else:
            result.verdict = Verdict.INCONCLUSIVE
        result.reason = f"during {while_running}: {trouble}"

    async def _trouble(self) -> tuple[str, bool]:
        """Return what is wrong with the target now ("" if nothing) and if it was restarted."""
        deadline = time.monotonic() + LIVENESS_TIME + self.patience.slack
        path, address = next(iter(self.paths.items()))
        while True:
            self._serial += 1
            context = PATH_JUDGES[path].context(
                address=address,
                patience=self.patience,
                seed=self.options.seed,
                info=self.info,
                features=self.findings.features,
                name=f"liveness {self._serial}",
                callback=self.findings.callback,
            )
            try:
                if not self.findings.works:
                    # It never completed a set-up: a preface is all the life it can show.
                    connection = await context.connect()
                    connection.send(wire.preface(), connection.settings())
                    await connection.expect_preface()
                    return "", False
                if path == TCP:
                    connection = await context.ready()
                    await connection.fence()
                if path != TCP or "nonce" in self.info:
                    nonce = (await PATH_JUDGES[path].ask(context)).get("nonce")
                    if nonce != self.info.get("nonce", nonce):
                        self.info = {**self.info, "nonce": nonce}
                        return "the target was restarted (its start nonce changed)", True
                await context.close()
            except Stopped as stop:
                context.abandon()
                if context.bug is not None:
                    raise context.bug from stop  # the judge is blind, so it says nothing of others
                if self._obituary():
                    return self._obituary(), False
                if time.monotonic() > deadline:
                    return f"a new connection is not served: {stop}", False
                await asyncio.sleep(0.05)
            else:
                return "", False
            finally:
                context.abandon()

    # -- rules that every frame must keep --------------------------------------------------

    def _note_sightings(self, one: Case, violations: Iterable[Violation]) -> None:
        for seen in violations:
            entry = self._sightings.setdefault(seen.requirement, _Sightings(seen))
            if one.id not in entry.where:
                entry.where.append(one.id)

    def _report_every_frame(self) -> None:
        for requirement, seen in sorted(self._sightings.items()):
            name = f"{requirement}/{self.EVERY_FRAME}"
            if any(
                result.requirement == requirement and result.verdict in _SAY_SO
                for result in self.results
            ):
                continue  # a case that cites the rule already says so
            result = self._held_back.get(name)
            if result is None or result.verdict is not Verdict.FAIL:
                level = rule(requirement).level
                self._held_back[name] = Result(
                    id=name,
                    title="Every frame received keeps this rule.",
                    requirement=requirement,
                    level=level,
                    verdict=Verdict.FAIL if is_must(level) else Verdict.WARN,
                    seconds=result.seconds if result else 0.0,
                    reason=f"{requirement}: {seen.first.text}",
                    expected=f"frames that keep {requirement}",
                    actual=f"{seen.first.text}; seen in {len(seen.where)} cases, first in"
                    f" {seen.where[0]}",
                    frame=seen.first.frame,
                    transcripts=[seen.first.transcript] if seen.first.transcript else [],
                    rerun=seen.where[0],
                    role=self.ROLE,
                )
                seen.first.mark()
        for _name, result in sorted(self._held_back.items()):
            self._publish(result)
        self._held_back.clear()

    def summary(self, *, seconds: float, interrupted: bool) -> Summary:
        """Return the counts of the run so far."""
        ids = {one.id for one in self.cases} | {result.id for result in self.results}
        counts = Summary(selected=len(ids), seconds=seconds, interrupted=interrupted)
        fields = {
            Verdict.PASS: "passed",
            Verdict.FAIL: "failed",
            Verdict.FLAKY: "flaky",
            Verdict.XFAIL: "expected_failures",
            Verdict.XPASS: "unexpected_passes",
            Verdict.WARN: "warnings",
            Verdict.NOT_APPLICABLE: "not_applicable",
            Verdict.INCONCLUSIVE: "inconclusive",
            Verdict.ERROR: "errors",
        }
        for result in self.results:
            name = fields[result.verdict]
            setattr(counts, name, getattr(counts, name) + 1)
            counts.ran += result.ran and result.verdict is not Verdict.NOT_APPLICABLE
        return counts


async def _gather(coroutines: list[Any]) -> None:
    """Run coroutines together; the first exception cancels the others."""
    async with asyncio.TaskGroup() as group:
        for coroutine in coroutines:
            group.create_task(coroutine)
