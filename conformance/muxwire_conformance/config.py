"""Options from a file: ``conformance.toml``, or ``[tool.muxwire.conformance]`` in pyproject.toml.

Rules of this file:

* The first file found upward from the working directory counts, and no other.
* A key is the name of a long option without its hyphens in front. What the file says is the
  default; the command line is stronger. A repeated option on the command line replaces the list.
* An environment variable is stronger than the file and weaker than the command line.
* An unknown key is an error that names the nearest one. A relative path is relative to the file.
"""

from __future__ import annotations

import argparse
import difflib
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = "conformance.toml"
NOT_IN_A_FILE = frozenset({"help", "list", "lf", "write-baseline", "config", "no-config"})

ENVIRONMENT = {"target": "MUXWIRE_TARGET"}


class ConfigError(ValueError):
    """The file is malformed; one clear line."""


class Repeated(argparse.Action):
    """An option that may be repeated; the first one on the command line replaces the default."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002 - the signature is argparse's
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        """Add one value."""
        present = getattr(namespace, self.dest)
        kept = [] if present is self.default else present
        setattr(namespace, self.dest, [*kept, values])


def find(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the first file upward that has options, with them.

    Raises:
        ConfigError: a file on the way cannot be read.
    """
    for place in (folder, *folder.parents):
        if (path := place / FILE).is_file():
            return path, read(path)
        if (path := place / "pyproject.toml").is_file():
            table = _inner(_parse(path))
            if table is not None:
                return path, table
    return None


def read(path: Path) -> dict[str, Any]:
    """Read one file, of either kind.

    Raises:
        ConfigError: it cannot be read.
    """
    document = _parse(path)
    return (_inner(document) or {}) if path.name == "pyproject.toml" else document


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _inner(document: dict[str, Any]) -> dict[str, Any] | None:
    table: Any = document
    for name in ("tool", "muxwire", "conformance"):
        table = table.get(name) if isinstance(table, dict) else None
    return table if isinstance(table, dict) else None


def apply(parser: argparse.ArgumentParser, path: Path, table: dict[str, Any]) -> None:
    """Make the options of a file the defaults of a command.

    Raises:
        ConfigError: a key is unknown or its value is of the wrong kind.
    """
    actions = {
        name.removeprefix("--"): action
        for action in parser._actions
        for name in action.option_strings
        if name.startswith("--") and name.removeprefix("--") not in NOT_IN_A_FILE
    }
    defaults = {}
    stronger = {key for key, name in ENVIRONMENT.items() if os.environ.get(name)}
    for key, value in table.items():
        if key not in actions:
            near = difflib.get_close_matches(key, actions, n=1, cutoff=0.5)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{path}: {key!r} is no option{hint}")
        action = actions[key]
        try:
            defaults[action.dest] = _value(action, value, path.parent)
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise ConfigError(f"{path}: {key}: {error}") from error
        if key in stronger:
            del defaults[action.dest]
    parser.set_defaults(**defaults)


def _value(action: argparse.Action, value: Any, folder: Path) -> Any:
    if isinstance(action, Repeated):
        items = value if isinstance(value, list) else [value]
        return [_one(action, item, folder) for item in items]
    if action.nargs == 0:
        counts = isinstance(action, argparse._CountAction)
        if not isinstance(value, bool) and not (counts and isinstance(value, int)):
            raise ValueError(f"true or false is wanted, not {value!r}")
        return value
    return _one(action, value, folder)


def _one(action: argparse.Action, value: Any, folder: Path) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"a text or a number is wanted, not {value!r}")
    convert: Any = action.type or str
    found = convert(str(value))
    if action.choices is not None and found not in action.choices:
        raise ValueError(f"{value!r} is none of {', '.join(map(str, action.choices))}")
    return folder / found if isinstance(found, Path) else found
