"""The three grammars as they are written: byte for byte the bodies of the vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from muxwire._generated import codec
from muxwire._generated.registries import MAX_SEQ, META, MORE, NON_RETRYABLE, ErrorCode
from muxwire.http.writers import BinaryWriter, Exhausted, Failure, NdjsonWriter, SseWriter, writer

VECTORS = Path(__file__).parents[2] / "spec/vectors/http/whole.json"
WHOLE: list[dict[str, Any]] = json.loads(VECTORS.read_text())["vectors"]
DECLARED = [(b"content-type", b"application/json")]
ID = bytes(range(16))


@pytest.mark.parametrize("vector", WHOLE, ids=lambda vector: str(vector["name"]))
def test_a_whole_body_is_written_as_its_vector_says(vector: dict[str, Any]) -> None:
    out = writer(vector["format"], bytes.fromhex(vector["request_id"] or ""))
    parts = [out.heartbeat]
    if vector["format"] != "binary" and vector["name"].endswith("-json"):
        out.headers(DECLARED)
    parts += [out.item(bytes.fromhex(message)) for message in vector["messages"]]
    if vector["code"] is None:
        pairs = [(key.encode(), value.encode()) for key, value in vector["trailers"].items()]
        parts.append(out.done(pairs))
    else:
        parts.append(out.failed(Failure(ErrorCode[vector["code"]], "no")))
    assert b"".join(parts).hex() == vector["body"]
    assert out.items == len(vector["messages"])


@pytest.mark.parametrize(
    "item",
    [
        b'{"a": NaN}',
        b"[1,2",
        b"",
        b"  ",
        b'"\n"',
        b'"\xff"',
        '{"a":1}'.encode("utf-16"),
        b"\xef\xbb\xbf1",
        b"1 2",
        b"[" * 100_000,
    ],
    ids=range(10),
)
def test_what_is_declared_as_json_and_is_none_is_sent_as_octets(item: bytes) -> None:
    out = SseWriter()
    out.headers(DECLARED)
    assert b"event: bin" in out.item(item)
    assert b"event: item" in out.item(b"0")


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (b'{"a":\r\n [1,\n2]}', b'{"a":   [1, 2]}'),
        (b"\n7\n", b" 7 "),
        (b'  "x"', b'  "x"'),
        (b"9" * 10_000, b"9" * 10_000),
        (b'"\\ud800"', b'"\\ud800"'),
        (b"-1.5e300", b"-1.5e300"),
    ],
    ids=range(6),
)
def test_json_keeps_its_text_but_for_line_breaks(item: bytes, line: bytes) -> None:
    sse, ndjson = SseWriter(), NdjsonWriter()
    sse.headers([(b"content-type", b"Application/JSON; charset=utf-8")])
    ndjson.headers(DECLARED)
    assert sse.item(item) == b"id: 0\nevent: item\ndata: " + line + b"\n\n"
    assert ndjson.item(item) == b'{"t":"item","seq":0,"data":' + line + b"}\n"


def test_a_type_that_is_not_json_declares_nothing() -> None:
    out = SseWriter()
    out.headers([(b"content-type", b"application/json+x"), (b"other", b"application/json")])
    assert b"event: bin" in out.item(b"1")


def test_an_error_event_says_what_the_error_object_says() -> None:
    out = SseWriter()
    out.item(b"x")
    failure = Failure(ErrorCode.OVERLOADED, "é" * 600, retry_after_ms=7)
    event = out.failed(failure).decode()
    assert event.startswith("event: error\ndata: {")
    assert event.endswith("}\n\n")
    assert json.loads(event.partition("data: ")[2]) == {
        "code": "OVERLOADED",
        "num": 0x104,
        "message": "é" * 512,
        "not_processed": False,
        "retry_after_ms": 7,
        "items": 1,
    }


def test_a_code_without_a_name_is_given_as_its_number() -> None:
    (line,) = NdjsonWriter().failed(Failure(0xBEEF)).splitlines()
    assert json.loads(line)["code"] == "0xbeef"
    assert json.loads(line)["num"] == 0xBEEF


def test_a_long_item_is_split_into_frames() -> None:
    out = BinaryWriter(ID)
    block = codec.encode_response_meta(DECLARED)
    assert out.headers(DECLARED) == codec.response_header(META, 0, len(block), ID) + block
    assert out.item(b"a" * 65_537) == b"".join(
        (
            codec.response_header(MORE, 1, 65_536, ID),
            b"a" * 65_536,
            codec.response_header(0, 2, 1, ID),
            b"a",
        )
    )
    assert out.item(b"") == codec.response_header(0, 3, 0, ID)


def test_the_binary_error_carries_what_json_has_no_member_for() -> None:
    body = BinaryWriter(ID).failed(
        Failure(0x107, "no", detail=b"why", retry_after_ms=5, flags=NON_RETRYABLE)
    )
    decoded = codec.decode_error_body(body[codec.HEADER_SIZE :])
    assert decoded.detail == b"why"
    assert decoded.error_flags == NON_RETRYABLE
    assert decoded.retry_after_ms == 5


def test_when_no_number_is_left_the_item_is_refused_and_the_end_still_goes_out() -> None:
    out = BinaryWriter(ID)
    out._queue.seq = MAX_SEQ
    with pytest.raises(Exhausted):
        out.item(b"x")
    assert out.failed(Failure(0x10A, "FRM-010"))
