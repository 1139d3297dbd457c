"""What the pytest plugin loads when it is asked for: the cases as items, and one run for them all.

All chosen cases run together when the first of them is due, as ``check`` would run them; then each
item tells what its case came to.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from muxwire_conformance.baseline import Baseline, BaselineError, load_baseline
from muxwire_conformance.case import Case, load_cases
from muxwire_conformance.explain import dialogue_lines, explain, plain
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import PreflightError, preflight
from muxwire_conformance.selection import level_of
from muxwire_conformance.session import Options, Session
from muxwire_conformance.target import SELF, Bundled, StartError, parse_address
from muxwire_conformance.verdict import Result, Verdict

CONFIRM = 2
MARK = "wmx"

_BENCHES = pytest.StashKey[dict[str, "_Bench"]]()


class CaseBroken(Exception):  # noqa: N818 - named after what it says of the target
    """A case that makes the target not conformant; the text is its explanation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseOutcome:
    """What one case came to."""

    id: str
    result: Result
    text: str

    def check(self) -> None:
        """Pass, skip, or fail as the verdict says; a known failure is an xfail."""
        result = self.result
        if result.verdict is Verdict.NOT_APPLICABLE:
            pytest.skip(result.reason)
        if result.verdict is Verdict.XFAIL:
            pytest.xfail(f"{result.known}: {result.reason}")
        if result.verdict not in (Verdict.PASS, Verdict.WARN):
            raise CaseBroken(self.text)


class CaseItem(pytest.Item):
    """One case as a test."""

    def __init__(self, *, case: Case, target: str, **rest: Any) -> None:
        super().__init__(**rest)
        self.case = case
        self.target = target
        _mark(self, case)

    def runtest(self) -> None:
        """Tell what the case came to; the first item runs them all."""
        outcome(self, self.target, self.case.id).check()

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show the explanation instead of a traceback of the plugin."""
        if isinstance(excinfo.value, CaseBroken | PreflightError | StartError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[str, int | None, str]:
        """Name the item in reports."""
        return MARK, None, self.case.id


def case_items(session: pytest.Session, target: str) -> Iterator[CaseItem]:
    """Return an item for each case.

    Raises:
        UsageError: the target or the baseline is malformed.
    """
    _bench(session.config, target)
    for case in load_cases().values():
        nodeid = f"{MARK}::{case.id}"
        yield CaseItem.from_parent(session, name=case.id, nodeid=nodeid, case=case, target=target)


def case_parameters(config: pytest.Config) -> list[Any]:
    """Return a parameter for each case, with its marks."""
    _register(config)
    return [pytest.param(case.id, id=case.id, marks=_marks(case)) for case in load_cases().values()]


def outcome(item: pytest.Item, target: str, id: str) -> CaseOutcome:
    """Return what a case came to, and attach its transcripts to the item."""
    bench = _bench(item.config, target)
    result = bench.results(item.session)[id]
    short = replace(result, transcripts=[])
    text = plain(explain(short, target=target, seed=bench.seed))
    if result.verdict is not Verdict.PASS:
        if result.verdict is Verdict.WARN:
            item.add_report_section("call", "wmx warning", text)
        for transcript in result.transcripts:
            lines = plain(dialogue_lines(transcript))
            item.add_report_section("call", "wmx transcript", lines)
    return CaseOutcome(id=id, result=result, text=text)


def _bench(config: pytest.Config, target: str) -> _Bench:
    benches = config.stash.setdefault(_BENCHES, {})
    if target not in benches:
        _register(config)
        benches[target] = _Bench(target, config.getoption("wmx_baseline"))
    return benches[target]


class _Bench:
    """One target, and what all chosen cases came to."""

    def __init__(self, target: str, baseline: str | None) -> None:
        self.target = target
        self.seed = random.SystemRandom().randrange(2**32)
        self._baseline = Baseline(())
        self._done: dict[str, Result] | None = None
        self._trouble: Exception | None = None
        try:
            if target != SELF:
                parse_address(target)
            if baseline is not None:
                self._baseline = load_baseline(Path(baseline))
        except (ValueError, BaselineError) as error:
            raise pytest.UsageError(str(error)) from error
        unmatched = self._baseline.unmatched(
            {*load_cases(), *load_cases("client")} if self._baseline.entries else ()
        )
        if unmatched:
            raise pytest.UsageError("\n".join(unmatched))

    def results(self, session: pytest.Session) -> dict[str, Result]:
        """Return all results; the first call runs the cases."""
        if self._trouble is not None:
            raise self._trouble
        if self._done is None:
            try:
                self._done = asyncio.run(self._judge(_chosen(session)))
            except (PreflightError, StartError) as error:
                self._trouble = error
                raise
        return self._done

    async def _judge(self, ids: set[str]) -> dict[str, Result]:
        worker = await Bundled.start() if self.target == SELF else None
        try:
            address = worker.address if worker is not None else parse_address(self.target)
            patience = Patience()
            findings = await preflight(address, patience, wait=0.0, seed=self.seed)
            library = load_cases()
            run = Session(
                address=address,
                cases=[library[id] for id in sorted(ids)],
                patience=patience,
                findings=findings,
                options=Options(seed=self.seed, confirm=CONFIRM, revise=self._baseline.revise),
                on_result=lambda _result: None,
                library=library,
                obituary=worker.obituary if worker is not None else lambda: "",
            )
            await run.run()
            return {result.id: result for result in run.results}
        finally:
            if worker is not None:
                await worker.stop()


def _chosen(session: pytest.Session) -> set[str]:
    chosen = {item.case.id for item in session.items if isinstance(item, CaseItem)}
    for item in session.items:
        callspec = getattr(item, "callspec", None)
        if callspec is not None and "wmx_case" in callspec.params:
            chosen.add(callspec.params["wmx_case"])
    return chosen


# -- marks ---------------------------------------------------------------------------------------


def _names(case: Case) -> tuple[str, ...]:
    return MARK, f"{MARK}_{level_of(case.level)}", f"{MARK}_{case.area.lower()}"


def _register(config: pytest.Config) -> None:
    known = {line.partition(":")[0] for line in config.getini("markers")}
    for name in sorted({name for case in load_cases().values() for name in _names(case)} - known):
        config.addinivalue_line("markers", f"{name}: a case of the WMX/1 conformance suite")


def _marks(case: Case) -> list[pytest.MarkDecorator]:
    return [getattr(pytest.mark, name) for name in _names(case)]


def _mark(item: pytest.Item, case: Case) -> None:
    for mark in _marks(case):
        item.add_marker(mark)
