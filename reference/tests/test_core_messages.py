from __future__ import annotations

import pytest
from core_harness import client, opening, request, response, rid, worker
from hypothesis import given
from hypothesis import strategies as st
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, META, MORE, ErrorCode
from muxwire.core import (
    CancelReason,
    HandlerCancelled,
    MessageReceived,
    RequestFinished,
    RequestReceived,
    ResponseFailed,
    ResponseFinished,
    ResponseHeaders,
)
from muxwire.core.messages import Reassembly
from muxwire.errors import Outcome, ProtocolViolation

NO_META = codec.encode_response_meta([])


@pytest.mark.parametrize(
    ("flags", "body", "data", "ended"),
    [
        (END_STREAM, b"", b"", True),
        (END_STREAM, b"x", b"x", True),
        (0, b"", None, False),
        (0, b"x", b"x", False),
        (MORE, b"", None, False),
        (MORE, b"x", None, False),
    ],
)
def test_what_an_open_carries(flags: int, body: bytes, data: bytes | None, ended: bool) -> None:
    """MSG-002."""
    wire = worker()
    wire.send(opening(1, body, end=bool(flags & END_STREAM), more=bool(flags & MORE)))
    event = wire.one(RequestReceived)
    assert (event.data, event.ended) == (data, ended)


@pytest.mark.parametrize(
    ("flags", "body", "messages", "finished"),
    [
        (0, b"", [(b"", False)], False),
        (0, b"x", [(b"x", False)], False),
        (END_STREAM, b"", [], True),
        (END_STREAM, b"x", [(b"x", True)], False),
        (MORE, b"", [], False),
    ],
)
def test_what_a_later_request_frame_carries(
    flags: int, body: bytes, messages: list[tuple[bytes, bool]], finished: bool
) -> None:
    """MSG-002."""
    wire = worker()
    wire.send(opening(1, end=False), request(1, 1, body, flags))
    assert [(e.data, e.ended) for e in wire.events(MessageReceived)] == messages
    assert bool(wire.events(RequestFinished)) == finished


@pytest.mark.parametrize(
    ("flags", "body", "messages", "headers", "finished"),
    [
        (0, b"", [(b"", False)], 0, False),
        (0, b"x", [(b"x", False)], 0, False),
        (END_STREAM, b"", [], 0, True),
        (END_STREAM, b"x", [(b"x", True)], 0, False),
        (META, NO_META, [], 1, False),
        (META, NO_META + b"x", [(b"x", False)], 1, False),
        (META | END_STREAM, NO_META, [], 1, True),
        (META | END_STREAM, NO_META + b"x", [(b"x", True)], 1, False),
        (META | MORE, NO_META, [], 1, False),
    ],
)
def test_what_the_first_response_carries(
    flags: int, body: bytes, messages: list[tuple[bytes, bool]], headers: int, finished: bool
) -> None:
    """MSG-002."""
    wire = client()
    request_id = wire.core.open(b"a", now=0.0, data=b"")
    wire.pull()
    wire.send(response(request_id, 0, body, flags))
    assert [(e.data, e.ended) for e in wire.events(MessageReceived)] == messages
    assert len(wire.events(ResponseHeaders)) == headers
    assert bool(wire.events(ResponseFinished)) == finished


def test_an_empty_end_closes_the_open_message() -> None:
    wire = worker()
    wire.send(opening(1, b"ab", end=False, more=True), request(1, 1, b"", END_STREAM))
    assert [(e.data, e.ended) for e in wire.events(MessageReceived)] == [(b"ab", True)]


def test_trailers_may_carry_the_last_message() -> None:
    wire = client()
    request_id = wire.core.open(b"a", now=0.0, data=b"")
    wire.pull()
    block = codec.encode_response_meta([(b"usage", b"7")])
    wire.send(
        response(request_id, 0, b"ab", MORE),
        response(request_id, 1, block + b"c", META | END_STREAM),
    )
    assert [(e.data, e.ended) for e in wire.events(MessageReceived)] == [(b"abc", False)]
    assert wire.one(ResponseFinished).trailers == [(b"usage", b"7")]
    assert not wire.events(ResponseHeaders)


@given(st.lists(st.lists(st.binary(max_size=3), min_size=1, max_size=6), max_size=6))
def test_any_split_gives_the_same_messages(messages: list[list[bytes]]) -> None:
    wire = worker()
    frames = [opening(1, end=False)]
    for chunks in messages:
        for number, chunk in enumerate(chunks):
            last = number == len(chunks) - 1
            frames.append(request(1, len(frames), chunk, 0 if last else MORE))
    frames.append(request(1, len(frames), b"", END_STREAM))
    wire.send(*frames)
    assert [e.data for e in wire.events(MessageReceived)] == [b"".join(c) for c in messages]
    assert wire.one(RequestFinished)


def test_small_chunks_are_gathered() -> None:
    reassembly = Reassembly()
    for _ in range(100_000):
        reassembly.add(b"xy", 1 << 30)
    assert len(reassembly._chunks) < 5
    assert reassembly.take() == b"xy" * 100_000


def test_large_and_small_chunks_keep_their_order() -> None:
    reassembly = Reassembly()
    chunks = [b"a", bytes(2_000), b"b", b"c", bytes(1_024), b""]
    for chunk in chunks:
        reassembly.add(chunk, 1 << 30)
    assert reassembly.take() == b"".join(chunks)


def test_the_chunk_that_exceeds_frees_what_was_gathered() -> None:
    reassembly = Reassembly()
    reassembly.add(bytes(10), 10)
    with pytest.raises(ProtocolViolation, match="MSG-003"):
        reassembly.add(b"x", 10)
    assert not reassembly._chunks


def test_worker_refuses_a_message_that_is_too_large() -> None:
    wire = worker(max_message_size=1 << 20, max_frame_size=1 << 20)
    chunk = bytes(60_000)
    wire.send(opening(1, end=False))
    wire.core.awaiting(rid(1))
    seq = 0
    for _ in range((1 << 20) // 60_000):
        seq += 1
        wire.send(request(1, seq, chunk, MORE))
    assert not wire.events(HandlerCancelled)
    wire.send(request(1, seq + 1, chunk, MORE))
    assert wire.one(HandlerCancelled).reason is CancelReason.MESSAGE_TOO_LARGE
    body = wire.terminal(rid(1))
    assert body is not None
    assert (body.code, body.error_flags) == (ErrorCode.MESSAGE_TOO_LARGE, 0)
    wire.core.fail(rid(1), ErrorCode.CANCELLED)
    assert wire.core.buffered_bytes == 0


def test_worker_refuses_an_open_whose_body_is_too_large_as_not_processed() -> None:
    wire = worker(max_message_size=1 << 20, max_frame_size=1 << 22, initial_stream_window=1 << 24)
    wire.send(opening(1, bytes((1 << 20) + 1)))
    body = wire.terminal(rid(1))
    assert body is not None
    assert (body.code, body.error_flags) == (ErrorCode.MESSAGE_TOO_LARGE, 1)
    assert not wire.events(RequestReceived)


@pytest.mark.parametrize("end", [0, END_STREAM])
def test_client_kills_a_response_that_is_too_large(end: int) -> None:
    wire = client(max_message_size=1 << 20, max_frame_size=1 << 22, initial_stream_window=1 << 24)
    request_id = wire.core.open(b"a", now=0.0, data=b"")
    wire.pull()
    frames = wire.send(response(request_id, 0, bytes((1 << 20) + 1), end))
    if not end:
        assert codec.decode_kill(frames[0][4]) == ErrorCode.MESSAGE_TOO_LARGE
        assert not wire.events(ResponseFailed)
        wire.send(response(request_id, 1, b"", END_STREAM))
    event = wire.one(ResponseFailed)
    assert (event.outcome, event.code, event.local) == (
        Outcome.FAILED,
        ErrorCode.MESSAGE_TOO_LARGE,
        True,
    )
    assert not wire.events(MessageReceived)


def test_an_error_terminal_leaves_a_message_incomplete() -> None:
    """MSG-004."""
    wire = client()
    request_id = wire.core.open(b"a", now=0.0, data=b"")
    wire.pull()
    body = codec.encode_error_body(ErrorCode.APPLICATION_ERROR, 0, 0, b"")
    wire.send(
        response(request_id, 0, b"one"),
        response(request_id, 1, b"half", MORE),
        response(request_id, 2, body, END_STREAM | 8),
    )
    assert [e.data for e in wire.events(MessageReceived)] == [b"one"]
    assert wire.one(ResponseFailed).messages == 1


def test_requests_interleave_in_the_middle_of_messages() -> None:
    """FAI-003, at a worker."""
    wire = worker()
    wire.send(opening(1, b"a", end=False, more=True), opening(2, b"A", end=False, more=True))
    for seq in range(1, 4):
        wire.send(request(1, seq, b"b", MORE), request(2, seq, b"B", MORE))
    wire.send(request(2, 4, b"C", END_STREAM), request(1, 4, b"c", END_STREAM))
    assert [(e.request_id, e.data) for e in wire.events(MessageReceived)] == [
        (rid(2), b"ABBBC"),
        (rid(1), b"abbbc"),
    ]


def test_responses_interleave_in_the_middle_of_messages() -> None:
    """FAI-003, at a client."""
    wire = client()
    first, second = (wire.core.open(b"a", now=0.0, data=b"") for _ in range(2))
    wire.pull()
    for seq in range(3):
        wire.send(response(first, seq, b"x", MORE), response(second, seq, b"y", MORE))
    wire.send(response(second, 3, b"", END_STREAM), response(first, 3, b"", END_STREAM))
    assert [(e.request_id, e.data) for e in wire.events(MessageReceived)] == [
        (second, b"yyy"),
        (first, b"xxx"),
    ]
