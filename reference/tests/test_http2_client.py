"""The client of the HTTP path over HTTP/2: connections, streams, credit, and their ends."""

from __future__ import annotations

import asyncio
from typing import Any

import h2.errors
import muxwire
import pytest
from h2.settings import SettingCodes
from http_harness import Exchange2, Played, fields_of, played, playing
from hypothesis import given
from hypothesis import strategies as st
from io_harness import Listener, drained, until
from muxwire._generated.registries import ErrorCode
from muxwire.errors import Outcome
from muxwire.http import Client, connect
from muxwire.http.goaway import Filter, Goaway
from muxwire.http.http2 import CONNECTIONS
from muxwire.http.http2connection import STREAM_WINDOW

WHOLE = b'event: done\ndata: {"items":0,"trailers":{}}\n\n'
ITEM = b"id: %d\nevent: bin\ndata: %b\n\n"


async def whole(exchange: Exchange2) -> None:
    await exchange.head()
    await exchange.data(WHOLE)
    await exchange.end()


class Held:
    """A script that answers when the test says so.

    Attributes:
        waiting: Exchanges that have not been answered.
        most: The largest number of them on one connection.
    """

    def __init__(self) -> None:
        self.waiting: list[Exchange2] = []
        self.most = 0
        self._go = asyncio.Event()

    async def __call__(self, exchange: Exchange2) -> None:
        self.waiting.append(exchange)
        here = [one for one in self.waiting if one.connection is exchange.connection]
        self.most = max(self.most, len(here))
        await asyncio.wait(
            [asyncio.ensure_future(one) for one in (self._go.wait(), exchange.gone())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        self.waiting.remove(exchange)
        if not exchange.reset.is_set():
            await whole(exchange)

    def go(self) -> None:
        self._go.set()


async def failure(stream: muxwire.Stream) -> muxwire.RequestFailed:
    _, error = await drained(stream)
    assert error is not None
    return error


# -- GOAWAY in the octets --------------------------------------------------------------------------


def frame(type_: int, payload: bytes, stream: int = 0, flags: int = 0) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((type_, flags)) + stream.to_bytes(4, "big")
    return head + payload


def fed(pieces: list[bytes]) -> list[bytes | Goaway]:
    """Feed pieces, and join what passes."""
    found: list[bytes | Goaway] = []
    taker = Filter()
    for piece in pieces:
        for out in taker.feed(piece):
            if isinstance(out, bytes) and found and isinstance(found[-1], bytes):
                found[-1] += out
            else:
                found.append(out)
    return found


FRAMES = [
    frame(0, b"data", 1),
    frame(0, b"", 1),
    frame(7, (5).to_bytes(4, "big") + (2).to_bytes(4, "big") + b"why"),
    frame(6, bytes(8)),
    frame(7, (0x80000003).to_bytes(4, "big") + bytes(4)),
    frame(0, b"\x00\x00\x08\x07" + bytes(200), 3),
]


@given(st.lists(st.integers(0, 400), max_size=8))
def test_goaway_is_taken_out_in_any_pieces(cuts: list[int]) -> None:
    octets = b"".join(FRAMES)
    places = sorted({cut % len(octets) for cut in cuts})
    pieces = [octets[a:b] for a, b in zip([0, *places], [*places, len(octets)], strict=True)]
    assert fed(pieces) == [
        FRAMES[0] + FRAMES[1],
        Goaway(5, 2),
        FRAMES[3],
        Goaway(3, 0),
        FRAMES[5],
    ]


@pytest.mark.parametrize("size", [0, 7, 16_385, 2**24 - 1])
def test_a_goaway_of_a_wrong_size(size: int) -> None:
    with pytest.raises(ValueError, match=f"{size} octets"):
        list(Filter().feed(size.to_bytes(3, "big") + b"\x07" + bytes(5)))


# -- connections and streams -----------------------------------------------------------------------


@pytest.mark.usefixtures("each_loop")
async def test_many_streams_share_a_connection() -> None:
    held = Held()
    async with played(2, held) as (client, worker):
        streams = [client.stream("a", b"x") for _ in range(50)]
        await until(lambda: len(held.waiting) == 50)
        assert len(worker.connections) == 1
        held.go()
        for stream in streams:
            assert await drained(stream) == ([], None)


@pytest.mark.usefixtures("each_loop")
async def test_the_workers_limit_of_streams_is_kept() -> None:
    held = Held()
    limit = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}
    async with played(2, held, settings=limit) as (client, worker):
        streams = [client.stream("a", b"") for _ in range(3 * 2 * CONNECTIONS)]
        await until(lambda: len(held.waiting) == 2 * CONNECTIONS)
        assert len(worker.connections) == CONNECTIONS
        assert client.open_requests == len(streams)
        held.go()
        for stream in streams:
            assert await drained(stream) == ([], None)
        assert len(worker.posts) == len(streams)
        assert held.most == 2


async def test_who_finds_no_room_waits_a_limited_time() -> None:  # REC-005
    held = Held()
    limit = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    async with played(2, held, settings=limit, recover=True, wait=0.1) as (client, worker):
        running = [client.stream("a", b"") for _ in range(CONNECTIONS)]
        await until(lambda: len(held.waiting) == CONNECTIONS)
        error = await failure(client.stream("a", b""))
        assert (error.outcome, error.code, error.attempts) == (Outcome.NOT_SENT, None, 0)
        assert len(worker.posts) == CONNECTIONS
        held.go()
        for stream in running:
            assert await drained(stream) == ([], None)


async def test_a_place_that_comes_free_is_used() -> None:
    held = Held()
    limit = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
    async with played(2, held, settings=limit) as (client, worker):
        running = [client.stream("a", b"") for _ in range(CONNECTIONS)]
        await until(lambda: len(held.waiting) == CONNECTIONS)
        waiting = [client.stream("a", b"") for _ in range(2)]
        waiting[0].kill()
        assert (await failure(waiting[0])).outcome is Outcome.NOT_SENT
        running[0].kill()
        await until(lambda: len(worker.posts) == CONNECTIONS + 1)
        held.go()
        for stream in (*running[1:], waiting[1]):
            assert await drained(stream) == ([], None)


async def test_a_kill_resets_the_stream_and_no_other() -> None:  # P1-013
    held = Held()
    async with played(2, held) as (client, worker):
        one, other = client.stream("a", b""), client.stream("a", b"")
        await until(lambda: len(held.waiting) == 2)
        one.kill()
        assert (await failure(one)).code == ErrorCode.CANCELLED
        (connection,) = worker.connections
        await until(lambda: connection.resets)
        assert connection.resets == [(1, int(h2.errors.ErrorCodes.CANCEL))]
        held.go()
        assert await drained(other) == ([], None)


async def test_no_reset_behind_a_whole_response() -> None:
    async with played(2, whole) as (client, worker):
        for _ in range(3):
            assert await client.call("a") == b""
        (connection,) = worker.connections
        assert not connection.resets


async def test_a_response_before_the_request_is_read() -> None:
    async def script(exchange: Exchange2) -> None:
        await whole(exchange)
        exchange.connection.h2.reset_stream(exchange.stream, h2.errors.ErrorCodes.NO_ERROR)
        exchange.connection.flush()

    async with played(2, script, early=True) as (client, worker):
        for _ in range(3):
            assert await client.call("a", bytes(3_000_000)) == b""
        assert len(worker.connections) == 1


# -- credit ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_loop")
async def test_credit_is_given_for_what_is_taken() -> None:
    sent = 0

    async def script(exchange: Exchange2) -> None:
        nonlocal sent
        await exchange.head()
        for seq in range(400):
            await exchange.data(ITEM % (seq, b"AAAA" * 1_000))
            sent = seq + 1
        await exchange.data(b'event: done\ndata: {"items":400,"trailers":{}}\n\n')
        await exchange.end()

    async with played(2, script) as (client, worker):
        stream = client.stream("a", b"")
        inbox = stream._inbox
        (connection,) = [*await connected(worker)]
        await until(lambda: connection.h2.local_flow_control_window(1) <= 0)
        room = sent
        for _ in range(300):
            await asyncio.sleep(0)
        assert sent == room < 2 * STREAM_WINDOW // 4_000
        credit = sum(size for number, size in worker.credits if number == 1)
        held = sum(cost for _, cost in inbox.messages)
        assert credit <= STREAM_WINDOW
        assert held <= 2 * STREAM_WINDOW
        messages, error = await drained(stream)
        assert (len(messages), error) == (400, None)
        assert all(number in (0, 1) for number, _ in worker.credits)


async def connected(worker: Played) -> list[Any]:
    await until(lambda: worker.connections and worker.posts)
    return worker.connections


async def test_an_item_larger_than_the_credit() -> None:
    size = 4 * STREAM_WINDOW

    async def script(exchange: Exchange2) -> None:
        await exchange.head()
        await exchange.data(ITEM % (0, b"AAAA" * (size // 3)))
        await exchange.data(b'event: done\ndata: {"items":1,"trailers":{}}\n\n')
        await exchange.end()

    async with played(2, script) as (client, _):
        assert len(await client.call("a")) == size // 3 * 3


# -- ends ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_loop")
async def test_goaway_lets_open_streams_finish() -> None:
    held = Held()
    async with played(2, held) as (client, worker):
        first = client.stream("a", b"")
        await until(lambda: held.waiting)
        (old,) = worker.connections
        old.goaway(1)
        held.go()
        assert await drained(first) == ([], None)
        assert await client.call("a") == b""
        await until(lambda: old not in worker.connections)
        assert worker.accepted == 2


async def test_a_stream_that_goaway_leaves_out() -> None:  # P1-020
    held = Held()
    async with played(2, held) as (client, worker):
        one, other = client.stream("a", b""), client.stream("a", b"")
        await until(lambda: len(held.waiting) == 2)
        (connection,) = worker.connections
        connection.goaway(1, int(h2.errors.ErrorCodes.ENHANCE_YOUR_CALM))
        error = await failure(other)
        assert error.outcome is Outcome.AMBIGUOUS
        assert "ENHANCE_YOUR_CALM" in error.message
        held.go()
        assert await drained(one) == ([], None)


async def test_a_connection_that_dies_takes_its_streams_along() -> None:
    held = Held()
    async with played(2, held) as (client, worker):
        streams = [client.stream("a", b"") for _ in range(3)]
        await until(lambda: len(held.waiting) == 3)
        worker.connections[0].transport.abort()
        for stream in streams:
            assert (await failure(stream)).outcome is Outcome.AMBIGUOUS
        held.go()
        assert await client.call("a") == b""


END_HEADERS = 4

GARBAGE = {
    "a huge frame": b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "no fields": frame(1, b"\xff\xff\xff\xff", 1, END_HEADERS),
    "a window of nothing": frame(8, bytes(4)),
    "a push": frame(5, b"\x00\x00\x00\x02\x82", 1, END_HEADERS),
    "an odd goaway": frame(7, b"oops"),
    "data on nothing": frame(0, b"x", 99),
}


@pytest.mark.parametrize("octets", GARBAGE.values(), ids=GARBAGE)
async def test_a_worker_that_breaks_http2(octets: bytes) -> None:
    async def script(exchange: Exchange2) -> None:
        exchange.connection.transport.write(octets)
        await exchange.gone()

    async with played(2, script) as (client, worker):
        error = await failure(client.stream("a", b""))
        assert (error.outcome, error.code) == (Outcome.AMBIGUOUS, None)
        assert "\n" not in str(error)
        await until(lambda: not worker.connections)


async def test_fields_that_are_malformed() -> None:
    async def script(exchange: Exchange2) -> None:
        config = exchange.connection.h2.config
        config.validate_outbound_headers = config.normalize_outbound_headers = False
        await exchange.head(200, [("content-type", "text/event-stream"), ("Upper", "x")])
        await exchange.gone()

    async with played(2, script) as (client, _):
        assert (await failure(client.stream("a", b""))).outcome is Outcome.AMBIGUOUS


async def test_informational_answers_are_passed_over() -> None:
    async def script(exchange: Exchange2) -> None:
        exchange.connection.h2.send_headers(exchange.stream, [(":status", "103"), ("link", "x")])
        await exchange.head(200, [*fields_of(exchange.posted)])
        await exchange.data(WHOLE)
        exchange.connection.h2.send_headers(exchange.stream, [("x", "trailer")], end_stream=True)
        exchange.connection.flush()

    async with played(2, script) as (client, _):
        assert await client.call("a") == b""


# -- what is no HTTP/2 -----------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\xf7WMX\r\n\x1a\n"])
async def test_a_worker_that_speaks_something_else(answer: bytes) -> None:
    with Listener() as listener:
        async with connect(f"http://{listener.address}", http2=True, recover=False) as client:
            stream = client.stream("a", b"")
            async with await listener.accept() as peer:
                await peer.send(answer)
                if not answer:
                    peer.half_close()
                error = await failure(stream)
                assert (error.outcome, error.code) == (Outcome.NOT_SENT, None)
                assert "\n" not in str(error)


async def test_a_worker_that_never_says_hello() -> None:
    async with playing(2, whole, mute=True) as worker:
        client = Client(
            (f"http://{worker.address}",),
            muxwire.Config(connect_timeout=0.1),
            recover=False,
            http2=True,
        )
        error = await failure(client.stream("a", b""))
        assert error.outcome is Outcome.NOT_SENT
        await client.close()
        await until(lambda: not worker.connections)


async def test_close_says_goodbye() -> None:
    async with playing(2, whole) as worker:
        async with connect(f"http://{worker.address}", http2=True) as client:
            await client.call("a")
            (connection,) = worker.connections
        await until(lambda: not worker.connections)
        assert connection.goodbye == 0


async def test_close_while_it_dials() -> None:
    with Listener() as listener:
        client = await connect(f"http://{listener.address}", http2=True)
        stream = client.stream("a", b"")
        await asyncio.sleep(0)
        await client.close(0.0)
        assert (await failure(stream)).outcome is Outcome.NOT_SENT
