"""`muxwire driver` and `muxwire call` on the HTTP path (section 19.4)."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from driver_harness import Inside, b64, driving
from http_harness import Exchange, playing
from io_harness import LIMIT, Served
from muxwire._generated.registries import ErrorCode

VERSIONS = pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
FORMATS = pytest.mark.parametrize("format_", ["sse", "ndjson", "binary"])


@pytest.fixture(scope="module")
def http() -> Iterator[str]:
    """The HTTP address of a `muxwire serve` process, as host:port."""
    with Served("--conformance", "--http", "127.0.0.1:0") as process:
        yield process.said["http"]


@asynccontextmanager
async def scripted(script: Any, **connect: Any) -> AsyncIterator[Inside]:
    """Command a router of a worker that the test plays."""
    version = 1 + connect.get("http2", False)
    async with (
        playing(version, script) as worker,
        driving(worker.address, transport="http", **connect) as tester,
    ):
        yield tester


@VERSIONS
@FORMATS
async def test_a_message_goes_there_and_back(http: str, format_: str, http2: bool) -> None:
    async with driving(http, transport="http", format=format_, http2=http2) as tester:
        tester.op("request", ref="r", subject="conformance.echo", body_b64=b64("hi"))
        assert await tester.final("r") == {
            "event": "end",
            "ref": "r",
            "messages": 1,
            "attempts": 1,
            "trailers": [],
        }
        assert tester.bodies("r") == [b"hi"]
    assert tester.said[0]["transports"] == ["tcp", "callhome", "http"]
    kinds = {line["event"] for line in tester.said}
    assert not kinds & {"listening", "connected", "disconnected", "sent"}


@VERSIONS
@FORMATS
async def test_headers_and_trailers(http: str, format_: str, http2: bool) -> None:
    async with driving(http, transport="http", format=format_, http2=http2) as tester:
        tester.op("request", ref="r", subject="conformance.headers", headers=[["k", "v"]])
        end = await tester.final("r")
        assert ["k", "v"] in json.loads(tester.bodies("r")[0])["headers"]
        told = [line["headers"] for line in tester.all("headers", ref="r")]
        assert told == ([[["content-type", "application/json"]]] if format_ == "binary" else [])
        assert [key for key, _ in end["trailers"]] == ["usage"]


@VERSIONS
async def test_a_request_has_one_message_and_no_stop(http: str, http2: bool) -> None:
    async with driving(http, transport="http", http2=http2) as tester:
        tester.op("request", ref="r", subject="conformance.echo", messages_b64=["", ""])
        tester.op("request", ref="s", subject="conformance.sleep", body_b64=b64('{"ms": 60000}'))
        tester.op("stop", ref="s")
        tester.op("kill", ref="s")
        assert (await tester.final("s"))["code"] == ErrorCode.CANCELLED
        tester.op("stop", ref="s")  # it has finished
        assert tester.of("r") == [
            {"event": "unsupported", "op": "request", "ref": "r", "feature": "bidi"}
        ]
        assert tester.all("unsupported", ref="s") == [
            {"event": "unsupported", "op": "stop", "ref": "s"}
        ]


@VERSIONS
async def test_a_refusal_and_a_retry(http2: bool) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head(503, [("wmx-not-processed", "1")])
        await exchange.data(b'{"num": 261}')
        await exchange.end()

    async with scripted(script, http2=http2) as tester:
        tester.op("request", ref="r", subject="a")
        error = await tester.final("r")
        assert error | {"message": ""} == {
            "event": "error",
            "ref": "r",
            "class": "NOT_PROCESSED",
            "code": ErrorCode.DRAINING,
            "local": False,
            "messages": 0,
            "attempts": 3,
            "message": "",
        }
        assert [line["attempt"] for line in tester.all("retry", ref="r")] == [2, 3]


@VERSIONS
async def test_silence(http2: bool) -> None:  # P1-021
    async def script(exchange: Exchange) -> None:
        await exchange.gone()

    async with scripted(script, http2=http2, heartbeat_ms=100, min_silence_ms=100) as tester:
        tester.op("request", ref="r", subject="a")
        error = await tester.final("r")
        assert (error["class"], error["code"]) == ("AMBIGUOUS", None)


@pytest.mark.parametrize("heartbeat_ms", [99, 60_001])
async def test_a_heartbeat_that_is_not_allowed(heartbeat_ms: int) -> None:
    async with driving() as tester:
        tester.op("connect", transport="http", addrs=["127.0.0.1:1"], heartbeat_ms=heartbeat_ms)
        assert (await tester.event("invalid"))["op"] == "connect"


# -- muxwire call ----------------------------------------------------------------------------------


def call(*arguments: str) -> tuple[str, str, int]:
    command = [sys.executable, "-W", "error", "-m", "muxwire", "call", *arguments, "--via", "http"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    return done.stdout, done.stderr, done.returncode


@pytest.mark.parametrize(
    "how", [[], ["--format", "ndjson"], ["--http2"], ["--http2", "--format", "binary"]]
)
def test_call_prints_the_items(http: str, how: list[str]) -> None:
    target = f"http://{http}"
    assert call("conformance.echo", "hi", "--target", target, *how) == ("hi\n", "", 0)
    out, err, code = call(
        "conformance.generate", '{"count": 2}', "--json", "--target", target, *how
    )
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert (events, err, code) == (["message", "message", "end"], "", 0)


def test_call_says_in_one_line_what_is_wrong(http: str) -> None:
    target = f"http://{http}"
    out, err, code = call("nobody", "--target", target)
    assert (out, code) == ("", 1)
    assert err == "muxwire call: NOT_FOUND (NOT_PROCESSED): PAY-004\n"
    out, err, code = call("conformance.fail", '{"after": 1}', "--target", target)
    assert (out.count("\n"), err.count("\n"), code) == (1, 1, 1)
    assert "APPLICATION_ERROR (FAILED, 1 messages received)" in err
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    out, err, code = call("conformance.echo", "--target", gone)
    assert (out, err.count("\n"), code) == ("", 1, 3)
    assert err.startswith("muxwire call: no answer (NOT_SENT): http://127.0.0.1:")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--target", "127.0.0.1:1"],
        ["--target", "http://127.0.0.1:1", "--tls"],
        ["--target", "http://127.0.0.1:1", "--format", "xml"],
        ["--target", "http://127.0.0.1:1", "--header", "accept=x"],
    ],
)
def test_call_refuses_what_is_not_allowed(arguments: list[str]) -> None:
    out, err, code = call("conformance.echo", *arguments)
    assert (out, code) == ("", 2)
    assert err.splitlines()[-1].startswith("Error: ")
