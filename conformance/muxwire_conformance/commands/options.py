"""Options that several commands share, and the values they take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from muxwire_conformance.case import Case
from muxwire_conformance.config import Repeated
from muxwire_conformance.frozen import load_frozen, versions
from muxwire_conformance.paths import PATHS
from muxwire_conformance.patience import DEFAULT_TIMEOUT
from muxwire_conformance.selection import LEVELS, select

EXIT_CODES = """\
exit codes: 0 conformant, 1 not conformant, 2 wrong usage, 3 no worker at the target,
4 error of the suite or of a report, 5 nothing selected or nothing ran, 130 interrupted
"""

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose cases."""
    group = parser.add_argument_group("selection")
    group.add_argument(
        "cases",
        nargs="*",
        metavar="CASE",
        help="case ids, requirement ids, areas, or globs such as 'FRM-*/bad-*' (default: all)",
    )
    group.add_argument(
        "--area", action=Repeated, default=[], help="only this area, for example HSK (repeatable)"
    )
    group.add_argument(
        "--path",
        action=Repeated,
        default=[],
        metavar="PATH",
        help=f"only this path: {', '.join(PATHS)} (repeatable, or separated by commas)",
    )
    group.add_argument(
        "--exclude",
        action=Repeated,
        default=[],
        metavar="CASE",
        help="leave these out: ids, requirement ids, areas or globs (repeatable)",
    )
    group.add_argument(
        "--spec",
        choices=versions(),
        help="only rules of the frozen set of this version (default: all rules)",
    )
    group.add_argument("--level", choices=LEVELS, help="only requirements of this level")
    group.add_argument(
        "-k",
        dest="expression",
        metavar="EXPR",
        help="only cases whose id or title has these words; and, or, not, parentheses",
    )


def selected(arguments: argparse.Namespace, library: dict[str, Case]) -> list[Case]:
    """Return the cases that the arguments choose.

    Raises:
        SelectionError: the selection is malformed or names what does not exist.
    """
    return select(
        library.values(),
        patterns=arguments.cases,
        areas=arguments.area,
        paths=arguments.path,
        excluded=arguments.exclude,
        requirements=load_frozen(arguments.spec).levels if arguments.spec else None,
        level=arguments.level,
        expression=arguments.expression,
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how cases run."""
    group = parser.add_argument_group("run")
    group.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT,
        metavar="SECONDS",
        help="how long absence is waited for, 0 for ever (default: %(default)g)",
    )
    group.add_argument(
        "--max-time",
        type=seconds,
        default=600.0,
        metavar="SECONDS",
        help="end the whole run after so long, 0 never (default: %(default)g)",
    )
    group.add_argument(
        "--jobs", type=jobs, default=8, metavar="N", help="cases at once (default: %(default)s)"
    )
    group.add_argument(
        "--confirm",
        type=times,
        default=2,
        metavar="N",
        help="run each failure again so often, alone, to tell FAIL from FLAKY"
        " (default: %(default)s)",
    )
    group.add_argument(
        "--profile",
        choices=("default", "full"),
        default="default",
        help="full: every decoder case of a worker also cut at each octet, joined, and dribbled",
    )
    group.add_argument("--seed", type=seed, default=None, help="seed of ids and payloads")
    group.add_argument("--strict", action="store_true", help="warnings make the exit code 1")
    group.add_argument("-x", dest="stop", action="store_true", help="stop at the first failure")
    group.add_argument("--lf", action="store_true", help="only what failed in the last run")
    group.add_argument("--list", action="store_true", help="list what would run, and exit")
    group = parser.add_argument_group("known failures and configuration")
    group.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="TOML file of cases that are known to fail; they still run, and have to fail still",
    )
    group.add_argument(
        "--write-baseline",
        type=Path,
        metavar="FILE",
        help="write a baseline from what fails now; give each entry its reason",
    )
    group.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="read options from this file (default: the first conformance.toml, or"
        " [tool.muxwire.conformance] in pyproject.toml, upward from here)",
    )
    group.add_argument("--no-config", action="store_true", help="read no such file")
    parser.set_defaults(parser=parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is written."""
    group = parser.add_argument_group("output")
    group.add_argument("--json", type=Path, metavar="FILE", help="write a JSON report")
    group.add_argument(
        "--jsonl", type=Path, metavar="FILE", help="write JSON lines while the judge runs"
    )
    group.add_argument("--junit", type=Path, metavar="FILE", help="write a JUnit XML report")
    group.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write a Markdown report (it is also appended to $GITHUB_STEP_SUMMARY)",
    )
    group.add_argument(
        "--html", type=Path, metavar="FILE", help="write one HTML page that needs no network"
    )
    group.add_argument(
        "--badge", type=Path, metavar="FILE", help="write JSON for a shields.io badge"
    )
    group.add_argument(
        "-v", "--verbose", action="count", default=0, help="show every case and every frame"
    )
    group.add_argument("-q", "--quiet", action="store_true", help="show the summary only")
    group.add_argument("--no-color", action="store_true", help="no colours (also: NO_COLOR)")


def seconds(text: str) -> float:
    """Read a number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def jobs(text: str) -> int:
    """Read how many cases run at once."""
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 256")
    return int(text)


def times(text: str) -> int:
    """Read how often something is done."""
    if not text.isdecimal() or int(text) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100")
    return int(text)


def seed(text: str) -> int:
    """Read a seed."""
    if not text.isdecimal() or int(text) >= 2**64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 2^64 - 1")
    return int(text)
