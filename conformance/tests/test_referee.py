"""Both sides of a conversation are held to the rules, the judge's own side included."""

from __future__ import annotations

from typing import Any

import pytest
from engine_fakes import make_case
from muxwire_conformance import client_invariants, wire
from muxwire_conformance.case import SAME
from muxwire_conformance.context import Context
from muxwire_conformance.referee import CLIENT, WORKER, Referee
from muxwire_conformance.verdict import Verdict
from test_session import passes, run

ID, OTHER = bytes(range(16)), bytes(range(1, 17))
OPEN = wire.open_request(ID, "echo", b"x", end=False)
SETUP = [
    (CLIENT, wire.preface() + wire.settings()),
    (WORKER, wire.preface() + wire.settings() + wire.settings_ack()),
    (CLIENT, wire.settings_ack()),
]


def broken(*said: tuple[str, bytes], setup: Any = SETUP, tester: bool = False) -> list[str]:
    """Return who broke which rule, in order."""
    referee = Referee(tester=tester)
    return [
        f"{seen.sender} {fault.requirement}"
        for sender, octets in (*setup, *said)
        for seen in referee.feed(sender, octets, 0.0)
        for fault in seen.faults
    ]


def test_an_ordinary_conversation_is_clean() -> None:
    assert not broken(
        (CLIENT, OPEN),
        (CLIENT, wire.request(ID, 1, b"more", end=True) + wire.ping()),
        (WORKER, wire.pong() + wire.response(ID, 0, b"x")),
        (CLIENT, wire.window_update(10**8) + wire.window_update(10**6, request_id=ID)),
        (CLIENT, wire.stop(ID) + wire.kill(ID)),
        (WORKER, wire.response(ID, 1, end=True)),
        (CLIENT, wire.grease(flags=0xFF) + wire.goaway()),
    )


BREACHES: dict[str, tuple[tuple[str, bytes], ...]] = {
    "RID-001": ((CLIENT, OPEN), (CLIENT, OPEN)),
    "FRM-010": ((CLIENT, OPEN + wire.request(ID, 2, b"x")),),
    "STM-002": ((CLIENT, wire.request(OTHER, 1, b"x")),),
    "HSK-006": ((CLIENT, wire.settings()),),
    "HSK-007": ((CLIENT, wire.settings_ack()),),
    "FRM-007": ((CLIENT, wire.ping(flags=0x40)),),
    "FRM-006": ((CLIENT, wire.ping(flags=1)),),
    "FRM-003": ((CLIENT, wire.open_request(ID, "echo", bytes(16_385))),),
    "TYP-001": ((CLIENT, wire.response(ID)),),
    "PAY-004": ((CLIENT, wire.open_request(ID, "a..b")),),
    "PAY-001": ((CLIENT, wire.ping(b"1")),),
    "FRM-002": ((CLIENT, wire.ping(marker=0xF6)),),
    "CLS-009": ((CLIENT, wire.goaway() + OPEN),),
    "CLS-007": ((CLIENT, wire.goaway(last_ordinal=1) + wire.goaway(last_ordinal=2)),),
    "ADM-001": tuple((CLIENT, wire.open_request(bytes([n] * 16), "e")) for n in range(1, 103)),
    "FLW-001": tuple(
        (CLIENT, OPEN if n == 0 else wire.request(ID, n, bytes(16_000))) for n in range(6)
    ),
}


@pytest.mark.parametrize("requirement", BREACHES)
def test_a_breach_of_the_client_is_seen(requirement: str) -> None:
    assert f"{CLIENT} {requirement}" in broken(*BREACHES[requirement])
    assert {line.split()[1] for line in broken(*BREACHES[requirement])} == {requirement}


@pytest.mark.parametrize(
    "said",
    [
        wire.request(ID, 3, b"x"),
        wire.request(ID, 1, b"x"),
        wire.stop(ID) + wire.stop(ID),
        wire.kill(OTHER),
    ],
)
def test_a_tester_may_say_what_has_to_be_ignored(said: bytes) -> None:
    opening = OPEN[:2] + bytes([wire.META | wire.END_STREAM]) + OPEN[3:]
    names = {line.split()[1] for line in broken((CLIENT, opening), (CLIENT, said))}
    assert names == {"STM-002"}
    assert not broken((CLIENT, opening), (CLIENT, said), tester=True)


def test_an_acknowledgement_before_the_settings_of_the_worker() -> None:
    early = (CLIENT, wire.preface() + wire.settings() + wire.settings_ack())
    assert broken(early, setup=()) == ["client HSK-007"]


def test_credit_counts_as_soon_as_it_is_seen() -> None:
    data = [(CLIENT, wire.request(ID, n, bytes(16_000))) for n in range(1, 6)]
    assert "client FLW-001" in broken((CLIENT, OPEN), *data)
    credit = (WORKER, wire.window_update(200_000, request_id=ID))
    assert not broken((CLIENT, OPEN), credit, *data)


def test_the_worker_is_judged_by_what_the_client_said() -> None:
    assert broken((WORKER, wire.response(ID))) == ["worker RID-004"]
    assert broken((CLIENT, OPEN), (WORKER, wire.response(ID, 1))) == ["worker FRM-010"]


def test_a_direction_without_frames_is_judged_once() -> None:
    assert broken((WORKER, b"rubbish"), (WORKER, b"more")) == ["worker FRM-002"]


def test_old_requests_are_forgotten_without_false_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_invariants, "MOST_REQUESTS", 4)
    monkeypatch.setattr("muxwire_conformance.invariants.MOST_REQUESTS", 4)
    said: list[tuple[str, bytes]] = []
    for n in range(1, 10):
        id = bytes([n] * 16)
        said.append((CLIENT, wire.open_request(id, "e")))
        said.append((WORKER, wire.response(id, 0, b"x", end=True)))
    late = [(CLIENT, wire.kill(bytes([1] * 16))), (WORKER, wire.response(bytes([1] * 16), 1))]
    assert not broken(*said, *late)


# -- the judge's own side ------------------------------------------------------------------------


async def careless(ctx: Context) -> None:
    conn = await ctx.ready()
    conn.send(wire.ping(marker=0xF6))
    ctx.emit("one")


async def open_about_it(ctx: Context) -> None:
    conn = await ctx.ready()
    conn.violate(wire.ping(marker=0xF6), instead_of=wire.ping())
    await conn.expect_connection_error("PROTOCOL_ERROR")


async def picks(ctx: Context) -> None:
    conn = await ctx.ready()
    conn.send(wire.ping(marker=ctx.pick(0xF6, wire.MARKER)))
    await conn.expect_connection_error("PROTOCOL_ERROR")


async def careless_twin(ctx: Context) -> None:
    conn = await ctx.ready()
    conn.violate(wire.ping(marker=0xF6), instead_of=wire.ping(seq=1))
    await conn.expect_connection_error("PROTOCOL_ERROR")


def test_a_violation_of_the_judge_that_nobody_declared_is_an_error_of_the_suite() -> None:
    checks = ("goaway", "end")
    cases = [
        make_case(careless, "FRM-002/careless"),
        make_case(open_about_it, "FRM-002/open", checks=checks, twin=SAME),
        make_case(picks, "FRM-002/picks", checks=checks, twin=SAME),
        make_case(careless_twin, "FRM-002/twin", checks=checks, twin=SAME),
        make_case(passes, "FRM-002/passes"),
    ]
    results, _summary = run(*cases)
    verdicts = {id.partition("/")[2]: one.verdict for id, one in results.items()}
    assert verdicts == {
        "careless": Verdict.ERROR,
        "open": Verdict.PASS,
        "picks": Verdict.PASS,
        "twin": Verdict.ERROR,
        "passes": Verdict.PASS,
    }
    assert "the judge itself broke FRM-002" in results["FRM-002/careless"].reason
