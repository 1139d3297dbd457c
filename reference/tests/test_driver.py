"""`muxwire driver`: operations and events of section 19.4, with real and scripted workers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from click.testing import CliRunner
from driver_harness import Inside, b64, driving, program
from io_harness import (
    HELLO,
    PREFACE,
    Frame,
    Listener,
    Peer,
    Served,
    response,
    until,
)
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, ERROR, META, MORE, NOT_PROCESSED
from muxwire.cli import main
from muxwire.driving import lines
from muxwire.driving.lines import BadLine, Lines
from muxwire.driving.transports import TRANSPORTS
from muxwire_spec import driver as spec


@pytest.fixture(scope="module")
def served() -> Any:
    with Served("--conformance") as worker:
        yield worker


# -- the grammar -----------------------------------------------------------------------------------


@pytest.mark.parametrize("line", spec.OPERATIONS, ids=lambda line: line.name)
def test_the_operations_are_those_of_the_specification(line: spec.Line) -> None:
    ours = lines.OPERATIONS[line.name]
    assert list(ours) == [member.name for member in line.members]
    for member in line.members:
        _, default = ours[member.name]
        if not member.optional:
            assert type(default) is object
        elif member.default:
            assert default == json.loads(member.default)
        else:
            assert default is None


def test_names_are_those_of_the_specification() -> None:
    assert set(lines.OPERATIONS) == {line.name for line in spec.OPERATIONS}
    assert lines.PROTOCOL == spec.PROTOCOL
    for name, transport in TRANSPORTS.items():
        assert name in spec.SETS["TRANSPORT"]
        for feature in transport.features:
            assert name in spec.FEATURES[feature].transports


def test_members_get_their_values() -> None:
    text = b'{"ref": "r", "x": 1, "op": "request", "subject": "a", "body_b64": "AAE="}'
    op, members = lines.read(text)
    assert op == "request"
    assert members == {
        "ref": "r",
        "subject": "a",
        "body_b64": b"\0\1",
        "messages_b64": None,
        "headers": None,
        "idempotent": False,
        "timeout_ms": 0,
        "hold_open": False,
        "paused": False,
    }
    _, members = lines.read(b'{"op":"connect","settings":{"IDLE_TIMEOUT_MS":1000,"NEW":[]}}')
    assert members["settings"] == {"idle_timeout_ms": 1000}


@pytest.mark.parametrize(
    ("text", "op", "ref", "message"),
    [
        ("", None, None, "the line is no JSON"),
        ("{", None, None, "the line is no JSON"),
        ("[" * 100_000, None, None, "the line is no JSON"),
        ('{"op": "sync", "id": NaN}', None, None, "NaN is no number"),
        ('{"op": "sync", "id": 1e999}', "sync", None, "id holds a number that JSON cannot say"),
        ("[]", None, None, "the line is no object"),
        ('{"op": 1}', None, None, "op is missing, or no string"),
        ('{"op": "closed"}', "closed", None, "there is no such operation"),
        ('{"op": "stop"}', "stop", None, "ref is missing"),
        ('{"op": "stop", "ref": 1}', "stop", None, "ref is no string"),
        ('{"op": "stop", "ref": "r", "reason": -1}', "stop", "r", "reason is no integer from 0"),
        ('{"op": "stop", "ref": "r", "reason": true}', "stop", "r", "reason is no integer"),
        ('{"op": "send", "ref": "r", "end": 1}', "send", "r", "end is neither true nor false"),
        ('{"op": "send", "ref": "r", "body_b64": "a"}', "send", "r", "body_b64 is no base64"),
        ('{"op": "send", "ref": "r", "body_b64": "a_-="}', "send", "r", "body_b64 is no base64"),
        ('{"op": "send", "ref": "r", "body_b64": "\\u00e4"}', "send", "r", "body_b64 is no base64"),
        ('{"op": "connect", "addrs": "a:1"}', "connect", None, "addrs is no list"),
        ('{"op": "connect", "addrs": ["a"]}', "connect", None, "addrs holds what is no address"),
        ('{"op": "connect", "connections": 5}', "connect", None, "connections is no integer"),
        ('{"op": "connect", "settings": []}', "connect", None, "settings is no object"),
        (
            '{"op": "connect", "settings": {"IDLE_TIMEOUT_MS": 1}}',
            "connect",
            None,
            "settings are not allowed: IDLE_TIMEOUT_MS is outside 100 to 600000",
        ),
        (
            '{"op": "request", "ref": "r", "subject": "a", "headers": [["k"]]}',
            "request",
            "r",
            "headers holds what is no pair",
        ),
        (
            '{"op": "request", "ref": "r", "subject": "a", "body_b64": "", "messages_b64": []}',
            "request",
            "r",
            "body_b64 and messages_b64 exclude each other",
        ),
    ],
)
def test_what_is_no_operation(text: str, op: str | None, ref: str | None, message: str) -> None:
    with pytest.raises(BadLine) as caught:
        lines.read(text.encode())
    assert (caught.value.op, caught.value.ref) == (op, ref)
    assert message in str(caught.value)


@pytest.mark.parametrize("step", [1, 2, 3, 100])
def test_lines_are_cut_wherever_they_are_split(step: int) -> None:
    text = b"abc\n\n1234\n12345\nab\r\nrest"
    cut = Lines(limit=4)
    found = [line for at in range(0, len(text), step) for line in cut.feed(text[at : at + step])]
    assert found == [b"abc", b"", b"1234", None, b"ab\r"]


# -- a real worker ---------------------------------------------------------------------------------


async def test_a_message_goes_there_and_back(served: Served) -> None:
    async with driving(served.address) as tester:
        tester.op("request", ref="r", subject="conformance.echo", body_b64=b64("hi"))
        assert await tester.final("r") == {
            "event": "end",
            "ref": "r",
            "messages": 1,
            "attempts": 1,
            "trailers": [],
        }
        assert tester.of("r")[0] == {"event": "message", "ref": "r", "body_b64": b64("hi")}
    connected, *_, gone, _ = (line for line in tester.said if "conn" in line or len(line) == 1)
    addr = served.address
    assert connected == {"event": "connected", "conn": 1, "addr": addr, "version": 1}
    assert gone | {"reason": ""} == {
        "event": "disconnected",
        "conn": 1,
        "addr": addr,
        "handshake": True,
        "by": "local",
        "code": 0,
        "reason": "",
    }


@pytest.mark.parametrize(
    ("members", "bodies"),
    [
        ({}, [b""]),
        ({"body_b64": ""}, [b""]),
        ({"body_b64": b64("a")}, [b"a"]),
        ({"messages_b64": []}, []),
        ({"messages_b64": [b64("a"), "", b64("b")]}, [b"a", b"", b"b"]),
    ],
)
async def test_what_a_request_carries(
    served: Served, members: dict[str, Any], bodies: list[bytes]
) -> None:
    async with driving(served.address) as tester:
        tester.op("request", ref="r", subject="conformance.echo", **members)
        assert (await tester.final("r"))["messages"] == len(bodies)
        assert tester.bodies("r") == bodies


async def test_an_open_request_takes_messages_until_its_end(served: Served) -> None:
    async with driving(served.address) as tester:
        tester.op("request", ref="r", subject="conformance.echo", hold_open=True)
        for body in (b"", b"a", b"b" * 300_000):
            tester.op("send", ref="r", body_b64=b64(body))
        await tester.event("message", 3)
        tester.op("send", ref="r", body_b64=b64("c"), end=True)
        tester.op("send", ref="r", end=True)
        assert (await tester.final("r"))["messages"] == 4
        assert tester.bodies("r") == [b"", b"a", b"b" * 300_000, b"c"]
        assert tester.all("invalid") == [
            {"event": "invalid", "op": "send", "ref": "r", "message": "the request was ended"}
        ]
        tester.op("send", ref="r", body_b64="")  # it has finished


async def test_the_end_may_come_by_itself(served: Served) -> None:
    async with driving(served.address) as tester:
        tester.op("request", ref="r", subject="conformance.echo", body_b64="", hold_open=True)
        await tester.event("message")
        tester.op("send", ref="r", end=True)
        assert (await tester.final("r"))["messages"] == 1


async def test_headers_and_trailers(served: Served) -> None:
    async with driving(served.address) as tester:
        headers = [["k", "v"], ["x.y", "\u00e4"]]
        tester.op("request", ref="r", subject="conformance.headers", headers=headers)
        end = await tester.final("r")
        (found,) = tester.bodies("r")
        assert [pair for pair in json.loads(found)["headers"] if pair[0] != "request-id"] == headers
        kinds = [line["event"] for line in tester.of("r")]
        assert kinds == ["headers", "message", "end"]
        assert tester.of("r")[0]["headers"] == [["content-type", "application/json"]]
        assert [key for key, _ in end["trailers"]] == ["usage"]


async def test_an_error_of_the_worker(served: Served) -> None:
    async with driving(served.address) as tester:
        parameters = b64('{"code": 268435456, "message": "no", "after": 2}')
        tester.op("request", ref="r", subject="conformance.fail", body_b64=parameters)
        tester.op("request", ref="s", subject="no.such")
        error = await tester.final("r")
        code = error.pop("code")
        assert error == {
            "event": "error",
            "ref": "r",
            "class": "FAILED",
            "local": False,
            "messages": error["messages"],
            "attempts": 1,
            "message": error["message"],
        }
        assert code in (263, 268435456, 259)
        refused = await tester.final("s")
        assert (refused["class"], refused["code"], refused["local"]) == (
            "NOT_PROCESSED",
            258,
            False,
        )


async def test_stop_and_kill(served: Served) -> None:
    async with driving(served.address) as tester:
        endless = b64('{"count": 1000000000, "interval_ms": 1}')
        for ref in ("stopped", "killed"):
            tester.op("request", ref=ref, subject="conformance.generate", body_b64=endless)
            await tester.event("message", ref=ref)
        tester.op("stop", ref="stopped", reason=7)
        tester.op("kill", ref="killed")
        told = len(tester.bodies("killed"))
        error = await tester.final("killed")
        assert (error["class"], error["code"], error["local"]) == ("FAILED", 256, False)
        assert error["messages"] == told == len(tester.bodies("killed"))
        assert (await tester.final("stopped"))["event"] == "end"
        for op in ("stop", "kill", "pause", "resume"):
            tester.op(op, ref="killed")
        tester.op("sync", id=None)
        assert tester.said[-1] == {"event": "synced", "id": None}


async def test_pausing_holds_messages_and_success_back(served: Served) -> None:
    async with driving(served.address) as tester:
        tester.op("request", ref="r", subject="conformance.echo", body_b64=b64("a"), paused=True)
        tester.op("request", ref="s", subject="conformance.echo")
        await tester.final("s")
        tester.op("request", ref="t", subject="conformance.echo")
        await tester.final("t")
        assert tester.of("r") == []
        tester.op("resume", ref="r")
        assert [line["event"] for line in tester.of("r")] == ["message", "end"]


async def test_a_large_answer_waits_for_its_reader(served: Served) -> None:
    async with driving(served.address, settings={"INITIAL_STREAM_WINDOW": 65_536}) as tester:
        source = b64('{"bytes": 1000000}')
        tester.op("request", ref="r", subject="conformance.source", body_b64=source, paused=True)
        tester.op("request", ref="s", subject="conformance.source", body_b64=source)
        await tester.final("s")
        tester.op("resume", ref="r")
        await tester.event("message", ref="r")
        assert tester.bodies("r") == tester.bodies("s")


# -- a scripted worker -----------------------------------------------------------------------------


class FakeWorker(Listener):
    """A listener whose connections are played by the test."""

    async def greeted(self, hello: bytes = HELLO) -> Peer:
        """Accept a connection, read what the client says first and say `hello`."""
        peer = await self.accept()
        assert await peer.read(16) == PREFACE
        await peer.frames((3, 1))
        await peer.send(hello)
        return peer


@asynccontextmanager
async def scripted(**connect: Any) -> AsyncIterator[tuple[Inside, FakeWorker]]:
    """Run a session that dials a scripted worker."""
    connect = {"backoff_base_ms": 1, "backoff_cap_ms": 1, **connect}
    with FakeWorker() as worker:
        async with driving(worker.address, **connect) as tester:
            yield tester, worker


async def opened(peer: Peer) -> Frame:
    """Return the next OPEN."""
    while True:
        frame = await peer.frame()
        if frame.type == 1 and frame.flags & META:
            return frame


def error_body(code: int, flags: int = 0, retry_after_ms: int = 0) -> bytes:
    return codec.encode_error_body(code, flags, retry_after_ms, b"why", b"")


def failed(request_id: bytes, code: int, flags: int = 0, retry_after_ms: int = 0) -> bytes:
    body = error_body(code, flags, retry_after_ms)
    return response(request_id, 0, body, END_STREAM | ERROR)


async def test_a_request_is_sent_before_the_worker_has_said_anything() -> None:
    async with scripted() as (tester, worker):
        tester.op("request", ref="r", subject="a", body_b64=b64("hi"))
        async with await worker.accept() as peer:
            assert await peer.read(16) == PREFACE
            frame = await opened(peer)
            assert frame.payload.endswith(b"hi")
            assert await tester.event("sent") == {"event": "sent", "ref": "r", "messages": 1}
            assert not tester.all("connected")
            await peer.send(HELLO + response(frame.request_id, 0, b"yes", END_STREAM))
            assert (await tester.final("r"))["event"] == "end"
            assert tester.bodies("r") == [b"yes"]


async def test_settings_are_the_clients_own() -> None:
    settings = {"MAX_MESSAGE_SIZE": 2_000_000, "IDLE_TIMEOUT_MS": 12_345}
    async with scripted(settings=settings) as (_, worker), await worker.accept() as peer:
        await peer.read(16)
        (frame,) = await peer.frames((3, 1))
        pairs = dict(codec.decode_settings(frame.payload).settings)
        assert (pairs[6], pairs[7]) == (2_000_000, 12_345)


async def test_a_refusing_preface() -> None:
    async with scripted() as (tester, worker):
        tester.op("request", ref="r", subject="a")
        async with await worker.accept() as peer:
            await opened_after_preface(peer)
            await peer.send(codec.encode_preface(3, 2))
            retry = await tester.event("retry")
            assert (retry["class"], retry["code"], retry["attempt"]) == ("NOT_PROCESSED", None, 2)
        gone = await tester.event("disconnected")
        assert (gone["conn"], gone["handshake"], gone["code"]) == (1, False, None)
        async with await worker.greeted() as peer:
            frame = await opened(peer)
            await peer.send(response(frame.request_id, 0, b"", END_STREAM))
            assert (await tester.final("r"))["attempts"] == 2
            assert (await tester.event("connected"))["conn"] == 2


async def opened_after_preface(peer: Peer) -> Frame:
    assert await peer.read(16) == PREFACE
    return await opened(peer)


async def test_a_lost_preface_proves_nothing() -> None:
    async with scripted() as (tester, worker):
        tester.op("request", ref="r", subject="a")
        async with await worker.accept() as peer:
            await opened_after_preface(peer)
        error = await tester.final("r")
        assert (error["class"], error["code"], error["attempts"]) == ("AMBIGUOUS", None, 1)


async def test_a_retry_is_told_with_its_delay() -> None:
    async with scripted() as (tester, worker):
        tester.op("request", ref="r", subject="a", messages_b64=[b64("x"), b64("y")])
        async with await worker.greeted() as peer:
            first = await opened(peer)
            await peer.send(failed(first.request_id, 0x104, NOT_PROCESSED, 40))
            retry = await tester.event("retry")
            assert retry | {"delay_ms": 0} == {
                "event": "retry",
                "ref": "r",
                "class": "NOT_PROCESSED",
                "code": 0x104,
                "attempt": 2,
                "delay_ms": 0,
            }
            assert 40 <= retry["delay_ms"] <= 60
            second = await opened(peer)
            assert second.request_id != first.request_id
            await tester.event("sent", 2, messages=2)
            await peer.send(failed(second.request_id, 0x107))
            error = await tester.final("r")
            assert (error["class"], error["code"], error["attempts"]) == ("FAILED", 0x107, 2)
            kinds = [line["event"] for line in tester.of("r")]
            assert kinds == ["retry", "error"]


async def test_a_cut_stream_is_partial_and_says_how_much_came() -> None:
    async with scripted() as (tester, worker):
        tester.op("request", ref="r", subject="a")
        async with await worker.greeted() as peer:
            frame = await opened(peer)
            await peer.send(
                response(frame.request_id, 0, b"one") + response(frame.request_id, 1, b"tw", MORE)
            )
            await tester.event("message")
        error = await tester.final("r")
        assert (error["class"], error["messages"], error["local"]) == ("PARTIAL", 1, True)
        gone = await tester.event("disconnected")
        assert (gone["by"], gone["handshake"]) == ("peer", True)
        order = [
            line["event"] for line in tester.said if line["event"] in ("error", "disconnected")
        ]
        assert order[:2] == ["error", "disconnected"]


async def test_a_failure_brings_out_what_was_held_back() -> None:
    async with scripted() as (tester, worker):
        tester.op("request", ref="r", subject="a", paused=True)
        async with await worker.greeted() as peer:
            frame = await opened(peer)
            terminal = response(frame.request_id, 2, error_body(0x107), END_STREAM | ERROR)
            await peer.send(
                response(frame.request_id, 0, b"a") + response(frame.request_id, 1, b"b") + terminal
            )
            assert (await tester.final("r"))["messages"] == 2
            assert tester.bodies("r") == [b"a", b"b"]


async def test_a_kill_takes_back_what_was_held() -> None:
    async with scripted() as (tester, worker):
        for ref in ("open", "over"):
            tester.op("request", ref=ref, subject="a", paused=True)
        async with await worker.greeted() as peer:
            first, second = await opened(peer), await opened(peer)
            await peer.send(
                response(first.request_id, 0, b"a")
                + response(second.request_id, 0, b"b", END_STREAM)
            )
            await pinged(peer)
            tester.op("kill", ref="open", reason=9)
            tester.op("kill", ref="over")
            error = await tester.final("over")
            assert (error["class"], error["code"], error["local"]) == ("FAILED", 256, True)
            (kill,) = await peer.frames((3, 5))
            assert (kill.request_id, kill.payload) == (first.request_id, b"\0\0\0\x09")
            await peer.send(
                response(first.request_id, 1, b"late")
                + response(first.request_id, 2, error_body(0x100), END_STREAM | ERROR)
            )
            assert (await tester.final("open"))["local"] is False
            assert tester.all("message") == []


async def pinged(peer: Peer) -> None:
    """Return when the client has read all that was sent."""
    await peer.send(codec.encode_ping(b"12345678"))
    await peer.frames((4, 2))


async def test_credit_is_given_back_only_by_who_consumes() -> None:
    async with scripted(settings={"INITIAL_STREAM_WINDOW": 65_536}) as (tester, worker):
        tester.op("request", ref="r", subject="a", paused=True)
        async with await worker.greeted() as peer:
            frame = await opened(peer)
            await peer.frames((3, 2))
            await peer.send(response(frame.request_id, 0, b"x" * 40_000, MORE))
            await silent(peer)
            tester.op("resume", ref="r")
            (update,) = await peer.frames((3, 3))
            assert update.request_id == frame.request_id
            tester.op("pause", ref="r")
            await peer.send(response(frame.request_id, 1, b"x" * 40_000, MORE))
            await silent(peer)
            tester.op("kill", ref="r")


async def silent(peer: Peer) -> None:
    """Check that the client says nothing but PONGs; behind the first one there may be more."""
    for _ in range(2):
        await peer.send(codec.encode_ping(b"12345678"))
        assert (await peer.frame()).type == 4


async def test_sent_follows_the_windows() -> None:
    async with scripted() as (tester, worker):
        parts = [b64(b"x" * 30_000)] * 4
        tester.op("request", ref="r", subject="a", messages_b64=parts)
        async with await worker.greeted() as peer:
            frame = await opened(peer)
            await pinged(peer)
            assert tester.all("sent")[-1]["messages"] == 2
            await peer.send(codec.encode_window_update(frame.request_id, 1 << 20))
            await tester.event("sent", messages=4)
            await peer.send(response(frame.request_id, 0, b"", END_STREAM))
            await tester.final("r")
            counts = [line["messages"] for line in tester.all("sent")]
            assert counts == sorted(set(counts))


async def test_a_goaway_is_told_and_the_connection_replaced() -> None:
    async with scripted() as (tester, worker):
        async with await worker.greeted() as peer:
            await tester.event("connected")
            await peer.send(codec.encode_goaway(0, 0, 1_500, b"bye"))
            assert await tester.event("goaway") == {
                "event": "goaway",
                "conn": 1,
                "code": 0,
                "last_ordinal": 0,
                "grace_ms": 1_500,
            }
            async with await worker.greeted():
                assert (await tester.event("connected", 2))["conn"] == 2
        gone = await tester.event("disconnected", conn=1)
        assert (gone["by"], gone["code"]) == ("peer", 0)


async def test_a_violation_is_the_clients_goaway() -> None:
    async with scripted() as (tester, worker), await worker.greeted() as peer:
        await tester.event("connected")
        await peer.send(b"\0" * 32)
        gone = await tester.event("disconnected")
        assert (gone["by"], gone["code"], gone["handshake"]) == ("local", 1, True)


async def test_several_connections_to_several_workers() -> None:
    with FakeWorker() as one, FakeWorker() as two:
        addrs = [one.address, two.address]
        async with driving(one.address, addrs=addrs, connections=2) as tester:
            peers = [await worker.greeted() for worker in (one, two) for _ in range(2)]
            await tester.event("connected", 4)
            found = sorted((line["conn"], line["addr"]) for line in tester.all("connected"))
            assert [conn for conn, _ in found] == [1, 2, 3, 4]
            assert sorted(addr for _, addr in found) == sorted(addrs * 2)
            for peer in peers:
                peer.close()


async def test_the_work_of_a_draining_worker_goes_elsewhere() -> None:
    with FakeWorker() as one, FakeWorker() as two:
        async with (
            driving(one.address, addrs=[one.address, two.address]) as tester,
            await one.greeted() as first,
            await two.greeted() as second,
        ):
            await tester.event("connected", 2)
            tester.op("request", ref="r", subject="a")
            tester.op("request", ref="s", subject="a")
            running = await opened(first)
            await opened(second)
            await first.send(codec.encode_goaway(0, 1, 60_000, b""))
            await tester.event("goaway")
            tester.op("request", ref="t", subject="a")
            await opened(second)
            await first.send(response(running.request_id, 0, b"", END_STREAM))
            await tester.final("r")
            assert len(tester.all("connected")) == 2
            first.close()
            async with await one.greeted():  # it is gone; is it back?
                await tester.event("connected", 3)
            for ref in "st":
                tester.op("kill", ref=ref)


async def test_who_alone_drains_is_replaced_after_all() -> None:
    with FakeWorker() as one, FakeWorker() as two:
        async with (
            driving(one.address, addrs=[one.address, two.address]) as tester,
            await one.greeted() as first,
            await two.greeted() as second,
        ):
            await tester.event("connected", 2)
            tester.op("request", ref="r", subject="a")
            await opened(first)
            await first.send(codec.encode_goaway(0, 1, 60_000, b""))
            await tester.event("goaway")
            second.close()  # and does not come back in this test
            async with await one.greeted():
                await tester.event("connected", 3)


async def test_nobody_answers() -> None:
    with FakeWorker() as worker:
        address = worker.address
    options = {"backoff_base_ms": 5, "backoff_cap_ms": 5, "wait_ms": 100}
    async with driving(address, **options) as tester:
        tester.op("request", ref="r", subject="a")
        gone = await tester.event("disconnected")
        assert (gone["handshake"], gone["by"], gone["code"]) == (False, "peer", None)
        assert (await tester.event("disconnected", 2))["conn"] == 2
        error = await tester.final("r")
        assert (error["class"], error["attempts"], error["code"]) == ("NOT_SENT", 0, None)
        assert tester.all("retry") == []


async def test_who_waits_too_long_for_a_place_was_not_sent() -> None:
    async with scripted(wait_ms=1_000) as (tester, worker), await worker.greeted() as peer:
        for n in range(100):
            tester.op("request", ref=f"r{n}", subject="a")
        for _ in range(100):
            await opened(peer)
        tester.op("request", ref="r100", subject="a")
        error = await tester.final("r100")
        assert (error["class"], error["code"], error["attempts"]) == ("NOT_SENT", None, 0)
        await pinged(peer)
        assert len(tester.all("error")) == 1


# -- what may not be sent --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"subject": "a b"}, 0x103),
        ({"subject": ""}, 0x103),
        ({"subject": "\ud800"}, 0x103),
        ({"subject": "a", "headers": [["K", "v"]]}, 0x103),
        ({"subject": "a", "headers": [["attempt", "1"]]}, 0x103),
    ],
)
async def test_a_request_that_is_not_allowed(members: dict[str, Any], code: int) -> None:
    async with scripted() as (tester, _):
        tester.raw(json.dumps({"op": "request", "ref": "r", **members}))
        error = await tester.final("r")
        assert (error["class"], error["code"], error["local"]) == ("NOT_SENT", code, True)
        assert (error["attempts"], error["messages"]) == (0, 0)


@pytest.mark.parametrize("large", [0, 1], ids=["first", "second"])
async def test_a_message_that_the_worker_does_not_take(large: int) -> None:
    messages = [b64("x"), b64("y")]
    messages[large] = b64(b"x" * 1_048_577)
    async with scripted() as (tester, worker):
        tester.op("request", ref="r", subject="a", messages_b64=messages)
        async with await worker.greeted() as peer:
            if large:
                (kill,) = await peer.frames((3, 5))
                assert kill.payload == b"\0\0\1\6"
                body = error_body(0x100)
                await peer.send(response(kill.request_id, 0, body, END_STREAM | ERROR))
            error = await tester.final("r")
            assert error["class"] == ("FAILED" if large else "NOT_SENT")
            assert (error["code"], error["local"]) == (0x106, True)


# -- order and manners -----------------------------------------------------------------------------


async def test_operations_out_of_place() -> None:
    tester = Inside(None)
    running = asyncio.create_task(tester.session.run())
    tester.op("request", ref="r", subject="a")
    tester.op("kill", ref="r")
    tester.op("connect")
    tester.raw('{"op": "connect", "transport": "smoke"}')
    tester.op("connect", addrs=["127.0.0.1:9"], connect_timeout_ms=0)
    tester.op("connect", addrs=["127.0.0.1:9"])
    tester.op("connect", addrs=["127.0.0.1:9"])
    tester.op("request", ref="r", subject="a b")
    tester.op("request", ref="r", subject="a b")
    tester.session.take(None)
    tester.op("close")
    tester.op("request", ref="s", subject="a")
    await running
    found = [
        (line["event"], line.get("op"), line.get("ref"))
        for line in tester.said
        if line["event"] not in ("ready", "disconnected")
    ]
    assert found == [
        ("invalid", "request", "r"),
        ("invalid", "kill", "r"),
        ("invalid", "connect", None),
        ("unsupported", "connect", None),
        ("invalid", "connect", None),
        ("invalid", "connect", None),
        ("error", None, "r"),
        ("invalid", "request", "r"),
        ("invalid", None, None),
        ("invalid", "request", "s"),
        ("closed", None, None),
    ]


async def test_close_lets_running_requests_finish_and_ends_waiting_ones() -> None:
    with FakeWorker() as worker, FakeWorker() as gone:
        dead = gone.address
    async with driving(dead, backoff_base_ms=1) as tester:
        tester.op("request", ref="waiting", subject="a")
        tester.op("close")
        error = await tester.final("waiting")
        assert (error["class"], error["code"], error["local"]) == ("NOT_SENT", 256, True)
        await tester.event("closed")
    async with scripted() as (tester, worker):
        tester.op("request", ref="r", subject="a")
        async with await worker.greeted() as peer:
            frame = await opened(peer)
            tester.op("close")
            (goaway,) = await peer.frames((3, 6))
            assert codec.decode_goaway(goaway.payload).code == 0
            await peer.send(response(frame.request_id, 0, b"late", END_STREAM))
            await tester.event("closed")
            assert [line["event"] for line in tester.of("r")] == ["message", "end"]
            assert (await tester.event("disconnected"))["by"] == "local"


async def test_close_ends_a_request_that_waits_for_its_next_attempt() -> None:
    async with scripted() as (tester, worker):
        tester.op("request", ref="r", subject="a")
        async with await worker.greeted() as peer:
            frame = await opened(peer)
            await peer.send(failed(frame.request_id, 0x104, NOT_PROCESSED, 60_000))
            await tester.event("retry")
            tester.op("close")
            error = await tester.final("r")
            assert (error["class"], error["attempts"]) == ("NOT_PROCESSED", 1)
            await tester.event("closed")


async def test_close_waits_for_a_paused_success() -> None:
    async with scripted() as (tester, worker):
        tester.op("request", ref="r", subject="a", paused=True)
        async with await worker.greeted() as peer:
            frame = await opened(peer)
            await peer.send(response(frame.request_id, 0, b"x", END_STREAM))
            await pinged(peer)
            tester.op("close")
            await tester.event("disconnected")
            assert not tester.of("r")
            tester.op("resume", ref="r")
            await tester.event("closed")


async def test_the_end_of_the_input_ends_everything_soon() -> None:
    async with scripted() as (tester, worker):
        for ref, paused in (("running", False), ("held", True)):
            tester.op("request", ref=ref, subject="a", paused=paused)
        async with await worker.greeted() as peer:
            await opened(peer)
            held = await opened(peer)
            await peer.send(response(held.request_id, 0, b"x", END_STREAM))
            await pinged(peer)
            tester.session.end()
            begun = time.monotonic()
            await tester.event("closed")
            assert time.monotonic() - begun < 2
            assert [line["event"] for line in tester.of("held")] == ["message", "end"]
            assert (await tester.final("running"))["class"] == "AMBIGUOUS"


# -- the program -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["host:port", "host port", "connect"])
async def test_the_program_closes_in_order(served: Served, form: str) -> None:
    address = {"host:port": [served.address], "host port": served.address.split(":")}.get(form, [])
    async with program(*address) as tester:
        tester.op("connect", **({"addrs": [served.address]} if form == "connect" else {}))
        tester.op("request", ref="r", subject="conformance.echo", body_b64=b64(b"x" * 5_000_000))
        assert (await tester.final("r"))["messages"] == 1
        tester.op("close")
        await tester.event("closed")
        await until(lambda: tester.process.returncode == 0)


async def test_the_program_ends_with_its_input() -> None:
    with FakeWorker() as worker:
        async with program(worker.address) as tester:
            tester.op("connect")
            tester.op("request", ref="r", subject="a")
            async with await worker.greeted() as peer:
                await opened(peer)
                begun = time.monotonic()
                tester.close_input()
                await until(lambda: tester.process.returncode is not None)
                assert time.monotonic() - begun < 2
        assert (await tester.final("r"))["class"] == "AMBIGUOUS"


async def test_a_session_without_a_connection() -> None:
    async with program() as tester:
        assert (await tester.event("ready"))["transports"] == ["tcp", "callhome", "http"]
        tester.op("sync", id=[1, None])
        await tester.event("synced", id=[1, None])


async def test_nobody_reads_what_the_program_says() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "muxwire", "driver"),
            stdin=asyncio.subprocess.PIPE,
            stdout=writing,
            stderr=asyncio.subprocess.PIPE,
        )
    finally:
        os.close(writing)
    assert process.stderr is not None
    assert await process.stderr.read() == b""
    assert await process.wait() == 1


@pytest.mark.parametrize("arguments", [["a"], ["a", "b"], ["a", "1", "2"], ["::1:1"]])
def test_wrong_addresses_are_wrong_usage(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["driver", *arguments])
    assert result.exit_code == 2
    assert "Error: " in result.output


def test_an_ipv6_host_may_come_without_brackets() -> None:
    result = CliRunner().invoke(main, ["driver", "::1", "x"])
    assert "'[::1]:x': 'x' is not a port" in result.output
