"""``compare``: what changed between two JSON reports."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from muxwire_conformance.commands import options
from muxwire_conformance.compare import Comparison, compare_reports
from muxwire_conformance.explain import PROGRAM
from muxwire_conformance.report.json import runs_of
from muxwire_conformance.verdict import ExitCode

_EXAMPLES = """\
A case that passed and now fails, warns, does not apply, or is not there any more, counts as worse.

examples:
  muxwire-conformance compare main.json branch.json
  muxwire-conformance compare --json main.json branch.json | jq '.[0].worse'

exit codes: 0 nothing got worse, 1 something did, 2 a file cannot be read or compared
"""
_KINDS = ("worse", "fixed", "new", "gone", "other")


def add(commands: options.Commands) -> None:
    """Add the parser."""
    parser = commands.add_parser(
        "compare",
        help="what changed between two JSON reports",
        description="Compare two JSON reports, as written by check --json.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("old", type=Path, help="the older report")
    parser.add_argument("new", type=Path, help="the newer report")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    try:
        found = compare_reports(_read(arguments.old), _read(arguments.new))
    except ValueError as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return ExitCode.USAGE
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for one in found for line in _lines(one)))
    worse = any(one.worse for one in found)
    return ExitCode.NOT_CONFORMANT if worse else ExitCode.CONFORMANT


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return runs_of(document if isinstance(document, dict) else {})
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _lines(found: Comparison) -> list[str]:
    lines = [found.target, *(f"note: {note}" for note in found.notes)]
    for kind in _KINDS:
        for change in getattr(found, kind):
            reason = f"  {change.reason}" if kind == "worse" and change.reason else ""
            verdicts = f"{change.before or 'absent'} -> {change.after or 'absent'}"
            lines.append(f"{kind:<5}  {change.id}  {verdicts}{reason}")
    return [*lines, " / ".join(f"{kind} {len(getattr(found, kind))}" for kind in _KINDS)]
