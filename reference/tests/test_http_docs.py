"""The examples of docs/http.md run, with another port: curl, nghttp, and a page in a browser."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import muxwire
import pytest
from http_serving import by_uvicorn
from io_harness import LIMIT, Served, until
from muxwire.handlers import Request
from muxwire.http import HttpPath
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from starlette.applications import Starlette
from starlette.responses import FileResponse
from starlette.routing import Mount, Route

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/http.md").read_text()
ADDRESS = "127.0.0.1:8082"
EXAMPLES = re.findall(r"^```sh\n((?:curl|nghttp) .*)\n```\n\n```text\n((?:.*\n)*?)```$", TEXT, re.M)
(PROGRAM,) = re.findall(r"^```python\n((?:.*\n)*?)```$", TEXT, re.M)
PAGE = ROOT / "docs/examples/browser/index.html"


def program(name: str) -> str:
    """Return where a program is; without it CI fails and others skip."""
    found = shutil.which(name)
    if found is None:
        text = f"{name} is not installed: docs/http.md is NOT TESTED"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    return found


@pytest.fixture(scope="module")
def worker() -> Iterator[Served]:
    with Served("--conformance", "--http", "127.0.0.1:0") as process:
        yield process


def test_there_are_examples() -> None:
    assert [command.split()[0] for command, _ in EXAMPLES].count("curl") == 5
    assert [command.split()[0] for command, _ in EXAMPLES].count("nghttp") == 1


@pytest.mark.parametrize(("command", "output"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_prints_what_the_page_says(command: str, output: str, worker: Served) -> None:
    program(command.split()[0])
    assert ADDRESS in command
    ran = subprocess.run(
        command.replace(ADDRESS, worker.said["http"]),
        shell=True,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert ran.stderr == ""
    assert ran.stdout.rstrip("\n") == output.rstrip("\n")
    assert ran.returncode == 0


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = Options()
    options.binary_location = program("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"):
        options.add_argument(flag)
    for flag in ("--disable-background-networking", "--disable-component-update", "--disable-sync"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    made = webdriver.Chrome(options=options, service=Service(program("chromedriver")))
    made.get("about:blank")
    yield made
    made.quit()


class Shown:
    """What the page shows."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    async def open(self, port: int) -> None:
        await asyncio.to_thread(self._driver.get, f"http://127.0.0.1:{port}/")

    async def items(self) -> list[str]:
        found = await asyncio.to_thread(self._driver.find_elements, By.CSS_SELECTOR, "#items li")
        return [await asyncio.to_thread(lambda one=one: one.text) for one in found]

    async def state(self) -> str:
        found = await asyncio.to_thread(self._driver.find_element, By.ID, "state")
        return await asyncio.to_thread(lambda: found.text)

    async def until(self, items: list[str], state: str) -> None:
        async with asyncio.timeout(LIMIT / 2):
            while (await self.state(), await self.items()) != (state, items):
                pass


async def test_a_page_shows_the_items_of_a_stream(browser: webdriver.Chrome) -> None:
    steps = asyncio.Semaphore(0)
    ended: list[bool] = []

    async def count(request: Request) -> AsyncIterator[bytes]:
        request.send_headers([("content-type", "application/json")])
        try:
            for number in range(3):
                await steps.acquire()
                yield b'{"number": %d,\n "text": "\xe2\x82\xac: x"}' % number
            await steps.acquire()
            ended.append(True)
        except asyncio.CancelledError:
            ended.append(False)
            raise

    async def page(_: Any) -> FileResponse:
        return FileResponse(PAGE)

    worker = muxwire.Worker({"demo.count": count})
    path = HttpPath(worker)
    app = Starlette(routes=[Route("/", page), Mount("/", app=path.app)])
    shown = Shown(browser)
    seen = [f'{{"number":{number},"text":"€: x"}}' for number in range(3)]
    async with by_uvicorn(app) as port:
        await shown.open(port)
        for number in range(3):
            await shown.until(seen[:number], "running")
            steps.release()
        steps.release()
        await shown.until(seen, "done")
        await shown.open(port)
        steps.release()
        await shown.until(seen[:1], "running")
        await asyncio.to_thread(browser.execute_script, "stop.abort()")
        await until(lambda: len(ended) == 2)
        assert ended == [True, False]
        await asyncio.to_thread(browser.get, "about:blank")
        await worker.drain()


async def test_the_program_of_the_page_works(
    browser: webdriver.Chrome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    exec(compile(PROGRAM, "docs/http.md", "exec"), names)
    shown = Shown(browser)
    async with by_uvicorn(names["app"]) as port:
        await shown.open(port)
        await shown.until(['{"number":0}', '{"number":1}', '{"number":2}'], "done")
        await asyncio.to_thread(browser.get, "about:blank")
        await names["path"].drain(0.0)
