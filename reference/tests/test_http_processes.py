"""The HTTP path as a command: what it says, how it ends, and what it counts."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner
from http_serving import CUT, Http1, Http2, served
from io_harness import LIMIT, Served, lines, until
from muxwire.cli import main
from muxwire.metrics import Collector
from prometheus_client import CollectorRegistry, generate_latest


@pytest.fixture
def running() -> Served:
    return Served("--conformance", "--callhome", "127.0.0.1:0", "--http", "127.0.0.1:0")


def port(process: Served) -> int:
    return int(process.said["http"].rpartition(":")[2])


async def to(process: Served) -> Http1:
    return Http1(*await asyncio.open_connection("127.0.0.1", port(process)))


async def test_three_paths_in_one_process(running: Served) -> None:
    with running as process:
        async with await to(process) as peer, Http2.to(port(process)) as two:
            accept = {"accept": "application/vnd.wmx-stream"}
            _, body = await peer.call("conformance.info", headers=accept)
            stream = await two.post("conformance.info", headers=accept)
            await two.answer(stream)
            for octets in (body, (await two.rest(stream))[0]):
                # Behind the object come a frame and its id, which may be any octets.
                info, _ = json.JSONDecoder().raw_decode(octets[32:].decode("latin-1"))
                assert sorted(info["transports"]) == ["callhome", "http", "tcp"]
                assert info["ports"]["http"] == port(process)


def test_what_is_said_for_people() -> None:
    command = [sys.executable, "-m", "muxwire", "serve", "--tcp", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--conformance", "--http", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            tcp, http = lines(process, 2)
            assert tcp.startswith("listening on 127.0.0.1:")
            assert http.startswith("streaming on http://127.0.0.1:")
            assert http.endswith("/v1/rpc/response\n")
            process.terminate()
            assert process.communicate(timeout=LIMIT) == ("", None)
        finally:
            process.kill()


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_sigterm_lets_an_open_stream_end(running: Served, version: str) -> None:
    with running as process:
        body = b'{"count":20,"interval_ms":20}'
        if version == "2":
            async with Http2.to(port(process)) as two:
                stream = await two.post("conformance.generate", body)
                await two.answer(stream)
                begun = await two.until(stream, b"id: 1\n")
                process.process.terminate()
                octets, end = await two.rest(stream, begun)
        else:
            async with await to(process) as peer:
                await peer.send("conformance.generate", body)
                await peer.answer()
                begun = await peer.until(b"id: 1\n")
                process.process.terminate()
                octets, end = await peer.rest(begun)
        assert end == "clean"
        assert b'{"items":20,' in octets
        assert await asyncio.to_thread(process.wait) == ("", "", 0)


@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_a_worker_that_dies_leaves_no_clean_end(
    running: Served, accept: str
) -> None:  # P1-012
    with running as process:
        async with await to(process) as peer:
            body = b'{"count":1000,"interval_ms":20}'
            await peer.send("conformance.generate", body, headers={"accept": accept})
            await peer.answer()
            assert await peer.chunk()
            process.process.kill()
            assert (await peer.rest())[1] == CUT
            await asyncio.to_thread(process.wait)


def test_the_port_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        monkeypatch.setenv("DYN_HTTP_RESPONSE_PORT", str(number))
        for text in ("127.0.0.1", f"127.0.0.1:{number}"):
            result = CliRunner().invoke(main, ["serve", "--tcp", "127.0.0.1:0", "--http", text])
            assert result.exit_code == 1
            said = f"cannot listen on 127.0.0.1:{number}: Address already in use"
            assert said in result.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "variable", "said"),
    [
        (["--http", "::1:80"], ("PATH", "/bin"), "[::1:80]"),
        (["--http", "127.0.0.1"], ("DYN_HTTP_RESPONSE_PORT", "no"), "DYN_HTTP_RESPONSE_PORT"),
        (["--http", "h:1"], ("DYN_HTTP_RESPONSE_STREAM_FORMAT", "xml"), "sse, ndjson, binary"),
        (["--http", "h:1"], ("DYN_HTTP_RESPONSE_ROOT_PATH", "a b"), "DYN_HTTP_RESPONSE_ROOT_PATH"),
    ],
)
def test_wrong_usage_is_one_line(
    words: list[str], variable: tuple[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*variable)
    result = CliRunner().invoke(main, ["serve", *words])
    assert result.exit_code == 2
    assert said in result.output
    assert len(result.output.splitlines()) == 1


@pytest.mark.parametrize("missing", ["granian", "starlette", "sse_starlette"])
def test_without_the_extra(missing: str) -> None:
    program = (
        f"import sys\nsys.modules[{missing!r}] = None\nfrom muxwire.cli import main\n"
        "main(['serve', '--http', '127.0.0.1:0'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 2
    assert "--http needs" in done.stderr
    assert "muxwire[http]" in done.stderr
    assert len(done.stderr.splitlines()) == 1


async def test_what_is_counted() -> None:  # OBS-004
    async with served() as on, await on.peer() as peer:
        await peer.call("conformance.echo", b"x")
        await peer.call("conformance.fail", b"{}")
        await peer.send("nobody")
        await peer.refused()
        async with await on.peer() as leaving:
            await leaving.send("conformance.sleep", b'{"ms":60000}')
            await leaving.answer()
            await until(lambda: on.path.open_subjects() == [b"conformance.sleep"])
        await until(lambda: on.idle)
        registry = CollectorRegistry()
        registry.register(Collector(on.path))
        text = generate_latest(registry).decode()
    ended = {
        line.split("{")[1].split("}")[0]
        for line in text.splitlines()
        if line.startswith("muxwire_requests_total") and line.endswith(" 1.0")
    }
    assert len(ended) == 4
    assert all('path="http",role="worker"' in labels for labels in ended)
    for part in ("conformance.echo", "conformance.fail", "conformance.sleep", "NOT_FOUND"):
        assert sum(part in labels for labels in ended) == 1, ended
