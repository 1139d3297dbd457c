"""The command line: ``muxwire-conformance COMMAND``; each command is a module of ``commands``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from muxwire_conformance import config
from muxwire_conformance.baseline import BaselineError
from muxwire_conformance.commands import (
    check,
    check_client,
    compare,
    decode,
    diff,
    export,
    lint,
    listing,
    options,
    replay,
    serve,
    show,
)
from muxwire_conformance.config import ConfigError
from muxwire_conformance.explain import PROGRAM
from muxwire_conformance.report.head import suite_version
from muxwire_conformance.selection import SelectionError
from muxwire_conformance.target import TargetError
from muxwire_conformance.verdict import ExitCode

COMMANDS = (
    check,
    check_client,
    serve,
    compare,
    diff,
    lint,
    replay,
    export,
    decode,
    listing,
    show,
)

_EXAMPLES = f"""\
examples:
  muxwire-conformance check                                judge the bundled worker
  muxwire-conformance check --target 127.0.0.1:7700        judge your worker
  muxwire-conformance check-client --client-cmd CMD        judge your client
  muxwire-conformance check --help                         what else check can do
  muxwire-conformance compare old.json new.json            what got worse, what got better
  muxwire-conformance list --area FRM
  muxwire-conformance show FRM-002/marker-f6

{options.EXIT_CODES}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    try:
        if _configure(arguments):
            arguments = parser.parse_args(argv)
        return int(arguments.run(arguments))
    except (SelectionError, TargetError, ConfigError, BaselineError) as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return ExitCode.USAGE
    except KeyboardInterrupt:
        sys.stderr.write(f"{PROGRAM}: interrupted\n")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Nobody reads our output any more (| head).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.SUITE_ERROR


def _configure(arguments: argparse.Namespace) -> bool:
    """Make the options of a file the defaults of the chosen command; tell whether there is one."""
    if not hasattr(arguments, "config") or arguments.no_config:
        return False
    if arguments.config is not None:
        found = (arguments.config, config.read(arguments.config))
    elif (near := config.find(Path.cwd())) is not None:
        found = near
    else:
        return False
    config.apply(arguments.parser, *found)
    return True


def build_parser() -> argparse.ArgumentParser:
    """Build the argument parser."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Judge an implementation of WMX/1 against the muxwire specification.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {suite_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add(commands)
    return parser
