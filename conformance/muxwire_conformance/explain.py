"""Explain a result that is not a pass: the rule, what was expected, what came, and the octets.

The octets are named by ``muxwire_spec.hexdump``, so every field of every frame is shown with its
meaning, and the first field that breaks a rule of the specification carries its mark.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from muxwire_spec import hexdump

from muxwire_conformance import wire
from muxwire_conformance.causes import likely_cause
from muxwire_conformance.paths import TCP
from muxwire_conformance.rules import rule
from muxwire_conformance.transcript import HTTP_1, KEEP_OCTETS, Entry, Transcript
from muxwire_conformance.verdict import Result, Verdict

PROGRAM = "muxwire-conformance"
SERVED = "serve"
"""What stands for the target where the client connects by itself."""
WIDTH = 100
BEFORE_MARK = 2
AFTER_MARK = 4
MOST_ENTRIES = 240
"""Entries of a connection in the text, without -v."""
MOST_TRANSCRIPTS = 4
MARK = ">>>"


def rerun_command(case_id: str, *, target: str, seed: int, role: str = "worker") -> str:
    """Return the one command that runs a case again as it ran."""
    if role == "worker":
        option = "--target-cmd" if "{port}" in target else "--target"
        words = ["check", case_id, option, target]
        words += ["--profile", "full"] if "+" in case_id else []
    elif target == SERVED:
        words = ["serve", case_id, "--once"]
    else:
        words = ["check-client", case_id, "--client-cmd", target]
    words = [*invocation(), *words, "--seed", str(seed), "-v"]
    return shlex.join(words)


@functools.cache
def invocation() -> tuple[str, ...]:
    """Return how to start this program so that it works when pasted into a shell.

    Its name is enough where the shell finds it: not in a tox environment, whose folder is on the
    search path only while tox runs.
    """
    script = shutil.which(PROGRAM)
    own = script is not None and Path(script).parent == Path(sys.executable).parent
    if own and "TOX_ENV_DIR" not in os.environ:
        return (PROGRAM,)
    return (sys.executable, "-m", "muxwire_conformance")


def explain(result: Result, *, target: str, seed: int, verbose: bool = False) -> list[str]:
    """Return the explanation of a result as lines of text.

    Args:
        result: A result that is not a pass.
        target: The target as the user wrote it.
        seed: Seed of the run.
        verbose: Decode every frame field by field, not only those around the offending one.
    """
    lines = [f"{result.verdict.value} {result.id}", *_labelled("", result.title)]
    lines += _rule(result)
    if result.reason:
        lines += _labelled("reason", result.reason)
    if result.known:
        lines += _labelled("known", result.known)
    if result.expected:
        lines += _labelled("expected", result.expected)
    if result.actual:
        lines += _labelled("actual", result.actual)
    if cause := likely_cause(result):
        lines += _labelled("cause", f"probably: {cause}")
    for check in result.checks:
        if check.warning and check.actual != result.actual:
            lines += _labelled("warning", f"{check.name}: {check.actual}")
    others = sorted({seen.requirement for seen in result.violations} - {result.requirement})
    if others:
        lines += _labelled("also", f"frames received broke {', '.join(others)}")
    if result.traceback:
        lines += [f"    {line}" for line in result.traceback.rstrip().splitlines()]
    for transcript in _chosen(result.transcripts):
        lines += dialogue_lines(transcript, verbose=verbose)
    hidden = len(result.transcripts) - len(_chosen(result.transcripts))
    if hidden:
        lines.append(f"  ({hidden} more connections are not shown)")
    if result.ran or result.verdict is Verdict.INCONCLUSIVE:
        again = result.rerun or result.id
        command = rerun_command(again, target=target, seed=seed, role=result.role)
        if octets := replay_command(result):
            lines += ["  say the same octets again (the report is of --json)", f"    {octets}"]
        lines += ["  run it again", f"    {command}"]
    return lines


def replay_command(result: Result) -> str:
    """Return the command that says the octets of a result again, "" if nothing can be said."""
    if result.role != "worker" or result.path != TCP or not result.transcripts:
        return ""
    return shlex.join([*invocation(), "replay", "REPORT.json", "--case", result.id])


def _rule(result: Result) -> list[str]:
    known = rule(result.requirement)
    place = f", {known.source}" if known.source else ""
    return _labelled("rule", f"{known.id} {known.level}{place}: {known.text}")


def _labelled(label: str, text: str) -> list[str]:
    head = f"  {label:<9} " if label else "  "
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)) or [
        head.rstrip()
    ]


def _chosen(transcripts: Sequence[Transcript]) -> list[Transcript]:
    """Return the connections worth showing: the marked ones first, else the last ones."""
    marked = [one for one in transcripts if any(entry.marked for entry in one.entries())]
    rest = [one for one in transcripts if one not in marked]
    chosen = marked[:MOST_TRANSCRIPTS]
    chosen += rest[-(MOST_TRANSCRIPTS - len(chosen)) :] if len(chosen) < MOST_TRANSCRIPTS else []
    return [one for one in transcripts if one in chosen]


def dialogue_lines(transcript: Transcript, *, verbose: bool = True) -> list[str]:
    """Return the transcript of one connection as lines of text."""
    entries = transcript.entries()
    detailed = _detailed(entries) if not verbose else set(range(len(entries)))
    lines = [f"  {transcript.label}"]
    skipped = False
    hidden = set() if verbose else _far_from_both_ends(len(entries)) - detailed
    for index, entry in enumerate(entries):
        if index in hidden:
            if index - 1 not in hidden:
                lines.append("      ... (-v shows every entry)")
            continue
        mark = MARK if entry.marked else "   "
        at = f"+{(entry.at - transcript.started) * 1_000:.1f} ms"
        note = f" ({entry.note})" if entry.note else ""
        lines.append(f"  {mark} {at:>12}  {entry.who:<6}  {entry.shown}{note}")
        if entry.who == "event":
            continue
        if index in detailed:
            lines += [f"          {line}" for line in decode(entry)]
        else:
            skipped = True
    if skipped:
        lines.append("      (-v decodes every frame)")
    return lines


def _far_from_both_ends(count: int) -> set[int]:
    return set(range(MOST_ENTRIES // 2, count - MOST_ENTRIES // 2))


def _detailed(entries: Sequence[Entry]) -> set[int]:
    marks = [index for index, entry in enumerate(entries) if entry.marked]
    if not marks:
        return set(range(max(0, len(entries) - AFTER_MARK), len(entries)))
    near: set[int] = set()
    for mark in marks[:3]:
        near |= set(range(mark - BEFORE_MARK, mark + AFTER_MARK + 1))
    return near


def decode(entry: Entry) -> list[str]:
    """Return the octets of an entry field by field; the first fault is marked below its field."""
    if entry.protocol == HTTP_1:
        return [repr(line)[1:-1] for line in entry.raw.decode("latin-1").split("\r\n")]
    lines: list[str] = []
    for line, fault in annotated(entry):
        lines += hexdump.render([_without_fault(line)]).splitlines()
        if fault:
            lines.append(f"        ^^ {fault}")
    if lines and (more := entry.length - len(entry.raw[:KEEP_OCTETS])):
        lines.append(f"        ... {more} octets not shown")
    return lines


def annotated(entry: Entry) -> list[tuple[hexdump.Line, str]]:
    """Return the fields of an entry, each with what is wrong with it, "" for nothing.

    A rule of the specification that the octets break comes before the remark of the case.
    """
    if not entry.raw or entry.protocol == HTTP_1:
        return []
    default = "worker" if entry.who == "judge" else "client"
    raw = entry.raw[:KEEP_OCTETS]
    fields = hexdump.annotate(raw, receiver=entry.receiver or default, protocol=entry.protocol)
    if raw[0] != wire.MARKER and wire.looks_like_frame(raw, entry.length):
        fields = _behind_a_wrong_marker(raw, fields[0])
    if entry.length > len(raw):
        fields = [_without_fault(line) for line in fields]
    return [(line, _fault(entry, line)) for line in fields]


def _fault(entry: Entry, line: hexdump.Line) -> str:
    if line.fault is not None:
        return f"{line.fault.requirement} {line.fault.code}: {line.fault.text}"
    return entry.remark if line.field == entry.field else ""


def _behind_a_wrong_marker(raw: bytes, marker: hexdump.Line) -> list[hexdump.Line]:
    """Name the fields of a frame of which only the marker is wrong; it keeps its mark."""
    fields = hexdump.annotate(bytes([wire.MARKER]) + raw[1:])
    first = hexdump.Line(
        offset=0,
        octets=raw[:1],
        field=marker.field,
        value=f"0x{raw[0]:02x}",
        fault=marker.fault,
    )
    return [first, *(_without_fault(line) for line in fields[1:])]


def _without_fault(line: hexdump.Line) -> hexdump.Line:
    return hexdump.Line(
        offset=line.offset, octets=line.octets, field=line.field, value=line.value, fault=None
    )


def plain(lines: Iterable[str]) -> str:
    """Join lines to one text."""
    return "\n".join(lines)
