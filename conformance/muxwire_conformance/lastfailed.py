"""Which cases failed last time, for ``--lf``.

The JSON report that is about to be replaced knows it, or a small cache file does. The cache knows
the latest targets only. That it cannot be written is no error of a run.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from muxwire_conformance.report.collect import Collector
from muxwire_conformance.report.json import runs_of
from muxwire_conformance.verdict import RED, Verdict

MOST_TARGETS = 50
_BAD = RED | {Verdict.ERROR}
_NAMES = {verdict.value for verdict in _BAD}


def cache_path(environment: Mapping[str, str]) -> Path:
    """Return where the cache is."""
    folder = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME") or ".") / ".cache"
    return Path(folder) / "muxwire-conformance" / "last-failed.json"


def last_failed(targets: Iterable[str], report: Path | None, cache: Path) -> set[str] | None:
    """Return the ids that failed in the latest run of these targets, None if nothing is known."""
    wanted = set(targets)
    found = _from_report(wanted, report) if report is not None else None
    if found is not None:
        return found
    known = _read(cache)
    lists = [known[target] for target in wanted if target in known]
    return {str(id) for ids in lists for id in ids} if lists else None


def _from_report(targets: set[str], path: Path) -> set[str] | None:
    try:
        runs = runs_of(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError):
        return None  # no report yet: the cache may know
    runs = [run for run in runs if str(run.get("target")) in targets]
    if not runs:
        return None
    return {
        str(result["id"])
        for run in runs
        for result in run["results"]
        if isinstance(result, dict) and str(result.get("verdict")) in _NAMES and "id" in result
    }


def _read(path: Path) -> dict[str, list[Any]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    known = document if isinstance(document, dict) else {}
    return {target: ids for target, ids in known.items() if isinstance(ids, list)}


class LastFailed(Collector):
    """The report that keeps the cache.

    Args:
        path: The cache file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        """Write the cache."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            spare = self._path.with_name(f"{self._path.name}.{os.getpid()}")
            spare.write_text(json.dumps(self._updated()), encoding="utf-8")
            spare.replace(self._path)

    def _updated(self) -> dict[str, Sequence[str]]:
        known = _read(self._path)
        for run in self._runs:
            if run.summary is None:
                continue
            # What did not run this time has not been repaired: it stays.
            ran = {result.id for result in run.results if result.ran}
            failed = {result.id for result in run.results if result.verdict in _BAD}
            before = known.pop(run.target, [])
            known[run.target] = sorted(failed | (set(map(str, before)) - ran))
        return dict(list(known.items())[-MOST_TARGETS:])
