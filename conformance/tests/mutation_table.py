"""Which case kills which flaw of the model worker: the suite on trial.

A mutant is the model worker with one flaw. It is judged by the cases that cite the requirement
that the flaw breaks, and by nothing else. `python conformance/tests/mutation_table.py [FLAW...]`
prints the table; `test_mutants.py` demands that every mutant is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import model_worker
from model_flaws import FLAWS, Flaw
from muxwire_conformance.case import Case, load_cases
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings, PreflightError, preflight
from muxwire_conformance.rules import rule
from muxwire_conformance.session import EVERY_FRAME, Options, Session
from muxwire_conformance.target import Address
from muxwire_conformance.verdict import Result, Verdict, is_must

AT_ONCE = 24
TIMEOUT = 1.0
MOST_TIME = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the suite said about one mutant."""

    flaw: Flaw
    results: tuple[Result, ...]
    reached: bool
    refused: str = ""

    @property
    def killers(self) -> dict[str, Verdict]:
        """Return the citing cases that notice the flaw, with their verdicts."""
        warning_counts = not is_must(rule(self.flaw.requirement).level) or self.code_only
        enough = {Verdict.FAIL, Verdict.WARN} if warning_counts else {Verdict.FAIL}
        return {result.id: result.verdict for result in self.results if result.verdict in enough}

    @property
    def code_only(self) -> bool:
        """Tell whether the flaw shows in the error code alone, which section 0.5 lets pass."""
        return self.flaw.what.endswith("only the code")

    def describe(self) -> str:
        """Return every result that is no pass, one per line."""
        odd = [result for result in self.results if result.verdict is not Verdict.PASS]
        return "\n".join(f"{one.verdict.value} {one.id}: {one.reason}" for one in odd)


def citing(requirement: str) -> list[Case]:
    """Return the cases that cite a requirement."""
    return [one for one in load_cases().values() if requirement in one.requirements]


async def try_flaw(flaw: Flaw, **config: int) -> Trial:
    """Judge the model worker with one flaw by the cases that cite the rule it breaks."""
    cases = citing(flaw.requirement)
    server = await model_worker.start(flaws=[flaw.name], config=model_worker.Config(**config))
    address = Address(host="127.0.0.1", port=server.port)
    patience = Patience(TIMEOUT)
    results: list[Result] = []
    refused = ""
    try:
        findings = await preflight(address, patience, wait=0, seed=1)
        session = Session(
            address=address,
            cases=cases,
            patience=patience,
            findings=findings,
            options=Options(seed=1, max_time=MOST_TIME),
            on_result=results.append,
            library=load_cases(),
        )
        await session.run()
    except PreflightError as error:
        refused = str(error)
    finally:
        await server.close()
    names = {one.id for one in cases} | {f"{flaw.requirement}/{EVERY_FRAME}"}
    return Trial(
        flaw=flaw,
        results=tuple(one for one in results if one.id in names),
        reached=flaw.name in server.reached,
        refused=refused,
    )


async def _try_all(flaws: Iterable[Flaw], **config: int) -> dict[str, Trial]:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(flaw: Flaw) -> Trial:
        async with room:
            return await try_flaw(flaw, **config)

    trials = await asyncio.gather(*(one(flaw) for flaw in flaws))
    return {trial.flaw.name: trial for trial in trials}


def try_all(flaws: Iterable[Flaw]) -> dict[str, Trial]:
    """Try several mutants side by side in one event loop."""
    with contextlib.redirect_stderr(io.StringIO()):
        return asyncio.run(_try_all(flaws))


if __name__ == "__main__":
    import time
    t=time.monotonic(); c=time.process_time()
    names = sys.argv[1:] or [n for n in FLAWS]
    trials = try_all([FLAWS[n] for n in names if citing(FLAWS[n].requirement)])
    print(time.monotonic()-t, time.process_time()-c)
    for name, t in trials.items():
        vs=[r.verdict for r in t.results]
        flag = "" if t.killers and t.reached and Verdict.ERROR not in vs else "  <<<<<<"
        print(name, t.flaw.requirement, "reached" if t.reached else "NOT", len(t.killers), "of", len(t.results), sum(v is Verdict.INCONCLUSIVE for v in vs), t.refused, flag)
        if flag or len(names)<4: print(t.describe())
