"""``lint``: hold two foreign peers to the rules, as a proxy or on records."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import IO

from muxwire_conformance.commands import options
from muxwire_conformance.explain import PROGRAM
from muxwire_conformance.lint import Findings, Listener, lint_records
from muxwire_conformance.proxy import Proxy
from muxwire_conformance.recorded import RecordError, load
from muxwire_conformance.target import Address, parse_address
from muxwire_conformance.verdict import ExitCode

_EXAMPLES = """\
examples:
  muxwire-conformance lint --listen 127.0.0.1:7701 --target 127.0.0.1:7700
        stand between your clients and your worker until Ctrl-C
  muxwire-conformance lint --listen 127.0.0.1:0 --target 127.0.0.1:7700 --jsonl talk.jsonl
  muxwire-conformance lint talk.jsonl          the same rules over what was written down
  muxwire-conformance lint run.json            over the transcripts in a report of check

The proxy changes nothing: octets, ends and pace pass through. It sees TCP without TLS only.

exit codes: 0 no violation, 1 violations, 2 wrong usage, 3 cannot listen, 4 error of this program,
5 nothing was seen
"""


def add(commands: options.Commands) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "lint",
        help="hold two foreign peers to the rules: as a proxy, or on what was recorded",
        description="Judge both sides of conversations that somebody else holds.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="reports of check, or logs of lint"
    )
    parser.add_argument("--listen", metavar="HOST:PORT", help="where clients connect; port 0: any")
    parser.add_argument("--target", metavar="HOST:PORT", help="the worker")
    parser.add_argument("--jsonl", type=Path, metavar="FILE", help="write every frame to a log")
    parser.add_argument(
        "--max-time",
        type=options.seconds,
        default=0.0,
        metavar="SECONDS",
        help="end after so long (default: at Ctrl-C)",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show every frame")
    parser.set_defaults(run=lambda arguments: _run(parser, arguments))


def _run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    live = arguments.listen is not None or arguments.target is not None
    if bool(arguments.files) == live or (live and not (arguments.listen and arguments.target)):
        parser.error("give files, or both --listen and --target")
    findings = Findings(_say, verbose=arguments.verbose)
    if not live:
        try:
            for path in arguments.files:
                lint_records(load(path), findings)
        except RecordError as error:
            _complain(str(error))
            return ExitCode.USAGE
        return _finish(findings)
    listen, target = _address(arguments.listen), parse_address(arguments.target)
    if target.tls is not None:
        _complain(f"{arguments.target}: the proxy cannot read TLS; it needs a worker without")
        return ExitCode.USAGE
    try:
        with contextlib.ExitStack() as stack:
            if arguments.jsonl is not None:
                findings.log = stack.enter_context(_open(arguments.jsonl))
            asyncio.run(_serve(listen, target, findings, arguments.max_time or None))
    except OSError as error:
        _complain(str(error))
        return ExitCode.UNREACHABLE
    return _finish(findings)


def _address(text: str) -> Address:
    """Read where to listen; unlike a target, the port may be 0."""
    host, colon, port = text.rpartition(":")
    if colon and port == "0":
        return Address(host=parse_address(f"{host}:1").host, port=0)
    return parse_address(text)


def _open(path: Path) -> IO[str]:
    return path.open("w", encoding="utf-8", buffering=1)


async def _serve(
    listen: Address, target: Address, findings: Findings, seconds: float | None
) -> None:
    proxy = Proxy(target, lambda number, name: Listener(findings, number, name))
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError):
            loop.add_signal_handler(number, over.set)
    try:
        where = await proxy.listen(listen)
        _say(f"listening at {where}, passing on to {target}; Ctrl-C ends with the summary")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await over.wait()
    finally:
        await proxy.close()


def _finish(findings: Findings) -> int:
    for line in findings.summary():
        _say(line)
    return findings.exit_code()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"{PROGRAM}: {text}\n")
