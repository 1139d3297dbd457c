"""The judge's transport: it must never lose what the peer said last."""

from __future__ import annotations

import asyncio
import socket
import threading
import time

import pytest
from engine_fakes import FakePeer, closed_port, read_exactly, reset
from muxwire_conformance.transport import ConnectError, Direction, EndKind, Transport

GOAWAY = bytes(range(60))


async def finished(transport: Transport) -> None:
    """Wait for the end of the peer's direction."""
    if transport.end is None:
        ended = asyncio.Event()
        transport.on_end = lambda _end: ended.set()
        async with asyncio.timeout(10):
            await ended.wait()


async def dial(peer: FakePeer, **options: int) -> Transport:
    return await Transport.connect(
        peer.address.host,
        peer.address.port,
        within=5,
        receive_buffer=options.get("receive_buffer"),
    )


def test_fin_and_what_came_before() -> None:
    async def main() -> None:
        with FakePeer(lambda sock: sock.sendall(GOAWAY)) as peer:
            transport = await dial(peer)
            await finished(transport)
            assert transport.end is not None
            assert transport.end.kind is EndKind.FIN
            assert transport.end.describe() == "closed (FIN) after 60 bytes"
            transport.close()

    asyncio.run(main())


def test_reset_before_any_byte() -> None:
    def script(sock: socket.socket) -> None:
        read_exactly(sock, 1)  # a reset during the dial would be a failed dial
        reset(sock)

    async def main() -> None:
        with FakePeer(script) as peer:
            transport = await dial(peer)
            transport.write(b"x")
            await finished(transport)
            assert transport.end is not None
            assert transport.end.kind is EndKind.RST
            assert "before any byte" in transport.end.describe()
            transport.close()

    asyncio.run(main())


@pytest.mark.parametrize("chunks", [1, 16, 256])
def test_a_failed_write_never_stops_reading(chunks: int) -> None:
    """A peer that answers and closes with unread input resets the connection under our writes."""

    def script(sock: socket.socket) -> None:
        read_exactly(sock, 40)
        sock.sendall(GOAWAY)

    async def main() -> None:
        with FakePeer(script) as peer:
            for _ in range(25):
                transport = await dial(peer)
                transport.write(bytes(40))
                for _ in range(chunks):
                    transport.write(bytes(4_096))
                    await asyncio.sleep(0)
                await finished(transport)
                got = [
                    c.data for c in transport.recording.chunks if c.direction is Direction.RECEIVED
                ]
                assert b"".join(got) == GOAWAY
                transport.close()

    asyncio.run(main())


def test_half_close_still_reads() -> None:
    def script(sock: socket.socket) -> None:
        received = b""
        while more := sock.recv(100):
            received += more
        sock.sendall(received[::-1])

    async def main() -> None:
        with FakePeer(script) as peer:
            transport = await dial(peer)
            transport.write(b"abc")
            transport.half_close()
            await finished(transport)
            assert transport.recording.chunks[-1].data == b"cba"
            transport.close()

    asyncio.run(main())


def test_abort_is_a_reset_for_the_peer() -> None:
    outcome: list[object] = []
    told = threading.Event()

    def script(sock: socket.socket) -> None:
        try:
            outcome.append(sock.recv(10))
        except ConnectionResetError as error:
            outcome.append(type(error))
        finally:
            told.set()

    async def main() -> None:
        with FakePeer(script) as peer:
            transport = await dial(peer)
            transport.abort()
            assert await asyncio.to_thread(told.wait, 10)
            assert transport.end is not None
            assert transport.end.kind is EndKind.LOCAL

    asyncio.run(main())
    assert outcome == [ConnectionResetError]


def test_dribble_writes_single_octets() -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(read_exactly(sock, 200))

    async def main() -> None:
        with FakePeer(script) as peer:
            transport = await dial(peer)
            transport.dribble()
            transport.write(bytes(range(200)))
            assert await transport.flushed(5)
            await finished(transport)
            sent = [c for c in transport.recording.chunks if c.direction is Direction.SENT]
            assert len(sent) == 200
            assert {chunk.length for chunk in sent} == {1}
            assert transport.received == 200
            transport.close()

    asyncio.run(main())


def test_pausing_stops_the_peer_and_resuming_gets_everything() -> None:
    size = 32 * 1_048_576
    done = threading.Event()

    def script(sock: socket.socket) -> None:
        sock.sendall(bytes(size))
        done.set()

    async def main() -> None:
        with FakePeer(script) as peer:
            transport = await dial(peer, receive_buffer=4_096)
            transport.pause_reading()
            assert not await asyncio.to_thread(done.wait, 0.1)
            transport.resume_reading()
            await finished(transport)
            assert transport.received == size
            kept = sum(len(chunk.data) for chunk in transport.recording.chunks)
            assert kept < 2_000_000  # the recording is bounded
            transport.close()

    asyncio.run(main())


def test_flushed_gives_up() -> None:
    release = threading.Event()

    async def main() -> None:
        with FakePeer(lambda _sock: release.wait(10)) as peer:
            transport = await dial(peer)
            transport.write(bytes(64 * 1_048_576))
            assert not await transport.flushed(0.05)
            assert transport.unwritten > 0
            transport.close()
            release.set()

    asyncio.run(main())


def test_times_are_monotonic_and_ordered() -> None:
    async def main() -> None:
        with FakePeer(lambda sock: sock.sendall(read_exactly(sock, 3))) as peer:
            before = time.monotonic()
            transport = await dial(peer)
            transport.write(b"abc")
            await finished(transport)
            times = [before, transport.opened_at, *[c.at for c in transport.recording.chunks]]
            assert times == sorted(times)
            transport.close()

    asyncio.run(main())


def test_ipv6() -> None:
    try:
        peer = FakePeer(lambda sock: sock.sendall(b"six"), host="::1")
    except OSError:
        pytest.skip("no IPv6 here")

    async def main() -> None:
        with peer:
            transport = await dial(peer)
            await finished(transport)
            assert transport.recording.chunks[-1].data == b"six"
            transport.close()

    asyncio.run(main())


def test_refused_and_unknown_names() -> None:
    async def main() -> None:
        with pytest.raises(ConnectError, match="refused") as refused:
            await Transport.connect("127.0.0.1", closed_port(), within=5)
        assert refused.value.refused
        with pytest.raises(ConnectError, match="cannot be resolved"):
            await Transport.connect("a..b", 1, within=5)

    asyncio.run(main())
