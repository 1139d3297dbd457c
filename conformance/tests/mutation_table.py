"""Which case kills which flaw of the model worker: the suite on trial.

A mutant is the model worker with one flaw. It is judged by the cases that cite the requirement
which the flaw breaks, and by no others. `test_mutants.py` demands that every mutant is killed;
`python conformance/tests/mutation_table.py [FLAW...]` prints who kills whom.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import multiprocessing
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import model_worker
from model_flaws import FLAWS, Flaw
from muxwire_conformance.case import Case, load_cases
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import PreflightError, preflight
from muxwire_conformance.rules import rule
from muxwire_conformance.session import EVERY_FRAME, Options, Session
from muxwire_conformance.target import Address
from muxwire_conformance.verdict import Result, Verdict, is_must

PROCESSES = 2
AT_ONCE = 12
MOST_TIME = 12.0  # of one mutant among others; alone it may take longer
KILLERS_SHOWN = 4
# Slow consumers short enough to be waited for; handshakes long enough for a judge that shares its
# event loop and two processors with many others.
CONFIG = model_worker.Config(slow_consumer_ms=2_000, handshake_timeout_ms=2_800)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a case came to."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the cases said about one worker.

    Attributes:
        flaw: Name of the flaw, "" for the worker without one.
        outcomes: What every case came to, by id.
        reached: Whether the altered guard took effect.
        refused: Why the target was not judged at all.
    """

    flaw: str
    outcomes: dict[str, Outcome]
    reached: bool
    refused: str = ""

    @property
    def killers(self) -> list[str]:
        """Return the cases that notice the flaw."""
        enough = {Verdict.FAIL}
        if not is_must(rule(FLAWS[self.flaw].requirement).level) or only_the_code(self.flaw):
            enough.add(Verdict.WARN)
        return [id for id, outcome in self.outcomes.items() if outcome.verdict in enough]

    def describe(self) -> str:
        """Return every outcome that is no pass, one per line."""
        lines = [
            f"{outcome.verdict.value} {id}: {outcome.reason}"
            for id, outcome in self.outcomes.items()
            if outcome.verdict is not Verdict.PASS
        ]
        return "\n".join([self.refused, *lines]).strip()


def only_the_code(flaw: str) -> bool:
    """Tell whether a flaw shows in an error code alone, for which a warning is right."""
    return FLAWS[flaw].what.endswith("only the code")


def citing(flaw: Flaw) -> list[Case]:
    """Return the cases that cite the requirement which a flaw breaks."""
    return [one for one in load_cases().values() if flaw.requirement in one.requirements]


async def try_worker(name: str, most_time: float = 120.0) -> Trial:
    """Judge the model worker with one flaw, or without any and by every case."""
    library = load_cases()
    cases = citing(FLAWS[name]) if name else list(library.values())
    server = await model_worker.start(flaws=[name] if name else [], config=CONFIG)
    address = Address(host="127.0.0.1", port=server.port)
    patience = Patience(1.0 if name else 2.0)
    results: list[Result] = []
    refused = ""
    try:
        session = Session(
            address=address,
            cases=cases,
            patience=patience,
            findings=await preflight(address, patience, wait=0, seed=1),
            options=Options(seed=1, max_time=most_time),
            on_result=results.append,
            library=library,
        )
        await session.run()
    except PreflightError as error:
        refused = str(error)
    finally:
        await server.close()
    wanted = {one.id for one in cases}
    if name:
        wanted.add(f"{FLAWS[name].requirement}/{EVERY_FRAME}")
    return Trial(
        flaw=name,
        outcomes={
            result.id: Outcome(verdict=result.verdict, reason=result.reason)
            for result in results
            if result.id in wanted or not name
        },
        reached=name in server.reached,
        refused=refused,
    )


async def _try_each(names: Iterable[str]) -> list[Trial]:
    """Try some flaws side by side, then those without a clear result once more, each alone.

    Where it is crowded the judge is patient, so a flaw that is a delay can escape it.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> Trial:
        async with room:
            return await (try_worker(name, MOST_TIME) if name else try_worker(name))

    trials = await asyncio.gather(*(one(name) for name in names))
    return [
        trial
        if not trial.flaw or (trial.killers and trial.reached)
        else await try_worker(trial.flaw)
        for trial in trials
    ]


def _try_in_process(names: Sequence[str]) -> tuple[list[Trial], str]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        trials = asyncio.run(_try_each(names))
    lines = [line for line in said.getvalue().splitlines() if not line.startswith("flaw reached")]
    return trials, "\n".join(lines)


def try_all(names: Iterable[str]) -> tuple[dict[str, Trial], str]:
    """Try flaws in several processes; "" stands for the worker without a flaw.

    Returns:
        The trials by name, and what was written to standard error meanwhile.
    """
    wanted = list(names)
    flawed = [name for name in wanted if name and citing(FLAWS[name])]
    # Cases that mostly wait go first and last, beside the ones that work.
    flawed.sort(key=lambda name: not any(one.timed for one in citing(FLAWS[name])))
    batches = [flawed[start::PROCESSES] for start in range(PROCESSES)]
    if "" in wanted:
        batches.insert(0, [""])
    batches = [batch for batch in batches if batch]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        answers = list(pool.map(_try_in_process, batches))
    trials = {trial.flaw: trial for found, _said in answers for trial in found}
    for name in wanted:
        trials.setdefault(name, Trial(flaw=name, outcomes={}, reached=False))
    return trials, "\n".join(said for _found, said in answers if said)


def table(trials: Iterable[Trial], *, most: int = KILLERS_SHOWN) -> list[str]:
    """Return lines of requirement, flaw, and the cases that kill it."""
    rows = []
    for trial in sorted(trials, key=lambda trial: (FLAWS[trial.flaw].requirement, trial.flaw)):
        flaw, killers = FLAWS[trial.flaw], trial.killers
        shown = ", ".join(killers[:most])
        if len(killers) > most:
            shown += f" and {len(killers) - most} more"
        if not killers:
            shown = f"SURVIVES {len(trial.outcomes)} cases"
        rows.append(f"{flaw.requirement}  {flaw.name:<38}  {shown}")
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Print which case kills which flaw.")
    parser.add_argument("flaws", nargs="*", metavar="FLAW", help="default: all of them")
    parser.add_argument("--all", action="store_true", help="name every killing case")
    parser.add_argument("--why", action="store_true", help="print what every case came to")
    chosen = parser.parse_args(arguments)
    for name in chosen.flaws:
        if name not in FLAWS:
            parser.error(f"no such flaw: {name}")
    trials, said = try_all(chosen.flaws or FLAWS)
    lines = table(trials.values(), most=10_000 if chosen.all else KILLERS_SHOWN)
    if chosen.why:
        lines += [f"\n{name}\n{trial.describe()}" for name, trial in trials.items()]
    killed = sum(bool(trial.killers) for trial in trials.values())
    lines.append(f"{killed} of {len(trials)} flaws are killed")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stderr.write(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
