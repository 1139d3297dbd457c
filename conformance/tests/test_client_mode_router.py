"""What the judge sees of a router: its POSTs, and its frames on call-home connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import model_client_driver
import pytest
from muxwire_conformance import wire
from muxwire_conformance.case import load_cases
from muxwire_conformance.client_mode.context import Bench
from muxwire_conformance.client_mode.home_watcher import HomeWatcher
from muxwire_conformance.client_mode.posts import HttpLink, Post
from muxwire_conformance.client_mode.router import FEATURE, RouterContext
from muxwire_conformance.client_mode.session import ClientSession
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings
from muxwire_conformance.session import Options
from muxwire_conformance.verdict import Result, Verdict
from muxwire_conformance.wire import Frame, Parser, Preface

ONE, TWO = bytes(range(1, 17)), bytes(range(2, 18))
BOUND = 30.0

# -- frames ------------------------------------------------------------------------------------


def judged(*octets: bytes) -> list[str]:
    """Return the rules that frames of a router break, behind a HELLO and the terminal of ONE."""
    watcher = HomeWatcher()
    watcher.wrote(wire.CONTROL, wire.HELLO, 0, ONE)
    watcher.wrote(wire.RESPONSE, 0, wire.END_STREAM, ONE)
    parser = Parser(with_preface=False)
    found = []
    for item in parser.feed(b"".join(octets), 0.0):
        assert isinstance(item, Frame)
        found += [fault.requirement for fault in watcher.frame(item)]
    return found


@pytest.mark.parametrize(
    "octets",
    [
        (wire.accept(ONE), wire.stop(ONE), wire.kill(ONE), wire.done(ONE)),
        (wire.reject(ONE, "NOT_FOUND"),),
        (wire.ping(), wire.reject(ONE, "CANCELLED"), wire.pong(), wire.grease()),
    ],
)
def test_what_a_correct_router_sends(octets: tuple[bytes, ...]) -> None:
    assert judged(*octets) == []


@pytest.mark.parametrize(
    ("octets", "requirement"),
    [
        ((wire.accept(TWO),), "P0-018"),
        ((wire.accept(ONE), wire.accept(ONE)), "P0-018"),
        ((wire.reject(ONE, "OVERLOADED"),), "P0-018"),
        ((wire.done(ONE),), "P0-008"),
        ((wire.accept(ONE), wire.done(ONE), wire.done(ONE)), "P0-008"),
        ((wire.kill(ONE),), "P0-011"),
        ((wire.accept(ONE), wire.stop(TWO)), "P0-011"),
        ((wire.settings(),), "FRM-004"),
        ((wire.hello(ONE, bytes(16)),), "TYP-001"),
        ((wire.accept(ONE, b"x"),), "PAY-001"),
    ],
)
def test_what_a_router_breaks(octets: tuple[bytes, ...], requirement: str) -> None:
    assert judged(*octets) == [requirement]


@pytest.mark.parametrize(
    ("octets", "count"),
    [
        (wire.wch_preface(), 0),
        (wire.wch_preface(ver_hi=3, ver_lo=1, idle_timeout_ms=600_000), 0),
        (wire.wch_preface(ver_hi=2, ver_lo=2), 1),
        (wire.wch_preface(header_size=48), 1),
        (wire.wch_preface(idle_timeout_ms=99), 1),
    ],
)
def test_prefaces_of_a_router(octets: bytes, count: int) -> None:
    (item,) = Parser(magic=wire.WCH_MAGIC).feed(octets, 0.0)
    assert isinstance(item, Preface)
    assert [fault.requirement for fault in HomeWatcher().preface(item)] == ["P0-002"] * count


# -- POSTs -------------------------------------------------------------------------------------

HEAD = {
    "host": "127.0.0.1:1",
    "Wch-Addr": "127.0.0.1:9",
    "wch-stream": "01020304-0506-0708-090a-0b0c0d0e0f10",
    "wch-token": "AQIDBAUGBwgJCgsMDQ4PEA",
    "request-id": "r",
}


def octets_of(
    fields: dict[str, str], body: bytes = b"", first: str = "POST /v1/rpc/a.b HTTP/1.1"
) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def received(*pieces: bytes) -> tuple[list[Post], list[str], bytes]:
    """Return the POSTs that come out of octets, the rules they break, and what was answered."""

    async def play() -> tuple[list[Post], list[str], bytes]:
        context = RouterContext(bench=Bench(""), patience=Patience(1.0), seed=1, name="here")
        listener = context.listener
        loop = asyncio.get_running_loop()
        ours = socket.create_connection((listener.address.host, listener.address.port))
        try:
            assert await listener.until(lambda: bool(context.http), BOUND)
            link: HttpLink = context.http[0]
            heard, inner = asyncio.Event(), link.transport.on_bytes

            def hear(data: bytes, at: float) -> None:
                inner(data, at)
                heard.set()

            link.transport.on_bytes = hear
            sent = 0
            for piece in pieces:
                ours.sendall(piece)
                sent += len(piece)
                while link.transport.received < sent:
                    heard.clear()
                    await asyncio.wait_for(heard.wait(), BOUND)
            for post in link.posts:
                post.answer(202)
            assert await link.transport.flushed(BOUND)
            link.cut()
            ours.setblocking(False)
            said = b""
            while data := await asyncio.wait_for(loop.sock_recv(ours, 65_536), BOUND):
                said += data
            assert context.bug is None
            return link.posts, [one.requirement for one in context.violations], said
        finally:
            ours.close()
            listener.close()

    return asyncio.run(play())


def test_a_post_is_read_however_it_arrives() -> None:
    whole = octets_of({**HEAD, "content-length": "5", "wch-timeout-ms": "70"}, b"hello")
    posts, broken, said = received(*(whole[at : at + 1] for at in range(len(whole))))
    (post,) = posts
    assert broken == []
    assert (post.subject, post.body, post.stream, post.token) == ("a.b", b"hello", ONE, ONE)
    assert (post.timeout_ms, post.header("request-id"), str(post.addr)) == (70, "r", "127.0.0.1:9")
    assert said == b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"


def test_posts_in_one_write_in_chunks_and_with_expect() -> None:
    chunked = octets_of({**HEAD, "transfer-encoding": "chunked", "expect": "100-continue"})
    other = {**HEAD, "wch-stream": "02030405-0607-0809-0a0b-0c0d0e0f1011"}
    posts, broken, said = received(
        chunked + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n" + octets_of(other)
    )
    assert [post.body for post in posts] == [b"abcde", b""]
    assert broken == []
    assert said.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")


BROKEN: dict[str, tuple[Callable[[dict[str, str]], bytes], str]] = {
    "method": (lambda head: octets_of(head, first="GET /v1/rpc/a HTTP/1.1"), "P0-017"),
    "path": (lambda head: octets_of(head, first="POST /elsewhere HTTP/1.1"), "P0-017"),
    "addr": (lambda head: octets_of({**head, "Wch-Addr": "localhost:9"}), "P0-017"),
    "stream": (lambda head: octets_of({**head, "wch-stream": "0" * 36}), "P0-017"),
    "token": (lambda head: octets_of({**head, "wch-token": "AQIDBAUGBwgJCgsMDQ4PEB"}), "P0-018"),
    "timeout": (lambda head: octets_of({**head, "wch-timeout-ms": "-1"}), "P0-017"),
    "attempt": (lambda head: octets_of({**head, "attempt": "1"}), "REC-007"),
    "twice": (lambda head: octets_of({**head, "wch-addr": "127.0.0.1:9"}), "P0-017"),
    "no HTTP": (lambda _head: b"hello\r\n\r\n", "P0-017"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_posts_that_break_a_rule(name: str) -> None:
    octets, requirement = BROKEN[name]
    assert received(octets(HEAD))[1] == [requirement]


def test_an_id_for_the_second_time() -> None:
    assert received(octets_of(HEAD), octets_of(HEAD))[1] == ["RID-001"]


# -- cases -------------------------------------------------------------------------------------


def judged_by(ids: list[str], features: frozenset[str]) -> dict[str, Result]:
    """Judge the model without flaws by some cases."""
    library = load_cases("client")
    results: list[Result] = []
    session = ClientSession(
        command="model-client {host}:{port}",
        cases=[library[id] for id in ids],
        patience=Patience(2.0),
        findings=Findings(features=features, asked=True, works=True),
        options=Options(seed=1, keep=True),
        on_result=results.append,
        library=library,
        launcher=model_client_driver.launcher([], set()),
    )
    asyncio.run(session.run())
    return {result.id: result for result in results}


ID = "P0-018/client-three-guesses"


def test_a_driver_without_the_transport_is_not_judged_by_these_cases() -> None:
    result = judged_by([ID], frozenset({"tcp"}))[ID]
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert FEATURE in result.reason


def test_the_report_shows_posts_and_connections() -> None:
    result = judged_by([ID], frozenset({"tcp", FEATURE}))[ID]
    assert result.verdict is Verdict.PASS
    labels = [one.label for one in result.transcripts]
    assert labels == ["driver", "http connection 1", "connection 1", "connection 2"]
    texts = [[entry.text for entry in one.entries()] for one in result.transcripts]
    assert texts[1][0].startswith("POST /v1/rpc/judge.request ")
    assert "wch-token=" in texts[1][0]
    assert texts[1][1].startswith("HTTP/1.1 202")
    assert sum(text.startswith("REJECT") for text in texts[2]) == 3
    assert any(text.startswith("ACCEPT") for text in texts[3])
