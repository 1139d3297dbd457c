"""Turn a record of the judge's into something that can be said again, here or elsewhere.

The saying itself is in ``reproducer``, which an exported script carries with it.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Any

from muxwire_conformance import reproducer
from muxwire_conformance.paths import TCP, path_of
from muxwire_conformance.recorded import EVENT, Conversation, Piece, Record, RecordError
from muxwire_conformance.referee import CLIENT
from muxwire_conformance.transcript import HALF_CLOSES, NOT_KEPT, RESETS

LONG_MS = 1_500
"""Whoever still looked so long after the last octets has seen that no end came."""

_ENDS = ("connection closed (FIN)", "connection reset (RST)")
_ACTS = {HALF_CLOSES: "half-close", RESETS: "reset"}


def prepare(record: Record) -> dict[str, Any]:
    """Return a record as plain data: what to say when, and what came back.

    Raises:
        RecordError: it cannot be said again.
    """
    if record.judge != CLIENT:
        text = f"{record.id}: the judge was the worker; only a client can start a conversation"
        raise RecordError(text)
    if path_of(record.id) != TCP:
        text = f"{record.id}: only conversations over TCP can be said again, run the case again"
        raise RecordError(text)
    steps: list[dict[str, Any]] = []
    came = {}
    for conversation in record.conversations:
        said = reproducer.Said(b"".join(_sent(conversation, record.judge)))
        heard = reproducer.Heard(
            said,
            exact=_exact(conversation, record.judge),
            patient=record.seconds * 1_000 - _last(conversation) > LONG_MS,
        )
        steps += _steps(conversation, record.judge, heard)
        came[conversation.label] = heard.outcome()
    if not any(step["do"] == "say" for step in steps):
        raise RecordError(f"{record.id}: the judge said nothing")
    steps.sort(key=lambda step: step["ms"])
    return {
        "id": record.id,
        "rule": record.rule,
        "expected": record.expected,
        "actual": record.actual,
        "target": record.target,
        "seconds": record.seconds,
        "steps": steps,
        "came": came,
    }


def script(data: dict[str, Any]) -> str:
    """Return a Python script that needs the standard library only and replays a record."""
    source = inspect.getsource(reproducer)
    _docstring, _quotes, code = source.partition('"""\n\nfrom __future__')
    opening = (
        f'"""Replay {data["id"]}: python FILE HOST:PORT\n\n'
        "Exit code 1: the recorded failure happens again. 0: it does not. 3: nobody is there.\n"
        'Written by muxwire-conformance export; needs Python 3.11 and nothing else.\n"""\n\n'
    )
    text = json.dumps(data, indent=1)
    return (
        f"{opening}from __future__{code}\n\n"
        f"RECORD = json.loads(\n    r'''{text}'''\n)\n\n"
        'if __name__ == "__main__":\n    sys.exit(main(RECORD, sys.argv[1:]))\n'
    ).replace("import selectors\n", "import json\nimport selectors\n", 1)


def _sent(conversation: Conversation, judge: str) -> Iterator[bytes]:
    return (_whole(piece) for piece in conversation.pieces if piece.sender == judge)


def _last(conversation: Conversation) -> float:
    """Return when the last octets were seen, in milliseconds."""
    return max((piece.ms for piece in conversation.pieces if piece.sender != EVENT), default=0.0)


def _exact(conversation: Conversation, judge: str) -> bool:
    pieces = (piece for piece in conversation.pieces if piece.sender != judge)
    return all(piece.length == len(piece.octets) for piece in pieces)


def _whole(piece: Piece) -> bytes:
    return piece.octets + piece.octets[-1:] * (piece.length - len(piece.octets))


def _steps(
    conversation: Conversation, judge: str, heard: reproducer.Heard
) -> Iterator[dict[str, Any]]:
    yield {"do": "open", "on": conversation.label, "ms": conversation.started_ms, "after": 0}
    last: dict[str, Any] = {}
    for piece in conversation.pieces:
        step = {"on": conversation.label, "ms": piece.ms, "after": heard.counted}
        if piece.sender == judge:
            more = piece.length - len(piece.octets)
            if last and last["ms"] == piece.ms and not last["more"]:
                last["hex"] += piece.octets.hex()
                last["more"] = more
                continue
            last = {"do": "say", **step, "hex": piece.octets.hex(), "more": more}
            yield last
            continue
        last = {}
        if piece.sender != EVENT:
            heard.feed(_whole(piece))
        elif NOT_KEPT in piece.text:
            raise RecordError(f"the middle of {conversation.label} was not kept")
        elif piece.text in _ACTS:
            yield {"do": _ACTS[piece.text], **step}
        elif piece.text.startswith(_ENDS):
            heard.ended = True
