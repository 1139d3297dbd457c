"""The conversations of call-home: well-formed, and in agreement with the tables of chapter 21.

Every conversation is walked through the table of its connection: what is received is an input,
what is expected has to be what the table does, and a connection that is closed says so.
"""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from muxwire_spec import callhome, requirements
from muxwire_spec import frames as f
from muxwire_spec.emit.conversations import CALLHOME
from muxwire_spec.interpret import WCH, read_frame, receiver_of
from muxwire_spec.machines import WCH_ROUTER_CONNECTION, WCH_WORKER_CONNECTION
from muxwire_spec.model import Machine
from muxwire_spec.recovery import CLASSES
from muxwire_spec.registries import ERROR_CODES

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[1] / "vectors" / "callhome"
VECTORS: list[Json] = [
    vector
    for name in CALLHOME
    for vector in json.loads((ROOT / f"{name}.json").read_bytes())["vectors"]
]
EXCHANGE: Json = json.loads((ROOT / "exchange.json").read_bytes())
ACTIONS = {"receive", "expect", "end", "close", "post", "call", "answer", "local", "outcome"}
MACHINES = {"worker": WCH_WORKER_CONNECTION, "router": WCH_ROUTER_CONNECTION}
each = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])


def test_the_files_hold_what_is_described() -> None:
    described = [found.name for group in CALLHOME.values() for found in group]
    assert [vector["name"] for vector in VECTORS] == described
    assert len(set(described)) == len(described) >= 50


@each
def test_shape(vector: Json) -> None:
    known = requirements.load()
    assert vector["role"] in MACHINES
    assert vector["doc"]
    for step in vector["steps"]:
        (action,) = ACTIONS & set(step)
        assert ("connection" in step) == (action in ("receive", "expect", "end", "close"))
        assert step["requirements"]
        assert set(step["requirements"]) <= set(known)
        if action == "outcome":
            found = step["outcome"]
            assert found["class"] in {"SUCCESS", *(class_.name for class_ in CLASSES)}
            assert found["code"] is None or ERROR_CODES.value(found["code"]) > 0xFF
    assert "receive" not in vector["steps"][-1] or vector["role"] == "worker"


@each
def test_connections_are_numbered_in_the_order_of_the_dials(vector: Json) -> None:
    seen = dict.fromkeys(step["connection"] for step in vector["steps"] if "connection" in step)
    assert list(seen) == list(range(1, len(seen) + 1))


class Walk:
    """One connection of a conversation, as the table of its endpoint sees it."""

    def __init__(self, machine: Machine, streams: dict[str, str]) -> None:
        self.cells = {(row.state, row.input): row for row in machine.rows}
        self.state = machine.states[0]
        self.worker = machine is WCH_WORKER_CONNECTION
        self.streams = streams
        self.stream = ""
        self.unknown = 0
        self.next_seq = 0
        self.owed: list[str] = []
        self.preface = b""

    def take(self, input_: str) -> None:
        row = self.cells[self.state, input_]
        assert row.effect != "NONE", (self.state, input_)
        self.state = row.next
        self.owed += {
            "ANSWER": ["preface"],
            "BIND": ["ACCEPT"],
            "REFUSE": ["REJECT" if input_.startswith("HELLO") else "preface"],
            "CONFIRM": ["DONE"],
            "PONG": ["PONG"],
        }.get(row.effect, [])

    def receive(self, octets: bytes) -> None:
        if len(self.preface) < f.PREFACE_SIZE:
            self.preface += octets
            self.take(self.preface_input())
            return
        while octets and self.state != "CLOSED":
            receiver = receiver_of(WCH, "worker" if self.worker else "router")
            reading = read_frame(octets, receiver)
            octets = octets[reading.size :]
            faulty = reading.fault is not None or reading.header is None or reading.kind is None
            self.take("FAULT" if faulty else self.frame_input(reading))

    def preface_input(self) -> str:
        if not self.preface.startswith(callhome.MAGIC):
            return "PREFACE_BAD" if self.worker else "MAGIC_WRONG"
        fields = callhome.PREFACE.parse(self.preface)
        if fields["idle_timeout_ms"] and not 100 <= fields["idle_timeout_ms"] <= 600_000:
            return "PREFACE_BAD" if self.worker else "MAGIC_WRONG"
        if fields["ver_lo"] <= 1 <= fields["ver_hi"]:
            return "PREFACE_GOOD"
        return "PREFACE_BAD" if self.worker else "PREFACE_UNSERVED"

    def frame_input(self, reading: Any) -> str:
        kind, header = reading.kind.name, reading.header
        id_ = header["request_id"].hex()
        if kind in ("PING", "PONG"):
            return "PING" if kind == "PING" else "SKIPPED"
        if kind in ("STOP", "KILL"):
            return kind if id_ == self.stream and self.state != "IDLE" else "STALE"
        if kind == "HELLO":
            return self.hello_input(id_, reading.payload["token"].hex())
        if id_ != self.stream:
            return "FAULT"
        if kind != "RESPONSE":
            return str(kind)
        if header["seq"] != self.next_seq:
            return "FAULT"
        self.next_seq += 1
        if not header["flags"] & 0x01:
            self.streams[id_] = "used"
            return "RESPONSE"
        late = reading.payload.get("error_flags", 0) & 1 and header["seq"]
        self.streams[id_] = "used"
        return "FAULT" if late else "TERMINAL"

    def hello_input(self, id_: str, token: str) -> str:
        if self.streams.get(id_) == f"cancelled {token}":
            return "HELLO_CANCELLED"
        if self.streams.get(id_) != token:
            self.unknown += 1
            return "HELLO_THIRD" if self.unknown == 3 else "HELLO_UNKNOWN"
        if self.state == "IDLE":
            self.stream, self.next_seq = id_, 0
        return "HELLO_KNOWN"

    def expect(self, item: Json) -> None:
        """Compare what is expected with what the table owes, or take it as the worker's own."""
        if "response" in item:
            assert self.state == "STREAMING"
            if item["response"]["end"]:
                self.take("TERMINAL")
            return
        kind = "preface" if "preface" in item else item["frame"]["kind"]
        if self.worker and kind == "HELLO":
            self.stream = item["frame"]["request_id"]
            self.take("LOCAL_HELLO")
        elif self.worker and kind == "preface":
            assert self.state == "CONNECTING"
        elif kind in ("KILL", "STOP"):
            assert self.state == "STREAMING"
        else:
            assert self.owed.pop(0) == kind


@each
def test_the_table_of_the_connection_does_what_is_expected(vector: Json) -> None:
    streams: dict[str, str] = {}
    walks: dict[int, Walk] = {}
    carriers: dict[str, Walk] = {}
    gone: set[int] = set()
    for step in vector["steps"]:
        if "call" in step:
            fields = step["call"]["fields"]
            streams[fields["wch-stream"].replace("-", "")] = token_of(fields["wch-token"])
        if step.get("local") == "kill" and step["stream"] not in carriers:
            streams[step["stream"]] = f"cancelled {streams[step['stream']]}"
        if "connection" not in step:
            continue
        number = step["connection"]
        walk = walks.setdefault(number, Walk(MACHINES[vector["role"]], streams))
        for part in step.get("receive", ()):
            walk.receive(bytes.fromhex(part))
        for item in step.get("expect", ()):
            walk.expect(item)
            if item.get("frame", {}).get("kind") == "ACCEPT":
                former = carriers.get(walk.stream)
                carriers[walk.stream] = walk
                if former is not None and former.state == "STREAMING":
                    former.take("SUPERSEDED")
        if "close" in step:
            walk.take("EOF")
            gone.add(number)
        if "end" in step:
            assert walk.state == "CLOSED"
            gone.add(number)
    assert all(walk.owed == [] for walk in walks.values())
    assert gone == {number for number, walk in walks.items() if walk.state == "CLOSED"}


def token_of(text: str) -> str:
    return base64.urlsafe_b64decode(text + "==").hex()


def test_the_spread() -> None:
    cited = {id_ for vector in VECTORS for id_ in vector["requirements"]}
    timed_or_local = {"P0-013", "P0-015", "P0-020"}
    assert {f"P0-{n:03}" for n in range(1, 21)} - cited == timed_or_local


class TestExchange:
    def read(self, direction: str, role: str) -> list[str]:
        octets = bytes.fromhex(EXCHANGE[direction])
        assert octets.startswith(callhome.MAGIC)
        kinds, at = [], f.PREFACE_SIZE
        while at < len(octets):
            reading = read_frame(octets[at:], receiver_of(WCH, role))
            assert reading.fault is None
            assert reading.complete
            assert reading.kind is not None
            kinds.append(reading.kind.name)
            at += reading.size
        return kinds

    def test_both_directions_are_whole(self) -> None:
        to_router = self.read("worker_to_router", "router")
        assert [kind for kind, _ in itertools.groupby(to_router)] == ["HELLO", "RESPONSE"] * 2
        assert self.read("router_to_worker", "worker") == ["ACCEPT", "DONE"] * 2

    def test_the_streams_are_those_of_the_octets(self) -> None:
        octets = EXCHANGE["worker_to_router"]
        for stream in EXCHANGE["streams"]:
            assert stream["request_id"] + stream["token"] in octets
