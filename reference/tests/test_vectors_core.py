"""The cores hold every conversation of `spec/vectors`, whole and octet by octet.

The second half spoils each thing that a conversation expects, one at a time: a runner that would
not notice shows nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conversation_runner import MismatchError, Player, octets_of

VECTORS = Path(__file__).resolve().parents[2] / "spec" / "vectors"
FEW = 8_000
"""Octets above which a conversation is not fed one by one."""

Json = dict[str, Any]


def load(folder: str) -> dict[str, Json]:
    return {
        vector["name"]: vector
        for path in sorted((VECTORS / folder).glob("*.json"))
        for vector in json.loads(path.read_bytes())["vectors"]
    }


STREAMS = load("streams")
TIMED = load("timed")
ALL = STREAMS | TIMED
SMALL = [
    name
    for name, vector in STREAMS.items()
    if sum(len(octets_of(step)) for step in vector["steps"] if "receive" in step) <= FEW
]


@pytest.mark.parametrize("name", STREAMS)
def test_a_conversation(name: str) -> None:
    Player(STREAMS[name]).play()


@pytest.mark.parametrize("name", SMALL)
def test_a_conversation_octet_by_octet(name: str) -> None:
    Player(STREAMS[name]).play(pieces=1)


@pytest.mark.parametrize("name", TIMED)
def test_a_timed_conversation(name: str) -> None:
    Player(TIMED[name]).play()


def spoiled(vector: Json) -> Iterator[Json]:
    """Yield the conversation with one expectation changed, for each of them."""
    for index, step in enumerate(vector["steps"]):
        for other in _spoiled_step(step):
            steps = [*vector["steps"]]
            steps[index] = other
            yield {**vector, "steps": steps}


def _spoiled_step(step: Json) -> Iterator[Json]:
    if "end" in step:
        end = step["end"]
        if end["code"] is not None:
            yield {**step, "end": {**end, "code": "INTERNAL_ERROR", "kinds": ["GENERAL"]}}
        yield {**step, "end": {**end, "kinds": ["NO_WMX"]}}
        if "last_ordinal" in end and "CONTINUES" not in end["kinds"]:
            yield {**step, "end": {**end, "last_ordinal": 77}}
    for index, item in enumerate(step.get("expect", ())):
        for other in _spoiled_item(item):
            yield {
                **step,
                "expect": [*step["expect"][:index], *other, *step["expect"][index + 1 :]],
            }
    if "after" in step:
        yield {**step, "after": step["by"] + 1}


def _spoiled_item(item: Json) -> Iterator[list[Json]]:
    if "preface" in item:
        yield [{"preface": {**item["preface"], "ver_hi": 9}}]
        yield []
    elif "limit" in item:
        yield [{"limit": {**item["limit"], "at_least": 2**62}}]
    elif "frame" in item:
        kind = item["frame"]["kind"]
        yield [{"frame": {"kind": "SETTINGS_ACK" if kind != "SETTINGS_ACK" else "PONG"}}]
        for name in item["frame"].get("payload", {}):
            yield [{**item, "frame": {**item["frame"], "payload": {name: 77}}}]
        if kind != "PING":
            yield []
    else:
        response = item["response"]
        wrong = {"code": "UNIMPLEMENTED", "error_flags": []}
        yield [{"response": {**response, "end": [wrong]}}]
        yield [{"response": {**response, "messages": [*response["messages"], "ff"]}}]
        if response["messages"]:
            yield [{"response": {**response, "messages": response["messages"][:-1]}}]
        if response["end"]:
            yield [{"response": {**response, "end": []}}]
        for end in response["end"]:
            if isinstance(end, dict):
                yield [{"response": {**response, "end": [{**end, "error_flags": ["X"]}]}}]


@pytest.mark.parametrize("name", ALL)
def test_every_expectation_can_fail(name: str) -> None:
    count = 0
    for vector in spoiled(ALL[name]):
        count += 1
        with pytest.raises(MismatchError):
            Player(vector).play()
    assert count
