"""``export``: a recorded failure as one Python script for people without this program."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from muxwire_conformance.commands import options
from muxwire_conformance.commands.replay import add_record
from muxwire_conformance.explain import PROGRAM
from muxwire_conformance.recorded import RecordError, find, load
from muxwire_conformance.replay import prepare, script
from muxwire_conformance.verdict import ExitCode

_EXAMPLES = """\
examples:
  muxwire-conformance export run.json --case FRM-002/request -o repro.py
  python repro.py 127.0.0.1:7700       exit code 1: it happens again, 0: it does not
"""


def add(commands: options.Commands) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "export",
        help="write a recorded failure as a Python script that needs nothing else",
        description="Write a recorded failure as a script with its octets and expectations inside.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_record(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: print it")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        text = script(prepare(find(load(arguments.file), arguments.case)))
        if arguments.output is None:
            sys.stdout.write(text)
        else:
            arguments.output.write_text(text, encoding="utf-8")
    except RecordError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return ExitCode.USAGE
    except OSError as error:
        sys.stderr.write(f"{PROGRAM}: {arguments.output} cannot be written: {error.strerror}\n")
        return ExitCode.SUITE_ERROR
    return ExitCode.CONFORMANT
