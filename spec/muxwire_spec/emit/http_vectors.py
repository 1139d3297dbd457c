"""Emit `spec/vectors/http`: the choice of a format, and bodies with their outcomes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from muxwire_spec.model import Spec
from muxwire_spec.vectors import http
from muxwire_spec.vectors.http_accept import ACCEPT

FOLDER = "spec/vectors/http"


def emit(_: Spec) -> dict[str, bytes]:
    """Return the files; a vector stands on a line."""
    accept = [
        {"accept": accept, "default": default, "type": type_} for accept, default, type_ in ACCEPT
    ]
    bodies = {"whole": http.WHOLE, "broken": http.BROKEN, "odd": http.ODD}
    return {
        f"{FOLDER}/accept.json": _file(accept),
        **{f"{FOLDER}/{name}.json": _file(vectors) for name, vectors in bodies.items()},
    }


def _file(vectors: Iterable[dict[str, Any]]) -> bytes:
    lines = ",\n".join(f"  {json.dumps(vector, ensure_ascii=False)}" for vector in vectors)
    return f'{{\n "vectors": [\n{lines}\n ]\n}}\n'.encode()
