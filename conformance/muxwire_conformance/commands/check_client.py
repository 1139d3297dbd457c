"""``check-client``: judge a client that a driver program wraps."""

from __future__ import annotations

import argparse
import sys

from muxwire_conformance.client_mode.check import check_client
from muxwire_conformance.client_mode.driver import split_command
from muxwire_conformance.client_mode.session import NOWHERE
from muxwire_conformance.commands import options
from muxwire_conformance.commands.judging import judge
from muxwire_conformance.explain import PROGRAM
from muxwire_conformance.verdict import ExitCode

_EXAMPLES = f"""\
The driver is a program that wraps the client and speaks wmx-driver/1 (section 19.4 of the
specification): JSON lines, operations on its standard input, events on its standard output. One
process is started for each case. {{host}} and {{port}} are replaced; if neither
occurs, the driver is told the address with its first operation.

examples:
  muxwire-conformance check-client --client-cmd 'muxwire driver'      the bundled client
  muxwire-conformance check-client --client-cmd './driver {{host}} {{port}}'
  muxwire-conformance check-client --client-cmd './driver' HSK REC-002 -v
  muxwire-conformance check-client --client-cmd './driver' --json run.json --junit run.xml

{options.EXIT_CODES}"""


def add(commands: options.Commands) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "check-client",
        help="judge a client",
        description="Judge the client that the program of --client-cmd wraps.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_selection(parser)
    group = parser.add_argument_group("client")
    group.add_argument(
        "--client-cmd",
        metavar="CMD",
        help="how to start the driver; no shell is used, quote words as in one",
    )
    options.add_run(parser)
    options.add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    command = arguments.client_cmd
    if command is None:
        arguments.parser.error("--client-cmd is missing: how is the driver started?")
    try:
        split_command(command, NOWHERE)
    except ValueError as error:
        sys.stderr.write(f"{PROGRAM}: --client-cmd {command!r}: {error}\n")
        return ExitCode.USAGE
    return judge(arguments, check_client, role="client", targets=[command])
