"""Make the helpers next to the tests importable, keep Hypothesis quick, and run async tests."""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile(
    "muxwire",
    derandomize=True,
    deadline=None,
    max_examples=60,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("muxwire")


def pytest_collection_finish() -> None:
    """Take all that is loaded by now out of the collector's sight; async tests collect often."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test in a loop of its own; the fixtures say in which, else in asyncio's."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    import io_harness

    arguments = inspect.signature(pyfuncitem.obj).parameters
    values: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in arguments}
    fixtures = pyfuncitem.funcargs
    loop = fixtures.get("each_loop") or fixtures.get("virtual_time") or "asyncio"
    io_harness.run(pyfuncitem.obj(**values), loop)
    return True


@pytest.fixture(params=["asyncio", "uvloop"])
def each_loop(request: pytest.FixtureRequest) -> str:
    """Run an async test in asyncio's loop and in uvloop's."""
    return str(request.param)


@pytest.fixture
def virtual_time() -> str:
    """Run an async test in a loop whose time moves on by itself, without sockets."""
    return "virtual"


@pytest.fixture(scope="module")
def served() -> Iterator[Any]:
    """A `muxwire serve --conformance` process on a free port; see `io_harness.Served`."""
    import io_harness

    with io_harness.Served("--conformance") as process:
        yield process


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many rows of the state machines the tests of this run have driven."""
    import table_rows

    if lines := table_rows.summary():
        terminalreporter.section("row coverage of the state machines")
        terminalreporter.write_line("\n".join(lines))
