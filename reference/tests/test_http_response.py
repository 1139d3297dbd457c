"""The state of a response, without a loop and without a clock."""

from __future__ import annotations

from math import inf

import pytest
from muxwire._generated.registries import BATCH_SIZE, MAX_SEQ, ErrorCode
from muxwire.core.config import Config
from muxwire.core.counters import LOST, OK
from muxwire.core.events import CancelReason, HandlerCancelled, Writable
from muxwire.core.statistics import Statistics
from muxwire.errors import InvalidArgument, RequestClosed
from muxwire.http.response import Response
from muxwire.http.writers import BinaryWriter, NdjsonWriter

ID = bytes(range(16))
HEARTBEAT = b'{"t":"hb"}\n'


def response(
    *, timeout_ms: int = 0, send_buffer: int = 1_000, binary: bool = False
) -> tuple[Response, Statistics]:
    statistics = Statistics()
    made = Response(
        BinaryWriter(ID) if binary else NdjsonWriter(),
        Config(send_buffer=send_buffer),
        100.0,
        request_id=ID,
        timeout_ms=timeout_ms,
        heartbeat_ms=1_000,
        statistics=statistics,
    )
    return made, statistics


def written(one: Response, now: float = 100.0) -> bytes:
    """Write all that waits."""
    body = b""
    while octets := one.take():
        body += octets
        one.written(now)
    return body


def test_items_an_end_and_nothing_behind_it() -> None:  # P1-009, P1-010
    one, statistics = response()
    assert (statistics.active, one.code) == (1, LOST)
    assert one.send_message(b"a")
    assert one.send_message(b"b")
    one.finish([(b"k", b"v")])
    assert (statistics.active, one.code, one.ended, one.running) == (0, OK, True, False)
    lines = written(one).splitlines()
    assert [line[:20] for line in lines[:2]] == [b'{"t":"bin","seq":0,"', b'{"t":"bin","seq":1,"']
    assert lines[2:] == [b'{"t":"done","items":2,"trailers":{"k":"v"}}']
    assert one.next_timeout() == inf
    for late in (one.finish, lambda: one.send_message(b"c"), lambda: one.fail(1)):
        with pytest.raises(RequestClosed):
            late()
    one.lost()
    assert written(one) == b""
    assert one.code == OK


def test_headers_come_before_items() -> None:
    one, _ = response()
    one.send_headers([(b"content-type", b"application/json")])
    one.send_message(b"1")
    with pytest.raises(RequestClosed, match="begun"):
        one.send_headers([])
    assert b'"data":1' in written(one)


def test_a_writer_waits_until_half_of_the_buffer_is_free() -> None:  # P1-017
    one, _ = response(send_buffer=1_000)
    assert one.send_message(bytes(500))
    assert not one.send_message(bytes(500))
    assert one.buffered <= 1_000
    first = one.take()
    assert len(first) == one.buffered  # what is being written counts
    assert one.events() == []
    one.written(100.0)
    assert one.events() == [Writable(request_id=ID)]
    assert one.buffered == 0
    assert one.send_message(bytes(5_000))  # an item of any size goes alone
    assert not one.send_message(b"x")


def test_pieces_are_small_and_items_stay_whole() -> None:
    one, _ = response()
    one.send_message(bytes(200_000))
    one.fail(ErrorCode.APPLICATION_ERROR, "no")
    pieces = []
    while octets := one.take():
        pieces.append(octets)
        one.written(100.0)
    assert max(map(len, pieces)) == BATCH_SIZE
    assert b"".join(pieces).count(b"\n") == 2
    assert one.buffered == 0


def test_a_heartbeat_only_when_nothing_was_written() -> None:  # P1-014
    one, _ = response()
    assert one.next_timeout() == 101.0
    one.handle_timeout(101.0)
    assert written(one, 101.0) == HEARTBEAT
    assert one.next_timeout() == 102.0
    one.send_message(b"x")
    written(one, 101.7)
    one.handle_timeout(102.0)  # an item has gone out meanwhile
    assert written(one) == b""
    assert one.next_timeout() == 102.7
    one.send_message(b"y")
    one.handle_timeout(102.7)  # one is waiting to go out
    assert HEARTBEAT not in written(one, 102.8)
    assert one.next_timeout() == 103.7


def test_a_deadline_cancels_and_follows_what_is_queued() -> None:  # P1-011, P1-016
    one, statistics = response(timeout_ms=500)
    one.send_message(b"x")
    one.handle_timeout(100.4)
    assert not one.ended
    one.handle_timeout(100.5)
    assert one.events() == [HandlerCancelled(request_id=ID, reason=CancelReason.DEADLINE)]
    assert one.send_message(b"late")  # and dropped
    item, error = written(one).splitlines()
    assert b'"seq":0' in item
    assert b'"DEADLINE_EXCEEDED"' in error
    assert error.endswith(b'"items":1}')
    assert (statistics.cancelled, statistics.active) == (1, 1)
    one.fail(ErrorCode.CANCELLED)
    assert (statistics.active, one.code) == (0, ErrorCode.DEADLINE_EXCEEDED)
    assert written(one) == b""


def test_whoever_ends_it_first_has_ended_it() -> None:
    one, statistics = response(timeout_ms=500)
    one.finish()
    one.handle_timeout(200.0)
    one.shut_down()
    assert one.events() == []
    assert written(one) == b'{"t":"done","items":0,"trailers":{}}\n'
    assert statistics.cancelled == 0


def test_a_shutdown_says_so() -> None:  # CLS-006
    one, _ = response()
    one.shut_down()
    assert one.events() == [HandlerCancelled(request_id=ID, reason=CancelReason.SHUTDOWN)]
    assert b'"SHUTDOWN"' in written(one)


def test_a_client_that_is_lost_leaves_nothing() -> None:  # P1-013
    one, statistics = response(timeout_ms=500)
    one.send_message(b"x")
    one.lost()
    assert one.events() == [HandlerCancelled(request_id=ID, reason=CancelReason.CONNECTION_LOST)]
    assert (one.buffered, one.ended, one.next_timeout()) == (0, True, inf)
    one.fail(ErrorCode.CANCELLED)
    assert written(one) == b""
    assert (statistics.cancelled, one.code) == (1, LOST)


def test_an_end_that_nobody_reads_is_lost() -> None:
    one, _ = response()
    one.finish()
    assert one.take()
    one.lost()
    assert one.code == LOST
    assert one.events() == []


@pytest.mark.parametrize("binary", [False, True])
def test_metadata_that_is_too_large_ends_the_response(binary: bool) -> None:  # SET-003
    large = [(b"k%d" % number, b"v" * 8_000) for number in range(3)]
    one, _ = response(binary=binary)
    with pytest.raises(InvalidArgument, match="16384 octets"):
        one.send_headers(large)
    assert b"SET-003" in written(one)
    one, _ = response(binary=binary)
    with pytest.raises(InvalidArgument, match="16384 octets"):
        one.finish(large)
    assert b"SET-003" in written(one)
    assert not one.running


def test_when_no_number_is_left_the_response_fails() -> None:  # FRM-010
    writer = BinaryWriter(ID)
    writer._queue.seq = MAX_SEQ
    one = Response(writer, Config(), 0.0, request_id=ID, heartbeat_ms=1_000)
    assert one.send_message(b"x")
    assert b"FRM-010" in written(one)
    assert one.events() == [HandlerCancelled(request_id=ID, reason=CancelReason.INTERNAL)]


def test_numbers_of_an_error_are_kept_in_their_range() -> None:
    one, _ = response()
    one.fail(2**40 + 5, retry_after_ms=2**40)
    assert b'"num":5,' in (body := written(one))
    assert b'"retry_after_ms":4294967295,' in body
