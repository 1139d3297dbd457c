"""The command line: ``muxwire-conformance check | list | show``."""

from __future__ import annotations

import argparse
import inspect
import os
import random
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from muxwire_conformance.case import Case, load_cases
from muxwire_conformance.check import Request, check, suite_version
from muxwire_conformance.explain import PROGRAM
from muxwire_conformance.patience import DEFAULT_TIMEOUT
from muxwire_conformance.rules import rule
from muxwire_conformance.selection import LEVELS, SelectionError, select
from muxwire_conformance.session import Options
from muxwire_conformance.target import SELF, TargetError, parse_address
from muxwire_conformance.verdict import ExitCode

_EXAMPLES = """\
examples:
  muxwire-conformance check                                judge the bundled worker
  muxwire-conformance check --target 127.0.0.1:7700        judge your worker
  muxwire-conformance check HSK FRM-002 'MSG-*/empty*'     only these cases
  muxwire-conformance check -k 'ping and not flags' -x -v  pick by words, stop at the first failure
  muxwire-conformance check --json run.json --junit run.xml --strict
  muxwire-conformance list --area FRM
  muxwire-conformance show FRM-002/marker-f6

exit codes: 0 conformant, 1 not conformant, 2 wrong usage, 3 no worker at the target,
4 error of the suite or of a report, 5 nothing selected or nothing ran, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (SelectionError, TargetError) as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return ExitCode.USAGE
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROGRAM}: interrupted\n")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Nobody reads our output any more (| head).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.SUITE_ERROR


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Judge a WMX/1 worker against the muxwire specification.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {suite_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_check(commands)
    _add_list(commands)
    show = commands.add_parser("show", help="show a case or a requirement with its rule")
    show.add_argument("id", help="case id or requirement id")
    show.set_defaults(run=_show)
    return parser


def _add_selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("selection")
    group.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help="case ids, requirement ids, areas, or globs such as 'FRM-*/bad-*' (default: all)",
    )
    group.add_argument(
        "--area", action="append", default=[], help="only this area, for example HSK (repeatable)"
    )
    group.add_argument("--level", choices=LEVELS, help="only requirements of this level")
    group.add_argument(
        "-k",
        dest="expression",
        metavar="EXPR",
        help="only cases whose id or title has these words; and, or, not, parentheses",
    )


def _add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check",
        help="judge a worker",
        description="Judge the worker at --target.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_selection(parser)
    group = parser.add_argument_group("target")
    group.add_argument(
        "--target",
        default=os.environ.get("MUXWIRE_TARGET") or SELF,
        metavar="HOST:PORT",
        help="HOST:PORT, tcp://HOST:PORT, [V6]:PORT, or self for the bundled worker"
        " (default: $MUXWIRE_TARGET, else self)",
    )
    group.add_argument(
        "--wait",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait so long for something to listen at the target",
    )
    group = parser.add_argument_group("run")
    group.add_argument(
        "--timeout",
        type=_seconds,
        default=DEFAULT_TIMEOUT,
        metavar="SECONDS",
        help="how long absence is waited for, 0 for ever (default: %(default)g)",
    )
    group.add_argument(
        "--max-time",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="end the whole run after so long, 0 never (default: %(default)g)",
    )
    group.add_argument(
        "--jobs", type=_jobs, default=8, metavar="N", help="cases at once (default: %(default)s)"
    )
    group.add_argument("--seed", type=_seed, default=None, help="seed of ids and payloads")
    group.add_argument("--strict", action="store_true", help="warnings make the exit code 1")
    group.add_argument("-x", dest="stop", action="store_true", help="stop at the first failure")
    group.add_argument("--list", action="store_true", help="list what would run, and exit")
    group = parser.add_argument_group("output")
    group.add_argument("--json", type=Path, metavar="FILE", help="write a JSON report")
    group.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit XML report")
    group.add_argument(
        "-v", "--verbose", action="count", default=0, help="show every case and every frame"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="show the summary only")
    group.add_argument("--no-color", action="store_true", help="no colours (also: NO_COLOR)")
    parser.set_defaults(run=_check)


def _add_list(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("list", help="list the cases")
    _add_selection(parser)
    parser.set_defaults(run=_list)


# -- values ------------------------------------------------------------------------------------


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _jobs(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 256")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 2^64 - 1")
    return int(text)


# -- commands ----------------------------------------------------------------------------------


def _selected(arguments: argparse.Namespace, library: dict[str, Case]) -> list[Case]:
    return select(
        library.values(),
        patterns=arguments.cases,
        areas=arguments.area,
        level=arguments.level,
        expression=arguments.expression,
    )


def _check(arguments: argparse.Namespace) -> int:
    library = load_cases()
    if arguments.target != SELF:
        parse_address(arguments.target)  # refuse it before anything is started
    cases = _selected(arguments, library)
    if arguments.list:
        return _print_list(cases)
    if not cases:
        sys.stderr.write(f"{PROGRAM}: nothing is selected\n")
        return ExitCode.NOTHING_RAN
    seed = arguments.seed
    return check(
        Request(
            target=arguments.target,
            cases=cases,
            library=library,
            options=Options(
                jobs=arguments.jobs,
                seed=random.SystemRandom().randrange(2**32) if seed is None else seed,
                stop_at_first=arguments.stop,
                max_time=arguments.max_time,
            ),
            wait=arguments.wait,
            timeout=arguments.timeout,
            strict=arguments.strict,
            json_path=arguments.json,
            junit_path=arguments.junit,
            verbosity=-1 if arguments.quiet else arguments.verbose,
            no_color=arguments.no_color,
        )
    )


def _list(arguments: argparse.Namespace) -> int:
    return _print_list(_selected(arguments, load_cases()))


def _print_list(cases: Sequence[Case]) -> int:
    width = max((len(one.id) for one in cases), default=0)
    for one in cases:
        sys.stdout.write(f"{one.id:<{width}}  {one.level:<8}  {one.title}\n")
    sys.stdout.write(f"{len(cases)} cases\n")
    return ExitCode.CONFORMANT if cases else ExitCode.NOTHING_RAN


def _show(arguments: argparse.Namespace) -> int:
    library = load_cases()
    known = rule(arguments.id.upper())
    if known.known:
        citing = [one for one in library.values() if known.id in one.requirements]
        lines = _rule_lines(known.id)
        lines += [f"  case    {one.id}  {one.title}" for one in citing] or ["  no case cites it"]
        sys.stdout.write("\n".join(lines) + "\n")
        return ExitCode.CONFORMANT
    chosen = select(library.values(), patterns=[arguments.id])
    if not chosen:
        raise SelectionError(f"there is no case {arguments.id!r}")
    for one in chosen:
        sys.stdout.write("\n".join(_description(one)) + "\n")
    return ExitCode.CONFORMANT


def _rule_lines(requirement: str) -> list[str]:
    known = rule(requirement)
    text = f"{known.id} {known.level} ({known.source}): {known.text}"
    return textwrap.wrap(text, 96, initial_indent="  rule    ", subsequent_indent=" " * 10)


def _description(one: Case) -> list[str]:
    lines = [one.id, f"  {one.title}"]
    for requirement in one.requirements:
        lines += _rule_lines(requirement)
    lines.append(f"  checks  {', '.join(one.checks)}")
    if one.twin is not None:
        twin = one.twin if isinstance(one.twin, str) else "the same without the violation"
        lines.append(f"  twin    {twin}")
    remarks = [name for name in ("exclusive", "timed") if getattr(one, name)]
    if one.features:
        remarks.append(f"needs {', '.join(one.features)}")
    if remarks:
        lines.append(f"  how     {', '.join(remarks)}")
    code = inspect.unwrap(one.function).__code__
    lines.append(f"  source  {Path(code.co_filename).name}:{code.co_firstlineno}")
    return lines
