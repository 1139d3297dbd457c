"""The judge as a router: what it says over HTTP, where it listens, when no way leads back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import model_worker
import pytest
from engine_fakes import make_case
from muxwire_conformance import preflight as preflight_module
from muxwire_conformance import wire
from muxwire_conformance.callback import Callback, own_host, parse_place
from muxwire_conformance.callhome.context import CallhomeContext
from muxwire_conformance.callhome.post import Answer, Post
from muxwire_conformance.callhome.watcher import HomeWatcher
from muxwire_conformance.explain import explain
from muxwire_conformance.patience import Patience
from muxwire_conformance.preflight import Findings, PreflightError, preflight
from muxwire_conformance.recorded import RecordError, of_result
from muxwire_conformance.replay import prepare
from muxwire_conformance.session import Options, Session
from muxwire_conformance.target import Address, TargetError, parse_address
from muxwire_conformance.verdict import Result, Unprepared, Verdict

HERE = Address(host="127.0.0.1", port=1)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("10.0.0.7", "10.0.0.7:0"), ("[::1]:7800", "[::1]:7800"), (" 0.0.0.0:1 ", "0.0.0.0:1")],
)
def test_places_to_call_back(text: str, shown: str) -> None:
    assert str(parse_place(text)) == shown


@pytest.mark.parametrize("text", ["", "judge.example:80", "1.2.3", "::1", "1.2.3.4:65000", ":80"])
def test_no_places_to_call_back(text: str) -> None:
    with pytest.raises(TargetError) as error:
        parse_place(text)
    assert "\n" not in str(error.value)


def first_places(callback: Callback, count: int) -> list[tuple[str, str]]:
    places = callback.places(HERE)
    return [(str(bind), str(told)) for bind, told in (next(places) for _ in range(count))]


def test_where_the_judge_listens_and_what_it_says() -> None:
    assert own_host(HERE) == "127.0.0.1"
    assert first_places(Callback(), 1) == [("127.0.0.1:0", "127.0.0.1:0")]
    mapped = Callback(bind=parse_place("0.0.0.0:7800"), advertise=parse_place("192.0.2.7:9000"))
    assert first_places(mapped, 2) == [
        ("0.0.0.0:7800", "192.0.2.7:9000"),
        ("0.0.0.0:7801", "192.0.2.7:9001"),
    ]
    assert first_places(mapped, 1) == [("0.0.0.0:7802", "192.0.2.7:9002")]
    behind = Callback(advertise=parse_place("[2001:db8::1]:9000"))
    assert first_places(behind, 1) == [("[::]:9000", "[2001:db8::1]:9000")]
    alone = Callback(bind=parse_place("127.0.0.1:7800"))
    assert first_places(alone, 1) == [("127.0.0.1:7800", "127.0.0.1:7800")]


def read(*pieces: bytes, ended: bool = False) -> Post:
    """Return a POST to which these octets have come."""

    class Bench:
        def happened(self) -> None:
            pass

    post = Post(Bench(), "POST 1")  # type: ignore[arg-type]
    for piece in pieces:
        post._on_bytes(piece, 1.0)
    if ended:
        post._read(2.0, ended=True)
    return post


REFUSAL = b'{"code": "NOT_FOUND", "num": 258, "not_processed": true}'


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 404 no\r\nWMX-Not-Processed: 1\r\nContent-Length: 56\r\n\r\n" + REFUSAL,
        b"HTTP/1.0 404 no\r\nwmx-not-processed:1\r\n\r\n" + REFUSAL,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 no\r\nwmx-not-processed: 1\r\n"
        b"transfer-encoding: chunked\r\n\r\n10\r\n"
        + REFUSAL[:16]
        + b"\r\n28;x=y\r\n"
        + REFUSAL[16:]
        + b"\r\n0\r\n\r\n",
    ],
)
def test_an_answer_however_it_is_cut(octets: bytes) -> None:
    assert len(REFUSAL) == 56
    for cut in range(len(octets)):
        answer = read(octets[:cut], octets[cut:], ended=True).answer
        assert answer is not None
        assert (answer.status, answer.not_processed) == (404, True)
        assert answer.error["num"] == 258


def test_an_answer_that_is_none() -> None:
    assert read(b"HTTP/1.1 202 Accepted\r\n\r\n").answer == Answer(
        status=202, reason="Accepted", at=1.0
    )
    assert read(b"HTTP/1.1 404 no\r\ncontent-length: 5\r\n\r\n1234", ended=True).answer is None
    assert "no HTTP answer" in read(b"SSH-2.0\r\n\r\n").trouble


ID, OTHER = bytes(range(1, 17)), bytes(range(2, 18))


@pytest.mark.parametrize(
    ("frames", "requirement"),
    [
        ([wire.response(ID, 0, b"x")], "P0-003"),
        ([wire.hello(ID, bytes(16)), wire.response(ID, 0, b"x")], "P0-003"),
        ([wire.hello(ID, bytes(16)), b"accept", wire.response(OTHER, 0, b"x")], "P0-003"),
        ([wire.hello(ID, bytes(16)), b"accept", wire.response(ID, 1, b"x")], "FRM-010"),
        ([wire.hello(ID, bytes(16)), wire.hello(OTHER, bytes(16))], "P0-008"),
        (
            [
                wire.hello(ID, bytes(16)),
                b"accept",
                wire.response(ID, 0, end=True),
                wire.response(ID, 1),
            ],
            "P0-008",
        ),
        ([wire.settings()], "FRM-004"),
        ([wire.accept(ID)], "TYP-001"),
        ([wire.hello(ID, bytes(16), seq=1)], "FRM-007"),
    ],
)
def test_what_the_watcher_sees(frames: list[bytes], requirement: str) -> None:
    watcher, parser = HomeWatcher(), wire.Parser(magic=wire.WCH_MAGIC)
    parser.feed(wire.wch_preface(), 0.0)
    found = []
    for raw in frames:
        if raw == b"accept":
            watcher.answered(wire.ACCEPT, ID)
            continue
        for frame in parser.feed(raw, 0.0):
            assert isinstance(frame, wire.Frame)
            found += watcher.frame(frame)
    assert requirement in {fault.requirement for fault in found}


@pytest.mark.parametrize(
    "octets",
    [
        wire.wch_preface(ver_lo=2, ver_hi=3),
        wire.wch_preface(ver_lo=2, ver_hi=1),
        wire.wch_preface(header_size=48),
        wire.wch_preface(idle_timeout_ms=99),
        wire.wch_preface(flags=1),
    ],
)
def test_a_preface_that_no_worker_sends(octets: bytes) -> None:
    preface = wire.Parser(magic=wire.WCH_MAGIC).feed(octets, 0.0)[0]
    assert isinstance(preface, wire.Preface)
    assert [fault.requirement for fault in HomeWatcher().preface(preface)] == ["P0-002"]


async def with_model(use: Callable[[model_worker.Server], Awaitable[Any]]) -> Any:
    server = await model_worker.start()
    try:
        return await use(server)
    finally:
        await server.close()


def look(scheme: str, callback: Callback | None = None, **changes: Any) -> Findings:
    """Return what preflight finds at the model, given by one of its ports."""

    async def use(server: model_worker.Server) -> Findings:
        for name, value in changes.items():
            setattr(server, name, value)
        port = server.port if scheme == "tcp://" else server.ports["callhome"]
        prefix = "" if scheme == "bare" else scheme
        address = parse_address(f"{prefix}127.0.0.1:{port}")
        return await preflight(address, Patience(), wait=0, seed=1, callback=callback)

    found = asyncio.run(with_model(use))
    assert isinstance(found, Findings)
    return found


def test_the_paths_are_found_from_either_end() -> None:
    for scheme in ("tcp://", "http://", "bare"):
        found = look(scheme)
        assert set(found.paths) == {"tcp", "callhome"}
        assert found.closed == {}
        assert found.info["name"] == "wmx-model-worker"
        assert found.works


def test_a_declared_path_without_a_port_is_closed() -> None:
    info = {"nonce": "n", "transports": ["tcp", "callhome"]}
    found = look("tcp://", info=lambda: info)
    assert "names no port" in found.closed["callhome"]
    assert set(found.paths) == {"tcp"}


def test_a_path_that_is_not_declared_is_neither_open_nor_closed() -> None:
    found = look("tcp://", info=lambda: {"transports": ["tcp"], "ports": {"callhome": 1}})
    assert set(found.paths) == {"tcp"}
    assert found.closed == {}


def test_a_way_back_that_is_closed_is_one_reason() -> None:
    elsewhere = Callback(bind=parse_place("127.0.0.1"), advertise=parse_place("127.0.0.3"))
    found = look("tcp://", elsewhere)
    assert "it is declared and not served" in found.closed["callhome"]
    assert "403" in found.closed["callhome"]


def test_nobody_who_dials_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(server: model_worker.Server) -> None:
        assert server.home is not None
        monkeypatch.setattr(server.home, "deliver", lambda _stream: None)
        patience = Patience(0.1)
        monkeypatch.setattr(patience, "within", lambda _seconds: 0.1)
        address = parse_address(f"http://127.0.0.1:{server.home.port}")
        with pytest.raises(PreflightError, match="nobody dialled; see --callback-advertise"):
            await preflight(address, patience, wait=0, seed=1)

    asyncio.run(with_model(use))


def test_a_path_that_answers_wrongly_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    async def wrong(_context: Any) -> dict[str, Any]:
        raise Unprepared("one message", "two")

    judge = preflight_module.PATH_JUDGES["callhome"]
    monkeypatch.setattr(CallhomeContext, "reached", True)
    table = {
        **preflight_module.PATH_JUDGES,
        "callhome": type(judge)(context=judge.context, ask=wrong),
    }
    monkeypatch.setattr(preflight_module, "PATH_JUDGES", table)
    found = look("tcp://")
    assert set(found.paths) == {"tcp", "callhome"}


def run(case_function: Callable[[CallhomeContext], Awaitable[None]], *, over_http: bool) -> Result:
    """Run one case of the call-home path against the model."""
    one = make_case(case_function, "P0-001/made-up", features=("conformance",))

    async def use(server: model_worker.Server) -> list[Result]:
        assert server.home is not None
        port = server.home.port if over_http else server.port
        address = parse_address(f"{'http' if over_http else 'tcp'}://127.0.0.1:{port}")
        patience = Patience(1.0)
        session = Session(
            address=address,
            cases=[one],
            patience=patience,
            findings=await preflight(address, patience, wait=0, seed=1),
            options=Options(seed=1, keep=True),
            on_result=lambda _result: None,
            library={one.id: one},
        )
        await session.run()
        return session.results

    results = asyncio.run(with_model(use))
    assert len(results) == 1
    result = results[0]
    assert isinstance(result, Result)
    return result


@pytest.mark.parametrize("over_http", [True, False])
def test_a_failure_shows_the_post_and_the_connection(*, over_http: bool) -> None:
    async def fails(ctx: CallhomeContext) -> None:
        delivery = await ctx.post("conformance.echo", b"hello")
        await delivery.result()
        ctx.check("one", False, expected="more", actual="less")

    result = run(fails, over_http=over_http)
    assert result.verdict is Verdict.FAIL
    text = "\n".join(explain(result, target="127.0.0.1:1", seed=1, verbose=True))
    for words in ("POST /v1/rpc/conformance.echo", "wch-token: ", "202", "HELLO", "ACCEPT", "DONE"):
        assert words in text
    assert "replay" not in text
    with pytest.raises(RecordError, match="only conversations over TCP"):
        prepare(of_result(result))


def test_nothing_is_dialled_where_the_case_listens_twice() -> None:
    async def listens(ctx: CallhomeContext) -> None:
        addrs = {(await ctx.router()).addr for _ in range(50)}
        ctx.check("one", len(addrs) == 50, expected="50 addresses", actual=len(addrs))

    assert run(listens, over_http=True).verdict is Verdict.PASS
