"""Judging over TLS: the handshake, both ends of it, its failures in words, and the command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import model_worker
import pytest
from engine_fakes import FakePeer
from model_tls import certificates
from muxwire_conformance import wire
from muxwire_conformance.case import load_cases
from muxwire_conformance.cli import main
from muxwire_conformance.context import Context
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import PreflightError, preflight
from muxwire_conformance.session import Options, Session
from muxwire_conformance.target import Address, TargetError, parse_address, with_tls
from muxwire_conformance.transport import EndKind
from muxwire_conformance.verdict import ExitCode, Result, Verdict


@contextlib.asynccontextmanager
async def worker(*flaws: str) -> AsyncIterator[Address]:
    server = await model_worker.start(flaws=flaws, tls=True)
    try:
        yield parse_address(certificates().target(server.port))
    finally:
        await server.close()


def judge(*prefixes: str, flaws: tuple[str, ...] = ()) -> dict[str, Result]:
    async def run() -> dict[str, Result]:
        library = load_cases("worker")
        async with worker(*flaws) as address:
            patience = Patience()
            session = Session(
                address=address,
                cases=[one for id, one in library.items() if id.startswith(prefixes)],
                patience=patience,
                findings=await preflight(address, patience, wait=0, seed=1),
                options=Options(seed=1),
                on_result=lambda _result: None,
                library=library,
            )
            await session.run()
            return {result.id: result for result in session.results}

    return asyncio.run(run())


def test_cases_pass_over_tls() -> None:
    results = judge("SEC", "FRM-002", "CLS-001", "HSK-003", "MSG-001", "STM-005")
    assert len(results) > 40
    bad = {id: one.reason for id, one in results.items() if one.verdict is not Verdict.PASS}
    assert not bad


@pytest.mark.parametrize(
    ("flaw", "case"),
    [
        ("sec-plaintext-too", "SEC-001/plaintext"),
        ("sec-any-alpn", "SEC-001/alpn-h2"),
        ("sec-any-alpn", "SEC-001/no-alpn"),
        ("sec-accepts-tls-1-2", "SEC-001/tls-1-2"),
        ("sec-certificate-is-optional", "SEC-002/no-certificate"),
        ("sec-asks-for-no-certificate", "SEC-002/unknown-certificate"),
    ],
)
def test_a_flaw_of_the_handshake_is_caught(flaw: str, case: str) -> None:
    result = judge(case, flaws=(flaw,))[case]
    assert result.verdict is Verdict.FAIL, result.reason
    assert "f7 57 4d 58" in result.actual  # the preface that must not come


def test_over_plain_tcp_the_cases_say_why_they_do_not_apply() -> None:
    async def run() -> list[Result]:
        server = await model_worker.start()
        address = Address(host="127.0.0.1", port=server.port)
        library = load_cases("worker")
        session = Session(
            address=address,
            cases=[one for id, one in library.items() if id.startswith("SEC")],
            patience=Patience(),
            findings=await preflight(address, Patience(), wait=0, seed=1),
            options=Options(),
            on_result=lambda _result: None,
            library=library,
        )
        await session.run()
        await server.close()
        return session.results

    results = asyncio.run(run())
    assert {one.verdict for one in results} == {Verdict.NOT_APPLICABLE}
    assert {one.reason for one in results} == {"judged over plain TCP; use tls://HOST:PORT"}


def test_both_ends_of_a_connection() -> None:
    async def run() -> tuple[EndKind, EndKind]:
        async with worker() as address:
            context = Context(address=address, patience=Patience(), seed=1, name="x")
            polite = await context.ready()
            await polite.close(grace=5)
            faulty = await context.ready()
            faulty.send(wire.ping(marker=0xF6))
            await faulty.wait_for(lambda: faulty.goaway is not None)
            await faulty.expect_end()
            assert polite.transport.end is not None
            assert faulty.transport.end is not None
            context.abandon()
            return polite.transport.end.kind, faulty.transport.end.kind

    polite, _faulty = asyncio.run(run())
    assert polite is EndKind.FIN


def test_a_dribble_and_a_large_message_cross_records() -> None:
    async def run() -> list[bytes]:
        async with worker() as address:
            context = Context(address=address, patience=Patience(), seed=1, name="x")
            conn = await context.ready()
            conn.transport.dribble()
            await conn.fence()
            conn.transport.dribble(False)
            stream = conn.open("conformance.echo", end=False)
            await stream.send_message(bytes(200_000), end=True)
            messages = await stream.result()
            await context.close()
            return messages

    assert asyncio.run(run()) == [bytes(200_000)]


# -- what goes wrong before a case ---------------------------------------------------------------


def refusal(target: str) -> str:
    async def run() -> str:
        try:
            await preflight(parse_address(target), Patience(), wait=0, seed=1)
        except PreflightError as error:
            return str(error)
        return ""

    return asyncio.run(run())


def test_what_does_not_speak_tls_is_named() -> None:
    def http(sock: object) -> None:
        sock.recv(100)  # type: ignore[attr-defined]
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")  # type: ignore[attr-defined]

    with FakePeer(http) as peer:
        text = refusal(f"tls://{peer.address}")
    assert text == f"tls://{peer.address}: the TLS handshake failed: it does not speak TLS"


def with_model(*, query: str, flaws: tuple[str, ...] = ()) -> str:
    async def run() -> str:
        async with worker(*flaws) as address:
            return await asyncio.to_thread(refusal, f"tls://{address}{query}")

    return asyncio.run(run())


def test_a_certificate_that_leads_nowhere_is_named() -> None:
    assert "certificate" in with_model(query="")


def test_a_name_that_is_not_in_the_certificate_is_named() -> None:
    files = certificates()
    text = with_model(query=f"?ca={files.ca}&cert={files.client}&name=other.invalid")
    assert "other.invalid" in text


def test_a_missing_client_certificate_is_named() -> None:
    text = with_model(query=f"?ca={certificates().ca}")
    assert "--tls-cert" in text or "the connection ended" in text


def test_tls_where_plain_tcp_was_expected_is_named() -> None:
    async def run() -> str:
        async with worker() as address:
            return await asyncio.to_thread(refusal, str(address))

    text = asyncio.run(run())
    assert "looks like TLS; use tls://127.0.0.1:" in text


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("tls://h:1?ca=/no/such.pem", "/no/such.pem is no file"),
        (f"tls://h:1?ca={__file__}", "cannot be used"),
        ("tls://h:1?color=red", "'color' is none of ca, cert, key, name"),
        ("tcp://h:1?ca=x", "only tls:// takes parameters"),
        ("udp://h:1", "use tcp://HOST:PORT, tls://HOST:PORT or http://HOST:PORT"),
    ],
)
def test_a_malformed_target_is_refused_in_one_line(target: str, text: str) -> None:
    with pytest.raises(TargetError, match=text.replace("?", r"\?")) as caught:
        parse_address(target)
    assert "\n" not in str(caught.value)


def test_options_fill_in_what_a_target_lacks() -> None:
    assert with_tls("h:1", ca="x") == "h:1"
    assert with_tls("tls://h:1", ca="/a b/ca.pem", cert="") == "tls://h:1?ca=/a+b/ca.pem"
    assert with_tls("tls://h:1?ca=own", ca="x", name="n") == "tls://h:1?ca=own&name=n"
    assert with_tls("tls://[::1]:1") == "tls://[::1]:1"


def test_the_command_judges_over_tls_and_says_how_to_run_a_failure_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, path = certificates(), tmp_path / "run.json"

    async def run() -> int:
        async with worker("sec-any-alpn") as address:
            words = ["check", "SEC", "--target", f"tls://{address}", "--confirm", "0"]
            words += ["--tls-ca", files.ca, "--tls-cert", files.client, "--json", str(path)]
            return await asyncio.to_thread(main, words)

    assert asyncio.run(run()) == ExitCode.NOT_CONFORMANT
    out = capsys.readouterr().out
    assert out.startswith("judging tls://127.0.0.1:")
    failed = [one for one in json.loads(path.read_text())["results"] if one["verdict"] == "FAIL"]
    assert {one["id"] for one in failed} == {"SEC-001/alpn-h2", "SEC-001/no-alpn"}
    assert f"ca={files.ca}&cert={files.client}" in failed[0]["rerun"]


def test_the_bundled_worker_passes_over_tls(capsys: pytest.CaptureFixture[str]) -> None:
    files = certificates()
    command = [sys.executable, "-m", "muxwire", "serve", "--conformance", "--json"]
    command += ["--tcp", "127.0.0.1:0", "--exit-with-stdin", "--tls-cert", files.worker]
    command += ["--tls-client-ca", files.ca]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["tcp"]
        port = int(address.rpartition(":")[2])
        code = main(["check", "SEC", "HSK-003", "CLS-001", "--target", files.target(port)])
        assert process.stdin is not None
        process.stdin.close()
    out = capsys.readouterr().out
    assert code == ExitCode.CONFORMANT, out
    assert "not applicable 0" in out.splitlines()[-1]
