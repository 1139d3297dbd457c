"""Ask two targets the same questions, and list where they answer differently.

Rules of this file:

* The same cases run with the same seed, so both targets hear the same octets as far as they answer
  alike.
* What is compared is the verdict and the outcome of each connection, as ``replay`` compares it,
  but for settings and for the octets of answers: every worker has its own, and the cases look.
* A difference counts when it is there again after both have been asked once more, alone.
* Two correct targets may differ. Where they do, the specification leaves something open, or should
  not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from muxwire_conformance import reproducer
from muxwire_conformance.case import Case
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import preflight
from muxwire_conformance.recorded import RecordError, of_result
from muxwire_conformance.replay import prepare
from muxwire_conformance.session import Options, Session
from muxwire_conformance.target import SELF, Bundled, parse_address
from muxwire_conformance.verdict import Result, Verdict

_SETTINGS = re.compile(r"^SETTINGS .*")
_CONTENT = re.compile(r" metadata [0-9a-f]{8}|, [0-9]+ octets.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """A case for which two targets differ."""

    id: str
    verdicts: tuple[str, str]
    details: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class Questions:
    """What is asked, and how."""

    cases: Sequence[Case]
    library: dict[str, Case]
    options: Options
    timeout: float

    async def ask(self, target: str) -> dict[str, Result]:
        """Run the cases against a target and return the results by id.

        Raises:
            StartError: the bundled worker does not start.
            PreflightError: the target cannot be judged.
        """
        worker = await Bundled.start() if target == SELF else None
        try:
            address = worker.address if worker is not None else parse_address(target)
            patience = Patience(self.timeout)
            session = Session(
                address=address,
                cases=self.cases,
                patience=patience,
                findings=await preflight(address, patience, wait=0, seed=self.options.seed),
                options=self.options,
                on_result=lambda _result: None,
                library=self.library,
            )
            await session.run()
            return {result.id: result for result in session.results}
        finally:
            if worker is not None:
                await worker.stop()


async def disagreements(questions: Questions, one: str, other: str) -> list[Disagreement]:
    """Return where two targets differ, twice in a row.

    Raises:
        StartError: the bundled worker does not start.
        PreflightError: a target cannot be judged.
    """
    found = _differences(await questions.ask(one), await questions.ask(other))
    again = replace(
        questions,
        cases=[case for case in questions.cases if case.id in found],
        options=replace(questions.options, jobs=1),
    )
    if not again.cases:
        return []
    confirmed = _differences(await again.ask(one), await again.ask(other))
    return [confirmed[id] for id in sorted(confirmed)]


def _differences(one: Mapping[str, Result], other: Mapping[str, Result]) -> dict[str, Disagreement]:
    found = {}
    for id in sorted(set(one) & set(other)):
        results = (one[id], other[id])
        verdicts = (results[0].verdict.value, results[1].verdict.value)
        details = () if verdicts[0] != verdicts[1] else _details(*results)
        if verdicts[0] != verdicts[1]:
            details = tuple(f"{result.verdict.value}: {result.reason}" for result in results)
        if details:
            found[id] = Disagreement(id=id, verdicts=verdicts, details=details)
    return found


def _details(one: Result, other: Result) -> tuple[str, ...]:
    if one.verdict is Verdict.NOT_APPLICABLE:
        return ()
    was, now = _outcome(one), _outcome(other)
    if set(was) != set(now):
        return (f"{len(was)} connections, {len(now)} connections",)
    lines = reproducer.differences(was, now)
    return tuple(line.replace(": was ", ": ").replace(", is ", "  |  ") for line in lines)


def _outcome(result: Result) -> dict[str, Any]:
    try:
        came = prepare(of_result(result))["came"]
    except RecordError:  # too long to be kept, or nothing was said: only the verdict counts
        return {}
    for conversation in came.values():
        said = [_SETTINGS.sub("SETTINGS", text) for text in conversation["connection"]]
        # How often the judge pinged to wait for something is a matter of time.
        conversation["connection"] = [text for text in said if text != "PONG"]
        for name, tokens in conversation["requests"].items():
            conversation["requests"][name] = [_CONTENT.sub("", text) for text in tokens]
        del conversation["exact"], conversation["patient"]
    return dict(came)
