"""Connections that bring no request are closed; the others are left alone."""

from __future__ import annotations

import asyncio
import resource
import socket

import pytest
from http_serving import Http1
from muxwire.http.connections import Newcomers, connected, shut
from muxwire.http.server import most_connections


@pytest.mark.usefixtures("each_loop")
async def test_who_brings_no_request_is_closed() -> None:  # P1-018
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(100):
            writer.write(octets)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    other = await asyncio.start_server(echo, "127.0.0.1", 0)
    newcomers = Newcomers({port}, patience=0.0)
    async with server, other:
        known = Http1(*await asyncio.open_connection("127.0.0.1", port))
        host, number = known.writer.get_extra_info("sockname")
        newcomers.meet((host, number))
        elsewhere = Http1(*await asyncio.open_connection(*other.sockets[0].getsockname()))
        for _ in range(2):
            async with Http1(*await asyncio.open_connection("127.0.0.1", port)) as slow:
                slow.writer.write(b"POST")
                assert await slow.reader.readexactly(4) == b"POST"
                assert await slow.eof()
        for kept in (known, elsewhere):  # more than one look later
            kept.writer.write(b"x")
            assert await kept.reader.readexactly(1) == b"x"
            await kept.close()
        newcomers.close()


def test_a_connection_is_found_by_its_port_and_shut() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as one:
            accepted, peer = server.accept()
            with accepted:
                ((_, found, _),) = [*connected({port})]
                assert found == peer == one.getsockname()
                assert [*connected({0})] == []
                shut((sock for _, __, sock in connected({port})), socket.SHUT_RDWR)
                assert one.recv(1) == b""
                shut([accepted], socket.SHUT_RDWR)  # ended already


@pytest.mark.parametrize(
    ("soft", "most"),
    [(1_024, 512), (2**30, 65_536), (resource.RLIM_INFINITY, 65_536), (3, 4)],
)
def test_half_of_the_files_may_be_connections(
    soft: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    assert most_connections() == most
