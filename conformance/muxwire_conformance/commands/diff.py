"""``diff``: where two targets answer differently."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Sequence

from muxwire_conformance.case import load_cases
from muxwire_conformance.commands import options
from muxwire_conformance.diff import Disagreement, Questions, disagreements
from muxwire_conformance.explain import PROGRAM
from muxwire_conformance.patience import DEFAULT_TIMEOUT
from muxwire_conformance.preflight import PreflightError
from muxwire_conformance.session import Options
from muxwire_conformance.target import SELF, StartError, parse_address
from muxwire_conformance.verdict import ExitCode

_EXAMPLES = """\
examples:
  muxwire-conformance diff --target 127.0.0.1:7700 --target 127.0.0.1:7701
  muxwire-conformance diff --target self --target 127.0.0.1:7701 FRM HSK

Both targets may be conformant and still differ: then the specification leaves something open.

exit codes: 0 no difference, 1 differences, 2 wrong usage, 3 a target cannot be judged,
5 nothing is selected
"""


def add(commands: options.Commands) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "diff",
        help="ask two workers the same, and list where they differ",
        description="Run the same cases against two workers and compare all that comes back.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_selection(parser)
    parser.add_argument(
        "--target", action="append", default=[], metavar="HOST:PORT", help="give it twice"
    )
    parser.add_argument("--seed", type=options.seed, default=None, help="seed of ids and payloads")
    parser.add_argument("--jobs", type=options.jobs, default=8, metavar="N", help="cases at once")
    parser.add_argument(
        "--timeout", type=options.seconds, default=DEFAULT_TIMEOUT, metavar="SECONDS"
    )
    parser.set_defaults(run=lambda arguments: _run(parser, arguments))


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    if len(arguments.target) != 2:
        parser.error("give --target twice")
    for target in arguments.target:
        if target != SELF:
            parse_address(target)
    library = load_cases("worker")
    cases = options.selected(arguments, library)
    if not cases:
        sys.stderr.write(f"{PROGRAM}: nothing is selected\n")
        return ExitCode.NOTHING_RAN
    drawn = random.SystemRandom().randrange(2**32)
    seed = drawn if arguments.seed is None else arguments.seed
    questions = Questions(
        cases=cases,
        library=library,
        options=Options(jobs=arguments.jobs, seed=seed, keep=True),
        timeout=arguments.timeout,
    )
    try:
        found = asyncio.run(disagreements(questions, *arguments.target))
    except (StartError, PreflightError) as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return ExitCode.UNREACHABLE
    _print(found, arguments.target, len(cases), seed)
    return ExitCode.NOT_CONFORMANT if found else ExitCode.CONFORMANT


def _print(found: Sequence[Disagreement], targets: Sequence[str], cases: int, seed: int) -> None:
    write = sys.stdout.write
    write(f"A is {targets[0]}, B is {targets[1]}\n")
    for one in found:
        write(f"\n{one.id}  A {one.verdicts[0]}  B {one.verdicts[1]}\n")
        for line in one.details:
            write(f"  {line}\n")
    write(f"\n{cases} cases, seed {seed}: {len(found)} differ\n")
