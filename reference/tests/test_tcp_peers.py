"""A client and a worker against peers that are wrong, dead or in a hurry, octet by octet."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator

import muxwire
import pytest
from io_harness import (
    GOAWAY,
    HELLO,
    PREFACE,
    REQUEST,
    RESPONSE,
    SETTINGS,
    Listener,
    Peer,
    connect_once,
    connected,
    crowd,
    drained,
    impostor,
    never,
    opening,
    response,
    small,
    until,
)
from muxwire import Outcome, Request
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ERROR, META, MORE, ErrorCode

pytestmark = pytest.mark.usefixtures("each_loop")

ID = bytes.fromhex("0190b3f27c4e7a118f000123456789ab")
QUICK = muxwire.Config(handshake_timeout=1.0)


async def echo(request: Request) -> bytes:
    return await request.read() or b""


class Held:
    """A handler that waits to be cancelled."""

    def __init__(self) -> None:
        self.started = 0
        self.cancelled = 0

    async def __call__(self, _: Request) -> None:
        self.started += 1
        try:
            await never()
        finally:
            self.cancelled += 1


# -- a worker and its clients ----------------------------------------------------------------------


async def test_an_open_and_its_kill_in_one_segment_have_one_terminal() -> None:
    held = Held()
    async with (
        muxwire.Worker({"held": held}) as worker,
        await Peer.dial(worker.addresses[0]) as peer,
    ):
        kill = codec.encode_kill(ID, ErrorCode.CANCELLED)
        await peer.greet(opening(ID, "held") + kill + codec.encode_ping(bytes(8)))
        frame = await peer.terminal(ID)
        assert frame.error_code == ErrorCode.CANCELLED
        await peer.send(codec.encode_ping(b"12345678"))
        while frame.payload != b"12345678":
            frame = await peer.frame()
            assert frame.request_id != ID
        assert held.started == held.cancelled
        assert worker.statistics.active == 0


async def test_a_thousand_opens_and_kills_in_one_segment_have_a_terminal_each() -> None:
    ids = [number.to_bytes(16, "big") for number in range(1, 1_001)]
    async with (
        muxwire.Worker({"held": Held()}) as worker,
        await Peer.dial(worker.addresses[0]) as peer,
    ):
        pairs = [opening(n, "held") + codec.encode_kill(n, ErrorCode.CANCELLED) for n in ids]
        await peer.greet(b"".join(pairs))
        terminals = [await peer.frames(RESPONSE, END_STREAM | ERROR) for _ in ids]
        assert sorted(frame.request_id for found in terminals for frame in found) == ids
        await until(lambda: worker.statistics.active == 0)


@pytest.mark.parametrize("end", ["half-close", "close", "reset", "garbage", "goaway"])
async def test_however_a_connection_ends_its_handlers_do(end: str) -> None:
    held = Held()
    async with (
        muxwire.Worker({"held": held}) as worker,
        await Peer.dial(worker.addresses[0]) as peer,
    ):
        await peer.greet(opening(ID, "held", end=False))
        await until(lambda: held.started)
        match end:
            case "half-close":
                peer.half_close()
                await peer.rest()
            case "close":
                peer.close()
            case "reset":
                peer.reset()
            case "garbage":
                await peer.send(bytes(32))
                (goaway,) = await peer.frames(GOAWAY)
                assert codec.decode_goaway(goaway.payload).code == ErrorCode.PROTOCOL_ERROR
                await peer.rest()
                peer.half_close()
            case "goaway":
                await peer.send(codec.encode_goaway(ErrorCode.INTERNAL_ERROR, 0, 0, b""))
                await peer.rest()
                peer.half_close()
        await until(lambda: held.cancelled)
        await until(lambda: worker.connections() == 0)
        assert worker.statistics.active == 0


async def test_a_drained_worker_finishes_half_closes_and_waits_for_the_client() -> None:
    go = asyncio.Event()

    async def gate(_: Request) -> bytes:
        await go.wait()
        return b"done"

    async with (
        muxwire.Worker({"gate": gate}) as worker,
        await Peer.dial(worker.addresses[0]) as peer,
    ):
        await peer.greet(opening(ID, "gate"))
        await until(lambda: worker.statistics.active)
        draining = asyncio.ensure_future(worker.drain())
        (goaway,) = await peer.frames(GOAWAY)
        assert codec.decode_goaway(goaway.payload).last_ordinal == 1
        await peer.send(opening(bytes(15) + b"2", "gate"))
        refusal = await peer.terminal(bytes(15) + b"2")
        assert refusal.error_code == ErrorCode.DRAINING
        go.set()
        assert await peer.frames(RESPONSE, END_STREAM)
        with pytest.raises(EOFError):
            await peer.frame()
        assert not draining.done()
        peer.half_close()
        await draining


async def test_a_client_that_does_not_read_does_not_hold_a_closing_worker() -> None:
    async def flood(_: Request) -> AsyncGenerator[bytes, None]:
        while True:  # more than the kernel takes
            yield bytes(65_536)

    wide = codec.encode_settings([(3, 1 << 30), (4, 1 << 30), (6, 1 << 30)])
    config = muxwire.Config(linger=0.2)
    worker = muxwire.Worker({"flood": flood}, config=config)
    await worker.start()
    async with worker, await Peer.dial(worker.addresses[0]) as peer:
        await peer.send(PREFACE + wide + codec.encode_settings_ack() + opening(ID, "flood"))
        await until(lambda: any(served.pump._paused for served in worker._connections))
        await worker.close()
        assert worker.connections() == 0
        with pytest.raises(ConnectionResetError):
            await peer.rest()


@pytest.mark.parametrize("sent", [0, 9])
async def test_the_oldest_pending_connection_makes_room_without_an_octet(sent: int) -> None:
    async with (
        muxwire.Worker({"echo": echo}, max_pending=3) as worker,
        crowd(worker.addresses[0], 3) as old,
    ):
        for peer in old:
            await peer.send(PREFACE[:sent])
        await until(lambda: len(worker._pending) == 3)
        async with crowd(worker.addresses[0], 1):
            assert await old[0].rest() == b""
            async with connect_once(worker.addresses[0]) as client:
                assert await old[1].rest() == b""
                assert await client.call("echo", b"hi") == b"hi"
            await old[2].send(HELLO[sent:])
            assert await old[2].read(16) == PREFACE


async def test_a_burst_of_silent_connections_is_bounded() -> None:
    async with (
        muxwire.Worker({"echo": echo}, max_pending=3) as worker,
        crowd(worker.addresses[0], 50) as peers,
    ):
        ends = [asyncio.ensure_future(peer.rest()) for peer in peers]
        await until(lambda: sum(end.done() for end in ends) == 47)
        assert not any(end.done() for end in ends[-3:])
        assert len(worker._connections) == len(worker._pending) == 3
        await worker.close()  # CLS-011: without an octet
        assert await asyncio.gather(*ends) == [b""] * 50


async def test_pending_connections_do_not_count_toward_the_limit() -> None:
    async with (
        muxwire.Worker({"echo": echo}, max_connections=1) as worker,
        crowd(worker.addresses[0], 5),
    ):
        await until(lambda: len(worker._pending) == 5)
        async with connect_once(worker.addresses[0]) as client:
            assert await client.call("echo", b"hi") == b"hi"
            assert worker.connections() == 1


async def test_a_worker_says_nothing_to_other_protocols() -> None:
    async with (
        muxwire.Worker({}) as worker,
        await Peer.dial(worker.addresses[0]) as peer,
    ):
        await peer.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await peer.rest() == b""


async def test_a_worker_refuses_another_version_with_its_own() -> None:
    async with (
        muxwire.Worker({}) as worker,
        await Peer.dial(worker.addresses[0]) as peer,
    ):
        await peer.send(codec.encode_preface(9, 2))
        assert await peer.rest() == PREFACE


async def test_a_fault_inside_the_worker_costs_one_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()
    async with (
        connected({"held": held, "echo": echo}) as (client, worker),
        connect_once(worker.addresses[0]) as other,
    ):
        call = asyncio.ensure_future(client.call("held"))
        await until(lambda: held.started)
        with monkeypatch.context() as patch:
            patch.setattr("muxwire.tcp.worker.decode_headers", None)
            with pytest.raises(muxwire.ConnectionLost):
                await client.call("echo", b"hi")
        with pytest.raises(muxwire.ConnectionLost):
            await call
        await until(lambda: held.cancelled)
        assert "internal fault" in caplog.text
        assert await other.call("echo", b"hi") == b"hi"


# -- a client and its workers ----------------------------------------------------------------------


async def test_a_closed_port_is_a_failed_dial() -> None:
    with Listener() as listener:
        address = listener.address
    with pytest.raises(muxwire.DialFailed) as caught:
        await connect_once(address)
    assert str(caught.value) == f"{address}: Connection refused"


async def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(muxwire.InvalidArgument):
        await connect_once("localhost")


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", muxwire.NotWorker, None),
        (b"\x15\x03\x03\x00\x02\x02\x46", muxwire.NotWorker, None),
        (b"SSH-2.0-OpenSSH_9.6\r\n", muxwire.NotWorker, None),
        (codec.encode_preface(2, 2), muxwire.VersionRefused, None),
        (codec.encode_preface(1, 0), muxwire.VersionRefused, None),
        (PREFACE[:10] + b"\x40" + PREFACE[11:], muxwire.VersionRefused, None),
        (b"", muxwire.ConnectError, None),
        (PREFACE[:9], muxwire.ConnectError, None),
        (PREFACE, muxwire.ConnectError, None),
        (PREFACE + SETTINGS, muxwire.ConnectError, None),
        (PREFACE + codec.encode_settings([(1, 1)]), muxwire.ConnectError, "SETTINGS_ERROR"),
        (PREFACE + codec.encode_ping(bytes(8)), muxwire.ConnectError, "PROTOCOL_ERROR"),
        (
            PREFACE + codec.encode_goaway(ErrorCode.CONNECTION_LIMIT, 0, 0, b"full"),
            muxwire.ConnectionRefused,
            "CONNECTION_LIMIT",
        ),
        (
            PREFACE + SETTINGS + codec.encode_goaway(ErrorCode.HANDSHAKE_TIMEOUT, 0, 0, b""),
            muxwire.HandshakeTimedOut,
            "HANDSHAKE_TIMEOUT",
        ),
    ],
    ids=[
        "http",
        "tls",
        "ssh",
        "version 2",
        "no range",
        "header size",
        "nothing",
        "half a preface",
        "preface",
        "settings",
        "bad settings",
        "ping first",
        "full",
        "too slow",
    ],
)
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_what_answers_is_no_worker(
    answer: bytes, kind: type[muxwire.ConnectError], code: str | None, end: str
) -> None:
    decided = kind is not muxwire.ConnectError or code is not None
    with Listener() as listener:
        dial = asyncio.ensure_future(_connect(listener.address, muxwire.Config(linger=0.02)))
        async with await listener.accept() as peer:
            await peer.read(16 + 32)
            await peer.send(answer)
            if decided:
                await peer.rest()  # the client needs no end of ours
            if end == "close":
                peer.half_close()
                await peer.rest()
            else:
                peer.reset()
            with pytest.raises(muxwire.ConnectError) as caught:
                await dial
        assert type(caught.value) is kind
        assert caught.value.code_name == code
        assert str(caught.value).startswith(f"{listener.address}: ")
        assert "\n" not in str(caught.value)


async def _connect(address: str, config: muxwire.Config | None = None) -> None:
    await connect_once(address, config)


async def test_a_silent_server_is_given_up_in_time() -> None:
    await asyncio.gather(*map(_silent, [b"", PREFACE[:15], PREFACE + SETTINGS]))


async def _silent(answer: bytes) -> None:
    with Listener() as listener:
        dial = asyncio.ensure_future(_connect(listener.address, QUICK))
        async with await listener.accept() as peer:
            await peer.send(answer)
            octets = await peer.rest()
            peer.half_close()
            with pytest.raises(muxwire.HandshakeTimedOut, match="in time"):
                await dial
        goaway = codec.encode_goaway(ErrorCode.HANDSHAKE_TIMEOUT, 0, 0, b"")[:4]
        assert (goaway in octets) == (len(answer) > 16)


async def test_a_server_that_does_not_accept_is_given_up_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = f"127.0.0.1:{full.getsockname()[1]}"
        others = [socket.socket() for _ in range(4)]
        for sock in others:  # more than the queue of the kernel holds
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        with pytest.raises(muxwire.ConnectError, match=r"no connection within 1 s|in time"):
            await connect_once(address, QUICK)
        for sock in others:
            sock.close()


async def test_a_connect_that_is_cancelled_leaves_nothing() -> None:
    with Listener() as listener:
        dial = asyncio.ensure_future(_connect(listener.address))
        async with await listener.accept() as peer:
            await peer.read(16)
            dial.cancel()
            with pytest.raises(asyncio.CancelledError):
                await dial
            with pytest.raises(ConnectionResetError):
                await peer.rest()


async def test_what_never_connects_needs_no_closing() -> None:
    connecting = connect_once("127.0.0.1:1")
    with pytest.raises(muxwire.DialFailed):
        async with connecting:
            pytest.fail("never entered")


async def sent_to(peer: Peer, requests: int) -> list[bytes]:
    """Return the ids of the next OPENs."""
    ids: list[bytes] = []
    while len(ids) < requests:
        frame = await peer.frame()
        if (frame.type, frame.flags & META) == (1, META):
            ids.append(frame.request_id)
    return ids


@pytest.mark.parametrize(
    ("answer", "outcome", "messages"),
    [
        (b"", Outcome.AMBIGUOUS, 0),
        (response(ID, 0, b"half")[:-1], Outcome.AMBIGUOUS, 0),
        (response(ID, 0, codec.encode_response_meta([]), META), Outcome.PARTIAL, 0),
        (response(ID, 0, b"one"), Outcome.PARTIAL, 1),
        (response(ID, 0, b"one") + response(ID, 1, b"two", 2)[:-1], Outcome.PARTIAL, 1),
        (response(ID, 0, b"one") + response(ID, 1, b"two", END_STREAM)[:-1], Outcome.PARTIAL, 1),
        (response(ID, 0, b"one") + response(ID, 1, b"two"), Outcome.PARTIAL, 2),
    ],
    ids=[
        "nothing",
        "half a frame",
        "headers",
        "message",
        "half a message",
        "half a terminal",
        "messages",
    ],
)
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_lost_connection_tells_what_may_have_happened(
    answer: bytes, outcome: Outcome, messages: int, end: str
) -> None:
    async with impostor() as (client, peer):
        stream = client.stream("any", b"data")
        (request_id,) = await sent_to(peer, 1)
        await peer.send(answer.replace(ID, request_id))
        (link,) = client._links()
        await until(lambda: link._core._decoder.mid_frame == (answer[-2:] in (b"al", b"tw")))
        await until(lambda: len(stream._inbox.messages) == messages)
        if end == "close":
            peer.half_close()
        else:
            peer.reset()
        await client.wait_closed()
        received, error = await drained(stream)
        assert received == [b"one", b"two"][:messages]  # what has arrived can still be read
        assert isinstance(error, muxwire.ConnectionLost)
        assert (error.outcome, error.messages, error.local) == (outcome, messages, True)
        with pytest.raises(muxwire.ConnectionClosed):
            client.stream("any")


async def test_requests_that_wait_for_a_place_are_not_sent() -> None:
    settings = codec.encode_settings([(2, 100)])
    async with impostor(PREFACE + settings + codec.encode_settings_ack()) as (client, peer):
        calls = [asyncio.ensure_future(client.call("any")) for _ in range(103)]
        await sent_to(peer, 100)
        peer.reset()
        errors = await asyncio.gather(*calls, return_exceptions=True)
        outcomes = [error.outcome for error in errors if isinstance(error, muxwire.ConnectionLost)]
        assert outcomes == [Outcome.AMBIGUOUS] * 100 + [Outcome.NOT_SENT] * 3


async def test_a_goaway_separates_what_was_processed() -> None:
    async with impostor() as (client, peer):
        calls = [asyncio.ensure_future(client.call("any")) for _ in range(2)]
        first, _ = await sent_to(peer, 2)
        await peer.send(codec.encode_goaway(ErrorCode.NO_ERROR, 1, 1000, b"bye"))
        with pytest.raises(muxwire.Draining) as caught:
            await calls[1]
        assert caught.value.outcome is Outcome.NOT_PROCESSED
        assert not client.accepting
        await peer.send(response(first, 0, b"done", END_STREAM))
        assert await calls[0] == b"done"


async def test_an_error_goaway_is_the_reason_of_what_is_lost() -> None:
    async with impostor() as (client, peer):
        call = asyncio.ensure_future(client.call("any"))
        await sent_to(peer, 1)
        await peer.send(codec.encode_goaway(ErrorCode.INTERNAL_ERROR, 1, 0, b"dying"))
        peer.half_close()
        with pytest.raises(muxwire.ConnectionLost) as caught:
            await call
        assert caught.value.code_name == "INTERNAL_ERROR"
        assert caught.value.outcome is Outcome.AMBIGUOUS
        await client.wait_closed()
        with pytest.raises(muxwire.ConnectionClosed) as closed:
            await client.call("any")
        assert (closed.value.code_name, closed.value.by_peer) == ("INTERNAL_ERROR", True)


async def test_a_worker_that_breaks_a_rule_is_told_which() -> None:
    async with impostor() as (client, peer):
        call = asyncio.ensure_future(client.call("any"))
        await sent_to(peer, 1)
        await peer.send(response(ID, 0, b"for nobody"))
        (goaway,) = await peer.frames(GOAWAY)
        assert b"RID-004" in goaway.payload
        await peer.rest()
        peer.half_close()
        with pytest.raises(muxwire.ConnectionLost) as caught:
            await call
        assert caught.value.code_name == "PROTOCOL_ERROR"
        await client.wait_closed()
        with pytest.raises(muxwire.ConnectionClosed, match="RID-004") as closed:
            await client.call("any")
        assert closed.value.requirement == "RID-004"
        assert not closed.value.by_peer


async def test_a_worker_that_never_answers_does_not_hold_a_closing_client() -> None:
    async with impostor() as (client, peer):
        call = asyncio.ensure_future(client.call("any"))
        await sent_to(peer, 1)
        await client.close(0.01)
        with pytest.raises(muxwire.ConnectionLost) as caught:
            await call
        assert caught.value.outcome is Outcome.AMBIGUOUS


async def test_a_worker_that_does_not_read_does_not_hold_a_closing_client() -> None:
    wide = codec.encode_settings([(3, 1 << 30), (4, 1 << 30), (6, 1 << 30)])
    config = muxwire.Config(linger=0.2)
    hello = PREFACE + wide + codec.encode_settings_ack()
    async with impostor(hello, config) as (client, _):
        stream = client.stream("any", bytes(64 << 20))
        (link,) = client._links()
        await until(lambda: link._pump._paused)
        await client.close(0)
        with pytest.raises(muxwire.ConnectionLost):
            await anext(stream)


async def test_an_unknown_code_is_kept() -> None:
    """PAY-008."""
    async with impostor() as (client, peer):
        call = asyncio.ensure_future(client.call("any"))
        (request_id,) = await sent_to(peer, 1)
        body = codec.encode_error_body(0x80000001, 2, 9, b"mine", b"detail")
        await peer.send(response(request_id, 0, body, END_STREAM | ERROR))
        with pytest.raises(muxwire.ApplicationError) as caught:
            await call
        error = caught.value
        assert (error.code, error.code_name, error.local) == (0x80000001, None, False)
        assert (error.non_retryable, error.retry_after_ms) == (True, 9)
        assert (error.message, error.detail) == ("mine", b"detail")


@pytest.mark.parametrize("size", [2, 20 << 20])
async def test_a_worker_is_heard_in_time_after_it_has_answered(size: int) -> None:
    async def large(_: Request) -> bytes:
        return bytes(size)

    loop = asyncio.get_running_loop()
    quick = codec.encode_settings([(3, 1 << 30), (4, 1 << 30), (6, 1 << 30), (7, 400)])
    async with (
        muxwire.Worker({"large": large}) as worker,
        await Peer.dial(worker.addresses[0]) as peer,
    ):
        await peer.send(PREFACE + quick + codec.encode_settings_ack() + opening(ID, "large"))
        if size > 1 << 20:  # more than the kernel takes: a part of it waits outside
            await until(lambda: any(served.pump._paused for served in worker._connections))
        assert await peer.read(16) == PREFACE
        await peer.terminal(ID)
        for _ in range(3):
            start = loop.time()
            frame = await peer.frame()
            assert (frame.type, frame.subtype) == (4, 1)
            assert loop.time() - start < 0.3  # HBT-001: at least every 0.2 s


async def test_who_gave_up_reading_gives_no_credit() -> None:
    async with impostor(config=small()) as (client, peer):
        stream = client.stream("a", b"")
        reading = asyncio.ensure_future(anext(stream))
        (request,) = await peer.frames(REQUEST)
        reading.cancel()
        await asyncio.wait([reading])
        await peer.send(response(request.request_id, 0, b"x" * 40_000, MORE))
        for _ in range(2):  # an update may be written behind the first PONG
            await peer.send(codec.encode_ping(b"12345678"))
            assert (await peer.frame()).type == 4
        reading = asyncio.ensure_future(anext(stream))
        (update,) = await peer.frames((3, 3))  # FLW-007: the first one comes now
        assert update.request_id == request.request_id
        await peer.send(response(request.request_id, 1, b"", END_STREAM))
        assert await reading == b"x" * 40_000
