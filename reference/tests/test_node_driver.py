"""The example drivers of the documentation: the one in Node, and the skeleton in Python."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from driver_harness import Program, b64, program
from io_harness import HELLO, Listener, Served, opening, response, until
from muxwire._generated import codec
from muxwire._generated.registries import END_STREAM, MORE

ROOT = Path(__file__).parents[2]
DRIVER = ROOT / "docs/examples/driver-node/driver.mjs"


@pytest.fixture(scope="module")
def node() -> tuple[str, ...]:
    """Return how the driver in Node is started."""
    found = shutil.which("node")
    if found is None:
        message = "node is missing; the example driver in Node was not tried"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)
    assert int(version.stdout[1:].split(".")[0]) >= 20
    return found, str(DRIVER)


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Return how the driver of the guide is started."""
    text = (ROOT / "docs/wire-your-client.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    file = tmp_path_factory.mktemp("skeleton") / "driver.py"
    file.write_text(source, encoding="utf-8")
    return sys.executable, "-W", "error", str(file)


@pytest.fixture(scope="module")
def served() -> object:
    with Served("--conformance") as worker:
        yield worker


async def test_the_skeleton_in_python(skeleton: tuple[str, ...], served: Served) -> None:
    async with program(*served.address.split(":"), command=skeleton) as tester:
        tester.op("connect")
        await tester.event("connected")
        await serves(tester)
        tester.op("pause", ref="echo")
        await tester.event("unsupported", op="pause")
        tester.op("close")
        await tester.event("closed")


async def serves(tester: Program) -> None:
    """Try what every driver has."""
    tester.op("request", ref="echo", subject="conformance.echo", body_b64=b64("hi"))
    assert (await tester.final("echo"))["event"] == "end"
    assert tester.bodies("echo") == [b"hi"]
    tester.op("request", ref="none", subject="no.such")
    error = await tester.final("none")
    assert (error["class"], error["code"], error["local"]) == ("NOT_PROCESSED", 258, False)
    endless = b64('{"count": 1000000000, "interval_ms": 1}')
    for ref in ("stop", "kill"):
        tester.op("request", ref=ref, subject="conformance.generate", body_b64=endless)
        await tester.event("message", ref=ref)
        tester.op(ref, ref=ref)
    assert (await tester.final("stop"))["event"] == "end"
    error = await tester.final("kill")
    assert (error["class"], error["code"]) == ("FAILED", 256)
    tester.op("sync", id={"x": 1})
    await tester.event("synced", id={"x": 1})


async def test_node_does_what_every_driver_does(node: tuple[str, ...], served: Served) -> None:
    async with program(*served.address.split(":"), command=node) as tester:
        tester.op("connect")
        await serves(tester)
        tester.op("close")
        await tester.event("closed")
        assert tester.said[-2]["by"] == "local"


async def test_node_streams_both_ways(node: tuple[str, ...], served: Served) -> None:
    async with program(command=node) as tester:
        tester.op("connect", addrs=[served.address], settings={"INITIAL_STREAM_WINDOW": 65_536})
        tester.op("request", ref="r", subject="conformance.echo", hold_open=True)
        bodies = [b"", b"a", b"b" * 3_000_000, bytes(range(256)) * 40]
        for body in bodies:
            tester.op("send", ref="r", body_b64=b64(body))
        tester.op("send", ref="r", end=True)
        assert (await tester.final("r"))["messages"] == 4
        assert tester.bodies("r") == bodies
        await tester.event("sent", messages=4)


async def test_node_tells_headers_and_trailers(node: tuple[str, ...], served: Served) -> None:
    async with program(*served.address.split(":"), command=node) as tester:
        tester.op("connect")
        tester.op("request", ref="r", subject="conformance.headers", headers=[["k", "\u00e4"]])
        end = await tester.final("r")
        assert [key for key, _ in end["trailers"]] == ["usage"]
        assert '"k", "\\u00e4"' in tester.bodies("r")[0].decode()
        assert tester.of("r")[0]["headers"] == [["content-type", "application/json"]]


async def test_node_holds_back_while_paused(node: tuple[str, ...], served: Served) -> None:
    async with program(*served.address.split(":"), command=node) as tester:
        tester.op("connect", settings={"INITIAL_STREAM_WINDOW": 65_536})
        source = b64('{"bytes": 1000000}')
        tester.op("request", ref="r", subject="conformance.source", body_b64=source, paused=True)
        tester.op("request", ref="s", subject="conformance.source", body_b64=source)
        await tester.final("s")
        tester.op("sync", id=1)
        await tester.event("synced")
        assert not tester.bodies("r")
        tester.op("resume", ref="r")
        await tester.final("r")
        assert tester.bodies("r") == tester.bodies("s")


async def test_node_is_honest_about_a_lost_connection(node: tuple[str, ...]) -> None:
    with Listener() as listener:
        async with program(*listener.address.split(":"), command=node) as tester:
            tester.op("connect", backoff_base_ms=1, backoff_cap_ms=1, wait_ms=500)
            async with await listener.accept() as peer:
                await peer.greet(b"")
                for ref in ("begun", "silent"):
                    tester.op("request", ref=ref, subject="a")
                frames = await peer.frames((1, 0)) + await peer.frames((1, 0))
                begun = frames[0].request_id
                await peer.send(response(begun, 0, b"one") + response(begun, 1, b"tw", MORE))
                await tester.event("message")
            partial, silent = await tester.final("begun"), await tester.final("silent")
            assert (partial["class"], partial["messages"]) == ("PARTIAL", 1)
            assert silent["class"] == "AMBIGUOUS"
            async with await listener.accept() as peer:
                await peer.greet(b"")
                tester.op("request", ref="again", subject="a")
                (frame,) = await peer.frames((1, 0))
                await peer.send(response(frame.request_id, 0, b"", END_STREAM))
                assert (await tester.final("again"))["event"] == "end"
                assert [line["conn"] for line in tester.all("connected")] == [1, 2]


async def test_node_moves_on_when_the_worker_drains(node: tuple[str, ...]) -> None:
    with Listener() as listener:
        async with program(*listener.address.split(":"), command=node) as tester:
            tester.op("connect")
            async with await listener.accept() as peer:
                await peer.greet(b"")
                tester.op("request", ref="r", subject="a")
                (frame,) = await peer.frames((1, 0))
                await peer.send(codec.encode_goaway(0, 1, 60_000, b""))
                async with await listener.accept() as other:
                    await other.greet(b"")
                    await tester.event("connected", 2)
                    await peer.send(response(frame.request_id, 0, b"late", END_STREAM))
                    assert (await tester.final("r"))["event"] == "end"
                    tester.op("request", ref="s", subject="a")
                    (second,) = await other.frames((1, 0))
                    assert second.request_id != frame.request_id
                    await other.send(response(second.request_id, 0, b"", END_STREAM))
                    await tester.final("s")


async def test_node_answers_a_violation_with_goaway(node: tuple[str, ...]) -> None:
    with Listener() as listener:
        async with program(*listener.address.split(":"), command=node) as tester:
            tester.op("connect")
            async with await listener.accept() as peer:
                await peer.send(HELLO + opening(bytes(15) + b"\1", "a"))
                await peer.read(16)
                (goaway,) = await peer.frames((3, 6))
                assert codec.decode_goaway(goaway.payload).code == 1
                assert (await tester.event("disconnected"))["by"] == "local"


async def test_node_refuses_what_is_out_of_place(node: tuple[str, ...]) -> None:
    async with program("127.0.0.1", "9", command=node) as tester:
        tester.op("request", ref="r", subject="a")
        tester.raw("{")
        tester.raw('{"op": "toString"}')
        tester.op("connect", connections=2)
        tester.op("connect", backoff_base_ms=10_000)
        tester.op("request", ref="r", subject="a b")
        tester.op("kill", ref="x")
        tester.op("close")
        await until(lambda: tester.all("closed"))
        kinds = [line["event"] for line in tester.said if line["event"] != "disconnected"]
        assert kinds == [
            *("ready", "invalid", "invalid", "invalid", "unsupported", "error", "invalid"),
            "closed",
        ]
