"""Where inputs are kept: the corpus and the regressions of the repository, and what a run finds.

Rules of this file: an input is a file in a folder named after its target, its name is the digest of
its octets.  Seeds are computed and never stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from muxwire_fuzz.harness import Target

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "corpus"
REGRESSIONS = ROOT / "regressions"
WORK = Path(".fuzz")
"""Where runs leave what they find, below the working directory."""


def name_of(data: bytes) -> str:
    """Return the name under which an input is stored."""
    return hashlib.sha256(data).hexdigest()[:16]


def stored(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the inputs of a folder with their names, in order; none if there is no folder."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            yield path.name, path.read_bytes()


def save(folder: Path, data: bytes) -> Path:
    """Write an input and return where it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name_of(data)
    path.write_bytes(data)
    return path


def inputs(target: Target, work: Path | None = None) -> dict[str, bytes]:
    """Return every input that a target begins with, by a name that says where it is from."""
    found = {f"seed {number}": data for number, data in enumerate(target.seeds())}
    for kind in (CORPUS, REGRESSIONS):
        found |= {f"{kind.name} {name}": data for name, data in stored(kind / target.name)}
    if work is not None:
        found |= {f"work {name}": data for name, data in stored(work / "corpus" / target.name)}
    return found
