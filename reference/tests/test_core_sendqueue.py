from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from muxwire._generated.codec import HEADER_SIZE, request_header
from muxwire._generated.registries import END_STREAM, ERROR, MAX_SEQ, META, MORE
from muxwire.core.flow import SendCredit
from muxwire.core.sendqueue import BLOCKED, EXHAUSTED, STARVED, Buffer, SendQueue

RID = bytes(15) + b"\x01"


def queue(limit: int = 1 << 30) -> SendQueue:
    return SendQueue(RID, limit, request_header)


def frames(
    source: SendQueue, *, shared: SendCredit | None = None, payload: int = 65_536
) -> list[tuple[int, int, bytes]]:
    """Take frames until the queue is empty or blocked; return flags, seq and payload of each."""
    shared = shared or SendCredit(1 << 30)
    taken = []
    while source.entries:
        parts: list[Buffer] = []
        octets = source.take(parts, shared, payload)
        if octets <= 0:
            break
        data = b"".join(parts)
        assert len(data) == octets
        header = data[:HEADER_SIZE]
        taken.append((header[2], int.from_bytes(header[4:8], "big"), data[HEADER_SIZE:]))
        assert int.from_bytes(header[8:16], "big") == len(data) - HEADER_SIZE
    return taken


def test_a_message_in_one_frame_has_no_flags() -> None:
    source = queue()
    source.push_message(b"token")
    assert frames(source) == [(0, 0, b"token")]
    assert source.buffered == 0


def test_an_empty_message_is_a_frame_of_its_own() -> None:
    source = queue()
    for data in (b"", b"a", b""):
        source.push_message(data)
    source.end()
    assert frames(source) == [(0, 0, b""), (0, 1, b"a"), (0, 2, b""), (END_STREAM, 3, b"")]


def test_the_end_rides_on_the_last_data() -> None:
    source = queue()
    source.push_message(b"ab")
    source.end()
    assert frames(source) == [(END_STREAM, 0, b"ab")]


def test_the_end_rides_on_the_last_piece_of_a_long_message() -> None:
    source = queue()
    source.push_message(b"abcde")
    source.end()
    assert frames(source, payload=2) == [
        (MORE, 0, b"ab"),
        (MORE, 1, b"cd"),
        (END_STREAM, 2, b"e"),
    ]


def test_headers_travel_with_the_first_message_unless_it_is_empty() -> None:
    source = queue()
    source.push(b"META", b"")
    source.push_message(b"data")
    assert frames(source) == [(META, 0, b"METAdata")]
    source = queue()
    source.push(b"META", b"")
    source.push_message(b"")
    assert frames(source) == [(META, 0, b"META"), (0, 1, b"")]


def test_metadata_stays_whole_and_its_data_is_split() -> None:
    source = queue()
    source.push(b"META", b"0123456789", END_STREAM)
    assert frames(source, payload=8) == [
        (META | MORE, 0, b"META0123"),
        (END_STREAM, 1, b"456789"),
    ]


def test_own_credit_is_used_to_the_last_octet_that_fits() -> None:
    source = queue(limit=32 + 5 + 33)
    source.push_message(b"abcde")
    source.push_message(b"fghij")
    assert frames(source) == [(0, 0, b"abcde"), (MORE, 1, b"f")]
    assert source.sent == 70
    assert source.take([], SendCredit(1 << 30), 100) == BLOCKED
    assert source.raise_to(70 + 32)
    assert source.take([], SendCredit(1 << 30), 100) == BLOCKED
    assert source.raise_to(70 + 33)
    assert frames(source) == [(MORE, 2, b"g")]


def test_the_connection_s_credit_counts_too() -> None:
    source = queue()
    source.push_message(b"abcde")
    shared = SendCredit(34)
    assert frames(source, shared=shared) == [(MORE, 0, b"ab")]
    assert source.take([], shared, 100) == STARVED


def test_exempt_frames_need_no_credit() -> None:
    source = queue(limit=0)
    source.end()
    assert frames(source, shared=SendCredit(0)) == [(END_STREAM, 0, b"")]
    source = queue(limit=0)
    source.push(b"", b"body", END_STREAM | ERROR)
    assert frames(source, shared=SendCredit(0)) == [(END_STREAM | ERROR, 0, b"body")]
    assert source.sent == 0


def test_trailers_are_not_exempt() -> None:
    source = queue(limit=35)
    source.push(b"META", b"", END_STREAM)
    assert frames(source) == []
    source.raise_to(36)
    assert frames(source) == [(META | END_STREAM, 0, b"META")]


def test_the_last_sequence_number_is_kept_for_the_terminal() -> None:
    source = queue()
    source.seq = MAX_SEQ
    source.push_message(b"x")
    assert source.take([], SendCredit(1 << 30), 100) == EXHAUSTED
    source.discard()
    source.push(b"", b"body", END_STREAM | ERROR)
    assert frames(source) == [(END_STREAM | ERROR, MAX_SEQ, b"body")]


def test_room_is_one_message_or_the_buffer() -> None:
    source = queue()
    assert source.has_room(1 << 30, 1000)
    source.push_message(bytes(500))
    assert source.has_room(1000 - 532 - 32, 1000)
    assert not source.has_room(1000 - 532 - 31, 1000)


def test_discard_forgets_everything() -> None:
    source = queue()
    source.push_message(b"abcdef")
    assert frames(source, payload=4)[:1] == [(MORE, 0, b"abcd")]
    source.push_message(b"abcdef")
    source.discard()
    assert (source.buffered, source.closed, len(source.entries)) == (0, True, 0)


@given(
    st.lists(st.binary(max_size=40), max_size=8),
    st.integers(1, 20),
    st.lists(st.integers(1, 60), max_size=40),
)
def test_messages_survive_any_cutting(
    messages: list[bytes], payload: int, raises: list[int]
) -> None:
    """Frames never exceed a limit, and put together again they are the messages."""
    source = queue(limit=0)
    for message in messages:
        source.push_message(message)
    source.end()
    shared = SendCredit(1 << 30)
    got: list[bytes] = []
    partial = b""
    seqs = []
    for step in [*raises, 1 << 20]:
        source.raise_to(source.limit + step)
        for flags, seq, data in frames(source, shared=shared, payload=payload):
            assert source.sent <= source.limit
            assert len(data) <= payload
            seqs.append(seq)
            partial += data
            if flags & MORE:
                continue
            if data or not flags & END_STREAM:
                got.append(partial)
            partial = b""
    assert got == messages
    assert seqs == list(range(len(seqs)))
    assert source.buffered == 0
