"""The choice of a format, decided by hand: the matrix of RFC 9110 section 12.5.1 (P1-001)."""

from __future__ import annotations

from muxwire_spec.formats import BINARY, FORMATS, NDJSON, SSE

_EVENT, _NDJSON, _FRAMES = (found.types[0] for found in FORMATS)

ACCEPT: tuple[tuple[str | None, str, str | None], ...] = (
    (None, SSE, _EVENT),
    ("", SSE, _EVENT),
    (" , ,", SSE, _EVENT),
    ("*/*", SSE, _EVENT),
    (_EVENT, SSE, _EVENT),
    (_NDJSON, SSE, _NDJSON),
    (_FRAMES, SSE, _FRAMES),
    ("application/ndjson", SSE, "application/ndjson"),
    ("application/jsonl", SSE, "application/jsonl"),
    ("application/octet-stream", SSE, "application/octet-stream"),
    ("TEXT/Event-Stream", SSE, _EVENT),
    ("text/*", SSE, _EVENT),
    ("application/*", SSE, _NDJSON),
    (f"{_EVENT};q=0.5, {_NDJSON}", SSE, _NDJSON),
    (f"{_NDJSON};q=0.2, application/jsonl;q=0.9", SSE, "application/jsonl"),
    (f"*/*;q=0.1, {_EVENT};q=0", SSE, _NDJSON),
    (f"{_EVENT};q=0, application/*;q=0", SSE, None),
    (f"*/*, {_EVENT};q=0.1, application/*;q=0.2", SSE, _NDJSON),
    ("*/*;q=0", SSE, None),
    (f"{_EVENT};q=0", SSE, None),
    ("text/html", SSE, None),
    ("text/html, application/json", SSE, None),
    (f"text/html, {_FRAMES};q=0.001", SSE, _FRAMES),
    (f"{_EVENT};q=1.5", SSE, _EVENT),
    (f"{_EVENT};q=1.5, {_NDJSON};q=0.3", SSE, _NDJSON),
    (f"{_EVENT};q=abc, text/html", SSE, None),
    (f"{_EVENT};q=1.000", SSE, _EVENT),
    (f"{_EVENT};q=0.1234, {_NDJSON};q=0.1", SSE, _NDJSON),
    (f"{_EVENT}; charset=utf-8; q=0.4, {_NDJSON} ;q=0.3", SSE, _EVENT),
    (f'{_EVENT};note="a,b;q=0";q=0.4, {_NDJSON};q=0.3', SSE, _EVENT),
    ("*/event-stream", SSE, _EVENT),
    (f"nonsense, {_NDJSON}", SSE, _NDJSON),
    ("nonsense", SSE, _EVENT),
    (f"{_FRAMES}, {_NDJSON}, {_EVENT}", SSE, _EVENT),
    (None, NDJSON, _NDJSON),
    ("*/*", BINARY, _FRAMES),
    (f"{_EVENT}, {_NDJSON}", NDJSON, _NDJSON),
    (_EVENT, BINARY, _EVENT),
    (f"{_EVENT};q=0.9, */*;q=0.8", BINARY, _EVENT),
    ("application/*", BINARY, _FRAMES),
)
"""An Accept field (None: there is none), the configured default, the type of the answer or 406."""
