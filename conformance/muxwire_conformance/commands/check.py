"""``check``: judge a worker."""

from __future__ import annotations

import argparse
import os

from muxwire_conformance.callback import Callback, parse_place
from muxwire_conformance.check import check
from muxwire_conformance.commands import options
from muxwire_conformance.commands.judging import judge
from muxwire_conformance.config import Repeated
from muxwire_conformance.launched import read_command
from muxwire_conformance.target import SELF, TargetError, parse_address, with_tls

_EXAMPLES = f"""\
examples:
  muxwire-conformance check                                judge the bundled worker
  muxwire-conformance check --target 127.0.0.1:7700        judge your worker
  muxwire-conformance check --target-cmd './server --port {{port}}'
  muxwire-conformance check HSK FRM-002 'MSG-*/empty*'     only these cases
  muxwire-conformance check -k 'ping and not flags' -x -v  pick by words, stop at the first failure
  muxwire-conformance check --target tls://host:7700 --tls-ca ca.pem --tls-cert me.pem
  muxwire-conformance check --json run.json --junit run.xml --strict
  muxwire-conformance check --html run.html --jsonl run.jsonl --markdown run.md
  muxwire-conformance check --target 127.0.0.1:1 --target 127.0.0.1:2 --html both.html
  muxwire-conformance check --write-baseline known.toml    then give each entry its reason
  muxwire-conformance check --baseline known.toml --exclude 'DOS-*'
  muxwire-conformance check --lf -v                        only what failed last time

{options.EXIT_CODES}"""


def add(commands: options.Commands) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "check",
        help="judge a worker",
        description="Judge the worker at --target.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_selection(parser)
    group = parser.add_argument_group("target")
    group.add_argument(
        "--target",
        action=Repeated,
        dest="targets",
        metavar="HOST:PORT",
        help="HOST:PORT, tcp://HOST:PORT, tls://HOST:PORT, http://HOST:PORT, [V6]:PORT, or self for"
        " the bundled worker; the ports of its other paths are learnt from conformance.info; repeat"
        " it to judge several in turn (default: $MUXWIRE_TARGET, else self)",
    )
    group.add_argument(
        "--target-cmd",
        metavar="CMD",
        help="start the target with this command, {port} replaced by a free port of 127.0.0.1, and"
        " start it again when it has crashed",
    )
    group.add_argument(
        "--wait",
        type=options.seconds,
        default=0.0,
        metavar="SECONDS",
        help="wait so long for something to listen at the target",
    )
    group = parser.add_argument_group("call-home, for targets that have to dial back to the judge")
    group.add_argument(
        "--callback-bind",
        metavar="ADDRESS[:PORT]",
        help="listen here for the worker; from PORT on, a port for each listener (default: the"
        " judge's own address on the way to the target, and free ports)",
    )
    group.add_argument(
        "--callback-advertise",
        metavar="ADDRESS[:PORT]",
        help="tell the worker this address instead, as behind NAT or a container's port mapping",
    )
    group = parser.add_argument_group("TLS, for targets given as tls://HOST:PORT")
    for name, words in (
        ("ca", "certificates that the target's must lead to (default: those of the system)"),
        ("cert", "client certificate; says that the target demands one"),
        ("key", "its key, if it is in another file"),
        ("name", "name in the target's certificate (default: the host)"),
    ):
        metavar = "NAME" if name == "name" else "FILE"
        group.add_argument(f"--tls-{name}", metavar=metavar, default="", help=words)
    options.add_run(parser)
    options.add_output(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    callback = Callback(
        bind=parse_place(arguments.callback_bind) if arguments.callback_bind else None,
        advertise=parse_place(arguments.callback_advertise)
        if arguments.callback_advertise
        else None,
    )
    launch = read_command(arguments.target_cmd) if arguments.target_cmd else ()
    if launch:
        if arguments.targets:
            raise TargetError("give --target or --target-cmd, not both")
        return judge(
            arguments,
            check,
            role="worker",
            targets=[arguments.target_cmd],
            wait=arguments.wait,
            launch=launch,
            callback=callback,
        )
    targets = arguments.targets or [os.environ.get("MUXWIRE_TARGET") or SELF]
    names = ("ca", "cert", "key", "name")
    files = {name: getattr(arguments, f"tls_{name}") for name in names}
    targets = [with_tls(target, **files) for target in targets]
    for target in targets:
        if target != SELF:
            parse_address(target)  # refuse it before anything is started
    return judge(
        arguments, check, role="worker", targets=targets, wait=arguments.wait, callback=callback
    )
