"""The lines that tell of the end of a connection (OBS-005)."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
from datetime import datetime
from typing import Any

import muxwire
import pytest
from io_harness import (
    LIMIT,
    Peer,
    Served,
    connected,
    never,
    opening,
    until,
)
from muxwire import Request
from muxwire._generated import codec

SECRET = "se" + "cret"
ONE = bytes(15) + b"\1"


async def forever(request: Request) -> None:
    await request.read()
    await never()


async def fail(_: Request) -> None:
    raise muxwire.HandlerError(SECRET)


def fields(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record)["fields"] for record in caplog.records if hasattr(record, "fields")]


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "muxwire")
    return caplog


@pytest.mark.usefixtures("each_loop")
async def test_an_error_is_one_line_with_all_that_is_to_be_known(
    log: pytest.LogCaptureFixture,
) -> None:
    async with muxwire.Worker({"forever": forever}) as worker:
        async with await Peer.dial(worker.addresses[0]) as peer:
            await peer.greet(opening(ONE, "forever") + opening(ONE[:15] + b"\2", "forever"))
            await until(lambda: worker.running_handlers == 2)
            await peer.send(bytes(32))
            await peer.frames((3, 6))
            local = peer.name
        await until(lambda: not worker._connections)
    (entry,) = fields(log)
    assert entry == {
        "event": "connection ended",
        "peer": local,
        "code": 1,
        "by_peer": False,
        "requirement": "FRM-002",
        "last_ordinal": 2,
        "requests_lost": 2,
        "message": "FRM-002: the marker is 0x00",
    }
    assert log.messages == [
        f"connection ended: peer={local} code=0x1 by_peer=False requirement=FRM-002 "
        "last_ordinal=2 requests_lost=2 message='FRM-002: the marker is 0x00'"
    ]


@pytest.mark.usefixtures("each_loop")
async def test_a_goaway_of_the_peer_is_a_line_of_its_own(log: pytest.LogCaptureFixture) -> None:
    async with muxwire.Worker({}) as worker:
        async with await Peer.dial(worker.addresses[0]) as peer:
            await peer.greet(codec.encode_goaway(0x77, 0, 5, b"two\nlines"))
            await peer.rest()
        await until(lambda: not worker._connections)
    first, second = fields(log)
    assert (first["event"], first["code"], first["message"]) == (
        "GOAWAY received",
        0x77,
        "two\nlines",
    )
    assert (second["event"], second["code"], second["by_peer"]) == ("connection ended", 0x77, True)
    assert all("\n" not in line for line in log.messages)


@pytest.mark.usefixtures("each_loop")
async def test_a_drain_is_one_line_for_each_end_and_one_for_its_goaway(
    log: pytest.LogCaptureFixture,
) -> None:
    async with connected({"forever": forever}) as (client, worker):
        await worker.drain()
        await client.wait_closed()
    entries = [(entry["event"], entry["code"], entry["by_peer"]) for entry in fields(log)
               if entry["event"] == "connection ended"]  # fmt: skip
    assert sorted(entries) == [("connection ended", 0, False), ("connection ended", 0, True)]
    for event in ("GOAWAY sent", "GOAWAY received"):
        (entry,) = [entry for entry in fields(log) if entry["event"] == event]
        assert (entry["code"], entry["last_ordinal"], entry["grace_ms"]) == (0, 0, 30_000)


@pytest.mark.usefixtures("each_loop")
async def test_nothing_of_a_request_is_logged(log: pytest.LogCaptureFixture) -> None:
    value = SECRET.encode()
    pairs = [("authorization", SECRET)]
    async with connected({"forever": forever, "fail": fail}) as (client, worker):
        with pytest.raises(muxwire.ApplicationError):
            await client.call("fail", value, headers=pairs)
        stream = client.stream("forever", value, headers=pairs)
        await until(lambda: worker.running_handlers)
        block = codec.encode_open(0, 0, b"forever", [(b"a", value)])
        for octets in (
            block[:-1],  # PAY-002
            block.replace(b"\x00\x01a", b"\x00\x01\xff"),  # PAY-005
            block.replace(b"forever", b"for ver"),  # PAY-004
            value,
        ):
            async with await Peer.dial(worker.addresses[0]) as peer:
                frame = codec.request_header(5, 0, len(octets), ONE) + octets
                await peer.greet(frame + value * 40)
                await peer.frames((3, 6))
        client.abort()
        await client.wait_closed()
        await until(lambda: not worker._connections)
        assert [item async for item in _quiet(stream)] == []
    assert len(fields(log)) == 6
    assert SECRET not in log.text
    assert SECRET not in repr(fields(log))


async def _quiet(stream: muxwire.Stream) -> Any:
    try:
        async for item in stream:
            yield item
    except muxwire.RequestFailed:
        return


# -- muxwire serve ---------------------------------------------------------------------------------


def call(address: str, *arguments: str) -> int:
    command = [sys.executable, "-m", "muxwire", "call", "--target", address, *arguments]
    return subprocess.run(command, capture_output=True, timeout=LIMIT, check=False).returncode


def test_json_lines() -> None:
    with Served("--conformance", "--log-json", "--log-level", "info") as served:
        assert call(served.address, "conformance.echo", "hi") == 0
        assert call(served.address, "conformance.fail", '{"panic": true}') == 1
        out, err, code = served.stop()
    assert (out, code) == ("", 0)
    entries = [json.loads(line) for line in err.splitlines()]
    for entry in entries:
        assert datetime.fromisoformat(entry["time"]).tzinfo is not None
        assert entry["logger"].startswith("muxwire.")
    ends = [entry for entry in entries if entry.get("event") == "connection ended"]
    assert len(ends) == 2
    for entry in ends:
        assert re.fullmatch(r"127\.0\.0\.1:\d+", entry["peer"])
        assert (entry["level"], entry["code"], entry["requests_lost"]) == ("info", 0, 0)
        assert entry["last_ordinal"] == 1
    (error,) = [entry for entry in entries if entry["level"] == "error"]
    assert error["message"] == "the handler of conformance.fail failed"
    assert error["exception"].startswith("Traceback")


def test_lines_for_people() -> None:
    with Served("--conformance", "--log-level", "info") as served:
        assert call(served.address, "conformance.echo", "hi") == 0
        _, err, _ = served.stop()
    lines = err.splitlines()
    assert all(line.startswith("INFO muxwire.connection: ") for line in lines)
    assert any("connection ended: peer=127.0.0.1:" in line for line in lines)
