"""Targets as people type them, and the start of the bundled worker."""

from __future__ import annotations

import asyncio
import sys

import pytest
from muxwire_conformance.target import Bundled, StartError, TargetError, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("127.0.0.1:7700", "127.0.0.1", 7700, "127.0.0.1:7700"),
        ("localhost:1", "localhost", 1, "localhost:1"),
        ("tcp://worker-1.example:65535", "worker-1.example", 65535, "worker-1.example:65535"),
        ("TCP://h:5/", "h", 5, "h:5"),
        ("[::1]:9000", "::1", 9000, "[::1]:9000"),
        ("tcp://[fe80::1%eth0]:9", "fe80::1%eth0", 9, "[fe80::1%eth0]:9"),
        (" h:5 ", "h", 5, "h:5"),
        ("http://[::1]:8082/", "::1", 8082, "[::1]:8082"),
    ],
)
def test_good_targets(text: str, host: str, port: int, shown: str) -> None:
    address = parse_address(text)
    assert (address.host, address.port, str(address)) == (host, port, shown)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        ":80",
        "host:",
        "host:0",
        "host:65536",
        "host:-1",
        "host:8o",
        "host:٣",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[]:80",
        "[host]:80",
        "https://host:80",
        "tcp://",
        "ho st:80",
        "host:80:90",
        "a/b:80",
        "host:99999999999999999999",
    ],
)
def test_bad_targets_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(TargetError) as error:
        parse_address(text)
    assert "\n" not in str(error.value)


def start(code: str) -> Bundled:
    """Start a Python program as if it were the bundled worker, and stop it."""

    async def main() -> Bundled:
        worker = await Bundled.start([sys.executable, "-c", code])
        await worker.stop()
        return worker

    return asyncio.run(main())


def test_the_bundled_worker_says_where_it_listens() -> None:
    code = 'import time; print(\'{"tcp": "127.0.0.1:4711"}\', flush=True); time.sleep(60)'
    worker = start(code)
    assert str(worker.address) == "127.0.0.1:4711"
    assert worker.process.returncode is not None
    assert "ended with status" in worker.obituary()


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import sys; sys.exit('no such option')", "status 1: no such option"),
        ("print('listening somewhere')", "did not say where it listens"),
        ("print('{}')", "did not say where it listens"),
        ('print(\'{"tcp": "nowhere"}\')', "did not say where it listens"),
    ],
)
def test_a_worker_that_does_not_start_is_one_line(code: str, text: str) -> None:
    with pytest.raises(StartError, match=text) as error:
        start(code)
    assert "\n" not in str(error.value)


def test_a_worker_that_ignores_sigterm_is_killed() -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        'print(\'{"tcp": "127.0.0.1:1"}\', flush=True); time.sleep(60)'
    )
    assert start(code).process.returncode == -9


def test_a_missing_program_is_one_line() -> None:
    async def main() -> None:
        with pytest.raises(StartError, match="cannot be started"):
            await Bundled.start(["/no/such/program"])

    asyncio.run(main())
