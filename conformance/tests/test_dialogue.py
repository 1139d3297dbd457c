"""The vocabulary of the cases, spoken with a correct worker and with scripted ones."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable

import model_worker
import pytest
from engine_fakes import FakePeer, Script, make_context, read_exactly
from muxwire_conformance import wire
from muxwire_conformance.context import Context
from muxwire_conformance.target import Address
from muxwire_conformance.verdict import CheckFailed, Unprepared

SETUP = wire.preface() + wire.settings() + wire.settings_ack()


def with_worker(talk: Callable[[Context], Awaitable[None]], *flaws: str) -> Context:
    """Run a conversation with the model worker."""

    async def main() -> Context:
        server = await model_worker.start(flaws=flaws)
        context = make_context(Address(host="127.0.0.1", port=server.port))
        try:
            await talk(context)
        finally:
            await context.close()
            await server.close()
        return context

    return asyncio.run(main())


def with_peer(
    talk: Callable[[Context], Awaitable[None]],
    script: Script,
    timeout: float = 2.0,
) -> Context:
    """Run a conversation with a scripted peer."""

    async def main(peer: FakePeer) -> Context:
        context = make_context(peer.address, timeout)
        try:
            await talk(context)
        finally:
            context.abandon()
        return context

    with FakePeer(script) as peer:
        return asyncio.run(main(peer))


def names(context: Context) -> list[str]:
    return [check.name for check in context.checks]


def test_a_large_echo_within_credit_both_ways() -> None:
    size = 3_000_000

    async def talk(ctx: Context) -> None:
        conn = await ctx.ready({"INITIAL_STREAM_WINDOW": 65_536, "MAX_FRAME_SIZE": 16_384})
        stream = conn.open("conformance.echo", end=False)
        data = ctx.rng.randbytes(size)
        await stream.send_message(data)
        assert await stream.message() == data
        await stream.send_message(b"", end=False)
        stream.finish()
        assert await stream.result(check="echoed") == [data, b""]
        assert stream.octets == size

    context = with_worker(talk)
    assert names(context) == ["echoed"]
    assert context.violations == []


def test_a_discarded_source_keeps_nothing() -> None:
    async def talk(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = conn.open("conformance.source", {"bytes": 1_000_000}, discard=True)
        await stream.end()
        assert stream.octets == 1_000_000
        assert stream.messages == []

    with_worker(talk)


def test_a_quiet_connection_is_kept_alive() -> None:
    async def talk(ctx: Context) -> None:
        conn = await ctx.ready()
        assert conn.peer_settings["IDLE_TIMEOUT_MS"] == 3_000
        before = len(conn.transcript.entries())
        await conn.until(lambda: False, 1.3)
        await conn.fence(check="alive")
        beats = [e for e in conn.transcript.entries()[before:] if e.note == "automatic"]
        assert beats

    with_worker(talk)


def test_errors_of_streams_and_connections() -> None:
    async def talk(ctx: Context) -> None:
        conn = await ctx.ready()
        stream = conn.open("no.such")
        frame = await conn.expect_stream_error(stream, "NOT_FOUND", not_processed=True)
        assert frame is stream.terminal
        conn.violate(wire.settings())
        goaway = await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=1)
        assert goaway is conn.goaway

    assert names(with_worker(talk)) == ["error", "fence", "goaway", "end"]


def test_the_wrong_stream_error_fails() -> None:
    async def talk(ctx: Context) -> None:
        conn = await ctx.ready()
        with pytest.raises(CheckFailed, match="NOT_FOUND"):
            await conn.expect_stream_error(conn.open("no.such"), "OVERLOADED")
        with pytest.raises(CheckFailed, match="without NOT_PROCESSED"):
            await conn.expect_stream_error(conn.open("no.such"), "NOT_FOUND", not_processed=False)
        with pytest.raises(CheckFailed, match="END_STREAM"):
            await conn.expect_stream_error(conn.open("conformance.info"), "NOT_FOUND")

    with_worker(talk)


def test_an_outcome_needs_no_twin_and_names_its_own_check() -> None:
    async def talk(ctx: Context) -> None:
        conn = await ctx.ready()
        frame = await conn.expect_outcome(conn.open("no.such"), "NOT_FOUND", not_processed=True)
        assert frame.error is not None
        await conn.expect_outcome(conn.open("no.such"), "NOT_FOUND", check="again")
        for stream, wrong in (
            (conn.open("no.such"), {"error": "NOT_FOUND", "not_processed": False}),
            (conn.open("no.such"), {"error": "OVERLOADED"}),
            (conn.open("conformance.info"), {"error": "NOT_FOUND"}),
        ):
            with pytest.raises(CheckFailed, match="an error terminal with"):
                await conn.expect_outcome(stream, **wrong)  # type: ignore[arg-type]
        running = conn.open("conformance.sleep", {"ms": 60_000})
        with pytest.raises(CheckFailed, match="nothing more for"):
            await conn.expect_outcome(running, "CANCELLED", within=0.01)

    assert names(with_worker(talk)) == ["error", "again"]


async def _break_while_draining(ctx: Context) -> None:
    conn = await ctx.ready()
    conn.open("conformance.sleep", {"ms": 60_000})
    await conn.call("conformance.drain", {"grace_ms": 60_000})
    await conn.expect("GOAWAY")
    conn.violate(wire.settings(), instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=2)


def test_a_connection_error_while_draining_is_the_next_goaway() -> None:
    assert names(with_worker(_break_while_draining)) == ["goaway", "end"]

    async def unpunished(ctx: Context) -> None:
        with pytest.raises(CheckFailed, match="the connection goes on"):
            await _break_while_draining(ctx)

    with_worker(unpunished, "hsk-accepts-second-settings")

    async def silent_end(ctx: Context) -> None:
        with pytest.raises(CheckFailed, match=r"NO_ERROR.*then the connection was"):
            await _break_while_draining(ctx)

    with_worker(silent_end, "cls-no-goaway")


def test_a_twin_may_end_the_connection_too() -> None:
    async def talk(ctx: Context) -> None:
        for ctx.twin_run in (False, True):
            conn = await ctx.ready()
            conn.violate(wire.goaway(payload=b"short"), instead_of=wire.goaway())
            await conn.expect_connection_error("FRAME_SIZE_ERROR", twin_ends=True)
        conn = await ctx.ready()
        conn.violate(b"", instead_of=wire.ping())
        with pytest.raises(Unprepared, match="the end of the connection"):
            await conn.expect_connection_error("FRAME_SIZE_ERROR", twin_ends=True, within=0.1)

    assert names(with_worker(talk)) == ["goaway", "end"]


def test_a_judge_that_was_slow_itself_waits_on() -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(SETUP)
        threading.Event().wait(0.4)
        sock.sendall(wire.goaway())
        read_exactly(sock, 10_000)

    async def talk(ctx: Context) -> None:
        conn = await ctx.ready()
        ctx.patience.record(0.0)
        asyncio.get_running_loop().call_later(0.1, ctx.patience.record, 0.2)
        await conn.expect("GOAWAY", check="came")
        with pytest.raises(Unprepared):
            await conn.expect("SETTINGS", within=0.0)

    assert names(with_peer(talk, script, timeout=0.2)) == ["came"]


def test_a_quiet_end_has_no_goaway() -> None:
    async def quiet(ctx: Context) -> None:
        conn = await ctx.ready()
        conn.send(wire.goaway())
        await conn.expect_quiet_end(check="quiet")

    assert names(with_worker(quiet)) == ["quiet"]

    async def loud(ctx: Context) -> None:
        conn = await ctx.ready()
        conn.send(wire.settings())
        with pytest.raises(CheckFailed, match="without a GOAWAY"):
            await conn.expect_quiet_end(check="quiet")

    with_worker(loud)


def test_frames_that_may_interleave_are_skipped_and_pings_answered() -> None:
    answered: list[bytes] = []

    def script(sock: socket.socket) -> None:
        ping = wire.ping(b"12345678")
        noise = wire.grease(payload=b"x") + ping + wire.window_update(10**9)
        sock.sendall(SETUP + noise + wire.goaway("NO_ERROR", grace_ms=9))
        read_exactly(sock, 16)
        while head := read_exactly(sock, 32):
            payload = read_exactly(sock, int.from_bytes(head[8:16], "big"))
            if head[1] == wire.HEARTBEAT and head[3] == wire.PONG:
                answered.append(payload)
                return

    async def talk(ctx: Context) -> None:
        conn = await ctx.ready()
        frame = await conn.expect("GOAWAY", check="goaway")
        assert frame.goaway is not None
        assert frame.goaway.grace_ms == 9
        await conn.expect_end(check=None)

    with_peer(talk, script)
    assert answered == [b"12345678"]


def test_an_unexpected_frame_ends_the_wait_at_once() -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(SETUP + wire.goaway("INTERNAL_ERROR"))
        read_exactly(sock, 10_000)

    async def talk(ctx: Context) -> None:
        conn = await ctx.ready()
        with pytest.raises(CheckFailed, match="INTERNAL_ERROR"):
            await conn.expect("SETTINGS", check="x")
        with pytest.raises(Unprepared, match="INTERNAL_ERROR"):
            await conn.fence()

    with_peer(talk, script)


def test_goaway_before_a_reset_with_unread_input_is_not_lost() -> None:
    def script(sock: socket.socket) -> None:
        read_exactly(sock, 48)
        sock.sendall(SETUP + wire.goaway("PROTOCOL_ERROR"))

    async def talk(ctx: Context) -> None:
        conn = await ctx.connect()
        conn.send(wire.preface(), conn.settings())
        for _ in range(64):
            conn.send(wire.grease(payload=bytes(16_000)))
            await asyncio.sleep(0)
        await conn.expect_connection_error("PROTOCOL_ERROR", within=2)

    for _ in range(10):
        assert names(with_peer(talk, script)) == ["goaway", "end"]


@pytest.mark.parametrize(
    ("last_words", "text"),
    [
        (b"", "without GOAWAY"),
        (wire.goaway("NO_ERROR"), "NO_ERROR"),
        (wire.goaway("CANCELLED"), "CANCELLED"),
        (wire.goaway("PROTOCOL_ERROR", last_ordinal=7), "last_ordinal=7"),
    ],
)
def test_what_is_no_proper_connection_error(last_words: bytes, text: str) -> None:
    async def talk(ctx: Context) -> None:
        conn = await ctx.connect()
        conn.send(wire.preface(), conn.settings())
        with pytest.raises(CheckFailed, match=text):
            await conn.expect_connection_error("PROTOCOL_ERROR", last_ordinal=0)

    with_peer(talk, lambda sock: sock.sendall(SETUP + last_words), timeout=0.5)


def test_silence() -> None:
    async def quiet(ctx: Context) -> None:
        conn = await ctx.connect()
        conn.violate(b"GET")
        await conn.expect_silence_then_eof()

    assert names(with_peer(quiet, lambda sock: sock.recv(3))) == ["silence", "end"]

    async def talking(ctx: Context) -> None:
        conn = await ctx.connect()
        with pytest.raises(CheckFailed, match="4 bytes"):
            await conn.expect_silence_then_eof()

    with_peer(talking, lambda sock: sock.sendall(b"what"))

    async def staying(ctx: Context) -> None:
        conn = await ctx.connect()
        with pytest.raises(CheckFailed, match="nothing more for"):
            await conn.expect_silence_then_eof()

    with_peer(staying, lambda sock: sock.recv(100), timeout=0.2)


def test_automatic_frames_never_land_inside_a_broken_one() -> None:
    received = bytearray()

    def script(sock: socket.socket) -> None:
        sock.sendall(SETUP + wire.ping())
        while more := sock.recv(4_096):
            received.extend(more)

    async def talk(ctx: Context) -> None:
        conn = await ctx.connect()
        conn.send(wire.preface(), conn.settings())
        sent = wire.ping(length=100)[:40]
        conn.send(sent)
        await conn.expect("SETTINGS")
        await conn.expect("SETTINGS_ACK")
        await conn.until(lambda: len(conn.frames) == 3, 2)
        conn.transport.half_close()
        await conn.expect_end(check=None)

    with_peer(talk, script)
    assert bytes(received).endswith(wire.ping(length=100)[:40])


def test_raw_requests_get_a_stream_of_their_own() -> None:
    async def talk(ctx: Context) -> None:
        conn = await ctx.ready()
        request_id = b"\xff" * 15 + b"\xfe"
        stream = conn.stream(request_id)
        conn.transport.dribble()
        conn.send(wire.open_request(request_id, "conformance.echo", b"raw"))
        assert await stream.result() == [b"raw"]

    assert with_worker(talk).violations == []
