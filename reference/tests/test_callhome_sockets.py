"""Sockets of call-home that end at the worst moment."""

from __future__ import annotations

import asyncio

import pytest
from io_harness import Listener, Peer, until
from muxwire.callhome.acceptor import Acceptor
from muxwire.callhome.dialled import _set_options

pytestmark = pytest.mark.usefixtures("each_loop")


class Protocol(asyncio.Protocol):
    """Remembers that it lost its transport."""

    lost = False

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self.lost = True


async def test_a_connection_that_is_accepted_while_the_acceptor_closes() -> None:
    """It gets no protocol: whoever closes has looked at all that there are."""
    made: list[Protocol] = []
    acceptor = Acceptor(lambda: made.append(Protocol()) or made[-1])  # type: ignore[func-returns-value]
    await acceptor.listen("127.0.0.1", 0)
    asyncio.get_running_loop().remove_reader(acceptor._sockets[0])  # it accepts below
    async with await Peer.dial("{}:{}".format(*acceptor.names[0])) as peer:
        acceptor._accept(acceptor._sockets[0])
        acceptor.close()
        assert await peer.rest() == b""
    assert not made


async def test_a_connection_that_gets_no_transport() -> None:
    async def gone(*_: object) -> None:
        raise ConnectionResetError

    protocol = Protocol()
    acceptor = Acceptor(lambda: protocol)
    acceptor._loop = type("Loop", (), {"connect_accepted_socket": gone})()
    with Listener() as listener:
        async with await Peer.dial(listener.address) as peer:
            await acceptor._connect((await listener.accept())._sock)
            assert await peer.rest() == b""
    assert protocol.lost


async def test_options_of_a_socket_that_is_gone_say_nothing() -> None:
    with Listener() as listener:
        host, port = listener.address.split(":")
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(Protocol, host, int(port))
        transport.abort()
        await until(lambda: protocol.lost)
        _set_options(transport, 1.0, 1_000)
        (await listener.accept()).close()
