"""The bodies of responses over HTTP, read by a reader of their own along the table HTTP_STREAM."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from muxwire_spec import requirements
from muxwire_spec.formats import FORMATS
from muxwire_spec.interpret import Receiver, read_frame
from muxwire_spec.machines import HTTP_STREAM
from muxwire_spec.registries import ERROR_CODES

Json = dict[str, Any]
Event = tuple[str, Any]
ROOT = Path(__file__).resolve().parents[1] / "vectors" / "http"
FILES: dict[str, list[Json]] = {
    name: json.loads((ROOT / f"{name}.json").read_bytes())["vectors"]
    for name in ("whole", "broken", "odd")
}
VECTORS = [vector for vectors in FILES.values() for vector in vectors]
CELLS = {(row.state, row.input): row for row in HTTP_STREAM.rows}
each = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])


def sse(body: bytes) -> Iterator[Event]:
    """Yield what the grammar of the WHATWG gives: items with seq, terminal events, or a fault."""
    lines = body.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    fields: dict[bytes, list[bytes]] = {}
    for line in lines.split(b"\n")[:-1]:
        if line:
            name, _, value = line.partition(b":")
            fields.setdefault(name, []).append(value.removeprefix(b" "))
            continue
        kind = fields.get(b"event", [b""])[-1].decode()
        data = b"\n".join(fields.get(b"data", []))
        if kind in ("item", "bin"):
            yield one_item(fields.get(b"id", [b""])[-1], data, encoded=kind == "bin")
        elif kind in ("done", "error"):
            yield kind, json.loads(data)
        fields = {}


def one_item(seq: bytes, data: bytes, *, encoded: bool) -> Event:
    if not seq.isdigit():
        return "fault", None
    try:
        octets = base64.b64decode(data, validate=True) if encoded else data
        octets.decode() if not encoded else None
    except (binascii.Error, UnicodeDecodeError):
        return "fault", None
    return "item", (int(seq), octets)


def ndjson(body: bytes) -> Iterator[Event]:
    for line in body.split(b"\n")[:-1]:
        if not line.strip(b"\r"):
            continue
        try:
            found = json.loads(line)
        except ValueError:
            yield "fault", None
            return
        if not isinstance(found, dict):
            yield "fault", None
            return
        kind = found.get("t")
        if kind in ("item", "bin"):
            if "seq" not in found:
                yield "fault", None
                return
            text = line.rstrip(b"\r").partition(b',"data":')[2][:-1]
            octets = base64.b64decode(found["b64"]) if kind == "bin" else text
            yield "item", (found["seq"], octets)
        elif kind in ("done", "error"):
            yield kind, found


def binary(body: bytes, request_id: bytes) -> Iterator[Event]:
    at, expected, items, message, inside = 0, 0, 0, b"", False
    while at < len(body):
        reading = read_frame(body[at:], Receiver(role="client"))
        if reading.fault is None and not reading.complete:
            return
        if reading.fault is not None or reading.header is None:
            yield "fault", None
            return
        at += reading.size
        header = reading.header
        if reading.kind is None or reading.kind.name == "PING":
            continue
        if reading.kind.name != "RESPONSE" or header["request_id"] != request_id:
            yield "fault", None
            return
        if header["seq"] != expected:
            yield "fault", None
            return
        expected += 1
        payload = reading.payload or {}
        if header["flags"] & 0x08:
            code = ERROR_CODES.name_of(payload["code"])
            yield "error", {"code": code, "items": items}
            continue
        rest = payload.get("data", payload.get("body", b""))
        message += rest
        ends = header["flags"] & 0x01
        headers = header["seq"] == 0 and header["flags"] & 0x04  # section 8.2
        if not header["flags"] & 0x02 and (rest or inside or not (ends or headers)):
            yield "item", (items, message)
            items, message = items + 1, b""
        inside = bool(header["flags"] & 0x02)
        if ends:
            yield "done", {"items": items, "trailers": trailers(payload)}


def trailers(payload: Json) -> dict[str, str]:
    listed = payload.get("metadata", {}).get("headers", [])
    return {pair["key"].decode(): pair["value"].decode() for pair in listed}


def events(vector: Json) -> Iterator[Event]:
    body = bytes.fromhex(vector["body"])
    if vector["format"] == "sse":
        return sse(body)
    if vector["format"] == "ndjson":
        return ndjson(body)
    return binary(body, bytes.fromhex(vector["request_id"]))


def input_of(event: Event, items: int, state: str) -> str:
    kind, value = event
    if kind == "fault":
        return "FAULT"
    if state == "ENDING":
        return "SURPLUS"
    if kind == "item":
        return "ITEM" if value[0] == items else "FAULT"
    return kind.upper() if value["items"] == items else "MISCOUNT"


@each
def test_the_table_gives_the_outcome(vector: Json) -> None:
    state, messages, effect = "HEADED", [], ""
    last: Json = {}
    for event in events(vector):
        row = CELLS[state, input_of(event, len(messages), state)]
        state, effect = row.next, row.effect
        if effect == "DELIVER":
            messages.append(event[1][1])
        elif event[0] in ("done", "error"):
            last = event[1]
        if state == "OVER":
            break
    if state != "OVER":
        row = CELLS[state, "END" if vector["end"] == "clean" else "CUT"]
        assert row.next == "OVER"
        effect = row.effect
    assert effect == ("SUCCEED" if vector["class"] == "SUCCESS" else vector["class"])
    assert [message.hex() for message in messages] == vector["messages"]
    assert vector["code"] == (last.get("code") if vector["class"] == "FAILED" else None)
    if vector["class"] == "SUCCESS":
        assert last.get("trailers", {}) == vector["trailers"]


def test_names_are_unique_and_requirements_exist() -> None:
    names = [vector["name"] for vector in VECTORS]
    assert len(set(names)) == len(names)
    known = set(requirements.load())
    for vector in VECTORS:
        assert set(vector["requirements"]) <= known


def test_the_same_items_are_there_in_every_format() -> None:
    def shown(format_: str) -> list[tuple[str, list[str]]]:
        found = [vector for vector in FILES["whole"] if vector["format"] == format_]
        return [(v["name"].partition("-")[2], v["messages"]) for v in found]

    first, *others = (shown(found.name) for found in FORMATS)
    assert first
    assert all(other == first for other in others)


def test_nothing_broken_is_a_success_and_every_whole_one_can_be_cut() -> None:
    assert {vector["class"] for vector in FILES["broken"]} == {"PARTIAL", "AMBIGUOUS"}
    for vector in FILES["whole"]:
        body = bytes.fromhex(vector["body"])
        for size in range(len(body)):
            cut = {**vector, "body": body[:size].hex()}
            assert not any(kind in ("done", "error") for kind, _ in events(cut))
