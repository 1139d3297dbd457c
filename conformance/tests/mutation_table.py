"""Which case kills which flaw of the models: the suite on trial, in both roles.

A mutant is the model worker or the model client with one flaw. It is judged by the cases that cite
the requirement which the flaw breaks, and by no others. `test_mutants.py` demands that every mutant
is killed; `python conformance/tests/mutation_table.py [FLAW...]` prints who kills whom, and
`--write` writes docs/mutation-matrix.md anew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import multiprocessing
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import model_client_driver
import model_client_flaws
import model_flaws
import model_http
import model_http_flaws
import model_worker
from model_client import FEATURES, TRANSPORTS
from model_flaws import Flaw
from model_tls import certificates
from mutation_known import NEEDS_A_QUICK_MACHINE
from muxwire_conformance.case import Case, load_cases
from muxwire_conformance.client_mode.session import CLIENT_EVERY_FRAME, ClientSession
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings, PreflightError, preflight
from muxwire_conformance.rules import rule
from muxwire_conformance.session import EVERY_FRAME, Options, Session
from muxwire_conformance.target import Address, parse_address
from muxwire_conformance.verdict import Result, Verdict, is_must

PROCESSES = 2
AT_ONCE = 12
ALONE = 2  # further tries of a flaw without a clear result
MOST_TIME = 12.0  # of one mutant among others; alone it may take longer
MOST_LONG_TIME = 40.0  # the same by cases that wait long, tried only where no other kills
SHORT = 30.0  # limit of a case that does not
KILLERS_SHOWN = 4
# Slow consumers short enough to be waited for; handshakes long enough for a judge that shares its
# event loop and two processors with many others.
CONFIG = model_worker.Config(slow_consumer_ms=2_000, handshake_timeout_ms=2_800)

FLAWS: dict[str, dict[str, Flaw]] = {
    "worker": model_flaws.FLAWS | model_http_flaws.HTTP_FLAWS,
    "client": model_client_flaws.FLAWS,
}
"""The flaws of each role, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a case came to."""

    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What the cases said about one model.

    Attributes:
        role: Whether the model is a worker or a client.
        flaw: Name of the flaw, "" for the model without one.
        outcomes: What every case came to, by id.
        reached: Whether the altered guard took effect.
        refused: Why the target was not judged at all.
    """

    role: str
    flaw: str
    outcomes: dict[str, Outcome]
    reached: bool
    refused: str = ""

    @property
    def requirement(self) -> str:
        """Return the rule that the flaw breaks."""
        return FLAWS[self.role][self.flaw].requirement

    @property
    def killers(self) -> list[str]:
        """Return the cases that notice the flaw."""
        enough = {Verdict.FAIL}
        flaw = FLAWS[self.role][self.flaw]
        if not is_must(rule(flaw.requirement).level) or shows_as_warning(flaw):
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


def shows_as_warning(flaw: Flaw) -> bool:
    """Tell whether a warning is right: only an error code is wrong, or a SHOULD within a MUST."""
    return flaw.what.endswith(("only the code", "(a SHOULD)"))


def citing(role: str, name: str) -> list[Case]:
    """Return the cases that cite the requirement which a flaw breaks."""
    requirement = FLAWS[role][name].requirement
    return [one for one in load_cases(role).values() if requirement in one.requirements]


Judged = tuple[list[Result], bool, str]
"""The results, whether the flaw was reached, and why nothing was judged."""


async def _judge_worker(name: str, cases: Sequence[Case], options: Options) -> Judged:
    tls = name.startswith("sec-")
    server = await model_worker.start(flaws=[name] if name else [], config=CONFIG, tls=tls)
    http = await model_http.start(server)
    address = Address(host="127.0.0.1", port=server.port)
    if tls:
        address = parse_address(certificates().target(server.port))
    patience = Patience(1.0 if name else 2.0)
    results: list[Result] = []
    refused = ""
    try:
        session = Session(
            address=address,
            cases=cases,
            patience=patience,
            findings=await preflight(address, patience, wait=0, seed=1),
            options=options,
            on_result=results.append,
            library=load_cases("worker"),
        )
        await session.run()
    except PreflightError as error:
        refused = str(error)
    finally:
        await http.close()
        await server.close()
    return results, name in server.reached, refused


async def _judge_client(name: str, cases: Sequence[Case], options: Options) -> Judged:
    patience = Patience(1.0 if name else 2.0)
    reached: set[str] = set()
    results: list[Result] = []
    session = ClientSession(
        command="model-client {host}:{port}",
        cases=cases,
        patience=patience,
        findings=Findings(features=frozenset(FEATURES + TRANSPORTS), asked=True, works=True),
        options=options,
        on_result=results.append,
        library=load_cases("client"),
        launcher=model_client_driver.launcher([name] if name else [], reached),
    )
    await session.run()
    return results, name in reached, ""


_JUDGES: dict[str, Callable[[str, Sequence[Case], Options], Coroutine[Any, Any, Judged]]] = {
    "worker": _judge_worker,
    "client": _judge_client,
}
_EVERY_FRAME = {"worker": EVERY_FRAME, "client": CLIENT_EVERY_FRAME}


async def try_model(
    role: str, name: str, most_time: float = 120.0, cases: Sequence[Case] | None = None
) -> Trial:
    """Judge a model with one flaw, or without any and by every case; `cases` are a choice of it."""
    if cases is None:
        cases = citing(role, name) if name else list(load_cases(role).values())
    options = Options(seed=1, max_time=most_time)
    results, reached, refused = await _JUDGES[role](name, cases, options)
    late = {one.id for one in results if one.verdict is Verdict.INCONCLUSIVE}
    if late and not name:  # a judge that was late among many is asked once more, alone
        again, *_same = await _JUDGES[role](
            name, [one for one in cases if one.id in late], Options(seed=1, jobs=1)
        )
        results = [one for one in results if one.id not in late] + again
    wanted = {one.id for one in cases}
    if name:
        wanted.add(f"{FLAWS[role][name].requirement}/{_EVERY_FRAME[role]}")
    return Trial(
        role=role,
        flaw=name,
        outcomes={
            result.id: Outcome(verdict=result.verdict, reason=result.reason)
            for result in results
            if result.id in wanted or not name
        },
        reached=reached,
        refused=refused,
    )


Known = Mapping[str, Iterable[str]]
"""The cases that kill a flaw on a quiet machine, by its name."""


def _clear(trial: Trial, known: Known) -> bool:
    """Tell whether a trial says what it is known to say; a case may fail by chance as well."""
    killers = set(trial.killers)
    return trial.reached and bool(killers & set(known.get(trial.flaw, killers)))


async def _try_each(role: str, names: Iterable[str], known: Known) -> list[Trial]:
    """Try some flaws side by side, then those without a clear result again, each alone.

    Where it is crowded the judge is patient, so a flaw that is a delay can escape it.
    """
    room = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> Trial:
        async with room:
            if not name:
                return await try_model(role, name)
            cases = citing(role, name)
            short = [case for case in cases if case.limit <= SHORT]
            trial = await try_model(role, name, MOST_TIME, short)
            if len(short) == len(cases) or (trial.killers and trial.reached):
                return trial
            return await try_model(role, name, MOST_LONG_TIME, [*set(cases) - set(short)])

    trials = await asyncio.gather(*(one(name) for name in names))
    for index, trial in enumerate(trials):
        for _ in range(ALONE):
            if not trial.flaw or _clear(trials[index], known):
                break
            trials[index] = await try_model(role, trial.flaw)
    return trials


def _try_in_process(role: str, names: Sequence[str], known: Known) -> tuple[list[Trial], str]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        trials = asyncio.run(_try_each(role, names, known))
    lines = [line for line in said.getvalue().splitlines() if not line.startswith("flaw reached")]
    return trials, "\n".join(lines)


def try_all(
    role: str, names: Iterable[str], known: Known | None = None
) -> tuple[dict[str, Trial], str]:
    """Try flaws in several processes; "" stands for the model without a flaw.

    Args:
        role: The role of the model.
        names: The flaws.
        known: Who kills them; a flaw that others kill, or nobody, is tried again.

    Returns:
        The trials by name, and what was written to standard error meanwhile.
    """
    wanted = list(names)
    flawed = [name for name in wanted if name and citing(role, name)]
    # Cases that mostly wait go first and last, beside the ones that work.
    flawed.sort(key=lambda name: not any(one.timed for one in citing(role, name)))
    batches = [flawed[start::PROCESSES] for start in range(PROCESSES)]
    batches = [batch for batch in batches if batch]
    sound = [[""]] if "" in wanted else []
    context = multiprocessing.get_context("spawn")
    answers = []
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        if role == "client":  # it shares its loop with the judge: let no other run beside it
            answers += pool.map(_try_in_process, repeat(role), sound, repeat({}))
            sound = []
        answers += pool.map(_try_in_process, repeat(role), sound + batches, repeat(known or {}))
    trials = {trial.flaw: trial for found, _said in answers for trial in found}
    for name in wanted:
        trials.setdefault(name, Trial(role=role, flaw=name, outcomes={}, reached=False))
    return trials, "\n".join(said for _found, said in answers if said)


def table(trials: Iterable[Trial], *, most: int = KILLERS_SHOWN) -> list[str]:
    """Return lines of requirement, flaw, and the cases that kill it."""
    rows = []
    for trial in sorted(trials, key=lambda trial: (trial.requirement, trial.flaw)):
        killers = trial.killers
        shown = ", ".join(killers[:most])
        if len(killers) > most:
            shown += f" and {len(killers) - most} more"
        if not killers:
            shown = f"SURVIVES {len(trial.outcomes)} cases"
        rows.append(f"{trial.requirement}  {trial.flaw:<38}  {shown}")
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, or write the page."""
    parser = argparse.ArgumentParser(description="Print which case kills which flaw.")
    parser.add_argument("flaws", nargs="*", metavar="FLAW", help="default: all of them")
    parser.add_argument("--role", choices=FLAWS, help="default: worker; both with --write")
    parser.add_argument("--all", action="store_true", help="name every killing case")
    parser.add_argument("--why", action="store_true", help="print what every case came to")
    parser.add_argument("--write", action="store_true", help="write docs/mutation-matrix.md")
    chosen = parser.parse_args(arguments)
    role = chosen.role or "worker"
    for name in chosen.flaws:
        if name not in FLAWS[role]:
            parser.error(f"no such flaw: {name}")
    if chosen.write:
        roles = FLAWS if not chosen.role and not chosen.flaws else [role]
        return write({role: chosen.flaws or list(FLAWS[role]) for role in roles})
    trials, said = try_all(role, chosen.flaws or FLAWS[role])
    lines = table(trials.values(), most=10_000 if chosen.all else KILLERS_SHOWN)
    if chosen.why:
        lines += [f"\n{name}\n{trial.describe()}" for name, trial in trials.items()]
    lines.append(tally(trials))
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stderr.write(said)
    return 0


def tally(trials: Mapping[str, Trial]) -> str:
    """Say how many flaws are killed."""
    killed = sum(bool(trial.killers) for trial in trials.values())
    return f"{killed} of {len(trials)} flaws are killed"


def write(flaws: Mapping[str, Sequence[str]]) -> int:
    """Try these flaws of each role and write the page; the others stay as it says.

    A flaw that needs a quick machine keeps the killers that the page names if it finds none.
    """
    import mutation_page  # it reads what this module finds, so it comes second

    page = mutation_page.PAGE
    before = mutation_page.read(page.read_text(encoding="utf-8")) if page.exists() else {}
    found = {
        role: {name: row.killers for name, row in before.get(role, {}).items()} for role in FLAWS
    }
    for role, names in flaws.items():
        trials, said = try_all(role, names)
        sys.stderr.write(said)
        sys.stdout.write(f"{role}: {tally(trials)}\n")
        for name, trial in trials.items():
            if trial.killers or name not in NEEDS_A_QUICK_MACHINE[role]:
                found[role][name] = tuple(trial.killers)
        page.write_text(mutation_page.render(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
