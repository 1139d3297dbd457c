"""``serve``: judge a client that cannot be started by the judge."""

from __future__ import annotations

import argparse
from functools import partial

from muxwire_conformance.client_mode.serve import LIST, serve
from muxwire_conformance.commands import options
from muxwire_conformance.commands.judging import judge
from muxwire_conformance.explain import SERVED
from muxwire_conformance.target import Address, parse_address

_EXAMPLES = f"""\
The server is a worker whose answers are cases. Your client connects and requests {LIST}; the
answer has one message for each subject. Request them in that order, each on whatever connection
is open: NAME.twin is answered well, and after NAME the judge breaks one rule, so the connection
ends and your client dials again.

Offered are only the cases in which one request is enough and the connection shows the outcome:
violations of the worker in frames, types, flags, payloads and ids. Cases that tell the client to do
something (kill, pause, own settings), or ask what its caller was told, need check-client.

The verdicts are printed as they come; reports are written at the end: Ctrl-C, or --once.

examples:
  muxwire-conformance serve --bind 127.0.0.1:7700
  muxwire-conformance serve --bind '[::1]:7700' FRM TYP --once --json run.json

{options.EXIT_CODES}"""


def add(commands: options.Commands) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "serve",
        help="judge a client that connects by itself",
        description="Offer client cases by the subject of a request.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_selection(parser)
    group = parser.add_argument_group("server")
    group.add_argument(
        "--bind",
        default="127.0.0.1:0",
        metavar="HOST:PORT",
        help="where to listen; port 0 lets the system choose (default: %(default)s)",
    )
    group.add_argument(
        "--once", action="store_true", help="end when every selected case has a verdict"
    )
    options.add_run(parser)
    options.add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    host, _colon, port = arguments.bind.rpartition(":")
    if port == "0":
        address = Address(host=parse_address(f"{host}:1").host, port=0)
    else:
        address = parse_address(arguments.bind)
    run = partial(serve, address=address, once=arguments.once)
    return judge(arguments, run, role="client", targets=[SERVED], only=lambda one: one.served)
