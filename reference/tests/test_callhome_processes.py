"""Call-home as commands, and at the limit of file descriptors."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from io_harness import LIMIT, Served, first_line, lines
from muxwire.cli import main

FEW = 64


@pytest.fixture
def served() -> Iterator[Served]:
    with Served("--conformance", "--callhome", "127.0.0.1:0") as process:
        yield process


def call(served: Served, *words: str) -> subprocess.CompletedProcess[str]:
    target = "http://" + served.said["callhome"]
    command = [sys.executable, "-m", "muxwire", "call", *words, "--via", "callhome"]
    return subprocess.run(
        [*command, "--target", target], capture_output=True, text=True, timeout=LIMIT, check=False
    )


def test_a_call(served: Served) -> None:
    done = call(served, "conformance.echo", "hi")
    assert (done.stdout, done.stderr, done.returncode) == ("hi\n", "", 0)
    done = call(served, "nobody", "hi", "--json")
    assert json.loads(done.stdout)["outcome"] == "NOT_PROCESSED"
    assert done.returncode == 1
    done = call(served, "conformance.info", "{}")
    assert json.loads(done.stdout)["ports"]["callhome"] == int(served.said["callhome"][10:])


def test_what_is_said_for_people() -> None:
    command = [sys.executable, "-m", "muxwire", "serve", "--tcp", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--conformance", "--callhome", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            tcp, callhome = lines(process, 2)
            assert tcp.startswith("listening on 127.0.0.1:")
            assert callhome.startswith("call-home on http://127.0.0.1:")
            process.terminate()
            assert process.communicate(timeout=LIMIT) == ("", None)
        finally:
            process.kill()


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [sys.executable, "-m", "muxwire", "call", "a", "b", "--via", "callhome"]
    done = subprocess.run(
        [*command, "--target", f"http://127.0.0.1:{port}"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 3
    assert "NOT_SENT" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["call", "a", "--via", "callhome", "--target", "127.0.0.1:1"], "http://host:port"),
        (["call", "a", "--via", "callhome", "--target", "http://h:1", "--tls"], "TLS"),
        (["serve", "--callhome-allow", "127.0.0.1"], "--callhome"),
        (["serve", "--callhome", "127.0.0.1:0", "--callhome-allow", "name"], "'name'"),
    ],
)
def test_wrong_usage_is_one_line(words: list[str], said: str) -> None:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert said in result.output
    assert len(result.output.splitlines()) == 1


def test_a_variable_of_the_pool_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYN_TCP_POOL_MIN_IDLE", "many")
    result = CliRunner().invoke(main, ["serve", "--callhome", "127.0.0.1:0"])
    assert result.exit_code == 2
    assert "DYN_TCP_POOL_MIN_IDLE" in result.output


@pytest.mark.parametrize("command", ["serve", "call"])
def test_without_aiohttp(command: str) -> None:
    words = {
        "serve": ["serve", "--callhome", "127.0.0.1:0"],
        "call": ["call", "a", "--via", "callhome", "--target", "http://127.0.0.1:1"],
    }[command]
    program = (
        "import sys\nsys.modules['aiohttp'] = None\nfrom muxwire.cli import main\n"
        f"import muxwire.callhome.pool\nmain({words!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 2
    assert "muxwire[callhome]" in done.stderr
    assert "Traceback" not in done.stderr


ROUTER = """
import asyncio, json, sys
from muxwire.callhome import connect
from muxwire.errors import RequestFailed

async def main():
    target = sys.argv[1]
    outcomes = {}
    async with connect(target, recover=False) as client:
        async def call(index):
            try:
                await client.call("conformance.sleep", b'{"ms": 50}', timeout=8.0)
                outcome = "OK"
            except RequestFailed as error:
                outcome = error.outcome.name
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        await asyncio.gather(*(call(index) for index in range(100)))
        await asyncio.sleep(1.5)
        assert await client.call("conformance.echo", b"hi", timeout=8.0) == b"hi"
    print(json.dumps(outcomes))

asyncio.run(main())
"""


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, FEW))


@pytest.mark.parametrize("who", ["worker", "router"])
def test_the_limit_of_file_descriptors(who: str) -> None:
    """A hundred requests at once get an answer or a typed error, and the next one works."""
    command = [sys.executable, "-m", "muxwire", "serve", "--json", "--tcp", "127.0.0.1:0"]
    with subprocess.Popen(
        [*command, "--conformance", "--callhome", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limited if who == "worker" else None,  # noqa: PLW1509 - no threads here
        env={**os.environ, "DYN_TCP_POOL_MIN_IDLE": "0"},
    ) as worker:
        try:
            target = "http://" + json.loads(first_line(worker))["callhome"]
            router = subprocess.run(
                [sys.executable, "-c", ROUTER, target],
                capture_output=True,
                text=True,
                timeout=3 * LIMIT,
                check=False,
                preexec_fn=limited if who == "router" else None,
            )
            assert router.returncode == 0, router.stderr
            outcomes = json.loads(router.stdout)
            assert sum(outcomes.values()) == 100
            assert outcomes["OK"] > 0, outcomes
            worker.terminate()
            worker.communicate(timeout=LIMIT)
            assert worker.returncode == 0
        finally:
            worker.kill()
