"""Emit `spec/vectors/streams`, `timed` and `callhome`: conversations as JSON."""

from __future__ import annotations

import json
from typing import Any

from muxwire_spec.model import Spec
from muxwire_spec.vectors.callhome_router import EXCHANGE, ROUTER
from muxwire_spec.vectors.callhome_worker import WORKER
from muxwire_spec.vectors.conversation import Conversation
from muxwire_spec.vectors.streams import STREAMS
from muxwire_spec.vectors.timed import TIMED

FOLDERS = {"streams": STREAMS, "timed": TIMED}
CALLHOME = {"worker": WORKER, "router": ROUTER}


def emit(spec: Spec) -> dict[str, bytes]:
    """Return a file for each group of conversations, and the recorded exchange."""
    wch = spec.callhome.name
    exchange = json.dumps({"protocol": wch, **EXCHANGE}, indent=1, ensure_ascii=False)
    return {
        **{
            f"spec/vectors/{folder}/{name}.json": _file(spec.name, group).encode()
            for folder, groups in FOLDERS.items()
            for name, group in groups.items()
        },
        **{
            f"spec/vectors/callhome/{name}.json": _file(wch, group).encode()
            for name, group in CALLHOME.items()
        },
        "spec/vectors/callhome/exchange.json": f"{exchange}\n".encode(),
    }


def counts() -> tuple[int, int]:
    """Return how many conversations there are without and with a clock."""
    streams, timed = (sum(map(len, groups.values())) for groups in FOLDERS.values())
    return streams, timed


def _file(protocol: str, group: tuple[Conversation, ...]) -> str:
    """Return a file with one member of a conversation, and one step, to a line."""
    items = ",\n".join(f"  {{\n{_conversation(found)}\n  }}" for found in group)
    return f'{{\n "protocol": {_dump(protocol)},\n "vectors": [\n{items}\n ]\n}}\n'


def _conversation(found: Conversation) -> str:
    members: dict[str, Any] = {
        "name": found.name,
        "doc": found.doc,
        "requirements": list(found.requirements),
        "role": found.role,
        "config": dict(found.config),
        "free": list(found.free),
    }
    head = "".join(f"   {_dump(name)}: {_dump(value)},\n" for name, value in members.items())
    steps = ",\n".join(
        "    " + _dump({"requirements": list(s.requirements), "doc": s.doc, **s.body})
        for s in found.steps
    )
    return f'{head}   "steps": [\n{steps}\n   ]'


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
