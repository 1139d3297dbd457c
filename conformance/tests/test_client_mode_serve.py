"""The scenario server: verdicts for a client that connects by itself."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from muxwire_conformance.case import Case, load_cases
from muxwire_conformance.cli import main
from muxwire_conformance.client_mode.driver import Driver
from muxwire_conformance.client_mode.serve import LIST, TWIN, ServeSession, subject_of
from muxwire_conformance.patience import Patience
from muxwire_conformance.session import Options
from muxwire_conformance.target import Address
from muxwire_conformance.verdict import Result, Verdict

MODEL = Path(__file__).parent / "model_client.py"
SERVED = {id: one for id, one in load_cases("client").items() if one.served}
BOUND = 60.0


async def served(cases: list[Case], subjects: list[str], *flaws: str) -> list[Result]:
    """Let the model client request subjects one after another; return the verdicts."""
    results: list[Result] = []
    session = ServeSession(
        address=Address(host="127.0.0.1", port=0),
        once=True,
        cases=cases,
        patience=Patience(1.0),
        options=Options(),
        on_result=results.append,
        library=SERVED,
    )
    run = asyncio.create_task(session.run())
    words = [sys.executable, str(MODEL), *(f"--flaw={name}" for name in flaws), "{host}:{port}"]
    driver = await Driver.start(" ".join(words), session.listener.address)
    try:
        async with asyncio.timeout(BOUND):
            driver.op("connect", backoff_base_ms=5)
            for subject in subjects:
                driver.op("request", ref=subject, subject=subject)
                await driver.until(lambda: bool(driver.of(subject, "end", "error")), 5.0)  # noqa: B023
            if len(results) < len(cases):
                run.cancel()
            await asyncio.gather(run, return_exceptions=True)
    finally:
        await driver.kill()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
    return results


def both(cases: list[Case]) -> list[str]:
    return [name for one in cases for name in (subject_of(one) + TWIN, subject_of(one))]


CHOSEN = [SERVED[id] for id in ("FRM-002/client-marker-f6", "TYP-002/client-end-with-more")]


def test_a_correct_client_passes() -> None:
    results = asyncio.run(served(CHOSEN, [LIST, *both(CHOSEN)]))
    assert {one.id: one.verdict for one in results} == {one.id: Verdict.PASS for one in CHOSEN}


def test_every_scenario_is_served() -> None:
    every = list(SERVED.values())
    results = asyncio.run(served(every, both(every)))
    assert {one.verdict for one in results} == {Verdict.PASS}, [one.reason for one in results]
    assert len(results) == len(every)


def test_a_flaw_is_found() -> None:
    results = asyncio.run(served(CHOSEN[:1], both(CHOSEN[:1]), "frm-accepts-marker"))
    assert [one.verdict for one in results] == [Verdict.FAIL]


def test_without_its_twin_a_case_proves_nothing() -> None:
    results = asyncio.run(served(CHOSEN[:1], [subject_of(CHOSEN[0])]))
    assert [one.verdict for one in results] == [Verdict.INCONCLUSIVE]
    assert "was not requested before it" in results[0].reason


def test_what_nobody_requested_is_inconclusive() -> None:
    results = asyncio.run(served(CHOSEN, ["no.such.case", *both(CHOSEN[:1])]))
    assert {one.id: one.verdict for one in results} == {
        CHOSEN[0].id: Verdict.PASS,
        CHOSEN[1].id: Verdict.INCONCLUSIVE,
    }


def test_what_is_served_breaks_a_rule_of_the_worker() -> None:
    assert len(SERVED) > 70
    assert all(one.negative and one.role == "client" for one in SERVED.values())


def test_the_command_ends_once_and_reports(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        report = tmp_path / "run.json"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "muxwire_conformance", "serve", "FRM-002", "--once"),
                *("--bind", f"127.0.0.1:{port}", "--json", str(report)),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3
    assert "cannot be listened at" in done.stderr
    assert json.loads(report.read_text())


@pytest.mark.parametrize("bind", ["nowhere", "127.0.0.1:99999", "::1:5"])
def test_a_wrong_address_is_refused(bind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--bind", bind]) == 2
    assert bind.rpartition(":")[0] in capsys.readouterr().err
