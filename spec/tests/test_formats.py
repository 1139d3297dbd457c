"""The choice of a format (P1-001): the matrix of RFC 9110 section 12.5.1, decided by hand."""

from __future__ import annotations

import pytest
from muxwire_spec.formats import FORMATS, negotiate

SSE = "text/event-stream"
NDJSON = "application/x-ndjson"
BINARY = "application/vnd.wmx-stream"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, SSE),
        ("", SSE),
        (" , ,", SSE),
        ("*/*", SSE),
        (SSE, SSE),
        (NDJSON, NDJSON),
        (BINARY, BINARY),
        ("application/ndjson", "application/ndjson"),
        ("application/jsonl", "application/jsonl"),
        ("application/octet-stream", "application/octet-stream"),
        ("TEXT/Event-Stream", SSE),
        ("text/*", SSE),
        ("application/*", NDJSON),
        (f"{SSE};q=0.5, {NDJSON}", NDJSON),
        (f"{NDJSON};q=0.2, application/jsonl;q=0.9", "application/jsonl"),
        (f"*/*;q=0.1, {SSE};q=0", NDJSON),
        (f"{SSE};q=0, application/*;q=0", None),
        (f"*/*, {SSE};q=0.1, application/*;q=0.2", NDJSON),
        ("*/*;q=0", None),
        (f"{SSE};q=0", None),
        ("text/html", None),
        ("text/html, application/json", None),
        (f"text/html, {BINARY};q=0.001", BINARY),
        (f"{SSE};q=1.5", SSE),
        (f"{SSE};q=1.5, {NDJSON};q=0.3", NDJSON),
        (f"{SSE};q=abc, text/html", None),
        (f"{SSE};q=1.000", SSE),
        (f"{SSE};q=0.1234, {NDJSON};q=0.1", NDJSON),
        (f"{SSE}; charset=utf-8; q=0.4, {NDJSON} ;q=0.3", SSE),
        (f'{SSE};note="a,b;q=0";q=0.4, {NDJSON};q=0.3', SSE),
        ("*/event-stream", SSE),
        (f"nonsense, {NDJSON}", NDJSON),
        ("nonsense", SSE),
        (f"{BINARY}, {NDJSON}, {SSE}", SSE),
    ],
)
def test_the_choice(accept: str | None, expected: str | None) -> None:
    assert negotiate(accept) == expected


@pytest.mark.parametrize(
    ("accept", "default", "expected"),
    [
        (None, "ndjson", NDJSON),
        ("*/*", "binary", BINARY),
        (f"{SSE}, {NDJSON}", "ndjson", NDJSON),
        (SSE, "binary", SSE),
        (f"{SSE};q=0.9, */*;q=0.8", "binary", SSE),
        ("application/*", "sse", NDJSON),
        ("application/*", "binary", BINARY),
    ],
)
def test_ties_and_wildcards_prefer_the_default(
    accept: str | None, default: str, expected: str
) -> None:
    assert negotiate(accept, default) == expected


def test_no_media_type_belongs_to_two_formats() -> None:
    types = [type_ for found in FORMATS for type_ in found.types]
    assert len(set(types)) == len(types)
