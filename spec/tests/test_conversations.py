"""The conversations: well-formed JSON, and in agreement with what the specification decides.

Whether an implementation can hold them is shown with the reference. Here every octet that is
received is read with `interpret`: a fault that a frame shows by itself is the end that is expected.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from muxwire_spec import errors, requirements
from muxwire_spec import frames as f
from muxwire_spec.emit.conversations import FOLDERS, counts
from muxwire_spec.interpret import Receiver, read_frame
from muxwire_spec.registries import ERROR_CODES, ERROR_FLAGS, SETTINGS
from muxwire_spec.vectors.conversation import (
    ORDERLY,
    Conversation,
    conversation,
    data,
    end,
    expect,
    filler,
    orderly,
    receive,
)

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1] / "vectors"
PATHS = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.json"))]
FILES = {path: json.loads(path.read_bytes()) for path in PATHS}
VECTORS: dict[str, Json] = {
    vector["name"]: {**vector, "timed": path.parent.name == "timed"}
    for path, file in FILES.items()
    for vector in file["vectors"]
}
KINDS = {kind.name for kind in f.FRAMES}
each = pytest.mark.parametrize("vector", VECTORS.values(), ids=lambda vector: vector["name"])

NOT_REACHED = {
    "HSK-011": "needs many connections",
    "HBT-006": "needs a peer that does not read",
    "DOS-002": "needs a peer that does not read",
    "SEC-001": "needs TLS",
    "SEC-002": "needs TLS",
    "TYP-004": "at a client with a request",
    "TYP-005": "at a client with a request",
    "PAY-005": "at a client with a request",
    "PAY-007": "at a client with a request",
    "ADM-003": "at a client with a request",
    "CLS-007": "at a client with a request",
}
"""Rules of the error table that no conversation ends with."""


def test_the_files_hold_what_is_described() -> None:
    described = {
        f"{folder}/{name}.json": [found.name for found in group]
        for folder, groups in FOLDERS.items()
        for name, group in groups.items()
    }
    found = {
        path.relative_to(ROOT).as_posix(): [vector["name"] for vector in file["vectors"]]
        for path, file in FILES.items()
    }
    assert found == described
    assert {file["protocol"] for file in FILES.values()} == {"WMX/1"}


def test_there_are_many_and_names_are_unique() -> None:
    streams, timed = counts()
    assert streams >= 25
    assert timed >= 8
    assert len(VECTORS) == streams + timed


@each
def test_shape(vector: Json) -> None:
    members = ["name", "doc", "requirements", "role", "config", "free", "steps", "timed"]
    assert list(vector) == members
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", vector["name"])
    assert vector["doc"]
    assert vector["role"] in ("worker", "client")
    assert set(vector["config"]) <= {s.name for s in SETTINGS} | {"handshake_timeout_ms"}
    assert set(vector["free"]) <= KINDS
    assert set(vector["requirements"]) == {
        id_ for s in vector["steps"] for id_ in s["requirements"]
    }
    for step in vector["steps"]:
        assert step["requirements"]
        assert set(step["requirements"]) <= set(requirements.load())
        assert len({"receive", "expect", "end"} & set(step)) == 1
    ends = [index for index, step in enumerate(vector["steps"]) if "end" in step]
    assert ends in ([], [len(vector["steps"]) - 1])
    assert "receive" not in vector["steps"][-1]


@each
def test_times(vector: Json) -> None:
    """Every step of a timed conversation has its time, and time does not go back."""
    at = 0
    for step in vector["steps"]:
        times = {"at", "after", "by", "within"} & set(step)
        if not vector["timed"]:
            assert times <= {"within"}
        elif "receive" in step:
            assert times == {"at"}
            assert step["at"] >= at
            at = step["at"]
        else:
            assert "by" in times <= {"after", "by"}
            assert step["by"] >= max(at, step.get("after", 0))


@each
def test_expectations(vector: Json) -> None:
    for step in vector["steps"]:
        for item in step.get("expect", ()):
            ((name, value), *others) = item.items()
            assert [other for other, _ in others] in ([], ["times"])
            if name == "frame":
                assert value["kind"] in KINDS - {"REQUEST", "RESPONSE"}
            elif name == "response":
                assert len(bytes.fromhex(value["request_id"])) == 16
                for message in value["messages"]:
                    assert isinstance(message, dict) or bytes.fromhex(message) is not None
                for found in value["end"]:
                    if isinstance(found, dict):
                        assert ERROR_CODES.value(found["code"]) > 0xFF
                        assert all(ERROR_FLAGS.value(flag) for flag in found["error_flags"])
            else:
                assert name in ("preface", "limit")


@each
def test_ends_are_those_of_the_error_table(vector: Json) -> None:
    rules = {(rule.requirement, rule.code): rule for rule in errors.RULES}
    for step in vector["steps"]:
        if "end" not in step:
            continue
        found = step["end"]
        if found["kinds"] == [ORDERLY]:
            assert found == {"kinds": [ORDERLY], "requirement": None, "code": None}
            continue
        rule = rules[found["requirement"], found["code"]]
        assert set(found["kinds"]) <= {ending.kind for ending in rule.ends}
        assert step["requirements"][0] == found["requirement"]


def received(vector: Json) -> bytes:
    return b"".join(
        bytes.fromhex(part)
        if isinstance(part, str)
        else bytes.fromhex(part["repeat"]) * part["times"]
        for step in vector["steps"]
        for part in step.get("receive", ())
    )


def first_fault(vector: Json) -> tuple[str, str] | None:
    """Return rule and code of the first fault that a frame shows by itself."""
    octets = received(vector)
    if not octets.startswith(f.MAGIC):
        return None
    at, first = f.PREFACE_SIZE, True
    while at < len(octets):
        reading = read_frame(octets[at:], Receiver(role=vector["role"], first=first))
        if reading.fault is not None and reading.fault.breach.scope.value == "connection":
            return reading.fault.breach.requirement, reading.fault.breach.code
        at, first = at + reading.size, False
    return None


STATE_COMES_FIRST = {"RID-002", "FLW-002", "STM-001"}


@each
def test_a_fault_in_the_octets_is_the_end_that_is_expected(vector: Json) -> None:
    fault = first_fault(vector)
    last = vector["steps"][-1].get("end", {})
    ended = (last.get("requirement"), last.get("code"))
    if fault is None:
        shown = {
            (c.breach.requirement, c.breach.code)
            for c in f.CHECKS
            if c.breach is not None and c.step not in ("credit", "sequence")
        }
        assert ended not in shown | {("PAY-002", "PROTOCOL_ERROR"), ("SET-001", "SETTINGS_ERROR")}
    elif ended[0] not in STATE_COMES_FIRST:
        assert ended == fault


def test_every_rule_of_the_error_table_ends_a_conversation() -> None:
    ended = {v["steps"][-1].get("end", {}).get("requirement") for v in VECTORS.values()}
    missing = {rule.requirement for rule in errors.RULES} - ended
    assert missing == set(NOT_REACHED)


def test_the_spread() -> None:
    cited = {id_ for vector in VECTORS.values() for id_ in vector["requirements"]}
    areas = {id_[:3] for id_ in cited}
    assert areas >= {"HSK", "FRM", "TYP", "PAY", "SET", "RID", "STM", "MSG", "FAI", "FLW", "CAN"}
    assert areas >= {"ADM", "HBT", "DOS", "CLS"}
    assert {f"CAN-00{n}" for n in (1, 2, 4, 5, 6)} <= cited
    assert {f"CLS-00{n}" for n in (1, 2, 3, 4, 5, 6, 8, 9)} <= cited
    assert {f"HBT-00{n}" for n in (1, 2, 3, 4, 5, 7)} <= cited
    assert len(cited) >= 80


class TestDescriptions:
    def test_parts_are_joined(self) -> None:
        step = receive("FRM-011", b"\x01", b"\x02", (b"\x03", 4), b"\x05")
        assert step.body == {"receive": ["0102", {"repeat": "03", "times": 4}, "05"]}

    def test_a_filler_is_a_whole_frame(self) -> None:
        header, (octet, times) = filler(1, 2, 100)
        assert isinstance(header, bytes)
        assert isinstance(octet, bytes)
        assert isinstance(times, int)
        assert header + octet * times == data(1, 2, bytes(100))

    def test_an_end_is_a_rule(self) -> None:
        assert end("FRM-002", last=3).body == {
            "end": {
                "kinds": ["GENERAL"],
                "requirement": "FRM-002",
                "code": "PROTOCOL_ERROR",
                "last_ordinal": 3,
            }
        }
        assert end("FRM-002", also="CLS-001").requirements == ("FRM-002", "CLS-001")

    @pytest.mark.parametrize(
        ("arguments", "kinds"),
        [
            (("FRM-004",), ""),
            (("FRM-001",), ""),
            (("FRM-002", "SETTINGS_ERROR"), ""),
            (("FRM-002",), "SILENT"),
            (("HSK-011",), ""),
        ],
    )
    def test_an_end_that_is_no_rule(self, arguments: tuple[str, ...], kinds: str) -> None:
        with pytest.raises(LookupError):
            end(*arguments, kinds=kinds)

    def test_the_requirements_are_those_of_the_steps(self) -> None:
        found: Conversation = conversation(
            "x", "x", receive("FRM-001 FRM-002", b""), expect("FRM-001"), orderly("CLS-005")
        )
        assert found.requirements == ("FRM-001", "FRM-002", "CLS-005")
