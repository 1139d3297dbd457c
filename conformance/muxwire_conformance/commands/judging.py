"""What ``check`` and ``check-client`` do alike: select, load the baseline, and run."""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from muxwire_conformance.baseline import Baseline, BaselineReport, load_baseline
from muxwire_conformance.callback import Callback
from muxwire_conformance.case import PACKAGES, Case, load_cases
from muxwire_conformance.check import Request
from muxwire_conformance.commands import options
from muxwire_conformance.commands.listing import print_list
from muxwire_conformance.explain import PROGRAM
from muxwire_conformance.full_profile import variants
from muxwire_conformance.lastfailed import LastFailed, cache_path, last_failed
from muxwire_conformance.report.outputs import Files
from muxwire_conformance.session import Options
from muxwire_conformance.verdict import ExitCode


def judge(
    arguments: argparse.Namespace,
    run: Callable[[Request], ExitCode],
    *,
    role: str,
    targets: Sequence[str],
    wait: float = 0.0,
    launch: Sequence[str] = (),
    only: Callable[[Case], bool] = lambda _one: True,
    callback: Callback | None = None,
) -> int:
    """Run the selected cases of a role, or list them, and return the exit code.

    Args:
        arguments: What the command line says.
        run: Judges the targets.
        role: Which side is judged.
        targets: What is judged.
        wait: Seconds to wait for a target.
        launch: The command that starts the target, if the judge does.
        only: Which cases there are at all.
        callback: Where workers can dial back.

    Raises:
        SelectionError: the selection is malformed or names what does not exist.
        BaselineError: the baseline is malformed.
    """
    library = {id: one for id, one in load_cases(role).items() if only(one)}
    if arguments.profile == "full":
        library |= {one.id: one for one in variants(library.values())}
    cases = options.selected(arguments, library)
    if arguments.lf:
        cases = _failed_before(arguments, cases, targets)
    if arguments.list:
        return print_list(cases)
    if not cases:
        sys.stderr.write(f"{PROGRAM}: nothing is selected\n")
        return ExitCode.NOTHING_RAN
    baseline = load_baseline(arguments.baseline) if arguments.baseline else Baseline(())
    return run(
        Request(
            targets=targets,
            cases=cases,
            library=library,
            options=_run_options(arguments, baseline),
            wait=wait,
            launch=launch,
            callback=callback or Callback(),
            timeout=arguments.timeout,
            strict=arguments.strict,
            files=_files(arguments, baseline),
            verbosity=-1 if arguments.quiet else arguments.verbose,
            no_color=arguments.no_color,
            unmatched=baseline.unmatched(_known_ids()) if baseline.entries else (),
        )
    )


def _known_ids() -> set[str]:
    # One baseline may serve for both roles.
    cases = [one for role in PACKAGES for one in load_cases(role).values()]
    return {one.id for one in (*cases, *variants(cases))}


def _failed_before(
    arguments: argparse.Namespace, cases: Sequence[Case], targets: Sequence[str]
) -> list[Case]:
    failed = last_failed(targets, arguments.json, cache_path(os.environ))
    if failed is None:
        sys.stderr.write(f"{PROGRAM}: no earlier run of this target is known, so all cases run\n")
        return list(cases)
    return [one for one in cases if one.id in failed]


def _run_options(arguments: argparse.Namespace, baseline: Baseline) -> Options:
    drawn = random.SystemRandom().randrange(2**32)
    return Options(
        jobs=arguments.jobs,
        seed=drawn if arguments.seed is None else arguments.seed,
        stop_at_first=arguments.stop,
        max_time=arguments.max_time,
        confirm=arguments.confirm,
        revise=baseline.revise,
    )


def _files(arguments: argparse.Namespace, baseline: Baseline) -> Files:
    step_summary = os.environ.get("GITHUB_STEP_SUMMARY")
    others: list[tuple[Callable[[Path], BaselineReport | LastFailed], Path]] = [
        (LastFailed, cache_path(os.environ))
    ]
    if arguments.write_baseline is not None:
        kind = partial(BaselineReport, old=baseline, strict=arguments.strict)
        others.append((kind, arguments.write_baseline))
    return Files(
        json=arguments.json,
        jsonl=arguments.jsonl,
        junit=arguments.junit,
        markdown=arguments.markdown,
        step_summary=Path(step_summary) if step_summary else None,
        html=arguments.html,
        badge=arguments.badge,
        others=others,
    )
