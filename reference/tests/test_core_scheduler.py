from __future__ import annotations

import pytest
from muxwire._generated.codec import HEADER_SIZE, request_header
from muxwire._generated.registries import END_STREAM, ERROR
from muxwire.core.flow import SendCredit
from muxwire.core.scheduler import Hooks, Scheduler
from muxwire.core.sendqueue import Buffer, SendQueue


class Bench:
    """A scheduler and what it said."""

    def __init__(self, credit: int = 1 << 30, max_frame_size: int = 1 << 20) -> None:
        self.said: list[tuple[str, SendQueue]] = []
        self.scheduler = Scheduler(
            SendCredit(credit),
            max_frame_size,
            END_STREAM,
            Hooks(
                written=lambda queue, parts: self.said.append(("written", queue)),  # noqa: ARG005
                stuck=lambda queue: self.said.append(("stuck", queue)),
                exhausted=lambda queue: self.said.append(("exhausted", queue)),
                room=lambda queue: self.said.append(("room", queue)),
            ),
        )

    def stream(self, number: int, *messages: bytes, limit: int = 1 << 30) -> SendQueue:
        queue = SendQueue(number.to_bytes(16, "big"), limit, request_header)
        for message in messages:
            queue.push_message(message)
        self.scheduler.ready(queue)
        return queue

    def write(self, batch: int = 1 << 30) -> list[tuple[int, int]]:
        """Return stream and payload size of each frame."""
        parts: list[Buffer] = []
        self.scheduler.write_streams(parts, batch)
        data = b"".join(parts)
        frames = []
        while data:
            size = int.from_bytes(data[8:16], "big")
            frames.append((data[31], size))
            data = data[HEADER_SIZE + size :]
        return frames


def test_streams_take_turns_frame_by_frame() -> None:
    bench = Bench()
    bench.stream(1, bytes(200_000))
    bench.stream(2, b"a", b"b", b"c", b"d")
    bench.stream(3, b"x")
    assert bench.write() == [
        (1, 65_536), (2, 1), (3, 1), (1, 65_536), (2, 1), (1, 65_536), (2, 1), (1, 3_392), (2, 1),
    ]  # fmt: skip


def test_the_peer_s_frame_size_binds_below_the_quantum() -> None:
    bench = Bench(max_frame_size=16_384)
    bench.stream(1, bytes(20_000))
    assert bench.write() == [(1, 16_384), (1, 3_616)]
    bench.scheduler.use(1 << 24)
    bench.stream(2, bytes(70_000))
    assert bench.write() == [(2, 65_536), (2, 4_464)]


def test_a_batch_is_bounded_and_the_order_goes_on() -> None:
    """FAI-006."""
    bench = Bench()
    for number in (1, 2, 3):
        bench.stream(number, bytes(40_000), bytes(40_000))
    assert bench.write(65_536) == [(1, 40_000), (2, 40_000)]
    assert bench.write(65_536) == [(3, 40_000), (1, 40_000)]
    assert bench.write(65_536) == [(2, 40_000), (3, 40_000)]
    assert bench.scheduler.idle


def test_a_stream_without_credit_blocks_nobody() -> None:
    bench = Bench()
    blocked = bench.stream(1, b"abc", limit=10)
    bench.stream(2, b"x", b"y")
    assert bench.write() == [(2, 1), (2, 1)]
    assert bench.said == [("stuck", blocked)]
    assert bench.scheduler.idle
    bench.scheduler.ready(blocked)
    assert bench.write() == []
    assert not bench.scheduler.raise_stream(blocked, 10)
    assert bench.scheduler.raise_stream(blocked, 100)
    assert bench.write() == [(1, 3)]


def test_without_connection_credit_exempt_frames_go_on() -> None:
    bench = Bench(credit=40)
    first = bench.stream(1, bytes(100))
    second = bench.stream(2, b"abc")
    third = bench.stream(3)
    third.end()
    bench.scheduler.ready(third)
    assert bench.write() == [(1, 8), (3, 0)]
    assert bench.said == [("stuck", second), ("written", third), ("stuck", first)]
    assert not bench.scheduler.raise_connection(40)
    assert bench.scheduler.raise_connection(1_000)
    assert bench.write() == [(2, 3), (1, 92)]
    assert len(bench.said) == 3


def test_a_terminal_at_once_overtakes_and_its_old_place_is_skipped() -> None:
    bench = Bench(credit=40)
    killed = bench.stream(1, bytes(100))
    bench.stream(2, b"abc")
    bench.write()
    killed.discard()
    killed.push(b"", b"body", END_STREAM | ERROR)
    bench.scheduler.at_once(killed)
    assert bench.write() == [(1, 4)]
    bench.scheduler.raise_connection(1_000)
    assert bench.write() == [(2, 3)]


def test_refusals_count_as_control_output() -> None:
    bench = Bench(credit=0)
    refusal = SendQueue(bytes(16), 0, request_header)
    refusal.push(b"", b"body", END_STREAM | ERROR)
    bench.scheduler.refuse(refusal)
    bench.scheduler.control(b"12345678")
    assert bench.scheduler.control_size == 44
    assert bench.write() == [(0, 4)]
    parts: list[Buffer] = []
    bench.scheduler.write_control(parts)
    assert (parts, bench.scheduler.control_size) == ([b"12345678"], 0)
    assert bench.said == []


@pytest.mark.parametrize("everything", [False, True])
def test_dropping(everything: bool) -> None:
    bench = Bench()
    bench.stream(1, b"x")
    bench.scheduler.control(b"12345678")
    bench.scheduler.drop() if everything else bench.scheduler.drop_streams()
    assert bench.write() == []
    assert bench.scheduler.control_size == (0 if everything else 8)


def test_a_waiting_writer_hears_of_every_frame() -> None:
    bench = Bench()
    queue = bench.stream(1, b"x")
    queue.wanted = 0
    bench.write()
    assert bench.said == [("room", queue)]
