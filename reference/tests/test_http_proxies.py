"""nginx and HAProxy in front of a worker, with default settings and with those of the docs.

They listen on sockets in the file system, so that no port is guessed.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from http_serving import Http1, Served, served
from io_harness import LIMIT, never, until
from muxwire.handlers import Request

EXAMPLES = Path(__file__).parents[2] / "docs/examples/proxies"

NGINX_MAIN = """
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr crit;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {inner}
}}
"""
NGINX_DEFAULT = """
server {
    listen 8080;
    location / {
        proxy_pass http://127.0.0.1:8082;
        proxy_read_timeout 60s;
    }
}
"""
# What /etc/haproxy/haproxy.cfg has on Debian, without logs and error pages.
HAPROXY_DEFAULT = """
defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
frontend f
    bind :8080
    default_backend b
backend b
    server s 127.0.0.1:8082
"""

SETUPS = {
    "nginx default": ("nginx", NGINX_DEFAULT),
    "nginx recommended": ("nginx", (EXAMPLES / "nginx.conf").read_text()),
    "haproxy default": ("haproxy", HAPROXY_DEFAULT),
    "haproxy recommended": ("haproxy", (EXAMPLES / "haproxy.cfg").read_text()),
}
EVERYWHERE = pytest.mark.parametrize("setup", SETUPS)


def program(name: str) -> str:
    """Return where a program is; without it CI fails and others skip."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        text = f"{name} is not installed: the HTTP path behind it is NOT TESTED"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    return found


def replaced(text: str, old: str, new: str) -> str:
    assert old in text, old
    return text.replace(old, new)


@asynccontextmanager
async def behind(setup: str, on: Served, patience: str = "60s") -> AsyncIterator[Path]:
    """Run a proxy in front of a worker; give the socket that it listens on."""
    name, text = SETUPS[setup]
    path = program(name)
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # its name has to be short
    listening, file = folder / "socket", folder / "config"
    text = replaced(text, "127.0.0.1:8082", f"127.0.0.1:{on.port}")
    if name == "nginx":
        text = replaced(text, "listen 8080;", f"listen unix:{listening};")
        text = replaced(text, "proxy_read_timeout 60s;", f"proxy_read_timeout {patience};")
        file.write_text(NGINX_MAIN.format(folder=folder, inner=text))
        command = [path, "-p", str(folder), "-e", "stderr", "-c", str(file)]
    else:
        text = replaced(text, "bind :8080", f"bind unix@{listening}")
        text, changed = re.subn(r"timeout server \d+s", f"timeout server {patience}", text)
        assert changed == 1
        file.write_text(text)
        command = [path, "-db", "-f", str(file)]
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await until(lambda: listening.exists() or process.returncode is not None)
        assert process.returncode is None, f"{name} did not start"
        yield listening
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        shutil.rmtree(folder)


async def peer(listening: Path) -> Http1:
    """Connect to the proxy, as soon as it accepts."""
    async with asyncio.timeout(LIMIT / 2):
        while True:
            with suppress(ConnectionError):
                return Http1(*await asyncio.open_unix_connection(str(listening)))
            await asyncio.sleep(0.001)


@EVERYWHERE
@pytest.mark.parametrize("accept", ["text/event-stream", "application/x-ndjson"])
async def test_items_come_one_by_one(setup: str, accept: str) -> None:
    steps = asyncio.Semaphore(0)

    async def step(request: Request) -> AsyncIterator[bytes]:
        request.send_headers([("content-type", "application/json")])
        for number in range(5):
            await steps.acquire()
            yield b"[%d]" % number

    async with (
        served({"step": step}) as on,
        behind(setup, on) as at,
        await peer(at) as client,
    ):
        await client.send("step", b"x", headers={"accept": accept, "accept-encoding": "gzip"})
        assert (await client.answer()).status == 200
        body = b""
        for number in range(5):
            steps.release()
            body = await client.until(b"[%d]" % number, body)
        body, end = await client.rest(body)
        assert end == "clean"
        assert b"done" in body
        await until(lambda: on.idle)


@EVERYWHERE
async def test_a_client_that_leaves_cancels_its_handler(setup: str) -> None:
    ended = asyncio.Event()

    async def silent(_: Request) -> AsyncIterator[bytes]:
        try:
            yield b"one"
            await never()
        finally:
            ended.set()

    # HAProxy as it is notices when it writes; with the option of the docs it does at once.
    heartbeat = "100" if setup == "haproxy default" else "60000"
    async with served({"it": silent}) as on, behind(setup, on) as at:
        async with await peer(at) as client:
            await client.send("it", b"x", headers={"wmx-heartbeat-ms": heartbeat})
            await client.answer()
            await client.until(b"b25l")
        await ended.wait()
        await until(lambda: on.idle)


@EVERYWHERE
async def test_heartbeats_keep_a_silent_stream_open(setup: str) -> None:
    gate = asyncio.Event()

    async def wait(_: Request) -> bytes:
        await gate.wait()
        return b"late"

    async with served({"wait": wait}) as on, behind(setup, on, patience="1s") as at:
        async with await peer(at) as client:
            await client.send("wait", b"x", headers={"wmx-heartbeat-ms": "100"})
            await client.answer()
            body = await client.until(b": hb\n\n" * 15)  # half as long again as the proxy waits
            gate.set()
            assert (await client.rest(body))[1] == "clean"
        gate.clear()
        async with await peer(at) as client:
            await client.send("wait", b"x", headers={"wmx-heartbeat-ms": "60000"})
            await client.answer()
            body, _ = await client.rest()  # the proxy gives up
            assert b"done" not in body
        await until(lambda: on.idle)


@EVERYWHERE
async def test_refusals_pass_through(setup: str) -> None:
    async with served() as on, behind(setup, on) as at, await peer(at) as client:
        await client.send("nobody", b"x")
        status, error, answer = await client.refused()
        assert (status, error["code"], answer["wmx-not-processed"]) == (404, "NOT_FOUND", "1")
