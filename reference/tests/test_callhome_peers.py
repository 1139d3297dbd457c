"""Call-home with a peer that the test plays: bad input ends in a typed error, and leaks nothing."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import muxwire
import pytest
from callhome_core import ACCEPT, DONE, HELLO, ME, PREFACE, TOKEN, response
from callhome_harness import answered, home, limited, serving
from io_harness import Frame, Listener, Peer, drained, until
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ErrorCode
from muxwire.callhome import Client, connect
from muxwire.callhome.worker import CallHomePath
from muxwire.errors import Outcome

UUID = "11111111-1111-1111-1111-111111111111"
TEXT = base64.urlsafe_b64encode(TOKEN).decode().rstrip("=")
FAST = {"idle_timeout_ms": 1_000}


# -- the worker against a router of the test -------------------------------------------------------


class Http:
    """POSTs to a worker, as a router does."""

    def __init__(self, session: aiohttp.ClientSession, path: CallHomePath, listener: Listener):
        self._session = session
        self._url = f"http://{path.addresses[0]}/v1/rpc/"
        self._listener = listener

    async def post(
        self,
        subject: str = "conformance.echo",
        body: bytes | io.BytesIO = b"hi",
        *,
        without: str = "",
        method: str = "POST",
        path: str | None = None,
        **fields: str,
    ) -> tuple[int, dict[str, Any], Any]:
        """Return status, error object and headers."""
        headers = {"wch-addr": self._listener.address, "wch-stream": UUID, "wch-token": TEXT}
        headers |= {name.replace("_", "-"): value for name, value in fields.items()}
        headers.pop(without, None)
        url = self._url + subject if path is None else self._url.removesuffix("/v1/rpc/") + path
        async with self._session.request(method, url, data=body, headers=headers) as answer:
            octets = await answer.read()
            return answer.status, json.loads(octets) if octets else {}, answer.headers

    async def accept(self, hello: bytes = HELLO) -> Peer:
        """Take the worker's connection, exchange prefaces and read its HELLO."""
        peer = await self._listener.accept()
        assert (await peer.read(16))[:12] == PREFACE[:12]
        await peer.send(PREFACE)
        if hello:
            assert await peer.read(len(hello)) == hello
        return peer


@asynccontextmanager
async def routed(
    handlers: Any = None, **options: Any
) -> AsyncIterator[tuple[Http, CallHomePath, muxwire.Worker]]:
    """Serve, and play the router."""
    options.setdefault("conformance", True)
    with Listener() as listener:
        async with (
            serving(handlers, **options) as (path, worker),
            aiohttp.ClientSession() as session,
        ):
            yield Http(session, path, listener), path, worker


def idle(worker: muxwire.Worker) -> bool:
    return not worker.statistics.active and not worker.running_handlers


async def terminal(peer: Peer) -> Frame:
    return await peer.terminal(ME)


@pytest.mark.usefixtures("each_loop")
async def test_hello_accept_response_done_and_again() -> None:  # P0-001, P0-009
    async with routed() as (http, _, worker):
        status, _, __ = await http.post()
        assert status == 202
        async with await http.accept() as peer:
            await peer.send(ACCEPT)
            assert await peer.frame() == Frame(2, END_STREAM, 0, 0, ME, b"hi")
            await peer.send(DONE)
            assert (await http.post(body=b"again"))[0] == 202
            assert await peer.read(48) == HELLO
            await peer.send(ACCEPT)
            assert (await peer.frame()).payload == b"again"
            await peer.send(DONE)
            await until(lambda: idle(worker))


MALFORMED = {
    "no address": {"without": "wch-addr"},
    "no stream": {"without": "wch-stream"},
    "no token": {"without": "wch-token"},
    "no port": {"wch_addr": "127.0.0.1"},
    "port 0": {"wch_addr": "127.0.0.1:0"},
    "large port": {"wch_addr": "127.0.0.1:65536"},
    "a name": {"wch_addr": "localhost:80"},
    "bare IPv6": {"wch_addr": "::1:80"},
    "bad UUID": {"wch_stream": "1111"},
    "zeros": {"wch_stream": "00000000-0000-0000-0000-000000000000"},
    "ones": {"wch_stream": "ffffffff-ffff-ffff-ffff-ffffffffffff"},
    "21 characters": {"wch_token": TEXT[:-1]},
    "unused bits": {"wch_token": TEXT[:-1] + "x"},
    "padding": {"wch_token": TEXT + "=="},
    "bad timeout": {"wch_timeout_ms": "soon"},
    "large timeout": {"wch_timeout_ms": "4294967296"},
    "attempt 1": {"attempt": "1"},
}


@pytest.mark.parametrize("fields", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_field_is_400(fields: dict[str, str]) -> None:  # P0-017
    async with routed() as (http, path, worker):
        status, told, headers = await http.post(**fields)
        assert (status, told["code"]) == (400, "INVALID_ARGUMENT")
        assert headers["wmx-not-processed"] == "1"
        assert (worker.statistics.opened, path.connections()) == (0, 0)


OTHERS: dict[str, tuple[dict[str, Any], int, str]] = {
    "path": ({"path": "/v2/conformance.echo"}, 404, "NOT_FOUND"),
    "two segments": ({"path": "/v1/rpc/a/b"}, 404, "NOT_FOUND"),
    "method": ({"method": "PUT"}, 405, "INVALID_ARGUMENT"),
    "subject": ({"subject": "nobody"}, 404, "NOT_FOUND"),
    "bad subject": ({"subject": "%FF"}, 400, "INVALID_ARGUMENT"),
    "media type": ({"content_type": "text/plain"}, 415, "INVALID_ARGUMENT"),
    "coding": ({"content_encoding": "gzip"}, 415, "INVALID_ARGUMENT"),
    "not JSON": ({"content_type": "application/json", "body": b"{"}, 400, "INVALID_ARGUMENT"),
    "address": ({"wch_addr": "127.0.0.2:80"}, 403, "INVALID_ARGUMENT"),
    "before the subject": ({"wch_addr": "127.0.0.2:80", "subject": "x"}, 403, "INVALID_ARGUMENT"),
}


@pytest.mark.parametrize(("request_", "status", "code"), OTHERS.values(), ids=OTHERS)
async def test_what_is_refused(request_: dict[str, Any], status: int, code: str) -> None:
    async with routed() as (http, path, worker):  # P0-016
        told = await http.post(**request_)
        assert (told[0], told[1]["code"], told[1]["not_processed"]) == (status, code, True)
        assert told[2]["wmx-not-processed"] == "1"
        assert told[2]["content-type"] == "application/json"
        assert (worker.statistics.opened, path.connections()) == (0, 0)


async def test_an_allowed_address_is_dialled() -> None:  # P0-016
    async with routed(allow=("127.0.0.2",)) as (http, _, worker):
        assert (await http.post(wch_addr="127.0.0.2:9"))[0] == 202
        await until(lambda: idle(worker))  # P0-005: nobody is there, three times


async def test_a_field_that_occurs_twice() -> None:  # P0-017
    async with routed() as (_, path, worker):
        host, port = path.addresses[0].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        fields = f"wch-addr: 1.2.3.4:5\r\nwch-stream: {UUID}\r\nwch-token: {TEXT}\r\n"
        writer.write(b"POST /v1/rpc/a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n")
        writer.write((fields + f"wch-token: {TEXT}\r\n\r\n").encode())
        assert (await reader.readline()).split()[1] == b"400"
        writer.close()
        await writer.wait_closed()
        assert not worker.statistics.opened


async def test_a_live_stream_is_409_and_goes_on() -> None:  # P0-017
    async with routed() as (http, _, __):
        assert (await http.post())[0] == 202
        status, told, headers = await http.post()
        assert (status, told["code"]) == (409, "DUPLICATE_REQUEST")
        assert "wmx-not-processed" not in headers
        async with await http.accept() as peer:
            await peer.send(ACCEPT)
            assert (await peer.frame()).payload == b"hi"
            await peer.send(DONE)


async def test_overload_and_size() -> None:
    config = muxwire.Config(
        settings=muxwire.Settings.recommended(max_concurrent_requests=100, max_message_size=1 << 20)
    )
    async with routed(config=config) as (http, _, worker):
        status, told, headers = await http.post(body=io.BytesIO(bytes((1 << 20) + 1)))
        assert (status, told["code"]) == (413, "MESSAGE_TOO_LARGE")
        for number in range(100):
            other = f"22222222-2222-2222-2222-{number:012}"
            assert (await http.post("conformance.sleep", b'{"ms": 60000}', wch_stream=other))[
                0
            ] == 202
        status, told, headers = await http.post()
        assert (status, told["code"]) == (503, "OVERLOADED")
        assert int(headers["retry-after"]) >= 1
        assert told["retry_after_ms"] > 0
        assert worker.statistics.active == 100


async def test_a_reject_kills_the_handler_and_keeps_the_connection() -> None:  # P0-004
    async with routed() as (http, _, worker):
        await http.post("conformance.sleep", b'{"ms": 60000}')
        async with await http.accept() as peer:
            await peer.send(codec.encode_reject(ME, ErrorCode.CANCELLED))
            await until(lambda: idle(worker))
            await http.post()
            assert await peer.read(48) == HELLO


async def test_two_lost_hellos_and_a_good_one() -> None:  # P0-005
    async with routed() as (http, _, __):
        await http.post("conformance.generate", b'{"count": 3}')
        for _ in range(2):
            (await http.accept()).close()
        async with await http.accept() as peer:
            await peer.send(ACCEPT)
            assert len(await peer.frames((2, 0), END_STREAM)) == 3
            await peer.send(DONE)


async def test_three_lost_hellos_kill_the_handler() -> None:  # P0-005
    async with routed() as (http, _, worker):
        await http.post("conformance.sleep", b'{"ms": 60000}')
        for _ in range(3):
            (await http.accept()).close()
        await until(lambda: idle(worker))


async def test_a_listener_that_is_no_router() -> None:  # P0-002
    with Listener() as listener:
        async with routed() as (http, _, worker):
            await http.post(wch_addr=listener.address)
            for _ in range(3):
                peer = await listener.accept()
                assert await peer.read(16)
                await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                assert await peer.rest() == b""
                peer.close()
            await until(lambda: idle(worker))


async def test_a_refused_address_kills_the_handler() -> None:  # P0-005
    with Listener() as listener:
        address = listener.address
    async with routed() as (http, _, worker):
        assert (await http.post("conformance.sleep", b'{"ms": 60000}', wch_addr=address))[0] == 202
        await until(lambda: worker.statistics.opened and idle(worker))


async def test_a_stream_that_is_cut_off_is_not_tried_again() -> None:  # P0-006
    async with routed() as (http, path, worker):
        await http.post("conformance.generate", b'{"count": 1000000, "interval_ms": 1}')
        peer = await http.accept()
        await peer.send(ACCEPT)
        await peer.frame()
        peer.reset()
        await until(lambda: idle(worker))
        (statistics,) = path.pool.statistics().values()
        assert statistics.created == 1


@pytest.mark.parametrize("octets", [ACCEPT, b"garbage", codec.encode_goaway(0, 0, 0, b""), DONE])
async def test_nonsense_in_a_stream(octets: bytes) -> None:  # P0-012
    async with routed() as (http, _, worker):
        await http.post("conformance.sleep", b'{"ms": 60000}')
        async with await http.accept() as peer:
            await peer.send(ACCEPT + octets)
            assert await peer.rest() == b""
            await until(lambda: idle(worker))


@pytest.mark.parametrize("octets", [b"garbage", response(0, b"x"), b""])
async def test_nonsense_on_an_idle_connection(octets: bytes) -> None:  # P0-010
    async with routed() as (http, path, _):
        await http.post()
        async with await http.accept() as peer:
            await peer.send(ACCEPT)
            await terminal(peer)
            await peer.send(DONE)
            await until(lambda: path.pool.statistics()[path_target(path)].idle == 1)
            if octets:
                await peer.send(octets)
            else:
                peer.half_close()
            await http.post(body=b"second")
            async with await http.accept() as other:
                await other.send(ACCEPT)
                assert (await other.frame()).payload == b"second"
                await other.send(DONE)


def path_target(path: CallHomePath) -> str:
    (target,) = path.pool.statistics()
    return target


async def test_done_that_is_late_costs_another_connection() -> None:  # P0-008
    async with routed() as (http, _, __):
        await http.post()
        async with await http.accept() as peer:
            await peer.send(ACCEPT)
            await terminal(peer)
            other = "22222222-2222-2222-2222-222222222222"
            await http.post(wch_stream=other)
            async with await http.accept(codec.encode_hello(b"\x22" * 16, TOKEN)):
                await peer.send(DONE)


async def test_a_router_that_stops_reading() -> None:  # P0-013
    async with routed(idle_timeout_ms=60_000) as (http, path, worker):
        await http.post("conformance.generate", b'{"count": 1000000, "size": 1024}')
        peer = await http._listener.accept()
        await peer.read(16)
        await peer.send(codec.encode_wch_preface(1, 1, 500))
        await peer.read(48)
        await peer.send(ACCEPT)
        await until(lambda: path.buffered_bytes() > 100_000)
        assert path.buffered_bytes() <= 2 << 20
        await until(lambda: idle(worker))
        peer.close()


async def test_a_drain_refuses_and_lets_streams_end() -> None:  # P0-020
    async with routed() as (http, path, worker):
        await http.post()
        async with await http.accept() as peer:
            await peer.send(ACCEPT)
            await terminal(peer)
            await peer.send(DONE)
            other = "22222222-2222-2222-2222-222222222222"
            await http.post("conformance.sleep", b'{"ms": 300}', wch_stream=other)
            assert await peer.read(48)
            draining = asyncio.create_task(path.drain(5.0))
            await until(lambda: path.draining)
            status, told, headers = await http.post()
            assert (status, told["code"]) == (503, "DRAINING")
            assert headers["wmx-not-processed"] == "1"
            await peer.send(codec.encode_accept(b"\x22" * 16))
            assert (await peer.terminal(b"\x22" * 16)).payload == b"ok"
            await peer.send(codec.encode_done(b"\x22" * 16))
            assert await peer.rest() == b""
            await draining
            assert idle(worker)


async def test_a_drain_without_grace_says_shutdown() -> None:  # P0-020
    async with routed() as (http, path, worker):
        await http.post("conformance.sleep", b'{"ms": 60000}')
        async with await http.accept() as peer:
            await peer.send(ACCEPT)
            draining = asyncio.create_task(path.drain(0.0))
            assert (await terminal(peer)).error_code == ErrorCode.SHUTDOWN
            async with asyncio.timeout(8):  # the HTTP connection is kept alive for longer
                await draining
            assert idle(worker)


# -- the pool --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_loop")
async def test_a_hundred_streams_and_fifty_connections() -> None:  # P0-015
    async with home(conformance=True, pool=limited(max_per_target=50)) as (client, path, _):
        most = 0

        async def call() -> None:
            nonlocal most
            await client.call("conformance.sleep", b'{"ms": 50}')
            most = max(most, client.connections)

        await asyncio.gather(*(call() for _ in range(100)))
        assert most <= 50
        (statistics,) = path.pool.statistics().values()
        assert statistics.created <= 50


@pytest.mark.usefixtures("each_loop")
async def test_a_thousand_streams_complete_in_order() -> None:  # P0-015
    admitted: list[int] = []
    arrived: list[int] = []

    async def number(request: muxwire.Request) -> bytes:
        body = await request.read()
        assert body is not None
        admitted.append(int(body))
        return body

    async with home(
        {"number": number},
        config=muxwire.Config(settings=muxwire.Settings.recommended(max_concurrent_requests=1_000)),
    ) as (client, path, _):

        async def call(index: int) -> None:
            assert await client.call("number", b"%d" % index) == b"%d" % index
            arrived.append(index)

        await asyncio.gather(*(call(index) for index in range(1_000)))
        assert sorted(arrived) == [*range(1_000)]
        (statistics,) = path.pool.statistics().values()
        assert statistics.created <= 50
        turn = {index: place for place, index in enumerate(admitted)}
        late = max(place - turn[index] for place, index in enumerate(arrived))
        assert late < 150  # nobody is overtaken by more than a few turns of 50 connections


# -- the router against a worker of the test -------------------------------------------------------


async def failure(client: Client, **options: Any) -> muxwire.RequestFailed:
    with pytest.raises(muxwire.RequestFailed) as failed:
        await client.call("a", b"", **options)
    return failed.value


ANSWERS: dict[str, tuple[int, dict[str, str], bytes, Outcome, int | None]] = {
    "refused": (503, {"wmx-not-processed": "1"}, b"", Outcome.NOT_PROCESSED, None),
    "with a code": (
        404,
        {"wmx-not-processed": "1"},
        b'{"code": "NOT_FOUND", "num": 258, "message": "m"}',
        Outcome.NOT_PROCESSED,
        ErrorCode.NOT_FOUND,
    ),
    "a proxy's": (502, {}, b"<html>", Outcome.AMBIGUOUS, None),
    "a redirect": (307, {"location": "http://127.0.0.1:1/"}, b"", Outcome.AMBIGUOUS, None),
    "200": (200, {}, b"hello", Outcome.AMBIGUOUS, None),
}


@pytest.mark.parametrize(
    ("status", "headers", "body", "outcome", "code"), ANSWERS.values(), ids=ANSWERS
)
async def test_answers_other_than_202(
    status: int, headers: dict[str, str], body: bytes, outcome: Outcome, code: int | None
) -> None:  # P0-019
    async with answered(status, headers, body) as (client, _):
        error = await failure(client)
        assert (error.outcome, error.code) == (outcome, code)


async def test_nobody_listens_there() -> None:
    with Listener() as listener:
        address = listener.address
    async with connect(f"http://{address}", recover=False) as client:
        assert (await failure(client)).outcome is Outcome.NOT_SENT


async def test_a_refused_request_is_tried_again() -> None:  # REC-002, REC-007
    async with answered(503, {"wmx-not-processed": "1"}, recover=True) as (client, fake):
        error = await failure(client)
        assert (error.outcome, error.attempts) == (Outcome.NOT_PROCESSED, 3)
        posts = [fake.posts.get_nowait() for _ in range(3)]
        assert [post.get("attempt") for post in posts] == [None, "2", "3"]
        assert len({post["request-id"] for post in posts}) == 1
        assert len({post["wch-token"] for post in posts}) == 3


async def test_a_worker_that_dies_in_a_stream() -> None:  # P0-019
    async with answered() as (client, fake):
        stream = client.stream("a", b"")
        peer, me, token = await fake.dial()
        await peer.send(codec.encode_hello(me, token))
        assert await peer.read(32) == codec.encode_accept(me)
        await peer.send(response(0, b"one", request_id=me))
        assert await anext(stream) == b"one"
        peer.reset()
        messages, error = await drained(stream)
        assert not messages
        assert error is not None
        assert (error.outcome, error.messages) == (Outcome.PARTIAL, 1)


async def test_guesses_are_rejected_and_the_right_token_is_not_hurt() -> None:  # P0-018
    async with answered() as (client, fake):
        calling = asyncio.create_task(client.call("a", b""))
        peer, me, token = await fake.dial()
        await peer.send(codec.encode_hello(me, bytes(16)))
        await peer.send(codec.encode_hello(b"\x01" * 16, token))
        assert await peer.read(36) == codec.encode_reject(me, ErrorCode.NOT_FOUND)
        await peer.read(36)
        await peer.send(codec.encode_hello(me, token))
        assert await peer.read(32) == codec.encode_accept(me)
        await peer.send(response(0, b"true", END_STREAM, me))
        assert await calling == b"true"
        assert await peer.read(32) == codec.encode_done(me)
        await peer.send(codec.encode_hello(me, token))
        assert await peer.read(36) == codec.encode_reject(me, ErrorCode.NOT_FOUND)
        peer.close()


async def test_a_call_that_is_given_up_before_a_hello() -> None:  # P0-018
    async with answered() as (client, fake):
        stream = client.stream("a", b"")
        peer, me, token = await fake.dial()
        stream.kill()
        _, error = await drained(stream)
        assert error is not None
        assert (error.outcome, error.code) == (Outcome.AMBIGUOUS, ErrorCode.CANCELLED)
        await peer.send(codec.encode_hello(me, token))
        assert await peer.read(36) == codec.encode_reject(me, ErrorCode.CANCELLED)
        peer.close()


async def test_a_worker_that_never_calls_home_in_time() -> None:
    async with answered() as (client, _):
        error = await failure(client, timeout=0.2)
        assert (error.outcome, error.code) == (Outcome.AMBIGUOUS, ErrorCode.DEADLINE_EXCEEDED)


async def test_a_worker_that_accepts_and_is_silent() -> None:  # P0-014
    async with answered(idle_timeout_ms=300) as (client, fake):
        calling = asyncio.create_task(failure(client, timeout=2.0))
        peer, me, token = await fake.dial()
        await peer.send(codec.encode_hello(me, token))
        await peer.read(32)
        assert await peer.rest() is not None
        assert (await calling).outcome is Outcome.AMBIGUOUS
        peer.close()


async def test_an_address_that_nobody_can_dial() -> None:
    with pytest.raises(muxwire.InvalidArgument, match=r"0\.0\.0\.0"):
        await connect("http://127.0.0.1:1", listen="0.0.0.0:0")
    client = await connect("http://127.0.0.1:1", listen="0.0.0.0:0", advertise="192.0.2.7")
    assert client.home.startswith("192.0.2.7:")
    await client.close()
