"""The driver of client mode: what lies is found out, and everything ends in time."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from engine_fakes import make_case
from muxwire_conformance.case import Case
from muxwire_conformance.cli import main
from muxwire_conformance.client_mode import driver as module
from muxwire_conformance.client_mode.context import Bench, ClientContext
from muxwire_conformance.client_mode.driver import (
    Driver,
    DriverFault,
    connect_members,
    split_command,
)
from muxwire_conformance.client_mode.grammar import GrammarError, Order, read_event
from muxwire_conformance.client_mode.session import ClientSession, preflight
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings, PreflightError
from muxwire_conformance.session import Options
from muxwire_conformance.target import Address
from muxwire_conformance.verdict import NotApplicable, Result, Verdict

PROGRAM = Path(__file__).parent / "lying_driver.py"
HERE = Address(host="127.0.0.1", port=1)
BOUND = 10.0


def command(mode: str) -> str:
    return f"{sys.executable} {PROGRAM} {mode}"


# -- the grammar -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("no JSON", "no JSON"),
        ("[]", "no event"),
        ('{"op": "close"}', "no event"),
        ('{"event": "done"}', "an unknown event"),
        ('{"event": "message", "ref": "r"}', "without 'body_b64'"),
        ('{"event": "message", "ref": "r", "body_b64": "a-_="}', "no B64"),
        ('{"event": "goaway", "conn": 1, "code": -1, "last_ordinal": 0, "grace_ms": 0}', "u32"),
        ('{"event": "goaway", "conn": true, "code": 0, "last_ordinal": 0, "grace_ms": 0}', "conn"),
        ('{"event": "headers", "ref": "r", "headers": [["k"]]}', "headers"),
        ('{"event": "connected", "conn": 0, "addr": 1, "version": 1}', "addr"),
        (
            '{"event": "retry", "ref": "r", "class": "LOST", "code": null, "attempt": 2,'
            ' "delay_ms": 0}',
            "no CLASS",
        ),
    ],
)
def test_a_line_outside_the_grammar(line: str, text: str) -> None:
    with pytest.raises(GrammarError, match=text):
        read_event(line.encode())


def test_unknown_members_are_ignored() -> None:
    assert read_event(b'{"event": "closed", "more": 1}')["event"] == "closed"


READY = {"event": "ready"}
END = {"event": "end", "ref": "r"}


@pytest.mark.parametrize(
    ("events", "text"),
    [
        ([{"event": "closed"}], "first"),
        ([READY, READY], "second time"),
        ([READY, {"event": "closed"}, {"event": "synced"}], "after closed"),
        ([READY, END, END], "after its final event"),
        ([READY, {"event": "message", "ref": "other"}], "never requested"),
        ([READY, {"event": "connected", "conn": 1}, {"event": "connected", "conn": 1}], "conn 1"),
    ],
)
def test_an_order_that_is_none(events: list[dict[str, Any]], text: str) -> None:
    order = Order(requested={"r"})
    for event in events[:-1]:
        order.take(event)
    with pytest.raises(GrammarError, match=text):
        order.take(events[-1])


def test_a_connection_may_come_back() -> None:
    order = Order()
    for name in ("ready", "connected", "disconnected", "disconnected", "connected"):
        order.take({"event": name, "conn": 0})


# -- the command line --------------------------------------------------------------------------


def test_the_address_is_put_in() -> None:
    words = split_command("'my driver' --to {host}:{port} {port}", HERE)
    assert words == ["my driver", "--to", "127.0.0.1:1", "1"]
    assert split_command("d {host}", Address(host="::1", port=1)) == ["d", "[::1]"]


def test_connect_leaves_out_what_is_not_declared() -> None:
    assert connect_members(frozenset()) == {}
    every = frozenset({"settings", "connections", "timing"})
    assert connect_members(every, connections=2, timing={"wait_ms": 1}) == {
        "connections": 2,
        "wait_ms": 1,
    }
    for given in ({"settings": {"IDLE_TIMEOUT_MS": 1}}, {"connections": 2}, {"timing": {"x": 1}}):
        with pytest.raises(NotApplicable, match="does not declare"):
            connect_members(frozenset(), **given)  # type: ignore[arg-type]


# -- a driver that lies ------------------------------------------------------------------------


async def run_case(
    mode: str,
    function: Callable[[ClientContext], Awaitable[None]],
    *,
    features: frozenset[str] = frozenset({"pause", "timing"}),
    needs: str = "",
) -> Result:
    """Judge one made-up case with a driver; the run has an end."""
    one: Case = make_case(
        function, "REC-001/client-made-up", role="client", features=(needs,) if needs else ()
    )
    results: list[Result] = []
    session = ClientSession(
        command=command(mode),
        cases=[one],
        patience=Patience(1.0),
        findings=Findings(features=features, asked=True),
        options=Options(jobs=1),
        on_result=results.append,
        library={one.id: one},
    )
    async with asyncio.timeout(BOUND):
        await session.run()
    return results[0]


async def one_request(ctx: ClientContext) -> None:
    await ctx.start()
    await ctx.request(b"x").succeeds([], check="one")


def outcome(
    mode: str, function: Callable[[ClientContext], Awaitable[None]] = one_request
) -> Result:
    return asyncio.run(run_case(mode, function))


def test_events_alone_can_pass() -> None:
    assert outcome("honest").verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        ("says-hello", "a line that is no JSON: 'hello'"),
        ("garbage", "a line that is no JSON"),
        ("exit-3", "an exit with status 3 before closed; standard error: something broke"),
        ("two-ends", "after its final event"),
        ("unknown-ref", "never requested"),
        ("exits-without-closed", "an exit with status 0 before closed"),
        ("exit-5", "an exit with status 5"),
        ("request-invalid", "invalid: no such thing"),
        ("pause-unsupported", "unsupported"),
    ],
)
def test_what_the_driver_does_wrong_is_inconclusive(mode: str, text: str) -> None:
    result = outcome(mode)
    assert result.verdict is Verdict.INCONCLUSIVE, result.reason
    assert text in result.actual


def test_what_the_client_does_wrong_is_a_failure() -> None:
    for mode in ("silent", "miscounts"):
        result = outcome(mode)
        assert result.verdict is Verdict.FAIL, mode
        assert result.transcripts[0].label == "driver"


def test_a_driver_that_does_not_say_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READY_TIME", 0.3)
    result = outcome("hangs-at-start")
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "no ready event" in result.actual


def test_a_driver_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EXIT_TIME", 0.3)
    result = outcome("never-closes")
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "no exit within" in result.actual


def test_a_feature_that_was_not_declared_is_not_applicable() -> None:
    async def held_open(ctx: ClientContext) -> None:
        await ctx.start()
        ctx.request(b"x", hold_open=True)
        ctx.emit("one")

    assert outcome("honest", held_open).verdict is Verdict.NOT_APPLICABLE


def test_a_case_that_needs_a_feature_is_not_started_without_it() -> None:
    given = frozenset({"timing"})
    result = asyncio.run(run_case("says-hello", one_request, features=given, needs="pause"))
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert result.reason == "the target does not declare: pause"


def test_an_operation_that_is_unsupported_though_declared_is_inconclusive() -> None:
    undeclared = asyncio.run(
        run_case("bidi-unsupported", one_request, features=frozenset({"pause", "timing"}))
    )
    assert undeclared.verdict is Verdict.NOT_APPLICABLE
    assert outcome("pause-unsupported").verdict is Verdict.INCONCLUSIVE


def test_the_children_of_a_driver_end_with_it() -> None:
    async def run() -> int:
        driver = await Driver.start(command("has-a-child"), HERE)
        await driver.until(lambda: bool(driver._errors), 5.0)
        child = int(driver._errors[0])
        await driver.kill()
        return child

    child = asyncio.run(run())
    deadline = time.monotonic() + 5.0
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (OSError, IndexError):
            return
        if state == "Z":
            return
        os.sched_yield()
    raise AssertionError(f"the child {child} still runs")


def test_a_program_that_does_not_exist() -> None:
    with pytest.raises(DriverFault, match="No such file"):
        asyncio.run(Driver.start("/no/such/program", HERE))


# -- preflight and the command -----------------------------------------------------------------


def test_preflight_needs_a_client_that_connects() -> None:
    with pytest.raises(PreflightError, match="a connection of the client"):
        asyncio.run(preflight(command("honest"), Patience(0.3), seed=1))


@pytest.mark.parametrize(
    ("given", "code", "text"),
    [
        ("", 2, "the command is empty"),
        ("'open quote", 2, "No closing quotation"),
        ("/no/such/program", 3, "No such file"),
        (command("exit-5"), 3, "a connection of the client"),
    ],
)
def test_the_command_says_what_is_wrong(
    given: str, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["check-client", "--client-cmd", given, "--timeout", "0.3", "HSK-001"]
    assert main(arguments) == code
    assert text in capsys.readouterr().err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check-client", "--help"])
    assert "examples:" in capsys.readouterr().out


def test_the_json_report_names_the_role(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    main(
        ["check-client", "--client-cmd", "/no/such/program", "--json", str(path), "--timeout", "1"]
    )
    assert '"role": "client"' in path.read_text()
    assert json.loads(path.read_text())


def test_a_twin_and_its_case_share_one_process() -> None:
    async def run() -> tuple[int, int]:
        bench = Bench(command("honest"))
        pids = []
        for twin_run in (True, False):
            context = ClientContext(bench=bench, patience=Patience(1.0), seed=1, twin_run=twin_run)
            await context.start()
            assert bench.driver is not None
            pids.append(bench.driver.process.pid)
            await context.close()
        assert bench.driver is None
        return pids[0], pids[1]

    first, second = asyncio.run(run())
    assert first == second
