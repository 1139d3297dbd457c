"""The command line of the fuzzers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from muxwire_fuzz.engine import Progress
    from muxwire_fuzz.harness import Target

FINDING = 1
FAILED = 3
INTERRUPTED = 130

EXAMPLES = """
\b
Examples:
  python -m muxwire_fuzz list
  python -m muxwire_fuzz run                     every target for a minute
  python -m muxwire_fuzz run connection --time 600
  python -m muxwire_fuzz repro fuzz/regressions/decoder/0123456789abcdef
  python -m muxwire_fuzz minimise .fuzz/findings/decoder/0123456789abcdef
  python -m muxwire_fuzz minimise decoder        the corpus of a target
  python -m muxwire_fuzz coverage --missing

Exit status: 0 all invariants hold, 1 a finding, 2 wrong usage, 3 the fuzzer itself failed,
130 interrupted.
"""


@click.group(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Fuzz the reference and the judge, and look at what was found."""


@main.command("list")
def list_() -> None:
    """Show the targets."""
    from muxwire_fuzz import store
    from muxwire_fuzz.targets import NAMES, load

    for name in NAMES:
        target = load(name)
        seeds = sum(1 for _ in target.seeds())
        corpus = sum(1 for _ in store.stored(store.CORPUS / name))
        click.echo(
            f"{name:<12} {target.doc}\n{'':<12} {seeds} seeds, {corpus} inputs in the corpus"
        )


def _targets(
    _context: click.Context, _parameter: click.Parameter, names: Sequence[str]
) -> list[str]:
    from muxwire_fuzz.targets import NAMES

    for name in names:
        if name not in NAMES:
            raise click.BadParameter(f"there is no target {name}; they are {', '.join(NAMES)}")
    return list(names or NAMES)


_work = click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".fuzz"),
    show_default=True,
    help="Folder for new inputs and for findings.",
)


@main.command()
@click.argument("targets", nargs=-1, callback=_targets)
@click.option(
    "--time",
    "seconds",
    type=click.FloatRange(min=1),
    default=60.0,
    show_default=True,
    help="Seconds for each target.",
)
@click.option("--seed", default=0, show_default=True, help="Seed of everything random.")
@click.option("--plain", is_flag=True, help="Run in plain Python, without guidance.")
@_work
def run(targets: list[str], seconds: float, seed: int, plain: bool, work: Path) -> None:
    """Run TARGETS, by default all of them, one after another.

    With atheris installed (pip install 'muxwire[fuzz]', Python 3.11 to 3.14) the run is guided by
    coverage. Without it inputs are changed blindly.
    """
    from muxwire_fuzz import engine
    from muxwire_fuzz.targets import load

    if not plain and not engine.available():
        click.echo("atheris is not installed: the runs are not guided by coverage", err=True)
    go = engine.plain if plain else engine.run
    done = []
    for name in targets:
        progress = _interruptible(partial(go, load(name), seconds, work, seed, _tell))
        _tell(progress, last=True)
        done.append(progress)
        if progress.report:
            click.echo(f"\n{progress.report}\n")
    sys.exit(FINDING if any(progress.report for progress in done) else 0)


def _interruptible(work: Callable[[], Progress]) -> Progress:
    from muxwire_fuzz.engine import EngineError

    try:
        return work()
    except EngineError as error:
        click.echo(f"\nerror: {error}", err=True)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        click.echo("\ninterrupted", err=True)
        sys.exit(INTERRUPTED)


def _tell(progress: Progress, *, last: bool = False) -> None:
    edges = f", {progress.edges} edges, {progress.new_edges} new" if progress.guided else ""
    verdict = (", FINDING" if progress.report else ", no finding") if last else ""
    line = (
        f"{progress.target:<12} {progress.seconds:5.0f} s  {progress.runs:>9,} inputs, "
        f"{progress.rate:>7,.0f}/s{edges}{verdict}"
    )
    terminal = sys.stdout.isatty()
    if last:
        click.echo(f"\r{line}" if terminal else line)
    elif terminal:
        click.echo(f"\r{line}", nl=False)


_target = click.option("--target", "name", help="The target; else the name of the file's folder.")
_file = click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))


def _load(name: str | None, file: Path) -> Target:
    from muxwire_fuzz.targets import load

    try:
        return load(name or file.resolve().parent.name)
    except LookupError as error:
        raise click.UsageError(f"{error}; say --target") from None


@main.command()
@_target
@_file
def repro(name: str | None, file: Path) -> None:
    """Judge the input in FILE once more and show it in words. Needs no atheris."""
    from muxwire_fuzz.findings import judge, report

    target = _load(name, file)
    data = file.read_bytes()
    broken = judge(target, data)
    if broken is not None:
        click.echo(report(target, broken, str(file)))
        sys.exit(FINDING)
    click.echo(f"{target.show(data)}\n\n{target.name}: every invariant holds")


@main.command()
@_target
@click.argument("what", metavar="FILE|TARGET")
@_work
def minimise(name: str | None, what: str, work: Path) -> None:
    """Make the finding in FILE, or the corpus of TARGET, small.

    A smaller finding breaks the same invariant; it is written beside FILE. A corpus keeps the
    shortest inputs that reach everything that it and the new inputs of past runs reach.
    """
    from muxwire_fuzz.targets import NAMES

    if what in NAMES:
        _minimise_corpus(what, work)
        return
    file = Path(what)
    if not file.is_file():
        raise click.UsageError(f"{what} is neither a file nor a target ({', '.join(NAMES)})")
    _minimise_finding(_load(name, file), file)


def _minimise_finding(target: Target, file: Path) -> None:
    from muxwire_fuzz import store
    from muxwire_fuzz.findings import judge, report, shrink

    broken = judge(target, file.read_bytes())
    if broken is None:
        raise click.UsageError(f"{file} breaks nothing in {target.name}")
    small = shrink(target, broken)
    path = store.save(file.parent, small.data)
    click.echo(report(target, small, str(path)))
    sys.exit(FINDING)


def _minimise_corpus(name: str, work: Path) -> None:
    from muxwire_fuzz import store
    from muxwire_fuzz.findings import judge
    from muxwire_fuzz.targets import load
    from muxwire_fuzz.trimming import trim

    target = load(name)
    old = dict(store.stored(store.CORPUS / name))
    offered = old | dict(store.stored(work / "corpus" / name))
    good = {key: data for key, data in offered.items() if judge(target, data) is None}
    chosen = trim(target, target.seeds(), good)
    for key in old:
        (store.CORPUS / name / key).unlink()
    for data in chosen:
        store.save(store.CORPUS / name, data)
    octets = sum(map(len, chosen))
    click.echo(f"{name}: {len(offered)} inputs, {len(chosen)} kept, {octets:,} octets")


@main.command()
@click.argument("targets", nargs=-1, callback=_targets)
@click.option("--runs", default=500, show_default=True, help="Changed inputs for each target.")
@click.option("--missing", is_flag=True, help="Show the lines and branches that are not reached.")
@click.option("--fail-under", type=float, default=0.0, help="Fail below so many percent in all.")
def coverage(targets: list[str], runs: int, missing: bool, fail_under: float) -> None:
    """Measure which lines and branches TARGETS reach in what they are about."""
    from muxwire_fuzz import measure

    try:
        modules = measure.measure(targets, runs, lambda name: click.echo(f"{name} ...", err=True))
    except measure.MeasureError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(FAILED)
    click.echo(measure.render(modules, missing=missing), nl=False)
    total = measure.total_of(modules).percent
    if total < fail_under:
        click.echo(f"{total:.1f} % is less than {fail_under:g} %", err=True)
        sys.exit(FINDING)
