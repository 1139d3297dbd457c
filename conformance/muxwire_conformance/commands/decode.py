"""``decode``: octets field by field, as ``python -m muxwire_spec hexdump`` shows them."""

from __future__ import annotations

import argparse

from muxwire_spec.__main__ import main as spec_main

from muxwire_conformance.commands import options

_EXAMPLES = """\
examples:
  muxwire-conformance decode f7040001 00000000 00000000 00000008 0000...   spaces do not matter
  muxwire-conformance decode dump.bin                   a file: octets, or hex as text
  muxwire-conformance decode --receiver client f702...  what a worker sent, as a client reads it
  some-program | muxwire-conformance decode -           standard input

exit codes: 0 nothing is wrong, 1 a rule is broken, 2 these are no octets
"""


def add(commands: options.Commands) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "decode",
        help="show octets field by field, and the first broken rule of each frame",
        description="Show prefaces and frames field by field, with the first rule each breaks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", nargs="+", help="hex digits, a file, or - for standard input")
    parser.add_argument(
        "--receiver",
        choices=("worker", "client", "router"),
        default="worker",
        help="whose rules decide what is wrong (default: worker); a router is one of call-home",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    source = " ".join(arguments.source)
    return spec_main(["hexdump", "--receiver", arguments.receiver, "--", source])
