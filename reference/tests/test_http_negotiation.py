"""The choice of a format: the vectors, and the specification's own program on random fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from muxwire.errors import InvalidArgument
from muxwire.http.negotiation import Choice, check_format, negotiate
from muxwire_spec import formats

VECTORS = Path(__file__).parents[2] / "spec/vectors/http/accept.json"

PIECES = (
    *("text", "event-stream", "application", "x-ndjson", "jsonl", "vnd.wmx-stream", "octet-stream"),
    *("*", "/", ";", "q", "=", "0", "0.5", "1", "1.5", ",", '"', "\\", " ", "\t", "a"),
    *(";q=0.3", ";Q=0.2", "text/*", "*/*", "application/*"),
)


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_text())["vectors"], ids=str)
def test_the_choice_of_each_vector(vector: dict[str, Any]) -> None:
    chosen = negotiate(vector["accept"], vector["default"])
    assert (chosen and chosen.media_type) == vector["type"]


@given(st.lists(st.sampled_from(PIECES)).map("".join), st.sampled_from([*"sn", "binary"]))
@example(" " * 8_000 + "x", "binary")
@example('"' * 8_001, "binary")
@example('a/b;c="' + "d" * 8_000, "binary")
def test_the_choice_is_that_of_the_specification(accept: str, default: str) -> None:
    name = {"s": "sse", "n": "ndjson"}.get(default, default)
    chosen = negotiate(accept, name)
    assert (chosen and chosen.media_type) == formats.negotiate(accept, name)


def test_a_choice_names_the_format_behind_an_alias() -> None:
    assert negotiate("application/jsonl") == Choice("ndjson", "application/jsonl")


def test_a_format_that_does_not_exist_is_named() -> None:
    assert check_format("binary") == "binary"
    with pytest.raises(InvalidArgument, match="'xml' is not a format: one of sse, ndjson, binary"):
        check_format("xml")
