"""TLS between client and worker, and between either of them and the ssl of asyncio (SEC-001)."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import muxwire
import pytest
import trustme
from io_harness import (
    GOAWAY,
    HELLO,
    LIMIT,
    PREFACE,
    Listener,
    Peer,
    Served,
    drained,
    first_line,
    never,
    opening,
    until,
)
from muxwire import Request, TlsFailed
from muxwire._generated import codec
from muxwire.handlers import Handler
from muxwire.tcp.address import parse
from muxwire.tcp.client import Connecting
from muxwire.tcp.pump import UNSENT_LIMIT

each = pytest.mark.usefixtures("each_loop")

MIB = 1 << 20
HOST = "127.0.0.1"


async def echo(request: Request) -> AsyncGenerator[bytes, None]:
    async for message in request:
        yield message


async def forever(_: Request) -> None:
    await never()


async def flood(_: Request) -> AsyncGenerator[bytes, None]:
    while True:
        yield bytes(100_000)


@dataclass
class Files:
    """The PEM files of one authority."""

    ca: Path
    cert: Path
    key: Path
    both: Path


def _files(directory: Path) -> Files:
    authority = trustme.CA()
    leaf = authority.issue_cert(HOST, "localhost")
    names = Files(*(directory / name for name in ("ca", "cert", "key", "both")))
    authority.cert_pem.write_to_path(str(names.ca))
    leaf.cert_chain_pems[0].write_to_path(str(names.cert))
    leaf.private_key_pem.write_to_path(str(names.key))
    leaf.private_key_and_cert_chain_pem.write_to_path(str(names.both))
    return names


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return _files(tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return _files(tmp_path_factory.mktemp("theirs"))


def fast(**options: Any) -> muxwire.Config:
    return muxwire.Config(handshake_timeout=1.0, **options)


@asynccontextmanager
async def served(
    files: Files,
    handlers: Mapping[str, Handler] | None = None,
    *,
    client_ca: Path | None = None,
    **options: Any,
) -> AsyncIterator[muxwire.Worker]:
    """Serve over TLS."""
    worker = muxwire.Worker(handlers or {"echo": echo, "forever": forever}, **options)
    await worker.start(tls=muxwire.server_context(files.cert, files.key, client_ca))
    async with worker:
        yield worker


def dial(
    worker: muxwire.Worker | str, context: ssl.SSLContext | None, **options: Any
) -> Connecting:
    address = worker if isinstance(worker, str) else worker.addresses[0]
    options = {"connections": 1, "recover": False, **options}
    return muxwire.connect(address, tls=context, **options)


class Streams:
    """A client made of asyncio's own TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    @asynccontextmanager
    async def dial(cls, worker: muxwire.Worker, context: ssl.SSLContext) -> AsyncIterator[Streams]:
        host, port = parse(worker.addresses[0])
        reader, writer = await asyncio.open_connection(host, port, ssl=context)
        try:
            yield cls(reader, writer)
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def goaway(self) -> codec.Goaway:
        """Read the preface and on to a GOAWAY."""
        assert await self.reader.readexactly(16) == PREFACE
        while True:
            header = await self.reader.readexactly(32)
            payload = await self.reader.readexactly(int.from_bytes(header[8:16], "big"))
            if (header[1], header[3]) == GOAWAY:
                return codec.decode_goaway(payload)


def like_ours(files: Files, alpn: list[str] | None = None) -> ssl.SSLContext:
    """Return a client context that the test may change."""
    context = ssl.create_default_context(cafile=str(files.ca))
    context.set_alpn_protocols(["wmx/1"] if alpn is None else alpn)
    return context


# -- two of ours -----------------------------------------------------------------------------------


@each
async def test_calls_and_streams_go_over_tls(ours: Files) -> None:
    async with served(ours) as worker, dial(worker, muxwire.client_context(ours.ca)) as client:
        assert await client.call("echo", b"hi") == b"hi"
        sent = [bytes([number]) * number * 1_000 for number in range(40)]
        stream = client.stream("echo")
        await stream.send_all(sent)
        assert [item async for item in stream] == sent
        assert client.connections == 1


@each
async def test_large_messages_go_both_ways_at_once(ours: Files) -> None:
    data = bytes(range(256)) * (8 * MIB // 256)
    async with served(ours) as worker, dial(worker, muxwire.client_context(ours.ca)) as client:
        answers = await asyncio.gather(*(client.call("echo", data) for _ in range(4)))
        assert all(answer == data for answer in answers)


@each
async def test_the_name_of_the_target_is_what_is_verified(ours: Files) -> None:
    context = muxwire.client_context(ours.ca)
    async with served(ours) as worker:
        port = parse(worker.addresses[0])[1]
        async with dial(f"localhost:{port}", context) as client:
            assert await client.call("echo", b"hi") == b"hi"
        narrow = trustme.CA()
        other = muxwire.Worker({"echo": echo})
        wrong = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        wrong.set_alpn_protocols(["wmx/1"])
        narrow.issue_cert("elsewhere.example").configure_cert(wrong)
        narrow.configure_trust(context)
        await other.start(tls=wrong)
        async with other:
            with pytest.raises(TlsFailed, match="IP address mismatch"):
                await dial(other, context)


@each
async def test_tls_is_version_1_3_with_the_token(ours: Files) -> None:
    async with served(ours) as worker, Streams.dial(worker, like_ours(ours)) as peer:
        sslobj = peer.writer.get_extra_info("ssl_object")
        assert sslobj.version() == "TLSv1.3"
        assert sslobj.selected_alpn_protocol() == "wmx/1"
        peer.writer.write(HELLO + opening(bytes(15) + b"\1", "echo", b"hi"))
        assert await peer.reader.readexactly(16) == PREFACE
        assert b"hi" in await peer.reader.readuntil(b"hi")


@each
async def test_a_plain_listener_and_one_with_tls_serve_one_worker(ours: Files) -> None:
    worker = muxwire.Worker({"echo": echo})
    await worker.start()
    await worker.start(tls=muxwire.server_context(ours.cert, ours.key))
    async with worker:
        plain, secret = worker.addresses
        async with (
            dial(plain, None) as one,
            dial(secret, muxwire.client_context(ours.ca)) as two,
        ):
            assert await one.call("echo", b"1") == b"1"
            assert await two.call("echo", b"2") == b"2"


# -- what is refused -------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("alpn", [["h2"], ["http/1.1", "wmx/2"], []])
async def test_another_token_or_none_gets_no_wmx_octet(ours: Files, alpn: list[str]) -> None:
    async with served(ours) as worker, Raw.dial(worker, like_ours(ours, alpn)) as peer:
        await peer.send(HELLO)
        assert await peer.until_end() == b""
        peer.peer.half_close()
        await until(lambda: not worker._connections)
        assert worker.counters.accepted == 0


@each
async def test_an_old_version_is_refused(ours: Files) -> None:
    context = like_ours(ours)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with served(ours) as worker:
        with pytest.raises(OSError, match=r"(?i)version|reset"):
            async with Streams.dial(worker, context):
                pass
        await until(lambda: not worker._connections)


@each
@pytest.mark.parametrize(
    "octets",
    [HELLO, b"GET / HTTP/1.1\r\n\r\n", b"\xf7", bytes(100)],
    ids=["wmx", "http", "one octet", "zeros"],
)
async def test_plaintext_is_dropped_without_an_octet(
    ours: Files, octets: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "muxwire.connection")
    async with served(ours) as worker, await Peer.dial(worker.addresses[0]) as peer:
        await peer.send(octets)
        assert await peer.rest() == b""
        peer.close()
        await until(lambda: not worker._connections)
    (line,) = caplog.messages
    assert "requirement=SEC-001" in line
    assert "the other end does not speak TLS" in line


@each
async def test_noise_in_the_shape_of_tls_harms_nobody(ours: Files) -> None:
    async with served(ours) as worker:
        for octets in (b"\x16\x03\x01\x00\x04junk", b"\x15\x03\x03\x00\x02\x02\x28", b"\x16"):
            async with await Peer.dial(worker.addresses[0]) as peer:
                await peer.send(octets)
                peer.half_close()
                assert PREFACE not in await peer.rest()
            async with await Peer.dial(worker.addresses[0]) as peer:
                await peer.send(octets)
                peer.reset()
        await until(lambda: not worker._connections)
        async with dial(worker, muxwire.client_context(ours.ca)) as client:
            assert await client.call("echo", b"hi") == b"hi"


@each
async def test_a_silent_peer_is_closed_in_the_time_of_the_handshake(ours: Files) -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with (
        served(ours, config=fast()) as worker,
        await Peer.dial(worker.addresses[0]) as silent,
        await Peer.dial(worker.addresses[0]) as slow,
        Streams.dial(worker, like_ours(ours)) as mute,
    ):
        await slow.send(b"\x16\x03\x01\x02\x00\x01")
        assert await silent.rest() == b""
        assert await slow.rest() == b""
        assert await mute.reader.read() == b""
        assert 0.9 <= loop.time() - start <= 3
        await until(lambda: not worker._connections)


@each
async def test_a_connection_that_is_pushed_out_may_be_in_the_tls_handshake(ours: Files) -> None:
    async with (
        served(ours, max_pending=1) as worker,
        await Peer.dial(worker.addresses[0]) as old,
        dial(worker, muxwire.client_context(ours.ca)) as client,
    ):
        assert await old.rest() == b""
        assert await client.call("echo", b"hi") == b"hi"


@each
async def test_a_drain_ends_tls_handshakes(ours: Files) -> None:
    loop = asyncio.get_running_loop()
    async with served(ours) as worker, await Peer.dial(worker.addresses[0]) as peer:
        await until(lambda: worker._connections)
        start = loop.time()
        await worker.drain()
        assert loop.time() - start < 1
        assert await peer.rest() == b""


# -- certificates ----------------------------------------------------------------------------------


@each
async def test_a_worker_may_want_a_certificate(ours: Files) -> None:
    context = muxwire.client_context(ours.ca, ours.both)
    async with served(ours, client_ca=ours.ca) as worker, dial(worker, context) as client:
        assert await client.call("echo", b"hi") == b"hi"


@each
@pytest.mark.parametrize("own", [False, True])
async def test_no_frame_is_processed_without_the_right_certificate(
    ours: Files, theirs: Files, own: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "muxwire.connection")
    context = muxwire.client_context(ours.ca, theirs.both if own else None)
    async with served(ours, client_ca=ours.ca) as worker:
        with pytest.raises(TlsFailed, match=r"certificate required|unknown ca") as caught:
            await dial(worker, context)
        assert caught.value.requirement == "SEC-001"
        await until(lambda: not worker._connections)
        assert worker.statistics.opened == 0
    (end,) = [line for line in caplog.messages if "requirement=SEC-002" in line]
    assert ("certificate verify failed" if own else "did not return a certificate") in end
    assert worker.counters.failures["tls"] == 1


@each
async def test_octets_behind_a_missing_certificate_are_not_read(ours: Files) -> None:
    async with served(ours, client_ca=ours.ca) as worker:
        async with Streams.dial(worker, like_ours(ours)) as peer:
            peer.writer.write(HELLO + opening(bytes(15) + b"\1", "echo", b"hi"))
            with pytest.raises((OSError, EOFError)):
                await peer.reader.readexactly(1)
        await until(lambda: not worker._connections)
        assert worker.statistics.opened == 0


@each
async def test_an_unknown_authority_is_one_clear_error(ours: Files, theirs: Files) -> None:
    async with served(ours) as worker:
        with pytest.raises(TlsFailed, match="certificate verify failed: unable to get") as caught:
            await dial(worker, muxwire.client_context(theirs.ca))
        assert isinstance(caught.value, muxwire.ConnectError)
        assert str(caught.value).startswith(worker.addresses[0])
        await until(lambda: not worker._connections)


@each
async def test_tls_to_a_plain_port_is_one_clear_error(ours: Files) -> None:
    async with muxwire.Worker({}) as worker:
        with pytest.raises(TlsFailed, match=r"during the TLS handshake|does not speak TLS"):
            await dial(worker, muxwire.client_context(ours.ca))
    with Listener() as listener:
        connecting = asyncio.ensure_future(
            _ready(dial(listener.address, muxwire.client_context(ours.ca)))
        )
        async with await listener.accept() as peer:
            await peer.send(b"220 mail.example ESMTP\r\n")
            peer.half_close()
            with pytest.raises(TlsFailed, match="does not speak TLS"):
                await connecting


async def _ready(connecting: Connecting) -> muxwire.Client:
    return await connecting


@each
async def test_plain_octets_to_a_tls_port_are_one_clear_error(ours: Files) -> None:
    async with served(ours) as worker:
        with pytest.raises(muxwire.ConnectError, match="ended during the handshake"):
            await dial(worker, None)


@each
async def test_a_server_without_the_token_gets_no_octet_of_wmx(ours: Files) -> None:
    received = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            received.set_result(await reader.read())
        finally:
            writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(ours.cert, ours.key)
    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TlsFailed, match="ALPN wmx/1 was not agreed on"):
            await dial(f"{HOST}:{port}", muxwire.client_context(ours.ca))
        assert await received == b""


async def test_a_server_that_stays_silent_is_given_up_in_time(ours: Files) -> None:
    with Listener() as listener:
        connecting = dial(listener.address, muxwire.client_context(ours.ca), config=fast())
        with pytest.raises(muxwire.HandshakeTimedOut):
            await connecting


@each
async def test_a_client_recovers_over_tls(ours: Files) -> None:
    context = muxwire.client_context(ours.ca)
    async with served(ours) as worker, dial(worker, context, recover=True) as client:
        assert await client.call("echo", b"1") == b"1"
        client.abort()
        assert await client.call("echo", b"2", idempotent=True) == b"2"


# -- the end of a connection -----------------------------------------------------------------------


@each
async def test_the_goaway_of_an_error_arrives_and_then_the_end(ours: Files) -> None:
    async with served(ours) as worker, Streams.dial(worker, like_ours(ours)) as peer:
        peer.writer.write(HELLO + bytes(32))
        goaway = await peer.goaway()
        assert (goaway.code, goaway.message[:7]) == (1, b"FRM-002")
        assert await peer.reader.read() == b""  # close_notify
        await until(lambda: not worker._connections)


@each
async def test_a_peer_that_goes_on_sending_gets_the_goaway(ours: Files) -> None:
    async with served(ours) as worker, Raw.dial(worker, like_ours(ours)) as peer:
        await peer.send(HELLO + bytes(32))
        for _ in range(50):  # CLS-002: read and discarded
            await peer.send(bytes(10_000))
        assert b"FRM-002" in await peer.until_end()
        await peer.send(b"after the close_notify of the worker")
        assert worker._connections  # it reads on
        await peer.end()
        await until(lambda: not worker._connections)


@each
async def test_a_peer_that_never_ends_is_closed_after_the_linger(ours: Files) -> None:
    loop = asyncio.get_running_loop()
    config = muxwire.Config(linger=0.5)
    async with served(ours, config=config) as worker, Raw.dial(worker, like_ours(ours)) as peer:
        start = loop.time()
        await peer.send(HELLO + bytes(32))
        assert b"FRM-002" in await peer.until_end()
        assert loop.time() - start < 0.4  # the end comes at once
        await until(lambda: not worker._connections)
        assert 0.4 <= loop.time() - start <= 2


@each
async def test_a_peer_that_reads_nothing_makes_nothing_pile_up(ours: Files) -> None:
    idle = muxwire.Settings.recommended(idle_timeout_ms=1_000)
    config = muxwire.Config(settings=idle)
    async with (
        served(ours, {"flood": flood}, config=config) as worker,
        Raw.dial(worker, like_ours(ours)) as peer,
    ):
        wide = codec.encode_settings([(3, 1 << 30), (4, 1 << 30)])
        hello = PREFACE + wide + codec.encode_settings_ack()
        await peer.send(hello + opening(bytes(15) + b"\1", "flood"))
        (served_one,) = worker._connections
        transport = served_one.pump._transport
        assert transport is not None
        await until(transport.get_write_buffer_size)
        most = 0
        for _ in range(100):
            most = max(most, transport.get_write_buffer_size())
            await peer.send(codec.encode_pong(bytes(8)))
        assert most < 4 * UNSENT_LIMIT
        await until(lambda: not worker._connections)
        assert not worker.running_handlers


@each
async def test_a_drain_lets_requests_end(ours: Files) -> None:
    loop = asyncio.get_running_loop()
    async with served(ours) as worker, dial(worker, muxwire.client_context(ours.ca)) as client:
        stream = client.stream("echo", b"1", end=False)
        assert await anext(stream) == b"1"
        draining = asyncio.ensure_future(worker.drain(10))
        await until(lambda: not client.accepting)
        await stream.send(b"2", end=True)
        assert [item async for item in stream] == [b"2"]
        start = loop.time()
        await draining
        await client.wait_closed()
        assert loop.time() - start < 0.8


@each
async def test_a_drain_ends_what_does_not_end(ours: Files) -> None:
    async with served(ours) as worker, dial(worker, muxwire.client_context(ours.ca)) as client:
        stream = client.stream("forever", b"")
        await until(lambda: worker.running_handlers)
        await worker.drain(0)
        messages, error = await drained(stream)
        assert messages == []
        assert isinstance(error, muxwire.WorkerShutdown)


@each
@pytest.mark.parametrize("how", ["abort", "truncate", "close_notify"])
async def test_the_loss_of_the_peer_cancels_its_handlers(ours: Files, how: str) -> None:
    async with served(ours) as worker, Raw.dial(worker, like_ours(ours)) as peer:
        await peer.send(HELLO + opening(bytes(15) + b"\1", "forever"))
        await until(lambda: worker.running_handlers)
        if how == "abort":
            peer.peer.reset()
        elif how == "truncate":
            peer.peer.half_close()
        else:
            await peer.end()
        await until(lambda: not worker._connections and not worker.running_handlers)


class Raw:
    """A client that is played octet by octet, so that it may do what asyncio's TLS would not."""

    def __init__(self, peer: Peer, context: ssl.SSLContext) -> None:
        self.peer = peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_hostname=HOST)

    @classmethod
    @asynccontextmanager
    async def dial(cls, worker: muxwire.Worker, context: ssl.SSLContext) -> AsyncIterator[Raw]:
        async with await Peer.dial(worker.addresses[0]) as peer:
            raw = cls(peer, context)
            await raw._do(raw._ssl.do_handshake)
            await raw._flush()
            yield raw

    async def _do(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self._flush()
                self._incoming.write(await self.peer.some())

    async def _flush(self) -> None:
        await self.peer.send(self._outgoing.read())

    async def send(self, data: bytes) -> None:
        while data:
            data = data[self._ssl.write(data) :]
        await self._flush()

    async def until_end(self) -> bytes:
        octets = b""
        while data := await self._do(lambda: self._ssl.read(65_536)):
            octets += data
        return octets

    async def end(self) -> None:
        with suppress(ssl.SSLWantReadError):
            self._ssl.unwrap()
        await self._flush()


# -- contexts --------------------------------------------------------------------------------------


def test_files_that_do_not_fit_are_named(ours: Files, theirs: Files, tmp_path: Path) -> None:
    absent = tmp_path / "absent.pem"
    junk = tmp_path / "junk.pem"
    junk.write_text("nothing\n")
    with pytest.raises(muxwire.InvalidArgument, match=r"absent\.pem: No such file"):
        muxwire.server_context(absent, ours.key)
    with pytest.raises(muxwire.InvalidArgument, match=r"absent\.pem: No such file"):
        muxwire.server_context(ours.cert, absent)
    with pytest.raises(muxwire.InvalidArgument, match=r"absent\.pem: No such file"):
        muxwire.client_context(absent)
    with pytest.raises(muxwire.InvalidArgument, match=r"junk\.pem"):
        muxwire.client_context(junk)
    with pytest.raises(muxwire.InvalidArgument, match=r"junk\.pem: no certificate with"):
        muxwire.server_context(junk)
    with pytest.raises(muxwire.InvalidArgument, match="key values mismatch"):
        muxwire.server_context(ours.cert, theirs.key)
    with pytest.raises(muxwire.InvalidArgument, match="without a certificate"):
        muxwire.client_context(ours.ca, key=ours.key)


def test_a_locked_key_is_an_error_and_no_question(ours: Files, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(ours.key.read_bytes(), None)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(muxwire.InvalidArgument, match=r"locked\.pem"):
        muxwire.server_context(ours.cert, locked)


async def test_a_context_of_the_other_side_is_refused_early(ours: Files) -> None:
    worker = muxwire.Worker({})
    with pytest.raises(muxwire.InvalidArgument, match="server_context"):
        await worker.start(tls=muxwire.client_context(ours.ca))
    with pytest.raises(muxwire.InvalidArgument, match="client_context"):
        await dial("127.0.0.1:1", muxwire.server_context(ours.cert, ours.key))


async def test_a_context_of_ones_own_is_held_to_the_rules(ours: Files) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ours.cert, ours.key)
    old = muxwire.client_context(ours.ca)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    worker = muxwire.Worker({"echo": echo})
    await worker.start(tls=context)
    async with worker:
        with pytest.raises(TlsFailed, match="ALPN"):
            await dial(worker, muxwire.client_context(ours.ca))
        context.set_alpn_protocols(["wmx/1"])
        with pytest.raises(TlsFailed, match=r"TLS 1\.3 was not agreed on"):
            await dial(worker, old)


async def test_a_name_that_no_certificate_can_have_is_refused(ours: Files) -> None:
    async with served(ours) as worker:
        port = parse(worker.addresses[0])[1]
        assert port
        with pytest.raises(muxwire.ConnectError):
            await dial(f".:{port}", muxwire.client_context(ours.ca))


# -- the command line ------------------------------------------------------------------------------


def call(address: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "muxwire", "call", "conformance.echo", "hi"]
    return subprocess.run(
        [*command, "--target", address, *options],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_serve_and_call_speak_tls(ours: Files, theirs: Files) -> None:
    options = ["--tls-cert", str(ours.cert), "--tls-key", str(ours.key)]
    with Served("--conformance", *options) as served:
        ran = call(served.address, "--tls-ca", str(ours.ca))
        assert (ran.stdout, ran.stderr, ran.returncode) == ("hi\n", "", 0)
        ran = call(served.address, "--tls", "--tls-ca", str(theirs.ca))
        assert (ran.stdout, ran.returncode) == ("", 3)
        assert "certificate verify failed" in ran.stderr
        assert "Traceback" not in ran.stderr
        ran = call(served.address, "--tls")  # the authorities of the system do not know ours
        assert ran.returncode == 3
        ran = call(served.address)
        assert ran.returncode == 3


def test_serve_may_want_certificates(ours: Files, theirs: Files) -> None:
    options = ["--tls-cert", str(ours.both), "--tls-client-ca", str(ours.ca)]
    with Served("--conformance", *options) as served:
        trust = ["--tls-ca", str(ours.ca)]
        ran = call(served.address, *trust, "--tls-cert", str(ours.cert), "--tls-key", str(ours.key))
        assert (ran.stdout, ran.returncode) == ("hi\n", 0)
        ran = call(served.address, *trust)
        assert ran.returncode == 3
        assert "certificate required" in ran.stderr
        ran = call(served.address, *trust, "--tls-cert", str(theirs.both))
        assert ran.returncode == 3


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--tls-key", "{key}"], "want a --tls-cert"),
        (["--tls-cert", "{cert}"], "no certificate with its private key"),
        (["--tls-cert", "{cert}", "--tls-key", "{ca}"], "no certificate with its private key"),
        (["--tls-cert", "/absent"], "does not exist"),
    ],
)
def test_files_that_do_not_fit_are_wrong_usage(ours: Files, options: list[str], text: str) -> None:
    names = {"ca": ours.ca, "cert": ours.cert, "key": ours.key}
    command = [sys.executable, "-m", "muxwire", "serve", "--tcp", "127.0.0.1:0"]
    ran = subprocess.run(
        [*command, *(option.format(**names) for option in options)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert (ran.stdout, ran.returncode) == ("", 2)
    assert text in ran.stderr
    assert "Traceback" not in ran.stderr


def test_serve_says_that_it_speaks_tls(ours: Files) -> None:
    command = [sys.executable, "-m", "muxwire", "serve", "--conformance", "--tcp", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*command, "--tls-cert", str(ours.both)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert re.fullmatch(r"listening on 127\.0\.0\.1:\d+ with TLS\n", first_line(process))
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT)


async def test_the_function_serve_takes_a_context(
    ours: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []

    async def start(_: muxwire.Worker, *address: object, tls: ssl.SSLContext) -> None:
        seen.extend([*address, tls])
        raise OSError

    monkeypatch.setattr(muxwire.Worker, "start", start)
    context = muxwire.server_context(ours.both)
    with pytest.raises(OSError, match=r"^$"):
        await muxwire.serve({}, "::1", 7, tls=context)
    assert seen == ["::1", 7, context]
