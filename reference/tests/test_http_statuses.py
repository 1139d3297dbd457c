"""The HTTP path before a stream: every row of the table of answers, under two servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import muxwire
import pytest
from http_serving import ROOT, Http2, Served, by_uvicorn, served
from io_harness import until
from muxwire.callhome import CallHomePath
from muxwire.core.settings import Settings
from muxwire.errors import InvalidArgument
from muxwire.handlers import Request
from muxwire.http import HttpPath
from muxwire.http.path import default_port
from starlette.applications import Starlette
from starlette.routing import Mount

SERVERS = pytest.mark.parametrize("server", ["granian", "uvicorn"])
SMALL = muxwire.Config(
    settings=Settings.recommended(max_message_size=1_048_576, max_concurrent_requests=100)
)
JSON = "application/json"


def rows() -> dict[str, tuple[int, str, str, dict[str, Any]]]:
    """Return requests by what is wrong with them: status, code, part of the message."""
    echo = "conformance.echo"

    def wrong(status: int, code: str, message: str, subject: str = echo, **options: Any) -> Any:
        return status, code, message, {"subject": subject, **options}

    def field(name: str, value: str) -> dict[str, Any]:
        return {"headers": {name: value}}

    bad = (400, "INVALID_ARGUMENT")
    return {
        "no subject": wrong(404, "NOT_FOUND", "no such path", path=ROOT),
        "empty subject": wrong(404, "NOT_FOUND", "no such path", ""),
        "two segments": wrong(404, "NOT_FOUND", "no such path", "a/b"),
        "other root": wrong(404, "NOT_FOUND", "no such path", path="/v1/rpc/x"),
        "line break in the path": wrong(*bad, "PAY-004", "a%0Ab"),
        "GET": wrong(405, "INVALID_ARGUMENT", "POST", method="GET"),
        "PUT": wrong(405, "INVALID_ARGUMENT", "POST", method="PUT"),
        "timeout": wrong(*bad, "wmx-timeout-ms", **field("wmx-timeout-ms", "1.5")),
        "timeout too large": wrong(*bad, "4294967295", **field("wmx-timeout-ms", "4294967296")),
        "timeout twice": wrong(
            *bad, "twice", headers=[("wmx-timeout-ms", "1"), ("Wmx-Timeout-Ms", "1")]
        ),
        "heartbeat too small": wrong(*bad, "wmx-heartbeat-ms", **field("wmx-heartbeat-ms", "99")),
        "heartbeat too large": wrong(*bad, "60000", **field("wmx-heartbeat-ms", "60001")),
        "header name": wrong(*bad, "PAY-005", **field("a!b", "1")),
        "header twice": wrong(*bad, "PAY-005", headers=[("accept", "*/*"), ("accept", "*/*")]),
        "subject": wrong(*bad, "PAY-004", "a%00b"),
        "subject not UTF-8": wrong(*bad, "PAY-004", "a%FFb"),
        "resumed": wrong(*bad, "P1-019", **field("last-event-id", "3")),
        "not acceptable": wrong(
            406,
            "INVALID_ARGUMENT",
            "text/event-stream, application/x-ndjson, application/vnd.wmx-stream",
            **field("accept", "text/html"),
        ),
        "media type": wrong(415, "INVALID_ARGUMENT", "octets", **field("content-type", "text/x")),
        "encoded": wrong(415, "INVALID_ARGUMENT", "encoded", **field("content-encoding", "gzip")),
        "unknown": wrong(404, "NOT_FOUND", "PAY-004", "nobody"),
        "too large": wrong(413, "MESSAGE_TOO_LARGE", "MSG-003", length=1_048_577),
        "not JSON": wrong(*bad, "JSON", body=b"{", **field("content-type", JSON)),
        "no JSON": wrong(*bad, "JSON", **field("content-type", f"{JSON}; charset=utf-8")),
        "fields": wrong(
            431, "INVALID_ARGUMENT", "P1-018", headers=[(f"a{i}", "x" * 4_000) for i in range(5)]
        ),
        # Of several that apply the first of the table is given.
        "path before method": wrong(404, "NOT_FOUND", "no such path", path="/", method="GET"),
        "method before field": wrong(
            405, "INVALID_ARGUMENT", "POST", method="GET", **field("wmx-timeout-ms", "x")
        ),
        "field before resumed": wrong(
            *bad, "wmx-timeout-ms", headers={"wmx-timeout-ms": "x", "last-event-id": "1"}
        ),
        "resumed before accept": wrong(
            *bad, "P1-019", headers={"last-event-id": "", "accept": "text/html"}
        ),
        "accept before type": wrong(
            406, "INVALID_ARGUMENT", "formats", headers={"accept": "a/b", "content-type": "a/b"}
        ),
        "type before subject": wrong(
            415, "INVALID_ARGUMENT", "octets", "nobody", **field("content-type", "a/b")
        ),
        "subject before size": wrong(404, "NOT_FOUND", "PAY-004", "nobody", length=1_048_577),
    }


ROWS = rows()


@SERVERS
@pytest.mark.parametrize("name", ROWS)
async def test_a_request_that_is_not_admitted(name: str, server: str) -> None:  # P1-015, P1-018
    status, code, message, options = ROWS[name]
    async with served(server=server, config=SMALL) as on, await on.peer() as peer:
        await peer.send(**options)
        got, error, answer = await peer.refused()
        assert (got, error["code"]) == (status, code)
        assert message in error["message"]
        assert error["num"] == muxwire.ErrorCode[code]
        assert error["not_processed"] is True
        assert answer["wmx-not-processed"] == "1"
        assert answer["allow"] == ("POST" if status == 405 else None)
        assert on.worker.statistics.opened == 0
        assert on.idle


FINE = {
    "parameters of a type": {"headers": {"content-type": "Application/JSON ; charset=utf-8"}},
    "identity": {"headers": {"content-encoding": "Identity"}},
    "least heartbeat": {"headers": {"wmx-heartbeat-ms": "100", "wmx-timeout-ms": "4294967295"}},
    "an odd attempt": {"headers": {"attempt": "x", "request-id": "y"}},
    "many fields": {"headers": [(f"a{i}", "x" * 3_000) for i in range(5)]},
    "cookies in crumbs": {"headers": [("cookie", "a=1"), ("cookie", "b=2")]},
}


@SERVERS
@pytest.mark.parametrize("name", FINE)
async def test_its_twin_is_admitted(name: str, server: str) -> None:
    async with served(server=server, config=SMALL) as on, await on.peer() as peer:
        await peer.call("conformance.echo", b'{"a":1}', **FINE[name])
        assert on.worker.statistics.opened == 1
        await until(lambda: on.idle)


@SERVERS
async def test_a_body_without_a_size_is_cut_at_the_limit(server: str) -> None:  # P1-018
    async with served(server=server, config=SMALL) as on, await on.peer() as peer:
        lines = f"POST {ROOT}/conformance.echo HTTP/1.1", "host: h", "transfer-encoding: chunked"
        peer.writer.write("\r\n".join((*lines, "", "")).encode())
        for _ in range(17):
            peer.writer.write(b"10000\r\n" + bytes(65_536) + b"\r\n")
        status, error, _ = await peer.refused()
        assert (status, error["code"]) == (413, "MESSAGE_TOO_LARGE")
        assert on.idle


@SERVERS
async def test_a_client_that_goes_in_the_middle_of_its_body_leaves_nothing(server: str) -> None:
    async with served(server=server) as on:
        async with await on.peer() as peer:
            await peer.send("conformance.echo", b"half", length=100)
            await until(lambda: on.worker.posted)
        await until(lambda: on.idle)
        assert on.worker.statistics.opened == 0


@SERVERS
async def test_a_body_that_stops_keeps_no_place(server: str) -> None:
    async with served(server=server, write_stall=0.1) as on, await on.peer() as peer:
        await peer.send("conformance.echo", b"half", length=100)
        status, error, answer = await peer.refused()
        assert (status, answer["wmx-not-processed"]) == (400, "1")
        assert error["message"] == "no octet of the body came for 0.1 s"
        assert on.idle


@SERVERS
async def test_places_are_limited_and_come_back(server: str) -> None:  # ADM-002
    gate = asyncio.Event()

    async def wait(_: Request) -> bytes:
        await gate.wait()
        return b"x"

    async with served({"wait": wait}, server, config=SMALL) as on:
        peers = [await on.peer() for _ in range(101)]
        for peer in peers[:100]:
            await peer.send("wait")
            assert (await peer.answer()).status == 200
        await peers[100].send("wait")
        status, error, answer = await peers[100].refused()
        assert (status, error["code"], error["retry_after_ms"]) == (503, "OVERLOADED", 250)
        assert answer["retry-after"] == "1"
        assert on.worker.statistics.opened == 100
        gate.set()
        for peer in peers[:100]:
            assert (await peer.rest())[1] == "clean"
        await until(lambda: on.idle)
        await peers[100].call("wait")
        for peer in peers:
            await peer.close()


async def test_the_paths_over_http_share_their_places() -> None:
    async with served(config=SMALL) as on, await on.peer() as peer:
        other = CallHomePath(on.worker)
        taken = [other.enter(bytes((0, n)) * 8) for n in range(100)]
        assert taken == [None] * 100
        await peer.send("conformance.echo")
        assert (await peer.refused())[0] == 503
        other.leave(bytes(16))
        await peer.call("conformance.echo")
        await until(lambda: on.worker.posted == 99)


@SERVERS
async def test_a_fault_of_the_worker_is_no_promise(
    server: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(server=server) as on, await on.peer() as peer:
        monkeypatch.setattr(on.path, "handler", lambda _: 1 / 0)
        await peer.send("conformance.echo")
        status, error, answer = await peer.refused()
        assert (status, error["code"]) == (500, "REQUEST_INTERNAL_ERROR")
        assert answer["wmx-not-processed"] is None
        assert error["not_processed"] is False
        assert "ZeroDivisionError" in caplog.text
        assert "Zero" not in error["message"]


async def test_fields_that_the_server_itself_refuses() -> None:  # P1-018
    async with served() as on:
        async with await on.peer() as peer:
            await peer.send("conformance.echo", headers={"a": "x" * 200_000})
            assert (await peer.answer()).status == 431
        async with Http2.to(on.port) as two:
            headers = {f"a{i}": "x" * 4_000 for i in range(5)}
            answer = await two.answer(await two.post("conformance.echo", headers=headers))
            assert answer.status == 431
        assert on.worker.statistics.opened == 0


async def test_a_websocket_is_not_opened() -> None:
    async with served(server="uvicorn") as on, await on.peer() as peer:
        headers = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "x"}
        await peer.send("conformance.echo", method="GET", headers=headers)
        assert (await peer.refused())[0] == 405
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/", "headers": []}
    await HttpPath(muxwire.Worker({})).app(scope, receive, send)
    assert said == [{"type": "websocket.close", "code": 1000, "reason": ""}]


@asynccontextmanager
async def mounted(at: str, root: str) -> AsyncIterator[Served]:
    worker = muxwire.Worker({}, conformance=True)
    path = HttpPath(worker, root=root)
    async with by_uvicorn(Starlette(routes=[Mount(at, app=path.app)])) as port:
        yield Served(path, worker, port)
        await worker.close()


@pytest.mark.parametrize(
    ("at", "root", "target"),
    [
        ("/api", "/v1/rpc/response", "/api/v1/rpc/response/conformance.echo"),
        ("/a b", "/r", "/a%20b/r/conformance.echo"),
        ("/v1/rpc/response", "/", "/v1/rpc/response/conformance%2Eecho?x=/y"),
        ("", "deep/er", "/deep/er/conformance.echo"),
    ],
)
async def test_it_can_be_mounted(at: str, root: str, target: str) -> None:
    async with mounted(at, root) as on, await on.peer() as peer:
        _, body = await peer.call("", b"hi", path=target)
        assert b"event: done" in body
        await peer.send("", path=target.replace("conformance", "x/conformance"))
        assert (await peer.refused())[0] == 404


@pytest.mark.parametrize("root", ["/a//b", "/a b", "/a?b", "/a#b", "/a%2Fb"])
def test_a_root_that_is_no_path(root: str) -> None:
    with pytest.raises(InvalidArgument, match="DYN_HTTP_RESPONSE_ROOT_PATH"):
        HttpPath(muxwire.Worker({}), root=root)


def test_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYN_HTTP_RESPONSE_ROOT_PATH", "/other/")
    monkeypatch.setenv("DYN_HTTP_RESPONSE_STREAM_FORMAT", "ndjson")
    path = HttpPath(muxwire.Worker({}))
    assert (path.root, path.default_format) == ("/other", "ndjson")
    monkeypatch.setenv("DYN_HTTP_RESPONSE_STREAM_FORMAT", "xml")
    with pytest.raises(InvalidArgument, match="'xml'"):
        HttpPath(muxwire.Worker({}))
    assert default_port({}) == 8082
    assert default_port({"DYN_HTTP_RESPONSE_PORT": "90"}) == 90
    with pytest.raises(InvalidArgument, match="DYN_HTTP_RESPONSE_PORT: '99999' is not a port"):
        default_port({"DYN_HTTP_RESPONSE_PORT": "99999"})
    with pytest.raises(InvalidArgument, match="write_stall"):
        HttpPath(muxwire.Worker({}), write_stall=0.0)


async def test_what_info_says() -> None:
    async with served(default_format="ndjson") as on, await on.peer() as peer:
        _, body = await peer.call("conformance.info", b"")
        line = json.loads(body.splitlines()[0])
        assert line["t"] == "bin"
        info = on.worker.information()
        assert info["transports"] == ["tcp", "http"]
        assert info["ports"]["http"] == on.port
