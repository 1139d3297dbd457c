"""Every generated file: what it must contain, writing it, and comparing it with the tree.

`expected` is a pure function of the specification and of the prose. `write` makes the tree equal
to it; `check` compares the set of files and every octet, both ways, and lints prose and data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from muxwire_spec import soundness
from muxwire_spec.emit import (
    conversations,
    data,
    driver,
    http_vectors,
    prose,
    python_codec,
    python_http,
    python_machines,
    python_package,
    python_registries,
    vectors,
)
from muxwire_spec.lint import lint
from muxwire_spec.model import Spec
from muxwire_spec.requirements import RequirementError, chapters, parse
from muxwire_spec.spec import load_spec

ROOT = Path(__file__).resolve().parents[2]
"""The repository: the emitters' paths are relative to it."""

TEXT = prose.FOLDER
"""The folder of the prose, which is read as well as written."""

EMITTERS: tuple[Callable[[Spec], dict[str, bytes]], ...] = (
    python_package.emit,
    python_registries.emit,
    python_machines.emit,
    python_codec.emit,
    python_http.emit,
    data.emit_spec,
    driver.emit,
    vectors.emit,
    conversations.emit,
    http_vectors.emit,
)
"""What is made from the specification alone. `expected` adds what the prose has a part in."""

OWNED = ("reference/muxwire/_generated", data.FOLDER, vectors.FOLDER)
"""Folders that hold generated files and nothing else."""

DATA = "spec/muxwire_spec"
"""Where the data stands that `soundness` checks."""

TextError = (prose.ProseError, RequirementError)
"""What is raised when the prose cannot be read; the messages start with file:line."""


def expected(root: Path = ROOT) -> dict[str, bytes]:
    """Return every generated file with its content, by path relative to the repository.

    Raises:
        ProseError: a generated region of the prose has an unknown name or no end.
        RequirementError: a requirement block of the prose is malformed, or there is none.
    """
    spec = load_spec()
    files: dict[str, bytes] = {}
    for emit in EMITTERS:
        files |= emit(spec)
    sources = {path.name: path.read_bytes().decode() for path in chapters(root / TEXT)}
    texts = prose.fill_all(spec, sources)
    # The lines that requirements stand on are those behind filled regions.
    return files | prose.emit(texts) | data.emit_requirements(texts)


def write(root: Path = ROOT) -> list[str]:
    """Write what differs and remove what is not expected; return the paths touched.

    Raises:
        ProseError: as `expected`; nothing has been written then.
        RequirementError: as `expected`; nothing has been written then.
    """
    touched = []
    files = expected(root)
    for path, content in files.items():
        target = root / path
        if not target.is_file() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            touched.append(path)
    for path in _strays(root, files):
        (root / path).unlink()
        touched.append(path)
    return touched


def check(root: Path = ROOT) -> list[str]:
    """Return what is wrong: one line for each problem of the prose, the data, and each file.

    A file can be missing, edited, or one that should not be there. From unsound data no file is
    made.
    """
    problems = [f"{TEXT}/{problem}" for problem in lint(root / TEXT)]
    if unsound := _unsound(root):
        return [*problems, *(f"{DATA}: {problem}" for problem in unsound)]
    try:
        files = expected(root)
    except TextError as error:
        return list(dict.fromkeys((*problems, f"{TEXT}/{error}")))
    for path, content in files.items():
        target = root / path
        if not target.is_file():
            problems.append(f"{path}: missing")
        elif (found := target.read_bytes()) != content:
            problems.append(f"{path}: differs from the specification at {_where(found, content)}")
    problems += [f"{path}: no emitter makes this file" for path in _strays(root, files)]
    return problems


def _unsound(root: Path) -> list[str]:
    try:
        texts = {found.id: found.text for found in parse(root / TEXT)}
    except RequirementError:
        return []  # `expected` says so
    return soundness.problems(load_spec(), texts)


def _where(found: bytes, content: bytes) -> str:
    for number, (a, b) in enumerate(
        zip(found.split(b"\n"), content.split(b"\n"), strict=False), start=1
    ):
        if a != b:
            return f"line {number}"
    return "its end"


def _strays(root: Path, files: dict[str, bytes]) -> list[str]:
    found = []
    for folder in OWNED:
        for path in sorted((root / folder).rglob("*")):
            relative = path.relative_to(root).as_posix()
            if path.is_file() and "__pycache__" not in path.parts and relative not in files:
                found.append(relative)
    return found
