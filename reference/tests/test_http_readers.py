"""The readers of the three formats: every vector, every cut, every split (P1-020, P1-022).

The last part holds the readers of the text formats against a second reading of their grammars,
which takes the whole body at once.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from itertools import chain
from typing import Any

import pytest
from http_core import FORMATS, LIMIT, Caller, headed, pieces, receive, vectors
from hypothesis import example, given
from hypothesis import strategies as st
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, META, ErrorCode
from muxwire.core.http import READERS
from muxwire.errors import Outcome, ProtocolViolation

WHOLE = vectors("whole")
ALL = vectors("whole", "broken", "odd")


def told(caller: Caller) -> tuple[Any, ...]:
    error = caller.error
    code = None if error is None else error.code
    return caller.outcome, caller.messages, caller.trailers, code, caller.headers


# -- vectors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_a_vector(name: str) -> None:
    vector = ALL[name]
    body = bytes.fromhex(vector["body"])
    for size in (1, 2, 3, 7, 64, 65_536):
        caller = receive(vector["format"], pieces(body, size), clean=vector["end"] == "clean")
        assert caller.outcome == vector["class"]
        assert [message.hex() for message in caller.messages] == vector["messages"]
        assert {key.decode(): value.decode() for key, value in caller.trailers or ()} == vector[
            "trailers"
        ]
        if caller.error is not None:
            code = ErrorCode[vector["code"]] if vector["code"] else None
            assert caller.error.code == code
            assert caller.error.local == (code is None)
            assert caller.error.messages == len(vector["messages"])


@pytest.mark.parametrize("clean", [True, False], ids=["clean", "cut"])
@pytest.mark.parametrize("name", WHOLE)
def test_a_body_that_is_cut_anywhere_is_no_success(name: str, clean: bool) -> None:
    vector = WHOLE[name]
    body, format_ = bytes.fromhex(vector["body"]), vector["format"]
    whole = receive(format_, [body]).messages
    for size in range(len(body)):
        caller = receive(format_, [body[:size]], clean=clean)
        assert caller.outcome == ("PARTIAL" if caller.messages else "AMBIGUOUS")
        assert caller.messages == whole[: len(caller.messages)]
        split = receive(format_, pieces(body[:size], 5), clean=clean)
        assert told(split) == told(caller)


@pytest.mark.parametrize("name", [name for name in WHOLE if WHOLE[name]["class"] == "SUCCESS"])
def test_a_whole_body_without_a_clean_end_is_no_success(name: str) -> None:
    caller = receive(WHOLE[name]["format"], [bytes.fromhex(WHOLE[name]["body"])], clean=False)
    assert caller.outcome == "PARTIAL"


def test_an_error_is_final_whatever_follows() -> None:
    for name in ("sse-failed-late", "ndjson-failed-late", "binary-failed-late"):
        body = bytes.fromhex(WHOLE[name]["body"])
        for rest in (b"", b"\0oops\n\n", body):
            assert receive(WHOLE[name]["format"], [body, rest], clean=False).outcome == "FAILED"
            assert receive(WHOLE[name]["format"], [body + rest], clean=False).outcome == "FAILED"


# -- binary ----------------------------------------------------------------------------------------

ME = b"0123456789abcdef"


def frame(seq: int, payload: bytes, flags: int = 0) -> bytes:
    head = bytes((codec.MARKER, 2, flags, 0)) + seq.to_bytes(4, "big")
    return head + len(payload).to_bytes(8, "big") + ME + payload


def test_headers_travel_in_the_binary_format() -> None:
    meta = codec.encode_response_meta([(b"a", b"b")])
    caller = receive("binary", [frame(0, meta, META), frame(1, b"x"), frame(2, b"", END_STREAM)])
    assert told(caller) == ("SUCCESS", [b"x"], [], None, [(b"a", b"b")])


def test_a_message_that_the_terminal_carries() -> None:
    meta = codec.encode_response_meta([(b"a", b"b")])
    caller = receive("binary", [frame(0, b"x"), frame(1, meta + b"y", META | END_STREAM)])
    assert told(caller) == ("SUCCESS", [b"x", b"y"], [(b"a", b"b")], None, None)


@pytest.mark.parametrize("half", [b"\xf7", frame(2, b"")[:31]], ids=["marker", "header"])
def test_not_even_the_beginning_of_a_frame_stands_behind_the_terminal(half: bytes) -> None:
    body = frame(0, b"x") + frame(1, b"", END_STREAM)
    assert receive("binary", [body]).outcome == "SUCCESS"
    assert receive("binary", [body + half]).outcome == "PARTIAL"
    assert receive("binary", [body, half]).outcome == "PARTIAL"


@pytest.mark.parametrize(
    "other", [codec.encode_pong(bytes(8)), codec.encode_hello(ME, bytes(16))], ids=["pong", "hello"]
)
def test_frames_of_other_paths_are_violations(other: bytes) -> None:
    assert receive("binary", [frame(0, b"x"), other]).outcome == "PARTIAL"


def test_a_declared_length_reserves_nothing() -> None:
    huge = frame(0, b"")[:8] + (2**40).to_bytes(8, "big") + ME
    caller = Caller()
    headed(caller, "binary").receive(huge, 0)
    assert caller.outcome == "AMBIGUOUS"


# -- limits ----------------------------------------------------------------------------------------


def big(format_: str, size: int) -> bytes:
    if format_ == "binary":
        return frame(0, bytes(size))
    text = base64.b64encode(bytes(size)).decode()
    if format_ == "sse":
        return f"id: 0\nevent: bin\ndata: {text}\n\n".encode()
    return f'{{"t":"bin","seq":0,"b64":"{text}"}}\n'.encode()


def all_of(format_: str, body: bytes, step: int) -> list[Any]:
    reader = READERS[format_](1_000)
    return [event for piece in pieces(body, step) for event in reader.read(piece)]


@pytest.mark.parametrize("step", [1, 16, 65_536])
@pytest.mark.parametrize("format_", FORMATS)
def test_an_item_above_the_limit(format_: str, step: int) -> None:
    assert all_of(format_, big(format_, 1_000), step) == [bytes(1_000)]
    with pytest.raises(ProtocolViolation, match="MSG-003") as caught:
        all_of(format_, big(format_, 1_001), step)
    assert caught.value.code == ErrorCode.MESSAGE_TOO_LARGE


def test_a_message_in_frames_above_the_limit() -> None:
    reader = READERS["binary"](1_000)
    assert list(reader.read(frame(0, bytes(600), 2))) == []
    with pytest.raises(ProtocolViolation, match="MSG-003"):
        list(reader.read(frame(1, bytes(600), 2)))


@pytest.mark.parametrize(
    ("format_", "start", "more"),
    [
        ("sse", b":", b"x" * 100),
        ("sse", b"event: ", b"x" * 100),
        ("sse", b"", b"data: " + b"x" * 100 + b"\n"),
        ("sse", b"", b"data\n"),
        ("ndjson", b"", b" " * 100),
        ("ndjson", b'{"t":"', b"x" * 100),
    ],
)
def test_what_never_ends_is_given_up(format_: str, start: bytes, more: bytes) -> None:
    reader = READERS[format_](1_000)
    assert list(reader.read(start)) == []
    with pytest.raises(ProtocolViolation, match="MSG-003"):
        list(chain.from_iterable(reader.read(more) for _ in range(10_000)))


def test_an_item_above_the_limit_fails_the_request_here() -> None:
    caller = Caller()
    headed(caller, "sse").receive(big("sse", LIMIT + 1), 0)
    assert caller.error is not None
    assert (caller.error.outcome, caller.error.code, caller.error.local) == (
        Outcome.FAILED,
        ErrorCode.MESSAGE_TOO_LARGE,
        True,
    )


# -- JSON ------------------------------------------------------------------------------------------

BAD_JSON = [b"", b"nan", b"NaN", b"-Infinity", b"01", b"'a'", b"1 2", b'"\n"', b"{", b'{"a":}']
BAD_JSON += [b"\xff", b'"\xed\xa0\x80"', b"[" * 100_000]


@pytest.mark.parametrize("text", BAD_JSON, ids=lambda text: repr(text[:12]))
@pytest.mark.parametrize("format_", ["sse", "ndjson"])
def test_an_item_that_is_no_json(format_: str, text: bytes) -> None:
    for good in (b"1", text):
        if format_ == "sse":
            body = b"id: 0\nevent: item\ndata: " + good + b"\n\n"
        else:
            body = b'{"t":"item","seq":0,"data":' + good + b"}\n"
        for size in (1, len(body)):
            messages = receive(format_, pieces(body, size)).messages
            assert messages == ([good] if good == b"1" else [])


def test_numbers_are_text() -> None:
    text = b"[" + b"9" * 5_000 + b",1e999]"
    for body in (
        b'{"t":"item","seq":0,"data":' + text + b"}\n",
        b'{"seq":0,"data": ' + text + b' ,"t":"item"}\n',
    ):
        assert receive("ndjson", [body]).messages == [text]


LINES = [
    b"{}",
    b"null",
    b'"t"',
    b'{"t":1}',
    b'{"t":"bin","seq":0}',
    b'{"t":"bin","seq":0,"b64":1}',
    b'{"t":"bin","seq":0,"b64":"}',
    b'{"t":"bin","seq":0,"b64":"YQ"}',
    b'{"t":"bin","seq":0,"b64":"YQ==YQ=="}',
    b'{"t":"bin","seq":0,"b64":"Y Q=="}',
    b'{"t":"bin","seq":0,"b64":"\\ud800"}',
    b'{"t":"bin","seq":"0","b64":""}',
    b'{"t":"bin","seq":0.0,"b64":""}',
    b'{"t":"bin","seq":true,"b64":""}',
    b'{"t":"bin","seq":-0,"b64":""}',
    b'{"t":"item","seq":0}',
    b'{"t":"item","seq":0,"seq":0,"data":1}',
    b'{"t":"bin","seq":0,"b64":""}}',
    b'{"t":"bin","seq":0,"b64":""} 1',
    b'{"t":"bin","seq":0,"b64":"",}',
    b'{"t":"bin" "seq":0}',
    b'{"t":"hb"',
    b'\xef\xbb\xbf{"t":"hb"}',
    b'{"t":"done","items":0}',
    b'{"t":"done","items":0,"trailers":[]}',
    b'{"t":"done","items":0,"trailers":{"a":1}}',
    b'{"t":"done","items":0,"trailers":{"a":"\\udc00"}}',
    b'{"t":"done","items":"0","trailers":{}}',
    b'{"t":"done","items":0.0,"trailers":{}}',
    b'{"t":"done","items":-1,"trailers":{}}',
    b'{"t":"done","trailers":{}}',
    b'{"t":"error","num":263}',
    b'{"t":"error","items":0}',
    b'{"t":"error","items":0,"num":"263"}',
    b'{"t":"error","items":0,"num":4294967296}',
    b'{"t":"error","items":0,"num":true}',
    b'{"t":"error","items":0,"num":263,"message":1}',
    b'{"t":"error","items":0,"num":263,"retry_after_ms":-1}',
    b'{"t":"error","items":0,"num":' + b"9" * 5_000 + b"}",
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:60].decode("latin-1"))
def test_a_line_that_is_not_of_the_grammar(line: bytes) -> None:
    for body in (line + b"\n", line + b"\r\n"):
        reader = READERS["ndjson"](LIMIT)
        with pytest.raises(ProtocolViolation):
            list(reader.read(body))
        assert receive("ndjson", pieces(body, 3)).outcome == "AMBIGUOUS"


@pytest.mark.parametrize(
    "line",
    [
        b'{"seq":0,"b64":"YQ==","t":"bin"}',
        b' { "t" : "bin" , "seq" : 0 , "b64" : "YQ==" } ',
        b'{"t":"bin","seq":0,"b64":"\\u0059Q=="}',
        b'{"t":"bin","seq":0,"b64":"YQ==","new":[{}]}',
        b'{"t":"\\u0062in","seq":0,"b64":"YQ=="}',
    ],
)
def test_a_line_in_another_form(line: bytes) -> None:
    assert receive("ndjson", [line + b"\n"]).messages == [b"a"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"data":[1, 2.50],"t":"item","seq":0}',
        b'{"t":"item","seq":0,"data": [1, 2.50] }',
        b'{"t":"item","seq":0,"data":[1, 2.50],"x":{"data":3}}',
    ],
)
def test_an_item_is_its_text(line: bytes) -> None:
    for size in (1, 100):
        assert receive("ndjson", pieces(line + b"\n", size)).messages == [b"[1, 2.50]"]


def test_the_error_object() -> None:
    line = b'{"t":"error","num":260,"items":0,"message":"' + b"x" * 2_000
    caller = receive("ndjson", [line + b'","retry_after_ms":7}\n'])
    assert caller.error is not None
    assert (caller.error.code, caller.error.retry_after_ms) == (260, 7)
    assert caller.error.message == "x" * 1_024


# -- a second reading ------------------------------------------------------------------------------


def check_base64(text: bytes) -> bytes:
    if not re.fullmatch(rb"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}(==|[A-Za-z0-9+/]=))?", text):
        raise ValueError(text)
    return binascii.a2b_base64(text)


def ending(kind: str, members: Any, count: int) -> str:
    """What a terminal event comes to."""
    needed = "trailers" if kind == "done" else "num"
    if isinstance(members, dict) and needed in members and members.get("items") == count:
        return kind
    return "wrong"


def second_sse(body: bytes) -> tuple[list[bytes], str]:
    """Read a whole body as the WHATWG says; return its items, and how it goes on."""
    *lines, _ = re.split(rb"\r\n|\n|\r", body.removeprefix(b"\xef\xbb\xbf"))
    items: list[bytes] = []
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        if line and not line.startswith(b":"):
            name, _, value = line.partition(b":")
            fields.setdefault(name, []).append(value.removeprefix(b" "))
        if line:
            continue
        event, fields = fields, {}
        data = b"\n".join(event.get(b"data", []))
        kind = event.get(b"event", [b""])[-1]
        if b"data" not in event or kind not in (b"item", b"bin", b"done", b"error"):
            continue
        try:
            if kind in (b"done", b"error"):
                return items, ending(kind.decode(), json.loads(data), len(items))
            if [i for i in event.get(b"id", []) if b"\0" not in i][-1] != b"%d" % len(items):
                return items, "wrong"
            if kind == b"item":
                json.loads(data.decode())
            items.append(check_base64(data) if kind == b"bin" else data)
        except (ValueError, IndexError):
            return items, "wrong"
    return items, "open"


def second_ndjson(body: bytes) -> tuple[list[bytes], str]:
    """Read a whole body line by line."""
    *lines, _ = body.split(b"\n")
    items: list[bytes] = []
    for line in lines:
        if line in (b"", b"\r"):
            continue
        try:
            members = json.loads(line.decode())
            kind = members["t"]
            if kind in ("done", "error"):
                return items, ending(kind, members, len(items))
            if kind in ("item", "bin") and members["seq"] != len(items):
                return items, "wrong"
            if kind == "bin":
                items.append(check_base64(members["b64"].encode()))
            if kind == "item":
                items.append(json.dumps(members["data"]).encode())
            if not isinstance(kind, str):
                return items, "wrong"
        except (ValueError, KeyError, TypeError, AttributeError):
            return items, "wrong"
    return items, "open"


def split_at(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({cut % (len(body) + 1) for cut in cuts})
    return [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]


def check(format_: str, body: bytes, cuts: list[int], second: tuple[list[bytes], str]) -> None:
    """Hold a reader to the second reading, as far as its first terminal event."""
    items, then = second
    caller = Caller()
    response = headed(caller, format_)
    for piece in split_at(body, cuts):
        response.receive(piece, 0)
    found = caller.messages
    if format_ == "ndjson":
        found = [json.dumps(json.loads(m)).encode() if is_item(m) else m for m in found]
    assert found == items
    if then == "done" and not caller.words:
        response.ended()
        assert caller.outcome == "SUCCESS"
    elif then == "error":
        assert caller.outcome == "FAILED"
    elif then == "open":
        assert not caller.words
    else:
        assert caller.outcome in ("PARTIAL", "AMBIGUOUS")


def is_item(message: bytes) -> bool:
    return message[:1] in b'[{"0123456789' and message != b""


ENDS = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\r\n\r\n", b"", b"\n\r\n"])
WORDS = [b"id: 0", b"id: 1", b"id:0", b"id", b"id: 0\0", b"event: bin", b"event:item", b"event: x"]
WORDS += [b"event", b"data: YQ==", b"data", b"data: 1", b"data:[", b"data:]", b'data: "\xc3\xa9"']
WORDS += [b"data: \xff", b": hb", b":", b"retry: 1", b"x: y", b"\xef\xbb\xbf", b" ", b"Data: 1"]
WORDS += [b'event: done\ndata: {"items":1,"trailers":{}}', b"\xc3", b"event: done"]
WORDS += [b'event: error\ndata: {"num":1,"items":0}', b"id: 0\nevent: bin\ndata: YQ==", b"data:  1"]
WORDS += [b"id: 0\nevent: item\ndata: 1", b"id: 1\nevent: bin\ndata: Y", b'data: {"items":0}']
SOUP = st.lists(st.tuples(st.sampled_from(WORDS), ENDS), max_size=12)
CUTS = st.lists(st.integers(0, 10_000), max_size=6)


@given(SOUP, CUTS)
@example([(b"id: 0\nevent: bin\ndata: YQ==", b"\r"), (b"\n", b"\n")], [])
def test_events_in_any_shape(soup: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    body = b"".join(word + end for word, end in soup)
    check("sse", body, cuts, second_sse(body))


LINE_WORDS = [b'{"t":"bin","seq":0,"b64":"YQ=="}', b'{"t":"item","seq":1,"data":[1, 2]}', b"", b"{"]
LINE_WORDS += [b'{"t":"item","seq":0,"data":{"a": 1}}', b'{"t":"bin","seq":1,"b64":""}', b"[]"]
LINE_WORDS += [b'{"t":"hb"}', b'{"t":"x"}', b'{"t":"done","items":1,"trailers":{}}', b"\xff", b" "]
LINE_WORDS += [b'{"t":"error","num":1,"items":1}', b'{"seq":0,"t":"bin","b64":"YWE="}', b"}"]
LINE_WORDS += [b'{"t":"bin","seq":0,"b64":"}', b'{"t":"item","seq":0,"data":1 }', b"\xc3\xa9"]
LINE_SOUP = st.lists(
    st.tuples(st.sampled_from(LINE_WORDS), st.sampled_from([b"\n", b"\r\n", b"", b"\n\n", b"\r"])),
    max_size=10,
)


@given(LINE_SOUP, CUTS)
def test_lines_in_any_shape(soup: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    body = b"".join(word + end for word, end in soup)
    check("ndjson", body, cuts, second_ndjson(body))


@given(st.sampled_from(sorted(ALL)), CUTS)
def test_pieces_change_nothing(name: str, cuts: list[int]) -> None:
    body, format_ = bytes.fromhex(ALL[name]["body"]), ALL[name]["format"]
    assert told(receive(format_, split_at(body, cuts))) == told(receive(format_, [body]))


@given(st.lists(st.binary(max_size=40), max_size=5), CUTS)
def test_items_of_any_octets(items: list[bytes], cuts: list[int]) -> None:
    done = {"items": len(items), "trailers": {}}
    encoded = [base64.b64encode(item).decode() for item in items]
    sse = [f"id: {i}\nevent: bin\ndata: {text}\n\n" for i, text in enumerate(encoded)]
    sse.append(f"event: done\ndata: {json.dumps(done)}\n\n")
    lines = [json.dumps({"t": "bin", "seq": i, "b64": text}) for i, text in enumerate(encoded)]
    lines.append(json.dumps({"t": "done", **done}))
    frames = [frame(i, item) for i, item in enumerate(items)]
    frames.append(frame(len(items), b"", END_STREAM))
    for format_, body in (
        ("sse", "".join(sse).encode()),
        ("ndjson", "".join(line + "\n" for line in lines).encode()),
        ("binary", b"".join(frames)),
    ):
        caller = receive(format_, split_at(body, cuts))
        assert (caller.outcome, caller.messages) == ("SUCCESS", items)
