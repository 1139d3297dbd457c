"""``list``: list the cases."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from muxwire_conformance.case import PACKAGES, Case, load_cases
from muxwire_conformance.commands import options
from muxwire_conformance.verdict import ExitCode

_EXAMPLES = """\
examples:
  muxwire-conformance list --area FRM
  muxwire-conformance list --role client REC
  muxwire-conformance list -k 'ping and not flags' --level should
"""


def add(commands: options.Commands) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "list",
        help="list the cases",
        description="List the cases: id, level, and what a conformant target does.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_selection(parser)
    parser.add_argument(
        "--role",
        choices=sorted(PACKAGES),
        default="worker",
        help="the cases that judge this side (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    return print_list(options.selected(arguments, load_cases(arguments.role)))


def print_list(cases: Sequence[Case]) -> int:
    """Print the cases and return the exit code."""
    width = max((len(one.id) for one in cases), default=0)
    for one in cases:
        sys.stdout.write(f"{one.id:<{width}}  {one.level:<8}  {one.title}\n")
    sys.stdout.write(f"{len(cases)} cases\n")
    return ExitCode.CONFORMANT if cases else ExitCode.NOTHING_RAN
