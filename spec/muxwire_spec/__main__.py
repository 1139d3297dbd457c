"""`python -m muxwire_spec`: write or check the generated files, lint the text, explain octets."""

from __future__ import annotations

import argparse
import binascii
import re
import sys
from pathlib import Path

from muxwire_spec import generated, hexdump
from muxwire_spec.interpret import WCH, WMX

_EXAMPLES = """\
examples:
  python -m muxwire_spec check                      the generated files match the specification
  python -m muxwire_spec emit                       write them anew
  python -m muxwire_spec hexdump f704000100...      explain the frames in a line of hex
  python -m muxwire_spec hexdump capture.bin        ... in a binary file
  python -m muxwire_spec hexdump --receiver router f703002000...   frames of WCH/1
  some-program | python -m muxwire_spec hexdump -   ... from standard input, hex or binary
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 fine, 1 a problem was found, 2 wrong usage."""
    parser = argparse.ArgumentParser(
        prog="python -m muxwire_spec",
        description="The machine-readable specification of WMX/1 and WCH/1.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="compare every generated file with the specification")
    commands.add_parser("emit", help="write every generated file that differs")
    dump = commands.add_parser("hexdump", help="name every octet of frames, mark the first fault")
    dump.add_argument("source", help="hex digits, a file, or - for standard input")
    dump.add_argument(
        "--receiver",
        choices=("worker", "client", "router"),
        default="worker",
        help="whose rules decide what is faulty (default: worker); a router is one of WCH/1",
    )
    dump.add_argument(
        "--callhome",
        action="store_true",
        help="the frames are of WCH/1; a preface of WCH/1 says so by itself",
    )
    arguments = parser.parse_args(argv)
    if arguments.command == "hexdump":
        callhome = arguments.callhome or arguments.receiver == "router"
        if callhome and arguments.receiver == "client":
            parser.error("WCH/1 has no client: the receiver is the worker or the router")
        return _hexdump(arguments.source, arguments.receiver, callhome)
    if not (generated.ROOT / generated.TEXT).is_dir():
        sys.stderr.write(f"{arguments.command}: {generated.ROOT} is no checkout of muxwire\n")
        return 2
    return _check() if arguments.command == "check" else _emit()


def _check() -> int:
    problems = generated.check()
    for problem in problems:
        _say(problem)
    if problems:
        _say(
            f"{len(problems)} problem{'s' * (len(problems) > 1)}; "
            "`python -m muxwire_spec emit` writes the generated files"
        )
        return 1
    _say(f"{len(generated.expected())} generated files match the specification")
    return 0


def _emit() -> int:
    try:
        touched = generated.write()
    except generated.TextError as error:
        _say(f"{generated.TEXT}/{error}")
        _say("nothing was written")
        return 1
    for path in touched:
        _say(path)
    _say(f"{len(touched)} file{'s' * (len(touched) != 1)} changed")
    return 0


def _hexdump(source: str, receiver: str, callhome: bool) -> int:
    try:
        data = _octets(source)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"hexdump: {error}\n")
        return 2
    faulty = False
    protocol = WCH if callhome else WMX
    for lines in hexdump.annotate_stream(data, receiver=receiver, protocol=protocol):
        _say(hexdump.render(lines) + "\n")
        faulty = faulty or any(line.fault for line in lines)
    return 1 if faulty else 0


def _octets(source: str) -> bytes:
    """Return the octets that an argument names.

    Raises:
        ValueError: it is neither hex digits nor a file, or there are no octets.
        OSError: the file cannot be read.
    """
    octets = None if source == "-" else _from_hex(source)
    if octets is not None:
        return octets
    if source == "-":
        data = sys.stdin.buffer.read()
    elif 0 < len(source) < 4_096 and Path(source).exists():
        data = Path(source).read_bytes()
    else:
        shown = source if len(source) <= 64 else f"{source[:64]}..."
        raise ValueError(f"{shown!r} is neither hex digits nor a file")
    if not data:
        raise ValueError("there are no octets")
    return _from_hex(data.decode("ascii", "replace")) or data


def _from_hex(text: str) -> bytes | None:
    digits = re.sub(r"[\s:,]", "", text)
    try:
        return binascii.unhexlify(digits) if digits else None
    except (binascii.Error, ValueError):
        return None


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
