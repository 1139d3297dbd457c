"""Running a target for a while: guided by atheris where it is installed, else in plain Python.

Rules of this file: it starts one process for a guided run, reads its progress, and always ends it.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from muxwire_fuzz import store
from muxwire_fuzz.findings import report
from muxwire_fuzz.guided import FOUND
from muxwire_fuzz.harness import Target
from muxwire_fuzz.plain import explore

SLOW = 10
"""Seconds that one input may take."""
LATE = 60
"""Seconds after the end of its time when a guided run is stopped by force."""
_PROGRESS = re.compile(rb"#(\d+)\s+(\w+)\s+cov: (\d+) .*?exec/s: (\d+)")
_SLOW_OR_LARGE = {70: "an input takes no longer than 10 s", 71: "memory stays below 2 GiB"}

Tell = Callable[["Progress"], None]


class EngineError(Exception):
    """A guided run has ended in a way that says nothing; the message has its last words."""


@dataclass(slots=True)
class Progress:
    """How far a run is, and in the end what came of it."""

    target: str
    guided: bool
    runs: int = 0
    seconds: float = 0.0
    edges: int = 0
    new_edges: int = 0
    report: str = ""
    """The finding, in words; "" if there is none."""
    _first: int | None = field(default=None, repr=False)

    @property
    def rate(self) -> float:
        """Inputs in a second."""
        return self.runs / self.seconds if self.seconds else 0.0

    def take(self, line: bytes) -> bool:
        """Read a line of libFuzzer; False if it is no progress."""
        found = _PROGRESS.search(line)
        if found is None:
            return False
        self.runs, self.edges = int(found[1]), int(found[3])
        if self._first is None and found[2] != b"READ":
            self._first = self.edges
        self.new_edges = self.edges - (self.edges if self._first is None else self._first)
        return True


def available() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def run(target: Target, seconds: float, work: Path, seed: int, tell: Tell) -> Progress:
    """Run a target for so many seconds, guided if atheris is there.

    Args:
        target: What is tried.
        seconds: How long.
        work: Where new inputs and findings go.
        seed: Seed of everything random.
        tell: Is called with the progress, about once a second.

    Raises:
        EngineError: the guided run has failed by itself.
    """
    if available():
        return _guided(target, seconds, work, seed, tell)
    return plain(target, seconds, work, seed, tell)


def plain(target: Target, seconds: float, work: Path, seed: int, tell: Tell) -> Progress:
    """Run a target in this process, without guidance."""
    progress = Progress(target.name, guided=False)
    begun = told = time.monotonic()

    def go_on(runs: int) -> bool:
        nonlocal told
        now = time.monotonic()
        progress.runs, progress.seconds = runs, now - begun
        if now - told > 1.0:
            told = now
            tell(progress)
        return progress.seconds < seconds

    pool = store.inputs(target, work).values()
    explored = explore(target, pool, seed=seed, go_on=go_on)
    progress.runs = explored.runs
    if explored.broken is not None:
        path = store.save(work / "findings" / target.name, explored.broken.data)
        progress.report = report(target, explored.broken, str(path))
    return progress


def _guided(target: Target, seconds: float, work: Path, seed: int, tell: Tell) -> Progress:
    corpus = work / "corpus" / target.name
    findings = work / "findings" / target.name
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="muxwire-fuzz-") as scratch:
        seeds = Path(scratch) / "seeds"
        for data in store.inputs(target).values():
            store.save(seeds, data)
        dictionary = Path(scratch) / "dictionary"
        dictionary.write_text(dictionary_of(target.tokens()))
        command = [
            *(sys.executable, "-m", "muxwire_fuzz.guided", target.name, str(findings)),
            f"-max_total_time={max(round(seconds), 1)}",
            f"-max_len={target.longest}",
            f"-timeout={SLOW}",
            "-rss_limit_mb=2048",
            f"-seed={seed + 1}",
            f"-dict={dictionary}",
            f"-artifact_prefix={findings}/",
            *(str(corpus), str(seeds)),
        ]
        output = Path(scratch) / "output"
        with output.open("wb") as told:
            process = subprocess.Popen(command, stdout=told, stderr=subprocess.PIPE)
            try:
                progress, last = _follow(process, target, seconds, tell)
            finally:
                process.kill()
                process.wait()
        return _conclude(progress, process.returncode, output.read_text(), last, findings)


def _follow(
    process: subprocess.Popen[bytes], target: Target, seconds: float, tell: Tell
) -> tuple[Progress, list[bytes]]:
    """Read the progress of a guided run to its end; return it with the last lines."""
    progress = Progress(target.name, guided=True)
    begun = told = time.monotonic()
    last: list[bytes] = []
    if process.stderr is None:
        raise EngineError("a guided run has no output")
    for line in process.stderr:
        now = time.monotonic()
        if progress.take(line):
            progress.seconds = now - begun
            if now - told > 1.0:
                told = now
                tell(progress)
        else:
            last = [*last[-30:], line]
        if now - begun > seconds + LATE:
            process.kill()
    process.wait()
    progress.seconds = time.monotonic() - begun
    return progress, last


def _conclude(
    progress: Progress, status: int, said: str, last: list[bytes], findings: Path
) -> Progress:
    if status == FOUND:
        progress.report = said.strip()
    elif status in _SLOW_OR_LARGE:
        newest = max(findings.iterdir(), key=lambda path: path.stat().st_mtime)
        again = f"python -m muxwire_fuzz repro --target {progress.target} {newest}"
        progress.report = (
            f"FINDING in {progress.target}\n\nbroken: {_SLOW_OR_LARGE[status]}\n\nagain:  {again}"
        )
    elif status:
        words = b"".join(last).decode(errors="replace")
        raise EngineError(f"the guided run of {progress.target} ended with {status}:\n{words}")
    return progress


def dictionary_of(tokens: Iterable[bytes]) -> str:
    """Return tokens as a dictionary of libFuzzer."""
    lines = ("".join(f"\\x{octet:02x}" for octet in token) for token in tokens if token)
    return "".join(f'"{line}"\n' for line in lines)
