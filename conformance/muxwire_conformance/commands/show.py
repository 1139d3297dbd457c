"""``show``: a case or a requirement with its rule."""

from __future__ import annotations

import argparse
import inspect
import sys
import textwrap
from pathlib import Path

from muxwire_conformance.case import Case, load_cases
from muxwire_conformance.commands import options
from muxwire_conformance.rules import rule
from muxwire_conformance.selection import SelectionError, select
from muxwire_conformance.verdict import ExitCode

_EXAMPLES = """\
examples:
  muxwire-conformance show FRM-002
  muxwire-conformance show FRM-002/marker-f6
"""


def add(commands: options.Commands) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "show",
        help="show a case or a requirement with its rule",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("id", help="case id or requirement id")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    library = {**load_cases("worker"), **load_cases("client")}
    known = rule(arguments.id.upper())
    if known.known:
        citing = [one for one in library.values() if known.id in one.requirements]
        lines = _rule_lines(known.id)
        lines += [f"  case    {one.id}  {one.title}" for one in citing] or ["  no case cites it"]
        sys.stdout.write("\n".join(lines) + "\n")
        return ExitCode.CONFORMANT
    chosen = select(library.values(), patterns=[arguments.id])
    if not chosen:
        raise SelectionError(f"there is no case {arguments.id!r}")
    for one in chosen:
        sys.stdout.write("\n".join(_description(one)) + "\n")
    return ExitCode.CONFORMANT


def _rule_lines(requirement: str) -> list[str]:
    known = rule(requirement)
    text = f"{known.id} {known.level} ({known.source}): {known.text}"
    return textwrap.wrap(text, 96, initial_indent="  rule    ", subsequent_indent=" " * 10)


def _description(one: Case) -> list[str]:
    lines = [one.id, f"  {one.title}"]
    for requirement in one.requirements:
        lines += _rule_lines(requirement)
    lines.append(f"  checks  {', '.join(one.checks)}")
    if one.twin is not None:
        twin = one.twin if isinstance(one.twin, str) else "the same without the violation"
        lines.append(f"  twin    {twin}")
    lines.append(f"  judges  a {one.role}")
    remarks = [name for name in ("exclusive", "timed") if getattr(one, name)]
    if one.features:
        remarks.append(f"needs {', '.join(one.features)}")
    if remarks:
        lines.append(f"  how     {', '.join(remarks)}")
    code = inspect.unwrap(one.function).__code__
    lines.append(f"  source  {Path(code.co_filename).name}:{code.co_firstlineno}")
    return lines
