"""Faults that the simulation, or reading the core for it, has found, each in its smallest form."""

from __future__ import annotations

import pytest
from core_harness import (
    ACK,
    PREFACE,
    SUBJECT,
    client,
    opening,
    response,
    rid,
    settings_frame,
    worker,
)
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, META, MORE, ErrorCode
from muxwire.core import MessageReceived, ResponseFailed, Writable
from muxwire.errors import InvalidArgument, LocalProtocolError, Outcome

BLOCK = 65_536
"""The largest MAX_METADATA_SIZE."""


def test_no_pings_pile_up_while_nothing_can_be_written() -> None:
    """A PING was due again at once, for ever, while the driver could not write (HBT-001)."""
    core = client(peer={"idle_timeout_ms": 100}).core
    core.open(SUBJECT, now=0.0, data=bytes(1_000))
    assert core.data_to_send(0.0)  # and it is not written
    calls = 0
    while (due := core.next_timeout()) is not None and due < 10.0:
        core.handle_timeout(due)
        calls += 1
        assert calls < 5
    assert core.buffered_bytes <= 40


def headers_of(octets: int) -> list[tuple[bytes, bytes]]:
    """Headers that fill a metadata block of this length."""
    fixed = len(codec.encode_open(0, 0, SUBJECT, [])) - 4
    headers = []
    left = octets - fixed
    for number in range(9):
        value = min(left - 4, 8_192)
        headers.append((b"%d" % number, b"x" * value))
        left -= 4 + value
        if not left:
            return headers
    raise AssertionError("too long")


@pytest.mark.parametrize("size", [BLOCK - 5, BLOCK - 4, BLOCK - 3, BLOCK])
def test_a_block_longer_than_a_turn_leaves_no_room_for_the_message(size: int) -> None:
    """The room for the message became negative, and the frame was cut short (FRM-001)."""
    wire = client(peer={"max_metadata_size": BLOCK, "max_frame_size": 1 << 20})
    request_id = wire.core.open(SUBJECT, now=0.0, headers=headers_of(size), data=b"message")
    wire.pull()
    first, *rest = wire.stream(request_id)
    opened = codec.decode_open(first[4], BLOCK)
    assert opened.headers == headers_of(size)
    assert opened.body + b"".join(frame[4] for frame in rest) == b"message"


@pytest.mark.parametrize("short", [0, 1, 2])
def test_a_block_that_fills_the_window_goes_without_the_message(short: int) -> None:
    """It waited for a unit that never came (FLW-001)."""
    wire = client(peer={"max_metadata_size": BLOCK, "max_frame_size": 1 << 20,
                        "initial_stream_window": BLOCK})  # fmt: skip
    headers = headers_of(BLOCK - 32 - 4 - short)
    request_id = wire.core.open(SUBJECT, now=0.0, headers=headers, data=b"message")
    wire.pull()
    (first,) = wire.stream(request_id)
    assert first[1] == META | MORE
    assert codec.decode_open(first[4], BLOCK).body == b"message"[:short]
    with pytest.raises(InvalidArgument):
        wire.core.open(SUBJECT, now=0.0, headers=headers_of(BLOCK - 32 - 3), data=b"message")


def test_streams_that_starved_are_forgotten_with_their_request() -> None:
    """Each left its queue behind until the connection's window was raised (DOS-002)."""
    window = 1 << 20
    wire = worker(peer={"connection_window": window, "initial_stream_window": window})
    for number in range(1, 20):
        wire.send(opening(number))
        wire.core.send_message(rid(number), bytes(window))
        wire.pull()
        wire.send(codec.encode_kill(rid(number), 0))
        wire.core.finish(rid(number))
        wire.pull()
    assert len(wire.core._scheduler._starved) == 0


def test_starved_requests_of_a_client_are_forgotten_too() -> None:
    window = 1 << 20
    wire = client(peer={"connection_window": window, "initial_stream_window": window})
    blocker = wire.core.open(SUBJECT, now=0.0, data=bytes(window - 1_000))
    wire.pull()
    for _ in range(20):
        request_id = wire.core.open(SUBJECT, now=0.0, data=b"x", end=False)
        wire.pull()
        wire.core.send_message(request_id, bytes(10_000))
        wire.pull()
        if wire.stream(request_id):
            wire.core.kill(request_id)
            wire.pull()
            wire.send(response(request_id, 0, b"", END_STREAM))
        else:
            wire.core.kill(request_id)
        wire.pull()
    assert wire.core.open_requests == 1
    assert list(wire.core._scheduler._starved) in ([], [wire.core._requests[blocker].queue])


@pytest.mark.parametrize("after", [b"\0" * 40, b""])
def test_messages_can_be_consumed_after_the_end(after: bytes) -> None:
    """A caller that took its message from an ended connection was told off."""
    wire = client()
    core = wire.core
    request_id = core.open(SUBJECT, now=0.0, data=b"")
    wire.pull()
    wire.send(response(request_id, 0, b"answer") + after)
    if not after:
        core.receive_eof(0.0)
    core.consumed(request_id, wire.one(MessageReceived).cost)
    assert core.buffered_bytes == len(core.data_to_send(0.0))


def test_more_than_was_handed_out_is_still_refused_while_the_connection_lives() -> None:
    core = client().core
    with pytest.raises(LocalProtocolError):
        core.consumed(rid(1), 1)


@pytest.mark.parametrize("code", [ErrorCode.NO_ERROR, ErrorCode.INTERNAL_ERROR])
def test_repeated_goaways_set_one_deadline(code: ErrorCode) -> None:
    """Each set another one, without bound (DOS-002)."""
    wire = client()
    wire.send(codec.encode_goaway(code, 0, 0, b"") * 1_000)
    assert len(wire.core._timers) == 1
    wire.advance(2.5)
    assert wire.core.close_action


def test_nothing_waits_for_a_place_after_the_end() -> None:
    wire = client(peer={"max_concurrent_requests": 100})
    for _ in range(120):
        wire.core.open(SUBJECT, now=0.0)
    wire.pull()
    assert wire.core.waiting_requests == 20
    wire.core.receive_eof(0.0)
    wire.pull()
    assert wire.core.waiting_requests == wire.core.open_requests == 0
    outcomes = [event.outcome for event in wire.events(ResponseFailed)]
    assert outcomes.count(Outcome.NOT_SENT) == 20


def test_dropped_refusals_hold_no_control_output() -> None:
    """What was never written when the connection ended stayed in `buffered_bytes`."""
    core = worker().core
    core.receive_data(b"".join(opening(n, subject=b"no.such") for n in range(1, 50)), 0.0)
    assert core.buffered_bytes > 49 * 32
    core.receive_eof(0.0)
    assert core.buffered_bytes == 0


def test_a_response_out_of_sequence_counts_as_received() -> None:
    """A RESPONSE counts whether it is valid or not, so the class is PARTIAL (REC-002)."""
    wire = client()
    request_id = wire.core.open(SUBJECT, now=0.0, data=b"")
    wire.pull()
    wire.send(response(request_id, 5, b"x"))
    wire.assert_violation(ErrorCode.SEQUENCE_ERROR, "FRM-010")
    assert wire.one(ResponseFailed).outcome is Outcome.PARTIAL


def test_a_message_does_not_push_a_waiting_request_onto_the_wire() -> None:
    """`send_message` gave a request its turn although it had no place (ADM-001)."""
    wire = client(peer={"max_concurrent_requests": 100})
    core = wire.core
    for _ in range(100):
        core.open(SUBJECT, now=0.0)
    waiting = core.open(SUBJECT, now=0.0, end=False)
    assert core.send_message(waiting, b"x")
    wire.pull()
    assert wire.stream(waiting) == []
    first = wire.frames[2][3]
    wire.send(response(first, 0, b"", END_STREAM))
    assert [frame[1] for frame in wire.stream(waiting)] == [META]


def test_no_writer_is_told_of_room_before_the_settings_make_it() -> None:
    """It was told when the OPEN went out, and could not send then (SET-005)."""
    wire = client(shake=False)
    core = wire.core
    request_id = core.open(SUBJECT, now=0.0, end=False)
    assert core.send_message(request_id, bytes((1 << 20) + 1))
    assert not core.send_message(request_id, b"next")
    wire.pull()
    assert wire.events(Writable) == []
    wire.send(PREFACE, settings_frame(initial_stream_window=1 << 21), ACK)
    assert wire.one(Writable).request_id == request_id
    assert core.send_message(request_id, b"next")
