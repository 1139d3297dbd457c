"""`muxwire driver` on the call-home path (section 19.4), with real and scripted workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from callhome_core import PREFACE, response
from callhome_harness import FakeWorker, Peer, faking, serving
from driver_harness import Inside, b64, driving, program
from io_harness import Listener
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ErrorCode
from muxwire.driving import transports


@asynccontextmanager
async def served(**connect: Any) -> AsyncIterator[Inside]:
    """Command a router of a real worker."""
    async with (
        serving(conformance=True) as (path, _),
        driving(path.addresses[0], transport="callhome", **connect) as tester,
    ):
        await tester.event("listening")
        yield tester


@asynccontextmanager
async def scripted(status: int = 202, **connect: Any) -> AsyncIterator[tuple[Inside, FakeWorker]]:
    """Command a router of a worker that the test plays."""
    headers = {} if status == 202 else {"wmx-not-processed": "1"}
    async with (
        faking(status, headers) as fake,
        driving(fake.address, transport="callhome", **connect) as tester,
    ):
        yield tester, fake


async def accepted(fake: FakeWorker) -> tuple[Peer, bytes]:
    """Call home for the next request; return the connection and the id."""
    peer, me, token = await fake.dial()
    await peer.send(codec.encode_hello(me, token))
    assert await peer.read(32) == codec.encode_accept(me)
    return peer, me


async def test_a_message_goes_there_and_back() -> None:
    async with served() as tester:
        tester.op("request", ref="r", subject="conformance.echo", body_b64=b64("hi"))
        assert await tester.final("r") == {
            "event": "end",
            "ref": "r",
            "messages": 1,
            "attempts": 1,
            "trailers": [],
        }
        assert tester.bodies("r") == [b"hi"]
    ready, listening, connected, *_, gone, closed = tester.said
    assert ready["transports"] == ["tcp", "callhome", "http"]
    assert listening["event"] == "listening"
    assert connected == {
        "event": "connected",
        "conn": 1,
        "addr": connected["addr"],
        "version": 1,
    }
    assert connected["addr"] not in ("", listening["addr"])
    assert gone | {"reason": ""} == {
        "event": "disconnected",
        "conn": 1,
        "addr": connected["addr"],
        "handshake": True,
        "by": "local",
        "code": None,
        "reason": "",
    }
    assert closed == {"event": "closed"}


async def test_operations_wait_until_connect_is_in_force() -> None:
    async with serving(conformance=True) as (path, _), driving(path.addresses[0]) as tester:
        tester.op("sync", id=1)
        await tester.event("synced")
    async with serving(conformance=True) as (path, _):
        tester = Inside(path.addresses[0])
        running = asyncio.create_task(tester.session.run())
        tester.op("connect", transport="callhome")
        tester.op("request", ref="r", subject="conformance.echo")
        tester.op("sync", id=1)
        tester.op("close")
        await running
        kinds = [line["event"] for line in tester.said if line["event"] != "connected"]
        assert kinds[:3] == ["ready", "listening", "synced"]
        assert kinds[3:] == ["message", "end", "disconnected", "closed"]


@pytest.mark.parametrize(
    "members",
    [
        {"hold_open": True},
        {"hold_open": True, "body_b64": ""},
        {"messages_b64": []},
        {"messages_b64": ["", ""]},
    ],
)
async def test_a_request_has_one_message(members: dict[str, Any]) -> None:  # P0-001
    async with served() as tester:
        tester.op("request", ref="r", subject="conformance.echo", **members)
        tester.op("request", ref="s", subject="conformance.echo", messages_b64=[b64("one")])
        await tester.final("s")
        assert tester.of("r") == [
            {"event": "unsupported", "op": "request", "ref": "r", "feature": "bidi"}
        ]
        assert tester.bodies("s") == [b"one"]
        tester.op("kill", ref="r")
        assert (await tester.event("invalid"))["op"] == "kill"


async def test_headers_and_trailers() -> None:
    async with served() as tester:
        tester.op("request", ref="r", subject="conformance.headers", headers=[["k", "v"]])
        end = await tester.final("r")
        assert json.loads(tester.bodies("r")[0])["headers"][0] == ["k", "v"]
        assert tester.of("r")[0]["headers"] == [["content-type", "application/json"]]
        assert [key for key, _ in end["trailers"]] == ["usage"]


async def test_stop_kill_and_pause() -> None:  # P0-011
    async with served() as tester:
        endless = b64('{"count": 1000000000, "interval_ms": 1}')
        for ref in ("stopped", "killed"):
            tester.op("request", ref=ref, subject="conformance.generate", body_b64=endless)
            await tester.event("message", ref=ref)
        tester.op("stop", ref="stopped")
        assert (await tester.final("stopped"))["event"] == "end"
        tester.op("kill", ref="killed")
        error = await tester.final("killed")
        assert (error["class"], error["code"]) == ("FAILED", ErrorCode.CANCELLED)
        tester.op("request", ref="held", subject="conformance.echo", paused=True)
        tester.op("request", ref="other", subject="conformance.echo")
        await tester.final("other")
        tester.op("resume", ref="held")
        assert (await tester.final("held"))["event"] == "end"


@pytest.mark.parametrize(("settings", "announced"), [({}, 0), ({"IDLE_TIMEOUT_MS": 700}, 700)])
async def test_the_preface_announces_the_idle_timeout(  # P0-014
    settings: dict[str, int], announced: int
) -> None:
    async with (
        scripted(settings={"MAX_FRAME_SIZE": 70_000, **settings}) as (tester, fake),
    ):
        tester.op("request", ref="r", subject="a")
        fields = await fake.posts.get()
        assert fields["wch-addr"] == (await tester.event("listening"))["addr"]
        async with await Peer.dial(fields["wch-addr"]) as peer:
            await peer.send(PREFACE)
            assert await peer.read(16) == codec.encode_wch_preface(1, 1, announced)
            assert (await tester.event("connected"))["addr"] == peer.name


async def test_a_worker_that_dies_in_a_stream() -> None:  # P0-019
    async with scripted() as (tester, fake):
        tester.op("request", ref="r", subject="a")
        peer, me = await accepted(fake)
        await peer.send(response(0, b"one", request_id=me))
        await tester.event("message")
        peer.close()
        error = await tester.final("r")
        assert (error["class"], error["code"], error["messages"]) == ("PARTIAL", None, 1)
        gone = await tester.event("disconnected")
        assert (gone["by"], gone["handshake"], gone["code"]) == ("peer", True, None)


async def test_a_connection_without_a_preface() -> None:  # P0-002
    async with scripted() as (tester, _):
        address = (await tester.event("listening"))["addr"]
        async with await Peer.dial(address) as peer:
            await peer.send(b"GET / HTTP/1.1\r\n\r\n")
            gone = await tester.event("disconnected")
            assert (gone["addr"], gone["handshake"], gone["by"]) == (peer.name, False, "local")
            assert not tester.all("connected")


async def test_a_refused_request_is_tried_again() -> None:  # REC-002
    async with scripted(503, backoff_base_ms=1) as (tester, _):
        tester.op("request", ref="r", subject="a")
        error = await tester.final("r")
        assert (error["class"], error["attempts"]) == ("NOT_PROCESSED", 3)
        assert [line["attempt"] for line in tester.all("retry")] == [2, 3]


async def test_a_worker_that_nobody_reaches() -> None:  # REC-005
    with Listener() as listener:
        address = listener.address
    async with driving(address, transport="callhome", backoff_base_ms=1, wait_ms=50) as tester:
        tester.op("request", ref="r", subject="a")
        error = await tester.final("r")
        assert (error["class"], error["attempts"]) == ("NOT_SENT", 0)
        assert not tester.all("disconnected")


async def test_close_lets_running_requests_finish() -> None:
    async with scripted() as (tester, fake):
        tester.op("request", ref="r", subject="a")
        async with (await accepted(fake))[0] as peer:
            me = bytes.fromhex(fake.last["wch-stream"].replace("-", ""))
            tester.op("close")
            tester.op("request", ref="s", subject="a")
            assert (await tester.event("invalid"))["ref"] == "s"
            await peer.send(response(0, b"late", END_STREAM, me))
            await tester.event("closed")
            assert tester.bodies("r") == [b"late"]


async def test_the_end_of_the_input_ends_everything_soon() -> None:
    async with scripted() as (tester, fake):
        tester.op("request", ref="r", subject="a")
        async with (await accepted(fake))[0]:
            tester.session.end()
            await tester.event("closed")
            assert (await tester.final("r"))["class"] == "AMBIGUOUS"


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "192.0.2.1:0"])
async def test_an_address_that_cannot_be_listened_on(listen: str) -> None:
    async with serving(conformance=True) as (path, _):
        tester = Inside(path.addresses[0])
        running = asyncio.create_task(tester.session.run())
        tester.op("connect", transport="callhome", listen=listen)
        tester.op("request", ref="r", subject="conformance.echo")
        tester.op("connect", transport="callhome")
        tester.op("request", ref="s", subject="conformance.echo")
        await tester.final("s")
        tester.session.end()
        await running
        refused = tester.all("invalid")
        assert [line["op"] for line in refused] == ["connect", "request"]


async def test_without_its_library_the_path_is_not_offered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transports, "find_spec", {"asyncio": 1}.get)
    tester = Inside(None)
    running = asyncio.create_task(tester.session.run())
    tester.op("connect", transport="callhome", addrs=["127.0.0.1:1"])
    tester.session.end()
    await running
    assert tester.said[0]["transports"] == ["tcp"]
    assert tester.all("unsupported") == [
        {"event": "unsupported", "op": "connect", "feature": "callhome"}
    ]


async def test_the_program() -> None:
    async with serving(conformance=True) as (path, _), program(path.addresses[0]) as tester:
        tester.op("connect", transport="callhome")
        tester.op("request", ref="r", subject="conformance.echo", body_b64=b64(b"x" * 3_000_000))
        assert (await tester.final("r"))["messages"] == 1
        tester.op("connect", transport="http")
        tester.op("close")
        await tester.event("closed")
        assert tester.all("invalid")[0]["op"] == "connect"  # it comes once
