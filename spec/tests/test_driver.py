"""The driver protocol: which lines its schema takes, and that grammar and schema say the same."""

from __future__ import annotations

import json
import re
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from muxwire_spec import driver
from muxwire_spec.emit.driver import grammar, schema

SCHEMA: dict[str, Any] = json.loads(
    resources.files("muxwire_spec").joinpath("data/wmx-driver-1.schema.json").read_text("utf-8")
)
LINES = (*driver.OPERATIONS, *driver.EVENTS)

VALID = """
{"op": "connect"}
{"op": "connect", "addrs": ["localhost:1", "127.0.0.1:7700", "[::1]:65535"], "connections": 4}
{"op": "connect", "transport": "tcp", "settings": {"IDLE_TIMEOUT_MS": 1000, "LATER": "x"}}
{"op": "connect", "connect_timeout_ms": 0, "backoff_base_ms": 20, "backoff_cap_ms": 4294967295,
 "wait_ms": 1}
{"op": "connect", "transport": "callhome", "listen": "[::1]:0"}
{"op": "connect", "transport": "http", "format": "ndjson", "http2": true, "heartbeat_ms": 100,
 "min_silence_ms": 500}
{"op": "request", "ref": "r1", "subject": "conformance.echo"}
{"op": "request", "ref": "", "subject": "", "body_b64": "", "unknown": [1]}
{"op": "request", "ref": "r1", "subject": "a", "messages_b64": [], "hold_open": true,
 "idempotent": true, "timeout_ms": 10}
{"op": "request", "ref": "r1", "subject": "a", "messages_b64": ["AA==", "AAA=", "AAAA", ""]}
{"op": "request", "ref": "r1", "subject": "a", "headers": [["k", "v"], ["k", ""]], "paused": true}
{"op": "send", "ref": "r1"}
{"op": "send", "ref": "r1", "body_b64": "aGk=", "end": true}
{"op": "stop", "ref": "r1", "reason": 4294967295}
{"op": "kill", "ref": "r1"}
{"op": "kill", "ref": "r1", "reason": 0}
{"op": "pause", "ref": "r1"}
{"op": "resume", "ref": "r1"}
{"op": "sync", "id": null}
{"op": "sync", "id": {"any": ["thing", 1.5]}}
{"op": "close"}
{"event": "ready", "driver": "d", "protocol": "wmx-driver/1", "transports": [], "features": []}
{"event": "ready", "driver": "d", "protocol": "wmx-driver/1", "transports": ["tcp"],
 "features": ["retry", "bidi"]}
{"event": "ready", "driver": "d", "protocol": "wmx-driver/1", "transports": ["callhome", "http"],
 "features": ["binary", "http2"]}
{"event": "listening", "addr": "127.0.0.1:40000"}
{"event": "connected", "conn": 0, "addr": "127.0.0.1:1", "version": 1}
{"event": "disconnected", "conn": 0, "addr": "[::1]:1", "handshake": false, "by": "peer",
 "code": null, "reason": "refused"}
{"event": "goaway", "conn": 1, "code": 0, "last_ordinal": 4294967295, "grace_ms": 1000}
{"event": "headers", "ref": "r1", "headers": []}
{"event": "message", "ref": "r1", "body_b64": ""}
{"event": "sent", "ref": "r1", "messages": 2}
{"event": "retry", "ref": "r1", "class": "NOT_SENT", "code": 260, "attempt": 2, "delay_ms": 10}
{"event": "end", "ref": "r1", "messages": 1, "attempts": 1, "trailers": [["usage", "{}"]]}
{"event": "error", "ref": "r1", "class": "PARTIAL", "code": null, "local": true, "messages": 0,
 "attempts": 1}
{"event": "error", "ref": "r1", "class": "FAILED", "code": 263, "local": false, "messages": 0,
 "attempts": 1, "message": "no"}
{"event": "synced", "id": 7}
{"event": "unsupported", "op": "pause", "ref": "r1", "feature": "pause"}
{"event": "invalid", "op": null, "message": "no JSON"}
{"event": "invalid", "op": "send", "ref": "r1", "message": "END_STREAM was sent"}
{"event": "closed"}
"""

INVALID = """
[]
"close"
{}
{"op": "closed"}
{"op": "ready"}
{"event": "close"}
{"op": "connect", "addrs": ["localhost"]}
{"op": "connect", "addrs": ["::1:7700"]}
{"op": "connect", "addrs": ["[::1]"]}
{"op": "connect", "addrs": "localhost:1"}
{"op": "connect", "transport": "pigeon"}
{"op": "connect", "listen": "127.0.0.1"}
{"op": "connect", "format": "SSE"}
{"op": "connect", "http2": 1}
{"op": "connect", "connections": 0}
{"op": "connect", "connections": 5}
{"op": "connect", "settings": {"IDLE_TIMEOUT_MS": -1}}
{"op": "connect", "settings": []}
{"op": "connect", "wait_ms": 1.5}
{"op": "connect", "wait_ms": 4294967296}
{"op": "connect", "wait_ms": "1"}
{"op": "request", "ref": "r1"}
{"op": "request", "subject": "a"}
{"op": "request", "ref": 1, "subject": "a"}
{"op": "request", "ref": "r1", "subject": "a", "body_b64": "", "messages_b64": []}
{"op": "request", "ref": "r1", "subject": "a", "body_b64": "a-_="}
{"op": "request", "ref": "r1", "subject": "a", "body_b64": "===="}
{"op": "request", "ref": "r1", "subject": "a", "headers": [["k"]]}
{"op": "request", "ref": "r1", "subject": "a", "headers": [["k", "v", "w"]]}
{"op": "request", "ref": "r1", "subject": "a", "headers": {"k": "v"}}
{"op": "request", "ref": "r1", "subject": "a", "idempotent": 1}
{"op": "send"}
{"op": "stop", "ref": "r1", "reason": 4294967296}
{"op": "sync"}
{"event": "ready", "driver": "d", "protocol": "wmx-driver/2", "transports": [], "features": []}
{"event": "ready", "driver": "d", "protocol": "wmx-driver/1", "transports": [], "features": ["x"]}
{"event": "listening", "addr": "here"}
{"event": "connected", "conn": -1, "addr": "a:1", "version": 1}
{"event": "disconnected", "conn": 0, "addr": "a:1", "handshake": false, "by": "us", "code": null,
 "reason": ""}
{"event": "message", "ref": "r1"}
{"event": "message", "ref": "r1", "body_b64": "a b"}
{"event": "retry", "ref": "r1", "class": "LOST", "code": 1, "attempt": 2, "delay_ms": 10}
{"event": "end", "ref": "r1", "messages": 1, "attempts": 1}
{"event": "error", "ref": "r1", "class": "FAILED", "code": null, "local": null, "messages": 0,
 "attempts": 1}
{"event": "synced"}
"""


def split(text: str) -> list[str]:
    return [line.replace("\n ", " ") for line in re.split(r"\n(?! )", text.strip())]


def validator(definition: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMA | {"anyOf": [{"$ref": f"#/$defs/{definition}"}]})


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert schema() == SCHEMA


@pytest.mark.parametrize("text", split(VALID))
def test_a_line_of_the_protocol(text: str) -> None:
    line = json.loads(text)
    key = "event" if "event" in line else "op"
    Draft202012Validator(SCHEMA).validate(line)
    validator(key).validate(line)
    validator(line[key]).validate(line)
    if key == "op" or "op" not in line:  # `unsupported` and `invalid` quote an operation
        assert not validator("event" if key == "op" else "op").is_valid(line)


@pytest.mark.parametrize("text", split(INVALID))
def test_not_a_line_of_the_protocol(text: str) -> None:
    assert not Draft202012Validator(SCHEMA).is_valid(json.loads(text))


def test_every_kind_of_line_has_an_example_with_every_member() -> None:
    seen: dict[str, set[str]] = {line.name: set() for line in LINES}
    for text in split(VALID):
        line = json.loads(text)
        seen[line["event"] if "event" in line else line["op"]] |= set(line)
    for line in LINES:
        assert seen[line.name] >= {line.key, *(member.name for member in line.members)}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_grammar_and_schema_name_the_same_members(line: driver.Line) -> None:
    (text,) = re.findall(rf"^{line.name} += (\{{(?:.|\n +)*?\}})$", grammar(), re.MULTILINE)
    inside = re.sub(r"\{\?NAME.*?\}", "", text)
    named = re.findall(r'(\??)"(\w+)":', inside)
    form = SCHEMA["$defs"][line.name]
    assert [name for _, name in named] == list(form["properties"])
    assert [name for optional, name in named if not optional] == form["required"]


def test_every_type_of_a_member_is_known() -> None:
    known = {*SCHEMA["$defs"]}
    used = set(re.findall(r"#/\$defs/([\w.]+)", json.dumps(SCHEMA)))
    assert used <= known
    assert known - used == set()


def test_a_feature_concerns_transports_that_exist() -> None:
    used = {name for feature in driver.FEATURES.values() for name in feature.transports}
    assert used == set(driver.SETS["TRANSPORT"])
    for name in driver.SETS["FORMAT"]:
        assert driver.FEATURES[name].transports == ("http",)
