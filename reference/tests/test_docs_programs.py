"""The Python programs of README.md and the guides do what the text says, with another port."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import muxwire
import pytest
from io_harness import LIMIT, Served, first_line

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:9000"
GENERATED = [bytes(7) + bytes([i]) + bytes(range(i, i + 8)) for i in range(3)]


def programs(name: str) -> list[str]:
    """Return the Python blocks of a page that are whole programs."""
    text = (ROOT / name).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for block in blocks if "asyncio.run(" in block]


def run(program: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "program.py"
    file.write_text(program)
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(file)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md"])
def test_the_client_program_works(page: str, served: Served, tmp_path: Path) -> None:
    (program,) = [text for text in programs(page) if "muxwire.connect" in text]
    assert ADDRESS in program
    done = run(program.replace(ADDRESS, served.address), tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [repr(b"hi"), *map(repr, GENERATED)]
    assert done.returncode == 0


def test_the_worker_program_works(tmp_path: Path) -> None:
    (program,) = [text for text in programs("docs/getting-started.md") if "muxwire.serve" in text]
    assert '"127.0.0.1", 9000)' in program
    # The program does not tell its port, so it is watched as it listens.
    watch = """
import muxwire
from muxwire.tcp.worker import Worker

async def start(self, *address, start=Worker.start, **options):
    await start(self, *address, **options)
    print(self.addresses[0], flush=True)

Worker.start = start
"""
    file = tmp_path / "program.py"
    file.write_text(watch + program.replace('"127.0.0.1", 9000)', '"127.0.0.1", 0)'))
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            address = first_line(process).strip()
            assert asyncio.run(ask(address)) == (b"HI", [b"0", b"1", b"2"])
            process.terminate()
            assert process.communicate(timeout=LIMIT) == ("", "")
            assert process.returncode == 0
        finally:
            process.kill()


async def ask(address: str) -> tuple[bytes, list[bytes]]:
    async with muxwire.connect(address) as client:
        shouted = await client.call("shout", b"hi")
        return shouted, [item async for item in client.stream("count", b"3")]


@pytest.mark.parametrize("page", ["README.md", "docs/getting-started.md"])
def test_the_commands_work(page: str, served: Served) -> None:
    text = (ROOT / page).read_text()
    (command,) = re.findall(r"^muxwire call .*$", text, re.MULTILINE)
    arguments = command.replace(ADDRESS, served.address).split()
    done = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, timeout=LIMIT, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"hi\n", b"", 0)


def test_the_serve_command_of_the_readme_works() -> None:
    (command,) = re.findall(r"^muxwire serve .*$", (ROOT / "README.md").read_text(), re.MULTILINE)
    options = command.replace("127.0.0.1:9000", "127.0.0.1:0").split()[2:]
    with Served(*options) as served:
        assert served.address.startswith("127.0.0.1:")
