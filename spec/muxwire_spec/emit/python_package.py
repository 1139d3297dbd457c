"""Emit `muxwire/_generated/__init__.py`, so that the folder holds generated files only."""

from __future__ import annotations

from muxwire_spec.emit.source import BANNER
from muxwire_spec.model import Spec

PATH = "reference/muxwire/_generated/__init__.py"


def emit(spec: Spec) -> dict[str, bytes]:
    """Return the package's own module."""
    return {PATH: f'{BANNER}"""Codec, tables and numbers of {spec.name}, generated."""\n'.encode()}
