"""``replay``: say a recorded failure again, and tell whether the same happens."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from muxwire_conformance import reproducer
from muxwire_conformance.commands import options
from muxwire_conformance.explain import PROGRAM
from muxwire_conformance.recorded import RecordError, find, load
from muxwire_conformance.replay import prepare
from muxwire_conformance.target import SELF, Bundled, StartError, parse_address
from muxwire_conformance.verdict import ExitCode

_EXAMPLES = """\
examples:
  muxwire-conformance check --target 127.0.0.1:7700 --json run.json
  muxwire-conformance replay run.json --case FRM-002/request
  muxwire-conformance replay run.json --case FRM-002/request --target 127.0.0.1:7701

It speaks TCP without TLS only.

exit codes: 0 something else happens now, 1 the same happens again, 2 wrong usage,
3 no worker at the target
"""


def add(commands: options.Commands) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "replay",
        help="say the octets of a recorded failure again, and compare what comes back",
        description="Say the octets of a recorded failure to a target again, at the same pace.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_record(parser)
    parser.add_argument(
        "--target", metavar="HOST:PORT", help="whom to say it (default: the recorded target)"
    )
    parser.set_defaults(run=_run)


def add_record(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a recorded case."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a JSON or JSON lines report")
    parser.add_argument(
        "--case", metavar="ID", help="which case; needed when the file holds several"
    )


def _run(arguments: argparse.Namespace) -> int:
    try:
        data = prepare(find(load(arguments.file), arguments.case))
    except RecordError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return ExitCode.USAGE
    target = arguments.target or data["target"]
    if target != SELF:
        address = parse_address(target)
        if address.tls is not None:
            text = f"{target}: replay speaks no TLS; run the case again: check {data['id']}"
            sys.stderr.write(f"{PROGRAM}: {text} --target {target}\n")
            return ExitCode.USAGE
        return reproducer.main(data, [str(address)])
    try:
        return asyncio.run(_with_bundled(data))
    except StartError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return ExitCode.UNREACHABLE


async def _with_bundled(data: reproducer.Data) -> int:
    worker = await Bundled.start()
    try:
        return await asyncio.to_thread(reproducer.main, data, [str(worker.address)])
    finally:
        await worker.stop()
