"""What a report says about the run itself: who judged what, by which text, when."""

from __future__ import annotations

import hashlib
import os
import platform
import time
from importlib import metadata
from typing import Any

from muxwire_spec import requirements
from muxwire_spec.spec import load_spec


def head(*, target: str, role: str, seed: int) -> dict[str, Any]:
    """Return the members that every run has; the caller adds what is known of the target.

    Args:
        target: The target as the user wrote it.
        role: Which side is judged: worker or client.
        seed: Seed of the run.
    """
    return {
        "suite": "muxwire-conformance",
        "suite_version": suite_version(),
        "spec_version": str(load_spec().version),
        "spec_checksum": spec_checksum(),
        "target": target,
        "role": role,
        "seed": seed,
        "environment": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "ci": bool(os.environ.get("CI")),
        },
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def suite_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return metadata.version("muxwire")
    except metadata.PackageNotFoundError:
        return "unknown"


def spec_checksum() -> str:
    """Return a checksum over all requirements, which names the specification that was judged."""
    joined = "".join(f"{one.id}:{one.checksum};" for one in requirements.load().values())
    return hashlib.sha256(joined.encode()).hexdigest()[:16]
